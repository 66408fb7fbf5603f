//! Three daemons on one database, and everything dies that can die: processes, connections, the network, the server.
//! In the end each slot has exactly one run, which succeeded, what a run says it did is what it wrote, and the books
//! balance. The checks are functions that return what is wrong. Without the fence they find something.
//!
//! `POINTSD_CHAOS_SECONDS` prolongs it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::program::{Folder, Running, on};
use crate::support::door::Door;
use crate::support::{TestDatabase, invariants};
use chrono::{DateTime, TimeDelta, Utc};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsd::config::Config;
use pointsd::database::migrate::MIGRATIONS;
use pointsd::database::private_server::{Options, PrivateServer};
use pointsd::database::{Database, RoleKind, Settings};
use pointsd::ledger::{Kind, Poster, Posting, Reply, Rules};
use pointsd::schedule::Schedule;
use pointsd::time::time_text;
use serde_json::Value;
use tokio_postgres::Client;

/// Due each second; whatever happens, every slot must succeed in the end. The pause before a further try doubles each
/// time: twenty are as many as the configuration takes.
const JOBS: &str = "jobs:
  takeover_seconds: 2
  expiry: {schedule: '* * * * * *', overlap: queue, catch_up: all, catch_up_limit: 1000, retries: 20, retry_seconds: 1}
";
/// The roles of daemons and writers, and of the application. They have their rights and no more.
const DAEMON: &str = "chaos_daemon";
const APPLICATION: &str = "chaos_application";
/// Accounts that get points which expire a moment later, block after block: so each slot has several groups to do, and
/// an account is left alone for long enough that it is the sweep and not the next posting which expires them.
const BLOCK: u32 = 300;
const BLOCKS: u32 = 16;

// The checks.

/// Lists the faults in the books and in the runs of the expiry job. All its slots up to `until` must be settled.
async fn wrong(client: &Client, until: DateTime<Utc>) -> Vec<String> {
    let mut wrong = wrong_slots(client, until).await;
    wrong.extend(wrong_counters(client).await);
    wrong.extend(wrong_expiries(client).await);
    wrong.extend(invariants::broken(client).await);
    wrong
}

/// Each slot that came due since the job was first seen has one run, which succeeded; there is no other one.
async fn wrong_slots(client: &Client, until: DateTime<Utc>) -> Vec<String> {
    let since: DateTime<Utc> =
        client.query_one("SELECT since FROM pointsd.jobs WHERE job = 'expiry'", &[]).await.unwrap().get(0);
    let rule = Schedule::parse("* * * * * *", "UTC".parse().unwrap()).unwrap();
    let mut due: BTreeMap<DateTime<Utc>, u32> = rule.between(since, until).map(|slot| (slot, 0)).collect();
    let rows = client
        .query(
            "SELECT slot, state, attempt, coalesce(error, why, '') FROM pointsd.runs
             WHERE job = 'expiry' AND slot <= $1 ORDER BY run",
            &[&until],
        )
        .await
        .unwrap();
    let mut wrong = Vec::new();
    for row in rows {
        let (slot, state, attempt, reason): (DateTime<Utc>, &str, i32, &str) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        let text = time_text(slot);
        match due.get_mut(&slot) {
            Some(runs) => *runs += 1,
            None => wrong.push(format!("the slot {text} never came due")),
        }
        if state != "succeeded" {
            wrong.push(format!("the slot {text} {state} at attempt {attempt}: {reason}"));
        }
    }
    let not_once = due.into_iter().filter(|(_, runs)| *runs != 1);
    wrong.extend(not_once.map(|(slot, runs)| format!("the slot {} has {runs} runs", time_text(slot))));
    wrong
}

/// The counters of each run agree with the entries that carry its number, and these entries are dated by its slot.
async fn wrong_counters(client: &Client) -> Vec<String> {
    let sql = "
        WITH wrote AS (
            SELECT run, source_type, count(*) AS batches, sum(amount) AS points, min(at) AS first, max(at) AS last
            FROM pointsd.entries WHERE run IS NOT NULL GROUP BY run, source_type
        ), said AS (
            SELECT r.run, s.key AS source_type, (s.value ->> 'batches')::bigint AS batches,
                   (s.value ->> 'points')::numeric AS points
            FROM pointsd.runs r, jsonb_each(r.counters -> 'by_source') AS s WHERE r.job = 'expiry'
        ), total AS (
            SELECT run, sum(batches) AS batches, sum(points) AS points FROM wrote GROUP BY run
        )
        SELECT format('run %s says %s batches with %s points of %s, its entries say %s with %s', run, said.batches,
                      said.points, source_type, wrote.batches, wrote.points)
        FROM wrote FULL JOIN said USING (run, source_type)
        WHERE (wrote.batches, wrote.points) IS DISTINCT FROM (said.batches, said.points)
        UNION ALL
        SELECT format('run %s says %s in all, its entries say %s batches with %s points', r.run, r.counters,
                      coalesce(t.batches, 0), coalesce(t.points, 0))
        FROM pointsd.runs r LEFT JOIN total t USING (run)
        WHERE r.job = 'expiry' AND (coalesce((r.counters ->> 'batches')::numeric, 0), coalesce((r.counters ->> 'points')::numeric, 0))
              <> (coalesce(t.batches, 0), coalesce(t.points, 0))
        UNION ALL
        SELECT format('run %s is for %s and wrote at %s to %s', run, r.slot, wrote.first, wrote.last)
        FROM wrote LEFT JOIN pointsd.runs r USING (run)
        WHERE r.slot IS DISTINCT FROM wrote.first OR r.slot IS DISTINCT FROM wrote.last";
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Nothing expired twice, and nothing that was due at the last slot that succeeded is still there.
async fn wrong_expiries(client: &Client) -> Vec<String> {
    let sql = "
        SELECT format('batch %s of %s expired %s times', allocated_batches[1], user_id, count(*))
        FROM pointsd.entries WHERE type = 'expire' GROUP BY user_id, allocated_batches[1] HAVING count(*) > 1
        UNION ALL
        SELECT format('batch %s of %s was due at %s and is there', batch, user_id, expires_at)
        FROM pointsd.batches
        WHERE open AND expires_at <= (SELECT max(slot) FROM pointsd.runs WHERE job = 'expiry' AND state = 'succeeded')
        LIMIT 10";
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Lines of a daemon's log that no fault explains: errors, and outages without a line that they are over.
fn wrong_log(lines: &[Value], peace: bool) -> Vec<String> {
    let mut wrong: Vec<String> = lines
        .iter()
        .filter(|line| !["INFO", "WARN", "DEBUG"].contains(&line["level"].as_str().unwrap_or_default()))
        .map(Value::to_string)
        .collect();
    if peace {
        let starts = |words: &str| {
            lines.iter().rposition(|line| line["message"].as_str().is_some_and(|message| message.starts_with(words)))
        };
        if starts("the database is away") > starts("the database is back") {
            wrong.push(format!("it never came back: {}", lines[starts("the database is away").unwrap()]));
        }
    }
    wrong
}

// The daemons.

/// One of the daemons, behind a door of its own.
struct Daemon {
    folder: Folder,
    door: Door,
    running: Option<Running>,
    wrong: Vec<String>,
    kept_out: usize,
}

impl Daemon {
    fn start(server: &Path) -> Daemon {
        let folder = Folder::new();
        folder.file("pointsd.yaml", JOBS);
        let door = Door::new(folder.path(), server);
        let mut daemon = Daemon { folder, door, running: None, wrong: Vec::new(), kept_out: 0 };
        daemon.begin();
        daemon
    }

    fn begin(&mut self) {
        let mut command = on(&url(self.folder.path(), DAEMON, "pointsd"), &["serve"]);
        command.arg("--config").arg(self.folder.path().join("pointsd.yaml"));
        self.running = Some(Running::start(command));
    }

    fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    fn signal(&self, signal: Signal) {
        self.running().signal(signal);
    }

    fn is(&self, pid: i32) -> bool {
        i64::from(self.running().pid()) == i64::from(pid)
    }

    /// Waits for its end, which was ours to bring about. In peace, its database must have come back; before that it may be
    /// hit again while it still waits for its next try.
    fn end(&mut self, signal: Signal, peace: bool) {
        let done = self.running.take().unwrap().finish();
        // Killed in the middle of a line it leaves a part of it.
        let whole = done.stderr.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("no JSON, {error}: {line}"));
        let lines: Vec<Value> = whole.map(parse).collect();
        let killed = signal == Signal::SIGKILL;
        self.wrong.extend(wrong_log(&lines, peace));
        // By the fence, or because the server had ended its session before it came to that.
        let kept_out = |line: &&Value| {
            let line = line.to_string();
            line.contains("is no longer held under fence") || line.contains("was given up")
        };
        self.kept_out += lines.iter().filter(kept_out).count();
        if killed {
            done.expect_signal(signal);
        } else {
            let done = done.expect(0);
            assert_eq!(lines.last().unwrap()["message"], "stopped", "{done:#?}");
        }
    }
}

fn url(socket: &Path, role: &str, application: &str) -> String {
    let folder = socket.to_str().unwrap().replace('/', "%2F");
    format!("postgres://{role}@{folder}:5432/pointsd?application_name={application}")
}

/// Waits until a query finds a row; false if that takes longer than `patience`.
async fn finds(client: &Client, patience: Duration, sql: &str, params: Params<'_>) -> bool {
    let give_up = Instant::now() + patience;
    while client.query(sql, params).await.unwrap().is_empty() {
        if Instant::now() > give_up {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    true
}

type Params<'a> = &'a [&'a (dyn tokio_postgres::types::ToSql + Sync)];

/// Until each slot up to `until` is settled.
async fn settled(client: &Client, until: DateTime<Utc>, patience: Duration) {
    let sql = "SELECT WHERE (SELECT max(slot) FROM pointsd.runs WHERE job = 'expiry' AND state <> 'running') >= $1
               AND NOT EXISTS (SELECT FROM pointsd.runs WHERE job = 'expiry' AND slot <= $1 AND state = 'running')";
    assert!(finds(client, patience, sql, &[&until]).await, "waited in vain for the slot {}", time_text(until));
}

fn whole_second(time: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp(time.timestamp(), 0).unwrap()
}

// The work.

/// The server of this test alone, which it may kill.
struct Server {
    server: Option<PrivateServer>,
    _folder: Folder,
}

impl Server {
    async fn start() -> Server {
        let folder = Folder::new();
        // A killed server loses nothing by this, only a power cut would.
        let extra = vec![("fsync".to_owned(), "off".to_owned()), ("full_page_writes".to_owned(), "off".to_owned())];
        let options = Options { state_dir: folder.path().join("state"), bin: None, extra };
        Server { server: Some(PrivateServer::start(options).await.unwrap()), _folder: folder }
    }

    fn server(&self) -> &PrivateServer {
        self.server.as_ref().unwrap()
    }

    async fn client(&self) -> Client {
        crate::support::connect(self.server().config().application_name("test")).await
    }

    fn kill(&self) {
        let pid = self.server().postmaster_pid().expect("a server at work");
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGQUIT).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let server = self.server.take().unwrap();
        let stopped = std::thread::spawn(|| crate::program::wait(server.stop())).join();
        if !matches!(stopped, Ok(Ok(()))) {
            eprintln!("the server was not stopped: {stopped:?}");
        }
    }
}

fn pause(rng: &mut fastrand::Rng, milliseconds: std::ops::Range<u64>) -> tokio::time::Sleep {
    tokio::time::sleep(Duration::from_millis(rng.u64(milliseconds)))
}

/// Recharges points that expire soon and consumes a part of them, all the time. Returns the number of postings; each was
/// acknowledged.
async fn write(url: String, mut rng: fastrand::Rng, over: Arc<AtomicBool>) -> usize {
    let settings = Settings { url: Some(url), pool_size: 4, ..Settings::from(&defaults()) };
    let database = Database::open(&settings).await.unwrap();
    let poster = Poster::start(&database, &Arc::new(Rules::from(&defaults())), 2);
    let mut written = 0;
    for round in 0.. {
        if over.load(Ordering::SeqCst) {
            break;
        }
        let began = Instant::now();
        let now = Utc::now();
        let mut postings = Vec::new();
        for nth in 0..BLOCK {
            let user = crate::support::user(round % BLOCKS * BLOCK + nth);
            let mut posting = Posting::recharge(user, rng.i64(1..100), "gift", now).with_key(format!("r{round}"));
            if let Kind::Recharge { expires_at, .. } = &mut posting.kind {
                *expires_at = Some(now + TimeDelta::milliseconds(rng.i64(500..3_000)));
            }
            postings.push(posting);
            if rng.u8(..) < 80 {
                postings.push(Posting::consume(user, rng.i64(1..60), "tts", format!("t{round}"), now));
            }
        }
        // Postings that were already written replay, so each counts once although the server is killed.
        let give_up = Instant::now() + crate::program::PATIENCE;
        loop {
            match crate::support::post_all(&poster, postings.clone()).await {
                Ok(replies) => {
                    for reply in &replies {
                        assert!(!matches!(reply, Reply::Rejected(_)), "{reply:?}");
                    }
                    break;
                }
                Err(error) => assert!(Instant::now() < give_up, "{}", pointsd::errors::chain(&*error)),
            }
        }
        written += postings.len();
        tokio::time::sleep(Duration::from_secs(1).saturating_sub(began.elapsed())).await;
    }
    poster.close().await;
    database.close().await.unwrap();
    written
}

fn defaults() -> Config {
    Config::load(Some(Path::new(crate::program::DEFAULTS)), None).unwrap()
}

/// Holds accounts that are due, one after the other for a moment, so that sweeps stand still in the middle of a group.
async fn hold_up(server: tokio_postgres::Config, mut rng: fastrand::Rng, over: Arc<AtomicBool>) {
    while !over.load(Ordering::SeqCst) {
        // A server that is away comes back.
        let Ok((client, connection)) = server.connect(tokio_postgres::NoTls).await else {
            pause(&mut rng, 10..50).await;
            continue;
        };
        tokio::spawn(connection);
        while !over.load(Ordering::SeqCst) {
            let hold = "BEGIN; SELECT FROM pointsd.accounts WHERE user_id =
                            (SELECT user_id FROM pointsd.batches WHERE open AND expires_at < now() + interval '1 s'
                             ORDER BY random() LIMIT 1) FOR UPDATE";
            if client.batch_execute(hold).await.is_err() {
                break;
            }
            // Until a session waits for it; then for a moment in which a fault may strike.
            let waiting = "SELECT FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted";
            let give_up = Instant::now() + Duration::from_secs(1);
            while client.query(waiting, &[]).await.is_ok_and(|rows| rows.is_empty()) && Instant::now() < give_up {
                pause(&mut rng, 5..20).await;
            }
            pause(&mut rng, 50..700).await;
            if client.batch_execute("COMMIT").await.is_err() {
                break;
            }
            pause(&mut rng, 10..200).await;
        }
    }
}

// The faults.

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fault {
    /// SIGKILL, in the middle of a run if one is found.
    Killed,
    /// SIGTERM.
    Stopped,
    /// SIGSTOP in the middle of a run until another daemon has taken it over, then SIGCONT.
    Frozen,
    /// Some of the server's sessions are ended.
    SessionsEnded,
    /// The server crashes.
    ServerKilled,
    /// A daemon's connections break, and it gets no new ones for a while.
    Cut,
    /// Nothing of a daemon's passes for longer than the time to take over, then all of it does.
    Held,
}

/// Each of these comes once, in any order, before one comes again.
const FAULTS: [Fault; 8] = [
    Fault::Killed,
    Fault::Stopped,
    Fault::Frozen,
    Fault::Frozen,
    Fault::SessionsEnded,
    Fault::ServerKilled,
    Fault::Cut,
    Fault::Held,
];

struct Chaos {
    server: Server,
    daemons: Vec<Daemon>,
    client: Client,
    rng: fastrand::Rng,
    done: BTreeMap<Fault, u32>,
    /// Runs that were taken over while their holder was frozen, or cut off, in the middle of a group.
    taken: BTreeMap<Fault, u32>,
}

impl Chaos {
    /// The run under way and which daemon holds it, caught while the sweep waits in the middle of a group; else any
    /// daemon.
    async fn holder(&mut self) -> (usize, Option<(i64, i64)>) {
        let sql = "SELECT run, fence, pid FROM pointsd.runs
                   WHERE job = 'expiry' AND state = 'running' AND heartbeat > clock_timestamp() - interval '1 s'
                     AND EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'pointsd'
                                 AND wait_event = 'transactionid')";
        // Most come within two seconds; a slow machine needs more, and a fault that hits nothing proves nothing.
        if finds(&self.client, Duration::from_secs(10), sql, &[]).await
            && let Some(row) = self.client.query_opt(sql, &[]).await.unwrap()
            && let Some(nth) = self.daemons.iter().position(|daemon| daemon.is(row.get(2)))
        {
            return (nth, Some((row.get(0), row.get(1))));
        }
        (self.rng.usize(..self.daemons.len()), None)
    }

    /// Whether each fault came at least once, daemons lost their runs in the middle of a group, and one was kept from writing on.
    fn was_enough(&self) -> bool {
        let taken = |fault: Fault| self.taken.get(&fault).copied().unwrap_or(0);
        FAULTS.iter().all(|fault| self.done.get(fault).is_some_and(|times| *times >= 1))
            && taken(Fault::Frozen) >= 1
            && taken(Fault::Held) + taken(Fault::Cut) >= 1
            && self.kept_out() >= 1
    }

    /// How often daemons were kept from writing on, by the logs of those that have ended.
    fn kept_out(&self) -> usize {
        self.daemons.iter().map(|daemon| daemon.kept_out).sum()
    }

    /// Waits a while for another daemon to take the run.
    async fn taken_over(&mut self, fault: Fault, held: Option<(i64, i64)>) {
        let Some((run, fence)) = held else { return };
        let changed = "SELECT fence FROM pointsd.runs WHERE run = $1 AND (fence <> $2 OR state <> 'running')";
        let after = Duration::from_secs(6);
        if finds(&self.client, after, changed, &[&run, &fence]).await {
            let now: i64 =
                self.client.query_one("SELECT fence FROM pointsd.runs WHERE run = $1", &[&run]).await.unwrap().get(0);
            *self.taken.entry(fault).or_default() += u32::from(now != fence);
        }
    }

    fn end(&mut self, nth: usize, signal: Signal, peace: bool) {
        let daemon = &mut self.daemons[nth];
        daemon.signal(signal);
        tokio::task::block_in_place(|| daemon.end(signal, peace));
    }

    async fn strike(&mut self, fault: Fault) {
        *self.done.entry(fault).or_default() += 1;
        match fault {
            Fault::Killed => {
                let (nth, _) = self.holder().await;
                self.end(nth, Signal::SIGKILL, false);
                pause(&mut self.rng, 0..2_500).await;
                self.daemons[nth].begin();
            }
            Fault::Stopped => {
                let nth = self.rng.usize(..self.daemons.len());
                self.end(nth, Signal::SIGTERM, false);
                pause(&mut self.rng, 0..500).await;
                self.daemons[nth].begin();
            }
            Fault::Frozen => {
                let (nth, held) = self.holder().await;
                self.daemons[nth].signal(Signal::SIGSTOP);
                self.taken_over(fault, held).await;
                // Sometimes its successor dies as well.
                match self.rng.u8(..4) {
                    0 => {
                        let other = (nth + 1) % self.daemons.len();
                        self.end(other, Signal::SIGKILL, false);
                        self.daemons[other].begin();
                    }
                    1 => self.end_sessions().await,
                    _ => pause(&mut self.rng, 0..1_000).await,
                }
                self.daemons[nth].signal(Signal::SIGCONT);
            }
            Fault::SessionsEnded => self.end_sessions().await,
            Fault::ServerKilled => {
                self.server.kill();
                pause(&mut self.rng, 0..1_500).await;
                self.server.server().ensure_running().await.unwrap();
                self.client = self.server.client().await;
            }
            Fault::Cut => {
                let (nth, held) = self.holder().await;
                self.daemons[nth].door.shut();
                self.taken_over(fault, held).await;
                if self.rng.bool() {
                    // Stopped and started again while the database is away.
                    self.end(nth, Signal::SIGTERM, false);
                    self.daemons[nth].begin();
                }
                pause(&mut self.rng, 0..1_500).await;
                self.daemons[nth].door.open();
            }
            Fault::Held => {
                let (nth, held) = self.holder().await;
                self.daemons[nth].door.hold();
                self.taken_over(fault, held).await;
                pause(&mut self.rng, 0..1_000).await;
                if self.rng.bool() {
                    self.daemons[nth].door.cut();
                }
                self.daemons[nth].door.let_go();
            }
        }
        for daemon in &mut self.daemons {
            assert!(!daemon.running.as_mut().unwrap().has_ended(), "a daemon ended by itself after {fault:?}");
        }
        // Let something be done, so that it is not the same run that everything hits.
        let sql = "SELECT FROM pointsd.runs WHERE job = 'expiry' AND state = 'succeeded' AND finished > $1";
        finds(&self.client, Duration::from_secs(3), sql, &[&Utc::now()]).await;
    }

    async fn end_sessions(&mut self) {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE application_name = 'pointsd' AND random() < 0.4";
        self.client.query(sql, &[]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_dies_each_slot_has_one_run_that_succeeded_and_the_books_balance() {
    let seconds = std::env::var("POINTSD_CHAOS_SECONDS").map_or(30, |seconds| seconds.parse().unwrap());
    let mut rng = crate::support::rng();
    let server = Server::start().await;
    let socket = server.server().socket_dir().to_owned();
    let writer_url = url(&socket, DAEMON, "writer");
    {
        let settings = Settings { url: Some(url(&socket, "pointsd", "owner")), ..Settings::from(&defaults()) };
        let database = Database::open(&settings).await.unwrap();
        database.migrate().await.unwrap();
        database.grant(&format!("CREATE ROLE {DAEMON} LOGIN; CREATE ROLE {APPLICATION} LOGIN")).await.unwrap();
        for (kind, role) in [(RoleKind::Daemon, DAEMON), (RoleKind::Application, APPLICATION)] {
            let grants = database.grants(kind, role).await.unwrap();
            database.grant(&grants).await.unwrap();
        }
        database.close().await.unwrap();
    }
    let over = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(write(writer_url, rng.fork(), Arc::clone(&over)));
    let holder = tokio::spawn(hold_up(server.server().config(), rng.fork(), Arc::clone(&over)));
    let daemons = (0..3).map(|_| Daemon::start(&socket)).collect();
    let client = server.client().await;
    let mut chaos = Chaos { server, daemons, client, rng, done: BTreeMap::new(), taken: BTreeMap::new() };

    let sql =
        "SELECT FROM pointsd.runs WHERE job = 'expiry' AND state = 'succeeded' AND (counters ->> 'batches')::int > 0";
    assert!(finds(&chaos.client, crate::program::PATIENCE, sql, &[]).await, "no run");
    let inserted = Arc::new(Mutex::new(requests::Inserted::default()));
    let mut config = chaos.server.server().config();
    config.user(APPLICATION);
    let requests = requests::write(config, chaos.rng.fork(), Arc::clone(&over), Arc::clone(&inserted));
    let requests = tokio::spawn(requests);
    let end = Instant::now() + Duration::from_secs(seconds);
    // Each kind in turn, in ever another order.
    let mut faults = Vec::new();
    let last = end + 2 * crate::program::PATIENCE;
    let has_enough = async |chaos: &Chaos| {
        chaos.was_enough() && inserted.lock().unwrap().is_enough() && has_work_enough(&chaos.client).await
    };
    while Instant::now() < end || Instant::now() < last && !has_enough(&chaos).await {
        if faults.is_empty() {
            faults = FAULTS.to_vec();
            chaos.rng.shuffle(&mut faults);
        }
        let fault = faults.pop().unwrap();
        chaos.strike(fault).await;
    }

    // Peace.
    over.store(true, Ordering::SeqCst);
    let written = writer.await.unwrap();
    holder.await.unwrap();
    // All that was recharged is over three seconds later.
    let until = whole_second(Utc::now()) + TimeDelta::seconds(4);
    let peace = Instant::now();
    settled(&chaos.client, until, crate::program::PATIENCE).await;
    let peace = peace.elapsed();
    for daemon in &chaos.daemons {
        let passed = daemon.door.passed();
        crate::program::eventually("each daemon to be at work again", || (daemon.door.passed() > passed).then_some(()));
    }
    requests.await.unwrap();
    let inserted = std::mem::take(&mut *inserted.lock().unwrap());
    assert!(inserted.is_enough(), "too few requests to tell");
    let mut found = requests::wrong(&chaos.client, &inserted).await;
    for nth in 0..chaos.daemons.len() {
        chaos.end(nth, Signal::SIGTERM, true);
    }
    let client = &chaos.client;
    let count = async |sql: &str| client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
    let runs = count("SELECT count(*) FROM pointsd.runs WHERE job = 'expiry'").await;
    let again = count("SELECT count(*) FROM pointsd.runs WHERE job = 'expiry' AND attempt > 1").await;
    let most = count("SELECT max(attempt)::bigint FROM pointsd.runs WHERE job = 'expiry'").await;
    let swept = count("SELECT count(*) FROM pointsd.entries WHERE run IS NOT NULL").await;
    let groups =
        count("SELECT count(*) FROM pointsd.runs WHERE job = 'expiry' AND (progress ->> 'total')::int > 100").await;
    let kept_out = chaos.kept_out();
    eprintln!(
        "{:?}; taken over from a living daemon: {:?}; {runs} runs, {groups} of several groups, {again} of them tried \
         again (up to {most} attempts); {swept} batches swept, {written} postings; kept from writing on: {kept_out}; \
         the rest took {peace:?}",
        chaos.done, chaos.taken
    );

    found.extend(wrong(client, until).await);
    assert!(found.is_empty(), "{} things are wrong: {:#?}", found.len(), &found[..found.len().min(20)]);
    let logged: Vec<_> = chaos.daemons.iter().flat_map(|daemon| &daemon.wrong).collect();
    assert!(logged.is_empty(), "{logged:#?}");
    let posted = count("SELECT count(*) FROM pointsd.entries WHERE key IS NOT NULL AND source_type <> 'script'").await;
    assert_eq!(usize::try_from(posted).unwrap(), written, "each posting is one entry");

    // The run must have caused enough faults, take-overs and work to prove anything.
    assert!(chaos.was_enough(), "{:?}, {:?}, {kept_out}", chaos.done, chaos.taken);
    assert!(has_work_enough(client).await, "too little was going on");
}

/// Whether runs were tried again, had several groups, and swept enough to prove anything. False where the database is away.
async fn has_work_enough(client: &Client) -> bool {
    let sql = "SELECT count(*) FILTER (WHERE attempt > 1) >= 3 AND count(*) FILTER (WHERE (progress ->> 'total')::int > 100) >= 10
                      AND (SELECT count(*) FROM pointsd.entries WHERE run IS NOT NULL) >= 3000
               FROM pointsd.runs WHERE job = 'expiry'";
    client.query_one(sql, &[]).await.is_ok_and(|row| row.get(0))
}

/// A run that is frozen in the middle of a group and taken over, with the fence in its place or taken out; what is
/// wrong in the end.
async fn frozen_in_the_middle(database: &TestDatabase) -> Vec<String> {
    let client = database.client().await;
    let line = |nth: u32| {
        format!(
            "{{\"op\":\"recharge\",\"user\":\"{}\",\"points\":7,\"source\":\"gift\",\"order_id\":1,\
             \"at\":\"2026-01-01T00:00:00Z\",\"expires_at\":\"2026-01-02T00:00:00Z\"}}\n",
            crate::support::user(nth)
        )
    };
    crate::program::post(&database.url(), (0..500).map(line).collect::<String>()).expect(0);
    // The third group stands still at this account.
    let holder = database.client().await;
    let hold =
        format!("BEGIN; SELECT FROM pointsd.accounts WHERE user_id = '{}' FOR UPDATE", crate::support::user(250));
    holder.batch_execute(&hold).await.unwrap();
    let folder = Folder::new();
    let serve = || {
        let mut command = on(&database.url(), &["serve"]);
        command.args(["--config", &folder.file("pointsd.yaml", JOBS)]);
        Running::start(command)
    };
    let sessions = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pointsd'";
    let wait = async |what: &str, sql: &str| {
        assert!(finds(&client, crate::program::PATIENCE, sql, &[]).await, "waited in vain for {what}");
    };
    let frozen = serve();
    let waiting = format!("{sessions} AND wait_event = 'transactionid'");
    wait("the sweep to stand still", &waiting).await;
    frozen.signal(Signal::SIGSTOP);
    let successor = serve();
    wait("the run to be taken over", "SELECT FROM pointsd.runs WHERE attempt = 2").await;
    wait("the successor to stand still behind it", &format!("{waiting} OFFSET 1")).await;
    holder.batch_execute("COMMIT").await.unwrap();
    // The frozen daemon's session has the accounts now, and has expired their points; it is not committed.
    wait("its session to get on", &format!("{sessions} AND state = 'idle in transaction'")).await;
    frozen.signal(Signal::SIGCONT);
    wait("the run to end", "SELECT FROM pointsd.runs WHERE attempt = 2 AND state <> 'running'").await;
    let until = whole_second(Utc::now());
    settled(&client, until, crate::program::PATIENCE).await;
    for daemon in [frozen, successor] {
        daemon.signal(Signal::SIGTERM);
        daemon.finish().expect(0);
    }
    wrong(&client, until).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_daemon_does_no_harm() {
    let database = TestDatabase::new().await;
    let found = frozen_in_the_middle(&database).await;
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_fence_the_checks_find_what_breaks() {
    let database = TestDatabase::new().await;
    remove_the_fence(&database.client().await).await;
    let found = frozen_in_the_middle(&database).await;
    let says = |words: &[&str]| found.iter().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(says(&["the slot ", " failed at attempt 2: it counted ", "but its entries say 500 batches"]), "{found:#?}");
    assert!(says(&["run 1 says ", " of gift, its entries say 500"]), "{found:#?}");
}

/// The claim as it would be without its fence.
async fn remove_the_fence(client: &Client) {
    let migration = MIGRATIONS.iter().find(|migration| migration.name == "runs").unwrap().sql;
    let keep = &migration[migration.find("CREATE FUNCTION pointsd.save_part").unwrap()..];
    let keep = &keep[..keep.find("$$;").unwrap() + 3];
    let without = keep.replace("CREATE", "CREATE OR REPLACE").replace(" AND fence = kept_fence", "");
    assert_eq!(without.matches("fence").count() + 1, keep.matches("fence").count() - 1);
    client.batch_execute(&without).await.unwrap();
}

/// Requests that an application inserts into the queue in transactions of its own, some of which it rolls back.
mod requests {
    use super::*;

    /// Source ids of the requests that were committed, and of those that were not.
    #[derive(Default)]
    pub struct Inserted {
        committed: BTreeSet<String>,
        rolled_back: BTreeSet<String>,
    }

    impl Inserted {
        /// Whether there are enough of both to tell whether any was lost, or posted although it was rolled back.
        pub fn is_enough(&self) -> bool {
            self.committed.len() > 500 && self.rolled_back.len() > 100
        }
    }

    /// Inserts requests until it is over.
    pub async fn write(
        server: tokio_postgres::Config,
        mut rng: fastrand::Rng,
        over: Arc<AtomicBool>,
        inserted: Arc<Mutex<Inserted>>,
    ) {
        let mut next = 0_u32..;
        // A commit whose answer was lost may have happened or not, so the test inserts again.
        let mut unsure: Vec<u32> = Vec::new();
        loop {
            let Ok((client, connection)) = server.connect(tokio_postgres::NoTls).await else {
                pause(&mut rng, 10..50).await;
                continue;
            };
            tokio::spawn(connection);
            while !over.load(Ordering::SeqCst) || !unsure.is_empty() {
                let roll_back = unsure.is_empty() && rng.u8(..4) == 0;
                let fresh: Vec<u32> = next.by_ref().take(rng.usize(1..20)).collect();
                let numbers = [std::mem::take(&mut unsure), fresh].concat();
                let written = insert(&client, &numbers, roll_back, &mut rng).await;
                let broken = written.is_err();
                match written {
                    _ if roll_back => inserted.lock().unwrap().rolled_back.extend(numbers.into_iter().map(id)),
                    Ok(()) => inserted.lock().unwrap().committed.extend(numbers.into_iter().map(id)),
                    Err(_) => unsure = numbers,
                }
                if broken {
                    break;
                }
                pause(&mut rng, 0..40).await;
            }
            if over.load(Ordering::SeqCst) && unsure.is_empty() {
                return;
            }
        }
    }

    fn id(number: u32) -> String {
        format!("request-{number}")
    }

    async fn insert(
        client: &Client,
        numbers: &[u32],
        roll_back: bool,
        rng: &mut fastrand::Rng,
    ) -> Result<(), tokio_postgres::Error> {
        client.batch_execute("BEGIN").await?;
        for number in numbers {
            // The same again, should it be inserted again.
            let (user, points, id) = (crate::support::user(number % BLOCK), i64::from(number % 9 + 1), id(*number));
            if rng.bool() {
                let sql = "SELECT pointsd.enqueue('consume', $1, $2, source_type => 'script', source_id => $3)";
                client.query(sql, &[&user, &points, &id]).await?;
            } else {
                let sql = "INSERT INTO pointsd.requests (op, user_id, points, source_type, source_id)
                           VALUES ('consume', $1, $2, 'script', $3)";
                client.execute(sql, &[&user, &points, &id]).await?;
            }
        }
        client.batch_execute(if roll_back { "ROLLBACK" } else { "COMMIT" }).await
    }

    /// Waits until the queue is empty. Returns what is wrong: each committed request must be one entry, and no other may be.
    pub async fn wrong(client: &Client, inserted: &Inserted) -> Vec<String> {
        let empty = "SELECT WHERE NOT EXISTS (SELECT FROM pointsd.requests WHERE finished_at IS NULL)";
        assert!(finds(client, crate::program::PATIENCE, empty, &[]).await, "waited in vain for the queue to be empty");
        let mut wrong = Vec::new();
        let ended = "SELECT source_id, state, coalesce(message, '') FROM pointsd.requests
                     WHERE state NOT IN ('posted', 'replayed')";
        for row in client.query(ended, &[]).await.unwrap() {
            let (id, state, message): (&str, &str, &str) = (row.get(0), row.get(1), row.get(2));
            wrong.push(format!("{id} {state}: {message}"));
        }
        let mut left = inserted.committed.clone();
        let entries = "SELECT source_id FROM pointsd.entries WHERE source_type = 'script'";
        for row in client.query(entries, &[]).await.unwrap() {
            let id: &str = row.get(0);
            if !left.remove(id) {
                wrong.push(match inserted.committed.contains(id) {
                    true => format!("{id} has more than one entry"),
                    false => format!("{id} was rolled back and has an entry"),
                });
            }
        }
        wrong.extend(left.into_iter().map(|id| format!("{id} was committed and has no entry")));
        wrong
    }
}
