//! Connections, the private server and migrations, with real servers and real processes.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid, getsid};
use pointsd::database::migrate::{self, Migration};
use pointsd::database::private_server::{Options, PrivateServer};
use pointsd::database::{Database, Error, Settings, is_transient};
use tokio_postgres::NoTls;

use crate::mail::post_office::certificates;
use crate::program::{Folder, PATIENCE, pointsd, run, wait};
use crate::support::{clean_up, scratch};

/// A state folder that the server's user can reach; gone at the end, with its server.
struct StateDir(PathBuf);

impl StateDir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pointsd-test-{}-e{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = scratch().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o711)).unwrap();
        Self(path)
    }

    fn options(&self) -> Options {
        Options { state_dir: self.0.clone(), bin: None, extra: vec![("fsync".to_owned(), "off".to_owned())] }
    }

    fn settings(&self) -> Settings {
        Settings {
            url: None,
            ca_file: None,
            pool_size: 4,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(5),
            keep_trying: Duration::from_secs(30),
            state_dir: self.0.clone(),
            postgres_bin: None,
        }
    }

    async fn start(&self) -> PrivateServer {
        PrivateServer::start(self.options()).await.unwrap()
    }

    fn data(&self) -> PathBuf {
        self.0.join("postgres/data")
    }

    fn names_in_root(&self) -> Vec<String> {
        fs::read_dir(self.0.join("postgres"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect()
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        let pid = fs::read_to_string(self.data().join("postmaster.pid"))
            .ok()
            .and_then(|text| text.lines().next()?.parse().ok());
        let path = self.0.clone();
        clean_up(move || {
            if let Some(pid) = pid {
                signal(pid, Signal::SIGQUIT);
                until("the server is gone", || !is_alive(pid));
            }
            let _ = fs::remove_dir_all(&path);
        });
    }
}

fn signal(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid.try_into().unwrap()), signal);
}

fn is_alive(pid: u32) -> bool {
    // A zombie counts as dead: some containers have no init that reaps it.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < give_up, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

async fn client_of(config: tokio_postgres::Config) -> tokio_postgres::Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn text(client: &tokio_postgres::Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Another process that uses the server: this test program, run again with [`helper`] alone.
struct Helper {
    child: Child,
    pid_of_server: u32,
}

const HELPER: &str = "POINTSD_TEST_HELPER";

#[tokio::test(flavor = "multi_thread")]
async fn helper() {
    let Some(folder) = std::env::var_os(HELPER) else {
        return;
    };
    let server = PrivateServer::start(Options {
        state_dir: folder.into(),
        bin: None,
        extra: vec![("fsync".to_owned(), "off".to_owned())],
    })
    .await
    .unwrap();
    client_of(server.config()).await;
    println!("\nSERVER {}", server.postmaster_pid().unwrap());
    std::io::stdout().flush().unwrap();
    // The parent closes our input when we are to go.
    let _ = std::io::stdin().lock().lines().count();
    server.stop().await.unwrap();
}

impl Helper {
    fn spawn(folder: &Path) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "database::helper", "--nocapture"])
            .env(HELPER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn wait_until_ready(mut child: Child) -> Self {
        let pid_of_server = BufReader::new(child.stdout.as_mut().unwrap())
            .lines()
            .find_map(|line| line.unwrap().strip_prefix("SERVER ")?.parse().ok())
            .expect("the helper did not get to its server");
        Self { child, pid_of_server }
    }

    fn leave(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_starts_it_the_second_shares_it_the_last_stops_it() {
    let folder = StateDir::new();
    let server = folder.start().await;
    let pid = server.postmaster_pid().unwrap();
    let second = Helper::wait_until_ready(Helper::spawn(&folder.0));
    assert_eq!(second.pid_of_server, pid);
    second.leave();
    assert_eq!(server.postmaster_pid(), Some(pid), "we still need it");
    client_of(server.config()).await;

    let third = Helper::wait_until_ready(Helper::spawn(&folder.0));
    server.stop().await.unwrap();
    assert!(is_alive(pid), "the third still needs it");
    third.leave();
    until("the server has stopped", || !is_alive(pid));
    assert!(!folder.data().join("postmaster.pid").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_race_for_the_first_start_share_one_server() {
    let folder = StateDir::new();
    let children: Vec<Child> = (0..4).map(|_| Helper::spawn(&folder.0)).collect();
    let helpers: Vec<Helper> = children.into_iter().map(Helper::wait_until_ready).collect();
    let pid = helpers.first().unwrap().pid_of_server;
    assert!(helpers.iter().all(|helper| helper.pid_of_server == pid));
    // All leave at once: exactly one of them is the last.
    let leaving: Vec<_> = helpers.into_iter().map(|helper| std::thread::spawn(|| helper.leave())).collect();
    for thread in leaving {
        thread.join().unwrap();
    }
    until("the server has stopped", || !is_alive(pid));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_comes_back_with_its_data() {
    let folder = StateDir::new();
    let database = Database::open(&folder.settings()).await.unwrap();
    assert!(database.has_private_server());
    assert!(database.describe().starts_with("private PostgreSQL "));
    let client = database.connection().await.unwrap();
    client.batch_execute("CREATE TABLE public.kept AS SELECT 42 AS answer").await.unwrap();
    let other = folder.start().await;
    for _ in 0..3 {
        let pid = other.postmaster_pid().unwrap();
        signal(pid, Signal::SIGKILL);
        until("the server is gone", || !is_alive(pid));
        // For a moment a session of the dead server may still answer.
        let give_up = Instant::now() + Duration::from_secs(20);
        loop {
            let client = database.connection().await.unwrap();
            if other.postmaster_pid().is_some() {
                let sql = "SELECT answer::text FROM public.kept";
                assert_eq!(text(&client, sql).await, "42");
                break;
            }
            assert!(Instant::now() < give_up, "it does not come back");
        }
        assert_ne!(other.postmaster_pid().unwrap(), pid);
        other.ensure_running().await.unwrap();
    }
    // A killed session makes the server restart all of them: wait for it, do not start another.
    let pid = other.postmaster_pid().unwrap();
    let session: i32 = client_pid(&database).await;
    signal(session.try_into().unwrap(), Signal::SIGKILL);
    other.ensure_running().await.unwrap();
    client_pid(&database).await;
    assert_eq!(other.postmaster_pid().unwrap(), pid);
    drop(client);
    other.stop().await.unwrap();
    assert!(is_alive(pid));
    let clone = database.clone();
    database.close().await.unwrap();
    assert!(!is_alive(pid), "the last handle's close stops it");
    let error = clone.connection().await.err().unwrap();
    assert!(matches!(error, Error::Closed), "{error}");
}

async fn client_pid(database: &Database) -> i32 {
    let client = database.connection().await.unwrap();
    let row = client.query_one("SELECT pg_backend_pid()", &[]).await;
    row.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_user_leaves_the_server_to_the_next_who_stops_it() {
    let folder = StateDir::new();
    let first = Helper::wait_until_ready(Helper::spawn(&folder.0));
    let pid = first.pid_of_server;
    first.kill();
    assert!(is_alive(pid), "the server outlives its user");
    let server = folder.start().await;
    assert_eq!(server.postmaster_pid(), Some(pid));
    server.stop().await.unwrap();
    until("the server has stopped", || !is_alive(pid));

    // Dropping a claim instead of stopping is the same as being killed.
    let server = folder.start().await;
    let pid = server.postmaster_pid().unwrap();
    drop(server);
    assert!(is_alive(pid));
    folder.start().await.stop().await.unwrap();
    assert!(!is_alive(pid));
}

#[tokio::test(flavor = "multi_thread")]
async fn being_killed_while_creating_it_wedges_nothing() {
    let folder = StateDir::new();
    let half_made = || {
        let names = folder.names_in_root();
        let new = names.iter().find(|name| name.starts_with("data.new-"))?;
        let new = folder.0.join("postgres").join(new);
        // initdb is at work.
        new.join("PG_VERSION").exists().then_some(new)
    };
    let mut child = Helper::spawn(&folder.0);
    until("initdb is at work", || half_made().is_some());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(half_made().is_some(), "killed too late for this test");
    // The initdb that lost its parent may go on for a moment; what it leaves is tidied up by one of
    // the next starts.
    let give_up = Instant::now() + Duration::from_secs(20);
    loop {
        let server = folder.start().await;
        client_of(server.config()).await;
        server.stop().await.unwrap();
        if !folder.names_in_root().iter().any(|name| name.starts_with("data.new-")) {
            break;
        }
        assert!(Instant::now() < give_up, "it is never tidied up");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_durable_private_and_apart_from_us() {
    let folder = StateDir::new();
    let database = Database::open(&folder.settings()).await.unwrap();
    let client = database.connection().await.unwrap();
    for (name, value) in [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("listen_addresses", ""),
        ("unix_socket_permissions", "0700"),
        ("server_encoding", "UTF8"),
        ("application_name", "pointsd"),
        ("jit", "off"),
        ("plan_cache_mode", "force_generic_plan"),
        ("timezone", "UTC"),
        ("statement_timeout", "5s"),
        ("lock_timeout", "2500ms"),
        ("idle_in_transaction_session_timeout", "1min"),
    ] {
        assert_eq!(text(&client, &format!("SHOW {name}")).await, value, "{name}");
    }
    let server = folder.start().await;
    let pid = server.postmaster_pid().unwrap();
    for folder in [server.socket_dir(), &folder.data()] {
        assert_eq!(fs::metadata(folder).unwrap().mode() & 0o777, 0o700);
    }
    // Ctrl-C in our terminal reaches only our own session's processes.
    let session = |pid| getsid(pid).unwrap();
    let server_pid = Pid::from_raw(pid.try_into().unwrap());
    assert_ne!(session(Some(server_pid)), session(None));
    let uid = fs::metadata(format!("/proc/{pid}")).unwrap().uid();
    if geteuid().is_root() {
        assert_ne!(uid, 0, "the server never runs as root");
    } else {
        assert_eq!(uid, geteuid().as_raw());
    }
    assert!(server.bin_dir().join("pg_ctl").exists());
    drop(client);
    server.stop().await.unwrap();
    database.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_too_long_for_a_socket_still_works() {
    let folder = StateDir::new();
    let long = folder.0.join("x".repeat(90)).join("it's quoted, and long");
    let options = || Options { state_dir: long.clone(), ..folder.options() };
    let server = PrivateServer::start(options()).await.unwrap();
    let socket_dir = server.socket_dir().to_path_buf();
    assert!(socket_dir.starts_with(std::env::temp_dir()));
    assert_eq!(fs::metadata(&socket_dir).unwrap().mode() & 0o777, 0o700);
    let second = PrivateServer::start(options()).await.unwrap();
    assert_eq!(second.socket_dir(), socket_dir);
    client_of(second.config()).await;
    second.stop().await.unwrap();
    server.stop().await.unwrap();

    // A link to another folder is refused, before a word is said to the server in there.
    let other = listener_in(&socket_dir);
    let elsewhere = socket_dir.with_extension("elsewhere");
    fs::rename(&socket_dir, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &socket_dir).unwrap();
    let error = PrivateServer::start(options()).await.err().unwrap();
    assert!(error.to_string().contains("cannot use the folder"), "{error}");
    assert!(has_heard_nothing(&other));
    fs::remove_file(&socket_dir).unwrap();
    fs::remove_dir_all(&elsewhere).unwrap();

    // Quotes and commas beside the data.
    let quoted = folder.0.join("it's a, b");
    let server = PrivateServer::start(Options { state_dir: quoted.clone(), ..folder.options() });
    let server = server.await.unwrap();
    assert!(server.socket_dir().starts_with(quoted));
    server.stop().await.unwrap();
}

/// Another user may have made a folder of this name below the one for temporary files.
#[tokio::test(flavor = "multi_thread")]
async fn a_socket_folder_of_another_user_is_refused() {
    assert!(geteuid().is_root(), "a folder is given to another user: run this test as root");
    let folder = StateDir::new();
    let options = || Options { state_dir: folder.0.join("x".repeat(90)), ..folder.options() };
    let server = PrivateServer::start(options()).await.unwrap();
    let socket_dir = server.socket_dir().to_path_buf();
    server.stop().await.unwrap();
    let other = listener_in(&socket_dir);
    chown(&socket_dir, Some(12345), None).unwrap();
    let error = PrivateServer::start(options()).await.err().unwrap();
    assert!(error.to_string().contains("cannot use the folder"), "{error}");
    assert!(has_heard_nothing(&other));
    fs::remove_dir_all(&socket_dir).unwrap();
}

/// Listens where a server has its socket.
fn listener_in(socket_dir: &Path) -> UnixListener {
    let listener = UnixListener::bind(socket_dir.join(".s.PGSQL.5432")).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

fn has_heard_nothing(listener: &UnixListener) -> bool {
    listener.accept().is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_in_postmaster_pid_that_is_no_server_wedges_nothing() {
    let folder = StateDir::new();
    let server = folder.start().await;
    let postgres = server.bin_dir().join("postgres");
    server.stop().await.unwrap();

    let mut other = Command::new("sleep");
    other.arg("60");
    let mut zombie = Command::new(postgres);
    zombie.arg("--version").stdout(Stdio::null());
    for (command, is_zombie) in [(&mut other, false), (&mut zombie, true)] {
        let server = folder.start().await;
        let pid = server.postmaster_pid().unwrap();
        let pid_file = folder.data().join("postmaster.pid");
        let noted = fs::read_to_string(&pid_file).unwrap();
        let owner = fs::metadata(&pid_file).unwrap();
        server.stop().await.unwrap();
        if geteuid().is_root() {
            command.uid(owner.uid()).gid(owner.gid());
        }
        let mut child = command.spawn().unwrap();
        if is_zombie {
            // The child stays a zombie until the test waits for it.
            until("it has ended", || !is_alive(child.id()));
        }
        let noted = noted.replacen(&pid.to_string(), &child.id().to_string(), 1);
        fs::write(&pid_file, noted).unwrap();
        chown(&pid_file, Some(owner.uid()), Some(owner.gid())).unwrap();

        let server = folder.start().await;
        client_of(server.config()).await;
        server.stop().await.unwrap();
        if !is_zombie {
            assert!(child.try_wait().unwrap().is_none(), "left in peace");
            child.kill().unwrap();
        }
        child.wait().unwrap();
    }
}

/// Sessions of a killed server may still write: a new server has to wait for their end.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_new_server_waits_for_the_sessions_of_a_killed_one() {
    let folder = StateDir::new();
    let server = folder.start().await;
    let client = client_of(server.config()).await;
    let session: u32 = text(&client, "SELECT pg_backend_pid()::text").await.parse().unwrap();
    let pid = server.postmaster_pid().unwrap();
    // Stopped, it does not notice the end of its server.
    signal(session, Signal::SIGSTOP);
    signal(pid, Signal::SIGKILL);
    until("the server is gone", || !is_alive(pid));
    let revived = tokio::spawn(async move {
        server.ensure_running().await.unwrap();
        server
    });
    let start_log = folder.0.join("postgres/log/start.log");
    until("a start was refused", || {
        fs::read_to_string(&start_log).is_ok_and(|log| log.contains("shared memory block"))
    });
    assert!(!revived.is_finished());
    signal(session, Signal::SIGCONT);
    let server = revived.await.unwrap();
    assert!(!is_alive(session));
    client_of(server.config()).await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_says_what_to_do() {
    let folder = StateDir::new();
    let problem = |options: Options| async {
        let error = PrivateServer::start(options).await.err().unwrap();
        error.to_string()
    };
    let said = problem(Options { bin: Some(folder.0.clone()), ..folder.options() });
    let said = said.await;
    assert!(said.contains("database.postgres_bin"), "{said}");
    assert!(said.contains("script/setup"), "{said}");
    assert!(said.contains("database.url"), "{said}");

    folder.start().await.stop().await.unwrap();
    let settings = folder.data().join("postgresql.conf");
    let original = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, format!("{original}shared_buffers = lots\n")).unwrap();
    let config_folder = Folder::new();
    let config = config_folder.file("pointsd.yaml", format!("state_dir: {}\n", folder.0.display()));
    let mut command = pointsd(&["db", "status", "--config", &config]);
    command.env("POINTSD_LOG", "debug");
    let said = run(command).expect(1).stderr;
    assert!(said.contains("invalid value for parameter"), "{said}");
    assert!(!said.contains("trying again to start the private server"), "no use to retry: {said}");
    fs::write(&settings, original).unwrap();

    let said = problem(Options { state_dir: folder.0.join("$HOME"), ..folder.options() });
    let said = said.await;
    assert!(said.contains("without quotes, dollar signs"), "{said}");

    let version = folder.data().join("PG_VERSION");
    let original = fs::read_to_string(&version).unwrap();
    fs::write(&version, "9\n").unwrap();
    let said = problem(folder.options()).await;
    assert!(said.contains("are of PostgreSQL 9, but there is only"), "{said}");
    fs::write(&version, original).unwrap();
    folder.start().await.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_folder_that_the_servers_user_cannot_enter_is_refused() {
    assert!(geteuid().is_root(), "only root runs the server as another user: run this test as root");
    let folder = StateDir::new();
    let closed = folder.0.join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    let options = Options { state_dir: closed.join("state"), ..folder.options() };
    let said = PrivateServer::start(options).await.err().unwrap().to_string();
    let words = format!("cannot enter {}: set state_dir", closed.display());
    assert!(said.contains(&words), "{said}");
}

const SLOW: Migration = Migration {
    version: 1,
    name: "slow",
    sql: "CREATE TABLE public.once (x int); SELECT pg_sleep(1); INSERT INTO public.once VALUES (1);",
};

#[tokio::test(flavor = "multi_thread")]
async fn migrations_that_race_run_once_and_wait_beyond_the_statement_timeout() {
    let folder = StateDir::new();
    let mut settings = folder.settings();
    settings.statement_timeout = Duration::from_millis(400);
    let database = Database::open(&settings).await.unwrap();
    let other = Database::open(&settings).await.unwrap();
    let third = other.clone();
    let list = [SLOW];
    let (a, b, c) =
        tokio::join!(migrate::run(&database, &list), migrate::run(&other, &list), migrate::run(&third, &list),);
    let names: Vec<String> = [a, b, c].into_iter().flat_map(Result::unwrap).map(|applied| applied.name).collect();
    assert_eq!(names, ["0001_slow"], "one of them applied it");
    let client = database.connection().await.unwrap();
    assert_eq!(text(&client, "SELECT count(*)::text FROM public.once").await, "1");
    drop(client);
    other.close().await.unwrap();
    database.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_that_do_not_fit_are_refused() {
    let folder = StateDir::new();
    let database = Database::open(&folder.settings()).await.unwrap();
    let names = |list: Vec<pointsd::database::MigrationStatus>| -> Vec<(String, bool)> {
        list.into_iter().map(|status| (status.name, status.applied_at.is_some())).collect()
    };
    let own = names(database.migrations().await.unwrap());
    assert!(own.iter().all(|(_, applied)| !applied), "all are pending");
    database.migrate().await.unwrap();
    assert!(database.migrate().await.unwrap().is_empty());
    let own = names(database.migrations().await.unwrap());
    assert!(own.iter().all(|(_, applied)| *applied));

    let last = migrate::MIGRATIONS.last().unwrap().version;
    let with = |added: &[Migration]| [migrate::MIGRATIONS, added].concat();
    let good = Migration { version: last + 1, name: "good", sql: "CREATE TABLE public.good (x int)" };
    let bad = Migration { version: last + 2, name: "bad", sql: "CREATE TABLE public.bad (x int); SELECT 1/0" };
    let error = migrate::run(&database, &with(&[good, bad])).await.err();
    let error = error.unwrap();
    assert!(error.to_string().contains("_bad"), "{error}");
    assert!(!error.is_transient());
    let client = database.connection().await.unwrap();
    let exist = "SELECT concat(to_regclass('public.good'), to_regclass('public.bad'))";
    assert_eq!(text(&client, exist).await, "public.good", "bad left nothing");
    let locks = "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory'";
    assert_eq!(text(&client, locks).await, "0", "the lock is free again");

    let changed = Migration { sql: "CREATE TABLE public.good (x bigint)", ..good };
    let error = migrate::run(&database, &with(&[changed])).await.err();
    let said = error.unwrap().to_string();
    assert!(said.contains("_good.sql was changed after"), "{said}");
    let error = database.migrate().await.err().unwrap();
    assert!(error.to_string().contains("newer than this program"));
    let seen = names(database.migrations().await.unwrap());
    let name = format!("{:04}_good", last + 1);
    assert_eq!(seen.last(), Some(&(name, true)), "and still it is shown");
    drop(client);
    database.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dedicated_connection_hears_notifications() {
    let folder = StateDir::new();
    let database = Database::open(&folder.settings()).await.unwrap();
    let mut dedicated = database.dedicated().await.unwrap();
    dedicated.client.batch_execute("LISTEN news").await.unwrap();
    let client = database.connection().await.unwrap();
    client.batch_execute("NOTIFY news, 'hello'").await.unwrap();
    let heard = dedicated.notifications.recv().await.unwrap();
    assert_eq!((heard.channel(), heard.payload()), ("news", "hello"));
    client
        .batch_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
        .await
        .unwrap();
    assert!(dedicated.notifications.recv().await.is_none(), "it ended");
    drop(client);
    database.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_to_try_again_is_told_by_the_sqlstate() {
    let folder = StateDir::new();
    let database = Database::open(&folder.settings()).await.unwrap();
    let client = database.connection().await.unwrap();
    for (code, transient) in [
        ("08006", true),
        ("40001", true),
        ("40P01", true),
        ("53300", true),
        ("55P03", true),
        ("57P01", true),
        ("57P03", true),
        ("22012", false),
        ("23505", false),
        ("53100", false),
        ("57014", false),
        ("P0001", false),
    ] {
        let sql = format!("DO $$ BEGIN RAISE 'x' USING ERRCODE = '{code}'; END $$");
        let error = client.batch_execute(&sql).await.unwrap_err();
        assert_eq!(is_transient(&error), transient, "{code}");
    }
    let own_end = "SELECT pg_terminate_backend(pg_backend_pid())";
    let error = client.batch_execute(own_end).await.unwrap_err();
    assert!(is_transient(&error), "{error:?}");
    let error = client.batch_execute("SELECT 1").await.unwrap_err();
    assert!(is_transient(&error), "{error:?}");
    drop(client);
    client_pid(&database).await;
    database.close().await.unwrap();
}

/// One server with a certificate for points.example, signed by an authority of its own.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn tls_is_opportunistic_by_default_and_verified_where_asked() {
    let (folder, files) = (StateDir::new(), crate::program::Folder::new());
    let made = certificates(&files, "points.example");
    let server = folder.start().await;
    let owner = fs::metadata(folder.data()).unwrap();
    server.stop().await.unwrap();
    for (from, name) in [(&made.key, "server.key"), (&made.certificate, "server.pem")] {
        let to = folder.data().join(name);
        fs::copy(from, &to).unwrap();
        fs::set_permissions(&to, Permissions::from_mode(0o600)).unwrap();
        chown(&to, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    // A loopback address of our own, so that no other program here uses the port.
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let address = format!("127.77.{high}.{low}");
    // The server's own rules refuse TCP.
    let access = folder.data().join("tcp.conf");
    fs::write(&access, "local all all trust\nhost all all 127.0.0.0/8 trust\n").unwrap();
    chown(&access, Some(owner.uid()), Some(owner.gid())).unwrap();
    let with_tls = |on: &str| {
        let extra = [
            ("listen_addresses", address.as_str()),
            ("hba_file", access.to_str().unwrap()),
            ("ssl", on),
            ("ssl_cert_file", "server.pem"),
            ("ssl_key_file", "server.key"),
        ];
        let extra = extra.map(|(name, value)| (name.to_owned(), value.to_owned()));
        PrivateServer::start(Options { extra: extra.to_vec(), ..folder.options() })
    };
    let open = |host: &'static str, mode: &str, ca: Option<&str>| {
        let settings = Settings {
            url: Some(format!("postgres://pointsd@{host}/pointsd?hostaddr={address}&{mode}")),
            ca_file: ca.map(PathBuf::from),
            ..folder.settings()
        };
        async move {
            let database = Database::open(&settings).await?;
            let client = database.connection().await?;
            let sql = "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
            Ok::<_, Error>(text(&client, sql).await)
        }
    };

    let server = with_tls("on").await.unwrap();
    let (good, authority) = ("points.example", Some(made.authority.as_str()));
    assert_eq!(open(good, "sslmode=prefer", None).await.unwrap(), "true");
    assert_eq!(open("any.example", "sslmode=prefer", None).await.unwrap(), "true");
    assert_eq!(open(good, "sslmode=disable", None).await.unwrap(), "false");
    assert_eq!(open(good, "sslmode=prefer", authority).await.unwrap(), "true");
    let require = "sslmode=require";
    assert_eq!(open(good, require, authority).await.unwrap(), "true");
    for (host, mode, ca, words) in [
        (good, require, None, "as database.ca_file"),
        ("other.example", "sslmode=prefer", authority, "for another host"),
        (good, "sslmode=prefer", Some(made.key.as_str()), "holds no certificate"),
        (good, "sslmode=prefer", Some("missing.pem"), "cannot be read as PEM"),
    ] {
        let error = open(host, mode, ca).await.err().unwrap();
        assert!(error.to_string().contains(words), "{host} {mode}: {error}");
        assert!(!error.is_transient(), "{error:?}");
    }
    server.stop().await.unwrap();

    let server = with_tls("off").await.unwrap();
    assert_eq!(open(good, "sslmode=prefer", None).await.unwrap(), "false");
    let error = open(good, "sslmode=prefer", authority).await.err().unwrap();
    assert!(!error.is_transient(), "no fall back: {error:?}");
    server.stop().await.unwrap();
}

/// The owner of the state folder puts links and pipes in the place of everything that pointsd writes and locks. Under root the folder
/// belongs to another user: a link that is followed would lead root astray.
#[tokio::test(flavor = "multi_thread")]
async fn no_link_in_the_state_folder_is_followed() {
    let ours = geteuid().as_raw();
    let owner = if ours == 0 { 65_534 } else { ours };
    let (folder, precious) = (StateDir::new(), StateDir::new());
    let file = precious.0.join("file.pid");
    // The number of a process that is no server.
    fs::write(&file, "1\nprecious\n").unwrap();
    if ours == 0 {
        chown(&folder.0, Some(owner), Some(owner)).unwrap();
    }
    folder.start().await.stop().await.unwrap();
    let root = folder.0.join("postgres");
    for made in
        ["postgres", "postgres/pointsd.conf", "postgres/start.lock", "postgres/data", "postgres/data/PG_VERSION"]
    {
        let found = fs::metadata(folder.0.join(made)).unwrap();
        let mode = if found.is_dir() { 0o700 } else { 0o600 };
        assert_eq!((found.uid(), found.mode() & 0o777), (owner, mode), "{made}: the owner of the state folder runs it");
    }
    let untouched = |place: &str| {
        assert_eq!(fs::read_to_string(&file).unwrap(), "1\nprecious\n", "{place}");
        for (path, mode) in [(&file, 0o644), (&precious.0, 0o711)] {
            let found = fs::metadata(path).unwrap();
            assert_eq!((found.uid(), found.mode() & 0o777), (ours, mode), "{place}");
        }
        assert_eq!(fs::read_dir(&precious.0).unwrap().count(), 1, "{place}");
    };
    for (place, starts) in [
        ("pointsd.conf", true),
        ("pg_hba.conf", true),
        ("data/postmaster.pid", true),
        ("start.lock", false),
        ("users.lock", false),
        ("log", false),
        ("socket", false),
        ("data", false),
    ] {
        let (link, aside) = (root.join(place), root.join("aside"));
        let was_there = fs::rename(&link, &aside).is_ok();
        for kind in ["link", "hard link", "pipe"] {
            match kind {
                "link" if aside.is_dir() => std::os::unix::fs::symlink(&precious.0, &link).unwrap(),
                "link" => std::os::unix::fs::symlink(&file, &link).unwrap(),
                // PostgreSQL itself would wait at a pipe, and take another's pid file for its own.
                _ if place == "data/postmaster.pid" => continue,
                "pipe" => nix::unistd::mkfifo(&link, nix::sys::stat::Mode::S_IRWXU).unwrap(),
                _ => fs::hard_link(&file, &link).unwrap(),
            }
            // On a thread of its own: a pipe that is opened without care holds it up for ever.
            let (options, (ended, end)) = (folder.options(), mpsc::channel());
            std::thread::spawn(move || {
                ended.send(wait(async { PrivateServer::start(options).await?.stop().await })).ok();
            });
            match end.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("a {kind} as {place}: {error}")) {
                Ok(()) if starts => {}
                Err(error) if !starts => assert!(error.to_string().contains(place), "{place}: {error}"),
                other => panic!("a {kind} as {place}: {other:?}"),
            }
            untouched(place);
            fs::remove_file(&link).ok();
        }
        if was_there {
            fs::rename(&aside, &link).unwrap();
        }
    }
    fs::rename(&root, folder.0.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(&precious.0, &root).unwrap();
    let error = PrivateServer::start(folder.options()).await.err().unwrap();
    assert!(error.to_string().contains("cannot use the folder"), "{error}");
    untouched("postgres");
}

/// An own setting that opens a port lets nobody in without a rule of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_opened_by_mistake_lets_no_session_in() {
    let folder = StateDir::new();
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let address = format!("127.78.{high}.{low}");
    let extra = vec![("fsync".to_owned(), "off".to_owned()), ("listen_addresses".to_owned(), address.clone())];
    let server = PrivateServer::start(Options { extra, ..folder.options() }).await.unwrap();
    let error = format!("postgres://pointsd@{address}/pointsd").parse::<tokio_postgres::Config>().unwrap();
    let error = error.connect(NoTls).await.err().unwrap();
    let said = error.as_db_error().unwrap().message();
    assert!(said.contains("no pg_hba.conf entry"), "{said}");
    client_of(server.config()).await;
    server.stop().await.unwrap();
    let rules = fs::read_to_string(folder.data().join("pg_hba.conf")).unwrap();
    let open = |line: &&str| line.starts_with("host") && line.contains("trust");
    assert_eq!(rules.lines().find(open), None);
}

/// A server that offers no TLS gets nothing after its answer, neither from a URL of the default mode nor from one that
/// asks for plain text.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_not_sent_to_another_machine_in_the_clear() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut first = [0; 8];
        std::io::Read::read_exact(&mut client, &mut first).unwrap();
        client.write_all(b"N").unwrap();
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut client, &mut rest).unwrap();
        (first, rest)
    });
    let open = |mode: &str| {
        // Linux takes this address for its own, pointsd does not.
        let settings = Settings::server(format!("postgres://me:hunter2@0.0.0.0:{port}/points{mode}"));
        async move { Database::open(&settings).await }
    };
    let error = open("?sslmode=disable").await.err().unwrap();
    assert!(error.to_string().contains("another machine; write sslmode=require"), "{error}");
    let error = open("").await.err().unwrap();
    assert!(error.to_string().contains("turn TLS on there (ssl = on) and write sslmode=require"), "{error}");
    assert!(!error.is_transient(), "{error:?}");
    let (first, rest) = heard.join().unwrap();
    assert_eq!((first, rest), ([0, 0, 0, 8, 4, 210, 22, 47], vec![]), "the question for TLS, and no more");
}

/// A rotated password arrives as a credential. Once the daemon is reloaded, its new sessions use it. Of anything else that changed in
/// the URL it warns.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_a_rotated_password() {
    let (folder, credentials) = (StateDir::new(), crate::program::Folder::new());
    let access = folder.0.join("access.conf");
    fs::write(&access, "local all app scram-sha-256\nlocal all all trust\n").unwrap();
    let mut options = folder.options();
    options.extra.push(("hba_file".to_owned(), access.to_str().unwrap().to_owned()));
    let server = PrivateServer::start(options).await.unwrap();
    let client = client_of(server.config()).await;
    let password = async |password: &str| {
        let sql = format!("ALTER ROLE app PASSWORD '{password}'");
        client.batch_execute(&sql).await.unwrap();
        // A pooled session would go on.
        client
            .batch_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
            .await
            .unwrap();
    };
    let credential = |password: &str, options: &str| {
        let socket = server.socket_dir().to_str().unwrap().replace('/', "%2F");
        credentials.file("database-url", format!("postgres://app:{password}@{socket}/pointsd{options}\n"));
    };
    client.batch_execute("CREATE ROLE app SUPERUSER LOGIN").await.unwrap();
    password("one").await;
    credential("one", "");
    let config = credentials.file("pointsd.yaml", "state_dir: .\njobs: {expiry: {schedule: '* * * * * *'}}\n");
    let mut command = crate::program::pointsd(&["serve", "--config", &config]);
    command.env("CREDENTIALS_DIRECTORY", credentials.path());
    let mut daemon = crate::program::Running::start(command);
    let pid = daemon.pid();
    let mut said = String::new();
    let mut logs = |words: &str| {
        let give_up = Instant::now() + crate::program::PATIENCE / 3;
        loop {
            assert!(Instant::now() < give_up, "waited in vain for {words}");
            let line = daemon.next_error_line().expect("it still runs");
            said.push_str(&line);
            if line.contains(words) {
                break;
            }
        }
    };
    logs("expiry succeeded");
    password("two").await;
    logs("password authentication failed");
    credential("two", "");
    signal(pid, Signal::SIGHUP);
    logs("reloaded");
    logs("expiry succeeded");
    credential("two", "?application_name=points");
    signal(pid, Signal::SIGHUP);
    logs("taken only when pointsd is restarted: database.url (application_name)");
    daemon.signal(Signal::SIGTERM);
    said.push_str(&daemon.finish().expect(0).stderr);
    assert_eq!(said.matches("only when pointsd is restarted").count(), 1, "{said}");
    drop(client);
    server.stop().await.unwrap();
}
