//! The journal of a month: double entries that tie to the roll-forward, and what a closed month has kept of both.

use pointsd::document::{Cell, Document};
use pointsd::proof::Basis;
use serde_json::json;

use super::{hand, repair, table};
use crate::program::{Done, Folder, on, run, wait};
use crate::support::{TestDatabase, user};

/// Two currencies, and every movement that money has: with one account for CNY, one for JPY and one whose points expire.
fn ledger(database: &TestDatabase) {
    let recharge = |nth: u32, points: i64, source: &str, (paid, currency): (i64, &str), expires: &str| {
        json!({"op": "recharge", "user": user(nth), "points": points, "source": source, "order_id": 1, "paid": paid,
               "currency": currency, "at": "2026-10-05T00:00:00Z", "expires_at": expires})
    };
    let of_task = |op: &str, nth: u32, at: &str| json!({"op": op, "user": user(nth), "points": 1, "source_type": "tts", "source_id": "a", "at": at});
    let lines = [
        // 2.8557 a point.
        recharge(1, 7, "wxpay", (1_999, "CNY"), "2036-01-01T00:00:00Z"),
        of_task("consume", 1, "2026-10-05T12:00:00Z"),
        of_task("refund", 1, "2026-10-06T00:00:00Z"),
        recharge(2, 10, "card", (500, "JPY"), "2036-01-01T00:00:00Z"),
        json!({"op": "void", "user": user(2), "points": 4, "source": "card", "order_id": 1, "at": "2026-10-06T00:00:00Z"}),
        recharge(3, 3, "card", (1_000, "CNY"), "2026-10-20T00:00:00Z"),
        of_task("consume", 3, "2026-10-21T00:00:00Z"),
    ];
    crate::program::post(&database.url(), lines.map(|line| format!("{line}\n")).concat()).expect(0);
    wait(async {
        let mut client = database.client().await;
        // A point too many in the first batch, two too few in the second; the balances are right.
        hand(&client, 1, -1, Some(1)).await;
        hand(&client, 2, 2, Some(1)).await;
        repair(&mut client, 1, Basis::Balances).await;
        repair(&mut client, 2, Basis::Balances).await;
        let sql = "SELECT allocated_points, allocated_paid FROM pointsd.entries WHERE type = 'adjust' ORDER BY user_id";
        let parts: Vec<(Vec<i64>, Vec<i64>)> =
            client.query(sql, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect();
        assert_eq!(parts, [(vec![-1], vec![-285]), (vec![2], vec![100])], "a repair releases money, and gives it back");
        let days = format!(
            "ALTER TABLE pointsd.entries DISABLE TRIGGER entries_never_change;
             UPDATE pointsd.entries SET recorded_at = CASE
                 WHEN type = 'expire' OR user_id = '{}' AND type = 'consume' THEN '2026-10-21T12:00:00Z'::timestamptz
                 WHEN type IN ('refund', 'void') THEN '2026-10-06T12:00:00Z'
                 WHEN type = 'adjust' THEN '2026-10-08T12:00:00Z'
                 ELSE '2026-10-05T12:00:00Z' END;
             ALTER TABLE pointsd.entries ENABLE ALWAYS TRIGGER entries_never_change",
            user(3)
        );
        client.batch_execute(&days).await.unwrap();
    });
}

const JOURNAL: &str = "\
date,document,account,debit,credit,currency,source,text
2026-10-05,20261005-CNY-card,1000,10.00,,CNY,card,\"Points sold, Card\"
2026-10-05,20261005-CNY-card,Deferred revenue,,10.00,CNY,card,\"Points sold, Card\"
2026-10-05,20261005-CNY-wxpay,1012-01,19.99,,CNY,wxpay,\"Points sold, WeChat Pay\"
2026-10-05,20261005-CNY-wxpay,Deferred revenue,,19.99,CNY,wxpay,\"Points sold, WeChat Pay\"
2026-10-05,20261005-CNY-wxpay,Deferred revenue,2.85,,CNY,wxpay,\"Points used, WeChat Pay\"
2026-10-05,20261005-CNY-wxpay,Revenue,,2.85,CNY,wxpay,\"Points used, WeChat Pay\"
2026-10-05,20261005-JPY-card,1000,500,,JPY,card,\"Points sold, Card\"
2026-10-05,20261005-JPY-card,Deferred revenue,,500,JPY,card,\"Points sold, Card\"
2026-10-06,20261006-CNY-wxpay,Revenue,2.85,,CNY,wxpay,\"Points used, WeChat Pay\"
2026-10-06,20261006-CNY-wxpay,Deferred revenue,,2.85,CNY,wxpay,\"Points used, WeChat Pay\"
2026-10-06,20261006-JPY-card,Deferred revenue,200,,JPY,card,\"Returned to customers, Card\"
2026-10-06,20261006-JPY-card,Refunds payable,,200,JPY,card,\"Returned to customers, Card\"
2026-10-08,20261008-CNY-wxpay,Corrections,2.85,,CNY,wxpay,\"Correction, WeChat Pay\"
2026-10-08,20261008-CNY-wxpay,Deferred revenue,,2.85,CNY,wxpay,\"Correction, WeChat Pay\"
2026-10-08,20261008-JPY-card,Deferred revenue,100,,JPY,card,\"Correction, Card\"
2026-10-08,20261008-JPY-card,Corrections,,100,JPY,card,\"Correction, Card\"
2026-10-21,20261021-CNY-card,Deferred revenue,10.00,,CNY,card,\"Points expired, Card\"
2026-10-21,20261021-CNY-card,Breakage,,10.00,CNY,card,\"Points expired, Card\"
";

const EXPORT: [&str; 4] = ["export", "journal", "--period", "2026-10"];

/// A ledger with these movements in October.
struct October {
    database: TestDatabase,
    folder: Folder,
    config: String,
}

impl October {
    fn new() -> October {
        let mut database = wait(TestDatabase::new());
        database.expect_damage(); // entries are moved into October by hand
        ledger(&database);
        let folder = Folder::new();
        let finance = "finance: {accounts: {cash: '1000'}, sources: {wxpay: {cash: 1012-01}}}";
        let config = folder.file("pointsd.yaml", format!("state_dir: {}\n{finance}\n", folder.path().display()));
        October { database, folder, config }
    }

    /// Its days are counted.
    fn counted() -> October {
        let october = October::new();
        october.call(&["run", "month_end", "--at", "2026-11-01T05:00:00Z"]).expect(0);
        october
    }

    /// It is closed, and nothing has changed since.
    fn closed() -> October {
        let october = October::counted();
        october.call(&["period", "close", "2026-10", "--by", "Ada"]).expect(0);
        assert!(!october.list(0).contains("changed"));
        october
    }

    fn call(&self, call: &[&str]) -> Done {
        run(on(&self.database.url(), &[&["--config", &self.config], call].concat()))
    }

    fn list(&self, status: i32) -> String {
        self.call(&["period", "list"]).expect(status).stdout
    }

    /// The report on a later period, on one line.
    fn report(&self) -> String {
        let report = self.call(&["report", "period", "2026-11-01", "2026-11-02"]).expect(3).stdout;
        report.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Changes closed days, as if they had been counted again in another way.
    fn change(&self, sql: &str) {
        wait(async { self.database.client().await.batch_execute(sql).await.unwrap() });
    }
}

#[test]
fn a_month_is_booked_twice_each() {
    let october = October::new();
    let refused = october.call(&EXPORT).expect(2).stderr;
    assert!(refused.contains("no day of 2026-10 is closed"), "{refused}");
    october.call(&["export", "journal"]).expect(2);
    october.call(&["export", "entries", "--period", "2026-10"]).expect(2);
    october.call(&["run", "month_end", "--at", "2026-11-01T05:00:00Z"]).expect(0);
    let done = october.call(&EXPORT).expect(0);
    assert_eq!(done.stdout.replace("\r\n", "\n"), JOURNAL);
    assert_eq!(done.stdout.matches("\r\n").count(), JOURNAL.lines().count(), "as RFC 4180 ends lines");
    assert!(done.stderr.contains("2026-10 is not closed; `pointsd period close`"), "{}", done.stderr);
    october.call(&["period", "close", "2026-10", "--by", "Ada"]).expect(0);
    let file = october.folder.path().join("journal.csv").to_str().unwrap().to_owned();
    let written = october.call(&[&EXPORT[..], &["--output", &file, "--json"]].concat()).expect(0).json();
    let totals = json!({ "CNY": "48.54", "JPY": "800" });
    let expected = json!({ "period": "2026-10", "closed": true, "documents": 8, "lines": 18, "debit": totals, "credit": totals,
                           "file": file });
    assert_eq!((written, std::fs::read_to_string(&file).unwrap()), (expected, done.stdout));
    let rows = october.call(&[&EXPORT[..], &["--json"]].concat()).expect(0);
    assert_eq!((rows.jsons().len(), &rows.jsons()[8]["debit"]), (18, &json!("2.85")));
    assert!(rows.stderr.contains("2026-10 is closed, by Ada on "), "{}", rows.stderr);
}

/// Not that of the last day alone.
#[test]
fn the_money_of_all_days_since_the_last_report_is_told() {
    let made = October::counted().call(&["run", "reconciliation", "--at", "2026-11-01T04:30:00Z", "--json"]).expect(3);
    let made: Document = serde_json::from_value(made.json()["document"].clone()).unwrap();
    let ends =
        table(&made, "deferred-revenue-all").rows.iter().map(|row| (row[2].clone(), row.last().unwrap().clone()));
    let money = |amount, digits| Cell::Money { amount, digits };
    let expected = [(0, 0, 2), (0, 2_284, 2), (0, 2_284, 2), (0, 200, 0)];
    let expected = expected.map(|(opening, closing, digits)| (money(opening, digits), money(closing, digits)));
    assert_eq!(ends.collect::<Vec<_>>(), expected);
}

#[test]
fn a_closed_month_keeps_its_closing() {
    let october = October::closed();
    october.change(
        "UPDATE pointsd.day_money SET opening = opening + 1, closing = closing + 1 WHERE day = '2026-10-31' AND source = 'wxpay';
         UPDATE pointsd.days SET opening = opening + 1, closing = closing + 1 WHERE day = '2026-10-31' AND source = 'card'",
    );
    let listed = october.list(3);
    assert!(listed.contains("closed, changed since"), "{listed}");
    let totals = "  card: closed with 4 points, now 5 points\n  wxpay: closed with 22.84 CNY, now 22.85 CNY\n";
    assert!(listed.contains(totals), "{listed}");
    let listed = october.call(&["period", "list", "--json"]).expect(3).jsons();
    let money = json!({ "currency": "CNY", "source": "wxpay", "figure": "closing", "kept": 2_284, "now": 2_285 });
    assert_eq!(listed[0]["changed"][1], money, "{listed:?}");
    let told = october.report();
    let sentence = "October 2026 is closed, but its totals have changed since: Card closed with 4 points, now 5 points, WeChat \
                    Pay closed with 22.84 CNY, now 22.85 CNY.";
    assert!(told.contains(sentence), "{told}");
}

/// Points and money that moved from one figure to another leave every closing as it was.
#[test]
fn a_closed_month_keeps_the_figures_before_its_closing() {
    let october = October::closed();
    october.change(
        "UPDATE pointsd.day_money SET used = used + 1, expired = expired - 1 WHERE day = '2026-10-21' AND source = 'card';
         UPDATE pointsd.days SET consumed = consumed + 1, expired = expired - 1 WHERE day = '2026-10-21' AND source = 'card'",
    );
    let listed = october.list(3);
    let totals = "  card, consumed: 0 points when it was closed, now 1 point\n  \
                  card, expired: 3 points when it was closed, now 2 points\n  \
                  card, expired: 10.00 CNY when it was closed, now 9.99 CNY\n  \
                  card, used: 0.00 CNY when it was closed, now 0.01 CNY\n";
    assert!(listed.contains(totals), "{listed}");
    let told = october.report();
    assert!(told.contains("Card, Recognised on use: 0.00 CNY when it was closed, now 0.01 CNY"), "{told}");
}

#[test]
fn a_closed_month_whose_last_day_is_gone_is_not_exported() {
    let october = October::closed();
    october.change("DELETE FROM pointsd.days WHERE day >= '2026-10-31'");
    let listed = october.list(3);
    assert!(listed.contains("card: closed with 4 points, its last day is open"), "{listed}");
    let refused = october.call(&EXPORT).expect(2).stderr;
    assert!(refused.contains("2026-10 is closed to 2026-10-30 only, 2026-10-31 is missing"), "{refused}");
}
