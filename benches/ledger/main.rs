//! Measures pointsd against pgbench and against the row-at-a-time service that it replaces.
//!
//! - One private server runs everything, with the settings that pointsd gives its users.
//! - Each figure is a ratio, because absolute times say little on a shared machine. The work runs between two runs of pgbench
//!   (standard TPC-B script, 16 clients) and is divided by their mean.
//! - Each database is checkpointed and warmed up first: after a load, full-page images and cold caches slow the first
//!   postings.
//! - `--quick` does a tenth of the work.
//!
//! The result is a table, and JSON in target/bench.json.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::float_arithmetic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

mod bare;
mod callers;
mod daemon;
mod growth;
mod http;
mod naive;
mod posting;
mod proof;
mod queue;
mod returned;
mod server;
mod size;
mod sweep;
mod years;

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use server::Bench;

#[tokio::main(worker_threads = 2)]
async fn main() {
    // `cargo bench` adds --bench.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let only = |name: &str| {
        let named: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
        named.is_empty() || named.iter().any(|wanted| *wanted == name)
    };
    let scale: u64 = if quick { 10 } else { 1 };
    // Its ledgers take more than an hour, by estimate 55 GB of disk and 16 of memory, so it must be asked for.
    let years = arguments.iter().any(|argument| argument == "years");
    let settings: &[_] = if years { &years::SETTINGS } else { &[] };
    let bench = Bench::start(if quick { 3 } else { 8 }, settings).await;
    let mut rows = Vec::new();
    if only("bulk") {
        bench.bulk(1_000_000 / scale, 100_000 / scale, &mut rows).await;
    }
    if only("returned") {
        bench.returned(400_000 / scale, 100_000 / scale, &mut rows).await;
    }
    if only("hot") {
        bench.hot(500_000 / scale, &mut rows).await;
    }
    if only("sweep") {
        bench.sweep(1_000_000 / scale, &mut rows).await;
    }
    if only("single") {
        bench.single(&mut rows).await;
    }
    if only("latency") {
        bench.latency(600_000 / scale, &mut rows).await;
    }
    if only("daemon") {
        bench.daemon(if quick { 10 } else { 60 }, &mut rows).await;
    }
    if only("queue") {
        bench.queue(500_000 / scale, &mut rows).await;
    }
    if only("http") {
        bench.http(500_000 / scale, &mut rows).await;
    }
    if only("noop") {
        bench.noop(if quick { 30_000 } else { 100_000 }, &mut rows).await;
    }
    if only("wake") {
        bench.wake(if quick { 200 } else { 1_000 }, &mut rows).await;
    }
    if only("backlog") {
        bench.backlog(1_000_000, Duration::from_secs(if quick { 30 } else { 600 }), &mut rows).await;
    }
    if only("growth") {
        bench.growth(5_000_000 / scale, 1_000_000 / scale, 100_000 / scale, &mut rows).await;
    }
    if only("size") {
        bench.size(500_000 / scale, &mut rows).await;
    }
    if only("proof") {
        bench.proof(1_000_000 / scale, &mut rows).await;
    }
    if years {
        bench.years(1_000_000 / scale, &mut rows).await;
    }
    bench.report(&rows, quick).await;
}

/// One row of the result.
pub struct Row {
    pub work: String,
    pub measured: String,
    pub against: String,
    /// NaN for a figure without a contender.
    pub ratio: f64,
    pub least: &'static str,
    pub aim: &'static str,
    pub naive: Option<f64>,
}

impl Bench {
    async fn report(self, rows: &[Row], quick: bool) {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::UTF8_FULL_CONDENSED);
        table.set_header(["work", "measured", "against", "ratio", "at least", "aim", "× naive"]);
        for row in rows {
            let naive = row.naive.map(|naive| format!("{naive:.0}")).unwrap_or_default();
            let ratio = if row.ratio.is_nan() { String::new() } else { format!("{:.2}", row.ratio) };
            table.add_row([&row.work, &row.measured, &row.against, &ratio, row.least, row.aim, &naive]);
        }
        println!("{table}\npg_test_fsync before: {}; after: {}", self.fsync, self.test_fsync());
        let rows: Vec<Value> = rows.iter().map(Row::json).collect();
        let result = json!({ "quick": quick, "fdatasync": self.fsync, "rows": rows });
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench.json");
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("target can be made");
        std::fs::write(&path, format!("{result:#}\n")).expect("target can be written");
        println!("The same as JSON: target/bench.json");
        self.server.stop().await.expect("the server stops");
        std::fs::remove_dir_all(&self.directory).expect("the bench's folder can be removed");
    }
}

impl Row {
    pub fn new(
        work: impl Into<String>,
        measured: String,
        against: String,
        ratio: f64,
        (least, aim): (&'static str, &'static str),
    ) -> Row {
        Row { work: work.into(), measured, against, ratio, least, aim, naive: None }
    }

    pub fn rate(
        work: &str,
        count: u64,
        seconds: f64,
        pgbench: f64,
        aims: (&'static str, &'static str),
        naive: Option<f64>,
    ) -> Row {
        let rate = count as f64 / seconds;
        let (measured, against) = (format!("{rate:.0}/s"), format!("pgbench {pgbench:.0}/s"));
        let times_naive = naive.map(|naive| rate / naive);
        eprintln!("{work}: {rate:.0}/s, pgbench {pgbench:.0}/s, naive {:.0}/s", naive.unwrap_or_default());
        Row { naive: times_naive, ..Row::new(work, measured, against, rate / pgbench, aims) }
    }

    fn json(&self) -> Value {
        json!({
            "work": self.work, "measured": self.measured, "against": self.against, "ratio": self.ratio,
            "at_least": self.least, "aim": self.aim, "times_naive": self.naive,
        })
    }
}
