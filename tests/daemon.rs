//! `pointsd serve`: it runs jobs when they are due, shuts down gracefully, and continues after a crash.

use crate::program::{Done, Folder, Running, call, eventually, on, pointsd, until_found, until_waits_for_a_lock, wait};
use crate::support::invariants::check_invariants;
use crate::support::rows::Rows;
use crate::support::{TestDatabase, user, user_of_a_bucket, users_of_a_bucket};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio_postgres::Client;
use uuid::Uuid;

const EACH_SECOND: &str = "jobs: {expiry: {schedule: '* * * * * *', lanes: 1}}\n";
/// Accounts with a due batch each that one transaction of the sweep takes.
const GROUP: usize = 1_000;

/// A running daemon, and its log.
struct Daemon {
    running: Running,
    logged: Vec<Value>,
}

impl Daemon {
    fn start(command: std::process::Command) -> Daemon {
        Daemon { running: Running::start(command), logged: Vec::new() }
    }

    /// On this database, with its expiry job due each second.
    fn each_second(folder: &Folder, url: &str) -> Daemon {
        let mut command = on(url, &["serve"]);
        command.args(["--config", &folder.file("pointsd.yaml", EACH_SECOND)]);
        Daemon::start(command)
    }

    /// Listens until it logs this message with these fields; returns the whole line.
    #[track_caller]
    fn logs(&mut self, message: &str, fields: &[(&str, &str)]) -> Value {
        let logged = &mut self.logged;
        self.running.hear_json(message, |line| {
            logged.push(line.clone());
            let begins = line["message"].as_str().unwrap().starts_with(message);
            begins && fields.iter().all(|(name, value)| line[name] == **value)
        })
    }

    /// Tells it to stop; it must end well. Returns all that it logged since the start.
    #[track_caller]
    fn stop(self) -> Vec<Value> {
        self.running.signal(Signal::SIGTERM);
        self.ended(0)
    }

    #[track_caller]
    fn ended(self, status: i32) -> Vec<Value> {
        let Daemon { running, mut logged } = self;
        let done = running.finish().expect(status);
        assert_eq!(done.stdout, "");
        logged.extend(done.stderr.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        logged
    }
}

fn database() -> (TestDatabase, String) {
    let database = wait(TestDatabase::new());
    let url = database.url();
    (database, url)
}

/// A batch of 7 points for each of these users, which expired long ago by the clock.
fn recharge(users: impl Iterator<Item = Uuid>, order: u32) -> String {
    let line = |user: Uuid| {
        format!(
            "{{\"op\":\"recharge\",\"user\":\"{user}\",\"points\":7,\"source\":\"gift\",\"order_id\":{order},\
             \"at\":\"2026-01-01T00:00:00Z\",\"expires_at\":\"2026-01-02T00:00:00Z\"}}\n",
        )
    };
    users.map(line).collect()
}

const EXPIRED: &str = "SELECT count(*) FROM pointsd.accounts WHERE total_expired = total_recharged";

/// Accounts whose points have all expired.
async fn expired(client: &Client) -> usize {
    usize::try_from(client.query_one(EXPIRED, &[]).await.unwrap().get::<_, i64>(0)).unwrap()
}

/// Waits until the points of so many accounts have expired. The points of no other account may expire.
async fn until_expired(client: &Client, accounts: usize) {
    let enough = format!("{EXPIRED} HAVING count(*) >= {accounts}");
    until_found(client, &format!("the points of {accounts} accounts to expire"), &enough).await;
    assert_eq!(expired(client).await, accounts);
}

/// Holds a user's account until COMMIT or the end of the connection.
async fn hold(database: &TestDatabase, user: Uuid) -> Client {
    let holder = database.client().await;
    holder.batch_execute("BEGIN").await.unwrap();
    holder.execute("SELECT FROM pointsd.accounts WHERE user_id = $1 FOR UPDATE", &[&user]).await.unwrap();
    holder
}

#[test]
fn the_daemon_runs_the_job_at_each_slot_and_logs_it() {
    let (_database, url) = database();
    crate::program::post(&url, recharge((0..3).map(user), 1)).expect(0);
    let folder = Folder::new();
    let mut daemon = Daemon::each_second(&folder, &url);
    let scheduled = daemon.logs("expiry scheduled", &[("job", "expiry")]);
    assert_eq!(scheduled["level"], "INFO");
    assert_eq!(scheduled["schedule"], "* * * * * * (UTC)");
    let slot = scheduled["next_slot"].as_str().unwrap().to_owned();
    assert!(slot.len() == "2026-01-01T00:00:00Z".len() && slot.ends_with('Z'), "{slot}");
    let ready = daemon.logs("ready", &[]);
    assert!(ready["database"].as_str().unwrap().starts_with("PostgreSQL at "), "{ready}");
    assert_eq!(ready["version"], env!("CARGO_PKG_VERSION"));

    // The first slot is the one that it announced.
    daemon.logs("expiry started", &[("job", "expiry"), ("slot", &slot)]);
    let done = daemon.logs("expiry succeeded", &[("job", "expiry"), ("slot", &slot)]);
    let counters: Value = serde_json::from_str(done["counters"].as_str().unwrap()).unwrap();
    assert_eq!(
        counters,
        json!({
            "batches": 3, "accounts": 3, "points": 21, "by_source": {"gift": {"batches": 3, "points": 21}},
            "orphaned": 0, "orphans": [], "stopped": false,
        })
    );
    let exported = call(&url, &["export", "entries", "--json"]).expect(0).jsons();
    let expiries: Vec<_> = exported.iter().filter(|entry| entry["type"] == "expire").collect();
    assert_eq!(expiries.len(), 3);
    assert!(expiries.iter().all(|entry| entry["at"] == *slot), "an expiry is dated by its slot: {expiries:#?}");

    // A later slot expires the points that came due since.
    crate::program::post(&url, recharge((0..2).map(user), 2)).expect(0);
    let more = loop {
        let done = daemon.logs("expiry succeeded", &[("job", "expiry")]);
        let counters: Value = serde_json::from_str(done["counters"].as_str().unwrap()).unwrap();
        if counters["batches"] != 0 {
            break counters;
        }
    };
    assert_eq!((&more["batches"], &more["points"]), (&json!(2), &json!(14)));
    let logged = daemon.stop();
    // Between the two a run may end that was under way.
    assert!(logged.iter().any(|line| line["message"] == "stopping"), "{logged:#?}");
    assert_eq!(logged.last().unwrap()["message"], "stopped");
    // Each slot once, in order.
    let slots: Vec<_> = logged
        .iter()
        .filter(|line| line["message"] == "expiry started")
        .map(|line| line["slot"].as_str().unwrap())
        .collect();
    assert!(slots.is_sorted_by(|one, next| one < next), "{slots:?}");
}

#[test]
fn both_signals_stop_an_idle_daemon() {
    let (_database, url) = database();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut daemon = Daemon::start(on(&url, &["serve"]));
        daemon.logs("ready", &[]);
        daemon.running.signal(signal);
        assert_eq!(daemon.ended(0).last().unwrap()["message"], "stopped");
    }
}

#[test]
fn a_daemon_that_stops_in_a_sweep_finishes_the_current_group() {
    const ACCOUNTS: usize = 3_500;
    let (database, url) = database();
    crate::program::post(&url, recharge(users_of_a_bucket().take(ACCOUNTS), 1)).expect(0);
    let folder = Folder::new();
    wait(async {
        let client = database.client().await;
        // The third group stands still at this account.
        let holder = hold(&database, user_of_a_bucket(2_500)).await;
        let mut daemon = Daemon::each_second(&folder, &url);
        until_waits_for_a_lock(&client).await;
        daemon.logs("expiry started", &[("job", "expiry")]);
        daemon.running.signal(Signal::SIGTERM);
        assert_eq!(expired(&client).await, 2 * GROUP);
        // The run is stopped while its group waits for the lock.
        daemon.logs("stopping", &[]);
        holder.batch_execute("COMMIT").await.unwrap();
        let logged = daemon.ended(0);
        let says = |message: &str| logged.iter().find(|line| line["message"] == message);
        let stopped = says("expiry was stopped half way; the next daemon continues it");
        let stopped = stopped.unwrap_or_else(|| panic!("{logged:#?}"));
        assert_eq!((&stopped["level"], &stopped["job"]), (&json!("WARN"), &json!("expiry")));
        assert_eq!(stopped["run_id"], 1);
        assert_eq!(logged.last().unwrap()["message"], "stopped");
        assert!(says("expiry succeeded").is_none(), "{logged:#?}");
        check_invariants(&client).await;
        assert_eq!(expired(&client).await, 3 * GROUP);

        // The next one does the rest.
        let daemon = Daemon::each_second(&folder, &url);
        until_expired(&client, ACCOUNTS).await;
        daemon.stop();
    });
}

#[test]
fn killed_in_the_middle_of_a_sweep_the_next_one_continues() {
    const ACCOUNTS: usize = 2_000;
    let (database, url) = database();
    crate::program::post(&url, recharge(users_of_a_bucket().take(ACCOUNTS), 1)).expect(0);
    let folder = Folder::new();
    wait(async {
        let client = database.client().await;
        let holder = hold(&database, user_of_a_bucket(1_500)).await;
        let killed = Daemon::each_second(&folder, &url);
        until_waits_for_a_lock(&client).await;
        killed.running.signal(Signal::SIGKILL);
        killed.running.finish().expect_signal(Signal::SIGKILL);
        // Its successor starts while its session still waits in the server.
        let daemon = Daemon::each_second(&folder, &url);
        holder.batch_execute("COMMIT").await.unwrap();
        until_expired(&client, ACCOUNTS).await;
        daemon.stop();
        check_invariants(&client).await;
        let rows = Rows::read(&client).await;
        assert_eq!(rows.entries.len(), 2 * ACCOUNTS, "a recharge and an expiry each");
    });
}

#[test]
fn two_daemons_on_one_database_do_no_harm() {
    const ACCOUNTS: u32 = 1_500;
    let (database, url) = database();
    let folder = Folder::new();
    let mut daemons = [Daemon::each_second(&folder, &url), Daemon::each_second(&folder, &url)];
    for daemon in &mut daemons {
        daemon.logs("ready", &[]);
    }
    for order in 1..=3 {
        crate::program::post(&url, recharge((0..ACCOUNTS).map(user), order)).expect(0);
        wait(async { until_expired(&database.client().await, ACCOUNTS as usize).await });
    }
    let mut points = 0;
    let now = chrono::Utc::now();
    for mut daemon in daemons {
        // Once a later slot is done, the log has everything that the run expired.
        while crate::support::at(daemon.logs("expiry succeeded", &[])["slot"].as_str().unwrap()) <= now {}
        for line in daemon.stop() {
            assert_ne!(line["level"], "ERROR", "{line}");
            if line["message"] == "expiry succeeded" {
                let counters: Value = serde_json::from_str(line["counters"].as_str().unwrap()).unwrap();
                points += counters["points"].as_u64().unwrap();
            }
        }
    }
    // Each point expired once, and one daemon logged it.
    let rows = wait(async { Rows::read(&database.client().await).await });
    assert_eq!(rows.entries.len(), 6 * ACCOUNTS as usize);
    let by_recharges = rows.entries.iter().filter(|entry| entry.key.is_some()).count();
    assert_eq!(by_recharges, 3 * ACCOUNTS as usize);
    assert_eq!(points, 3 * 7 * u64::from(ACCOUNTS));
}

#[test]
fn a_daemon_outlives_its_private_server() {
    let folder = Folder::new();
    let config = folder.file("pointsd.yaml", format!("state_dir: state\n{EACH_SECOND}"));
    let command = |arguments: &[&str]| {
        let mut command = pointsd(arguments);
        command.args(["--config", &config]);
        command
    };
    let pid_file = folder.path().join("state/postgres/data/postmaster.pid");
    let postmaster = || std::fs::read_to_string(&pid_file).unwrap().lines().next().unwrap().parse::<i32>().unwrap();
    let mut daemon = Daemon::start(command(&["serve"]));
    let ready = daemon.logs("ready", &[]);
    assert!(ready["database"].as_str().unwrap().starts_with("private PostgreSQL "), "{ready}");
    daemon.logs("expiry succeeded", &[("job", "expiry")]);

    let killed = postmaster();
    kill(Pid::from_raw(killed), Signal::SIGKILL).unwrap();
    // The slot under way may still be logged. A later slot cannot succeed without a server.
    daemon.logs("expiry started", &[("job", "expiry")]);
    let started = daemon.logs("expiry started", &[("job", "expiry")]);
    daemon.logs("expiry succeeded", &[("slot", started["slot"].as_str().unwrap())]);
    let revived = postmaster();
    assert_ne!(revived, killed);
    // The command line joins the same server, and leaves it to the daemon.
    let user = user(1).to_string();
    let expired = ["--at", "2026-01-01T00:00:00Z", "--expires-at", "2026-01-02T00:00:00Z"];
    let done =
        crate::program::run(command(&[&["recharge", &user, "5", "--source", "gift"], &expired[..]].concat())).expect(0);
    assert_eq!(done.stderr, "");
    assert_eq!(postmaster(), revived);
    eventually("the daemon to expire the points", || {
        let done = crate::program::run(command(&["balance", &user, "--json"])).expect(0);
        (done.json()["total_expired"] == 5).then_some(())
    });
    daemon.stop();
    assert!(!pid_file.exists(), "the server still runs");
    // Without a process that collects orphans its number may stay, but nothing runs under it.
    let command_line = std::fs::read(format!("/proc/{revived}/cmdline")).unwrap_or_default();
    assert!(command_line.is_empty(), "the server still runs: {}", String::from_utf8_lossy(&command_line));
}

#[test]
fn a_wrong_configuration_ends_with_2_before_anything_else() {
    let folder = Folder::new();
    for (text, says) in [
        ("jobs:\n  expiry:\n    schedule: 'each night'\n", "wrong.yaml:3"),
        ("jobs:\n  expiry:\n    schedule: '0 2 * * *'\n    time_zone: Mars/Olympus\n", "wrong.yaml:4"),
        ("jobs:\n  expire: {}\n", "wrong.yaml:2"),
        ("log: {level: loud}\n", "wrong.yaml:1"),
    ] {
        let mut command = pointsd(&["serve"]);
        command.args(["--config", &folder.file("wrong.yaml", text)]);
        command.env("POINTSD_DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing");
        let Done { stderr, .. } = crate::program::run(command).expect(2);
        assert!(stderr.starts_with("pointsd: ") && stderr.contains(says), "it should say {says:?}: {stderr}");
    }
}

#[test]
fn a_reload_takes_a_right_configuration_and_refuses_a_wrong_one() {
    let (_database, url) = database();
    let folder = Folder::new();
    let path = folder.file("pointsd.yaml", "");
    let mut command = on(&url, &["serve"]);
    command.args(["--config", &path]);
    let mut daemon = Daemon::start(command);
    daemon.logs("ready", &[]);
    folder.file("pointsd.yaml", "jobs: {expiry: {schedule: never}}\n");
    daemon.running.signal(Signal::SIGHUP);
    let refused = daemon.logs("the new configuration is refused", &[]);
    assert_eq!(refused["level"], "ERROR");
    assert!(refused["reason"].as_str().unwrap().contains("pointsd.yaml:1: jobs.expiry.schedule"), "{refused}");
    // A setting that needs a restart is warned about; any other takes effect.
    folder.file("pointsd.yaml", format!("{EACH_SECOND}database: {{pool_size: 3}}\n"));
    daemon.running.signal(Signal::SIGHUP);
    daemon.logs("expiry scheduled", &[("schedule", "* * * * * * (UTC)")]);
    daemon.logs("reloaded", &[("config", &path)]);
    let warning = daemon.logs("changed, but taken only when pointsd is restarted", &[]);
    assert_eq!((&warning["level"], &warning["settings"]), (&"WARN".into(), &"database.pool_size".into()));
    daemon.logs("expiry succeeded", &[("job", "expiry")]);
    daemon.stop();
}

#[test]
fn a_schedule_that_a_clock_change_moves_is_warned_of() {
    let (_database, url) = database();
    let folder = Folder::new();
    let mut command = on(&url, &["serve"]);
    let text = "jobs: {expiry: {schedule: '30 2 * * *', time_zone: Europe/Paris}}\n";
    command.args(["--config", &folder.file("pointsd.yaml", text)]);
    let mut daemon = Daemon::start(command);
    daemon.logs("ready", &[]);
    let warnings = daemon.logged.iter().filter(|line| line["level"] == "WARN");
    let warned: Vec<&str> = warnings.map(|line| line["message"].as_str().unwrap()).collect();
    assert_eq!(warned.len(), 2, "{warned:#?}");
    // Which of them comes first depends on the date.
    for says in ["02:30 does not exist on", "02:30 comes twice on"] {
        assert!(warned.iter().any(|message| message.contains(says)), "{says}: {warned:#?}");
    }
    daemon.stop();
}

#[test]
fn log_lines_follow_the_configuration() {
    let (_database, url) = database();
    let folder = Folder::new();
    let serve = |log: &str| {
        let mut command = on(&url, &["serve"]);
        command.args(["--config", &folder.file("pointsd.yaml", format!("{EACH_SECOND}log: {log}\n"))]);
        Running::start(command)
    };
    let mut text = serve("{format: text}");
    let lines: Vec<String> = (0..7).map(|_| text.next_error_line().unwrap()).collect();
    assert!(
        lines[0].contains(" INFO expiry scheduled job=\"expiry\" schedule=\"* * * * * * (UTC)\" next_slot="),
        "{lines:?}"
    );
    assert!(lines[5].contains(" INFO ready database="), "{lines:?}");
    assert!(lines[6].contains(" INFO expiry started job=\"expiry\" run_id=1 slot="), "{lines:?}");
    assert!(!lines.concat().contains('\u{1b}'), "no colours where there is no terminal: {lines:?}");
    text.signal(Signal::SIGTERM);
    text.finish().expect(0);

    // At level warn a run that succeeds logs nothing. Its slot comes once a minute, so that no second run is cut off by the stop.
    let (database, quiet_url) = self::database();
    crate::program::post(&quiet_url, recharge((0..1).map(user), 1)).expect(0);
    let mut command = on(&quiet_url, &["serve"]);
    let second = (chrono::Utc::now().timestamp() + 5) % 60;
    let text = format!("jobs: {{expiry: {{schedule: '{second} * * * * *'}}}}\nlog: {{level: warn}}\n");
    command.args(["--config", &folder.file("quiet.yaml", text)]);
    let quiet = Running::start(command);
    wait(async {
        let client = database.client().await;
        until_expired(&client, 1).await;
        let ended = "SELECT WHERE NOT EXISTS (SELECT FROM pointsd.runs WHERE state = 'running')";
        until_found(&client, "the run to end", ended).await;
    });
    quiet.signal(Signal::SIGTERM);
    assert_eq!(quiet.finish().expect(0).stderr, "");
}
