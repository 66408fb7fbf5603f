//! The sweep, and what single postings notice of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsd::ledger::{Poster, Sweep, sweep_for};
use tokio_postgres::Client;

use crate::Row;
use crate::bare::times_bare;
use crate::callers::callers_at_ease;
use crate::naive::naive_expiry;
use crate::server::{Bench, percentile_99, time, users};

impl Bench {
    pub async fn sweep(&self, batches: u64, rows: &mut Vec<Row>) {
        let client = self.seed("sweep", batches / 5, 5).await;
        let naive = naive_expiry(&client, 2_000).await;
        let at = "2026-03-01T00:00:00Z";
        let mut whole = Vec::new();
        for lanes in [1, 2] {
            let client = self.seed("sweep", batches / 5, 5).await;
            self.copy(&client, "bare_before").await;
            self.copy(&client, "bare_after").await;
            let config = self.directory.join("lanes.yaml");
            std::fs::write(&config, format!("jobs: {{expiry: {{lanes: {lanes}}}}}\n")).unwrap();
            let before = self.bare_sweep(&client, "bare_before", at).await;
            let arguments = ["--config", config.to_str().unwrap(), "run", "expiry", "--at", at];
            let (seconds, around) = self.between(|| self.program("sweep", &arguments).0);
            let after = self.bare_sweep(&client, "bare_after", at).await;
            let bare = f64::midpoint(before, after);
            let work = format!("whole `run expiry`, lanes: {lanes}");
            rows.push(times_bare(&work, seconds, bare, ("1.6", "1.3")));
            if lanes == 1 {
                rows.push(Row::rate("sweep", batches, seconds, around, ("10", "20"), Some(naive)));
            }
            whole.push(self.sweep_alone(batches, lanes, rows).await);
        }
        if let [one, two] = whole[..] {
            let (measured, against) = (format!("{two:.1} s"), format!("on one {one:.1} s"));
            rows.push(Row::new("sweep alone on two lanes: times faster", measured, against, one / two, ("1.3", "1.6")));
        }
    }

    /// The seconds of a sweep without the run around it, between two sweeps by bare statements.
    async fn sweep_alone(&self, batches: u64, lanes: usize, rows: &mut Vec<Row>) -> f64 {
        let client = self.seed("sweep", batches / 5, 5).await;
        self.copy(&client, "bare_before").await;
        self.copy(&client, "bare_after").await;
        let database = self.database("sweep").await;
        let at = "2026-03-01T00:00:00Z";
        let none = BTreeMap::new();
        let before = self.bare_sweep(&client, "bare_before", at).await;
        let began = Instant::now();
        let sweep = sweep_for(&database, lanes, (1, time(at)), &(), &none, |_| true);
        assert_eq!(sweep.await.expect("the sweep").batches, batches);
        let seconds = began.elapsed().as_secs_f64();
        let after = self.bare_sweep(&client, "bare_after", at).await;
        let work = format!("sweep alone, lanes: {lanes}");
        rows.push(times_bare(&work, seconds, f64::midpoint(before, after), ("1.2", "1.05")));
        seconds
    }

    /// The latency of single consumes beside a sweep, as the daemon of a small machine does it. They are of accounts of which
    /// nothing is due, so that they do only what they do without the sweep. A session that only counts tells how much of the
    /// difference is a core that is busy.
    pub async fn latency(&self, batches: u64, rows: &mut Vec<Row>) {
        let accounts = batches / 5;
        let client = self.seed("latency", 2 * accounts, 5).await;
        let later = "UPDATE pointsd.batches SET expires_at = expires_at + interval '1 year' WHERE user_id = ANY ($1)";
        let users = users(2 * accounts).split_off(usize::try_from(accounts).unwrap());
        client.execute(later, &[&users]).await.unwrap();
        client.batch_execute("VACUUM (FULL, ANALYZE) pointsd.batches").await.unwrap();
        client.batch_execute("CHECKPOINT").await.unwrap();
        let database = self.database("latency").await;
        let poster = Poster::start(&database, &self.rules, 2);
        let users = Arc::new(users);
        callers_at_ease(&poster, &users, "warm", Duration::from_secs(2)).await;
        let none = BTreeMap::new();
        // In turn, a second each, so that all meet the same machine.
        let slice = Duration::from_secs(1);
        let (mut alone, mut counting, mut during) = (Vec::new(), Vec::new(), Vec::new());
        let mut swept = Sweep { stopped: true, ..Sweep::default() };
        while swept.stopped {
            let round = during.len();
            alone.extend(callers_at_ease(&poster, &users, &format!("alone{round}"), slice).await);
            let salt = format!("counting{round}");
            let beside = callers_at_ease(&poster, &users, &salt, slice);
            let ((), latencies) = tokio::join!(count(&client, Instant::now() + slice), beside);
            counting.extend(latencies);
            let until = Instant::now() + slice;
            let at = time("2026-03-01T00:00:00Z");
            let sweep = sweep_for(&database, 1, (1, at), &(), &none, |_| Instant::now() < until);
            let salt = format!("sweep{round}");
            let beside = callers_at_ease(&poster, &users, &salt, slice);
            let (result, latencies) = tokio::join!(sweep, beside);
            swept = result.expect("the sweep");
            during.extend(latencies);
        }
        let alone = percentile_99(alone);
        let mut row = |work: &str, latencies, aims| {
            let measured = percentile_99(latencies);
            let [text, against] = [measured, alone].map(|seconds| format!("{:.2} ms", seconds * 1e3));
            rows.push(Row::new(work, text, format!("{against} without"), measured / alone, aims));
        };
        row("p99 of single consumes during the sweep", during, ("< 1.5", "1.3"));
        row("the same beside a session that only counts", counting, ("", ""));
    }
}

/// Keeps one process of the server busy, in statements of some milliseconds.
async fn count(client: &Client, until: Instant) {
    while Instant::now() < until {
        client.execute("SELECT sum(i) FROM generate_series(1, 40000) AS i", &[]).await.unwrap();
    }
}
