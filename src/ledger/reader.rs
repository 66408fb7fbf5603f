//! Reads of one account: its books, its batches, and its history page by page.
//!
//! Each read finds its rows by the account's user, so its cost does not grow with the ledger.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::cutoff::wait_until_complete;
use super::decide::CLOCK_TOLERANCE;
use super::holds::{Hold, hold_from};
use super::read::{
    Balance, BalanceThen, Check, ExportedBatch, ExportedEntry, NextExpiry, Then, balance_from, balance_then_from,
    batch_of_export, entry_of_export,
};
use super::reply::EntryType;
use super::session::Error;
use crate::time::to_microsecond;

/// The most entries that one page reads. A filter that few entries pass ends a page here, before it is full.
pub const MOST_READ: i64 = 10_000;

/// Reads accounts over a connection, whatever its settings.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    client: &'a Client,
}

/// A part of a list.
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Page<T> {
    /// What the page holds.
    pub items: Vec<T>,
    /// Where the next page begins: its cursor. None at the end of the list.
    pub next: Option<i64>,
}

/// A part of the list of holds.
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HoldPage {
    /// What the page holds.
    pub items: Vec<Hold>,
    /// Where the next page begins: its cursor. None at the end of the list.
    pub next: Option<Uuid>,
}

/// Which batches a page shows, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batches {
    /// Those with points left, the next to expire first.
    Open,
    /// All, by their numbers.
    All,
}

/// The order of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By falling numbers.
    Newest,
    /// By rising numbers.
    Oldest,
}

/// Which entries a page shows. Each period includes its begin and excludes its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryFilter {
    /// Effective from this instant on.
    pub effective_from: Option<DateTime<Utc>>,
    /// Effective before this instant.
    pub effective_before: Option<DateTime<Utc>>,
    /// Recorded from this instant on.
    pub recorded_from: Option<DateTime<Utc>>,
    /// Recorded before this instant.
    pub recorded_before: Option<DateTime<Utc>>,
    /// Only of this type.
    pub kind: Option<EntryType>,
    /// Only of this kind of service, or this source of points.
    pub source_type: Option<String>,
}

impl EntryFilter {
    /// The columns of export_entries. No entry is dated far ahead of its recording, so a begin by effective time is one of recording
    /// as well, which has an index.
    pub(super) fn columns(&self) -> Vec<Box<dyn ToSql + Sync + Send>> {
        vec![
            Box::new(self.effective_from.map(to_microsecond)),
            Box::new(self.effective_before.map(to_microsecond)),
            Box::new(self.first_recording().map(to_microsecond)),
            Box::new(self.recorded_before.map(to_microsecond)),
            Box::new(self.kind.map(EntryType::as_str)),
            Box::new(self.source_type.clone()),
        ]
    }

    /// The first instant at which an entry that passes may have been recorded.
    fn first_recording(&self) -> Option<DateTime<Utc>> {
        let effective = self.effective_from.map(|from| from.checked_sub_signed(CLOCK_TOLERANCE).unwrap_or(from));
        self.recorded_from.max(effective)
    }
}

/// Where a history parts at an instant, by the numbers of entries.
struct Around {
    /// The last one recorded before it.
    low: i64,
    /// The first one recorded after that.
    high: i64,
    /// One more than the last one of all.
    past_end: i64,
}

impl<'a> Reader<'a> {
    /// Reads over this connection to a migrated database.
    pub fn new(client: &'a Client) -> Reader<'a> {
        Reader { client }
    }

    /// Reads the account's balance and totals, and the points available at `at`. One round trip.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn balance(self, user: Uuid, at: DateTime<Utc>) -> Result<Balance, Error> {
        let sql = include_str!("../../sql/ledger/balance.sql");
        let at = to_microsecond(at);
        let row = self.client.query_typed_one(sql, &[(&user, Type::UUID), (&at, Type::TIMESTAMPTZ)]).await?;
        balance_from(user, &row)
    }

    /// Reads the account's balance and totals at a past instant. What the books said is told once it cannot change any more: when every
    /// transaction that was writing entries has ended, for which it waits `limit` at most. Its cost grows with the entries recorded after
    /// the instant, or with those before it where they are fewer and `then` is [`Then::AsOf`].
    ///
    /// # Errors
    /// [`Error::Future`] for what the books say at an instant to come; [`Error::Uncommitted`]; or where the database fails.
    pub async fn balance_then(self, user: Uuid, then: Then, limit: Duration) -> Result<BalanceThen, Error> {
        let (as_of, effective_at) = then.columns();
        if let Some(as_of) = as_of {
            wait_until_complete(self.client, as_of, limit).await?;
        }
        let sql = include_str!("../../sql/ledger/balance_then.sql");
        let parameters: [(&(dyn ToSql + Sync), Type); 3] =
            [(&user, Type::UUID), (&as_of, Type::TIMESTAMPTZ), (&effective_at, Type::TIMESTAMPTZ)];
        balance_then_from(user, &self.client.query_typed_one(sql, &parameters).await?)
    }

    /// A page of the account's holds that are neither captured nor released, the next to end first, after `cursor`. One round trip.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn holds(self, user: Uuid, cursor: Option<Uuid>, limit: u32) -> Result<HoldPage, Error> {
        let sql = include_str!("../../sql/ledger/hold_list.sql");
        // One more tells whether there is a next page.
        let rows = i64::from(limit).saturating_add(1);
        let rows =
            self.client.query_typed(sql, &[(&user, Type::UUID), (&cursor, Type::UUID), (&rows, Type::INT8)]).await?;
        let full = usize::try_from(limit).unwrap_or(usize::MAX);
        let holds = rows.iter().take(full).map(hold_from).collect::<Result<Vec<_>, _>>()?;
        let next = holds.last().filter(|_| rows.len() > full).map(|(key, _)| *key);
        Ok(HoldPage { items: holds.into_iter().map(|(_, hold)| hold).collect(), next })
    }

    /// Says whether the account covers work that will cost `required` points at `at`. One round trip.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn check(self, user: Uuid, required: i64, at: DateTime<Utc>) -> Result<Check, Error> {
        Ok(self.balance(user, at).await?.covers(required))
    }

    /// A page of the account's batches, after the batch `cursor`. One round trip.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn batches(
        self,
        user: Uuid,
        which: Batches,
        cursor: Option<i64>,
        limit: u32,
    ) -> Result<Page<ExportedBatch>, Error> {
        let sql = match which {
            Batches::Open => include_str!("../../sql/ledger/batch_open_page.sql"),
            Batches::All => include_str!("../../sql/ledger/batch_page.sql"),
        };
        let after = i32::try_from(cursor.unwrap_or_default()).unwrap_or(i32::MAX);
        // One more tells whether there is a next page.
        let rows = i64::from(limit).saturating_add(1);
        let rows =
            self.client.query_typed(sql, &[(&user, Type::UUID), (&after, Type::INT4), (&rows, Type::INT8)]).await?;
        let full = usize::try_from(limit).unwrap_or(usize::MAX);
        let items = rows.iter().take(full).map(|row| batch_of_export(user, row)).collect::<Result<Vec<_>, _>>()?;
        let next = items.last().filter(|_| rows.len() > full).map(|batch| i64::from(batch.batch));
        Ok(Page { items, next })
    }

    /// The next instants after `at` at which points expire, at most so many, and how many points each time. One round trip.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn next_expiries(self, user: Uuid, at: DateTime<Utc>, limit: u32) -> Result<Vec<NextExpiry>, Error> {
        let sql = include_str!("../../sql/ledger/batch_expiry.sql");
        let (at, limit) = (to_microsecond(at), i64::from(limit));
        let rows = self
            .client
            .query_typed(sql, &[(&user, Type::UUID), (&at, Type::TIMESTAMPTZ), (&limit, Type::INT8)])
            .await?;
        let next = |row: &Row| Ok(NextExpiry { at: row.try_get("expires_at")?, points: row.try_get("points")? });
        rows.iter().map(next).collect()
    }

    /// A page of the account's history: what the filter lets pass behind the entry `cursor`, in this order. Two round trips.
    ///
    /// A period finds its place in the history by halving, but for the end of an effective one: late usage may be recorded at any
    /// time. Any other filter is asked of entry by entry, of [`MOST_READ`] at most. So a page may hold fewer than `limit`
    /// entries, even none, and still name a next one. That takes some tens of milliseconds, however long the history is.
    ///
    /// Where the database's clock was set back, a period of recording may miss entries of that stretch.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn entries(
        self,
        user: Uuid,
        filter: &EntryFilter,
        order: Order,
        cursor: Option<i64>,
        limit: u32,
    ) -> Result<Page<ExportedEntry>, Error> {
        let Some((mut low, mut high)) = self.span(user, filter).await? else {
            return Ok(Page { items: Vec::new(), next: None });
        };
        let (sql, window) = match order {
            Order::Oldest => {
                low = low.max(cursor.unwrap_or(low));
                let end = low.saturating_add(MOST_READ).saturating_add(1);
                (include_str!("../../sql/ledger/entry_page.sql"), (low, high.min(end)))
            }
            Order::Newest => {
                high = high.min(cursor.unwrap_or(high));
                let end = high.saturating_sub(MOST_READ).saturating_sub(1);
                (include_str!("../../sql/ledger/entry_page_back.sql"), (low.max(end), high))
            }
        };
        let [effective_from, effective_before, recorded_from, recorded_before] =
            [filter.effective_from, filter.effective_before, filter.recorded_from, filter.recorded_before]
                .map(|at| at.map(to_microsecond));
        let full = usize::try_from(limit).unwrap_or(usize::MAX);
        let (kind, rows) = (filter.kind.map(EntryType::as_str), i64::from(limit));
        let rows = self
            .client
            .query_typed(
                sql,
                &[
                    (&user, Type::UUID),
                    (&window.0, Type::INT8),
                    (&window.1, Type::INT8),
                    (&effective_from, Type::TIMESTAMPTZ),
                    (&effective_before, Type::TIMESTAMPTZ),
                    (&recorded_from, Type::TIMESTAMPTZ),
                    (&recorded_before, Type::TIMESTAMPTZ),
                    (&kind, Type::TEXT),
                    (&filter.source_type, Type::TEXT),
                    (&rows, Type::INT8),
                ],
            )
            .await?;
        let items = rows.iter().map(entry_of_export).collect::<Result<Vec<_>, _>>()?;
        // A full page ends at its last entry, another one where the reading ended.
        let last = items.last().filter(|_| rows.len() >= full).map(|item| item.entry.seq);
        let next = match order {
            Order::Oldest => {
                Some(last.unwrap_or(window.1.saturating_sub(1))).filter(|seq| seq.saturating_add(1) < high)
            }
            Order::Newest => Some(last.unwrap_or(window.0.saturating_add(1))).filter(|seq| seq.saturating_sub(1) > low),
        };
        Ok(Page { items, next })
    }

    /// The numbers between which the entries of a filter's periods lie. None for an account that was never opened.
    async fn span(self, user: Uuid, filter: &EntryFilter) -> Result<Option<(i64, i64)>, Error> {
        let from = filter.first_recording();
        let Some(around) = self.around(user, from.unwrap_or(DateTime::UNIX_EPOCH)).await? else { return Ok(None) };
        let low = if from.is_some() { around.low } else { 0 };
        let high = match filter.recorded_before {
            None => around.past_end,
            Some(before) => self.around(user, before).await?.map_or(around.past_end, |around| around.high),
        };
        Ok(Some((low, high)))
    }

    async fn around(self, user: Uuid, at: DateTime<Utc>) -> Result<Option<Around>, Error> {
        let sql = include_str!("../../sql/ledger/entry_around.sql");
        let at = to_microsecond(at);
        let row = self.client.query_typed_one(sql, &[(&user, Type::UUID), (&at, Type::TIMESTAMPTZ)]).await?;
        let past_end: Option<i64> = row.try_get("past_end")?;
        let Some(past_end) = past_end else { return Ok(None) };
        Ok(Some(Around { low: row.try_get("low")?, high: row.try_get("high")?, past_end }))
    }
}
