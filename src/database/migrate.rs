//! The database's schema: the files in `sql/schema`, applied in order.
//!
//! Each file is compiled in and runs once, in one transaction with the row in `pointsd.migrations` that records it. A lock
//! of the session keeps processes apart that start at the same time. An applied file must not change: its checksum is
//! recorded. Before the first one, the server and the database are checked for what the schema needs.

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

/// Applies those of `migrations` that the database does not have yet.
///
/// # Errors
/// [`Error::Migration`] when an applied one was changed or is unknown to this program,
/// [`Error::Statement`] when one fails; those before it stay applied, it leaves nothing behind.
pub async fn run(database: &Database, migrations: &[Migration]) -> Result<Vec<AppliedMigration>, Error> {
    // A session of its own: if this future is dropped half way, the session ends, and with it the lock.
    let mut client = database.dedicated().await?.client;
    // Another process may take long to migrate, and so may an index: there is no limit of time. But a lock on a table in
    // use is not waited for without limit, because all later statements on the table would wait behind it.
    client
        .batch_execute(&format!(
            "SET statement_timeout = 0; \
             SELECT set_config('pointsd.lock_timeout', current_setting('lock_timeout'), false); \
             SET lock_timeout = 0; \
             SELECT pg_advisory_lock({LOCK_KEY}); \
             SELECT set_config('lock_timeout', current_setting('pointsd.lock_timeout'), false)"
        ))
        .await
        .map_err(Error::statement("waiting for the lock on migrations"))?;
    let result = run_locked(&mut client, migrations).await;
    let unlocked = client.batch_execute(&format!("SELECT pg_advisory_unlock({LOCK_KEY})")).await;
    if let Err(error) = unlocked {
        // The end of the session, right below, releases it as well.
        tracing::debug!(%error, "could not release the lock on migrations");
    }
    result
}

async fn run_locked(client: &mut Client, migrations: &[Migration]) -> Result<Vec<AppliedMigration>, Error> {
    let found = ServerState::load(client).await?;
    if let Some(problem) = found.problem() {
        return Err(Error::Migration { problem });
    }
    if !found.migrated {
        if !found.schema_exists {
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
            .map_err(Error::statement("creating the table pointsd.migrations"))?;
    }
    let applied = rows(client).await?;
    check(migrations, &applied)?;

    let mut done = Vec::new();
    for migration in migrations {
        if applied.iter().any(|row| row.version == migration.version) {
            continue;
        }
        let started = Instant::now();
        apply(client, migration).await?;
        let name = migration.full_name();
        tracing::info!(migration = name, "applied migration {name}");
        done.push(AppliedMigration { name, took: started.elapsed() });
    }
    Ok(done)
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
        if self.encoding != "UTF8" {
            return Some(format!(
                "the database {database} has the encoding {}, and pointsd needs UTF8: create another one with CREATE \
                 DATABASE name ENCODING 'UTF8' TEMPLATE template0, and name it in database.url",
                self.encoding
            ));
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

async fn apply(client: &mut Client, migration: &Migration) -> Result<(), Error> {
    let failed = || Error::statement(format!("applying migration {}", migration.full_name()));
    let transaction = client.transaction().await.map_err(failed())?;
    transaction.batch_execute(migration.sql).await.map_err(failed())?;
    transaction
        .execute(
            "INSERT INTO pointsd.migrations (version, name, sha256) VALUES ($1, $2, $3)",
            &[&migration.version, &migration.name, &migration.sha256()],
        )
        .await
        .map_err(failed())?;
    transaction.commit().await.map_err(failed())
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
    let exists = client
        .query_one("SELECT to_regclass('pointsd.migrations') IS NOT NULL", &[])
        .await
        .and_then(|row| row.try_get::<_, bool>(0))
        .map_err(Error::statement("looking for the table pointsd.migrations"))?;
    let applied = if exists { rows(&client).await? } else { Vec::new() };
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
