//! The sweep: expires every open batch that is due, across all accounts, in short transactions over groups of
//! accounts. It can be killed at any point and run again; a batch is open or it is not, so none expires twice.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Deref;

use chrono::{DateTime, Utc};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::also_write::{AlsoWrite, Progress, SoFar};
use super::bucket::Buckets;
use super::load::locked_accounts;
use super::rules::DRAWING_RULE;
use super::session::{Error, Session, Transaction};
use crate::database::{Cursor, pipelined};
use crate::numbers::count;
use crate::time::to_microsecond;

/// Due batches in one transaction, as far as whole accounts go. A posting to one of these accounts waits for the transaction to end, so
/// it is small.
const GROUP_BATCHES: i64 = 500;

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
    /// Accounts with rows that were changed by hand, so that the database refused to expire their batches. They were left as they
    /// are; the log names them.
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
        let end_of_group = if dry_run { "ROLLBACK" } else { "COMMIT" };
        let expiry = Expiry { at: to_microsecond(at), run: None };
        sweep_groups(self, &[(&*self, &())], &expiry, end_of_group, Sweep::default(), proceed).await
    }

    /// The same for the run with this number, which its entries carry. This session lists the accounts. Each lane expires groups of
    /// them beside the others, and what it has writes along in its transactions. The counters go on from what the run had done before.
    ///
    /// The lanes do not wait for the disk. A crash of the server may take their last groups back, and then what was written along with
    /// them, too: these are due again. The commit that ends the run waits for the disk, and so for all of them.
    ///
    /// # Errors
    /// As [`Session::sweep`], and where a lane's [`AlsoWrite`] fails.
    pub async fn sweep_for(
        &mut self,
        run: i64,
        lanes: &[(Session<C>, impl AlsoWrite<SoFar<Sweep>>)],
        at: DateTime<Utc>,
        counters: Sweep,
        proceed: impl FnMut(Progress) -> bool,
    ) -> Result<Sweep, Error> {
        let lanes: Vec<_> = lanes.iter().map(|(session, also)| (session, also)).collect();
        for (session, _) in &lanes {
            session.client().batch_execute("SET synchronous_commit = off").await?;
        }
        let expiry = Expiry { at: to_microsecond(at), run: Some(run) };
        sweep_groups(self, &lanes, &expiry, "COMMIT", counters, proceed).await
    }

    /// Locks accounts and expires what is due in them, in the transaction that is open.
    async fn expire_due(&self, Group { bucket, users }: &Group, expiry: &Expiry) -> Result<Expiring, Error> {
        let (client, statements) = (self.client(), self.statements());
        let buckets = self.buckets();
        let count = buckets.count();
        let of_users: [&(dyn ToSql + Sync); 3] = [users, bucket, &count];
        let of_group: [&(dyn ToSql + Sync); 5] = [users, &expiry.at, &DRAWING_RULE, &expiry.run, bucket];
        let ((), locked, rows) = pipelined!(
            buckets.keep(client, &statements.bucket_keep, *bucket),
            client.query(&statements.account_lock, &of_users),
            client.query(&statements.account_expire, &of_group),
        )?;
        if locked.is_empty() {
            return Err(Error::Redistributed);
        }
        let locked = locked_accounts(&locked).map(|row| row.try_get("user_id")).collect::<Result<_, _>>()?;
        Ok(Expiring { locked, rows })
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

    async fn report_orphans(
        &self,
        Group { bucket, users }: &Group,
        locked: &[Uuid],
        at: DateTime<Utc>,
        sweep: &mut Sweep,
    ) -> Result<(), Error> {
        if locked.len() == users.len() {
            return Ok(());
        }
        let missing: Vec<Uuid> = users.iter().copied().filter(|user| locked.binary_search(user).is_err()).collect();
        for row in self.client().query(&self.statements().batch_orphan, &[&missing, &at, bucket]).await? {
            let batches = count(row.try_get(1)?);
            let orphan = Orphan { user: row.try_get(0)?, batches, points: row.try_get(2)? };
            sweep.orphaned += 1;
            if sweep.orphans.len() < MOST_ORPHANS {
                tracing::error!(user = %orphan.user, batches, points = orphan.points,
                    "batches are due, but their account is missing: they were left as they are");
                sweep.orphans.push(orphan);
            }
        }
        Ok(())
    }
}

/// Sweeps in lanes, over the accounts that `list` lists.
async fn sweep_groups<C: Deref<Target = Client>>(
    list: &Session<C>,
    lanes: &[(&Session<C>, &impl AlsoWrite<SoFar<Sweep>>)],
    expiry: &Expiry,
    end_of_group: &str,
    counters: Sweep,
    proceed: impl FnMut(Progress) -> bool,
) -> Result<Sweep, Error> {
    let due = Due::list(list.client(), list.buckets(), expiry.at).await?;
    let progress = Progress { done: 0, total: due.total };
    // Orphans are not expired, so each sweep finds them again and counts them anew.
    let counters = Sweep { orphaned: 0, orphans: Vec::new(), failed: 0, stopped: false, ..counters };
    let state = Mutex::new(State { so_far: SoFar { progress, counters }, proceed });
    let sweeping = Sweeping { due, expiry, end_of_group, state };
    try_join_all(lanes.iter().map(|(session, also)| sweeping.run_lane(session, *also))).await?;
    let Sweeping { due, state, .. } = sweeping;
    due.close().await?;
    let State { so_far: SoFar { progress, counters }, mut proceed } = state.into_inner();
    if counters.points == i64::MAX {
        tracing::warn!("more points expired than 64 bits can count: the sum is cut off there");
    }
    proceed(progress);
    Ok(counters)
}

/// A sweep that is under way, as its lanes share it.
struct Sweeping<'a, P> {
    due: Due<'a>,
    expiry: &'a Expiry,
    end_of_group: &'a str,
    state: Mutex<State<P>>,
}

struct State<P> {
    so_far: SoFar<Sweep>,
    proceed: P,
}

impl<P: FnMut(Progress) -> bool> State<P> {
    fn may_proceed(&mut self) -> bool {
        let counters = &mut self.so_far.counters;
        counters.stopped = counters.stopped || !(self.proceed)(self.so_far.progress);
        !counters.stopped
    }
}

impl<P: FnMut(Progress) -> bool> Sweeping<'_, P> {
    async fn run_lane<C: Deref<Target = Client>>(
        &self,
        session: &Session<C>,
        also: &impl AlsoWrite<SoFar<Sweep>>,
    ) -> Result<(), Error> {
        loop {
            let Some(group) = self.due.next_group().await? else { return Ok(()) };
            if !self.state.lock().await.may_proceed() {
                return Ok(());
            }
            self.sweep_group(session, also, group).await?;
        }
    }

    /// Sweeps the accounts of a group in a transaction. If the database refuses them, each is swept alone: one damaged account must not keep the
    /// others from expiring.
    async fn sweep_group<C: Deref<Target = Client>>(
        &self,
        session: &Session<C>,
        also: &impl AlsoWrite<SoFar<Sweep>>,
        group: Group,
    ) -> Result<(), Error> {
        let client = session.client();
        let transaction = Transaction::begin(client);
        match or_refused(session.expire_due(&group, self.expiry).await)? {
            Ok(expired) => {
                // To the end of the transaction, so that the counters of another lane are written before it or after it.
                let mut state = self.state.lock().await;
                let mut so_far = state.so_far.clone();
                so_far.progress.done += group.users.len() as u64;
                so_far.counters.add(&expired.rows)?;
                pipelined!(also.write(client, &so_far), client.batch_execute(self.end_of_group))?;
                transaction.ended();
                state.so_far = so_far;
                session.report_orphans(&group, &expired.locked, self.expiry.at, &mut state.so_far.counters).await
            }
            Err(refused) => {
                transaction.rollback().await?;
                if let [user] = group.users[..] {
                    let mut state = self.state.lock().await;
                    state.so_far.progress.done += 1;
                    state.so_far.counters.failed += 1;
                    let why = refused.as_db_error().map(|error| error.message().to_owned()).unwrap_or_default();
                    tracing::error!(%user, why, "the due batches of an account cannot expire, and were left as they are");
                    return Ok(());
                }
                for user in group.users {
                    let alone = Group { bucket: group.bucket, users: vec![user] };
                    Box::pin(self.sweep_group(session, also, alone)).await?;
                }
                Ok(())
            }
        }
    }
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
    listed: Mutex<Listed>,
}

struct Listed {
    /// The lists that are not read to their end, each with its bucket.
    cursors: VecDeque<(i16, Cursor)>,
    /// Accounts of the first one that were fetched, each with the number of its due batches.
    fetched: VecDeque<(Uuid, i64)>,
}

impl Due<'_> {
    async fn list(client: &Client, buckets: Buckets, at: DateTime<Utc>) -> Result<Due<'_>, Error> {
        let declare = include_str!("../../sql/ledger/due_declare.sql");
        Cursor::close_all(client).await?;
        let (mut cursors, mut total) = (VecDeque::new(), 0);
        for bucket in buckets.all() {
            let name = format!("due_{bucket}");
            let declare = declare.replace("due_in_bucket", &name);
            let cursor = Cursor::declare(client, name, &declare, &[&at, &bucket], LISTED_AT_ONCE).await?;
            total += cursor.count(client).await?;
            cursors.push_back((bucket, cursor));
        }
        Ok(Due { client, total, listed: Mutex::new(Listed { cursors, fetched: VecDeque::new() }) })
    }

    /// The next accounts that are swept together; none at the end.
    async fn next_group(&self) -> Result<Option<Group>, Error> {
        let mut listed = self.listed.lock().await;
        let Listed { cursors, fetched } = &mut *listed;
        while let Some((bucket, cursor)) = cursors.front() {
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
                return Ok(Some(Group { bucket: *bucket, users }));
            }
            cursors.pop_front();
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

/// Sets apart that the database refused the data: a number out of range, or a constraint that a row breaks. Such a row was changed by
/// hand.
fn or_refused<T>(result: Result<T, Error>) -> Result<Result<T, tokio_postgres::Error>, Error> {
    match result {
        Err(Error::Database(error))
            if error.code().is_some_and(|code| ["22", "23"].iter().any(|class| code.code().starts_with(class))) =>
        {
            Ok(Err(error))
        }
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
}
