//! riverqueue, which works on sqlx.
//!
//! It batches completions itself (up to 5,000 a statement, two at once) and fetches as many jobs as it has free workers.
//! The settings are those of its own benchmark, `riverqueue bench` of riverqueue-cli: 50 connections, a poll every 20 ms,
//! jobs inserted by 5,000. Two differ: 5,000 workers instead of 2,000 and 5 ms between fetches instead of 2, because fewer
//! and larger fetches were faster here.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use riverqueue::migrate::PostgresMigrator;
use riverqueue::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use riverqueue::{Client, Job, JobArgs, QUEUE_DEFAULT, QueueConfig, WorkContext, WorkOutcome, Worker, Workers};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::{Arguments, Judge, Measured, RUNS, host};

/// Jobs in one call of `insert_many`.
const ENQUEUED_AT_ONCE: u32 = 5_000;
/// The pool's size, as in its own benchmark.
const CONNECTIONS: u32 = 50;

#[derive(Clone, Debug, Deserialize, JobArgs, Serialize)]
#[river(kind = "noop")]
struct Noop {
    number: u32,
}

struct NoopWorker;

impl Worker<Noop> for NoopWorker {
    type Error = Infallible;

    fn work(&self, _: WorkContext, _: Job<Noop>) -> impl Future<Output = Result<WorkOutcome, Infallible>> + Send {
        RUNS.fetch_add(1, Ordering::Relaxed);
        ready(Ok(WorkOutcome::Complete))
    }
}

pub async fn measure(arguments: &Arguments, config: &Config, judge: &Judge) -> Result<Measured> {
    if arguments.prefetch.is_some() || arguments.queues.is_some() {
        bail!("riverqueue has no local queue: leave out --prefetch and --queues");
    }
    let workers = arguments.concurrency.unwrap_or(5_000);
    let pause = arguments.pause.unwrap_or(5);
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect_with(options(config)?).await?;
    PostgresMigrator::new(pool.clone()).migrate_up().await.context("its schema could not be installed")?;
    let mut registered = Workers::new();
    registered.add::<Noop, _>(NoopWorker)?;
    let queue = QueueConfig::new(workers.into())
        .with_fetch_cooldown(Duration::from_millis(pause.into()))
        .with_fetch_poll_interval(Duration::from_millis(20.max(pause.into())));
    let client = Client::builder(pool.clone()).workers(registered).queue(QUEUE_DEFAULT, queue).build()?;

    let started = Instant::now();
    for first in (0..arguments.jobs).step_by(ENQUEUED_AT_ONCE as usize) {
        let last = arguments.jobs.min(first.saturating_add(ENQUEUED_AT_ONCE));
        let jobs = (first..last).map(|number| Noop { number });
        client.insert_many(jobs).await.context("its jobs could not be enqueued")?;
    }
    let enqueued = started.elapsed();
    judge.settle("river_job").await?;

    let done = judge.done("select count(*) from river_job where state <> 'completed'");
    let started = Instant::now();
    let mut run = client.start().context("its worker could not start")?;
    tokio::select! {
        ended = run.wait() => {
            ended.context("its worker failed")?;
            bail!("its worker ended before the jobs were done");
        }
        done = done => done?,
    }
    let worked = started.elapsed();
    run.stop().await.context("its worker failed while it stopped")?;
    pool.close().await;

    let settings = json!({
        "driver": "sqlx",
        "max_workers": workers,
        "connections": CONNECTIONS,
        "fetch_cooldown_ms": pause,
        "fetch_poll_interval_ms": 20.max(pause),
    });
    Ok(Measured { enqueued, worked, settings })
}

/// The same database for sqlx, built from its parts, because the two drivers parse the URL of a socket differently.
fn options(config: &Config) -> Result<PgConnectOptions> {
    let (host, port) = host(config)?;
    let mut options = PgConnectOptions::new_without_pgpass().port(port);
    options = match host {
        Host::Tcp(name) => options.host(name),
        Host::Unix(folder) => options.socket(folder),
    };
    if let Some(user) = config.get_user() {
        options = options.username(user);
    }
    if let Some(password) = config.get_password() {
        options =
            options.password(std::str::from_utf8(password).context("the password in --database-url is not UTF-8")?);
    }
    if let Some(name) = config.get_dbname() {
        options = options.database(name);
    }
    Ok(options)
}
