//! The reconciliation report, made by the program itself: its checks, its sentences, and its exit status.

use std::io::Cursor;
use std::path::Path;

use calamine::{Reader, Xlsx};
use chrono::Timelike;
use pointsd::document::{Cell, Document, Form, Section, Table, Tone};
use pointsd::language::Language;
use pointsd::render::xlsx;
use serde_json::{Value, json};

use super::table;
use crate::program::{Done, Folder, call, on, wait};
use crate::support::TestDatabase;

/// A Sunday, on which everything is proved, and a Wednesday.
const SUNDAY: &str = "2026-11-22T04:30:00Z";
const WEDNESDAY: &str = "2026-11-18T04:30:00Z";

/// Ten accounts, each with two recharges and a consume that were recorded on two days, long ago. The last one owes.
fn ledger(database: &TestDatabase) {
    let mut lines = String::new();
    for nth in 0..10 {
        let user = crate::support::user(nth);
        for (order, source) in [(1, "gift"), (2, "wxpay")] {
            lines.push_str(&format!(
                "{{\"op\":\"recharge\",\"user\":\"{user}\",\"points\":100,\"source\":\"{source}\",\"order_id\":{order},\
                 \"at\":\"2026-11-01T00:00:00Z\",\"expires_at\":\"2036-11-01T00:00:00Z\"}}\n"
            ));
        }
        let points = if nth == 9 { 250 } else { 30 };
        lines.push_str(&format!(
            "{{\"op\":\"consume\",\"user\":\"{user}\",\"points\":{points},\"source_type\":\"tts\",\"source_id\":\"a\",\
             \"at\":\"2026-11-02T00:00:00Z\"}}\n"
        ));
    }
    crate::program::post(&database.url(), lines).expect(0);
    sql(
        database,
        "ALTER TABLE pointsd.entries DISABLE TRIGGER entries_never_change;
         UPDATE pointsd.entries SET recorded_at = CASE WHEN seq = 3 THEN now() - interval '1 day'
                                                      ELSE now() - interval '2 days' END;
         ALTER TABLE pointsd.entries ENABLE ALWAYS TRIGGER entries_never_change",
    );
}

fn sql(database: &TestDatabase, sql: &str) {
    wait(async { database.client().await.batch_execute(sql).await.unwrap() });
}

fn number(database: &TestDatabase, sql: &str) -> i64 {
    wait(async { database.client().await.query_one(sql, &[]).await.unwrap().get(0) })
}

/// `pointsd run reconciliation` with this configuration and these arguments.
fn reconcile(database: &TestDatabase, config: &str, arguments: &[&str]) -> Done {
    let arguments = [&["run", "reconciliation", "--config", config], arguments].concat();
    crate::program::run(on(&database.url(), &arguments))
}

fn config(folder: &Folder, more: &str) -> String {
    folder.file("pointsd.yaml", format!("state_dir: {}\n{more}", folder.path().display()))
}

fn document(answer: &Value) -> Document {
    serde_json::from_value(answer["document"].clone()).unwrap()
}

fn texts(row: &[Cell]) -> Vec<String> {
    row.iter()
        .map(|cell| match cell {
            Cell::Text(text) => text.clone(),
            Cell::Number(number) => number.to_string(),
            _ => String::new(),
        })
        .collect()
}

/// The cell of a row in the column of this title, as text.
fn cell(table: &Table, row: &[Cell], title: &str) -> String {
    let place = table.columns.iter().position(|column| column.title == title);
    texts(row)[place.unwrap_or_else(|| panic!("{title} in {:?}", table.columns))].clone()
}

#[test]
fn requests_that_were_not_posted_are_listed_once() {
    let (database, folder) = (wait(TestDatabase::new()), Folder::new());
    ledger(&database);
    sql(
        &database,
        "INSERT INTO pointsd.requests (op, user_id, points, source, order_id)
         VALUES ('recharge', '00000000-0000-4000-8000-000000000001', 5, 'wxpay', 7);
         INSERT INTO pointsd.requests (op, user_id, source_type, source_id)
         VALUES ('refund', '00000000-0000-4000-8000-000000000001', 'tts', 'a');
         UPDATE pointsd.requests SET state = 'refused', code = 'unknown_source', message = '`wxpay` is no source', finished_at = now()
         WHERE op = 'recharge';
         UPDATE pointsd.requests SET state = 'parked', code = 'P0001', message = 'a trigger refused it', finished_at = now()
         WHERE op = 'refund'",
    );
    let config = config(&folder, "business: {language: zh-CN}\n");
    let listed = |slot: &str| {
        let answer = reconcile(&database, &config, &["--at", slot, "--json"]).expect(0).json();
        let document = document(&answer);
        let tables: Vec<Vec<String>> = document
            .sections
            .iter()
            .filter_map(|section| match section {
                Section::Table(table) if table.name == "requests-not-posted" => {
                    Some(table.rows.iter().map(|row| texts(row)[..7].join(" ")))
                }
                _ => None,
            })
            .map(Iterator::collect)
            .collect();
        tables.concat()
    };
    let user = "00000000-0000-4000-8000-000000000001";
    let expected = [
        format!("{user} 1 已拒绝 发放 微信支付 · 7 5 来源未在配置中列出"),
        format!("{user} 2 已搁置 退还 tts · a  a trigger refused it"),
    ];
    assert_eq!(listed(WEDNESDAY), expected, "a known reason is told in the reader's language");
    // The next report tells what was refused since.
    sql(&database, "UPDATE pointsd.documents SET made = made + interval '1 hour'");
    assert_eq!(listed(SUNDAY), [""; 0]);
}

/// Before anything happened, no chart is empty and no table is full of zeros.
#[test]
fn reports_without_activity_are_short() {
    let (database, folder) = (wait(TestDatabase::new()), Folder::new());
    let config = config(&folder, "");
    let run = |arguments: &[&str]| {
        let arguments = [arguments, &["--config", &config, "--json"]].concat();
        crate::program::run(on(&database.url(), &arguments)).expect(0).json()
    };
    for (number, job) in ["1", "2", "3"].into_iter().zip(["expiry", "arrears", "reconciliation"]) {
        run(&["run", job]);
        let made: Document = serde_json::from_value(run(&["reports", "show", number])).unwrap();
        for section in &made.sections {
            match section {
                Section::Chart(chart) => panic!("{job} draws {chart:?}"),
                Section::Table(table)
                    if ["ages", "weeks", "outstanding"].iter().any(|name| table.name.starts_with(name)) =>
                {
                    assert_eq!(
                        (table.rows.len(), table.if_empty.as_str()),
                        (0, "There are no unused points."),
                        "{table:?}"
                    );
                }
                _ => {}
            }
        }
        if job == "expiry" {
            assert!(
                made.headline.ends_with(": No points expired; none due to expire within 30 days"),
                "{}",
                made.headline
            );
        }
    }
}

/// Deferred revenue stands in the report by currency and source, and a price changed by hand is found by the books, too.
#[test]
fn deferred_revenue_is_reported_and_tied_to_the_batches() {
    let (database, folder) = (wait(TestDatabase::new()), Folder::new());
    let line = |nth: u32, fields: &str| {
        format!("{{\"user\":\"{}\",\"at\":\"2026-11-01T00:00:00Z\",{fields}}}\n", crate::support::user(nth))
    };
    let recharge = |nth, points: i64, source: &str, price: &str| {
        let fields = format!("\"op\":\"recharge\",\"points\":{points},\"source\":\"{source}\",\"order_id\":1{price}");
        line(nth, &format!("{fields},\"expires_at\":\"2036-11-01T00:00:00Z\""))
    };
    let lines = [
        recharge(1, 7, "wxpay", ",\"paid\":1999,\"currency\":\"CNY\""),
        line(1, "\"op\":\"consume\",\"points\":3,\"source_type\":\"tts\",\"source_id\":\"a\""),
        recharge(2, 10, "card", ",\"paid\":100000,\"currency\":\"JPY\""),
        recharge(3, 100, "gift", ""),
    ];
    crate::program::post(&database.url(), lines.concat()).expect(0);
    // Where it is about noon now: no day ends while the test runs.
    let zone = format!("Etc/GMT{:+}", i64::from(chrono::Utc::now().hour()) - 12);
    let valuation = "ledger: {valuation: {currency: CNY, per_point: '0.015'}}\n";
    let config = config(
        &folder,
        &format!("business: {{time_zone: {zone}}}\njobs: {{reconciliation: {{time_zone: UTC}}}}\n{valuation}"),
    );
    let made = document(&reconcile(&database, &config, &["--at", WEDNESDAY, "--json"]).expect(0).json());
    let money = |amount, digits| Cell::Money { amount, digits };
    let cny = [0, 1_999, -856, 0, 0, 1_143].map(|amount| money(amount, 2));
    let jpy = [0, 100_000, 0, 0, 0, 100_000].map(|amount| money(amount, 0));
    let row = |currency: &str, source: &str, cells: [Cell; 6]| {
        [vec![Cell::from(currency), Cell::from(source)], cells.to_vec()].concat()
    };
    assert_eq!(table(&made, "deferred-revenue").rows, [row("CNY", "WeChat Pay", cny), row("JPY", "Card", jpy)]);
    let promotional = &table(&made, "promotional-points").rows;
    assert_eq!(*promotional, [vec![Cell::from("Gift"), 100_i64.into(), "CNY".into(), money(150, 2)]]);

    sql(&database, "UPDATE pointsd.batches SET paid = 2999 WHERE currency = 'CNY'");
    let made = document(&reconcile(&database, &config, &["--at", SUNDAY, "--json"]).expect(3).json());
    let told: Vec<String> = table(&made, "findings").rows.iter().map(|row| texts(row)[0].clone()).collect();
    let books = "All accounts: deferred revenue differs from the roll-forward. Found: WeChat Pay 17.14 CNY (expected 11.43 CNY, 5.71 CNY more)";
    assert!(told.len() == 2 && told.iter().any(|told| told == books), "{told:?}");
    assert!(
        told.iter().any(|told| told.ends_with(
            "its price is not that of the issue that opened it. Found: 29.99 CNY (expected 19.99 CNY, 10.00 CNY more)"
        )),
        "{told:?}"
    );
}

#[test]
fn books_that_hold_are_reported_with_their_roll_forward() {
    let database = wait(TestDatabase::new());
    ledger(&database);
    let folder = Folder::new();
    // Where it is about noon now: no day ends while the test runs.
    let hours = 12 - i64::from(chrono::Utc::now().hour());
    let zone = format!("Etc/GMT{:+}", -hours);
    let config = config(
        &folder,
        &format!("business: {{name: Acme, time_zone: {zone}}}\njobs: {{reconciliation: {{time_zone: UTC}}}}\n"),
    );
    let answer = reconcile(&database, &config, &["--full", "--json"]).expect(0).json();
    for (counter, value) in
        [("accounts", 10), ("batches", 20), ("entries", 30), ("findings", 0), ("new", 0), ("resolved", 0)]
    {
        assert_eq!(answer[counter], value, "{counter}");
    }
    assert_eq!(
        (&answer["full"], &answer["dry_run"], &answer["state"]),
        (&json!(true), &json!(false), &json!("succeeded"))
    );
    let made = document(&answer);
    assert_eq!((made.report.as_str(), made.business.as_str(), made.tone), ("reconciliation", "Acme", Tone::Good));
    let yesterday = chrono::Utc::now() + chrono::TimeDelta::hours(hours) - chrono::TimeDelta::days(1);
    let day = yesterday.format("%-d %B %Y");
    assert_eq!(made.headline, format!("Reconciliation, {day}: no exceptions (10 accounts, 30 entries)"));
    assert_eq!(made.language, Language::English);
    assert!(made.title.starts_with("Reconciliation, as of "), "{}", made.title);
    assert_eq!(json!(made.run), answer["run"]);

    // The day before: 10 · 200 points were there; 9 · 30 and 250 went, of which 50 were not there.
    let roll_forward = table(&made, "roll-forward");
    let rows: Vec<Vec<String>> = roll_forward.rows.iter().map(|row| texts(row)).collect();
    let expected = [
        ["Gift", "1000", "0", "0", "-370", "0", "630"],
        ["WeChat Pay", "1000", "0", "0", "-100", "0", "900"],
        ["Arrears (receivable)", "0", "0", "0", "-50", "0", "-50"],
    ];
    assert_eq!(rows, expected);
    let totals = [None, Some(2000), Some(0), Some(0), Some(-520), Some(0), Some(1480)];
    assert_eq!(roll_forward.totals, totals);
    let chart = made.sections.iter().find_map(|section| match section {
        Section::Chart(chart) => Some(chart),
        _ => None,
    });
    let chart = chart.unwrap();
    let bars: Vec<(&str, i64)> = chart.bars.iter().map(|bar| (bar.label.as_str(), bar.value)).collect();
    let expected = [("Opening", 2000), ("Issued", 0), ("Used", -520), ("Expired", 0), ("Closing", 1480)];
    assert_eq!((chart.form, bars.as_slice()), (Form::Waterfall, &expected[..]));

    let ages = &table(&made, "outstanding-by-age").totals;
    assert_eq!(ages, &[None, Some(18), Some(1530)]);
    let expiries: Vec<Vec<String>> = table(&made, "outstanding-by-expiry").rows.iter().map(|row| texts(row)).collect();
    assert_eq!(expiries.last().unwrap(), &["Over 180 days", "18", "1530"]);
    assert_eq!((table(&made, "findings").rows_in_all, table(&made, "resolved").rows_in_all), (0, 0));
    assert!(table(&made, "rules").rows.len() > 3);
    let tie: Vec<Vec<String>> = table(&made, "tie-out").rows.iter().map(|row| texts(row)).collect();
    let expected = [
        [&format!("Closing, {day}"), "1480"],
        ["Recorded since", "0"],
        ["Expected net balance", "1480"],
        ["Net balance of all accounts", "1480"],
        ["Unreconciled difference", "0"],
    ];
    assert_eq!(tie, expected);
    let fact = |label: &str| made.facts.iter().find(|fact| fact.label == label).map(|fact| fact.value.clone());
    assert_eq!(fact("Unused points (liability)"), Some(Cell::Number(1530)));
    assert_eq!(fact("Arrears (receivable)"), Some(Cell::Number(50)));
    assert_eq!(fact("Net balance (liability less arrears)"), Some(Cell::Number(1480)));

    // People get the document as text. No mail was sent, so no line mentions mails.
    let done = reconcile(&database, &config, &["--full"]).expect(0);
    assert!(done.stdout.contains(": no exceptions ("), "{done:?}");
    let owed = done.stdout.lines().any(|line| line.starts_with("Arrears (receivable)  ") && line.ends_with("  -50"));
    assert!(owed && done.stdout.contains("1,480"), "{}", done.stdout);
    assert_eq!(done.stderr, "");
}

/// A source has a column for what was refunded, voided and restored, beside what was issued, used and expired.
#[test]
fn refunds_voids_and_restores_have_columns_of_their_own() {
    let database = wait(TestDatabase::new());
    let [one, two] = [1, 2].map(crate::support::user);
    let lines = [
        json!({"op": "recharge", "user": one, "points": 100, "source": "gift", "order_id": 1,
               "at": "2026-11-01T00:00:00Z", "expires_at": "2026-11-10T00:00:00Z"}),
        json!({"op": "consume", "user": one, "points": 30, "source_type": "tts", "source_id": "a", "at": "2026-11-02T00:00:00Z"}),
        json!({"op": "consume", "user": one, "points": 5, "source_type": "tts", "source_id": "b", "at": "2026-11-12T00:00:00Z"}),
        json!({"op": "consume", "user": one, "points": 20, "source_type": "tts", "source_id": "late",
               "at": "2026-11-05T00:00:00Z"}),
        json!({"op": "refund", "user": one, "points": 10, "source_type": "tts", "source_id": "a", "at": "2026-11-13T00:00:00Z"}),
        json!({"op": "recharge", "user": two, "points": 50, "source": "wxpay", "order_id": 1,
               "at": "2026-11-01T00:00:00Z", "expires_at": "2036-11-01T00:00:00Z"}),
        json!({"op": "consume", "user": two, "points": 20, "source_type": "tts", "source_id": "a", "at": "2026-11-02T00:00:00Z"}),
        json!({"op": "void", "user": two, "source": "wxpay", "order_id": 1, "at": "2026-11-13T00:00:00Z"}),
    ];
    crate::program::post(&database.url(), lines.map(|line| format!("{line}\n")).concat()).expect(0);
    let folder = Folder::new();
    let config = config(&folder, "jobs: {reconciliation: {time_zone: UTC}}\n");
    let made = document(&reconcile(&database, &config, &["--full", "--json"]).expect(0).json());
    assert_eq!(texts(table(&made, "tie-out").rows.last().unwrap()), ["Unreconciled difference", "0"]);
    let roll_forward = table(&made, "roll-forward");
    let titles: Vec<&str> = roll_forward.columns.iter().map(|column| column.title.as_str()).collect();
    let expected = [
        "Source",
        "Opening",
        "Issued",
        "Refunded",
        "Applied to arrears",
        "Used",
        "Voided",
        "Expired",
        "Restored",
        "Closing",
    ];
    assert_eq!(titles, expected);
    let rows: Vec<Vec<String>> = roll_forward.rows.iter().map(|row| texts(row)).collect();
    let expected = [
        ["Gift", "0", "100", "10", "-5", "-50", "0", "-70", "20", "5"],
        ["WeChat Pay", "0", "50", "0", "0", "-20", "-30", "0", "0", "0"],
        ["Arrears (receivable)", "0", "0", "0", "5", "-5", "-20", "0", "0", "-20"],
    ];
    assert_eq!(rows, expected);
    let chart = made.sections.iter().find_map(|section| match section {
        Section::Chart(chart) => Some(chart),
        _ => None,
    });
    let bars: Vec<i64> = chart.unwrap().bars.iter().map(|bar| bar.value).collect();
    assert_eq!(bars, [0, 150, 10, -75, -50, -70, 20, -15]);
}

/// Points, a price and a debt that were brought in stand in a column of their own, and the workbook's sums hold with it.
#[test]
fn a_workbook_of_a_day_with_openings_ties() {
    let (database, folder) = (wait(TestDatabase::new()), Folder::new());
    let [one, two] = [1, 2].map(crate::support::user);
    let lines = [
        json!({"user": one, "points": 7, "source": "wxpay", "id": "1", "paid": 1999, "currency": "CNY"}),
        json!({"user": two, "points": -20, "opened_at": "2026-11-01T00:00:00Z"}),
    ];
    let file = folder.file("old.ndjson", lines.map(|line| format!("{line}\n")).concat());
    call(&database.url(), &["import", &file]).expect(0);
    let config = config(&folder, "jobs: {reconciliation: {time_zone: UTC}}\n");
    let made = document(&reconcile(&database, &config, &["--full", "--json"]).expect(0).json());
    let brought: Vec<_> = table(&made, "roll-forward").rows.iter().map(|row| texts(row)[2].clone()).collect();
    assert_eq!(brought, ["7", "-20"]);
    assert_eq!(table(&made, "deferred-revenue").rows[0][3], Cell::Money { amount: 1_999, digits: 2 });
    let mut book: Xlsx<_> = Xlsx::new(Cursor::new(xlsx(&made).unwrap())).unwrap();
    let sheet = book.worksheet_range("Cross-foot").unwrap();
    let checks: Vec<_> = sheet.rows().skip(1).map(|row| (row[0].to_string(), row[4].to_string())).collect();
    assert!(checks.iter().filter(|(what, _)| what.contains("Closing")).count() >= 2, "{checks:?}");
    assert!(checks.iter().all(|(_, result)| result == "OK"), "{checks:?}");
}

#[test]
fn a_full_proof_is_asked_for_or_due_on_its_weekday() {
    let database = wait(TestDatabase::new());
    ledger(&database);
    let folder = Folder::new();
    let full = |more: &str, arguments: &[&str]| {
        let config = config(&folder, more);
        let answer = reconcile(&database, &config, &[arguments, &["--json"]].concat()).expect(0).json();
        let made = document(&answer);
        assert_eq!(not_examined(&made, "Not examined").is_none(), answer["full"] == true);
        let facts = made.facts;
        let range = facts.iter().find(|fact| fact.label == "Scope").map(|fact| fact.value.clone()).unwrap();
        let Cell::Text(range) = range else { panic!("{range:?}") };
        assert_eq!(range.starts_with("All accounts"), answer["full"] == true, "{range}");
        answer["full"].as_bool().unwrap()
    };
    assert!(full("", &["--at", SUNDAY]));
    assert!(!full("", &["--at", WEDNESDAY]));
    let sentences = [("Not examined", "Last full reconciliation: "), ("未核对的范围", "上次全面对账：20")];
    let slots = ["2026-11-18T04:30:05Z", "2026-11-18T04:30:06Z"];
    for (language, (slot, (title, last))) in ["en", "zh-CN"].into_iter().zip(slots.into_iter().zip(sentences)) {
        let config = config(&folder, &format!("business: {{language: {language}}}\n"));
        let made = document(&reconcile(&database, &config, &["--at", slot, "--json"]).expect(0).json());
        let told = not_examined(&made, title).unwrap();
        assert!(told.contains(last) && !told.contains("None yet"), "{told}");
    }
    assert!(full("", &["--at", "2026-11-18T04:30:01Z", "--full"]));
    assert!(full("reports: {full_proof_on: wednesday}\n", &["--at", "2026-11-18T04:30:02Z"]));
    assert!(!full("reports: {full_proof_on: null}\n", &["--at", "2026-11-22T04:30:03Z"]));
    // Where that day's slot was missed or failed, on the next one.
    sql(&database, "UPDATE pointsd.proof_state SET full_until = '2026-11-11T04:29:59Z'");
    assert!(!full("reports: {full_proof_on: null}\n", &["--at", "2026-11-18T04:30:03Z"]));
    assert!(full("", &["--at", "2026-11-18T04:30:04Z"]));
    // By the calendar of the job's schedule: in Shanghai Sunday has begun.
    let shanghai = "jobs: {reconciliation: {time_zone: Asia/Shanghai}}\n";
    assert!(full(shanghai, &["--at", "2026-11-21T16:30:00Z"]));
    assert!(!full(shanghai, &["--at", "2026-11-22T16:30:00Z"]));

    for job in ["expiry", "arrears", "prune"] {
        let done = call(&database.url(), &["run", job, "--full"]).expect(2);
        let says = format!("pointsd: --full is not for {job}, which always does all of its work; leave it out\n");
        assert_eq!((done.stderr, done.stdout.as_str()), (says, ""));
    }
    for job in ["reconciliation", "arrears"] {
        let done = call(&database.url(), &["run", job, "--at", "2999-01-01T00:00:00Z"]).expect(2);
        assert!(done.stderr.contains("lies in the future: the database's clock shows "), "{done:?}");
        assert!(done.stderr.ends_with("reports the present; leave --at out\n"), "{done:?}");
    }
    let nowhere = "postgres://nobody@127.0.0.1:1/nothing";
    let explained = call(nowhere, &["jobs", "explain", "reconciliation"]).expect(0).stdout;
    assert!(explained.contains("everything on Sundays, else what has changed"), "{explained}");
    let explained = call(nowhere, &["jobs", "explain", "reconciliation", "--json"]).expect(0).json();
    assert_eq!(explained["full_proof_on"], "sunday");
    assert_eq!(call(nowhere, &["jobs", "explain", "expiry", "--json"]).expect(0).json().get("full_proof_on"), None);
}

/// What the report says that it did not look at.
fn not_examined(document: &Document, heading: &str) -> Option<String> {
    document.sections.iter().find_map(|section| match section {
        Section::Text { title, paragraphs } if title == heading => Some(paragraphs.concat()),
        _ => None,
    })
}

/// A number out of range is reported with its account, and the run does not fail.
#[test]
fn sums_beyond_64_bits_are_findings_and_no_failure() {
    let mut database = wait(TestDatabase::new());
    database.expect_damage();
    ledger(&database);
    let folder = Folder::new();
    let config = config(&folder, "");
    let (one, two) = (crate::support::user(3), crate::support::user(4));
    let most = i64::MAX;
    for hand in [
        format!(
            "UPDATE pointsd.accounts SET balance = {most}, total_adjusted = {most} - (balance - total_adjusted) WHERE user_id IN ('{one}', '{two}')"
        ),
        format!(
            "UPDATE pointsd.batches SET amount = {most}, remaining = {most}, open = true WHERE user_id IN ('{one}', '{two}')"
        ),
        format!(
            "ALTER TABLE pointsd.entries DISABLE TRIGGER entries_never_change;
             UPDATE pointsd.entries SET amount = {most}, balance_before = -9, balance_after = {most} - 9
             WHERE seq = 1 AND user_id IN ('{one}', '{two}')"
        ),
        format!(
            "INSERT INTO pointsd.entries (bucket, user_id, seq, type, amount, balance_before, balance_after, source_type, at,
                 description, drawing_rule, allocated_batches, allocated_points, correction)
             SELECT bucket, user_id, 4, 'adjust', 0, 170, 170, 'repair', at, '', 1, '{{1,2}}', '{{9000000000000000000,9000000000000000000}}', '{{}}'
             FROM pointsd.entries WHERE seq = 3 AND user_id IN ('{one}', '{two}')"
        ),
    ] {
        sql(&database, &hand);
        let made = document(&reconcile(&database, &config, &["--full", "--json"]).expect(3).json());
        let findings = table(&made, "findings");
        for user in [one, two] {
            let of_user = |row: &Vec<Cell>| cell(findings, row, "Account") == user.to_string();
            assert!(findings.rows.iter().any(of_user), "{hand}: {:?}", findings.rows);
        }
    }
}

#[test]
fn a_row_broken_by_hand_ends_with_3_until_it_is_mended() {
    let mut database = wait(TestDatabase::new());
    database.expect_damage();
    ledger(&database);
    let folder = Folder::new();
    let english = config(&folder, "");
    reconcile(&database, &english, &["--at", SUNDAY]).expect(0);
    let user = crate::support::user(3);
    let set = |amount: &str| {
        format!(
            "UPDATE pointsd.accounts SET balance = balance {amount}, total_recharged = total_recharged {amount}
             WHERE user_id = '{user}'"
        )
    };
    sql(&database, &set("+ 7"));

    // A dry run reports the findings and stores nothing.
    let dry = reconcile(&database, &english, &["--dry-run", "--json"]).expect(3).json();
    assert_eq!((&dry["dry_run"], &dry["run"]), (&json!(true), &Value::Null));
    let findings = "SELECT count(*) FROM pointsd.findings";
    assert_eq!(number(&database, findings), 0);

    let done = reconcile(&database, &english, &["--full", "--json"]).expect(3);
    let answer = done.json();
    let (found, run) = (answer["findings"].as_u64().unwrap(), answer["run"].as_i64().unwrap());
    assert_eq!(
        (&dry["findings"], &answer["new"], &answer["state"]),
        (&json!(found), &json!(found), &json!("succeeded"))
    );
    // It is an alert, with the fields by which the journal finds it.
    let alert: Vec<Value> = done.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&alert[0]["level"], &alert[0]["job"]), (&json!("ERROR"), &json!("reconciliation")));
    assert_eq!((&alert[0]["run_id"], &alert[0]["findings"]), (&json!(run), &json!(found)));

    let made = document(&answer);
    assert_eq!(made.tone, Tone::Bad);
    assert!(made.headline.ends_with(&format!(": {found} exceptions, {found} new")), "{}", made.headline);
    let findings = table(&made, "findings");
    let of = |table: &Table, column: &str, rule: &str| {
        let row = table.rows.iter().find(|row| cell(table, row, column) == rule);
        row.unwrap_or_else(|| panic!("{rule} in {:?}", table.rows)).clone()
    };
    let (whole, account) =
        (of(findings, "Failed check", "days_balance"), of(findings, "Failed check", "account_balance"));
    let says = "All accounts: the net balance is 7 points higher than the roll-forward (1,487, expected 1,480)";
    assert_eq!(cell(findings, &whole, "Exception"), says);
    let columns = ["Account", "Points difference", "Expected", "Found", "Batch"];
    assert_eq!(columns.map(|column| cell(findings, &whole, column)), ["all accounts", "7", "1480", "1487", ""]);
    let columns = ["Account", "Next step", "First found by run", "Status"];
    let next = format!("pointsd repair plan --user {user}");
    let expected = [user.to_string(), next, run.to_string(), "new".to_owned()];
    assert_eq!(columns.map(|column| cell(findings, &account, column)), expected);

    // Standing, on a night on which little is looked at; in Chinese.
    let chinese = config(&folder, "business: {language: zh-CN, time_zone: Asia/Shanghai}\n");
    let answer = reconcile(&database, &chinese, &["--at", WEDNESDAY, "--json"]).expect(3).json();
    assert_eq!((&answer["findings"], &answer["new"], &answer["resolved"]), (&json!(found), &json!(0), &json!(0)));
    let made = document(&answer);
    assert!(made.title.starts_with("积分对账报告（") && made.title.contains("补做"), "{}", made.title);
    assert_eq!(made.language, Language::SimplifiedChinese);
    assert!(made.headline.ends_with(&format!("对账有 {found} 项差异，其中新增 0 项")), "{}", made.headline);
    let findings = table(&made, "findings");
    let whole = of(findings, "未通过的核对规则", "days_balance");
    let says = "全部账户：净余额比积分变动表多 7 积分（实为 1,487，应为 1,480）";
    assert_eq!(cell(findings, &whole, "差异"), says);
    let columns = ["账户", "首次发现的运行", "状态"];
    let expected = ["全部账户".to_owned(), run.to_string(), "未消除".to_owned()];
    assert_eq!(columns.map(|column| cell(findings, &whole, column)), expected);
    in_one_language(&made);

    // After the repair they are resolved.
    sql(&database, &set("- 7"));
    let english = config(&folder, "");
    let answer = reconcile(&database, &english, &["--json"]).expect(0).json();
    assert_eq!((&answer["findings"], &answer["resolved"]), (&json!(0), &json!(found)));
    let made = document(&answer);
    assert_eq!((made.tone, table(&made, "resolved").rows.len() as u64), (Tone::Good, found));
    let answer = reconcile(&database, &english, &["--json"]).expect(0).json();
    assert_eq!(answer["resolved"], 0);
}

#[test]
fn a_finding_stands_until_it_is_looked_for_again_and_gone() {
    let database = wait(TestDatabase::new());
    ledger(&database);
    let folder = Folder::new();
    let config = config(&folder, "");
    reconcile(&database, &config, &["--full"]).expect(0);
    // A closed day that was changed by hand, with all sums unchanged.
    let change = |by: &str| {
        sql(
            &database,
            &format!(
                "UPDATE pointsd.days SET recharged = recharged {by}, adjusted = adjusted - ({by}) WHERE source = 'gift'
                     AND day = (SELECT min(day) FROM pointsd.days)"
            ),
        );
    };
    change("+ 7");
    let night = |arguments: &[&str], status| {
        let answer = reconcile(&database, &config, &[arguments, &["--json"]].concat()).expect(status).json();
        ["findings", "new", "resolved"].map(|counter| answer[counter].as_u64().unwrap())
    };
    assert_eq!(night(&["--at", WEDNESDAY], 3), [1, 1, 0], "the seal of the day is broken");
    assert_eq!(night(&["--full"], 3), [1, 0, 0]);
    assert_eq!(night(&["--at", "2026-11-18T04:30:01Z"], 3), [1, 0, 0]);
    change("- 7");
    assert_eq!(night(&["--at", "2026-11-18T04:30:02Z"], 0), [0, 0, 1]);

    // An entry that was moved to another closed day, with all sums unchanged.
    let move_by = |by: &str| {
        sql(
            &database,
            &format!(
                "ALTER TABLE pointsd.entries DISABLE TRIGGER entries_never_change;
                 UPDATE pointsd.entries SET recorded_at = recorded_at {by} WHERE seq = 3 AND balance_after > 0;
                 ALTER TABLE pointsd.entries ENABLE ALWAYS TRIGGER entries_never_change"
            ),
        );
    };
    move_by("- interval '1 day'");
    assert_eq!(night(&["--at", "2026-11-18T04:30:03Z"], 0), [0, 0, 0], "a nightly proof does not look there");
    assert_eq!(night(&["--full"], 3), [10, 10, 0], "nine accounts and the days");
    assert_eq!(night(&["--at", "2026-11-18T04:30:04Z"], 3), [10, 0, 0], "findings that are not looked for stand");
    move_by("+ interval '1 day'");
    assert_eq!(night(&["--full"], 0), [0, 0, 10]);
}

/// Every word that we chose is Chinese: no title, label or note is left in English.
fn in_one_language(document: &Document) {
    let mut words = vec![document.title.clone(), document.headline.clone()];
    words.extend(document.facts.iter().map(|fact| fact.label.clone()));
    for section in &document.sections {
        match section {
            Section::Text { title, paragraphs } => words.extend([title.clone()].into_iter().chain(paragraphs.clone())),
            Section::Table(table) => {
                words.extend([table.title.clone(), table.note.clone(), table.if_empty.clone()]);
                words.extend(table.columns.iter().map(|column| column.title.clone()));
            }
            Section::Chart(chart) => {
                words.extend([chart.title.clone(), chart.description.clone()]);
                words.extend(chart.bars.iter().map(|bar| bar.label.clone()));
            }
        }
    }
    words.retain(|text| !text.is_empty());
    assert!(words.len() > 40, "{words:?}");
    for text in words {
        assert!(text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c)), "{text:?} is not in Chinese");
    }
}

#[test]
fn of_many_findings_the_document_has_the_first_and_a_file_all() {
    let mut database = wait(TestDatabase::new());
    database.expect_damage();
    // Ten thousand accounts with a point each, which then is gone from its batch.
    sql(
        &database,
        "INSERT INTO pointsd.accounts (bucket, user_id, balance, total_recharged, total_consumed, total_expired, last_seq, last_batch)
         SELECT pointsd.bucket_of(md5(n::text)::uuid), md5(n::text)::uuid, 1, 1, 0, 0, 1, 1 FROM generate_series(1, 10000) AS n;
         INSERT INTO pointsd.batches (bucket, user_id, amount, remaining, opened_at, expires_at, batch, open, source)
         SELECT bucket, user_id, 1, 0, '2026-01-01', '2036-01-01', 1, false, 'gift' FROM pointsd.accounts;
         INSERT INTO pointsd.entries (bucket, user_id, seq, amount, balance_before, balance_after, at, key, batch, drawing_rule, type,
                                     source_type, description, allocated_batches, allocated_points)
         SELECT bucket, user_id, 1, 1, 0, 1, '2026-01-01', user_id, 1, 1, 'recharge', 'gift', '', '{}', '{}' FROM pointsd.accounts",
    );
    let found: i64 = 10_001; // and the sum of all of them
    let folder = Folder::new();
    let config = config(&folder, "");
    let answer = reconcile(&database, &config, &["--at", WEDNESDAY, "--full", "--json"]).expect(3).json();
    assert_eq!(answer["findings"], found);
    let made = document(&answer);
    assert!(made.headline.ends_with(": 10,001 exceptions, 10,001 new"), "{}", made.headline);
    let findings = table(&made, "findings");
    assert_eq!((findings.rows.len(), findings.rows_in_all), (10_000, 10_001));
    let path = folder.path().join("reports/2026-11-18/reconciliation-043000/findings.csv");
    assert_eq!(
        findings.note,
        format!("The workbook has the first 10,000 of 10,001. All of them are in {}.", path.display())
    );
    assert_eq!(lines(&path), 10_002, "a header and a line for each");

    // Where no file can be written, it says where else they are.
    std::fs::remove_dir_all(folder.path().join("reports")).unwrap();
    folder.file("reports", "in the way");
    let done = reconcile(&database, &config, &["--at", SUNDAY, "--json"]).expect(3);
    let note = table(&document(&done.json()), "findings").note.clone();
    assert_eq!(
        note,
        "The workbook has the first 10,000 of 10,001. All of them are in the database table pointsd.findings."
    );
    assert!(done.stderr.contains("findings.csv with all rows cannot be written"), "{done:?}");
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap().lines().count()
}

#[test]
fn a_slot_has_one_report() {
    let database = wait(TestDatabase::new());
    ledger(&database);
    let folder = Folder::new();
    let config = config(&folder, "");
    let first = reconcile(&database, &config, &["--at", SUNDAY, "--json"]).expect(0).json();
    let again = reconcile(&database, &config, &["--at", SUNDAY, "--json"]).expect(0);
    assert_eq!(again.json()["document"], first["document"]);
    let says = format!("run {} had made the report for this slot already; it stays as it was\n", first["run"]);
    assert_eq!(again.stderr, says);
    assert_eq!(number(&database, "SELECT count(*) FROM pointsd.documents"), 1);
    // A day was closed once, whatever was run.
    let days = "SELECT count(*) FROM (SELECT day FROM pointsd.days GROUP BY day) AS days";
    let before = number(&database, days);
    reconcile(&database, &config, &["--dry-run"]).expect(0);
    assert_eq!(number(&database, days), before);
    sql(&database, "DELETE FROM pointsd.days");
    reconcile(&database, &config, &["--dry-run"]).expect(0);
    assert_eq!(number(&database, days), 0, "a dry run keeps nothing");
}
