//! Runs jobs at their slots: each slot once, by one daemon, even if daemons die. It knows no particular job and no
//! configuration.
//!
//! - **Slots** are computed from a job's schedule and from the last slot that has a row (`plan`), never from a timer.
//!   So a wake-up that is late, early or lost changes no slot.
//! - **The row of a run is the claim on its slot** (`store`). Inserting it succeeds for one daemon only.
//! - **The holder of a run writes heartbeats and has a fencing token**, a number that only grows. The last statement in
//!   each of its transactions fails if another daemon has taken the run over ([`Guard::save_progress`]; for work in
//!   buckets `PartGuard`, once [`Run::take_parts`] was called). So a daemon that was frozen cannot write once its run has
//!   been taken over.
//! - **A run continues from its saved progress** after a failure, a crash, or a graceful shutdown.

mod board;
mod fence;
mod model;
mod plan;
mod run;
mod store;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

pub use board::{Board, RunProgress};
pub use fence::Guard;
pub use model::{CatchUp, DaemonRow, JobRow, JobSettings, Overlap, Paused, RunRow, State, Trigger};
use model::{Claimed, KnownJob, OpenRun, RunEnd};
use plan::plan;
pub use plan::{Outage, PAUSED_BY, outage};
use run::Attempt;
pub use run::{Completed, Ended, Run, Work};
pub use store::{Error, Store, host_name};

use crate::time::{Zone, time_text};

/// A job as the scheduler sees it.
#[derive(Clone)]
pub struct ScheduledJob {
    /// Its name.
    pub name: &'static str,
    /// When it runs, and how.
    pub settings: JobSettings,
    /// Does the work of a slot, in chunks. The transaction of each chunk ends with [`Guard::save_progress`], or with
    /// what a run prepares for transactions in one bucket. Work that is done twice changes nothing the second time.
    pub work: Arc<dyn Fn(Run) -> Work + Send + Sync>,
}

/// News of a run in this process, for an observer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunEvent {
    /// The job's name.
    pub job: &'static str,
    /// The run's number.
    pub run: i64,
    /// The instant that the run is for.
    pub slot: DateTime<Utc>,
    /// What happened.
    pub change: RunChange,
}

/// What happened to a run. A run that is released or cancelled causes no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunChange {
    /// Its first attempt begins.
    Began,
    /// It succeeded with this result, and that is committed.
    Succeeded(Completed),
    /// It failed for this reason and is not tried again, and that is committed.
    Failed(String),
}

/// Is called with the events of runs. The run waits for it, so it must return at once.
pub type Observer = Arc<dyn Fn(RunEvent) + Send + Sync>;

/// Hosts jobs. Several schedulers may share a database.
pub struct Scheduler {
    store: Store,
    jobs: RwLock<Arc<[ScheduledJob]>>,
    board: Arc<Board>,
    attempts: TaskTracker,
    attempt_ended: Arc<Notify>,
    stop: CancellationToken,
    observer: Option<Observer>,
}

impl Scheduler {
    /// A scheduler of these jobs. Cancelling `stop` ends its runs after the current chunk.
    pub fn new(store: Store, jobs: Vec<ScheduledJob>, stop: CancellationToken) -> Scheduler {
        let (board, attempts, attempt_ended) = (Arc::default(), TaskTracker::new(), Arc::default());
        Scheduler { store, jobs: RwLock::new(jobs.into()), board, attempts, attempt_ended, stop, observer: None }
    }

    /// Calls `observer` with the events of the runs.
    #[must_use]
    pub fn observed(self, observer: Observer) -> Scheduler {
        Scheduler { observer: Some(observer), ..self }
    }

    /// Shows the runs on this board, which others may share.
    #[must_use]
    pub fn on_board(self, board: Arc<Board>) -> Scheduler {
        Scheduler { board, ..self }
    }

    /// Records the jobs in the database. The slots of a new job count from `now`, and so do those of a job whose
    /// schedule has changed.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn register(&self, now: DateTime<Utc>) -> Result<(), Error> {
        for job in self.jobs().iter() {
            if let Some(before) = self.store.register(job.name, &job.settings, now).await? {
                let (schedule, since) = (job.settings.schedule.describe(), time_text(now));
                warn!(
                    job = job.name,
                    before, schedule, since, "{} has another schedule; its slots count from now on", job.name
                );
            }
        }
        Ok(())
    }

    /// Replaces the jobs and their settings. Attempts under way keep the old ones. Call [`Scheduler::register`] next.
    pub fn replace(&self, jobs: Vec<ScheduledJob>) {
        *self.jobs.write().unwrap_or_else(PoisonError::into_inner) = jobs.into();
    }

    fn jobs(&self) -> Arc<[ScheduledJob]> {
        Arc::clone(&self.jobs.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The runs under way in this process.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// The tables.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Does what is due at `now`: takes up runs without a holder, settles slots, begins runs.
    ///
    /// # Errors
    /// If the database fails. The next call continues from there.
    pub async fn tick(&self, now: DateTime<Utc>) -> Result<Tick, Error> {
        let jobs = self.jobs();
        let names: Vec<&str> = jobs.iter().map(|job| job.name).collect();
        let mut known: HashMap<String, KnownJob> = self.store.load_jobs(&names, now).await?.into_iter().collect();
        if known.values().any(|known| known.ahead) {
            let slots = self.store.unrecord(&names, now).await?;
            warn!(slots, now = time_text(now), "the clock went back: slots that were recorded ahead of it count again");
        }
        let (mut tick, mut failed) = (Tick::default(), None);
        for job in jobs.iter() {
            let Some(known) = known.remove(job.name) else {
                // The table was emptied by hand.
                self.store.add(job.name, &job.settings, now).await?;
                continue;
            };
            // An error with one job must not keep the others from their slots.
            match self.attend_to(job, &known, now).await {
                Ok(more) => tick.more |= more,
                Err(error) => failed = Some(error),
            }
            tick.note_next(job, &known, now);
        }
        failed.map_or(Ok(tick), Err)
    }

    /// Takes up the job's open run if it has no holder, and settles the job's slots. Returns whether there is more to
    /// do at once.
    async fn attend_to(&self, job: &ScheduledJob, known: &KnownJob, now: DateTime<Utc>) -> Result<bool, Error> {
        if let Some(running) = known.running.as_ref().filter(|running| running.free) {
            self.take_up(job, running).await?;
        }
        if job.settings.enabled { self.settle(job, known, now).await } else { Ok(false) }
    }

    /// Continues a run without a holder, or ends it as failed: a manual run, because its caller is gone, and a run
    /// without attempts left. The first death of a daemon never costs a run, whatever `retries` says.
    async fn take_up(&self, job: &ScheduledJob, running: &OpenRun) -> Result<(), Error> {
        let Some(claimed) = self.store.take(running).await? else { return Ok(()) };
        if let Some(heartbeat) = running.heartbeat {
            let (holder, last_heartbeat) = (running.holder(), time_text(heartbeat));
            let (run_id, slot) = (running.run, time_text(running.slot));
            let tries = job.settings.retries.max(1).saturating_add(1);
            let by_hand = running.trigger == Trigger::Manual;
            if by_hand || u32::try_from(running.attempt).is_ok_and(|attempt| attempt >= tries) {
                let mut reason =
                    format!("{holder} died or froze during the run; its last heartbeat was at {last_heartbeat}");
                if !by_hand {
                    reason.push_str(&format!("; that was attempt {} of {tries}", running.attempt));
                }
                error!(job = job.name, run_id, slot, reason, "{} failed: {reason}", job.name);
                let ours = self.store.finish(&claimed, &RunEnd::failed(reason.as_str())).await?;
                if let Some(observer) = self.observer.as_ref().filter(|_| ours && !by_hand) {
                    let change = RunChange::Failed(reason);
                    observer(RunEvent { job: job.name, run: running.run, slot: running.slot, change });
                }
                return Ok(());
            }
            let job = job.name;
            warn!(
                job,
                run_id,
                slot,
                holder,
                last_heartbeat,
                "{job} is taken over from {holder}, whose last heartbeat was at {last_heartbeat}"
            );
        }
        self.begin(job, running.slot, running.trigger, claimed);
        Ok(())
    }

    async fn settle(&self, job: &ScheduledJob, known: &KnownJob, now: DateTime<Utc>) -> Result<bool, Error> {
        let plan = plan(&job.settings, known, now);
        if let Some(first) = plan.settled.first()
            // Another daemon may have been quicker, and has logged it.
            && let slots @ 1.. = self.store.record(job.name, &plan.settled).await?
        {
            let slot = time_text(first.slot);
            warn!(job = job.name, slot, slots, why = first.why, "{} {}: {}", job.name, first.state.as_str(), first.why);
        }
        if plan.queue {
            self.store.queue(job.name, now).await?;
        }
        if let Some((slot, trigger)) = plan.begin
            && let Some(claimed) = self.store.claim(job.name, slot, trigger, now).await?
        {
            self.begin(job, slot, trigger, claimed);
        }
        Ok(plan.more)
    }

    fn begin(&self, job: &ScheduledJob, slot: DateTime<Utc>, trigger: Trigger, claimed: Claimed) {
        let (store, job, stop, board) = (self.store.clone(), job.clone(), self.stop.clone(), Arc::clone(&self.board));
        let (observer, ended) = (self.observer.clone(), Arc::clone(&self.attempt_ended));
        let attempt = Attempt { store, job, slot, trigger, claimed, stop, board, observer };
        self.attempts.spawn(async move {
            attempt.make().await;
            ended.notify_one();
        });
    }

    /// Returns when an attempt in this process has ended since the last call. A slot may have waited for it, and its
    /// run may want another attempt.
    pub async fn attempt_ended(&self) {
        self.attempt_ended.notified().await;
    }

    /// How many attempts are under way in this process.
    pub fn under_way(&self) -> usize {
        self.attempts.len()
    }

    /// Waits until no attempt is under way in this process.
    pub async fn idle(&self) {
        self.attempts.close();
        self.attempts.wait().await;
        self.attempts.reopen();
    }
}

/// The findings of [`Scheduler::tick`].
#[derive(Debug, Default)]
pub struct Tick {
    /// Whether there is more to do at once.
    pub more: bool,
    /// The next slot of all jobs that are neither disabled nor paused, in its zone.
    pub next: Option<(&'static str, DateTime<Zone>)>,
    /// When the next tick has something to do, as far as is known now: a slot is due then, or a run is to be tried
    /// again.
    pub due_at: Option<DateTime<Utc>>,
}

impl Tick {
    fn note_next(&mut self, job: &ScheduledJob, known: &KnownJob, now: DateTime<Utc>) {
        let schedule = &job.settings.schedule;
        let next = schedule.next_after(now).filter(|_| job.settings.enabled);
        if let Some(slot) = next.filter(|_| known.paused.is_none()) {
            let next = (job.name, slot.with_timezone(&schedule.zone()));
            self.next = [self.next, Some(next)].into_iter().flatten().min_by_key(|(_, slot)| *slot);
        }
        let retry = known.running.as_ref().and_then(|run| run.resume_at);
        self.due_at = [self.due_at, next, retry].into_iter().flatten().min();
    }
}

/// The answer of [`run_now`].
#[derive(Debug)]
pub enum RunNow {
    /// The run, which has ended.
    Ran(Box<RunRow>),
    /// Another run of the job is under way.
    Busy(Box<RunRow>),
}

/// A run by hand that has begun, or why none has.
pub enum Begun {
    /// The run, which this process has claimed.
    Claimed(Box<ManualRun>),
    /// Another run of the job is under way.
    Busy(Box<RunRow>),
}

/// A run that an operator asked for, and that this process has claimed.
pub struct ManualRun(Attempt);

impl ManualRun {
    /// The number of the run.
    pub fn number(&self) -> i64 {
        self.0.claimed.run
    }

    /// Does its work. Returns the run, which has ended.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn finish(self) -> Result<RunRow, Error> {
        let (store, run) = (self.0.store.clone(), self.number());
        self.0.make().await;
        store.run(run).await?.ok_or(Error::Deleted(run))
    }
}

/// Runs a job for `slot` in this process, because an operator asked for it, and waits for its end. See [`begin_now`].
///
/// # Errors
/// If the database fails.
pub async fn run_now(
    store: &Store,
    job: &ScheduledJob,
    slot: DateTime<Utc>,
    now: DateTime<Utc>,
    board: &Arc<Board>,
    stop: &CancellationToken,
) -> Result<RunNow, Error> {
    Ok(match begin_now(store, job, slot, now, board, stop).await? {
        Begun::Claimed(run) => RunNow::Ran(Box::new(run.finish().await?)),
        Begun::Busy(row) => RunNow::Busy(row),
    })
}

/// Claims a run of a job for `slot`, because an operator asked for it. A job has one open run at most. If there is
/// one, nothing is done, unless it is a manual run whose process died: that run is ended as failed.
///
/// # Errors
/// If the database fails.
pub async fn begin_now(
    store: &Store,
    job: &ScheduledJob,
    slot: DateTime<Utc>,
    now: DateTime<Utc>,
    board: &Arc<Board>,
    stop: &CancellationToken,
) -> Result<Begun, Error> {
    loop {
        // A claim needs the job's row.
        store.add(job.name, &job.settings, now).await?;
        let known = store.load_jobs(&[job.name], now).await?;
        if let Some(running) = known.into_iter().find_map(|(_, known)| known.running) {
            if running.trigger == Trigger::Manual && running.free {
                match store.take(&running).await? {
                    Some(claimed) => {
                        let end = RunEnd::failed(format!("{} died during the run", running.holder()));
                        store.finish(&claimed, &end).await?;
                    }
                    // Another transaction has locked the row.
                    None => tokio::time::sleep(LOCKED).await,
                }
            } else if let Some(row) = store.run(running.run).await?.filter(|row| row.state == State::Running) {
                return Ok(Begun::Busy(Box::new(row)));
            }
            continue;
        }
        let Some(claimed) = store.claim(job.name, slot, Trigger::Manual, now).await? else { continue };
        let (store, job, board, stop) = (store.clone(), job.clone(), Arc::clone(board), stop.clone());
        let (trigger, observer) = (Trigger::Manual, None);
        let attempt = Attempt { store, job, slot, trigger, claimed, stop, board, observer };
        return Ok(Begun::Claimed(Box::new(ManualRun(attempt))));
    }
}

/// The pause before a locked row is read again.
const LOCKED: Duration = Duration::from_millis(100);
