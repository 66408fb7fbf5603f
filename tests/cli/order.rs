//! Any order of the same consumes ends the same on the command line, too.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::database;
use crate::program::{call, post};
use crate::support::{at, rng, user};

#[test]
fn of_consumes_in_files_does_not_matter() {
    let mut rng = rng();
    let begin = at("2026-01-01T00:00:00Z");
    let time = |hours: i64| (begin + TimeDelta::hours(hours)).format("%FT%TZ").to_string();
    let recharges: String = (0..8)
        .map(|nth| {
            let (at, end) = (rng.i64(0..24 * 10), rng.i64(24 * 12..24 * 40));
            let line = json!({
                "op": "recharge", "user": user(nth % 2), "points": rng.i64(1..60), "source": "gift",
                "at": time(at), "expires_at": time(end), "key": format!("order {nth}"),
            });
            format!("{line}\n")
        })
        .collect();
    let mut consumes: Vec<String> = (0..24)
        .map(|nth| {
            let line = json!({
                "op": "consume", "user": user(nth % 2), "points": rng.i64(1..25), "source_type": "tts",
                "source_id": format!("task {nth}"), "at": time(rng.i64(24 * 10..24 * 40)),
            });
            format!("{line}\n")
        })
        .collect();
    let (mut outcomes, mut restored) = (Vec::new(), 0);
    for _ in 0..3 {
        let (_database, url) = database();
        post(&url, &recharges).expect(0);
        rng.shuffle(&mut consumes);
        let mut rest = &consumes[..];
        while !rest.is_empty() {
            let (file, after) = rest.split_at(rng.usize(1..12).min(rest.len()));
            rest = after;
            post(&url, file.concat()).expect(0);
            sweep(&url, begin + TimeDelta::days(rng.i64(10..40)));
        }
        sweep(&url, begin + TimeDelta::days(60));
        let export = |table: &str| call(&url, &["export", table, "--json"]).expect(0).jsons();
        let accounts = export("accounts");
        let accounts =
            accounts.iter().map(|row| [row["user"].clone(), row["balance"].clone(), row["total_expired"].clone()]);
        let batches = export("batches");
        let batches =
            batches.iter().map(|row| [row["batch"].clone(), row["remaining"].clone(), row["expired"].clone()]);
        outcomes.push(accounts.chain(batches).collect::<Vec<[Value; 3]>>());
        restored += export("entries").iter().filter(|entry| entry["type"] == "restore").count();
    }
    assert!(restored > 0, "no usage was late");
    outcomes.dedup();
    assert_eq!(outcomes.len(), 1, "{outcomes:#?}");
}

fn sweep(url: &str, at: DateTime<Utc>) {
    call(url, &["run", "expiry", "--at", &at.format("%FT%TZ").to_string(), "--json"]).expect(0);
}
