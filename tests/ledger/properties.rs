//! Random histories: the ledger says and keeps what the model does, however the history is cut into groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::TimeDelta;
use pointsd::ledger::{Entry, EntryType, Posted, Poster, Posting};

use crate::histories::{self, Op};
use crate::model::{Answer, Model, rules};
use crate::money;
use crate::support::invariants::check_invariants;
use crate::support::post_all;
use crate::support::rows::{Rows, assert_same};
use crate::{TestDatabase, at, rng, user};

const USERS: u32 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_by_one_as_the_model() {
    check(40, 100, |_| 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_into_groups_as_the_model() {
    check(80, 120, |rng| rng.usize(1..40)).await;
}

/// Runs random histories in groups of the sizes that `size` gives; every group's replies, and the rows at the end, must
/// be the model's, which takes the operations one by one.
async fn check(histories: usize, length: usize, size: impl Fn(&mut fastrand::Rng) -> usize) {
    let mut rng = rng();
    let database = TestDatabase::new().await;
    let (client, mut session, rules) = (database.client().await, database.session().await, rules());
    let mut seen = BTreeMap::new();
    for history in 0..histories {
        database.clear(&client).await;
        let mut model = Model::default();
        let ops = histories::random(&mut rng, length, USERS);
        let mut rest = &ops[..];
        while let [first, after_first @ ..] = rest {
            if let Op::Sweep(at) = first {
                let swept = session.sweep(*at, false, |_| true).await.unwrap();
                let counted = (swept.batches, swept.accounts, swept.points);
                assert_eq!(counted, model.sweep(*at), "history {history}, sweep at {at}");
                *seen.entry("swept".to_owned()).or_default() += swept.batches;
                rest = after_first;
                continue;
            }
            let postings: Vec<Posting> = (rest.iter().take(size(&mut rng)))
                .map_while(|op| if let Op::Post(posting) = op { Some(posting.clone()) } else { None })
                .collect();
            rest = &rest[postings.len()..];
            let replies = session.post(&postings, &rules).await.unwrap();
            assert_eq!(replies.len(), postings.len(), "history {history}");
            for (posting, reply) in postings.iter().zip(replies) {
                let (found, expected) = (Answer::from(reply), model.post(posting));
                assert_eq!(found, expected, "left found, right expected, history {history}, {posting:?}");
                note(&found, &mut seen);
            }
        }
        for nth in 0..=USERS {
            let when = at("2026-01-01T00:00:00Z") + TimeDelta::hours(rng.i64(0..24 * 100));
            let found = session.reader().balance(user(nth), when).await.unwrap();
            let next = found.next_expiry.map(|next| (next.at, next.points));
            let found = (found.balance, found.available, found.held, next);
            assert_eq!(found, model.balance(user(nth), when), "balance of {nth} at {when}, history {history}");
        }
        let disordered = "SELECT count(*) FROM (
            SELECT recorded_at < lag(recorded_at) OVER (PARTITION BY user_id ORDER BY seq) AS earlier FROM pointsd.entries) AS e
            WHERE earlier";
        let disordered: i64 = client.query_one(disordered, &[]).await.unwrap().get(0);
        assert_eq!(disordered, 0, "entries of an account are recorded in their order, history {history}");
        let rows = Rows::read(&client).await;
        let captured = rows.holds.iter().filter(|hold| hold.state == "captured").count() as u64;
        *seen.entry("captured".to_owned()).or_default() += captured;
        assert_same(&rows, &model.rows(), &format!("history {history}"));
        check_invariants(&client).await;
        money::check_lives(&rows, &format!("history {history}"));
    }
    // Histories that never come to the hard places would prove nothing.
    for what in [
        "posted",
        "replayed",
        "malformed",
        "invalid_points",
        "unknown_source",
        "key_conflict",
        "already_expired",
        "already_open",
        "from_the_future",
        "unknown_entry",
        "unknown_hold",
        "exceeds_consumed",
        "exceeds_recharge",
        "nothing_left",
        "insufficient",
        "swept",
        "held",
        "hold replayed",
        "released",
        "captured",
        "restored",
        "refund",
        "refund in parts",
        "opening",
        "opening debt",
        "void",
        "void into arrears",
        "into arrears",
        "partly settled",
        "wholly settled",
        "from several batches",
    ] {
        assert!(seen.get(what).is_some_and(|count| *count > 0), "{what} did not come up: {seen:?}");
    }
}

fn note(answer: &Answer, seen: &mut BTreeMap<String, u64>) {
    let mut count = |what: &str| *seen.entry(what.to_owned()).or_default() += 1;
    match answer {
        Answer::Rejected(code) => count(code),
        Answer::Replayed(_) => count("replayed"),
        Answer::Held(_) => count("held"),
        Answer::Released(_) => count("released"),
        Answer::HoldReplayed(_) => count("hold replayed"),
        Answer::Posted(Posted { entry, restored, last_seq, .. }) => {
            count("posted");
            let Entry { kind, seq, amount, balance_before, balance_after, allocations, .. } = entry;
            if !restored.is_empty() {
                count("restored");
            }
            match kind {
                EntryType::Consume if *balance_after < 0 => count("into arrears"),
                EntryType::Recharge if *balance_after <= 0 => count("wholly settled"),
                EntryType::Recharge if *balance_before < 0 => count("partly settled"),
                EntryType::Consume if allocations.len() > 1 => count("from several batches"),
                EntryType::Refund if last_seq > seq => count("refund in parts"),
                EntryType::Refund => count("refund"),
                EntryType::Opening if *balance_after < 0 => count("opening debt"),
                EntryType::Opening => count("opening"),
                EntryType::Void if *balance_after < 0 => count("void into arrears"),
                EntryType::Void => count("void"),
                _ => assert!(*amount > 0),
            }
        }
    }
}

/// Callers that come at once share groups, and each user's order is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_the_poster_as_the_model() {
    let mut rng = rng();
    let database = TestDatabase::new().await;
    let (client, handle, rules) = (database.client().await, database.database().await, rules());
    for history in 0..20 {
        database.clear(&client).await;
        let poster = Poster::start(&handle, &Arc::new(rules.clone()), rng.usize(1..4));
        let mut model = Model::default();
        let mut postings = Vec::new();
        for op in histories::random(&mut rng, 300, 6) {
            if let Op::Post(posting) = op {
                postings.push(posting);
            }
        }
        // Callers in a row that do not wait for each other.
        let mut callers = Vec::new();
        let mut rest = &postings[..];
        while !rest.is_empty() {
            let (part, after) = rest.split_at(rng.usize(1..20).min(rest.len()));
            callers.push(post_all(&poster, part.to_vec()));
            rest = after;
        }
        let replies = futures_util::future::try_join_all(callers).await.unwrap().concat();
        for (posting, reply) in postings.iter().zip(replies) {
            assert_eq!(Answer::from(reply), model.post(posting), "history {history}, {posting:?}");
        }
        assert_same(&Rows::read(&client).await, &model.rows(), &format!("history {history}"));
    }
}
