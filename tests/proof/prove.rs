//! The proof of all accounts: sound accounts get a checkpoint, proved entries are not read again, and every manual
//! change is found.

use std::sync::Mutex;
use std::time::Duration;

use chrono::TimeDelta;
use pointsd::ledger::{AlsoWrite, Posting, Reference, Rules, SoFar, Term, cutoff};
use pointsd::proof::{Asked, Lane, Place, Proof, load_state, prove};
use tokio_postgres::Client;

use super::{Past, TestDatabase, at, consume, day, debt, opening, recharge, rng, user};

/// Collects the progress, and fails at the call of this number.
#[derive(Default)]
struct Keeper {
    kept: Mutex<Vec<Proof>>,
    fails_at: Option<usize>,
}

impl AlsoWrite<SoFar<Proof>> for Keeper {
    async fn write(&self, client: &Client, so_far: &SoFar<Proof>) -> Result<(), tokio_postgres::Error> {
        let calls = {
            let mut kept = self.kept.lock().unwrap();
            kept.push(so_far.counters.clone());
            kept.len()
        };
        if self.fails_at == Some(calls) {
            client.batch_execute("SELECT 1 / 0").await?;
        }
        Ok(())
    }
}

fn rules() -> Rules {
    let sources = [("card".to_owned(), None), ("gift".to_owned(), None)].into();
    Rules { sources, term: Term::days(10), ..Rules::default() }
}

/// Posts random recharges, consumes, refunds, voids, holds and sweeps for users 1 to `users`; returns the number of entries.
pub(super) async fn post(database: &TestDatabase, rng: &mut fastrand::Rng, users: u32, length: u32, salt: &str) -> u64 {
    let mut session = database.session().await;
    let mut past = Past::default();
    let mut when = at("2026-01-01T00:00:00Z");
    // A second call finds the accounts in use, so these are refused.
    let brought = [opening(1, 300, "card", 1), opening(1, 40, "gift", 2), debt(2, 50, 1)];
    session.post(&brought.map(|posting| posting.with_paid(999, "CNY".parse().unwrap())), &rules()).await.unwrap();
    for nth in 0..length {
        when += TimeDelta::hours(rng.i64(0..30));
        if rng.u8(..20) == 0 {
            session.sweep(when, false, |_| true).await.unwrap();
        }
        let (user, points) = (user(rng.u32(1..=users)), rng.i64(1..300));
        let posting = if rng.bool() {
            Posting::recharge(user, 2 * points, *rng.choice(["card", "gift"].iter()).unwrap(), when)
        } else {
            Posting::consume(user, points, "tts", format!("{salt}-{nth}"), when)
        };
        let posting = past.mix(rng, posting.with_key(format!("{salt}-{nth}")));
        session.post(&[posting], &rules()).await.unwrap();
    }
    count(&database.client().await, "SELECT count(*) FROM pointsd.entries").await
}

async fn count(client: &Client, sql: &str) -> u64 {
    u64::try_from(client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0)).unwrap()
}

pub(super) async fn run(database: &TestDatabase, full: bool) -> Proof {
    prove_in(3, database, &Keeper::default(), full, Proof::default(), true).await.unwrap()
}

/// Proves on its own connection, up to a cutoff of now.
async fn prove_now(
    database: &TestDatabase,
    run: &impl AlsoWrite<SoFar<Proof>>,
    full: bool,
    so_far: Proof,
    proceed: bool,
) -> Result<Proof, pointsd::proof::Error> {
    prove_in(1, database, run, full, so_far, proceed).await
}

/// The same in several lanes.
async fn prove_in(
    lanes: usize,
    database: &TestDatabase,
    run: &impl AlsoWrite<SoFar<Proof>>,
    full: bool,
    so_far: Proof,
    proceed: bool,
) -> Result<Proof, pointsd::proof::Error> {
    let (mut client, mut others) = (database.client().await, Vec::new());
    for _ in 1..lanes {
        others.push(database.client().await);
    }
    let cutoff = cutoff(&client, Duration::from_secs(10)).await.unwrap();
    let asked = Asked { run: 7, full, cutoff, closed_until: None };
    let mut others: Vec<_> = others.iter_mut().map(|client| Lane { client, also: run }).collect();
    prove(Lane { client: &mut client, also: run }, &mut others, asked, so_far, |_| proceed).await
}

async fn checkpoints(client: &Client) -> Vec<String> {
    let sql = "SELECT c::text FROM pointsd.checkpoints c ORDER BY user_id";
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sound_ledger_is_proved_and_only_what_changed_is_read_again() {
    let (database, mut rng) = (TestDatabase::new().await, rng());
    let client = database.client().await;
    let entries = post(&database, &mut rng, 10, 400, "a").await;
    for kind in ["refund", "void", "restore", "expire", "opening"] {
        let some = format!("SELECT count(*) FROM pointsd.entries WHERE type = '{kind}'");
        assert_ne!(count(&client, &some).await, 0, "{kind}");
    }
    for state in ["open", "captured", "released"] {
        let some = format!("SELECT count(*) FROM pointsd.holds WHERE state = '{state}'");
        assert_ne!(count(&client, &some).await, 0, "{state}");
    }
    let first = run(&database, false).await;
    let accounts = count(&client, "SELECT count(*) FROM pointsd.accounts").await;
    assert_eq!((first.full, first.accounts, first.entries), (true, accounts, entries), "nothing was proved before");
    assert_eq!((first.suspects, first.findings, first.ended), (0, 0, true), "{first:?}");
    assert_eq!(checkpoints(&client).await.len() as u64, accounts);
    let state = load_state(&client).await.unwrap();
    assert_eq!((state.proved_until, state.full_until), (first.until, first.until));

    let idle = run(&database, false).await;
    assert_eq!((idle.full, idle.accounts, idle.entries), (false, 0, 0), "nothing changed");
    // Only the new entries are read, although each account's history is longer.
    let more = post(&database, &mut rng, 5, 40, "b").await - entries;
    let nightly = run(&database, false).await;
    assert_eq!((nightly.entries, nightly.suspects, nightly.findings), (more, 0, 0), "{nightly:?}");

    let by_parts = checkpoints(&client).await;
    let full = run(&database, true).await;
    assert_eq!((full.full, full.entries, full.suspects, full.findings), (true, entries + more, 0, 0), "{full:?}");
    assert_eq!(checkpoints(&client).await, by_parts);
    client
        .batch_execute("TRUNCATE pointsd.checkpoints; UPDATE pointsd.proof_state SET proved_until = NULL")
        .await
        .unwrap();
    run(&database, true).await;
    assert_eq!(checkpoints(&client).await, by_parts, "from scratch as by parts");
}

/// A nightly proof checks only what changed. If it continues as a full proof, its finished accounts still need one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_proof_does_not_go_on_from_where_a_nightly_one_came() {
    let (mut database, mut rng) = (TestDatabase::new().await, rng());
    database.expect_damage();
    let client = database.client().await;
    post(&database, &mut rng, 10, 80, "a").await;
    run(&database, false).await;
    let last = "SELECT bucket, user_id FROM pointsd.accounts ORDER BY bucket DESC, user_id DESC LIMIT 1";
    let last = client.query_one(last, &[]).await.unwrap();
    let cursor = Place { bucket: last.get(0), user: last.get(1) };
    client
        .batch_execute(
            "ALTER TABLE pointsd.entries DISABLE TRIGGER entries_never_change;
             UPDATE pointsd.entries SET description = 'another'
             WHERE user_id = (SELECT user_id FROM pointsd.accounts ORDER BY user_id LIMIT 1);
             ALTER TABLE pointsd.entries ENABLE ALWAYS TRIGGER entries_never_change",
        )
        .await
        .unwrap();
    let nightly = Proof { cursor: Some(cursor), until: Some(chrono::Utc::now()), ..Proof::default() };
    let full = prove_now(&database, &Keeper::default(), true, nightly, true).await.unwrap();
    assert!(full.full && full.ended, "{full:?}");
    assert_eq!(full.findings, 1, "{full:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_stopped_or_cut_off_is_continued() {
    let (database, mut rng) = (TestDatabase::new().await, rng());
    let client = database.client().await;
    post(&database, &mut rng, 10, 80, "a").await;
    let stopped = prove_now(&database, &Keeper::default(), true, Proof::default(), false).await;
    let stopped = stopped.unwrap();
    assert!(stopped.stopped && !stopped.ended && stopped.accounts == 0, "{stopped:?}");
    assert_eq!(load_state(&client).await.unwrap().full_until, None);

    // The run fails in the first group: nothing is written.
    let lost = Keeper { fails_at: Some(1), ..Keeper::default() };
    prove_now(&database, &lost, true, stopped.clone(), true).await.unwrap_err();
    assert!(checkpoints(&client).await.is_empty());
    // It fails in the last transaction: the groups stay, the proof has not ended. A group writes twice, and each bucket is one.
    let groups = usize::try_from(crate::support::buckets()).unwrap();
    let lost = Keeper { fails_at: Some(2 * groups + 1), ..Keeper::default() };
    prove_now(&database, &lost, true, stopped.clone(), true).await.unwrap_err();
    assert!(!checkpoints(&client).await.is_empty());
    assert_eq!(load_state(&client).await.unwrap().full_until, None);

    // It continues after its last group and counts nothing twice.
    let kept = lost.kept.lock().unwrap()[2 * groups - 1].clone();
    assert!(kept.accounts > 0 && kept.cursor.is_none() && !kept.ended, "{kept:?}");
    let again = prove_now(&database, &Keeper::default(), true, kept.clone(), true).await.unwrap();
    assert_eq!((again.accounts, again.entries), (kept.accounts, kept.entries));
    client.batch_execute("UPDATE pointsd.proof_state SET proved_until = NULL, full_until = NULL").await.unwrap();

    let ended = prove_now(&database, &Keeper::default(), true, stopped.clone(), true).await.unwrap();
    assert!(ended.ended && !ended.stopped && ended.findings == 0, "{ended:?}");
    assert_eq!(ended.until, stopped.until, "entries recorded after its first begin are left to the next proof");
    assert_eq!(ended.since, None, "nothing had been proved when it began");
    let told_again = prove_now(&database, &Keeper::default(), true, ended.clone(), true).await;
    assert_eq!(told_again.unwrap(), ended);
}

/// A checkpoint is derived data: after a manual change of it, no account stays a suspect for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_was_changed_is_made_anew() {
    let (database, mut rng) = (TestDatabase::new().await, rng());
    let client = database.client().await;
    post(&database, &mut rng, 10, 80, "a").await;
    run(&database, false).await;
    let sound = checkpoints(&client).await;
    client.batch_execute("UPDATE pointsd.checkpoints SET batches = batches + 1").await.unwrap();
    let full = run(&database, true).await;
    assert_eq!((full.suspects as usize, full.findings), (sound.len(), 0), "{full:?}");
    assert_eq!(checkpoints(&client).await, sound);
    assert_eq!(run(&database, true).await.suspects, 0);
}

/// Posts to an account of the group on another connection, whenever progress is stored.
struct Posts<'a>(&'a TestDatabase);

impl AlsoWrite<SoFar<Proof>> for Posts<'_> {
    async fn write(
        &self,
        _: &Client,
        SoFar { counters: so_far, .. }: &SoFar<Proof>,
    ) -> Result<(), tokio_postgres::Error> {
        let client = self.0.client().await;
        client.batch_execute("SET lock_timeout = '1s'").await?;
        let mut session = pointsd::ledger::Session::open(Box::new(client)).await.unwrap();
        let key = format!("beside-{}-{}", so_far.ended, so_far.accounts);
        let posting = Posting::recharge(user(1), 5, "gift", at("2026-03-01T00:00:00Z")).with_key(key);
        session.post(&[posting], &rules()).await.unwrap();
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postings_go_on_while_a_group_is_open() {
    let (database, mut rng) = (TestDatabase::new().await, rng());
    let entries = post(&database, &mut rng, 3, 30, "a").await;
    let client = database.client().await;
    let proof = prove_now(&database, &Posts(&database), true, Proof::default(), true).await.unwrap();
    assert!(proof.ended && proof.findings == 0, "{proof:?}");
    assert!(count(&client, "SELECT count(*) FROM pointsd.entries").await > entries);
    assert_eq!(run(&database, false).await.findings, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_field_that_a_hand_changes_makes_its_account_a_suspect() {
    let (mut database, mut rng) = (TestDatabase::new().await, rng());
    database.expect_damage();
    let client = database.client().await;
    post(&database, &mut rng, 6, 120, "a").await;
    assert_eq!(run(&database, true).await.suspects, 0);
    let constraints =
        "SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) FROM pg_constraint
                       WHERE conrelid IN ('pointsd.accounts'::regclass, 'pointsd.batches'::regclass, 'pointsd.entries'::regclass,
                                        'pointsd.holds'::regclass) AND contype = 'c'";
    for row in client.query(constraints, &[]).await.unwrap() {
        client.batch_execute(row.get(0)).await.unwrap();
    }
    client.batch_execute("ALTER TABLE pointsd.entries DISABLE TRIGGER entries_never_change").await.unwrap();
    let columns = client
        .query(
            "SELECT attrelid::regclass::text, attname::text, format_type(atttypid, NULL) FROM pg_attribute
             WHERE attrelid IN ('pointsd.accounts'::regclass, 'pointsd.batches'::regclass, 'pointsd.entries'::regclass)
               AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
               AND attname <> 'bucket' -- an account may move to another one",
            &[],
        )
        .await
        .unwrap();
    assert!(columns.len() > 30, "{}", columns.len());
    for row in &columns {
        let (table, column, kind): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let other = match kind.as_str() {
            // A number that is not in use, because the primary key refuses a second one.
            "bigint" | "integer" if column == "seq" || column == "batch" => {
                format!("coalesce({column}, 0) + {}", rng.i32(10_000..20_000))
            }
            "bigint" | "integer" | "smallint" => format!("coalesce({column}, 0) + {}", rng.i32(1..1_000)),
            "numeric" => format!("coalesce({column}, 0) + 1"),
            "boolean" => format!("NOT {column}"),
            "text" => format!("coalesce({column}, '') || 'x'"),
            "uuid" => "gen_random_uuid()".to_owned(),
            "timestamp with time zone" => format!("coalesce({column}, '2026-01-01Z') + interval '1 microsecond'"),
            "jsonb" => "'{}'".to_owned(),
            "integer[]" | "bigint[]" => format!("{column} || 9"),
            other => panic!("{table}.{column} is {other}: how is it changed?"),
        };
        let save = format!("CREATE TABLE public.saved AS SELECT * FROM {table}");
        client.batch_execute(&save).await.unwrap();
        let nth = rng.u32(..50);
        let change = format!(
            "UPDATE {table} SET {column} = {other} WHERE ctid = (SELECT ctid FROM {table} ORDER BY ctid OFFSET {nth} %
             (SELECT count(*) FROM {table}) LIMIT 1)"
        );
        assert_eq!(client.execute(&change, &[]).await.unwrap(), 1);
        let proof = run(&database, true).await;
        assert!(proof.suspects > 0, "{table}.{column} = {other} of row {nth} passed: {proof:?}");
        let columns_of: Vec<String> = (columns.iter())
            .filter(|row| row.get::<_, String>(0) == table)
            .map(|row| row.get::<_, String>(1))
            .chain(["bucket".to_owned()])
            .collect();
        let names = columns_of.join(", ");
        let restore = format!(
            "DELETE FROM {table}; INSERT INTO {table} ({names}) SELECT {names} FROM public.saved;
             DROP TABLE public.saved; UPDATE pointsd.findings SET resolved_at = now(), resolved_run = 0 WHERE resolved_at IS NULL"
        );
        client.batch_execute(&restore).await.unwrap();
    }
    assert_eq!(run(&database, true).await.suspects, 0, "all is as it was");
}

/// An account that was opened during a full proof, or that lost its checkpoint, counts as unproved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_checkpoint_is_proved_from_the_first_entry_on() {
    let (mut database, mut rng) = (TestDatabase::new().await, rng());
    database.expect_damage();
    let client = database.client().await;
    post(&database, &mut rng, 10, 200, "a").await;
    run(&database, false).await;
    client.batch_execute("DELETE FROM pointsd.checkpoints").await.unwrap();
    let full = run(&database, true).await;
    assert_eq!((full.suspects, full.findings), (0, 0), "{full:?}");
    assert_eq!(checkpoints(&client).await.len(), 10);
    // Points used after their expiry: no sum shows it.
    let late = "UPDATE pointsd.batches AS b SET expires_at = b.opened_at + interval '1 microsecond'
                WHERE (user_id, batch) = (SELECT user_id, allocated_batches[1] FROM pointsd.entries AS e
                                          WHERE type = 'consume' AND allocated_batches <> '{}' AND at > (
                                              SELECT opened_at + interval '1 hour' FROM pointsd.batches AS o
                                              WHERE o.user_id = e.user_id AND o.batch = e.allocated_batches[1])
                                          ORDER BY user_id, seq LIMIT 1)
                RETURNING user_id";
    let user: uuid::Uuid = client.query_one(late, &[]).await.unwrap().get(0);
    client.execute("DELETE FROM pointsd.checkpoints WHERE user_id = $1", &[&user]).await.unwrap();
    let full = run(&database, true).await;
    assert_eq!(full.suspects, 1, "{full:?}");
    assert!(full.findings > 0, "{full:?}");
}

/// Refunds, voids and captures of what was proved before: a nightly proof needs no earlier entry for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_back_after_its_proof_is_proved_by_its_own_entries() {
    let database = TestDatabase::new().await;
    let mut session = database.session().await;
    super::write_history(&database).await;
    assert_eq!(run(&database, false).await.suspects, 0);
    let work = |on: i64| Reference::Work { source_type: "tts".to_owned(), source_id: format!("task-{on}") };
    let later = [
        consume(4, 3, 17),
        Posting::refund(user(4), work(3), day(20)).with_key("the rest"),
        Posting::refund(user(1), work(4), day(20)),
        Posting::void(user(4), Reference::Key("r14".to_owned()), day(21)).with_key("all"),
        // Batch 5 of user 1 has expired by then; its points come back for work from before.
        recharge(1, 1, "gift", (41, 60)),
        consume(1, 30, 39),
    ];
    super::post(&mut session, &later).await;
    let nightly = run(&database, false).await;
    assert_eq!((nightly.suspects, nightly.findings), (0, 0), "{nightly:?}");
    assert!(nightly.entries >= 9, "{nightly:?}");
    let full = run(&database, true).await;
    assert_eq!((full.suspects, full.findings), (0, 0), "{full:?}");
}

/// A hold writes no entry, so a full proof compares each with its account and its consume.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_proof_finds_what_a_hand_did_to_a_hold() {
    let mut database = TestDatabase::new().await;
    database.expect_damage();
    let client = database.client().await;
    super::write_history(&database).await;
    assert_eq!(run(&database, true).await.suspects, 0);
    for hand in [
        "DELETE FROM pointsd.holds WHERE state = 'open'",
        "UPDATE pointsd.holds SET state = 'released' WHERE state = 'open'",
        "UPDATE pointsd.holds SET seq = 2 WHERE state = 'captured'",
        "UPDATE pointsd.holds SET at = at - interval '1 day' WHERE state = 'captured'",
        "UPDATE pointsd.holds SET state = 'open', seq = NULL WHERE state = 'captured'",
        "UPDATE pointsd.holds SET user_id = gen_random_uuid() WHERE state = 'open'",
        "UPDATE pointsd.holds SET key = gen_random_uuid() WHERE state = 'captured'",
    ] {
        client.batch_execute("CREATE TABLE public.saved AS TABLE pointsd.holds").await.unwrap();
        client.batch_execute(hand).await.unwrap();
        let proof = run(&database, true).await;
        assert!(proof.suspects > 0 && proof.findings > 0, "{hand}: {proof:?}");
        client
            .batch_execute(
                "DELETE FROM pointsd.holds; INSERT INTO pointsd.holds TABLE public.saved; DROP TABLE public.saved;
                 UPDATE pointsd.findings SET resolved_at = now(), resolved_run = 0 WHERE resolved_at IS NULL",
            )
            .await
            .unwrap();
        assert_eq!(run(&database, true).await.suspects, 0, "after {hand}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_account_is_found() {
    let (mut database, mut rng) = (TestDatabase::new().await, rng());
    database.expect_damage();
    let client = database.client().await;
    post(&database, &mut rng, 4, 60, "a").await;
    run(&database, false).await;
    client.execute("DELETE FROM pointsd.accounts WHERE user_id = $1", &[&user(1)]).await.unwrap();
    assert_eq!(run(&database, false).await.suspects, 0, "no entry is new");
    let full = run(&database, true).await;
    assert!(full.suspects == 1 && full.findings > 0, "{full:?}");
    let nightly = run(&database, false).await;
    assert_eq!((nightly.suspects, nightly.findings), (1, full.findings), "found users are looked at each time");
}

/// A pass over all accounts has index scans, sorts and nested loops switched off. A query that it makes for a single row would then read a whole
/// table, and be compiled anew for each row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_for_each_row_of_a_pass_has_settings_of_its_own() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    let reading = r"SELECT proname, coalesce(proconfig, '{}') FROM pg_proc
                    WHERE pronamespace = 'pointsd'::regnamespace AND prokind = 'f'
                      AND pg_get_functiondef(oid) ~ '(?<!DISTINCT )(FROM|JOIN) \(*(pointsd\.)?(accounts|batches|entries|holds)\y'";
    let passes = [include_str!("../../sql/proof/screen_range.sql"), include_str!("../../sql/proof/range_compare.sql")];
    let mut called = Vec::new();
    for row in client.query(reading, &[]).await.unwrap() {
        let (name, settings): (String, Vec<String>) = (row.get(0), row.get(1));
        if passes.iter().any(|pass| pass.contains(&format!("pointsd.{name}("))) {
            assert_eq!(
                settings[2..],
                ["jit=off", "enable_sort=on", "enable_indexscan=on", "enable_nestloop=on"],
                "{name}"
            );
            called.push(name);
        }
    }
    called.sort();
    assert_eq!(called, ["refund_is_sound", "restore_is_sound"]);
}

/// A nested loop visits a page for every entry of each user who drew late. In an old ledger these are all users.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_screening_has_no_nested_loops() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    // Each user draws after the first end of its batches.
    let postings = (1..=500).flat_map(|nth| {
        let drawn = (4..12).map(move |on| consume(nth, 5, on));
        [recharge(nth, 10, "gift", (1, 2)), recharge(nth, 100, "card", (3, 60))].into_iter().chain(drawn)
    });
    let postings: Vec<_> = postings.collect();
    database.session().await.post(&postings, &rules()).await.unwrap();
    // The statement and the settings in use are noted where it writes checkpoints.
    client
        .batch_execute(
            "CREATE TABLE public.screenings (statement text, settings text);
             CREATE FUNCTION public.note_screening() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 INSERT INTO public.screenings
                 SELECT current_query(), string_agg(format('SET LOCAL %I = %L', name, setting), '; ')
                 FROM pg_settings WHERE source = 'session' AND category LIKE 'Query Tuning%';
                 RETURN NULL;
             END $$;
             CREATE TRIGGER note_screening AFTER INSERT ON pointsd.checkpoints
                 FOR EACH STATEMENT EXECUTE FUNCTION public.note_screening()",
        )
        .await
        .unwrap();
    client.batch_execute("VACUUM ANALYZE").await.unwrap();
    run(&database, true).await;
    let noted = "SELECT DISTINCT statement, settings FROM public.screenings";
    let screenings = client.query(noted, &[]).await.unwrap();
    assert!(!screenings.is_empty(), "the full proof screened nothing");
    for row in screenings {
        let (statement, settings): (&str, &str) = (row.get(0), row.get(1));
        assert_eq!(nested_loops(&client, statement, settings).await, 0, "{settings}");
        // The settings alone keep the planner from them.
        let with = format!("{settings}; SET LOCAL enable_nestloop = on");
        assert_ne!(nested_loops(&client, statement, &with).await, 0, "{with}");
    }
}

/// How many nested loops the plan of a screening of the whole bucket 0 has under these settings.
async fn nested_loops(client: &Client, statement: &str, settings: &str) -> usize {
    client.batch_execute(&format!("BEGIN; {settings}; PREPARE screening AS {statement}")).await.unwrap();
    let whole = "'00000000-0000-0000-0000-000000000000', NULL, true, NULL, NULL, 0";
    let explain = format!("EXPLAIN (FORMAT JSON) EXECUTE screening ({whole})");
    let plan: serde_json::Value = client.query_one(&explain, &[]).await.unwrap().get(0);
    client.batch_execute("ROLLBACK; DEALLOCATE screening").await.unwrap();
    plan.to_string().matches(r#""Node Type":"Nested Loop""#).count()
}
