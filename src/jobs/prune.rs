//! Deletes runs and requests that have been over for long enough.

use chrono::{DateTime, TimeDelta, Utc};
use deadpool_postgres::{Object, Transaction};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{Context, Job};
use crate::scheduler::{Ended, Guard, Run};

/// Rows deleted in one transaction: few enough that nobody waits for it.
const CHUNK: i64 = 5_000;

/// The tidying up.
pub const JOB: Job = Job {
    name: "prune",
    about: "deletes runs and requests that are long over",
    settings: |config| &config.jobs.prune,
    work: |context, run| Box::pin(work(context, run)),
    dry_run: |context, slot, stop| Box::pin(dry_run(context, slot, stop)),
};

/// What was deleted.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Pruned {
    runs: u64,
    requests: u64,
}

/// What is to be deleted, and how far that is.
struct Pruning {
    runs_before: DateTime<Utc>,
    requests_before: DateTime<Utc>,
    /// The last request that was looked at.
    last_request: i64,
    runs_done: bool,
}

impl Pruning {
    fn new(context: &Context, slot: DateTime<Utc>) -> Pruning {
        let before = |days: u32| slot - TimeDelta::days(i64::from(days));
        Pruning {
            runs_before: before(context.config.retention.runs_days),
            requests_before: before(context.config.retention.requests_days),
            last_request: 0,
            runs_done: false,
        }
    }

    /// Deletes a chunk; false where nothing is left.
    async fn chunk(&mut self, transaction: &Transaction<'_>, pruned: &mut Pruned) -> anyhow::Result<bool> {
        if !self.runs_done {
            let statement = transaction.prepare_cached(include_str!("../../sql/jobs/run_prune.sql")).await?;
            let runs = transaction.execute(&statement, &[&self.runs_before, &CHUNK]).await?;
            pruned.runs += runs;
            self.runs_done = runs == 0;
            return Ok(true);
        }
        let statement = transaction.prepare_cached(include_str!("../../sql/requests/request_prune.sql")).await?;
        let row = transaction.query_one(&statement, &[&self.requests_before, &CHUNK, &self.last_request]).await?;
        let (requests, old, last): (i64, i64, Option<i64>) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        pruned.requests += u64::try_from(requests)?;
        self.last_request = last.unwrap_or(self.last_request);
        Ok(old > 0)
    }
}

async fn work(context: Context, run: Run) -> anyhow::Result<Ended> {
    let mut pruned: Pruned = run.counters.clone().map(serde_json::from_value).transpose()?.unwrap_or_default();
    let mut pruning = Pruning::new(&context, run.slot);
    let mut client = Object::take(context.database.connection().await?);
    let guard = run.guard(&client).await?;
    loop {
        if run.stop.is_cancelled() {
            return Ok(Ended::Stopped);
        }
        let transaction = client.transaction().await?;
        let more = pruning.chunk(&transaction, &mut pruned).await?;
        // How much there is to delete is not known beforehand.
        let done = pruned.runs + pruned.requests;
        Guard::keep(&guard, transaction.client(), (done, done), &pruned).await?;
        transaction.commit().await?;
        if !more {
            return Ok(Ended::Done(serde_json::to_value(pruned)?));
        }
    }
}

async fn dry_run(context: Context, slot: DateTime<Utc>, stop: CancellationToken) -> anyhow::Result<serde_json::Value> {
    let mut client = context.database.connection().await?;
    let transaction = client.transaction().await?;
    let (mut pruned, mut pruning) = (Pruned::default(), Pruning::new(&context, slot));
    while !stop.is_cancelled() && pruning.chunk(&transaction, &mut pruned).await? {}
    transaction.rollback().await?;
    Ok(serde_json::to_value(pruned)?)
}
