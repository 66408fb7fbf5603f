//! The hard places of a group: lines that depend on each other, and groups that meet.

use chrono::{DateTime, Utc};
use futures_util::future::join;
use pointsd::ledger::{Kind, Posting, Reference, Reply};
use tokio_postgres::Client;

use crate::model::rules;
use crate::support::invariants::check_invariants;
use crate::support::rows::Rows;
use crate::{TestDatabase, at, user};

type Session = pointsd::ledger::Session<Box<Client>>;

fn day(day: u32) -> DateTime<Utc> {
    at(&format!("2026-01-{day:02}T00:00:00Z"))
}

/// A recharge by user 1 on a day, which expires on a later one.
fn recharge(key: &str, points: i64, on: u32, expires: u32) -> Posting {
    let mut posting = Posting::recharge(user(1), points, "gift", day(on)).with_key(key);
    if let Kind::Recharge { expires_at, .. } = &mut posting.kind {
        *expires_at = Some(day(expires));
    }
    posting
}

fn consume(task: &str, points: i64, on: u32) -> Posting {
    Posting::consume(user(1), points, "tts", task, day(on))
}

/// Lines that are posted one by one, then a group; what the group was told, and the whole history.
struct Case {
    before: Vec<Posting>,
    group: Vec<Posting>,
    replies: &'static [&'static str],
    history: &'static [&'static str],
}

async fn check(cases: impl IntoIterator<Item = Case>) {
    let database = TestDatabase::new().await;
    let (client, mut session) = (database.client().await, database.session().await);
    for Case { before, group, replies, history } in cases {
        database.clear(&client).await;
        for posting in before {
            let replies = session.post(&[posting], &rules()).await.unwrap();
            assert!(matches!(replies[..], [Reply::Posted(_)]), "{replies:?}");
        }
        let found: Vec<String> = session.post(&group, &rules()).await.unwrap().iter().map(shown).collect();
        assert_eq!(found, replies, "{group:#?}");
        let rows = Rows::read(&client).await;
        let lines = rows.entries.iter().map(|entry| {
            let drawn: Vec<String> = entry.allocations.iter().map(|a| format!("{}:{}", a.batch, a.points)).collect();
            format!("{} {} {} = {} [{}]", entry.seq, entry.kind, entry.amount, entry.balance_after, drawn.join(" "))
        });
        assert_eq!(lines.collect::<Vec<_>>(), history, "{group:#?}");
        check_invariants(&client).await;
    }
}

/// The code of a refusal, or the status of a reply with the number of its entry.
pub fn shown(reply: &Reply) -> String {
    match (reply.refusal(), reply.entry()) {
        (Some(refusal), _) => refusal.code().to_owned(),
        (None, Some(entry)) => format!("{} {}", reply.status(), entry.seq),
        (None, None) => reply.status().to_owned(),
    }
}

/// Another service posted a consume and a recharge. The user has no account in this ledger.
#[tokio::test]
async fn postings_of_an_adopted_service_replay_by_their_keys() {
    let database = TestDatabase::new().await;
    let (client, mut session) = (database.client().await, database.session().await);
    let adopted = format!(
        "INSERT INTO pointsd.adopted_transactions (user_id, id, amount, balance_before, balance_after, at, type, source_type, source_id, duration)
         VALUES ('{user}', 1, 30, 50, 20, '2025-12-01T00:00:00Z', 'consume', 'tts', 'a', 'NaN'),
                ('{user}', 2, 50, 0, 50, '2025-11-01T00:00:00Z', 'recharge', 'weixin', '7', NULL);
         INSERT INTO pointsd.adopted_keys (bucket, key, transaction)
         VALUES (pointsd.bucket_of('{user}'), pointsd.key_id('{user}', 'consume:tts:a'), 1),
                (pointsd.bucket_of('{user}'), pointsd.key_id('{user}', 'recharge:gift:7'), 2)",
        user = user(1)
    );
    client.batch_execute(&adopted).await.unwrap();
    let order = |points| {
        let mut posting = Posting::recharge(user(1), points, "gift", day(1));
        if let Kind::Recharge { order_id, .. } = &mut posting.kind {
            *order_id = Some(7);
        }
        posting
    };
    let order_named = Reference::Order { source: "gift".to_owned(), order_id: 7 };
    let group = [
        consume("a", 30, 1),
        consume("a", 31, 1),
        order(50),
        order(51),
        hold("a", 30, 1, 2),
        Posting::refund(user(1), work("a"), day(1)),
        Posting::void(user(1), order_named, day(1)),
    ];
    let replies = session.post(&group, &rules()).await.unwrap();
    let told: Vec<String> = replies.iter().map(shown).collect();
    let refused = "before_the_ledger";
    assert_eq!(
        told,
        ["replayed 0", "key_conflict", "replayed 0", "key_conflict", "key_conflict", refused, refused],
        "{replies:#?}"
    );
    let entry = replies[0].entry().unwrap();
    assert_eq!((entry.amount, entry.balance_after, entry.at), (30, 20, at("2025-12-01T00:00:00Z")));
    assert!(Rows::read(&client).await.entries.is_empty());
    // Other postings of the user open the account, and the keys stay known.
    let group = [recharge("r", 40, 1, 20), consume("b", 5, 2), consume("a", 30, 2)];
    let told: Vec<String> = session.post(&group, &rules()).await.unwrap().iter().map(shown).collect();
    assert_eq!(told, ["posted 1", "posted 2", "replayed 0"]);
    check_invariants(&client).await;
}

fn hold(task: &str, points: i64, on: u32, until: u32) -> Posting {
    Posting::hold(user(1), points, "tts", task, day(until), day(on))
}

pub fn work(task: &str) -> Reference {
    Reference::Work { source_type: "tts".to_owned(), source_id: task.to_owned() }
}

fn refund(task: &str, on: u32) -> Posting {
    Posting::refund(user(1), work(task), day(on))
}

fn void(key: &str, on: u32) -> Posting {
    Posting::void(user(1), Reference::Key(key.to_owned()), day(on))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_a_hold_was_for() {
    check([
        // The work is posted after its points have expired, and again, and is refunded.
        Case {
            before: vec![recharge("a", 10, 1, 5)],
            group: vec![
                hold("x", 6, 2, 20),
                consume("new", 1, 6),
                consume("x", 7, 8),
                consume("x", 7, 9),
                refund("x", 10),
                hold("x", 6, 10, 20),
            ],
            replies: &["held", "posted 3", "posted 5", "replayed 5", "posted 6", "key_conflict"],
            history: &[
                "1 recharge 10 = 10 []",
                "2 expire 10 = 0 [1:10]",
                "3 consume 1 = -1 []",
                "4 restore 7 = 6 [1:7]",
                "5 consume 7 = -1 [1:7]",
                "6 refund 7 = 6 [2:1]",
            ],
        },
        // The hold was over by time: the work is done, so it is dated back all the same. A released one is not.
        Case {
            before: vec![recharge("a", 10, 1, 5)],
            group: vec![
                hold("x", 6, 2, 3),
                hold("y", 6, 4, 8),
                Posting::release(user(1), work("y"), day(4)),
                consume("x", 4, 7),
                consume("y", 4, 7),
            ],
            replies: &["held", "held", "released", "posted 2", "posted 4"],
            history: &["1 recharge 10 = 10 []", "2 consume 4 = 6 [1:4]", "3 expire 6 = 0 [1:6]", "4 consume 4 = -4 []"],
        },
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_back_and_what_is_taken_back() {
    check([
        // The refunded points are used, and that work is refunded, too.
        Case {
            before: vec![recharge("a", 10, 1, 9), consume("x", 10, 2)],
            group: vec![refund("x", 3), consume("y", 8, 4), refund("y", 5), refund("y", 6).with_key("again")],
            replies: &["posted 3", "posted 4", "posted 5", "exceeds_consumed"],
            history: &[
                "1 recharge 10 = 10 []",
                "2 consume 10 = 0 [1:10]",
                "3 refund 10 = 10 []",
                "4 consume 8 = 2 [2:8]",
                "5 refund 8 = 10 []",
            ],
        },
        // The recharge had settled a debt, which stands again.
        Case {
            before: vec![consume("x", 6, 1), recharge("a", 10, 2, 9), recharge("b", 3, 2, 9)],
            group: vec![void("a", 3), void("a", 3), void("a", 3).with_key("again"), void("x", 3), void("nothing", 3)],
            replies: &["posted 4", "replayed 4", "nothing_left", "unknown_entry", "unknown_entry"],
            history: &[
                "1 consume 6 = -6 []",
                "2 recharge 10 = 4 [1:6]",
                "3 recharge 3 = 7 []",
                "4 void 10 = -3 [1:4 2:3]",
            ],
        },
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_that_depend_on_each_other() {
    let of_user_2 = |mut posting: Posting| {
        posting.user = user(2);
        posting
    };
    check([
        Case { before: vec![], group: vec![], replies: &[], history: &[] },
        // One key twice.
        Case {
            before: vec![],
            group: vec![
                recharge("a", 10, 1, 9),
                recharge("a", 10, 2, 8),
                recharge("a", 11, 1, 9),
                consume("a", 10, 1).with_key("a"),
            ],
            replies: &["posted 1", "replayed 1", "key_conflict", "key_conflict"],
            history: &["1 recharge 10 = 10 []"],
        },
        // One key of two users is two keys.
        Case {
            before: vec![],
            group: vec![recharge("a", 10, 1, 9), of_user_2(recharge("a", 11, 1, 9))],
            replies: &["posted 1", "posted 1"],
            history: &["1 recharge 10 = 10 []", "1 recharge 11 = 11 []"],
        },
        // A batch expires between two lines. For an earlier line as many points as it needs are restored.
        Case {
            before: vec![recharge("a", 10, 1, 5), recharge("b", 10, 1, 9)],
            group: vec![consume("x", 3, 4), consume("y", 3, 5), consume("z", 3, 4)],
            replies: &["posted 3", "posted 5", "posted 7"],
            history: &[
                "1 recharge 10 = 10 []",
                "2 recharge 10 = 20 []",
                "3 consume 3 = 17 [1:3]",
                "4 expire 7 = 10 [1:7]",
                "5 consume 3 = 7 [2:3]",
                "6 restore 3 = 10 [1:3]",
                "7 consume 3 = 7 [1:3]",
            ],
        },
        // A batch opens, is drawn and expires.
        Case {
            before: vec![],
            group: vec![recharge("a", 10, 1, 3), consume("x", 4, 2), consume("y", 4, 3), recharge("b", 9, 3, 9)],
            replies: &["posted 1", "posted 2", "posted 4", "posted 5"],
            history: &[
                "1 recharge 10 = 10 []",
                "2 consume 4 = 6 [1:4]",
                "3 expire 6 = 0 [1:6]",
                "4 consume 4 = -4 []",
                "5 recharge 9 = 5 [2:4]",
            ],
        },
        // A debt, the recharge that settles it, and the consume that needs the rest.
        Case {
            before: vec![consume("w", 5, 1)],
            group: vec![recharge("a", 10, 1, 9), consume("x", 5, 1), consume("y", 1, 1), recharge("b", 1, 1, 9)],
            replies: &["posted 2", "posted 3", "posted 4", "posted 5"],
            history: &[
                "1 consume 5 = -5 []",
                "2 recharge 10 = 5 [1:5]",
                "3 consume 5 = 0 [1:5]",
                "4 consume 1 = -1 []",
                "5 recharge 1 = 0 [2:1]",
            ],
        },
    ])
    .await;
}

/// The batch of 10 points is past its time, and stays open: nothing was posted that touches it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_and_a_refusal_expire_nothing() {
    let lines: [(_, &[&str]); 5] = [
        (consume("x", 4, 9), &["replayed 2"]),
        (recharge("a", 10, 9, 20), &["replayed 1"]),
        (consume("x", 5, 9), &["key_conflict"]),
        (recharge("c", 10, 9, 9), &["already_expired"]),
        (recharge("c", 0, 9, 20), &["invalid_points"]),
    ];
    check(lines.map(|(line, replies)| Case {
        before: vec![recharge("a", 10, 1, 5), consume("x", 4, 2)],
        group: vec![line],
        replies,
        history: &["1 recharge 10 = 10 []", "2 consume 4 = 6 [1:4]"],
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_opens_no_account_and_disturbs_no_neighbour() {
    let of = |nth: u32, mut posting: Posting| {
        posting.user = user(nth);
        posting
    };
    let database = TestDatabase::new().await;
    let mut session = database.session().await;
    let group = [
        of(1, recharge("a", 10, 3, 3)),
        of(2, consume("x", 0, 1)),
        of(3, recharge("b", 10, 1, 3)),
        of(1, recharge("c", -1, 1, 3)),
        of(3, consume("y", 1, 2)),
    ];
    let found: Vec<String> = session.post(&group, &rules()).await.unwrap().iter().map(shown).collect();
    assert_eq!(found, ["already_expired", "invalid_points", "posted 1", "invalid_points", "posted 2"]);
    let users: Vec<_> = Rows::read(&database.client().await).await.accounts.iter().map(|row| row.user).collect();
    assert_eq!(users, [user(3)]);
}

/// A later reply to the same posting is the first one, whatever has happened meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_tells_the_first_entry() {
    let database = TestDatabase::new().await;
    let mut session = database.session().await;
    let mut posting = consume("x", 4, 2);
    posting.description = Some("第一 \\ \" ' {}".to_owned());
    if let Kind::Consume { duration, .. } = &mut posting.kind {
        *duration = Some("12.3400".parse().unwrap());
    }
    let first = session.post(&[recharge("a", 10, 1, 5), posting.clone()], &rules()).await.unwrap();
    session.post(&[consume("y", 90, 6)], &rules()).await.unwrap();
    let Reply::Posted(entry) = &first[1] else { panic!("{first:?}") };
    assert_eq!(session.post(&[posting], &rules()).await.unwrap(), [Reply::Replayed(entry.clone())]);
}

/// Posts one group from each of two sessions at the same moment, for many rounds.
async fn meet(rounds: u32, groups: impl Fn(u32) -> [Vec<Posting>; 2]) -> Rows {
    let database = TestDatabase::new().await;
    let (mut one, mut two): (Session, Session) = (database.session().await, database.session().await);
    for round in 0..rounds {
        let [first, second] = groups(round);
        let sent = first.len() + second.len();
        let together = tokio::spawn(async move {
            let rules = rules();
            let (posted, also_posted) = join(one.post(&first, &rules), two.post(&second, &rules)).await;
            (posted.unwrap().into_iter().chain(also_posted.unwrap()).collect::<Vec<_>>(), one, two)
        });
        let (replies, one_again, two_again) = together.await.unwrap();
        (one, two) = (one_again, two_again);
        let posted = replies.iter().filter(|reply| matches!(reply, Reply::Posted(_))).count();
        assert_eq!(posted, sent, "round {round}: {replies:?}");
    }
    Rows::read(&database.client().await).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_groups_over_the_same_accounts_in_opposite_order() {
    const USERS: u32 = 20;
    const ROUNDS: u32 = 150;
    let rows = meet(ROUNDS, |round| {
        let post = |nth, who: &str| Posting::consume(user(nth), 1, "tts", format!("{who} {round}"), day(1));
        [(0..USERS).map(|nth| post(nth, "one")).collect(), (0..USERS).rev().map(|nth| post(nth, "two")).collect()]
    })
    .await;
    assert_eq!(rows.accounts.len(), USERS as usize);
    assert!(rows.accounts.iter().all(|account| account.last_seq == i64::from(2 * ROUNDS)), "{:?}", rows.accounts);
}

/// Both find the accounts missing. The second one decides again on what the first one left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_groups_open_the_same_accounts() {
    const ROUNDS: u32 = 150;
    let rows = meet(ROUNDS, |round| {
        let recharge = |nth| Posting::recharge(user(3 * round + nth), 5, "gift", day(1)).with_key("a");
        let consume = |nth| Posting::consume(user(3 * round + nth), 3, "tts", "x", day(1));
        [vec![recharge(0), recharge(1), recharge(2)], vec![consume(2), consume(0), consume(1)]]
    })
    .await;
    assert_eq!(rows.accounts.len(), 3 * ROUNDS as usize);
    for account in &rows.accounts {
        assert_eq!((account.balance, account.last_seq, account.last_batch), (2, 2, 1), "{account:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_a_hand_deleted_is_refused_and_its_neighbours_post() {
    let mut database = TestDatabase::new().await;
    let (client, mut session, rules) = (database.client().await, database.session().await, rules());
    session.post(&[recharge("a", 5, 1, 20)], &rules).await.unwrap();
    client.execute("DELETE FROM pointsd.accounts", &[]).await.unwrap();
    let neighbour = Posting::consume(user(2), 3, "tts", "t", day(2));
    let group = [consume("t", 1, 2), recharge("b", 5, 2, 20), neighbour];
    let replies = session.post(&group, &rules).await.unwrap();
    let codes: Vec<_> = replies
        .iter()
        .map(|reply| match reply {
            Reply::Rejected(refusal) => refusal.code(),
            _ => "in the books",
        })
        .collect();
    assert_eq!(codes, ["account_missing", "account_missing", "in the books"]);
    let rows = Rows::read(&client).await;
    assert_eq!((rows.accounts.len(), rows.batches.len()), (1, 1));
    database.expect_damage();
}
