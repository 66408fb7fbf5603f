//! The database's schema: the files in `sql/schema`, applied in order.
//!
//! Each file is compiled in and runs once, in one transaction with the row in `pointsd.migrations` that records it; an empty
//! database gets all files in one transaction. The
//! transaction holds a lock, which keeps processes apart that start at the same time; where nothing is to be applied no lock is
//! taken. An applied file must not change: its checksum is recorded. Before the first one, the server and the database are
//! checked for what the schema needs.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use tokio_postgres::Client;

use super::{Database, Error};

/// One step of the schema: the file `sql/schema/NNNN_name.sql`.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// The number at the start of the file's name.
    pub version: i32,
    /// The rest of the file's name.
    pub name: &'static str,
    /// The file's content.
    pub sql: &'static str,
}

/// All migrations of this program, in order.
pub const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "ledger", sql: include_str!("../../sql/schema/0001_ledger.sql") },
    Migration { version: 2, name: "runs", sql: include_str!("../../sql/schema/0002_runs.sql") },
    Migration { version: 3, name: "requests", sql: include_str!("../../sql/schema/0003_requests.sql") },
    Migration { version: 4, name: "proof", sql: include_str!("../../sql/schema/0004_proof.sql") },
    Migration { version: 5, name: "books", sql: include_str!("../../sql/schema/0005_books.sql") },
    Migration { version: 6, name: "reports", sql: include_str!("../../sql/schema/0006_reports.sql") },
    Migration { version: 7, name: "mail", sql: include_str!("../../sql/schema/0007_mail.sql") },
    Migration { version: 8, name: "application", sql: include_str!("../../sql/schema/0008_application.sql") },
    Migration { version: 9, name: "access", sql: include_str!("../../sql/schema/0009_access.sql") },
    Migration { version: 10, name: "adoption", sql: include_str!("../../sql/schema/0010_adoption.sql") },
    Migration { version: 11, name: "distribution", sql: include_str!("../../sql/schema/0011_distribution.sql") },
];

/// A migration that was just applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedMigration {
    /// As `0001_ledger`.
    pub name: String,
    /// How long it ran.
    pub took: Duration,
}

/// Whether and when a migration was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationStatus {
    /// As `0001_ledger`.
    pub name: String,
    /// `None` while it is pending.
    pub applied_at: Option<DateTime<Utc>>,
}

impl Migration {
    fn full_name(&self) -> String {
        full_name(self.version, self.name)
    }

    fn sha256(&self) -> String {
        // A checkout that turned the line ends into CR LF is still the same migration.
        let text = self.sql.replace("\r\n", "\n");
        format!("{:x}", Sha256::digest(text.as_bytes()))
    }
}

fn full_name(version: i32, name: &str) -> String {
    format!("{version:04}_{name}")
}

/// A row of `pointsd.migrations`.
struct Row {
    version: i32,
    name: String,
    sha256: String,
    applied_at: DateTime<Utc>,
}

/// The oldest server that the schema works on.
const OLDEST_MAJOR: i32 = 14;

/// The key of the lock: "pointsd" in ASCII.
const LOCK_KEY: i64 = 0x0070_6f69_6e74_7364;

/// How often to ask for the lock.
const LOCK_POLL: Duration = Duration::from_millis(100);

/// A wait for the lock is told after so long.
const SILENT_WAIT: Duration = Duration::from_secs(1);

/// Applies those of `migrations` that the database does not have yet.
///
/// # Errors
/// [`Error::Migration`] when an applied one was changed or is unknown to this program, [`Error::MigrationLocked`] when another
/// session holds the lock, [`Error::Statement`] when one fails; those before it stay applied, it leaves nothing behind.
pub async fn run(database: &Database, migrations: &[Migration]) -> Result<Vec<AppliedMigration>, Error> {
    if pending(database, migrations).await?.is_some_and(|pending| pending.is_empty()) {
        return Ok(Vec::new());
    }
    // A session of its own: if this future is dropped half way, the session ends, and with it the transaction.
    let client = database.dedicated().await?.client;
    // An index may take long. A lock on a table in use is not waited for without limit, because all later statements on the
    // table would wait behind it.
    client.batch_execute("SET statement_timeout = 0").await.map_err(Error::statement("preparing to migrate"))?;
    let mut done = Vec::new();
    loop {
        match apply_next(&client, migrations, database.inner.connect_timeout).await {
            Ok(applied) if applied.is_empty() => return Ok(done),
            Ok(applied) => {
                for AppliedMigration { name, .. } in &applied {
                    tracing::info!(migration = name, "applied migration {name}");
                }
                done.extend(applied);
            }
            Err(error) => {
                // The end of the session would release the lock as well, but only some time later.
                client.batch_execute("ROLLBACK").await.ok();
                return Err(error);
            }
        }
    }
}

/// The names of the migrations that the database lacks; `None` where it has none at all.
///
/// # Errors
/// As [`run`], but for those of a lock or a migration that fails.
pub async fn pending(database: &Database, migrations: &[Migration]) -> Result<Option<Vec<String>>, Error> {
    let client = database.connection().await?;
    let Some(applied) = rows_if_any(&client).await? else { return Ok(None) };
    check(migrations, &applied)?;
    Ok(Some(lacking(migrations, &applied).map(Migration::full_name).collect()))
}

fn lacking<'a>(migrations: &'a [Migration], applied: &[Row]) -> impl Iterator<Item = &'a Migration> {
    migrations.iter().filter(|migration| !applied.iter().any(|row| row.version == migration.version))
}

/// Applies the next migration in a transaction of its own. An empty database gets all of them in one, so that no other process
/// takes it for one of an older version. Returns none if none is left.
async fn apply_next(
    client: &Client,
    migrations: &[Migration],
    patience: Duration,
) -> Result<Vec<AppliedMigration>, Error> {
    begin_locked(client, patience).await?;
    let found = ServerState::load(client).await?;
    if let Some(problem) = found.problem() {
        return Err(Error::Migration { problem });
    }
    if !found.migrated {
        found.create_table(client).await?;
    }
    let applied = rows(client).await?;
    check(migrations, &applied)?;
    let together = if found.migrated { 1 } else { usize::MAX };
    let mut done = Vec::new();
    for next in lacking(migrations, &applied).take(together) {
        done.push(apply(client, next).await?);
    }
    let end = if done.is_empty() { "ROLLBACK" } else { "COMMIT" };
    client.batch_execute(end).await.map_err(Error::statement("ending the transaction of the migrations"))?;
    Ok(done)
}

async fn apply(client: &Client, migration: &Migration) -> Result<AppliedMigration, Error> {
    let started = Instant::now();
    let name = migration.full_name();
    let failed = || Error::statement(format!("applying migration {name}"));
    client.batch_execute(migration.sql).await.map_err(failed())?;
    client
        .execute(
            "INSERT INTO pointsd.migrations (version, name, sha256) VALUES ($1, $2, $3)",
            &[&migration.version, &migration.name, &migration.sha256()],
        )
        .await
        .map_err(failed())?;
    Ok(AppliedMigration { name, took: started.elapsed() })
}

/// Begins a transaction that holds the lock on migrations. The lock belongs to the transaction, not to the session: behind a
/// pooler the session may belong to another client the moment after.
async fn begin_locked(client: &Client, patience: Duration) -> Result<(), Error> {
    let failed = || Error::statement("waiting for the lock on migrations");
    let began = Instant::now();
    let mut told = false;
    loop {
        client.batch_execute("BEGIN").await.map_err(failed())?;
        let row = client.query_one("SELECT pg_try_advisory_xact_lock($1)", &[&LOCK_KEY]).await.map_err(failed())?;
        if row.try_get(0).map_err(failed())? {
            return Ok(());
        }
        let holder = lock_holder(client).await.map_err(failed())?;
        client.batch_execute("ROLLBACK").await.map_err(failed())?;
        if began.elapsed() > patience {
            return Err(Error::MigrationLocked { holder, seconds: began.elapsed().as_secs() });
        }
        if began.elapsed() > SILENT_WAIT && !told {
            tracing::warn!(
                "the database is to be migrated, and waits for {holder}, which holds the lock on migrations"
            );
            told = true;
        }
        tokio::time::sleep(LOCK_POLL).await;
    }
}

/// The session that holds the lock on migrations, for people.
async fn lock_holder(client: &Client) -> Result<String, tokio_postgres::Error> {
    let rows = client
        .query(
            "SELECT a.pid, coalesce(a.usename, '?')::text, coalesce(nullif(a.application_name, ''), '?'),
                    coalesce(a.client_addr::text, 'this machine')
             FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
             WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND (l.classid::bigint << 32) + l.objid::bigint = $1
               AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            &[&LOCK_KEY],
        )
        .await?;
    let Some(row) = rows.first() else { return Ok("another session".to_owned()) };
    let (pid, role, application, host): (i32, &str, &str, &str) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
    Ok(format!("the session {pid} (role {role}, program {application}, from {host})"))
}

/// What the server and the database are like, before anything is changed.
#[derive(Debug)]
struct ServerState {
    /// As 150004 for 15.4.
    server_version: i32,
    encoding: String,
    /// Quoted, to be pasted into a statement.
    role: String,
    /// Quoted, to be pasted into a statement.
    database: String,
    /// Whether `pointsd.migrations` exists.
    migrated: bool,
    schema_exists: bool,
    /// A table, view, sequence or function in the schema.
    object: Option<String>,
    may_create_schema: bool,
    may_create_objects: bool,
}

impl ServerState {
    async fn load(client: &Client) -> Result<ServerState, Error> {
        let read = async {
            let row = client
                .query_one(
                    "SELECT current_setting('server_version_num')::integer AS server_version,
                            current_setting('server_encoding') AS encoding,
                            quote_ident(current_user) AS role, quote_ident(current_database()) AS database,
                            n.oid IS NOT NULL AS schema_exists,
                            EXISTS (SELECT FROM pg_catalog.pg_class
                                    WHERE relnamespace = n.oid AND relname = 'migrations') AS migrated,
                            coalesce((SELECT min(relname::text) FROM pg_catalog.pg_class WHERE relnamespace = n.oid),
                                     (SELECT min(proname::text) FROM pg_catalog.pg_proc WHERE pronamespace = n.oid))
                                AS object,
                            has_database_privilege(current_database(), 'CREATE') AS may_create_schema,
                            n.oid IS NOT NULL AND has_schema_privilege(n.oid, 'CREATE')
                                AND has_schema_privilege(n.oid, 'USAGE') AS may_create_objects
                     FROM (SELECT) AS one LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname = 'pointsd'",
                    &[],
                )
                .await?;
            Ok(ServerState {
                server_version: row.try_get("server_version")?,
                encoding: row.try_get("encoding")?,
                role: row.try_get("role")?,
                database: row.try_get("database")?,
                migrated: row.try_get("migrated")?,
                schema_exists: row.try_get("schema_exists")?,
                object: row.try_get("object")?,
                may_create_schema: row.try_get("may_create_schema")?,
                may_create_objects: row.try_get("may_create_objects")?,
            })
        };
        read.await.map_err(Error::statement("checking what the migrations need"))
    }

    /// Creates the table that records the migrations.
    async fn create_table(&self, client: &Client) -> Result<(), Error> {
        if !self.schema_exists {
            client
                .batch_execute("CREATE SCHEMA pointsd")
                .await
                .map_err(Error::statement("creating the schema pointsd"))?;
        }
        client
            .batch_execute(
                "CREATE TABLE pointsd.migrations (
                     version    integer     NOT NULL,
                     name       text        NOT NULL,
                     sha256     text        NOT NULL,
                     applied_at timestamptz NOT NULL DEFAULT now(),
                     CONSTRAINT migrations_pkey PRIMARY KEY (version)
                 )",
            )
            .await
            .map_err(Error::statement("creating the table pointsd.migrations"))
    }

    /// Why the first migration cannot run, and what to do; `None` where it can, or where it has run.
    fn problem(&self) -> Option<String> {
        let ServerState { role, database, .. } = self;
        if self.migrated {
            return None;
        }
        if self.server_version < OLDEST_MAJOR * 10_000 {
            return Some(format!(
                "PostgreSQL {} is too old: pointsd needs {OLDEST_MAJOR} or newer; upgrade the server, or name another one \
                 in database.url",
                self.server_version / 10_000
            ));
        }
        if let Some(problem) = wrong_encoding(database, &self.encoding) {
            return Some(problem);
        }
        if let Some(object) = &self.object {
            return Some(format!(
                "the schema pointsd in the database {database} belongs to another program: it holds {object}, but no \
                 table migrations; rename that schema, or give pointsd a database of its own"
            ));
        }
        if self.schema_exists && !self.may_create_objects {
            return Some(format!(
                "the role {role} may not create tables in the schema pointsd: run GRANT CREATE, USAGE ON SCHEMA pointsd \
                 TO {role} as its owner, or run pointsd db migrate as a role that may"
            ));
        }
        if !self.schema_exists && !self.may_create_schema {
            return Some(format!(
                "the role {role} may not create a schema: run GRANT CREATE ON DATABASE {database} TO {role} as its \
                 owner, or run pointsd db migrate as a role that may"
            ));
        }
        None
    }
}

/// Refuses a database that was made by other files than these.
fn check(migrations: &[Migration], applied: &[Row]) -> Result<(), Error> {
    let refuse = |problem: String| Err(Error::Migration { problem });
    for row in applied {
        let name = full_name(row.version, &row.name);
        let Some(migration) = migrations.iter().find(|m| m.version == row.version) else {
            return refuse(format!(
                "the database is newer than this program: migration {name} was applied at {}, and \
                 this program does not know it; install the newer pointsd",
                row.applied_at.to_rfc3339()
            ));
        };
        if migration.sha256() != row.sha256 {
            return refuse(format!(
                "sql/schema/{}.sql was changed after it was applied (as {name}, at {}): \
                 restore the file and put the change into a new migration",
                migration.full_name(),
                row.applied_at.to_rfc3339()
            ));
        }
    }
    Ok(())
}

/// All migrations: those of `migrations` and those that only the database knows, by number.
///
/// # Errors
/// When the database cannot be read.
pub async fn status(database: &Database, migrations: &[Migration]) -> Result<Vec<MigrationStatus>, Error> {
    let client = database.connection().await?;
    let applied = rows_if_any(&client).await?.unwrap_or_default();
    let mut all: Vec<(i32, MigrationStatus)> = applied
        .into_iter()
        .map(|row| {
            let status = MigrationStatus { name: full_name(row.version, &row.name), applied_at: Some(row.applied_at) };
            (row.version, status)
        })
        .collect();
    for migration in migrations {
        if !all.iter().any(|(version, _)| *version == migration.version) {
            let status = MigrationStatus { name: migration.full_name(), applied_at: None };
            all.push((migration.version, status));
        }
    }
    all.sort_by_key(|(version, _)| *version);
    Ok(all.into_iter().map(|(_, status)| status).collect())
}

/// Why a database with this encoding cannot be used: it lacks characters, each of which would stop the queue.
fn wrong_encoding(database: &str, encoding: &str) -> Option<String> {
    (encoding != "UTF8").then(|| {
        format!(
            "the database {database} has the encoding {encoding}, and pointsd needs UTF8: create another one with CREATE \
             DATABASE name ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0, and name it in database.url"
        )
    })
}

/// The applied migrations; `None` where their table does not exist.
///
/// # Errors
/// [`Error::Migration`] also where a dump was restored into a database with another encoding.
async fn rows_if_any(client: &Client) -> Result<Option<Vec<Row>>, Error> {
    let failed = || Error::statement("looking for the table pointsd.migrations");
    let found = client
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                            WHERE n.nspname = 'pointsd' AND c.relname = 'migrations'),
                    current_setting('server_encoding'), quote_ident(current_database())",
            &[],
        )
        .await
        .map_err(failed())?;
    if !found.try_get(0).map_err(failed())? {
        return Ok(None);
    }
    let (encoding, database): (&str, &str) = (found.try_get(1).map_err(failed())?, found.try_get(2).map_err(failed())?);
    if let Some(problem) = wrong_encoding(database, encoding) {
        return Err(Error::Migration { problem });
    }
    rows(client).await.map(Some)
}

async fn rows(client: &Client) -> Result<Vec<Row>, Error> {
    let read = async {
        client
            .query("SELECT version, name, sha256, applied_at FROM pointsd.migrations ORDER BY version", &[])
            .await?
            .iter()
            .map(|row| {
                Ok(Row {
                    version: row.try_get("version")?,
                    name: row.try_get("name")?,
                    sha256: row.try_get("sha256")?,
                    applied_at: row.try_get("applied_at")?,
                })
            })
            .collect::<Result<Vec<_>, _>>()
    };
    read.await.map_err(Error::statement("reading the applied migrations"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_listed_in_order() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/schema");
        let mut files: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        let listed: Vec<String> = MIGRATIONS.iter().map(|migration| format!("{}.sql", migration.full_name())).collect();
        assert_eq!(listed, files);
        for migration in MIGRATIONS {
            let file = format!("{folder}/{}.sql", migration.full_name());
            assert_eq!(std::fs::read_to_string(file).unwrap(), migration.sql);
        }
    }

    #[test]
    fn an_old_server_is_refused() {
        let mut found = ServerState {
            server_version: 130_011,
            encoding: "UTF8".to_owned(),
            role: "me".to_owned(),
            database: "points".to_owned(),
            migrated: false,
            schema_exists: false,
            object: None,
            may_create_schema: true,
            may_create_objects: false,
        };
        let said = found.problem().unwrap();
        assert!(said.starts_with("PostgreSQL 13 is too old: pointsd needs 14 or newer"), "{said}");
        found.server_version = 140_000;
        assert_eq!(found.problem(), None);
    }

    #[test]
    fn the_checksum_does_not_depend_on_line_ends() {
        let with = |sql| Migration { version: 1, name: "x", sql };
        assert_eq!(with("a\nb\n").sha256(), with("a\r\nb\r\n").sha256());
        assert_ne!(with("a\nb\n").sha256(), with("a\nc\n").sha256());
    }
}
