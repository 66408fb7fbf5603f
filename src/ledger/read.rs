//! Reads of the ledger: an account's balance, whether it covers a piece of work, and whole tables for export.

use std::ops::Deref;

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::reply::Entry;
use super::rows::{account_from, batch_from, entry_from};
use super::session::{Error, Session, Transaction};
use crate::database::Cursor;
use crate::time::{time_text, to_microsecond};

/// Rows that an export holds in memory at a time.
const EXPORT_ROWS: usize = 2_000;

/// An account's balance and totals. All are zero for an account that was never opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Balance {
    /// Whose.
    pub user: Uuid,
    /// The balance after the last entry; below zero in arrears. Points past their expiry stay in it until a posting or the
    /// sweep expires them. `available` leaves them out at once.
    pub balance: i64,
    /// Points spendable at the instant asked for: what remains in open batches that expire later.
    pub available: i64,
    /// What the account owes: `max(0, -balance)`.
    pub arrears: i64,
    /// Points that ever came.
    pub total_recharged: i64,
    /// Points that were ever spent.
    pub total_consumed: i64,
    /// Points that ever expired.
    pub total_expired: i64,
    /// Points by which repairs moved the balance; below zero where they took points away.
    pub total_adjusted: i64,
}

/// Whether an account covers work that will cost `required` points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The account has no arrears, and at least that many points available.
    pub sufficient: bool,
    /// Points spendable now.
    pub available: i64,
    /// What the books say.
    pub balance: i64,
    /// What was asked for.
    pub required: i64,
}

/// A table of the ledger, for export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// One row a user.
    Accounts,
    /// All batches, also the closed ones.
    Batches,
    /// The whole history.
    Entries,
}

/// A row of an export.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Exported {
    /// Of [`Table::Accounts`].
    Account(ExportedAccount),
    /// Of [`Table::Batches`].
    Batch(ExportedBatch),
    /// Of [`Table::Entries`].
    Entry(Box<ExportedEntry>),
}

/// A row of `accounts`.
#[derive(Clone, Debug, Serialize)]
pub struct ExportedAccount {
    /// Whose.
    pub user: Uuid,
    /// What the books say.
    pub balance: i64,
    /// `max(0, -balance)`
    pub arrears: i64,
    /// Points that ever came.
    pub total_recharged: i64,
    /// Points that were ever spent.
    pub total_consumed: i64,
    /// Points that ever expired.
    pub total_expired: i64,
    /// Points by which repairs moved the balance; below zero where they took points away.
    pub total_adjusted: i64,
    /// Number of the last entry.
    pub last_seq: i64,
}

/// A row of `batches`.
#[derive(Clone, Debug, Serialize)]
pub struct ExportedBatch {
    /// Whose.
    pub user: Uuid,
    /// The batch's number within the account.
    pub batch: i32,
    /// Points recharged.
    pub amount: i64,
    /// Points left.
    pub remaining: i64,
    /// Where they came from.
    pub source: String,
    /// Effective time of the recharge, RFC 3339.
    pub opened_at: String,
    /// First instant at which they are gone, RFC 3339.
    pub expires_at: String,
}

/// A row of `entries`.
#[derive(Clone, Debug, Serialize)]
pub struct ExportedEntry {
    /// The entry.
    #[serde(flatten)]
    pub entry: Entry,
    /// When it was written, RFC 3339.
    pub recorded_at: String,
    /// Version of the rule by which its points were allocated.
    pub drawing_rule: i16,
    /// Of an adjust entry: the rows before and after, the person and the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correction: Option<serde_json::Value>,
}

impl<C: Deref<Target = Client>> Session<C> {
    /// Reads the account's balance and totals, and the points available at `at`. One round trip.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn balance(&self, user: Uuid, at: DateTime<Utc>) -> Result<Balance, Error> {
        let at = to_microsecond(at);
        let row = self.client().query_opt(&self.statements().balance, &[&user, &at]).await?;
        let [balance, total_recharged, total_consumed, total_expired, total_adjusted, available] = match row {
            Some(row) => {
                [row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?, row.try_get(5)?]
            }
            None => [0; 6],
        };
        let arrears = arrears(balance);
        Ok(Balance {
            user,
            balance,
            available,
            arrears,
            total_recharged,
            total_consumed,
            total_expired,
            total_adjusted,
        })
    }

    /// Says whether the account covers work that will cost `required` points at `at`. One round trip.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn check(&self, user: Uuid, required: i64, at: DateTime<Utc>) -> Result<Check, Error> {
        let Balance { balance, available, arrears, .. } = self.balance(user, at).await?;
        Ok(Check { sufficient: arrears == 0 && available >= required, available, balance, required })
    }

    /// Hands every row of a table, or a user's part of it, to `row`, in order of its primary key and from one snapshot.
    /// Memory does not grow with the table.
    ///
    /// # Errors
    /// Where the database fails, or `row` does: its error ends the export.
    pub async fn export<E: From<Error>>(
        &mut self,
        table: Table,
        user: Option<Uuid>,
        mut row: impl FnMut(Exported) -> Result<(), E>,
    ) -> Result<(), E> {
        let sql = match table {
            Table::Accounts => include_str!("../../sql/ledger/export_accounts.sql"),
            Table::Batches => include_str!("../../sql/ledger/export_batches.sql"),
            Table::Entries => include_str!("../../sql/ledger/export_entries.sql"),
        };
        let (first, last) = user.map_or((Uuid::nil(), Uuid::max()), |user| (user, user));
        let client = self.client();
        let transaction = Transaction::begin(client);
        let failed = |error: tokio_postgres::Error| E::from(Error::from(error));
        // The reader of the rows may pause for as long as it likes.
        client.batch_execute("SET LOCAL idle_in_transaction_session_timeout = 0").await.map_err(failed)?;
        let declare = format!("DECLARE export NO SCROLL CURSOR FOR {sql}");
        let export = Cursor::open(client, "export", &declare, &[&first, &last], EXPORT_ROWS).await.map_err(failed)?;
        while let Some(rows) = export.fetch(client).await.map_err(failed)? {
            for fetched in &rows {
                row(exported(table, fetched)?)?;
            }
        }
        transaction.rollback().await.map_err(failed)
    }
}

fn exported(table: Table, row: &Row) -> Result<Exported, Error> {
    Ok(match table {
        Table::Accounts => {
            let account = account_from(row)?;
            Exported::Account(ExportedAccount {
                user: account.user,
                balance: account.balance,
                arrears: arrears(account.balance),
                total_recharged: account.total_recharged,
                total_consumed: account.total_consumed,
                total_expired: account.total_expired,
                total_adjusted: account.total_adjusted,
                last_seq: account.last_seq,
            })
        }
        Table::Batches => {
            let batch = batch_from(row)?;
            Exported::Batch(ExportedBatch {
                user: row.try_get("user_id")?,
                batch: batch.batch,
                amount: batch.amount,
                remaining: batch.remaining,
                source: batch.source,
                opened_at: time_text(batch.opened_at),
                expires_at: time_text(batch.expires_at),
            })
        }
        Table::Entries => Exported::Entry(Box::new(ExportedEntry {
            entry: entry_from(row)?,
            recorded_at: time_text(row.try_get("recorded_at")?),
            drawing_rule: row.try_get("drawing_rule")?,
            correction: row.try_get("correction")?,
        })),
    })
}

/// What an account with this balance owes.
pub(super) fn arrears(balance: i64) -> i64 {
    balance.min(0).saturating_neg()
}
