//! Business days and months in the reports: each is shown once, and under its own date.

use pointsd::books::{NewPeriodEvent, lock_periods};
use pointsd::document::{Cell, Document, Section, Table};
use serde_json::json;

use super::{numbers, table};
use crate::program::{Folder, Running, on, run, until_found, wait};
use crate::support::{TestDatabase, user};

/// One account. The points that moved were recorded on these days, each at noon.
fn ledger(database: &TestDatabase) {
    let recharge = |points: i64, order: i64| {
        json!({"op": "recharge", "user": user(1), "points": points, "source": "gift", "order_id": order,
               "at": "2026-10-28T00:00:00Z", "expires_at": "2036-01-01T00:00:00Z"})
    };
    let consume = |points: i64, task: &str| {
        json!({"op": "consume", "user": user(1), "points": points, "source_type": "tts", "source_id": task,
               "at": "2026-10-28T00:00:00Z"})
    };
    let lines =
        [recharge(100, 1), consume(30, "a"), recharge(50, 2), consume(10, "b"), consume(5, "c"), consume(4, "d")];
    crate::program::post(&database.url(), lines.map(|line| format!("{line}\n")).concat()).expect(0);
    let sql = "ALTER TABLE pointsd.entries DISABLE TRIGGER entries_never_change;
               UPDATE pointsd.entries SET recorded_at = (ARRAY['2026-10-29', '2026-10-30', '2026-10-31', '2026-11-01',
                   '2026-11-02', '2026-11-10'])[seq]::timestamp AT TIME ZONE 'UTC' + interval '12 hours';
               ALTER TABLE pointsd.entries ENABLE ALWAYS TRIGGER entries_never_change";
    wait(async { database.client().await.batch_execute(sql).await.unwrap() });
}

/// The names of the roll-forwards, and what each opens and closes with in all.
fn roll_forwards(document: &Document) -> Vec<(&str, i64, i64)> {
    let tables = document.sections.iter().filter_map(|section| match section {
        Section::Table(table) if table.name.starts_with("roll-forward") => Some(table),
        _ => None,
    });
    let ends = |table: &Table| table.totals[1].zip(*table.totals.last().unwrap()).unwrap();
    tables.map(|table| (table.name.as_str(), ends(table).0, ends(table).1)).collect()
}

#[test]
fn each_business_day_and_month_is_told_once_and_an_old_slot_has_its_own_day() {
    let database = wait(TestDatabase::new());
    ledger(&database);
    let folder = Folder::new();
    let config = folder.file("pointsd.yaml", format!("state_dir: {}\n", folder.path().display()));
    let reconcile = |slot: &str| -> Document {
        let call = ["run", "reconciliation", "--config", &config, "--json", "--at", slot];
        serde_json::from_value(run(on(&database.url(), &call)).expect(0).json()["document"].clone()).unwrap()
    };
    let made = reconcile("2026-10-31T04:30:00Z");
    assert_eq!(roll_forwards(&made), [("roll-forward-2026-10-29", 0, 100), ("roll-forward", 100, 70)]);
    assert!(made.headline.starts_with("Reconciliation, 30 October 2026 (prepared on "), "{}", made.headline);

    // After an outage, with the end of a month in it.
    let made = reconcile("2026-11-03T04:30:00Z");
    let expected = [
        ("roll-forward-2026-10-31", 70, 120),
        ("roll-forward-2026-11-01", 120, 110),
        ("roll-forward", 110, 105),
        ("roll-forward-2026-10", 0, 120),
    ];
    assert_eq!(roll_forwards(&made), expected);
    let month = table(&made, "roll-forward-2026-10");
    assert_eq!(month.title, "Points roll-forward, October 2026 (whole month)");
    let gift = [Cell::from("Gift"), 0.into(), 150.into(), 0.into(), Cell::Number(-30), 0.into(), 120.into()];
    assert_eq!(month.rows[0], gift);

    // An old slot that is made up afterwards shows the day before it again, and moves nothing back.
    let made = reconcile("2026-11-02T04:30:00Z");
    assert_eq!(roll_forwards(&made), [("roll-forward", 120, 110)]);

    let made = reconcile("2026-11-12T04:30:00Z");
    assert_eq!(roll_forwards(&made), [("roll-forward-all", 105, 101), ("roll-forward", 101, 101)]);
    let days = table(&made, "business-days");
    assert_eq!((days.rows.len(), days.totals[1], *days.totals.last().unwrap()), (9, Some(105), Some(101)));
    assert!(made.headline.starts_with("Reconciliation, 11 November 2026 (prepared on "), "{}", made.headline);

    // From the last closing, of yesterday, to the batches.
    let bridge = table(&made, "bridge");
    assert_eq!(bridge.rows.len(), 2, "{bridge:?}");
    assert!(bridge.rows.iter().all(|row| row[1..] == [101.into(), 0.into(), Cell::Number(101)]), "{bridge:?}");

    // Before the first closed day there is nothing to show.
    let made = reconcile("2026-10-20T04:30:00Z");
    assert_eq!(roll_forwards(&made), []);
}

/// Points of October in another ledger: some used before it and recorded late, some refunded, voided, and expired after its end.
fn month(database: &TestDatabase) {
    let recharge = |points: i64, source: &str, order: i64, at: &str, expires: &str| {
        json!({"op": "recharge", "user": user(1), "points": points, "source": source, "order_id": order,
               "at": at, "expires_at": expires})
    };
    let of_task = |op: &str, points: i64, task: &str, at: &str| json!({"op": op, "user": user(1), "points": points, "source_type": "tts", "source_id": task, "at": at});
    let lines = [
        recharge(100, "gift", 1, "2026-09-28T00:00:00Z", "2026-10-20T00:00:00Z"),
        of_task("consume", 30, "a", "2026-09-29T00:00:00Z"),
        recharge(50, "wxpay", 2, "2026-10-05T00:00:00Z", "2036-10-05T00:00:00Z"),
        of_task("refund", 10, "a", "2026-10-06T00:00:00Z"),
        json!({"op": "void", "user": user(1), "points": 20, "source": "wxpay", "order_id": 2, "at": "2026-10-07T00:00:00Z"}),
        // Before it draws, the 70 points of the gift that are past their expiry expire.
        of_task("consume", 5, "b", "2026-10-31T13:00:00Z"),
    ];
    crate::program::post(&database.url(), lines.map(|line| format!("{line}\n")).concat()).expect(0);
    let sql = "ALTER TABLE pointsd.entries DISABLE TRIGGER entries_never_change;
               UPDATE pointsd.entries SET recorded_at = (ARRAY['2026-09-30', '2026-10-02', '2026-10-05', '2026-10-06',
                   '2026-10-07', '2026-11-01', '2026-11-02'])[seq]::timestamp AT TIME ZONE 'UTC' + interval '12 hours';
               ALTER TABLE pointsd.entries ENABLE ALWAYS TRIGGER entries_never_change";
    wait(async { database.client().await.batch_execute(sql).await.unwrap() });
}

fn texts(table: &Table) -> Vec<Vec<String>> {
    let text = |cell: &Cell| match cell {
        Cell::Text(text) => text.clone(),
        Cell::Number(number) => number.to_string(),
        Cell::Empty => String::new(),
        Cell::Share { part, whole } => format!("{}.0%", part * 100 / whole),
        other => format!("{other:?}"),
    };
    table.rows.iter().map(|row| row.iter().map(text).collect()).collect()
}

#[test]
fn a_month_end_has_every_figure_of_its_month_and_names_what_belongs_elsewhere() {
    let database = wait(TestDatabase::new());
    month(&database);
    let folder = Folder::new();
    let mail = "mail: {mode: directory, from: p@example.com, to: {reconciliation: [cfo@example.com]}}";
    let config = folder.file("pointsd.yaml", format!("state_dir: {}\n{mail}\n", folder.path().display()));
    let call = |call: &[&str]| run(on(&database.url(), &[&["--config", &config], call].concat()));
    let period = |from: &str, to: &str, format: &str| call(&["report", "period", from, to, "--format", format]);
    // The figures of days that are not closed are no figures.
    let open = period("2026-10-01", "2026-10-31", "text").expect(3);
    assert!(open.stdout.contains("No day of the period is closed."), "{}", open.stdout);
    assert!(open.stdout.contains("October 2026: no figures, because no day is closed"), "{}", open.stdout);
    let figures = ["net balance", "No points moved", "Roll-forward", "Recorded late", "Breakage"];
    assert!(figures.iter().all(|figure| !open.stdout.contains(figure)), "{}", open.stdout);
    // The month is the one before the slot where the schedule is read: 1 November in UTC, though 31 October for the business.
    let west = "business: {time_zone: America/Los_Angeles}\njobs: {month_end: {time_zone: UTC}}";
    let west = folder.file("west.yaml", format!("state_dir: {}\n{west}\n", folder.path().display()));
    let west = ["--config", &west, "run", "month_end", "--at", "2026-11-01T05:00:00Z", "--dry-run", "--json"];
    assert_eq!(run(on(&database.url(), &west)).expect(3).json()["from"], "2026-10-01");

    let answer = call(&["run", "month_end", "--at", "2026-11-01T05:00:00Z", "--json"]).expect(0).json();
    let made: Document = serde_json::from_value(answer["document"].clone()).unwrap();
    let headline = "October 2026: 50 issued, 30 used, 0 expired; closing net balance 110 points";
    assert_eq!((made.headline.as_str(), &answer["closing"]), (headline, &json!(110)));
    assert!(made.title.starts_with("Month end, October 2026, prepared on "), "{}", made.title);
    let summary: Vec<i64> = made
        .facts
        .iter()
        .filter_map(|fact| if let Cell::Number(points) = fact.value { Some(points) } else { None })
        .collect();
    assert_eq!(summary, [100, 50, 10, -30, -20, 110], "it adds up");
    // Opening, issued, refunded, applied, used, voided, expired, closing.
    let expected = [
        ["Gift", "100", "0", "10", "0", "-30", "0", "0", "80"],
        ["WeChat Pay", "0", "50", "0", "0", "0", "-20", "0", "30"],
        ["Arrears (receivable)", "0", "0", "0", "0", "0", "0", "0", "0"],
    ];
    assert_eq!(texts(table(&made, "roll-forward")), expected);
    assert_eq!(texts(table(&made, "promotional-points")), [["Gift", "80"]]);
    let comparison = table(&made, "comparison");
    assert_eq!(numbers(comparison, 1), [100, 50, 10, -30, -20, 0, 0, 0, 110]);
    assert_eq!(numbers(comparison, 2), [0, 100, 0, 0, 0, 0, 0, 0, 100]);
    assert_eq!(numbers(comparison, 3), [100, -50, 10, -30, -20, 0, 0, 0, 10]);
    assert_eq!(texts(table(&made, "recorded-late")), [["September 2026", "Used", "1", "-30", ""]]);
    let [noon, before] =
        ["2026-10-02T12:00:00Z", "2026-09-29T00:00:00Z"].map(|time| Cell::Instant(time.parse().unwrap()));
    let listed = &table(&made, "late-entries").rows;
    assert_eq!((listed.len(), &listed[0][2..5]), (1, &[noon, before, Cell::from("Used")][..]));
    assert_eq!(
        listed[0].last(),
        Some(&Cell::Empty),
        "what the ledger wrote is no reason, and may be in another language"
    );
    assert_eq!(texts(table(&made, "due-not-booked")), [["Gift", "1", "70", "70", "0", "0"]]);
    let single = texts(table(&made, "single-entries"));
    let points: Vec<[&str; 3]> = single.iter().map(|row| [3, 4, 5].map(|column| row[column].as_str())).collect();
    assert_eq!(points, [["Refunded", "Gift", "10"], ["Voided", "WeChat Pay", "-20"]]);
    let expected = [
        ["September 2026", "Gift", "100", "0", "100", "30", "30.0%", "0", "0.0%", "70", "70.0%", "0", "0.0%"],
        ["October 2026", "Gift", "0", "10", "10", "5", "50.0%", "0", "0.0%", "0", "0.0%", "5", "50.0%"],
        ["October 2026", "WeChat Pay", "50", "0", "50", "0", "0.0%", "20", "40.0%", "0", "0.0%", "30", "60.0%"],
    ];
    assert_eq!(texts(table(&made, "breakage")), expected);
    // The recipients of reconciliation get it.
    let mails = std::fs::read_dir(folder.path().join("mail")).unwrap();
    let mails: Vec<String> = mails.map(|mail| mail.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(mails, ["2026-11-01-050000-month_end-cfo@example.com.eml"]);
    let mail = std::fs::read_to_string(folder.path().join("mail").join(&mails[0])).unwrap();
    assert!(
        mail.contains("filename=\"month_end-2026-10.xlsx\"") && mail.contains("''month-end-2026-10.xlsx"),
        "{mail}"
    );

    // Any other span, in each form. The period before is as long.
    let text = period("2026-11-01", "2026-11-02", "text").expect(0).stdout;
    assert!(text.starts_with("Period, 1 November 2026 to 2 November 2026, as of "), "{text}");
    assert!(text.contains("The period before is 30 October 2026 to 31 October 2026."), "{text}");
    let csv = period("2026-11-01", "2026-11-02", "csv").expect(0).stdout;
    assert!(csv.contains("\nGift,80,0,0,-5,-70,5"), "{csv}");
    assert!(period("2026-11-01", "2026-11-02", "html").expect(0).stdout.contains("<table"));
    let late: Document = serde_json::from_str(&period("2026-11-01", "2026-11-02", "json").expect(0).stdout).unwrap();
    let expected = [["October 2026", "Used", "1", "-5", ""], ["October 2026", "Expired", "1", "-70", ""]];
    assert_eq!(texts(table(&late, "recorded-late")), expected);
    let wrong = period("2026-10-31", "2026-10-01", "text").expect(2).stderr;
    assert!(wrong.contains("2026-10-31 is after 2026-10-01; write the first day first"), "{wrong}");

    // Every part ends with the last closed day.
    let sql = "DELETE FROM pointsd.days WHERE day > '2026-10-06'";
    wait(async { database.client().await.batch_execute(sql).await.unwrap() });
    let part: Document = serde_json::from_str(&period("2026-10-01", "2026-10-31", "json").expect(3).stdout).unwrap();
    let headline = "1 October 2026 to 6 October 2026: 50 issued, 30 used, 0 expired; closing net balance 130 points";
    assert_eq!(part.headline, headline);
    let single = texts(table(&part, "single-entries"));
    assert_eq!(single.iter().map(|row| row[3].as_str()).collect::<Vec<_>>(), ["Refunded"]);
}

#[test]
fn a_day_that_cannot_be_closed_is_named() {
    let mut database = wait(TestDatabase::new());
    database.expect_damage(); // an entry is changed by hand
    month(&database);
    let sql = "ALTER TABLE pointsd.entries DISABLE TRIGGER entries_never_change;
               UPDATE pointsd.entries SET amount = 1::bigint << 60, balance_after = balance_before + (1::bigint << 60)
               WHERE type = 'recharge' AND source_type = 'wxpay';
               ALTER TABLE pointsd.entries ENABLE ALWAYS TRIGGER entries_never_change";
    wait(async { database.client().await.batch_execute(sql).await.unwrap() });
    let folder = Folder::new();
    let config = folder.file("pointsd.yaml", format!("state_dir: {}\n", folder.path().display()));
    let call = ["run", "reconciliation", "--config", &config, "--at", "2026-11-01T04:30:00Z"];
    let done = run(on(&database.url(), &call)).expect(3);
    assert!(done.stderr.contains("a business day cannot be closed, nor the days after it"), "{}", done.stderr);
    let sql =
        "SELECT found || '; ' || (SELECT max(day) FROM pointsd.days) FROM pointsd.findings WHERE rule = 'day_open'";
    let found: String = wait(async { database.client().await.query_one(sql, &[]).await.unwrap().get(0) });
    assert_eq!(found, "2026-10-05 wxpay: recharged 1152921504606846976; 2026-10-04");
}

/// Points that are due in October: of one account the expiry is recorded before late usage, of the other one after it.
fn late(database: &TestDatabase) {
    let recharge = |nth: u32, source: &str, order: i64, expires: &str| {
        json!({"op": "recharge", "user": user(nth), "points": 100, "source": source, "order_id": order,
               "at": "2026-10-01T00:00:00Z", "expires_at": expires})
    };
    let used = |nth: u32, points: i64, task: &str, at: &str| json!({"op": "consume", "user": user(nth), "points": points, "source_type": "tts", "source_id": task, "at": at});
    let void = |nth: u32, source: &str| json!({"op": "void", "user": user(nth), "points": 10, "source": source, "order_id": 1, "at": "2026-10-16T00:00:00Z"});
    let both = [(1, "gift"), (2, "card")];
    let first = both.map(|(nth, source)| {
        [recharge(nth, source, 1, "2026-10-20T00:00:00Z"), recharge(nth, "wxpay", 2, "2036-01-01T00:00:00Z")]
    });
    let then = [
        // Before it draws, the 100 points of the gift expire.
        used(1, 1, "a", "2026-11-02T00:00:00Z"),
        used(1, 30, "b", "2026-10-15T00:00:00Z"),
        void(2, "card"),
        used(2, 30, "b", "2026-10-15T00:00:00Z"),
        used(2, 1, "a", "2026-11-02T00:00:00Z"),
    ];
    let lines = first.as_flattened().iter().chain(&then).map(|line| format!("{line}\n"));
    crate::program::post(&database.url(), lines.collect::<String>()).expect(0);
    let sql = "ALTER TABLE pointsd.entries DISABLE TRIGGER entries_never_change;
               UPDATE pointsd.entries SET recorded_at = CASE type WHEN 'recharge' THEN '2026-10-01T12:00:00Z'::timestamptz
                   ELSE '2026-11-02T12:00:00Z'::timestamptz + seq * interval '1 second' END;
               ALTER TABLE pointsd.entries ENABLE ALWAYS TRIGGER entries_never_change";
    wait(async { database.client().await.batch_execute(sql).await.unwrap() });
}

#[test]
fn what_was_due_does_not_depend_on_the_order_of_later_postings() {
    let database = wait(TestDatabase::new());
    late(&database);
    let folder = Folder::new();
    let config = folder.file("pointsd.yaml", format!("state_dir: {}\n", folder.path().display()));
    let call = |call: &[&str]| run(on(&database.url(), &[&["--config", &config], call].concat()));
    call(&["run", "month_end", "--at", "2026-11-01T05:00:00Z"]).expect(0);
    let october = call(&["report", "period", "2026-10-01", "2026-10-31", "--format", "json"]).expect(0).stdout;
    let october: Document = serde_json::from_str(&october).unwrap();
    // Held at the end, expired, used, voided or corrected since, still open.
    let expected = [["Card", "1", "100", "60", "30", "10", "0"], ["Gift", "1", "100", "70", "30", "0", "0"]];
    assert_eq!(texts(table(&october, "due-not-booked")), expected);
    let november = call(&["report", "period", "2026-11-01", "2026-11-02", "--format", "json"]).expect(0).stdout;
    let november: Document = serde_json::from_str(&november).unwrap();
    assert_eq!(texts(table(&november, "due-not-booked")), [] as [Vec<String>; 0]);
}

#[test]
fn a_closed_month_keeps_its_report_and_later_postings_for_it_are_listed() {
    let database = wait(TestDatabase::new());
    month(&database);
    let folder = Folder::new();
    let config = folder.file("pointsd.yaml", format!("state_dir: {}\n", folder.path().display()));
    let call = |call: &[&str]| run(on(&database.url(), &[&["--config", &config], call].concat()));
    let refused = call(&["period", "close", "2026-10", "--by", "Ada"]).expect(2).stderr;
    assert!(refused.contains("no day of 2026-10 is closed; `pointsd run reconciliation` closes days"), "{refused}");
    // A month that no reconciliation can close.
    let cases = [
        ("2026-08", "no entry was recorded before the end of 2026-08, so it has no figures; give a later month"),
        ("9998-10", "9998-10 is not over yet; wait for its end, or give an earlier month"),
    ];
    for (month, why) in cases {
        for command in [&["period", "close", month][..], &["export", "journal", "--period", month]] {
            let refused = call(command).expect(2).stderr;
            assert!(refused.contains(why), "{refused}");
        }
    }
    call(&["run", "month_end", "--at", "2026-11-01T05:00:00Z"]).expect(0);
    let refused = call(&["period", "close", "2026-10", "--by", "Ada"]).expect(2).stderr;
    assert!(refused.contains("2026-09 is not closed; close it first: `pointsd period close 2026-09`"), "{refused}");
    call(&["period", "close", "2026-09", "--by", "Ada"]).expect(0);
    let closed = call(&["period", "close", "2026-10", "--by", "Ada"]).expect(0).stdout;
    assert!(closed.starts_with("2026-10 is closed, by Ada on "), "{closed}");
    let refused = call(&["period", "close", "2026-10", "--by", "Bob"]).expect(2).stderr;
    assert!(refused.contains("2026-10 is closed already, by Ada on "), "{refused}");
    let kept = "SELECT (totals #>> '{points,gift,closing}') || ' ' || (document ->> 'headline') FROM pointsd.periods WHERE event = 2";
    let kept: String = wait(async { database.client().await.query_one(kept, &[]).await.unwrap().get(0) });
    assert_eq!(kept, "80 October 2026: 50 issued, 30 used, 0 expired; closing net balance 110 points");

    // What was recorded after the month for it stands in the next period, with the closing.
    let late = call(&["report", "period", "2026-11-01", "2026-11-02", "--format", "json"]).expect(0).stdout;
    let late: Document = serde_json::from_str(&late).unwrap();
    let rows = &table(&late, "recorded-late").rows;
    assert!(rows.len() == 2 && rows.iter().all(|row| matches!(row[4], Cell::Instant(_))), "{rows:?}");
    let last = late.facts.iter().find(|fact| fact.label == "Last closed month").unwrap();
    assert_eq!(last.value, Cell::from("October 2026"));

    // A report of today has what was recorded since; the kept one stays.
    let show = |month: &str, status: i32| call(&["period", "show", month, "--format", "json"]).expect(status);
    let kept: Document = serde_json::from_str(&show("2026-10", 0).stdout).unwrap();
    assert!(texts(table(&kept, "recorded-late")).len() == 1, "{kept:?}");
    let late = json!({"op": "consume", "user": user(1), "points": 1, "source_type": "tts", "source_id": "late",
                      "at": "2026-10-30T00:00:00Z"});
    crate::program::post(&database.url(), format!("{late}\n")).expect(0);
    let now = call(&["report", "period", "2026-10-01", "2026-10-31", "--format", "json"]).expect(0);
    let remark = "2026-10 is closed; this report is computed as of now, `pointsd period show 2026-10` prints";
    assert!(now.stderr.contains(remark), "{}", now.stderr);
    let now: Document = serde_json::from_str(&now.stdout).unwrap();
    assert_ne!(texts(table(&now, "breakage")), texts(table(&kept, "breakage")));
    let again: Document = serde_json::from_str(&show("2026-10", 0).stdout).unwrap();
    assert_eq!(again, kept);
    assert!(call(&["period", "show", "2026-10"]).expect(0).stdout.starts_with("Month end, October 2026, "));
    assert!(show("2026-11", 2).stderr.contains("2026-11 is not closed"));

    // Months are reopened from the last one on, as they are closed from the first one on.
    let refused = call(&["period", "reopen", "2026-09", "--by", "Ada", "--reason", "a refund"]).expect(2).stderr;
    assert!(
        refused.contains("2026-10 is closed, and 2026-09 was closed before it; reopen the later month"),
        "{refused}"
    );

    call(&["period", "reopen", "2026-10", "--by", "Ada", "--reason", " "]).expect(2);
    call(&["period", "reopen", "2026-10", "--by", "Ada", "--reason", "a refund was booked twice"]).expect(0);
    let refused = call(&["period", "reopen", "2026-10", "--by", "Ada", "--reason", "again"]).expect(2).stderr;
    assert!(refused.contains("2026-10 is not closed; see `pointsd period list`"), "{refused}");
    let list = call(&["period", "list"]).expect(0).stdout;
    let states = ["2026-09   closed ", "2026-10   was closed ", "2026-10   reopened "];
    assert!(states.iter().all(|state| list.contains(state)) && list.contains("a refund was booked twice"), "{list}");
    call(&["period", "close", "2026-10", "--by", "Ada"]).expect(0);
    let change = "DELETE FROM pointsd.periods";
    let refused = wait(async { database.client().await.execute(change, &[]).await.unwrap_err() });
    assert!(format!("{refused:?}").contains("history is never changed"), "{refused:?}");
}

#[test]
fn no_month_is_closed_while_the_one_before_is_reopened() {
    let database = wait(TestDatabase::new());
    month(&database);
    let folder = Folder::new();
    let config = folder.file("pointsd.yaml", format!("state_dir: {}\n", folder.path().display()));
    let call = |call: &[&str]| on(&database.url(), &[&["--config", &config], call].concat());
    run(call(&["run", "month_end", "--at", "2026-11-01T05:00:00Z"])).expect(0);
    run(call(&["period", "close", "2026-09", "--by", "Ada"])).expect(0);
    // Its connections go on between the statements.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (bob, other) = runtime.block_on(async { (database.client().await, database.client().await) });
    let reopening =
        NewPeriodEvent { month: "2026-09-01".parse().unwrap(), by: "Bob", reason: Some("a refund"), kept: None };
    runtime.block_on(async {
        bob.batch_execute("BEGIN").await.unwrap();
        lock_periods(&bob).await.unwrap();
        reopening.write(&bob).await.unwrap();
    });
    let closing = Running::start(call(&["period", "close", "2026-10", "--by", "Ada"]));
    let waits = "SELECT FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()";
    runtime.block_on(async {
        until_found(&other, "the closing to wait", waits).await;
        bob.batch_execute("COMMIT").await.unwrap();
    });
    let refused = closing.finish().expect(2).stderr;
    assert!(refused.contains("2026-09 is not closed; close it first"), "{refused}");
}
