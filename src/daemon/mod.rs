//! `pointsd serve`: hosts the jobs, the queue of requests and the sender of mails until a signal stops it.
//!
//! The main loop sleeps between its rounds. A round asks the database for the time, lets the scheduler do what is due,
//! and writes the status line. It is woken by:
//!
//! - the next slot, or the next attempt of a failed run: tokio-cron-scheduler, armed anew after each round;
//! - the end of an attempt in this process, since a slot may have waited for it;
//! - SIGHUP, a report that is found missing, and the token that SIGTERM cancels (`cli/signals.rs`);
//! - its longest sleep, a quarter of the take-over time. By then it must see a run whose heartbeats stopped, a run that
//!   an operator cancelled, and a clock that jumped. The watchdog may ask for a shorter one;
//! - a second, while a run is under way, because the status line shows its progress;
//! - the retry pause, while the database is away.
//!
//! The queue, the mail sender, the search for missing reports and the collection of metrics have loops of their own.

mod alarms;
mod clock;
mod status;
mod waker;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::config::{Config, ConfigError};
use crate::database::{Database, Settings};
use crate::errors;
use crate::http::{self, Pulse, Readiness};
use crate::jobs;
use crate::ledger::Rules;
use crate::mail;
use crate::metrics::{Metrics, Way};
use crate::pings::Pings;
use crate::requests::{self, Stats};
use crate::retry::Backoff;
use crate::scheduler::{self, Board, Scheduler, Store, Tick};
use crate::systemd::{Health, Notifier};
use crate::time::time_text;
use clock::{Ahead, ClockWatch};
use status::Status;
use waker::Waker;

/// The longest sleep of the loop, however long the take-over time is.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// The time between two status lines while a run is under way.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// How long the current chunks may take when the daemon stops. It is less than the unit's TimeoutStopSec.
/// Another daemon takes over the runs that are left.
const LONGEST_DRAIN: Duration = Duration::from_secs(150);

/// How much more time systemd is asked for, again and again, while a chunk keeps the daemon from stopping.
const EXTENSION: Duration = Duration::from_secs(30);

/// What `/readyz` says while the database is away.
const DATABASE_AWAY: &str = "the database cannot be reached";

/// How often a daemon writes its sign of life.
const SIGN_OF_LIFE_EVERY: Duration = Duration::from_secs(10);

/// How long the last pings may take when the daemon stops.
const LAST_PINGS: Duration = Duration::from_secs(1);

/// Runs until `stop` is cancelled, and finishes the current chunks. `reload` reads the configuration anew.
///
/// # Errors
/// If the database cannot be used and waiting for it would not help.
pub async fn serve(
    config: &Config,
    reload: impl Fn() -> Result<Config, ConfigError>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP cannot be listened to")?;
    let mut status = Status::new(Notifier::from_environment());
    let outside = Outside::open(config, &stop).await?;
    let Some(database) = open(config, &mut status, &outside.pulse, &stop).await? else { return Ok(()) };
    if let Some(server) = &outside.server {
        server.open(&database, &outside.board);
    }
    let served = host(config, reload, &database, &outside, &mut hangup, &mut status, &stop).await;
    stop.cancel();
    if let Some(server) = outside.server {
        server.calls_ended().await;
    }
    status.notifier().stopping("closing the database");
    let closed = database.close().await;
    served?;
    Ok(closed?)
}

/// What the HTTP server sees of the daemon.
struct Outside {
    config: watch::Sender<Arc<Config>>,
    rules: watch::Sender<Arc<Rules>>,
    pulse: Arc<Pulse>,
    metrics: Arc<Metrics>,
    /// The runs under way, also those that calls began.
    board: Arc<Board>,
    server: Option<http::Running>,
}

impl Outside {
    async fn open(config: &Config, stop: &CancellationToken) -> anyhow::Result<Outside> {
        let rules = watch::Sender::new(Arc::new(Rules::from(config)));
        let config = watch::Sender::new(Arc::new(config.clone()));
        let (pulse, metrics) = (Arc::<Pulse>::default(), Metrics::new());
        let shared = (Arc::clone(&pulse), Arc::clone(&metrics));
        let server =
            http::Server::start(config.subscribe(), rules.subscribe(), shared.0, shared.1, stop.clone()).await?;
        Ok(Outside { config, rules, pulse, metrics, board: Arc::default(), server })
    }
}

/// Waits for the database and prepares it. None if the daemon is stopped first.
async fn open(
    config: &Config,
    status: &mut Status,
    pulse: &Pulse,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Database>> {
    let mut pauses = Backoff::DATABASE.pauses();
    loop {
        let tried = stop.run_until_cancelled(async {
            let database = Database::open(&Settings::from(config)).await?;
            // It may wait for an operator, or for another daemon, to migrate.
            match database.prepare().await {
                Ok(()) => Ok(database),
                Err(error) => {
                    database.close().await.ok();
                    Err(error)
                }
            }
        });
        // A host that does not answer may take longer than a loop may be silent.
        let waiting = async {
            loop {
                tokio::time::sleep(LONGEST_SLEEP).await;
                pulse.beat(Readiness::Not(DATABASE_AWAY));
            }
        };
        let tried = tokio::select! {
            tried = tried => tried,
            () = waiting => None,
        };
        match tried {
            None => return Ok(None),
            Some(Ok(database)) => {
                status.database_is_there();
                return Ok(Some(database));
            }
            Some(Err(error)) if error.is_transient() => {
                pulse.beat(Readiness::Not(DATABASE_AWAY));
                status.database_is_away(&error);
            }
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
    outside: &Outside,
    hangup: &mut Signal,
    status: &mut Status,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let mut host = Host::new(config, database, outside, stop);
    let mut waker = Waker::start().await?;
    announce(config);
    let health = Health::start(status.notifier());
    let look_every = host.scheduler.store().look_every().min(LONGEST_SLEEP);
    let longest_sleep = health.longest_sleep().map_or(look_every, |longest| longest.min(look_every));
    let mut outage = Backoff::DATABASE.pauses();
    while !stop.is_cancelled() {
        let round = host.round().await;
        health.beat();
        let sleep = match round {
            Ok(Round { now, tick, ahead }) => {
                outage.reset();
                outside.pulse.beat(Readiness::Ready);
                status.database_is_there();
                status.show(host.scheduler.board(), &tick, ahead.as_ref(), &host.stats, &host.missing.borrow());
                host.write_sign_of_life(status.line()).await;
                host.start_services(config, status);
                waker.arm(tick.due_at, now).await?;
                if tick.more {
                    continue;
                }
                let busy = host.scheduler.under_way() > 0 || !outside.board.is_empty();
                if busy { STATUS_EVERY.min(longest_sleep) } else { longest_sleep }
            }
            Err(error) => {
                outside.pulse.beat(match &error {
                    scheduler::Error::ReadOnly => Readiness::ReadOnly,
                    scheduler::Error::Connection(_) => Readiness::Not(DATABASE_AWAY),
                    error if error.is_transient() => Readiness::Not(DATABASE_AWAY),
                    _ => Readiness::Stalled,
                });
                if error.is_transient() {
                    status.database_is_away(&error);
                } else {
                    status.trouble(&error);
                }
                outage.next_pause().min(longest_sleep)
            }
        };
        host.check_services()?;
        tokio::select! {
            () = stop.cancelled() => {}
            () = waker.woken() => {}
            () = host.scheduler.attempt_ended() => {}
            _ = host.missing.changed() => {}
            _ = hangup.recv() => host.reload(config, reload(), status),
            () = tokio::time::sleep(sleep) => {}
        }
    }
    info!("stopping");
    drain(&host.scheduler, outside.server.as_ref(), &mut host.services, status).await;
    if let Err(error) = host.scheduler.store().delete_daemon().await {
        debug!(%error, "the daemon's sign of life is left behind");
    }
    host.pings.sent(LAST_PINGS).await;
    waker.stop().await
}

/// What a round found.
struct Round {
    now: DateTime<Utc>,
    tick: Tick,
    /// A clock that is not believed yet: then the scheduler did nothing.
    ahead: Option<Ahead>,
}

/// The parts of the daemon that work at the same time.
struct Host {
    database: Database,
    clock: ClockWatch,
    scheduler: Scheduler,
    /// Whether the database knows the jobs as they are configured now.
    registered: bool,
    config: watch::Sender<Arc<Config>>,
    rules: watch::Sender<Arc<Rules>>,
    stats: Arc<Stats>,
    metrics: Option<Arc<Metrics>>,
    pings: Arc<Pings>,
    /// The missing reports, for the status line.
    missing: watch::Receiver<String>,
    report_missing: Option<watch::Sender<String>>,
    /// The queue of requests, the sender of mails, the search for missing reports, and the collection of metrics.
    services: JoinSet<()>,
    stop: CancellationToken,
    started: DateTime<Utc>,
    /// The last sign of life.
    seen: Option<Instant>,
    /// Whether a warning told that none can be written.
    mute: bool,
}

impl Host {
    fn new(config: &Config, database: &Database, outside: &Outside, stop: &CancellationToken) -> Host {
        let store = Store::new(database, config.jobs.takeover);
        let configs = outside.config.clone();
        let pings = Arc::new(Pings::default());
        let observer = alarms::observer(configs.subscribe(), &pings);
        let scheduler = Scheduler::new(store, jobs::scheduled(config, database), stop.clone());
        let scheduler = scheduler.observed(observer).on_board(Arc::clone(&outside.board));
        let (report_missing, missing) = watch::channel(String::new());
        Host {
            database: database.clone(),
            clock: ClockWatch::default(),
            scheduler,
            registered: false,
            config: configs,
            rules: outside.rules.clone(),
            stats: Arc::new(Stats::observed(outside.metrics.observer(Way::Queue))),
            // Without a server there is no scrape.
            metrics: outside.server.as_ref().map(|_| Arc::clone(&outside.metrics)),
            pings,
            missing,
            report_missing: Some(report_missing),
            services: JoinSet::new(),
            stop: stop.clone(),
            started: Utc::now(),
            seen: None,
            mute: false,
        }
    }

    /// Does what is due now. Nothing in it waits for a job.
    async fn round(&mut self) -> Result<Round, scheduler::Error> {
        // A standby can be read, and all that the daemon does would fail.
        let now = self.scheduler.store().now_to_write().await?;
        if let Some(ahead) = self.clock.judge(now, Instant::now()) {
            if ahead.is_new {
                warn!(
                    now = time_text(now),
                    "the database's clock jumped ahead by {} s: no slot is begun for {} s, unless the clock goes back",
                    ahead.by.num_seconds(),
                    ahead.doubted_for.as_secs()
                );
            }
            return Ok(Round { now, tick: Tick::default(), ahead: Some(ahead) });
        }
        if !self.registered {
            self.scheduler.register(now).await?;
            self.registered = true;
        }
        Ok(Round { now, tick: self.scheduler.tick(now).await?, ahead: None })
    }

    /// Writes the daemon's sign of life, for `pointsd status`. A failure is the next round's business.
    async fn write_sign_of_life(&mut self, line: &str) {
        if self.seen.is_some_and(|seen| seen.elapsed() < SIGN_OF_LIFE_EVERY) {
            return;
        }
        match self.scheduler.store().write_daemon(self.started, line).await {
            Ok(()) => self.seen = Some(Instant::now()),
            Err(error) if error.is_transient() || self.mute => debug!(%error, "no sign of life could be written"),
            Err(error) => {
                self.mute = true;
                let reason = errors::chain(&error);
                warn!(reason, "pointsd status will not see this daemon: {reason}");
            }
        }
    }

    /// Starts the other services after the first round that succeeded, and tells systemd that the daemon is ready.
    fn start_services(&mut self, config: &Config, status: &Status) {
        let Some(missing) = self.report_missing.take() else { return };
        let (database, stop, settings) = (self.database.clone(), self.stop.clone(), config.requests);
        let (rules, stats) = (self.rules.subscribe(), Arc::clone(&self.stats));
        self.services.spawn(async move { requests::serve(&database, rules, settings, stats, stop).await });
        let (database, stop, config) = (self.database.clone(), self.stop.clone(), self.config.subscribe());
        self.services.spawn(async move { mail::serve(&database, config, stop).await });
        self.services.spawn(alarms::find_missing_reports(
            (self.database.clone(), self.scheduler.store().clone()),
            self.config.subscribe(),
            Arc::clone(&self.pings),
            missing,
            self.stop.clone(),
        ));
        if let Some(metrics) = self.metrics.take() {
            let (database, config, stop) = (self.database.clone(), self.config.subscribe(), self.stop.clone());
            self.services.spawn(async move { metrics.collect(&database, config, stop).await });
        }
        info!(database = self.database.describe(), version = env!("CARGO_PKG_VERSION"), "ready");
        status.ready();
    }

    fn check_services(&mut self) -> anyhow::Result<()> {
        let ended = self.services.try_join_next().is_some() && !self.stop.is_cancelled();
        anyhow::ensure!(
            !ended,
            "the queue of requests, the sender of mails, the search for missing reports or the collection of metrics has ended by itself; the log says why"
        );
        Ok(())
    }

    fn reload(&mut self, old: &Config, new: Result<Config, ConfigError>, status: &mut Status) {
        status.reloading();
        match new {
            Ok(new) => {
                self.scheduler.replace(jobs::scheduled(&new, &self.database));
                self.registered = false;
                announce(&new);
                info!(config = new.source.to_string(), "reloaded");
                if let Some(url) = &new.database.url {
                    self.database.renew_login(url);
                }
                warn_of_restart(old, &new);
                self.rules.send_replace(Arc::new(Rules::from(&new)));
                self.config.send_replace(Arc::new(new));
                status.reloaded(None);
            }
            Err(error) => {
                let reason = errors::chain(&error);
                error!(reason, "the new configuration is refused: {reason}");
                status.reloaded(Some(reason));
            }
        }
    }
}

/// Waits for the current chunks, also of runs that calls began, and for the services.
async fn drain(scheduler: &Scheduler, server: Option<&http::Running>, tasks: &mut JoinSet<()>, status: &mut Status) {
    let deadline = tokio::time::Instant::now() + LONGEST_DRAIN;
    let idle = async {
        scheduler.idle().await;
        if let Some(server) = server {
            server.runs_ended().await;
        }
        while tasks.join_next().await.is_some() {}
    };
    tokio::pin!(idle);
    loop {
        status.stopping(scheduler.board(), EXTENSION);
        tokio::select! {
            () = &mut idle => return,
            () = tokio::time::sleep_until(deadline) => {
                let runs = scheduler.board().runs().len();
                error!(
                    runs,
                    "left behind: the runs under way do not end; another daemon takes them over, or ends those as failed that an operator \
                     ordered"
                );
                return;
            }
            () = tokio::time::sleep(EXTENSION / 3) => {}
        }
    }
}

/// Logs when each job runs next, and the warnings of the configuration.
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

/// Warns of settings that a reload does not change. `old` is the configuration that the daemon started with.
fn warn_of_restart(old: &Config, new: &Config) {
    let changed = changed_until_restart(old, new);
    if !changed.is_empty() {
        let settings = changed.join(", ");
        warn!(settings, "changed, but taken only when pointsd is restarted: {settings}");
    }
}

/// The keys of the settings that changed and that only a start takes.
fn changed_until_restart(old: &Config, new: &Config) -> Vec<String> {
    let (ours, others) = (&old.database, &new.database);
    let changes = [
        ("state_dir", old.state_dir != new.state_dir),
        ("database.ca_file", ours.ca_file != others.ca_file),
        ("database.postgres_bin", ours.postgres_bin != others.postgres_bin),
        ("database.pool_size", ours.pool_size != others.pool_size),
        ("database.connect_timeout_seconds", ours.connect_timeout != others.connect_timeout),
        ("database.statement_timeout_seconds", ours.statement_timeout != others.statement_timeout),
        ("database.keep_trying_seconds", ours.keep_trying != others.keep_trying),
        ("jobs.takeover_seconds", old.jobs.takeover != new.jobs.takeover),
        ("requests", old.requests != new.requests),
        ("http.listen", old.http.listen != new.http.listen),
        // Other files of a certificate are taken at once.
        ("http.tls", old.http.tls.is_some() != new.http.tls.is_some()),
        ("log", old.log != new.log),
    ];
    let mut changed: Vec<String> =
        changes.into_iter().filter(|(_, is_changed)| *is_changed).map(|(key, _)| key.to_owned()).collect();
    match (&ours.url, &others.url) {
        (None, None) => {}
        (Some(url), Some(new)) => {
            let parts = url.differences(new);
            if !parts.is_empty() {
                changed.push(format!("database.url ({})", parts.join(", ")));
            }
        }
        (Some(_), None) | (None, Some(_)) => changed.push("database.url".to_owned()),
    }
    changed
}
