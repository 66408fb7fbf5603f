//! The reports of a busy ledger in a browser: no reader scrolls sideways.

use pointsd::document::Document;
use pointsd::language::Language;
use pointsd::reports;
use serde_json::{Value, json};

use super::samples;
use crate::http::browser::Browser;
use crate::program::{Folder, on, run, wait};
use crate::support::{TestDatabase, user};

const SOURCES: [&str; 6] = ["wxpay", "alipay", "card", "gift", "invite", "compensation"];

/// Each kind of movement of each source over two months, and arrears.
fn ledger(database: &TestDatabase) {
    let mut lines: Vec<Value> = Vec::new();
    for (nth, source) in (1..).zip(SOURCES) {
        let recharge = |order: u32, points: i64, at: &str, expires: &str| {
            let mut line = json!({"op": "recharge", "user": user(nth), "points": points, "source": source,
                                  "order_id": order, "at": at, "expires_at": expires});
            if nth <= 3 {
                line["paid"] = json!(points * 10);
                line["currency"] = json!(if order == 3 { "JPY" } else { "CNY" });
            }
            line
        };
        let of_task = |op: &str, points: i64, task: &str, at: &str| json!({"op": op, "user": user(nth), "points": points, "source_type": "tts", "source_id": task, "at": at});
        lines.extend([
            recharge(1, 3_280_700, "2026-09-20T00:00:00Z", "2026-10-20T00:00:00Z"),
            recharge(2, 12_503_200, "2026-10-01T00:00:00Z", "2036-10-05T00:00:00Z"),
            recharge(3, 1_006_720, "2026-10-02T00:00:00Z", "2026-11-15T00:00:00Z"),
            of_task("consume", 1_536_728, "a", "2026-10-03T00:00:00Z"),
            of_task("refund", 11_532, "a", "2026-10-06T00:00:00Z"),
            json!({"op": "void", "user": user(nth), "points": 503_522, "source": source, "order_id": 2, "at": "2026-10-07T00:00:00Z"}),
            // What is due expires first. The usage before its expiry then restores points.
            of_task("consume", 600, "b", "2026-11-16T00:00:00Z"),
            of_task("consume", 20_000, "late", "2026-10-10T00:00:00Z"),
        ]);
        // The first accounts end in arrears.
        if nth <= 3 {
            lines.push(of_task("consume", 13_541_230, "c", "2026-11-17T00:00:00Z"));
        }
    }
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    crate::program::post(&database.url(), text).expect(0);
    by_hand(
        database,
        "UPDATE pointsd.entries SET recorded_at = CASE WHEN at < '2026-10-01' THEN '2026-09-30T12:00:00Z'
                                                      WHEN seq = 4 THEN '2026-11-20T12:00:00Z'
                                                      ELSE at + interval '1 hour' END",
    );
}

fn by_hand(database: &TestDatabase, sql: &str) {
    let guard = |what: &str| format!("ALTER TABLE pointsd.entries {what} TRIGGER entries_never_change");
    let sql = format!("{}; {sql}; {}", guard("DISABLE"), guard("ENABLE ALWAYS"));
    wait(async { database.client().await.batch_execute(&sql).await.unwrap() });
}

/// Reports of each kind: of a ledger in order, of one with exceptions, and of one without activity.
fn reports_of_each_kind(language: &str) -> Vec<(String, Document)> {
    let folder = Folder::new();
    let config = format!("state_dir: {}\nbusiness: {{language: {language}}}\n", folder.path().display());
    let config = folder.file("pointsd.yaml", config);
    let call = |database: &TestDatabase, call: &[&str]| {
        run(on(&database.url(), &[call, &["--config", &config, "--json"]].concat()))
    };
    let report = |database: &TestDatabase, job: &str, slot: &str| {
        call(database, &["run", job, "--at", slot]);
    };
    let made = |database: &TestDatabase, names: &[&str]| {
        let document = |(number, name): (usize, &&str)| {
            let shown = call(database, &["reports", "show", &number.to_string()]).expect(0).json();
            let document: Document = serde_json::from_value(shown).unwrap();
            assert!(name.starts_with(&document.report), "{name}: {}", document.report);
            (format!("{name}-{language}"), document)
        };
        (1..).zip(names).map(document).collect::<Vec<(String, Document)>>()
    };
    let quiet = wait(TestDatabase::new());
    for job in ["reconciliation", "arrears"] {
        report(&quiet, job, "2026-11-01T05:00:00Z");
    }
    let mut busy = wait(TestDatabase::new());
    ledger(&busy);
    for (job, slot) in [
        ("expiry", "2026-11-19T02:00:00Z"),
        ("arrears", "2026-11-19T04:00:00Z"),
        ("reconciliation", "2026-10-04T04:30:00Z"),
        ("month_end", "2026-11-01T05:00:00Z"),
    ] {
        report(&busy, job, slot);
    }
    busy.expect_damage();
    by_hand(
        &busy,
        "UPDATE pointsd.accounts SET balance = balance + 12345, total_recharged = total_recharged + 12345 WHERE balance > 0;
         UPDATE pointsd.batches SET remaining = remaining - 1000 WHERE open AND remaining > 5000",
    );
    report(&busy, "reconciliation", "2026-11-22T04:30:00Z");
    report(&busy, "expiry", "2026-11-23T02:00:00Z");
    report(&busy, "arrears", "2026-11-23T04:00:00Z");
    let mut documents = made(&quiet, &["reconciliation-quiet", "arrears-quiet"]);
    let names = [
        "expiry",
        "arrears",
        "reconciliation",
        "month_end",
        "reconciliation-exceptions",
        "expiry-next",
        "arrears-next",
    ];
    documents.extend(made(&busy, &names));
    documents
}

/// With and without the rules for screens, which some mail programs drop.
#[test]
fn no_report_is_wider_than_its_screen() {
    let browser = Browser::start();
    let folder = Folder::new();
    let mut documents: Vec<(String, Document)> = ["en", "zh-CN"].into_iter().flat_map(reports_of_each_kind).collect();
    documents.push(("extreme".to_owned(), samples::extreme(Language::English)));
    for (name, document) in &documents {
        let page = reports::page(document, None);
        let (begin, rest) = page.split_once("<style>").unwrap();
        let bare = format!("{begin}{}", rest.split_once("</style>").unwrap().1);
        for (name, page, widths) in
            [(name.clone(), &page, &[375, 700][..]), (format!("{name}-without-rules"), &bare, &[375])]
        {
            browser.open(&format!("file://{}", folder.file("report.html", page)));
            for width in widths.iter().copied() {
                browser.look(width, "light");
                let wide = "return [document.documentElement, ...document.querySelectorAll('div, table, td')]
                    .filter((at) => at.scrollWidth > at.clientWidth + 1 && at.clientWidth > 0)
                    .map((at) => at.outerHTML.slice(0, 600))";
                assert_eq!(browser.run(wide), json!([]), "{name} is wider than {width} px");
                browser.picture(&format!("report-{name}-{width}"));
            }
        }
    }
}
