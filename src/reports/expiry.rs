//! What expired, what will, and how the last forecast compares with what came of it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Days, Utc};
use deadpool_postgres::Transaction;
use tokio_postgres::Row;

use super::arrears::UNSEEN;
use super::pipeline::{Report, Scope};
use super::words::{Words, days_later, next_monday, number};
use super::{Error, arrears};
use crate::document::{Bar, Cell, Chart, Document, Fact, Form, Kind, Section, Table, Tone};
use crate::ledger::Sweep;
use crate::time::{Zone, start_of_day};

/// The report's name.
pub const REPORT: &str = "expiry";
/// The calendar weeks that are told, the one under way included.
const WEEKS: u64 = 13;
/// The days that a forecast is kept for, as many as those weeks: a report that comes later has nothing to compare.
const DAYS: u64 = WEEKS * 7;

/// The report on a sweep that is done.
#[derive(Clone, Copy)]
pub struct Expiry<'a> {
    /// What the sweep did.
    pub sweep: &'a Sweep,
    /// What disagrees, if the sweep's counters disagree with its entries.
    pub disproved: Option<&'a str>,
}

/// A report and what the next one has to know.
#[derive(Clone, Debug)]
pub struct Made {
    /// The report.
    pub document: Document,
    forecast: Vec<Forecast>,
    seen: Taken,
}

/// What will expire on a day that begins with the slot's time of day, or was due before and is still there, and what is
/// known of the hour before the report.
#[derive(Clone, Copy, Debug)]
struct Forecast {
    ends: DateTime<Utc>,
    held: Held,
    seen: Flows,
}

/// Batches and points.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    batches: i64,
    points: i64,
}

/// What entries did to batches.
#[derive(Clone, Copy, Debug, Default)]
struct Flows {
    recharged: i64,
    spent: i64,
    expired: i64,
}

/// What the last report said of a day, and what came of it: said + recharged - spent + set right = expired + left +
/// unexplained.
struct Compared {
    ends: DateTime<Utc>,
    said: i64,
    flows: Flows,
    set_right: i64,
    left: i64,
    unexplained: i64,
}

/// What entries of expiry took, by source and by whether a sweep wrote them.
type Taken = BTreeMap<(String, bool), Held>;

/// What expired since the last report, by source.
struct Expired {
    by_source: BTreeMap<String, Both>,
    all: Both,
    /// When the last report was made.
    since: Option<DateTime<Utc>>,
}

/// What sweeps took, and what postings did that met points past their time.
#[derive(Clone, Copy, Debug, Default)]
struct Both {
    sweep: Held,
    postings: Held,
}

/// What open batches hold, by source and by part between borders.
struct Outlook {
    borders: Vec<DateTime<Utc>>,
    parts: BTreeMap<(String, usize), Held>,
}

impl Held {
    fn add(self, other: Held) -> Held {
        Held { batches: self.batches.saturating_add(other.batches), points: self.points.saturating_add(other.points) }
    }

    fn less(self, other: Held) -> Held {
        Held { batches: self.batches.saturating_sub(other.batches), points: self.points.saturating_sub(other.points) }
    }
}

impl Both {
    fn together(self) -> Held {
        self.sweep.add(self.postings)
    }
}

impl Expired {
    /// From all that was taken since an hour before the last report, and what that one had seen of it. The first report
    /// tells of its own sweep alone.
    async fn read(
        transaction: &Transaction<'_>,
        since: Option<DateTime<Utc>>,
        sweep: &Sweep,
    ) -> Result<Expired, Error> {
        let mut expired = Expired { by_source: BTreeMap::new(), all: Both::default(), since };
        let Some(since) = since else {
            for (source, of) in &sweep.by_source {
                let batches = i64::try_from(of.batches).unwrap_or(i64::MAX);
                expired.add(source, true, Held { batches, points: of.points });
            }
            return Ok(expired);
        };
        let mut seen = taken(&transaction.query(include_str!("../../sql/reports/expiry_seen.sql"), &[]).await?)?;
        for (key, held) in taken_since(transaction, since - UNSEEN).await? {
            let held = held.less(seen.remove(&key).unwrap_or_default());
            if held.batches != 0 {
                expired.add(&key.0, key.1, held);
            }
        }
        Ok(expired)
    }

    fn add(&mut self, source: &str, by_sweep: bool, held: Held) {
        for both in [self.by_source.entry(source.to_owned()).or_default(), &mut self.all] {
            let of = if by_sweep { &mut both.sweep } else { &mut both.postings };
            *of = of.add(held);
        }
    }
}

/// What entries of expiry that were recorded later than `from` took.
async fn taken_since(transaction: &Transaction<'_>, from: DateTime<Utc>) -> Result<Taken, Error> {
    Ok(taken(&transaction.query(include_str!("../../sql/reports/expiry_taken.sql"), &[&from]).await?)?)
}

fn taken(rows: &[Row]) -> Result<Taken, tokio_postgres::Error> {
    let of = |row: &Row| {
        let held = Held { batches: row.try_get(2)?, points: row.try_get(3)? };
        Ok(((row.try_get(0)?, row.try_get(1)?), held))
    };
    rows.iter().map(of).collect()
}

impl Outlook {
    async fn read(transaction: &Transaction<'_>, mut borders: Vec<DateTime<Utc>>) -> Result<Outlook, Error> {
        borders.sort_unstable();
        borders.dedup();
        let rows = transaction.query(include_str!("../../sql/reports/expiry_outlook.sql"), &[&borders]).await?;
        let mut parts = BTreeMap::new();
        for row in rows {
            let held = Held { batches: row.try_get(2)?, points: row.try_get(3)? };
            parts.insert((row.try_get(0)?, usize::try_from(row.try_get::<_, i32>(1)?).unwrap_or(0)), held);
        }
        Ok(Outlook { borders, parts })
    }

    /// What expires after one border and by another; without the first from the begin, without the second for ever.
    fn between(&self, source: Option<&str>, after: Option<DateTime<Utc>>, by: Option<DateTime<Utc>>) -> Held {
        let inside = |part: usize| {
            let begins = part.checked_sub(1).and_then(|border| self.borders.get(border));
            let ends = self.borders.get(part);
            after.is_none_or(|after| begins.is_some_and(|begins| *begins >= after))
                && by.is_none_or(|by| ends.is_some_and(|ends| *ends <= by))
        };
        let parts = self.parts.iter();
        parts
            .filter(|((of, part), _)| source.is_none_or(|source| source == of) && inside(*part))
            .fold(Held::default(), |sum, (_, held)| sum.add(*held))
    }

    fn sources(&self) -> Vec<&str> {
        let mut sources: Vec<&str> = self.parts.keys().map(|(source, _)| source.as_str()).collect();
        sources.dedup();
        sources
    }
}

/// What entries recorded later than `from` did to batches between borders: the first is of those that expire by the first
/// border, each further one of those after a border and by the next, the last of those after the last.
async fn flows(
    transaction: &Transaction<'_>,
    from: DateTime<Utc>,
    borders: &[DateTime<Utc>],
) -> Result<Vec<Flows>, Error> {
    let rows = transaction.query(include_str!("../../sql/reports/expiry_flows.sql"), &[&from, &borders]).await?;
    let mut flows = vec![Flows::default(); borders.len() + 1];
    for row in rows {
        let part = usize::try_from(row.try_get::<_, i32>(0)?).unwrap_or(0);
        if let Some(of) = flows.get_mut(part) {
            *of = Flows { recharged: row.try_get(1)?, spent: row.try_get(2)?, expired: row.try_get(3)? };
        }
    }
    Ok(flows)
}

/// What a repair may have changed of what the last forecast said: one or the other, by whether that had seen what was
/// wrong.
type Repair = [i64; 2];

/// What repairs recorded later than `from` did to batches between borders, as [`flows`] counts the parts.
async fn repairs(
    transaction: &Transaction<'_>,
    from: DateTime<Utc>,
    borders: &[DateTime<Utc>],
) -> Result<Vec<Vec<Repair>>, Error> {
    let rows = transaction.query(include_str!("../../sql/reports/expiry_repaired.sql"), &[&from, &borders]).await?;
    let mut repairs = vec![Vec::new(); borders.len() + 1];
    for row in rows {
        let part = usize::try_from(row.try_get::<_, i32>(0)?).unwrap_or(0);
        if let Some(of) = repairs.get_mut(part) {
            of.push([row.try_get(1)?, row.try_get(2)?]);
        }
    }
    Ok(repairs)
}

/// The most sums that are held against a difference; a day on which more repairs meet has nearly every one between.
const MOST_SUMS: usize = 10_000;

/// How much of a difference repairs explain: of the sums that they can come to, the one nearest to it.
fn explained(difference: i64, repairs: &[Repair]) -> i64 {
    let mut sums = BTreeSet::from([0_i64]);
    for [rows_moved, booked] in repairs {
        let with = |sum: &i64| [sum.saturating_add(*rows_moved), sum.saturating_add(*booked)];
        sums = sums.iter().flat_map(with).collect();
        if sums.len() > MOST_SUMS {
            let of = |pick: fn(i64, i64) -> i64| {
                repairs.iter().fold(0_i64, |sum, [one, other]| sum.saturating_add(pick(*one, *other)))
            };
            return difference.clamp(of(i64::min), of(i64::max));
        }
    }
    sums.into_iter().min_by_key(|sum| sum.abs_diff(difference)).unwrap_or(0)
}

/// Makes the report on a sweep that is done, from the snapshot of `transaction`, which is REPEATABLE READ and writes
/// nothing. `disproved` says what does not agree where the sweep's count is not what its entries say.
///
/// The last forecast is compared by the batches' own ends, not by when entries were written: what it said of them, and
/// what came, was spent and expired since, as entries say that its snapshot did not show.
///
/// # Errors
/// Where the database fails.
async fn build(transaction: &Transaction<'_>, scope: &Scope<'_>, report: &Expiry<'_>) -> Result<Made, Error> {
    let (Scope { config, slot, run, .. }, Expiry { sweep, disproved }) = (scope.clone(), *report);
    let (words, zone) = (Words(config.language), config.time_zone);
    let now: DateTime<Utc> = transaction.query_one("SELECT now()", &[]).await?.try_get(0)?;
    let days: Vec<DateTime<Utc>> = (0..=DAYS).map(|day| days_later(slot, day, zone)).collect();
    let monday = next_monday(slot, zone);
    let weeks: Vec<DateTime<Utc>> = std::iter::once(slot)
        .chain((0..WEEKS).filter_map(|week| Some(start_of_day(monday.checked_add_days(Days::new(week * 7))?, zone))))
        .collect();

    let mut last = Vec::new();
    let mut made_for = None;
    for row in transaction.query(include_str!("../../sql/reports/forecast_last.sql"), &[]).await? {
        let (ends, of, as_of): (DateTime<Utc>, DateTime<Utc>, DateTime<Utc>) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        made_for = Some((of, as_of));
        if ends <= slot {
            let seen = Flows { recharged: row.try_get(4)?, spent: row.try_get(5)?, expired: row.try_get(6)? };
            last.push((ends, row.try_get::<_, i64>(3)?, seen));
        }
    }
    let compared_borders: Vec<DateTime<Utc>> = last.iter().map(|(ends, ..)| *ends).collect();
    // Every open batch is told, so it is no harm to read the table whole.
    let borders = days.iter().chain(&weeks).chain(&compared_borders).copied();
    let outlook = Outlook::read(transaction, borders.collect()).await?;

    arrears::plan_for_few(transaction).await?;
    let expired = Expired::read(transaction, made_for.map(|(_, as_of)| as_of), sweep).await?;
    let mut compared = Vec::new();
    if let Some((_, as_of)) = made_for {
        let mut begins = None;
        let since = flows(transaction, as_of - UNSEEN, &compared_borders).await?;
        let repairs = repairs(transaction, as_of - UNSEEN, &compared_borders).await?;
        for (((ends, said, seen), flows), repairs) in last.into_iter().zip(since).zip(repairs) {
            let flows = Flows {
                recharged: flows.recharged.saturating_sub(seen.recharged),
                spent: flows.spent.saturating_sub(seen.spent),
                expired: flows.expired.saturating_sub(seen.expired),
            };
            let left = outlook.between(None, begins, Some(ends)).points;
            let due = said.saturating_add(flows.recharged).saturating_sub(flows.spent);
            let came = flows.expired.saturating_add(left);
            let set_right = explained(came.saturating_sub(due), &repairs);
            let unexplained = due.saturating_add(set_right).saturating_sub(came);
            compared.push(Compared { ends, said, flows, set_right, left, unexplained });
            begins = Some(ends);
        }
    }
    let seen = flows(transaction, now - UNSEEN, &days).await?;
    let begins = std::iter::once(None).chain(days.iter().copied().map(Some));
    let forecast: Vec<Forecast> = (begins.zip(&days).zip(seen))
        .map(|((begins, ends), seen)| Forecast { ends: *ends, held: outlook.between(None, begins, Some(*ends)), seen })
        .collect();
    let seen = taken_since(transaction, now - UNSEEN).await?;

    let within = |days: u64| outlook.between(None, Some(slot), Some(days_later(slot, days, zone)));
    let unexplained: Vec<&Compared> = compared.iter().filter(|day| day.unexplained != 0).collect();
    let late = outlook.between(None, None, Some(slot));
    // What has no account is told for itself.
    let left = late.less(sweep.orphans.iter().fold(Held::default(), |sum, orphan| {
        sum.add(Held { batches: i64::try_from(orphan.batches).unwrap_or(i64::MAX), points: orphan.points })
    }));
    let left = if sweep.orphaned > sweep.orphans.len() as u64 { Held::default() } else { left };
    let tone = match () {
        () if disproved.is_some() || sweep.orphaned > 0 => Tone::Bad,
        () if !unexplained.is_empty() || left.batches > 0 => Tone::Attention,
        () => Tone::Good,
    };
    let Held { batches, points } = expired.all.together();
    let soon = within(30).points;
    let mut headline = words.of(
        format!(
            "{} in {} expired, {} will within 30 days",
            words.points(points),
            words.batches(batches),
            words.points(soon)
        ),
        format!("{}共 {}已过期，未来 30 天将到期 {}", words.batches(batches), words.points(points), words.points(soon)),
    );
    if disproved.is_some() {
        headline.push_str(words.of("; the entries say otherwise", "；与分录不符"));
    }
    if sweep.orphaned > 0 {
        headline.push_str(words.of("; batches without an account are left", "；存在无账户的批次"));
    }
    if left.batches > 0 {
        headline.push_str(words.of("; some that were due are still there", "；仍有到期积分未处理"));
    }
    if !unexplained.is_empty() {
        headline.push_str(words.of("; the entries do not explain the last forecast", "；上次预测与分录不符"));
    }
    let document = Document {
        report: REPORT.to_owned(),
        language: config.language,
        business: config.business.clone(),
        title: words.of("Expiry", "积分过期报告").to_owned(),
        slot,
        run,
        as_of: now,
        time_zone: zone.name().to_owned(),
        tone,
        headline,
        facts: facts(&expired, sweep, &within, late, words),
        sections: [
            wrong(disproved, sweep, left, &unexplained, zone, words),
            vec![Section::Table(by_way(&expired, zone, words))],
            orphans(sweep, words).map(Section::Table).into_iter().collect(),
            vec![
                Section::Table(by_source(&outlook, slot, zone, words)),
                Section::Chart(chart(&outlook, &weeks, zone, words)),
            ],
            vec![
                Section::Table(by_week(&outlook, &weeks, zone, words)),
                accuracy(&compared, points, expired.since.is_some(), words),
            ],
        ]
        .concat(),
    };
    Ok(Made { document, forecast, seen })
}

impl Report for Expiry<'_> {
    const NAME: &'static str = REPORT;
    type Facts = Made;
    type Counters = Sweep;

    async fn gather(&self, snapshot: &Transaction<'_>, scope: &Scope<'_>) -> Result<Made, Error> {
        build(snapshot, scope, self).await
    }

    fn document(&self, facts: &Made, _: &Scope<'_>) -> Document {
        facts.document.clone()
    }

    async fn remember(&self, transaction: &Transaction<'_>, facts: &Made, _: &Scope<'_>) -> Result<(), Error> {
        let Made { document, forecast, seen } = facts;
        let column = |value: fn(&Forecast) -> i64| forecast.iter().map(value).collect::<Vec<i64>>();
        let ends: Vec<DateTime<Utc>> = forecast.iter().map(|day| day.ends).collect();
        let (batches, points) = (column(|day| day.held.batches), column(|day| day.held.points));
        let (recharged, spent) = (column(|day| day.seen.recharged), column(|day| day.seen.spent));
        let expired = column(|day| day.seen.expired);
        transaction.execute(include_str!("../../sql/reports/forecast_clear.sql"), &[]).await?;
        let insert = include_str!("../../sql/reports/forecast_insert.sql");
        let (slot, as_of) = (&document.slot, &document.as_of);
        transaction.execute(insert, &[slot, as_of, &ends, &batches, &points, &recharged, &spent, &expired]).await?;
        let (sources, by_sweep): (Vec<&str>, Vec<bool>) = seen.keys().map(|(of, by)| (of.as_str(), *by)).unzip();
        let (batches, points): (Vec<i64>, Vec<i64>) = seen.values().map(|of| (of.batches, of.points)).unzip();
        transaction.execute(include_str!("../../sql/reports/expiry_forget.sql"), &[]).await?;
        let remember = include_str!("../../sql/reports/expiry_remember.sql");
        transaction.execute(remember, &[&sources, &by_sweep, &batches, &points]).await?;
        Ok(())
    }

    fn counters(&self, _: &Made) -> Sweep {
        self.sweep.clone()
    }

    fn accounts(&self, _: &Made) -> u64 {
        self.sweep.accounts
    }
}

fn facts(expired: &Expired, sweep: &Sweep, within: &impl Fn(u64) -> Held, late: Held, words: Words) -> Vec<Fact> {
    let Both { sweep: by_sweep, postings } = expired.all;
    let together = expired.all.together();
    let mut facts = vec![
        words.fact("Points expired", "过期积分", Cell::Number(together.points)),
        words.fact("Of these by the sweep", "其中由过期处理", Cell::Number(by_sweep.points)),
        words.fact("Of these by postings", "其中由账户变动触发", Cell::Number(postings.points)),
        words.fact("Batches expired", "过期批次", Cell::Number(together.batches)),
        words.fact("Accounts that the sweep touched", "过期处理涉及账户", number(sweep.accounts)),
        words.fact("Will expire within 7 days", "未来 7 天将到期", Cell::Number(within(7).points)),
        words.fact("Will expire within 30 days", "未来 30 天将到期", Cell::Number(within(30).points)),
        words.fact("Will expire within 90 days", "未来 90 天将到期", Cell::Number(within(90).points)),
    ];
    if late.batches > 0 {
        facts.push(words.fact("Due, but still there", "已到期但仍未处理", Cell::Number(late.points)));
    }
    facts
}

/// What somebody must look at.
fn wrong(
    disproved: Option<&str>,
    sweep: &Sweep,
    left: Held,
    unexplained: &[&Compared],
    zone: Zone,
    words: Words,
) -> Vec<Section> {
    let mut paragraphs = Vec::new();
    if let Some(reason) = disproved {
        paragraphs.push(words.of(
            format!("What the sweep counted is not what its entries say: {reason}."),
            format!("过期处理的计数与其分录不符：{reason}。"),
        ));
    }
    if sweep.orphaned > 0 {
        let accounts = words.accounts(sweep.orphaned);
        paragraphs.push(words.of(
            format!("Batches are due of {accounts} that are not there: they cannot expire and were left as they are."),
            format!("有 {} 个不存在的账户名下仍有到期批次，无法作过期处理，已原样保留。", sweep.orphaned),
        ));
    }
    if left.batches > 0 {
        let (points, batches) = (words.points(left.points), words.batches(left.batches));
        paragraphs.push(words.of(
            format!(
                "{points} in {batches} were due at this slot and are still there: they came after the sweep had been at \
                 their account, or it missed them. The next sweep takes them; `pointsd run expiry` is one. Should they stand \
                 here again, `pointsd run reconciliation --full` tells what is wrong with them."
            ),
            format!(
                "有 {batches}共 {points}在计划时间已到期，但仍未处理：在过期处理之后才入账，或被遗漏。下一次过期处理将使其过期，\
                 也可运行 `pointsd run expiry`；如下次报告仍有，请运行 `pointsd run reconciliation --full` 查明原因。"
            ),
        ));
    }
    if let (Some(first), Some(last)) = (unexplained.first(), unexplained.last()) {
        let points = unexplained.iter().fold(0_i64, |sum, day| sum.saturating_add(day.unexplained.saturating_abs()));
        let (points, first, last) =
            (words.points(points), words.instant(first.ends, zone), words.instant(last.ends, zone));
        let english = if first == last { format!("by {first}") } else { format!("by instants from {first} to {last}") };
        let chinese = if first == last { first } else { format!("{first} 至 {last} ") };
        paragraphs.push(words.of(
            format!(
                "Of what the last forecast said would expire {english}, {points} came or went without an entry: see \
                 “Unexplained” in the last table. Rows of batches were changed by hand; \
                 `pointsd run reconciliation --full` tells which."
            ),
            format!(
                "上次预测中截至 {chinese}到期的积分，有 {points}的增减没有对应分录，见末表“无法解释”一列。批次数据曾被人工改动，\
                 请运行 `pointsd run reconciliation --full` 查明。"
            ),
        ));
    }
    let title = words.of("What does not agree", "不符事项").to_owned();
    if paragraphs.is_empty() { Vec::new() } else { vec![Section::Text { title, paragraphs }] }
}

/// What expired, by source and by what took it.
fn by_way(expired: &Expired, zone: Zone, words: Words) -> Table {
    let numbers = |both: &Both| {
        let together = both.together();
        [together.batches, both.sweep.points, both.postings.points, together.points]
    };
    let row = |(source, both): (&String, &Both)| {
        std::iter::once(Cell::Text(source.clone())).chain(numbers(both).map(Cell::Number)).collect()
    };
    let rows: Vec<Vec<Cell>> = expired.by_source.iter().map(row).collect();
    let note = match expired.since.map(|since| words.instant(since, zone)) {
        None => words
            .of(
                "This is the first report: what postings expired before it is not counted.",
                "这是第一份报告，此前由账户变动触发的过期未计入。",
            )
            .to_owned(),
        Some(since) => words.of(
            format!(
                "Since the last report, of {since}. A posting expires what it meets past its time, before the sweep does."
            ),
            format!("自上次报告（{since}）起。账户发生变动时，其已到期的积分先行过期，不待过期处理。"),
        ),
    };
    Table {
        name: "expired".to_owned(),
        title: words.of("What expired, by source", "过期积分，按来源").to_owned(),
        note,
        columns: vec![
            words.column("Source", "来源", Kind::Text),
            words.column("Batches", "批次数", Kind::Number),
            words.column("By the sweep", "由过期处理", Kind::Number),
            words.column("By postings", "由账户变动", Kind::Number),
            words.column("Together", "合计", Kind::Number),
        ],
        rows_in_all: rows.len() as u64,
        rows_in_body: 20,
        rows,
        totals: std::iter::once(None).chain(numbers(&expired.all).map(Some)).collect(),
        if_empty: words.of("Nothing was due.", "没有到期的批次。").to_owned(),
    }
}

fn orphans(sweep: &Sweep, words: Words) -> Option<Table> {
    let row = |orphan: &crate::ledger::Orphan| {
        vec![Cell::Text(orphan.user.to_string()), number(orphan.batches), Cell::Number(orphan.points)]
    };
    (sweep.orphaned > 0).then(|| Table {
        name: "without-account".to_owned(),
        title: words.of("Due batches without an account", "无账户的到期批次").to_owned(),
        note: String::new(),
        columns: vec![
            words.column("Account", "账户", Kind::Identifier),
            words.column("Batches", "批次数", Kind::Number),
            words.column("Points", "积分", Kind::Number),
        ],
        rows: sweep.orphans.iter().map(row).collect(),
        rows_in_all: sweep.orphaned,
        totals: Vec::new(),
        rows_in_body: 20,
        if_empty: String::new(),
    })
}

fn by_source(outlook: &Outlook, slot: DateTime<Utc>, zone: Zone, words: Words) -> Table {
    let numbers = |source: Option<&str>| {
        let all = outlook.between(source, None, None);
        let within = |days| outlook.between(source, Some(slot), Some(days_later(slot, days, zone))).points;
        [all.batches, all.points, within(7), within(30), within(90)]
    };
    let row = |source: &str| {
        let name = std::iter::once(Cell::Text(source.to_owned()));
        name.chain(numbers(Some(source)).map(Cell::Number)).collect()
    };
    let rows: Vec<Vec<Cell>> = outlook.sources().into_iter().map(row).collect();
    Table {
        name: "outstanding".to_owned(),
        title: words.of("Outstanding points, by source", "未使用积分，按来源").to_owned(),
        note: words
            .of("What will expire if nobody uses it before.", "将到期数为在此期间无人使用的情况下将过期的积分。")
            .to_owned(),
        columns: vec![
            words.column("Source", "来源", Kind::Text),
            words.column("Batches", "批次数", Kind::Number),
            words.column("Outstanding", "余额", Kind::Number),
            words.column("Within 7 days", "7 天内到期", Kind::Number),
            words.column("Within 30 days", "30 天内到期", Kind::Number),
            words.column("Within 90 days", "90 天内到期", Kind::Number),
        ],
        rows_in_all: rows.len() as u64,
        rows_in_body: 20,
        rows,
        totals: std::iter::once(None).chain(numbers(None).map(Some)).collect(),
        if_empty: words.of("No points are outstanding.", "没有未使用积分。").to_owned(),
    }
}

/// From when to when each week is, and what expires in it. The first is what is left of the week under way.
fn weekly<'a>(outlook: &'a Outlook, weeks: &'a [DateTime<Utc>]) -> impl Iterator<Item = (DateTime<Utc>, Held)> + 'a {
    weeks.windows(2).filter_map(|window| {
        let [begins, ends] = window else { return None };
        Some((*begins, outlook.between(None, Some(*begins), Some(*ends))))
    })
}

fn later(outlook: &Outlook, weeks: &[DateTime<Utc>]) -> Held {
    weeks.last().map_or_else(Held::default, |end| outlook.between(None, Some(*end), None))
}

fn chart(outlook: &Outlook, weeks: &[DateTime<Utc>], zone: Zone, words: Words) -> Chart {
    let bar = |(begins, held): (DateTime<Utc>, Held)| Bar {
        label: begins.with_timezone(&zone).format("%m-%d").to_string(),
        value: held.points,
    };
    let rest = Bar { label: words.of("later", "更晚").to_owned(), value: later(outlook, weeks).points };
    Chart {
        name: "points-by-week".to_owned(),
        title: words.of("Outstanding points by week of expiry", "未使用积分，按到期周").to_owned(),
        description: words
            .of(
                "A bar for each week, as high as the points that expire in it; below it the day on which it begins.",
                "每周一根柱，高度为该周将到期的积分，下方为该周起始日。",
            )
            .to_owned(),
        form: Form::Bars,
        bars: weekly(outlook, weeks).map(bar).chain([rest]).collect(),
    }
}

fn by_week(outlook: &Outlook, weeks: &[DateTime<Utc>], zone: Zone, words: Words) -> Table {
    let row = |(begins, held): (DateTime<Utc>, Held)| {
        vec![
            Cell::Date(begins.with_timezone(&zone).date_naive()),
            Cell::Number(held.batches),
            Cell::Number(held.points),
        ]
    };
    let later = later(outlook, weeks);
    let rest =
        vec![Cell::Text(words.of("later", "更晚").to_owned()), Cell::Number(later.batches), Cell::Number(later.points)];
    let rows: Vec<Vec<Cell>> = weekly(outlook, weeks).map(row).chain([rest]).collect();
    let all = outlook.between(None, weeks.first().copied(), None);
    Table {
        name: "weeks".to_owned(),
        title: words.of("Points that expire, by week", "将到期积分，按周").to_owned(),
        note: words
            .of("Weeks begin on Monday; the first is what is left of this one.", "每周自周一起算，首行为本周剩余部分。")
            .to_owned(),
        columns: vec![
            words.column("Week of", "起始日", Kind::Date),
            words.column("Batches", "批次数", Kind::Number),
            words.column("Points", "积分", Kind::Number),
        ],
        rows_in_all: rows.len() as u64,
        rows_in_body: rows.len(),
        rows,
        totals: vec![None, Some(all.batches), Some(all.points)],
        if_empty: String::new(),
    }
}

/// How the last forecast compares with what came of it. What expired in all is told: what is of none of these days is of
/// those that are not over.
fn accuracy(compared: &[Compared], expired: i64, has_last: bool, words: Words) -> Section {
    let title = words.of("The last forecast and what came of it", "上次预测与实际").to_owned();
    let numbers = |day: &Compared| {
        let Flows { recharged, spent, expired } = day.flows;
        [day.said, recharged, spent, day.set_right, expired, day.left, day.unexplained]
    };
    // The first is what was due by the last slot already: mostly nothing.
    let told = |(nth, day): &(usize, &Compared)| *nth > 0 || numbers(day).iter().any(|number| *number != 0);
    let compared: Vec<&Compared> = compared.iter().enumerate().filter(told).map(|(_, day)| day).collect();
    let total = |nth: usize| {
        let column = compared.iter().filter_map(|day| numbers(day).get(nth).copied());
        column.fold(0_i64, i64::saturating_add)
    };
    let mut totals = [0, 1, 2, 3, 4, 5, 6].map(total);
    let not_over = if has_last { expired.saturating_sub(totals[4]) } else { 0 };
    if compared.is_empty() && not_over == 0 {
        let text = match has_last {
            false => words
                .of("There is no earlier forecast; the next report compares.", "此前没有预测，自下一份报告起比较。"),
            true => words.of("No day of the last forecast is over yet.", "上次预测的各日均未结束，暂无可比数据。"),
        };
        return Section::Text { title, paragraphs: vec![text.to_owned()] };
    }
    let row =
        |day: &&Compared| std::iter::once(Cell::Instant(day.ends)).chain(numbers(day).map(Cell::Number)).collect();
    let mut rows: Vec<Vec<Cell>> = compared.iter().map(row).collect();
    // Mostly nothing was repaired, and a mail is narrow.
    let repaired = compared.iter().any(|day| day.set_right != 0);
    let mut note = match repaired {
        false => words.of(
            "Forecast + recharged since - spent since = expired + still there + unexplained.",
            "预测 + 其后充值 - 其后消耗 = 实际过期 + 仍未处理 + 无法解释。",
        ),
        true => words.of(
            "Forecast + recharged since - spent since + set right by repair = expired + still there + unexplained.",
            "预测 + 其后充值 - 其后消耗 + 修复更正 = 实际过期 + 仍未处理 + 无法解释。",
        ),
    }
    .to_owned();
    note.push_str(words.of(
        " Each row is what expires by that instant, after the row before.",
        "每行为上一行之后至该时刻到期的积分。",
    ));
    if not_over != 0 {
        let label = Cell::Text(words.of("days not over", "未结束的日期").to_owned());
        let cells = (0..totals.len()).map(|nth| if nth == 4 { Cell::Number(not_over) } else { Cell::Empty });
        rows.push(std::iter::once(label).chain(cells).collect());
        totals[4] = expired;
        note.push_str(words.of(
            " The last row is what has expired already of days that are not over; they are not compared yet.",
            "末行为尚未结束的日期中已经过期的积分，这些日期暂不比较。",
        ));
    }
    let mut table = Table {
        name: "forecast".to_owned(),
        title,
        note,
        columns: vec![
            words.column("Expires by", "到期截止", Kind::Instant),
            words.column("Forecast", "预测", Kind::Number),
            words.column("Recharged since", "其后充值", Kind::Number),
            words.column("Spent since", "其后消耗", Kind::Number),
            words.column("Set right by repair", "修复更正", Kind::Number),
            words.column("Expired", "实际过期", Kind::Number),
            words.column("Still there", "仍未处理", Kind::Number),
            words.column("Unexplained", "无法解释", Kind::Number),
        ],
        rows_in_all: rows.len() as u64,
        rows,
        totals: std::iter::once(None).chain(totals.map(Some)).collect(),
        rows_in_body: 20,
        if_empty: String::new(),
    };
    if !repaired {
        table.columns.remove(4);
        table.totals.remove(4);
        table.rows.iter_mut().for_each(|row| drop(row.remove(4)));
    }
    Section::Table(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_explain_what_one_or_the_other_way_comes_to() {
        let repairs = [[25, 0], [0, -7], [100, 0]];
        for (difference, of_it) in [(0, 0), (25, 25), (-7, -7), (118, 118), (21, 18), (10, 18), (-9, -7), (500, 125)] {
            assert_eq!(explained(difference, &repairs), of_it, "{difference}");
        }
        assert_eq!(explained(3, &[]), 0);
        // Of very many together, whatever lies between.
        let many: Vec<Repair> = (0..40).map(|nth| [1 << nth, 0]).collect();
        let all = (1 << 40) - 1;
        for (difference, of_it) in [(123_456_789, 123_456_789), (-1, 0), (all + 5, all)] {
            assert_eq!(explained(difference, &many), of_it, "{difference}");
        }
    }
}
