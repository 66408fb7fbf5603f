//! The move of all accounts to another number of buckets.

use pointsd::distribute::{self, distribute, moving_to};
use pointsd::ledger::{Buckets, Posting, Session};
use tokio_postgres::Client;
use uuid::Uuid;

use super::prove::{post, run};
use super::{TestDatabase, at, rng, rules, user, write_history};
use crate::support::rows::{Rows, assert_same};
use crate::support::until_alone;

/// Why a move is refused, before it has done anything.
async fn refused(client: &mut Client, buckets: i16) -> String {
    let error = distribute(client, buckets, 100, |step| panic!("{step:?}")).await.unwrap_err();
    pointsd::errors::chain(&error)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_every_row_and_goes_on_where_it_was_interrupted() {
    let (database, mut rng) = (TestDatabase::new().await, rng());
    let mut client = database.client().await;
    client.execute("SELECT pointsd.set_buckets(1::smallint)", &[]).await.unwrap();
    write_history(&database).await;
    post(&database, &mut rng, 30, 200, "a").await;
    let first = Posting::consume(Uuid::nil(), 5, "tts", "first", at("2026-01-01T00:00:00Z"));
    assert!(database.session().await.post(&[first], &rules()).await.unwrap()[0].entry().is_some());
    run(&database, true).await;
    let before = Rows::read(&client).await;
    let recorded = "SELECT array_agg(recorded_at ORDER BY user_id, seq) FROM pointsd.entries";
    let recorded_before: Vec<std::time::SystemTime> = client.query_one(recorded, &[]).await.unwrap().get(0);

    for (to, stops) in [(16, 1..8), (4, 2..3), (1, 1..2)] {
        // Each call is cut off a group later than the one before.
        for stop in stops {
            until_alone(&client).await;
            let mut groups = 0;
            let ended = distribute(&mut client, to, 5, |_| {
                groups += 1;
                groups <= stop
            });
            assert!(!ended.await.unwrap());
            assert_eq!(moving_to(&client).await.unwrap(), Some(to));
            assert_same(&Rows::read(&client).await, &before, "half way");
            let told = refused(&mut client, 2).await;
            assert!(told.contains(&format!("moving to {to} buckets")), "{told}");
        }
        // What would write or read an account meanwhile is refused.
        let other = database.client().await;
        let error = Session::open(&other).await.err().map(|error| pointsd::errors::chain(&error)).unwrap_or_default();
        assert!(error.contains("moving to other buckets"), "{error}");
        for sql in ["SELECT pointsd.check(gen_random_uuid(), 1)", "SELECT * FROM pointsd.account(gen_random_uuid())"] {
            let error = other.query(sql, &[]).await.unwrap_err();
            assert!(pointsd::errors::chain(&error).contains("moving to other buckets"), "{error:?}");
        }
        drop(other);
        until_alone(&client).await;
        assert!(distribute(&mut client, to, 5, |_| true).await.unwrap());
        assert_eq!(moving_to(&client).await.unwrap(), None);
        assert_eq!(Buckets::read(&client).await.unwrap().count(), to);
        let used = "SELECT count(DISTINCT bucket) FROM pointsd.accounts";
        let used: i64 = client.query_one(used, &[]).await.unwrap().get(0);
        assert!(used <= i64::from(to) && used > i64::from(to).min(8) / 2, "{used} of {to}");
        assert_same(&Rows::read(&client).await, &before, "moved");
        let recorded_after: Vec<std::time::SystemTime> = client.query_one(recorded, &[]).await.unwrap().get(0);
        assert_eq!(recorded_after, recorded_before);
        // The history is guarded again, and every checkpoint came along.
        client.batch_execute("UPDATE pointsd.entries SET amount = amount").await.unwrap_err();
        let proof = run(&database, true).await;
        assert_eq!((proof.suspects, proof.findings), (0, 0), "{proof:?}");
    }
    // A posting that was made before the moves replays.
    let again = Posting::recharge(user(50), 1, "gift", at("2026-01-01T00:00:00Z")).with_key("new");
    let mut session = database.session().await;
    assert_eq!(session.post(std::slice::from_ref(&again), &rules()).await.unwrap()[0].status(), "posted");
    assert_eq!(session.post(&[again], &rules()).await.unwrap()[0].status(), "replayed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_refused_while_anything_else_is_open() {
    let mut database = TestDatabase::new().await;
    database.expect_damage();
    let mut client = database.client().await;
    client.execute("SELECT pointsd.set_buckets(1::smallint)", &[]).await.unwrap();
    write_history(&database).await;
    until_alone(&client).await;
    let told = refused(&mut client, 3).await;
    assert!(told.contains("power of two"), "{told}");
    let told = refused(&mut client, 1).await;
    assert!(told.contains("has 1 buckets already"), "{told}");
    let other = database.client().await;
    let told = refused(&mut client, 64).await;
    assert!(told.contains("other sessions are connected"), "{told}");
    drop(other);
    until_alone(&client).await;
    let open = "INSERT INTO pointsd.runs (job, slot, trigger, state, attempt, fence) VALUES ('expiry', now(), 'manual', 'running', 1, 1)";
    client.batch_execute(open).await.unwrap();
    let told = refused(&mut client, 64).await;
    assert!(told.contains("of expiry has not ended"), "{told}");
    client.batch_execute("DELETE FROM pointsd.runs").await.unwrap();
    client
        .batch_execute(
            "UPDATE pointsd.accounts SET total_recharged = total_recharged + 1, total_consumed = total_consumed + 1",
        )
        .await
        .unwrap();
    let error = distribute(&mut client, 64, distribute::GROUP_ACCOUNTS, |_| true).await.unwrap_err();
    assert!(matches!(error, distribute::Error::Unsound { when: "before", .. }), "{error:?}");
    assert_eq!(moving_to(&client).await.unwrap(), None);
}
