//! The words that the scheduler's parts share: a job's settings, its slots, its runs, and how a run ends.

use std::fmt::{self, Display};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::ledger::Progress;
use crate::schedule::Schedule;

/// A slot that begins later than this was missed, because no daemon was up. A restart of a daemon takes less and loses
/// no slot.
pub(super) const LATE: TimeDelta = TimeDelta::seconds(60);

/// When a job runs, and how.
#[derive(Debug, Clone)]
pub struct JobSettings {
    /// When its slots are due.
    pub schedule: Schedule,
    /// Whether it has slots at all.
    pub enabled: bool,
    /// Which slots that came due while no daemon was up are run later.
    pub catch_up: CatchUp,
    /// What happens to a slot that comes due during an earlier run.
    pub overlap: Overlap,
    /// An attempt that takes longer has failed.
    pub timeout: Duration,
    /// Further attempts after the first one failed.
    pub retries: u32,
    /// The pause before the first of them. It doubles each time.
    pub retry_pause: Duration,
}

/// Which of the slots that came due while no daemon was up are run later. The others are recorded as missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    /// None of them.
    None,
    /// The last one.
    Latest,
    /// The latest of them, at most this number.
    All(usize),
}

/// What happens to a slot that comes due during an earlier run of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// It is recorded as skipped.
    Skip,
    /// It waits for the run's end.
    Queue,
}

impl Display for CatchUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CatchUp::None => f.write_str("none"),
            CatchUp::Latest => f.write_str("latest"),
            CatchUp::All(limit) => write!(f, "all, up to {limit}"),
        }
    }
}

impl Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Overlap::Skip => "skip",
            Overlap::Queue => "queue",
        })
    }
}

/// What began a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, utoipa::ToSchema)]
#[schema(rename_all = "kebab-case")]
pub enum Trigger {
    /// Its slot came due.
    Schedule,
    /// Its slot had come due while no daemon was up.
    CatchUp,
    /// An operator asked for it.
    Manual,
}

/// The state of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, utoipa::ToSchema)]
#[schema(as = RunState, rename_all = "lowercase")]
pub enum State {
    /// Under way, or waiting for another attempt.
    Running,
    /// Done.
    Succeeded,
    /// Not done, and not tried again.
    Failed,
    /// Not begun, because of a rule or a pause.
    Skipped,
    /// Not begun, because no daemon was up in time.
    Missed,
    /// Ended by an operator.
    Cancelled,
}

/// Names of an enum's values, as the database and JSON have them.
macro_rules! names {
    ($type:ident: $($value:ident = $name:literal),+ $(,)?) => {
        impl $type {
            /// Every value.
            pub const ALL: &'static [$type] = &[$($type::$value),+];

            /// The value's name in the database and in JSON.
            pub fn as_str(self) -> &'static str {
                match self { $($type::$value => $name),+ }
            }

            /// The value of this name; none if there is none.
            pub(super) fn named(name: &str) -> Option<$type> {
                $type::ALL.iter().copied().find(|value| value.as_str() == name)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

names!(Trigger: Schedule = "schedule", CatchUp = "catch-up", Manual = "manual");
names!(State: Running = "running", Succeeded = "succeeded", Failed = "failed", Skipped = "skipped", Missed = "missed",
       Cancelled = "cancelled");

/// A job as the database knows it, when its slots are planned.
#[derive(Debug)]
pub(super) struct KnownJob {
    /// Slots after this instant count.
    pub since: DateTime<Utc>,
    /// The last slot up to now that has a row.
    pub last_slot: Option<DateTime<Utc>>,
    /// Slots up to this instant came due during a run and wait for its end.
    pub queued_to: Option<DateTime<Utc>>,
    pub paused: Option<Paused>,
    pub running: Option<OpenRun>,
    /// Whether slots were recorded that lie in the future.
    pub ahead: bool,
}

/// A job's pause.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Paused {
    /// Its begin.
    pub at: DateTime<Utc>,
    /// The operator.
    pub by: String,
}

/// The run of a job that has not ended.
#[derive(Debug)]
pub(super) struct OpenRun {
    pub run: i64,
    pub slot: DateTime<Utc>,
    pub trigger: Trigger,
    pub attempt: i32,
    pub fence: i64,
    pub started: DateTime<Utc>,
    pub host: Option<String>,
    pub pid: Option<i32>,
    /// The holder's last heartbeat. None if the last holder released the run.
    pub heartbeat: Option<DateTime<Utc>>,
    /// When a released run is to be continued, if after a pause.
    pub resume_at: Option<DateTime<Utc>>,
    /// Whether another daemon may take it: it has no holder, or the holder's heartbeats stopped.
    pub free: bool,
}

impl OpenRun {
    /// The process that holds or held it, for people.
    pub fn holder(&self) -> String {
        match (&self.host, self.pid) {
            (Some(host), Some(pid)) => format!("process {pid} on {host}"),
            _ => "its process".to_owned(),
        }
    }
}

/// A run that this process holds.
#[derive(Clone, Debug)]
pub(super) struct Claimed {
    pub run: i64,
    pub attempt: i32,
    pub fence: i64,
    pub counters: Option<Value>,
}

/// How a run ends.
#[derive(Clone, Debug)]
pub(super) enum RunEnd {
    Succeeded {
        counters: Value,
    },
    /// The counters are known if the work was done and they disagree with it.
    Failed {
        reason: String,
        counters: Option<Value>,
    },
    Cancelled {
        why: &'static str,
    },
}

impl RunEnd {
    pub fn failed(reason: impl Into<String>) -> RunEnd {
        RunEnd::Failed { reason: reason.into(), counters: None }
    }

    pub fn state(&self) -> State {
        match self {
            RunEnd::Succeeded { .. } => State::Succeeded,
            RunEnd::Failed { .. } => State::Failed,
            RunEnd::Cancelled { .. } => State::Cancelled,
        }
    }
}

/// A slot without a run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SettledSlot {
    pub slot: DateTime<Utc>,
    pub state: State,
    pub why: String,
}

/// A run as its row says, and as JSON shows it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Run)]
#[allow(missing_docs)] // the columns of pointsd.runs
pub struct RunRow {
    pub run: i64,
    pub job: String,
    pub slot: DateTime<Utc>,
    pub trigger: Trigger,
    pub state: State,
    pub attempt: i32,
    pub fence: i64,
    pub host: Option<String>,
    pub pid: Option<i32>,
    pub started: Option<DateTime<Utc>>,
    pub heartbeat: Option<DateTime<Utc>>,
    pub resume_at: Option<DateTime<Utc>>,
    pub finished: Option<DateTime<Utc>>,
    pub progress: Option<Value>,
    pub counters: Option<Value>,
    pub error: Option<String>,
    pub why: Option<String>,
}

impl RunRow {
    /// How far it has come, as its last heartbeat or chunk says.
    pub fn progress(&self) -> Option<Progress> {
        let count = |name: &str| self.progress.as_ref()?.get(name)?.as_u64();
        Some(Progress { done: count("done")?, total: count("total")? })
    }
}

/// A daemon's last sign of life.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Daemon)]
pub struct DaemonRow {
    /// Its machine …
    pub host: String,
    /// … and process there.
    pub pid: i32,
    /// Of the program.
    pub version: String,
    /// When it started, by its own clock.
    pub started: DateTime<Utc>,
    /// When it wrote this, by the database's clock …
    pub seen: DateTime<Utc>,
    /// … and how many seconds ago.
    pub silent_for: i64,
    /// What it tells systemd.
    pub status: String,
}

/// A job as its row and its runs say.
#[derive(Clone, Debug)]
pub struct JobRow {
    /// Its name.
    pub job: String,
    /// The last slot that has a row.
    pub last_slot: Option<DateTime<Utc>>,
    /// Its pause, if it is paused.
    pub paused: Option<Paused>,
    /// The last run that is over or never began.
    pub last_run: Option<i64>,
    /// The run that has not ended.
    pub running: Option<i64>,
}
