//! What the database itself refuses: changes of history, and rows that break a rule. The ledger never asks for either;
//! this is what stands between a hand or another program and the books.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::model::rules;
use crate::support::invariants::{self, broken};
use crate::support::unguard;
use crate::{TestDatabase, at, user};
use pointsd::ledger::Posting;

/// One account with an open batch, a recharge and a consume.
async fn ledger() -> (TestDatabase, Client) {
    let database = TestDatabase::new().await;
    let now = at("2026-01-01T00:00:00Z");
    let postings =
        [Posting::recharge(user(1), 10, "gift", now).with_key("a"), Posting::consume(user(1), 4, "tts", "x", now)];
    database.session().await.post(&postings, &rules()).await.unwrap();
    let client = database.client().await;
    (database, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_never_changed() {
    let (_database, client) = ledger().await;
    for change in [
        "UPDATE pointsd.entries SET description = 'x'",
        "UPDATE pointsd.entries SET amount = amount WHERE false",
        "DELETE FROM pointsd.entries",
        "DELETE FROM pointsd.entries WHERE seq = 2",
        "TRUNCATE pointsd.entries",
        "TRUNCATE pointsd.accounts, pointsd.batches, pointsd.entries",
        // What a replica or a data-only restore sets; ordinary triggers stay silent then.
        "SET session_replication_role = replica; DELETE FROM pointsd.entries",
    ] {
        let error = client.batch_execute(change).await.expect_err(change);
        assert_eq!(error.code(), Some(&SqlState::RESTRICT_VIOLATION), "{change}: {}", pointsd::errors::chain(&error));
    }
    let left = client.query_one("SELECT count(*) FROM pointsd.entries", &[]).await.unwrap();
    assert_eq!(left.get::<_, i64>(0), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_constraint_refuses_by_its_name() {
    let (_database, client) = ledger().await;
    let account = "UPDATE pointsd.accounts SET";
    let batch = "UPDATE pointsd.batches SET";
    let same_batch = "INSERT INTO pointsd.batches SELECT * FROM pointsd.batches";
    let hold = "INSERT INTO pointsd.holds (user_id, key, points, at, until, source_type, source_id)
                SELECT gen_random_uuid(), '00000000-0000-4000-8000-000000000001', 1, now(), now() + interval '1 day', 'tts', 'x'";
    let entry = |columns: &str| {
        format!(
            "INSERT INTO pointsd.entries SELECT (e).* FROM (
                 SELECT jsonb_populate_record(e, '{columns}') AS e FROM pointsd.entries e WHERE seq = 2) AS changed"
        )
    };
    let cases = [
        (
            "accounts_pkey",
            "INSERT INTO pointsd.accounts (bucket, user_id, balance, total_recharged, total_consumed, total_expired, last_seq,
                                           last_batch)
             SELECT bucket, user_id, balance, total_recharged, total_consumed, total_expired, last_seq, last_batch
             FROM pointsd.accounts"
                .to_owned(),
        ),
        ("accounts_in_own_bucket", format!("{account} bucket = bucket + 1")),
        ("accounts_balance_is_the_sum", format!("{account} balance = balance + 1")),
        (
            "accounts_totals_not_negative",
            format!("{account} total_expired = -1, balance = total_recharged - total_consumed + 1"),
        ),
        ("accounts_numbers_not_negative", format!("{account} last_seq = -1")),
        ("accounts_numbers_not_negative", format!("{account} last_batch = -1")),
        ("accounts_numbers_not_negative", format!("{account} open_holds = -1")),
        ("batches_pkey", same_batch.to_owned()),
        ("batches_number_positive", format!("{batch} batch = 0")),
        ("batches_remaining_within_amount", format!("{batch} remaining = 11")),
        ("batches_remaining_within_amount", format!("{batch} remaining = -1, open = false")),
        ("batches_open_while_points_remain", format!("{batch} open = false")),
        ("batches_open_while_points_remain", format!("{batch} remaining = 0")),
        ("batches_expire_after_opening", format!("{batch} expires_at = opened_at")),
        ("batches_expire_at_an_instant", format!("{batch} expires_at = 'infinity'")),
        ("batches_expired_within_amount", format!("{batch} expired = 11")),
        ("batches_paid_in_a_currency", format!("{batch} paid = 1")),
        ("batches_paid_in_a_currency", format!("{batch} paid = -1, currency = 'CNY'")),
        ("entries_paid_in_a_currency", entry(r#"{"seq": 3, "key": null, "currency": "CNY"}"#)),
        ("entries_paid_in_a_currency", entry(r#"{"seq": 3, "key": null, "allocated_paid": [1, 2]}"#)),
        ("entries_pkey", entry(r#"{"key": null}"#)),
        ("entries_key_once", entry(r#"{"seq": 3}"#)),
        ("entries_seq_positive", entry(r#"{"seq": 0, "key": null}"#)),
        ("entries_amount_positive", entry(r#"{"seq": 3, "key": null, "amount": 0, "balance_after": 10}"#)),
        ("entries_balances_chain", entry(r#"{"seq": 3, "key": null, "type": "gift"}"#)),
        ("entries_balances_chain", entry(r#"{"seq": 3, "key": null, "balance_after": 7}"#)),
        ("entries_allocations_paired", entry(r#"{"seq": 3, "key": null, "allocated_points": [1, 3]}"#)),
        (
            "entries_balances_chain",
            entry(r#"{"seq": 3, "key": null, "type": "adjust", "correction": {}, "amount": 1}"#),
        ),
        ("entries_correction_of_adjust", entry(r#"{"seq": 3, "key": null, "correction": {}}"#)),
        ("entries_correction_of_adjust", entry(r#"{"seq": 3, "key": null, "type": "adjust"}"#)),
        ("entries_batch_opened", entry(r#"{"seq": 3, "key": null, "batch": 1}"#)),
        ("entries_refer_to_earlier", entry(r#"{"seq": 3, "key": null, "refers_to": 1}"#)),
        ("entries_refer_to_earlier", entry(r#"{"seq": 3, "key": null, "type": "void"}"#)),
        ("entries_refer_to_earlier", entry(r#"{"seq": 3, "key": null, "type": "void", "refers_to": 3}"#)),
        ("entries_asked_of_return", entry(r#"{"seq": 3, "key": null, "asked": {}}"#)),
        ("holds_pkey", format!("{hold} FROM generate_series(1, 2)")),
        ("holds_points_positive", format!("{hold}; UPDATE pointsd.holds SET points = 0")),
        ("holds_end_after_beginning", format!("{hold}; UPDATE pointsd.holds SET until = at")),
        ("holds_end_after_beginning", format!("{hold}; UPDATE pointsd.holds SET until = 'infinity'")),
        ("holds_state_known", format!("{hold}; UPDATE pointsd.holds SET state = 'lost'")),
        ("holds_captured_by_entry", format!("{hold}; UPDATE pointsd.holds SET state = 'captured'")),
    ];
    for (constraint, statement) in &cases {
        let error = client.batch_execute(statement).await.expect_err(statement);
        let refused_by = error.as_db_error().and_then(|error| error.constraint());
        assert_eq!(refused_by, Some(*constraint), "{statement}: {}", pointsd::errors::chain(&error));
    }
    // Each has its case above, so each name is ours.
    let constraints = client
        .query(
            "SELECT conname::text FROM pg_constraint WHERE conrelid IN ('pointsd.accounts'::regclass, 'pointsd.batches'::regclass, 'pointsd.entries'::regclass, 'pointsd.holds'::regclass) AND contype <> 'n'
             UNION SELECT relname::text FROM pg_index JOIN pg_class ON oid = indexrelid
             WHERE indisunique AND indrelid IN ('pointsd.accounts'::regclass, 'pointsd.batches'::regclass, 'pointsd.entries'::regclass,
                                                  'pointsd.holds'::regclass)",
            &[],
        )
        .await
        .unwrap();
    for row in constraints {
        let name: String = row.get(0);
        assert!(cases.iter().any(|(constraint, _)| *constraint == name), "{name} has no case here");
    }
}

/// The tests' own measure: each invariant finds what breaks it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_invariant_finds_damage() {
    let (_database, client) = ledger().await;
    let replace_consume = |columns: &str| {
        format!(
            "CREATE TEMP TABLE changed ON COMMIT DROP AS SELECT * FROM pointsd.entries WHERE seq = 2;
             UPDATE changed SET {columns};
             DELETE FROM pointsd.entries WHERE seq = 2;
             INSERT INTO pointsd.entries SELECT * FROM changed"
        )
    };
    let cases = [
        ("balance = total_opening", "UPDATE pointsd.accounts SET balance = 7".to_owned()),
        ("what remains in an account's batches", "UPDATE pointsd.batches SET remaining = 5".to_owned()),
        ("what remains in an account's batches", "DELETE FROM pointsd.batches".to_owned()),
        ("a batch's amount = what remains", "UPDATE pointsd.batches SET amount = 11".to_owned()),
        ("a batch is open exactly", "UPDATE pointsd.batches SET open = false".to_owned()),
        (
            "a recharge or refund settles arrears",
            "UPDATE pointsd.entries SET allocated_batches = '{1}', allocated_points = '{2}' WHERE seq = 1".to_owned(),
        ),
        ("a recharge or refund settles arrears", replace_consume("type = 'expire', allocated_points = '{3}'")),
        ("a consume's allocations", replace_consume("allocated_points = '{3}'")),
        ("allocations name batches that exist", replace_consume("allocated_batches = '{2}'")),
        (
            "allocations name batches that exist",
            replace_consume("allocated_batches = '{1,1}', allocated_points = '{2,2}'"),
        ),
        ("a recharge opens the batch", "UPDATE pointsd.batches SET source = 'card'".to_owned()),
        ("a recharge opens the batch", replace_consume("type = 'expire'")),
        (
            "a consume draws from no batch past",
            "UPDATE pointsd.batches SET expires_at = '2026-01-01T00:00:00Z'".to_owned(),
        ),
        ("entries and batches are numbered", "UPDATE pointsd.accounts SET last_seq = 3".to_owned()),
        ("entries and batches are numbered", "UPDATE pointsd.accounts SET last_batch = 2".to_owned()),
        ("entries and batches are numbered", replace_consume("seq = 3")),
        ("entries are chained", replace_consume("balance_before = 11")),
        ("entries are chained", replace_consume("balance_after = 5")),
        ("the sums of entries by type", replace_consume("amount = 5")),
        ("the sums of entries by type", replace_consume("type = 'void', refers_to = 1")),
        ("a batch's amount = what remains", "UPDATE pointsd.batches SET expired = 1".to_owned()),
        ("a consume that follows restores", replace_consume("type = 'restore'")),
        ("refunds of a consume never exceed", replace_consume("type = 'refund', refers_to = 1")),
        ("an account counts its open holds", "UPDATE pointsd.accounts SET open_holds = 1".to_owned()),
        ("expired_until is the latest", "UPDATE pointsd.accounts SET expired_until = now()".to_owned()),
        ("every row of an account lies", "UPDATE pointsd.batches SET bucket = bucket + 1".to_owned()),
        ("no batch and no entry without", "DELETE FROM pointsd.accounts".to_owned()),
    ];
    for name in invariants::names() {
        assert!(cases.iter().any(|(invariant, _)| name.starts_with(invariant)), "no case breaks: {name}");
    }
    for (invariant, damage) in cases {
        client.batch_execute("BEGIN").await.unwrap();
        unguard(&client).await;
        client.batch_execute(&damage).await.unwrap();
        let broken = broken(&client).await;
        client.batch_execute("ROLLBACK").await.unwrap();
        assert!(broken.iter().any(|found| found.starts_with(invariant)), "{invariant}, {damage}: {broken:#?}");
    }
    assert_eq!(broken(&client).await, Vec::<String>::new());
}

/// So that the tables can lie on several servers, cut by bucket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_of_an_account_begins_with_the_bucket() {
    let (_database, client) = ledger().await;
    let rows = client
        .query(
            "SELECT relname::text, (SELECT attname::text FROM pg_attribute WHERE attrelid = indrelid AND attnum = indkey[0])
             FROM pg_index JOIN pg_class ON oid = indexrelid
             WHERE indisunique AND indrelid IN ('pointsd.accounts'::regclass, 'pointsd.batches'::regclass, 'pointsd.entries'::regclass,
                                                'pointsd.checkpoints'::regclass, 'pointsd.requests_open'::regclass)",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(rows.len(), 6);
    for row in rows {
        assert_eq!(row.get::<_, &str>(1), "bucket", "{}", row.get::<_, &str>(0));
    }
}

/// A node of a cluster looks into an SQL function when it makes it, and lacks the tables that only the coordinator has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_sql_function_names_a_table() {
    let (_database, client) = ledger().await;
    let sql = r"SELECT p.proname::text FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
                WHERE p.pronamespace = 'pointsd'::regnamespace AND l.lanname = 'sql'
                      AND p.prosrc ~* '\m(from|join|into|update)\s+pointsd\.[a-z_]+\M(?!\s*\()'";
    let found: Vec<String> = client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(found, Vec::<String>::new(), "write them in PL/pgSQL");
}

/// A publication of all tables refuses changes of a table without a primary key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_tables_can_be_published() {
    let (_database, client) = ledger().await;
    client.batch_execute("CREATE PUBLICATION everything FOR ALL TABLES").await.unwrap();
    let sql = "SELECT relname::text FROM pg_class WHERE relnamespace = 'pointsd'::regnamespace AND relkind = 'r'";
    let tables: Vec<String> = client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert!(tables.len() > 10, "{tables:?}");
    for table in tables {
        // Checked before the first row is read.
        let delete = format!("DELETE FROM pointsd.{table} WHERE false");
        match client.batch_execute(&delete).await {
            Err(error) if ["entries", "periods"].contains(&table.as_str()) => {
                assert_eq!(error.code(), Some(&SqlState::RESTRICT_VIOLATION))
            }
            result => result.expect(&delete),
        }
    }
}
