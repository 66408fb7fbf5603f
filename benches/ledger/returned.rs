//! What costs more than a plain consume: refunds, late consumes, holds. Each beside plain consumes of the same run.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;

use pointsd::ledger::Session;
use uuid::Uuid;

use crate::Row;
use crate::server::{Bench, time, users};

impl Bench {
    pub async fn returned(&self, lines: u64, accounts: u64, rows: &mut Vec<Row>) {
        let client = self.seed("returned", accounts, 3).await;
        let users = users(accounts);
        let consume = |salt: &'static str| {
            move |user: &Uuid, line: u64| {
                format!(
                    r#"{{"op":"consume","user":"{user}","points":5,"source_type":"tts","source_id":"{salt}-{line}","at":"2026-01-15T00:00:00Z"}}"#
                )
            }
        };
        self.post("returned", &users, lines / 20, consume("warm"));
        let plain = self.post("returned", &users, lines, consume("plain"));
        let refunds = self.post("returned", &users, lines, |user, line| {
            format!(
                r#"{{"op":"refund","user":"{user}","source_type":"tts","source_id":"plain-{line}","at":"2026-01-16T00:00:00Z"}}"#
            )
        });
        let holds = self.post("returned", &users, lines, |user, line| {
            let hold = format!(
                r#"{{"op":"hold","user":"{user}","points":5,"source_type":"tts","source_id":"held-{line}","until":"2026-01-20T00:00:00Z","at":"2026-01-15T00:00:00Z"}}"#
            );
            format!("{hold}\n{}", consume("held")(user, line))
        });
        let mut session = Session::connect(&self.database("returned").await).await.expect("a session");
        session.sweep(time("2026-03-01T00:00:00Z"), false, |_| true).await.expect("the sweep");
        client.batch_execute("VACUUM (ANALYZE) pointsd.batches").await.unwrap();
        client.batch_execute("CHECKPOINT").await.unwrap();
        let late = self.post("returned", &users, lines, consume("late"));
        let plain_again = {
            self.seed("returned", accounts, 3).await;
            self.post("returned", &users, lines / 20, consume("warm"));
            self.post("returned", &users, lines, consume("plain"))
        };
        let plain = f64::midpoint(plain, plain_again);
        let mut row = |work: &str, seconds: f64, postings_each: f64, least: &'static str| {
            let rate = |seconds: f64| lines as f64 / seconds;
            let against = rate(plain) / postings_each;
            eprintln!("{work}: {:.0}/s, plain consumes {:.0}/s", rate(seconds), rate(plain));
            rows.push(Row::new(
                work,
                format!("{:.0}/s", rate(seconds)),
                format!("plain consumes {:.0}/s", rate(plain)),
                rate(seconds) / against,
                (least, "1"),
            ));
        };
        row("refunds in bulk, against plain consumes", refunds, 1.0, "0.5");
        row("late consumes in bulk, against plain consumes", late, 1.0, "0.5");
        row("hold and consume, against two plain consumes", holds, 2.0, "0.8");
    }

    /// Posts a file with a line for each number, and returns the seconds. The same number goes to the same user in every file.
    fn post(&self, database: &str, users: &[Uuid], lines: u64, line: impl Fn(&Uuid, u64) -> String) -> f64 {
        let path: PathBuf = self.directory.join("returned.ndjson");
        let mut file = BufWriter::new(File::create(&path).unwrap());
        let mut random = fastrand::Rng::with_seed(7);
        for number in 0..lines {
            writeln!(file, "{}", line(random.choice(users).unwrap(), number)).unwrap();
        }
        file.flush().unwrap();
        self.program(database, &["post", path.to_str().unwrap()]).0
    }
}
