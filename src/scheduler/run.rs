//! One attempt at a run: the job's work, the heartbeats, and the end.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info, info_span, warn};

use super::board::Board;
use super::fence::{Guard, PartGuard};
use super::model::{Claimed, RunEnd, Trigger};
use super::store::Store;
use super::{Observer, RunChange, RunEvent, ScheduledJob};
use crate::errors;
use crate::ledger::{Part, PrepareWrite};
use crate::retry::Backoff;
use crate::time::time_text;

/// How long a job that was told to stop may take for its current chunk, if its own timeout is not shorter. Then its
/// task is aborted.
const GRACE: Duration = Duration::from_secs(10);

/// The cap of the pause before another attempt.
const LONGEST_PAUSE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The message if a newer fencing token, or a database that stays away, keeps the end of an attempt from being written.
const LOST: &str = "was given up: the run was taken over, cancelled, or could not be reached";

/// A run as its job sees it.
pub struct Run {
    /// Its number.
    pub run: i64,
    /// The job's name.
    pub job: &'static str,
    /// The instant that the run is for.
    pub slot: DateTime<Utc>,
    /// The counters that earlier attempts saved. The job goes on counting from there.
    pub counters: Option<Value>,
    /// Cancelled when the job should return after the current chunk.
    pub stop: CancellationToken,
    fence: i64,
    store: Store,
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
    /// Prepares a connection for [`Guard::save_progress`]. It must be the run's own and not go back into a pool: from
    /// now on the server ends its session if a transaction idles for as long as missed heartbeats are tolerated. So the
    /// locks of a frozen daemon are gone by the time its run is taken over.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn guard(&self, client: &Client) -> Result<Guard, tokio_postgres::Error> {
        self.limit_idle(client).await?;
        let save_progress = client.prepare(include_str!("../../sql/runs/run_save_progress.sql")).await?;
        Ok(Guard::new(save_progress, self.run, self.fence, Arc::clone(&self.board)))
    }

    /// Takes the run in every bucket, so that no earlier holder can write there any more, and returns what the earlier attempts counted
    /// in each. Call it before the first transaction with a [`PartGuard`].
    ///
    /// # Errors
    /// If the database fails, or the run was taken over or cancelled.
    pub async fn take_parts(&self) -> anyhow::Result<BTreeMap<i16, Option<Value>>> {
        let parts = self.store.take_parts(self.run, self.fence).await?;
        anyhow::ensure!(!parts.is_empty(), "the run was taken over or cancelled");
        Ok(parts)
    }

    async fn limit_idle(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        let milliseconds = self.store.silence().as_millis();
        client.batch_execute(&format!("SET idle_in_transaction_session_timeout = {milliseconds}")).await
    }
}

/// As [`Run::guard`].
impl<C: Serialize + Debug + Sync> PrepareWrite<Part<C>> for Run {
    type Prepared = PartGuard;

    async fn prepare(&self, client: &Client) -> Result<PartGuard, tokio_postgres::Error> {
        self.limit_idle(client).await?;
        let save_part = client.prepare(include_str!("../../sql/runs/part_save.sql")).await?;
        Ok(PartGuard::new(save_part, self.job, self.run, self.fence, Arc::clone(&self.board)))
    }
}

/// Why the work was told to stop.
#[derive(Clone, Copy, PartialEq)]
enum StopReason {
    TimedOut,
    Lost,
}

/// The last statement of an attempt.
enum LastWrite<'a> {
    /// Lets another attempt follow, at once or after a pause.
    Release { pause: Option<Duration>, error: Option<&'a str> },
    /// Ends the run.
    Finish(&'a RunEnd),
}

/// An attempt, with all that it needs.
pub(super) struct Attempt {
    pub store: Store,
    pub job: ScheduledJob,
    pub slot: DateTime<Utc>,
    pub trigger: Trigger,
    pub claimed: Claimed,
    pub stop: CancellationToken,
    pub board: Arc<Board>,
    pub observer: Option<Observer>,
}

impl Attempt {
    /// Makes the attempt and writes its end.
    pub(super) async fn make(self) {
        let run = self.claimed.run;
        self.board.begin(run, self.job.name);
        if self.claimed.attempt == 1 {
            self.notify(RunChange::Began);
        }
        self.supervise().await;
        self.board.end(run);
    }

    fn notify(&self, change: RunChange) {
        if let Some(observer) = &self.observer {
            observer(RunEvent { job: self.job.name, run: self.claimed.run, slot: self.slot, change });
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
            store: self.store.clone(),
            board: Arc::clone(&self.board),
        };
        // In a task of its own, so that a panic ends the attempt only.
        let mut work = tokio::spawn((self.job.work)(handed).instrument(info_span!("run", job, run_id = run, slot)));
        let (outcome, stopped) = self.watch(&mut work, &stop).await;
        if stopped == Some(StopReason::Lost) {
            warn!(job, run_id = run, slot, attempt, "{job} {LOST}");
            return;
        }
        self.conclude(outcome, stopped).await;
    }

    /// Waits for the work's end and writes heartbeats meanwhile. Tells the work to stop at its timeout, or when the run
    /// was taken over. Returns no outcome if the work does not stop.
    async fn watch(
        &self,
        work: &mut JoinHandle<anyhow::Result<Ended>>,
        stop: &CancellationToken,
    ) -> (Option<anyhow::Result<Ended>>, Option<StopReason>) {
        let Claimed { run, fence, .. } = self.claimed;
        let every = self.store.heartbeat_every();
        let mut heartbeat = tokio::time::interval_at(Instant::now() + every, every);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let timeout = self.job.settings.timeout;
        let mut stopped = None;
        let mut deadline = Instant::now() + timeout;
        let mut beat = None;
        loop {
            tokio::select! {
                biased;
                ended = &mut *work => return (Some(ended.unwrap_or_else(|panic| Err(anyhow::anyhow!("{}", panic_message(panic))))), stopped),
                () = tokio::time::sleep_until(deadline) => {
                    if stopped.is_some() {
                        work.abort();
                        return (None, stopped);
                    }
                    stopped = Some(StopReason::TimedOut);
                    stop.cancel();
                    deadline = Instant::now() + timeout.min(GRACE);
                }
                // Concurrently: a database that answers slowly must not delay the timeout.
                ours = async { match beat.as_mut() { Some(beat) => beat.await, None => std::future::pending().await } } => {
                    beat = None;
                    // On an error the fencing token decides, once the database is back.
                    if matches!(ours, Ok(false)) && stopped != Some(StopReason::Lost) {
                        stopped = Some(StopReason::Lost);
                        stop.cancel();
                        deadline = Instant::now() + timeout.min(GRACE);
                    }
                }
                _ = heartbeat.tick(), if beat.is_none() && stopped != Some(StopReason::Lost) => {
                    let (store, unsaved) = (self.store.clone(), self.board.unsaved(run));
                    beat = Some(async move { store.write_heartbeat(run, fence, unsaved).await }.boxed());
                }
            }
        }
    }

    async fn conclude(&self, outcome: Option<anyhow::Result<Ended>>, stopped: Option<StopReason>) {
        let seconds = self.job.settings.timeout.as_secs();
        let late = || format!("it took longer than its timeout of {seconds} s");
        match outcome {
            None => self.fail(&format!("{}, and did not end when it was told to", late())).await,
            Some(Ok(Ended::Done(completed))) => {
                if self.end(RunEnd::Succeeded { counters: completed.counters.clone() }).await {
                    self.notify(RunChange::Succeeded(completed));
                }
            }
            Some(Ok(Ended::Stopped)) if stopped == Some(StopReason::TimedOut) => self.fail(&late()).await,
            Some(Ok(Ended::Stopped)) => self.release().await,
            Some(Ok(Ended::Disproved { counters, reason })) => {
                self.end_as_failed(RunEnd::Failed { reason, counters: Some(counters.counters) }).await;
            }
            Some(Err(reason)) => self.fail(&format!("{reason:#}")).await,
        }
    }

    /// Ends the run as failed, or releases it for another attempt after a pause.
    async fn fail(&self, reason: &str) {
        let Claimed { run, attempt, .. } = self.claimed;
        let retries = if self.trigger == Trigger::Manual { 0 } else { self.job.settings.retries };
        let failed = u32::try_from(attempt).unwrap_or(u32::MAX);
        if failed > retries {
            self.end_as_failed(RunEnd::failed(reason)).await;
            return;
        }
        let pause = Backoff::new(self.job.settings.retry_pause, LONGEST_PAUSE).pause_after(failed);
        let (job, slot) = (self.job.name, time_text(self.slot));
        if self.write(LastWrite::Release { pause: Some(pause), error: Some(reason) }).await {
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

    /// Releases a run that was stopped, for the next daemon. A manual run ends instead: its caller asked it to stop.
    async fn release(&self) {
        let Claimed { run, attempt, .. } = self.claimed;
        let (job, slot) = (self.job.name, time_text(self.slot));
        if self.trigger == Trigger::Manual {
            self.end(RunEnd::Cancelled { why: "interrupted by its caller" }).await;
            return;
        }
        if self.write(LastWrite::Release { pause: None, error: None }).await {
            warn!(job, run_id = run, slot, attempt, "{job} was stopped half way; the next daemon continues it");
        } else {
            warn!(job, run_id = run, slot, attempt, "{job} {LOST}");
        }
    }

    async fn end_as_failed(&self, end: RunEnd) {
        if self.end(end.clone()).await
            && let RunEnd::Failed { reason, .. } = end
        {
            self.notify(RunChange::Failed(reason));
        }
    }

    /// Ends the run and logs that. Returns false if this process no longer holds the run.
    async fn end(&self, end: RunEnd) -> bool {
        let Claimed { run, attempt, .. } = self.claimed;
        let (job, slot) = (self.job.name, time_text(self.slot));
        if !self.write(LastWrite::Finish(&end)).await {
            warn!(job, run_id = run, slot, attempt, "{job} {LOST}");
            return false;
        }
        match &end {
            RunEnd::Succeeded { counters } => {
                let counters = counters.to_string();
                info!(job, run_id = run, slot, attempt, counters, "{job} succeeded");
            }
            RunEnd::Failed { reason, .. } => error!(job, run_id = run, slot, attempt, reason, "{job} failed: {reason}"),
            RunEnd::Cancelled { why } => info!(job, run_id = run, slot, attempt, why, "{job} cancelled: {why}"),
        }
        true
    }

    /// Writes the last statement. Waits for a database that is away, except when the daemon stops: the next daemon then
    /// finds a run whose heartbeats stopped. Returns false if this process no longer holds the run.
    async fn write(&self, last: LastWrite<'_>) -> bool {
        let held = &self.claimed;
        let mut pauses = Backoff::DATABASE.pauses();
        loop {
            let written = match last {
                LastWrite::Release { pause, error } => self.store.release(held, pause, error).await,
                LastWrite::Finish(end) => self.store.finish(held, end).await,
            };
            let error = match written {
                Ok(ours) => return ours,
                Err(error) => error,
            };
            if !error.is_transient() {
                error!(job = self.job.name, run_id = held.run, "{}", errors::chain(&error));
                return false;
            }
            if self.stop.run_until_cancelled(pauses.sleep()).await.is_none() {
                return false;
            }
        }
    }
}

/// The message of a panic.
fn panic_message(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => {
            let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
            format!("it panicked: {}", text.unwrap_or_else(|| "without a word".to_owned()))
        }
        Err(error) => error.to_string(),
    }
}
