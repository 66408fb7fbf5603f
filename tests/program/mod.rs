//! pointsd as a process, called the way its users call it.

#![allow(
    dead_code,
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used
)]

pub mod closed_port;
pub mod python;
pub mod switch;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::scratch;

/// How long anything awaited may take before its test fails. It takes a few seconds at most, but more on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// The defaults as a file, so that no file of this machine is read in their place.
pub const DEFAULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/defaults.yaml");

/// The state folder of calls that name no other: not that of this machine's root.
const STATE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/state");

/// A call with the built-in defaults and nothing of this machine's environment that pointsd reads.
pub fn pointsd(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pointsd"));
    let ours = ["POINTSD_DATABASE_URL", "POINTSD_SMTP_PASSWORD", "POINTSD_LOG", "NO_COLOR", "CLICOLOR_FORCE"];
    let of_systemd = ["CREDENTIALS_DIRECTORY", "JOURNAL_STREAM", "NOTIFY_SOCKET", "WATCHDOG_USEC"];
    for name in ours.iter().chain(&of_systemd) {
        command.env_remove(name);
    }
    command.args(args).env("POINTSD_CONFIG", DEFAULTS).env("STATE_DIRECTORY", STATE);
    command
}

/// A call on this database.
pub fn on(url: &str, args: &[&str]) -> Command {
    let mut command = pointsd(args);
    command.env("POINTSD_DATABASE_URL", url);
    command
}

/// Runs a call on this database to its end, with nothing on its standard input.
pub fn call(url: &str, args: &[&str]) -> Done {
    run(on(url, args))
}

/// Runs a call to its end, with nothing on its standard input.
pub fn run(command: Command) -> Done {
    feed(command, "")
}

/// Runs a call to its end, with this on its standard input.
pub fn feed(command: Command, input: impl AsRef<[u8]>) -> Done {
    let mut running = Running::start(command);
    let mut stdin = running.stdin.take().unwrap();
    let input = input.as_ref();
    std::thread::scope(|scope| {
        // The program may end without reading everything.
        scope.spawn(move || stdin.write_all(input).ok());
        running.finish()
    })
}

/// `pointsd post - --json` of these lines into this database.
pub fn post(url: &str, lines: impl AsRef<[u8]>) -> Done {
    feed(on(url, &["post", "-", "--json"]), lines)
}

/// The same call without the usual umask.
pub fn without_umask(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"umask 000; exec "$@""#, "sh"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

/// The exit status and the output of a call.
pub struct Done {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// The end of a long text.
fn end(text: &str) -> String {
    match text.char_indices().rev().nth(3_000) {
        Some((start, _)) => format!("…{}", &text[start..]),
        None => text.to_owned(),
    }
}

/// Shows only the end of a long output.
impl std::fmt::Debug for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Done");
        shown.field("status", &self.status).field("stdout", &end(&self.stdout));
        shown.field("stderr", &end(&self.stderr)).finish()
    }
}

impl Done {
    /// Fails unless the program exited with this status.
    #[track_caller]
    pub fn expect(self, status: i32) -> Done {
        assert_eq!(self.status.code(), Some(status), "the exit status: {self:#?}");
        self
    }

    /// Fails unless this signal ended it.
    #[track_caller]
    pub fn expect_signal(self, signal: Signal) -> Done {
        assert_eq!(self.status.signal(), Some(signal as i32), "the signal that ended it: {self:#?}");
        self
    }

    /// The one JSON object that it answered.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {self:#?}"))
    }

    /// The JSON objects that it answered, one a line.
    #[track_caller]
    pub fn jsons(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.stdout.lines().map(parse).collect()
    }
}

/// A call under way. Killed when it is dropped.
pub struct Running {
    child: Child,
    pub stdin: Option<ChildStdin>,
    stdout: Lines,
    stderr: Lines,
}

impl Running {
    pub fn start(mut command: Command) -> Running {
        let mut child = (command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()).unwrap();
        let stdout = Lines::read_from(child.stdout.take().unwrap());
        let stderr = Lines::read_from(child.stderr.take().unwrap());
        Running { stdin: child.stdin.take(), child, stdout, stderr }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal. It is our child and not waited for yet, so the number is still its own. After SIGSTOP it has stopped: until the
    /// signal has reached them, its threads would go on.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap());
        kill(pid, signal).unwrap();
        if signal == Signal::SIGSTOP {
            let or_ended = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            waitid(Id::Pid(pid), or_ended).unwrap();
        }
    }

    /// Writes to its standard input, which stays open.
    pub fn write(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// The next line of its standard output; none after the last one.
    pub fn next_line(&mut self) -> Option<String> {
        self.stdout.next()
    }

    /// The next line of its standard error; none after the last one.
    pub fn next_error_line(&mut self) -> Option<String> {
        self.stderr.next()
    }

    /// Reads its standard error until a line has these words.
    #[track_caller]
    pub fn hear(&mut self, words: &str) -> String {
        self.hear_line(words, |line| line.contains(words))
    }

    /// Reads the JSON lines of its standard error until one fits.
    #[track_caller]
    pub fn hear_json(&mut self, what: &str, mut fits: impl FnMut(&Value) -> bool) -> Value {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("no JSON, {error}: {line}"));
        parse(&self.hear_line(what, |line| fits(&parse(line))))
    }

    /// Reads the JSON lines of its standard error until a message begins like this.
    #[track_caller]
    pub fn hear_message(&mut self, begin: &str) -> Value {
        self.hear_json(begin, |line| line["message"].as_str().is_some_and(|message| message.starts_with(begin)))
    }

    /// Reads its standard error until a line fits; fails if none comes, however much else it says.
    #[track_caller]
    fn hear_line(&mut self, what: &str, mut fits: impl FnMut(&str) -> bool) -> String {
        let give_up = Instant::now() + PATIENCE;
        let mut heard = String::new();
        loop {
            let line = self.next_error_line();
            let line = line.unwrap_or_else(|| panic!("it ended without: {what}; it said: {}", end(&heard)));
            if fits(&line) {
                return line;
            }
            heard.push_str(&line);
            assert!(Instant::now() < give_up, "listened in vain for: {what}; it said: {}", end(&heard));
        }
    }

    /// Closes its standard input and waits for its end.
    pub fn finish(mut self) -> Done {
        drop(self.stdin.take());
        let (mut stdout, mut stderr) = (String::new(), String::new());
        while let Some(line) = self.stdout.next() {
            stdout.push_str(&line);
        }
        while let Some(line) = self.stderr.next() {
            stderr.push_str(&line);
        }
        let status = eventually("pointsd to end", || self.child.try_wait().unwrap());
        Done { status, stdout, stderr }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// The most memory that it has had so far, in bytes. It must be alive.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM of a living process");
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The lines of a stream, with their ends, read by a thread of its own so that a pipe never fills.
struct Lines(Receiver<String>);

impl Lines {
    fn read_from(stream: impl Read + Send + 'static) -> Lines {
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
                line.clear();
            }
        });
        Lines(lines)
    }

    fn next(&mut self) -> Option<String> {
        match self.0.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("pointsd said nothing more and did not end"),
        }
    }
}

/// Asks until there is an answer; fails if none comes.
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < give_up, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Asks the database until a query finds a row; fails if none comes.
pub async fn until_found(client: &tokio_postgres::Client, what: &str, sql: &str) {
    let give_up = Instant::now() + PATIENCE;
    while client.query(sql, &[]).await.unwrap().is_empty() {
        assert!(Instant::now() < give_up, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// How many requests of the queue are in a state.
pub fn requests_in(url: &str, state: &str) -> usize {
    call(url, &["requests", "--state", state, "--json"]).expect(0).json()["requests"].as_array().unwrap().len()
}

/// Waits until a session of pointsd waits for a lock.
pub async fn until_waits_for_a_lock(client: &tokio_postgres::Client) {
    let sql = "SELECT FROM pg_stat_activity
               WHERE datname = current_database() AND application_name = 'pointsd'
                   AND wait_event IN ('relation', 'transactionid', 'tuple')";
    until_found(client, "a session that waits for a lock", sql).await;
}

/// Runs a future to its end.
pub fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// A folder of a test's own that every user may enter, gone when it is dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        use std::os::unix::fs::PermissionsExt;
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pointsd-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = scratch().join(name);
        std::fs::remove_dir_all(&path).ok();
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file in it; returns its path.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
