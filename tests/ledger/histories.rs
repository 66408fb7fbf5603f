//! Random histories, thick with what goes wrong: late and early times, keys that come again, debts, expiry between two
//! lines, postings that are refused.

use chrono::{DateTime, TimeDelta, Utc};
use fastrand::Rng;
use pointsd::ledger::{Beyond, Kind, MAX_PAID, MAX_POINTS, Money, Opening, Posting, Reference};
use uuid::Uuid;

use crate::model::{PROMOTIONAL, SOURCES};
use crate::{at, user};

#[derive(Clone, Debug)]
pub enum Op {
    Post(Posting),
    Sweep(DateTime<Utc>),
}

/// A history of `length` operations over `users` accounts.
pub fn random(rng: &mut Rng, length: usize, users: u32) -> Vec<Op> {
    let mut clock = at("2026-01-01T00:00:00Z");
    let mut ops = Vec::with_capacity(length);
    let mut posted: Vec<Posting> = Vec::new();
    for number in 0..length {
        clock += TimeDelta::seconds(*choose(rng, &[0, 1, 1, 60, 3_600, 86_400, 3 * 86_400]));
        let when = match rng.u8(..100) {
            0..20 => clock - TimeDelta::hours(rng.i64(1..24 * 14)),
            20..25 => clock + TimeDelta::hours(rng.i64(1..24 * 14)),
            25..30 => clock + TimeDelta::nanoseconds(rng.i64(1..2_000)),
            _ => clock,
        };
        if rng.u8(..100) < 4 {
            ops.push(Op::Sweep(when));
            continue;
        }
        let posting = if !posted.is_empty() && rng.u8(..100) < 15 {
            // A retry mostly comes soon after.
            let since = if rng.bool() { posted.len().saturating_sub(10) } else { 0 };
            let earlier = choose(rng, &posted[since..]).clone();
            again(rng, earlier, when)
        } else if number < 10 && rng.bool() || rng.u8(..100) < 2 {
            opening(rng, number, users, when)
        } else {
            new(rng, number, users, when, &posted)
        };
        posted.push(posting.clone());
        ops.push(Op::Post(posting));
    }
    ops
}

fn new(rng: &mut Rng, number: usize, users: u32, at: DateTime<Utc>, posted: &[Posting]) -> Posting {
    let user = user(rng.u32(..users));
    let points = match rng.u8(..100) {
        0..3 => *choose(rng, &[0, -1, MAX_POINTS + 1, i64::MIN, i64::MAX]),
        3..6 => *choose(rng, &[1, MAX_POINTS - 1, MAX_POINTS]),
        _ => rng.i64(1..200),
    };
    let mut posting = match rng.u8(..100) {
        0..34 => recharge(rng, number, user, points, at),
        34..70 => {
            let task = format!("task-{number}");
            let mut posting = Posting::consume(user, points, *choose(rng, &["tts", "video"]), task, at);
            // The work that a hold was for.
            let held = posted.iter().rev().take(30).find(|held| held.user == user && is_hold(held) && rng.bool());
            if let Some(Kind::Hold { source_type, source_id, .. }) = held.map(|held| &held.kind) {
                posting = Posting::consume(user, points, source_type, source_id, at);
                posting.key.clone_from(&held.unwrap().key);
            }
            if let Kind::Consume { duration, .. } = &mut posting.kind {
                *duration = rng.bool().then(|| rust_decimal::Decimal::new(rng.i64(0..10_000_000), rng.u32(..5)));
            }
            posting
        }
        70..80 => {
            let until = at + TimeDelta::hours(rng.i64(-5..24 * 14));
            Posting::hold(user, points.clamp(0, 20), "tts", format!("task-{number}"), until, at)
        }
        kind => return takes_back(rng, kind, user, points, at, posted),
    };
    if rng.u8(..100) < 30 {
        posting.key = Some(format!("key {}", rng.u32(..20)));
    }
    if rng.u8(..100) < 20 && !is_hold(&posting) {
        posting.description = Some((*choose(rng, &["", "a gift", "备注", "quote ' \" \\ {,}"])).to_owned());
    }
    if rng.u8(..100) < 9 {
        spoil(rng, &mut posting);
    }
    posting
}

/// What an account brings along: mostly points that expire after any test is over, as those that have expired are refused.
fn opening(rng: &mut Rng, number: usize, users: u32, at: DateTime<Utc>) -> Posting {
    let source = *choose(rng, &SOURCES);
    let end = crate::at("2500-01-01T00:00:00Z") + TimeDelta::hours(rng.i64(0..24 * 100));
    let opening = match rng.u8(..10) {
        0..2 => Opening::Debt,
        nth => Opening::Points {
            id: format!("batch {}", number % 4),
            source: source.to_owned(),
            expires_at: if nth == 2 { None } else { Some(end) },
            paid: price(rng, source),
        },
    };
    let mut posting = Posting::opening(user(rng.u32(..users)), rng.i64(1..400), opening, at);
    if rng.u8(..10) == 0 {
        spoil(rng, &mut posting);
    }
    posting
}

fn recharge(rng: &mut Rng, number: usize, user: Uuid, points: i64, at: DateTime<Utc>) -> Posting {
    // Larger than consumes, so that some accounts have points to hold.
    let points = if (1..1_000).contains(&points) { 2 * points } else { points };
    let mut posting = Posting::recharge(user, points, *choose(rng, &SOURCES), at);
    let life = *choose(rng, &[-86_400, -1, 0, 1, 3_600, 86_400, 5 * 86_400, 20 * 86_400]);
    if let Kind::Recharge { source, order_id, expires_at, paid } = &mut posting.kind {
        *order_id = Some(number as i64);
        *paid = price(rng, source);
        // Half of them when another one expires too, by the default.
        *expires_at =
            rng.bool().then(|| at + TimeDelta::seconds(life) + TimeDelta::nanoseconds(rng.i64(-1_500..1_500)));
    }
    posting
}

/// What a recharge cost, if anything: often hardly divisible by its points.
fn price(rng: &mut Rng, source: &str) -> Option<Money> {
    if rng.u8(..100) < if source == PROMOTIONAL { 95 } else { 35 } {
        return None;
    }
    let amount = match rng.u8(..20) {
        0 => *choose(rng, &[0, 1, MAX_PAID - 1, MAX_PAID, MAX_PAID + 1, -1, i64::MAX, i64::MIN]),
        1..4 => rng.i64(0..20),
        _ => rng.i64(0..100_000),
    };
    Some(Money { amount, currency: choose(rng, &["CNY", "CNY", "CNY", "JPY", "KWD"]).parse().unwrap() })
}

/// A refund, a void or a release of something that was posted, or of nothing.
fn takes_back(rng: &mut Rng, kind: u8, user: Uuid, points: i64, at: DateTime<Utc>, posted: &[Posting]) -> Posting {
    let fits = |earlier: &&Posting| match (kind, &earlier.kind) {
        (80..88, Kind::Consume { .. })
        | (88..96, Kind::Recharge { .. } | Kind::Opening(_))
        | (_, Kind::Hold { .. }) => earlier.user == user,
        _ => false,
    };
    let earlier: Vec<&Posting> = posted.iter().filter(fits).collect();
    let earlier = if earlier.is_empty() || rng.u8(..20) == 0 { None } else { Some(*choose(rng, &earlier)) };
    let reference = match earlier.map(|earlier| (&earlier.key, &earlier.kind)) {
        Some((Some(key), _)) => Reference::Key(key.clone()),
        Some((None, Kind::Opening(_))) => Reference::Key(earlier.unwrap().default_key().unwrap()),
        Some((None, Kind::Recharge { source, order_id: Some(order_id), .. })) => {
            Reference::Order { source: source.clone(), order_id: *order_id }
        }
        Some((None, Kind::Consume { source_type, source_id, .. } | Kind::Hold { source_type, source_id, .. })) => {
            Reference::Work { source_type: source_type.clone(), source_id: source_id.clone() }
        }
        _ => Reference::Key(format!("key {}", rng.u32(..20))),
    };
    let mut posting = match kind {
        80..88 => Posting::refund(user, reference, at),
        88..96 => Posting::void(user, reference, at),
        _ => return Posting::release(user, reference, at),
    };
    if let Kind::Void { beyond, .. } = &mut posting.kind {
        *beyond = if rng.bool() { Beyond::Used } else { Beyond::Remaining };
    }
    posting.points = rng.bool().then_some(points.clamp(-1, 150));
    if rng.bool() {
        posting.key = Some(format!("back {}", rng.u32(..200)));
    }
    posting
}

fn is_hold(posting: &Posting) -> bool {
    matches!(posting.kind, Kind::Hold { .. })
}

/// The same posting later, or another one under its key.
fn again(rng: &mut Rng, mut posting: Posting, at: DateTime<Utc>) -> Posting {
    // A debt is the same only where it began at the same time.
    if posting.kind != Kind::Opening(Opening::Debt) || rng.bool() {
        posting.at = at;
    }
    match rng.u8(..6) {
        0 => posting.points = posting.points.map(|points| points.saturating_add(1)),
        1 => posting.description = Some("said otherwise".to_owned()),
        2 => match &mut posting.kind {
            Kind::Recharge { order_id, .. } => *order_id = order_id.map(|order| order + 1),
            Kind::Consume { source_id, .. } | Kind::Hold { source_id, .. } => source_id.push('x'),
            Kind::Void { beyond, .. } => *beyond = Beyond::Remaining,
            Kind::Opening(Opening::Points { source, .. }) => *source = "card".to_owned(),
            Kind::Refund { .. } | Kind::Release { .. } | Kind::Opening(Opening::Debt) => {}
        },
        3 => match &mut posting.kind {
            Kind::Recharge { expires_at, .. } | Kind::Opening(Opening::Points { expires_at, .. }) => {
                *expires_at = Some(at)
            }
            Kind::Consume { duration, .. } => *duration = None,
            Kind::Hold { until, .. } => *until = at + TimeDelta::days(1),
            Kind::Refund { .. } | Kind::Void { .. } | Kind::Release { .. } | Kind::Opening(Opening::Debt) => {}
        },
        _ => {}
    }
    posting
}

/// Makes it one that is refused before anybody looks at its account.
fn spoil(rng: &mut Rng, posting: &mut Posting) {
    match (rng.u8(..5), &mut posting.kind) {
        (0, _) => posting.key = Some(String::new()),
        (1, _) => posting.at = at("1969-12-31T23:59:59.999999Z"),
        (4, _) => posting.at = at("2999-01-01T00:00:00Z"),
        (2, Kind::Recharge { order_id, .. }) => (posting.key, *order_id) = (None, None),
        (_, Kind::Recharge { source, .. } | Kind::Opening(Opening::Points { source, .. })) => {
            *source = "lottery".to_owned()
        }
        (_, Kind::Consume { source_id, .. } | Kind::Hold { source_id, .. }) => source_id.push('\0'),
        _ => {}
    }
}

fn choose<'a, T>(rng: &mut Rng, from: &'a [T]) -> &'a T {
    &from[rng.usize(..from.len())]
}
