//! Holds: points reserved for work that is under way.

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio_postgres::Row;
use uuid::Uuid;

use super::posting::{Kind, Posting};
use super::reply::serialize_time;
use super::session::Error;

/// Points of an account that are reserved for a piece of work.
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hold {
    /// The user of the account.
    pub user: Uuid,
    /// The points that are reserved.
    pub points: i64,
    /// The kind of service.
    pub source_type: String,
    /// The piece of work.
    pub source_id: String,
    /// The key of the caller's own, where the hold was made under one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// When the points were reserved. The consume that captures the hold is dated back to it.
    #[serde(serialize_with = "serialize_time")]
    pub at: DateTime<Utc>,
    /// First instant at which nothing is reserved any more.
    #[serde(serialize_with = "serialize_time")]
    pub until: DateTime<Utc>,
    /// What became of it.
    pub state: HoldState,
    /// The consume that captured it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<i64>,
}

/// What became of a hold.
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldState {
    /// Neither captured nor released. It reserves points until its time.
    Open,
    /// The work is done: a consume with the same key was posted.
    Captured,
    /// It was given up.
    Released,
}

impl HoldState {
    /// As the database and JSON write it.
    pub fn as_str(self) -> &'static str {
        match self {
            HoldState::Open => "open",
            HoldState::Captured => "captured",
            HoldState::Released => "released",
        }
    }

    /// Reads what [`HoldState::as_str`] writes.
    pub fn parse(text: &str) -> Option<HoldState> {
        [HoldState::Open, HoldState::Captured, HoldState::Released].into_iter().find(|state| state.as_str() == text)
    }
}

impl Hold {
    /// The hold that a posting asks for; `None` if it asks for none.
    pub(super) fn asked_by(posting: &Posting, points: i64, at: DateTime<Utc>, until: DateTime<Utc>) -> Option<Hold> {
        let Kind::Hold { source_type, source_id, .. } = &posting.kind else { return None };
        Some(Hold {
            user: posting.user,
            points,
            source_type: source_type.clone(),
            source_id: source_id.clone(),
            key: posting.key.clone(),
            at,
            until,
            state: HoldState::Open,
            seq: None,
        })
    }

    /// Whether the posting names the same work.
    pub(super) fn is_for(&self, posting: &Posting) -> bool {
        matches!(&posting.kind, Kind::Hold { source_type, source_id, .. }
            if *source_type == self.source_type && *source_id == self.source_id)
    }

    /// Whether it reserves its points at this instant.
    pub fn stands_at(&self, at: DateTime<Utc>) -> bool {
        self.state == HoldState::Open && self.until > at
    }
}

/// A hold and the sixteen bytes of its key.
pub(super) fn hold_from(row: &Row) -> Result<(Uuid, Hold), Error> {
    let state: &str = row.try_get("state")?;
    let state = HoldState::parse(state).ok_or_else(|| Error::Corrupt(format!("a hold in the state `{state}`")))?;
    let hold = Hold {
        user: row.try_get("user_id")?,
        points: row.try_get("points")?,
        source_type: row.try_get("source_type")?,
        source_id: row.try_get("source_id")?,
        key: row.try_get("caller_key")?,
        at: row.try_get("at")?,
        until: row.try_get("until")?,
        state,
        seq: row.try_get("seq")?,
    };
    Ok((row.try_get("key")?, hold))
}
