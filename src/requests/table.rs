//! The queue's table, for the command line: put in, look, put back.

use serde::Serialize;
use serde_json::value::RawValue;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use crate::ledger::{Kind, Posting};

/// What has become of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not taken yet.
    Pending,
    /// Failed, and to be tried again.
    Waiting,
    /// In the books.
    Posted,
    /// Was in the books already.
    Replayed,
    /// Not in the books, for a reason of the ledger's.
    Refused,
    /// Failed too often; `retry` puts it back.
    Parked,
}

impl State {
    /// All of them, in the order of a request's life.
    pub const ALL: [State; 6] =
        [State::Pending, State::Waiting, State::Posted, State::Replayed, State::Refused, State::Parked];

    /// As the database and JSON write it.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Waiting => "waiting",
            State::Posted => "posted",
            State::Replayed => "replayed",
            State::Refused => "refused",
            State::Parked => "parked",
        }
    }

    fn parse(text: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// A request as it is shown. Serialises to the JSON of `pointsd requests`; instants are text, because there may be some
/// that nothing but PostgreSQL can hold.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// Its number; later ones are higher.
    pub id: i64,
    /// What has become of it.
    pub state: String,
    /// Whose points.
    pub user: Uuid,
    /// `recharge` or `consume`.
    pub op: String,
    /// How many.
    pub points: i64,
    /// A recharge's source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// A recharge's order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_id: Option<i64>,
    /// When a recharge's points expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// A consume's kind of service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_type: Option<String>,
    /// A consume's piece of work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_id: Option<String>,
    /// Seconds, where the service is charged by time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<Box<RawValue>>,
    /// The caller's own key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// When it happened.
    pub at: String,
    /// When it was inserted.
    pub enqueued_at: String,
    /// Tries that failed.
    pub attempts: i32,
    /// When it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<String>,
    /// When its outcome was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// The entry that it became.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<i64>,
    /// Why it is not in the books, in a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The same in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What [`retry`] found for an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutBack {
    /// Whose request.
    pub id: i64,
    /// The state it was in; none where there is no such request.
    pub was: Option<State>,
}

impl PutBack {
    /// Whether it is pending again.
    pub fn done(self) -> bool {
        matches!(self.was, Some(State::Waiting | State::Refused | State::Parked))
    }
}

/// Inserts requests, all or none; returns their ids, in the same order.
///
/// # Errors
/// Where the database does not take them.
pub async fn enqueue(client: &Client, postings: &[Posting]) -> Result<Vec<i64>, tokio_postgres::Error> {
    let kinds = || postings.iter().map(|posting| &posting.kind);
    let ops: Vec<&str> =
        kinds().map(|kind| if matches!(kind, Kind::Recharge { .. }) { "recharge" } else { "consume" }).collect();
    let users: Vec<Uuid> = postings.iter().map(|posting| posting.user).collect();
    let points: Vec<i64> = postings.iter().map(|posting| posting.points).collect();
    let (mut sources, mut orders, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    let (mut types, mut ids, mut durations) = (Vec::new(), Vec::new(), Vec::new());
    for kind in kinds() {
        let (recharge, consume) = match kind {
            Kind::Recharge { source, order_id, expires_at } => (Some((source, order_id, expires_at)), None),
            Kind::Consume { source_type, source_id, duration } => (None, Some((source_type, source_id, duration))),
        };
        sources.push(recharge.map(|(source, _, _)| source));
        orders.push(recharge.and_then(|(_, order, _)| *order));
        ends.push(recharge.and_then(|(_, _, end)| *end));
        types.push(consume.map(|(source_type, _, _)| source_type));
        ids.push(consume.map(|(_, id, _)| id));
        durations.push(consume.and_then(|(_, _, duration)| *duration));
    }
    let keys: Vec<Option<&str>> = postings.iter().map(|posting| posting.key.as_deref()).collect();
    let descriptions: Vec<Option<&str>> = postings.iter().map(|posting| posting.description.as_deref()).collect();
    let at: Vec<_> = postings.iter().map(|posting| posting.at).collect();
    let rows = client
        .query(
            include_str!("../../sql/requests/request_insert.sql"),
            &[&ops, &users, &points, &sources, &orders, &ends, &types, &ids, &durations, &keys, &descriptions, &at],
        )
        .await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// The newest requests first, at most `limit`, only those of a state where one is given.
///
/// # Errors
/// Where the database does not answer.
pub async fn list(client: &Client, state: Option<State>, limit: u32) -> Result<Vec<Listed>, tokio_postgres::Error> {
    let state = state.map(State::as_str);
    // Planned for this state: only so its own partition and index are found.
    client.batch_execute("SET plan_cache_mode = force_custom_plan").await?;
    let rows = client.query(include_str!("../../sql/requests/request_list.sql"), &[&state, &i64::from(limit)]).await?;
    client.batch_execute("SET plan_cache_mode = force_generic_plan").await?;
    rows.iter().map(listed_from).collect()
}

fn listed_from(row: &Row) -> Result<Listed, tokio_postgres::Error> {
    let time = |column: &str| {
        let text: Option<String> = row.try_get(column)?;
        Ok::<_, tokio_postgres::Error>(text.map(|text| text.replace("+00:00", "Z")))
    };
    let duration: Option<String> = row.try_get("duration")?;
    Ok(Listed {
        id: row.try_get("id")?,
        state: row.try_get("state")?,
        user: row.try_get("user_id")?,
        op: row.try_get("op")?,
        points: row.try_get("points")?,
        source: row.try_get("source")?,
        order_id: row.try_get("order_id")?,
        expires_at: time("expires_at")?,
        source_type: row.try_get("source_type")?,
        source_id: row.try_get("source_id")?,
        // What is no JSON number, such as NaN, is shown as text.
        duration: duration.and_then(|digits| {
            RawValue::from_string(digits.clone()).or_else(|_| RawValue::from_string(format!("\"{digits}\""))).ok()
        }),
        key: row.try_get("key")?,
        description: row.try_get("description")?,
        at: time("at")?.unwrap_or_default(),
        enqueued_at: time("enqueued_at")?.unwrap_or_default(),
        attempts: row.try_get("attempts")?,
        retry_at: time("retry_at")?,
        finished_at: time("finished_at")?,
        seq: row.try_get("seq")?,
        code: row.try_get("code")?,
        message: row.try_get("message")?,
    })
}

/// How many requests there are in each state, in the order of [`State::ALL`].
///
/// # Errors
/// Where the database does not answer.
pub async fn count(client: &Client) -> Result<Vec<(State, i64)>, tokio_postgres::Error> {
    let rows = client.query(include_str!("../../sql/requests/request_count.sql"), &[]).await?;
    let mut counts: Vec<(State, i64)> =
        [State::Pending, State::Waiting, State::Refused, State::Parked].map(|state| (state, 0)).to_vec();
    for row in &rows {
        let state = State::parse(row.try_get(0)?);
        if let Some(count) = counts.iter_mut().find(|(counted, _)| Some(*counted) == state) {
            count.1 = row.try_get(1)?;
        }
    }
    Ok(counts)
}

/// Puts requests that are parked, refused or waiting back to pending, with all their tries before them, and wakes the
/// daemon. Tells what was found for each id, in their order.
///
/// # Errors
/// Where the database does not answer.
pub async fn retry(client: &Client, ids: &[i64]) -> Result<Vec<PutBack>, tokio_postgres::Error> {
    let sql = include_str!("../../sql/requests/request_retry.sql");
    let rows = match client.query(sql, &[&ids]).await {
        // A lane finished one of them just now: its row is in the other partition.
        Err(error) if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) => client.query(sql, &[&ids]).await?,
        result => result?,
    };
    client.batch_execute("NOTIFY pointsd_requests").await?;
    let mut found = std::collections::HashMap::new();
    for row in &rows {
        found.insert(row.try_get::<_, i64>(0)?, State::parse(row.try_get(1)?));
    }
    Ok(ids.iter().map(|id| PutBack { id: *id, was: found.get(id).copied().flatten() }).collect())
}
