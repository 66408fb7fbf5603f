//! The statements in sql, against a server: each can be prepared, each is used, and each of the ledger's reaches its
//! rows by an index even where it was planned while the tables were empty, because that plan stays.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pointsd::ledger::{Posting, Session};
use serde_json::Value;
use tokio_postgres::Client;

use crate::model::rules;
use crate::support::buckets;
use crate::{TestDatabase, at, user};

/// Every folder of sql but the migrations, and the grants: these are several statements a file.
fn folders() -> Vec<String> {
    let folders = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/sql")).unwrap();
    let names = folders.map(|folder| folder.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !["schema", "grants"].contains(&name.as_str())).collect()
}

/// Name and text of each file in sql/ledger.
fn statements() -> BTreeMap<String, String> {
    statements_in("ledger")
}

fn statements_in(folder: &str) -> BTreeMap<String, String> {
    let folder = format!("{}/sql/{folder}", env!("CARGO_MANIFEST_DIR"));
    let files = fs::read_dir(folder).unwrap().map(|file| {
        let path = file.unwrap().path();
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap())
    });
    files.collect()
}

/// The text of all files in a folder and below it.
fn sources(folder: &Path) -> String {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { sources(&path) } else { fs::read_to_string(path).unwrap() }).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_can_be_prepared() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    // As the program makes it.
    client.batch_execute("CREATE TEMPORARY TABLE followed (LIKE pointsd.adopted_accounts)").await.unwrap();
    for (name, sql) in folders().iter().flat_map(|folder| statements_in(folder)) {
        let sql = sql.replace("DECLARE changed SCROLL CURSOR WITH HOLD FOR", "");
        if let Err(error) = client.prepare(&sql).await {
            panic!("{name}: {}", pointsd::errors::chain(&error));
        }
    }
}

#[test]
fn each_is_used() {
    let source = sources(&PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src")));
    for folder in folders() {
        for name in statements_in(&folder).keys() {
            let named = source.contains(&format!("{name}.sql\"")) || source.contains(&format!("\"{name}\""));
            assert!(named, "no code names sql/{folder}/{name}.sql");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_is_planned_by_index_on_empty_tables() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    // For its settings, which stay with the connection.
    let _session = Session::open(&client).await.unwrap();
    // What the queue's lanes ask all day; the other statements of the queue are for people.
    let lanes =
        statements_in("requests").into_iter().filter(|(name, _)| INDEXES.iter().any(|(index, _)| index == name));
    // A lane posts its groups in its own session, so the statements of a posting are planned with its settings as well.
    let posting =
        statements().into_iter().filter(|(name, _)| !["due_declare", "entry_of_run"].contains(&name.as_str()));
    let in_a_lane =
        posting.filter(|(name, _)| !name.starts_with("export")).chain(lanes).map(|statement| (statement, true));
    for ((name, sql), of_lane) in statements().into_iter().map(|statement| (statement, false)).chain(in_a_lane) {
        let way = if of_lane { "off" } else { "on" };
        client.batch_execute(&format!("DEALLOCATE ALL; SET enable_bitmapscan = {way}")).await.unwrap();
        let plan = plan(&client, &name, &sql).await;
        let (mut found, mut wrong) = (Vec::new(), Vec::new());
        walk(&plan, &mut |node| match node["Node Type"].as_str().unwrap() {
            "Index Scan" | "Index Only Scan" | "Bitmap Index Scan" => {
                wrong.extend(read_of_a_whole_bucket(node));
                found.push(node["Index Name"].as_str().unwrap().to_owned());
            }
            kind @ ("Seq Scan" | "Hash Join" | "Merge Join" | "Hash") => wrong.push(kind.to_owned()),
            // The first ones, by the index: not the first of all, sorted.
            "Limit" if ["request_take", "request_ahead"].contains(&name.as_str()) => {
                walk(&node["Plans"][0], &mut |below| {
                    wrong.extend((below["Node Type"] == "Sort").then(|| "Sort below the Limit".to_owned()));
                });
            }
            _ => {}
        });
        found.sort();
        assert_eq!(wrong, Vec::<String>::new(), "{name}: {plan:#}");
        let (_, expected) = INDEXES.iter().find(|(statement, _)| *statement == name).expect(&name);
        assert_eq!(found, *expected, "indexes of {name}: {plan:#}");
    }
}

/// A restored or a newly filled ledger has no statistics before its first ANALYZE. Then the planner knows how many pages there are, and not
/// that an account has few of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_reads_by_user_where_the_ledger_has_grown_without_statistics() {
    let mut database = TestDatabase::new().await;
    database.expect_damage(); // accounts without entries
    let client = database.client().await;
    let fill = "ALTER TABLE pointsd.accounts SET (autovacuum_enabled = off);
        ALTER TABLE pointsd.batches SET (autovacuum_enabled = off);
        INSERT INTO pointsd.accounts (user_id, bucket, balance, total_recharged, total_consumed, total_expired, last_seq, last_batch)
        SELECT user_id, pointsd.bucket_of(user_id), 30, 30, 0, 0, 3, 3
        FROM generate_series(1, 60000) AS i, LATERAL (SELECT md5(i::text)::uuid) AS u (user_id);
        INSERT INTO pointsd.batches (user_id, bucket, batch, amount, remaining, opened_at, expires_at, open, source)
        SELECT user_id, bucket, batch, 10, 10, '2026-01-01Z', '2026-02-01Z', true, 'gift'
        FROM pointsd.accounts, generate_series(1, 3) AS batch";
    client.batch_execute(fill).await.unwrap();
    let _session = Session::open(&client).await.unwrap();
    let is_looked_at = |name: &str| match name {
        "due_declare" | "entry_of_run" => false, // they read a bucket in order, on purpose, and so do exports
        // For a cluster, which plans each statement for its parameters. With a plan for all parameters, the second reads all that is due.
        "account_expire" | "entry_expire" => false,
        _ => !name.starts_with("export"),
    };
    let mut wrong = Vec::new();
    for (name, sql) in statements().into_iter().filter(|(name, _)| is_looked_at(name)) {
        client.batch_execute("DEALLOCATE ALL").await.unwrap();
        let plan = plan(&client, &name, &sql).await;
        walk(&plan, &mut |node| {
            let whole =
                read_of_a_whole_bucket(node).or((node["Node Type"] == "Seq Scan").then(|| "Seq Scan".to_owned()));
            wrong.extend(whole.map(|read| format!("{name}: {read}")));
        });
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// After an ANALYZE of few rows, each statement had best read all of them. Such a plan must not stay while the ledger grows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_plans_anew_when_the_ledger_has_grown() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    let when = at("2026-01-01T00:00:00Z");
    let recharge = |nth: u32, key: &str| Posting::recharge(user(nth), 10, "gift", when).with_key(key);
    // Of as many accounts as there are buckets.
    let accounts = u32::from(buckets().unsigned_abs());
    let few: Vec<_> = (0..60.max(accounts)).map(|nth| recharge(nth % accounts, &nth.to_string())).collect();
    Session::open(&client).await.unwrap().post(&few, &rules()).await.unwrap();
    client.batch_execute("VACUUM ANALYZE").await.unwrap();
    let mut session = Session::open(&client).await.unwrap();
    session.post(&[recharge(0, "a")], &rules()).await.unwrap();
    assert_ne!(reads_of_whole_buckets(&client).await, Vec::<String>::new());
    for group in 1..=16 {
        let users = (0..500).map(|nth| group * 500 + nth);
        let hold = |nth| Posting::hold(user(nth), 1, "tts", "1", when + chrono::TimeDelta::days(1), when);
        let postings: Vec<_> = users.flat_map(|nth| [recharge(nth, "a"), hold(nth)]).collect();
        session.post(&postings, &rules()).await.unwrap();
    }
    assert_eq!(reads_of_whole_buckets(&client).await, Vec::<String>::new());
}

/// What the session's statements read without the user or the key.
async fn reads_of_whole_buckets(client: &Client) -> Vec<String> {
    let prepared = "SELECT name, statement, cardinality(parameter_types) FROM pg_prepared_statements
                    WHERE parameter_types <> '{}' ORDER BY statement";
    let mut found = Vec::new();
    for row in client.query(prepared, &[]).await.unwrap() {
        let (name, sql, parameters): (&str, &str, i32) = (row.get(0), row.get(1), row.get(2));
        let arguments = vec!["NULL"; usize::try_from(parameters).unwrap()].join(", ");
        let explain = format!("EXPLAIN (FORMAT JSON) EXECUTE {name} ({arguments})");
        let plan = client.query_one(&explain, &[]).await.unwrap().get::<_, Value>(0);
        walk(&plan[0]["Plan"], &mut |node| {
            found.extend(read_of_a_whole_bucket(node).map(|read| format!("{read}: {sql}")));
        });
    }
    found
}

/// All rows may have the same bucket: an index of the users' rows finds them by the user, or by a key that has the user in it, one of
/// requests by the id.
fn read_of_a_whole_bucket(node: &Value) -> Option<String> {
    let index = node.get("Index Name")?.as_str()?;
    let column = match index {
        "accounts_pkey" | "batches_pkey" | "batches_open_by_user" | "entries_pkey" => "user_id",
        "adopted_keys_pkey" | "entries_key_once" | "holds_pkey" => "key",
        "requests_open_pkey" => "(id ",
        _ => return None,
    };
    let condition = node.get("Index Cond").and_then(Value::as_str).unwrap_or_default();
    (!condition.contains(column)).then(|| format!("{index} by {condition}"))
}

/// The function's own statement, because a plan shows only its call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_is_read_by_its_indexes() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    client.batch_execute("SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off").await.unwrap();
    let source = "SELECT prosrc FROM pg_proc WHERE oid = 'pointsd.account'::regproc";
    let source: String = client.query_one(source, &[]).await.unwrap().get(0);
    let (_, body) = source.split_once("BEGIN").unwrap();
    let (columns, rest) = body.split_once("INTO balance").unwrap();
    let (_, from) = rest.split_once("FROM").unwrap();
    let (from, _) = from.split_once("AS standing;").unwrap();
    let sql = format!("{columns} FROM {from} AS standing");
    let sql = sql.replace("account.user_id", "$1::uuid").replace("account.at", "$2::timestamptz");
    let plan = plan(&client, "account", &sql).await;
    let mut found = Vec::new();
    walk(&plan, &mut |node| found.extend(node.get("Index Name").map(|name| name.as_str().unwrap().to_owned())));
    found.sort();
    assert_eq!(found, ["accounts_pkey", "batches_open_by_user", "holds_open_by_user"], "{plan:#}");
}

/// By what each statement finds its rows. Those of the ledger begin with the user, but for the proof of a run.
const INDEXES: &[(&str, &[&str])] = &[
    ("account_expire", &["accounts_pkey", "accounts_pkey", "batches_open_by_user", "batches_pkey"]),
    ("account_insert", &[]),
    // A call of pointsd.next_users for each bucket.
    ("account_page", &["adopted_positions_pkey", "adoption_pkey"]),
    ("account_lock", &["accounts_pkey"]),
    ("account_update", &["accounts_pkey"]),
    ("account_update_all", &["accounts_pkey"]),
    // A call of pointsd.account, which is looked at below.
    ("balance", &[]),
    // A call of pointsd.account_then.
    ("balance_then", &[]),
    ("bucket_count", &[]),
    // A call of pointsd.keep_bucket.
    ("bucket_keep", &[]),
    ("batch_expired", &["batches_pkey", "holds_open_by_user"]),
    ("batch_expiry", &["batches_open_by_user"]),
    ("batch_first", &["batches_open_by_user"]),
    ("batch_insert", &[]),
    ("batch_insert_paid", &[]),
    ("batch_named", &["batches_pkey"]),
    ("batch_open", &["batches_open_by_user"]),
    ("batch_open_page", &["batches_open_by_user", "batches_pkey", "batches_pkey"]),
    ("batch_orphan", &["batches_open_by_user"]),
    ("batch_page", &["batches_pkey"]),
    ("batch_update", &["batches_pkey"]),
    ("batch_update_all", &["batches_pkey"]),
    ("due_expire", &["accounts_pkey", "accounts_pkey", "batches_open_by_user"]),
    // Planned anew for each sweep; this is what it does in an empty ledger.
    ("due_declare", &["batches_open_by_expiry"]),
    ("entry_around", &["accounts_pkey", "entries_pkey"]),
    ("entry_expire", &["accounts_pkey", "batches_open_by_user"]),
    ("entry_insert", &[]),
    ("entry_insert_all", &[]),
    ("entry_insert_paid", &[]),
    ("entry_known", &["adopted_keys_pkey", "adopted_transactions_by_id", "entries_key_once"]),
    ("entry_page", &["entries_pkey"]),
    ("entry_page_back", &["entries_pkey"]),
    ("entry_returned", &["entries_by_reference"]),
    ("entry_of_run", &["entries_by_run"]),
    ("export_accounts", &["accounts_pkey", "holds_open_by_user"]),
    ("export_accounts_then", &["accounts_pkey"]),
    ("export_batches", &["batches_pkey"]),
    ("export_entries", &["entries_pkey"]),
    ("hold_known", &["holds_open_by_user", "holds_pkey"]),
    ("hold_list", &["holds_open_by_user", "holds_pkey"]),
    ("hold_write", &[]),
    ("lane_lock", &["request_lanes_pkey"]),
    ("request_fail", &["requests_open_by_id"]),
    ("request_ahead", &["requests_open_pkey", "requests_waiting", "requests_waiting"]),
    ("request_finish", &["requests_open_by_id"]),
    ("request_take", &["requests_open_pkey", "requests_waiting"]),
    ("request_take_ids", &["requests_open_by_id", "requests_waiting"]),
    ("request_waiting", &["requests_waiting"]),
    ("statement_adopted", &["adopted_transactions_by_user"]),
    ("statement_adopted_count", &["adopted_transactions_by_user", "adoption_pkey"]),
    ("statement_batches", &["batches_open_by_user", "batches_pkey", "entries_pkey"]),
    ("statement_borders", &["accounts_pkey", "entries_pkey", "entries_pkey"]),
    ("statement_changes", &["entries_pkey"]),
    ("statement_entries", &["entries_pkey"]),
    // A call of pointsd.writers.
    ("writer_list", &[]),
];

/// The sweep's cost follows what is due, once the tables' statistics tell how little of the ledger that is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sweep_finds_what_is_due_by_its_end() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    let mut session = Session::open(&client).await.unwrap();
    let begin = at("2026-01-01T00:00:00Z");
    let recharge = |nth: u32| {
        let when = begin + chrono::TimeDelta::hours(i64::from(nth));
        Posting::recharge(user(nth), 1, "gift", when).with_key("a")
    };
    session.post(&(0..5_000).map(recharge).collect::<Vec<_>>(), &rules()).await.unwrap();
    client.batch_execute("VACUUM ANALYZE pointsd.batches").await.unwrap();
    let plan = plan(&client, "due_declare", &statements()["due_declare"]).await;
    let mut found = Vec::new();
    walk(&plan, &mut |node| found.extend(node.get("Index Name").cloned()));
    assert_eq!(found, ["batches_open_by_expiry"], "{plan:#}");
}

/// The plan that a session would keep.
async fn plan(client: &Client, name: &str, sql: &str) -> Value {
    let text = match sql.split_once("\nDECLARE ") {
        // A cursor's is made for its argument; it is no prepared statement.
        Some((_, declare)) => {
            format!(
                "EXPLAIN (FORMAT JSON) DECLARE {}",
                declare.replace("$1", "'2026-01-11T12:00:00Z'").replace("$2", "0")
            )
        }
        None => {
            client.batch_execute(&format!("PREPARE {name} AS {sql}")).await.unwrap();
            let types = client.prepare(sql).await.unwrap().params().len();
            let arguments = vec!["NULL"; types].join(", ");
            let arguments = if types > 0 { format!("({arguments})") } else { arguments };
            format!("EXPLAIN (FORMAT JSON) EXECUTE {name} {arguments}")
        }
    };
    let row = client.query_one(&text, &[]).await.unwrap();
    row.get::<_, Value>(0)[0]["Plan"].clone()
}

fn walk(node: &Value, visit: &mut impl FnMut(&Value)) {
    visit(node);
    for child in node.get("Plans").and_then(Value::as_array).into_iter().flatten() {
        walk(child, visit);
    }
}
