//! Tells the lanes when to poll: without a pause while there is work, else when an application notifies.
//!
//! Each NOTIFY makes the commits that send one wait for each other. So an inserting transaction notifies only if a daemon sleeps,
//! which it reads from an advisory lock:
//!
//! - A sleeping daemon holds the lock. A transaction that inserts meanwhile notifies.
//! - A transaction that finds the lock free takes a share of it until its end, and does not notify. A daemon cannot get the lock
//!   until all such transactions are over.
//!
//! After the daemon has taken the lock, the lanes poll once more. So no request is missed: one inserted before the lock is seen by
//! that poll, and one inserted after it notifies.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::{LANES, Stats};
use crate::database::{self, Database, Dedicated};
use crate::errors;
use crate::retry::Backoff;

/// "requests" in ASCII; the function pointsd.announce_requests() uses the same number.
const SLEEP_LOCK: i64 = 0x7265_7175_6573_7473;

/// The pauses of a lane that found nothing, and of a daemon that cannot sleep because applications are inserting. With jitter they
/// reach 100 ms.
pub const IDLE: Backoff = Backoff::new(IDLE_FIRST, Duration::from_millis(50));
pub const IDLE_FIRST: Duration = Duration::from_millis(5);

/// How long to trust another daemon's lock before checking whether it is still held: that daemon may have stopped.
const TRUST_OTHER_LOCK: Duration = Duration::from_secs(1);

/// A connection that does not answer for so long counts as lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the lanes should do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instruction {
    /// The number of the poll; a lane polls again when it rises.
    pub poll: u64,
    /// Whether to wait for the next instruction after that poll, instead of polling again after a pause.
    pub sleep: bool,
}

/// What a lane found.
#[derive(Clone, Copy, Debug)]
pub struct LaneReport {
    pub lane: i16,
    /// The instruction that the lane followed.
    pub poll: u64,
    /// Whether the lane was empty from its start to its end, but for the requests of a node that is away.
    pub empty: bool,
    /// When the lane must poll without a notification, because a failed request is due for another try.
    pub retry_at: Option<Instant>,
}

/// Listens for notifications and instructs the lanes.
pub struct Coordinator {
    pub database: Database,
    /// How often the lanes poll without a notification.
    pub poll_interval: Duration,
    pub stats: Arc<Stats>,
    pub instructions: watch::Sender<Instruction>,
    pub reports: mpsc::UnboundedReceiver<LaneReport>,
    pub latest: Vec<Option<LaneReport>>,
}

/// The connection is lost.
struct Lost;

impl Coordinator {
    /// Starts without a report of any lane.
    pub fn new(
        database: Database,
        poll_interval: Duration,
        stats: Arc<Stats>,
        instructions: watch::Sender<Instruction>,
        reports: mpsc::UnboundedReceiver<LaneReport>,
    ) -> Coordinator {
        Coordinator { database, poll_interval, stats, instructions, reports, latest: vec![None; LANES as usize] }
    }

    /// Instructs the lanes until `stop` is cancelled.
    pub async fn run(mut self, stop: &CancellationToken) {
        let mut pauses = Backoff::DATABASE.pauses();
        loop {
            let listening = async {
                match listen(&self.database).await {
                    Ok(mut connection) => {
                        pauses.reset();
                        while let Ok(()) = self.wait_and_sleep(&mut connection).await {}
                    }
                    Err(error) => {
                        tracing::debug!("notifications of the queue cannot be received: {}", errors::chain(&*error));
                    }
                }
            };
            if stop.run_until_cancelled(listening).await.is_none() {
                return;
            }
            // Without notifications the lanes poll all the time. Their reports must not pile up.
            self.note_all();
            self.instruct(|instruction| instruction.sleep = false);
            if stop.run_until_cancelled(pauses.sleep()).await.is_none() {
                return;
            }
        }
    }

    /// Waits until nothing is left to do, sleeps, and returns when there is work.
    async fn wait_and_sleep(&mut self, connection: &mut Dedicated) -> Result<(), Lost> {
        let mut pauses = IDLE.pauses();
        loop {
            while !self.all_empty(0) {
                self.receive(connection).await?;
            }
            match try_sleep_lock(&connection.client).await? {
                SleepLock::Taken => break,
                SleepLock::HeldByOther => return self.sleep(connection, false).await,
                SleepLock::Inserting => {
                    pauses.sleep().await;
                    self.note_all();
                }
            }
        }
        self.sleep(connection, true).await?;
        within_timeout(connection.client.execute("SELECT pg_advisory_unlock($1)", &[&SLEEP_LOCK])).await?;
        Ok(())
    }

    /// Sleeps until a notification arrives or a lane finds something. A daemon that holds the lock may sleep on. One that relies on
    /// another daemon's lock returns after a while, to check whether it is still held.
    async fn sleep(&mut self, connection: &mut Dedicated, locked: bool) -> Result<(), Lost> {
        while connection.notifications.try_recv().is_ok() {}
        loop {
            let poll =
                self.instruct(|instruction| *instruction = Instruction { poll: instruction.poll + 1, sleep: true });
            // The last poll before the sleep.
            while !self.all_empty(poll) {
                if self.found_something(poll) || self.receive(connection).await? {
                    self.wake_lanes();
                    return Ok(());
                }
            }
            let retry_at = self.latest.iter().flatten().filter_map(|report| report.retry_at).min();
            let check_lock = (!locked).then(|| Instant::now() + TRUST_OTHER_LOCK);
            let next_poll = Instant::now() + self.poll_interval;
            let until = [retry_at, check_lock].into_iter().flatten().fold(next_poll, Instant::min);
            self.stats.asleep.store(true, Ordering::Relaxed);
            // A lane reports during a sleep if a node of a cluster is back, or away.
            let woken = tokio::time::timeout_at(until.into(), self.receive(connection)).await;
            self.stats.asleep.store(false, Ordering::Relaxed);
            match woken {
                Ok(woken) => {
                    woken?;
                    self.wake_lanes();
                    return Ok(());
                }
                // Time to poll. The lock exists only as long as the connection, so the connection is checked first.
                Err(_) => within_timeout(connection.client.batch_execute("")).await?,
            }
            if !locked {
                return Ok(());
            }
        }
    }

    /// Waits for the next report, or for a notification: then true.
    async fn receive(&mut self, connection: &mut Dedicated) -> Result<bool, Lost> {
        tokio::select! {
            report = self.reports.recv() => match report {
                Some(report) => {
                    self.note(report);
                    Ok(false)
                }
                // The lanes have ended, and this task is about to be.
                None => std::future::pending().await,
            },
            notified = connection.notifications.recv() => notified.map(|_| true).ok_or(Lost),
        }
    }

    fn note_all(&mut self) {
        while let Ok(report) = self.reports.try_recv() {
            self.note(report);
        }
    }

    fn note(&mut self, report: LaneReport) {
        if let Some(latest) = usize::try_from(report.lane).ok().and_then(|lane| self.latest.get_mut(lane)) {
            *latest = Some(report);
        }
    }

    /// Whether each lane was empty in this poll or a later one.
    fn all_empty(&self, poll: u64) -> bool {
        self.latest.iter().all(|report| report.is_some_and(|report| report.empty && report.poll >= poll))
    }

    fn found_something(&self, poll: u64) -> bool {
        self.latest.iter().flatten().any(|report| !report.empty && report.poll >= poll)
    }

    fn wake_lanes(&self) {
        self.instruct(|instruction| *instruction = Instruction { poll: instruction.poll + 1, sleep: false });
    }

    /// Changes the instruction; returns the number of its poll.
    fn instruct(&self, change: impl FnOnce(&mut Instruction)) -> u64 {
        let mut poll = 0;
        self.instructions.send_modify(|instruction| {
            change(instruction);
            poll = instruction.poll;
        });
        poll
    }
}

async fn listen(database: &Database) -> Result<Dedicated, Box<dyn std::error::Error + Send + Sync>> {
    let connection = database.dedicated().await?;
    connection.client.batch_execute("LISTEN pointsd_requests").await?;
    Ok(connection)
}

/// Whether this daemon may sleep.
enum SleepLock {
    /// This daemon holds the lock, so transactions that insert notify.
    Taken,
    /// Another daemon sleeps. Transactions that insert notify, and all listening daemons receive that.
    HeldByOther,
    /// A transaction that inserted without notifying is still open.
    Inserting,
}

async fn try_sleep_lock(client: &Client) -> Result<SleepLock, Lost> {
    let lock = "SELECT pg_try_advisory_lock($1)";
    if within_timeout(client.query_one(lock, &[&SLEEP_LOCK])).await?.try_get(0).unwrap_or(false) {
        return Ok(SleepLock::Taken);
    }
    // A share can be had beside the shares of inserting transactions, but not beside the lock of a sleeping daemon.
    let share = "SELECT CASE WHEN pg_try_advisory_lock_shared($1) THEN pg_advisory_unlock_shared($1) ELSE false END";
    let shared = within_timeout(client.query_one(share, &[&SLEEP_LOCK])).await?.try_get(0).unwrap_or(false);
    Ok(if shared { SleepLock::Inserting } else { SleepLock::HeldByOther })
}

/// The answer to a query, unless the connection breaks or does not answer in time.
async fn within_timeout<T>(query: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, Lost> {
    match tokio::time::timeout(ANSWER_TIMEOUT, query).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            let transient = database::is_transient(&error);
            tracing::debug!(transient, "the connection for the queue's notifications is lost: {error}");
            Err(Lost)
        }
        Err(_) => Err(Lost),
    }
}
