//! Expires what is due at the slot.

use chrono::{DateTime, Utc};

use super::{Context, Job};
use crate::ledger::{Error, Progress, Session, Sweep};

/// The nightly sweep.
pub const JOB: Job = Job {
    name: "expiry",
    schedule: |config| &config.jobs.expiry.schedule,
    run: |context, slot| {
        Box::pin(async move {
            let sweep = run(&context, slot, false, |_| ()).await?;
            if sweep.stopped {
                anyhow::bail!("it was stopped after {} batches; the next run does the rest", sweep.batches);
            }
            Ok(serde_json::to_value(sweep)?)
        })
    },
};

/// Sweeps all that expires at `slot` or before, or with `dry_run` tells what it would do; `progress` hears how far it
/// came, after each group of accounts.
///
/// # Errors
/// Where the database fails. What was expired by then stays expired, and a further run does the rest.
pub async fn run(
    context: &Context,
    slot: DateTime<Utc>,
    dry_run: bool,
    mut progress: impl FnMut(Progress),
) -> Result<Sweep, Error> {
    let mut session = Session::connect(&context.database).await?;
    let proceed = |at| {
        progress(at);
        !context.stop.is_cancelled()
    };
    session.sweep(slot, dry_run, &context.rules, proceed).await
}
