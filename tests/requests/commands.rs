//! `enqueue` and `requests`, called as their users call them.

use serde_json::{Value, json};

use super::{SETTINGS, Server, TestDatabase, all_done, number, user};
use crate::program::{call, feed, on, wait};

fn lines() -> String {
    let (user, other) = (user(1), user(2));
    format!(
        "{{\"op\":\"recharge\",\"user\":\"{user}\",\"points\":10,\"source\":\"gift\",\"order_id\":1,\"description\":\"hello\"}}\n\
         {{\"op\":\"consume\",\"user\":\"{user}\",\"points\":4,\"source_type\":\"tts\",\"source_id\":\"a\",\"duration\":1.50}}\n\
         {{\"op\":\"consume\",\"user\":\"{user}\",\"points\":\"many\"}}\n\
         \n\
         {{\"op\":\"recharge\",\"user\":\"{other}\",\"points\":5,\"source\":\"nowhere\",\"order_id\":1,\"at\":\"2026-01-01T00:00:00Z\"}}\n"
    )
}

/// Has the queue worked off.
fn serve(database: &TestDatabase) {
    wait(async {
        let client = database.client().await;
        let server = Server::start(database, SETTINGS).await;
        all_done(&client).await;
        server.stop().await;
    });
}

#[test]
fn a_file_is_queued_shown_and_put_back() {
    let database = wait(TestDatabase::new());
    let url = database.url();
    let done = feed(on(&url, &["enqueue", "-", "--json"]), lines()).expect(3);
    let answers = done.jsons();
    assert_eq!(answers[0], json!({ "line": 1, "status": "enqueued", "id": 1 }));
    assert_eq!(answers[1], json!({ "line": 2, "status": "enqueued", "id": 2 }));
    assert_eq!((&answers[2]["line"], &answers[2]["code"]), (&json!(3), &json!("malformed")));
    assert_eq!(answers[3], json!({ "line": 5, "status": "enqueued", "id": 3 }));
    assert_eq!(answers.len(), 4);

    let shown = call(&url, &["requests", "--json"]).expect(0).json();
    assert_eq!(shown["counts"], json!({ "pending": 3, "waiting": 0, "refused": 0, "parked": 0 }));
    serve(&database);

    let done = call(&url, &["requests", "--json"]).expect(0);
    let shown = done.json();
    let rows: Vec<&Value> = shown["requests"].as_array().unwrap().iter().collect();
    assert_eq!(rows.iter().map(|row| row["id"].clone()).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!(rows[0]["state"], "refused");
    assert_eq!(rows[0]["code"], "unknown_source");
    assert_eq!(rows[0]["at"], "2026-01-01T00:00:00Z");
    assert_eq!((&rows[1]["state"], &rows[1]["seq"]), (&json!("posted"), &json!(2)));
    // By its own digits.
    assert!(done.stdout.contains("\"duration\":1.50,"), "{done:?}");
    assert_eq!((&rows[2]["seq"], &rows[2]["description"]), (&json!(1), &json!("hello")));
    let refused = call(&url, &["requests", "--state", "refused", "--json"]).expect(0).json();
    assert_eq!(refused["requests"].as_array().unwrap().len(), 1);
    let one = call(&url, &["requests", "--limit", "1", "--json"]).expect(0).json();
    assert_eq!(one["requests"][0]["id"], 3);
    let table = call(&url, &["requests"]).expect(0).stdout;
    for text in ["refused  1", "unknown_source: `nowhere` is not", "gift 1", "tts a", "entry 2"] {
        assert!(table.contains(text), "`{text}` is missing:\n{table}");
    }

    // The refused request is put back, and refused again. A posted request stays as it is.
    let answers = call(&url, &["requests", "retry", "3", "1", "99", "--json"]).expect(3).jsons();
    assert_eq!(answers[0], json!({ "id": 3, "was": "refused", "status": "pending", "message": null }));
    assert_eq!((&answers[1]["was"], &answers[1]["status"]), (&json!("posted"), &json!("rejected")));
    assert_eq!((&answers[2]["was"], &answers[2]["status"]), (&json!(null), &json!("rejected")));
    let said = call(&url, &["requests", "retry", "3"]).expect(3).stdout;
    assert_eq!(said, "Request 3 was left as it is: it is pending already.\n");
    serve(&database);
    assert_eq!(call(&url, &["requests", "--json"]).expect(0).json()["counts"]["refused"], 1);
    assert_eq!(
        call(&url, &["requests", "retry", "3"]).expect(0).stdout,
        "Request 3 is pending again; it was refused.\n"
    );

    // All that a filter names, or nothing.
    serve(&database);
    let all = |more: &[&str]| call(&url, &[&["requests", "retry", "--all"], more].concat());
    for (filter, value) in [("--state", "parked"), ("--code", "insufficient"), ("--user", &user(1).to_string())] {
        assert!(all(&[filter, value]).expect(3).stdout.contains("No request was put back"), "{filter} {value}");
    }
    let filters = ["--state", "refused", "--code", "unknown_source", "--user", &user(2).to_string(), "--json"];
    assert_eq!(all(&filters).expect(0).json(), json!({ "pending": 1, "first": 3, "last": 3 }));
    assert!(all(&["--state", "posted"]).expect(2).stderr.contains("only parked, refused and waiting"));
    assert!(all(&["3"]).expect(2).stderr.contains("cannot be used with"));
    // Refused requests are kept as long as parked ones.
    serve(&database);
    let prune = "UPDATE pointsd.requests_done SET finished_at = finished_at - interval '10 years'";
    wait(async { database.client().await.batch_execute(prune).await.unwrap() });
    call(&url, &["run", "prune"]).expect(0);
    let left = call(&url, &["requests", "--json"]).expect(0).json();
    assert_eq!(left["requests"].as_array().unwrap().iter().map(|row| row["id"].clone()).collect::<Vec<_>>(), [3]);
}

#[test]
fn csv_and_words() {
    let database = wait(TestDatabase::new());
    let url = database.url();
    let csv = format!("op,user,points,source_type,source_id\nconsume,{0},4,tts,a\nconsume,{0},x,tts,b\n", user(1));
    let done = feed(on(&url, &["enqueue", "-", "--csv"]), &csv).expect(3);
    assert!(
        done.stdout.starts_with("line 3: rejected (malformed): points: `x` is not a whole number\n2 lines in "),
        "{done:?}"
    );
    assert!(done.stdout.contains("enqueued"), "{done:?}");
    // Again: it replays.
    feed(on(&url, &["enqueue", "-", "--csv"]), &csv).expect(3);
    serve(&database);
    let shown = call(&url, &["requests", "--json"]).expect(0).json();
    assert_eq!(shown["counts"], json!({ "pending": 0, "waiting": 0, "refused": 0, "parked": 0 }));
    let states: Vec<_> = shown["requests"].as_array().unwrap().iter().map(|request| &request["state"]).collect();
    assert_eq!(states, ["replayed", "posted"]);
    let wrong = feed(on(&url, &["enqueue", "-", "--csv"]), "op,wrong\n").expect(2);
    assert!(wrong.stderr.contains("`wrong` is no column"), "{wrong:?}");
    call(&url, &["enqueue", "/nowhere/at/all"]).expect(2);
    call(&url, &["requests", "retry"]).expect(2);
    call(&url, &["requests", "--state", "gone"]).expect(2);
}

/// More lines than any chunk has.
#[test]
fn a_long_file_keeps_its_order() {
    let database = wait(TestDatabase::new());
    let url = database.url();
    let line = |nth: u32| {
        format!(
            "{{\"op\":\"consume\",\"user\":\"{}\",\"points\":1,\"source_type\":\"tts\",\"source_id\":\"{nth}\"}}\n",
            user(nth % 100)
        )
    };
    let input: String = (0..20_000).map(line).collect();
    let done = feed(on(&url, &["enqueue", "-", "--json"]), &input).expect(0);
    let ids: Vec<i64> = done.jsons().iter().map(|answer| answer["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, (1..=20_000).collect::<Vec<i64>>(), "in the order of the lines");
    let kept = "SELECT count(*) FROM pointsd.requests WHERE source_id = (id - 1)::text";
    assert_eq!(wait(async { number(&database.client().await, kept).await }), 20_000);
}

#[test]
fn holds_and_refunds_are_shown_with_their_outcomes() {
    let database = wait(TestDatabase::new());
    let (url, user) = (database.url(), user(1));
    let csv = format!(
        "op,user,points,source,source_type,source_id,of,key,until\n\
         recharge,{user},100,gift,,,,a,\n\
         hold,{user},60,,tts,t1,,,2100-01-01T00:00:00Z\n\
         hold,{user},60,,tts,t2,,,2100-01-01T00:00:00Z\n\
         consume,{user},70,,tts,t1,,,\n\
         refund,{user},,,tts,t1,,,\n\
         void,{user},,,,,a,,\n\
         release,{user},,,,,h,,\n"
    );
    feed(on(&url, &["enqueue", "-", "--csv"]), csv).expect(0);
    serve(&database);
    let shown = call(&url, &["requests"]).expect(0).stdout;
    let rows: Vec<String> = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for (id, state, rest) in [
        (1, "posted", format!("{user} recharge 100 gift entry 1")),
        (2, "held", format!("{user} hold 60 tts t1")),
        (3, "refused", format!("{user} hold 60 tts t2 insufficient: 60 points cannot be held: 40 are available, th…")),
        (4, "posted", format!("{user} consume 70 tts t1 entry 2")),
        (5, "posted", format!("{user} refund tts t1 entry 3")),
        (6, "posted", format!("{user} void a entry 4")),
        (7, "refused", format!("{user} release h unknown_hold: the account has no such hold")),
    ] {
        let found = rows.iter().any(|row| row.starts_with(&format!("{id} {state} ")) && row.ends_with(&rest));
        assert!(found, "request {id} {state}, {rest}:\n{shown}");
    }
    let json = call(&url, &["requests", "--state", "held", "--json"]).expect(0).json();
    let request = &json["requests"][0];
    assert_eq!((&request["op"], &request["until"]), (&json!("hold"), &json!("2100-01-01T00:00:00Z")), "{request}");
    assert_eq!(request.get("seq"), None);
}
