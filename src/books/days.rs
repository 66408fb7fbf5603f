//! The table `pointsd.days`: closes business days and loads closed ones.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row};

use super::money::{carry_money, insert_money, load_money, load_money_movements};
use super::tie_out::whole_ledger_finding;
use super::{ARREARS, Booked, DAY_OPEN, MOST_BOOKED, Movement, Movements, Place, RollForward, name_of};
use crate::proof::Finding;
use crate::time::{Zone, start_of_day};

/// What [`close_days`] did.
#[derive(Clone, Debug, Default)]
pub struct ClosedDays {
    /// How many days it closed.
    pub days: u64,
    /// The day that cannot be closed, with the figure that is the reason. The days after it stay open, too.
    pub refused: Option<Finding>,
}

/// Lets one transaction at a time close days, until it ends. Another one that would close the same days finds them closed.
///
/// A snapshot that began before is not refreshed: call it first in a READ COMMITTED transaction.
///
/// # Errors
/// If the database fails.
pub async fn lock_days(client: &Client) -> Result<(), Error> {
    client.execute(include_str!("../../sql/books/day_lock.sql"), &[]).await.map(drop)
}

/// Closes every business day that ended at `cutoff` or before, from the day after the last closed one, or from the first entry's day.
/// Runs in the transaction that is open on `client`, after [`lock_days`].
///
/// `cutoff` must come from [`ledger::cutoff`](crate::ledger::cutoff), called before the transaction began: then no entry of a
/// closed day commits later.
///
/// A day whose numbers cannot be added up stays open, and so do the days after it, until its entries are set right. It is logged
/// as an error.
///
/// # Errors
/// If the database fails.
pub async fn close_days(client: &Client, zone: Zone, cutoff: DateTime<Utc>) -> Result<ClosedDays, Error> {
    let reopened = client.execute(include_str!("../../sql/books/day_reopen.sql"), &[]).await?;
    if reopened > 0 {
        tracing::warn!(rows = reopened, "business days were closed while the clock was ahead: they are open again");
    }
    let Some(open) = load_open(client, zone).await? else { return Ok(ClosedDays::default()) };
    let ended = open.ended_days(zone, cutoff);
    let Some(&(_, to)) = ended.last() else { return Ok(ClosedDays::default()) };
    let ends: Vec<DateTime<Utc>> = ended.iter().map(|(_, end)| *end).collect();
    let moved = load_movements(client, open.begin, Some(to), &ends).await?;
    let money_moved = load_money_movements(client, open.begin, Some(to), &ends).await?;
    let prints = load_prints(client, open.begin, Some(to), &ends).await?;
    let (mut carried, mut deferred) = (open.carried, open.deferred);
    let (mut closed, mut refused) = (Vec::new(), None);
    for ((&(day, ended), moved), money_moved) in ended.iter().zip(moved).zip(money_moved) {
        let (rows, money) = (carry(&carried, &moved), carry_money(&deferred, &money_moved));
        let day = RollForward { day, ended, rows, money };
        refused = find_uncountable(&day);
        if refused.is_some() {
            break;
        }
        (carried, deferred) = (day.closings(), day.deferred());
        closed.push(day);
    }
    insert_days(client, &closed).await?;
    insert_money(client, &closed).await?;
    let seals: Vec<(NaiveDate, i64)> = closed.iter().map(|day| day.day).zip(prints).collect();
    seal_days(client, &seals).await?;
    Ok(ClosedDays { days: closed.len() as u64, refused })
}

/// The first figure of a day that is too large to be added up, as a finding; none if there is none.
fn find_uncountable(day: &RollForward) -> Option<Finding> {
    let date = day.day;
    let points = day.rows.iter().flat_map(|(source, row)| {
        let columns = row.columns().into_iter().chain([("closing", row.closing)]);
        columns.map(move |(column, number)| (format!("{date} {}", name_of(source)), column, number))
    });
    let money = day.money.iter().flat_map(|((currency, source), row)| {
        let columns = row.columns().into_iter().chain([("closing", row.closing)]);
        columns.map(move |(column, number)| (format!("{date} {currency} {}", name_of(source)), column, number))
    });
    let (place, column, number) =
        points.chain(money).find(|(_, _, number)| number.unsigned_abs() > MOST_BOOKED.unsigned_abs())?;
    tracing::error!(
        place,
        column,
        number,
        most = MOST_BOOKED,
        "a business day cannot be closed, nor the days after it: a figure is too large to be added up"
    );
    let [expected, found] = [MOST_BOOKED, number].map(|number| format!("{place}: {column} {number}"));
    Some(whole_ledger_finding(DAY_OPEN, expected, found))
}

/// The first business day that is not closed.
struct OpenDay {
    day: NaiveDate,
    /// Where the closed days end; none before the first one.
    begin: Option<DateTime<Utc>>,
    /// The closings of the last closed day.
    carried: BTreeMap<String, i64>,
    /// The same in money.
    deferred: BTreeMap<Place, i64>,
}

impl OpenDay {
    /// This day and those after it that ended at `cutoff` or before, each with the first instant after it.
    fn ended_days(&self, zone: Zone, cutoff: DateTime<Utc>) -> Vec<(NaiveDate, DateTime<Utc>)> {
        let (mut day, mut ended) = (self.day, self.begin);
        let mut days = Vec::new();
        while let Some(next) = day.succ_opt() {
            // After a change of business.time_zone, a day may end before the day before it did: then it is empty.
            let end = ended.map_or(start_of_day(next, zone), |ended| start_of_day(next, zone).max(ended));
            if end > cutoff {
                break;
            }
            days.push((day, end));
            (day, ended) = (next, Some(end));
        }
        days
    }
}

async fn load_open(client: &Client, zone: Zone) -> Result<Option<OpenDay>, Error> {
    if let Some(last) = load_last_day(client).await? {
        let (carried, deferred) = (last.closings(), last.deferred());
        let open = |day| OpenDay { day, begin: Some(last.ended), carried, deferred };
        return Ok(last.day.succ_opt().map(open));
    }
    let row = client.query_one(include_str!("../../sql/books/day_first.sql"), &[]).await?;
    let first: Option<DateTime<Utc>> = row.try_get(0)?;
    let open = |at: DateTime<Utc>| OpenDay {
        day: at.with_timezone(&zone).date_naive(),
        begin: None,
        carried: BTreeMap::new(),
        deferred: BTreeMap::new(),
    };
    Ok(first.map(open))
}

/// The rows of the day after closings of `carried`. A source without points and movements has no row; arrears always have
/// one.
pub(super) fn carry(carried: &BTreeMap<String, i64>, moved: &Movements) -> BTreeMap<String, Booked> {
    let sources: BTreeSet<&str> = carried.keys().chain(moved.keys()).map(String::as_str).chain([ARREARS]).collect();
    let mut rows = BTreeMap::new();
    for source in sources {
        let opening = carried.get(source).copied().unwrap_or_default();
        let moved = moved.get(source).copied().unwrap_or_default();
        let closing = moved.closing(opening);
        if source == ARREARS || opening != 0 || moved != Movement::default() {
            rows.insert(source.to_owned(), Booked { opening, moved, closing });
        }
    }
    rows
}

async fn insert_days(client: &Client, closed: &[RollForward]) -> Result<(), Error> {
    let (mut days, mut sources, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    let mut numbers: [Vec<i64>; 11] = Default::default();
    for (day, (source, row)) in closed.iter().flat_map(|day| day.rows.iter().map(move |row| (day, row))) {
        days.push(day.day);
        sources.push(source.as_str());
        ends.push(day.ended);
        numbers.iter_mut().zip(row.numbers()).for_each(|(column, number)| column.push(number));
    }
    let mut columns: Vec<&(dyn ToSql + Sync)> = vec![&days, &sources, &ends];
    columns.extend(numbers.iter().map(|numbers| numbers as &(dyn ToSql + Sync)));
    client.execute(include_str!("../../sql/books/day_insert.sql"), &columns).await?;
    Ok(())
}

/// The movements recorded from `from` up to `to`, without it: one for each day that ends at one of `ends`, and a last one
/// for the time after them.
pub(super) async fn load_movements(
    client: &Client,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    ends: &[DateTime<Utc>],
) -> Result<Vec<Movements>, Error> {
    let mut moved = vec![Movements::new(); ends.len() + 1];
    for row in client.query(include_str!("../../sql/books/day_movement.sql"), &[&from, &to, &ends]).await? {
        let nth = usize::try_from(row.try_get::<_, i32>("nth")?).unwrap_or_default();
        if let Some(day) = moved.get_mut(nth) {
            day.insert(row.try_get("source")?, movement_from(&row)?);
        }
    }
    Ok(moved)
}

pub(super) fn movement_from(row: &Row) -> Result<Movement, Error> {
    Ok(Movement {
        opened: row.try_get("opened")?,
        recharged: row.try_get("recharged")?,
        refunded: row.try_get("refunded")?,
        settled: row.try_get("settled")?,
        consumed: row.try_get("consumed")?,
        voided: row.try_get("voided")?,
        expired: row.try_get("expired")?,
        restored: row.try_get("restored")?,
        adjusted: row.try_get("adjusted")?,
    })
}

/// The fingerprints of the entries, by day as in [`load_movements`].
pub(super) async fn load_prints(
    client: &Client,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    ends: &[DateTime<Utc>],
) -> Result<Vec<i64>, Error> {
    let mut prints = vec![0; ends.len() + 1];
    for row in client.query(include_str!("../../sql/books/day_print.sql"), &[&from, &to, &ends]).await? {
        let nth = usize::try_from(row.try_get::<_, i32>("nth")?).unwrap_or_default();
        if let Some(print) = prints.get_mut(nth) {
            *print = row.try_get("print")?;
        }
    }
    Ok(prints)
}

/// Seals closed days, each with the fingerprint of its entries. A day that has a seal gets a new one.
///
/// # Errors
/// If the database fails.
pub async fn seal_days(client: &Client, seals: &[(NaiveDate, i64)]) -> Result<(), Error> {
    let (days, prints): (Vec<NaiveDate>, Vec<i64>) = seals.iter().copied().unzip();
    client.execute(include_str!("../../sql/books/seal_write.sql"), &[&days, &prints]).await.map(drop)
}

/// The fingerprint of the entries of all closed days, as they were sealed. None if the rows of a day, or a seal, have changed.
///
/// # Errors
/// If the database fails.
pub async fn load_sealed(client: &Client) -> Result<Option<i64>, Error> {
    client.query_one(include_str!("../../sql/books/seal_read.sql"), &[]).await?.try_get(0)
}

/// Loads the last closed day.
///
/// # Errors
/// If the database fails.
pub async fn load_last_day(client: &Client) -> Result<Option<RollForward>, Error> {
    let rows = client.query(include_str!("../../sql/books/day_last.sql"), &[]).await?;
    let mut days = days_from(&rows)?;
    load_money(client, &mut days).await?;
    Ok(days.pop())
}

/// Loads the closed days from `from`, or the first one, to `to`, both included, in order.
///
/// # Errors
/// If the database fails.
pub async fn load_span(client: &Client, from: Option<NaiveDate>, to: NaiveDate) -> Result<Vec<RollForward>, Error> {
    let rows = client.query(include_str!("../../sql/books/day_span.sql"), &[&from, &to]).await?;
    let mut days = days_from(&rows)?;
    load_money(client, &mut days).await?;
    Ok(days)
}

/// Loads all closed days, in order.
///
/// # Errors
/// If the database fails.
pub async fn load_days(client: &Client) -> Result<Vec<RollForward>, Error> {
    let rows = client.query(include_str!("../../sql/books/day_list.sql"), &[]).await?;
    let mut days = days_from(&rows)?;
    load_money(client, &mut days).await?;
    Ok(days)
}

fn days_from(rows: &[Row]) -> Result<Vec<RollForward>, Error> {
    let mut days: Vec<RollForward> = Vec::new();
    for row in rows {
        let (day, ended) = (row.try_get("day")?, row.try_get("ended")?);
        if days.last().is_none_or(|last| last.day != day) {
            days.push(RollForward { day, ended, rows: BTreeMap::new(), money: BTreeMap::new() });
        }
        let booked =
            Booked { opening: row.try_get("opening")?, moved: movement_from(row)?, closing: row.try_get("closing")? };
        if let Some(last) = days.last_mut() {
            last.rows.insert(row.try_get("source")?, booked);
        }
    }
    Ok(days)
}
