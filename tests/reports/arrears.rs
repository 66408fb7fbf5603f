//! The report on arrears: since when, and what changed from one report to the next.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};
use deadpool_postgres::Object;
use pointsd::config::Config;
use pointsd::document::{Cell, Tone};
use pointsd::ledger::{Kind, Posting, Reference, Reply, Rules};
use pointsd::proof::Basis;
use pointsd::reports::Pipeline;
use pointsd::reports::arrears::{Age, Arrears, Owing, for_each_owing};
use pointsd::reports::pipeline::Made;
use serde_json::{Value, json};
use tokio_postgres::Client;

use super::{
    AsOf, assert_complete, config, consume, database_time, hand, made_as_of, numbers, post, recharge, record_all_at,
    repair, table,
};
use crate::program::{Folder, call, on, run};
use crate::support::{TestDatabase, at, rng, user};

/// Makes and keeps a report as the job does.
async fn report(database: &TestDatabase, config: &Config, slot: DateTime<Utc>) -> Made<Arrears> {
    let database = database.database().await;
    let mut client = Object::take(database.connection().await.unwrap());
    let made = Pipeline { config, slot, run: 1 }.publish(&Arrears, &mut client, &()).await.unwrap();
    database.close().await.unwrap();
    made
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tells_since_when_through_several_spells_and_what_changed() {
    let (database, folder) = (TestDatabase::new().await, Folder::new());
    let config = config(&folder, "UTC", "en");
    let mut session = database.session().await;
    let (day, end) = (|day: u32| at(&format!("2026-03-{day:02}T10:00:00Z")), at("2026-12-31T00:00:00Z"));
    let first = [
        consume(1, 5, "a", day(1)),
        recharge(1, 20, "b", day(2), end),
        consume(1, 30, "c", day(3)),
        consume(1, 10, "d", day(4)),
        consume(2, 7, "a", day(5)),
        recharge(3, 7, "a", day(5), end),
    ];
    post(&mut session, &first, &config).await;
    let made = report(&database, &config, at("2026-03-10T00:00:00Z")).await;
    // Each report says of which day it is, and for which run it was prepared.
    assert!(
        made.document.headline.ends_with(" (prepared for the run of 10 March 2026): 32 points in arrears (2 accounts)")
    );
    assert!(made.document.title.starts_with("Arrears, prepared on "), "{}", made.document.title);
    assert!(made.document.title.ends_with(" for the run of 10 March 2026, 00:00"), "{}", made.document.title);
    let row = &table(&made.document, "owing").rows[0];
    let (name, service) = (Cell::Text(user(1).to_string()), Cell::Text("tts".to_owned()));
    // The second time below zero counts, not the first and not what came on top.
    let days = (made.document.as_of.date_naive() - day(3).date_naive()).num_days();
    assert_eq!(row[..4], [name, Cell::Number(25), Cell::Instant(day(3)), Cell::Number(days)]);
    assert_eq!(row[4..7], [service.clone(), Cell::Number(3), Cell::Instant(day(4))]);
    // 15 points of the third task and the 10 of the fourth are unpaid. Only attachments show the item.
    let (task, points) = (Cell::from("c"), Cell::Number(15));
    // The ledger wrote its description, which says the same as the columns beside it.
    assert_eq!(row[7..], [Cell::Instant(day(3)), Cell::Number(days), service, task, Cell::Empty, points]);
    let text = pointsd::reports::text(&made.document, None);
    assert!(text.contains(&user(1).to_string()) && !text.contains("Oldest unpaid item"), "{text}");

    let second = [
        recharge(1, 100, "e", day(11), end),
        consume(3, 10, "b", day(11)),
        consume(2, 1, "b", day(12)),
        consume(4, 4, "a", day(12)),
        recharge(4, 4, "b", day(12), end),
    ];
    post(&mut session, &second, &config).await;
    let slot = at("2026-03-13T00:00:00Z");
    let made = report(&database, &config, slot).await;
    let headline = &made.document.headline;
    assert!(headline.ends_with(": 11 points in arrears (2 accounts); 1 new, 1 cleared"), "{headline}");
    assert_eq!(numbers(table(&made.document, "roll-forward"), 1), [32, 8, -29, 11]);
    // Of the 100 points of the first account 75 are left; the second owes 8, the third 3.
    assert_eq!(numbers(table(&made.document, "net-balance"), 1), [75, -11, 64]);
    assert!(table(&made.document, "roll-forward").note.contains("1 more account fell into arrears and cleared them"));
    let cleared = table(&made.document, "cleared");
    assert_eq!(cleared.rows[0][1..], [Cell::Number(25), Cell::from("points issued (Gift)"), Cell::Instant(day(11))]);
    assert_eq!(table(&made.document, "new").rows[0][0], Cell::Text(user(3).to_string()));
    assert_complete(&made.document, false);

    // A slot that is done again moves no baseline: the next report begins where the first one of the slot ended.
    report(&database, &config, slot).await;
    post(&mut session, &[consume(2, 2, "c", day(14))], &config).await;
    assert_eq!(report(&database, &config, slot).await.counters.drawn, 2);
    let made = report(&database, &config, at("2026-03-15T00:00:00Z")).await;
    let headline = &made.document.headline;
    assert!(headline.ends_with(": 13 points in arrears (2 accounts); 0 new, 0 cleared"), "{headline}");
    assert_eq!(numbers(table(&made.document, "roll-forward"), 1), [11, 2, 0, 13]);
    let again = report(&database, &config, at("2026-03-16T00:00:00Z")).await;
    assert_eq!((again.counters.drawn, again.counters.repaid, again.document.tone), (0, 0, Tone::Good));
    assert!(again.document.tone_rule.contains("more than 10,000 points in arrears, or more than 25%"));

    // A baseline of a later instant stays.
    let client = database.client().await;
    client.batch_execute("UPDATE pointsd.arrears_closing SET as_of = '2100-01-01Z'").await.unwrap();
    report(&database, &config, at("2026-03-17T00:00:00Z")).await;
    let kept: DateTime<Utc> = client.query_one("SELECT as_of FROM pointsd.arrears_closing", &[]).await.unwrap().get(0);
    assert_eq!(kept, at("2100-01-01T00:00:00Z"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_days_on_the_calendar_of_the_business_through_a_clock_change() {
    let (database, folder) = (TestDatabase::new().await, Folder::new());
    // The clocks of Paris go forward on 29 March.
    let config = config(&folder, "Europe/Paris", "zh-CN");
    let slot = at("2026-04-03T22:30:00Z"); // 4 April, 00:30 in Paris
    let falls = [
        (1, "2026-03-27T22:59:59Z", 8),  // 27 March, 23:59:59 in Paris
        (2, "2026-03-27T23:00:00Z", 7),  // 28 March, midnight
        (3, "2026-03-04T22:59:59Z", 31), // 4 March, 23:59:59
        (4, "2026-03-04T23:00:00Z", 30),
        (5, "2026-01-02T22:59:59Z", 92),
        (6, "2026-01-02T23:00:00Z", 91),
        (7, "2026-01-03T23:00:00Z", 90),
        (8, "2026-04-09T00:00:00Z", 0),
    ];
    let mut session = database.session().await;
    let postings: Vec<_> = falls.map(|(nth, when, _)| consume(nth, i64::from(nth), "a", at(when))).into();
    post(&mut session, &postings, &config).await;
    record_all_at(&database, "2026-04-03T20:00:00Z").await;
    let made = made_as_of(&database, &config, slot, AsOf(slot, Arrears)).await;
    let expected: Vec<i64> = falls.iter().rev().map(|(.., days)| *days).collect();
    assert_eq!(numbers(table(&made.document, "owing"), 3), expected);
    let ages = table(&made.document, "ages");
    // 0-7: users 2 and 8; 8-30: 1 and 4; 31-90: 3 and 7; older: 5 and 6.
    assert_eq!((numbers(ages, 1), numbers(ages, 2)), (vec![2, 2, 2, 2], vec![10, 5, 10, 11]));
    assert_eq!(made.document.headline, "4月4日：欠费 36 积分（8 个账户）");
    assert_complete(&made.document, true);
    let later = report(&database, &config, at("2026-04-05T00:00:00Z")).await;
    assert_complete(&later.document, true);
}

/// The entry with which each account in arrears fell below zero, counted posting by posting: a restore belongs to the consume after
/// it. And how many accounts in arrears a restore lifted above zero for a moment.
async fn fell_into_arrears(client: &Client) -> (BTreeMap<String, i64>, u32) {
    let sql =
        "SELECT user_id::text, seq, type, balance_before, balance_after FROM pointsd.entries ORDER BY user_id, seq";
    let (mut fell, mut began, mut lifted) = (BTreeMap::new(), None, 0);
    for row in client.query(sql, &[]).await.unwrap() {
        let (user, seq, kind): (String, i64, String) = (row.get(0), row.get(1), row.get(2));
        let (before, after): (i64, i64) = (began.take().unwrap_or_else(|| row.get(3)), row.get(4));
        if kind == "restore" {
            began = Some(before);
            continue;
        }
        lifted += u32::from(before < 0 && row.get::<_, i64>(3) >= 0);
        if after >= 0 {
            fell.remove(&user);
        } else if before >= 0 {
            fell.insert(user, seq);
        }
    }
    (fell, lifted)
}

/// What is unpaid of an account, the oldest item first: an entry, its effective time, and its points.
type Unpaid = VecDeque<(i64, DateTime<Utc>, i64)>;

/// The unpaid items of each account, first in, first out, counted posting by posting from the balances alone.
async fn unpaid_items(client: &Client) -> BTreeMap<String, Unpaid> {
    let sql =
        "SELECT user_id::text, seq, type, at, balance_before, balance_after FROM pointsd.entries ORDER BY user_id, seq";
    let (mut unpaid, mut began) = (BTreeMap::<String, Unpaid>::new(), None);
    for row in client.query(sql, &[]).await.unwrap() {
        let before: i64 = began.take().unwrap_or_else(|| row.get(4));
        if row.get::<_, &str>(2) == "restore" {
            began = Some(before);
            continue;
        }
        let items = unpaid.entry(row.get(0)).or_default();
        let mut drawn = (-row.get::<_, i64>(5)).max(0) - (-before).max(0);
        if drawn > 0 {
            items.push_back((row.get(1), row.get(3), drawn));
        }
        while drawn < 0 {
            let (_, _, points) = items.front_mut().expect("more repaid than drawn");
            let paid = (-drawn).min(*points);
            (*points, drawn) = (*points - paid, drawn + paid);
            if *points == 0 {
                items.pop_front();
            }
        }
    }
    unpaid.retain(|_, items| !items.is_empty());
    unpaid
}

/// Holds the ages of unpaid items against that count, at instants at which the borders between ages lie among the items.
async fn check_items(client: &Client) {
    let expected = unpaid_items(client).await;
    let (zone, mut parted) = ("Asia/Kolkata".parse::<pointsd::time::Zone>().unwrap(), [false; 5]);
    // At the last one, each item has the highest age.
    for aged_to in
        ["2026-03-12T12:00:00Z", "2026-04-04T12:00:00Z", "2026-06-03T12:00:00Z", "2026-09-01T12:00:00Z"].map(at)
    {
        let mut found = BTreeMap::new();
        client.batch_execute("BEGIN").await.unwrap();
        let each = |owing: Owing| {
            let item = owing.item.expect("an item");
            found.insert(owing.user.to_string(), (owing.unpaid, (item.at, item.seq, item.points)));
            Ok::<_, pointsd::reports::Error>(())
        };
        for_each_owing(client, DateTime::<Utc>::MAX_UTC, (aged_to, zone), each).await.unwrap();
        client.batch_execute("COMMIT").await.unwrap();
        let local = |instant: DateTime<Utc>| instant.with_timezone(&zone).date_naive();
        let by_age = |items: &Unpaid| {
            let age = |at| Age::of_days(Some((local(aged_to) - local(at)).num_days()));
            let points =
                Age::ALL.map(|of| items.iter().filter(|item| age(item.1) == of).map(|item| item.2).sum::<i64>());
            (points, items.iter().map(|&(seq, at, points)| (at, seq, points)).min().unwrap())
        };
        let expected: BTreeMap<_, _> = expected.iter().map(|(user, items)| (user.clone(), by_age(items))).collect();
        assert_eq!(found, expected, "ages to {aged_to}");
        for (points, _) in found.values() {
            parted.iter_mut().zip(points).for_each(|(parted, points)| *parted |= *points > 0);
        }
    }
    assert_eq!(parted, [true, true, true, true, false], "every age but the unknown has items");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refunds_repay_voids_draw_and_restored_points_do_neither() {
    for (language, cause, cleared_by) in
        [("en", "points voided (Gift)", "points refunded"), ("zh-CN", "撤销（赠送）", "退还")]
    {
        let (database, folder) = (TestDatabase::new().await, Folder::new());
        let config = config(&folder, "UTC", language);
        let mut session = database.session().await;
        let day = |day: u32| at(&format!("2026-03-{day:02}T10:00:00Z"));
        let first = [
            recharge(1, 30, "a", day(1), day(2)),
            consume(1, 50, "b", day(5)),
            recharge(2, 30, "a", day(1), day(2)),
            consume(2, 5, "b", day(5)),
            recharge(3, 20, "a", day(1), day(30)),
            consume(3, 15, "b", day(5)),
            consume(4, 9, "b", day(5)),
        ];
        post(&mut session, &first, &config).await;
        let made = report(&database, &config, day(6)).await;
        assert_eq!(made.counters.points, 50 + 5 + 9);

        let task = Reference::Work { source_type: "tts".to_owned(), source_id: "b".to_owned() };
        let second = [
            consume(1, 40, "late", at("2026-03-01T12:00:00Z")), // restores 30
            consume(2, 40, "late", at("2026-03-01T12:00:00Z")), // restores 30, which lift the balance to 25 first
            Posting::void(user(3), Reference::Key("a".to_owned()), day(7)),
            Posting::refund(user(4), task, day(7)),
        ];
        post(&mut session, &second, &config).await;
        let made = report(&database, &config, day(8)).await;
        assert_eq!(numbers(table(&made.document, "roll-forward"), 1), [64, 10 + 10 + 15, -9, 90]);
        let owing = &table(&made.document, "owing").rows;
        let since: Vec<_> = owing.iter().map(|row| [row[1].clone(), row[2].clone(), row[4].clone()]).collect();
        let cells = |points: i64, day, cause: &str| [Cell::Number(points), Cell::Instant(day), Cell::from(cause)];
        assert_eq!(since[0], cells(60, day(5), "tts"));
        assert_eq!(since[1..], [cells(15, day(5), "tts"), cells(15, day(7), cause)]);
        let cleared = table(&made.document, "cleared");
        assert_eq!((cleared.rows.len(), &cleared.rows[0][2]), (1, &Cell::from(cleared_by)));
        assert_eq!((made.counters.new, made.counters.cleared, made.counters.unexplained), (1, 1, 0));
        assert_complete(&made.document, language != "en");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ties_over_reports_with_random_postings_between() {
    let (database, folder, mut rng) = (TestDatabase::new().await, Folder::new(), rng());
    let config = config(&folder, "UTC", "en");
    let mut session = database.session().await;
    let (mut opening, mut key) = (0, 0);
    for round in 1..=3 {
        let mut postings: Vec<Posting> = Vec::new();
        for _ in 0..500 {
            let (nth, points) = (rng.u32(..40), rng.i64(1..50));
            // Many consumes are earlier than the expiry of a batch before them in the history.
            let when = at("2026-03-01T00:00:00Z") + TimeDelta::hours(rng.i64(0..200));
            key += 1;
            let earlier = if postings.is_empty() { None } else { Some(&postings[rng.usize(..postings.len())]) };
            let back = |earlier: &Posting| {
                let reference = Reference::Key(earlier.key.clone().or(earlier.default_key()).unwrap());
                match earlier.kind {
                    Kind::Consume { .. } => Some(Posting::refund(earlier.user, reference, when)),
                    Kind::Recharge { .. } => Some(Posting::void(earlier.user, reference, when)),
                    _ => None,
                }
            };
            postings.push(match (rng.u8(..10), earlier.and_then(back)) {
                (0..2, Some(back)) => back,
                (0..6, _) => consume(nth, points, &key.to_string(), when),
                _ => recharge(nth, 2 * points, &key.to_string(), when, when + TimeDelta::hours(rng.i64(1..100))),
            });
        }
        // Some refunds and voids are refused, because nothing is left to take back.
        let replies = session.post(&postings, &Rules::from(&config)).await.unwrap();
        let posted = replies.iter().filter(|reply| matches!(reply, Reply::Posted(_))).count();
        assert!(posted > 400, "{replies:?}");
        let made = report(&database, &config, at(&format!("2026-04-0{round}T00:00:00Z"))).await;
        let counters = &made.counters;
        let sql = "SELECT coalesce(-sum(least(balance, 0)), 0)::bigint FROM pointsd.accounts";
        let owed: i64 = session.client().query_one(sql, &[]).await.unwrap().get(0);
        assert_eq!((counters.points, counters.unexplained, counters.undated), (owed, 0, 0));
        let rows = table(&made.document, "owing").rows.iter().map(|row| match (&row[0], &row[5]) {
            (Cell::Text(user), Cell::Number(seq)) => (user.clone(), *seq),
            other => panic!("{other:?}"),
        });
        let (fell, lifted) = fell_into_arrears(session.client()).await;
        assert_eq!(rows.collect::<BTreeMap<_, _>>(), fell);
        check_items(session.client()).await;
        let ages = table(&made.document, "ages");
        assert_eq!((ages.totals[2], ages.totals[3]), (Some(owed), Some(owed)), "both ages are of the same arrears");
        assert!(round < 3 || lifted > 0, "no restore lifts an account above zero for a moment");
        if round > 1 {
            assert!(counters.drawn > 0 && counters.repaid > 0, "{counters:?}");
            assert_eq!(opening + counters.drawn - counters.repaid, owed, "{counters:?}");
        }
        assert_ne!(made.document.tone, Tone::Bad);
        opening = owed;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tells_what_entries_do_not_explain() {
    let (mut database, folder) = (TestDatabase::new().await, Folder::new());
    database.expect_damage();
    let config = config(&folder, "UTC", "en");
    let mut session = database.session().await;
    post(&mut session, &[consume(1, 5, "a", at("2026-03-01T00:00:00Z"))], &config).await;
    report(&database, &config, at("2026-03-02T00:00:00Z")).await;
    let sql = "UPDATE pointsd.accounts SET balance = balance - 12, total_consumed = total_consumed + 12";
    session.client().batch_execute(sql).await.unwrap();
    let made = report(&database, &config, at("2026-03-03T00:00:00Z")).await;
    assert_eq!(made.document.tone, Tone::Bad);
    assert!(made.document.headline.ends_with("; unreconciled difference"), "{}", made.document.headline);
    assert_eq!(numbers(table(&made.document, "roll-forward"), 1), [5, 0, 0, 12, 17]);
    let row = &table(&made.document, "unexplained").rows[0];
    assert_eq!(row[1..], [5, 0, 0, 5, 17].map(Cell::Number));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_explains_what_it_set_right_and_nothing_else() {
    let (mut database, folder) = (TestDatabase::new().await, Folder::new());
    database.expect_damage();
    let config = config(&folder, "UTC", "en");
    let (mut session, mut client) = (database.session().await, database.client().await);
    let (day, end) = (|day: u32| at(&format!("2026-03-{day:02}T00:00:00Z")), at("2026-12-31T00:00:00Z"));
    let first = [
        consume(1, 5, "a", day(1)),
        recharge(2, 50, "a", day(1), end),
        consume(3, 7, "a", day(1)),
        recharge(4, 10, "a", day(1), end),
        recharge(5, 30, "a", day(1), end),
    ];
    post(&mut session, &first, &config).await;
    hand(&client, 1, 12, None).await;
    hand(&client, 5, 31, None).await;
    hand(&client, 2, 50, Some(1)).await;
    hand(&client, 2, 20, None).await;
    let made = report(&database, &config, day(2)).await;
    assert_eq!((made.counters.points, made.counters.difference), (17 + 1 + 20 + 7, 12 + 1 + 20));

    // The entries win for two accounts, the balances for one; the difference of the last report is gone.
    repair(&mut client, 1, Basis::Entries).await;
    repair(&mut client, 5, Basis::Entries).await;
    repair(&mut client, 2, Basis::Balances).await;
    hand(&client, 4, 19, None).await;
    repair(&mut client, 4, Basis::Entries).await;
    post(&mut session, &[consume(1, 3, "b", day(2))], &config).await;
    let made = report(&database, &config, day(3)).await;
    assert_eq!(numbers(table(&made.document, "roll-forward"), 1), [45, -33, 3, 0, 20, 35], "{:#?}", made.document);
    assert_complete(&made.document, false);
    let causes: Vec<_> = table(&made.document, "owing").rows.iter().map(|row| row[4].clone()).collect();
    assert!(causes.contains(&Cell::from("correction")), "a repair took account 2 below zero: {causes:?}");
    assert_eq!((made.counters.unexplained, made.counters.difference), (0, 0));
    assert_eq!(made.document.tone, Tone::Good);

    // A manual change after the repair, in any account, is reported until it is repaired.
    hand(&client, 1, 6, None).await;
    repair(&mut client, 1, Basis::Entries).await;
    hand(&client, 1, 4, None).await;
    hand(&client, 3, 1, None).await;
    let made = report(&database, &config, day(4)).await;
    let unexplained: Vec<_> = table(&made.document, "unexplained").rows.iter().map(|row| row[1..].to_vec()).collect();
    let (one, three) = ([8, 0, 0, 0, 8, 12].map(Cell::Number), [7, 0, 0, 0, 7, 8].map(Cell::Number));
    assert!(unexplained.contains(&one.to_vec()) && unexplained.contains(&three.to_vec()), "{unexplained:?}");
    hand(&client, 4, 12, None).await;
    let made = report(&database, &config, day(5)).await;
    assert_eq!((made.counters.unexplained, made.counters.difference), (3, 7), "{:#?}", made.document);
    repair(&mut client, 1, Basis::Entries).await;
    repair(&mut client, 3, Basis::Balances).await;
    repair(&mut client, 4, Basis::Entries).await;
    let made = report(&database, &config, day(6)).await;
    assert_eq!(numbers(table(&made.document, "roll-forward"), 1), [42, -7, 0, 0, 1, 36], "{:#?}", made.document);
    assert_eq!((made.counters.unexplained, made.document.tone), (0, Tone::Good));
}

/// A repair after the cutoff is in the snapshot, but not in the report: that shows the balances before the repair.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_after_the_cutoff_is_left_to_the_next_report() {
    let (mut database, folder) = (TestDatabase::new().await, Folder::new());
    database.expect_damage();
    let config = config(&folder, "UTC", "en");
    let (mut session, mut client) = (database.session().await, database.client().await);
    let day = |day: u32| at(&format!("2026-03-{day:02}T00:00:00Z"));
    post(&mut session, &[consume(1, 5, "a", day(1)), recharge(2, 9, "a", day(1), day(20))], &config).await;
    report(&database, &config, day(2)).await;
    // Account 1 has no entry in the span, account 2 falls into arrears.
    post(&mut session, &[consume(2, 11, "b", day(2))], &config).await;
    hand(&client, 1, 12, None).await;
    hand(&client, 2, 4, None).await;
    let cutoff = database_time(&client).await;
    repair(&mut client, 1, Basis::Entries).await;
    repair(&mut client, 2, Basis::Entries).await;
    let made = made_as_of(&database, &config, day(3), AsOf(cutoff, Arrears)).await;
    assert_eq!(made.counters.points, 17 + 6);
    let unexplained: Vec<_> = table(&made.document, "unexplained").rows.iter().map(|row| row[1..].to_vec()).collect();
    // Opening, new arrears, repaid, expected, found.
    let (one, two) = ([5, 0, 0, 5, 17].map(Cell::Number), [0, 2, 0, 2, 6].map(Cell::Number));
    assert!(unexplained.contains(&one.to_vec()) && unexplained.contains(&two.to_vec()), "{unexplained:?}");

    let made = report(&database, &config, day(3)).await;
    assert_eq!((made.counters.points, made.counters.unexplained), (7, 0));
}

/// The cost grows with the accounts in arrears and with the span: neither accounts nor entries are read whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_neither_accounts_nor_entries_whole() {
    let (database, folder) = (TestDatabase::new().await, Folder::new());
    // Planned anew each time: what a ledger without a page of entries does is of no matter.
    let postings: Vec<_> =
        (0..5_000).map(|nth| recharge(nth, 5, "a", at("2026-03-01T10:00:00Z"), at("2026-12-31T00:00:00Z"))).collect();
    post(&mut database.session().await, &postings, &config(&folder, "UTC", "en")).await;
    let client: Client = database.client().await;
    let settings = "SET enable_seqscan = off; SET enable_mergejoin = off; SET enable_sort = off; SET jit = off";
    client.batch_execute(settings).await.unwrap();
    for (sql, by_index) in [
        (include_str!("../../sql/reports/arrears_owing.sql"), ["accounts_in_arrears", "entries_pkey"]),
        (include_str!("../../sql/reports/arrears_moved.sql"), ["accounts_pkey", "entries_pkey"]),
        (include_str!("../../sql/reports/expiry_flows.sql"), ["batches_pkey", "entries_by_recording"]),
        (include_str!("../../sql/reports/expiry_taken.sql"), ["entries_by_recording"; 2]),
        (include_str!("../../sql/reports/expiry_later.sql"), ["batches_pkey", "entries_by_recording"]),
    ] {
        let sql =
            ["$2::smallint", "$3::smallint", "$4::smallint"].iter().fold(sql.to_owned(), |sql, n| sql.replace(n, "0"));
        let sql =
            sql.replace("$2::timestamptz[]", "'{2026-01-01T00:00:00Z}'").replace("$3", "'{2026-01-01T00:00:00Z}'");
        let sql = sql.replace("$1", "'9999-01-01T00:00:00Z'").replace("$2", "'9999-01-02T00:00:00Z'");
        let row = client.query_one(&format!("EXPLAIN (FORMAT JSON) {}", without_comments(&sql)), &[]).await.unwrap();
        let (mut indexes, mut whole) = (Vec::new(), Vec::new());
        walk(&row.get::<_, Value>(0)[0]["Plan"], &mut |node| {
            let text = |name: &str| node[name].as_str().unwrap_or_default().to_owned();
            if text("Node Type") == "Seq Scan" {
                whole.push(text("Relation Name"));
            }
            // A sort below a limit gathers an account's whole history.
            if text("Node Type") == "Limit" && node["Plans"][0]["Node Type"] == "Sort" {
                whole.push("an account's history".to_owned());
            }
            indexes.push(text("Index Name"));
        });
        assert!(whole.is_empty(), "{whole:?} read whole by {sql}");
        for index in by_index.iter().chain(&["entries_by_recording"]) {
            assert!(indexes.iter().any(|name| name == index), "{index} not in {indexes:?} by {sql}");
        }
    }
}

fn without_comments(sql: &str) -> String {
    sql.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n")
}

fn walk(node: &Value, visit: &mut impl FnMut(&Value)) {
    visit(node);
    for child in node["Plans"].as_array().into_iter().flatten() {
        walk(child, visit);
    }
}

#[test]
fn lists_who_owes_in_three_forms_and_runs_as_a_job() {
    let database = crate::program::wait(TestDatabase::new());
    let url = database.url();
    assert_eq!(call(&url, &["arrears"]).expect(0).stdout, "No accounts in arrears.\n");
    let line = |nth: u32, points: i64, day: u32| {
        json!({ "op": "consume", "user": user(nth), "points": points, "source_type": "tts", "source_id": "1",
                "at": format!("2026-01-0{day}T00:00:00Z") })
    };
    let lines = format!("{}\n{}\n{}\n", line(1, 5, 1), line(2, 1_200, 2), line(3, 5, 3));
    crate::program::post(&url, lines).expect(0);
    let asked = ["arrears", "--at", "2026-01-10T00:00:00Z"];
    let rows = call(&url, &[&asked[..], &["--json"]].concat()).expect(0).jsons();
    assert_eq!(rows.len(), 3);
    assert_eq!(
        rows[0],
        json!({ "user": user(2), "owed": 1_200, "since": "2026-01-02T00:00:00Z", "days": 8, "age": "8-30", "seq": 1,
                "source_type": "tts", "last_posting": "2026-01-02T00:00:00Z",
                "item": { "at": "2026-01-02T00:00:00Z", "days": 8, "age": "8-30", "seq": 1, "type": "consume",
                          "source_type": "tts", "source_id": "1", "description": null, "points": 1_200 } })
    );
    assert_eq!((&rows[1]["user"], &rows[2]["user"]), (&json!(user(1)), &json!(user(3))));
    const COLUMNS: &str = "\u{feff}user,owed,since,days,source_type,seq,last_posting,item_at,item_days,item_source_type,\
                           item_source_id,item_points";
    let csv = call(&url, &[&asked[..], &["--csv"]].concat()).expect(0).stdout;
    assert_eq!(csv.lines().next(), Some(COLUMNS));
    let row = "1200,2026-01-02T00:00:00Z,8,tts,1,2026-01-02T00:00:00Z,2026-01-02T00:00:00Z,8,tts,1,1200";
    assert!(csv.contains(&format!("{},{row}", user(2))), "{csv}");
    let people = call(&url, &asked).expect(0).stdout;
    assert!(people.contains("1,200") && people.ends_with("\n1,210 points in arrears (3 accounts).\n"), "{people}");

    let folder = Folder::new();
    let job = |args: &[&str]| {
        let mut command = on(&url, args);
        command.env("STATE_DIRECTORY", folder.path());
        run(command).expect(0).json()
    };
    let documents = || -> i64 {
        crate::program::wait(async {
            let sql = "SELECT count(*) FROM pointsd.documents WHERE report = 'arrears'";
            database.client().await.query_one(sql, &[]).await.unwrap().get(0)
        })
    };
    let dry = job(&["run", "arrears", "--at", "2026-01-10T00:00:00Z", "--dry-run", "--json"]);
    assert_eq!((&dry["accounts"], &dry["points"], documents()), (&json!(3), &json!(1_210), 0));
    let ran = job(&["run", "arrears", "--at", "2026-01-10T00:00:00Z", "--json"]);
    assert_eq!((&ran["accounts"], &ran["state"], documents()), (&json!(3), &json!("succeeded"), 1));
}

/// `pointsd run` exits with 3, and the dead man's switch gets the same status.
#[test]
fn what_entries_do_not_explain_is_no_success() {
    let mut database = crate::program::wait(TestDatabase::new());
    database.expect_damage();
    let (url, folder) = (database.url(), Folder::new());
    let change = |sql: &str| {
        crate::program::wait(async { database.client().await.batch_execute(sql).await.unwrap() });
    };
    let job = |day: u32, status: i32| {
        let slot = format!("2026-01-{day:02}T00:00:00Z");
        let mut command = on(&url, &["run", "arrears", "--at", &slot, "--json"]);
        command.env("STATE_DIRECTORY", folder.path());
        run(command).expect(status).json()
    };
    let user = user(1).to_string();
    call(&url, &["consume", &user, "5", "--source-type", "tts", "--source-id", "1", "--at", "2026-01-02T00:00:00Z"])
        .expect(0);
    job(10, 0);
    change("UPDATE pointsd.accounts SET balance = -17, total_consumed = 17");
    let counters = job(11, 3);
    assert_eq!((&counters["unexplained"], &counters["difference"]), (&json!(1), &json!(12)), "{counters}");
    assert_eq!(job(12, 3)["unexplained"], json!(1), "until it is repaired");
    change("UPDATE pointsd.accounts SET balance = -5, total_consumed = 5");
    job(13, 0);
    change("UPDATE pointsd.arrears_closing SET booked = 8");
    let counters = job(14, 3);
    assert_eq!((&counters["unexplained"], &counters["difference"]), (&json!(0), &json!(-3)), "{counters}");
    job(15, 0);
    change(
        "ALTER TABLE pointsd.entries DISABLE TRIGGER entries_never_change;
         UPDATE pointsd.entries SET balance_before = -1, balance_after = -6",
    );
    assert_eq!(job(16, 3)["undated"], json!(1));
}

/// On a terminal and on disk nothing is attached: what a page lacks is in a file beside it.
#[test]
fn a_page_says_which_file_has_the_rows_that_it_lacks() {
    let (database, folder) = (crate::program::wait(TestDatabase::new()), Folder::new());
    let consume = |nth: u32| {
        let user = user(nth);
        format!(
            r#"{{"op":"consume","user":"{user}","points":5,"source_type":"tts","source_id":"1","at":"2026-01-02T00:00:00Z"}}
"#
        )
    };
    crate::program::post(&database.url(), (1..=22).map(consume).collect::<String>()).expect(0);
    let mut command = on(&database.url(), &["run", "arrears", "--at", "2026-01-10T00:00:00Z"]);
    command.env("STATE_DIRECTORY", folder.path());
    let told = run(command).expect(0).stdout;
    let files = folder.path().join("reports/2026-01-10/arrears-000000");
    let read = |name: &str| std::fs::read_to_string(files.join(name)).unwrap();
    for text in [told, read("report.txt"), read("report.html").replace("&#39;", "'")] {
        assert!(text.contains("and 2 more rows in owing.csv of the report's folder"), "{text}");
    }
    assert_eq!(read("owing.csv").lines().count(), 23);
}
