//! Idempotency keys: how they are made of what names a posting, and how they become sixteen bytes.

use std::borrow::Cow;
use std::fmt::Display;

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::posting::{Kind, MAX_ID, MAX_NAME, Opening, Posting, text};

/// How many bytes of a key's sixteen are the user's first ones. The other twelve are a hash: of a thousand million keys, two are the same
/// with a probability of 10⁻¹¹ at most.
const USER_BYTES: usize = 4;

/// Names an earlier posting of the same account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// By the key that it was posted under.
    Key(String),
    /// A consume or a hold, by its work.
    Work {
        /// The kind of service.
        source_type: String,
        /// The piece of work.
        source_id: String,
    },
    /// A recharge, by its order.
    Order {
        /// Where the points came from.
        source: String,
        /// The order.
        order_id: i64,
    },
}

impl Reference {
    /// The key of the posting that is named.
    ///
    /// A default key has the form `consume:{source_type}:{source_id}` or `recharge:{source}:{order_id}`. A backslash comes before a
    /// colon or a backslash within its first field, so two different postings never have the same default key.
    pub fn key(&self) -> String {
        match self {
            Reference::Key(key) => key.clone(),
            Reference::Work { source_type, source_id } => work_key(source_type, source_id),
            Reference::Order { source, order_id } => order_key(source, *order_id),
        }
    }

    /// What names the posting, by the fields of the caller.
    pub(super) fn named(&self) -> String {
        match self {
            Reference::Key(key) => format!("the key `{key}`"),
            Reference::Work { source_type, source_id } => format!("source_id `{source_id}` of {source_type}"),
            Reference::Order { source, order_id } => format!("order_id {order_id} of {source}"),
        }
    }

    pub(super) fn check(&self, what: &str) -> Result<(), String> {
        match self {
            Reference::Key(key) => text(what, Some(key), MAX_ID),
            Reference::Work { source_type, source_id } => {
                text("source_type", Some(source_type), MAX_NAME)?;
                text("source_id", Some(source_id), MAX_ID)
            }
            Reference::Order { source, .. } => text("source", Some(source), MAX_NAME),
        }
    }
}

/// The default key of a consume, and of the hold that it captures.
fn work_key(source_type: &str, source_id: &str) -> String {
    format!("consume:{}:{source_id}", escaped(source_type))
}

/// The default key of a recharge with an order.
pub(crate) fn order_key(source: &str, order_id: impl Display) -> String {
    format!("recharge:{}:{order_id}", escaped(source))
}

fn escaped(field: &str) -> Cow<'_, str> {
    if field.contains([':', '\\']) {
        Cow::Owned(field.replace('\\', "\\\\").replace(':', "\\:"))
    } else {
        Cow::Borrowed(field)
    }
}

impl Posting {
    /// What tells it from other postings, by the fields of its caller.
    pub(super) fn named(&self) -> String {
        match (&self.key, &self.kind) {
            (Some(key), _) => format!("the key `{key}`"),
            (None, Kind::Recharge { source, order_id: Some(order_id), .. }) => {
                format!("order_id {order_id} of {source}")
            }
            (None, Kind::Consume { source_type, source_id, .. } | Kind::Hold { source_type, source_id, .. }) => {
                format!("source_id `{source_id}` of {source_type}")
            }
            (None, Kind::Opening(Opening::Points { id, .. })) => format!("id `{id}`"),
            (None, Kind::Release { hold }) => hold.named(),
            // It is made of what the posting names, so two refunds of a consume have the same one.
            _ => "its default key".to_owned(),
        }
    }

    /// The idempotency key of a posting without one of the caller's. A recharge without an order has none.
    ///
    /// - `recharge:{source}:{order_id}`
    /// - `consume:{source_type}:{source_id}`, of a hold too: the consume with the same key captures it
    /// - `refund:{key of the consume}` and `void:{key of the recharge}`
    /// - of a release: the key of the hold
    /// - `opening:{id}` of points that an account brings along, `debt:opening` of a debt
    pub fn default_key(&self) -> Option<String> {
        Some(match &self.kind {
            Kind::Recharge { order_id: None, .. } => return None,
            Kind::Recharge { source, order_id: Some(order_id), .. } => order_key(source, *order_id),
            Kind::Consume { source_type, source_id, .. } | Kind::Hold { source_type, source_id, .. } => {
                work_key(source_type, source_id)
            }
            Kind::Refund { consume } => format!("refund:{}", consume.key()),
            Kind::Void { recharge, .. } => format!("void:{}", recharge.key()),
            Kind::Release { hold } => hold.key(),
            Kind::Opening(Opening::Points { id, .. }) => format!("opening:{id}"),
            Kind::Opening(Opening::Debt) => "debt:opening".to_owned(),
        })
    }

    /// The sixteen bytes that stand for the user and the idempotency key. `None` if the posting has no key.
    pub(crate) fn key_id(&self) -> Option<Uuid> {
        match &self.key {
            Some(key) => Some(key_id(self.user, key)),
            None => self.default_key().map(|key| key_id(self.user, &key)),
        }
    }

    /// The sixteen bytes of the key that a refund, a void or a release names.
    pub(crate) fn reference_id(&self) -> Option<Uuid> {
        self.reference().map(|reference| key_id(self.user, &reference.key()))
    }
}

/// The sixteen bytes that stand for a user and a key: the first four of the user's bytes, then the first twelve of the SHA-256 of the
/// user's bytes and the key's. With the user in them, one index over them serves all users, and the keys of an account lie near each
/// other in it. `pointsd.key_id` computes the same in SQL.
pub(crate) fn key_id(user: Uuid, key: &str) -> Uuid {
    let digest = Sha256::new().chain_update(user.as_bytes()).chain_update(key).finalize();
    let mut bytes = *user.as_bytes();
    for (byte, hashed) in bytes.iter_mut().skip(USER_BYTES).zip(digest) {
        *byte = hashed;
    }
    Uuid::from_bytes(bytes)
}
