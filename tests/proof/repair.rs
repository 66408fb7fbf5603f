//! Repair, through the program: an operator reads a plan, and it is applied to accounts that have not changed since.

use pointsd::proof::{Approval, Basis, Finding, RepairOutcome, examine, record_findings};
use serde_json::Value;
use tokio_postgres::Client;

use super::{TestDatabase, consume, day, finding, note_proved, post, unguard, user, write_history};
use crate::program::{Done, Folder, call, on, run, until_found, without_umask};
use crate::support::buckets;
use crate::support::invariants::check_invariants;
use crate::support::rows::{Rows, assert_same};

/// A manual change of user 1 (`$u`).
async fn hand(client: &Client, sql: &str) {
    client.batch_execute(&sql.replace("$u", &format!("'{}'", user(1)))).await.unwrap();
}

async fn found(client: &Client) -> Vec<Finding> {
    examine(client, &[user(1), user(2), user(3)]).await.unwrap()
}

async fn plan(url: &str, folder: &Folder, more: &[&str], status: i32) -> (String, Value) {
    let file = folder.path().join("plan.yaml").to_str().unwrap().to_owned();
    let command = on(url, &[&["repair", "plan", "--output", file.as_str()], more].concat());
    tokio::task::spawn_blocking(move || run(without_umask(&command))).await.unwrap().expect(status);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("# A repair of "), "{text}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "balances are for its reader alone");
    let json = serde_json::to_value(serde_yaml::from_str::<pointsd::proof::Plan>(&text).unwrap()).unwrap();
    (file, json)
}

async fn apply(url: &str, file: &str, status: i32) -> Done {
    program(url, &["repair", "apply", file, "--reason", "a hand slipped", "--by", "Ada"], status).await
}

/// Calls the program on a thread of its own, because the database's connections need the threads of the test.
async fn program(url: &str, args: &[&str], status: i32) -> Done {
    let (url, args) = (url.to_owned(), args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>());
    let run = move || call(&url, &args.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.unwrap().expect(status)
}

async fn last_entry(client: &Client) -> tokio_postgres::Row {
    client
        .query_one("SELECT * FROM pointsd.entries WHERE user_id = $1 ORDER BY seq DESC LIMIT 1", &[&user(1)])
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_set_back_to_the_entries_and_it_is_recorded() {
    let database = TestDatabase::new().await;
    let (client, url, folder) = (database.client().await, database.url(), Folder::new());
    write_history(&database).await;
    unguard(&client).await;
    let sound = Rows::read(&client).await;
    hand(
        &client,
        "UPDATE pointsd.accounts SET balance = 999, total_consumed = 1, last_seq = 20, last_batch = 1 WHERE user_id = $u;
         UPDATE pointsd.batches SET remaining = 0, open = true, source = 'invite' WHERE user_id = $u AND batch = 5;
         UPDATE pointsd.batches SET amount = 77, opened_at = '2025-01-01' WHERE user_id = $u AND batch = 1",
    )
    .await;
    let before = found(&client).await;
    assert!(before.len() >= 4, "{before:?}");
    // A plan covers the recorded findings only, unless users are named.
    let (file, empty) = plan(&url, &folder, &[], 0).await;
    assert_eq!(empty["accounts"], serde_json::json!([]));
    let done = apply(&url, &file, 0).await;
    assert!(done.stdout.contains("Nothing to do"), "{done:?}");
    record_findings(&client, 1, day(20), &before).await.unwrap();

    let damaged = Rows::read(&client).await;
    let (file, plan) = plan(&url, &folder, &[], 0).await;
    assert_eq!(Rows::read(&client).await, damaged, "a plan changes nothing");
    assert_eq!(plan["accounts"][0]["account"]["before"]["balance"], 999);
    assert_eq!(plan["accounts"][0]["account"]["after"]["balance"], 175);
    assert_eq!(plan["accounts"][0]["batches"].as_array().unwrap().len(), 2);
    let done = apply(&url, &file, 0).await;
    assert!(done.stdout.contains("set right by entry 13"), "{done:?}");

    assert_eq!(found(&client).await, []);
    let mut after = Rows::read(&client).await;
    let entry = after.entries.remove(12);
    assert_eq!((entry.seq, entry.kind.as_str(), entry.amount), (13, "adjust", 0));
    assert_eq!((entry.balance_before, entry.balance_after, entry.key), (175, 175, None));
    after.accounts[0].last_seq = 12;
    assert_eq!(after, sound, "but for the entry all is as it was before the hand");
    let correction: Value = last_entry(&client).await.get("correction");
    assert_eq!((&correction["by"], &correction["reason"]), (&"Ada".into(), &"a hand slipped".into()));
    assert_eq!(correction["plan"], plan["plan"]);
    assert_eq!(correction["findings"], serde_json::to_value(&before).unwrap());
    assert_eq!(correction["account"], plan["accounts"][0]["account"]);
    assert_eq!(correction["batches"], plan["accounts"][0]["batches"]);
    assert!(correction["when"].as_str().unwrap().ends_with('Z'));

    // The same plan again posts nothing.
    let rows = Rows::read(&client).await;
    let done = apply(&url, &file, 0).await;
    assert!(done.stdout.contains("had been set right by entry 13"), "{done:?}");
    assert_eq!(Rows::read(&client).await, rows);

    // The account takes postings, and the commands show its adjust entry.
    let mut session = database.session().await;
    post(&mut session, &[consume(1, 5, 21)]).await;
    assert_eq!(session.sweep(day(41), false, |_| true).await.unwrap().points, 170);
    check_invariants(&client).await;
    let entries = program(&url, &["export", "entries", "--user", &user(1).to_string(), "--json"], 0).await.jsons();
    assert_eq!((&entries[12]["type"], &entries[12]["correction"]), (&"adjust".into(), &correction));
    let csv = program(&url, &["export", "entries", "--user", &user(1).to_string(), "--csv"], 0).await.stdout;
    assert!(csv.contains(",repair,") && csv.contains("a hand slipped"), "{csv}");
}

/// The columns of refunds, voids, restores and holds follow from the entries and the holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_refunds_voids_restores_and_holds_left_is_set_back() {
    let database = TestDatabase::new().await;
    let (client, url, folder) = (database.client().await, database.url(), Folder::new());
    write_history(&database).await;
    unguard(&client).await;
    let sound = Rows::read(&client).await;
    let other = user(4);
    let damage = format!(
        "UPDATE pointsd.accounts SET total_refunded = 1, total_voided = 2, total_expired = 3, expired_until = NULL, open_holds = 7
         WHERE user_id = '{other}';
         UPDATE pointsd.batches SET expired = 9, remaining = 0, open = false WHERE user_id = '{other}' AND batch = 4;
         UPDATE pointsd.batches SET source = 'card' WHERE user_id = '{other}' AND batch = 1"
    );
    client.batch_execute(&damage).await.unwrap();
    let rules: Vec<String> =
        examine(&client, &[other]).await.unwrap().into_iter().map(|finding| finding.rule).collect();
    // The points of the refund were drawn from batch 1: its source is one finding, too.
    assert_eq!(rules, ["batch_recharge", "batch_amount", "account_totals", "account_numbers"]);
    let (file, plan) = plan(&url, &folder, &["--user", &other.to_string()], 0).await;
    let after = &plan["accounts"][0]["account"]["after"];
    assert_eq!((&after["total_refunded"], &after["total_voided"]), (&50.into(), &10.into()));
    assert_eq!((&after["open_holds"], &after["expired_until"]), (&1.into(), &"2026-01-10 12:00:00Z".into()));
    apply(&url, &file, 0).await;
    assert_eq!(examine(&client, &[other]).await.unwrap(), []);
    let mut after = Rows::read(&client).await;
    assert_eq!(after.entries.pop().map(|entry| (entry.seq, entry.amount)), Some((11, 0)));
    after.accounts[3].last_seq = 10;
    assert_eq!(after, sound, "but for the entry all is as it was before the hand");
}

/// Points that were put back into a batch may expire once more, but never more than it had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn balances_are_not_kept_where_a_batch_would_expire_twice() {
    let mut database = TestDatabase::new().await;
    database.expect_damage();
    let (client, url, folder) = (database.client().await, database.url(), Folder::new());
    write_history(&database).await;
    unguard(&client).await;
    hand(
        &client,
        "UPDATE pointsd.accounts SET balance = 205 WHERE user_id = $u;
         UPDATE pointsd.batches SET remaining = 30, open = true WHERE user_id = $u AND batch = 4",
    )
    .await;
    let (_, plan) = plan(&url, &folder, &["--user", &user(1).to_string(), "--keep", "balances"], 3).await;
    let reason = plan["unrepairable"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("of batch 4, 30 points have expired"), "{reason}");
}

/// A hold is no part of the history, so no entry sets one right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_that_no_entry_sets_right_are_listed() {
    let mut database = TestDatabase::new().await;
    database.expect_damage();
    let (client, url, folder) = (database.client().await, database.url(), Folder::new());
    write_history(&database).await;
    let stranger: uuid::Uuid = "00000000-0000-4000-8000-000000000000".parse().unwrap();
    for (hand, user, reason) in [
        (
            "UPDATE pointsd.holds SET seq = 2 WHERE state = 'captured'".to_owned(),
            user(4),
            "a hold does not agree with its consume",
        ),
        (
            format!(
                "UPDATE pointsd.holds SET user_id = '{stranger}', bucket = pointsd.bucket_of('{stranger}') WHERE state = 'open'"
            ),
            stranger,
            "the account's row is missing",
        ),
    ] {
        client.batch_execute(&hand).await.unwrap();
        let (_, plan) = plan(&url, &folder, &["--user", &user.to_string()], 3).await;
        let told = plan["unrepairable"][0]["reason"].as_str().unwrap();
        assert!(told.contains(reason) && told.contains("backup"), "{hand}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn balances_are_kept_and_the_difference_is_booked() {
    let database = TestDatabase::new().await;
    let (client, url, folder) = (database.client().await, database.url(), Folder::new());
    write_history(&database).await;
    unguard(&client).await;
    let me = user(1).to_string();
    let args = ["--user", me.as_str(), "--keep", "balances"];
    // 55 points more in an old batch, 25 fewer in the live one.
    hand(
        &client,
        "UPDATE pointsd.accounts SET balance = 205, total_recharged = 1 WHERE user_id = $u;
         UPDATE pointsd.batches SET remaining = 55, open = true WHERE user_id = $u AND batch = 3;
         UPDATE pointsd.batches SET remaining = 150 WHERE user_id = $u AND batch = 5",
    )
    .await;
    let (file, plan) = plan(&url, &folder, &args, 0).await;
    assert_eq!(
        plan["accounts"][0]["entry"],
        serde_json::json!({
            "seq": 13, "amount": 30, "balance_before": 175, "balance_after": 205,
            "allocations": [{ "batch": 3, "points": -55 }, { "batch": 5, "points": 25 }],
        })
    );
    apply(&url, &file, 0).await;
    assert_eq!(found(&client).await, []);
    check_invariants(&client).await;
    let balance = program(&url, &["balance", &me, "--json"], 0).await.json();
    assert_eq!((&balance["balance"], &balance["total_adjusted"]), (&205.into(), &30.into()));
    assert_eq!(balance["total_recharged"], 480);
    // Points that were put back into a batch past its expiry expire, and the account takes postings.
    let mut session = database.session().await;
    post(&mut session, &[consume(1, 10, 18)]).await;
    assert_eq!(session.sweep(day(41), false, |_| true).await.unwrap().points, 140);
    assert_eq!(found(&client).await, []);

    // A balance that was lowered, to below zero.
    hand(&client, "UPDATE pointsd.accounts SET balance = -20 WHERE user_id = $u").await;
    let (file, plan) = self::plan(&url, &folder, &args, 0).await;
    assert_eq!(plan["accounts"][0]["entry"]["amount"], 20);
    apply(&url, &file, 0).await;
    assert_eq!(found(&client).await, []);

    // Balances cannot be kept if the rows contradict each other.
    hand(&client, "UPDATE pointsd.accounts SET balance = 7 WHERE user_id = $u").await;
    let (_, plan) = self::plan(&url, &folder, &args, 3).await;
    let reason = plan["unrepairable"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("batches show 0 points, the account a balance of 7"), "{reason}");
    let (file, _) = self::plan(&url, &folder, &["--user", &me], 0).await;
    apply(&url, &file, 0).await;
    assert_eq!(found(&client).await, []);
}

/// A finding without an account is in no plan, but is reported.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_about_the_whole_ledger_is_told() {
    let database = TestDatabase::new().await;
    let (client, url, folder) = (database.client().await, database.url(), Folder::new());
    write_history(&database).await;
    let whole = |rule: &str| Finding { user: None, ..finding(1, rule, None, None, "10", "11") };
    record_findings(&client, 1, day(20), &[whole("days_balance"), whole("day_changed")]).await.unwrap();
    let told = "2 findings about the ledger as a whole, which no entry sets right: see docs/reconciliation.md";
    let done = program(&url, &["repair", "plan"], 3).await;
    assert!(done.stdout.contains(&format!("\n# {told}\n")) && done.stderr.is_empty(), "{done:?}");
    let done = program(&url, &["repair", "plan", "--json"], 3).await;
    assert_eq!((&done.json()["accounts"], done.stderr.trim_end()), (&serde_json::json!([]), told));
    plan(&url, &folder, &[], 3).await;
    // A plan for named users leaves out these findings.
    plan(&url, &folder, &["--user", &user(1).to_string()], 0).await;
}

/// A changed description is accepted by one explicit decision.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_history_is_accepted_on_request() {
    let database = TestDatabase::new().await;
    let (client, url, folder) = (database.client().await, database.url(), Folder::new());
    write_history(&database).await;
    note_proved(&client).await;
    unguard(&client).await;
    hand(
        &client,
        "CREATE TEMPORARY TABLE before AS SELECT description AS d FROM pointsd.entries WHERE user_id = $u AND seq = 4",
    )
    .await;
    hand(&client, "UPDATE pointsd.entries SET description = 'otherwise' WHERE user_id = $u AND seq = 3").await;
    assert_eq!(found(&client).await.len(), 1);
    let (file, plan) = plan(&url, &folder, &["--user", &user(1).to_string()], 0).await;
    assert_eq!(plan["accounts"][0]["accept_history"], true);
    // A manual change after the plan was read is not accepted with it, though no other rule finds it.
    hand(&client, "UPDATE pointsd.entries SET description = 'unread' WHERE user_id = $u AND seq = 4").await;
    let done = apply(&url, &file, 3).await;
    assert!(done.stdout.contains("it has moved on since the plan, or the plan's rows were edited"), "{done:?}");
    hand(&client, "UPDATE pointsd.entries SET description = before.d FROM before WHERE user_id = $u AND seq = 4").await;
    apply(&url, &file, 0).await;
    assert_eq!(found(&client).await, []);
    let entry = last_entry(&client).await;
    assert_eq!((entry.get::<_, &str>("type"), entry.get::<_, i64>("amount")), ("adjust", 0));
    let correction: Value = entry.get("correction");
    assert_eq!(correction["accept_history"], true);
    let left = client.query_one("SELECT count(*) FROM pointsd.checkpoints", &[]).await.unwrap();
    assert_eq!(left.get::<_, i64>(0), 3, "the proof of this account begins anew, the others' stay");
    check_invariants(&client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_moved_on_is_left_alone() {
    let mut database = TestDatabase::new().await;
    database.expect_damage();
    let (client, url, folder) = (database.client().await, database.url(), Folder::new());
    write_history(&database).await;
    unguard(&client).await;
    let (me, other) = (user(1).to_string(), user(3).to_string());
    hand(&client, "UPDATE pointsd.accounts SET total_consumed = 1").await;
    let (file, _) = plan(&url, &folder, &["--user", &me, "--user", &other], 0).await;
    let mut session = database.session().await;
    post(&mut session, &[consume(1, 5, 18)]).await;
    let moved = Rows::read(&client).await;
    let done = apply(&url, &file, 3).await;
    assert!(done.stdout.contains(&format!("{me}: was left alone, because it has moved on")), "{done:?}");
    assert!(done.stdout.contains(&format!("{other}: set right by entry 2")), "{done:?}");
    let after = Rows::read(&client).await;
    assert_eq!(after.accounts[0], moved.accounts[0]);
    assert_eq!(after.entries[..13], moved.entries[..13]);
    assert_eq!(found(&client).await.len(), 2, "users 1 and 2");

    // A change of a batch without a finding counts, too.
    let (file, _) = plan(&url, &folder, &["--user", &me], 0).await;
    hand(&client, "UPDATE pointsd.batches SET open = true WHERE user_id = $u AND batch = 1").await;
    apply(&url, &file, 3).await;
    let (file, _) = plan(&url, &folder, &["--user", &me], 0).await;
    apply(&url, &file, 0).await;
    assert_eq!(found(&client).await.len(), 1, "user 2");
}

/// The accounts are spread over other buckets between the look at their number and the lock. Nothing is locked then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_moves_to_another_bucket_meanwhile_is_left_alone() {
    let mut database = TestDatabase::new().await;
    database.expect_damage();
    let (client, mover, mut ours) = (database.client().await, database.client().await, database.client().await);
    write_history(&database).await;
    unguard(&client).await;
    hand(&client, "UPDATE pointsd.accounts SET total_consumed = 1 WHERE user_id = $u").await;
    let plan = pointsd::proof::plan(&mut ours, &[user(1)], Basis::Entries, day(20)).await.unwrap();
    let before = Rows::read(&client).await;
    let other = if buckets() == 1 { 2 } else { 1 };
    let spread = format!(
        "BEGIN; LOCK TABLE pointsd.accounts;
         CREATE OR REPLACE FUNCTION pointsd.buckets() RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN {other}::smallint"
    );
    mover.batch_execute(&spread).await.unwrap();
    let approval = Approval { by: "Ada", reason: "a hand slipped", at: day(20) };
    let applying = pointsd::proof::apply(&mut ours, &plan, &plan.accounts[0], &approval);
    let moving = async {
        let waits = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'relation'";
        until_found(&client, "the repair to wait for the accounts", waits).await;
        mover.batch_execute("COMMIT").await.unwrap();
    };
    let (applied, ()) = tokio::join!(applying, moving);
    assert_eq!(applied.unwrap(), RepairOutcome::AccountChanged);
    assert_same(&Rows::read(&client).await, &before, "after the repair");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_entry_sets_right_is_listed_with_the_reason() {
    let mut database = TestDatabase::new().await;
    database.expect_damage();
    let (client, url, folder) = (database.client().await, database.url(), Folder::new());
    write_history(&database).await;
    unguard(&client).await;
    let me = user(1).to_string();
    for (sql, reason) in [
        ("DELETE FROM pointsd.accounts WHERE user_id = $u", "the account's row is missing"),
        ("DELETE FROM pointsd.entries WHERE user_id = $u AND seq = 4", "entry 4 is missing"),
        (
            "UPDATE pointsd.entries SET amount = 1 WHERE user_id = $u AND seq = 4",
            "entry 4 itself is wrong (entry_amount)",
        ),
        ("DELETE FROM pointsd.batches WHERE user_id = $u AND batch = 2", "a batch's row is missing"),
        ("UPDATE pointsd.batches SET batch = 20 WHERE user_id = $u AND batch = 2", "does not know batch 20"),
        ("UPDATE pointsd.batches SET expires_at = opened_at WHERE user_id = $u AND batch = 5", "does not know batch 5"),
    ] {
        // The opposite change undoes the first one: the rows are as before.
        client
            .batch_execute(
                "CREATE TABLE kept AS TABLE pointsd.accounts; CREATE TABLE kept_batches AS TABLE pointsd.batches;
            CREATE TABLE kept_entries AS TABLE pointsd.entries",
            )
            .await
            .unwrap();
        hand(&client, sql).await;
        let (file, plan) = plan(&url, &folder, &["--user", &me], 3).await;
        assert_eq!(plan["accounts"], serde_json::json!([]), "{sql}");
        let told = plan["unrepairable"][0]["reason"].as_str().unwrap();
        assert!(told.contains(reason) && told.contains("backup"), "{sql}: {told}");
        let damaged = found(&client).await;
        apply(&url, &file, 0).await;
        assert_eq!(found(&client).await, damaged);
        client
            .batch_execute(
                "DELETE FROM pointsd.accounts; DELETE FROM pointsd.batches; DELETE FROM pointsd.entries;
                 INSERT INTO pointsd.accounts (bucket, user_id, balance, total_recharged, total_consumed, total_expired,
                     total_refunded, total_voided, last_seq, last_batch, expired_until, open_holds)
                 SELECT bucket, user_id, balance, total_recharged, total_consumed, total_expired, total_refunded, total_voided,
                     last_seq, last_batch, expired_until, open_holds FROM kept;
                 INSERT INTO pointsd.batches SELECT * FROM kept_batches;
                 INSERT INTO pointsd.entries SELECT * FROM kept_entries;
                 DROP TABLE kept, kept_batches, kept_entries",
            )
            .await
            .unwrap();
    }
    assert_eq!(found(&client).await, []);
    // A file that is not a plan is refused.
    let file = folder.file("no.yaml", "accounts: 3");
    let done = apply(&url, &file, 2).await;
    assert!(done.stderr.contains("is no plan of a repair"), "{done:?}");
}
