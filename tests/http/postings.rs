//! `POST /v1/postings`.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};

use serde_json::{Value, json};

use super::{Site, agent, answer};
use crate::cli::scenarios::{assert_books, outcome, scenarios};
use crate::program::{call, wait};
use crate::support::{at, user};

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";

fn recharge(order: u32) -> Value {
    json!({ "op": "recharge", "user": user(1), "points": 100, "source": "gift", "order_id": order })
}

#[test]
fn a_posting_is_answered_as_the_command_line_answers_it() {
    let site = Site::start();
    let posted = site.post(JSON, recharge(1).to_string());
    let mut first = posted.json();
    assert_eq!(
        (posted.status, first["status"].as_str(), first["balance_after"].as_i64()),
        (200, Some("posted"), Some(100))
    );
    let mut replayed = site.post(JSON, recharge(1).to_string()).json();
    assert_eq!(replayed["status"], "replayed");
    (first["status"], replayed["status"]) = (Value::Null, Value::Null);
    assert_eq!(first, replayed);
    let mut by_command =
        call(&site.url, &["recharge", &user(1).to_string(), "100", "--source", "gift", "--order-id", "1", "--json"])
            .expect(0)
            .json();
    by_command["status"] = Value::Null;
    assert_eq!(first, by_command);
}

#[test]
fn a_recharge_keeps_its_price_and_each_entry_says_what_it_released() {
    let site = Site::start();
    let mut priced = recharge(1);
    (priced["source"], priced["paid"], priced["currency"]) = (json!("card"), json!(1_999), json!("CNY"));
    let posted = site.post(JSON, priced.to_string()).json();
    assert_eq!(
        (&posted["status"], &posted["paid"], &posted["currency"]),
        (&json!("posted"), &json!(1_999), &json!("CNY"))
    );
    let consume = json!({ "op": "consume", "user": user(1), "points": 33, "source_type": "tts", "source_id": "1" });
    let used = site.post(JSON, consume.to_string()).json();
    // 19.99 × 33 / 100, rounded down.
    assert_eq!(used["allocations"], json!([{ "batch": 1, "points": 33, "paid": 659 }]));
    let void = json!({ "op": "void", "user": user(1), "source": "card", "order_id": 1 });
    let returned = site.post(JSON, void.to_string()).json();
    assert_eq!((&returned["paid"], &returned["currency"]), (&json!(1_999), &json!("CNY")));
    priced["paid"] = json!(-1);
    site.post(JSON, priced.to_string()).problem(400, "malformed");
}

#[test]
fn each_refusal_has_its_status_and_code() {
    let site = Site::start();
    assert_eq!(site.post(JSON, recharge(1).to_string()).status, 200);
    let other = json!({ "op": "recharge", "user": user(1), "points": 5, "source": "gift", "order_id": 1 });
    let conflict = site.post(JSON, other.to_string()).problem(409, "key_conflict");
    assert_eq!(conflict["stored"], json!({ "seq": 1, "type": "recharge", "amount": 100, "source_type": "gift" }));
    let mut unknown = recharge(2);
    unknown["source"] = json!("nowhere");
    site.post(JSON, unknown.to_string()).problem(422, "unknown_source");
    let too_much = json!({ "op": "hold", "user": user(1), "points": 101, "source_type": "tts", "source_id": "1", "until": "2100-01-01T00:00:00Z" });
    site.post(JSON, too_much.to_string()).problem(422, "insufficient");
    for (body, place) in [
        ("", "starts with {"),
        ("7", "starts with {"),
        ("{\"op\":\"consume\",\n\"user\":7}", "user: "),
        ("{\"op\":\"recharge\"", "cut off"),
        ("[{}", "line 1 column 3"),
    ] {
        let problem = site.post(JSON, body).problem(400, "malformed");
        assert!(problem["detail"].as_str().unwrap().contains(place), "{problem}");
    }
    site.post("text/plain", "x").problem(415, "media_type");
    site.post_to("/v1/postings?replies=some", &[("content-type", NDJSON)], "").problem(400, "malformed");
    site.post_to("/v1/posting", &[], "{}").problem(404, "not_found");
    answer(agent().delete(format!("http://{}/v1/postings", site.address)).call()).problem(405, "method");
}

#[test]
fn idempotency_key_is_the_key_of_a_posting_that_has_none() {
    let site = Site::start();
    let mut posting = recharge(1);
    posting.as_object_mut().unwrap().remove("order_id");
    site.post(JSON, posting.to_string()).problem(400, "malformed");
    let headers = [("content-type", JSON), ("idempotency-key", "k-1")];
    for status in ["posted", "replayed"] {
        assert_eq!(site.post_to("/v1/postings", &headers, posting.to_string()).json()["status"], status);
    }
    // Its own key comes first.
    posting["key"] = json!("k-2");
    assert_eq!(site.post_to("/v1/postings", &headers, posting.to_string()).json()["status"], "posted");
    let release = json!({ "op": "release", "user": user(1), "of": "no-such-hold" });
    site.post_to("/v1/postings", &headers, release.to_string()).problem(422, "unknown_hold");
    site.post_to("/v1/postings", &headers, "[]").problem(400, "malformed");
    site.post_to("/v1/postings", &[("content-type", NDJSON), ("idempotency-key", "k-1")], "").problem(400, "malformed");
}

#[test]
fn an_array_is_answered_posting_by_posting() {
    let site = Site::start();
    let consume = json!({ "op": "consume", "user": user(1), "points": 30, "source_type": "tts", "source_id": "1" });
    let answers = site.post(JSON, json!([recharge(1), { "op": "recharge" }, consume, consume]).to_string());
    assert_eq!(answers.status, 200);
    let answers = answers.json();
    let statuses: Vec<_> =
        answers.as_array().unwrap().iter().map(|answer| answer["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["posted", "rejected", "posted", "replayed"]);
    assert_eq!((&answers[1]["line"], &answers[1]["code"]), (&json!(2), &json!("malformed")));
    assert_eq!(answers[2]["balance_after"], 70);
    assert_eq!(site.post(JSON, "[]").body, "[]");
    let many = format!("[{}0]", "0,".repeat(10_000));
    site.post(JSON, many).problem(413, "too_large");
    let large = vec![b' '; (8 << 20) + 1];
    site.post(JSON, large).problem(413, "too_large");
}

#[test]
fn a_stream_is_answered_line_by_line_as_a_file_is() {
    let site = Site::start();
    let mut lines = format!("{}\nno posting\n\n", recharge(1));
    for nth in 0..5_000 {
        let posting = json!({ "op": "consume", "user": user(nth % 50), "points": 1, "source_type": "tts", "source_id": nth.to_string() });
        writeln!(lines, "{posting}").unwrap();
    }
    let answers = site.post(NDJSON, &lines).lines();
    assert_eq!(answers.len(), 5_002);
    assert_eq!((&answers[0]["status"], &answers[1]["code"]), (&json!("posted"), &json!("malformed")));
    assert!(answers[2..].iter().zip(4..).all(|(answer, line)| answer["line"] == line && answer["status"] == "posted"));

    let rejected = site.post_to("/v1/postings?replies=rejected", &[("content-type", NDJSON)], &lines).lines();
    assert_eq!(rejected.len(), 2);
    assert_eq!(rejected[0]["line"], 2);
    let counts = json!({ "status": "done", "lines": 5_002, "posted": 0, "held": 0, "released": 0, "replayed": 5_001,
        "rejected": { "malformed": 1 } });
    assert_eq!(rejected[1], counts);

    let csv = format!("op;user;points;source;order_id;description\nrecharge;{};5;gift;9;积分\n", user(1));
    let (csv, _, _) = pointsd::bulk::Encoding::for_label(b"gbk").unwrap().encode(&csv);
    let answers = site.post("text/csv; charset=gbk", csv).lines();
    assert_eq!((&answers[0]["status"], &answers[0]["description"]), (&json!("posted"), &json!("积分")));
    let wrong = site.post("text/csv", "op,usr\n").lines();
    assert_eq!((&wrong[0]["status"], &wrong[0]["code"]), (&json!(400), &json!("malformed")));
    site.post("text/csv; charset=klingon", "").problem(400, "malformed");
}

#[test]
fn a_stream_ends_with_its_token() {
    let site = Site::start();
    let stream = site.connect();
    let head =
        site.head("POST", "/v1/postings") + "content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";
    let line = format!("{}\n", recharge(1));
    (&stream).write_all(format!("{head}{:x}\r\n{line}\r\n", line.len()).as_bytes()).unwrap();
    let mut answers = BufReader::new(&stream).lines().map(Result::unwrap).filter(|line| line.starts_with('{'));
    let mut next = || serde_json::from_str::<Value>(&answers.next().unwrap()).unwrap();
    assert_eq!(next()["status"], "posted");
    call(&site.url, &["token", "revoke", "test"]).expect(0);
    let last = next();
    assert_eq!((&last["status"], &last["code"], &last["line"]), (&json!(401), &json!("wrong_token"), &json!(1)));
}

#[test]
fn each_history_by_calls_arrays_and_streams() {
    let site = Site::start();
    for (nth, scenario) in scenarios(&[3, 4, 5]).into_iter().enumerate() {
        wait(async { site.database.clear(&site.database.client().await).await });
        let mut found = Vec::new();
        for part in scenario.parts() {
            if part[0]["op"] == "expire" {
                let at = at(part[0]["at"].as_str().unwrap());
                wait(async {
                    let mut session = site.database.session().await;
                    session.sweep(at, false, |_| true).await.unwrap()
                });
                found.push(json!({ "status": "swept" }));
                continue;
            }
            let lines: String = part.iter().map(|op| format!("{op}\n")).collect();
            match nth % 3 {
                // A refusal is a problem here, with the same code.
                0 => found.extend(part.iter().map(|op| {
                    let answer = site.post(JSON, op.to_string());
                    let reply = answer.json();
                    if answer.status == 200 {
                        outcome(&reply)
                    } else {
                        json!({ "status": "rejected", "code": reply["code"] })
                    }
                })),
                1 => found
                    .extend(site.post(JSON, json!(part).to_string()).json().as_array().unwrap().iter().map(outcome)),
                _ => found.extend(site.post(NDJSON, lines).lines().iter().map(outcome)),
            }
        }
        assert_eq!(found, scenario.replies, "{}", scenario.name);
        assert_books(&site.url, &scenario, "over HTTP");
    }
}
