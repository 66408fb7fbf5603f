//! `import`: what accounts have elsewhere, from a spreadsheet.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::database;
use crate::program::{Folder, Running, call, on, post};

const ONE: &str = "11111111-1111-4111-8111-111111111111";
const TWO: &str = "22222222-2222-4222-8222-222222222222";
const THREE: &str = "33333333-3333-4333-8333-333333333333";

/// As Excel saves it: semicolons, CRLF and a byte order mark. Lines 5 to 12 are wrong.
fn spreadsheet() -> String {
    let lines = [
        "User;Points;Source;ID;Opened_at;Expires_at;Paid;Currency;Description".to_owned(),
        format!("{ONE};300;wxpay;7;2026-01-05T00:00:00Z;2999-01-01T00:00:00Z;1999;CNY;Müller"),
        format!("{ONE};50;gift;8;2026-01-06T00:00:00Z;2999-01-01T00:00:00Z;;;"),
        format!("{TWO};-70;;;2026-02-01T00:00:00Z;;;;"),
        format!("{TWO};5;gift;9;2026-01-06T00:00:00Z;2999-01-01T00:00:00Z;;;"),
        format!("{TWO};-1;;;2026-02-02T00:00:00Z;;;;"),
        format!("{ONE};-1;;;2026-02-02T00:00:00Z;;;;"),
        format!("{THREE};10;gift;1;2026-01-06T00:00:00Z;2026-02-06T00:00:00Z;;;"),
        format!("{THREE};10;gift;;2026-01-06T00:00:00Z;;;;"),
        format!("{THREE};-10;gift;;2026-01-06T00:00:00Z;;;;"),
        format!("{ONE};50;gift;8;2026-01-06T00:00:00Z;2999-01-01T00:00:00Z;;;"),
        format!("{TWO};-70;;;2026-02-01T00:00:00Z;;;;"),
    ];
    format!("\u{feff}{}\r\n", lines.join("\r\n"))
}

const OUTCOMES: [&str; 11] = [
    "replayed",
    "replayed",
    "posted",
    "already_open: the account opened with a debt of 70 points: points beside it would pay it; bring only the difference along",
    "already_open: the account opened with another debt, of 70 points since 2026-02-01T00:00:00Z: bring one along that is the sum of both",
    "already_open: the account opened with 350 points: a debt beside them would be paid by them; bring only the difference along",
    "already_expired: the points expired at 2026-02-06T00:00:00Z: expired points are not brought along; leave the line out",
    "malformed: id is missing: give each batch of the account one of its own, or importing the file again would bring its \
     points twice",
    "malformed: source does not belong to a debt, which is points below zero: leave it empty",
    "malformed: line 3 is the same: give each batch of an account an id of its own and each account one debt, or leave the line out",
    "malformed: line 4 is the same: give each batch of an account an id of its own and each account one debt, or leave the line out",
];

fn outcome(reply: &Value) -> String {
    match reply["status"].as_str().unwrap() {
        "rejected" => format!("{}: {}", reply["code"].as_str().unwrap(), reply["message"].as_str().unwrap()),
        status => status.to_owned(),
    }
}

#[test]
fn a_spreadsheet_is_imported_again_after_it_was_interrupted() {
    let (_database, url) = database();
    let (folder, text) = (Folder::new(), spreadsheet());
    let file = folder.file("old.csv", &text);

    let mut first = Running::start(on(&url, &["import", "-", "--csv", "--json"]));
    let begin: String = text.split_inclusive('\n').take(3).collect();
    first.write(&begin);
    for _ in 0..2 {
        let reply: Value = serde_json::from_str(&first.next_line().unwrap()).unwrap();
        assert_eq!((&reply["status"], &reply["type"]), (&"posted".into(), &"opening".into()));
    }
    // The input stays open: its end would be a whole file's.
    let stdin = first.stdin.take();
    first.signal(Signal::SIGINT);
    let broken = first.finish().expect(1);
    drop(stdin);
    let points = [
        json!({"source": "gift", "lines": 1, "points": 50, "paid": null, "currency": null}),
        json!({"source": "wxpay", "lines": 1, "points": 300, "paid": 1999, "currency": "CNY"}),
    ];
    let totals = |finished: bool, accounts: u64, debts: [i64; 2]| json!({"finished": finished, "accounts": accounts, "points": points, "debts": {"lines": debts[0], "points": debts[1]}});
    let last = |stderr: &str| serde_json::from_str::<Value>(stderr.lines().last().unwrap()).unwrap();
    assert_eq!(last(&broken.stderr), totals(false, 1, [0, 0]));

    let whole = call(&url, &["import", &file, "--json"]).expect(3);
    assert_eq!(last(&whole.stderr), totals(true, 2, [1, 70]));
    let replies = whole.jsons();
    assert_eq!(replies.iter().map(outcome).collect::<Vec<_>>(), OUTCOMES);
    assert_eq!(
        (&replies[0]["batch"], &replies[0]["paid"], &replies[0]["description"], &replies[0]["at"]),
        (&1.into(), &1999.into(), &"Müller".into(), &"2026-01-05T00:00:00Z".into())
    );
    assert_eq!((&replies[2]["batch"], &replies[2]["balance_after"]), (&Value::Null, &(-70).into()));

    let balance = |user: &str| call(&url, &["balance", user, "--json"]).expect(0).json();
    assert_eq!((&balance(ONE)["available"], &balance(ONE)["total_opening"]), (&350.into(), &350.into()));
    assert_eq!((&balance(TWO)["arrears"], &balance(TWO)["total_opening"]), (&70.into(), &(-70).into()));
    let owing = call(&url, &["arrears", "--json"]).expect(0).json();
    assert_eq!((&owing["user"], &owing["since"]), (&TWO.into(), &"2026-02-01T00:00:00Z".into()));

    // Used, the accounts take the same file, and nothing new.
    call(&url, &["consume", ONE, "320", "--source-type", "tts", "--source-id", "t1"]).expect(0);
    call(&url, &["recharge", TWO, "100", "--source", "card", "--key", "r1"]).expect(0);
    let void = call(&url, &["void", ONE, "--of", "opening:7", "--json"]).expect(3).json();
    assert_eq!(void["code"], "unknown_entry");
    let new =
        folder.file("new.ndjson", json!({"user": ONE, "points": 1, "source": "gift", "id": "10"}).to_string() + "\n");
    let refused = call(&url, &["import", &new, "--json"]).expect(3).json();
    assert_eq!(
        outcome(&refused),
        "already_open: the account is in use, with 3 entries: an opening comes before all others; recharge it or consume from it instead"
    );
    let line = json!({"op": "opening", "user": THREE, "points": 1, "source": "gift", "key": "1"}).to_string();
    assert!(outcome(&post(&url, line + "\n").expect(3).json()).starts_with("malformed: op: unknown variant `opening`"));

    let again = call(&url, &["import", &file]).expect(3).stdout;
    let totals = again.split_once("The file brings in ").unwrap().1;
    let totals: Vec<String> =
        totals.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let shown = [
        "2 accounts.",
        "brought in lines points not yet released",
        "points from gift 1 50",
        "points from wxpay 1 300 19.99 CNY",
        "debts 1 70",
        "Next: pointsd run reconciliation --full proves them.",
    ];
    assert_eq!(totals.iter().filter(|line| !line.starts_with('─')).collect::<Vec<_>>(), shown);
    assert_eq!(balance(ONE)["balance"], 30);
    let proof = call(&url, &["run", "reconciliation", "--full", "--json"]).expect(0).json();
    assert_eq!(proof["findings"], 0, "{proof}");
}
