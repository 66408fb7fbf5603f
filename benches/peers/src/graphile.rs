//! graphile_worker, with its tokio-postgres driver.
//!
//! The settings follow its guide ("Throughput-oriented worker", "Local Queue", "Completion and failure batching"). Local
//! queues fetch many jobs in one statement, and a delay batches completions. The numbers are those of its own
//! benches/perf_test.rs: concurrency 500, local queue of 5,000, poll and completion delay 5 ms. Two local queues replace the
//! one, as its guide suggests for very small jobs, because that was faster here.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use graphile_worker::tokio_postgres::TokioPostgresDatabase;
use graphile_worker::{IntoTaskHandlerResult, JobSpec, LocalQueueConfig, TaskHandler, WorkerContext, WorkerOptions};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_postgres::Config;

use crate::{Arguments, Judge, Measured, RUNS};

/// Jobs in one call of `add_jobs`; from this size on the crate itself analyzes the table.
const ENQUEUED_AT_ONCE: u32 = 10_000;
/// The pool's size: the crate's default. Each local queue uses one at a time, and the completions one.
const CONNECTIONS: usize = 20;

#[derive(Clone, Deserialize, Serialize)]
struct Noop {
    number: u32,
}

impl TaskHandler for Noop {
    const IDENTIFIER: &'static str = "noop";

    async fn run(self, _context: WorkerContext) -> impl IntoTaskHandlerResult {
        RUNS.fetch_add(1, Ordering::Relaxed);
        Ok::<(), String>(())
    }
}

pub async fn measure(arguments: &Arguments, config: &Config, judge: &Judge) -> Result<Measured> {
    let concurrency = arguments.concurrency.unwrap_or(500);
    let prefetch = arguments.prefetch.unwrap_or(5_000);
    let queues = arguments.queues.unwrap_or(2);
    let pause = arguments.pause.unwrap_or(5);
    let database = TokioPostgresDatabase::from_config(config.clone(), CONNECTIONS)?;
    let worker = WorkerOptions::default()
        .database(database)
        .concurrency(concurrency.into())
        .poll_interval(Duration::from_millis(5))
        .complete_job_batch_delay(Duration::from_millis(pause.into()))
        .local_queue(LocalQueueConfig::default().with_size(prefetch.into()).with_queue_count(queues.into()))
        .define_job::<Noop>()
        .init()
        .await
        .context("its schema could not be installed")?;

    let started = Instant::now();
    let (spec, utils) = (JobSpec::default(), worker.create_utils());
    for first in (0..arguments.jobs).step_by(ENQUEUED_AT_ONCE as usize) {
        let last = arguments.jobs.min(first.saturating_add(ENQUEUED_AT_ONCE));
        let jobs: Vec<(Noop, &JobSpec)> = (first..last).map(|number| (Noop { number }, &spec)).collect();
        utils.add_jobs(&jobs).await.context("its jobs could not be enqueued")?;
    }
    let enqueued = started.elapsed();
    judge.settle("graphile_worker._private_jobs").await?;

    // A job that is done is deleted; one that failed stays.
    let done = judge.done("select count(*) from graphile_worker._private_jobs");
    let started = Instant::now();
    let run = worker.run();
    tokio::pin!(run);
    tokio::select! {
        ended = &mut run => {
            ended.context("its worker failed")?;
            bail!("its worker ended before the jobs were done");
        }
        done = done => done?,
    }
    let worked = started.elapsed();
    worker.request_shutdown();
    run.await.context("its worker failed while it stopped")?;

    let settings = json!({
        "driver": "tokio-postgres",
        "concurrency": concurrency,
        "connections": CONNECTIONS,
        "local_queue_size": prefetch,
        "local_queues": queues,
        "complete_job_batch_delay_ms": pause,
        "poll_interval_ms": 5,
    });
    Ok(Measured { enqueued, worked, settings })
}
