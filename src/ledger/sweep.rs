//! The sweep: expires every open batch that is due, across all accounts, in short transactions over groups of
//! accounts. It can be killed at any point and run again; a batch is open or it is not, so none expires twice.

use std::collections::BTreeMap;
use std::ops::Deref;

use chrono::{DateTime, Utc};
use futures_util::future::join;
use serde::{Deserialize, Serialize};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::also_write::{AlsoWrite, Progress, SoFar};
use super::rules::{DRAWING_RULE, Rules};
use super::session::{Error, Session, Transaction, locked_accounts};
use crate::database::{Cursor, pipelined};
use crate::numbers::count;
use crate::time::to_microsecond;

/// Accounts in one transaction. A posting to one of them waits for the group to end, so it is small: with five batches
/// each, 50 accounts swept 36k batches/s and 200 swept 39k, more gained nothing; the 99th percentile of single consumes
/// beside the sweep rose to 1.7 times its value with 50 and to 2.7 times with 200.
const GROUP_ACCOUNTS: usize = 100;

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
    /// `proceed` is asked after each group and told how far the sweep came; when it says no, the sweep ends there. With
    /// `dry_run` every group is rolled back, and the outcome says what would have been done.
    ///
    /// # Errors
    /// Where the database fails. What was committed by then stays, and a further sweep does the rest.
    pub async fn sweep(
        &mut self,
        at: DateTime<Utc>,
        dry_run: bool,
        rules: &Rules,
        proceed: impl FnMut(Progress) -> bool,
    ) -> Result<Sweep, Error> {
        self.sweep_groups(at, dry_run, None::<(i64, &())>, Sweep::default(), rules, proceed).await
    }

    /// The same for the run with this number, which its entries carry. It goes on counting from what the run had done
    /// before, and `also` writes along in the transaction of each group.
    ///
    /// # Errors
    /// As [`Session::sweep`], and where `also` fails.
    pub async fn sweep_for(
        &mut self,
        run: i64,
        also: &impl AlsoWrite<SoFar<Sweep>>,
        at: DateTime<Utc>,
        counters: Sweep,
        rules: &Rules,
        proceed: impl FnMut(Progress) -> bool,
    ) -> Result<Sweep, Error> {
        self.sweep_groups(at, false, Some((run, also)), counters, rules, proceed).await
    }

    async fn sweep_groups(
        &mut self,
        at: DateTime<Utc>,
        dry_run: bool,
        run: Option<(i64, &impl AlsoWrite<SoFar<Sweep>>)>,
        counters: Sweep,
        rules: &Rules,
        mut proceed: impl FnMut(Progress) -> bool,
    ) -> Result<Sweep, Error> {
        let at = to_microsecond(at);
        let declare = include_str!("../../sql/ledger/due_declare.sql");
        let due = Cursor::open(self.client(), "due", declare, &[&at], GROUP_ACCOUNTS).await?;
        let progress = Progress { done: 0, total: due.count(self.client()).await? };
        let end_of_group = if dry_run { "ROLLBACK" } else { "COMMIT" };
        let (before, after) = rules.expiry_sentence();
        let expiry = Expiry { at, before, after, run: run.map(|(number, _)| number) };
        // Orphans are not expired, so each sweep finds them again and counts them anew.
        let counters = Sweep { orphaned: 0, orphans: Vec::new(), failed: 0, stopped: false, ..counters };
        let mut so_far = SoFar { progress, counters };
        let mut users = users_from(due.fetch(self.client()).await?.as_deref())?;
        while !users.is_empty() {
            if !proceed(so_far.progress) {
                so_far.counters.stopped = true;
                break;
            }
            users = self.sweep_group(&due, users, &expiry, end_of_group, run, &mut so_far).await?;
        }
        due.close(self.client()).await?;
        if so_far.counters.points == i64::MAX {
            tracing::warn!("more points expired than 64 bits can count: the sum is cut off there");
        }
        proceed(so_far.progress);
        Ok(so_far.counters)
    }

    /// Sweeps these accounts in a transaction, which `end` ends. Returns the accounts of the next group.
    async fn sweep_group(
        &self,
        due: &Cursor,
        users: Vec<Uuid>,
        expiry: &Expiry<'_>,
        end: &str,
        run: Option<(i64, &impl AlsoWrite<SoFar<Sweep>>)>,
        so_far: &mut SoFar<Sweep>,
    ) -> Result<Vec<Uuid>, Error> {
        so_far.progress.done += users.len() as u64;
        let client = self.client();
        let transaction = Transaction::begin(client);
        let finish = async { pipelined!(client.batch_execute(end), due.fetch(client)) };
        let (expired, next) = match run {
            // One round trip: the group's transaction, and the accounts of the next group behind it.
            None => {
                let (expired, ended) = join(self.expire_due(&users, expiry), finish).await;
                (or_refused(expired)?, ended?.1)
            }
            // Two, because the counters must be known before they are written.
            Some((_, also)) => match or_refused(self.expire_due(&users, expiry).await)? {
                Ok(expired) => {
                    so_far.counters.add(&expired.rows)?;
                    let ((), ((), next)) = pipelined!(also.write(client, so_far), finish)?;
                    (Ok(expired), next)
                }
                Err(refused) => {
                    let ((), next) = pipelined!(client.batch_execute("ROLLBACK"), due.fetch(client))?;
                    (Err(refused), next)
                }
            },
        };
        transaction.ended();
        match expired {
            Ok(expired) => {
                if run.is_none() {
                    so_far.counters.add(&expired.rows)?;
                }
                self.report_orphans(&users, &expired.locked, expiry.at, &mut so_far.counters).await?;
            }
            // One damaged account must not keep the others from expiring.
            Err(_) => {
                for user in users {
                    self.sweep_alone(user, expiry, end, run, so_far).await?;
                }
            }
        }
        users_from(next.as_deref())
    }

    /// Locks accounts and expires what is due in them, in the transaction that is open.
    async fn expire_due(&self, users: &[Uuid], expiry: &Expiry<'_>) -> Result<Expiring, tokio_postgres::Error> {
        let (client, statements) = (self.client(), self.statements());
        let of_users: [&(dyn ToSql + Sync); 1] = [&users];
        let of_group: [&(dyn ToSql + Sync); 6] =
            [&users, &expiry.at, &expiry.before, &expiry.after, &DRAWING_RULE, &expiry.run];
        let (locked, rows) = pipelined!(
            client.query(&statements.account_lock, &of_users),
            client.query(&statements.account_expire, &of_group),
        )?;
        let locked = locked_accounts(&locked).map(|row| row.try_get("user_id")).collect::<Result<_, _>>()?;
        Ok(Expiring { locked, rows })
    }

    /// Sweeps one account of a group that the database refused. If it refuses this one too, its batches are left as they are.
    async fn sweep_alone(
        &self,
        user: Uuid,
        expiry: &Expiry<'_>,
        end: &str,
        run: Option<(i64, &impl AlsoWrite<SoFar<Sweep>>)>,
        so_far: &mut SoFar<Sweep>,
    ) -> Result<(), Error> {
        let transaction = Transaction::begin(self.client());
        match or_refused(self.expire_due(&[user], expiry).await)? {
            Ok(expired) => {
                so_far.counters.add(&expired.rows)?;
                match run {
                    None => self.client().batch_execute(end).await?,
                    Some((_, also)) => {
                        pipelined!(also.write(self.client(), so_far), self.client().batch_execute(end))?;
                    }
                }
                transaction.ended();
                self.report_orphans(&[user], &expired.locked, expiry.at, &mut so_far.counters).await
            }
            Err(refused) => {
                transaction.rollback().await?;
                so_far.counters.failed += 1;
                let why = refused.as_db_error().map(|error| error.message().to_owned()).unwrap_or_default();
                tracing::error!(%user, why, "the due batches of an account cannot expire, and were left as they are");
                Ok(())
            }
        }
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
        users: &[Uuid],
        locked: &[Uuid],
        at: DateTime<Utc>,
        sweep: &mut Sweep,
    ) -> Result<(), Error> {
        if locked.len() == users.len() {
            return Ok(());
        }
        let missing: Vec<Uuid> = users.iter().copied().filter(|user| locked.binary_search(user).is_err()).collect();
        for row in self.client().query(&self.statements().batch_orphan, &[&missing, &at]).await? {
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

/// What an expiry says, beside the accounts.
struct Expiry<'a> {
    at: DateTime<Utc>,
    /// Before and after the source in the entries' description.
    before: &'a str,
    after: &'a str,
    run: Option<i64>,
}

/// Accounts that are locked, and what expired of them by source.
struct Expiring {
    locked: Vec<Uuid>,
    rows: Vec<Row>,
}

/// Sets apart that the database refused the data: a number out of range, or a constraint that a row breaks. Such a row was changed by
/// hand.
fn or_refused<T>(
    result: Result<T, tokio_postgres::Error>,
) -> Result<Result<T, tokio_postgres::Error>, tokio_postgres::Error> {
    match result {
        Err(error)
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

fn users_from(rows: Option<&[Row]>) -> Result<Vec<Uuid>, Error> {
    Ok(rows.into_iter().flatten().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}
