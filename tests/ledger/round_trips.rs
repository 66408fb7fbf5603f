//! How often an operation waits for the database: what decides its speed on a network, held to what it is.
//!
//! The session talks through a proxy that reads the messages of both sides. It keeps what the server answers until all that the
//! client has sent is answered; so what the client sends next has waited for an answer, and begins another round trip.

use std::mem::take;
use std::sync::{Arc, Mutex};

use pointsd::ledger::{Posting, Reference, Reply, Session, Sweep};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config};

use crate::model::rules;
use crate::support::{buckets, connect};
use crate::{TestDatabase, at, user};

struct Proxy {
    config: Config,
    talk: Arc<Mutex<Talk>>,
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
        let talk = Arc::new(Mutex::new(Talk::default()));
        let of_task = Arc::clone(&talk);
        tokio::spawn(async move {
            let (client, _) = listener.accept().await.unwrap();
            client.set_nodelay(true).unwrap();
            serve(client, server, &of_task).await;
        });
        Proxy { config, talk }
    }

    /// Round trips of an operation.
    async fn count<T>(&self, client: &Client, operation: impl Future<Output = T>) -> (u32, T) {
        // Takes along what an earlier operation sent at its end without waiting for an answer.
        client.batch_execute("").await.unwrap();
        let before = self.talk.lock().unwrap().trips;
        let done = operation.await;
        (self.talk.lock().unwrap().trips - before, done)
    }
}

/// What has been said on the connection.
#[derive(Default)]
struct Talk {
    trips: u32,
    /// Requests that are not answered.
    open: u32,
    /// Whether the client has begun a request and not ended it.
    begun: bool,
    sent: Messages,
    answered: Messages,
}

impl Talk {
    fn client_sends(&mut self, bytes: &[u8]) {
        self.trips += u32::from(self.all_is_answered());
        for kind in self.sent.end_with(bytes) {
            // A request ends with Sync, or is a Query.
            let ends = matches!(kind, b'S' | b'Q');
            self.open += u32::from(ends);
            self.begun = !ends;
        }
        self.begun |= !self.sent.0.is_empty();
    }

    fn server_sends(&mut self, bytes: &[u8]) {
        // ReadyForQuery ends each answer.
        let ready = self.answered.end_with(bytes).into_iter().filter(|kind| *kind == b'Z').count();
        self.open -= u32::try_from(ready).unwrap();
    }

    fn all_is_answered(&self) -> bool {
        self.open == 0 && !self.begun
    }
}

/// What has come of a message that is not complete yet.
#[derive(Default)]
struct Messages(Vec<u8>);

impl Messages {
    /// The types of the messages that these bytes complete.
    fn end_with(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.0.extend_from_slice(bytes);
        let (mut kinds, mut begin) = (Vec::new(), 0);
        while let [kind, a, b, c, d, ..] = self.0[begin..] {
            let end = begin + 1 + u32::from_be_bytes([a, b, c, d]) as usize;
            if end > self.0.len() {
                break;
            }
            kinds.push(kind);
            begin = end;
        }
        self.0.drain(..begin);
        kinds
    }
}

async fn serve(client: TcpStream, server: UnixStream, talk: &Arc<Mutex<Talk>>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    // The first message has no type. The server answers it as it does a request.
    let length = from_client.read_u32().await.unwrap();
    let mut first = length.to_be_bytes().to_vec();
    first.resize(length as usize, 0);
    from_client.read_exact(&mut first[4..]).await.unwrap();
    talk.lock().unwrap().open = 1;
    to_server.write_all(&first).await.unwrap();
    let of_answers = Arc::clone(talk);
    tokio::spawn(async move {
        let (mut kept, mut read) = (Vec::new(), vec![0; 65_536]);
        while let Ok(length @ 1..) = from_server.read(&mut read).await {
            kept.extend_from_slice(&read[..length]);
            let answered = {
                let mut talk = of_answers.lock().unwrap();
                talk.server_sends(&read[..length]);
                talk.all_is_answered()
            };
            if answered && to_client.write_all(&take(&mut kept)).await.is_err() {
                return;
            }
        }
    });
    let mut read = vec![0; 65_536];
    while let Ok(length @ 1..) = from_client.read(&mut read).await {
        talk.lock().unwrap().client_sends(&read[..length]);
        to_server.write_all(&read[..length]).await.unwrap();
    }
}

// On one thread: so the proxy reads only when the client has sent all that it sends without waiting.
#[tokio::test]
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

    let (trips, balance) = proxy.count(&client, session.reader().balance(user(0), begin)).await;
    assert!(balance.unwrap().totals.total_recharged > 0);
    assert_eq!(trips, 1, "a balance");
    let (trips, check) = proxy.count(&client, session.reader().check(user(5), 5, begin)).await;
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
