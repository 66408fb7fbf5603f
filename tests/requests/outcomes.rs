//! The outcomes of requests.

use std::time::Duration;

use pointsd::requests::Settings;

use super::{SETTINGS, Server, TestDatabase, all_done, asleep, number, outcomes, recharge, rng, until, user};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_rolled_back_is_not_posted() {
    let database = TestDatabase::new().await;
    let (client, other) = (database.client().await, database.client().await);
    let server = Server::start(&database, SETTINGS).await;
    asleep(&server).await;
    let enqueue = |task: &str| {
        let user = user(1);
        format!("SELECT pointsd.enqueue('consume', '{user}', 5, source_type => 'tts', source_id => '{task}')")
    };
    client.batch_execute(&format!("BEGIN; {}; {}", enqueue("never"), enqueue("never"))).await.unwrap();
    other.batch_execute(&enqueue("once")).await.unwrap();
    until(&other, "SELECT EXISTS (SELECT FROM pointsd.requests_done WHERE state = 'posted')").await;
    client.batch_execute("ROLLBACK").await.unwrap();
    client.batch_execute(&format!("BEGIN; {}; COMMIT", enqueue("twice"))).await.unwrap();
    until(&client, "SELECT count(*) = 2 FROM pointsd.requests_done").await;
    asleep(&server).await;
    assert_eq!(outcomes(&client).await, ["3 posted 1", "4 posted 2"]);
    assert_eq!(number(&client, "SELECT sum(amount)::bigint FROM pointsd.entries").await, 10);
    let stats = server.stop().await;
    assert_eq!((stats.posted(), stats.refused()), (2, 0));
}

/// Columns, values and outcomes: a malformed request does not harm its group, and its neighbours are posted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_outcome_and_its_reason() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    let consume = "op, points, source_type, source_id";
    let recharge = "op, points, source, order_id";
    let long = "'".to_owned() + &"é".repeat(2_000) + "'";
    let cases: Vec<(String, String, &str, &str)> = vec![
        ("op, points, source, order_id".into(), "'recharge', 10, 'gift', 1".into(), "posted", ""),
        ("op, points, source, order_id".into(), "'recharge', 10, 'gift', 1".into(), "replayed", ""),
        ("op, points, source, order_id".into(), "'recharge', 11, 'gift', 1".into(), "refused", "key_conflict"),
        ("op, points, source, order_id".into(), "'recharge', 10, 'elsewhere', 1".into(), "refused", "unknown_source"),
        ("op, points, source".into(), "'recharge', 10, 'gift'".into(), "refused", "needs an order_id or a key"),
        ("op, points, order_id".into(), "'recharge', 10, 1".into(), "refused", "source is missing"),
        (consume.into(), "'consume', 0, 'tts', 'a'".into(), "refused", "invalid_points"),
        (consume.into(), "'consume', -1, 'tts', 'b'".into(), "refused", "invalid_points"),
        (consume.into(), "'consume', 1, NULL, 'c'".into(), "refused", "source_type is missing"),
        (consume.into(), "'consume', 1, 'tts', ''".into(), "refused", "source_id is empty"),
        (consume.into(), format!("'consume', 1, 'tts', {long}"), "refused", "source_id is longer than"),
        (
            format!("{consume}, description"),
            format!("'consume', 1, 'tts', 'd', {long}"),
            "refused",
            "description is longer",
        ),
        (format!("{consume}, source"), "'consume', 1, 'tts', 'e', 'gift'".into(), "refused", "source does not belong"),
        (format!("{consume}, duration"), "'consume', 1, 'tts', 'f', 'NaN'".into(), "refused", "duration"),
        (format!("{consume}, duration"), "'consume', 1, 'tts', 'g', 'infinity'".into(), "refused", "duration"),
        (format!("{consume}, duration"), "'consume', 1, 'tts', 'h', -1".into(), "refused", "duration"),
        (format!("{consume}, duration"), "'consume', 1, 'tts', 'i', 10::numeric ^ 200".into(), "refused", "duration"),
        (format!("{consume}, duration"), "'consume', 1, 'tts', 'j', 3.25".into(), "posted", ""),
        (format!("{consume}, at"), "'consume', 1, 'tts', 'k', 'infinity'".into(), "refused", "at is outside"),
        (format!("{consume}, at"), "'consume', 1, 'tts', 'l', '-infinity'".into(), "refused", "at is outside"),
        (format!("{consume}, enqueued_at"), "'consume', 1, 'tts', 'l1', 'infinity'".into(), "posted", ""),
        (format!("{consume}, enqueued_at"), "'consume', 1, 'tts', 'l2', '4000-01-01 BC'".into(), "posted", ""),
        (format!("{consume}, at"), "'consume', 1, 'tts', 'm', '290000-01-01'".into(), "refused", "at is outside"),
        (format!("{consume}, at"), "'consume', 1, 'tts', 'n', '4000-01-01 BC'".into(), "refused", "at is outside"),
        (
            "op, points, source, order_id, expires_at".into(),
            "'recharge', 1, 'gift', 2, 'infinity'".into(),
            "refused",
            "expires_at is outside",
        ),
        (
            "op, points, source, order_id, expires_at".into(),
            "'recharge', 1, 'gift', 3, '2020-01-01'".into(),
            "refused",
            "already_expired",
        ),
        (format!("{recharge}, paid, currency"), "'recharge', 1, 'gift', 4, 199, 'CNY'".into(), "posted", ""),
        (format!("{recharge}, paid"), "'recharge', 1, 'gift', 5, 199".into(), "refused", "currency is missing"),
        (
            format!("{recharge}, paid, currency"),
            "'recharge', 1, 'gift', 6, 199, repeat('CNY', 9)".into(),
            "refused",
            "is no currency of ISO 4217",
        ),
        (consume.into(), "'consume', 2, 'tts', 'z'".into(), "posted", ""),
        ("op, of, at".into(), "'refund', 'nowhere', 'infinity'".into(), "refused", "at is outside"),
        ("op, of".into(), "'refund', 'nowhere'".into(), "refused", "unknown_entry"),
        ("op".into(), "'refund'".into(), "refused", "source_type is missing"),
        (
            "op, of, source_type".into(),
            "'refund', 'a', 'tts'".into(),
            "refused",
            "a refund has either of, or source_type",
        ),
        ("op, source_type, source_id".into(), "'refund', 'tts', 'z'".into(), "posted", ""),
        ("op, of, at".into(), "'void', 'nowhere', '-infinity'".into(), "refused", "at is outside"),
        ("op, source".into(), "'void', 'gift'".into(), "refused", "order_id is missing"),
        ("op, of, beyond".into(), format!("'void', 'a', {long}"), "refused", "beyond is neither used nor remaining"),
        ("op, source, order_id, points".into(), "'void', 'gift', 1, 4".into(), "posted", ""),
        (format!("{consume}, until"), "'hold', 1, 'tts', 'h1', 'infinity'".into(), "refused", "until is outside"),
        (format!("{consume}, until"), "'hold', 1, 'tts', 'h2', '-infinity'".into(), "refused", "until is outside"),
        (
            format!("{consume}, until, at"),
            "'hold', 1, 'tts', 'h3', '2100-01-01', 'infinity'".into(),
            "refused",
            "at is outside",
        ),
        (consume.into(), "'hold', 1, 'tts', 'h4'".into(), "refused", "until is missing"),
        (format!("{consume}, until"), "'hold', 1000, 'tts', 'h5', '2100-01-01'".into(), "refused", "insufficient"),
        (format!("{consume}, until"), "'hold', 1, 'tts', 'h6', '2020-01-01'".into(), "refused", "already_expired"),
        (format!("{consume}, until"), "'hold', 1, 'tts', 'h7', '2100-01-01'".into(), "held", ""),
        (format!("{consume}, until"), "'hold', 1, 'tts', 'h7', '2100-01-01'".into(), "replayed", ""),
        ("op, source_type, source_id".into(), "'release', 'tts', 'h8'".into(), "refused", "unknown_hold"),
        (
            "op, source_type, source_id, at".into(),
            "'release', 'tts', 'h7', 'infinity'".into(),
            "refused",
            "at is outside",
        ),
        ("op, source_type, source_id".into(), "'release', 'tts', 'h7'".into(), "released", ""),
        ("op, source_type, source_id".into(), "'release', 'tts', 'h7'".into(), "replayed", ""),
        (
            format!("{consume}, of"),
            "'consume', 1, 'tts', 'o', 'a'".into(),
            "refused",
            "of does not belong to a consume",
        ),
        (format!("{consume}, at"), "'consume', 1, 'tts', 'p', '9999-12-31'".into(), "refused", "from_the_future"),
    ];
    // All in one transaction, so in one group.
    client.batch_execute("BEGIN").await.unwrap();
    for (columns, values, _, _) in &cases {
        let insert = format!("INSERT INTO pointsd.requests (user_id, {columns}) VALUES ('{}', {values})", user(1));
        client.batch_execute(&insert).await.unwrap_or_else(|error| panic!("{insert}: {error:?}"));
    }
    client.batch_execute("COMMIT").await.unwrap();
    let server = Server::start(&database, SETTINGS).await;
    all_done(&client).await;
    let rows =
        client.query("SELECT state, code, message, attempts FROM pointsd.requests ORDER BY id", &[]).await.unwrap();
    for (row, (columns, values, state, reason)) in rows.iter().zip(&cases) {
        let (code, message): (Option<String>, Option<String>) = (row.get(1), row.get(2));
        let said = format!("{}: {}", code.unwrap_or_default(), message.unwrap_or_default());
        assert_eq!(row.get::<_, &str>(0), *state, "({columns}) ({values}): {said}");
        assert!(said.contains(reason), "({columns}) ({values}) should say `{reason}`: {said}");
        assert_eq!(row.get::<_, i32>(3), 0, "({columns}) ({values})");
    }
    assert_eq!(number(&client, "SELECT count(*) FROM pointsd.entries").await, 8);
    assert_eq!(number(&client, "SELECT balance FROM pointsd.accounts").await, 4);
    assert_eq!(number(&client, "SELECT paid FROM pointsd.batches WHERE currency = 'CNY'").await, 199);
    let stats = server.stop().await;
    assert_eq!((stats.posted(), stats.replayed(), stats.refused(), stats.parked()), (10, 3, 40, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_request_is_refused_at_once() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    let user = user(1);
    let insert = |columns: &str, values: &str| {
        format!("INSERT INTO pointsd.requests (user_id, points, {columns}) VALUES ('{user}', 1, {values})")
    };
    let cases = [
        ("requests_op_known", insert("op", "'gift'")),
        ("inserted as pending", insert("op, state, seq, finished_at", "'consume', 'posted', 1, now()")),
        ("inserted as pending", insert("op, state, code, message, retry_at", "'consume', 'waiting', '', '', now()")),
        ("inserted as pending", insert("op, attempts", "'consume', 1")),
        ("requests_posted_as_entry", insert("op, seq", "'consume', 1")),
        ("requests_finished_when_over", insert("op, finished_at", "'consume', now()")),
        ("requests_waiting_until", insert("op, retry_at", "'consume', now()")),
        ("requests_not_posted_for_a_reason", insert("op, code, message", "'consume', 'a', 'b'")),
        ("user_id", "INSERT INTO pointsd.requests (op, points) VALUES ('consume', 1)".to_owned()),
        ("id", insert("op, id", "'consume', 7")),
        ("generated column", insert("op, lane", "'consume', 3")),
    ];
    for (reason, statement) in cases {
        let error = client.batch_execute(&statement).await.expect_err(&statement);
        let error = error.as_db_error().unwrap();
        assert!(format!("{error:?}").contains(reason), "{statement}: {error:?}");
    }
    assert_eq!(number(&client, "SELECT count(*) FROM pointsd.requests").await, 0);
}

/// A request that was inserted without triggers, as by a restore or a replica, is found by the poll.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_ring_is_covered_by_the_poll() {
    let database = TestDatabase::new().await;
    let (client, other) = (database.client().await, database.client().await);
    let server = Server::start(&database, Settings { poll: Duration::from_millis(200), ..SETTINGS }).await;
    asleep(&server).await;
    let insert = format!(
        "SET session_replication_role = replica;
         INSERT INTO pointsd.requests (op, user_id, points, source_type, source_id) VALUES ('consume', '{}', 1, 'tts', 'x')",
        user(1)
    );
    other.batch_execute(&insert).await.unwrap();
    all_done(&client).await;
    assert_eq!(outcomes(&client).await, ["1 posted 1"]);
    server.stop().await;
}

/// Every committed request is posted without the poll, from any session. This includes a session that inserts before the
/// server goes idle and commits long after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_ring_is_lost() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    let server = Server::start(&database, SETTINGS).await;
    let mut rng = rng();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8_u32 {
        let (own, mut rng) = (database.client().await, rng.fork());
        writers.spawn(async move {
            for nth in 0..100 {
                let pause = Duration::from_millis(rng.u64(0..10));
                let enqueue = format!(
                    "SELECT pointsd.enqueue('consume', '{}', 1, source_type => 'tts', source_id => '{nth}')",
                    user(writer)
                );
                own.batch_execute(&format!("BEGIN; {enqueue}")).await.unwrap();
                tokio::time::sleep(pause).await;
                own.batch_execute("COMMIT").await.unwrap();
                let posted = format!(
                    "SELECT count(*) = {} FROM pointsd.requests_done WHERE user_id = '{}'",
                    nth + 1,
                    user(writer)
                );
                until(&own, &posted).await;
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    assert_eq!(number(&client, "SELECT count(*) FROM pointsd.entries").await, 800);
    assert_eq!(server.stop().await.posted(), 800);
}

/// An id is settled when the transactions that were given it, or lower ones, have ended. A lane's statements tell that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_is_not_settled_while_its_transaction_is_open() {
    let database = TestDatabase::new().await;
    let (client, late) = (database.client().await, database.client().await);
    // The last id that was given, the oldest transaction that is not over, and from which one on ids are higher.
    let read = async || {
        client.batch_execute("BEGIN").await.unwrap();
        let locked = client.query_one(include_str!("../../sql/requests/lane_lock.sql"), &[&0_i16]).await.unwrap();
        let row = client.query_one(include_str!("../../sql/requests/snapshot_read.sql"), &[]).await.unwrap();
        client.batch_execute("COMMIT").await.unwrap();
        (locked.get::<_, i64>(0), row.get::<_, i64>(0), row.get::<_, i64>(1))
    };
    late.batch_execute(&format!(
        "BEGIN; SELECT pointsd.enqueue('refund', '{}', source_type => 'tts', source_id => 'late')",
        user(3)
    ))
    .await
    .unwrap();
    let (last, _, from) = read().await;
    assert_eq!(last, 1);
    assert!(read().await.1 < from, "the transaction of id 1 is open");
    late.batch_execute("COMMIT").await.unwrap();
    // Other tests have open transactions, too: what was begun before may not be over at once.
    while read().await.1 < from {}
}

/// A lane posts a backlog account by account: several requests of one in the same transaction, in their order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_is_posted_account_by_account() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    recharge(&database, 2_000).await;
    let insert = "INSERT INTO pointsd.requests (op, user_id, points, source_type, source_id)
                  SELECT 'consume', ('00001111-0000-4000-8000-' || lpad(to_hex(i % 2000), 12, '0'))::uuid, 1, 'tts', i::text
                  FROM generate_series(1, 20000) AS i";
    client.batch_execute(insert).await.unwrap();
    let server = Server::start(&database, SETTINGS).await;
    all_done(&client).await;
    assert_eq!(server.stop().await.posted(), 20_000);
    let out_of_order =
        "SELECT count(*) FROM pointsd.requests_done AS r JOIN pointsd.requests_done AS later USING (user_id)
                        WHERE later.id > r.id AND later.seq < r.seq";
    assert_eq!(number(&client, out_of_order).await, 0);
    // Ten requests each. In the order of their ids the next one of an account comes 500 requests later in its lane.
    let transactions = "SELECT count(*) FROM (SELECT DISTINCT user_id, xmin::text FROM pointsd.entries) AS pairs";
    let pairs = number(&client, transactions).await;
    assert!(pairs < 7_000, "{pairs} accounts were touched");
}

/// An application takes its id early and commits late. By then the lane has been read far beyond that id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lower_number_that_comes_late_is_found() {
    let database = TestDatabase::new().await;
    let (client, late) = (database.client().await, database.client().await);
    recharge(&database, 40).await;
    let enqueue =
        format!("SELECT pointsd.enqueue('consume', '{}', 1, source_type => 'tts', source_id => 'late')", user(3));
    late.batch_execute(&format!("BEGIN; {enqueue}")).await.unwrap();
    let many = |from: u32| {
        format!(
            "INSERT INTO pointsd.requests (op, user_id, points, source_type, source_id)
             SELECT 'consume', ('00001111-0000-4000-8000-' || lpad(to_hex(i % 40), 12, '0'))::uuid, 1, 'tts', i::text
             FROM generate_series({from}, {from} + 19999) AS i"
        )
    };
    client.batch_execute(&many(0)).await.unwrap();
    let server = Server::start(&database, SETTINGS).await;
    until(&client, "SELECT count(*) > 8000 FROM pointsd.requests_done").await;
    late.batch_execute("COMMIT").await.unwrap();
    client.batch_execute(&many(20_000)).await.unwrap();
    until(&client, "SELECT EXISTS (SELECT FROM pointsd.requests_done WHERE id = 1)").await;
    let behind = number(&client, "SELECT count(*) FROM pointsd.requests_open").await;
    assert!(behind > 0, "it was only found when the rest was done");
    all_done(&client).await;
    assert_eq!(server.stop().await.posted(), 40_001);
}
