//! Proofs against a real PostgreSQL: manual changes in the tables are found, reported exactly, and repaired on request.

mod broken;
mod corruption;
mod findings;
mod prove;
mod repair;

use crate::support::{TestDatabase, at, rng, unguard, user};
use chrono::{DateTime, TimeDelta, Utc};
use pointsd::language::Language;
use pointsd::ledger::{Kind, Life, Posting, Reply, Rules, Session};
use pointsd::proof::Finding;
use tokio_postgres::Client;

fn rules() -> Rules {
    Rules {
        recharge_sources: ["card", "gift", "invite"].into_iter().map(str::to_owned).collect(),
        life: Life::Days(30),
        language: Language::English,
    }
}

/// Noon of the nth day.
fn day(nth: i64) -> DateTime<Utc> {
    at("2026-01-01T12:00:00Z") + TimeDelta::days(nth - 1)
}

fn recharge(nth: u32, points: i64, source: &str, days: (i64, i64)) -> Posting {
    let mut posting = Posting::recharge(user(nth), points, source, day(days.0)).with_key(format!("r{}", days.0));
    let Kind::Recharge { expires_at, .. } = &mut posting.kind else { unreachable!() };
    *expires_at = Some(day(days.1));
    posting
}

fn consume(nth: u32, points: i64, on: i64) -> Posting {
    Posting::consume(user(nth), points, "tts", format!("task-{on}"), day(on))
}

/// Users 1 to 3: settled arrears, consumes over several batches, expiries by the sweep and on touch; one in arrears; one
/// with a single recharge. User 1 ends with 175 points in batch 5, entries 1 to 12.
async fn write_history(database: &TestDatabase) {
    let mut session = database.session().await;
    let before = [
        recharge(1, 100, "gift", (1, 20)),
        recharge(1, 50, "card", (2, 10)),
        consume(1, 70, 3),
        consume(1, 120, 4),
        recharge(1, 100, "gift", (5, 15)),
        consume(1, 10, 6),
        recharge(1, 30, "invite", (7, 12)),
        recharge(2, 10, "gift", (1, 30)),
        consume(2, 15, 2),
        recharge(3, 40, "card", (1, 60)),
    ];
    let after = [recharge(1, 200, "card", (13, 40)), consume(1, 20, 14), consume(1, 25, 17)];
    post(&mut session, &before).await;
    assert_eq!(session.sweep(day(12), false, &rules(), |_| true).await.unwrap().batches, 1);
    post(&mut session, &after).await;
}

async fn post(session: &mut Session<Box<Client>>, postings: &[Posting]) {
    for reply in session.post(postings, &rules()).await.unwrap() {
        assert!(matches!(reply, Reply::Posted(_)), "{reply:?}");
    }
}

/// Writes checkpoints for all accounts, as a proof without findings does. Only the fields that `history_changed` reads are
/// right.
async fn note_proved(client: &Client) {
    client
        .batch_execute(
            "INSERT INTO pointsd.checkpoints (user_id, seq, batches, balance, total_recharged, total_consumed,
                 total_expired, total_adjusted, entries_print, batches_print, drawn_print)
             SELECT a.user_id, a.last_seq, a.last_batch, a.balance, a.total_recharged, a.total_consumed,
                    a.total_expired, a.total_adjusted,
                    (SELECT coalesce(sum(pointsd.entry_print(e)), 0) FROM pointsd.entries AS e WHERE e.user_id = a.user_id),
                    (SELECT coalesce(sum(pointsd.batch_print(b)), 0) FROM pointsd.batches AS b WHERE b.user_id = a.user_id),
                    0
             FROM pointsd.accounts AS a",
        )
        .await
        .unwrap();
}

/// A finding in one of the accounts above.
fn finding(
    nth: u32,
    rule: &str,
    batch: impl Into<Option<i32>>,
    seq: impl Into<Option<i64>>,
    expected: &str,
    found: &str,
) -> Finding {
    Finding {
        rule: rule.to_owned(),
        user: Some(user(nth)),
        batch: batch.into(),
        seq: seq.into(),
        expected: expected.to_owned(),
        found: found.to_owned(),
        points: points_off(rule, expected, found),
    }
}

/// The points of a finding: `remaining 188` less `remaining 133`, for the rules that compare points.
fn points_off(rule: &str, expected: &str, found: &str) -> Option<i64> {
    const OF_POINTS: [&str; 8] = [
        "account_balance",
        "account_identity",
        "account_remaining",
        "account_totals",
        "batch_amount",
        "entry_allocations",
        "entry_amount",
        "entry_chain",
    ];
    let of_points = OF_POINTS.contains(&rule) || rule == "batch_recharge" && expected.starts_with("amount");
    let words = |text: &str| text.replace(|c: char| c.is_ascii_digit() || c == '-', "");
    let number = |text: &str| text.split(' ').find_map(|word| word.parse::<i64>().ok());
    (of_points && words(expected) == words(found)).then_some(())?;
    Some(number(found)? - number(expected)?)
}
