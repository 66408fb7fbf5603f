//! The router: sends the requests of a lane to the nodes that hold their buckets.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::lane::{Lane, next_request};
use super::{Request, Shared, WAITING_REQUESTS};
use crate::database::{Node, Places};
use crate::ledger::Buckets;

/// Sends the requests of a lane to the nodes that hold their buckets. Each node has a queue of its own, so one that is away holds up no
/// other until its queue is full, and this one with it. With one bucket it posts them itself.
pub(super) struct Router {
    shared: Shared,
    /// Posts where there is one bucket.
    single: Lane,
    queues: BTreeMap<Option<Node>, mpsc::Sender<Request>>,
    /// Requests that cannot be sent yet, in their order, each with its buckets: to find these takes a hash for each posting.
    waiting: VecDeque<(Request, BTreeSet<i16>)>,
    under_way: Arc<UnderWay>,
    /// Dropped with the router.
    tasks: JoinSet<()>,
}

impl Router {
    pub(super) fn new(shared: Shared) -> Router {
        Router {
            single: Lane::new(&shared, None),
            shared,
            queues: BTreeMap::new(),
            waiting: VecDeque::new(),
            under_way: Arc::default(),
            tasks: JoinSet::new(),
        }
    }

    /// Sends requests on until it is told to stop. When it has ended, nothing of it is at work.
    pub(super) async fn run(mut self, requests: mpsc::Receiver<Request>, stop: CancellationToken) {
        stop.run_until_cancelled(self.send_all(requests)).await;
        self.tasks.shutdown().await;
    }

    async fn send_all(&mut self, mut requests: mpsc::Receiver<Request>) {
        let mut held_back = None;
        loop {
            let request = tokio::select! {
                request = next_request(&mut held_back, &mut requests), if self.waiting.len() < WAITING_REQUESTS => request,
                () = self.under_way.ended.notified(), if !self.waiting.is_empty() => {
                    self.send_waiting().await;
                    continue;
                }
            };
            let Some(request) = request else { break };
            let buckets = self.buckets().await;
            if buckets.count() <= 1 {
                held_back = self.single.serve_next(request, &mut requests).await;
            } else {
                let concerned = request.postings.iter().map(|one| buckets.of(one.user)).collect();
                self.waiting.push_back((request, concerned));
                self.send_waiting().await;
            }
        }
    }

    /// The buckets of the ledger. They are asked for before the first request: a group that waits for a node would hold up this router. A
    /// database that does not answer is the group's to wait for.
    async fn buckets(&mut self) -> Buckets {
        if self.shared.buckets.load(Ordering::Relaxed) == 0 {
            self.single.session().await.ok();
        }
        Buckets::new(self.shared.buckets.load(Ordering::Relaxed))
    }

    /// Sends what waits, in order. A request that cannot be sent holds up only later ones of its buckets.
    async fn send_waiting(&mut self) {
        let places = self.shared.nodes.places().await;
        let mut held_up = BTreeSet::new();
        for (request, buckets) in std::mem::take(&mut self.waiting) {
            let room = match buckets.is_disjoint(&held_up) {
                true => self.room_for(&buckets, &places),
                false => None,
            };
            match room {
                Some((room, stay)) => drop(room.send(Request { stay: Some(stay), ..request })),
                None => {
                    held_up.extend(&buckets);
                    self.waiting.push_back((request, buckets));
                }
            }
        }
    }

    /// A place in the queue of the node that holds these buckets; of the database itself, where they lie on several. None where a request for
    /// them has to wait. The postings of an account stay in order, because those of a bucket are at one node at a time.
    fn room_for(&mut self, buckets: &BTreeSet<i16>, places: &Places) -> Option<(mpsc::OwnedPermit<Request>, Stay)> {
        let nodes: BTreeSet<_> = buckets.iter().map(|bucket| places.get(bucket).cloned()).collect();
        let node = if nodes.len() > 1 { None } else { nodes.into_iter().next().flatten() };
        let queue = self.queues.entry(node.clone()).or_insert_with(|| {
            let (sender, receiver) = mpsc::channel(WAITING_REQUESTS);
            self.tasks.spawn(Lane::new(&self.shared, node.clone()).run(receiver));
            sender
        });
        let room = queue.clone().try_reserve_owned().ok()?;
        Some((room, self.under_way.try_begin(buckets, &node)?))
    }
}

/// The requests that are under way: for each bucket at which node, and how many.
#[derive(Default)]
struct UnderWay {
    at: Mutex<BTreeMap<i16, (Option<Node>, usize)>>,
    /// Told when one has ended.
    ended: Notify,
}

impl UnderWay {
    /// Begins a request at a node; none while another one of its buckets is under way elsewhere.
    fn try_begin(self: &Arc<UnderWay>, buckets: &BTreeSet<i16>, node: &Option<Node>) -> Option<Stay> {
        let mut at = self.at();
        let is_free = |bucket| at.get(bucket).is_none_or(|(there, _)| there == node);
        if !buckets.iter().all(is_free) {
            return None;
        }
        for bucket in buckets {
            at.entry(*bucket).or_insert_with(|| (node.clone(), 0)).1 += 1;
        }
        Some(Stay { under_way: Arc::clone(self), buckets: buckets.clone() })
    }

    fn at(&self) -> MutexGuard<'_, BTreeMap<i16, (Option<Node>, usize)>> {
        // No code under this lock panics.
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request at a node, until it is dropped.
pub(super) struct Stay {
    under_way: Arc<UnderWay>,
    buckets: BTreeSet<i16>,
}

impl Drop for Stay {
    fn drop(&mut self) {
        let mut at = self.under_way.at();
        for bucket in &self.buckets {
            if let Some((_, requests)) = at.get_mut(bucket) {
                *requests -= 1;
                if *requests == 0 {
                    at.remove(bucket);
                }
            }
        }
        drop(at);
        self.under_way.ended.notify_one();
    }
}
