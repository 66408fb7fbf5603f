//! `batches`, `entries` and `statement`: the history of an account on the command line.

use serde_json::{Value, json};

use super::database;
use crate::program::{Folder, call, post};

const USER: &str = "11111111-1111-4111-8111-111111111111";

/// The business is in Asia/Shanghai, eight hours ahead of UTC.
#[test]
fn of_an_account() {
    let (_database, url) = database();
    let folder = Folder::new();
    let config = folder.file("pointsd.yaml", "business: {time_zone: Asia/Shanghai}");
    let call = |url: &str, arguments: &[&str]| call(url, &[arguments, &["--config", &config]].concat());
    let lines: Vec<String> = [
        // On 1 October of the business.
        r#"{"op":"recharge","user":"USER","points":100,"source":"gift","key":"a","at":"2025-09-30T16:00:00Z","expires_at":"2025-10-11T16:00:00Z"}"#,
        r#"{"op":"recharge","user":"USER","points":50,"source":"card","key":"b","at":"2025-10-02T00:00:00Z","expires_at":"2099-01-01T00:00:00Z"}"#,
        r#"{"op":"consume","user":"USER","points":30,"source_type":"tts","source_id":"t1","at":"2025-10-10T00:00:00Z"}"#,
        // The rest of the first batch expires in October, but an entry of November says so.
        r#"{"op":"consume","user":"USER","points":5,"source_type":"tts","source_id":"t2","at":"2025-11-02T00:00:00Z"}"#,
    ]
    .map(|line| line.replace("USER", USER))
    .into();
    post(&url, lines.join("\n")).expect(0);

    let seqs = |arguments: &[&str]| -> Vec<i64> {
        let done = call(&url, &[&["entries", USER, "--json"], arguments].concat()).expect(0);
        done.jsons().iter().map(|entry| entry["seq"].as_i64().unwrap()).collect()
    };
    assert_eq!(seqs(&[]), [5, 4, 3, 2, 1]);
    assert_eq!(seqs(&["--after", "1", "--limit", "2"]), [2, 3]);
    assert_eq!(seqs(&["--before", "4", "--type", "recharge"]), [2, 1]);
    assert_eq!(seqs(&["--source", "tts", "--from", "2025-10-10T00:00:00Z", "--to", "2025-11-02T00:00:00Z"]), [3]);
    assert_eq!(seqs(&["--recorded-to", "2025-12-01T00:00:00Z"]), [] as [i64; 0]);
    let page = call(&url, &["entries", USER, "--limit", "3"]).expect(0).stdout;
    assert!(page.contains(&format!("More: pointsd entries {USER} --before 3")), "{page}");
    call(&url, &["entries", USER, "--type", "gift"]).expect(2);

    let batches = |arguments: &[&str]| -> Vec<Value> {
        let done = call(&url, &[&["batches", USER, "--json"], arguments].concat()).expect(0);
        done.jsons().iter().map(|batch| json!([batch["batch"], batch["remaining"], batch["expired"]])).collect()
    };
    assert_eq!(batches(&[]), [json!([2, 45, 0])]);
    assert_eq!(batches(&["--all"]), [json!([1, 0, 70]), json!([2, 45, 0])]);
    assert_eq!(batches(&["--all", "--after", "1"]), [json!([2, 45, 0])]);

    let october = ["statement", USER, "--from", "2025-10-01", "--to", "2025-10-31"];
    let done = call(&url, &october).expect(0);
    let says = "  user             USER
  period           2025-10-01 to 2025-10-31, Asia/Shanghai
  opening balance  0
  recharged        150
  consumed         -30
  expired          -70
  closing balance  50

 seq   at                         type       points   balance   source   description
──────────────────────────────────────────────────────────────────────────────────────────
   1   Wed 2025-10-01 00:00 CST   recharge      100       100   gift     Recharge by gift
   2   Thu 2025-10-02 08:00 CST   recharge       50       150   card     Recharge by card
   3   Fri 2025-10-10 08:00 CST   consume       -30       120   tts      Use of tts, t1

Expired in the period by entries dated outside of it: 70 points

Expiring next, as known now:
  45 points on 2099-01-01 08:00:00 CST
";
    let trimmed = |text: &str| text.lines().map(|line| format!("{}\n", line.trim_end())).collect::<String>();
    assert_eq!(trimmed(&done.stdout), trimmed(&says.replace("USER", USER)));
    let json = call(&url, &[&october[..], &["--json", "--limit", "2"]].concat()).expect(0).json();
    assert_eq!(json["from"], "2025-09-30T16:00:00Z");
    assert_eq!(json["before"], "2025-10-31T16:00:00Z");
    assert_eq!((&json["count"], &json["entries"]["next"]), (&json!(3), &json!(2)));
    call(&url, &["statement", USER, "--to", "2999-01-01"]).expect(2);
    call(&url, &["statement", USER, "--from", "2025-10-02", "--to", "2025-10-01"]).expect(2);
}
