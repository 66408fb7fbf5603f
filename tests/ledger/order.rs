//! Any order of the same consumes ends the same: what is recorded late draws what it would have drawn in time.

use chrono::TimeDelta;
use pointsd::ledger::Posting;

use crate::model::{SOURCES, rules};
use crate::support::invariants::check_invariants;
use crate::support::rows::Rows;
use crate::{TestDatabase, at, rng, user};

/// Balance and total expired of each account; remaining and expired points of each batch.
type Outcome = (Vec<(i64, i64)>, Vec<(i64, i64)>);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_consumes_does_not_matter() {
    let mut rng = rng();
    let database = TestDatabase::new().await;
    let (client, mut session, rules) = (database.client().await, database.session().await, rules());
    let begin = at("2026-01-01T00:00:00Z");
    let mut restored = 0;
    for history in 0..15 {
        let day = |rng: &mut fastrand::Rng| begin + TimeDelta::hours(rng.i64(0..24 * 30));
        let recharge = |rng: &mut fastrand::Rng, nth: usize| {
            let source = SOURCES[rng.usize(..SOURCES.len())];
            let points = rng.i64(1..60);
            Posting::recharge(user(rng.u32(..2)), points, source, day(rng)).with_key(format!("order {nth}"))
        };
        let mut recharges: Vec<Posting> = (0..rng.usize(4..14)).map(|nth| recharge(&mut rng, nth)).collect();
        recharges.sort_by_key(|posting| posting.at);
        let consume = |rng: &mut fastrand::Rng, nth: usize| {
            let points = rng.i64(1..40);
            Posting::consume(user(rng.u32(..2)), points, "tts", format!("task {nth}"), day(rng))
        };
        let mut consumes: Vec<Posting> = (0..rng.usize(5..30)).map(|nth| consume(&mut rng, nth)).collect();
        let mut outcomes: Vec<Outcome> = Vec::new();
        for _ in 0..6 {
            database.clear(&client).await;
            session.post(&recharges, &rules).await.unwrap();
            rng.shuffle(&mut consumes);
            let mut rest = &consumes[..];
            while !rest.is_empty() {
                let (group, after) = rest.split_at(rng.usize(1..6).min(rest.len()));
                rest = after;
                for reply in session.post(group, &rules).await.unwrap() {
                    assert_eq!(reply.status(), "posted", "history {history}, {reply:?}");
                }
                if rng.bool() {
                    session.sweep(day(&mut rng), false, |_| true).await.unwrap();
                }
            }
            session.sweep(begin + TimeDelta::days(60), false, |_| true).await.unwrap();
            check_invariants(&client).await;
            let rows = Rows::read(&client).await;
            restored += rows.entries.iter().filter(|entry| entry.kind.as_str() == "restore").count();
            outcomes.push((
                rows.accounts.iter().map(|account| (account.balance, account.total_expired)).collect(),
                rows.batches.iter().map(|batch| (batch.remaining, batch.expired)).collect(),
            ));
        }
        outcomes.dedup();
        assert_eq!(outcomes.len(), 1, "history {history}: {outcomes:?}");
    }
    assert!(restored > 100, "{restored} restores prove little");
}
