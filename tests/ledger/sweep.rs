//! The sweep: that its statement and the state machine are one rule, and what it does where things are not as they
//! should be.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::TimeDelta;
use pointsd::ledger::{
    AlsoWrite, Entry, EntryType, Expired, Kind, Orphan, Part, Posting, PrepareWrite, Progress, Reply, Session, Sweep,
    sweep_for,
};
use tokio_postgres::Client;

use crate::model::{SOURCES, rules};
use crate::support::rows::{Rows, assert_same};
use crate::{TestDatabase, at, rng, user};

/// With two due batches each: nearly twice as many as a transaction of the sweep takes.
const USERS: u32 = 950;

/// The same ledger twice: one is swept, in the other every account is touched. The rows must be the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equals_expiry_on_touch() {
    let mut rng = rng();
    let rules = rules();
    let (swept, touched) = (TestDatabase::new().await, TestDatabase::new().await);
    let (mut swept_session, mut touched_session) = (swept.session().await, touched.session().await);
    for part in dense(&mut rng).chunks(500) {
        let replies = swept_session.post(part, &rules).await.unwrap();
        assert_eq!(touched_session.post(part, &rules).await.unwrap(), replies);
    }
    let client = swept.client().await;
    let before = Rows::read(&client).await;
    assert_same(&Rows::read(&touched.client().await).await, &before, "before the sweep");

    let when = at("2026-01-08T00:00:00Z");
    let sweep = swept_session.sweep(when, false, |_| true).await.unwrap();
    let after = Rows::read(&client).await;
    let expired: Vec<&Entry> = after.entries.iter().filter(|entry| !before.entries.contains(entry)).collect();
    assert!(expired.len() > 1_000, "few batches were due: {}", expired.len());
    assert_eq!(sweep, told(&expired));

    let touch: Vec<Posting> =
        (before.accounts.iter()).map(|account| Posting::consume(account.user, 1, "touch", "touch", when)).collect();
    swept_session.post(&touch, &rules).await.unwrap();
    touched_session.post(&touch, &rules).await.unwrap();
    let touched_rows = Rows::read(&touched.client().await).await;
    assert_same(&Rows::read(&client).await, &touched_rows, "found swept, expected touched");
    assert_eq!(touched_rows.entries.len(), after.entries.len() + touch.len(), "nothing was left to expire");
}

/// Many batches, often several of an account that expire at one instant; some drawn, some accounts in arrears.
fn dense(rng: &mut fastrand::Rng) -> Vec<Posting> {
    let line = |nth: i64| {
        let (user, points) = (user(rng.u32(..USERS / 2)), rng.i64(1..100));
        if rng.u8(..10) < 3 {
            return Posting::consume(user, points, "tts", nth.to_string(), at("2026-01-01T00:00:00Z"));
        }
        let source = SOURCES[rng.usize(..SOURCES.len())];
        let mut posting = Posting::recharge(user, points, source, at("2026-01-01T00:00:00Z"));
        if let Kind::Recharge { order_id, expires_at, .. } = &mut posting.kind {
            *order_id = Some(nth);
            *expires_at = Some(at("2026-01-02T00:00:00Z") + TimeDelta::days(rng.i64(0..10)));
        }
        posting
    };
    (0..5_000).map(line).collect()
}

/// What a sweep that wrote these entries has to tell.
fn told(expired: &[&Entry]) -> Sweep {
    let mut by_source: BTreeMap<String, Expired> = BTreeMap::new();
    for entry in expired {
        let source = by_source.entry(entry.source_type.clone()).or_default();
        source.batches += 1;
        source.points += entry.amount;
    }
    let mut users: Vec<_> = expired.iter().map(|entry| entry.user).collect();
    users.dedup();
    Sweep {
        batches: expired.len() as u64,
        accounts: users.len() as u64,
        points: expired.iter().map(|entry| entry.amount).sum(),
        by_source,
        orphaned: 0,
        orphans: Vec::new(),
        failed: 0,
        stopped: false,
    }
}

/// A ledger of `users` accounts with three batches each, of which two are due on 10 January.
async fn fill(database: &TestDatabase, users: u32) {
    let recharge = |nth: u32, source: &str, points: i64, expires_at: &str| {
        let mut posting = Posting::recharge(user(nth), points, source, at("2026-01-01T00:00:00Z"));
        posting.key = Some(format!("{source} {points}"));
        if let Kind::Recharge { expires_at: end, .. } = &mut posting.kind {
            *end = Some(at(expires_at));
        }
        posting
    };
    let postings: Vec<Posting> = (0..users)
        .flat_map(|nth| {
            [
                recharge(nth, "gift", 5, "2026-01-10T00:00:00Z"),
                recharge(nth, "card", 7, "2026-01-09T00:00:00Z"),
                recharge(nth, "card", 11, "2026-01-10T00:00:00.000001Z"),
            ]
        })
        .collect();
    let replies = database.session().await.post(&postings, &rules()).await.unwrap();
    assert!(replies.iter().all(|reply| matches!(reply, Reply::Posted(_))));
}

fn expected(users: u64) -> Sweep {
    let each = |points| Expired { batches: users, points: points * i64::try_from(users).unwrap() };
    Sweep {
        batches: 2 * users,
        accounts: users,
        points: 12 * i64::try_from(users).unwrap(),
        by_source: BTreeMap::from([("card".to_owned(), each(7)), ("gift".to_owned(), each(5))]),
        orphaned: 0,
        orphans: Vec::new(),
        failed: 0,
        stopped: false,
    }
}

/// Accounts that were damaged by hand do not keep the others of their group from expiring, nor later groups.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_accounts_hold_up_no_other() {
    let (database, when) = (TestDatabase::new().await, at("2026-01-10T00:00:00Z"));
    fill(&database, 250).await;
    let (client, mut session) = (database.client().await, database.session().await);
    let hands = [
        ("accounts SET last_seq = last_seq $by", 3, "- 3"),
        ("batches SET expired = expired $by", 150, "+ 1"),
        (
            "accounts SET balance = balance $by - 20, total_adjusted = 0 $by, total_consumed = 20",
            151,
            "- 9223372036854775808::numeric",
        ),
    ];
    for (hand, nth, by) in hands {
        let sql = format!("UPDATE pointsd.{} WHERE user_id = '{}'", hand.replace("$by", by), user(nth));
        client.batch_execute(&sql).await.unwrap();
    }
    let others = Sweep { failed: 3, ..expected(247) };
    assert_eq!(session.sweep(when, true, |_| true).await.unwrap(), others);
    let (lanes, kept) = (database.database().await, Kept::default());
    assert_eq!(sweep_for(&lanes, 1, (7, when), &kept, &BTreeMap::new(), |_| true).await.unwrap(), others);
    let last: BTreeMap<i16, u64> =
        kept.0.lock().unwrap().iter().map(|part| (part.bucket, part.counters.failed)).collect();
    assert_eq!(last.values().sum::<u64>(), 3, "a run that is cut off tells them, too");
    assert_eq!(session.swept_by(7).await.unwrap(), others.by_source);
    let damaged = Sweep { failed: 3, ..Sweep::default() };
    assert_eq!(session.sweep(when, false, |_| true).await.unwrap(), damaged, "they are left as they are");
    client
        .batch_execute(
            "UPDATE pointsd.batches SET expired = 0 WHERE open;
             UPDATE pointsd.accounts SET last_seq = 3, balance = 23, total_adjusted = 0, total_consumed = 0 WHERE total_expired = 0",
        )
        .await
        .unwrap();
    assert_eq!(session.sweep(when, false, |_| true).await.unwrap(), expected(3), "once they are mended");
}

/// A trigger that fails for an account, or its damaged page, keeps no other account from expiring.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_an_account_holds_up_no_other() {
    let (database, when) = (TestDatabase::new().await, at("2026-01-10T00:00:00Z"));
    fill(&database, 250).await;
    let (client, mut session) = (database.client().await, database.session().await);
    let spoil = format!(
        "CREATE FUNCTION pointsd.spoil() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF NEW.user_id = '{}' THEN RAISE EXCEPTION 'this one is spoilt'; END IF;
             IF NEW.user_id = '{}' THEN RAISE EXCEPTION 'invalid page' USING ERRCODE = 'data_corrupted'; END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER spoil BEFORE UPDATE ON pointsd.batches FOR EACH ROW EXECUTE FUNCTION pointsd.spoil()",
        user(3),
        user(150)
    );
    client.batch_execute(&spoil).await.unwrap();
    let others = Sweep { failed: 2, ..expected(248) };
    for dry_run in [true, false] {
        assert_eq!(session.sweep(when, dry_run, |_| true).await.unwrap(), others, "dry run: {dry_run}");
    }
    client.batch_execute("DROP TRIGGER spoil ON pointsd.batches; DROP FUNCTION pointsd.spoil").await.unwrap();
    assert_eq!(session.sweep(when, false, |_| true).await.unwrap(), expected(2), "once it is mended");
}

/// More points than 64 bits can count expire in one sweep: the sum is cut, and nothing is left over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sums_beyond_64_bits_stop_no_sweep() {
    let (mut database, when) = (TestDatabase::new().await, at("2026-01-10T00:00:00Z"));
    database.expect_damage(); // an entry carries 10^12 points at most
    fill(&database, 3).await;
    let (client, mut session) = (database.client().await, database.session().await);
    let most = i64::MAX - 23;
    client
        .batch_execute(&format!(
            "UPDATE pointsd.batches SET amount = amount + {most}, remaining = remaining + {most} WHERE batch = 1;
             UPDATE pointsd.accounts SET balance = balance + {most}, total_recharged = total_recharged + {most}"
        ))
        .await
        .unwrap();
    for dry_run in [true, false] {
        let swept = session.sweep(when, dry_run, |_| true).await.unwrap();
        assert_eq!((swept.batches, swept.accounts, swept.points), (6, 3, i64::MAX), "dry {dry_run}");
        let points = |source: &str| swept.by_source.get(source).map(|expired| expired.points);
        assert_eq!((points("card"), points("gift")), (Some(21), Some(i64::MAX)), "dry {dry_run}");
    }
    assert_eq!(session.sweep(when, false, |_| true).await.unwrap(), Sweep::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_tells_the_same_and_writes_nothing() {
    let (database, when) = (TestDatabase::new().await, at("2026-01-10T00:00:00Z"));
    fill(&database, USERS).await;
    let (client, mut session) = (database.client().await, database.session().await);
    let before = Rows::read(&client).await;
    let dry = session.sweep(when, true, |_| true).await.unwrap();
    assert_eq!(dry, expected(u64::from(USERS)));
    assert_same(&Rows::read(&client).await, &before, "after a dry run");
    assert_eq!(session.sweep(when, false, |_| true).await.unwrap(), dry);
    assert_ne!(Rows::read(&client).await, before);
    assert_eq!(session.sweep(when, false, |_| true).await.unwrap(), Sweep::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sweeps_at_once_share_the_batches() {
    let (database, when) = (TestDatabase::new().await, at("2026-01-10T00:00:00Z"));
    for _ in 0..5 {
        database.clear(&database.client().await).await;
        fill(&database, USERS).await;
        let sweep = |mut session: Session<Box<Client>>| {
            tokio::spawn(async move { session.sweep(when, false, |_| true).await.unwrap() })
        };
        let (one, two) = (sweep(database.session().await), sweep(database.session().await));
        let (one, two) = (one.await.unwrap(), two.await.unwrap());
        let both = expected(u64::from(USERS));
        assert_eq!(
            (one.batches + two.batches, one.points + two.points),
            (both.batches, both.points),
            "{one:?} {two:?}"
        );
        assert_eq!(one.accounts + two.accounts, both.accounts);
        let entries = Rows::read(&database.client().await).await.entries;
        let expired: Vec<&Entry> = entries.iter().filter(|entry| entry.kind == EntryType::Expire).collect();
        assert_eq!(told(&expired), both);
    }
}

/// Keeps what each transaction of a lane wrote.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Part<Sweep>>>>);

impl PrepareWrite<Part<Sweep>> for Kept {
    type Prepared = Kept;

    async fn prepare(&self, _: &Client) -> Result<Kept, tokio_postgres::Error> {
        Ok(self.clone())
    }
}

impl AlsoWrite<Part<Sweep>> for Kept {
    async fn write(&self, _: &Client, part: &Part<Sweep>) -> Result<(), tokio_postgres::Error> {
        self.0.lock().unwrap().push(part.clone());
        Ok(())
    }
}

/// While one lane waits for an account, the other sweeps the rest. Each transaction writes all that was swept in its bucket before it,
/// also by an earlier attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_share_the_accounts_and_the_counters() {
    let (database, when) = (TestDatabase::new().await, at("2026-01-10T00:00:00Z"));
    fill(&database, 2_000).await;
    let (client, mut locks) = (database.client().await, database.client().await);
    let lock = locks.transaction().await.unwrap();
    let first = lock.query_one("SELECT bucket, user_id FROM pointsd.accounts ORDER BY bucket, user_id LIMIT 1", &[]);
    let first = first.await.unwrap();
    let (first, account) = (first.get::<_, i16>(0), first.get::<_, uuid::Uuid>(1));
    let one = "SELECT FROM pointsd.accounts WHERE bucket = $1 AND user_id = $2 FOR UPDATE";
    lock.execute(one, &[&first, &account]).await.unwrap();
    // A group has up to 1,000 batches of one bucket.
    let sizes = "SELECT bucket, count(*) FROM pointsd.accounts GROUP BY bucket";
    let sizes = lock.query(sizes, &[]).await.unwrap();
    let sizes: BTreeMap<i16, i64> = sizes.iter().map(|row| (row.get(0), row.get(1))).collect();
    let kept = Kept::default();
    let lanes = database.database().await;
    let earlier = Sweep { batches: 20, accounts: 10, points: 60, ..Sweep::default() };
    let before = BTreeMap::from([(first, earlier)]);
    let sweep = async { sweep_for(&lanes, 2, (7, when), &kept, &before, |_| true).await.unwrap() };
    // The lock is held until all groups are swept that do not wait for it: all but the one of that account.
    let unlock = async {
        let due = "SELECT count(DISTINCT user_id) FROM pointsd.batches WHERE open AND expires_at <= $1";
        while client.query_one(due, &[&when]).await.unwrap().get::<_, i64>(0) != sizes[&first].min(500) {}
        lock.rollback().await.unwrap();
    };
    let sweep = tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(sweep, unlock).0 });
    let sweep = sweep.await.expect("a lane waits for no other");
    let all = expected(2_000);
    let in_all = Sweep { batches: all.batches + 20, accounts: all.accounts + 10, points: all.points + 60, ..all };
    assert_eq!(sweep, in_all);
    let kept = std::mem::take(&mut *kept.0.lock().unwrap());
    for (bucket, accounts) in sizes {
        let begin = if bucket == first { 10 } else { 0 };
        let counted: Vec<u64> =
            kept.iter().filter(|part| part.bucket == bucket).map(|part| part.counters.accounts).collect();
        assert!(counted.is_sorted_by(|one, next| one < next && next - one <= 500), "{bucket}: {counted:?}");
        assert_eq!(counted.len(), usize::try_from(accounts).unwrap().div_ceil(500), "groups of {bucket}");
        assert_eq!(counted.last(), Some(&(u64::try_from(accounts).unwrap() + begin)), "{bucket}");
    }
    assert_eq!(database.session().await.swept_by(7).await.unwrap(), sweep.by_source);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_without_an_account_is_told_and_left() {
    let (mut database, when) = (TestDatabase::new().await, at("2026-01-10T00:00:00Z"));
    database.expect_damage();
    fill(&database, USERS).await;
    let (client, mut session) = (database.client().await, database.session().await);
    let hit = [user(0), user(210), user(211)];
    client.execute("DELETE FROM pointsd.accounts WHERE user_id = ANY ($1)", &[&hit.as_slice()]).await.unwrap();
    let before = Rows::read(&client).await;
    let orphans: Vec<Orphan> = hit.iter().map(|user| Orphan { user: *user, batches: 2, points: 12 }).collect();
    let expected = Sweep { orphaned: 3, orphans, ..expected(u64::from(USERS) - 3) };
    for (dry_run, expected) in [
        (true, expected.clone()),
        (false, expected.clone()),
        (false, Sweep { orphaned: 3, orphans: expected.orphans.clone(), ..Sweep::default() }),
    ] {
        let mut swept = session.sweep(when, dry_run, |_| true).await.unwrap();
        swept.orphans.sort_by_key(|orphan| orphan.user);
        assert_eq!(swept, expected, "dry run {dry_run}");
    }
    let after = Rows::read(&client).await;
    let left = |rows: &Rows| rows.batches.iter().filter(|batch| hit.contains(&batch.user)).cloned().collect::<Vec<_>>();
    assert_eq!(left(&after), left(&before));
    let due = after.batches.iter().filter(|batch| batch.open && batch.expires_at <= when);
    assert_eq!(due.count(), 6, "only what has no account is still due");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stops_between_groups_when_told_and_goes_on_later() {
    let (database, when) = (TestDatabase::new().await, at("2026-01-10T00:00:00Z"));
    fill(&database, USERS).await;
    let mut session = database.session().await;
    let mut asked = Vec::new();
    let first = session
        .sweep(when, false, |Progress { done, total }| {
            asked.push((done, total));
            done == 0
        })
        .await
        .unwrap();
    let total = u64::from(USERS);
    let done = first.accounts;
    assert!(first.stopped && done > 0 && done < total, "{first:?}");
    assert_eq!(asked, [(0, total), (done, total), (done, total)]);
    let second = session.sweep(when, false, |progress| progress.total == total - done).await.unwrap();
    assert_eq!(second, expected(total - done));
}
