//! Deletes runs, requests, reports and findings that have been over for long enough.

use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use deadpool_postgres::{Object, Transaction};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{Context, Counters, DryRun, INTERRUPTED, Job, RegisteredJob, counters_so_far};
use crate::config::{self, Config};
use crate::numbers::grouped;
use crate::proof::prune_findings;
use crate::reports;
use crate::scheduler::{Ended, Guard, Run};

/// Rows deleted in one transaction: few enough that nobody waits for it.
const CHUNK: i64 = 5_000;

/// Reports deleted in one transaction: each may have a few megabytes, and a folder of files.
const REPORTS: i64 = 100;

/// The deletion of old rows and files.
pub struct Prune;

/// Its entry in the registry.
pub const JOB: RegisteredJob = RegisteredJob::of::<Prune>();

impl Job for Prune {
    const NAME: &'static str = "prune";
    const ABOUT: &'static str = "deletes runs, requests, reports and resolved findings after their retention";
    const MAKES_REPORT: bool = false;
    type Counters = Pruned;

    fn settings(config: &Config) -> &config::Job {
        &config.jobs.prune
    }

    async fn work(context: Context, run: Run) -> anyhow::Result<Ended<Pruned>> {
        work(context, run).await
    }

    async fn dry_run(context: Context, slot: DateTime<Utc>, stop: CancellationToken) -> anyhow::Result<DryRun<Pruned>> {
        dry_run(context, slot, stop).await
    }
}

/// What was deleted.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Pruned {
    /// Runs that ended long ago.
    pub runs: u64,
    /// Requests that were answered long ago.
    pub requests: u64,
    /// Reports, with their mails and files.
    pub reports: u64,
    /// Findings that were resolved long ago.
    pub findings: u64,
}

impl Counters for Pruned {
    fn summary(&self) -> String {
        let Pruned { runs, requests, reports, findings } = *self;
        if runs + requests + reports + findings == 0 {
            return "nothing to delete".to_owned();
        }
        let parts = self.details().into_iter().filter(|(_, count)| count != "0");
        let parts: Vec<String> = parts.map(|(what, count)| format!("{count} {what}")).collect();
        format!("deleted {}", parts.join(", "))
    }

    fn details(&self) -> Vec<(String, String)> {
        let Pruned { runs, requests, reports, findings } = *self;
        [("runs", runs), ("requests", requests), ("reports", reports), ("findings", findings)]
            .map(|(what, count)| (what.to_owned(), grouped(count)))
            .into()
    }
}

/// What is to be deleted, and how far that is.
struct Pruning {
    runs_before: DateTime<Utc>,
    requests_before: DateTime<Utc>,
    reports_before: DateTime<Utc>,
    /// The last request that was looked at.
    last_request: i64,
    next: What,
}

/// What is looked at, in this order.
enum What {
    Runs,
    Requests,
    Reports,
    Findings,
    Nothing,
}

impl Pruning {
    fn new(context: &Context, slot: DateTime<Utc>) -> Pruning {
        let before = |days: u32| slot - TimeDelta::days(i64::from(days));
        Pruning {
            runs_before: before(context.config.retention.runs_days),
            requests_before: before(context.config.retention.requests_days),
            reports_before: before(context.config.retention.reports_days),
            last_request: 0,
            next: What::Runs,
        }
    }

    /// Deletes a chunk. Files of reports are left to the caller.
    async fn chunk(
        &mut self,
        transaction: &Transaction<'_>,
        config: &Config,
        pruned: &mut Pruned,
    ) -> anyhow::Result<Vec<PathBuf>> {
        let mut folders = Vec::new();
        match self.next {
            What::Runs => {
                let statement = transaction.prepare_cached(include_str!("../../sql/jobs/run_prune.sql")).await?;
                let runs = transaction.execute(&statement, &[&self.runs_before, &CHUNK]).await?;
                pruned.runs += runs;
                self.go_on(runs > 0, What::Requests);
            }
            What::Requests => {
                let sql = include_str!("../../sql/requests/request_prune.sql");
                let statement = transaction.prepare_cached(sql).await?;
                let row =
                    transaction.query_one(&statement, &[&self.requests_before, &CHUNK, &self.last_request]).await?;
                let (requests, old, last): (i64, i64, Option<i64>) =
                    (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
                pruned.requests += u64::try_from(requests)?;
                self.last_request = last.unwrap_or(self.last_request);
                self.go_on(old > 0, What::Reports);
            }
            What::Reports => {
                let old = reports::prune(transaction, self.reports_before, REPORTS, config).await?;
                pruned.reports += old.documents;
                folders = old.folders;
                self.go_on(old.documents > 0, What::Findings);
            }
            What::Findings => {
                let findings = prune_findings(transaction.client(), self.reports_before, CHUNK).await?;
                pruned.findings += findings;
                self.go_on(findings > 0, What::Nothing);
            }
            What::Nothing => {}
        }
        Ok(folders)
    }

    fn go_on(&mut self, more: bool, next: What) {
        if !more {
            self.next = next;
        }
    }

    fn is_done(&self) -> bool {
        matches!(self.next, What::Nothing)
    }
}

async fn work(context: Context, run: Run) -> anyhow::Result<Ended<Pruned>> {
    let mut pruned: Pruned = counters_so_far(&run)?;
    let mut pruning = Pruning::new(&context, run.slot);
    let mut client = Object::take(context.database.connection().await?);
    let guard = run.guard(&client).await?;
    loop {
        if run.stop.is_cancelled() {
            return Ok(Ended::Stopped);
        }
        let transaction = client.transaction().await?;
        let folders = pruning.chunk(&transaction, &context.config, &mut pruned).await?;
        // How much there is to delete is not known beforehand.
        let done = pruned.runs + pruned.requests + pruned.reports + pruned.findings;
        Guard::keep(&guard, transaction.client(), (done, done), &pruned).await?;
        // Before the rows are gone: who is killed here, or whose commit fails, finds them again.
        tokio::task::spawn_blocking(move || reports::remove_files(&folders)).await?;
        transaction.commit().await?;
        if pruning.is_done() {
            return Ok(Ended::Done(pruned));
        }
    }
}

async fn dry_run(context: Context, slot: DateTime<Utc>, stop: CancellationToken) -> anyhow::Result<DryRun<Pruned>> {
    let mut client = context.database.connection().await?;
    let transaction = client.transaction().await?;
    let (mut pruned, mut pruning) = (Pruned::default(), Pruning::new(&context, slot));
    while !pruning.is_done() {
        anyhow::ensure!(!stop.is_cancelled(), INTERRUPTED);
        pruning.chunk(&transaction, &context.config, &mut pruned).await?;
    }
    transaction.rollback().await?;
    Ok(DryRun { counters: pruned, document: None })
}
