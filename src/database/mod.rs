//! The way to the ledger's database: a pool of connections to the server that the URL names, or,
//! without a URL, to a private server that pointsd runs itself ([`private_server`]).
//!
//! [`Database::connection`] gives a connection to the modules above; [`is_transient`] says whether a
//! failure is worth a retry.

mod connect;
mod cursor;
mod error;
mod grants;
mod limited;
pub mod migrate;
mod nodes;
mod pipeline;
pub mod private_server;
mod session;
mod timeline;
mod tls;
pub mod url;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType,
};
use tokio::sync::{Mutex, mpsc};
use tokio_postgres::error::SqlState;
use tokio_postgres::{CancelToken, Client, Config, Notification};
use tokio_postgres_rustls::MakeRustlsConnect;

use connect::{Connector, complete};
#[doc(hidden)]
pub use cursor::{Cursor, snapshot};
use error::io_source;
pub use error::{Error, is_of_a_node, is_transient};
pub use grants::{KeptRights, RoleKind};
pub use limited::Limited;
pub use migrate::{AppliedMigration, MigrationStatus};
pub(crate) use nodes::{Node, Nodes, Places};
pub(crate) use pipeline::{FirstError, pipelined, pipelined_all};
use private_server::PrivateServer;
use session::SessionCheck;
pub use session::SessionKind;
pub use url::{DatabaseUrl, DatabaseUrlError};
use watch::Watch;

/// What is needed to reach the ledger's database. Not `Debug`, because the URL may hold a password.
#[derive(Clone)]
pub struct Settings {
    /// A PostgreSQL connection string. `None`: pointsd runs a private server of its own.
    pub url: Option<String>,
    /// A file with certificates (PEM) to trust beside those of the system. Where it is given, the
    /// server's certificate is always verified.
    pub ca_file: Option<PathBuf>,
    /// Connections at most.
    pub pool_size: usize,
    /// How long one host may take to let us in, and how long to wait for a free connection.
    pub connect_timeout: Duration,
    /// How long one statement may run; zero for no limit.
    pub statement_timeout: Duration,
    /// For how long a [`Poster`](crate::ledger::Poster) tries a posting again while the database is away. That is safe, because
    /// a posting that was written replays.
    pub keep_trying: Duration,
    /// The private server lives in the folder `postgres` in here.
    pub state_dir: PathBuf,
    /// The folder with `initdb`, `pg_ctl` and `postgres`. `None`: look for it.
    pub postgres_bin: Option<PathBuf>,
}

impl Settings {
    /// A private PostgreSQL server, which is started in this folder.
    pub fn private_server(state_dir: impl Into<PathBuf>) -> Settings {
        Settings {
            url: None,
            ca_file: None,
            pool_size: 8,
            connect_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(300),
            keep_trying: Duration::from_secs(120),
            state_dir: state_dir.into(),
            postgres_bin: None,
        }
    }

    /// The server that this URL names, such as `postgres://user:password@host:5432/database`.
    pub fn server(url: impl Into<String>) -> Settings {
        Settings { url: Some(url.into()), ..Settings::private_server("") }
    }
}

/// Why a new session is refused that has the mark of a process.
const SHARED_SESSION: &str = "the session is another client's as well";

/// A handle to the ledger's database; a clone shares the same connections.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    pool_size: usize,
    /// Until every host was tried.
    connect_timeout: Duration,
    keep_trying: Duration,
    connector: Connector,
    watch: Option<Watch>,
    tls: MakeRustlsConnect,
    session: SessionCheck,
    description: String,
    private_server: Option<Mutex<Option<PrivateServer>>>,
}

/// What the pool of connections is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStatus {
    /// Connections at work.
    pub in_use: usize,
    /// Connections that wait for work.
    pub idle: usize,
    /// Connections at most.
    pub most: usize,
    /// Callers that wait for a connection.
    pub waiting: usize,
}

/// A connection outside the pool, for what belongs to one session: LISTEN, a session's lock.
/// Dropping it ends the session.
pub struct Dedicated {
    /// The connection to send statements on.
    pub client: Client,
    /// What arrives for LISTEN. It ends when the connection is lost.
    pub notifications: mpsc::UnboundedReceiver<Notification>,
}

impl Database {
    /// Connects once, so that a bad URL or a server that is down fails here and not later.
    /// Without a URL the private server is started, or joined where it runs already.
    ///
    /// # Errors
    /// Whatever keeps us from a working connection; see [`Error`].
    pub async fn open(settings: &Settings) -> Result<Self, Error> {
        let (mut config, server) = match &settings.url {
            Some(url) => (DatabaseUrl::try_from(url.clone())?.into_config(), None),
            None => {
                let server = PrivateServer::start(private_server::Options {
                    state_dir: settings.state_dir.clone(),
                    bin: settings.postgres_bin.clone(),
                    extra: Vec::new(),
                })
                .await?;
                (server.config(), Some(server))
            }
        };
        let ca_file = settings.ca_file.as_deref().filter(|_| server.is_none());
        complete(&mut config, settings.connect_timeout, ca_file.is_some())?;
        let tls = tls::connector(config.get_ssl_mode(), ca_file)?;
        url::protect_password(&mut config);
        let session = SessionCheck::new(settings.statement_timeout);
        let connector = Connector::new(&config, tls.clone());
        let watch = Watch::start(&connector).await;
        let pool_size = settings.pool_size.max(1);
        let pool = pool(&config, &connector, &session, pool_size);
        let description = match &server {
            Some(server) => server.describe(),
            None => url::describe(&config),
        };
        let database = Self {
            inner: Arc::new(Inner {
                pool: pool?,
                pool_size,
                connect_timeout: connector.longest(),
                keep_trying: settings.keep_trying,
                connector,
                watch,
                tls,
                session,
                description,
                private_server: server.map(|server| Mutex::new(Some(server))),
            }),
        };
        if let Err(error) = database.connection().await {
            database.close().await.ok();
            return Err(error);
        }
        Ok(database)
    }

    /// The database of the same name on another server, for the same user.
    async fn elsewhere(&self, host: &str, port: u16) -> Result<Database, Error> {
        let config = self.inner.connector.elsewhere(host, port);
        let (tls, session) = (self.inner.tls.clone(), self.inner.session.clone());
        let connector = Connector::new(&config, tls.clone());
        let inner = Inner {
            pool: pool(&config, &connector, &session, self.inner.pool_size)?,
            pool_size: self.inner.pool_size,
            connect_timeout: connector.longest(),
            keep_trying: self.inner.keep_trying,
            connector,
            watch: None,
            tls,
            session,
            description: url::describe(&config),
            private_server: None,
        };
        let database = Database { inner: Arc::new(inner) };
        drop(database.connection().await?);
        Ok(database)
    }

    /// A pooled connection that answered just now. When the private server has died it is brought
    /// back first.
    ///
    /// # Errors
    /// [`Error::Busy`] when all are in use for too long, [`Error::Connect`] or [`Error::Timeout`]
    /// when the server cannot be reached, [`Error::PrivateServerDown`] when it does not come back.
    pub async fn connection(&self) -> Result<Object, Error> {
        match self.pooled().await {
            Err(error @ (Error::Connect { .. } | Error::Timeout { .. }))
                if error.is_transient() && self.has_private_server() =>
            {
                self.revive().await?;
                self.pooled().await
            }
            result => result,
        }
    }

    /// A connection outside the pool, with the pool's session settings.
    ///
    /// # Errors
    /// As [`Database::connection`], but for [`Error::Busy`].
    pub async fn dedicated(&self) -> Result<Dedicated, Error> {
        match self.connect_alone().await {
            Err(error) if error.is_transient() && self.has_private_server() => {
                self.revive().await?;
                self.connect_alone().await
            }
            result => result,
        }
    }

    /// Ends the statement that is under way on the connection of this token, if there is one: it fails with
    /// [`SqlState::QUERY_CANCELED`]. A request to cancel that does not arrive is no error: the statement ends by itself.
    pub async fn cancel(&self, token: &CancelToken) {
        tokio::time::timeout(self.inner.connect_timeout, token.cancel_query(self.inner.tls.clone())).await.ok();
    }

    /// Takes the user and the password of this URL for new connections; those that are open go on. A URL of another database
    /// changes nothing, because its login is not for this one.
    pub fn renew_login(&self, url: &DatabaseUrl) {
        let new = url.clone().into_config();
        if url::describe(&new) == self.inner.description {
            self.inner.connector.log_in_as(&new);
        }
    }

    /// The pool's connections: how many are in use, how many are idle, and how many there may be; and how many callers wait.
    pub fn pool_status(&self) -> PoolStatus {
        let deadpool_postgres::Status { max_size, size, available, waiting } = self.inner.pool.status();
        PoolStatus { in_use: size.saturating_sub(available), idle: available, most: max_size, waiting }
    }

    /// For how long a posting is tried again while the database is away.
    pub(crate) fn keep_trying(&self) -> Duration {
        self.inner.keep_trying
    }

    /// Whether pointsd runs this server itself.
    pub fn has_private_server(&self) -> bool {
        self.inner.private_server.is_some()
    }

    /// Where the database is, for people: host and database without the password, or "private
    /// PostgreSQL 15 in DIR".
    pub fn describe(&self) -> String {
        self.inner.description.clone()
    }

    /// Runs all pending migrations and returns them.
    ///
    /// # Errors
    /// [`Error::Migration`] when the database's migrations do not fit this program,
    /// [`Error::Statement`] when one fails: it then left nothing behind.
    pub async fn migrate(&self) -> Result<Vec<AppliedMigration>, Error> {
        migrate::run(self, migrate::MIGRATIONS).await
    }

    /// Makes sure that the schema is the one of this program: migrates an empty database, and a private server's. A database
    /// that others use is migrated by `pointsd db migrate` only, because a newer schema locks out daemons of an older version.
    ///
    /// # Errors
    /// [`Error::NotMigrated`] when migrations are pending, or as [`Database::migrate`].
    pub async fn prepare(&self) -> Result<(), Error> {
        match migrate::pending(self, migrate::MIGRATIONS).await? {
            Some(pending) if pending.is_empty() => Ok(()),
            Some(pending) if !self.has_private_server() => {
                Err(Error::NotMigrated { target: self.describe(), pending: pending.join(", ") })
            }
            _ => {
                let applied = self.migrate().await?;
                if !applied.is_empty() && !self.has_private_server() {
                    let database = self.describe();
                    tracing::warn!(database, "{database} had no ledger: its tables were made");
                }
                Ok(())
            }
        }
    }

    /// All migrations, those of this program and those of the database, in order. Changes nothing.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn migrations(&self) -> Result<Vec<MigrationStatus>, Error> {
        migrate::status(self, migrate::MIGRATIONS).await
    }

    /// Closes all connections; the last user of a private server stops it. Other handles to the
    /// same database get [`Error::Closed`] from now on.
    ///
    /// # Errors
    /// When the private server does not stop.
    pub async fn close(self) -> Result<(), Error> {
        self.inner.pool.close();
        if let Some(watch) = &self.inner.watch {
            watch.stop();
        }
        let server = match &self.inner.private_server {
            Some(server) => server.lock().await.take(),
            None => None,
        };
        match server {
            Some(server) => server.stop().await,
            None => Ok(()),
        }
    }

    async fn pooled(&self) -> Result<Object, Error> {
        let seconds = self.inner.connect_timeout.as_secs();
        self.inner.pool.get().await.map_err(|error| match error {
            PoolError::Timeout(TimeoutType::Wait) => Error::Busy { size: self.inner.pool_size, seconds },
            PoolError::Backend(source) | PoolError::PostCreateHook(HookError::Backend(source)) => {
                self.connect_error(source)
            }
            PoolError::Closed => Error::Closed,
            PoolError::PostCreateHook(HookError::Message(why)) if why == SHARED_SESSION => self.pooler_error(),
            // A missing runtime does not occur here.
            PoolError::Timeout(TimeoutType::Create | TimeoutType::Recycle)
            | PoolError::PostCreateHook(HookError::Message(_))
            | PoolError::NoRuntimeSpecified => Error::Timeout { target: self.describe(), seconds },
        })
    }

    async fn connect_alone(&self) -> Result<Dedicated, Error> {
        let connect = async {
            let (sender, notifications) = mpsc::unbounded_channel();
            let opened = self.inner.connector.open(Some(sender)).await;
            let (client, _) = opened.map_err(|source| self.connect_error(source))?;
            let is_new = self.inner.session.begin(&client).await.map_err(|source| self.connect_error(source))?;
            if !is_new {
                return Err(self.pooler_error());
            }
            Ok(Dedicated { client, notifications })
        };
        match tokio::time::timeout(self.inner.connect_timeout, connect).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout { target: self.describe(), seconds: self.inner.connect_timeout.as_secs() }),
        }
    }

    async fn revive(&self) -> Result<(), Error> {
        let Some(server) = &self.inner.private_server else {
            return Ok(());
        };
        match server.lock().await.as_ref() {
            Some(server) => server.ensure_running().await,
            None => Err(Error::Closed),
        }
    }

    fn pooler_error(&self) -> Error {
        Error::Pooler { target: self.describe() }
    }

    fn connect_error(&self, source: tokio_postgres::Error) -> Error {
        let hint = match self.inner.connector.old_primary() {
            Some(problem) => format!(": {problem}"),
            None => connect_hint(&source),
        };
        Error::Connect { target: self.describe(), hint, source }
    }
}

/// Empty, or `: ` and what to do next.
fn connect_hint(error: &tokio_postgres::Error) -> String {
    if let Some(hint) = tls::hint(error) {
        return format!(": {hint}");
    }
    let hint = match error.code() {
        Some(&SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
            ": see user and password in database.url; a daemon takes new ones when it is reloaded"
        }
        Some(&SqlState::INVALID_CATALOG_NAME) => ": create the database first, or name another one in database.url",
        Some(&SqlState::TOO_MANY_CONNECTIONS) => {
            ": raise the server's max_connections, or lower database.pool_size or the jobs' lanes"
        }
        Some(_) => "",
        None if io_source(error).is_some() => ": see whether PostgreSQL runs there, and host and port in database.url",
        None => "",
    };
    hint.to_owned()
}

fn pool(config: &Config, connector: &Connector, session: &SessionCheck, size: usize) -> Result<Pool, Error> {
    // A connection is checked when it leaves the pool: see `SessionCheck`.
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_connect(config.clone(), connector.clone(), recycling);
    let (set, check) = (session.clone(), session.clone());
    let wait = connector.longest();
    let limit = Some(wait);
    Pool::builder(manager)
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .wait_timeout(limit)
        .create_timeout(limit)
        .recycle_timeout(limit)
        .post_create(Hook::async_fn(move |client, _| {
            let set = set.clone();
            // The pool's own limits do not cover its hooks.
            Box::pin(async move {
                match tokio::time::timeout(wait, set.begin(client)).await {
                    Ok(begun) => match begun.map_err(HookError::Backend)? {
                        true => Ok(()),
                        false => Err(HookError::message(SHARED_SESSION)),
                    },
                    Err(_) => Err(HookError::message("no answer")),
                }
            })
        }))
        .pre_recycle(Hook::async_fn(move |client, _| {
            let check = check.clone();
            Box::pin(async move {
                match tokio::time::timeout(wait, check.is_sound(client)).await {
                    Ok(sound) => match sound.map_err(HookError::Backend)? {
                        true => Ok(()),
                        false => Err(HookError::message("the session cannot be used any more")),
                    },
                    Err(_) => Err(HookError::message("no answer")),
                }
            })
        }))
        .build()
        // It can only miss a runtime, which is given above.
        .map_err(|_| Error::Closed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refused_connection_is_transient_and_a_bad_url_is_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let mut settings = Settings {
            url: Some(format!("postgres://u:hunter2@127.0.0.1:{port}/d")),
            ca_file: None,
            pool_size: 1,
            connect_timeout: Duration::from_secs(1),
            statement_timeout: Duration::from_secs(1),
            keep_trying: Duration::from_secs(1),
            state_dir: PathBuf::new(),
            postgres_bin: None,
        };
        let error = Database::open(&settings).await.err().unwrap();
        assert!(error.is_transient(), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!(
                "cannot connect to PostgreSQL at 127.0.0.1:{port}/d: see whether PostgreSQL runs \
                 there, and host and port in database.url"
            )
        );

        // A server that takes the connection and stays silent.
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        settings.url = Some(format!("postgres://u@127.0.0.1:{port}/d"));
        let error = Database::open(&settings).await.err().unwrap();
        assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
        assert!(error.is_transient());

        settings.url = Some("nonsense".to_owned());
        assert!(!Database::open(&settings).await.err().unwrap().is_transient());
    }
}
