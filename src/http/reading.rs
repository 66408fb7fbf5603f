//! Connections of calls that read, and runs that calls begin.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use deadpool_postgres::Object;
use tokio::sync::OwnedSemaphorePermit;

use super::{Problem, Server};
use crate::errors;
use crate::jobs::{Context, RegisteredJob};
use crate::scheduler::{self, Begun, RunRow, Store};
use crate::status::{Reach, Status};

/// How long a call waits for a connection that other calls have.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A pooled connection for one call. Only half of the pool is for calls, so that they cannot hold up the daemon's own work.
pub(crate) struct Reading {
    client: Object,
    _place: OwnedSemaphorePermit,
}

impl Deref for Reading {
    type Target = Object;

    fn deref(&self) -> &Object {
        &self.client
    }
}

impl DerefMut for Reading {
    fn deref_mut(&mut self) -> &mut Object {
        &mut self.client
    }
}

impl Server {
    /// A connection for one call.
    ///
    /// # Errors
    /// 503 while the database is away, or while other calls have all connections.
    pub(crate) async fn reading(&self) -> Result<Reading, Problem> {
        let ledger = self.ledger()?;
        let place = tokio::time::timeout(LONGEST_WAIT, Arc::clone(&self.0.reads).acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            return Err(Problem::unavailable("overloaded", "too many calls are under way; send it again later"));
        };
        Ok(Reading { client: ledger.database.connection().await?, _place: place })
    }

    /// Whether all is well. The arrears of many accounts are those that were collected last.
    ///
    /// # Errors
    /// 503 while the database is away.
    pub(crate) async fn status(&self) -> Result<Status, Problem> {
        let (config, database) = (self.config(), &self.ledger()?.database);
        let mut status = Status::read(database, &config, Utc::now(), Reach::Page).await?;
        if status.figures.arrears.is_none()
            && let Some((as_of, points)) = self.metrics().arrears()
        {
            status.figures.arrears = Some(points.to_string());
            status.figures.arrears_as_of = Some(as_of);
        }
        Ok(status)
    }

    /// What jobs and runs are read and ordered by.
    ///
    /// # Errors
    /// 503 while the daemon waits for the database.
    pub(crate) fn store(&self) -> Result<Store, Problem> {
        Ok(Store::new(&self.ledger()?.database, self.config().jobs.takeover))
    }

    /// Begins a run of a job in this process, and returns it. It ends after the current chunk if the daemon stops.
    ///
    /// # Errors
    /// The run that is under way already; or where the database fails.
    pub(crate) async fn begin_run(
        &self,
        job: &RegisteredJob,
        slot: Option<DateTime<Utc>>,
        full: bool,
    ) -> Result<Result<RunRow, Box<RunRow>>, Problem> {
        let (config, store) = (self.config(), self.store()?);
        let context = Context { full, ..Context::new(&config, &self.ledger()?.database) };
        let scheduled = job.scheduled(&config, &context);
        let now = store.now().await?;
        let (board, slot) = (Arc::default(), slot.unwrap_or(now));
        let run = match scheduler::begin_now(&store, &scheduled, slot, now, &board, self.stop()).await? {
            Begun::Busy(row) => return Ok(Err(row)),
            Begun::Claimed(run) => run,
        };
        let number = run.number();
        self.0.runs.spawn(async move {
            if let Err(error) = run.finish().await {
                tracing::error!(run_id = number, "the end of run {number} is not known: {}", errors::chain(&error));
            }
        });
        let row = store.run(number).await?;
        row.map(Ok).ok_or_else(|| Problem::not_found(format!("run {number} was pruned meanwhile")))
    }
}
