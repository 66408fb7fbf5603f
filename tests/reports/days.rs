//! The books of business days: compared with a count entry by entry, and the findings when they are wrong.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use num_rational::Ratio;
use pointsd::books::{
    Accounts, Books, MoneyBooked, MoneyMovement, MoneyMovements, Movement, Movements, Place, RollForward,
    RunningTotals, close_days, journal_lines, load_days, load_last_day, load_sealed, lock_days, seal_days, tie_out,
};
use pointsd::config::Config;
use pointsd::ledger::{Kind, NEVER, Opening, Posting, Reference, Rules};
use pointsd::proof::{Asked, Finding, Lane, Proof, prove};
use pointsd::time::{Zone, start_of_day};
use tokio_postgres::Client;

use crate::program::{DEFAULTS, call, until_found};
use crate::support::{TestDatabase, at, rng, user};

/// Its clocks go forward on 29 March 2026, among the days that the tests record.
fn zone(name: &str) -> Zone {
    name.parse().unwrap()
}

fn paris() -> Zone {
    zone("Europe/Paris")
}
const SOURCES: [&str; 3] = ["wxpay", "gift", "card"];
const USERS: u32 = 6;

fn rules() -> Rules {
    Rules::from(&Config::load(Some(DEFAULTS.as_ref()), None).unwrap())
}

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

/// Posts random recharges, consumes, refunds and voids with many arrears, expiries and late consumes, and sweeps now and then.
async fn post_random(database: &TestDatabase, rng: &mut fastrand::Rng, postings: std::ops::Range<usize>) {
    let (mut session, rules) = (database.session().await, rules());
    let mut clock = at("2026-03-20T00:00:00Z") + TimeDelta::hours(3 * postings.start as i64);
    let last = format!("last of {postings:?}");
    let mut posted: Vec<Posting> = Vec::new();
    if postings.start == 0 {
        let points = |id: &str, source: &str| Opening::Points {
            id: id.to_owned(),
            source: source.to_owned(),
            expires_at: Some(NEVER),
            paid: None,
        };
        let brought = [
            Posting::opening(user(0), 120, points("1", "card"), clock).with_paid(777, "CNY".parse().unwrap()),
            Posting::opening(user(0), 30, points("2", "gift"), clock),
            Posting::opening(user(1), 70, Opening::Debt, clock),
        ];
        session.post(&brought, &rules).await.unwrap();
    }
    for nth in postings {
        clock += TimeDelta::hours(rng.i64(0..6));
        let user = user(rng.u32(..USERS));
        let earlier = if posted.is_empty() { None } else { Some(&posted[rng.usize(..posted.len())]) };
        let posting = if let (0..25, Some(earlier)) = (rng.u8(..100), earlier) {
            let reference = Reference::Key(earlier.key.clone().or(earlier.default_key()).unwrap());
            let back = match &earlier.kind {
                Kind::Consume { .. } => Posting::refund(earlier.user, reference, clock),
                _ => Posting::void(earlier.user, reference, clock),
            };
            // Some ask for more than is left, and are refused.
            Posting { points: rng.bool().then(|| rng.i64(1..100)), ..back }
        } else if rng.bool() {
            let mut posting = Posting::recharge(user, rng.i64(1..200), SOURCES[rng.usize(..3)], clock);
            if let Kind::Recharge { order_id, expires_at, .. } = &mut posting.kind {
                *order_id = Some(nth as i64);
                *expires_at = Some(clock + TimeDelta::hours(rng.i64(1..24 * 8)));
            }
            // Points of the source `gift` have no price.
            if matches!(&posting.kind, Kind::Recharge { source, .. } if source != "gift") && rng.u8(..4) > 0 {
                posting = posting.with_paid(rng.i64(0..10_000), ["CNY", "JPY"][rng.usize(..2)].parse().unwrap());
            }
            posting
        } else {
            let late = if rng.bool() { TimeDelta::hours(rng.i64(0..48)) } else { TimeDelta::zero() };
            Posting::consume(user, rng.i64(1..200), "tts", format!("task-{nth}"), clock - late)
        };
        session.post(std::slice::from_ref(&posting), &rules).await.unwrap();
        if matches!(posting.kind, Kind::Recharge { .. } | Kind::Consume { .. }) {
            posted.push(posting);
        }
        if rng.u8(..100) < 3 {
            session.sweep(clock, false, |_| true).await.unwrap();
        }
    }
    // So that points remain at the end.
    session.post(&[Posting::recharge(user(0), 100_000, "gift", clock).with_key(last)], &rules).await.unwrap();
}

/// Changes entries by hand, with the trigger that protects them off.
async fn by_hand(client: &Client, sql: &str) {
    let guarded = "ALTER TABLE pointsd.entries DISABLE TRIGGER entries_never_change";
    let again = "ALTER TABLE pointsd.entries ENABLE ALWAYS TRIGGER entries_never_change";
    client.batch_execute(&format!("BEGIN; {guarded}; {sql}; {again}; COMMIT")).await.unwrap();
}

/// Records all entries again in their order, over the days from 26 March to 2 April in Paris, with gaps of whole days. Some
/// are recorded at the very instant at which a day begins.
async fn record_over_days(client: &Client, rng: &mut fastrand::Rng) {
    let rows = client.query("SELECT user_id, seq FROM pointsd.entries ORDER BY recorded_at, user_id, seq", &[]).await;
    let rows = rows.unwrap();
    let begin = start_of_day(day("2026-03-26"), paris());
    let empty = start_of_day(day("2026-03-31"), paris())..start_of_day(day("2026-04-01"), paris());
    let mut instants: Vec<DateTime<Utc>> = (0..rows.len())
        .map(|_| match rng.u8(..100) {
            0..4 => start_of_day(day("2026-03-26") + Days::new(rng.u64(0..8)), paris()),
            4..8 => start_of_day(day("2026-03-26") + Days::new(rng.u64(1..8)), paris()) - TimeDelta::microseconds(1),
            _ => begin + TimeDelta::microseconds(rng.i64(0..7 * 86_400_000_000)),
        })
        // One day without entries.
        .map(|instant| if empty.contains(&instant) { empty.end } else { instant })
        .collect();
    instants.sort();
    let users: Vec<uuid::Uuid> = rows.iter().map(|row| row.get(0)).collect();
    let seqs: Vec<i64> = rows.iter().map(|row| row.get(1)).collect();
    let guard = |what: &str| format!("ALTER TABLE pointsd.entries {what} TRIGGER entries_never_change");
    client.batch_execute(&guard("DISABLE")).await.unwrap();
    let sql = "UPDATE pointsd.entries AS e SET recorded_at = n.recorded_at
               FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[]) AS n (user_id, seq, recorded_at)
               WHERE e.user_id = n.user_id AND e.seq = n.seq";
    client.execute(sql, &[&users, &seqs, &instants]).await.unwrap();
    client.batch_execute(&guard("ENABLE ALWAYS")).await.unwrap();
}

/// Posts adjust entries by hand: points taken out of an open batch, points put back into a spent one, and one that moves
/// nothing.
async fn adjust(client: &Client) {
    let row = "SELECT user_id, batch, remaining, amount, paid FROM pointsd.batches WHERE open AND remaining > 1
               ORDER BY paid IS NULL, user_id LIMIT 1";
    let row = client.query_one(row, &[]).await.unwrap();
    let (one, batch, taken): (uuid::Uuid, i32, i64) = (row.get(0), row.get(1), row.get::<_, i64>(2) - 1);
    let (amount, price): (i64, Option<i64>) = (row.get(3), row.get(4));
    let released = |remaining| price.map(|price| whole(price, amount - remaining, amount));
    let between = |from, to| match released(from).zip(released(to)) {
        Some((from, to)) => format!("'{{{}}}'", to - from),
        None => "NULL".to_owned(),
    };
    let insert = |user: uuid::Uuid, change: i64, batches: &str, points: &str, paid: &str| {
        format!(
            "INSERT INTO pointsd.entries (bucket, user_id, seq, amount, balance_before, balance_after, at, drawing_rule, type,
                                         source_type, description, correction, allocated_batches, allocated_points,
                                         allocated_paid)
             SELECT bucket, user_id, last_seq + 1, abs({change}), balance, balance + {change}, now(), 1, 'adjust', 'repair', '',
                    '{{}}', '{batches}', '{points}', {paid}
             FROM pointsd.accounts WHERE user_id = '{user}';
             UPDATE pointsd.accounts SET last_seq = last_seq + 1, balance = balance + {change},
                    total_adjusted = total_adjusted + {change} WHERE user_id = '{user}'"
        )
    };
    client
        .batch_execute(&format!(
            "UPDATE pointsd.batches SET remaining = 1 WHERE user_id = '{one}' AND batch = {batch}; {}; {};
             UPDATE pointsd.batches SET remaining = 2 WHERE user_id = '{one}' AND batch = {batch}; {}",
            insert(one, -taken, &format!("{{{batch}}}"), &format!("{{{taken}}}"), &between(taken + 1, 1)),
            insert(one, 0, "{}", "{}", "NULL"),
            insert(one, 1, &format!("{{{batch}}}"), "{-1}", &between(1, 2)),
        ))
        .await
        .unwrap();
    // Part of a debt is forgiven: no batch is affected.
    let debtor = "SELECT user_id FROM pointsd.accounts WHERE balance < -1 ORDER BY user_id LIMIT 1";
    if let Some(row) = client.query_opt(debtor, &[]).await.unwrap() {
        client.batch_execute(&insert(row.get(0), 1, "{}", "{}", "NULL")).await.unwrap();
    }
}

/// The share of a price for some of its points, rounded down.
fn whole(price: i64, points: i64, amount: i64) -> i64 {
    let share = Ratio::new(i128::from(price) * i128::from(points), i128::from(amount));
    i64::try_from(share.floor().to_integer()).unwrap()
}

/// The money of each day, counted entry by entry.
async fn counted_money(client: &Client, zone: Zone) -> BTreeMap<NaiveDate, MoneyMovements> {
    let sql = "SELECT user_id, batch, currency, source FROM pointsd.batches WHERE paid IS NOT NULL";
    let batches = client.query(sql, &[]).await.unwrap();
    let places: BTreeMap<(uuid::Uuid, i32), Place> =
        batches.iter().map(|row| ((row.get(0), row.get(1)), (row.get(2), row.get(3)))).collect();
    let sql = "SELECT e.user_id, e.type, e.allocated_batches, e.allocated_paid, e.paid, coalesce(e.batch, r.batch), e.recorded_at
               FROM pointsd.entries AS e LEFT JOIN pointsd.entries AS r ON r.user_id = e.user_id AND r.seq = e.refers_to";
    let mut days: BTreeMap<NaiveDate, MoneyMovements> = BTreeMap::new();
    for row in client.query(sql, &[]).await.unwrap() {
        let (user, kind): (uuid::Uuid, &str) = (row.get(0), row.get(1));
        let money: Vec<Option<i64>> = row.get::<_, Option<_>>(3).unwrap_or_default();
        let (paid, own): (Option<i64>, Option<i32>) = (row.get(4), row.get(5));
        let day = days.entry(row.get::<_, DateTime<Utc>>(6).with_timezone(&zone).date_naive()).or_default();
        let (mut drawn_from_own, mut row_of) = (0, |batch: i32, change: &mut dyn FnMut(&mut MoneyMovement)| {
            change(day.entry(places[&(user, batch)].clone()).or_default());
        });
        for (batch, money) in row.get::<_, Vec<i32>>(2).into_iter().zip(money) {
            let Some(money) = money else { continue };
            match kind {
                "expire" => row_of(batch, &mut |row| row.expired += money),
                "restore" => row_of(batch, &mut |row| row.expired -= money),
                "adjust" => row_of(batch, &mut |row| row.corrected -= money),
                "void" if own == Some(batch) => {
                    drawn_from_own = money;
                    row_of(batch, &mut |row| row.returned += money);
                }
                _ => row_of(batch, &mut |row| row.used += money),
            }
        }
        match (kind, paid, own) {
            ("opening", Some(paid), Some(own)) => row_of(own, &mut |row| row.opened += paid),
            ("recharge", Some(paid), Some(own)) => row_of(own, &mut |row| row.sold += paid),
            // The recognised use is deferred again.
            ("refund", Some(paid), Some(own)) => row_of(own, &mut |row| row.used -= paid),
            // What the void's own batch did not release was recognised before.
            ("void", Some(paid), Some(own)) => row_of(own, &mut |row| {
                (row.used, row.returned) = (row.used - (paid - drawn_from_own), row.returned + (paid - drawn_from_own));
            }),
            (_, None, _) => {}
            other => panic!("{other:?}"),
        }
    }
    days
}

/// What is deferred of the batches' prices, batch by batch.
async fn deferred(client: &Client) -> BTreeMap<Place, i64> {
    let sql = "SELECT currency, source, paid, amount, remaining FROM pointsd.batches WHERE paid IS NOT NULL";
    let mut deferred: BTreeMap<Place, i64> = BTreeMap::new();
    for row in client.query(sql, &[]).await.unwrap() {
        let (paid, amount, remaining): (i64, i64, i64) = (row.get(2), row.get(3), row.get(4));
        *deferred.entry((row.get(0), row.get(1))).or_default() += paid - whole(paid, amount - remaining, amount);
    }
    deferred.retain(|_, money| *money != 0);
    deferred
}

/// The movements of each day, counted entry by entry.
async fn counted(client: &Client, zone: Zone) -> BTreeMap<NaiveDate, Movements> {
    let batches = client.query("SELECT user_id, batch, source FROM pointsd.batches", &[]).await.unwrap();
    let source: BTreeMap<(uuid::Uuid, i32), String> =
        batches.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect();
    let sql = "SELECT user_id, type, amount, balance_before, balance_after, source_type, allocated_batches,
                      allocated_points, recorded_at FROM pointsd.entries";
    let mut days: BTreeMap<NaiveDate, Movements> = BTreeMap::new();
    for row in client.query(sql, &[]).await.unwrap() {
        let (user, kind, own): (uuid::Uuid, String, String) = (row.get(0), row.get(1), row.get(5));
        let (amount, before, after): (i64, i64, i64) = (row.get(2), row.get(3), row.get(4));
        let (batches, points): (Vec<i32>, Vec<i64>) = (row.get(6), row.get(7));
        let recorded: DateTime<Utc> = row.get(8);
        let day = days.entry(recorded.with_timezone(&zone).date_naive()).or_default();
        let parts: Vec<(&str, i64)> =
            batches.iter().zip(&points).map(|(batch, points)| (source[&(user, *batch)].as_str(), *points)).collect();
        // The arrears before and after an entry give the new or repaid arrears.
        let owed = (-after).max(0) - (-before).max(0);
        match kind.as_str() {
            "recharge" | "refund" => {
                let row = day.entry(own.clone()).or_default();
                *(if kind == "recharge" { &mut row.recharged } else { &mut row.refunded }) += amount;
                day.entry(own).or_default().settled -= owed;
                day.entry(String::new()).or_default().settled += owed;
            }
            "consume" | "void" => {
                // Restored points stand in their batches just before the consume that takes them out again.
                let uncovered = amount - points.iter().sum::<i64>();
                for (source, points) in parts.into_iter().chain([("", uncovered)]) {
                    let row = day.entry(source.to_owned()).or_default();
                    *(if kind == "consume" { &mut row.consumed } else { &mut row.voided }) += points;
                }
            }
            "opening" if owed > 0 => day.entry(String::new()).or_default().opened -= amount,
            "opening" => day.entry(own).or_default().opened += amount,
            "expire" => day.entry(own).or_default().expired += amount,
            "restore" => day.entry(own).or_default().restored += amount,
            "adjust" => {
                parts
                    .iter()
                    .for_each(|(source, points)| day.entry((*source).to_owned()).or_default().adjusted -= points);
                day.entry(String::new()).or_default().adjusted -= owed;
            }
            _ => panic!("{kind}"),
        }
    }
    days
}

/// The balances of all accounts at the end of a day: the balance after each account's last entry until then.
async fn held(client: &Client, ended: DateTime<Utc>) -> i64 {
    let sql = "SELECT coalesce(sum(balance_after), 0)::bigint FROM (
                   SELECT DISTINCT ON (user_id) balance_after FROM pointsd.entries WHERE recorded_at < $1
                   ORDER BY user_id, seq DESC) AS last";
    client.query_one(sql, &[&ended]).await.unwrap().get(0)
}

async fn close(client: &mut Client, now: DateTime<Utc>) -> u64 {
    let transaction = client.transaction().await.unwrap();
    lock_days(transaction.client()).await.unwrap();
    let closed = close_days(transaction.client(), paris(), now).await.unwrap();
    transaction.commit().await.unwrap();
    assert!(closed.refused.is_none(), "{closed:?}");
    closed.days
}

async fn look(client: &mut Client, anew: bool) -> Books {
    tie_out(client, paris(), anew, || true).await.unwrap().unwrap()
}

fn rules_of(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.rule.as_str()).collect()
}

fn moved(day: &RollForward) -> Movements {
    let rows = day.rows.iter().map(|(source, row)| (source.clone(), row.moved));
    rows.filter(|(_, moved)| *moved != Movement::default()).collect()
}

/// The totals up to `ended`, by way of a few cutoffs.
async fn carried(client: &Client, rng: &mut fastrand::Rng, ended: DateTime<Utc>) -> RunningTotals {
    let mut cutoffs: Vec<DateTime<Utc>> = (0..4).map(|_| ended - TimeDelta::minutes(rng.i64(0..9 * 24 * 60))).collect();
    cutoffs.sort();
    let mut totals = RunningTotals::load(client, cutoffs[0]).await.unwrap().unwrap();
    for cutoff in cutoffs.into_iter().skip(1).chain([ended, ended]) {
        totals.carry_on(client, cutoff).await.unwrap();
    }
    totals
}

/// The points that moved, and those that are left, without rows of nothing.
fn of_totals(totals: RunningTotals) -> (Movements, BTreeMap<String, i64>) {
    let moved = totals.moved.into_iter().filter(|(_, moved)| *moved != Movement::default()).collect();
    (moved, totals.left.into_iter().filter(|(_, left)| *left != 0).collect())
}

/// The same, from the movements of each day up to the last closed one, and its closings.
fn of_days(days: &BTreeMap<NaiveDate, Movements>, last: &RollForward) -> (Movements, BTreeMap<String, i64>) {
    let mut sums = Movements::new();
    for (source, moved) in days.range(..=last.day).flat_map(|(_, moved)| moved) {
        let sum = sums.entry(source.clone()).or_default();
        sum.opened += moved.opened;
        sum.recharged += moved.recharged;
        sum.refunded += moved.refunded;
        sum.settled += moved.settled;
        sum.consumed += moved.consumed;
        sum.voided += moved.voided;
        sum.expired += moved.expired;
        sum.restored += moved.restored;
        sum.adjusted += moved.adjusted;
    }
    let left = last.rows.iter().map(|(source, row)| (source.clone(), row.closing));
    (
        sums.into_iter().filter(|(_, moved)| *moved != Movement::default()).collect(),
        left.filter(|(_, left)| *left != 0).collect(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn days_are_what_their_entries_say() {
    let mut rng = rng();
    let mut database = TestDatabase::new().await;
    database.expect_damage(); // adjust entries by hand
    let mut client = database.client().await;
    let (mut seen, mut seen_money) = (Movement::default(), MoneyMovement::default());
    for history in 0..6 {
        database.clear(&client).await;
        client.batch_execute("DELETE FROM pointsd.days").await.unwrap();
        post_random(&database, &mut rng, 0..125).await;
        adjust(&client).await;
        post_random(&database, &mut rng, 125..250).await;
        record_over_days(&client, &mut rng).await;

        // In several steps, as on several nights. The last day, 1 April, stays open until its end.
        let ended = start_of_day(day("2026-04-02"), paris());
        let early = ended - TimeDelta::hours(rng.i64(30..200));
        let from_no_day = carried(&client, &mut rng, ended).await;
        close(&mut client, early).await;
        let from_some_days = carried(&client, &mut rng, ended).await;
        close(&mut client, ended - TimeDelta::microseconds(1)).await;
        let kept = load_days(&client).await.unwrap();
        assert_eq!(kept.last().unwrap().day, day("2026-03-31"), "history {history}");
        let books = look(&mut client, true).await;
        assert_eq!(rules_of(&books.findings), Vec::<&str>::new(), "history {history}: {:?}", books.findings);

        assert_eq!(close(&mut client, ended).await, 1);
        assert_eq!(close(&mut client, ended).await, 0);
        let kept = load_days(&client).await.unwrap();
        let expected = counted(&client, paris()).await;
        let totals = of_days(&expected, kept.last().unwrap());
        for carried in [from_no_day, from_some_days, RunningTotals::load(&client, ended).await.unwrap().unwrap()] {
            assert_eq!(carried.until, ended);
            assert_eq!(of_totals(carried), totals, "left found, right expected, history {history}");
        }
        let mut before: BTreeMap<String, i64> = BTreeMap::new();
        let mut date = kept[0].day;
        for of_day in &kept {
            assert_eq!(of_day.day, date, "a day is missing, history {history}");
            date = date.succ_opt().unwrap();
            assert_eq!(of_day.ended, start_of_day(date, paris()));
            let expected = expected.get(&of_day.day).cloned().unwrap_or_default();
            let expected: Movements = expected.into_iter().filter(|(_, moved)| *moved != Movement::default()).collect();
            assert_eq!(moved(of_day), expected, "left found, right expected, history {history}, {}", of_day.day);
            let sources: BTreeSet<&String> = of_day.rows.keys().chain(before.keys()).collect();
            for source in sources {
                let row = of_day.rows.get(source).copied().unwrap_or_default();
                assert_eq!(row.opening, before.get(source).copied().unwrap_or_default(), "{source} on {}", of_day.day);
            }
            assert!(of_day.rows.contains_key(""), "what is owed has a row on every day");
            let totals = of_day.totals();
            assert_eq!(totals.closing, held(&client, of_day.ended).await, "history {history}, {}", of_day.day);
            assert_eq!(totals.moved.settled, 0, "what is settled is settled on both sides");
            before = of_day.rows.iter().map(|(source, row)| (source.clone(), row.closing)).collect();
            for row in of_day.rows.values() {
                seen.opened = seen.opened.min(row.moved.opened);
                seen.settled = seen.settled.max(row.moved.settled);
                seen.refunded = seen.refunded.max(row.moved.refunded);
                seen.voided = seen.voided.max(row.moved.voided);
                seen.restored = seen.restored.max(row.moved.restored);
                seen.expired = seen.expired.max(row.moved.expired);
                seen.adjusted = seen.adjusted.max(row.moved.adjusted);
                seen.consumed = seen.consumed.max(row.moved.consumed);
            }
        }
        assert_eq!(moved(&kept[5]), Movements::new(), "the day without entries");
        check_money(&client, &kept, &mut seen_money).await;
        let books = look(&mut client, true).await;
        assert_eq!(books.findings, Vec::new(), "history {history}");
        assert_eq!((books.expected, books.last.as_ref()), (books.balance, kept.last()));
    }
    // The test needs histories in which this happens.
    assert!(seen.settled > 0 && seen.expired > 0 && seen.adjusted > 0 && seen.consumed > 0, "{seen:?}");
    assert!(seen.opened < 0 && seen.refunded > 0 && seen.voided > 0 && seen.restored > 0, "{seen:?}");
    let MoneyMovement { opened, sold, used, expired, returned, corrected } = seen_money;
    assert!(opened > 0 && sold > 0 && used > 0 && expired > 0 && returned > 0 && corrected > 0, "{seen_money:?}");
}

/// The money of closed days against a count entry by entry, and the last closing against the batches.
async fn check_money(client: &Client, kept: &[RollForward], seen: &mut MoneyMovement) {
    let expected = counted_money(client, paris()).await;
    let mut before: BTreeMap<Place, i64> = BTreeMap::new();
    for of_day in kept {
        let mut moved = expected.get(&of_day.day).cloned().unwrap_or_default();
        moved.retain(|_, moved| *moved != MoneyMovement::default());
        let mut rows = BTreeMap::new();
        for place in before.keys().chain(moved.keys()) {
            let (opening, moved) = (before.get(place).copied().unwrap_or_default(), moved.get(place).copied());
            let moved = moved.unwrap_or_default();
            let MoneyMovement { opened, sold, used, expired, returned, corrected } = moved;
            let closing = opening + opened + sold - used - expired - returned + corrected;
            rows.insert(place.clone(), MoneyBooked { opening, moved, closing });
            seen.opened = seen.opened.max(opened);
            seen.sold = seen.sold.max(sold);
            seen.used = seen.used.max(used);
            seen.expired = seen.expired.max(expired);
            seen.returned = seen.returned.max(returned);
            seen.corrected = seen.corrected.max(corrected.abs());
        }
        assert_eq!(of_day.money, rows, "left found, right expected, {}", of_day.day);
        check_journal(of_day);
        before = rows.into_iter().map(|(place, row)| (place, row.closing)).filter(|(_, left)| *left != 0).collect();
    }
    // Some entries may be recorded at the very begin of the day that is still open.
    let last = kept.last().unwrap().day;
    for (place, moved) in expected.range(last..).filter(|(day, _)| **day > last).flat_map(|(_, moved)| moved) {
        let MoneyMovement { opened, sold, used, expired, returned, corrected } = *moved;
        *before.entry(place.clone()).or_default() += opened + sold - used - expired - returned + corrected;
    }
    before.retain(|_, money| *money != 0);
    assert_eq!(before, deferred(client).await, "the last closing is what the batches have not released");
}

/// The journal of a day: each document comes to nothing, and each account to its column of the roll-forward.
fn check_journal(of_day: &RollForward) {
    let name = |name: &str| name.to_owned();
    let accounts = Accounts {
        cash: name("sold"),
        deferred: name("deferred"),
        revenue: name("used"),
        breakage: name("expired"),
        returns: name("returned"),
        corrections: name("corrected"),
    };
    let mut balances: BTreeMap<(Place, &str), i64> = BTreeMap::new();
    let mut documents: BTreeMap<String, i64> = BTreeMap::new();
    for line in journal_lines(std::slice::from_ref(of_day), |_| &accounts) {
        assert!(line.debit >= 0 && line.credit >= 0 && (line.debit == 0) != (line.credit == 0), "{line:?}");
        *documents.entry(line.document).or_default() += line.debit - line.credit;
        let place = (line.currency.to_owned(), line.source.to_owned());
        *balances.entry((place, line.account)).or_default() += line.debit - line.credit;
    }
    assert!(documents.values().all(|balance| *balance == 0), "{documents:?}");
    for (place, row) in &of_day.money {
        let MoneyMovement { opened, sold, used, expired, returned, corrected } = row.moved;
        let columns = [
            ("sold", sold),
            // The accounting system has what was brought in already.
            ("deferred", row.opening + opened - row.closing),
            ("used", -used),
            ("expired", -expired),
            ("returned", -returned),
            ("corrected", corrected),
        ];
        for (account, expected) in columns {
            let found = balances.remove(&(place.clone(), account)).unwrap_or_default();
            assert_eq!(found, expected, "{account} of {place:?} on {}", of_day.day);
        }
    }
    assert!(balances.is_empty(), "{balances:?}");
}

/// Three accounts over three closed days, and an entry on the open day.
async fn small(database: &TestDatabase) -> Client {
    let mut session = database.session().await;
    let when = at("2026-03-20T00:00:00Z");
    for (nth, source) in SOURCES.iter().enumerate() {
        let nth = u32::try_from(nth).unwrap();
        let mut recharge = Posting::recharge(user(nth), 100, *source, when);
        recharge.key = Some("r".to_owned());
        let consume = Posting::consume(user(nth), 30 + i64::from(nth) * 50, "tts", "a", when);
        session.post(&[recharge, consume], &rules()).await.unwrap();
    }
    let mut client = database.client().await;
    by_hand(
        &client,
        "UPDATE pointsd.entries SET recorded_at = '2026-03-27T12:00:00Z'::timestamptz + seq * interval '1 day'",
    )
    .await;
    assert_eq!(close(&mut client, at("2026-03-30T12:00:00Z")).await, 2);
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_tie_is_found() {
    let mut database = TestDatabase::new().await;
    database.expect_damage();
    let mut client = small(&database).await;
    let books = look(&mut client, false).await;
    assert_eq!((books.findings, books.recomputed, books.expected), (Vec::new(), false, 60));
    assert_eq!((books.balance, books.owed), (60, 30));

    // A balance differs from the entries.
    let break_and_look = async |client: &mut Client, break_it: &str, mend: &str| {
        by_hand(client, break_it).await;
        let books = look(client, false).await;
        by_hand(client, mend).await;
        let found = look(client, false).await.findings;
        assert_eq!(found, Vec::new(), "after {mend}");
        books.findings
    };
    let of = |user: u32| format!("WHERE user_id = '{}'", crate::support::user(user));
    let found = break_and_look(
        &mut client,
        &format!("UPDATE pointsd.accounts SET balance = balance + 5, total_recharged = total_recharged + 5 {}", of(0)),
        &format!("UPDATE pointsd.accounts SET balance = balance - 5, total_recharged = total_recharged - 5 {}", of(0)),
    )
    .await;
    assert_eq!(rules_of(&found), ["days_balance"]);
    assert_eq!((found[0].expected.as_str(), found[0].found.as_str(), found[0].user), ("60", "65", None));

    // A batch differs, then its source.
    let set = |what: &str, user: u32| format!("UPDATE pointsd.batches SET {what} {}", of(user));
    let found = break_and_look(&mut client, &set("remaining = 60", 0), &set("remaining = 70", 0)).await;
    assert_eq!(rules_of(&found), ["days_source"]);
    assert_eq!((found[0].expected.as_str(), found[0].found.as_str()), ("wxpay 70", "wxpay 60"));

    // A debt is removed and another account's balance makes up for it: the net sum holds, but not balances and arrears.
    let found = break_and_look(
        &mut client,
        &format!(
            "UPDATE pointsd.accounts SET balance = 0, total_consumed = total_consumed - 30 WHERE balance = -30;
             UPDATE pointsd.accounts SET balance = 40, total_consumed = total_consumed + 30 {}",
            of(0)
        ),
        &format!(
            "UPDATE pointsd.accounts SET balance = -30, total_consumed = total_consumed + 30 WHERE balance = 0;
             UPDATE pointsd.accounts SET balance = 70, total_consumed = total_consumed - 30 {}",
            of(0)
        ),
    )
    .await;
    assert_eq!(rules_of(&found), ["days_source"]);
    assert_eq!((found[0].expected.as_str(), found[0].found.as_str()), ("owed -30", "owed 0"));
}

/// A full proof adds up what the seals say, in one lane as in two, in a first proof as in later ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sealed_days_need_not_be_computed_again() {
    let mut database = TestDatabase::new().await;
    database.expect_damage();
    let mut client = small(&database).await;
    let sealed = load_sealed(&client).await.unwrap();
    assert!(sealed.is_some_and(|print| print != 0), "{sealed:?}");
    let closed_until = load_last_day(&client).await.unwrap().map(|last| last.ended);
    let mut beside = database.client().await;
    let mut closed = async |client: &mut Client, lanes: usize| {
        let cutoff = pointsd::ledger::cutoff(client, pointsd::ledger::CUTOFF_LIMIT).await.unwrap();
        let mut others = [Lane { client: &mut beside, also: &() }];
        let asked = Asked { run: 1, full: true, cutoff, closed_until };
        let first = Lane { client, also: &() };
        prove(first, &mut others[..lanes - 1], asked, Proof::default(), |_| true).await.unwrap().closed
    };
    for lanes in [2, 1, 2] {
        assert_eq!(closed(&mut client, lanes).await, sealed, "in {lanes} lanes");
    }

    // What a hand did to an entry, to a day, to its money or to a seal.
    by_hand(&client, "UPDATE pointsd.entries SET description = 'another' WHERE seq = 1").await;
    assert_ne!(closed(&mut client, 2).await, sealed);
    let recomputed = look(&mut client, true).await;
    assert_eq!(recomputed.findings, Vec::new(), "the sums are the same");
    seal_days(&client, &recomputed.seals).await.unwrap();
    assert_eq!(closed(&mut client, 2).await, load_sealed(&client).await.unwrap());
    for hand in [
        "UPDATE pointsd.days SET closed_at = closed_at - interval '1 second' WHERE day = '2026-03-28' AND source = ''",
        "INSERT INTO pointsd.day_money VALUES ('2026-03-28', 'CNY', 'gift', 0, 0, 0, 0, 0, 0, 0, 0)",
        "DELETE FROM pointsd.day_seals WHERE day = '2026-03-28'",
    ] {
        client.batch_execute("BEGIN").await.unwrap();
        client.batch_execute(hand).await.unwrap();
        assert_eq!(load_sealed(&client).await.unwrap(), None, "{hand}");
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    client.batch_execute("DELETE FROM pointsd.days WHERE day = '2026-03-29'").await.unwrap();
    let left = "SELECT count(*) FROM pointsd.day_seals";
    assert_eq!(client.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 1);
}

/// A repair that keeps balances may move points from one source to another while the sum stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adjust_entry_of_nothing_may_move_points_between_sources() {
    let mut database = TestDatabase::new().await;
    database.expect_damage(); // an adjust entry by hand
    let (mut session, when) = (database.session().await, at("2026-03-20T00:00:00Z"));
    let recharge = |source: &str| Posting::recharge(user(0), 100, source, when).with_key(source.to_owned());
    let consume = Posting::consume(user(0), 30, "tts", "a", when);
    session.post(&[recharge("gift"), consume, recharge("card")], &rules()).await.unwrap();
    let mut client = database.client().await;
    assert_eq!(look(&mut client, true).await.findings, Vec::new());
    client
        .batch_execute(
            "INSERT INTO pointsd.entries (bucket, user_id, seq, amount, balance_before, balance_after, at, drawing_rule, type,
                                         source_type, description, correction, allocated_batches, allocated_points)
             SELECT bucket, user_id, last_seq + 1, 0, balance, balance, now(), 1, 'adjust', 'repair', '', '{}', '{1,2}',
                    '{-10,10}'
             FROM pointsd.accounts;
             UPDATE pointsd.accounts SET last_seq = last_seq + 1;
             UPDATE pointsd.batches SET remaining = remaining + CASE batch WHEN 1 THEN 10 ELSE -10 END",
        )
        .await
        .unwrap();
    assert_eq!(look(&mut client, true).await.findings, Vec::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_that_changed_is_told_as_that_and_stays_as_it_was_closed() {
    let mut database = TestDatabase::new().await;
    database.expect_damage();
    let mut client = small(&database).await;
    let kept = load_days(&client).await.unwrap();

    // A late commit: recorded on a closed day, committed after its closing.
    let mut session = database.session().await;
    let late = Posting::consume(user(0), 5, "tts", "late", at("2026-03-29T00:00:00Z"));
    session.post(&[late], &rules()).await.unwrap();
    by_hand(&client, "UPDATE pointsd.entries SET recorded_at = '2026-03-29T21:59:59Z' WHERE source_id = 'late'").await;
    // A nightly check finds it, too, because the sums no longer tie.
    for anew in [false, true] {
        let books = look(&mut client, anew).await;
        assert_eq!(rules_of(&books.findings), ["day_changed"], "{:?}", books.findings);
        assert!(books.recomputed);
        assert_eq!(books.findings[0].expected, "2026-03-29 wxpay: consumed 30");
        assert_eq!(books.findings[0].found, "2026-03-29 wxpay: consumed 35");
        assert_eq!((books.expected, books.balance), (55, 55));
    }
    assert_eq!(close(&mut client, at("2026-03-30T23:00:00Z")).await, 1);
    let now = load_days(&client).await.unwrap();
    assert_eq!(now[..2], kept, "a closed day is never healed in silence");
    assert_eq!(rules_of(&look(&mut client, false).await.findings), ["day_changed"]);

    // Deleted days are closed again, from the changed one on.
    client.batch_execute("DELETE FROM pointsd.days WHERE day >= '2026-03-29'").await.unwrap();
    assert_eq!(close(&mut client, at("2026-03-30T23:00:00Z")).await, 2);
    assert_eq!(look(&mut client, true).await.findings, Vec::new());

    // A change that keeps all sums is found when the days are recomputed.
    by_hand(&client, "UPDATE pointsd.entries SET recorded_at = recorded_at - interval '1 day' WHERE source_id = 'a'")
        .await;
    assert_eq!(look(&mut client, false).await.findings, Vec::new());
    let found = look(&mut client, true).await.findings;
    assert_eq!(rules_of(&found), ["day_changed"]);
    assert!(found[0].expected.starts_with("2026-03-28 owed: consumed 0, "), "{}", found[0].expected);
    assert!(found[0].found.starts_with("2026-03-28 owed: consumed 30, "), "{}", found[0].found);

    // So is a closed day that was changed or deleted by hand.
    by_hand(&client, "UPDATE pointsd.entries SET recorded_at = recorded_at + interval '1 day' WHERE source_id = 'a'")
        .await;
    assert_eq!(look(&mut client, true).await.findings, Vec::new());
    client
        .batch_execute("UPDATE pointsd.days SET opening = opening + 1, closing = closing + 1 WHERE day = '2026-03-29' AND source = 'gift'")
        .await
        .unwrap();
    let found = look(&mut client, true).await.findings;
    assert_eq!(rules_of(&found), ["day_changed"]);
    assert!(found[0].expected.starts_with("2026-03-29 gift: opening 101"), "{}", found[0].expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn days_go_on_where_the_zone_changes_and_an_empty_ledger_has_none() {
    let database = TestDatabase::new().await;
    let mut client = database.client().await;
    assert_eq!(close(&mut client, at("2026-03-30T12:00:00Z")).await, 0);
    let books = look(&mut client, true).await;
    assert_eq!((books.findings, books.last, books.balance), (Vec::new(), None, 0));

    let mut client = small(&database).await;
    // From Paris to Shanghai: the next day begins where the last one ended, and ends in Shanghai.
    let transaction = client.transaction().await.unwrap();
    let zone: Zone = zone("Asia/Shanghai");
    let early = close_days(transaction.client(), zone, at("2026-03-30T15:59:59Z")).await.unwrap();
    let closed = close_days(transaction.client(), zone, at("2026-03-30T16:00:00Z")).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!((early.days, closed.days), (0, 1));
    let last = load_last_day(&client).await.unwrap().unwrap();
    assert_eq!((last.day, last.ended), (day("2026-03-30"), at("2026-03-30T16:00:00Z")));
    assert_eq!(look(&mut client, true).await.findings, Vec::new());
}

async fn until_one_waits(client: &Client) {
    let waits = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    until_found(client, "a session that waits for a lock", waits).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_that_two_runs_would_close_is_closed_once() {
    let database = TestDatabase::new().await;
    let mut first = small(&database).await;
    let (mut second, third) = (database.client().await, database.client().await);
    let now = at("2026-03-31T12:00:00Z");
    let transaction = first.transaction().await.unwrap();
    lock_days(transaction.client()).await.unwrap();
    assert_eq!(close_days(transaction.client(), paris(), now).await.unwrap().days, 1);
    let second = tokio::spawn(async move { close(&mut second, now).await });
    until_one_waits(&third).await;
    transaction.commit().await.unwrap();
    assert_eq!(second.await.unwrap(), 0);
    assert_eq!(load_days(&third).await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_beside_a_run_that_closes_days_finds_them_closed() {
    let database = TestDatabase::new().await;
    let (mut client, other) = (small(&database).await, database.client().await);
    let cutoff = pointsd::ledger::cutoff(&client, pointsd::ledger::CUTOFF_LIMIT).await.unwrap();
    let transaction = client.transaction().await.unwrap();
    lock_days(transaction.client()).await.unwrap();
    close_days(transaction.client(), zone("UTC"), cutoff).await.unwrap();
    let url = database.url();
    let dry_run = tokio::task::spawn_blocking(move || call(&url, &["run", "reconciliation", "--dry-run", "--json"]));
    until_one_waits(&other).await;
    transaction.commit().await.unwrap();
    dry_run.await.unwrap().expect(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_month_end_that_was_taken_over_closes_no_day() {
    let database = TestDatabase::new().await;
    let (mut client, other) = (small(&database).await, database.client().await);
    let transaction = client.transaction().await.unwrap();
    lock_days(transaction.client()).await.unwrap();
    let url = database.url();
    let run = tokio::task::spawn_blocking(move || call(&url, &["run", "month_end"]));
    until_one_waits(&other).await;
    other.execute("UPDATE pointsd.runs SET fence = nextval('pointsd.run_fences')", &[]).await.unwrap();
    transaction.commit().await.unwrap();
    run.await.unwrap().expect(1);
    assert_eq!(load_last_day(&other).await.unwrap().unwrap().day, day("2026-03-29"));
    // One that holds its run closes them.
    let cancel = "UPDATE pointsd.runs SET state = 'cancelled', finished = now(), why = 'test'";
    other.execute(cancel, &[]).await.unwrap();
    call(&database.url(), &["run", "month_end"]).expect(0);
    assert!(load_last_day(&other).await.unwrap().unwrap().day > day("2026-03-29"));
}

/// While the server's clock was a year ahead, days were closed and a proof was made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn days_and_proofs_from_the_future_count_for_nothing() {
    let database = TestDatabase::new().await;
    let mut client = database.client().await;
    client
        .batch_execute(
            "INSERT INTO pointsd.days (day, source, ended, closed_at, opening, opened, recharged, refunded, settled, consumed, voided,
                                       expired, restored, adjusted, closing)
             SELECT (now() + ahead)::date, '', now() + ahead, now() + closed, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
             FROM (VALUES (interval '-3 days', interval '-3 days'), ('-2 days', '365 days'), ('364 days', '365 days'))
                 AS day (ahead, closed);
             UPDATE pointsd.proof_state SET proved_until = now() + interval '365 days', full_until = now() - interval '1 day'",
        )
        .await
        .unwrap();
    let cutoff = pointsd::ledger::cutoff(&client, pointsd::ledger::CUTOFF_LIMIT).await.unwrap();
    let transaction = client.transaction().await.unwrap();
    close_days(transaction.client(), paris(), cutoff).await.unwrap();
    // A day that has ended since is closed anew, with all that was recorded in it.
    let ahead = "SELECT count(*) FROM pointsd.days WHERE ended > now() OR closed_at > clock_timestamp()";
    assert_eq!(transaction.query_one(ahead, &[]).await.unwrap().get::<_, i64>(0), 0);
    let behind = "SELECT count(*) FROM pointsd.days WHERE closed_at < now() - interval '1 day'";
    assert_eq!(transaction.query_one(behind, &[]).await.unwrap().get::<_, i64>(0), 1, "the day before stays as it was");
    let left = load_last_day(transaction.client()).await.unwrap().expect("a day that has ended stays");
    assert!(left.ended < cutoff);
    let state = pointsd::proof::load_state(transaction.client()).await.unwrap();
    assert_eq!((state.proved_until, state.full_until.is_some()), (None, true));
}

#[test]
fn a_day_begins_at_its_first_instant() {
    let begin = |text: &str, zone| start_of_day(day(text), zone);
    assert_eq!(begin("2026-03-29", paris()), at("2026-03-28T23:00:00Z"));
    assert_eq!(begin("2026-03-30", paris()), at("2026-03-29T22:00:00Z"));
    // Cairo skips the hour after midnight: its day begins at one o'clock.
    assert_eq!(begin("2026-04-24", zone("Africa/Cairo")), at("2026-04-23T22:00:00Z"));
    // Havana's clocks go from one o'clock back to midnight: the day begins at the first of the two.
    assert_eq!(begin("2026-11-01", zone("America/Havana")), at("2026-11-01T04:00:00Z"));
    // Samoa had no 30 December 2011.
    assert_eq!(begin("2011-12-30", zone("Pacific/Apia")), begin("2011-12-31", zone("Pacific/Apia")));
}
