//! Copies the tables of another service into the ledger's database, as one snapshot shows them. Rows pass in PostgreSQL's own binary
//! form, so memory does not grow with their number, and nothing is written where they come from.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use futures_util::{SinkExt as _, TryStreamExt as _};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Transaction};

use super::settings::{Accounts, Batches, Settings, Transactions};
use super::{Error, failed};
use crate::database::{self, Database, DatabaseUrl};
use crate::ledger::{MAX_PAID, MAX_POINTS, NEVER};
use crate::numbers::grouped;
use crate::time::time_text;

/// The namespace of UUIDs made of other ids, as `config/adopt.yaml` says: bytes in hexadecimal.
const NAMESPACE: &str = "3f0f2c4e9d2b5a558f4c706f696e7473";

/// Bytes of a file that are sent at once.
const PIECE: usize = 1 << 16;

/// A time as text, the year first: its year, month and day, the time of day, and its zone.
const TIME: &str = r"^\s*(?!0000)([0-9]{4})[-/](0?[1-9]|1[0-2])[-/](0?[1-9]|[12][0-9]|3[01])([ T]+([01]?[0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]*)?)?\s*(Z|UTC|[-+](0[0-9]|1[0-4])(:?[0-5][0-9])?)?)?\s*$";

/// Where the tables of the other service are.
#[derive(Clone)]
pub enum Origin {
    /// In the ledger's own database.
    Here,
    /// In another database.
    Url(Box<DatabaseUrl>),
    /// In a folder with accounts.csv, and batches.csv and transactions.csv where there are such: exports with a header.
    Folder(PathBuf),
}

impl Origin {
    /// A folder's path, a database's URL, or the ledger's own database where there is none.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn parse(text: Option<&str>) -> Result<Origin, database::DatabaseUrlError> {
        Ok(match text {
            None => Origin::Here,
            Some(text) if Path::new(text).is_dir() => Origin::Folder(text.into()),
            Some(text) => Origin::Url(Box::new(DatabaseUrl::try_from(text.to_owned())?)),
        })
    }

    /// For people; without a password.
    pub fn describe(&self, ledger: &Database) -> String {
        match self {
            Origin::Here => ledger.describe(),
            Origin::Url(url) => url.to_string(),
            Origin::Folder(folder) => folder.display().to_string(),
        }
    }
}

/// A session with the tables of the other service.
pub struct Source {
    client: Client,
    /// Kept open beside its session.
    database: Option<Database>,
    /// Of the files that become temporary tables; None: the tables are in the database.
    folder: Option<PathBuf>,
}

impl Source {
    /// Opens a session.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn open(from: &Origin, ledger: &Database, ledger_settings: &database::Settings) -> Result<Source, Error> {
        let database = match from {
            Origin::Url(url) => {
                let settings =
                    database::Settings { url: Some(url.reveal().to_owned()), pool_size: 1, ..ledger_settings.clone() };
                Some(Database::open(&settings).await.map_err(|source| Error::Away { source })?)
            }
            Origin::Here | Origin::Folder(_) => None,
        };
        let dedicated = database.as_ref().unwrap_or(ledger).dedicated().await;
        let client = dedicated.map_err(|source| Error::Away { source })?.client;
        // Our sessions find only PostgreSQL's own objects by name alone; those of the other service are meant here.
        let session = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET standard_conforming_strings = on; \
                       RESET search_path";
        client.batch_execute(session).await.map_err(failed("preparing to read the tables"))?;
        let folder = match from {
            Origin::Folder(folder) => Some(folder.clone()),
            _ => None,
        };
        Ok(Source { client, database, folder })
    }

    /// Copies all rows into the ledger's database, whose copies are empty; files become temporary tables first. Returns the instant of the snapshot, by the clock of the
    /// database that was read.
    ///
    /// # Errors
    /// If a table or a file does not fit the settings, or a database fails.
    pub async fn copy(
        &mut self,
        settings: &Settings,
        ledger: &Client,
        tell: &(dyn Fn(String) + Send + Sync),
    ) -> Result<DateTime<Utc>, Error> {
        let is_folder = self.folder.is_some();
        let tables = [
            Some(accounts(&settings.accounts, is_folder)),
            settings.batches.as_ref().map(|batches| self::batches(batches, is_folder)),
            settings.transactions.as_ref().map(|transactions| self::transactions(transactions, is_folder)),
        ];
        if let Some(folder) = &self.folder {
            for section in tables.iter().flatten().map(|table| table.section) {
                load_file(&self.client, section, &folder.join(format!("{section}.csv"))).await?;
            }
        }
        let snapshot = self.snapshot(settings).await?;
        // All of them are looked at before the first is copied, which may take minutes.
        let mut queries = Vec::new();
        for table in tables.iter().flatten() {
            queries.push((table, query(table, &snapshot.transaction, &settings.time_zone).await?));
        }
        for (table, query) in queries {
            let rows = copy_table(table, &query, &snapshot.transaction, ledger).await?;
            tell(format!("{} rows of {} were read", grouped(rows), table.section));
        }
        let Snapshot { transaction, read_at, .. } = snapshot;
        transaction.commit().await.map_err(failed("closing the snapshot"))?;
        Ok(read_at)
    }

    /// Opens a snapshot of the tables.
    pub(super) async fn snapshot(&mut self, settings: &Settings) -> Result<Snapshot<'_>, Error> {
        let doing = "opening a snapshot of the tables";
        let transaction = database::snapshot(&mut self.client).await.map_err(failed(doing))?;
        let zone = format!("SET LOCAL TIME ZONE {}", quoted(&settings.time_zone));
        transaction.batch_execute(&zone).await.map_err(failed(doing))?;
        let sql = "SELECT clock_timestamp(), pg_snapshot_xmin(pg_current_snapshot())::text::bigint, \
                          pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
        let row = transaction.query_one(sql, &[]).await.map_err(failed(doing))?;
        Ok(Snapshot {
            read_at: row.try_get(0).map_err(failed(doing))?,
            ended_before: row.try_get(1).map_err(failed(doing))?,
            begun_before: row.try_get(2).map_err(failed(doing))?,
            transaction,
        })
    }

    /// Ends the session.
    pub async fn close(self) {
        drop(self.client);
        if let Some(database) = self.database {
            // Nothing was written there, so nothing can be lost.
            let _ = database.close().await;
        }
    }
}

/// A snapshot of the tables of the other service.
pub(super) struct Snapshot<'a> {
    pub transaction: Transaction<'a>,
    /// By the clock there.
    pub read_at: DateTime<Utc>,
    /// Every transaction with a lower number has ended.
    pub ended_before: i64,
    /// No transaction with this number or a higher one has begun.
    pub begun_before: i64,
}

/// What it means that the tables of a section cannot be read: they do not fit the settings, unless the database is away.
pub(super) fn misfit(section: &'static str) -> impl Fn(tokio_postgres::Error) -> Error {
    move |source| match database::is_transient(&source) {
        true => failed("reading the tables of the other service")(source),
        false => Error::Misfit { section, source },
    }
}

/// A text as a literal of SQL.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// What a column of a copy holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    User,
    /// What the other service calls the user, where it is no UUID.
    OldUser,
    Points,
    /// A price in minor units; -1: one that cannot be read.
    Paid,
    /// A number that names a row.
    Id,
    /// A time at which the ledger may post.
    Time,
    /// A time that may be missing or infinite: never.
    End,
    /// An empty one is missing.
    Text,
    Seconds,
    /// As it is there, to compare it with another.
    AsIs,
}

/// A table to copy: its columns in the order of the copy, each with what the settings say of it.
struct Table<'a> {
    /// Its section in the settings.
    section: &'static str,
    name: String,
    condition: Option<String>,
    copy: &'static str,
    columns: Vec<(&'static str, Option<&'a str>, Holds)>,
}

impl<'a> Table<'a> {
    fn new(
        section: &'static str,
        name: &'a str,
        condition: Option<&'a str>,
        copy: &'static str,
        is_file: bool,
    ) -> Table<'a> {
        let name = if is_file { format!("pg_temp.{section}") } else { name.to_owned() };
        let condition = condition.map(|condition| format!("({condition})"));
        Table { section, name, condition, copy, columns: Vec::new() }
    }

    fn column(mut self, name: &'static str, written: impl Into<Option<&'a str>>, holds: Holds) -> Self {
        self.columns.push((name, written.into(), holds));
        self
    }
}

fn accounts(of: &Accounts, is_file: bool) -> Table<'_> {
    Table::new("accounts", &of.table, of.condition.as_deref(), "pointsd.adopted_accounts", is_file)
        .column("user_id", &*of.user, Holds::User)
        .column("balance", &*of.balance, Holds::Points)
        .column("total_recharged", of.recharged.as_deref(), Holds::Points)
        .column("total_consumed", of.consumed.as_deref(), Holds::Points)
        .column("total_expired", of.expired.as_deref(), Holds::Points)
        .column("opened_at", of.opened_at.as_deref(), Holds::Time)
        .column("old_user", &*of.user, Holds::OldUser)
}

fn batches(of: &Batches, is_file: bool) -> Table<'_> {
    Table::new("batches", &of.table, of.condition.as_deref(), "pointsd.adopted_batches", is_file)
        .column("user_id", &*of.user, Holds::User)
        .column("amount", of.amount.as_deref(), Holds::Points)
        .column("remaining", &*of.remaining, Holds::Points)
        .column("opened_at", of.opened_at.as_deref(), Holds::Time)
        .column("expires_at", of.expires_at.as_deref(), Holds::End)
        .column("paid", of.paid.as_deref(), Holds::Paid)
        .column("id", of.id.as_deref().unwrap_or("row_number() OVER ()"), Holds::Text)
        .column("source", &*of.source, Holds::Text)
        .column("currency", of.currency.as_deref(), Holds::Text)
}

fn transactions(of: &Transactions, is_file: bool) -> Table<'_> {
    Table::new("transactions", &of.table, of.condition.as_deref(), "pointsd.adopted_transactions", is_file)
        .column("user_id", &*of.user, Holds::User)
        .column("id", of.id.as_deref(), Holds::Id)
        .column("amount", &*of.amount, Holds::Points)
        .column("balance_before", of.balance_before.as_deref(), Holds::Points)
        .column("balance_after", of.balance_after.as_deref(), Holds::Points)
        .column("at", &*of.at, Holds::Time)
        .column("type", &*of.kind, Holds::Text)
        .column("source_type", of.source_type.as_deref(), Holds::Text)
        .column("source_id", of.source_id.as_deref(), Holds::Text)
        .column("duration", of.duration.as_deref(), Holds::Seconds)
        .column("description", of.description.as_deref(), Holds::Text)
}

/// Copies a table into the ledger's database. Returns how many rows it has.
async fn copy_table(table: &Table<'_>, query: &str, from: &Transaction<'_>, ledger: &Client) -> Result<u64, Error> {
    let misfit = misfit(table.section);
    let copy_out = format!("COPY ({query}) TO STDOUT (FORMAT binary)");
    let out = from.copy_out(&copy_out).await.map_err(&misfit)?;
    let names = table.columns.iter().map(|(name, _, _)| *name).collect::<Vec<_>>().join(", ");
    let doing = "writing a copy of the tables";
    let copy_in = format!("COPY {} ({names}) FROM STDIN (FORMAT binary)", table.copy);
    let sink = ledger.copy_in(&copy_in).await.map_err(failed(doing))?;
    let (mut out, mut sink) = (std::pin::pin!(out), std::pin::pin!(sink));
    while let Some(piece) = out.try_next().await.map_err(&misfit)? {
        sink.feed(piece).await.map_err(failed(doing))?;
    }
    sink.finish().await.map_err(failed(doing))
}

/// The query that gives a table as its copy holds it, under the copy's names.
async fn query(table: &Table<'_>, from: &Transaction<'_>, zone: &str) -> Result<String, Error> {
    let written = table.columns.iter().enumerate().map(|(place, (_, written, _))| match written {
        Some(written) => format!("({written}) AS c{place}"),
        None => format!("NULL::text AS c{place}"),
    });
    let condition = table.condition.as_ref().map_or(String::new(), |condition| format!(" WHERE {condition}"));
    let rows = format!("SELECT {} FROM {}{condition}", written.collect::<Vec<_>>().join(", "), table.name);
    let statement = from.prepare(&rows).await;
    let statement = statement.map_err(misfit(table.section))?;
    let number_by = table.columns.iter().position(|(name, _, _)| *name == "at");
    let cells =
        table.columns.iter().zip(statement.columns()).enumerate().map(|(place, ((name, written, holds), column))| {
            let cell = match (holds, written, number_by) {
                (Holds::Id, None, Some(at)) => format!("row_number() OVER (ORDER BY c{at})"),
                _ => converted(&format!("c{place}"), column.type_(), *holds, zone),
            };
            format!("{cell} AS {name}")
        });
    Ok(format!("SELECT {} FROM ({rows}) AS mapped", cells.collect::<Vec<_>>().join(", ")))
}

/// The query that gives the recharges and consumes after a transaction, in their order, each recharge with the end and the price of its points.
pub(super) async fn followed(settings: &Settings, from: &Transaction<'_>, after: i64) -> Result<Option<String>, Error> {
    let Some((of, id)) = settings.transactions.as_ref().and_then(|of| Some((of, of.id.as_deref()?))) else {
        return Ok(None);
    };
    let mut table = transactions(of, false).column("batch", of.batch.as_deref(), Holds::AsIs);
    let condition = table.condition.take().map_or(String::new(), |condition| format!("{condition} AND "));
    let written = format!("({id})");
    let statement = from.prepare(&format!("SELECT {written} FROM {}", table.name)).await;
    let statement = statement.map_err(misfit("transactions"))?;
    let number = match statement.columns() {
        // As it is written, so that an index finds it.
        [column] if matches!(*column.type_(), Type::INT2 | Type::INT4 | Type::INT8) => written,
        columns => converted(
            &written,
            columns.first().map_or(&Type::TEXT, |column| column.type_()),
            Holds::Id,
            &settings.time_zone,
        ),
    };
    table.condition = Some(format!("{condition}{number} > {after}"));
    let transactions = query(&table, from, &settings.time_zone).await?;
    let batches = settings.batches.as_ref().and_then(|of| Some((of, of.id.as_deref()?))).filter(|_| of.batch.is_some());
    Ok(Some(match batches {
        None => format!(
            "SELECT t.*, NULL::timestamptz AS expires_at, NULL::bigint AS paid, NULL::text AS currency \
             FROM ({transactions}) AS t ORDER BY t.id"
        ),
        Some((of, id)) => {
            let table = followed_batches(of, id);
            let batches = query(&table, from, &settings.time_zone).await?;
            format!(
                "SELECT t.*, b.expires_at, b.paid, b.currency FROM ({transactions}) AS t \
                 LEFT JOIN ({batches}) AS b ON t.type = 'recharge' AND b.user_id = t.user_id AND b.id = t.batch ORDER BY t.id"
            )
        }
    }))
}

/// The ends and prices of batches, by their ids, which are unique within an account.
fn followed_batches<'a>(of: &'a Batches, id: &'a str) -> Table<'a> {
    Table::new("batches", &of.table, of.condition.as_deref(), "", false)
        .column("user_id", &*of.user, Holds::User)
        .column("id", id, Holds::AsIs)
        .column("expires_at", of.expires_at.as_deref(), Holds::End)
        .column("paid", of.paid.as_deref(), Holds::Points)
        .column("currency", of.currency.as_deref(), Holds::Text)
}

/// Copies the accounts as they are now into a temporary table of the ledger's session.
pub(super) async fn copy_accounts(settings: &Settings, from: &Transaction<'_>, ledger: &Client) -> Result<(), Error> {
    let doing = "copying the accounts";
    let create = "DROP TABLE IF EXISTS pg_temp.followed; \
                  CREATE TEMPORARY TABLE followed (LIKE pointsd.adopted_accounts)";
    ledger.batch_execute(create).await.map_err(failed(doing))?;
    let table = Table { copy: "pg_temp.followed", ..accounts(&settings.accounts, false) };
    let query = query(&table, from, &settings.time_zone).await?;
    copy_table(&table, &query, from, ledger).await?;
    ledger.batch_execute("ANALYZE pg_temp.followed").await.map_err(failed(doing))
}

/// An expression that gives `cell`, which has this type, as a copy holds it. What cannot be read becomes null, so that one bad row stops
/// nothing and is counted.
fn converted(cell: &str, kind: &Type, holds: Holds, zone: &str) -> String {
    let is_whole = matches!(*kind, Type::INT2 | Type::INT4 | Type::INT8);
    let is_number = is_whole || matches!(*kind, Type::NUMERIC | Type::FLOAT4 | Type::FLOAT8);
    let number = match is_number {
        // A float of four bytes becomes a numeric of six digits.
        true if *kind == Type::FLOAT4 => format!("{cell}::float8::numeric"),
        true => format!("{cell}::numeric"),
        false => format!(
            "CASE WHEN {cell}::text ~ '^\\s*[-+]?[0-9]{{1,30}}(\\.[0-9]{{0,30}})?\\s*$' THEN {cell}::text::numeric END"
        ),
    };
    let whole = |least: i64, most: i64| {
        let is_fine = format!("n = trunc(n) AND n BETWEEN {least} AND {most}");
        format!("(SELECT CASE WHEN {is_fine} THEN n::bigint END FROM (SELECT {number} AS n) AS number)")
    };
    match holds {
        Holds::User if *kind == Type::UUID => cell.to_owned(),
        Holds::User => user_of(&format!("{cell}::text")),
        Holds::OldUser if *kind == Type::UUID => "NULL::text".to_owned(),
        Holds::OldUser => format!("CASE WHEN NOT {} THEN {cell}::text END", is_uuid(&format!("{cell}::text"))),
        Holds::Points if matches!(*kind, Type::INT2 | Type::INT4) => format!("{cell}::bigint"),
        Holds::Points => whole(-MAX_POINTS, MAX_POINTS),
        Holds::Paid => {
            format!("CASE WHEN nullif({cell}::text, '') IS NOT NULL THEN coalesce({}, -1) END", whole(0, MAX_PAID))
        }
        Holds::Id if is_whole => format!("{cell}::bigint"),
        Holds::Id => whole(-i64::MAX, i64::MAX),
        Holds::Time => format!(
            "(SELECT CASE WHEN t BETWEEN timestamptz 'epoch' AND timestamptz '{}' THEN t END FROM (SELECT {} AS t) AS time)",
            time_text(NEVER),
            time_of(cell, kind, zone)
        ),
        Holds::End => {
            let (time, never) = (time_of(cell, kind, zone), time_text(NEVER));
            format!(
                "(SELECT CASE WHEN nullif({cell}::text, '') IS NULL OR t > never THEN never WHEN isfinite(t) THEN t END \
                 FROM (SELECT {time} AS t, timestamptz '{never}' AS never) AS time)"
            )
        }
        Holds::AsIs => cell.to_owned(),
        Holds::Text => format!("nullif({cell}::text, '')"),
        Holds::Seconds => {
            format!(
                "(SELECT CASE WHEN n BETWEEN 0 AND 1e12 THEN round(n, 6) END FROM (SELECT {number} AS n) AS number)"
            )
        }
    }
}

/// A time with its zone. One without means the zone of the settings, which a text gets from the session. A text that is no time, such
/// as `0000-00-00` or the 30th of February, becomes null; a year of five digits or more becomes infinity.
fn time_of(cell: &str, kind: &Type, zone: &str) -> String {
    match *kind {
        Type::TIMESTAMPTZ => cell.to_owned(),
        Type::TIMESTAMP | Type::DATE => format!("({cell}::timestamp AT TIME ZONE {})", quoted(zone)),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR => format!(
            "(SELECT CASE WHEN w ~* '^\\s*(infinity|[0-9]{{5,6}}-.*)$' THEN timestamptz 'infinity' \
                     WHEN extract(month FROM make_date(d[1]::integer, d[2]::integer, 1) + d[3]::integer - 1) = d[2]::integer \
                     THEN w::timestamptz END \
              FROM (SELECT {cell}::text AS w) AS written, regexp_match(w, '{TIME}') AS d)"
        ),
        _ => format!("{cell}::timestamptz"),
    }
}

fn is_uuid(text: &str) -> String {
    format!("({text} ~* '^[0-9a-f]{{8}}-?([0-9a-f]{{4}}-?){{3}}[0-9a-f]{{12}}$')")
}

/// The UUID of a user: the id itself, or the UUID of version 3 (RFC 9562) of its text.
fn user_of(text: &str) -> String {
    let hash = format!("md5('\\x{NAMESPACE}'::bytea || convert_to({text}, 'UTF8'))");
    let variant = "substr('89ab', (('x' || substr(h, 17, 1))::bit(4)::integer & 3) + 1, 1)";
    let version_3 = format!("substr(h, 1, 12) || '3' || substr(h, 14, 3) || {variant} || substr(h, 18)");
    format!(
        "CASE WHEN {} THEN {text}::uuid WHEN {text} <> '' THEN (SELECT ({version_3})::uuid FROM (SELECT {hash} AS h) AS hash) END",
        is_uuid(text)
    )
}

/// Makes a temporary table of a CSV file; each of its columns is text. Values that are empty, `\N` or `NULL` are missing.
async fn load_file(client: &Client, name: &str, path: &Path) -> Result<(), Error> {
    let unreadable = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => {
            let what = format!("{} is missing: export the table", path.display());
            let or = format!(", or write `{name}: null` in the file of --mapping if there is none");
            Error::Refused(what + if name == "accounts" { "" } else { &or })
        }
        _ => Error::File { file: path.to_owned(), source },
    };
    let unfit = |source| Error::BadFile { file: path.to_owned(), source };
    let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter_of(&mut file).map_err(unreadable)?).from_reader(file);
    let header = reader.headers().map_err(|error| unfit(error.into()))?;
    let columns: Vec<String> = header
        .iter()
        .map(|name| format!("\"{}\" text", name.trim_start_matches('\u{feff}').trim().replace('"', "\"\"")))
        .collect();
    let create = format!("CREATE TEMPORARY TABLE {name} ({})", columns.join(", "));
    client.batch_execute(&create).await.map_err(|error| unfit(error.into()))?;
    let copy_in = format!("COPY pg_temp.{name} FROM STDIN (FORMAT csv)");
    let mut sink = std::pin::pin!(client.copy_in(&copy_in).await.map_err(failed("loading a CSV file"))?);
    let mut record = csv::StringRecord::new();
    let mut piece = Vec::new();
    while reader.read_record(&mut record).map_err(|error| unfit(error.into()))? {
        write_record(&record, &mut piece);
        if piece.len() >= PIECE {
            sink.feed(std::io::Cursor::new(std::mem::take(&mut piece))).await.map_err(|error| unfit(error.into()))?;
        }
    }
    sink.feed(std::io::Cursor::new(piece)).await.map_err(|error| unfit(error.into()))?;
    sink.finish().await.map_err(|error| unfit(error.into()))?;
    Ok(())
}

/// What separates the values of a file: the one of comma, semicolon and tab that its first line has most often.
fn delimiter_of(file: &mut impl BufRead) -> std::io::Result<u8> {
    let line = file.fill_buf()?.split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
    let count = |delimiter: u8| line.iter().filter(|byte| **byte == delimiter).count();
    Ok([b'\t', b';', b','].into_iter().max_by_key(|delimiter| count(*delimiter)).unwrap_or(b','))
}

/// Writes a record as COPY reads it: values in quotes, nothing where one is missing.
fn write_record(record: &csv::StringRecord, out: &mut Vec<u8>) {
    for (place, value) in record.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        if !matches!(value, "" | "\\N" | "NULL") {
            out.push(b'"');
            out.extend_from_slice(value.replace('"', "\"\"").as_bytes());
            out.push(b'"');
        }
    }
    out.push(b'\n');
}
