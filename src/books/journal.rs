//! Journal lines: the money of closed business days as double entries, for an accounting system.

use chrono::NaiveDate;

use super::{MoneyMovement, RollForward};

/// The accounts of an accounting system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accounts {
    /// Debited with what customers paid.
    pub cash: String,
    /// What customers paid for points that are not used, expired or returned yet.
    pub deferred: String,
    /// Credited with what was used.
    pub revenue: String,
    /// Credited with what expired.
    pub breakage: String,
    /// Credited with what goes back to customers.
    pub returns: String,
    /// The other side of corrections.
    pub corrections: String,
}

/// What a pair of lines records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// The prices of recharges.
    Sold,
    /// Recognised on use.
    Used,
    /// Recognised on expiry.
    Expired,
    /// Returned by voids.
    Returned,
    /// Moved by corrections.
    Corrected,
}

/// One line: a debit or a credit, in minor units, never below zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalLine<'a> {
    /// The business day.
    pub day: NaiveDate,
    /// The document: one for each business day, currency and source. Its debits are its credits.
    pub document: String,
    /// The account.
    pub account: &'a str,
    /// Debited; 0 on a line of a credit.
    pub debit: i64,
    /// Credited; 0 on a line of a debit.
    pub credit: i64,
    /// The currency.
    pub currency: &'a str,
    /// The source of the points.
    pub source: &'a str,
    /// What it records.
    pub recorded: Recorded,
}

/// The lines of these days, in order. `accounts` has the accounts of a source.
pub fn journal_lines<'a>(
    days: &'a [RollForward],
    accounts: impl Fn(&str) -> &'a Accounts,
) -> impl Iterator<Item = JournalLine<'a>> {
    days.iter().flat_map(|day| day.money.iter().map(|(place, row)| (day.day, place, row.moved))).flat_map(
        move |(day, (currency, source), moved)| {
            let document = format!("{}-{currency}-{source}", day.format("%Y%m%d"));
            let pairs = pairs(moved, accounts(source)).into_iter().filter(|(.., amount)| *amount != 0);
            pairs.flat_map(move |(recorded, debited, credited, amount)| {
                // Revenue that was taken back, and a correction downwards, change the sides.
                let sides = if amount > 0 { [debited, credited] } else { [credited, debited] };
                let amounts = [(amount.saturating_abs(), 0), (0, amount.saturating_abs())];
                let document = document.clone();
                sides.into_iter().zip(amounts).map(move |(account, (debit, credit))| {
                    let document = document.clone();
                    JournalLine { day, document, account, debit, credit, currency, source, recorded }
                })
            })
        },
    )
}

/// Each movement with the account debited, the account credited, and the amount. What was brought along from elsewhere is left out:
/// the accounting system has it as deferred revenue already.
fn pairs(moved: MoneyMovement, accounts: &Accounts) -> [(Recorded, &str, &str, i64); 5] {
    let Accounts { cash, deferred, revenue, breakage, returns, corrections } = accounts;
    [
        (Recorded::Sold, cash, deferred, moved.sold),
        (Recorded::Used, deferred, revenue, moved.used),
        (Recorded::Expired, deferred, breakage, moved.expired),
        (Recorded::Returned, deferred, returns, moved.returned),
        (Recorded::Corrected, corrections, deferred, moved.corrected),
    ]
}
