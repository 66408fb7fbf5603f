//! The ledger once more, written from its rules and not from its code: slow, plain and in memory.
//!
//! It keeps nothing but batches and history; whatever else there is (balances, totals, numbers, keys in use) it counts
//! anew each time. It knows only the English descriptions.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use pointsd::language::Language;
use pointsd::ledger::{Allocation, Entry, EntryType, Kind, Life, Posting, Reply, Rules};
use uuid::Uuid;

use crate::support::rows::{AccountRow, BatchRow, Rows};

/// What stands in the database for a key never changes, or a retry from before an upgrade would be posted again.
const KEY_NAMESPACE: Uuid = Uuid::from_u128(0x3f0c_1f5e_6a3b_4a63_9d0e_7c11_52a8_d40b);

/// Sources that recharges may have here.
pub const SOURCES: [&str; 3] = ["card", "gift", "invite"];
/// Days that a batch lives: few, so that random histories see many expire.
pub const LIFE_DAYS: u32 = 10;

/// The rules that the model follows, for the ledger.
pub fn rules() -> Rules {
    Rules {
        recharge_sources: SOURCES.iter().map(|source| (*source).to_owned()).collect(),
        life: Life::Days(LIFE_DAYS),
        language: Language::English,
    }
}

/// A reply, where a refusal is its code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Posted(Entry),
    Replayed(Entry),
    Rejected(&'static str),
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Answer {
        match reply {
            Reply::Posted(entry) => Answer::Posted(entry),
            Reply::Replayed(entry) => Answer::Replayed(entry),
            Reply::Rejected(refusal) => Answer::Rejected(refusal.code()),
        }
    }
}

#[derive(Clone, Default)]
pub struct Model {
    accounts: BTreeMap<Uuid, Account>,
}

#[derive(Clone, Default)]
struct Account {
    /// In order of creation: the nth has number n + 1.
    batches: Vec<BatchRow>,
    entries: Vec<Entry>,
}

impl Model {
    pub fn post(&mut self, posting: &Posting) -> Answer {
        if let Some(code) = refused_on_sight(posting) {
            return Answer::Rejected(code);
        }
        let key = key_of(posting);
        let unopened = Account::default();
        let account = self.accounts.get(&posting.user).unwrap_or(&unopened);
        if let Some(first) = account.entries.iter().find(|entry| entry.key == Some(key)) {
            let same = (first.kind, first.amount, &first.source_type, &first.source_id)
                == (kind_of(posting), posting.points, &source_type_of(posting), &source_id_of(posting));
            return if same { Answer::Replayed(first.clone()) } else { Answer::Rejected("key_conflict") };
        }
        let at = cut(posting.at);
        let total = i128::from(account.total(kind_of(posting))) + i128::from(posting.points);
        if let Kind::Recharge { expires_at, .. } = &posting.kind {
            let expires_at = expires_at.map_or(at + TimeDelta::days(i64::from(LIFE_DAYS)), cut);
            if expires_at > super::at("9999-12-31T23:59:59.999999Z") {
                return Answer::Rejected("malformed");
            }
            if expires_at <= at {
                return Answer::Rejected("already_expired");
            }
        }
        if total > i128::from(i64::MAX) {
            return Answer::Rejected("account_full");
        }
        let account = self.accounts.entry(posting.user).or_default();
        account.expire(posting.user, at);
        let mut entry =
            account.next_entry(posting.user, kind_of(posting), posting.points, &source_type_of(posting), at);
        entry.key = Some(key);
        entry.source_id = source_id_of(posting);
        entry.description = posting.description.clone().unwrap_or_else(|| match (&posting.kind, &entry.source_id) {
            (Kind::Recharge { source, .. }, Some(order)) => format!("Recharge by {source}, order {order}"),
            (Kind::Recharge { source, .. }, None) => format!("Recharge by {source}"),
            (Kind::Consume { source_type, source_id, .. }, _) => format!("Use of {source_type}, {source_id}"),
        });
        match &posting.kind {
            Kind::Recharge { source, expires_at, .. } => {
                let arrears = (-entry.balance_before).max(0);
                let settled = arrears.min(posting.points);
                let number = i32::try_from(account.batches.len()).unwrap() + 1;
                if settled > 0 {
                    entry.allocations.push(Allocation { batch: number, points: settled });
                }
                entry.batch = Some(number);
                account.batches.push(BatchRow {
                    user: posting.user,
                    batch: number,
                    amount: posting.points,
                    remaining: posting.points - settled,
                    open: posting.points > settled,
                    source: source.clone(),
                    opened_at: at,
                    expires_at: expires_at.map_or(at + TimeDelta::days(i64::from(LIFE_DAYS)), cut),
                });
            }
            Kind::Consume { duration, .. } => {
                entry.duration = *duration;
                let mut wanted = posting.points;
                while let Some(next) = account.next_to_draw(|_| true).filter(|_| wanted > 0) {
                    let points = wanted.min(next.remaining);
                    next.remaining -= points;
                    next.open = next.remaining > 0;
                    wanted -= points;
                    entry.allocations.push(Allocation { batch: next.batch, points });
                }
            }
        }
        account.entries.push(entry.clone());
        Answer::Posted(entry)
    }

    /// Batches, accounts and points that expired.
    pub fn sweep(&mut self, at: DateTime<Utc>) -> (u64, u64, i64) {
        let mut swept = (0, 0, 0);
        for (user, account) in &mut self.accounts {
            let before = account.entries.len();
            account.expire(*user, cut(at));
            let expired = &account.entries[before..];
            swept.0 += expired.len() as u64;
            swept.1 += u64::from(!expired.is_empty());
            swept.2 += expired.iter().map(|entry| entry.amount).sum::<i64>();
        }
        swept
    }

    /// Balance, points available at `at`, recharged, consumed, expired.
    pub fn balance(&self, user: Uuid, at: DateTime<Utc>) -> (i64, i64, i64, i64, i64) {
        let unopened = Account::default();
        let account = self.accounts.get(&user).unwrap_or(&unopened);
        let alive = account.batches.iter().filter(|batch| batch.expires_at > cut(at));
        (
            account.balance(),
            alive.map(|batch| batch.remaining).sum(),
            account.total(EntryType::Recharge),
            account.total(EntryType::Consume),
            account.total(EntryType::Expire),
        )
    }

    pub fn rows(&self) -> Rows {
        Rows {
            accounts: (self.accounts.iter())
                .map(|(user, account)| AccountRow {
                    user: *user,
                    balance: account.balance(),
                    total_recharged: account.total(EntryType::Recharge),
                    total_consumed: account.total(EntryType::Consume),
                    total_expired: account.total(EntryType::Expire),
                    last_seq: i64::try_from(account.entries.len()).unwrap(),
                    last_batch: i32::try_from(account.batches.len()).unwrap(),
                })
                .collect(),
            batches: self.accounts.values().flat_map(|account| account.batches.clone()).collect(),
            entries: self.accounts.values().flat_map(|account| account.entries.clone()).collect(),
        }
    }
}

impl Account {
    fn total(&self, kind: EntryType) -> i64 {
        self.entries.iter().filter(|entry| entry.kind == kind).map(|entry| entry.amount).sum()
    }

    fn balance(&self) -> i64 {
        self.total(EntryType::Recharge) - self.total(EntryType::Consume) - self.total(EntryType::Expire)
    }

    /// Of the batches with points, the one that expires first; of several, the oldest.
    fn next_to_draw(&mut self, which: impl Fn(&BatchRow) -> bool) -> Option<&mut BatchRow> {
        (self.batches.iter_mut())
            .filter(|batch| batch.remaining > 0 && which(batch))
            .min_by_key(|batch| (batch.expires_at, batch.batch))
    }

    fn expire(&mut self, user: Uuid, at: DateTime<Utc>) {
        while let Some(due) = self.next_to_draw(|batch| batch.expires_at <= at).map(|due| due.clone()) {
            let mut entry = self.next_entry(user, EntryType::Expire, due.remaining, &due.source, at);
            entry.allocations = vec![Allocation { batch: due.batch, points: due.remaining }];
            entry.description = format!("Expiry of {} points", due.source);
            self.entries.push(entry);
            let batch = self.batches.iter_mut().find(|batch| batch.batch == due.batch).unwrap();
            (batch.remaining, batch.open) = (0, false);
        }
    }

    fn next_entry(&self, user: Uuid, kind: EntryType, amount: i64, source_type: &str, at: DateTime<Utc>) -> Entry {
        let balance_before = self.balance();
        let change = if kind == EntryType::Recharge { amount } else { -amount };
        Entry {
            user,
            seq: i64::try_from(self.entries.len()).unwrap() + 1,
            kind,
            amount,
            balance_before,
            balance_after: balance_before + change,
            source_type: source_type.to_owned(),
            source_id: None,
            batch: None,
            allocations: Vec::new(),
            at,
            duration: None,
            description: String::new(),
            key: None,
            drawing_rule: 1,
        }
    }
}

fn refused_on_sight(posting: &Posting) -> Option<&'static str> {
    let longest_and_text = |longest, text: &str| text.chars().count() > longest || text.contains('\0');
    let bad = |longest, text: &str| text.is_empty() || longest_and_text(longest, text);
    let bad_time = |time: DateTime<Utc>| !(1970..=9999).contains(&chrono::Datelike::year(&cut(time)));
    let malformed = match &posting.kind {
        Kind::Recharge { source, order_id, expires_at } => {
            bad(64, source) || expires_at.is_some_and(bad_time) || posting.key.is_none() && order_id.is_none()
        }
        Kind::Consume { source_type, source_id, duration } => {
            bad(64, source_type) || bad(255, source_id) || duration.is_some_and(|seconds| seconds < 0.into())
        }
    } || posting.key.as_ref().is_some_and(|key| bad(255, key))
        || posting.description.as_ref().is_some_and(|text| longest_and_text(1_000, text))
        || bad_time(posting.at);
    let sources = BTreeSet::from(SOURCES);
    if malformed {
        Some("malformed")
    } else if posting.points < 1 || posting.points > 1_000_000_000_000 {
        Some("invalid_points")
    } else if matches!(&posting.kind, Kind::Recharge { source, .. } if !sources.contains(source.as_str())) {
        Some("unknown_source")
    } else {
        None
    }
}

fn key_of(posting: &Posting) -> Uuid {
    let text = posting.key.clone().unwrap_or_else(|| match &posting.kind {
        Kind::Recharge { source, order_id, .. } => format!("recharge:{source}:{}", order_id.unwrap()),
        Kind::Consume { source_type, source_id, .. } => format!("consume:{source_type}:{source_id}"),
    });
    Uuid::new_v5(&KEY_NAMESPACE, &[posting.user.as_bytes(), text.as_bytes()].concat())
}

fn kind_of(posting: &Posting) -> EntryType {
    match posting.kind {
        Kind::Recharge { .. } => EntryType::Recharge,
        Kind::Consume { .. } => EntryType::Consume,
    }
}

fn source_type_of(posting: &Posting) -> String {
    match &posting.kind {
        Kind::Recharge { source, .. } => source.clone(),
        Kind::Consume { source_type, .. } => source_type.clone(),
    }
}

fn source_id_of(posting: &Posting) -> Option<String> {
    match &posting.kind {
        Kind::Recharge { order_id, .. } => order_id.map(|order| order.to_string()),
        Kind::Consume { source_id, .. } => Some(source_id.clone()),
    }
}

/// To the microsecond, downwards.
fn cut(time: DateTime<Utc>) -> DateTime<Utc> {
    time - TimeDelta::nanoseconds(i64::from(time.timestamp_subsec_nanos() % 1_000))
}
