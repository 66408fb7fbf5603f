//! All rows of the ledger, for comparison: everything but `recorded_at`.

use chrono::{DateTime, Utc};
use pointsd::ledger::{Allocation, Asked, Currency, Entry, EntryType, Money};
use tokio_postgres::Client;
use tokio_postgres::types::Json;
use uuid::Uuid;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    pub accounts: Vec<AccountRow>,
    pub batches: Vec<BatchRow>,
    pub entries: Vec<Entry>,
    pub holds: Vec<HoldRow>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRow {
    pub user: Uuid,
    pub balance: i64,
    pub total_recharged: i64,
    pub total_consumed: i64,
    pub total_expired: i64,
    pub total_refunded: i64,
    pub total_voided: i64,
    pub last_seq: i64,
    pub last_batch: i32,
    pub expired_until: Option<DateTime<Utc>>,
    pub open_holds: i32,
    pub total_opening: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRow {
    pub user: Uuid,
    pub batch: i32,
    pub amount: i64,
    pub remaining: i64,
    pub expired: i64,
    pub open: bool,
    pub source: String,
    pub opened_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub paid: Option<Money>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldRow {
    pub user: Uuid,
    pub points: i64,
    pub source_type: String,
    pub source_id: String,
    pub caller_key: Option<String>,
    pub at: DateTime<Utc>,
    pub until: DateTime<Utc>,
    pub state: String,
    pub seq: Option<i64>,
}

impl Rows {
    pub async fn read(client: &Client) -> Rows {
        let accounts = client
            .query(
                "SELECT user_id, balance, total_recharged, total_consumed, total_expired, last_seq, last_batch,
                        total_refunded, total_voided, expired_until, open_holds, total_opening
                 FROM pointsd.accounts ORDER BY user_id",
                &[],
            )
            .await
            .unwrap();
        let batches = client
            .query(
                "SELECT user_id, batch, amount, remaining, open, source, opened_at, expires_at, expired, paid, currency
                 FROM pointsd.batches ORDER BY user_id, batch",
                &[],
            )
            .await
            .unwrap();
        let entries = client
            .query(
                "SELECT user_id, seq, type, amount, balance_before, balance_after, source_type, source_id, batch,
                        allocated_batches, allocated_points, at, duration, description, key, drawing_rule,
                        refers_to, asked, paid, currency, allocated_paid
                 FROM pointsd.entries ORDER BY user_id, seq",
                &[],
            )
            .await
            .unwrap();
        let holds = client
            .query(
                "SELECT user_id, points, source_type, source_id, caller_key, at, until, state, seq
                 FROM pointsd.holds ORDER BY user_id, source_type, source_id, caller_key",
                &[],
            )
            .await
            .unwrap();
        Rows {
            accounts: accounts
                .iter()
                .map(|row| AccountRow {
                    user: row.get(0),
                    balance: row.get(1),
                    total_recharged: row.get(2),
                    total_consumed: row.get(3),
                    total_expired: row.get(4),
                    last_seq: row.get(5),
                    last_batch: row.get(6),
                    total_refunded: row.get(7),
                    total_voided: row.get(8),
                    expired_until: row.get(9),
                    open_holds: row.get(10),
                    total_opening: row.get(11),
                })
                .collect(),
            batches: batches
                .iter()
                .map(|row| BatchRow {
                    user: row.get(0),
                    batch: row.get(1),
                    amount: row.get(2),
                    remaining: row.get(3),
                    open: row.get(4),
                    source: row.get(5),
                    opened_at: row.get(6),
                    expires_at: row.get(7),
                    expired: row.get(8),
                    paid: row
                        .get::<_, Option<i64>>(9)
                        .zip(currency(row, 10))
                        .map(|(amount, currency)| Money { amount, currency }),
                })
                .collect(),
            entries: entries
                .iter()
                .map(|row| Entry {
                    user: row.get(0),
                    seq: row.get(1),
                    kind: EntryType::parse(row.get(2)).unwrap(),
                    amount: row.get(3),
                    balance_before: row.get(4),
                    balance_after: row.get(5),
                    source_type: row.get(6),
                    source_id: row.get(7),
                    batch: row.get(8),
                    allocations: (row.get::<_, Vec<i32>>(9).into_iter())
                        .zip(row.get::<_, Vec<i64>>(10))
                        .zip(
                            row.get::<_, Option<Vec<Option<i64>>>>(20)
                                .into_iter()
                                .flatten()
                                .chain(std::iter::repeat(None)),
                        )
                        .map(|((batch, points), paid)| Allocation { batch, points, paid })
                        .collect(),
                    at: row.get(11),
                    duration: row.get(12),
                    description: row.get(13),
                    key: row.get(14),
                    drawing_rule: row.get(15),
                    refers_to: row.get(16),
                    paid: row.get(18),
                    currency: currency(row, 19),
                    asked: row.get::<_, Option<Json<Asked>>>(17).map(|Json(asked)| asked),
                })
                .collect(),
            holds: holds
                .iter()
                .map(|row| HoldRow {
                    user: row.get(0),
                    points: row.get(1),
                    source_type: row.get(2),
                    source_id: row.get(3),
                    caller_key: row.get(4),
                    at: row.get(5),
                    until: row.get(6),
                    state: row.get(7),
                    seq: row.get(8),
                })
                .collect(),
        }
    }
}

fn currency(row: &tokio_postgres::Row, column: usize) -> Option<Currency> {
    row.get::<_, Option<&str>>(column).map(|code| code.parse().unwrap())
}

/// Compares two ledgers and shows only where they differ.
pub fn assert_same(found: &Rows, expected: &Rows, context: &str) {
    same("accounts", &found.accounts, &expected.accounts, context);
    same("batches", &found.batches, &expected.batches, context);
    same("entries", &found.entries, &expected.entries, context);
    same("holds", &found.holds, &expected.holds, context);
}

fn same<T: PartialEq + std::fmt::Debug>(table: &str, found: &[T], expected: &[T], context: &str) {
    for (nth, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found, expected, "row {nth} of {table}, left found, right expected, {context}");
    }
    assert_eq!(found.len(), expected.len(), "rows of {table}, left found, right expected, {context}");
}
