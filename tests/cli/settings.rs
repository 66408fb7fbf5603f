//! The configuration and the database that a call uses, and the errors if they are wrong.

use serde_json::json;

use super::database;
use crate::program::{Folder, on, pointsd, run};

const USER: &str = "11111111-1111-4111-8111-111111111111";
const NOWHERE: &str = "postgres://nobody@127.0.0.1:1/nothing";

#[test]
fn the_option_comes_before_the_variable_and_that_before_the_file() {
    // The balance of its one account identifies each of the three databases.
    let databases = [database(), database(), database()];
    for (points, (_, url)) in (1..).zip(&databases) {
        run(on(url, &["recharge", USER, &points.to_string(), "--source", "gift"])).expect(0);
    }
    let [(_, of_option), (_, of_variable), (_, of_file)] = &databases;
    let folder = Folder::new();
    let file = folder.file("pointsd.yaml", format!("database: {{url: '{of_file}'}}\n"));

    for (option, variable, expected) in [
        (Some(of_option), Some(of_variable), 1),
        (Some(of_option), None, 1),
        (None, Some(of_variable), 2),
        (None, None, 3),
    ] {
        let mut command = pointsd(&["balance", USER, "--json", "--config", &file]);
        if let Some(url) = option {
            command.args(["--database-url", url]);
        }
        if let Some(url) = variable {
            command.env("POINTSD_DATABASE_URL", url);
        }
        assert_eq!(run(command).expect(0).json()["balance"], expected, "{option:?} {variable:?}");
    }
}

#[test]
fn the_config_option_comes_before_the_variable() {
    let folder = Folder::new();
    // The price of one service identifies each configuration.
    let config = |points: u32| {
        folder.file(&format!("prices-{points}.yaml"), format!("fixed_costs: {{script: {points}}}\n"));
        folder.file(&format!("{points}.yaml"), format!("prices: prices-{points}.yaml\n"))
    };
    let (of_option, of_variable) = (config(1), config(2));
    let cost = |arguments: &[&str], variable: &str| {
        let mut command = pointsd(&[&["price", "cost", "script", "--json"], arguments].concat());
        command.env("POINTSD_CONFIG", variable);
        run(command).expect(0).json()
    };
    assert_eq!(cost(&["--config", &of_option], &of_variable), json!({ "points": 1 }));
    assert_eq!(cost(&[], &of_variable), json!({ "points": 2 }));
    // Also before the command.
    let mut command = pointsd(&["--config", &of_option, "price", "cost", "script", "--json"]);
    command.env("POINTSD_CONFIG", &of_variable);
    assert_eq!(run(command).expect(0).json(), json!({ "points": 1 }));
}

#[test]
fn a_wrong_configuration_ends_with_2_and_says_where() {
    let folder = Folder::new();
    let missing = format!("{}/missing.yaml", folder.path().display());
    let nested = folder.file("prices.yaml", "fixed_costs:\n  script: 5\n  script: 6\n");
    for (name, text, says) in [
        ("unknown.yaml", "log:\n  level: info\n  colour: red\n", "unknown.yaml:3"),
        ("type.yaml", "\ndatabase:\n  pool_size: many\n", "type.yaml:3"),
        ("range.yaml", "ledger:\n  expires:\n    days: 0\n", "range.yaml:3"),
        ("twice.yaml", "prices: null\nprices: null\n", "twice.yaml:2"),
        ("schedule.yaml", "jobs:\n  expiry:\n    schedule: 'never'\n", "schedule.yaml:3"),
        ("zone.yaml", "business: {time_zone: Europe/Atlantis}\n", "zone.yaml:1"),
        ("syntax.yaml", "jobs: {\n", "syntax.yaml:"),
        ("no-prices.yaml", "prices: nowhere.yaml\n", "no-prices.yaml:1"),
        ("bad-prices.yaml", "prices: prices.yaml\n", "prices.yaml:3"),
        ("url.yaml", "database:\n  url: mysql://u:hunter2@h/d\n", "url.yaml:2"),
    ] {
        let file = folder.file(name, text);
        for arguments in [&["config", "check"][..], &["balance", USER], &["price", "list"], &["serve"]] {
            let mut command = pointsd(arguments);
            let done = run({
                command.args(["--config", &file]);
                command
            })
            .expect(2);
            assert!(done.stderr.contains(says), "{arguments:?} should say {says:?}: {}", done.stderr);
            assert!(!done.stderr.contains("hunter2"), "{}", done.stderr);
            assert_eq!(done.stdout, "");
        }
    }
    drop(nested);
    for (arguments, says) in [
        (&["config", "check", "--config", &missing][..], "missing.yaml: cannot be read"),
        (
            &["config", "check", "--database-url", "mysql://u:hunter2@h/d"],
            "--database-url or POINTSD_DATABASE_URL: is no",
        ),
        (&["config", "check", "--database-url", ""], "--database-url or POINTSD_DATABASE_URL: is empty"),
    ] {
        let done = run(pointsd(arguments)).expect(2);
        assert!(done.stderr.contains(says), "{arguments:?} should say {says:?}: {}", done.stderr);
        assert!(!done.stderr.contains("hunter2"), "{}", done.stderr);
    }
}

#[test]
fn a_mistake_that_shows_when_connecting_is_a_wrong_configuration_too() {
    let folder = Folder::new();
    let file = folder.file("pointsd.yaml", "database: {ca_file: missing.pem}\n");
    let balance = ["balance", USER, "--config", &file, "--database-url", NOWHERE];
    let done = run(pointsd(&balance)).expect(2);
    assert!(done.stderr.contains("database.ca_file") && done.stderr.contains("missing.pem"), "{}", done.stderr);
}

#[test]
fn config_check_shows_the_settings_in_force_without_a_database() {
    let folder = Folder::new();
    let file = folder.file("pointsd.yaml", "business: {time_zone: Asia/Shanghai}\nledger: {expires: {days: 30}, sources: {gift: {expires: {months: 1, end_of: month}}, cash: {expires: never}}}\n");
    let mut command = pointsd(&["config", "check", "--json", "--config", &file]);
    command.env("POINTSD_DATABASE_URL", "postgres://nobody:hunter2@127.0.0.1:1/nothing");
    let mut answer = run(command).expect(0).json();
    for (job, utc, local) in [
        ("expiry", "T18:00:00Z", "T02:00:00+08:00"),
        ("reconciliation", "T20:30:00Z", "T04:30:00+08:00"),
        ("arrears", "T20:45:00Z", "T04:45:00+08:00"),
        ("month_end", "T21:00:00Z", "T05:00:00+08:00"),
        ("prune", "T19:30:00Z", "T03:30:00+08:00"),
    ] {
        let job = answer["jobs"][job].as_object_mut().unwrap();
        let next = job.remove("next_slot").unwrap();
        assert!(next.as_str().unwrap().ends_with(utc), "{next}");
        let next = job.remove("next_slot_local").unwrap();
        assert!(next.as_str().unwrap().ends_with(local), "{next}");
    }
    assert_eq!(
        answer,
        json!({
            "config": file, "prices": "built-in defaults", "database": NOWHERE, "time_zone": "Asia/Shanghai", "business": "", "language": "en",
            "ledger": {
                "expires": { "days": 30 }, "refund": { "days": 30 },
                "sources": {
                    "cash": { "expires": "never", "kind": null, "label": { "en": null, "zh-CN": null } },
                    "gift": {
                        "expires": { "months": 1, "end_of": "month" }, "kind": "promotional",
                        "label": { "en": "Gift", "zh-CN": "赠送" },
                    },
                },
                "valuation": null,
            },
            "services": 4,
            "jobs": {
                "expiry": {
                    "schedule": "0 2 * * * (Asia/Shanghai)", "rule": "0 2 * * *", "time_zone": "Asia/Shanghai",
                    "in_words": "At 02:00, Asia/Shanghai", "enabled": true, "catch_up": "latest",
                    "catch_up_limit": null, "overlap": "skip", "timeout_seconds": 14400, "retries": 4,
                    "retry_seconds": 10, "pings": null,
                },
                "reconciliation": {
                    "schedule": "30 4 * * * (Asia/Shanghai)", "rule": "30 4 * * *", "time_zone": "Asia/Shanghai",
                    "in_words": "At 04:30, Asia/Shanghai", "enabled": true, "catch_up": "latest",
                    "catch_up_limit": null, "overlap": "skip", "timeout_seconds": 14400, "retries": 4,
                    "retry_seconds": 10, "pings": null,
                },
                "arrears": {
                    "schedule": "45 4 * * * (Asia/Shanghai)", "rule": "45 4 * * *", "time_zone": "Asia/Shanghai",
                    "in_words": "At 04:45, Asia/Shanghai", "enabled": true, "catch_up": "latest",
                    "catch_up_limit": null, "overlap": "skip", "timeout_seconds": 3600, "retries": 4,
                    "retry_seconds": 10, "pings": null,
                },
                "month_end": {
                    "schedule": "0 5 1 * * (Asia/Shanghai)", "rule": "0 5 1 * *", "time_zone": "Asia/Shanghai",
                    "in_words": "At 05:00, on day 1, Asia/Shanghai", "enabled": true, "catch_up": "all",
                    "catch_up_limit": 12, "overlap": "skip", "timeout_seconds": 3600, "retries": 4,
                    "retry_seconds": 10, "pings": null,
                },
                "prune": {
                    "schedule": "30 3 * * * (Asia/Shanghai)", "rule": "30 3 * * *", "time_zone": "Asia/Shanghai",
                    "in_words": "At 03:30, Asia/Shanghai", "enabled": true, "catch_up": "latest",
                    "catch_up_limit": null, "overlap": "skip", "timeout_seconds": 3600, "retries": 4,
                    "retry_seconds": 10, "pings": null,
                },
            },
            "reports": { "full_proof_on": "sunday", "templates": null, "missing_after_hours": 6,
                "arrears": { "attention_points": 10_000, "attention_growth_percent": 25 } },
            "mail": {
                "way": { "mode": "none" }, "to": { "expiry": [], "reconciliation": [], "arrears": [], "month_end": [], "adoption": [] },
                "retry_seconds": 60, "give_up_hours": 96, "attachments_megabytes": 10,
            },
            "http": { "listen": null, "tls": null, "public_url": null },
            "finance": {
                "accounts": {
                    "cash": "Cash", "deferred": "Deferred revenue", "revenue": "Revenue", "breakage": "Breakage",
                    "returns": "Refunds payable", "corrections": "Corrections",
                },
                "sources": {},
            },
            "warnings": [],
        })
    );
}

#[test]
fn config_check_shows_how_mails_leave_and_not_the_password() {
    let folder = Folder::new();
    let file = folder.file(
        "pointsd.yaml",
        "mail:\n  mode: smtp\n  from: Points <points@example.com>\n  to: {arrears: [ann@example.com, '财务部 <cai@example.com>']}\n\
         \x20 smtp: {host: smtp.example.com, user: points, password: hunter2}\n\
         business: {name: Acme, language: zh-CN}\nreports: {full_proof_on: null}\n\
         jobs: {arrears: {ping_url: 'https://somebody@ping.example.com/secret'}}\n",
    );
    let call = |more: &[&str]| {
        let mut command = pointsd(&["config", "check", "--config", &file]);
        command.args(more).env("POINTSD_SMTP_PASSWORD", "hunter3");
        run(command).expect(0)
    };
    let done = call(&[]);
    for line in [
        "Mail",
        "  mails              leave by smtp.example.com:587, encrypted by STARTTLS, logged in as points",
        "  from               Points <points@example.com>",
        "  arrears to         ann@example.com, 财务部 <cai@example.com>",
        "  expiry to          no recipient",
        "  language       zh-CN",
        "  pings           ping.example.com",
        "Points expire after 180 days; those of a refund after 30 days at the earliest",
        " gift           Gift, 赠送             promotional   after 180 days",
    ] {
        assert!(done.stdout.lines().any(|said| said.trim_end() == line), "no line {line:?}:\n{}", done.stdout);
    }
    let json = call(&["--json"]);
    assert_eq!(
        json.json()["mail"]["way"],
        json!({
            "mode": "smtp", "from": "Points <points@example.com>", "host": "smtp.example.com", "port": 587,
            "security": "starttls", "user": "points", "ca_file": null, "timeout_seconds": 60,
        })
    );
    for said in [done, json] {
        assert!(!format!("{said:?}").contains("hunter"), "{said:?}");
    }
}

#[test]
fn config_check_warns_of_slots_in_a_clock_change() {
    let folder = Folder::new();
    let file = folder.file(
        "pointsd.yaml",
        "business: {time_zone: Europe/Paris}\n\
         jobs:\n  expiry:\n    schedule: '30 2 * * *'\n    catch_up: all\n    catch_up_limit: 7\n\
         \x20 prune: {enabled: false, retries: 0}\n",
    );
    let done = run(pointsd(&["config", "check", "--config", &file])).expect(0);
    for line in [
        "Job expiry: At 02:30, Europe/Paris",
        "  rule            30 2 * * * (Europe/Paris)",
        "  after downtime  all of the missed slots are run, up to the latest 7",
        "Job prune: At 03:30, Europe/Paris",
        "  next slot       none, it is not enabled; `pointsd run prune` still runs it",
        "  retries         none",
        "2 warnings:",
    ] {
        assert!(done.stdout.lines().any(|shown| shown == line), "{line:?} is not in:\n{}", done.stdout);
    }
    let place = format!("{file}:4: jobs.expiry.schedule: 02:30 ");
    for what in ["does not exist on ", "comes twice on "] {
        assert!(done.stdout.contains(&format!("{place}{what}")), "{what:?} is not in:\n{}", done.stdout);
    }
    let answer = run(pointsd(&["config", "check", "--json", "--config", &file])).expect(0).json();
    assert_eq!(answer["warnings"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&answer["jobs"]["prune"]["next_slot"], &answer["jobs"]["expiry"]["catch_up_limit"]),
        (&json!(null), &json!(7))
    );
}

#[test]
fn config_check_looks_whether_the_files_are_there() {
    let folder = Folder::new();
    let check = |text: &str| {
        let file = folder.file("pointsd.yaml", text);
        (run(pointsd(&["config", "check", "--config", &file])), file)
    };
    folder.file("ca.pem", "");
    for (text, says) in [
        ("database:\n  ca_file: missing.pem\n", "2: database.ca_file: "),
        ("\n\ndatabase: {postgres_bin: missing}\n", "3: database.postgres_bin: there is no initdb in "),
    ] {
        let (done, file) = check(text);
        let done = done.expect(2);
        assert!(done.stderr.contains(&format!("{file}:{says}")), "{}", done.stderr);
        assert!(done.stderr.contains("missing") && done.stderr.contains("write null"), "{}", done.stderr);
        assert_eq!(done.stdout, "");
    }
    check("database: {ca_file: ca.pem}\n").0.expect(0);
}

#[test]
fn migrations_are_applied_once_and_shown() {
    let (database, url) = database();
    super::wait(async {
        let everything = "DROP SCHEMA pointsd CASCADE;";
        let client = database.client().await;
        client.batch_execute(everything).await.unwrap();
        let ours = "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";
        let left: i64 = client.query_one(ours, &[]).await.unwrap().get(0);
        assert_eq!(left, 0, "the database is as new");
    });
    let status = |pending: u64| {
        let answer = run(on(&url, &["db", "status", "--json"])).expect(0).json();
        assert_eq!(answer["pending"], pending, "{answer}");
        assert_eq!(answer["migrations"][0]["name"], "0001_ledger", "{answer}");
        answer["migrations"].as_array().unwrap().len() as u64
    };
    let pending = run(on(&url, &["db", "status", "--json"])).expect(0).json()["pending"].as_u64().unwrap();
    assert_eq!(status(pending), pending, "all are pending");
    let applied = run(on(&url, &["db", "migrate", "--json"])).expect(0).json();
    assert_eq!(applied["applied"].as_array().unwrap().len() as u64, pending, "{applied}");
    status(0);
    assert_eq!(run(on(&url, &["db", "migrate", "--json"])).expect(0).json()["applied"], json!([]));
}
