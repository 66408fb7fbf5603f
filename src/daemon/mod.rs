//! `pointsd serve`: hosts the jobs, the queue of requests and the sender of mails until it is told to stop.
//!
//! Its loop goes round each second: it asks the database for the time, lets the scheduler do what is due, and tells
//! systemd how things stand. A database that is away is waited for, at the start as later.

mod alarms;
mod status;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::Utc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_cron_scheduler::{Job as Waker, JobScheduler};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::{Config, ConfigError};
use crate::database::{Database, Settings};
use crate::jobs;
use crate::ledger::Rules;
use crate::mail;
use crate::pings::Pings;
use crate::requests::{self, Stats};
use crate::retry::Backoff;
use crate::scheduler::{self, Scheduler, Store, Tick};
use crate::systemd::{Health, Notifier};
use crate::telemetry;
use crate::time::time_text;
use status::Status;

/// The loop goes round after so long even if the scheduler does not wake it: a night must not be lost to a silent one, and
/// the watchdog is fed by the loop alone.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// A chunk in hand may take so long when the daemon is told to stop: less than the unit's TimeoutStopSec. What is not
/// done then is left to whoever takes the run over.
const LONGEST_DRAIN: Duration = Duration::from_secs(150);

/// While a chunk in hand keeps the daemon from stopping, systemd is asked for so much more time, again and again.
const EXTENSION: Duration = Duration::from_secs(30);

/// What is still to be told to dead man's switches when the daemon stops is given so long.
const LAST_PINGS: Duration = Duration::from_secs(1);

/// Runs until `stop` is cancelled; chunks in hand are finished first. `reload` reads the configuration anew.
///
/// # Errors
/// Where the database cannot be used and waiting for it would not help.
pub async fn serve(
    config: &Config,
    reload: impl Fn() -> Result<Config, ConfigError>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP cannot be listened to")?;
    let mut status = Status::new(Notifier::from_environment());
    let Some(database) = open(config, &mut status, &stop).await? else { return Ok(()) };
    let served = host(config, reload, &database, &mut hangup, &mut status, &stop).await;
    status.notifier().stopping("closing the database");
    let closed = database.close().await;
    served?;
    Ok(closed?)
}

/// The database, migrated, as soon as it is there; none where we are told to stop first.
async fn open(config: &Config, status: &mut Status, stop: &CancellationToken) -> anyhow::Result<Option<Database>> {
    let mut pauses = Backoff::DATABASE.pauses();
    loop {
        let tried = stop.run_until_cancelled(async {
            let database = Database::open(&Settings::from(config)).await?;
            // Another daemon may be migrating, for as long as that takes.
            match database.migrate().await {
                Ok(_) => Ok(database),
                Err(error) => {
                    database.close().await.ok();
                    Err(error)
                }
            }
        });
        match tried.await {
            None => return Ok(None),
            Some(Ok(database)) => {
                status.database_is_there();
                return Ok(Some(database));
            }
            Some(Err(error)) if error.is_transient() => status.database_is_away(&error),
            Some(Err(error)) => return Err(error.into()),
        }
        if stop.run_until_cancelled(pauses.sleep()).await.is_none() {
            return Ok(None);
        }
    }
}

async fn host(
    config: &Config,
    reload: impl Fn() -> Result<Config, ConfigError>,
    database: &Database,
    hangup: &mut Signal,
    status: &mut Status,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let store = Store::new(database, config.jobs.takeover);
    let (configs, config_in_force) = watch::channel(Arc::new(config.clone()));
    let pings = Arc::new(Pings::default());
    let observer = alarms::observer(config_in_force.clone(), &pings);
    let scheduler = Scheduler::new(store, jobs::scheduled(config, database), stop.clone()).observed(observer);
    let (missing, missing_now) = watch::channel(String::new());
    let mut look_for_reports = Some(alarms::look_for_reports(
        (database.clone(), scheduler.store().clone()),
        config_in_force.clone(),
        Arc::clone(&pings),
        missing,
        stop.clone(),
    ));
    let (mut waker, mut woken) = wake_each_second().await?;
    let (rules, rules_in_force) = watch::channel(Arc::new(Rules::from(config)));
    let stats = Arc::new(Stats::default());
    // The queue of requests, the sender of mails, and what looks for reports.
    let mut tasks = JoinSet::new();
    announce(config);
    let mut registered = false;
    let mut ready = false;
    let health = Health::start(status.notifier());
    while !stop.is_cancelled() {
        let gone_round = go_round(&scheduler, &mut registered).await;
        health.beat();
        let more = match gone_round {
            Ok(tick) => {
                status.database_is_there();
                status.show(scheduler.board(), &tick, &stats, &missing_now.borrow());
                if !std::mem::replace(&mut ready, true) {
                    let queue = (database.clone(), rules_in_force.clone(), Arc::clone(&stats), stop.clone());
                    let settings = config.requests;
                    tasks.spawn(async move {
                        let (database, rules, stats, stop) = queue;
                        requests::serve(&database, rules, settings, stats, stop).await;
                    });
                    if let Some(look_for_reports) = look_for_reports.take() {
                        tasks.spawn(look_for_reports);
                    }
                    let sender = (database.clone(), config_in_force.clone(), stop.clone());
                    tasks.spawn(async move {
                        let (database, config, stop) = sender;
                        mail::serve(&database, config, stop).await;
                    });
                    info!(database = database.describe(), version = env!("CARGO_PKG_VERSION"), "ready");
                    status.ready();
                }
                tick.more
            }
            Err(error) => {
                if error.is_transient() {
                    status.database_is_away(&error);
                } else {
                    status.trouble(&error);
                }
                false
            }
        };
        if tasks.try_join_next().is_some() && !stop.is_cancelled() {
            anyhow::bail!(
                "the queue of requests, the sender of mails or what looks for reports has ended by itself; the log says why"
            );
        }
        if more {
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            woken = tokio::time::timeout(LONGEST_SLEEP, woken.recv()) => {
                anyhow::ensure!(woken != Ok(None), "the scheduler that wakes the jobs is gone");
            }
            _ = hangup.recv() => {
                status.reloading();
                match reload() {
                    Ok(new) => {
                        scheduler.replace(jobs::scheduled(&new, database));
                        rules.send_replace(Arc::new(Rules::from(&new)));
                        configs.send_replace(Arc::new(new.clone()));
                        registered = false;
                        announce(&new);
                        info!(config = new.source.to_string(), "reloaded");
                        warn_of_restart(config, &new);
                        configs.send_replace(Arc::new(new));
                        status.reloaded(None);
                    }
                    Err(error) => {
                        let reason = telemetry::chain(&error);
                        error!(reason, "the new configuration is refused: {reason}");
                        status.reloaded(Some(reason));
                    }
                }
            }
        }
    }
    info!("stopping");
    drain(&scheduler, &mut tasks, status).await;
    pings.sent(LAST_PINGS).await;
    waker.shutdown().await.context("the scheduler does not stop")
}

/// One round: nothing here waits for a job.
async fn go_round(scheduler: &Scheduler, registered: &mut bool) -> Result<Tick, scheduler::Error> {
    let now = scheduler.store().now().await?;
    if !*registered {
        scheduler.register(now).await?;
        *registered = true;
    }
    scheduler.tick(now).await
}

/// Waits for what is under way.
async fn drain(scheduler: &Scheduler, tasks: &mut JoinSet<()>, status: &mut Status) {
    let deadline = tokio::time::Instant::now() + LONGEST_DRAIN;
    let idle = async {
        scheduler.idle().await;
        while tasks.join_next().await.is_some() {}
    };
    tokio::pin!(idle);
    loop {
        status.stopping(scheduler.board(), EXTENSION);
        tokio::select! {
            () = &mut idle => return,
            () = tokio::time::sleep_until(deadline) => {
                error!(runs = scheduler.under_way(), "left behind: what is under way does not end; it will be taken over");
                return;
            }
            () = tokio::time::sleep(EXTENSION / 3) => {}
        }
    }
}

/// tokio-cron-scheduler wakes the loop, no more: it freezes a zone's offset when a job is made, so the slots themselves
/// are computed by our own scheduler.
async fn wake_each_second() -> anyhow::Result<(JobScheduler, mpsc::Receiver<()>)> {
    let (wake, woken) = mpsc::channel(1);
    let scheduler = JobScheduler::new().await.context("the scheduler does not start")?;
    let waker = Waker::new_async("* * * * * *", move |_, _| {
        let wake = wake.clone();
        Box::pin(async move {
            // A wake-up that waits already will do.
            let _ = wake.try_send(());
        })
    });
    scheduler.add(waker.context("the wake-up cannot be made")?).await.context("the wake-up cannot be added")?;
    scheduler.start().await.context("the scheduler does not start")?;
    Ok((scheduler, woken))
}

/// Says when each job runs next, and what may surprise.
fn announce(config: &Config) {
    let now = Utc::now();
    for warning in config.warnings(now) {
        warn!("{warning}");
    }
    for job in jobs::REGISTRY {
        let settings = (job.settings)(config);
        let schedule = &settings.schedule;
        if settings.enabled {
            let next_slot = schedule.next_after(now).map(time_text);
            info!(job = job.name, schedule = schedule.describe(), next_slot, "{} scheduled", job.name);
        } else {
            info!(job = job.name, "{} is disabled", job.name);
        }
    }
}

/// What a reload cannot change in a daemon that runs.
fn warn_of_restart(old: &Config, new: &Config) {
    let settings = |config: &Config| {
        let Config { database, state_dir, requests, log, .. } = config;
        format!("{database:?} {state_dir:?} {:?} {requests:?} {log:?}", config.jobs.takeover)
    };
    if settings(old) != settings(new) {
        warn!("state_dir, database, jobs.takeover_seconds, requests and log change only when pointsd is restarted");
    }
}
