//! The reports in the database: kept once for each slot, listed with their mails, deleted after their retention.

use std::collections::HashSet;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use deadpool_postgres::Transaction;
use serde::{Deserialize, Serialize};
use tokio_postgres::types::Json;
use tokio_postgres::{Client, Row};

use super::Error;
use super::files::{folder_of, is_report_folder};
use crate::config::Config;
use crate::document::Document;
use crate::mail;
use crate::scheduler::host_name;
use crate::time::time_text;

/// What [`store_document`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreOutcome {
    /// The document's number.
    pub document: i64,
    /// Whether this call kept the document. False if the slot had one already; that one stays.
    pub new: bool,
    /// How many mails were written to the outbox; 0 if the slot had its document already.
    pub mails: u64,
}

/// Keeps a document and writes its mails to the outbox, in the open transaction. A slot that has a document already keeps
/// it, and no mail is written.
///
/// # Errors
/// If the database fails.
pub async fn store_document(
    transaction: &Transaction<'_>,
    document: &Document,
    config: &Config,
) -> Result<StoreOutcome, Error> {
    let Document { report, slot, run, tone, headline, .. } = document;
    let found = |document| StoreOutcome { document, new: false, mails: 0 };
    if let Some(number) = find_by_slot(transaction.client(), report, *slot).await? {
        return Ok(found(number));
    }
    let folder = folder_of(config, report, *slot).to_string_lossy().into_owned();
    let insert = transaction.prepare_cached(include_str!("../../sql/reports/document_insert.sql")).await?;
    let inserted = transaction
        .query_opt(&insert, &[report, slot, run, &tone.name(), headline, &Json(document), &host_name(), &folder])
        .await?;
    let Some(row) = inserted else {
        // Another transaction inserted it first, and has committed by now.
        return Ok(found(find_by_slot(transaction.client(), report, *slot).await?.unwrap_or_default()));
    };
    let number = row.try_get(0)?;
    let mails = mail::write_down(transaction, number, document, &config.mail).await?;
    Ok(StoreOutcome { document: number, new: true, mails })
}

/// The number of the document of a slot.
///
/// # Errors
/// If the database fails.
pub async fn find_by_slot(client: &Client, report: &str, slot: DateTime<Utc>) -> Result<Option<i64>, Error> {
    let row = client.query_opt(include_str!("../../sql/reports/document_of_slot.sql"), &[&report, &slot]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// A kept report without its content.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Report)]
#[allow(missing_docs)] // the columns of pointsd.documents
pub struct Listed {
    pub document: i64,
    pub report: String,
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String, format = DateTime)]
    pub slot: DateTime<Utc>,
    pub run: i64,
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String, format = DateTime)]
    pub made: DateTime<Utc>,
    pub tone: String,
    pub headline: String,
    pub host: String,
    pub folder: String,
    /// Its mails, the oldest first.
    pub mails: Vec<Mail>,
}

/// A mail of a report, and its state.
#[derive(Clone, Debug, Deserialize, Serialize, utoipa::ToSchema)]
#[allow(missing_docs)] // the columns of pointsd.outbox
pub struct Mail {
    pub mail: i64,
    pub recipient: String,
    pub resend: i32,
    pub state: String,
    pub attempts: i32,
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String, format = DateTime)]
    pub written: DateTime<Utc>,
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String, format = DateTime)]
    pub due: DateTime<Utc>,
    #[serde(serialize_with = "as_text_if_any")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub sent: Option<DateTime<Utc>>,
    pub answer: Option<String>,
}

fn as_text<S: serde::Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time_text(*time))
}

fn as_text_if_any<S: serde::Serializer>(time: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(time_text).serialize(serializer)
}

/// At most `limit` reports, the newest first; `report` selects one kind, `before` those with a lower number.
///
/// # Errors
/// If the database fails.
pub async fn list(
    client: &Client,
    report: Option<&str>,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<Listed>, Error> {
    select(client, report, None, before, i64::from(limit)).await
}

/// The report of this number, without its content.
///
/// # Errors
/// If the database fails.
pub async fn find(client: &Client, document: i64) -> Result<Option<Listed>, Error> {
    Ok(select(client, None, Some(document), None, 1).await?.pop())
}

async fn select(
    client: &Client,
    report: Option<&str>,
    document: Option<i64>,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Listed>, Error> {
    let sql = include_str!("../../sql/reports/document_list.sql");
    let rows = client.query(sql, &[&report, &document, &before, &limit]).await?;
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

/// The document of this number.
///
/// # Errors
/// If the database fails, or holds a document that this version cannot read.
pub async fn load(client: &Client, document: i64) -> Result<Option<Document>, Error> {
    read(client, include_str!("../../sql/reports/document_read.sql"), document).await
}

/// The document of this number without its texts and tables.
///
/// # Errors
/// If the database fails, or holds a document that this version cannot read.
pub async fn load_charts(client: &Client, document: i64) -> Result<Option<Document>, Error> {
    read(client, include_str!("../../sql/reports/document_charts.sql"), document).await
}

async fn read(client: &Client, sql: &str, document: i64) -> Result<Option<Document>, Error> {
    let row = client.query_opt(sql, &[&document]).await?;
    let Some(row) = row else { return Ok(None) };
    let content: serde_json::Value = row.try_get(0)?;
    serde_json::from_value(content).map(Some).map_err(|source| Error::Unreadable { document, source })
}

/// What [`prune`] deleted.
#[derive(Debug, Default)]
pub struct Old {
    /// The number of deleted documents.
    pub documents: u64,
    /// The folders with their files, if they are on this machine and below the state folder.
    pub folders: Vec<PathBuf>,
}

/// Deletes at most `limit` documents that were made before `before`, with their mails. The caller removes their files
/// ([`super::remove_files`]) before it commits, so that no folder is forgotten.
///
/// # Errors
/// If the database fails.
pub async fn prune(
    transaction: &Transaction<'_>,
    before: DateTime<Utc>,
    limit: i64,
    config: &Config,
) -> Result<Old, Error> {
    let old = transaction.prepare_cached(include_str!("../../sql/reports/document_old.sql")).await?;
    let rows = transaction.query(&old, &[&before, &limit]).await?;
    let (here, mut numbers, mut folders) = (host_name(), Vec::new(), HashSet::new());
    for row in &rows {
        let (host, folder): (String, String) = (row.try_get("host")?, row.try_get("folder")?);
        numbers.push(row.try_get::<_, i64>("document")?);
        let folder = PathBuf::from(folder);
        if host == here && is_report_folder(&folder, config) {
            folders.insert(folder);
        }
    }
    let delete = transaction.prepare_cached(include_str!("../../sql/reports/document_delete.sql")).await?;
    let documents = transaction.execute(&delete, &[&numbers]).await?;
    Ok(Old { documents, folders: folders.into_iter().collect() })
}
