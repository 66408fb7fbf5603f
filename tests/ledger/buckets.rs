//! Ledgers that are cut into buckets.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use pointsd::ledger::{Buckets, Error, GroupObserver, Poster, Posting, Reference, Reply, Session};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::model::rules;
use crate::support::{post_all, rows};
use crate::{TestDatabase, at, rng, user};

pub async fn set_buckets(client: &Client, count: i16) {
    client.execute("SELECT pointsd.set_buckets($1)", &[&count]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_schema_and_the_library_agree_on_the_bucket_of_a_user() {
    let database = TestDatabase::new().await;
    let (client, mut rng) = (database.client().await, rng());
    for count in [1, 2, 64, 256] {
        set_buckets(&client, count).await;
        let buckets = Buckets::read(&client).await.unwrap();
        assert_eq!(buckets.count(), count);
        let users: Vec<Uuid> = (0..2_000).map(|_| Uuid::from_u128(rng.u128(..))).collect();
        let sql = "SELECT array_agg(pointsd.bucket_of(u)), pointsd.all_buckets() FROM unnest($1::uuid[]) AS u";
        let row = client.query_one(sql, &[&users]).await.unwrap();
        let ours: Vec<i16> = users.iter().map(|user| buckets.of(*user)).collect();
        assert_eq!(row.get::<_, Vec<i16>>(0), ours);
        assert_eq!(row.get::<_, Vec<i16>>(1), buckets.all().collect::<Vec<i16>>());
        let unused = buckets.all().filter(|bucket| !ours.contains(bucket)).count();
        assert!(unused * 20 <= usize::try_from(count).unwrap(), "{unused} of {count} buckets have no user");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn their_number_is_set_only_where_each_account_stays_in_its_own() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    for count in [0_i16, 3, 12, 512, -1] {
        let error = client.execute("SELECT pointsd.set_buckets($1)", &[&count]).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "22023", "{count}: {error:?}");
    }
    let now = at("2026-01-01T00:00:00Z");
    let postings: Vec<_> = (0..20).map(|nth| Posting::recharge(user(nth), 1, "gift", now).with_key("a")).collect();
    database.session().await.post(&postings, &rules()).await.unwrap();
    let other: i16 = if crate::support::buckets() == 1 { 64 } else { 1 };
    let error = client.execute("SELECT pointsd.set_buckets($1)", &[&other]).await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().constraint(), Some("accounts_in_own_bucket"), "{error:?}");
    assert_eq!(Buckets::read(&client).await.unwrap().count(), crate::support::buckets());
}

/// A group of all that the ledger can do, over accounts in many buckets, ends as it does in one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_may_mix_buckets() {
    let begin = at("2026-01-01T00:00:00Z");
    let later = begin + TimeDelta::days(40);
    let task = |task: &str| Reference::Work { source_type: "tts".to_owned(), source_id: task.to_owned() };
    let users = || (0..50).map(user);
    let groups: [Vec<Posting>; 4] = [
        users().map(|user| Posting::recharge(user, 100, "gift", begin).with_key("a")).collect(),
        users()
            .flat_map(|user| {
                let until = begin + TimeDelta::days(90);
                [
                    Posting::consume(user, 30, "tts", "x", begin),
                    Posting::hold(user, 5, "tts", "held", until, begin),
                    Posting::recharge(user, 10, "card", begin).with_key("b"),
                ]
            })
            .collect(),
        users()
            .flat_map(|user| [Posting::refund(user, task("x"), later), Posting::consume(user, 5, "tts", "held", later)])
            .collect(),
        // Late usage, and a replay.
        users()
            .flat_map(|user| {
                [Posting::consume(user, 50, "tts", "late", begin), Posting::consume(user, 30, "tts", "x", begin)]
            })
            .collect(),
    ];
    let mut outcomes = Vec::new();
    for count in [1, 64] {
        let database = TestDatabase::new().await;
        let client = database.client().await;
        set_buckets(&client, count).await;
        let mut session = database.session().await;
        let mut replies = Vec::new();
        for (group, swept_at) in groups.iter().zip([begin, begin, later, later]) {
            replies.push(session.post(group, &rules()).await.unwrap());
            let swept = session.sweep(swept_at, false, |_| true).await.unwrap();
            assert_eq!(swept.orphaned + swept.failed, 0);
        }
        assert!(replies.iter().flatten().all(|reply| reply.refusal().is_none()), "{replies:#?}");
        let used = "SELECT count(DISTINCT bucket) FROM pointsd.accounts";
        let used: i64 = client.query_one(used, &[]).await.unwrap().get(0);
        assert_eq!(used > 20, count > 1, "{used}");
        let replies: Vec<String> = replies.iter().map(|replies| format!("{replies:?}")).collect();
        outcomes.push((replies, rows::Rows::read(&client).await));
    }
    assert_eq!(outcomes[0].0, outcomes[1].0);
    rows::assert_same(&outcomes[0].1, &outcomes[1].1, "in one bucket and in many");
}

/// A session that knows another number of buckets writes nothing and tells nothing of accounts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_with_an_old_number_is_refused() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    let now = at("2026-01-01T00:00:00Z");
    let recharge = |nth| Posting::recharge(user(nth), 1, "gift", now).with_key("a");
    set_buckets(&client, 1).await;
    let mut old = database.session().await;
    let poster = Poster::start(&database.database().await, &Arc::new(rules()), 1);
    let unknown = Posting::refund(user(1), Reference::Key("unknown".to_owned()), now);
    assert!(post_all(&poster, vec![unknown.clone()]).await.unwrap()[0].refusal().is_some());
    set_buckets(&client, 64).await;
    for posting in [recharge(1), unknown] {
        let error = old.post(&[posting], &rules()).await.unwrap_err();
        assert!(matches!(error, Error::Redistributed) && error.is_transient(), "{error:?}");
    }
    // A poster opens a new session.
    let replies = post_all(&poster, (1..20).map(recharge).collect()).await.unwrap();
    assert!(replies.iter().all(|reply| matches!(reply, Reply::Posted(_))), "{replies:?}");
    // The old session knows the bucket 0 alone, so it finds only what is due there.
    let buckets = Buckets::read(&client).await.unwrap();
    let of_bucket_0 = (20..).find(|nth| buckets.of(user(*nth)) == 0).unwrap();
    assert!(matches!(poster.post(recharge(of_bucket_0)).await, Ok(Reply::Posted(_))));
    let swept = old.sweep(now + TimeDelta::days(1_000), false, |_| true).await;
    assert!(matches!(swept, Err(Error::Redistributed)), "{swept:?}");
    let session: Session<_> = database.session().await;
    for nth in [1, of_bucket_0] {
        assert_eq!(session.reader().balance(user(nth), now).await.unwrap().balance, 1, "user {nth}");
    }
}

/// Tells when a group was posted, and takes its time.
#[derive(Debug)]
struct Slow(tokio::sync::mpsc::UnboundedSender<&'static str>);

impl GroupObserver for Slow {
    fn group_ended(&self, _: &[Posting], _: Result<&[Reply], &Error>, _: Duration) {
        self.0.send("began").unwrap();
        std::thread::sleep(Duration::from_millis(500));
        self.0.send("ended").unwrap();
    }
}

/// After a poster was closed no lane is at work, also where each node has a queue of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poster_that_was_closed_has_ended() {
    for buckets in [1, 64] {
        let database = TestDatabase::new().await;
        set_buckets(&database.client().await, buckets).await;
        let (handle, (tell, mut told)) = (database.database().await, tokio::sync::mpsc::unbounded_channel());
        let poster = Poster::start_for_calls(&handle, &Arc::new(rules()), 1, &(Arc::new(Slow(tell)) as _));
        let posting = Posting::recharge(user(1), 1, "gift", at("2026-01-01T00:00:00Z")).with_key("a");
        let under_way = poster.feed().hand_over(vec![posting]).await.unwrap();
        assert_eq!(told.recv().await, Some("began"));
        poster.close().await;
        assert_eq!(told.try_recv(), Ok("ended"), "{buckets} buckets");
        drop(under_way);
        handle.close().await.unwrap();
    }
}

/// Panics after the first group.
#[derive(Debug, Default)]
struct Panics(std::sync::atomic::AtomicBool);

impl GroupObserver for Panics {
    fn group_ended(&self, _: &[Posting], _: Result<&[Reply], &Error>, _: Duration) {
        assert!(self.0.swap(true, std::sync::atomic::Ordering::Relaxed), "the first group");
    }
}

/// A panic is told to the callers of its group, and to no later one. Nothing later of a feed is posted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_ends_no_lane() {
    for buckets in [1, 64] {
        let database = TestDatabase::new().await;
        set_buckets(&database.client().await, buckets).await;
        let handle = database.database().await;
        let poster = Poster::start_for_calls(&handle, &Arc::new(rules()), 1, &(Arc::new(Panics::default()) as _));
        let recharge = |key: &str| Posting::recharge(user(1), 1, "gift", at("2026-01-01T00:00:00Z")).with_key(key);
        let feed = poster.feed();
        let first = feed.hand_over(vec![recharge("a")]).await.unwrap().replies().await;
        assert!(matches!(*first.unwrap_err(), Error::Stopped), "{buckets} buckets");
        let later = feed.hand_over(vec![recharge("b")]).await.unwrap().replies().await;
        assert!(matches!(*later.unwrap_err(), Error::Stopped), "{buckets} buckets");
        assert!(matches!(poster.post(recharge("a")).await, Ok(Reply::Replayed(_))));
        assert!(matches!(poster.post(recharge("b")).await, Ok(Reply::Posted(_))));
        poster.close().await;
        handle.close().await.unwrap();
    }
}
