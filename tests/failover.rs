//! Two servers in synchronous replication. The primary is killed, freezes, is stopped, comes back: posting goes on at the one
//! that was promoted, without a restart. Nothing is lost, nothing is doubled, and an old primary is not written to.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use pointsd::database::private_server::{Options, PrivateServer};
use pointsd::database::{Database, Settings};
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::http::agent;
use crate::program::{Folder, Running, call, eventually, on, post, until_found, wait};
use crate::support::{clean_up, connect, invariants, user};

struct Pair {
    servers: [Option<PrivateServer>; 2],
    /// The main process of each.
    postmasters: [u32; 2],
    url: String,
    folder: Folder,
}

impl Pair {
    async fn start() -> Pair {
        let folder = Folder::new();
        let options = |name: &str| {
            let extra =
                [("fsync", "off"), ("wal_level", "replica"), ("max_wal_senders", "4"), ("shared_buffers", "32MB")];
            let extra = extra.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
            Options { state_dir: folder.path().join(name), bin: None, extra }
        };
        let first = PrivateServer::start(options("first")).await.unwrap();
        let database = Database::open(&Settings::server(url_of(&[&first]))).await.unwrap();
        database.prepare().await.unwrap();
        database.close().await.unwrap();

        let owner = fs::metadata(folder.path().join("first/postgres/data")).unwrap();
        let data = folder.path().join("second/postgres/data");
        fs::create_dir_all(&data).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
        let mut backup = Command::new(first.bin_dir().join("pg_basebackup"));
        backup
            .arg("-h")
            .arg(first.socket_dir())
            .args(["-U", "pointsd", "-R", "-c", "fast", "--no-sync", "-D"])
            .arg(&data);
        if geteuid().is_root() {
            chown(&data, Some(owner.uid()), Some(owner.gid())).unwrap();
            for outer in ["second", "second/postgres"] {
                fs::set_permissions(folder.path().join(outer), fs::Permissions::from_mode(0o711)).unwrap();
            }
            backup.uid(owner.uid()).gid(owner.gid());
        }
        let copied = backup.current_dir("/").output().unwrap();
        assert!(copied.status.success(), "{copied:?}");
        let second = PrivateServer::start(options("second")).await.unwrap();

        let client = connect(&first.config()).await;
        client.batch_execute("ALTER SYSTEM SET synchronous_standby_names = '*'").await.unwrap();
        client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        until_found(&client, "the standby", "SELECT FROM pg_stat_replication WHERE sync_state = 'sync'").await;
        let url = url_of(&[&first, &second]) + "?target_session_attrs=read-write";
        let postmasters = [&first, &second].map(|server| server.postmaster_pid().unwrap());
        Pair { servers: [Some(first), Some(second)], postmasters, url, folder }
    }

    async fn client(&self, nth: usize) -> Client {
        connect(&self.servers[nth].as_ref().unwrap().config()).await
    }

    fn signal(&self, nth: usize, signal: Signal) {
        signal_server(self.postmasters[nth], signal);
    }

    async fn promote(&self, nth: usize) {
        self.client(nth).await.batch_execute("SELECT pg_promote()").await.unwrap();
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let postmasters = self.postmasters;
        clean_up(move || {
            for postmaster in postmasters.into_iter().filter(|number| is_postgres(*number)) {
                signal_server(postmaster, Signal::SIGKILL);
                eventually("the server to end", || (!is_postgres(postmaster)).then_some(()));
            }
        });
    }
}

/// Sends a signal to a server with all its processes.
fn signal_server(postmaster: u32, signal: Signal) {
    // A main process that stands still begins no others, and keeps those that it has.
    kill(pid(postmaster), Signal::SIGSTOP).unwrap();
    for process in children(postmaster) {
        // It may have ended by itself.
        let _ = kill(pid(process), signal);
    }
    kill(pid(postmaster), signal).unwrap();
}

fn url_of(servers: &[&PrivateServer]) -> String {
    let hosts = servers.iter().map(|server| server.socket_dir().to_str().unwrap().replace('/', "%2F"));
    format!("postgres://pointsd@{}/pointsd", hosts.collect::<Vec<_>>().join(","))
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(number.cast_signed())
}

/// Name, state and parent of a process.
fn process(number: u32) -> Option<(String, char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    let (name, rest) = stat.rsplit_once(") ")?;
    let mut rest = rest.split(' ');
    Some((name.split_once('(')?.1.to_owned(), rest.next()?.chars().next()?, rest.next()?.parse().ok()?))
}

fn is_postgres(number: u32) -> bool {
    process(number).is_some_and(|(name, state, _)| name == "postgres" && state != 'Z')
}

fn children(parent: u32) -> Vec<u32> {
    let numbers = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    numbers.filter(|number| process(*number).is_some_and(|(_, _, above)| above == parent)).collect()
}

/// What was acknowledged, by the way that it took.
#[derive(Default)]
struct Acknowledged {
    ids: Mutex<Vec<(String, Instant)>>,
}

impl Acknowledged {
    fn add(&self, id: String) {
        self.ids.lock().unwrap().push((id, Instant::now()));
    }

    fn ids(&self) -> BTreeSet<String> {
        self.ids.lock().unwrap().iter().map(|(id, _)| id.clone()).collect()
    }

    /// Waits for the first one that was sent after this moment, and the next one.
    fn next_after(&self, way: &str, moment: Instant) -> Duration {
        eventually(way, || {
            let ids = self.ids.lock().unwrap();
            ids.iter().filter(|(_, at)| *at > moment).nth(1).map(|(_, at)| at.duration_since(moment))
        })
    }
}

/// The lines of the file that is posted meanwhile.
const LINES: usize = 10_000;

/// Callers that go on while servers come and go: `post` with single lines and with a file, HTTP, and an application that inserts
/// requests for `serve`.
struct Load {
    stop: Arc<AtomicBool>,
    ways: [(&'static str, Arc<Acknowledged>); 3],
    threads: Vec<std::thread::JoinHandle<()>>,
    daemon: Running,
    bulk: Running,
}

fn consume(way: &str, nth: usize) -> Value {
    let account = ["post", "http", "queue", "bulk"].iter().position(|known| *known == way).unwrap() * 10 + nth % 7;
    json!({ "op": "consume", "user": user(u32::try_from(account).unwrap()), "points": 1, "source_type": "tts",
            "source_id": format!("{way}-{nth}") })
}

impl Load {
    fn start(pair: &Pair) -> Load {
        let config = pair
            .folder
            .file("pointsd.yaml", "http: {listen: '127.0.0.1:0'}\njobs: {expiry: {schedule: '* * * * * *'}}\n");
        let token = call(&pair.url, &["token", "create", "test", "--scope", "post"]).expect(0).stdout.trim().to_owned();
        let mut daemon = Running::start(on(&pair.url, &["serve", "--config", &config]));
        let listening: Value = serde_json::from_str(&daemon.hear("listening for HTTP on ")).unwrap();
        let address = listening["address"].as_str().unwrap().to_owned();
        daemon.hear("\"ready\"");

        let stop = Arc::new(AtomicBool::new(false));
        let ways = ["post", "http", "queue"].map(|way| (way, Arc::new(Acknowledged::default())));
        let mut threads = Vec::new();
        let mut begin = |way: usize, mut one: Box<dyn FnMut(usize) -> bool + Send>| {
            let (stop, (name, acknowledged)) = (Arc::clone(&stop), ways[way].clone());
            threads.push(std::thread::spawn(move || {
                for nth in 0.. {
                    // Sent again under the same key until it is acknowledged, also after the end of the test's part.
                    eventually("an acknowledgement", || one(nth).then_some(()));
                    acknowledged.add(format!("{name}-{nth}"));
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            }));
        };
        let mut posting = Running::start(on(&pair.url, &["post", "-", "--json"]));
        begin(
            0,
            Box::new(move |nth| {
                posting.write(&format!("{}\n", consume("post", nth)));
                posting.next_line().is_some_and(|reply| reply.contains("\"posted\"") || reply.contains("\"replayed\""))
            }),
        );
        begin(
            1,
            Box::new(move |nth| {
                let call =
                    agent().post(format!("http://{address}/v1/postings")).header("content-type", "application/json");
                let answer =
                    call.header("authorization", format!("Bearer {token}")).send(consume("http", nth).to_string());
                answer.is_ok_and(|answer| answer.status() == 200)
            }),
        );
        let hosts = [0, 1].map(|nth| pair.servers[nth].as_ref().unwrap().config());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut client = None;
        begin(
            2,
            Box::new(move |nth| {
                runtime.block_on(async {
                    let inserted = async {
                        if client.is_none() {
                            client = primary(&hosts).await;
                        }
                        let posting = consume("queue", nth);
                        let id = posting["source_id"].as_str()?.to_owned();
                        let insert = format!(
                            "INSERT INTO pointsd.requests (op, user_id, points, source_type, source_id)
                         VALUES ('consume', '{}', 1, 'tts', '{id}')",
                            posting["user"].as_str()?
                        );
                        let client = client.as_ref()?;
                        client.batch_execute(&insert).await.ok()?;
                        let done =
                            "SELECT FROM pointsd.requests WHERE source_id = $1 AND state IN ('posted', 'replayed')";
                        while client.query(done, &[&id]).await.ok()?.is_empty() {
                            tokio::time::sleep(Duration::from_millis(2)).await;
                        }
                        Some(())
                    };
                    // The application gives a frozen server up by itself.
                    let inserted = tokio::time::timeout(Duration::from_secs(4), inserted).await;
                    if !matches!(inserted, Ok(Some(()))) {
                        client = None;
                    }
                    client.is_some()
                })
            }),
        );
        let lines: String = (0..LINES).map(|nth| format!("{}\n", consume("bulk", nth))).collect();
        let file = pair.folder.file("lines.ndjson", lines);
        let bulk = Running::start(on(&pair.url, &["post", &file, "--json"]));
        let mut load = Load { stop, ways, threads, daemon, bulk };
        load.goes_on(Instant::now());
        assert!(load.bulk.next_line().unwrap().contains("posted"));
        load
    }

    /// Waits until each way has gone on after this moment; returns how long each stood still.
    fn goes_on(&self, moment: Instant) -> [Duration; 3] {
        self.ways.each_ref().map(|(way, acknowledged)| acknowledged.next_after(way, moment))
    }

    /// Ends all callers and the daemon; returns what was acknowledged.
    fn end(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        let replies = self.bulk.finish().expect(0).jsons();
        // The first one was read before.
        assert_eq!(replies.len(), LINES - 1);
        assert!(
            replies.iter().all(|reply| reply["status"] == "posted" || reply["status"] == "replayed"),
            "{replies:?}"
        );
        self.daemon.signal(Signal::SIGTERM);
        self.daemon.finish().expect(0);
        let bulk = (0..LINES).map(|nth| format!("bulk-{nth}"));
        self.ways.iter().flat_map(|(_, acknowledged)| acknowledged.ids()).chain(bulk).collect()
    }
}

/// A session of the application, with the first server that takes writes and answers.
async fn primary(hosts: &[tokio_postgres::Config]) -> Option<Client> {
    for host in hosts.iter().rev() {
        let connect = async {
            let mut host = host.clone();
            host.target_session_attrs(tokio_postgres::config::TargetSessionAttrs::ReadWrite);
            let (client, connection) = host.connect(tokio_postgres::NoTls).await.ok()?;
            tokio::spawn(connection);
            Some(client)
        };
        if let Ok(Some(client)) = tokio::time::timeout(Duration::from_secs(1), connect).await {
            return Some(client);
        }
    }
    None
}

/// What was acknowledged is posted once, and the books are sound.
async fn assert_once(client: &Client, acknowledged: &BTreeSet<String>) {
    let rows = client.query("SELECT source_id FROM pointsd.entries WHERE type = 'consume'", &[]).await.unwrap();
    let posted: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let once: BTreeSet<String> = posted.iter().cloned().collect();
    assert_eq!(posted.len(), once.len(), "something was posted twice");
    let lost: Vec<&String> = acknowledged.difference(&once).collect();
    assert!(lost.is_empty(), "acknowledged, but not posted: {lost:?}");
    let broken = invariants::broken(client).await;
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn work_goes_on_after_the_primary_was_killed() {
    let pair = wait(Pair::start());
    let load = Load::start(&pair);
    pair.signal(0, Signal::SIGKILL);
    wait(pair.promote(1));
    println!("killed: {:?}", load.goes_on(Instant::now()));
    let acknowledged = load.end();
    wait(async { assert_once(&pair.client(1).await, &acknowledged).await });
}

#[test]
fn work_goes_on_after_the_primary_was_stopped_in_good_order() {
    let mut pair = wait(Pair::start());
    let load = Load::start(&pair);
    wait(pair.servers[0].take().unwrap().stop()).unwrap();
    wait(pair.promote(1));
    println!("stopped: {:?}", load.goes_on(Instant::now()));
    let acknowledged = load.end();
    wait(async { assert_once(&pair.client(1).await, &acknowledged).await });
}

/// The kernel of a frozen server holds its connections, and says nothing. Once it thaws, it takes writes as if nothing had been.
#[test]
fn work_goes_on_while_the_primary_is_frozen_and_an_old_primary_is_not_written_to() {
    let pair = wait(Pair::start());
    let load = Load::start(&pair);
    pair.signal(0, Signal::SIGSTOP);
    wait(pair.promote(1));
    println!("frozen: {:?}", load.goes_on(Instant::now()));

    // It thaws, and would not wait for a standby any more.
    pair.signal(0, Signal::SIGCONT);
    let thawed = Instant::now();
    wait(async {
        let client = pair.client(0).await;
        client.batch_execute("ALTER SYSTEM SET synchronous_standby_names = ''").await.unwrap();
        client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    });
    load.goes_on(thawed);
    // A command that begins now tries the old primary first, because the URL does.
    post(&pair.url, format!("{}\n", consume("post", 1_000_000))).expect(0);
    let acknowledged = load.end();
    let count = "SELECT count(*) FROM pointsd.entries WHERE source_id = 'post-1000000'";
    wait(async {
        assert_eq!(pair.client(0).await.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 0);
        let client = pair.client(1).await;
        assert_eq!(client.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 1);
        assert_once(&client, &acknowledged).await;
    });

    // Without the new primary, a caller waits rather than writing to the old one.
    let mut posting = Running::start(on(&pair.url, &["post", "-", "--json"]));
    posting.write(&format!("{}\n", consume("post", 1_000_001)));
    assert!(posting.next_line().unwrap().contains("\"posted\""));
    pair.signal(1, Signal::SIGKILL);
    posting.write(&format!("{}\n", consume("post", 1_000_002)));
    let told = posting.hear("trying a group again: cannot connect");
    let expected = "takes writes on timeline 1, though timeline 2 has begun elsewhere: it is an old primary";
    assert!(told.contains(expected), "{told}");
    wait(async {
        let entries = "SELECT FROM pointsd.entries WHERE source_id IN ('post-1000001', 'post-1000002')";
        assert!(pair.client(0).await.query(entries, &[]).await.unwrap().is_empty());
    });
}
