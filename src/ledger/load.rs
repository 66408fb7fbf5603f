//! What a group of postings needs to see: which rows, and how they are read in one round trip, or two.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

use super::bucket::Buckets;
use super::decide::{Account, Batch, KnownKeys};
use super::holds::hold_from;
use super::posting::{Kind, Posting};
use super::rows::{account_from, batch_from, entry_from};
use super::session::{Error, Statements};
use crate::database::pipelined;
use crate::time::to_microsecond;

/// A posting that has to see its account, and its key.
pub(super) type Keyed<'a> = (&'a Posting, Option<Uuid>);

/// What the first round trip brings of one bucket.
#[derive(Default)]
pub(super) struct Loaded {
    /// Sorted by user.
    pub accounts: Vec<Account>,
    pub known: KnownKeys,
    /// The database's clock; `None` where nothing had to be loaded.
    pub now: Option<DateTime<Utc>>,
}

/// Which open batches the postings to an account want to see. To read them all would cost the more, the more there are.
pub(super) struct Want {
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
    pub fn of_accounts(postings: &[Keyed<'_>]) -> Vec<Want> {
        let mut wants: Vec<Want> = postings.iter().map(|(posting, _)| Want::of(posting)).collect();
        wants.sort_unstable_by_key(|want| want.user);
        wants.dedup_by(|next, want| {
            let is_same = want.user == next.user;
            if is_same {
                want.join(next);
            }
            is_same
        });
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

    /// Takes in another posting to the account.
    fn join(&mut self, other: &Want) {
        self.points = self.points.saturating_add(other.points);
        self.latest = self.latest.max(other.latest);
        self.first_until = self.first_until.zip(other.first_until).map(|(one, other)| one.max(other));
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
pub(super) struct More {
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
    pub fn needed_by(postings: &[Keyed<'_>], wants: &[Want], accounts: &[Account], known: &KnownKeys) -> More {
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

    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.late.0.is_empty() && self.entries.0.is_empty() && self.hold_keys.is_empty()
    }
}

/// The first round trip, of accounts of one bucket. They come back sorted by user.
pub(super) async fn load(
    client: &Client,
    statements: &Statements,
    buckets: Buckets,
    bucket: i16,
    postings: &[Keyed<'_>],
    wants: &[Want],
) -> Result<Loaded, Error> {
    let users: Vec<Uuid> = wants.iter().map(|want| want.user).collect();
    let named = postings.iter().filter_map(|(posting, _)| posting.reference_id());
    let mut keys: Vec<Uuid> = postings.iter().filter_map(|(_, key)| *key).chain(named).collect();
    // Replays of one posting ask for its entry once.
    keys.sort_unstable();
    keys.dedup();
    if users.is_empty() {
        return Ok(Loaded::default());
    }
    let of_all: Vec<Uuid> = wants.iter().filter(|want| want.first_until.is_none()).map(|want| want.user).collect();
    let (of_first, until): (Vec<Uuid>, Vec<DateTime<Utc>>) =
        wants.iter().filter_map(|want| Some((want.user, want.first_until?))).unzip();
    let count = buckets.count();
    let (of_users, of_keys): ([&(dyn ToSql + Sync); 3], [&(dyn ToSql + Sync); 2]) =
        ([&users, &bucket, &count], [&keys, &bucket]);
    let all: [&(dyn ToSql + Sync); 2] = [&of_all, &bucket];
    let first: [&(dyn ToSql + Sync); 3] = [&of_first, &until, &bucket];
    // Queued in this order and sent together. Each statement sees what was committed before it began, so the
    // later ones see all that the holders of the locks had written.
    let ((), locked, first, open, known) = pipelined!(
        buckets.keep(client, &statements.bucket_keep, bucket),
        client.query(&statements.account_lock, &of_users),
        query(client, &statements.batch_first, &first, of_first.len()),
        query(client, &statements.batch_open, &all, of_all.len()),
        client.query(&statements.entry_known, &of_keys),
    )?;

    let mut accounts: Vec<Account> = users.into_iter().map(Account::missing).collect();
    let now = Some(locked.first().ok_or(Error::Redistributed)?.try_get("now")?);
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

/// One more round trip for accounts of one bucket, for groups with late consumes, refunds, voids or holds, and for consumes that need more than the first batch.
pub(super) async fn load_more(
    client: &Client,
    statements: &Statements,
    bucket: i16,
    more: &More,
    accounts: &mut [Account],
) -> Result<(), Error> {
    let all: [&(dyn ToSql + Sync); 2] = [&more.open, &bucket];
    let of_late: [&(dyn ToSql + Sync); 4] = [&more.late.0, &more.late.1, &more.hold_keys, &bucket];
    let of_batches: [&(dyn ToSql + Sync); 3] = [&more.batches.0, &more.batches.1, &bucket];
    let of_entries: [&(dyn ToSql + Sync); 3] = [&more.entries.0, &more.entries.1, &bucket];
    let of_holds: [&(dyn ToSql + Sync); 4] = [&more.hold_keys, &more.holders.0, &more.holders.1, &bucket];
    let (open, expired, named, returned, holds) = pipelined!(
        query(client, &statements.batch_open, &all, more.open.len()),
        query(client, &statements.batch_expired, &of_late, more.late.0.len()),
        query(client, &statements.batch_named, &of_batches, more.batches.0.len()),
        query(client, &statements.entry_returned, &of_entries, more.entries.0.len()),
        query(client, &statements.hold_known, &of_holds, more.hold_keys.len() + more.holders.0.len()),
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

/// Runs a query that asks for `count` accounts, if it asks for any.
async fn query(
    client: &Client,
    statement: &Statement,
    params: &[&(dyn ToSql + Sync)],
    count: usize,
) -> Result<Vec<Row>, tokio_postgres::Error> {
    if count == 0 { Ok(Vec::new()) } else { client.query(statement, params).await }
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

pub(super) fn find(accounts: &mut [Account], user: Uuid) -> Option<&mut Account> {
    let index = accounts.binary_search_by_key(&user, |account| account.user).ok()?;
    accounts.get_mut(index)
}
