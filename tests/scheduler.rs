//! The scheduler on a real database, with the clock handed in: each slot ends as exactly one row, whatever the clock,
//! the daemons and the jobs do.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{TestDatabase, at};
use chrono::{DateTime, TimeDelta, Utc};
use pointsd::database::Database;
use pointsd::ledger::{AlsoWrite as _, Part, PrepareWrite, Progress};
use pointsd::schedule::Schedule;
use pointsd::scheduler::{
    self, Board, CatchUp, Ended, JobSettings, Overlap, Run, RunChange, RunEvent, RunNow, RunRow, ScheduledJob,
    Scheduler, State, Store, Trigger, run_now,
};
use pointsd::time::time_text;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

/// Longer than any test, so that nothing is given up by itself: tests make holders look dead by changing the row.
const TAKEOVER: Duration = Duration::from_secs(600);

fn settings(rule: &str, zone: &str) -> JobSettings {
    JobSettings {
        schedule: Schedule::parse(rule, zone.parse().unwrap()).unwrap(),
        enabled: true,
        catch_up: CatchUp::Latest,
        overlap: Overlap::Skip,
        timeout: Duration::from_secs(60),
        retries: 2,
        retry_pause: Duration::from_secs(3600),
    }
}

/// A job that does this work, and the slots it was called for.
fn job<F>(
    settings: JobSettings,
    work: impl Fn(Run) -> F + Send + Sync + 'static,
) -> (ScheduledJob, Arc<Mutex<Vec<String>>>)
where
    F: Future<Output = anyhow::Result<Ended>> + Send + 'static,
{
    let called = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&called);
    let work = Arc::new(move |run: Run| -> scheduler::Work {
        heard.lock().unwrap().push(time_text(run.slot));
        Box::pin(work(run))
    });
    (ScheduledJob { name: "test", settings, work }, called)
}

fn quick(settings: JobSettings) -> (ScheduledJob, Arc<Mutex<Vec<String>>>) {
    job(settings, |_| async { Ok(Ended::Done(json!({}).into())) })
}

struct Stage {
    database: TestDatabase,
    ours: Database,
    client: Client,
}

impl Stage {
    async fn set() -> Stage {
        let database = TestDatabase::new().await;
        let (ours, client) = (database.database().await, database.client().await);
        Stage { database, ours, client }
    }

    fn store(&self) -> Store {
        Store::new(&self.ours, TAKEOVER)
    }

    fn daemon(&self, job: &ScheduledJob) -> Scheduler {
        Scheduler::new(self.store(), vec![job.clone()], CancellationToken::new())
    }

    async fn rows(&self) -> Vec<RunRow> {
        let mut rows = self.store().runs(None, None, None, 1_000_000).await.unwrap();
        rows.sort_by_key(|row| (row.slot, row.run));
        rows
    }

    /// `2026-03-02T02:00:00Z succeeded schedule`, by slot.
    async fn slots(&self) -> Vec<String> {
        let rows = self.rows().await;
        let line = |row: &RunRow| format!("{} {} {}", time_text(row.slot), row.state.as_str(), row.trigger.as_str());
        rows.iter().map(line).collect()
    }

    async fn sql(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    /// As if the holder of every run had been silent for long.
    async fn silence(&self) {
        self.sql("UPDATE pointsd.runs SET heartbeat = heartbeat - interval '1 hour' WHERE heartbeat IS NOT NULL").await;
    }
}

/// One round at this time, and all that it began, to its end.
async fn round(daemon: &Scheduler, now: DateTime<Utc>) {
    while daemon.tick(now).await.unwrap().more {}
    daemon.idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_slot_is_run_once_by_several_daemons_that_tick_often() {
    let stage = Stage::set().await;
    let (job, called) = quick(settings("*/10 * * * *", "UTC"));
    let daemons = [stage.daemon(&job), stage.daemon(&job), stage.daemon(&job)];
    let start = at("2026-03-01T00:00:00Z");
    for daemon in &daemons {
        daemon.register(start).await.unwrap();
    }
    for second in 1..=3_600 {
        // Not all of them at every second, and several at once.
        let now = start + TimeDelta::seconds(second);
        match second % 7 {
            0 => {
                let (one, two, three) = tokio::join!(daemons[0].tick(now), daemons[1].tick(now), daemons[2].tick(now));
                one.and(two).and(three).unwrap();
            }
            other if other < 3 => {
                daemons[usize::try_from(other).unwrap()].tick(now).await.unwrap();
            }
            _ => continue,
        }
        for daemon in &daemons {
            daemon.idle().await;
        }
    }
    let expected: Vec<String> = (1..=6).map(|nth| time_text(start + TimeDelta::minutes(10 * nth))).collect();
    assert_eq!(*called.lock().unwrap(), expected);
    let rows = stage.rows().await;
    assert!(rows.iter().all(|row| row.state == State::Succeeded && row.trigger == Trigger::Schedule), "{rows:#?}");
    assert_eq!(rows.len(), 6);
    assert!(rows.is_sorted_by(|one, next| one.fence < next.fence), "a fence only grows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outages_from_a_second_to_a_year_leave_one_row_for_each_slot() {
    for (rule, down, catch_up, run, missed) in [
        ("0 2 * * *", TimeDelta::seconds(1), CatchUp::None, 0, 0),
        ("0 2 * * *", TimeDelta::hours(36), CatchUp::None, 0, 1),
        ("0 2 * * *", TimeDelta::hours(60), CatchUp::Latest, 1, 1),
        ("0 2 * * *", TimeDelta::days(365), CatchUp::Latest, 1, 364),
        ("0 2 * * *", TimeDelta::days(365), CatchUp::All(5), 5, 360),
        ("0 */6 * * *", TimeDelta::days(10), CatchUp::All(100), 40, 0),
        ("*/5 * * * *", TimeDelta::days(30), CatchUp::None, 0, 8_640),
    ] {
        let stage = Stage::set().await;
        let mut settings = settings(rule, "UTC");
        settings.catch_up = catch_up;
        let (job, called) = quick(settings);
        let start = at("2026-03-01T12:00:00Z");
        stage.daemon(&job).register(start).await.unwrap();
        // Another process, later: what it needs to know is in the database.
        let daemon = stage.daemon(&job);
        daemon.register(start + down).await.unwrap();
        // A little after noon, so that nothing is on time.
        let up = start + down + TimeDelta::minutes(2);
        for _ in 0..run + 1 {
            round(&daemon, up).await;
        }
        let of = |rows: &[RunRow], state| rows.iter().filter(|row| row.state == state).count();
        let rows = stage.rows().await;
        let context = format!("{rule} {down} {catch_up:?}");
        assert_eq!((of(&rows, State::Succeeded), of(&rows, State::Missed)), (run, missed), "{context}");
        assert_eq!(rows.len(), run + missed, "{context}");
        assert_eq!(called.lock().unwrap().len(), run, "{context}");
        // The last slots are those that were run, and none is there twice.
        assert!(rows.is_sorted_by(|one, next| one.slot < next.slot), "{context}");
        assert!(rows[missed..].iter().all(|row| row.trigger == Trigger::CatchUp), "{context}");
        assert!(
            rows[..missed].iter().all(|row| row.why.as_ref().unwrap().contains("no daemon was there")),
            "{context}"
        );
        // And the next one is on time.
        let next = job.settings.schedule.next_after(up).unwrap();
        round(&daemon, next).await;
        assert_eq!(stage.rows().await.last().map(|row| (row.slot, row.trigger)), Some((next, Trigger::Schedule)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_costs_no_slot_and_repeats_none() {
    let stage = Stage::set().await;
    let (job, called) = quick(settings("0 * * * *", "UTC"));
    let daemon = stage.daemon(&job);
    daemon.register(at("2026-03-01T00:30:00Z")).await.unwrap();
    round(&daemon, at("2026-03-01T01:00:00Z")).await;
    // Ahead by four hours and a half: the latest is caught up with, the others seem to be missed.
    round(&daemon, at("2026-03-01T05:30:00Z")).await;
    assert_eq!(
        stage.slots().await,
        [
            "2026-03-01T01:00:00Z succeeded schedule",
            "2026-03-01T02:00:00Z missed schedule",
            "2026-03-01T03:00:00Z missed schedule",
            "2026-03-01T04:00:00Z missed schedule",
            "2026-03-01T05:00:00Z succeeded catch-up",
        ]
    );
    // And back: a slot wrongly recorded as missed counts again, and a slot that was run is not run again. The database's clock was ahead as
    // well.
    stage.sql("UPDATE pointsd.runs SET finished = clock_timestamp() + interval '4 hours' WHERE state = 'missed'").await;
    for now in ["2026-03-01T01:00:30Z", "2026-03-01T02:00:00Z", "2026-03-01T03:00:00Z", "2026-03-01T04:00:00Z"] {
        round(&daemon, at(now)).await;
    }
    round(&daemon, at("2026-03-01T05:00:00Z")).await;
    round(&daemon, at("2026-03-01T06:00:00Z")).await;
    assert_eq!(
        stage.slots().await,
        [
            "2026-03-01T01:00:00Z succeeded schedule",
            "2026-03-01T02:00:00Z succeeded schedule",
            "2026-03-01T03:00:00Z succeeded schedule",
            "2026-03-01T04:00:00Z succeeded schedule",
            "2026-03-01T05:00:00Z succeeded catch-up",
            "2026-03-01T06:00:00Z succeeded schedule",
        ]
    );
    assert_eq!(called.lock().unwrap().len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_fails_is_tried_again_until_its_tries_are_used_up() {
    let stage = Stage::set().await;
    let tries = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&tries);
    let (job, _) = job(settings("0 2 * * *", "UTC"), move |run| {
        let nth = count.fetch_add(1, Ordering::SeqCst) + 1;
        async move {
            assert_ne!(nth, 2, "the second attempt panics");
            anyhow::ensure!(run.slot != at("2026-03-02T02:00:00Z") || nth > 3, "no luck at attempt {nth}");
            Ok(Ended::Done(json!({ "nth": nth }).into()))
        }
    });
    let daemon = stage.daemon(&job);
    daemon.register(at("2026-03-02T00:00:00Z")).await.unwrap();
    let now = at("2026-03-02T02:00:00Z");
    round(&daemon, now).await;
    let waiting = &stage.rows().await[0];
    assert_eq!((waiting.state, waiting.attempt, waiting.heartbeat), (State::Running, 1, None));
    assert_eq!(waiting.error.as_deref(), Some("no luck at attempt 1"));
    let pause = waiting.resume_at.unwrap() - Utc::now();
    assert!(pause > TimeDelta::minutes(58) && pause < TimeDelta::minutes(121), "{pause}");
    // Not before its time.
    round(&daemon, now).await;
    assert_eq!(tries.load(Ordering::SeqCst), 1);
    stage.sql("UPDATE pointsd.runs SET resume_at = clock_timestamp()").await;
    round(&daemon, now).await;
    let waiting = &stage.rows().await[0];
    assert_eq!(waiting.attempt, 2);
    let error = waiting.error.as_deref().unwrap();
    assert!(error.starts_with("it panicked: ") && error.contains("the second attempt panics"), "{error}");
    let pause = waiting.resume_at.unwrap() - Utc::now();
    assert!(pause > TimeDelta::minutes(118) && pause < TimeDelta::minutes(241), "twice as long: {pause}");
    stage.sql("UPDATE pointsd.runs SET resume_at = clock_timestamp()").await;
    round(&daemon, now).await;
    let failed = &stage.rows().await[0];
    assert_eq!((failed.state, failed.attempt), (State::Failed, 3));
    assert_eq!(failed.error.as_deref(), Some("no luck at attempt 3"));
    round(&daemon, now).await;
    assert_eq!(tries.load(Ordering::SeqCst), 3, "it is over");
    // The scheduler goes on.
    round(&daemon, at("2026-03-03T02:00:00Z")).await;
    assert_eq!(stage.rows().await[1].counters, Some(json!({ "nth": 4 })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_observer_gets_the_events_of_each_run() {
    let stage = Stage::set().await;
    let (job, _) = job(settings("0 2 * * *", "UTC"), |run| async move {
        match run.slot {
            slot if slot == at("2026-03-02T02:00:00Z") => anyhow::bail!("no luck"),
            slot if slot == at("2026-03-03T02:00:00Z") => Ok(Ended::Done(json!({ "points": 7 }).into())),
            _ => std::future::pending().await,
        }
    });
    let told = Arc::new(Mutex::new(Vec::new()));
    let daemon = || {
        let told = Arc::clone(&told);
        stage.daemon(&job).observed(Arc::new(move |event| told.lock().unwrap().push(event)))
    };
    let heard = || -> Vec<RunEvent> { std::mem::take(&mut told.lock().unwrap()) };
    let of = |run, slot, change| RunEvent { job: "test", run, slot: at(slot), change };
    let first = daemon();
    first.register(at("2026-03-02T00:00:00Z")).await.unwrap();
    // It begins once, and has failed once its tries are used up.
    for attempt in 1..=3 {
        round(&first, at("2026-03-02T02:00:00Z")).await;
        stage.sql("UPDATE pointsd.runs SET resume_at = clock_timestamp() WHERE state = 'running'").await;
        let slot = "2026-03-02T02:00:00Z";
        let expected = match attempt {
            1 => vec![of(1, slot, RunChange::Began)],
            2 => vec![],
            _ => vec![of(1, slot, RunChange::Failed("no luck".to_owned()))],
        };
        assert_eq!(heard(), expected, "attempt {attempt}");
    }
    round(&first, at("2026-03-03T02:00:00Z")).await;
    let slot = "2026-03-03T02:00:00Z";
    assert_eq!(
        heard(),
        [of(2, slot, RunChange::Began), of(2, slot, RunChange::Succeeded(json!({ "points": 7 }).into()))]
    );
    // If the daemons of a run die, only the daemon that ends the run reports it.
    let slot = "2026-03-04T02:00:00Z";
    let mut dead = Vec::new();
    for _ in 1..=3 {
        let daemon = daemon();
        daemon.tick(at(slot)).await.unwrap();
        dead.push(daemon);
        // Another task sends the event of its begin.
        while told.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        stage.silence().await;
    }
    daemon().tick(at(slot)).await.unwrap();
    let heard = heard();
    assert!(heard.contains(&of(3, slot, RunChange::Began)), "{heard:?}");
    let failed: Vec<_> = heard.iter().filter(|event| matches!(event.change, RunChange::Failed(_))).collect();
    assert_eq!((heard.len(), failed.len(), failed[0].run), (2, 1, 3), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_takes_too_long_or_hangs_has_failed() {
    let stage = Stage::set().await;
    let mut quickly = settings("0 2 * * *", "UTC");
    (quickly.timeout, quickly.retries) = (Duration::from_millis(50), 0);
    let heard = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&heard);
    // On the first day it hears that it is to stop, on the second it does not.
    let (job, _) = job(quickly, move |run| {
        let count = Arc::clone(&count);
        async move {
            if run.slot == at("2026-03-02T02:00:00Z") {
                run.stop.cancelled().await;
                count.fetch_add(1, Ordering::SeqCst);
                return Ok(Ended::Stopped);
            }
            std::future::pending().await
        }
    });
    let daemon = stage.daemon(&job);
    daemon.register(at("2026-03-02T00:00:00Z")).await.unwrap();
    round(&daemon, at("2026-03-02T02:00:00Z")).await;
    round(&daemon, at("2026-03-03T02:00:00Z")).await;
    let rows = stage.rows().await;
    let errors: Vec<_> = rows.iter().map(|row| (row.state, row.error.as_deref().unwrap())).collect();
    assert_eq!(
        errors,
        [
            (State::Failed, "it took longer than its timeout of 0 s"),
            (State::Failed, "it took longer than its timeout of 0 s, and did not end when it was told to"),
        ]
    );
    assert_eq!(heard.load(Ordering::SeqCst), 1);
    // It took no bucket, so it ended without one: a node that holds some may be away.
    let parts = stage.client.query("SELECT FROM pointsd.run_parts", &[]).await.unwrap();
    assert!(parts.is_empty());
}

/// Where the buckets cannot be taken from a run, its end is told all the same, and no statement goes on waiting for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_fails_while_its_buckets_are_locked() {
    let stage = Stage::set().await;
    let mut once = settings("0 2 * * *", "UTC");
    once.retries = 0;
    let gate = Arc::new(Gate { shut_at: AtomicU32::new(1), ..Gate::default() });
    let waits = Arc::clone(&gate);
    let (job, _) = job(once, move |run| {
        let gate = Arc::clone(&waits);
        async move {
            run.take_parts().await?;
            gate.pass(1).await;
            anyhow::bail!("a node is away")
        }
    });
    let store = Store::new(&stage.ours, Duration::from_secs(3));
    let daemon = Scheduler::new(store, vec![job], CancellationToken::new());
    daemon.register(at("2026-03-02T00:00:00Z")).await.unwrap();
    daemon.tick(at("2026-03-02T02:00:00Z")).await.unwrap();
    gate.arrived.notified().await;
    stage.sql("BEGIN; SELECT FROM pointsd.run_parts FOR UPDATE").await;
    gate.open.notify_one();
    tokio::time::timeout(Duration::from_secs(60), daemon.idle()).await.expect("it ends");
    let row = stage.rows().await.remove(0);
    assert_eq!((row.state, row.error.as_deref()), (State::Failed, Some("a node is away")));
    stage.sql("COMMIT").await;
}

/// A job that counts, each time in a transaction of its own, until it is stopped. It waits at the number that `gate` names.
fn counting(settings: JobSettings, database: &Database, gate: &Arc<Gate>) -> ScheduledJob {
    let (database, gate) = (database.clone(), Arc::clone(gate));
    let (job, _) = job(settings, move |run| {
        let (database, gate) = (database.clone(), Arc::clone(&gate));
        async move {
            let mut client = database.connection().await?;
            let guard = run.guard(&client).await?;
            let mut done = run.counters.as_ref().map_or(0, |counters| counters["done"].as_u64().unwrap());
            while done < 5 {
                if run.stop.is_cancelled() {
                    return Ok(Ended::Stopped);
                }
                let transaction = client.transaction().await?;
                transaction.execute("INSERT INTO public.effects SELECT $1", &[&run.run]).await?;
                done += 1;
                gate.pass(done).await;
                guard.save_progress(transaction.client(), (done, 5), &json!({ "done": done })).await?;
                transaction.commit().await?;
            }
            Ok(Ended::Done(json!({ "done": done }).into()))
        }
    });
    job
}

/// The number at which the counting job waits until the test lets it continue.
#[derive(Default)]
struct Gate {
    shut_at: AtomicU32,
    arrived: Notify,
    open: Notify,
}

impl Gate {
    async fn pass(&self, done: u64) {
        if u64::from(self.shut_at.load(Ordering::SeqCst)) == done {
            self.shut_at.store(0, Ordering::SeqCst);
            self.arrived.notify_one();
            self.open.notified().await;
        }
    }
}

async fn effects(client: &Client) -> i64 {
    client.query_one("SELECT count(*) FROM public.effects", &[]).await.unwrap().get(0)
}

/// A job that counts as [`counting`] does, in a bucket.
fn counting_in_a_bucket(settings: JobSettings, database: &Database, gate: &Arc<Gate>) -> ScheduledJob {
    let (database, gate) = (database.clone(), Arc::clone(gate));
    let (job, _) = job(settings, move |run| {
        let (database, gate) = (database.clone(), Arc::clone(&gate));
        async move {
            let mut client = database.connection().await?;
            let mut kept = run.take_parts().await?;
            let mut done = kept.remove(&0).flatten().map_or(0, |counters| counters["done"].as_u64().unwrap());
            let guard = PrepareWrite::<Part<Value>>::prepare(&run, &client).await?;
            while done < 5 {
                let transaction = client.transaction().await?;
                transaction.execute("INSERT INTO public.effects SELECT $1", &[&run.run]).await?;
                done += 1;
                gate.pass(done).await;
                let (progress, counters) = (Progress { done, total: 5 }, json!({ "done": done }));
                guard.write(transaction.client(), &Part { bucket: 0, progress, counters }).await?;
                transaction.commit().await?;
            }
            Ok(Ended::Done(json!({ "done": done }).into()))
        }
    });
    job
}

/// The counters of a bucket are written beside it. A later holder goes on from them, and a run that is cancelled has them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_run_does_in_a_bucket_is_counted_and_fenced_there() {
    let stage = Stage::set().await;
    stage.sql("CREATE TABLE public.effects (run bigint)").await;
    let gate = Arc::new(Gate::default());
    let job = counting_in_a_bucket(settings("0 2 * * *", "UTC"), &stage.ours, &gate);
    let (frozen, successor) = (stage.daemon(&job), stage.daemon(&job));
    frozen.register(at("2026-03-02T00:00:00Z")).await.unwrap();
    gate.shut_at.store(3, Ordering::SeqCst);
    frozen.tick(at("2026-03-02T02:00:00Z")).await.unwrap();
    gate.arrived.notified().await;
    stage.silence().await;
    round(&successor, at("2026-03-02T02:00:00Z")).await;
    let after = stage.rows().await.remove(0);
    assert_eq!((after.state, after.counters), (State::Succeeded, Some(json!({ "done": 5 }))));
    assert_eq!(effects(&stage.client).await, 5);
    gate.open.notify_one();
    frozen.idle().await;
    assert_eq!(effects(&stage.client).await, 5, "what it wrote under the old fence is gone");

    gate.shut_at.store(3, Ordering::SeqCst);
    frozen.tick(at("2026-03-03T02:00:00Z")).await.unwrap();
    gate.arrived.notified().await;
    let run = stage.rows().await[1].run;
    assert!(stage.store().cancel(run, "somebody").await.unwrap());
    assert!(!stage.store().cancel(run, "somebody").await.unwrap());
    let cancelled = stage.rows().await.remove(1);
    assert_eq!((cancelled.state, cancelled.counters), (State::Cancelled, Some(json!({ "done": 2 }))));
    gate.open.notify_one();
    frozen.idle().await;
    assert_eq!(effects(&stage.client).await, 7, "what it wrote after it was cancelled is gone");

    // Where no bucket expired anything, no source is counted.
    let sum = r#"SELECT pointsd.add_counters('{"of": {}, "n": 1}', '{"of": {}, "n": 2}')"#;
    let sum: Value = stage.client.query_one(sum, &[]).await.unwrap().get(0);
    assert_eq!(sum, json!({ "of": {}, "n": 3 }));

    // One that has lost its run before it takes the buckets takes none.
    stage.sql("UPDATE pointsd.runs SET state = 'running', finished = NULL, why = NULL WHERE run = 2").await;
    let rows = stage.client.query("SELECT * FROM pointsd.take_parts(2, 1)", &[]).await.unwrap();
    assert!(rows.is_empty(), "the fence is stale");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_daemon_is_taken_over_and_writes_nothing_more() {
    let stage = Stage::set().await;
    stage.sql("CREATE TABLE public.effects (run bigint)").await;
    let gate = Arc::new(Gate::default());
    gate.shut_at.store(3, Ordering::SeqCst);
    let job = counting(settings("0 2 * * *", "UTC"), &stage.ours, &gate);
    let (frozen, successor) = (stage.daemon(&job), stage.daemon(&job));
    frozen.register(at("2026-03-02T00:00:00Z")).await.unwrap();
    let now = at("2026-03-02T02:00:00Z");
    frozen.tick(now).await.unwrap();
    gate.arrived.notified().await;
    let before = stage.rows().await.remove(0);
    assert_eq!((before.progress, effects(&stage.client).await), (Some(json!({ "done": 2, "total": 5 })), 2));

    // As long as it writes heartbeats its run is not taken over.
    successor.tick(now).await.unwrap();
    assert_eq!(successor.under_way(), 0);
    stage.silence().await;
    round(&successor, now).await;
    let after = stage.rows().await.remove(0);
    assert_eq!((after.state, after.attempt, after.run), (State::Succeeded, 2, before.run));
    assert!(after.fence > before.fence);
    assert_eq!((after.counters, effects(&stage.client).await), (Some(json!({ "done": 5 })), 5));

    // It comes back to life in the middle of its chunk.
    gate.open.notify_one();
    frozen.idle().await;
    assert_eq!(effects(&stage.client).await, 5, "what it wrote under the old fence is gone");
    assert_eq!(stage.rows().await.remove(0).fence, after.fence);
    assert_eq!(stage.slots().await, ["2026-03-02T02:00:00Z succeeded schedule"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_run_writes_nothing_more() {
    let stage = Stage::set().await;
    stage.sql("CREATE TABLE public.effects (run bigint)").await;
    let gate = Arc::new(Gate::default());
    gate.shut_at.store(3, Ordering::SeqCst);
    let daemon = stage.daemon(&counting(settings("0 2 * * *", "UTC"), &stage.ours, &gate));
    daemon.register(at("2026-03-02T00:00:00Z")).await.unwrap();
    daemon.tick(at("2026-03-02T02:00:00Z")).await.unwrap();
    gate.arrived.notified().await;
    let run = stage.rows().await[0].run;
    assert!(stage.store().cancel(run, "ann").await.unwrap());
    assert!(!stage.store().cancel(run, "bob").await.unwrap(), "it is over");
    gate.open.notify_one();
    daemon.idle().await;
    let row = stage.rows().await.remove(0);
    assert_eq!((row.state, row.why.as_deref()), (State::Cancelled, Some("cancelled by ann")));
    assert_eq!((row.counters, effects(&stage.client).await), (Some(json!({ "done": 2 })), 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_stops_releases_its_run() {
    let stage = Stage::set().await;
    stage.sql("CREATE TABLE public.effects (run bigint)").await;
    let gate = Arc::new(Gate::default());
    gate.shut_at.store(3, Ordering::SeqCst);
    let job = counting(settings("0 2 * * *", "UTC"), &stage.ours, &gate);
    let stop = CancellationToken::new();
    let stopped = Scheduler::new(stage.store(), vec![job.clone()], stop.clone());
    stopped.register(at("2026-03-02T00:00:00Z")).await.unwrap();
    let now = at("2026-03-02T02:00:00Z");
    stopped.tick(now).await.unwrap();
    gate.arrived.notified().await;
    stop.cancel();
    gate.open.notify_one();
    stopped.idle().await;
    let row = stage.rows().await.remove(0);
    assert_eq!((row.state, row.heartbeat, row.resume_at), (State::Running, None, None));
    assert_eq!(row.counters, Some(json!({ "done": 3 })), "the chunk in hand was finished");
    // The next one needs no waiting, and it is no further attempt.
    round(&stage.daemon(&job), now).await;
    let row = stage.rows().await.remove(0);
    assert_eq!((row.state, row.attempt), (State::Succeeded, 1));
    assert_eq!(effects(&stage.client).await, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_kills_its_daemons_fails_in_the_end() {
    let stage = Stage::set().await;
    let (job, called) = job(settings("0 2 * * *", "UTC"), |_| std::future::pending());
    let now = at("2026-03-02T02:00:00Z");
    let mut daemons = Vec::new();
    for attempt in 1..=3 {
        let daemon = stage.daemon(&job);
        daemon.register(at("2026-03-02T00:00:00Z")).await.unwrap();
        daemon.tick(now).await.unwrap();
        assert_eq!(daemon.under_way(), 1, "attempt {attempt}");
        // Kept alive: it does not know yet that its run is another one's.
        daemons.push(daemon);
        stage.silence().await;
    }
    let last = stage.daemon(&job);
    last.tick(now).await.unwrap();
    assert_eq!(last.under_way(), 0);
    let row = stage.rows().await.remove(0);
    assert_eq!(row.state, State::Failed);
    let error = row.error.unwrap();
    let process = format!("process {} on ", std::process::id());
    assert!(error.starts_with(&process) && error.ends_with("that was attempt 3 of 3"), "{error}");
    assert_eq!(called.lock().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_that_are_disproved_fail_the_run_at_once() {
    let stage = Stage::set().await;
    let (job, called) = job(settings("0 2 * * *", "UTC"), |_| async {
        Ok(Ended::Disproved { counters: json!({ "points": 7 }).into(), reason: "the entries say 6".to_owned() })
    });
    let daemon = stage.daemon(&job);
    daemon.register(at("2026-03-02T00:00:00Z")).await.unwrap();
    round(&daemon, at("2026-03-02T02:00:00Z")).await;
    round(&daemon, at("2026-03-02T02:00:00Z")).await;
    let row = stage.rows().await.remove(0);
    assert_eq!((row.state, row.error.as_deref()), (State::Failed, Some("the entries say 6")));
    assert_eq!((row.counters, called.lock().unwrap().len()), (Some(json!({ "points": 7 })), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_is_for_all_daemons_and_its_slots_are_skipped() {
    let stage = Stage::set().await;
    let (job, called) = quick(settings("0 * * * *", "UTC"));
    let (one, two) = (stage.daemon(&job), stage.daemon(&job));
    one.register(at("2026-03-02T00:30:00Z")).await.unwrap();
    assert!(stage.store().pause("test", Some("ann")).await.unwrap());
    for daemon in [&one, &two] {
        let tick = daemon.tick(at("2026-03-02T02:00:00Z")).await.unwrap();
        assert!(tick.next.is_none(), "nothing is to be expected of a paused job");
    }
    assert!(stage.store().pause("test", None).await.unwrap());
    round(&two, at("2026-03-02T03:00:00Z")).await;
    assert_eq!(
        stage.slots().await,
        [
            "2026-03-02T01:00:00Z skipped schedule",
            "2026-03-02T02:00:00Z skipped schedule",
            "2026-03-02T03:00:00Z succeeded schedule",
        ]
    );
    assert_eq!(called.lock().unwrap().len(), 1);
    assert!(!stage.store().pause("other", Some("ann")).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_stops_a_claim_that_is_under_way() {
    let stage = Stage::set().await;
    let (job, called) = quick(settings("0 * * * *", "UTC"));
    let daemon = Arc::new(stage.daemon(&job));
    daemon.register(at("2026-03-02T00:30:00Z")).await.unwrap();
    let now = at("2026-03-02T01:00:00Z");
    // The daemon reads the job before the pause is committed, and claims the slot afterwards.
    let pausing = stage.database.client().await;
    let pause = "BEGIN; UPDATE pointsd.jobs SET paused_at = now(), paused_by = 'ann'";
    pausing.batch_execute(pause).await.unwrap();
    let ticking = Arc::clone(&daemon);
    let tick = tokio::spawn(async move { ticking.tick(now).await });
    let waits = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while !tick.is_finished() && stage.client.query(waits, &[]).await.unwrap().is_empty() {}
    pausing.batch_execute("COMMIT").await.unwrap();
    tick.await.unwrap().unwrap();
    round(&daemon, now).await;
    assert_eq!(stage.slots().await, ["2026-03-02T01:00:00Z skipped schedule"]);
    assert!(called.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_come_due_during_a_run_are_skipped_or_wait() {
    for (overlap, expected) in [
        (Overlap::Skip, ["02:00:00Z succeeded", "03:00:00Z skipped", "04:00:00Z skipped", "05:00:00Z succeeded"]),
        (Overlap::Queue, ["02:00:00Z succeeded", "03:00:00Z succeeded", "04:00:00Z succeeded", "05:00:00Z succeeded"]),
    ] {
        let stage = Stage::set().await;
        let (first, open) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (arrived, gate) = (Arc::clone(&first), Arc::clone(&open));
        let mut settings = settings("0 * * * *", "UTC");
        settings.overlap = overlap;
        let (job, _) = job(settings, move |run| {
            let (arrived, gate) = (Arc::clone(&arrived), Arc::clone(&gate));
            async move {
                if run.slot == at("2026-03-02T02:00:00Z") {
                    arrived.notify_one();
                    gate.notified().await;
                }
                Ok(Ended::Done(Value::Null.into()))
            }
        });
        let daemon = stage.daemon(&job);
        daemon.register(at("2026-03-02T01:30:00Z")).await.unwrap();
        daemon.tick(at("2026-03-02T02:00:00Z")).await.unwrap();
        first.notified().await;
        daemon.tick(at("2026-03-02T03:00:00Z")).await.unwrap();
        daemon.tick(at("2026-03-02T04:00:00Z")).await.unwrap();
        open.notify_one();
        daemon.idle().await;
        // A slot that waited is not late, however long ago it came due.
        round(&daemon, at("2026-03-02T04:30:00Z")).await;
        round(&daemon, at("2026-03-02T04:40:00Z")).await;
        round(&daemon, at("2026-03-02T05:00:00Z")).await;
        let expected = expected.map(|slot| format!("2026-03-02T{slot} schedule"));
        assert_eq!(stage.slots().await, expected, "{overlap:?}");
        if overlap == Overlap::Skip {
            let why = stage.rows().await[1].why.clone().unwrap();
            assert!(why.ends_with("for the slot 2026-03-02T02:00:00Z was still under way"), "{why}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_by_hand_stands_beside_the_slots_and_one_is_under_way_at_most() {
    let stage = Stage::set().await;
    let (first, open) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (arrived, gate) = (Arc::clone(&first), Arc::clone(&open));
    let (job, _) = job(settings("0 2 * * *", "UTC"), move |run| {
        let (arrived, gate) = (Arc::clone(&arrived), Arc::clone(&gate));
        async move {
            if run.slot == at("2026-03-02T02:00:00Z") {
                arrived.notify_one();
                gate.notified().await;
            }
            anyhow::ensure!(run.slot != at("2026-03-04T00:00:00Z"), "not today");
            Ok(Ended::Done(Value::Null.into()))
        }
    });
    let daemon = stage.daemon(&job);
    daemon.register(at("2026-03-02T00:00:00Z")).await.unwrap();
    daemon.tick(at("2026-03-02T02:00:00Z")).await.unwrap();
    first.notified().await;
    let (board, stop) = (Arc::default(), CancellationToken::new());
    let ask = async |slot: &str| {
        let board: &Arc<Board> = &board;
        run_now(&stage.store(), &job, at(slot), at("2026-03-02T02:10:00Z"), board, &stop).await.unwrap()
    };
    match ask("2026-03-01T00:00:00Z").await {
        RunNow::Busy(row) => assert_eq!((row.slot, row.trigger), (at("2026-03-02T02:00:00Z"), Trigger::Schedule)),
        RunNow::Ran(row) => panic!("ran beside another one: {row:?}"),
    }
    open.notify_one();
    daemon.idle().await;
    for (slot, state) in [
        ("2026-03-02T02:10:00Z", State::Succeeded),
        ("2026-03-02T02:10:00Z", State::Succeeded),
        ("2026-03-04T00:00:00Z", State::Failed),
    ] {
        match ask(slot).await {
            RunNow::Ran(row) => assert_eq!((row.state, row.attempt, row.trigger), (state, 1, Trigger::Manual)),
            RunNow::Busy(row) => panic!("nothing else runs: {row:?}"),
        }
    }
    // Runs by hand settle no slot.
    round(&daemon, at("2026-03-03T02:00:00Z")).await;
    let slots: Vec<_> = stage.slots().await.into_iter().filter(|line| line.ends_with("schedule")).collect();
    assert_eq!(slots, ["2026-03-02T02:00:00Z succeeded schedule", "2026-03-03T02:00:00Z succeeded schedule"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_by_hand_whose_process_died_makes_room_for_the_next() {
    let stage = Stage::set().await;
    let (job, _) = quick(settings("0 2 * * *", "UTC"));
    stage
        .sql(
            "INSERT INTO pointsd.runs (job, slot, trigger, state, attempt, fence, host, pid, started, heartbeat)
             VALUES ('test', '2026-03-01', 'manual', 'running', 1, 1, 'there', 77, now(), now() - interval '1 hour')",
        )
        .await;
    let now = at("2026-03-02T02:10:00Z");
    let asked = run_now(&stage.store(), &job, now, now, &Arc::default(), &CancellationToken::new()).await.unwrap();
    assert!(matches!(asked, RunNow::Ran(row) if row.state == State::Succeeded));
    let dead = &stage.rows().await[0];
    assert_eq!((dead.state, dead.error.as_deref()), (State::Failed, Some("process 77 on there died during the run")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_by_hand_whose_row_is_deleted_says_so() {
    let stage = Stage::set().await;
    let database = stage.ours.clone();
    let (job, _) = job(settings("0 2 * * *", "UTC"), move |run| {
        let database = database.clone();
        async move {
            let client = database.connection().await?;
            client.execute("DELETE FROM pointsd.runs WHERE run = $1", &[&run.run]).await?;
            Ok(Ended::Done(Value::Null.into()))
        }
    });
    let now = at("2026-03-02T02:10:00Z");
    let asked = run_now(&stage.store(), &job, now, now, &Arc::default(), &CancellationToken::new()).await;
    let error = asked.unwrap_err();
    assert!(error.to_string().starts_with("run 1 was deleted from pointsd.runs while it ran: "), "{error}");
    assert!(!error.is_transient());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_that_changes_or_is_enabled_counts_from_then_on() {
    let stage = Stage::set().await;
    let (job, called) = quick(settings("0 2 * * *", "UTC"));
    let daemon = stage.daemon(&job);
    daemon.register(at("2026-03-01T12:00:00Z")).await.unwrap();
    round(&daemon, at("2026-03-02T02:00:00Z")).await;
    // Hourly from noon on: the hours since two o'clock are no slots.
    let hourly = ScheduledJob { settings: settings("0 * * * *", "UTC"), ..job.clone() };
    daemon.replace(vec![hourly.clone()]);
    daemon.register(at("2026-03-02T12:30:00Z")).await.unwrap();
    round(&daemon, at("2026-03-02T12:30:00Z")).await;
    round(&daemon, at("2026-03-02T13:00:00Z")).await;
    let mut disabled = hourly.clone();
    disabled.settings.enabled = false;
    daemon.replace(vec![disabled]);
    daemon.register(at("2026-03-02T13:30:00Z")).await.unwrap();
    round(&daemon, at("2026-03-02T15:00:00Z")).await;
    daemon.replace(vec![hourly]);
    daemon.register(at("2026-03-02T15:30:00Z")).await.unwrap();
    // Registering an unchanged job again changes nothing.
    daemon.register(at("2026-03-02T16:10:00Z")).await.unwrap();
    round(&daemon, at("2026-03-02T16:00:10Z")).await;
    assert_eq!(*called.lock().unwrap(), ["2026-03-02T02:00:00Z", "2026-03-02T13:00:00Z", "2026-03-02T16:00:00Z"]);
    assert_eq!(stage.rows().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rows_of_the_jobs_are_held_by_the_database_too() {
    let stage = Stage::set().await;
    let insert = |columns: &str, values: &str| {
        format!(
            "INSERT INTO pointsd.runs (job, slot, attempt, fence, {columns}) VALUES ('a', '2026-03-01', 1, 1, {values})"
        )
    };
    let first = insert("trigger, state, finished", "'schedule', 'succeeded', now()");
    stage.sql(&first).await;
    for (sql, constraint) in [
        (first, "runs_one_per_slot"),
        (insert("trigger, state, finished", "'catch-up', 'succeeded', now()"), "runs_one_per_slot"),
        (insert("trigger, state", "'manual', 'succeeded'"), "runs_finished_unless_running"),
        (insert("trigger, state, finished", "'manual', 'failed', now()"), "runs_failed_for_a_reason"),
        (insert("trigger, state, finished", "'manual', 'missed', now()"), "runs_not_run_for_a_reason"),
        (insert("trigger, state", "'other', 'running'"), "runs_trigger_known"),
        (insert("trigger, state, finished", "'manual', 'other', now()"), "runs_state_known"),
    ] {
        let error = stage.client.batch_execute(&sql).await.unwrap_err();
        assert_eq!(error.as_db_error().unwrap().constraint(), Some(constraint), "{sql}");
    }
    stage.sql(&insert("trigger, state", "'manual', 'running'")).await;
    let error = stage.client.batch_execute(&insert("trigger, state", "'manual', 'running'")).await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().constraint(), Some("runs_one_running"));
    drop(stage.database);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_froze_does_not_act_on_old_rows() {
    let stage = Stage::set().await;
    let client = &stage.client;
    stage
        .sql(
            "INSERT INTO pointsd.jobs (job, rule, since) VALUES ('test', '* * * * *', '2026-03-01');
             INSERT INTO pointsd.runs (job, slot, trigger, state, attempt, fence, started, heartbeat)
             VALUES ('test', '2026-03-01', 'schedule', 'running', 1, 1, now(), now() - interval '1 hour')",
        )
        .await;
    let seen: DateTime<Utc> = client.query_one("SELECT heartbeat FROM pointsd.runs", &[]).await.unwrap().get(0);
    let take = include_str!("../sql/runs/run_take.sql");
    let heartbeat = include_str!("../sql/runs/run_heartbeat.sql");
    // Its holder was silent for long, and is alive.
    assert_eq!(client.execute(heartbeat, &[&1_i64, &1_i64, &None::<serde_json::Value>]).await.unwrap(), 1);
    assert_eq!(client.execute(take, &[&1_i64, &1_i64, &Some(seen), &"there", &7]).await.unwrap(), 0);
    // It lets go of its run; a sign of life that was under way arrives behind that.
    let release = include_str!("../sql/runs/run_release.sql");
    client.execute(release, &[&1_i64, &1_i64, &None::<f64>, &None::<&str>]).await.unwrap();
    assert_eq!(client.execute(heartbeat, &[&1_i64, &1_i64, &None::<serde_json::Value>]).await.unwrap(), 0);
    let nothing = None::<DateTime<Utc>>;
    let row = client.query_one(take, &[&1_i64, &1_i64, &nothing, &"there", &7]).await.unwrap();
    assert_eq!(row.get::<_, i32>("attempt"), 1, "handed over in good order it is no further attempt");

    // A row that another daemon wrote after this one had asked for the time is not in the future.
    let queue = include_str!("../sql/runs/job_queue.sql");
    let (old, now) = (at("2026-03-01T00:01:00Z"), at("2026-03-01T00:09:00Z"));
    for to in [now, old] {
        client.execute(queue, &[&"test", &to]).await.unwrap();
    }
    let queued: DateTime<Utc> = client.query_one("SELECT queued_to FROM pointsd.jobs", &[]).await.unwrap().get(0);
    assert_eq!(queued, now);
    stage
        .sql(
            "INSERT INTO pointsd.runs (job, slot, trigger, state, attempt, fence, finished, why)
             VALUES ('test', '2026-03-01 00:05', 'schedule', 'skipped', 0, 0, now(), 'paused')",
        )
        .await;
    let unrecord = include_str!("../sql/runs/run_unrecord.sql");
    let jobs = ["test"];
    assert_eq!(client.execute(unrecord, &[&&jobs[..], &old, &60.0]).await.unwrap(), 0);
    stage.sql("UPDATE pointsd.runs SET finished = clock_timestamp() + interval '1 hour' WHERE state = 'skipped'").await;
    assert_eq!(client.execute(unrecord, &[&&jobs[..], &old, &60.0]).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_living_holder_keeps_its_run_and_stops_when_it_loses_it() {
    let stage = Stage::set().await;
    let (first, heard) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (arrived, lost) = (Arc::clone(&first), Arc::clone(&heard));
    let (job, _) = job(settings("0 2 * * *", "UTC"), move |run| {
        let (arrived, lost) = (Arc::clone(&arrived), Arc::clone(&lost));
        async move {
            arrived.notify_one();
            run.stop.cancelled().await;
            lost.notify_one();
            Ok(Ended::Stopped)
        }
    });
    // A heartbeat each one and a half seconds; taken over after six, which a loaded machine keeps to.
    let store = || Store::new(&stage.ours, Duration::from_secs(9));
    let daemons = [(); 2].map(|()| Scheduler::new(store(), vec![job.clone()], CancellationToken::new()));
    let now = at("2026-03-02T02:00:00Z");
    daemons[0].register(at("2026-03-02T00:00:00Z")).await.unwrap();
    daemons[0].tick(now).await.unwrap();
    first.notified().await;
    let began = stage.rows().await[0].heartbeat.unwrap();
    // For longer than it takes to be given up.
    loop {
        daemons[1].tick(now).await.unwrap();
        assert_eq!(daemons[1].under_way(), 0, "it lives");
        let row = stage.rows().await.remove(0);
        if row.heartbeat.unwrap() - began > TimeDelta::milliseconds(7_200) {
            break;
        }
    }
    // Another daemon has it now: the next heartbeat fails.
    stage.sql("UPDATE pointsd.runs SET fence = nextval('pointsd.run_fences')").await;
    heard.notified().await;
    daemons[0].idle().await;
    let row = stage.rows().await.remove(0);
    assert_eq!((row.state, row.attempt), (State::Running, 1), "it is the other one's to end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_ends_a_run_by_hand_whose_process_died() {
    let stage = Stage::set().await;
    let (job, called) = quick(settings("0 2 * * *", "UTC"));
    let daemon = stage.daemon(&job);
    daemon.register(at("2026-03-02T00:00:00Z")).await.unwrap();
    stage
        .sql(
            "INSERT INTO pointsd.runs (job, slot, trigger, state, attempt, fence, host, pid, started, heartbeat)
             VALUES ('test', '2026-03-01', 'manual', 'running', 1, 1, 'there', 77, now(), now() - interval '1 hour')",
        )
        .await;
    round(&daemon, at("2026-03-02T01:00:00Z")).await;
    let row = stage.rows().await.remove(0);
    assert_eq!((row.state, row.attempt), (State::Failed, 2));
    assert!(
        row.error.unwrap().starts_with("process 77 on there died or froze during the run; its last heartbeat was at")
    );
    assert!(called.lock().unwrap().is_empty(), "what killed one process does not kill the next");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manual_run_does_not_change_since_of_the_job() {
    let stage = Stage::set().await;
    let (job, _) = quick(settings("0 2 * * *", "UTC"));
    let daemon = stage.daemon(&job);
    daemon.register(at("2026-03-01T12:00:00Z")).await.unwrap();
    // Called with another configuration than the daemon's.
    let other = ScheduledJob { settings: settings("0 5 * * *", "UTC"), ..job.clone() };
    let now = at("2026-03-02T02:00:30Z");
    run_now(&stage.store(), &other, now, now, &Arc::default(), &CancellationToken::new()).await.unwrap();
    round(&daemon, at("2026-03-02T02:00:40Z")).await;
    assert!(stage.slots().await.contains(&"2026-03-02T02:00:00Z succeeded schedule".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_cannot_be_looked_after_does_not_keep_the_others_from_their_slots() {
    let stage = Stage::set().await;
    let (first, _) = quick(settings("0 2 * * *", "UTC"));
    let (second, called) = quick(settings("0 2 * * *", "UTC"));
    let (first, second) = (ScheduledJob { name: "first", ..first }, ScheduledJob { name: "second", ..second });
    let daemon = Scheduler::new(stage.store(), vec![first, second], CancellationToken::new());
    daemon.register(at("2026-03-02T00:00:00Z")).await.unwrap();
    stage.sql("ALTER TABLE pointsd.runs ADD CONSTRAINT not_first CHECK (job <> 'first')").await;
    assert!(!daemon.tick(at("2026-03-02T02:00:00Z")).await.unwrap_err().is_transient());
    daemon.idle().await;
    assert_eq!(*called.lock().unwrap(), ["2026-03-02T02:00:00Z"]);
}
