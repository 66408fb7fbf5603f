//! The demo's own folder. The demo empties it each time, so it must never be a folder that something else made.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::super::WrongCall;
use crate::config::Config;
use crate::database::private_server::{Options, PrivateServer};
use crate::private_files;

/// The file that marks a folder as made by the demo.
const MARKER: &str = "made-by-pointsd-demo";
const MARKER_TEXT: &str = "`pointsd demo` made this folder and empties it each time: keep nothing in it.\n";

/// The demo's own folder, empty but for its marker.
pub struct Folder {
    /// From the root.
    pub path: PathBuf,
    handle: private_files::Folder,
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
        let handle = make(&path)?;
        let path = fs::canonicalize(&path).with_context(|| format!("{} cannot be reached", path.display()))?;
        let lock = claim(&handle, &path)?;
        stop_server(&path, config).await?;
        clear(&handle).with_context(|| format!("{} cannot be emptied", path.display()))?;
        Ok(Folder { path, handle, _lock: lock })
    }

    /// Writes a file in it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let written = self.handle.write(name, content, None);
        written.with_context(|| format!("{} cannot be written", self.path.join(name).display()))
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
fn make(path: &Path) -> anyhow::Result<private_files::Folder> {
    let mode = if nix::unistd::geteuid().is_root() { 0o711 } else { 0o700 };
    private_files::Folder::make(path, mode).map_err(|error| {
        let next = "set state_dir in the configuration, or STATE_DIRECTORY in the environment, to a writable folder";
        WrongCall(format!("{} cannot be made: {error}; {next}", path.display())).into()
    })
}

fn claim(folder: &private_files::Folder, path: &Path) -> anyhow::Result<Flock<File>> {
    let unwritable = || format!("{} cannot be written", path.join(MARKER).display());
    let (file, is_new) = folder.lock_file(MARKER).with_context(unwritable)?;
    let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => anyhow::anyhow!("another demo runs in {}: wait for its end", path.display()),
        errno => anyhow::Error::new(errno).context(unwritable()),
    })?;
    if is_new {
        lock.write_all(MARKER_TEXT.as_bytes()).with_context(unwritable)?;
    }
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
    let stopped = async { PrivateServer::start(options).await?.stop().await }.await;
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
fn clear(folder: &private_files::Folder) -> io::Result<()> {
    let names = folder.names()?;
    names.into_iter().filter(|name| name != MARKER).try_for_each(|name| folder.remove(name))
}
