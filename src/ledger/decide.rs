//! The rules of the ledger as a pure state machine. It applies postings, one after the other, to loaded accounts. It does no
//! I/O and reads no clock, so it cannot fail half way.
//!
//! Every rule about points stands here. The sweep's statement repeats the rule of expiry, and a test holds the two together.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::posting::{Kind, Posting, in_range};
use super::reply::{Allocation, Entry, EntryType, Refusal, Reply};
use super::rules::{DRAWING_RULE, Rules};
use crate::numbers::MAX_POINTS;
use crate::time::to_microsecond;

/// An account as it was loaded and as the group leaves it.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub user: Uuid,
    /// Whether the database has a row for it.
    pub stored: bool,
    pub balance: i64,
    pub total_recharged: i64,
    pub total_consumed: i64,
    pub total_expired: i64,
    /// No posting changes it. It is loaded for readers.
    pub total_adjusted: i64,
    pub last_seq: i64,
    pub last_batch: i32,
    /// In drawing order. This group has emptied those before `first_open`.
    batches: Vec<Batch>,
    first_open: usize,
    changed: bool,
}

/// A batch that was open when it was loaded, or that the group opened.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub batch: i32,
    pub amount: i64,
    pub remaining: i64,
    pub source: String,
    pub opened_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub state: BatchState,
}

/// What the store step does with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BatchState {
    Unchanged,
    Changed,
    New,
}

/// The outcome of a group of postings.
#[derive(Debug, Default)]
pub(crate) struct Decision {
    /// New entries, in the order in which they are to be written.
    pub entries: Vec<Entry>,
    /// The replies, one for each posting, in order.
    pub replies: Vec<Reply>,
}

/// The entries that the database has under the keys of a group, by [`Posting::key_id`].
pub(crate) type KnownKeys = HashMap<Uuid, Entry>;

impl Account {
    /// An account that the database does not have yet.
    pub fn missing(user: Uuid) -> Account {
        Account {
            user,
            stored: false,
            balance: 0,
            total_recharged: 0,
            total_consumed: 0,
            total_expired: 0,
            total_adjusted: 0,
            last_seq: 0,
            last_batch: 0,
            batches: Vec::new(),
            first_open: 0,
            changed: false,
        }
    }

    /// Gives the account its open batches, in any order.
    pub fn load_batches(&mut self, mut batches: Vec<Batch>) {
        batches.sort_unstable_by_key(|batch| (batch.expires_at, batch.batch));
        self.batches = batches;
    }

    /// Whether there are batches without the account's own row: another transaction opened the account during the load, or the
    /// row was deleted by hand.
    pub fn is_orphaned(&self) -> bool {
        !self.stored && self.last_batch == 0 && !self.batches.is_empty()
    }

    /// Whether the group wrote an entry to it.
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    /// Batches that the group touched or opened.
    pub fn batches(&self) -> &[Batch] {
        &self.batches
    }

    /// Posts a posting that passed the rules without an account: refuses it, or expires the batches that are due and writes
    /// it.
    fn post(
        &mut self,
        posting: &Posting,
        key: Uuid,
        rules: &Rules,
        entries: &mut Vec<Entry>,
    ) -> Result<Entry, Refusal> {
        let at = to_microsecond(posting.at);
        let mut entry = match &posting.kind {
            Kind::Recharge { source, expires_at, .. } => {
                let expires_at = match expires_at {
                    Some(expires_at) => to_microsecond(*expires_at),
                    None => rules.life.expires_at(at).filter(|end| in_range(*end)).ok_or_else(|| {
                        let why = "the batch would live beyond the year 9999: give it an expires_at";
                        Refusal::Malformed(why.to_owned())
                    })?,
                };
                if expires_at <= at {
                    return Err(Refusal::AlreadyExpired { expires_at, at });
                }
                if self.total_recharged.checked_add(posting.points).is_none() || self.last_batch == i32::MAX {
                    return Err(Refusal::AccountFull);
                }
                if self.is_orphaned() {
                    return Err(Refusal::AccountMissing);
                }
                self.expire(at, rules, entries);
                self.recharge(posting.points, source, at, expires_at)
            }
            Kind::Consume { source_type, duration, .. } => {
                if self.total_consumed.checked_add(posting.points).is_none() {
                    return Err(Refusal::AccountFull);
                }
                if self.is_orphaned() {
                    return Err(Refusal::AccountMissing);
                }
                self.expire(at, rules, entries);
                Entry { duration: *duration, ..self.consume(posting.points, source_type, at) }
            }
        };
        entry.key = Some(key);
        entry.source_id = posting.source_id();
        entry.description = posting.description.clone().unwrap_or_else(|| rules.describe(posting));
        Ok(entry)
    }

    /// Expires what is due at `at`, one entry a batch, in drawing order.
    fn expire(&mut self, at: DateTime<Utc>, rules: &Rules, entries: &mut Vec<Entry>) {
        while let Some(due) = self.batches.get_mut(self.first_open).filter(|batch| batch.expires_at <= at) {
            let points = due.take(due.remaining);
            let (batch, source) = (due.batch, due.source.clone());
            self.first_open += 1;
            self.total_expired += points;
            let (before, after) = rules.expiry_sentence();
            let mut entry = self.entry(EntryType::Expire, points, &source, at);
            entry.allocations.push(Allocation { batch, points });
            entry.description = format!("{before}{source}{after}");
            entries.push(entry);
        }
    }

    /// Opens a batch. Arrears are settled from it first. Otherwise a debt would be paid twice: through the balance, and again
    /// when the batch, still full on paper, expires.
    fn recharge(&mut self, points: i64, source: &str, at: DateTime<Utc>, expires_at: DateTime<Utc>) -> Entry {
        let settled = points.min(self.balance.min(0).saturating_neg());
        self.total_recharged += points;
        self.last_batch += 1;
        let batch = Batch {
            batch: self.last_batch,
            amount: points,
            remaining: points - settled,
            source: source.to_owned(),
            opened_at: at,
            expires_at,
            state: BatchState::New,
        };
        if batch.remaining == 0 {
            self.batches.insert(self.first_open, batch);
            self.first_open += 1;
        } else {
            let open = self.batches.get(self.first_open..).unwrap_or_default();
            // The new batch has the highest number, so it comes after all that expire at the same instant.
            let place = self.first_open + open.partition_point(|other| other.expires_at <= expires_at);
            self.batches.insert(place, batch);
        }
        let mut entry = self.entry(EntryType::Recharge, points, source, at);
        entry.batch = Some(self.last_batch);
        if settled > 0 {
            entry.allocations.push(Allocation { batch: self.last_batch, points: settled });
        }
        entry
    }

    /// Draws from open batches in drawing order. Points that no batch covers become arrears. Batches that were due have
    /// been expired before, so every open batch may be drawn.
    fn consume(&mut self, points: i64, source_type: &str, at: DateTime<Utc>) -> Entry {
        self.total_consumed += points;
        let mut entry = self.entry(EntryType::Consume, points, source_type, at);
        let mut wanted = points;
        while let Some(batch) = self.batches.get_mut(self.first_open).filter(|_| wanted > 0) {
            let drawn = batch.take(wanted.min(batch.remaining));
            wanted -= drawn;
            entry.allocations.push(Allocation { batch: batch.batch, points: drawn });
            if batch.remaining == 0 {
                self.first_open += 1;
            }
        }
        entry
    }

    /// Takes the next number in the account's history and moves its balance.
    fn entry(&mut self, kind: EntryType, amount: i64, source_type: &str, at: DateTime<Utc>) -> Entry {
        let balance_before = self.balance;
        self.balance = match kind {
            EntryType::Recharge => balance_before + amount,
            // An adjust entry never comes here: only a repair posts one.
            EntryType::Consume | EntryType::Expire | EntryType::Adjust => balance_before - amount,
        };
        self.last_seq += 1;
        self.changed = true;
        Entry {
            user: self.user,
            seq: self.last_seq,
            kind,
            amount,
            balance_before,
            balance_after: self.balance,
            source_type: source_type.to_owned(),
            source_id: None,
            batch: None,
            allocations: Vec::new(),
            at,
            duration: None,
            description: String::new(),
            key: None,
            drawing_rule: DRAWING_RULE,
        }
    }
}

impl Batch {
    fn take(&mut self, points: i64) -> i64 {
        self.remaining -= points;
        if self.state == BatchState::Unchanged {
            self.state = BatchState::Changed;
        }
        points
    }
}

/// Applies `postings` in order to `accounts`. These are sorted by user, and hold the users of all postings that are not
/// refused on sight.
///
/// `keys` are the postings' keys, one each, as [`Posting::key_id`] gives them; `known` the entries that the database
/// has under any of them.
pub(crate) fn decide(
    accounts: &mut [Account],
    known: &KnownKeys,
    postings: &[Posting],
    keys: &[Option<Uuid>],
    rules: &Rules,
) -> Decision {
    let mut entries = Vec::with_capacity(postings.len());
    let mut posted_here: HashMap<Uuid, usize> = HashMap::with_capacity(postings.len());
    let reply_to = |(posting, key): (&Posting, &Option<Uuid>)| {
        if let Some(refusal) = refuse_on_sight(posting, rules) {
            return Reply::Rejected(refusal);
        }
        let account = accounts
            .binary_search_by_key(&posting.user, |account| account.user)
            .ok()
            .and_then(|index| accounts.get_mut(index));
        let (Some(account), Some(key)) = (account, *key) else {
            return Reply::Rejected(Refusal::Malformed("the posting has no account or no key".to_owned()));
        };
        // A replay changes nothing, so nothing expires on its account either.
        let first = known.get(&key).or_else(|| posted_here.get(&key).and_then(|index| entries.get(*index)));
        if let Some(first) = first {
            return conflict(first, posting).map_or_else(|| Reply::Replayed(first.clone()), Reply::Rejected);
        }
        match account.post(posting, key, rules, &mut entries) {
            Ok(entry) => {
                posted_here.insert(key, entries.len());
                entries.push(entry.clone());
                Reply::Posted(entry)
            }
            Err(refusal) => Reply::Rejected(refusal),
        }
    };
    let replies = postings.iter().zip(keys).map(reply_to).collect();
    Decision { entries, replies }
}

/// The refusal of a posting, if it needs no account to be known.
pub(super) fn refuse_on_sight(posting: &Posting, rules: &Rules) -> Option<Refusal> {
    if let Some(why) = posting.malformed() {
        return Some(Refusal::Malformed(why));
    }
    if !(1..=MAX_POINTS).contains(&posting.points) {
        return Some(Refusal::InvalidPoints(posting.points));
    }
    match &posting.kind {
        Kind::Recharge { source, .. } if !rules.recharge_sources.contains(source) => {
            Some(Refusal::UnknownSource(source.clone()))
        }
        _ => None,
    }
}

/// The refusal of a posting whose key belongs to an entry with other content. Content is kind, points, source, and order or
/// task.
fn conflict(first: &Entry, posting: &Posting) -> Option<Refusal> {
    let kind = match posting.kind {
        Kind::Recharge { .. } => EntryType::Recharge,
        Kind::Consume { .. } => EntryType::Consume,
    };
    let same = first.kind == kind
        && first.amount == posting.points
        && first.source_type == posting.source_type()
        && first.source_id == posting.source_id();
    let (seq, kind, amount, source_type) = (first.seq, first.kind, first.amount, first.source_type.clone());
    (!same).then_some(Refusal::KeyConflict { seq, kind, amount, source_type })
}
