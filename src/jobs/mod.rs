//! The jobs: what pointsd does at each slot of a schedule. Each job is a type in a file of its own; `REGISTRY` lists all.
//!
//! A job states by its type what the command line and the daemon need: its counters, whether an operator must look at
//! them, its result in a sentence, and its options. No caller compares job names or reads JSON fields.

pub mod arrears;
pub mod expiry;
pub mod month_end;
pub mod prune;
pub mod reconciliation;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use deadpool_postgres::Object;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_postgres::CancelToken;
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::database::Database;
use crate::document::Document;
use crate::language::Language;
use crate::ledger::{CLOCK_TOLERANCE, Rules};
use crate::messages::Messages;
use crate::reports::pipeline::{Made, Pipeline, Report};
use crate::scheduler::{self, Completed, Ended, JobSettings, Run, RunRow, Store, Work};

/// What a job works with.
#[derive(Clone)]
pub struct Context {
    /// The ledger's database, migrated.
    pub database: Database,
    /// The rules of the ledger.
    pub rules: Arc<Rules>,
    /// The whole configuration.
    pub config: Arc<Config>,
    /// Whether `--full` was given, for a job that takes it.
    pub full: bool,
}

impl Context {
    /// The context that the configuration describes, on this database.
    pub fn new(config: &Config, database: &Database) -> Context {
        let rules = Arc::new(Rules::from(config));
        Context { database: database.clone(), rules, config: Arc::new(config.clone()), full: false }
    }
}

impl Context {
    /// Makes and keeps a report for a run. None if the run was told to stop.
    async fn publish<R>(&self, run: &Run, report: &R) -> anyhow::Result<Option<Made<R>>>
    where
        R: Report<Counters: Serialize + std::fmt::Debug>,
    {
        let mut client = Object::take(self.database.connection().await?);
        let (token, pipeline) =
            (client.cancel_token(), Pipeline { config: &self.config, slot: run.slot, run: run.run });
        let work = async {
            let guard = run.guard(&client).await?;
            Ok(pipeline.publish(report, &mut client, &guard).await?)
        };
        interruptible(&self.database, &[token], &run.stop, work).await
    }

    /// Makes a report and rolls everything back.
    async fn rehearse<R: Report>(
        &self,
        slot: DateTime<Utc>,
        stop: &CancellationToken,
        report: &R,
    ) -> anyhow::Result<Made<R>> {
        const NO_RUN: i64 = 0;
        let mut client = Object::take(self.database.connection().await?);
        let (token, pipeline) = (client.cancel_token(), Pipeline { config: &self.config, slot, run: NO_RUN });
        let work = async { Ok(pipeline.rehearse(report, &mut client).await?) };
        interruptible(&self.database, &[token], stop, work).await?.context(INTERRUPTED)
    }
}

/// What a job counts in a run. The run log keeps it as JSON, and a later attempt goes on from it.
pub trait Counters: Send + Sync {
    /// Whether an operator must look at the result of a run that succeeded. `pointsd run` then exits with 3, and the
    /// dead man's switch gets the same status.
    fn needs_attention(&self) -> bool {
        false
    }

    /// The result in a sentence for the operator, without a full stop.
    fn summary(&self, messages: Messages) -> String;

    /// The parts of the result: a label and a value each.
    fn details(&self, _messages: Messages) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// What a dry run found.
pub struct DryRun<C> {
    /// What a run would count.
    pub counters: C,
    /// The report that a run would make, if the dry run can make it.
    pub document: Option<Document>,
}

/// A job. Its name is the same in the configuration, in the run log, on the command line and on its report.
pub trait Job: Send + Sync + 'static {
    /// The name.
    const NAME: &'static str;
    /// What the job does, in a few words.
    const ABOUT: &'static str;
    /// Whether each run makes a report.
    const MAKES_REPORT: bool;
    /// Whether the command line prints the report itself. Otherwise it prints the counters and the report's number.
    const PRINTS_REPORT: bool = Self::MAKES_REPORT;
    /// Whether the job reports on the present, so that a slot in the future makes no sense.
    const REPORTS_ON_PRESENT: bool = false;
    /// Whether the job normally does a part of its work, and all of it with `--full`.
    const TAKES_FULL: bool = false;

    /// What the job counts.
    type Counters: Counters + Serialize + DeserializeOwned;

    /// When the job runs, and how.
    fn settings(config: &Config) -> &JobSettings;

    /// Does the work of a slot. Work that is done twice changes nothing the second time.
    fn work(context: Context, run: Run) -> impl Future<Output = anyhow::Result<Ended<Self::Counters>>> + Send;

    /// Runs the same code and rolls it back.
    fn dry_run(
        context: Context,
        slot: DateTime<Utc>,
        stop: CancellationToken,
    ) -> impl Future<Output = anyhow::Result<DryRun<Self::Counters>>> + Send;
}

/// Counters of a job whose type the caller does not know.
pub struct Counted {
    /// The counters as the run log keeps them.
    pub json: Value,
    /// The counters.
    pub counters: Box<dyn Counters>,
}

impl Counted {
    fn new<C: Counters + Serialize + 'static>(counters: C) -> anyhow::Result<Counted> {
        Ok(Counted { json: serde_json::to_value(&counters)?, counters: Box::new(counters) })
    }
}

/// A dry run in progress.
pub type Rehearsal = BoxFuture<'static, anyhow::Result<DryRun<Counted>>>;

/// A [`Job`] without its type: an entry of the registry.
pub struct RegisteredJob {
    /// [`Job::NAME`].
    pub name: &'static str,
    /// [`Job::ABOUT`].
    pub about: &'static str,
    /// [`Job::MAKES_REPORT`].
    pub makes_report: bool,
    /// [`Job::PRINTS_REPORT`].
    pub prints_report: bool,
    /// [`Job::REPORTS_ON_PRESENT`].
    pub reports_on_present: bool,
    /// [`Job::TAKES_FULL`].
    pub takes_full: bool,
    /// [`Job::settings`].
    pub settings: fn(&Config) -> &JobSettings,
    /// [`Job::work`].
    pub work: fn(Context, Run) -> Work,
    /// [`Job::dry_run`].
    pub dry_run: fn(Context, DateTime<Utc>, CancellationToken) -> Rehearsal,
    /// Reads counters that the run log kept.
    pub counted: fn(Value) -> anyhow::Result<Counted>,
}

/// Every job.
pub const REGISTRY: &[RegisteredJob] = &[expiry::JOB, reconciliation::JOB, arrears::JOB, month_end::JOB, prune::JOB];

impl RegisteredJob {
    /// The entry of a job.
    pub const fn new<J: Job>() -> RegisteredJob {
        RegisteredJob {
            name: J::NAME,
            about: J::ABOUT,
            makes_report: J::MAKES_REPORT,
            prints_report: J::PRINTS_REPORT,
            reports_on_present: J::REPORTS_ON_PRESENT,
            takes_full: J::TAKES_FULL,
            settings: J::settings,
            work: |context, run| Box::pin(work::<J>(context, run)),
            dry_run: |context, slot, stop| Box::pin(dry_run::<J>(context, slot, stop)),
            counted: |json| Counted::new(serde_json::from_value::<J::Counters>(json)?),
        }
    }

    /// The job of this name.
    pub fn named(name: &str) -> Option<&'static RegisteredJob> {
        REGISTRY.iter().find(|job| job.name == name)
    }

    /// Pauses the job in the name of an operator, or resumes it with `None`.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn pause(
        &self,
        store: &Store,
        config: &Config,
        by: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<(), scheduler::Error> {
        if !store.pause(self.name, by).await? {
            // No daemon has ever known it: the first one is to find it paused.
            store.add(self.name, (self.settings)(config), now).await?;
            store.pause(self.name, by).await?;
        }
        Ok(())
    }

    /// Whether the job may run for a slot. A slot in the future is refused: a wrong year would expire points that are valid, or
    /// delete rows that are not old. A dry run may look ahead, unless the job reports on the present.
    pub fn takes_slot(&self, slot: DateTime<Utc>, now: DateTime<Utc>, dry_run: bool) -> bool {
        slot <= now + CLOCK_TOLERANCE || dry_run && !self.reports_on_present
    }

    /// The job as the scheduler sees it.
    pub fn scheduled(&self, config: &Config, context: &Context) -> scheduler::ScheduledJob {
        let (work, context) = (self.work, context.clone());
        let settings = (self.settings)(config).clone();
        scheduler::ScheduledJob { name: self.name, settings, work: Arc::new(move |run| work(context.clone(), run)) }
    }
}

async fn work<J: Job>(context: Context, run: Run) -> anyhow::Result<Ended> {
    let completed = |counters: J::Counters| {
        let (needs_attention, summary) = (counters.needs_attention(), counters.summary(OPERATOR));
        anyhow::Ok(Completed { counters: serde_json::to_value(counters)?, needs_attention, summary })
    };
    Ok(match J::work(context, run).await? {
        Ended::Done(counters) => Ended::Done(completed(counters)?),
        Ended::Stopped => Ended::Stopped,
        Ended::Disproved { counters, reason } => Ended::Disproved { counters: completed(counters)?, reason },
    })
}

async fn dry_run<J: Job>(
    context: Context,
    slot: DateTime<Utc>,
    stop: CancellationToken,
) -> anyhow::Result<DryRun<Counted>> {
    let DryRun { counters, document } = J::dry_run(context, slot, stop).await?;
    Ok(DryRun { counters: Counted::new(counters)?, document })
}

/// The messages of the command line and of log lines.
pub const OPERATOR: Messages = Messages::new(Language::English);

/// What a run did, in a sentence. Counters that this version cannot read are shown as they are.
pub fn summary(run: &RunRow, messages: Messages) -> String {
    let Some(counters) = &run.counters else { return messages.label("run-nothing") };
    let counted = RegisteredJob::named(&run.job).and_then(|job| (job.counted)(counters.clone()).ok());
    counted.map_or_else(|| counters.to_string(), |counted| counted.counters.summary(messages))
}

/// All jobs as the scheduler sees them.
pub fn scheduled(config: &Config, database: &Database) -> Vec<scheduler::ScheduledJob> {
    let context = Context::new(config, database);
    REGISTRY.iter().map(|job| job.scheduled(config, &context)).collect()
}

/// The counters that earlier attempts of a run kept, or none counted yet.
fn counters_so_far<C: DeserializeOwned + Default>(kept: Option<Value>) -> anyhow::Result<C> {
    match kept {
        Some(counters) => serde_json::from_value(counters).context("the counters of an earlier attempt"),
        None => Ok(C::default()),
    }
}

/// Why a dry run has no result.
const INTERRUPTED: &str = "it was interrupted; nothing was changed";

/// A cancelled statement may have ended before the server got the request. The next statement is cancelled after this time.
const CANCEL_EVERY: Duration = Duration::from_secs(1);

/// Does work whose statements may take minutes. Once `stop` is cancelled, so is every statement on the connections of
/// `tokens` until the work has ended. Returns None if the cancellation cut the work off.
async fn interruptible<T>(
    database: &Database,
    tokens: &[CancelToken],
    stop: &CancellationToken,
    work: impl Future<Output = anyhow::Result<T>> + Send,
) -> anyhow::Result<Option<T>> {
    let mut work = pin!(work);
    if let Some(done) = stop.run_until_cancelled(&mut work).await {
        return done.map(Some);
    }
    loop {
        for token in tokens {
            database.cancel(token).await;
        }
        match tokio::time::timeout(CANCEL_EVERY, &mut work).await {
            Ok(Err(error)) if was_cancelled(&error) => return Ok(None),
            Ok(done) => return done.map(Some),
            Err(_) => {}
        }
    }
}

fn was_cancelled(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<tokio_postgres::Error>());
    causes.any(|cause| cause.code() == Some(&SqlState::QUERY_CANCELED))
}
