//! The ledger's answer to a posting: an [`Entry`], new or of an earlier posting, or a [`Refusal`].

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::numbers::MAX_POINTS;
use crate::time::time_text;

/// The answer to one posting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The posting was written.
    Posted(Entry),
    /// An entry with the same key and content was there already. Nothing was written.
    Replayed(Entry),
    /// The posting was refused, and nothing was written.
    Rejected(Refusal),
}

impl Reply {
    /// The entry, new or replayed; none for a refusal.
    pub fn entry(&self) -> Option<&Entry> {
        match self {
            Reply::Posted(entry) | Reply::Replayed(entry) => Some(entry),
            Reply::Rejected(_) => None,
        }
    }
}

/// Why a posting was refused, in order of precedence: the first reason that holds is given.
///
/// The same posting is refused again, unless the configuration or the tables were repaired meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It cannot be read as a posting.
    #[error("{0}")]
    Malformed(String),
    /// The points are not a number from 1 to [`MAX_POINTS`].
    #[error("{0} points: an entry carries 1 to {MAX_POINTS}")]
    InvalidPoints(i64),
    /// A recharge from a source that the configuration does not list.
    #[error("`{0}` is not a recharge source; add it to ledger.recharge_sources if it should be")]
    UnknownSource(String),
    /// The account has an entry with this key, but with other content.
    #[error("the key belongs to entry {seq} ({kind} of {amount} points, {source_type}); give this posting another key")]
    KeyConflict {
        /// Number of the entry that holds the key.
        seq: i64,
        /// What that entry is.
        kind: EntryType,
        /// Its points.
        amount: i64,
        /// Its source type.
        source_type: String,
    },
    /// A recharge with points that would expire before they are there.
    #[error("the points would expire at {expires_at}, which is not after {at}", expires_at = time_text(*expires_at), at = time_text(*at))]
    AlreadyExpired {
        /// When they would expire.
        expires_at: DateTime<Utc>,
        /// When they would come.
        at: DateTime<Utc>,
    },
    /// A lifetime total of the account would not fit into 64 bits.
    #[error("the account's lifetime total would pass {max}", max = i64::MAX)]
    AccountFull,
    /// There are open batches without an account. Only a change by hand leaves this.
    #[error("the user's account row is missing, though open batches of it are there; put it back before posting")]
    AccountMissing,
}

impl Refusal {
    /// The reason in one word, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::Malformed(_) => "malformed",
            Refusal::InvalidPoints(_) => "invalid_points",
            Refusal::UnknownSource(_) => "unknown_source",
            Refusal::KeyConflict { .. } => "key_conflict",
            Refusal::AlreadyExpired { .. } => "already_expired",
            Refusal::AccountFull => "account_full",
            Refusal::AccountMissing => "account_missing",
        }
    }
}

/// One line of an account's history. Serialises to the JSON that every command shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The user of the account.
    pub user: Uuid,
    /// 1, 2, 3 … within the account.
    pub seq: i64,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: EntryType,
    /// Points, 1 or more; the type tells the direction. Of an adjust entry 0 or more, and the balances tell it.
    pub amount: i64,
    /// The account's balance before.
    pub balance_before: i64,
    /// The account's balance after.
    pub balance_after: i64,
    /// A recharge's or an expired batch's source, or the kind of service used.
    pub source_type: String,
    /// The order or the task.
    pub source_id: Option<String>,
    /// The batch that a recharge opened.
    pub batch: Option<i32>,
    /// Points by batch: drawn by a consume, settled by a recharge, taken by an expiry; of an adjust entry above zero
    /// where they were taken out, below zero where they were put back.
    pub allocations: Vec<Allocation>,
    /// When it happened.
    #[serde(serialize_with = "time")]
    pub at: DateTime<Utc>,
    /// Seconds, where the service is charged by time.
    #[serde(serialize_with = "decimal")]
    pub duration: Option<Decimal>,
    /// For people.
    pub description: String,
    /// Stands for the posting's key; an expiry and a repair have none.
    #[serde(skip)]
    pub key: Option<Uuid>,
    /// Version of the rule by which the points were allocated.
    #[serde(skip)]
    pub drawing_rule: i16,
}

/// Points of an entry that touched a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Allocation {
    /// The batch's number within the account.
    pub batch: i32,
    /// How many points.
    pub points: i64,
}

/// The type of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryType {
    /// Points were credited.
    Recharge,
    /// Points were used.
    Consume,
    /// Points of a batch expired.
    Expire,
    /// A repair set right what a change by hand had broken.
    Adjust,
}

impl EntryType {
    /// As the database and JSON write it.
    pub fn as_str(self) -> &'static str {
        match self {
            EntryType::Recharge => "recharge",
            EntryType::Consume => "consume",
            EntryType::Expire => "expire",
            EntryType::Adjust => "adjust",
        }
    }

    /// Reads what [`EntryType::as_str`] writes.
    pub fn parse(text: &str) -> Option<EntryType> {
        let all = [EntryType::Recharge, EntryType::Consume, EntryType::Expire, EntryType::Adjust];
        all.into_iter().find(|kind| kind.as_str() == text)
    }
}

impl std::fmt::Display for EntryType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

fn time<S: Serializer>(value: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time_text(*value))
}

/// A decimal as a JSON number with just its own digits: a detour over a float could change them.
fn decimal<S: Serializer>(value: &Option<Decimal>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        None => serializer.serialize_none(),
        Some(value) => {
            RawValue::from_string(value.normalize().to_string()).map_err(S::Error::custom)?.serialize(serializer)
        }
    }
}
