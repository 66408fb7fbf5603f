//! `pointsd serve`: hosts the jobs on their schedules until it is told to stop.

use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use tokio::sync::mpsc;
use tokio_cron_scheduler::{Job as Waker, JobScheduler};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::Config;
use crate::jobs::{self, Context, Job};
use crate::ledger::time_text;

/// How often a slot is tried when its job fails, and how long is waited before each further try.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_secs(10);

/// The loop looks at the clock after so long even if the scheduler does not wake it: a night must not be lost to a
/// silent one.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// A job and the next instant at which it is due.
struct Due {
    job: &'static Job,
    slot: Option<DateTime<Utc>>,
}

/// Runs every job at its slots until `stop` is cancelled; the chunk in hand is finished first. `clock` tells the time.
///
/// tokio-cron-scheduler wakes the loop each second, no more: it freezes a zone's offset when a job is made, so the
/// slots themselves are computed here, each from its rule, its zone and the slot before.
///
/// # Errors
/// Where the scheduler cannot be started.
pub async fn serve(config: &Config, context: Context, clock: fn() -> DateTime<Utc>) -> anyhow::Result<()> {
    let (wake, mut woken) = mpsc::channel(1);
    let mut scheduler = JobScheduler::new().await.context("the scheduler does not start")?;
    let waker = Waker::new_async("* * * * * *", move |_, _| {
        let wake = wake.clone();
        Box::pin(async move {
            // A wake-up that waits already will do.
            let _ = wake.try_send(());
        })
    });
    scheduler.add(waker.context("the wake-up cannot be made")?).await.context("the wake-up cannot be added")?;
    scheduler.start().await.context("the scheduler does not start")?;

    let started = clock();
    let mut jobs: Vec<Due> =
        jobs::REGISTRY.iter().map(|job| Due { job, slot: (job.schedule)(config).next_after(started) }).collect();
    for due in &jobs {
        announce(config, due);
    }
    info!(database = context.database.describe(), version = env!("CARGO_PKG_VERSION"), "ready");

    let stop = context.stop.clone();
    while let Some(woken) = stop.run_until_cancelled(tokio::time::timeout(LONGEST_SLEEP, woken.recv())).await {
        if woken == Ok(None) {
            anyhow::bail!("the scheduler that wakes the jobs is gone");
        }
        for due in &mut jobs {
            let now = clock();
            let Some(slot) = due.slot.filter(|slot| *slot <= now) else { continue };
            run_slot(due.job, slot, &context, &stop).await;
            due.slot = (due.job.schedule)(config).next_after(clock().max(slot));
            announce(config, due);
        }
    }
    info!("stopping");
    scheduler.shutdown().await.context("the scheduler does not stop")
}

fn announce(config: &Config, due: &Due) {
    let schedule = (due.job.schedule)(config);
    let slot = due.slot.map(time_text);
    info!(job = due.job.name, schedule = schedule.describe(), next_slot = slot, "scheduled");
}

/// Runs one slot, again if it fails: every job is safe to repeat.
async fn run_slot(job: &Job, slot: DateTime<Utc>, context: &Context, stop: &CancellationToken) {
    let mut pause = FIRST_PAUSE;
    for attempt in 1..=TRIES {
        info!(job = job.name, slot = time_text(slot), attempt, "started");
        // A task of its own, so that a panic ends the run and not the daemon.
        let outcome = tokio::spawn((job.run)(context.clone(), slot)).await;
        let reason = match outcome {
            Ok(Ok(counters)) => {
                info!(job = job.name, slot = time_text(slot), attempt, %counters, "succeeded");
                return;
            }
            Ok(Err(reason)) => format!("{reason:#}"),
            Err(panic) => panic.to_string(),
        };
        if stop.is_cancelled() {
            warn!(job = job.name, slot = time_text(slot), attempt, reason, "stopped half way");
            return;
        }
        error!(job = job.name, slot = time_text(slot), attempt, of = TRIES, reason, "failed");
        if attempt < TRIES && stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
        pause *= 2;
    }
}
