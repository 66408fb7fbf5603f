//! One attempt at a run: the job's work, its holder's signs of life, and how it ends.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::types::Json;
use tokio_postgres::{Client, Statement};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info, info_span, warn};

use super::board::Board;
use super::store::{Claimed, State, Store, Trigger};
use super::{Event, Job, Observer, What};
use crate::ledger::{AlsoWrite, SoFar};
use crate::retry::Backoff;
use crate::telemetry;
use crate::time::time_text;

/// A job that was told to end is given so long for the chunk in hand, or its own timeout if that is shorter; then it is
/// left behind.
const GRACE: Duration = Duration::from_secs(10);

/// While the database is away the outcome of an attempt is kept, and offered again so often.
const OFFER_EVERY: Duration = Duration::from_millis(500);

/// The cap of the pause before another attempt.
const LONGEST_PAUSE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Said where the fence, or a database that stays away, keeps us from writing how an attempt ended.
const LOST: &str = "was given up: the run was taken over, cancelled, or could not be reached";

/// A job's work for one slot, in progress. Handed to the job.
pub struct Run {
    /// Its number.
    pub run: i64,
    /// The job's name.
    pub job: &'static str,
    /// The instant that it is for.
    pub slot: DateTime<Utc>,
    /// What earlier attempts kept of what they did: a job goes on counting from there.
    pub counters: Option<Value>,
    /// Cancelled when the job should return after the chunk in hand.
    pub stop: CancellationToken,
    fence: i64,
    silence: Duration,
    board: Arc<Board>,
}

/// What a job did in a run, as the scheduler passes it on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completed {
    /// The job's counters, as the run log keeps them.
    pub counters: Value,
    /// Whether an operator must look at the result, although the run succeeded.
    pub needs_attention: bool,
    /// The result in a sentence, without a full stop.
    pub summary: String,
}

impl From<Value> for Completed {
    fn from(counters: Value) -> Completed {
        Completed { counters, ..Completed::default() }
    }
}

/// How a job's work ended, if it did not fail. Jobs return their own counters as `T`.
#[derive(Debug)]
pub enum Ended<T = Completed> {
    /// The work is done.
    Done(T),
    /// The job was told to stop before its work was done.
    Stopped,
    /// The work is done, but its counters disagree with what it wrote. A retry would not help.
    Disproved {
        /// The job's counters.
        counters: T,
        /// What disagrees.
        reason: String,
    },
}

/// What a job's function returns.
pub type Work = BoxFuture<'static, anyhow::Result<Ended>>;

impl Run {
    /// Prepares a connection for [`Guard::keep`]. It must be the run's own, not one that goes back into a pool: from now
    /// on the server ends its session where a transaction stands still for as long as it takes to give up its holder. A
    /// frozen daemon's locks are gone by the time its run is taken over.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn guard(&self, client: &Client) -> Result<Guard, tokio_postgres::Error> {
        let milliseconds = self.silence.as_millis();
        client.batch_execute(&format!("SET idle_in_transaction_session_timeout = {milliseconds}")).await?;
        let keep = client.prepare(include_str!("../../sql/jobs/run_keep.sql")).await?;
        Ok(Guard { keep, run: self.run, fence: self.fence, board: Arc::clone(&self.board) })
    }
}

/// What every transaction of a run calls last.
pub struct Guard {
    keep: Statement,
    run: i64,
    fence: i64,
    board: Arc<Board>,
}

impl Guard {
    /// The run's number.
    pub fn number(&self) -> i64 {
        self.run
    }

    /// Keeps progress and counters in the transaction that is open on `client`, which must be the connection that the
    /// guard was made for, and sees to it that the run is still ours.
    ///
    /// # Errors
    /// With SQLSTATE PD001 where somebody took the run over or cancelled it, which ends the transaction: nothing of it
    /// is written, also where a COMMIT was sent already. Else where the database fails.
    pub async fn keep(
        &self,
        client: &Client,
        (done, total): (u64, u64),
        counters: &(impl Serialize + Debug + Sync),
    ) -> Result<(), tokio_postgres::Error> {
        let progress = json!({ "done": done, "total": total });
        client.query(&self.keep, &[&self.run, &self.fence, &progress, &Json(counters)]).await?;
        self.board.show(self.run, done, total);
        Ok(())
    }
}

/// Lets a sweep or a proof keep what it has done in each of its transactions.
impl<C: Serialize + Debug + Sync> AlsoWrite<SoFar<C>> for Guard {
    async fn write(&self, client: &Client, so_far: &SoFar<C>) -> Result<(), tokio_postgres::Error> {
        self.keep(client, (so_far.progress.done, so_far.progress.total), &so_far.counters).await
    }
}

/// Why the work was told to end before it did.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    TimedOut,
    Lost,
}

/// The last thing that an attempt writes.
#[derive(Clone, Copy)]
enum Last<'a> {
    Release { pause: Option<Duration>, error: Option<&'a str> },
    Finish { state: State, counters: Option<&'a Value>, reason: Option<&'a str>, why: Option<&'a str> },
}

/// Everything that an attempt needs.
pub(super) struct Attempt {
    pub store: Store,
    pub job: Job,
    pub slot: DateTime<Utc>,
    pub trigger: Trigger,
    pub claimed: Claimed,
    pub stop: CancellationToken,
    pub board: Arc<Board>,
    pub observer: Option<Observer>,
}

impl Attempt {
    /// Makes the attempt and keeps its outcome.
    pub(super) async fn make(self) {
        let run = self.claimed.run;
        self.board.begin(run, self.job.name);
        if self.claimed.attempt == 1 {
            self.tell(What::Began);
        }
        self.supervise().await;
        self.board.end(run);
    }

    fn tell(&self, what: What) {
        if let Some(observer) = &self.observer {
            observer(Event { job: self.job.name, run: self.claimed.run, slot: self.slot, what });
        }
    }

    async fn supervise(&self) {
        let Claimed { run, attempt, fence, .. } = self.claimed;
        let (job, slot) = (self.job.name, time_text(self.slot));
        info!(job, run_id = run, slot, attempt, trigger = self.trigger.as_str(), "{job} started");
        let stop = self.stop.child_token();
        let handed = Run {
            run,
            job: self.job.name,
            slot: self.slot,
            counters: self.claimed.counters.clone(),
            stop: stop.clone(),
            fence,
            silence: self.store.silence(),
            board: Arc::clone(&self.board),
        };
        // A task of its own, so that a panic ends the attempt and not the daemon.
        let mut work = tokio::spawn((self.job.work)(handed).instrument(info_span!("run", job, run_id = run, slot)));
        let (outcome, fate) = self.watch(&mut work, &stop).await;
        if fate == Some(Fate::Lost) {
            warn!(job, run_id = run, slot, attempt, "{job} {LOST}");
            return;
        }
        self.conclude(outcome, fate).await;
    }

    /// Waits for the work's end; gives signs of life meanwhile, and tells it to end where its time is over or the run is
    /// no longer ours. None where it does not end.
    async fn watch(
        &self,
        work: &mut JoinHandle<anyhow::Result<Ended>>,
        stop: &CancellationToken,
    ) -> (Option<anyhow::Result<Ended>>, Option<Fate>) {
        let Claimed { run, fence, .. } = self.claimed;
        let every = self.store.heartbeat_every();
        let mut heartbeat = tokio::time::interval_at(Instant::now() + every, every);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let timeout = self.job.settings.timeout;
        let mut fate = None;
        let mut deadline = Instant::now() + timeout;
        let mut beat = None;
        loop {
            tokio::select! {
                biased;
                ended = &mut *work => return (Some(ended.unwrap_or_else(|panic| Err(anyhow::anyhow!("{}", said(panic))))), fate),
                () = tokio::time::sleep_until(deadline) => {
                    if fate.is_some() {
                        work.abort();
                        return (None, fate);
                    }
                    fate = Some(Fate::TimedOut);
                    stop.cancel();
                    deadline = Instant::now() + timeout.min(GRACE);
                }
                // Beside the rest: a database that is slow to answer must not hold up the clock of the timeout.
                ours = async { match beat.as_mut() { Some(beat) => beat.await, None => std::future::pending().await } } => {
                    beat = None;
                    // Away for now: the fence decides when it is back.
                    if matches!(ours, Ok(false)) && fate != Some(Fate::Lost) {
                        fate = Some(Fate::Lost);
                        stop.cancel();
                        deadline = Instant::now() + timeout.min(GRACE);
                    }
                }
                _ = heartbeat.tick(), if beat.is_none() && fate != Some(Fate::Lost) => {
                    let store = self.store.clone();
                    beat = Some(async move { store.heartbeat(run, fence).await }.boxed());
                }
            }
        }
    }

    async fn conclude(&self, outcome: Option<anyhow::Result<Ended>>, fate: Option<Fate>) {
        let seconds = self.job.settings.timeout.as_secs();
        let late = || format!("it took longer than its timeout of {seconds} s");
        match outcome {
            None => self.fail(&format!("{}, and did not end when it was told to", late())).await,
            Some(Ok(Ended::Done(completed))) => self.succeed(completed).await,
            Some(Ok(Ended::Stopped)) if fate == Some(Fate::TimedOut) => self.fail(&late()).await,
            Some(Ok(Ended::Stopped)) => self.let_go().await,
            Some(Ok(Ended::Disproved { counters, reason })) => {
                self.end(State::Failed, Some(&counters.counters), Some(&reason), None).await;
            }
            Some(Err(reason)) => self.fail(&format!("{reason:#}")).await,
        }
    }

    async fn succeed(&self, completed: Completed) {
        if self.end(State::Succeeded, Some(&completed.counters), None, None).await {
            self.tell(What::Succeeded(completed));
        }
    }

    /// Ends the run, or leaves it for another attempt.
    async fn fail(&self, reason: &str) {
        let Claimed { run, attempt, .. } = self.claimed;
        let retries = if self.trigger == Trigger::Manual { 0 } else { self.job.settings.retries };
        let failed = u32::try_from(attempt).unwrap_or(u32::MAX);
        if failed > retries {
            self.end(State::Failed, None, Some(reason), None).await;
            return;
        }
        let pause = Backoff::new(self.job.settings.retry_pause, LONGEST_PAUSE).pause_after(failed);
        let (job, slot) = (self.job.name, time_text(self.slot));
        if self.offer(Last::Release { pause: Some(pause), error: Some(reason) }).await {
            let again_in_seconds = pause.as_secs();
            warn!(
                job,
                run_id = run,
                slot,
                attempt,
                reason,
                again_in_seconds,
                "{job} failed and will be tried again: {reason}"
            );
        } else {
            warn!(job, run_id = run, slot, attempt, reason, "{job} {LOST}");
        }
    }

    /// Whoever asked a run by hand to stop wants no more of it; one of a slot is continued by the next daemon.
    async fn let_go(&self) {
        let Claimed { run, attempt, .. } = self.claimed;
        let (job, slot) = (self.job.name, time_text(self.slot));
        if self.trigger == Trigger::Manual {
            self.end(State::Cancelled, None, None, Some("interrupted where it was called")).await;
            return;
        }
        if self.offer(Last::Release { pause: None, error: None }).await {
            warn!(job, run_id = run, slot, attempt, "{job} stopped half way; whoever comes next continues it");
        } else {
            warn!(job, run_id = run, slot, attempt, "{job} {LOST}");
        }
    }

    /// Returns whether the end was written: false where the run is no longer ours.
    async fn end(&self, state: State, counters: Option<&Value>, reason: Option<&str>, why: Option<&str>) -> bool {
        let Claimed { run, attempt, .. } = self.claimed;
        let (job, slot) = (self.job.name, time_text(self.slot));
        let written = self.offer(Last::Finish { state, counters, reason, why }).await;
        match (written, state) {
            (false, _) => warn!(job, run_id = run, slot, attempt, "{job} {LOST}"),
            (true, State::Succeeded) => {
                let counters = counters.map(Value::to_string);
                info!(job, run_id = run, slot, attempt, counters, "{job} succeeded");
            }
            (true, State::Failed) => {
                self.tell(What::Failed(reason.unwrap_or_default().to_owned()));
                error!(job, run_id = run, slot, attempt, reason, "{job} failed: {}", reason.unwrap_or_default());
            }
            (true, _) => {
                info!(job, run_id = run, slot, attempt, why, "{job} {}: {}", state.as_str(), why.unwrap_or_default());
            }
        }
        written
    }

    /// Writes an outcome; waits for a database that is away, unless we are to stop: then the run is simply found
    /// without a holder. False where the run is no longer ours.
    async fn offer(&self, last: Last<'_>) -> bool {
        let Claimed { run, fence, .. } = self.claimed;
        loop {
            let written = match last {
                Last::Release { pause, error } => self.store.release(run, fence, pause, error).await,
                Last::Finish { state, counters, reason, why } => {
                    self.store.finish((run, fence), state, counters, reason, why).await
                }
            };
            let error = match written {
                Ok(ours) => return ours,
                Err(error) => error,
            };
            if !error.is_transient() {
                error!(job = self.job.name, run_id = run, "{}", telemetry::chain(&error));
                return false;
            }
            if self.stop.run_until_cancelled(tokio::time::sleep(OFFER_EVERY)).await.is_none() {
                return false;
            }
        }
    }
}

/// What a panic said.
fn said(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => {
            let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
            format!("it panicked: {}", text.unwrap_or_else(|| "without a word".to_owned()))
        }
        Err(error) => error.to_string(),
    }
}
