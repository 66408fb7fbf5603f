//! Reads what the database holds. Two loops, because the first read of the points may take long.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::try_join;
use tokio::sync::watch;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};
use tokio_util::sync::CancellationToken;

use super::snapshot::{Collected, JobFigures, Operations, Points};
use crate::books::RunningTotals;
use crate::config::Config;
use crate::database::{Database, SessionKind};
use crate::errors;
use crate::jobs::{REGISTRY, RegisteredJob};
use crate::ledger::{self, REFUND_SOURCE, cutoff};
use crate::scheduler::State;

/// The time between two collections.
const EVERY: Duration = Duration::from_secs(15);

/// A server that does not answer for so long is away.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long to wait for transactions that write entries. The next collection tries again.
const CUTOFF_WITHIN: Duration = Duration::from_secs(5);

/// The points of a day that is not closed are read at the start, which may take longer.
const FIRST_READ_WITHIN: Duration = Duration::from_secs(300);

/// The pause before the first read is tried again, because it is the only one that costs the server much.
const FIRST_READ_EVERY: Duration = Duration::from_secs(600);

/// A run may become visible after one with a higher number. So many numbers below the highest are read again.
const RUNS_READ_AGAIN: i64 = 100;

/// Collects until `stop` is cancelled. `started`: slots that ended before it are not counted.
pub(super) async fn collect(
    collected: &Collected,
    database: &Database,
    config: watch::Receiver<Arc<Config>>,
    started: Instant,
    stop: CancellationToken,
) {
    let mut slots = Slots::new(started);
    let mut session = Session::new(database);
    let operations = async {
        loop {
            let config = Arc::clone(&config.borrow());
            let read = session.within(ANSWER_WITHIN, async |client| read_operations(client, &config, &mut slots).await);
            match read.await {
                Ok(operations) => collected.change(|snapshot| {
                    snapshot.database_up = true;
                    snapshot.operations = Some(operations);
                }),
                Err(why) => {
                    tracing::debug!("nothing can be collected for the metrics: {why}");
                    collected.change(|snapshot| snapshot.database_up = false);
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    };
    let points = collect_points(collected, database, &config);
    stop.run_until_cancelled(async { futures_util::join!(operations, points) }).await;
}

async fn collect_points(collected: &Collected, database: &Database, config: &watch::Receiver<Arc<Config>>) {
    let mut session = Session::new(database);
    let mut totals: Option<RunningTotals> = None;
    let mut told = false;
    loop {
        let is_first = totals.is_none();
        let limit = if is_first { FIRST_READ_WITHIN } else { ANSWER_WITHIN + CUTOFF_WITHIN };
        let read = session.within(limit, async |client| read_points(client, &mut totals).await).await;
        let pause = match read {
            Ok(()) => {
                if let Some(totals) = &totals {
                    let config = config.borrow();
                    let is_named = |source: &str| source == REFUND_SOURCE || config.sources.contains_key(source);
                    let points = Points::new(totals, is_named);
                    collected.change(|snapshot| snapshot.points = Some(points));
                } else if !std::mem::replace(&mut told, true) {
                    tracing::info!(
                        "metrics of points begin once the reconciliation has closed a first day: there are too many entries to read \
                         them all"
                    );
                }
                if totals.is_some() { EVERY } else { FIRST_READ_EVERY }
            }
            Err(why) => {
                tracing::debug!("the points cannot be collected for the metrics: {why}");
                if is_first && why.timed_out { FIRST_READ_EVERY } else { EVERY }
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// A connection of its own, so that a busy pool hides no metrics. It is opened when it is needed.
struct Session {
    database: Database,
    client: Option<Client>,
}

/// Why nothing was collected.
struct Failed {
    reason: String,
    timed_out: bool,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)
    }
}

impl Session {
    fn new(database: &Database) -> Session {
        Session { database: database.clone(), client: None }
    }

    /// Reads with the connection. It is closed unless all of that succeeds in time: a connection with a statement under way is of
    /// no use.
    async fn within<T>(
        &mut self,
        limit: Duration,
        read: impl AsyncFnOnce(&Client) -> Result<T, ledger::Error>,
    ) -> Result<T, Failed> {
        let work = async {
            let client = match self.client.take().filter(|client| !client.is_closed()) {
                Some(client) => client,
                None => {
                    let client = self.database.dedicated().await?.client;
                    client.batch_execute(SessionKind::Metrics.settings()).await?;
                    client
                }
            };
            let value = read(&client).await?;
            self.client = Some(client);
            Ok(value)
        };
        match tokio::time::timeout(limit, work).await {
            Ok(result) => {
                result.map_err(|error: ledger::Error| Failed { reason: errors::chain(&error), timed_out: false })
            }
            Err(_) => Err(Failed { reason: format!("no answer within {} s", limit.as_secs()), timed_out: true }),
        }
    }
}

async fn read_points(client: &Client, totals: &mut Option<RunningTotals>) -> Result<(), ledger::Error> {
    let cutoff = cutoff(client, CUTOFF_WITHIN).await?;
    match totals {
        Some(totals) => totals.carry_on(client, cutoff).await?,
        None => *totals = RunningTotals::load(client, cutoff).await?,
    }
    Ok(())
}

async fn read_operations(client: &Client, config: &Config, slots: &mut Slots) -> Result<Operations, ledger::Error> {
    let jobs: Vec<&str> = REGISTRY.iter().map(|job| job.name).collect();
    let after = slots.after;
    let began = slots.started.elapsed().as_secs_f64();
    let (of_jobs, of_slots): ([&(dyn ToSql + Sync); 1], [&(dyn ToSql + Sync); 2]) = ([&jobs], [&after, &began]);
    let (queue, mails, ledger, last_runs, runs) = try_join!(
        client.query_one(include_str!("../../sql/metrics/queue_count.sql"), &[]),
        client.query(include_str!("../../sql/metrics/mail_count.sql"), &[]),
        client.query_one(include_str!("../../sql/metrics/ledger_count.sql"), &[]),
        client.query(include_str!("../../sql/metrics/job_last.sql"), &of_jobs),
        client.query(include_str!("../../sql/metrics/slot_ended.sql"), &of_slots),
    )?;
    let runs = runs.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)));
    slots.count(&runs.collect::<Result<Vec<_>, tokio_postgres::Error>>()?);
    let mut requests = [("pending", 0), ("waiting", 0), ("refused", 0), ("parked", 0)];
    for (state, count) in &mut requests {
        *count = queue.try_get(*state)?;
    }
    let (mut mails_by_state, mut oldest_mail) = (BTreeMap::new(), 0.0_f64);
    for state in ["waiting", "sending", "sent", "parked"] {
        mails_by_state.insert(state.to_owned(), 0);
    }
    for row in &mails {
        let (state, oldest): (String, f64) = (row.try_get("state")?, row.try_get("oldest")?);
        if matches!(state.as_str(), "waiting" | "sending") {
            oldest_mail = oldest_mail.max(oldest);
        }
        mails_by_state.insert(state, row.try_get("mails")?);
    }
    let mut figures = Vec::new();
    for row in &last_runs {
        let job = RegisteredJob::named(row.try_get("job")?).filter(|job| (job.settings)(config).enabled);
        figures.extend(job.map(|job| job_figures(row, job, config)).transpose()?);
    }
    Ok(Operations {
        at: ledger.try_get("now")?,
        requests,
        oldest_request: queue.try_get("oldest")?,
        mails: mails_by_state,
        oldest_mail,
        findings: ledger.try_get("findings")?,
        accounts_in_arrears: ledger.try_get("in_arrears")?,
        jobs: figures,
        slots: slots.counts.clone(),
    })
}

fn job_figures(row: &Row, job: &RegisteredJob, config: &Config) -> Result<JobFigures, tokio_postgres::Error> {
    let since: DateTime<Utc> = row.try_get("since")?;
    let (slot, finished): (Option<DateTime<Utc>>, Option<DateTime<Utc>>) =
        (row.try_get("slot")?, row.try_get("finished")?);
    let done_until = slot.map_or(since, |slot| slot.max(since));
    Ok(JobFigures {
        name: job.name,
        paused: row.try_get("paused")?,
        last_success: finished.map(|finished| finished.timestamp()),
        last_duration: row.try_get("took")?,
        next_due: (job.settings)(config).schedule.next_after(done_until).map(|slot| slot.timestamp()),
    })
}

/// Counts the slots that end, from the rows of runs. Old runs are pruned, so a count of all rows would go down, and Prometheus
/// would take that for a restart of the counter.
struct Slots {
    started: Instant,
    /// Runs up to this one are counted.
    after: Option<i64>,
    /// Runs after it that are counted.
    counted: BTreeSet<i64>,
    counts: BTreeMap<(&'static str, &'static str), u64>,
}

impl Slots {
    fn new(started: Instant) -> Slots {
        let ends = || State::ALL.iter().filter(|state| **state != State::Running).map(|state| state.as_str());
        let counts = REGISTRY.iter().flat_map(|job| ends().map(|state| ((job.name, state), 0))).collect();
        Slots { started, after: None, counted: BTreeSet::new(), counts }
    }

    /// Counts the runs that ended and are not counted yet, of these: number, job and state, in the order of their numbers.
    fn count(&mut self, runs: &[(i64, &str, &str)]) {
        let Some((highest, ..)) = runs.last() else { return };
        let mut next = highest - RUNS_READ_AGAIN;
        for (run, job, state) in runs {
            if *state == State::Running.as_str() {
                next = next.min(run - 1);
                continue;
            }
            let count = self.counts.iter_mut().find(|((of, counted), _)| (of, counted) == (job, state));
            if let Some((_, count)) = count
                && self.counted.insert(*run)
            {
                *count += 1;
            }
        }
        let after = self.after.map_or(next, |after| after.max(next));
        self.counted = self.counted.split_off(&after);
        self.after = Some(after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_is_counted_once_when_it_has_ended() {
        let mut slots = Slots::new(Instant::now());
        let mut count = |runs: &[(i64, &str, &str)]| {
            slots.count(runs);
            let ended: Vec<u64> = slots.counts.values().copied().filter(|count| *count > 0).collect();
            (ended, slots.after)
        };
        assert_eq!(count(&[]), (vec![], None));
        // The run of a job that this program does not know counts for nothing.
        let first = [(500, "expiry", "running"), (501, "old", "failed"), (700, "prune", "missed")];
        assert_eq!(count(&first), (vec![1], Some(499)));
        // Run 600 became visible late. Run 500 goes on, so what follows it is read again.
        let second = [(500, "expiry", "running"), (600, "prune", "missed"), (700, "prune", "missed")];
        assert_eq!(count(&second), (vec![2], Some(499)));
        let third = [(500, "expiry", "succeeded"), (600, "prune", "missed"), (700, "prune", "missed")];
        assert_eq!(count(&third), (vec![1, 2], Some(600)));
        assert_eq!(count(&[(700, "prune", "missed")]), (vec![1, 2], Some(600)));
    }
}
