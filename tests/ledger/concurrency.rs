//! Many writers at once on a few accounts, with sweeps in between: nothing is lost, nothing is posted twice, and no
//! writer blocks another for good.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::try_join_all;
use pointsd::ledger::{Entry, EntryType, Kind, Poster, Posting, Reply};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::model::rules;
use crate::support::post_all;
use crate::support::rows::Rows;
use crate::{TestDatabase, at, rng, user};

const USERS: u32 = 6;

/// Deadlocks that the server broke since the database was made. The counts of a connection are complete when it has
/// ended, so all but ours must end first.
async fn deadlocks(client: &Client) -> i64 {
    loop {
        let others =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
        if client.query_one(others, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let count = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    client.query_one(count, &[]).await.unwrap().get(0)
}

/// What one writer sends in its nth step: some postings of its own, at a time close to everybody else's.
fn step(rng: &mut fastrand::Rng, writer: usize, nth: usize) -> Vec<Posting> {
    let now = at("2026-01-01T00:00:00Z") + TimeDelta::minutes(nth as i64);
    let mut postings = Vec::new();
    for line in 0..rng.usize(1..12) {
        let (user, points) = (user(rng.u32(..USERS)), rng.i64(1..50));
        let when = now - TimeDelta::minutes(rng.i64(0..30));
        let name = format!("{writer} {nth} {line}");
        postings.push(if rng.bool() {
            let mut posting = Posting::recharge(user, points, "gift", when).with_key(name);
            if let Kind::Recharge { expires_at, .. } = &mut posting.kind {
                *expires_at = Some(when + TimeDelta::minutes(rng.i64(1..60)));
            }
            posting
        } else {
            Posting::consume(user, points, "tts", name, when)
        });
    }
    if rng.u8(..4) == 0 {
        // In one group or in two, it must not matter.
        postings.push(postings[0].clone());
    }
    postings
}

fn count(replies: &[Reply], entries: &mut Vec<Entry>, replays: &mut usize) {
    for reply in replies {
        match reply {
            Reply::Posted(posted) => entries.push(posted.entry.clone()),
            Reply::Replayed(_) => *replays += 1,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_and_sweeps() {
    const STEPS: usize = 120;
    let mut rng = rng();
    let database = TestDatabase::new().await;
    let handle = database.database().await;
    let posters = [2, 3].map(|lanes| Poster::start(&handle, &Arc::new(rules()), lanes));
    let furthest = Arc::new(AtomicUsize::new(0));
    let mut writers = Vec::new();
    for writer in 0..9 {
        let (mut rng, furthest) = (rng.fork(), Arc::clone(&furthest));
        let poster = posters.get(writer).cloned().or_else(|| posters.get(writer - 2).cloned());
        let mut session = database.session().await;
        writers.push(tokio::spawn(async move {
            let (mut entries, mut replays, mut sent) = (Vec::new(), 0, 0);
            for nth in 0..STEPS {
                furthest.fetch_max(nth, Ordering::Relaxed);
                let postings = step(&mut rng, writer, nth);
                sent += postings.len();
                let replies = match &poster {
                    Some(poster) => post_all(poster, postings).await.unwrap(),
                    None => session.post(&postings, &rules()).await.unwrap(),
                };
                count(&replies, &mut entries, &mut replays);
            }
            assert_eq!(entries.len() + replays, sent);
            (entries, replays)
        }));
    }
    let mut sweepers = Vec::new();
    for _ in 0..2 {
        let mut session = database.session().await;
        let furthest = Arc::clone(&furthest);
        sweepers.push(tokio::spawn(async move {
            let (mut batches, mut last) = (0, false);
            while !last {
                let nth = furthest.load(Ordering::Relaxed);
                last = nth == STEPS;
                let when = at("2026-01-01T00:00:00Z") + TimeDelta::minutes(nth as i64);
                batches += session.sweep(when, false, &rules(), |_| true).await.unwrap().batches;
            }
            batches
        }));
    }
    let (mut told, mut replays) = (HashMap::<(Uuid, i64), Entry>::new(), 0);
    let written = try_join_all(writers).await.unwrap();
    furthest.store(STEPS, Ordering::Relaxed);
    for (entries, replayed) in written {
        for entry in entries {
            let twice = told.insert((entry.user, entry.seq), entry);
            assert!(twice.is_none(), "two postings were told the same entry: {twice:?}");
        }
        replays += replayed;
    }
    let swept: u64 = try_join_all(sweepers).await.unwrap().into_iter().sum();
    drop(posters);
    handle.close().await.unwrap();

    let client = database.client().await;
    assert_eq!(deadlocks(&client).await, 0);
    let rows = Rows::read(&client).await;
    let (mut expired, mut posted) = (0, 0);
    for entry in &rows.entries {
        match entry.kind {
            EntryType::Expire => expired += 1,
            EntryType::Restore => {}
            _ => {
                posted += 1;
                assert_eq!(told.get(&(entry.user, entry.seq)), Some(entry), "what was told is what is kept");
            }
        }
    }
    assert_eq!(posted, told.len(), "everything told is kept");
    assert!(replays > 50 && swept > 0 && expired > swept, "{replays} replays, {expired} expired, {swept} by sweeps");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_from_many_callers_is_posted_once() {
    const CALLERS: usize = 12;
    let database = TestDatabase::new().await;
    let handle = database.database().await;
    // Several programs, each with its own lanes.
    let posters = [1, 2, 3].map(|lanes| Poster::start(&handle, &Arc::new(rules()), lanes));
    for round in 0..60 {
        let callers = (0..CALLERS).map(|caller| {
            let poster = posters[caller % posters.len()].clone();
            let posting = Posting::consume(user(round % 7), 3, "tts", format!("task {round}"), now());
            tokio::spawn(async move { poster.post(posting).await.unwrap() })
        });
        let replies: Vec<Reply> = try_join_all(callers).await.unwrap();
        let entries: Vec<&Entry> = replies.iter().map(|reply| reply.entry().unwrap()).collect();
        assert!(entries.iter().all(|entry| *entry == entries[0]), "round {round}: {replies:?}");
        let posted = replies.iter().filter(|reply| matches!(reply, Reply::Posted(_))).count();
        assert_eq!(posted, 1, "round {round}: {replies:?}");
    }
    assert_eq!(Rows::read(&database.client().await).await.entries.len(), 60);
}

/// The counter that the other test trusts does count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_would_be_seen() {
    let database = TestDatabase::new().await;
    let (one, two) = (database.client().await, database.client().await);
    one.batch_execute("SET deadlock_timeout = 1; BEGIN; SELECT pg_advisory_xact_lock(1)").await.unwrap();
    two.batch_execute("SET deadlock_timeout = 1; BEGIN; SELECT pg_advisory_xact_lock(2)").await.unwrap();
    let (first, second) = tokio::join!(one.batch_execute("SELECT pg_advisory_xact_lock(2); COMMIT"), async {
        let result = two.batch_execute("SELECT pg_advisory_xact_lock(1); COMMIT").await;
        two.batch_execute("ROLLBACK").await.unwrap();
        result
    });
    assert!(first.is_err() || second.is_err());
    drop((one, two));
    assert_eq!(deadlocks(&database.client().await).await, 1);
}

fn now() -> DateTime<Utc> {
    at("2026-01-01T00:00:00Z")
}
