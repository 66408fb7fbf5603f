//! Reports who owes points.

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use deadpool_postgres::{ClientWrapper, Object};
use serde_json::Value;
use tokio_postgres::IsolationLevel;
use tokio_util::sync::CancellationToken;

use super::{Context, Job, interruptible};
use crate::reports::arrears::{self, Made};
use crate::reports::{self, folder_of};
use crate::scheduler::{Ended, Guard, Run};

/// The report on arrears.
pub const JOB: Job = Job {
    name: arrears::REPORT,
    about: "reports who owes points",
    settings: |config| &config.jobs.arrears,
    work: |context, run| Box::pin(work(context, run)),
    dry_run: |context, slot, stop| Box::pin(dry_run(context, slot, stop)),
};

async fn build(
    client: &mut ClientWrapper,
    context: &Context,
    slot: DateTime<Utc>,
    run: i64,
    files: bool,
) -> anyhow::Result<Made> {
    let folder = files.then(|| folder_of(&context.config, arrears::REPORT, slot));
    let snapshot = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start();
    let snapshot = snapshot.await?;
    let made = arrears::build(&snapshot, &context.config, slot, run, folder.as_deref()).await?;
    snapshot.rollback().await?;
    Ok(made)
}

async fn work(context: Context, run: Run) -> anyhow::Result<Ended> {
    let mut client = Object::take(context.database.connection().await?);
    let token = client.cancel_token();
    let ended = interruptible(&context.database, token, &run.stop, report(&context, &run, &mut client)).await?;
    Ok(ended.unwrap_or(Ended::Stopped))
}

async fn report(context: &Context, run: &Run, client: &mut ClientWrapper) -> anyhow::Result<Ended> {
    let guard = run.guard(client).await?;
    let made = build(client, context, run.slot, run.run, true).await?;
    if run.stop.is_cancelled() {
        return Ok(Ended::Stopped);
    }
    reports::write_files(client, &made.document, &context.config).await?;
    // What is kept goes with the run's fence; its row changes with every sign of life, so not under the snapshot.
    let transaction = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await?;
    arrears::keep(&transaction, &made, &context.config).await?;
    Guard::keep(&guard, transaction.client(), (made.counters.accounts, made.counters.accounts), &made.counters).await?;
    transaction.commit().await?;
    Ok(Ended::Done(serde_json::to_value(made.counters)?))
}

async fn dry_run(context: Context, slot: DateTime<Utc>, stop: CancellationToken) -> anyhow::Result<Value> {
    const NO_RUN: i64 = 0;
    let mut client = Object::take(context.database.connection().await?);
    let token = client.cancel_token();
    let work = build(&mut client, &context, slot, NO_RUN, false);
    let made = interruptible(&context.database, token, &stop, work).await?;
    Ok(serde_json::to_value(made.context("it was interrupted; nothing was changed")?.counters)?)
}
