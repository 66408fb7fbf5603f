//! What reads of the ledger tell: an account's balance and whether it covers a piece of work. Whole tables, for export.

use std::ops::Deref;

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::cutoff::{CUTOFF_LIMIT, cutoff, wait_until_complete};
use super::decide::arrears;
use super::money::Currency;
use super::reader::{EntryFilter, Reader};
use super::reply::{Entry, serialize_time};
use super::rows::{account_from, batch_from, entry_from};
use super::session::{Error, Session, Transaction};
use crate::database::Cursor;
use crate::time::{time_text, to_microsecond};

/// Rows that an export holds in memory at a time.
const EXPORT_ROWS: usize = 2_000;

/// An account's balance and totals. All are zero for an account that was never opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Balance {
    /// The user of the account.
    pub user: Uuid,
    /// The balance after the last entry; below zero in arrears. Points past their expiry stay in it until a posting or the
    /// sweep expires them. `available` leaves them out at once.
    pub balance: i64,
    /// Points spendable at the instant asked for: what remains in batches that expire later, less what holds reserve; 0 in arrears.
    pub available: i64,
    /// Points that holds reserve at that instant.
    pub held: i64,
    /// What the account owes: `max(0, -balance)`.
    pub arrears: i64,
    /// The totals of its history.
    #[serde(flatten)]
    pub totals: Totals,
    /// The points that expire next after that instant.
    pub next_expiry: Option<NextExpiry>,
    /// What the account came to elsewhere, where it was taken over from another service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Before>,
}

/// The lifetime totals of an account in another service, up to the takeover of its tables. The ledger's own totals begin there.
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Before {
    /// Points that had come.
    pub recharged: i64,
    /// Points that had been spent.
    pub consumed: i64,
    /// Points that had expired.
    pub expired: i64,
}

/// A past instant, on one of two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// What the books said at that instant: the entries recorded by then. It never changes once the instant is past.
    AsOf(DateTime<Utc>),
    /// What had happened by that instant, as known now: the entries dated up to then. What was due by then counts as expired.
    EffectiveAt(DateTime<Utc>),
}

/// An account's balance and totals at a past instant.
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BalanceThen {
    /// The user of the account.
    pub user: Uuid,
    /// The balance then; below zero in arrears.
    pub balance: i64,
    /// What the account owed: `max(0, -balance)`.
    pub arrears: i64,
    /// The totals of its history up to then.
    #[serde(flatten)]
    pub totals: Totals,
}

/// The lifetime totals of an account.
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Points that ever came.
    pub total_recharged: i64,
    /// Points that were ever spent.
    pub total_consumed: i64,
    /// Points that ever expired, less those that were restored.
    pub total_expired: i64,
    /// Points of consumes that were given back.
    pub total_refunded: i64,
    /// Points of recharges that were taken back.
    pub total_voided: i64,
    /// Points by which repairs moved the balance; below zero where they took points away.
    pub total_adjusted: i64,
    /// Points that the account brought along from elsewhere; below zero a debt.
    pub total_opening: i64,
}

/// Points that expire at one instant.
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct NextExpiry {
    /// When.
    #[serde(serialize_with = "serialize_time")]
    #[cfg_attr(feature = "service", schema(value_type = String, format = DateTime))]
    pub at: DateTime<Utc>,
    /// How many.
    pub points: i64,
}

/// Whether an account covers work that will cost `required` points.
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The account has no arrears, and at least that many points available.
    pub sufficient: bool,
    /// Points spendable now.
    pub available: i64,
    /// Points that holds reserve now.
    pub held: i64,
    /// What the books say.
    pub balance: i64,
    /// What was asked for.
    pub required: i64,
}

/// A table of the ledger, for export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Table {
    /// One row a user.
    Accounts,
    /// The same at a past instant, for each user that had an entry then.
    AccountsThen(Then),
    /// All batches, also the closed ones.
    Batches,
    /// The history, or what a filter lets pass.
    Entries(EntryFilter),
}

/// A row of an export.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Exported {
    /// Of [`Table::Accounts`].
    Account(ExportedAccount),
    /// Of [`Table::AccountsThen`].
    AccountThen(BalanceThen),
    /// Of [`Table::Batches`].
    Batch(ExportedBatch),
    /// Of [`Table::Entries`].
    Entry(Box<ExportedEntry>),
}

/// A row of `accounts`.
#[derive(Clone, Debug, Serialize)]
pub struct ExportedAccount {
    /// The user of the account.
    pub user: Uuid,
    /// What the books say.
    pub balance: i64,
    /// `max(0, -balance)`
    pub arrears: i64,
    /// Points that holds reserve now.
    pub held: i64,
    /// The totals of its history.
    #[serde(flatten)]
    pub totals: Totals,
    /// Number of the last entry.
    pub last_seq: i64,
}

/// A row of `batches`.
#[cfg_attr(feature = "service", derive(utoipa::ToSchema), schema(as = Batch))]
#[derive(Clone, Debug, Serialize)]
pub struct ExportedBatch {
    /// The user of the account.
    pub user: Uuid,
    /// The batch's number within the account.
    pub batch: i32,
    /// Points recharged.
    pub amount: i64,
    /// Points left.
    pub remaining: i64,
    /// Points that expired, less those that were restored.
    pub expired: i64,
    /// Where they came from.
    pub source: String,
    /// Effective time of the recharge, RFC 3339.
    pub opened_at: String,
    /// First instant at which they are gone, RFC 3339.
    pub expires_at: String,
    /// What the customer paid for them, in minor units. None without a price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paid: Option<i64>,
    /// The currency of `paid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "service", schema(value_type = Option<String>))]
    pub currency: Option<Currency>,
}

/// A row of `entries`.
#[cfg_attr(feature = "service", derive(utoipa::ToSchema), schema(as = RecordedEntry))]
#[derive(Clone, Debug, Serialize)]
pub struct ExportedEntry {
    /// The entry.
    #[serde(flatten)]
    pub entry: Entry,
    /// By how much it moved the balance: its amount, below zero where it took points away.
    pub signed: i64,
    /// When it was written, RFC 3339.
    pub recorded_at: String,
    /// Version of the rule by which its points were allocated.
    pub drawing_rule: i16,
    /// Of an adjust entry: the rows before and after, the person and the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correction: Option<serde_json::Value>,
}

impl<C: Deref<Target = Client>> Session<C> {
    /// Reads of one account over the session's connection.
    pub fn reader(&self) -> Reader<'_> {
        Reader::new(self.client())
    }

    /// Hands every row of a table, or a user's part of it, to `row`, in order of its primary key and from one snapshot. Where there are several
    /// buckets, the key begins with the bucket. Memory does not grow with the table. A period of recording is found by an index, and its entries are sorted by the server;
    /// any other filter is asked of entry by entry.
    ///
    /// What the books said at a past instant, and what was recorded before one, is told once every transaction that was writing entries
    /// has ended. So the same call answers the same afterwards.
    ///
    /// # Errors
    /// As [`Reader::balance_then`]; or where `row` fails: its error ends the export.
    pub async fn export<E: From<Error>>(
        &mut self,
        table: &Table,
        user: Option<Uuid>,
        mut row: impl FnMut(Exported) -> Result<(), E>,
    ) -> Result<(), E> {
        let sql = match table {
            Table::Accounts => include_str!("../../sql/ledger/export_accounts.sql"),
            Table::AccountsThen(_) => include_str!("../../sql/ledger/export_accounts_then.sql"),
            Table::Batches => include_str!("../../sql/ledger/export_batches.sql"),
            Table::Entries(_) => include_str!("../../sql/ledger/export_entries.sql"),
        };
        let (first, last) = user.map_or((Uuid::nil(), Uuid::max()), |user| (user, user));
        let (client, buckets) = (self.client(), self.buckets());
        match table {
            Table::AccountsThen(then) => {
                if let (Some(as_of), _) = then.columns() {
                    wait_until_complete(client, as_of, CUTOFF_LIMIT).await?;
                }
            }
            // Of a time that ends later, what was recorded up to now.
            Table::Entries(filter) if filter.recorded_before.is_some() => {
                cutoff(client, CUTOFF_LIMIT).await?;
            }
            Table::Accounts | Table::Batches | Table::Entries(_) => {}
        }
        let transaction = Transaction::begin(client);
        let failed = |error: tokio_postgres::Error| E::from(Error::from(error));
        // One snapshot for all buckets. The reader of the rows may pause for as long as it likes, and the first row may wait for a sort.
        let limits = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; \
                      SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL statement_timeout = 0";
        client.batch_execute(limits).await.map_err(failed)?;
        let declare = format!("DECLARE export NO SCROLL CURSOR FOR {sql}");
        let own: Vec<Box<dyn ToSql + Sync + Send>> = match table {
            Table::Accounts | Table::Batches => Vec::new(),
            Table::AccountsThen(then) => {
                let (as_of, effective_at) = then.columns();
                vec![Box::new(as_of), Box::new(effective_at)]
            }
            Table::Entries(filter) => filter.columns(),
        };
        let buckets: Vec<i16> = user.map_or_else(|| buckets.all().collect(), |user| vec![buckets.of(user)]);
        for bucket in buckets {
            let own = own.iter().map(|value| &**value as &(dyn ToSql + Sync));
            let parameters: Vec<&(dyn ToSql + Sync)> =
                [&first as &(dyn ToSql + Sync), &last].into_iter().chain(own).chain([&bucket as _]).collect();
            let export = Cursor::open(client, "export", &declare, &parameters, EXPORT_ROWS).await.map_err(failed)?;
            while let Some(rows) = export.fetch(client).await.map_err(failed)? {
                for fetched in &rows {
                    row(exported(table, fetched)?)?;
                }
            }
        }
        transaction.rollback().await.map_err(failed)
    }
}

impl Balance {
    /// Says whether it covers work that will cost `required` points.
    pub(super) fn covers(self, required: i64) -> Check {
        let Balance { balance, available, held, arrears, .. } = self;
        Check { sufficient: arrears == 0 && available >= required, available, held, balance, required }
    }
}

impl Then {
    pub(super) fn columns(self) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
        match self {
            Then::AsOf(at) => (Some(to_microsecond(at)), None),
            Then::EffectiveAt(at) => (None, Some(to_microsecond(at))),
        }
    }
}

impl Totals {
    pub(super) fn from_row(row: &Row) -> Result<Totals, tokio_postgres::Error> {
        Ok(Totals {
            total_recharged: row.try_get("total_recharged")?,
            total_consumed: row.try_get("total_consumed")?,
            total_expired: row.try_get("total_expired")?,
            total_refunded: row.try_get("total_refunded")?,
            total_voided: row.try_get("total_voided")?,
            total_adjusted: row.try_get("total_adjusted")?,
            total_opening: row.try_get("total_opening")?,
        })
    }
}

pub(super) fn balance_from(user: Uuid, row: &Row) -> Result<Balance, Error> {
    let next: Option<DateTime<Utc>> = row.try_get("next_expiry")?;
    let points = row.try_get::<_, Option<i64>>("next_expiry_points")?.unwrap_or_default();
    Ok(Balance {
        user,
        balance: row.try_get("balance")?,
        available: row.try_get("available")?,
        held: row.try_get("held")?,
        arrears: row.try_get("arrears")?,
        totals: Totals::from_row(row)?,
        next_expiry: next.map(|at| NextExpiry { at, points }),
        before: before_from(row)?,
    })
}

fn before_from(row: &Row) -> Result<Option<Before>, tokio_postgres::Error> {
    let Some(recharged) = row.try_get("before_recharged")? else { return Ok(None) };
    let figure = |name| row.try_get::<_, Option<i64>>(name).map(Option::unwrap_or_default);
    Ok(Some(Before { recharged, consumed: figure("before_consumed")?, expired: figure("before_expired")? }))
}

pub(super) fn balance_then_from(user: Uuid, row: &Row) -> Result<BalanceThen, Error> {
    let (balance, arrears) = (row.try_get("balance")?, row.try_get("arrears")?);
    Ok(BalanceThen { user, balance, arrears, totals: Totals::from_row(row)? })
}

fn exported(table: &Table, row: &Row) -> Result<Exported, Error> {
    Ok(match table {
        Table::Accounts => {
            let account = account_from(row)?;
            Exported::Account(ExportedAccount {
                user: account.user,
                balance: account.balance,
                arrears: arrears(account.balance),
                held: row.try_get("held")?,
                totals: Totals {
                    total_recharged: account.total_recharged,
                    total_consumed: account.total_consumed,
                    total_expired: account.total_expired,
                    total_refunded: account.total_refunded,
                    total_voided: account.total_voided,
                    total_adjusted: account.total_adjusted,
                    total_opening: account.total_opening,
                },
                last_seq: account.last_seq,
            })
        }
        Table::AccountsThen(_) => Exported::AccountThen(balance_then_from(row.try_get("user_id")?, row)?),
        Table::Batches => Exported::Batch(batch_of_export(row.try_get("user_id")?, row)?),
        Table::Entries(_) => Exported::Entry(Box::new(entry_of_export(row)?)),
    })
}

pub(super) fn batch_of_export(user: Uuid, row: &Row) -> Result<ExportedBatch, Error> {
    let batch = batch_from(row)?;
    Ok(ExportedBatch {
        user,
        batch: batch.batch,
        amount: batch.amount,
        remaining: batch.remaining,
        expired: batch.expired,
        source: batch.source,
        opened_at: time_text(batch.opened_at),
        expires_at: time_text(batch.expires_at),
        paid: batch.paid.map(|paid| paid.amount),
        currency: batch.paid.map(|paid| paid.currency),
    })
}

pub(super) fn entry_of_export(row: &Row) -> Result<ExportedEntry, Error> {
    let entry = entry_from(row)?;
    Ok(ExportedEntry {
        signed: entry.balance_after.saturating_sub(entry.balance_before),
        entry,
        recorded_at: time_text(row.try_get("recorded_at")?),
        drawing_rule: row.try_get("drawing_rule")?,
        correction: row.try_get("correction")?,
    })
}
