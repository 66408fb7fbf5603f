//! The cutoff: an instant up to which the ledger's history is complete.
//!
//! An entry gets its `recorded_at` before its transaction commits. So a snapshot alone can miss entries that were recorded
//! earlier and commit a moment later. [`cutoff`] waits for the transactions that might still add such an entry. ADR 17 has the
//! reasons.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use tokio_postgres::Client;

use super::Error;
use crate::retry::Backoff;

/// How long a report or a proof waits for writers. A group of postings takes a second at most; a longer transaction needs a
/// person to look at it.
pub const CUTOFF_LIMIT: Duration = Duration::from_secs(60);

/// Postings end within milliseconds, so the first check comes soon.
const CHECKS: Backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(200));

/// Returns an instant W, by the server's clock; of several servers by the one that is behind the others. Every snapshot that begins
/// afterwards sees all entries with `recorded_at <= W`, and no such entry appears later.
///
/// `recorded_at` is read from the clock while the table is locked for the insert. A transaction without that lock at W
/// therefore records later than W, and one that holds it is waited for.
///
/// # Errors
/// [`Error::Uncommitted`] if such a transaction does not end within `limit`. Otherwise if the database fails.
pub async fn cutoff(client: &Client, limit: Duration) -> Result<DateTime<Utc>, Error> {
    let cutoff = client.query_one("SELECT pointsd.earliest_clock()", &[]).await?.try_get(0)?;
    let began = Instant::now();
    let mut pauses = CHECKS.pauses();
    let mut awaited: Option<HashSet<String>> = None;
    loop {
        let rows = client.query(include_str!("../../sql/ledger/writer_list.sql"), &[]).await?;
        let mut writing = HashSet::new();
        let mut process: Option<i32> = None;
        for row in &rows {
            let transaction: String = row.try_get(0)?;
            // Those that began to write later record later.
            if awaited.as_ref().is_none_or(|awaited| awaited.contains(&transaction)) {
                process = process.or(row.try_get(1)?);
                writing.insert(transaction);
            }
        }
        if writing.is_empty() {
            return Ok(cutoff);
        }
        if began.elapsed() >= limit {
            return Err(Error::Uncommitted { transactions: writing.len(), process, seconds: limit.as_secs() });
        }
        awaited = Some(writing);
        pauses.sleep().await;
    }
}

/// Waits until every snapshot that begins afterwards sees all entries recorded up to `at`, and no such entry appears later.
///
/// # Errors
/// [`Error::Future`] if that instant is still to come by the server's clock. Otherwise as [`cutoff`].
pub(super) async fn wait_until_complete(client: &Client, at: DateTime<Utc>, limit: Duration) -> Result<(), Error> {
    let now = cutoff(client, limit).await?;
    if at > now { Err(Error::Future { asked: at, now }) } else { Ok(()) }
}
