//! Errors as one line of text, their causes, and what to do about them.

use std::error::Error;
use std::io;

use rustls::CertificateError;
use tokio_postgres::error::SqlState;

/// An error, its causes and what to do next on one line, for a log: Display of an error of ours never includes its source.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    if let Some(remedy) = database_remedy(error) {
        text.push_str("; ");
        text.push_str(remedy);
    }
    text
}

/// What to do about a right that the database role lacks, or about a pooler in the way; None if neither is the cause.
pub fn database_remedy(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let code = causes(error).find_map(|cause| cause.downcast_ref::<tokio_postgres::Error>()?.code())?;
    Some(match *code {
        SqlState::INSUFFICIENT_PRIVILEGE => {
            "the schema's owner gives a role its rights with pointsd db grant --daemon ROLE, --application ROLE or --reader \
             ROLE; migrations and repairs need the owner itself"
        }
        SqlState::INVALID_SQL_STATEMENT_NAME | SqlState::DUPLICATE_PSTATEMENT => {
            "a pooler seems to give each transaction another session; let it pool sessions (in PgBouncer pool_mode = session), \
             or name the server itself in database.url"
        }
        _ => return None,
    })
}

/// An error and its causes. An [`io::Error`] shows the error that it wraps only through `get_ref`.
pub fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner as &(dyn Error + 'static)),
        None => error.source(),
    })
}

/// What to do about a server's certificate that was refused; None if that is not the cause. `host` and `ca_file` are the
/// configuration keys of the server's name and of the trusted certificates.
pub fn certificate_remedy(error: &(dyn Error + 'static), host: &str, ca_file: &str) -> Option<String> {
    let refused = causes(error).find_map(|cause| match cause.downcast_ref() {
        Some(rustls::Error::InvalidCertificate(refused)) => Some(refused),
        _ => None,
    })?;
    Some(match refused {
        CertificateError::UnknownIssuer => format!(
            "its certificate comes from an authority that is not trusted; give the authority's certificate (PEM) as {ca_file}"
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("its certificate is for another host; write the name in the certificate as the host in {host}")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired; renew it, or check the clock of this machine".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet; check the clocks of both machines".to_owned()
        }
        _ => format!(
            "its certificate is refused; it must be a server's, not an authority's, signed by an authority of this machine \
             or of {ca_file}"
        ),
    })
}
