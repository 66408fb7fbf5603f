//! Deletes runs that have been over for long enough.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{Context, Job};
use crate::scheduler::{Ended, Guard, Run};

/// Rows deleted in one transaction: few enough that nobody waits for it.
const CHUNK: i64 = 5_000;

/// The tidying up.
pub const JOB: Job = Job {
    name: "prune",
    about: "deletes runs that are long over",
    settings: |config| &config.jobs.prune,
    work: |context, run| Box::pin(work(context, run)),
    dry_run: |context, slot, stop| {
        Box::pin(async move {
            let mut client = context.database.connection().await?;
            let transaction = client.transaction().await?;
            let mut pruned = Pruned::default();
            while !stop.is_cancelled() && pruned.prune(&transaction, &context, slot).await? > 0 {}
            transaction.rollback().await?;
            Ok(serde_json::to_value(pruned)?)
        })
    },
};

/// What was deleted.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Pruned {
    runs: u64,
}

impl Pruned {
    /// Deletes a chunk; returns how many rows that were.
    async fn prune(
        &mut self,
        transaction: &deadpool_postgres::Transaction<'_>,
        context: &Context,
        slot: DateTime<Utc>,
    ) -> anyhow::Result<u64> {
        let before = |days: u32| slot - TimeDelta::days(i64::from(days));
        let statement = transaction.prepare_cached(include_str!("../../sql/jobs/run_prune.sql")).await?;
        let runs = transaction.execute(&statement, &[&before(context.retention.runs_days), &CHUNK]).await?;
        self.runs += runs;
        Ok(runs)
    }
}

async fn work(context: Context, run: Run) -> anyhow::Result<Ended> {
    let mut pruned: Pruned = run.counters.clone().map(serde_json::from_value).transpose()?.unwrap_or_default();
    let mut client = context.database.connection().await?;
    let guard = run.guard(&client).await?;
    loop {
        if run.stop.is_cancelled() {
            return Ok(Ended::Stopped);
        }
        let transaction = client.transaction().await?;
        let rows = pruned.prune(&transaction, &context, run.slot).await?;
        // How much there is to delete is not known beforehand.
        Guard::keep(&guard, transaction.client(), (pruned.runs, pruned.runs), &pruned).await?;
        transaction.commit().await?;
        if rows == 0 {
            return Ok(Ended::Done(serde_json::to_value(pruned)?));
        }
    }
}
