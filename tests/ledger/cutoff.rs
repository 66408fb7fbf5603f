//! The cutoff of the history: it waits for transactions that have written entries, and for no other.

use std::cell::Cell;
use std::time::Duration;

use chrono::{DateTime, Utc};
use pointsd::ledger::{EntryFilter, Error, Posting, Table, Then, cutoff};
use tokio::sync::oneshot;

use crate::model::rules;
use crate::{TestDatabase, at, user};

const INSERT: &str = "INSERT INTO pointsd.entries (user_id, seq, type, amount, balance_before, balance_after, source_type, at,
    description, drawing_rule, batch, key, allocated_batches, allocated_points)
    VALUES ('00000000-0000-4000-8000-000000000009', 1, 'recharge', 5, 0, 5, 'gift', now(), '', 1, 1, gen_random_uuid(), '{}', '{}')";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_up_to_the_cutoff_are_visible_once_it_is_told() {
    let mut database = TestDatabase::new().await;
    database.expect_damage();
    let (writer, reader) = (database.client().await, database.client().await);
    writer.batch_execute(&format!("BEGIN; {INSERT}")).await.unwrap();
    let (told, mut hears) = oneshot::channel();
    let waiting = tokio::spawn(async move {
        let w = cutoff(&reader, Duration::from_secs(60)).await.unwrap();
        told.send(()).unwrap();
        let seen =
            reader.query_one("SELECT count(*) FROM pointsd.entries WHERE recorded_at <= $1", &[&w]).await.unwrap();
        seen.get::<_, i64>(0)
    });
    // It looks for writers again and again, and finds this one.
    let looks = "SELECT FROM pg_stat_activity WHERE state = 'idle' AND query LIKE '%pointsd.writers%' AND datname = current_database()";
    let third = database.client().await;
    while third.query(looks, &[]).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(hears.try_recv().is_err(), "the cutoff was told before the writer ended");
    writer.batch_execute("COMMIT").await.unwrap();
    assert_eq!(waiting.await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_of_the_past_waits_for_writers() {
    let mut database = TestDatabase::new().await;
    database.expect_damage();
    let (writer, third) = (database.client().await, database.client().await);
    for (of_entries, end, count) in [(false, "ROLLBACK", 0), (true, "COMMIT", 1)] {
        writer.batch_execute(&format!("BEGIN; {INSERT}")).await.unwrap();
        let now: DateTime<Utc> = third.query_one("SELECT clock_timestamp()", &[]).await.unwrap().get(0);
        let table = match of_entries {
            true => Table::Entries(EntryFilter { recorded_before: Some(now), ..EntryFilter::default() }),
            false => Table::AccountsThen(Then::AsOf(now)),
        };
        let (mut session, rows) = (database.session().await, Cell::new(0));
        let row = |_| {
            rows.set(rows.get() + 1);
            Ok::<(), Error>(())
        };
        let mut export = std::pin::pin!(session.export(&table, None, row));
        let looks = "SELECT FROM pg_stat_activity WHERE state = 'idle' AND query LIKE '%pointsd.writers%'
                     AND datname = current_database()";
        let waits = async {
            while third.query(looks, &[]).await.unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            exported = &mut export => panic!("it did not wait: {exported:?}"),
            () = waits => {}
        }
        writer.batch_execute(end).await.unwrap();
        export.await.unwrap();
        assert_eq!(rows.get(), count);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_does_not_end_is_named() {
    let mut database = TestDatabase::new().await;
    database.expect_damage();
    let (writer, reader) = (database.client().await, database.client().await);
    let pid: i32 = writer.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    writer.batch_execute(&format!("BEGIN; {INSERT}")).await.unwrap();
    let error = cutoff(&reader, Duration::ZERO).await.unwrap_err();
    assert!(
        matches!(error, Error::Uncommitted { transactions: 1, process: Some(process), .. } if process == pid),
        "{error:?}"
    );
    assert!(error.is_transient());
    assert!(error.to_string().contains(&pid.to_string()), "{error}");
    // A transaction that only reads holds nothing up.
    writer.batch_execute("ROLLBACK; BEGIN; SELECT FROM pointsd.entries").await.unwrap();
    cutoff(&reader, Duration::ZERO).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postings_record_after_the_cutoff_that_came_before_them() {
    let database = TestDatabase::new().await;
    let (mut session, reader) = (database.session().await, database.client().await);
    let post = |points| {
        vec![Posting::consume(user(1), points, "script", format!("task-{points}"), at("2026-01-02T00:00:00Z"))]
    };
    session.post(&post(1), &rules()).await.unwrap();
    let w = cutoff(&reader, Duration::from_secs(60)).await.unwrap();
    session.post(&post(2), &rules()).await.unwrap();
    let count = "SELECT count(*) FILTER (WHERE recorded_at <= $1), count(*) FILTER (WHERE recorded_at > $1) FROM pointsd.entries";
    let row = reader.query_one(count, &[&w]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_was_prepared_is_waited_for() {
    let mut database = TestDatabase::new().await;
    database.expect_damage();
    let (writer, reader) = (database.client().await, database.client().await);
    // The name of a prepared transaction is one of the whole server.
    let name: String = writer.query_one("SELECT current_database()::text", &[]).await.unwrap().get(0);
    writer.batch_execute(&format!("BEGIN; {INSERT}; PREPARE TRANSACTION '{name}'")).await.unwrap();
    let prepared = cutoff(&reader, Duration::ZERO).await;
    writer.batch_execute(&format!("COMMIT PREPARED '{name}'")).await.unwrap();
    assert!(matches!(prepared, Err(Error::Uncommitted { transactions: 1, process: None, .. })), "{prepared:?}");
    cutoff(&reader, Duration::ZERO).await.unwrap();
}
