//! Deletes runs, requests, reports, resolved findings and the record of orders after their retention.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use deadpool_postgres::{Object, Transaction};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Context, Counters, DryRun, INTERRUPTED, Job, RegisteredJob, counters_so_far};
use crate::access;
use crate::config::{Config, MailWay};
use crate::messages::{Messages, args};
use crate::numbers::grouped;
use crate::private_files::Folder;
use crate::proof::prune_findings;
use crate::reports;
use crate::scheduler::{Ended, JobSettings, Run};

/// Rows deleted in one transaction: few enough that no posting waits for its locks.
const CHUNK: i64 = 5_000;

/// Reports deleted in one transaction. Each may have a few megabytes and a folder of files.
const REPORTS: i64 = 100;

/// How long a file that is not whole may have a writer.
const UNFINISHED_FOR: TimeDelta = TimeDelta::days(1);

/// The deletion of old rows and files.
pub struct Prune;

/// Its entry in the registry.
pub const JOB: RegisteredJob = RegisteredJob::new::<Prune>();

impl Job for Prune {
    const NAME: &'static str = "prune";
    const ABOUT: &'static str = "deletes runs, requests, reports, resolved findings and orders after their retention";
    const MAKES_REPORT: bool = false;
    type Counters = Pruned;

    fn settings(config: &Config) -> &JobSettings {
        &config.jobs.prune.settings
    }

    async fn work(context: Context, run: Run) -> anyhow::Result<Ended<Pruned>> {
        let mut pruning = Pruning::new(&context.config, run.slot, counters_so_far(run.counters.clone())?);
        let mut client = Object::take(context.database.connection().await?);
        let guard = run.guard(&client).await?;
        while !pruning.is_done() {
            if run.stop.is_cancelled() {
                return Ok(Ended::Stopped);
            }
            let transaction = client.transaction().await?;
            let folders = pruning.delete_chunk(&transaction).await?;
            let Pruned { runs, requests, reports, findings, orders } = pruning.pruned;
            // The total is unknown until the end.
            let done = runs + requests + reports + findings + orders;
            guard.save_progress(transaction.client(), (done, done), &pruning.pruned).await?;
            // Before the commit: if it fails, the next attempt finds the rows again, and with them the folders.
            let state_dir = context.config.state_dir.clone();
            tokio::task::spawn_blocking(move || reports::remove_files(&folders, &state_dir)).await?;
            transaction.commit().await?;
        }
        let (config, before) = (Arc::clone(&context.config), run.slot - UNFINISHED_FOR);
        tokio::task::spawn_blocking(move || remove_unfinished(&config, before)).await?;
        Ok(Ended::Done(pruning.pruned))
    }

    async fn dry_run(context: Context, slot: DateTime<Utc>, stop: CancellationToken) -> anyhow::Result<DryRun<Pruned>> {
        let mut client = context.database.connection().await?;
        let transaction = client.transaction().await?;
        let mut pruning = Pruning::new(&context.config, slot, Pruned::default());
        while !pruning.is_done() {
            anyhow::ensure!(!stop.is_cancelled(), INTERRUPTED);
            pruning.delete_chunk(&transaction).await?;
        }
        transaction.rollback().await?;
        Ok(DryRun { counters: pruning.pruned, document: None })
    }
}

/// What was deleted.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
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
    /// The record of orders that came over HTTP long ago.
    pub orders: u64,
}

impl Counters for Pruned {
    fn summary(&self, messages: Messages) -> String {
        let parts = self.details(messages).into_iter().filter(|(_, count)| count != "0");
        let part =
            |(what, count): (String, String)| messages.text("run-pruned-part", args![what = what, count = count]);
        let parts: Vec<String> = parts.map(part).collect();
        match parts.as_slice() {
            [] => messages.label("run-pruned-none"),
            parts => messages.text("run-pruned", args![parts = parts.join(&messages.label("run-pruned-separator"))]),
        }
    }

    fn details(&self, messages: Messages) -> Vec<(String, String)> {
        let Pruned { runs, requests, reports, findings, orders } = *self;
        [("runs", runs), ("requests", requests), ("reports", reports), ("findings", findings), ("orders", orders)]
            .map(|(what, count)| (messages.label(&format!("counter-{what}")), grouped(count)))
            .into()
    }
}

/// Removes the files that killed writers left in the state folder, among the reports and among the mails.
fn remove_unfinished(config: &Config, before: DateTime<Utc>) {
    let mails = match &config.mail.way {
        MailWay::Directory { folder, .. } => Some((folder.clone(), 0)),
        MailWay::None | MailWay::Smtp { .. } => None,
    };
    // Reports have a folder each in the folder of their day.
    let places = [(config.state_dir.clone(), 0), (config.state_dir.join("reports"), 2)];
    for (folder, depth) in places.into_iter().chain(mails) {
        let removed = Folder::open(&folder).and_then(|folder| folder.remove_unfinished(before, depth));
        if let Err(error) = removed
            && error.kind() != io::ErrorKind::NotFound
        {
            let folder = folder.display().to_string();
            warn!(folder, %error, "files that killed writers left stay, remove them yourself: {folder}: {error}");
        }
    }
}

/// The deletion in progress.
struct Pruning<'a> {
    config: &'a Config,
    slot: DateTime<Utc>,
    stage: Stage,
    /// The last request that was looked at.
    last_request: i64,
    pruned: Pruned,
}

/// What is deleted, in this order.
enum Stage {
    Runs,
    Requests,
    Reports,
    Findings,
    Orders,
    Done,
}

impl Pruning<'_> {
    fn new(config: &Config, slot: DateTime<Utc>, pruned: Pruned) -> Pruning<'_> {
        Pruning { config, slot, stage: Stage::Runs, last_request: 0, pruned }
    }

    fn before(&self, days: u32) -> DateTime<Utc> {
        self.slot - TimeDelta::days(i64::from(days))
    }

    /// Deletes a chunk. Returns the folders of deleted reports, which the caller removes.
    async fn delete_chunk(&mut self, transaction: &Transaction<'_>) -> anyhow::Result<Vec<PathBuf>> {
        let retention = &self.config.retention;
        let mut folders = Vec::new();
        let (deleted, next) = match self.stage {
            Stage::Runs => {
                let runs = self.delete_runs(transaction, self.before(retention.runs_days)).await?;
                (runs, Stage::Requests)
            }
            Stage::Requests => {
                let looked_at = self.delete_requests(transaction, self.before(retention.requests_days)).await?;
                (looked_at, Stage::Reports)
            }
            Stage::Reports => {
                let before = self.before(retention.reports_days);
                let old = reports::prune(transaction, before, REPORTS, self.config).await?;
                self.pruned.reports += old.documents;
                folders = old.folders;
                (old.documents, Stage::Findings)
            }
            Stage::Findings => {
                let before = self.before(retention.reports_days);
                let findings = prune_findings(transaction.client(), before, CHUNK).await?;
                self.pruned.findings += findings;
                (findings, Stage::Orders)
            }
            Stage::Orders => {
                let before = self.before(retention.reports_days);
                let orders = access::prune(transaction.client(), before, CHUNK).await?;
                self.pruned.orders += orders;
                (orders, Stage::Done)
            }
            Stage::Done => (0, Stage::Done),
        };
        if deleted == 0 {
            self.stage = next;
        }
        Ok(folders)
    }

    async fn delete_runs(&mut self, transaction: &Transaction<'_>, before: DateTime<Utc>) -> anyhow::Result<u64> {
        let statement = transaction.prepare_cached(include_str!("../../sql/runs/run_prune.sql")).await?;
        let runs = transaction.execute(&statement, &[&before, &CHUNK]).await?;
        self.pruned.runs += runs;
        Ok(runs)
    }

    /// Returns how many requests were looked at, because a chunk may have none to delete.
    async fn delete_requests(&mut self, transaction: &Transaction<'_>, before: DateTime<Utc>) -> anyhow::Result<u64> {
        let statement = transaction.prepare_cached(include_str!("../../sql/requests/request_prune.sql")).await?;
        let row = transaction.query_one(&statement, &[&before, &CHUNK, &self.last_request]).await?;
        let (requests, old, last): (i64, i64, Option<i64>) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        self.pruned.requests += u64::try_from(requests)?;
        self.last_request = last.unwrap_or(self.last_request);
        Ok(u64::try_from(old)?)
    }

    fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }
}
