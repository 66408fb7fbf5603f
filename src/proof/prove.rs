//! The way of a proof over the accounts, in groups. No row of the ledger is locked, so no posting waits.
//!
//! Each group is screened. Suspects are examined by every check; sound accounts get their checkpoints moved. The cursor
//! moves last: a group that was interrupted is done again.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::checks::examine_bucket;
use super::findings::{count_findings, record_findings_of_bucket, resolve_findings};
use super::screen::{Range, Screened, Size, compare_range, screen_range, screen_users};
use super::session::{Access, begin};
use super::state::{load_state, move_state};
use crate::database::{self, Cursor};
use crate::ledger::{AlsoWrite, Buckets, Progress, SoFar};
use crate::numbers;

/// Accounts in a group of a full proof. Entries lie in the order of time, so a group meets nearly every page of them, and
/// is read by a scan of them all: with 20,000,000 entries this takes 2 of the 20 seconds of a proof. With ten groups instead
/// of one, the scans took half the time of a first proof. More accounts would hold one snapshot longer.
const GROUP_ACCOUNTS: i64 = 1_000_000;

/// Accounts in a group of a nightly proof. They are found by index, one by one.
const GROUP_CHANGED: usize = 2_000;

/// Suspects that are examined in one snapshot: every check reads their whole histories.
const GROUP_SUSPECTS: usize = 500;

/// Why a proof did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database refused or did not answer. What was written stays, and the proof goes on from there.
    #[error("the database failed during the proof of the ledger")]
    Database(#[from] tokio_postgres::Error),
}

impl Error {
    /// Whether the same may well succeed a little later.
    pub fn is_transient(&self) -> bool {
        let Error::Database(error) = self;
        database::is_transient(error)
    }
}

/// What a proof has done; the counters of its run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Whether every account is proved, from its first entry on.
    pub full: bool,
    /// Accounts read.
    pub accounts: u64,
    /// Batches read.
    pub batches: u64,
    /// Entries read.
    pub entries: u64,
    /// Accounts that were examined, because their sums were off or because they had findings.
    pub suspects: u64,
    /// Findings that stand at its end.
    pub findings: u64,
    /// Of those, the ones that no earlier report has listed.
    pub new: u64,
    /// Findings resolved since the last report.
    pub resolved: u64,
    /// A nightly proof takes the accounts with entries recorded after this instant, where the proof before it ended …
    pub since: Option<DateTime<Utc>>,
    /// … and until this one. A proof that is continued keeps both.
    pub until: Option<DateTime<Utc>>,
    /// Where it goes on: a nightly proof after this place, a full one from it on.
    pub cursor: Option<Place>,
    /// Whether it was asked to stop.
    pub stopped: bool,
    /// Whether it came to its end.
    pub ended: bool,
}

/// A place in the order of the proofs: by bucket, then by user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The bucket.
    pub bucket: i16,
    /// The user.
    pub user: Uuid,
}

impl Proof {
    fn add(&mut self, size: Size, suspects: usize) {
        self.accounts += size.accounts;
        self.batches += size.batches;
        self.entries += size.entries;
        self.suspects += suspects as u64;
    }
}

/// Proves the accounts that changed since the last proof, and those with findings. With `full`, or if nothing was proved
/// yet, it proves all accounts from their first entry on.
///
/// `cutoff` comes from [`ledger::cutoff`](crate::ledger::cutoff): entries recorded later are left to the next proof.
/// `so_far` is what an earlier attempt of the same run wrote, else the default. `proceed` is asked before each group, with
/// the number of accounts done and of accounts in all; if it says no, the proof stops there. The connection must be one that
/// [`prepare_session`](super::prepare_session) made ready.
///
/// # Errors
/// If the database fails, or if the run lost its claim. What was written by then stays.
pub async fn prove(
    client: &mut Client,
    run: i64,
    also: &impl AlsoWrite<SoFar<Proof>>,
    full: bool,
    cutoff: DateTime<Utc>,
    so_far: Proof,
    mut proceed: impl FnMut((u64, u64)) -> bool,
) -> Result<Proof, Error> {
    if so_far.ended && (so_far.full || !full) {
        return Ok(so_far);
    }
    let state = load_state(client).await?;
    let until = so_far.until.unwrap_or(cutoff);
    let since = if so_far.until.is_some() { so_far.since } else { state.proved_until };
    let all = full || state.proved_until.is_none();
    // A nightly proof checks only what changed, so its accounts still need a full proof. A full proof that was interrupted
    // after its last group starts over.
    let starts_over = all && (!so_far.full || so_far.cursor.is_none());
    let so_far = if starts_over { Proof::default() } else { so_far };
    let proof = Proof { full: all, since, until: Some(until), stopped: false, ..so_far };
    let first_proof = state.proved_until.is_none();
    let mut under_way = ProofUnderWay { client, run, also, proof, until, first_proof, done: 0, total: 0 };
    // A full proof first moves the checkpoints of the accounts that changed. Then only those that change while it is under way
    // differ from their checkpoints. A full proof that is continued has done so.
    if let Some(since) = state.proved_until
        && !(all && under_way.proof.cursor.is_some())
    {
        under_way.prove_changed(since, &mut proceed).await?;
    }
    if all && !under_way.proof.stopped {
        under_way.prove_all(&mut proceed).await?;
    }
    if !under_way.proof.stopped {
        under_way.end().await?;
        proceed((under_way.done, under_way.total));
    }
    Ok(under_way.proof)
}

/// A proof under way.
struct ProofUnderWay<'a, A> {
    client: &'a mut Client,
    run: i64,
    also: &'a A,
    proof: Proof,
    until: DateTime<Utc>,
    first_proof: bool,
    /// Accounts done, and accounts in all.
    done: u64,
    total: u64,
}

impl<A: AlsoWrite<SoFar<Proof>>> ProofUnderWay<'_, A> {
    /// Proves the accounts that changed. Before a full proof this counts nothing and moves no cursor.
    async fn prove_changed(
        &mut self,
        since: DateTime<Utc>,
        proceed: &mut impl FnMut((u64, u64)) -> bool,
    ) -> Result<(), Error> {
        let declare = include_str!("../../sql/proof/changed_declare.sql");
        let (bucket, user) = self.proof.cursor.map(|place| (place.bucket, place.user)).unzip();
        let span: [&(dyn ToSql + Sync); 4] = [&since, &self.until, &bucket, &user];
        let changed = Cursor::open(self.client, "changed", declare, &span, GROUP_CHANGED).await?;
        self.total = changed.count(self.client).await?;
        'lists: while let Some(rows) = changed.fetch(self.client).await? {
            let rows = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)));
            let rows: Vec<(i16, Uuid, bool)> = rows.collect::<Result<_, tokio_postgres::Error>>()?;
            for group in rows.chunk_by(|(one, ..), (other, ..)| one == other) {
                if !proceed((self.done, self.total)) {
                    self.proof.stopped = true;
                } else {
                    self.prove_users(group, proceed).await?;
                }
                if self.proof.stopped {
                    break 'lists;
                }
            }
        }
        changed.close(self.client).await?;
        Ok(())
    }

    /// Proves users of one bucket, each with whether it has findings.
    async fn prove_users(
        &mut self,
        group: &[(i16, Uuid, bool)],
        proceed: &mut impl FnMut((u64, u64)) -> bool,
    ) -> Result<(), Error> {
        let bucket = group.first().map_or(0, |(bucket, ..)| *bucket);
        let users: Vec<Uuid> = group.iter().map(|(_, user, _)| *user).collect();
        let with_findings: Vec<Uuid> = group.iter().filter(|(.., has)| *has).map(|(_, user, _)| *user).collect();
        let transaction = begin(self.client, Access::Index).await?;
        let screened = screen_users(transaction.client(), bucket, &users, &with_findings).await?;
        self.also.write(transaction.client(), &so_far(&self.proof, self.done, self.total)).await?;
        transaction.commit().await?;
        let mut after = self.proof.clone();
        if !self.proof.full {
            after.add(screened.size, screened.suspects.len());
            after.cursor = users.last().map(|user| Place { bucket, user: *user });
        }
        let done = self.done + users.len() as u64;
        self.end_group(bucket, screened.suspects, after, done, proceed).await
    }

    /// Proves everything from the cursor on, bucket by bucket. Ranges go by user, so that users without an account are proved, too.
    async fn prove_all(&mut self, proceed: &mut impl FnMut((u64, u64)) -> bool) -> Result<(), Error> {
        let count = self.client.query_one(include_str!("../../sql/proof/account_count.sql"), &[]).await?;
        self.total = numbers::count(count.try_get(0)?);
        self.done = self.proof.accounts;
        let buckets = Buckets::read(self.client).await?;
        let mut next = Some(self.proof.cursor.unwrap_or(Place { bucket: 0, user: Uuid::nil() }));
        while let Some(Place { bucket, user: first }) = next {
            if !proceed((self.done, self.total)) {
                self.proof.stopped = true;
                return Ok(());
            }
            let end = include_str!("../../sql/proof/range_end.sql");
            let end = self.client.query_opt(end, &[&first, &GROUP_ACCOUNTS, &bucket]).await?;
            let end: Option<Uuid> = end.map(|row| row.try_get(0)).transpose()?;
            next = match end {
                Some(user) => Some(Place { bucket, user }),
                None => buckets.all().find(|other| *other > bucket).map(|bucket| Place { bucket, user: Uuid::nil() }),
            };
            self.prove_range(Range { bucket, first, end }, next, proceed).await?;
            if self.proof.stopped {
                return Ok(());
            }
        }
        Ok(())
    }

    /// In a first proof, a range is screened account by account. Later its sums are compared with the checkpoints, and only
    /// the digest groups that differ are screened.
    /// `next` is where the proof goes on after it.
    async fn prove_range(
        &mut self,
        range: Range,
        next: Option<Place>,
        proceed: &mut impl FnMut((u64, u64)) -> bool,
    ) -> Result<(), Error> {
        let (size, suspects) = if self.first_proof {
            let screened = self.screen_range(range, None).await?;
            (screened.size, screened.suspects)
        } else {
            let transaction = begin(self.client, Access::ComparePass).await?;
            let compared = compare_range(transaction.client(), range).await?;
            transaction.commit().await?;
            let mut suspects = BTreeSet::new();
            for users in compared.moved_on.chunks(GROUP_CHANGED) {
                let transaction = begin(self.client, Access::Index).await?;
                suspects.extend(screen_users(transaction.client(), range.bucket, users, &[]).await?.suspects);
                self.also.write(transaction.client(), &so_far(&self.proof, self.done, self.total)).await?;
                transaction.commit().await?;
            }
            if !compared.differing.is_empty() {
                suspects.extend(self.screen_range(range, Some(&compared.differing)).await?.suspects);
            }
            (compared.size, suspects.into_iter().collect())
        };
        let mut after = self.proof.clone();
        after.add(size, suspects.len());
        after.cursor = next;
        let done = after.accounts;
        self.end_group(range.bucket, suspects, after, done, proceed).await
    }

    async fn screen_range(&mut self, range: Range, digest_groups: Option<&[i32]>) -> Result<Screened, Error> {
        let transaction = begin(self.client, Access::ScreenPass).await?;
        let screened = screen_range(transaction.client(), range, self.first_proof, digest_groups).await?;
        self.also.write(transaction.client(), &so_far(&self.proof, self.done, self.total)).await?;
        transaction.commit().await?;
        Ok(screened)
    }

    /// Examines the suspects of a group, then moves the cursor behind it.
    async fn end_group(
        &mut self,
        bucket: i16,
        suspects: Vec<Uuid>,
        after: Proof,
        done: u64,
        proceed: &mut impl FnMut((u64, u64)) -> bool,
    ) -> Result<(), Error> {
        for (nth, users) in suspects.chunks(GROUP_SUSPECTS).enumerate() {
            if nth > 0 && !proceed((self.done, self.total)) {
                self.proof.stopped = true;
                return Ok(());
            }
            self.examine_suspects(bucket, users).await?;
        }
        self.also.write(self.client, &so_far(&after, done, self.total)).await?;
        (self.proof, self.done) = (after, done);
        Ok(())
    }

    /// Examines suspects in one snapshot, records the findings, and makes new checkpoints of the sound accounts.
    async fn examine_suspects(&mut self, bucket: i16, users: &[Uuid]) -> Result<(), Error> {
        let snapshot = begin(self.client, Access::Examine).await?;
        let findings = examine_bucket(snapshot.client(), bucket, users).await?;
        snapshot.commit().await?;
        let unsound: BTreeSet<Uuid> = findings.iter().filter_map(|finding| finding.user).collect();
        let sound: Vec<Uuid> = users.iter().copied().filter(|user| !unsound.contains(user)).collect();

        let transaction = begin(self.client, Access::Index).await?;
        record_findings_of_bucket(transaction.client(), self.run, self.until, bucket, &findings).await?;
        // The whole history of these accounts was just read, so their checkpoints begin anew. A checkpoint that was changed by
        // hand would otherwise make its account a suspect in every proof.
        transaction.execute(include_str!("../../sql/proof/checkpoint_delete.sql"), &[&sound, &bucket]).await?;
        screen_users(transaction.client(), bucket, &sound, &[]).await?;
        self.also.write(transaction.client(), &so_far(&self.proof, self.done, self.total)).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Resolves the findings that were not found again, and moves the state of the proofs.
    async fn end(&mut self) -> Result<(), Error> {
        let transaction = self.client.transaction().await?;
        resolve_findings(transaction.client(), self.run, self.until).await?;
        let counts = count_findings(transaction.client(), self.run).await?;
        move_state(transaction.client(), self.until, self.proof.full).await?;
        let proof = Proof {
            findings: counts.standing,
            new: counts.new,
            resolved: counts.resolved,
            cursor: None,
            ended: true,
            ..self.proof.clone()
        };
        self.also.write(transaction.client(), &so_far(&proof, self.done, self.total)).await?;
        transaction.commit().await?;
        self.proof = proof;
        Ok(())
    }
}

/// What a run writes of a proof in each transaction.
fn so_far(proof: &Proof, done: u64, total: u64) -> SoFar<Proof> {
    SoFar { progress: Progress { done, total }, counters: proof.clone() }
}
