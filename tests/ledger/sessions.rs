//! How sessions are opened and kept: what they find by name, which hosts are tried, and when a pooled one is thrown away.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsd::database::{self, Database, Settings};
use pointsd::ledger::{Posting, Session};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::model::rules;
use crate::support::settings;
use crate::{TestDatabase, at, user};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lookalikes_of_the_servers_functions_never_run() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    client.batch_execute("DROP SCHEMA pointsd CASCADE").await.unwrap();
    database.set_lookalikes().await;

    let pointsd = database.database().await;
    pointsd.migrate().await.unwrap();
    let mut session = Session::connect(&pointsd).await.unwrap();
    let day = at("2026-01-01T00:00:00Z");
    let posted =
        [Posting::recharge(user(1), 100, "gift", day).with_key("a"), Posting::consume(user(1), 30, "tts", "t1", day)];
    let replies = session.post(&posted, &rules()).await.unwrap();
    assert!(replies.iter().all(|reply| reply.status() == "posted"), "{replies:?}");
    let swept = session.sweep(at("2027-01-03T00:00:00Z"), false, |_| true).await.unwrap();
    assert_eq!(swept.points, 70);
    let balance = session.reader().balance(user(1), day).await.unwrap();
    assert_eq!(balance.balance, 0);
    database.forget_lookalikes().await;
}

/// A pool of one connection.
async fn one_connection(test: &TestDatabase) -> Database {
    Database::open(&settings(&test.config(), 1)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooled_session_that_became_read_only_is_opened_anew() {
    let test = TestDatabase::new().await;
    let (admin, name) = (test.client().await, test.config().get_dbname().unwrap().to_owned());
    let set = |what: &str| format!("ALTER DATABASE {name} {what}");
    admin.batch_execute(&set("SET default_transaction_read_only = on")).await.unwrap();
    let database = one_connection(&test).await;
    let read_only = async || {
        let client = database.connection().await.unwrap();
        client.query_one("SHOW transaction_read_only", &[]).await.unwrap().get::<_, String>(0)
    };
    assert_eq!(read_only().await, "on");
    admin.batch_execute(&set("RESET default_transaction_read_only")).await.unwrap();
    assert_eq!(read_only().await, "off");
}

/// A request to cancel may arrive late. It must find no next user on the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_whose_limit_is_over_leaves_the_pool() {
    async fn process(client: &Client) -> i32 {
        client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0)
    }
    let test = TestDatabase::new().await;
    let database = one_connection(&test).await;
    let first = process(&database.connection().await.unwrap()).await;
    let in_time = database.limited(Duration::from_secs(3_600)).await.unwrap();
    assert_eq!(process(&in_time).await, first);
    drop(in_time);
    let late = database.limited(Duration::from_millis(100)).await.unwrap();
    assert_eq!(process(&late).await, first, "it came back in time");
    let error = late.batch_execute("SELECT pg_sleep(3600)").await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED), "{error:?}");
    drop(late);
    assert_ne!(process(&database.connection().await.unwrap()).await, first);
}

/// The check of a pooled session asks it something, and a frozen one never answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooled_session_that_is_frozen_is_left_for_a_new_one() {
    let test = TestDatabase::new().await;
    let limit = Duration::from_secs(1);
    let database = Database::open(&Settings { connect_timeout: limit, ..settings(&test.config(), 1) }).await.unwrap();
    let process = async || {
        let client = database.connection().await.unwrap();
        client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get::<_, i32>(0)
    };
    let frozen = process().await;
    let signal = |signal| kill(Pid::from_raw(frozen), signal).unwrap();
    signal(Signal::SIGSTOP);
    let asked = Instant::now();
    let other = tokio::time::timeout(20 * limit, process()).await;
    let took = asked.elapsed();
    signal(Signal::SIGCONT);
    assert_ne!(other.expect("the caller gets a session"), frozen);
    assert!(took >= limit, "it was asked: {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooled_session_that_lost_its_settings_is_opened_anew() {
    let test = TestDatabase::new().await;
    let database = one_connection(&test).await;
    // As behind a pooler that gives each transaction another session.
    database.connection().await.unwrap().batch_execute("DISCARD ALL").await.unwrap();
    let client = database.connection().await.unwrap();
    let path: String = client.query_one("SHOW search_path", &[]).await.unwrap().get(0);
    assert_eq!(path, "pg_catalog, pg_temp");
}

/// A server that takes connections and never answers; counts them.
fn frozen_host() -> (u16, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, count) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU32::new(0)));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        let mut taken = Vec::new();
        for stream in listener.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            taken.push(stream);
        }
    });
    (port, count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_host_is_left_behind_once() {
    let test = TestDatabase::new().await;
    let (port, asked) = frozen_host();
    let url = test.url();
    let (user, rest) = url.strip_prefix("postgres://").unwrap().split_once('@').unwrap();
    let settings = Settings {
        connect_timeout: Duration::from_secs(1),
        ..Settings::server(format!("postgres://{user}@127.0.0.1:{port},{rest}"))
    };
    let database = Database::open(&settings).await.unwrap();
    for _ in 0..3 {
        database.dedicated().await.unwrap();
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1, "the host that answered is asked first from then on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_lock_stops_nothing_but_a_migration_and_that_with_a_word() {
    let test = TestDatabase::new().await;
    let (holder, admin) = (test.client().await, test.client().await);
    holder
        .batch_execute("SET application_name = 'culprit'; SELECT pg_advisory_lock(x'00706f696e747364'::bigint)")
        .await
        .unwrap();
    let settings = Settings { connect_timeout: Duration::from_secs(1), ..settings(&test.config(), 1) };
    let database = Database::open(&settings).await.unwrap();
    assert_eq!(database.migrate().await.unwrap(), [], "nothing is to be applied, so no lock is taken");

    admin.batch_execute("DROP SCHEMA pointsd CASCADE").await.unwrap();
    let error = database.migrate().await.expect_err("the lock is held");
    let pid: i32 = holder.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let said = error.to_string();
    assert!(matches!(error, database::Error::MigrationLocked { .. }) && error.is_transient(), "{error:?}");
    assert!(said.contains(&format!("the session {pid} (role ")) && said.contains("program culprit"), "{said}");

    holder.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    assert_eq!(database.migrate().await.unwrap().len(), database::migrate::MIGRATIONS.len());
    // The lock ended with its transactions.
    let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND classid = 7368553
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(admin.query_one(held, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_an_older_version_is_migrated_on_request_only() {
    let test = TestDatabase::new().await;
    let admin = test.client().await;
    admin.batch_execute("DELETE FROM pointsd.migrations WHERE version = 11").await.unwrap();
    let database = test.database().await;
    let error = database.prepare().await.expect_err("the schema is older");
    assert!(error.to_string().contains("it lacks 0011_distribution; run pointsd db migrate"), "{error}");
    assert!(error.is_transient(), "a daemon waits for the operator");
    // An empty database belongs to no older version.
    admin.batch_execute("DROP SCHEMA pointsd CASCADE").await.unwrap();
    database.prepare().await.unwrap();
    database.prepare().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_shares_sessions_is_refused() {
    let test = TestDatabase::new().await;
    let (admin, name) = (test.client().await, test.config().get_dbname().unwrap().to_owned());
    // As a session that another process used before.
    admin.batch_execute(&format!("ALTER DATABASE {name} SET pointsd.session = 'of another process'")).await.unwrap();
    let error = Database::open(&settings(&test.config(), 1)).await.err().unwrap();
    assert!(matches!(error, database::Error::Pooler { .. }) && !error.is_transient(), "{error:?}");
    assert!(error.to_string().contains("pool_mode = session"), "{error}");
}
