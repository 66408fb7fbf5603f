//! Measures the no-op jobs per second of two other job runners on PostgreSQL, each in the fastest setting that it documents.
//! Prints one line of JSON.
//!
//! The clock starts just before the worker and stops when a separate connection sees every job as done in the database.
//! Installing the schema and enqueueing are not measured.

mod graphile;
mod river;

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use serde_json::{Value, json};
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, NoTls};

/// Without progress for this long, the run is given up. A healthy worker pauses far less.
const STALLED: Duration = Duration::from_secs(30);
/// The interval of the check: small against a run of seconds, and rare enough to cost the worker nothing.
const LOOK: Duration = Duration::from_millis(5);

/// Calls of the no-op handler.
static RUNS: AtomicU64 = AtomicU64::new(0);

/// Measures how many no-op jobs per second another job runner works.
#[derive(Parser)]
struct Arguments {
    /// A fresh, empty database: postgres://user@host/name; a socket's folder is percent-encoded as the host.
    #[arg(long)]
    database_url: String,
    /// Which job runner.
    #[arg(long, value_enum)]
    peer: Peer,
    /// How many jobs.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    jobs: u32,
    /// The most jobs at once. This and the settings below default to the fastest that we measured.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: Option<u16>,
    /// Milliseconds that graphile_worker batches completions, or that riverqueue waits between two fetches.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pause: Option<u16>,
    /// graphile_worker only: jobs that a local queue fetches at once.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    prefetch: Option<u16>,
    /// graphile_worker only: the number of local queues.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    queues: Option<u16>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Peer {
    #[value(name = "graphile_worker")]
    GraphileWorker,
    #[value(name = "riverqueue")]
    Riverqueue,
}

/// The result of a peer: seconds to enqueue, seconds to work, and its settings.
struct Measured {
    enqueued: Duration,
    worked: Duration,
    settings: Value,
}

#[tokio::main]
async fn main() -> ExitCode {
    // The peers report a failed fetch or batch only as events at this level.
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::ERROR)
        .with_writer(std::io::stderr)
        .init();
    match measure(&Arguments::parse()).await {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("peers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The line of JSON for one run.
async fn measure(arguments: &Arguments) -> Result<Value> {
    let config: Config = arguments
        .database_url
        .parse()
        .context("--database-url is no PostgreSQL URL; a socket's folder is its percent-encoded host: postgres://user@%2Frun%2Fpostgresql/name")?;
    let judge = Judge::connect(&config, u64::from(arguments.jobs)).await?;
    let (name, measured) = match arguments.peer {
        Peer::GraphileWorker => ("graphile_worker", graphile::measure(arguments, &config, &judge).await),
        Peer::Riverqueue => ("riverqueue", river::measure(arguments, &config, &judge).await),
    };
    let measured = measured.with_context(|| format!("{name} did not finish"))?;
    let seconds = measured.worked.as_secs_f64();
    Ok(json!({
        "peer": name,
        "version": version(name)?,
        "jobs": arguments.jobs,
        "enqueue_seconds": rounded(measured.enqueued.as_secs_f64(), 1000.0),
        "seconds": rounded(seconds, 1000.0),
        "rate": rounded(f64::from(arguments.jobs) / seconds, 1.0),
        "runs": RUNS.load(Ordering::Relaxed),
        "settings": measured.settings,
    }))
}

/// The version that Cargo.lock gave this build.
fn version(package: &str) -> Result<&'static str> {
    let lock = include_str!("../Cargo.lock");
    let named = format!("name = \"{package}\"\nversion = \"");
    let (_, rest) = lock.split_once(&named).with_context(|| format!("Cargo.lock does not name {package}"))?;
    rest.split('"').next().context("Cargo.lock has no version there")
}

fn rounded(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}

/// The connection that reads the progress of the jobs; the worker never uses it.
struct Judge {
    client: Client,
    jobs: u64,
}

impl Judge {
    async fn connect(config: &Config, jobs: u64) -> Result<Judge> {
        let (client, connection) =
            config.connect(NoTls).await.context("no connection to the database in --database-url")?;
        tokio::spawn(connection);
        let relations = "select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace
            where n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')";
        let relations: i64 = client.query_one(relations, &[]).await?.get(0);
        ensure!(relations == 0, "the database in --database-url is not empty; create a fresh one for each run");
        Ok(Judge { client, jobs })
    }

    /// Vacuums the table, so that a run does not depend on the moment of autovacuum.
    async fn settle(&self, table: &str) -> Result<()> {
        self.client.batch_execute(&format!("vacuum (analyze) {table}")).await?;
        Ok(())
    }

    /// Waits until `open`, a query that counts the unfinished jobs, returns 0. Until all handlers have run, only their counter
    /// is read, because a count in the database would take time from the worker.
    async fn done(&self, open: &str) -> Result<()> {
        let mut last = (0, i64::MAX);
        let mut moved = Instant::now();
        loop {
            let runs = RUNS.load(Ordering::Relaxed);
            let left = if runs < self.jobs { i64::MAX } else { self.client.query_one(open, &[]).await?.get(0) };
            if left == 0 {
                return Ok(());
            }
            if (runs, left) != last {
                last = (runs, left);
                moved = Instant::now();
            }
            if moved.elapsed() > STALLED {
                let left: i64 = self.client.query_one(open, &[]).await?.get(0);
                bail!(
                    "nothing moved for {STALLED:?}: {runs} of {} jobs ran, {left} are not done in the database",
                    self.jobs
                );
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Host and port of the database; exactly one host.
fn host(config: &Config) -> Result<(&Host, u16)> {
    let [host] = config.get_hosts() else { bail!("--database-url must name one host") };
    Ok((host, config.get_ports().first().copied().unwrap_or(5432)))
}
