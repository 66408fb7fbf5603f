//! Expires what is due at the slot.

use anyhow::Context as _;
use tokio_postgres::Client;

use super::{Context, Job};
use crate::ledger::{Progress, Session, Sweep, SweepRun};
use crate::scheduler::{Ended, Guard, Run};

/// The nightly sweep.
pub const JOB: Job = Job {
    name: "expiry",
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
        return Ok(Ended::Done(counters));
    }
    let (batches, points) =
        wrote.values().fold((0, 0), |(batches, points), of| (batches + of.batches, points + of.points));
    let reason = format!(
        "it counted {} batches with {} points, but the entries that it wrote say {batches} batches with {points} points: \
         see ledger.entries where run = {}",
        sweep.batches, sweep.points, run.run
    );
    Ok(Ended::Disproved { counters, reason })
}
