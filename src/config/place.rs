//! Where a call finds its configuration, its secrets and its state folder, and how a command outside the service finds the service's
//! database.
//!
//! The service manager hands the secrets to the daemon. A command that an operator types has none of them, so it reads the files
//! from which the unit takes them. Otherwise it would work on another database than the daemon, without a word.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::{ConfigError, Source};
use crate::errors;

/// The folder of the service's configuration; `systemd/pointsd.service` names the files in it.
const SERVICE_FOLDER: &str = "/etc/pointsd";
/// The configuration's file, there and in a user's own folder.
const FILE: &str = "pointsd.yaml";
/// Where units are installed.
const UNITS: [&str; 3] = ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];

/// The configuration's text and its origin.
pub(super) struct Found {
    pub source: Source,
    pub text: String,
    /// The service whose configuration this is; none within the service, and with a configuration of the caller's own.
    pub service: Option<Service>,
}

/// The variables and the user that decide where to look.
pub(super) struct Caller<'a> {
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    pub is_root: bool,
}

impl Caller<'_> {
    /// A folder that a variable names; none unless its path is absolute.
    fn folder(&self, name: &str) -> Option<PathBuf> {
        (self.variable)(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    /// The file in the caller's own folder. Root has none: it works with the service's.
    fn own_file(&self) -> Option<PathBuf> {
        let config = || self.folder("XDG_CONFIG_HOME").or_else(|| Some(self.folder("HOME")?.join(".config")));
        if self.is_root { None } else { Some(config()?.join("pointsd").join(FILE)) }
    }

    /// Finds the configuration: the named file, else the caller's own, else the service's, else the built-in one.
    pub(super) fn find(&self, named: Option<&Path>) -> Result<Found, ConfigError> {
        // Another unit may call a command and have credentials of its own. Ours always has this one.
        let is_service =
            self.folder("CREDENTIALS_DIRECTORY").is_some_and(|folder| folder.join("database-url").exists());
        let folder = Path::new(SERVICE_FOLDER);
        let service = |wanted: bool| (wanted && !is_service).then(|| Service::read(folder)).transpose();
        if let Some(path) = named {
            let service = service(path.parent() == Some(folder))?;
            return Ok(Found { source: Source::File(path.to_owned()), text: read_file(path)?, service });
        }
        let own = self.own_file().filter(|_| !is_service);
        if let Some(path) = own
            && let Some(text) = if_there(&path)?
        {
            return Ok(Found { source: Source::File(path), text, service: None });
        }
        let service = service(true)?;
        if let Some(path) = service.as_ref().and_then(|service| service.variable("POINTSD_CONFIG")) {
            let path = PathBuf::from(path);
            return Ok(Found { text: read_file(&path)?, source: Source::File(path), service });
        }
        let path = folder.join(FILE);
        // An unreadable file is an error: silent defaults could post into the wrong database.
        Ok(match if_there(&path)? {
            Some(text) => Found { source: Source::File(path), text, service },
            None => Found { source: Source::BuiltIn, text: String::new(), service },
        })
    }
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
        file: path.to_owned(),
        remedy: errors::rights_remedy(path, &source),
        source,
    })
}

/// The file's text; none if there is no such file.
fn if_there(path: &Path) -> Result<Option<String>, ConfigError> {
    match read_file(path) {
        Ok(text) => Ok(Some(text)),
        Err(ConfigError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The files from which the unit takes variables and secrets.
pub(super) struct Service {
    folder: PathBuf,
    variables: Vec<(String, String)>,
}

impl Service {
    fn read(folder: &Path) -> Result<Service, ConfigError> {
        let file = folder.join("environment");
        let text = if_there(&file).map_err(closed_to_caller)?.unwrap_or_default();
        Ok(Service { folder: folder.to_owned(), variables: variables(&text) })
    }

    /// A variable of the unit's environment; none if it is empty.
    fn variable(&self, name: &str) -> Option<String> {
        // The last line wins, as with systemd.
        let found = self.variables.iter().rfind(|(known, _)| known == name);
        found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    }

    /// What the daemon gets as the variable, or as the credential.
    pub(super) fn secret(&self, variable: &str, credential: &str) -> Result<Option<OutsideText>, ConfigError> {
        if let Some(text) = self.variable(variable) {
            let place = format!("{variable} in {}", self.folder.join("environment").display());
            return Ok(Some(OutsideText { place, text }));
        }
        let file = self.folder.join(credential);
        let text = if_there(&file).map_err(closed_to_caller)?;
        let text = text.map(|text| text.trim_end_matches(['\n', '\r']).to_owned()).filter(|text| !text.is_empty());
        Ok(text.map(|text| OutsideText { place: file.display().to_string(), text }))
    }

    /// Whether this is the configuration of a service that is installed here.
    pub(super) fn is_installed(&self) -> bool {
        UNITS.iter().any(|folder| Path::new(folder).join("pointsd.service").exists())
    }
}

/// A text from outside the file, and its origin.
#[derive(Clone)]
pub(super) struct OutsideText {
    pub place: String,
    pub text: String,
}

/// The service manager's credential of this name, unless it is absent or empty.
pub(super) fn credential(folder: Option<OsString>, name: &str) -> Result<Option<OutsideText>, ConfigError> {
    let Some(folder) = folder else { return Ok(None) };
    let file = Path::new(&folder).join(name);
    // The variable may have stayed from the session of another user, as with `sudo -E`.
    let owner = std::fs::metadata(&folder).map_or(0, |found| found.uid());
    if owner != 0 && nix::unistd::geteuid().is_root() && file.symlink_metadata().is_ok() {
        let remedy =
            format!("its folder belongs to user {owner}, from which root takes no secret; unset CREDENTIALS_DIRECTORY");
        let source = io::ErrorKind::PermissionDenied.into();
        return Err(ConfigError::Unreadable { file, remedy: Some(remedy), source });
    }
    let text = match read_file(&file) {
        Ok(text) => text.trim_end_matches(['\n', '\r']).to_owned(),
        Err(ConfigError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let place = format!("the credential {name} ({})", file.display());
    Ok((!text.is_empty()).then_some(OutsideText { place, text }))
}

/// The state folder of the service, and of root.
pub(super) const SERVICE_STATE: &str = "/var/lib/pointsd";

/// Whether this user may work in the service's state folder, and so on its private server.
pub(super) fn reaches_service_state() -> bool {
    access(SERVICE_STATE, AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
}

/// The default state folder; `config/defaults.yaml` explains the order.
pub(super) fn default_state_dir(variable: impl Fn(&str) -> Option<OsString>, is_service: bool) -> Option<PathBuf> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    if let Some(folders) = variable("STATE_DIRECTORY") {
        // systemd separates several folders by colons; the first one is ours.
        let first = std::env::split_paths(&folders).next().and_then(absolute);
        if first.is_some() {
            return first;
        }
    }
    if is_service {
        return Some(SERVICE_STATE.into());
    }
    let folder = |name| variable(name).map(PathBuf::from).and_then(absolute);
    folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state"))).map(|folder| folder.join("pointsd"))
}

/// Adds the remedy to an error about a file of the service.
fn closed_to_caller(error: ConfigError) -> ConfigError {
    match error {
        ConfigError::Unreadable { file, source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            ConfigError::Closed { file }
        }
        error => error,
    }
}

/// The assignments of an environment file, as systemd reads them, without continued lines.
fn variables(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    let assignments = lines.filter_map(|line| line.split_once('='));
    let unquoted = |value: &str| {
        let quoted = |mark| value.strip_prefix(mark).and_then(|rest| rest.strip_suffix(mark));
        quoted('"').or_else(|| quoted('\'')).unwrap_or(value).to_owned()
    };
    assignments.map(|(name, value)| (name.trim().to_owned(), unquoted(value.trim()))).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_units_environment_is_read_as_systemd_reads_it() {
        let text = "# POINTSD_LOG=debug\n; x=1\n\nA=1\nB = \"two words\"\nC='3'\nA=4\nempty=\nno assignment\n";
        let service = Service { folder: PathBuf::new(), variables: variables(text) };
        let value = |name: &str| service.variable(name);
        let expected = [Some("4"), Some("two words"), Some("3"), None, None, None];
        let names = ["A", "B", "C", "empty", "POINTSD_LOG", "x"];
        assert_eq!(names.map(value), expected.map(|value| value.map(str::to_owned)));
    }

    #[test]
    fn a_user_has_a_file_of_its_own_and_root_has_none() {
        let own = |pairs: &[(&str, &str)], is_root| {
            let variable =
                |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
            Caller { variable: &variable, is_root }.own_file()
        };
        let both = [("XDG_CONFIG_HOME", "/conf"), ("HOME", "/home/ann")];
        assert_eq!(own(&both, false), Some("/conf/pointsd/pointsd.yaml".into()));
        assert_eq!(own(&both, true), None);
        let relative = [("XDG_CONFIG_HOME", "conf"), ("HOME", "/home/ann")];
        assert_eq!(own(&relative, false), Some("/home/ann/.config/pointsd/pointsd.yaml".into()));
        assert_eq!(own(&[], false), None);
    }
}
