//! The planner settings of a connection that proves.

use tokio_postgres::{Client, Error};

/// For statements that pass once over many rows: planned for the range they get, and compiled, which pays for long passes.
/// On one processor, because postings want the others. Without a limit of time: the run has one of its own.
const SETTINGS: &str = "SET plan_cache_mode = force_custom_plan; SET max_parallel_workers_per_gather = 0; \
                        SET work_mem = '256MB'; SET jit = on; SET statement_timeout = 0";

/// Makes a connection ready for proofs and for the books of business days. It must not return to the pool.
///
/// # Errors
/// If the database fails.
pub async fn prepare_session(client: &Client) -> Result<(), Error> {
    client.batch_execute(SETTINGS).await
}
