//! The router: sends the requests of a lane to the nodes that hold their buckets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::lane::{Lane, next_request};
use super::{Request, Shared, WAITING_REQUESTS};
use crate::database::Node;
use crate::ledger::Buckets;

/// Sends the requests of a lane to the nodes that hold their buckets. Each node has a queue of its own, so one that is away holds up no
/// other until its queue is full. On a single server it posts them itself.
pub(super) struct Router {
    shared: Shared,
    here: Lane,
    queues: BTreeMap<Option<Node>, mpsc::Sender<Request>>,
    under_way: Arc<Ways>,
    /// Dropped with the router.
    tasks: JoinSet<()>,
}

impl Router {
    pub(super) fn new(shared: Shared) -> Router {
        let here = Lane::new(&shared, None);
        Router { shared, here, queues: BTreeMap::new(), under_way: Arc::default(), tasks: JoinSet::new() }
    }

    /// Sends requests on until it is told to stop. When it has ended, nothing of it is at work.
    pub(super) async fn run(mut self, requests: mpsc::Receiver<Request>, stop: CancellationToken) {
        stop.run_until_cancelled(self.send_all(requests)).await;
        self.tasks.shutdown().await;
    }

    async fn send_all(&mut self, mut requests: mpsc::Receiver<Request>) {
        let mut held_back = None;
        while let Some(request) = next_request(&mut held_back, &mut requests).await {
            if self.buckets().await.count() <= 1 {
                held_back = self.here.serve_next(request, &mut requests).await;
            } else {
                self.send(request).await;
            }
        }
    }

    /// The buckets of the ledger. They are asked for before the first request: a group that waits for a node would hold up this router. A
    /// database that does not answer is the group's to wait for.
    async fn buckets(&mut self) -> Buckets {
        if self.shared.buckets.load(Ordering::Relaxed) == 0 {
            self.here.session().await.ok();
        }
        Buckets::new(self.shared.buckets.load(Ordering::Relaxed))
    }

    /// A request that concerns several nodes goes through the database itself. The postings of an account stay in order, because those
    /// of a bucket are at one node at a time.
    async fn send(&mut self, mut request: Request) {
        let buckets = self.buckets().await;
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
pub(super) struct UnderWay {
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
