//! How often an operation waits for the database: what decides its speed on a network, held to what it is.
//!
//! The session talks through a proxy that keeps what the client sends until the client has been silent for a while.
//! What is sent without waiting for an answer arrives as one; so the number of times that the proxy passes something on
//! is the number of round trips.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pointsd::ledger::{Posting, Reference, Reply, Session, Sweep};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config};

use crate::model::rules;
use crate::support::{buckets, connect};
use crate::{TestDatabase, at, user};

/// Much longer than a client takes between two messages that it sends in a row, also on a busy machine.
const SILENCE: Duration = Duration::from_millis(40);

struct Proxy {
    config: Config,
    passed_on: Arc<AtomicU32>,
}

impl Proxy {
    /// Serves one connection.
    async fn start(target: &Config) -> Proxy {
        let [Host::Unix(folder)] = target.get_hosts() else { panic!("one socket: {target:?}") };
        let server = UnixStream::connect(folder.join(".s.PGSQL.5432")).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = Config::new();
        config.host("127.0.0.1").port(listener.local_addr().unwrap().port());
        config.user(target.get_user().unwrap()).dbname(target.get_dbname().unwrap());
        config.ssl_mode(tokio_postgres::config::SslMode::Disable);
        let passed_on = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&passed_on);
        tokio::spawn(async move {
            let (client, _) = listener.accept().await.unwrap();
            client.set_nodelay(true).unwrap();
            serve(client, server, &count).await;
        });
        Proxy { config, passed_on }
    }

    /// Round trips of an operation.
    async fn count<T>(&self, client: &Client, operation: impl Future<Output = T>) -> (u32, T) {
        // Takes along what an earlier operation sent at its end without waiting for an answer.
        client.batch_execute("").await.unwrap();
        let before = self.passed_on.load(Ordering::SeqCst);
        let done = operation.await;
        (self.passed_on.load(Ordering::SeqCst) - before, done)
    }
}

async fn serve(client: TcpStream, server: UnixStream, passed_on: &AtomicU32) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut held = Vec::new();
    loop {
        let silent = if held.is_empty() { Duration::MAX } else { SILENCE };
        match tokio::time::timeout(silent, from_client.read_buf(&mut held)).await {
            Ok(Ok(1..)) => {}
            Ok(_) => return,
            Err(_) => {
                passed_on.fetch_add(1, Ordering::SeqCst);
                to_server.write_all(&held).await.unwrap();
                held.clear();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_each_operation() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database.config()).await;
    let client = connect(&proxy.config).await;
    let rules = rules();
    let begin = at("2026-01-01T00:00:00Z");
    let consume = |nth: u32, task: &str| Posting::consume(user(nth), 1, "tts", task, begin);
    let recharge = |nth: u32| Posting::recharge(user(nth), 1_000, "gift", begin).with_key("a");

    // Opening prepares all statements at once.
    let (trips, session) = proxy.count(&client, Session::open(&client)).await;
    let mut session = session.unwrap();
    assert_eq!(trips, 1, "opening a session");

    let thousand: Vec<Posting> = (0..1_000).map(recharge).collect();
    let task_x = Reference::Work { source_type: "tts".to_owned(), source_id: "x".to_owned() };
    let groups = [
        // Whether there are batches without the account is looked up after it.
        ("a recharge that opens its account", vec![recharge(0)], 3),
        ("a posting", vec![consume(0, "x")], 2),
        ("a thousand recharges, nearly all to new accounts", thousand, 3),
        ("a thousand postings to two accounts", (0..1_000).map(|nth| consume(nth % 2, &nth.to_string())).collect(), 2),
        // The second one ends the transaction.
        ("a posting that only replays", vec![consume(0, "x")], 2),
        // These load once more before they are decided.
        ("a consume of more than the first batch", vec![consume(2, "more").with_points(1_001)], 3),
        ("a refund", vec![Posting::refund(user(0), task_x, begin)], 3),
        ("a hold", vec![Posting::hold(user(3), 1, "tts", "h", begin + chrono::TimeDelta::days(1), begin)], 3),
        ("a consume beside a standing hold", vec![consume(3, "other")], 3),
        ("a posting that is refused on sight", vec![consume(0, "y").with_points(0)], 1),
    ];
    for (what, group, expected) in groups {
        let (trips, replies) = proxy.count(&client, session.post(&group, &rules)).await;
        assert_eq!(replies.unwrap().len(), group.len());
        assert_eq!(trips, expected, "{what}");
    }

    let (trips, balance) = proxy.count(&client, session.balance(user(0), begin)).await;
    assert!(balance.unwrap().totals.total_recharged > 0);
    assert_eq!(trips, 1, "a balance");
    let (trips, check) = proxy.count(&client, session.check(user(5), 5, begin)).await;
    assert!(check.unwrap().sufficient);
    assert_eq!(trips, 1, "a check");

    // Two thousand accounts with a batch each are two groups; the rest is listing them and closing the list. A bucket has a list and groups
    // of its own.
    session.post(&(1_000..2_000).map(recharge).collect::<Vec<_>>(), &rules).await.unwrap();
    let idle = begin + chrono::TimeDelta::days(1);
    let (fixed, sweep) = proxy.count(&client, session.sweep(idle, false, |_| true)).await;
    assert_eq!(sweep.unwrap(), Sweep::default());
    let of_one = buckets() == 1;
    assert_eq!(if of_one { fixed } else { SWEEP_FIXED }, SWEEP_FIXED, "a sweep with nothing to do");
    let due = begin + chrono::TimeDelta::days(100);
    let (trips, sweep) = proxy.count(&client, session.sweep(due, false, |_| true)).await;
    assert_eq!(sweep.unwrap().accounts, 1_999);
    assert_eq!(
        if of_one { trips } else { fixed + 5 },
        fixed + 5,
        "a sweep over two groups, two trips each, and one to see that the list is at its end"
    );

    // Only a consume from before an expiry looks for points to restore.
    let in_time = Posting::consume(user(7), 1, "tts", "in time", due);
    let (trips, _) = proxy.count(&client, session.post(&[in_time], &rules)).await;
    assert_eq!(trips, 2, "a consume after an expiry");
    let (trips, replies) = proxy.count(&client, session.post(&[consume(7, "late")], &rules)).await;
    assert!(matches!(&replies.unwrap()[..], [Reply::Posted(posted)] if posted.restored.len() == 1));
    assert_eq!(trips, 3, "a late consume");
}

/// A ratchet: lower it when the sweep gets by with fewer.
const SWEEP_FIXED: u32 = 9;
