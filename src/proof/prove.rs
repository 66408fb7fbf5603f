//! The way over all accounts, in groups: each is screened in one snapshot, and who may not be sound is examined. No row of
//! the ledger is locked, so no posting waits.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, IsolationLevel, Row};
use uuid::Uuid;

use super::checks::examine;
use super::findings::{count_findings, record_findings, resolve_findings};
use crate::database;

/// Accounts in a group of a range. Entries lie in the order of time, so a group meets nearly every page of them that there
/// is, and is read by a scan of them all: with 20,000,000 entries 2 of its 20 seconds, and in the first proof, in ten groups
/// instead of one, half of its time. More accounts would hold one snapshot longer.
const GROUP_ACCOUNTS: i64 = 1_000_000;

/// Accounts in a group where only those that changed are proved. They are found by index, one by one.
const GROUP_CHANGED: usize = 2_000;

/// Suspects examined in one snapshot: their whole histories are read by every check.
const GROUP_SUSPECTS: usize = 500;

/// A group of many accounts is read and summed up as a whole. Custom plans, because the range decides on the way. Without
/// plain index scans, which would go to a page of the entries for each of them. On one processor: postings want the others.
const WHOLE: &str = "SET plan_cache_mode = force_custom_plan; SET jit = off; SET max_parallel_workers_per_gather = 0; \
                     SET work_mem = '256MB'; SET enable_seqscan = on; SET enable_hashjoin = on; SET enable_sort = off; \
                     SET enable_indexscan = off";

/// The comparison pays for being compiled: 17 s of a processor instead of 22, with 20,000,000 entries. The screen's longer
/// expressions do not.
const COMPILED: &str = "SET jit = on";

/// Everything is reached by an index, account by account.
const ONE_BY_ONE: &str = "SET plan_cache_mode = force_custom_plan; SET jit = off; \
                          SET max_parallel_workers_per_gather = 0; SET enable_seqscan = off; SET enable_hashjoin = off; \
                          SET enable_mergejoin = off; SET enable_sort = on; SET enable_indexscan = on";

/// Why a proof did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database refused or did not answer. What was kept stays, and the proof goes on from there.
    #[error("the database did not let the ledger be proved")]
    Database(#[from] tokio_postgres::Error),
}

impl Error {
    /// Whether the same may well succeed a little later.
    pub fn is_transient(&self) -> bool {
        let Error::Database(error) = self;
        database::is_transient(error)
    }
}

/// What a proof did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Whether every account was proved from its first entry on.
    pub full: bool,
    /// Accounts looked at.
    pub accounts: u64,
    /// Batches looked at.
    pub batches: u64,
    /// Entries looked at.
    pub entries: u64,
    /// Users who may not have been sound by their sums, or had findings, and were examined.
    pub suspects: u64,
    /// Findings that stand at its end.
    pub findings: u64,
    /// Of those, the ones that it was the first to find.
    pub new: u64,
    /// Findings resolved since the last report.
    pub resolved: u64,
    /// When it began, by the database's clock; one that is continued keeps it.
    pub began: Option<DateTime<Utc>>,
    /// From when on entries had not been looked at when it began; one that is continued keeps it. None before the first.
    pub looked_from: Option<DateTime<Utc>>,
    /// Whom it goes on with: behind this user where it proves what changed, else from this user on.
    pub cursor: Option<Uuid>,
    /// Whether it was asked to stop before it had seen every account.
    pub stopped: bool,
    /// Whether it came to its end.
    pub ended: bool,
}

/// Who a proof is done for, and answers for it.
pub trait ProofRun {
    /// The number by which findings name it.
    fn run(&self) -> i64;

    /// Called last in each transaction that writes; an error ends that transaction. Told what was done until now and how
    /// far that is: accounts done, and accounts in all.
    fn keep(
        &self,
        client: &Client,
        so_far: &Proof,
        progress: (u64, u64),
    ) -> impl Future<Output = Result<(), tokio_postgres::Error>> + Send;
}

/// How far the proofs have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProofState {
    /// From when on entries have not been looked at: the begin of the last proof that ended. None before the first.
    pub looked_from: Option<DateTime<Utc>>,
    /// The begin of the last one that looked at everything.
    pub full_at: Option<DateTime<Utc>>,
    /// The time, by the database's clock.
    pub now: DateTime<Utc>,
}

/// Reads how far the proofs have come.
///
/// # Errors
/// Where the database fails.
pub async fn state(client: &Client) -> Result<ProofState, Error> {
    let row = client.query_one(include_str!("../../sql/proof/state_read.sql"), &[]).await?;
    Ok(ProofState { looked_from: row.try_get(0)?, full_at: row.try_get(1)?, now: row.try_get(2)? })
}

/// Proves the accounts that changed since the last proof and those with findings, or with `full`, as where nothing was
/// proved yet, all of them from their first entry on.
///
/// `so_far` is what an earlier attempt of the same run kept, else the default. `proceed` is asked before each group and
/// told how far the proof came: accounts done, and accounts in all; when it says no, the proof ends there. The connection
/// must be the run's own: settings stay on it.
///
/// # Errors
/// Where the database fails, or the run may not go on. What was kept by then stays.
pub async fn prove(
    client: &mut Client,
    run: &impl ProofRun,
    full: bool,
    so_far: Proof,
    mut proceed: impl FnMut((u64, u64)) -> bool,
) -> Result<Proof, Error> {
    if so_far.ended && (so_far.full || !full) {
        return Ok(so_far);
    }
    // A group takes as long as it takes: a run has a time of its own after which it is given up.
    client.batch_execute("SET statement_timeout = 0").await?;
    let state = state(client).await?;
    let began = so_far.began.unwrap_or(state.now);
    let looked_from = so_far.began.map_or(state.looked_from, |_| so_far.looked_from);
    let all = full || state.looked_from.is_none();
    // Whom a nightly one was done with, it did not prove from the first entry on; and one that was cut off behind its last
    // group begins again, too.
    let again = all && (!so_far.full || so_far.cursor.is_none());
    let so_far = if again { Proof::default() } else { so_far };
    let proof = Proof { full: all, began: Some(began), looked_from, stopped: false, ..so_far };
    let mut way = Way { client, run, proof, began, done: 0, total: 0, first: state.looked_from.is_none() };
    // A full proof brings the checkpoints up to date first: then whoever moved on since is nobody but those who did it
    // while it was under way. One that is continued has done so.
    if let Some(looked_from) = state.looked_from
        && !(all && way.proof.cursor.is_some())
    {
        way.prove_changed(looked_from, all, &mut proceed).await?;
    }
    if all && !way.proof.stopped {
        way.prove_all(&mut proceed).await?;
    }
    if !way.proof.stopped {
        way.end().await?;
        proceed((way.done, way.total));
    }
    Ok(way.proof)
}

/// The users that a screen is over.
enum Group<'a> {
    Range(Uuid, Option<Uuid>),
    Users(&'a [Uuid], &'a [Uuid]),
}

/// A proof under way.
struct Way<'a, R> {
    client: &'a mut Client,
    run: &'a R,
    proof: Proof,
    began: DateTime<Utc>,
    done: u64,
    total: u64,
    /// Whether nothing was proved yet.
    first: bool,
}

impl<R: ProofRun> Way<'_, R> {
    /// Proves what changed. Before a full proof it is not counted and moves no cursor: everything is looked at again.
    async fn prove_changed(
        &mut self,
        looked_from: DateTime<Utc>,
        before_all: bool,
        proceed: &mut impl FnMut((u64, u64)) -> bool,
    ) -> Result<(), Error> {
        let behind = self.proof.cursor;
        // A list that an earlier proof, cut off on the same connection, left behind.
        self.client.batch_execute("CLOSE ALL; RESET enable_seqscan; RESET enable_hashjoin").await?;
        let transaction = self.client.transaction().await?;
        let declare = include_str!("../../sql/proof/changed_declare.sql");
        transaction.execute(declare, &[&looked_from, &behind]).await?;
        transaction.commit().await?;
        self.total = self.client.execute("MOVE FORWARD ALL FROM changed", &[]).await?;
        self.client.batch_execute("MOVE ABSOLUTE 0 FROM changed").await?;
        self.client.batch_execute(ONE_BY_ONE).await?;
        let fetch = format!("FETCH FORWARD {GROUP_CHANGED} FROM changed");
        loop {
            let rows = self.client.query(&fetch, &[]).await?;
            let Some(last) = rows.last() else { break };
            if !proceed((self.done, self.total)) {
                self.proof.stopped = true;
                break;
            }
            let last: Uuid = last.try_get(0)?;
            let users = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<Uuid>, _>>()?;
            let mut found = Vec::new();
            for row in &rows {
                if row.try_get(1)? {
                    found.push(row.try_get(0)?);
                }
            }
            let cursor = if before_all { None } else { Some(last) };
            self.prove_group(Group::Users(&users, &found), !before_all, cursor, users.len() as u64, proceed).await?;
            if self.proof.stopped {
                break;
            }
        }
        self.client.batch_execute("CLOSE changed").await?;
        Ok(())
    }

    /// Proves everything from the cursor on. Users without an account lie between those with one: nobody is left out.
    async fn prove_all(&mut self, proceed: &mut impl FnMut((u64, u64)) -> bool) -> Result<(), Error> {
        let count = self.client.query_one(include_str!("../../sql/proof/account_count.sql"), &[]).await?;
        (self.done, self.total) = (self.proof.accounts, number(&count, 0)?);
        let mut from = self.proof.cursor.unwrap_or(Uuid::nil());
        loop {
            if !proceed((self.done, self.total)) {
                self.proof.stopped = true;
                return Ok(());
            }
            let before = self.proof.accounts;
            let end = include_str!("../../sql/proof/range_end.sql");
            self.client.batch_execute("RESET enable_indexscan; RESET enable_sort").await?;
            let end = self.client.query_opt(end, &[&from, &GROUP_ACCOUNTS]).await?;
            let end: Option<Uuid> = end.map(|row| row.try_get(0)).transpose()?;
            self.client.batch_execute(WHOLE).await?;
            self.prove_group(Group::Range(from, end), true, end, 0, proceed).await?;
            self.done += self.proof.accounts - before;
            match end {
                Some(end) if !self.proof.stopped => from = end,
                _ => return Ok(()),
            }
        }
    }

    /// Screens a group; examines its suspects and writes down what is found. Afterwards, and not before, the cursor moves:
    /// a group that was cut off is done again.
    async fn prove_group(
        &mut self,
        group: Group<'_>,
        counted: bool,
        cursor: Option<Uuid>,
        accounts: u64,
        proceed: &mut impl FnMut((u64, u64)) -> bool,
    ) -> Result<(), Error> {
        let begun = (self.done, self.total);
        let mut after = self.proof.clone();
        let transaction =
            self.client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await?;
        let mut suspects: Vec<Uuid> = Vec::new();
        // Where everything was proved before, sums of whole buckets are held against what was proved, and only what lies in
        // those that differ is screened account by account.
        let mut compared = None;
        let row = match group {
            Group::Range(from, end) => {
                let (first, mut buckets) = (self.first, None);
                if !first {
                    let compare = include_str!("../../sql/proof/range_compare.sql");
                    let range: [(&(dyn ToSql + Sync), Type); 2] = [(&from, Type::UUID), (&end, Type::UUID)];
                    transaction.batch_execute(COMPILED).await?;
                    if let Some(row) = one(transaction.query_typed(compare, &range).await?) {
                        buckets = Some(row.try_get::<_, Vec<i32>>(3)?);
                        let moved_on: Vec<Uuid> = row.try_get(4)?;
                        transaction.batch_execute(ONE_BY_ONE).await?;
                        for users in moved_on.chunks(GROUP_CHANGED) {
                            let screen = include_str!("../../sql/proof/screen_users.sql");
                            let nobody: &[Uuid] = &[];
                            let of: [(&(dyn ToSql + Sync), Type); 2] =
                                [(&users, Type::UUID_ARRAY), (&nobody, Type::UUID_ARRAY)];
                            if let Some(row) = one(transaction.query_typed(screen, &of).await?) {
                                suspects.extend(row.try_get::<_, Vec<Uuid>>(3)?);
                            }
                        }
                        transaction.batch_execute(WHOLE).await?;
                        compared = Some(row);
                    }
                }
                if buckets.as_ref().is_some_and(Vec::is_empty) {
                    None
                } else {
                    let screen = include_str!("../../sql/proof/screen_range.sql");
                    let range: [(&(dyn ToSql + Sync), Type); 4] =
                        [(&from, Type::UUID), (&end, Type::UUID), (&first, Type::BOOL), (&buckets, Type::INT4_ARRAY)];
                    one(transaction.query_typed(screen, &range).await?)
                }
            }
            Group::Users(users, found) => {
                let screen = include_str!("../../sql/proof/screen_users.sql");
                let of: [(&(dyn ToSql + Sync), Type); 2] = [(&users, Type::UUID_ARRAY), (&found, Type::UUID_ARRAY)];
                one(transaction.query_typed(screen, &of).await?)
            }
        };
        if let Some(row) = &row {
            suspects.extend(row.try_get::<_, Vec<Uuid>>(3)?);
        }
        if let Some(row) = compared.as_ref().or(row.as_ref())
            && counted
        {
            after.accounts += number(row, 0)?;
            after.batches += number(row, 1)?;
            after.entries += number(row, 2)?;
            after.suspects += suspects.len() as u64;
        }
        after.cursor = cursor;
        let done = match group {
            Group::Range(..) => after.accounts,
            Group::Users(..) => self.done + accounts,
        };
        let progress = (done, self.total);
        let kept = if suspects.is_empty() { (&after, progress) } else { (&self.proof, begun) };
        self.run.keep(transaction.client(), kept.0, kept.1).await?;
        transaction.commit().await?;
        if !suspects.is_empty() {
            self.client.batch_execute(ONE_BY_ONE).await?;
        }
        suspects.sort_unstable();
        suspects.dedup();
        let chunks = suspects.chunks(GROUP_SUSPECTS);
        let last = chunks.len();
        for (nth, users) in (1..).zip(chunks) {
            if nth > 1 && !proceed(begun) {
                self.proof.stopped = true;
                return Ok(());
            }
            let kept = if nth == last { (&after, progress) } else { (&self.proof, begun) };
            Self::examine(self.client, self.run, self.began, users, kept).await?;
        }
        self.proof = after;
        if matches!(group, Group::Users(..)) {
            self.done = done;
        }
        Ok(())
    }

    /// Examines suspects in one snapshot, writes down what is found, and moves the checkpoints of those who are sound.
    async fn examine(
        client: &mut Client,
        run: &R,
        began: DateTime<Utc>,
        users: &[Uuid],
        (kept, progress): (&Proof, (u64, u64)),
    ) -> Result<(), Error> {
        let snapshot =
            client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
        // A check reads all entries and batches of these users and joins them: one by one, an account with many would take
        // the square of their number.
        snapshot.batch_execute("SET LOCAL enable_hashjoin = on").await?;
        let findings = examine(snapshot.client(), users).await?;
        snapshot.commit().await?;
        let unsound: BTreeSet<Uuid> = findings.iter().filter_map(|finding| finding.user).collect();
        let sound: Vec<Uuid> = users.iter().copied().filter(|user| !unsound.contains(user)).collect();
        let nobody: &[Uuid] = &[];
        let transaction = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await?;
        record_findings(transaction.client(), run.run(), began, &findings).await?;
        // Their whole history has just been read, so their checkpoint may begin anew: one that a hand has changed would
        // have them suspected for ever.
        let forget = "DELETE FROM pointsd.checkpoints WHERE user_id = ANY ($1)";
        transaction.execute(forget, &[&sound]).await?;
        let screen = include_str!("../../sql/proof/screen_users.sql");
        transaction.query_typed(screen, &[(&sound, Type::UUID_ARRAY), (&nobody, Type::UUID_ARRAY)]).await?;
        run.keep(transaction.client(), kept, progress).await?;
        transaction.commit().await?;
        Ok(())
    }

    async fn end(&mut self) -> Result<(), Error> {
        let transaction =
            self.client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await?;
        let number = self.run.run();
        resolve_findings(transaction.client(), number, self.began).await?;
        let counts = count_findings(transaction.client(), number).await?;
        let update = include_str!("../../sql/proof/state_update.sql");
        transaction.execute(update, &[&self.began, &self.proof.full]).await?;
        let proof = Proof {
            findings: counts.standing,
            new: counts.new,
            resolved: counts.resolved,
            cursor: None,
            ended: true,
            ..self.proof.clone()
        };
        self.run.keep(transaction.client(), &proof, (self.done, self.total)).await?;
        transaction.commit().await?;
        self.proof = proof;
        Ok(())
    }
}

/// The row of a statement that answers with one.
fn one(rows: Vec<Row>) -> Option<Row> {
    rows.into_iter().next()
}

fn number(row: &Row, place: usize) -> Result<u64, tokio_postgres::Error> {
    Ok(u64::try_from(row.try_get::<_, i64>(place)?).unwrap_or(0))
}
