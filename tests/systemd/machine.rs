//! A systemd of the tests' own with pointsd installed in it, as the unit's first lines say.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::runtime::Runtime;
use tokio_postgres::config::Host;

use crate::program::closed_port::ClosedPort;
use crate::program::{Done, PATIENCE, feed};
use crate::support::TestDatabase;

pub const SERVICE: &str = include_str!("../../systemd/pointsd.service");
const USERS: &str = include_str!("../../systemd/pointsd.sysusers");
pub const ALERT: &str = include_str!("../../systemd/pointsd-alert@.service");

/// The machine, as long as a test holds it or waits for it.
static MACHINE: Mutex<Weak<Machine>> = Mutex::new(Weak::new());
/// Held by the test that uses the machine.
static TURN: Mutex<()> = Mutex::new(());

struct Machine {
    boot: Child,
    pid: String,
}

impl Machine {
    fn claim() -> Arc<Machine> {
        let mut shared = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(machine) = shared.upgrade() {
            return machine;
        }
        let machine = Arc::new(Machine::boot());
        *shared = Arc::downgrade(&machine);
        machine
    }

    fn boot() -> Machine {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/systemd/boot");
        let mut boot = Command::new(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut pid = String::new();
        BufReader::new(boot.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        // The reason of a failure is on standard error, which is that of the test.
        assert!(pid.ends_with('\n'), "{script} could not boot a systemd; above is what it needs");
        let machine = Machine { boot, pid: pid.trim().to_owned() };
        machine.write("/usr/bin/pointsd", std::fs::read(env!("CARGO_BIN_EXE_pointsd")).unwrap(), "755");
        machine.write("/etc/systemd/system/pointsd.service", SERVICE, "644");
        machine.write("/etc/systemd/system/pointsd-alert@.service", ALERT, "644");
        machine.write("/etc/sysusers.d/pointsd.conf", USERS, "644");
        machine.write("/etc/sysusers.d/test.conf", "u member\nm member pointsd\nu stranger\n", "644");
        crate::program::run(machine.command(&["systemd-sysusers"])).expect(0);
        // systemd forgets how a service ended once its unit is unloaded.
        machine.write("/etc/systemd/system/remember.target", "[Unit]\nAfter=pointsd.service\n", "644");
        crate::program::run(machine.command(&["systemctl", "start", "remember.target"])).expect(0);
        machine
    }

    /// Runs a command in there, as root.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid, "-a"]).args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>, mode: &str) {
        let script = r#"mkdir -p "${1%/*}" && rm -f "$1" && umask 077 && cat >"$1" && chmod "$2" "$1""#;
        feed(self.command(&["sh", "-c", script, "sh", path, mode]), content).expect(0);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.boot.stdin.take());
        self.boot.wait().ok();
    }
}

/// pointsd.service in the machine, for one test at a time; stopped and as newly installed before and after it.
pub struct Service {
    machine: Arc<Machine>,
    /// When the test began, for journalctl.
    since: String,
    _turn: MutexGuard<'static, ()>,
}

impl Service {
    /// With these lines added to the unit's section [Service].
    pub fn with(lines: &str) -> Service {
        let machine = Machine::claim();
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut service = Service { machine, since: String::new(), _turn: turn };
        service.clear();
        // Soon, or each restart would take its time.
        let lines = format!("[Service]\nRestartSec=100ms\n{lines}\n");
        service.write("/etc/systemd/system/pointsd.service.d/test.conf", lines, "644");
        service.run(&["systemctl", "daemon-reload"]).expect(0);
        // Not --after-cursor: with matches, systemd 252 leaves out the first entry after it.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        service.since = format!("--since=@{}.{:06}", now.as_secs(), now.subsec_micros());
        service
    }

    /// On this database, through a gate that can be shut; its URL is a credential.
    pub fn on(gate: &Gate, lines: &str) -> Service {
        let service = Service::with(lines);
        service.write("/etc/pointsd/database-url", format!("{}\n", gate.url()), "600");
        service
    }

    fn clear(&self) {
        self.run(&["systemctl", "kill", "--signal=SIGKILL", "pointsd.service"]);
        self.run(&["systemctl", "stop", "pointsd.service"]);
        self.run(&["systemctl", "reset-failed"]).expect(0);
        let made = ["/etc/pointsd", "/etc/systemd/system/pointsd.service.d", "/var/lib/private", "/var/lib/pointsd"];
        self.run(&[&["rm", "-rf"], &made[..]].concat()).expect(0);
    }

    /// Runs a command in the machine to its end, as root.
    pub fn run(&self, arguments: &[&str]) -> Done {
        crate::program::run(self.machine.command(arguments))
    }

    /// Calls pointsd in the machine, outside the unit.
    pub fn pointsd(&self, arguments: &[&str]) -> Done {
        self.run(&[&["/usr/bin/pointsd"], arguments].concat())
    }

    /// Calls pointsd in the machine as another user than root.
    pub fn pointsd_as(&self, user: &str, arguments: &[&str]) -> Done {
        self.run(&[&["runuser", "-u", user, "--", "/usr/bin/pointsd"], arguments].concat())
    }

    pub fn write(&self, path: &str, content: impl AsRef<[u8]>, mode: &str) {
        self.machine.write(path, content, mode);
    }

    /// The unit's configuration file.
    pub fn configure(&self, text: &str) {
        self.write("/etc/pointsd/pointsd.yaml", text, "644");
    }

    /// Until it is ready.
    #[track_caller]
    pub fn start(&self) {
        let done = self.run(&["systemctl", "start", "pointsd.service"]);
        assert!(done.status.success(), "it did not start: {done:?}\n{:#?}", self.journal());
    }

    /// `systemctl show` of the service.
    pub fn shows(&self, property: &str) -> String {
        self.shown(&[property]).remove(property).unwrap()
    }

    pub fn shown(&self, properties: &[&str]) -> BTreeMap<String, String> {
        let names = format!("--property={}", properties.join(","));
        let done = self.run(&["systemctl", "show", &names, "pointsd.service"]).expect(0);
        let pairs = done.stdout.lines().filter_map(|line| line.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Waits until properties have these values.
    #[track_caller]
    pub fn becomes(&self, expected: &[(&str, &str)]) {
        let names: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
        until(
            || format!("{expected:?}: {:?}; the journal: {:#?}", self.shown(&names), self.journal()),
            || {
                let shown = self.shown(&names);
                expected.iter().all(|(name, value)| shown[*name] == *value).then_some(())
            },
        );
    }

    pub fn main_pid(&self) -> String {
        self.shows("MainPID")
    }

    /// The journal's matching lines of this test, without the fields that the journal adds.
    pub fn entries(&self, matches: &[&str]) -> Vec<Value> {
        let command = [&["journalctl", "--output=json", "--all", "--quiet", &self.since], matches].concat();
        let mut entries = self.run(&command).expect(0).jsons();
        for entry in &mut entries {
            entry.as_object_mut().unwrap().retain(|name, _| !name.starts_with('_') && !name.starts_with("CODE_"));
        }
        entries
    }

    /// The lines that pointsd.service has logged in this test.
    pub fn journal(&self) -> Vec<Value> {
        self.entries(&["SYSLOG_IDENTIFIER=pointsd"])
    }

    /// How often it has logged this message.
    pub fn logged(&self, message: &str) -> usize {
        self.journal().iter().filter(|entry| says(entry, message)).count()
    }

    /// Waits for an entry with this message.
    #[track_caller]
    pub fn logs(&self, message: &str) -> Value {
        let find = || self.journal().into_iter().find(|entry| says(entry, message));
        until(|| format!("{message:?}: {:#?}", self.journal()), find)
    }
}

/// Whether an entry's message is this, or begins with it and goes on with a reason.
fn says(entry: &Value, message: &str) -> bool {
    let rest = entry["MESSAGE"].as_str().and_then(|said| said.strip_prefix(message));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(": "))
}

impl Drop for Service {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.clear();
        }
    }
}

/// Asks until there is an answer; each question is a process or two.
#[track_caller]
pub fn until<T>(what: impl Fn() -> String, mut ask: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + PATIENCE / 2;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < give_up, "waited in vain for {}", what());
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// Sleeps: systemd acts by its own clock, which no test can hand in.
pub fn pass(time: Duration) {
    std::thread::sleep(time);
}

/// The way to a test's database over TCP, as the machine's units go it; it can be shut and opened.
pub struct Gate {
    port: ClosedPort,
    socket: PathBuf,
    user: String,
    database: String,
    open: Option<Runtime>,
}

impl Gate {
    /// Shut: connections are refused.
    pub fn to(database: &TestDatabase) -> Gate {
        let config = database.config();
        let [Host::Unix(folder)] = config.get_hosts() else { panic!("one socket: {config:?}") };
        Gate {
            port: ClosedPort::new(),
            socket: folder.join(".s.PGSQL.5432"),
            user: config.get_user().unwrap().to_owned(),
            database: config.get_dbname().unwrap().to_owned(),
            open: None,
        }
    }

    pub fn opened(database: &TestDatabase) -> Gate {
        let mut gate = Gate::to(database);
        gate.open();
        gate
    }

    pub fn open(&mut self) {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", self.port.number()))).unwrap();
        let socket = self.socket.clone();
        runtime.spawn(async move {
            while let Ok((mut outside, _)) = listener.accept().await {
                let mut inside = tokio::net::UnixStream::connect(&socket).await.unwrap();
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut outside, &mut inside).await });
            }
        });
        self.open = Some(runtime);
    }

    /// Cuts off all connections.
    pub fn shut(&mut self) {
        self.open.take().unwrap().shutdown_timeout(PATIENCE);
    }

    /// With a password, which the server does not ask for.
    pub fn url(&self) -> String {
        format!("postgres://{}:{}@127.0.0.1:{}/{}", self.user, super::PASSWORD, self.port.number(), self.database)
    }
}
