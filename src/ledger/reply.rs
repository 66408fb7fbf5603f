//! The ledger's answer to a posting: what it [`Posted`], now or before, a [`Hold`], or a [`Refusal`].

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::holds::{Hold, HoldState};
use super::money::Currency;
use crate::numbers::MAX_POINTS;
use crate::time::time_text;

/// The answer to one posting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The posting was written.
    Posted(Posted),
    /// The same posting was written before, under the same key. Nothing was written.
    Replayed(Posted),
    /// Points are reserved.
    Held(Hold),
    /// They were reserved already. If the posting asked for a later end, the hold ends later now.
    HeldBefore(Hold),
    /// A hold was released.
    Released(Hold),
    /// It was released already.
    ReleasedBefore(Hold),
    /// The posting was refused, and nothing was written.
    Rejected(Refusal),
}

impl Reply {
    /// The entry, new or replayed; of several the first. None for a hold, a release and a refusal.
    pub fn entry(&self) -> Option<&Entry> {
        match self {
            Reply::Posted(posted) | Reply::Replayed(posted) => Some(&posted.entry),
            _ => None,
        }
    }

    /// The refusal, if it is one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Reply::Rejected(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// How many allocations it lists.
    pub(crate) fn allocations(&self) -> usize {
        match self {
            Reply::Posted(Posted { entry, expired, restored, .. })
            | Reply::Replayed(Posted { entry, expired, restored, .. }) => {
                entry.allocations.len() + expired.len() + restored.len()
            }
            _ => 0,
        }
    }

    /// The answer in one word, for programs: `posted`, `held`, `released`, `replayed` or `rejected`.
    pub fn status(&self) -> &'static str {
        match self {
            Reply::Posted(_) => "posted",
            Reply::Held(_) => "held",
            Reply::Released(_) => "released",
            Reply::Replayed(_) | Reply::HeldBefore(_) | Reply::ReleasedBefore(_) => "replayed",
            Reply::Rejected(_) => "rejected",
        }
    }
}

/// What a posting wrote. Serialises to the JSON of its first entry, and what belongs to the whole.
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Posted {
    /// The entry that stands for the posting: of a refund in several parts the first.
    #[serde(flatten)]
    pub entry: Entry,
    /// All points of the posting.
    pub points: i64,
    /// The last of its entries. It differs from `seq` only where a refund has several parts.
    pub last_seq: i64,
    /// Batches that expired on the way, because they were due at `at`. Empty in a replay.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expired: Vec<Allocation>,
    /// Points that had expired and were restored, because the work was done before. Empty in a replay.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub restored: Vec<Allocation>,
}

impl Posted {
    /// From the entries that a posting wrote; `None` if there is no entry of its own among them.
    pub(super) fn new(entries: &[Entry]) -> Option<Posted> {
        let first = entries.iter().position(|entry| entry.key.is_some())?;
        let (before, own) = entries.split_at_checked(first)?;
        let of_kind = |kind| {
            let entries = before.iter().filter(move |entry| entry.kind == kind);
            entries.flat_map(|entry| entry.allocations.iter().copied()).collect()
        };
        Some(Posted {
            entry: own.first()?.clone(),
            points: own.iter().map(|entry| entry.amount).sum(),
            last_seq: own.last()?.seq,
            expired: of_kind(EntryType::Expire),
            restored: of_kind(EntryType::Restore),
        })
    }

    /// From the first entry of an earlier posting.
    pub(super) fn before(entry: Entry) -> Posted {
        let asked = entry.asked;
        Posted {
            points: asked.map_or(entry.amount, |asked| asked.posted),
            last_seq: asked.map_or(entry.seq, |asked| entry.seq.saturating_add(asked.entries).saturating_sub(1)),
            entry,
            expired: Vec::new(),
            restored: Vec::new(),
        }
    }
}

/// Why a posting was refused, in order of precedence: the first reason that holds is given.
///
/// The same posting is refused again, unless time has passed, the account has changed, or the configuration or the tables were
/// repaired meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It cannot be read as a posting.
    #[error("{0}")]
    Malformed(String),
    /// The points are not a number from 1 to [`MAX_POINTS`].
    #[error("{0} points: an entry carries 1 to {MAX_POINTS}")]
    InvalidPoints(i64),
    /// The posting is dated more than five minutes ahead of the database's clock.
    #[error("{at} is in the future: the database's clock shows {now}; correct the date", at = time_text(*at), now = time_text(*now))]
    FromTheFuture {
        /// The date of the posting.
        at: DateTime<Utc>,
        /// The database's clock.
        now: DateTime<Utc>,
    },
    /// A recharge from a source that the configuration does not list.
    #[error("`{0}` is not a recharge source; add it to ledger.sources if it should be")]
    UnknownSource(String),
    /// The account has an entry or a hold with this key, but with other content.
    #[error("{named} {holder}")]
    KeyConflict {
        /// What the posting calls itself by, such as `order_id 7 of gift`.
        named: String,
        /// What has it.
        holder: KeyHolder,
    },
    /// A refund or a void names an entry that the account does not have.
    #[error("the account has no {0}")]
    UnknownEntry(String),
    /// A refund or a void names what another service posted, before its tables were adopted.
    #[error(
        "the service before this ledger posted that {kind} at {at}, and its batches are unknown here; give points back as a recharge",
        at = time_text(*at)
    )]
    BeforeTheLedger {
        /// Whether it is a recharge or a consume.
        kind: EntryType,
        /// When it was posted.
        at: DateTime<Utc>,
    },
    /// A release names a hold that the account does not have.
    #[error("the account has no such hold")]
    UnknownHold,
    /// An opening of an account that has other entries, or that opened in the other way.
    #[error("{0}")]
    AlreadyOpen(Opened),
    /// A recharge with points, or a hold, that would end before it begins.
    #[error("the end {ends} is not after {at}", ends = time_text(*ends), at = time_text(*at))]
    AlreadyExpired {
        /// When it would end.
        ends: DateTime<Utc>,
        /// When it would begin.
        at: DateTime<Utc>,
    },
    /// Points that had expired before they were brought along.
    #[error("the points expired at {ends}: expired points are not brought along; leave the line out", ends = time_text(*ends))]
    ExpiredElsewhere {
        /// When they expired.
        ends: DateTime<Utc>,
    },
    /// A refund of more than is left of the consume.
    #[error("{} of entry {seq} {} left to refund", points_text(*left), if *left == 1 { "is" } else { "are" })]
    ExceedsConsumed {
        /// Number of the consume.
        seq: i64,
        /// Its points less earlier refunds.
        left: i64,
    },
    /// A void of a recharge of which nothing can be taken back.
    #[error("nothing of the recharge, entry {seq}, can be taken back: its points were voided or have expired")]
    NothingLeft {
        /// Number of the recharge.
        seq: i64,
    },
    /// A void of more than can be taken back of the recharge.
    #[error("at most {} of the recharge, entry {seq}, can be taken back", points_text(*most))]
    ExceedsRecharge {
        /// Number of the recharge.
        seq: i64,
        /// What can be taken back.
        most: i64,
    },
    /// A hold of more points than are available, or on an account in arrears.
    #[error("{points} points cannot be held: {available} are available, the balance is {balance}")]
    Insufficient {
        /// The points asked for.
        points: i64,
        /// Points available at that time.
        available: i64,
        /// The account's balance; below zero in arrears.
        balance: i64,
    },
    /// A lifetime total of the account would not fit into 64 bits.
    #[error("the account's lifetime total would pass {max}", max = i64::MAX)]
    AccountFull,
    /// There are open batches without an account. Only a change by hand leaves this.
    #[error("the user's account row is missing, though open batches of it are there; put it back before posting")]
    AccountMissing,
    /// The database does not take what the posting writes: only a change of the account's rows or of the tables by hand leaves
    /// this.
    #[error(
        "the account does not take it: {0}; see what pointsd run reconciliation --full finds, mend the account, and post it again"
    )]
    AccountDamaged(String),
}

/// What has the key of a posting that was refused for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyHolder {
    /// An entry.
    Entry {
        /// Its number.
        seq: i64,
        /// Its type.
        kind: EntryType,
        /// Its points.
        amount: i64,
        /// Its source type.
        source_type: String,
    },
    /// A transaction of another service, whose tables were adopted.
    AnotherService {
        /// Its type.
        kind: EntryType,
        /// Its points.
        amount: i64,
        /// When it was posted.
        at: DateTime<Utc>,
    },
    /// A hold.
    Hold {
        /// Its points.
        points: i64,
        /// What became of it.
        state: HoldState,
    },
}

/// What an account has already, so that it takes no opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Other entries than openings, after so many entries in all.
    Used {
        /// The number of its last entry.
        entries: i64,
    },
    /// A debt, to which points would come.
    DebtBeforePoints {
        /// The debt's points.
        debt: i64,
    },
    /// Another debt.
    Debt {
        /// Its points.
        debt: i64,
        /// When it began, if that was read.
        at: Option<DateTime<Utc>>,
    },
    /// Points, to which a debt would come.
    PointsBeforeDebt {
        /// The points.
        points: i64,
    },
}

impl std::fmt::Display for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Opened::Used { entries } => write!(
                f,
                "the account is in use, with {entries} entries: an opening comes before all others; recharge it or consume from it \
                 instead"
            ),
            Opened::DebtBeforePoints { debt } => write!(
                f,
                "the account opened with a debt of {}: points beside it would pay it; bring only the difference along",
                points_text(*debt)
            ),
            Opened::Debt { debt, at } => write!(
                f,
                "the account opened with another debt, of {}{}: bring one along that is the sum of both",
                points_text(*debt),
                at.map(|at| format!(" since {}", time_text(at))).unwrap_or_default()
            ),
            Opened::PointsBeforeDebt { points } => write!(
                f,
                "the account opened with {}: a debt beside them would be paid by them; bring only the difference along",
                points_text(*points)
            ),
        }
    }
}

fn points_text(points: i64) -> String {
    match points {
        0 => "no points".to_owned(),
        1 => "1 point".to_owned(),
        _ => format!("{points} points"),
    }
}

/// Goes on after what the posting calls itself by.
impl std::fmt::Display for KeyHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            KeyHolder::Entry { seq, kind, amount, source_type } => {
                let points = points_text(*amount);
                write!(f, "belongs to entry {seq} ({kind} of {points}, {source_type}); give this posting another one")
            }
            KeyHolder::AnotherService { kind, amount, at } => {
                let (at, points) = (time_text(*at), points_text(*amount));
                write!(
                    f,
                    "was posted at {at} by the service before this ledger ({kind} of {points}); give this posting another one"
                )
            }
            KeyHolder::Hold { points, state: HoldState::Captured } => {
                let points = points_text(*points);
                write!(f, "belongs to a hold of {points}, which its consume has captured; refund that instead")
            }
            KeyHolder::Hold { points, state } => {
                let (points, state) = (points_text(*points), state.as_str());
                write!(f, "belongs to a hold of {points} ({state}); give this posting another one")
            }
        }
    }
}

impl Refusal {
    /// The reason in one word, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::Malformed(_) => "malformed",
            Refusal::InvalidPoints(_) => "invalid_points",
            Refusal::FromTheFuture { .. } => "from_the_future",
            Refusal::UnknownSource(_) => "unknown_source",
            Refusal::KeyConflict { .. } => "key_conflict",
            Refusal::UnknownEntry(_) => "unknown_entry",
            Refusal::BeforeTheLedger { .. } => "before_the_ledger",
            Refusal::UnknownHold => "unknown_hold",
            Refusal::AlreadyOpen(_) => "already_open",
            Refusal::AlreadyExpired { .. } | Refusal::ExpiredElsewhere { .. } => "already_expired",
            Refusal::ExceedsConsumed { .. } => "exceeds_consumed",
            Refusal::NothingLeft { .. } => "nothing_left",
            Refusal::ExceedsRecharge { .. } => "exceeds_recharge",
            Refusal::Insufficient { .. } => "insufficient",
            Refusal::AccountFull => "account_full",
            Refusal::AccountMissing => "account_missing",
            Refusal::AccountDamaged(_) => "account_damaged",
        }
    }
}

/// One line of an account's history. Serialises to the JSON that every command shows.
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The user of the account.
    pub user: Uuid,
    /// 1, 2, 3 … within the account; 0 where another service posted it, before its tables were adopted.
    pub seq: i64,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: EntryType,
    /// Points, 1 or more; the type tells the direction. Of an opening the balances tell it, and of an adjust entry, which may have 0.
    pub amount: i64,
    /// The account's balance before.
    pub balance_before: i64,
    /// The account's balance after.
    pub balance_after: i64,
    /// The kind of service used, or the source of the points.
    pub source_type: String,
    /// The order or the task, of an opening what its batch was called elsewhere. Of a refund the task of its consume, of a void the order of its recharge.
    pub source_id: Option<String>,
    /// The batch that a recharge, a refund or an opening of points opened.
    pub batch: Option<i32>,
    /// Points by batch: drawn by a consume or a void, settled by a recharge or a refund, taken by an expiry, put back by a
    /// restore; of an adjust entry above zero where they were taken out, below zero where they were put back.
    pub allocations: Vec<Allocation>,
    /// When it happened.
    #[serde(serialize_with = "serialize_time")]
    #[cfg_attr(feature = "service", schema(value_type = String, format = DateTime))]
    pub at: DateTime<Utc>,
    /// Seconds, where the service is charged by time.
    #[serde(serialize_with = "decimal")]
    #[cfg_attr(feature = "service", schema(value_type = Option<f64>))]
    pub duration: Option<Decimal>,
    /// What the caller wrote for people, if anything.
    pub description: Option<String>,
    /// Of a refund the number of its consume, of a void that of its recharge.
    pub refers_to: Option<i64>,
    /// In minor units: what the batch of a recharge, a refund or an opening opened with, or what a void returns to the customer. None without
    /// money.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paid: Option<i64>,
    /// The currency of `paid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "service", schema(value_type = Option<String>))]
    pub currency: Option<Currency>,
    /// Of the first entry of a refund or a void: what was asked for.
    #[serde(skip)]
    pub asked: Option<Asked>,
    /// Stands for the posting's key; an expiry and a repair have none.
    #[serde(skip)]
    pub key: Option<Uuid>,
    /// Version of the rule by which the points were allocated.
    #[serde(skip)]
    pub drawing_rule: i16,
}

/// What a refund or a void was asked for, and what it wrote. It is stored to tell a replay from a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The points; `None` where they were left out.
    pub points: Option<i64>,
    /// Whether points that were used already may be taken too.
    pub beyond_used: bool,
    /// The points of all its entries.
    pub posted: i64,
    /// How many entries it has, one after the other.
    pub entries: i64,
}

/// Points of an entry that touched a batch.
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Allocation {
    /// The batch's number within the account.
    pub batch: i32,
    /// How many points.
    pub points: i64,
    /// What they released of the batch's price, or what a restore gave back, in minor units. None where the batch has no price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paid: Option<i64>,
}

/// The type of an entry.
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryType {
    /// Points were credited.
    Recharge,
    /// Points were used.
    Consume,
    /// Points of a batch expired.
    Expire,
    /// Points of a consume were given back.
    Refund,
    /// Points of a recharge were taken back.
    Void,
    /// Points that had expired were put back, for work that was done before they expired.
    Restore,
    /// A repair set right what a change by hand had broken.
    Adjust,
    /// The account brought points or a debt along from elsewhere.
    Opening,
}

impl Entry {
    /// Whether another service posted it. Its points are in the openings, and its batches are not known.
    pub fn is_of_another_service(&self) -> bool {
        self.seq == 0
    }
}

impl EntryType {
    /// All of them.
    pub const ALL: [EntryType; 8] = [
        EntryType::Recharge,
        EntryType::Consume,
        EntryType::Expire,
        EntryType::Refund,
        EntryType::Void,
        EntryType::Restore,
        EntryType::Adjust,
        EntryType::Opening,
    ];

    /// As the database and JSON write it.
    pub fn as_str(self) -> &'static str {
        match self {
            EntryType::Recharge => "recharge",
            EntryType::Consume => "consume",
            EntryType::Expire => "expire",
            EntryType::Refund => "refund",
            EntryType::Void => "void",
            EntryType::Restore => "restore",
            EntryType::Adjust => "adjust",
            EntryType::Opening => "opening",
        }
    }

    /// Reads what [`EntryType::as_str`] writes.
    pub fn parse(text: &str) -> Option<EntryType> {
        EntryType::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Whether a posting's entry of this type adds its points to the balance. An opening does unless it is a debt. An adjust entry,
    /// which no posting writes, may do either.
    pub(super) fn adds(self) -> bool {
        matches!(self, EntryType::Recharge | EntryType::Refund | EntryType::Restore | EntryType::Opening)
    }
}

impl std::fmt::Display for EntryType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An instant as RFC 3339.
pub(super) fn serialize_time<S: Serializer>(value: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
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
