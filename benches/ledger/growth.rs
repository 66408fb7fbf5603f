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
            rows.push(Row::new(
                format!("memory of {work}, {huge} against {large}"),
                format!("{:.1} MB", runs[2].1),
                format!("{:.1} MB", runs[1].1),
                runs[2].1 / runs[1].1,
                ("< 64 MB, 1", "32 MB, 1"),
            ));
            let each = |run: (f64, f64), size: u64| run.0 * 1e6 / size as f64;
            let (cost_large, cost_small) = (each(runs[1], large), each(runs[0], small));
            rows.push(Row::new(
                format!("cost of {work}, {large} against {small}"),
                format!("{cost_large:.1} µs each"),
                format!("{cost_small:.1} µs each"),
                cost_large / cost_small,
                ("< 1.2", "1"),
            ));
        }
    }
}
