//! Postings over HTTP against the same without it: one a call, and streams.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pointsd::access::{self, Scope};
use pointsd::ledger::Poster;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::Row;
use crate::callers::drive;
use crate::server::{Bench, Daemon, percentile_99, users};

const CONNECTIONS: usize = 64;
const ROUNDS: u32 = 3;

/// A daemon that listens.
struct Listening {
    daemon: Daemon,
    address: String,
    token: String,
}

impl Bench {
    pub async fn http(&self, lines: u64, rows: &mut Vec<Row>) {
        self.seed("http", 20_000, 3).await;
        let users = users(20_000);
        let listening = self.listen("http").await;
        self.calls(&listening, &users, rows).await;
        self.stream(&listening, &users, lines, rows).await;
        listening.daemon.stop();
    }

    async fn listen(&self, database: &str) -> Listening {
        let scopes = [Scope::Post];
        let client = self.client(database).await;
        let (_, token) = access::create(&client, "bench", &scopes, None, "bench").await.expect("a token");
        let config = self.directory.join("http.yaml");
        std::fs::write(&config, "http: {listen: '127.0.0.1:0'}\n").unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_pointsd"))
            .args(["serve", "--database-url", &self.url(database), "--config"])
            .arg(&config)
            .env("STATE_DIRECTORY", &self.directory)
            .stderr(Stdio::piped())
            .spawn()
            .expect("pointsd starts");
        let mut daemon = Daemon(child);
        let mut log = BufReader::new(daemon.0.stderr.take().unwrap()).lines().map(Result::unwrap);
        let address = loop {
            let line: serde_json::Value = serde_json::from_str(&log.next().expect("it listens")).unwrap();
            if let Some(address) = line["address"].as_str() {
                break address.to_owned();
            }
        };
        log.find(|line| line.contains("\"ready\"")).expect("it is ready");
        std::thread::spawn(move || log.for_each(drop));
        Listening { daemon, address, token }
    }

    async fn calls(&self, daemon: &Listening, users: &[Uuid], rows: &mut Vec<Row>) {
        let database = self.database("http").await;
        let poster = Poster::start(&database, &self.rules, Poster::lanes());
        let time = Duration::from_secs(self.pgbench_seconds);
        let (mut library, mut http) = (Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            let salt = format!("library{round}");
            let of_library = drive(&poster, users, &salt, time, CONNECTIONS, Duration::ZERO).await;
            let of_http = daemon.drive(users, &format!("http{round}"), time).await;
            // The first round warms up.
            if round > 0 {
                library.extend(of_library);
                http.extend(of_http);
            }
        }
        let seconds = (time * ROUNDS).as_secs_f64();
        let rate = |latencies: &[f64]| latencies.len() as f64 / seconds;
        rows.push(Row::new(
            "single consumes over HTTP, 64 connections",
            format!("{:.0}/s", rate(&http)),
            format!("library, 64 callers {:.0}/s", rate(&library)),
            rate(&http) / rate(&library),
            ("0.7", "0.9"),
        ));
        let (library, http) = (percentile_99(library), percentile_99(http));
        rows.push(Row::new(
            "p99 of them",
            format!("{:.2} ms", http * 1e3),
            format!("library {:.2} ms", library * 1e3),
            http / library,
            ("< 3", "1.5"),
        ));
        eprintln!("{}: {}, {}", rows[rows.len() - 2].work, rows[rows.len() - 2].measured, rows[rows.len() - 2].against);
    }

    async fn stream(&self, daemon: &Listening, users: &[Uuid], lines: u64, rows: &mut Vec<Row>) {
        let (mut by_command, mut by_stream) = (0.0, 0.0);
        for round in 0..=ROUNDS {
            let file = self.consumes(users, lines, &format!("command{round}"));
            let command = self.program("http", &["post", file.to_str().unwrap()]).0;
            let file = self.consumes(users, lines, &format!("stream{round}"));
            let stream = daemon.stream(&file, lines).await;
            if round > 0 {
                by_command += command;
                by_stream += stream;
            }
        }
        let rate = |seconds: f64| (u64::from(ROUNDS) * lines) as f64 / seconds;
        rows.push(Row::new(
            "bulk consume as a stream over HTTP",
            format!("{:.0}/s", rate(by_stream)),
            format!("pointsd post {:.0}/s", rate(by_command)),
            by_command / by_stream,
            ("0.9", "1"),
        ));
    }
}

impl Listening {
    /// The head of a call but for its end.
    fn head(&self, more: &str) -> String {
        let Listening { address, token, .. } = self;
        format!("POST /v1/postings HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n{more}")
    }

    /// Posts on each connection again as soon as the reply is there. Returns every latency in seconds.
    async fn drive(&self, users: &[Uuid], salt: &str, how_long: Duration) -> Vec<f64> {
        let until = Instant::now() + how_long;
        let tasks: Vec<_> = (0..CONNECTIONS)
            .map(|caller| {
                let (address, users, salt) = (self.address.clone(), users.to_vec(), salt.to_owned());
                let head = self.head("content-type: application/json\r\n");
                tokio::spawn(async move {
                    let mut stream = TcpStream::connect(address).await.unwrap();
                    stream.set_nodelay(true).unwrap();
                    let mut random = fastrand::Rng::with_seed(caller as u64);
                    let (mut latencies, mut answer) = (Vec::new(), vec![0; 16 << 10]);
                    let (mut body, mut call) = (String::new(), String::new());
                    while Instant::now() < until {
                        let (user, nth) = (random.choice(&users).unwrap(), latencies.len());
                        body.clear();
                        write!(
                            body,
                            r#"{{"op":"consume","user":"{user}","points":1,"source_type":"tts","source_id":"{salt}-{caller}-{nth}","at":"2026-01-15T00:00:00Z"}}"#
                        )
                        .unwrap();
                        call.clear();
                        write!(call, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
                        let began = Instant::now();
                        stream.write_all(call.as_bytes()).await.unwrap();
                        // An answer ends with its JSON object.
                        let mut length = 0;
                        while !answer[..length].ends_with(b"}") {
                            let read = stream.read(&mut answer[length..]).await.unwrap();
                            assert!(read > 0, "the connection was closed");
                            length += read;
                        }
                        latencies.push(began.elapsed().as_secs_f64());
                        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..length]));
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

    /// Sends a file as a stream, reads its replies, and returns the seconds.
    async fn stream(&self, file: &Path, lines: u64) -> f64 {
        let began = Instant::now();
        let stream = TcpStream::connect(&self.address).await.unwrap();
        let (mut replies, mut calls) = stream.into_split();
        let length = std::fs::metadata(file).unwrap().len();
        let head = self.head(&format!(
            "content-type: application/x-ndjson\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        ));
        let mut file = tokio::fs::File::open(file).await.unwrap();
        let sending = tokio::spawn(async move {
            calls.write_all(head.as_bytes()).await.unwrap();
            tokio::io::copy(&mut file, &mut calls).await.unwrap();
            calls
        });
        let (mut piece, mut posted) = (vec![0; 256 << 10], 0);
        loop {
            let read = replies.read(&mut piece).await.unwrap();
            posted += piece[..read].iter().filter(|byte| **byte == b'{').count() as u64;
            if read == 0 {
                break;
            }
        }
        sending.await.unwrap();
        assert!(posted >= lines, "{posted}");
        began.elapsed().as_secs_f64()
    }
}
