//! An application's role, with the rights that `db grant` gives it and no others.

use pointsd::database::RoleKind;
use tokio_postgres::Client;

use super::{SETTINGS, Server, TestDatabase, all_done, outcomes, recharge, user};

async fn row(client: &Client, sql: &str) -> String {
    let rows = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let row = rows.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = row.unwrap_or_else(|| panic!("no row: {sql}"));
    (0..row.len()).map(|column| row.get(column).unwrap_or("-")).collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_granted_rights_are_enough_and_needed() {
    let database = TestDatabase::new().await;
    let (owner, app) = (database.client().await, database.client().await);
    recharge(&database, 2).await;
    // Roles belong to the whole server, where other tests run.
    let role = format!("app_{}", uuid::Uuid::new_v4().simple());
    owner.batch_execute(&format!("CREATE ROLE {role}")).await.unwrap();
    app.batch_execute(&format!("SET ROLE {role}")).await.unwrap();
    let (me, other) = (user(0), user(1));
    let hold = |points: i64, task: &str| {
        format!(
            "SELECT status, code FROM pointsd.hold('{me}', {points}, 'tts', '{task}', until => now() + interval '1 hour')"
        )
    };
    let calls = [
        (format!("SELECT available, held FROM pointsd.account('{me}')"), "1000000 0"),
        (format!("SELECT pointsd.check('{me}', 1000000)"), "t"),
        (hold(400_000, "a"), "held -"),
        (hold(400_000, "a"), "replayed -"),
        (hold(700_000, "b"), "rejected insufficient"),
        (format!("SELECT pointsd.check('{me}', 700000)"), "f"),
        (format!("SELECT status, code FROM pointsd.release('{me}', 'tts', 'b')"), "rejected unknown_hold"),
        (hold(100_000, "c"), "held -"),
        (format!("SELECT status FROM pointsd.release('{me}', 'tts', 'c')"), "released"),
        (format!("SELECT balance FROM pointsd.account_then('{me}', as_of => now())"), "1000000"),
        (format!("SELECT available, held FROM pointsd.balances WHERE user_id = '{me}'"), "600000 400000"),
        (format!("SELECT pointsd.enqueue('consume', '{me}', 300000, source_type => 'tts', source_id => 'a')"), "1"),
        ("SELECT op, state FROM pointsd.requests".to_owned(), "consume pending"),
    ];
    for (sql, _) in &calls {
        let error = app.simple_query(sql).await.expect_err(sql);
        assert!(format!("{error:?}").contains("permission denied"), "{sql}: {error:?}");
    }
    let pointsd = database.database().await;
    let grants = pointsd.grants(RoleKind::Application, &role).await.unwrap();
    pointsd.grant(&grants).await.unwrap();
    for (sql, expected) in &calls {
        assert_eq!(row(&app, sql).await, *expected, "{sql}");
    }
    // Nothing else: neither the daemon's columns of a request nor the books.
    let insert = |column: &str, value: &str| {
        format!(
            "INSERT INTO pointsd.requests (op, user_id, points, {column}) OVERRIDING SYSTEM VALUE
             VALUES ('consume', '{me}', 1, {value})"
        )
    };
    for sql in [
        insert("id", "9223372036854775807"),
        insert("bucket", "1"),
        insert("enqueued_at", "'2000-01-01'"),
        insert("state", "'parked'"),
        "UPDATE pointsd.requests SET state = 'posted'".to_owned(),
        format!("UPDATE pointsd.accounts SET balance = 0 WHERE user_id = '{other}'"),
        "SELECT FROM pointsd.entries".to_owned(),
        "INSERT INTO pointsd.holds DEFAULT VALUES".to_owned(),
        "DELETE FROM pointsd.holds".to_owned(),
    ] {
        let error = app.simple_query(&sql).await.expect_err(&sql);
        assert!(format!("{error:?}").contains("permission denied"), "{sql}: {error:?}");
    }
    let server = Server::start(&database, SETTINGS).await;
    all_done(&owner).await;
    server.stop().await;
    assert_eq!(outcomes(&owner).await, ["1 posted 2"]);
    let account = format!("SELECT available, held, total_consumed FROM pointsd.account('{me}')");
    assert_eq!(row(&app, &account).await, "700000 0 300000");
}
