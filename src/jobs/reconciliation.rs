//! Proves the books, closes the business days that are over, and reports both.

use anyhow::Context as _;
use chrono::{DateTime, Datelike, TimeDelta, Utc};
use deadpool_postgres::{ClientWrapper, Object, Transaction};
use serde_json::{Value, json};
use tokio_postgres::{Client, IsolationLevel};
use tokio_util::sync::CancellationToken;
use tracing::error;
use uuid::Uuid;

use super::{Context, Job, interruptible};
use crate::books::{close_days, recompute_days, tie_out, tie_out_in};
use crate::config::Config;
use crate::document::Document;
use crate::proof::{
    Finding, FindingCounts, Proof, ProofRun, count_findings, count_whole_ledger_findings, cure_findings, examine,
    prepare_session, prove, state, write_findings,
};
use crate::reports;
use crate::reports::reconciliation::{REPORT, Subject, document};
use crate::scheduler::{Ended, Guard, Run};

/// The proof of the books.
pub const JOB: Job = Job {
    name: REPORT,
    about: "proves the books and reports the roll-forward of the points owed",
    settings: |config| &config.jobs.reconciliation,
    work: |context, run| Box::pin(work(context, run)),
    dry_run: |context, slot, stop| Box::pin(dry_run(context, slot, stop)),
};

const UNREAD: &str = "what the report tells could not be read";

/// Accounts that a dry run examines at once.
const EXAMINED_AT_ONCE: usize = 1_000;

/// Keeps in each group's transaction what was proved so far.
impl ProofRun for Guard {
    fn run(&self) -> i64 {
        self.number()
    }

    async fn keep(&self, client: &Client, so_far: &Proof, progress: (u64, u64)) -> Result<(), tokio_postgres::Error> {
        Guard::keep(self, client, progress, so_far).await
    }
}

/// Whether a slot is one for which everything is proved: of the day that the configuration names, or a week after the last
/// such proof, where that day's slot was missed or failed.
fn is_full(context: &Context, slot: DateTime<Utc>, full_at: Option<DateTime<Utc>>) -> bool {
    let zone = context.config.jobs.reconciliation.schedule.zone();
    let weekly = context.config.reports.full_proof_on.is_some_and(|day| {
        slot.with_timezone(&zone).weekday() == day
            || full_at.is_none_or(|full_at| slot - full_at >= TimeDelta::weeks(1))
    });
    context.full || weekly
}

async fn work(context: Context, run: Run) -> anyhow::Result<Ended> {
    let mut client = Object::take(context.database.connection().await?);
    let token = client.cancel_token();
    let ended = interruptible(&context.database, token, &run.stop, report(&context, &run, &mut client)).await?;
    Ok(ended.unwrap_or(Ended::Stopped))
}

async fn report(context: &Context, run: &Run, client: &mut ClientWrapper) -> anyhow::Result<Ended> {
    let so_far: Proof = match run.counters.clone() {
        Some(counters) => serde_json::from_value(counters).context("the counters of an earlier attempt")?,
        None => Proof::default(),
    };
    prepare_session(client).await?;
    let full = so_far.full || is_full(context, run.slot, state(client).await?.full_at);
    let guard = run.guard(client).await?;

    let transaction = client.transaction().await?;
    let now: DateTime<Utc> = transaction.query_one("SELECT statement_timestamp()", &[]).await?.try_get(0)?;
    close_days(transaction.client(), context.config.time_zone, now).await?;
    Guard::keep(&guard, transaction.client(), (0, 0), &so_far).await?;
    transaction.commit().await?;

    // The findings about the ledger as a whole come before the proof of the accounts: at its end it cures what this run
    // did not find. One that stands has the days computed anew, so that it is not taken for cured unasked.
    let standing = count_whole_ledger_findings(client).await?;
    let proceed = || !run.stop.is_cancelled();
    let books = tie_out(client, context.config.time_zone, full || standing > 0, proceed).await?;
    let Some(books) = books else { return Ok(Ended::Stopped) };
    let transaction = client.transaction().await?;
    write_findings(transaction.client(), run.run, books.as_of, &books.findings).await?;
    Guard::keep(&guard, transaction.client(), (0, 0), &so_far).await?;
    transaction.commit().await?;

    let proof = prove(client, &guard, full, so_far, |_| !run.stop.is_cancelled()).await?;
    if proof.stopped {
        return Ok(Ended::Stopped);
    }

    let snapshot = snapshot_of(client).await?;
    let proof = with_counts(proof, count_findings(snapshot.client(), run.run).await?);
    // A slot that is done again keeps the report that it has, and its files.
    let has_report = include_str!("../../sql/reports/document_of_slot.sql");
    let folder = match snapshot.query_opt(has_report, &[&REPORT, &run.slot]).await? {
        Some(_) => None,
        None => Some(reports::folder_of(&context.config, REPORT, run.slot)),
    };
    let subject = Subject {
        config: &context.config,
        slot: run.slot,
        run: run.run,
        proof: &proof,
        books: &books,
        folder: folder.as_deref(),
    };
    let document = document(snapshot.client(), &subject).await.context(UNREAD)?;
    snapshot.commit().await?;
    reports::write_files(client, &document, &context.config).await?;
    let transaction = client.transaction().await?;
    reports::keep(&transaction, &document, &context.config).await?;
    Guard::keep(&guard, transaction.client(), (proof.accounts, proof.accounts), &proof).await?;
    transaction.commit().await?;
    alert(run, &proof, &document);
    Ok(Ended::Done(serde_json::to_value(&proof)?))
}

/// A transaction that sees the database as it is now until its end.
async fn snapshot_of(client: &mut ClientWrapper) -> Result<Transaction<'_>, tokio_postgres::Error> {
    client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await
}

/// Counted from the table: what the books as a whole showed is among it.
fn with_counts(proof: Proof, counts: FindingCounts) -> Proof {
    Proof { findings: counts.standing, new: counts.new, cured: counts.cured, ..proof }
}

/// A run with findings has succeeded; somebody is to know all the same.
fn alert(run: &Run, proof: &Proof, document: &Document) {
    if proof.findings > 0 {
        let (findings, new, headline) = (proof.findings, proof.new, &document.headline);
        error!(job = REPORT, run_id = run.run, findings, new, headline, "{REPORT}: {headline}");
    }
}

/// Examines every account, with the checks and without the screens before them, and makes the report in one transaction at
/// the end that is rolled back: a run that comes meanwhile hardly waits for its rows.
async fn dry_run(context: Context, slot: DateTime<Utc>, stop: CancellationToken) -> anyhow::Result<Value> {
    let mut client = Object::take(context.database.connection().await?);
    let token = client.cancel_token();
    let work = dry_report(&context.config, slot, &stop, &mut client);
    let done = interruptible(&context.database, token, &stop, work).await?;
    done.flatten().context("it was interrupted; nothing was changed")
}

/// None where it was told to stop.
async fn dry_report(
    config: &Config,
    slot: DateTime<Utc>,
    stop: &CancellationToken,
    client: &mut ClientWrapper,
) -> anyhow::Result<Option<Value>> {
    const NO_RUN: i64 = 0;
    prepare_session(client).await?;
    let Some(findings) = examine_all(client, stop).await? else { return Ok(None) };
    let transaction = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start().await?;
    let now: DateTime<Utc> = transaction.query_one("SELECT statement_timestamp()", &[]).await?.try_get(0)?;
    close_days(transaction.client(), config.time_zone, now).await?;
    let recomputed = recompute_days(transaction.client(), &mut || !stop.is_cancelled()).await?;
    let Some(recomputed) = recomputed else { return Ok(None) };
    let books = tie_out_in(transaction.client(), config.time_zone, Some(&recomputed)).await?;
    write_findings(transaction.client(), NO_RUN, now, &books.findings).await?;
    write_findings(transaction.client(), NO_RUN, now, &findings).await?;
    cure_findings(transaction.client(), NO_RUN, now).await?;
    let row = transaction.query_one(include_str!("../../sql/reports/ledger_count.sql"), &[]).await?;
    let count = |at| row.try_get::<_, i64>(at).map(|count| u64::try_from(count).unwrap_or_default());
    let proof = Proof { full: true, accounts: count(0)?, batches: count(1)?, entries: count(2)?, ..Proof::default() };
    let proof = with_counts(proof, count_findings(transaction.client(), NO_RUN).await?);
    let subject = Subject { config, slot, run: NO_RUN, proof: &proof, books: &books, folder: None };
    let document = document(transaction.client(), &subject).await.context(UNREAD)?;
    transaction.rollback().await?;
    let mut counters = serde_json::to_value(&proof)?;
    if let Some(counters) = counters.as_object_mut() {
        counters.insert("document".to_owned(), json!(document));
    }
    Ok(Some(counters))
}

/// What is found of any user, group by group, each in a snapshot of its own; none where it was told to stop.
async fn examine_all(client: &mut ClientWrapper, stop: &CancellationToken) -> anyhow::Result<Option<Vec<Finding>>> {
    client.execute(include_str!("../../sql/reports/user_declare.sql"), &[]).await?;
    let fetch = format!("FETCH FORWARD {EXAMINED_AT_ONCE} FROM everybody");
    let mut findings = Vec::new();
    loop {
        let rows = client.query(&fetch, &[]).await?;
        let users: Vec<Uuid> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        if users.is_empty() {
            client.batch_execute("CLOSE everybody").await?;
            return Ok(Some(findings));
        }
        if stop.is_cancelled() {
            return Ok(None);
        }
        let snapshot = snapshot_of(client).await?;
        findings.extend(examine(snapshot.client(), &users).await?);
        snapshot.commit().await?;
    }
}
