//! The table `pointsd.outbox`: what is read of it and written to it, each one statement.

use std::time::Duration;

use chrono::{DateTime, Utc};
use deadpool_postgres::{Object, Transaction};
use lettre::message::Mailbox;
use tokio_postgres::types::ToSql;

use super::Error;
use super::message::new_message_id;
use crate::database::Database;

/// A statement of the outbox touches a few rows: without an answer after so long, the connection is as good as gone.
const ANSWER: Duration = Duration::from_secs(10);

/// A mail that this process holds.
#[derive(Clone, Debug)]
pub(super) struct Claimed {
    pub mail: i64,
    pub document: i64,
    pub report: String,
    pub recipient: String,
    pub name: String,
    pub resend: i32,
    pub message_id: String,
    pub attempts: i32,
    pub written: DateTime<Utc>,
}

/// A document as it is kept, and where its files are.
pub(super) struct Kept {
    pub content: String,
    pub host: String,
    pub folder: String,
}

/// A mail to write down.
pub(super) struct New {
    pub recipient: String,
    pub name: String,
    pub resend: i32,
}

impl New {
    pub(super) fn to(mailbox: &Mailbox, resend: i32) -> New {
        New { recipient: mailbox.email.to_string(), name: mailbox.name.clone().unwrap_or_default(), resend }
    }
}

/// Writes mails to the outbox, each with its Message-ID. Returns the numbers of those that were not there yet.
pub(super) async fn insert(
    transaction: &Transaction<'_>,
    document: i64,
    (report, slot): (&str, DateTime<Utc>),
    domain: &str,
    mails: &[New],
) -> Result<Vec<i64>, tokio_postgres::Error> {
    let statement = transaction.prepare_cached(include_str!("../../sql/mail/mail_insert.sql")).await?;
    let column = |of: fn(&New) -> &str| mails.iter().map(of).collect::<Vec<_>>();
    let (recipients, names) = (column(|mail| &mail.recipient), column(|mail| &mail.name));
    let resends: Vec<i32> = mails.iter().map(|mail| mail.resend).collect();
    let ids: Vec<String> = mails.iter().map(|mail| new_message_id(report, slot, mail.resend, domain)).collect();
    let values: [&(dyn ToSql + Sync); 7] = [&document, &report, &slot, &recipients, &names, &resends, &ids];
    transaction.query(&statement, &values).await?.iter().map(|row| row.try_get(0)).collect()
}

/// Report and slot of a document, which is locked; none where there is none.
pub(super) async fn lock_document(
    transaction: &Transaction<'_>,
    document: i64,
) -> Result<Option<(String, DateTime<Utc>)>, tokio_postgres::Error> {
    let statement = transaction.prepare_cached(include_str!("../../sql/mail/document_lock.sql")).await?;
    let row = transaction.query_opt(&statement, &[&document]).await?;
    row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
}

/// Who was sent a document, each with the number of his next resend.
pub(super) async fn recipients(
    transaction: &Transaction<'_>,
    document: i64,
) -> Result<Vec<New>, tokio_postgres::Error> {
    let statement = transaction.prepare_cached(include_str!("../../sql/mail/mail_recipients.sql")).await?;
    let rows = transaction.query(&statement, &[&document]).await?;
    let new = |row: &tokio_postgres::Row| {
        Ok(New { recipient: row.try_get(0)?, name: row.try_get(1)?, resend: row.try_get(2)? })
    };
    rows.iter().map(new).collect()
}

/// Takes the next mail that is due, for so long.
pub(super) async fn claim(
    database: &Database,
    now: DateTime<Utc>,
    lease: Duration,
    document: Option<i64>,
) -> Result<Option<Claimed>, Error> {
    let lease = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
    let sql = include_str!("../../sql/mail/mail_claim.sql");
    let Some(row) = rows(database, sql, &[&now, &lease, &document]).await?.into_iter().next() else { return Ok(None) };
    Ok(Some(Claimed {
        mail: row.try_get(0)?,
        document: row.try_get(1)?,
        report: row.try_get(2)?,
        recipient: row.try_get(3)?,
        name: row.try_get(4)?,
        resend: row.try_get(5)?,
        message_id: row.try_get(6)?,
        attempts: row.try_get(7)?,
        written: row.try_get(8)?,
    }))
}

/// The database's time, and when the next mail is to be tried.
pub(super) async fn next(database: &Database) -> Result<(DateTime<Utc>, Option<DateTime<Utc>>), Error> {
    let rows = rows(database, include_str!("../../sql/mail/mail_next.sql"), &[]).await?;
    let row = rows.first().ok_or(Error::Silent)?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// The document that a mail tells; none where it was deleted.
pub(super) async fn document(database: &Database, number: i64) -> Result<Option<Kept>, Error> {
    let rows = rows(database, include_str!("../../sql/mail/document_content.sql"), &[&number]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(Kept { content: row.try_get(0)?, host: row.try_get(1)?, folder: row.try_get(2)? }))
}

/// Writes down that a mail was taken.
pub(super) async fn sent(database: &Database, mail: i64, answer: &str) -> Result<(), Error> {
    rows(database, include_str!("../../sql/mail/mail_sent.sql"), &[&mail, &answer]).await.map(drop)
}

/// Writes down that an attempt failed.
pub(super) async fn fail(
    database: &Database,
    held: &Claimed,
    parked: bool,
    due: DateTime<Utc>,
    why: Option<&str>,
) -> Result<(), Error> {
    let sql = include_str!("../../sql/mail/mail_fail.sql");
    rows(database, sql, &[&held.mail, &held.attempts, &parked, &due, &why]).await.map(drop)
}

/// Lets everything that is due wait; returns the document of each mail.
pub(super) async fn put_off(database: &Database, now: DateTime<Utc>, until: DateTime<Utc>) -> Result<Vec<i64>, Error> {
    let rows = rows(database, include_str!("../../sql/mail/mail_put_off.sql"), &[&now, &until]).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

async fn rows(
    database: &Database,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<tokio_postgres::Row>, Error> {
    let client: Object = database.connection().await?;
    let asked = async {
        let statement = client.prepare_cached(sql).await?;
        client.query(&statement, parameters).await
    };
    match tokio::time::timeout(ANSWER, asked).await {
        Ok(rows) => Ok(rows?),
        Err(_) => {
            // Nobody else shall wait on it.
            drop(Object::take(client));
            Err(Error::Silent)
        }
    }
}
