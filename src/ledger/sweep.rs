//! The sweep: expires every open batch that is due, across all accounts, in short transactions over groups of
//! accounts. It can be killed at any point and run again; a batch is open or it is not, so none expires twice.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Deref;
use std::sync::{Mutex as StdMutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::also_write::{AlsoWrite, Part, PrepareWrite, Progress};
use super::bucket::Buckets;
use super::load::locked_accounts;
use super::rules::DRAWING_RULE;
use super::session::{Error, Session, Transaction};
use crate::database::{Cursor, Database, Node, Nodes, pipelined};
use crate::errors;
use crate::numbers::count;
use crate::time::to_microsecond;

/// Due batches in one transaction, as far as whole accounts go. A posting to one of these accounts waits for the transaction to end, so
/// it is small.
const GROUP_BATCHES: i64 = 1_000;

/// Attempts at a group whose batches are changed by hand meanwhile.
const MOST_ATTEMPTS: u32 = 3;

/// Accounts that are listed at a time.
const LISTED_AT_ONCE: usize = 2_000;

/// The most orphans that an outcome lists one by one; all are counted.
const MOST_ORPHANS: usize = 100;

/// What a sweep did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// Batches expired.
    pub batches: u64,
    /// Accounts that they belonged to.
    pub accounts: u64,
    /// Points that were left in them; at most as many as 64 bits can count.
    pub points: i64,
    /// The same by source of the batch.
    pub by_source: BTreeMap<String, Expired>,
    /// Users with due batches but without an account: their batches cannot expire and were left as they are.
    pub orphaned: u64,
    /// The first hundred of them.
    pub orphans: Vec<Orphan>,
    /// Accounts whose batches the database refused to expire, as after a change by hand or for a trigger that raises an error, or whose
    /// batches changed during each attempt. They were left as they are; the log names them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed: u64,
    /// Whether the sweep was asked to stop before it had seen every account; what it did is counted here.
    pub stopped: bool,
}

/// Batches and points that expired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expired {
    /// How many batches.
    pub batches: u64,
    /// How many points were left in them.
    pub points: i64,
}

/// Due batches without an account. Only a change by hand leaves them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    /// The user without an account.
    pub user: Uuid,
    /// Due batches.
    pub batches: u64,
    /// Points in them.
    pub points: i64,
}

impl<C: Deref<Target = Client>> Session<C> {
    /// Expires every open batch with `expires_at <= at`.
    ///
    /// `proceed` is asked before each group and told how far the sweep came; when it says no, the sweep ends there. With
    /// `dry_run` every group is rolled back, and the outcome says what would have been done.
    ///
    /// # Errors
    /// Where the database fails. What was committed by then stays, and a further sweep does the rest.
    pub async fn sweep(
        &mut self,
        at: DateTime<Utc>,
        dry_run: bool,
        proceed: impl FnMut(Progress) -> bool,
    ) -> Result<Sweep, Error> {
        let expiry = Expiry { at: to_microsecond(at), run: None };
        let end_of_group = if dry_run { "ROLLBACK" } else { "COMMIT" };
        let sweeping = Sweeping::begin(&*self, &expiry, end_of_group, &BTreeMap::new(), proceed).await?;
        while let Some(group) = sweeping.next_group().await? {
            sweeping.sweep_group(self, &(), &group).await?;
        }
        sweeping.end().await
    }

    /// Locks accounts and expires what is due in them, in the transaction that is open. None if a batch was changed meanwhile, by a hand
    /// that locked no account: then the entries and the batches tell different things, and the caller rolls back.
    async fn expire_due(&self, Group { bucket, users }: &Group, expiry: &Expiry) -> Result<Option<Expiring>, Error> {
        let (client, statements) = (self.client(), self.statements());
        let buckets = self.buckets();
        let number = buckets.count();
        let of_users: [&(dyn ToSql + Sync); 3] = [users, bucket, &number];
        let of_due: [&(dyn ToSql + Sync); 5] = [users, &expiry.at, &DRAWING_RULE, &expiry.run, bucket];
        let (locked, written, rows) = if buckets.need_two_statements() {
            let of_accounts: [&(dyn ToSql + Sync); 3] = [users, &expiry.at, bucket];
            let ((), locked, written, rows) = pipelined!(
                buckets.keep(client, &statements.bucket_keep, *bucket),
                client.query(&statements.account_lock, &of_users),
                client.execute(&statements.entry_expire, &of_due),
                client.query(&statements.account_expire, &of_accounts),
            )?;
            (locked, Some(written), rows)
        } else {
            let (locked, rows) = pipelined!(
                client.query(&statements.account_lock, &of_users),
                client.query(&statements.due_expire, &of_due),
            )?;
            (locked, None, rows)
        };
        if locked.is_empty() {
            return Err(Error::Redistributed);
        }
        let read = rows.iter().map(|row| row.try_get::<_, i64>("batches")).sum::<Result<i64, _>>()?;
        let closed = rows.first().map_or(Ok(0), |row| row.try_get("closed"))?;
        if closed != read || written.is_some_and(|written| written != count(read)) {
            return Ok(None);
        }
        let locked = locked_accounts(&locked).map(|row| row.try_get("user_id")).collect::<Result<_, _>>()?;
        Ok(Some(Expiring { locked, rows }))
    }

    /// Batches and points by source that the entries of a run say it expired.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn swept_by(&self, run: i64) -> Result<BTreeMap<String, Expired>, Error> {
        let sql = include_str!("../../sql/ledger/entry_of_run.sql");
        let rows = self.client().query_typed(sql, &[(&run, Type::INT8)]).await?;
        let source =
            |row: &Row| Ok((row.try_get(0)?, Expired { batches: count(row.try_get(1)?), points: row.try_get(2)? }));
        rows.iter().map(source).collect()
    }

    /// Logs users of a group without an account; returns their number.
    async fn report_orphans(
        &self,
        Group { bucket, users }: &Group,
        locked: &[Uuid],
        at: DateTime<Utc>,
        overall: &StdMutex<Overall<impl Sized>>,
    ) -> Result<u64, Error> {
        if locked.len() == users.len() {
            return Ok(0);
        }
        let missing: Vec<Uuid> = users.iter().copied().filter(|user| locked.binary_search(user).is_err()).collect();
        let rows = self.client().query(&self.statements().batch_orphan, &[&missing, &at, bucket]).await?;
        for row in &rows {
            let batches = count(row.try_get(1)?);
            let orphan = Orphan { user: row.try_get(0)?, batches, points: row.try_get(2)? };
            let orphans = &mut unpoisoned(overall).orphans;
            if orphans.len() < MOST_ORPHANS {
                tracing::error!(user = %orphan.user, batches, points = orphan.points,
                    "batches are due, but their account is missing: they were left as they are");
                orphans.push(orphan);
            }
        }
        Ok(rows.len() as u64)
    }
}

/// Expires every open batch with `expires_at <= at` for the run with this number, which its entries carry.
///
/// So many lanes expire groups of accounts beside each other. Each has a session with every node that holds buckets, and sweeps a group
/// on the node that holds its bucket. What `also` prepares on a session is written along in the transactions there. `before` is what
/// the run counted in each bucket in earlier attempts.
///
/// The lanes of a single server do not wait for its disk. A crash may take their last groups back, and then what was written along with
/// them, too: these are due again. The commit that ends the run waits for the disk, and so for all of them.
///
/// # Errors
/// As [`Session::sweep`], and where what is written along fails.
pub async fn sweep_for(
    database: &Database,
    lanes: usize,
    (run, at): (i64, DateTime<Utc>),
    also: &impl PrepareWrite<Part<Sweep>>,
    before: &BTreeMap<i16, Sweep>,
    proceed: impl FnMut(Progress) -> bool,
) -> Result<Sweep, Error> {
    let list = Session::connect(database).await?;
    let expiry = Expiry { at: to_microsecond(at), run: Some(run) };
    let sweeping = Sweeping::begin(&list, &expiry, "COMMIT", before, proceed).await?;
    let nodes = Nodes::behind(database);
    let lane = || Lane { database, nodes: &nodes, also, sessions: BTreeMap::new() };
    try_join_all((0..lanes.max(1)).map(|_| lane().run(&sweeping))).await?;
    sweeping.end().await
}

/// A lane of a sweep, with the sessions that it has opened.
struct Lane<'a, P: PrepareWrite<Part<Sweep>>> {
    database: &'a Database,
    nodes: &'a Nodes,
    also: &'a P,
    /// With each node; none stands for the database itself.
    sessions: BTreeMap<Option<Node>, (Session, P::Prepared)>,
}

impl<P: PrepareWrite<Part<Sweep>>> Lane<'_, P> {
    async fn run(mut self, sweeping: &Sweeping<'_, impl FnMut(Progress) -> bool>) -> Result<(), Error> {
        while let Some(group) = sweeping.next_group().await? {
            let mut node = match sweeping.buckets.are_spread() {
                true => self.nodes.places().await.get(&group.bucket).cloned(),
                false => None,
            };
            loop {
                let (session, also) = self.session(&mut node).await?;
                let swept = sweeping.sweep_group(session, also, &group).await;
                if let Err(error) = &swept
                    && error.is_serialization_failure()
                    && let Some(left) = node.take()
                {
                    // The bucket has moved. The coordinator knows where it lies now.
                    self.sessions.remove(&Some(left.clone()));
                    self.nodes.lost(&left);
                    continue;
                }
                break swept?;
            }
        }
        Ok(())
    }

    /// The session with a node; with the database itself where the node cannot be reached from here.
    async fn session(&mut self, node: &mut Option<Node>) -> Result<&(Session, P::Prepared), Error> {
        let mut database = self.database.clone();
        if !self.sessions.contains_key(node)
            && let Some(there) = node.clone()
        {
            match self.nodes.database(&there).await {
                Some(there) => database = there,
                None => *node = None,
            }
        }
        Ok(match self.sessions.entry(node.clone()) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(vacant) => {
                let session = Session::connect(&database).await?;
                if !session.buckets().are_spread() {
                    session.client().batch_execute("SET synchronous_commit = off").await?;
                }
                let prepared = self.also.prepare(session.client()).await?;
                vacant.insert((session, prepared))
            }
        })
    }
}

/// A sweep that is under way, as its lanes share it.
struct Sweeping<'a, P> {
    due: Due<'a>,
    buckets: Buckets,
    expiry: &'a Expiry,
    end_of_group: &'a str,
    /// What was counted in each bucket. A lane holds it to the end of a transaction, so that the counters of another lane are written before
    /// it or after it.
    parts: BTreeMap<i16, Mutex<Sweep>>,
    /// Accounts of groups that did not expire. Each is swept alone: one damaged account must not keep the others from expiring.
    alone: StdMutex<VecDeque<Group>>,
    overall: StdMutex<Overall<P>>,
}

struct Overall<P> {
    progress: Progress,
    orphans: Vec<Orphan>,
    stopped: bool,
    proceed: P,
}

impl<'a, P: FnMut(Progress) -> bool> Sweeping<'a, P> {
    /// Lists what is due.
    async fn begin<C: Deref<Target = Client>>(
        list: &'a Session<C>,
        expiry: &'a Expiry,
        end_of_group: &'a str,
        before: &BTreeMap<i16, Sweep>,
        proceed: P,
    ) -> Result<Self, Error> {
        let buckets = list.buckets();
        let due = Due::list(list.client(), buckets, expiry.at).await?;
        let progress = Progress { done: 0, total: due.total };
        let part = |bucket| {
            let before = before.get(&bucket).cloned().unwrap_or_default();
            // Orphans and damaged accounts are not expired, so each sweep finds them again and counts them anew.
            (bucket, Mutex::new(Sweep { orphaned: 0, failed: 0, ..before }))
        };
        let parts = buckets.all().map(part).collect();
        let overall = StdMutex::new(Overall { progress, orphans: Vec::new(), stopped: false, proceed });
        Ok(Sweeping { due, buckets, expiry, end_of_group, parts, alone: StdMutex::default(), overall })
    }

    /// The next accounts that are swept together; none at the end, or where the sweep was told to stop.
    async fn next_group(&self) -> Result<Option<Group>, Error> {
        let alone = unpoisoned(&self.alone).pop_front();
        let group = match alone {
            Some(alone) => alone,
            None => match self.due.next_group().await? {
                Some(group) => group,
                None => return Ok(None),
            },
        };
        let Overall { progress, stopped, proceed, .. } = &mut *unpoisoned(&self.overall);
        *stopped = *stopped || !proceed(*progress);
        Ok((!*stopped).then_some(group))
    }

    /// What was counted in all.
    async fn end(self) -> Result<Sweep, Error> {
        self.due.close().await?;
        let Overall { progress, orphans, stopped, mut proceed } =
            self.overall.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut sweep = Sweep { orphans, stopped, ..Sweep::default() };
        for (_, part) in self.parts {
            sweep.add_part(&part.into_inner());
        }
        if sweep.points == i64::MAX {
            tracing::warn!("more points expired than 64 bits can count: the sum is cut off there");
        }
        proceed(progress);
        Ok(sweep)
    }

    /// Sweeps the accounts of a group in a transaction. If the database refuses them, or a hand changes their batches in each attempt, they
    /// come alone as the next groups.
    async fn sweep_group<C: Deref<Target = Client>>(
        &self,
        session: &Session<C>,
        also: &impl AlsoWrite<Part<Sweep>>,
        group: &Group,
    ) -> Result<(), Error> {
        let client = session.client();
        let bucket = group.bucket;
        let Some(part) = self.parts.get(&bucket) else { return Err(Error::Redistributed) };
        let mut attempt = 1;
        let (transaction, expired) = loop {
            let transaction = Transaction::begin(client);
            match or_refused(session.expire_due(group, self.expiry).await)? {
                Ok(Some(expired)) => break (transaction, Ok(expired)),
                Ok(None) if attempt == MOST_ATTEMPTS => {
                    break (transaction, Err("batches were changed by hand in each attempt".to_owned()));
                }
                Ok(None) => transaction.rollback().await?,
                Err(refused) => break (transaction, Err(errors::chain(&refused))),
            }
            attempt += 1;
        };
        match expired {
            Ok(expired) => {
                let mut part = part.lock().await;
                let mut counters = part.clone();
                counters.add(&expired.rows)?;
                let mut progress = unpoisoned(&self.overall).progress;
                progress.done += group.users.len() as u64;
                let so_far = Part { bucket, progress, counters };
                pipelined!(also.write(client, &so_far), client.batch_execute(self.end_of_group))?;
                transaction.ended();
                *part = so_far.counters;
                unpoisoned(&self.overall).progress.done += group.users.len() as u64;
                part.orphaned += session.report_orphans(group, &expired.locked, self.expiry.at, &self.overall).await?;
            }
            Err(why) => {
                transaction.rollback().await?;
                if let [user] = group.users[..] {
                    part.lock().await.failed += 1;
                    unpoisoned(&self.overall).progress.done += 1;
                    tracing::error!(%user, why, "the due batches of an account cannot expire, and were left as they are");
                } else {
                    let alone = group.users.iter().map(|user| Group { bucket, users: vec![*user] });
                    unpoisoned(&self.alone).extend(alone);
                }
            }
        }
        Ok(())
    }
}

/// No code under this lock panics, but what a caller is asked.
fn unpoisoned<T>(mutex: &StdMutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Accounts of a bucket that are swept together.
struct Group {
    bucket: i16,
    users: Vec<Uuid>,
}

/// The accounts with something to expire, as lists on the server: one for each bucket.
struct Due<'a> {
    client: &'a Client,
    /// How many they are.
    total: u64,
    /// The lists that are not read to their end. Groups are taken from them in turn, so that lanes sweep different buckets.
    lists: Mutex<VecDeque<Listed>>,
}

/// The accounts of a bucket.
struct Listed {
    bucket: i16,
    cursor: Cursor,
    /// Those that were fetched and not swept, each with the number of its due batches.
    fetched: VecDeque<(Uuid, i64)>,
}

impl Due<'_> {
    async fn list(client: &Client, buckets: Buckets, at: DateTime<Utc>) -> Result<Due<'_>, Error> {
        let declare = include_str!("../../sql/ledger/due_declare.sql");
        Cursor::close_all(client).await?;
        let (mut lists, mut total) = (VecDeque::new(), 0);
        for bucket in buckets.all() {
            let name = format!("due_{bucket}");
            let declare = declare.replace("due_in_bucket", &name);
            let cursor = Cursor::declare(client, name, &declare, &[&at, &bucket], LISTED_AT_ONCE).await?;
            total += cursor.count(client).await?;
            lists.push_back(Listed { bucket, cursor, fetched: VecDeque::new() });
        }
        Ok(Due { client, total, lists: Mutex::new(lists) })
    }

    /// The next accounts that are swept together; none at the end.
    async fn next_group(&self) -> Result<Option<Group>, Error> {
        let mut lists = self.lists.lock().await;
        while let Some(mut listed) = lists.pop_front() {
            let Listed { bucket, cursor, fetched } = &mut listed;
            if fetched.is_empty() {
                for row in cursor.fetch(self.client).await?.into_iter().flatten() {
                    fetched.push_back((row.try_get(0)?, row.try_get(1)?));
                }
            }
            let (mut users, mut batches) = (Vec::new(), 0);
            while batches < GROUP_BATCHES
                && let Some((user, due)) = fetched.pop_front()
            {
                users.push(user);
                batches += due;
            }
            if !users.is_empty() {
                let group = Group { bucket: *bucket, users };
                lists.push_back(listed);
                return Ok(Some(group));
            }
        }
        Ok(None)
    }

    /// Closes the lists.
    async fn close(self) -> Result<(), Error> {
        Ok(Cursor::close_all(self.client).await?)
    }
}

/// What an expiry says, beside the accounts.
struct Expiry {
    at: DateTime<Utc>,
    run: Option<i64>,
}

/// Accounts that are locked, and what expired of them by source.
struct Expiring {
    locked: Vec<Uuid>,
    rows: Vec<Row>,
}

/// Sets apart what one account's rows can be at fault for: a number out of range, a broken constraint, an error that a trigger raises,
/// damaged pages. Where a cluster lost a node instead of refusing a new row, the lock of an account alone fails next, and that counts.
fn or_refused<T>(result: Result<T, Error>) -> Result<Result<T, Error>, Error> {
    match result {
        Err(error) if error.unfit_row().is_some() || error.is_of_copied_row() => Ok(Err(error)),
        result => result.map(Ok),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Sweep {
    fn add(&mut self, rows: &[Row]) -> Result<(), Error> {
        let mut accounts = 0;
        for row in rows {
            let (batches, points) = (count(row.try_get(1)?), row.try_get::<_, i64>(2)?);
            let source = self.by_source.entry(row.try_get(0)?).or_default();
            source.batches += batches;
            // A sum beyond 64 bits is cut there, as the sums of the statements are: what is due expires all the same.
            self.points = self.points.saturating_add(points);
            source.points = source.points.saturating_add(points);
            self.batches += batches;
            accounts = count(row.try_get(3)?);
        }
        self.accounts += accounts;
        Ok(())
    }

    /// Adds what was counted in a bucket.
    fn add_part(&mut self, part: &Sweep) {
        self.batches += part.batches;
        self.accounts += part.accounts;
        self.points = self.points.saturating_add(part.points);
        self.orphaned += part.orphaned;
        self.failed += part.failed;
        for (source, expired) in &part.by_source {
            let of = self.by_source.entry(source.clone()).or_default();
            of.batches += expired.batches;
            of.points = of.points.saturating_add(expired.points);
        }
    }
}
