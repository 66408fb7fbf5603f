//! Computes the closed days again from the entries, and finds those that have changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use chrono::{DateTime, NaiveDate, Utc};
use tokio_postgres::{Client, Error};

use super::days::{carry, load_days, load_movements, load_prints};
use super::money::{carry_money, load_money_movements, roll_money};
use super::tie_out::{list, whole_ledger_finding};
use super::{Booked, DAY_CHANGED, MoneyBooked, Place, RollForward, name_of, roll};
use crate::proof::Finding;

/// Days that one statement computes. Each statement reads the batches once; the job can be stopped between two of them.
const DAYS_AT_ONCE: usize = 92;

/// The closed days, computed again from the entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecomputedDays {
    /// The points of each source at the end of the last closed day.
    pub(super) closing: BTreeMap<String, i64>,
    /// What is deferred then, in minor units.
    pub(super) deferred: BTreeMap<Place, i64>,
    /// The days that differ from their rows.
    pub(super) changed: Option<Finding>,
    /// The days with the fingerprints of their entries.
    pub(super) seals: Vec<(NaiveDate, i64)>,
}

/// Computes all closed days again from the entries; `None` if `proceed`, asked before each statement, said no. Entries
/// never change, so it needs no snapshot; and it should hold none, because it reads the whole history.
///
/// # Errors
/// If the database fails.
pub async fn recompute_days(
    client: &Client,
    proceed: &mut impl FnMut() -> bool,
) -> Result<Option<RecomputedDays>, Error> {
    let days = load_days(client).await?;
    // The first day has no begin: every entry recorded before its end belongs to it.
    let mut from = None;
    let mut closing = BTreeMap::new();
    let mut before = BTreeMap::new();
    let (mut deferred, mut deferred_before) = (BTreeMap::new(), BTreeMap::new());
    let (mut differences, mut seals) = (Vec::new(), Vec::new());
    for days in days.chunks(DAYS_AT_ONCE) {
        if !proceed() {
            return Ok(None);
        }
        let ends: Vec<DateTime<Utc>> = days.iter().map(|day| day.ended).collect();
        let to = ends.last().copied();
        let moved = load_movements(client, from, to, &ends).await?;
        let money_moved = load_money_movements(client, from, to, &ends).await?;
        let prints = load_prints(client, from, to, &ends).await?;
        seals.extend(days.iter().map(|day| day.day).zip(prints));
        from = to;
        for ((closed, moved), money_moved) in days.iter().zip(moved).zip(money_moved) {
            differences.extend(differences_of(closed, &carry(&before, &moved)));
            // Go on from the closed row: a changed day is one finding, and the days after it are not found for its sake.
            before = closed.closings();
            closing = roll(closing, &moved);
            differences.extend(money_differences_of(closed, &carry_money(&deferred_before, &money_moved)));
            deferred_before = closed.deferred();
            deferred = roll_money(deferred, &money_moved);
        }
    }
    let (expected, found): (Vec<String>, Vec<String>) = differences.into_iter().unzip();
    let changed = (!found.is_empty()).then(|| whole_ledger_finding(DAY_CHANGED, list(expected), list(found)));
    Ok(Some(RecomputedDays { closing, deferred, changed, seals }))
}

/// The rows in which a closed day differs from the recomputed one: what was closed, and what the entries say.
fn differences_of(closed: &RollForward, recomputed: &BTreeMap<String, Booked>) -> Vec<(String, String)> {
    let sources: BTreeSet<&String> = closed.rows.keys().chain(recomputed.keys()).collect();
    let mut differences = Vec::new();
    for source in sources {
        let was = closed.rows.get(source).copied().unwrap_or_default();
        let is = recomputed.get(source).copied().unwrap_or_default();
        if (was.opening, was.moved) != (is.opening, is.moved) {
            differences.push(difference(closed.day, source, &was, &is));
        }
    }
    differences
}

/// The same of its money.
fn money_differences_of(closed: &RollForward, recomputed: &BTreeMap<Place, MoneyBooked>) -> Vec<(String, String)> {
    let places: BTreeSet<&Place> = closed.money.keys().chain(recomputed.keys()).collect();
    let mut differences = Vec::new();
    for place in places {
        let was = closed.money.get(place).copied().unwrap_or_default();
        let is = recomputed.get(place).copied().unwrap_or_default();
        if (was.opening, was.moved) != (is.opening, is.moved) {
            let (currency, source) = place;
            let name = format!("{} {currency} {}:", closed.day, name_of(source));
            differences.push(in_words(name, was.columns(), is.columns()));
        }
    }
    differences
}

/// Two rows of a source on a day, in words: only the columns that differ.
fn difference(day: NaiveDate, source: &str, was: &Booked, is: &Booked) -> (String, String) {
    in_words(format!("{day} {}:", name_of(source)), was.columns(), is.columns())
}

fn in_words<const N: usize>(
    place: String,
    was: [(&'static str, i64); N],
    is: [(&'static str, i64); N],
) -> (String, String) {
    let (mut expected, mut found) = (place.clone(), place);
    for ((column, was), (_, is)) in was.into_iter().zip(is).filter(|(was, is)| was != is) {
        // Writing to a String cannot fail.
        let _ = write!(expected, " {column} {was}");
        let _ = write!(found, " {column} {is}");
    }
    (expected, found)
}
