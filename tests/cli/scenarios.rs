//! The histories in tests/scenarios through the command line.

use std::collections::BTreeSet;

use serde_json::Value;

use super::database;
use crate::program::{call, post};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios");

/// A history and its outcome.
#[derive(serde::Deserialize)]
pub(crate) struct Scenario {
    pub name: String,
    pub ops: Vec<Value>,
    pub replies: Vec<Value>,
    expect: Value,
}

impl Scenario {
    /// The ops cut at each sweep. A sweep is a part of its own.
    pub fn parts(&self) -> impl Iterator<Item = &[Value]> {
        self.ops.chunk_by(|one, next| one["op"] != "expire" && next["op"] != "expire")
    }
}

/// The histories that a hand wrote, and of the random ones those with these numbers. The library's tests take all of them; the ways to
/// the library share the random ones, because a process a sweep takes its time.
pub(crate) fn scenarios(random: &[u8]) -> Vec<Scenario> {
    let files = std::fs::read_dir(FOLDER).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|end| end == "json")).collect();
    files.sort();
    assert!(files.len() >= 16, "only {} scenarios in {FOLDER}", files.len());
    let all = files.iter().map(|file| serde_json::from_slice::<Scenario>(&std::fs::read(file).unwrap()).unwrap());
    let is_wanted = |scenario: &Scenario| match scenario.name.strip_prefix("random-") {
        Some(number) => random.contains(&number.parse().unwrap()),
        None => true,
    };
    all.filter(is_wanted).collect()
}

#[test]
fn each_op_by_a_command_of_its_own() {
    // Each op is a process, so only histories that show an op with an outcome which none before did.
    let mut shown = BTreeSet::new();
    for scenario in scenarios(&[]) {
        let pairs = scenario.ops.iter().zip(&scenario.replies);
        let pairs = pairs.map(|(op, reply)| format!("{} {} {}", op["op"], reply["status"], reply["code"]));
        if pairs.filter(|pair| shown.insert(pair.clone())).count() == 0 {
            continue;
        }
        let (_database, url) = database();
        for (op, expected) in scenario.ops.iter().zip(&scenario.replies) {
            let arguments = arguments(op);
            let rejected = expected["status"] == "rejected";
            let done = call(&url, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
            let reply = done.expect(if rejected { 3 } else { 0 }).json();
            if expected["status"] != "swept" {
                assert_eq!(outcome(&reply), *expected, "{}: {arguments:?}", scenario.name);
            }
        }
        assert_books(&url, &scenario, "command by command");
    }
    assert!(shown.len() >= 20, "only {shown:?}");
}

#[test]
fn everything_between_two_sweeps_by_post() {
    for scenario in scenarios(&[1, 2]) {
        let (_database, url) = database();
        let mut replies = scenario.replies.iter();
        for part in scenario.parts() {
            if part[0]["op"] == "expire" {
                call(&url, &arguments(&part[0]).iter().map(String::as_str).collect::<Vec<_>>()).expect(0);
                assert_eq!(replies.next().unwrap()["status"], "swept");
                continue;
            }
            let lines: String = part.iter().map(|op| format!("{op}\n")).collect();
            let expected: Vec<&Value> = replies.by_ref().take(part.len()).collect();
            let any_rejected = expected.iter().any(|reply| reply["status"] == "rejected");
            let found = post(&url, lines).expect(if any_rejected { 3 } else { 0 }).jsons();
            assert_eq!(found.len(), expected.len(), "replies in {}", scenario.name);
            for (nth, (found, expected)) in found.iter().zip(expected).enumerate() {
                assert_eq!(found["line"], nth + 1, "{}: {found}", scenario.name);
                assert_eq!(outcome(found), *expected, "{}: {}", scenario.name, part[nth]);
            }
        }
        assert_books(&url, &scenario, "by post");
    }
}

/// An op as arguments. A member `x_y` of it is the option `--x-y`.
pub(crate) fn arguments(op: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut arguments: Vec<String> = match op["op"].as_str().unwrap() {
        "expire" => vec!["run".to_owned(), "expiry".to_owned()],
        kind => vec![kind.to_owned(), text(&op["user"])],
    };
    arguments.extend(op.get("points").map(text));
    for (name, value) in op.as_object().unwrap() {
        if !["op", "user", "points"].contains(&name.as_str()) {
            arguments.push(format!("--{}", name.replace('_', "-")));
            arguments.push(text(value));
        }
    }
    arguments.push("--json".to_owned());
    arguments
}

/// The part of a reply that the scenarios name.
pub(crate) fn outcome(reply: &Value) -> Value {
    let reply = reply.as_object().unwrap().iter();
    reply.filter(|(name, _)| ["status", "seq", "code"].contains(&name.as_str())).map(pair).collect()
}

fn pair((name, value): (&String, &Value)) -> (String, Value) {
    (name.clone(), value.clone())
}

/// The exports hold just the rows that the scenario expects, member by member.
pub(crate) fn assert_books(url: &str, scenario: &Scenario, way: &str) {
    for table in ["accounts", "batches", "entries"] {
        let mut found = call(url, &["export", table, "--json"]).expect(0).jsons();
        // In the order of the buckets, where there are several.
        found.sort_by_key(|row| row["user"].to_string());
        let expected = scenario.expect[table].as_array().unwrap();
        let context = format!("{table} of {}, {way}", scenario.name);
        assert_eq!(found.len(), expected.len(), "{context}");
        for (found, expected) in found.iter().zip(expected) {
            let expected = expected.as_object().unwrap();
            // An export tells more than the scenarios do.
            let found = found.as_object().unwrap().iter().filter(|(name, _)| expected.contains_key(*name)).map(pair);
            assert_eq!(found.collect::<serde_json::Map<_, _>>(), *expected, "{context}");
        }
    }
}
