//! Troubles of a real host: a database that turned read-only, a command that is stopped, a standby that is missing, an account
//! that was damaged by hand. Each is told, and the work goes on without a restart.

use nix::sys::signal::Signal;
use pointsd::database::private_server::{Options, PrivateServer};
use pointsd::database::{Database, Settings};
use serde_json::Value;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::program::{Folder, Running, call, eventually, on, post, until_found, until_waits_for_a_lock, wait};
use crate::support::{TestDatabase, connect, user, users_of_a_bucket};

fn consume(user: Uuid, id: &str) -> String {
    format!("{{\"op\":\"consume\",\"user\":\"{user}\",\"points\":1,\"source_type\":\"tts\",\"source_id\":\"{id}\"}}\n")
}

fn recharge(user: Uuid, order: u32) -> String {
    format!("{{\"op\":\"recharge\",\"user\":\"{user}\",\"points\":100,\"source\":\"gift\",\"order_id\":{order}}}\n")
}

/// The daemon's sessions are read-only, at its start and again later. Once that is mended, they are opened anew.
#[test]
fn a_daemon_outlives_a_database_that_was_read_only() {
    let database = wait(TestDatabase::new());
    let (role, name) =
        (database.config().get_user().unwrap().to_owned(), database.config().get_dbname().unwrap().to_owned());
    let folder = Folder::new();
    let config = folder.file("pointsd.yaml", "jobs: {expiry: {schedule: '* * * * * *'}}\n");
    let admin = async |sql: &str| {
        let client = database.client().await;
        client.batch_execute("SET default_transaction_read_only = off").await.unwrap();
        client.batch_execute(sql).await.unwrap();
    };
    let works = async |source: &str| {
        let client = database.client().await;
        let began: i64 =
            client.query_one("SELECT coalesce(max(run), 0)::bigint FROM pointsd.runs", &[]).await.unwrap().get(0);
        let request = format!(
            "INSERT INTO pointsd.requests (op, user_id, points, source_type, source_id)
             VALUES ('consume', '{}', 4, 'script', '{source}')",
            user(1)
        );
        client.batch_execute(&request).await.unwrap();
        let posted = format!("SELECT FROM pointsd.requests WHERE source_id = '{source}' AND state = 'posted'");
        until_found(&client, "the request to be posted", &posted).await;
        let run = format!("SELECT FROM pointsd.runs WHERE run > {began} AND state = 'succeeded'");
        until_found(&client, "a run to succeed", &run).await;
    };
    let of_database = format!("ALTER DATABASE {name}");
    wait(admin(&format!("{of_database} SET default_transaction_read_only = on")));
    let mut daemon = Running::start(on(&database.url(), &["serve", "--config", &config]));
    daemon.hear("the database is away");
    wait(admin(&format!("{of_database} RESET default_transaction_read_only")));
    wait(works("first"));

    // Every session is lost, and the new ones are read-only.
    let of_role = format!("ALTER ROLE {role} IN DATABASE {name}");
    wait(admin(&format!(
        "{of_role} SET default_transaction_read_only = on;
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'pointsd'"
    )));
    daemon.hear("the database is away");
    wait(admin(&format!("{of_role} RESET default_transaction_read_only")));
    wait(works("second"));
    daemon.signal(Signal::SIGTERM);
    daemon.finish().expect(0);
}

/// Ctrl-Z in the middle of a transaction.
#[test]
fn a_stopped_post_lets_its_account_go() {
    let database = wait(TestDatabase::new());
    let url = database.url();
    let account = user(4);
    post(&url, recharge(account, 1)).expect(0);
    let lines = consume(account, "a") + &consume(account, "b") + &consume(account, "c");
    let folder = Folder::new();
    let file = folder.file("lines.ndjson", &lines);
    let stopped = wait(async {
        let (holder, client) = (database.client().await, database.client().await);
        let hold = format!("BEGIN; SELECT FROM pointsd.accounts WHERE user_id = '{account}' FOR UPDATE");
        holder.batch_execute(&hold).await.unwrap();
        let stopped = Running::start(on(&url, &["post", &file, "--json"]));
        until_waits_for_a_lock(&client).await;
        stopped.signal(Signal::SIGSTOP);
        holder.batch_execute("COMMIT").await.unwrap();
        let idle = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pointsd'
                        AND state = 'idle in transaction'";
        until_found(&client, "the stopped command's session to hold the lock", idle).await;
        stopped
    });
    // It gets the lock after the session's five seconds. After the minute of other sessions is too late: its own wait for a lock ends
    // after half the time of a statement, and then it says that it tries again.
    let config = folder.file("pointsd.yaml", "database: {statement_timeout_seconds: 80}\n");
    let consume = ["consume", &account.to_string(), "1", "--source-type", "tts", "--source-id", "other"];
    let other = call(&url, &[&consume[..], &["--config", &config]].concat());
    assert_eq!(other.expect(0).stderr, "");

    stopped.signal(Signal::SIGCONT);
    let done = stopped.finish().expect(0);
    assert!(done.stderr.contains("trying a group again"), "{done:#?}");
    let told: Vec<Value> = done.jsons();
    assert!(told.iter().all(|reply| reply["status"] == "posted"), "{told:#?}");
    assert_eq!(told.len(), 3);
    let again = call(&url, &["post", &file, "--json"]).expect(0).jsons();
    assert!(again.iter().all(|reply| reply["status"] == "replayed"), "{again:#?}");
    wait(async {
        let counted = "SELECT FROM pointsd.entries WHERE type = 'consume' HAVING count(*) = 4";
        assert_eq!(database.client().await.query(counted, &[]).await.unwrap().len(), 1);
    });
}

/// A server of a test's own. The shared one has no replication.
async fn server_with_replication(folder: &Folder) -> (PrivateServer, Client, String) {
    let extra = [("fsync", "off"), ("wal_level", "replica"), ("max_wal_senders", "2")];
    let extra = extra.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let options = Options { state_dir: folder.path().join("state"), bin: None, extra };
    let server = PrivateServer::start(options).await.unwrap();
    let config = server.config();
    let socket = server.socket_dir().to_str().unwrap().replace('/', "%2F");
    let url = format!("postgres://{}@{socket}/{}", config.get_user().unwrap(), config.get_dbname().unwrap());
    let database = Database::open(&Settings { pool_size: 1, ..Settings::server(&url) }).await.unwrap();
    database.prepare().await.unwrap();
    database.close().await.unwrap();
    (server, connect(&config).await, url)
}

/// Sets the standby that commits wait for.
async fn set_standby(client: &Client, name: &str) {
    client.batch_execute(&format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'")).await.unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let set = format!("SELECT WHERE current_setting('synchronous_standby_names') = '{name}'");
    until_found(client, "the setting", &set).await;
}

/// A call that has posted a recharge of the first user. What it posts from now on waits for a standby that is not there.
async fn begin_posting(client: &Client, url: &str) -> Running {
    let mut posting = Running::start(on(url, &["post", "-", "--json"]));
    posting.write(&recharge(user(1), 1));
    assert!(posting.next_line().unwrap().contains("\"posted\""));
    set_standby(client, "missing").await;
    posting
}

#[test]
fn a_commit_that_waits_for_a_missing_standby_is_told() {
    wait(async {
        let folder = Folder::new();
        let (server, client, url) = server_with_replication(&folder).await;
        let mut posting = begin_posting(&client, &url).await;
        posting.write(&consume(user(1), "a"));
        let warning = posting.hear("has not committed after 5 s");
        assert!(warning.contains("if synchronous_standby_names is set, see whether the standby is up"), "{warning}");
        until_found(&client, "the commit to wait", "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'").await;
        let told = eventually("the status to tell", || {
            let status = call(&url, &["status"]).stdout;
            status.contains("a commit has waited for a synchronous standby for ").then_some(status)
        });
        assert!(told.contains("bring the standby back"), "{told}");
        set_standby(&client, "").await;
        assert!(posting.next_line().unwrap().contains("\"posted\""));
        posting.finish().expect(0);
        drop(client);
        server.stop().await.unwrap();
    });
}

/// A posting whose connection broke while its commit waited for the standby is on this server, and may be on no other.
#[test]
fn a_replay_waits_for_the_standby_as_the_posting_did() {
    wait(async {
        let folder = Folder::new();
        let (server, client, url) = server_with_replication(&folder).await;
        let mut posting = begin_posting(&client, &url).await;
        posting.write(&consume(user(1), "a"));
        let waits = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        until_found(&client, "the commit to wait", waits).await;
        posting.hear("trying a group again");
        let waits = "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query = 'COMMIT'";
        until_found(&client, "the replay to wait", waits).await;
        set_standby(&client, "").await;
        assert!(posting.next_line().unwrap().contains("\"replayed\""));
        posting.finish().expect(0);
        drop(client);
        server.stop().await.unwrap();
    });
}

/// The lines of the file, by their answers: `posted`, `account_damaged`.
fn answers(url: &str, lines: &str, status: i32) -> Vec<String> {
    let replies = post(url, lines).expect(status).jsons();
    let answer = |reply: &Value| reply["code"].as_str().or(reply["status"].as_str()).unwrap().to_owned();
    replies.iter().map(answer).collect()
}

#[test]
fn a_damaged_account_stops_no_other_line_of_a_file() {
    let database = wait(TestDatabase::new());
    let url = database.url();
    let sql = |sql: &str| wait(async { database.client().await.batch_execute(sql).await.unwrap() });
    assert_eq!(answers(&url, &(1..9).map(|nth| recharge(user(nth), 1)).collect::<String>(), 0), ["posted"; 8]);
    // The next entry gets the number of the last one. The two accounts are of different lanes.
    let damage =
        format!("UPDATE pointsd.accounts SET last_seq = last_seq - 1 WHERE user_id IN ('{}', '{}')", user(1), user(5));
    sql(&damage);
    let lines: String =
        (1..9).map(|nth| consume(user(nth), "a")).chain((1..9).map(|nth| recharge(user(nth), 2))).collect();
    let mut expected = ["posted"; 16];
    for line in [0, 4, 8, 12] {
        expected[line] = "account_damaged";
    }
    let folder = Folder::new();
    let file = folder.file("lines.ndjson", &lines);
    let done = call(&url, &["post", &file]).expect(3);
    assert!(
        done.stdout.contains("line 1: rejected (account_damaged): the account does not take it: duplicate key"),
        "{done:#?}"
    );
    assert!(
        done.stdout.contains("line 9: rejected (account_damaged): the account does not take it: an earlier"),
        "{done:#?}"
    );
    let replayed = expected.map(|answer| if answer == "posted" { "replayed" } else { answer });
    assert_eq!(answers(&url, &lines, 3), replayed);

    sql(&damage.replace(" - 1", " + 1"));
    let mended = expected.map(|answer| if answer == "posted" { "replayed" } else { "posted" });
    assert_eq!(answers(&url, &lines, 0), mended);

    // What all accounts of a group fail for is no account's fault.
    sql(
        "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'all are spoilt'; END $$;
         CREATE TRIGGER spoil BEFORE INSERT ON pointsd.entries FOR EACH ROW EXECUTE FUNCTION spoil()",
    );
    let more: String = users_of_a_bucket().take(8).map(|user| recharge(user, 3)).collect();
    let file = folder.file("more.ndjson", more);
    let done = call(&url, &["post", &file, "--json"]).expect(1);
    assert!(done.stderr.contains("all are spoilt"), "{done:#?}");
    assert_eq!(done.stdout, "");
}
