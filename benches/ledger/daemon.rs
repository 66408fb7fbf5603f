//! An idle daemon: memory, processor time, start and stop, and a scrape of its metrics.

use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Row;
use crate::server::{Bench, Daemon, cpu_seconds, high_water, median};

/// How many scrapes are timed.
const SCRAPES: usize = 300;

impl Bench {
    /// Memory and processor time of an idle daemon, without and with HTTP, how fast it starts and stops, and how long a scrape takes.
    pub async fn daemon(&self, idle_seconds: u64, rows: &mut Vec<Row>) {
        self.create("daemon").await;
        self.database("daemon").await.migrate().await.expect("the schema");
        let without = self.directory.join("without.yaml");
        std::fs::write(&without, "{}\n").unwrap();
        let (mut ready, mut gone) = (Vec::new(), Vec::new());
        let (mut memory, mut share) = (0.0, 0.0);
        for round in 0..5 {
            let began = Instant::now();
            let daemon = self.start_daemon(&without);
            ready.push(began.elapsed().as_secs_f64());
            if round == 0 {
                (memory, share) = idle(&daemon, idle_seconds);
            }
            gone.push(daemon.stop());
        }
        let (http_memory, http_share, mut scrapes) = self.daemon_with_http(idle_seconds);
        for (work, text, least) in [
            ("idle daemon, memory at its peak", format!("{memory:.1} MB"), "< 25 MB"),
            ("idle daemon, share of a core", format!("{:.2} %", share * 100.0), "< 0.5 %"),
            ("idle daemon with HTTP, memory at its peak", format!("{http_memory:.1} MB"), "< 30 MB"),
            ("idle daemon with HTTP, share of a core", format!("{:.2} %", http_share * 100.0), "< 0.5 %"),
            ("scrape of /metrics, median", format!("{:.2} ms", median(&mut scrapes) * 1e3), "< 5 ms"),
            ("start to READY, migrated, median", format!("{:.0} ms", median(&mut ready) * 1e3), "< 300 ms"),
            ("SIGTERM to exit, idle, median", format!("{:.0} ms", median(&mut gone) * 1e3), "< 1 s"),
        ] {
            eprintln!("{work}: {text}");
            rows.push(Row::new(work, text, String::new(), f64::NAN, (least, "")));
        }
    }

    /// Memory in MB, share of a core, and the seconds of each scrape.
    fn daemon_with_http(&self, idle_seconds: u64) -> (f64, f64, Vec<f64>) {
        let (config, http) = (self.directory.join("http.yaml"), self.directory.join("http.sock"));
        std::fs::write(&config, format!("http: {{listen: 'unix:{}'}}\n", http.display())).unwrap();
        let daemon = self.start_daemon(&config);
        // The collection takes longer than the first scrape.
        while !scrape(&http).contains("pointsd_points_outstanding") {
            std::thread::sleep(Duration::from_millis(10));
        }
        let (_, share) = idle(&daemon, idle_seconds);
        let timed = |_| {
            let began = Instant::now();
            scrape(&http);
            began.elapsed().as_secs_f64()
        };
        let scrapes = (0..SCRAPES).map(timed).collect();
        let memory = high_water(daemon.0.id()).unwrap();
        daemon.stop();
        (memory, share, scrapes)
    }

    /// Starts a daemon and waits until it is ready.
    fn start_daemon(&self, config: &Path) -> Daemon {
        let socket = self.directory.join("notify");
        std::fs::remove_file(&socket).ok();
        let listener = UnixDatagram::bind(&socket).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_pointsd"))
            .args(["serve", "--database-url", &self.url("daemon")])
            .env("POINTSD_CONFIG", config)
            .env("NOTIFY_SOCKET", &socket)
            .env("STATE_DIRECTORY", &self.directory)
            .stderr(Stdio::null())
            .spawn()
            .expect("pointsd starts");
        let daemon = Daemon(child);
        let mut message = [0; 4_096];
        while !String::from_utf8_lossy(&message).contains("READY=1") {
            message = [0; 4_096];
            listener.recv(&mut message).unwrap();
        }
        daemon
    }
}

/// Memory in MB at its peak, and the share of a core over so many seconds.
fn idle(daemon: &Daemon, seconds: u64) -> (f64, f64) {
    let before = cpu_seconds(daemon.0.id());
    std::thread::sleep(Duration::from_secs(seconds));
    let share = (cpu_seconds(daemon.0.id()) - before) / seconds as f64;
    (high_water(daemon.0.id()).unwrap(), share)
}

/// The whole answer of `/metrics`.
fn scrape(http: &Path) -> String {
    let mut stream = UnixStream::connect(http).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    answer
}
