//! A span of closed business days: its roll-forward, and what belongs to it in another way.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike as _, Days, Months, NaiveDate, Utc};
use tokio_postgres::{Client, Error, Row};
use uuid::Uuid;

use super::days::load_span;
use super::{Booked, RollForward, add_up};
use crate::database::Cursor;
use crate::ledger::Buckets;
use crate::time::{Zone, start_of_day};

/// Rows that are in memory at a time.
const FETCHED: usize = 2_000;

/// A span of business days and its roll-forward.
#[derive(Clone, Debug)]
pub struct Period {
    /// The first day.
    pub from: NaiveDate,
    /// The last day.
    pub to: NaiveDate,
    /// The first instant.
    pub begin: DateTime<Utc>,
    /// The first instant after its last closed day; after its last day if no day is closed.
    pub end: DateTime<Utc>,
    /// The last day of the span that is closed; none if no day of it is.
    pub closed_to: Option<NaiveDate>,
    /// Its roll-forward, as far as its days are closed; none if no day is.
    pub books: Option<RollForward>,
}

impl Period {
    /// Loads the days from `from` to `to`.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn load(client: &Client, zone: Zone, from: NaiveDate, to: NaiveDate) -> Result<Period, Error> {
        let after = |day: NaiveDate| start_of_day(day.succ_opt().unwrap_or(day), zone);
        let days = load_span(client, from.pred_opt(), to).await?;
        // The day before ended where the span begins. After a change of the zone this is not the day's first instant.
        let (before, days): (Vec<RollForward>, Vec<RollForward>) = days.into_iter().partition(|day| day.day < from);
        let begin = before.first().map_or_else(|| start_of_day(from, zone), |day| day.ended);
        let last = days.last();
        // Every part of a report ends where its roll-forward does.
        let end = last.map_or_else(|| after(to), |last| last.ended);
        Ok(Period { from, to, begin, end, closed_to: last.map(|last| last.day), books: add_up(&days) })
    }

    /// Whether every day of it is closed.
    pub fn is_closed(&self) -> bool {
        self.closed_to == Some(self.to)
    }

    /// Whether it is one whole month.
    pub fn is_month(&self) -> bool {
        self.from.day() == 1 && month_end(self.from) == Some(self.to)
    }

    /// The sum of all rows.
    pub fn totals(&self) -> Booked {
        self.books.as_ref().map(RollForward::totals).unwrap_or_default()
    }

    /// The first and the last day of the period before: the month before a month, otherwise as many days.
    pub fn before(&self) -> Option<(NaiveDate, NaiveDate)> {
        let to = self.from.pred_opt()?;
        if self.is_month() {
            return Some((to.with_day(1)?, to));
        }
        let length = u64::try_from((self.to - self.from).num_days()).ok()?;
        Some((to.checked_sub_days(Days::new(length))?, to))
    }
}

/// Whether any entry was recorded before an instant.
///
/// # Errors
/// If the database fails.
pub async fn has_entries_before(client: &Client, instant: DateTime<Utc>) -> Result<bool, Error> {
    client.query_one(include_str!("../../sql/books/entry_before.sql"), &[&instant]).await?.try_get(0)
}

/// The last day of a day's month.
pub fn month_end(day: NaiveDate) -> Option<NaiveDate> {
    day.with_day(1)?.checked_add_months(Months::new(1))?.pred_opt()
}

/// Entries recorded in a period that belong to an earlier month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatePostings {
    /// The first day of the month.
    pub month: NaiveDate,
    /// Their type.
    pub kind: String,
    /// How many.
    pub entries: i64,
    /// Their points.
    pub points: i64,
}

/// Points that were due by the end of a period and still in the books then, and what became of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotBooked {
    /// The source.
    pub source: String,
    /// How many batches.
    pub batches: i64,
    /// Expired by later entries, less what was restored.
    pub expired: i64,
    /// Used by later entries.
    pub used: i64,
    /// Voided or corrected by later entries.
    pub other: i64,
    /// Still open.
    pub open: i64,
}

impl NotBooked {
    /// What the books held at the end of the period.
    pub fn held(&self) -> i64 {
        [self.used, self.other, self.open].into_iter().fold(self.expired, i64::saturating_add)
    }
}

/// What became of the points issued in a month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breakage {
    /// The first day of the month.
    pub month: NaiveDate,
    /// The source.
    pub source: String,
    /// Issued by recharges.
    pub issued: i64,
    /// Given back by refunds.
    pub refunded: i64,
    /// Taken back by voids.
    pub voided: i64,
    /// Expired, less what was restored.
    pub expired: i64,
    /// Not used yet.
    pub open: i64,
}

impl Breakage {
    /// Issued and refunded.
    pub fn opened(&self) -> i64 {
        self.issued.saturating_add(self.refunded)
    }

    /// What was used, applied to arrears or corrected.
    pub fn used(&self) -> i64 {
        [self.voided, self.expired, self.open].into_iter().fold(self.opened(), i64::saturating_sub)
    }
}

/// An entry of a list: a correction, a refund or a void, or an entry that was recorded late.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the columns of pointsd.entries
pub struct SingleEntry {
    pub user: Uuid,
    pub seq: i64,
    pub recorded_at: DateTime<Utc>,
    pub at: DateTime<Utc>,
    pub kind: String,
    pub source: String,
    /// By how much the balance changed.
    pub points: i64,
    /// The operator that ordered a correction.
    pub by: Option<String>,
    /// The task or the order.
    pub reference: Option<String>,
    /// The operator's reason, or the description that a caller gave.
    pub why: Option<String>,
}

/// Loads the entries of a period that belong to earlier months.
///
/// # Errors
/// If the database fails.
pub async fn load_late_postings(client: &Client, zone: Zone, period: &Period) -> Result<Vec<LatePostings>, Error> {
    let sql = include_str!("../../sql/books/period_late.sql");
    let rows = client.query(sql, &[&period.begin, &period.end, &zone.name()]).await?;
    let late = |row: &Row| {
        let (month, kind) = (row.try_get("month")?, row.try_get("type")?);
        Ok(LatePostings { month, kind, entries: row.try_get("entries")?, points: row.try_get("points")? })
    };
    rows.iter().map(late).collect()
}

/// Loads these entries one by one, `most` of them: postings before expirations.
///
/// # Errors
/// If the database fails.
pub async fn load_late_entries(client: &Client, period: &Period, most: i64) -> Result<Vec<SingleEntry>, Error> {
    let sql = include_str!("../../sql/books/period_late_entries.sql");
    let rows = client.query(sql, &[&period.begin, &period.end, &most]).await?;
    rows.iter().map(single_from).collect()
}

/// Loads what was due by the end of a period and expired later, or not yet.
///
/// # Errors
/// If the database fails.
pub async fn load_not_booked(client: &Client, period: &Period) -> Result<Vec<NotBooked>, Error> {
    let sql = include_str!("../../sql/books/period_due.sql");
    let mut by_source: BTreeMap<String, NotBooked> = BTreeMap::new();
    for row in Buckets::read(client).await?.query_each(client, sql, &[&period.end]).await? {
        let source: String = row.try_get("source")?;
        let nothing = NotBooked { source: source.clone(), batches: 0, expired: 0, used: 0, other: 0, open: 0 };
        let due = by_source.entry(source).or_insert(nothing);
        for (sum, name) in [
            (&mut due.batches, "batches"),
            (&mut due.expired, "expired"),
            (&mut due.used, "used"),
            (&mut due.other, "other"),
            (&mut due.open, "open"),
        ] {
            *sum = sum.saturating_add(row.try_get(name)?);
        }
    }
    Ok(by_source.into_values().collect())
}

/// Loads what became of all points issued before the end of a period, by month of issue and source, as it is now.
///
/// # Errors
/// If the database fails.
pub async fn load_breakage(client: &Client, zone: Zone, period: &Period) -> Result<Vec<Breakage>, Error> {
    let sql = include_str!("../../sql/books/period_breakage.sql");
    let rows = client.query(sql, &[&period.end, &zone.name()]).await?;
    let issued = |row: &Row| {
        Ok(Breakage {
            month: row.try_get("month")?,
            source: row.try_get("source")?,
            issued: row.try_get("issued")?,
            refunded: row.try_get("refunded")?,
            voided: row.try_get("voided")?,
            expired: row.try_get("expired")?,
            open: row.try_get("open")?,
        })
    };
    rows.iter().map(issued).collect()
}

/// Calls `each` for every correction, refund and void recorded in a period, in order. Memory does not grow with them.
///
/// # Errors
/// If the database fails.
pub async fn for_each_single(
    snapshot: &Client,
    period: &Period,
    mut each: impl FnMut(SingleEntry),
) -> Result<(), Error> {
    let declare = concat!("DECLARE single NO SCROLL CURSOR FOR\n", include_str!("../../sql/books/period_single.sql"));
    let single = Cursor::open(snapshot, "single", declare, &[&period.begin, &period.end], FETCHED).await?;
    while let Some(rows) = single.fetch(snapshot).await? {
        for row in &rows {
            each(single_from(row)?);
        }
    }
    single.close(snapshot).await
}

fn single_from(row: &Row) -> Result<SingleEntry, Error> {
    let (kind, source): (String, String) = (row.try_get("type")?, row.try_get("source")?);
    let (reference, reason): (Option<String>, Option<String>) = (row.try_get("reference")?, row.try_get("reason")?);
    let description: Option<String> = row.try_get("description")?;
    Ok(SingleEntry {
        user: row.try_get("user_id")?,
        seq: row.try_get("seq")?,
        recorded_at: row.try_get("recorded_at")?,
        at: row.try_get("at")?,
        kind,
        source,
        points: row.try_get("points")?,
        by: row.try_get("by")?,
        reference,
        why: reason.or(description),
    })
}
