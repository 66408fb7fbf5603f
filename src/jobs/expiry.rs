//! Expires the points that are due at the slot, and reports them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::{Context, Counters, DryRun, INTERRUPTED, Job, RegisteredJob, counters_so_far};
use crate::config::Config;
use crate::ledger::{self, Session, Sweep};
use crate::messages::{Messages, args};
use crate::numbers::counted;
use crate::reports::expiry;
use crate::scheduler::{Ended, JobSettings, Run};

/// The nightly sweep.
pub struct Expiry;

/// Its entry in the registry.
pub const JOB: RegisteredJob = RegisteredJob::new::<Expiry>();

impl Job for Expiry {
    const NAME: &'static str = expiry::REPORT;
    const ABOUT: &'static str = "expires the points that are due";
    const MAKES_REPORT: bool = true;
    /// The report is for finance. The operator wants the counters of the sweep.
    const PRINTS_REPORT: bool = false;
    type Counters = Sweep;

    fn settings(config: &Config) -> &JobSettings {
        &config.jobs.expiry.settings
    }

    /// Sweeps, compares the counters with the entries, and reports. A failed report lets the run be tried again: the next
    /// attempt finds nothing more to sweep, goes on from the kept counters, and reports.
    async fn work(context: Context, run: Run) -> anyhow::Result<Ended<Sweep>> {
        let Some(sweep) = sweep(&context, &run).await? else { return Ok(Ended::Stopped) };
        let disproved = disproved(&context, &run, &sweep).await?;
        let report = expiry::Expiry { sweep: &sweep, disproved: disproved.is_some() };
        if context.publish(&run, &report).await?.is_none() {
            return Ok(Ended::Stopped);
        }
        Ok(match disproved {
            None => Ended::Done(sweep),
            Some(reason) => Ended::Disproved { counters: sweep, reason },
        })
    }

    async fn dry_run(context: Context, slot: DateTime<Utc>, stop: CancellationToken) -> anyhow::Result<DryRun<Sweep>> {
        let mut session = Session::connect(&context.database).await?;
        let counters = session.sweep(slot, true, |_| !stop.is_cancelled()).await?;
        anyhow::ensure!(!counters.stopped, INTERRUPTED);
        Ok(DryRun { counters, document: None })
    }
}

impl Counters for Sweep {
    fn needs_attention(&self) -> bool {
        self.orphaned > 0 || self.failed > 0
    }

    fn summary(&self, messages: Messages) -> String {
        let Sweep { batches, accounts, points, orphaned, failed, .. } = *self;
        let mut text = match batches {
            0 => messages.label("run-expired-none"),
            _ => messages.text("run-expired", args![points = points, batches = batches, accounts = accounts]),
        };
        if orphaned > 0 {
            text.push_str(&messages.text("run-expired-orphans", args![users = orphaned]));
        }
        if failed > 0 {
            text.push_str(&messages.text("run-expired-failed", args![accounts = failed]));
        }
        text
    }

    fn details(&self, messages: Messages) -> Vec<(String, String)> {
        let amount =
            |points: i64, batches: u64| messages.text("run-expired-part", args![points = points, batches = batches]);
        let sources = self.by_source.iter().map(|(source, of)| (source.clone(), amount(of.points, of.batches)));
        let orphans =
            self.orphans.iter().map(|orphan| (orphan.user.to_string(), amount(orphan.points, orphan.batches)));
        sources.chain(orphans).collect()
    }
}

/// Expires the points that are due. None if the run was stopped.
async fn sweep(context: &Context, run: &Run) -> anyhow::Result<Option<Sweep>> {
    let mut before = BTreeMap::new();
    for (bucket, counters) in run.take_parts().await? {
        before.insert(bucket, counters_so_far(counters)?);
    }
    let (lanes, slot) = (context.config.jobs.expiry_lanes, (run.run, run.slot));
    let proceed = |_| !run.stop.is_cancelled();
    let sweep = ledger::sweep_for(&context.database, lanes, slot, run, &before, proceed).await?;
    Ok((!sweep.stopped).then_some(sweep))
}

/// The difference between the entries of the run and its counters, if there is one.
async fn disproved(context: &Context, run: &Run, sweep: &Sweep) -> anyhow::Result<Option<String>> {
    let wrote = Session::connect(&context.database).await?.swept_by(run.run).await?;
    if wrote == sweep.by_source {
        return Ok(None);
    }
    // Each sum is cut where 64 bits end, as the sweep's are.
    let (batches, points) = wrote.values().fold((0_u64, 0_i64), |(batches, points), of| {
        (batches.saturating_add(of.batches), points.saturating_add(of.points))
    });
    let amount = |batches: u64, points: i64| {
        format!("{} with {}", counted(batches, "batch", "batches"), counted(points, "point", "points"))
    };
    Ok(Some(format!(
        "it counted {}, but its entries say {}: see pointsd.entries where run = {}",
        amount(sweep.batches, sweep.points),
        amount(batches, points),
        run.run
    )))
}
