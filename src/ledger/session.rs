//! How a group of postings reaches the database: load, decide, store, in two round trips whatever the group's size.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Deref;
use std::time::Duration;

use chrono::{DateTime, Utc};
use deadpool_postgres::{ClientWrapper, Object};
use futures_util::{FutureExt, try_join};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

use super::also_write::AlsoWrite;
use super::decide::{self, Account, Batch, BatchState, Change, Decision, KnownKeys};
use super::holds::hold_from;
use super::posting::{Kind, Posting};
use super::reply::{Entry, Reply};
use super::rows::{
    AccountColumns, Allocations, DrawnBatchColumns, EntryColumns, HoldColumns, NewBatchColumns, Params, account_from,
    batch_from, entry_from,
};
use super::rules::{DRAWING_RULE, Rules};
use crate::database::{self, Database, SessionKind, pipelined};
use crate::time::to_microsecond;

/// How often a group is posted again because another transaction opened one of its accounts meanwhile. Each time at least
/// one account fewer is missing, and such races are rare: more than a few means that something else is wrong.
pub const MOST_RACES: u32 = 20;

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
        // A value out of range, a violated constraint, an error raised by a trigger, damaged pages.
        let unfit = ["22", "23", "P0", "XX"].contains(&error.code().code().get(..2)?);
        unfit.then(|| error.message().to_owned())
    }

    /// Turns the violation of the accounts' primary key into a lost race for a new account.
    fn or_lost_race(self) -> Error {
        match &self {
            Error::Database(error) if error.as_db_error().and_then(|e| e.constraint()) == Some("accounts_pkey") => {
                Error::LostRace
            }
            _ => self,
        }
    }
}

/// A connection that is ready for the ledger: the planner is set, the statements are prepared.
///
/// `C` is whatever owns the connection, such as a [`Client`] in a box.
pub struct Session<C = ClientWrapper> {
    client: C,
    statements: Statements,
    /// Users that the last load saw with batches but without an account.
    orphans: Vec<Uuid>,
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
    account_update_all = "account_update_all.sql",
    balance = "balance.sql",
    batch_expired = "batch_expired.sql",
    batch_first = "batch_first.sql",
    batch_insert = "batch_insert.sql",
    batch_insert_paid = "batch_insert_paid.sql",
    batch_named = "batch_named.sql",
    batch_open = "batch_open.sql",
    batch_orphan = "batch_orphan.sql",
    batch_update = "batch_update.sql",
    batch_update_all = "batch_update_all.sql",
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
        let ((), statements) =
            try_join!(client.batch_execute(SessionKind::Ledger.settings()), Statements::prepare(&client))?;
        Ok(Session { client, statements, orphans: Vec::new() })
    }

    /// The connection, for statements of the caller between two groups.
    pub fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn statements(&self) -> &Statements {
        &self.statements
    }

    /// Posts a group: each posting in order, all in one transaction. The replies come in the same order.
    ///
    /// Two round trips: lock and load, then store and commit. A group with late consumes, refunds, voids or holds loads once more
    /// in between. A dropped future leaves no transaction open.
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
                result => return result,
            }
        }
    }

    /// Begins the transaction of a group, for a caller that reads the postings, or writes something of its own, in the same
    /// transaction. BEGIN is sent together with the first statement.
    pub fn begin(&mut self) -> Group<'_> {
        let transaction = Transaction::begin(&self.client);
        Group { transaction, statements: &self.statements, orphans: &mut self.orphans }
    }
}

/// The open transaction of a group. Dropping it rolls back.
pub struct Group<'a> {
    transaction: Transaction<'a>,
    statements: &'a Statements,
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
        let asked: Vec<(&Posting, Option<Uuid>)> = postings
            .iter()
            .zip(keys.iter().copied())
            .filter(|(posting, _)| decide::refuse_without_clock(posting).is_none())
            .collect();
        let wants = Want::of_accounts(&asked);
        let Loaded { mut accounts, known, now } = self.load(&asked, &wants).await?;
        let more = More::needed_by(&asked, &wants, &accounts, &known);
        if !more.is_empty() {
            self.load_more(&more, &mut accounts).await?;
        }
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

    /// The first round trip. The accounts come back sorted by user.
    async fn load(&self, postings: &[(&Posting, Option<Uuid>)], wants: &[Want]) -> Result<Loaded, Error> {
        let users: Vec<Uuid> = wants.iter().map(|want| want.user).collect();
        let named = postings.iter().filter_map(|(posting, _)| posting.reference_id());
        let keys: Vec<Uuid> = postings.iter().filter_map(|(_, key)| *key).chain(named).collect();
        if users.is_empty() {
            return Ok(Loaded::default());
        }
        let of_all: Vec<Uuid> = wants.iter().filter(|want| want.first_until.is_none()).map(|want| want.user).collect();
        let (of_first, until): (Vec<Uuid>, Vec<DateTime<Utc>>) =
            wants.iter().filter_map(|want| Some((want.user, want.first_until?))).unzip();
        let (client, statements) = (self.transaction.client, self.statements);
        let (of_users, of_keys): ([&(dyn ToSql + Sync); 1], [&(dyn ToSql + Sync); 1]) = ([&users], [&keys]);
        let all: [&(dyn ToSql + Sync); 1] = [&of_all];
        let first: [&(dyn ToSql + Sync); 2] = [&of_first, &until];
        // Queued in this order and sent together. Each statement sees what was committed before it began, so the
        // later ones see all that the holders of the locks had written.
        let (locked, first, open, known) = pipelined!(
            client.query(&statements.account_lock, &of_users),
            self.query(&statements.batch_first, &first, of_first.len()),
            self.query(&statements.batch_open, &all, of_all.len()),
            client.query(&statements.entry_known, &of_keys),
        )?;

        let mut accounts: Vec<Account> = users.into_iter().map(Account::missing).collect();
        let clock = locked.first().ok_or_else(|| Error::Corrupt("the database tells no time".to_owned()))?;
        let now = Some(clock.try_get("now")?);
        for row in locked_accounts(&locked) {
            let loaded = account_from(row)?;
            if let Some(account) = find(&mut accounts, loaded.user) {
                *account = loaded;
            }
        }
        load_batches(&first, &mut accounts)?;
        load_batches(&open, &mut accounts)?;
        let known = known.iter().map(|row| {
            let entry = entry_from(row)?;
            let key = entry.key.ok_or_else(|| Error::Corrupt("an entry was found by a key it does not have".into()))?;
            Ok((key, entry))
        });
        Ok(Loaded { accounts, known: known.collect::<Result<_, Error>>()?, now })
    }

    /// One more round trip, for groups with late consumes, refunds, voids or holds, and for consumes that need more than the first batch.
    async fn load_more(&self, more: &More, accounts: &mut [Account]) -> Result<(), Error> {
        let statements = self.statements;
        let all: [&(dyn ToSql + Sync); 1] = [&more.open];
        let of_late: [&(dyn ToSql + Sync); 3] = [&more.late.0, &more.late.1, &more.hold_keys];
        let of_batches: [&(dyn ToSql + Sync); 2] = [&more.batches.0, &more.batches.1];
        let of_entries: [&(dyn ToSql + Sync); 2] = [&more.entries.0, &more.entries.1];
        let of_holds: [&(dyn ToSql + Sync); 3] = [&more.hold_keys, &more.holders.0, &more.holders.1];
        let (open, expired, named, returned, holds) = pipelined!(
            self.query(&statements.batch_open, &all, more.open.len()),
            self.query(&statements.batch_expired, &of_late, more.late.0.len()),
            self.query(&statements.batch_named, &of_batches, more.batches.0.len()),
            self.query(&statements.entry_returned, &of_entries, more.entries.0.len()),
            self.query(&statements.hold_known, &of_holds, more.hold_keys.len() + more.holders.0.len()),
        )?;
        load_batches(&open, accounts)?;
        load_batches(&expired, accounts)?;
        load_batches(&named, accounts)?;
        for row in &returned {
            if let Some(account) = find(accounts, row.try_get("user_id")?) {
                account.load_returned(row.try_get("seq")?, row.try_get("points")?);
            }
        }
        for row in &holds {
            let (key, hold) = hold_from(row)?;
            if let Some(account) = find(accounts, hold.user) {
                account.load_hold(key, hold);
            }
        }
        Ok(())
    }

    /// The second round trip: writes the accounts and the entries, lets `also` write along, and commits.
    async fn store(
        self,
        accounts: &[Account],
        Decision { entries, replies, .. }: &Decision,
        also: &impl AlsoWrite<[Reply]>,
    ) -> Result<(), Error> {
        let changed = || accounts.iter().filter(|account| account.change() > Change::Nothing);
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
        let history = History::of(entries);
        let allocations = &history.allocations;
        let of_group: [&(dyn ToSql + Sync); 3] = [&allocations.batches, &allocations.points, &DRAWING_RULE];
        let (mut entry_params, mut entry_params_all) = (history.common.entry_insert(), history.all.entry_insert_all());
        entry_params.extend(of_group);
        entry_params_all.extend(of_group);
        let mut entry_params_paid = history.paid.params();
        entry_params_paid.extend(of_group);
        entry_params_paid.push(&allocations.paid);
        let (client, statements) = (self.transaction.client, self.statements);
        // Accounts first: a lost race for a new one shows before anything else is written.
        let stored = async {
            pipelined!(
                self.execute(&statements.account_insert, opened.params(), opened.rows),
                self.execute(&statements.account_update, updated.account_update(), updated.rows),
                self.execute(&statements.account_update_all, updated_all.params(), updated_all.rows),
                self.execute(&statements.batch_update, drawn.batch_update(), drawn.rows),
                self.execute(&statements.batch_update_all, drawn_all.params(), drawn_all.rows),
                self.execute(&statements.batch_insert, new.batch_insert(), new.rows),
                self.execute(&statements.batch_insert_paid, new_paid.params(), new_paid.rows),
                self.execute(&statements.hold_write, holds.params(), holds.rows),
                self.execute(&statements.entry_insert, entry_params, history.common.rows),
                self.execute(&statements.entry_insert_all, entry_params_all, history.all.rows),
                self.execute(&statements.entry_insert_paid, entry_params_paid, history.paid.rows),
                also.write(client, replies),
                client.batch_execute("COMMIT"),
            )
        };
        let stored = warn_if_slow(replies.len(), stored).await;
        stored.map_err(Error::from).map_err(Error::or_lost_race)?;
        self.transaction.ended();
        Ok(())
    }

    /// Runs a query that asks for `count` accounts, if it asks for any.
    async fn query(
        &self,
        statement: &Statement,
        params: &[&(dyn ToSql + Sync)],
        count: usize,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        if count == 0 { Ok(Vec::new()) } else { self.transaction.client.query(statement, params).await }
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
    fn of(entries: &'a [Entry]) -> History<'a> {
        let mut allocations = Allocations::default();
        let placed: Vec<_> = entries.iter().map(|entry| (entry, allocations.append(entry))).collect();
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
         the standby is up",
        SLOW_COMMIT.as_secs()
    );
    stored.await
}

/// What the first round trip brings.
#[derive(Default)]
struct Loaded {
    /// Sorted by user.
    accounts: Vec<Account>,
    known: KnownKeys,
    /// The database's clock; `None` where nothing had to be loaded.
    now: Option<DateTime<Utc>>,
}

/// Which open batches the postings to an account want to see. To read them all would cost the more, the more there are.
struct Want {
    user: Uuid,
    /// Where the first batch will mostly do: up to when it must expire to be of interest. None: all are needed.
    first_until: Option<DateTime<Utc>>,
    /// What the consumes draw.
    points: i64,
    /// The time of the latest posting: what expires up to then is due.
    latest: DateTime<Utc>,
}

impl Want {
    /// Of each account, sorted by user.
    fn of_accounts(postings: &[(&Posting, Option<Uuid>)]) -> Vec<Want> {
        let mut wants: Vec<Want> = postings.iter().map(|(posting, _)| Want::of(posting)).collect();
        wants.sort_unstable_by_key(|want| want.user);
        wants.dedup_by(|next, want| want.user == next.user && want.join(next));
        wants
    }

    fn of(posting: &Posting) -> Want {
        let latest = to_microsecond(posting.at);
        let (points, first_until) = match posting.kind {
            Kind::Consume { .. } => (posting.points.unwrap_or_default(), Some(DateTime::<Utc>::MAX_UTC)),
            // It draws nothing, so it asks only whether something is due.
            Kind::Recharge { .. } => (0, Some(latest)),
            _ => (0, None),
        };
        Want { user: posting.user, first_until, points, latest }
    }

    /// Takes another posting in. Always true.
    fn join(&mut self, other: &Want) -> bool {
        self.points = self.points.saturating_add(other.points);
        self.latest = self.latest.max(other.latest);
        self.first_until = self.first_until.zip(other.first_until).map(|(one, other)| one.max(other));
        true
    }

    /// Whether the account, loaded with its first batch, has all that its postings can touch. Batches that expire at one instant were
    /// loaded together.
    fn is_met(&self, account: &Account) -> bool {
        let batches = account.batches();
        let nothing_due = batches.iter().all(|batch| batch.expires_at > self.latest);
        let there = batches.iter().map(|batch| batch.remaining).fold(0, i64::saturating_add);
        self.first_until.is_none() || account.stored && (batches.is_empty() || nothing_due && self.points <= there)
    }
}

/// What some groups need beyond that: each a list of columns for a statement.
#[derive(Default)]
struct More {
    /// Users all of whose open batches are needed.
    open: Vec<Uuid>,
    /// Users with batches that expired, and the earliest of their late consumes.
    late: (Vec<Uuid>, Vec<DateTime<Utc>>),
    /// User and number of batches that a refunded consume drew from, or that a voided recharge opened.
    batches: (Vec<Uuid>, Vec<i32>),
    /// User and number of entries that are refunded or voided.
    entries: (Vec<Uuid>, Vec<i64>),
    hold_keys: Vec<Uuid>,
    /// Users that ask for a hold on an account with open holds, and the earliest instant that they ask for.
    holders: (Vec<Uuid>, Vec<DateTime<Utc>>),
}

impl More {
    /// `accounts` are sorted by user.
    fn needed_by(
        postings: &[(&Posting, Option<Uuid>)],
        wants: &[Want],
        accounts: &[Account],
        known: &KnownKeys,
    ) -> More {
        let (mut late, mut holders) = (BTreeMap::new(), BTreeMap::new());
        let earliest = |times: &mut BTreeMap<Uuid, DateTime<Utc>>, posting: &Posting| {
            let at = to_microsecond(posting.at);
            times.entry(posting.user).and_modify(|time| *time = at.min(*time)).or_insert(at);
        };
        let unmet = wants.iter().zip(accounts).filter(|(want, account)| !want.is_met(account));
        let mut more = More { open: unmet.map(|(want, _)| want.user).collect(), ..More::default() };
        for (posting, key) in postings {
            let Ok(index) = accounts.binary_search_by_key(&posting.user, |account| account.user) else { continue };
            let Some(account) = accounts.get(index) else { continue };
            match &posting.kind {
                Kind::Consume { .. } => {
                    let has_holds = account.open_holds > 0;
                    if has_holds {
                        more.hold_keys.extend(key);
                    }
                    // The consume is dated back to the hold that it captures.
                    if account.expired_until.is_some_and(|until| has_holds || until > posting.at) {
                        earliest(&mut late, posting);
                    }
                }
                Kind::Hold { .. } => {
                    more.hold_keys.extend(key);
                    if account.open_holds > 0 {
                        earliest(&mut holders, posting);
                    }
                    // A consume of the same group may capture it.
                    if account.expired_until.is_some_and(|until| until > posting.at) {
                        earliest(&mut late, posting);
                    }
                }
                Kind::Release { .. } => more.hold_keys.extend(key),
                // A hold may have the key.
                _ if account.open_holds > 0 => more.hold_keys.extend(key),
                _ => {}
            }
            match &posting.kind {
                Kind::Refund { .. } | Kind::Void { .. } => {
                    let entry = posting.reference_id().and_then(|reference| known.get(&reference));
                    if let Some(entry) = entry.filter(|entry| !entry.is_of_another_service()) {
                        more.entries.0.push(entry.user);
                        more.entries.1.push(entry.seq);
                        let drawn = entry.allocations.iter().map(|part| part.batch);
                        for batch in drawn.chain(entry.batch) {
                            more.batches.0.push(entry.user);
                            more.batches.1.push(batch);
                        }
                    }
                }
                _ => {}
            }
        }
        (more.late, more.holders) = (late.into_iter().unzip(), holders.into_iter().unzip());
        more
    }

    fn is_empty(&self) -> bool {
        self.open.is_empty() && self.late.0.is_empty() && self.entries.0.is_empty() && self.hold_keys.is_empty()
    }
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

/// The rows of account_lock that hold an account: without any, one row tells the time alone.
pub(super) fn locked_accounts(rows: &[Row]) -> impl Iterator<Item = &Row> {
    rows.iter().filter(|row| row.try_get::<_, Option<Uuid>>("user_id").is_ok_and(|user| user.is_some()))
}

fn load_batches(rows: &[Row], accounts: &mut [Account]) -> Result<(), Error> {
    let mut batches: HashMap<Uuid, Vec<Batch>> = HashMap::with_capacity(accounts.len());
    for row in rows {
        batches.entry(row.try_get("user_id")?).or_default().push(batch_from(row)?);
    }
    for (user, batches) in batches {
        if let Some(account) = find(accounts, user) {
            account.load_batches(batches);
        }
    }
    Ok(())
}

fn find(accounts: &mut [Account], user: Uuid) -> Option<&mut Account> {
    let index = accounts.binary_search_by_key(&user, |account| account.user).ok()?;
    accounts.get_mut(index)
}
