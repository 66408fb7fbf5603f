//! `jobs`, `runs`, `run`: the commands of an operator.

use serde_json::{Value, json};
use uuid::Uuid;

use super::database;
use crate::program::{Folder, Running, call, eventually, on, run, until_waits_for_a_lock, wait};
use crate::support::{TestDatabase, user_of_a_bucket, users_of_a_bucket};

/// Batches of 7 points that expired long ago.
fn recharge(url: &str, users: usize) {
    let line = |user: Uuid| {
        format!(
            "{{\"op\":\"recharge\",\"user\":\"{user}\",\"points\":7,\"source\":\"gift\",\"order_id\":1,\
             \"at\":\"2026-01-01T00:00:00Z\",\"expires_at\":\"2026-01-02T00:00:00Z\"}}\n",
        )
    };
    crate::program::post(url, users_of_a_bucket().take(users).map(line).collect::<String>()).expect(0);
}

fn sql(database: &TestDatabase, sql: &str) {
    wait(async { database.client().await.batch_execute(sql).await.unwrap() });
}

#[test]
fn a_run_by_hand_is_kept_with_its_counters() {
    let (database, url) = database();
    recharge(&url, 250);
    let slot = "2026-02-01T00:00:00Z";
    let answer = call(&url, &["run", "expiry", "--at", slot, "--json"]).expect(0).json();
    assert_eq!(
        (&answer["batches"], &answer["points"], &answer["state"]),
        (&json!(250), &json!(1_750), &json!("succeeded"))
    );
    let runs = call(&url, &["runs", "--json"]).expect(0).jsons();
    assert_eq!(runs.len(), 1);
    let row = &runs[0];
    assert_eq!(row["run"], answer["run"]);
    assert_eq!(
        (&row["job"], &row["slot"], &row["trigger"], &row["state"], &row["attempt"]),
        (&json!("expiry"), &json!(slot), &json!("manual"), &json!("succeeded"), &json!(1))
    );
    assert_eq!((&row["counters"]["batches"], &row["progress"]), (&json!(250), &json!({ "done": 250, "total": 250 })));
    assert!(
        row["host"].is_string() && row["pid"].is_i64() && row["started"].is_string() && row["finished"].is_string()
    );
    // Its entries carry its number, and only they.
    let of_run: i64 = wait(async {
        let sql = "SELECT count(*) FROM pointsd.entries WHERE run = $1 AND type = 'expire'";
        database.client().await.query_one(sql, &[&row["run"].as_i64().unwrap()]).await.unwrap().get(0)
    });
    assert_eq!(of_run, 250);

    // A dry run leaves no row. A second run changes nothing and is a run of its own.
    call(&url, &["run", "expiry", "--at", slot, "--dry-run"]).expect(0);
    let again = call(&url, &["run", "expiry", "--at", slot, "--json"]).expect(0).json();
    assert_eq!(again["batches"], 0);
    assert_eq!(call(&url, &["runs", "--json"]).expect(0).jsons().len(), 2);
    assert_eq!(call(&url, &["runs", "--json", "--limit", "1"]).expect(0).json()["run"], again["run"]);
    assert_eq!(call(&url, &["runs", "--job", "prune"]).expect(0).stdout, "No run yet.\n");
    assert_eq!(call(&url, &["runs", "--state", "failed", "--json"]).expect(0).stdout, "");
    let table = call(&url, &["runs"]).expect(0).stdout;
    assert!(table.contains("manual") && table.contains("1,750 points expired (250 batches"), "{table}");
}

#[test]
fn the_counters_of_a_run_must_agree_with_its_entries() {
    let (mut database, url) = database();
    database.expect_damage();
    recharge(&url, 150);
    // One entry comes into the books without the run's number: as good as one that was never written.
    sql(
        &database,
        &format!(
            "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN IF NEW.user_id = '{}' THEN NEW.run := NULL; END IF; RETURN NEW; END $$;
             CREATE TRIGGER lose BEFORE INSERT ON pointsd.entries FOR EACH ROW EXECUTE FUNCTION lose()",
            user_of_a_bucket(120)
        ),
    );
    let done = call(&url, &["run", "expiry"]).expect(1);
    let says = "it counted 150 batches with 1,050 points, but its entries say 149 batches with 1,043 points";
    assert!(done.stderr.contains(says), "{}", done.stderr);
    let row = call(&url, &["runs", "--json"]).expect(0).json();
    assert_eq!((&row["state"], &row["counters"]["batches"]), (&json!("failed"), &json!(150)));
    assert!(row["error"].as_str().unwrap().contains(says), "{row}");
}

#[test]
fn a_difference_of_more_points_than_64_bits_count_is_told() {
    let (mut database, url) = database();
    database.expect_damage();
    recharge(&url, 3);
    // Two sources that nearly fill 64 bits each, and an entry without the run's number.
    let [card, lost] = [1, 2].map(user_of_a_bucket);
    sql(
        &database,
        &format!(
            "UPDATE pointsd.batches SET source = 'card' WHERE user_id = '{card}';
             UPDATE pointsd.batches SET amount = amount + {most}, remaining = remaining + {most} WHERE user_id <> '{lost}';
             UPDATE pointsd.accounts SET balance = balance + {most}, total_recharged = total_recharged + {most} WHERE user_id <> '{lost}';
             CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN IF NEW.user_id = '{lost}' THEN NEW.run := NULL; END IF; RETURN NEW; END $$;
             CREATE TRIGGER lose BEFORE INSERT ON pointsd.entries FOR EACH ROW EXECUTE FUNCTION lose()",
            most = i64::MAX - 7,
        ),
    );
    let done = call(&url, &["run", "expiry"]).expect(1);
    let all = "9,223,372,036,854,775,807 points";
    let says = format!("it counted 3 batches with {all}, but its entries say 2 batches with {all}");
    assert!(done.stderr.contains(&says), "{}", done.stderr);
}

#[test]
fn the_progress_of_a_run_is_told_in_percent() {
    let (database, url) = database();
    sql(
        &database,
        "INSERT INTO pointsd.jobs (job, rule, since) VALUES ('expiry', 'x', now()) ON CONFLICT DO NOTHING;
         INSERT INTO pointsd.runs (job, slot, trigger, state, attempt, fence, host, pid, started, heartbeat)
         VALUES ('expiry', '2026-03-01', 'schedule', 'running', 1, 1, 'there', 77, now(), now())",
    );
    for (done, total, says) in
        [(1_i64, 3, "running, 33 %"), (1 << 62, i64::MAX, "running, 50 %"), (3, 2, "running, 100 %"), (0, 0, "running")]
    {
        let progress = json!({ "done": done, "total": total });
        sql(&database, &format!("UPDATE pointsd.runs SET progress = '{progress}'"));
        let table = call(&url, &["jobs"]).expect(0).stdout;
        let row = table.lines().find(|line| line.contains("running")).unwrap_or_else(|| panic!("{table}"));
        assert!(row.trim_end().ends_with(says), "{row}");
    }
}

#[test]
fn prune_deletes_old_rows_and_keeps_each_jobs_last_slot() {
    let (database, url) = database();
    sql(
        &database,
        "INSERT INTO pointsd.runs (job, slot, trigger, state, attempt, fence, finished, why, error)
         SELECT job, at, trigger, CASE trigger WHEN 'manual' THEN 'succeeded' ELSE 'missed' END, 1, 1, at, 'why', NULL
         FROM unnest(ARRAY['expiry', 'other']) AS job, unnest(ARRAY['schedule', 'manual']) AS trigger,
              generate_series('2025-01-01'::timestamptz, '2025-03-31', '1 day') AS at",
    );
    sql(
        &database,
        "INSERT INTO pointsd.runs (job, slot, trigger, state, attempt, fence)
         VALUES ('other', '2025-01-01', 'manual', 'running', 1, 1)",
    );
    // Twelve thousand requests, more than two chunks, of which the first 9,000 are old; one in a hundred is parked.
    sql(
        &database,
        "INSERT INTO pointsd.requests (op, user_id, points, source_type, source_id)
         SELECT 'consume', gen_random_uuid(), 1, 'tts', n::text FROM generate_series(1, 12000) AS n;
         UPDATE pointsd.requests SET state = CASE WHEN id % 100 = 0 THEN 'parked' ELSE 'posted' END,
             seq = CASE WHEN id % 100 = 0 THEN NULL ELSE 1 END, code = CASE WHEN id % 100 = 0 THEN 'x' END,
             message = CASE WHEN id % 100 = 0 THEN 'x' END,
             finished_at = CASE WHEN id <= 9000 THEN '2025-03-01'::timestamptz ELSE '2025-03-30' END",
    );
    sql(
        &database,
        "INSERT INTO pointsd.tokens (name, scopes, hash, created_by) VALUES ('ops', '{operate}', sha256(''), 'test');
         INSERT INTO pointsd.audit (at, token, by, action, subject, outcome)
         SELECT at, 1, 'ops', 'pause', 'expiry', 'paused' FROM generate_series('2024-12-31'::timestamptz, '2025-01-09', '1 day') AS at",
    );
    let folder = Folder::new();
    let config = folder.file("pointsd.yaml", "retention: {runs_days: 30, requests_days: 30, reports_days: 87}\n");
    // The runs that ended before the second of March: 60 days, two jobs, two triggers.
    let prune = ["run", "prune", "--at", "2025-04-01T00:00:00Z", "--json", "--config", &config];
    let counted = call(&url, &[&prune[..], &["--dry-run"]].concat()).expect(0).json();
    assert_eq!((&counted["runs"], &counted["requests"]), (&json!(240), &json!(8_910)), "{counted}");
    let pruned = call(&url, &prune).expect(0).json();
    assert_eq!((&pruned["runs"], &pruned["requests"]), (&json!(240), &json!(8_910)), "{pruned}");
    assert_eq!(pruned["orders"], 4, "those before the fourth of January: {pruned}");
    let again = call(&url, &prune).expect(0).json();
    assert_eq!((&again["runs"], &again["requests"]), (&json!(0), &json!(0)), "{again}");
    let all = |job: &str| {
        call(&url, &["runs", "--json", "--limit", "1000"])
            .expect(0)
            .jsons()
            .iter()
            .filter(|row| row["job"] == job)
            .count()
    };
    assert_eq!((all("expiry"), all("other")), (60, 61), "an open run stays");
    // Long after, only the last slot of each job and the open run are left.
    let later = ["run", "prune", "--at", "2026-06-01T00:00:00Z", "--json", "--config", &config];
    let last = call(&url, &later).expect(0).json();
    assert_eq!((&last["runs"], &last["requests"]), (&json!(118), &json!(2_970)), "{last}");
    let left = call(&url, &["requests", "--state", "parked", "--limit", "1000", "--json"]).expect(0).json();
    assert_eq!(left["requests"].as_array().unwrap().len(), 120, "parked requests stay");
    assert_eq!((all("expiry"), all("other")), (1, 2));
}

#[test]
fn jobs_shows_pauses_and_resumes() {
    let (_database, url) = database();
    let jobs = || {
        let answer = call(&url, &["jobs", "--json"]).expect(0).json();
        answer
            .as_array()
            .unwrap()
            .iter()
            .map(|job| (job["job"].as_str().unwrap().to_owned(), job.clone()))
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    let shown = jobs();
    assert_eq!(shown.keys().collect::<Vec<_>>(), ["arrears", "expiry", "month_end", "prune", "reconciliation"]);
    let expiry = &shown["expiry"];
    assert_eq!(
        (&expiry["schedule"], &expiry["time_zone"], &expiry["enabled"]),
        (&json!("0 2 * * *"), &json!("UTC"), &json!(true))
    );
    assert_eq!(
        (&expiry["paused"], &expiry["last_run"], &expiry["running"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert!(expiry["next_slot"].as_str().unwrap().ends_with("T02:00:00Z"), "{expiry}");

    let mut pause = on(&url, &["jobs", "pause", "expiry", "--json"]);
    pause.env("SUDO_USER", "ann");
    assert_eq!(run(pause).expect(0).json(), json!({ "job": "expiry", "paused": true }));
    assert_eq!(jobs()["expiry"]["paused"]["by"], "ann");
    assert_eq!(jobs()["prune"]["paused"], Value::Null);
    assert!(call(&url, &["jobs"]).expect(0).stdout.contains("paused by ann since "));
    // By hand it still runs.
    call(&url, &["run", "expiry"]).expect(0);
    call(&url, &["jobs", "resume", "expiry"]).expect(0);
    assert_eq!(jobs()["expiry"]["paused"], Value::Null);
    assert_eq!(jobs()["expiry"]["last_run"]["state"], "succeeded");

    for (arguments, says) in [
        (
            &["jobs", "pause", "night"][..],
            "there is no such job; there are expiry, reconciliation, arrears, month_end, prune",
        ),
        (&["run", "night"], "there is no such job; there are expiry, reconciliation, arrears, month_end, prune"),
        (&["runs", "--state", "done"], "there is no such state; there are running, succeeded"),
        (&["jobs", "cancel", "77"], "there is no run 77"),
    ] {
        let done = call(&url, arguments).expect(2);
        assert!(done.stderr.contains(says), "{arguments:?}: {}", done.stderr);
    }
}

#[test]
fn explain_shows_the_coming_slots_without_a_database() {
    let folder = Folder::new();
    let config = folder.file(
        "pointsd.yaml",
        "jobs: {expiry: {schedule: '30 2 * * *', time_zone: Europe/Paris, catch_up: all, catch_up_limit: 5}}\n",
    );
    let explain = ["jobs", "explain", "expiry", "--config", &config];
    let answer = call("postgres://nobody@127.0.0.1:1/nothing", &[&explain[..], &["--json"]].concat()).expect(0).json();
    assert_eq!(answer["in_words"], "At 02:30, Europe/Paris");
    assert_eq!(answer["next_slots"].as_array().unwrap().len(), 10);
    assert_eq!(answer["clock_changes"].as_array().unwrap().len(), 2);
    assert_eq!(answer["warnings"].as_array().unwrap().len(), 2);
    let after = &answer["after_an_outage_of_36_hours"];
    let run = after["run"].as_array().unwrap().len();
    assert!((run == 1 || run == 2) && after["missed"] == 0, "{after}");
    let text = call("postgres://nobody@127.0.0.1:1/nothing", &explain).expect(0).stdout;
    for says in ["At 02:30, Europe/Paris", "does not exist on", "down for the last 36 hours", "would run"] {
        assert!(text.contains(says), "{text}");
    }
}

#[test]
fn a_run_under_way_can_be_seen_waited_for_and_cancelled() {
    let (database, url) = database();
    let folder = Folder::new();
    let one_lane = folder.file("pointsd.yaml", "jobs: {expiry: {lanes: 1}}\n");
    let run = ["run", "expiry", "--json", "--config", &one_lane];
    recharge(&url, 2_000);
    wait(async {
        let client = database.client().await;
        let hold = async |user: usize| {
            let holder = database.client().await;
            holder.batch_execute("BEGIN").await.unwrap();
            let sql = "SELECT FROM pointsd.accounts WHERE user_id = $1 FOR UPDATE";
            holder.execute(sql, &[&user_of_a_bucket(user)]).await.unwrap();
            holder
        };
        // It stands still in its second group.
        let holder = hold(1_500).await;
        let standing = Running::start(on(&url, &run));
        until_waits_for_a_lock(&client).await;
        // The next heartbeat writes its progress.
        let running = eventually("its progress", || {
            let shown = call(&url, &["jobs", "--json"]).expect(0).json();
            (!shown[0]["running"]["progress"].is_null()).then(|| shown[0]["running"].clone())
        });
        assert_eq!(
            (&running["state"], &running["progress"]),
            (&json!("running"), &json!({ "done": 1000, "total": 2000 }))
        );
        assert!(call(&url, &["jobs"]).expect(0).stdout.contains("running, 50 %"));
        let busy = call(&url, &["run", "expiry"]).expect(3);
        assert!(busy.stdout.contains("expiry is under way already: run 1 by hand, process "), "{}", busy.stdout);
        assert_eq!(call(&url, &["run", "expiry", "--json"]).expect(3).json()["busy"]["run"], 1);
        let waiting = Running::start(on(&url, &["run", "expiry", "--wait", "--json"]));

        let cancelled = call(&url, &["jobs", "cancel", "1", "--json"]).expect(0).json();
        assert_eq!((&cancelled["cancelled"], &cancelled["run"]["state"]), (&json!(true), &json!("cancelled")));
        assert_eq!(cancelled["run"]["counters"]["batches"], 1_000, "those of the finished groups");
        assert_eq!(call(&url, &["jobs", "cancel", "1", "--json"]).expect(3).json()["cancelled"], false);
        holder.batch_execute("COMMIT").await.unwrap();
        let told = standing.finish().expect(1);
        assert_eq!(told.json()["state"], "cancelled", "{told:?}");
        // Its chunk under way was not written, and the waiting run does the rest.
        let rest = waiting.finish().expect(0).json();
        assert_eq!((&rest["batches"], &rest["run"]), (&json!(1_000), &json!(2)), "{rest}");
    });
    let expired = call(&url, &["export", "entries", "--json"]).expect(0).jsons();
    assert_eq!(expired.iter().filter(|entry| entry["type"] == "expire").count(), 2_000);
}

#[test]
fn ctrl_c_ends_a_run_by_hand_after_the_group_in_hand() {
    let (database, url) = database();
    let folder = Folder::new();
    let one_lane = folder.file("pointsd.yaml", "jobs: {expiry: {lanes: 1}}\n");
    let run = ["run", "expiry", "--json", "--config", &one_lane];
    recharge(&url, 2_000);
    wait(async {
        let client = database.client().await;
        let holder = database.client().await;
        holder.batch_execute("BEGIN").await.unwrap();
        let sql = "SELECT FROM pointsd.accounts WHERE user_id = $1 FOR UPDATE";
        holder.execute(sql, &[&user_of_a_bucket(250)]).await.unwrap();
        let running = Running::start(on(&url, &run));
        until_waits_for_a_lock(&client).await;
        running.signal(nix::sys::signal::Signal::SIGINT);
        let pid = running.pid();
        eventually("the signal to arrive", || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).unwrap();
            (u64::from_str_radix(pending.trim(), 16) == Ok(0)).then_some(())
        });
        holder.batch_execute("COMMIT").await.unwrap();
        let answer = running.finish().expect(1).json();
        assert_eq!((&answer["state"], &answer["batches"]), (&json!("cancelled"), &json!(1_000)));
        let row = call(&url, &["runs", "--json"]).expect(0).json();
        assert_eq!(row["why"], "interrupted by its caller");
    });
    assert_eq!(call(&url, &["run", "expiry", "--json"]).expect(0).json()["batches"], 1_000);
}

/// A proof's statements read the whole ledger, those of the reports much of it: their end is not waited for.
#[test]
fn ctrl_c_cuts_a_long_statement_off() {
    let (database, url) = database();
    recharge(&url, 10);
    wait(async {
        let client = database.client().await;
        let holder = database.client().await;
        for (job, more, table) in [
            ("reconciliation", "--json", "pointsd.batches"),
            ("reconciliation", "--dry-run", "pointsd.batches"),
            ("arrears", "--json", "pointsd.arrears_closing"),
            ("arrears", "--dry-run", "pointsd.arrears_closing"),
            ("expiry", "--json", "pointsd.expiry_forecast"), // which its sweep does not read
        ] {
            // The run waits as long as a very long statement would last: the lock is not released.
            holder.batch_execute(&format!("BEGIN; LOCK {table} IN ACCESS EXCLUSIVE MODE")).await.unwrap();
            let running = Running::start(on(&url, &["run", job, more]));
            until_waits_for_a_lock(&client).await;
            running.signal(nix::sys::signal::Signal::SIGINT);
            let ended = running.finish().expect(1);
            assert!(ended.stdout.contains("cancelled") || ended.stderr.contains("nothing was changed"), "{ended:?}");
            holder.batch_execute("COMMIT").await.unwrap();
        }
    });
    assert_eq!(call(&url, &["run", "reconciliation", "--full", "--json"]).expect(0).json()["accounts"], 10);
    assert_eq!(call(&url, &["run", "arrears", "--json"]).expect(0).json()["accounts"], 0);
}
