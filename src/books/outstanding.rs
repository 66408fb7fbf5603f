//! The points left in open batches, by source, age and time to expiry.

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use tokio_postgres::{Client, Error, Row};

use crate::time::{Zone, start_of_day};

/// The days at which a batch counts as older, or its expiry as later: 0-30, 31-90, 91-180, and more.
pub const STEPS: [u64; 3] = [30, 90, 180];

/// The points in open batches of one source, one age and one time to expiry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outstanding {
    /// The source.
    pub source: String,
    /// The age group: 0 is the oldest.
    pub age: usize,
    /// The group by time to expiry: 0 is overdue.
    pub expiry: usize,
    /// Number of batches.
    pub batches: i64,
    /// Points left in them.
    pub points: i64,
}

/// Loads what is outstanding at `as_of`. Ages and times to expiry count in calendar days of `zone`.
pub(super) async fn load_outstanding(
    client: &Client,
    zone: Zone,
    as_of: DateTime<Utc>,
) -> Result<Vec<Outstanding>, Error> {
    let today = as_of.with_timezone(&zone).date_naive();
    let begin = |day: Option<NaiveDate>| day.map_or(as_of, |day| start_of_day(day, zone));
    let mut ages: Vec<DateTime<Utc>> =
        STEPS.iter().map(|days| begin(today.checked_sub_days(Days::new(*days)))).collect();
    ages.sort();
    // A batch that expires at this very instant is due.
    let mut expiries = vec![as_of + TimeDelta::microseconds(1)];
    expiries.extend(STEPS.iter().map(|days| begin(today.checked_add_days(Days::new(days + 1)))));
    expiries.sort();
    let rows = client.query(include_str!("../../sql/books/batch_outstanding.sql"), &[&ages, &expiries]).await?;
    rows.iter().map(outstanding_from).collect()
}

fn outstanding_from(row: &Row) -> Result<Outstanding, Error> {
    Ok(Outstanding {
        source: row.try_get("source")?,
        age: usize::try_from(row.try_get::<_, i32>("age")?).unwrap_or_default(),
        expiry: usize::try_from(row.try_get::<_, i32>("expiry")?).unwrap_or_default(),
        batches: row.try_get("batches")?,
        points: row.try_get("points")?,
    })
}
