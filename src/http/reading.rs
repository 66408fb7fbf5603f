//! Connections of calls, and runs that calls begin.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::OwnedSemaphorePermit;

use super::{Problem, Server};
use crate::database::Limited;
use crate::errors;
use crate::jobs::{Context, RegisteredJob};
use crate::scheduler::{self, Begun, RunRow, Store};
use crate::status::{Reach, Status};

/// How long a call waits for a connection that other calls have.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The longest time of a call's statements. It ends before the call does: what is under way on a connection that is given back
/// would hold up the next user.
const LONGEST_READ: Duration = Duration::from_secs(25);

/// A pooled connection for one call, or what takes one for each statement. Only half of the pool is for calls, so that they cannot
/// hold up the daemon's own work. A call that has one waits for no second one.
pub(crate) struct Reading<T = Limited> {
    by: T,
    _place: OwnedSemaphorePermit,
}

impl<T> Deref for Reading<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.by
    }
}

impl<T> DerefMut for Reading<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.by
    }
}

impl Server {
    /// The place of a call that takes pooled connections, one at a time.
    ///
    /// # Errors
    /// 503 while other calls have all places.
    pub(crate) async fn place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        match tokio::time::timeout(LONGEST_WAIT, Arc::clone(&self.0.reads).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(Problem::unavailable("overloaded", "too many calls are under way; send it again later")),
        }
    }

    /// The place of a call that loads a document and renders it. It is taken before the connection, and kept until it is rendered.
    ///
    /// # Errors
    /// 503 while other calls have all places.
    pub(crate) async fn rendering(&self) -> Result<OwnedSemaphorePermit, Problem> {
        match tokio::time::timeout(LONGEST_WAIT, Arc::clone(&self.0.renderings).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(Problem::unavailable("overloaded", "too many documents are being rendered; ask again later")),
        }
    }

    /// A connection for one call.
    ///
    /// # Errors
    /// 503 while the database is away, or while other calls have all places.
    pub(crate) async fn reading(&self) -> Result<Reading, Problem> {
        let ledger = self.ledger()?;
        let place = self.place().await?;
        Ok(Reading { by: ledger.database.limited(LONGEST_READ).await?, _place: place })
    }

    /// Whether all is well. The arrears of many accounts are those that were collected last.
    ///
    /// # Errors
    /// 503 while the database is away, or while other calls have all places.
    pub(crate) async fn status(&self) -> Result<Status, Problem> {
        let (config, database, _place) = (self.config(), &self.ledger()?.database, self.place().await?);
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
    /// 503 while the daemon waits for the database, or while other calls have all places.
    pub(crate) async fn store(&self) -> Result<Reading<Store>, Problem> {
        let ledger = self.ledger()?;
        let place = self.place().await?;
        // Its statements have a shorter limit of their own.
        let store = Store::new(&ledger.database, self.config().jobs.takeover);
        Ok(Reading { by: store, _place: place })
    }

    /// Begins a run of a job in this process, and returns it. It stands on the daemon's board, and ends after the current chunk if the
    /// daemon stops.
    ///
    /// # Errors
    /// The run that is under way already; or where the database fails.
    pub(crate) async fn begin_run(
        &self,
        job: &RegisteredJob,
        slot: Option<DateTime<Utc>>,
        full: bool,
    ) -> Result<Result<RunRow, Box<RunRow>>, Problem> {
        let (config, ledger, store) = (self.config(), self.ledger()?, self.store().await?);
        let context = Context { full, ..Context::new(&config, &ledger.database) };
        let scheduled = job.scheduled(&config, &context);
        let now = store.now().await?;
        let slot = slot.unwrap_or(now);
        let run = match scheduler::begin_now(&store, &scheduled, slot, now, &ledger.board, self.stop()).await? {
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
