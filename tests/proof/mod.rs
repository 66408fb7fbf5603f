//! Proofs against a real PostgreSQL: manual changes in the tables are found, reported exactly, and repaired on request.

mod broken;
mod corruption;
mod distribute;
mod findings;
mod prove;
mod repair;

use crate::support::{TestDatabase, at, rng, unguard, user};
use chrono::{DateTime, TimeDelta, Utc};
use fastrand::Rng;
use pointsd::ledger::{Kind, Opening, Posting, Reference, Reply, Rules, Session, Term};
use pointsd::proof::Finding;
use tokio_postgres::Client;
use uuid::Uuid;

fn rules() -> Rules {
    Rules {
        sources: ["card", "gift", "invite"].into_iter().map(|source| (source.to_owned(), None)).collect(),
        term: Term::days(30),
        ..Rules::default()
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

/// Points of a batch that an account brings along; it never expires.
fn opening(nth: u32, points: i64, source: &str, on: i64) -> Posting {
    let (id, expires_at) = (format!("old-{on}"), Some(pointsd::ledger::NEVER));
    Posting::opening(
        user(nth),
        points,
        Opening::Points { id, source: source.to_owned(), expires_at, paid: None },
        day(on),
    )
}

fn debt(nth: u32, points: i64, on: i64) -> Posting {
    Posting::opening(user(nth), points, Opening::Debt, day(on))
}

fn consume(nth: u32, points: i64, on: i64) -> Posting {
    Posting::consume(user(nth), points, "tts", format!("task-{on}"), day(on))
}

/// Users 1 to 3: settled arrears, consumes over several batches, expiries by the sweep and on touch; one in arrears; one
/// with a single recharge. User 1 ends with 175 points in batch 5, entries 1 to 12. User 4 has late usage with a restore, a
/// refund in two parts, a void, a captured hold and an open one; it ends with 10 points in batch 3 and 40 in batch 4, entries
/// 1 to 10.
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
        recharge(4, 100, "gift", (1, 10)),
        consume(4, 60, 2),
    ];
    let after = [recharge(1, 200, "card", (13, 40)), consume(1, 20, 14), consume(1, 25, 17)];
    post(&mut session, &before).await;
    assert_eq!(session.sweep(day(12), false, |_| true).await.unwrap().batches, 2);
    post(&mut session, &after).await;
    let work = |on: i64| Reference::Work { source_type: "tts".to_owned(), source_id: format!("task-{on}") };
    let mut refund = Posting::refund(user(4), work(3), day(13));
    refund.points = Some(50);
    let mut void = Posting::void(user(4), Reference::Key("r14".to_owned()), day(14));
    void.points = Some(10);
    let of_user_4 = [
        consume(4, 70, 3),
        refund,
        recharge(4, 50, "card", (14, 60)),
        void,
        Posting::hold(user(4), 10, "tts", "task-15", day(20), day(15)),
        Posting::consume(user(4), 10, "tts", "task-15", day(16)),
        Posting::hold(user(4), 5, "tts", "task-17", day(60), day(17)),
    ];
    post(&mut session, &of_user_4).await;
}

async fn post(session: &mut Session<Box<Client>>, postings: &[Posting]) {
    for reply in session.post(postings, &rules()).await.unwrap() {
        assert!(matches!(reply, Reply::Posted(_) | Reply::Held(_)), "{reply:?}");
    }
}

/// What a random history may take back: its consumes, its recharges and its holds, by user and key.
#[derive(Default)]
struct Past {
    consumes: Vec<(Uuid, String)>,
    recharges: Vec<(Uuid, String)>,
    holds: Vec<(Uuid, String)>,
}

impl Past {
    /// A recharge or a consume as it is, or something else in its place: late usage, a refund, a void, a hold, or a consume that
    /// captures one. The posting has a key.
    fn mix(&mut self, rng: &mut Rng, mut posting: Posting) -> Posting {
        let (user, at) = (posting.user, posting.at);
        let key = posting.key.clone().unwrap();
        let mut drawn = |from: &[(Uuid, String)]| {
            let of_user: Vec<&String> = from.iter().filter(|(of, _)| *of == user).map(|(_, key)| key).collect();
            rng.choice(&of_user).map(|key| (*key).clone())
        };
        let (consume, recharge, hold) = (drawn(&self.consumes), drawn(&self.recharges), drawn(&self.holds));
        let points = rng.bool().then(|| rng.i64(1..60));
        match (rng.u8(..100), consume, recharge, hold) {
            (0..12, Some(consume), ..) => {
                return Posting { points, ..Posting::refund(user, Reference::Key(consume), at).with_key(key) };
            }
            (12..20, _, Some(recharge), _) => {
                return Posting { points, ..Posting::void(user, Reference::Key(recharge), at).with_key(key) };
            }
            (20..32, _, _, Some(hold)) => {
                self.holds.retain(|held| *held != (user, hold.clone()));
                return match rng.u8(..2) {
                    0 => Posting::release(user, Reference::Key(hold), at),
                    _ => Posting::consume(user, rng.i64(1..60), "tts", &key, at).with_key(hold),
                };
            }
            (32..50, ..) => {
                self.holds.push((user, key.clone()));
                let until = at + TimeDelta::hours(rng.i64(1..300));
                return Posting::hold(user, rng.i64(1..10), "tts", &key, until, at).with_key(key);
            }
            _ => {}
        }
        match posting.kind {
            Kind::Consume { .. } => {
                self.consumes.push((user, key));
                if rng.u8(..3) == 0 {
                    posting.at -= TimeDelta::hours(rng.i64(0..24 * 12));
                }
            }
            _ => self.recharges.push((user, key)),
        }
        posting
    }
}

/// Writes checkpoints for all accounts, as a proof without findings does. Only the fields that `history_changed` reads are
/// right.
async fn note_proved(client: &Client) {
    client
        .batch_execute(
            "INSERT INTO pointsd.checkpoints (bucket, user_id, seq, batches, balance, total_recharged, total_consumed,
                 total_expired, total_adjusted, entries_print, batches_print, drawn_print)
             SELECT a.bucket, a.user_id, a.last_seq, a.last_batch, a.balance, a.total_recharged, a.total_consumed,
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
    const OF_POINTS: [&str; 9] = [
        "account_balance",
        "account_identity",
        "account_remaining",
        "account_totals",
        "batch_amount",
        "batch_expired",
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
