//! The report on expiry: the points that expired, those due to expire, and the last forecast against the actual figures.
//!
//! Points expired by the entries recorded after the last report's instant and up to this one's. The forecast is compared by
//! the expiry times of the batches, not by the times of the entries.

mod document;

use std::collections::BTreeMap;

use chrono::{DateTime, Days, Utc};
use deadpool_postgres::Transaction;
use tokio_postgres::Row;

use super::Error;
use super::arrears::plan_for_few;
use super::bridges::ExpiryBridge;
use super::calendar::{days_later, next_monday};
use super::pipeline::{Report, Scope};
use crate::document::Document;
use crate::ledger::{Buckets, Sweep};
use crate::time::start_of_day;

/// The report's name.
pub const REPORT: &str = "expiry";

/// The calendar weeks that the report shows, including the current one.
const WEEKS: u64 = 13;

/// The days that a forecast covers: as many as those weeks. A later report has no forecast to compare with.
const DAYS: u64 = WEEKS * 7;

/// The report on a sweep that is done.
#[derive(Clone, Copy)]
pub struct Expiry<'a> {
    /// What the sweep did.
    pub sweep: &'a Sweep,
    /// Whether the sweep's counters disagree with its entries. The run's log says how.
    pub disproved: bool,
}

/// Batches and points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    batches: i64,
    points: i64,
}

impl Held {
    fn plus(self, other: Held) -> Held {
        Held { batches: self.batches.saturating_add(other.batches), points: self.points.saturating_add(other.points) }
    }

    fn minus(self, other: Held) -> Held {
        Held { batches: self.batches.saturating_sub(other.batches), points: self.points.saturating_sub(other.points) }
    }

    fn from_row(row: &Row) -> Result<Held, tokio_postgres::Error> {
        Ok(Held { batches: row.try_get("batches")?, points: row.try_get("points")? })
    }
}

/// The points of a source that expired.
#[derive(Clone, Debug, Default)]
struct Expired {
    source: String,
    /// By a sweep, the nightly run.
    by_sweep: Held,
    /// By a posting to the account, before the nightly run.
    on_activity: Held,
    /// What of expired points came back for late usage.
    restored: i64,
}

impl Expired {
    fn total(&self) -> Held {
        self.by_sweep.plus(self.on_activity)
    }
}

/// What the last report remembered.
#[derive(Debug)]
struct Last {
    slot: DateTime<Utc>,
    as_of: DateTime<Utc>,
    /// The forecast of each day that is over.
    forecast: Vec<Forecast>,
}

/// The points that were forecast to expire by an instant, after the instant before.
#[derive(Clone, Copy, Debug)]
struct Forecast {
    ends: DateTime<Utc>,
    points: i64,
}

/// The movements of the batches that expire in a part, the time between two borders.
#[derive(Clone, Copy, Debug, Default)]
struct Flows {
    opened: i64,
    issued: i64,
    refunded: i64,
    used: i64,
    voided: i64,
    expired: i64,
    restored: i64,
    corrected: i64,
}

/// A day of the last forecast and its actual figures: forecast + brought in + issued + refunded - used - voided + restored + corrected =
/// expired + overdue + difference.
#[derive(Clone, Copy, Debug)]
struct Compared {
    ends: DateTime<Utc>,
    forecast: i64,
    flows: Flows,
    /// Points in open batches that should have expired.
    overdue: i64,
    difference: i64,
}

impl Compared {
    fn new(forecast: Forecast, flows: Flows, overdue: i64) -> Compared {
        let Forecast { ends, points } = forecast;
        let more = [flows.opened, flows.issued, flows.refunded, flows.restored, flows.corrected];
        let due = more.into_iter().fold(points, i64::saturating_add);
        let due = due.saturating_sub(flows.used).saturating_sub(flows.voided);
        let difference = due.saturating_sub(flows.expired.saturating_add(overdue));
        Compared { ends, forecast: points, flows, overdue, difference }
    }

    /// Whether there is anything to show.
    fn is_empty(&self) -> bool {
        let Flows { opened, issued, refunded, used, voided, expired, restored, corrected } = self.flows;
        let all = [self.forecast, opened, issued, refunded, used, voided, expired, restored, corrected, self.overdue];
        all.iter().all(|points| *points == 0)
    }
}

/// The points in open batches, by source and by part.
#[derive(Debug)]
struct Outlook {
    borders: Vec<DateTime<Utc>>,
    parts: BTreeMap<(String, usize), Held>,
}

impl Outlook {
    /// Reads the table of batches whole, because the report shows all open batches.
    async fn load(transaction: &Transaction<'_>, mut borders: Vec<DateTime<Utc>>) -> Result<Outlook, Error> {
        borders.sort_unstable();
        borders.dedup();
        let rows = transaction.query(include_str!("../../sql/reports/expiry_outlook.sql"), &[&borders]).await?;
        let mut outlook = Outlook { borders, parts: BTreeMap::new() };
        outlook.add(&rows)?;
        Ok(outlook)
    }

    /// Undoes the entries that were recorded after an instant.
    async fn take_back(&mut self, transaction: &Transaction<'_>, as_of: DateTime<Utc>) -> Result<(), Error> {
        let sql = include_str!("../../sql/reports/expiry_later.sql");
        let buckets = Buckets::read(transaction.client()).await?;
        self.add(&buckets.query_each(transaction.client(), sql, &[&as_of, &self.borders]).await?)?;
        self.parts.retain(|_, held| *held != Held::default());
        Ok(())
    }

    fn add(&mut self, rows: &[Row]) -> Result<(), tokio_postgres::Error> {
        for row in rows {
            let held = self.parts.entry((row.try_get("source")?, part_of(row)?)).or_default();
            *held = held.plus(Held::from_row(row)?);
        }
        Ok(())
    }

    /// What expires after one instant and by another; None is the begin or the end of time. Both must be borders.
    fn between(&self, source: Option<&str>, after: Option<DateTime<Utc>>, by: Option<DateTime<Utc>>) -> Held {
        let inside = |part: usize| {
            let begins = part.checked_sub(1).and_then(|border| self.borders.get(border));
            let ends = self.borders.get(part);
            after.is_none_or(|after| begins.is_some_and(|begins| *begins >= after))
                && by.is_none_or(|by| ends.is_some_and(|ends| *ends <= by))
        };
        self.parts
            .iter()
            .filter(|((of, part), _)| source.is_none_or(|source| source == of) && inside(*part))
            .fold(Held::default(), |sum, (_, held)| sum.plus(*held))
    }

    fn sources(&self) -> Vec<&str> {
        let mut sources: Vec<&str> = self.parts.keys().map(|(source, _)| source.as_str()).collect();
        sources.dedup();
        sources
    }
}

fn part_of(row: &Row) -> Result<usize, tokio_postgres::Error> {
    Ok(usize::try_from(row.try_get::<_, i32>("part")?).unwrap_or_default())
}

/// The begin and end of a calendar week, and what expires in it. The last part has no end.
#[derive(Clone, Copy, Debug)]
struct Week {
    begins: DateTime<Utc>,
    is_last: bool,
    held: Held,
}

/// The facts of the report.
#[derive(Debug)]
pub struct Facts {
    /// The instant of the last report; None if this is the first.
    since: Option<DateTime<Utc>>,
    expired: Vec<Expired>,
    /// To the business day before the slot; None in the first report.
    bridge: Option<ExpiryBridge>,
    outlook: Outlook,
    /// The slot that the days to come are counted from: a later one, if that has had its report before.
    counted_from: DateTime<Utc>,
    /// The ends of the days to come, beginning with that slot.
    days: Vec<DateTime<Utc>>,
    weeks: Vec<Week>,
    compared: Vec<Compared>,
    /// The points in open batches that were due at the slot.
    overdue: Held,
}

impl Facts {
    fn total_expired(&self) -> Expired {
        self.expired.iter().fold(Expired::default(), |sum, of| Expired {
            source: String::new(),
            by_sweep: sum.by_sweep.plus(of.by_sweep),
            on_activity: sum.on_activity.plus(of.on_activity),
            restored: sum.restored.saturating_add(of.restored),
        })
    }

    /// What expires within so many days of the slot.
    fn within(&self, source: Option<&str>, days: usize) -> Held {
        self.outlook.between(source, self.days.first().copied(), self.days.get(days).copied())
    }

    fn differing(&self) -> Vec<&Compared> {
        self.compared.iter().filter(|day| day.difference != 0).collect()
    }
}

impl Report for Expiry<'_> {
    const NAME: &'static str = REPORT;
    type Facts = Facts;
    type Counters = Sweep;

    async fn gather(&self, snapshot: &Transaction<'_>, scope: &Scope<'_>) -> Result<Facts, Error> {
        let zone = scope.config.time_zone;
        let last = read_last(snapshot, scope.slot).await?;
        // A slot that is made up after a later one carries that one's forecast on, and never moves it back.
        let counted_from = last.as_ref().map_or(scope.slot, |last| last.slot.max(scope.slot));
        let days: Vec<DateTime<Utc>> = (0..=DAYS).map(|day| days_later(counted_from, day, zone)).collect();
        let monday = next_monday(counted_from, zone);
        let mondays =
            (0..WEEKS).filter_map(|week| Some(start_of_day(monday.checked_add_days(Days::new(week * 7))?, zone)));
        let weeks: Vec<DateTime<Utc>> = std::iter::once(counted_from).chain(mondays).collect();
        let compared: Vec<Forecast> = last.as_ref().map(|last| last.forecast.clone()).unwrap_or_default();
        let ends: Vec<DateTime<Utc>> = compared.iter().map(|forecast| forecast.ends).collect();
        let mut outlook = Outlook::load(snapshot, [days.as_slice(), &weeks, &ends, &[scope.slot]].concat()).await?;

        // All other statements read the entries of a span.
        plan_for_few(snapshot.client()).await?;
        outlook.take_back(snapshot, scope.as_of).await?;
        let since = last.map(|last| last.as_of);
        let expired = match since {
            Some(since) => read_expired(snapshot, since, scope.as_of).await?,
            None => expired_by(self.sweep),
        };
        let bridge = match since {
            Some(since) => read_bridge(snapshot, since, scope).await?,
            None => None,
        };
        let flows = match since {
            Some(since) => read_flows(snapshot, since, scope.as_of, &ends).await?,
            None => Vec::new(),
        };
        let begins = std::iter::once(None).chain(ends.iter().copied().map(Some));
        let compared = compared.into_iter().zip(flows).zip(begins).map(|((forecast, flows), begins)| {
            Compared::new(forecast, flows, outlook.between(None, begins, Some(forecast.ends)).points)
        });
        let (compared, overdue) = (compared.collect(), outlook.between(None, None, Some(scope.slot)));
        let weeks = weeks_of(&outlook, &weeks);
        Ok(Facts { since, expired, bridge, counted_from, days, weeks, compared, overdue, outlook })
    }

    fn document(&self, facts: &Facts, scope: &Scope<'_>) -> Document {
        document::document(self, facts, scope)
    }

    /// Keeps the forecast: a first row of what was due by the slot and is still there, then a row for each day.
    async fn remember(&self, transaction: &Transaction<'_>, facts: &Facts, scope: &Scope<'_>) -> Result<(), Error> {
        // Days beyond the calendar share its last instant.
        let mut days = facts.days.clone();
        days.dedup();
        let begins = std::iter::once(None).chain(days.iter().copied().map(Some));
        let held = begins.zip(&days).map(|(begins, ends)| facts.outlook.between(None, begins, Some(*ends)));
        let (batches, points): (Vec<i64>, Vec<i64>) = held.map(|held| (held.batches, held.points)).unzip();
        transaction.execute(include_str!("../../sql/reports/forecast_clear.sql"), &[&scope.as_of]).await?;
        let insert = include_str!("../../sql/reports/forecast_insert.sql");
        transaction.execute(insert, &[&facts.counted_from, &scope.as_of, &days, &batches, &points]).await?;
        Ok(())
    }

    fn counters(&self, _: &Facts) -> Sweep {
        self.sweep.clone()
    }

    fn accounts(&self, _: &Facts) -> u64 {
        self.sweep.accounts
    }
}

/// The last report's slot and instant, and its forecast for days that are over at the slot, or at its own if that is later.
async fn read_last(transaction: &Transaction<'_>, slot: DateTime<Utc>) -> Result<Option<Last>, Error> {
    let mut last: Option<Last> = None;
    for row in transaction.query(include_str!("../../sql/reports/forecast_last.sql"), &[]).await? {
        let as_of = row.try_get("as_of")?;
        let forecast = Forecast { ends: row.try_get("ends")?, points: row.try_get("points")? };
        let last = last.get_or_insert(Last { slot: row.try_get("slot")?, as_of, forecast: Vec::new() });
        if forecast.ends <= slot.max(last.slot) {
            last.forecast.push(forecast);
        }
    }
    Ok(last)
}

/// The points that expired by entries recorded after one instant and up to another.
async fn read_expired(
    transaction: &Transaction<'_>,
    since: DateTime<Utc>,
    as_of: DateTime<Utc>,
) -> Result<Vec<Expired>, Error> {
    let mut by_source: BTreeMap<String, Expired> = BTreeMap::new();
    for row in transaction.query(include_str!("../../sql/reports/expiry_taken.sql"), &[&since, &as_of]).await? {
        let (source, held): (String, Held) = (row.try_get("source")?, Held::from_row(&row)?);
        let expired = by_source.entry(source.clone()).or_insert_with(|| Expired { source, ..Expired::default() });
        *(if row.try_get("by_sweep")? { &mut expired.by_sweep } else { &mut expired.on_activity }) = held;
        expired.restored = expired.restored.saturating_add(row.try_get("restored")?);
    }
    Ok(by_source.into_values().collect())
}

/// What the report tells as expired, beside the business day before its slot.
async fn read_bridge(
    transaction: &Transaction<'_>,
    since: DateTime<Utc>,
    scope: &Scope<'_>,
) -> Result<Option<ExpiryBridge>, Error> {
    let zone = scope.config.time_zone;
    let today = scope.slot.with_timezone(&zone).date_naive();
    let Some(day) = today.pred_opt() else { return Ok(None) };
    let (begin, end) = (start_of_day(day, zone), start_of_day(today, zone));
    let sql = include_str!("../../sql/reports/expiry_bridge.sql");
    let row = transaction.query_one(sql, &[&since, &scope.as_of, &begin, &end]).await?;
    Ok(Some(ExpiryBridge::from_row(day, &row)?))
}

/// The first report knows only its own sweep.
fn expired_by(sweep: &Sweep) -> Vec<Expired> {
    let sources = sweep.by_source.iter().map(|(source, of)| {
        let batches = i64::try_from(of.batches).unwrap_or(i64::MAX);
        let by_sweep = Held { batches, points: of.points };
        Expired { source: source.clone(), by_sweep, ..Expired::default() }
    });
    sources.collect()
}

/// The movements by entries recorded after one instant and up to another, for each part: up to the first border, between two
/// borders, and after the last.
async fn read_flows(
    transaction: &Transaction<'_>,
    since: DateTime<Utc>,
    as_of: DateTime<Utc>,
    borders: &[DateTime<Utc>],
) -> Result<Vec<Flows>, Error> {
    let sql = include_str!("../../sql/reports/expiry_flows.sql");
    let mut flows = vec![Flows::default(); borders.len() + 1];
    let buckets = Buckets::read(transaction.client()).await?;
    for row in buckets.query_each(transaction.client(), sql, &[&since, &as_of, &borders]).await? {
        if let Some(of) = flows.get_mut(part_of(&row)?) {
            for (sum, name) in [
                (&mut of.opened, "opened"),
                (&mut of.issued, "issued"),
                (&mut of.refunded, "refunded"),
                (&mut of.used, "used"),
                (&mut of.voided, "voided"),
                (&mut of.expired, "expired"),
                (&mut of.restored, "restored"),
                (&mut of.corrected, "corrected"),
            ] {
                *sum = sum.saturating_add(row.try_get(name)?);
            }
        }
    }
    Ok(flows)
}

/// What expires in each week that begins at one of these instants, and later. The first is the rest of the current week.
fn weeks_of(outlook: &Outlook, begins: &[DateTime<Utc>]) -> Vec<Week> {
    let ends = begins.iter().skip(1).copied().map(Some).chain([None]);
    let week = |(begins, ends): (&DateTime<Utc>, Option<DateTime<Utc>>)| Week {
        begins: *begins,
        is_last: ends.is_none(),
        held: outlook.between(None, Some(*begins), ends),
    };
    begins.iter().zip(ends).map(week).collect()
}
