//! The fence: a write of a run whose fencing token is stale is rejected. The checks themselves are the functions
//! `pointsd.save_progress` and, for transactions in one bucket, `pointsd.save_part` in `sql/schema/0002_runs.sql`.

use std::fmt::Debug;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};
use tokio_postgres::types::Json;
use tokio_postgres::{Client, Statement};

use super::board::Board;
use crate::ledger::{AlsoWrite, Part, Progress, SoFar};

/// The fencing token of a run, on one connection. Each transaction of the run calls it last.
pub struct Guard {
    save_progress: Statement,
    run: i64,
    fence: i64,
    board: Arc<Board>,
}

impl Guard {
    pub(super) fn new(save_progress: Statement, run: i64, fence: i64, board: Arc<Board>) -> Guard {
        Guard { save_progress, run, fence, board }
    }

    /// The run's number.
    pub fn number(&self) -> i64 {
        self.run
    }

    /// Saves progress and counters in the transaction that is open on `client`, and checks that this process still
    /// holds the run. `client` must be the connection that the guard was made for.
    ///
    /// # Errors
    /// With SQLSTATE PD001 if the run was taken over or cancelled. That aborts the transaction, even if its COMMIT was
    /// sent already. Otherwise if the database fails.
    pub async fn save_progress(
        &self,
        client: &Client,
        (done, total): (u64, u64),
        counters: &(impl Serialize + Debug + Sync),
    ) -> Result<(), tokio_postgres::Error> {
        let progress = Progress { done, total };
        client.query(&self.save_progress, &[&self.run, &self.fence, &progress_json(progress), &Json(counters)]).await?;
        self.board.show(self.run, progress);
        Ok(())
    }
}

/// Progress as the run's row has it.
pub(super) fn progress_json(Progress { done, total }: Progress) -> Value {
    json!({ "done": done, "total": total })
}

/// Saves what a proof has done, in each of its transactions.
impl<C: Serialize + Debug + Sync> AlsoWrite<SoFar<C>> for Guard {
    async fn write(&self, client: &Client, so_far: &SoFar<C>) -> Result<(), tokio_postgres::Error> {
        self.save_progress(client, (so_far.progress.done, so_far.progress.total), &so_far.counters).await
    }
}

/// The fencing token of a run, on one connection, for transactions that write to one bucket only. Each calls it last. It writes beside
/// the bucket, which may lie on another server than the run.
pub struct PartGuard {
    save_part: Statement,
    job: &'static str,
    run: i64,
    fence: i64,
    board: Arc<Board>,
}

impl PartGuard {
    pub(super) fn new(save_part: Statement, job: &'static str, run: i64, fence: i64, board: Arc<Board>) -> PartGuard {
        PartGuard { save_part, job, run, fence, board }
    }
}

/// Saves what a sweep has done in a bucket. Fails as [`Guard::save_progress`] does. The progress is written with the next heartbeat.
impl<C: Serialize + Debug + Sync> AlsoWrite<Part<C>> for PartGuard {
    async fn write(
        &self,
        client: &Client,
        Part { bucket, progress, counters }: &Part<C>,
    ) -> Result<(), tokio_postgres::Error> {
        client.query(&self.save_part, &[bucket, &self.job, &self.run, &self.fence, &Json(counters)]).await?;
        self.board.show_unsaved(self.run, *progress);
        Ok(())
    }
}
