//! `period`: closes months, reopens them, and lists both.

use std::collections::BTreeMap;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, Utc};
use deadpool_postgres::Object;
use serde_json::json as object;

use super::jobs::local;
use super::output::table;
use super::{Outcome, Program, WrongCall, caller_name};
use crate::books::{
    NewPeriodEvent, Period as Span, load_closed_months, load_open_month, load_period_events, lock_periods, month_end,
};
use crate::database::Database;
use crate::reports::Pipeline;
use crate::reports::month_end::MonthEnd;
use crate::scheduler::Store;

/// Closes months of the books, reopens them, and lists both.
///
/// Closing a month keeps its report and its totals as they are then. A posting for a closed month is not refused: it is recorded in
/// the current month, whose report lists it as recorded late.
#[derive(clap::Subcommand)]
pub enum Period {
    /// Closes a month whose days are all closed
    Close {
        /// The month, such as 2026-10
        month: Month,
        /// The operator that closes it; by default the user that runs the command
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
    /// Reopens a closed month
    Reopen {
        /// The month, such as 2026-10
        month: Month,
        /// The operator that reopens it; by default the user that runs the command
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Lists the closings and reopenings
    List,
}

/// A month on the command line.
#[derive(Clone, Copy, Debug)]
pub struct Month(NaiveDate);

impl FromStr for Month {
    type Err = String;

    fn from_str(text: &str) -> Result<Month, String> {
        let day = NaiveDate::from_str(&format!("{text}-01"));
        day.map(Month).map_err(|_| format!("`{text}` is not a month; write it as 2026-10"))
    }
}

impl Period {
    /// Runs the command.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        program
            .with_ledger(async |database: &Database| match self {
                Period::Close { month: Month(month), by } => close(month, by, database, program).await,
                Period::Reopen { month: Month(month), by, reason } => {
                    reopen(month, by, &reason, database, program).await
                }
                Period::List => list(database, program).await,
            })
            .await
    }
}

/// `2026-10`.
fn name(month: NaiveDate) -> String {
    month.format("%Y-%m").to_string()
}

async fn close(
    month: NaiveDate,
    by: Option<String>,
    database: &Database,
    program: &Program,
) -> anyhow::Result<Outcome> {
    let refused = |why: String| Err(WrongCall(why).into());
    let (to, by) = (month_end(month).unwrap_or(month), by.unwrap_or_else(caller_name));
    let mut client = Object::take(database.connection().await?);
    let span = Span::load(&client, program.config.time_zone, month, to).await?;
    let Some(closed_to) = span.closed_to else {
        return refused(format!("no day of {} is closed; `pointsd run reconciliation` closes days", name(month)));
    };
    if !span.is_closed() {
        let why = "`pointsd run reconciliation` closes days that are over";
        return refused(format!("{} is closed to {closed_to} only; {why}", name(month)));
    }
    if let Some(open) = load_open_month(&client, month).await? {
        return refused(format!("{} is not closed; close it first: `pointsd period close {0}`", name(open)));
    }
    let slot = Store::new(database, program.config.jobs.takeover).now().await?;
    let pipeline = Pipeline { config: &program.config, slot, run: 0 };
    let made = pipeline.preview(&MonthEnd { from: month, to }, &mut client).await?;
    let transaction = client.transaction().await?;
    lock_periods(transaction.client()).await?;
    if let Some(event) = load_closed_months(transaction.client()).await?.get(&month) {
        let (by, at) = (&event.by, local(event.at, program.config.time_zone));
        return refused(format!("{} is closed already, by {by} on {at}; see `pointsd period list`", name(month)));
    }
    let totals: BTreeMap<&String, i64> =
        span.books.iter().flat_map(|books| &books.rows).map(|(source, row)| (source, row.closing)).collect();
    let kept = Some((object!({ "closing": totals }), serde_json::to_value(&made.document)?));
    let (event, at) = NewPeriodEvent { month, by: &by, reason: None, kept }.write(transaction.client()).await?;
    transaction.commit().await?;
    done(event, at, month, &by, "closed", program)
}

async fn reopen(
    month: NaiveDate,
    by: Option<String>,
    reason: &str,
    database: &Database,
    program: &Program,
) -> anyhow::Result<Outcome> {
    if reason.trim().is_empty() {
        return Err(WrongCall("the reason is empty; say why the month is reopened".to_owned()).into());
    }
    let by = by.unwrap_or_else(caller_name);
    let mut client = database.connection().await?;
    let transaction = client.transaction().await?;
    lock_periods(transaction.client()).await?;
    if !load_closed_months(transaction.client()).await?.contains_key(&month) {
        return Err(WrongCall(format!("{} is not closed; see `pointsd period list`", name(month))).into());
    }
    let reopening = NewPeriodEvent { month, by: &by, reason: Some(reason), kept: None };
    let (event, at) = reopening.write(transaction.client()).await?;
    transaction.commit().await?;
    done(event, at, month, &by, "reopened", program)
}

fn done(
    event: i64,
    at: DateTime<Utc>,
    month: NaiveDate,
    by: &str,
    what: &str,
    program: &Program,
) -> anyhow::Result<Outcome> {
    let value = object!({ "event": event, "at": at, "month": name(month), "by": by, "state": what });
    program
        .answer(value, || format!("{} is {what}, by {by} on {}.", name(month), local(at, program.config.time_zone)))?;
    Ok(Outcome::Done)
}

async fn list(database: &Database, program: &Program) -> anyhow::Result<Outcome> {
    let client = database.connection().await?;
    let events = load_period_events(&client).await?;
    program.list(&events, || {
        if events.is_empty() {
            return "No month has been closed. `pointsd period close 2026-10` closes one.".to_owned();
        }
        let cells = |event: &crate::books::PeriodEvent| {
            let state = match (event.closes, event.latest) {
                (true, true) => "closed",
                (true, false) => "was closed",
                (false, _) => "reopened",
            };
            let at = local(event.at, program.config.time_zone);
            let reason = event.reason.clone().unwrap_or_default();
            vec![name(event.month), state.to_owned(), at, event.by.clone(), reason]
        };
        table(&["month", "state", "at", "by", "reason"], &events.iter().map(cells).collect::<Vec<_>>())
    })?;
    Ok(Outcome::Done)
}
