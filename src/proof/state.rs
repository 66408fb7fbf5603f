//! The row of `pointsd.proof_state`: how far the proofs have come.

use chrono::{DateTime, Utc};
use tokio_postgres::{Client, Error};

/// How far the proofs have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProofState {
    /// Entries recorded until this instant are proved; none before the first proof.
    pub proved_until: Option<DateTime<Utc>>,
    /// The same of the last full proof.
    pub full_until: Option<DateTime<Utc>>,
}

/// Loads how far the proofs have come.
///
/// # Errors
/// If the database fails.
pub async fn load_state(client: &Client) -> Result<ProofState, Error> {
    let row = client.query_one(include_str!("../../sql/proof/state_read.sql"), &[]).await?;
    Ok(ProofState { proved_until: row.try_get("proved_until")?, full_until: row.try_get("full_until")? })
}

/// Moves the state to the end of a proof.
pub(super) async fn move_state(client: &Client, until: DateTime<Utc>, full: bool) -> Result<(), Error> {
    client.execute(include_str!("../../sql/proof/state_update.sql"), &[&until, &full]).await.map(drop)
}
