//! The database URL: read in one place, so that `pointsd config check` and the connection say the same about it.

use std::error::Error as _;
use std::fmt::{self, Display};
use std::net::IpAddr;

use serde::Deserialize;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

const FORM: &str = "write postgres://user:password@host:5432/database, with characters such as @ : / ? # % of a user or \
                    password percent-encoded";

/// Options that libpq knows and the driver does not. Only these are named in an error: another name may be a piece of a
/// password that was not percent-encoded.
const OPTIONS_OF_LIBPQ_ONLY: [&str; 14] = [
    "passfile",
    "require_auth",
    "client_encoding",
    "fallback_application_name",
    "replication",
    "gssencmode",
    "sslcompression",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslcrl",
    "sslsni",
    "krbsrvname",
    "service",
];

/// A PostgreSQL connection URL that the driver can use. Shown and logged without its password.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct DatabaseUrl {
    text: String,
    parsed: Config,
}

/// What is wrong with a database URL. It repeats nothing of the text, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {remedy}")]
pub struct DatabaseUrlError {
    what: String,
    remedy: &'static str,
}

impl DatabaseUrl {
    /// The whole URL with its password. Never log it.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// The parts in which it differs from another URL, but for user and password. They are named as a URL names them.
    pub fn differences(&self, other: &DatabaseUrl) -> Vec<&'static str> {
        let (ours, others) = (&self.parsed, &other.parsed);
        macro_rules! differing {
            ($($name:literal: $get:ident),+ $(,)?) => {
                [$((ours.$get() != others.$get()).then_some($name)),+]
            };
        }
        let differing = differing! {
            "host": get_hosts,
            "hostaddr": get_hostaddrs,
            "port": get_ports,
            "dbname": get_dbname,
            "sslmode": get_ssl_mode,
            "sslnegotiation": get_ssl_negotiation,
            "channel_binding": get_channel_binding,
            "target_session_attrs": get_target_session_attrs,
            "load_balance_hosts": get_load_balance_hosts,
            "options": get_options,
            "application_name": get_application_name,
            "connect_timeout": get_connect_timeout,
            "tcp_user_timeout": get_tcp_user_timeout,
            "keepalives": get_keepalives,
            "keepalives_idle": get_keepalives_idle,
            "keepalives_interval": get_keepalives_interval,
            "keepalives_retries": get_keepalives_retries,
        };
        differing.into_iter().flatten().collect()
    }

    /// The driver's settings.
    pub(super) fn into_config(self) -> Config {
        self.parsed
    }
}

impl TryFrom<String> for DatabaseUrl {
    type Error = DatabaseUrlError;

    fn try_from(text: String) -> Result<DatabaseUrl, DatabaseUrlError> {
        let wrong = |what: &str, remedy| Err(DatabaseUrlError { what: what.to_owned(), remedy });
        if text.trim().is_empty() {
            let remedy = "leave it out for the private database, or write postgres://user:password@host:5432/database";
            return wrong("is empty", remedy);
        }
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return wrong("is no PostgreSQL URL", FORM);
        }
        match text.parse::<Config>() {
            Ok(parsed) if parsed.get_hosts().is_empty() && parsed.get_hostaddrs().is_empty() => wrong(
                "names no host",
                "write postgres://user:password@host:5432/database, or, for a local socket, \
                 postgres:///database?user=user&host=/var/run/postgresql",
            ),
            // Else a piece of the password would be taken for the host, and shown as such.
            Ok(parsed) if hosts(&parsed).any(|host| host.contains('@')) => {
                wrong("has more than one @", "percent-encode those of the user and password as %40")
            }
            Ok(parsed) if parsed.get_ssl_mode() == SslMode::Disable && sends_password_away(&parsed) => wrong(
                "has a password, which sslmode=disable sends in the clear to another machine",
                "write sslmode=require; disable is for a socket, localhost or a URL without a password",
            ),
            Ok(parsed) => Ok(DatabaseUrl { text, parsed }),
            Err(error) => Err(refused_by_driver(&text, &error)),
        }
    }
}

/// Whether a host of this name is the machine itself. Another name may lead there, too, but not for sure.
pub fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Lets no connection to another machine fall back to plain text if it sends a password.
pub(super) fn protect_password(config: &mut Config) {
    if config.get_ssl_mode() == SslMode::Prefer && sends_password_away(config) {
        config.ssl_mode(SslMode::Require);
    }
}

/// Whether there is a password, and a host that is not this machine.
fn sends_password_away(config: &Config) -> bool {
    let (names, addresses) = (config.get_hosts(), config.get_hostaddrs());
    let is_away = |nth: usize| match (addresses.get(nth), names.get(nth)) {
        // The driver connects to the address, and the name is for the certificate.
        (Some(address), _) => !address.is_loopback(),
        (None, Some(Host::Tcp(name))) => !is_this_machine(name),
        (None, Some(Host::Unix(_)) | None) => false,
    };
    config.get_password().is_some() && (0..names.len().max(addresses.len())).any(is_away)
}

/// The driver's own words are left out: they may quote a part of the password.
fn refused_by_driver(text: &str, error: &tokio_postgres::Error) -> DatabaseUrlError {
    let source = error.source().map(ToString::to_string).unwrap_or_default();
    let names = |option: &str| {
        source.contains(&format!("`{option}`"))
            && ['?', '&'].iter().any(|before| text.contains(&format!("{before}{option}=")))
    };
    if names("sslmode") {
        return DatabaseUrlError {
            what: "sslmode may be disable, prefer or require".to_owned(),
            remedy: "for verify-ca and verify-full write sslmode=require: certificate and host name are always verified",
        };
    }
    if names("sslrootcert") {
        return DatabaseUrlError {
            what: "the option sslrootcert is not understood".to_owned(),
            remedy: "name the certificates' file as database.ca_file, and write sslmode=require",
        };
    }
    match OPTIONS_OF_LIBPQ_ONLY.into_iter().find(|option| names(option)) {
        Some(option) => {
            DatabaseUrlError { what: format!("the option {option} is not understood"), remedy: "leave it out" }
        }
        None => DatabaseUrlError { what: "cannot be read as a URL".to_owned(), remedy: FORM },
    }
}

impl Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        if let Some(user) = self.parsed.get_user() {
            write!(f, "{user}@")?;
        }
        f.write_str(&hosts_and_ports(&self.parsed, None))?;
        match self.parsed.get_dbname() {
            Some(name) => write!(f, "/{name}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

/// As "PostgreSQL at host:5432/database".
pub(super) fn describe(config: &Config) -> String {
    // The driver, like libpq, takes the user's name where no database is given.
    let database = config.get_dbname().or(config.get_user()).unwrap_or("");
    format!("PostgreSQL at {}/{database}", hosts_and_ports(config, Some(5432)))
}

/// The hosts with their ports, and with the `default` port where none is given.
fn hosts_and_ports(config: &Config, default: Option<u16>) -> String {
    let ports = config.get_ports();
    let each = hosts(config).enumerate().map(|(nth, host)| {
        // One port stands for all hosts.
        match ports.get(nth).or(ports.first()).copied().or(default) {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }
    });
    each.collect::<Vec<_>>().join(",")
}

/// The hosts' names, or their addresses where there are only those.
fn hosts(config: &Config) -> impl Iterator<Item = String> {
    let names = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(folder) => folder.display().to_string(),
    });
    let no_names = config.get_hosts().is_empty();
    let addresses = (config.get_hostaddrs().iter()).filter(move |_| no_names);
    names.chain(addresses.map(ToString::to_string))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<DatabaseUrl, DatabaseUrlError> {
        url.to_owned().try_into()
    }

    #[test]
    fn a_url_that_cannot_be_used_says_what_to_write_instead() {
        for (url, words) in [
            ("postgres://u@h/d?sslmode=verify-full", "write sslmode=require"),
            ("postgres://u@h/d?sslrootcert=/ca.pem", "database.ca_file"),
            ("postgres://u@h/d?sslkey=/k", "the option sslkey is not understood"),
            ("postgres:///d", "names no host"),
            ("", "is empty"),
            ("host=h dbname=d", "is no PostgreSQL URL"),
            ("mysql://u:p@h/d", "postgres://user"),
            ("postgres://u@h:port/d", "postgres://user"),
        ] {
            let text = parse(url).unwrap_err().to_string();
            assert!(text.contains(words), "{url}: {text}");
        }
    }

    #[test]
    fn a_password_leaves_this_machine_only_encrypted() {
        let away = ["u:p@h/d", "u:p@10.0.0.1/d", "u:p@localhost,h/d", "u:p@localhost/d?hostaddr=10.0.0.1"];
        let here = [
            "u:p@localhost/d",
            "u:p@127.0.0.2:1/d",
            "u:p@[::1]/d",
            "u:p@%2Frun%2Fpostgresql/d",
            "u:p@h/d?hostaddr=127.0.0.1",
            "u@h/d",
        ];
        for (urls, refused) in [(&away[..], true), (&here[..], false)] {
            for url in urls {
                let with = |mode: &str| {
                    parse(&format!("postgres://{url}{}sslmode={mode}", if url.contains('?') { '&' } else { '?' }))
                };
                let disabled = with("disable").map_err(|error| error.to_string());
                assert_eq!(disabled.is_err_and(|said| said.contains("write sslmode=require")), refused, "{url}");
                let mut config = with("prefer").unwrap().into_config();
                protect_password(&mut config);
                assert_eq!(config.get_ssl_mode() == SslMode::Require, refused, "{url}");
            }
        }
    }

    #[test]
    fn the_differences_of_two_urls_are_named_but_not_their_logins() {
        let url = |text| parse(text).unwrap();
        let old = url("postgres://u:p@a:1,b/d?sslmode=require");
        let new = url("postgres://v@a,b/e?sslmode=require&connect_timeout=3&options=-cwork_mem%3D1MB");
        assert_eq!(old.differences(&new), ["port", "dbname", "options", "connect_timeout"]);
        assert_eq!(old.differences(&url("postgres://v:q@a:1,b/d?sslmode=require")), [""; 0]);
    }

    #[test]
    fn no_message_holds_a_piece_of_the_password() {
        let url = parse("postgres://user:hunter2@a:1,b:2/points").unwrap();
        assert_eq!(url.to_string(), "postgres://user@a:1,b:2/points");
        assert_eq!(describe(&url.into_config()), "PostgreSQL at a:1,b:2/points");
        for url in [
            "postgres://user:hunt@er2@host/d",
            "postgres://user:hunt@er2@host/d?sslmode=x",
            "postgres://user:hunt?er2=sslkey&er2@host/d",
            "host=h password=hunt er2=1",
            "postgres://user:%hunter2@host:er2/d",
            "postgres://user:er2@host/d?sslmode=er2",
            "postgres://user:er2?x@host/d?sslrootcert=x",
            "postgres://user:hunt/er2@host/d",
            "postgres://user:hunt#er2@host/d",
            "postgres://user:hunt?er2@host/d",
            "postgres://user:hunt,er2@host/d",
            "postgres://user:hunt:er2@host/d",
        ] {
            let said = match parse(url) {
                Ok(url) => format!("{url} {url:?} {}", describe(&url.clone().into_config())),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!said.contains("er2") && !said.contains("hunt"), "{url}: {said}");
        }
    }
}
