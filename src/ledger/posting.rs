//! What a caller asks of the ledger: a [`Posting`], and what makes one malformed.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::time::to_microsecond;

/// The most points that one entry may carry; the least is 1.
pub const MAX_POINTS: i64 = 1_000_000_000_000;
/// The longest source and source type, in characters: they are names, repeated in every entry.
pub const MAX_NAME: usize = 64;
/// The longest key and source id, in characters.
pub const MAX_ID: usize = 255;
/// The longest description, in characters.
pub const MAX_DESCRIPTION: usize = 1_000;

/// First and last second in which something may happen: the years 1970 to 9999, which RFC 3339 can write.
const TIME_RANGE: std::ops::RangeInclusive<i64> = 0..=253_402_300_799;

/// Names the key's UUID space; a random constant of this project.
const KEY_NAMESPACE: Uuid = Uuid::from_u128(0x3f0c_1f5e_6a3b_4a63_9d0e_7c11_52a8_d40b);

/// A recharge or a consume that somebody wants in the books.
///
/// Any value may be written here: what the rules do not allow comes back as a refusal, not as a crash.
/// Times are kept to the microsecond, as PostgreSQL does; what is finer is cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posting {
    /// Whose points.
    pub user: Uuid,
    /// How many, 1 to [`MAX_POINTS`].
    pub points: i64,
    /// Recharge or consume, with what belongs to each.
    pub kind: Kind,
    /// Names this posting within its account, so that it can be sent again. Without one it is
    /// `consume:{source_type}:{source_id}` or `recharge:{source}:{order_id}`.
    pub key: Option<String>,
    /// For people; without one the ledger writes a short sentence in the business language.
    pub description: Option<String>,
    /// When it happened.
    pub at: DateTime<Utc>,
}

/// What a [`Posting`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Opens a batch of points, after what the account owes was settled from it.
    Recharge {
        /// Where the points come from; one of the configured recharge sources.
        source: String,
        /// The order that paid for them.
        order_id: Option<i64>,
        /// First instant at which they are gone; without one the configured life of a batch counts from `at`.
        expires_at: Option<DateTime<Utc>>,
    },
    /// Draws points from open batches, soonest expiry first; what they do not cover becomes arrears.
    Consume {
        /// The kind of service used.
        source_type: String,
        /// Which piece of work it was.
        source_id: String,
        /// Seconds, where the service is charged by time; kept, not interpreted.
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

    /// Why this posting cannot be read as one at all, if so. What a rule of the ledger refuses is not found here.
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
    // Bytes first: nearly every text passes there, and counting characters is the dearer test.
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

/// Whether the ledger can keep this instant. A leap second is kept as the first of the next minute.
pub(crate) fn in_range(value: DateTime<Utc>) -> bool {
    TIME_RANGE.contains(&to_microsecond(value).timestamp())
}
