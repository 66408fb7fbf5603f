//! What is read from a lane: its next requests, those that wait, and the ids of a backlog.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::position::{READ_AHEAD, are_the_same};
use super::{Connection, Lane, Statements, micros};
use crate::database::pipelined;
use crate::fields::{Operation, PostingFields};
use crate::ledger::{self, GROUP_POSTINGS, Posting, Refusal, Reply};
use crate::prices;

/// How many waiting requests are read; the LIMIT in request_waiting.sql and request_ahead.sql.
pub(super) const MOST_WAITING: usize = 100;

/// Which requests to take from a lane.
pub(super) enum Selection {
    /// The next requests after this id.
    After(i64),
    /// The next requests as they were read ahead: a part of those after the position.
    Ahead(Vec<i64>),
    /// The requests with these ids.
    Ids(Vec<i64>),
}

/// The result of reading a lane.
#[derive(Default)]
pub(super) struct LaneRead {
    /// Nothing was taken: another daemon holds the lane.
    pub(super) elsewhere: bool,
    /// Nothing was taken: other requests wait than before, so requests before the position may be free now.
    pub(super) released: bool,
    /// The last id that was given. All transactions before `oldest` are over. Those from this read's `own` on get higher ids.
    pub(super) last_number: i64,
    pub(super) oldest: i64,
    pub(super) own: i64,
    pub(super) requests: Vec<Request>,
    /// How long the one with the lowest id had waited when it was taken, in milliseconds.
    pub(super) lag: u64,
    /// Ids of failed requests, and in how many milliseconds each is due; the next one first.
    pub(super) waiting: Vec<(i64, i64)>,
    pub(super) took: Duration,
}

pub(super) struct Request {
    pub(super) id: i64,
    pub(super) user: Uuid,
    /// Why the row describes no posting.
    pub(super) unreadable: Option<Refusal>,
}

impl LaneRead {
    /// Each request with its outcome; `replies` are those to the readable requests.
    pub(super) fn outcomes<'a>(
        &'a self,
        replies: &'a [Reply],
    ) -> impl Iterator<Item = (&'a Request, Result<&'a Reply, &'a Refusal>)> {
        let mut replies = replies.iter();
        self.requests.iter().map_while(move |request| match &request.unreadable {
            Some(refusal) => Some((request, Err(refusal))),
            None => Some((request, Ok(replies.next()?))),
        })
    }

    /// Adds requests, in the order of their ids. Returns what they ask to be posted; `now` is the database's time.
    fn add(&mut self, rows: &[Row], now: DateTime<Utc>) -> Result<Vec<Posting>, tokio_postgres::Error> {
        let mut postings = Vec::with_capacity(rows.len());
        let rows = rows.iter().map(|row| Ok((row.try_get("id")?, row)));
        let mut rows = rows.collect::<Result<Vec<(i64, &Row)>, tokio_postgres::Error>>()?;
        rows.sort_unstable_by_key(|(id, _)| *id);
        if let Some((_, oldest)) = rows.first() {
            let enqueued: Option<DateTime<Utc>> = oldest.try_get("enqueued_at")?;
            let waited = enqueued.map(|enqueued| now - enqueued).unwrap_or_default();
            self.lag = waited.num_milliseconds().try_into().unwrap_or(0);
        }
        for (id, row) in rows {
            let mut request = Request { id, user: row.try_get("user_id")?, unreadable: None };
            match posting_from(row)? {
                Ok(posting) => postings.push(posting),
                Err(why) => request.unreadable = Some(Refusal::Malformed(why)),
            }
            self.requests.push(request);
        }
        Ok(postings)
    }
}

impl Lane {
    /// Reads the next requests and what they ask to be posted. None if there is nothing to do.
    pub(super) async fn take(
        &self,
        client: &Client,
        statements: &Statements,
        selection: &Selection,
        waiting: &[i64],
        taken: &mut LaneRead,
    ) -> Result<Option<Vec<Posting>>, ledger::Error> {
        let lane = self.number;
        let most = i64::try_from(GROUP_POSTINGS).unwrap_or(i64::MAX);
        let left_out = self.left_out();
        let (of_lane, of_waiting): ([&(dyn ToSql + Sync); 1], [&(dyn ToSql + Sync); 2]) = ([&lane], [&lane, &left_out]);
        let (next, named): ([&(dyn ToSql + Sync); 4], [&(dyn ToSql + Sync); 3]);
        let (take, parameters): (_, &[&(dyn ToSql + Sync)]) = match selection {
            Selection::After(id) => {
                next = [&lane, id, &most, &left_out];
                (&statements.take, &next)
            }
            Selection::Ahead(ids) | Selection::Ids(ids) => {
                named = [&lane, ids, &left_out];
                (&statements.take_ids, &named)
            }
        };
        let began = Instant::now();
        // Queued in this order and sent together.
        let (locked, snapshot, now_waiting, rows) = pipelined!(
            client.query(&statements.lock, &of_lane),
            client.query_one(&statements.snapshot, &[]),
            client.query(&statements.waiting, &of_waiting),
            client.query(take, parameters),
        )?;
        *taken = LaneRead { took: began.elapsed(), ..LaneRead::default() };
        let Some(locked) = locked.first() else {
            taken.elsewhere = true;
            return Ok(None);
        };
        taken.last_number = locked.try_get(0)?;
        (taken.oldest, taken.own) = (snapshot.try_get(0)?, snapshot.try_get(1)?);
        let now: DateTime<Utc> = snapshot.try_get(2)?;
        for row in &now_waiting {
            taken.waiting.push((row.try_get(0)?, row.try_get(1)?));
        }
        let ids: Vec<i64> = taken.waiting.iter().map(|(id, _)| *id).collect();
        if matches!(selection, Selection::After(1..) | Selection::Ahead(_))
            && (ids.len() >= MOST_WAITING || !are_the_same(&ids, waiting))
        {
            taken.released = true;
            return Ok(None);
        }
        let postings = taken.add(&rows, now)?;
        Ok((!taken.requests.is_empty()).then_some(postings))
    }

    /// The ids of the next requests, sorted so that those of an account stand together, and the ids of those that wait. The lane is not
    /// locked: a request that another daemon finishes meanwhile is not taken later.
    pub(super) async fn read_ahead(
        &self,
        connection: &Connection,
        after: i64,
    ) -> Result<(Vec<i64>, Vec<i64>), ledger::Error> {
        let most = i64::try_from(READ_AHEAD).unwrap_or(i64::MAX);
        let parameters: [&(dyn ToSql + Sync); 4] = [&self.number, &after, &most, &self.left_out()];
        let began = Instant::now();
        let row = connection.client.query_one(&connection.statements.ahead, &parameters).await?;
        self.stats.taking.fetch_add(micros(began.elapsed()), Ordering::Relaxed);
        Ok((row.try_get::<_, Option<Vec<i64>>>(0)?.unwrap_or_default(), row.try_get(1)?))
    }

    /// The buckets whose requests are left out.
    fn left_out(&self) -> Option<Vec<i16>> {
        (!self.left_out.is_empty()).then(|| self.left_out.keys().copied().collect())
    }
}

/// The posting that a row asks for, or why it asks for none.
fn posting_from(row: &Row) -> Result<Result<Posting, String>, tokio_postgres::Error> {
    let op = row.try_get::<_, &str>("op")?;
    let Some(op) = Operation::parse(op) else { return Ok(Err(format!("op: there is no `{op}`"))) };
    let duration: Option<&str> = row.try_get("duration")?;
    let duration = match duration.map(prices::parse_seconds).transpose() {
        Ok(duration) => duration,
        Err(error) => return Ok(Err(format!("duration: {error}"))),
    };
    let fields = PostingFields {
        op,
        user: row.try_get("user_id")?,
        points: row.try_get("points")?,
        source: row.try_get("source")?,
        source_type: row.try_get("source_type")?,
        source_id: row.try_get("source_id")?,
        order_id: row.try_get("order_id")?,
        paid: row.try_get("paid")?,
        currency: row.try_get("currency")?,
        of: row.try_get("of")?,
        beyond: row.try_get("beyond")?,
        key: row.try_get("key")?,
        expires_at: row.try_get("expires_at")?,
        until: row.try_get("until")?,
        duration,
        description: row.try_get("description")?,
        at: Some(row.try_get("at")?),
    };
    // A row always has its time.
    Ok(fields.into_posting(DateTime::default))
}
