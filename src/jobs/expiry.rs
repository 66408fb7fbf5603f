//! Expires what is due at the slot, and reports it.

use anyhow::Context as _;
use deadpool_postgres::{ClientWrapper, Object};
use tokio_postgres::{Client, IsolationLevel};

use super::{Context, Job, interruptible};
use crate::ledger::{Progress, Session, Sweep, SweepRun};
use crate::reports::{self, expiry};
use crate::scheduler::{Ended, Guard, Run};

/// The nightly sweep.
pub const JOB: Job = Job {
    name: expiry::REPORT,
    about: "expires the points that are due",
    settings: |config| &config.jobs.expiry,
    work: |context, run| Box::pin(work(context, run)),
    dry_run: |context, slot, stop| {
        Box::pin(async move {
            let mut session = Session::connect(&context.database).await?;
            let sweep = session.sweep(slot, true, &context.rules, |_| !stop.is_cancelled()).await?;
            Ok(serde_json::to_value(sweep)?)
        })
    },
};

/// Keeps in each group's transaction what the run has done so far.
impl SweepRun for Guard {
    fn run(&self) -> i64 {
        self.number()
    }

    async fn keep(&self, client: &Client, so_far: &Sweep, progress: Progress) -> Result<(), tokio_postgres::Error> {
        Guard::keep(self, client, (progress.done, progress.total), so_far).await
    }
}

async fn work(context: Context, run: Run) -> anyhow::Result<Ended> {
    let so_far = match run.counters.clone() {
        Some(counters) => serde_json::from_value(counters).context("the counters of an earlier attempt")?,
        None => Sweep::default(),
    };
    let mut session = Session::connect(&context.database).await?;
    let guard = run.guard(session.client()).await?;
    let proceed = |_| !run.stop.is_cancelled();
    let sweep = session.sweep_for(&guard, run.slot, so_far, &context.rules, proceed).await?;
    if sweep.stopped {
        return Ok(Ended::Stopped);
    }
    let wrote = session.swept_by(run.run).await?;
    let counters = serde_json::to_value(&sweep)?;
    if wrote == sweep.by_source {
        let reported = report(&context, &run, &sweep, None).await?;
        return Ok(reported.map_or(Ended::Stopped, |()| Ended::Done(counters)));
    }
    let (batches, points) =
        wrote.values().fold((0, 0), |(batches, points), of| (batches + of.batches, points + of.points));
    let reason = format!(
        "it counted {} batches with {} points, but the entries that it wrote say {batches} batches with {points} points: \
         see pointsd.entries where run = {}",
        sweep.batches, sweep.points, run.run
    );
    // Finance hears of it too, since no other report will tell.
    let reported = report(&context, &run, &sweep, Some(&reason)).await?;
    Ok(reported.map_or(Ended::Stopped, |()| Ended::Disproved { counters, reason }))
}

/// Makes and keeps the report, in the run: where that fails the run is tried again, finds nothing more to sweep, goes on
/// with the counters that it kept, and comes here again.
///
/// None where it was told to stop.
async fn report(context: &Context, run: &Run, sweep: &Sweep, disproved: Option<&str>) -> anyhow::Result<Option<()>> {
    let mut client = Object::take(context.database.connection().await?);
    let token = client.cancel_token();
    let work = make(context, run, sweep, disproved, &mut client);
    interruptible(&context.database, token, &run.stop, work).await
}

async fn make(
    context: &Context,
    run: &Run,
    sweep: &Sweep,
    disproved: Option<&str>,
    client: &mut ClientWrapper,
) -> anyhow::Result<()> {
    let guard = run.guard(client).await?;
    let snapshot = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start();
    let snapshot = snapshot.await?;
    let made = expiry::build(&snapshot, &context.config, run.slot, run.run, sweep, disproved).await?;
    snapshot.rollback().await?;
    reports::write_files(client, &made.document, &context.config).await?;
    // What is kept goes with the run's fence; its row changes with every sign of life, so not under the snapshot.
    let transaction = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await?;
    expiry::keep(&transaction, &made, &context.config).await?;
    Guard::keep(&guard, transaction.client(), (sweep.accounts, sweep.accounts), sweep).await?;
    Ok(transaction.commit().await?)
}
