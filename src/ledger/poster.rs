//! Lets many callers post at once: postings that arrive while a group is under way form the next one.
//!
//! A [`Poster`] has a few lanes, each with connections of its own. An account always goes to the same lane, so the
//! postings of one account keep their order and no two lanes wait for each other's locks.

mod lane;
mod router;

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::router::{Router, Stay};
use super::bucket::{Buckets, part_of};
use super::observer::GroupObserver;
use super::posting::Posting;
use super::reply::Reply;
use super::rules::Rules;
use super::session::Error;
use crate::database::{Database, Nodes};

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
    database: Option<Database>,
    /// The number of buckets; 0 until it has been read.
    buckets: Arc<AtomicI16>,
    /// Cancelled when the lanes should end.
    stop: CancellationToken,
    /// Dropped with the last clone, and the lanes' tasks with it.
    tasks: Arc<tokio::sync::Mutex<JoinSet<()>>>,
}

struct Request {
    postings: Vec<Posting>,
    answer: oneshot::Sender<Result<Vec<Reply>, Arc<Error>>>,
    /// The feed that it came from; none for a caller's single posting.
    feed: Option<Arc<FeedState>>,
    /// Keeps its buckets at the node that it was sent to; none before it was sent, and where there is one bucket.
    stay: Option<Stay>,
}

/// What became of earlier parts of a feed.
#[derive(Default)]
struct FeedState {
    /// A part was lost. Nothing later may be posted.
    failed: AtomicBool,
    /// Accounts that did not take a posting, and why. Nothing later of them may be posted.
    damaged: Mutex<HashMap<Uuid, String>>,
}

impl FeedState {
    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    fn damaged(&self) -> MutexGuard<'_, HashMap<Uuid, String>> {
        // No code under this lock panics.
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The replies to postings of one lane, which are on their way; in the order of the postings.
pub struct Answer(oneshot::Receiver<Result<Vec<Reply>, Arc<Error>>>);

impl Future for Answer {
    type Output = Result<Vec<Reply>, Arc<Error>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| answer.map_err(|_| lane_gone())?)
    }
}

impl Poster {
    /// Starts `lanes` lanes (at least one); each opens its connection when it is first needed.
    pub fn start(database: &Database, rules: &Arc<Rules>, lanes: usize) -> Poster {
        Poster::start_lanes(database, rules, lanes, &(Arc::new(()) as Arc<dyn GroupObserver>), ReadOnly::Outwait)
    }

    /// The same for callers that can call again: while the database takes no writes, they get the error at once. `observer` hears
    /// of each group.
    pub fn start_for_calls(
        database: &Database,
        rules: &Arc<Rules>,
        lanes: usize,
        observer: &Arc<dyn GroupObserver>,
    ) -> Poster {
        Poster::start_lanes(database, rules, lanes, observer, ReadOnly::GiveUp)
    }

    fn start_lanes(
        database: &Database,
        rules: &Arc<Rules>,
        lanes: usize,
        observer: &Arc<dyn GroupObserver>,
        read_only: ReadOnly,
    ) -> Poster {
        let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
        let (nodes, buckets) = (Nodes::behind(database), Arc::<AtomicI16>::default());
        let lanes = (0..lanes.max(1)).map(|_| {
            let (sender, receiver) = mpsc::channel(WAITING_REQUESTS);
            let (rules, observer, buckets) = (Arc::clone(rules), Arc::clone(observer), Arc::clone(&buckets));
            let (database, nodes) = (database.clone(), nodes.clone());
            let shared = Shared { database, nodes, rules, observer, read_only, buckets };
            tasks.spawn(Router::new(shared).run(receiver, stop.clone()));
            sender
        });
        Poster {
            lanes: lanes.collect(),
            database: Some(database.clone()),
            buckets,
            stop,
            tasks: Arc::new(tokio::sync::Mutex::new(tasks)),
        }
    }

    /// Lanes that suit this machine. With two, one works while the other waits for the disk. More than eight help only a server
    /// with more cores. Only two were measured.
    pub fn lanes() -> usize {
        // A power of two, so that a lane has whole buckets.
        std::thread::available_parallelism().map_or(2, |cores| 1 << cores.get().clamp(2, 8).ilog2())
    }

    /// Posts one posting, in a group with whatever else is waiting. A dropped future does not call it back.
    ///
    /// # Errors
    /// See [`Error`]; it belongs to the whole group, so it is shared.
    pub async fn post(&self, posting: Posting) -> Result<Reply, Arc<Error>> {
        let lane = self.lane_of(posting.user);
        let replies = self.send(lane, vec![posting], None).await?.await?;
        replies.into_iter().next().ok_or_else(lane_gone)
    }

    /// Opens a feed, for many postings in an order that matters.
    pub fn feed(&self) -> Feed {
        Feed { poster: self.clone(), state: Arc::default() }
    }

    /// Ends the lanes and waits until they have; what they have not committed is rolled back. Clones, should there be
    /// any, find them gone.
    pub async fn close(self) {
        self.stop.cancel();
        let mut tasks = self.tasks.lock().await;
        while tasks.join_next().await.is_some() {}
    }

    /// Accounts of one bucket share a lane, unless there are more lanes than buckets: so the groups of a lane are of few buckets.
    fn lane_of(&self, user: Uuid) -> usize {
        usize::from(part_of(user)) % self.lanes.len()
    }

    async fn send(
        &self,
        lane: usize,
        postings: Vec<Posting>,
        feed: Option<Arc<FeedState>>,
    ) -> Result<Answer, Arc<Error>> {
        let (answer, reply) = oneshot::channel();
        let lane = self.lanes.get(lane).ok_or_else(lane_gone)?;
        lane.send(Request { postings, answer, feed, stay: None }).await.map_err(|_| lane_gone())?;
        Ok(Answer(reply))
    }
}

/// An input with postings in order. If a part of it fails, no later part is posted: a consume must not go into arrears
/// because the recharge before it was lost. If an account does not take a posting, only its own later ones are refused.
pub struct Feed {
    poster: Poster,
    state: Arc<FeedState>,
}

impl Feed {
    /// Hands over postings; they are posted in order within each account, and after what was handed over before. Waits
    /// for a place in the lanes' queues, not for the postings themselves.
    ///
    /// They are parted by bucket, so that those of one node wait for no other node.
    ///
    /// # Errors
    /// Where the lanes have ended.
    pub async fn hand_over(&self, postings: Vec<Posting>) -> Result<Pending, Arc<Error>> {
        let buckets = self.buckets();
        let part = |posting: &Posting| (self.lane_of(posting.user), buckets.of(posting.user));
        let part_of_posting: Vec<Part> = postings.iter().map(part).collect();
        let mut parts: BTreeMap<Part, Vec<Posting>> = BTreeMap::new();
        for (posting, part) in postings.into_iter().zip(&part_of_posting) {
            parts.entry(*part).or_default().push(posting);
        }
        let mut answers = Vec::with_capacity(parts.len());
        for ((lane, bucket), postings) in parts {
            answers.push(((lane, bucket), self.hand_over_group(lane, postings).await?));
        }
        Ok(Pending { part_of_posting, answers })
    }

    /// Hands over postings of one lane as a group: see [`Feed::lane_of`] and [`Feed::hand_over`].
    ///
    /// # Errors
    /// Where the lanes have ended.
    pub(crate) async fn hand_over_group(&self, lane: usize, postings: Vec<Posting>) -> Result<Answer, Arc<Error>> {
        self.poster.send(lane, postings, Some(Arc::clone(&self.state))).await
    }

    /// How many lanes there are.
    pub(crate) fn lanes(&self) -> usize {
        self.poster.lanes.len()
    }

    /// The lane of a user's postings.
    pub(crate) fn lane_of(&self, user: Uuid) -> usize {
        self.poster.lane_of(user)
    }

    /// The buckets of the ledger, as far as they are known: until a session or [`Feed::learn_buckets`] has read them they are taken for one.
    pub(crate) fn buckets(&self) -> Buckets {
        Buckets::new(self.poster.buckets.load(Ordering::Relaxed).max(1))
    }

    /// Reads the buckets of the ledger, if that was not done before. A database that does not answer is the lanes' to wait for.
    pub(crate) async fn learn_buckets(&self) {
        let Poster { database: Some(database), buckets, .. } = &self.poster else { return };
        if buckets.load(Ordering::Relaxed) == 0
            && let Ok(client) = database.connection().await
            && let Ok(read) = Buckets::read(&client).await
        {
            buckets.store(read.count(), Ordering::Relaxed);
        }
    }
}

/// Postings that are handed over together: those of a lane in one bucket.
type Part = (usize, i16);

/// Replies that are on their way.
pub struct Pending {
    part_of_posting: Vec<Part>,
    answers: Vec<(Part, Answer)>,
}

impl Pending {
    /// The replies, in the order of the postings. Postings of different lanes or buckets may be different transactions: some may be
    /// written when others fail.
    ///
    /// # Errors
    /// See [`Error`]; the first, where several parts fail.
    pub async fn replies(self) -> Result<Vec<Reply>, Arc<Error>> {
        let mut by_part = BTreeMap::new();
        for (part, answer) in self.answers {
            by_part.insert(part, answer.await?.into_iter());
        }
        Ok(self.part_of_posting.iter().filter_map(|part| by_part.get_mut(part)?.next()).collect())
    }
}

fn lane_gone() -> Arc<Error> {
    Arc::new(Error::Stopped)
}

/// What the lanes share.
#[derive(Clone)]
struct Shared {
    database: Database,
    nodes: Nodes,
    rules: Arc<Rules>,
    observer: Arc<dyn GroupObserver>,
    read_only: ReadOnly,
    buckets: Arc<AtomicI16>,
}

/// What a lane does while the database takes no writes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReadOnly {
    Outwait,
    GiveUp,
}

/// The lanes of a poster that a test serves by hand.
#[cfg(test)]
pub(crate) struct Hands(Vec<mpsc::Receiver<Request>>);

#[cfg(test)]
impl Hands {
    /// A poster of a ledger with so many buckets, and its lanes.
    pub(crate) fn poster(lanes: usize, buckets: i16) -> (Poster, Hands) {
        let (lanes, hands): (Vec<_>, Vec<_>) = (0..lanes).map(|_| mpsc::channel(WAITING_REQUESTS)).unzip();
        let buckets = Arc::new(AtomicI16::new(buckets));
        let poster = Poster {
            lanes: lanes.into(),
            database: None,
            buckets,
            stop: CancellationToken::new(),
            tasks: Arc::default(),
        };
        (poster, Hands(hands))
    }

    /// Takes the next group that was handed over to a lane.
    pub(crate) fn take(&mut self, lane: usize) -> Option<HandedOver> {
        let request = self.0.get_mut(lane)?.try_recv().ok()?;
        Some((request.postings, request.answer))
    }
}

/// The postings of a group, and where its replies go.
#[cfg(test)]
pub(crate) type HandedOver = (Vec<Posting>, oneshot::Sender<Result<Vec<Reply>, Arc<Error>>>);
