//! A lane: takes the next requests and posts them as a group.

mod isolation;
mod position;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::{FutureExt, try_join};
use tokio::sync::{mpsc, watch};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use self::isolation::Suspicion;
use self::isolation::{Failed, Failure, Fault, is_clash, is_outage, may_be_of_a_node};
use self::position::{Position, READ_AHEAD, are_the_same};
use super::away::{Away, AwayBuckets};
use super::coordinator::{IDLE, IDLE_FIRST, Instruction, LaneReport};
use super::{Settings, Stats};
use crate::database::{Database, SessionKind, pipelined};
use crate::fields::{Operation, PostingFields};
use crate::ledger::{self, AlsoWrite, GROUP_POSTINGS, MOST_RACES, Posting, Refusal, Reply, Rules, Session};
use crate::retry::{Backoff, Pauses};
use crate::{errors, prices};

/// How often to post a group that met a deadlock or the like, before halving it.
const MOST_CLASHES: u32 = 3;

/// The limit of SessionKind::Queue, for the nodes of a cluster.
const LOCK_LIMIT: &str = "SET LOCAL lock_timeout = '2s'";

/// How many waiting requests are read; the LIMIT in request_waiting.sql and request_ahead.sql.
const MOST_WAITING: usize = 100;

/// Refusals of a group that are logged one by one.
const REFUSALS_LOGGED: u64 = 5;

pub struct Lane {
    pub number: i16,
    pub database: Database,
    pub rules: watch::Receiver<Arc<Rules>>,
    pub settings: Settings,
    pub stats: Arc<Stats>,
    pub stop: CancellationToken,
    pub instructions: watch::Receiver<Instruction>,
    pub reports: mpsc::UnboundedSender<LaneReport>,
    pub suspicion: Arc<Suspicion>,
    pub away: Arc<Away>,
    /// The buckets whose requests are left out, because their node is away.
    pub left_out: AwayBuckets,
    /// Which buckets these should be.
    pub changes: watch::Receiver<AwayBuckets>,
}

/// A session of the ledger and the statements of the queue, on one connection.
struct Connection {
    session: Session<Arc<Client>>,
    client: Arc<Client>,
    statements: Statements,
}

struct Statements {
    lock: Statement,
    snapshot: Statement,
    waiting: Statement,
    take: Statement,
    take_ids: Statement,
    ahead: Statement,
    finish: Statement,
    fail: Statement,
}

/// The result of a step.
enum Step {
    /// A group was taken.
    Worked,
    /// Nothing is left after the position. The lane was not read from its start.
    NothingNew,
    /// Nothing is left in the lane but what is left out.
    Empty { retry_at: Option<Instant> },
    /// Another daemon holds the lane.
    Elsewhere,
}

impl Lane {
    /// Works until it is stopped, and finishes the group under way.
    pub async fn run(mut self) {
        let mut connection = None;
        let mut position = Position::new();
        let (mut outage, mut idle) = (Backoff::DATABASE.pauses(), IDLE.pauses());
        let mut logged = false;
        let stop = self.stop.clone();
        while !stop.is_cancelled() {
            let instruction = *self.instructions.borrow_and_update();
            let away = Arc::clone(&self.changes.borrow_and_update());
            if away != self.left_out {
                self.left_out = away;
                // The requests of a node that is back stand before the position.
                position.restart();
            }
            let step = match self.step(&mut connection, &mut position).await {
                Ok(step) => step,
                Err(error) => {
                    connection = None;
                    if *self.changes.borrow() != self.left_out {
                        continue;
                    }
                    self.stats.set_stuck(self.number, true);
                    self.send_report(instruction, false, None);
                    let text = errors::chain(&error);
                    if error.is_transient() || logged {
                        tracing::debug!(lane = self.number, "the queue waits for the database: {text}");
                    } else {
                        tracing::error!(lane = self.number, "the queue cannot work, and tries again: {text}");
                        logged = true;
                    }
                    stop.run_until_cancelled(outage.sleep()).await;
                    continue;
                }
            };
            self.stats.set_stuck(self.number, false);
            outage.reset();
            if std::mem::take(&mut logged) {
                tracing::info!(lane = self.number, "the queue works again");
            }
            match step {
                Step::Worked => {
                    idle.reset();
                    self.send_report(instruction, false, None);
                }
                Step::NothingNew => {
                    let wait = position.start_at.saturating_duration_since(Instant::now()).min(IDLE_FIRST);
                    stop.run_until_cancelled(tokio::time::sleep(wait)).await;
                }
                Step::Empty { retry_at } => {
                    self.stats.set_lag(self.number, 0);
                    self.send_report(instruction, true, retry_at);
                    self.pause(instruction.sleep, &mut idle).await;
                }
                Step::Elsewhere => {
                    self.send_report(instruction, false, None);
                    self.pause(false, &mut idle).await;
                }
            }
        }
    }

    /// Whether a group failed because a node of a cluster is away. Then the lanes hear of it. Also where that is not known: it
    /// must be no request's fault.
    async fn is_of_a_node_away(&self, connection: Option<&Connection>, error: &ledger::Error) -> bool {
        if !(connection.is_some_and(Connection::is_of_a_cluster) && may_be_of_a_node(error)) {
            return false;
        }
        self.stop.run_until_cancelled(self.away.are_more_away(&self.left_out)).await.flatten().unwrap_or(true)
    }

    fn send_report(&self, Instruction { poll, .. }: Instruction, empty: bool, retry_at: Option<Instant>) {
        // Sending fails only while the queue is stopping.
        let _ = self.reports.send(LaneReport { lane: self.number, poll, empty, retry_at });
    }

    /// Waits for the next instruction, or until other requests are left out; unless told to sleep, no longer than a pause.
    async fn pause(&mut self, sleep: bool, idle: &mut Pauses) {
        let pause = async {
            match sleep {
                true => std::future::pending().await,
                false => idle.sleep().await,
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => (),
            // An error means that the queue is stopping, so that no instruction follows.
            changed = self.instructions.changed() => if changed.is_err() { self.stop.cancelled().await },
            () = pause => (),
            // An error is impossible, because the sender is here as well.
            _ = self.changes.changed() => (),
        }
    }

    /// Posts the next requests as a group, then the failed requests that are due for another try.
    async fn step(
        &mut self,
        connection: &mut Option<Connection>,
        position: &mut Position,
    ) -> Result<Step, ledger::Error> {
        let before = self.suspicion.successes();
        if position.wants_ahead() {
            let connection = self.connect(connection).await?;
            let (ids, waiting) = self.read_ahead(connection, position.after).await?;
            position.keep_ahead(ids, &waiting);
        }
        let selection = position.next();
        let from_start = matches!(selection, Selection::After(0));
        let (mut taken, posted) = self.post(connection, &selection, &position.waiting).await;
        if taken.elsewhere {
            position.put_back(selection);
            return Ok(Step::Elsewhere);
        }
        if taken.released {
            position.restart();
            return Ok(Step::NothingNew);
        }
        // Another daemon may have posted what was read ahead.
        let mut worked = !taken.requests.is_empty() || matches!(selection, Selection::Ahead(_));
        match posted {
            Ok(()) => {
                position.pass(&selection, &taken);
                if from_start {
                    position.was_at_start(taken.took);
                }
            }
            Err(failure) => {
                // The rest of the group must not be passed.
                position.restart();
                let fault = failure.into_group()?;
                self.isolate(connection, std::mem::take(&mut taken.requests), fault).await?;
            }
        }
        for (id, due_in) in &taken.waiting {
            if *due_in > 0 || self.stop.is_cancelled() {
                break;
            }
            let (tried, posted) = self.post(connection, &Selection::Ids(vec![*id]), &[]).await;
            // It is left out if an earlier request of its account waits.
            worked |= !tried.requests.is_empty();
            if let Err(failure) = posted {
                let fault = failure.into_group()?;
                let user = tried.requests.first().map_or(Uuid::nil(), |request| request.user);
                self.record_failures(connection, vec![Failed { id: *id, user, fault }], before).await?;
                // The next group comes first, because many failing requests would take long.
                break;
            }
        }
        if worked {
            return Ok(Step::Worked);
        }
        if !from_start {
            return Ok(Step::NothingNew);
        }
        let next = taken.waiting.iter().map(|(_, due_in)| *due_in).find(|due_in| *due_in > 0);
        let next = next.and_then(|due_in| u64::try_from(due_in).ok());
        let retry_at = next.and_then(|due_in| Instant::now().checked_add(Duration::from_millis(due_in)));
        Ok(Step::Empty { retry_at })
    }

    /// Takes a group and posts it. Takes none if other requests wait than those in `waiting`.
    async fn post(
        &mut self,
        connection: &mut Option<Connection>,
        selection: &Selection,
        waiting: &[i64],
    ) -> (LaneRead, Result<(), Failure>) {
        let mut taken = LaneRead::default();
        for clash in 1.. {
            let result = match self.connect(connection).await {
                Ok(connection) => {
                    // A panic is treated as the fault of a request.
                    let posted = self.post_once(connection, selection, waiting, &mut taken);
                    AssertUnwindSafe(posted).catch_unwind().await
                }
                Err(error) => Ok(Err(error)),
            };
            let panicked = result.is_err();
            let failure = match result {
                Ok(Ok(replies)) => {
                    self.count_outcomes(&taken, &replies);
                    return (taken, Ok(()));
                }
                Ok(Err(ledger::Error::LostRace)) if clash < MOST_RACES => continue,
                Ok(Err(error)) if is_clash(&error) && clash < MOST_CLASHES => continue,
                Ok(Err(error)) if self.is_of_a_node_away(connection.as_ref(), &error).await => Failure::Outage(error),
                // If the requests could not even be read, the cause is no request.
                Ok(Err(error)) if is_outage(&error) || taken.requests.is_empty() => Failure::Outage(error),
                Ok(Err(error)) => Failure::Group(Fault::Error(error)),
                Err(_) => Failure::Group(Fault::Panic),
            };
            // After a panic or an outage the state of the connection is unknown.
            let sound = matches!(failure, Failure::Group(_)) && !panicked;
            if !(sound && connection.as_ref().is_some_and(Connection::is_open)) {
                *connection = None;
            }
            return (taken, Err(failure));
        }
        (taken, Ok(()))
    }

    /// Takes requests and posts them, in one transaction that also writes their outcomes. There are no replies if there is
    /// nothing to post.
    async fn post_once(
        &self,
        Connection { session, statements, .. }: &mut Connection,
        selection: &Selection,
        waiting: &[i64],
        taken: &mut LaneRead,
    ) -> Result<Vec<Reply>, ledger::Error> {
        let rules = Arc::clone(&self.rules.borrow());
        let of_cluster = session.buckets().are_spread();
        let group = session.begin();
        if of_cluster {
            // One poll puts the message into the connection's queue. No answer is needed.
            let _ = group.client().batch_execute(LOCK_LIMIT).now_or_never();
        }
        *taken = LaneRead::default();
        let Some(postings) = self.take(group.client(), statements, selection, waiting, taken).await? else {
            return Ok(Vec::new());
        };
        let outcomes = WriteOutcomes { lane: self.number, statement: &statements.finish, taken };
        let began = Instant::now();
        let posted = group.post(&postings, &rules, &outcomes).await;
        // A group that failed is posted again, whole or halved.
        if let Ok(replies) = &posted {
            self.stats.observer.group_ended(&postings, Ok(replies), began.elapsed());
        }
        posted
    }

    /// Reads the next requests and what they ask to be posted. None if there is nothing to do.
    async fn take(
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
        let mut postings = Vec::with_capacity(rows.len());
        let rows = rows.iter().map(|row| Ok((row.try_get("id")?, row)));
        let mut rows = rows.collect::<Result<Vec<(i64, &Row)>, tokio_postgres::Error>>()?;
        rows.sort_unstable_by_key(|(id, _)| *id);
        if let Some((_, oldest)) = rows.first() {
            let enqueued: Option<DateTime<Utc>> = oldest.try_get("enqueued_at")?;
            let waited = enqueued.map(|enqueued| now - enqueued).unwrap_or_default();
            taken.lag = waited.num_milliseconds().try_into().unwrap_or(0);
        }
        for (id, row) in rows {
            let mut request = Request { id, user: row.try_get("user_id")?, unreadable: None };
            match posting_from(row)? {
                Ok(posting) => postings.push(posting),
                Err(why) => request.unreadable = Some(Refusal::Malformed(why)),
            }
            taken.requests.push(request);
        }
        Ok((!taken.requests.is_empty()).then_some(postings))
    }

    /// The ids of the next requests, sorted so that those of an account stand together, and the ids of those that wait. The lane is not
    /// locked: a request that another daemon finishes meanwhile is not taken later.
    async fn read_ahead(&self, connection: &Connection, after: i64) -> Result<(Vec<i64>, Vec<i64>), ledger::Error> {
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

    fn count_outcomes(&self, taken: &LaneRead, replies: &[Reply]) {
        let (mut posted, mut replayed, mut refused) = (0, 0, 0);
        for (request, reply) in taken.outcomes(replies) {
            match reply {
                Ok(Reply::Posted(_) | Reply::Held(_) | Reply::Released(_)) => posted += 1,
                Ok(Reply::Replayed(_) | Reply::HeldBefore(_) | Reply::ReleasedBefore(_)) => replayed += 1,
                Ok(Reply::Rejected(refusal)) | Err(refusal) => {
                    refused += 1;
                    if refused <= REFUSALS_LOGGED {
                        let (code, user) = (refusal.code(), request.user);
                        let id = request.id;
                        tracing::warn!(request = id, code, user = %user, "request {id} of {user} refused: {refusal}");
                    }
                }
            }
        }
        if refused > REFUSALS_LOGGED {
            let more = refused - REFUSALS_LOGGED;
            tracing::warn!(more, "{more} more requests refused; pointsd requests --state refused lists them");
        }
        if posted > 0 {
            self.suspicion.succeeded();
        }
        self.stats.posted.fetch_add(posted, Ordering::Relaxed);
        self.stats.replayed.fetch_add(replayed, Ordering::Relaxed);
        self.stats.refused.fetch_add(refused, Ordering::Relaxed);
        if !taken.requests.is_empty() {
            self.stats.groups.fetch_add(1, Ordering::Relaxed);
            self.stats.taking.fetch_add(micros(taken.took), Ordering::Relaxed);
            self.stats.set_lag(self.number, taken.lag);
        }
    }

    async fn connect<'a>(&self, connection: &'a mut Option<Connection>) -> Result<&'a mut Connection, ledger::Error> {
        let ready = match connection.take() {
            Some(ready) => ready,
            None => Connection::open(&self.database).await?,
        };
        Ok(connection.insert(ready))
    }
}

impl Connection {
    fn is_of_a_cluster(&self) -> bool {
        self.session.buckets().are_spread()
    }

    fn is_open(&self) -> bool {
        !self.client.is_closed()
    }

    async fn open(database: &Database) -> Result<Connection, ledger::Error> {
        let client = Arc::new(database.dedicated().await?.client);
        let session = Session::open(Arc::clone(&client)).await?;
        let ((), lock, snapshot, waiting, take, take_ids, ahead, finish, fail) = try_join!(
            client.batch_execute(SessionKind::Queue.settings()),
            client.prepare(include_str!("../../sql/requests/lane_lock.sql")),
            client.prepare(include_str!("../../sql/requests/snapshot_read.sql")),
            client.prepare(include_str!("../../sql/requests/request_waiting.sql")),
            client.prepare(include_str!("../../sql/requests/request_take.sql")),
            client.prepare(include_str!("../../sql/requests/request_take_ids.sql")),
            client.prepare(include_str!("../../sql/requests/request_ahead.sql")),
            client.prepare(include_str!("../../sql/requests/request_finish.sql")),
            client.prepare(include_str!("../../sql/requests/request_fail.sql")),
        )?;
        let statements = Statements { lock, snapshot, waiting, take, take_ids, ahead, finish, fail };
        Ok(Connection { session, client, statements })
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(0)
}

/// Which requests to take from a lane.
enum Selection {
    /// The next requests after this id.
    After(i64),
    /// The next requests as they were read ahead: a part of those after the position.
    Ahead(Vec<i64>),
    /// The requests with these ids.
    Ids(Vec<i64>),
}

/// The result of reading a lane.
#[derive(Default)]
struct LaneRead {
    /// Nothing was taken: another daemon holds the lane.
    elsewhere: bool,
    /// Nothing was taken: other requests wait than before, so requests before the position may be free now.
    released: bool,
    /// The last id that was given. All transactions before `oldest` are over. Those from this read's `own` on get higher ids.
    last_number: i64,
    oldest: i64,
    own: i64,
    requests: Vec<Request>,
    /// How long the one with the lowest id had waited when it was taken, in milliseconds.
    lag: u64,
    /// Ids of failed requests, and in how many milliseconds each is due; the next one first.
    waiting: Vec<(i64, i64)>,
    took: Duration,
}

struct Request {
    id: i64,
    user: Uuid,
    /// Why the row describes no posting.
    unreadable: Option<Refusal>,
}

impl LaneRead {
    /// Each request with its outcome; `replies` are those to the readable requests.
    fn outcomes<'a>(
        &'a self,
        replies: &'a [Reply],
    ) -> impl Iterator<Item = (&'a Request, Result<&'a Reply, &'a Refusal>)> {
        let mut replies = replies.iter();
        self.requests.iter().map_while(move |request| match &request.unreadable {
            Some(refusal) => Some((request, Err(refusal))),
            None => Some((request, Ok(replies.next()?))),
        })
    }
}

/// Writes the outcomes of the requests in the transaction that posts them.
struct WriteOutcomes<'a> {
    lane: i16,
    statement: &'a Statement,
    taken: &'a LaneRead,
}

impl AlsoWrite<[Reply]> for WriteOutcomes<'_> {
    async fn write(&self, client: &Client, replies: &[Reply]) -> Result<(), tokio_postgres::Error> {
        let requests = self.taken.requests.len();
        let (mut ids, mut seqs, mut nth_outcomes) =
            (Vec::with_capacity(requests), Vec::with_capacity(requests), Vec::with_capacity(requests));
        // Most requests have the same outcome.
        let mut known = HashMap::new();
        let (mut states, mut codes, mut messages) = (Vec::new(), Vec::new(), Vec::new());
        for (request, outcome) in self.taken.outcomes(replies) {
            let (state, seq, refusal) = match outcome {
                Ok(Reply::Rejected(refusal)) | Err(refusal) => ("refused", None, Some(refusal)),
                Ok(reply) => (reply.status(), reply.entry().map(|entry| entry.seq), None),
            };
            let (code, message) = (refusal.map(Refusal::code), refusal.map(Refusal::to_string));
            let nth = *known.entry((state, code, message.clone())).or_insert_with(|| {
                states.push(state);
                codes.push(code);
                messages.push(message);
                i32::try_from(states.len()).unwrap_or(i32::MAX)
            });
            ids.push(request.id);
            seqs.push(seq);
            nth_outcomes.push(nth);
        }
        client.execute(self.statement, &[&self.lane, &ids, &seqs, &nth_outcomes, &states, &codes, &messages]).await?;
        Ok(())
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
