//! The sweep, and what single postings notice of it.

use std::sync::Arc;
use std::time::Duration;

use pointsd::ledger::{Poster, Session};

use crate::Row;
use crate::callers::callers_at_ease;
use crate::naive::naive_expiry;
use crate::server::{Bench, percentile_99, time, users};

impl Bench {
    pub async fn sweep(&self, batches: u64, rows: &mut Vec<Row>) {
        let client = self.seed("sweep", batches / 5, 5).await;
        let naive = naive_expiry(&client, 2_000).await;
        self.seed("sweep", batches / 5, 5).await;
        let at = "2026-03-01T00:00:00Z";
        let (seconds, around) = self.between(|| self.program("sweep", &["run", "expiry", "--at", at]).0);
        rows.push(Row::rate("sweep", batches, seconds, around, ("10", "20"), Some(naive)));
    }

    pub async fn latency(&self, batches: u64, rows: &mut Vec<Row>) {
        self.seed("latency", batches / 5, 5).await;
        let database = self.database("latency").await;
        let poster = Poster::start(&database, &self.rules, 2);
        let users = Arc::new(users(batches / 5));
        callers_at_ease(&poster, &users, "warm", Duration::from_secs(2)).await;
        let alone = callers_at_ease(&poster, &users, "alone", Duration::from_secs(10)).await;
        let mut session = Session::connect(&database).await.expect("a session");
        let rules = Arc::clone(&self.rules);
        let sweep = tokio::spawn(async move {
            session.sweep(time("2026-03-01T00:00:00Z"), false, &rules, |_| true).await.expect("the sweep")
        });
        let mut during = Vec::new();
        let mut round = 0;
        while !sweep.is_finished() {
            during.extend(callers_at_ease(&poster, &users, &format!("sweep{round}"), Duration::from_millis(500)).await);
            round += 1;
        }
        let (alone, during) = (percentile_99(alone), percentile_99(during));
        rows.push(Row::new(
            "p99 of single consumes during the sweep",
            format!("{:.2} ms", during * 1e3),
            format!("{:.2} ms without", alone * 1e3),
            during / alone,
            ("< 3", "1.5"),
        ));
    }
}
