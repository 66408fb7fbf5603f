//! The queue's table, for the command line: insert requests, list them, put them back.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, IsolationLevel, Row};
use uuid::Uuid;

use crate::fields::PostingFields;
use crate::ledger::Posting;

/// Requests that [`retry_all`] puts back in one transaction. The lanes wait for it.
const RETRIED_AT_ONCE: usize = 10_000;

/// The state of a request.
#[cfg_attr(feature = "service", derive(utoipa::ToSchema), schema(as = RequestState))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not taken yet.
    Pending,
    /// A try failed; another one is due later.
    Waiting,
    /// Posted, newly.
    Posted,
    /// A hold that reserves points.
    Held,
    /// A hold was released.
    Released,
    /// Done before, under the same key.
    Replayed,
    /// Rejected by the ledger.
    Refused,
    /// Failed too often. `retry` puts it back.
    Parked,
}

impl State {
    /// All of them, in the order of a request's life.
    pub const ALL: [State; 8] = [
        State::Pending,
        State::Waiting,
        State::Posted,
        State::Held,
        State::Released,
        State::Replayed,
        State::Refused,
        State::Parked,
    ];

    /// Those from which a request can be put back to pending.
    pub const RETRYABLE: [State; 3] = [State::Parked, State::Refused, State::Waiting];

    /// Whether a request in this state can be put back to pending.
    pub fn can_be_retried(self) -> bool {
        State::RETRYABLE.contains(&self)
    }

    /// As the database and JSON write it.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Waiting => "waiting",
            State::Posted => "posted",
            State::Held => "held",
            State::Released => "released",
            State::Replayed => "replayed",
            State::Refused => "refused",
            State::Parked => "parked",
        }
    }

    /// The state that is written so.
    pub fn parse(text: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// A request as `pointsd requests --json` shows it. Instants are text, because some may be beyond what this program's types
/// can hold.
#[cfg_attr(feature = "service", derive(utoipa::ToSchema), schema(as = Request))]
#[derive(Debug, Serialize)]
pub struct Listed {
    /// The request's number; a later request has a higher one.
    pub id: i64,
    /// See [`State`].
    #[cfg_attr(feature = "service", schema(value_type = State))]
    pub state: String,
    /// The account.
    pub user: Uuid,
    /// What is asked for, such as `consume`.
    pub op: String,
    /// Points to post; none where all that is left is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub points: Option<i64>,
    /// A recharge's source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// A recharge's order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_id: Option<i64>,
    /// What was paid for a recharge, in minor units of `currency`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paid: Option<i64>,
    /// The currency of `paid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// When a recharge's points expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// A consume's kind of service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_type: Option<String>,
    /// A consume's task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_id: Option<String>,
    /// Seconds that the task took, for a service charged by time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "service", schema(value_type = Option<f64>))]
    pub duration: Option<Box<RawValue>>,
    /// The key of the posting that a refund, a void or a release names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// How much a void may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beyond: Option<String>,
    /// When a hold ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// The idempotency key that the application gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// A description for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The effective time.
    pub at: String,
    /// When the request was inserted.
    pub enqueued_at: String,
    /// Failed tries.
    pub attempts: i32,
    /// When the next try is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<String>,
    /// When the outcome was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// The number of the posted entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<i64>,
    /// Why the request is not posted, as a code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Why the request is not posted, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What [`retry`] found for an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutBack {
    /// The request's number.
    pub id: i64,
    /// The state before; none if there is no such request.
    pub was: Option<State>,
}

impl PutBack {
    /// Whether the request is pending again.
    pub fn done(self) -> bool {
        self.was.is_some_and(State::can_be_retried)
    }

    /// Why the request was not put back; None if it was.
    pub fn reason_left(self) -> Option<&'static str> {
        match self.was {
            None => Some("there is no such request, or it was pruned"),
            Some(was) if was.can_be_retried() => None,
            Some(State::Pending) => Some("it is pending already"),
            Some(_) => Some("it is done"),
        }
    }
}

/// Which requests [`retry_all`] puts back.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only in this state; otherwise in each of [`State::RETRYABLE`].
    pub state: Option<State>,
    /// Only refused or failed with this code.
    pub code: Option<String>,
    /// Only of this account.
    pub user: Option<Uuid>,
}

/// The requests that [`retry_all`] put back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PutBackAll {
    /// How many.
    pub count: u64,
    /// The lowest and the highest of their numbers; None if there are none.
    pub span: Option<(i64, i64)>,
}

/// A request that was refused or parked, for a report.
#[derive(Clone, Debug)]
pub struct NotPosted {
    /// The request's number.
    pub id: i64,
    /// Refused or parked.
    pub state: State,
    /// The account.
    pub user: Uuid,
    /// What was asked for, such as `consume`.
    pub op: String,
    /// The points that it asked for; None for all that are left.
    pub points: Option<i64>,
    /// The source of the points.
    pub source: Option<String>,
    /// The service that was used.
    pub source_type: Option<String>,
    /// The task, the order, or the key of the posting that it names.
    pub reference: Option<String>,
    /// Why it is not posted, in a word.
    pub code: String,
    /// Why it is not posted, in words for engineers.
    pub message: String,
    /// When that was decided.
    pub finished_at: DateTime<Utc>,
}

/// Inserts requests, all or none. Returns their ids in the same order.
///
/// # Errors
/// If the database does not take them.
pub async fn enqueue(client: &Client, postings: &[Posting]) -> Result<Vec<i64>, tokio_postgres::Error> {
    let fields: Vec<PostingFields> = postings.iter().map(PostingFields::of).collect();
    macro_rules! column {
        ($($field:ident),+) => { ($(fields.iter().map(|fields| &fields.$field).collect::<Vec<_>>()),+) };
    }
    let ops: Vec<&str> = postings.iter().map(|posting| posting.kind.as_str()).collect();
    let (users, points, sources, orders, ends) = column!(user, points, source, order_id, expires_at);
    let (types, ids, durations, keys, descriptions) = column!(source_type, source_id, duration, key, description);
    let (at, of, beyond, until, paid, currencies) = column!(at, of, beyond, until, paid, currency);
    let rows = client
        .query(
            include_str!("../../sql/requests/request_insert.sql"),
            &[
                &ops,
                &users,
                &points,
                &sources,
                &orders,
                &ends,
                &types,
                &ids,
                &durations,
                &keys,
                &descriptions,
                &at,
                &of,
                &beyond,
                &until,
                &paid,
                &currencies,
            ],
        )
        .await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Lists at most `limit` requests, the newest first; with `state`, only requests in that state; with `before`, only requests with a
/// lower number.
///
/// # Errors
/// If the database does not answer.
pub async fn list(
    client: &mut Client,
    state: Option<State>,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<Listed>, tokio_postgres::Error> {
    let state = state.map(State::as_str);
    let transaction = client.transaction().await?;
    // Only a plan for this very state uses the state's own partition and index.
    transaction.batch_execute("SET LOCAL plan_cache_mode = force_custom_plan").await?;
    let sql = include_str!("../../sql/requests/request_list.sql");
    let rows = transaction.query(sql, &[&state, &before, &i64::from(limit)]).await?;
    transaction.commit().await?;
    rows.iter().map(listed_from).collect()
}

/// The request of this number.
///
/// # Errors
/// If the database does not answer.
pub async fn find(client: &Client, id: i64) -> Result<Option<Listed>, tokio_postgres::Error> {
    let row = client.query_opt(include_str!("../../sql/requests/request_read.sql"), &[&id]).await?;
    row.as_ref().map(listed_from).transpose()
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
        paid: row.try_get("paid")?,
        currency: row.try_get("currency")?,
        expires_at: time("expires_at")?,
        source_type: row.try_get("source_type")?,
        source_id: row.try_get("source_id")?,
        // NaN and the like are no JSON numbers, so they are shown as text.
        duration: duration.and_then(|digits| {
            RawValue::from_string(digits.clone()).or_else(|_| RawValue::from_string(format!("\"{digits}\""))).ok()
        }),
        of: row.try_get("of")?,
        beyond: row.try_get("beyond")?,
        until: time("until")?,
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

/// Counts the requests that are not posted, by state, in the order of [`State::ALL`]. Each count ends at `most`, where that is given.
///
/// # Errors
/// If the database does not answer.
pub async fn count(client: &Client, most: Option<i64>) -> Result<Vec<(State, i64)>, tokio_postgres::Error> {
    let rows = client.query(include_str!("../../sql/requests/request_count.sql"), &[&most]).await?;
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

/// Lists at most `limit` requests that were refused or parked since the report on the books before `slot`, and counts all of them.
///
/// # Errors
/// If the database does not answer.
pub async fn not_posted(
    client: &Client,
    slot: DateTime<Utc>,
    limit: u32,
) -> Result<(Vec<NotPosted>, u64), tokio_postgres::Error> {
    let rows =
        client.query(include_str!("../../sql/requests/request_not_posted.sql"), &[&slot, &i64::from(limit)]).await?;
    let all = rows.first().map_or(Ok(0), |row| row.try_get::<_, i64>("all_rows"))?;
    let listed = rows.iter().map(|row| {
        Ok(NotPosted {
            id: row.try_get("id")?,
            state: State::parse(row.try_get("state")?).unwrap_or(State::Refused),
            user: row.try_get("user_id")?,
            op: row.try_get("op")?,
            points: row.try_get("points")?,
            source: row.try_get("source")?,
            source_type: row.try_get("source_type")?,
            reference: row.try_get("reference")?,
            code: row.try_get("code")?,
            message: row.try_get("message")?,
            finished_at: row.try_get("finished_at")?,
        })
    });
    Ok((listed.collect::<Result<_, tokio_postgres::Error>>()?, u64::try_from(all).unwrap_or(0)))
}

/// Puts all requests that a filter names back to pending, as [`retry`] does.
///
/// They are put back in steps, each a transaction, in the order of their numbers: so the requests of an account are posted in their old
/// order. After an error some may be pending, and the same call puts back the rest.
///
/// # Errors
/// If the database does not answer.
pub async fn retry_all(client: &mut Client, filter: &Filter) -> Result<PutBackAll, tokio_postgres::Error> {
    let mut all = PutBackAll::default();
    loop {
        let after = all.span.map_or(0, |(_, last)| last);
        let ids = retry_next(client, filter, after).await?;
        if let (Some(first), Some(last)) = (ids.first(), ids.last()) {
            all.count += ids.len() as u64;
            all.span = Some((all.span.map_or(*first, |(first, _)| first), *last));
        }
        // What is refused meanwhile must not keep it going.
        if ids.len() < RETRIED_AT_ONCE {
            return Ok(all);
        }
    }
}

/// Puts the next requests after this number back, [`RETRIED_AT_ONCE`] at most. Returns their numbers.
async fn retry_next(client: &mut Client, filter: &Filter, after: i64) -> Result<Vec<i64>, tokio_postgres::Error> {
    let states: &[State] = match &filter.state {
        Some(state) => std::slice::from_ref(state),
        None => &State::RETRYABLE,
    };
    let most = i64::try_from(RETRIED_AT_ONCE).unwrap_or(i64::MAX);
    // READ COMMITTED: the statements below must see what a lane did before it let go of its lock.
    let transaction = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await?;
    // The lanes first, then their requests: a lane locks in the same order.
    transaction.execute(include_str!("../../sql/requests/lane_lock_all.sql"), &[]).await?;
    // Only a plan for this very state uses the state's own partition and index.
    transaction.batch_execute("SET LOCAL plan_cache_mode = force_custom_plan").await?;
    let mut ids: Vec<i64> = Vec::new();
    for state in states {
        let sql = include_str!("../../sql/requests/request_find.sql");
        let named: [&(dyn ToSql + Sync); 5] = [&state.as_str(), &filter.code, &filter.user, &after, &most];
        for row in transaction.query(sql, &named).await? {
            ids.push(row.try_get(0)?);
        }
    }
    // Of each state the next ones were found, so these are the next of all.
    ids.sort_unstable();
    ids.truncate(RETRIED_AT_ONCE);
    transaction.query(include_str!("../../sql/requests/request_retry.sql"), &[&ids, &retryable()]).await?;
    transaction.batch_execute("NOTIFY pointsd_requests").await?;
    transaction.commit().await?;
    Ok(ids)
}

/// The names of the states from which a request can be put back.
fn retryable() -> Vec<&'static str> {
    State::RETRYABLE.map(State::as_str).to_vec()
}

/// Puts parked, refused and waiting requests back to pending, with all their tries anew, and wakes the daemon. Returns what was
/// found for each id, in their order.
///
/// # Errors
/// If the database does not answer.
pub async fn retry(client: &Client, ids: &[i64]) -> Result<Vec<PutBack>, tokio_postgres::Error> {
    let sql = include_str!("../../sql/requests/request_retry.sql");
    let states = retryable();
    let rows = match client.query(sql, &[&ids, &states]).await {
        // A lane has just finished one of them, which moved its row to the other partition.
        Err(error) if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) => {
            client.query(sql, &[&ids, &states]).await?
        }
        result => result?,
    };
    client.batch_execute("NOTIFY pointsd_requests").await?;
    let mut found = std::collections::HashMap::new();
    for row in &rows {
        found.insert(row.try_get::<_, i64>(0)?, State::parse(row.try_get(1)?));
    }
    Ok(ids.iter().map(|id| PutBack { id: *id, was: found.get(id).copied().flatten() }).collect())
}
