//! Money: each batch's life adds up to its price, and no movement is off its exact share by a whole unit.

use std::collections::BTreeMap;

use num_rational::Ratio;
use pointsd::ledger::{Allocation, Currency, Entry, EntryType, Money, Posting, Reference, Reply};
use uuid::Uuid;

use crate::model::{exact, rules};
use crate::support::rows::Rows;
use crate::{TestDatabase, at, user};

/// What became of the price of a batch, and the exact figures.
#[derive(Default)]
struct Life {
    used: i64,
    expired: i64,
    returned: i64,
    points_expired: i64,
    points_voided: i64,
}

/// Adds up what the entries say of each batch with a price, with fractions.
pub fn check_lives(rows: &Rows, context: &str) {
    let mut lives: BTreeMap<(Uuid, i32), Life> = BTreeMap::new();
    let batches: BTreeMap<(Uuid, i32), _> = rows.batches.iter().map(|row| ((row.user, row.batch), row)).collect();
    let entries: BTreeMap<(Uuid, i64), &Entry> = rows.entries.iter().map(|row| ((row.user, row.seq), row)).collect();
    for entry in &rows.entries {
        let place = format!("entry {} of {}, {context}", entry.seq, entry.user);
        for part in &entry.allocations {
            let batch = batches[&(entry.user, part.batch)];
            assert_eq!(part.paid.is_some(), batch.paid.is_some(), "money where the batch has a price: {place}");
            let (Some(price), Some(paid)) = (batch.paid, part.paid) else { continue };
            let off = Ratio::from(i128::from(paid)) - exact(price, part.points, batch.amount);
            assert!(off < 1.into() && off > (-1).into(), "{paid} is off its exact share by {off}: {place}");
            assert!(paid >= 0, "{place}");
            let life = lives.entry((entry.user, part.batch)).or_default();
            match entry.kind {
                EntryType::Expire => {
                    (life.expired, life.points_expired) = (life.expired + paid, life.points_expired + part.points)
                }
                EntryType::Restore => {
                    (life.expired, life.points_expired) = (life.expired - paid, life.points_expired - part.points)
                }
                _ => life.used += paid,
            }
        }
        match entry.kind {
            EntryType::Recharge | EntryType::Refund | EntryType::Opening if entry.batch.is_some() => {
                let batch = batches[&(entry.user, entry.batch.unwrap())];
                assert_eq!(
                    batch.paid,
                    entry.paid.zip(entry.currency).map(|(amount, currency)| Money { amount, currency }),
                    "{place}"
                );
            }
            EntryType::Void => {
                let own = (entry.user, entries[&(entry.user, entry.refers_to.unwrap())].batch.unwrap());
                assert_eq!(entry.currency, batches[&own].paid.map(|price| price.currency), "{place}");
                let life = lives.entry(own).or_default();
                // What is returned is not used, whether it was drawn from the batch now or used before.
                let returned = entry.paid.unwrap_or_default();
                (life.used, life.returned) = (life.used - returned, life.returned + returned);
                life.points_voided += entry.amount;
            }
            _ => assert_eq!((entry.paid, entry.currency), (None, None), "{place}"),
        }
    }
    for (key, batch) in &batches {
        let (Some(price), life) = (batch.paid, lives.remove(key).unwrap_or_default()) else { continue };
        let place = format!("batch {} of {}, {context}", batch.batch, batch.user);
        let near = |money: i64, points: i64| {
            let off = Ratio::from(i128::from(money)) - exact(price, points, batch.amount);
            off < 1.into() && off > (-1).into()
        };
        let deferred = price.amount - life.used - life.expired - life.returned;
        let floor = exact(price, batch.amount - batch.remaining, batch.amount).floor().to_integer();
        assert_eq!(i128::from(price.amount - deferred), floor, "released is the floor of the exact share: {place}");
        assert!(near(life.expired, life.points_expired), "expired {}: {place}", life.expired);
        assert!(near(life.returned, life.points_voided), "returned {}: {place}", life.returned);
        let points_used = batch.amount - batch.remaining - life.points_expired - life.points_voided;
        assert!(near(life.used, points_used) && life.used >= 0, "used {}: {place}", life.used);
        if points_used == 0 {
            assert_eq!(life.used, 0, "{place}");
        }
        if batch.remaining == 0 {
            assert_eq!(life.used + life.expired + life.returned, price.amount, "a life adds up to its price: {place}");
        }
    }
}

async fn post(database: &TestDatabase, postings: &[Posting]) -> Vec<Reply> {
    database.session().await.post(postings, &rules()).await.unwrap()
}

fn cny() -> Currency {
    "CNY".parse().unwrap()
}

/// What each reply's entry says of money: its own, and that of its allocations by batch.
fn money_of(reply: &Reply) -> (Option<i64>, Vec<(i32, Option<i64>)>) {
    let entry = reply.entry().unwrap_or_else(|| panic!("{reply:?}"));
    let part = |part: &Allocation| (part.batch, part.paid);
    (entry.paid, entry.allocations.iter().map(part).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_price_by_hand() {
    let database = TestDatabase::new().await;
    let day = |day: u32| at(&format!("2026-01-{day:02}T00:00:00Z"));
    let consume = |id: &str, points, when| Posting::consume(user(1), points, "tts", id, when);
    let task = |id: &str| Reference::Work { source_type: "tts".into(), source_id: id.into() };
    // 19.99 for 7 points: 2.8557 each.
    let recharge = Posting::recharge(user(1), 7, "card", day(1)).with_key("a").with_paid(1_999, cny());
    let replies = post(
        &database,
        &[
            recharge.clone(),
            consume("1", 1, day(1)),
            consume("2", 2, day(1)),
            Posting::refund(user(1), task("2"), day(2)).with_points(1),
            Posting::refund(user(1), task("2"), day(2)).with_points(1).with_key("rest"),
            // The refunds live as long as the recharge, the recharge's batch is drawn first.
            consume("3", 3, day(3)),
        ],
    )
    .await;
    let money: Vec<_> = replies.iter().map(money_of).collect();
    assert_eq!(
        money,
        [
            (Some(1_999), vec![]),
            (None, vec![(1, Some(285))]),
            (None, vec![(1, Some(571))]),
            // 5.71 for two points comes back as 2.85 and 2.86.
            (Some(285), vec![]),
            (Some(286), vec![]),
            (None, vec![(1, Some(857))]),
        ]
    );
    // One point of the recharge is left and expires; then a late consume restores it, and uses its price after all.
    let mut session = database.session().await;
    session.sweep(day(12), false, |_| true).await.unwrap();
    let late = post(&database, &[consume("late", 1, day(4))]).await;
    let Reply::Posted(posted) = &late[0] else { panic!("{late:?}") };
    assert_eq!(posted.restored, [Allocation { batch: 1, points: 1, paid: Some(286) }]);
    assert_eq!(money_of(&late[0]), (None, vec![(1, Some(286))]));
    // Voided in parts: 7 points go back to the customer for 19.99. Nothing is left, so the two others are owed.
    let void = |points, key: &str| {
        Posting::void(user(1), Reference::Key("a".into()), day(13)).with_points(points).with_key(key)
    };
    let voids = post(&database, &[void(3, "v1"), void(1, "v2"), void(3, "v3")]).await;
    let paid: Vec<_> = voids.iter().map(|reply| money_of(reply).0).collect();
    assert_eq!(paid, [Some(856), Some(286), Some(857)]);
    // Arrears release money when they are settled: 8 of 10 points for 1.00 KWD.
    let price = Posting::recharge(user(1), 10, "card", day(14)).with_key("b").with_paid(1_000, "KWD".parse().unwrap());
    assert_eq!(money_of(&post(&database, &[price]).await[0]), (Some(1_000), vec![(4, Some(700))]));
    // The price is no part of what a key stands for.
    let again = post(&database, &[recharge.with_paid(1, "JPY".parse().unwrap())]).await;
    assert!(matches!(&again[0], Reply::Replayed(posted) if posted.entry.paid == Some(1_999)), "{again:?}");
    check_lives(&Rows::read(&database.client().await).await, "by hand");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_price_that_cannot_be() {
    let database = TestDatabase::new().await;
    let when = at("2026-01-01T00:00:00Z");
    let recharge = |source: &str| Posting::recharge(user(1), 7, source, when).with_key(source);
    let replies = post(
        &database,
        &[
            recharge("card").with_paid(-1, cny()),
            recharge("card").with_paid(1_000_000_000_000_001, cny()),
            // Before the points are looked at.
            recharge("invite").with_paid(1, cny()).with_points(0),
            recharge("card").with_paid(0, cny()),
            recharge("gift").with_paid(1_000_000_000_000_000, cny()),
        ],
    )
    .await;
    let told: Vec<_> =
        replies.iter().map(|reply| reply.refusal().map(|refusal| format!("{}: {refusal}", refusal.code()))).collect();
    let range = "malformed: paid is not within 0 to 1000000000000000: give minor units of the currency".to_owned();
    let promotional = "malformed: paid does not belong to a recharge from the promotional source `invite`: leave it out, or name the source that was paid";
    assert_eq!(told, [Some(range.clone()), Some(range), Some(promotional.to_owned()), None, None]);
    for code in ["cny", "XXX", "XAU", "ABC", "", "CNYX", "￥￥￥"] {
        let told = code.parse::<Currency>().expect_err(code);
        assert!(told.contains("is no currency of ISO 4217 with a minor unit"), "{told}");
    }
    let digits =
        ["CNY", "JPY", "KWD"].map(|code| Money { amount: 123_456, currency: code.parse().unwrap() }.to_string());
    assert_eq!(digits, ["1234.56 CNY", "123456 JPY", "123.456 KWD"]);
    check_lives(&Rows::read(&database.client().await).await, "extreme prices");
}
