//! Many writers at once on a few accounts, with sweeps in between: nothing is lost, nothing is posted twice, and no
//! writer blocks another for good.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::{join, join_all, try_join_all};
use pointsd::ledger::{Beyond, Entry, EntryType, Kind, Poster, Posting, Reference, Refusal, Reply};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::groups::{shown, work};
use crate::model::rules;
use crate::support::rows::Rows;
use crate::support::{Waits, post_all};
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
        tokio::time::sleep(Duration::from_millis(10)).await;
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
                batches += session.sweep(when, false, |_| true).await.unwrap().batches;
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

/// A hand that locks no account changes a batch while the sweep is about to close it. The sweep takes it as the hand left it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_a_hand_changes_during_the_sweep_expires_as_it_is_then() {
    let end = at("2026-01-02T00:00:00Z");
    for (accounts, change, expire) in
        [(3, "source = source", 3), (1, "source = source", 1), (3, "expires_at = $2", 2), (1, "expires_at = $2", 0)]
    {
        let database = TestDatabase::new().await;
        recharge_until(&database, accounts, end).await;
        let mut hand = database.client().await;
        let hand = hand.transaction().await.unwrap();
        let change = format!("UPDATE pointsd.batches SET {change} WHERE user_id = $1 AND $2::timestamptz IS NOT NULL");
        assert_eq!(hand.execute(&change, &[&user(0), &(end + TimeDelta::days(1))]).await.unwrap(), 1);
        let mut session = database.session().await;
        let sweep = tokio::spawn(async move { session.sweep(end, false, |_| true).await.unwrap() });
        let client = database.client().await;
        until_waits_for(&client, "transactionid").await;
        hand.commit().await.unwrap();
        let swept = sweep.await.unwrap();
        assert_eq!((swept.batches, swept.points, swept.failed), (expire, 10 * expire as i64, 0), "{change}");
        let entries = Rows::read(&client).await.entries;
        let expired = entries.iter().filter(|entry| entry.kind == EntryType::Expire).count();
        assert_eq!(expired as u64, expire, "{change}");
        assert_eq!(database.session().await.sweep(end, false, |_| true).await.unwrap().batches, 0, "{change}");
    }
}

/// A trigger stands for a hand that changes an account's batches in each attempt: the others expire, and this one later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_that_never_close_hold_up_no_other_account() {
    let (database, end) = (TestDatabase::new().await, at("2026-01-02T00:00:00Z"));
    recharge_until(&database, 3, end).await;
    let (client, mut session) = (database.client().await, database.session().await);
    let keep = format!(
        "CREATE FUNCTION pointsd.keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER keep BEFORE UPDATE ON pointsd.batches FOR EACH ROW WHEN (OLD.user_id = '{}')
             EXECUTE FUNCTION pointsd.keep()",
        user(1)
    );
    client.batch_execute(&keep).await.unwrap();
    for dry_run in [true, false] {
        let swept = session.sweep(end, dry_run, |_| true).await.unwrap();
        assert_eq!((swept.batches, swept.accounts, swept.failed), (2, 2, 1), "dry run: {dry_run}");
    }
    client.batch_execute("DROP TRIGGER keep ON pointsd.batches; DROP FUNCTION pointsd.keep").await.unwrap();
    let swept = session.sweep(end, false, |_| true).await.unwrap();
    assert_eq!((swept.batches, swept.accounts, swept.failed), (1, 1, 0));
}

/// Accounts with a batch of ten points each that expires at `end`.
async fn recharge_until(database: &TestDatabase, accounts: u32, end: DateTime<Utc>) {
    let recharge = |nth| {
        let mut posting = Posting::recharge(user(nth), 10, "gift", end - TimeDelta::days(1)).with_key("order");
        if let Kind::Recharge { expires_at, .. } = &mut posting.kind {
            *expires_at = Some(end);
        }
        posting
    };
    database.session().await.post(&(0..accounts).map(recharge).collect::<Vec<_>>(), &rules()).await.unwrap();
}

/// Waits until a session waits for this.
async fn until_waits_for(client: &Client, event: &str) {
    let sql = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = $1";
    let waits = async {
        while client.query(sql, &[&event]).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(180), waits)
        .await
        .unwrap_or_else(|_| panic!("no session waits for {event}"));
}

fn order() -> Reference {
    Reference::Key("order".to_owned())
}

fn consume(user: Uuid, task: &str, points: i64) -> Posting {
    Posting::consume(user, points, "tts", task, now())
}

fn hold(user: Uuid, task: &str, points: i64) -> Posting {
    Posting::hold(user, points, "tts", task, now() + TimeDelta::days(1), now())
}

fn recharge(user: Uuid, key: &str) -> Posting {
    Posting::recharge(user, 100, "gift", now()).with_key(key)
}

/// A void of what remains of the recharge.
fn void(user: Uuid) -> Posting {
    let mut void = Posting::void(user, order(), now());
    let Kind::Void { beyond, .. } = &mut void.kind else { panic!("{void:?}") };
    *beyond = Beyond::Remaining;
    void
}

/// A group on a new account, and the replies to it.
type Case = (fn(Uuid) -> Vec<Posting>, &'static [&'static str]);

/// A group on an account that another transaction opens meanwhile is decided again, on what that one wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_two_open_at_once() {
    let database = TestDatabase::new().await;
    let (door, watch) = (database.client().await, database.client().await);
    let (mut first, mut second) = (database.session().await, database.session().await);
    let cases: [Case; 10] = [
        (|user| vec![consume(user, "b", 10)], &["posted 3"]),
        (|user| vec![recharge(user, "order")], &["replayed 1"]),
        (|user| vec![recharge(user, "other"), recharge(user, "order")], &["posted 3", "replayed 1"]),
        (|user| vec![consume(user, "a", 31)], &["key_conflict"]),
        (|user| vec![consume(user, "b", 10), Posting::refund(user, work("a"), now())], &["posted 3", "posted 4"]),
        (|user| vec![consume(user, "b", 10), void(user)], &["posted 3", "posted 4"]),
        (|user| vec![consume(user, "b", 10), hold(user, "i", 40)], &["posted 3", "held"]),
        (|user| vec![consume(user, "b", 10), hold(user, "i", 41)], &["posted 3", "insufficient"]),
        (|user| vec![consume(user, "b", 10), Posting::release(user, work("h"), now())], &["posted 3", "released"]),
        (|user| vec![consume(user, "h", 25), hold(user, "h", 20)], &["posted 3", "key_conflict"]),
    ];
    for (nth, (group, expected)) in (1..).zip(cases) {
        let user = user(nth);
        door.batch_execute("SELECT pg_advisory_lock(1)").await.unwrap();
        let opens = [recharge(user, "order"), consume(user, "a", 30), hold(user, "h", 20)];
        let opening = async { first.begin().post(&opens, &rules(), &Waits).await.unwrap() };
        let racing = async {
            until_waits_for(&watch, "advisory").await;
            let let_go = async {
                until_waits_for(&watch, "transactionid").await;
                door.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
            };
            let postings = group(user);
            join(second.post(&postings, &rules()), let_go).await.0.unwrap()
        };
        let (opened, replies) = join(opening, racing).await;
        assert_eq!(opened.iter().map(shown).collect::<Vec<_>>(), ["posted 1", "posted 2", "held"]);
        assert_eq!(replies.iter().map(shown).collect::<Vec<_>>(), expected, "case {nth}");
    }
    let rows = Rows::read(&watch).await;
    let captured: Vec<_> = rows.holds.iter().filter(|hold| hold.state == "captured").collect();
    assert_eq!(captured.len(), 1, "{captured:?}");
    assert!(rows.entries.iter().all(|entry| entry.balance_after >= 0), "what the other wrote was not there");
}

/// Sessions that open the same accounts with the same postings: each posting is done once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_that_many_open_at_once() {
    let mut rng = rng();
    let database = TestDatabase::new().await;
    let mut sessions = Vec::new();
    for _ in 0..5 {
        sessions.push(database.session().await);
    }
    for round in 0..30 {
        let users = [3 * round, 3 * round + 1, 3 * round + 2].map(user);
        let of_user = |user: Uuid| {
            [
                Posting::recharge(user, 100, "gift", now()).with_key("order"),
                consume(user, "a", 30),
                Posting::refund(user, work("a"), now()).with_points(10),
                hold(user, "h", 20),
                Posting::void(user, order(), now()).with_points(50),
                consume(user, "b", 70),
            ]
        };
        // Each in an order of its own, but for the postings of one account.
        let groups = sessions.iter_mut().map(|session| {
            let mut turns: Vec<Uuid> = users.iter().flat_map(|user| [*user; 6]).collect();
            rng.shuffle(&mut turns);
            let mut rest = users.map(|user| (user, of_user(user).into_iter()));
            let next = |turn| rest.iter_mut().find(|(user, _)| *user == turn).and_then(|(_, rest)| rest.next());
            let group: Vec<Posting> = turns.into_iter().filter_map(next).collect();
            async move { session.post(&group, &rules()).await.map(|replies| (group, replies)) }
        });
        let mut done = HashMap::<(Uuid, String), Vec<&'static str>>::new();
        for (group, replies) in try_join_all(groups).await.unwrap() {
            for (posting, reply) in group.iter().zip(&replies) {
                let key = posting.key.clone().or_else(|| posting.default_key()).unwrap();
                let kind = if matches!(posting.kind, Kind::Hold { .. }) { "hold " } else { "" };
                done.entry((posting.user, format!("{kind}{key}"))).or_default().push(reply.status());
            }
        }
        assert_eq!(done.len(), 18);
        for (posting, mut statuses) in done {
            statuses.sort_unstable();
            let first = if posting.1.starts_with("hold") { "held" } else { "posted" };
            assert_eq!(statuses, [first, "replayed", "replayed", "replayed", "replayed"], "round {round}: {posting:?}");
        }
    }
    drop(sessions);
    assert_eq!(deadlocks(&database.client().await).await, 0);
}

/// Refunds of one consume, and voids of one recharge, race each other: together they take what there was, and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refunds_and_voids_at_once_take_no_more_than_there_was() {
    let database = TestDatabase::new().await;
    let mut session = database.session().await;
    let handle = database.database().await;
    let posters = [1, 2].map(|lanes| Poster::start(&handle, &Arc::new(rules()), lanes));
    for round in 0..15 {
        let user = user(round);
        let begin = [Posting::recharge(user, 100, "gift", now()).with_key("order"), consume(user, "a", 100)];
        session.post(&begin, &rules()).await.unwrap();
        let callers = (0..12).map(|nth| {
            let posting = match nth % 2 {
                0 => Posting::refund(user, work("a"), now()),
                _ => Posting::void(user, order(), now()),
            };
            let posting = posting.with_points(30).with_key(format!("back {nth}"));
            let poster = posters[nth / 2 % 2].clone();
            tokio::spawn(async move { (nth % 2, poster.post(posting).await.unwrap()) })
        });
        let mut seen = HashMap::<(usize, &str), usize>::new();
        for (kind, reply) in try_join_all(callers).await.unwrap() {
            *seen.entry((kind, reply.refusal().map_or(reply.status(), Refusal::code))).or_default() += 1;
        }
        let expected =
            [((0, "posted"), 3), ((0, "exceeds_consumed"), 3), ((1, "posted"), 3), ((1, "exceeds_recharge"), 3)];
        assert_eq!(seen, HashMap::from(expected), "round {round}");
    }
}

/// Callers that share a group with a damaged account do not share its error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_account_fails_its_own_callers_alone() {
    let mut database = TestDatabase::new().await;
    database.expect_damage();
    let poster = Poster::start(&database.database().await, &Arc::new(rules()), 1);
    let recharges = (0..20).map(|nth| Posting::recharge(user(nth), 100, "gift", now()).with_key("a")).collect();
    post_all(&poster, recharges).await.unwrap();
    // The next entry gets the number of the last one.
    let damage = format!("UPDATE pointsd.accounts SET last_seq = 0 WHERE user_id = '{}'", user(7));
    database.client().await.batch_execute(&damage).await.unwrap();
    let posted = join_all((0..20).map(|nth| poster.post(consume(user(nth), "b", 1)))).await;
    for (nth, posted) in posted.iter().enumerate() {
        match posted {
            Ok(reply) => assert!(nth != 7 && reply.status() == "posted", "{nth}: {reply:?}"),
            Err(error) => {
                assert!(nth == 7 && pointsd::errors::chain(error).contains("entries_pkey"), "{nth}: {error:?}")
            }
        }
    }
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
