//! Postings in bulk, to one hot account, and one at a time.

use std::path::Path;
use std::time::Duration;

use pointsd::ledger::Poster;
use tokio_postgres::Client;

use crate::Row;
use crate::bare::times_bare;
use crate::callers::{CLIENTS, callers};
use crate::naive::naive_consume;
use crate::server::{Bench, users};

impl Bench {
    pub async fn bulk(&self, lines: u64, accounts: u64, rows: &mut Vec<Row>) {
        let users = users(accounts);
        let mut rates = Vec::new();
        for batches in [3, 13] {
            let client = self.seed("bulk", accounts, batches).await;
            self.program("bulk", &["post", self.consumes(&users, lines / 20, "warm").to_str().unwrap()]);
            let file = self.consumes(&users, lines, "work");
            let work = format!("bulk consume, {batches} open batches");
            let (seconds, around) =
                self.beside_bare(&client, &work, &file, ("1.2", "1.05"), ("1.9", "1.5"), rows).await;
            rates.push(lines as f64 / seconds);
            if batches == 3 {
                let naive = naive_consume(&client, &users, "naive").await;
                rows.push(Row::rate("bulk consume", lines, seconds, around, ("3.5", "5"), Some(naive)));
            }
        }
        if let [three, thirteen] = rates[..] {
            let (measured, against) = (format!("{thirteen:.0}/s"), format!("with 3 {three:.0}/s"));
            rows.push(Row::new(
                "bulk consume with 13 open batches",
                measured,
                against,
                thirteen / three,
                ("0.77", "1"),
            ));
        }
        for batches in [3, 13] {
            let client = self.seed("bulk", accounts, batches).await;
            let file = self.recharges(&users, lines);
            let work = format!("bulk recharge, {batches} open batches");
            self.beside_bare(&client, &work, &file, ("1.3", "1.1"), ("", ""), rows).await;
        }
    }

    /// Posts the file, and writes the same rows by bare statements on one and on two connections. Returns the seconds of the program, and
    /// the rate of pgbench around it.
    async fn beside_bare(
        &self,
        client: &Client,
        work: &str,
        file: &Path,
        of_one: (&'static str, &'static str),
        of_two: (&'static str, &'static str),
        rows: &mut Vec<Row>,
    ) -> (f64, f64) {
        self.copy(client, "bare_one").await;
        self.copy(client, "bare_two").await;
        let (seconds, around) = self.between(|| self.program("bulk", &["post", file.to_str().unwrap()]).0);
        self.keep_work(client, "bare_one").await;
        let one = self.bare_post("bulk", "bare_one", 1).await;
        let two = self.bare_post("bulk", "bare_two", 2).await;
        rows.push(times_bare(&format!("{work}: × bare on one connection"), seconds, one, of_one));
        rows.push(times_bare(&format!("{work}: × bare on two"), seconds, two, of_two));
        (seconds, around)
    }

    pub async fn hot(&self, lines: u64, rows: &mut Vec<Row>) {
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
        rows.push(Row::rate("bulk consume, one hot account", lines, seconds, around, ("20", "25"), Some(naive)));
    }

    pub async fn single(&self, rows: &mut Vec<Row>) {
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
}
