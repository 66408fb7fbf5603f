//! Proofs of a large ledger, and what single postings notice of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsd::database::Database;
use pointsd::ledger::{Poster, cutoff};
use pointsd::proof::{Asked, Lane, Proof, prepare_session, prove};
use tokio_postgres::Client;

use crate::Row;
use crate::callers::callers_at_ease;
use crate::server::{Bench, median, percentile_99, users};

impl Bench {
    /// Proves a ledger with five batches and twenty entries an account, stored in the order of time.
    pub async fn proof(&self, accounts: u64, rows: &mut Vec<Row>) {
        self.create("proof").await;
        let database = self.database("proof").await;
        database.migrate().await.expect("the schema");
        let client = self.client("proof").await;
        client.batch_execute(&HISTORY.replace("$ACCOUNTS", &accounts.to_string())).await.expect("the histories");
        for table in ["accounts", "batches", "entries"] {
            client.batch_execute(&format!("VACUUM (ANALYZE) pointsd.{table}")).await.unwrap();
        }
        client.batch_execute("CHECKPOINT").await.unwrap();
        bare(&client).await;
        let before = bare(&client).await;
        let first = self.proved(true, 1).await;
        client.batch_execute(FORGET).await.unwrap();
        let first_in_two = self.proved(true, 2).await;
        client.batch_execute("VACUUM (ANALYZE) pointsd.checkpoints").await.unwrap();
        let mut ratios = Vec::new();
        let (mut full, mut around) = (0.0, bare(&client).await);
        let mut aggregates = f64::midpoint(before, around);
        for (lanes, first) in [("one lane", first), ("two lanes", first_in_two)] {
            rows.push(Row::new(
                format!("first proof of {accounts} accounts, {lanes}"),
                format!("{first:.1} s"),
                format!("bare aggregates {aggregates:.1} s"),
                first / aggregates,
                ("< 6", "4"),
            ));
        }
        for (lanes, name) in [(2, "two lanes"), (1, "one lane")] {
            ratios.clear();
            for _ in 0..3 {
                full = self.proved(true, lanes).await;
                let after = bare(&client).await;
                aggregates = f64::midpoint(around, after);
                around = after;
                ratios.push(full / aggregates);
            }
            rows.push(Row::new(
                format!("full proof of {accounts} accounts, {name}, median of 3"),
                format!("{full:.1} s (last)"),
                format!("bare aggregates {aggregates:.1} s (last)"),
                median(&mut ratios),
                ("< 2.2", "1.5"),
            ));
        }
        let changed = users(accounts / 100);
        let (mut ratios, mut nightly) = (Vec::new(), 0.0);
        for night in ["first", "second", "third"] {
            self.program("proof", &["post", self.consumes(&changed, accounts / 50, night).to_str().unwrap()]);
            nightly = self.proved(false, 1).await;
            ratios.push(nightly / full);
        }
        rows.push(Row::new(
            "nightly proof after 1 % of the accounts changed, median of 3",
            format!("{nightly:.2} s (last)"),
            format!("the full one {full:.1} s"),
            median(&mut ratios),
            ("< 0.05", ""),
        ));
        self.proof_beside(&database, accounts, rows).await;
        self.whole_runs(accounts, aggregates, rows);
    }

    /// Whole runs of the job, beside the seconds of bare aggregates.
    fn whole_runs(&self, accounts: u64, aggregates: f64, rows: &mut Vec<Row>) {
        let changed = users(accounts / 100);
        let two_lanes = self.directory.join("two-lanes.yaml");
        std::fs::write(&two_lanes, "jobs: {reconciliation: {lanes: 2}}\n").unwrap();
        // The first run closes all days, so that the measured one closes a single day. On a Wednesday the proof is not full.
        self.program("proof", &["run", "reconciliation", "--at", "2026-11-18T04:30:00Z"]);
        self.program("proof", &["post", self.consumes(&changed, accounts / 50, "again").to_str().unwrap()]);
        for (work, arguments, aims) in [
            (
                "the whole nightly run after 1 % changed, with balances, batches and report",
                &["run", "reconciliation", "--at", "2026-11-18T04:30:01Z"][..],
                ("< 0.2, 64 MB", "0.1"),
            ),
            ("the whole weekly run, with the report", &["run", "reconciliation", "--full"], ("< 5, 64 MB", "3")),
            (
                "the same in two lanes",
                &["run", "reconciliation", "--full", "--config", two_lanes.to_str().unwrap()],
                ("64 MB", ""),
            ),
        ] {
            let (seconds, peak) = self.program("proof", arguments);
            rows.push(Row::new(
                work,
                format!("{seconds:.1} s, {peak:.1} MB"),
                format!("bare aggregates {aggregates:.1} s"),
                seconds / aggregates,
                aims,
            ));
        }
    }

    /// The latency of single postings during a full proof.
    pub async fn proof_beside(&self, database: &Database, accounts: u64, rows: &mut Vec<Row>) {
        let poster = Poster::start(database, &self.rules, 2);
        let users = Arc::new(users(accounts));
        callers_at_ease(&poster, &users, "warm", Duration::from_secs(2)).await;
        let alone = callers_at_ease(&poster, &users, "alone", Duration::from_secs(10)).await;
        let done = std::sync::atomic::AtomicBool::new(false);
        let proof = async {
            self.proved(true, 1).await;
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        };
        let callers = async {
            let (mut during, mut round) = (Vec::new(), 0);
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let salt = format!("proof{round}");
                during.extend(callers_at_ease(&poster, &users, &salt, Duration::from_millis(500)).await);
                round += 1;
            }
            during
        };
        let ((), during) = tokio::join!(proof, callers);
        let (alone, during) = (percentile_99(alone), percentile_99(during));
        rows.push(Row::new(
            "p99 of single consumes during a full proof",
            format!("{:.2} ms", during * 1e3),
            format!("{:.2} ms without", alone * 1e3),
            during / alone,
            ("< 1.5", "1.3"),
        ));
    }

    /// The seconds of a proof in these lanes, which must find nothing.
    pub async fn proved(&self, full: bool, lanes: usize) -> f64 {
        let (mut client, mut others) = (self.client("proof").await, Vec::new());
        let began = Instant::now();
        prepare_session(&client).await.expect("the session");
        for _ in 1..lanes {
            others.push(self.client("proof").await);
        }
        for client in &others {
            prepare_session(client).await.expect("the session");
        }
        let cutoff = cutoff(&client, Duration::from_secs(60)).await.expect("the cutoff");
        let asked = Asked { run: 1, full, cutoff, closed_until: None };
        let mut others: Vec<_> = others.iter_mut().map(|client| Lane { client, also: &() }).collect();
        let first = Lane { client: &mut client, also: &() };
        let proof = prove(first, &mut others, asked, Proof::default(), |_| true).await.expect("the proof");
        let seconds = began.elapsed().as_secs_f64();
        assert_eq!((proof.findings, proof.stopped), (0, false), "{proof:?}");
        eprintln!("proved {} accounts, {} entries in {seconds:.2} s", proof.accounts, proof.entries);
        seconds
    }
}

/// The seconds of the sums by source and type over the three tables: three scans, one after the other, one process each.
pub async fn bare(client: &Client) -> f64 {
    client.batch_execute("SET max_parallel_workers_per_gather = 0; SET jit = off").await.unwrap();
    let began = Instant::now();
    for query in [
        "SELECT type, source_type, count(*), sum(amount) FROM pointsd.entries GROUP BY type, source_type",
        "SELECT source, count(*), sum(amount), sum(remaining) FROM pointsd.batches GROUP BY source",
        "SELECT count(*), sum(balance), sum(total_recharged), sum(total_consumed), sum(total_expired) FROM pointsd.accounts",
    ] {
        client.query(query, &[]).await.unwrap();
    }
    let seconds = began.elapsed().as_secs_f64();
    eprintln!("bare aggregates: {seconds:.2} s");
    seconds
}

/// Makes the next proof a first one.
const FORGET: &str =
    "TRUNCATE pointsd.checkpoints; UPDATE pointsd.proof_state SET proved_until = NULL, full_until = NULL";

/// Accounts with five recharges of 90 points, each followed by three consumes of 25, soonest expiry first. Entries are stored
/// in the order of time, five days from one of an account to the next, all accounts mixed. The indexes come last, which is
/// much faster.
pub const HISTORY: &str = "
ALTER TABLE pointsd.entries DROP CONSTRAINT entries_pkey;
ALTER TABLE pointsd.batches DROP CONSTRAINT batches_pkey;
DROP INDEX pointsd.entries_key_once, pointsd.batches_open_by_user, pointsd.batches_open_by_expiry;
SET maintenance_work_mem = '512MB';
CREATE TEMP TABLE shape AS
SELECT seq, opens, nth, CASE WHEN opens THEN 90 ELSE 25 END::bigint AS amount, (recharged - consumed)::bigint AS before,
       CASE WHEN opens THEN '{}' ELSE taken.batches END AS batches,
       CASE WHEN opens THEN '{}' ELSE taken.points END AS points
FROM (SELECT seq, seq % 4 = 1 AS opens, (seq - 1) / 4 + 1 AS nth, (seq + 2) / 4 * 90 AS recharged,
             (seq - 1 - (seq + 2) / 4) * 25 AS consumed FROM generate_series(1, 20) AS seq) AS entry,
     LATERAL (SELECT array_agg(b + 1 ORDER BY b) AS batches,
                     array_agg(least(90 * b + 90, consumed + 25)::bigint - greatest(90 * b, consumed) ORDER BY b) AS points
              FROM generate_series(0, 4) AS b
              WHERE least(90 * b + 90, consumed + 25) > greatest(90 * b, consumed)) AS taken;
INSERT INTO pointsd.accounts (user_id, balance, total_recharged, total_consumed, total_expired, last_seq, last_batch)
SELECT md5(i::text)::uuid, 75, 450, 375, 0, 20, 5 FROM generate_series(1, $ACCOUNTS) AS i;
DO $$
BEGIN
    FOR s IN 1 .. 20 LOOP
        INSERT INTO pointsd.batches (user_id, batch, amount, remaining, opened_at, expires_at, open, source)
        SELECT md5(i::text)::uuid, nth, 90, greatest(0, least(90, 90 * nth - 375)), at, at + interval '180 days',
               90 * nth > 375, (ARRAY['wxpay', 'card', 'gift', 'invite'])[1 + (i + nth) % 4]
        FROM shape, generate_series(1, $ACCOUNTS) AS i,
             LATERAL (SELECT '2026-01-01T00:00:00Z'::timestamptz + (seq - 1) * interval '5 days' + i * interval '1 ms' AS at) AS t
        WHERE seq = s AND opens ORDER BY md5(i::text || s);
        INSERT INTO pointsd.entries (user_id, seq, type, amount, balance_before, balance_after, source_type, source_id, batch,
            at, recorded_at, duration, key, drawing_rule, allocated_batches, allocated_points)
        SELECT md5(i::text)::uuid, seq, CASE WHEN opens THEN 'recharge' ELSE 'consume' END, amount, before,
               before + CASE WHEN opens THEN amount ELSE -amount END,
               CASE WHEN opens THEN (ARRAY['wxpay', 'card', 'gift', 'invite'])[1 + (i + nth) % 4] ELSE 'script' END,
               CASE WHEN opens THEN i::text ELSE 'task-' || i || '-' || seq END, CASE WHEN opens THEN nth END,
               '2026-01-01T00:00:00Z'::timestamptz + (seq - 1) * interval '5 days' + i * interval '1 ms',
               '2026-01-01T00:00:00Z'::timestamptz + (seq - 1) * interval '5 days'
                   + interval '20 minutes' + row_number() OVER (ORDER BY md5(i::text || s)) * interval '400 ms',
               CASE WHEN NOT opens THEN 35.5 END, overlay(gen_random_uuid()::text PLACING left(md5(i::text), 8) FROM 1)::uuid, 1,
               batches, points
        FROM shape, generate_series(1, $ACCOUNTS) AS i WHERE seq = s ORDER BY md5(i::text || s);
    END LOOP;
END $$;
ALTER TABLE pointsd.entries ADD CONSTRAINT entries_pkey PRIMARY KEY (bucket, user_id, seq);
ALTER TABLE pointsd.batches ADD CONSTRAINT batches_pkey PRIMARY KEY (bucket, user_id, batch);
CREATE UNIQUE INDEX entries_key_once ON pointsd.entries (bucket, key) WHERE key IS NOT NULL;
CREATE INDEX batches_open_by_user ON pointsd.batches (bucket, user_id, expires_at) WHERE open;
CREATE INDEX batches_open_by_expiry ON pointsd.batches (bucket, expires_at) INCLUDE (user_id) WHERE open;
";
