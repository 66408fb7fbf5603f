//! Lets many callers post at once: postings that arrive while a group is under way form the next one.
//!
//! A [`Poster`] has a few lanes, each with a connection of its own. An account always goes to the same lane, so the
//! postings of one account keep their order and no two lanes wait for each other's locks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::posting::Posting;
use super::reply::{Refusal, Reply};
use super::rules::Rules;
use super::session::{Error, Session};
use crate::database::Database;
use crate::errors;
use crate::retry::Backoff;

/// Postings in one group at most, unless one request alone is larger. Measured with consumes over 20,000 accounts on one
/// connection: groups of 1, 30, 100, 300, 1,000, 2,000 and 5,000 post 1.2k, 13k, 19k, 23k, 26k, 28k and 31k/s. The rate
/// goes on rising, but slowly: five times the size is worth a fifth more, and holds its locks four times as long.
pub const GROUP_POSTINGS: usize = 1_000;

/// Requests that wait for a lane before callers have to wait for a place.
const WAITING_REQUESTS: usize = 256;

/// Posts for many callers at once. Cheap to clone; the lanes end when the last clone is gone.
#[derive(Clone)]
pub struct Poster {
    lanes: Arc<[mpsc::Sender<Request>]>,
    /// Dropped with the last clone, and the lanes' tasks with it.
    tasks: Arc<Mutex<JoinSet<()>>>,
}

struct Request {
    postings: Vec<Posting>,
    answer: oneshot::Sender<Result<Vec<Reply>, Arc<Error>>>,
    /// Of the feed that it came from: set once a part of it failed. Nothing later of the feed may then be posted.
    failed: Arc<AtomicBool>,
}

type Answer = oneshot::Receiver<Result<Vec<Reply>, Arc<Error>>>;

impl Poster {
    /// Starts `lanes` lanes (at least one); each opens its connection when it is first needed.
    pub fn start(database: &Database, rules: &Arc<Rules>, lanes: usize) -> Poster {
        let mut tasks = JoinSet::new();
        let lanes = (0..lanes.max(1)).map(|_| {
            let (sender, receiver) = mpsc::channel(WAITING_REQUESTS);
            tasks.spawn(Lane { database: database.clone(), rules: Arc::clone(rules), session: None }.run(receiver));
            sender
        });
        Poster { lanes: lanes.collect(), tasks: Arc::new(Mutex::new(tasks)) }
    }

    /// Posts one posting, in a group with whatever else is waiting. A dropped future does not call it back.
    ///
    /// # Errors
    /// See [`Error`]; it belongs to the whole group, so it is shared.
    pub async fn post(&self, posting: Posting) -> Result<Reply, Arc<Error>> {
        let lane = self.lane_of(posting.user);
        let replies = self.send(lane, vec![posting], Arc::default()).await?.await.map_err(|_| lane_gone())??;
        replies.into_iter().next().ok_or_else(lane_gone)
    }

    /// Opens a feed, for many postings in an order that matters.
    pub fn feed(&self) -> Feed {
        Feed { poster: self.clone(), failed: Arc::default() }
    }

    /// Ends the lanes and waits until they have; what they have not committed is rolled back. Clones, should there be
    /// any, find them gone.
    pub async fn close(self) {
        self.tasks.lock().await.shutdown().await;
    }

    fn lane_of(&self, user: Uuid) -> usize {
        // Any spread will do; the low bytes of most user ids are random.
        usize::try_from(user.as_u128() % self.lanes.len() as u128).unwrap_or(0)
    }

    async fn send(&self, lane: usize, postings: Vec<Posting>, failed: Arc<AtomicBool>) -> Result<Answer, Arc<Error>> {
        let (answer, reply) = oneshot::channel();
        let lane = self.lanes.get(lane).ok_or_else(lane_gone)?;
        lane.send(Request { postings, answer, failed }).await.map_err(|_| lane_gone())?;
        Ok(reply)
    }
}

/// An input with postings in order. If a part of it fails, no later part is posted: a consume must not go into arrears
/// because the recharge before it was lost.
pub struct Feed {
    poster: Poster,
    failed: Arc<AtomicBool>,
}

impl Feed {
    /// Hands over postings; they are posted in order within each account, and after what was handed over before. Waits
    /// for a place in the lanes' queues, not for the postings themselves.
    ///
    /// # Errors
    /// Where the lanes have ended.
    pub async fn hand_over(&self, postings: Vec<Posting>) -> Result<Pending, Arc<Error>> {
        let poster = &self.poster;
        let lane_of_posting: Vec<usize> = postings.iter().map(|posting| poster.lane_of(posting.user)).collect();
        let mut by_lane: Vec<Vec<Posting>> = poster.lanes.iter().map(|_| Vec::new()).collect();
        for (posting, lane) in postings.into_iter().zip(&lane_of_posting) {
            if let Some(postings) = by_lane.get_mut(*lane) {
                postings.push(posting);
            }
        }
        let mut answers = Vec::with_capacity(by_lane.len());
        for (lane, postings) in by_lane.into_iter().enumerate() {
            let sent = poster.send(lane, postings, Arc::clone(&self.failed));
            answers.push(sent.await?);
        }
        Ok(Pending { lane_of_posting, answers })
    }
}

/// Replies that are on their way.
pub struct Pending {
    lane_of_posting: Vec<usize>,
    answers: Vec<Answer>,
}

impl Pending {
    /// The replies, in the order of the postings. Postings of different lanes are different transactions: some may be
    /// written when others fail.
    ///
    /// # Errors
    /// See [`Error`]; the first, where several lanes fail.
    pub async fn replies(self) -> Result<Vec<Reply>, Arc<Error>> {
        let mut by_lane = Vec::with_capacity(self.answers.len());
        for answer in self.answers {
            by_lane.push(answer.await.map_err(|_| lane_gone())??.into_iter());
        }
        Ok(self.lane_of_posting.iter().filter_map(|lane| by_lane.get_mut(*lane)?.next()).collect())
    }
}

fn lane_gone() -> Arc<Error> {
    Arc::new(Error::Stopped)
}

struct Lane {
    database: Database,
    rules: Arc<Rules>,
    session: Option<Session>,
}

impl Lane {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut held_back = None;
        loop {
            let first = match held_back.take() {
                Some(request) => request,
                None => match requests.recv().await {
                    Some(request) => request,
                    None => return,
                },
            };
            let mut size = first.postings.len();
            let mut group = vec![first];
            while let Ok(next) = requests.try_recv() {
                size += next.postings.len();
                if size > GROUP_POSTINGS {
                    held_back = Some(next);
                    break;
                }
                group.push(next);
            }
            self.serve(group).await;
        }
    }

    /// Posts the requests as one group and answers them.
    async fn serve(&mut self, group: Vec<Request>) {
        let mut postings = Vec::new();
        let mut waiting = Vec::with_capacity(group.len());
        for mut request in group {
            if request.failed.load(Ordering::Acquire) {
                // Here and below: a caller that dropped its future waits no longer, and the send fails.
                let _ = request.answer.send(Err(lane_gone()));
                continue;
            }
            waiting.push((request.postings.len(), request.answer, request.failed));
            postings.append(&mut request.postings);
        }
        if postings.is_empty() {
            for (_, answer, _) in waiting {
                let _ = answer.send(Ok(Vec::new()));
            }
            return;
        }
        match self.post(&postings).await {
            Ok(replies) => {
                let mut replies = replies.into_iter();
                for (count, answer, _) in waiting {
                    let _ = answer.send(Ok(replies.by_ref().take(count).collect()));
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for (_, answer, failed) in waiting {
                    failed.store(true, Ordering::Release);
                    let _ = answer.send(Err(Arc::clone(&error)));
                }
            }
        }
    }

    /// Posts a group. A text that the database cannot store spoils its own posting: the group is halved until that is alone.
    async fn post(&mut self, postings: &[Posting]) -> Result<Vec<Reply>, Error> {
        let error = match self.post_patiently(postings).await {
            Err(error) if error.unfit_text().is_some() => error,
            result => return result,
        };
        if let ([_], Some(why)) = (postings, error.unfit_text()) {
            return Ok(vec![Reply::Rejected(Refusal::Malformed(format!("the database cannot store it: {why}")))]);
        }
        let (first, second) = postings.split_at(postings.len() / 2);
        let mut replies = Box::pin(self.post(first)).await?;
        replies.extend(Box::pin(self.post(second)).await?);
        Ok(replies)
    }

    /// Posts a group, and again while the reason for its failure may pass.
    async fn post_patiently(&mut self, postings: &[Posting]) -> Result<Vec<Reply>, Error> {
        let began = Instant::now();
        let mut pauses = Backoff::DATABASE.pauses();
        loop {
            let error = match self.try_post(postings).await {
                Ok(replies) => return Ok(replies),
                Err(error) => error,
            };
            // The connection is in doubt after any error.
            self.session = None;
            if !error.is_transient() || began.elapsed() > self.database.keep_trying() {
                return Err(error);
            }
            tracing::warn!(postings = postings.len(), "trying a group again: {}", errors::chain(&error));
            pauses.sleep().await;
        }
    }

    async fn try_post(&mut self, postings: &[Posting]) -> Result<Vec<Reply>, Error> {
        let session = match self.session.take() {
            Some(session) => session,
            None => Session::connect(&self.database).await?,
        };
        self.session.insert(session).post(postings, &self.rules).await
    }
}
