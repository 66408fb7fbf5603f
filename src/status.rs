//! Whether all is well: what `pointsd status`, the status page and the API tell an operator.

use std::fmt::{self, Display};
use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc, Weekday};
use serde::{Serialize, Serializer};

use crate::config::{Config, weekday_name};
use crate::database::{self, Database};
use crate::jobs::{REGISTRY, RegisteredJob};
use crate::numbers::grouped;
use crate::schedule::ClockChange;
use crate::scheduler::{self, DaemonRow, JobRow, JobSettings, Outage, Paused, RunRow, Store};
use crate::time::{Zone, span_text};

/// A daemon that was silent for longer than this many seconds counts as gone. It writes every half minute at least, and its
/// runs are taken over earlier.
const LONGEST_SILENCE: i64 = 60;

/// How many seconds a request may wait before an operator should look.
const LONGEST_WAIT: i64 = 60;

/// The same for a commit.
const LONGEST_COMMIT: i64 = 5;

/// The same for a mail.
const LONGEST_MAIL_WAIT: i64 = 3_600;

/// A private server's disk with less room than this wants a look, in per cent.
const LEAST_ROOM: u64 = 10;

/// Where the counts of [`Reach::Page`] end.
pub const MOST_COUNTED: i64 = 10_000;

/// The most accounts whose arrears [`Reach::Page`] sums: each takes a look at its row.
const MOST_SUMMED: i64 = 1_000;

/// The outage of [`Explanation::outage`].
const OUTAGE: TimeDelta = TimeDelta::hours(36);

/// Why the status could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error(transparent)]
    Connection(#[from] database::Error),
    /// A statement failed.
    #[error("the database refused or lost a statement of the status")]
    Database(#[from] tokio_postgres::Error),
    /// The jobs could not be read.
    #[error(transparent)]
    Jobs(#[from] scheduler::Error),
}

impl Error {
    /// Whether the same call may succeed a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Connection(error) => error.is_transient(),
            Error::Database(error) => database::is_transient(error),
            Error::Jobs(error) => error.is_transient(),
        }
    }
}

/// What an operator must know first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = StatusState)]
pub enum State {
    /// All is well.
    Fine,
    /// At work, but something wants a look.
    Look,
    /// No daemon is at work.
    Down,
}

/// How much of the database a status reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All that is to be counted.
    Whole,
    /// A bounded part, for an answer at once. Counts end at [`MOST_COUNTED`].
    Page,
}

/// All that an operator looks at.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Status {
    /// `fine`, `look` or `down`.
    pub state: State,
    /// What wants a look.
    #[schema(value_type = Vec<String>)]
    pub look: Vec<Concern>,
    /// The database, without a password.
    pub database: String,
    /// The last migration.
    pub schema: String,
    /// The version of the program that answers.
    pub version: &'static str,
    /// The daemons that are at work, or were killed within a week, the one that was seen last first.
    pub daemons: Vec<DaemonRow>,
    /// The jobs.
    pub jobs: Vec<JobOverview>,
    /// Counts.
    pub figures: Figures,
    /// The disk of a private server.
    pub disk: Option<Disk>,
}

/// Something that wants a look. Serialises to a sentence with the command that shows more.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the sentences are below
pub enum Concern {
    JobPaused { job: &'static str, by: String },
    JobEnded { job: &'static str, state: scheduler::State },
    CommitWaits { seconds: i64 },
    RequestWaits { seconds: i64 },
    RequestsRefused { count: i64 },
    RequestsParked { count: i64 },
    MailWaits { seconds: i64 },
    MailsParked { count: i64 },
    FindingsOpen { count: i64 },
    DiskNearlyFull(Disk),
}

impl Display for Concern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Concern::JobPaused { job, by } => write!(f, "{job} is paused by {by}: pointsd jobs resume {job}"),
            Concern::JobEnded { job, state } => {
                write!(f, "the last slot of {job} {}: pointsd runs --job {job}", state.as_str())
            }
            Concern::CommitWaits { seconds } => write!(
                f,
                "a commit has waited for a synchronous standby for {}: bring the standby back, or see \
                 synchronous_standby_names",
                seconds_text(*seconds)
            ),
            Concern::RequestWaits { seconds } => {
                write!(f, "a request has waited for {}: see the daemon's log", seconds_text(*seconds))
            }
            Concern::RequestsRefused { count } => {
                write!(f, "{} requests refused in a day: pointsd requests --state refused", grouped(*count))
            }
            Concern::RequestsParked { count } => {
                write!(f, "{} parked requests: pointsd requests --state parked", grouped(*count))
            }
            Concern::MailWaits { seconds } => {
                write!(f, "a mail has waited for {}: pointsd reports", seconds_text(*seconds))
            }
            Concern::MailsParked { count } => {
                write!(f, "{} parked mails: pointsd reports, then pointsd reports resend", grouped(*count))
            }
            Concern::FindingsOpen { count } => write!(f, "{} open findings: pointsd repair plan", grouped(*count)),
            Concern::DiskNearlyFull(disk) => write!(f, "the disk is nearly full: {disk}"),
        }
    }
}

impl Serialize for Concern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The figures of status_read.sql. Those that came over HTTP are counted up to 10,000.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Figures {
    /// Requests that no daemon has taken yet.
    pub pending: i64,
    /// Seconds that the oldest pending request has waited.
    pub oldest: Option<i64>,
    /// Requests that wait for another try.
    pub waiting: i64,
    /// Requests that were refused in the last day.
    pub refused: i64,
    /// Requests that failed too often.
    pub parked: i64,
    /// Mails that have not left.
    pub mails_to_send: i64,
    /// Seconds that the oldest mail has waited.
    pub oldest_mail: Option<i64>,
    /// Mails that failed too often.
    pub mails_parked: i64,
    /// Open findings of proofs.
    pub findings: i64,
    /// Accounts that owe points.
    pub accounts_in_arrears: i64,
    /// What they owe together, as digits: the sum may not fit into 64 bits. None where it is not known yet.
    pub arrears: Option<String>,
    /// The time of that sum, where it is older than the rest: over HTTP, the arrears of many accounts are summed every 15 seconds.
    pub arrears_as_of: Option<DateTime<Utc>>,
}

/// The room on the disk of a private server, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Disk {
    /// What is left.
    pub free: u64,
    /// All of it.
    pub size: u64,
}

/// A job: its rule, its next slot, and how it ended last.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Job)]
pub struct JobOverview {
    /// Its name.
    pub job: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Its rule.
    pub schedule: String,
    /// The zone of the rule.
    #[serde(rename = "time_zone", serialize_with = "zone_name")]
    #[schema(value_type = String)]
    pub zone: Zone,
    /// The rule in words.
    pub in_words: String,
    /// Whether it has slots.
    pub enabled: bool,
    /// Its next slot.
    pub next_slot: Option<DateTime<Utc>>,
    /// The same on the clocks of its zone.
    pub next_slot_local: Option<String>,
    /// Its pause, if it is paused.
    pub paused: Option<Paused>,
    /// The run that has not ended.
    pub running: Option<RunRow>,
    /// The last run that is over or never began.
    pub last_run: Option<RunRow>,
}

/// When a job runs, in full.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Its name.
    pub job: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Its rule.
    pub schedule: String,
    /// The zone of the rule.
    pub time_zone: &'static str,
    /// The rule in words.
    pub in_words: String,
    /// Whether it has slots.
    pub enabled: bool,
    /// The next clock changes of the zone.
    pub clock_changes: Vec<ExplainedChange>,
    /// What clock changes do to its slots.
    pub warnings: Vec<String>,
    /// The next ten slots.
    pub next_slots: Vec<DateTime<Utc>>,
    /// What a daemon would do now, had there been none for 36 hours.
    #[serde(rename = "after_an_outage_of_36_hours")]
    pub outage: Outage,
    /// For the job that proves: the day on which it proves everything; None within if there is no such day.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "day_name")]
    pub full_proof_on: Option<Option<Weekday>>,
}

/// A clock change, as it is told.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedChange {
    /// When.
    pub at: DateTime<Utc>,
    /// What the clocks would have shown then.
    pub local_before: String,
    /// What they show.
    pub local_after: String,
    /// Whether they skip a time.
    pub forward: bool,
}

fn zone_name<S: Serializer>(zone: &Zone, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(zone.name())
}

fn day_name<S: Serializer>(day: &Option<Option<Weekday>>, serializer: S) -> Result<S::Ok, S::Error> {
    day.flatten().map(weekday_name).serialize(serializer)
}

impl Status {
    /// Reads it; `now` is the clock of this machine.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn read(database: &Database, config: &Config, now: DateTime<Utc>, reach: Reach) -> Result<Status, Error> {
        let store = Store::new(database, config.jobs.takeover);
        let daemons = store.daemons().await?;
        let figures = Figures::read(database, reach).await?;
        let schema = database.migrations().await?.pop().map(|migration| migration.name).unwrap_or_default();
        let disk = if database.has_private_server() { Disk::of(&config.state_dir) } else { None };
        let jobs = JobOverview::read(&store, config, now).await?;
        let mut look: Vec<Concern> = jobs.iter().flat_map(JobOverview::concerns).collect();
        look.extend(commit_concern(database).await?);
        look.extend(figures.concerns());
        look.extend(disk.filter(|disk| disk.is_short()).map(Concern::DiskNearlyFull));
        let state = match (daemons.iter().any(is_at_work), look.as_slice()) {
            (false, _) => State::Down,
            (true, []) => State::Fine,
            (true, _) => State::Look,
        };
        let (database, version) = (database.describe(), env!("CARGO_PKG_VERSION"));
        Ok(Status { state, look, database, schema, version, daemons, jobs, figures, disk })
    }
}

/// A commit that waits for a standby: its caller waits, and no error comes.
async fn commit_concern(database: &Database) -> Result<Option<Concern>, Error> {
    let sql = include_str!("../sql/status/commit_waiting.sql");
    let seconds: Option<i64> = database.connection().await?.query_one(sql, &[]).await?.try_get("seconds")?;
    Ok(seconds.filter(|seconds| *seconds > LONGEST_COMMIT).map(|seconds| Concern::CommitWaits { seconds }))
}

/// Whether a daemon was seen lately.
pub fn is_at_work(daemon: &DaemonRow) -> bool {
    daemon.silent_for.abs() <= LONGEST_SILENCE
}

impl JobOverview {
    /// Every job, in the order of the registry.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn read(
        store: &Store,
        config: &Config,
        now: DateTime<Utc>,
    ) -> Result<Vec<JobOverview>, scheduler::Error> {
        let names: Vec<&str> = REGISTRY.iter().map(|job| job.name).collect();
        let known = store.jobs(&names).await?;
        let mut jobs = Vec::with_capacity(REGISTRY.len());
        for job in REGISTRY {
            let row = known.iter().find(|row| row.job == job.name);
            jobs.push(JobOverview::of(job, row, store, config, now).await?);
        }
        Ok(jobs)
    }

    /// One job.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn read_one(
        job: &RegisteredJob,
        store: &Store,
        config: &Config,
        now: DateTime<Utc>,
    ) -> Result<JobOverview, scheduler::Error> {
        let known = store.jobs(&[job.name]).await?;
        JobOverview::of(job, known.first(), store, config, now).await
    }

    async fn of(
        job: &RegisteredJob,
        row: Option<&JobRow>,
        store: &Store,
        config: &Config,
        now: DateTime<Utc>,
    ) -> Result<JobOverview, scheduler::Error> {
        let settings = (job.settings)(config);
        let run = async |number: Option<i64>| match number {
            Some(run) => store.run(run).await,
            None => Ok(None),
        };
        let schedule = &settings.schedule;
        let next_slot = next_slot(settings, row, now);
        Ok(JobOverview {
            job: job.name,
            about: job.about,
            schedule: schedule.rule().to_owned(),
            zone: schedule.zone(),
            in_words: schedule.in_words(),
            enabled: settings.enabled,
            next_slot,
            next_slot_local: next_slot.map(|next| next.with_timezone(&schedule.zone()).to_rfc3339()),
            paused: row.and_then(|row| row.paused.clone()),
            running: run(row.and_then(|row| row.running)).await?,
            last_run: run(row.and_then(|row| row.last_run)).await?,
        })
    }

    fn concerns(&self) -> Vec<Concern> {
        let paused = self.paused.as_ref().filter(|_| self.enabled);
        let paused = paused.map(|paused| Concern::JobPaused { job: self.job, by: paused.by.clone() });
        let bad = |run: &&RunRow| matches!(run.state, scheduler::State::Failed | scheduler::State::Missed);
        let ended = self.last_run.as_ref().filter(bad);
        let ended = ended.map(|run| Concern::JobEnded { job: self.job, state: run.state });
        paused.into_iter().chain(ended).collect()
    }
}

/// The slot that a daemon would run next.
fn next_slot(settings: &JobSettings, row: Option<&JobRow>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let settled = row.and_then(|row| row.last_slot).map_or(now, |last| last.max(now));
    settings.enabled.then(|| settings.schedule.next_after(settled)).flatten()
}

impl Explanation {
    /// When the job runs from `now` on.
    pub fn of(job: &RegisteredJob, config: &Config, now: DateTime<Utc>) -> Explanation {
        let settings = (job.settings)(config);
        let schedule = &settings.schedule;
        Explanation {
            job: job.name,
            about: job.about,
            schedule: schedule.rule().to_owned(),
            time_zone: schedule.zone().name(),
            in_words: schedule.in_words(),
            enabled: settings.enabled,
            clock_changes: schedule.next_clock_changes(now).iter().map(ExplainedChange::from).collect(),
            warnings: schedule.clock_change_warnings(now),
            next_slots: schedule.between(now, DateTime::<Utc>::MAX_UTC).take(10).collect(),
            outage: scheduler::outage(settings, now - OUTAGE, now),
            full_proof_on: job.takes_full.then_some(config.reports.full_proof_on),
        }
    }
}

impl From<&ClockChange> for ExplainedChange {
    fn from(change: &ClockChange) -> ExplainedChange {
        ExplainedChange {
            at: change.at,
            local_before: change.local_before().to_string(),
            local_after: change.local_after().to_string(),
            forward: change.is_forward(),
        }
    }
}

impl Figures {
    async fn read(database: &Database, reach: Reach) -> Result<Figures, Error> {
        let (counted, summed) = match reach {
            Reach::Whole => (None, None),
            Reach::Page => (Some(MOST_COUNTED), Some(MOST_SUMMED)),
        };
        let sql = include_str!("../sql/status/status_read.sql");
        let row = database.connection().await?.query_one(sql, &[&counted, &summed]).await?;
        Ok(Figures {
            pending: row.try_get("pending")?,
            oldest: row.try_get("oldest")?,
            waiting: row.try_get("waiting")?,
            refused: row.try_get("refused")?,
            parked: row.try_get("parked")?,
            mails_to_send: row.try_get("to_send")?,
            oldest_mail: row.try_get("oldest_mail")?,
            mails_parked: row.try_get("parked_mails")?,
            findings: row.try_get("findings")?,
            accounts_in_arrears: row.try_get("accounts")?,
            arrears: row.try_get("points")?,
            arrears_as_of: None,
        })
    }

    fn concerns(&self) -> Vec<Concern> {
        let late = |wait: Option<i64>, longest: i64| wait.filter(|seconds| *seconds > longest);
        let some = |count: i64| Some(count).filter(|count| *count > 0);
        let concerns = [
            late(self.oldest, LONGEST_WAIT).map(|seconds| Concern::RequestWaits { seconds }),
            some(self.refused).map(|count| Concern::RequestsRefused { count }),
            some(self.parked).map(|count| Concern::RequestsParked { count }),
            late(self.oldest_mail, LONGEST_MAIL_WAIT).map(|seconds| Concern::MailWaits { seconds }),
            some(self.mails_parked).map(|count| Concern::MailsParked { count }),
            some(self.findings).map(|count| Concern::FindingsOpen { count }),
        ];
        concerns.into_iter().flatten().collect()
    }
}

/// A number of seconds that passed, in its two largest units.
pub fn seconds_text(seconds: i64) -> String {
    span_text(TimeDelta::try_seconds(seconds.max(0)).unwrap_or_default())
}

impl Disk {
    fn of(folder: &Path) -> Option<Disk> {
        let statistics = nix::sys::statvfs::statvfs(folder).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(statistics.fragment_size());
        Some(Disk { free: bytes(statistics.blocks_available()), size: bytes(statistics.blocks()) })
    }

    fn is_short(self) -> bool {
        self.free.saturating_mul(100) < self.size.saturating_mul(LEAST_ROOM)
    }
}

impl Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gigabytes = |bytes: u64| format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10);
        write!(f, "{} free of {}", gigabytes(self.free), gigabytes(self.size))
    }
}
