//! The outbox: mails are written in the transaction that stores their report, and leave afterwards.
//!
//! [`write_down`] inserts a row for each recipient. [`serve`], in the daemon, and [`deliver`], for the command line, send due
//! mails: they claim a row with a lease that is longer than any delivery, hand the mail over, and record the outcome at once.
//! `docs/mail.md` says what an operator has to know, and what SMTP cannot promise.

mod message;
mod outbox;
mod transport;
mod whole;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use deadpool_postgres::Transaction;
use lettre::message::Mailbox;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::config::{self, Config, MailWay};
use crate::database::{self, Database};
use crate::document::Document;
use crate::errors;
use crate::retry::Backoff;
use crate::time::{time_text, to_microsecond};
use message::{Rendered, Unfit};
use outbox::{Claimed, NewMail};
use transport::{Accepted, Failure, Letter};

/// The longest pause between two attempts at a mail.
const LONGEST_PAUSE: Duration = Duration::from_secs(4 * 3600);

/// The lease of a mail is longer than its delivery by this time, which remains to record the outcome.
const MARGIN: Duration = Duration::from_secs(60);

/// The outbox is read this often even if nothing is due, so a new mail waits no longer.
const LONGEST_REST: Duration = Duration::from_secs(15);

/// A mail is parked only after this many attempts, however old it is: it may have waited while no daemon ran, or while the
/// server was down. With the default first pause of a minute, they span half an hour, which is more than greylisting asks for.
const FEWEST_ATTEMPTS: i32 = 6;

/// The pause if a due mail cannot be claimed, because another daemon is claiming it.
const SHORTEST_REST: Duration = Duration::from_secs(1);

/// The pause while the database is away.
const OUTAGE_REST: Duration = Duration::from_secs(5);

/// Why the outbox could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error(transparent)]
    Connection(#[from] database::Error),
    /// A statement failed.
    #[error("the database refused or lost a statement of the outbox")]
    Database(#[from] tokio_postgres::Error),
    /// No answer.
    #[error("the database did not answer in time")]
    Silent,
}

impl Error {
    /// Whether the same may well succeed a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Connection(error) => error.is_transient(),
            Error::Database(error) => database::is_transient(error),
            Error::Silent => true,
        }
    }
}

/// The outcome of a round of deliveries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Mails that the server took.
    pub sent: u64,
    /// Due mails that wait for another attempt: those that failed, and those that were put off because the server is at fault.
    pub waiting: u64,
    /// Mails that are not tried again.
    pub parked: u64,
    /// The reason of the last failure.
    pub why: Option<String>,
}

/// Writes a mail to the outbox for each recipient of the report, in the transaction that is open: the mails leave if and only
/// if it commits. Returns the number of new mails; 0 if the configuration sends none.
///
/// # Errors
/// If the database fails.
pub async fn write_down(
    transaction: &Transaction<'_>,
    document_id: i64,
    document: &Document,
    mail: &config::Mail,
) -> Result<u64, Error> {
    let Some(from) = sender(&mail.way) else { return Ok(0) };
    let mails: Vec<NewMail> =
        mail.to.get(&document.report).into_iter().flatten().map(|to| NewMail::to(to, 0)).collect();
    if mails.is_empty() {
        return Ok(0);
    }
    let (report, slot) = (document.report.as_str(), document.slot);
    let written = outbox::insert_mails(transaction, document_id, (report, slot), from.email.domain(), &mails).await?;
    Ok(written.len() as u64)
}

/// Writes mails of a document to the outbox again: to all its recipients, or to these. Each has a Message-ID of its own, so
/// that no server takes it for a copy. Returns their numbers; none if there is no such document, if it never had a recipient,
/// or if the configuration sends no mails.
///
/// # Errors
/// If the database fails.
pub async fn resend(
    transaction: &Transaction<'_>,
    document_id: i64,
    to: Option<&[Mailbox]>,
    mail: &config::Mail,
) -> Result<Vec<i64>, Error> {
    let Some(from) = sender(&mail.way) else { return Ok(Vec::new()) };
    let Some((report, slot)) = outbox::lock_document(transaction, document_id).await? else { return Ok(Vec::new()) };
    let before = outbox::load_recipients(transaction, document_id).await?;
    let mails = match to {
        None => before,
        Some(to) => to
            .iter()
            .map(|mailbox| {
                let known = before.iter().find(|known| known.recipient == mailbox.email.as_ref());
                NewMail::to(mailbox, known.map_or(1, |known| known.resend))
            })
            .collect(),
    };
    Ok(outbox::insert_mails(transaction, document_id, (&report, slot), from.email.domain(), &mails).await?)
}

/// Sends the mails that are due at `now`: all of them, or those of one document. Sends none if the configuration says so.
///
/// # Errors
/// If the database fails. Mails sent until then are sent, and the rest wait.
pub async fn deliver(
    database: &Database,
    config: &Config,
    document: Option<i64>,
    now: DateTime<Utc>,
) -> Result<Delivered, Error> {
    Round { database, config, document, now, stop: &CancellationToken::new() }.send_all().await
}

/// Sends due mails until `stop` is cancelled and the mail in hand has ended. It waits while the database is away, and logs
/// that at debug level only, because the scheduler logs it as well.
///
/// Each round uses the configuration that is in force when it begins.
pub async fn serve(database: &Database, mut config: watch::Receiver<Arc<Config>>, stop: CancellationToken) {
    let mut trouble = None;
    while !stop.is_cancelled() {
        let in_force = Arc::clone(&config.borrow_and_update());
        let rest = match send_due_mails(database, &in_force, &stop).await {
            Ok(rest) => {
                trouble = None;
                rest
            }
            Err(error) => {
                let reason = errors::chain(&error);
                if error.is_transient() {
                    debug!(reason, "the outbox cannot be read: {reason}");
                } else if trouble.as_ref() != Some(&reason) {
                    error!(reason, "no mail can be sent: {reason}");
                    trouble = Some(reason);
                }
                OUTAGE_REST
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            Ok(()) = config.changed() => {}
            () = tokio::time::sleep(rest) => {}
        }
    }
}

/// Sends due mails; returns how long to pause.
async fn send_due_mails(database: &Database, config: &Config, stop: &CancellationToken) -> Result<Duration, Error> {
    if sender(&config.mail.way).is_none() {
        return Ok(LONGEST_REST);
    }
    // By the database's clock, so that daemons agree on what is due.
    let (now, next) = outbox::load_next_due(database).await?;
    let due = |next: Option<DateTime<Utc>>, now| next.is_some_and(|next: DateTime<Utc>| next <= now);
    let (now, next) = if due(next, now) {
        Round { database, config, document: None, now, stop }.send_all().await?;
        outbox::load_next_due(database).await?
    } else {
        (now, next)
    };
    let until_next = next.map_or(LONGEST_REST, |next| (next - now).to_std().unwrap_or_default());
    Ok(until_next.clamp(SHORTEST_REST, LONGEST_REST))
}

/// The sender of all mails; none if the configuration sends no mails.
fn sender(way: &MailWay) -> Option<&Mailbox> {
    match way {
        MailWay::None => None,
        MailWay::Directory { from, .. } | MailWay::Smtp { from, .. } => Some(from),
    }
}

/// One round over the due mails.
struct Round<'a> {
    database: &'a Database,
    config: &'a Config,
    document: Option<i64>,
    now: DateTime<Utc>,
    stop: &'a CancellationToken,
}

/// How a failed attempt ended.
enum Ended {
    /// The mail could not be composed, or its document was deleted.
    Unfit(Unfit),
    Failed(Failure),
}

impl Round<'_> {
    async fn send_all(&self) -> Result<Delivered, Error> {
        let mut delivered = Delivered::default();
        let way = &self.config.mail.way;
        let Some(from) = sender(way) else { return Ok(delivered) };
        let longest = transport::longest(way);
        let lease = longest + MARGIN;
        // The recipients of a document come one after the other: it is rendered once for all of them.
        let mut rendered = None;
        while !self.stop.is_cancelled() {
            // Before the claim, so that this attempt ends before the lease does.
            let begun = Instant::now();
            let Some(mail) = outbox::claim_mail(self.database, self.now, lease, self.document).await? else { break };
            match self.attempt(&mail, from, begun + longest, &mut rendered).await {
                Ok(accepted) => {
                    delivered.sent += 1;
                    let written = self.write_sent(&mail, &accepted.answer, begun + lease).await;
                    accepted.say_good_bye().await;
                    written?;
                }
                Err(Ended::Failed(Failure::Stopped)) => {
                    outbox::record_failure(self.database, &mail, false, self.now, None).await?;
                    break;
                }
                Err(ended) => {
                    let go_on = self.write_failed(&mail, ended, &mut delivered).await?;
                    if !go_on {
                        break;
                    }
                }
            }
        }
        Ok(delivered)
    }

    /// One attempt to hand a mail over.
    async fn attempt(
        &self,
        mail: &Claimed,
        from: &Mailbox,
        deadline: Instant,
        rendered: &mut Option<(i64, Arc<Rendered>)>,
    ) -> Result<Accepted, Ended> {
        let rendered = match rendered {
            Some((document, rendered)) if *document == mail.document => Arc::clone(rendered),
            _ => {
                let made = Arc::new(self.render(mail.document).await?);
                *rendered = Some((mail.document, Arc::clone(&made)));
                made
            }
        };
        let file_name = message::file_name(&rendered, mail);
        let (owned, from_owned) = (mail.clone(), from.clone());
        // Attachments may have a hundred megabytes.
        let composing = tokio::task::spawn_blocking(move || message::compose(&rendered, &owned, &from_owned));
        let (to, content) = match composing.await {
            Ok(composed) => composed.map_err(Ended::Unfit)?,
            Err(panic) => return Err(Ended::Failed(Failure::Later(format!("it cannot be composed: {panic}")))),
        };
        let letter = Letter { from: &from.email, to: &to, content, file_name };
        transport::send(&self.config.mail.way, letter, deadline, self.stop).await.map_err(Ended::Failed)
    }

    async fn render(&self, document: i64) -> Result<Rendered, Ended> {
        let kept = match outbox::load_document(self.database, document).await {
            Ok(kept) => kept.ok_or(Ended::Unfit(Unfit::Gone))?,
            Err(error) => {
                let reason = format!("its document cannot be read: {}", errors::chain(&error));
                return Err(Ended::Failed(Failure::Later(reason)));
            }
        };
        let config = self.config.clone();
        // On a thread of its own: drawing takes a while, and a panic must not end the daemon.
        let rendering = tokio::task::spawn_blocking(move || message::render(document, &kept, &config));
        match rendering.await {
            Ok(rendered) => rendered.map_err(Ended::Unfit),
            Err(panic) => Err(Ended::Failed(Failure::Later(format!("its document cannot be rendered: {panic}")))),
        }
    }

    /// Records at once that the server took a mail. While the database is away, this is retried until the lease ends: a mail that
    /// is not recorded as sent is sent again.
    async fn write_sent(&self, mail: &Claimed, answer: &str, until: Instant) -> Result<(), Error> {
        let mut pauses = Backoff::DATABASE.pauses();
        loop {
            let error = match outbox::record_sent(self.database, mail.mail, answer).await {
                Ok(()) => break,
                Err(error) => error,
            };
            if !error.is_transient() || Instant::now() >= until {
                error!(
                    mail = mail.mail,
                    report = mail.report,
                    recipient = mail.recipient,
                    message_id = mail.message_id,
                    reason = errors::chain(&error),
                    "a mail was sent, and that could not be recorded: it will be sent once more, with the same Message-ID"
                );
                return Err(error);
            }
            pauses.sleep().await;
        }
        info!(
            mail = mail.mail,
            report = mail.report,
            document = mail.document,
            recipient = mail.recipient,
            message_id = mail.message_id,
            attempts = mail.attempts,
            answer,
            "{} mailed to {}",
            mail.report,
            mail.recipient
        );
        Ok(())
    }

    /// Records a failed attempt; returns false if no mail can leave for now.
    async fn write_failed(&self, mail: &Claimed, ended: Ended, delivered: &mut Delivered) -> Result<bool, Error> {
        let (for_good, concerns_all, reason, remedy) = match ended {
            Ended::Unfit(unfit @ (Unfit::Gone | Unfit::Recipient(_))) => (true, false, errors::chain(&unfit), None),
            // Another version of pointsd may do better.
            Ended::Unfit(unfit) => (false, false, errors::chain(&unfit), None),
            Ended::Failed(Failure::Refused(said)) => (true, false, said, None),
            Ended::Failed(Failure::Later(reason)) => (false, false, reason, None),
            Ended::Failed(Failure::Server { reason, remedy }) => (false, true, reason, remedy),
            Ended::Failed(Failure::Stopped) => return Ok(false),
        };
        let settings = &self.config.mail;
        let age = (self.now - mail.written).to_std().unwrap_or_default();
        let parked = for_good || age >= settings.give_up_after && mail.attempts >= FEWEST_ATTEMPTS;
        let due = self.now + retry_pause(settings.retry_pause, mail.attempts);
        outbox::record_failure(self.database, mail, parked, due, Some(&reason)).await?;
        if concerns_all {
            let until = self.now + retry_pause(settings.retry_pause, 1);
            let put_off = outbox::put_off_due(self.database, self.now, until).await?;
            let ours = |document: &&i64| self.document.is_none_or(|only| only == **document);
            delivered.waiting += put_off.iter().filter(ours).count() as u64;
        }
        delivered.why = Some(reason.clone());
        match parked {
            true => delivered.parked += 1,
            false => delivered.waiting += 1,
        }
        log_failure(mail, &reason, remedy, (!parked).then_some(due));
        Ok(!concerns_all)
    }
}

/// Logs a failed attempt, and when the next one is due. Without a next one, the mail is parked.
fn log_failure(mail: &Claimed, reason: &str, remedy: Option<String>, next: Option<DateTime<Utc>>) {
    let Claimed { mail: number, document, report, recipient, message_id, attempts, .. } = mail;
    macro_rules! log {
        ($level:ident, $($more:tt)*) => {
            $level!(mail = number, report, recipient, message_id, attempts, reason, $($more)*)
        };
    }
    let again = next.map(|due| time_text(to_microsecond(due)));
    match (again, remedy) {
        (None, _) => log!(
            error,
            "{report} was not mailed to {recipient} and is not tried again: {reason}; `pointsd reports resend {document} \
             --to ADDRESS` sends it to this address again, or to another"
        ),
        (Some(again), Some(remedy)) => log!(error, remedy, again, "mails cannot leave: {reason}; {remedy}"),
        (Some(again), None) => log!(warn, again, "{report} was not mailed to {recipient} yet: {reason}"),
    }
}

/// The pause after so many failed attempts.
fn retry_pause(first: Duration, failed_attempts: i32) -> TimeDelta {
    let pause = Backoff::new(first, LONGEST_PAUSE).pause_after(u32::try_from(failed_attempts).unwrap_or(1));
    TimeDelta::from_std(pause).unwrap_or(TimeDelta::MAX)
}
