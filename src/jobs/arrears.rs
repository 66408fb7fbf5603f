//! Reports the accounts in arrears.

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::{Context, DryRun, Job, RegisteredJob};
use crate::config::Config;
use crate::messages::{Messages, args};
use crate::reports::arrears::{self, Counters};
use crate::scheduler::{Ended, JobSettings, Run};

/// The report on arrears.
pub struct Arrears;

/// Its entry in the registry.
pub const JOB: RegisteredJob = RegisteredJob::new::<Arrears>();

impl Job for Arrears {
    const NAME: &'static str = arrears::REPORT;
    const ABOUT: &'static str = "reports accounts in arrears";
    const MAKES_REPORT: bool = true;
    const REPORTS_ON_PRESENT: bool = true;
    type Counters = Counters;

    fn settings(config: &Config) -> &JobSettings {
        &config.jobs.arrears.settings
    }

    async fn work(context: Context, run: Run) -> anyhow::Result<Ended<Counters>> {
        let made = context.publish(&run, &arrears::Arrears).await?;
        Ok(made.map_or(Ended::Stopped, |made| Ended::Done(made.counters)))
    }

    async fn dry_run(
        context: Context,
        slot: DateTime<Utc>,
        stop: CancellationToken,
    ) -> anyhow::Result<DryRun<Counters>> {
        let made = context.rehearse(slot, &stop, &arrears::Arrears).await?;
        Ok(DryRun { counters: made.counters, document: Some(made.document) })
    }
}

impl super::Counters for Counters {
    fn needs_attention(&self) -> bool {
        self.unexplained > 0 || self.undated > 0 || self.difference != 0
    }

    fn summary(&self, messages: Messages) -> String {
        let Counters { accounts, points, new, cleared, .. } = *self;
        let mut text =
            messages.text("run-arrears", args![points = points, accounts = accounts, new = new, cleared = cleared]);
        if self.needs_attention() {
            text.push_str(&messages.label("arrears-headline-difference"));
        }
        text
    }
}
