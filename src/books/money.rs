//! The books in money: what is deferred of the prices of batches, by currency and source.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row};

use super::{RollForward, clamp};

/// A currency and a source.
pub type Place = (String, String);

/// Money that moved on a day or since one, in minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MoneyMovement {
    /// Of points that were brought along from elsewhere.
    pub opened: i64,
    /// The prices of recharges.
    pub sold: i64,
    /// Recognised on use. Below zero where refunds and voids took back more than was used.
    pub used: i64,
    /// Recognised on expiry, less what was restored.
    pub expired: i64,
    /// Returned to customers by voids.
    pub returned: i64,
    /// Moved by adjust entries, up or down.
    pub corrected: i64,
}

/// Movements by currency and source.
pub type MoneyMovements = BTreeMap<Place, MoneyMovement>;

/// The row of a currency and a source in a roll-forward of deferred revenue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MoneyBooked {
    /// Deferred at the begin of the day.
    pub opening: i64,
    /// Money that moved on the day.
    pub moved: MoneyMovement,
    /// Deferred at the end of the day.
    pub closing: i64,
}

impl MoneyMovement {
    /// What is deferred after it, clamped to 64 bits.
    pub fn closing(&self, opening: i64) -> i64 {
        let [plus, minus] =
            [vec![opening, self.opened, self.sold, self.corrected], vec![self.used, self.expired, self.returned]]
                .map(|parts| parts.into_iter().map(i128::from).sum::<i128>());
        clamp(plus - minus)
    }

    fn from_row(row: &Row) -> Result<MoneyMovement, Error> {
        Ok(MoneyMovement {
            opened: row.try_get("opened")?,
            sold: row.try_get("sold")?,
            used: row.try_get("used")?,
            expired: row.try_get("expired")?,
            returned: row.try_get("returned")?,
            corrected: row.try_get("corrected")?,
        })
    }
}

impl MoneyBooked {
    /// The sum of two rows of one currency.
    pub fn plus(&self, other: &MoneyBooked) -> MoneyBooked {
        let MoneyMovement { opened, sold, used, expired, returned, corrected } = other.moved;
        MoneyBooked {
            opening: self.opening.saturating_add(other.opening),
            moved: MoneyMovement {
                opened: self.moved.opened.saturating_add(opened),
                sold: self.moved.sold.saturating_add(sold),
                used: self.moved.used.saturating_add(used),
                expired: self.moved.expired.saturating_add(expired),
                returned: self.moved.returned.saturating_add(returned),
                corrected: self.moved.corrected.saturating_add(corrected),
            },
            closing: self.closing.saturating_add(other.closing),
        }
    }

    /// Its columns that follow from the entries and from the day before, by name.
    pub(super) fn columns(&self) -> [(&'static str, i64); 7] {
        let MoneyMovement { opened, sold, used, expired, returned, corrected } = self.moved;
        [
            ("opening", self.opening),
            ("opened", opened),
            ("sold", sold),
            ("used", used),
            ("expired", expired),
            ("returned", returned),
            ("corrected", corrected),
        ]
    }
}

/// The rows of the day after closings of `carried`. A place without money has no row.
pub(super) fn carry_money(carried: &BTreeMap<Place, i64>, moved: &MoneyMovements) -> BTreeMap<Place, MoneyBooked> {
    let places: BTreeSet<&Place> = carried.keys().chain(moved.keys()).collect();
    let row = |place: &Place| {
        let opening = carried.get(place).copied().unwrap_or_default();
        let moved = moved.get(place).copied().unwrap_or_default();
        MoneyBooked { opening, moved, closing: moved.closing(opening) }
    };
    let rows = places.into_iter().map(|place| (place.clone(), row(place)));
    rows.filter(|(_, row)| row.opening != 0 || row.moved != MoneyMovement::default()).collect()
}

/// What is deferred at each place after `moved`.
pub(super) fn roll_money(mut deferred: BTreeMap<Place, i64>, moved: &MoneyMovements) -> BTreeMap<Place, i64> {
    for (place, moved) in moved {
        let sum = deferred.entry(place.clone()).or_default();
        *sum = moved.closing(*sum);
    }
    deferred
}

/// As [`load_movements`](super::days::load_movements), in money.
pub(super) async fn load_money_movements(
    client: &Client,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    ends: &[DateTime<Utc>],
) -> Result<Vec<MoneyMovements>, Error> {
    let mut moved = vec![MoneyMovements::new(); ends.len() + 1];
    for row in client.query(include_str!("../../sql/books/money_movement.sql"), &[&from, &to, &ends]).await? {
        let nth = usize::try_from(row.try_get::<_, i32>("nth")?).unwrap_or_default();
        if let Some(day) = moved.get_mut(nth) {
            day.insert(place_from(&row)?, MoneyMovement::from_row(&row)?);
        }
    }
    Ok(moved)
}

/// What the open batches say is deferred.
pub(super) async fn load_deferred(client: &Client) -> Result<BTreeMap<Place, i64>, Error> {
    let rows = client.query(include_str!("../../sql/books/batch_deferred.sql"), &[]).await?;
    rows.iter().map(|row| Ok((place_from(row)?, row.try_get("deferred")?))).collect()
}

/// Writes the money of closed days.
pub(super) async fn insert_money(client: &Client, closed: &[RollForward]) -> Result<(), Error> {
    let rows = closed.iter().flat_map(|day| day.money.iter().map(move |(place, row)| (day.day, place, row)));
    let (mut days, mut currencies, mut sources): (Vec<NaiveDate>, Vec<&str>, Vec<&str>) = Default::default();
    let mut numbers: [Vec<i64>; 8] = Default::default();
    for (day, (currency, source), row) in rows {
        days.push(day);
        currencies.push(currency);
        sources.push(source);
        let of_row = row.columns().map(|(_, number)| number).into_iter().chain([row.closing]);
        numbers.iter_mut().zip(of_row).for_each(|(column, number)| column.push(number));
    }
    if days.is_empty() {
        return Ok(());
    }
    let mut columns: Vec<&(dyn ToSql + Sync)> = vec![&days, &currencies, &sources];
    columns.extend(numbers.iter().map(|numbers| numbers as &(dyn ToSql + Sync)));
    client.execute(include_str!("../../sql/books/money_insert.sql"), &columns).await?;
    Ok(())
}

/// Gives closed days, which are in order, their money.
pub(super) async fn load_money(client: &Client, days: &mut [RollForward]) -> Result<(), Error> {
    let [first, last] = [days.first(), days.last()].map(|day| day.map(|day| day.day));
    for row in client.query(include_str!("../../sql/books/money_list.sql"), &[&first, &last]).await? {
        let day: NaiveDate = row.try_get("day")?;
        if let Some(day) = days.binary_search_by_key(&day, |day| day.day).ok().and_then(|place| days.get_mut(place)) {
            let (opening, closing) = (row.try_get("opening")?, row.try_get("closing")?);
            day.money
                .insert(place_from(&row)?, MoneyBooked { opening, moved: MoneyMovement::from_row(&row)?, closing });
        }
    }
    Ok(())
}

fn place_from(row: &Row) -> Result<Place, Error> {
    Ok((row.try_get("currency")?, row.try_get("source")?))
}
