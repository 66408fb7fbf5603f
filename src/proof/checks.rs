//! The checks: every invariant is a query that returns the places where it is broken.

use std::cmp::Ordering;
use std::collections::HashSet;

use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use crate::ledger::Buckets;

/// A place where a rule does not hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// The rule, by its name in sql/checks.
    pub rule: String,
    /// The user of the account; none if the finding is about the ledger as a whole.
    pub user: Option<Uuid>,
    /// The batch's number within the account.
    pub batch: Option<i32>,
    /// The entry's number within the account.
    pub seq: Option<i64>,
    /// The value that the rest of the books implies.
    pub expected: String,
    /// The value in the row.
    pub found: String,
    /// By how many points it is off: found less expected. None if the finding is not about a number of points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub points: Option<i64>,
}

/// An invariant, and how it is checked.
#[derive(Debug)]
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// The query that returns the places where it is broken: `$1 uuid[]`, the users; `$2 smallint`, their bucket.
    pub sql: &'static str,
    /// Earlier rules that explain a finding of this one, which is then left out.
    unless: &'static [(&'static str, Same)],
}

/// What two findings of an account must have in common for one to explain the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Same {
    Account,
    Batch,
    Entry,
}

macro_rules! rule {
    ($name:literal, [$($same:ident: $($cause:literal)+),* $(,)?]) => {
        Rule {
            name: $name,
            sql: include_str!(concat!("../../sql/checks/", $name, ".sql")),
            unless: &[$($(($cause, Same::$same)),+),*],
        }
    };
}

/// Every rule. A row that was changed by hand breaks several; it is reported once, under the rule nearest to the change.
/// So each rule names earlier ones that explain it: first the entries, then batches, then the sums of them.
pub static RULES: &[Rule] = &[
    rule!("account_missing", []),
    rule!("entry_numbers", [Account: "account_missing"]),
    rule!("entry_type", [Account: "account_missing"]),
    rule!("entry_time", [Account: "account_missing" "entry_numbers"]),
    rule!("entry_chain", [Account: "account_missing" "entry_numbers"]),
    rule!("entry_amount", [Account: "account_missing", Entry: "entry_type"]),
    rule!("batch_recharge", [Account: "account_missing" "entry_numbers" "entry_type", Entry: "entry_amount"]),
    rule!(
        "entry_allocations",
        [
            Account: "account_missing" "entry_type",
            Batch: "batch_recharge",
            Entry: "entry_chain" "entry_amount",
        ]
    ),
    rule!("batch_amount", [Account: "account_missing" "entry_numbers" "entry_type" "entry_allocations", Batch: "batch_recharge"]),
    rule!(
        "batch_expired",
        [
            Account: "account_missing" "entry_numbers" "entry_type" "entry_allocations",
            Batch: "batch_recharge" "batch_amount",
        ]
    ),
    rule!("batch_state", [Account: "account_missing", Batch: "batch_recharge" "batch_amount" "batch_expired"]),
    rule!(
        "entry_batches",
        [
            Account: "account_missing" "entry_numbers" "entry_type" "entry_allocations",
            Batch: "batch_recharge" "batch_amount" "batch_state",
            Entry: "batch_recharge",
        ]
    ),
    rule!(
        "entry_restored",
        [
            Account: "account_missing" "entry_numbers" "entry_type" "entry_allocations",
            Batch: "batch_recharge" "batch_amount" "entry_batches",
            Entry: "entry_amount" "entry_batches",
        ]
    ),
    rule!("refund_consume", [Account: "account_missing" "entry_numbers" "entry_type", Entry: "entry_amount"]),
    rule!(
        "refund_batch",
        // The batch that is wrong may be the refund's, or the one that its points were drawn from.
        [Account: "account_missing" "entry_numbers" "entry_type" "entry_amount" "batch_recharge" "entry_allocations" "batch_state"
            "refund_consume"]
    ),
    rule!(
        "void_recharge",
        [
            Account: "account_missing" "entry_numbers" "entry_type" "entry_amount" "batch_recharge" "entry_allocations",
            Batch: "batch_amount" "entry_batches",
        ]
    ),
    rule!(
        "entry_asked",
        [Account: "account_missing" "entry_numbers" "entry_type" "entry_amount" "refund_consume" "void_recharge"]
    ),
    rule!("batch_paid", [Account: "account_missing" "entry_numbers" "entry_type", Batch: "batch_recharge"]),
    rule!(
        "entry_paid",
        [
            Account: "account_missing" "entry_numbers" "entry_type" "entry_allocations",
            Batch: "batch_recharge" "entry_batches" "batch_paid",
            Entry: "entry_amount" "entry_restored",
        ]
    ),
    rule!(
        "entry_price",
        // The price of a recharge, and what a consume released, are the measure of what goes back.
        [Account: "account_missing" "entry_numbers" "entry_type" "entry_amount" "entry_allocations" "batch_recharge"
            "refund_consume" "refund_batch" "void_recharge" "batch_paid" "entry_paid"]
    ),
    rule!("hold_consume", [Account: "account_missing" "entry_numbers" "entry_type"]),
    rule!(
        "history_changed",
        [Account: "account_missing" "entry_numbers" "entry_type" "entry_time" "entry_asked" "entry_chain" "entry_amount"
            "batch_recharge" "entry_allocations" "batch_state" "entry_batches" "entry_restored" "refund_consume"
            "refund_batch" "void_recharge" "batch_paid" "entry_paid" "entry_price" "hold_consume"]
    ),
    rule!("account_balance", [Account: "entry_numbers"]),
    rule!("account_totals", [Account: "entry_numbers" "entry_type" "entry_chain" "entry_amount"]),
    rule!("account_numbers", [Account: "entry_numbers" "entry_type" "hold_consume"]),
    rule!(
        "account_expiry",
        [Account: "account_missing" "entry_numbers" "entry_type" "batch_recharge" "entry_allocations" "batch_state"
            "entry_batches" "history_changed"]
    ),
    rule!(
        "account_identity",
        [Account: "entry_numbers" "entry_type" "entry_chain" "entry_amount" "account_balance" "account_totals"]
    ),
    rule!(
        "account_remaining",
        [Account: "entry_numbers" "entry_type" "entry_chain" "entry_amount" "batch_recharge" "entry_allocations"
            "batch_amount" "account_balance"]
    ),
];

/// Checks every rule over these users' accounts; sorted by user, then in the order of the rules.
///
/// # Errors
/// As [`examine_bucket`].
pub async fn examine(client: &Client, users: &[Uuid]) -> Result<Vec<Finding>, tokio_postgres::Error> {
    let mut found = Vec::new();
    for (bucket, users) in Buckets::read(client).await?.part(users.iter().copied(), |user| *user) {
        found.extend(examine_bucket(client, bucket, &users).await?);
    }
    found.sort_by(in_order);
    Ok(found)
}

/// The same over what one bucket holds of these users, also if it is not theirs.
///
/// All rules must see the same rows: the open transaction is REPEATABLE READ, or it has locked these users' accounts. The whole history of
/// each user is read.
///
/// # Errors
/// If the database fails. Wrong rows are findings, not errors.
pub async fn examine_bucket(
    client: &Client,
    bucket: i16,
    users: &[Uuid],
) -> Result<Vec<Finding>, tokio_postgres::Error> {
    let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&users, Type::UUID_ARRAY), (&bucket, Type::INT2)];
    let check = async |rule: &Rule| {
        let rows = client.query_typed(rule.sql, &parameters).await?;
        rows.iter().map(|row| finding_from(rule.name.to_owned(), row)).collect::<Result<Vec<Finding>, _>>()
    };
    let found = try_join_all(RULES.iter().map(check)).await?;
    let mut found: Vec<Finding> = found.into_iter().flatten().collect();
    found.sort_by(in_order);
    Ok(roots(found))
}

pub(super) fn finding_from(rule: String, row: &Row) -> Result<Finding, tokio_postgres::Error> {
    Ok(Finding {
        rule,
        user: row.try_get("user_id")?,
        batch: row.try_get("batch")?,
        seq: row.try_get("seq")?,
        expected: row.try_get("expected")?,
        found: row.try_get("found")?,
        points: row.try_get("points")?,
    })
}

/// The rule of this name and its place.
fn rule(name: &str) -> Option<(usize, &'static Rule)> {
    RULES.iter().enumerate().find(|(_, rule)| rule.name == name)
}

fn in_order(a: &Finding, b: &Finding) -> Ordering {
    let key =
        |finding: &Finding| (finding.user, rule(&finding.rule).map(|(place, _)| place), finding.batch, finding.seq);
    key(a).cmp(&key(b))
}

/// Leaves out findings that another finding of the same account explains. A rule names only earlier rules as causes, so the
/// first of a chain stays.
fn roots(mut found: Vec<Finding>) -> Vec<Finding> {
    let root: Vec<bool> = found.chunk_by(|a, b| a.user == b.user).flat_map(roots_of_account).collect();
    let mut root = root.into_iter();
    found.retain(|_| root.next() == Some(true));
    found
}

/// For each finding of one account, whether no other finding explains it.
fn roots_of_account(all: &[Finding]) -> Vec<bool> {
    // By rule alone, by rule and batch, by rule and entry: an account may have a million of them.
    let mut places = HashSet::new();
    for Finding { rule, batch, seq, .. } in all {
        places.extend([(rule.as_str(), None, None), (rule, *batch, None), (rule, None, *seq)]);
    }
    let is_root = |finding: &Finding| {
        let Some((_, rule)) = rule(&finding.rule) else { return true };
        !rule.unless.iter().any(|(cause, same)| match same {
            Same::Account => places.contains(&(*cause, None, None)),
            Same::Batch => finding.batch.is_some() && places.contains(&(*cause, finding.batch, None)),
            Same::Entry => finding.seq.is_some() && places.contains(&(*cause, None, finding.seq)),
        })
    };
    all.iter().map(is_root).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_explained_by_earlier_ones_only() {
        for (place, rule) in RULES.iter().enumerate() {
            for (cause, _) in rule.unless {
                let earlier = super::rule(cause).is_some_and(|(cause, _)| cause < place);
                assert!(earlier, "{} names {cause}, which does not come before it", rule.name);
            }
        }
    }
}
