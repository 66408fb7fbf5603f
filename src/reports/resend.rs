//! Mails of a report that leave once more.

use std::fmt::{self, Display};

use deadpool_postgres::ClientWrapper;
use lettre::message::Mailbox;

use super::{Error, find};
use crate::config::{self, MailWay};
use crate::mail;

/// What came of the order to mail a report again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resent {
    /// Its mails were written to the outbox; their numbers.
    Written(Vec<i64>),
    /// There is no such report.
    Unknown,
    /// The configuration sends no mails.
    NoWay,
    /// It never had a recipient.
    NoRecipients {
        /// The report's number.
        document: i64,
        /// Its name.
        report: String,
    },
}

/// What was wrong, and what to do next.
impl Display for Resent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Resent::Written(mails) => write!(f, "{} mails were written", mails.len()),
            Resent::Unknown => f.write_str("there is no such report, or it was pruned"),
            Resent::NoWay => f.write_str(
                "no mail is sent, because mail.mode is none: set mail.mode, mail.from and the settings of that mode in the \
                 configuration",
            ),
            Resent::NoRecipients { document, report } => write!(
                f,
                "report {document} has no recipients: name one with --to, or set mail.to.{report} in the configuration for \
                 later reports"
            ),
        }
    }
}

/// Writes mails of a report to the outbox again: to its recipients, or to these.
///
/// # Errors
/// If the database fails.
pub async fn resend(
    client: &mut ClientWrapper,
    document: i64,
    to: Option<&[Mailbox]>,
    mail: &config::Mail,
) -> Result<Resent, Error> {
    let Some(report) = find(client, document).await? else { return Ok(Resent::Unknown) };
    if matches!(mail.way, MailWay::None) {
        return Ok(Resent::NoWay);
    }
    let transaction = client.transaction().await?;
    let written = mail::resend(&transaction, document, to, mail).await?;
    transaction.commit().await?;
    match written.as_slice() {
        [] => Ok(Resent::NoRecipients { document, report: report.report }),
        _ => Ok(Resent::Written(written)),
    }
}
