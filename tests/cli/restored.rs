//! `db restored`: what a daemon does, and does not do, on a database that was restored from a backup.

use nix::sys::signal::Signal;
use serde_json::json;

use super::database;
use crate::program::{Folder, Running, eventually, on, run, wait};

const USER: &str = "11111111-1111-4111-8111-111111111111";
/// No server listens there, so that the mail waits.
const MAIL: &str = "mail: {mode: smtp, from: p@example.com, to: {arrears: [f@example.com]}, \
                    smtp: {host: 127.0.0.1, port: 1, security: none}}\n";

/// Starts a daemon, waits for this line of its log, then runs `work` and stops it.
fn with_daemon(url: &str, config: &str, line: &str, work: impl FnOnce()) {
    let mut command = on(url, &["serve"]);
    command.args(["--config", config]);
    let mut daemon = Running::start(command);
    while !daemon.next_error_line().expect("it ended").contains(line) {}
    work();
    daemon.signal(Signal::SIGTERM);
    daemon.finish().expect(0);
}

#[test]
fn a_restored_database_does_nothing_twice() {
    let (test, url) = database();
    let folder = Folder::new();
    let state = format!("state_dir: {}/state\n", folder.path().display());
    // Whether a month began in these days depends on the date.
    let config = folder.file("pointsd.yaml", format!("{state}{MAIL}jobs: {{month_end: {{enabled: false}}}}\n"));
    let call = |arguments: &[&str]| {
        let mut command = on(&url, arguments);
        command.args(["--config", &config]);
        run(command)
    };
    call(&["recharge", USER, "5", "--source", "gift"]).expect(0);
    with_daemon(&url, &config, "\"ready\"", || {
        // It would undo what a daemon does at the same time.
        let refused = call(&["db", "restored"]).expect(1);
        assert!(refused.stderr.contains("already at work on this database, with"), "{refused:?}");
    });
    // As a backup has it that was made three days ago, while a mail waited and a run was under way.
    call(&["run", "arrears"]).expect(3);
    wait(async {
        let backup = "UPDATE pointsd.jobs SET since = now() - interval '3 days';
                      UPDATE pointsd.runs SET started = now() - interval '3 days', heartbeat = now() - interval '3 days',
                                              finished = now() - interval '3 days';
                      INSERT INTO pointsd.runs (job, slot, trigger, state, attempt, fence, started, heartbeat, finished)
                      SELECT job, date_trunc('minute', now()) - interval '3 days', 'schedule',
                             CASE job WHEN 'reconciliation' THEN 'running' ELSE 'succeeded' END, 1, 1,
                             now() - interval '3 days', now() - interval '3 days',
                             CASE job WHEN 'reconciliation' THEN NULL ELSE now() - interval '3 days' END
                      FROM pointsd.jobs;
                      INSERT INTO pointsd.daemons (host, pid, version, started, seen, status)
                      VALUES ('there', 7, '0.1.0', now(), now(), 'idle');";
        test.client().await.batch_execute(backup).await.unwrap();
    });

    let answer = call(&["db", "restored", "--json"]).expect(0).json();
    assert_eq!(answer["slots"], json!({ "arrears": 3, "expiry": 3, "prune": 3, "reconciliation": 3 }), "{answer}");
    assert_eq!((&answer["parked"], &answer["cancelled"][0]["job"]), (&json!([1]), &json!("reconciliation")));
    assert!(answer["ends_at"].as_str().unwrap() < answer["now"].as_str().unwrap(), "{answer}");
    // Again is no harm.
    let status = call(&["status", "--json"]).expect(1).json();
    assert_eq!(status["daemons"], json!([]), "the one of the backup is gone");
    let again = call(&["db", "restored", "--json"]).expect(0).json();
    assert_eq!((&again["parked"], &again["cancelled"]), (&json!([]), &json!([])));
    assert_eq!(again["ends_at"], answer["ends_at"]);

    // A sweep that was under way tells what it had done.
    wait(async {
        let swept = "INSERT INTO pointsd.runs (job, slot, trigger, state, attempt, fence, heartbeat)
                     VALUES ('expiry', now(), 'manual', 'running', 1, 7, now());
                     SELECT pointsd.take_parts(run, 7) FROM pointsd.runs WHERE fence = 7;
                     SELECT pointsd.save_part(0::smallint, job, run, fence, '{\"batches\": 2}') FROM pointsd.runs WHERE fence = 7;";
        test.client().await.batch_execute(swept).await.unwrap();
    });
    call(&["db", "restored"]).expect(0);
    let runs = call(&["runs", "--json"]).expect(0).jsons();
    let swept = runs.iter().find(|run| run["fence"] == 7).unwrap();
    assert_eq!((&swept["state"], &swept["counters"]), (&json!("cancelled"), &json!({ "batches": 2 })));

    // A daemon that starts meanwhile waits. A job of each second shows when it has looked at all jobs.
    let busy = "jobs: {month_end: {enabled: false}, takeover_seconds: 5, prune: {schedule: '* * * * * *'}}\n";
    let busy = folder.file("busy.yaml", format!("{state}{MAIL}{busy}"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (client, watcher) = runtime.block_on(async { (test.client().await, test.client().await) });
    runtime.block_on(client.batch_execute("BEGIN; SELECT FROM pointsd.jobs FOR UPDATE")).unwrap();
    let mut command = on(&url, &["db", "restored"]);
    command.args(["--config", &config]);
    let restored = Running::start(command);
    let waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("db restored", || (!runtime.block_on(watcher.query(waiting, &[])).unwrap().is_empty()).then_some(()));
    let mut command = on(&url, &["serve"]);
    command.args(["--config", &busy]);
    let mut daemon = Running::start(command);
    let mut hear = |words: &str| while !daemon.next_error_line().expect("it ended").contains(words) {};
    hear("as for pointsd db restored");
    runtime.block_on(client.batch_execute("COMMIT")).unwrap();
    restored.finish().expect(0);
    hear("prune succeeded");
    daemon.signal(Signal::SIGTERM);
    daemon.finish().expect(0);
    wait(async {
        let client = test.client().await;
        let runs =
            "SELECT job || ' ' || state FROM pointsd.runs WHERE trigger <> 'manual' AND job <> 'prune' ORDER BY job";
        let runs = client.query(runs, &[]).await.unwrap();
        let runs: Vec<String> = runs.iter().map(|row| row.get(0)).collect();
        let of_backup = ["arrears succeeded", "expiry succeeded", "month_end succeeded", "reconciliation cancelled"];
        assert_eq!(runs, of_backup);
        let mails = client.query("SELECT state, attempts FROM pointsd.outbox", &[]).await.unwrap();
        let mails: Vec<(String, i32)> = mails.iter().map(|row| (row.get(0), row.get(1))).collect();
        assert_eq!(mails, [("parked".to_owned(), 1)], "no mail but the one of the backup, and no further attempt");
    });
}
