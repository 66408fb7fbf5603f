//! Moving in from the tables of another service: planned, applied, followed, and everything that can be wrong there.

mod damaged;
mod interrupted;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::process::Command;

use chrono::{DateTime, Utc};
use futures_util::SinkExt as _;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::http::Site;
use crate::program::python::python;
use crate::program::{Folder, Running, call, eventually, feed, on, post, requests_in, run, wait};
use crate::support::{TestDatabase, rng};

/// The tables as SQLAlchemy creates them, empty.
pub const TABLES: &str = "
    CREATE TABLE public.user_points (id serial PRIMARY KEY, user_id uuid NOT NULL UNIQUE, balance integer NOT NULL,
        total_recharged integer NOT NULL DEFAULT 0, total_consumed integer NOT NULL DEFAULT 0, total_expired integer NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now());
    CREATE TABLE public.point_batches (id serial PRIMARY KEY, user_id uuid NOT NULL, amount integer NOT NULL, remaining integer NOT NULL,
        expired_at timestamptz NOT NULL, source varchar(32) NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
    CREATE TABLE public.point_transactions (id serial PRIMARY KEY, user_id uuid NOT NULL, type varchar(16) NOT NULL, amount integer NOT NULL,
        balance_before integer NOT NULL, balance_after integer NOT NULL, source_type varchar(32) NOT NULL, source_id varchar(64),
        batch_id integer, duration double precision, description varchar(255) NOT NULL DEFAULT '',
        created_at timestamptz NOT NULL DEFAULT now());";

/// A ledger, and the database of the other service.
struct Move {
    ledger: TestDatabase,
    old: TestDatabase,
    folder: Folder,
}

impl Move {
    fn new() -> Move {
        Move { ledger: wait(TestDatabase::new()), old: wait(TestDatabase::new()), folder: Folder::new() }
    }

    /// With the tables of the replaced service, after a year of its faults.
    fn of_the_replaced_service(users: u32, seed: u64) -> Move {
        let made = Self::new();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/adopt/old_service.py");
        let output =
            Command::new(python("uuid")).args([script, &users.to_string(), &seed.to_string()]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let sql = String::from_utf8(output.stdout).unwrap();
        wait(async { load(&made.old.client().await, &sql).await });
        made
    }

    fn with(sql: &str) -> Move {
        let made = Self::new();
        made.run_there(sql);
        made
    }

    fn run_there(&self, sql: &str) {
        wait(async { self.old.client().await.batch_execute(sql).await.unwrap() });
    }

    fn path(&self) -> String {
        self.folder.path().join("plan").display().to_string()
    }

    fn plan_with(&self, mapping: &str) -> Value {
        let mapping = self.folder.file("mapping.yaml", mapping);
        let output = self.path();
        call(
            &self.ledger.url(),
            &["adopt", "plan", "--from", &self.old.url(), "--mapping", &mapping, "--output", &output, "--json"],
        )
        .expect(0)
        .json()
    }

    fn plan(&self) -> Value {
        self.plan_with("{}")
    }

    /// Changes decisions in the file of the plan, and plans again.
    fn decide(&self, changes: &[(&str, &str)]) -> Value {
        let file = self.folder.path().join("plan/plan.yaml");
        let mut text = fs::read_to_string(&file).unwrap();
        for (from, to) in changes {
            assert!(text.contains(from), "{from} in {text}");
            text = text.replace(from, to);
        }
        fs::write(&file, text).unwrap();
        call(&self.ledger.url(), &["adopt", "decide", &self.path(), "--json"]).expect(0).json()
    }

    fn apply(&self) -> Value {
        call(&self.ledger.url(), &["adopt", "apply", &self.path(), "--json"]).expect(0).json()
    }

    fn follow(&self) -> Command {
        on(&self.ledger.url(), &["adopt", "follow", &self.path(), "--from", &self.old.url(), "--once", "--json"])
    }

    /// The balances of the ledger.
    fn balances(&self) -> BTreeMap<Uuid, i64> {
        wait(async { balances(&self.ledger.client().await, "pointsd.accounts").await })
    }

    /// One value of the ledger's database.
    fn one(&self, sql: &str) -> i64 {
        wait(async { self.ledger.client().await.query_one(sql, &[]).await.unwrap().get(0) })
    }

    /// Cuts off all sessions of pointsd.
    fn cut_off(&self, database: &TestDatabase) {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name <> 'test'";
        wait(async { database.client().await.batch_execute(sql).await.unwrap() });
    }

    /// The balances of the other service.
    fn balances_there(&self) -> BTreeMap<Uuid, i64> {
        wait(async { balances(&self.old.client().await, "public.user_points").await })
    }
}

/// All but zeros, which open no account.
async fn balances(client: &Client, table: &str) -> BTreeMap<Uuid, i64> {
    let sql = format!("SELECT user_id, balance::bigint FROM {table} WHERE balance <> 0");
    client.query(&sql, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Runs a file as psql would: statements, and COPY with its rows below it.
async fn load(client: &Client, sql: &str) {
    let mut rest = sql;
    while let Some((statements, copied)) = rest.split_once(" FROM stdin;\n") {
        let (before, copy) = statements.rsplit_once("COPY ").unwrap();
        client.batch_execute(&format!("SET search_path = public; {before}")).await.unwrap();
        let (rows, after) = copied.split_once("\\.\n").unwrap();
        let sink = client.copy_in(&format!("COPY {copy} FROM STDIN")).await.unwrap();
        let mut sink = std::pin::pin!(sink);
        sink.send(std::io::Cursor::new(rows.to_owned().into_bytes())).await.unwrap();
        sink.close().await.unwrap();
        rest = after;
    }
    client.batch_execute(rest).await.unwrap();
}

fn class<'a>(plan: &'a Value, name: &str) -> &'a Value {
    plan["totals"]["classes"].as_array().unwrap().iter().find(|class| class["class"] == name).unwrap_or(&Value::Null)
}

/// An account there, as its own rows say it: nothing here is computed by what the product computes with.
#[derive(Default)]
struct There {
    balance: Option<i64>,
    batches: i64,
    expired: i64,
    charged_twice: i64,
    owing_since: Option<DateTime<Utc>>,
}

async fn accounts_there(client: &Client) -> HashMap<Uuid, There> {
    let mut accounts: HashMap<Uuid, There> = HashMap::new();
    for row in client.query("SELECT user_id, balance FROM public.user_points", &[]).await.unwrap() {
        accounts.entry(row.get(0)).or_default().balance = Some(i64::from(row.get::<_, i32>(1)));
    }
    for row in
        client.query("SELECT user_id, remaining, expired_at <= now() FROM public.point_batches", &[]).await.unwrap()
    {
        let account = accounts.entry(row.get(0)).or_default();
        let remaining = i64::from(row.get::<_, i32>(1));
        account.batches += remaining;
        account.expired += if row.get(2) { remaining } else { 0 };
    }
    let history = "SELECT user_id, type, amount, balance_after, created_at FROM public.point_transactions ORDER BY id";
    for row in client.query(history, &[]).await.unwrap() {
        let account = accounts.entry(row.get(0)).or_default();
        let (amount, after) = (i64::from(row.get::<_, i32>(2)), i64::from(row.get::<_, i32>(3)));
        match after {
            0.. => account.owing_since = None,
            _ => drop(account.owing_since.get_or_insert(row.get(4))),
        }
        if row.get::<_, &str>(1) == "expire" && after < 0 {
            account.charged_twice += amount.min(-after);
        }
    }
    accounts
}

#[test]
fn the_tables_of_the_replaced_service_are_taken_over_as_customers_saw_them() {
    let moving = Move::of_the_replaced_service(1000, 7);
    let plan = moving.plan();
    let there = wait(async { accounts_there(&moving.old.client().await).await });
    let accounts = there.values().filter_map(|account| Some((account.balance?, account)));
    let count =
        |holds: &dyn Fn(i64, &There) -> bool| accounts.clone().filter(|(balance, of)| holds(*balance, of)).count();
    // As known of this database: 98 of 997 balances are those of the batches, 269 are below zero although points remain.
    assert_eq!((count(&|_, _| true), count(&|balance, of| balance == of.batches)), (997, 98));
    assert_eq!(class(&plan, "points_beside_debt")["accounts"], 269);
    for (name, holds) in [
        (
            "balance_above_batches",
            (&|balance: i64, of: &There| balance > 0 && balance > of.batches) as &dyn Fn(i64, &There) -> bool,
        ),
        ("batches_above_balance", &|balance, of| balance >= 0 && balance < of.batches),
        ("points_beside_debt", &|balance, of| balance < 0 && of.batches > 0),
        ("debt_charged_twice", &|_, of| of.charged_twice > 0),
    ] {
        assert_eq!(class(&plan, name)["accounts"], count(holds), "{name}");
    }
    // What the script says that it has done: 213 tasks and 55 orders twice, 33 lost updates, 5 changes by hand, 3 deleted accounts.
    assert_eq!(class(&plan, "posted_twice")["rows"], 213 + 55);
    assert_eq!(class(&plan, "history_broken")["rows"], 33);
    assert_eq!(class(&plan, "balance_changed_by_hand")["points"], 5 * 500);
    assert_eq!(class(&plan, "batches_without_account")["accounts"], 3);
    let net: i64 = accounts.clone().map(|(balance, _)| balance).sum();
    assert_eq!((&plan["totals"]["net_before"], &plan["totals"]["net_after"]), (&json!(net), &json!(net)));

    let applied = moving.apply();
    assert_eq!((&applied["different"], &applied["opened"], &applied["refused"]), (&json!(0), &json!(net), &json!([])));
    assert_eq!(moving.balances(), moving.balances_there());
    // Debts are as old as they were.
    let debts = "SELECT user_id, at FROM pointsd.entries WHERE type = 'opening' AND balance_after < 0";
    let debts = wait(async { moving.ledger.client().await.query(debts, &[]).await.unwrap() });
    assert_eq!(debts.len(), count(&|balance, _| balance < 0));
    for row in &debts {
        let user: Uuid = row.get(0);
        // A balance that was changed by hand is not the history's.
        assert_eq!(there[&user].owing_since, Some(row.get(1)), "{user}");
    }
    // The old keys are those that postings would have.
    let keys = "SELECT count(*) FILTER (WHERE k.key IS NULL) FROM pointsd.adopted_transactions AS t LEFT JOIN pointsd.adopted_keys AS k
                ON k.key = pointsd.key_id(t.user_id, CASE type WHEN 'consume' THEN pointsd.work_key(source_type, source_id)
                                                               ELSE 'recharge:' || source_type || ':' || source_id END)
                WHERE t.source_id IS NOT NULL AND t.type <> 'expire'";
    let unknown: i64 = wait(async { moving.ledger.client().await.query_one(keys, &[]).await.unwrap().get(0) });
    assert_eq!((unknown, &applied["keys"]), (0, &json!(26_369)));
    // The books hold, from the first entry on, and the report shows what came in apart from what was issued.
    let proof = call(&moving.ledger.url(), &["run", "reconciliation", "--full"]).expect(0);
    assert!(proof.stdout.contains("Brought in"), "{}", proof.stdout);
}

#[test]
fn decisions_change_what_accounts_open_with_and_the_plan_says_by_how_much() {
    let seed = rng().u64(..1_000_000);
    let moving = Move::of_the_replaced_service(120, seed);
    let there = wait(async { accounts_there(&moving.old.client().await).await });
    moving.plan();
    let opened = |plan: &Value, kind: &str| -> i64 {
        let of_kind = plan["totals"]["openings"].as_array().unwrap().iter().filter(|opened| opened["kind"] == kind);
        of_kind.map(|opened| opened["points"].as_i64().unwrap()).sum()
    };

    let changes = [
        ("keep: balances", "keep: batches"),
        ("expired_points: keep", "expired_points: leave_out"),
        ("batches_without_account: leave_out", "batches_without_account: adopt"),
    ];
    let plan = moving.decide(&changes);
    let points: i64 = there.values().map(|of| of.batches - of.expired).sum();
    let in_debt = |of: &There| of.balance.filter(|balance| *balance < 0 && of.batches == of.expired).unwrap_or(0);
    let debts: i64 = there.values().map(in_debt).sum();
    assert_eq!((opened(&plan, "points"), opened(&plan, "debt")), (points, -debts), "seed {seed}");

    let changes = [
        ("keep: batches", "keep: balances"),
        ("expired_points: leave_out", "expired_points: keep"),
        ("batches_without_account: adopt", "batches_without_account: leave_out"),
        ("debts_charged_twice: keep", "debts_charged_twice: forgive"),
    ];
    let plan = moving.decide(&changes);
    let forgiven = |of: &There| of.balance.map_or(0, |balance| of.charged_twice.min(of.batches - balance).max(0));
    assert_eq!(opened(&plan, "forgiven"), there.values().map(forgiven).sum::<i64>(), "seed {seed}");
    moving.apply();
    let expected: BTreeMap<Uuid, i64> = (there.iter())
        .filter_map(|(user, of)| Some((*user, of.balance? + forgiven(of))))
        .filter(|(_, balance)| *balance != 0)
        .collect();
    assert_eq!(moving.balances(), expected, "seed {seed}");
}

#[test]
fn a_plan_that_the_ledger_would_refuse_or_that_was_changed_is_not_applied() {
    let moving = Move::with(TABLES);
    moving.run_there(
        "INSERT INTO public.user_points (user_id, balance) SELECT gen_random_uuid(), 10 FROM generate_series(1, 3);
         INSERT INTO public.point_batches (user_id, amount, remaining, expired_at, source)
         SELECT user_id, 10, 10, '2999-01-01Z', 'wechat' FROM public.user_points",
    );
    let (url, old, path) = (moving.ledger.url(), moving.old.url(), moving.path());
    let planned = call(&url, &["adopt", "plan", "--from", &old, "--output", &path]).expect(3);
    assert!(planned.stdout.contains("`wechat` is none of ledger.sources"), "{}", planned.stdout);
    let applied = call(&url, &["adopt", "apply", &path]).expect(2);
    assert!(applied.stderr.contains("`wechat` is none of ledger.sources: add it there"), "{}", applied.stderr);

    // A decision that was not planned is not applied either.
    let file = moving.folder.path().join("plan/plan.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("sources: {}", "sources: {wechat: wxpay}")).unwrap();
    let applied = call(&url, &["adopt", "apply", &path]).expect(2);
    assert!(applied.stderr.contains("was changed after it was planned"), "{}", applied.stderr);
    let decided = fs::read_to_string(&file).unwrap();
    fs::write(&file, decided.replace("time_zone: UTC", "time_zone: Asia/Shanghai")).unwrap();
    let refused = call(&url, &["adopt", "decide", &path]).expect(2);
    assert!(refused.stderr.contains("the mapping was changed, not the decisions alone"), "{}", refused.stderr);
    fs::write(&file, decided).unwrap();
    call(&url, &["adopt", "decide", &path]).expect(0);
    let followed = call(&url, &["adopt", "follow", &path, "--from", &old, "--once"]).expect(2);
    assert!(followed.stderr.contains("`pointsd adopt apply` comes first"), "{}", followed.stderr);
    call(&url, &["adopt", "apply", &path]).expect(0);
    let again = call(&url, &["adopt", "plan", "--from", &old, "--output", &path]).expect(2);
    assert!(again.stderr.contains("a ledger is planned and applied once"), "{}", again.stderr);

    // A mapping that does not fit says where, and what the database says of it.
    let other = Move::with(TABLES);
    other.run_there(
        "INSERT INTO public.point_transactions (user_id, type, amount, balance_before, balance_after, source_type)
         SELECT gen_random_uuid(), 'recharge', 1, 0, 1, 'gift' FROM generate_series(1, 2)",
    );
    for (mapping, words) in [
        (
            "transactions: {id: '7'}",
            "two transactions have the same id (Key (id)=(7) is duplicated.): give transactions.id a column",
        ),
        (
            "accounts: {balance: points}",
            "the table of `accounts` cannot be read as the settings say: correct the section in the file of --mapping; the database says: column \"points\" does not exist",
        ),
        (
            "batches: {table: no_such_table}",
            "the table of `batches` cannot be read as the settings say: correct the section in the file of --mapping; the database says: relation \"no_such_table\" does not exist",
        ),
        ("time_zone: Mars", "mapping.yaml:1: time_zone"),
        ("decisions: {keep: points}", "decisions.keep"),
        ("batches:\ndecisions: {keep: batches}", "without batches only balances can be kept"),
    ] {
        let mapping = other.folder.file("mapping.yaml", mapping);
        let args = ["adopt", "plan", "--from", &other.old.url(), "--mapping", &mapping, "--output", &other.path()];
        let refused = call(&other.ledger.url(), &args).expect(2);
        assert!(refused.stderr.contains(words), "{mapping}: {}", refused.stderr);
    }
}

#[test]
fn other_designs_fit_by_a_mapping_and_what_cannot_be_read_is_counted() {
    // Balances alone, of users with numbers and names; times without a zone; fractions, infinities, nothing.
    let moving = Move::with(
        "CREATE SCHEMA shop;
         CREATE TABLE shop.wallets (customer text, points double precision, since timestamp, gone boolean NOT NULL DEFAULT false);
         INSERT INTO shop.wallets VALUES ('42', 100, '2026-01-01 08:00'), ('  ünï', 70, NULL), ('43', -30, '2026-03-01 00:00'),
             ('44', 0.5, NULL), ('45', 'NaN', NULL), ('46', 'Infinity', NULL), ('47', 1e15, NULL), (NULL, 5, NULL), ('', 5, NULL),
             ('48', 7, NULL), ('48', 8, NULL), ('49', 9, NULL), ('D9428888-122B-11E1-B85C-61CD3CBB3210', 11, NULL),
             ('d9428888122b11e1b85c61cd3cbb3211', 12, NULL);
         UPDATE shop.wallets SET gone = true WHERE customer = '49'",
    );
    let plan = moving.plan_with(
        "time_zone: Asia/Shanghai
accounts: {table: shop.wallets, where: NOT gone, user: customer, balance: points, recharged: null, consumed: null, expired: null, opened_at: since}
batches:
transactions:
decisions: {points_without_batch: gift}",
    );
    assert_eq!(class(&plan, "account_unreadable")["rows"], 6, "{plan}");
    assert_eq!(
        (&class(&plan, "account_twice")["rows"], &class(&plan, "account_twice")["points"]),
        (&json!(2), &json!(15))
    );
    assert_eq!(class(&plan, "debt_without_date")["points"], 30);
    assert_eq!(plan["totals"]["net_after"], 100 + 70 - 30 + 11 + 12);
    moving.apply();
    // The UUIDs that Python's uuid.uuid3(uuid.UUID("3f0f2c4e-9d2b-5a55-8f4c-706f696e7473"), "42") gives.
    let script = "import uuid; print(*(uuid.uuid3(uuid.UUID('3f0f2c4e-9d2b-5a55-8f4c-706f696e7473'), name) for name in ('42', '  ünï', '43')))";
    let output = Command::new(python("uuid")).args(["-c", script]).output().unwrap();
    let mut expected: BTreeMap<Uuid, i64> = String::from_utf8(output.stdout)
        .unwrap()
        .split_whitespace()
        .map(|id| id.parse().unwrap())
        .zip([100, 70, -30])
        .collect();
    expected.insert("d9428888-122b-11e1-b85c-61cd3cbb3210".parse().unwrap(), 11);
    expected.insert("d9428888-122b-11e1-b85c-61cd3cbb3211".parse().unwrap(), 12);
    assert_eq!(moving.balances(), expected);

    // Batches without history, with prices: what is used of one has released its share.
    let moving = Move::with(TABLES);
    moving.run_there(
        "ALTER TABLE public.point_batches ADD COLUMN cents integer;
         ALTER TABLE public.point_batches ALTER COLUMN expired_at DROP NOT NULL;
         INSERT INTO public.user_points (user_id, balance) VALUES ('00000000-0000-4000-8000-000000000001', 90);
         INSERT INTO public.point_batches (user_id, amount, remaining, expired_at, source, cents) VALUES
             ('00000000-0000-4000-8000-000000000001', 100, 50, '2998-01-01Z', 'wxpay', 999),
             ('00000000-0000-4000-8000-000000000001', 60, 60, 'infinity', 'gift', NULL),
             ('00000000-0000-4000-8000-000000000001', 5, -5, NULL, 'gift', NULL)",
    );
    let plan = moving.plan_with(
        "{batches: {paid: cents, currency: CASE WHEN cents IS NOT NULL THEN 'CNY' END}, transactions: null}",
    );
    assert_eq!(class(&plan, "batch_unreadable")["rows"], 1);
    moving.apply();
    let batches =
        "SELECT amount, paid, currency, expires_at = '9999-12-31 23:59:59.999999Z' FROM pointsd.batches ORDER BY batch";
    let rows = wait(async { moving.ledger.client().await.query(batches, &[]).await.unwrap() });
    let batch = |row: &tokio_postgres::Row| {
        (row.get::<_, i64>(0), row.get::<_, Option<i64>>(1), row.get::<_, Option<String>>(2), row.get::<_, bool>(3))
    };
    // 110 points against a balance of 90: the batch that ends sooner has 30 left, and 70 of its 100 points have released 699 of 999.
    assert_eq!(
        rows.iter().map(batch).collect::<Vec<_>>(),
        [(30, Some(300), Some("CNY".to_owned()), false), (60, None, None, true)]
    );
}

#[test]
fn a_plan_waits_for_no_session_that_reads_the_copies_for_long() {
    let moving = Move::with(TABLES);
    // Postings would wait behind the plan.
    let session = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let reader = session.block_on(async {
        let reader = moving.ledger.client().await;
        reader.batch_execute("BEGIN; SELECT FROM pointsd.adopted_transactions").await.unwrap();
        reader
    });
    let plan =
        || call(&moving.ledger.url(), &["adopt", "plan", "--from", &moving.old.url(), "--output", &moving.path()]);
    let refused = plan().expect(2);
    assert!(refused.stderr.contains("another session reads the copies of an earlier plan"), "{}", refused.stderr);
    session.block_on(async { reader.batch_execute("COMMIT").await.unwrap() });
    plan().expect(0);
}

#[test]
fn accounts_that_cannot_be_told_apart_are_left_out_with_their_batches() {
    let moving = Move::with(TABLES);
    let user = |nth: u32| Uuid::from_u128(0x4000_8000_0000_0000_0000 + u128::from(nth));
    moving.run_there(&format!(
        "ALTER TABLE public.user_points DROP CONSTRAINT user_points_user_id_key, ALTER balance TYPE numeric;
         INSERT INTO public.user_points (user_id, balance) VALUES ('{0}', 7), ('{0}', 8), ('{1}', 0.5), ('{3}', 20);
         INSERT INTO public.point_batches (user_id, amount, remaining, expired_at, source) VALUES ('{0}', 15, 15, '2999-01-01Z', 'gift'),
             ('{1}', 5, 5, '2999-01-01Z', 'gift'), ('{2}', 4, 4, '2999-01-01Z', 'gift'), ('{3}', 10, 10, '2999-01-01Z', 'gift'),
             ('{3}', 10, 10, '2999-01-01Z', 'gift')",
        user(1),
        user(2),
        user(3),
        user(4)
    ));
    // All batches have the same id.
    let plan = moving.plan_with(
        "{batches: {id: \"'B'\"}, transactions: {batch: null}, decisions: {batches_without_account: adopt}}",
    );
    let figures = |name: &str| {
        let class = class(&plan, name);
        let example = class["examples"][0]["user"].as_str().map(|user| user.parse::<Uuid>().unwrap());
        (class["accounts"].as_i64(), class["rows"].as_i64(), class["points"].as_i64(), example)
    };
    assert_eq!(figures("account_twice"), (Some(1), Some(2), Some(15), Some(user(1))));
    assert_eq!(figures("account_unreadable"), (Some(1), Some(1), Some(0), Some(user(2))));
    assert_eq!(figures("batches_left_out"), (Some(2), Some(2), Some(20), Some(user(1))));
    assert_eq!(figures("batches_without_account"), (Some(1), Some(1), Some(4), Some(user(3))));
    assert_eq!(figures("batch_id_twice"), (Some(1), Some(2), Some(20), Some(user(4))));
    let total = |name: &str| plan["totals"][name].as_i64().unwrap();
    assert_eq!(["accounts", "net_before", "by_left_out", "by_orphans", "net_after"].map(total), [4, 35, -15, 4, 24]);
    let applied = moving.apply();
    assert_eq!((&applied["different"], &applied["refused"]), (&json!(0), &json!([])));
    assert_eq!(moving.balances(), BTreeMap::from([(user(3), 4), (user(4), 20)]));
    let ids = "SELECT source_id FROM pointsd.entries ORDER BY user_id, seq";
    let ids = wait(async { moving.ledger.client().await.query(ids, &[]).await.unwrap() });
    assert_eq!(ids.iter().map(|row| row.get::<_, &str>(0)).collect::<Vec<_>>(), ["B", "B", "B (2)"]);
    // Left out is what the plan decided: it is no difference.
    let compared = run(moving.follow()).expect(0).json();
    let sums = compared["comparison"]["sections"][0]["table"]["rows"].as_array().unwrap();
    let sums: Vec<i64> = sums.iter().map(|row| row[1]["number"].as_i64().unwrap()).collect();
    assert_eq!(sums, [35, -11, 0, 0, 0, 0, 24]);
}

#[test]
fn points_that_had_expired_are_cut_before_those_that_live() {
    let moving = Move::with(TABLES);
    let [one, two] = ["00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"];
    moving.run_there(&format!(
        "INSERT INTO public.user_points (user_id, balance) VALUES ('{one}', 100), ('{two}', -50);
         INSERT INTO public.point_batches (user_id, amount, remaining, expired_at, source) VALUES ('{one}', 60, 60, '2026-01-01Z', 'gift'),
             ('{one}', 90, 90, '2999-01-01Z', 'gift'), ('{two}', 30, 30, '2026-01-01Z', 'gift')"
    ));
    // Of the balance of 100, ten points had expired. A debt whose batches have all expired stays a debt.
    let plan = moving.plan_with("decisions: {expired_points: leave_out}");
    let total = |plan: &Value, name: &str| plan["totals"][name].as_i64().unwrap();
    let totals = |plan: &Value| ["net_before", "by_batches", "by_expired", "net_after"].map(|name| total(plan, name));
    assert_eq!(totals(&plan), [50, 0, -10, 40]);
    assert_eq!(totals(&moving.decide(&[("keep: balances", "keep: batches")])), [50, 50, -60, 40]);
    moving.apply();
    assert_eq!(moving.balances(), BTreeMap::from([(one.parse().unwrap(), 90), (two.parse().unwrap(), -50)]));
}

#[test]
fn csv_exports_are_taken_over_as_tables_are() {
    let moving = Move::of_the_replaced_service(40, rng().u64(..1_000_000));
    let folder = Folder::new();
    wait(async {
        let client = moving.old.client().await;
        for (name, table) in
            [("accounts", "user_points"), ("batches", "point_batches"), ("transactions", "point_transactions")]
        {
            let out =
                client.copy_out(&format!("COPY public.{table} TO STDOUT (FORMAT csv, HEADER true)")).await.unwrap();
            let pieces: Vec<_> = futures_util::TryStreamExt::try_collect(out).await.unwrap();
            let bytes: Vec<u8> = pieces.iter().flat_map(|piece: &_| AsRef::<[u8]>::as_ref(piece).to_vec()).collect();
            folder.file(&format!("{name}.csv"), bytes);
        }
    });
    let from_tables = moving.plan();
    let (url, files, path) = (moving.ledger.url(), folder.path().display().to_string(), moving.path());
    let from_files = call(&url, &["adopt", "plan", "--from", &files, "--output", &path, "--json"]).expect(0).json();
    assert_eq!(from_files["totals"], from_tables["totals"]);
    moving.apply();
    assert_eq!(moving.balances(), moving.balances_there());
}

#[test]
fn a_bad_date_in_a_file_stops_nothing_and_a_bad_file_is_named() {
    let (moving, folder) = (Move::new(), Folder::new());
    let plan = || {
        let (url, files, path) = (moving.ledger.url(), folder.path().display().to_string(), moving.path());
        call(&url, &["adopt", "plan", "--from", &files, "--output", &path, "--json"])
    };
    let one = "00000000-0000-4000-8000-000000000001";
    folder.file(
        "accounts.csv",
        format!("user_id,balance,total_recharged,total_consumed,total_expired,created_at\n{one},30,,,,2026-13-45\n"),
    );
    let refused = plan().expect(2);
    assert!(
        refused.stderr.contains("batches.csv is missing: export the table, or write `batches: null`"),
        "{}",
        refused.stderr
    );
    folder.file("batches.csv", format!("id,user_id,amount,remaining,source,created_at,expired_at\n1,{one},9\n"));
    let refused = plan().expect(2);
    assert!(
        refused.stderr.contains("batches.csv cannot be loaded") && refused.stderr.contains("line: 2"),
        "{}",
        refused.stderr
    );
    // One end is no date, one is missing, which means never.
    folder.file(
        "batches.csv",
        format!(
            "id,user_id,amount,remaining,source,created_at,expired_at\n1,{one},10,10,gift,,soon\n2,{one},20,20,gift,,\n"
        ),
    );
    folder.file(
        "transactions.csv",
        format!(
            "id,user_id,type,amount,balance_before,balance_after,source_type,source_id,batch_id,duration,description,created_at\n\
             1,{one},recharge,30,0,30,gift,7,,,,31.02.2026\n"
        ),
    );
    let planned = plan().expect(0).json();
    for (name, figures) in
        [("batch_unreadable", [1, 10]), ("transaction_unreadable", [1, 30]), ("balance_above_batches", [1, 10])]
    {
        assert_eq!(class(&planned, name)["rows"], figures[0], "{name}: {planned}");
        assert_eq!(class(&planned, name)["points"], figures[1], "{name}: {planned}");
    }
    moving.apply();
    assert_eq!(moving.balances(), BTreeMap::from([(one.parse().unwrap(), 30)]));
}

#[test]
fn a_plan_shows_one_instant_of_tables_that_change_while_they_are_read() {
    let moving = Move::with(TABLES);
    moving.run_there(
        "INSERT INTO public.user_points (user_id, balance) SELECT md5(n::text)::uuid, 1000 FROM generate_series(1, 20000) AS n;
         INSERT INTO public.point_batches (user_id, amount, remaining, expired_at, source)
         SELECT user_id, 100000, 1000, '2999-01-01Z', 'wxpay' FROM public.user_points",
    );
    // Points wander from account to account, balance and batch in one transaction.
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let writer = {
        let config = moving.old.config();
        std::thread::spawn(move || {
            wait(async {
                let client = crate::support::connect(&config).await;
                let mut moves = 0;
                while stopped.try_recv().is_err() {
                    client
                        .batch_execute(
                            "BEGIN;
                             CREATE TEMPORARY TABLE hop ON COMMIT DROP AS SELECT md5(n::text)::uuid AS user_id, CASE WHEN n % 2 = 0 THEN 7 ELSE -7 END AS points
                                FROM generate_series(1, 200) AS n;
                             UPDATE public.user_points AS p SET balance = balance + hop.points FROM hop WHERE hop.user_id = p.user_id;
                             UPDATE public.point_batches AS p SET remaining = remaining + hop.points FROM hop WHERE hop.user_id = p.user_id;
                             COMMIT",
                        )
                        .await
                        .unwrap();
                    moves += 1;
                }
                moves
            })
        })
    };
    for _ in 0..3 {
        let plan = moving.plan();
        assert_eq!(plan["totals"]["net_before"], 20_000_000);
        assert_eq!(plan["totals"]["classes"], json!([]), "balance and batches are of one instant");
    }
    stop.send(()).unwrap();
    assert!(writer.join().unwrap() > 3, "the tables changed while they were read");
}

#[test]
fn an_application_that_is_killed_goes_on_and_opens_nothing_twice() {
    let mut moving = Move::with(TABLES);
    // The tests' own invariants take minutes over so many accounts. The product's proof is asked below.
    moving.ledger.expect_damage();
    moving.run_there(
        "INSERT INTO public.user_points (user_id, balance) SELECT md5(n::text)::uuid, 30 FROM generate_series(1, 30000) AS n;
         INSERT INTO public.point_batches (user_id, amount, remaining, expired_at, source)
         SELECT user_id, 10, 10, timestamptz '2999-01-01Z' + b * interval '1 day', 'wxpay' FROM public.user_points, generate_series(1, 3) AS b",
    );
    moving.plan();
    let url = moving.ledger.url();
    let opened = || -> i64 {
        wait(async {
            moving.ledger.client().await.query_one("SELECT count(*) FROM pointsd.entries", &[]).await.unwrap().get(0)
        })
    };
    for signal in [Some(Signal::SIGKILL), Some(Signal::SIGTERM), None, Some(Signal::SIGKILL)] {
        let before = opened();
        let running = Running::start(on(&url, &["adopt", "apply", &moving.path()]));
        eventually("openings are posted", || (opened() > before + 2_000).then_some(()));
        match signal {
            Some(signal) => running.signal(signal),
            None => moving.cut_off(&moving.ledger),
        }
        match signal {
            Some(Signal::SIGKILL) => drop(running.finish().expect_signal(Signal::SIGKILL)),
            _ => assert!(running.finish().expect(1).stderr.contains("it goes on where it stopped")),
        }
    }
    assert!(opened() < 90_000, "the last call was killed before its end");
    let applied = moving.apply();
    assert_eq!((&applied["opened"], &applied["different"]), (&json!(900_000), &json!(0)));
    assert!(applied["posted"].as_i64().unwrap() < 90_000, "{applied}");
    assert_eq!((opened(), moving.balances()), (90_000, moving.balances_there()));
    call(&url, &["run", "reconciliation", "--full"]).expect(0);
}

#[test]
fn the_other_service_is_followed_while_it_is_in_charge() {
    let moving = Move::with(TABLES);
    let one = "00000000-0000-4000-8000-000000000001";
    moving.run_there(&format!(
        "INSERT INTO public.user_points (user_id, balance) VALUES ('{one}', 100);
         INSERT INTO public.point_batches (user_id, amount, remaining, expired_at, source) VALUES ('{one}', 100, 100, '2999-01-01Z', 'gift');
         INSERT INTO public.point_transactions (user_id, type, amount, balance_before, balance_after, source_type, source_id)
         VALUES ('{one}', 'recharge', 100, 0, 100, 'gift', NULL)"
    ));
    let spend = |task: &str, points: i64| {
        format!(
            "WITH was AS (UPDATE public.user_points SET balance = balance - {points}, total_consumed = total_consumed + {points}
                          WHERE user_id = '{one}' RETURNING balance)
             INSERT INTO public.point_transactions (user_id, type, amount, balance_before, balance_after, source_type, source_id)
             SELECT '{one}', 'consume', {points}, balance + {points}, balance, 'script', '{task}' FROM was"
        )
    };
    // A transaction that is open while the plan is made has drawn the lower number, and is not seen by it.
    let session = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let late = session.block_on(async {
        let late = moving.old.client().await;
        late.batch_execute("BEGIN").await.unwrap();
        late.batch_execute(&format!(
            "INSERT INTO public.point_transactions (user_id, type, amount, balance_before, balance_after, source_type, source_id)
             VALUES ('{one}', 'consume', 3, 100, 97, 'script', 'late')"
        ))
        .await
        .unwrap();
        late
    });
    moving.run_there(&format!("ALTER TABLE public.point_batches ADD COLUMN cents integer; {}", spend("before", 10)));
    moving.plan_with("batches: {paid: cents, currency: \"'CNY'\"}");
    moving.apply();
    assert_eq!(moving.balances().values().copied().collect::<Vec<_>>(), [90]);

    // What came since, with the end of its points; the service charges one task twice, and a hand adds a point.
    moving.run_there(&format!(
        "WITH batch AS (INSERT INTO public.point_batches (user_id, amount, remaining, expired_at, source, cents) VALUES ('{one}', 50, 50, '2998-01-01Z', 'wxpay', 1999) RETURNING id)
         INSERT INTO public.point_transactions (user_id, type, amount, balance_before, balance_after, source_type, source_id, batch_id)
         SELECT '{one}', 'recharge', 50, 90, 140, 'wxpay', '77', id FROM batch;
         UPDATE public.user_points SET balance = balance + 50, total_recharged = total_recharged + 50;
         {}; {}; UPDATE public.user_points SET balance = balance + 1",
        spend("twice", 5),
        spend("twice", 5)
    ));
    // A source that the ledger does not have, and a type.
    moving.run_there(&format!(
        "INSERT INTO public.point_transactions (user_id, type, amount, balance_before, balance_after, source_type, source_id)
         VALUES ('{one}', 'recharge', 1, 0, 0, 'nowhere', '5'), ('{one}', 'bonus', 1, 0, 0, 'gift', NULL)"
    ));
    let first = run(moving.follow()).expect(3);
    assert!(first.stderr.contains(&format!("of {one}: refused (unknown_source): ")), "{}", first.stderr);
    let first = first.json();
    assert_eq!(first["followed"], json!({"posted": 2, "replayed": 1, "refused": {"unknown_source": 1}, "skipped": 1}));
    session.block_on(async {
        late.batch_execute(&format!("UPDATE public.user_points SET balance = balance - 3, total_consumed = total_consumed + 3 WHERE user_id = '{one}'; COMMIT"))
            .await
            .unwrap();
    });
    moving.run_there(&spend("after", 1));
    let second = run(moving.follow()).expect(3).json();
    assert_eq!(second["followed"]["posted"], 2, "{second}");
    let third = run(moving.follow()).expect(3).json();
    assert_eq!(third["followed"]["posted"], 0, "{third}");
    // There 90 + 50 - 5 - 5 + 1 - 3 - 1, here without the second charge and without the point.
    assert_eq!((moving.balances_there().values().sum::<i64>(), moving.balances().values().sum::<i64>()), (127, 131));
    let sums = third["comparison"]["sections"][0]["table"]["rows"].as_array().unwrap();
    let sums: Vec<i64> = sums.iter().map(|row| row[1]["number"].as_i64().unwrap()).collect();
    // There, decided, recharges, uses, expiry, unexplained, here.
    assert_eq!(sums, [127, 0, 0, 5, 0, -1, 131]);
    let ends =
        "SELECT count(*) FROM pointsd.batches WHERE expires_at = '2998-01-01Z' AND source = 'wxpay' AND paid = 1999";
    let ends: i64 = wait(async { moving.ledger.client().await.query_one(ends, &[]).await.unwrap().get(0) });
    assert_eq!(ends, 1);

    // Left alone, it follows on, compares once a day, and keeps the comparison as a report.
    let url = moving.ledger.url();
    let mut following =
        Running::start(on(&url, &["adopt", "follow", &moving.path(), "--from", &moving.old.url(), "--every", "1"]));
    following.hear("0 transactions were posted");
    moving.run_there(&spend("on", 4));
    following.hear("1 transaction was posted");
    // A restart of the other server cuts its sessions off.
    moving.run_there("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()");
    following.hear("trying again every 1 s");
    moving.run_there(&spend("on again", 2));
    following.hear("1 transaction was posted");
    following.signal(Signal::SIGKILL);
    following.finish().expect_signal(Signal::SIGKILL);
    assert_eq!(moving.balances().values().sum::<i64>(), 125);
    let kept = call(&url, &["reports", "--report", "adoption", "--json"]).expect(0).jsons();
    assert_eq!(kept.iter().map(|report| &report["report"]).collect::<Vec<_>>(), ["adoption"]);
}

/// A time zone's file, as RFC 9636 has it: its clocks are set from `before` to `after` seconds ahead of UTC at one instant.
fn zone_with_change(at: i64, before: i32, after: i32) -> Vec<u8> {
    let block = |at: &[u8]| {
        let counts = [0_u32, 0, 0, 1, 2, 4].map(u32::to_be_bytes).concat();
        let types = [before, after].map(|ahead| [ahead.to_be_bytes().as_slice(), &[0, 0]].concat()).concat();
        [b"TZif2".as_slice(), &[0; 15], &counts, at, &[1], &types, b"GAP\0"].concat()
    };
    [block(&[0; 4]), block(&at.to_be_bytes()), b"\n\n".to_vec()].concat()
}

#[test]
fn a_day_without_midnight_is_compared_once() {
    let one = "00000000-0000-4000-8000-000000000001";
    let spend = |task: &str| {
        format!(
            "UPDATE public.user_points SET balance = balance - 1;
             INSERT INTO public.point_transactions (user_id, type, amount, balance_before, balance_after, source_type, source_id)
             VALUES ('{one}', 'consume', 1, 1, 0, 'script', '{task}')"
        )
    };
    let moving = Move::with(&format!(
        "{TABLES} INSERT INTO public.user_points (user_id, balance) VALUES ('{one}', 100);
         INSERT INTO public.point_batches (user_id, amount, remaining, expired_at, source) VALUES ('{one}', 100, 100, '2999-01-01Z', 'gift')"
    ));
    moving.plan();
    moving.apply();
    // As in Cairo on a day in spring: half an hour ago, at midnight, the clocks went on to one o'clock.
    let midnight = Utc::now().timestamp() / 60 * 60 - 30 * 60;
    let since_utc_midnight = i32::try_from(midnight % 86_400).unwrap();
    let ahead = if since_utc_midnight > 43_200 { 86_400 } else { 0 } - since_utc_midnight;
    fs::create_dir_all(moving.folder.path().join("zones/Test")).unwrap();
    moving.folder.file("zones/Test/Gap", zone_with_change(midnight, ahead, ahead + 3600));
    let config = moving.folder.file("pointsd.yaml", "business: {time_zone: Test/Gap}");
    let mut follow = on(
        &moving.ledger.url(),
        &["adopt", "follow", &moving.path(), "--from", &moving.old.url(), "--every", "1", "--config", &config],
    );
    follow.env("TZDIR", moving.folder.path().join("zones"));
    let mut following = Running::start(follow);
    following.hear("0 transactions were posted");
    for task in ["one", "two"] {
        moving.run_there(&spend(task));
        following.hear("1 transaction was posted");
    }
    following.signal(Signal::SIGKILL);
    following.finish().expect_signal(Signal::SIGKILL);
    assert_eq!(moving.one("SELECT count(*) FROM pointsd.documents WHERE report = 'adoption'"), 1);
}

#[test]
fn what_the_other_service_posted_is_known_and_never_changes() {
    let moving = Move::with(TABLES);
    let one = "00000000-0000-4000-8000-000000000001";
    moving.run_there(&format!(
        "INSERT INTO public.user_points (user_id, balance, total_recharged, total_consumed, total_expired) VALUES ('{one}', 90, 140, 20, 30);
         INSERT INTO public.point_batches (user_id, amount, remaining, expired_at, source) VALUES ('{one}', 140, 90, '2999-01-01Z', 'wechat');
         INSERT INTO public.point_transactions (user_id, type, amount, balance_before, balance_after, source_type, source_id) VALUES
             ('{one}', 'recharge', 140, 0, 140, 'wechat', '77'), ('{one}', 'consume', 10, 140, 130, 'script', 'task-1'),
             ('{one}', 'consume', 10, 130, 120, 'script', 'task-1'), ('{one}', 'expire', 30, 120, 90, 'wechat', NULL),
             ('{one}', 'recharge', 1, 90, 91, 'wechat', 'A-9')"
    ));
    moving.plan_with("decisions: {sources: {wechat: wxpay}}");
    let url = moving.ledger.url();
    // A plan alone changes nothing.
    assert_eq!(call(&url, &["balance", one, "--json"]).expect(0).json()["before"], Value::Null);
    moving.apply();

    let lines = [
        json!({"op": "recharge", "user": one, "points": 140, "source": "wxpay", "order_id": 77}),
        json!({"op": "consume", "user": one, "points": 10, "source_type": "script", "source_id": "task-1"}),
        json!({"op": "consume", "user": one, "points": 11, "source_type": "script", "source_id": "task-1"}),
        json!({"op": "refund", "user": one, "source_type": "script", "source_id": "task-1"}),
        json!({"op": "void", "user": one, "source": "wxpay", "order_id": 77}),
        json!({"op": "hold", "user": one, "points": 5, "source_type": "script", "source_id": "task-1", "until": "2999-01-01T00:00:00Z"}),
        json!({"op": "consume", "user": one, "points": 4, "source_type": "script", "source_id": "task-2"}),
    ];
    let replies = post(&url, lines.map(|line| line.to_string()).join("\n")).expect(3).jsons();
    let told: Vec<&str> =
        replies.iter().map(|reply| reply["code"].as_str().unwrap_or(reply["status"].as_str().unwrap())).collect();
    let before = "before_the_ledger";
    assert_eq!(told, ["replayed", "replayed", "key_conflict", before, before, "key_conflict", "posted"]);
    assert_eq!((&replies[1]["seq"], &replies[1]["balance_after"]), (&json!(0), &json!(130)));

    // The same from the queue, and for a hold in SQL.
    wait(async {
        let client = moving.ledger.client().await;
        let enqueue =
            format!("SELECT pointsd.enqueue('consume', '{one}', 10, source_type => 'script', source_id => 'task-1')");
        client.batch_execute(&enqueue).await.unwrap();
        let hold = format!(
            "SELECT code FROM pointsd.hold('{one}', 5, 'script', 'task-1', until => now() + interval '1 hour')"
        );
        assert_eq!(client.query_one(&hold, &[]).await.unwrap().get::<_, Option<&str>>(0), Some("key_conflict"));
    });
    let daemon = Running::start(on(&url, &["serve"]));
    eventually("the request replays", || (requests_in(&url, "replayed") == 1).then_some(()));
    daemon.signal(Signal::SIGTERM);
    daemon.finish().expect(0);

    // The other service posts an order of old once more.
    moving.run_there(&format!(
        "INSERT INTO public.point_transactions (user_id, type, amount, balance_before, balance_after, source_type, source_id)
         VALUES ('{one}', 'recharge', 1, 91, 92, 'wechat', 'A-9')"
    ));
    let followed = run(moving.follow()).expect(3).json();
    assert_eq!(followed["followed"], json!({"posted": 0, "replayed": 1, "refused": {}, "skipped": 0}));

    let balance = call(&url, &["balance", one, "--json"]).expect(0).json();
    assert_eq!(
        (&balance["balance"], &balance["before"]),
        (&json!(86), &json!({"recharged": 140, "consumed": 20, "expired": 30}))
    );
    wait(async {
        let client = moving.ledger.client().await;
        for table in [
            "adopted_accounts",
            "adopted_batches",
            "adopted_transactions",
            "adopted_positions",
            "adopted_openings",
            "adopted_keys",
        ] {
            for change in [format!("DELETE FROM pointsd.{table}"), format!("TRUNCATE pointsd.{table}")] {
                let error = client.batch_execute(&change).await.unwrap_err();
                assert!(error.as_db_error().unwrap().message().contains("is never changed"), "{change}: {error:?}");
            }
        }
    });
}

#[test]
fn openings_that_the_ledger_refuses_are_named_and_the_others_are_posted() {
    let moving = Move::with(TABLES);
    moving.run_there(
        "INSERT INTO public.user_points (user_id, balance)
         VALUES ('00000000-0000-4000-8000-000000000001', 10), ('00000000-0000-4000-8000-000000000002', 20)",
    );
    let used = json!({"op": "recharge", "user": "00000000-0000-4000-8000-000000000001", "points": 1, "source": "gift", "order_id": 1});
    post(&moving.ledger.url(), used.to_string()).expect(0);
    let in_use = class(&moving.plan(), "account_in_use").clone();
    assert_eq!((&in_use["accounts"], &in_use["points"]), (&json!(1), &json!(10)));
    let applied = feed(on(&moving.ledger.url(), &["adopt", "apply", &moving.path(), "--json"]), "").expect(3);
    assert!(
        applied
            .stderr
            .contains("00000000-0000-4000-8000-000000000001, batch without-batch of 10: refused (already_open)"),
        "{}",
        applied.stderr
    );
    let applied = applied.json();
    assert_eq!(applied["refused"], json!([{"code": "already_open", "openings": 1, "points": 10}]));
    assert_eq!((&applied["different"], &applied["planned"], &applied["opened"]), (&json!(1), &json!(30), &json!(20)));
}

#[test]
fn statements_show_what_the_other_service_posted_apart_from_the_ledgers_own_lines() {
    let moving = Move::of_the_replaced_service(60, rng().u64(..1_000_000));
    let (url, config) = (moving.ledger.url(), moving.folder.file("pointsd.yaml", "business: {time_zone: UTC}"));
    // One that spent all it had, so that the ledger opens no account for it.
    let one = "00000000-0000-4000-8000-000000000001";
    moving.run_there(&format!(
        "INSERT INTO public.user_points (user_id, balance, total_recharged, total_consumed, total_expired) VALUES ('{one}', 0, 50, 50, 0);
         INSERT INTO public.point_transactions
             (user_id, type, amount, balance_before, balance_after, source_type, source_id, description, created_at) VALUES
             ('{one}', 'recharge', 9, 0, 9, 'gift', NULL, '', '2026-04-30 23:59:59.999999Z'),
             ('{one}', 'recharge', 50, 0, 50, 'wxpay', '77', '', '2026-05-01 00:00:00Z'),
             ('{one}', 'bonus', 3, 50, 53, 'summer', NULL, 'a present', '2026-05-31 23:59:59Z'),
             ('{one}', 'consume', 50, 53, 3, 'script', 'task-0', '=1+1', '2026-05-20 12:00:00Z'),
             ('{one}', 'expire', 3, 3, 0, 'summer', NULL, '', '2026-06-01 00:00:00Z')"
    ));
    let may = ["--from", "2026-05-01", "--to", "2026-05-31", "--config", &config];
    let statement = |user: &str, more: &[&str]| call(&url, &[&["statement", user][..], &may, more].concat()).expect(0);
    moving.plan();
    assert_eq!(statement(one, &["--json"]).json()["adopted"], Value::Null, "a plan alone shows nothing");
    moving.apply();

    let told = statement(one, &["--json"]);
    assert_eq!(told.stderr, "");
    let told = told.json();
    assert_eq!((&told["count"], &told["opening"], &told["closing"]), (&json!(0), &json!(0), &json!(0)));
    let items = told["adopted"]["items"].as_array().unwrap();
    assert_eq!((&told["adopted"]["count"], items.len()), (&json!(3), 3));
    let id = items[1]["id"].as_i64().unwrap();
    assert_eq!(
        items[1],
        json!({"id": id, "at": "2026-05-20T12:00:00Z", "type": "consume", "amount": 50, "balance_before": 53, "balance_after": 3,
               "source_type": "script", "source_id": "task-0", "description": "=1+1"})
    );
    let csv = |language| statement(one, &["--format", "csv", "--language", language]).stdout.replace('\u{feff}', "");
    assert_eq!(
        csv("en"),
        format!(
            "Account,No.,Recorded,Happened,Type,Source,Reference,Description,Points,Balance,Paid,Currency,Points before the ledger,Balance before the ledger\r
{one},,,2026-05-01T00:00:00Z,Issued,WeChat Pay,77,,,,,,50,50\r
{one},,,2026-05-20T12:00:00Z,Used,script,task-0,'=1+1,,,,,-50,3\r
{one},,,2026-05-31T23:59:59Z,bonus,summer,,a present,,,,,3,53\r
{one},,2026-05-01T00:00:00Z,,Opening balance,,,,,0,,,,\r
{one},,2026-06-01T00:00:00Z,,Closing balance,,,,,0,,,,\r
"
        )
    );
    assert!(csv("zh-CN").contains("启用账本之前的积分"), "{}", csv("zh-CN"));
    let text = statement(one, &[]).stdout;
    for words in
        ["No entries in this period.", "Before the ledger\n------", "script · task-0 · =1+1", "  -50        3\n"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(statement(one, &["--format", "html", "--language", "zh-CN"]).stdout.contains("启用账本之前"));
    let book = moving.folder.path().join("book.xlsx");
    statement(one, &["--format", "xlsx", "--output", &book.display().to_string()]);
    assert!(fs::metadata(book).unwrap().len() > 5_000);

    // The statements of a month have what the tables there have of it, to the row; also of accounts that are gone.
    let folder = moving.folder.path().join("may");
    let output = folder.display().to_string();
    call(&url, &["statements", "--month", "2026-05", "--output", &output, "--format", "json", "--config", &config])
        .expect(0);
    let files = fs::read_dir(&folder).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    let mut shown = BTreeMap::new();
    for statement in files.map(|file| serde_json::from_str::<Value>(&file).unwrap()) {
        assert_eq!((&statement["opening"], &statement["closing"]), (&json!(0), &json!(0)), "{statement}");
        let user: Uuid = statement["user"].as_str().unwrap().parse().unwrap();
        shown.insert(user, statement["adopted"]["items"].clone());
    }
    let rows = "SELECT user_id, jsonb_agg(jsonb_build_object('id', id, 'type', type, 'amount', amount, 'balance_before', balance_before,
                    'balance_after', balance_after, 'source_type', nullif(source_type, ''), 'source_id', nullif(source_id, ''), 'description', nullif(description, ''))
                    ORDER BY created_at, id)
                FROM public.point_transactions WHERE created_at >= '2026-05-01Z' AND created_at < '2026-06-01Z' GROUP BY user_id";
    let there: BTreeMap<Uuid, Value> = wait(async {
        let rows = moving.old.client().await.query(rows, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    });
    let times = shown.values_mut().flat_map(|items| items.as_array_mut().unwrap());
    assert!(
        times
            .map(|item| item.as_object_mut().unwrap().remove("at").unwrap())
            .all(|at| at.as_str().unwrap().starts_with("2026-05"))
    );
    assert!(there.len() > 30, "{}", there.len());
    assert_eq!(shown, there);

    // An account that was not taken over sees nothing of it.
    let other = "00000000-0000-4000-8000-000000000002";
    post(&url, json!({"op": "recharge", "user": other, "points": 1, "source": "gift", "order_id": 1}).to_string())
        .expect(0);
    assert_eq!(call(&url, &["statement", other, "--json"]).expect(0).json().get("adopted"), None);
    assert!(!call(&url, &["statement", other]).expect(0).stdout.contains("Before the ledger"));
}

#[test]
fn statements_over_http_show_what_the_other_service_posted_too() {
    let site = Site::start();
    let one = "00000000-0000-4000-8000-000000000001";
    // The tables are in the ledger's own database.
    wait(async {
        let rows = format!(
            "INSERT INTO public.user_points (user_id, balance, total_recharged, total_consumed) VALUES ('{one}', 10, 30, 20);
             INSERT INTO public.point_transactions (user_id, type, amount, balance_before, balance_after, source_type, source_id, created_at) VALUES
                 ('{one}', 'recharge', 30, 0, 30, 'gift', '1', '2026-05-02Z'), ('{one}', 'consume', 20, 30, 10, 'tts', 'task-1', '2026-05-03Z')"
        );
        site.database.client().await.batch_execute(&format!("{TABLES}; {rows}")).await.unwrap();
    });
    let plan = site.folder.path().join("plan").display().to_string();
    call(&site.url, &["adopt", "plan", "--output", &plan]).expect(0);
    call(&site.url, &["adopt", "apply", &plan]).expect(0);
    let before = &site.get(&format!("/v1/accounts/{one}/balance")).json()["before"];
    assert_eq!(before, &json!({"recharged": 30, "consumed": 20, "expired": 0}));
    let path = format!("/v1/accounts/{one}/statement?from=2026-05-01&to=2026-05-31");
    let told = site.get(&format!("{path}&limit=1")).json();
    assert_eq!((&told["adopted"]["count"], told["adopted"]["items"].as_array().unwrap().len()), (&json!(2), 1));
    assert_eq!(told["adopted"]["items"][0]["source_id"], "1");
    let page = site.get(&format!("{path}&format=html&language=en")).body;
    assert!(page.contains("Before the ledger") && page.contains("task-1"), "{page}");
}

/// The blocks of docs/moving-in.md in this language.
fn blocks(language: &str) -> Vec<&'static str> {
    let text = include_str!("../../docs/moving-in.md");
    let blocks = text.split("\n```").skip(1).step_by(2).map(|block| block.split_once('\n').unwrap());
    blocks.filter(|(of, _)| *of == language).map(|(_, code)| code).collect()
}

#[test]
fn the_worked_example_works_from_the_plan_to_the_first_nightly_mail() {
    let moving = Move::of_the_replaced_service(300, rng().u64(..1_000_000));
    let (url, folder) = (moving.ledger.url(), moving.folder.path());
    let settings = format!(
        "state_dir: {0}/state\nmail: {{mode: directory, directory: {0}/mail, from: p@example.com, to: {{reconciliation: [f@example.com], arrears: [f@example.com]}}}}",
        folder.display()
    );
    let settings = moving.folder.file("pointsd.yaml", settings);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_pointsd"), folder.join("pointsd")).unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let mut told = Vec::new();
    for code in blocks("sh") {
        let file = moving.folder.file("example.sh", code);
        let mut shell = Command::new("sh");
        shell.args(["-eu", &file]).current_dir(folder).env("PATH", &path).env("OLD", moving.old.url());
        shell.env("POINTSD_CONFIG", &settings).env("POINTSD_DATABASE_URL", &url);
        let done = shell.output().unwrap();
        let text = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{code}: {text}");
        told.push(text);
    }
    assert!(!told.concat().contains("missing in the catalogue"), "{told:?}");
    let [plan, decided, applied, followed, night] = told.as_slice() else { panic!("{told:?}") };
    assert!(plan.contains("Next: `pointsd adopt apply plan` posts it."), "{plan}");
    assert!(decided.contains("Points of batches without an account"), "{decided}");
    assert!(applied.contains(" as planned. ") && applied.contains("Brought in"), "{applied}");
    assert!(followed.contains("0 transactions were posted") && followed.contains("All balances agree"), "{followed}");
    assert!(night.contains("Arrears"), "{night}");
    // `run` writes mails down; a daemon sends them.
    let mut daemon = on(&url, &["serve"]);
    daemon.env("POINTSD_CONFIG", &settings);
    let daemon = Running::start(daemon);
    let mails = || -> Vec<String> {
        let files = fs::read_dir(folder.join("mail")).into_iter().flatten().map(|file| file.unwrap().path());
        files.map(|file| String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned()).collect()
    };
    let brought = eventually("the first nightly mail", || mails().into_iter().find(|mail| mail.contains("Brought in")));
    assert!(brought.contains("f@example.com"), "{brought}");

    // The application's own models go on in the same database.
    let [code] = blocks("python").try_into().unwrap();
    let file = moving.folder.file("points.py", code);
    let mut python = Command::new(python("sqlalchemy, psycopg2"));
    // SQLAlchemy takes the folder of a socket as an argument alone.
    let (config, name) = (moving.ledger.config(), url.rsplit_once('/').unwrap().1);
    let [tokio_postgres::config::Host::Unix(socket)] = config.get_hosts() else { panic!("{config:?}") };
    let user = config.get_user().unwrap();
    python.arg(&file).env("DATABASE_URL", format!("postgresql+psycopg2://{user}@/{name}?host={}", socket.display()));
    let done = python.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let balance = || call(&url, &["balance", "6a0f9a56-2f0c-4c57-9d2f-0d6a5e6f1c11", "--json"]).expect(0).json();
    eventually("the daemon posts what the application asked for", || (balance()["balance"] == 460).then_some(()));
    daemon.signal(Signal::SIGTERM);
    daemon.finish().expect(0);
}
