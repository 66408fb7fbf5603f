//! A private PostgreSQL server, run from the binaries that are installed on this machine.
//!
//! ```text
//! STATE_DIR/postgres/          belongs to the user that runs pointsd
//!     start.lock               held while a process decides to start or stop the server
//!     users.lock               shared by every process that uses the server
//!     pointsd.conf             our settings, written at each start
//!     data/ socket/ log/       belong to the server's user
//! ```
//!
//! Several processes share one server: the first process starts it, the last one stops it.
//! Both decisions are made under `start.lock`. Each process holds `users.lock` while it uses the
//! server; the kernel releases it even when the process is killed. If pointsd is killed, its server
//! runs on, and the next pointsd takes it over. If the server is killed, the first process that
//! finds it down starts it again.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::signal::kill;
use nix::unistd::{Pid, Uid, User, geteuid};
use sha2::{Digest, Sha256};
use tokio::time::{sleep, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, NoTls};

use super::Error;

/// The server's superuser role and its database.
const NAME: &str = "pointsd";
/// A name for the socket's file; nothing listens on TCP.
const PORT: u16 = 5432;
/// Folders in which `initdb` is at work start like this.
const NEW_DATA: &str = "data.new-";
const OLDEST_MAJOR: u32 = 14;
const PROGRAMS: [&str; 3] = ["initdb", "pg_ctl", "postgres"];
/// macOS allows 103 bytes for a socket's path, Linux 107.
const SOCKET_PATH_MAX: usize = 103;
/// Recovery after a crash reads up to `max_wal_size` and may take minutes.
const START_TIMEOUT: Duration = Duration::from_secs(300);
/// A stop writes out everything in memory.
const STOP_TIMEOUT: Duration = Duration::from_secs(120);
/// Processes of a killed server go a moment after it; until then their memory blocks a new start.
const STALE_TIMEOUT: Duration = Duration::from_secs(15);
/// For one connection over the socket; a server that is frozen takes it and stays silent.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// The server's settings. Those that are PostgreSQL's own default stand here where pointsd relies
/// on them. Write your own into `postgresql.conf`, below the line that includes these.
const SETTINGS: &[(&str, &str)] = &[
    // Only the socket, only for its owner: this is what allows `trust` as authentication.
    ("listen_addresses", ""),
    ("unix_socket_permissions", "0700"),
    ("max_connections", "100"),
    // An acknowledged posting survives a power cut.
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    // Holds the open batches of some millions of accounts; memory is only taken as it is used.
    ("shared_buffers", "256MB"),
    // Each checkpoint makes the next change of a page write the whole page: have few of them. Not
    // wal_compression: packing a page costs more than writing it, pgbench lost a sixth of its rate.
    ("max_wal_size", "4GB"),
    ("checkpoint_timeout", "15min"),
    // Short statements only: compiling one takes longer than running it.
    ("jit", "off"),
    // A week of logs, one file a weekday, each overwritten a week later.
    ("logging_collector", "on"),
    ("log_directory", "../log"),
    ("log_filename", "postgresql-%a.log"),
    ("log_rotation_age", "1d"),
    ("log_rotation_size", "0"),
    ("log_truncate_on_rotation", "on"),
    ("log_file_mode", "0600"),
    ("log_timezone", "UTC"),
    ("timezone", "UTC"),
    ("lc_messages", "C"),
    // Shows in the list of processes that the server belongs to pointsd.
    ("cluster_name", "pointsd"),
];

/// Where and how to run the server.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server lives in the folder `postgres` in here.
    pub state_dir: PathBuf,
    /// The folder with `initdb`, `pg_ctl` and `postgres`. `None`: look for it.
    pub bin: Option<PathBuf>,
    /// PostgreSQL settings that go over ours. They take effect when this call starts the server.
    pub extra: Vec<(String, String)>,
}

/// A running server, and our claim on it. Dropping it gives up the claim without stopping the
/// server; the next user that [stops](Self::stop) as the last one does.
#[derive(Debug)]
pub struct EmbeddedServer {
    server: Arc<Server>,
    users: Flock<File>,
}

/// The user that runs the server, if a different user runs pointsd.
#[derive(Debug, Clone)]
struct Account {
    name: String,
    uid: u32,
    gid: u32,
}

#[derive(Debug)]
struct Server {
    root: PathBuf,
    data: PathBuf,
    log: PathBuf,
    socket: PathBuf,
    bin: PathBuf,
    major: u32,
    account: Option<Account>,
    extra: Vec<(String, String)>,
}

enum Answer {
    Ready,
    NoDatabase,
    /// It is there and asks to wait: starting, recovering or stopping.
    Wait,
    Absent,
}

impl EmbeddedServer {
    /// Starts the server, or joins it where it runs already. The first start creates it.
    ///
    /// # Errors
    /// [`Error::Embedded`] when something has to be changed first: no PostgreSQL installed, another
    /// version's data, a folder that the server's user cannot reach. [`Error::EmbeddedDown`] when
    /// it does not come up.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let server = Arc::new(blocking(move || Server::prepare(options)).await?);
        let start_lock = server.start_lock().await?;
        let users = server.open_lock("users.lock")?;
        // Only the holder of the start lock ever holds this one exclusively.
        let users = Flock::lock(users, FlockArg::LockSharedNonblock)
            .map_err(|(_, errno)| down("users.lock is taken although start.lock is ours", errno))?;
        server.bring_up().await?;
        drop(start_lock);
        Ok(Self { server, users })
    }

    /// Brings the server back where it has died. Cheap while it runs.
    ///
    /// # Errors
    /// [`Error::EmbeddedDown`] when it does not come up.
    pub async fn ensure_running(&self) -> Result<(), Error> {
        if matches!(self.server.ask().await, Answer::Ready) {
            return Ok(());
        }
        let _start_lock = self.server.start_lock().await?;
        self.server.bring_up().await
    }

    /// Gives up our claim, and stops the server if no other process has one.
    ///
    /// # Errors
    /// [`Error::EmbeddedDown`] when it does not stop in time.
    pub async fn stop(self) -> Result<(), Error> {
        let EmbeddedServer { server, users } = self;
        let start_lock = server.start_lock().await?;
        let stopped = match users.relock(FlockArg::LockExclusiveNonblock) {
            Ok(()) => blocking(move || server.shut_down()).await,
            Err(Errno::EWOULDBLOCK) => Ok(()),
            Err(errno) => Err(down("cannot lock users.lock", errno)),
        };
        // The users lock goes first: the next holder of the start lock must find it free.
        drop(users);
        drop(start_lock);
        stopped
    }

    /// How to connect: socket folder, role and database.
    pub fn config(&self) -> Config {
        self.server.config(NAME)
    }

    /// The folder with `initdb`, `pg_ctl`, `postgres` and their companions.
    pub fn bin_dir(&self) -> &Path {
        &self.server.bin
    }

    /// The folder with the server's socket.
    pub fn socket_dir(&self) -> &Path {
        &self.server.socket
    }

    /// The main process of the server, `None` when there is none.
    pub fn postmaster_pid(&self) -> Option<u32> {
        self.server.postmaster_pid()
    }

    /// As "embedded PostgreSQL 15 in DIR".
    pub fn describe(&self) -> String {
        format!("embedded PostgreSQL {} in {}", self.server.major, self.server.root.display())
    }
}

impl Server {
    /// Finds out everything that does not depend on whether the server runs.
    fn prepare(options: Options) -> Result<Self, Error> {
        let as_root = geteuid().is_root();
        make_folder(&options.state_dir, if as_root { 0o711 } else { 0o700 })?;
        let state_dir = fs::canonicalize(&options.state_dir)
            .map_err(|error| setup(format!("{}", options.state_dir.display()), error))?;
        let root = state_dir.join("postgres");
        if (root.as_os_str().as_encoded_bytes().iter()).any(|byte| b"\"$`\\\n".contains(byte)) {
            return Err(Error::Embedded {
                problem: format!(
                    "initdb and pg_ctl cannot work in {}: set a state_dir without quotes, dollar \
                     signs, backslashes and line ends",
                    root.display()
                ),
                source: None,
            });
        }
        make_folder(&root, if as_root { 0o711 } else { 0o700 })?;
        let data = root.join("data");
        let existing = existing_major(&data)?;
        let (bin, major) = find_programs(options.bin.as_deref(), &data, existing)?;
        let account = match as_root {
            true => Some(server_account(&data)?),
            false => None,
        };
        let socket = socket_folder(&root, account.as_ref())?;
        Ok(Self { log: root.join("log"), root, data, socket, bin, major, account, extra: options.extra })
    }

    fn config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config.host_path(&self.socket).port(PORT).user(NAME).dbname(database).connect_timeout(ANSWER_TIMEOUT);
        config
    }

    fn open_lock(&self, name: &str) -> Result<File, Error> {
        let path = self.root.join(name);
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&path)
            .map_err(|error| setup(format!("cannot open {}", path.display()), error))
    }

    async fn start_lock(&self) -> Result<Flock<File>, Error> {
        let mut file = self.open_lock("start.lock")?;
        let give_up = Instant::now() + START_TIMEOUT;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(lock),
                Err((unlocked, Errno::EWOULDBLOCK)) if Instant::now() < give_up => file = unlocked,
                Err((_, errno)) => {
                    return Err(down(
                        format!(
                            "another process has been starting or stopping the server for long: \
                             {} is locked; see who holds it with fuser",
                            self.root.join("start.lock").display()
                        ),
                        errno,
                    ));
                }
            }
            sleep(POLL).await;
        }
    }

    /// Starts the server and waits until it is ready. The caller holds the start lock.
    async fn bring_up(self: &Arc<Self>) -> Result<(), Error> {
        let began = Instant::now();
        let left_behind = self.pid_file().exists();
        loop {
            match self.ask().await {
                Answer::Ready => return Ok(()),
                Answer::NoDatabase => self.create_database().await?,
                Answer::Wait => sleep(POLL).await,
                Answer::Absent => {
                    let server = Arc::clone(self);
                    match blocking(move || server.launch()).await {
                        Ok(()) => {}
                        // Processes of a killed server are still ending, or another pointsd was
                        // killed while it started the server.
                        Err(error @ Error::EmbeddedDown { .. })
                            if (left_behind || self.pid_file().exists()) && began.elapsed() < STALE_TIMEOUT =>
                        {
                            tracing::debug!(%error, "trying again to start the embedded server");
                            sleep(5 * POLL).await;
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
            if began.elapsed() > START_TIMEOUT {
                return Err(Error::EmbeddedDown {
                    problem: format!(
                        "the server does not accept connections after {} s; see {}",
                        START_TIMEOUT.as_secs(),
                        self.log.display()
                    ),
                    source: None,
                });
            }
        }
    }

    async fn ask(&self) -> Answer {
        let connect = async {
            let (client, connection) = self.config(NAME).connect(NoTls).await?;
            drop(client);
            // Served to its end, so that the session ends in order and not as a broken connection
            // in the server's log.
            connection.await
        };
        let error = match timeout(ANSWER_TIMEOUT, connect).await {
            Ok(Ok(())) => return Answer::Ready,
            Ok(Err(error)) => error,
            Err(_) => return Answer::Wait,
        };
        match error.code() {
            Some(&SqlState::INVALID_CATALOG_NAME) => Answer::NoDatabase,
            Some(&SqlState::CANNOT_CONNECT_NOW) => Answer::Wait,
            // Any other answer (as: too many connections) still comes from a server at work.
            Some(_) => Answer::Ready,
            None => Answer::Absent,
        }
    }

    async fn create_database(&self) -> Result<(), Error> {
        let failed = || Error::statement("creating the embedded server's database");
        let (client, connection) = self.config("postgres").connect(NoTls).await.map_err(failed())?;
        let serve = tokio::spawn(connection);
        let created = client.batch_execute("CREATE DATABASE pointsd").await;
        drop(client);
        let _ = serve.await;
        match created {
            Err(error) if error.code() != Some(&SqlState::DUPLICATE_DATABASE) => Err(failed()(error)),
            _ => Ok(()),
        }
    }

    fn pid_file(&self) -> PathBuf {
        self.data.join("postmaster.pid")
    }

    /// The process in `postmaster.pid`, if it is a PostgreSQL server at work.
    fn postmaster_pid(&self) -> Option<u32> {
        let pid = self.noted_pid()?;
        match is_postgres_at_work(pid) {
            Some(false) => None,
            // Without /proc (macOS) being there has to do.
            Some(true) | None => Some(pid),
        }
    }

    /// The process in `postmaster.pid`, if there is one of this number, whatever it is.
    fn noted_pid(&self) -> Option<u32> {
        let text = fs::read_to_string(self.pid_file()).ok()?;
        let pid = text.lines().next()?.trim().parse().ok()?;
        match kill(Pid::from_raw(i32::try_from(pid).ok()?), None) {
            Ok(()) | Err(Errno::EPERM) => Some(pid),
            Err(_) => None,
        }
    }

    /// Starts the server; creates it before, where there is none.
    fn launch(&self) -> Result<(), Error> {
        for folder in [&self.log, &self.socket] {
            self.make_private_folder(folder)?;
        }
        self.check_reachable()?;
        self.remove_half_made();
        if !self.data.exists() {
            self.create()?;
        }
        self.write_settings()?;
        self.forget_pid_that_is_no_server();
        let log = self.log.join("start.log");
        // pg_ctl appends; only the last start is of interest.
        let _ = fs::remove_file(&log);
        let output = self.run("pg_ctl", |command| {
            command
                .args(["start", "-w", "-s", "-t"])
                .arg(START_TIMEOUT.as_secs().to_string())
                .arg("-D")
                .arg(&self.data)
                .arg("-l")
                .arg(&log)
        })?;
        if output.status.success() {
            return Ok(());
        }
        let said = fs::read_to_string(&log).unwrap_or_default();
        Err(Error::EmbeddedDown {
            problem: format!(
                "the server did not start: {}; more in {}",
                last_lines(&said, &output),
                self.log.display()
            ),
            source: None,
        })
    }

    /// Creates the data in a temporary folder and renames it at the end. If pointsd is killed half
    /// way, nothing is left that looks like a server.
    fn create(&self) -> Result<(), Error> {
        // A random name: if an earlier pointsd was killed, its initdb may still be writing to its folder.
        let new = self.root.join(format!("{NEW_DATA}{:08x}", fastrand::u32(..)));
        self.make_private_folder(&new)?;
        let output = self.run("initdb", |command| {
            command
                .arg("-D")
                .arg(&new)
                // Sorting by bytes needs no locale of the system and never changes with one.
                .args(["-U", NAME, "-A", "trust", "-E", "UTF8", "--locale=C"])
        })?;
        if !output.status.success() {
            let _ = fs::remove_dir_all(&new);
            return Err(Error::EmbeddedDown {
                problem: format!("initdb could not create {}: {}", self.data.display(), last_lines("", &output)),
                source: None,
            });
        }
        let finish = || {
            let mut file = OpenOptions::new().append(true).open(new.join("postgresql.conf"))?;
            file.write_all(
                b"\n# What pointsd sets; it is written anew at each start.\n\
                  include_if_exists '../pointsd.conf'\n\
                  \n# Your own settings follow.\n",
            )?;
            file.sync_all()?;
            fs::rename(&new, &self.data)?;
            File::open(&self.root)?.sync_all()
        };
        finish().map_err(|error| Error::EmbeddedDown {
            problem: format!("cannot finish {}", self.data.display()),
            source: Some(error),
        })
    }

    /// Removes what an `initdb` left behind when its pointsd was killed.
    fn remove_half_made(&self) {
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(NEW_DATA.as_bytes()) {
                // If it is still writing there, a later start removes the rest.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    fn write_settings(&self) -> Result<(), Error> {
        // The list of socket folders has quotes of its own inside the value's, for a comma.
        let socket = self.socket.display();
        let ours =
            [("port".to_owned(), PORT.to_string()), ("unix_socket_directories".to_owned(), format!("\"{socket}\""))];
        let mut text = String::from(
            "# Written by pointsd at each start of its embedded server. Put your own settings at\n\
             # the end of data/postgresql.conf instead.\n",
        );
        let fixed = SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        for (name, value) in fixed.chain(ours).chain(self.extra.iter().cloned()) {
            text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        let path = self.root.join("pointsd.conf");
        let write = || {
            fs::write(&path, text)?;
            // The server's user has to read it; there is nothing secret in it.
            fs::set_permissions(&path, Permissions::from_mode(0o644))
        };
        write().map_err(|error| setup(format!("cannot write {}", path.display()), error))
    }

    /// PostgreSQL refuses to start while the process in `postmaster.pid` exists. After a restart of
    /// the machine or of a container, that process may be another program. In a container without
    /// an init, a killed server stays as a zombie. The caller has found that no server answers on
    /// the socket. Only the number is changed, to one that cannot be in use: from the rest of the
    /// file PostgreSQL finds out whether sessions of the old server are still at work.
    fn forget_pid_that_is_no_server(&self) {
        let Some(pid) = self.noted_pid() else {
            return;
        };
        if is_postgres_at_work(pid) != Some(false) {
            return;
        }
        tracing::warn!(pid, "the process in postmaster.pid is no server: forgetting it");
        let path = self.pid_file();
        if let Ok(text) = fs::read_to_string(&path)
            && let Some((_, rest)) = text.split_once('\n')
        {
            // If it fails, PostgreSQL says in its own words why it does not start.
            let _ = fs::write(&path, format!("{}\n{rest}", i32::MAX));
        }
    }

    fn shut_down(&self) -> Result<(), Error> {
        if self.postmaster_pid().is_none() {
            return Ok(());
        }
        let output = self.run("pg_ctl", |command| {
            command
                .args(["stop", "-w", "-s", "-m", "fast", "-t"])
                .arg(STOP_TIMEOUT.as_secs().to_string())
                .arg("-D")
                .arg(&self.data)
        })?;
        if output.status.success() || self.postmaster_pid().is_none() {
            return Ok(());
        }
        Err(Error::EmbeddedDown {
            problem: format!("the server did not stop: {}; more in {}", last_lines("", &output), self.log.display()),
            source: None,
        })
    }

    /// Runs one of PostgreSQL's programs as the server's user.
    fn run(&self, program: &str, arguments: impl FnOnce(&mut Command) -> &mut Command) -> Result<Output, Error> {
        let mut command = Command::new(self.bin.join(program));
        self.as_account(&mut command);
        arguments(&mut command);
        command.output().map_err(|error| Error::EmbeddedDown {
            problem: format!("cannot run {}", self.bin.join(program).display()),
            source: Some(error),
        })
    }

    fn as_account(&self, command: &mut Command) {
        command
            .stdin(Stdio::null())
            .current_dir(&self.root)
            // Ctrl-C in our terminal is for us, not for the server.
            .process_group(0)
            // Our environment may hold secrets, and PG… or systemd's variables that are not meant
            // for this server.
            .env_clear()
            .env("LC_ALL", "C");
        for name in ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if let Some(account) = &self.account {
            command.uid(account.uid).gid(account.gid);
        }
    }

    /// A folder for the server's user alone.
    fn make_private_folder(&self, path: &Path) -> Result<(), Error> {
        let make = || {
            match DirBuilder::new().mode(0o700).create(path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            let found = fs::symlink_metadata(path)?;
            let owner = self.owner();
            if !found.is_dir() || (found.uid() != owner && found.uid() != geteuid().as_raw()) {
                return Err(io::Error::other("it is not a folder of the server's user; move it away"));
            }
            if let Some(account) = &self.account
                && found.uid() != owner
            {
                chown(path, Some(account.uid), Some(account.gid))?;
            }
            if found.mode() & 0o777 != 0o700 {
                fs::set_permissions(path, Permissions::from_mode(0o700))?;
            }
            Ok(())
        };
        make().map_err(|error| setup(format!("cannot use the folder {}", path.display()), error))
    }

    fn owner(&self) -> u32 {
        match &self.account {
            Some(account) => account.uid,
            None => geteuid().as_raw(),
        }
    }

    /// Checks that the server's user can reach its files. Under root the server runs as another user.
    fn check_reachable(&self) -> Result<(), Error> {
        let Some(account) = &self.account else {
            return Ok(());
        };
        for (path, remedy) in [
            (&self.root, "set state_dir to a folder that it can reach"),
            (&self.socket, "set a shorter state_dir, so that the socket fits in there"),
            (&self.bin, "set database.postgres_bin to programs that it can reach"),
        ] {
            let mut folders: Vec<&Path> = path.ancestors().collect();
            folders.reverse();
            // Asked as this user, because permissions may come from more than the mode.
            let mut command = Command::new("/bin/sh");
            self.as_account(&mut command);
            let script = r#"for f do test -x "$f" || { printf %s "$f"; exit 1; }; done"#;
            let output = command
                .current_dir("/")
                .args([OsStr::new("-c"), OsStr::new(script), OsStr::new("sh")])
                .args(folders)
                .output()
                .map_err(|error| setup("cannot run /bin/sh".to_owned(), error))?;
            if !output.status.success() {
                let folder = String::from_utf8_lossy(&output.stdout).into_owned();
                return Err(Error::Embedded {
                    problem: format!(
                        "PostgreSQL does not run as root, and the user {} (who runs it instead) \
                         cannot enter {folder}: {remedy}, or allow it with chmod o+x {folder}",
                        account.name
                    ),
                    source: None,
                });
            }
        }
        Ok(())
    }
}

/// `None` if the system does not say.
fn is_postgres_at_work(pid: u32) -> Option<bool> {
    // As "4711 (postgres) S 1 …"; Z is a zombie.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (name, state) = stat.rsplit_once(") ")?;
    let name = name.split_once(" (")?.1;
    Some(["postgres", "postmaster"].contains(&name) && !state.starts_with(['Z', 'X']))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::EmbeddedDown {
            problem: "the work on the server was cut off".to_owned(),
            source: Some(error.into()),
        }),
    }
}

fn setup(problem: String, error: io::Error) -> Error {
    Error::Embedded { problem, source: Some(error) }
}

fn down(problem: impl Into<String>, errno: Errno) -> Error {
    Error::EmbeddedDown { problem: problem.into(), source: Some(errno.into()) }
}

/// What a program said last, on one line.
fn last_lines(log: &str, output: &Output) -> String {
    let said = [log.into(), String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout)];
    let lines: Vec<&str> = said
        .iter()
        .find(|text| !text.trim().is_empty())
        .map(|text| text.lines().map(str::trim).filter(|line| !line.is_empty()).collect())
        .unwrap_or_default();
    let from = lines.len().saturating_sub(4);
    match lines.get(from..) {
        Some(last) if !last.is_empty() => last.join(" / "),
        _ => format!("it ended with {}", output.status),
    }
}

/// Creates the folder where it is missing; what is there stays as it is.
fn make_folder(path: &Path, mode: u32) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    let make = || {
        DirBuilder::new().recursive(true).mode(mode).create(path)?;
        // The mode of a new folder passes through the umask, which may take away what we need.
        fs::set_permissions(path, Permissions::from_mode(mode))
    };
    make().map_err(|error| {
        setup(format!("cannot create {}: set state_dir to a folder that can be written to", path.display()), error)
    })
}

fn existing_major(data: &Path) -> Result<Option<u32>, Error> {
    let unusable = |source| Error::Embedded {
        problem: format!(
            "cannot read the server's data in {}: run pointsd as the user who created them, or set \
             another state_dir",
            data.display()
        ),
        source,
    };
    match fs::read_to_string(data.join("PG_VERSION")) {
        Ok(text) => match text.trim().parse() {
            Ok(major) => Ok(Some(major)),
            Err(_) => Err(unusable(None)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound && !data.exists() => Ok(None),
        Err(error) => Err(unusable(Some(error))),
    }
}

/// The folder with the programs, and their major version.
fn find_programs(given: Option<&Path>, data: &Path, existing: Option<u32>) -> Result<(PathBuf, u32), Error> {
    let usable = |major: u32| match existing {
        Some(existing) => major == existing,
        None => major >= OLDEST_MAJOR,
    };
    let candidates = match given {
        Some(bin) => vec![bin.to_path_buf()],
        None => candidates(),
    };
    let mut found = Vec::new();
    for bin in candidates {
        if let Some(major) = major_of(&bin) {
            if usable(major) {
                // What stands in PATH may be links; the other programs of the server are beside what they name.
                let home = fs::canonicalize(bin.join("postgres")).ok().and_then(|path| Some(path.parent()?.to_owned()));
                return Ok((home.unwrap_or(bin), major));
            }
            found.push(format!("{major} in {}", bin.display()));
        }
    }
    found.dedup();
    let have = match (found.is_empty(), given) {
        (false, _) => format!("there is only PostgreSQL {}", found.join(", ")),
        (true, Some(bin)) => {
            format!("there is no {} in database.postgres_bin ({})", PROGRAMS.join(", "), bin.display())
        }
        (true, None) => "no PostgreSQL server is installed (initdb, pg_ctl and postgres, looked \
                         for in PATH and the usual folders)"
            .to_owned(),
    };
    let problem = match existing {
        Some(major) => format!(
            "the data in {} are of PostgreSQL {major}, but {have}: install PostgreSQL {major}, or \
             move the data on with pg_upgrade",
            data.display()
        ),
        None => format!(
            "{have}: run script/setup to install PostgreSQL {OLDEST_MAJOR} or newer, or name a \
             server of your own in database.url"
        ),
    };
    Err(Error::Embedded { problem, source: None })
}

fn major_of(bin: &Path) -> Option<u32> {
    if !PROGRAMS.iter().all(|name| bin.join(name).is_file()) {
        return None;
    }
    let output = Command::new(bin.join("postgres")).arg("--version").stdin(Stdio::null()).output().ok()?;
    // As "postgres (PostgreSQL) 15.13 (Debian …)", or "… 18beta1".
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    leading_number(text.split_whitespace().nth(2)?)
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

/// Folders that may hold the programs, the best first.
fn candidates() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
    for (parent, before, after) in [
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr", "pgsql-", "bin"),
        ("/opt/homebrew/opt", "postgresql", "bin"),
        ("/usr/local/opt", "postgresql", "bin"),
    ] {
        let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(parent)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let version = name.strip_prefix(before)?.trim_start_matches('@');
                // Homebrew's plain "postgresql" is an alias of one of the others.
                let version = leading_number(version).unwrap_or(0);
                Some((version, entry.path().join(after)))
            })
            .collect();
        versions.sort();
        folders.extend(versions.into_iter().rev().map(|(_, folder)| folder));
    }
    folders
}

/// The user that runs the server if pointsd runs as root: the owner of the data, else `postgres`, else `nobody`.
fn server_account(data: &Path) -> Result<Account, Error> {
    let no_user = |source: io::Error| Error::Embedded {
        problem: "PostgreSQL does not run as root, and there is no user postgres or nobody to run \
                  it instead: create the user postgres, or run pointsd as an ordinary user"
            .to_owned(),
        source: Some(source),
    };
    if let Ok(found) = fs::metadata(data)
        && found.uid() != 0
    {
        let user = User::from_uid(Uid::from_raw(found.uid())).ok().flatten();
        return Ok(Account {
            name: user.map_or_else(|| found.uid().to_string(), |user| user.name),
            uid: found.uid(),
            gid: found.gid(),
        });
    }
    for name in ["postgres", "nobody"] {
        let user = User::from_name(name).map_err(|errno| no_user(errno.into()))?;
        if let Some(user) = user.filter(|user| !user.uid.is_root()) {
            return Ok(Account { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() });
        }
    }
    Err(no_user(io::ErrorKind::NotFound.into()))
}

/// The folder for the socket: beside the data, or, where its path would be too long for a socket, a
/// private one in the folder for temporary files, always the same for the same data.
fn socket_folder(root: &Path, account: Option<&Account>) -> Result<PathBuf, Error> {
    let fits = |folder: &Path| {
        let path = folder.join(format!(".s.PGSQL.{PORT}"));
        path.as_os_str().len() <= SOCKET_PATH_MAX
    };
    let beside = root.join("socket");
    if fits(&beside) {
        return Ok(beside);
    }
    let digest = Sha256::digest(root.as_os_str().as_encoded_bytes());
    let short = format!("{digest:x}").chars().take(16).collect::<String>();
    let uid = account.map_or_else(|| geteuid().as_raw(), |account| account.uid);
    let folder = std::env::temp_dir().join(format!("pointsd-{uid}-{short}"));
    if fits(&folder) {
        return Ok(folder);
    }
    Err(Error::Embedded {
        problem: format!(
            "a socket's path has {SOCKET_PATH_MAX} bytes at most: {} is too long, and so is {}; \
             set a shorter state_dir",
            beside.display(),
            folder.display()
        ),
        source: None,
    })
}
