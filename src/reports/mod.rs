//! The reports: each is made from one snapshot as a document, kept, and mailed.
//!
//! - [`write_files`] writes a document as files, for whoever looks into a folder; [`keep`] keeps it in the database, where
//!   it counts.
//! - [`list`], [`find`] and [`read`] tell what was made and how its mails stand.
//! - [`missing::look`] tells which report ought to be there, with its mails sent, and is not.
//! - [`prune`] deletes what was kept for long enough.

pub mod arrears;
pub mod expiry;
pub mod missing;
pub mod reconciliation;
mod words;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, Utc};
use deadpool_postgres::Transaction;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio_postgres::types::Json;
use tokio_postgres::{Client, Row};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::config::Config;
use crate::document::{Chart, Document, Section, Tone};
use crate::mail;
use crate::render::{self, Renderer};
use crate::telemetry;
use crate::time::{time_of_day_for_names, time_text};

/// Every report, by the name of the job that makes it, in the order of a night.
pub const ALL: [&str; 3] = [expiry::REPORT, reconciliation::REPORT, arrears::REPORT];

/// Files are waited for so long: far longer than they take, and short enough that a disk that stands still delays no mail
/// by more than a moment.
const FILES_WITHIN: Duration = Duration::from_secs(60);

/// Why a report could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database failed.
    #[error("the report could not be kept in the database, or read there")]
    Database(#[from] tokio_postgres::Error),
    /// Its mails could not be written down.
    #[error("the report's mails could not be written down")]
    Mail(#[from] mail::Error),
    /// The table holds what this program never wrote.
    #[error("report {document} cannot be read: was it made by a newer version?")]
    Unreadable {
        /// The document's number.
        document: i64,
        /// What does not fit.
        source: serde_json::Error,
    },
}

/// What [`keep`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The document's number.
    pub document: i64,
    /// Whether it is the one that was handed in: false where the slot had a document already, which stays.
    pub new: bool,
    /// Mails that were written down; none where the slot had its document already.
    pub mails: u64,
}

/// Keeps a document and writes down its mails, in the transaction that is open: they are there if and only if it commits.
/// Where the slot has a document already, that one stays, and nothing is mailed.
///
/// # Errors
/// Where the database fails.
pub async fn keep(transaction: &Transaction<'_>, document: &Document, config: &Config) -> Result<Kept, Error> {
    if let Some(document) = document_of(transaction.client(), document).await? {
        return Ok(Kept { document, new: false, mails: 0 });
    }
    let folder = folder_of(config, &document.report, document.slot);
    let insert = transaction.prepare_cached(include_str!("../../sql/reports/document_insert.sql")).await?;
    let Document { report, slot, run, tone, headline, .. } = document;
    let (tone, folder) = (tone_name(*tone), folder.to_string_lossy().into_owned());
    let inserted = transaction
        .query_opt(&insert, &[report, slot, run, &tone, headline, &Json(document), &host(), &folder])
        .await?;
    let Some(row) = inserted else {
        // Somebody else was quicker, and has committed by now.
        let document = document_of(transaction.client(), document).await?.unwrap_or_default();
        return Ok(Kept { document, new: false, mails: 0 });
    };
    let number = row.try_get(0)?;
    let mails = mail::write_down(transaction, number, document, &config.mail).await?;
    Ok(Kept { document: number, new: true, mails })
}

/// The number of the document that the slot has already.
async fn document_of(client: &Client, document: &Document) -> Result<Option<i64>, Error> {
    let of_slot = include_str!("../../sql/reports/document_of_slot.sql");
    let row = client.query_opt(of_slot, &[&document.report, &document.slot]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Writes the files of a document, before a transaction keeps it: a slow disk shall hold up no row, and no server ends the
/// session of who waits for one. Where the slot has a document already, its files stay.
///
/// Files that cannot be written, or not in time, are only warned of: they can be had from the database.
///
/// # Errors
/// Where the database fails.
pub async fn write_files(client: &Client, document: &Document, config: &Config) -> Result<(), Error> {
    if document_of(client, document).await?.is_none() {
        let folder = folder_of(config, &document.report, document.slot);
        write_within(FILES_WITHIN, document, &folder, config).await;
    }
    Ok(())
}

/// The folder with the files of a report: `reports/2026-11-22/arrears-024500` in the state folder, by the local date and
/// time of the slot. Tables that are too long for a document are written there whole.
pub fn folder_of(config: &Config, report: &str, slot: DateTime<Utc>) -> PathBuf {
    let day = slot.with_timezone(&config.time_zone).format("%Y-%m-%d").to_string();
    let time = time_of_day_for_names(slot, config.time_zone);
    config.state_dir.join("reports").join(day).join(format!("{report}-{time}"))
}

/// A document as one HTML page, with its pictures in it.
pub fn page(document: &Document, templates: Option<&Path>) -> String {
    let picture = |chart: &Chart| match render::png(chart, document) {
        Ok(png) => format!("data:image/png;base64,{}", BASE64.encode(png)),
        Err(error) => {
            warn_of_file(document, &format!("{}.png", chart.name), &error);
            String::new()
        }
    };
    Renderer::page(templates).html(document, &picture)
}

/// A document as plain text.
pub fn text(document: &Document, templates: Option<&Path>) -> String {
    Renderer::page(templates).text(document)
}

/// A thread of its own: rendering keeps a core busy for a moment, and the program's end waits for no disk that stands still.
async fn write_within(limit: Duration, document: &Document, folder: &Path, config: &Config) {
    // Who waits for it no longer, also because he was dropped, wants nothing more of it: another attempt may write there.
    let given_up = CancellationToken::new();
    let _on_return = given_up.clone().drop_guard();
    let (sender, ended) = oneshot::channel();
    let (owned, place) = (document.clone(), folder.to_owned());
    let (templates, state_dir) = (config.reports.templates.clone(), config.state_dir.clone());
    let begun = std::thread::Builder::new().name("report-files".to_owned()).spawn(move || {
        let written = write_all(&owned, &place, templates.as_deref(), &given_up);
        sender.send(written.and_then(|()| hand_over(&place, &state_dir))).ok();
    });
    let error = match begun {
        Err(error) => error.to_string(),
        Ok(_) => match tokio::time::timeout(limit, ended).await {
            Ok(Ok(Ok(()))) => return,
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(_)) => "it panicked".to_owned(),
            Err(_) => format!("the disk did not take them within {} s", limit.as_secs()),
        },
    };
    let (report, slot, folder) = (&document.report, time_text(document.slot), folder.display().to_string());
    warn!(
        report,
        slot,
        folder,
        error,
        "the files of the report {report} cannot be written to {folder}: {error}; it is in the database all the same, see \
         `pointsd reports`"
    );
}

fn write_all(
    document: &Document,
    folder: &Path,
    templates: Option<&Path>,
    given_up: &CancellationToken,
) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let write = |name: &str, content: &[u8]| write(folder, name, content, given_up);
    write("report.html", page(document, templates).as_bytes())?;
    write("report.txt", text(document, templates).as_bytes())?;
    let rendered = |name: String, content: Result<Vec<u8>, render::Error>| match content {
        Ok(content) => write(&name, &content),
        Err(error) => {
            warn_of_file(document, &name, &error);
            Ok(())
        }
    };
    rendered("report.xlsx".to_owned(), render::xlsx(document))?;
    for section in &document.sections {
        match section {
            Section::Text { .. } => {}
            // The whole of a longer one was written by whoever made it: what is here would be taken for all of it.
            Section::Table(table) if !table.is_whole() => {}
            Section::Table(table) => rendered(format!("{}.csv", table.name), render::csv(table, document))?,
            Section::Chart(chart) => rendered(format!("{}.png", chart.name), render::png(chart, document))?,
        }
    }
    Ok(())
}

/// What root wrote, on the command line, belongs to whom the state folder belongs to: the service, which is to write the
/// next report of the day beside it, and to delete them all one day.
fn hand_over(folder: &Path, state_dir: &Path) -> io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let owner = fs::metadata(state_dir)?;
    let folders = folder.ancestors().take_while(|above| *above != state_dir).map(Path::to_owned);
    let files = fs::read_dir(folder)?.map(|file| Ok(file?.path())).collect::<io::Result<Vec<_>>>()?;
    folders.chain(files).try_for_each(|path| std::os::unix::fs::lchown(path, Some(owner.uid()), Some(owner.gid())))
}

/// Whoever looks finds a file whole or not at all, and nothing of somebody who was given up.
fn write(folder: &Path, name: &str, content: &[u8], given_up: &CancellationToken) -> io::Result<()> {
    let unfinished = folder.join(format!(".{name}.unfinished"));
    fs::write(&unfinished, content)?;
    if given_up.is_cancelled() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    fs::rename(&unfinished, folder.join(name))
}

fn warn_of_file(document: &Document, file: &str, error: &render::Error) {
    let (report, slot, error) = (&document.report, time_text(document.slot), telemetry::chain(error));
    warn!(report, slot, file, error, "{file} of the report {report} cannot be made: {error}");
}

/// The name of this machine: files are on the one that made them.
fn host() -> String {
    nix::unistd::gethostname().map_or_else(|_| "?".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn tone_name(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "good",
        Tone::Attention => "attention",
        Tone::Bad => "bad",
    }
}

/// A report that was made, without what it says.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)] // the columns of pointsd.documents
pub struct Listed {
    pub document: i64,
    pub report: String,
    #[serde(serialize_with = "as_text")]
    pub slot: DateTime<Utc>,
    pub run: i64,
    #[serde(serialize_with = "as_text")]
    pub made: DateTime<Utc>,
    pub tone: String,
    pub headline: String,
    pub host: String,
    pub folder: String,
    /// Its mails, the oldest first.
    pub mails: Vec<Mail>,
}

/// How a mail stands.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[allow(missing_docs)] // the columns of pointsd.outbox
pub struct Mail {
    pub mail: i64,
    pub recipient: String,
    pub resend: i32,
    pub state: String,
    pub attempts: i32,
    #[serde(serialize_with = "as_text")]
    pub written: DateTime<Utc>,
    #[serde(serialize_with = "as_text")]
    pub due: DateTime<Utc>,
    #[serde(serialize_with = "as_text_if_any")]
    pub sent: Option<DateTime<Utc>>,
    pub answer: Option<String>,
}

fn as_text<S: serde::Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time_text(*time))
}

fn as_text_if_any<S: serde::Serializer>(time: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(time_text).serialize(serializer)
}

/// The newest reports first, of one kind where that is given; `limit` at most.
///
/// # Errors
/// Where the database fails.
pub async fn list(client: &Client, report: Option<&str>, limit: u32) -> Result<Vec<Listed>, Error> {
    select(client, report, None, i64::from(limit)).await
}

/// A report by its number, without what it says; none where there is none.
///
/// # Errors
/// Where the database fails.
pub async fn find(client: &Client, document: i64) -> Result<Option<Listed>, Error> {
    Ok(select(client, None, Some(document), 1).await?.pop())
}

async fn select(
    client: &Client,
    report: Option<&str>,
    document: Option<i64>,
    limit: i64,
) -> Result<Vec<Listed>, Error> {
    let sql = include_str!("../../sql/reports/document_list.sql");
    let rows = client.query(sql, &[&report, &document, &limit]).await?;
    Ok(rows.iter().map(listed_from).collect::<Result<_, _>>()?)
}

fn listed_from(row: &Row) -> Result<Listed, tokio_postgres::Error> {
    let Json(mails) = row.try_get("mails")?;
    Ok(Listed {
        document: row.try_get("document")?,
        report: row.try_get("report")?,
        slot: row.try_get("slot")?,
        run: row.try_get("run")?,
        made: row.try_get("made")?,
        tone: row.try_get("tone")?,
        headline: row.try_get("headline")?,
        host: row.try_get("host")?,
        folder: row.try_get("folder")?,
        mails,
    })
}

/// What a report says; none where there is none of this number.
///
/// # Errors
/// Where the database fails, or holds what this program cannot read.
pub async fn read(client: &Client, document: i64) -> Result<Option<Document>, Error> {
    let row = client.query_opt(include_str!("../../sql/reports/document_read.sql"), &[&document]).await?;
    let Some(row) = row else { return Ok(None) };
    let content: serde_json::Value = row.try_get(0)?;
    serde_json::from_value(content).map(Some).map_err(|source| Error::Unreadable { document, source })
}

/// What [`prune`] found to delete.
#[derive(Debug, Default)]
pub struct Old {
    /// Documents that were deleted.
    pub documents: u64,
    /// The folders with their files, as far as they are on this machine and where reports are kept.
    pub folders: Vec<PathBuf>,
}

/// Deletes documents that were made before `before`, with their mails, `limit` at most. Their files are the caller's to
/// remove ([`remove_files`]): before he commits, so that none is forgotten.
///
/// # Errors
/// Where the database fails.
pub async fn prune(
    transaction: &Transaction<'_>,
    before: DateTime<Utc>,
    limit: i64,
    config: &Config,
) -> Result<Old, Error> {
    let old = transaction.prepare_cached(include_str!("../../sql/reports/document_old.sql")).await?;
    let rows = transaction.query(&old, &[&before, &limit]).await?;
    let (here, mut numbers, mut folders) = (host(), Vec::new(), HashSet::new());
    for row in &rows {
        let (host, folder): (String, String) = (row.try_get("host")?, row.try_get("folder")?);
        numbers.push(row.try_get::<_, i64>("document")?);
        let folder = PathBuf::from(folder);
        if host == here && is_ours(&folder, config) {
            folders.insert(folder);
        }
    }
    let delete = transaction.prepare_cached(include_str!("../../sql/reports/document_delete.sql")).await?;
    let documents = transaction.execute(&delete, &[&numbers]).await?;
    Ok(Old { documents, folders: folders.into_iter().collect() })
}

/// Whether a folder is one that [`folder_of`] names: a row must not have us delete anything else.
fn is_ours(folder: &Path, config: &Config) -> bool {
    let Ok(below) = folder.strip_prefix(config.state_dir.join("reports")) else { return false };
    let parts: Vec<_> = below.components().collect();
    parts.len() == 2 && parts.iter().all(|part| matches!(part, std::path::Component::Normal(_)))
}

/// Removes the files of reports that were deleted, and the folder of a day with its last one. What cannot be removed is
/// warned of.
pub fn remove_files(folders: &[PathBuf]) {
    for folder in folders {
        match fs::remove_dir_all(folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let folder = folder.display().to_string();
                warn!(folder, %error, "the files of an old report stay, remove them yourself: {folder}: {error}");
            }
        }
        if let Some(day) = folder.parent() {
            // Another report of the day keeps it.
            let _ = fs::remove_dir(day);
        }
    }
}

/// Deletes findings that were cured before `before`, `limit` at most; returns how many.
///
/// # Errors
/// Where the database fails.
pub async fn prune_findings(transaction: &Transaction<'_>, before: DateTime<Utc>, limit: i64) -> Result<u64, Error> {
    let statement = transaction.prepare_cached(include_str!("../../sql/reports/finding_prune.sql")).await?;
    Ok(transaction.execute(&statement, &[&before, &limit]).await?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;
    use crate::language::Language;

    /// A folder that is gone with its test.
    struct Scratch(PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    #[tokio::test]
    async fn a_disk_that_stands_still_is_given_up_and_gets_nothing_more() {
        let slot: DateTime<Utc> = "2026-11-22T04:45:00Z".parse().unwrap();
        let document = Document {
            report: arrears::REPORT.to_owned(),
            language: Language::English,
            business: String::new(),
            title: "Arrears".to_owned(),
            slot,
            run: 1,
            as_of: slot,
            time_zone: "UTC".to_owned(),
            tone: Tone::Good,
            headline: "Nobody owes".to_owned(),
            facts: Vec::new(),
            sections: Vec::new(),
        };
        let scratch = Scratch(std::env::temp_dir().join(format!("pointsd-still-{}", std::process::id())));
        let mut config = Config::load(None, None).unwrap();
        config.state_dir.clone_from(&scratch.0);
        let folder = folder_of(&config, &document.report, slot);
        fs::create_dir_all(&folder).unwrap();
        let pipe = folder.join(".report.html.unfinished");
        // Whoever opens it to write waits for a reader.
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        write_within(Duration::from_millis(50), &document, &folder, &config).await;
        // The disk goes on, for who was given up long ago.
        assert!(fs::read_to_string(&pipe).unwrap().contains("Nobody owes"));
        let given_up = CancellationToken::new();
        given_up.cancel();
        fs::remove_file(&pipe).unwrap();
        let written = write_all(&document, &folder, None, &given_up);
        assert_eq!(written.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
        let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(names, [".report.html.unfinished"]);
    }
}
