//! Lets many callers post at once: postings that arrive while a group is under way form the next one.
//!
//! A [`Poster`] has a few lanes, each with a connection of its own. An account always goes to the same lane, so the
//! postings of one account keep their order and no two lanes wait for each other's locks.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::bucket::{Buckets, part_of};
use super::observer::GroupObserver;
use super::posting::Posting;
use super::reply::{Refusal, Reply};
use super::rules::Rules;
use super::session::{Error, Session};
use crate::database::{Database, Node, Nodes};
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
    database: Option<Database>,
    /// The number of buckets; 0 until it has been read.
    buckets: Arc<AtomicI16>,
    /// Dropped with the last clone, and the lanes' tasks with it.
    tasks: Arc<tokio::sync::Mutex<JoinSet<()>>>,
}

struct Request {
    postings: Vec<Posting>,
    answer: oneshot::Sender<Result<Vec<Reply>, Arc<Error>>>,
    /// The feed that it came from; none for a caller's single posting.
    feed: Option<Arc<FeedState>>,
    /// Keeps its buckets at the node that it was sent to; none on a single server.
    way: Option<UnderWay>,
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
        let mut tasks = JoinSet::new();
        let (nodes, buckets) = (Nodes::behind(database), Arc::<AtomicI16>::default());
        let lanes = (0..lanes.max(1)).map(|_| {
            let (sender, receiver) = mpsc::channel(WAITING_REQUESTS);
            let (rules, observer, buckets) = (Arc::clone(rules), Arc::clone(observer), Arc::clone(&buckets));
            let (database, nodes) = (database.clone(), nodes.clone());
            let shared = Shared { database, nodes, rules, observer, read_only, buckets };
            tasks.spawn(Router::new(shared).run(receiver));
            sender
        });
        Poster {
            lanes: lanes.collect(),
            database: Some(database.clone()),
            buckets,
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
        self.tasks.lock().await.shutdown().await;
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
        lane.send(Request { postings, answer, feed, way: None }).await.map_err(|_| lane_gone())?;
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
            let sent = poster.send(lane, postings, Some(Arc::clone(&self.state)));
            answers.push(sent.await?);
        }
        Ok(Pending { lane_of_posting, answers })
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
            by_lane.push(answer.await?.into_iter());
        }
        Ok(self.lane_of_posting.iter().filter_map(|lane| by_lane.get_mut(*lane)?.next()).collect())
    }
}

fn lane_gone() -> Arc<Error> {
    Arc::new(Error::Stopped)
}

/// A text that the database cannot store spoils its own posting.
fn unfit_text(why: &str) -> Reply {
    Reply::Rejected(Refusal::Malformed(format!("the database cannot store it: {why}")))
}

fn damaged(why: String) -> Reply {
    Reply::Rejected(Refusal::AccountDamaged(why))
}

/// A request whose postings are under way.
struct Waiting {
    count: usize,
    answer: oneshot::Sender<Result<Vec<Reply>, Arc<Error>>>,
    feed: Option<Arc<FeedState>>,
    _way: Option<UnderWay>,
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

/// Sends the requests of a lane to the nodes that hold their buckets. Each node has a queue of its own, so one that is away holds up no
/// other until its queue is full. On a single server it posts them itself.
struct Router {
    shared: Shared,
    here: Lane,
    queues: BTreeMap<Option<Node>, mpsc::Sender<Request>>,
    under_way: Arc<Ways>,
    /// Dropped with the router.
    tasks: JoinSet<()>,
}

impl Router {
    fn new(shared: Shared) -> Router {
        let here = Lane::new(&shared, None);
        Router { shared, here, queues: BTreeMap::new(), under_way: Arc::default(), tasks: JoinSet::new() }
    }

    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut held_back = None;
        while let Some(request) = next_request(&mut held_back, &mut requests).await {
            if self.shared.buckets.load(Ordering::Relaxed) <= 1 {
                held_back = self.here.serve_next(request, &mut requests).await;
            } else {
                self.send(request).await;
            }
        }
        // Those that were sent on are posted.
        self.queues.clear();
        while self.tasks.join_next().await.is_some() {}
    }

    /// A request that concerns several nodes goes through the database itself. The postings of an account stay in order, because those
    /// of a bucket are at one node at a time.
    async fn send(&mut self, mut request: Request) {
        let buckets = Buckets::new(self.shared.buckets.load(Ordering::Relaxed));
        let buckets: BTreeSet<i16> = request.postings.iter().map(|one| buckets.of(one.user)).collect();
        let places = self.shared.nodes.places().await;
        let nodes: BTreeSet<_> = buckets.iter().map(|bucket| places.get(bucket).cloned()).collect();
        let node = if nodes.len() > 1 { None } else { nodes.into_iter().next().flatten() };
        request.way = Some(self.under_way.enter(buckets, &node).await);
        let queue = self.queues.entry(node).or_insert_with_key(|node| {
            let (sender, receiver) = mpsc::channel(WAITING_REQUESTS);
            self.tasks.spawn(Lane::new(&self.shared, node.clone()).run(receiver));
            sender
        });
        // It fails only after a panic there; the caller is told that the lane is gone.
        queue.send(request).await.ok();
    }
}

/// The buckets with requests under way: at which node, and how many.
#[derive(Default)]
struct Ways {
    at: Mutex<BTreeMap<i16, (Option<Node>, usize)>>,
    left: Notify,
}

impl Ways {
    /// Waits until no request of these buckets is under way at another node.
    async fn enter(self: &Arc<Ways>, buckets: BTreeSet<i16>, node: &Option<Node>) -> UnderWay {
        while !self.try_enter(&buckets, node) {
            self.left.notified().await;
        }
        UnderWay { ways: Arc::clone(self), buckets }
    }

    fn try_enter(&self, buckets: &BTreeSet<i16>, node: &Option<Node>) -> bool {
        let mut at = self.at();
        let is_free = |bucket| at.get(bucket).is_none_or(|(there, _)| there == node);
        let are_free = buckets.iter().all(is_free);
        if are_free {
            for bucket in buckets {
                at.entry(*bucket).or_insert_with(|| (node.clone(), 0)).1 += 1;
            }
        }
        are_free
    }

    fn at(&self) -> MutexGuard<'_, BTreeMap<i16, (Option<Node>, usize)>> {
        // No code under this lock panics.
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is under way at a node, until it is dropped.
struct UnderWay {
    ways: Arc<Ways>,
    buckets: BTreeSet<i16>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut at = self.ways.at();
        for bucket in &self.buckets {
            if let Some((_, requests)) = at.get_mut(bucket) {
                *requests -= 1;
                if *requests == 0 {
                    at.remove(bucket);
                }
            }
        }
        drop(at);
        // One router waits at most; it looks again.
        self.ways.left.notify_one();
    }
}

async fn next_request(held_back: &mut Option<Request>, requests: &mut mpsc::Receiver<Request>) -> Option<Request> {
    match held_back.take() {
        Some(request) => Some(request),
        None => requests.recv().await,
    }
}

/// Posts the requests of a lane that are sent to one node.
struct Lane {
    shared: Shared,
    /// The node that it posts on; none for the database itself.
    home: Option<Node>,
    /// Where the group is posted that is under way.
    node: Option<Node>,
    sessions: BTreeMap<Option<Node>, Session>,
}

impl Lane {
    fn new(shared: &Shared, home: Option<Node>) -> Lane {
        Lane { shared: shared.clone(), home, node: None, sessions: BTreeMap::new() }
    }

    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut held_back = None;
        while let Some(request) = next_request(&mut held_back, &mut requests).await {
            held_back = self.serve_next(request, &mut requests).await;
        }
    }

    /// Serves a request together with those that wait behind it. Returns one that did not fit.
    async fn serve_next(&mut self, first: Request, requests: &mut mpsc::Receiver<Request>) -> Option<Request> {
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
        self.serve(group).await;
        held_back
    }

    /// Posts the requests as one group and answers them. Where a single posting may be at fault, posts each request by itself.
    async fn serve(&mut self, group: Vec<Request>) {
        let mut postings = Vec::new();
        let mut waiting = Vec::with_capacity(group.len());
        for mut request in group {
            let Request { answer, feed, way, .. } = request;
            waiting.push(Waiting { count: request.postings.len(), answer, feed, _way: way });
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
            if error.is_transient()
                && let Some(node) = self.node.take()
            {
                // The next attempt goes through the coordinator, which knows what became of the node.
                self.shared.nodes.lost(&node);
            }
            // An old session stays read-only when the database no longer is; a second one in a row tells the truth.
            let is_refused = self.shared.read_only == ReadOnly::GiveUp && was_read_only && error.is_read_only();
            was_read_only = error.is_read_only();
            if is_refused || !error.is_transient() || failed.elapsed() > self.shared.database.keep_trying() {
                return Err(error);
            }
            tracing::warn!(postings = postings.len(), "trying a group again: {}", errors::chain(&error));
            pauses.sleep().await;
        }
    }

    /// Posts a group on the node that holds it, or through the database itself where the node cannot be reached.
    async fn try_post(&mut self, postings: &[Posting]) -> Result<Vec<Reply>, Error> {
        let mut database = self.shared.database.clone();
        if let Some(node) = &self.node
            && !self.sessions.contains_key(&self.node)
        {
            match self.shared.nodes.database(node).await {
                Some(there) => database = there,
                None => self.node = None,
            }
        }
        let session = match self.sessions.entry(self.node.clone()) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(vacant) => {
                let session = Session::connect(&database).await?;
                self.shared.buckets.store(session.buckets().count(), Ordering::Relaxed);
                vacant.insert(session)
            }
        };
        session.post(postings, &self.shared.rules).await
    }
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
        let poster = Poster { lanes: lanes.into(), database: None, buckets, tasks: Arc::default() };
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
