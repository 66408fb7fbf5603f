//! `http`: where the daemon listens for calls.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

use super::values::path;
use crate::yaml::{self, Lines};

/// Where the daemon listens for HTTP; both None: nowhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Http {
    /// The address.
    pub listen: Option<Listen>,
    /// The certificate, where calls come over TLS.
    pub tls: Option<TlsFiles>,
    /// The address of the status page for readers of mails, without a slash at its end.
    pub public_url: Option<String>,
}

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, and those that lead to its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(address) => write!(f, "{address}"),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Listen, String> {
        match text.strip_prefix("unix:") {
            Some(path) if Path::new(path).is_absolute() => Ok(Listen::Unix(path.into())),
            Some(path) => Err(format!("{path:?} is no whole path; write one such as unix:/run/pointsd/http.sock")),
            None => text.parse().map(Listen::Tcp).map_err(|_| {
                format!("{text:?} is no address; write 127.0.0.1:8650, [::1]:8650 or unix:/run/pointsd/http.sock")
            }),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileHttp {
    #[serde(deserialize_with = "listen")]
    listen: Option<Listen>,
    pub(super) tls: FileTls,
    #[serde(deserialize_with = "public_url")]
    public_url: Option<String>,
}

/// The address of a page: http or https, a host, perhaps a port and a path.
fn public_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let Some(url) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let fits = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        && !url.contains(|c: char| c.is_whitespace() || c.is_control() || "#?@\"<>".contains(c));
    if fits {
        return Ok(Some(url.trim_end_matches('/').to_owned()));
    }
    Err(de::Error::custom(format_args!(
        "{url:?} is no address of a page; write one such as https://points.example.com, or null"
    )))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileTls {
    #[serde(deserialize_with = "path")]
    pub(super) certificate: Option<PathBuf>,
    #[serde(deserialize_with = "path")]
    pub(super) key: Option<PathBuf>,
}

fn listen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Listen>, D::Error> {
    let written = Option::<String>::deserialize(deserializer)?;
    written.map(|written| written.parse()).transpose().map_err(de::Error::custom)
}

impl FileHttp {
    pub(super) fn check(self, lines: &Lines) -> Result<Http, yaml::Error> {
        let tls = match (self.tls.certificate, self.tls.key) {
            (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
            (None, None) => None,
            (Some(_), None) => {
                return Err(lines.error("http.tls.key", "a certificate needs its key", "name the PEM file of the key"));
            }
            (None, Some(_)) => {
                let what = "a key needs its certificate";
                return Err(lines.error("http.tls.certificate", what, "name the PEM file of the certificate"));
            }
        };
        match &self.listen {
            Some(Listen::Tcp(address)) if !address.ip().is_loopback() && tls.is_none() => {
                let what = format_args!(
                    "{address} is reached from other machines, and tokens would travel there in the clear"
                );
                let remedy =
                    "name a certificate and a key under http.tls, or listen on 127.0.0.1 behind a proxy that has TLS";
                Err(lines.error("http.listen", what, remedy))
            }
            Some(Listen::Unix(_)) if tls.is_some() => {
                let what = "a Unix socket needs no TLS, which leaves no machine";
                Err(lines.error("http.tls", what, "leave it out, or listen on an address"))
            }
            _ => Ok(Http { listen: self.listen, tls, public_url: self.public_url }),
        }
    }
}
