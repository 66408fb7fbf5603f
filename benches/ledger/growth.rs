//! Memory and cost by the size of the work.

use crate::Row;
use crate::server::{Bench, users};

impl Bench {
    pub async fn growth(&self, huge: u64, large: u64, small: u64, rows: &mut Vec<Row>) {
        let mut posts = Vec::new();
        let mut sweeps = Vec::new();
        for (size, salt) in [(small, "s"), (large, "l"), (huge, "h")] {
            self.seed("growth", 100_000.min(size), 3).await;
            let users = users(100_000.min(size));
            self.program("growth", &["post", self.consumes(&users, 20_000, "warm").to_str().unwrap()]);
            let file = self.consumes(&users, size, salt);
            posts.push(self.program("growth", &["post", file.to_str().unwrap()]));
            self.seed("growth", size / 5, 5).await;
            sweeps.push(self.program("growth", &["run", "expiry", "--at", "2026-03-01T00:00:00Z"]));
        }
        for (work, runs) in [("post", &posts), ("sweep", &sweeps)] {
            rows.push(Row {
                work: format!("memory of {work}, {huge} against {large}"),
                measured: format!("{:.1} MB", runs[2].1),
                against: format!("{:.1} MB", runs[1].1),
                ratio: runs[2].1 / runs[1].1,
                least: "< 64 MB, 1",
                aim: "32 MB, 1",
                naive: None,
            });
            let each = |run: (f64, f64), size: u64| run.0 * 1e6 / size as f64;
            let (cost_large, cost_small) = (each(runs[1], large), each(runs[0], small));
            rows.push(Row {
                work: format!("cost of {work}, {large} against {small}"),
                measured: format!("{cost_large:.1} µs each"),
                against: format!("{cost_small:.1} µs each"),
                ratio: cost_large / cost_small,
                least: "< 1.2",
                aim: "1",
                naive: None,
            });
        }
    }
}
