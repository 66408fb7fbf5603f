//! Moves the accounts of a ledger to another number of buckets, and spreads their tables over the nodes of a Citus cluster.

use serde::Serialize;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::ledger::{self, CUTOFF_LIMIT, cutoff};
use crate::proof::{self, Asked, Lane, Proof, prepare_session, prove};

/// Accounts of a bucket that are looked at in one transaction.
pub const GROUP_ACCOUNTS: i32 = 1_000;

/// The buckets of any ledger.
const ALL: std::ops::Range<i16> = 0..256;

/// What rewrote rows leave behind: dead rows, and statistics of the old number.
const TIDY: &str =
    "VACUUM (ANALYZE) pointsd.accounts, pointsd.batches, pointsd.entries, pointsd.holds, pointsd.checkpoints";

/// No run of a job: a proof that records its findings under it was ordered by a person.
const NO_RUN: i64 = 0;

/// Why the accounts were not moved, or not to the end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database failed, or refused: its message says why, and its hint what to do.
    #[error("the database did not move the accounts")]
    Database(#[from] tokio_postgres::Error),
    /// The history had no cutoff.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// A proof failed.
    #[error(transparent)]
    Proof(#[from] proof::Error),
    /// The books have exceptions. Before the move nothing was moved; after it the ledger has its new buckets.
    #[error("the proof {when} the move found {findings} exceptions: see `pointsd run reconciliation --full --dry-run`")]
    Unsound {
        /// Before or after.
        when: &'static str,
        /// Findings that stand.
        findings: u64,
    },
}

/// What a call of [`distribute`] has just done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Proved the ledger, before or after.
    Proved,
    /// Moved a group of accounts.
    Moved,
    /// A step of the spread over the nodes of the cluster: what was done, as "spread accounts".
    Spread(String),
}

/// A node of a cluster, and how much of the ledger it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// Host and port.
    pub node: String,
    /// How many shards of the accounts it holds; each goes with its shards of the other tables.
    pub shards: i64,
    /// How many buckets lie in them.
    pub buckets: i64,
    /// Whether the cluster uses it.
    pub active: bool,
}

/// The nodes over which the ledger is spread. None on a single server.
///
/// # Errors
/// If the database fails.
pub async fn nodes(client: &Client) -> Result<Vec<NodeStatus>, tokio_postgres::Error> {
    let rows = client.query(include_str!("../sql/distribute/node_list.sql"), &[]).await?;
    let node = |row: &tokio_postgres::Row| {
        let (node, shards, buckets) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok(NodeStatus { node, shards, buckets, active: row.try_get(3)? })
    };
    rows.iter().map(node).collect()
}

/// Checks that the ledger can be spread from here: the session belongs to the owner of the tables, and is one with the coordinator of a
/// cluster that has a node for them.
///
/// # Errors
/// The database says what is missing, and its hint what to do.
pub async fn check_cluster(client: &Client) -> Result<(), tokio_postgres::Error> {
    client.execute(include_str!("../sql/distribute/cluster_check.sql"), &[]).await.map(drop)
}

/// Checks that nothing stands in the way of [`distribute`]; changes nothing.
///
/// # Errors
/// The database says what does, and its hint what to do.
pub async fn rehearse(client: &mut Client, buckets: i16) -> Result<(), tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    transaction.execute(include_str!("../sql/distribute/distribution_begin.sql"), &[&buckets]).await?;
    transaction.rollback().await
}

/// Moves all accounts to `buckets` buckets and proves the ledger before and after; says whether it came to its end. Where the database has
/// the extension Citus, it also spreads the tables of the accounts over the nodes. Nothing else may use the
/// database meanwhile, and postings and reads of accounts are refused. A call that was interrupted is repeated, with the same number.
///
/// `at_once` accounts are looked at in a transaction; see [`GROUP_ACCOUNTS`]. `proceed` is told of each step, and asked before the next one. The
/// connection belongs to the owner of the tables, and leaves with other settings.
///
/// # Errors
/// See [`Error`].
pub async fn distribute(
    client: &mut Client,
    buckets: i16,
    at_once: i32,
    mut proceed: impl FnMut(Step) -> bool,
) -> Result<bool, Error> {
    prepare_session(client).await?;
    if moving_to(client).await?.is_none() {
        // A refusal comes at once, and not after the proof.
        rehearse(client, buckets).await?;
        prove_all(client, "before").await?;
        if !proceed(Step::Proved) {
            return Ok(false);
        }
    }
    client.execute(include_str!("../sql/distribute/distribution_begin.sql"), &[&buckets]).await?;
    let move_accounts = client.prepare(include_str!("../sql/distribute/account_move.sql")).await?;
    for bucket in ALL {
        let mut next = Some(Uuid::nil());
        while let Some(user) = next {
            if !proceed(Step::Moved) {
                return Ok(false);
            }
            next = client.query_one(&move_accounts, &[&bucket, &user, &at_once]).await?.try_get(0)?;
        }
    }
    client.execute(include_str!("../sql/distribute/rest_move.sql"), &[]).await?;
    let spread_next = client.prepare(include_str!("../sql/distribute/spread_next.sql")).await?;
    while let Some(done) = client.query_one(&spread_next, &[]).await?.try_get::<_, Option<String>>(0)? {
        if !proceed(Step::Spread(done)) {
            return Ok(false);
        }
    }
    client.execute(include_str!("../sql/distribute/distribution_end.sql"), &[]).await?;
    client.batch_execute(TIDY).await?;
    prove_all(client, "after").await?;
    proceed(Step::Proved);
    Ok(true)
}

/// The number of buckets to which the accounts are moving; none unless a move was interrupted.
///
/// # Errors
/// If the database fails.
pub async fn moving_to(client: &Client) -> Result<Option<i16>, tokio_postgres::Error> {
    let row = client.query_opt(include_str!("../sql/distribute/distribution_read.sql"), &[]).await?;
    row.map(|row| row.try_get(0)).transpose()
}

async fn prove_all(client: &mut Client, when: &'static str) -> Result<(), Error> {
    let asked = Asked { run: NO_RUN, full: true, cutoff: cutoff(client, CUTOFF_LIMIT).await?, closed_until: None };
    match prove(Lane { client, also: &() }, &mut [], asked, Proof::default(), |_| true).await? {
        Proof { findings: 0, .. } => Ok(()),
        Proof { findings, .. } => Err(Error::Unsound { when, findings }),
    }
}
