//! `db restored`: what a daemon does, and does not do, on a database that was restored from a backup.

use chrono::{TimeDelta, Timelike, Utc};
use nix::sys::signal::Signal;
use serde_json::json;

use super::database;
use crate::program::{Done, Folder, Running, eventually, on, run, wait};
use crate::support::TestDatabase;

const USER: &str = "11111111-1111-4111-8111-111111111111";
/// No server listens there, so that the mail waits.
const MAIL: &str = "mail: {mode: smtp, from: p@example.com, to: {arrears: [f@example.com]}, \
                    smtp: {host: 127.0.0.1, port: 1, security: none}}\n";

/// A ledger with one account.
struct Ledger {
    database: TestDatabase,
    url: String,
    _folder: Folder,
    config: String,
    /// The same with a job of each second.
    busy: String,
}

impl Ledger {
    fn new() -> Ledger {
        let (database, url) = database();
        let folder = Folder::new();
        // Half a day from now, so that no slot comes due meanwhile.
        let daily = format!("{{schedule: '0 {} * * *'}}", (Utc::now() + TimeDelta::hours(12)).hour());
        // Whether a month began in these days depends on the date.
        let jobs = format!(
            "jobs:\n  takeover_seconds: 5\n  month_end: {{enabled: false}}\n  expiry: {daily}\n  arrears: {daily}\n  \
             reconciliation: {daily}\n"
        );
        let state = folder.path().display();
        let file = |name: &str, prune: &str| {
            folder.file(name, format!("state_dir: {state}/state\n{MAIL}{jobs}  prune: {prune}\n"))
        };
        let (config, busy) = (file("pointsd.yaml", &daily), file("busy.yaml", "{schedule: '* * * * * *'}"));
        let ledger = Ledger { database, url, _folder: folder, config, busy };
        ledger.call(&["recharge", USER, "5", "--source", "gift"]).expect(0);
        ledger
    }

    /// As a backup has it that was made three days ago, while a mail waited and a run was under way.
    fn from_backup() -> Ledger {
        let ledger = Ledger::new();
        let mut daemon = ledger.start(&["serve"], &ledger.config);
        daemon.hear("\"ready\"");
        daemon.signal(Signal::SIGTERM);
        daemon.finish().expect(0);
        ledger.call(&["run", "arrears"]).expect(3);
        ledger.sql(
            "UPDATE pointsd.jobs SET since = now() - interval '3 days';
             UPDATE pointsd.runs SET started = now() - interval '3 days', heartbeat = now() - interval '3 days',
                                     finished = now() - interval '3 days';
             INSERT INTO pointsd.runs (job, slot, trigger, state, attempt, fence, started, heartbeat, finished)
             SELECT job, date_trunc('minute', now()) - interval '3 days', 'schedule',
                    CASE job WHEN 'reconciliation' THEN 'running' ELSE 'succeeded' END, 1, 1,
                    now() - interval '3 days', now() - interval '3 days',
                    CASE job WHEN 'reconciliation' THEN NULL ELSE now() - interval '3 days' END
             FROM pointsd.jobs;
             INSERT INTO pointsd.daemons (host, pid, version, started, seen, status)
             VALUES ('there', 7, '0.1.0', now(), now(), 'idle');",
        );
        ledger
    }

    fn start(&self, arguments: &[&str], config: &str) -> Running {
        let mut command = on(&self.url, arguments);
        command.args(["--config", config]);
        Running::start(command)
    }

    fn call(&self, arguments: &[&str]) -> Done {
        let mut command = on(&self.url, arguments);
        command.args(["--config", &self.config]);
        run(command)
    }

    fn sql(&self, sql: &str) {
        wait(async { self.database.client().await.batch_execute(sql).await.unwrap() });
    }
}

/// It would undo what a daemon does at the same time.
#[test]
fn it_is_refused_while_a_daemon_is_at_work() {
    let ledger = Ledger::new();
    let mut daemon = ledger.start(&["serve"], &ledger.config);
    daemon.hear("\"ready\"");
    let refused = ledger.call(&["db", "restored"]).expect(1);
    assert!(refused.stderr.contains("already at work on this database, with"), "{refused:?}");
    daemon.signal(Signal::SIGTERM);
    daemon.finish().expect(0);
}

#[test]
fn slots_mails_and_runs_of_the_backup_are_settled_once() {
    let ledger = Ledger::from_backup();
    let answer = ledger.call(&["db", "restored", "--json"]).expect(0).json();
    assert_eq!(answer["slots"], json!({ "arrears": 3, "expiry": 3, "prune": 3, "reconciliation": 3 }), "{answer}");
    assert_eq!((&answer["parked"], &answer["cancelled"][0]["job"]), (&json!([1]), &json!("reconciliation")));
    assert!(answer["ends_at"].as_str().unwrap() < answer["now"].as_str().unwrap(), "{answer}");
    let status = ledger.call(&["status", "--json"]).expect(1).json();
    assert_eq!(status["daemons"], json!([]), "the one of the backup is gone");
    // Again is no harm.
    let again = ledger.call(&["db", "restored", "--json"]).expect(0).json();
    assert_eq!((&again["parked"], &again["cancelled"]), (&json!([]), &json!([])));
    assert_eq!(again["ends_at"], answer["ends_at"]);
}

#[test]
fn a_sweep_that_was_under_way_tells_what_it_had_done() {
    let ledger = Ledger::from_backup();
    ledger.sql(
        "INSERT INTO pointsd.runs (job, slot, trigger, state, attempt, fence, heartbeat)
         VALUES ('expiry', now(), 'manual', 'running', 1, 7, now());
         SELECT pointsd.take_parts(run, 7) FROM pointsd.runs WHERE fence = 7;
         SELECT pointsd.save_part(0::smallint, job, run, fence, '{\"batches\": 2}') FROM pointsd.runs WHERE fence = 7;",
    );
    ledger.call(&["db", "restored"]).expect(0);
    let runs = ledger.call(&["runs", "--json"]).expect(0).jsons();
    let swept = runs.iter().find(|run| run["fence"] == 7).unwrap();
    assert_eq!((&swept["state"], &swept["counters"]), (&json!("cancelled"), &json!({ "batches": 2 })));
}

#[test]
fn a_daemon_that_starts_meanwhile_waits_and_does_nothing_twice() {
    let ledger = Ledger::from_backup();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (client, watcher) =
        runtime.block_on(async { (ledger.database.client().await, ledger.database.client().await) });
    runtime.block_on(client.batch_execute("BEGIN; SELECT FROM pointsd.jobs FOR UPDATE")).unwrap();
    let restored = ledger.start(&["db", "restored"], &ledger.config);
    let waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("db restored", || (!runtime.block_on(watcher.query(waiting, &[])).unwrap().is_empty()).then_some(()));
    let mut daemon = ledger.start(&["serve"], &ledger.busy);
    daemon.hear("as for pointsd db restored");
    runtime.block_on(client.batch_execute("COMMIT")).unwrap();
    restored.finish().expect(0);
    // A job of each second shows when the daemon has looked at all jobs.
    daemon.hear("prune succeeded");
    daemon.signal(Signal::SIGTERM);
    daemon.finish().expect(0);
    let texts = |sql: &str| -> Vec<String> {
        runtime.block_on(watcher.query(sql, &[])).unwrap().iter().map(|row| row.get(0)).collect()
    };
    let runs =
        texts("SELECT job || ' ' || state FROM pointsd.runs WHERE trigger <> 'manual' AND job <> 'prune' ORDER BY job");
    assert_eq!(runs, ["arrears succeeded", "expiry succeeded", "month_end succeeded", "reconciliation cancelled"]);
    let mails = texts("SELECT state || ' ' || attempts FROM pointsd.outbox");
    assert_eq!(mails, ["parked 1"], "no mail but the one of the backup, and no further attempt");
}
