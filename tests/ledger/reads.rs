//! Reads of one account, page by page, against the same taken from all rows.

use chrono::{DateTime, TimeDelta, Utc};
use fastrand::Rng;
use pointsd::ledger::{
    Batches, Entry, EntryFilter, EntryType, MOST_READ, Order, Posting, Reader, Rules, Then, statement,
};
use tokio_postgres::Client;

use crate::histories::{self, Op};
use crate::model::rules;
use crate::support::rows::Rows;
use crate::{TestDatabase, at, rng, user};

/// An entry and when it was recorded.
type Recorded = (Entry, DateTime<Utc>);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_make_the_list() {
    let mut rng = rng();
    let database = TestDatabase::new().await;
    let (mut client, mut session, rules) = (database.client().await, database.session().await, rules());
    for _ in 0..4 {
        database.clear(&client).await;
        for op in histories::random(&mut rng, 120, 2) {
            match op {
                Op::Post(posting) => drop(session.post(&[posting], &rules).await.unwrap()),
                Op::Sweep(at) => drop(session.sweep(at, false, &rules, |_| true).await.unwrap()),
            }
        }
        let rows = Rows::read(&client).await;
        for nth in 0..3 {
            check_batches(&mut rng, &client, &rows, nth).await;
            let entries = recorded(&client, nth).await;
            for _ in 0..30 {
                check_entries(&mut rng, &client, &entries, nth).await;
            }
            for _ in 0..5 {
                check_statement(&mut rng, &mut client, &entries, nth).await;
            }
        }
    }
}

async fn recorded(client: &Client, nth: u32) -> Vec<Recorded> {
    let entries = Rows::read(client).await.entries.into_iter().filter(|entry| entry.user == user(nth));
    let sql = "SELECT recorded_at FROM pointsd.entries WHERE user_id = $1 ORDER BY seq";
    let times = client.query(sql, &[&user(nth)]).await.unwrap();
    entries.zip(times.iter().map(|row| row.get(0))).collect()
}

async fn check_batches(rng: &mut Rng, client: &Client, rows: &Rows, nth: u32) {
    for which in [Batches::Open, Batches::All] {
        let of_user = rows.batches.iter().filter(|batch| batch.user == user(nth));
        let mut expected: Vec<_> = of_user.filter(|batch| which == Batches::All || batch.open).collect();
        if which == Batches::Open {
            expected.sort_by_key(|batch| (batch.expires_at, batch.batch));
        }
        let (mut found, mut cursor, limit) = (Vec::new(), None, rng.u32(1..8));
        loop {
            let page = Reader::new(client).batches(user(nth), which, cursor, limit).await.unwrap();
            assert!(page.next.is_none() || page.items.len() == limit as usize);
            found.extend(page.items.iter().map(|batch| (batch.batch, batch.remaining)));
            assert!(found.len() <= expected.len(), "the pages do not end: {found:?}");
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(found, expected.iter().map(|batch| (batch.batch, batch.remaining)).collect::<Vec<_>>());
    }
    let now = at("2026-01-20T00:00:00Z");
    let mut expected: Vec<(DateTime<Utc>, i64)> = Vec::new();
    let mut alive: Vec<_> =
        rows.batches.iter().filter(|b| b.user == user(nth) && b.open && b.expires_at > now).collect();
    alive.sort_by_key(|batch| batch.expires_at);
    for batch in alive {
        match expected.last_mut().filter(|(at, _)| *at == batch.expires_at) {
            Some((_, points)) => *points += batch.remaining,
            None => expected.push((batch.expires_at, batch.remaining)),
        }
    }
    let found = Reader::new(client).next_expiries(user(nth), now, 3).await.unwrap();
    assert_eq!(found.iter().map(|next| (next.at, next.points)).collect::<Vec<_>>(), expected[..expected.len().min(3)]);
}

async fn check_entries(rng: &mut Rng, client: &Client, entries: &[Recorded], nth: u32) {
    let some_time = |rng: &mut Rng, choose: fn(&Recorded) -> DateTime<Utc>| {
        let entry = rng.choice(entries).filter(|_| rng.u8(..4) == 0);
        entry.map(|entry| choose(entry) + TimeDelta::microseconds(rng.i64(-1..2)))
    };
    let filter = EntryFilter {
        effective_from: some_time(rng, |(entry, _)| entry.at),
        effective_before: some_time(rng, |(entry, _)| entry.at),
        recorded_from: some_time(rng, |(_, recorded)| *recorded),
        recorded_before: some_time(rng, |(_, recorded)| *recorded),
        kind: rng.choice(EntryType::ALL).filter(|_| rng.u8(..4) == 0),
        source_type: (rng.u8(..4) == 0).then(|| "tts".to_owned()),
    };
    let passes = |(entry, recorded): &&Recorded| {
        filter.effective_from.is_none_or(|from| entry.at >= from)
            && filter.effective_before.is_none_or(|before| entry.at < before)
            && filter.recorded_from.is_none_or(|from| *recorded >= from)
            && filter.recorded_before.is_none_or(|before| *recorded < before)
            && filter.kind.is_none_or(|kind| entry.kind == kind)
            && filter.source_type.as_ref().is_none_or(|source| entry.source_type == *source)
    };
    let mut expected: Vec<i64> = entries.iter().filter(passes).map(|(entry, _)| entry.seq).collect();
    let order = if rng.bool() { Order::Oldest } else { Order::Newest };
    if order == Order::Newest {
        expected.reverse();
    }
    let (mut found, mut cursor, limit) = (Vec::new(), None, rng.u32(1..12));
    loop {
        let page = Reader::new(client).entries(user(nth), &filter, order, cursor, limit).await.unwrap();
        found.extend(page.items.iter().map(|item| item.entry.seq));
        assert!(found.len() <= expected.len(), "{found:?}, not {expected:?}: {filter:?} {order:?} {limit}");
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(found, expected, "{filter:?} {order:?} {limit}");
}

async fn check_statement(rng: &mut Rng, client: &mut Client, entries: &[Recorded], nth: u32) {
    let from = at("2026-01-01T00:00:00Z") + TimeDelta::hours(rng.i64(-24..24 * 60));
    let before = from + TimeDelta::hours(rng.i64(1..24 * 40));
    let now = at("2027-01-01T00:00:00Z");
    let found = statement(client, user(nth), (from, before), now, 5).await.unwrap();
    let listed = entries.iter().map(|(entry, _)| entry).filter(|entry| entry.at >= from && entry.at < before);
    let listed: Vec<&Entry> = listed.collect();
    assert_eq!(found.count, listed.len() as i64);
    let moved: i64 = listed.iter().map(|entry| entry.balance_after - entry.balance_before).sum();
    assert_eq!(found.opening.balance + moved - found.expired_elsewhere, found.closing.balance, "{from} {before}");
    let changes = &found.changes;
    let by_totals = changes.total_recharged - changes.total_consumed - changes.total_expired + changes.total_refunded
        - changes.total_voided
        + changes.total_adjusted;
    assert_eq!(found.opening.balance + by_totals, found.closing.balance);
    let first: Vec<i64> = listed.iter().map(|entry| entry.seq).take(5).collect();
    assert_eq!(found.entries.items.iter().map(|item| item.entry.seq).collect::<Vec<_>>(), first);
    let end = Then::EffectiveAt(before - TimeDelta::microseconds(1));
    assert_eq!(found.closing, Reader::new(client).balance_then(user(nth), end).await.unwrap());
}

/// A filter that one entry of a long history passes: each page reads a bounded part and says where it stopped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_reads_a_bounded_part_of_a_long_history() {
    let database = TestDatabase::new().await;
    let (client, mut session) = (database.client().await, database.session().await);
    let rules = Rules { sources: [("gift".to_owned(), None)].into(), ..Rules::default() };
    let begin = at("2026-01-01T00:00:00Z");
    let uses = MOST_READ + 10;
    let mut postings = vec![Posting::recharge(user(0), 1_000_000, "gift", begin).with_key("a")];
    postings.extend((0..uses).map(|n| Posting::consume(user(0), 1, "tts", format!("{n}"), begin)));
    for group in postings.chunks(2_000) {
        session.post(group, &rules).await.unwrap();
    }
    let reader = Reader::new(&client);
    let filter = EntryFilter { kind: Some(EntryType::Recharge), ..EntryFilter::default() };
    let first = reader.entries(user(0), &filter, Order::Newest, None, 10).await.unwrap();
    assert_eq!((first.items.len(), first.next), (0, Some(12)));
    let second = reader.entries(user(0), &filter, Order::Newest, first.next, 10).await.unwrap();
    assert_eq!((second.items.len(), second.next), (1, None));
    // A period of recording is found at once.
    let now = client.query_one("SELECT clock_timestamp()", &[]).await.unwrap().get(0);
    let filter = EntryFilter { recorded_from: Some(now), kind: Some(EntryType::Recharge), ..EntryFilter::default() };
    let page = reader.entries(user(0), &filter, Order::Oldest, None, 10).await.unwrap();
    assert_eq!((page.items.len(), page.next), (0, None));
}
