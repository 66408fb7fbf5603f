//! The points that moved since the first entry, carried on from cutoff to cutoff.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use tokio_postgres::{Client, Error};

use super::days::{load_movements, movement_from};
use super::{Movement, Movements, roll};

/// Without a closed day the entries are read from the first one on, but no more than this, in bytes: about two million entries.
const MOST_WITHOUT_A_DAY: i64 = 512 * 1024 * 1024;

/// All movements up to a cutoff, and the points that they left. The closed days and what was recorded since are read once.
/// After that only what was recorded since the last cutoff is read.
#[derive(Clone, Debug)]
pub struct RunningTotals {
    /// The first instant that is not included.
    pub until: DateTime<Utc>,
    /// The movements of each source, and of [`ARREARS`](super::ARREARS).
    pub moved: Movements,
    /// The points left of each source; those of [`ARREARS`](super::ARREARS) are zero or below.
    pub left: BTreeMap<String, i64>,
}

impl RunningTotals {
    /// Loads the totals up to `cutoff` ([`cutoff`](crate::ledger::cutoff)). None if no day is closed and there are so many entries
    /// that reading them all would take long.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn load(client: &Client, cutoff: DateTime<Utc>) -> Result<Option<RunningTotals>, Error> {
        let (mut moved, mut left, mut from) = (Movements::new(), BTreeMap::new(), None);
        for row in client.query(include_str!("../../sql/books/day_total.sql"), &[]).await? {
            let source: String = row.try_get("source")?;
            moved.insert(source.clone(), movement_from(&row)?);
            left.insert(source, row.try_get("closing")?);
            from = row.try_get("ended")?;
        }
        if from.is_none() {
            let size: i64 = client.query_one(include_str!("../../sql/books/entry_size.sql"), &[]).await?.try_get(0)?;
            if size > MOST_WITHOUT_A_DAY {
                return Ok(None);
            }
        }
        let mut totals = RunningTotals { until: from.unwrap_or(cutoff), moved, left };
        totals.add(client, from, cutoff).await?;
        Ok(Some(totals))
    }

    /// Adds what was recorded from the last cutoff up to this one.
    ///
    /// # Errors
    /// If the database fails: the totals stay as they were.
    pub async fn carry_on(&mut self, client: &Client, cutoff: DateTime<Utc>) -> Result<(), Error> {
        self.add(client, Some(self.until), cutoff).await
    }

    async fn add(&mut self, client: &Client, from: Option<DateTime<Utc>>, to: DateTime<Utc>) -> Result<(), Error> {
        if from.is_some_and(|from| from >= to) {
            return Ok(());
        }
        let moved = load_movements(client, from, Some(to), &[]).await?.into_iter().next().unwrap_or_default();
        for (source, moved) in &moved {
            let sum: &mut Movement = self.moved.entry(source.clone()).or_default();
            *sum = sum.plus(moved);
        }
        self.left = roll(std::mem::take(&mut self.left), &moved);
        self.until = to;
        Ok(())
    }
}
