//! Expired points, points due to expire, and the last forecast against the actual figures.

use chrono::{DateTime, TimeDelta, Utc};
use deadpool_postgres::Object;
use pointsd::config::Config;
use pointsd::document::{Cell, Document, Section, Tone};
use pointsd::ledger::{Posting, Reference, Sweep};
use pointsd::proof::Basis;
use pointsd::reports::Pipeline;
use pointsd::reports::expiry::Expiry;

use super::{
    AsOf, assert_complete, config, consume, database_time, hand, made_as_of, numbers, post, recharge, repair, swept,
    table,
};
use crate::program::Folder;
use crate::support::{TestDatabase, at};

/// Sweeps, then reports, as the job does.
async fn report(database: &TestDatabase, config: &Config, slot: DateTime<Utc>, disproved: bool) -> (Sweep, Document) {
    let sweep = swept(database, slot).await;
    let document = made(database, config, slot, &sweep, disproved).await;
    (sweep, document)
}

/// Makes and keeps the report on a sweep.
async fn made(
    database: &TestDatabase,
    config: &Config,
    slot: DateTime<Utc>,
    sweep: &Sweep,
    disproved: bool,
) -> Document {
    let database = database.database().await;
    let mut client = Object::take(database.connection().await.unwrap());
    let report = Expiry { sweep, disproved };
    let made = Pipeline { config, slot, run: 1 }.publish(&report, &mut client, &()).await.unwrap();
    database.close().await.unwrap();
    made.document
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compares_the_last_forecast_with_what_came_of_it() {
    for (language, chinese) in [("en", false), ("zh-CN", true)] {
        let (database, folder) = (TestDatabase::new().await, Folder::new());
        let config = config(&folder, "Europe/Paris", language);
        let mut session = database.session().await;
        let day = |day: u32| at(&format!("2026-03-{day:02}T01:00:00Z")); // 02:00 in Paris before the 29th
        let begin = at("2026-03-01T00:00:00Z");
        let first = [
            recharge(1, 100, "a", begin, at("2026-03-10T12:00:00Z")),
            recharge(2, 50, "a", begin, at("2026-03-11T01:00:00Z")), // the very end of the day
            recharge(3, 40, "a", begin, at("2026-03-11T01:00:00.000001Z")), // of the next
            recharge(4, 9, "a", begin, at("2026-03-09T00:00:00Z")),  // due at once
            recharge(5, 1_000, "a", begin, at("2026-07-09T00:00:00Z")),
        ];
        post(&mut session, &first, &config).await;
        let (sweep, document) = report(&database, &config, day(10), false).await;
        assert_eq!((sweep.points, document.tone), (9, Tone::Good));
        // Of the first report's past nothing is known but its own sweep.
        assert_eq!(table(&document, "expired").totals[1..], [1, 9, 0, 9].map(Some));
        assert_complete(&document, chinese);
        // 10 March is a Tuesday: this week's rest has it all, further on there is nothing for twelve weeks.
        let weeks = numbers(table(&document, "weeks"), 2);
        assert_eq!((weeks.len(), weeks[0], weeks[1..13].iter().sum::<i64>(), weeks[13]), (14, 190, 0, 1_000));
        assert_eq!(table(&document, "outstanding").totals[1..], [4, 1_190, 190, 190, 190].map(Some));

        // Spent: 30 of what would expire. Recharged: 7 that expire, of which 2 go at once. 20 expire on touch.
        let second = [
            consume(1, 30, "b", at("2026-03-10T11:00:00Z")),
            recharge(6, 7, "a", at("2026-03-10T11:00:00Z"), at("2026-03-10T20:00:00Z")),
            consume(6, 2, "b", at("2026-03-10T11:00:00Z")),
            consume(1, 1, "c", at("2026-03-10T13:00:00Z")), // finds the 70 due
            recharge(1, 11, "d", at("2026-03-10T13:00:00Z"), at("2026-03-10T21:00:00Z")), // settles 1
            consume(3, 4, "b", at("2026-03-10T13:00:00Z")), // of what the next report will look at
        ];
        post(&mut session, &second, &config).await;
        let (sweep, document) = report(&database, &config, day(11), false).await;
        assert_eq!(sweep.points, 50 + 5 + 10);
        let forecast = table(&document, "forecast");
        // Said 150, came 7 + 10, went 30 + 2, expired 70 by touch and 65 by the sweep.
        assert_eq!(forecast.totals[1..], [150, 17, 32, 135, 0, 0].map(Some), "{forecast:#?}");
        // What expired by source, the headline and the facts tell the same 135.
        assert_eq!(table(&document, "expired").totals[1..], [4, 65, 70, 135].map(Some));
        assert!(document.headline.contains("135 "), "{}", document.headline);
        let facts = document.facts[..4].iter().map(|fact| &fact.value).collect::<Vec<_>>();
        assert_eq!(facts, [135, 65, 70, 4].map(Cell::Number).each_ref());
        assert_complete(&document, chinese);
        // The next span begins where the last one ended.
        let (_, document) = report(&database, &config, day(12), false).await;
        assert_eq!(table(&document, "forecast").totals[1..], [36, 0, 0, 36, 0, 0].map(Some));
        assert_eq!(table(&document, "expired").totals[1..], [1, 36, 0, 36].map(Some));
        // Through the clock change, by the clock of the business: 02:00 on the 29th is 03:00.
        let (_, document) = report(&database, &config, at("2026-03-30T00:00:00Z"), false).await;
        assert_eq!(table(&document, "forecast").rows.len(), 18);
    }
}

/// A slot that is made up after a later one tells what expired since, and carries the later forecast on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_made_up_later_moves_no_forecast_back() {
    let (database, folder) = (TestDatabase::new().await, Folder::new());
    let config = config(&folder, "UTC", "en");
    let mut session = database.session().await;
    let slot = |day: u32| at(&format!("2026-03-{day:02}T02:00:00Z"));
    let postings: Vec<_> = (11..=14)
        .map(|day| recharge(1, i64::from(day), &day.to_string(), slot(1), slot(day) - TimeDelta::hours(1)))
        .collect();
    post(&mut session, &postings, &config).await;
    report(&database, &config, slot(10), false).await;
    report(&database, &config, slot(12), false).await;
    let (_, late) = report(&database, &config, slot(11), false).await;
    assert!(late.title.ends_with(" for the run of 11 March 2026, 02:00"), "{}", late.title);
    assert!(
        late.headline.contains("(prepared for the run of 11 March 2026): No points expired; 27 due"),
        "{}",
        late.headline
    );
    assert!(table(&late, "outstanding").note.ends_with("counted from 12 March 2026, 02:00."), "{late:?}");
    let kept: DateTime<Utc> =
        database.client().await.query_one("SELECT max(slot) FROM pointsd.expiry_forecast", &[]).await.unwrap().get(0);
    assert_eq!(kept, slot(12));
    // The next night compares with the forecast of the 12th, and tells what expired once.
    let (_, next) = report(&database, &config, slot(13), false).await;
    let forecast = table(&next, "forecast");
    assert_eq!(forecast.rows.len(), 1, "{forecast:?}");
    assert_eq!(forecast.rows[0][..2], [Cell::Instant(slot(13)), Cell::Number(13)]);
    assert_eq!(forecast.rows[0].last(), Some(&Cell::Number(0)));
    assert!(next.headline.contains("13 points expired (1 batch)"), "{}", next.headline);
}

/// 11 points expired on the day before the last report, 12 on it after that, and 13 after the day.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_expired_is_bridged_to_the_business_day() {
    let (database, folder) = (TestDatabase::new().await, Folder::new());
    let config = config(&folder, "UTC", "en");
    let mut session = database.session().await;
    let slot = |day: u32| at(&format!("2026-03-{day:02}T02:00:00Z"));
    let postings: Vec<_> = (11..=13)
        .map(|day| recharge(1, i64::from(day), &day.to_string(), slot(1), slot(day) - TimeDelta::hours(1)))
        .collect();
    post(&mut session, &postings, &config).await;
    report(&database, &config, slot(10), false).await;
    let sweep = swept(&database, slot(13)).await;
    let sql = "ALTER TABLE pointsd.entries DISABLE TRIGGER entries_never_change;
               UPDATE pointsd.entries SET recorded_at = (ARRAY['2026-03-01T00:00Z', '2026-03-01T00:00Z',
                   '2026-03-01T00:00Z', '2026-03-11T01:00Z', '2026-03-11T15:00Z', '2026-03-12T01:00Z'])[seq]::timestamptz;
               ALTER TABLE pointsd.entries ENABLE ALWAYS TRIGGER entries_never_change;
               UPDATE pointsd.expiry_forecast SET as_of = '2026-03-11T02:00:05Z'";
    database.client().await.batch_execute(sql).await.unwrap();
    let as_of = slot(12) + TimeDelta::seconds(5);
    let made = made_as_of(&database, &config, slot(12), AsOf(as_of, Expiry { sweep: &sweep, disproved: false })).await;
    let bridge = table(&made.document, "bridge");
    assert_eq!(bridge.title, "From this report to the business day 11 March 2026");
    assert_eq!(numbers(bridge, 1), [12 + 13, -13, 11, 11 + 12]);
    assert_complete(&made.document, false);
}

/// Refunds, voids and restores stand beside what was issued, used and expired.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_back_and_what_was_taken_back_have_columns_of_their_own() {
    for (language, chinese) in [("en", false), ("zh-CN", true)] {
        let (database, folder) = (TestDatabase::new().await, Folder::new());
        let config = config(&folder, "UTC", language);
        let (mut session, client) = (database.session().await, database.client().await);
        let hour = |day: u32, hour: u32| at(&format!("2026-03-{day:02}T{hour:02}:00:00Z"));
        let (begin, end) = (at("2026-02-01T00:00:00Z"), hour(10, 12));
        let task = |id: &str| Reference::Work { source_type: "tts".to_owned(), source_id: id.to_owned() };
        let user = crate::support::user;
        let first = [
            recharge(1, 100, "a", begin, end),
            recharge(2, 50, "a", begin, end),
            recharge(3, 30, "a", begin, end),
            consume(3, 10, "b", begin),
        ];
        post(&mut session, &first, &config).await;
        report(&database, &config, hour(10, 0), false).await;
        let second = [
            consume(1, 1, "b", hour(10, 13)),     // finds the 100 due
            consume(1, 40, "late", hour(10, 11)), // restores 40
            Posting::void(user(2), Reference::Key("a".to_owned()), hour(10, 11)).with_points(20),
            Posting::refund(user(3), task("b"), begin), // expires with its batch: that is later than after 30 days
        ];
        post(&mut session, &second, &config).await;
        let cutoff = database_time(&client).await;
        let (_, document) = report(&database, &config, hour(11, 0), false).await;
        // Forecast 170, refunded 10, used 40, voided 20, restored 40; expired 100 by touch and 60 by the sweep.
        let forecast = table(&document, "forecast");
        assert_eq!(forecast.totals[1..], [170, 0, 10, 40, 20, 40, 160, 0, 0].map(Some), "{forecast:#?}");
        assert_eq!(table(&document, "expired").totals[1..], [4, 60, 100, 160, 40].map(Some));
        assert!(document.facts.iter().any(|fact| fact.value == Cell::Number(40)), "{:#?}", document.facts);
        assert_eq!(document.tone, Tone::Good);
        assert_complete(&document, chinese);

        // Points of an earlier night are restored and used, which the forecast of no later day saw.
        let third = [
            consume(2, 10, "late", hour(10, 11)),
            Posting::refund(user(1), task("late"), hour(11, 1)),
            recharge(4, 7, "a", begin, hour(20, 0)),
            Posting::void(user(4), Reference::Key("a".to_owned()), hour(11, 1)),
        ];
        post(&mut session, &third, &config).await;
        let (_, document) = report(&database, &config, hour(12, 0), false).await;
        assert_eq!(table(&document, "forecast").totals[1..], [0, 0, 10, 10, 0, 0, 0].map(Some));
        assert_eq!(table(&document, "expired").totals[1..], [0, 0, 0, 0, 10].map(Some));
        assert_eq!(document.tone, Tone::Good);
        assert_complete(&document, chinese);

        // As of the second report's postings, all that came later is taken back.
        let sweep = Sweep::default();
        let expiry = Expiry { sweep: &sweep, disproved: false };
        let before = made_as_of(&database, &config, hour(11, 0), AsOf(cutoff, expiry)).await;
        assert_eq!(table(&before.document, "outstanding").totals[1..3], [3, 30 + 20 + 10].map(Some));
    }
}

/// With postings later than the slot and late recharges, every expiry is reported exactly once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_expired_is_told_once_whatever_day_it_is_of() {
    for (language, chinese) in [("en", false), ("zh-CN", true)] {
        let (database, folder) = (TestDatabase::new().await, Folder::new());
        let config = config(&folder, "UTC", language);
        let mut session = database.session().await;
        let day = |day: u32| at(&format!("2026-03-{day:02}T00:00:00Z"));
        let first = [
            recharge(1, 100, "a", day(1), at("2026-03-11T00:00:30Z")),
            recharge(2, 40, "a", day(1), at("2026-09-01T00:00:00Z")),
        ];
        post(&mut session, &first, &config).await;
        report(&database, &config, day(10), false).await;
        let second = [
            consume(1, 1, "b", at("2026-03-11T00:01:00Z")), // past the slot of the report that it comes before
            consume(2, 1, "b", at("2026-09-01T00:00:00Z")), // further than a forecast goes
            recharge(3, 7, "a", day(1), day(9)),            // due at the last slot, when it was not there
        ];
        post(&mut session, &second, &config).await;
        let (sweep, document) = report(&database, &config, day(11), false).await;
        assert_eq!(sweep.points, 7);
        let told = |document: &Document| {
            let (forecast, expired) = (table(document, "forecast"), table(document, "expired"));
            assert_eq!(forecast.totals[4], expired.totals[4], "{document:#?}");
            (expired.totals[2..].to_vec(), forecast.rows.iter().map(|row| row[4].clone()).collect::<Vec<_>>())
        };
        assert_eq!(told(&document), ([7, 140, 147].map(Some).to_vec(), [7, 0, 140].map(Cell::Number).to_vec()));
        assert!(table(&document, "forecast").rows[2][0] != Cell::Empty && document.tone == Tone::Good, "{document:#?}");
        assert_complete(&document, chinese);
        let (_, document) = report(&database, &config, day(12), false).await;
        assert_eq!(told(&document), ([0, 0, 0].map(Some).to_vec(), [0].map(Cell::Number).to_vec()));
        assert_complete(&document, chinese);
    }
}

/// A correction has its own column. A manual change in the span is reported, repaired or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_of_what_the_forecast_saw_is_a_correction() {
    for (language, chinese) in [("en", false), ("zh-CN", true)] {
        let (mut database, folder) = (TestDatabase::new().await, Folder::new());
        database.expect_damage();
        let config = config(&folder, "UTC", language);
        let (mut session, mut client) = (database.session().await, database.client().await);
        let day = |day: u32| at(&format!("2026-03-{day:02}T00:00:00Z"));
        let first = [
            recharge(1, 100, "a", day(1), day(11)),
            recharge(2, 50, "a", day(1), day(11)),
            recharge(3, 40, "a", day(1), day(12)),
            recharge(4, 60, "a", day(1), day(12)),
        ];
        post(&mut session, &first, &config).await;
        hand(&client, 1, 30, Some(1)).await;
        hand(&client, 2, 5, Some(1)).await;
        report(&database, &config, day(10), false).await;
        repair(&mut client, 1, Basis::Entries).await;
        repair(&mut client, 2, Basis::Balances).await;
        let (_, document) = report(&database, &config, day(11), false).await;
        // The forecast was 70 and 45; 100 and 45 expired.
        let forecast = table(&document, "forecast");
        assert_eq!(forecast.totals[1..], [115, 0, 0, 30, 145, 0, 0].map(Some), "{forecast:#?}");
        assert_eq!((forecast.columns.len(), forecast.rows[0].len()), (8, 8));
        assert_eq!(document.tone, Tone::Good, "{document:#?}");
        assert_complete(&document, chinese);

        // A manual change takes 12 points and a repair puts them back; another takes 4.
        hand(&client, 3, 12, Some(1)).await;
        repair(&mut client, 3, Basis::Entries).await;
        hand(&client, 4, 4, Some(1)).await;
        let (_, document) = report(&database, &config, day(12), false).await;
        assert_eq!(table(&document, "forecast").totals[1..], [100, 0, 0, 12, 96, 0, 16].map(Some));
        assert_eq!(document.tone, Tone::Bad);
        let says = match chinese {
            false => {
                ["; unreconciled difference in the last forecast", "do not explain 16 points of the last forecast"]
            }
            true => ["；上次预测存在未调节差额", "有 16 积分没有对应分录"],
        };
        assert_says(&document, says);
        assert_complete(&document, chinese);
    }
}

/// A repair after the cutoff is in the snapshot, but not in the report: that shows the batches before the repair.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_after_the_cutoff_is_left_to_the_next_report() {
    let (mut database, folder) = (TestDatabase::new().await, Folder::new());
    database.expect_damage();
    let config = config(&folder, "UTC", "en");
    let (mut session, mut client) = (database.session().await, database.client().await);
    let day = |day: u32| at(&format!("2026-03-{day:02}T00:00:00Z"));
    let postings = [100, 50, 40].map(|points| recharge(points, i64::from(points), "a", day(1), day(12)));
    post(&mut session, &postings, &config).await;
    hand(&client, 100, 30, Some(1)).await;
    hand(&client, 50, 5, Some(1)).await;
    hand(&client, 40, 40, Some(1)).await; // closes the batch
    let cutoff = database_time(&client).await;
    repair(&mut client, 100, Basis::Entries).await;
    repair(&mut client, 50, Basis::Balances).await;
    repair(&mut client, 40, Basis::Entries).await; // opens it again
    let sweep = Sweep::default();
    let expiry = Expiry { sweep: &sweep, disproved: false };
    let before = made_as_of(&database, &config, day(10), AsOf(cutoff, expiry)).await;
    // Open batches, and their points.
    assert_eq!(table(&before.document, "outstanding").totals[1..3], [2, 70 + 45].map(Some));
    let after = made(&database, &config, day(10), &sweep, false).await;
    assert_eq!(table(&after, "outstanding").totals[1..3], [3, 100 + 45 + 40].map(Some));
}

/// The subject names the problem, and the first section the reason.
#[track_caller]
fn assert_says(document: &Document, [subject, reason]: [&str; 2]) {
    assert!(document.headline.contains(subject), "{}", document.headline);
    let Section::Text { paragraphs, .. } = &document.sections[0] else { panic!("{document:#?}") };
    assert!(paragraphs.iter().any(|text| text.contains(reason)), "{paragraphs:#?}");
}

/// What comes for an account after the sweep had been there is told with what becomes of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tells_what_was_due_and_is_still_there() {
    for (language, chinese) in [("en", false), ("zh-CN", true)] {
        let (database, folder) = (TestDatabase::new().await, Folder::new());
        let config = config(&folder, "UTC", language);
        let mut session = database.session().await;
        let day = |day: u32| at(&format!("2026-03-{day:02}T00:00:00Z"));
        post(&mut session, &[recharge(1, 5, "a", day(1), day(9)), recharge(2, 1, "a", day(1), day(20))], &config).await;
        let document = made(&database, &config, day(10), &Sweep::default(), false).await;
        assert_eq!(document.tone, Tone::Attention);
        let says = match chinese {
            false => ["; overdue points not yet expired", "5 points in 1 batch, due at this run and not yet expired"],
            true => ["；有已到期未处理的积分", "1 个批次共 5 积分在计划时间已到期"],
        };
        assert_says(&document, says);
        assert_complete(&document, chinese);
        let (_, document) = report(&database, &config, day(11), false).await;
        assert_eq!(document.tone, Tone::Good);
        assert_eq!(table(&document, "forecast").totals[1..], [5, 0, 0, 5, 0, 0].map(Some));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tells_batches_without_an_account_and_a_count_that_does_not_hold() {
    let (mut database, folder) = (TestDatabase::new().await, Folder::new());
    database.expect_damage();
    let config = config(&folder, "UTC", "en");
    let mut session = database.session().await;
    let (begin, end) = (at("2026-03-01T00:00:00Z"), at("2026-03-10T00:00:00Z"));
    post(&mut session, &[recharge(1, 5, "a", begin, end), recharge(2, 6, "a", begin, end)], &config).await;
    let delete = "DELETE FROM pointsd.accounts WHERE user_id = $1";
    session.client().execute(delete, &[&crate::support::user(1)]).await.unwrap();
    let (sweep, document) = report(&database, &config, end, true).await;
    assert_eq!((sweep.orphaned, document.tone), (1, Tone::Bad));
    assert_eq!(numbers(table(&document, "without-account"), 2), [5]);
    assert_says(
        &document,
        ["; the nightly run's count differs from its entries", "`pointsd runs --job expiry` shows both"],
    );
    assert_complete(&document, false);
}
