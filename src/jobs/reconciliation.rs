//! Proves the books, closes the business days that are over, and reports both.

use std::collections::BTreeMap;
use std::iter;

use anyhow::Context as _;
use chrono::{DateTime, Datelike, TimeDelta, Utc};
use deadpool_postgres::{ClientWrapper, Object};
use tokio_postgres::{Client, IsolationLevel};
use tokio_util::sync::CancellationToken;
use tracing::error;
use uuid::Uuid;

use super::{Context, Counters, DryRun, INTERRUPTED, Job, RegisteredJob, counters_so_far, interruptible};
use crate::books::{close_days, load_last_day, load_sealed, lock_days, recompute_days, seal_days, tie_out, tie_out_in};
use crate::config::Config;
use crate::database::{Cursor, snapshot};
use crate::document::Document;
use crate::ledger::{CUTOFF_LIMIT, cutoff};
use crate::messages::{Messages, args};
use crate::numbers::count;
use crate::proof::{
    Asked, Finding, Lane, Proof, count_whole_ledger_findings, examine_bucket, load_state, prepare_session, prove,
    record_findings_of_bucket, record_whole_ledger_findings, resolve_findings,
};
use crate::reports::pipeline::{Pipeline, Report, Scope};
use crate::reports::reconciliation::{REPORT, ReconciliationReport};
use crate::scheduler::{Ended, Guard, JobSettings, Run};

/// The proof of the books.
pub struct Reconciliation;

/// Its entry in the registry.
pub const JOB: RegisteredJob = RegisteredJob::new::<Reconciliation>();

impl Job for Reconciliation {
    const NAME: &'static str = REPORT;
    const ABOUT: &'static str = "proves the books and reports the points roll-forward";
    const MAKES_REPORT: bool = true;
    const REPORTS_ON_PRESENT: bool = true;
    const TAKES_FULL: bool = true;
    type Counters = Proof;

    fn settings(config: &Config) -> &JobSettings {
        &config.jobs.reconciliation.settings
    }

    async fn work(context: Context, run: Run) -> anyhow::Result<Ended<Proof>> {
        let mut client = Object::take(context.database.connection().await?);
        let mut beside = Vec::new();
        while beside.len() + 1 < context.config.jobs.reconciliation_lanes {
            beside.push(Object::take(context.database.connection().await?));
        }
        let tokens: Vec<_> = iter::once(&client).chain(&beside).map(|client| client.cancel_token()).collect();
        let work = prove_and_report(&context, &run, &mut client, &mut beside);
        Ok(interruptible(&context.database, &tokens, &run.stop, work).await?.unwrap_or(Ended::Stopped))
    }

    async fn dry_run(context: Context, slot: DateTime<Utc>, stop: CancellationToken) -> anyhow::Result<DryRun<Proof>> {
        let mut client = Object::take(context.database.connection().await?);
        let token = client.cancel_token();
        let work = examine_and_report(&context.config, slot, &stop, &mut client);
        interruptible(&context.database, &[token], &stop, work).await?.flatten().context(INTERRUPTED)
    }
}

impl Counters for Proof {
    fn needs_attention(&self) -> bool {
        self.findings > 0
    }

    fn summary(&self, messages: Messages) -> String {
        let Proof { accounts, entries, findings, new, .. } = *self;
        match findings {
            0 => messages.text("run-proved", args![accounts = accounts, entries = entries]),
            _ => messages.text("run-proved-exceptions", args![findings = findings, new = new]),
        }
    }
}

/// Accounts that a dry run examines at once.
const EXAMINED_AT_ONCE: usize = 1_000;

/// Whether the run proves everything: with `--full`, on the weekday that the configuration names, and if that day's slot was
/// missed or failed, a week after the last such proof.
fn is_full(context: &Context, slot: DateTime<Utc>, full_at: Option<DateTime<Utc>>) -> bool {
    let zone = context.config.jobs.reconciliation.settings.schedule.zone();
    let weekly = context.config.reports.full_proof_on.is_some_and(|day| {
        slot.with_timezone(&zone).weekday() == day
            || full_at.is_none_or(|full_at| slot - full_at >= TimeDelta::weeks(1))
    });
    context.full || weekly
}

async fn prove_and_report(
    context: &Context,
    run: &Run,
    client: &mut ClientWrapper,
    beside: &mut [ClientWrapper],
) -> anyhow::Result<Ended<Proof>> {
    let so_far: Proof = counters_so_far(run.counters.clone())?;
    prepare_session(client).await?;
    let full_until = load_state(client).await?.full_until;
    let full = so_far.full || is_full(context, run.slot, full_until);
    let guard = run.guard(client).await?;
    let mut guards = Vec::new();
    for client in &*beside {
        prepare_session(client).await?;
        guards.push(run.guard(client).await?);
    }

    let cutoff = cutoff(client, CUTOFF_LIMIT).await?;
    let transaction = client.transaction().await?;
    lock_days(transaction.client()).await?;
    let closed = close_days(transaction.client(), context.config.time_zone, cutoff).await?;
    let closed_until = load_last_day(transaction.client()).await?.map(|last| last.ended);
    guard.save_progress(transaction.client(), (0, 0), &so_far).await?;
    transaction.commit().await?;

    let asked = Asked { run: run.run, full, cutoff, closed_until };
    let lanes = beside.iter_mut().zip(&guards);
    let mut lanes: Vec<Lane<'_, Guard>> = lanes.map(|(client, also)| Lane { client, also }).collect();
    let first = Lane { client: &mut *client, also: &guard };
    let proof = prove(first, &mut lanes, asked, so_far, |_| !run.stop.is_cancelled()).await?;
    if proof.stopped {
        return Ok(Ended::Stopped);
    }

    let recompute = days_may_have_changed(client, &proof).await?;
    let proceed = || !run.stop.is_cancelled();
    let books = tie_out(client, context.config.time_zone, recompute, proceed).await?;
    let Some(mut books) = books else { return Ok(Ended::Stopped) };
    books.findings.extend(closed.refused);
    let transaction = client.transaction().await?;
    record_whole_ledger_findings(transaction.client(), run.run, books.as_of, &books.findings).await?;
    seal_days(transaction.client(), &books.seals).await?;
    guard.save_progress(transaction.client(), (0, 0), &proof).await?;
    transaction.commit().await?;

    let pipeline = Pipeline { config: &context.config, slot: run.slot, run: run.run };
    let report = ReconciliationReport { proof: &proof, full_until, books: &books };
    let made = pipeline.publish(&report, client, &guard).await?;
    alert(run, &made.counters, &made.document);
    Ok(Ended::Done(made.counters))
}

/// Whether the closed days must be computed again from their entries. They need not, if their rows are as they were sealed, and a full
/// proof has just read the same entries and found every batch as it was. While a finding about the ledger as a whole stands, they
/// are: the tie-out then finds it again, or it is resolved.
async fn days_may_have_changed(client: &Client, proof: &Proof) -> anyhow::Result<bool> {
    if count_whole_ledger_findings(client).await? > 0 {
        return Ok(true);
    }
    let sealed = load_sealed(client).await?;
    Ok(sealed.is_none()
        || proof.full && (proof.findings > 0 || proof.closed.unwrap_or_default() != sealed.unwrap_or_default()))
}

/// Logs an error for findings, although the run has succeeded: an operator must look at them.
fn alert(run: &Run, proof: &Proof, document: &Document) {
    if proof.findings > 0 {
        let (findings, new, headline) = (proof.findings, proof.new, &document.headline);
        error!(job = REPORT, run_id = run.run, findings, new, headline, "{REPORT}: {headline}");
    }
}

/// Examines every account by the checks alone, without the screens before them. The report is made in one transaction at the
/// end, which is rolled back, so that a run at the same time hardly waits for its rows. None if it was stopped.
async fn examine_and_report(
    config: &Config,
    slot: DateTime<Utc>,
    stop: &CancellationToken,
    client: &mut ClientWrapper,
) -> anyhow::Result<Option<DryRun<Proof>>> {
    const NO_RUN: i64 = 0;
    prepare_session(client).await?;
    let Some(findings) = examine_all(client, stop).await? else { return Ok(None) };
    let now = cutoff(client, CUTOFF_LIMIT).await?;
    // A run that is closing days ends first, so that the snapshot has them. The lock is not kept, so that no run waits for this.
    let closing = client.transaction().await?;
    lock_days(closing.client()).await?;
    closing.commit().await?;
    let transaction = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start().await?;
    let closed = close_days(transaction.client(), config.time_zone, now).await?;
    let recomputed = recompute_days(transaction.client(), &mut || !stop.is_cancelled()).await?;
    let Some(recomputed) = recomputed else { return Ok(None) };
    let mut books = tie_out_in(transaction.client(), config.time_zone, Some(&recomputed)).await?;
    books.findings.extend(closed.refused);
    record_whole_ledger_findings(transaction.client(), NO_RUN, now, &books.findings).await?;
    for (bucket, findings) in findings {
        record_findings_of_bucket(transaction.client(), NO_RUN, now, bucket, &findings).await?;
    }
    resolve_findings(transaction.client(), NO_RUN, now).await?;
    let row = transaction.query_one(include_str!("../../sql/proof/ledger_count.sql"), &[]).await?;
    let count = |column: usize| row.try_get(column).map(count);
    let proof = Proof { full: true, accounts: count(0)?, batches: count(1)?, entries: count(2)?, ..Proof::default() };
    let scope = Scope { config, slot, run: NO_RUN, as_of: books.as_of, folder: None };
    let report = ReconciliationReport { proof: &proof, full_until: None, books: &books };
    let facts = report.gather(&transaction, &scope).await?;
    transaction.rollback().await?;
    let document = report.document(&facts, &scope);
    Ok(Some(DryRun { counters: facts.proof, document: Some(document) }))
}

/// The findings of all users with their bucket, group by group, each in a snapshot of its own. None if it was stopped.
async fn examine_all(
    client: &mut ClientWrapper,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Vec<(i16, Vec<Finding>)>>> {
    let declare = include_str!("../../sql/proof/user_declare.sql");
    let all = Cursor::open(client, "users", declare, &[], EXAMINED_AT_ONCE).await?;
    let mut findings = Vec::new();
    while let Some(rows) = all.fetch(client).await? {
        if stop.is_cancelled() {
            return Ok(None);
        }
        let mut users: BTreeMap<i16, Vec<Uuid>> = BTreeMap::new();
        for row in &rows {
            users.entry(row.try_get(0)?).or_default().push(row.try_get(1)?);
        }
        let snapshot = snapshot(client).await?;
        for (bucket, users) in users {
            findings.push((bucket, examine_bucket(snapshot.client(), bucket, &users).await?));
        }
        snapshot.commit().await?;
    }
    all.close(client).await?;
    Ok(Some(findings))
}
