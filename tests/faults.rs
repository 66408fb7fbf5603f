//! Processes and connections that die at any moment. Whatever died, once it has been run again to its end the books are
//! those of an undisturbed run.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use crate::program::{Done, Folder, Running, call, eventually, on, pointsd, until_found, until_waits_for_a_lock, wait};
use crate::support::TestDatabase;
use crate::support::door::Door;
use crate::support::invariants::check_invariants;
use crate::support::rows::{Rows, assert_same};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsd::database::private_server::{Options, PrivateServer};
use pointsd::ledger::MAX_POINTS;
use serde_json::Value;
use tokio_postgres::Client;
use uuid::Uuid;

const LINES: usize = 8_000;
const ACCOUNTS: u32 = 300;
/// Accounts, numbered after the others, with so many points that no hold on them is ever refused: otherwise a hold might be
/// granted when the file is posted again, because points have come in since.
const RICH: u32 = 5;
/// When all that was recharged is gone.
const END: &str = "2026-10-01T00:00:00Z";

/// A history, and what must come of it: made once, for all tests.
struct History {
    seed: u64,
    lines: Vec<String>,
    folder: Folder,
    file: String,
    replies: Vec<Value>,
    posted: Rows,
    swept: Rows,
}

/// The history; prints its seed for the test that asks.
fn history() -> &'static History {
    static HISTORY: LazyLock<History> = LazyLock::new(|| {
        let mut rng = crate::support::rng();
        let seed = rng.get_seed();
        let mut lines = lines(&mut rng);
        let folder = Folder::new();
        let (file, database, replies) = loop {
            let file = folder.file("lines.ndjson", lines.concat());
            let database = wait(TestDatabase::new());
            let post = || call(&database.url(), &["post", &file, "--json"]).expect(3).jsons();
            let replies = post();
            // A void that was refused is accepted once late usage has restored points. A history without such lines comes to the same
            // however often it is posted.
            let again = post().into_iter().zip(&mut lines);
            let others = again.filter(|(reply, _)| !matches!(reply["status"].as_str(), Some("replayed" | "rejected")));
            if others.map(|(_, line)| "broken\n".clone_into(line)).count() == 0 {
                break (file, database, replies);
            }
        };
        let url = database.url();
        let posted = rows(&database);
        call(&url, &["run", "expiry", "--at", END]).expect(0);
        let swept = rows(&database);
        let of = |status: &str| replies.iter().filter(|reply| reply["status"] == status).count();
        let expired = posted.entries.iter().filter(|entry| entry.kind.as_str() == "expire").count();
        assert_eq!(replies.len(), LINES);
        // None of the cases is missing, whatever the seed.
        assert!(of("posted") > LINES * 3 / 4 && of("replayed") > 40 && of("rejected") > 100 && expired > 100);
        assert!(swept.entries.len() > posted.entries.len() + 100);
        for kind in ["refund", "void", "restore"] {
            let found = posted.entries.iter().filter(|entry| entry.kind.as_str() == kind).count();
            assert!(found > 3, "{found} entries of the type {kind}");
        }
        for state in ["open", "captured", "released"] {
            let found = posted.holds.iter().filter(|hold| hold.state == state).count();
            assert!(found > 5, "{found} holds that are {state}");
        }
        History { seed, lines, folder, file, replies, posted, swept }
    });
    eprintln!("POINTSD_TEST_SEED={}", HISTORY.seed);
    &HISTORY
}

/// Recharges that expire soon, consumes, refunds, voids, holds, lines that come twice, conflicts, refusals, and some that come
/// late.
fn lines(rng: &mut fastrand::Rng) -> Vec<String> {
    let start = crate::support::at("2026-01-01T00:00:00Z");
    let mut lines: Vec<String> = Vec::with_capacity(LINES);
    for nth in 0..LINES {
        let late = if rng.u8(..) < 40 { rng.i64(0..50_000) } else { 0 };
        let at = start + chrono::TimeDelta::seconds(100_000 + 60 * nth as i64 - late);
        let user = crate::support::user(rng.u32(0..ACCOUNTS));
        let (time, points) = (pointsd::time::time_text(at), rng.u32(1..1_000));
        let line = match rng.u8(0..100) {
            _ if nth < RICH as usize => format!(
                "{{\"op\":\"recharge\",\"user\":\"{}\",\"points\":{MAX_POINTS},\"source\":\"card\",\"key\":\"rich\",\
                 \"at\":\"2026-01-01T00:00:00Z\"}}\n",
                crate::support::user(ACCOUNTS + 1 + nth as u32)
            ),
            0 => lines.get(rng.usize(0..=nth)).cloned().unwrap_or_else(|| "broken\n".to_owned()),
            1 => lines[rng.usize(0..nth)].replace("\"points\":", "\"points\":7"),
            2 => "broken\n".to_owned(),
            3..30 => {
                let until = pointsd::time::time_text(at + chrono::TimeDelta::seconds(rng.i64(1..400_000)));
                format!(
                    "{{\"op\":\"recharge\",\"user\":\"{user}\",\"points\":{points},\"source\":\"gift\",\
                     \"order_id\":{nth},\"at\":\"{time}\",\"expires_at\":\"{until}\"}}\n"
                )
            }
            30..40 => format!(
                "{{\"op\":\"recharge\",\"user\":\"{user}\",\"points\":{points},\"source\":\"card\",\
                 \"key\":\"k{nth}\",\"at\":\"{time}\"}}\n"
            ),
            40..46 => takes_back(&lines[rng.usize(0..nth)], &time, nth),
            46..49 => {
                let user = crate::support::user(ACCOUNTS + 1 + rng.u32(0..RICH));
                let until = pointsd::time::time_text(at + chrono::TimeDelta::seconds(rng.i64(1..400_000)));
                format!(
                    "{{\"op\":\"hold\",\"user\":\"{user}\",\"points\":{points},\"source_type\":\"tts\",\
                     \"source_id\":\"h{nth}\",\"at\":\"{time}\",\"until\":\"{until}\"}}\n"
                )
            }
            49..52 => ends_hold(rng, &lines, &time),
            _ => format!(
                "{{\"op\":\"consume\",\"user\":\"{user}\",\"points\":{},\"source_type\":\"tts\",\
                 \"source_id\":\"t{nth}\",\"at\":\"{time}\"}}\n",
                points.div_ceil(4)
            ),
        };
        lines.push(line);
    }
    lines
}

/// A refund of an earlier consume, or a void of an earlier recharge; else a line that is refused.
fn takes_back(earlier: &str, at: &str, nth: usize) -> String {
    let Ok(earlier) = serde_json::from_str::<Value>(earlier) else { return "broken\n".to_owned() };
    let mut line = serde_json::json!({ "user": earlier["user"], "at": at, "key": format!("back {nth}") });
    match earlier["op"].as_str() {
        Some("consume") => {
            line["op"] = "refund".into();
            (line["source_type"], line["source_id"]) = (earlier["source_type"].clone(), earlier["source_id"].clone());
        }
        Some("recharge") if earlier["key"] == "rich" => return "broken\n".to_owned(),
        Some("recharge") if earlier["key"].is_string() => {
            (line["op"], line["of"]) = ("void".into(), earlier["key"].clone())
        }
        Some("recharge") => {
            line["op"] = "void".into();
            (line["source"], line["order_id"]) = (earlier["source"].clone(), earlier["order_id"].clone());
        }
        _ => return "broken\n".to_owned(),
    }
    format!("{line}\n")
}

/// The consume or the release of a hold among the last lines.
fn ends_hold(rng: &mut fastrand::Rng, lines: &[String], at: &str) -> String {
    let holds = lines.iter().rev().filter(|line| line.starts_with("{\"op\":\"hold\""));
    let Some(hold) = holds.take(10).nth(rng.usize(0..10)) else { return "broken\n".to_owned() };
    let mut line: Value = serde_json::from_str(hold).unwrap();
    let fields = line.as_object_mut().unwrap();
    fields.remove("until");
    fields.insert("at".to_owned(), at.into());
    if rng.bool() {
        fields.insert("op".to_owned(), "consume".into());
    } else {
        fields.insert("op".to_owned(), "release".into());
        fields.remove("points");
    }
    format!("{line}\n")
}

/// Whether a line that got this reply may get that one when it is posted again. A hold may have ended in the meantime.
fn is_reply_again(first: &Value, again: &Value) -> bool {
    match first["status"].as_str() {
        Some("rejected") => again["status"] == "rejected",
        _ => again["status"] == "replayed" || first["until"].is_string() && again["code"] == "key_conflict",
    }
}

fn rows(database: &TestDatabase) -> Rows {
    wait(async { Rows::read(&database.client().await).await })
}

/// Every posting that was answered is in the books.
fn assert_kept(replies: &[Value], rows: &Rows, context: &str) {
    let books: HashMap<(Uuid, i64), i64> =
        rows.entries.iter().map(|entry| ((entry.user, entry.seq), entry.balance_after)).collect();
    for reply in replies.iter().filter(|reply| reply["balance_after"].is_i64()) {
        let key = (reply["user"].as_str().unwrap().parse().unwrap(), reply["seq"].as_i64().unwrap());
        assert_eq!(books.get(&key).copied(), reply["balance_after"].as_i64(), "{context}: {reply}");
    }
}

/// Replies, the last of which may be cut off.
fn whole(lines: &[String]) -> Vec<Value> {
    lines.iter().filter(|line| line.ends_with('\n')).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A random short time, so that the moment is a random one too; nothing is waited for.
fn hesitate(rng: &mut fastrand::Rng, longest: Duration) {
    std::thread::sleep(longest.mul_f64(rng.f64()));
}

/// Until no session of pointsd is left: a killed program's sessions end when the server notices.
async fn until_sessions_end(client: &Client) {
    let sql = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pointsd'";
    until_found(client, "the sessions to end", &format!("SELECT WHERE NOT EXISTS ({sql})")).await;
}

#[test]
fn post_killed_at_random_moments() {
    let history = history();
    let mut rng = fastrand::Rng::with_seed(history.seed);
    let database = wait(TestDatabase::new());
    let url = database.url();
    let mut killed = 0;
    // Two before the first reply: while it starts, connects or posts its first group. The others while a chunk is half posted, and in an
    // order of its own.
    let moments = [0, 0].into_iter().chain((0..4).map(|_| rng.usize(1..LINES / 2))).collect::<Vec<_>>();
    for (nth, replies) in moments.into_iter().enumerate() {
        let mut running = Running::start(on(&url, &["post", &history.file, "--json"]));
        let mut told: Vec<String> = (0..replies).map(|_| running.next_line().unwrap()).collect();
        hesitate(&mut rng, Duration::from_millis(40));
        running.signal(Signal::SIGKILL);
        let done = running.finish();
        // It may just have come to its end.
        killed += usize::from(done.status.code().is_none());
        told.extend(done.stdout.split_inclusive('\n').map(str::to_owned));
        let context = format!("killed after reply {replies}, the {nth}th time");
        wait(async {
            let client = database.client().await;
            until_sessions_end(&client).await;
            check_invariants(&client).await;
            assert_kept(&whole(&told), &Rows::read(&client).await, &context);
        });
    }
    assert!(killed > 0, "it always came to its end before it could be killed");
    call(&url, &["post", &history.file]).expect(3);
    assert_same(&rows(&database), &history.posted, "after the last run");
}

#[test]
fn the_sweep_killed_at_random_moments() {
    let history = history();
    let mut rng = fastrand::Rng::with_seed(history.seed);
    // Accounts for several groups, each with something due.
    let wide: String = (0..6_000)
        .map(|nth| {
            let user = crate::support::user(nth);
            format!(
                "{{\"op\":\"recharge\",\"user\":\"{user}\",\"points\":{},\"source\":\"gift\",\"order_id\":-1}}\n",
                nth + 1
            )
        })
        .collect();
    let databases = [wait(TestDatabase::new()), wait(TestDatabase::new())];
    for database in &databases {
        let wide = wide.replace("-1}", "-1,\"at\":\"2026-01-01T00:00:00Z\"}");
        crate::program::post(&database.url(), wide + &history.lines[..LINES / 4].concat()).expect(3);
    }
    let [undisturbed, database] = &databases;
    let all = call(&undisturbed.url(), &["run", "expiry", "--at", END, "--json"]).expect(0).json();
    let all = (all["batches"].as_u64().unwrap(), all["accounts"].as_u64().unwrap());
    assert!(all.0 > 6_000 && all.1 > 5_700, "{all:?}");

    let url = database.url();
    // After a killed holder the next daemon waits until its heartbeats count as missed.
    let folder = Folder::new();
    let config = folder.file("pointsd.yaml", "jobs: {takeover_seconds: 1, expiry: {lanes: 1}}\n");
    let sweep = ["run", "expiry", "--at", END, "--json", "--wait", "--config", &config];
    let expired = |rows: &Rows| rows.entries.iter().filter(|entry| entry.source_type == "gift").count();
    for round in 0..4 {
        let before = expired(&rows(database));
        // Another session holds an account, so that the sweep stands still right before it.
        wait(async {
            let (holder, client) = (database.client().await, database.client().await);
            let due = "SELECT DISTINCT bucket, user_id FROM pointsd.batches WHERE open ORDER BY bucket, user_id";
            let due = client.query(due, &[]).await.unwrap();
            let due: Vec<(i16, Uuid)> = due.iter().map(|row| (row.get(0), row.get(1))).collect();
            // The sweep begins with a group of the first bucket, of a thousand accounts at most. Beyond it, so that each round gets on.
            let first_group = due.iter().take(1_000).take_while(|(bucket, _)| *bucket == due[0].0).count();
            let (_, held) = due[rng.usize(first_group..due.len().min(first_group + 1_000))];
            holder.batch_execute("BEGIN").await.unwrap();
            holder.execute("SELECT FROM pointsd.accounts WHERE user_id = $1 FOR UPDATE", &[&held]).await.unwrap();
            let running = Running::start(on(&url, &sweep));
            until_waits_for_a_lock(&client).await;
            running.signal(Signal::SIGKILL);
            running.finish().expect_signal(Signal::SIGKILL);
            holder.batch_execute("COMMIT").await.unwrap();
            until_sessions_end(&client).await;
            check_invariants(&client).await;
        });
        let now = expired(&rows(database));
        assert!(now > before, "round {round}: {now} after {before}");
        // And somewhere on its way, or before it, or after it.
        let running = Running::start(on(&url, &[&sweep[..], &["--dry-run"][..usize::from(round % 2 == 0)]].concat()));
        hesitate(&mut rng, Duration::from_millis(120));
        running.signal(Signal::SIGKILL);
        running.finish();
        wait(async {
            let client = database.client().await;
            until_sessions_end(&client).await;
            check_invariants(&client).await;
        });
        let now = rows(database);
        if now.batches.iter().filter(|batch| batch.open).count() < 1_500 {
            break;
        }
    }
    call(&url, &sweep).expect(0);
    assert_same(&rows(database), &rows(undisturbed), "after the last run");
    let again = call(&url, &sweep).expect(0).json();
    assert_eq!((&again["batches"], &again["points"]), (&0.into(), &0.into()));
}

/// Ends the program's sessions on all servers. Returns how many they were.
async fn end_sessions(client: &tokio_postgres::Client) -> i64 {
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE datname = current_database() AND application_name = 'pointsd'";
    let ended: i64 = client.query_one(end, &[]).await.unwrap().get(0);
    if std::env::var_os("POINTSD_TEST_CLUSTER").is_none() {
        return ended;
    }
    let each = "SELECT sum(result::bigint)::bigint FROM run_command_on_workers($1)";
    ended + client.query_one(each, &[&end]).await.unwrap().get::<_, i64>(0)
}

#[test]
fn connections_ended_by_the_server_at_random_moments() {
    let history = history();
    let mut rng = fastrand::Rng::with_seed(history.seed);
    let database = wait(TestDatabase::new());
    let mut running = Running::start(on(&database.url(), &["post", &history.file, "--json"]));
    let (replies, ended) = wait(async {
        let client = database.client().await;
        let (mut replies, mut ended) = (Vec::new(), 0);
        let mut next = rng.usize(1..1_000);
        while let Some(line) = running.next_line() {
            replies.push(serde_json::from_str::<Value>(&line).unwrap());
            if replies.len() == next {
                next += rng.usize(1..LINES / 4);
                hesitate(&mut rng, Duration::from_millis(30));
                ended += end_sessions(&client).await;
            }
        }
        (replies, ended)
    });
    let done = running.finish().expect(3);
    assert!(ended >= 2, "only {ended} connections were ended");
    assert!(done.stderr.contains("trying a group again"), "{}", done.stderr);
    assert_eq!(replies.len(), LINES);
    for (reply, undisturbed) in replies.iter().zip(&history.replies) {
        // What was written when the connection broke replays: that is the only difference.
        let same = reply["status"] == undisturbed["status"];
        assert!(same || is_reply_again(undisturbed, reply), "{reply} for {undisturbed}");
        if undisturbed["until"].is_string() && !same {
            continue;
        }
        for field in ["line", "user", "seq", "code", "balance_after"] {
            assert_eq!(reply[field], undisturbed[field], "{reply} for {undisturbed}");
        }
    }
    assert_same(&rows(&database), &history.posted, "after the run");
}

/// A private server of pointsd's own, in use by the test too, so that it stays between two calls.
struct PrivateLedger {
    server: Option<PrivateServer>,
    folder: Folder,
}

impl PrivateLedger {
    fn start() -> PrivateLedger {
        let folder = Folder::new();
        let options = Options { state_dir: folder.path().join("state"), bin: None, extra: Vec::new() };
        let server =
            wait(PrivateServer::start(options)).unwrap_or_else(|error| panic!("{}", pointsd::errors::chain(&error)));
        PrivateLedger { server: Some(server), folder }
    }

    fn server(&self) -> &PrivateServer {
        self.server.as_ref().unwrap()
    }

    fn config(&self) -> String {
        self.folder.file("pointsd.yaml", "state_dir: state\n")
    }

    fn running(&self, arguments: &[&str]) -> Running {
        let mut command = pointsd(arguments);
        command.args(["--config", &self.config()]);
        Running::start(command)
    }

    fn kill_server(&self) {
        if let Some(pid) = self.server().postmaster_pid() {
            // It is the server's own, or gone already.
            kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).ok();
        }
    }

    fn rows(&self) -> Rows {
        wait(async {
            self.server().ensure_running().await.unwrap();
            let client = crate::support::connect(&self.server().config()).await;
            check_invariants(&client).await;
            Rows::read(&client).await
        })
    }
}

impl Drop for PrivateLedger {
    fn drop(&mut self) {
        if let Err(error) = wait(self.server.take().unwrap().stop()) {
            eprintln!("the server was not stopped: {}", pointsd::errors::chain(&error));
        }
    }
}

#[test]
fn the_private_server_killed_at_random_moments() {
    let history = history();
    let mut rng = fastrand::Rng::with_seed(history.seed);
    let ledger = PrivateLedger::start();

    // It rides through one crash after the other, or says clearly that it did not.
    let mut running = ledger.running(&["post", &history.file, "--json"]);
    let (mut told, mut next, mut kills) = (Vec::new(), rng.usize(1..LINES / 3), 0);
    while let Some(line) = running.next_line() {
        told.push(line);
        if told.len() == next {
            next += rng.usize(LINES / 6..LINES / 2);
            kills += 1;
            hesitate(&mut rng, Duration::from_millis(30));
            ledger.kill_server();
        }
    }
    let done = running.finish();
    assert!(kills > 0);
    assert_kept(&whole(&told), &ledger.rows(), "after crashes of the server");
    match done.status.code() {
        Some(3) => assert_eq!(told.len(), LINES),
        Some(1) => assert_ended_early(&done, told.len()),
        _ => panic!("{done:#?}"),
    }
    ledger.running(&["post", &history.file]).finish().expect(3);
    assert_same(&ledger.rows(), &history.posted, "after the last post");

    for _ in 0..2 {
        let running = ledger.running(&["run", "expiry", "--at", END]);
        hesitate(&mut rng, Duration::from_millis(200));
        ledger.kill_server();
        let done = running.finish();
        match done.status.code() {
            Some(0) => {}
            // A log line may stand before it.
            Some(1) => assert!(done.stderr.lines().any(|line| line.starts_with("pointsd: ")), "{done:#?}"),
            _ => panic!("{done:#?}"),
        }
        ledger.rows();
    }
    ledger.running(&["run", "expiry", "--at", END]).finish().expect(0);
    assert_same(&ledger.rows(), &history.swept, "after the last sweep");
}

/// It said to which line it came, and that is the last one it answered.
fn assert_ended_early(done: &Done, answered: usize) {
    for says in [
        "the input was not finished; call again with the same input from its start, what was posted replays",
        &format!("lines 1 to {answered} have been answered; the lines after them have not"),
    ] {
        assert!(done.stderr.contains(says), "it should say {says:?}: {done:#?}");
    }
}

#[test]
fn ctrl_c_in_the_middle_of_post() {
    let history = history();
    let database = wait(TestDatabase::new());
    let url = database.url();
    // The account of a line in the middle is held, so that its group stands still.
    let held = crate::support::user(ACCOUNTS);
    let mut lines = history.lines.clone();
    let middle = format!(
        "{{\"op\":\"consume\",\"user\":\"{held}\",\"points\":1,\"source_type\":\"tts\",\"source_id\":\"held\"}}\n"
    );
    lines[LINES / 4] = middle.replace("\"held\"", "\"held\",\"at\":\"2026-01-01T00:00:00Z\"");
    // The other half is too far away to be of the same chunk.
    let half = lines.split_off(LINES / 2);
    lines.resize(LINES / 2 + 70_000, "broken\n".to_owned());
    lines.extend(half);
    let file = history.folder.file("with-a-held-account.ndjson", lines.concat());
    call(&url, &["recharge", &held.to_string(), "5", "--source", "gift", "--at", "2026-01-01T00:00:00Z"]).expect(0);
    let running = wait(async {
        let (holder, client) = (database.client().await, database.client().await);
        holder.batch_execute("BEGIN").await.unwrap();
        holder.execute("SELECT FROM pointsd.accounts WHERE user_id = $1 FOR UPDATE", &[&held]).await.unwrap();
        let running = Running::start(on(&url, &["post", &file, "--json"]));
        until_waits_for_a_lock(&client).await;
        running.signal(Signal::SIGINT);
        holder.batch_execute("COMMIT").await.unwrap();
        running
    });
    let done = running.finish().expect(1);
    let answered = done.jsons();
    let last = answered.len();
    assert!((LINES / 4 + 1..lines.len() - LINES / 2).contains(&last), "{last} lines were answered");
    for (nth, reply) in answered.iter().enumerate() {
        assert_eq!(reply["line"], nth + 1, "{reply}");
    }
    let says = format!(
        "pointsd: interrupted; lines 1 to {last} have been answered. Call again with the same input from its \
         start: posted lines replay.\n"
    );
    assert_eq!(done.stderr, says);

    // Those lines and no others are in the books: the same as if the file ended there.
    let other = wait(TestDatabase::new());
    call(&other.url(), &["recharge", &held.to_string(), "5", "--source", "gift", "--at", "2026-01-01T00:00:00Z"])
        .expect(0);
    crate::program::post(&other.url(), lines[..last].concat()).expect(3);
    let without_own_key = |database: &TestDatabase| {
        let mut rows = rows(database);
        // The recharge by hand has a random key.
        rows.entries.iter_mut().filter(|entry| entry.user == held && entry.seq == 1).for_each(|entry| entry.key = None);
        rows
    };
    assert_same(&without_own_key(&database), &without_own_key(&other), "after Ctrl-C");

    // Again from the start: those replay, the rest posts.
    let again = call(&url, &["post", &file, "--json"]).expect(3).jsons();
    crate::program::post(&other.url(), lines[last..].concat()).expect(3);
    for (first, again) in answered.iter().zip(&again) {
        assert!(is_reply_again(first, again), "{first}, then {again}");
        assert!(again["seq"] == first["seq"] || first["until"].is_string(), "{first}, then {again}");
    }
    assert!(again[last..].iter().any(|reply| reply["status"] == "posted"));
    assert_same(&without_own_key(&database), &without_own_key(&other), "after the second run");
}

#[test]
fn a_signal_while_nothing_comes_in() {
    let history = history();
    for (signal, lines, says) in [
        (Signal::SIGINT, 10, "pointsd: interrupted; lines 1 to 10 have been answered."),
        (Signal::SIGTERM, 0, "pointsd: interrupted; no line has been answered."),
    ] {
        let database = wait(TestDatabase::new());
        let mut running = Running::start(on(&database.url(), &["post", "-", "--json"]));
        let connected =
            "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pointsd'";
        wait(async { until_found(&database.client().await, "the program's session", connected).await });
        for line in &history.lines[..lines] {
            running.write(line);
            running.next_line().unwrap();
        }
        // The input stays open, and silent.
        let stdin = running.stdin.take();
        running.signal(signal);
        let done = running.finish().expect(1);
        assert!(done.stderr.starts_with(says), "{done:#?}");
        drop(stdin);
        let entries = rows(&database).entries.into_iter().filter(|entry| entry.key.is_some()).count();
        assert_eq!(entries, history.replies[..lines].iter().filter(|reply| reply["status"] == "posted").count());
    }
}

#[test]
fn a_database_that_goes_away_and_stays_away() {
    let history = history();
    let mut rng = fastrand::Rng::with_seed(history.seed);
    let database = wait(TestDatabase::new());
    let config = database.config();
    let [tokio_postgres::config::Host::Unix(socket)] = config.get_hosts() else { panic!("{config:?}") };
    let room = Folder::new();
    let door = Door::new(room.path(), socket);
    let folder = room.path().to_str().unwrap().replace('/', "%2F");
    let (role, name) = (config.get_user().unwrap(), config.get_dbname().unwrap());
    let url = format!("postgres://{role}@{folder}:5432/{name}");

    let config = room.file("pointsd.yaml", "database: {keep_trying_seconds: 5}\n");
    let mut running = Running::start(on(&url, &["post", &history.file, "--json", "--config", &config]));
    // Of the first chunk: the last one may hold the rest of the file.
    let before = rng.usize(1..1_000);
    let mut told: Vec<String> = (0..before).map(|_| running.next_line().unwrap()).collect();
    door.shut();
    let done = running.finish().expect(1);
    told.extend(done.stdout.split_inclusive('\n').map(str::to_owned));
    let replies = whole(&told);
    assert!((before..LINES).contains(&replies.len()), "{} after {before}", replies.len());
    assert_ended_early(&done, replies.len());
    let says = format!("cannot connect to PostgreSQL at {}:5432/{name}", room.path().display());
    assert!(done.stderr.contains(&says), "{done:#?}");
    wait(async { until_sessions_end(&database.client().await).await });
    assert_kept(&replies, &rows(&database), "after the database went away");

    call(&database.url(), &["post", &history.file]).expect(3);
    assert_same(&rows(&database), &history.posted, "after the last run");
}

#[test]
fn the_same_file_posted_twice_at_once() {
    let history = history();
    let database = wait(TestDatabase::new());
    let post = || Running::start(on(&database.url(), &["post", &history.file, "--json"]));
    let (one, other) = (post(), post());
    let other = std::thread::spawn(|| other.finish());
    let (one, other) = (one.finish().expect(3).jsons(), other.join().unwrap().expect(3).jsons());
    assert_eq!((one.len(), other.len()), (LINES, LINES));
    for (expected, (one, other)) in history.replies.iter().zip(one.iter().zip(&other)) {
        let status = |reply: &Value| reply["status"].as_str().unwrap().to_owned();
        let mut found = [status(one), status(other)];
        found.sort();
        if expected["until"].is_string() {
            let fit =
                |first: &Value, again: &Value| first["status"] == expected["status"] && is_reply_again(first, again);
            assert!(fit(one, other) || fit(other, one), "{one} and {other} for {expected}");
            continue;
        }
        match expected["status"].as_str().unwrap() {
            "posted" => assert_eq!(found, ["posted", "replayed"], "{one} and {other}"),
            alike => assert_eq!(found, [alike, alike], "{one} and {other}"),
        }
        for field in ["line", "seq", "code", "amount", "balance_after", "allocations"] {
            assert_eq!([&one[field], &other[field]], [&expected[field]; 2], "{one} and {other}");
        }
    }
    assert_same(&rows(&database), &history.posted, "after both");
}

/// Every process that a test left behind would be found by the next: this one proves that a call ends what it began.
#[test]
fn a_private_server_is_stopped_by_its_last_user() {
    let folder = Folder::new();
    let config = folder.file("pointsd.yaml", "state_dir: state\n");
    let user = crate::support::user(1).to_string();
    call_with(&config, &["recharge", &user, "5", "--source", "gift"]);
    let pid_file = folder.path().join("state/postgres/data/postmaster.pid");
    assert!(!pid_file.exists(), "the server still runs");

    // A user that is killed leaves it running; the next one takes it over and stops it.
    let mut command = pointsd(&["post", "-", "--json", "--config", &config]);
    command.env_remove("POINTSD_CONFIG");
    let mut running = Running::start(command);
    running.write(&format!(
        "{{\"op\":\"consume\",\"user\":\"{user}\",\"points\":1,\"source_type\":\"tts\",\"source_id\":\"t\"}}\n"
    ));
    assert!(running.next_line().unwrap().contains("\"status\":\"posted\""));
    running.signal(Signal::SIGKILL);
    running.finish().expect_signal(Signal::SIGKILL);
    assert!(pid_file.exists(), "the server is gone");
    assert_eq!(call_with(&config, &["balance", &user, "--json"]).json()["balance"], 4);
    eventually("the server to be gone", || (!pid_file.exists()).then_some(()));
}

fn call_with(config: &str, arguments: &[&str]) -> Done {
    let mut command = pointsd(arguments);
    command.args(["--config", config]);
    crate::program::run(command).expect(0)
}
