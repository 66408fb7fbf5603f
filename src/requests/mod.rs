//! The queue: recharges and consumes that an application inserted into `pointsd.requests` in a transaction of its own.
//!
//! [`serve`] posts them. The queue has a few lanes, and an account always belongs to the same one. A daemon that has locked a lane's
//! row takes the next requests of that lane as a group. It posts the group and writes the outcome of each request in one
//! transaction.
//!
//! If a request fails for a reason of its own, halving its group finds it. The request is tried again later and parked in the
//! end. Meanwhile only its own account waits for it.
//!
//! On a cluster the requests of a node that is away stay in the queue until it is back.
//!
//! If requests of several accounts fail the same way and none succeeds, the queue stops until the cause is mended.
//!
//! The command line uses [`enqueue`], [`list`], [`count`], [`retry`] and [`retry_all`], the report on the books [`not_posted`].

mod away;
mod coordinator;
mod lane;
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::away::Away;
use self::coordinator::{Coordinator, Instruction};
use crate::database::Database;
use crate::ledger::{GroupObserver, Rules};
pub use table::{
    Filter, Listed, NotPosted, PutBack, PutBackAll, State, count, enqueue, find, list, not_posted, retry, retry_all,
};

/// `pointsd.request_lanes` has as many rows, and the generated column `lane` as many values: 0 to 3.
const LANES: i16 = 4;

/// How a daemon works on the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether this daemon takes requests.
    pub enabled: bool,
    /// How often the lanes poll without a notification.
    pub poll: Duration,
    /// Further tries of a request that failed.
    pub retries: u32,
    /// The pause before the first of them; it doubles each time.
    pub retry_pause: Duration,
}

/// What a daemon can say of its queue, since it started.
#[derive(Debug)]
pub struct Stats {
    posted: AtomicU64,
    replayed: AtomicU64,
    refused: AtomicU64,
    parked: AtomicU64,
    asleep: AtomicBool,
    groups: AtomicU64,
    /// Microseconds.
    taking: AtomicU64,
    /// By lane, milliseconds.
    lags: [AtomicU64; LANES as usize],
    /// By lane: whether its last attempt failed as a whole.
    stuck: [AtomicBool; LANES as usize],
    nodes_away: AtomicUsize,
    observer: Arc<dyn GroupObserver>,
}

impl Default for Stats {
    fn default() -> Stats {
        let zero = AtomicU64::default;
        Stats {
            posted: zero(),
            replayed: zero(),
            refused: zero(),
            parked: zero(),
            asleep: AtomicBool::default(),
            groups: zero(),
            taking: zero(),
            lags: [zero(), zero(), zero(), zero()],
            stuck: Default::default(),
            nodes_away: AtomicUsize::default(),
            observer: Arc::new(()),
        }
    }
}

impl Stats {
    /// `observer` hears of each group.
    pub fn observed(observer: Arc<dyn GroupObserver>) -> Stats {
        Stats { observer, ..Stats::default() }
    }

    /// Requests newly in the books.
    pub fn posted(&self) -> u64 {
        self.posted.load(Ordering::Relaxed)
    }

    /// Requests that were in the books already.
    pub fn replayed(&self) -> u64 {
        self.replayed.load(Ordering::Relaxed)
    }

    /// Requests refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Requests parked: given up until an operator puts them back.
    pub fn parked(&self) -> u64 {
        self.parked.load(Ordering::Relaxed)
    }

    /// Groups posted, and how long taking them from the queue took in total.
    pub fn groups(&self) -> (u64, Duration) {
        (self.groups.load(Ordering::Relaxed), Duration::from_micros(self.taking.load(Ordering::Relaxed)))
    }

    /// Whether it has nothing to do and waits for a notification.
    pub fn asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    /// How far the queue is behind: how long the oldest request of the last group had waited when it was taken. Zero if no lane
    /// has anything to do.
    pub fn lag(&self) -> Duration {
        let longest = self.lags.iter().map(|lag| lag.load(Ordering::Relaxed)).max();
        Duration::from_millis(longest.unwrap_or(0))
    }

    /// How many lanes cannot work at present.
    pub fn stuck(&self) -> usize {
        self.stuck.iter().filter(|stuck| stuck.load(Ordering::Relaxed)).count()
    }

    /// How many nodes of a cluster are away, so that the requests of their accounts wait.
    pub fn nodes_away(&self) -> usize {
        self.nodes_away.load(Ordering::Relaxed)
    }

    fn set_nodes_away(&self, nodes: usize) {
        self.nodes_away.store(nodes, Ordering::Relaxed);
    }

    fn set_stuck(&self, lane: i16, stuck: bool) {
        if let Some(of_lane) = usize::try_from(lane).ok().and_then(|lane| self.stuck.get(lane)) {
            of_lane.store(stuck, Ordering::Relaxed);
        }
    }

    fn set_lag(&self, lane: i16, milliseconds: u64) {
        if let Some(lag) = usize::try_from(lane).ok().and_then(|lane| self.lags.get(lane)) {
            lag.store(milliseconds, Ordering::Relaxed);
        }
    }
}

/// Takes requests and posts them until `stop` is cancelled and the groups under way are finished. It waits while the database is
/// away, and logs that at debug level only, because the daemon logs it already.
///
/// If the settings do not enable the queue, it only waits for `stop`. `rules` may change meanwhile; a group is posted under the
/// rules that are in force when it is taken.
pub async fn serve(
    database: &Database,
    rules: watch::Receiver<Arc<Rules>>,
    settings: Settings,
    stats: Arc<Stats>,
    stop: CancellationToken,
) {
    if !settings.enabled {
        return stop.cancelled().await;
    }
    let (instruct, instructions) = watch::channel(Instruction::default());
    let (report, reports) = mpsc::unbounded_channel();
    let suspicion = Arc::default();
    let away = Arc::new(Away::new(database.clone(), Arc::clone(&stats)));
    let mut lanes = JoinSet::new();
    for number in 0..LANES {
        let lane = lane::Lane {
            number,
            database: database.clone(),
            rules: rules.clone(),
            settings,
            stats: Arc::clone(&stats),
            stop: stop.clone(),
            instructions: instructions.clone(),
            reports: report.clone(),
            suspicion: Arc::clone(&suspicion),
            left_out: Arc::default(),
            changes: away.subscribe(),
            away: Arc::clone(&away),
        };
        lanes.spawn(lane.run());
    }
    let coordinator = Coordinator::new(database.clone(), settings.poll, Arc::clone(&stats), instruct, reports);
    tokio::select! {
        () = coordinator.run(&stop) => {}
        () = away.watch() => {}
        // A lane that ends early has panicked. Its accounts would wait for ever, so the queue ends.
        Some(Err(panic)) = lanes.join_next() => {
            tracing::error!(%panic, "a lane of the queue died");
            return;
        }
    }
    while let Some(ended) = lanes.join_next().await {
        if let Err(panic) = ended {
            tracing::error!(%panic, "a lane of the queue died");
        }
    }
}
