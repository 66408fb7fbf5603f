//! The limits of the sandbox, and the service's work within them.

use pointsd::jobs::REGISTRY;
use serde_json::Value;

use super::machine::{Gate, Service, until};
use super::{PASSWORD, database};
use crate::program::wait;

const USER: &str = "11111111-1111-4111-8111-111111111111";

#[test]
fn the_units_are_sound_and_the_service_is_little_exposed() {
    let service = Service::with("");
    let units = ["/etc/systemd/system/pointsd.service", "/etc/systemd/system/pointsd-alert@.service"];
    for unit in units {
        // It also looks for the programs that the unit names.
        let done = service.run(&["systemd-analyze", "verify", "--man=no", unit]).expect(0);
        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""), "{unit}");
    }
    let analyze = ["systemd-analyze", "security", "--offline=true", "--no-pager", units[0]];
    let said = service.run(&analyze).expect(0).stdout;
    let overall = said.lines().find_map(|line| line.split_once("Overall exposure level for pointsd.service: "));
    let (_, overall) = overall.unwrap_or_else(|| panic!("{said}"));
    let exposure: f64 = overall.split_whitespace().next().unwrap().parse().unwrap();
    assert!(exposure <= 1.5, "{said}");
}

#[test]
fn the_private_server_works_in_the_sandbox_and_outlives_a_kill() {
    let service = Service::with("");
    service.configure("http: {listen: 'unix:/run/pointsd/http.sock'}\n");
    service.start();
    assert_eq!(service.shows("User"), "pointsd");
    let ready =
        service.run(&["curl", "-sS", "--unix-socket", "/run/pointsd/http.sock", "http://pointsd/readyz"]).expect(0);
    assert_eq!(ready.stdout, "ready\n");
    let modes = service.run(&["stat", "--format=%a %U %G", "/run/pointsd", "/run/pointsd/http.sock"]).expect(0);
    assert_eq!(modes.stdout, "750 pointsd pointsd\n660 pointsd pointsd\n");
    let files = ["prlimit", "--noheadings", "--output=SOFT", "--nofile", "--pid", &service.main_pid()];
    assert_eq!(service.run(&files).expect(0).stdout.trim(), "4096");
    // Root on the machine reaches the same ledger.
    service.pointsd(&["recharge", USER, "100", "--source", "gift", "--order-id", "1"]).expect(0);
    // Another user gets no ledger of its own in its place.
    let refused = service.pointsd_as("stranger", &["balance", USER]).expect(2);
    assert!(refused.stderr.contains("private PostgreSQL in /var/lib/pointsd"), "{refused:?}");
    assert!(refused.stderr.contains("sudo"), "{refused:?}");
    let killed = service.main_pid();
    service.run(&["systemctl", "kill", "--kill-who=main", "--signal=SIGKILL", "pointsd.service"]).expect(0);
    service.becomes(&[("NRestarts", "1"), ("ActiveState", "active"), ("SubState", "running")]);
    assert_ne!(service.main_pid(), killed);
    let done = service.pointsd(&["balance", USER, "--json"]).expect(0);
    assert_eq!(done.json()["balance"], 100);

    service.run(&["systemctl", "stop", "pointsd.service"]).expect(0);
    let shown = service.shown(&["ActiveState", "Result", "ExecMainCode", "ExecMainStatus"]);
    // 1: it ended by itself, no signal ended it.
    let ended = (&*shown["Result"], &*shown["ExecMainCode"], &*shown["ExecMainStatus"]);
    assert_eq!((&*shown["ActiveState"], ended), ("inactive", ("success", "1", "0")));
    let left = service.run(&["pgrep", "--list-full", "postgres: pointsd: |/pointsd/postgres/data"]);
    assert_eq!(left.stdout, "", "the private server still runs");
    // Root works on it while the service is stopped, and leaves it as the service needs it.
    assert_eq!(service.pointsd(&["balance", USER, "--json"]).expect(0).json()["balance"], 100);
    service.run(&["runuser", "-u", "pointsd", "--", "/usr/bin/pointsd", "balance", USER]).expect(0);
    let not_its_own = service.run(&["find", "/var/lib/pointsd", "!", "-user", "pointsd"]);
    assert_eq!(not_its_own.expect(0).stdout, "", "the service could not write there");
    service.start();
    service.run(&["systemctl", "stop", "pointsd.service"]).expect(0);
    // Other users cannot read its files.
    let modes = service.run(&["stat", "--format=%a", "/var/lib/pointsd", "/var/lib/pointsd/postgres"]);
    assert_eq!(modes.expect(0).stdout, "700\n700\n");
}

#[test]
fn every_job_can_be_run_in_the_sandbox() {
    // A system call that the sandbox refuses kills the process, so that none goes unnoticed.
    let mut lines =
        "Type=oneshot\nRestart=no\nWatchdogSec=0\nExecReload=\nSystemCallErrorNumber=kill\nExecStart=\n".to_owned();
    let expired = "--at 2026-01-01T00:00:00Z --expires-at 2026-01-02T00:00:00Z";
    // Something to do comes first.
    let mut calls = vec![format!("recharge {USER} 5 --source gift --order-id 1 {expired}")];
    calls.extend(REGISTRY.iter().map(|job| format!("run {}", job.name)));
    calls.push(format!("balance {USER}"));
    for call in calls {
        lines.push_str(&format!("ExecStart=/usr/bin/pointsd {call} --json\n"));
    }
    let service = Service::with(&lines);
    service.start();
    // The journal may take the last lines a moment after their process has ended.
    let balance = until(
        || format!("the last answer: {:#?}", service.journal()),
        || {
            let last: Value = serde_json::from_str(service.journal().last()?["MESSAGE"].as_str()?).ok()?;
            (!last["total_expired"].is_null()).then_some(last)
        },
    );
    assert_eq!(balance["total_expired"], 5, "{balance}");
    let refused: Vec<_> = service
        .journal()
        .into_iter()
        .filter(|entry| {
            let message = entry["MESSAGE"].as_str().unwrap_or_default();
            entry["PRIORITY"].as_str() < Some("5") || message.contains("not permitted") || message.contains("denied")
        })
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn the_sandbox_refuses_what_it_should() {
    // Each of these ends well for root outside, so that it is the sandbox that refuses it.
    const OUTSIDE: [&str; 9] = [
        "touch /etc/pointsd-was-here",
        "touch /usr/local/pointsd-was-here",
        "ls /root",
        "cat /etc/pointsd/database-url",
        "cat /proc/1/status",
        "cat /proc/sys/kernel/hostname",
        "chown 1:1 \"$(mktemp)\"",
        "unshare --user true",
        "renice -n 1 $$",
    ];
    // And these it must allow.
    const INSIDE: [&str; 5] = [
        "touch \"$STATE_DIRECTORY/here\"",
        "touch /tmp/here",
        "touch /dev/shm/here && rm /dev/shm/here",
        "cat \"$CREDENTIALS_DIRECTORY/database-url\"",
        "getent passwd \"$(id -u)\"",
    ];
    let mut script = "#!/bin/sh\nexec 2>/dev/null\n".to_owned();
    for attempt in OUTSIDE.iter().chain(&INSIDE) {
        script.push_str(&format!("( {attempt} ) >/dev/null && echo 'did: {attempt}' || echo 'could not: {attempt}'\n"));
    }
    let service = Service::with(
        "Type=oneshot\nRestart=no\nWatchdogSec=0\nExecReload=\nExecStart=\nExecStart=/usr/local/bin/attempts",
    );
    service.write("/usr/local/bin/attempts", script, "755");
    service.write("/etc/pointsd/database-url", "postgres://nobody@127.0.0.1:1/nothing\n", "600");
    for attempt in OUTSIDE {
        service.run(&["sh", "-c", attempt]).expect(0);
    }
    service.start();
    let mut expected: Vec<_> = OUTSIDE.iter().map(|attempt| format!("could not: {attempt}")).collect();
    expected.extend(INSIDE.iter().map(|attempt| format!("did: {attempt}")));
    let said: Vec<_> = service.journal().iter().map(|entry| entry["MESSAGE"].as_str().unwrap().to_owned()).collect();
    assert_eq!(said, expected);
}

#[test]
fn the_url_comes_by_a_credential_and_shows_nowhere() {
    let database = database();
    let gate = Gate::opened(&database);
    let service = Service::on(&gate, "");
    // The credential comes before the file, too.
    service.configure("database: {url: 'postgres://nobody@127.0.0.1:1/nothing'}\n");
    service.start();
    let described =
        format!("PostgreSQL at 127.0.0.1:{}/", gate.url().rsplit(':').next().unwrap().split('/').next().unwrap());
    let ready = service.logs("ready");
    assert!(ready["DATABASE"].as_str().unwrap().starts_with(&described), "{ready}");
    let pid = service.main_pid();
    let environment = format!("/proc/{pid}/environ");
    let command_line = format!("/proc/{pid}/cmdline");
    for place in [
        &["systemctl", "show", "--all", "pointsd.service"][..],
        &["systemctl", "status", "--full", "pointsd.service"],
        &["cat", &environment],
        &["cat", &command_line],
        &["journalctl", "--output=json", "--all"],
    ] {
        let said = service.run(place).expect(0).stdout;
        assert!(!said.is_empty(), "{place:?}");
        assert!(!said.contains(PASSWORD), "{place:?}: {said}");
    }
    let environment = service.run(&["cat", &environment]).stdout;
    assert!(!environment.contains("POINTSD_DATABASE_URL"), "{environment}");
}

#[test]
fn a_wrong_credential_is_named_and_not_shown() {
    let service = Service::with("");
    service.write("/etc/pointsd/database-url", format!("mysql://me:{PASSWORD}@host/db\n"), "600");
    service.run(&["systemctl", "start", "pointsd.service"]).expect(1);
    let shown = service.shown(&["ActiveState", "ExecMainStatus", "NRestarts"]);
    assert_eq!((&*shown["ActiveState"], &*shown["ExecMainStatus"], &*shown["NRestarts"]), ("failed", "2", "0"));
    let said: Vec<_> = service.journal().iter().map(|entry| entry["MESSAGE"].to_string()).collect();
    assert!(said[0].contains("the credential database-url"), "{said:?}");
    assert!(!said.concat().contains(PASSWORD), "{said:?}");
}

#[test]
fn commands_work_on_the_daemons_database_or_say_why_they_cannot() {
    let database = database();
    let gate = Gate::opened(&database);
    let service = Service::with("");
    let [url, environment] = ["/etc/pointsd/database-url", "/etc/pointsd/environment"];
    service.write(url, format!("{}\n", gate.url()), "640");
    service.run(&["chgrp", "pointsd", url]).expect(0);
    service.start();
    let paused = || {
        let paused = "SELECT paused_at IS NOT NULL FROM pointsd.jobs WHERE job = 'expiry'";
        wait(async { database.client().await.query_one(paused, &[]).await.unwrap().get::<_, bool>(0) })
    };
    let described = "pointsd: on PostgreSQL at 127.0.0.1:";
    // Root, and a member of the group; neither names the database.
    let done = service.pointsd(&["jobs", "pause", "expiry"]).expect(0);
    assert!(done.stderr.starts_with(described) && paused(), "{done:?}");
    let done = service.pointsd_as("member", &["jobs", "resume", "expiry"]).expect(0);
    assert!(done.stderr.starts_with(described) && !paused(), "{done:?}");
    // The answer alone, for scripts.
    for option in ["--quiet", "--json"] {
        assert_eq!(service.pointsd(&["jobs", "pause", "expiry", option]).expect(0).stderr, "");
    }
    // Other users hear of the remedy; only what needs no database works.
    let refused = service.pointsd_as("stranger", &["jobs", "resume", "expiry"]).expect(2);
    let said = format!("{url}: cannot be read by this user (it belongs to root (mode 640)), and the service");
    assert!(refused.stderr.contains(&said), "{refused:?}");
    assert!(refused.stderr.contains("sudo usermod -aG pointsd"), "{refused:?}");
    assert!(paused());
    service.pointsd_as("stranger", &["price", "list"]).expect(0);
    // What the unit's environment names counts as well.
    service.run(&["rm", url]).expect(0);
    service.write(environment, format!("POINTSD_DATABASE_URL=\"{}\"\n", gate.url()), "600");
    let done = service.pointsd(&["jobs", "resume", "expiry"]).expect(0);
    assert!(done.stderr.starts_with(described) && !paused(), "{done:?}");
    let refused = service.pointsd_as("member", &["jobs"]).expect(2);
    assert!(refused.stderr.contains(&format!("{environment}: cannot be read by this user")), "{refused:?}");
}
