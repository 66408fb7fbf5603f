//! The folder that the demo makes for itself, and makes anew each time: never another one.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

use super::super::WrongCall;
use crate::config::Config;
use crate::database::embedded::{EmbeddedServer, Options};

/// Tells a folder that the demo made.
const MARKER: &str = "made-by-pointsd-demo";
const MARKER_TEXT: &str = "`pointsd demo` made this folder and empties it each time: keep nothing in it.\n";

/// A folder of the demo's own, empty but for its marker.
pub struct Folder {
    /// Where it is, from the root.
    pub path: PathBuf,
    /// Nobody else makes it anew while we are at work.
    _lock: Flock<File>,
}

impl Folder {
    /// Makes `demo` in the state folder, or makes it anew where an earlier demo made it.
    ///
    /// # Errors
    /// Where something else is in its place, or somebody works with the earlier demo's ledger.
    pub async fn make_anew(config: &Config) -> anyhow::Result<Folder> {
        let path = place(&config.state_dir);
        make(&config.state_dir)?;
        if let Some(why) = foreign(&path).with_context(|| format!("{} cannot be read", path.display()))? {
            let path = path.display();
            return Err(WrongCall(format!(
                "{path} {why}, so the demo leaves it alone: move it away, or set another state_dir"
            ))
            .into());
        }
        make(&path)?;
        let path = fs::canonicalize(&path).with_context(|| format!("{} cannot be reached", path.display()))?;
        let lock = claim(&path)?;
        stop_server(&path, config).await?;
        clear(&path).with_context(|| format!("{} cannot be emptied", path.display()))?;
        Ok(Folder { path, _lock: lock })
    }
}

/// Within the state folder; a state folder that is the demo's own, because its configuration is in use, is it.
fn place(state_dir: &Path) -> PathBuf {
    if state_dir.join(MARKER).is_file() { state_dir.to_owned() } else { state_dir.join("demo") }
}

/// What is wrong with what is in the folder's place, if it is not for us to touch.
fn foreign(path: &Path) -> io::Result<Option<&'static str>> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
        Ok(found) if !found.is_dir() => return Ok(Some("is no folder")),
        Ok(_) => {}
    }
    match fs::symlink_metadata(path.join(MARKER)) {
        Ok(marker) if marker.is_file() => Ok(None),
        Ok(_) => Ok(Some("was not made by a demo")),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        // One that was killed before it could write its marker, or one that somebody prepared.
        Err(_) if fs::read_dir(path)?.next().is_none() => Ok(None),
        Err(_) => Ok(Some("was not made by a demo and is not empty")),
    }
}

/// Makes a folder that a server of another user can reach through, if we are root.
fn make(path: &Path) -> anyhow::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let mode = if nix::unistd::geteuid().is_root() { 0o711 } else { 0o700 };
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    // The mode of a new folder passes through the umask, which may take away what we need.
    made.and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode))).map_err(|error| {
        WrongCall(format!(
            "{} cannot be made: {error}; set state_dir in the configuration, or STATE_DIRECTORY in the environment, to \
             a folder that can be written to",
            path.display()
        ))
        .into()
    })
}

fn claim(path: &Path) -> anyhow::Result<Flock<File>> {
    let marker = path.join(MARKER);
    let unwritable = || format!("{} cannot be written", marker.display());
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(&marker)
        .with_context(unwritable)?;
    let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => anyhow::anyhow!("another demo is at work in {}: let it end first", path.display()),
        errno => anyhow::Error::new(errno).context(unwritable()),
    })?;
    lock.write_all(MARKER_TEXT.as_bytes()).with_context(unwritable)?;
    Ok(lock)
}

/// Stops the server that an earlier demo, or a command after it, was killed and left running.
async fn stop_server(path: &Path, config: &Config) -> anyhow::Result<()> {
    let running = path.join("postgres/data/postmaster.pid");
    if !running.exists() {
        return Ok(());
    }
    // Only one who uses the server can tell whether others do.
    let options = Options { state_dir: path.to_owned(), bin: config.database.postgres_bin.clone(), extra: Vec::new() };
    let stopped = async { EmbeddedServer::start(options).await?.stop().await }.await;
    let folder = path.display();
    stopped.with_context(|| {
        format!("the server of the last demo could not be stopped; if it is not running, remove {folder} yourself")
    })?;
    anyhow::ensure!(
        !running.exists(),
        "another pointsd is at work with the ledger of the last demo, in {folder}: end it first"
    );
    Ok(())
}

/// Removes all but the marker; follows no link.
fn clear(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == MARKER {
            continue;
        }
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_what_a_demo_made_is_emptied() {
        let state = std::env::temp_dir().join(format!("pointsd-demo-folder-{}", std::process::id()));
        let demo = state.join("demo");
        fs::create_dir_all(&demo).unwrap();
        assert_eq!(place(&state), demo);
        assert_eq!(foreign(&state.join("nothing")).unwrap(), None);
        assert_eq!(foreign(&demo).unwrap(), None, "an empty one");

        fs::write(demo.join("mine"), "precious").unwrap();
        assert_eq!(foreign(&demo).unwrap(), Some("was not made by a demo and is not empty"));
        fs::create_dir(demo.join(MARKER)).unwrap();
        assert_eq!(foreign(&demo).unwrap(), Some("was not made by a demo"));
        fs::remove_dir(demo.join(MARKER)).unwrap();
        fs::write(state.join("file"), "").unwrap();
        assert_eq!(foreign(&state.join("file")).unwrap(), Some("is no folder"));

        let outside = state.join("outside");
        fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, state.join("link")).unwrap();
        assert_eq!(foreign(&state.join("link")).unwrap(), Some("is no folder"));

        let lock = claim(&demo).unwrap();
        assert_eq!(foreign(&demo).unwrap(), None);
        assert!(claim(&demo).is_err(), "another demo is at work");
        drop(lock);
        assert_eq!(place(&demo), demo, "with the demo's own configuration");

        fs::write(outside.join("kept"), "").unwrap();
        std::os::unix::fs::symlink(&outside, demo.join("link")).unwrap();
        fs::create_dir_all(demo.join("postgres/data")).unwrap();
        clear(&demo).unwrap();
        let left: Vec<_> = fs::read_dir(&demo).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [MARKER]);
        assert!(outside.join("kept").exists());
        fs::remove_dir_all(&state).unwrap();
    }
}
