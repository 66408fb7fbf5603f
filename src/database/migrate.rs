//! The database's schema, brought up to date in steps.
//!
//! Each file in `sql/schema` is compiled in, runs once, in its own transaction together with the
//! row that says so, in `pointsd.migrations`. A lock that belongs to the session keeps two
//! processes that start at once apart. What was applied is never changed: its checksum is kept.

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
];

/// A migration that was just applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
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

/// The key of the lock: "pointsd" in ASCII.
const LOCK_KEY: i64 = 0x0070_6f69_6e74_7364;

/// Applies those of `migrations` that the database does not have yet.
///
/// # Errors
/// [`Error::Migration`] when an applied one was changed or is unknown to this program,
/// [`Error::Statement`] when one fails; those before it stay applied, it leaves nothing behind.
pub async fn run(database: &Database, migrations: &[Migration]) -> Result<Vec<Applied>, Error> {
    // A session of its own: when this future is dropped half way, the session ends and with it the
    // lock.
    let mut client = database.dedicated().await?.client;
    // The other process may migrate for as long as it needs: wait without limit. Later, building an
    // index takes as long as it takes, but a lock on a table in use is not waited for endlessly,
    // because everyone else would queue up behind us.
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

async fn run_locked(client: &mut Client, migrations: &[Migration]) -> Result<Vec<Applied>, Error> {
    client
        .batch_execute(
            // Told apart first, because IF NOT EXISTS asks for the right to create even where
            // nothing is missing.
            "DO $$ BEGIN
                IF to_regclass('pointsd.migrations') IS NULL THEN
                    CREATE SCHEMA IF NOT EXISTS pointsd;
                    CREATE TABLE pointsd.migrations (
                        version    integer     PRIMARY KEY,
                        name       text        NOT NULL,
                        sha256     text        NOT NULL,
                        applied_at timestamptz NOT NULL DEFAULT now()
                    );
                END IF;
            END $$",
        )
        .await
        .map_err(Error::statement("creating the table pointsd.migrations"))?;
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
        tracing::info!(migration = name, "applied a migration");
        done.push(Applied { name, took: started.elapsed() });
    }
    Ok(done)
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

/// Refuses to go on where the database was made by other files than these.
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
    fn the_checksum_does_not_depend_on_line_ends() {
        let with = |sql| Migration { version: 1, name: "x", sql };
        assert_eq!(with("a\nb\n").sha256(), with("a\r\nb\r\n").sha256());
        assert_ne!(with("a\nb\n").sha256(), with("a\nc\n").sha256());
    }
}
