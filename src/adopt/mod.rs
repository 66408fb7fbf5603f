//! Moving in: takes over accounts, batches and history from the tables of another service.
//!
//! `plan` copies the tables as one snapshot shows them, says what is wrong there, and writes down what each account is to open with.
//! `apply` posts that, and makes the old keys known. The rules are those of [`crate::ledger`]: this module decides only which openings
//! to ask for.

mod apply;
mod follow;
mod plan;
mod read;
mod settings;

use std::path::PathBuf;

use tokio_postgres::Client;

pub use apply::{Applied, RefusedOpening, apply};
pub use follow::{Comparison, Difference, Followed, Follower, RefusedTransaction};
pub use plan::{Class, Example, Opened, Plan, Problem, State, Totals, decide, load, plan};
pub use read::Origin;
pub use settings::{ChargedTwice, Decisions, ExpiredPoints, Keep, Orphans, Settings};

use crate::database::{self, Database, Dedicated};
use crate::ledger;

/// Held by the one that plans or applies ("adoption" in ASCII).
const LOCK: i64 = 0x6164_6f70_7469_6f6e;

/// Why nothing was planned or applied, or not everything.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database of the other service cannot be reached.
    #[error("the tables of the other service cannot be reached")]
    Away {
        /// Why.
        source: database::Error,
    },
    /// The settings do not fit the tables.
    #[error(
        "the table of `{section}` cannot be read as the settings say: correct the section in the file of --mapping"
    )]
    Misfit {
        /// The section of the settings.
        section: &'static str,
        /// What the server says, such as that there is no such column.
        source: tokio_postgres::Error,
    },
    /// A file cannot be opened or read.
    #[error("{} cannot be read", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is no CSV with a header, or two columns have one name.
    #[error(
        "{} cannot be loaded: it has to be CSV in UTF-8, with a header of different names and a value for each in every line",
        file.display()
    )]
    BadFile {
        /// The file.
        file: PathBuf,
        /// What the reader says, with the line, or the server.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The call does not fit the state of the ledger. The text is the whole message.
    #[error("{0}")]
    Refused(String),
    /// A statement failed.
    #[error("the database failed while {doing}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// What the driver says.
        source: tokio_postgres::Error,
    },
    /// The ledger's database cannot be reached.
    #[error(transparent)]
    Ledger(#[from] database::Error),
    /// Openings or transactions could not be posted.
    #[error("not everything was posted; call again, what was posted replays")]
    Posting {
        /// Why.
        source: std::sync::Arc<ledger::Error>,
    },
    /// The figures of the plan contradict each other, which is an error of pointsd.
    #[error("the plan does not add up: {0}; this is an error in pointsd, nothing was posted")]
    DoesNotAddUp(String),
}

impl Error {
    /// Whether the same may succeed a little later: a database was away.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Away { source } | Error::Ledger(source) => source.is_transient(),
            Error::Misfit { source, .. } | Error::Database { source, .. } => database::is_transient(source),
            Error::Posting { source } => source.is_transient(),
            Error::File { .. } | Error::BadFile { .. } | Error::Refused(_) | Error::DoesNotAddUp(_) => false,
        }
    }
}

fn failed(doing: &'static str) -> impl Fn(tokio_postgres::Error) -> Error {
    move |source| Error::Database { doing, source }
}

/// A session of the ledger's database for long statements, which no other adoption has at the same time.
async fn session(ledger: &Database) -> Result<Dedicated, Error> {
    let session = ledger.dedicated().await?;
    let client: &Client = &session.client;
    // A call that was killed must not keep the lock until its statement ends, which may take minutes.
    let settings = "SET statement_timeout = 0; SET work_mem = '128MB'; SET maintenance_work_mem = '256MB'; SET jit = off; \
                    SELECT set_config(name, '1s', false) FROM pg_settings WHERE name = 'client_connection_check_interval'";
    client.batch_execute(settings).await.map_err(failed("preparing a session"))?;
    let lock =
        client.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK]).await.map_err(failed("taking the lock"))?;
    if !lock.try_get::<_, bool>(0).map_err(failed("taking the lock"))? {
        return Err(Error::Refused("another `pointsd adopt` is at work in this ledger; wait for its end".to_owned()));
    }
    Ok(session)
}
