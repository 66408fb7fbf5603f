//! Requests that fail, connections that die, takers that freeze.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pointsd::ledger::Posting;
use pointsd::requests::{Filter, PutBackAll, State};
use tokio_postgres::Client;

use super::{
    SETTINGS, Server, TestDatabase, all_done, asleep, at, number, outcomes, recharge, rng, rules, until, user,
};
use crate::support::Waits;
use crate::support::invariants::check_invariants;

const SPOIL: &str = "
    CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF new.user_id = '00001111-0000-4000-8000-000000000007' AND new.type = 'consume' THEN
            RAISE EXCEPTION 'this one is spoilt';
        END IF;
        RETURN new;
    END $$;
    CREATE TRIGGER spoil BEFORE INSERT ON pointsd.entries FOR EACH ROW EXECUTE FUNCTION spoil()";

/// A failing request is found, holds up only its own account, is parked, and can be put back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisoned_request_holds_up_its_own_account_only() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    recharge(&database, 20).await;
    client.batch_execute(SPOIL).await.unwrap();
    // Five requests for each of twenty accounts; the eighth account's are 8, 28, 48, 68 and 88.
    let insert = "INSERT INTO pointsd.requests (op, user_id, points, source_type, source_id)
                  SELECT 'consume', ('00001111-0000-4000-8000-' || lpad(to_hex(i % 20), 12, '0'))::uuid, 1, 'tts', i::text
                  FROM generate_series(0, 99) AS i";
    client.batch_execute(insert).await.unwrap();
    let server = Server::start(&database, SETTINGS).await;
    let state = |attempts: i32, state: &str, others: &str| {
        format!(
            "SELECT (SELECT (state, attempts) = ('{state}', {attempts}) FROM pointsd.requests WHERE id = 8)
                AND (SELECT array_agg(state ORDER BY id) = '{others}' FROM pointsd.requests WHERE id IN (28, 48, 68, 88))
                AND (SELECT count(*) = 95 FROM pointsd.requests_done WHERE state = 'posted')"
        )
    };
    let pending = "{pending,pending,pending,pending}";
    until(&client, &state(1, "waiting", pending)).await;
    let why: String = client.query_one("SELECT message FROM pointsd.requests WHERE id = 8", &[]).await.unwrap().get(0);
    assert!(why.contains("this one is spoilt"), "{why}");
    // The first pause is the configured one, the second twice that.
    let pause = "SELECT round(extract(epoch FROM retry_at - clock_timestamp()) / 600)::bigint FROM pointsd.requests WHERE id = 8";
    assert_eq!(number(&client, pause).await, 6);
    asleep(&server).await;
    let time_passes = "UPDATE pointsd.requests SET retry_at = now() WHERE state = 'waiting'; NOTIFY pointsd_requests";
    client.batch_execute(time_passes).await.unwrap();
    until(&client, &state(2, "waiting", pending)).await;
    assert_eq!(number(&client, pause).await, 12);
    client.batch_execute(time_passes).await.unwrap();
    // Parked after two further tries: the next one has its turn, and fails as well.
    until(&client, &state(3, "parked", "{waiting,pending,pending,pending}")).await;
    assert_eq!(server.stats.parked(), 1);
    client.batch_execute("DROP TRIGGER spoil ON pointsd.entries").await.unwrap();
    client.batch_execute(time_passes).await.unwrap();
    all_done(&client).await;
    until(&client, &state(3, "parked", "{posted,posted,posted,posted}").replace("95", "99")).await;
    let put_back = pointsd::requests::retry(&client, &[8]).await.unwrap();
    assert!(put_back[0].done());
    all_done(&client).await;
    assert_eq!(number(&client, "SELECT count(*) FROM pointsd.requests_done WHERE state = 'posted'").await, 100);
    let late = "SELECT seq FROM pointsd.requests WHERE id = 8";
    assert_eq!(number(&client, late).await, 6, "a recharge, four consumes, and this");
    assert_eq!(server.stop().await.posted(), 100);
}

/// A fault that is not one request's own stops the queue and uses up no request's tries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_of_all_parks_no_request() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    recharge(&database, 12).await;
    let spoil = |code: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN RAISE EXCEPTION 'all are spoilt' USING ERRCODE = '{code}'; END $$;
             CREATE OR REPLACE TRIGGER spoil BEFORE INSERT ON pointsd.entries FOR EACH ROW EXECUTE FUNCTION spoil()"
        )
    };
    client.batch_execute(&spoil("P0001")).await.unwrap();
    let insert = "INSERT INTO pointsd.requests (op, user_id, points, source_type, source_id)
                  SELECT 'consume', ('00001111-0000-4000-8000-' || lpad(to_hex(i % 12), 12, '0'))::uuid, 1, 'tts', i::text
                  FROM generate_series(0, 35) AS i";
    client.batch_execute(insert).await.unwrap();
    let server = Server::start(&database, SETTINGS).await;
    let stuck =
        |lanes: usize| crate::program::eventually("the lanes stop", || (server.stats.stuck() == lanes).then_some(()));
    tokio::task::block_in_place(|| stuck(4));
    // The first one alone cannot be told from a spoilt request.
    let tried = "SELECT sum(attempts)::bigint FROM pointsd.requests";
    assert!(number(&client, tried).await <= 1);
    // Another fault of all follows.
    client.batch_execute(&spoil("42501")).await.unwrap();
    tokio::task::block_in_place(|| stuck(4));
    client.batch_execute("DROP TRIGGER spoil ON pointsd.entries; UPDATE pointsd.requests SET retry_at = now() WHERE state = 'waiting'").await.unwrap();
    all_done(&client).await;
    assert_eq!(
        number(&client, "SELECT count(*) FROM pointsd.requests WHERE state = 'posted' AND attempts <= 1").await,
        36
    );
    assert_eq!(server.stats.stuck(), 0);
    assert_eq!(server.stop().await.parked(), 0);
}

/// Two spoilt requests, of different accounts and alike, are no fault of all while others are posted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_spoilt_requests_stop_no_other() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    recharge(&database, 12).await;
    client
        .batch_execute(
            &SPOIL.replace("new.user_id = '00001111-0000-4000-8000-000000000007'", "new.source_id IN ('4', '8')"),
        )
        .await
        .unwrap();
    let insert = "INSERT INTO pointsd.requests (op, user_id, points, source_type, source_id)
                  SELECT 'consume', ('00001111-0000-4000-8000-' || lpad(to_hex(i), 12, '0'))::uuid, 1, 'tts', i::text
                  FROM generate_series(0, 11) AS i";
    client.batch_execute(insert).await.unwrap();
    let server = Server::start(&database, SETTINGS).await;
    let state = "SELECT count(*) FILTER (WHERE state = 'posted') = 10 AND count(*) FILTER (WHERE state = 'waiting') = 2 FROM pointsd.requests";
    until(&client, state).await;
    server.stop().await;
}

/// A row locked by an open transaction fails only the requests of its own account.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_account_holds_up_no_other() {
    let database = TestDatabase::new().await;
    let (client, hand) = (database.client().await, database.client().await);
    recharge(&database, 20).await;
    hand.batch_execute(&format!("BEGIN; SELECT FROM pointsd.accounts WHERE user_id = '{}' FOR UPDATE", user(8)))
        .await
        .unwrap();
    // All in one lane.
    let insert = "INSERT INTO pointsd.requests (op, user_id, points, source_type, source_id)
                  SELECT 'consume', ('00001111-0000-4000-8000-' || lpad(to_hex(i * 4), 12, '0'))::uuid, 1, 'tts', 'x'
                  FROM generate_series(0, 3) AS i";
    client.batch_execute(insert).await.unwrap();
    let server = Server::start(&database, SETTINGS).await;
    until(
        &client,
        "SELECT (SELECT state = 'waiting' AND message LIKE '%lock timeout%' FROM pointsd.requests WHERE id = 3)
                       AND (SELECT count(*) = 3 FROM pointsd.requests_done WHERE state = 'posted')",
    )
    .await;
    hand.batch_execute("COMMIT").await.unwrap();
    client
        .batch_execute("UPDATE pointsd.requests SET retry_at = now() WHERE state = 'waiting'; NOTIFY pointsd_requests")
        .await
        .unwrap();
    until(&client, "SELECT state = 'posted' FROM pointsd.requests WHERE id = 3").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_was_deleted_by_hand_is_refused() {
    let mut database = TestDatabase::new().await;
    database.expect_damage();
    let client = database.client().await;
    recharge(&database, 10).await;
    client.batch_execute(&format!("DELETE FROM pointsd.accounts WHERE user_id = '{}'", user(7))).await.unwrap();
    let insert = "INSERT INTO pointsd.requests (op, user_id, points, source_type, source_id)
                  SELECT 'consume', ('00001111-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid, 1, 'tts', 'x'
                  FROM unnest(ARRAY[3, 7, 3]) AS i";
    client.batch_execute(insert).await.unwrap();
    let server = Server::start(&database, SETTINGS).await;
    all_done(&client).await;
    assert_eq!(outcomes(&client).await, ["1 posted 2", "2 refused account_missing", "3 replayed 2"]);
    server.stop().await;
}

/// A taker that is ended after it wrote to the ledger and before it committed has done nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effect_and_outcome_commit_together() {
    let database = TestDatabase::new().await;
    let (client, gate) = (database.client().await, database.client().await);
    recharge(&database, 1).await;
    // The outcome is written last; there it has to wait, and tells how the session is set.
    client
        .batch_execute(
            "CREATE TABLE public.seen (frozen text, entries bigint);
             CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 SET LOCAL lock_timeout = 0;
                 PERFORM pg_advisory_xact_lock(1);
                 INSERT INTO public.seen SELECT current_setting('idle_in_transaction_session_timeout'), count(*) FROM pointsd.entries;
                 RETURN new;
             END $$;
             CREATE TRIGGER wait BEFORE INSERT ON pointsd.requests_done FOR EACH ROW EXECUTE FUNCTION wait()",
        )
        .await
        .unwrap();
    gate.batch_execute("SELECT pg_advisory_lock(1)").await.unwrap();
    let server = Server::start(&database, SETTINGS).await;
    let enqueue =
        format!("SELECT pointsd.enqueue('consume', '{}', 5, source_type => 'tts', source_id => 'x')", user(0));
    client.batch_execute(&enqueue).await.unwrap();
    let held = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'advisory'";
    for _ in 0..3 {
        until(&client, &format!("SELECT count(*) = 1 {held}")).await;
        assert_eq!(number(&client, "SELECT count(*) FROM pointsd.entries").await, 1);
        assert_eq!(outcomes(&client).await, ["1 pending"]);
        client.query_one(&format!("SELECT count(pg_terminate_backend(pid, 10000)) {held}"), &[]).await.unwrap();
    }
    gate.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    all_done(&client).await;
    assert_eq!(outcomes(&client).await, ["1 posted 2"]);
    assert_eq!(
        number(&client, "SELECT attempts::bigint FROM pointsd.requests").await,
        0,
        "it was not the request's fault"
    );
    let row = client.query_one("SELECT frozen, entries FROM public.seen", &[]).await.unwrap();
    // A frozen taker's session is ended by the server, which frees the lane.
    assert_eq!((row.get::<_, &str>(0), row.get::<_, i64>(1)), ("10s", 2));
    server.stop().await;
}

/// A daemon that holds a lane keeps others out of that lane only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_whose_lock_is_held_waits_and_the_others_go_on() {
    let database = TestDatabase::new().await;
    let (client, frozen) = (database.client().await, database.client().await);
    frozen
        .batch_execute(
            "SET idle_in_transaction_session_timeout = '1s'; BEGIN; SELECT FROM pointsd.request_lanes WHERE lane = 1 FOR UPDATE",
        )
        .await
        .unwrap();
    let server = Server::start(&database, SETTINGS).await;
    let insert = "INSERT INTO pointsd.requests (op, user_id, points, source_type, source_id)
                  SELECT 'consume', ('00001111-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid, 1, 'tts', 'x'
                  FROM generate_series(0, 3) AS i";
    client.batch_execute(insert).await.unwrap();
    until(&client, "SELECT count(*) = 3 FROM pointsd.requests_done").await;
    assert_eq!(number(&client, "SELECT lane::bigint FROM pointsd.requests_open").await, 1);
    // The server ends the idle session.
    all_done(&client).await;
    assert!(frozen.batch_execute("COMMIT").await.is_err());
    server.stop().await;
}

/// A request that waits for another try, and a session in a group of its lane.
async fn one_waits_while_a_group_is_under_way(client: &Client, lane: &Client) {
    let enqueue =
        format!("SELECT pointsd.enqueue('consume', '{}', 1, source_type => 'tts', source_id => 'a')", user(1));
    client.batch_execute(&enqueue).await.unwrap();
    let failed = "UPDATE pointsd.requests SET state = 'waiting', retry_at = 'infinity', code = 'failed', message = 'held', attempts = 1";
    client.batch_execute(failed).await.unwrap();
    lane.batch_execute("BEGIN").await.unwrap();
    lane.query_one(include_str!("../../sql/requests/lane_lock.sql"), &[&1_i16]).await.unwrap();
}

/// A daemon reads which requests wait, then the next ones. One that is put back in between would be overlooked in both, and those behind it
/// be passed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_put_back_between_two_groups() {
    let database = TestDatabase::new().await;
    let (client, lane, other) = (database.client().await, database.client().await, database.client().await);
    one_waits_while_a_group_is_under_way(&client, &lane).await;
    let retry = tokio::spawn(async move { pointsd::requests::retry(&other, &[1]).await.unwrap() });
    let blocked = "SELECT EXISTS (SELECT FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
                   WHERE NOT l.granted AND a.datname = current_database())";
    while !client.query_one(blocked, &[]).await.unwrap().get::<_, bool>(0) {
        assert!(!retry.is_finished(), "it was put back in the middle of a group");
    }
    lane.batch_execute("COMMIT").await.unwrap();
    assert!(retry.await.unwrap()[0].done());
}

/// A lane locks its row and then its requests. So does an order that puts all back, so neither waits for the other for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn putting_all_back_stops_no_lane() {
    let database = TestDatabase::new().await;
    let (client, lane, mut other) = (database.client().await, database.client().await, database.client().await);
    one_waits_while_a_group_is_under_way(&client, &lane).await;
    let retry =
        tokio::spawn(async move { pointsd::requests::retry_all(&mut other, &Filter::default()).await.unwrap() });
    until(
        &client,
        "SELECT EXISTS (SELECT FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
                        WHERE NOT l.granted AND a.datname = current_database())",
    )
    .await;
    // The lane's try fails once more.
    let fail = include_str!("../../sql/requests/request_fail.sql");
    lane.query_one(fail, &[&1_i16, &1_i64, &5_i32, &3_600_000_i64, &"held again"]).await.unwrap();
    lane.batch_execute("COMMIT").await.unwrap();
    assert_eq!(retry.await.unwrap(), PutBackAll { count: 1, span: Some((1, 1)) });
    assert_eq!(outcomes(&client).await, ["1 pending"]);
}

/// Many requests are put back in steps. A later step has higher numbers, so an account's requests keep their order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_are_put_back_in_steps_and_in_order() {
    let database = TestDatabase::new().await;
    let mut client = database.client().await;
    // Of each three, one is parked, one refused and one waiting; one in a hundred is in the books.
    let insert = "INSERT INTO pointsd.requests (op, user_id, points, source_type, source_id)
                  SELECT 'consume', ('00001111-0000-4000-8000-' || lpad(to_hex(i % 20), 12, '0'))::uuid, 1, 'tts', i::text
                  FROM generate_series(1, 25000) AS i;
                  UPDATE pointsd.requests SET attempts = 1,
                      state = CASE WHEN id % 100 = 0 THEN 'posted' ELSE (ARRAY['parked', 'refused', 'waiting'])[1 + id % 3] END,
                      seq = CASE WHEN id % 100 = 0 THEN 1 END, code = CASE WHEN id % 100 > 0 THEN 'x' END,
                      message = CASE WHEN id % 100 > 0 THEN 'x' END,
                      retry_at = CASE WHEN id % 100 > 0 AND id % 3 = 2 THEN 'infinity'::timestamptz END,
                      finished_at = CASE WHEN id % 100 = 0 OR id % 3 < 2 THEN now() END";
    client.batch_execute(insert).await.unwrap();
    let of_user = Filter { user: Some(user(1)), state: Some(State::Refused), code: Some("x".to_owned()) };
    let put_back = pointsd::requests::retry_all(&mut client, &of_user).await.unwrap();
    assert_eq!(put_back, PutBackAll { count: 417, span: Some((1, 24_961)) });
    let all = pointsd::requests::retry_all(&mut client, &Filter::default()).await.unwrap();
    assert_eq!(all, PutBackAll { count: 24_750 - 417, span: Some((2, 24_999)) });
    let sound = "SELECT count(*) FROM pointsd.requests_open WHERE state = 'pending' AND attempts = 0";
    assert_eq!(number(&client, sound).await, 24_750);
    // The step of the one user stands before three others.
    let steps = "SELECT count(*) FILTER (WHERE first > last_before) FROM (
                     SELECT first, lag(last) OVER (ORDER BY step) AS last_before FROM (
                         SELECT xmin::text::bigint AS step, min(id) AS first, max(id) AS last FROM pointsd.requests_open GROUP BY 1
                     ) AS steps OFFSET 1
                 ) AS later";
    assert_eq!(number(&client, steps).await, 2);
    let none = pointsd::requests::retry_all(&mut client, &Filter::default()).await.unwrap();
    assert_eq!(none, PutBackAll::default());
}

/// Two daemons, four applications, and sessions of the daemons that are ended at random.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_request_is_posted_once_and_in_order_though_processes_die() {
    const WRITERS: u32 = 4;
    const REQUESTS: u32 = 1_500;
    let database = TestDatabase::new().await;
    let client = database.client().await;
    let mut random = rng();
    // A backlog, so that lanes also read ahead.
    let backlog = "INSERT INTO pointsd.requests (op, user_id, points, source_type, source_id)
                   SELECT 'consume', ('00001111-0000-4000-8000-' || lpad(to_hex(1000 + i % 400), 12, '0'))::uuid, 1, 'tts', i::text
                   FROM generate_series(1, 20000) AS i";
    client.batch_execute(backlog).await.unwrap();
    let servers = [Server::start(&database, SETTINGS).await, Server::start(&database, SETTINGS).await];
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (own, mut random) = (database.client().await, random.fork());
        writers.spawn(async move {
            let mut nth = 0;
            while nth < REQUESTS {
                // Accounts of its own, so that their requests are committed in the order of their numbers.
                let account = user(writer + WRITERS * random.u32(0..10));
                let count = random.u32(1..40).min(REQUESTS - nth);
                let insert = format!(
                    "INSERT INTO pointsd.requests (op, user_id, points, source, order_id, source_type, source_id)
                     SELECT CASE WHEN i % 3 = 0 THEN 'recharge' ELSE 'consume' END, '{account}', 1 + i % 7,
                            CASE WHEN i % 3 = 0 THEN 'gift' END, CASE WHEN i % 3 = 0 THEN i END,
                            CASE WHEN i % 3 > 0 THEN 'tts' END, CASE WHEN i % 3 > 0 THEN i::text END
                     FROM generate_series({nth}, {nth} + {count} - 1) AS i"
                );
                own.batch_execute(&insert).await.unwrap();
                nth += count;
                tokio::time::sleep(Duration::from_millis(random.u64(0..20))).await;
            }
        });
    }
    let written = Arc::new(AtomicBool::new(false));
    let killer = tokio::spawn({
        let (own, written) = (database.client().await, Arc::clone(&written));
        async move {
            let mut killed = 0;
            while !written.load(Ordering::SeqCst) {
                let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                            WHERE datname = current_database() AND application_name <> 'test'
                            ORDER BY xact_start IS NULL, random() LIMIT 1";
                killed += own.query(kill, &[]).await.unwrap().len();
                tokio::time::sleep(Duration::from_millis(random.u64(5..40))).await;
            }
            killed
        }
    });
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    written.store(true, Ordering::SeqCst);
    let killed = killer.await.unwrap();
    assert!(killed > 10, "only {killed} sessions were ended");
    all_done(&client).await;
    let total = i64::from(WRITERS * REQUESTS) + 20_000;
    // A group that committed just when its session died is counted by no daemon.
    assert_eq!(
        number(&client, "SELECT count(*) FROM pointsd.requests_done WHERE state = 'posted' AND attempts = 0").await,
        total
    );
    assert_eq!(number(&client, "SELECT count(*) FROM pointsd.entries WHERE key IS NOT NULL").await, total);
    let out_of_order = "SELECT count(*) FROM (
                            SELECT id < max(id) OVER (PARTITION BY user_id ORDER BY seq ROWS UNBOUNDED PRECEDING) AS late
                            FROM pointsd.requests_done) AS r WHERE late";
    assert_eq!(number(&client, out_of_order).await, 0);
    for server in servers {
        server.stop().await;
    }
    check_invariants(&client).await;
}

/// Rows that a person wrote into the table hold up no other account.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_in_the_table_stops_no_lane() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    let enqueue = |nth: u32, task: &str| {
        let user = user(nth);
        format!("SELECT pointsd.enqueue('consume', '{user}', 1, source_type => 'tts', source_id => '{task}')")
    };
    // This request waits for ever.
    client.batch_execute(&enqueue(1, "held")).await.unwrap();
    client
        .batch_execute(
            "UPDATE pointsd.requests SET state = 'waiting', retry_at = 'infinity', code = 'failed', message = 'held', attempts = 1",
        )
        .await
        .unwrap();
    let server = Server::start(&database, SETTINGS).await;
    client.batch_execute(&enqueue(5, "same lane")).await.unwrap();
    until(&client, "SELECT EXISTS (SELECT FROM pointsd.requests_done WHERE source_id = 'same lane')").await;
    // One has the id of another that is over.
    let again = format!(
        "INSERT INTO pointsd.requests (id, op, user_id, points, source_type, source_id) OVERRIDING SYSTEM VALUE
         VALUES (2, 'consume', '{}', 1, 'tts', 'second of its id')",
        user(5)
    );
    client.batch_execute(&again).await.unwrap();
    until(&client, "SELECT EXISTS (SELECT FROM pointsd.requests_done WHERE source_id = 'second of its id')").await;
    let below = again.replace("VALUES (2,", "VALUES (0,");
    let error = client.batch_execute(&below).await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().constraint(), Some("requests_id_positive"));
    assert_eq!(server.stats.stuck(), 0);
    let due = "UPDATE pointsd.requests SET retry_at = '-infinity' WHERE state = 'waiting'; NOTIFY pointsd_requests";
    client.batch_execute(due).await.unwrap();
    until(&client, "SELECT count(*) = 3 FROM pointsd.requests_done WHERE state = 'posted'").await;
    server.stop().await;
}

/// A group on accounts that another transaction opens meanwhile is decided again at once: no request has to wait for a further try.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_that_a_caller_opens_at_the_same_time() {
    let database = TestDatabase::new().await;
    let (door, client, mut session) = (database.client().await, database.client().await, database.session().await);
    door.batch_execute("SELECT pg_advisory_lock(1)").await.unwrap();
    let at = at("2026-01-01T00:00:00Z");
    let opens: Vec<_> = (0..5).map(|nth| Posting::consume(user(nth), 1, "tts", "by a caller", at)).collect();
    let rules = rules();
    let opening = async { session.begin().post(&opens, &rules, &Waits).await.unwrap() };
    let racing = async {
        let in_hand = |statement: &str| {
            format!(
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'
                                AND pid <> pg_backend_pid() AND query ILIKE '%{statement}%')"
            )
        };
        until(&client, &in_hand("pg_advisory_xact_lock")).await;
        let insert = "INSERT INTO pointsd.requests (op, user_id, points, source_type, source_id)
                      SELECT 'consume', ('00001111-0000-4000-8000-' || lpad(to_hex(i), 12, '0'))::uuid, 1, 'tts', i::text
                      FROM generate_series(0, 4) AS i";
        client.batch_execute(insert).await.unwrap();
        let server = Server::start(&database, SETTINGS).await;
        until(&client, &in_hand("INSERT INTO pointsd.accounts")).await;
        door.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
        all_done(&client).await;
        server.stop().await;
    };
    tokio::join!(opening, racing);
    let expected: Vec<_> = (1..=5).map(|id| format!("{id} posted 2")).collect();
    assert_eq!(outcomes(&client).await, expected);
    check_invariants(&client).await;
}
