//! The queue: recharges and consumes that an application inserted into `pointsd.requests` in a transaction of its own.
//!
//! [`serve`] posts them. They are spread over a few lanes, each account always in the same one. Who has locked a lane's
//! row takes the lane's next requests as a group, posts it as any other group, and writes down what became of each
//! request, all in one transaction. A request that fails for a reason of its own is found by halving its group; it is
//! tried again later and parked in the end, and meanwhile only its own account waits for it.
//!
//! [`enqueue`], [`list`], [`count`] and [`retry`] are what the command line needs.

mod bell;
mod lane;
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::database::Database;
use crate::ledger::Rules;
pub use table::{Listed, PutBack, State, count, enqueue, list, retry};

/// As many as `pointsd.request_lanes` has rows, and the generated column `lane` values: 0 to 3.
const LANES: i16 = 4;

/// While the database is away, before the next try; doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What a daemon can say of its queue; all since it started.
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
        }
    }
}

impl Stats {
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

    /// Requests given up until somebody puts them back.
    pub fn parked(&self) -> u64 {
        self.parked.load(Ordering::Relaxed)
    }

    /// Groups that were posted, and how long taking them from the queue took, all together.
    pub fn groups(&self) -> (u64, Duration) {
        (self.groups.load(Ordering::Relaxed), Duration::from_micros(self.taking.load(Ordering::Relaxed)))
    }

    /// Whether it has nothing to do, and waits until somebody rings.
    pub fn asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    /// How far the queue is behind: how long the oldest request of the last group had waited when it was taken. Zero where
    /// every lane has come to its end.
    pub fn lag(&self) -> Duration {
        let longest = self.lags.iter().map(|lag| lag.load(Ordering::Relaxed)).max();
        Duration::from_millis(longest.unwrap_or(0))
    }

    /// How many lanes cannot work at present.
    pub fn stuck(&self) -> usize {
        self.stuck.iter().filter(|stuck| stuck.load(Ordering::Relaxed)).count()
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

/// Takes requests and posts them until `stop` is cancelled and the groups in hand are finished. It waits out a database
/// that is away, and says so at debug level only: others tell it.
///
/// Where the settings do not enable the queue it only waits for `stop`. `rules` may change meanwhile; a group is posted under those that are in force when it is taken.
pub async fn serve(
    database: &Database,
    rules: watch::Receiver<Arc<Rules>>,
    settings: config::Requests,
    stats: Arc<Stats>,
    stop: CancellationToken,
) {
    if !settings.enabled {
        return stop.cancelled().await;
    }
    let (order, orders) = watch::channel(bell::Order::default());
    let (report, reports) = mpsc::unbounded_channel();
    let mut lanes = JoinSet::new();
    for number in 0..LANES {
        let lane = lane::Lane {
            number,
            database: database.clone(),
            rules: rules.clone(),
            settings,
            stats: Arc::clone(&stats),
            stop: stop.clone(),
            orders: orders.clone(),
            reports: report.clone(),
        };
        lanes.spawn(lane.run());
    }
    let bell = bell::Bell::new(database.clone(), settings.poll, Arc::clone(&stats), order, reports);
    tokio::select! {
        () = bell.run(&stop) => {}
        // A lane ends before it is told to where it panics; without it the queue is no queue.
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
