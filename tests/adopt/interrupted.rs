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

/// Keeps a plan in a statement that writes to a table, once it has written, for as long as `public.held` names the table.
const HOLD: &str = "
    CREATE TABLE public.held (name text);
    CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        WHILE EXISTS (SELECT FROM public.held WHERE name = tg_op || ' ' || tg_table_name) LOOP
            PERFORM pg_sleep(0.01);
        END LOOP;
        RETURN NULL;
    END $$;
    CREATE TRIGGER hold AFTER TRUNCATE OR INSERT ON pointsd.adopted_accounts EXECUTE FUNCTION public.hold();
    CREATE TRIGGER hold AFTER INSERT ON pointsd.adopted_transactions EXECUTE FUNCTION public.hold();
    CREATE TRIGGER hold AFTER INSERT ON pointsd.adopted_positions EXECUTE FUNCTION public.hold();
    CREATE TRIGGER hold AFTER INSERT ON pointsd.adopted_openings EXECUTE FUNCTION public.hold()";

impl Move {
    /// Ends a call in one of the ways, and returns whether that kept it from doing its work. It says why it ended, and blames no
    /// mapping.
    fn end(&self, mut running: Running, end: End) -> bool {
        let under_way = !running.has_ended();
        match end {
            _ if !under_way => {}
            End::Signal(signal) => running.signal(signal),
            End::LostThere => {
                self.cut_off(&self.old);
                self.let_go();
            }
            End::LostHere => self.cut_off(&self.ledger),
        }
        let done = running.finish();
        assert!(!done.stderr.contains("--mapping"), "{end:?}: {}", done.stderr);
        assert!(!done.stderr.contains("panicked"), "{end:?}: {}", done.stderr);
        under_way && !done.status.success()
    }

    /// Runs statements in the ledger's database.
    fn run_here(&self, sql: &str) {
        wait(async { self.ledger.client().await.batch_execute(sql).await.unwrap() });
    }

    fn let_go(&self) {
        self.run_here("DELETE FROM public.held");
    }

    /// Waits for the session of a killed call, which keeps its lock and ends within seconds.
    fn until_alone(&self) {
        wait(async { crate::support::until_alone(&self.ledger.client().await).await });
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
    // Statements, and what they write. The other database is read until the third one has ended.
    let places = [
        ("pointsd.clear_adopted()", "TRUNCATE adopted_accounts"),
        ("COPY pointsd.adopted_accounts", "INSERT adopted_accounts"),
        ("COPY pointsd.adopted_transactions", "INSERT adopted_transactions"),
        ("What each account has there", "INSERT adopted_positions"),
        ("What each account is to open with", "INSERT adopted_openings"),
    ];
    moving.run_here(HOLD);
    let plan = ["adopt", "plan", "--from", &moving.old.url(), "--output", &moving.path(), "--json"];
    for (nth, end) in ENDS.into_iter().cycle().take(10).enumerate() {
        let (words, written) = places[(nth + nth / ENDS.len()) % places.len()];
        moving.until_alone();
        moving.run_here(&format!("INSERT INTO public.held VALUES ('{written}')"));
        let mut running = Running::start(on(&moving.ledger.url(), &plan));
        eventually(words, || (running.has_ended() || moving.runs(&moving.ledger, words)).then_some(()));
        assert!(moving.end(running, end), "{words}: {end:?} interrupted nothing");
        moving.until_alone();
        moving.let_go();
        // It leaves no part of a plan behind. The first call had not forgotten the plan before it yet.
        let decided = call(&moving.ledger.url(), &["adopt", "decide", &moving.path(), "--json"]);
        match nth {
            0 => assert_eq!(decided.expect(0).json()["totals"], expected),
            _ => assert!(decided.expect(2).stderr.contains("the ledger has another plan"), "{words}"),
        }
    }
    moving.until_alone();
    assert_eq!(call(&moving.ledger.url(), &plan).expect(0).json()["totals"], expected);
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
        moving.until_alone();
        let before = posted();
        let more = i64::try_from(nth).unwrap() * 50;
        let mut running = Running::start(on(&moving.ledger.url(), &follow));
        eventually("transactions are posted", || (running.has_ended() || posted() > before + more).then_some(()));
        match end {
            End::Signal(_) => assert!(moving.end(running, end), "call {nth} ended by itself"),
            // It outwaits a database that is away.
            End::LostThere | End::LostHere => {
                moving.cut_off(if matches!(end, End::LostHere) { &moving.ledger } else { &moving.old });
                let before = posted();
                eventually("it goes on", || (posted() > before).then_some(()));
                assert!(moving.end(running, End::Signal(Signal::SIGKILL)), "call {nth} ended by itself");
            }
        }
    }
    stop.send(()).unwrap();
    let written: i64 = writer.join().unwrap();
    assert!(posted() < written, "the last call was killed before its end");
    moving.until_alone();
    let followed = run(moving.follow());
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
