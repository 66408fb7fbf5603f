//! An account at a past instant, against the same computed from all rows.

use chrono::{DateTime, TimeDelta, Utc};
use pointsd::ledger::{BalanceThen, CUTOFF_LIMIT, Entry, EntryType, Error, Posting, Table, Then, Totals};

use crate::histories::{self, Op};
use crate::model::rules;
use crate::support::rows::Rows;
use crate::{TestDatabase, at, rng, user};

const USERS: u32 = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_both_clocks() {
    let mut rng = rng();
    let database = TestDatabase::new().await;
    let (client, mut session, rules) = (database.client().await, database.session().await, rules());
    for history in 0..12 {
        database.clear(&client).await;
        for op in histories::random(&mut rng, 80, USERS) {
            match op {
                Op::Post(posting) => drop(session.post(&[posting], &rules).await.unwrap()),
                Op::Sweep(at) => drop(session.sweep(at, false, |_| true).await.unwrap()),
            }
        }
        let rows = Rows::read(&client).await;
        let recorded =
            client.query("SELECT recorded_at FROM pointsd.entries ORDER BY user_id, seq", &[]).await.unwrap();
        let recorded: Vec<DateTime<Utc>> = recorded.iter().map(|row| row.get(0)).collect();
        for nth in 0..USERS {
            let of_user = |entry: &&Entry| entry.user == user(nth);
            for _ in 0..25 {
                let then = *rng.choice(&recorded).unwrap() + TimeDelta::microseconds(rng.i64(-1..2));
                let by_then = rows.entries.iter().zip(&recorded).filter(|(_, recorded)| **recorded <= then);
                let expected = sums(nth, by_then.map(|(entry, _)| entry).filter(of_user), |totals| totals);
                let found = session.reader().balance_then(user(nth), Then::AsOf(then), CUTOFF_LIMIT).await.unwrap();
                assert_eq!(found, expected, "as of {then}, history {history}");

                let then = at("2026-01-01T00:00:00Z") + TimeDelta::hours(rng.i64(-24..24 * 90));
                let by_then = rows.entries.iter().filter(|entry| entry.at <= then).filter(of_user);
                // What no entry took in time from a batch that ended by then had expired.
                let ended = rows.batches.iter().filter(|batch| batch.user == user(nth) && batch.expires_at <= then);
                let left = ended.map(|batch| {
                    let takes = |entry: &&Entry| !matches!(entry.kind, EntryType::Expire | EntryType::Restore);
                    let parts = rows.entries.iter().filter(of_user).filter(takes).flat_map(|entry| &entry.allocations);
                    batch.amount - parts.filter(|part| part.batch == batch.batch).map(|part| part.points).sum::<i64>()
                });
                let left: i64 = left.sum();
                let expected = sums(nth, by_then, |totals| Totals { total_expired: left, ..totals });
                let found =
                    session.reader().balance_then(user(nth), Then::EffectiveAt(then), CUTOFF_LIMIT).await.unwrap();
                assert_eq!(found, expected, "effective at {then}, history {history}");
            }
        }
    }
}

/// The caller's clock may be ahead of the database's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_books_will_say_is_not_told_yet() {
    let database = TestDatabase::new().await;
    let (client, mut session) = (database.client().await, database.session().await);
    let recharge = Posting::recharge(user(1), 5, "gift", at("2026-01-01T00:00:00Z")).with_key("a");
    session.post(&[recharge], &rules()).await.unwrap();
    let now: DateTime<Utc> = client.query_one("SELECT clock_timestamp()", &[]).await.unwrap().get(0);
    let ahead = now + TimeDelta::minutes(5);
    let told = session.reader().balance_then(user(1), Then::AsOf(ahead), CUTOFF_LIMIT).await.map(drop);
    let exported = session.export(&Table::AccountsThen(Then::AsOf(ahead)), None, |_| Ok::<_, Error>(())).await;
    for refused in [told.unwrap_err(), exported.unwrap_err()] {
        assert!(matches!(refused, Error::Future { asked, .. } if asked == ahead), "{refused:?}");
        assert!(refused.to_string().contains("lies in the future") && !refused.is_transient(), "{refused}");
    }
    let known = session.reader().balance_then(user(1), Then::EffectiveAt(ahead), CUTOFF_LIMIT).await.unwrap();
    let then = session.reader().balance_then(user(1), Then::AsOf(now), CUTOFF_LIMIT).await.unwrap();
    // What is known of an instant to come may be told: the points have expired by then. The books do not say so yet.
    assert_eq!((known.balance, then.balance), (0, 5));
}

fn sums<'a>(nth: u32, entries: impl Iterator<Item = &'a Entry>, change: impl FnOnce(Totals) -> Totals) -> BalanceThen {
    let mut totals = Totals::default();
    for entry in entries {
        match entry.kind {
            EntryType::Recharge => totals.total_recharged += entry.amount,
            EntryType::Consume => totals.total_consumed += entry.amount,
            EntryType::Expire => totals.total_expired += entry.amount,
            EntryType::Restore => totals.total_expired -= entry.amount,
            EntryType::Refund => totals.total_refunded += entry.amount,
            EntryType::Void => totals.total_voided += entry.amount,
            EntryType::Adjust => totals.total_adjusted += entry.balance_after - entry.balance_before,
            EntryType::Opening => totals.total_opening += entry.balance_after - entry.balance_before,
        }
    }
    let totals = change(totals);
    let balance = totals.total_opening + totals.total_recharged - totals.total_consumed - totals.total_expired
        + totals.total_refunded
        - totals.total_voided
        + totals.total_adjusted;
    BalanceThen { user: user(nth), balance, arrears: (-balance).max(0), totals }
}
