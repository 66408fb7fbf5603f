//! The queue of requests: throughput, latency, a backlog, and two other job runners beside it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsd::requests::{self, Settings, Stats};
use serde_json::Value;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use crate::Row;
use crate::server::{Bench, median, percentile_99, users};

/// The part of the daemon that posts the queue.
pub struct Queue {
    pub stats: Arc<Stats>,
    pub stop: CancellationToken,
    pub task: tokio::task::JoinHandle<()>,
}

impl Queue {
    pub async fn start(bench: &Bench, database: &str) -> Queue {
        let database = bench.database(database).await;
        let (stats, stop) = (Arc::new(Stats::default()), CancellationToken::new());
        let (_, rules) = tokio::sync::watch::channel(Arc::clone(&bench.rules));
        let second = Duration::from_secs(1);
        let settings = Settings { enabled: true, poll: 5 * second, retries: 8, retry_pause: 5 * second };
        let (kept, stopped) = (Arc::clone(&stats), stop.clone());
        let task = tokio::spawn(async move { requests::serve(&database, rules, settings, kept, stopped).await });
        Queue { stats, stop, task }
    }

    /// Waits until this many requests are posted. It reads counters only, because a query of the table would prune dead rows.
    pub async fn until_done(self, requests: u64) -> Arc<Stats> {
        while self.stats.posted() < requests {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.stop.cancel();
        self.task.await.unwrap();
        assert_eq!(self.stats.posted(), requests);
        self.stats
    }
}

impl Bench {
    /// Posts requests that arrive at once. The server of the queue has made its plans while it was empty.
    pub async fn queue(&self, requests: u64, rows: &mut Vec<Row>) {
        let client = self.seed("queue", 100_000, 3).await;
        enqueue(&client, requests / 10, "warm").await;
        Queue::start(self, "queue").await.until_done(requests / 10).await;
        let before = self.pgbench();
        client.batch_execute("VACUUM (ANALYZE) pointsd.requests_open").await.unwrap();
        client.batch_execute("CHECKPOINT").await.unwrap();
        let queue = Queue::start(self, "queue").await;
        // One a lane, at least in all likelihood.
        enqueue(&client, 40, "first").await;
        while queue.stats.posted() < 40 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        enqueue(&client, requests, "work").await;
        let began = Instant::now();
        queue.until_done(requests + 40).await;
        let seconds = began.elapsed().as_secs_f64();
        let around = f64::midpoint(before, self.pgbench());
        rows.push(Row::rate("requests, enqueued to posted", requests, seconds, around, ("8", "10"), None));
    }

    /// No-op requests beside the no-op jobs of two other job runners (benches/peers), all three in turns. A request of 0
    /// points is refused and stored with its outcome, so it takes the whole way but the ledger.
    pub async fn noop(&self, jobs: u64, rows: &mut Vec<Row>) {
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
        rows.push(Row::new(
            "no-op requests, beside the better of two peers",
            format!("{ours:.0}/s"),
            format!("graphile_worker {graphile:.0}/s, riverqueue {river:.0}/s"),
            ours / graphile.max(river),
            ("1", ""),
        ));
    }

    pub async fn noop_requests(&self, jobs: u64) -> f64 {
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

    pub async fn noop_jobs(&self, program: &Path, peer: &str, jobs: u64) -> f64 {
        self.create("noop").await;
        let output = Command::new(program)
            .args(["--database-url", &self.url("noop"), "--peer", peer, "--jobs", &jobs.to_string()])
            .output()
            .expect("the peers' program runs");
        assert!(output.status.success(), "{peer}: {}", String::from_utf8_lossy(&output.stderr));
        let answer: Value = serde_json::from_slice(&output.stdout).expect("the peers' program answers in JSON");
        answer["rate"].as_f64().expect("a rate")
    }

    /// Wakes the sleeping queue with one request at a time.
    pub async fn wake(&self, requests: u32, rows: &mut Vec<Row>) {
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
        rows.push(Row::new(
            "COMMIT to posted, the queue's server idle",
            format!("p50 {middle:.1} ms"),
            format!("p99 {:.1} ms", percentile_99(latencies) * 1e3),
            f64::NAN,
            ("< 20 ms", ""),
        ));
    }

    /// The time to take the next group, by the size of the backlog and by the number of earlier requests.
    pub async fn backlog(&self, large: u64, steady: Duration, rows: &mut Vec<Row>) {
        let small = large / 100;
        let client = self.seed("backlog", 100_000, 3).await;
        enqueue(&client, small * 3, "warm").await;
        Queue::start(self, "backlog").await.until_done(small * 3).await;
        let beginning = self.taking(&client, small, 10, "small").await;
        let huge = self.taking(&client, large, 1, "large").await;
        let again = self.taking(&client, small, 10, "again").await;
        let mut row = |work: String, measured: f64, against: f64| {
            rows.push(Row::new(
                work,
                format!("{:.2} ms", measured * 1e3),
                format!("{:.2} ms", against * 1e3),
                measured / against,
                ("< 1.2", "1"),
            ));
        };
        row(format!("taking a group of a backlog of {large} against {small}"), huge, f64::midpoint(beginning, again));

        let before = self.taking(&client, small, 10, "before").await;
        let queue = Queue::start(self, "backlog").await;
        let began = Instant::now();
        let mut round = 0;
        while began.elapsed() < steady {
            // 2,000 requests a second, 20 at a time.
            enqueue(&client, 20, &format!("steady{round}")).await;
            round += 1;
            tokio::time::sleep_until((began + Duration::from_millis(10 * round)).into()).await;
        }
        let stats = queue.until_done(20 * round).await;
        let after = self.taking(&client, small, 10, "after").await;
        let dead = "SELECT pg_relation_size('pointsd.requests_open')::bigint / 1024,
                           pg_relation_size('pointsd.requests_open_pkey')::bigint / 1024";
        let size = client.query_one(dead, &[]).await.unwrap();
        let (table, index): (i64, i64) = (size.get(0), size.get(1));
        eprintln!("steady load: {} requests; then the open part has {table} kB, its index {index} kB", stats.posted());
        row(format!("taking a group after {} s of 2,000/s", steady.as_secs()), after, before);
    }

    /// The mean seconds to take a group while backlogs of this size are posted.
    pub async fn taking(&self, client: &Client, requests: u64, rounds: u32, salt: &str) -> f64 {
        let (mut groups, mut taking) = (0, Duration::ZERO);
        for round in 0..rounds {
            enqueue(client, requests, &format!("{salt}{round}")).await;
            let done = Queue::start(self, "backlog").await.until_done(requests).await.groups();
            groups += done.0;
            taking += done.1;
        }
        taking.as_secs_f64() / groups as f64
    }
}

/// Builds the program that runs the peers: a package of its own, with dependencies of its own.
pub fn build_peers() -> PathBuf {
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
pub async fn enqueue(client: &Client, requests: u64, salt: &str) {
    let insert = format!(
        "INSERT INTO pointsd.requests (op, user_id, points, source_type, source_id, at)
         SELECT 'consume', md5((1 + floor(random() * 100000))::bigint::text)::uuid, 1 + floor(random() * 20)::bigint,
                'tts', '{salt}-' || i, '2026-01-15T00:00:00Z'
         FROM generate_series(1, {requests}) AS i"
    );
    client.batch_execute(&insert).await.expect("the requests");
}
