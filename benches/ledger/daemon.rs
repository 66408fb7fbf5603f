//! An idle daemon: memory, processor time, start and stop.

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Row;
use crate::server::{Bench, cpu_seconds, high_water, median};

impl Bench {
    /// Memory and processor time of an idle daemon, and how fast it starts and stops.
    pub async fn daemon(&self, idle_seconds: u64, rows: &mut Vec<Row>) {
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
                .env("STATE_DIRECTORY", &self.directory)
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
            rows.push(Row::new(work, text, String::new(), f64::NAN, (least, "")));
        }
    }
}
