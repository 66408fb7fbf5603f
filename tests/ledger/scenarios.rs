//! The histories in tests/scenarios, each with what must come of it.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use pointsd::fields::PostingFields;
use pointsd::ledger::{Poster, Posting, Reply, Rules, Term};
use pointsd::time::Zone;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::invariants::check_invariants;
use crate::support::post_all;
use crate::support::rows::Rows;
use crate::{TestDatabase, at};

#[derive(Deserialize)]
struct Scenario {
    ops: Vec<Value>,
    replies: Vec<Value>,
    expect: Value,
}

/// How the operations reach the ledger.
#[derive(Clone, Copy, Debug)]
enum Way {
    OneByOne,
    /// All between two sweeps as one group.
    Group,
    Poster,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_by_one() {
    check(Way::OneByOne).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_groups() {
    check(Way::Group).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_the_poster() {
    check(Way::Poster).await;
}

async fn check(way: Way) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    assert!(!files.is_empty(), "no scenarios in {folder}");
    files.sort();
    let database = TestDatabase::new().await;
    let client = database.client().await;
    for file in files {
        database.clear(&client).await;
        let scenario: Scenario = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let (replies, rows) = run(&database, &scenario.ops, way).await;
        let context = format!("{}, {way:?}", file.file_name().unwrap().display());
        assert_eq!(replies.len(), scenario.replies.len(), "{context}");
        for (nth, (found, expected)) in replies.iter().zip(&scenario.replies).enumerate() {
            assert_eq!(found, expected, "reply {nth} to {}, {context}", scenario.ops[nth]);
        }
        for table in ["accounts", "batches", "entries"] {
            let (found, expected) = (rows[table].as_array().unwrap(), scenario.expect[table].as_array().unwrap());
            for (nth, (found, expected)) in found.iter().zip(expected).enumerate() {
                assert_eq!(found, expected, "row {nth} of {table}, {context}");
            }
            assert_eq!(found.len(), expected.len(), "rows of {table}, {context}");
        }
    }
}

async fn run(database: &TestDatabase, ops: &[Value], way: Way) -> (Vec<Value>, Value) {
    let mut session = database.session().await;
    let rules = rules();
    let poster = Poster::start(&database.database().await, &Arc::new(rules.clone()), 2);
    let mut replies = Vec::new();
    for part in ops.chunk_by(|one, next| op(one) != "expire" && op(next) != "expire") {
        if op(&part[0]) == "expire" {
            session.sweep(time(&part[0], "at").unwrap(), false, |_| true).await.unwrap();
            replies.push(json!({"status": "swept"}));
            continue;
        }
        let postings: Vec<Posting> = part.iter().map(posting).collect();
        let answers = match way {
            Way::OneByOne => {
                let mut answers = Vec::new();
                for posting in postings {
                    answers.append(&mut session.post(&[posting], &rules).await.unwrap());
                }
                answers
            }
            Way::Group => session.post(&postings, &rules).await.unwrap(),
            Way::Poster => post_all(&poster, postings).await.unwrap(),
        };
        replies.extend(answers.iter().map(reply));
    }
    let client = database.client().await;
    check_invariants(&client).await;
    (replies, shown(&Rows::read(&client).await))
}

/// The defaults, as the scenarios expect them.
fn rules() -> Rules {
    let sources = ["wxpay", "alipay", "card", "gift", "invite", "compensation"];
    Rules {
        sources: sources.iter().map(|source| ((*source).to_owned(), None)).collect(),
        promotional: BTreeSet::new(),
        term: Term::days(180),
        refund: Term::days(30),
        zone: Zone::UTC,
    }
}

fn op(op: &Value) -> &str {
    op["op"].as_str().unwrap()
}

fn time(op: &Value, field: &str) -> Option<DateTime<Utc>> {
    op.get(field).map(|value| at(value.as_str().unwrap()))
}

fn posting(value: &Value) -> Posting {
    let fields: PostingFields = serde_json::from_value(value.clone()).unwrap();
    fields.into_posting(|| panic!("each operation has a time")).unwrap()
}

fn reply(reply: &Reply) -> Value {
    let mut shown = json!({"status": reply.status()});
    if let Some(entry) = reply.entry() {
        shown["seq"] = entry.seq.into();
    }
    if let Some(refusal) = reply.refusal() {
        shown["code"] = refusal.code().into();
    }
    shown
}

/// The rows as the scenarios write them.
fn shown(rows: &Rows) -> Value {
    let time = pointsd::time::time_text;
    let accounts = rows.accounts.iter().map(|account| {
        json!({
            "user": account.user,
            "balance": account.balance,
            "arrears": (-account.balance).max(0),
            "total_recharged": account.total_recharged,
            "total_consumed": account.total_consumed,
            "total_expired": account.total_expired,
            "total_refunded": account.total_refunded,
            "total_voided": account.total_voided,
        })
    });
    let batches = rows.batches.iter().map(|batch| {
        json!({
            "user": batch.user,
            "batch": batch.batch,
            "amount": batch.amount,
            "remaining": batch.remaining,
            "source": batch.source,
            "expires_at": time(batch.expires_at),
        })
    });
    let entries = rows.entries.iter().map(|entry| {
        json!({
            "user": entry.user,
            "seq": entry.seq,
            "type": entry.kind,
            "amount": entry.amount,
            "balance_before": entry.balance_before,
            "balance_after": entry.balance_after,
            "source_type": entry.source_type,
            "source_id": entry.source_id,
            "allocations": entry.allocations,
            "at": time(entry.at),
        })
    });
    json!({
        "accounts": accounts.collect::<Vec<_>>(),
        "batches": batches.collect::<Vec<_>>(),
        "entries": entries.collect::<Vec<_>>(),
    })
}
