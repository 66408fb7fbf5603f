//! The demo's own folder. The demo empties it each time, so it must never be a folder that something else made.

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

/// The file that marks a folder as made by the demo.
const MARKER: &str = "made-by-pointsd-demo";
const MARKER_TEXT: &str = "`pointsd demo` made this folder and empties it each time: keep nothing in it.\n";

/// The demo's own folder, empty but for its marker.
pub struct Folder {
    /// From the root.
    pub path: PathBuf,
    /// Keeps a second demo out of the folder.
    _lock: Flock<File>,
}

impl Folder {
    /// Makes the folder `demo` in the state folder, or empties it if an earlier demo made it.
    ///
    /// # Errors
    /// If no demo made it, or another program works with the ledger in it.
    pub async fn make_anew(config: &Config) -> anyhow::Result<Folder> {
        // With the demo's own configuration, the state folder is the demo's folder.
        let is_own = config.state_dir.join(MARKER).is_file();
        let path = if is_own { config.state_dir.clone() } else { config.state_dir.join("demo") };
        make(&config.state_dir)?;
        if let Some(reason) = foreign(&path).with_context(|| format!("{} cannot be read", path.display()))? {
            let path = path.display();
            let next = "move it away, or set another state_dir";
            return Err(WrongCall(format!("{path} {reason}, so the demo leaves it alone: {next}")).into());
        }
        make(&path)?;
        let path = fs::canonicalize(&path).with_context(|| format!("{} cannot be reached", path.display()))?;
        let lock = claim(&path)?;
        stop_server(&path, config).await?;
        clear(&path).with_context(|| format!("{} cannot be emptied", path.display()))?;
        Ok(Folder { path, _lock: lock })
    }
}

/// Why the demo may not empty this path. None if the path is free, empty, or marked.
fn foreign(path: &Path) -> io::Result<Option<&'static str>> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(found) if !found.is_dir() => return Ok(Some("is no folder")),
        found => found?,
    };
    match fs::symlink_metadata(path.join(MARKER)) {
        Ok(marker) if marker.is_file() => Ok(None),
        Ok(_) => Ok(Some("was not made by a demo")),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        // An earlier demo was killed before it wrote its marker, or the folder was prepared for it.
        Err(_) if fs::read_dir(path)?.next().is_none() => Ok(None),
        Err(_) => Ok(Some("was not made by a demo and is not empty")),
    }
}

/// Makes a folder. For root, a server that runs as another user must be able to pass through it.
fn make(path: &Path) -> anyhow::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let mode = if nix::unistd::geteuid().is_root() { 0o711 } else { 0o700 };
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    // The umask may have removed a bit that is needed.
    made.and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode))).map_err(|error| {
        let next = "set state_dir in the configuration, or STATE_DIRECTORY in the environment, to a writable folder";
        WrongCall(format!("{} cannot be made: {error}; {next}", path.display())).into()
    })
}

fn claim(path: &Path) -> anyhow::Result<Flock<File>> {
    let marker = path.join(MARKER);
    let unwritable = || format!("{} cannot be written", marker.display());
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
    let file = options.open(&marker).with_context(unwritable)?;
    let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => anyhow::anyhow!("another demo runs in {}: wait for its end", path.display()),
        errno => anyhow::Error::new(errno).context(unwritable()),
    })?;
    lock.write_all(MARKER_TEXT.as_bytes()).with_context(unwritable)?;
    Ok(lock)
}

/// Stops the server that an earlier demo, or a command after it, left running because it was killed.
async fn stop_server(path: &Path, config: &Config) -> anyhow::Result<()> {
    let running = path.join("postgres/data/postmaster.pid");
    if !running.exists() {
        return Ok(());
    }
    // Starting attaches to the running server. Stopping ends it unless another program still uses it.
    let options = Options { state_dir: path.to_owned(), bin: config.database.postgres_bin.clone(), extra: Vec::new() };
    let stopped = async { EmbeddedServer::start(options).await?.stop().await }.await;
    let path = path.display();
    stopped.with_context(|| {
        format!("the server of the last demo could not be stopped; if it is not running, remove {path} yourself")
    })?;
    anyhow::ensure!(
        !running.exists(),
        "another pointsd works with the ledger of the last demo, in {path}: end it first"
    );
    Ok(())
}

/// Removes all but the marker, and follows no link.
fn clear(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        match (entry.file_name() == MARKER, entry.file_type()?.is_dir()) {
            (true, _) => {}
            (false, true) => fs::remove_dir_all(entry.path())?,
            (false, false) => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}
