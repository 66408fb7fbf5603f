//! The table `pointsd.outbox`: one function for each statement.

use std::time::Duration;

use chrono::{DateTime, Utc};
use deadpool_postgres::{Object, Transaction};
use lettre::message::Mailbox;
use tokio_postgres::types::ToSql;

use super::Error;
use super::message::new_message_id;
use crate::database::Database;

/// A statement of the outbox touches a few rows. If it is not answered within this time, the connection counts as lost.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A mail that this process has claimed.
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

/// A stored document, and where its files are.
pub(super) struct StoredDocument {
    pub content: String,
    pub host: String,
    pub folder: String,
}

/// A mail for the outbox.
pub(super) struct NewMail {
    pub recipient: String,
    pub name: String,
    pub resend: i32,
}

impl NewMail {
    pub(super) fn to(mailbox: &Mailbox, resend: i32) -> NewMail {
        NewMail { recipient: mailbox.email.to_string(), name: mailbox.name.clone().unwrap_or_default(), resend }
    }
}

/// Writes mails to the outbox, each with its Message-ID. Returns the numbers of those that were not there yet.
pub(super) async fn insert_mails(
    transaction: &Transaction<'_>,
    document: i64,
    (report, slot): (&str, DateTime<Utc>),
    domain: &str,
    mails: &[NewMail],
) -> Result<Vec<i64>, tokio_postgres::Error> {
    let statement = transaction.prepare_cached(include_str!("../../sql/mail/mail_insert.sql")).await?;
    let column = |of: fn(&NewMail) -> &str| mails.iter().map(of).collect::<Vec<_>>();
    let (recipients, names) = (column(|mail| &mail.recipient), column(|mail| &mail.name));
    let resends: Vec<i32> = mails.iter().map(|mail| mail.resend).collect();
    let ids: Vec<String> = mails.iter().map(|mail| new_message_id(report, slot, mail.resend, domain)).collect();
    let values: [&(dyn ToSql + Sync); 7] = [&document, &report, &slot, &recipients, &names, &resends, &ids];
    transaction.query(&statement, &values).await?.iter().map(|row| row.try_get(0)).collect()
}

/// Locks a document, and returns its report and slot; none if it does not exist.
pub(super) async fn lock_document(
    transaction: &Transaction<'_>,
    document: i64,
) -> Result<Option<(String, DateTime<Utc>)>, tokio_postgres::Error> {
    let statement = transaction.prepare_cached(include_str!("../../sql/mail/document_lock.sql")).await?;
    let row = transaction.query_opt(&statement, &[&document]).await?;
    row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
}

/// Loads the recipients of a document, each with the number of the next resend.
pub(super) async fn load_recipients(
    transaction: &Transaction<'_>,
    document: i64,
) -> Result<Vec<NewMail>, tokio_postgres::Error> {
    let statement = transaction.prepare_cached(include_str!("../../sql/mail/mail_recipients.sql")).await?;
    let rows = transaction.query(&statement, &[&document]).await?;
    let new = |row: &tokio_postgres::Row| {
        Ok(NewMail { recipient: row.try_get(0)?, name: row.try_get(1)?, resend: row.try_get(2)? })
    };
    rows.iter().map(new).collect()
}

/// Claims the next due mail, for the length of the lease.
pub(super) async fn claim_mail(
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

/// Loads the database's time, and when the next mail is due.
pub(super) async fn load_next_due(database: &Database) -> Result<(DateTime<Utc>, Option<DateTime<Utc>>), Error> {
    let rows = rows(database, include_str!("../../sql/mail/mail_next.sql"), &[]).await?;
    let row = rows.first().ok_or(Error::Silent)?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Loads the document of a mail; none if it was deleted.
pub(super) async fn load_document(database: &Database, number: i64) -> Result<Option<StoredDocument>, Error> {
    let rows = rows(database, include_str!("../../sql/mail/document_content.sql"), &[&number]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(StoredDocument { content: row.try_get(0)?, host: row.try_get(1)?, folder: row.try_get(2)? }))
}

/// Records that the server took a mail.
pub(super) async fn record_sent(database: &Database, mail: i64, answer: &str) -> Result<(), Error> {
    rows(database, include_str!("../../sql/mail/mail_sent.sql"), &[&mail, &answer]).await.map(drop)
}

/// Records a failed attempt.
pub(super) async fn record_failure(
    database: &Database,
    held: &Claimed,
    parked: bool,
    due: DateTime<Utc>,
    why: Option<&str>,
) -> Result<(), Error> {
    let sql = include_str!("../../sql/mail/mail_fail.sql");
    rows(database, sql, &[&held.mail, &held.attempts, &parked, &due, &why]).await.map(drop)
}

/// Puts off every due mail; returns the document of each.
pub(super) async fn put_off_due(
    database: &Database,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Vec<i64>, Error> {
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
    match tokio::time::timeout(ANSWER_WITHIN, asked).await {
        Ok(rows) => Ok(rows?),
        Err(_) => {
            // Out of the pool: the next statement on it would wait as well.
            drop(Object::take(client));
            Err(Error::Silent)
        }
    }
}
