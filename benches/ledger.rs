//! Measures the ledger against PostgreSQL's own limit, and against the row-at-a-time service that it replaces.
//!
//! Everything runs on one private server with the settings that pointsd gives its users. Absolute times say little on
//! a shared machine with a moody disk, so each figure is a ratio: the work stands between two runs of pgbench (standard
//! TPC-B script, 16 clients), and is divided by their mean. The first postings after a load are slower (full-page
//! images after a checkpoint, cold caches), so each database is checkpointed and warmed up before its figure is taken.
//!
//! `--quick` does a tenth of the work; the two sizes that prove that memory and cost do not grow are then 10,000 and
//! 100,000 lines. Results: a table, and JSON in target/bench.json.
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

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use pointsd::config;
use pointsd::database::embedded::{EmbeddedServer, Options};
use pointsd::database::{Database, Settings};
use pointsd::language::Language;
use pointsd::ledger::{Life, Poster, Posting, Rules, Session};
use pointsd::proof::{Proof, ProofRun, prove};
use pointsd::requests::{self, Stats};
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The clients that pgbench and the single callers have.
const CLIENTS: usize = 16;
/// When every seeded batch was opened; its points expire within the ten days after `EXPIRES`.
const OPENED: &str = "2026-01-01T00:00:00Z";
const EXPIRES: &str = "2026-02-01T00:00:00Z";

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
    let bench = Bench::start(if quick { 3 } else { 8 }).await;
    let mut rows = Vec::new();
    if only("bulk") {
        bench.bulk(1_000_000 / scale, 100_000 / scale, &mut rows).await;
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
    if only("proof") {
        bench.proof(1_000_000 / scale, &mut rows).await;
    }
    bench.report(&rows, quick).await;
}

/// One line of the result.
struct Row {
    work: String,
    measured: String,
    against: String,
    /// NaN where there is nothing to divide by.
    ratio: f64,
    least: &'static str,
    aim: &'static str,
    naive: Option<f64>,
}

struct Bench {
    server: EmbeddedServer,
    directory: PathBuf,
    rules: Arc<Rules>,
    pgbench_seconds: u64,
    fsync: String,
}

impl Bench {
    async fn start(pgbench_seconds: u64) -> Bench {
        let directory = std::env::temp_dir().join(format!("pointsd-bench-{}", std::process::id()));
        let options = Options { state_dir: directory.clone(), bin: None, extra: Vec::new() };
        let server = EmbeddedServer::start(options).await.expect("a private PostgreSQL");
        let rules =
            Rules { recharge_sources: ["gift".to_owned()].into(), life: Life::Days(180), language: Language::English };
        let mut bench = Bench { server, directory, rules: Arc::new(rules), pgbench_seconds, fsync: String::new() };
        bench.fsync = bench.test_fsync();
        bench.create("pgbench").await;
        bench.tool("pgbench", &["-i", "-q", "-s", "16", "pgbench"]);
        bench.pgbench();
        bench
    }

    fn tool(&self, name: &str, arguments: &[&str]) -> String {
        let output = Command::new(self.server.bin_dir().join(name))
            .args(arguments)
            .env("PGHOST", self.server.socket_dir())
            .env("PGUSER", "pointsd")
            .output()
            .unwrap_or_else(|error| panic!("{name}: {error}; script/setup installs it"));
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What an fdatasync of 8 kB costs on this disk now, in the words of pg_test_fsync.
    fn test_fsync(&self) -> String {
        let file = self.directory.join("fsync");
        let output = self.tool("pg_test_fsync", &["-s", "1", "-f", file.to_str().unwrap()]);
        let line = output.lines().find(|line| line.trim_start().starts_with("fdatasync")).unwrap_or_default();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// TPC-B transactions per second at 16 clients.
    fn pgbench(&self) -> f64 {
        let (clients, seconds) = (CLIENTS.to_string(), self.pgbench_seconds.to_string());
        let output = self.tool("pgbench", &["-n", "-c", &clients, "-j", "2", "-T", &seconds, "pgbench"]);
        let line = output.lines().find(|line| line.starts_with("tps = ")).expect("pgbench tells its rate");
        line.split_whitespace().nth(2).unwrap().parse().unwrap()
    }

    async fn create(&self, database: &str) {
        let client = self.client("pointsd").await;
        client.batch_execute(&format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)")).await.unwrap();
        client.batch_execute(&format!("CREATE DATABASE {database}")).await.unwrap();
    }

    async fn client(&self, database: &str) -> Client {
        let mut config = self.server.config();
        config.dbname(database);
        let (client, connection) = config.connect(NoTls).await.expect("a connection");
        tokio::spawn(connection);
        client
    }

    fn url(&self, database: &str) -> String {
        let socket = self.server.socket_dir().to_str().unwrap().replace('/', "%2F");
        format!("postgres://pointsd@{socket}/{database}")
    }

    async fn database(&self, name: &str) -> Database {
        let settings = Settings {
            url: Some(self.url(name)),
            ca_file: None,
            pool_size: 32,
            connect_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(3_600),
            state_dir: self.directory.clone(),
            postgres_bin: None,
        };
        Database::open(&settings).await.expect("the database")
    }

    /// A database of accounts with so many open batches of 1,000 points each, as their recharges would have left them.
    async fn seed(&self, name: &str, accounts: u64, batches: u64) -> Client {
        self.create(name).await;
        self.database(name).await.migrate().await.expect("the schema");
        let client = self.client(name).await;
        let seed = format!(
            "INSERT INTO pointsd.accounts
             SELECT md5(i::text)::uuid, {batches} * 1000, {batches} * 1000, 0, 0, {batches}, {batches}
             FROM generate_series(1, {accounts}) AS i;
             INSERT INTO pointsd.batches (user_id, batch, amount, remaining, opened_at, expires_at, open, source)
             SELECT md5(i::text)::uuid, b, 1000, 1000, '{OPENED}', '{EXPIRES}'::timestamptz + b * interval '1 day', true, 'gift'
             FROM generate_series(1, {batches}) AS b, generate_series(1, {accounts}) AS i;
             INSERT INTO pointsd.entries (user_id, seq, type, amount, balance_before, balance_after, source_type, batch,
                 at, description, key, drawing_rule, allocated_batches, allocated_points)
             SELECT md5(i::text)::uuid, b, 'recharge', 1000, (b - 1) * 1000, b * 1000, 'gift', b,
                 '{OPENED}', 'Recharge by gift', gen_random_uuid(), 1, '{{}}', '{{}}'
             FROM generate_series(1, {batches}) AS b, generate_series(1, {accounts}) AS i;
             "
        );
        client.batch_execute(&seed).await.expect("the seed");
        client.batch_execute("VACUUM (ANALYZE) pointsd.accounts").await.unwrap();
        client.batch_execute("VACUUM (ANALYZE) pointsd.batches").await.unwrap();
        client.batch_execute("VACUUM (ANALYZE) pointsd.entries").await.unwrap();
        client.batch_execute("CHECKPOINT").await.unwrap();
        client
    }

    /// A file of consumes of 1 to 20 points over the accounts `first..first + accounts`, at random. The lines are told
    /// apart from those of other files by `salt`.
    fn consumes(&self, users: &[Uuid], lines: u64, salt: &str) -> PathBuf {
        let path = self.directory.join("consumes.ndjson");
        let mut file = BufWriter::new(File::create(&path).unwrap());
        let mut random = fastrand::Rng::with_seed(lines);
        for line in 0..lines {
            let (user, points) = (random.choice(users).unwrap(), random.u32(1..=20));
            writeln!(
                file,
                r#"{{"op":"consume","user":"{user}","points":{points},"source_type":"tts","source_id":"{salt}-{line}","at":"2026-01-15T00:00:00Z"}}"#
            )
            .unwrap();
        }
        file.flush().unwrap();
        path
    }

    /// Runs the program itself; returns how long it took and the most memory that it had, in MB.
    fn program(&self, database: &str, arguments: &[&str]) -> (f64, f64) {
        let began = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_pointsd"))
            .args(["--json", "--database-url", &self.url(database)])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("pointsd starts");
        // The kernel's own high-water mark; read while the process is there, the last reading counts.
        let mut peak = 0.0;
        let status = loop {
            peak = high_water(child.id()).unwrap_or(peak);
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        assert!(status.success(), "pointsd {arguments:?}: {status}");
        (began.elapsed().as_secs_f64(), peak)
    }

    async fn bulk(&self, lines: u64, accounts: u64, rows: &mut Vec<Row>) {
        let client = self.seed("bulk", accounts, 3).await;
        let users = users(accounts);
        self.program("bulk", &["post", self.consumes(&users, lines / 20, "warm").to_str().unwrap()]);
        let file = self.consumes(&users, lines, "work");
        let (seconds, around) = self.between(|| self.program("bulk", &["post", file.to_str().unwrap()]).0);
        let naive = naive_consume(&client, &users, "naive").await;
        rows.push(Row::rate("bulk consume", lines, seconds, around, ("3.5", "5"), Some(naive)));
    }

    async fn hot(&self, lines: u64, rows: &mut Vec<Row>) {
        let client = self.seed("hot", 1, 3).await;
        client.batch_execute("UPDATE pointsd.batches SET amount = 100000000, remaining = 100000000").await.unwrap();
        client
            .batch_execute("UPDATE pointsd.accounts SET balance = 300000000, total_recharged = 300000000")
            .await
            .unwrap();
        let users = users(1);
        self.program("hot", &["post", self.consumes(&users, lines / 20, "warm").to_str().unwrap()]);
        let file = self.consumes(&users, lines, "work");
        let (seconds, around) = self.between(|| self.program("hot", &["post", file.to_str().unwrap()]).0);
        let naive = naive_consume(&client, &users, "naive").await;
        rows.push(Row::rate("bulk consume, one hot account", lines, seconds, around, ("8", "20"), Some(naive)));
    }

    async fn sweep(&self, batches: u64, rows: &mut Vec<Row>) {
        let client = self.seed("sweep", batches / 5, 5).await;
        let naive = naive_expiry(&client, 2_000).await;
        self.seed("sweep", batches / 5, 5).await;
        let at = "2026-03-01T00:00:00Z";
        let (seconds, around) = self.between(|| self.program("sweep", &["run", "expiry", "--at", at]).0);
        rows.push(Row::rate("sweep", batches, seconds, around, ("10", "20"), Some(naive)));
    }

    async fn single(&self, rows: &mut Vec<Row>) {
        self.seed("single", 20_000, 3).await;
        let database = self.database("single").await;
        let poster = Poster::start(&database, &self.rules, 2);
        let users = users(20_000);
        let seconds = self.pgbench_seconds;
        callers(&poster, &users, "warm", Duration::from_secs(2)).await;
        let before = self.pgbench();
        let posted = callers(&poster, &users, "work", Duration::from_secs(seconds)).await.len() as u64;
        let around = f64::midpoint(before, self.pgbench());
        let mut naive = Vec::new();
        for caller in 0..CLIENTS {
            let (client, users) = (self.client("single").await, users.clone());
            naive.push(tokio::spawn(async move { naive_consume(&client, &users, &format!("naive{caller}")).await }));
        }
        let mut rate = 0.0;
        for caller in naive {
            rate += caller.await.unwrap();
        }
        let work = "single consumes, 16 callers";
        rows.push(Row::rate(work, posted, seconds as f64, around, ("0.5", "1.5"), Some(rate)));
    }

    async fn latency(&self, batches: u64, rows: &mut Vec<Row>) {
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
        rows.push(Row {
            work: "p99 of single consumes during the sweep".into(),
            measured: format!("{:.2} ms", during * 1e3),
            against: format!("{:.2} ms without", alone * 1e3),
            ratio: during / alone,
            least: "< 3",
            aim: "1.5",
            naive: None,
        });
    }

    /// What an idle daemon costs, and how quickly it is there and gone.
    async fn daemon(&self, idle_seconds: u64, rows: &mut Vec<Row>) {
        self.create("daemon").await;
        self.database("daemon").await.migrate().await.expect("the schema");
        let socket = self.directory.join("notify");
        let (mut ready, mut gone) = (Vec::new(), Vec::new());
        let (mut memory, mut share) = (0.0, 0.0);
        for round in 0..5 {
            std::fs::remove_file(&socket).ok();
            let listener = UnixDatagram::bind(&socket).unwrap();
            let began = Instant::now();
            let mut child = Command::new(env!("CARGO_BIN_EXE_pointsd"))
                .args(["serve", "--database-url", &self.url("daemon")])
                .env("NOTIFY_SOCKET", &socket)
                .stderr(Stdio::null())
                .spawn()
                .expect("pointsd starts");
            let mut message = [0; 4_096];
            while !String::from_utf8_lossy(&message).contains("READY=1") {
                message = [0; 4_096];
                listener.recv(&mut message).unwrap();
            }
            ready.push(began.elapsed().as_secs_f64());
            if round == 0 {
                let before = cpu_seconds(child.id());
                std::thread::sleep(Duration::from_secs(idle_seconds));
                share = (cpu_seconds(child.id()) - before) / idle_seconds as f64;
                memory = high_water(child.id()).unwrap();
            }
            let began = Instant::now();
            let pid = child.id().to_string();
            assert!(Command::new("kill").arg(pid).status().unwrap().success());
            assert!(child.wait().unwrap().success());
            gone.push(began.elapsed().as_secs_f64());
        }
        for (work, text, least) in [
            ("idle daemon, memory at its peak", format!("{memory:.1} MB"), "< 25 MB"),
            ("idle daemon, share of a core", format!("{:.2} %", share * 100.0), "< 0.5 %"),
            ("start to READY, migrated, median", format!("{:.0} ms", median(&mut ready) * 1e3), "< 300 ms"),
            ("SIGTERM to exit, idle, median", format!("{:.0} ms", median(&mut gone) * 1e3), "< 1 s"),
        ] {
            eprintln!("{work}: {text}");
            rows.push(Row {
                work: work.into(),
                measured: text,
                against: String::new(),
                ratio: f64::NAN,
                least,
                aim: "",
                naive: None,
            });
        }
    }

    /// Requests that applications inserted beforehand.
    async fn queue(&self, requests: u64, rows: &mut Vec<Row>) {
        let client = self.seed("queue", 100_000, 3).await;
        enqueue(&client, requests / 10, "warm").await;
        Queue::start(self, "queue").await.until_done(requests / 10).await;
        enqueue(&client, requests, "work").await;
        client.batch_execute("CHECKPOINT").await.unwrap();
        let before = self.pgbench();
        let queue = Queue::start(self, "queue").await;
        let began = Instant::now();
        queue.until_done(requests).await;
        let seconds = began.elapsed().as_secs_f64();
        let around = f64::midpoint(before, self.pgbench());
        rows.push(Row::rate("requests, enqueued to posted", requests, seconds, around, ("2.5", "5"), None));
    }

    /// Requests that do nothing to the ledger (0 points: each is refused, and keeps that as its outcome) beside the no-op
    /// jobs of two other job runners, all three in turns; see benches/peers.
    async fn noop(&self, jobs: u64, rows: &mut Vec<Row>) {
        let peers = build_peers();
        let contenders = ["pointsd", "graphile_worker", "riverqueue"];
        let mut rates = contenders.map(|_| Vec::new());
        for _ in 0..3 {
            for (contender, rates) in contenders.iter().zip(&mut rates) {
                let rate = match *contender {
                    "pointsd" => self.noop_requests(jobs).await,
                    peer => self.noop_jobs(&peers, peer, jobs).await,
                };
                eprintln!("no-op jobs, {contender}: {rate:.0}/s");
                rates.push(rate);
            }
        }
        let [ours, graphile, river] = &mut rates;
        let (ours, graphile, river) = (median(ours), median(graphile), median(river));
        rows.push(Row {
            work: "no-op requests, beside the better of two peers".into(),
            measured: format!("{ours:.0}/s"),
            against: format!("graphile_worker {graphile:.0}/s, riverqueue {river:.0}/s"),
            ratio: ours / graphile.max(river),
            least: "1",
            aim: "",
            naive: None,
        });
    }

    async fn noop_requests(&self, jobs: u64) -> f64 {
        self.create("noop").await;
        self.database("noop").await.migrate().await.expect("the schema");
        let client = self.client("noop").await;
        let insert = format!(
            "INSERT INTO pointsd.requests (op, user_id, points, source_type, source_id)
             SELECT 'consume', md5(i::text)::uuid, 0, 'tts', i::text FROM generate_series(1, {jobs}) AS i"
        );
        client.batch_execute(&insert).await.expect("the requests");
        client.batch_execute("VACUUM (ANALYZE) pointsd.requests_open").await.unwrap();
        let began = Instant::now();
        let queue = Queue::start(self, "noop").await;
        while queue.stats.refused() < jobs {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let seconds = began.elapsed().as_secs_f64();
        queue.stop.cancel();
        queue.task.await.unwrap();
        let open = client.query_one("SELECT count(*) FROM pointsd.requests_open", &[]).await.unwrap();
        assert_eq!(open.get::<_, i64>(0), 0, "all are over");
        jobs as f64 / seconds
    }

    async fn noop_jobs(&self, program: &Path, peer: &str, jobs: u64) -> f64 {
        self.create("noop").await;
        let output = Command::new(program)
            .args(["--database-url", &self.url("noop"), "--peer", peer, "--jobs", &jobs.to_string()])
            .output()
            .expect("the peers' program runs");
        assert!(output.status.success(), "{peer}: {}", String::from_utf8_lossy(&output.stderr));
        let answer: Value = serde_json::from_slice(&output.stdout).expect("the peers' program answers in JSON");
        answer["rate"].as_f64().expect("a rate")
    }

    /// One request at a time, to a server of the queue that sleeps.
    async fn wake(&self, requests: u32, rows: &mut Vec<Row>) {
        let client = self.seed("wake", 1_000, 3).await;
        let queue = Queue::start(self, "wake").await;
        let user = users(1)[0];
        let enqueue =
            "SELECT pointsd.enqueue('consume', $1, 1, source_type => 'tts', source_id => $2, at => '2026-01-15Z')";
        let enqueue = client.prepare(enqueue).await.unwrap();
        let posted = client.prepare("SELECT FROM pointsd.requests_done WHERE id = $1").await.unwrap();
        let mut latencies = Vec::new();
        for nth in 0..requests {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let id: i64 = client.query_one(&enqueue, &[&user, &nth.to_string()]).await.unwrap().get(0);
            let committed = Instant::now();
            while client.query_opt(&posted, &[&id]).await.unwrap().is_none() {}
            latencies.push(committed.elapsed().as_secs_f64());
        }
        queue.until_done(u64::from(requests)).await;
        latencies.sort_by(f64::total_cmp);
        let middle = latencies[latencies.len() / 2] * 1e3;
        rows.push(Row {
            work: "COMMIT to posted, the queue's server idle".into(),
            measured: format!("p50 {middle:.1} ms"),
            against: format!("p99 {:.1} ms", percentile_99(latencies) * 1e3),
            ratio: f64::NAN,
            least: "< 20 ms",
            aim: "",
            naive: None,
        });
    }

    /// How long it takes to take the next group, by how much waits behind it and by how much went before it.
    async fn backlog(&self, large: u64, steady: Duration, rows: &mut Vec<Row>) {
        let small = large / 100;
        let client = self.seed("backlog", 100_000, 3).await;
        enqueue(&client, small * 3, "warm").await;
        Queue::start(self, "backlog").await.until_done(small * 3).await;
        let beginning = self.taking(&client, small, 10, "small").await;
        let huge = self.taking(&client, large, 1, "large").await;
        let again = self.taking(&client, small, 10, "again").await;
        let mut row = |work: String, measured: f64, against: f64| {
            rows.push(Row {
                work,
                measured: format!("{:.2} ms", measured * 1e3),
                against: format!("{:.2} ms", against * 1e3),
                ratio: measured / against,
                least: "< 1.2",
                aim: "1",
                naive: None,
            });
        };
        row(format!("taking a group of a backlog of {large} against {small}"), huge, f64::midpoint(beginning, again));

        let before = self.taking(&client, small, 10, "before").await;
        let queue = Queue::start(self, "backlog").await;
        let began = Instant::now();
        let mut round = 0;
        while began.elapsed() < steady {
            // 2,000 a second, in twenties.
            enqueue(&client, 20, &format!("steady{round}")).await;
            round += 1;
            tokio::time::sleep_until((began + Duration::from_millis(10 * round)).into()).await;
        }
        let stats = queue.until_done(20 * round).await;
        let after = self.taking(&client, small, 10, "after").await;
        let dead = "SELECT pg_relation_size('pointsd.requests_open')::bigint / 1024,
                           pg_relation_size('jobs.requests_open_pkey')::bigint / 1024";
        let size = client.query_one(dead, &[]).await.unwrap();
        let (table, index): (i64, i64) = (size.get(0), size.get(1));
        eprintln!("steady load: {} requests; then the open part has {table} kB, its index {index} kB", stats.posted());
        row(format!("taking a group after {} s of 2,000/s", steady.as_secs()), after, before);
    }

    /// Seconds to take a group, on average over backlogs of this size that are worked off.
    async fn taking(&self, client: &Client, requests: u64, rounds: u32, salt: &str) -> f64 {
        let (mut groups, mut taking) = (0, Duration::ZERO);
        for round in 0..rounds {
            enqueue(client, requests, &format!("{salt}{round}")).await;
            let done = Queue::start(self, "backlog").await.until_done(requests).await.groups();
            groups += done.0;
            taking += done.1;
        }
        taking.as_secs_f64() / groups as f64
    }

    /// The proof of a ledger with five batches and twenty entries an account, which lie in the order of time.
    async fn proof(&self, accounts: u64, rows: &mut Vec<Row>) {
        self.create("proof").await;
        let database = self.database("proof").await;
        database.migrate().await.expect("the schema");
        let client = self.client("proof").await;
        client.batch_execute(&HISTORY.replace("$ACCOUNTS", &accounts.to_string())).await.expect("the histories");
        for table in ["accounts", "batches", "entries"] {
            client.batch_execute(&format!("VACUUM (ANALYZE) ledger.{table}")).await.unwrap();
        }
        client.batch_execute("CHECKPOINT").await.unwrap();
        bare(&client).await;
        let before = bare(&client).await;
        let first = self.proved(true).await;
        client.batch_execute("VACUUM (ANALYZE) pointsd.checkpoints").await.unwrap();
        let mut ratios = Vec::new();
        let (mut full, mut around) = (0.0, bare(&client).await);
        let mut aggregates = f64::midpoint(before, around);
        rows.push(Row {
            work: format!("first proof of {accounts} accounts"),
            measured: format!("{first:.1} s"),
            against: format!("bare aggregates {aggregates:.1} s"),
            ratio: first / aggregates,
            least: "",
            aim: "",
            naive: None,
        });
        for _ in 0..3 {
            full = self.proved(true).await;
            let after = bare(&client).await;
            aggregates = f64::midpoint(around, after);
            around = after;
            ratios.push(full / aggregates);
        }
        rows.push(Row {
            work: format!("full proof of {accounts} accounts, median of 3"),
            measured: format!("{full:.1} s (last)"),
            against: format!("bare aggregates {aggregates:.1} s (last)"),
            ratio: median(&mut ratios),
            least: "< 3",
            aim: "1.5",
            naive: None,
        });
        let changed = users(accounts / 100);
        let (mut ratios, mut nightly) = (Vec::new(), 0.0);
        for night in ["first", "second", "third"] {
            self.program("proof", &["post", self.consumes(&changed, accounts / 50, night).to_str().unwrap()]);
            nightly = self.proved(false).await;
            ratios.push(nightly / full);
        }
        rows.push(Row {
            work: "nightly proof after 1 % of the accounts changed, median of 3".into(),
            measured: format!("{nightly:.2} s (last)"),
            against: format!("the full one {full:.1} s"),
            ratio: median(&mut ratios),
            least: "< 0.05",
            aim: "",
            naive: None,
        });
        self.proof_beside(&database, accounts, rows).await;
        // The first run closes all days there are; a night's closes one. Slots of a Wednesday: what changed is proved.
        self.program("proof", &["run", "reconciliation", "--at", "2026-11-18T04:30:00Z"]);
        self.program("proof", &["post", self.consumes(&changed, accounts / 50, "again").to_str().unwrap()]);
        for (work, arguments) in [
            (
                "the whole nightly run after 1 % changed, with balances, batches and report",
                &["run", "reconciliation", "--at", "2026-11-18T04:30:01Z"][..],
            ),
            ("the whole weekly run, all business days anew and the report", &["run", "reconciliation", "--full"]),
        ] {
            let (seconds, peak) = self.program("proof", arguments);
            rows.push(Row {
                work: work.into(),
                measured: format!("{seconds:.1} s, {peak:.1} MB"),
                against: format!("bare aggregates {aggregates:.1} s"),
                ratio: seconds / aggregates,
                least: "64 MB",
                aim: "",
                naive: None,
            });
        }
    }

    /// What single postings notice of a full proof.
    async fn proof_beside(&self, database: &Database, accounts: u64, rows: &mut Vec<Row>) {
        let poster = Poster::start(database, &self.rules, 2);
        let users = Arc::new(users(accounts));
        callers_at_ease(&poster, &users, "warm", Duration::from_secs(2)).await;
        let alone = callers_at_ease(&poster, &users, "alone", Duration::from_secs(10)).await;
        let done = std::sync::atomic::AtomicBool::new(false);
        let proof = async {
            self.proved(true).await;
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
        rows.push(Row {
            work: "p99 of single consumes during a full proof".into(),
            measured: format!("{:.2} ms", during * 1e3),
            against: format!("{:.2} ms without", alone * 1e3),
            ratio: during / alone,
            least: "< 1.5",
            aim: "",
            naive: None,
        });
    }

    /// Seconds that a proof takes; nothing may be found.
    async fn proved(&self, full: bool) -> f64 {
        let mut client = self.client("proof").await;
        let began = Instant::now();
        let proof = prove(&mut client, &Nobody, full, Proof::default(), |_| true).await.expect("the proof");
        let seconds = began.elapsed().as_secs_f64();
        assert_eq!((proof.findings, proof.stopped), (0, false), "{proof:?}");
        eprintln!("proved {} accounts, {} entries in {seconds:.2} s", proof.accounts, proof.entries);
        seconds
    }

    async fn growth(&self, huge: u64, large: u64, small: u64, rows: &mut Vec<Row>) {
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

    /// Runs `work` between two runs of pgbench; returns what it returns, and their mean rate.
    fn between<T>(&self, work: impl FnOnce() -> T) -> (T, f64) {
        let before = self.pgbench();
        let result = work();
        (result, f64::midpoint(before, self.pgbench()))
    }

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
    fn rate(
        work: &str,
        count: u64,
        seconds: f64,
        pgbench: f64,
        (least, aim): (&'static str, &'static str),
        naive: Option<f64>,
    ) -> Row {
        let rate = count as f64 / seconds;
        let row = Row {
            work: work.into(),
            measured: format!("{rate:.0}/s"),
            against: format!("pgbench {pgbench:.0}/s"),
            ratio: rate / pgbench,
            least,
            aim,
            naive: naive.map(|naive| rate / naive),
        };
        eprintln!("{work}: {rate:.0}/s, pgbench {pgbench:.0}/s, naive {:.0}/s", naive.unwrap_or_default());
        row
    }

    fn json(&self) -> Value {
        json!({
            "work": self.work, "measured": self.measured, "against": self.against, "ratio": self.ratio,
            "at_least": self.least, "aim": self.aim, "times_naive": self.naive,
        })
    }
}

/// Whom the bench's proofs are for.
struct Nobody;

impl ProofRun for Nobody {
    fn run(&self) -> i64 {
        1
    }

    async fn keep(&self, _: &Client, _: &Proof, _: (u64, u64)) -> Result<(), tokio_postgres::Error> {
        Ok(())
    }
}

/// Seconds that the sums by source and type over the three tables take, one after the other, each a scan by one process.
async fn bare(client: &Client) -> f64 {
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

/// Accounts with five recharges of 90 points, each followed by three consumes of 25, soonest expiry first. The entries lie
/// in the table in the order of time, five days from one of an account to the next, those of all accounts mixed.
/// The indexes are made afterwards, which is much faster.
const HISTORY: &str = "
ALTER TABLE pointsd.entries DROP CONSTRAINT entries_pkey;
ALTER TABLE pointsd.batches DROP CONSTRAINT batches_pkey;
DROP INDEX ledger.entries_key_once, ledger.batches_open_by_user, ledger.batches_open_by_expiry;
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
            at, recorded_at, description, duration, key, drawing_rule, allocated_batches, allocated_points)
        SELECT md5(i::text)::uuid, seq, CASE WHEN opens THEN 'recharge' ELSE 'consume' END, amount, before,
               before + CASE WHEN opens THEN amount ELSE -amount END,
               CASE WHEN opens THEN (ARRAY['wxpay', 'card', 'gift', 'invite'])[1 + (i + nth) % 4] ELSE 'script' END,
               CASE WHEN opens THEN i::text ELSE 'task-' || i || '-' || seq END, CASE WHEN opens THEN nth END,
               '2026-01-01T00:00:00Z'::timestamptz + (seq - 1) * interval '5 days' + i * interval '1 ms',
               '2026-01-01T00:00:00Z'::timestamptz + (seq - 1) * interval '5 days'
                   + row_number() OVER (ORDER BY md5(i::text || s)) * interval '400 ms',
               CASE WHEN opens THEN 'Recharge, order ' || i ELSE 'Use of script, task-' || i || '-' || seq END,
               CASE WHEN NOT opens THEN 35.5 END, gen_random_uuid(), 1, batches, points
        FROM shape, generate_series(1, $ACCOUNTS) AS i WHERE seq = s ORDER BY md5(i::text || s);
    END LOOP;
END $$;
ALTER TABLE pointsd.entries ADD CONSTRAINT entries_pkey PRIMARY KEY (user_id, seq);
ALTER TABLE pointsd.batches ADD CONSTRAINT batches_pkey PRIMARY KEY (user_id, batch);
CREATE UNIQUE INDEX entries_key_once ON pointsd.entries (user_id, key) WHERE key IS NOT NULL;
CREATE INDEX batches_open_by_user ON pointsd.batches (user_id, expires_at) WHERE open;
CREATE INDEX batches_open_by_expiry ON pointsd.batches (expires_at) INCLUDE (user_id) WHERE open;
";

/// A server of the queue, as the daemon has one.
struct Queue {
    stats: Arc<Stats>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Queue {
    async fn start(bench: &Bench, database: &str) -> Queue {
        let database = bench.database(database).await;
        let (stats, stop) = (Arc::new(Stats::default()), CancellationToken::new());
        let (_, rules) = tokio::sync::watch::channel(Arc::clone(&bench.rules));
        let second = Duration::from_secs(1);
        let settings = config::Requests { enabled: true, poll: 5 * second, retries: 8, retry_pause: 5 * second };
        let (kept, stopped) = (Arc::clone(&stats), stop.clone());
        let task = tokio::spawn(async move { requests::serve(&database, rules, settings, kept, stopped).await });
        Queue { stats, stop, task }
    }

    /// Waits for so many requests, without looking at their table: that would clean up behind them.
    async fn until_done(self, requests: u64) -> Arc<Stats> {
        while self.stats.posted() < requests {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.stop.cancel();
        self.task.await.unwrap();
        assert_eq!(self.stats.posted(), requests);
        self.stats
    }
}

/// The program that runs the peers. Its dependencies are its own, and so is its build.
fn build_peers() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers");
    let built = Command::new("cargo")
        .args(["build", "--release", "--locked", "--quiet", "--manifest-path"])
        .arg(folder.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .status();
    assert!(built.expect("cargo runs").success(), "the peers' program cannot be built");
    target.join("release/peers")
}

/// Inserts consumes of 1 to 20 points over the 100,000 accounts.
async fn enqueue(client: &Client, requests: u64, salt: &str) {
    let insert = format!(
        "INSERT INTO pointsd.requests (op, user_id, points, source_type, source_id, at)
         SELECT 'consume', md5((1 + floor(random() * 100000))::bigint::text)::uuid, 1 + floor(random() * 20)::bigint,
                'tts', '{salt}-' || i, '2026-01-15T00:00:00Z'
         FROM generate_series(1, {requests}) AS i"
    );
    client.batch_execute(&insert).await.expect("the requests");
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// The users that `Bench::seed` makes: md5 of their numbers.
fn users(accounts: u64) -> Vec<Uuid> {
    (1..=accounts).map(|number| Uuid::from_bytes(md5::compute(number.to_string()).0)).collect()
}

/// The most memory that a living process has had, in MB.
fn high_water(process: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}

/// Seconds of processor time that a process has used.
fn cpu_seconds(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // User and system time, in ticks of a hundredth of a second.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn percentile_99(mut latencies: Vec<f64>) -> f64 {
    latencies.sort_by(f64::total_cmp);
    latencies[latencies.len() * 99 / 100]
}

/// Sixteen callers, each posting the next when the last is answered. Returns every latency in seconds.
async fn callers(poster: &Poster, users: &[Uuid], salt: &str, how_long: Duration) -> Vec<f64> {
    drive(poster, users, salt, how_long, CLIENTS, Duration::ZERO).await
}

/// Four callers who rest 5 ms after each posting: the machine is not busy with them.
async fn callers_at_ease(poster: &Poster, users: &[Uuid], salt: &str, how_long: Duration) -> Vec<f64> {
    drive(poster, users, salt, how_long, 4, Duration::from_millis(5)).await
}

async fn drive(
    poster: &Poster,
    users: &[Uuid],
    salt: &str,
    how_long: Duration,
    callers: usize,
    rest: Duration,
) -> Vec<f64> {
    let until = Instant::now() + how_long;
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let (poster, users, salt) = (poster.clone(), users.to_vec(), salt.to_owned());
            tokio::spawn(async move {
                let mut random = fastrand::Rng::with_seed(caller as u64);
                let mut latencies = Vec::new();
                while Instant::now() < until {
                    let user = *random.choice(&users).unwrap();
                    let id = format!("{salt}-{caller}-{}", latencies.len());
                    let posting = Posting::consume(user, 1, "tts", id, time("2026-01-15T00:00:00Z"));
                    let began = Instant::now();
                    let reply = poster.post(posting).await.expect("the posting");
                    assert!(reply.entry().is_some(), "{reply:?}");
                    latencies.push(began.elapsed().as_secs_f64());
                    if !rest.is_zero() {
                        tokio::time::sleep(rest).await;
                    }
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.unwrap());
    }
    latencies
}

/// Consumes per second as the replaced service did them: one account at a time, one statement at a time.
async fn naive_consume(client: &Client, users: &[Uuid], salt: &str) -> f64 {
    let statement = |sql: &'static str| async move { client.prepare(sql).await.unwrap() };
    let account = statement("SELECT balance, last_seq FROM pointsd.accounts WHERE user_id = $1 FOR UPDATE").await;
    let open = statement(
        "SELECT batch, remaining FROM pointsd.batches
         WHERE user_id = $1 AND open AND expires_at > $2 ORDER BY expires_at FOR UPDATE",
    )
    .await;
    let draw =
        statement("UPDATE pointsd.batches SET remaining = $3, open = $3::bigint > 0 WHERE user_id = $1 AND batch = $2")
            .await;
    let update = statement(
        "UPDATE pointsd.accounts SET balance = balance - $2, total_consumed = total_consumed + $2, last_seq = last_seq + 1
         WHERE user_id = $1",
    )
    .await;
    let insert = statement(
        "INSERT INTO pointsd.entries (user_id, seq, type, amount, balance_before, balance_after, source_type, source_id,
             at, description, key, drawing_rule, allocated_batches, allocated_points)
         VALUES ($1, $2, 'consume', $3, $4, $4::bigint - $3::bigint, 'tts', $5, $6, 'Use of tts', gen_random_uuid(), 1, $7, $8)",
    )
    .await;
    let mut random = fastrand::Rng::with_seed(7);
    let began = Instant::now();
    let mut done = 0_u32;
    while began.elapsed() < Duration::from_secs(4) {
        let (user, points) = (*random.choice(users).unwrap(), random.i64(1..=20));
        let at = time("2026-01-15T00:00:00Z");
        client.batch_execute("BEGIN").await.unwrap();
        let row = client.query_one(&account, &[&user]).await.unwrap();
        let (balance, seq): (i64, i64) = (row.get(0), row.get(1));
        let mut wanted = points;
        let (mut batches, mut drawn) = (Vec::<i32>::new(), Vec::<i64>::new());
        for row in client.query(&open, &[&user, &at]).await.unwrap() {
            let (batch, remaining): (i32, i64) = (row.get(0), row.get(1));
            let part = wanted.min(remaining);
            if part == 0 {
                break;
            }
            client.execute(&draw, &[&user, &batch, &(remaining - part)]).await.unwrap();
            wanted -= part;
            batches.push(batch);
            drawn.push(part);
        }
        client.execute(&update, &[&user, &points]).await.unwrap();
        let id = format!("{salt}-{done}");
        client.execute(&insert, &[&user, &(seq + 1), &points, &balance, &id, &at, &batches, &drawn]).await.unwrap();
        client.batch_execute("COMMIT").await.unwrap();
        done += 1;
    }
    f64::from(done) / began.elapsed().as_secs_f64()
}

/// Batches expired per second as the replaced service did it, over the first so many.
async fn naive_expiry(client: &Client, batches: i64) -> f64 {
    let began = Instant::now();
    client.batch_execute("BEGIN").await.unwrap();
    let at = time("2026-03-01T00:00:00Z");
    let due = client
        .query(
            "SELECT user_id, batch, remaining, source FROM pointsd.batches
             WHERE open AND expires_at <= $1 LIMIT $2 FOR UPDATE",
            &[&at, &batches],
        )
        .await
        .unwrap();
    let statement = |sql: &'static str| async move { client.prepare(sql).await.unwrap() };
    let account = statement("SELECT balance, last_seq FROM pointsd.accounts WHERE user_id = $1 FOR UPDATE").await;
    let update = statement(
        "UPDATE pointsd.accounts SET balance = balance - $2, total_expired = total_expired + $2, last_seq = last_seq + 1
         WHERE user_id = $1",
    )
    .await;
    let close =
        statement("UPDATE pointsd.batches SET remaining = 0, open = false WHERE user_id = $1 AND batch = $2").await;
    let insert = statement(
        "INSERT INTO pointsd.entries (user_id, seq, type, amount, balance_before, balance_after, source_type, at,
             description, drawing_rule, allocated_batches, allocated_points)
         VALUES ($1, $2, 'expire', $3, $4, $4::bigint - $3::bigint, $5, $6, 'Expiry', 1, $7, $8)",
    )
    .await;
    for row in &due {
        let (user, batch, points): (Uuid, i32, i64) = (row.get(0), row.get(1), row.get(2));
        let source: &str = row.get(3);
        let row = client.query_one(&account, &[&user]).await.unwrap();
        let (balance, seq): (i64, i64) = (row.get(0), row.get(1));
        client.execute(&update, &[&user, &points]).await.unwrap();
        client.execute(&close, &[&user, &batch]).await.unwrap();
        let (batches, taken) = (vec![batch], vec![points]);
        client.execute(&insert, &[&user, &(seq + 1), &points, &balance, &source, &at, &batches, &taken]).await.unwrap();
    }
    client.batch_execute("COMMIT").await.unwrap();
    due.len() as f64 / began.elapsed().as_secs_f64()
}
