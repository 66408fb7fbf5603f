//! Errors as one line of text, their causes, and what to do about them.

use std::error::Error;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustls::CertificateError;
use tokio_postgres::error::{DbError, SqlState};

/// An error, its causes and what to do next on one line, for a log.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = reasons(error).join(": ");
    if let Some(remedy) = database_remedy(error) {
        text.push_str("; ");
        text.push_str(remedy);
    }
    text
}

/// What an error and each of its causes say: Display of an error of ours never includes its source. A refusal of the database is told in
/// the words of the database; its hint is a remedy.
pub fn reasons(error: &(dyn Error + 'static)) -> Vec<String> {
    let errors = std::iter::successors(Some(error), |&error| error.source());
    let words = errors.filter_map(|error| match (error.downcast_ref::<DbError>(), error.downcast_ref()) {
        (Some(refusal), _) => {
            let detail = refusal.detail().map(|detail| format!(" ({})", detail.replace('\n', " ")));
            Some(format!("{}: {}{}", refusal.severity(), refusal.message(), detail.unwrap_or_default()))
        }
        // The driver says only that it has one.
        (None, Some(driver)) if tokio_postgres::Error::as_db_error(driver).is_some() => None,
        (None, _) => Some(error.to_string()),
    });
    words.collect()
}

/// What to do about a right that the database role lacks, about a pooler in the way, or what the database's own hint says.
pub fn database_remedy<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a str> {
    let refusal = causes(error).find_map(|cause| cause.downcast_ref::<DbError>())?;
    Some(match *refusal.code() {
        SqlState::INSUFFICIENT_PRIVILEGE => {
            "the schema's owner gives a role its rights with pointsd db grant --daemon ROLE, --application ROLE or --reader \
             ROLE; migrations and repairs need the owner itself"
        }
        SqlState::INVALID_SQL_STATEMENT_NAME | SqlState::DUPLICATE_PSTATEMENT => {
            "a pooler seems to give each transaction another session; let it pool sessions (in PgBouncer pool_mode = session), \
             or name the server itself in database.url"
        }
        _ => return refusal.hint(),
    })
}

/// An error and its causes. An [`io::Error`] shows the error that it wraps only through `get_ref`.
pub fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner as &(dyn Error + 'static)),
        None => error.source(),
    })
}

/// What to do about a file that may not be read: its owner is named, or that of the folder which is closed. None if its
/// rights are not the cause.
pub fn rights_remedy(file: &Path, error: &io::Error) -> Option<String> {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return None;
    }
    let (rights, owner) = rights_of(file)?;
    let who = if owner == "root" { owner } else { format!("{owner} or as root") };
    Some(format!("{rights}; run pointsd as {who}, or give its user the right to read"))
}

/// The owner and the mode of a file, or of the folder that hides it, in words; and the owner alone.
pub fn rights_of(file: &Path) -> Option<(String, String)> {
    let (path, found) = file.ancestors().find_map(|path| Some((path, std::fs::metadata(path).ok()?)))?;
    let owner = nix::unistd::User::from_uid(found.uid().into()).ok().flatten();
    let owner = owner.map_or_else(|| format!("user {}", found.uid()), |user| user.name);
    let what = if path == file { "it".to_owned() } else { path.display().to_string() };
    Some((format!("{what} belongs to {owner} (mode {:o})", found.mode() & 0o777), owner))
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_may_not_be_read_is_named_with_its_owner() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let said = rights_remedy(Path::new("/etc/passwd"), &denied).unwrap();
        assert_eq!(said, "it belongs to root (mode 644); run pointsd as root, or give its user the right to read");
        let said = rights_remedy(Path::new("/etc/there/is/none"), &denied).unwrap();
        assert!(said.starts_with("/etc belongs to root (mode 755); "), "{said}");
        assert_eq!(rights_remedy(Path::new("/etc/passwd"), &io::ErrorKind::NotFound.into()), None);
    }
}
