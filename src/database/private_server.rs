//! A private PostgreSQL server, run from the binaries that are installed on this machine.
//!
//! ```text
//! STATE_DIR/postgres/          belongs to the user that runs pointsd
//!     start.lock               held while a process decides to start or stop the server
//!     users.lock               shared by every process that uses the server
//!     pointsd.conf             our settings, written at each start
//!     pg_hba.conf              the rules for connections: the socket alone, written at each start
//!     data/ socket/ log/       belong to the server's user
//! ```
//!
//! Several processes share one server: the first process starts it, the last one stops it.
//! Both decisions are made under `start.lock`. Each process holds `users.lock` while it uses the
//! server; the kernel releases it even when the process is killed. If pointsd is killed, its server
//! runs on, and the next pointsd takes it over. If the server is killed, the first process that
//! finds it down starts it again.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User, getegid, geteuid};
use sha2::{Digest, Sha256};
use tokio::time::{sleep, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, NoTls};

use super::Error;
use crate::private_files::{Folder, OWNER_ONLY, Owner};

/// The server's superuser role and its database.
const NAME: &str = "pointsd";
/// A name for the socket's file; nothing listens on TCP.
const PORT: u16 = 5432;
/// PostgreSQL's note of its main process.
const PID_FILE: &str = "postmaster.pid";
/// The output of the last start.
const START_LOG: &str = "start.log";
/// The rules for connections.
const ACCESS_FILE: &str = "pg_hba.conf";
/// Under root the server runs as another user. That user's processes have to pass through folders of root.
const PASSABLE: u32 = 0o711;
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

/// The rules for connections. They hold even if an own setting opens a port: TCP is refused.
const ACCESS: &str =
    "# Written by pointsd at each start of its private server: only users of its socket, which stands in a folder for
# its owner alone. To let others in, name a file of your own as hba_file at the end of data/postgresql.conf.
local all all trust
local replication all trust
";

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
pub struct PrivateServer {
    server: Arc<Server>,
    users: Flock<File>,
}

/// The user that runs the server, if a different user runs pointsd.
#[derive(Debug, Clone)]
struct Account {
    name: String,
    owner: Owner,
}

#[derive(Debug)]
struct Server {
    folder: Folder,
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

impl PrivateServer {
    /// Starts the server, or joins it where it runs already. The first start creates it.
    ///
    /// # Errors
    /// [`Error::PrivateServer`] when something has to be changed first: no PostgreSQL installed, another
    /// version's data, a folder that the server's user cannot reach. [`Error::PrivateServerDown`] when
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
    /// [`Error::PrivateServerDown`] when it does not come up.
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
    /// [`Error::PrivateServerDown`] when it does not stop in time.
    pub async fn stop(self) -> Result<(), Error> {
        let PrivateServer { server, users } = self;
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

    /// As "private PostgreSQL 15 in DIR".
    pub fn describe(&self) -> String {
        format!("private PostgreSQL {} in {}", self.server.major, self.server.root.display())
    }
}

impl Server {
    /// Finds out everything that does not depend on whether the server runs.
    fn prepare(options: Options) -> Result<Self, Error> {
        let as_root = geteuid().is_root();
        let state_dir = make_folder(&options.state_dir, as_root)?;
        let root = state_dir.path().join("postgres");
        if (root.as_os_str().as_encoded_bytes().iter()).any(|byte| b"\"$`\\\n".contains(byte)) {
            return Err(Error::PrivateServer {
                problem: format!(
                    "initdb and pg_ctl cannot work in {}: set a state_dir without quotes, dollar \
                     signs, backslashes and line ends",
                    root.display()
                ),
                source: None,
            });
        }
        let is_roots = state_dir.owner().uid == 0 || state_dir.owner_of("postgres").is_ok_and(|owner| owner.uid == 0);
        let mode = if as_root && is_roots { PASSABLE } else { OWNER_ONLY };
        let folder = state_dir.subfolder("postgres", mode, None);
        let folder = folder.map_err(|error| setup(format!("cannot use the folder {}", root.display()), error))?;
        let data = root.join("data");
        let account = match as_root {
            true => Some(server_account(&folder)?),
            false => None,
        };
        let existing = existing_major(&folder, account.as_ref())?;
        let (bin, major) = find_programs(options.bin.as_deref(), &data, existing)?;
        let socket = socket_folder(&root, account.as_ref())?;
        Ok(Self { log: root.join("log"), folder, root, data, socket, bin, major, account, extra: options.extra })
    }

    fn config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config.host_path(&self.socket).port(PORT).user(NAME).dbname(database).connect_timeout(ANSWER_TIMEOUT);
        config
    }

    fn open_lock(&self, name: &str) -> Result<File, Error> {
        let opened = self.folder.lock_file(name).map(|(file, _)| file);
        opened.map_err(|error| setup(format!("cannot open {}", self.root.join(name).display()), error))
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
        let left_behind = self.has_pid_file();
        // Before the first word to a server: another user may have made the folder below the one for temporary files.
        self.private_folder(&self.socket)?;
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
                        Err(error @ Error::PrivateServerDown { .. })
                            if (left_behind || self.has_pid_file()) && began.elapsed() < STALE_TIMEOUT =>
                        {
                            tracing::debug!(%error, "trying again to start the private server");
                            sleep(5 * POLL).await;
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
            if began.elapsed() > START_TIMEOUT {
                return Err(Error::PrivateServerDown {
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
        let failed = || Error::statement("creating the private server's database");
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

    fn data_folder(&self) -> io::Result<Folder> {
        self.folder.enter("data", Some(self.owner()))
    }

    fn has_pid_file(&self) -> bool {
        self.data_folder().is_ok_and(|data| data.has(PID_FILE))
    }

    /// The process in `postmaster.pid`, if it is a PostgreSQL server at work.
    fn postmaster_pid(&self) -> Option<u32> {
        self.noted_pid().filter(|pid| self.is_at_work(*pid))
    }

    /// Without /proc (macOS) being there has to do.
    fn is_at_work(&self, pid: u32) -> bool {
        is_there(pid) && is_postgres_at_work(pid, self.owner()) != Some(false)
    }

    /// The process in `postmaster.pid`, if there is one of this number, whatever it is.
    fn noted_pid(&self) -> Option<u32> {
        let text = self.data_folder().ok()?.read(PID_FILE).ok()?;
        text.lines().next()?.trim().parse().ok().filter(|pid| is_there(*pid))
    }

    /// Starts the server; creates it before, where there is none.
    fn launch(&self) -> Result<(), Error> {
        let log = self.private_folder(&self.log)?;
        self.private_folder(&self.socket)?;
        self.check_reachable()?;
        self.remove_half_made();
        if !self.folder.has("data") {
            self.create()?;
        }
        self.write_settings()?;
        self.forget_pid_that_is_no_server();
        // pg_ctl appends; only the last start is of interest.
        let _ = log.remove(START_LOG);
        let output = self.run("pg_ctl", |command| {
            command
                .args(["start", "-w", "-s", "-t"])
                .arg(START_TIMEOUT.as_secs().to_string())
                .arg("-D")
                .arg(&self.data)
                .arg("-l")
                .arg(self.log.join(START_LOG))
        })?;
        if output.status.success() {
            return Ok(());
        }
        let said = log.read(START_LOG).unwrap_or_default();
        Err(Error::PrivateServerDown {
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
        let name = format!("{NEW_DATA}{:08x}", fastrand::u32(..));
        let path = self.root.join(&name);
        let new = self.private_folder(&path)?;
        let output = self.run("initdb", |command| {
            command
                .arg("-D")
                .arg(&path)
                .args(["-U", NAME, "--auth-local=trust", "--auth-host=reject"])
                // Sorting by bytes needs no locale of the system and never changes with one.
                .args(["-E", "UTF8", "--locale=C"])
        })?;
        if !output.status.success() {
            let _ = self.folder.remove(&name);
            return Err(Error::PrivateServerDown {
                problem: format!("initdb could not create {}: {}", self.data.display(), last_lines("", &output)),
                source: None,
            });
        }
        let finish = || {
            let settings = new.read("postgresql.conf")?
                + "\n# What pointsd sets; it is written anew at each start.\n\
                   include_if_exists '../pointsd.conf'\n\
                   \n# Your own settings follow.\n";
            new.write("postgresql.conf", settings.as_bytes(), Some(self.owner()))?;
            self.folder.rename(&name, "data")?;
            self.folder.sync()
        };
        finish().map_err(|error| Error::PrivateServerDown {
            problem: format!("cannot finish {}", self.data.display()),
            source: Some(error),
        })
    }

    /// Removes what an `initdb` left behind when its pointsd was killed.
    fn remove_half_made(&self) {
        for name in self.folder.names().into_iter().flatten() {
            if name.as_encoded_bytes().starts_with(NEW_DATA.as_bytes()) {
                // If it is still writing there, a later start removes the rest.
                let _ = self.folder.remove(&name);
            }
        }
    }

    fn write_settings(&self) -> Result<(), Error> {
        // The list of socket folders has quotes of its own inside the value's, for a comma.
        let socket = self.socket.display();
        let ours = [
            ("port".to_owned(), PORT.to_string()),
            ("unix_socket_directories".to_owned(), format!("\"{socket}\"")),
            ("hba_file".to_owned(), self.root.join(ACCESS_FILE).display().to_string()),
        ];
        let mut text = String::from(
            "# Written by pointsd at each start of its private server. Put your own settings at\n\
             # the end of data/postgresql.conf instead.\n",
        );
        let fixed = SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        for (name, value) in fixed.chain(ours).chain(self.extra.iter().cloned()) {
            text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        for (name, content) in [("pointsd.conf", text.as_str()), (ACCESS_FILE, ACCESS)] {
            let written = self.folder.write(name, content.as_bytes(), Some(self.owner()));
            written.map_err(|error| setup(format!("cannot write {}", self.root.join(name).display()), error))?;
        }
        Ok(())
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
        if is_postgres_at_work(pid, self.owner()) != Some(false) {
            return;
        }
        tracing::warn!(pid, "the process {pid} in postmaster.pid is no server: forgetting it");
        if let Ok(data) = self.data_folder()
            && let Ok(text) = data.read(PID_FILE)
            && let Some((_, rest)) = text.split_once('\n')
        {
            // If it fails, PostgreSQL says in its own words why it does not start.
            let _ = data.write(PID_FILE, format!("{}\n{rest}", i32::MAX).as_bytes(), Some(self.owner()));
        }
    }

    /// Ends the server by a signal, as `pg_ctl stop -m fast` does. Its user may be unable to run that where root is: the folder
    /// of a systemd service with a dynamic user is closed to others.
    fn shut_down(&self) -> Result<(), Error> {
        let Some(pid) = self.postmaster_pid() else { return Ok(()) };
        let give_up = Instant::now() + STOP_TIMEOUT;
        // It fails for a server that has just ended.
        let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGINT);
        while self.is_at_work(pid) {
            if Instant::now() > give_up {
                return Err(Error::PrivateServerDown {
                    problem: format!("the server did not stop; see {}", self.log.display()),
                    source: None,
                });
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Runs one of PostgreSQL's programs as the server's user.
    fn run(&self, program: &str, arguments: impl FnOnce(&mut Command) -> &mut Command) -> Result<Output, Error> {
        let mut command = Command::new(self.bin.join(program));
        self.as_account(&mut command);
        arguments(&mut command);
        command.output().map_err(|error| Error::PrivateServerDown {
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
            command.uid(account.owner.uid).gid(account.owner.gid);
        }
    }

    /// A folder for the server's user alone, beside the data or below the folder for temporary files.
    fn private_folder(&self, path: &Path) -> Result<Folder, Error> {
        let name = path.file_name().unwrap_or_default();
        let made = match path.parent() {
            Some(above) if above != self.root => {
                Folder::open(above).and_then(|above| above.subfolder(name, OWNER_ONLY, Some(self.owner())))
            }
            _ => self.folder.subfolder(name, OWNER_ONLY, Some(self.owner())),
        };
        made.map_err(|error| setup(format!("cannot use the folder {}", path.display()), error))
    }

    /// The server's user.
    fn owner(&self) -> Owner {
        match &self.account {
            Some(account) => account.owner,
            None => Owner { uid: geteuid().as_raw(), gid: getegid().as_raw() },
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
                return Err(Error::PrivateServer {
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

fn is_there(pid: u32) -> bool {
    // A number of 0 or less would mean a group of processes.
    let number = i32::try_from(pid).ok().filter(|number| *number > 0);
    number.is_some_and(|number| matches!(kill(Pid::from_raw(number), None), Ok(()) | Err(Errno::EPERM)))
}

/// `None` if the system does not say.
fn is_postgres_at_work(pid: u32, owner: Owner) -> Option<bool> {
    // As "4711 (postgres) S 1 …"; Z is a zombie.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (name, state) = stat.rsplit_once(") ")?;
    let name = name.split_once(" (")?.1;
    let is_at_work = ["postgres", "postmaster"].contains(&name) && !state.starts_with(['Z', 'X']);
    // Another user's server is none of ours, whatever the file says.
    Some(is_at_work && fs::metadata(format!("/proc/{pid}")).ok()?.uid() == owner.uid)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::PrivateServerDown {
            problem: "the work on the server was cut off".to_owned(),
            source: Some(error.into()),
        }),
    }
}

fn setup(problem: String, error: io::Error) -> Error {
    Error::PrivateServer { problem, source: Some(error) }
}

fn down(problem: impl Into<String>, errno: Errno) -> Error {
    Error::PrivateServerDown { problem: problem.into(), source: Some(errno.into()) }
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

/// Opens the state folder, and makes it where it is missing. What is there stays as it is.
fn make_folder(path: &Path, as_root: bool) -> Result<Folder, Error> {
    Folder::make(path, if as_root { PASSABLE } else { OWNER_ONLY }).map_err(|error| {
        setup(format!("cannot use {}: set state_dir to a folder that can be written to", path.display()), error)
    })
}

fn existing_major(root: &Folder, account: Option<&Account>) -> Result<Option<u32>, Error> {
    let unusable = |source| Error::PrivateServer {
        problem: format!(
            "cannot read the server's data in {}: run pointsd as the user who created them, or set \
             another state_dir",
            root.path().join("data").display()
        ),
        source,
    };
    let read = root.enter("data", account.map(|account| account.owner)).and_then(|data| data.read("PG_VERSION"));
    match read {
        Ok(text) => match text.trim().parse() {
            Ok(major) => Ok(Some(major)),
            Err(_) => Err(unusable(None)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound && !root.has("data") => Ok(None),
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
    Err(Error::PrivateServer { problem, source: None })
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

/// The user that runs the server if pointsd runs as root: the owner of the data, else of the folder that they will be in, else
/// `postgres`, else `nobody`.
fn server_account(root: &Folder) -> Result<Account, Error> {
    let no_user = |source: io::Error| Error::PrivateServer {
        problem: "PostgreSQL does not run as root, and there is no user postgres or nobody to run \
                  it instead: create the user postgres, or run pointsd as an ordinary user"
            .to_owned(),
        source: Some(source),
    };
    let found = [root.owner_of("data").ok(), Some(root.owner())];
    if let Some(owner) = found.into_iter().flatten().find(|owner| owner.uid != 0) {
        let user = User::from_uid(Uid::from_raw(owner.uid)).ok().flatten();
        return Ok(Account { name: user.map_or_else(|| owner.uid.to_string(), |user| user.name), owner });
    }
    for name in ["postgres", "nobody"] {
        let user = User::from_name(name).map_err(|errno| no_user(errno.into()))?;
        if let Some(user) = user.filter(|user| !user.uid.is_root()) {
            return Ok(Account { name: user.name, owner: Owner { uid: user.uid.as_raw(), gid: user.gid.as_raw() } });
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
    let uid = account.map_or_else(|| geteuid().as_raw(), |account| account.owner.uid);
    let folder = std::env::temp_dir().join(format!("pointsd-{uid}-{short}"));
    if fits(&folder) {
        return Ok(folder);
    }
    Err(Error::PrivateServer {
        problem: format!(
            "a socket's path has {SOCKET_PATH_MAX} bytes at most: {} is too long, and so is {}; \
             set a shorter state_dir",
            beside.display(),
            folder.display()
        ),
        source: None,
    })
}
