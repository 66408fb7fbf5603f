//! What only a cluster shows. `script/test-citus` runs it and names the cluster; nothing else does.

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used
)]

mod program;
mod support;

use std::fmt::Write as _;
use std::sync::Arc;

use nix::sys::signal::Signal;
use pointsd::database::Database;
use pointsd::ledger::{Poster, Posting, Rules};
use program::{Folder, Running, call, eventually, on, requests_in, until_found, wait};
use serde_json::Value;
use support::invariants::check_invariants;
use support::rows::{Rows, assert_same};
use support::{TestDatabase, connect, rng, until_alone, user};

const ACCOUNTS: u32 = 200;

/// When all that was recharged is gone.
const END: &str = "2026-10-01T00:00:00Z";

/// Recharges that expire sooner or later, usage of them, some of it late, holds, refunds and voids.
fn history(lines: usize) -> String {
    let (mut rng, mut text) = (rng(), String::new());
    let begin = support::at("2026-01-01T00:00:00Z");
    for nth in 0..lines {
        let when = begin + chrono::TimeDelta::seconds(100_000 + 60 * nth as i64 - rng.i64(0..50_000));
        let at = pointsd::time::time_text(when);
        let until = pointsd::time::time_text(when + chrono::TimeDelta::seconds(rng.i64(1..400_000)));
        let (user, points) = (user(rng.u32(0..ACCOUNTS)), rng.u32(1..1_000));
        let line = match rng.u8(0..100) {
            0..30 => format!(
                r#"{{"op":"recharge","user":"{user}","points":{points},"source":"gift","order_id":{nth},"at":"{at}","expires_at":"{until}"}}"#
            ),
            30..35 => format!(
                r#"{{"op":"hold","user":"{user}","points":{points},"source_type":"tts","source_id":"t{nth}","at":"{at}","until":"{until}"}}"#
            ),
            35..40 => format!(
                r#"{{"op":"refund","user":"{user}","source_type":"tts","source_id":"t{}","at":"{at}"}}"#,
                rng.usize(0..=nth)
            ),
            _ => format!(
                r#"{{"op":"consume","user":"{user}","points":{points},"source_type":"tts","source_id":"t{nth}","at":"{at}"}}"#
            ),
        };
        writeln!(text, "{line}").unwrap();
    }
    text
}

fn rows(database: &TestDatabase) -> Rows {
    wait(async { Rows::read(&database.client().await).await })
}

/// Posts the file, and sweeps what is left of it.
fn post_and_sweep(database: &TestDatabase, file: &str) -> Rows {
    call(&database.url(), &["post", file, "--json"]).expect(3);
    call(&database.url(), &["run", "expiry", "--at", END]).expect(0);
    rows(database)
}

#[test]
fn a_ledger_is_spread_from_the_command_line() {
    let (folder, database) = (Folder::new(), wait(TestDatabase::on_one_node()));
    let (url, file) = (database.url(), folder.file("lines.ndjson", history(3_000)));
    let before = post_and_sweep(&database, &file);
    let told = call(&url, &["db", "distribute", "--buckets", "3"]).expect(2).stderr;
    assert!(told.contains("power of two"), "{told}");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let other = runtime.block_on(database.client());
    let told = call(&url, &["db", "distribute", "--buckets", "64", "--dry-run"]).expect(1).stderr;
    assert!(told.contains("other sessions are connected"), "{told}");
    drop((other, runtime));
    wait(async { until_alone(&database.client().await).await });
    call(&url, &["db", "distribute", "--buckets", "64", "--dry-run"]).expect(0);
    assert_eq!(call(&url, &["db", "status", "--json"]).expect(0).json()["nodes"], Value::Array(Vec::new()));
    // Interrupted on the way, wherever it was.
    let mut moving = Running::start(on(&url, &["db", "distribute", "--buckets", "64"]));
    moving.hear("spread batches");
    moving.signal(Signal::SIGKILL);
    moving.finish().expect_signal(Signal::SIGKILL);
    wait(async { until_alone(&database.client().await).await });
    let refused = call(&url, &["balance", &user(1).to_string()]).expect(1).stderr;
    assert!(refused.contains("moving to other buckets"), "{refused}");
    let told = call(&url, &["db", "distribute", "--buckets", "64"]).expect(0).stdout;
    assert!(told.contains("The ledger has 64 buckets"), "{told}");
    let status = call(&url, &["db", "status", "--json"]).expect(0).json();
    let buckets: Vec<i64> =
        status["nodes"].as_array().unwrap().iter().map(|n| n["buckets"].as_i64().unwrap()).collect();
    assert_eq!((buckets.iter().sum(), buckets.len() > 1), (64, true), "{status}");
    assert!(buckets.iter().max().unwrap() - buckets.iter().min().unwrap() <= 2, "{status}");
    assert_same(&rows(&database), &before, "spread");
    // The space of what was moved is free, and the history is guarded.
    wait(async {
        let client = database.client().await;
        let left = "SELECT pg_relation_size('pointsd.entries'::regclass)";
        assert_eq!(client.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
        for sql in ["UPDATE pointsd.entries SET amount = 1", "DELETE FROM pointsd.entries", "TRUNCATE pointsd.entries"]
        {
            let error = client.batch_execute(sql).await.unwrap_err();
            assert!(pointsd::errors::chain(&error).contains("history is never changed"), "{sql}: {error:?}");
        }
    });
    let told = call(&url, &["db", "distribute", "--buckets", "64"]).expect(1).stderr;
    assert!(told.contains("64 buckets already"), "{told}");
    // What was posted before replays.
    let again = call(&url, &["post", &file, "--json"]).expect(3).jsons();
    assert!(again.iter().all(|reply| ["replayed", "rejected"].contains(&reply["status"].as_str().unwrap())));
    assert_same(&rows(&database), &before, "posted again");
    call(&url, &["run", "reconciliation", "--full", "--dry-run"]).expect(0);
}

/// What is spread comes to the same as what is not, also where shards move from node to node meanwhile.
#[test]
fn shards_may_move_while_postings_and_the_sweep_go_on() {
    let folder = Folder::new();
    let (plain, spread) = (wait(TestDatabase::on_one_node()), wait(TestDatabase::new()));
    let file = folder.file("lines.ndjson", history(6_000));
    let expected = post_and_sweep(&plain, &file);
    let url = spread.url();
    let work = std::thread::spawn(move || {
        let replies = call(&url, &["post", &file, "--json"]).expect(3).jsons();
        let damaged = replies.iter().find(|reply| reply["code"] == "account_damaged");
        assert!(damaged.is_none(), "{damaged:?}");
        call(&url, &["run", "expiry", "--at", END]).expect(0);
    });
    let moved = wait(async {
        let (client, mut moved) = (connect(&spread.config()).await, 0);
        while !work.is_finished() {
            let next = "SELECT s.shardid, n.nodename, n.nodeport, t.nodename, t.nodeport
                        FROM pg_dist_shard AS s JOIN pg_dist_placement AS p USING (shardid) JOIN pg_dist_node AS n USING (groupid)
                        JOIN pg_dist_node AS t ON t.shouldhaveshards AND t.groupid <> n.groupid
                        WHERE s.logicalrelid = 'pointsd.accounts'::regclass ORDER BY random() LIMIT 1";
            let row = client.query_one(next, &[]).await.unwrap();
            let (shard, from, from_port): (i64, &str, i32) = (row.get(0), row.get(1), row.get(2));
            let (to, to_port): (&str, i32) = (row.get(3), row.get(4));
            let sql = "SELECT citus_move_shard_placement($1, $2, $3, $4, $5, 'block_writes')";
            match client.execute(sql, &[&shard, &from, &from_port, &to, &to_port]).await {
                Ok(_) => moved += 1,
                // A session still reads what an earlier move left behind.
                Err(error) => assert!(pointsd::errors::chain(&error).contains("could not be cleaned up"), "{error:?}"),
            }
        }
        moved
    });
    work.join().unwrap();
    eprintln!("{moved} shards moved");
    assert!(moved > 0);
    assert_same(&rows(&spread), &expected, "spread");
    wait(async { check_invariants(&spread.client().await).await });
}

fn start_poster(database: &Database, lanes: usize) -> Poster {
    let rules = Rules { sources: [("gift".to_owned(), None)].into(), ..Rules::default() };
    Poster::start(database, &Arc::new(rules), lanes)
}

fn recharge(account: u32, key: &str) -> Posting {
    Posting::recharge(user(account), 1, "gift", support::at("2026-01-01T00:00:00Z")).with_key(key)
}

/// A posting takes no way through the coordinator: the poster's sessions are with the nodes.
#[test]
fn a_posting_goes_to_the_node_that_holds_its_account() {
    let database = wait(TestDatabase::new());
    let nodes = wait(async {
        let handle = database.database().await;
        let poster = start_poster(&handle, 2);
        let recharges = (0..ACCOUNTS).map(|nth| poster.post(recharge(nth, "a")));
        for reply in futures_util::future::join_all(recharges).await {
            assert!(reply.unwrap().entry().is_some());
        }
        let sessions = "SELECT nodename || ':' || nodeport, result::integer FROM run_command_on_workers(
            $$SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pointsd'$$)";
        let nodes = database.client().await.query(sessions, &[]).await.unwrap();
        poster.close().await;
        handle.close().await.unwrap();
        nodes.iter().map(|row| (row.get(0), row.get(1))).collect::<Vec<(String, i32)>>()
    });
    assert!(nodes.len() > 1 && nodes.iter().all(|(_, sessions)| *sessions > 0), "{nodes:?}");
    wait(async { check_invariants(&database.client().await).await });
}

/// A lane goes on with the accounts of one node while a group waits at another.
#[test]
fn a_node_that_does_not_answer_holds_up_no_other() {
    let database = wait(TestDatabase::new());
    wait(async {
        let (client, handle) = (database.client().await, database.database().await);
        let poster = start_poster(&handle, 1);
        for reply in futures_util::future::join_all((0..ACCOUNTS).map(|nth| poster.post(recharge(nth, "first")))).await
        {
            reply.unwrap();
        }
        let accounts = account_of_each_node(&client).await;
        client.batch_execute(&lock_of(accounts[0])).await.unwrap();
        let caller = poster.clone();
        let mut waiting = std::pin::pin!(caller.post(recharge(accounts[0], "second")));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert!(poster.post(recharge(accounts[1], "second")).await.unwrap().entry().is_some());
        assert!(futures_util::poll!(&mut waiting).is_pending(), "the lock is held");
        client.batch_execute("COMMIT").await.unwrap();
        assert!(waiting.await.unwrap().entry().is_some());
        poster.close().await;
        handle.close().await.unwrap();
    });
    wait(async { check_invariants(&database.client().await).await });
}

/// An account of each node that holds some.
async fn account_of_each_node(client: &tokio_postgres::Client) -> Vec<u32> {
    let place = "SELECT port FROM pointsd.bucket_nodes() WHERE bucket = pointsd.bucket_of($1)";
    let mut of_each = std::collections::BTreeMap::new();
    for nth in 0..ACCOUNTS {
        of_each.insert(client.query_one(place, &[&user(nth)]).await.unwrap().get::<_, i32>(0), nth);
    }
    of_each.into_values().collect()
}

fn lock_of(account: u32) -> String {
    let lock = "BEGIN; SELECT FROM pointsd.accounts WHERE bucket = pointsd.bucket_of('$') AND user_id = '$' FOR UPDATE";
    lock.replace('$', &user(account).to_string())
}

/// Posts to an account that is locked, alone or with one of another node. Later postings to the other node do not wait for the lock.
fn post_beside_a_node_that_does_not_answer(warm: bool, several: bool) {
    let database = wait(TestDatabase::new());
    wait(async {
        let (client, handle) = (database.client().await, database.database().await);
        let accounts = account_of_each_node(&client).await;
        let (away, near) = (accounts[0], accounts[1]);
        let first = start_poster(&handle, 1);
        for nth in [away, near] {
            first.post(recharge(nth, "first")).await.unwrap();
        }
        client.batch_execute(&lock_of(away)).await.unwrap();
        let poster = if warm { first.clone() } else { start_poster(&handle, 1) };
        let feed = poster.feed();
        let postings = if several { vec![away, near] } else { vec![away] };
        let postings = postings.into_iter().map(|nth| recharge(nth, "second")).collect();
        let waiting = feed.hand_over(postings).await.unwrap();
        let soon = std::time::Duration::from_secs(10);
        let alone = tokio::time::timeout(soon, poster.post(recharge(near, "alone"))).await;
        assert!(alone.expect("a posting at another node waits").unwrap().entry().is_some());
        let more = feed.hand_over(vec![recharge(near, "more")]).await.unwrap();
        let more = tokio::time::timeout(soon, more.replies()).await;
        assert!(more.expect("postings at another node wait").unwrap()[0].entry().is_some());
        client.batch_execute("COMMIT").await.unwrap();
        assert!(waiting.replies().await.unwrap().iter().all(|reply| reply.entry().is_some()));
        drop(first);
        poster.close().await;
        handle.close().await.unwrap();
    });
    wait(async { check_invariants(&database.client().await).await });
}

/// Nor does a node that is away when the poster begins.
#[test]
fn a_node_that_does_not_answer_to_the_first_group_holds_up_no_other() {
    post_beside_a_node_that_does_not_answer(false, false);
}

/// A caller's postings of several nodes do not tie these together.
#[test]
fn postings_of_several_nodes_hold_up_no_other() {
    post_beside_a_node_that_does_not_answer(true, true);
}

/// Nor does an account whose node gets another name while a posting to it is under way: later ones to it wait until that has ended.
#[test]
fn an_account_that_waits_for_its_earlier_posting_holds_up_no_other() {
    let database = wait(TestDatabase::new());
    wait(async {
        let (client, handle) = (database.client().await, database.database().await);
        let poster = start_poster(&handle, 1);
        let post = |account, key| {
            let poster = poster.clone();
            async move { poster.post(recharge(account, key)).await.unwrap() }
        };
        let accounts = account_of_each_node(&client).await;
        let (away, near) = (accounts[0], accounts[1]);
        for nth in [away, near] {
            post(nth, "first").await;
        }
        client.batch_execute(&lock_of(away)).await.unwrap();
        let mut waiting = std::pin::pin!(post(away, "second"));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        let other = database.client().await;
        let place = "SELECT port FROM pointsd.bucket_nodes() WHERE bucket = pointsd.bucket_of($1)";
        let port = |nth| {
            let other = &other;
            async move { other.query_one(place, &[&user(nth)]).await.unwrap().get::<_, i32>(0) }
        };
        // The cluster knows it by its address from now on.
        let rename = "SELECT citus_update_node(nodeid, result, nodeport), nodename <> result FROM pg_dist_node
             JOIN run_command_on_workers('SELECT host(inet_server_addr())') USING (nodename, nodeport) WHERE nodeport = $1";
        let is_new: bool = other.query_one(rename, &[&port(away).await]).await.unwrap().get(1);
        assert!(is_new, "the cluster must know its nodes by name, not by address");
        // Where a session is lost, the places are read again.
        let end = format!(
            "SELECT run_command_on_workers($$SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = 'pointsd' AND current_setting('port') = '{}'$$)",
            port(near).await
        );
        other.batch_execute(&end).await.unwrap();
        post(near, "second").await;
        post(near, "third").await;
        let mut later = std::pin::pin!(post(away, "third"));
        assert!(futures_util::poll!(&mut later).is_pending());
        let soon = std::time::Duration::from_secs(10);
        tokio::time::timeout(soon, post(near, "fourth")).await.expect("another node's account waits");
        assert!(futures_util::poll!(&mut later).is_pending(), "it went before the one that waits for the lock");
        client.batch_execute("COMMIT").await.unwrap();
        waiting.await;
        later.await;
        poster.close().await;
        handle.close().await.unwrap();
    });
    wait(async { check_invariants(&database.client().await).await });
}

/// Lanes that begin at the same time know where the buckets lie before they send the first group.
#[test]
fn lanes_that_begin_together_send_each_account_to_one_node() {
    let database = wait(TestDatabase::new());
    wait(async {
        let (client, handle) = (database.client().await, database.database().await);
        let post = |poster: &Poster, account: u32, key: String| {
            let poster = poster.clone();
            async move { poster.post(recharge(account, &key)).await.unwrap() }
        };
        // Of each lane an account at one node, and one at the other.
        let place =
            "SELECT pointsd.bucket_of($1) % 2, port FROM pointsd.bucket_nodes() WHERE bucket = pointsd.bucket_of($1)";
        let mut accounts = std::collections::BTreeMap::new();
        for nth in 0..ACCOUNTS {
            let row = client.query_one(place, &[&user(nth)]).await.unwrap();
            accounts.insert((row.get::<_, i32>(1), row.get::<_, i32>(0)), nth);
        }
        let accounts: Vec<u32> = accounts.into_values().collect();
        let (away, near) = accounts.split_at(2);
        let first = start_poster(&handle, 2);
        futures_util::future::join_all(accounts.iter().map(|nth| post(&first, *nth, "first".to_owned()))).await;
        first.close().await;
        let other = database.client().await;
        let waiting_for_locks = "SELECT FROM run_command_on_workers(
            $$SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'$$)
            HAVING sum(result::integer) >= 2";
        for round in 0..10 {
            for nth in away {
                client.batch_execute(&lock_of(*nth)).await.unwrap();
            }
            let poster = start_poster(&handle, 2);
            let postings = |accounts: &[u32], key: &str| {
                let key = format!("{key} {round}");
                futures_util::future::join_all(
                    accounts.iter().map(|nth| post(&poster, *nth, key.clone())).collect::<Vec<_>>(),
                )
            };
            let mut waiting = std::pin::pin!(postings(away, "waiting"));
            assert!(futures_util::poll!(&mut waiting).is_pending());
            until_found(&other, "both wait for their locks", waiting_for_locks).await;
            let mut more = std::pin::pin!(postings(away, "more"));
            assert!(futures_util::poll!(&mut more).is_pending());
            let near = tokio::time::timeout(std::time::Duration::from_secs(10), postings(near, "near")).await;
            assert!(near.is_ok(), "another node's account waits, round {round}");
            client.batch_execute("COMMIT").await.unwrap();
            waiting.await;
            more.await;
            poster.close().await;
        }
        handle.close().await.unwrap();
    });
}

/// A batch of each account that has ended.
fn post_batches_that_are_due(url: &str) {
    let line = |nth: u32| {
        let user = user(nth);
        format!(
            "{{\"op\":\"recharge\",\"user\":\"{user}\",\"points\":7,\"source\":\"gift\",\"order_id\":1,\"at\":\"2026-01-01T00:00:00Z\",\"expires_at\":\"2026-01-02T00:00:00Z\"}}\n"
        )
    };
    program::post(url, (0..ACCOUNTS).map(line).collect::<String>()).expect(0);
}

/// A run that is cancelled, or whose process was killed, writes on no node any more: its counters are those of its entries.
#[test]
fn a_sweep_that_lost_its_run_writes_on_no_node() {
    let (database, folder) = (wait(TestDatabase::new()), Folder::new());
    let url = database.url();
    let lanes = folder.file("pointsd.yaml", "jobs: {takeover_seconds: 3, expiry: {lanes: 2}}\n");
    post_batches_that_are_due(&url);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = runtime.block_on(database.client());
    let expired = |run: i64| {
        let sql = "SELECT count(*) FROM pointsd.entries WHERE type = 'expire' AND run = $1";
        runtime.block_on(client.query_one(sql, &[&run])).unwrap().get::<_, i64>(0)
    };
    let sweep = ["run", "expiry", "--json", "--config", &lanes];
    for (run, kill) in [(1_u32, false), (2, true)] {
        // It stands still at an account.
        runtime.block_on(client.batch_execute(&lock_of(run))).unwrap();
        let running = Running::start(on(&url, &sweep));
        eventually("some groups are swept", || {
            let shown = call(&url, &["jobs", "--json"]).expect(0).json();
            shown[0]["running"]["progress"]["done"].as_u64()
        });
        let counted = if kill {
            running.signal(Signal::SIGKILL);
            running.finish().expect_signal(Signal::SIGKILL);
            // Another process ends it: it was a run by hand.
            let rest = eventually("its run is free", || {
                let next = call(&url, &["run", "expiry", "--json", "--at", "2026-01-01T12:00:00Z", "--config", &lanes]);
                next.status.success().then(|| next.json())
            });
            assert_eq!(rest["batches"], 0);
            let runs = call(&url, &["runs", "--json"]).expect(0).jsons();
            runs.into_iter().find(|row| row["run"] == run).unwrap()
        } else {
            call(&url, &["jobs", "cancel", &run.to_string(), "--json"]).expect(0).json()["run"].clone()
        };
        runtime.block_on(client.batch_execute("COMMIT")).unwrap();
        let counted = counted["counters"]["batches"].as_i64().unwrap();
        assert!(0 < counted && counted < i64::from(ACCOUNTS), "{counted}");
        assert_eq!(expired(run.into()), counted);
    }
    call(&url, &sweep).expect(0);
    runtime.block_on(check_invariants(&client));
}

/// An account whose rows were changed by hand keeps no other from expiring there.
#[test]
fn a_damaged_account_holds_up_no_sweep() {
    let mut database = wait(TestDatabase::new());
    let url = database.url();
    database.expect_damage();
    post_batches_that_are_due(&url);
    wait(async {
        let sql = "UPDATE pointsd.accounts SET last_seq = 0 WHERE bucket = pointsd.bucket_of('$') AND user_id = '$'";
        database.client().await.batch_execute(&sql.replace('$', &user(1).to_string())).await.unwrap();
    });
    let swept = call(&url, &["run", "expiry", "--json"]).expect(3).json();
    assert_eq!((&swept["batches"], &swept["failed"]), (&(ACCOUNTS - 1).into(), &1.into()), "{swept}");
}

/// Nor do the requests of a node that is away: they wait, and are posted in their order when it is back.
#[test]
fn requests_of_a_node_that_is_away_hold_up_no_other() {
    let (database, runtime) = (wait(TestDatabase::new()), tokio::runtime::Runtime::new().unwrap());
    let (url, client) = (database.url(), runtime.block_on(database.client()));
    let sql = |sql: &str| runtime.block_on(client.batch_execute(sql)).unwrap();
    let order = std::cell::Cell::new(0);
    let enqueue = |times: u32| {
        for _ in 0..times {
            order.set(order.get() + 1);
            for nth in 0..ACCOUNTS {
                let (account, order) = (user(nth), order.get());
                sql(&format!(
                    "SELECT pointsd.enqueue('recharge', '{account}', 1, source => 'gift', order_id => {order})"
                ));
            }
        }
    };
    let open = |condition: &str| {
        let sql = format!("SELECT count(*) FROM pointsd.requests_open AS r WHERE {condition}");
        runtime.block_on(client.query_one(&sql, &[])).unwrap().get::<_, i64>(0)
    };
    let near = "pointsd.bucket_of(r.user_id) NOT IN (
        SELECT bucket FROM pointsd.bucket_nodes() WHERE (host, port) IN (SELECT host, port FROM pointsd.bucket_nodes() ORDER BY 1, 2 LIMIT 1))";
    let serving = Running::start(on(&url, &["serve"]));
    for _ in 0..2 {
        enqueue(1);
        eventually("all are posted", || (open("true") == 0).then_some(()));
        runtime.block_on(database.set_first_worker_away(true));
        enqueue(2);
        eventually("the requests of the other nodes are posted", || (open(near) == 0).then_some(()));
        assert!(open("true") > 0);
        assert_eq!(open("state <> 'pending' OR attempts > 0"), 0);
        runtime.block_on(database.set_first_worker_away(false));
        // The lanes are at work when it comes back, and have been read beyond its requests.
        enqueue(5);
    }
    eventually("all are posted", || (open("true") == 0).then_some(()));
    serving.signal(Signal::SIGTERM);
    let told = serving.finish().expect(0).stderr;
    assert!(told.contains("is away") && told.contains("no longer"), "{told}");
    let out_of_order = "SELECT count(*) FROM pointsd.requests WHERE state <> 'posted' OR seq <> order_id";
    assert_eq!(runtime.block_on(client.query_one(out_of_order, &[])).unwrap().get::<_, i64>(0), 0);
    runtime.block_on(check_invariants(&client));
}

/// A lane waits no longer for a locked account than on one server: the limit of its transaction reaches the node.
#[test]
fn the_queue_gives_up_a_locked_account_by_its_own_limit() {
    let (database, runtime) = (wait(TestDatabase::new()), tokio::runtime::Runtime::new().unwrap());
    let (url, client) = (database.url(), runtime.block_on(database.client()));
    let other = runtime.block_on(database.client());
    let recharge = |order: u32| {
        let account = user(1);
        let sql = format!("SELECT pointsd.enqueue('recharge', '{account}', 1, source => 'gift', order_id => {order})");
        runtime.block_on(client.batch_execute(&sql)).unwrap();
    };
    let serving = Running::start(on(&url, &["serve"]));
    recharge(1);
    eventually("it is posted", || (requests_in(&url, "posted") == 1).then_some(()));
    runtime.block_on(other.batch_execute(&lock_of(1))).unwrap();
    recharge(2);
    let why = eventually("it waits", || {
        let sql = "SELECT message FROM pointsd.requests WHERE state = 'waiting'";
        Some(runtime.block_on(client.query_opt(sql, &[])).unwrap()?.get::<_, String>(0))
    });
    assert!(why.contains("lock timeout"), "{why}");
    runtime.block_on(other.batch_execute("COMMIT")).unwrap();
    eventually("both are posted", || (requests_in(&url, "posted") == 2).then_some(()));
    serving.signal(Signal::SIGTERM);
    serving.finish().expect(0);
}

/// The role of a daemon has what it needs there: the coordinator sends the defaults of a row along.
#[test]
fn a_daemon_posts_under_its_role() {
    let (database, folder) = (wait(TestDatabase::new()), Folder::new());
    let (owner, role) = (database.url(), format!("daemon_{}", uuid::Uuid::new_v4().simple()));
    let sql = |sql: String| wait(async { database.client().await.batch_execute(&sql).await.unwrap() });
    sql(format!("CREATE ROLE {role} LOGIN"));
    let told = call(&owner, &["db", "grant", "--daemon", &role]).expect(0).stderr;
    assert_eq!(told, "", "it has no right through others");
    let url = format!("postgres://{role}@{}", owner.split_once('@').unwrap().1);
    let file = folder.file("lines.ndjson", history(500));
    call(&url, &["post", &file, "--json"]).expect(3);
    sql(format!("SELECT pointsd.enqueue('recharge', '{}', 1, source => 'gift', order_id => 1)", user(ACCOUNTS)));
    sql(format!("SELECT pointsd.enqueue('consume', '{}', 1, source_type => 'tts', source_id => 'x')", user(ACCOUNTS)));
    let serving = Running::start(on(&url, &["serve"]));
    eventually("both requests are posted", || (requests_in(&owner, "posted") == 2).then_some(()));
    serving.signal(Signal::SIGTERM);
    serving.finish().expect(0);
    call(&url, &["run", "expiry", "--at", END]).expect(0);
    sql(format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}
