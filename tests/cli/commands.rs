//! The JSON of each command, whole, and the status it ends with.

use serde_json::{Value, json};

use super::database;
use crate::program::closed_port::ClosedPort;
use crate::program::{Folder, call, eventually, feed, on, pointsd, run, wait};

const USER: &str = "11111111-1111-4111-8111-111111111111";
const NOBODY: &str = "22222222-2222-4222-8222-222222222222";

/// Calls one after the other on one database: arguments parted by spaces, status, answer.
#[track_caller]
fn table(url: &str, rows: &[(&str, i32, Value)]) {
    for (arguments, status, answer) in rows {
        let arguments: Vec<&str> = arguments.split(' ').chain(["--json"]).collect();
        let done = call(url, &arguments).expect(*status);
        assert_eq!(done.json(), *answer, "{arguments:?}");
        assert_eq!(done.stderr, "", "{arguments:?}");
    }
}

#[test]
fn postings_and_the_balances_behind_them() {
    let (_database, url) = database();
    let consume = format!("consume {USER} 30 --source-type tts --source-id t1 --at 2026-01-01T00:00:00Z");
    let consumed = json!({
        "status": "posted", "user": USER, "seq": 1, "type": "consume", "amount": 30,
        "balance_before": 0, "balance_after": -30, "source_type": "tts", "source_id": "t1", "batch": null,
        "allocations": [], "at": "2026-01-01T00:00:00Z", "duration": null, "description": null,
        "refers_to": null, "points": 30, "last_seq": 1,
    });
    // The clock of a caller may be in any zone; the answer is in UTC.
    let recharge = format!("recharge {USER} 1000 --source card --order-id 7 --at 2026-01-02T01:00:00+01:00");
    let recharged = json!({
        "status": "posted", "user": USER, "seq": 2, "type": "recharge", "amount": 1000,
        "balance_before": -30, "balance_after": 970, "source_type": "card", "source_id": "7", "batch": 1,
        "allocations": [{"batch": 1, "points": 30}], "at": "2026-01-02T00:00:00Z", "duration": null,
        "description": null,
        "refers_to": null, "points": 1000, "last_seq": 2,
    });
    let priced = json!({
        "status": "posted", "user": USER, "seq": 3, "type": "consume", "amount": 2,
        "balance_before": 970, "balance_after": 968, "source_type": "tts", "source_id": "t2", "batch": null,
        "allocations": [{"batch": 1, "points": 2}], "at": "2026-01-03T00:00:00.5Z".replace(".5", ".500"),
        "duration": 12.5, "description": null,
        "refers_to": null, "points": 2, "last_seq": 3,
    });
    let replayed = |posted: &Value| {
        let mut replayed = posted.clone();
        replayed["status"] = json!("replayed");
        replayed
    };
    let price = format!("consume {USER} --source-type tts --source-id t2 --seconds 12.50 --at 2026-01-03T00:00:00.5Z");
    let rejected =
        |code: &str, message: &str| json!({ "status": "rejected", "user": USER, "code": code, "message": message });
    table(
        &url,
        &[
            (&consume, 0, consumed.clone()),
            (&recharge, 0, recharged.clone()),
            (&price, 0, priced.clone()),
            // Once more: the same answers, and nothing changes.
            (&consume, 0, replayed(&consumed)),
            (&recharge, 0, replayed(&recharged)),
            (&price, 0, replayed(&priced)),
            (
                &format!("consume {USER} --source-type preview --source-id p1"),
                0,
                json!({ "status": "free", "user": USER, "source_type": "preview", "source_id": "p1" }),
            ),
            (
                &format!("recharge {USER} 0 --source card --order-id 8"),
                3,
                rejected("invalid_points", "0 points: an entry carries 1 to 1000000000000"),
            ),
            (
                &format!("consume {USER} -5 --source-type tts --source-id t3"),
                3,
                rejected("invalid_points", "-5 points: an entry carries 1 to 1000000000000"),
            ),
            (
                &format!("recharge {USER} 5 --source bogus --order-id 8"),
                3,
                rejected(
                    "unknown_source",
                    "`bogus` is not a recharge source; add it to ledger.sources if it should be",
                ),
            ),
            (
                &format!("recharge {USER} 5 --source card --order-id 7"),
                3,
                rejected(
                    "key_conflict",
                    "order_id 7 of card belongs to entry 2 (recharge of 1000 points, card); give this posting another one",
                ),
            ),
            (
                &format!(
                    "recharge {USER} 5 --source card --key k --at 2026-01-02T00:00:00Z --expires-at 2026-01-02T00:00:00Z"
                ),
                3,
                rejected("already_expired", "the end 2026-01-02T00:00:00Z is not after 2026-01-02T00:00:00Z"),
            ),
            // By now the points have expired, though no sweep has run: they are still in the books.
            (
                &format!("balance {USER}"),
                0,
                json!({
                    "user": USER, "balance": 968, "available": 0, "held": 0, "arrears": 0,
                    "total_recharged": 1000, "total_consumed": 32, "total_expired": 0, "total_refunded": 0,
                    "total_voided": 0, "total_adjusted": 0, "total_opening": 0, "next_expiry": null,
                }),
            ),
            (
                &format!("balance {NOBODY}"),
                0,
                json!({
                    "user": NOBODY, "balance": 0, "available": 0, "held": 0, "arrears": 0,
                    "total_recharged": 0, "total_consumed": 0, "total_expired": 0, "total_refunded": 0,
                    "total_voided": 0, "total_adjusted": 0, "total_opening": 0, "next_expiry": null,
                }),
            ),
        ],
    );
}

/// The balance at one past instant, on both clocks.
#[test]
fn a_balance_at_a_past_instant_names_its_clock() {
    let (_database, url) = database();
    let recharge = ["recharge", USER, "100", "--source", "gift", "--key", "a", "--at", "2026-01-01T00:00:00Z"];
    call(&url, &[&recharge[..], &["--expires-at", "2026-02-01T00:00:00Z"]].concat()).expect(0);
    call(&url, &["consume", USER, "30", "--source-type", "tts", "--source-id", "t1", "--at", "2026-01-15T00:00:00Z"])
        .expect(0);
    let then = |clock: &str, at: &str| call(&url, &["balance", USER, clock, at, "--json"]).expect(0).json();
    let answer = |clock: &str, at: &str, balance: i64, recharged: i64, consumed: i64, expired: i64| {
        json!({
            clock: at, "user": USER, "balance": balance, "arrears": 0, "total_recharged": recharged,
            "total_consumed": consumed, "total_expired": expired, "total_refunded": 0, "total_voided": 0,
            "total_adjusted": 0, "total_opening": 0,
        })
    };
    for (at, balance, recharged, consumed, expired) in [
        ("2025-12-31T00:00:00Z", 0, 0, 0, 0),
        ("2026-01-02T00:00:00Z", 100, 100, 0, 0),
        ("2026-01-16T00:00:00Z", 70, 100, 30, 0),
        ("2026-02-01T00:00:00Z", 0, 100, 30, 70),
    ] {
        let expected = answer("effective_at", at, balance, recharged, consumed, expired);
        assert_eq!(then("--effective-at", at), expected);
        // Nothing had been recorded by then.
        assert_eq!(then("--as-of", at), answer("as_of", at, 0, 0, 0, 0));
        let export = |clock: &str| call(&url, &["export", "accounts", clock, at, "--json"]).expect(0).stdout;
        let exported = export("--effective-at");
        match recharged {
            0 => assert_eq!(exported, ""),
            _ => assert_eq!(serde_json::from_str::<Value>(&exported).unwrap()["balance"], balance),
        }
        assert_eq!(export("--as-of"), "");
    }
    let recorded = call(&url, &["export", "entries", "--json"]).expect(0).jsons();
    let [first, last] = [&recorded[0], &recorded[1]].map(|entry| entry["recorded_at"].as_str().unwrap().to_owned());
    assert_eq!(then("--as-of", &first)["balance"], 100);
    assert_eq!(then("--as-of", &last)["balance"], 70);
    let csv = call(&url, &["export", "accounts", "--csv", "--as-of", &last]).expect(0).stdout;
    let columns = "user,balance,arrears,total_recharged,total_consumed,total_expired,total_refunded,total_voided,total_adjusted,\
         total_opening";
    assert_eq!(csv, format!("\u{feff}{columns}\r\n{USER},70,0,100,30,0,0,0,0,0\r\n"));
    let text = call(&url, &["balance", USER, "--effective-at", "2026-01-16T00:00:00Z"]).expect(0).stdout;
    assert!(text.contains("\n  effective at  2026-01-16T00:00:00Z, as known now\n"), "{text}");
    for clock in ["--effective-at", "--as-of"] {
        for arguments in [["balance", USER], ["export", "accounts"]] {
            let done = call(&url, &[&arguments[..], &[clock, "9999-01-01T00:00:00Z"]].concat()).expect(2);
            assert!(done.stderr.contains(&format!("{clock} 9999-01-01T00:00:00Z lies in the future")), "{done:?}");
        }
    }
}

#[test]
fn a_recharge_without_order_and_key_is_each_time_a_new_one() {
    let (_database, url) = database();
    for seq in [1, 3] {
        let done = call(&url, &["recharge", USER, "5", "--source", "gift", "--json"]).expect(0).json();
        assert_eq!((&done["status"], &done["seq"]), (&json!("posted"), &json!(seq)));
        // Its key is the only name that a void can call it by.
        let void = call(&url, &["void", USER, "--of", done["key"].as_str().unwrap(), "--json"]).expect(0).json();
        assert_eq!((&void["amount"], &void["refers_to"]), (&json!(5), &json!(seq)), "{void}");
    }
}

#[test]
fn check_tells_whether_work_may_start() {
    let (_database, url) = database();
    let check = |user: &str, points: i64| format!("check {user} {points}");
    let answer = |sufficient: bool, available: i64, balance: i64, required: i64| json!({ "sufficient": sufficient, "available": available, "held": 0, "balance": balance, "required": required });
    call(&url, &["recharge", USER, "10", "--source", "gift"]).expect(0);
    call(&url, &["consume", NOBODY, "1", "--source-type", "tts", "--source-id", "t"]).expect(0);
    table(
        &url,
        &[
            (&check(USER, 10), 0, answer(true, 10, 10, 10)),
            (&check(USER, 11), 3, answer(false, 10, 10, 11)),
            // An account in arrears may start no task, not even a free one.
            (&check(NOBODY, 0), 3, answer(false, 0, -1, 0)),
            (&check("33333333-3333-4333-8333-333333333333", 0), 0, answer(true, 0, 0, 0)),
            (&check("33333333-3333-4333-8333-333333333333", 1), 3, answer(false, 0, 0, 1)),
        ],
    );
}

#[test]
fn prices_need_no_database() {
    for (arguments, points) in [
        ("price cost script", 5),
        ("price cost preview", 0),
        ("price cost tts --seconds 0", 1),
        ("price cost tts --seconds 10.000000001", 2),
        ("price cost video --seconds 1.5", 4),
        ("price estimate tts --chars 100", 3),
        ("price estimate tts --chars 0", 1),
        ("price estimate video --input-seconds 10", 20),
        ("price estimate script", 5),
        ("price estimate preview", 0),
    ] {
        let arguments: Vec<&str> = arguments.split(' ').chain(["--json"]).collect();
        assert_eq!(run(pointsd(&arguments)).expect(0).json(), json!({ "points": points }), "{arguments:?}");
    }
}

#[test]
fn the_sweep_counts_by_source_and_a_dry_run_changes_nothing() {
    let (_database, url) = database();
    for (user, points, source, order) in [(USER, 70, "gift", 1), (USER, 30, "card", 2), (NOBODY, 5, "gift", 3)] {
        let (points, order) = (points.to_string(), order.to_string());
        let at = ["--at", "2026-01-01T00:00:00Z", "--expires-at", "2026-02-01T00:00:00Z"];
        let recharge = ["recharge", user, &points, "--source", source, "--order-id", &order];
        call(&url, &[&recharge[..], &at].concat()).expect(0);
    }
    let books =
        || ["accounts", "batches", "entries"].map(|table| call(&url, &["export", table, "--json"]).expect(0).stdout);
    let sweep = |at: &str, dry_run: bool| {
        let dry_run_or_not: &[&str] = if dry_run { &["--dry-run"] } else { &[] };
        let mut answer =
            call(&url, &[&["run", "expiry", "--at", at, "--json"], dry_run_or_not].concat()).expect(0).json();
        let seconds = answer.as_object_mut().unwrap().remove("seconds").expect("seconds");
        assert!(seconds.is_f64(), "{seconds}");
        let object = answer.as_object_mut().unwrap();
        // A dry run keeps no report and prints no number of one.
        assert_eq!(object.remove("report").is_some_and(|report| report.is_i64()), !dry_run);
        let (run, state) = (object.remove("run").expect("run"), object.remove("state").expect("state"));
        assert_eq!((run.is_i64(), state), (!dry_run, json!((!dry_run).then_some("succeeded"))));
        answer
    };
    let answer = |at: &str, dry_run: bool, batches: u64, accounts: u64, points: u64, by_source: Value| {
        json!({
            "at": at, "dry_run": dry_run, "stopped": false, "orphaned": 0, "orphans": [],
            "batches": batches, "accounts": accounts, "points": points, "by_source": by_source,
        })
    };
    let due = json!({ "card": { "batches": 1, "points": 30 }, "gift": { "batches": 2, "points": 75 } });
    let (early, late) = ("2026-01-31T23:59:59.999999Z", "2026-02-01T00:00:00Z");
    let before = books();
    assert_eq!(sweep(early, false), answer(early, false, 0, 0, 0, json!({})));
    assert_eq!(sweep(late, true), answer(late, true, 3, 2, 105, due.clone()));
    assert_eq!(books(), before, "after a dry run");
    assert_eq!(sweep(late, false), answer(late, false, 3, 2, 105, due));
    assert_ne!(books(), before);
    let swept = books();
    assert_eq!(sweep(late, false), answer(late, false, 0, 0, 0, json!({})));
    assert_eq!(books(), swept, "after the second sweep");
}

#[test]
fn a_run_in_the_future_is_refused_unless_it_is_dry() {
    let (_database, url) = database();
    call(&url, &["recharge", USER, "70", "--source", "gift", "--key", "a", "--expires-at", "2100-01-01T00:00:00Z"])
        .expect(0);
    let before = call(&url, &["export", "batches", "--json"]).expect(0).stdout;
    let future = "9999-12-30T00:00:00Z";
    for (job, remedy) in [
        ("expiry", "correct it, or see with --dry-run what the run would do"),
        ("prune", "correct it, or see with --dry-run what the run would do"),
        ("arrears", "arrears reports the present; leave --at out"),
        ("reconciliation", "reconciliation reports the present; leave --at out"),
    ] {
        let done = call(&url, &["run", job, "--at", future]).expect(2);
        assert!(
            done.stderr.contains(&format!("--at {future} lies in the future: the database's clock shows ")),
            "{done:?}"
        );
        assert!(done.stderr.contains(remedy), "{done:?}");
    }
    assert_eq!(call(&url, &["runs", "--json"]).expect(0).stdout, "", "none of them began");
    let done = call(&url, &["arrears", "--at", future]).expect(2);
    assert!(done.stderr.contains(&format!("--at {future} lies in the future")), "{done:?}");
    assert!(done.stderr.contains("the arrears are those of now; leave --at out"), "{done:?}");
    let dry = call(&url, &["run", "expiry", "--at", future, "--dry-run", "--json"]).expect(0).json();
    assert_eq!((&dry["points"], &dry["batches"]), (&json!(70), &json!(1)), "{dry}");
    call(&url, &["run", "prune", "--at", future, "--dry-run"]).expect(0);
    call(&url, &["run", "arrears", "--at", future, "--dry-run"]).expect(2);
    assert_eq!(call(&url, &["export", "batches", "--json"]).expect(0).stdout, before);
}

#[test]
fn a_sweep_that_meets_a_batch_without_account_says_so() {
    let (mut database, url) = database();
    database.expect_damage();
    let dates = ["--at", "2026-01-01T00:00:00Z", "--expires-at", "2026-02-01T00:00:00Z"];
    call(&url, &[&["recharge", USER, "70", "--source", "gift"], &dates[..]].concat()).expect(0);
    super::wait(async { database.client().await.batch_execute("DELETE FROM pointsd.accounts").await.unwrap() });
    let done = call(&url, &["run", "expiry", "--at", "2026-02-01T00:00:00Z", "--json"]).expect(3);
    assert_eq!(done.json()["orphans"], json!([{ "user": USER, "batches": 1, "points": 70 }]));
    let done = call(&url, &["run", "expiry", "--at", "2026-02-01T00:00:00Z"]).expect(3);
    let says = format!(
        "1 user has due batches but no account: these batches were left as they are.\n  {USER}  70 points (1 batch)\n"
    );
    assert!(done.stdout.contains(&says), "{done:#?}");
    let batches = call(&url, &["export", "batches", "--json"]).expect(0).json();
    assert_eq!(batches["remaining"], 70, "it was left as it is");
}

#[test]
fn exports_hold_every_field() {
    let (_database, url) = database();
    let at = ["--at", "2026-01-01T00:00:00Z"];
    call(&url, &[&["recharge", USER, "7", "--source", "gift", "--key", "a"], &at[..]].concat()).expect(0);
    let consume = ["consume", USER, "9", "--source-type", "tts", "--source-id", "x,\"y\"", "--seconds", "1.50"];
    call(&url, &[&consume[..], &["--description", "two\nlines"], &at].concat()).expect(0);
    call(&url, &["recharge", NOBODY, "1", "--source", "gift", "--key", "a", "--at", "2026-01-01T00:00:00.000001Z"])
        .expect(0);
    let export =
        |arguments: &str| call(&url, &["export"].into_iter().chain(arguments.split(' ')).collect::<Vec<_>>()).expect(0);
    assert_eq!(
        export("accounts --json").jsons()[0],
        json!({
            "user": USER, "balance": -2, "arrears": 2, "held": 0, "total_recharged": 7, "total_consumed": 9,
            "total_expired": 0, "total_refunded": 0, "total_voided": 0, "total_adjusted": 0, "total_opening": 0, "last_seq": 2,
        })
    );
    assert_eq!(
        export("batches --json").jsons()[1],
        json!({
            "user": NOBODY, "batch": 1, "amount": 1, "remaining": 1, "expired": 0, "source": "gift",
            "opened_at": "2026-01-01T00:00:00.000001Z", "expires_at": "2026-06-30T00:00:00.000001Z",
        })
    );
    // A plain day begins when the business's day does.
    assert_eq!(export("entries --json --effective-from 2026-01-01 --effective-before 2026-01-02").jsons().len(), 3);
    let nothing = export("entries --json --effective-from 2026-01-02 --effective-before 2026-01-03");
    assert_eq!((&nothing.stdout[..], &nothing.stderr[..]), ("", "pointsd: no rows\n"));
    let stranger = call(&url, &["statement", "99999999-9999-4999-8999-999999999999"]).expect(0);
    assert!(stranger.stderr.contains("has no entries at all"), "{}", stranger.stderr);
    assert_eq!(call(&url, &["statement", USER]).expect(0).stderr, "");
    let mut entry = export("entries --json").jsons().remove(1);
    let recorded_at = entry.as_object_mut().unwrap().remove("recorded_at").unwrap();
    assert!(recorded_at.as_str().unwrap().ends_with('Z'), "{recorded_at}");
    assert_eq!(
        entry,
        json!({
            "user": USER, "seq": 2, "type": "consume", "amount": 9, "signed": -9, "balance_before": 7, "balance_after": -2,
            "source_type": "tts", "source_id": "x,\"y\"", "batch": null, "allocations": [{"batch": 1, "points": 7}],
            "at": "2026-01-01T00:00:00Z", "duration": 1.5, "description": "two\nlines", "refers_to": null,
            "drawing_rule": 1,
        })
    );
    assert_eq!(
        export("accounts --csv").stdout,
        format!(
            "\u{feff}user,balance,arrears,held,total_recharged,total_consumed,total_expired,total_refunded,total_voided,\
             total_adjusted,total_opening,last_seq\r\n{USER},-2,2,0,7,9,0,0,0,0,0,2\r\n{NOBODY},1,0,0,1,0,0,0,0,0,0,1\r\n"
        )
    );
    let entries = export("entries --csv").stdout;
    let row =
        format!("\n{USER},2,consume,9,-9,7,-2,tts,\"x,\"\"y\"\"\",,1:7,2026-01-01T00:00:00Z,1.5,\"two\nlines\",,20");
    assert!(entries.contains(&row), "{entries}");
    let of_one = export(&format!("entries --json --user {NOBODY}")).jsons();
    assert_eq!((of_one.len(), &of_one[0]["user"]), (1, &json!(NOBODY)));
}

#[test]
fn a_wrong_call_ends_with_2_and_says_why() {
    let folder = Folder::new();
    let lines = folder.file("lines.ndjson", "");
    let directory = folder.path().to_str().unwrap();
    let missing = format!("{directory}/missing");
    for (arguments, says) in [
        (&["consume", USER, "--source-type", "nope", "--source-id", "t"][..], "the price list has no service \"nope\""),
        (&["consume", USER, "--source-type", "tts", "--source-id", "t"], "give the seconds that it took"),
        (&["price", "cost", "nope"], "the price list has no service \"nope\"; it knows preview, script, tts, video"),
        (&["price", "cost", "tts"], "tts is charged by time: give the seconds that it took"),
        (&["price", "cost", "tts", "--seconds", "-1"], "-1"),
        (&["price", "cost", "tts", "--seconds", "NaN"], "\"NaN\" is no number of seconds"),
        (&["price", "estimate", "tts"], "tts"),
        (&["price", "estimate", "video", "--chars", "7"], "video"),
        (&["balance", "nonsense"], "'nonsense' for '<USER>': `nonsense` is no UUID, such as"),
        (&["recharge", USER, "5"], "--source"),
        (&["refund", USER], "--source-type"),
        (&["refund", USER, "--source-type", "tts"], "--source-id"),
        (&["refund", USER, "--source-type", "tts", "--source-id", "t", "--of", "k"], "--of"),
        (&["void", USER, "--source", "gift"], "--order-id"),
        (&["void", USER, "--of", "k", "--beyond", "all"], "[possible values: used, remaining]"),
        (&["hold", USER, "5", "--source-type", "tts", "--source-id", "t"], "--until"),
        (&["release", USER], "--of"),
        (&["balance", USER, "--as-of", "2026-01-01T00:00:00Z", "--effective-at", "2026-01-01T00:00:00Z"], "--as-of"),
        (&["export", "batches", "--as-of", "2026-01-01T00:00:00Z"], "are for accounts"),
        (&["recharge", USER, "5.5", "--source", "gift"], "5.5"),
        (
            &["recharge", USER, "5", "--source", "gift", "--at", "yesterday"],
            "`yesterday` is not a time; write RFC 3339",
        ),
        (&["export", "secrets"], "secrets"),
        (&["export", "accounts", "--csv", "--json"], "--csv"),
        (&["run", "nothing"], "nothing"),
        (&["post", directory], "is a folder; name a file"),
        (&["post", &missing], "cannot be read"),
        (&["post", "--csv", &lines], "the CSV header: the input is empty"),
        (&["bogus"], "bogus"),
        (&[], "Usage: pointsd"),
    ] {
        // Each error comes before a connection to the database, except errors in the lines of a file.
        let (database, url) = if arguments.contains(&lines.as_str()) {
            let (database, url) = database();
            (Some(database), url)
        } else {
            (None, "postgres://nobody@127.0.0.1:1/nothing".to_owned())
        };
        let done = call(&url, arguments).expect(2);
        assert!(done.stderr.contains(says), "{arguments:?} should say {says:?}: {}", done.stderr);
        assert_eq!(done.stdout, "", "{arguments:?}");
        drop(database);
    }
}

#[test]
fn a_database_that_is_not_there_ends_with_1_and_says_where() {
    let closed = ClosedPort::new();
    let port = closed.number();
    let url = format!("postgres://somebody:hunter2@127.0.0.1:{port}/points");
    for arguments in [
        &["balance", USER][..],
        &["check", USER, "1"],
        &["recharge", USER, "1", "--source", "gift"],
        &["consume", USER, "1", "--source-type", "tts", "--source-id", "t"],
        &["run", "expiry"],
        &["export", "accounts"],
        &["db", "status"],
        &["db", "migrate"],
        &["post", "-"],
        &["jobs"],
        &["runs"],
    ] {
        let done = call(&url, arguments).expect(1);
        let says = format!("pointsd: cannot connect to PostgreSQL at 127.0.0.1:{port}/points: see whether PostgreSQL");
        assert!(done.stderr.contains(&says), "{arguments:?}: {}", done.stderr);
        assert!(done.stderr.contains("refused"), "{arguments:?}: {}", done.stderr);
        assert!(!done.stderr.contains("hunter2"), "{arguments:?}: {}", done.stderr);
        assert_eq!(done.stdout, "", "{arguments:?}");
    }
}

#[test]
fn what_the_database_refuses_is_told_in_its_words_with_its_hint() {
    let (_database, url) = database();
    let arguments = ["db", "distribute", "--buckets", "64"];
    let done = call(&url, &arguments).expect(1);
    let says = "pointsd: the ledger was not spread
  because: ERROR: the database has no extension citus
  next: Install it on every server of the cluster, create it in this database on each, and add the workers with citus_add_node.
";
    assert_eq!(done.stderr, says);
    let done = call(&url, &[&arguments[..], &["--json"]].concat()).expect(1);
    let told: Value = serde_json::from_str(&done.stderr).unwrap();
    assert_eq!(told["error"], "the ledger was not spread");
    assert_eq!(told["causes"], json!(["ERROR: the database has no extension citus"]));
    assert!(told["next"].as_str().unwrap().starts_with("Install it"), "{told}");
}

#[test]
fn a_reader_that_leaves_early_is_no_reason_to_panic() {
    let (_database, url) = database();
    let line = |nth: usize| {
        format!(
            "{{\"op\":\"consume\",\"user\":\"{USER}\",\"points\":1,\"source_type\":\"tts\",\"source_id\":\"{nth}\"}}\n"
        )
    };
    // More than a pipe holds.
    let lines: String = (0..5_000).map(line).collect();
    let folder = Folder::new();
    let file = folder.file("lines.ndjson", &lines);
    for arguments in [&["post", &file, "--json"][..], &["post", "-", "--json"], &["export", "entries", "--json"]] {
        let mut command = on(&url, arguments);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let lines = lines.clone();
        let feeder = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, lines.as_bytes()).ok());
        // Like `head -1`.
        let mut first = String::new();
        let mut stdout = std::io::BufReader::with_capacity(1, child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut stdout, &mut first).unwrap();
        assert!(first.starts_with('{') && first.ends_with("}\n"), "{first}");
        drop(stdout);
        let status = eventually("pointsd to end", || child.try_wait().unwrap());
        feeder.join().unwrap();
        let mut stderr = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut stderr).unwrap();
        assert_eq!(status.code(), Some(1), "{arguments:?}: {stderr}");
        assert_eq!(stderr, "", "{arguments:?}");
    }
    // Nothing is missing: the first reader left early, and all lines were posted.
    assert_eq!(call(&url, &["balance", USER, "--json"]).expect(0).json()["total_consumed"], 5_000);
}

#[test]
fn a_daemon_outlives_the_reader_of_its_log() {
    let (_database, url) = database();
    let mut command = on(&url, &["serve"]);
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut stderr = std::io::BufReader::with_capacity(1, child.stderr.take().unwrap());
    std::io::BufRead::read_line(&mut stderr, &mut String::new()).unwrap();
    drop(stderr);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let status = eventually("the daemon to end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

/// An application names the services. A spreadsheet that opens a list must not run such a name as a formula, and a terminal
/// must not obey it.
#[test]
fn lists_have_no_formulas_and_no_control_characters() {
    let (_database, url) = database();
    let (formula, escape) = ("=HYPERLINK(\"x\")", "\u{1b}[2J\u{9b}2J\u{202e}");
    let consume = |service: &str, task: &str, description: &str| {
        let fields = json!({
            "op": "consume", "user": USER, "points": 5, "source_type": service, "source_id": task,
            "description": description,
        });
        feed(on(&url, &["post", "-"]), format!("{fields}\n")).expect(0);
    };
    consume(formula, "-t\n1", "@x");
    let records = |args: &[&str]| {
        let done = call(&url, args).expect(0);
        let lines = done.stdout.strip_prefix('\u{feff}').expect("a byte order mark").to_owned();
        let mut csv = csv::Reader::from_reader(lines.as_bytes());
        csv.records().map(Result::unwrap).collect::<Vec<_>>()
    };
    assert_eq!(records(&["arrears", "--csv"])[0][4], format!("'{formula}"));
    let entry = &records(&["export", "entries", "--csv"])[0];
    assert_eq!((&entry[5], &entry[7], &entry[8], &entry[13]), ("0", "'=HYPERLINK(\"x\")", "'-t\n1", "'@x"));
    assert_eq!((&entry[4], &entry[6]), ("-5", "-5"), "a number stays one");
    // What was read there names the same entry in a file of postings.
    let refund = format!("op,user,source_type,source_id\nrefund,{USER},\"'=HYPERLINK(\"\"x\"\")\",\"'-t\n1\"\n");
    let refunded = feed(on(&url, &["post", "-", "--csv", "--json"]), refund).expect(0).json();
    assert_eq!((&refunded["status"], &refunded["refers_to"]), (&json!("posted"), &json!(1)));

    consume(escape, escape, escape);
    let task = format!("{escape}2");
    let hold = ["hold", USER, "1", "--source-type", escape, "--source-id", &task, "--until", "2099-01-01T00:00:00Z"];
    call(&url, &["recharge", USER, "9", "--source", "gift", "--description", escape]).expect(0);
    call(&url, &hold).expect(0);
    let enqueued = json!({"op": "consume", "user": USER, "points": 1, "source_type": escape, "source_id": escape});
    feed(on(&url, &["enqueue", "-"]), format!("{enqueued}\n")).expect(0);
    for (args, status) in [
        (&hold[..], 0),
        (&["holds", USER], 0),
        (&["export", "entries"], 0),
        (&["export", "entries", "--csv"], 0),
        (&["export", "entries", "--json"], 0),
        (&["arrears", "--csv"], 0),
        (&["requests"], 0),
        (&["requests", "--json"], 0),
        (&["refund", USER, "--source-type", escape, "--source-id", escape], 0),
        (&["refund", USER, "--of", escape], 3),
        (&["recharge", USER, "1", "--source", escape, "--key", escape], 3),
        (&["price", "cost", escape], 2),
    ] {
        let done = call(&url, args).expect(status);
        let printed = format!("{}{}", done.stdout, done.stderr);
        let ours = |c: char| matches!(c, '\n' | '\r' | '\t' | '\u{feff}');
        let bad = printed.chars().find(|c| c.is_control() && !ours(*c) || *c == '\u{202e}');
        assert_eq!(bad, None, "{args:?}: {printed:?}");
    }
    for format in [&["post", "-"][..], &["post", "-", "--json"], &["post", "-", "--csv"]] {
        let done = feed(on(&url, format), format!("op,user\n{{\"{escape}\":1}}\n{escape},{USER}\n"));
        let printed = format!("{}{}", done.stdout, done.stderr);
        assert!(printed.contains("malformed"), "{printed}");
        assert!(!printed.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{printed:?}");
    }
    // For programs nothing is lost.
    let entry = call(&url, &["export", "entries", "--json"]).expect(0).jsons().remove(2);
    assert_eq!(entry["source_id"], escape);
}

/// A mistyped name of a database must not look like a ledger without accounts.
#[test]
fn an_empty_database_gets_its_tables_with_a_word() {
    let (database, url) = database();
    wait(async { database.client().await.batch_execute("DROP SCHEMA pointsd CASCADE").await.unwrap() });
    let balance = || call(&url, &["balance", USER]).expect(0).stderr;
    let told = balance();
    assert!(told.contains("had no ledger: its tables were made"), "{told}");
    assert_eq!(balance(), "");
}
