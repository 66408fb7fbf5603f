//! The books of business days: what was recorded on each, by source of the points, carried forward from day to day.
//!
//! A day is told by when its entries were recorded, not by when things happened: so a day that is closed stays as it is,
//! whatever is posted later for an earlier time. Its rows are written once. What they say is held against the accounts
//! and batches in every proof, and against the entries themselves in a full one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use tokio_postgres::{Client, Error, IsolationLevel, Row};

use super::Finding;

/// An entry's time of recording is taken when it is inserted, and its transaction commits a moment later. So what was
/// under way at midnight belongs to the day that has ended. A group of postings takes seconds at most; ten minutes is
/// twice what the server lets a statement take by default. An entry that comes later still is told as a finding.
const CLOSED_AFTER: TimeDelta = TimeDelta::minutes(10);

/// Days that are computed anew by one statement: each reads the batches once, and the job can be stopped in between.
const DAYS_AT_ONCE: usize = 92;

/// For one pass over many rows, planned for its range, and compiled where that pays; on one processor, because postings
/// want the others. It takes as long as it takes: a run has a time of its own after which it is given up.
const PASSES: &str = "SET plan_cache_mode = force_custom_plan; SET max_parallel_workers_per_gather = 0; \
                      SET work_mem = '256MB'; SET jit = on; SET statement_timeout = 0";

/// The most points that a column of a day's books holds: six of them are less than 2^63, and a million entries with the most
/// points that one may have come to less.
const MOST_BOOKED: u64 = 1 << 60;

/// The most places that one finding names.
const MOST_PLACES: usize = 10;

/// What must hold about the ledger as a whole: the rule's name, and a sentence.
pub const RULES: [(&str, &str); 3] = [
    (DAYS_BALANCE, "The entries of all business days come to the sum of the accounts' balances."),
    (DAYS_SOURCE, "By source, the entries of all business days come to what is left in batches, and to what is owed."),
    (DAY_CHANGED, "A business day that was closed stays as it was closed."),
];
const DAYS_BALANCE: &str = "days_balance";
const DAYS_SOURCE: &str = "days_source";
const DAY_CHANGED: &str = "day_changed";

/// A sum as far as 64 bits count. Beyond them are only numbers that somebody made up: the books must tell them, not fail.
fn counted(sum: i128) -> i64 {
    i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
}

/// Points that moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Movement {
    /// Recharged.
    pub recharged: i64,
    /// Recharged points that paid arrears at once; of what is owed below zero: less is owed.
    pub settled: i64,
    /// Consumed; of what is owed: taken beyond the points that were there.
    pub consumed: i64,
    /// Expired.
    pub expired: i64,
    /// By adjust entries, up or down.
    pub adjusted: i64,
}

impl Movement {
    /// Where this leads from `opening`, as far as 64 bits count.
    pub fn closing(&self, opening: i64) -> i64 {
        let [plus, minus] = [[opening, self.recharged, self.adjusted], [self.settled, self.consumed, self.expired]]
            .map(|parts| parts.into_iter().map(i128::from).sum::<i128>());
        counted(plus - minus)
    }

    /// Both together.
    fn and(&self, other: &Movement) -> Movement {
        Movement {
            recharged: self.recharged.saturating_add(other.recharged),
            settled: self.settled.saturating_add(other.settled),
            consumed: self.consumed.saturating_add(other.consumed),
            expired: self.expired.saturating_add(other.expired),
            adjusted: self.adjusted.saturating_add(other.adjusted),
        }
    }
}

/// Movements by source of the points; `""` is what accounts owe.
pub type Movements = BTreeMap<String, Movement>;

/// A source on a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Booked {
    /// What was there when the day began; of what is owed zero or below.
    pub opening: i64,
    /// What moved on it.
    pub moved: Movement,
    /// What was there at its end.
    pub closing: i64,
}

impl Booked {
    /// Whether all of it is small enough to be added up.
    fn is_countable(&self) -> bool {
        let Movement { recharged, settled, consumed, expired, adjusted } = self.moved;
        let numbers = [self.opening, recharged, settled, consumed, expired, adjusted, self.closing];
        numbers.iter().all(|number| number.unsigned_abs() <= MOST_BOOKED)
    }
}

/// The books of a business day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollForward {
    /// Which day.
    pub day: NaiveDate,
    /// The first instant after it.
    pub ended: DateTime<Utc>,
    /// By source; `""` is what accounts owe.
    pub rows: BTreeMap<String, Booked>,
}

impl RollForward {
    /// All sources, and what is owed, together: the sum of the balances.
    pub fn totals(&self) -> Booked {
        self.rows.values().fold(Booked::default(), |sum, row| Booked {
            opening: sum.opening.saturating_add(row.opening),
            moved: sum.moved.and(&row.moved),
            closing: sum.closing.saturating_add(row.closing),
        })
    }
}

/// Points left in open batches of a source that are of an age and expire within a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outstanding {
    /// The source.
    pub source: String,
    /// Which of the ages: 0 for the oldest.
    pub age: usize,
    /// Which of the times to expiry: 0 for what is due already.
    pub expiry: usize,
    /// How many batches.
    pub batches: i64,
    /// Points in them.
    pub points: i64,
}

/// The days after which a batch is counted as older, or its expiry as later: 0-30, 31-90, 91-180, and more.
pub const STEPS: [u64; 3] = [30, 90, 180];

/// How the books stand at an instant: all of it read from one snapshot.
#[derive(Clone, Debug)]
pub struct Books {
    /// The instant.
    pub as_of: DateTime<Utc>,
    /// The last business day that was closed; none before the first one.
    pub last: Option<RollForward>,
    /// What was recorded since its end.
    pub since: Movements,
    /// What the history says that all accounts hold together.
    pub expected: i64,
    /// What they do hold, less what they owe.
    pub balance: i64,
    /// What accounts owe.
    pub owed: i64,
    /// What is left in open batches.
    pub outstanding: Vec<Outstanding>,
    /// Whether the closed days were computed anew.
    pub anew: bool,
    /// Where the books do not hold, as a whole.
    pub findings: Vec<Finding>,
    /// Whether they do not hold against the closed days as they were kept: then nothing is told before those are computed
    /// anew.
    pub differs: bool,
}

/// What all closed days come to, computed anew from the entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anew {
    /// At the end of the last one, by source.
    closing: BTreeMap<String, i64>,
    /// The days that are not as they were kept.
    changed: Option<Finding>,
}

/// The first instant of a day. Where the clocks skip midnight, it is the one after the gap; where they show it twice, the
/// first.
pub fn begin_of(day: NaiveDate, zone: Tz) -> DateTime<Utc> {
    let midnight = day.and_time(NaiveTime::MIN);
    if let Some(begin) = zone.from_local_datetime(&midnight).earliest() {
        return begin.to_utc();
    }
    let before = midnight.checked_sub_days(Days::new(1)).unwrap_or(midnight);
    let offset = zone.offset_from_utc_datetime(&before).fix().local_minus_utc();
    (midnight - TimeDelta::seconds(i64::from(offset))).and_utc()
}

/// Closes every business day that has been over for ten minutes, from the one after the last that was closed, or from
/// the first entry, up to one whose numbers cannot be added up: that one waits until they are set right. In the transaction
/// that is open on `client`. Returns how many.
///
/// # Errors
/// Where the database fails.
pub async fn close_days(client: &Client, zone: Tz, now: DateTime<Utc>) -> Result<u64, Error> {
    client.batch_execute(PASSES).await?;
    let last = last_day(client).await?;
    let (mut day, mut ended, mut carried) = match last {
        Some(last) => {
            let closing = last.rows.into_iter().map(|(source, row)| (source, row.closing));
            let Some(next) = last.day.succ_opt() else { return Ok(0) };
            (next, Some(last.ended), closing.collect::<BTreeMap<_, _>>())
        }
        None => {
            let row = client.query_one(include_str!("../../sql/proof/day_first.sql"), &[]).await?;
            let Some(first) = row.try_get::<_, Option<DateTime<Utc>>>(0)? else { return Ok(0) };
            (first.with_timezone(&zone).date_naive(), None, BTreeMap::new())
        }
    };
    let from = ended;
    let mut days = Vec::new();
    while let Some(next) = day.succ_opt() {
        // After a change of business.time_zone a day may begin where the one before it has ended already.
        let end = ended.map_or(begin_of(next, zone), |ended| begin_of(next, zone).max(ended));
        if end + CLOSED_AFTER > now {
            break;
        }
        days.push((day, end));
        (day, ended) = (next, Some(end));
    }
    let Some(&(_, to)) = days.last() else { return Ok(0) };
    let moved = movements(client, from, Some(to), &days.iter().map(|(_, end)| *end).collect::<Vec<_>>()).await?;
    let mut closed = Vec::new();
    for (&(day, ended), moved) in days.iter().zip(moved) {
        let rows = carry(&carried, &moved);
        if !rows.values().all(Booked::is_countable) {
            break;
        }
        carried = rows.iter().map(|(source, row)| (source.clone(), row.closing)).collect();
        closed.push(RollForward { day, ended, rows });
    }
    insert(client, &closed).await?;
    Ok(closed.len() as u64)
}

/// A day's rows: what was carried there and what moved. A source of which nothing was left, and which did not move, has
/// none; what is owed always has one.
fn carry(carried: &BTreeMap<String, i64>, moved: &Movements) -> BTreeMap<String, Booked> {
    let sources: BTreeSet<&str> = carried.keys().chain(moved.keys()).map(String::as_str).chain([""]).collect();
    let mut rows = BTreeMap::new();
    for source in sources {
        let opening = carried.get(source).copied().unwrap_or_default();
        let moved = moved.get(source).copied().unwrap_or_default();
        let closing = moved.closing(opening);
        if source.is_empty() || opening != 0 || moved != Movement::default() {
            rows.insert(source.to_owned(), Booked { opening, moved, closing });
        }
    }
    rows
}

async fn insert(client: &Client, closed: &[RollForward]) -> Result<(), Error> {
    let (mut days, mut sources, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    let mut numbers: [Vec<i64>; 7] = Default::default();
    for (day, (source, row)) in closed.iter().flat_map(|day| day.rows.iter().map(move |row| (day, row))) {
        days.push(day.day);
        sources.push(source.as_str());
        ends.push(day.ended);
        let Booked { opening, moved, closing } = *row;
        let of_row = [opening, moved.recharged, moved.settled, moved.consumed, moved.expired, moved.adjusted, closing];
        numbers.iter_mut().zip(of_row).for_each(|(column, number)| column.push(number));
    }
    let [opening, recharged, settled, consumed, expired, adjusted, closing] = &numbers;
    let sql = include_str!("../../sql/proof/day_insert.sql");
    client
        .execute(sql, &[&days, &sources, &ends, opening, recharged, settled, consumed, expired, adjusted, closing])
        .await?;
    Ok(())
}

/// What was recorded from `from` up to `to`, for each of the days that end at `ends`, and for what comes after the last
/// of them.
async fn movements(
    client: &Client,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    ends: &[DateTime<Utc>],
) -> Result<Vec<Movements>, Error> {
    let mut moved = vec![Movements::new(); ends.len() + 1];
    for row in client.query(include_str!("../../sql/proof/day_movement.sql"), &[&from, &to, &ends]).await? {
        let nth = usize::try_from(row.try_get::<_, i32>("nth")?).unwrap_or_default();
        if let Some(day) = moved.get_mut(nth) {
            day.insert(row.try_get("source")?, movement_from(&row)?);
        }
    }
    Ok(moved)
}

fn movement_from(row: &Row) -> Result<Movement, Error> {
    Ok(Movement {
        recharged: row.try_get("recharged")?,
        settled: row.try_get("settled")?,
        consumed: row.try_get("consumed")?,
        expired: row.try_get("expired")?,
        adjusted: row.try_get("adjusted")?,
    })
}

/// The last business day that was closed.
///
/// # Errors
/// Where the database fails.
pub async fn last_day(client: &Client) -> Result<Option<RollForward>, Error> {
    let rows = client.query(include_str!("../../sql/proof/day_last.sql"), &[]).await?;
    Ok(days_from(&rows)?.pop())
}

/// All business days that were closed, in order.
///
/// # Errors
/// Where the database fails.
pub async fn all_days(client: &Client) -> Result<Vec<RollForward>, Error> {
    let rows = client.query(include_str!("../../sql/proof/day_list.sql"), &[]).await?;
    days_from(&rows)
}

fn days_from(rows: &[Row]) -> Result<Vec<RollForward>, Error> {
    let mut days: Vec<RollForward> = Vec::new();
    for row in rows {
        let (day, ended) = (row.try_get("day")?, row.try_get("ended")?);
        if days.last().is_none_or(|last| last.day != day) {
            days.push(RollForward { day, ended, rows: BTreeMap::new() });
        }
        let booked =
            Booked { opening: row.try_get("opening")?, moved: movement_from(row)?, closing: row.try_get("closing")? };
        if let Some(last) = days.last_mut() {
            last.rows.insert(row.try_get("source")?, booked);
        }
    }
    Ok(days)
}

/// How the books stand now. `anew`, or where they do not hold against the last closed day, all closed days are first
/// computed anew from the entries. So a day that has changed is told as that, and not a second time as a difference of the
/// balances.
///
/// None where `proceed`, asked now and then, said no. The connection must be the run's own: settings stay on it.
///
/// # Errors
/// Where the database fails.
pub async fn books(
    client: &mut Client,
    zone: Tz,
    anew: bool,
    mut proceed: impl FnMut() -> bool,
) -> Result<Option<Books>, Error> {
    let mut computed = None;
    if anew {
        let Some(days) = days_anew(client, &mut proceed).await? else { return Ok(None) };
        computed = Some(days);
    }
    loop {
        let snapshot =
            client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
        let books = look(snapshot.client(), zone, computed.as_ref()).await?;
        snapshot.commit().await?;
        if !books.differs {
            return Ok(Some(books));
        }
        let Some(days) = days_anew(client, &mut proceed).await? else { return Ok(None) };
        computed = Some(days);
    }
}

/// How the books stand, in the transaction that is open on `client`: REPEATABLE READ, so that everything is of one
/// snapshot. Holds the last closed day, as it was computed anew or else as it was kept, and what was recorded since against
/// the accounts, and by source against the batches.
///
/// # Errors
/// Where the database fails.
pub async fn look(client: &Client, zone: Tz, anew: Option<&Anew>) -> Result<Books, Error> {
    client.batch_execute(PASSES).await?;
    let as_of: DateTime<Utc> = client.query_one("SELECT statement_timestamp()", &[]).await?.try_get(0)?;
    let last = last_day(client).await?;
    let since = movements(client, last.as_ref().map(|last| last.ended), None, &[]).await?.pop().unwrap_or_default();
    let row = client.query_one(include_str!("../../sql/proof/balance_total.sql"), &[]).await?;
    let (balance, owed): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let outstanding = outstanding(client, zone, as_of).await?;

    let mut found = BTreeMap::from([(String::new(), owed.saturating_neg())]);
    for part in &outstanding {
        let sum = found.entry(part.source.clone()).or_default();
        *sum = sum.saturating_add(part.points);
    }
    let closing = match anew {
        Some(anew) => anew.closing.clone(),
        None => last.iter().flat_map(|last| &last.rows).map(|(source, row)| (source.clone(), row.closing)).collect(),
    };
    let expected = closings(closing, &since);
    let total = total(&expected);
    let mut findings = Vec::new();
    if total != balance {
        findings.push(whole(DAYS_BALANCE, total.to_string(), balance.to_string()));
    }
    // What is owed is a part of the balances: where they differ, it was told already.
    let sources: Vec<&str> =
        differing(&expected, &found).into_iter().filter(|source| total == balance || !source.is_empty()).collect();
    if !sources.is_empty() {
        let says = |what: &BTreeMap<String, i64>| {
            listed(sources.iter().map(|source| {
                let name = if source.is_empty() { "owed" } else { source };
                format!("{name} {}", what.get(*source).copied().unwrap_or_default())
            }))
        };
        findings.push(whole(DAYS_SOURCE, says(&expected), says(&found)));
    }
    let differs = anew.is_none() && !findings.is_empty();
    match anew {
        Some(anew) => findings.splice(0..0, anew.changed.clone()).for_each(drop),
        None => findings.clear(),
    }
    Ok(Books {
        as_of,
        last,
        since,
        expected: total,
        balance,
        owed,
        outstanding,
        anew: anew.is_some(),
        findings,
        differs,
    })
}

async fn outstanding(client: &Client, zone: Tz, as_of: DateTime<Utc>) -> Result<Vec<Outstanding>, Error> {
    let today = as_of.with_timezone(&zone).date_naive();
    let begin = |day: Option<NaiveDate>| day.map_or(as_of, |day| begin_of(day, zone));
    let mut ages: Vec<DateTime<Utc>> =
        STEPS.iter().map(|days| begin(today.checked_sub_days(Days::new(*days)))).collect();
    ages.sort();
    // What expires at this very instant is due.
    let mut expiries = vec![as_of + TimeDelta::microseconds(1)];
    expiries.extend(STEPS.iter().map(|days| begin(today.checked_add_days(Days::new(days + 1)))));
    expiries.sort();
    let rows = client.query(include_str!("../../sql/proof/batch_outstanding.sql"), &[&ages, &expiries]).await?;
    let part = |row: &Row| {
        Ok(Outstanding {
            source: row.try_get("source")?,
            age: usize::try_from(row.try_get::<_, i32>("age")?).unwrap_or_default(),
            expiry: usize::try_from(row.try_get::<_, i32>("expiry")?).unwrap_or_default(),
            batches: row.try_get("batches")?,
            points: row.try_get("points")?,
        })
    };
    rows.iter().map(part).collect()
}

/// Computes all closed days anew from the entries; None where `proceed`, asked now and then, said no. They do not change,
/// so it needs no snapshot, and should hold none: it reads the whole history.
///
/// # Errors
/// Where the database fails.
pub async fn days_anew(client: &Client, proceed: &mut impl FnMut() -> bool) -> Result<Option<Anew>, Error> {
    client.batch_execute(PASSES).await?;
    let days = all_days(client).await?;
    // The first day has no begin: whatever was recorded before its end belongs to it.
    let mut from = None;
    let mut sums = BTreeMap::new();
    let (mut kept_says, mut says, mut before) = (Vec::new(), Vec::new(), BTreeMap::new());
    for days in days.chunks(DAYS_AT_ONCE) {
        if !proceed() {
            return Ok(None);
        }
        let ends: Vec<DateTime<Utc>> = days.iter().map(|day| day.ended).collect();
        let to = ends.last().copied();
        let moved = movements(client, from, to, &ends).await?;
        from = to;
        for (kept, moved) in days.iter().zip(moved) {
            let rows = carry(&before, &moved);
            let sources: BTreeSet<&String> = kept.rows.keys().chain(rows.keys()).collect();
            for source in sources {
                let was = kept.rows.get(source).copied().unwrap_or_default();
                let is = rows.get(source).copied().unwrap_or_default();
                if (was.opening, was.moved) != (is.opening, is.moved) {
                    let (was, is) = differences(kept.day, source, &was, &is);
                    kept_says.push(was);
                    says.push(is);
                }
            }
            // From each day to the next by what was kept: a day that has changed is told once, not with all that follow.
            before = kept.rows.iter().map(|(source, row)| (source.clone(), row.closing)).collect();
            sums = closings(sums, &moved);
        }
    }
    let changed = (!says.is_empty()).then(|| whole(DAY_CHANGED, listed(kept_says), listed(says)));
    Ok(Some(Anew { closing: sums, changed }))
}

/// Both sides of a source on a day, in the columns in which they differ.
fn differences(day: NaiveDate, source: &str, was: &Booked, is: &Booked) -> (String, String) {
    let columns = |row: &Booked| {
        let Movement { recharged, settled, consumed, expired, adjusted } = row.moved;
        [
            ("opening", row.opening),
            ("recharged", recharged),
            ("settled", settled),
            ("consumed", consumed),
            ("expired", expired),
            ("adjusted", adjusted),
        ]
    };
    let name = if source.is_empty() { "owed" } else { source };
    let (mut expected, mut found) = (format!("{day} {name}:"), format!("{day} {name}:"));
    for ((column, was), (_, is)) in columns(was).into_iter().zip(columns(is)).filter(|(was, is)| was != is) {
        // Writing to a String cannot fail.
        let _ = write!(expected, " {column} {was}");
        let _ = write!(found, " {column} {is}");
    }
    (expected, found)
}

/// `a, b, c`, and how many more there are.
fn listed(places: impl IntoIterator<Item = String>) -> String {
    let mut places: Vec<String> = places.into_iter().collect();
    let more = places.len().saturating_sub(MOST_PLACES);
    places.truncate(MOST_PLACES);
    if more > 0 {
        places.push(format!("and {more} more"));
    }
    places.join(", ")
}

/// A finding about the ledger as a whole.
fn whole(rule: &str, expected: String, found: String) -> Finding {
    Finding { rule: rule.to_owned(), user: None, batch: None, seq: None, expected, found }
}

fn closings(mut sums: BTreeMap<String, i64>, moved: &Movements) -> BTreeMap<String, i64> {
    for (source, moved) in moved {
        let sum = sums.entry(source.clone()).or_default();
        *sum = moved.closing(*sum);
    }
    sums
}

fn total(sums: &BTreeMap<String, i64>) -> i64 {
    counted(sums.values().map(|sum| i128::from(*sum)).sum())
}

/// The sources of which there is not as much as expected.
fn differing<'a>(expected: &'a BTreeMap<String, i64>, found: &'a BTreeMap<String, i64>) -> Vec<&'a str> {
    let sources: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    let of = |sums: &BTreeMap<String, i64>, source: &String| sums.get(source).copied().unwrap_or_default();
    sources.into_iter().filter(|source| of(expected, source) != of(found, source)).map(String::as_str).collect()
}
