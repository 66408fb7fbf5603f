//! The table `pointsd.periods`: months that were closed, and reopened. Nothing changes an event once it is written.
//!
//! A closed month keeps its document and its totals. A later posting for it is not refused: it is recorded in the current month,
//! whose report lists it as recorded late.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::types::Json;
use tokio_postgres::{Client, Error, Row};

use super::days::load_span;
use super::{RollForward, add_up, month_end};

/// A closing or a reopening of a month.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeriodEvent {
    /// Its number.
    pub event: i64,
    /// The first day of the month.
    pub month: NaiveDate,
    /// Whether it closed the month; otherwise it reopened it.
    pub closes: bool,
    /// When it was written down.
    pub at: DateTime<Utc>,
    /// The operator.
    pub by: String,
    /// Why a month was reopened.
    pub reason: Option<String>,
    /// Whether it is the last event of its month.
    pub latest: bool,
}

/// A closing or a reopening that is to be written.
#[derive(Clone, Debug)]
pub struct NewPeriodEvent<'a> {
    /// The first day of the month.
    pub month: NaiveDate,
    /// The operator.
    pub by: &'a str,
    /// Why the month is reopened; none for a closing.
    pub reason: Option<&'a str>,
    /// The totals and the document of a closing; none for a reopening.
    pub kept: Option<(KeptTotals, Value)>,
}

/// What a month closed with, and what had moved in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptTotals {
    /// In points, by source.
    points: BTreeMap<String, Figures>,
    /// In minor units, by currency and source.
    money: BTreeMap<String, BTreeMap<String, Figures>>,
}

/// The figures of a row, by the names of the columns of `pointsd.days` and `pointsd.day_money`.
type Figures = BTreeMap<String, i64>;

/// The figure of what a row closed with.
const CLOSING: &str = "closing";

/// A figure of a closed month that is not what it was when the month was closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangedTotal {
    /// Of money; none for points.
    pub currency: Option<String>,
    /// The source; empty for arrears.
    pub source: String,
    /// The column of `pointsd.days` or `pointsd.day_money`.
    pub figure: String,
    /// When the month was closed.
    pub kept: i64,
    /// As the days of the month say now. None if its last day is not closed any more.
    pub now: Option<i64>,
}

impl ChangedTotal {
    /// Whether it is what a source closed with, rather than a movement.
    pub fn is_closing(&self) -> bool {
        self.figure == CLOSING
    }
}

impl KeptTotals {
    /// Those of a month's books.
    pub fn of(books: &RollForward) -> KeptTotals {
        let figures = |columns: &[(&str, i64)], closing: i64| -> Figures {
            let columns = columns.iter().copied().chain([(CLOSING, closing)]);
            columns.map(|(name, number)| (name.to_owned(), number)).collect()
        };
        let points = books.rows.iter().map(|(source, row)| (source.clone(), figures(&row.columns(), row.closing)));
        let mut money = BTreeMap::<String, BTreeMap<String, Figures>>::new();
        for ((currency, source), row) in &books.money {
            let sources = money.entry(currency.clone()).or_default();
            sources.insert(source.clone(), figures(&row.columns(), row.closing));
        }
        KeptTotals { points: points.collect(), money }
    }

    /// The figures that differ from those of `now`; none if the month's last day is not closed any more.
    fn compare(&self, now: Option<&KeptTotals>) -> Vec<ChangedTotal> {
        let mut changed = compare_rows(None, &self.points, now.map(|now| &now.points));
        let none = BTreeMap::new();
        let currencies: BTreeSet<&String> =
            self.money.keys().chain(now.into_iter().flat_map(|now| now.money.keys())).collect();
        for currency in currencies {
            let rows = now.map(|now| now.money.get(currency).unwrap_or(&none));
            changed.extend(compare_rows(Some(currency), self.money.get(currency).unwrap_or(&none), rows));
        }
        changed
    }
}

/// The figures that differ. Without `now`, what each source closed with stands for all of them.
fn compare_rows(
    currency: Option<&String>,
    kept: &BTreeMap<String, Figures>,
    now: Option<&BTreeMap<String, Figures>>,
) -> Vec<ChangedTotal> {
    let sources: BTreeSet<&String> = kept.keys().chain(now.into_iter().flat_map(BTreeMap::keys)).collect();
    let mut changed = Vec::new();
    for source in sources {
        let (kept, now) = (kept.get(source), now.map(|now| now.get(source)));
        let figures: BTreeSet<&String> = kept.into_iter().chain(now.flatten()).flat_map(BTreeMap::keys).collect();
        let number = |figures: Option<&Figures>, figure: &String| {
            figures.and_then(|figures| figures.get(figure)).copied().unwrap_or_default()
        };
        let total = |figure: &String| ChangedTotal {
            currency: currency.cloned(),
            source: source.clone(),
            figure: figure.clone(),
            kept: number(kept, figure),
            now: now.map(|now| number(now, figure)),
        };
        let is_told = |total: &ChangedTotal| total.now.map_or(total.is_closing(), |now| now != total.kept);
        changed.extend(figures.into_iter().map(total).filter(is_told));
    }
    changed
}

impl NewPeriodEvent<'_> {
    /// Writes the event in the transaction that is open on `client`, after [`lock_periods`]. Returns its number and its time.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn write(&self, client: &Client) -> Result<(i64, DateTime<Utc>), Error> {
        let action = if self.kept.is_some() { "close" } else { "reopen" };
        let (totals, document) = self.kept.clone().map(|(totals, document)| (Json(totals), Json(document))).unzip();
        let sql = include_str!("../../sql/books/period_event.sql");
        let row = client.query_one(sql, &[&self.month, &action, &self.by, &self.reason, &totals, &document]).await?;
        Ok((row.try_get("event")?, row.try_get("at")?))
    }
}

/// Lets one transaction at a time close or reopen months.
///
/// # Errors
/// If the database fails.
pub async fn lock_periods(client: &Client) -> Result<(), Error> {
    client.execute(include_str!("../../sql/books/period_lock.sql"), &[]).await?;
    Ok(())
}

/// Loads all events, in order.
///
/// # Errors
/// If the database fails.
pub async fn load_period_events(client: &Client) -> Result<Vec<PeriodEvent>, Error> {
    let rows = client.query(include_str!("../../sql/books/period_events.sql"), &[]).await?;
    rows.iter().map(event_from).collect()
}

/// Loads the closings that stand, by the first day of the month.
///
/// # Errors
/// If the database fails.
pub async fn load_closed_months(client: &Client) -> Result<BTreeMap<NaiveDate, PeriodEvent>, Error> {
    let events = load_period_events(client).await?;
    let standing = events.into_iter().filter(|event| event.latest && event.closes);
    Ok(standing.map(|event| (event.month, event)).collect())
}

/// Loads the document that a month kept when it was closed; none if it is not closed.
///
/// # Errors
/// If the database fails.
pub async fn load_kept_report(client: &Client, month: NaiveDate) -> Result<Option<Value>, Error> {
    let row = client.query_opt(include_str!("../../sql/books/period_document.sql"), &[&month]).await?;
    row.map_or(Ok(None), |row| row.try_get("document"))
}

/// Compares the totals that closed months kept with their days as they are now. Loads the months whose totals have changed.
///
/// # Errors
/// If the database fails.
pub async fn load_changed_months(client: &Client) -> Result<BTreeMap<NaiveDate, Vec<ChangedTotal>>, Error> {
    let mut changed = BTreeMap::new();
    for row in client.query(include_str!("../../sql/books/period_kept.sql"), &[]).await? {
        let month: NaiveDate = row.try_get("month")?;
        let Json(kept): Json<KeptTotals> = row.try_get("totals")?;
        let last = month_end(month).unwrap_or(month);
        let books = add_up(&load_span(client, Some(month), last).await?).filter(|books| books.day == last);
        let differences = kept.compare(books.as_ref().map(KeptTotals::of).as_ref());
        if !differences.is_empty() {
            changed.insert(month, differences);
        }
    }
    Ok(changed)
}

/// Loads the first month before a day that has closed days and is not closed itself.
///
/// # Errors
/// If the database fails.
pub async fn load_open_month(client: &Client, before: NaiveDate) -> Result<Option<NaiveDate>, Error> {
    client.query_one(include_str!("../../sql/books/period_open.sql"), &[&before]).await?.try_get("month")
}

fn event_from(row: &Row) -> Result<PeriodEvent, Error> {
    let action: String = row.try_get("action")?;
    Ok(PeriodEvent {
        event: row.try_get("event")?,
        month: row.try_get("month")?,
        closes: action == "close",
        at: row.try_get("at")?,
        by: row.try_get("by")?,
        reason: row.try_get("reason")?,
        latest: row.try_get("latest")?,
    })
}
