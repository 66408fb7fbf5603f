//! The queue on a real PostgreSQL: each request is posted once and in order, also if processes die meanwhile.

mod commands;
mod failures;
mod outcomes;
mod role;
mod scenarios;

use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsd::ledger::{Kind, Posting, Rules};
use pointsd::requests::{Settings, Stats, serve};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use crate::support::{TestDatabase, at, rng, user};

/// Far longer than any awaited event takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The lanes poll after a notification and hardly ever else; no failed request is tried again by itself.
const SETTINGS: Settings =
    Settings { enabled: true, poll: Duration::from_secs(3_600), retries: 2, retry_pause: Duration::from_secs(3_600) };

fn rules() -> Rules {
    let sources = ["wxpay", "alipay", "card", "gift", "invite", "compensation"];
    Rules { sources: sources.map(|source| (source.to_owned(), None)).into(), ..Rules::default() }
}

/// A server of the queue, as a daemon has one.
struct Server {
    stats: Arc<Stats>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(database: &TestDatabase, settings: Settings) -> Server {
        let (database, stats, stop) = (database.database().await, Arc::new(Stats::default()), CancellationToken::new());
        let (kept, stopped) = (Arc::clone(&stats), stop.clone());
        let task = tokio::spawn(async move {
            let (_sender, rules) = watch::channel(Arc::new(rules()));
            serve(&database, rules, settings, kept, stopped).await;
        });
        Server { stats, stop, task }
    }

    async fn stop(self) -> Arc<Stats> {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("the server of the queue stops").unwrap();
        self.stats
    }
}

/// Waits until this query returns true.
async fn until(client: &Client, query: &str) {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if client.query_one(query, &[]).await.unwrap().get::<_, bool>(0) {
            return;
        }
        if Instant::now() > give_up {
            let rows =
                "SELECT string_agg(concat_ws(' ', id, lane, op, state, attempts, code, message), E'\\n' ORDER BY id)
                        FROM (SELECT * FROM pointsd.requests ORDER BY state, id LIMIT 50) AS r";
            let rows: Option<String> = client.query_one(rows, &[]).await.unwrap().get(0);
            panic!("waited in vain for {query}:\n{}", rows.unwrap_or_default());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until the server sleeps, so that the next insert must notify it.
async fn asleep(server: &Server) {
    let give_up = Instant::now() + PATIENCE;
    while !server.stats.asleep() {
        assert!(Instant::now() < give_up, "the queue's server does not sleep");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until nothing is pending.
async fn all_done(client: &Client) {
    until(client, "SELECT NOT EXISTS (SELECT FROM pointsd.requests_open WHERE state = 'pending')").await;
}

async fn number(client: &Client, query: &str) -> i64 {
    client.query_one(query, &[]).await.unwrap_or_else(|error| panic!("{query}: {error:?}")).get(0)
}

/// `id state code` of every request, in order; those in the books with their entry's number.
async fn outcomes(client: &Client) -> Vec<String> {
    let query = "SELECT concat_ws(' ', id, state, seq, code) FROM pointsd.requests ORDER BY id";
    client.query(query, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Recharges each of so many users, so that nothing is in arrears.
async fn recharge(database: &TestDatabase, users: u32) {
    let (begin, end) = (at("2026-01-01T00:00:00Z"), at("2100-01-01T00:00:00Z"));
    let recharge = |nth| Posting {
        kind: Kind::Recharge { source: "gift".into(), order_id: Some(0), expires_at: Some(end), paid: None },
        ..Posting::recharge(user(nth), 1_000_000, "gift", begin)
    };
    database.session().await.post(&(0..users).map(recharge).collect::<Vec<_>>(), &rules()).await.unwrap();
}
