//! A lane: takes the next requests and posts them as a group.

mod isolation;
mod position;
mod read;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::{FutureExt, try_join};
use tokio::sync::{mpsc, watch};
use tokio_postgres::{Client, Statement};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use self::isolation::Suspicion;
use self::isolation::{Failed, Failure, Fault, is_clash, is_outage, may_be_of_a_node};
use self::position::Position;
use self::read::{LaneRead, Selection};
use super::away::{Away, AwayBuckets};
use super::coordinator::{IDLE, IDLE_FIRST, Instruction, LaneReport};
use super::{Settings, Stats};
use crate::database::{Database, SessionKind};
use crate::errors;
use crate::ledger::{self, AlsoWrite, MOST_RACES, Refusal, Reply, Rules, Session};
use crate::retry::{Backoff, Pauses};

/// How often to post a group that met a deadlock or the like, before halving it.
const MOST_CLASHES: u32 = 3;

/// The limit of SessionKind::Queue, for the nodes of a cluster.
const LOCK_LIMIT: &str = "SET LOCAL lock_timeout = '2s'";

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
