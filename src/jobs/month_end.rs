//! Reports the month that is over.

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use deadpool_postgres::{ClientWrapper, Object};
use tokio_util::sync::CancellationToken;

use super::{Context, DryRun, Job, RegisteredJob, counters_so_far, interruptible};
use crate::books::{close_days, lock_days};
use crate::config::Config;
use crate::ledger::{CUTOFF_LIMIT, cutoff};
use crate::messages::{Messages, args};
use crate::proof::prepare_session;
use crate::reports::month_end::{Counters, MonthEnd, REPORT};
use crate::scheduler::{Ended, JobSettings, Run};

/// The report on a month.
pub struct Month;

/// Its entry in the registry.
pub const JOB: RegisteredJob = RegisteredJob::new::<Month>();

/// Why a slot has no month.
const NO_MONTH: &str = "no month lies before the slot";

fn month_before(slot: DateTime<Utc>, config: &Config) -> anyhow::Result<MonthEnd> {
    MonthEnd::before(slot, Month::settings(config).schedule.zone()).context(NO_MONTH)
}

impl Job for Month {
    const NAME: &'static str = REPORT;
    const ABOUT: &'static str = "reports the month that is over";
    const MAKES_REPORT: bool = true;
    const REPORTS_ON_PRESENT: bool = true;
    type Counters = Counters;

    fn settings(config: &Config) -> &JobSettings {
        &config.jobs.month_end.settings
    }

    /// Closes the days that are over, as reconciliation does, because that may have failed or run before the month ended.
    async fn work(context: Context, run: Run) -> anyhow::Result<Ended<Counters>> {
        let report = month_before(run.slot, &context.config)?;
        let mut client = Object::take(context.database.connection().await?);
        let token = client.cancel_token();
        let closing = close_ended_days(&context, &run, &report, &mut client);
        if interruptible(&context.database, &[token], &run.stop, closing).await?.is_none() {
            return Ok(Ended::Stopped);
        }
        drop(client);
        let made = context.publish(&run, &report).await?;
        Ok(made.map_or(Ended::Stopped, |made| Ended::Done(made.counters)))
    }

    async fn dry_run(
        context: Context,
        slot: DateTime<Utc>,
        stop: CancellationToken,
    ) -> anyhow::Result<DryRun<Counters>> {
        let report = month_before(slot, &context.config)?;
        let made = context.rehearse(slot, &stop, &report).await?;
        Ok(DryRun { counters: made.counters, document: Some(made.document) })
    }
}

async fn close_ended_days(
    context: &Context,
    run: &Run,
    report: &MonthEnd,
    client: &mut ClientWrapper,
) -> anyhow::Result<()> {
    // The report has the figures; an earlier attempt may have made it.
    let none_yet = Counters { from: report.from, to: report.to, no_figures: true, ..Counters::default() };
    let so_far = counters_so_far::<Option<Counters>>(run.counters.clone())?.unwrap_or(none_yet);
    prepare_session(client).await?;
    let guard = run.guard(client).await?;
    let cutoff = cutoff(client, CUTOFF_LIMIT).await?;
    let transaction = client.transaction().await?;
    lock_days(transaction.client()).await?;
    close_days(transaction.client(), context.config.time_zone, cutoff).await?;
    guard.save_progress(transaction.client(), (0, 0), &so_far).await?;
    Ok(transaction.commit().await?)
}

impl super::Counters for Counters {
    fn needs_attention(&self) -> bool {
        self.is_open || self.changed > 0
    }

    fn summary(&self, messages: Messages) -> String {
        let Counters { from, to, issued, used, expired, closing, is_open, no_figures, changed } = *self;
        let (from, to) = (from.to_string(), to.to_string());
        let mut text = messages.text(
            "run-month",
            args![
                from = from.as_str(),
                to = to.as_str(),
                issued = issued,
                used = used,
                expired = expired,
                points = closing
            ],
        );
        if no_figures {
            text = messages.text("run-month-none", args![from = from, to = to]);
        } else if is_open {
            text.push_str(&messages.label("run-month-open"));
        }
        if changed > 0 {
            text.push_str(&messages.text("run-months-changed", args![months = changed]));
        }
        text
    }
}
