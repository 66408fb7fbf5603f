//! What can go wrong between pointsd and its database, and whether trying again can help.

use std::error::Error as StdError;
use std::io;

use tokio_postgres::error::{DbError, SqlState};

use super::url::DatabaseUrlError;

/// What can go wrong between pointsd and its database. The cause is the error's source, not a part
/// of its text.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL cannot be used.
    #[error("database.url: {0}")]
    Url(#[from] DatabaseUrlError),
    /// The URL and `database.ca_file` contradict each other.
    #[error("database.url: sslmode=disable and database.ca_file contradict each other; leave one out")]
    CaFileWithoutTls,
    /// The certificates in `database.ca_file` cannot be used.
    #[error("database.ca_file: {problem}")]
    CaFile {
        /// What is wrong and what to give instead.
        problem: String,
    },
    /// No connection to the server.
    #[error("cannot connect to {target}{hint}")]
    Connect {
        /// Host and database, without the password.
        target: String,
        /// Empty, or what to do next.
        hint: String,
        /// What the driver says.
        source: tokio_postgres::Error,
    },
    /// A pooler gives each transaction another session.
    #[error(
        "{target} is a pooler that gives each transaction another session, which pointsd cannot work with: let it pool \
         sessions (in PgBouncer pool_mode = session), or name the server itself in database.url"
    )]
    Pooler {
        /// Host and database, without the password.
        target: String,
    },
    /// The server did not answer in time.
    #[error(
        "{target} did not answer within {seconds} s: see whether the server is up, or raise \
         database.connect_timeout_seconds"
    )]
    Timeout {
        /// Host and database, without the password.
        target: String,
        /// How long we waited.
        seconds: u64,
    },
    /// All connections are in use.
    #[error(
        "all {size} connections to the database were in use for {seconds} s: raise \
         database.pool_size, or look for statements that hang"
    )]
    Busy {
        /// Connections in the pool.
        size: usize,
        /// How long we waited.
        seconds: u64,
    },
    /// A statement failed.
    #[error("the database refused or lost a statement while {doing}")]
    Statement {
        /// What was being done, as "reading the applied migrations".
        doing: String,
        /// What the driver says.
        source: tokio_postgres::Error,
    },
    /// [`Database::close`](super::Database::close) was called before.
    #[error("the connection to the database was closed before: pointsd is stopping")]
    Closed,
    /// The private server cannot work until something is changed.
    #[error("private PostgreSQL: {problem}")]
    PrivateServer {
        /// What is wrong, where, and what to do next.
        problem: String,
        /// What the system says.
        source: Option<io::Error>,
    },
    /// The private server did not start, answer or stop this time; another try may help.
    #[error("private PostgreSQL: {problem}")]
    PrivateServerDown {
        /// What happened, and where to read more.
        problem: String,
        /// What the system says.
        source: Option<io::Error>,
    },
    /// The database was made by an older program.
    #[error(
        "the schema in {target} is of an older pointsd: it lacks {pending}; run pointsd db migrate as its owner, once no \
         daemon of the older version is to start again"
    )]
    NotMigrated {
        /// Host and database, without the password.
        target: String,
        /// The names of the pending migrations.
        pending: String,
    },
    /// Another session held the lock on migrations.
    #[error(
        "the database cannot be migrated: {holder} held the lock on migrations for {seconds} s; if it does not migrate, end it \
         with SELECT pg_terminate_backend of its number"
    )]
    MigrationLocked {
        /// Which session, for people.
        holder: String,
        /// How long we waited.
        seconds: u64,
    },
    /// A role cannot be given rights.
    #[error("{problem}")]
    Role {
        /// Which role, and what to do next.
        problem: String,
    },
    /// The applied migrations and this program do not fit together.
    #[error("{problem}")]
    Migration {
        /// Which migration, what is wrong and what to do next.
        problem: String,
    },
}

impl Error {
    /// Whether trying again, with a new connection, can help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { source, .. } | Self::Statement { source, .. } => is_transient(source),
            // An operator migrates, or another process that is under way.
            Self::NotMigrated { .. } | Self::MigrationLocked { .. } => true,
            Self::Timeout { .. } | Self::Busy { .. } | Self::PrivateServerDown { .. } => true,
            Self::Url(_)
            | Self::CaFileWithoutTls
            | Self::CaFile { .. }
            | Self::Pooler { .. }
            | Self::Closed
            | Self::PrivateServer { .. }
            | Self::Role { .. }
            | Self::Migration { .. } => false,
        }
    }

    /// For `map_err`: a statement that failed while `doing`.
    pub(crate) fn statement(doing: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Statement { doing, source }
    }
}

/// Whether trying again, with a new connection, can help: the connection was lost or refused, or
/// the server named a reason that passes (by its SQLSTATE, never by its text).
pub fn is_transient(error: &tokio_postgres::Error) -> bool {
    if error.as_db_error().is_some_and(is_of_a_node) {
        return true;
    }
    if let Some(code) = error.code() {
        // Class 08 is every kind of connection exception.
        return code.code().starts_with("08")
            || [
                SqlState::T_R_SERIALIZATION_FAILURE,
                SqlState::T_R_DEADLOCK_DETECTED,
                SqlState::LOCK_NOT_AVAILABLE,
                SqlState::TOO_MANY_CONNECTIONS,
                SqlState::ADMIN_SHUTDOWN,
                SqlState::CRASH_SHUTDOWN,
                // The server became a standby: a new connection finds the one that took over.
                SqlState::READ_ONLY_SQL_TRANSACTION,
                SqlState::CANNOT_CONNECT_NOW,
                SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
                SqlState::IDLE_SESSION_TIMEOUT,
            ]
            .contains(code);
    }
    if error.is_closed() {
        return true;
    }
    let Some(error) = io_source(error) else {
        return false;
    };
    match error.kind() {
        // A certificate that is not trusted arrives as this too, and stays untrusted.
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => false,
        // With a system code the socket's folder is closed to us. Without, no host of the list is
        // the one that target_session_attrs asks for: a failover may be under way.
        io::ErrorKind::PermissionDenied => error.raw_os_error().is_none(),
        _ => true,
    }
}

/// Whether the extension of a cluster says that it lost a node in the middle of a transaction. It gives that no SQLSTATE of its own, so the
/// place in its source tells.
pub fn is_of_a_node(error: &DbError) -> bool {
    let file = error.file().and_then(|path| path.rsplit('/').next());
    (*error.code() == SqlState::INTERNAL_ERROR && file == Some("remote_transaction.c"))
        || (*error.code() == SqlState::IO_ERROR && file == Some("multi_copy.c"))
}

pub(super) fn io_source(error: &tokio_postgres::Error) -> Option<&io::Error> {
    error.source()?.downcast_ref()
}
