//! `/metrics`: what it shows, and that it never waits for the database.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{Answer, Site, agent, answer};
use crate::program::{Folder, Running, eventually, pointsd, run, wait};
use crate::support::user;

/// A scrape: the value of each series, by its name with its labels.
struct Scrape {
    text: String,
    values: BTreeMap<String, f64>,
    /// The type of each family.
    types: BTreeMap<String, String>,
}

impl Scrape {
    /// Of a daemon at this address, without a token.
    #[track_caller]
    fn of(address: &str) -> Scrape {
        let Answer { status, headers, body } = answer(agent().get(format!("http://{address}/metrics")).call());
        assert_eq!(
            (status, headers["content-type"].to_str().unwrap()),
            (200, "text/plain; version=0.0.4; charset=utf-8"),
            "{body}"
        );
        Scrape::parse(body)
    }

    /// Once both parts of the database's values are there.
    #[track_caller]
    fn collected(address: &str) -> Scrape {
        eventually("both parts to be collected", || {
            let scrape = Scrape::of(address);
            let part = |part: &str| {
                scrape.values.contains_key(&format!("pointsd_collected_timestamp_seconds{{part=\"{part}\"}}"))
            };
            (part("operations") && part("points")).then_some(scrape)
        })
    }

    /// Reads Prometheus text strictly: each family with its help and its type before its values, each series once.
    #[track_caller]
    fn parse(text: String) -> Scrape {
        let (mut values, mut types) = (BTreeMap::new(), BTreeMap::new());
        let (mut family, mut helped) = (String::new(), String::new());
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect(line);
                assert!(name.starts_with("pointsd_") && help.len() > 10, "{line}");
                helped = name.to_owned();
                continue;
            }
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect(line);
                assert_eq!(name, helped, "help comes before the type");
                assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
                assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "twice: {line}");
                family = name.to_owned();
                continue;
            }
            let (series, value) = line.rsplit_once(' ').expect(line);
            let name = series.split('{').next().unwrap();
            let base = match types[&family].as_str() {
                "histogram" => {
                    ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).expect(line)
                }
                _ => name,
            };
            assert_eq!(base, family, "{line}");
            assert!(values.insert(series.to_owned(), value.parse().expect(line)).is_none(), "twice: {line}");
        }
        Scrape { text, values, types }
    }

    #[track_caller]
    fn value(&self, series: &str) -> f64 {
        *self.values.get(series).unwrap_or_else(|| panic!("{series} is not in {}", self.text))
    }

    #[track_caller]
    fn assert(&self, expected: &[(&str, f64)]) {
        let found: Vec<(&str, f64)> = expected.iter().map(|(series, _)| (*series, self.value(series))).collect();
        assert_eq!(found, expected, "left found, right expected");
    }
}

/// A checkout's path.
fn checkout(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

/// Where promtool is.
fn promtool() -> String {
    let own = checkout("target/promtool/promtool");
    let is_there = |name: &String| Command::new(name).arg("--version").output().is_ok();
    let found = [own, "promtool".to_owned()].into_iter().find(is_there);
    found.expect("promtool is missing: script/setup tests installs it")
}

/// Has promtool check a scrape.
fn check_with_promtool(scrape: &Scrape) {
    let mut command = Command::new(promtool());
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(scrape.text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

fn recharge(nth: u32, points: i64, order: u32) -> Value {
    json!({ "op": "recharge", "user": user(nth), "points": points, "source": "gift", "order_id": order })
}

fn consume(nth: u32, points: i64, task: &str) -> Value {
    json!({ "op": "consume", "user": user(nth), "points": points, "source_type": "a caller's text", "source_id": task })
}

/// A job that comes due once a year.
const YEARLY: &str = "http: {listen: '127.0.0.1:0'}\njobs: {prune: {schedule: '0 0 1 1 *', catch_up: none}}\n";

impl Site {
    #[track_caller]
    fn post_all(&self, postings: &[Value]) {
        let answer = self.post("application/json", Value::from(postings.to_vec()).to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Stops the daemon and starts it again; meanwhile `change` does something.
    fn restart(&mut self, change: impl FnOnce(&Site)) {
        self.signal(Signal::SIGTERM);
        self.stopped();
        change(self);
        self.serve();
    }
}

#[test]
fn a_scrape_shows_what_was_posted_and_counters_go_on_after_a_restart() {
    let mut site = Site::with(YEARLY);
    let expired = json!({
        "op": "recharge", "user": user(3), "points": 7, "source": "card", "order_id": 3,
        "at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-02T00:00:00Z",
    });
    site.post_all(&[recharge(1, 100, 1), recharge(1, 100, 1), recharge(2, 50, 2), expired]);
    site.post_all(&[consume(1, 30, "a"), consume(2, 80, "b"), recharge(1, 5, 1)]);
    assert_eq!(site.get(&format!("/nowhere/{}", user(1))).status, 404);
    let scrape = Scrape::of(&site.address);
    scrape.assert(&[
        (r#"pointsd_postings_total{way="http",kind="recharge",outcome="posted"}"#, 3.0),
        (r#"pointsd_postings_total{way="http",kind="recharge",outcome="replayed"}"#, 1.0),
        (r#"pointsd_postings_total{way="http",kind="recharge",outcome="rejected"}"#, 1.0),
        (r#"pointsd_postings_total{way="http",kind="consume",outcome="posted"}"#, 2.0),
        (r#"pointsd_group_postings_sum{way="http"}"#, 7.0),
        (r#"pointsd_http_requests_total{method="POST",route="/v1/postings",status="200"}"#, 2.0),
        (r#"pointsd_http_requests_total{method="GET",route="none",status="404"}"#, 1.0),
        (r#"pointsd_http_request_duration_seconds_count{method="POST",route="/v1/postings"}"#, 2.0),
        ("pointsd_pool_connections_max", 8.0),
    ]);
    let groups = scrape.value(r#"pointsd_group_postings_count{way="http"}"#);
    assert_eq!(scrape.value(r#"pointsd_group_duration_seconds_bucket{way="http",le="+Inf"}"#), groups);

    run(site.command(&["run", "expiry"])).expect(0);
    // An application's request that is refused.
    let refused = "INSERT INTO pointsd.requests (op, user_id, points, source, order_id)
                   VALUES ('recharge', gen_random_uuid(), 1, 'nowhere', 1)";
    // Slots of the last three years, in which no daemon was there.
    let missed = "UPDATE pointsd.jobs SET since = since - interval '3 years' WHERE job = 'prune'";
    site.restart(|site| wait(async { site.database.client().await.batch_execute(missed).await.unwrap() }));
    wait(async { site.database.client().await.batch_execute(refused).await.unwrap() });
    eventually("the request to be refused", || {
        let queue = r#"pointsd_postings_total{way="queue",kind="recharge",outcome="rejected"}"#;
        Scrape::of(&site.address).values.contains_key(queue).then_some(())
    });
    let before = [
        (r#"pointsd_points_posted_total{kind="recharge",source="gift"}"#, 150.0),
        (r#"pointsd_points_posted_total{kind="recharge",source="card"}"#, 7.0),
        (r#"pointsd_points_posted_total{kind="consume",source="gift"}"#, 80.0),
        (r#"pointsd_points_posted_total{kind="consume",source="arrears"}"#, 30.0),
        (r#"pointsd_points_expired_total{source="card"}"#, 7.0),
        (r#"pointsd_points_outstanding{source="gift"}"#, 70.0),
        (r#"pointsd_points_outstanding{source="card"}"#, 0.0),
        ("pointsd_arrears_points", 30.0),
        ("pointsd_accounts_in_arrears", 1.0),
        ("pointsd_findings_open", 0.0),
        ("pointsd_database_up", 1.0),
        (r#"pointsd_slots_total{job_name="prune",state="missed"}"#, 3.0),
        (r#"pointsd_slots_total{job_name="prune",state="succeeded"}"#, 0.0),
        (r#"pointsd_job_paused{job_name="expiry"}"#, 0.0),
    ];
    // The daemon takes orders before it has looked for slots that it missed.
    let scrape = eventually("the missed slots to be counted", || {
        let scrape = Scrape::collected(&site.address);
        let missed = scrape.value(r#"pointsd_slots_total{job_name="prune",state="missed"}"#);
        (missed > 0.0).then_some(scrape)
    });
    scrape.assert(&before);
    assert!(scrape.value(r#"pointsd_job_last_duration_seconds{job_name="expiry"}"#) < 60.0);
    let succeeded = scrape.value(r#"pointsd_job_last_success_timestamp_seconds{job_name="expiry"}"#);
    let due = scrape.value(r#"pointsd_job_next_due_timestamp_seconds{job_name="expiry"}"#);
    assert!(succeeded > 1.7e9 && due > succeeded && due <= succeeded + 86_400.0, "{succeeded} {due}");
    check_with_promtool(&scrape);

    // The counters go on where they were. A source that is no longer configured is one of the others.
    site.post_all(&[recharge(2, 10, 4), consume(1, 3, "c")]);
    site.restart(|site| {
        site.folder.file("pointsd.yaml", format!("{YEARLY}ledger: {{sources: {{card: }}}}\n"));
    });
    let scrape = Scrape::collected(&site.address);
    scrape.assert(&[
        (r#"pointsd_points_posted_total{kind="recharge",source="other"}"#, 160.0),
        (r#"pointsd_points_posted_total{kind="consume",source="other"}"#, 83.0),
        (r#"pointsd_points_posted_total{kind="consume",source="arrears"}"#, 30.0),
        (r#"pointsd_points_expired_total{source="card"}"#, 7.0),
        (r#"pointsd_points_outstanding{source="other"}"#, 67.0),
        ("pointsd_arrears_points", 20.0),
        (r#"pointsd_requests{state="refused"}"#, 1.0),
        (r#"pointsd_requests{state="pending"}"#, 0.0),
        ("pointsd_requests_oldest_age_seconds", 0.0),
    ]);
    for text in ["a caller's text", "gift", &user(1).to_string()] {
        assert!(!scrape.text.contains(text), "{text} in {}", scrape.text);
    }
}

/// A private server that stands still, until this is dropped.
struct Frozen(Vec<Pid>);

impl Frozen {
    /// The server in a state folder, with all its processes.
    fn server_in(state: &Path) -> Frozen {
        let text = std::fs::read_to_string(state.join("postgres/data/postmaster.pid")).unwrap();
        let postmaster: i32 = text.lines().next().unwrap().parse().unwrap();
        let freeze = |pid: i32| kill(Pid::from_raw(pid), Signal::SIGSTOP).map(|()| Pid::from_raw(pid));
        let mut frozen = vec![freeze(postmaster).unwrap()];
        let children = std::fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children")).unwrap();
        // One may end meanwhile.
        frozen.extend(children.split_whitespace().filter_map(|pid| freeze(pid.parse().unwrap()).ok()));
        assert!(frozen.len() > 5, "{frozen:?}");
        Frozen(frozen)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for pid in &self.0 {
            kill(*pid, Signal::SIGCONT).ok();
        }
    }
}

#[test]
fn a_scrape_answers_while_the_database_is_frozen() {
    let folder = Folder::new();
    folder.file("pointsd.yaml", "state_dir: state\nhttp: {listen: '127.0.0.1:0'}\n");
    let mut command = pointsd(&["serve"]);
    command.env("POINTSD_CONFIG", folder.path().join("pointsd.yaml"));
    let mut running = Running::start(command);
    let mut address = String::new();
    running.hear_json("ready", |line| {
        if line["message"].as_str().is_some_and(|message| message.starts_with("listening")) {
            address = line["address"].as_str().unwrap().to_owned();
        }
        line["message"] == "ready"
    });
    let health = |path: &str| answer(agent().get(format!("http://{address}{path}")).call()).status;
    assert_eq!((Scrape::collected(&address).value("pointsd_database_up"), health("/readyz")), (1.0, 200));

    let frozen = Frozen::server_in(&folder.path().join("state"));
    // No scrape waits for the database: this one still shows what was collected before.
    let last = Scrape::of(&address);
    assert_eq!(last.value("pointsd_database_up"), 1.0);
    // Until the next collection has failed.
    eventually("the daemon to see it", || {
        let scrape = Scrape::of(&address);
        for part in ["operations", "points"] {
            let collected = format!("pointsd_collected_timestamp_seconds{{part=\"{part}\"}}");
            assert_eq!(scrape.value(&collected), last.value(&collected), "an age that grows");
        }
        assert_eq!(scrape.value("pointsd_findings_open"), 0.0);
        (scrape.value("pointsd_database_up") == 0.0).then_some(())
    });
    // The loop moves, and the work stands still.
    assert_eq!((health("/livez"), health("/readyz")), (200, 503));

    drop(frozen);
    eventually("the daemon to be ready again", || (health("/readyz") == 200).then_some(()));
    running.signal(Signal::SIGTERM);
    running.finish().expect(0);
}

/// All names of our metrics in a text.
fn names_in(text: &str) -> BTreeSet<&str> {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let begins = text.match_indices("pointsd_").map(|(begin, _)| &text[begin..]);
    // The name of a package has no more in small letters.
    begins.map(|rest| rest.split(|c| !is_name(c)).next().unwrap()).filter(|name| *name != "pointsd_").collect()
}

/// The queries of a dashboard as rules, which promtool reads.
fn rules_of(dashboard: &Value) -> Value {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let queries = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    let rules: Vec<Value> = queries
        .enumerate()
        .map(|(nth, query)| {
            let query = query["expr"].as_str().unwrap().replace("$__rate_interval", "5m").replace("$job", "pointsd");
            json!({ "record": format!("query:{nth}"), "expr": query })
        })
        .collect();
    assert!(rules.len() > 10, "{rules:?}");
    json!({ "groups": [{ "name": "dashboard", "rules": rules }] })
}

#[test]
fn alerts_dashboard_and_documentation_name_the_metrics_that_there_are() {
    let site = Site::start();
    site.post_all(&[recharge(1, 100, 1)]);
    let scrape = Scrape::collected(&site.address);
    let read = |path: &str| std::fs::read_to_string(checkout(path)).unwrap();
    let (alerts, operations) = (read("monitoring/alerts.yaml"), read("docs/operations.md"));
    let dashboard = read("monitoring/dashboard.json");
    let family_of = |name: &str| {
        let histogram = |part: &&str| name.strip_suffix(*part).filter(|name| scrape.types.contains_key(*name));
        ["_bucket", "_sum", "_count"].iter().find_map(histogram).unwrap_or(name).to_owned()
    };
    for (file, text) in [("alerts", &alerts), ("dashboard", &dashboard), ("documentation", &operations)] {
        for name in names_in(text) {
            assert!(scrape.types.contains_key(&family_of(name)), "{file}: there is no {name}");
        }
    }
    for name in scrape.types.keys() {
        assert!(operations.contains(&format!("`{name}`")), "docs/operations.md does not explain {name}");
    }
    let folder = Folder::new();
    let rules = folder.file("rules.yaml", rules_of(&serde_json::from_str(&dashboard).unwrap()).to_string());
    let output = Command::new(promtool()).args(["check", "rules", &rules]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let tests = read("monitoring/alerts.test.yaml");
    let rules: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(rules.len() > 10, "{rules:?}");
    for rule in rules {
        assert!(tests.contains(&format!("alertname: {rule}\n")), "no test fires {rule}");
        assert!(operations.contains(&format!("`{rule}`")), "docs/operations.md does not say what to do for {rule}");
    }
}
