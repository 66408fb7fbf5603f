//! Holds: that the functions which applications call in SQL and the library agree, and that together they never reserve more
//! than there is.

use pointsd::ledger::{Kind, Posting, Reference, Reply};
use tokio_postgres::Client;

use crate::histories::{self, Op};
use crate::model::{Answer, Model, rules};
use crate::support::invariants::check_invariants;
use crate::support::post_all;
use crate::support::rows::{Rows, assert_same};
use crate::{TestDatabase, at, rng, user};

/// What `pointsd.hold` or `pointsd.release` says to a posting: its status, or the code of a refusal.
async fn in_sql(client: &Client, posting: &Posting) -> String {
    let row = match &posting.kind {
        Kind::Hold { source_type, source_id, until } => {
            let call = "SELECT status, code FROM pointsd.hold($1, $2, $3, $4, $5, $6, $7)";
            let (user, points) = (posting.user, posting.points);
            client.query_one(call, &[&user, &points, source_type, source_id, until, &posting.key, &posting.at]).await
        }
        Kind::Release { hold } => {
            let call = "SELECT status, code FROM pointsd.release($1, $2, $3, $4)";
            let (source_type, source_id, key) = match hold {
                Reference::Work { source_type, source_id } => (Some(source_type), Some(source_id), None),
                Reference::Key(key) => (None, None, Some(key)),
                Reference::Order { .. } => panic!("no release has an order"),
            };
            client.query_one(call, &[&posting.user, &source_type, &source_id, &key]).await
        }
        _ => panic!("neither hold nor release: {posting:?}"),
    };
    let row = row.unwrap_or_else(|error| panic!("{posting:?}: {}", pointsd::errors::chain(&error)));
    row.get::<_, Option<String>>("code").unwrap_or_else(|| row.get("status"))
}

fn said(answer: &Answer) -> &'static str {
    match answer {
        Answer::Posted(_) => "posted",
        Answer::Held(_) => "held",
        Answer::Released(_) => "released",
        Answer::Replayed(_) | Answer::HoldReplayed(_) => "replayed",
        Answer::Rejected(code) => code,
    }
}

/// Holds and releases in SQL, all else by the library: the answers and the rows are the model's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_sql_as_the_model() {
    let mut rng = rng();
    let database = TestDatabase::new().await;
    let (client, mut session, rules) = (database.client().await, database.session().await, rules());
    let mut held = 0;
    for history in 0..25 {
        database.clear(&client).await;
        let mut model = Model::default();
        for op in histories::random(&mut rng, 100, 3) {
            let posting = match op {
                Op::Post(posting) => posting,
                Op::Sweep(at) => {
                    session.sweep(at, false, |_| true).await.unwrap();
                    model.sweep(at);
                    continue;
                }
            };
            // PostgreSQL takes no NUL at all, the functions take no description, and the model cuts to the microsecond where the driver
            // rounds.
            let text = format!("{posting:?}");
            let by_library = text.contains("\\0")
                || posting.description.is_some()
                || posting.at.timestamp_subsec_nanos() % 1_000 != 0;
            let expected = model.post(&posting);
            let found = match posting.kind {
                Kind::Hold { .. } | Kind::Release { .. } if !by_library => in_sql(&client, &posting).await,
                _ => {
                    let replies = session.post(std::slice::from_ref(&posting), &rules).await.unwrap();
                    said(&Answer::from(replies[0].clone())).to_owned()
                }
            };
            assert_eq!(found, said(&expected), "left found, right expected, history {history}, {posting:?}");
            held += usize::from(found == "held");
        }
        assert_same(&Rows::read(&client).await, &model.rows(), &format!("history {history}"));
        check_invariants(&client).await;
    }
    assert!(held > 20, "{held} holds prove little");
}

/// Many callers, in SQL and by the library, ask for more than there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_once_reserve_no_more_than_there_is() {
    let database = TestDatabase::new().await;
    let (mut session, begin) = (database.session().await, at("2026-01-01T00:00:00Z"));
    let until = at("2026-01-05T00:00:00Z");
    session.post(&[Posting::recharge(user(1), 500, "gift", begin).with_key("a")], &rules()).await.unwrap();
    let hold = move |nth: usize| Posting::hold(user(1), 100, "tts", format!("task {nth}"), until, begin);
    let poster = pointsd::ledger::Poster::start(&database.database().await, &std::sync::Arc::new(rules()), 2);
    let mut callers = Vec::new();
    for nth in 0..10 {
        let client = database.client().await;
        callers.push(tokio::spawn(async move { in_sql(&client, &hold(nth)).await == "held" }));
        let poster = poster.clone();
        callers.push(tokio::spawn(async move {
            let replies = post_all(&poster, vec![hold(10 + nth)]).await.unwrap();
            matches!(replies[0], Reply::Held(_))
        }));
    }
    let mut accepted = 0;
    for caller in callers {
        accepted += usize::from(caller.await.unwrap());
    }
    assert_eq!(accepted, 5);
    let balance = session.reader().balance(user(1), begin).await.unwrap();
    assert_eq!((balance.balance, balance.held, balance.available), (500, 500, 0));
    check_invariants(&database.client().await).await;
}

/// `tts` with `eu:17` and `tts:eu` with `17` are two pieces of work; a backslash does not help either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_default_key_stands_for_one_posting() {
    let database = TestDatabase::new().await;
    let (client, mut session, begin) = (database.client().await, database.session().await, at("2026-01-01T00:00:00Z"));
    let works = [("tts", "eu:17"), ("tts:eu", "17"), (r"tts\", ":eu:17"), (r"tts\:eu", "17"), (r"tts\\", "eu:17")];
    let consumes: Vec<Posting> =
        (works.iter()).map(|(kind, id)| Posting::consume(user(1), 1, *kind, *id, begin)).collect();
    let replies = session.post(&consumes, &rules()).await.unwrap();
    assert!(replies.iter().all(|reply| reply.status() == "posted"), "{replies:?}");
    for (source_type, source_id) in works {
        let call = "SELECT pointsd.key_id($1, pointsd.work_key($2, $3)) = key FROM pointsd.entries
                    WHERE source_type = $2 AND source_id = $3";
        let row = client.query_one(call, &[&user(1), &source_type, &source_id]).await.unwrap();
        assert!(row.get::<_, bool>(0), "the key of {source_type}, {source_id} in SQL");
    }
}

/// A transaction with an older snapshot must not read the holds as they were, even where a hold was only asked for anew or moved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_snapshot_reserves_nothing_twice() {
    let database = TestDatabase::new().await;
    let mut session = database.session().await;
    let (first, second) = (database.client().await, database.client().await);
    let day = |day: u32| at(&format!("2026-01-{day:02}T00:00:00Z"));
    session.post(&[Posting::recharge(user(1), 100, "gift", day(1)).with_key("a")], &rules()).await.unwrap();
    let hold = |task: &str, on: u32, until: u32| Posting::hold(user(1), 100, "tts", task, day(until), day(on));
    assert_eq!(in_sql(&first, &hold("one", 1, 2)).await, "held");
    // Over by time it is asked for anew; then it is moved.
    for (until, said, other_on) in [(5, "held", 4), (8, "replayed", 6)] {
        second.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM pointsd.accounts").await.unwrap();
        assert_eq!(in_sql(&first, &hold("one", 3, until)).await, said);
        let call = "SELECT status FROM pointsd.hold($1, 100, 'tts', 'other', $2, at => $3)";
        let late = second.query_one(call, &[&user(1), &day(9), &day(other_on)]).await;
        let code = late.expect_err("the snapshot is older").code().cloned();
        assert_eq!(code, Some(tokio_postgres::error::SqlState::T_R_SERIALIZATION_FAILURE), "until {until}");
        second.batch_execute("ROLLBACK").await.unwrap();
    }
    check_invariants(&first).await;
}
