//! The statements on `pointsd.jobs` and `pointsd.runs`.
//!
//! Daemons judge each other's heartbeats by the database's clock alone, because their own clocks may differ.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use chrono::{DateTime, Utc};
use deadpool_postgres::Object;
use futures_util::TryStreamExt as _;
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::fence::progress_json;
use super::model::{
    Claimed, DaemonRow, JobRow, JobSettings, KnownJob, LATE, OpenRun, Paused, RunEnd, RunRow, SettledSlot, State,
    Trigger,
};
use crate::database::{self, Database};
use crate::errors;
use crate::ledger::Progress;

/// The least and the longest time to wait for an answer; between them it is a third of the take-over time. A statement
/// here touches a few rows, so without an answer the connection is lost. Several heartbeats must fit into the take-over
/// time.
const ANSWER: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));

/// An error of the scheduler's tables.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error(transparent)]
    Connection(#[from] database::Error),
    /// A statement failed.
    #[error("the database refused or lost a statement of the scheduler")]
    Statement(#[from] tokio_postgres::Error),
    /// No answer.
    #[error(
        "the database did not answer in time: it is busy, a node of its cluster is away, or a lock is held, as for pointsd db restored"
    )]
    Silent,
    /// It can be read and not written.
    #[error("the database takes no writes now: it is a standby, or default_transaction_read_only is on")]
    ReadOnly,
    /// The row of a run was deleted before the run ended.
    #[error("run {0} was deleted from pointsd.runs while it ran: what it committed stays; the log says how it ended")]
    Deleted(i64),
    /// The tables hold a value that this version never writes.
    #[error("pointsd.runs holds a {0} that this program does not know: is another version of it at work?")]
    Unknown(String),
}

impl Error {
    /// Whether the same call may succeed a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Connection(error) => error.is_transient(),
            Error::Statement(error) => database::is_transient(error),
            Error::Silent | Error::ReadOnly => true,
            Error::Deleted(_) | Error::Unknown(_) => false,
        }
    }
}

/// The name of this machine, by which the rows of runs and documents name it.
pub fn host_name() -> String {
    nix::unistd::gethostname().map_or_else(|_| "?".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The scheduler's tables, as one process uses them.
#[derive(Clone)]
pub struct Store {
    database: Database,
    host: String,
    pid: i32,
    takeover: Duration,
}

macro_rules! sql {
    ($name:literal) => {
        include_str!(concat!("../../sql/runs/", $name))
    };
}

type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

impl Store {
    /// For this process. A run whose heartbeats stopped is taken over within `takeover`.
    pub fn new(database: &Database, takeover: Duration) -> Store {
        let pid = i32::try_from(std::process::id()).unwrap_or(0);
        Store { database: database.clone(), host: host_name(), pid, takeover }
    }

    /// The time by the database's clock, which all daemons share.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn now(&self) -> Result<DateTime<Utc>, Error> {
        let rows = self.query("SELECT clock_timestamp()", &[]).await?;
        let row = rows.first().ok_or(Error::Silent)?;
        Ok(row.try_get(0)?)
    }

    /// The same, for a caller that will write.
    ///
    /// # Errors
    /// If the database fails, or takes no writes.
    pub async fn now_to_write(&self) -> Result<DateTime<Utc>, Error> {
        let rows =
            self.query("SELECT clock_timestamp(), current_setting('transaction_read_only') = 'off'", &[]).await?;
        let row = rows.first().ok_or(Error::Silent)?;
        if row.try_get(1)? { Ok(row.try_get(0)?) } else { Err(Error::ReadOnly) }
    }

    /// Writes this daemon's sign of life.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn write_daemon(&self, started: DateTime<Utc>, status: &str) -> Result<(), Error> {
        let version = env!("CARGO_PKG_VERSION");
        let row: Params<'_> = &[&self.host, &self.pid, &version, &started, &status];
        self.execute(sql!("daemon_seen.sql"), row).await.map(drop)
    }

    /// Deletes it, because the daemon stops.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn delete_daemon(&self) -> Result<(), Error> {
        self.execute(sql!("daemon_stopped.sql"), &[&self.host, &self.pid]).await.map(drop)
    }

    /// The daemons that are at work, or were killed within a week, the one that was seen last first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn daemons(&self) -> Result<Vec<DaemonRow>, Error> {
        let rows = self.query(sql!("daemon_list.sql"), &[]).await?;
        let daemon = |row: &Row| {
            Ok(DaemonRow {
                host: row.try_get("host")?,
                pid: row.try_get("pid")?,
                version: row.try_get("version")?,
                started: row.try_get("started")?,
                seen: row.try_get("seen")?,
                silent_for: row.try_get("silent_for")?,
                status: row.try_get("status")?,
            })
        };
        rows.iter().map(daemon).collect()
    }

    /// The longest time between two looks at the runs of other daemons. With [`Store::silence`] it leaves a twelfth of
    /// the take-over time for the look itself.
    pub fn look_every(&self) -> Duration {
        self.takeover / 4
    }

    /// The time between two heartbeats. Several may be lost before a run is taken over.
    pub(super) fn heartbeat_every(&self) -> Duration {
        self.takeover / 6
    }

    /// How long after its last heartbeat a run is free. In the rest of the take-over time another daemon notices it.
    pub(super) fn silence(&self) -> Duration {
        self.takeover * 2 / 3
    }

    async fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, Error> {
        Ok(self.ask(sql, params).await?.0)
    }

    /// Returns how many rows changed.
    async fn execute(&self, sql: &str, params: Params<'_>) -> Result<u64, Error> {
        Ok(self.ask(sql, params).await?.1)
    }

    async fn ask(&self, sql: &str, params: Params<'_>) -> Result<(Vec<Row>, u64), Error> {
        let limit = (self.takeover / 3).clamp(ANSWER.0, ANSWER.1);
        let connection = tokio::time::timeout(limit, self.database.connection());
        let client = connection.await.map_err(|_| Error::Silent)??;
        let answer = async {
            let statement = client.prepare_cached(sql).await?;
            let mut stream = pin!(client.query_raw(&statement, params.iter().copied()).await?);
            let rows = stream.as_mut().try_collect().await?;
            Ok((rows, stream.rows_affected().unwrap_or_default()))
        };
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer.map_err(Error::Statement),
            Err(_) => {
                // The statement may still be under way: it must not keep a lock for which the next attempt waits. No other caller may get
                // this connection.
                let (database, token) = (self.database.clone(), client.cancel_token());
                drop(Object::take(client));
                tokio::spawn(async move { database.cancel(&token).await });
                Err(Error::Silent)
            }
        }
    }

    /// Adds a job that the database does not know yet. Its slots count from `now`.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn add(&self, job: &str, settings: &JobSettings, now: DateTime<Utc>) -> Result<(), Error> {
        self.execute(sql!("job_add.sql"), &[&job, &rule(settings), &now]).await?;
        Ok(())
    }

    /// Adds a job, or notes its new schedule: its slots then count from `now`. Returns the schedule that it had before.
    pub(super) async fn register(
        &self,
        job: &str,
        settings: &JobSettings,
        now: DateTime<Utc>,
    ) -> Result<Option<String>, Error> {
        self.add(job, settings, now).await?;
        let changed = self.query(sql!("job_register.sql"), &[&job, &rule(settings), &now]).await?;
        Ok(changed.first().map(|row| row.try_get(0)).transpose()?)
    }

    /// The jobs that the database knows, with their open runs.
    pub(super) async fn load_jobs(&self, jobs: &[&str], now: DateTime<Utc>) -> Result<Vec<(String, KnownJob)>, Error> {
        let (silence, margin) = (self.silence().as_secs_f64(), margin());
        let rows = self.query(sql!("job_load.sql"), &[&jobs, &now, &silence, &margin]).await?;
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

    /// Takes over a run that was free when it was read. None if another daemon was quicker, or its holder is alive
    /// after all.
    pub(super) async fn take(&self, seen: &OpenRun) -> Result<Option<Claimed>, Error> {
        let params: Params = &[&seen.run, &seen.fence, &seen.heartbeat, &self.host, &self.pid];
        self.query(sql!("run_take.sql"), params).await?.first().map(claimed_from).transpose()
    }

    /// Writes a heartbeat, with the progress of a run that does not save it itself. False if this process no longer holds the run.
    pub(super) async fn write_heartbeat(
        &self,
        run: i64,
        fence: i64,
        progress: Option<Progress>,
    ) -> Result<bool, Error> {
        let progress = progress.map(progress_json);
        Ok(self.execute(sql!("run_heartbeat.sql"), &[&run, &fence, &progress]).await? > 0)
    }

    /// Takes a run in every bucket; returns what earlier attempts counted in each. Empty if this process no longer holds the run.
    pub(super) async fn take_parts(&self, run: i64, fence: i64) -> Result<BTreeMap<i16, Option<Value>>, Error> {
        let rows = self.query(sql!("part_take.sql"), &[&run, &fence]).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// Lets no transaction of a run commit in a bucket any more, and returns what they counted. None if the run took no bucket.
    async fn seize_parts(&self, run: i64, fence: i64) -> Result<Option<Value>, Error> {
        let rows = self.query(sql!("part_seize.sql"), &[&run, &fence]).await?;
        Ok(rows.first().map(|row| row.try_get(0)).transpose()?.flatten())
    }

    /// Releases a run for another attempt, at once or after a pause. False if this process no longer holds it.
    pub(super) async fn release(
        &self,
        held: &Claimed,
        pause: Option<Duration>,
        error: Option<&str>,
    ) -> Result<bool, Error> {
        let (pause, error) = (pause.map(|pause| pause.as_secs_f64()), error.map(storable));
        Ok(self.execute(sql!("run_release.sql"), &[&held.run, &held.fence, &pause, &error]).await? > 0)
    }

    /// Ends a run. False if this process no longer holds it.
    pub(super) async fn finish(&self, held: &Claimed, end: &RunEnd) -> Result<bool, Error> {
        let (counters, error, why) = match end {
            RunEnd::Succeeded { counters } => (Some(counters.clone()), None, None),
            RunEnd::Failed { reason, counters } => (counters.clone(), Some(storable(reason)), None),
            RunEnd::Cancelled { why } => (None, None, Some(why)),
        };
        let counters = match counters {
            Some(counters) => Some(counters),
            // Its transactions may still be under way. A failure is told even while a node that holds some of the buckets is away. What
            // is under way there can still commit then, so the entries of the run tell more than its counters.
            None => self.seize_parts(held.run, held.fence).await.unwrap_or_else(|error| {
                tracing::warn!(run_id = held.run, "what the run counted last is not known: {}", errors::chain(&error));
                None
            }),
        };
        let params: Params = &[&held.run, &held.fence, &end.state().as_str(), &counters, &error, &why];
        Ok(self.execute(sql!("run_finish.sql"), params).await? > 0)
    }

    /// Records slots that are not run. Returns how many had no row yet.
    pub(super) async fn record(&self, job: &str, settled: &[SettledSlot]) -> Result<u64, Error> {
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

    /// Cancels a run at once. False if it is over.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn cancel(&self, run: i64, by: &str) -> Result<bool, Error> {
        let rows = self.query(sql!("run_cancel.sql"), &[&run, &format!("cancelled by {by}")]).await?;
        Ok(rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or_default())
    }

    /// Pauses a job in the name of an operator, or resumes it with `None`. False if the database does not know the job.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn pause(&self, job: &str, by: Option<&str>) -> Result<bool, Error> {
        Ok(self.execute(sql!("job_pause.sql"), &[&job, &by]).await? > 0)
    }

    /// A run by its number.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn run(&self, run: i64) -> Result<Option<RunRow>, Error> {
        self.query(sql!("run_read.sql"), &[&run]).await?.first().map(row_from).transpose()
    }

    /// The newest runs first: of one job, in one state and with a lower number than `before`, if these are given.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn runs(
        &self,
        job: Option<&str>,
        state: Option<State>,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<RunRow>, Error> {
        let state = state.map(State::as_str);
        self.query(sql!("run_list.sql"), &[&job, &state, &before, &limit]).await?.iter().map(row_from).collect()
    }

    /// These jobs, without those that no daemon has ever registered.
    ///
    /// # Errors
    /// If the database fails.
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

/// The text that changes when a job's slots do.
fn rule(settings: &JobSettings) -> String {
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

/// The value of a column whose names this version may not know.
fn known_value<T>(row: &Row, column: &str, named: fn(&str) -> Option<T>) -> Result<T, Error> {
    let name: &str = row.try_get(column)?;
    named(name).ok_or_else(|| Error::Unknown(format!("{column} `{name}`")))
}

fn known_from(row: &Row) -> Result<(String, KnownJob), Error> {
    let running = match row.try_get::<_, Option<i64>>("run")? {
        None => None,
        Some(run) => Some(OpenRun {
            run,
            slot: row.try_get("slot")?,
            trigger: known_value(row, "trigger", Trigger::named)?,
            attempt: row.try_get("attempt")?,
            fence: row.try_get("fence")?,
            started: row.try_get("started")?,
            host: row.try_get("host")?,
            pid: row.try_get("pid")?,
            heartbeat: row.try_get("heartbeat")?,
            resume_at: row.try_get("resume_at")?,
            free: row.try_get("free")?,
        }),
    };
    let known = KnownJob {
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
        trigger: known_value(row, "trigger", Trigger::named)?,
        state: known_value(row, "state", State::named)?,
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
