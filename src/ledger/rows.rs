//! The ledger's rows as values, and values as the columns of a statement.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use tokio_postgres::Row;
use tokio_postgres::types::{Json, ToSql};
use uuid::Uuid;

use super::decide::{Account, Batch, BatchState, LoadedHold};
use super::money::{Currency, Money};
use super::reply::{Allocation, Asked, Entry, EntryType};
use super::session::Error;

/// Parameters of a statement.
pub(super) type Params<'a> = Vec<&'a (dyn ToSql + Sync)>;

/// Declares the columns that statements put together again with `unnest`: for each its name, its type, and where a row
/// has the value. `params` gives them in this order. A statement that takes other columns has a list of its own, under its name.
macro_rules! columns {
    (
        $(#[$doc:meta])* $name:ident$(<$life:lifetime>)? of $(<$each:lifetime>)? $row:ident: $of:ty
        { $($column:ident: $type:ty = $value:expr),+ $(,)? }
        $($statement:ident { $($listed:ident),+ $(,)? })*
    ) => {
        $(#[$doc])*
        #[derive(Default)]
        pub(super) struct $name$(<$life>)? { pub(super) rows: usize, $($column: Vec<$type>),+ }

        impl$(<$life>)? $name$(<$life>)? {
            pub(super) fn from_rows$(<$each>)?(rows: impl IntoIterator<Item = $of>) -> Self {
                let mut columns = Self::default();
                for $row in rows {
                    columns.rows += 1;
                    $(columns.$column.push($value);)+
                }
                columns
            }

            pub(super) fn params(&self) -> Params<'_> {
                vec![$(&self.$column),+]
            }

            $(pub(super) fn $statement(&self) -> Params<'_> {
                vec![$(&self.$listed),+]
            })*
        }
    };
}

columns! {
    /// Of account_insert and account_update_all.
    AccountColumns of <'row> account: &'row Account {
        user_id: Uuid = account.user,
        balance: i64 = account.balance,
        total_recharged: i64 = account.total_recharged,
        total_consumed: i64 = account.total_consumed,
        last_seq: i64 = account.last_seq,
        last_batch: i32 = account.last_batch,
        total_expired: i64 = account.total_expired,
        total_refunded: i64 = account.total_refunded,
        total_voided: i64 = account.total_voided,
        expired_until: Option<DateTime<Utc>> = account.expired_until,
        open_holds: i32 = account.open_holds,
        total_opening: i64 = account.total_opening,
    }
    account_update { user_id, balance, total_recharged, total_consumed, last_seq, last_batch }
}

columns! {
    /// Of batch_insert and, for batches with a price, batch_insert_paid.
    NewBatchColumns<'a> of row: (Uuid, &'a Batch) {
        user_id: Uuid = row.0,
        batch: i32 = row.1.batch,
        amount: i64 = row.1.amount,
        remaining: i64 = row.1.remaining,
        expired: i64 = row.1.expired,
        source: &'a str = &row.1.source,
        opened_at: DateTime<Utc> = row.1.opened_at,
        expires_at: DateTime<Utc> = row.1.expires_at,
        paid: Option<i64> = row.1.paid.map(|paid| paid.amount),
        currency: Option<String> = row.1.paid.map(|paid| paid.currency.to_string()),
    }
    batch_insert { user_id, batch, amount, remaining, expired, source, opened_at, expires_at }
}

columns! {
    /// Of batch_update_all.
    DrawnBatchColumns of <'row> row: (Uuid, &'row Batch) {
        user_id: Uuid = row.0,
        batch: i32 = row.1.batch,
        remaining: i64 = row.1.remaining,
        expired: i64 = row.1.expired,
    }
    batch_update { user_id, batch, remaining }
}

columns! {
    /// Of hold_write.
    HoldColumns<'a> of row: &'a LoadedHold {
        user_id: Uuid = row.hold.user,
        key: Uuid = row.key,
        points: i64 = row.hold.points,
        at: DateTime<Utc> = row.hold.at,
        until: DateTime<Utc> = row.hold.until,
        seq: Option<i64> = row.hold.seq,
        state: &'static str = row.hold.state.as_str(),
        source_type: &'a str = &row.hold.source_type,
        source_id: &'a str = &row.hold.source_id,
        caller_key: Option<&'a str> = row.hold.key.as_deref(),
    }
}

/// An entry, and where its allocations lie in the flat arrays of [`Allocations`].
type PlacedEntry<'a> = (&'a Entry, (i32, i32));

columns! {
    /// Of entry_insert_paid, but for the allocations.
    EntryColumns<'a> of row: PlacedEntry<'a> {
        user_id: Uuid = row.0.user,
        seq: i64 = row.0.seq,
        kind: &'static str = row.0.kind.as_str(),
        amount: i64 = row.0.amount,
        balance_before: i64 = row.0.balance_before,
        balance_after: i64 = row.0.balance_after,
        source_type: &'a str = &row.0.source_type,
        source_id: Option<&'a str> = row.0.source_id.as_deref(),
        at: DateTime<Utc> = row.0.at,
        duration: Option<Decimal> = row.0.duration,
        description: Option<&'a str> = row.0.description.as_deref(),
        key: Option<Uuid> = row.0.key,
        allocated_from: i32 = row.1.0,
        allocated_to: i32 = row.1.1,
        batch: Option<i32> = row.0.batch,
        refers_to: Option<i64> = row.0.refers_to,
        asked: Option<Json<Asked>> = row.0.asked.map(Json),
        paid: Option<i64> = row.0.paid,
        currency: Option<String> = row.0.currency.map(|currency| currency.to_string()),
    }
    entry_insert_all {
        user_id, seq, kind, amount, balance_before, balance_after, source_type, source_id, at, duration, description, key,
        allocated_from, allocated_to, batch, refers_to, asked,
    }
    entry_insert {
        user_id, seq, kind, amount, balance_before, balance_after, source_type, source_id, at, duration, description, key,
        allocated_from, allocated_to,
    }
}

/// All allocations of a group's entries, one after the other. Of arrays in arrays, PostgreSQL wants equal lengths.
#[derive(Default)]
pub(super) struct Allocations {
    pub(super) batches: Vec<i32>,
    pub(super) points: Vec<i64>,
    /// Empty where no allocation of the group has money.
    pub(super) paid: Vec<Option<i64>>,
}

impl Allocations {
    /// Appends the allocations of an entry. Returns the first and last place, from 1 on; of none the last is before the
    /// first.
    pub(super) fn append(&mut self, entry: &Entry) -> (i32, i32) {
        let places = |batches: &Vec<i32>| i32::try_from(batches.len()).unwrap_or(i32::MAX);
        let before = places(&self.batches);
        for allocation in &entry.allocations {
            self.batches.push(allocation.batch);
            self.points.push(allocation.points);
            if allocation.paid.is_some() || !self.paid.is_empty() {
                self.paid.resize(self.points.len() - 1, None);
                self.paid.push(allocation.paid);
            }
        }
        (before.saturating_add(1), places(&self.batches))
    }
}

pub(super) fn account_from(row: &Row) -> Result<Account, Error> {
    let mut account = Account::missing(row.try_get("user_id")?);
    account.stored = true;
    account.balance = row.try_get("balance")?;
    account.total_recharged = row.try_get("total_recharged")?;
    account.total_consumed = row.try_get("total_consumed")?;
    account.total_expired = row.try_get("total_expired")?;
    account.total_refunded = row.try_get("total_refunded")?;
    account.total_voided = row.try_get("total_voided")?;
    account.total_adjusted = row.try_get("total_adjusted")?;
    account.total_opening = row.try_get("total_opening")?;
    account.last_seq = row.try_get("last_seq")?;
    account.expired_until = row.try_get("expired_until")?;
    account.last_batch = row.try_get("last_batch")?;
    account.open_holds = row.try_get("open_holds")?;
    Ok(account)
}

pub(super) fn batch_from(row: &Row) -> Result<Batch, Error> {
    Ok(Batch {
        batch: row.try_get("batch")?,
        amount: row.try_get("amount")?,
        remaining: row.try_get("remaining")?,
        expired: row.try_get("expired")?,
        source: row.try_get("source")?,
        opened_at: row.try_get("opened_at")?,
        expires_at: row.try_get("expires_at")?,
        paid: money_from(row)?,
        state: BatchState::Unchanged,
    })
}

pub(super) fn entry_from(row: &Row) -> Result<Entry, Error> {
    let kind: &str = row.try_get("type")?;
    let kind = EntryType::parse(kind).ok_or_else(|| Error::Corrupt(format!("an entry of type `{kind}`")))?;
    let (batches, points): (Vec<i32>, Vec<i64>) = (row.try_get("allocated_batches")?, row.try_get("allocated_points")?);
    let released: Option<Vec<Option<i64>>> = row.try_get("allocated_paid")?;
    let paid = money_from(row)?;
    Ok(Entry {
        user: row.try_get("user_id")?,
        seq: row.try_get("seq")?,
        kind,
        amount: row.try_get("amount")?,
        balance_before: row.try_get("balance_before")?,
        balance_after: row.try_get("balance_after")?,
        source_type: row.try_get("source_type")?,
        source_id: row.try_get("source_id")?,
        batch: row.try_get("batch")?,
        allocations: (batches.into_iter().zip(points).enumerate())
            .map(|(nth, (batch, points))| {
                let paid = released.as_ref().and_then(|released| released.get(nth).copied().flatten());
                Allocation { batch, points, paid }
            })
            .collect(),
        at: row.try_get("at")?,
        duration: row.try_get("duration")?,
        description: row.try_get("description")?,
        refers_to: row.try_get("refers_to")?,
        paid: paid.map(|paid| paid.amount),
        currency: paid.map(|paid| paid.currency),
        asked: row.try_get::<_, Option<Json<Asked>>>("asked")?.map(|Json(asked)| asked),
        key: row.try_get("key")?,
        drawing_rule: row.try_get("drawing_rule")?,
    })
}

/// The price of a batch, or the money of an entry.
fn money_from(row: &Row) -> Result<Option<Money>, Error> {
    let Some(amount) = row.try_get("paid")? else { return Ok(None) };
    let code: Option<&str> = row.try_get("currency")?;
    let currency = code.and_then(Currency::stored);
    let currency = currency.ok_or_else(|| Error::Corrupt(format!("money in the currency {code:?}")))?;
    Ok(Some(Money { amount, currency }))
}
