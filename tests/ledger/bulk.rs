//! Files in bulk: their lines are sorted before they are posted, and answered as if they were not.

use std::collections::HashSet;
use std::future::ready;
use std::io::{Cursor, Read};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use pointsd::bulk::{self, Form, Format, LineReply};
use pointsd::ledger::{Buckets, Error, GroupObserver, Poster, Posting, Refusal, Reply, Session};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use crate::buckets::set_buckets;
use crate::model::rules;
use crate::support::rows;
use crate::{TestDatabase, at, rng, user};

/// The time of lines without one.
fn clock() -> DateTime<Utc> {
    at("2026-01-01T00:00:00Z")
}

/// Lines of all that there is, over a few accounts, some of them broken, doubled or blank.
fn lines(rng: &mut fastrand::Rng, count: usize, accounts: u32) -> Vec<String> {
    let mut lines: Vec<String> = Vec::with_capacity(count);
    for nth in 0..count {
        let (user, points, earlier) = (user(rng.u32(0..accounts)), rng.u32(0..100), rng.usize(0..=nth));
        let line = match rng.u8(0..20) {
            0 => "broken".to_owned(),
            1 => lines.get(earlier).cloned().unwrap_or_default(),
            2 => "  ".to_owned(),
            3..7 => format!(
                r#"{{"op":"recharge","user":"{user}","points":{points},"source":"gift","order_id":{nth},"expires_at":"2026-0{}-01T00:00:00Z"}}"#,
                rng.u8(2..9)
            ),
            7 => format!(r#"{{"op":"refund","user":"{user}","source_type":"tts","source_id":"{}"}}"#, rng.u8(0..30)),
            8 => format!(r#"{{"op":"void","user":"{user}","source":"gift","order_id":{earlier}}}"#),
            9 | 10 => format!(
                r#"{{"op":"hold","user":"{user}","points":{},"source_type":"tts","source_id":"{}","until":"2026-02-01T00:00:00Z"}}"#,
                points.div_ceil(20),
                rng.u8(28..32)
            ),
            11 => format!(r#"{{"op":"release","user":"{user}","source_type":"tts","source_id":"{}"}}"#, rng.u8(28..32)),
            _ => format!(
                r#"{{"op":"consume","user":"{user}","points":{points},"source_type":"tts","source_id":"{}","at":"2026-01-0{}T00:00:00Z"}}"#,
                rng.u8(0..30),
                rng.u8(1..8)
            ),
        };
        lines.push(line);
    }
    lines
}

/// An input that comes in pieces of any size.
struct Pieces(Cursor<String>, fastrand::Rng);

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = self.1.usize(1..=buffer.len().min(200_000));
        self.0.read(&mut buffer[..most])
    }
}

fn answer(line: u64, reply: &Reply) -> String {
    format!("{line}: {reply:?}\n")
}

/// The replies to the lines, posted one after the other.
async fn post_in_order(session: &mut Session<Box<Client>>, lines: &[String]) -> String {
    let mut answers = Vec::new();
    let mut postings: Vec<(u64, Posting)> = Vec::new();
    for (line, number) in lines.iter().zip(1..) {
        if line.trim().is_empty() {
            continue;
        }
        match bulk::parse_json(line.as_bytes(), None, clock) {
            Ok(posting) => postings.push((number, posting)),
            Err(_) => answers.push((number, format!("{number}: malformed\n"))),
        }
    }
    for group in postings.chunks(100) {
        let (numbers, postings): (Vec<u64>, Vec<Posting>) = group.iter().cloned().unzip();
        let replies = session.post(&postings, &rules()).await.unwrap();
        answers.extend(numbers.iter().zip(&replies).map(|(number, reply)| (*number, answer(*number, reply))));
    }
    answers.sort();
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// Posts the lines, and returns their replies.
async fn post(poster: &Poster, input: impl Read + Send + 'static, sorted: usize) -> String {
    let mut answers = Vec::new();
    let write = |LineReply { line, reply, .. }: LineReply, out: &mut Vec<u8>| {
        let text = match &reply {
            Reply::Rejected(Refusal::Malformed(_)) => format!("{line}: malformed\n"),
            reply => answer(line, reply),
        };
        out.extend(text.into_bytes());
    };
    let on_replies = |text: Vec<u8>| {
        answers.extend(text);
        ready(Ok(()))
    };
    let form = Form { sorted, ..Form::from(Format::Ndjson) };
    bulk::post(input, form, poster, clock, &CancellationToken::new(), write, on_replies).await.unwrap();
    String::from_utf8(answers).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_posted_and_answered_as_if_it_were_not_sorted() {
    let mut rng = rng();
    let lines = lines(&mut rng, 5_000, 100);
    let in_order = TestDatabase::new().await;
    let expected = post_in_order(&mut in_order.session().await, &lines).await;
    let expected_rows = rows::Rows::read(&in_order.client().await).await;
    for kind in ["Posted(", "Replayed(", "Held(", "Released(", "KeyConflict", "malformed"] {
        assert!(expected.contains(kind), "none is {kind}");
    }
    for (buckets, sorted, lanes) in [(1, 64_000, 2), (64, 64_000, 3), (64, rng.usize(1..3_000), rng.usize(1..6))] {
        let database = TestDatabase::new().await;
        set_buckets(&database.client().await, buckets).await;
        let poster = Poster::start(&database.database().await, &Arc::new(rules()), lanes);
        let input = Pieces(Cursor::new(lines.join("\n")), rng.fork());
        let answers = post(&poster, input, sorted).await;
        let context = format!("{buckets} buckets, {sorted} lines sorted, {lanes} lanes");
        for (found, expected) in answers.lines().zip(expected.lines()) {
            assert_eq!(found, expected, "{context}");
        }
        assert_eq!(answers.len(), expected.len(), "{context}");
        rows::assert_same(&rows::Rows::read(&database.client().await).await, &expected_rows, &context);
        poster.close().await;
    }
}

/// The postings of each group.
#[derive(Debug, Default)]
struct Groups(Mutex<Vec<Vec<Posting>>>);

impl GroupObserver for Groups {
    fn group_ended(&self, postings: &[Posting], _: Result<&[Reply], &Error>, _: Duration) {
        self.0.lock().unwrap().push(postings.to_vec());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_of_one_bucket_and_of_neighbours() {
    let (mut rng, count, accounts) = (rng(), 20_000, 4_000);
    let line = |nth: usize| {
        let user = user(rng.u32(0..accounts));
        format!(r#"{{"op":"consume","user":"{user}","points":1,"source_type":"tts","source_id":"{nth}"}}"#) + "\n"
    };
    let text: String = (0..count).map(line).collect();
    let database = TestDatabase::new().await;
    let client = database.client().await;
    set_buckets(&client, 4).await;
    let buckets = Buckets::read(&client).await.unwrap();
    let groups = Arc::new(Groups::default());
    let observer = Arc::clone(&groups) as Arc<dyn GroupObserver>;
    let poster = Poster::start_for_calls(&database.database().await, &Arc::new(rules()), 2, &observer);
    let answers = post(&poster, Cursor::new(text), 64_000).await;
    assert_eq!(answers.matches(": Posted(").count(), count);
    let groups = groups.0.lock().unwrap();
    assert!(groups.iter().all(|group| group.len() <= 1_500), "a group is too large");
    let is_sorted = |group: &&Vec<Posting>| {
        let of: HashSet<i16> = group.iter().map(|posting| buckets.of(posting.user)).collect();
        of.len() == 1 && group.is_sorted_by_key(|posting| posting.user)
    };
    // The number of buckets is not known before the first group, and the first chunks are small.
    let sorted: usize = groups.iter().filter(is_sorted).map(Vec::len).sum();
    assert!(sorted * 2 > count, "{sorted} of {count} lines");
    let large = groups.iter().filter(is_sorted).filter(|group| group.len() >= 500).count();
    assert!(large * 1_500 > count / 2, "{large} groups are large");
}

/// Chunks of malformed lines alone are whole at once, and wait for the replies to the chunk before them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_line_is_answered_however_many_malformed_ones_follow_it() {
    let database = TestDatabase::new().await;
    let poster = Poster::start(&database.database().await, &Arc::new(rules()), 2);
    let user = user(1);
    for last in [1, 1_500, 2_500, 3_500] {
        let lines = (0..10).map(|nth| {
            let malformed = if nth == 9 { last } else { 3_500 };
            let id = format!("{last} {nth}");
            format!(r#"{{"op":"consume","user":"{user}","points":1,"source_type":"tts","source_id":"{id}"}}"#)
                + "\n"
                + &"malformed\n".repeat(malformed)
        });
        let text: String = lines.collect();
        let count = text.lines().count();
        let answers = tokio::time::timeout(Duration::from_secs(60), post(&poster, Cursor::new(text), 1)).await;
        let answers = answers.expect("it stands still");
        assert_eq!((answers.lines().count(), answers.matches(": Posted(").count()), (count, 10));
    }
    poster.close().await;
}
