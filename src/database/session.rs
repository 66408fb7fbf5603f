//! The settings of sessions: one kind for each way of using the database, set when the session is opened.
//!
//! A setting for one statement belongs into its transaction, with SET LOCAL. So a pooled connection keeps no other settings
//! than the common ones.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};
use uuid::Uuid;

/// What a session is for. The settings of a kind come on top of those that every session has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionKind {
    /// Postings, sweeps and reads of accounts.
    Ledger,
    /// A lane of the queue, on top of [`SessionKind::Ledger`].
    Queue,
    /// Proofs, and the books of business days.
    Proof,
    /// The figures of the metrics.
    Metrics,
}

/// Generic plans, but on a cluster: a plan there names the node, which depends on the parameters.
macro_rules! generic_plans {
    () => {
        "SELECT pg_catalog.set_config('plan_cache_mode', CASE WHEN EXISTS ( \
         SELECT FROM pg_catalog.pg_extension WHERE extname OPERATOR(pg_catalog.=) 'citus') \
         THEN 'auto' ELSE 'force_generic_plan' END, false)"
    };
}

impl SessionKind {
    /// The statements that make a session one of this kind. It must not return to the pool.
    pub fn settings(self) -> &'static str {
        match self {
            // Each statement reaches its rows by an index, row by row. A generic plan that was made while the tables were
            // small, or before they were analysed, would read them whole, and stay. The sweep reads its list to the end.
            // A process that stops for five seconds between two statements may be stopped for good (Ctrl-Z). It must not keep
            // accounts locked.
            SessionKind::Ledger => {
                concat!(
                    "SET idle_in_transaction_session_timeout = '5s'; \
                     SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
                     SET jit = off; SET cursor_tuple_fraction = 1; ",
                    generic_plans!()
                )
            }
            // - A daemon that holds a lane and sends nothing for ten seconds is frozen or cut off. The server ends its session,
            //   which frees the lane.
            // - Another transaction may hold a row of the group. After two seconds the group fails, and then only that
            //   account waits. On a cluster the coordinator tells the nodes what is set for a transaction alone, so a lane sets it again in
            //   each.
            // - A statement of a group takes some milliseconds. One that takes ten seconds would not end by itself.
            // - The next requests are read in the order of an index. A plan made while the queue was empty stays, and with a
            //   bitmap it would collect and sort the whole backlog for each group. Sorts themselves stay on: the accounts of a
            //   group are found by index and sorted, and without sorts the planner reads all accounts in order instead.
            SessionKind::Queue => {
                "SET idle_in_transaction_session_timeout = '10s'; SET lock_timeout = '2s'; SET statement_timeout = '10s'; \
                 SET enable_bitmapscan = off; SET work_mem = '16MB'; SET citus.propagate_set_commands = 'local'"
            }
            // Statements that pass once over many rows: planned for the range they get, and compiled, which pays for long
            // passes. On one processor, because postings want the others. Without a limit of time: the run has its own.
            SessionKind::Proof => {
                "SET plan_cache_mode = force_custom_plan; SET max_parallel_workers_per_gather = 0; \
                 SET work_mem = '256MB'; SET jit = on; SET statement_timeout = 0"
            }
            // Counts that run four times a minute. Each reaches its rows by an index, so that its work follows what it counts, not
            // the size of the tables: a join with a table read whole may be cheaper once, but not every time.
            SessionKind::Metrics => {
                "SET plan_cache_mode = force_custom_plan; SET max_parallel_workers_per_gather = 0; SET enable_seqscan = off; \
                 SET enable_hashjoin = off; SET enable_mergejoin = off"
            }
        }
    }
}

/// The settings of every session, and the check that a pooled one still has them.
#[derive(Clone)]
pub(super) struct SessionCheck {
    settings: Arc<str>,
    /// A value of the setting `pointsd.session`, which no other process has.
    mark: Arc<str>,
}

impl SessionCheck {
    pub fn new(statement_timeout: Duration) -> SessionCheck {
        let mark = Uuid::new_v4().to_string();
        let settings = format!(
            "SELECT pg_catalog.current_setting('pointsd.session', true); {}; SET pointsd.session = '{mark}'",
            common_settings(statement_timeout)
        );
        SessionCheck { settings: settings.into(), mark: mark.into() }
    }

    /// Makes the settings of a new session. False if it is not new: a session that has the mark of a process already comes from
    /// a pooler, which gives it to another client after each transaction.
    pub async fn begin(&self, client: &Client) -> Result<bool, tokio_postgres::Error> {
        let row = first_row(client.simple_query(&self.settings).await?);
        Ok(row.is_some_and(|row| row.get(0).is_none_or(str::is_empty)))
    }

    /// Whether a session that was used before can be used again: in one round trip, which also shows that it is alive.
    ///
    /// - A session that became read-only stays so. A new one finds whether the database still is.
    /// - Behind a pooler in transaction mode the next statement may reach a session without our settings.
    pub async fn is_sound(&self, client: &Client) -> Result<bool, tokio_postgres::Error> {
        let sql = "SELECT pg_catalog.current_setting('transaction_read_only'), \
                          pg_catalog.current_setting('pointsd.session', true)";
        let row = first_row(client.simple_query(sql).await?);
        Ok(row.is_some_and(|row| row.get(0) == Some("off") && row.get(1) == Some(&*self.mark)))
    }
}

fn first_row(answer: Vec<SimpleQueryMessage>) -> Option<SimpleQueryRow> {
    answer.into_iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    })
}

/// What every session starts with, in one round trip.
///
/// - Only PostgreSQL's own objects are found by name alone; every other name is written in full. Otherwise a role that may
///   create functions could have its own run in place of, say, `cardinality`, with the rights of ours.
/// - Planning a posting anew costs more than running it, and a large estimate would wake the compiler: generic plans, no jit.
/// - On a cluster a read takes one connection to each node, and so one snapshot of it. Any other server takes that setting and does nothing.
/// - The lock timeout is half the statement timeout. So a wait for a lock, which passes, fails with another error than a slow
///   statement.
/// - A transaction that stands idle for a minute has lost its client. It must not hold its locks for long.
/// - Limits that the role or the database has for whole transactions and for idle sessions do not count: a report may take
///   long, and a pooled session waits for work.
fn common_settings(statement_timeout: Duration) -> String {
    let statement_ms = statement_timeout.as_millis();
    let lock_ms = statement_ms / 2;
    let generic_plans = generic_plans!();
    format!(
        "SET search_path = pg_catalog, pg_temp; \
         SET jit = off; SET timezone = 'UTC'; SET citus.max_adaptive_executor_pool_size = 1; \
         {generic_plans}; \
         SET statement_timeout = {statement_ms}; SET lock_timeout = {lock_ms}; \
         SET idle_in_transaction_session_timeout = '60s'; SET idle_session_timeout = 0; \
         SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name = 'transaction_timeout'"
    )
}
