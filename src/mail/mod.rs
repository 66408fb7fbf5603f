//! The outbox: mails are written down in the transaction that makes their report, and leave afterwards.
//! STAND-IN of K: to be replaced by M's.

use chrono::{DateTime, Utc};
use deadpool_postgres::Transaction;
use lettre::message::Mailbox;

use crate::config::{Config, Mail, MailWay};
use crate::database::Database;
use crate::document::Document;

/// Why a mail could not be written down or sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database failed.
    #[error("the outbox could not be read or written")]
    Database(#[from] tokio_postgres::Error),
    /// No connection.
    #[error(transparent)]
    Connection(#[from] crate::database::Error),
}

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Mails sent.
    pub sent: u64,
    /// Mails that wait for another try.
    pub waiting: u64,
    /// Mails that are not tried again.
    pub parked: u64,
}

/// Stand-in.
///
/// # Errors
/// Where the database fails.
pub async fn write_down(
    transaction: &Transaction<'_>,
    document_id: i64,
    document: &Document,
    mail: &Mail,
) -> Result<u64, Error> {
    if matches!(mail.way, MailWay::None) {
        return Ok(0);
    }
    let mut written = 0;
    for to in mail.to.get(&document.report).into_iter().flatten() {
        let sql = "INSERT INTO mail.outbox (document, report, slot, recipient, message_id) VALUES ($1, $2, $3, $4, gen_random_uuid()::text)";
        let to = to.to_string();
        written += transaction.execute(sql, &[&document_id, &document.report, &document.slot, &to]).await?;
    }
    Ok(written)
}

/// Stand-in.
///
/// # Errors
/// Where the database fails.
pub async fn deliver(
    database: &Database,
    config: &Config,
    document: Option<i64>,
    _now: DateTime<Utc>,
) -> Result<Delivered, Error> {
    let client = database.connection().await?;
    let sql = "UPDATE mail.outbox SET state = 'sent', sent = clock_timestamp() WHERE state = 'waiting' AND ($1::bigint IS NULL OR document = $1) RETURNING report, recipient";
    let rows = client.query(sql, &[&document]).await?;
    if let MailWay::Directory { folder, .. } = &config.mail.way {
        std::fs::create_dir_all(folder).ok();
        for row in &rows {
            let (report, to): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            std::fs::write(folder.join(format!("{report}.eml")), format!("To: {to}\r\nSubject: {report}\r\n\r\n")).ok();
        }
    }
    Ok(Delivered { sent: rows.len() as u64, ..Delivered::default() })
}

/// Stand-in.
///
/// # Errors
/// Where the database fails.
pub async fn resend(
    transaction: &Transaction<'_>,
    document_id: i64,
    to: Option<&[Mailbox]>,
    _mail: &Mail,
) -> Result<u64, Error> {
    let to: Option<Vec<String>> = to.map(|to| to.iter().map(ToString::to_string).collect());
    let sql = "INSERT INTO mail.outbox (document, report, slot, recipient, resend, message_id)
        SELECT d.document, d.report, d.slot, t.recipient, 1 + coalesce((SELECT max(resend) FROM mail.outbox o WHERE o.document = d.document AND o.recipient = t.recipient), 0), gen_random_uuid()::text
        FROM reports.documents d, unnest(coalesce($2::text[], (SELECT array_agg(DISTINCT recipient) FROM mail.outbox WHERE document = $1))) AS t (recipient)
        WHERE d.document = $1";
    Ok(transaction.execute(sql, &[&document_id, &to]).await?)
}
