//! Runs jobs at their slots: each slot once, by one daemon, whatever dies. Knows no job.
//!
//! - Slots are computed from a job's rule and the last slot that has a row (`plan`), never from a timer.
//! - The row of a run is the claim on its slot (`store`): an insert that only one daemon can win. Whoever holds a run
//!   gives signs of life and has a **fence**, a number that only grows; the last statement in each of its transactions
//!   ends that transaction where somebody else has a higher one ([`Guard::keep`]). So a daemon that was frozen and given up
//!   writes nothing more.
//! - A run goes on from what was kept of it: after a failure, a crash, or an orderly stop.

mod board;
mod plan;
mod run;
mod store;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

pub use board::{Board, Shown};
use plan::plan;
pub use plan::{Outage, PAUSED_BY, outage};
use run::Attempt;
pub use run::{Completed, Ended, Guard, Run, Work};
use store::{Claimed, Known, Running};
pub use store::{Error, JobRow, Paused, RunRow, State, Store, Trigger};

use crate::config;
use crate::time::{Zone, time_text};

/// A job as the scheduler sees it.
#[derive(Clone)]
pub struct Job {
    /// Its name.
    pub name: &'static str,
    /// When it runs, and what becomes of it when things do not go by that.
    pub settings: config::Job,
    /// Does a slot's work, in chunks whose transactions each end with [`Guard::keep`]. Doing it twice changes nothing
    /// that was done.
    pub work: Arc<dyn Fn(Run) -> Work + Send + Sync>,
}

/// Something that became of a run in this process, for who wants to tell it on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The job's name.
    pub job: &'static str,
    /// The run's number.
    pub run: i64,
    /// The instant that it is for.
    pub slot: DateTime<Utc>,
    /// What became of it.
    pub what: What,
}

/// What became of a run. One that goes on later, here or elsewhere, or was cancelled, has not ended in any of these ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Its first attempt begins.
    Began,
    /// It succeeded with this result; that is written.
    Succeeded(Completed),
    /// It failed for this reason and is not tried again; that is written.
    Failed(String),
}

/// Hears of what becomes of runs. It must return at once: the run waits for it.
pub type Observer = Arc<dyn Fn(Event) + Send + Sync>;

/// Hosts jobs. Several may share a database.
pub struct Scheduler {
    store: Store,
    jobs: RwLock<Arc<[Job]>>,
    board: Arc<Board>,
    attempts: TaskTracker,
    stop: CancellationToken,
    observer: Option<Observer>,
}

impl Scheduler {
    /// For these jobs; `stop` makes the runs under way end after the chunk in hand.
    pub fn new(store: Store, jobs: Vec<Job>, stop: CancellationToken) -> Scheduler {
        let (board, attempts) = (Arc::default(), TaskTracker::new());
        Scheduler { store, jobs: RwLock::new(jobs.into()), board, attempts, stop, observer: None }
    }

    /// Tells `observer` what becomes of the runs.
    #[must_use]
    pub fn observed(self, observer: Observer) -> Scheduler {
        Scheduler { observer: Some(observer), ..self }
    }

    /// Makes the jobs known to the database: what is new, or has another schedule than before, counts its slots from
    /// `now` on.
    ///
    /// # Errors
    /// Where the database cannot be asked.
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

    /// From now on these jobs, with these settings; what is under way ends as it began. [`Scheduler::register`] comes
    /// next.
    pub fn replace(&self, jobs: Vec<Job>) {
        *self.jobs.write().unwrap_or_else(PoisonError::into_inner) = jobs.into();
    }

    fn jobs(&self) -> Arc<[Job]> {
        Arc::clone(&self.jobs.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is under way in this process.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// The tables.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Does what is due at `now`: takes up runs that nobody holds, settles slots, begins a run.
    ///
    /// # Errors
    /// Where the database cannot be asked; the next call goes on from there.
    pub async fn tick(&self, now: DateTime<Utc>) -> Result<Tick, Error> {
        let jobs = self.jobs();
        let names: Vec<&str> = jobs.iter().map(|job| job.name).collect();
        let mut known: HashMap<String, Known> = self.store.look(&names, now).await?.into_iter().collect();
        if known.values().any(|known| known.ahead) {
            let slots = self.store.unrecord(&names, now).await?;
            warn!(slots, now = time_text(now), "the clock went back: slots that were recorded ahead of it count again");
        }
        let (mut tick, mut failed) = (Tick::default(), None);
        for job in jobs.iter() {
            let Some(known) = known.remove(job.name) else {
                // Somebody emptied the table.
                self.store.add(job.name, &job.settings, now).await?;
                continue;
            };
            // What fails for one job must not keep the others from their slots.
            match self.look_after(job, &known, now).await {
                Ok(more) => tick.more |= more,
                Err(error) => failed = Some(error),
            }
            if job.settings.enabled && known.paused.is_none() {
                let schedule = &job.settings.schedule;
                let next = schedule.next_after(now).map(|slot| (job.name, slot.with_timezone(&schedule.zone())));
                tick.next = [tick.next, next].into_iter().flatten().min_by_key(|(_, slot)| *slot);
            }
        }
        failed.map_or(Ok(tick), Err)
    }

    /// Takes up its run that nobody holds, settles its slots. Returns whether there is more to do at once.
    async fn look_after(&self, job: &Job, known: &Known, now: DateTime<Utc>) -> Result<bool, Error> {
        if let Some(running) = known.running.as_ref().filter(|running| running.free) {
            self.take_up(job, running).await?;
        }
        if job.settings.enabled { self.settle(job, known, now).await } else { Ok(false) }
    }

    /// Continues a run that nobody holds, or ends it: one by hand, because nobody asked us, and one whose tries are used
    /// up. Whatever `retries` says, a daemon that died costs no run the first time.
    async fn take_up(&self, job: &Job, running: &Running) -> Result<(), Error> {
        let Some(claimed) = self.store.take(running).await? else { return Ok(()) };
        if let Some(heartbeat) = running.heartbeat {
            let (holder, last_sign) = (holder(running), time_text(heartbeat));
            let (run_id, slot) = (running.run, time_text(running.slot));
            let tries = job.settings.retries.max(1).saturating_add(1);
            let by_hand = running.trigger == Trigger::Manual;
            if by_hand || u32::try_from(running.attempt).is_ok_and(|attempt| attempt >= tries) {
                let mut reason = format!("{holder} died or froze while running it, last heard of at {last_sign}");
                if !by_hand {
                    reason.push_str(&format!("; that was attempt {} of {tries}", running.attempt));
                }
                error!(job = job.name, run_id, slot, reason, "{} failed: {reason}", job.name);
                let held = (claimed.run, claimed.fence);
                let ours = self.store.finish(held, State::Failed, None, Some(&reason), None).await?;
                if let Some(observer) = self.observer.as_ref().filter(|_| ours && !by_hand) {
                    let what = What::Failed(reason);
                    observer(Event { job: job.name, run: running.run, slot: running.slot, what });
                }
                return Ok(());
            }
            let job = job.name;
            warn!(
                job,
                run_id, slot, holder, last_sign, "{job} is taken over from {holder}, last heard of at {last_sign}"
            );
        }
        self.begin(job, running.slot, running.trigger, claimed);
        Ok(())
    }

    async fn settle(&self, job: &Job, known: &Known, now: DateTime<Utc>) -> Result<bool, Error> {
        let plan = plan(&job.settings, known, now);
        if let Some(first) = plan.settled.first()
            // Another daemon may have been quicker, and has told it.
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

    fn begin(&self, job: &Job, slot: DateTime<Utc>, trigger: Trigger, claimed: Claimed) {
        let (store, stop, board) = (self.store.clone(), self.stop.clone(), Arc::clone(&self.board));
        let observer = self.observer.clone();
        self.attempts.spawn(Attempt { store, job: job.clone(), slot, trigger, claimed, stop, board, observer }.make());
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

/// What [`Scheduler::tick`] found.
#[derive(Debug, Default)]
pub struct Tick {
    /// Whether there is more to do at once.
    pub more: bool,
    /// The next slot of all jobs that are neither disabled nor paused, in its zone.
    pub next: Option<(&'static str, DateTime<Zone>)>,
}

/// What came of [`run_now`].
#[derive(Debug)]
pub enum Asked {
    /// It ran; how it ended.
    Ran(Box<RunRow>),
    /// Another run of the job is under way.
    Busy(Box<RunRow>),
}

/// Runs a job in this process for `slot`, because somebody asked for it. One run of the job is under way at most: where
/// there is another, nothing is done, unless it is one by hand whose process died: that one is ended as failed.
///
/// # Errors
/// Where the database cannot be asked.
pub async fn run_now(
    store: &Store,
    job: &Job,
    slot: DateTime<Utc>,
    now: DateTime<Utc>,
    board: &Arc<Board>,
    stop: &CancellationToken,
) -> Result<Asked, Error> {
    store.add(job.name, &job.settings, now).await?;
    loop {
        let known = store.look(&[job.name], now).await?;
        if let Some(running) = known.into_iter().find_map(|(_, known)| known.running) {
            if running.trigger == Trigger::Manual && running.free {
                match store.take(&running).await? {
                    Some(claimed) => {
                        let reason = format!("{} died while running it", holder(&running));
                        store.finish((claimed.run, claimed.fence), State::Failed, None, Some(&reason), None).await?;
                    }
                    // Its row is locked just now.
                    None => tokio::time::sleep(LOCKED).await,
                }
            } else if let Some(row) = store.run(running.run).await?.filter(|row| row.state == State::Running) {
                return Ok(Asked::Busy(Box::new(row)));
            }
            continue;
        }
        let Some(claimed) = store.claim(job.name, slot, Trigger::Manual, now).await? else { continue };
        let run = claimed.run;
        let (store, job, board, stop) = (store.clone(), job.clone(), Arc::clone(board), stop.clone());
        let (trigger, observer) = (Trigger::Manual, None);
        let attempt = Attempt { store: store.clone(), job, slot, trigger, claimed, stop, board, observer };
        attempt.make().await;
        let row = store.run(run).await?.ok_or_else(|| Error::Unknown(format!("run {run} no more")))?;
        return Ok(Asked::Ran(Box::new(row)));
    }
}

/// Before a row that was locked is looked at again.
const LOCKED: Duration = Duration::from_millis(100);

fn holder(running: &Running) -> String {
    match (&running.host, running.pid) {
        (Some(host), Some(pid)) => format!("process {pid} on {host}"),
        _ => "its process".to_owned(),
    }
}
