//! What the age of a ledger costs: the same accounts with a short history and with a long one, measured in turn.

use std::process::Command;
use std::time::Instant;

use pointsd::ledger::{Batches, EntryFilter, Order, Span, statement};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::Row;
use crate::proof::bare;
use crate::server::{Bench, median, time, users};

/// The two ledgers, and the cycles of an account's history in each: one recharge and three consumes that use it up.
const LEDGERS: [(&str, u64); 2] = [("young", 2), ("old", 24)];

/// A server that holds in memory what postings touch of both ledgers, as docs/sizing.md asks for: 13 GB.
pub const SETTINGS: [(&str, &str); 1] = [("shared_buffers", "14GB")];

/// Reads what postings touch: of the batches those that are open.
const READ_TOUCHED: &str = "
CREATE EXTENSION IF NOT EXISTS pg_prewarm;
SELECT pg_prewarm(relation) FROM unnest(ARRAY['pointsd.accounts', 'pointsd.accounts_pkey', 'pointsd.batches_pkey',
    'pointsd.batches_open_by_user', 'pointsd.batches_open_by_expiry', 'pointsd.entries_pkey', 'pointsd.entries_key_once']::regclass[]) AS relation;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SELECT count(remaining) FROM pointsd.batches WHERE open;
CHECKPOINT;
";

/// Reads of each kind, each of another account.
const READS: usize = 500;

/// Rounds in which the two take turns.
const ROUNDS: u64 = 3;

/// Seconds of each kind of work, for the young ledger and for the old one.
#[derive(Default)]
struct Times([Vec<f64>; 2]);

impl Times {
    fn row(mut self, work: &str, unit: (f64, &str), rows: &mut Vec<Row>) {
        let [young, old] = [median(&mut self.0[0]), median(&mut self.0[1])];
        let text = |seconds: f64| format!("{:.2} {}", seconds * unit.0, unit.1);
        eprintln!("{work}: young {}, old {}", text(young), text(old));
        rows.push(Row::new(
            format!("old ledger: {work}"),
            text(old),
            format!("young {}", text(young)),
            old / young,
            ("< 1.2", "1"),
        ));
    }
}

impl Bench {
    /// Postings, sweep, nightly run, and reads of an account in a ledger of eleven entries an account and of ninety-nine.
    pub async fn years(&self, accounts: u64, rows: &mut Vec<Row>) {
        for (ledger, cycles) in LEDGERS {
            self.seed_years(ledger, accounts, cycles).await;
        }
        let users = users(accounts);
        let (mut posts, mut sweeps, mut nights) = (Times::default(), Times::default(), Times::default());
        for (ledger, _) in LEDGERS {
            // Closes all business days and proves every account, so that the runs below are ordinary ones.
            let (first, peak) = self.program(ledger, &["run", "reconciliation", "--full"]);
            let aggregates = bare(&self.client(ledger).await).await;
            rows.push(Row::new(
                format!("{ledger} ledger: its first proof, all business days and the report"),
                format!("{first:.1} s, {peak:.1} MB"),
                format!("bare aggregates {aggregates:.1} s"),
                first / aggregates,
                ("", ""),
            ));
            self.program(ledger, &["post", self.consumes(&users, accounts / 50, "warm").to_str().unwrap()]);
        }
        for round in 0..ROUNDS {
            for (which, (ledger, _)) in LEDGERS.into_iter().enumerate() {
                // Proofs have read everything else. A server that has been at work for a while holds this.
                self.client(ledger).await.batch_execute(READ_TOUCHED).await.unwrap();
                let at = format!("2026-02-{:02}T00:00:00Z", round + 1);
                sweeps.0[which].push(self.program(ledger, &["run", "expiry", "--at", &at]).0);
                let file = self.consumes_at(&users, accounts / 10 + round, &format!("round{round}"), &at);
                posts.0[which].push(self.program(ledger, &["post", file.to_str().unwrap()]).0);
                // A Wednesday, so that the proof is not a full one.
                let at = format!("2026-11-18T04:30:0{round}Z");
                nights.0[which].push(self.program(ledger, &["run", "reconciliation", "--at", &at]).0);
            }
        }
        let seconds = (1.0, "s");
        posts.row(&format!("{} consumes over all accounts", accounts / 10), seconds, rows);
        sweeps.row(&format!("`run expiry` of {} batches", accounts / 10), seconds, rows);
        nights.row("nightly run after them", seconds, rows);
        self.reads_of_years(&users, rows).await;
    }

    async fn reads_of_years(&self, users: &[Uuid], rows: &mut Vec<Row>) {
        let mut clients = [self.client("young").await, self.client("old").await];
        let mut reads = [Times::default(), Times::default(), Times::default(), Times::default()];
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..READS {
            let user = *random.choice(users).unwrap();
            for (which, client) in clients.iter_mut().enumerate() {
                for (read, times) in reads.iter_mut().enumerate() {
                    times.0[which].push(read_once(client, read, user).await);
                }
            }
        }
        let mut status = Times::default();
        for _ in 0..10 {
            for (which, (ledger, _)) in LEDGERS.into_iter().enumerate() {
                status.0[which].push(self.status(ledger));
            }
        }
        let works = ["balance", "the newest 50 entries", "open batches", "statement of a month"];
        for (times, work) in reads.into_iter().zip(works) {
            times.row(&format!("{work}, median"), (1e3, "ms"), rows);
        }
        status.row("`pointsd status`, what its page shows, median", (1e3, "ms"), rows);
    }

    /// The seconds of a status. It tells of missed slots, so it does not exit with 0.
    fn status(&self, ledger: &str) -> f64 {
        let began = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pointsd"));
        command.args(["status", "--json", "--database-url", &self.url(ledger)]).env("STATE_DIRECTORY", &self.directory);
        assert!(!command.output().expect("pointsd starts").stdout.is_empty());
        began.elapsed().as_secs_f64()
    }

    /// A ledger of five years, stored in the order of time, all accounts mixed. The last three recharges of each account are left.
    async fn seed_years(&self, name: &str, accounts: u64, cycles: u64) {
        self.create(name).await;
        self.database(name).await.migrate().await.expect("the schema");
        let client = self.client(name).await;
        let began = Instant::now();
        let seed = YEARS.replace("$ACCOUNTS", &accounts.to_string()).replace("$CYCLES", &cycles.to_string());
        client.batch_execute(&seed).await.expect("the history");
        for table in ["accounts", "batches", "entries"] {
            client.batch_execute(&format!("VACUUM (ANALYZE) pointsd.{table}")).await.unwrap();
        }
        client.batch_execute("CHECKPOINT").await.unwrap();
        let size = "SELECT pg_size_pretty(pg_database_size(current_database()))";
        let size: String = client.query_one(size, &[]).await.unwrap().get(0);
        eprintln!(
            "{name}: {accounts} accounts, {} entries each, {size}, in {:.0} s",
            4 * cycles + 3,
            began.elapsed().as_secs_f64()
        );
    }
}

/// The seconds of one read.
async fn read_once(client: &mut Client, read: usize, user: Uuid) -> f64 {
    let now = time("2026-01-20T00:00:00Z");
    let month = Span { from: time("2025-12-01T00:00:00Z"), before: time("2026-01-01T00:00:00Z"), complete: true };
    let began = Instant::now();
    let reader = pointsd::ledger::Reader::new(client);
    match read {
        0 => assert_eq!(reader.balance(user, now).await.unwrap().user, user),
        1 => {
            let page = reader.entries(user, &EntryFilter::default(), Order::Newest, None, 50).await.unwrap();
            assert!(page.items.len() >= 11);
        }
        2 => assert!(!reader.batches(user, Batches::Open, None, 50).await.unwrap().items.is_empty()),
        _ => assert_eq!(statement(client, user, month, 100).await.unwrap().user, user),
    }
    began.elapsed().as_secs_f64()
}

/// Cycles of a recharge of 90 points and three consumes of 30, evenly over five years, and three recharges at their end. A tenth of the
/// accounts has points that expire on each of ten days. The indexes come last, which is much faster.
const YEARS: &str = "
ALTER TABLE pointsd.entries DROP CONSTRAINT entries_pkey;
ALTER TABLE pointsd.batches DROP CONSTRAINT batches_pkey;
DROP INDEX pointsd.entries_key_once, pointsd.batches_open_by_user, pointsd.batches_open_by_expiry;
SET maintenance_work_mem = '1GB';
SET synchronous_commit = off;
INSERT INTO pointsd.accounts (user_id, balance, total_recharged, total_consumed, total_expired, last_seq, last_batch)
SELECT md5(i::text)::uuid, 270, 90 * ($CYCLES + 3), 90 * $CYCLES, 0, 4 * $CYCLES + 3, $CYCLES + 3
FROM generate_series(1, $ACCOUNTS) AS i ORDER BY md5(i::text);
INSERT INTO pointsd.batches (user_id, batch, amount, remaining, opened_at, expires_at, open, source)
SELECT md5(i::text)::uuid, nth, 90, CASE WHEN nth > $CYCLES THEN 90 ELSE 0 END, at,
       CASE WHEN nth = $CYCLES + 1 THEN '2026-02-01T00:00:00Z'::timestamptz + i % 10 * interval '1 day'
            WHEN nth > $CYCLES THEN '2027-02-01T00:00:00Z' ELSE at + interval '3 years' END,
       nth > $CYCLES, (ARRAY['wxpay', 'card', 'gift', 'invite'])[1 + (i + nth) % 4]
FROM generate_series(1, $CYCLES + 3) AS nth, generate_series(1, $ACCOUNTS) AS i,
     LATERAL (SELECT '2021-01-01T00:00:00Z'::timestamptz
                     + (CASE WHEN nth > $CYCLES THEN 3 * $CYCLES + nth ELSE 4 * nth - 3 END - 1) * interval '5 years' / (4 * $CYCLES + 3)
                     + i * interval '1 ms' AS at) AS t;
INSERT INTO pointsd.entries (user_id, seq, type, amount, balance_before, balance_after, source_type, source_id, batch,
    at, recorded_at, duration, key, drawing_rule, allocated_batches, allocated_points)
SELECT md5(i::text)::uuid, seq, CASE WHEN opens THEN 'recharge' ELSE 'consume' END, amount, before,
       before + CASE WHEN opens THEN amount ELSE -amount END,
       CASE WHEN opens THEN (ARRAY['wxpay', 'card', 'gift', 'invite'])[1 + (i + nth) % 4] ELSE 'script' END,
       CASE WHEN opens THEN i || '-' || nth ELSE 'task-' || i || '-' || seq END, CASE WHEN opens THEN nth END,
       at, at + interval '20 minutes',
       CASE WHEN NOT opens THEN 35.5 END, overlay(gen_random_uuid()::text PLACING left(md5(i::text), 8) FROM 1)::uuid, 1,
       CASE WHEN opens THEN '{}' ELSE ARRAY[nth] END, CASE WHEN opens THEN '{}' ELSE ARRAY[30::bigint] END
FROM (SELECT seq, late OR seq % 4 = 1 AS opens,
             CASE WHEN late THEN seq - 3 * $CYCLES ELSE (seq - 1) / 4 + 1 END AS nth,
             CASE WHEN late OR seq % 4 = 1 THEN 90 ELSE 30 END::bigint AS amount,
             CASE WHEN late THEN (seq - 4 * $CYCLES - 1) * 90 ELSE (ARRAY[30, 0, 90, 60])[seq % 4 + 1] END::bigint AS before
      FROM (SELECT seq, seq > 4 * $CYCLES AS late FROM generate_series(1, 4 * $CYCLES + 3) AS seq) AS numbered) AS shape,
     generate_series(1, $ACCOUNTS) AS i,
     LATERAL (SELECT '2021-01-01T00:00:00Z'::timestamptz + (seq - 1) * interval '5 years' / (4 * $CYCLES + 3)
                     + i * interval '1 ms' AS at) AS t;
ALTER TABLE pointsd.entries ADD CONSTRAINT entries_pkey PRIMARY KEY (bucket, user_id, seq);
ALTER TABLE pointsd.batches ADD CONSTRAINT batches_pkey PRIMARY KEY (bucket, user_id, batch);
CREATE UNIQUE INDEX entries_key_once ON pointsd.entries (bucket, key) WHERE key IS NOT NULL;
CREATE INDEX batches_open_by_user ON pointsd.batches (bucket, user_id, expires_at) WHERE open;
CREATE INDEX batches_open_by_expiry ON pointsd.batches (bucket, expires_at) INCLUDE (user_id) WHERE open;
";
