//! A manual change of a random field in a random row is always found.

use chrono::TimeDelta;
use fastrand::Rng;
use pointsd::ledger::{Posting, Session};
use pointsd::proof::examine;
use tokio_postgres::Client;

use super::{Past, TestDatabase, consume, day, debt, note_proved, opening, recharge, rng, rules, unguard, user};
use crate::support::invariants::check_invariants;

const USERS: u32 = 5;

/// A random history: openings, debts, late usage, refunds, voids, holds, expiries on touch and by the sweep, consumes over several batches.
pub async fn live(rng: &mut Rng, session: &mut Session<Box<Client>>, postings: u32) {
    let mut past = Past::default();
    let brought = [
        opening(1, 90, "card", 1).with_paid(1_000, "CNY".parse().unwrap()),
        opening(1, 30, "gift", 2),
        opening(2, 50, "gift", 1),
        debt(3, 40, 1),
    ];
    session.post(&brought, &rules()).await.unwrap();
    for number in 0..postings {
        let on = i64::from(number) / 10 + 1;
        let nth = rng.u32(1..=USERS);
        let posting: Posting = if rng.u8(..5) < 2 {
            recharge(nth, rng.i64(1..120), ["card", "gift", "invite"][rng.usize(..3)], (on, on + rng.i64(1..20)))
        } else {
            consume(nth, rng.i64(1..70), on)
        };
        let mut posting = posting.with_key(format!("posting {number}"));
        if rng.bool() {
            posting = posting.with_paid(rng.i64(0..10_000), "CNY".parse().unwrap());
        }
        posting.at += TimeDelta::seconds(i64::from(number));
        let posting = past.mix(rng, posting);
        session.post(&[posting], &rules()).await.unwrap();
        if number % 97 == 0 {
            session.sweep(day(on), false, |_| true).await.unwrap();
        }
    }
}

/// Columns with a new value. A rule finds every such change, even without an earlier proof.
const SEEN: &[(&str, &[(&str, &str)])] = &[
    (
        "accounts",
        &[
            ("balance", "balance + $n"),
            ("total_recharged", "total_recharged + $n"),
            ("total_consumed", "total_consumed + $n"),
            ("total_expired", "total_expired + $n"),
            ("total_refunded", "total_refunded + $n"),
            ("total_voided", "total_voided + $n"),
            ("total_adjusted", "total_adjusted + $n"),
            ("total_opening", "total_opening + $n"),
            ("expired_until", "coalesce(expired_until, '2026-01-01Z') + make_interval(secs => $n)"),
            ("open_holds", "open_holds + $n"),
            ("last_seq", "last_seq + $n"),
            ("last_batch", "last_batch + $n"),
            ("user_id", "gen_random_uuid()"),
        ],
    ),
    (
        "batches",
        &[
            ("amount", "amount + $n"),
            ("remaining", "remaining + $n"),
            ("expired", "expired + $n"),
            ("open", "NOT open"),
            ("source", "source || $n"),
            ("opened_at", "opened_at + make_interval(secs => $n)"),
            ("batch", "batch + 10000"),
            ("paid", "coalesce(paid, 0) + abs($n)"),
            ("currency", "coalesce(currency, '') || 'X'"),
            ("user_id", "gen_random_uuid()"),
        ],
    ),
    (
        "entries",
        &[
            ("seq", "seq + 10000 + $n"),
            ("amount", "amount + $n"),
            ("balance_before", "balance_before + $n"),
            ("balance_after", "balance_after + $n"),
            ("type", "CASE type WHEN 'consume' THEN 'expire' WHEN 'expire' THEN 'adjust' ELSE 'consume' END"),
            ("key", "CASE WHEN key IS NULL THEN gen_random_uuid() END"),
            ("batch", "CASE WHEN batch IS NULL THEN 1 ELSE batch + $n END"),
            ("correction", "'{}'"),
            ("refers_to", "CASE WHEN refers_to IS NULL THEN 1 END"),
            ("asked", "CASE WHEN asked IS NULL THEN '{}'::jsonb END"),
            ("paid", "coalesce(paid, 0) + abs($n)"),
            ("currency", "coalesce(currency, '') || 'X'"),
            ("allocated_paid", "array_append(allocated_paid, $n::bigint)"),
            ("allocated_points", "array_append(allocated_points, $n::bigint)"),
            ("allocated_batches", "array_append(allocated_batches, 1)"),
            ("user_id", "gen_random_uuid()"),
        ],
    ),
];

/// The columns that only `history_changed` sees.
const PROVED: &[(&str, &[(&str, &str)])] = &[
    ("batches", &[("expires_at", "expires_at + make_interval(secs => $n)")]),
    (
        "entries",
        &[
            ("at", "at + make_interval(secs => $n)"),
            ("recorded_at", "recorded_at + make_interval(secs => $n)"),
            ("key", "gen_random_uuid()"),
            ("source_type", "source_type || $n"),
            ("source_id", "coalesce(source_id, '') || $n"),
            ("description", "coalesce(description, '') || $n"),
            ("duration", "coalesce(duration, 0) + abs($n)"),
            ("drawing_rule", "drawing_rule + $n::smallint"),
            ("run", "coalesce(run, 0) + $n"),
            ("refers_to", "coalesce(refers_to, 0) + $n"),
            ("asked", "jsonb_build_object('points', $n)"),
        ],
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_rule_sees_is_found() {
    corrupt(SEEN, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_proved_is_held_to_it() {
    corrupt(&[SEEN, PROVED].concat(), true).await;
}

/// Changes one field of one row, a different one each of 150 times.
async fn corrupt(tables: &[(&str, &[(&str, &str)])], proved: bool) {
    let mut rng = rng();
    let mut database = TestDatabase::new().await;
    database.expect_damage();
    let (client, mut session) = (database.client().await, database.session().await);
    live(&mut rng, &mut session, 300).await;
    check_invariants(&client).await;
    if proved {
        note_proved(&client).await;
    }
    unguard(&client).await;
    let users: Vec<_> = (1..=USERS).map(user).collect();
    for _ in 0..150 {
        let (table, columns) = tables[rng.usize(..tables.len())];
        let (column, value) = columns[rng.usize(..columns.len())];
        let number = (rng.i64(1..1_000) * if rng.bool() { 1 } else { -1 }).to_string();
        let hand = format!(
            "UPDATE pointsd.{table} SET {column} = {} WHERE ctid = (
                 SELECT ctid FROM pointsd.{table} ORDER BY hashint8(({} + row_number() OVER (ORDER BY ctid))::bigint) LIMIT 1)",
            value.replace("$n", &format!("({number})")),
            rng.u32(..),
        );
        client.batch_execute("BEGIN").await.unwrap();
        client.batch_execute(&hand).await.unwrap_or_else(|error| panic!("{hand}: {}", pointsd::errors::chain(&error)));
        assert_ne!(examine(&client, &users).await.unwrap(), [], "{hand}");
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    assert_eq!(examine(&client, &users).await.unwrap(), []);
}
