//! The private server of a bench: databases, seeds, files of postings, pgbench.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use pointsd::database::private_server::{Options, PrivateServer};
use pointsd::database::{Database, Settings};
use pointsd::ledger::Rules;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::callers::CLIENTS;

/// Every seeded batch opens at `OPENED` and expires within the ten days after `EXPIRES`.
pub const OPENED: &str = "2026-01-01T00:00:00Z";
pub const EXPIRES: &str = "2026-02-01T00:00:00Z";

pub struct Bench {
    server: Option<PrivateServer>,
    pub directory: PathBuf,
    pub rules: Arc<Rules>,
    pub pgbench_seconds: u64,
    pub fsync: String,
}

impl Bench {
    /// `settings` of the server go over those of every private server.
    pub async fn start(pgbench_seconds: u64, settings: &[(&str, &str)]) -> Bench {
        let directory = std::env::temp_dir().join(format!("pointsd-bench-{}", std::process::id()));
        let extra = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let options = Options { state_dir: directory.clone(), bin: None, extra };
        let rules = Rules { sources: [("gift".to_owned(), None)].into(), ..Rules::default() };
        let rules = Arc::new(rules);
        let mut bench = Bench { server: None, directory, rules, pgbench_seconds, fsync: String::new() };
        bench.server = Some(PrivateServer::start(options).await.expect("a private PostgreSQL"));
        bench.fsync = bench.test_fsync();
        bench.create("pgbench").await;
        bench.tool("pgbench", &["-i", "-q", "-s", "16", "pgbench"]);
        bench.pgbench();
        bench
    }

    pub fn server(&self) -> &PrivateServer {
        self.server.as_ref().unwrap()
    }

    pub fn tool(&self, name: &str, arguments: &[&str]) -> String {
        let output = Command::new(self.server().bin_dir().join(name))
            .args(arguments)
            .env("PGHOST", self.server().socket_dir())
            .env("PGUSER", "pointsd")
            .output()
            .unwrap_or_else(|error| panic!("{name}: {error}; script/setup installs it"));
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The cost of an fdatasync of 8 kB on this disk, as pg_test_fsync prints it.
    pub fn test_fsync(&self) -> String {
        let file = self.directory.join("fsync");
        let output = self.tool("pg_test_fsync", &["-s", "1", "-f", file.to_str().unwrap()]);
        let line = output.lines().find(|line| line.trim_start().starts_with("fdatasync")).unwrap_or_default();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// TPC-B transactions per second at 16 clients.
    pub fn pgbench(&self) -> f64 {
        let (clients, seconds) = (CLIENTS.to_string(), self.pgbench_seconds.to_string());
        let output = self.tool("pgbench", &["-n", "-c", &clients, "-j", "2", "-T", &seconds, "pgbench"]);
        let line = output.lines().find(|line| line.starts_with("tps = ")).expect("pgbench tells its rate");
        line.split_whitespace().nth(2).unwrap().parse().unwrap()
    }

    pub async fn create(&self, database: &str) {
        let client = self.client("pointsd").await;
        client.batch_execute(&format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)")).await.unwrap();
        client.batch_execute(&format!("CREATE DATABASE {database}")).await.unwrap();
    }

    pub async fn client(&self, database: &str) -> Client {
        let mut config = self.server().config();
        config.dbname(database);
        let (client, connection) = config.connect(NoTls).await.expect("a connection");
        tokio::spawn(connection);
        client
    }

    pub fn url(&self, database: &str) -> String {
        let socket = self.server().socket_dir().to_str().unwrap().replace('/', "%2F");
        format!("postgres://pointsd@{socket}/{database}")
    }

    pub async fn database(&self, name: &str) -> Database {
        let settings = Settings {
            url: Some(self.url(name)),
            ca_file: None,
            pool_size: 32,
            connect_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(3_600),
            keep_trying: Duration::from_secs(30),
            state_dir: self.directory.clone(),
            postgres_bin: None,
        };
        Database::open(&settings).await.expect("the database")
    }

    /// Makes a database of accounts with this many open batches of 1,000 points each, as recharges would have left them.
    pub async fn seed(&self, name: &str, accounts: u64, batches: u64) -> Client {
        self.create(name).await;
        self.database(name).await.migrate().await.expect("the schema");
        let client = self.client(name).await;
        let seed = format!(
            "INSERT INTO pointsd.accounts
                 (user_id, balance, total_recharged, total_consumed, total_expired, last_seq, last_batch)
             SELECT md5(i::text)::uuid, {batches} * 1000, {batches} * 1000, 0, 0, {batches}, {batches}
             FROM generate_series(1, {accounts}) AS i;
             INSERT INTO pointsd.batches (user_id, batch, amount, remaining, opened_at, expires_at, open, source)
             SELECT md5(i::text)::uuid, b, 1000, 1000, '{OPENED}', '{EXPIRES}'::timestamptz + b * interval '1 day', true, 'gift'
             FROM generate_series(1, {batches}) AS b, generate_series(1, {accounts}) AS i;
             INSERT INTO pointsd.entries (user_id, seq, type, amount, balance_before, balance_after, source_type, batch,
                 at, key, drawing_rule, allocated_batches, allocated_points)
             SELECT md5(i::text)::uuid, b, 'recharge', 1000, (b - 1) * 1000, b * 1000, 'gift', b,
                 '{OPENED}', overlay(gen_random_uuid()::text PLACING left(md5(i::text), 8) FROM 1)::uuid, 1, '{{}}', '{{}}'
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

    /// Writes a file of consumes of 1 to 20 points over random users. `salt` keeps the keys of two files apart.
    pub fn consumes(&self, users: &[Uuid], lines: u64, salt: &str) -> PathBuf {
        self.consumes_at(users, lines, salt, "2026-01-15T00:00:00Z")
    }

    /// The same for work that was done at `at`.
    pub fn consumes_at(&self, users: &[Uuid], lines: u64, salt: &str, at: &str) -> PathBuf {
        let path = self.directory.join("consumes.ndjson");
        let mut file = BufWriter::new(File::create(&path).unwrap());
        let mut random = fastrand::Rng::with_seed(lines);
        for line in 0..lines {
            let (user, points) = (random.choice(users).unwrap(), random.u32(1..=20));
            writeln!(
                file,
                r#"{{"op":"consume","user":"{user}","points":{points},"source_type":"tts","source_id":"{salt}-{line}","at":"{at}"}}"#
            )
            .unwrap();
        }
        file.flush().unwrap();
        path
    }

    /// Writes a file of recharges of 1,000 points over random users.
    pub fn recharges(&self, users: &[Uuid], lines: u64) -> PathBuf {
        let path = self.directory.join("recharges.ndjson");
        let mut file = BufWriter::new(File::create(&path).unwrap());
        let mut random = fastrand::Rng::with_seed(lines);
        for line in 1..=lines {
            let user = random.choice(users).unwrap();
            writeln!(
                file,
                r#"{{"op":"recharge","user":"{user}","points":1000,"source":"gift","order_id":{line},"at":"2026-01-15T00:00:00Z"}}"#
            )
            .unwrap();
        }
        file.flush().unwrap();
        path
    }

    /// Runs the program. Returns its seconds and its peak memory in MB.
    pub fn program(&self, database: &str, arguments: &[&str]) -> (f64, f64) {
        let began = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_pointsd"))
            .args(["--json", "--database-url", &self.url(database)])
            .args(arguments)
            .env("STATE_DIRECTORY", &self.directory)
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("pointsd starts");
        // The kernel's high-water mark is readable only while the process lives, so the last reading counts.
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

    /// Runs `work` between two runs of pgbench. Returns its result and the mean rate of pgbench.
    pub fn between<T>(&self, work: impl FnOnce() -> T) -> (T, f64) {
        let before = self.pgbench();
        let result = work();
        (result, f64::midpoint(before, self.pgbench()))
    }
}

impl Drop for Bench {
    /// Stops the server and removes its folder, also where a bench has panicked.
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            // On a thread of its own, because this one is at work for the runtime.
            let stop = || tokio::runtime::Runtime::new().unwrap().block_on(server.stop());
            let stopped = std::thread::spawn(stop).join();
            if !matches!(stopped, Ok(Ok(()))) {
                eprintln!("the server in {} was not stopped: {stopped:?}", self.directory.display());
                return;
            }
        }
        std::fs::remove_dir_all(&self.directory).ok();
    }
}

/// A daemon of a bench. It is killed when it is dropped, as after a panic.
pub struct Daemon(pub Child);

impl Daemon {
    /// Stops it in order. Returns the seconds that it took.
    pub fn stop(mut self) -> f64 {
        let began = Instant::now();
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        assert!(self.0.wait().unwrap().success());
        began.elapsed().as_secs_f64()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

pub fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// The users of `Bench::seed`: the md5 of their numbers.
pub fn users(accounts: u64) -> Vec<Uuid> {
    (1..=accounts).map(|number| Uuid::from_bytes(md5::compute(number.to_string()).0)).collect()
}

/// The peak memory of a living process, in MB.
pub fn high_water(process: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}

/// The processor time of a process, in seconds.
pub fn cpu_seconds(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // User and system time, in ticks of a hundredth of a second.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub fn percentile_99(mut latencies: Vec<f64>) -> f64 {
    latencies.sort_by(f64::total_cmp);
    latencies[latencies.len() * 99 / 100]
}
