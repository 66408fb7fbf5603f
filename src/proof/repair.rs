//! Repair: corrects rows with findings. An adjust entry records the change, the operator and the reason.
//!
//! No job repairs anything. An operator makes a [`Plan`], reads it and applies it. It is applied account by account; an
//! account that has changed since the plan is left alone.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_postgres::{Client, IsolationLevel};
use uuid::Uuid;

use super::checks::{Finding, examine};
use crate::ledger::{DRAWING_RULE, MAX_POINTS};

/// The side that is kept where rows and history differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// The history: rows are set back to what the entries say.
    Entries,
    /// What customers see: balances and what remains in batches stay, and the difference is booked.
    Balances,
}

/// What a repair would do. Applying it is safe at any time, and twice: an account that is not just as the plan saw it is
/// left alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Names the plan in the entries that it leads to.
    pub plan: Uuid,
    /// When it was made.
    pub made: DateTime<Utc>,
    /// What is taken for right.
    pub keep: Keep,
    /// Accounts that an entry sets right.
    pub accounts: Vec<Change>,
    /// Accounts that no entry can set right.
    pub unrepairable: Vec<Unrepairable>,
}

/// What would be done to an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The user of the account.
    pub user: Uuid,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// The adjust entry that would be posted.
    pub entry: AdjustEntry,
    /// The account's row as it was seen and as it would be.
    pub account: BeforeAfter<AccountRow>,
    /// The batches that would change.
    pub batches: Vec<BatchChange>,
    /// Whether the history is taken as it is now, though it is not what was proved.
    pub accept_history: bool,
}

/// What an adjust entry would say.
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
    pub allocations: Vec<Moved>,
}

/// Points taken out of a batch or, below zero, put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moved {
    /// The batch.
    pub batch: i32,
    /// How many points.
    pub points: i64,
}

/// A row as it was seen and as it would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeforeAfter<T> {
    /// As it was seen.
    pub before: T,
    /// As it would be.
    pub after: T,
}

/// A batch that would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchChange {
    /// Its number.
    pub batch: i32,
    /// As it was seen.
    pub before: BatchRow,
    /// As it would be.
    pub after: BatchRow,
}

/// The columns of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "they are the table's columns")]
#[serde(deny_unknown_fields)]
pub struct AccountRow {
    pub balance: i64,
    pub total_recharged: i64,
    pub total_consumed: i64,
    pub total_expired: i64,
    pub total_adjusted: i64,
    pub last_seq: i64,
    pub last_batch: i32,
}

/// The columns of a batch that its account's history knows. Times are as the database writes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "they are the table's columns")]
#[serde(deny_unknown_fields)]
pub struct BatchRow {
    pub amount: i64,
    pub remaining: i64,
    pub open: bool,
    pub source: String,
    pub opened_at: String,
}

/// An account that no entry can set right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unrepairable {
    /// The user of the account.
    pub user: Uuid,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Why no entry helps, and what does.
    pub reason: String,
}

/// What became of a plan's account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It was set right by this entry.
    Posted(i64),
    /// The plan had been applied to it before, by this entry.
    Already(i64),
    /// It is not what the plan saw: it was left alone.
    MovedOn,
    /// The repair would have left these findings: it was rolled back.
    StillBroken(Vec<Finding>),
}

/// The operator, the reason and the time of a repair.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    /// The operator.
    pub by: &'a str,
    /// The reason.
    pub reason: &'a str,
    /// Now.
    pub at: DateTime<Utc>,
}

/// Why no plan was made or applied.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The database refused or did not answer. The account in hand was left as it was.
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
pub async fn plan(client: &mut Client, users: &[Uuid], keep: Keep, at: DateTime<Utc>) -> Result<Plan, RepairError> {
    let transaction =
        client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
    let mut plan = Plan { plan: Uuid::new_v4(), made: at, keep, accounts: Vec::new(), unrepairable: Vec::new() };
    for group in users.chunks(GROUP_ACCOUNTS) {
        let findings = examine(transaction.client(), group).await?;
        for of_account in findings.chunk_by(|a, b| a.user == b.user) {
            let Some(user) = of_account.first().and_then(|finding| finding.user) else { continue };
            let findings = of_account.to_vec();
            match look(transaction.client(), user, &findings, keep).await? {
                Ok(change) => plan.accounts.push(change),
                Err(reason) => plan.unrepairable.push(Unrepairable { user, findings, reason }),
            }
        }
    }
    transaction.rollback().await?;
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
    order: &Order<'_>,
) -> Result<Applied, RepairError> {
    let user = change.user;
    let transaction = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await?;
    transaction.query(include_str!("../../sql/ledger/account_lock.sql"), &[&[user].as_slice()]).await?;
    let known = include_str!("../../sql/proof/repair_known.sql");
    if let Some(seq) = transaction.query_one(known, &[&user, &plan.plan.to_string()]).await?.try_get(0)? {
        transaction.rollback().await?;
        return Ok(Applied::Already(seq));
    }
    let findings = examine(transaction.client(), &[user]).await?;
    if look(transaction.client(), user, &findings, plan.keep).await?.as_ref() != Ok(change) {
        transaction.rollback().await?;
        return Ok(Applied::MovedOn);
    }

    let Change { entry, account: BeforeAfter { after, .. }, batches, .. } = change;
    let numbers: Vec<i32> = batches.iter().map(|batch| batch.batch).collect();
    let amounts: Vec<i64> = batches.iter().map(|batch| batch.after.amount).collect();
    let remaining: Vec<i64> = batches.iter().map(|batch| batch.after.remaining).collect();
    let sources: Vec<&str> = batches.iter().map(|batch| batch.after.source.as_str()).collect();
    let opened_at: Vec<&str> = batches.iter().map(|batch| batch.after.opened_at.as_str()).collect();
    let sql = include_str!("../../sql/proof/repair_batches.sql");
    transaction.execute(sql, &[&user, &numbers, &amounts, &remaining, &sources, &opened_at]).await?;
    let sql = include_str!("../../sql/proof/repair_account.sql");
    transaction
        .execute(
            sql,
            &[
                &user,
                &after.balance,
                &after.total_recharged,
                &after.total_consumed,
                &after.total_expired,
                &after.total_adjusted,
                &after.last_seq,
                &after.last_batch,
            ],
        )
        .await?;
    let (moved, points): (Vec<i32>, Vec<i64>) = entry.allocations.iter().map(|part| (part.batch, part.points)).unzip();
    let correction = correction(plan, change, order)?;
    let sql = include_str!("../../sql/proof/repair_entry.sql");
    transaction
        .execute(
            sql,
            &[
                &user,
                &entry.seq,
                &entry.amount,
                &entry.balance_before,
                &entry.balance_after,
                &order.at,
                &order.reason,
                &moved,
                &points,
                &DRAWING_RULE,
                &correction,
            ],
        )
        .await?;
    if change.accept_history {
        transaction.execute(include_str!("../../sql/proof/checkpoint_delete.sql"), &[&[user].as_slice()]).await?;
    }
    let left = examine(transaction.client(), &[user]).await?;
    if left.is_empty() {
        transaction.commit().await?;
        Ok(Applied::Posted(entry.seq))
    } else {
        transaction.rollback().await?;
        Ok(Applied::StillBroken(left))
    }
}

fn correction(plan: &Plan, change: &Change, order: &Order<'_>) -> Result<Value, serde_json::Error> {
    Ok(json!({
        "plan": plan.plan,
        "by": order.by,
        "reason": order.reason,
        "when": crate::time::time_text(order.at),
        "keep": serde_json::to_value(plan.keep)?,
        "findings": serde_json::to_value(&change.findings)?,
        "account": serde_json::to_value(&change.account)?,
        "batches": serde_json::to_value(&change.batches)?,
        "accept_history": change.accept_history,
    }))
}

/// A batch's row beside what the history says of it.
#[derive(Deserialize)]
struct LookedBatch {
    batch: i32,
    row: BatchRow,
    of_history: Option<BatchRow>,
}

/// Plans one account: its change, or why no entry can set it right.
async fn look(
    client: &Client,
    user: Uuid,
    findings: &[Finding],
    keep: Keep,
) -> Result<Result<Change, String>, RepairError> {
    if let Some(reason) = findings.iter().find_map(beyond_repair) {
        return Ok(Err(reason));
    }
    let row = client.query_one(include_str!("../../sql/proof/repair_look.sql"), &[&user]).await?;
    let (row, history, batches) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    Ok(read(row, history, batches)
        .and_then(|(row, history, batches)| change_of(user, findings, keep, row, &history, &batches)))
}

/// Why no entry sets right what this finding tells.
fn beyond_repair(finding: &Finding) -> Option<String> {
    let backup = "restore it from a backup";
    Some(match (finding.rule.as_str(), finding.seq) {
        ("account_missing", _) => "the account's row is missing: restore that row from a backup".to_owned(),
        ("entry_numbers", Some(seq)) => format!("the history is damaged: entry {seq} is missing, {backup}"),
        ("entry_chain", Some(seq)) => format!(
            "entry {seq} does not begin where the one before it ended: either of the two was changed, or the balance was \
             between them and then posted to; correct the wrong one by hand, as the owner of the tables"
        ),
        (rule, Some(seq)) if rule.starts_with("entry_") => {
            format!("the history is damaged: entry {seq} itself is wrong ({rule}), {backup}")
        }
        _ => return None,
    })
}

type Looked = (AccountRow, AccountRow, Vec<LookedBatch>);

fn read(row: Option<Value>, history: Value, batches: Value) -> Result<Looked, String> {
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
    keep: Keep,
    row: AccountRow,
    history: &AccountRow,
    looked: &[LookedBatch],
) -> Result<Change, String> {
    let lost = "a batch's row is missing: restore that row from a backup";
    if usize::try_from(history.last_batch).unwrap_or_default() > looked.len() {
        return Err(lost.to_owned());
    }
    let mut batches = Vec::new();
    let mut allocations = Vec::new();
    let mut shown = 0_i128;
    for LookedBatch { batch, row, of_history } in looked {
        let Some(of_history) = of_history else {
            return Err(format!(
                "the history does not know batch {batch} as it is: no recharge opened it under this number, or it \
                 expires before it was opened; restore its row from a backup"
            ));
        };
        if !(0..=of_history.amount).contains(&of_history.remaining) {
            return Err(format!("entries took more from batch {batch} than it had: restore them from a backup"));
        }
        let mut after = of_history.clone();
        if keep == Keep::Balances {
            if !(0..=of_history.amount).contains(&row.remaining) {
                return Err(disagree(&format!("batch {batch} shows {} of {}", row.remaining, of_history.amount)));
            }
            shown += i128::from(row.remaining);
            (after.remaining, after.open) = (row.remaining, row.remaining > 0);
            let points = of_history.remaining - row.remaining;
            if points != 0 {
                allocations.push(Moved { batch: *batch, points });
            }
        }
        if after != *row {
            batches.push(BatchChange { batch: *batch, before: row.clone(), after });
        }
    }
    let full = || "a number of the account would not fit into 64 bits".to_owned();
    let mut after = AccountRow { last_seq: history.last_seq.checked_add(1).ok_or_else(full)?, ..history.clone() };
    if keep == Keep::Balances {
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
