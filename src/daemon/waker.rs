//! Wakes the daemon's loop at an instant, through tokio-cron-scheduler.
//!
//! The library gets one one-shot job at a time, armed anew after each round. Its own cron jobs would not do: they
//! freeze a zone's offset when they are made, so after a change of the clocks they are an hour off.

use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::mpsc;
use tokio_cron_scheduler::{Job, JobScheduler};
use uuid::Uuid;

/// The library cuts instants to whole seconds. A slot is a whole second, so half a second more keeps a wake-up from
/// being early.
const HALF_SECOND: Duration = Duration::from_millis(500);

/// The library looks for due jobs every half second.
const ABOUT_TO_RUN: TimeDelta = TimeDelta::seconds(2);

pub(super) struct Waker {
    scheduler: JobScheduler,
    wake: mpsc::Sender<()>,
    woken: mpsc::Receiver<()>,
    armed: Option<(Uuid, DateTime<Utc>)>,
}

impl Waker {
    pub(super) async fn start() -> anyhow::Result<Waker> {
        let (wake, woken) = mpsc::channel(1);
        let scheduler = JobScheduler::new().await.context("tokio-cron-scheduler does not start")?;
        scheduler.start().await.context("tokio-cron-scheduler does not start")?;
        Ok(Waker { scheduler, wake, woken, armed: None })
    }

    /// Wakes the loop once, at `instant` by the clock that shows `now`. An earlier order is void.
    pub(super) async fn arm(&mut self, instant: Option<DateTime<Utc>>, now: DateTime<Utc>) -> anyhow::Result<()> {
        if self.armed.map(|(_, armed)| armed) == instant {
            return Ok(());
        }
        // One that is about to run is left alone: the library logs an error for a job that it has listed and does not find. It
        // wakes the loop once more than needed.
        if let Some((job, _)) = self.armed.take().filter(|(_, armed)| *armed - now > ABOUT_TO_RUN) {
            self.scheduler.remove(&job).await.ok();
        }
        let Some(instant) = instant else { return Ok(()) };
        let wake = self.wake.clone();
        // An asynchronous job: after a panic the library would never run a synchronous one again.
        let job = Job::new_one_shot_async((instant - now).to_std().unwrap_or_default() + HALF_SECOND, move |_, _| {
            let wake = wake.clone();
            Box::pin(async move {
                // One waiting wake-up is enough.
                let _ = wake.try_send(());
            })
        });
        let job = self
            .scheduler
            .add(job.context("the wake-up cannot be made")?)
            .await
            .context("the wake-up cannot be added")?;
        self.armed = Some((job, instant));
        Ok(())
    }

    /// Returns when the instant has come.
    pub(super) async fn woken(&mut self) {
        // The channel stays open: its sender is in here.
        self.woken.recv().await;
        self.armed = None;
    }

    /// Stops the library, which waits for nothing.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.scheduler.shutdown().await.context("tokio-cron-scheduler does not stop")
    }
}
