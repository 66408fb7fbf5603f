//! How another service's tables are read, and what is decided about what they hold: `config/adopt.yaml`.

use std::collections::BTreeMap;
use std::str::FromStr as _;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_yaml::Value;

use crate::time::Zone;
use crate::yaml;

/// Every key with its default.
const BUILT_IN: &str = include_str!("../../config/adopt.yaml");

/// The mapping and the decisions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The zone of times that have none.
    pub time_zone: String,
    /// Where accounts are.
    pub accounts: Accounts,
    /// Where batches are; None: there are none.
    pub batches: Option<Batches>,
    /// Where the history is; None: there is none.
    pub transactions: Option<Transactions>,
    /// What is decided.
    pub decisions: Decisions,
}

/// The table of accounts. A value is a column, or an SQL expression.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Accounts {
    pub table: String,
    #[serde(rename = "where")]
    pub condition: Option<String>,
    pub user: String,
    pub balance: String,
    pub recharged: Option<String>,
    pub consumed: Option<String>,
    pub expired: Option<String>,
    pub opened_at: Option<String>,
}

/// The table of batches. A value is a column, or an SQL expression.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Batches {
    pub table: String,
    #[serde(rename = "where")]
    pub condition: Option<String>,
    pub user: String,
    pub id: Option<String>,
    pub amount: Option<String>,
    pub remaining: String,
    pub source: String,
    pub opened_at: Option<String>,
    pub expires_at: Option<String>,
    pub paid: Option<String>,
    pub currency: Option<String>,
}

/// The table of transactions. A value is a column, or an SQL expression.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Transactions {
    pub table: String,
    #[serde(rename = "where")]
    pub condition: Option<String>,
    pub user: String,
    pub id: Option<String>,
    #[serde(rename = "type")]
    pub kind: String,
    pub amount: String,
    pub balance_before: Option<String>,
    pub balance_after: Option<String>,
    pub source_type: Option<String>,
    pub source_id: Option<String>,
    pub batch: Option<String>,
    pub duration: Option<String>,
    pub description: Option<String>,
    pub at: String,
}

/// What becomes of what the tables hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decisions {
    /// What each account has afterwards where balance and batches differ.
    pub keep: Keep,
    /// Points in batches that were due.
    pub expired_points: ExpiredPoints,
    /// How long they live if they are kept; None: 30 days after the tables were read.
    pub expired_points_until: Option<DateTime<Utc>>,
    /// The source of points of a balance that no batch has.
    pub points_without_batch: String,
    /// What was charged again when the points that had paid it expired.
    pub debts_charged_twice: ChargedTwice,
    /// Batches whose account is gone.
    pub batches_without_account: Orphans,
    /// Other names for sources.
    pub sources: BTreeMap<String, String>,
}

/// Which of the two is right where they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// The balance, which customers see.
    Balances,
    /// The sum of the batches.
    Batches,
}

/// What becomes of points that were due and are still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiredPoints {
    /// They get another end.
    Keep,
    /// They are not brought along.
    LeaveOut,
}

/// What becomes of a debt that was charged twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChargedTwice {
    /// It stays.
    Keep,
    /// A recharge gives back what was charged the second time.
    Forgive,
}

/// What becomes of batches whose account is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Orphans {
    /// They are not brought along.
    LeaveOut,
    /// They become an account.
    Adopt,
}

impl Settings {
    /// The built-in settings, changed by a file's text. `file` is only shown in errors.
    ///
    /// # Errors
    /// What is wrong with the text: where, and what to write instead.
    pub fn parse(file: &str, text: &str) -> Result<Settings, yaml::Error> {
        let (settings, lines) = yaml::parse_over::<Settings>(BUILT_IN, file, text, &[], |merged, changes, _| {
            // A section that is written empty changes nothing elsewhere; here it says that there is no such table.
            for section in ["batches", "transactions"] {
                if let (Some(merged), Some(Value::Null)) = (merged.get_mut(section), changes.get(section)) {
                    *merged = Value::Null;
                }
            }
            // What a plan writes beside its settings.
            if let Some(merged) = merged.as_mapping_mut() {
                merged.remove("plan");
            }
        })?;
        if let Err(why) = Zone::from_str(&settings.time_zone) {
            return Err(lines.error("time_zone", why, "write an IANA name such as Asia/Shanghai"));
        }
        if settings.batches.is_none() && settings.decisions.keep == Keep::Batches {
            let remedy = "write `balances`, or say in `batches` where they are";
            return Err(lines.error("decisions.keep", "without batches only balances can be kept", remedy));
        }
        Ok(settings)
    }
}
