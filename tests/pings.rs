//! Dead man's switches: they hear of each run, and nothing that they do holds up a run or the daemon.

use std::time::Duration;

use crate::program::closed_port::ClosedPort;
use crate::program::switch::Switch;
use crate::program::{Folder, PATIENCE, Running, call, on, wait};
use crate::support::TestDatabase;
use nix::sys::signal::Signal;
use pointsd::pings::{Ping, Pings, Signal as Told};
use serde_json::{Value, json};

/// Long enough for any answer of the tests' switches, and a short pause.
const SOON: (Duration, Duration) = (Duration::from_secs(30), Duration::from_millis(1));

fn ping(url: &str, signal: Told, body: &str) -> Ping {
    Ping { job: "arrears", url: url.to_owned(), signal, run: None, body: body.to_owned() }
}

/// The address of a switch that is not there.
fn address_of(port: &ClosedPort) -> String {
    format!("http://127.0.0.1:{}/secret", port.number())
}

/// A daemon whose expiry runs each second and pings this switch.
struct Daemon {
    _folder: Folder,
    running: Running,
    logged: Vec<Value>,
}

impl Daemon {
    fn start(database: &str, url: &str) -> Daemon {
        let folder = Folder::new();
        let text = format!(
            "state_dir: .\nlog: {{level: trace}}\njobs: {{expiry: {{schedule: '* * * * * *', retries: 0, ping_url: '{url}'}}}}\n"
        );
        let mut command = on(database, &["serve"]);
        command.args(["--config", &folder.file("pointsd.yaml", text)]);
        Daemon { _folder: folder, running: Running::start(command), logged: Vec::new() }
    }

    #[track_caller]
    fn logs(&mut self, message: &str) -> Value {
        let logged = &mut self.logged;
        self.running.hear_json(message, |line| {
            assert!(!line.to_string().contains("secret"), "an address is in the log: {line}");
            logged.push(line.clone());
            line["message"].as_str().is_some_and(|said| said.starts_with(message))
        })
    }

    /// Tells it to stop; returns all that it logged.
    #[track_caller]
    fn stop(self) -> Vec<Value> {
        self.running.signal(Signal::SIGTERM);
        let rest = self.running.finish().expect(0).stderr;
        assert!(!rest.contains("secret"), "an address is in the log: {rest}");
        let rest = rest.lines().map(|line| serde_json::from_str(line).unwrap());
        self.logged.into_iter().chain(rest).collect()
    }
}

#[test]
fn a_switch_hears_of_each_runs_begin_and_end() {
    let database = wait(TestDatabase::new());
    let switch = Switch::new();
    let mut daemon = Daemon::start(&database.url(), switch.url());
    let started = daemon.logs("expiry started");
    let (begin, end) = (switch.next(), switch.next());
    let run = Ping::run_id("expiry", started["run_id"].as_i64().unwrap(), started["slot"].as_str().unwrap());
    assert_eq!(begin.request, format!("POST /secret/start?rid={run} HTTP/1.1"));
    assert_eq!(end.request, format!("POST /secret?rid={run} HTTP/1.1"));
    assert!(begin.body.contains(started["slot"].as_str().unwrap()), "{begin:?}");
    let counters: Value = serde_json::from_str(&end.body).unwrap();
    assert_eq!((&counters["batches"], &counters["points"]), (&json!(0), &json!(0)));
    // The next run has another number.
    let next = switch.next();
    assert!(next.request.starts_with("POST /secret/start?rid=") && next.request != begin.request, "{next:?}");
    daemon.stop();
    // A manual run pings no switch: it must not make a daemon that is down look alive.
    switch.heard_more();
    let folder = Folder::new();
    let text = format!("state_dir: .\njobs: {{expiry: {{ping_url: '{}'}}}}\n", switch.url());
    let file = folder.file("pointsd.yaml", text);
    // In a database of its own: the daemon may have stopped in the middle of a run, which would be under way still.
    let other = wait(TestDatabase::new());
    call(&other.url(), &["run", "expiry", "--config", &file]).expect(0);
    assert_eq!(switch.heard_more(), []);
}

#[test]
fn a_switch_hears_of_failures_and_of_answers_that_are_no() {
    let mut database = wait(TestDatabase::new());
    database.expect_damage();
    let client = || database.client();
    wait(async { client().await.batch_execute("ALTER TABLE pointsd.batches RENAME TO mislaid").await.unwrap() });
    let switch = Switch::new();
    let mut daemon = Daemon::start(&database.url(), switch.url());
    let failed = daemon.logs("expiry failed");
    // Among those of the runs before and after it.
    let tells =
        |path: &str| std::iter::repeat_with(|| switch.next()).take(30).find(|heard| heard.request.contains(path));
    let heard = tells("/fail").expect("a failure is told");
    let run = Ping::run_id("expiry", failed["run_id"].as_i64().unwrap(), failed["slot"].as_str().unwrap());
    assert_eq!(heard.request, format!("POST /secret/fail?rid={run} HTTP/1.1"));
    assert_eq!(heard.body, failed["reason"].as_str().unwrap());
    wait(async {
        let due = "ALTER TABLE pointsd.mislaid RENAME TO batches;
                   INSERT INTO pointsd.batches (bucket, user_id, batch, source, amount, remaining, open, opened_at, expires_at)
                   VALUES (pointsd.bucket_of('6a0f9a56-2f0c-4c57-9d2f-0d6a5e6f1c11'), '6a0f9a56-2f0c-4c57-9d2f-0d6a5e6f1c11', 1, 'gift', 5, 5, true, '2026-01-01', '2026-01-02')";
        client().await.batch_execute(due).await.unwrap();
    });
    let heard = tells("/3").expect("an answer that is no is told");
    assert!(heard.request.starts_with("POST /secret/3?rid="), "{heard:?}");
    assert_eq!(serde_json::from_str::<Value>(&heard.body).unwrap()["orphaned"], 1);
    daemon.stop();
}

#[test]
fn a_switch_that_does_not_answer_holds_up_no_run() {
    let closed = ClosedPort::new();
    for (name, switch) in [("hangs", Some(Switch::answering(|_| None))), ("is not there", None)] {
        let database = wait(TestDatabase::new());
        let url = switch.as_ref().map_or_else(|| address_of(&closed), |switch| switch.url().to_owned());
        let mut daemon = Daemon::start(&database.url(), &url);
        daemon.logs("expiry started");
        if let Some(switch) = &switch {
            assert!(switch.next().request.starts_with("POST /secret/start?"));
        }
        for _ in 0..3 {
            daemon.logs("expiry succeeded");
        }
        let logged = daemon.stop();
        let messages = || logged.iter().filter_map(|line| line["message"].as_str());
        let count = |words: &str| messages().filter(|message| message.contains(words)).count();
        // A run that waits for its ping ends after the ping is given up, and so does a stop that waits for them all.
        let (given_up, succeeded) = (count("is given up"), count("expiry succeeded"));
        assert!(given_up < succeeded, "it {name}: {given_up} pings were given up, {succeeded} runs ended");
    }
}

#[test]
fn a_passing_failure_is_tried_again_and_any_other_is_given_up() {
    wait(async {
        let pings = Pings::patient(SOON.0, SOON.1);
        // Two failures, and it arrives.
        let switch = Switch::answering(|nth| Some(if nth < 2 { 500 } else { 200 }));
        pings.send(ping(switch.url(), Told::Fail, "the reason"));
        assert!(pings.sent(PATIENCE).await);
        let heard = switch.heard_more();
        assert_eq!(heard.len(), 3, "{heard:?}");
        assert!(heard.iter().all(|one| *one == heard[0]) && heard[0].body == "the reason", "{heard:?}");
        // Never: four tries, and no more.
        let switch = Switch::answering(|_| Some(503));
        pings.send(ping(switch.url(), Told::Success, ""));
        assert!(pings.sent(PATIENCE).await);
        assert_eq!(switch.heard_more().len(), 4);
        // The address that a switch names gets no ping: the path is a secret.
        let (other, moved) = (Switch::new(), Switch::new());
        let switch = Switch::moved_to(other.url());
        pings.send(ping(switch.url(), Told::Success, ""));
        pings.send(ping(moved.url(), Told::Success, "later"));
        assert!(pings.sent(PATIENCE).await);
        assert_eq!((switch.heard_more().len(), moved.heard_more().len(), other.heard_more()), (1, 1, vec![]));
        // An address that is wrong stays wrong.
        let switch = Switch::answering(|_| Some(404));
        pings.send(ping(switch.url(), Told::Success, ""));
        assert!(pings.sent(PATIENCE).await);
        assert_eq!(switch.heard_more().len(), 1);
        // A ping that was given up does not hold up the next one.
        let (closed, switch) = (ClosedPort::new(), Switch::new());
        pings.send(ping(&address_of(&closed), Told::Start, ""));
        pings.send(ping(switch.url(), Told::Success, "done"));
        assert!(pings.sent(PATIENCE).await);
        assert_eq!(switch.heard_more().len(), 1);
    });
}

// Two threads, because the test waits for the switch without leaving its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_that_no_switch_takes_do_not_pile_up() {
    // A switch that does not answer is given up after half a second.
    let pings = Pings::patient(Duration::from_millis(500), SOON.1);
    let switch = Switch::answering(|nth| (nth > 0).then_some(200));
    pings.send(ping(switch.url(), Told::Start, "0"));
    assert_eq!(switch.next().body, "0");
    for number in 1..=1_000 {
        pings.send(ping(switch.url(), Told::Start, &number.to_string()));
    }
    assert!(!pings.sent(Duration::ZERO).await);
    // Other jobs have lines of their own.
    let other = Switch::new();
    pings.send(Ping { job: "expiry", ..ping(other.url(), Told::Success, "") });
    other.next();
    assert!(pings.sent(PATIENCE).await);
    let bodies: Vec<String> = switch.heard_more().into_iter().map(|heard| heard.body).collect();
    let expected: Vec<String> = std::iter::once(0).chain(993..=1_000).map(|number| number.to_string()).collect();
    assert_eq!(bodies, expected, "the first once more, and the latest");
}
