//! Futures that are dropped half way, at every await they have: no transaction stays open, the session can be used
//! again, and what was asked twice is in the books once.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use pointsd::ledger::{EntryType, Posting, Reply};

use crate::model::{LIFE_DAYS, rules};
use crate::support::buckets;
use crate::support::rows::Rows;
use crate::{TestDatabase, at, user};
use tokio_postgres::Client;

/// Drops the future after it has been polled so many times, unless it was ready before.
async fn poll_at_most<T>(times: u32, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut polled = 0;
    poll_fn(|context| {
        if polled == times {
            return Poll::Ready(None);
        }
        polled += 1;
        match future.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            // The last time, do not wait for what would wake it.
            Poll::Pending if polled == times => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Waits until no connection but ours is in a transaction. The ROLLBACK of a dropped future is on its way by then, so
/// this is soon or never.
async fn expect_no_transaction(client: &Client, context: &str) {
    for _ in 0..500 {
        let query = "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL";
        if client.query_one(query, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("a transaction stays open: {context}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_post() {
    let database = TestDatabase::new().await;
    let (client, mut session, rules) = (database.client().await, database.session().await, rules());
    let now = at("2026-01-01T00:00:00Z");
    let mut dropped = 0;
    for round in 0..20 {
        for polls in 0..10 {
            // Every other account is new.
            let group: Vec<Posting> = (0..4)
                .map(|nth| user(if nth % 2 == 0 { nth } else { 1_000 + 100 * round + 10 * polls + nth }))
                .map(|user| Posting::recharge(user, 5, "gift", now).with_key(format!("{round} {polls}")))
                .collect();
            let context = format!("round {round}, dropped after {polls} polls");
            let finished = poll_at_most(polls, session.post(&group, &rules)).await.is_some();
            dropped += u32::from(!finished);
            if round % 4 == 0 {
                expect_no_transaction(&client, &context).await;
            }
            let again = session.post(&group, &rules).await.unwrap_or_else(|error| panic!("{context}: {error:?}"));
            // All of it was written by the first, or nothing.
            let replayed = again.iter().filter(|reply| matches!(reply, Reply::Replayed(_))).count();
            let posted = again.iter().filter(|reply| matches!(reply, Reply::Posted(_))).count();
            assert!([(4, 0), (0, 4)].contains(&(replayed, posted)), "{context}: {again:?}");
            assert!(replayed == 4 || !finished, "{context}: it was posted before");
        }
    }
    assert!(dropped >= 60, "hardly any future was dropped: {dropped}");
    let rows = Rows::read(&client).await;
    assert_eq!(rows.entries.len(), 20 * 10 * 4);
    assert_eq!(rows.accounts.len(), 2 + 20 * 10 * 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_sweep() {
    // With ten batches each: three groups.
    const USERS: u32 = 250;
    const BATCHES: u32 = 10;
    const ROUNDS: u32 = 26;
    let database = TestDatabase::new().await;
    let (client, mut session, rules) = (database.client().await, database.session().await, rules());
    let mut day = at("2026-01-01T00:00:00Z");
    let (mut dropped, mut cut_short) = (0, 0);
    for polls in 0..ROUNDS {
        let recharge = |nth| Posting::recharge(user(nth % USERS), 5, "gift", day).with_key(format!("{polls} {nth}"));
        let group: Vec<Posting> = (0..BATCHES * USERS).map(recharge).collect();
        session.post(&group, &rules).await.unwrap();
        day += chrono::TimeDelta::days(i64::from(LIFE_DAYS));
        let context = format!("dropped after {polls} polls");
        let first = poll_at_most(polls, session.sweep(day, false, |_| true)).await;
        expect_no_transaction(&client, &context).await;
        let second = session.sweep(day, false, |_| true).await;
        let second = second.unwrap_or_else(|error| panic!("{context}: {error:?}"));
        match first {
            Some(first) => {
                assert_eq!((first.unwrap().batches, second.batches), (u64::from(BATCHES * USERS), 0), "{context}")
            }
            None => {
                dropped += 1;
                cut_short += u32::from((1..u64::from(BATCHES * USERS)).contains(&second.batches));
            }
        }
    }
    // Of many buckets, most polls go into listing what is due.
    let expected = u32::from(buckets() == 1);
    assert!(dropped >= 10 && cut_short >= expected, "dropped {dropped}, cut short between groups {cut_short}");
    let rows = Rows::read(&client).await;
    let expired = rows.entries.iter().filter(|entry| entry.kind == EntryType::Expire).count();
    assert_eq!(expired, (ROUNDS * BATCHES * USERS) as usize, "each batch expired once");
}
