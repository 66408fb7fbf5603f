//! Statements: what happened to accounts in a span of recording.
//!
//! A statement goes by the time of recording. So one of a span that is over never changes, and the next one begins where it ended.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::bucket::Buckets;
use super::cutoff::cutoff;
use super::holds::Hold;
use super::read::{ExportedEntry, Totals, entry_of_export};
use super::reader::{Page, Reader};
use super::reply::serialize_time;
use super::session::Error;
use crate::database::snapshot;
use crate::time::to_microsecond;

/// Accounts whose statements are read together …
const ACCOUNTS_AT_ONCE: i64 = 500;

/// … and the lines that end such a group, so that memory is bounded: entries, and transactions of another service.
const LINES_AT_ONCE: i64 = 20_000;

/// The most holds that a statement lists.
pub const MOST_HOLDS: u32 = 1_000;

/// A span of recording of which the history is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its begin.
    pub from: DateTime<Utc>,
    /// Its end, which does not belong to it.
    pub before: DateTime<Utc>,
    /// Whether it ends where it was asked to. If not, it ends now.
    pub complete: bool,
}

impl Span {
    /// The span between two instants, or up to now where its end is still to come. Waits for the transactions that may still add
    /// entries to it, `limit` at most.
    ///
    /// # Errors
    /// Where the database fails, or such a transaction does not end.
    pub async fn up_to(
        client: &Client,
        (from, end): (DateTime<Utc>, DateTime<Utc>),
        limit: Duration,
    ) -> Result<Span, Error> {
        let (from, end) = (to_microsecond(from), to_microsecond(end));
        let now = cutoff(client, limit).await?;
        Ok(Span { from, before: end.min(now), complete: end <= now })
    }
}

/// What happened to an account in a span, by the time of recording.
///
/// `opening` and `changes` make `closing`, and the entries make `changes`. Once its span is over, it never changes.
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
pub struct Statement {
    /// The user of the account.
    pub user: Uuid,
    /// The begin of the span.
    #[serde(serialize_with = "serialize_time")]
    #[cfg_attr(feature = "service", schema(value_type = String, format = DateTime))]
    pub from: DateTime<Utc>,
    /// Its end, which does not belong to it.
    #[serde(serialize_with = "serialize_time")]
    #[cfg_attr(feature = "service", schema(value_type = String, format = DateTime))]
    pub before: DateTime<Utc>,
    /// Whether the last day is over. If not, the statement ends at the time of the call.
    pub complete: bool,
    /// The balance before the first entry.
    pub opening: i64,
    /// By how much each total grew.
    pub changes: Totals,
    /// The balance after the last entry.
    pub closing: i64,
    /// How many entries there are.
    pub count: i64,
    /// The number of the first one.
    pub first_seq: Option<i64>,
    /// The number of the last one.
    pub last_seq: Option<i64>,
    /// The first entries. `next` goes on in the account's entries, the oldest first, up to `last_seq`.
    pub entries: Page<ExportedEntry>,
    /// The batches with points left at the end, the next to expire first. They add up to `closing`, or to nothing in arrears.
    pub batches: Vec<OpenBatch>,
    /// Points of these batches whose end had come, but which were not yet recorded as expired.
    pub overdue: i64,
    /// The first 1,000 holds that reserve points at the end, the next to end first. None if the span is over: a hold that was released
    /// leaves no trace of when.
    pub holds: Option<Vec<Hold>>,
    /// What another service posted to the account in the span, before its tables were taken over. No other figure counts it.
    /// None if there is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adopted: Option<AdoptedHistory>,
}

impl Statement {
    /// Whether it tells anything: an entry, a balance, or a transaction of another service.
    pub fn tells(&self) -> bool {
        self.count > 0 || self.opening != 0 || self.closing != 0 || self.adopted.is_some()
    }

    /// The lines that are read of it, where each list has `limit` at most.
    fn lines(&self, limit: i64) -> i64 {
        let adopted = self.adopted.as_ref().map_or(0, |adopted| adopted.count);
        self.count.min(limit).saturating_add(adopted.min(limit))
    }
}

/// What another service posted to an account in a span, by the time there.
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AdoptedHistory {
    /// How many transactions there are.
    pub count: i64,
    /// The first ones, the oldest first. The statement of fewer days has the rest.
    pub items: Vec<AdoptedTransaction>,
}

/// A transaction of another service, as it was told there. What could not be read is null.
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AdoptedTransaction {
    /// Its number there.
    pub id: Option<i64>,
    /// Its time there.
    #[serde(serialize_with = "serialize_time")]
    #[cfg_attr(feature = "service", schema(value_type = String, format = DateTime))]
    pub at: DateTime<Utc>,
    /// `recharge`, `consume` or `expire`; another type as it was called there.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Points, as they were written there: the type tells the direction.
    pub amount: Option<i64>,
    /// The balance before, as it was told there.
    pub balance_before: Option<i64>,
    /// The balance after, as it was told there.
    pub balance_after: Option<i64>,
    /// The kind of service used, or the source of the points, as it was called there.
    pub source_type: Option<String>,
    /// The task or the order.
    pub source_id: Option<String>,
    /// For people.
    pub description: Option<String>,
}

impl AdoptedHistory {
    /// How many transactions are left out.
    pub fn left(&self) -> i64 {
        self.count.saturating_sub(i64::try_from(self.items.len()).unwrap_or(i64::MAX))
    }
}

impl AdoptedTransaction {
    /// By how much it moved the balance: of a type that the ledger does not know, the points as they were written.
    pub fn signed(&self) -> Option<i64> {
        match self.kind.as_deref() {
            Some("consume" | "expire") => self.amount.map(i64::saturating_neg),
            _ => self.amount,
        }
    }
}

/// A batch as it was at the end of a statement.
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenBatch {
    /// Its number within the account.
    pub batch: i32,
    /// Where its points came from.
    pub source: String,
    /// Points that it opened with.
    pub amount: i64,
    /// Points that were left.
    pub remaining: i64,
    /// Effective time of the recharge or the refund.
    #[serde(serialize_with = "serialize_time")]
    #[cfg_attr(feature = "service", schema(value_type = String, format = DateTime))]
    pub opened_at: DateTime<Utc>,
    /// First instant at which its points are gone.
    #[serde(serialize_with = "serialize_time")]
    #[cfg_attr(feature = "service", schema(value_type = String, format = DateTime))]
    pub expires_at: DateTime<Utc>,
}

/// The statement of an account, with the first `limit` of its entries, and as many of another service's transactions. All is read from one
/// snapshot. Its cost grows with the entries since the begin of the span.
///
/// # Errors
/// Where the database fails.
pub async fn statement(client: &mut Client, user: Uuid, span: Span, limit: u32) -> Result<Statement, Error> {
    let transaction = snapshot(client).await?;
    let statements = Statements { client: transaction.client(), span, limit: i64::from(limit) };
    let mut statement = statements.begin(&[user]).await?;
    statements.fill(&mut statement).await?;
    transaction.rollback().await?;
    Ok(statement.pop().unwrap_or_else(|| Statement::empty(user, span)))
}

/// The statements of the next accounts after `after` that tell anything of a span, and the user after which the next call goes on.
/// Each is that of [`statement`]. Memory does not grow with the ledger.
///
/// # Errors
/// Where the database fails.
pub async fn statements(
    client: &mut Client,
    after: Option<Uuid>,
    span: Span,
    limit: u32,
) -> Result<(Vec<Statement>, Option<Uuid>), Error> {
    let transaction = snapshot(client).await?;
    let statements = Statements { client: transaction.client(), span, limit: i64::from(limit) };
    let sql = include_str!("../../sql/ledger/account_page.sql");
    let rows = statements.client.query_typed(sql, &[(&after, Type::UUID), (&ACCOUNTS_AT_ONCE, Type::INT8)]).await?;
    let users = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<Uuid>, _>>()?;
    let mut found = statements.begin(&users).await?;
    // What does not fit is read again by the next call.
    let mut lines = 0;
    let mut fits = |statement: &Statement| {
        let before = lines;
        lines += statement.lines(i64::from(limit));
        before == 0 || lines <= LINES_AT_ONCE
    };
    let fitting = found.iter().take_while(|statement| fits(statement)).count();
    let next = match found.get(..fitting).and_then(<[Statement]>::last) {
        Some(last) if fitting < found.len() => Some(last.user),
        _ => users.last().copied().filter(|_| users.len() as i64 == ACCOUNTS_AT_ONCE),
    };
    found.truncate(fitting);
    found.retain(Statement::tells);
    statements.fill(&mut found).await?;
    transaction.rollback().await?;
    Ok((found, next))
}

/// Reads the statements of a few accounts together.
struct Statements<'a> {
    client: &'a Client,
    span: Span,
    /// Entries of each, and transactions of another service.
    limit: i64,
}

impl Statement {
    fn empty(user: Uuid, span: Span) -> Statement {
        Statement {
            user,
            from: span.from,
            before: span.before,
            complete: span.complete,
            opening: 0,
            changes: Totals::default(),
            closing: 0,
            count: 0,
            first_seq: None,
            last_seq: None,
            entries: Page { items: Vec::new(), next: None },
            batches: Vec::new(),
            overdue: 0,
            holds: (!span.complete).then(Vec::new),
            adopted: None,
        }
    }
}

impl Statements<'_> {
    /// Of each user the balances, the numbers of the entries, and how many transactions another service had.
    async fn begin(&self, users: &[Uuid]) -> Result<Vec<Statement>, Error> {
        let Span { from, before, .. } = self.span;
        let parameters: [(&(dyn ToSql + Sync), Type); 3] =
            [(&users, Type::UUID_ARRAY), (&from, Type::TIMESTAMPTZ), (&before, Type::TIMESTAMPTZ)];
        let mut borders = HashMap::new();
        for (bucket, users) in Buckets::read(self.client).await?.part(users.iter().copied(), |user| *user) {
            let sql = include_str!("../../sql/ledger/statement_borders.sql");
            let [_, from, before] = parameters.clone();
            let parameters = [(&users as &(dyn ToSql + Sync), Type::UUID_ARRAY), from, before, (&bucket, Type::INT2)];
            borders.extend(by_user(self.client.query_typed(sql, &parameters).await?)?);
        }
        let sql = include_str!("../../sql/ledger/statement_adopted_count.sql");
        let mut adopted = by_user(self.client.query_typed(sql, &parameters).await?)?;
        let begun = users.iter().map(|user| {
            let mut statement = Statement::empty(*user, self.span);
            if let Some(row) = borders.remove(user).unwrap_or_default().first() {
                let (low, high): (i64, i64) = (row.try_get("low")?, row.try_get("high")?);
                statement.opening = row.try_get("opening")?;
                statement.closing = row.try_get("closing")?;
                statement.count = high.saturating_sub(low).max(0);
                statement.first_seq = (statement.count > 0).then_some(low.saturating_add(1));
                // Of an empty span, the entry at which it stands: `fill` needs it.
                statement.last_seq = Some(high);
            }
            if let Some(row) = adopted.remove(user).unwrap_or_default().first() {
                statement.adopted = Some(AdoptedHistory { count: row.try_get("count")?, items: Vec::new() });
            }
            Ok(statement)
        });
        begun.collect()
    }

    /// The rest of statements that were begun.
    async fn fill(&self, statements: &mut [Statement]) -> Result<(), Error> {
        let mut adopted = self.adopted(statements).await?;
        for (bucket, of_bucket) in Buckets::read(self.client).await?.part(statements, |statement| statement.user) {
            self.fill_bucket(bucket, of_bucket, &mut adopted).await?;
        }
        Ok(())
    }

    async fn fill_bucket(
        &self,
        bucket: i16,
        statements: Vec<&mut Statement>,
        adopted: &mut HashMap<Uuid, Vec<Row>>,
    ) -> Result<(), Error> {
        let users: Vec<Uuid> = statements.iter().map(|statement| statement.user).collect();
        let highs: Vec<i64> = statements.iter().map(|statement| statement.last_seq.unwrap_or_default()).collect();
        let lows: Vec<i64> =
            statements.iter().zip(&highs).map(|(statement, high)| high.saturating_sub(statement.count)).collect();
        let most: Vec<i64> =
            lows.iter().zip(&highs).map(|(low, high)| low.saturating_add(self.limit).min(*high)).collect();
        let stretch = async |sql, to| -> Result<_, Error> {
            let parameters: [(&(dyn ToSql + Sync), Type); 4] =
                [(&users, Type::UUID_ARRAY), (&lows, Type::INT8_ARRAY), (to, Type::INT8_ARRAY), (&bucket, Type::INT2)];
            by_user(self.client.query_typed(sql, &parameters).await?)
        };
        let mut changes = stretch(include_str!("../../sql/ledger/statement_changes.sql"), &highs).await?;
        let mut entries = stretch(include_str!("../../sql/ledger/statement_entries.sql"), &most).await?;
        let sql = include_str!("../../sql/ledger/statement_batches.sql");
        let parameters: [(&(dyn ToSql + Sync), Type); 3] =
            [(&users, Type::UUID_ARRAY), (&highs, Type::INT8_ARRAY), (&bucket, Type::INT2)];
        let mut batches = by_user(self.client.query_typed(sql, &parameters).await?)?;
        for statement in statements {
            let user = statement.user;
            if let Some(row) = changes.remove(&user).unwrap_or_default().first() {
                statement.changes = Totals::from_row(row)?;
            }
            let entries = entries.remove(&user).unwrap_or_default();
            statement.entries.items = entries.iter().map(entry_of_export).collect::<Result<_, _>>()?;
            let read = statement.entries.items.last().map(|item| item.entry.seq);
            statement.entries.next = read.filter(|seq| Some(*seq) < statement.last_seq);
            let batches = batches.remove(&user).unwrap_or_default();
            statement.batches = batches.iter().map(open_batch).collect::<Result<_, _>>()?;
            let overdue = statement.batches.iter().filter(|batch| batch.expires_at <= statement.before);
            statement.overdue = overdue.map(|batch| batch.remaining).sum();
            if let Some(history) = &mut statement.adopted {
                let transactions = adopted.remove(&user).unwrap_or_default();
                history.items = transactions.iter().map(adopted_transaction).collect::<Result<_, _>>()?;
            }
            if statement.holds.is_some() {
                statement.holds = Some(self.holds(user).await?);
            }
            statement.last_seq = statement.last_seq.filter(|_| statement.count > 0);
        }
        Ok(())
    }

    /// The holds that reserve points at the end of the span. Those that are over by time come before them.
    async fn holds(&self, user: Uuid) -> Result<Vec<Hold>, Error> {
        let (reader, mut cursor, mut holds) = (Reader::new(self.client), None, Vec::new());
        loop {
            let page = reader.holds(user, cursor, MOST_HOLDS).await?;
            holds.extend(page.items.into_iter().filter(|hold| hold.stands_at(self.span.before)));
            cursor = page.next.filter(|_| holds.len() < MOST_HOLDS as usize);
            if cursor.is_none() {
                holds.truncate(MOST_HOLDS as usize);
                return Ok(holds);
            }
        }
    }

    /// The transactions of another service, of the accounts that have any.
    async fn adopted(&self, statements: &[Statement]) -> Result<HashMap<Uuid, Vec<Row>>, Error> {
        let users: Vec<Uuid> =
            statements.iter().filter(|statement| statement.adopted.is_some()).map(|statement| statement.user).collect();
        if users.is_empty() {
            return Ok(HashMap::new());
        }
        let Span { from, before, .. } = self.span;
        let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
            (&users, Type::UUID_ARRAY),
            (&from, Type::TIMESTAMPTZ),
            (&before, Type::TIMESTAMPTZ),
            (&self.limit, Type::INT8),
        ];
        by_user(self.client.query_typed(include_str!("../../sql/ledger/statement_adopted.sql"), &parameters).await?)
    }
}

/// Rows of several accounts by user, each account's in their order.
fn by_user(rows: Vec<Row>) -> Result<HashMap<Uuid, Vec<Row>>, Error> {
    let mut by_user: HashMap<Uuid, Vec<Row>> = HashMap::new();
    for row in rows {
        by_user.entry(row.try_get("user_id")?).or_default().push(row);
    }
    Ok(by_user)
}

fn open_batch(row: &Row) -> Result<OpenBatch, Error> {
    Ok(OpenBatch {
        batch: row.try_get("batch")?,
        source: row.try_get("source")?,
        amount: row.try_get("amount")?,
        remaining: row.try_get("remaining")?,
        opened_at: row.try_get("opened_at")?,
        expires_at: row.try_get("expires_at")?,
    })
}

fn adopted_transaction(row: &Row) -> Result<AdoptedTransaction, Error> {
    Ok(AdoptedTransaction {
        id: row.try_get("id")?,
        at: row.try_get("at")?,
        kind: row.try_get("type")?,
        amount: row.try_get("amount")?,
        balance_before: row.try_get("balance_before")?,
        balance_after: row.try_get("balance_after")?,
        source_type: row.try_get("source_type")?,
        source_id: row.try_get("source_id")?,
        description: row.try_get("description")?,
    })
}
