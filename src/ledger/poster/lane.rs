//! A lane: posts the requests of a queue as groups, patiently, and finds the one posting that spoils a group.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::router::Stay;
use super::{FeedState, GROUP_POSTINGS, ReadOnly, Request, Shared, lane_gone};
use crate::database::Node;
use crate::errors;
use crate::ledger::{Error, Posting, Refusal, Reply, Session};
use crate::retry::Backoff;

/// A request whose postings are under way.
struct Waiting {
    count: usize,
    answer: oneshot::Sender<Result<Vec<Reply>, Arc<Error>>>,
    feed: Option<Arc<FeedState>>,
    _stay: Option<Stay>,
}

impl Waiting {
    /// Whether an earlier part of its feed keeps some of its postings from being posted.
    fn is_held_up(&self) -> bool {
        self.feed.as_ref().is_some_and(|feed| feed.has_failed() || !feed.damaged().is_empty())
    }

    fn answer(self, posted: Result<Vec<Reply>, Arc<Error>>) {
        if let (Err(_), Some(feed)) = (&posted, &self.feed) {
            feed.failed.store(true, Ordering::Release);
        }
        // A caller that dropped its future waits no longer, and the send fails.
        let _ = self.answer.send(posted);
    }
}

/// Posts the requests of a lane that are sent to one node.
pub(super) struct Lane {
    shared: Shared,
    /// The node that holds the buckets of its requests; none for the database itself.
    home: Option<Node>,
    /// Where the group under way is posted: at home, or on the database itself where home cannot be reached.
    node: Option<Node>,
    sessions: BTreeMap<Option<Node>, Session>,
}

impl Lane {
    pub(super) fn new(shared: &Shared, home: Option<Node>) -> Lane {
        Lane { shared: shared.clone(), home, node: None, sessions: BTreeMap::new() }
    }

    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut held_back = None;
        while let Some(request) = next_request(&mut held_back, &mut requests).await {
            held_back = self.serve_next(request, &mut requests).await;
        }
    }

    /// Serves a request together with those that wait behind it. Returns one that did not fit.
    pub(super) async fn serve_next(
        &mut self,
        first: Request,
        requests: &mut mpsc::Receiver<Request>,
    ) -> Option<Request> {
        let (mut size, mut held_back) = (first.postings.len(), None);
        let mut group = vec![first];
        while let Ok(next) = requests.try_recv() {
            size += next.postings.len();
            if size > GROUP_POSTINGS {
                held_back = Some(next);
                break;
            }
            group.push(next);
        }
        self.node.clone_from(&self.home);
        let feeds: Vec<_> = group.iter().filter_map(|request| request.feed.clone()).collect();
        // After a panic the callers of this group find the lane gone. Others are served.
        if AssertUnwindSafe(self.serve(group)).catch_unwind().await.is_err() {
            tracing::error!("posting a group made the program panic; the message is above");
            feeds.iter().for_each(|feed| feed.failed.store(true, Ordering::Release));
            self.sessions.clear();
        }
        held_back
    }

    /// Posts the requests as one group and answers them. Where a single posting may be at fault, posts each request by itself.
    async fn serve(&mut self, group: Vec<Request>) {
        let mut postings = Vec::new();
        let mut waiting = Vec::with_capacity(group.len());
        for mut request in group {
            let Request { answer, feed, stay, .. } = request;
            waiting.push(Waiting { count: request.postings.len(), answer, feed, _stay: stay });
            postings.append(&mut request.postings);
        }
        if waiting.iter().any(Waiting::is_held_up) {
            return self.serve_in_turn(&postings, waiting).await;
        }
        let began = Instant::now();
        let posted = match postings.is_empty() {
            true => Ok(Vec::new()),
            false => self.post_patiently(&postings).await,
        };
        if posted.as_ref().is_err_and(|error| error.unfit_text().is_some() || error.unfit_row().is_some()) {
            return self.serve_in_turn(&postings, waiting).await;
        }
        self.shared.observer.group_ended(&postings, posted.as_deref(), began.elapsed());
        match posted {
            Ok(replies) => {
                let mut replies = replies.into_iter();
                for one in waiting {
                    let replies = replies.by_ref().take(one.count).collect();
                    one.answer(Ok(replies));
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                waiting.into_iter().for_each(|one| one.answer(Err(Arc::clone(&error))));
            }
        }
    }

    /// Posts each request by itself.
    async fn serve_in_turn(&mut self, mut postings: &[Posting], waiting: Vec<Waiting>) {
        for one in waiting {
            let own;
            (own, postings) = postings.split_at(one.count.min(postings.len()));
            let began = Instant::now();
            let posted = match &one.feed {
                Some(feed) if feed.has_failed() => Err(lane_gone()),
                Some(feed) => self.isolate(own, feed).await.map_err(Arc::new),
                None => self.post_patiently(own).await.or_else(|error| match error.unfit_text() {
                    Some(why) => Ok(vec![unfit_text(why)]),
                    None => Err(Arc::new(error)),
                }),
            };
            let replies = posted.as_ref().map(Vec::as_slice).map_err(AsRef::as_ref);
            self.shared.observer.group_ended(own, replies, began.elapsed());
            one.answer(posted);
        }
    }

    /// Posts a part of a feed, halved until each posting that the database does not take is alone: that one is refused, and for a
    /// row all later ones of its account. If several accounts fail and no posting is written, the fault is one of all.
    async fn isolate(&mut self, postings: &[Posting], feed: &FeedState) -> Result<Vec<Reply>, Error> {
        let mut replies: BTreeMap<usize, Reply> = BTreeMap::new();
        let mut parts = vec![postings.iter().enumerate().collect::<Vec<_>>()];
        let (mut written, mut failed, mut last) = (false, HashSet::new(), None);
        while let Some(mut part) = parts.pop() {
            part.retain(|(nth, posting)| {
                let why = feed.damaged().get(&posting.user).cloned();
                why.map(|why| replies.insert(*nth, damaged(format!("an earlier line of it was refused: {why}"))))
                    .is_none()
            });
            let group: Vec<Posting> = part.iter().map(|(_, posting)| (*posting).clone()).collect();
            if group.is_empty() {
                continue;
            }
            let error = match self.post_patiently(&group).await {
                Ok(posted) => {
                    written |= posted
                        .iter()
                        .any(|reply| matches!(reply, Reply::Posted(_) | Reply::Held(_) | Reply::Released(_)));
                    replies.extend(part.iter().map(|(nth, _)| *nth).zip(posted));
                    continue;
                }
                Err(error) => error,
            };
            match (part.as_slice(), error.unfit_text(), error.unfit_row()) {
                ([(nth, _)], Some(why), _) => drop(replies.insert(*nth, unfit_text(why))),
                ([(nth, posting)], None, Some(why)) => {
                    replies.insert(*nth, damaged(why.clone()));
                    feed.damaged().insert(posting.user, why);
                    failed.insert(posting.user);
                    last = Some(error);
                }
                (_, None, None) => return Err(error),
                _ => {
                    let second = part.split_off(part.len() / 2);
                    parts.extend([second, part]);
                }
            }
        }
        match last {
            Some(error) if !written && failed.len() > 1 => Err(error),
            _ => Ok(replies.into_values().collect()),
        }
    }

    /// Posts a group, and again while the reason for its failure may pass.
    async fn post_patiently(&mut self, postings: &[Posting]) -> Result<Vec<Reply>, Error> {
        let mut pauses = Backoff::DATABASE.pauses();
        let (mut was_read_only, mut failed) = (false, None);
        loop {
            let error = match self.try_post(postings).await {
                Ok(replies) => return Ok(replies),
                Err(error) => error,
            };
            // Not from the begin: the first attempt may have waited long at a frozen server.
            let failed = *failed.get_or_insert_with(Instant::now);
            // The connection is in doubt after any error.
            self.sessions.remove(&self.node);
            let may_pass = error.is_transient() || (self.node.is_some() && matches!(error, Error::Connection(_)));
            if may_pass && let Some(node) = self.node.take() {
                // The next attempt goes through the coordinator, which knows what became of the node.
                self.shared.nodes.lost(&node);
            }
            // An old session stays read-only when the database no longer is; a second one in a row tells the truth.
            let is_refused = self.shared.read_only == ReadOnly::GiveUp && was_read_only && error.is_read_only();
            was_read_only = error.is_read_only();
            if is_refused || !may_pass || failed.elapsed() > self.shared.database.keep_trying() {
                return Err(error);
            }
            tracing::warn!(postings = postings.len(), "trying a group again: {}", errors::chain(&error));
            pauses.sleep().await;
        }
    }

    /// Posts a group on the node that holds it, or through the database itself where the node cannot be reached.
    async fn try_post(&mut self, postings: &[Posting]) -> Result<Vec<Reply>, Error> {
        let rules = Arc::clone(&self.shared.rules);
        self.session().await?.post(postings, &rules).await
    }

    /// The session for the group that is under way. A new one tells the number of the buckets.
    pub(super) async fn session(&mut self) -> Result<&mut Session, Error> {
        let mut database = self.shared.database.clone();
        if let Some(node) = &self.node
            && !self.sessions.contains_key(&self.node)
        {
            match self.shared.nodes.database(node).await {
                Some(there) => database = there,
                None => self.node = None,
            }
        }
        Ok(match self.sessions.entry(self.node.clone()) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(vacant) => {
                let session = Session::connect(&database).await?;
                self.shared.buckets.store(session.buckets().count(), Ordering::Relaxed);
                vacant.insert(session)
            }
        })
    }
}

pub(super) async fn next_request(
    held_back: &mut Option<Request>,
    requests: &mut mpsc::Receiver<Request>,
) -> Option<Request> {
    match held_back.take() {
        Some(request) => Some(request),
        None => requests.recv().await,
    }
}

/// A text that the database cannot store spoils its own posting.
fn unfit_text(why: &str) -> Reply {
    Reply::Rejected(Refusal::Malformed(format!("the database cannot store it: {why}")))
}

fn damaged(why: String) -> Reply {
    Reply::Rejected(Refusal::AccountDamaged(why))
}
