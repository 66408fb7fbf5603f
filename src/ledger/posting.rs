//! A posting as a caller hands it in, and the checks that need no account.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::key::Reference;
use super::money::{Currency, MAX_PAID, Money};
use crate::time::to_microsecond;

/// The longest source and source type, in characters: they are names, repeated in every entry.
pub const MAX_NAME: usize = 64;
/// The longest key and source id, in characters.
pub const MAX_ID: usize = 255;
/// The longest description, in characters.
pub const MAX_DESCRIPTION: usize = 1_000;

/// What the entry of a debt that an account brought along shows as `source_type`.
pub(crate) const OPENING_DEBT: &str = "opening";

/// The seconds in which a posting may happen: the years 1970 to 9999, which RFC 3339 can write.
const TIME_RANGE: std::ops::RangeInclusive<i64> = 0..=253_402_300_799;

/// A change of an account's points that a caller wants posted.
///
/// Any value may stand here: a value that the rules do not allow comes back as a refusal.
/// Times are cut to the microsecond, as PostgreSQL stores them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posting {
    /// The user that the points belong to.
    pub user: Uuid,
    /// The points, 1 to [`MAX_POINTS`](super::MAX_POINTS). A refund or a void without points takes all that is left; a release has none.
    pub points: Option<i64>,
    /// What is to be done, with the fields of each.
    pub kind: Kind,
    /// The idempotency key within the account: the posting can be sent again under it. The default is made of the fields
    /// that name the posting, see [`Posting::default_key`].
    pub key: Option<String>,
    /// A text for people, kept with the entry. A hold and a release write none, and have no description.
    pub description: Option<String>,
    /// When it happened.
    pub at: DateTime<Utc>,
}

/// What a [`Posting`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Opens a batch of points. Arrears of the account are settled from it first.
    Recharge {
        /// Where the points come from; one of the configured sources.
        source: String,
        /// The order that paid for them.
        order_id: Option<i64>,
        /// First instant at which they are expired. The default is the configured term of the source, counted from `at`.
        expires_at: Option<DateTime<Utc>>,
        /// What the customer paid for them, 0 to [`MAX_PAID`] minor units. Points of a promotional source have no price.
        paid: Option<Money>,
    },
    /// Draws points from the batches that were alive at `at`, soonest expiry first. What they do not cover becomes arrears.
    Consume {
        /// The kind of service used.
        source_type: String,
        /// The piece of work, such as a task.
        source_id: String,
        /// Seconds, if the service is charged by time. The ledger stores them only.
        duration: Option<Decimal>,
    },
    /// Gives back points of one consume, all or part.
    Refund {
        /// The consume.
        consume: Reference,
    },
    /// Takes back one recharge, all or part: after a chargeback or a typing error.
    Void {
        /// The recharge.
        recharge: Reference,
        /// What happens to points that were used already.
        beyond: Beyond,
    },
    /// Reserves points for work that is about to begin. The consume with the same key captures the hold.
    Hold {
        /// The kind of service.
        source_type: String,
        /// The piece of work, such as a task.
        source_id: String,
        /// First instant at which the hold reserves nothing any more.
        until: DateTime<Utc>,
    },
    /// Ends a hold whose work is not done after all.
    Release {
        /// The hold, named as the consume that would capture it.
        hold: Reference,
    },
    /// Takes over what the account has elsewhere, before anything else is posted to it. Only an import does so.
    Opening(Opening),
}

/// What an account brings along from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The points that are left of a batch. It was opened at the posting's `at`.
    Points {
        /// What the batch was called there. It names the posting, so an import can be repeated.
        id: String,
        /// Where the points came from; one of the configured sources.
        source: String,
        /// First instant at which they are expired. The default is the configured term of the source, counted from `at`.
        expires_at: Option<DateTime<Utc>>,
        /// The part of the price that is not released yet.
        paid: Option<Money>,
    },
    /// What the account owes. It began at the posting's `at`.
    Debt,
}

impl Kind {
    /// As files, the queue and the metrics call it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Kind::Recharge { .. } => "recharge",
            Kind::Consume { .. } => "consume",
            Kind::Refund { .. } => "refund",
            Kind::Void { .. } => "void",
            Kind::Hold { .. } => "hold",
            Kind::Release { .. } => "release",
            Kind::Opening(_) => "opening",
        }
    }
}

/// How much a void may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Beyond {
    /// Also what was used of the recharge: it is drawn from other batches, and the rest becomes arrears.
    #[default]
    Used,
    /// Only what remains in the recharge's batch.
    Remaining,
}

impl Posting {
    /// A recharge of `points` from `source`. It needs an order id or a key before it can be posted.
    pub fn recharge(user: Uuid, points: i64, source: impl Into<String>, at: DateTime<Utc>) -> Posting {
        let kind = Kind::Recharge { source: source.into(), order_id: None, expires_at: None, paid: None };
        Posting { points: Some(points), ..Posting::of(user, kind, at) }
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
        Posting { points: Some(points), ..Posting::of(user, kind, at) }
    }

    /// A refund of all that is left of a consume.
    pub fn refund(user: Uuid, consume: Reference, at: DateTime<Utc>) -> Posting {
        Posting::of(user, Kind::Refund { consume }, at)
    }

    /// A void of a whole recharge.
    pub fn void(user: Uuid, recharge: Reference, at: DateTime<Utc>) -> Posting {
        Posting::of(user, Kind::Void { recharge, beyond: Beyond::Used }, at)
    }

    /// A hold of `points` for the work `source_id` of the service `source_type`, which ends at `until` unless a consume or a
    /// release ends it before.
    pub fn hold(
        user: Uuid,
        points: i64,
        source_type: impl Into<String>,
        source_id: impl Into<String>,
        until: DateTime<Utc>,
        at: DateTime<Utc>,
    ) -> Posting {
        let kind = Kind::Hold { source_type: source_type.into(), source_id: source_id.into(), until };
        Posting { points: Some(points), ..Posting::of(user, kind, at) }
    }

    /// What an account brings along: `points` of a batch that was opened at `at`, or a debt of so many that began then.
    pub fn opening(user: Uuid, points: i64, opening: Opening, at: DateTime<Utc>) -> Posting {
        Posting { points: Some(points), ..Posting::of(user, Kind::Opening(opening), at) }
    }

    /// The release of a hold.
    pub fn release(user: Uuid, hold: Reference, at: DateTime<Utc>) -> Posting {
        Posting::of(user, Kind::Release { hold }, at)
    }

    fn of(user: Uuid, kind: Kind, at: DateTime<Utc>) -> Posting {
        Posting { user, points: None, kind, key: None, description: None, at }
    }

    /// The same posting of so many points.
    #[must_use]
    pub fn with_points(mut self, points: i64) -> Posting {
        self.points = Some(points);
        self
    }

    /// The same recharge or opening of points with a price, in minor units. Other postings have no price and stay as they are.
    #[must_use]
    pub fn with_paid(mut self, amount: i64, currency: Currency) -> Posting {
        if let Kind::Recharge { paid, .. } | Kind::Opening(Opening::Points { paid, .. }) = &mut self.kind {
            *paid = Some(Money { amount, currency });
        }
        self
    }

    /// The same posting with a key of the caller's own.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Posting {
        self.key = Some(key.into());
        self
    }

    /// Source of a recharge or an opening, service of a consume: what the entry shows as `source_type`. Empty for a posting that only names
    /// another.
    pub(crate) fn source_type(&self) -> &str {
        match &self.kind {
            Kind::Recharge { source, .. } | Kind::Opening(Opening::Points { source, .. }) => source,
            Kind::Opening(Opening::Debt) => OPENING_DEBT,
            Kind::Consume { source_type, .. } | Kind::Hold { source_type, .. } => source_type,
            Kind::Refund { .. } | Kind::Void { .. } | Kind::Release { .. } => "",
        }
    }

    /// Order of a recharge, task of a consume, name of a batch elsewhere: what the entry shows as `source_id`.
    pub(crate) fn source_id(&self) -> Option<String> {
        match &self.kind {
            Kind::Recharge { order_id, .. } => order_id.map(|id| id.to_string()),
            Kind::Consume { source_id, .. } | Kind::Hold { source_id, .. } => Some(source_id.clone()),
            Kind::Opening(Opening::Points { id, .. }) => Some(id.clone()),
            Kind::Refund { .. } | Kind::Void { .. } | Kind::Release { .. } | Kind::Opening(Opening::Debt) => None,
        }
    }

    /// The posting that a refund, a void or a release names.
    pub(crate) fn reference(&self) -> Option<&Reference> {
        match &self.kind {
            Kind::Refund { consume: reference }
            | Kind::Void { recharge: reference, .. }
            | Kind::Release { hold: reference } => Some(reference),
            Kind::Recharge { .. } | Kind::Consume { .. } | Kind::Hold { .. } | Kind::Opening(_) => None,
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
        let needs_points = |op: &str| match self.points {
            Some(_) => Ok(()),
            None => Err(format!("points is missing, a {op} needs it")),
        };
        match &self.kind {
            Kind::Recharge { source, order_id, expires_at, paid } => {
                needs_points("recharge")?;
                text("source", Some(source), MAX_NAME)?;
                if let Some(expires_at) = expires_at {
                    time("expires_at", *expires_at)?;
                }
                check_paid(*paid)?;
                if self.key.is_none() && order_id.is_none() {
                    return Err("a recharge needs an order_id or a key: without one, sending it again would \
                                credit the points twice"
                        .to_owned());
                }
            }
            Kind::Consume { source_type, source_id, duration } => {
                needs_points("consume")?;
                text("source_type", Some(source_type), MAX_NAME)?;
                text("source_id", Some(source_id), MAX_ID)?;
                if duration.is_some_and(|seconds| seconds.is_sign_negative() && !seconds.is_zero()) {
                    return Err("duration is negative: give seconds, 0 or more".to_owned());
                }
            }
            Kind::Opening(Opening::Points { id, source, expires_at, paid }) => {
                needs_points("opening")?;
                text("id", Some(id), MAX_ID)?;
                text("source", Some(source), MAX_NAME)?;
                if let Some(expires_at) = expires_at {
                    time("expires_at", *expires_at)?;
                }
                check_paid(*paid)?;
            }
            Kind::Opening(Opening::Debt) => needs_points("opening")?,
            Kind::Refund { consume } => consume.check("of")?,
            Kind::Void { recharge, .. } => recharge.check("of")?,
            Kind::Hold { source_type, source_id, until } => {
                needs_points("hold")?;
                text("source_type", Some(source_type), MAX_NAME)?;
                text("source_id", Some(source_id), MAX_ID)?;
                time("until", *until)?;
                if self.description.is_some() {
                    return Err("description does not belong to a hold: its consume may have one".to_owned());
                }
            }
            Kind::Release { hold } => {
                hold.check("of")?;
                if self.points.is_some() {
                    return Err("points does not belong to a release: it ends the whole hold".to_owned());
                }
                if self.key.is_some() {
                    return Err("key does not belong to a release: name the hold by of".to_owned());
                }
                if self.description.is_some() {
                    return Err("description does not belong to a release: it writes no entry".to_owned());
                }
            }
        }
        Ok(())
    }
}

fn check_paid(paid: Option<Money>) -> Result<(), String> {
    match paid {
        Some(paid) if !(0..=MAX_PAID).contains(&paid.amount) => {
            Err(format!("paid is not within 0 to {MAX_PAID}: give minor units of the currency"))
        }
        _ => Ok(()),
    }
}

pub(super) fn text(field: &str, value: Option<&str>, longest: usize) -> Result<(), String> {
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
