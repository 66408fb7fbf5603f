//! When the lanes look: all the time while there is something to do, else when an application rings.
//!
//! A NOTIFY makes the transactions that send one commit one after the other, so an inserting transaction rings only for
//! a daemon that sleeps. An advisory lock tells: who sleeps has it; an inserting transaction that finds it free takes a
//! share of it until its end, and whoever wants to sleep has to wait for that. The lanes look once more after the lock was
//! taken, and so nothing that was inserted before it is overlooked, and whatever is inserted after it rings.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::{FIRST_PAUSE, LANES, LONGEST_PAUSE, Stats};
use crate::database::{self, Database, Dedicated};
use crate::telemetry;

/// "requests" in ASCII; pointsd.announce_requests() has it, too.
const SLEEP_LOCK: i64 = 0x7265_7175_6573_7473;

/// Before the next attempt to sleep where applications are inserting; doubled up to the longest.
pub const FIRST_REST: Duration = Duration::from_millis(5);
pub const LONGEST_REST: Duration = Duration::from_millis(100);

/// So long one relies on the lock of another daemon, which may have stopped.
const WITHOUT_LOCK: Duration = Duration::from_secs(1);

/// The connection has gone where it does not answer for so long.
const DEAF_AFTER: Duration = Duration::from_secs(10);

/// What the lanes should do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Look once more whenever this rises.
    pub look: u64,
    /// Then wait for the next order; else go on looking.
    pub sleep: bool,
}

/// What a lane found.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    pub lane: i16,
    /// The order that it followed.
    pub look: u64,
    /// Nothing was there, from the lane's start to its end.
    pub empty: bool,
    /// When it has to look again even if nobody rings: something waits for its next try.
    pub again: Option<Instant>,
}

pub struct Bell {
    database: Database,
    poll: Duration,
    stats: Arc<Stats>,
    order: watch::Sender<Order>,
    reports: mpsc::UnboundedReceiver<Report>,
    latest: Vec<Option<Report>>,
}

/// The connection is lost.
struct Lost;

impl Bell {
    pub fn new(
        database: Database,
        poll: Duration,
        stats: Arc<Stats>,
        order: watch::Sender<Order>,
        reports: mpsc::UnboundedReceiver<Report>,
    ) -> Bell {
        Bell { database, poll, stats, order, reports, latest: (0..LANES).map(|_| None).collect() }
    }

    /// Rings the lanes until `stop` is cancelled.
    pub async fn run(mut self, stop: &CancellationToken) {
        let mut pause = FIRST_PAUSE;
        loop {
            let listening = async {
                match listen(&self.database).await {
                    Ok(mut connection) => {
                        pause = FIRST_PAUSE;
                        let Lost = self.serve(&mut connection).await;
                    }
                    Err(error) => tracing::debug!("nobody hears the queue's bell: {}", telemetry::chain(&*error)),
                }
            };
            if stop.run_until_cancelled(listening).await.is_none() {
                return;
            }
            // Without the bell the lanes look all the time. What they report must not pile up.
            while let Ok(report) = self.reports.try_recv() {
                self.note(report);
            }
            self.give(|order| order.sleep = false);
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn serve(&mut self, connection: &mut Dedicated) -> Lost {
        loop {
            if let Err(lost) = self.wait_and_sleep(connection).await {
                return lost;
            }
        }
    }

    /// Waits until nothing is left to do, sleeps, and comes back when there is something to do.
    async fn wait_and_sleep(&mut self, connection: &mut Dedicated) -> Result<(), Lost> {
        let mut rest = FIRST_REST;
        loop {
            while !self.all_empty(0) {
                self.hear(connection).await?;
            }
            match lie_down(&connection.client).await? {
                Sleep::Locked => break,
                Sleep::SomebodyElse => return self.sleep(connection, false).await,
                Sleep::Disturbed => {
                    tokio::time::sleep(rest).await;
                    rest = (rest * 2).min(LONGEST_REST);
                    // What was reported meanwhile is read, and what was reported before counts no more.
                    while let Ok(report) = self.reports.try_recv() {
                        self.note(report);
                    }
                }
            }
        }
        self.sleep(connection, true).await?;
        answer(connection.client.execute("SELECT pg_advisory_unlock($1)", &[&SLEEP_LOCK])).await?;
        Ok(())
    }

    /// Sleeps until somebody rings, or the lanes find something. Who has the lock may sleep on; who relies on another
    /// daemon's comes back to see whether that one still has it.
    async fn sleep(&mut self, connection: &mut Dedicated, locked: bool) -> Result<(), Lost> {
        while connection.notifications.try_recv().is_ok() {}
        loop {
            let look = self.give(|order| *order = Order { look: order.look + 1, sleep: true });
            // The last look before the sleep.
            while !self.all_empty(look) {
                if self.found_something(look) || self.hear(connection).await? {
                    self.give(|order| *order = Order { look: order.look + 1, sleep: false });
                    return Ok(());
                }
            }
            let poll = Instant::now() + self.poll;
            let again = self.latest.iter().flatten().filter_map(|report| report.again).min();
            let until = again.map_or(poll, |again| again.min(poll));
            let until = if locked { until } else { until.min(Instant::now() + WITHOUT_LOCK) };
            self.stats.asleep.store(true, Ordering::Relaxed);
            let rung = tokio::time::timeout_at(until.into(), connection.notifications.recv()).await;
            self.stats.asleep.store(false, Ordering::Relaxed);
            match rung {
                Ok(Some(_)) => {
                    self.give(|order| *order = Order { look: order.look + 1, sleep: false });
                    return Ok(());
                }
                Ok(None) => return Err(Lost),
                // Time to look again, whoever rang or did not. The lock is only worth something while the connection is.
                Err(_) => answer(connection.client.batch_execute("")).await?,
            }
            if !locked {
                return Ok(());
            }
        }
    }

    /// Waits for the next report, or for a ring: then true.
    async fn hear(&mut self, connection: &mut Dedicated) -> Result<bool, Lost> {
        tokio::select! {
            report = self.reports.recv() => match report {
                Some(report) => {
                    self.note(report);
                    Ok(false)
                }
                // The lanes are gone; so will this be.
                None => std::future::pending().await,
            },
            rung = connection.notifications.recv() => rung.map(|_| true).ok_or(Lost),
        }
    }

    fn note(&mut self, report: Report) {
        if let Some(latest) = usize::try_from(report.lane).ok().and_then(|lane| self.latest.get_mut(lane)) {
            *latest = Some(report);
        }
    }

    /// Whether each lane has come to its end in this look or a later one.
    fn all_empty(&self, look: u64) -> bool {
        self.latest.iter().all(|report| report.is_some_and(|report| report.empty && report.look >= look))
    }

    fn found_something(&self, look: u64) -> bool {
        self.latest.iter().flatten().any(|report| !report.empty && report.look >= look)
    }

    /// Changes the order; returns its number.
    fn give(&self, change: impl FnOnce(&mut Order)) -> u64 {
        let mut look = 0;
        self.order.send_modify(|order| {
            change(order);
            look = order.look;
        });
        look
    }
}

async fn listen(database: &Database) -> Result<Dedicated, Box<dyn std::error::Error + Send + Sync>> {
    let connection = database.dedicated().await?;
    connection.client.batch_execute("LISTEN pointsd_requests").await?;
    Ok(connection)
}

/// Whether one may sleep.
enum Sleep {
    /// Whoever inserts will ring.
    Locked,
    /// Another daemon sleeps, so whoever inserts will ring, and all that listen hear it.
    SomebodyElse,
    /// A transaction that has inserted without ringing is still under way.
    Disturbed,
}

async fn lie_down(client: &Client) -> Result<Sleep, Lost> {
    let lock = "SELECT pg_try_advisory_lock($1)";
    if answer(client.query_one(lock, &[&SLEEP_LOCK])).await?.try_get(0).unwrap_or(false) {
        return Ok(Sleep::Locked);
    }
    // A share of it can be had beside the shares of those that insert, and not beside somebody who sleeps.
    let share = "SELECT CASE WHEN pg_try_advisory_lock_shared($1) THEN pg_advisory_unlock_shared($1) ELSE false END";
    let shared = answer(client.query_one(share, &[&SLEEP_LOCK])).await?.try_get(0).unwrap_or(false);
    Ok(if shared { Sleep::Disturbed } else { Sleep::SomebodyElse })
}

/// An answer, unless the connection is lost, or deaf.
async fn answer<T>(query: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, Lost> {
    match tokio::time::timeout(DEAF_AFTER, query).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            tracing::debug!(transient = database::is_transient(&error), "the queue's bell is lost: {error}");
            Err(Lost)
        }
        Err(_) => Err(Lost),
    }
}
