//! Measures pointsd against pgbench and against the row-at-a-time service that it replaces.
//!
//! - One private server runs everything, with the settings that pointsd gives its users.
//! - Each figure is a ratio, because absolute times say little on a shared machine. The work runs between two runs of pgbench
//!   (standard TPC-B script, 16 clients) and is divided by their mean.
//! - Each database is checkpointed and warmed up first: after a load, full-page images and cold caches slow the first
//!   postings.
//! - `--quick` does a tenth of the work.
//!
//! The result is a table in Markdown, as docs/bench.md has it, and JSON in target/bench.json.
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
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use server::Bench;

/// The benches, in the order in which they run.
const NAMES: [&str; 16] = [
    "bulk", "returned", "hot", "sweep", "single", "latency", "daemon", "queue", "http", "noop", "wake", "backlog",
    "growth", "size", "proof", YEARS,
];
/// Its ledgers take more than an hour, by estimate 55 GB of disk and 16 of memory, so it must be asked for.
const YEARS: &str = "years";

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    // `cargo bench` adds --bench.
    let arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (quick, named): (Vec<String>, Vec<String>) = arguments.partition(|argument| argument == "--quick");
    let quick = !quick.is_empty();
    if let Some(unknown) = named.iter().find(|name| !NAMES.contains(&name.as_str())) {
        eprintln!("there is no bench {unknown}; there are: {}; --quick does a tenth of the work", NAMES.join(" "));
        return ExitCode::from(2);
    }
    let is_wanted = |name: &str| match named.is_empty() {
        true => name != YEARS,
        false => named.iter().any(|wanted| wanted == name),
    };
    let settings: &[_] = if is_wanted(YEARS) { &years::SETTINGS } else { &[] };
    let bench = Bench::start(if quick { 3 } else { 8 }, settings).await;
    let mut rows = Vec::new();
    for name in NAMES.into_iter().filter(|name| is_wanted(name)) {
        bench.run(name, quick, &mut rows).await;
    }
    bench.report(&rows, quick);
    ExitCode::SUCCESS
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
    /// Runs one of the benches.
    async fn run(&self, name: &str, quick: bool, rows: &mut Vec<Row>) {
        let scale: u64 = if quick { 10 } else { 1 };
        match name {
            "bulk" => self.bulk(1_000_000 / scale, 100_000 / scale, rows).await,
            "returned" => self.returned(400_000 / scale, 100_000 / scale, rows).await,
            "hot" => self.hot(500_000 / scale, rows).await,
            "sweep" => self.sweep(1_000_000 / scale, rows).await,
            "single" => self.single(rows).await,
            "latency" => self.latency(600_000 / scale, rows).await,
            "daemon" => self.daemon(if quick { 10 } else { 60 }, rows).await,
            "queue" => self.queue(500_000 / scale, rows).await,
            "http" => self.http(500_000 / scale, rows).await,
            "noop" => self.noop(if quick { 30_000 } else { 100_000 }, rows).await,
            "wake" => self.wake(if quick { 200 } else { 1_000 }, rows).await,
            "backlog" => self.backlog(1_000_000, Duration::from_secs(if quick { 30 } else { 600 }), rows).await,
            "growth" => self.growth(5_000_000 / scale, 1_000_000 / scale, 100_000 / scale, rows).await,
            "size" => self.size(500_000 / scale, rows).await,
            "proof" => self.proof(1_000_000 / scale, rows).await,
            YEARS => self.years(1_000_000 / scale, rows).await,
            name => unreachable!("{name} is in NAMES alone"),
        }
    }

    fn report(&self, rows: &[Row], quick: bool) {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::ASCII_MARKDOWN);
        table.set_header(["work", "measured", "beside it", "ratio", "at least", "aim", "× naive"]);
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
