//! The rules of the ledger as a pure state machine. It applies postings, one after the other, to loaded accounts. It does no
//! I/O and reads no clock, so it cannot fail half way.
//!
//! Every rule about points stands here. The sweep's statement repeats the rule of expiry, `pointsd.hold` the rule of holds, and
//! tests hold them together.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::holds::{Hold, HoldState};
use super::money::Money;
use super::posting::{Beyond, Kind, OPENING_DEBT, Opening, Posting};
use super::reply::{Allocation, Asked, Entry, EntryType, KeyHolder, Opened, Posted, Refusal, Reply};
use super::rules::{DRAWING_RULE, REFUND_SOURCE, Rules};
use crate::numbers::MAX_POINTS;
use crate::time::to_microsecond;

/// How far a posting's `at` may be ahead of the database's clock. Clocks of different machines differ a little.
pub const CLOCK_TOLERANCE: TimeDelta = TimeDelta::minutes(5);

/// An account as it was loaded and as the group leaves it.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub user: Uuid,
    /// Whether the database has a row for it.
    pub stored: bool,
    pub balance: i64,
    pub total_recharged: i64,
    pub total_consumed: i64,
    /// Net of what was restored.
    pub total_expired: i64,
    pub total_refunded: i64,
    pub total_voided: i64,
    /// No posting changes it. It is loaded for readers.
    pub total_adjusted: i64,
    /// What the account brought along from elsewhere; below zero a debt.
    pub total_opening: i64,
    pub last_seq: i64,
    pub last_batch: i32,
    /// The latest `expires_at` of a batch that expired with points in it. A consume from before it may restore some.
    pub expired_until: Option<DateTime<Utc>>,
    /// Holds that no consume and no release has ended.
    pub open_holds: i32,
    /// In drawing order. No points remain in those before `first_open`.
    batches: Vec<Batch>,
    first_open: usize,
    holds: Vec<LoadedHold>,
    /// Whether the database has an entry of it. It is told where a group names one.
    pub has_entries: bool,
    /// Points by which refunds and voids took back earlier entries, by the number of the entry.
    returned: HashMap<i64, i64>,
    change: Change,
}

/// How much of an account's row a group changes. The statement for the common change names fewer columns, which is faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    Nothing,
    /// The columns that a recharge or a consume changes.
    Common,
    /// Any column.
    Any,
}

/// A batch that was loaded, or that the group opened.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub batch: i32,
    pub amount: i64,
    pub remaining: i64,
    /// Points that expired, less those that were restored.
    pub expired: i64,
    pub source: String,
    pub opened_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    /// Its price, where it has one.
    pub paid: Option<Money>,
    pub state: BatchState,
}

/// What the store step does with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BatchState {
    Unchanged,
    /// Points were drawn.
    Drawn,
    /// Points expired or were restored.
    Changed,
    New,
}

/// A hold, the sixteen bytes of its key, and whether the group changed it.
#[derive(Clone, Debug)]
pub(crate) struct LoadedHold {
    pub key: Uuid,
    pub hold: Hold,
    pub changed: bool,
}

/// The outcome of a group of postings.
#[derive(Debug, Default)]
pub(crate) struct Decision {
    /// New entries, in the order in which they are to be written.
    pub entries: Vec<Entry>,
    /// The replies, one for each posting, in order.
    pub replies: Vec<Reply>,
    /// Whether a posting changed anything: an entry or a hold.
    pub changed: bool,
}

/// The entries that the database has under the keys of a group, by [`Posting::key_id`].
pub(crate) type KnownKeys = HashMap<Uuid, Entry>;

/// A posting that passed the rules which need no account, with what it names.
struct Asking<'a> {
    posting: &'a Posting,
    key: Uuid,
    /// The posting's time, to the microsecond.
    at: DateTime<Utc>,
    /// The database's clock, where it is known.
    now: Option<DateTime<Utc>>,
    /// The entry that a refund or a void names.
    named: Option<Entry>,
    rules: &'a Rules,
}

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
            total_refunded: 0,
            total_voided: 0,
            total_adjusted: 0,
            total_opening: 0,
            last_seq: 0,
            last_batch: 0,
            expired_until: None,
            open_holds: 0,
            batches: Vec::new(),
            first_open: 0,
            holds: Vec::new(),
            has_entries: false,
            returned: HashMap::new(),
            change: Change::Nothing,
        }
    }

    /// Gives the account batches, in any order: first the open ones, then others that its postings need.
    pub fn load_batches(&mut self, batches: Vec<Batch>) {
        self.batches.extend(batches);
        self.batches.sort_unstable_by_key(|batch| (batch.expires_at, batch.batch));
        // A batch may be loaded for more than one reason.
        self.batches.dedup_by_key(|batch| batch.batch);
    }

    /// Gives the account a hold that its postings need. Each is loaded once.
    pub fn load_hold(&mut self, key: Uuid, hold: Hold) {
        self.holds.push(LoadedHold { key, hold, changed: false });
    }

    /// Tells the account how many points of an entry refunds or voids have taken back.
    pub fn load_returned(&mut self, seq: i64, points: i64) {
        self.returned.insert(seq, points);
    }

    /// Whether there are batches, holds or entries without the account's own row: another transaction opened the account during the load, or the
    /// row was deleted by hand.
    pub fn is_orphaned(&self) -> bool {
        let is_empty = self.batches.is_empty() && self.holds.is_empty() && !self.has_entries;
        !self.stored && self.change == Change::Nothing && !is_empty
    }

    /// What the group's entries and holds change of it.
    pub fn change(&self) -> Change {
        self.change
    }

    /// Batches that the group touched or opened, and others that were loaded.
    pub fn batches(&self) -> &[Batch] {
        &self.batches
    }

    /// Holds that the group made, moved or ended.
    pub fn changed_holds(&self) -> impl Iterator<Item = &LoadedHold> {
        self.holds.iter().filter(|hold| hold.changed)
    }

    /// Posts a posting whose key is new: refuses it, or expires the batches that are due and writes it.
    fn post(&mut self, asking: &Asking, entries: &mut Vec<Entry>) -> Result<Posted, Refusal> {
        let begin = entries.len();
        match &asking.posting.kind {
            Kind::Recharge { source, expires_at, paid, .. } => {
                self.post_recharge(asking, source, *expires_at, *paid, entries)
            }
            Kind::Consume { source_type, .. } => self.post_consume(asking, source_type, entries),
            Kind::Refund { .. } => self.post_refund(asking, entries),
            Kind::Void { beyond, .. } => self.post_void(asking, *beyond, entries),
            Kind::Opening(opening) => self.post_opening(asking, opening, entries),
            // Holds and releases write no entry: see `hold` and `release`.
            Kind::Hold { .. } | Kind::Release { .. } => Err(Refusal::Malformed("it writes no entry".to_owned())),
        }?;
        Posted::new(entries.get(begin..).unwrap_or_default())
            .ok_or_else(|| Refusal::Malformed("it wrote no entry".to_owned()))
    }

    fn post_recharge(
        &mut self,
        asking: &Asking,
        source: &str,
        expires_at: Option<DateTime<Utc>>,
        paid: Option<Money>,
        entries: &mut Vec<Entry>,
    ) -> Result<(), Refusal> {
        let (at, points) = (asking.at, asking.points()?);
        let expires_at = asking.expires_at(source, expires_at)?;
        if expires_at <= at {
            return Err(Refusal::AlreadyExpired { ends: expires_at, at });
        }
        let total = self.total_recharged.checked_add(points).ok_or(Refusal::AccountFull)?;
        total.checked_add(self.total_opening).ok_or(Refusal::AccountFull)?;
        self.check_room_for_batches(1)?;
        self.expire(at, entries);
        self.total_recharged = total;
        let batch = NewBatch { points, source, at, expires_at, paid };
        let entry = self.open_batch(EntryType::Recharge, &batch);
        entries.push(asking.sign(entry));
        Ok(())
    }

    /// Takes over what the account has elsewhere. Nothing expires on the way: an opening is dated long ago, and draws nothing.
    fn post_opening(&mut self, asking: &Asking, opening: &Opening, entries: &mut Vec<Entry>) -> Result<(), Refusal> {
        let (at, points) = (asking.at, asking.points()?);
        self.check_opening(opening)?;
        let entry = match opening {
            Opening::Points { source, expires_at, paid, .. } => {
                let expires_at = asking.expires_at(source, *expires_at)?;
                if expires_at <= asking.now.map_or(at, |now| now.max(at)) {
                    return Err(Refusal::ExpiredElsewhere { ends: expires_at });
                }
                let total = self.total_opening.checked_add(points).ok_or(Refusal::AccountFull)?;
                self.check_room_for_batches(1)?;
                self.total_opening = total;
                self.open_batch(EntryType::Opening, &NewBatch { points, source, at, expires_at, paid: *paid })
            }
            Opening::Debt if self.is_orphaned() => return Err(Refusal::AccountMissing),
            Opening::Debt => {
                self.total_opening = -points;
                self.entry_moving(-points, EntryType::Opening, OPENING_DEBT, at)
            }
        };
        entries.push(asking.sign(entry));
        Ok(())
    }

    /// Refuses an opening after other entries than openings and the expiry of their batches, and one beside an opening of the other
    /// form: a balance has one sign.
    fn check_opening(&self, opening: &Opening) -> Result<(), Refusal> {
        let others =
            [self.total_recharged, self.total_consumed, self.total_refunded, self.total_voided, self.total_adjusted];
        let refused = match opening {
            _ if others.iter().any(|total| *total != 0) => Opened::Used { entries: self.last_seq },
            Opening::Points { .. } if self.total_opening < 0 => {
                Opened::DebtBeforePoints { debt: self.total_opening.saturating_neg() }
            }
            Opening::Debt if self.total_opening < 0 => {
                Opened::Debt { debt: self.total_opening.saturating_neg(), at: None }
            }
            Opening::Debt if self.last_seq > 0 => Opened::PointsBeforeDebt { points: self.total_opening },
            _ => return Ok(()),
        };
        Err(Refusal::AlreadyOpen(refused))
    }

    fn post_consume(&mut self, asking: &Asking, source_type: &str, entries: &mut Vec<Entry>) -> Result<(), Refusal> {
        let points = asking.points()?;
        let total = self.total_consumed.checked_add(points).ok_or(Refusal::AccountFull)?;
        total.checked_sub(self.total_opening).ok_or(Refusal::AccountFull)?;
        if self.is_orphaned() {
            return Err(Refusal::AccountMissing);
        }
        let hold = self.open_hold(asking.key).map(|hold| hold.hold.at);
        // What was alive when the work began pays for it.
        let at = hold.map_or(asking.at, |held_at| held_at.min(asking.at));
        self.expire(at, entries);
        self.total_consumed = total;
        let entry = self.consume(points, source_type, at, entries);
        if hold.is_some() {
            self.end_hold(asking.key, HoldState::Captured, Some(entry.seq));
        }
        entries.push(asking.sign(entry));
        Ok(())
    }

    /// Gives back what was drawn last first. Each part opens a batch of its own, as a recharge does, so that arrears are settled
    /// first and the points do not come back expired.
    fn post_refund(&mut self, asking: &Asking, entries: &mut Vec<Entry>) -> Result<(), Refusal> {
        let consume = asking.named(EntryType::Consume)?;
        let returned = self.returned.get(&consume.seq).copied().unwrap_or_default();
        let left = consume.amount.saturating_sub(returned);
        let points = asking.posting.points.unwrap_or(left);
        if points > left || left <= 0 {
            return Err(Refusal::ExceedsConsumed { seq: consume.seq, left: left.max(0) });
        }
        let parts = self.parts_to_refund(asking, consume, returned, points)?;
        let total = self.total_refunded.checked_add(points).ok_or(Refusal::AccountFull)?;
        self.check_room_for_batches(parts.len())?;
        self.expire(asking.at, entries);
        self.total_refunded = total;
        self.returned.insert(consume.seq, returned + points);
        let mut asked = Some(asking.asked(points, parts.len()));
        for part in parts {
            let RefundPart { points, ref source, expires_at, paid } = part;
            let batch = NewBatch { points, source, at: asking.at, expires_at, paid };
            let mut entry = self.open_batch(EntryType::Refund, &batch);
            entry.refers_to = Some(consume.seq);
            entry.asked = asked.take();
            let signed = asking.sign(entry);
            // The first entry stands for the posting.
            let key = signed.asked.is_some().then_some(asking.key);
            entries.push(Entry { source_id: consume.source_id.clone(), key, ..signed });
        }
        Ok(())
    }

    /// The parts in which `points` of a consume come back, after `returned` that came back before.
    fn parts_to_refund(
        &self,
        asking: &Asking,
        consume: &Entry,
        returned: i64,
        points: i64,
    ) -> Result<Vec<RefundPart>, Refusal> {
        let covered: i64 = consume.allocations.iter().map(|part| part.points).sum();
        let uncovered = Allocation { batch: 0, points: consume.amount - covered, paid: None };
        let (mut skip, mut wanted, mut parts) = (returned, points, Vec::new());
        for part in std::iter::once(&uncovered).chain(consume.allocations.iter().rev()) {
            let skipped = skip.min(part.points);
            skip -= skipped;
            let points = wanted.min(part.points - skipped);
            if points <= 0 {
                continue;
            }
            wanted -= points;
            let least = asking.rules.refund_expires_at(asking.at);
            let part = if part.batch == 0 {
                let expires_at = asking.rules.expires_at(REFUND_SOURCE, asking.at).unwrap_or(least);
                RefundPart { points, source: REFUND_SOURCE.to_owned(), expires_at: expires_at.max(least), paid: None }
            } else {
                let drawn = self.batches.iter().find(|batch| batch.batch == part.batch);
                let drawn = drawn.ok_or_else(|| Refusal::UnknownEntry(format!("batch {}", part.batch)))?;
                // What the part had released. The recognised use is taken back, and deferred again.
                let released = drawn.paid.zip(part.paid).map(|(price, released)| price.with(released));
                let paid = released.map(|money| money.with(money.part(skipped, points, part.points)));
                let expires_at = drawn.expires_at.max(least);
                RefundPart { points, source: drawn.source.clone(), expires_at, paid }
            };
            parts.push(part);
        }
        Ok(parts)
    }

    /// Takes points of a recharge back: from its own batch first, then as a consume would.
    fn post_void(&mut self, asking: &Asking, beyond: Beyond, entries: &mut Vec<Entry>) -> Result<(), Refusal> {
        let recharge = asking.named(EntryType::Recharge)?;
        let own = self.batches.iter().find(|batch| Some(batch.batch) == recharge.batch);
        let own = own.ok_or_else(|| Refusal::UnknownEntry(format!("the batch of entry {}", recharge.seq)))?;
        let returned = self.returned.get(&recharge.seq).copied().unwrap_or_default();
        let (due, remaining) = if own.expires_at <= asking.at { (own.remaining, 0) } else { (0, own.remaining) };
        let lost = returned.saturating_add(own.expired).saturating_add(due);
        let not_lost = own.amount.saturating_sub(lost).max(0);
        let most = match beyond {
            Beyond::Used => not_lost,
            Beyond::Remaining => remaining.min(not_lost),
        };
        let points = asking.posting.points.unwrap_or(most);
        if most == 0 {
            return Err(Refusal::NothingLeft { seq: recharge.seq });
        }
        if points > most {
            return Err(Refusal::ExceedsRecharge { seq: recharge.seq, most });
        }
        // By what was voided of it alone: with what expires, the parts come to its price.
        let paid = own.paid.map(|price| price.with(price.part(returned, points, own.amount)));
        let own = own.batch;
        let total = self.total_voided.checked_add(points).ok_or(Refusal::AccountFull)?;
        if self.is_orphaned() {
            return Err(Refusal::AccountMissing);
        }
        self.expire(asking.at, entries);
        self.total_voided = total;
        self.returned.insert(recharge.seq, returned + points);
        let allocations = self.draw_first_from(own, points);
        let mut entry = self.entry(EntryType::Void, points, &recharge.source_type, asking.at);
        entry.allocations = allocations;
        entry.refers_to = Some(recharge.seq);
        entry.asked = Some(asking.asked(points, 1));
        (entry.paid, entry.currency) = paid.map(|paid| (paid.amount, paid.currency)).unzip();
        entries.push(Entry { source_id: recharge.source_id.clone(), ..asking.sign(entry) });
        Ok(())
    }

    /// Reserves points. Nothing is drawn, expired or written to the history.
    fn hold(&mut self, asking: &Asking, until: DateTime<Utc>) -> Result<Reply, Refusal> {
        let (at, until, points) = (asking.at, to_microsecond(until), asking.points()?);
        let earlier = self.holds.iter().position(|loaded| loaded.key == asking.key);
        let earlier = earlier.and_then(|index| self.holds.get_mut(index));
        if let Some(LoadedHold { hold, .. }) = &earlier {
            let same = hold.state == HoldState::Open && hold.points == points && hold.is_for(asking.posting);
            if !same {
                let holder = KeyHolder::Hold { points: hold.points, state: hold.state };
                return Err(Refusal::KeyConflict { named: asking.posting.named(), holder });
            }
        }
        if until <= at {
            return Err(Refusal::AlreadyExpired { ends: until, at });
        }
        if let Some(standing) = earlier.filter(|earlier| earlier.hold.until > at) {
            // Asked again, it may end later, never earlier.
            if until > standing.hold.until {
                (standing.hold.until, standing.changed, self.change) = (until, true, Change::Any);
            }
            return Ok(Reply::HeldBefore(standing.hold.clone()));
        }
        let available = self.available(at);
        if self.balance < 0 || available < points {
            return Err(Refusal::Insufficient { points, available, balance: self.balance });
        }
        if self.is_orphaned() {
            return Err(Refusal::AccountMissing);
        }
        let Some(hold) = Hold::asked_by(asking.posting, points, at, until) else {
            return Err(Refusal::Malformed("it asks for no hold".to_owned()));
        };
        self.change = Change::Any;
        let made = LoadedHold { key: asking.key, hold: hold.clone(), changed: true };
        match self.holds.iter_mut().find(|loaded| loaded.key == asking.key) {
            // One that was over by time is asked for anew.
            Some(over) => *over = made,
            None => {
                self.open_holds = self.open_holds.checked_add(1).ok_or(Refusal::AccountFull)?;
                self.holds.push(made);
            }
        }
        Ok(Reply::Held(hold))
    }

    fn release(&mut self, posting: &Posting, key: Uuid) -> Result<Reply, Refusal> {
        let hold = self.holds.iter().find(|loaded| loaded.key == key).map(|loaded| loaded.hold.clone());
        let hold = hold.ok_or(Refusal::UnknownHold)?;
        match hold.state {
            HoldState::Captured => {
                let holder = KeyHolder::Hold { points: hold.points, state: HoldState::Captured };
                Err(Refusal::KeyConflict { named: posting.named(), holder })
            }
            HoldState::Released => Ok(Reply::ReleasedBefore(hold)),
            HoldState::Open if self.is_orphaned() => Err(Refusal::AccountMissing),
            HoldState::Open => {
                self.end_hold(key, HoldState::Released, None);
                Ok(Reply::Released(Hold { state: HoldState::Released, ..hold }))
            }
        }
    }

    fn open_hold(&self, key: Uuid) -> Option<&LoadedHold> {
        self.holds.iter().find(|loaded| loaded.key == key && loaded.hold.state == HoldState::Open)
    }

    /// Refuses a key that an open hold has: the consume of that hold needs it.
    fn check_key_is_free(&self, posting: &Posting, key: Uuid) -> Result<(), Refusal> {
        match self.open_hold(key).map(|loaded| &loaded.hold) {
            Some(hold) => {
                let holder = KeyHolder::Hold { points: hold.points, state: hold.state };
                Err(Refusal::KeyConflict { named: posting.named(), holder })
            }
            None => Ok(()),
        }
    }

    fn end_hold(&mut self, key: Uuid, state: HoldState, seq: Option<i64>) {
        if let Some(loaded) = self.holds.iter_mut().find(|loaded| loaded.key == key) {
            (loaded.hold.state, loaded.hold.seq, loaded.changed) = (state, seq, true);
            self.open_holds -= 1;
            self.change = Change::Any;
        }
    }

    /// Points that a hold or a check may count on: alive at `at`, and not reserved by a hold that stands then.
    fn available(&self, at: DateTime<Utc>) -> i64 {
        if self.balance < 0 {
            return 0;
        }
        let alive = self.batches.iter().filter(|batch| batch.expires_at > at).map(|batch| batch.remaining);
        let alive = alive.fold(0, i64::saturating_add);
        let standing = self.holds.iter().filter(|loaded| loaded.hold.stands_at(at)).map(|loaded| loaded.hold.points);
        alive.saturating_sub(standing.fold(0, i64::saturating_add)).max(0)
    }

    fn check_room_for_batches(&self, count: usize) -> Result<(), Refusal> {
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        self.last_batch.checked_add(count).ok_or(Refusal::AccountFull)?;
        if self.is_orphaned() { Err(Refusal::AccountMissing) } else { Ok(()) }
    }

    /// Expires what is due at `at`, one entry a batch, in drawing order.
    fn expire(&mut self, at: DateTime<Utc>, entries: &mut Vec<Entry>) {
        while let Some(due) = self.batches.get_mut(self.first_open).filter(|batch| batch.expires_at <= at) {
            self.first_open += 1;
            if due.remaining == 0 {
                continue;
            }
            let part = due.take(due.remaining);
            due.expired += part.points;
            due.change();
            let source = due.source.clone();
            self.expired_until = self.expired_until.max(Some(due.expires_at));
            self.total_expired += part.points;
            let mut entry = self.entry(EntryType::Expire, part.points, &source, at);
            entry.allocations.push(part);
            entries.push(entry);
        }
    }

    /// Opens a batch. Arrears are settled from it first. Otherwise a debt would be paid twice: through the balance, and again
    /// when the batch, still full on paper, expires.
    fn open_batch(&mut self, kind: EntryType, new: &NewBatch) -> Entry {
        let settled = new.points.min(arrears(self.balance));
        self.last_batch += 1;
        let mut batch = Batch {
            batch: self.last_batch,
            amount: new.points,
            remaining: new.points,
            expired: 0,
            source: new.source.to_owned(),
            opened_at: new.at,
            expires_at: new.expires_at,
            paid: new.paid,
            state: BatchState::New,
        };
        let settled = batch.take(settled);
        // The new batch has the highest number, so it comes after all that expire at the same instant.
        let place = self.batches.partition_point(|other| other.expires_at <= new.expires_at);
        if batch.remaining > 0 {
            self.first_open = self.first_open.min(place);
        } else if place <= self.first_open {
            self.first_open += 1;
        }
        self.batches.insert(place, batch);
        let mut entry = self.entry(kind, new.points, new.source, new.at);
        entry.batch = Some(self.last_batch);
        (entry.paid, entry.currency) = new.paid.map(|paid| (paid.amount, paid.currency)).unzip();
        if settled.points > 0 {
            entry.allocations.push(settled);
        }
        entry
    }

    /// Draws from batches that were alive at `at`, in drawing order. Points that expired meanwhile are restored first, just as many
    /// as are needed. Points that no batch covers become arrears.
    fn consume(&mut self, points: i64, source_type: &str, at: DateTime<Utc>, entries: &mut Vec<Entry>) -> Entry {
        let is_late = self.expired_until.is_some_and(|until| until > at);
        let mut index =
            if is_late { self.batches.partition_point(|batch| batch.expires_at <= at) } else { self.first_open };
        let (mut wanted, mut allocations) = (points, Vec::new());
        while let Some(batch) = self.batches.get_mut(index).filter(|_| wanted > 0) {
            index += 1;
            let missing = (wanted - batch.remaining).max(0);
            let restored = if is_late { missing.min(batch.expired) } else { 0 };
            let drawn = wanted.min(batch.remaining + restored);
            if drawn == 0 {
                continue;
            }
            wanted -= drawn;
            if restored == 0 {
                allocations.push(batch.take(drawn));
            } else {
                let (put_back, part) = batch.restore_and_take(restored, drawn);
                allocations.push(part);
                let source = batch.source.clone();
                self.total_expired -= restored;
                let mut entry = self.entry(EntryType::Restore, restored, &source, at);
                entry.allocations.push(put_back);
                entries.push(entry);
            }
        }
        self.skip_empty_batches();
        let mut entry = self.entry(EntryType::Consume, points, source_type, at);
        entry.allocations = allocations;
        entry
    }

    /// Draws from the batch `own`, then from the other open batches in drawing order.
    fn draw_first_from(&mut self, own: i32, points: i64) -> Vec<Allocation> {
        let (mut wanted, mut allocations) = (points, Vec::new());
        let mut draw = |batch: &mut Batch| {
            let drawn = wanted.min(batch.remaining);
            if drawn > 0 {
                wanted -= drawn;
                allocations.push(batch.take(drawn));
            }
        };
        self.batches.iter_mut().filter(|batch| batch.batch == own).for_each(&mut draw);
        self.batches.iter_mut().skip(self.first_open).for_each(&mut draw);
        self.skip_empty_batches();
        allocations
    }

    fn skip_empty_batches(&mut self) {
        while self.batches.get(self.first_open).is_some_and(|batch| batch.remaining == 0) {
            self.first_open += 1;
        }
    }

    /// Takes the next number in the account's history and moves its balance.
    fn entry(&mut self, kind: EntryType, amount: i64, source_type: &str, at: DateTime<Utc>) -> Entry {
        self.entry_moving(if kind.adds() { amount } else { -amount }, kind, source_type, at)
    }

    /// The same, of points that move the balance up, or down where they are below zero.
    fn entry_moving(&mut self, moved: i64, kind: EntryType, source_type: &str, at: DateTime<Utc>) -> Entry {
        let balance_before = self.balance;
        self.balance = balance_before + moved;
        self.last_seq += 1;
        self.change = self.change.max(match kind {
            EntryType::Recharge | EntryType::Consume => Change::Common,
            _ => Change::Any,
        });
        Entry {
            user: self.user,
            seq: self.last_seq,
            kind,
            amount: moved.abs(),
            balance_before,
            balance_after: self.balance,
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
            drawing_rule: DRAWING_RULE,
        }
    }
}

/// What an account with this balance owes.
pub(super) fn arrears(balance: i64) -> i64 {
    balance.min(0).saturating_neg()
}

/// A batch to be opened.
struct NewBatch<'a> {
    points: i64,
    source: &'a str,
    at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    paid: Option<Money>,
}

/// A part of a refund: the batch that it opens.
struct RefundPart {
    points: i64,
    source: String,
    expires_at: DateTime<Utc>,
    paid: Option<Money>,
}

impl Batch {
    /// Takes points out. They release what the price's share of all points that are gone grows by.
    fn take(&mut self, points: i64) -> Allocation {
        let gone = self.amount - self.remaining;
        self.remaining -= points;
        if self.state == BatchState::Unchanged {
            self.state = BatchState::Drawn;
        }
        Allocation { batch: self.batch, points, paid: self.paid.map(|price| price.part(gone, points, self.amount)) }
    }

    /// Puts expired points back and takes `drawn`: these among them, and others. The restore gives back what these points had released by
    /// their expiry, so the draw releases it, and what it releases beyond.
    fn restore_and_take(&mut self, restored: i64, drawn: i64) -> (Allocation, Allocation) {
        let expired = |points| self.paid.map(|price| price.rest(points, self.amount));
        let (before, after) = (expired(self.expired), expired(self.expired - restored));
        let given_back = before.zip(after).map(|(before, after)| before - after);
        self.expired -= restored;
        self.change();
        let part = self.take(drawn - restored);
        let released = part.paid.zip(given_back).map(|(released, given_back)| released + given_back);
        let put_back = Allocation { batch: self.batch, points: restored, paid: given_back };
        (put_back, Allocation { points: drawn, paid: released, ..part })
    }

    fn change(&mut self) {
        if self.state != BatchState::New {
            self.state = BatchState::Changed;
        }
    }
}

impl Asking<'_> {
    fn points(&self) -> Result<i64, Refusal> {
        self.posting.points.ok_or_else(|| Refusal::Malformed("points is missing".to_owned()))
    }

    /// When a batch from `source` expires: at the time that the posting gives, or after the source's term.
    fn expires_at(&self, source: &str, given: Option<DateTime<Utc>>) -> Result<DateTime<Utc>, Refusal> {
        match given {
            Some(expires_at) => Ok(to_microsecond(expires_at)),
            None => self.rules.expires_at(source, self.at).ok_or_else(|| {
                Refusal::Malformed("the batch would live beyond the year 9999: give it an expires_at".to_owned())
            }),
        }
    }

    /// The entry that a refund or a void names, if it is of the right type.
    fn named(&self, kind: EntryType) -> Result<&Entry, Refusal> {
        let named = self.named.as_ref().filter(|entry| entry.kind == kind);
        if let Some(entry) = named.filter(|entry| entry.is_of_another_service()) {
            return Err(Refusal::BeforeTheLedger { kind, at: entry.at });
        }
        named.ok_or_else(|| {
            let named = self.posting.reference().map(super::Reference::named).unwrap_or_default();
            Refusal::UnknownEntry(format!("{kind} with {named}"))
        })
    }

    /// What the first entry of a refund or a void keeps of its posting.
    fn asked(&self, posted: i64, entries: usize) -> Asked {
        let beyond_used = !matches!(self.posting.kind, Kind::Void { beyond: Beyond::Remaining, .. });
        Asked { points: self.posting.points, beyond_used, posted, entries: i64::try_from(entries).unwrap_or(i64::MAX) }
    }

    /// Puts what the posting says into an entry.
    fn sign(&self, mut entry: Entry) -> Entry {
        if let Kind::Consume { duration, .. } = &self.posting.kind {
            entry.duration = *duration;
        }
        entry.key = Some(self.key);
        entry.source_id = self.posting.source_id();
        entry.description = self.posting.description.clone();
        entry
    }
}

/// Applies `postings` in order to `accounts`. These are sorted by user, and hold the users of all postings that are not
/// refused on sight.
///
/// `keys` are the postings' keys, one each, as [`Posting::key_id`] gives them; `known` the entries that the database
/// has under any of them, or under a key that a refund or a void names. `now` is the database's clock; without it nothing is
/// refused for its date.
pub(crate) fn decide(
    accounts: &mut [Account],
    known: &KnownKeys,
    postings: &[Posting],
    keys: &[Option<Uuid>],
    rules: &Rules,
    now: Option<DateTime<Utc>>,
) -> Decision {
    let mut entries = Vec::with_capacity(postings.len());
    let mut posted_here: HashMap<Uuid, usize> = HashMap::with_capacity(postings.len());
    let reply_to = |(posting, key): (&Posting, &Option<Uuid>)| {
        if let Some(refusal) = refuse_on_sight(posting, rules, now) {
            return Err(refusal);
        }
        let account = accounts
            .binary_search_by_key(&posting.user, |account| account.user)
            .ok()
            .and_then(|index| accounts.get_mut(index));
        let (Some(account), Some(key)) = (account, *key) else {
            return Err(Refusal::Malformed("the posting has no account or no key".to_owned()));
        };
        let find = |key: &Uuid, entries: &[Entry]| {
            known.get(key).or_else(|| posted_here.get(key).and_then(|index| entries.get(*index))).cloned()
        };
        let named = posting.reference_id().and_then(|reference| find(&reference, &entries));
        let asking = Asking { posting, key, at: to_microsecond(posting.at), now, named, rules };
        if let Kind::Release { .. } = &posting.kind {
            return account.release(posting, key);
        }
        // A replay changes nothing, so nothing expires on its account either.
        if let Some(first) = find(&key, &entries) {
            return replay(first, &asking);
        }
        match &posting.kind {
            Kind::Hold { until, .. } => return account.hold(&asking, *until),
            Kind::Consume { .. } => {}
            _ => account.check_key_is_free(posting, key)?,
        }
        let place = entries.len();
        let posted = account.post(&asking, &mut entries)?;
        let written = entries.get(place..).unwrap_or_default();
        let first = written.iter().position(|entry| entry.key == Some(key)).unwrap_or_default();
        posted_here.insert(key, place + first);
        Ok(Reply::Posted(posted))
    };
    let replies = postings.iter().zip(keys).map(reply_to).map(|reply| reply.unwrap_or_else(Reply::Rejected)).collect();
    let changed = accounts.iter().any(|account| account.change() > Change::Nothing);
    Decision { entries, replies, changed }
}

/// The refusal of a posting, if it needs neither an account nor a clock to be known.
pub(super) fn refuse_without_clock(posting: &Posting) -> Option<Refusal> {
    malformed(posting).or_else(|| invalid_points(posting))
}

fn malformed(posting: &Posting) -> Option<Refusal> {
    posting.malformed().map(Refusal::Malformed)
}

fn invalid_points(posting: &Posting) -> Option<Refusal> {
    posting.points.filter(|points| !(1..=MAX_POINTS).contains(points)).map(Refusal::InvalidPoints)
}

/// The refusal of a price for points that are a present.
fn priced_present(posting: &Posting, rules: &Rules) -> Option<Refusal> {
    let (what, source) = match &posting.kind {
        Kind::Recharge { source, paid: Some(_), .. } => ("a recharge", source),
        Kind::Opening(Opening::Points { source, paid: Some(_), .. }) => ("points", source),
        _ => return None,
    };
    rules.promotional.contains(source).then(|| {
        let why = format!("paid does not belong to {what} from the promotional source");
        Refusal::Malformed(format!("{why} `{source}`: leave it out, or name the source that was paid"))
    })
}

/// The refusal of a posting, if it needs no account to be known. `now` is the database's clock; `None` only where every posting of the
/// group is refused without it.
fn refuse_on_sight(posting: &Posting, rules: &Rules, now: Option<DateTime<Utc>>) -> Option<Refusal> {
    if let Some(refusal) =
        malformed(posting).or_else(|| priced_present(posting, rules)).or_else(|| invalid_points(posting))
    {
        return Some(refusal);
    }
    if let Some(now) = now
        && posting.at.signed_duration_since(now) > CLOCK_TOLERANCE
    {
        return Some(Refusal::FromTheFuture { at: posting.at, now });
    }
    match &posting.kind {
        Kind::Recharge { source, .. } | Kind::Opening(Opening::Points { source, .. })
            if !rules.sources.contains_key(source) =>
        {
            Some(Refusal::UnknownSource(source.clone()))
        }
        _ => None,
    }
}

/// The answer to a posting whose key belongs to an entry: that entry again, or a refusal where the content is another. Content is
/// kind, points, and what the posting names.
fn replay(first: Entry, asking: &Asking) -> Result<Reply, Refusal> {
    let posting = asking.posting;
    let is_named = || asking.named.as_ref().is_some_and(|named| first.refers_to == Some(named.seq));
    let same = match (&posting.kind, first.kind) {
        // The key has the source in it, which the other service may have called by another name.
        (Kind::Recharge { .. }, EntryType::Recharge) | (Kind::Consume { .. }, EntryType::Consume)
            if first.is_of_another_service() =>
        {
            posting.points == Some(first.amount)
        }
        (Kind::Recharge { .. }, EntryType::Recharge)
        | (Kind::Consume { .. }, EntryType::Consume)
        | (Kind::Opening(Opening::Points { .. }), EntryType::Opening) => {
            posting.points == Some(first.amount)
                && first.source_type == posting.source_type()
                && first.source_id == posting.source_id()
        }
        // A debt has no name but its date.
        (Kind::Opening(Opening::Debt), EntryType::Opening) => {
            posting.points == Some(first.amount) && first.batch.is_none() && first.at == asking.at
        }
        (Kind::Refund { .. }, EntryType::Refund) => {
            is_named() && first.asked.is_some_and(|asked| asked.points == posting.points)
        }
        (Kind::Void { beyond, .. }, EntryType::Void) => {
            let beyond_used = *beyond == Beyond::Used;
            is_named()
                && first.asked.is_some_and(|asked| (asked.points, asked.beyond_used) == (posting.points, beyond_used))
        }
        _ => false,
    };
    if same {
        return Ok(Reply::Replayed(Posted::before(first)));
    }
    if matches!((&posting.kind, first.kind, first.batch), (Kind::Opening(Opening::Debt), EntryType::Opening, None)) {
        return Err(Refusal::AlreadyOpen(Opened::Debt { debt: first.amount, at: Some(first.at) }));
    }
    if first.is_of_another_service() {
        let (kind, amount, at) = (first.kind, first.amount, first.at);
        let holder = KeyHolder::AnotherService { kind, amount, at };
        return Err(Refusal::KeyConflict { named: posting.named(), holder });
    }
    let (seq, kind, amount, source_type) = (first.seq, first.kind, first.amount, first.source_type);
    let holder = KeyHolder::Entry { seq, kind, amount, source_type };
    Err(Refusal::KeyConflict { named: posting.named(), holder })
}
