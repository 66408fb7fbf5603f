//! The ways a mail leaves: to a server by SMTP, or as a file.
//!
//! A failure says what it concerns: this mail for good, this mail for now, or every mail, because the server is at fault.

use std::error::Error as _;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::{Code, Response};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::config::{MailWay, Security, Smtp};
use crate::errors;
use crate::private_files::{Folder, OWNER_ONLY};
use crate::scheduler::host_name;

/// A whole delivery may last this many times as long as one step. Handing over a large mail, and the server's check of it, may
/// take the time that the other steps left.
const STEPS: u32 = 8;

/// A folder that takes no file within this time counts as failed.
const FILE: Duration = Duration::from_secs(60);

/// Time for a polite end of the connection: the server has the mail already.
const GOOD_BYE: Duration = Duration::from_secs(2);

/// The most of a server's answer that is stored, in characters.
const LONGEST_ANSWER: usize = 500;

/// Why a mail did not leave.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server refused it for good: its words.
    Refused(String),
    /// Not for now; others may leave.
    Later(String),
    /// No mail can leave for now.
    Server {
        /// What happened.
        reason: String,
        /// What an operator has to change, if waiting alone does not help.
        remedy: Option<String>,
    },
    /// The daemon stops; nothing was handed over.
    Stopped,
}

/// A mail that the server took.
pub(super) struct Accepted {
    /// What the server answered.
    pub answer: String,
    connection: Option<AsyncSmtpConnection>,
}

impl Accepted {
    /// Ends the connection. This comes last, so that nothing delays the record of the server's answer.
    pub(super) async fn say_good_bye(self) {
        if let Some(mut connection) = self.connection {
            timeout(GOOD_BYE, connection.abort()).await.ok();
        }
    }
}

/// A mail, ready to leave.
pub(super) struct Letter<'a> {
    pub from: &'a Address,
    pub to: &'a Address,
    /// The bytes for the server, or for the file.
    pub content: Vec<u8>,
    /// The name of its file.
    pub file_name: String,
}

/// The longest time of a delivery.
pub(super) fn longest(way: &MailWay) -> Duration {
    match way {
        MailWay::Smtp { smtp, .. } => smtp.timeout * STEPS,
        MailWay::Directory { .. } | MailWay::None => FILE,
    }
}

/// Hands a mail over, before `deadline`. `stop` ends the attempt until the content is being sent; then the attempt goes on to its
/// end.
pub(super) async fn send(
    way: &MailWay,
    letter: Letter<'_>,
    deadline: Instant,
    stop: &CancellationToken,
) -> Result<Accepted, Failure> {
    match way {
        MailWay::None => Err(Failure::Stopped),
        MailWay::Directory { folder, .. } => {
            let (shown, folder) = (folder.join(&letter.file_name).display().to_string(), folder.clone());
            let written = tokio::task::spawn_blocking(move || write(&folder, &letter.file_name, &letter.content));
            let hangs = || Err(io::Error::new(io::ErrorKind::TimedOut, "it hangs"));
            let written = match timeout_at(deadline, written).await {
                Ok(Ok(written)) => written,
                Ok(Err(panic)) => Err(io::Error::other(panic)),
                Err(_) => hangs(),
            };
            match written {
                Ok(()) => Ok(Accepted { answer: shown, connection: None }),
                Err(error) => Err(Failure::Server {
                    reason: format!("{shown} cannot be written: {error}"),
                    remedy: Some("see to the folder mail.directory, its rights and the disk".to_owned()),
                }),
            }
        }
        MailWay::Smtp { smtp, .. } => Talk { smtp, deadline, stop }.send(letter).await,
    }
}

/// A half-written file is never found. A copy of the mail replaces its file.
fn write(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    Folder::make(folder, OWNER_ONLY)?.write(name, content, None)
}

/// One delivery to a server.
struct Talk<'a> {
    smtp: &'a Smtp,
    deadline: Instant,
    stop: &'a CancellationToken,
}

/// How a failed step ended.
enum Trouble {
    Stopped,
    /// No answer within this time.
    Silent(Duration),
    Failed(smtp::Error),
}

impl Talk<'_> {
    async fn send(&self, letter: Letter<'_>) -> Result<Accepted, Failure> {
        let mut connection = self.connect().await?;
        self.log_in(&mut connection).await?;
        let mail = Mail::new(Some(letter.from.clone()), Vec::new());
        self.step(connection.command(mail)).await.map_err(|trouble| self.of_mail("MAIL", trouble))?;
        let recipient = Rcpt::new(letter.to.clone(), Vec::new());
        self.step(connection.command(recipient)).await.map_err(|trouble| self.of_mail("RCPT", trouble))?;
        self.step(connection.command(Data)).await.map_err(|trouble| self.of_mail("DATA", trouble))?;
        // After the deadline another daemon may claim the mail: a process that was frozen must not go on.
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.of_mail("DATA", Trouble::Silent(longest_of(self.smtp))));
        }
        let response = match timeout_at(self.deadline, connection.message(&letter.content)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.status().is_some() => {
                return Err(self.of_mail("the mail", Trouble::Failed(error)));
            }
            Ok(Err(error)) => {
                let what = cut(&telling(&error));
                return Err(Failure::Later(format!(
                    "the connection broke while the mail was handed over, so whether it was taken is not known: {what}"
                )));
            }
            Err(_) => {
                let reason = format!(
                    "the server did not answer within {} s after the mail was handed over, so whether it was taken is not known",
                    left.as_secs()
                );
                return Err(Failure::Server { reason, remedy: None });
            }
        };
        Ok(Accepted { answer: words(response.code(), &said(&response)), connection: Some(connection) })
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Failure> {
        let Smtp { host, port, security, .. } = self.smtp;
        let hello = hello_name();
        let mut tls = match security {
            Security::None => None,
            Security::StartTls | Security::Tls => Some(self.tls()?),
        };
        let wrapper = tls.take_if(|_| *security == Security::Tls);
        let server = (host.as_str(), *port);
        // A name may have several addresses: a silent one must leave time for another.
        let each = Some(self.smtp.timeout / 2);
        let connecting = AsyncSmtpConnection::connect_tokio1(server, each, &hello, wrapper, None);
        let mut connection =
            self.step(connecting).await.map_err(|trouble| self.of_server("cannot be reached", trouble))?;
        if let Some(tls) = tls {
            if !connection.can_starttls() {
                return Err(Failure::Server {
                    reason: format!("{host}:{port} offers no STARTTLS, and nothing is sent in the clear"),
                    remedy: Some("set mail.smtp.security to tls, or mail.smtp.port to one with STARTTLS".to_owned()),
                });
            }
            let encrypted = self.step(connection.starttls(tls, &hello)).await;
            encrypted.map_err(|trouble| self.of_server("does not encrypt", trouble))?;
        }
        Ok(connection)
    }

    fn tls(&self) -> Result<TlsParameters, Failure> {
        let Smtp { host, ca_file, .. } = self.smtp;
        let wrong = |reason: String| Failure::Server { reason, remedy: Some("see mail.smtp.ca_file".to_owned()) };
        let mut builder = TlsParameters::builder(host.clone());
        if let Some(file) = ca_file {
            let pem = fs::read(file).map_err(|error| wrong(format!("{} cannot be read: {error}", file.display())))?;
            let certificate = Certificate::from_pem(&pem)
                .map_err(|error| wrong(format!("{} holds no certificates (PEM): {error}", file.display())))?;
            builder = builder.certificate_store(CertificateStore::None).add_root_certificate(certificate);
        }
        builder.build().map_err(|error| wrong(format!("the certificates to trust cannot be used: {error}")))
    }

    async fn log_in(&self, connection: &mut AsyncSmtpConnection) -> Result<(), Failure> {
        let Some((user, password)) = &self.smtp.login else { return Ok(()) };
        let Smtp { host, port, .. } = self.smtp;
        let credentials = Credentials::new(user.clone(), password.reveal().to_owned());
        match self.step(connection.auth(DEFAULT_MECHANISMS, &credentials)).await {
            Ok(_) => Ok(()),
            Err(Trouble::Failed(error)) if error.is_permanent() => Err(Failure::Server {
                reason: format!("{host}:{port} refuses the login of {user}: {}", cut(&telling(&error))),
                remedy: Some("see mail.smtp.user and its password".to_owned()),
            }),
            Err(Trouble::Failed(error)) if error.is_client() => Err(Failure::Server {
                reason: format!("{host}:{port} offers no login by PLAIN or LOGIN"),
                remedy: Some("set mail.smtp.user to null, or mail.smtp.port to one for users who log in".to_owned()),
            }),
            Err(trouble) => Err(self.of_server("does not let us in", trouble)),
        }
    }

    /// Runs a step within its time.
    async fn step<T>(&self, work: impl Future<Output = Result<T, smtp::Error>>) -> Result<T, Trouble> {
        let begun = Instant::now();
        let until = self.deadline.min(begun + self.smtp.timeout);
        // The deadline comes first: a future that is ready would go before a timer that has run out.
        if begun >= self.deadline {
            return Err(Trouble::Silent(longest_of(self.smtp)));
        }
        match self.stop.run_until_cancelled(timeout_at(until, work)).await {
            None => Err(Trouble::Stopped),
            Some(Err(_)) => Err(Trouble::Silent(until - begun)),
            Some(Ok(done)) => done.map_err(Trouble::Failed),
        }
    }

    /// A failure before the server knew the recipient.
    fn of_server(&self, what: &str, trouble: Trouble) -> Failure {
        let Smtp { host, port, .. } = self.smtp;
        match trouble {
            Trouble::Stopped => Failure::Stopped,
            Trouble::Silent(time) => Failure::Server {
                reason: format!("{host}:{port} {what}: it did not answer within {} s", time.as_secs()),
                remedy: None,
            },
            Trouble::Failed(error) => Failure::Server {
                reason: format!("{host}:{port} {what}: {}", cut(&telling(&error))),
                remedy: errors::certificate_remedy(&error, "mail.smtp.host", "mail.smtp.ca_file"),
            },
        }
    }

    /// A failure of this mail, at this command.
    fn of_mail(&self, command: &str, trouble: Trouble) -> Failure {
        let error = match trouble {
            Trouble::Failed(error) if error.status().is_some() => error,
            Trouble::Failed(error) => {
                return Failure::Later(format!("the connection broke at {command}: {}", cut(&telling(&error))));
            }
            other => return self.of_server(&format!("hangs at {command}"), other),
        };
        let said = cut(&telling(&error));
        match error.status().map_or(0, u16::from) {
            // The server closes the connection to every client.
            421 => Failure::Server { reason: format!("the server is going away: {said}"), remedy: None },
            // Not the recipient's fault.
            530 => Failure::Server {
                reason: format!("the server wants a login or TLS first: {said}"),
                remedy: Some("set mail.smtp.user and its password, and mail.smtp.security".to_owned()),
            },
            500.. => Failure::Refused(said),
            _ => Failure::Later(said),
        }
    }
}

fn longest_of(smtp: &Smtp) -> Duration {
    smtp.timeout * STEPS
}

/// The name for EHLO: the host's name if it is a full one, because servers may refuse a short one.
fn hello_name() -> ClientId {
    let name = host_name();
    let is_full = name.contains('.') && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
    if is_full { ClientId::Domain(name) } else { ClientId::default() }
}

/// `550 5.1.1 No such user`
fn words(code: Code, said: &str) -> String {
    cut(&format!("{code} {said}"))
}

fn said(response: &Response) -> String {
    response.message().collect::<Vec<_>>().join(" ")
}

/// What went wrong, in the server's words if there are any.
fn telling(error: &smtp::Error) -> String {
    if let Some(code) = error.status() {
        let said = error.source().map(ToString::to_string).unwrap_or_default();
        return format!("{code} {said}");
    }
    // The text of each error in the chain repeats its kind; the last cause alone says what went wrong.
    let cause = errors::causes(error).last().map(ToString::to_string).unwrap_or_default();
    if cause == "incomplete response" { "the server closed the connection".to_owned() } else { cause }
}

/// The text of another program, on one line and cut.
fn cut(text: &str) -> String {
    let line = text.split(|c: char| c.is_control() || c == ' ').filter(|word| !word.is_empty());
    line.collect::<Vec<_>>().join(" ").chars().take(LONGEST_ANSWER).collect()
}
