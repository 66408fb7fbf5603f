//! How a group of postings reaches the database: load, decide, store, in two round trips whatever the group's size.

use std::collections::{BTreeMap, HashSet};
use std::ops::Deref;
use std::time::Duration;

use chrono::{DateTime, Utc};
use deadpool_postgres::{ClientWrapper, Object};
use futures_util::{FutureExt, try_join};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use super::also_write::AlsoWrite;
use super::bucket::Buckets;
use super::decide::{self, Account, BatchState, Change, Decision};
use super::load::{Keyed, Loaded, More, Want, find, load, load_more};
use super::posting::Posting;
use super::reply::{Entry, Reply};
use super::rows::{AccountColumns, Allocations, DrawnBatchColumns, EntryColumns, HoldColumns, NewBatchColumns, Params};
use super::rules::{DRAWING_RULE, Rules};
use crate::database::{self, Database, SessionKind, pipelined, pipelined_all};
use crate::time::time_text;

/// How often a group is posted again because another transaction opened one of its accounts meanwhile. Each time at least
/// one account fewer is missing, and such races are rare: more than a few means that something else is wrong.
pub const MOST_RACES: u32 = 20;

/// How often a group is decided again whose failure may be a lost race, before it counts as the fault of a row.
const UNTOLD_RACES: u32 = 5;

/// A transaction that takes so long to commit is told: it may wait for a standby.
const SLOW_COMMIT: Duration = Duration::from_secs(5);

/// Why the ledger did not do what it was asked. A refusal is a reply and no error.
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
    /// Another transaction opened one of the group's accounts meanwhile. [`Session::post`] returns it only after
    /// [`MOST_RACES`] attempts.
    #[error("other groups kept opening the same accounts")]
    LostRace,
    /// The accounts were spread over another number of buckets since the session was opened. Nothing was written; a new session knows the
    /// new number.
    #[error("the ledger was spread over other buckets while the session was open: open a new session")]
    Redistributed,
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
    /// What the books will have said at an instant to come is not known yet.
    #[error(
        "{} lies in the future, of which the books say nothing yet: the database's clock shows {}; give an earlier time",
        time_text(*asked), time_text(*now)
    )]
    Future {
        /// The instant that was asked for.
        asked: DateTime<Utc>,
        /// The last one of which they say everything.
        now: DateTime<Utc>,
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
            Error::LostRace | Error::Redistributed | Error::Uncommitted { .. } => true,
            Error::Corrupt(_) | Error::Future { .. } | Error::Stopped => false,
        }
    }

    /// Whether the database can be read and not written.
    pub(super) fn is_read_only(&self) -> bool {
        matches!(self, Error::Database(error) if error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION))
    }

    /// What the database says of a text that it cannot store, if that is the cause: its encoding lacks a character.
    pub(super) fn unfit_text(&self) -> Option<&str> {
        let Error::Database(error) = self else { return None };
        let error = error.as_db_error()?;
        let unfit = [SqlState::CHARACTER_NOT_IN_REPERTOIRE, SqlState::UNTRANSLATABLE_CHARACTER];
        unfit.contains(error.code()).then(|| error.message())
    }

    /// What the database says of a row that it does not take or cannot read, if that is the cause. One account's rows can be at
    /// fault then, though a broken table says the same of all.
    pub(super) fn unfit_row(&self) -> Option<String> {
        let Error::Database(error) = self else { return None };
        let error = error.as_db_error()?;
        if database::is_of_a_node(error) {
            return None;
        }
        // A value out of range, a violated constraint, an error raised by a trigger, damaged pages.
        let unfit = ["22", "23", "P0", "XX"].contains(&error.code().code().get(..2)?);
        unfit.then(|| error.message().to_owned())
    }

    /// Whether a node refused because the bucket has left it (`bucket_keep.sql`). Nothing was written then.
    pub(super) fn is_serialization_failure(&self) -> bool {
        matches!(self, Error::Database(error) if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE))
    }

    /// Whether a new row was refused on its way to a node of a cluster, which copies it there and tells no SQLSTATE. It may be a lost race for
    /// a new account.
    pub(crate) fn is_of_copied_row(&self) -> bool {
        let Error::Database(error) = self else { return false };
        error.as_db_error().is_some_and(|error| {
            *error.code() == SqlState::INTERNAL_ERROR && error.file().is_some_and(|file| file.ends_with("multi_copy.c"))
        })
    }

    /// Turns the violation of the accounts' primary key into a lost race for a new account. On a cluster the key's name ends in the number of
    /// the shard, as `accounts_pkey_102008`, and of a row on another server only the kind of the violation is told.
    fn or_lost_race(self) -> Error {
        let Error::Database(error) = &self else { return self };
        let Some(error) = error.as_db_error() else { return self };
        let is_race = match error.constraint() {
            Some(name) => name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_') == "accounts_pkey",
            None => *error.code() == SqlState::UNIQUE_VIOLATION,
        };
        if is_race { Error::LostRace } else { self }
    }
}

/// A connection that is ready for the ledger: the planner is set, the statements are prepared.
///
/// `C` is whatever owns the connection, such as a [`Client`] in a box.
pub struct Session<C = ClientWrapper> {
    client: C,
    statements: Statements,
    buckets: Buckets,
    /// Users that the last load saw with batches but without an account.
    orphans: Vec<Uuid>,
    /// Transactions that were begun to post groups.
    groups: u64,
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
    bucket_keep = "bucket_keep.sql",
    account_lock = "account_lock.sql",
    account_update = "account_update.sql",
    account_update_all = "account_update_all.sql",
    batch_expired = "batch_expired.sql",
    batch_first = "batch_first.sql",
    batch_insert = "batch_insert.sql",
    batch_insert_paid = "batch_insert_paid.sql",
    batch_named = "batch_named.sql",
    batch_open = "batch_open.sql",
    batch_orphan = "batch_orphan.sql",
    batch_update = "batch_update.sql",
    batch_update_all = "batch_update_all.sql",
    due_expire = "due_expire.sql",
    entry_expire = "entry_expire.sql",
    entry_insert = "entry_insert.sql",
    entry_insert_all = "entry_insert_all.sql",
    entry_insert_paid = "entry_insert_paid.sql",
    entry_known = "entry_known.sql",
    entry_returned = "entry_returned.sql",
    hold_known = "hold_known.sql",
    hold_write = "hold_write.sql",
}

impl Session {
    /// Opens a session on a connection of its own. The connection leaves the pool for good, because the session's settings
    /// suit no other work.
    ///
    /// # Errors
    /// Where the database does not answer, or does not hold the ledger's tables.
    pub async fn connect(database: &Database) -> Result<Session, Error> {
        Session::open(Object::take(database.connection().await?)).await
    }
}

impl<C: Deref<Target = Client>> Session<C> {
    /// Opens a session on a connection to a migrated database: sets the planner and prepares the statements.
    ///
    /// # Errors
    /// Where the database does not answer, or does not hold the ledger's tables.
    pub async fn open(client: C) -> Result<Session<C>, Error> {
        let ((), statements, buckets) = try_join!(
            client.batch_execute(SessionKind::Ledger.settings()),
            Statements::prepare(&client),
            Buckets::read(&client)
        )?;
        Ok(Session { client, statements, buckets, orphans: Vec::new(), groups: 0 })
    }

    /// The connection, for statements of the caller between two groups.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The buckets of the ledger, as they were when the session was opened.
    pub(crate) fn buckets(&self) -> Buckets {
        self.buckets
    }

    pub(super) fn statements(&self) -> &Statements {
        &self.statements
    }

    /// Posts a group: each posting in order, all in one transaction. The replies come in the same order.
    ///
    /// Two round trips: lock and load, then store and commit. A group with late consumes, refunds, voids or holds loads once more
    /// in between. A dropped future leaves no transaction open. The statements are those of one bucket after those of another, so a group
    /// costs least if its accounts lie in one.
    ///
    /// # Errors
    /// See [`Error`]. Refusals are replies.
    pub async fn post(&mut self, postings: &[Posting], rules: &Rules) -> Result<Vec<Reply>, Error> {
        self.orphans.clear();
        let mut races = 0;
        loop {
            let result = async {
                let mut group = self.begin();
                let (accounts, decision) = group.decide(postings, rules).await?;
                if decision.changed {
                    group.store(&accounts, &decision, &()).await?;
                } else if decision.replies.iter().all(|reply| reply.refusal().is_some()) {
                    // Unlike a commit of the locks alone, this waits for no disk.
                    group.transaction.rollback().await?;
                } else {
                    // What is replayed may have reached no synchronous standby yet: the connection broke while its commit waited
                    // for one. This commit waits for the same.
                    warn_if_slow(postings.len(), group.transaction.commit()).await?;
                }
                Ok(decision.replies)
            };
            match result.await {
                Err(Error::LostRace) if races < MOST_RACES => races += 1,
                Err(error) if races < UNTOLD_RACES && error.is_of_copied_row() => races += 1,
                result => return result,
            }
        }
    }

    /// Begins the transaction of a group, for a caller that reads the postings, or writes something of its own, in the same
    /// transaction. BEGIN is sent together with the first statement.
    pub fn begin(&mut self) -> Group<'_> {
        self.groups += 1;
        let transaction = Transaction::begin(&self.client);
        // A plan stays until the next ANALYZE. One from when the ledger had a few accounts reads all of them for each that is asked
        // for. So a session that makes the ledger grow plans anew after 1, 2, 4, 8 … groups.
        if self.groups.is_power_of_two() {
            let _ = self.client.batch_execute("DISCARD PLANS").now_or_never();
        }
        let (statements, buckets) = (&self.statements, self.buckets);
        Group { transaction, statements, buckets, orphans: &mut self.orphans }
    }
}

/// The open transaction of a group. Dropping it rolls back.
pub struct Group<'a> {
    transaction: Transaction<'a>,
    statements: &'a Statements,
    buckets: Buckets,
    orphans: &'a mut Vec<Uuid>,
}

impl Group<'_> {
    /// The connection, for statements that belong into the transaction.
    pub fn client(&self) -> &Client {
        self.transaction.client
    }

    /// Posts the group, lets `also` write along, and commits. The replies come in the order of the postings.
    ///
    /// Two round trips: lock and load, then store and commit.
    ///
    /// # Errors
    /// See [`Error`]. Refusals are replies. After [`Error::LostRace`] the caller begins anew on the same session, up to
    /// [`MOST_RACES`] times.
    pub async fn post(
        mut self,
        postings: &[Posting],
        rules: &Rules,
        also: &impl AlsoWrite<[Reply]>,
    ) -> Result<Vec<Reply>, Error> {
        let (accounts, decision) = self.decide(postings, rules).await?;
        self.store(&accounts, &decision, also).await?;
        Ok(decision.replies)
    }

    /// Loads what the postings touch, and decides them.
    ///
    /// A transaction that opened an account may have committed between two statements of the load, which then shows the
    /// batches without the account. The next load shows both. So only a user that two loads in a row show is an orphan.
    async fn decide(&mut self, postings: &[Posting], rules: &Rules) -> Result<(Vec<Account>, Decision), Error> {
        let keys: Vec<Option<Uuid>> = postings.iter().map(Posting::key_id).collect();
        // A posting that is refused whatever the account holds loads nothing.
        let asked: Vec<Keyed> = postings
            .iter()
            .zip(keys.iter().copied())
            .filter(|(posting, _)| decide::refuse_without_clock(posting).is_none())
            .collect();
        let parts = self.buckets.part(asked, |(posting, _)| posting.user);
        let Loaded { mut accounts, known, now } = self.load(&parts).await?;
        // Without its own row an account can have nothing.
        for user in known.values().filter(|entry| !entry.is_of_another_service()).map(|entry| entry.user) {
            if let Some(account) = find(&mut accounts, user) {
                account.has_entries = true;
            }
        }
        let seen: Vec<Uuid> = accounts.iter().filter(|account| account.is_orphaned()).map(|a| a.user).collect();
        let is_new = seen.iter().any(|user| !self.orphans.contains(user));
        *self.orphans = seen;
        if is_new {
            return Err(Error::LostRace);
        }
        let decision = decide::decide(&mut accounts, &known, postings, &keys, rules, now);
        Ok((accounts, decision))
    }

    /// Loads what the postings touch, bucket by bucket: so all groups lock accounts in the same order.
    async fn load(&self, parts: &BTreeMap<i16, Vec<Keyed<'_>>>) -> Result<Loaded, Error> {
        let (client, statements, buckets) = (self.client(), self.statements, self.buckets);
        let parts: Vec<(i16, &[Keyed], Vec<Want>)> =
            parts.iter().map(|(bucket, asked)| (*bucket, &asked[..], Want::of_accounts(asked))).collect();
        let loads = parts.iter().map(|(bucket, asked, wants)| load(client, statements, buckets, *bucket, asked, wants));
        let mut loaded = pipelined_all(loads).await?;
        let more = parts.iter().zip(&mut loaded).map(|((bucket, asked, wants), loaded)| {
            let more = More::needed_by(asked, wants, &loaded.accounts, &loaded.known);
            (*bucket, more, &mut loaded.accounts)
        });
        let more: Vec<_> = more.filter(|(_, more, _)| !more.is_empty()).collect();
        let load_more = async |(bucket, more, accounts): (i16, More, &mut Vec<Account>)| {
            load_more(client, statements, bucket, &more, accounts).await
        };
        pipelined_all(more.into_iter().map(load_more)).await?;
        let mut all = Loaded::default();
        for part in loaded {
            all.accounts.extend(part.accounts);
            all.known.extend(part.known);
            all.now = all.now.max(part.now);
        }
        if parts.len() > 1 {
            all.accounts.sort_unstable_by_key(|account| account.user);
        }
        Ok(all)
    }

    /// The second round trip: writes the accounts and the entries, lets `also` write along, and commits.
    async fn store(
        self,
        accounts: &[Account],
        Decision { entries, replies, .. }: &Decision,
        also: &impl AlsoWrite<[Reply]>,
    ) -> Result<(), Error> {
        let accounts = accounts.iter().filter(|account| account.change() > Change::Nothing);
        let accounts = self.buckets.part(accounts, |account| account.user);
        let mut entries = self.buckets.part(entries, |entry| entry.user);
        let parts = accounts.into_iter().map(|(bucket, accounts)| {
            let entries = entries.remove(&bucket).unwrap_or_default();
            self.write(bucket, accounts, entries)
        });
        let stored = async {
            pipelined!(pipelined_all(parts), also.write(self.client(), replies), self.client().batch_execute("COMMIT"))
        };
        let stored = warn_if_slow(replies.len(), stored).await;
        stored.map_err(Error::from).map_err(Error::or_lost_race)?;
        self.transaction.ended();
        Ok(())
    }

    /// Writes the changed accounts of a bucket, with their batches, holds and entries.
    async fn write(
        &self,
        bucket: i16,
        accounts: Vec<&Account>,
        entries: Vec<&Entry>,
    ) -> Result<(), tokio_postgres::Error> {
        let changed = || accounts.iter().copied();
        let opened = AccountColumns::from_rows(changed().filter(|account| !account.stored));
        let updated =
            |change| AccountColumns::from_rows(changed().filter(|a| a.stored).filter(move |a| a.change() == change));
        let (updated, updated_all) = (updated(Change::Common), updated(Change::Any));
        let batches = |state| {
            changed().flat_map(move |account| {
                account.batches().iter().filter(move |batch| batch.state == state).map(|batch| (account.user, batch))
            })
        };
        let drawn = DrawnBatchColumns::from_rows(batches(BatchState::Drawn));
        let drawn_all = DrawnBatchColumns::from_rows(batches(BatchState::Changed));
        let (new_paid, new): (Vec<_>, Vec<_>) = batches(BatchState::New).partition(|(_, batch)| batch.paid.is_some());
        let (new, new_paid) = (NewBatchColumns::from_rows(new), NewBatchColumns::from_rows(new_paid));
        let holds = HoldColumns::from_rows(changed().flat_map(Account::changed_holds));
        let history = History::of(&entries);
        let allocations = &history.allocations;
        let of_group: [&(dyn ToSql + Sync); 3] = [&allocations.batches, &allocations.points, &DRAWING_RULE];
        let (mut entry_params, mut entry_params_all) = (history.common.entry_insert(), history.all.entry_insert_all());
        entry_params.extend(of_group);
        entry_params_all.extend(of_group);
        let mut entry_params_paid = history.paid.params();
        entry_params_paid.extend(of_group);
        entry_params_paid.push(&allocations.paid);
        let statements = self.statements;
        // Accounts first: a lost race for a new one shows before anything else is written.
        pipelined!(
            self.execute(&statements.account_insert, in_bucket(opened.params(), &bucket), opened.rows),
            self.execute(&statements.account_update, in_bucket(updated.account_update(), &bucket), updated.rows),
            self.execute(&statements.account_update_all, in_bucket(updated_all.params(), &bucket), updated_all.rows),
            self.execute(&statements.batch_update, in_bucket(drawn.batch_update(), &bucket), drawn.rows),
            self.execute(&statements.batch_update_all, in_bucket(drawn_all.params(), &bucket), drawn_all.rows),
            self.execute(&statements.batch_insert, in_bucket(new.batch_insert(), &bucket), new.rows),
            self.execute(&statements.batch_insert_paid, in_bucket(new_paid.params(), &bucket), new_paid.rows),
            self.execute(&statements.hold_write, in_bucket(holds.params(), &bucket), holds.rows),
            self.execute(&statements.entry_insert, in_bucket(entry_params, &bucket), history.common.rows),
            self.execute(&statements.entry_insert_all, in_bucket(entry_params_all, &bucket), history.all.rows),
            self.execute(&statements.entry_insert_paid, in_bucket(entry_params_paid, &bucket), history.paid.rows),
        )
        .map(drop)
    }

    /// Runs a statement that has `rows` rows to write, if it has any.
    async fn execute(
        &self,
        statement: &Statement,
        params: Params<'_>,
        rows: usize,
    ) -> Result<(), tokio_postgres::Error> {
        if rows > 0 {
            self.transaction.client.execute(statement, &params).await?;
        }
        Ok(())
    }
}

/// The parameters of a statement on rows of one bucket, which is its last one.
fn in_bucket<'a>(mut params: Params<'a>, bucket: &'a i16) -> Params<'a> {
    params.push(bucket);
    params
}

/// A group's entries by the statement that writes them. Each column costs time, so most entries go without the rare ones.
struct History<'a> {
    common: EntryColumns<'a>,
    /// With the batch, the reference and what was asked.
    all: EntryColumns<'a>,
    /// With money.
    paid: EntryColumns<'a>,
    allocations: Allocations,
}

impl<'a> History<'a> {
    fn of(entries: &[&'a Entry]) -> History<'a> {
        let mut allocations = Allocations::default();
        let placed: Vec<_> = entries.iter().map(|entry| (*entry, allocations.append(entry))).collect();
        let users = |belongs: fn(&Entry) -> bool| -> HashSet<Uuid> {
            entries.iter().filter(|entry| belongs(entry)).map(|entry| entry.user).collect()
        };
        // An account's entries go into one statement, so that they are recorded in their order.
        let other = users(|entry| entry.batch.is_some() || entry.refers_to.is_some());
        let with_money =
            users(|entry| entry.paid.is_some() || entry.allocations.iter().any(|part| part.paid.is_some()));
        let (paid, rest): (Vec<_>, Vec<_>) =
            placed.into_iter().partition(|(entry, _)| with_money.contains(&entry.user));
        let (all, common): (Vec<_>, Vec<_>) = rest.into_iter().partition(|(entry, _)| other.contains(&entry.user));
        History {
            common: EntryColumns::from_rows(common),
            all: EntryColumns::from_rows(all),
            paid: EntryColumns::from_rows(paid),
            allocations,
        }
    }
}

/// Waits for the commit of a group, and warns where that takes long.
async fn warn_if_slow<T>(postings: usize, stored: impl Future<Output = T>) -> T {
    tokio::pin!(stored);
    if let Ok(stored) = tokio::time::timeout(SLOW_COMMIT, &mut stored).await {
        return stored;
    }
    tracing::warn!(
        postings,
        "a group of {postings} postings has not committed after {} s; if synchronous_standby_names is set, see whether \
         the standby is up; on a cluster, whether each node is",
        SLOW_COMMIT.as_secs()
    );
    stored.await
}

/// An open transaction. Dropping it before it ended rolls back, because a caller may drop a future at any await.
pub(super) struct Transaction<'a> {
    client: &'a Client,
    ended: bool,
}

impl<'a> Transaction<'a> {
    /// Queues the BEGIN. It goes out with the next statement, which fails if it does.
    ///
    /// The isolation level is named because a database may have another default.
    pub(super) fn begin(client: &'a Client) -> Transaction<'a> {
        let _ = client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED").now_or_never();
        Transaction { client, ended: false }
    }

    pub(super) async fn rollback(mut self) -> Result<(), tokio_postgres::Error> {
        self.ended = true;
        self.client.batch_execute("ROLLBACK").await
    }

    pub(super) async fn commit(mut self) -> Result<(), tokio_postgres::Error> {
        self.ended = true;
        self.client.batch_execute("COMMIT").await
    }

    /// The caller has sent a COMMIT or ROLLBACK itself.
    pub(super) fn ended(mut self) {
        self.ended = true;
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.ended {
            // One poll puts the message into the connection's queue. No answer is needed.
            let _ = self.client.batch_execute("ROLLBACK").now_or_never();
        }
    }
}
