//! `batches`, `entries` and `statement`: the history of an account on the command line.

use std::os::unix::fs::PermissionsExt as _;

use calamine::{Data, Reader as _, Xlsx, open_workbook};
use serde_json::{Value, json};

use super::database;
use crate::program::{Folder, call, post, wait};

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
    assert_eq!(
        seqs(&[
            "--source-type",
            "tts",
            "--effective-from",
            "2025-10-10T00:00:00Z",
            "--effective-before",
            "2025-11-02T00:00:00Z"
        ]),
        [3]
    );
    assert_eq!(seqs(&["--recorded-before", "2025-12-01T00:00:00Z"]), [] as [i64; 0]);
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

    // An export filters by the same, of all accounts.
    let exported = |arguments: &[&str]| -> Vec<Value> {
        let done = call(&url, &[&["export", "entries", "--json"], arguments].concat()).expect(0);
        done.jsons().iter().map(|entry| json!([entry["seq"], entry["signed"]])).collect()
    };
    let tts = [
        "--source-type",
        "tts",
        "--effective-from",
        "2025-10-10T00:00:00Z",
        "--effective-before",
        "2025-11-02T00:00:00Z",
    ];
    assert_eq!(exported(&tts), [json!([3, -30])]);
    assert_eq!(exported(&["--type", "expire", "--user", USER]), [json!([4, -70])]);
    assert_eq!(exported(&["--recorded-before", "2025-12-01T00:00:00Z"]), [] as [Value; 0]);
    assert_eq!(exported(&["--recorded-from", "2025-12-01T00:00:00Z", "--type", "recharge"]).len(), 2);
    call(&url, &["export", "batches", "--type", "recharge"]).expect(2);
}

const LATER: &str = "22222222-2222-4222-8222-222222222222";
const KEPT: &str = "33333333-3333-4333-8333-333333333333";

/// A ledger that was recorded as it happened, in October and November 2025.
fn recorded_in_autumn() -> (crate::support::TestDatabase, String) {
    let (database, url) = database();
    let lines = [
        json!({"op": "recharge", "user": USER, "points": 100, "source": "gift", "key": "a", "at": "2025-09-30T16:00:00Z", "expires_at": "2025-10-11T16:00:00Z"}),
        json!({"op": "recharge", "user": USER, "points": 1250, "source": "card", "order_id": 7, "paid": 1250, "currency": "CNY", "at": "2025-10-02T00:00:00Z", "expires_at": "9999-12-31T23:59:59.999999Z"}),
        json!({"op": "consume", "user": USER, "points": 30, "source_type": "tts", "source_id": "t1", "at": "2025-10-10T00:00:00Z", "description": "=A talk"}),
        json!({"op": "consume", "user": USER, "points": 5, "source_type": "tts", "source_id": "t2", "at": "2025-11-02T00:00:00Z"}),
        json!({"op": "recharge", "user": LATER, "points": 9, "source": "gift", "key": "a", "at": "2025-11-01T00:00:00Z"}),
        json!({"op": "consume", "user": KEPT, "points": 8, "source_type": "tts", "source_id": "t1", "at": "2025-09-01T00:00:00Z"}),
    ];
    post(&url, lines.map(|line| line.to_string()).join("\n")).expect(0);
    wait(async {
        let sql = "ALTER TABLE pointsd.entries DISABLE TRIGGER entries_never_change;
                   UPDATE pointsd.entries SET recorded_at = at + interval '10 minutes';
                   ALTER TABLE pointsd.entries ENABLE ALWAYS TRIGGER entries_never_change";
        database.client().await.batch_execute(sql).await.unwrap();
    });
    (database, url)
}

#[test]
fn a_statement_tells_a_past_span_the_same_each_time() {
    let (_database, url) = recorded_in_autumn();
    let folder = Folder::new();
    let sources = "gift: {label: {en: Gift, zh-CN: 赠送}}, card: {label: {en: Card, zh-CN: 充值卡}}";
    let config = format!("business: {{name: Acme, time_zone: Asia/Shanghai}}\nledger: {{sources: {{{sources}}}}}");
    let config = folder.file("pointsd.yaml", config);
    let call = |arguments: &[&str]| call(&url, &[arguments, &["--config", &config]].concat());
    let october = ["statement", USER, "--from", "2025-10-01", "--to", "2025-10-31"];
    let forms = ["text", "html", "csv", "json"];
    let all = || -> Vec<String> {
        let each = forms.iter().flat_map(|form| ["en", "zh-CN"].map(|language| (form, language)));
        each.map(|(form, language)| {
            let done = call(&[&october[..], &["--format", form, "--language", language]].concat()).expect(0);
            done.stdout
        })
        .collect()
    };
    let told = all();
    let english = "Points statement
================
Acme

Balance on 31 October 2025: 1,320 points

Account          USER
Period           1 October 2025 to 31 October 2025
Opening balance  0
Issued           1,350
Used             -30
Closing balance  1,320
Entries          no. 1 to 3


Entries
-------
By the time of recording. What is recorded later stands in a later statement.

Recorded          No.  Type    For             Paid  Currency  Points  Balance
------------------------------------------------------------------------------
2025-10-01 00:10    1  Issued  Gift                               100      100
2025-10-02 08:10    2  Issued  Card · 7       12.50  CNY        1,250    1,350
2025-10-10 08:10    3  Used    tts · t1 · =A                      -30    1,320
                               talk
------------------------------------------------------------------------------
Total                                                           1,320


Open batches
------------
70 of these points had reached their expiry and were not yet recorded as
expired.

Batch  Source  Issued            Expires           Points left
--------------------------------------------------------------
    1  Gift    2025-10-01 00:00  2025-10-12 00:00           70
    2  Card    2025-10-02 08:00  never                   1,250
--------------------------------------------------------------
Total                                                    1,320


Reserved points
---------------
Reservations of a past time are not kept, so they are not listed here.

--
As of 1 November 2025, 00:00. All times are in the time zone Asia/Shanghai.
Acme
";
    assert_eq!(told[0], english.replace("USER", USER));
    assert!(told[1].contains("2025年10月31日余额：1,320 积分") && told[1].contains("赠送"), "{}", told[1]);
    let csv = "\u{feff}Account,No.,Recorded,Happened,Type,Source,Reference,Description,Points,Balance,Paid,Currency\r\n\
               USER,,2025-10-01T00:00:00+08:00,,Opening balance,,,,,0,,\r\n\
               USER,1,2025-10-01T00:10:00+08:00,2025-10-01T00:00:00+08:00,Issued,Gift,,,100,100,,\r\n\
               USER,2,2025-10-02T08:10:00+08:00,2025-10-02T08:00:00+08:00,Issued,Card,7,,1250,1350,12.50,CNY\r\n\
               USER,3,2025-10-10T08:10:00+08:00,2025-10-10T08:00:00+08:00,Used,tts,t1,'=A talk,-30,1320,,\r\n\
               USER,,2025-11-01T00:00:00+08:00,,Closing balance,,,,,1320,,\r\n";
    assert_eq!(told[4], csv.replace("USER", USER));
    let json: Value = serde_json::from_str(&told[6]).unwrap();
    let left = json!([json["batches"][0]["remaining"], json["batches"][1]["remaining"]]);
    assert_eq!((&json["opening"], &json["closing"], &json["overdue"]), (&json!(0), &json!(1320), &json!(70)));
    assert_eq!((left, &json["last_seq"], &json["holds"]), (json!([70, 1250]), &json!(3), &Value::Null));
    assert_eq!((&json["from"], &json["before"]), (&json!("2025-09-30T16:00:00Z"), &json!("2025-10-31T16:00:00Z")));

    // The next one begins where this one ends, and one that is under way tells what is reserved.
    post(&url, json!({"op": "hold", "user": USER, "points": 3, "source_type": "tts", "source_id": "t3", "until": "2999-01-01T00:00:00Z"}).to_string()).expect(0);
    call(&["consume", USER, "1", "--source-type", "tts", "--source-id", "t4"]).expect(0);
    assert_eq!(all(), told);
    let next = call(&["statement", USER, "--from", "2025-11-01", "--json"]).expect(0).json();
    let brief = json!([next["opening"], next["first_seq"], next["count"], next["closing"], next["complete"]]);
    assert_eq!(brief, json!([1320, 4, 3, 1244, false]));
    assert_eq!(next["holds"][0]["points"], 3);

    let workbook = folder.path().join("october.xlsx");
    let file = workbook.to_str().unwrap();
    let chinese = [&october[..], &["--format", "xlsx", "--language", "zh-CN", "--output", file]].concat();
    let bytes = [(); 2].map(|()| {
        call(&chinese).expect(0);
        std::fs::read(&workbook).unwrap()
    });
    assert_eq!(bytes[0], bytes[1]);
    assert_eq!(std::fs::metadata(&workbook).unwrap().permissions().mode() & 0o777, 0o600);
    let mut book: Xlsx<_> = open_workbook(&workbook).unwrap();
    assert_eq!(book.sheet_names(), ["摘要", "积分明细", "未用完的批次"]);
    let rows = book.worksheet_range("积分明细").unwrap();
    assert_eq!(rows.get_value((2, 4)), Some(&Data::Float(12.5)));
    assert_eq!(rows.get_value((3, 6)), Some(&Data::Float(-30.0)));
    assert_eq!(rows.get_value((3, 3)), Some(&Data::String("tts · t1 · =A talk".to_owned())));

    call(&["statement", USER, "--to", "2999-01-01"]).expect(2);
    call(&["statement", USER, "--from", "2025-10-02", "--to", "2025-10-01"]).expect(2);
    call(&["statement", USER, "--json", "--format", "csv"]).expect(2);
}

#[test]
fn the_statements_of_a_month_are_those_of_its_accounts() {
    let (_database, url) = recorded_in_autumn();
    let folder = Folder::new();
    let config = folder.file("pointsd.yaml", "business: {time_zone: Asia/Shanghai}");
    let call = |arguments: &[&str]| call(&url, &[arguments, &["--config", &config]].concat());
    let output = folder.path().join("october");
    let output = output.to_str().unwrap();
    let done = call(&["statements", "--month", "2025-10", "--output", output, "--format", "csv", "--json"]).expect(0);
    let told = json!({
        "first_day": "2025-10-01", "last_day": "2025-10-31", "complete": true, "statements": 2, "opening": "-8",
        "closing": "1312", "folder": output,
    });
    assert_eq!(done.json(), told);
    let mut files: Vec<_> = std::fs::read_dir(output).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    // Not of the account that was opened in November.
    for (user, file) in [USER, KEPT].iter().zip(&files) {
        assert!(file.ends_with(format!("statement-{user}-2025-10-01-2025-10-31.csv")), "{file:?}");
        let alone =
            call(&["statement", user, "--from", "2025-10-01", "--to", "2025-10-31", "--format", "csv"]).expect(0);
        assert_eq!(std::fs::read_to_string(file).unwrap(), alone.stdout);
    }
    assert_eq!(files.len(), 2);
    call(&["statements", "--month", "2025-13", "--output", output]).expect(2);
    call(&["statements", "--month", "2999-01", "--output", output]).expect(2);
}
