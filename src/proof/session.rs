//! How the planner reaches rows in a proof: settings of the connection, and of each kind of transaction on it.

use tokio_postgres::{Client, Error, IsolationLevel, Transaction};

use crate::database::SessionKind;

/// Makes a connection ready for proofs and for the books of business days. It must not return to the pool.
///
/// # Errors
/// If the database fails.
pub async fn prepare_session(client: &Client) -> Result<(), Error> {
    client.batch_execute(SessionKind::Proof.settings()).await
}

/// How the statements of a transaction reach their rows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Access {
    /// Sums over a whole range, by one pass over each table. Plain index scans are off: they would visit a page of the
    /// entries for every entry. Compiling pays: with 4,000,000 entries a first proof takes 12 s of a processor instead of 15, with
    /// 20,000,000 a later one 17 instead of 22.
    Pass,
    /// The same without nested loops. A screening lists the users who drew late, and a nested loop visits a page for every entry of each.
    /// The planner takes the list for two hundred users; in an old ledger it holds them all. The other pass needs nested loops.
    Screen,
    /// Account by account, each by an index.
    Index,
    /// All entries and batches of a few accounts, by an index, then joined. The join may use a hash table: row by row, it
    /// would take the square of the number of an account's entries.
    Examine,
}

impl Access {
    fn settings(self) -> &'static str {
        match self {
            Access::Pass => "SET LOCAL enable_sort = off; SET LOCAL enable_indexscan = off",
            Access::Screen => {
                "SET LOCAL enable_sort = off; SET LOCAL enable_indexscan = off; SET LOCAL enable_nestloop = off"
            }
            Access::Index => {
                "SET LOCAL jit = off; SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; \
                 SET LOCAL enable_mergejoin = off"
            }
            Access::Examine => "SET LOCAL jit = off; SET LOCAL enable_seqscan = off; SET LOCAL enable_mergejoin = off",
        }
    }
}

/// Begins a transaction. Its planner settings end with it.
pub(super) async fn begin(client: &mut Client, access: Access) -> Result<Transaction<'_>, Error> {
    let isolation = match access {
        Access::Examine => IsolationLevel::RepeatableRead,
        Access::Pass | Access::Screen | Access::Index => IsolationLevel::ReadCommitted,
    };
    let transaction = client.build_transaction().isolation_level(isolation).start().await?;
    transaction.batch_execute(access.settings()).await?;
    Ok(transaction)
}
