//! Calls that end at any moment, and other calls beside them.

use super::*;

/// A way in which a call ends early.
#[derive(Clone, Copy, Debug)]
enum End {
    Signal(Signal),
    /// The sessions of this call with one of the databases are cut off.
    LostThere,
    LostHere,
}

const ENDS: [End; 5] = [
    End::Signal(Signal::SIGKILL),
    End::LostThere,
    End::Signal(Signal::SIGTERM),
    End::LostHere,
    End::Signal(Signal::SIGKILL),
];

impl Move {
    /// Ends a call in one of the ways. It says why it ended, and blames no mapping.
    fn end(&self, mut running: Running, end: End) {
        match end {
            _ if running.has_ended() => {}
            End::Signal(signal) => running.signal(signal),
            End::LostThere => self.cut_off(&self.old),
            End::LostHere => self.cut_off(&self.ledger),
        }
        let done = running.finish();
        assert!(!done.stderr.contains("--mapping"), "{end:?}: {}", done.stderr);
        assert!(!done.stderr.contains("panicked"), "{end:?}: {}", done.stderr);
    }

    /// Whether a session of pointsd runs this with the database.
    fn runs(&self, database: &TestDatabase, words: &str) -> bool {
        let sql = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND state = 'active' AND query LIKE '%' || $1 || '%' AND application_name <> 'test'";
        wait(async { database.client().await.query_one(sql, &[&words]).await.unwrap().get::<_, i64>(0) > 0 })
    }
}

#[test]
fn a_plan_that_is_interrupted_anywhere_is_made_again_as_if_it_had_not_been() {
    let moving = Move::of_the_replaced_service(400, rng().u64(..1_000_000));
    let expected = moving.plan()["totals"].clone();
    let places = [
        "TRUNCATE pointsd.adopted_accounts",
        "COPY pointsd.adopted_accounts",
        "COPY pointsd.adopted_transactions",
        "What each account has there",
        "What each account is to open with",
    ];
    let plan = ["adopt", "plan", "--from", &moving.old.url(), "--output", &moving.path(), "--json"];
    for (nth, end) in ENDS.into_iter().cycle().take(10).enumerate() {
        let words = places[(nth + nth / ENDS.len()) % places.len()];
        let mut running = Running::start(on(&moving.ledger.url(), &plan));
        eventually(words, || (running.has_ended() || moving.runs(&moving.ledger, words)).then_some(()));
        moving.end(running, end);
        // It left the whole plan behind, or none.
        let decided = call(&moving.ledger.url(), &["adopt", "decide", &moving.path(), "--json"]);
        if decided.status.success() {
            assert_eq!(decided.json()["totals"], expected, "{words}");
        }
    }
    // The session of a killed call ends within seconds, and its lock with it.
    let again = eventually("the lock is free", || {
        let done = call(&moving.ledger.url(), &plan);
        (!done.stderr.contains("another `pointsd adopt` is at work")).then_some(done)
    });
    assert_eq!(again.expect(0).json()["totals"], expected);
    moving.apply();
    assert_eq!(moving.balances(), moving.balances_there());
}

#[test]
fn what_is_followed_is_posted_once_however_often_the_call_ends() {
    let moving = Move::with(TABLES);
    moving.run_there("INSERT INTO public.user_points (user_id, balance) SELECT md5(n::text)::uuid, 1000 FROM generate_series(1, 20) AS n");
    moving.plan();
    moving.apply();
    // One session commits late, or never, what it began before the other one.
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let writer = {
        let config = moving.old.config();
        std::thread::spawn(move || {
            wait(async {
                let (late, soon) = (crate::support::connect(&config).await, crate::support::connect(&config).await);
                let mut written = 0;
                while stopped.try_recv().is_err() {
                    let mut insert = || {
                        written += 1;
                        let (kind, source) =
                            if written % 3 == 0 { ("recharge", "wxpay") } else { ("consume", "script") };
                        format!(
                            "INSERT INTO public.point_transactions (user_id, type, amount, balance_before, balance_after, source_type, source_id)
                             VALUES (md5(({written} % 20 + 1)::text)::uuid, '{kind}', {written} % 7 + 1, 0, 0, '{source}', '{written}')"
                        )
                    };
                    late.batch_execute(&format!("BEGIN; {}", insert())).await.unwrap();
                    for _ in 0..5 {
                        soon.batch_execute(&insert()).await.unwrap();
                    }
                    let end = if written % 4 == 0 { "ROLLBACK" } else { "COMMIT" };
                    late.batch_execute(end).await.unwrap();
                }
                written
            })
        })
    };
    let posted = || moving.one("SELECT count(*) FROM pointsd.entries WHERE type IN ('recharge', 'consume')");
    let follow = ["adopt", "follow", &moving.path(), "--from", &moving.old.url(), "--every", "1"];
    for (nth, end) in ENDS.into_iter().cycle().take(10).enumerate() {
        let before = posted();
        let more = i64::try_from(nth).unwrap() * 50;
        let mut running = Running::start(on(&moving.ledger.url(), &follow));
        eventually("transactions are posted", || (running.has_ended() || posted() > before + more).then_some(()));
        match end {
            End::Signal(_) => moving.end(running, end),
            // It outwaits a database that is away.
            End::LostThere | End::LostHere => {
                moving.cut_off(if matches!(end, End::LostHere) { &moving.ledger } else { &moving.old });
                let before = posted();
                eventually("it goes on", || (posted() > before).then_some(()));
                moving.end(running, End::Signal(Signal::SIGKILL));
            }
        }
    }
    stop.send(()).unwrap();
    let written: i64 = writer.join().unwrap();
    assert!(posted() < written, "the last call was killed before its end");
    let followed = eventually("the lock is free", || {
        let done = run(moving.follow());
        (!done.stderr.contains("another `pointsd adopt` is at work")).then_some(done)
    });
    assert_eq!(followed.json()["followed"]["refused"], json!({}));
    assert_eq!(run(moving.follow()).json()["followed"]["posted"], 0);
    let sums = |database: &TestDatabase, table: &str, moved: &str| -> Vec<(Uuid, String, i64, i64)> {
        let sql = format!(
            "SELECT user_id, type, count(*), sum({moved})::bigint FROM {table} WHERE type IN ('recharge', 'consume') GROUP BY 1, 2 ORDER BY 1, 2"
        );
        let rows = wait(async { database.client().await.query(&sql, &[]).await.unwrap() });
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect()
    };
    assert_eq!(
        sums(&moving.ledger, "pointsd.entries", "abs(amount)"),
        sums(&moving.old, "public.point_transactions", "amount")
    );
}
