//! The jobs: what pointsd does for each slot of a schedule. One file a job, one registry.

pub mod arrears;
pub mod expiry;
pub mod prune;
pub mod reconciliation;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio_postgres::CancelToken;
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config};
use crate::database::Database;
use crate::ledger::Rules;
use crate::scheduler::{self, Run, Work};

/// What a job works with.
#[derive(Clone)]
pub struct Context {
    /// The ledger's database, migrated.
    pub database: Database,
    /// The business's choices.
    pub rules: Arc<Rules>,
    /// The whole configuration.
    pub config: Arc<Config>,
    /// Somebody asked for the whole of it, where the job would do a part: prove everything from the first entry on.
    pub full: bool,
}

impl Context {
    /// What the configuration says, on this database.
    pub fn new(config: &Config, database: &Database) -> Context {
        let rules = Arc::new(Rules::from(config));
        Context { database: database.clone(), rules, config: Arc::new(config.clone()), full: false }
    }
}

/// A job: its file, and what the scheduler and the command line need of it.
pub struct Job {
    /// Its name in the configuration, in the log and on the command line.
    pub name: &'static str,
    /// What it does, in a few words.
    pub about: &'static str,
    /// When it runs, and how.
    pub settings: fn(&Config) -> &config::Job,
    /// Does the work of a slot. Doing a slot twice changes nothing that was done.
    pub work: fn(Context, Run) -> Work,
    /// Counts what the work of a slot would do: the same code, rolled back.
    pub dry_run: fn(Context, DateTime<Utc>, CancellationToken) -> BoxFuture<'static, anyhow::Result<Value>>,
}

/// Every job that there is.
pub const REGISTRY: &[Job] = &[expiry::JOB, reconciliation::JOB, arrears::JOB, prune::JOB];

impl Job {
    /// The job of this name.
    pub fn named(name: &str) -> Option<&'static Job> {
        REGISTRY.iter().find(|job| job.name == name)
    }

    /// The job as the scheduler sees it.
    pub fn scheduled(&self, config: &Config, context: &Context) -> scheduler::Job {
        let (work, context) = (self.work, context.clone());
        let settings = (self.settings)(config).clone();
        scheduler::Job { name: self.name, settings, work: Arc::new(move |run| work(context.clone(), run)) }
    }
}

/// A statement that was cancelled, and went on all the same, is cancelled again after this time: it had ended when the
/// server heard of it, and the next one had begun.
const CANCEL_EVERY: Duration = Duration::from_secs(1);

/// Does work whose statements may take minutes. When `stop` is cancelled, so is what is under way on the connection of
/// `token`, until the work has ended; None where it was cut off by that.
async fn interruptible<T>(
    database: &Database,
    token: CancelToken,
    stop: &CancellationToken,
    work: impl Future<Output = anyhow::Result<T>> + Send,
) -> anyhow::Result<Option<T>> {
    let mut work = pin!(work);
    if let Some(done) = stop.run_until_cancelled(&mut work).await {
        return done.map(Some);
    }
    loop {
        database.cancel(&token).await;
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

/// Whether a run succeeded and found what somebody should look at, by its counters: due batches that have no account,
/// findings of a proof, arrears that entries do not explain. `pointsd run` ends with 3 then.
pub fn is_answer_no(counters: &Value) -> bool {
    ["orphaned", "findings", "unexplained", "undated", "difference"]
        .iter()
        .any(|name| counters.get(name).and_then(Value::as_i64).is_some_and(|count| count != 0))
}

/// All of them as the scheduler sees them.
pub fn scheduled(config: &Config, database: &Database) -> Vec<scheduler::Job> {
    let context = Context::new(config, database);
    REGISTRY.iter().map(|job| job.scheduled(config, &context)).collect()
}
