//! Reads of one account, page by page, against the same taken from all rows.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use fastrand::Rng;
use pointsd::ledger::{
    Batches, CUTOFF_LIMIT, Entry, EntryFilter, EntryType, MOST_READ, Order, Posting, Reader, Rules, Span, Term,
    statement, statements,
};
use serde_json::json;
use tokio_postgres::Client;
use uuid::Uuid;

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
                Op::Sweep(at) => drop(session.sweep(at, false, |_| true).await.unwrap()),
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

/// The batches with points left after each entry, by the entries alone.
fn left_after(entries: &[Recorded], last: usize) -> BTreeMap<i32, i64> {
    let mut left: BTreeMap<i32, i64> = BTreeMap::new();
    for (entry, _) in &entries[..last] {
        if let Some(batch) = entry.batch {
            left.insert(batch, entry.amount);
        }
        let sign = if entry.kind == EntryType::Restore { 1 } else { -1 };
        for part in &entry.allocations {
            *left.get_mut(&part.batch).unwrap() += sign * part.points;
        }
    }
    left.retain(|_, points| *points > 0);
    left
}

/// Statements of spans between any two entries, against all entries: the one, those of a group, and again after more was posted.
async fn check_statement(rng: &mut Rng, client: &mut Client, entries: &[Recorded], nth: u32) {
    let mut some_time = || match rng.choice(entries) {
        Some((_, recorded)) => *recorded + TimeDelta::microseconds(rng.i64(-1..2)),
        None => at("2026-01-01T00:00:00Z"),
    };
    let (one, other) = (some_time(), some_time());
    let span = Span::up_to(client, (one.min(other), one.max(other)), CUTOFF_LIMIT).await.unwrap();
    assert!(span.complete);
    let found = statement(client, user(nth), span, 5).await.unwrap();
    let before = |at: DateTime<Utc>| entries.iter().filter(|(_, recorded)| *recorded < at).count();
    let (low, high) = (before(span.from), before(span.before));
    let balance = |seq: usize| if seq == 0 { 0 } else { entries[seq - 1].0.balance_after };
    assert_eq!((found.opening, found.closing), (balance(low), balance(high)), "{span:?}");
    let listed = &entries[low..high];
    assert_eq!(found.count, listed.len() as i64);
    let numbers = |entry: Option<&Recorded>| entry.map(|(entry, _)| entry.seq);
    assert_eq!((found.first_seq, found.last_seq), (numbers(listed.first()), numbers(listed.last())));
    let first: Vec<i64> = listed.iter().map(|(entry, _)| entry.seq).take(5).collect();
    assert_eq!(found.entries.items.iter().map(|item| item.entry.seq).collect::<Vec<_>>(), first);
    assert_eq!(found.entries.next, first.last().copied().filter(|_| listed.len() > 5));
    let changes = &found.changes;
    let by_totals = changes.total_opening + changes.total_recharged - changes.total_consumed - changes.total_expired
        + changes.total_refunded
        - changes.total_voided
        + changes.total_adjusted;
    assert_eq!(found.opening + by_totals, found.closing);
    let left: BTreeMap<i32, i64> = found.batches.iter().map(|batch| (batch.batch, batch.remaining)).collect();
    assert_eq!(left, left_after(entries, high), "{span:?}");
    // A restore stands before the consume that draws its points, in the same posting.
    let within_posting = high > 0 && entries[high - 1].0.kind == EntryType::Restore;
    assert!(within_posting || left.values().sum::<i64>() == found.closing.max(0), "{left:?}, {}", found.closing);
    assert!(found.batches.is_sorted_by_key(|batch| (batch.expires_at, batch.batch)));
    assert!(found.holds.is_none());
    // The same as one of all.
    let (all, next) = statements(client, None, span, 5).await.unwrap();
    let of_user = all.iter().find(|statement| statement.user == user(nth));
    assert!(next.is_none());
    match of_user {
        Some(of_user) => assert_eq!(json!(of_user), json!(found)),
        None => assert!(!found.tells()),
    }
}

/// What the next statement holds follows from where this one ended, also where a clock was set back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_never_changes() {
    let database = TestDatabase::new().await;
    let (mut client, mut session) = (database.client().await, database.session().await);
    let rules = Rules { sources: [("gift".to_owned(), Some(Term::days(36_500)))].into(), ..Rules::default() };
    let day = |day: u32| at(&format!("2026-03-{day:02}T00:00:00Z"));
    let mut post = async |from: u32, to: u32| {
        for n in from..to {
            let posting = Posting::recharge(user(0), 10, "gift", day(1)).with_key(n.to_string());
            session.post(&[posting], &rules).await.unwrap();
        }
    };
    post(0, 20).await;
    // The clock was set back by days at the ninth entry and went on from there.
    let sql = "ALTER TABLE pointsd.entries DISABLE TRIGGER entries_never_change;
               UPDATE pointsd.entries SET recorded_at = timestamptz '2026-03-01Z'
                   + CASE WHEN seq < 9 THEN seq ELSE seq - 4 END * interval '1 day';
               ALTER TABLE pointsd.entries ENABLE ALWAYS TRIGGER entries_never_change";
    client.batch_execute(sql).await.unwrap();
    let mut told = Vec::new();
    for first in 1..20 {
        let span = Span::up_to(&client, (day(first), day(first + 1)), CUTOFF_LIMIT).await.unwrap();
        told.push((span, json!(statement(&mut client, user(0), span, 100).await.unwrap())));
    }
    post(20, 90).await;
    let mut closing = json!(0);
    let mut count = 0;
    for (span, before) in &told {
        let again = json!(statement(&mut client, user(0), *span, 100).await.unwrap());
        assert_eq!(again, *before);
        assert_eq!(again["opening"], closing);
        closing = again["closing"].clone();
        count += again["count"].as_i64().unwrap();
    }
    assert_eq!((closing, count), (json!(200), 20));
    // One that is under way ends now, and tells what is reserved.
    let hold = Posting::hold(user(0), 7, "tts", "t", Utc::now() + TimeDelta::hours(1), Utc::now());
    session.post(&[hold], &rules).await.unwrap();
    let span = Span::up_to(&client, (day(20), Utc::now() + TimeDelta::hours(1)), CUTOFF_LIMIT).await.unwrap();
    let found = statement(&mut client, user(0), span, 100).await.unwrap();
    assert_eq!((found.complete, found.count, found.closing), (false, 70, 900));
    assert_eq!(found.holds.unwrap().iter().map(|hold| hold.points).collect::<Vec<_>>(), [7]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lowest_user_of_all_has_a_statement_among_all() {
    let database = TestDatabase::new().await;
    let (mut client, mut session) = (database.client().await, database.session().await);
    let users = [Uuid::nil(), user(1), user(2)];
    let recharge = |user| Posting::recharge(user, 10, "gift", at("2026-01-01T00:00:00Z")).with_key("a");
    session.post(&users.map(recharge), &rules()).await.unwrap();
    let span = Span::up_to(&client, (at("2026-01-01T00:00:00Z"), Utc::now()), CUTOFF_LIMIT).await.unwrap();
    for (after, expected) in [(None, &users[..]), (Some(users[0]), &users[1..]), (Some(users[2]), &users[3..])] {
        let (found, next) = statements(&mut client, after, span, 5).await.unwrap();
        let found: Vec<Uuid> = found.iter().map(|statement| statement.user).collect();
        assert_eq!((found.as_slice(), next), (expected, None), "after {after:?}");
    }
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
