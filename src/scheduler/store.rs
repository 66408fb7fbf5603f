//! The tables of schema `jobs` that the scheduler keeps: what it reads, what it writes, each one statement.
//!
//! All times by which daemons judge each other are the database's own: their clocks may differ.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::plan::{LATE, Settled};
use crate::config;
use crate::database::{self, Database};

/// A statement of the scheduler's touches a few rows: without an answer after a third of the time to take over, and these
/// bounds, the connection is as good as gone. Several signs of life must fit into that time.
const ANSWER: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));

/// Why the scheduler could not read or write its tables.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error(transparent)]
    Connection(#[from] database::Error),
    /// A statement failed.
    #[error("the database refused or lost a statement of the scheduler")]
    Statement(#[from] tokio_postgres::Error),
    /// No answer.
    #[error("the database did not answer in time")]
    Silent,
    /// The tables hold what the scheduler never wrote.
    #[error("pointsd.runs holds a {0} that this program does not know: is another version of it at work?")]
    Unknown(String),
}

impl Error {
    /// Whether the same may well succeed a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Connection(error) => error.is_transient(),
            Error::Statement(error) => database::is_transient(error),
            Error::Silent => true,
            Error::Unknown(_) => false,
        }
    }
}

/// What began a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Its slot came due.
    Schedule,
    /// Its slot had come due while no daemon was there.
    CatchUp,
    /// Somebody asked for it.
    Manual,
}

/// How a run stands, or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Under way, or waiting to be taken up again.
    Running,
    /// Done.
    Succeeded,
    /// Not done, and not tried again.
    Failed,
    /// Not begun, because of a rule or of somebody.
    Skipped,
    /// Not begun, because no daemon was there in time.
    Missed,
    /// Ended by somebody.
    Cancelled,
}

/// Names of an enum's values, as the database and JSON have them.
macro_rules! names {
    ($type:ident: $($value:ident = $name:literal),+ $(,)?) => {
        impl $type {
            /// Every value.
            pub const ALL: &'static [$type] = &[$($type::$value),+];

            /// As the database and JSON have it.
            pub fn as_str(self) -> &'static str {
                match self { $($type::$value => $name),+ }
            }

            fn parse(text: &str) -> Result<$type, Error> {
                let found = $type::ALL.iter().copied().find(|value| value.as_str() == text);
                found.ok_or_else(|| Error::Unknown(format!("{} `{text}`", stringify!($type).to_lowercase())))
            }
        }
    };
}

names!(Trigger: Schedule = "schedule", CatchUp = "catch-up", Manual = "manual");
names!(State: Running = "running", Succeeded = "succeeded", Failed = "failed", Skipped = "skipped", Missed = "missed",
       Cancelled = "cancelled");

/// What the database knows of a job when its slots are looked at.
#[derive(Debug)]
pub(super) struct Known {
    /// Slots after this instant count.
    pub since: DateTime<Utc>,
    /// The last slot up to now that has a row.
    pub last_slot: Option<DateTime<Utc>>,
    /// Slots up to this instant came due behind a run and wait for its end.
    pub queued_to: Option<DateTime<Utc>>,
    pub paused: Option<Paused>,
    pub running: Option<Running>,
    /// Whether slots were recorded that lie in the future.
    pub ahead: bool,
}

/// Since when a job is paused, and by whom.
#[derive(Clone, Debug)]
pub struct Paused {
    /// Since when.
    pub at: DateTime<Utc>,
    /// By whom.
    pub by: String,
}

/// The run of a job that is under way.
#[derive(Debug)]
pub(super) struct Running {
    pub run: i64,
    pub slot: DateTime<Utc>,
    pub trigger: Trigger,
    pub attempt: i32,
    pub fence: i64,
    pub started: DateTime<Utc>,
    pub host: Option<String>,
    pub pid: Option<i32>,
    /// None where its holder let go of it in good order.
    pub heartbeat: Option<DateTime<Utc>>,
    /// Whether it may be taken: nobody holds it, or its holder is given up.
    pub free: bool,
}

/// A run that we hold.
#[derive(Clone, Debug)]
pub(super) struct Claimed {
    pub run: i64,
    pub attempt: i32,
    pub fence: i64,
    pub counters: Option<Value>,
}

/// A run as it stands in the database.
#[derive(Clone, Debug)]
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

/// A job as the database knows it.
#[derive(Clone, Debug)]
pub struct JobRow {
    /// Its name.
    pub job: String,
    /// The last slot that has a row.
    pub last_slot: Option<DateTime<Utc>>,
    /// Whether it is paused.
    pub paused: Option<Paused>,
    /// The run that ended last, or was the last not to begin.
    pub last_run: Option<i64>,
    /// The run under way.
    pub running: Option<i64>,
}

/// The scheduler's way to its tables, in the name of one process.
#[derive(Clone)]
pub struct Store {
    database: Database,
    host: String,
    pid: i32,
    takeover: Duration,
}

macro_rules! sql {
    ($name:literal) => {
        include_str!(concat!("../../sql/jobs/", $name))
    };
}

type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

impl Store {
    /// For this process; runs whose holder gives no sign of life are taken over within `takeover`.
    pub fn new(database: &Database, takeover: Duration) -> Store {
        let host =
            nix::unistd::gethostname().map_or_else(|_| "?".to_owned(), |name| name.to_string_lossy().into_owned());
        let pid = i32::try_from(std::process::id()).unwrap_or(0);
        Store { database: database.clone(), host, pid, takeover }
    }

    /// The database's clock: the one that all daemons share.
    ///
    /// # Errors
    /// Where the database cannot be asked.
    pub async fn now(&self) -> Result<DateTime<Utc>, Error> {
        let rows = self.query("SELECT clock_timestamp()", &[]).await?;
        let row = rows.first().ok_or(Error::Silent)?;
        Ok(row.try_get(0)?)
    }

    /// How often a holder gives a sign of life: several may be lost before it is given up.
    pub(super) fn heartbeat_every(&self) -> Duration {
        self.takeover / 6
    }

    /// After how much silence a holder is given up. The rest of the time to take over is for the loop to notice.
    pub(super) fn silence(&self) -> Duration {
        self.takeover * 2 / 3
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::time::timeout((self.takeover / 3).clamp(ANSWER.0, ANSWER.1), work).await.unwrap_or(Err(Error::Silent))
    }

    async fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, Error> {
        self.within(async {
            let client = self.database.connection().await?;
            let statement = client.prepare_cached(sql).await?;
            Ok(client.query(&statement, params).await?)
        })
        .await
    }

    async fn execute(&self, sql: &str, params: Params<'_>) -> Result<u64, Error> {
        self.within(async {
            let client = self.database.connection().await?;
            let statement = client.prepare_cached(sql).await?;
            Ok(client.execute(&statement, params).await?)
        })
        .await
    }

    /// Makes a job known that the database does not know yet: it counts its slots from `now` on.
    ///
    /// # Errors
    /// Where the database cannot be asked.
    pub async fn add(&self, job: &str, settings: &config::Job, now: DateTime<Utc>) -> Result<(), Error> {
        self.execute(sql!("job_add.sql"), &[&job, &rule(settings), &now]).await?;
        Ok(())
    }

    /// The same, and one that has another schedule than before counts its slots from `now` on; returns what it had.
    pub(super) async fn register(
        &self,
        job: &str,
        settings: &config::Job,
        now: DateTime<Utc>,
    ) -> Result<Option<String>, Error> {
        self.add(job, settings, now).await?;
        let changed = self.query(sql!("job_register.sql"), &[&job, &rule(settings), &now]).await?;
        Ok(changed.first().map(|row| row.try_get(0)).transpose()?)
    }

    pub(super) async fn look(&self, jobs: &[&str], now: DateTime<Utc>) -> Result<Vec<(String, Known)>, Error> {
        let (silence, margin) = (self.silence().as_secs_f64(), margin());
        let rows = self.query(sql!("job_look.sql"), &[&jobs, &now, &silence, &margin]).await?;
        rows.iter().map(known_from).collect()
    }

    pub(super) async fn claim(
        &self,
        job: &str,
        slot: DateTime<Utc>,
        trigger: Trigger,
        now: DateTime<Utc>,
    ) -> Result<Option<Claimed>, Error> {
        let params: Params = &[&job, &slot, &trigger.as_str(), &now, &self.host, &self.pid];
        self.query(sql!("run_claim.sql"), params).await?.first().map(claimed_from).transpose()
    }

    /// Takes a run that was seen to be free, unless somebody was quicker or its holder is alive after all.
    pub(super) async fn take(&self, seen: &Running) -> Result<Option<Claimed>, Error> {
        let params: Params = &[&seen.run, &seen.fence, &seen.heartbeat, &self.host, &self.pid];
        self.query(sql!("run_take.sql"), params).await?.first().map(claimed_from).transpose()
    }

    /// A sign of life; false where the run is no longer ours.
    pub(super) async fn heartbeat(&self, run: i64, fence: i64) -> Result<bool, Error> {
        Ok(self.execute(sql!("run_heartbeat.sql"), &[&run, &fence]).await? > 0)
    }

    pub(super) async fn release(
        &self,
        run: i64,
        fence: i64,
        pause: Option<Duration>,
        error: Option<&str>,
    ) -> Result<bool, Error> {
        let (pause, error) = (pause.map(|pause| pause.as_secs_f64()), error.map(storable));
        Ok(self.execute(sql!("run_release.sql"), &[&run, &fence, &pause, &error]).await? > 0)
    }

    pub(super) async fn finish(
        &self,
        (run, fence): (i64, i64),
        state: State,
        counters: Option<&Value>,
        error: Option<&str>,
        why: Option<&str>,
    ) -> Result<bool, Error> {
        let error = error.map(storable);
        let params: Params = &[&run, &fence, &state.as_str(), &counters, &error, &why];
        Ok(self.execute(sql!("run_finish.sql"), params).await? > 0)
    }

    /// Returns how many had no row yet.
    pub(super) async fn record(&self, job: &str, settled: &[Settled]) -> Result<u64, Error> {
        let slots: Vec<DateTime<Utc>> = settled.iter().map(|one| one.slot).collect();
        let states: Vec<&str> = settled.iter().map(|one| one.state.as_str()).collect();
        let why: Vec<&str> = settled.iter().map(|one| one.why.as_str()).collect();
        self.execute(sql!("run_record.sql"), &[&job, &slots, &states, &why]).await
    }

    pub(super) async fn queue(&self, job: &str, now: DateTime<Utc>) -> Result<(), Error> {
        self.execute(sql!("job_queue.sql"), &[&job, &now]).await?;
        Ok(())
    }

    pub(super) async fn unrecord(&self, jobs: &[&str], now: DateTime<Utc>) -> Result<u64, Error> {
        self.execute(sql!("run_unrecord.sql"), &[&jobs, &now, &margin()]).await
    }

    /// Cancels a run at once; false where it is not under way.
    ///
    /// # Errors
    /// Where the database cannot be asked.
    pub async fn cancel(&self, run: i64, by: &str) -> Result<bool, Error> {
        Ok(self.execute(sql!("run_cancel.sql"), &[&run, &format!("cancelled by {by}")]).await? > 0)
    }

    /// Pauses a job in the name of somebody, or with `None` lets it go on; false where the job is not known yet.
    ///
    /// # Errors
    /// Where the database cannot be asked.
    pub async fn pause(&self, job: &str, by: Option<&str>) -> Result<bool, Error> {
        Ok(self.execute(sql!("job_pause.sql"), &[&job, &by]).await? > 0)
    }

    /// A run by its number.
    ///
    /// # Errors
    /// Where the database cannot be asked.
    pub async fn run(&self, run: i64) -> Result<Option<RunRow>, Error> {
        self.query(sql!("run_read.sql"), &[&run]).await?.first().map(row_from).transpose()
    }

    /// The newest runs first, of one job and in one state where these are given.
    ///
    /// # Errors
    /// Where the database cannot be asked.
    pub async fn runs(&self, job: Option<&str>, state: Option<State>, limit: i64) -> Result<Vec<RunRow>, Error> {
        let state = state.map(State::as_str);
        self.query(sql!("run_list.sql"), &[&job, &state, &limit]).await?.iter().map(row_from).collect()
    }

    /// What the database knows of these jobs; nothing of one that no daemon has ever known.
    ///
    /// # Errors
    /// Where the database cannot be asked.
    pub async fn jobs(&self, jobs: &[&str]) -> Result<Vec<JobRow>, Error> {
        let rows = self.query(sql!("job_list.sql"), &[&jobs]).await?;
        let job = |row: &Row| {
            Ok(JobRow {
                job: row.try_get("job")?,
                last_slot: row.try_get("last_slot")?,
                paused: paused_from(row)?,
                last_run: row.try_get("last_run")?,
                running: row.try_get("running")?,
            })
        };
        rows.iter().map(job).collect()
    }
}

/// A text that PostgreSQL can store.
fn storable(text: &str) -> String {
    text.replace('\0', "")
}

/// What tells whether a job's slots are still those that were counted before.
fn rule(settings: &config::Job) -> String {
    if settings.enabled { settings.schedule.describe() } else { "disabled".to_owned() }
}

/// Seconds of the future in which a recorded slot is left alone.
fn margin() -> f64 {
    LATE.to_std().unwrap_or_default().as_secs_f64()
}

fn paused_from(row: &Row) -> Result<Option<Paused>, tokio_postgres::Error> {
    let (at, by): (Option<DateTime<Utc>>, Option<String>) = (row.try_get("paused_at")?, row.try_get("paused_by")?);
    Ok(at.zip(by).map(|(at, by)| Paused { at, by }))
}

fn known_from(row: &Row) -> Result<(String, Known), Error> {
    let running = match row.try_get::<_, Option<i64>>("run")? {
        None => None,
        Some(run) => Some(Running {
            run,
            slot: row.try_get("slot")?,
            trigger: Trigger::parse(row.try_get("trigger")?)?,
            attempt: row.try_get("attempt")?,
            fence: row.try_get("fence")?,
            started: row.try_get("started")?,
            host: row.try_get("host")?,
            pid: row.try_get("pid")?,
            heartbeat: row.try_get("heartbeat")?,
            free: row.try_get("free")?,
        }),
    };
    let known = Known {
        since: row.try_get("since")?,
        last_slot: row.try_get("last_slot")?,
        queued_to: row.try_get("queued_to")?,
        paused: paused_from(row)?,
        running,
        ahead: row.try_get("ahead")?,
    };
    Ok((row.try_get("job")?, known))
}

fn claimed_from(row: &Row) -> Result<Claimed, Error> {
    Ok(Claimed {
        run: row.try_get("run")?,
        attempt: row.try_get("attempt")?,
        fence: row.try_get("fence")?,
        counters: row.try_get("counters")?,
    })
}

fn row_from(row: &Row) -> Result<RunRow, Error> {
    Ok(RunRow {
        run: row.try_get("run")?,
        job: row.try_get("job")?,
        slot: row.try_get("slot")?,
        trigger: Trigger::parse(row.try_get("trigger")?)?,
        state: State::parse(row.try_get("state")?)?,
        attempt: row.try_get("attempt")?,
        fence: row.try_get("fence")?,
        host: row.try_get("host")?,
        pid: row.try_get("pid")?,
        started: row.try_get("started")?,
        heartbeat: row.try_get("heartbeat")?,
        resume_at: row.try_get("resume_at")?,
        finished: row.try_get("finished")?,
        progress: row.try_get("progress")?,
        counters: row.try_get("counters")?,
        error: row.try_get("error")?,
        why: row.try_get("why")?,
    })
}
