//! How a group of postings reaches the database: load, decide, store, in two round trips whatever the group's size.

use std::collections::HashMap;
use std::ops::Deref;

use chrono::{DateTime, Utc};
use deadpool_postgres::{ClientWrapper, Object};
use futures_util::{FutureExt, try_join};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

use super::decide::{self, Account, Batch, BatchState, Decision, KnownKeys};
use super::posting::Posting;
use super::reply::{Allocation, Entry, EntryType, Reply};
use super::rules::{DRAWING_RULE, Rules};
use crate::database::{self, Database};

/// How often a group is decided again because somebody else opened one of its accounts meanwhile. Each time at least
/// one account fewer is missing, and such races are rare: more than a few means that something else is wrong.
const MOST_RACES: u32 = 20;

/// What can go wrong with a group. A refusal is no error, it is a reply.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database refused or did not answer. Nothing of the group was written, unless the connection broke while
    /// it was being committed; posting the group again is safe in any case, what was written replays.
    #[error("the database did not take the group")]
    Database(#[from] tokio_postgres::Error),
    /// The database could not be reached.
    #[error(transparent)]
    Connection(#[from] database::Error),
    /// The database holds something that the ledger never writes.
    #[error("the ledger's tables hold what the ledger never wrote: {0}")]
    Corrupt(String),
    /// Somebody else opened one of the group's accounts meanwhile. Only told where that happened again and again.
    #[error("other groups kept opening the same accounts")]
    LostRace,
    /// Transactions that have written entries stay open, so the history is not complete up to any recent instant.
    #[error(
        "{transactions} transactions have written entries and not ended within {seconds} s{}: commit or end them",
        process.map(|process| format!(", one of them in the server's process {process} (see pg_stat_activity)")).unwrap_or_default()
    )]
    Uncommitted {
        /// How many they are.
        transactions: usize,
        /// The server process of one of them. A prepared transaction has none (see `pg_prepared_xacts`).
        process: Option<i32>,
        /// How long they were waited for.
        seconds: u64,
    },
    /// The [`Poster`](super::Poster) ended, or an earlier part of the same feed failed. Whether this was posted is not
    /// known.
    #[error("posting was stopped; post it again under the same key, what was written replays")]
    Stopped,
}

impl Error {
    /// Whether the same call may well succeed a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Database(error) => database::is_transient(error),
            Error::Connection(error) => error.is_transient(),
            Error::LostRace | Error::Uncommitted { .. } => true,
            Error::Corrupt(_) | Error::Stopped => false,
        }
    }

    /// Tells a race for a new account by the constraint that decided it.
    fn or_lost_race(self) -> Error {
        match &self {
            Error::Database(error) if error.as_db_error().and_then(|e| e.constraint()) == Some("accounts_pkey") => {
                Error::LostRace
            }
            _ => self,
        }
    }
}

/// A connection made ready for the ledger: its statements are prepared, its planner told what they need.
///
/// `C` is whatever owns the connection, such as a [`Client`] in a box.
pub struct Session<C = ClientWrapper> {
    client: C,
    statements: Statements,
}

/// Where a group comes from, and where its replies go: within the group's own transaction.
pub trait Source: Sync {
    /// Takes the postings of a group; `None` where there is nothing to do. What it asks first is sent together with the
    /// transaction's BEGIN.
    fn take(&mut self, client: &Client) -> impl Future<Output = Result<Option<Vec<Posting>>, Error>> + Send;

    /// Writes what became of the postings that were taken last, whose replies these are, in their order. It must send
    /// all its statements at once: the COMMIT follows them.
    fn keep(&self, client: &Client, replies: &[Reply]) -> impl Future<Output = Result<(), Error>> + Send;
}

/// Of a caller who brings the postings along.
enum Nowhere {}

impl Source for Nowhere {
    async fn take(&mut self, _: &Client) -> Result<Option<Vec<Posting>>, Error> {
        match *self {}
    }

    async fn keep(&self, _: &Client, _: &[Reply]) -> Result<(), Error> {
        match *self {}
    }
}

/// Whether a group's transaction begins with its load, or was begun when the group was taken from its source.
enum Group<'a, S> {
    Begins,
    Taken(&'a S),
}

/// Every statement that a session prepares, and the file of sql/ledger that holds it.
macro_rules! statements {
    ($($name:ident = $file:literal),+ $(,)?) => {
        pub(super) struct Statements { $(pub(super) $name: Statement),+ }

        impl Statements {
            async fn prepare(client: &Client) -> Result<Statements, tokio_postgres::Error> {
                let ($($name),+,) = try_join!(
                    $(client.prepare(include_str!(concat!("../../sql/ledger/", $file)))),+
                )?;
                Ok(Statements { $($name),+ })
            }
        }
    };
}

statements! {
    account_expire = "account_expire.sql",
    account_insert = "account_insert.sql",
    account_lock = "account_lock.sql",
    account_update = "account_update.sql",
    balance = "balance.sql",
    batch_insert = "batch_insert.sql",
    batch_open = "batch_open.sql",
    batch_orphan = "batch_orphan.sql",
    batch_update = "batch_update.sql",
    entry_insert = "entry_insert.sql",
    entry_known = "entry_known.sql",
}

/// Every statement here reaches its rows by an index, row by row. The planner must be told: a generic plan made while
/// the tables were small, or before they were analysed, would read them whole, and stay.
const SETTINGS: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
                        SET plan_cache_mode = force_generic_plan; SET jit = off";

impl Session {
    /// A session on a connection of its own. It is taken out of the pool for good, because its settings suit nobody
    /// else.
    ///
    /// # Errors
    /// Where the database does not answer, or does not hold the ledger's tables.
    pub async fn connect(database: &Database) -> Result<Session, Error> {
        Session::open(Object::take(database.connection().await?)).await
    }
}

impl<C: Deref<Target = Client>> Session<C> {
    /// Takes over a connection to a migrated database.
    ///
    /// # Errors
    /// Where the database does not answer, or does not hold the ledger's tables.
    pub async fn open(client: C) -> Result<Session<C>, Error> {
        let ((), statements) = try_join!(client.batch_execute(SETTINGS), Statements::prepare(&client))?;
        Ok(Session { client, statements })
    }

    /// The connection, for statements that belong into a transaction of the session's.
    pub fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn statements(&self) -> &Statements {
        &self.statements
    }

    /// Posts a group: each posting in order, all in one transaction. The replies come in the same order.
    ///
    /// Two round trips: lock and load, then store and commit. A dropped future leaves no transaction open.
    ///
    /// # Errors
    /// See [`Error`]. Refusals are replies.
    pub async fn post(&mut self, postings: &[Posting], rules: &Rules) -> Result<Vec<Reply>, Error> {
        let mut races = 0;
        let mut orphans = Vec::new();
        loop {
            let transaction = Transaction { client: &self.client, ended: false };
            match self.post_once(transaction, Group::<Nowhere>::Begins, postings, rules, &mut orphans).await {
                Err(Error::LostRace) if races < MOST_RACES => races += 1,
                result => return result,
            }
        }
    }

    /// Posts a group that is taken from somewhere, and kept there, in the transaction that posts it: both come to pass,
    /// or neither. `None` where nothing was taken.
    ///
    /// One round trip more than [`Session::post`], for the taking. After a lost race it is taken again. A dropped future
    /// leaves no transaction open.
    ///
    /// # Errors
    /// See [`Error`]. Refusals are replies.
    pub async fn post_taken(&mut self, rules: &Rules, source: &mut impl Source) -> Result<Option<Vec<Reply>>, Error> {
        let mut races = 0;
        let mut orphans = Vec::new();
        loop {
            let transaction = Transaction { client: &self.client, ended: false };
            let begun = self.client.batch_execute(BEGIN).map(|result| result.map_err(Error::from));
            let ((), taken) = try_join!(begun, source.take(&self.client))?;
            // Where there is none, the transaction is rolled back without waiting for it.
            let Some(postings) = taken else { return Ok(None) };
            let group = Group::Taken(&*source);
            match self.post_once(transaction, group, &postings, rules, &mut orphans).await {
                Err(Error::LostRace) if races < MOST_RACES => races += 1,
                result => return result.map(Some),
            }
        }
    }

    /// `orphans` are the users that the load before this one saw with batches but without an account. Who opened an
    /// account may have committed between two statements of a load; the next load finds it. Only who is seen twice is an
    /// orphan.
    async fn post_once(
        &self,
        transaction: Transaction<'_>,
        group: Group<'_, impl Source>,
        postings: &[Posting],
        rules: &Rules,
        orphans: &mut Vec<Uuid>,
    ) -> Result<Vec<Reply>, Error> {
        let keys: Vec<Option<Uuid>> = postings.iter().map(Posting::key_id).collect();
        // What is refused whatever the account holds needs no look at it.
        let asked: Vec<(&Posting, Option<Uuid>)> = postings
            .iter()
            .zip(keys.iter().copied())
            .filter(|(posting, _)| decide::refuse_on_sight(posting, rules).is_none())
            .collect();
        let (mut accounts, known) = self.load(matches!(group, Group::Begins), &asked).await?;
        let seen: Vec<Uuid> = accounts.iter().filter(|account| account.is_orphaned()).map(|a| a.user).collect();
        if seen.iter().any(|user| !orphans.contains(user)) {
            transaction.rollback().await?;
            *orphans = seen;
            return Err(Error::LostRace);
        }
        let Decision { entries, replies } = decide::decide(&mut accounts, &known, postings, &keys, rules);
        if entries.is_empty() && matches!(group, Group::Begins) {
            transaction.rollback().await?;
        } else {
            let kept = async {
                match group {
                    Group::Begins => Ok(()),
                    Group::Taken(source) => source.keep(&self.client, &replies).await,
                }
            };
            self.store(&accounts, &entries, kept).await.map_err(Error::or_lost_race)?;
            transaction.ended();
        }
        Ok(replies)
    }

    /// The first round trip, which opens the transaction unless it is open; the accounts come back sorted by user.
    async fn load(
        &self,
        begin: bool,
        postings: &[(&Posting, Option<Uuid>)],
    ) -> Result<(Vec<Account>, KnownKeys), Error> {
        let mut users: Vec<Uuid> = postings.iter().map(|(posting, _)| posting.user).collect();
        users.sort_unstable();
        users.dedup();
        let (key_users, keys): (Vec<Uuid>, Vec<Uuid>) =
            postings.iter().filter_map(|(posting, key)| Some((posting.user, (*key)?))).unzip();

        let (client, statements) = (&self.client, &self.statements);
        let (of_users, of_keys): ([&(dyn ToSql + Sync); 1], [&(dyn ToSql + Sync); 2]) = ([&users], [&key_users, &keys]);
        // Queued in this order and sent together. Each statement sees what was committed before it began, so the
        // later ones see all that the holders of the locks had written.
        let begun = async { if begin { client.batch_execute(BEGIN).await } else { Ok(()) } };
        if users.is_empty() {
            begun.await?;
            return Ok(Default::default());
        }
        let ((), locked, open, known) = try_join!(
            begun,
            client.query(&statements.account_lock, &of_users),
            client.query(&statements.batch_open, &of_users),
            client.query(&statements.entry_known, &of_keys),
        )?;

        let mut accounts: Vec<Account> = users.into_iter().map(Account::missing).collect();
        for row in &locked {
            let loaded = account_from(row)?;
            if let Some(account) = find(&mut accounts, loaded.user) {
                *account = loaded;
            }
        }
        let mut batches: HashMap<Uuid, Vec<Batch>> = HashMap::with_capacity(accounts.len());
        for row in &open {
            batches.entry(row.try_get(0)?).or_default().push(batch_from(row)?);
        }
        for (user, batches) in batches {
            if let Some(account) = find(&mut accounts, user) {
                account.load_batches(batches);
            }
        }
        let known = known.iter().map(|row| {
            let entry = entry_from(row)?;
            let key = entry.key.ok_or_else(|| Error::Corrupt("an entry was found by a key it does not have".into()))?;
            Ok(((entry.user, key), entry))
        });
        Ok((accounts, known.collect::<Result<_, Error>>()?))
    }

    /// The second round trip. What `kept` writes goes with it. Commits.
    async fn store(
        &self,
        accounts: &[Account],
        entries: &[Entry],
        kept: impl Future<Output = Result<(), Error>>,
    ) -> Result<(), Error> {
        let changed = || accounts.iter().filter(|account| account.is_changed());
        let opened = AccountColumns::of(changed().filter(|account| !account.stored));
        let updated = AccountColumns::of(changed().filter(|account| account.stored));
        let drawn = BatchColumns::of(changed(), BatchState::Changed);
        let new = BatchColumns::of(changed(), BatchState::New);
        let written = EntryColumns::of(entries);
        let statements = &self.statements;
        // Accounts first: a lost race for a new one shows before anything else is written.
        try_join!(
            self.execute(&statements.account_insert, opened.params(), opened.users.len()),
            self.execute(&statements.account_update, updated.params(), updated.users.len()),
            self.execute(&statements.batch_update, drawn.params_of_update(), drawn.users.len()),
            self.execute(&statements.batch_insert, new.params_of_insert(), new.users.len()),
            self.execute(&statements.entry_insert, written.params(), entries.len()),
            kept,
            self.client.batch_execute("COMMIT").map(|result| result.map_err(Error::from)),
        )?;
        Ok(())
    }

    /// Runs a statement that has `rows` rows to write, if it has any.
    async fn execute<const N: usize>(
        &self,
        statement: &Statement,
        params: [&(dyn ToSql + Sync); N],
        rows: usize,
    ) -> Result<(), Error> {
        if rows > 0 {
            self.client.execute(statement, &params).await?;
        }
        Ok(())
    }
}

/// A database may have another default; rule and statements are made for this one.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// Rolls back when it is dropped before it ended: a caller may drop a future at any await.
pub(super) struct Transaction<'a> {
    pub(super) client: &'a Client,
    pub(super) ended: bool,
}

impl Transaction<'_> {
    pub(super) async fn rollback(mut self) -> Result<(), tokio_postgres::Error> {
        self.ended = true;
        self.client.batch_execute("ROLLBACK").await
    }

    pub(super) fn ended(mut self) {
        self.ended = true;
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.ended {
            // One poll puts the message into the connection's queue; nobody needs its answer.
            let _ = self.client.batch_execute("ROLLBACK").now_or_never();
        }
    }
}

fn find(accounts: &mut [Account], user: Uuid) -> Option<&mut Account> {
    let index = accounts.binary_search_by_key(&user, |account| account.user).ok()?;
    accounts.get_mut(index)
}

pub(super) fn account_from(row: &Row) -> Result<Account, Error> {
    let mut account = Account::missing(row.try_get(0)?);
    account.stored = true;
    account.balance = row.try_get(1)?;
    account.total_recharged = row.try_get(2)?;
    account.total_consumed = row.try_get(3)?;
    account.total_expired = row.try_get(4)?;
    account.last_seq = row.try_get(5)?;
    account.last_batch = row.try_get(6)?;
    account.total_adjusted = row.try_get(7)?;
    Ok(account)
}

pub(super) fn batch_from(row: &Row) -> Result<Batch, Error> {
    Ok(Batch {
        batch: row.try_get(1)?,
        amount: row.try_get(2)?,
        remaining: row.try_get(3)?,
        source: row.try_get(4)?,
        opened_at: row.try_get(5)?,
        expires_at: row.try_get(6)?,
        state: BatchState::Unchanged,
    })
}

pub(super) fn entry_from(row: &Row) -> Result<Entry, Error> {
    let kind: &str = row.try_get("type")?;
    let kind = EntryType::parse(kind).ok_or_else(|| Error::Corrupt(format!("an entry of type `{kind}`")))?;
    let (batches, points): (Vec<i32>, Vec<i64>) = (row.try_get("allocated_batches")?, row.try_get("allocated_points")?);
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
        allocations: batches.into_iter().zip(points).map(|(batch, points)| Allocation { batch, points }).collect(),
        at: row.try_get("at")?,
        duration: row.try_get("duration")?,
        description: row.try_get("description")?,
        key: row.try_get("key")?,
        drawing_rule: row.try_get("drawing_rule")?,
    })
}

/// Rows as columns: what `unnest` in the statements puts together again.
#[derive(Default)]
struct AccountColumns {
    users: Vec<Uuid>,
    balances: Vec<i64>,
    recharged: Vec<i64>,
    consumed: Vec<i64>,
    expired: Vec<i64>,
    last_seqs: Vec<i64>,
    last_batches: Vec<i32>,
}

impl AccountColumns {
    fn of<'a>(accounts: impl Iterator<Item = &'a Account>) -> AccountColumns {
        let mut columns = AccountColumns::default();
        for account in accounts {
            columns.users.push(account.user);
            columns.balances.push(account.balance);
            columns.recharged.push(account.total_recharged);
            columns.consumed.push(account.total_consumed);
            columns.expired.push(account.total_expired);
            columns.last_seqs.push(account.last_seq);
            columns.last_batches.push(account.last_batch);
        }
        columns
    }

    fn params(&self) -> [&(dyn ToSql + Sync); 7] {
        [
            &self.users,
            &self.balances,
            &self.recharged,
            &self.consumed,
            &self.expired,
            &self.last_seqs,
            &self.last_batches,
        ]
    }
}

#[derive(Default)]
struct BatchColumns<'a> {
    users: Vec<Uuid>,
    batches: Vec<i32>,
    amounts: Vec<i64>,
    remaining: Vec<i64>,
    sources: Vec<&'a str>,
    opened_at: Vec<DateTime<Utc>>,
    expires_at: Vec<DateTime<Utc>>,
}

impl<'a> BatchColumns<'a> {
    fn of(accounts: impl Iterator<Item = &'a Account>, state: BatchState) -> BatchColumns<'a> {
        let mut columns = BatchColumns::default();
        for account in accounts {
            for batch in account.batches().iter().filter(|batch| batch.state == state) {
                columns.users.push(account.user);
                columns.batches.push(batch.batch);
                columns.amounts.push(batch.amount);
                columns.remaining.push(batch.remaining);
                columns.sources.push(&batch.source);
                columns.opened_at.push(batch.opened_at);
                columns.expires_at.push(batch.expires_at);
            }
        }
        columns
    }

    fn params_of_update(&self) -> [&(dyn ToSql + Sync); 3] {
        [&self.users, &self.batches, &self.remaining]
    }

    fn params_of_insert(&self) -> [&(dyn ToSql + Sync); 7] {
        [&self.users, &self.batches, &self.amounts, &self.remaining, &self.sources, &self.opened_at, &self.expires_at]
    }
}

#[derive(Default)]
struct EntryColumns<'a> {
    users: Vec<Uuid>,
    seqs: Vec<i64>,
    types: Vec<&'static str>,
    amounts: Vec<i64>,
    before: Vec<i64>,
    after: Vec<i64>,
    source_types: Vec<&'a str>,
    source_ids: Vec<Option<&'a str>>,
    batches: Vec<Option<i32>>,
    at: Vec<DateTime<Utc>>,
    durations: Vec<Option<rust_decimal::Decimal>>,
    descriptions: Vec<&'a str>,
    keys: Vec<Option<Uuid>>,
    allocated_from: Vec<i32>,
    allocated_to: Vec<i32>,
    allocated_batches: Vec<i32>,
    allocated_points: Vec<i64>,
}

impl<'a> EntryColumns<'a> {
    fn of(entries: &'a [Entry]) -> EntryColumns<'a> {
        let mut columns = EntryColumns::default();
        let mut allocated: i32 = 0;
        for entry in entries {
            columns.users.push(entry.user);
            columns.seqs.push(entry.seq);
            columns.types.push(entry.kind.as_str());
            columns.amounts.push(entry.amount);
            columns.before.push(entry.balance_before);
            columns.after.push(entry.balance_after);
            columns.source_types.push(&entry.source_type);
            columns.source_ids.push(entry.source_id.as_deref());
            columns.batches.push(entry.batch);
            columns.at.push(entry.at);
            columns.durations.push(entry.duration);
            columns.descriptions.push(&entry.description);
            columns.keys.push(entry.key);
            columns.allocated_from.push(allocated + 1);
            for allocation in &entry.allocations {
                columns.allocated_batches.push(allocation.batch);
                columns.allocated_points.push(allocation.points);
                allocated += 1;
            }
            columns.allocated_to.push(allocated);
        }
        columns
    }

    fn params(&self) -> [&(dyn ToSql + Sync); 18] {
        [
            &self.users,
            &self.seqs,
            &self.types,
            &self.amounts,
            &self.before,
            &self.after,
            &self.source_types,
            &self.source_ids,
            &self.batches,
            &self.at,
            &self.durations,
            &self.descriptions,
            &self.keys,
            &self.allocated_from,
            &self.allocated_to,
            &self.allocated_batches,
            &self.allocated_points,
            &DRAWING_RULE,
        ]
    }
}
