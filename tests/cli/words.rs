//! The exact text that commands print for people.

use super::database;
use crate::program::{Folder, call, feed, on, pointsd, run};

const USER: &str = "11111111-1111-4111-8111-111111111111";

#[test]
fn answers_to_people() {
    let (_database, url) = database();
    for (arguments, status, says) in [
        (
            "consume USER 1 --source-type tts --source-id t1 --at 2026-01-01T00:00:00Z",
            0,
            "\
Posted: consume of 1 point, entry 1
  user            USER
  balance         -1 (was 0)
  at              2026-01-01T00:00:00Z
  for             tts, t1
  became arrears  1
",
        ),
        ("check USER 5", 3, "Insufficient: 0 available, 5 required; it owes 1.\n"),
        (
            "recharge USER 1234567 --source card --order-id 7 --at 2026-01-02T00:00:00Z",
            0,
            "\
Posted: recharge of 1,234,567 points, entry 2
  user             USER
  balance          1,234,566 (was -1)
  at               2026-01-02T00:00:00Z
  from             card, 7
  opened           batch 1
  settled arrears  batch 1: 1
",
        ),
        (
            "consume USER --source-type tts --source-id t2 --seconds 12.50 --at 2026-01-03T00:00:00Z",
            0,
            "\
Posted: consume of 2 points, entry 3
  user        USER
  balance     1,234,564 (was 1,234,566)
  at          2026-01-03T00:00:00Z
  for         tts, t2
  duration    12.5 s
  drawn from  batch 1: 2
",
        ),
        (
            "consume USER --source-type tts --source-id t2 --seconds 12.50",
            0,
            "\
Posted before: consume of 2 points, entry 3
  user          USER
  balance then  1,234,564 (was 1,234,566)
  at            2026-01-03T00:00:00Z
  for           tts, t2
  duration      12.5 s
  drawn from    batch 1: 2
",
        ),
        ("consume USER --source-type preview --source-id p", 0, "preview is free: nothing to post.\n"),
        (
            "recharge USER 5 --source bogus --order-id 7",
            3,
            "Rejected (unknown_source): `bogus` is not a recharge source; add it to ledger.sources if it should be.\n",
        ),
        (
            "balance USER --effective-at 2026-01-02T00:00:00Z",
            0,
            "  user          USER
  effective at  2026-01-02T00:00:00Z, as known now
  balance       1,234,566
  arrears       0
  recharged     1,234,567
  consumed      1
  refunded      0
  voided        0
  expired       0
  adjusted      0
",
        ),
        (
            "export accounts",
            0,
            "\
user                                         balance       arrears          held  total_recharged  total_consumed  total_expired  total_refunded  total_voided  total_adjusted  total_opening  last_seq
USER         1234564             0             0          1234567               3              0               0             0               0              0         3
",
        ),
        ("price cost script", 0, "5 points\n"),
        ("price estimate tts --chars 10", 0, "1 point\n"),
    ] {
        let arguments = arguments.replace("USER", USER);
        let done = call(&url, &arguments.split(' ').collect::<Vec<_>>()).expect(status);
        assert_eq!(done.stdout, says.replace("USER", USER), "{arguments}");
    }
}

#[test]
fn a_sweep_and_a_file_of_postings_in_tables() {
    let (_database, url) = database();
    let lines = format!(
        "{{\"op\":\"recharge\",\"user\":\"{USER}\",\"points\":4500,\"source\":\"gift\",\"key\":\"a\",\
           \"at\":\"2026-01-01T00:00:00Z\",\"expires_at\":\"2026-01-02T00:00:00Z\"}}\n\
         nonsense\n\
         {{\"op\":\"recharge\",\"user\":\"{USER}\",\"points\":0,\"source\":\"gift\",\"key\":\"b\"}}\n"
    );
    let done = feed(on(&url, &["post", "-"]), lines).expect(3);
    let (said, table) = done.stdout.split_once("\n3 lines in ").unwrap();
    assert_eq!(
        said,
        "line 2: rejected (malformed): the line is no JSON object, which starts with {; CSV is read with --csv\n\
         line 3: rejected (invalid_points): 0 points: an entry carries 1 to 1000000000000"
    );
    assert_eq!(
        after_the_seconds(table),
        "
 outcome                    lines
──────────────────────────────────
 posted                         1
 replayed                       0
 rejected: invalid_points       1
 rejected: malformed            1
"
    );

    let done = call(&url, &["run", "expiry", "--at", "2026-01-02T00:00:00Z", "--dry-run"]).expect(0);
    assert!(done.stdout.starts_with("Dry run of expiry for 2026-01-02T00:00:00Z, in "), "{done:#?}");
    assert!(!done.stdout.contains("eport"), "{done:#?}");
    let done = call(&url, &["run", "expiry", "--at", "2026-01-02T00:00:00Z"]).expect(0);
    let table = done.stdout.strip_prefix("expiry for 2026-01-02T00:00:00Z, in ").unwrap();
    assert_eq!(
        after_the_seconds(&table.replacen(" s:", " s.", 1)),
        " 4,500 points expired (1 batch, 1 account).
  gift  4,500 points (1 batch)
Report 1 was kept; `pointsd reports show 1` shows it.
"
    );
}

/// The text behind `0.1 s.`, without spaces at the ends of lines.
fn after_the_seconds(text: &str) -> String {
    let (seconds, rest) = text.split_once(" s.").unwrap();
    seconds.parse::<f64>().unwrap();
    rest.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn help_names_every_command_and_the_statuses() {
    let help = run(pointsd(&["--help"])).expect(0).stdout;
    for word in [
        "recharge", "consume", "refund", "void", "hold", "release", "holds", "balance", "check", "price", "post",
        "export", "run", "db", "config", "serve",
    ] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(word)), "{word}: {help}");
    }
    assert!(help.contains("Exit status: 0 done; 1 failed"), "{help}");
}

#[test]
fn quiet_verbose_and_version_say_less_and_more() {
    let (_database, url) = super::database();
    let folder = Folder::new();
    let config = folder.file("pointsd.yaml", format!("state_dir: {}\n", folder.path().display()));
    let again = |more: &[&str]| {
        call(&url, &[&["run", "arrears", "--at", "2026-01-01T00:00:00Z", "--config", &config], more].concat()).expect(0)
    };
    again(&[]);
    let (usual, quiet, verbose) = (again(&[]), again(&["-q"]), again(&["--verbose"]));
    let remark = "run 1 had made the report for this slot already; it stays as it was\n";
    assert_eq!((usual.stderr.as_str(), quiet.stderr.as_str()), (remark, ""));
    assert!(!quiet.stdout.is_empty(), "the answer stays");
    assert!(verbose.stderr.contains("pointsd: on PostgreSQL at "), "{verbose:?}");
    assert!(verbose.stderr.contains(remark) && verbose.stderr.contains("\"level\":\"DEBUG\""), "{verbose:?}");
    call(&url, &["jobs", "-q", "-v"]).expect(2);

    let version = run(pointsd(&["--version"])).expect(0).stdout;
    let number = concat!("pointsd ", env!("CARGO_PKG_VERSION"));
    // The commit stands there where the build was told it.
    let commit = version.trim_end().strip_prefix(number).unwrap_or_else(|| panic!("{version}"));
    assert!(commit.is_empty() || commit.starts_with(" (") && commit.ends_with(')'), "{version}");
}
