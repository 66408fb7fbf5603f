//! What the API reads, and what operators order by it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Answer, Site, agent, answer};
use crate::program::{PATIENCE, call, eventually, post, run, until_found, wait};
use crate::support::user;

/// Five entries of one account: two recharges, two consumes, and an expiry between them.
fn fill(site: &Site) {
    let lines = [
        json!({ "op": "recharge", "points": 100, "source": "gift", "key": "a", "at": "2025-10-01T00:00:00Z", "expires_at": "2025-10-12T00:00:00Z" }),
        json!({ "op": "recharge", "points": 50, "source": "card", "key": "b", "at": "2025-10-02T00:00:00Z", "expires_at": "2099-01-01T00:00:00Z" }),
        json!({ "op": "consume", "points": 30, "source_type": "tts", "source_id": "t1", "duration": 12.5, "at": "2025-10-10T00:00:00Z" }),
        json!({ "op": "consume", "points": 5, "source_type": "tts", "source_id": "t2", "at": "2025-11-02T00:00:00Z" }),
        json!({ "op": "hold", "points": 7, "source_type": "tts", "source_id": "t3", "until": "2099-01-01T00:00:00Z" }),
    ];
    let lines = lines.map(|mut line| {
        line["user"] = json!(user(1));
        line.to_string()
    });
    post(&site.url, lines.join("\n")).expect(0);
}

fn get(site: &Site, path: &str) -> Value {
    let found = site.get(path);
    assert_eq!(found.status, 200, "{path}: {found:?}");
    found.json()
}

fn order(site: &Site, path: &str, body: &str) -> Answer {
    site.post_to(path, &[("content-type", "application/json")], body)
}

/// The orders that were written down, each by the token `test`: action, subject and outcome.
fn written_down(site: &Site) -> Vec<[String; 3]> {
    let sql = "SELECT by, action, subject, outcome FROM pointsd.audit ORDER BY id";
    let rows = wait(async { site.database.client().await.query(sql, &[]).await.unwrap() });
    assert!(rows.iter().all(|row| row.get::<_, &str>(0) == "test"), "{rows:?}");
    rows.iter().map(|row| [row.get(1), row.get(2), row.get(3)]).collect()
}

fn numbers(page: &Value, name: &str) -> Vec<i64> {
    page["items"].as_array().unwrap().iter().map(|item| item[name].as_i64().unwrap()).collect()
}

#[test]
fn an_account_is_read_as_by_the_command_line() {
    let site = Site::start();
    fill(&site);
    let account = format!("/v1/accounts/{}", user(1));
    let name = user(1).to_string();
    let by_command = |arguments: &[&str]| call(&site.url, &[arguments, &["--json"]].concat()).expect(0).jsons();

    let mut balance = get(&site, &format!("{account}/balance"));
    let next = json!([{ "at": "2099-01-01T00:00:00Z", "points": 45 }]);
    assert_eq!(balance.as_object_mut().unwrap().remove("next_expiries"), Some(next));
    let mut expected = by_command(&["balance", &name]).remove(0);
    expected.as_object_mut().unwrap().remove("next_expiry");
    assert_eq!(balance, expected);
    for clock in ["effective_at", "as_of"] {
        let at = "2025-10-05T00:00:00Z";
        let option = format!("--{}", clock.replace('_', "-"));
        let found = get(&site, &format!("{account}/balance?{clock}={at}"));
        assert_eq!(vec![found], by_command(&["balance", &name, &option, at]));
    }
    assert_eq!(vec![get(&site, &format!("{account}/check?points=38"))], by_command(&["check", &name, "38"]));
    assert_eq!(get(&site, &format!("{account}/check?points=39"))["sufficient"], false);
    assert_eq!(get(&site, &format!("{account}/holds"))["items"], json!(by_command(&["holds", &name])));
    // Holds that end at the same time are on pages, too.
    let hold = |id: i32| json!({ "op": "hold", "user": user(1), "points": 1, "source_type": "tts", "source_id": id.to_string(), "until": "2098-01-01T00:00:00Z" });
    post(&site.url, (1..=4).map(|id| hold(id).to_string()).collect::<Vec<_>>().join("\n")).expect(0);
    let (mut path, mut listed) = (format!("{account}/holds?limit=2"), Vec::new());
    loop {
        let page = get(&site, &path);
        listed.extend(
            page["items"].as_array().unwrap().iter().map(|hold| hold["source_id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else { break };
        path = format!("{account}/holds?limit=2&cursor={next}");
    }
    assert_eq!((listed.len(), listed.last().unwrap().as_str()), (5, "t3"));
    listed.sort();
    assert_eq!(listed, ["1", "2", "3", "4", "t3"]);
    assert_eq!(get(&site, &format!("{account}/batches"))["items"], json!(by_command(&["batches", &name])));
    let all = get(&site, &format!("{account}/batches?all=true"));
    assert_eq!(all["items"], json!(by_command(&["batches", &name, "--all"])));

    let first = get(&site, &format!("{account}/entries?limit=3"));
    assert_eq!((numbers(&first, "seq"), &first["next"]), (vec![5, 4, 3], &json!(3)));
    assert_eq!(first["items"], json!(by_command(&["entries", &name, "--limit", "3"])));
    let rest = get(&site, &format!("{account}/entries?limit=3&cursor=3"));
    assert_eq!((numbers(&rest, "seq"), &rest["next"]), (vec![2, 1], &Value::Null));
    let filtered = "order=oldest&cursor=0&type=consume&source_type=tts&effective_from=2025-10-11T00:00:00Z";
    assert_eq!(numbers(&get(&site, &format!("{account}/entries?{filtered}")), "seq"), [5]);

    // Both end when they are called.
    let mut statement = get(&site, &format!("{account}/statement?from=2025-10-01"));
    let mut expected = by_command(&["statement", &name, "--from", "2025-10-01"]).remove(0);
    let [called, again] = [&mut statement, &mut expected].map(|told| told["before"].take());
    assert!(called.is_string() && again.is_string() && called != again, "{called} {again}");
    assert_eq!(statement["count"], 5);
    assert!(statement["holds"].as_array().unwrap().iter().any(|hold| hold["points"] == 7), "{statement}");
    assert_eq!(statement, expected);
    let form = site.get(&format!("{account}/statement?from=2025-10-01&format=csv&language=zh-CN"));
    assert!(form.body.contains("期初余额") && form.body.lines().count() == 8, "{form:?}");
    assert_eq!(form.with("content-type"), (200, "text/csv; charset=utf-8"));

    // An account that was never opened is empty.
    let empty = format!("/v1/accounts/{}", user(2));
    assert_eq!(get(&site, &format!("{empty}/balance"))["balance"], 0);
    assert_eq!(get(&site, &format!("{empty}/entries")), json!({ "items": [], "next": null }));
}

#[test]
fn a_wrong_parameter_is_named_and_what_is_not_there_is_404() {
    let site = Site::start();
    let account = format!("/v1/accounts/{}", user(1));
    for (path, names) in [
        ("/v1/accounts/7/balance".to_owned(), "7"),
        (format!("{account}/balance?as_of=yesterday"), "as_of"),
        (format!("{account}/balance?as_of=2999-01-01T00:00:00Z"), "as_of"),
        (format!("{account}/balance?as_of=2025-01-01T00:00:00Z&effective_at=2025-01-01T00:00:00Z"), "effective_at"),
        (format!("{account}/balance?at=2025-01-01T00:00:00Z"), "at"),
        (format!("{account}/check"), "points"),
        (format!("{account}/check?points=-1"), "points"),
        (format!("{account}/batches?limit=0"), "limit"),
        (format!("{account}/batches?cursor=x"), "cursor"),
        (format!("{account}/entries?limit=1001"), "limit"),
        (format!("{account}/entries?type=gift"), "type"),
        (format!("{account}/entries?order=up"), "order"),
        (format!("{account}/entries?source_type=%00"), "source_type"),
        (format!("{account}/statement?from=2025-13-01"), "from"),
        (format!("{account}/statement?from=0001-01-01"), "from"),
        (format!("{account}/statement?to=2999-01-01"), "to"),
        (format!("{account}/statement?language=fr"), "language"),
        (format!("{account}/statement?format=pdf"), "format"),
        ("/v1/prices/tts/cost".to_owned(), "seconds"),
        ("/v1/prices/tts/cost?seconds=-1".to_owned(), "seconds"),
        ("/v1/prices/tts/estimate".to_owned(), "chars"),
        ("/v1/requests?state=lost".to_owned(), "state"),
        ("/v1/requests/x".to_owned(), "x"),
        ("/v1/runs?job=lunch".to_owned(), "job"),
        ("/v1/runs?state=asleep".to_owned(), "state"),
        ("/v1/reports?report=weather".to_owned(), "report"),
        ("/v1/reports/1/document?format=pdf".to_owned(), "format"),
    ] {
        let problem = site.get(&path).problem(400, "malformed");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(names) && !detail.contains("deserialize"), "{path}: {problem}");
    }
    for path in [
        "/v1/prices/lunch/cost",
        "/v1/requests/7",
        "/v1/jobs/lunch",
        "/v1/runs/7",
        "/v1/reports/7",
        "/v1/reports/7/document",
    ] {
        site.get(path).problem(404, "not_found");
    }
    for path in ["/v1/requests/7/retry", "/v1/jobs/lunch/pause", "/v1/runs/7/cancel", "/v1/reports/7/resend"] {
        order(&site, path, "").problem(404, "not_found");
    }
    for (path, body, names) in [
        ("/v1/jobs/expiry/run", "{", "body"),
        ("/v1/jobs/expiry/run", r#"{"at":"2999-01-01T00:00:00Z"}"#, "at"),
        ("/v1/jobs/expiry/run", r#"{"full":true}"#, "full"),
        ("/v1/requests/retry", r#"{"state":"posted"}"#, "state"),
        ("/v1/requests/retry", "", "\"all\": true"),
        ("/v1/reports/1/resend", r#"{"to":["nobody"]}"#, "to"),
    ] {
        let problem = order(&site, path, body).problem(400, "malformed");
        assert!(problem["detail"].as_str().unwrap().contains(names), "{path}: {problem}");
    }
}

#[test]
fn prices_are_numbers() {
    let site = Site::start();
    let prices = get(&site, "/v1/prices");
    let of = |service: &str| {
        let mut items = prices["items"].as_array().unwrap().iter();
        items.find(|price| price["service"] == service).unwrap().clone()
    };
    assert_eq!((&of("script")["kind"], &of("script")["points"]), (&json!("fixed"), &json!(5)));
    let tts = of("tts");
    assert_eq!((&tts["divisor"], &tts["min_points"], &tts["seconds_per_char"]), (&json!(10), &json!(1), &json!(0.3)));
    for (path, arguments) in [
        ("/v1/prices/tts/cost?seconds=12.5", &["price", "cost", "tts", "--seconds", "12.5"][..]),
        ("/v1/prices/tts/estimate?chars=100", &["price", "estimate", "tts", "--chars", "100"][..]),
    ] {
        let expected = call(&site.url, &[arguments, &["--json"]].concat()).expect(0).json();
        assert_eq!(get(&site, path)["points"], expected["points"], "{path}");
    }
}

#[test]
fn a_job_is_paused_resumed_and_run_by_orders_that_are_written_down() {
    let site = Site::start();
    fill(&site);
    let paused = order(&site, "/v1/jobs/expiry/pause", "");
    assert_eq!((paused.status, &paused.json()["paused"]["by"]), (200, &json!("test")));
    let jobs = call(&site.url, &["jobs", "--json"]).expect(0).json();
    assert_eq!(jobs[0]["paused"]["by"], "test");
    assert_eq!(get(&site, "/v1/status")["look"][0], "expiry is paused by test: pointsd jobs resume expiry");
    assert_eq!(order(&site, "/v1/jobs/expiry/resume", "").json()["paused"], Value::Null);

    let begun = order(&site, "/v1/jobs/expiry/run", r#"{"at":"2026-01-01T00:00:00Z"}"#);
    assert_eq!((begun.status, &begun.json()["trigger"]), (202, &json!("manual")), "{begun:?}");
    let run = begun.json()["run"].as_i64().unwrap();
    let ended = eventually("the run ends", || {
        let row = get(&site, &format!("/v1/runs/{run}"));
        (row["state"] != "running").then_some(row)
    });
    assert_eq!(ended["state"], "succeeded", "{ended}");
    order(&site, &format!("/v1/runs/{run}/cancel"), "").problem(409, "over");
    assert_eq!(numbers(&get(&site, "/v1/runs?job=expiry&state=succeeded&limit=1"), "run"), [run]);
    let expected = [
        ["pause", "expiry", "done"],
        ["resume", "expiry", "done"],
        ["run", "expiry", &format!("run {run}")],
        ["cancel", &run.to_string(), &format!("refused: run {run} of expiry is over already: succeeded")],
    ];
    assert_eq!(written_down(&site), expected);
}

#[test]
fn a_report_is_read_in_each_format_and_not_sent_again_without_mail() {
    let site = Site::start();
    fill(&site);
    run(site.command(&["run", "expiry"])).expect(0);
    let reports = get(&site, "/v1/reports?report=expiry");
    let report = numbers(&reports, "document")[0];
    let document = format!("/v1/reports/{report}/document");
    assert_eq!(get(&site, &document)["report"], "expiry");
    let html = site.get(&format!("{document}?format=html"));
    assert!(
        html.body.contains("<html") && html.headers["content-security-policy"].to_str().unwrap().contains("sandbox")
    );
    let call_xlsx = agent().get(format!("http://{}{document}?format=xlsx", site.address));
    let xlsx = call_xlsx.header("authorization", format!("Bearer {}", site.token)).call().unwrap();
    assert!(xlsx.into_body().read_to_vec().unwrap().starts_with(b"PK"));
    order(&site, &format!("/v1/reports/{report}/resend"), "").problem(409, "not_sent");
    let orders = written_down(&site);
    let outcome = &orders[0][2];
    assert_eq!(orders, [["resend", &report.to_string(), outcome]]);
    assert!(outcome.starts_with("refused: no mail is sent, because mail.mode is none"), "{outcome}");
}

#[test]
fn refused_requests_are_tried_again_by_orders_that_are_written_down() {
    let site = Site::start();
    let sql = "INSERT INTO pointsd.requests (op, user_id, points, source, order_id)
               VALUES ('recharge', gen_random_uuid(), 5, 'no_such_source', 1) RETURNING id";
    let id: i64 = wait(async { site.database.client().await.query_one(sql, &[]).await.unwrap().get(0) });
    let refused = || {
        eventually("the request is refused", || {
            let request = get(&site, &format!("/v1/requests/{id}"));
            (request["state"] == "refused").then_some(request)
        })
    };
    assert_eq!(refused()["code"], "unknown_source");
    assert_eq!(numbers(&get(&site, "/v1/requests?state=refused"), "id"), [id]);
    assert_eq!(order(&site, &format!("/v1/requests/{id}/retry"), "").json()["ids"], json!([id]));
    refused();
    let all = order(&site, "/v1/requests/retry", r#"{"state":"refused","code":"unknown_source"}"#);
    assert_eq!(all.json(), json!({ "count": 1, "first": id, "last": id }), "{all:?}");
    refused();
    assert_eq!(order(&site, "/v1/requests/retry", r#"{"all":true}"#).json()["count"], 1);
    let expected = [
        ["retry", &id.to_string(), "done"],
        ["retry", "all, state refused, code unknown_source", "1 request"],
        ["retry", "all", "1 request"],
    ];
    assert_eq!(written_down(&site), expected);
}

#[test]
fn an_order_that_cannot_be_written_down_is_not_carried_out() {
    let site = Site::start();
    let admin = |sql: &str| wait(async { site.database.client().await.batch_execute(sql).await.unwrap() });
    let is_paused = || !get(&site, "/v1/jobs/expiry")["paused"].is_null();
    admin("ALTER TABLE pointsd.audit ADD CONSTRAINT broken CHECK (outcome <> 'not known') NOT VALID");
    order(&site, "/v1/jobs/expiry/pause", "").problem(500, "internal");
    assert!(!is_paused());
    // One whose outcome cannot be written down stays in the record.
    admin(
        "ALTER TABLE pointsd.audit DROP CONSTRAINT broken, ADD CONSTRAINT broken CHECK (outcome = 'not known') NOT VALID",
    );
    assert_eq!(order(&site, "/v1/jobs/expiry/pause", "").status, 200);
    assert!(is_paused());
    assert_eq!(written_down(&site), [["pause", "expiry", "not known"]]);
}

/// A call is over after half a minute, and says before what holds it up.
#[test]
fn a_transaction_that_holds_up_what_the_books_said_is_named() {
    let site = Site::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let writer = runtime.block_on(site.database.client());
    let writes = "BEGIN;
        INSERT INTO pointsd.entries (user_id, seq, type, amount, balance_before, balance_after, source_type, source_id, at, description,
            drawing_rule, batch, key, allocated_batches, allocated_points)
        VALUES (gen_random_uuid(), 1, 'recharge', 5, 0, 5, 'gift', '', now(), '', 1, 1, gen_random_uuid(), '{}', '{}')";
    runtime.block_on(writer.batch_execute(writes)).unwrap();
    let pid: i32 = runtime.block_on(writer.query_one("SELECT pg_backend_pid()", &[])).unwrap().get(0);
    let (begin, token) = (format!("http://{}/v1/accounts/{}", site.address, user(1)), format!("Bearer {}", site.token));
    let ask = |path: &str| answer(agent().get(format!("{begin}/{path}")).header("authorization", &token).call());
    std::thread::scope(|scope| {
        for path in ["balance?as_of=2026-01-01T00:00:00Z", "statement?from=2026-01-01"] {
            let ask = &ask;
            scope.spawn(move || {
                let problem = ask(path).problem(503, "uncommitted");
                let detail = problem["detail"].as_str().unwrap();
                assert!(detail.contains(&format!("process {pid}")), "{path}: {problem}");
            });
        }
    });
    runtime.block_on(writer.batch_execute("ROLLBACK")).unwrap();
    assert_eq!(ask("balance?as_of=2026-01-01T00:00:00Z").status, 200);
}

/// Each takes some megabytes while it is made: all at once would take hundreds of them.
#[test]
fn workbooks_asked_for_at_once_are_made_a_few_at_a_time() {
    let site = Site::start();
    fill(&site);
    run(site.command(&["run", "reconciliation", "--full"])).expect(0);
    let report = numbers(&get(&site, "/v1/reports?report=reconciliation"), "document")[0];
    let url = format!("http://{}/v1/reports/{report}/document?format=xlsx", site.address);
    let token = format!("Bearer {}", site.token);
    let workbook = || agent().get(&url).header("authorization", &token).call().unwrap().status();
    assert_eq!(workbook(), 200);
    let before = site.peak_memory();
    std::thread::scope(|scope| {
        for _ in 0..300 {
            scope.spawn(|| assert_eq!(workbook(), 200));
        }
    });
    let grown = site.peak_memory() - before;
    assert!(grown < 50_000_000, "{grown} bytes for 300 workbooks");
}

#[test]
fn calls_take_half_of_the_pool_at_most() {
    let site = Site::with("http: {listen: '127.0.0.1:0'}\ndatabase: {pool_size: 2}\n");
    let ask = |path: &str| {
        let mut stream = site.connect();
        stream.write_all(format!("{}connection: close\r\n\r\n", site.head("GET", path)).as_bytes()).unwrap();
        stream
    };
    let answer_on = |mut stream: TcpStream| {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    // Its connection goes on between the statements.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let locker = runtime.block_on(site.database.client());
    runtime.block_on(locker.batch_execute("BEGIN; LOCK TABLE pointsd.holds")).unwrap();
    let holds = ask(&format!("/v1/accounts/{}/holds", user(1)));
    let waits = "SELECT FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '-- The holds of one account%'";
    wait(async { until_found(&site.database.client().await, "the call to wait", waits).await });
    // It has the only place.
    let jobs = ask("/v1/jobs");
    jobs.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!((&jobs).read(&mut [0]).is_err());
    // A call whose statement is cancelled says so, and gives its place up.
    let cancel = waits.replace("SELECT", "SELECT pg_cancel_backend(pid)");
    wait(async { site.database.client().await.batch_execute(&cancel).await.unwrap() });
    let holds = answer_on(holds);
    assert!(holds.starts_with("HTTP/1.1 503 ") && holds.contains("\"code\":\"timeout\""), "{holds}");
    jobs.set_read_timeout(Some(PATIENCE)).unwrap();
    let jobs = answer_on(jobs);
    assert!(jobs.starts_with("HTTP/1.1 200 "), "{jobs}");
}

#[test]
fn a_scope_opens_its_own_calls_only() {
    let site = Site::start();
    let status = |token: &str, path: &str, posts: bool| {
        let (address, bearer) = (format!("http://{}{path}", site.address), format!("Bearer {token}"));
        match posts {
            true => answer(agent().post(address).header("authorization", bearer).send_empty()).status,
            false => answer(agent().get(address).header("authorization", bearer).call()).status,
        }
    };
    // All before the first call: a daemon that has just read the tokens does not know a newer one for a tenth of a second.
    let tokens = [("post", 403, 403), ("read", 200, 403), ("operate", 403, 200)].map(|expected| {
        let token = call(&site.url, &["token", "create", expected.0, "--scope", expected.0]).expect(0).stdout;
        (token, expected)
    });
    for (token, (scope, reads, operates)) in tokens {
        assert_eq!(status(token.trim(), "/v1/jobs", false), reads, "{scope}");
        assert_eq!(status(token.trim(), "/v1/jobs/expiry/resume", true), operates, "{scope}");
    }
    for path in ["/v1/jobs", "/v1/prices", "/v1/requests", "/v1/runs", "/v1/reports", "/v1/status"] {
        answer(agent().get(format!("http://{}{path}", site.address)).call()).problem(401, "no_token");
    }
}

#[test]
fn a_statement_that_is_cut_says_so_and_adds_up() {
    let site = Site::start();
    let line =
        |order: u32| json!({"op": "recharge", "user": user(9), "points": 1, "source": "gift", "order_id": order});
    let lines: String = (0..10_002).map(|order| format!("{}\n", line(order))).collect();
    assert_eq!(site.post("application/x-ndjson", lines).status, 200);
    let told = site.get(&format!("/v1/accounts/{}/statement?format=csv", user(9))).body;
    let last: Vec<&str> = told.trim_end().lines().rev().take(2).collect();
    assert!(
        last[1].contains("\"2 further entries, which are not listed\"") && last[1].contains(",2,10002"),
        "{last:?}"
    );
    assert!(last[0].contains("Closing balance") && last[0].contains(",,10002"), "{last:?}");
    assert_eq!(told.lines().count(), 1 + 1 + 10_000 + 2);

    let hold = |id: u32| json!({ "op": "hold", "user": user(9), "points": 1, "source_type": "tts", "source_id": id.to_string(), "until": "2099-01-01T00:00:00Z" });
    let holds = |ids: std::ops::Range<u32>| ids.map(|id| format!("{}\n", hold(id))).collect::<String>();
    let path = format!("/v1/accounts/{}/statement", user(9));
    let remark = "At most 1,000 are listed, the next to end first";
    assert_eq!(site.post("application/x-ndjson", holds(0..999)).status, 200);
    assert!(!site.get(&format!("{path}?format=text")).body.contains(remark));
    assert_eq!(site.post("application/x-ndjson", holds(999..1_002)).status, 200);
    assert!(site.get(&format!("{path}?format=text")).body.replace('\n', " ").contains(remark));
    assert_eq!(get(&site, &path)["holds"].as_array().unwrap().len(), 1_000);
}
