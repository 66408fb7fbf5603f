//! The ends of what can be written: refused with its reason, or kept exactly.

use chrono::{DateTime, TimeDelta, Utc};
use pointsd::ledger::{Balance, Kind, MAX_POINTS, NextExpiry, Posting, Reference, Refusal, Reply, Sweep, Totals};
use rust_decimal::Decimal;
use tokio_postgres::Client;

use crate::model::{LIFE_DAYS, rules};
use crate::support::rows::Rows;
use crate::{TestDatabase, at, user};

fn recharge(change: impl FnOnce(&mut Posting)) -> Posting {
    let mut posting = Posting::recharge(user(1), 1, "gift", at("2026-01-01T00:00:00Z")).with_key("a");
    change(&mut posting);
    posting
}

fn consume(change: impl FnOnce(&mut Posting)) -> Posting {
    let mut posting = Posting::consume(user(1), 1, "tts", "x", at("2026-01-01T00:00:00Z"));
    change(&mut posting);
    posting
}

fn expires(posting: &mut Posting, when: DateTime<Utc>) {
    let Kind::Recharge { expires_at, .. } = &mut posting.kind else { panic!("no recharge") };
    *expires_at = Some(when);
}

fn lasts(posting: &mut Posting, seconds: &str) {
    let Kind::Consume { duration, .. } = &mut posting.kind else { panic!("no consume") };
    *duration = Some(seconds.parse().unwrap());
}

fn code(reply: &Reply) -> &'static str {
    reply.refusal().map_or(reply.status(), Refusal::code)
}

/// Postings with a value at or beyond its bound, and the code of the reply.
fn postings_at_bounds() -> Vec<(&'static str, &'static str, Posting)> {
    let long = |length| "积".repeat(length);
    let year_10000 = at("9999-12-31T23:59:59.999999999Z") + TimeDelta::nanoseconds(1);
    let leap = at("9999-12-31T23:59:60.5Z");
    let before_1970 = at("1969-12-31T23:59:59.999999999Z");
    vec![
        ("a key's longest", "posted", recharge(|p| p.key = Some(long(255)))),
        ("a key too long", "malformed", recharge(|p| p.key = Some(long(256)))),
        ("a key of nothing", "malformed", recharge(|p| p.key = Some(String::new()))),
        ("NUL in the key", "malformed", recharge(|p| p.key = Some("a\0".into()))),
        ("a description's longest", "posted", recharge(|p| p.description = Some(long(1_000)))),
        ("a description too long", "malformed", recharge(|p| p.description = Some(long(1_001)))),
        ("NUL in the description", "malformed", recharge(|p| p.description = Some("\0".into()))),
        (
            "a service's longest",
            "posted",
            Posting::consume(user(1), 1, long(64), long(255), at("2026-01-01T00:00:00Z")),
        ),
        ("a service too long", "malformed", Posting::consume(user(1), 1, long(65), "x", at("2026-01-01T00:00:00Z"))),
        ("a task too long", "malformed", Posting::consume(user(1), 1, "tts", long(256), at("2026-01-01T00:00:00Z"))),
        ("NUL in the service", "malformed", Posting::consume(user(1), 1, "\0", "x", at("2026-01-01T00:00:00Z"))),
        ("NUL in the task", "malformed", Posting::consume(user(1), 1, "tts", "\0", at("2026-01-01T00:00:00Z"))),
        ("no task", "malformed", Posting::consume(user(1), 1, "tts", "", at("2026-01-01T00:00:00Z"))),
        (
            "NUL in the source",
            "malformed",
            Posting::recharge(user(1), 1, "gift\0", at("2026-01-01T00:00:00Z")).with_key("a"),
        ),
        ("no key", "malformed", Posting::recharge(user(1), 1, "gift", at("2026-01-01T00:00:00Z"))),
        ("an order of any number", "posted", {
            let order_id = Some(i64::MIN);
            let kind = Kind::Recharge { source: "gift".into(), order_id, expires_at: None, paid: None };
            Posting { kind, ..Posting::recharge(user(1), 1, "gift", at("2026-01-01T00:00:00Z")) }
        }),
        ("the first instant", "posted", consume(|p| p.at = at("1970-01-01T00:00:00Z"))),
        ("before the first instant", "malformed", consume(|p| p.at = before_1970)),
        ("the last instant", "from_the_future", consume(|p| p.at = at("9999-12-31T23:59:59.999999999Z"))),
        ("after the last instant", "malformed", consume(|p| p.at = year_10000)),
        ("a leap second after the last instant", "malformed", consume(|p| p.at = leap)),
        ("any time at all", "malformed", consume(|p| p.at = DateTime::<Utc>::MAX_UTC)),
        ("any time at all", "malformed", consume(|p| p.at = DateTime::<Utc>::MIN_UTC)),
        ("the last end", "posted", recharge(|p| expires(p, at("9999-12-31T23:59:59.999999Z")))),
        ("an end too late", "malformed", recharge(|p| expires(p, year_10000))),
        ("an end in a leap second too late", "malformed", recharge(|p| expires(p, leap))),
        ("an end before 1970", "malformed", recharge(|p| expires(p, before_1970))),
        (
            "an end a nanosecond later, which is cut off",
            "already_expired",
            recharge(|p| {
                p.at = at("2026-01-01T00:00:00.000001Z");
                expires(p, at("2026-01-01T00:00:00.000001999Z"));
            }),
        ),
        (
            "an end a nanosecond later, in the next microsecond",
            "posted",
            recharge(|p| {
                p.at = at("2026-01-01T00:00:00.000001999Z");
                expires(p, at("2026-01-01T00:00:00.000002Z"));
            }),
        ),
        ("the least", "posted", recharge(|p| p.points = Some(1))),
        ("the most", "posted", recharge(|p| p.points = Some(MAX_POINTS))),
        ("nothing", "invalid_points", recharge(|p| p.points = Some(0))),
        ("more than the most", "invalid_points", recharge(|p| p.points = Some(MAX_POINTS + 1))),
        ("much less than nothing", "invalid_points", consume(|p| p.points = Some(i64::MIN))),
        ("a long duration", "posted", consume(|p| lasts(p, "79228162514264337593543950335"))),
        ("a fine duration", "posted", consume(|p| lasts(p, "7.9228162514264337593543950335"))),
        ("the shortest duration", "posted", consume(|p| lasts(p, "0.0000000000000000000000000001"))),
        ("zero seconds, with decimals", "posted", consume(|p| lasts(p, "-0.000"))),
        ("a negative duration", "malformed", consume(|p| lasts(p, "-0.001"))),
        // Malformed comes before invalid points, these before an unknown source.
        ("much that is wrong", "malformed", Posting::recharge(user(1), 0, "lottery", before_1970)),
        (
            "two things that are wrong",
            "invalid_points",
            Posting::recharge(user(1), 0, "lottery", at("2026-01-01T00:00:00Z")).with_key("a"),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_times_and_numbers_at_their_bounds() {
    let database = TestDatabase::new().await;
    let (client, mut session) = (database.client().await, database.session().await);
    for (name, expected, posting) in postings_at_bounds() {
        database.clear(&client).await;
        let replies = session.post(std::slice::from_ref(&posting), &rules()).await;
        let replies = replies.unwrap_or_else(|error| panic!("{name}: {}", pointsd::errors::chain(&error)));
        assert_eq!(code(&replies[0]), expected, "{name}: {replies:?}");
        // The stored entry is the one of the reply, and a second posting replays it.
        if let [Reply::Posted(posted)] = &replies[..] {
            assert_eq!(Rows::read(&client).await.entries, std::slice::from_ref(&posted.entry), "{name}");
            assert_eq!(session.post(&[posting], &rules()).await.unwrap(), [Reply::Replayed(posted.clone())], "{name}");
        } else {
            assert_eq!(Rows::read(&client).await, Rows::default(), "{name}");
        }
    }
}

/// Clocks differ a little, so a posting may be five minutes ahead of the database's clock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_posting_may_be_a_little_ahead_of_the_clock() {
    let database = TestDatabase::new().await;
    let (client, mut session) = (database.client().await, database.session().await);
    let begin = recharge(|posting| {
        posting.points = Some(10);
        expires(posting, at("2100-01-01T00:00:00Z"));
    });
    session.post(&[begin], &rules()).await.unwrap();
    for (minutes, posted, held) in [(4, "posted", "held"), (6, "from_the_future", "from_the_future")] {
        let clock: DateTime<Utc> = client.query_one("SELECT clock_timestamp()", &[]).await.unwrap().get(0);
        let ahead = clock + TimeDelta::minutes(minutes);
        let use_it = Posting::consume(user(1), 1, "tts", format!("used {minutes}"), ahead);
        let replies = session.post(&[use_it], &rules()).await.unwrap();
        assert_eq!(code(&replies[0]), posted, "{minutes} minutes ahead, by the library");
        let hold =
            "SELECT coalesce(code, status) FROM pointsd.hold($1, 1, 'tts', $2, until => '2100-01-01Z', at => $3)";
        let row = client.query_one(hold, &[&user(1), &format!("held {minutes}"), &ahead]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), held, "{minutes} minutes ahead, in SQL");
    }
}

/// All that is asked with a time finer than the database keeps is decided on the same microsecond.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nanoseconds_are_cut_off_everywhere() {
    let database = TestDatabase::new().await;
    let mut session = database.session().await;
    // Both sides of 2000, from which PostgreSQL counts.
    for (nth, end) in [(1, at("2026-01-01T00:00:00.000005Z")), (2, at("1999-01-01T00:00:00.000005Z"))] {
        let just_before = end - TimeDelta::nanoseconds(1);
        let mut posting = Posting::recharge(user(nth), 5, "gift", end - TimeDelta::days(1)).with_key("a");
        expires(&mut posting, end + TimeDelta::nanoseconds(999));
        session.post(&[posting], &rules()).await.unwrap();
        let available = async |when| session.reader().balance(user(nth), when).await.unwrap().available;
        assert_eq!((available(just_before).await, available(end).await), (5, 0), "{end}");
        assert_eq!(available(end + TimeDelta::nanoseconds(999)).await, 0);
        let sweep = session.sweep(just_before, false, |_| true).await.unwrap();
        assert_eq!(sweep, Sweep::default(), "a nanosecond before {end}");
        let use_it = Posting::consume(user(nth), 1, "tts", "x", just_before);
        let replies = session.post(&[use_it], &rules()).await.unwrap();
        let entry = replies[0].entry().unwrap();
        assert_eq!((entry.at, entry.balance_after), (end - TimeDelta::microseconds(1), 4));
        let sweep = session.sweep(end + TimeDelta::nanoseconds(999), false, |_| true).await.unwrap();
        assert_eq!((sweep.batches, sweep.points), (1, 4));
    }
    let ats: Vec<_> = Rows::read(&database.client().await).await.entries.iter().map(|entry| entry.at).collect();
    assert_eq!(ats[2], at("2026-01-01T00:00:00.000005Z"), "the sweep's own entry");
}

async fn set_totals(client: &Client, recharged: i64, consumed: i64, last_batch: i32) {
    let set =
        "UPDATE pointsd.accounts SET total_recharged = $1::bigint, total_consumed = $2::bigint, total_expired = 0,
                   balance = $1::bigint - $2::bigint, last_batch = $3";
    client.execute(set, &[&recharged, &consumed, &last_batch]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn totals_that_would_not_fit() {
    let max = i64::MAX;
    // Recharged, consumed and batches so far; points of a recharge and of a consume, and what each is told.
    let cases = [
        (max - 5, max - 5, 1, 5, "posted", 5, "posted"),
        (max - 5, max - 5, 1, 5, "posted", 2, "posted"),
        (max - 5, max - 5, 1, 5, "posted", 6, "account_full"),
        (max - 5, max - 5, 1, 6, "account_full", 6, "account_full"),
        (max, 0, 1, 1, "account_full", MAX_POINTS, "posted"),
        (max, max, 1, 1, "account_full", 1, "account_full"),
        (0, max - 1, 1, MAX_POINTS, "posted", 1, "posted"),
        (0, max, 1, MAX_POINTS, "posted", 1, "account_full"),
        (0, 0, i32::MAX, 1, "account_full", 1, "posted"),
        (0, 0, i32::MAX - 1, 1, "posted", 1, "posted"),
    ];
    let mut database = TestDatabase::new().await;
    database.expect_damage();
    let (client, mut session) = (database.client().await, database.session().await);
    for case in cases {
        let (recharged, consumed, last_batch, come, told_recharge, go, told_consume) = case;
        database.clear(&client).await;
        session.post(&[consume(|posting| posting.key = Some("first".to_owned()))], &rules()).await.unwrap();
        set_totals(&client, recharged, consumed, last_batch).await;
        let group = [recharge(|posting| posting.points = Some(come)), consume(|posting| posting.points = Some(go))];
        let replies = session.post(&group, &rules()).await.unwrap();
        let told: Vec<_> = replies.iter().map(code).collect();
        assert_eq!(told, [told_recharge, told_consume], "{case:?}");
        let come = if told_recharge == "posted" { come } else { 0 };
        let go = if told_consume == "posted" { go } else { 0 };
        let found = session.reader().balance(user(1), at("2026-01-02T00:00:00Z")).await.unwrap();
        let balance = (recharged - consumed) + come - go;
        // The balance so far has no batch. The recharge opens one with what it does not settle.
        let left = (come - (consumed - recharged).max(0) - go).max(0);
        let end = at("2026-01-01T00:00:00Z") + TimeDelta::days(i64::from(LIFE_DAYS));
        let expected = Balance {
            user: user(1),
            balance,
            available: left,
            held: 0,
            arrears: (-balance).max(0),
            totals: Totals { total_recharged: recharged + come, total_consumed: consumed + go, ..Totals::default() },
            next_expiry: (left > 0).then_some(NextExpiry { at: end, points: left }),
            before: None,
        };
        assert_eq!(found, expected, "{case:?}");
    }
}

/// What refunds and voids add to the totals, and the batches that refunds open, have the same limits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refunds_and_voids_that_would_not_fit() {
    let max = i64::MAX;
    // Totals and batches so far; points of the refund and of the void, and what each is told.
    let cases = [
        ("total_consumed = $max, total_refunded = $max - 5", 6, "account_full", 1, "posted"),
        ("total_consumed = $max, total_refunded = $max - 5", 5, "posted", 1, "posted"),
        ("total_recharged = $max, total_voided = $max - 5", 1, "posted", 6, "account_full"),
        ("total_recharged = $max, total_voided = $max - 5", 1, "posted", 5, "posted"),
        (
            "total_recharged = $max, total_consumed = $max, total_refunded = $max, total_voided = $max",
            1,
            "account_full",
            1,
            "account_full",
        ),
        // The refund of all has two parts, each with a batch of its own.
        ("last_batch = 2147483646", 15, "account_full", 1, "posted"),
        ("last_batch = 2147483645", 15, "posted", 1, "posted"),
    ];
    let mut database = TestDatabase::new().await;
    database.expect_damage();
    let (client, mut session) = (database.client().await, database.session().await);
    for case in cases {
        let (so_far, refunded, told_refund, voided, told_void) = case;
        database.clear(&client).await;
        let first = [recharge(|posting| posting.points = Some(10)), consume(|posting| posting.points = Some(15))];
        session.post(&first, &rules()).await.unwrap();
        let so_far = so_far.replace("$max", &max.to_string());
        client.batch_execute(&format!("ALTER TABLE pointsd.accounts DROP CONSTRAINT accounts_balance_is_the_sum; UPDATE pointsd.accounts SET {so_far}")).await.unwrap();
        let balance = "total_recharged - total_consumed - total_expired + total_refunded - total_voided";
        client
            .batch_execute(&format!(
                "UPDATE pointsd.accounts SET balance = {balance};
                 ALTER TABLE pointsd.accounts ADD CONSTRAINT accounts_balance_is_the_sum CHECK (balance = {balance} + total_adjusted)"
            ))
            .await
            .unwrap();
        let before = Rows::read(&client).await.accounts[0].clone();
        let work = Reference::Work { source_type: "tts".to_owned(), source_id: "x".to_owned() };
        let at = at("2026-01-01T00:00:00Z");
        let group = [
            Posting::refund(user(1), work, at).with_points(refunded),
            Posting::void(user(1), Reference::Key("a".to_owned()), at).with_points(voided),
        ];
        let replies = session.post(&group, &rules()).await.unwrap();
        let told: Vec<_> = replies.iter().map(code).collect();
        assert_eq!(told, [told_refund, told_void], "{case:?}: {replies:?}");
        let posted = |told: &str, points: i64| if told == "posted" { points } else { 0 };
        let (refunded, voided) = (posted(told_refund, refunded), posted(told_void, voided));
        let after = Rows::read(&client).await.accounts[0].clone();
        let totals = (after.total_refunded - before.total_refunded, after.total_voided - before.total_voided);
        assert_eq!((totals, after.balance), ((refunded, voided), before.balance + refunded - voided), "{case:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_open_batches_drawn_at_once() {
    const BATCHES: i64 = 5_000;
    let database = TestDatabase::new().await;
    let mut session = database.session().await;
    let begin = at("2026-01-01T00:00:00Z");
    let group: Vec<Posting> = (0..BATCHES)
        .map(|nth| {
            Posting::recharge(user(1), nth + 1, "gift", begin - TimeDelta::seconds(nth)).with_key(nth.to_string())
        })
        .collect();
    session.post(&group, &rules()).await.unwrap();
    let all = BATCHES * (BATCHES + 1) / 2;
    let soon = begin + TimeDelta::days(i64::from(LIFE_DAYS)) - TimeDelta::seconds(BATCHES);
    let mut posting = Posting::consume(user(1), all + 7, "video", "x", soon);
    lasts(&mut posting, "1.50");
    let replies = session.post(&[posting], &rules()).await.unwrap();
    let entry = replies[0].entry().unwrap();
    assert_eq!((entry.seq, entry.balance_after, entry.duration), (BATCHES + 1, -7, Some(Decimal::new(150, 2))));
    // The last to come expires first.
    let drawn: Vec<_> = entry.allocations.iter().map(|drawn| (i64::from(drawn.batch), drawn.points)).collect();
    assert_eq!(drawn, (1..=BATCHES).rev().map(|nth| (nth, nth)).collect::<Vec<_>>());
    let rows = Rows::read(&database.client().await).await;
    assert_eq!(rows.entries.last(), Some(entry));
    assert!(rows.batches.iter().all(|batch| !batch.open));
}
