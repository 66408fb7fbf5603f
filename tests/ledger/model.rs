//! The ledger once more, written from its rules and not from its code: slow, plain and in memory.
//!
//! It stores batches, entries and holds only; whatever else there is (balances, totals, numbers, keys in use) it counts
//! anew each time.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use num_rational::Ratio;
use pointsd::ledger::{
    Allocation, Asked, Beyond, Entry, EntryType, Hold, Kind, Length, MAX_PAID, Money, Opening, Posted, Posting,
    Reference, Reply, Rules, Term,
};
use pointsd::time::Zone;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::support::rows::{AccountRow, BatchRow, HoldRow, Rows};

/// Sources that recharges may have here.
pub const SOURCES: [&str; 3] = ["card", "gift", "invite"];
/// The source that is a present: its recharges have no price.
pub const PROMOTIONAL: &str = "invite";
/// Days that a batch lives: few, so that random histories see many expire.
pub const LIFE_DAYS: u32 = 10;
/// Days that points of a refund live at least.
pub const REFUND_DAYS: i64 = 4;

/// The rules that the model follows, for the ledger.
pub fn rules() -> Rules {
    Rules {
        sources: SOURCES.iter().map(|source| ((*source).to_owned(), None)).collect(),
        promotional: [PROMOTIONAL.to_owned()].into(),
        term: Term { length: Length::Hours(24 * LIFE_DAYS), end_of: None },
        refund: Term { length: Length::Hours(24 * REFUND_DAYS as u32), end_of: None },
        zone: Zone::UTC,
    }
}

/// A reply, where a refusal is its code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Posted(Posted),
    Replayed(Posted),
    Held(HoldRow),
    Released(HoldRow),
    HoldReplayed(HoldRow),
    Rejected(&'static str),
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Answer {
        match reply {
            Reply::Posted(posted) => Answer::Posted(posted),
            Reply::Replayed(posted) => Answer::Replayed(posted),
            Reply::Held(hold) => Answer::Held(row_of(hold)),
            Reply::Released(hold) => Answer::Released(row_of(hold)),
            Reply::HeldBefore(hold) | Reply::ReleasedBefore(hold) => Answer::HoldReplayed(row_of(hold)),
            Reply::Rejected(refusal) => Answer::Rejected(refusal.code()),
        }
    }
}

fn row_of(hold: Hold) -> HoldRow {
    HoldRow {
        user: hold.user,
        points: hold.points,
        source_type: hold.source_type,
        source_id: hold.source_id,
        caller_key: hold.key,
        at: hold.at,
        until: hold.until,
        state: hold.state.as_str().to_owned(),
        seq: hold.seq,
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
    /// By key.
    holds: BTreeMap<Uuid, HoldRow>,
}

impl Model {
    pub fn post(&mut self, posting: &Posting) -> Answer {
        if let Some(code) = refused_on_sight(posting) {
            return Answer::Rejected(code);
        }
        let mut account = self.accounts.get(&posting.user).cloned().unwrap_or_default();
        let answer = account.post(posting, cut(posting.at)).unwrap_or_else(Answer::Rejected);
        if !matches!(answer, Answer::Rejected(_)) {
            self.accounts.insert(posting.user, account);
        }
        answer
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

    /// Balance, points available and held at `at`, and when and how many points expire next.
    pub fn balance(&self, user: Uuid, at: DateTime<Utc>) -> (i64, i64, i64, Option<(DateTime<Utc>, i64)>) {
        let unopened = Account::default();
        let account = self.accounts.get(&user).unwrap_or(&unopened);
        let alive = || account.batches.iter().filter(|batch| batch.expires_at > cut(at) && batch.remaining > 0);
        let next = alive().map(|batch| batch.expires_at).min();
        let points = |next| alive().filter(|batch| batch.expires_at == next).map(|batch| batch.remaining).sum();
        (account.balance(), account.available(cut(at)), account.held(cut(at)), next.map(|next| (next, points(next))))
    }

    pub fn rows(&self) -> Rows {
        let holds = self.accounts.values().flat_map(|account| account.holds.values().cloned());
        let mut holds: Vec<HoldRow> = holds.collect();
        let key = |hold: &HoldRow| {
            let no_key = hold.caller_key.is_none(); // sorts last, as PostgreSQL does with nulls
            (hold.user, hold.source_type.clone(), hold.source_id.clone(), no_key, hold.caller_key.clone())
        };
        holds.sort_by_key(key);
        Rows {
            accounts: (self.accounts.iter())
                .map(|(user, account)| AccountRow {
                    user: *user,
                    balance: account.balance(),
                    total_recharged: account.total(EntryType::Recharge),
                    total_consumed: account.total(EntryType::Consume),
                    total_expired: account.total(EntryType::Expire) - account.total(EntryType::Restore),
                    total_refunded: account.total(EntryType::Refund),
                    total_voided: account.total(EntryType::Void),
                    last_seq: i64::try_from(account.entries.len()).unwrap(),
                    last_batch: i32::try_from(account.batches.len()).unwrap(),
                    expired_until: (account.entries.iter())
                        .filter(|entry| entry.kind == EntryType::Expire)
                        .map(|entry| account.batch(entry.allocations[0].batch).expires_at)
                        .max(),
                    total_opening: (account.entries.iter())
                        .filter(|entry| entry.kind == EntryType::Opening)
                        .map(moved)
                        .sum(),
                    open_holds: account.holds.values().filter(|hold| hold.state == "open").count() as i32,
                })
                .collect(),
            batches: self.accounts.values().flat_map(|account| account.batches.clone()).collect(),
            entries: self.accounts.values().flat_map(|account| account.entries.clone()).collect(),
            holds,
        }
    }
}

impl Account {
    fn post(&mut self, posting: &Posting, at: DateTime<Utc>) -> Result<Answer, &'static str> {
        let key = key_of(posting);
        if let Kind::Release { .. } = posting.kind {
            let hold = self.holds.get_mut(&key).ok_or("unknown_hold")?;
            return match hold.state.as_str() {
                "captured" => Err("key_conflict"),
                "released" => Ok(Answer::HoldReplayed(hold.clone())),
                _ => {
                    hold.state = "released".to_owned();
                    Ok(Answer::Released(hold.clone()))
                }
            };
        }
        let named = posting_named(posting).and_then(|reference| {
            let key = sixteen_bytes(posting.user, &text_of(&reference));
            self.entries.iter().find(|entry| entry.key == Some(key)).cloned()
        });
        if let Some(first) = self.entries.iter().find(|entry| entry.key == Some(key)) {
            let same = first.kind == kind_of(posting)
                && match &posting.kind {
                    Kind::Refund { .. } | Kind::Void { .. } => {
                        let asked = first.asked.unwrap();
                        first.refers_to == named.map(|named| named.seq)
                            && asked.points == posting.points
                            && asked.beyond_used == beyond_used(posting)
                    }
                    Kind::Opening(Opening::Debt) => {
                        Some(first.amount) == posting.points && first.batch.is_none() && first.at == at
                    }
                    _ => {
                        Some(first.amount) == posting.points
                            && (&first.source_type, &first.source_id)
                                == (&source_type_of(posting), &source_id_of(posting))
                    }
                };
            let is_debt = first.kind == EntryType::Opening && first.batch.is_none();
            if !same && is_debt && posting.kind == Kind::Opening(Opening::Debt) {
                return Err("already_open");
            }
            if !same || matches!(posting.kind, Kind::Hold { .. }) {
                return Err("key_conflict");
            }
            let parts = self.entries.iter().filter(|entry| entry.seq >= first.seq && entry.at == first.at);
            let parts =
                parts.take_while(|part| part.seq == first.seq || part.key.is_none() && part.refers_to.is_some());
            let parts: Vec<&Entry> = parts.collect();
            return Ok(Answer::Replayed(Posted {
                entry: first.clone(),
                points: parts.iter().map(|part| part.amount).sum(),
                last_seq: parts.last().unwrap().seq,
                expired: Vec::new(),
                restored: Vec::new(),
            }));
        }
        let is_free = self.holds.get(&key).is_none_or(|hold| hold.state != "open");
        if !is_free && !matches!(posting.kind, Kind::Consume { .. } | Kind::Hold { .. }) {
            return Err("key_conflict");
        }
        let before = self.entries.len();
        match &posting.kind {
            Kind::Hold { until, .. } => return self.hold(posting, key, at, cut(*until)),
            Kind::Recharge { source, expires_at, paid, .. } => {
                let expires_at = expires_at.map_or(at + TimeDelta::days(i64::from(LIFE_DAYS)), cut);
                if expires_at > super::at("9999-12-31T23:59:59.999999Z") {
                    return Err("malformed");
                }
                if expires_at <= at {
                    return Err("already_expired");
                }
                self.room(EntryType::Recharge, posting.points.unwrap())?;
                self.expire(posting.user, at);
                self.open_batch(posting, EntryType::Recharge, posting.points.unwrap(), source, (at, expires_at), *paid);
            }
            Kind::Consume { .. } => {
                self.room(EntryType::Consume, posting.points.unwrap())?;
                let hold = self.holds.get_mut(&key).filter(|hold| hold.state == "open");
                let at = hold.map_or(at, |hold| at.min(hold.at));
                self.expire(posting.user, at);
                self.consume(posting, at);
                let seq = self.entries.last().unwrap().seq;
                if let Some(hold) = self.holds.get_mut(&key).filter(|hold| hold.state == "open") {
                    (hold.state, hold.seq) = ("captured".to_owned(), Some(seq));
                }
            }
            Kind::Refund { .. } => {
                let consume = named.filter(|named| named.kind == EntryType::Consume).ok_or("unknown_entry")?;
                self.refund(posting, &consume, at)?;
            }
            Kind::Void { .. } => {
                let recharge = named.filter(|named| named.kind == EntryType::Recharge).ok_or("unknown_entry")?;
                self.void(posting, &recharge, at)?;
            }
            Kind::Opening(opening) => self.bring_in(posting, opening, at)?,
            Kind::Release { .. } => unreachable!("it was answered above"),
        }
        let written = &self.entries[before..];
        let own = written.iter().position(|entry| entry.key.is_some()).unwrap();
        let of = |kind| {
            let entries = written[..own].iter().filter(move |entry| entry.kind == kind);
            entries.map(|entry| entry.allocations[0]).collect()
        };
        Ok(Answer::Posted(Posted {
            entry: written[own].clone(),
            points: written[own..].iter().map(|entry| entry.amount).sum(),
            last_seq: written.last().unwrap().seq,
            expired: of(EntryType::Expire),
            restored: of(EntryType::Restore),
        }))
    }

    fn hold(
        &mut self,
        posting: &Posting,
        key: Uuid,
        at: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Answer, &'static str> {
        let (source_type, source_id) = (source_type_of(posting), source_id_of(posting).unwrap());
        let points = posting.points.unwrap();
        if let Some(earlier) = self.holds.get_mut(&key) {
            if (earlier.state.as_str(), earlier.points, &earlier.source_type, &earlier.source_id)
                != ("open", points, &source_type, &source_id)
            {
                return Err("key_conflict");
            }
            if until > at && earlier.until > at {
                earlier.until = earlier.until.max(until);
                return Ok(Answer::HoldReplayed(earlier.clone()));
            }
        }
        if until <= at {
            return Err("already_expired");
        }
        if self.balance() < 0 || self.available(at) < points {
            return Err("insufficient");
        }
        let hold = HoldRow {
            user: posting.user,
            points,
            source_type,
            source_id,
            caller_key: posting.key.clone(),
            at,
            until,
            state: "open".to_owned(),
            seq: None,
        };
        self.holds.insert(key, hold.clone());
        Ok(Answer::Held(hold))
    }

    fn consume(&mut self, posting: &Posting, at: DateTime<Utc>) {
        let mut wanted = posting.points.unwrap();
        let mut order: Vec<usize> = (0..self.batches.len()).collect();
        order.sort_by_key(|index| (self.batches[*index].expires_at, *index));
        let mut allocations = Vec::new();
        for index in order {
            let batch = &mut self.batches[index];
            let points = wanted.min(batch.remaining + batch.expired);
            if batch.expires_at <= at || points == 0 {
                continue;
            }
            wanted -= points;
            let restored = (points - batch.remaining).max(0);
            let (before, broken_before) = (released(batch), broken(batch));
            batch.expired -= restored;
            batch.remaining += restored - points;
            batch.open = batch.remaining > 0;
            let given_back = minus(broken_before, broken(batch));
            // What was used is what was released, less what expired.
            let used = minus(minus(released(batch), broken(batch)), minus(before, broken_before));
            let (batch, source) = (batch.batch, batch.source.clone());
            if restored > 0 {
                let mut entry = self.next_entry(posting.user, EntryType::Restore, restored, &source, at);
                entry.allocations = vec![Allocation { batch, points: restored, paid: given_back }];
                self.entries.push(entry);
            }
            allocations.push(Allocation { batch, points, paid: used });
        }
        let entry = self.next_entry(posting.user, EntryType::Consume, posting.points.unwrap(), "", at);
        let Kind::Consume { duration, .. } = posting.kind else { unreachable!() };
        self.entries.push(Entry { duration, allocations, ..signed(entry, posting) });
    }

    /// What was brought along before it, and nothing else, may stand in the account; debts stand alone.
    fn bring_in(&mut self, posting: &Posting, opening: &Opening, at: DateTime<Utc>) -> Result<(), &'static str> {
        let points = posting.points.unwrap();
        let in_use = |entry: &Entry| !matches!(entry.kind, EntryType::Opening | EntryType::Expire);
        let is_debt = *opening == Opening::Debt;
        let owes = self.entries.iter().any(|entry| entry.kind == EntryType::Opening && entry.batch.is_none());
        if self.entries.iter().any(in_use) || owes || is_debt && !self.entries.is_empty() {
            return Err("already_open");
        }
        match opening {
            Opening::Points { source, expires_at, paid, .. } => {
                let expires_at = expires_at.map_or(at + TimeDelta::days(i64::from(LIFE_DAYS)), cut);
                if expires_at <= at.max(Utc::now()) {
                    return Err("already_expired");
                }
                self.open_batch(posting, EntryType::Opening, points, source, (at, expires_at), *paid);
            }
            Opening::Debt => {
                let mut entry = signed(self.next_entry(posting.user, EntryType::Opening, points, "", at), posting);
                entry.balance_after = -points;
                self.entries.push(entry);
            }
        }
        Ok(())
    }

    fn refund(&mut self, posting: &Posting, consume: &Entry, at: DateTime<Utc>) -> Result<(), &'static str> {
        let returned = self.returned(consume);
        let left = consume.amount - returned;
        let points = posting.points.unwrap_or(left);
        if left == 0 || points > left {
            return Err("exceeds_consumed");
        }
        self.room(EntryType::Refund, points)?;
        self.expire(posting.user, at);
        // One point after the other, the last drawn first; then neighbours of one batch are put together.
        let covered = consume.allocations.iter().map(|part| part.points).sum::<i64>();
        let mut drawn: Vec<(Option<Allocation>, i64)> =
            consume.allocations.iter().map(|part| (Some(*part), part.points)).collect();
        drawn.push((None, consume.amount - covered));
        let (mut from, mut parts) = (0, Vec::new());
        for (part, length) in drawn.into_iter().rev() {
            let to = from + length;
            let points = to.min(returned + points) - from.max(returned);
            let before = (returned - from).max(0);
            from = to;
            if points > 0 {
                // What was given back of the part by then, less what was before.
                let share = |paid, points| floor(Ratio::new(i128::from(paid) * i128::from(points), i128::from(length)));
                let money =
                    part.and_then(|part| part.paid).map(|paid| share(paid, before + points) - share(paid, before));
                parts.push((part.map(|part| part.batch), points, money));
            }
        }
        let asked = Asked { points: posting.points, beyond_used: true, posted: points, entries: parts.len() as i64 };
        for (nth, (batch, points, money)) in parts.into_iter().enumerate() {
            let (source, expires_at) = match batch {
                None => ("refund".to_owned(), at + TimeDelta::days(i64::from(LIFE_DAYS))),
                Some(batch) => (self.batch(batch).source.clone(), self.batch(batch).expires_at),
            };
            let expires_at = expires_at.max(at + TimeDelta::days(REFUND_DAYS));
            let drawn = batch.and_then(|batch| self.batch(batch).paid);
            let paid = drawn.zip(money).map(|(price, amount)| Money { amount, ..price });
            let entry = self.open_batch(posting, EntryType::Refund, points, &source, (at, expires_at), paid);
            (entry.refers_to, entry.source_id) = (Some(consume.seq), consume.source_id.clone());
            entry.source_type = source;
            if nth == 0 {
                entry.asked = Some(asked);
            } else {
                entry.key = None;
            }
        }
        Ok(())
    }

    fn void(&mut self, posting: &Posting, recharge: &Entry, at: DateTime<Utc>) -> Result<(), &'static str> {
        let own = self.batch(recharge.batch.unwrap()).clone();
        let (due, left) = if own.expires_at <= at { (own.remaining, 0) } else { (0, own.remaining) };
        let mut most = own.amount - self.returned(recharge) - own.expired - due;
        if !beyond_used(posting) {
            most = most.min(left);
        }
        let points = posting.points.unwrap_or(most);
        if most <= 0 {
            return Err("nothing_left");
        }
        if points > most {
            return Err("exceeds_recharge");
        }
        self.room(EntryType::Void, points)?;
        let returned = self.returned(recharge);
        let share = |points| own.paid.map(|paid| floor(exact(paid, points, own.amount)));
        let money = minus(share(returned + points), share(returned));
        self.expire(posting.user, at);
        let mut entry = signed(self.next_entry(posting.user, EntryType::Void, points, "", at), posting);
        let mut wanted = points;
        while wanted > 0 {
            let next = match self.batches.iter().position(|batch| batch.batch == own.batch && batch.remaining > 0) {
                Some(own) => Some(&mut self.batches[own]),
                None => self.next_to_draw(|_| true),
            };
            let Some(next) = next else { break };
            let points = wanted.min(next.remaining);
            let before = released(next);
            next.remaining -= points;
            next.open = next.remaining > 0;
            wanted -= points;
            entry.allocations.push(Allocation { batch: next.batch, points, paid: minus(released(next), before) });
        }
        (entry.paid, entry.currency) = (money, own.paid.map(|paid| paid.currency));
        (entry.source_type, entry.source_id) = (recharge.source_type.clone(), recharge.source_id.clone());
        entry.refers_to = Some(recharge.seq);
        let beyond_used = beyond_used(posting);
        entry.asked = Some(Asked { points: posting.points, beyond_used, posted: points, entries: 1 });
        self.entries.push(entry);
        Ok(())
    }

    fn open_batch(
        &mut self,
        posting: &Posting,
        kind: EntryType,
        points: i64,
        source: &str,
        (at, expires_at): (DateTime<Utc>, DateTime<Utc>),
        paid: Option<Money>,
    ) -> &mut Entry {
        let mut entry = signed(self.next_entry(posting.user, kind, points, source, at), posting);
        let settled = (-entry.balance_before).max(0).min(points);
        let number = i32::try_from(self.batches.len()).unwrap() + 1;
        if settled > 0 {
            let paid = paid.map(|paid| floor(exact(paid, settled, points)));
            entry.allocations.push(Allocation { batch: number, points: settled, paid });
        }
        (entry.paid, entry.currency) = (paid.map(|paid| paid.amount), paid.map(|paid| paid.currency));
        entry.batch = Some(number);
        self.batches.push(BatchRow {
            user: posting.user,
            batch: number,
            amount: points,
            remaining: points - settled,
            expired: 0,
            open: points > settled,
            source: source.to_owned(),
            opened_at: at,
            expires_at,
            paid,
        });
        self.entries.push(entry);
        self.entries.last_mut().unwrap()
    }

    fn total(&self, kind: EntryType) -> i64 {
        self.entries.iter().filter(|entry| entry.kind == kind).map(|entry| entry.amount).sum()
    }

    /// Whether the lifetime total would still fit.
    fn room(&self, kind: EntryType, points: i64) -> Result<(), &'static str> {
        self.total(kind).checked_add(points).map(|_| ()).ok_or("account_full")
    }

    fn balance(&self) -> i64 {
        self.entries.iter().map(moved).sum()
    }

    fn batch(&self, number: i32) -> &BatchRow {
        &self.batches[number as usize - 1]
    }

    /// Points of an entry that refunds or voids took back.
    fn returned(&self, of: &Entry) -> i64 {
        self.entries.iter().filter(|entry| entry.refers_to == Some(of.seq)).map(|entry| entry.amount).sum()
    }

    fn held(&self, at: DateTime<Utc>) -> i64 {
        self.holds.values().filter(|hold| hold.state == "open" && hold.until > at).map(|hold| hold.points).sum()
    }

    fn available(&self, at: DateTime<Utc>) -> i64 {
        let alive: i64 = self.batches.iter().filter(|batch| batch.expires_at > at).map(|batch| batch.remaining).sum();
        if self.balance() < 0 { 0 } else { (alive - self.held(at)).max(0) }
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
            let batch = self.batches.iter_mut().find(|batch| batch.batch == due.batch).unwrap();
            batch.expired += batch.remaining;
            (batch.remaining, batch.open) = (0, false);
            let paid = minus(broken(batch), broken(&due));
            entry.allocations = vec![Allocation { batch: due.batch, points: due.remaining, paid }];
            self.entries.push(entry);
        }
    }

    fn next_entry(&self, user: Uuid, kind: EntryType, amount: i64, source_type: &str, at: DateTime<Utc>) -> Entry {
        let balance_before = self.balance();
        Entry {
            user,
            seq: i64::try_from(self.entries.len()).unwrap() + 1,
            kind,
            amount,
            balance_before,
            balance_after: if adds(kind) { balance_before + amount } else { balance_before - amount },
            source_type: source_type.to_owned(),
            source_id: None,
            batch: None,
            allocations: Vec::new(),
            at,
            duration: None,
            description: None,
            refers_to: None,
            paid: None,
            currency: None,
            asked: None,
            key: None,
            drawing_rule: 1,
        }
    }
}

/// The exact share of a price.
pub fn exact(price: Money, points: i64, amount: i64) -> Ratio<i128> {
    Ratio::new(i128::from(price.amount) * i128::from(points), i128::from(amount))
}

fn floor(share: Ratio<i128>) -> i64 {
    i64::try_from(share.floor().to_integer()).unwrap()
}

/// What a batch has released of its price.
fn released(batch: &BatchRow) -> Option<i64> {
    batch.paid.map(|price| floor(exact(price, batch.amount - batch.remaining, batch.amount)))
}

/// What expiry has released of it: rounded up, so that the used points are rounded down as if the others had never expired.
fn broken(batch: &BatchRow) -> Option<i64> {
    batch.paid.map(|price| i64::try_from(exact(price, batch.expired, batch.amount).ceil().to_integer()).unwrap())
}

fn minus(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    a.zip(b).map(|(a, b)| a - b)
}

fn adds(kind: EntryType) -> bool {
    matches!(kind, EntryType::Recharge | EntryType::Refund | EntryType::Restore | EntryType::Opening)
}

/// By how much an entry moves the balance.
fn moved(entry: &Entry) -> i64 {
    let is_debt = entry.kind == EntryType::Opening && entry.batch.is_none();
    if adds(entry.kind) && !is_debt { entry.amount } else { -entry.amount }
}

/// The entry with the posting's key, names and description.
fn signed(mut entry: Entry, posting: &Posting) -> Entry {
    entry.key = Some(key_of(posting));
    entry.source_type = source_type_of(posting);
    entry.source_id = source_id_of(posting);
    entry.description.clone_from(&posting.description);
    entry
}

fn refused_on_sight(posting: &Posting) -> Option<&'static str> {
    let longest_and_text = |longest, text: &str| text.chars().count() > longest || text.contains('\0');
    let bad = |longest, text: &str| text.is_empty() || longest_and_text(longest, text);
    let bad_time = |time: DateTime<Utc>| !(1970..=9999).contains(&chrono::Datelike::year(&cut(time)));
    let malformed = match &posting.kind {
        Kind::Recharge { source, order_id, expires_at, paid } => {
            bad(64, source)
                || expires_at.is_some_and(bad_time)
                || posting.key.is_none() && order_id.is_none()
                || paid.is_some_and(|paid| paid.amount < 0 || paid.amount > MAX_PAID || source == PROMOTIONAL)
        }
        Kind::Consume { source_type, source_id, duration } => {
            bad(64, source_type) || bad(255, source_id) || duration.is_some_and(|seconds| seconds < 0.into())
        }
        Kind::Hold { source_type, source_id, until } => {
            bad(64, source_type) || bad(255, source_id) || bad_time(*until) || posting.description.is_some()
        }
        Kind::Opening(Opening::Points { id, source, expires_at, paid }) => {
            bad(255, id)
                || bad(64, source)
                || expires_at.is_some_and(bad_time)
                || paid.is_some_and(|paid| paid.amount < 0 || paid.amount > MAX_PAID || source == PROMOTIONAL)
        }
        Kind::Refund { .. } | Kind::Void { .. } | Kind::Opening(Opening::Debt) => false,
        Kind::Release { .. } => posting.points.is_some() || posting.key.is_some() || posting.description.is_some(),
    } || posting_named(posting).is_some_and(|reference| match reference {
        Reference::Key(key) => bad(255, &key),
        Reference::Work { source_type, source_id } => bad(64, &source_type) || bad(255, &source_id),
        Reference::Order { source, .. } => bad(64, &source),
    }) || posting.key.as_ref().is_some_and(|key| bad(255, key))
        || posting.description.as_ref().is_some_and(|text| longest_and_text(1_000, text))
        || bad_time(posting.at);
    let sources = BTreeSet::from(SOURCES);
    if malformed {
        Some("malformed")
    } else if posting.points.is_some_and(|points| !(1..=1_000_000_000_000).contains(&points)) {
        Some("invalid_points")
    } else if posting.at > super::at("2900-01-01T00:00:00Z") {
        Some("from_the_future")
    } else if matches!(&posting.kind, Kind::Recharge { source, .. } | Kind::Opening(Opening::Points { source, .. })
        if !sources.contains(source.as_str()))
    {
        Some("unknown_source")
    } else {
        None
    }
}

fn posting_named(posting: &Posting) -> Option<Reference> {
    match &posting.kind {
        Kind::Refund { consume } => Some(consume.clone()),
        Kind::Void { recharge, .. } => Some(recharge.clone()),
        Kind::Release { hold } => Some(hold.clone()),
        _ => None,
    }
}

fn beyond_used(posting: &Posting) -> bool {
    !matches!(posting.kind, Kind::Void { beyond: Beyond::Remaining, .. })
}

/// The fields here have no colons; what happens to those has a test of its own.
fn text_of(reference: &Reference) -> String {
    match reference {
        Reference::Key(key) => key.clone(),
        Reference::Work { source_type, source_id } => format!("consume:{source_type}:{source_id}"),
        Reference::Order { source, order_id } => format!("recharge:{source}:{order_id}"),
    }
}

fn key_of(posting: &Posting) -> Uuid {
    let text = posting.key.clone().unwrap_or_else(|| match &posting.kind {
        Kind::Recharge { source, order_id, .. } => format!("recharge:{source}:{}", order_id.unwrap()),
        Kind::Consume { source_type, source_id, .. } | Kind::Hold { source_type, source_id, .. } => {
            format!("consume:{source_type}:{source_id}")
        }
        Kind::Refund { consume } => format!("refund:{}", text_of(consume)),
        Kind::Void { recharge, .. } => format!("void:{}", text_of(recharge)),
        Kind::Release { hold } => text_of(hold),
        Kind::Opening(Opening::Points { id, .. }) => format!("opening:{id}"),
        Kind::Opening(Opening::Debt) => "debt:opening".to_owned(),
    });
    sixteen_bytes(posting.user, &text)
}

/// What stands in the database for a key never changes, or a retry from before an upgrade would be posted again.
fn sixteen_bytes(user: Uuid, key: &str) -> Uuid {
    let hash = Sha256::digest([user.as_bytes(), key.as_bytes()].concat());
    Uuid::from_slice(&[&user.as_bytes()[..4], &hash[..12]].concat()).unwrap()
}

fn kind_of(posting: &Posting) -> EntryType {
    match posting.kind {
        Kind::Recharge { .. } => EntryType::Recharge,
        Kind::Refund { .. } => EntryType::Refund,
        Kind::Void { .. } => EntryType::Void,
        Kind::Opening(_) => EntryType::Opening,
        Kind::Consume { .. } | Kind::Hold { .. } | Kind::Release { .. } => EntryType::Consume,
    }
}

fn source_type_of(posting: &Posting) -> String {
    match &posting.kind {
        Kind::Recharge { source, .. } | Kind::Opening(Opening::Points { source, .. }) => source.clone(),
        Kind::Opening(Opening::Debt) => "opening".to_owned(),
        Kind::Consume { source_type, .. } | Kind::Hold { source_type, .. } => source_type.clone(),
        _ => String::new(),
    }
}

fn source_id_of(posting: &Posting) -> Option<String> {
    match &posting.kind {
        Kind::Recharge { order_id, .. } => order_id.map(|order| order.to_string()),
        Kind::Opening(Opening::Points { id, .. }) => Some(id.clone()),
        Kind::Consume { source_id, .. } | Kind::Hold { source_id, .. } => Some(source_id.clone()),
        _ => None,
    }
}

/// To the microsecond, downwards.
fn cut(time: DateTime<Utc>) -> DateTime<Utc> {
    time - TimeDelta::nanoseconds(i64::from(time.timestamp_subsec_nanos() % 1_000))
}
