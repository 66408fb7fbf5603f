//! Random histories, thick with what goes wrong: late and early times, keys that come again, debts, expiry between two
//! lines, postings that are refused.

use chrono::{DateTime, TimeDelta, Utc};
use fastrand::Rng;
use pointsd::ledger::{Kind, MAX_POINTS, Posting};

use crate::model::SOURCES;
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
            let earlier = choose(rng, &posted).clone();
            again(rng, earlier, when)
        } else {
            new(rng, number, users, when)
        };
        posted.push(posting.clone());
        ops.push(Op::Post(posting));
    }
    ops
}

fn new(rng: &mut Rng, number: usize, users: u32, at: DateTime<Utc>) -> Posting {
    let user = user(rng.u32(..users));
    let points = match rng.u8(..100) {
        0..3 => *choose(rng, &[0, -1, MAX_POINTS + 1, i64::MIN, i64::MAX]),
        3..6 => *choose(rng, &[1, MAX_POINTS - 1, MAX_POINTS]),
        _ => rng.i64(1..200),
    };
    let mut posting = if rng.bool() {
        let mut posting = Posting::recharge(user, points, *choose(rng, &SOURCES), at);
        let life = *choose(rng, &[-86_400, -1, 0, 1, 3_600, 86_400, 5 * 86_400, 20 * 86_400]);
        if let Kind::Recharge { order_id, expires_at, .. } = &mut posting.kind {
            *order_id = Some(number as i64);
            // Half of them when another one expires too, by the default.
            *expires_at =
                rng.bool().then(|| at + TimeDelta::seconds(life) + TimeDelta::nanoseconds(rng.i64(-1_500..1_500)));
        }
        posting
    } else {
        let mut posting = Posting::consume(user, points, *choose(rng, &["tts", "video"]), format!("task-{number}"), at);
        if let Kind::Consume { duration, .. } = &mut posting.kind {
            *duration = rng.bool().then(|| rust_decimal::Decimal::new(rng.i64(0..10_000_000), rng.u32(..5)));
        }
        posting
    };
    if rng.u8(..100) < 30 {
        posting.key = Some(format!("key {}", rng.u32(..20)));
    }
    if rng.u8(..100) < 20 {
        posting.description = Some((*choose(rng, &["", "a gift", "备注", "quote ' \" \\ {,}"])).to_owned());
    }
    if rng.u8(..100) < 4 {
        spoil(rng, &mut posting);
    }
    posting
}

/// The same posting later, or another one under its key.
fn again(rng: &mut Rng, mut posting: Posting, at: DateTime<Utc>) -> Posting {
    posting.at = at;
    match rng.u8(..6) {
        0 => posting.points = posting.points.saturating_add(1),
        1 => posting.description = Some("said otherwise".to_owned()),
        2 => match &mut posting.kind {
            Kind::Recharge { order_id, .. } => *order_id = order_id.map(|order| order + 1),
            Kind::Consume { source_id, .. } => source_id.push('x'),
        },
        3 => match &mut posting.kind {
            Kind::Recharge { expires_at, .. } => *expires_at = Some(at),
            Kind::Consume { duration, .. } => *duration = None,
        },
        _ => {}
    }
    posting
}

/// Makes it one that is refused before anybody looks at its account.
fn spoil(rng: &mut Rng, posting: &mut Posting) {
    match (rng.u8(..4), &mut posting.kind) {
        (0, _) => posting.key = Some(String::new()),
        (1, _) => posting.at = at("1969-12-31T23:59:59.999999Z"),
        (2, Kind::Recharge { order_id, .. }) => (posting.key, *order_id) = (None, None),
        (_, Kind::Recharge { source, .. }) => *source = "lottery".to_owned(),
        (_, Kind::Consume { source_id, .. }) => source_id.push('\0'),
    }
}

fn choose<'a, T>(rng: &mut Rng, from: &'a [T]) -> &'a T {
    &from[rng.usize(..from.len())]
}
