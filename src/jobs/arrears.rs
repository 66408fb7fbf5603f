//! Reports who owes points.

use chrono::{DateTime, Utc};
use deadpool_postgres::Object;
use tokio_postgres::IsolationLevel;

use super::{Context, Job};
use crate::reports::arrears::{self, Made};
use crate::reports::folder_of;
use crate::scheduler::{Ended, Guard, Run};

/// The report on arrears.
pub const JOB: Job = Job {
    name: arrears::REPORT,
    about: "reports who owes points",
    settings: |config| &config.jobs.arrears,
    work: |context, run| Box::pin(work(context, run)),
    dry_run: |context, slot, _| {
        Box::pin(async move {
            let mut client = Object::take(context.database.connection().await?);
            Ok(serde_json::to_value(build(&mut client, &context, slot, 0, false).await?.counters)?)
        })
    },
};

async fn build(
    client: &mut deadpool_postgres::ClientWrapper,
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
    let guard = run.guard(&client).await?;
    let made = build(&mut client, &context, run.slot, run.run, true).await?;
    if run.stop.is_cancelled() {
        return Ok(Ended::Stopped);
    }
    // What is kept goes with the run's fence; its row changes with every sign of life, so not under the snapshot.
    let transaction = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await?;
    arrears::keep(&transaction, &made, &context.config).await?;
    Guard::keep(&guard, transaction.client(), (made.counters.accounts, made.counters.accounts), &made.counters).await?;
    transaction.commit().await?;
    Ok(Ended::Done(serde_json::to_value(made.counters)?))
}
