//! The log in the journal, and the fields that find its lines.

use serde_json::Value;

use super::database;
use super::machine::{Gate, Service};
use crate::program::{pointsd, run};

const EACH_SECOND: &str = "jobs: {expiry: {schedule: '* * * * * *'}}\n";

#[test]
fn the_journal_can_be_asked_for_a_job_a_run_and_a_slot() {
    let database = database();
    let gate = Gate::opened(&database);
    let service = Service::on(&gate, "");
    service.configure(EACH_SECOND);
    service.start();
    let done = service.logs("expiry succeeded");
    assert_eq!(
        (&done["JOB"], &done["PRIORITY"], &done["SYSLOG_IDENTIFIER"]),
        (&"expiry".into(), &"6".into(), &"pointsd".into())
    );
    let (run, slot) = (done["RUN_ID"].as_str().unwrap(), done["SLOT"].as_str().unwrap());
    assert!(slot.len() == "2026-01-01T00:00:00Z".len() && slot.ends_with('Z'), "{slot}");
    let of_run = service.entries(&[&format!("RUN_ID={run}"), "JOB=expiry", &format!("SLOT={slot}")]);
    let messages: Vec<_> = of_run.iter().map(|entry| entry["MESSAGE"].as_str().unwrap()).collect();
    assert_eq!(messages, ["expiry started", "expiry succeeded"]);
}

#[test]
fn control_characters_do_not_reach_a_reader_of_the_log() {
    let service = Service::with("");
    // As an answer of another program might be.
    service.write("/etc/pointsd/environment", "POINTSD_LOG=\u{1b}[31mred\u{7f}\n", "644");
    for format in ["auto", "text", "json"] {
        service.configure(&format!("log: {{format: {format}}}\n"));
        service.start();
        let found = |entry: Value| entry.to_string().contains("\u{fffd}[31mred\u{fffd}").then_some(());
        let journal = service.journal();
        assert!(journal.iter().cloned().find_map(found).is_some(), "{format}: {journal:#?}");
        // The journal writes a text with such a character as a list of its bytes.
        let raw = |entry: &&Value| entry.as_object().unwrap().values().any(Value::is_array);
        assert_eq!(journal.iter().find(raw), None, "{format}");
        service.run(&["systemctl", "stop", "pointsd.service"]).expect(0);
    }
}

#[test]
fn a_format_that_is_asked_for_holds_under_the_journal_too() {
    let database = database();
    let gate = Gate::opened(&database);
    let service = Service::on(&gate, "");
    for (format, is_json) in [("json", true), ("text", false)] {
        service.configure(&format!("log: {{format: {format}}}\n"));
        service.start();
        service.run(&["systemctl", "stop", "pointsd.service"]).expect(0);
        let journal = service.journal();
        let last = journal.last().unwrap()["MESSAGE"].as_str().unwrap();
        let parsed: Option<Value> = serde_json::from_str(last).ok();
        assert_eq!(parsed.map(|line| line["message"] == "stopped"), is_json.then_some(true), "{last}");
        assert!(last.contains("stopped"), "{last}");
    }
}

#[test]
fn without_a_journal_lines_are_json() {
    // A service's child may have the variable while its standard error leads elsewhere.
    for stream in [None, Some("1:1"), Some("nonsense")] {
        let mut command = pointsd(&["config", "check"]);
        command.env("POINTSD_LOG", "ifno");
        if let Some(stream) = stream {
            command.env("JOURNAL_STREAM", stream);
        }
        // One error says that the filter is wrong, and the configured level is in force.
        let done = run(command).expect(0);
        let [line] = done.stderr.lines().collect::<Vec<_>>()[..] else { panic!("{done:?}") };
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&line["level"], &line["asked"]), (&"ERROR".into(), &"ifno".into()), "{line}");
        assert!(line["message"].as_str().unwrap().starts_with("POINTSD_LOG cannot be used"), "{line}");
    }
}
