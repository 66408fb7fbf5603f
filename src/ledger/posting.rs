//! A posting as a caller hands it in, and the checks that need no account.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::time::to_microsecond;

/// The longest source and source type, in characters: they are names, repeated in every entry.
pub const MAX_NAME: usize = 64;
/// The longest key and source id, in characters.
pub const MAX_ID: usize = 255;
/// The longest description, in characters.
pub const MAX_DESCRIPTION: usize = 1_000;

/// The seconds in which a posting may happen: the years 1970 to 9999, which RFC 3339 can write.
const TIME_RANGE: std::ops::RangeInclusive<i64> = 0..=253_402_300_799;

/// Names the key's UUID space; a random constant of this project.
const KEY_NAMESPACE: Uuid = Uuid::from_u128(0x3f0c_1f5e_6a3b_4a63_9d0e_7c11_52a8_d40b);

/// A recharge or a consume that a caller wants posted.
///
/// Any value may stand here: a value that the rules do not allow comes back as a refusal.
/// Times are cut to the microsecond, as PostgreSQL stores them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posting {
    /// The user that the points belong to.
    pub user: Uuid,
    /// The points, 1 to [`MAX_POINTS`](super::MAX_POINTS).
    pub points: i64,
    /// Recharge or consume, with the fields of each.
    pub kind: Kind,
    /// The idempotency key within the account: the posting can be sent again under it. The default is
    /// `consume:{source_type}:{source_id}` or `recharge:{source}:{order_id}`.
    pub key: Option<String>,
    /// A text for people. The default is a short sentence in the business language.
    pub description: Option<String>,
    /// When it happened.
    pub at: DateTime<Utc>,
}

/// What a [`Posting`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Opens a batch of points. Arrears of the account are settled from it first.
    Recharge {
        /// Where the points come from; one of the configured recharge sources.
        source: String,
        /// The order that paid for them.
        order_id: Option<i64>,
        /// First instant at which they are expired. The default is the configured life of a batch, counted from `at`.
        expires_at: Option<DateTime<Utc>>,
    },
    /// Draws points from open batches, soonest expiry first. Points that no batch covers become arrears.
    Consume {
        /// The kind of service used.
        source_type: String,
        /// The piece of work, such as a task.
        source_id: String,
        /// Seconds, if the service is charged by time. The ledger stores them only.
        duration: Option<Decimal>,
    },
}

impl Posting {
    /// A recharge of `points` from `source`. It needs an order id or a key before it can be posted.
    pub fn recharge(user: Uuid, points: i64, source: impl Into<String>, at: DateTime<Utc>) -> Posting {
        let kind = Kind::Recharge { source: source.into(), order_id: None, expires_at: None };
        Posting { user, points, kind, key: None, description: None, at }
    }

    /// A consume of `points` by the work `source_id` of the service `source_type`.
    pub fn consume(
        user: Uuid,
        points: i64,
        source_type: impl Into<String>,
        source_id: impl Into<String>,
        at: DateTime<Utc>,
    ) -> Posting {
        let kind = Kind::Consume { source_type: source_type.into(), source_id: source_id.into(), duration: None };
        Posting { user, points, kind, key: None, description: None, at }
    }

    /// The same posting with a key of the caller's own.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Posting {
        self.key = Some(key.into());
        self
    }

    /// Source of a recharge, service of a consume: what the entry shows as `source_type`.
    pub(crate) fn source_type(&self) -> &str {
        match &self.kind {
            Kind::Recharge { source, .. } => source,
            Kind::Consume { source_type, .. } => source_type,
        }
    }

    /// Order of a recharge, task of a consume: what the entry shows as `source_id`.
    pub(crate) fn source_id(&self) -> Option<String> {
        match &self.kind {
            Kind::Recharge { order_id, .. } => order_id.map(|id| id.to_string()),
            Kind::Consume { source_id, .. } => Some(source_id.clone()),
        }
    }

    /// The sixteen bytes that stand for the user and the idempotency key: the version-5 UUID of both. `None` if the posting
    /// has no key. With the user in it, one index over it serves all users, and is a third smaller than one over both.
    pub(crate) fn key_id(&self) -> Option<Uuid> {
        let id = |key: &str| Uuid::new_v5(&KEY_NAMESPACE, &[self.user.as_bytes(), key.as_bytes()].concat());
        match (&self.key, &self.kind) {
            (Some(key), _) => Some(id(key)),
            (None, Kind::Recharge { source, order_id: Some(order), .. }) => {
                Some(id(&format!("recharge:{source}:{order}")))
            }
            (None, Kind::Recharge { order_id: None, .. }) => None,
            (None, Kind::Consume { source_type, source_id, .. }) => {
                Some(id(&format!("consume:{source_type}:{source_id}")))
            }
        }
    }

    /// Says why this is no posting at all, if so. The rules of the ledger come later.
    pub(crate) fn malformed(&self) -> Option<String> {
        self.check().err()
    }

    fn check(&self) -> Result<(), String> {
        text("key", self.key.as_deref(), MAX_ID)?;
        if let Some(description) = &self.description {
            within("description", description, MAX_DESCRIPTION)?;
        }
        time("at", self.at)?;
        match &self.kind {
            Kind::Recharge { source, order_id, expires_at } => {
                text("source", Some(source), MAX_NAME)?;
                if let Some(expires_at) = expires_at {
                    time("expires_at", *expires_at)?;
                }
                if self.key.is_none() && order_id.is_none() {
                    return Err("a recharge needs an order_id or a key: without one, sending it again would \
                                credit the points twice"
                        .to_owned());
                }
            }
            Kind::Consume { source_type, source_id, duration } => {
                text("source_type", Some(source_type), MAX_NAME)?;
                text("source_id", Some(source_id), MAX_ID)?;
                if duration.is_some_and(|seconds| seconds.is_sign_negative() && !seconds.is_zero()) {
                    return Err("duration is negative: give seconds, 0 or more".to_owned());
                }
            }
        }
        Ok(())
    }
}

fn text(field: &str, value: Option<&str>, longest: usize) -> Result<(), String> {
    match value {
        Some("") => Err(format!("{field} is empty")),
        Some(value) => within(field, value, longest),
        None => Ok(()),
    }
}

fn within(field: &str, value: &str, longest: usize) -> Result<(), String> {
    // Bytes first: nearly every text passes this test, and counting characters is slower.
    if value.len() > longest && value.chars().count() > longest {
        return Err(format!("{field} is longer than {longest} characters"));
    }
    if value.contains('\0') {
        return Err(format!("{field} holds a NUL character, which PostgreSQL cannot store"));
    }
    Ok(())
}

fn time(field: &str, value: DateTime<Utc>) -> Result<(), String> {
    if in_range(value) { Ok(()) } else { Err(format!("{field} is outside the years 1970 to 9999")) }
}

/// Whether the ledger can store this instant. A leap second is stored as the first second of the next minute.
pub(crate) fn in_range(value: DateTime<Utc>) -> bool {
    TIME_RANGE.contains(&to_microsecond(value).timestamp())
}
