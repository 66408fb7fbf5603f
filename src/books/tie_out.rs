//! The tie-out: holds the closed days, and the entries since, against the accounts and the batches.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};
use tokio_postgres::{Client, Error};

use super::days::{load_last_day, load_movements};
use super::money::{load_deferred, load_money_movements, roll_money};
use super::outstanding::{Outstanding, load_outstanding};
use super::recompute::{RecomputedDays, recompute_days};
use super::{
    ARREARS, DAYS_BALANCE, DAYS_MONEY, DAYS_SOURCE, MoneyMovements, Movements, Place, RollForward, clamp, name_of, roll,
};
use crate::database::snapshot;
use crate::proof::Finding;
use crate::time::Zone;

/// The most places that one finding names.
const MOST_PLACES: usize = 10;

/// The books at an instant, all read from one snapshot.
#[derive(Clone, Debug)]
pub struct Books {
    /// The instant.
    pub as_of: DateTime<Utc>,
    /// The last closed day; none before the first one.
    pub last: Option<RollForward>,
    /// The movements since the end of that day.
    pub since: Movements,
    /// The sum of all balances, as the entries say.
    pub expected: i64,
    /// The sum of all balances, as the accounts say.
    pub balance: i64,
    /// The arrears of all accounts.
    pub owed: i64,
    /// The points left in open batches.
    pub outstanding: Vec<Outstanding>,
    /// The money that moved since the end of the last closed day.
    pub money_since: MoneyMovements,
    /// What the open batches say is deferred, in minor units.
    pub deferred: BTreeMap<Place, i64>,
    /// Whether the closed days were recomputed from the entries.
    pub recomputed: bool,
    /// The recomputed days with the fingerprints of their entries, if none of them has changed: [`seal_days`](super::seal_days).
    pub seals: Vec<(NaiveDate, i64)>,
    /// The findings about the ledger as a whole.
    pub findings: Vec<Finding>,
    /// Whether accounts and batches differ from the closed days as they stand. Findings are left out in that case:
    /// they are made after the closed days were recomputed.
    pub differs: bool,
}

/// Ties out the books as they are now. The closed days are recomputed from the entries with `recompute`, or if the books do
/// not tie out against the last closed day. So a day that has changed is one finding, and no difference of balances beside.
///
/// `None` if `proceed`, asked now and then, said no.
///
/// # Errors
/// If the database fails.
pub async fn tie_out(
    client: &mut Client,
    zone: Zone,
    recompute: bool,
    mut proceed: impl FnMut() -> bool,
) -> Result<Option<Books>, Error> {
    let mut recomputed = None;
    if recompute {
        let Some(days) = recompute_days(client, &mut proceed).await? else { return Ok(None) };
        recomputed = Some(days);
    }
    loop {
        let snapshot = snapshot(client).await?;
        let books = tie_out_in(snapshot.client(), zone, recomputed.as_ref()).await?;
        snapshot.commit().await?;
        if !books.differs {
            return Ok(Some(books));
        }
        let Some(days) = recompute_days(client, &mut proceed).await? else { return Ok(None) };
        recomputed = Some(days);
    }
}

/// Ties out the books in the transaction that is open on `client`, which must be REPEATABLE READ: everything is of one
/// snapshot.
///
/// The last closed day, or the recomputed one, and the movements since must come to the sum of the balances; by source, to
/// the points left in batches; and for [`ARREARS`], to what accounts owe.
///
/// # Errors
/// If the database fails.
pub async fn tie_out_in(client: &Client, zone: Zone, recomputed: Option<&RecomputedDays>) -> Result<Books, Error> {
    let as_of: DateTime<Utc> = client.query_one("SELECT statement_timestamp()", &[]).await?.try_get(0)?;
    let last = load_last_day(client).await?;
    let since = load_movements(client, last.as_ref().map(|last| last.ended), None, &[]).await?;
    let since = since.into_iter().next().unwrap_or_default();
    let money_since = load_money_movements(client, last.as_ref().map(|last| last.ended), None, &[]).await?;
    let money_since = money_since.into_iter().next().unwrap_or_default();
    let row = client.query_one(include_str!("../../sql/books/balance_total.sql"), &[]).await?;
    let (balance, owed): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let outstanding = load_outstanding(client, zone, as_of).await?;
    let deferred = load_deferred(client).await?;

    let (closing, deferred_then) = match (recomputed, &last) {
        (Some(days), _) => (days.closing.clone(), days.deferred.clone()),
        (None, Some(last)) => (last.closings(), last.deferred()),
        (None, None) => Default::default(),
    };
    let expected = roll(closing, &since);
    let total = clamp(expected.values().map(|points| i128::from(*points)).sum());
    let mut findings = differences(&expected, total, balance, &points_by_source(owed, &outstanding));
    findings.extend(difference_of_money(&roll_money(deferred_then, &money_since), &deferred));
    let differs = recomputed.is_none() && !findings.is_empty();
    match recomputed {
        Some(days) => findings.splice(0..0, days.changed.clone()).for_each(drop),
        None => findings.clear(),
    }
    Ok(Books {
        as_of,
        last,
        since,
        expected: total,
        balance,
        owed,
        outstanding,
        money_since,
        deferred,
        recomputed: recomputed.is_some(),
        seals: recomputed.filter(|days| days.changed.is_none()).map(|days| days.seals.clone()).unwrap_or_default(),
        findings,
        differs,
    })
}

/// The points of each source in the batches, and the arrears, below zero.
fn points_by_source(owed: i64, outstanding: &[Outstanding]) -> BTreeMap<String, i64> {
    let mut points = BTreeMap::from([(ARREARS.to_owned(), owed.saturating_neg())]);
    for part in outstanding {
        let sum = points.entry(part.source.clone()).or_default();
        *sum = sum.saturating_add(part.points);
    }
    points
}

/// The findings about balances, and about sources.
fn differences(
    expected: &BTreeMap<String, i64>,
    total: i64,
    balance: i64,
    found: &BTreeMap<String, i64>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if total != balance {
        findings.push(Finding {
            points: Some(clamp(i128::from(balance) - i128::from(total))),
            ..whole_ledger_finding(DAYS_BALANCE, total.to_string(), balance.to_string())
        });
    }
    let points = |of: &BTreeMap<String, i64>, source: &str| of.get(source).copied().unwrap_or_default();
    let sources: BTreeSet<&str> = expected.keys().chain(found.keys()).map(String::as_str).collect();
    let differing: Vec<&str> = sources
        .into_iter()
        .filter(|source| points(expected, source) != points(found, source))
        // Arrears are a part of the balances: a difference of the balances has named them already.
        .filter(|source| total == balance || *source != ARREARS)
        .collect();
    if !differing.is_empty() {
        let list_of = |of: &BTreeMap<String, i64>| {
            list(differing.iter().map(|source| format!("{} {}", name_of(source), points(of, source))))
        };
        let off = |source: &str| clamp(i128::from(points(found, source)) - i128::from(points(expected, source)));
        findings.push(Finding {
            points: if let [source] = *differing { Some(off(source)) } else { None },
            ..whole_ledger_finding(DAYS_SOURCE, list_of(expected), list_of(found))
        });
    }
    findings
}

/// The finding about money: what the days say is deferred, and what the batches say.
fn difference_of_money(expected: &BTreeMap<Place, i64>, found: &BTreeMap<Place, i64>) -> Option<Finding> {
    let money = |of: &BTreeMap<Place, i64>, place: &Place| of.get(place).copied().unwrap_or_default();
    let places: BTreeSet<&Place> = expected.keys().chain(found.keys()).collect();
    let differing: Vec<&Place> =
        places.into_iter().filter(|place| money(expected, place) != money(found, place)).collect();
    let list_of = |of: &BTreeMap<Place, i64>| {
        list(differing.iter().map(|place| format!("{}/{} {}", name_of(&place.1), place.0, money(of, place))))
    };
    (!differing.is_empty()).then(|| whole_ledger_finding(DAYS_MONEY, list_of(expected), list_of(found)))
}

/// `a, b, c`, and how many more there are.
pub(super) fn list(places: impl IntoIterator<Item = String>) -> String {
    let mut places: Vec<String> = places.into_iter().collect();
    let more = places.len().saturating_sub(MOST_PLACES);
    places.truncate(MOST_PLACES);
    if more > 0 {
        places.push(format!("and {more} more"));
    }
    places.join(", ")
}

pub(super) fn whole_ledger_finding(rule: &str, expected: String, found: String) -> Finding {
    Finding { rule: rule.to_owned(), user: None, batch: None, seq: None, expected, found, points: None }
}
