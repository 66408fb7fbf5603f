//! The books of business days: a roll-forward for each day, by source of the points, carried from day to day.
//!
//! - A day holds the entries that were recorded on it (`recorded_at`), not the ones whose effective time falls on it. So a
//!   closed day stays as it is, even if something is posted later for an earlier time.
//! - A day is **closed** once: its rows are written from its entries and never changed ([`close_days`]).
//! - A closed day is **sealed**: with the fingerprints of its entries and of its rows. A full proof adds up the same fingerprints.
//!   As long as they are the same, the day need not be computed again ([`load_sealed`]).
//! - The **tie-out** holds the closed days, and the entries since, against the accounts and batches (`tie_out`). Where a seal is
//!   broken, it also computes every closed day again from the entries ([`recompute_days`]).
//! - The same is kept in **money** for batches with a price: what is deferred, by currency and source.
//! - [`RunningTotals`] carries the movements since the first entry on from cutoff to cutoff, for the metrics.

mod days;
mod journal;
mod money;
mod outstanding;
mod period;
mod periods;
mod recompute;
mod tie_out;
mod totals;

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};

pub use days::{ClosedDays, close_days, load_days, load_last_day, load_sealed, load_span, lock_days, seal_days};
pub use journal::{Accounts, JournalLine, Recorded, journal_lines};
pub use money::{MoneyBooked, MoneyMovement, MoneyMovements, Place};
pub use outstanding::{Outstanding, STEPS};
pub use period::{
    Breakage, LatePostings, NotBooked, Period, SingleEntry, for_each_single, has_entries_before, load_breakage,
    load_late_entries, load_late_postings, load_not_booked, month_end,
};
pub use periods::{
    ChangedTotal, KeptTotals, NewPeriodEvent, PeriodEvent, load_changed_months, load_closed_months, load_kept_report,
    load_open_month, load_period_events, lock_periods,
};
pub use recompute::{RecomputedDays, recompute_days};
pub use tie_out::{Books, tie_out, tie_out_in};
pub use totals::RunningTotals;

/// The names of the rules about the ledger as a whole.
pub const RULES: [&str; 5] = [DAYS_BALANCE, DAYS_SOURCE, DAYS_MONEY, DAY_CHANGED, DAY_OPEN];
const DAYS_BALANCE: &str = "days_balance";
const DAYS_SOURCE: &str = "days_source";
const DAYS_MONEY: &str = "days_money";
const DAY_CHANGED: &str = "day_changed";
const DAY_OPEN: &str = "day_open";

/// In place of a source: the arrears of all accounts, which belong to no source. Its points are zero or below.
pub const ARREARS: &str = "";

/// The largest number that a closed day may hold. Ten of them still fit into 64 bits, and half a million entries with the most
/// points that an entry may have come to less.
const MOST_BOOKED: i64 = 1 << 59;

/// Points that moved on a day or since one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Movement {
    /// Brought along from elsewhere. For [`ARREARS`] below zero: debts.
    pub opened: i64,
    /// Recharged.
    pub recharged: i64,
    /// Given back by refunds.
    pub refunded: i64,
    /// Recharged or refunded points that paid arrears at once. For [`ARREARS`] below zero: less is owed.
    pub settled: i64,
    /// Consumed. For [`ARREARS`]: consumed beyond the points in the batches.
    pub consumed: i64,
    /// Taken back by voids. For [`ARREARS`]: taken beyond the points in the batches.
    pub voided: i64,
    /// Expired, including points that were restored later.
    pub expired: i64,
    /// Expired points that came back for late usage.
    pub restored: i64,
    /// Moved by adjust entries, up or down.
    pub adjusted: i64,
}

impl Movement {
    /// The closing that follows from `opening`, clamped to 64 bits.
    pub fn closing(&self, opening: i64) -> i64 {
        let plus = [opening, self.opened, self.recharged, self.refunded, self.restored, self.adjusted];
        let minus = [self.settled, self.consumed, self.voided, self.expired];
        let sum = |parts: &[i64]| parts.iter().copied().map(i128::from).sum::<i128>();
        clamp(sum(&plus) - sum(&minus))
    }

    fn plus(&self, other: &Movement) -> Movement {
        Movement {
            opened: self.opened.saturating_add(other.opened),
            recharged: self.recharged.saturating_add(other.recharged),
            refunded: self.refunded.saturating_add(other.refunded),
            settled: self.settled.saturating_add(other.settled),
            consumed: self.consumed.saturating_add(other.consumed),
            voided: self.voided.saturating_add(other.voided),
            expired: self.expired.saturating_add(other.expired),
            restored: self.restored.saturating_add(other.restored),
            adjusted: self.adjusted.saturating_add(other.adjusted),
        }
    }
}

/// Movements by source of the points, and by [`ARREARS`].
pub type Movements = BTreeMap<String, Movement>;

/// The row of a source in a roll-forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Booked {
    /// Points at the begin of the day.
    pub opening: i64,
    /// Points that moved on the day.
    pub moved: Movement,
    /// Points at the end of the day.
    pub closing: i64,
}

impl Booked {
    /// The numbers in the order of the table's columns.
    fn numbers(&self) -> [i64; 11] {
        let Movement { opened, recharged, refunded, settled, consumed, voided, expired, restored, adjusted } =
            self.moved;
        [
            self.opening,
            opened,
            recharged,
            refunded,
            settled,
            consumed,
            voided,
            expired,
            restored,
            adjusted,
            self.closing,
        ]
    }

    /// Its columns that follow from the entries and from the day before, by name.
    fn columns(&self) -> [(&'static str, i64); 10] {
        let Movement { opened, recharged, refunded, settled, consumed, voided, expired, restored, adjusted } =
            self.moved;
        [
            ("opening", self.opening),
            ("opened", opened),
            ("recharged", recharged),
            ("refunded", refunded),
            ("settled", settled),
            ("consumed", consumed),
            ("voided", voided),
            ("expired", expired),
            ("restored", restored),
            ("adjusted", adjusted),
        ]
    }
}

/// The books of a business day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollForward {
    /// The day.
    pub day: NaiveDate,
    /// The first instant after it.
    pub ended: DateTime<Utc>,
    /// A row for each source, and one for [`ARREARS`].
    pub rows: BTreeMap<String, Booked>,
    /// A row for each currency and source with money.
    pub money: BTreeMap<Place, MoneyBooked>,
}

impl RollForward {
    /// The sum of all rows. Its closing is the sum of the accounts' balances.
    pub fn totals(&self) -> Booked {
        self.rows.values().fold(Booked::default(), |sum, row| Booked {
            opening: sum.opening.saturating_add(row.opening),
            moved: sum.moved.plus(&row.moved),
            closing: sum.closing.saturating_add(row.closing),
        })
    }

    /// What is deferred at its end, in minor units.
    fn deferred(&self) -> BTreeMap<Place, i64> {
        self.money.iter().map(|(place, row)| (place.clone(), row.closing)).collect()
    }

    /// The closing of each row.
    fn closings(&self) -> BTreeMap<String, i64> {
        self.rows.iter().map(|(source, row)| (source.clone(), row.closing)).collect()
    }
}

/// The books of consecutive closed days together, as those of the last one: each row's first opening, its movements, and its last
/// closing.
pub fn add_up(days: &[RollForward]) -> Option<RollForward> {
    let last = days.last()?;
    let mut sum = RollForward { day: last.day, ended: last.ended, rows: BTreeMap::new(), money: BTreeMap::new() };
    for day in days {
        // Rows begin with the first movement, so the first opening of a row is that of the span.
        for (source, row) in &day.rows {
            let of = sum.rows.entry(source.clone()).or_insert(Booked { opening: row.opening, ..Booked::default() });
            of.moved = of.moved.plus(&row.moved);
            of.closing = row.closing;
        }
        for (place, row) in &day.money {
            let first = MoneyBooked { opening: row.opening, ..MoneyBooked::default() };
            let of = sum.money.entry(place.clone()).or_insert(first);
            *of = MoneyBooked { opening: of.opening, closing: row.closing, ..of.plus(row) };
        }
    }
    Some(sum)
}

/// A sum, clamped to 64 bits. Larger sums come only from rows that were changed by hand, and a report of them must not fail.
fn clamp(sum: i128) -> i64 {
    i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
}

/// The points of each source after `moved`.
fn roll(mut points: BTreeMap<String, i64>, moved: &Movements) -> BTreeMap<String, i64> {
    for (source, moved) in moved {
        let sum = points.entry(source.clone()).or_default();
        *sum = moved.closing(*sum);
    }
    points
}

/// The name of a source in a finding.
fn name_of(source: &str) -> &str {
    if source == ARREARS { "owed" } else { source }
}
