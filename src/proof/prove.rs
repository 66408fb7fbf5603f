//! The way of a proof over the accounts, in groups. No row of the ledger is locked, so no posting waits.
//!
//! Each group is screened. Suspects are examined by every check; sound accounts get their checkpoints moved. The cursor
//! moves last: a group that was interrupted is done again.

use std::collections::BTreeSet;
use std::iter;

use chrono::{DateTime, Utc};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::checks::examine_bucket;
use super::findings::{count_findings, record_findings_of_bucket, resolve_findings};
use super::screen::{Compared, Range, Screened, Size, compare_range, screen_range, screen_users};
use super::session::{Access, begin};
use super::state::{load_state, move_state};
use crate::database::{self, Cursor};
use crate::ledger::{AlsoWrite, Buckets, Progress, SoFar};
use crate::numbers;

/// Accounts in a group of a full proof, in all lanes. Entries lie in the order of time, so a group meets nearly every page of
/// them, and is read by a scan of them all in each lane: with 20,000,000 entries this takes 2 of the 16 seconds of a proof. With
/// ten groups instead of one, the scans took half the time of a first proof. More accounts would hold one snapshot longer.
const GROUP_ACCOUNTS: u64 = 1_000_000;

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
    /// Of a full proof, the fingerprint of the entries recorded before [`Asked::closed_until`], as far as it has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<i64>,
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

/// What is to be proved.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The run that records the findings.
    pub run: i64,
    /// Whether all accounts are proved, from their first entry on.
    pub full: bool,
    /// From [`ledger::cutoff`](crate::ledger::cutoff): entries recorded later are left to the next proof.
    pub cutoff: DateTime<Utc>,
    /// The end of the last closed business day. A full proof adds up the fingerprints of the entries recorded before it.
    pub closed_until: Option<DateTime<Utc>>,
}

/// A connection of a proof, made ready by [`prepare_session`](super::prepare_session), and what its transactions write along.
pub struct Lane<'a, A> {
    /// The connection.
    pub client: &'a mut Client,
    /// What writes along.
    pub also: &'a A,
}

/// Proves the accounts that changed since the last proof, and those with findings. With [`Asked::full`], or if nothing was
/// proved yet, it proves all accounts from their first entry on.
///
/// The `others` read beside the `first` lane, each a part of the same group of accounts. `so_far` is what an earlier attempt of
/// the same run wrote, else the default. `proceed` is asked before each group, with the number of accounts done and of accounts
/// in all; if it says no, the proof stops there.
///
/// # Errors
/// If the database fails, or if the run lost its claim. What was written by then stays.
pub async fn prove<'a, A: AlsoWrite<SoFar<Proof>>>(
    first: Lane<'a, A>,
    others: &mut [Lane<'a, A>],
    asked: Asked,
    so_far: Proof,
    mut proceed: impl FnMut((u64, u64)) -> bool,
) -> Result<Proof, Error> {
    let Asked { full, cutoff, .. } = asked;
    if so_far.ended && (so_far.full || !full) {
        return Ok(so_far);
    }
    let state = load_state(first.client).await?;
    let until = so_far.until.unwrap_or(cutoff);
    let since = if so_far.until.is_some() { so_far.since } else { state.proved_until };
    let all = full || state.proved_until.is_none();
    // A nightly proof checks only what changed, so its accounts still need a full proof. A full proof that was interrupted
    // after its last group starts over.
    let starts_over = all && (!so_far.full || so_far.cursor.is_none());
    let so_far = if starts_over { Proof::default() } else { so_far };
    let proof = Proof { full: all, since, until: Some(until), stopped: false, ..so_far };
    let first_proof = state.proved_until.is_none();
    let mut under_way = ProofUnderWay { first, others, asked, proof, until, first_proof, done: 0, total: 0 };
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
struct ProofUnderWay<'a, 'b, A> {
    first: Lane<'b, A>,
    others: &'a mut [Lane<'b, A>],
    asked: Asked,
    proof: Proof,
    until: DateTime<Utc>,
    first_proof: bool,
    /// Accounts done, and accounts in all.
    done: u64,
    total: u64,
}

impl<A: AlsoWrite<SoFar<Proof>>> ProofUnderWay<'_, '_, A> {
    /// Proves the accounts that changed. Before a full proof this counts nothing and moves no cursor.
    async fn prove_changed(
        &mut self,
        since: DateTime<Utc>,
        proceed: &mut impl FnMut((u64, u64)) -> bool,
    ) -> Result<(), Error> {
        let declare = include_str!("../../sql/proof/changed_declare.sql");
        let (bucket, user) = self.proof.cursor.map(|place| (place.bucket, place.user)).unzip();
        let span: [&(dyn ToSql + Sync); 4] = [&since, &self.until, &bucket, &user];
        let changed = Cursor::open(self.first.client, "changed", declare, &span, GROUP_CHANGED).await?;
        self.total = changed.count(self.first.client).await?;
        'lists: while let Some(rows) = changed.fetch(self.first.client).await? {
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
        changed.close(self.first.client).await?;
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
        let so_far = self.so_far();
        let part = users.len().div_ceil(self.others.len() + 1).max(1);
        let lanes = iter::once(&mut self.first).chain(self.others.iter_mut()).zip(users.chunks(part));
        let screened = lanes.map(|(lane, users)| lane.screen_users(bucket, users, &with_findings, &so_far));
        let screened = try_join_all(screened).await?;
        let mut after = self.proof.clone();
        let mut suspects = Vec::new();
        for part in screened {
            if !self.proof.full {
                after.add(part.size, part.suspects.len());
            }
            suspects.extend(part.suspects);
        }
        if !self.proof.full {
            after.cursor = users.last().map(|user| Place { bucket, user: *user });
        }
        let done = self.done + users.len() as u64;
        self.end_group(vec![(bucket, suspects)], after, done, proceed).await
    }

    /// Proves everything from the cursor on, bucket by bucket. Ranges go by user, so that users without an account are proved, too.
    async fn prove_all(&mut self, proceed: &mut impl FnMut((u64, u64)) -> bool) -> Result<(), Error> {
        let count = self.first.client.query_one(include_str!("../../sql/proof/account_count.sql"), &[]).await?;
        self.total = numbers::count(count.try_get(0)?);
        self.done = self.proof.accounts;
        let buckets = Buckets::read(self.first.client).await?;
        let mut place = Some(self.proof.cursor.unwrap_or(Place { bucket: 0, user: Uuid::nil() }));
        while let Some(first) = place {
            if !proceed((self.done, self.total)) {
                self.proof.stopped = true;
                return Ok(());
            }
            let ranges = self.next_ranges(first, buckets).await?;
            place = ranges.last().and_then(|range| range.next(buckets));
            self.prove_ranges(&ranges, place, proceed).await?;
            if self.proof.stopped {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Divides the next group among the lanes. A range is of one bucket.
    async fn next_ranges(&self, first: Place, buckets: Buckets) -> Result<Vec<Range>, Error> {
        let lanes = self.others.len() + 1;
        let accounts = self.total.clamp(1, GROUP_ACCOUNTS).div_ceil(lanes as u64);
        let accounts = i64::try_from(accounts).unwrap_or(i64::MAX);
        let (mut ranges, mut place) = (Vec::new(), Some(first));
        while ranges.len() < lanes
            && let Some(Place { bucket, user: first }) = place
        {
            let end = include_str!("../../sql/proof/range_end.sql");
            let end = self.first.client.query_opt(end, &[&first, &accounts, &bucket]).await?;
            let end: Option<Uuid> = end.map(|row| row.try_get(0)).transpose()?;
            let range = Range { bucket, first, end };
            place = range.next(buckets);
            ranges.push(range);
        }
        Ok(ranges)
    }

    /// Proves the ranges of a group, each in a lane. `next` is where the proof goes on after them.
    async fn prove_ranges(
        &mut self,
        ranges: &[Range],
        next: Option<Place>,
        proceed: &mut impl FnMut((u64, u64)) -> bool,
    ) -> Result<(), Error> {
        let (so_far, first_proof, closed_until) = (self.so_far(), self.first_proof, self.asked.closed_until);
        let lanes = iter::once(&mut self.first).chain(self.others.iter_mut()).zip(ranges);
        let proved = lanes.map(|(lane, range)| lane.prove_range(*range, first_proof, closed_until, &so_far));
        let proved = try_join_all(proved).await?;
        let mut after = self.proof.clone();
        let mut suspects = Vec::new();
        for (range, proved) in ranges.iter().zip(proved) {
            after.add(proved.size, proved.suspects.len());
            after.closed = proved.closed.map(|closed| after.closed.unwrap_or_default().wrapping_add(closed));
            suspects.push((range.bucket, proved.suspects));
        }
        after.cursor = next;
        let done = after.accounts;
        self.end_group(suspects, after, done, proceed).await
    }

    /// Examines the suspects of a group, by bucket, then moves the cursor behind it.
    async fn end_group(
        &mut self,
        suspects: Vec<(i16, Vec<Uuid>)>,
        after: Proof,
        done: u64,
        proceed: &mut impl FnMut((u64, u64)) -> bool,
    ) -> Result<(), Error> {
        let so_far = self.so_far();
        let mut chunks = Vec::new();
        for (bucket, users) in &suspects {
            chunks.extend(users.chunks(GROUP_SUSPECTS).map(|users| (*bucket, users)));
        }
        for (nth, (bucket, users)) in chunks.into_iter().enumerate() {
            if nth > 0 && !proceed((self.done, self.total)) {
                self.proof.stopped = true;
                return Ok(());
            }
            self.first.examine_suspects(bucket, users, self.asked.run, self.until, &so_far).await?;
        }
        self.first.also.write(self.first.client, &written(&after, done, self.total)).await?;
        (self.proof, self.done) = (after, done);
        Ok(())
    }

    /// Resolves the findings that were not found again, and moves the state of the proofs.
    async fn end(&mut self) -> Result<(), Error> {
        let run = self.asked.run;
        let transaction = self.first.client.transaction().await?;
        resolve_findings(transaction.client(), run, self.until).await?;
        let counts = count_findings(transaction.client(), run).await?;
        move_state(transaction.client(), self.until, self.proof.full).await?;
        let proof = Proof {
            findings: counts.open,
            new: counts.new,
            resolved: counts.resolved,
            cursor: None,
            ended: true,
            ..self.proof.clone()
        };
        self.first.also.write(transaction.client(), &written(&proof, self.done, self.total)).await?;
        transaction.commit().await?;
        self.proof = proof;
        Ok(())
    }

    fn so_far(&self) -> SoFar<Proof> {
        written(&self.proof, self.done, self.total)
    }
}

impl Range {
    /// Where a proof goes on after it.
    fn next(self, buckets: Buckets) -> Option<Place> {
        let next_bucket = || buckets.all().find(|bucket| *bucket > self.bucket);
        match self.end {
            Some(user) => Some(Place { bucket: self.bucket, user }),
            None => next_bucket().map(|bucket| Place { bucket, user: Uuid::nil() }),
        }
    }
}

/// The outcome of a range.
struct ProvedRange {
    size: Size,
    suspects: Vec<Uuid>,
    /// See [`Proof::closed`].
    closed: Option<i64>,
}

impl<A: AlsoWrite<SoFar<Proof>>> Lane<'_, A> {
    async fn screen_users(
        &mut self,
        bucket: i16,
        users: &[Uuid],
        with_findings: &[Uuid],
        so_far: &SoFar<Proof>,
    ) -> Result<Screened, Error> {
        let transaction = begin(self.client, Access::Index).await?;
        let screened = screen_users(transaction.client(), bucket, users, with_findings).await?;
        self.also.write(transaction.client(), so_far).await?;
        transaction.commit().await?;
        Ok(screened)
    }

    /// In a first proof, a range is screened account by account. Later its sums are compared with the checkpoints, and only
    /// the digest groups that differ are screened.
    async fn prove_range(
        &mut self,
        range: Range,
        first_proof: bool,
        closed_until: Option<DateTime<Utc>>,
        so_far: &SoFar<Proof>,
    ) -> Result<ProvedRange, Error> {
        if first_proof {
            let Screened { size, suspects, closed } =
                self.screen_range(range, first_proof, None, closed_until, so_far).await?;
            return Ok(ProvedRange { size, suspects, closed });
        }
        let mut compared = self.compare_range(range, false, closed_until).await?;
        let closed = compared.closed;
        if !compared.differing.is_empty() {
            compared = self.compare_range(range, true, None).await?;
        }
        let mut suspects = BTreeSet::new();
        for users in compared.moved_on.chunks(GROUP_CHANGED) {
            suspects.extend(self.screen_users(range.bucket, users, &[], so_far).await?.suspects);
        }
        if !compared.differing.is_empty() {
            let screened = self.screen_range(range, false, Some(&compared.differing), None, so_far).await?;
            suspects.extend(screened.suspects);
        }
        Ok(ProvedRange { size: compared.size, suspects: suspects.into_iter().collect(), closed })
    }

    async fn compare_range(
        &mut self,
        range: Range,
        by_digest_group: bool,
        closed_until: Option<DateTime<Utc>>,
    ) -> Result<Compared, Error> {
        let transaction = begin(self.client, Access::Pass).await?;
        let compared = compare_range(transaction.client(), range, by_digest_group, closed_until).await?;
        transaction.commit().await?;
        Ok(compared)
    }

    async fn screen_range(
        &mut self,
        range: Range,
        first_proof: bool,
        digest_groups: Option<&[i32]>,
        closed_until: Option<DateTime<Utc>>,
        so_far: &SoFar<Proof>,
    ) -> Result<Screened, Error> {
        let transaction = begin(self.client, Access::Screen).await?;
        let screened = screen_range(transaction.client(), range, first_proof, digest_groups, closed_until).await?;
        self.also.write(transaction.client(), so_far).await?;
        transaction.commit().await?;
        Ok(screened)
    }

    /// Examines suspects in one snapshot, records the findings, and makes new checkpoints of the sound accounts.
    async fn examine_suspects(
        &mut self,
        bucket: i16,
        users: &[Uuid],
        run: i64,
        until: DateTime<Utc>,
        so_far: &SoFar<Proof>,
    ) -> Result<(), Error> {
        let snapshot = begin(self.client, Access::Examine).await?;
        let findings = examine_bucket(snapshot.client(), bucket, users).await?;
        snapshot.commit().await?;
        let unsound: BTreeSet<Uuid> = findings.iter().filter_map(|finding| finding.user).collect();
        let sound: Vec<Uuid> = users.iter().copied().filter(|user| !unsound.contains(user)).collect();

        let transaction = begin(self.client, Access::Index).await?;
        record_findings_of_bucket(transaction.client(), run, until, bucket, &findings).await?;
        // The whole history of these accounts was just read, so their checkpoints begin anew. A checkpoint that was changed by
        // hand would otherwise make its account a suspect in every proof.
        transaction.execute(include_str!("../../sql/proof/checkpoint_delete.sql"), &[&sound, &bucket]).await?;
        screen_users(transaction.client(), bucket, &sound, &[]).await?;
        self.also.write(transaction.client(), so_far).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// What a run writes of a proof in each transaction.
fn written(proof: &Proof, done: u64, total: u64) -> SoFar<Proof> {
    SoFar { progress: Progress { done, total }, counters: proof.clone() }
}
