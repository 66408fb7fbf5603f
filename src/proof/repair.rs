//! Repair: corrects rows with findings. An adjust entry records the change, the operator and the reason.
//!
//! No job repairs anything. An operator makes a [`Plan`], reads it and applies it. It is applied account by account; an
//! account that has changed since the plan is left alone.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, IsolationLevel};
use uuid::Uuid;

use super::checks::{Finding, examine};
use crate::database::snapshot;
use crate::ledger::{Buckets, DRAWING_RULE, MAX_POINTS, released};

/// The side that is kept where rows and history differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// The history: rows are set back to what the entries say.
    Entries,
    /// The balances that customers see: they and the points in batches stay, and the difference is booked.
    Balances,
}

/// The repairs of several accounts. Applying a plan is safe at any time, and twice: an account that is not as the plan saw it
/// is left alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Names the plan in the entries that it leads to.
    pub plan: Uuid,
    /// When it was made.
    pub made: DateTime<Utc>,
    /// The side that is kept.
    pub keep: Basis,
    /// Accounts that an entry repairs.
    pub accounts: Vec<Change>,
    /// Accounts that no entry can repair.
    pub unrepairable: Vec<Unrepairable>,
}

/// The repair of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The user of the account.
    pub user: Uuid,
    /// Its findings.
    pub findings: Vec<Finding>,
    /// The adjust entry that would be posted.
    pub entry: AdjustEntry,
    /// The account's row before and after.
    pub account: BeforeAfter<AccountRow>,
    /// The batches that would change.
    pub batches: Vec<BatchChange>,
    /// Whether the history is accepted as it is now, although it differs from what was proved.
    pub accept_history: bool,
}

/// The adjust entry of a repair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdjustEntry {
    /// Its number.
    pub seq: i64,
    /// By how much it moves the balance, up or down.
    pub amount: i64,
    /// The balance that the entry before it left.
    pub balance_before: i64,
    /// The balance that it leaves.
    pub balance_after: i64,
    /// Points that it takes out of batches or, below zero, puts back.
    pub allocations: Vec<AdjustAllocation>,
}

/// Points taken out of a batch or, below zero, put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdjustAllocation {
    /// The batch.
    pub batch: i32,
    /// How many points.
    pub points: i64,
    /// What they release of the batch's price or, below zero, give back. None without a price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid: Option<i64>,
}

/// A row before and after a repair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeforeAfter<T> {
    /// Before.
    pub before: T,
    /// After.
    pub after: T,
}

/// A batch that a repair changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchChange {
    /// Its number.
    pub batch: i32,
    /// Before.
    pub before: BatchRow,
    /// After.
    pub after: BatchRow,
}

/// The columns of an account. The time is as the database writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "they are the table's columns")]
#[serde(deny_unknown_fields)]
pub struct AccountRow {
    pub balance: i64,
    pub total_recharged: i64,
    pub total_consumed: i64,
    pub total_expired: i64,
    pub total_refunded: i64,
    pub total_voided: i64,
    pub total_adjusted: i64,
    #[serde(default)]
    pub total_opening: i64,
    pub last_seq: i64,
    pub last_batch: i32,
    pub expired_until: Option<String>,
    pub open_holds: i32,
}

/// The columns of a batch that follow from its account's history. Times are as the database writes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "they are the table's columns")]
#[serde(deny_unknown_fields)]
pub struct BatchRow {
    pub amount: i64,
    pub remaining: i64,
    pub expired: i64,
    pub open: bool,
    pub source: String,
    pub opened_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
}

/// An account that no entry can repair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unrepairable {
    /// The user of the account.
    pub user: Uuid,
    /// Its findings.
    pub findings: Vec<Finding>,
    /// Why no entry helps, and what to do instead.
    pub reason: String,
}

/// The outcome of applying a plan to an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepairOutcome {
    /// Repaired by this entry.
    Posted(i64),
    /// Repaired before, by this entry of the same plan.
    PostedBefore(i64),
    /// Left alone: it is not as the plan saw it, or has moved to another bucket.
    AccountChanged,
    /// Rolled back: these findings would have been left.
    FindingsRemain(Vec<Finding>),
}

/// The operator, the reason and the time of a repair.
#[derive(Clone, Debug)]
pub struct Approval<'a> {
    /// The operator.
    pub by: &'a str,
    /// The reason.
    pub reason: &'a str,
    /// The time.
    pub at: DateTime<Utc>,
}

/// Why no plan was made or applied.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The database refused or did not answer. The account under repair is unchanged.
    #[error("the database did not take the repair")]
    Database(#[from] tokio_postgres::Error),
    /// A change could not be written into its entry.
    #[error("the repair cannot be written into its entry")]
    Entry(#[from] serde_json::Error),
}

/// Accounts examined by one round of statements.
const GROUP_ACCOUNTS: usize = 100;

/// Plans the repair of these users' accounts, where they have findings. Reads from one snapshot and writes nothing.
///
/// # Errors
/// If the database fails.
pub async fn plan(client: &mut Client, users: &[Uuid], keep: Basis, at: DateTime<Utc>) -> Result<Plan, RepairError> {
    let snapshot = snapshot(client).await?;
    let mut plan = Plan { plan: Uuid::new_v4(), made: at, keep, accounts: Vec::new(), unrepairable: Vec::new() };
    for group in users.chunks(GROUP_ACCOUNTS) {
        let findings = examine(snapshot.client(), group).await?;
        for of_account in findings.chunk_by(|a, b| a.user == b.user) {
            let Some(user) = of_account.first().and_then(|finding| finding.user) else { continue };
            let findings = of_account.to_vec();
            match plan_account(snapshot.client(), user, &findings, keep).await? {
                Ok(change) => plan.accounts.push(change),
                Err(reason) => plan.unrepairable.push(Unrepairable { user, findings, reason }),
            }
        }
    }
    snapshot.rollback().await?;
    Ok(plan)
}

/// Applies a plan to one of its accounts, in a transaction of its own.
///
/// The account is locked and planned again; if the result differs from the plan, the account is left alone. The entry's
/// `correction` holds the operator, reason, time, findings, and the rows before and after. At the end the account is
/// examined; if a finding remains, the transaction is rolled back.
///
/// # Errors
/// If the database fails. Nothing is changed then, unless the connection broke during the commit. Applying the plan again
/// is safe.
pub async fn apply(
    client: &mut Client,
    plan: &Plan,
    change: &Change,
    approval: &Approval<'_>,
) -> Result<RepairOutcome, RepairError> {
    let user = change.user;
    let transaction = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await?;
    let buckets = Buckets::read(transaction.client()).await?;
    let (users, bucket, count) = ([user], buckets.of(user), buckets.count());
    let lock: [&(dyn ToSql + Sync); 3] = [&users.as_slice(), &bucket, &count];
    let keep = transaction.prepare(include_str!("../../sql/ledger/bucket_keep.sql")).await?;
    buckets.keep(transaction.client(), &keep, bucket).await?;
    // No row: the accounts were spread over another number of buckets meanwhile, so nothing is locked.
    if transaction.query(include_str!("../../sql/ledger/account_lock.sql"), &lock).await?.is_empty() {
        transaction.rollback().await?;
        return Ok(RepairOutcome::AccountChanged);
    }
    let known = include_str!("../../sql/proof/repair_known.sql");
    if let Some(seq) = transaction.query_one(known, &[&user, &plan.plan.to_string()]).await?.try_get(0)? {
        transaction.rollback().await?;
        return Ok(RepairOutcome::PostedBefore(seq));
    }
    let findings = examine(transaction.client(), &[user]).await?;
    if plan_account(transaction.client(), user, &findings, plan.keep).await?.as_ref() != Ok(change) {
        transaction.rollback().await?;
        return Ok(RepairOutcome::AccountChanged);
    }

    write_batches(transaction.client(), change).await?;
    write_account(transaction.client(), change).await?;
    insert_entry(transaction.client(), plan, change, approval).await?;
    if change.accept_history {
        transaction
            .execute(include_str!("../../sql/proof/checkpoint_delete.sql"), &[&users.as_slice(), &bucket])
            .await?;
        // A history that is accepted is no longer the one from which days were closed.
        transaction.execute(include_str!("../../sql/proof/seal_delete.sql"), &[]).await?;
    }
    let left = examine(transaction.client(), &[user]).await?;
    if left.is_empty() {
        transaction.commit().await?;
        Ok(RepairOutcome::Posted(change.entry.seq))
    } else {
        transaction.rollback().await?;
        Ok(RepairOutcome::FindingsRemain(left))
    }
}

async fn write_batches(client: &Client, change: &Change) -> Result<(), tokio_postgres::Error> {
    let batches = &change.batches;
    let numbers: Vec<i32> = batches.iter().map(|batch| batch.batch).collect();
    let amounts: Vec<i64> = batches.iter().map(|batch| batch.after.amount).collect();
    let remaining: Vec<i64> = batches.iter().map(|batch| batch.after.remaining).collect();
    let expired: Vec<i64> = batches.iter().map(|batch| batch.after.expired).collect();
    let sources: Vec<&str> = batches.iter().map(|batch| batch.after.source.as_str()).collect();
    let opened_at: Vec<&str> = batches.iter().map(|batch| batch.after.opened_at.as_str()).collect();
    let paid: Vec<Option<i64>> = batches.iter().map(|batch| batch.after.paid).collect();
    let currencies: Vec<Option<&str>> = batches.iter().map(|batch| batch.after.currency.as_deref()).collect();
    let columns: [&(dyn ToSql + Sync); 9] =
        [&change.user, &numbers, &amounts, &remaining, &expired, &sources, &opened_at, &paid, &currencies];
    client.execute(include_str!("../../sql/proof/repair_batches.sql"), &columns).await.map(drop)
}

async fn write_account(client: &Client, change: &Change) -> Result<(), tokio_postgres::Error> {
    let after = &change.account.after;
    let columns: [&(dyn ToSql + Sync); 13] = [
        &change.user,
        &after.balance,
        &after.total_recharged,
        &after.total_consumed,
        &after.total_expired,
        &after.total_refunded,
        &after.total_voided,
        &after.total_adjusted,
        &after.last_seq,
        &after.last_batch,
        &after.expired_until,
        &after.open_holds,
        &after.total_opening,
    ];
    client.execute(include_str!("../../sql/proof/repair_account.sql"), &columns).await.map(drop)
}

async fn insert_entry(
    client: &Client,
    plan: &Plan,
    change: &Change,
    approval: &Approval<'_>,
) -> Result<(), RepairError> {
    let AdjustEntry { seq, amount, balance_before, balance_after, allocations } = &change.entry;
    let (batches, points): (Vec<i32>, Vec<i64>) = allocations.iter().map(|part| (part.batch, part.points)).unzip();
    let paid: Vec<Option<i64>> = allocations.iter().map(|part| part.paid).collect();
    let paid = paid.iter().any(Option::is_some).then_some(paid);
    let correction = correction(plan, change, approval)?;
    let columns: [&(dyn ToSql + Sync); 12] = [
        &change.user,
        seq,
        amount,
        balance_before,
        balance_after,
        &approval.at,
        &approval.reason,
        &batches,
        &points,
        &DRAWING_RULE,
        &correction,
        &paid,
    ];
    client.execute(include_str!("../../sql/proof/repair_entry.sql"), &columns).await?;
    Ok(())
}

fn correction(plan: &Plan, change: &Change, approval: &Approval<'_>) -> Result<Value, serde_json::Error> {
    Ok(json!({
        "plan": plan.plan,
        "by": approval.by,
        "reason": approval.reason,
        "when": crate::time::time_text(approval.at),
        "keep": serde_json::to_value(plan.keep)?,
        "findings": serde_json::to_value(&change.findings)?,
        "account": serde_json::to_value(&change.account)?,
        "batches": serde_json::to_value(&change.batches)?,
        "accept_history": change.accept_history,
    }))
}

/// A batch's row, and the row that follows from the history.
#[derive(Deserialize)]
struct BatchAndHistory {
    batch: i32,
    row: BatchRow,
    of_history: Option<BatchRow>,
}

/// Plans the repair of an account; else returns why no entry can repair it.
async fn plan_account(
    client: &Client,
    user: Uuid,
    findings: &[Finding],
    keep: Basis,
) -> Result<Result<Change, String>, RepairError> {
    if let Some(reason) = findings.iter().find_map(beyond_repair) {
        return Ok(Err(reason));
    }
    let row = client.query_one(include_str!("../../sql/proof/repair_load.sql"), &[&user]).await?;
    let (row, history, batches) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    Ok(parse_rows(row, history, batches)
        .and_then(|(row, history, batches)| change_of(user, findings, keep, row, &history, &batches)))
}

/// Why no entry repairs this finding.
fn beyond_repair(finding: &Finding) -> Option<String> {
    let backup = "restore it from a backup";
    Some(match (finding.rule.as_str(), finding.seq) {
        ("account_missing", _) => "the account's row is missing: restore that row from a backup".to_owned(),
        ("entry_numbers", Some(seq)) => format!("the history is damaged: entry {seq} is missing, {backup}"),
        ("entry_chain", Some(seq)) => format!(
            "entry {seq} does not begin where the one before it ended: either of the two was changed, or the balance was \
             between them and then posted to; correct the wrong one by hand, as the owner of the tables"
        ),
        ("hold_consume", _) => format!("a hold does not agree with its consume: {}; {backup}", finding.expected),
        (rule, Some(seq)) if ["entry_", "refund_", "void_"].iter().any(|part| rule.starts_with(part)) => {
            format!("the history is damaged: entry {seq} itself is wrong ({rule}), {backup}")
        }
        _ => return None,
    })
}

/// The account's row, the row that follows from the history, and the batches.
type LoadedRows = (AccountRow, AccountRow, Vec<BatchAndHistory>);

fn parse_rows(row: Option<Value>, history: Value, batches: Value) -> Result<LoadedRows, String> {
    let row = row.ok_or("the account's row is missing: restore that row from a backup")?;
    let too_much = |_| "a sum over the history does not fit into 64 bits: restore the entries from a backup".to_owned();
    Ok((
        serde_json::from_value(row).map_err(too_much)?,
        serde_json::from_value(history).map_err(too_much)?,
        serde_json::from_value(batches).map_err(too_much)?,
    ))
}

fn change_of(
    user: Uuid,
    findings: &[Finding],
    keep: Basis,
    row: AccountRow,
    history: &AccountRow,
    looked: &[BatchAndHistory],
) -> Result<Change, String> {
    let lost = "a batch's row is missing: restore that row from a backup";
    if usize::try_from(history.last_batch).unwrap_or_default() > looked.len() {
        return Err(lost.to_owned());
    }
    let mut batches = Vec::new();
    let mut allocations = Vec::new();
    let mut shown = 0_i128;
    for BatchAndHistory { batch, row, of_history } in looked {
        let Some(of_history) = of_history else {
            return Err(format!(
                "the history does not know batch {batch} as it is: no recharge, refund or opening opened it under this \
                 number, or its end is not after its opening; restore its row from a backup"
            ));
        };
        let within = 0..=of_history.amount;
        if !within.contains(&of_history.remaining) || !within.contains(&of_history.expired) {
            return Err(format!("entries took more from batch {batch} than it had: restore them from a backup"));
        }
        let mut after = of_history.clone();
        if keep == Basis::Balances {
            if !(0..=of_history.amount).contains(&row.remaining) {
                return Err(disagree(&format!("batch {batch} shows {} of {}", row.remaining, of_history.amount)));
            }
            // What remains in it may still expire.
            if of_history.expired > of_history.amount - row.remaining {
                return Err(disagree(&format!("of batch {batch}, {} points have expired", of_history.expired)));
            }
            shown += i128::from(row.remaining);
            (after.remaining, after.open) = (row.remaining, row.remaining > 0);
            let points = of_history.remaining - row.remaining;
            if points != 0 {
                let of_price = |row: &BatchRow| released(row.paid?, row.amount - row.remaining, row.amount);
                let paid = of_price(&after).zip(of_price(of_history)).map(|(after, before)| after - before);
                allocations.push(AdjustAllocation { batch: *batch, points, paid });
            }
        }
        if after != *row {
            batches.push(BatchChange { batch: *batch, before: row.clone(), after });
        }
    }
    let full = || "a number of the account would not fit into 64 bits".to_owned();
    let mut after = AccountRow { last_seq: history.last_seq.checked_add(1).ok_or_else(full)?, ..history.clone() };
    if keep == Basis::Balances {
        if shown != i128::from(row.balance.max(0)) {
            return Err(disagree(&format!("batches show {shown} points, the account a balance of {}", row.balance)));
        }
        after.balance = row.balance;
        let difference = row.balance.checked_sub(history.balance).ok_or_else(full)?;
        after.total_adjusted = history.total_adjusted.checked_add(difference).ok_or_else(full)?;
    }
    let amount = i64::try_from(after.balance.abs_diff(history.balance)).map_err(|_| full())?;
    if amount > MAX_POINTS {
        return Err(format!("the difference of {amount} points is more than an entry carries; use --keep entries"));
    }
    Ok(Change {
        user,
        findings: findings.to_vec(),
        entry: AdjustEntry {
            seq: after.last_seq,
            amount,
            balance_before: history.balance,
            balance_after: after.balance,
            allocations,
        },
        account: BeforeAfter { before: row, after },
        batches,
        accept_history: findings.iter().any(|finding| finding.rule == "history_changed"),
    })
}

fn disagree(how: &str) -> String {
    format!("what its rows show does not agree with itself ({how}), so it cannot be kept; use --keep entries")
}
