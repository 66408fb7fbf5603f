//! Start, reload, hang, death and stop.

use std::time::Duration;

use super::database;
use super::machine::{Gate, Service, pass, until};
use crate::program::{call, post, until_waits_for_a_lock, wait};
use crate::support::{user_of_a_bucket, users_of_a_bucket};

const EACH_SECOND: &str = "jobs: {expiry: {schedule: '* * * * * *', lanes: 1}}\n";
/// So often that no other job comes sooner at any time of day.
const EACH_MINUTE: &str = "jobs: {expiry: {schedule: '* * * * *'}}\n";

#[test]
fn started_means_ready_and_the_status_says_what_comes_next() {
    let database = database();
    let gate = Gate::opened(&database);
    let service = Service::on(&gate, "");
    wait(async {
        let everything = "DROP SCHEMA pointsd CASCADE;";
        database.client().await.batch_execute(everything).await.unwrap();
    });
    service.configure(EACH_MINUTE);
    service.start();
    // Asked at once: the database is migrated and the jobs are scheduled.
    let status = service.shows("StatusText");
    assert!(status.contains("next: expiry"), "{status}");
    assert_eq!((service.logged("ready"), service.shows("SubState").as_str()), (1, "running"));
    let last = pointsd::database::migrate::MIGRATIONS.last().unwrap();
    let name = format!("{:04}_{}", last.version, last.name);
    assert_eq!(service.logs(&format!("applied migration {name}"))["MIGRATION"], *name);
    let answer = call(&gate.url(), &["db", "status", "--json"]).expect(0).json();
    assert_eq!(answer["pending"], 0, "{answer}");
}

#[test]
fn a_reload_takes_the_new_schedule() {
    let database = database();
    let gate = Gate::opened(&database);
    let service = Service::on(&gate, "");
    service.start();
    let pid = service.main_pid();
    service.configure(EACH_SECOND);
    service.run(&["systemctl", "reload", "pointsd.service"]).expect(0);
    service.logs("reloaded");
    service.logs("expiry succeeded");
    service.becomes(&[("ActiveState", "active"), ("SubState", "running")]);
    assert_eq!(service.main_pid(), pid);
}

#[test]
fn a_reload_with_a_bad_file_is_refused_and_the_old_one_stays() {
    let database = database();
    let gate = Gate::opened(&database);
    let service = Service::on(&gate, "");
    service.configure(EACH_SECOND);
    service.start();
    let pid = service.main_pid();
    service.configure("jobs:\n  expiry:\n    schedule: 'never'\n");
    // The caller hears of it, and the journal has it.
    service.run(&["systemctl", "reload", "pointsd.service"]).expect(1);
    let refused = service.logs("the new configuration is refused");
    assert_eq!(refused["PRIORITY"], "3");
    assert!(refused["REASON"].as_str().unwrap().contains("/etc/pointsd/pointsd.yaml:3"), "{refused}");
    service.becomes(&[("ActiveState", "active"), ("SubState", "running"), ("MainPID", &pid)]);
    // Each second, as before.
    let before = service.logged("expiry succeeded");
    until(|| "further slots".to_owned(), || (service.logged("expiry succeeded") >= before + 2).then_some(()));
}

#[test]
fn a_hang_is_ended_by_the_watchdog_and_work_goes_on() {
    let database = database();
    let gate = Gate::opened(&database);
    let service = Service::on(&gate, "WatchdogSec=4s");
    service.start();
    // It lives on its own pings for longer than the watchdog waits.
    pass(Duration::from_secs(6));
    let shown = service.shown(&["NRestarts", "ActiveState"]);
    assert_eq!((&*shown["NRestarts"], &*shown["ActiveState"]), ("0", "active"));
    service.run(&["systemctl", "kill", "--kill-who=main", "--signal=SIGSTOP", "pointsd.service"]).expect(0);
    // From the journal: the property Result is that of the next run as soon as this has begun.
    let failed = || service.entries(&["UNIT=pointsd.service", "UNIT_RESULT=watchdog"]).pop();
    until(|| format!("the watchdog: {:#?}", service.journal()), failed);
    service.becomes(&[("NRestarts", "1"), ("ActiveState", "active"), ("SubState", "running")]);
}

#[test]
fn a_stop_in_the_middle_of_a_sweep_waits_for_the_group_in_hand() {
    let database = database();
    let gate = Gate::opened(&database);
    let lines: String = users_of_a_bucket()
        .take(1_200)
        .map(|user| {
            format!(
                "{{\"op\":\"recharge\",\"user\":\"{user}\",\"points\":7,\"source\":\"gift\",\"order_id\":1,\
                 \"at\":\"2026-01-01T00:00:00Z\",\"expires_at\":\"2026-01-02T00:00:00Z\"}}\n",
            )
        })
        .collect();
    post(&gate.url(), lines).expect(0);
    // Far less than the group takes: the daemon has to ask for more.
    let service = Service::on(&gate, "TimeoutStopSec=2s");
    service.configure(EACH_SECOND);
    wait(async {
        let (client, holder) = (database.client().await, database.client().await);
        holder.batch_execute("BEGIN").await.unwrap();
        let lock = "SELECT FROM pointsd.accounts WHERE user_id = $1 FOR UPDATE";
        holder.execute(lock, &[&user_of_a_bucket(750)]).await.unwrap();
        service.start();
        until_waits_for_a_lock(&client).await;
        service.run(&["systemctl", "stop", "--no-block", "pointsd.service"]).expect(0);
        service.becomes(&[("ActiveState", "deactivating")]);
        pass(Duration::from_secs(4));
        assert_eq!(service.shows("ActiveState"), "deactivating", "{:#?}", service.journal());
        holder.batch_execute("COMMIT").await.unwrap();
        service.becomes(&[
            ("ActiveState", "inactive"),
            ("Result", "success"),
            ("ExecMainCode", "1"),
            ("ExecMainStatus", "0"),
        ]);
        assert_eq!(service.logged("stopped"), 1);
        let expired = "SELECT count(*) FROM pointsd.accounts WHERE total_expired = total_recharged";
        let expired: i64 = client.query_one(expired, &[]).await.unwrap().get(0);
        assert_eq!(expired, 1_000, "the group in hand, and no other");
    });
}

#[test]
fn a_database_that_is_not_there_is_waited_for() {
    let database = database();
    let mut gate = Gate::to(&database);
    let service = Service::on(&gate, "");
    service.configure(EACH_MINUTE);
    service.run(&["systemctl", "start", "--no-block", "pointsd.service"]).expect(0);
    let away = service.logs("the database is away");
    assert_eq!(away["PRIORITY"], "4", "{away}");
    until(
        || "the status".to_owned(),
        || service.shows("StatusText").contains("waiting for the database").then_some(()),
    );
    // Long enough for several tries.
    pass(Duration::from_secs(3));
    assert_eq!(service.shows("ActiveState"), "activating");
    assert_eq!(service.logged("the database is away"), 1, "it is told once");
    gate.open();
    service.logs("the database is back");
    service.becomes(&[("ActiveState", "active"), ("SubState", "running"), ("NRestarts", "0")]);
    assert!(service.shows("StatusText").contains("next: expiry"));
    assert_eq!(service.logged("ready"), 1);
}

#[test]
fn a_database_that_goes_away_is_waited_for_without_a_restart() {
    let database = database();
    let mut gate = Gate::opened(&database);
    // The watchdog must not take it for a hang.
    let service = Service::on(&gate, "WatchdogSec=4s");
    service.configure(EACH_SECOND);
    service.start();
    service.logs("expiry succeeded");
    gate.shut();
    service.logs("the database is away");
    until(
        || "the status".to_owned(),
        || service.shows("StatusText").contains("waiting for the database").then_some(()),
    );
    pass(Duration::from_secs(6));
    assert_eq!(service.logged("the database is away"), 1, "it is told once");
    let before = service.logged("expiry succeeded");
    gate.open();
    service.logs("the database is back");
    until(|| "further slots".to_owned(), || (service.logged("expiry succeeded") > before).then_some(()));
    let shown = service.shown(&["NRestarts", "ActiveState", "StatusText"]);
    assert_eq!((&*shown["NRestarts"], &*shown["ActiveState"]), ("0", "active"));
    assert!(!shown["StatusText"].contains("waiting"), "{shown:?}");
}

#[test]
fn a_wrong_configuration_is_not_tried_again_and_raises_the_alarm() {
    let service = Service::with("");
    service.configure("jobs:\n  expiry:\n    schedule: 'never'\n");
    service.write("/etc/pointsd/on-failure", "#!/bin/sh\necho \"$1\" >>/run/on-failure\n", "755");
    service.run(&["rm", "-f", "/run/on-failure"]).expect(0);
    service.run(&["systemctl", "start", "pointsd.service"]).expect(1);
    let shown = service.shown(&["ActiveState", "Result", "ExecMainStatus", "NRestarts"]);
    assert_eq!((&*shown["ActiveState"], &*shown["Result"]), ("failed", "exit-code"));
    assert_eq!((&*shown["ExecMainStatus"], &*shown["NRestarts"]), ("2", "0"));
    let alarm = until(|| "the alarm".to_owned(), || service.entries(&["SYSLOG_IDENTIFIER=pointsd-alert"]).pop());
    assert_eq!(alarm["PRIORITY"], "0");
    let said = alarm["MESSAGE"].as_str().unwrap();
    assert!(said.starts_with("pointsd.service has failed: ") && said.contains("ExecMainStatus=2"), "{said}");
    let called = until(
        || "the operator's program".to_owned(),
        || {
            let done = service.run(&["cat", "/run/on-failure"]);
            (!done.stdout.is_empty()).then_some(done.stdout)
        },
    );
    assert_eq!(called, "pointsd.service\n");
}

#[test]
fn a_service_that_dies_again_and_again_is_given_up_and_raises_the_alarm() {
    // In the time of the unit's limit, as quickly as it can.
    let service = Service::with("ExecStart=\nExecStart=/bin/false\nRestartSec=1ms");
    service.run(&["systemctl", "start", "pointsd.service"]);
    service.becomes(&[("ActiveState", "failed"), ("SubState", "failed")]);
    assert_eq!(service.shows("NRestarts"), "10");
    let alarms = until(
        || "the alarm".to_owned(),
        || {
            let alarms = service.entries(&["SYSLOG_IDENTIFIER=pointsd-alert"]);
            (!alarms.is_empty()).then_some(alarms)
        },
    );
    assert_eq!(alarms.len(), 1, "one alarm, not one for each death: {alarms:#?}");
}
