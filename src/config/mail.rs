//! How mails leave: the section `mail`.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lettre::Address;
use lettre::message::Mailbox;
use serde::de::{self, Error as _};
use serde::{Deserialize, Deserializer};

use super::{Word, between, path, seconds};
use crate::database::url::is_this_machine;
use crate::yaml::{self, Lines};

/// How mails leave.
#[derive(Debug, Clone)]
pub struct Mail {
    /// The way that mails leave.
    pub way: MailWay,
    /// The recipients of each report, by the report's name.
    pub to: BTreeMap<String, Vec<Mailbox>>,
    /// The pause before the second attempt at a mail; it doubles each time.
    pub retry_pause: Duration,
    /// The age at which a mail is parked instead of retried.
    pub give_up_after: Duration,
    /// The most bytes of all attachments of a mail together. Attachments beyond that are left out.
    pub attachments_limit: u64,
}

/// The way that mails leave.
#[derive(Debug, Clone)]
pub enum MailWay {
    /// No mails are written.
    None,
    /// Mails are written as files.
    Directory {
        /// The folder.
        folder: PathBuf,
        /// The sender.
        from: Mailbox,
    },
    /// Mails go to a server.
    Smtp {
        /// The server.
        smtp: Smtp,
        /// The sender.
        from: Mailbox,
    },
}

/// A mail server, and how to talk to it.
#[derive(Debug, Clone)]
pub struct Smtp {
    /// Its name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether and when the connection is encrypted.
    pub security: Security,
    /// User and password; None: no login.
    pub login: Option<(String, Secret)>,
    /// PEM certificates to trust; None: the system's.
    pub ca_file: Option<PathBuf>,
    /// The longest time of each step of a delivery.
    pub timeout: Duration,
}

/// Whether and when a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Encrypted after the server's greeting; without STARTTLS nothing is sent.
    StartTls,
    /// Encrypted from the first byte on.
    Tls,
    /// Not encrypted: allowed for a server on the same machine only.
    None,
}

impl Display for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Security::StartTls => "starttls",
            Security::Tls => "tls",
            Security::None => "none",
        })
    }
}

/// A password, hidden from logs and from `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text. Never log it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The section as written in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileMail {
    #[serde(deserialize_with = "mail_mode")]
    mode: FileMailMode,
    #[serde(deserialize_with = "address")]
    from: Option<Mailbox>,
    to: FileMailTo,
    #[serde(deserialize_with = "path")]
    pub(super) directory: Option<PathBuf>,
    pub(super) smtp: FileSmtp,
    #[serde(rename = "retry_seconds", deserialize_with = "seconds::<3600, _>")]
    retry_pause: Duration,
    #[serde(deserialize_with = "between::<1, 720, _, _>")]
    give_up_hours: u64,
    #[serde(deserialize_with = "between::<1, 100, _, _>")]
    attachments_megabytes: u64,
}

#[derive(Clone, Copy)]
enum FileMailMode {
    None,
    Directory,
    Smtp,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileMailTo {
    #[serde(deserialize_with = "addresses")]
    expiry: Vec<Mailbox>,
    #[serde(deserialize_with = "addresses")]
    reconciliation: Vec<Mailbox>,
    #[serde(deserialize_with = "addresses")]
    arrears: Vec<Mailbox>,
    /// None: the recipients of reconciliation.
    #[serde(deserialize_with = "addresses_if_any")]
    month_end: Option<Vec<Mailbox>>,
    adoption: Option<Vec<Mailbox>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileSmtp {
    host: Option<String>,
    #[serde(deserialize_with = "port")]
    port: Option<u16>,
    #[serde(deserialize_with = "security")]
    security: Security,
    user: Option<String>,
    #[serde(deserialize_with = "secret")]
    password: Option<Secret>,
    #[serde(deserialize_with = "path")]
    pub(super) ca_file: Option<PathBuf>,
    #[serde(rename = "timeout_seconds", deserialize_with = "seconds::<600, _>")]
    timeout: Duration,
}

/// Checks the section. A password from outside the file comes before the file's.
pub(super) fn mail_settings(
    file: FileMail,
    state_dir: &Path,
    password: Option<String>,
    lines: &Lines,
) -> Result<Mail, yaml::Error> {
    let from = |mode: &str| {
        let what = format_args!("mails of mode {mode} need a sender");
        let remedy = "write an address, such as \"Points <points@example.com>\"";
        file.from.clone().ok_or_else(|| lines.error("mail.from", what, remedy))
    };
    let way = match file.mode {
        FileMailMode::None => MailWay::None,
        FileMailMode::Directory => MailWay::Directory {
            from: from("directory")?,
            folder: file.directory.unwrap_or_else(|| state_dir.join("mail")),
        },
        FileMailMode::Smtp => MailWay::Smtp { from: from("smtp")?, smtp: smtp(file.smtp, password, lines)? },
    };
    let FileMailTo { expiry, reconciliation, arrears, month_end, adoption } = file.to;
    let month_end = month_end.unwrap_or_else(|| reconciliation.clone());
    let adoption = adoption.unwrap_or_else(|| reconciliation.clone());
    let to = [
        ("expiry", expiry),
        ("reconciliation", reconciliation),
        ("arrears", arrears),
        ("month_end", month_end),
        ("adoption", adoption),
    ];
    for (report, recipients) in &to {
        let twice = recipients
            .iter()
            .enumerate()
            .find(|(place, one)| recipients.iter().take(*place).any(|before| is_same(&before.email, &one.email)));
        if let Some((place, one)) = twice {
            let what = format_args!("{} is listed twice", one.email);
            return Err(lines.error(&format!("mail.to.{report}[{place}]"), what, "keep one of the two"));
        }
    }
    Ok(Mail {
        way,
        to: to.into_iter().map(|(report, recipients)| (report.to_owned(), recipients)).collect(),
        retry_pause: file.retry_pause,
        give_up_after: Duration::from_secs(file.give_up_hours * 3600),
        attachments_limit: file.attachments_megabytes * 1_000_000,
    })
}

/// Whether two addresses reach the same mailbox. Case is ignored, because servers ignore it in practice.
fn is_same(one: &Address, other: &Address) -> bool {
    AsRef::<str>::as_ref(one).eq_ignore_ascii_case(other.as_ref())
}

fn smtp(file: FileSmtp, password: Option<String>, lines: &Lines) -> Result<Smtp, yaml::Error> {
    let host = file.host.ok_or_else(|| {
        let what = "mails of mode smtp need a server";
        lines.error("mail.smtp.host", what, "write its name, such as smtp.example.com")
    })?;
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if !is_address && (host.is_empty() || !host.chars().all(fits)) {
        let what = format_args!("{host:?} is no name of a server");
        let remedy = if host.is_ascii() {
            "write the name alone, such as smtp.example.com; the port goes to mail.smtp.port"
        } else {
            "write its ASCII form, which starts with xn--"
        };
        return Err(lines.error("mail.smtp.host", what, remedy));
    }
    if file.security == Security::None && !is_this_machine(&host) {
        let what = format_args!("mails to {host} would travel in the clear");
        return Err(lines.error("mail.smtp.security", what, "write starttls or tls; none is for localhost only"));
    }
    let password = password.map(Secret).or(file.password);
    let login = match (file.user, password) {
        (Some(user), Some(password)) => Some((user, password)),
        (Some(user), None) => {
            let what = format_args!("there is no password for {user}");
            let remedy = "give POINTSD_SMTP_PASSWORD, the credential smtp-password or mail.smtp.password; or write null for no login";
            return Err(lines.error("mail.smtp.user", what, remedy));
        }
        // A password without a user is allowed: the credential may be set up for several configurations.
        (None, _) => None,
    };
    if let Some((user, password)) = &login
        && (user.is_empty() || [user.as_str(), password.reveal()].iter().any(|text| text.contains(char::is_control)))
    {
        // The message does not say which of the two is wrong, because the password is a secret.
        let what = "user and password must be on one line, and the user not empty";
        return Err(lines.error("mail.smtp.user", what, "write them without line ends; or write null for no login"));
    }
    let port = file.port.unwrap_or(match file.security {
        Security::StartTls => 587,
        Security::Tls => 465,
        Security::None => 25,
    });
    Ok(Smtp { host, port, security: file.security, login, ca_file: file.ca_file, timeout: file.timeout })
}

fn mail_mode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<FileMailMode, D::Error> {
    let words = [("none", FileMailMode::None), ("directory", FileMailMode::Directory), ("smtp", FileMailMode::Smtp)];
    deserializer.deserialize_any(Word { words: &words, remedy: "smtp, directory or none" })
}

fn security<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Security, D::Error> {
    let words = [("starttls", Security::StartTls), ("tls", Security::Tls), ("none", Security::None)];
    deserializer.deserialize_any(Word { words: &words, remedy: "starttls, tls or none" })
}

fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    let Some(written) = Option::<i64>::deserialize(deserializer)? else { return Ok(None) };
    between::<1, 65_535, _, _>(de::IntoDeserializer::into_deserializer(written)).map(Some)
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty()).map(Secret))
}

/// Parses one mail address, with or without a name: `Finance <finance@example.com>`. lettre's own parser is not used:
/// it stops at the first text that it does not understand, and so takes only the first of two addresses.
///
/// # Errors
/// If it is no mail address, or not in ASCII: many servers refuse other addresses.
pub fn parse_mailbox(written: &str) -> Result<Mailbox, String> {
    let (name, address) = match written.trim().strip_suffix('>').and_then(|rest| rest.rsplit_once('<')) {
        Some((name, address)) => (name.trim(), address),
        None => ("", written.trim()),
    };
    let quoted = name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let name = quoted.unwrap_or(name);
    let plain = !name.contains(|c: char| c.is_control() || matches!(c, '<' | '>' | '"'));
    match address.parse::<Address>().ok().filter(|email| plain && email.user().is_ascii()) {
        Some(email) if email.domain().is_ascii() => {
            Ok(Mailbox::new((!name.is_empty()).then(|| name.to_owned()), email))
        }
        Some(email) => Err(format!(
            "the domain {} is not in ASCII, and many servers refuse it; write its ASCII form, which starts with xn--",
            email.domain()
        )),
        None => Err(format!(
            "{written:?} is no mail address; write one, such as finance@example.com or \"Finance <finance@example.com>\""
        )),
    }
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Mailbox>, D::Error> {
    Option::<String>::deserialize(deserializer)?
        .map(|written| parse_mailbox(&written).map_err(D::Error::custom))
        .transpose()
}

fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Mailbox>, D::Error> {
    /// Each address is parsed as a value of its own, so that an error names its line.
    #[derive(Deserialize)]
    struct One(#[serde(deserialize_with = "one_address")] Mailbox);
    Ok(Vec::<One>::deserialize(deserializer)?.into_iter().map(|One(mailbox)| mailbox).collect())
}

fn addresses_if_any<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Mailbox>>, D::Error> {
    #[derive(Deserialize)]
    struct All(#[serde(deserialize_with = "addresses")] Vec<Mailbox>);
    Ok(Option::<All>::deserialize(deserializer)?.map(|All(mailboxes)| mailboxes))
}

fn one_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mailbox, D::Error> {
    parse_mailbox(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}
