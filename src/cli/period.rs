//! `period`: closes months, reopens them, and shows what they kept.

use std::str::FromStr;

use anyhow::Context as _;
use chrono::{DateTime, NaiveDate, Utc};
use deadpool_postgres::Object;
use serde::Serialize;
use serde_json::json as object;
use tokio_postgres::Client;

use super::journal;
use super::output::{counted, local, table};
use super::report::{self, Format};
use super::{Outcome, Program, WrongCall, caller_name};
use crate::books::{
    ARREARS, ChangedTotal, KeptTotals, NewPeriodEvent, Period as Span, PeriodEvent, has_entries_before,
    load_changed_months, load_closed_months, load_kept_report, load_open_month, load_period_events, lock_periods,
    month_end,
};
use crate::database::Database;
use crate::document::Document;
use crate::reports::Pipeline;
use crate::reports::month_end::MonthEnd;
use crate::scheduler::Store;
use crate::time::Zone;

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
    /// Prints the report that a closed month kept
    Show {
        /// The month, such as 2026-10
        month: Month,
        /// The form; csv has the roll-forward by source alone
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Lists the closings and reopenings
    List,
}

/// A month on the command line.
#[derive(Clone, Copy, Debug)]
pub struct Month(pub(super) NaiveDate);

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
                Period::Show { month: Month(month), format } => show(month, format, database, program).await,
                Period::List => list(database, program).await,
            })
            .await
    }
}

/// `2026-10`.
pub(super) fn name(month: NaiveDate) -> String {
    month.format("%Y-%m").to_string()
}

/// Loads a month. Refuses one whose days are not all closed.
pub(super) async fn load_month(client: &Client, zone: Zone, month: NaiveDate) -> anyhow::Result<Span> {
    let span = Span::load(client, zone, month, month_end(month).unwrap_or(month)).await?;
    if span.is_closed() {
        return Ok(span);
    }
    let now: DateTime<Utc> = client.query_one("SELECT clock_timestamp()", &[]).await?.try_get(0)?;
    let refusal = match span.closed_to {
        // No reconciliation closes a day that is not over, or one before the first entry.
        _ if span.end > now => format!("{} is not over yet; wait for its end, or give an earlier month", name(month)),
        None if !has_entries_before(client, span.end).await? => {
            format!("no entry was recorded before the end of {}, so it has no figures; give a later month", name(month))
        }
        None => format!("no day of {} is closed; `pointsd run reconciliation` closes days that are over", name(month)),
        Some(closed_to) => {
            let first = closed_to.succ_opt().unwrap_or(closed_to);
            let missing = if first == span.to { first.to_string() } else { format!("{first} to {}", span.to) };
            let what = format!("{} is closed to {closed_to} only, {missing} is missing", name(month));
            format!("{what}; `pointsd run reconciliation` closes days that are over")
        }
    };
    Err(WrongCall(refusal).into())
}

async fn close(
    month: NaiveDate,
    by: Option<String>,
    database: &Database,
    program: &Program,
) -> anyhow::Result<Outcome> {
    let refused = |why: String| Err(WrongCall(why).into());
    let by = by.unwrap_or_else(caller_name);
    let mut client = Object::take(database.connection().await?);
    let span = load_month(&client, program.config.time_zone, month).await?;
    let slot = Store::new(database, program.config.jobs.takeover).now().await?;
    let pipeline = Pipeline { config: &program.config, slot, run: 0 };
    let made = pipeline.preview(&MonthEnd { from: month, to: span.to }, &mut client).await?;
    let transaction = client.transaction().await?;
    lock_periods(transaction.client()).await?;
    if let Some(open) = load_open_month(transaction.client(), month).await? {
        return refused(format!("{} is not closed; close it first: `pointsd period close {0}`", name(open)));
    }
    if let Some(event) = load_closed_months(transaction.client()).await?.get(&month) {
        let (by, at) = (&event.by, local(event.at, program.config.time_zone));
        return refused(format!("{} is closed already, by {by} on {at}; see `pointsd period list`", name(month)));
    }
    let totals = span.books.as_ref().map(KeptTotals::of).unwrap_or_default();
    let kept = Some((totals, serde_json::to_value(&made.document)?));
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
    let closed = load_closed_months(transaction.client()).await?;
    if !closed.contains_key(&month) {
        return Err(WrongCall(format!("{} is not closed; see `pointsd period list`", name(month))).into());
    }
    if let Some((&later, _)) = closed.last_key_value().filter(|(later, _)| **later > month) {
        let what = format!("{} is closed, and {} was closed before it", name(later), name(month));
        let why =
            format!("{what}; reopen the later month first: `pointsd period reopen {} --reason TEXT`", name(later));
        return Err(WrongCall(why).into());
    }
    let reopening = NewPeriodEvent { month, by: &by, reason: Some(reason), kept: None };
    let (event, at) = reopening.write(transaction.client()).await?;
    transaction.commit().await?;
    done(event, at, month, &by, "reopened", program)
}

async fn show(month: NaiveDate, format: Format, database: &Database, program: &Program) -> anyhow::Result<Outcome> {
    let client = database.connection().await?;
    let Some(document) = load_kept_report(&client, month).await? else {
        return Err(WrongCall(format!("{} is not closed; see `pointsd period list`", name(month))).into());
    };
    let document: Document = serde_json::from_value(document)
        .with_context(|| format!("the report that {} kept is of another version of pointsd", name(month)))?;
    report::print(&document, format, false, program)?;
    Ok(Outcome::Done)
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
    let changed = load_changed_months(&client).await?;
    let standing = |event: &PeriodEvent| (event.latest && event.closes).then(|| changed.get(&event.month)).flatten();
    let values: Vec<Listed<'_>> =
        events.iter().map(|event| Listed { event, changed: standing(event).map_or(&[], Vec::as_slice) }).collect();
    program.list(&values, || {
        if events.is_empty() {
            return "No month has been closed. `pointsd period close MONTH` closes one.".to_owned();
        }
        let cells = |event: &PeriodEvent| {
            let state = match (event.closes, event.latest) {
                (true, true) if standing(event).is_some() => "closed, changed since",
                (true, true) => "closed",
                (true, false) => "was closed",
                (false, _) => "reopened",
            };
            let at = local(event.at, program.config.time_zone);
            let reason = event.reason.clone().unwrap_or_default();
            vec![name(event.month), state.to_owned(), at, event.by.clone(), reason]
        };
        let events = table(&["month", "state", "at", "by", "reason"], &events.iter().map(cells).collect::<Vec<_>>());
        let changes: Vec<String> = changed.iter().map(|(month, totals)| changes(*month, totals)).collect();
        std::iter::once(events).chain(changes).collect::<Vec<_>>().join("\n\n")
    })?;
    Ok(if changed.is_empty() { Outcome::Done } else { Outcome::No })
}

/// An event, and the totals of its month that have changed since.
#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    event: &'a PeriodEvent,
    #[serde(skip_serializing_if = "<[ChangedTotal]>::is_empty")]
    changed: &'a [ChangedTotal],
}

/// The totals of a closed month that have changed since it was closed, in words.
fn changes(month: NaiveDate, totals: &[ChangedTotal]) -> String {
    let line = |total: &ChangedTotal| {
        let number = |total: &ChangedTotal, number: i64| match &total.currency {
            Some(currency) => format!("{} {currency}", journal::amount(number, currency)),
            None => counted(number, "point", "points"),
        };
        let source = if total.source == ARREARS { "arrears" } else { &total.source };
        let now = total.now.map_or("its last day is open".to_owned(), |now| format!("now {}", number(total, now)));
        let kept = number(total, total.kept);
        if total.is_closing() {
            return format!("  {source}: closed with {kept}, {now}");
        }
        format!("  {source}, {}: {kept} when it was closed, {now}", total.figure)
    };
    let lines: Vec<String> = totals.iter().map(line).collect();
    let next = "Next: find out why, then `pointsd period reopen` and `close` it again.";
    format!("Changed since {} was closed:\n{}\n{next}", name(month), lines.join("\n"))
}
