//! Who owes points, since when, and what became of it since the last report.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use deadpool_postgres::Transaction;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use tracing::warn;
use uuid::Uuid;

use super::Error;
use super::pipeline::{Report, Scope};
use super::words::{Words, number};
use crate::config::Config;
use crate::document::{Bar, Cell, Chart, Column, Document, Fact, Form, Kind, Section, Table, Tone};
use crate::numbers::grouped;
use crate::render::CsvFile;
use crate::telemetry;
use crate::time::Zone;

/// The report's name.
pub const REPORT: &str = "arrears";
/// The most rows of a table that a document keeps; the rest is in a file.
const MOST_ROWS: usize = 10_000;
/// The most rows of a table in a mail's body.
const ROWS_IN_BODY: usize = 20;
/// How many are among the worst.
const WORST: usize = 10;
/// Rows that are in memory at a time.
const FETCHED: i32 = 2_000;
/// Entries carry the time of their recording, and can be seen a little later, when their transaction ends. The servers'
/// sessions give up a transaction that stands still for a minute, so an hour is far beyond that.
pub(super) const UNSEEN: TimeDelta = TimeDelta::hours(1);

/// An account in arrears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owing {
    /// Whose.
    pub user: Uuid,
    /// Points that it owes.
    pub owed: i64,
    /// The entry that took the account below zero, the last time that one did; None where the history has none.
    pub since: Option<Since>,
    /// Effective time of the account's last entry.
    pub last: Option<DateTime<Utc>>,
}

/// The entry with which an account fell into arrears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Since {
    /// Its number within the account.
    pub seq: i64,
    /// Its effective time.
    pub at: DateTime<Utc>,
    /// The service that was used.
    pub source_type: String,
}

impl Owing {
    /// For how many days of the calendar it has been in arrears at an instant; none before they began.
    pub fn days(&self, at: DateTime<Utc>, zone: Zone) -> Option<i64> {
        let day = |instant: DateTime<Utc>| instant.with_timezone(&zone).date_naive();
        self.since.as_ref().map(|since| (day(at) - day(since.at)).num_days().max(0))
    }
}

/// How long ago an account fell into arrears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Age {
    /// 0 to 7 days.
    #[serde(rename = "0-7")]
    Week,
    /// 8 to 30 days.
    #[serde(rename = "8-30")]
    Month,
    /// 31 to 90 days.
    #[serde(rename = "31-90")]
    Quarter,
    /// More than 90 days.
    #[serde(rename = "over 90")]
    Older,
    /// No entry says since when.
    #[serde(rename = "unknown")]
    Unknown,
}

impl Age {
    const ALL: [Age; 5] = [Age::Week, Age::Month, Age::Quarter, Age::Older, Age::Unknown];

    /// The age of so many days.
    pub fn of(days: Option<i64>) -> Age {
        match days {
            None => Age::Unknown,
            Some(..=7) => Age::Week,
            Some(8..=30) => Age::Month,
            Some(31..=90) => Age::Quarter,
            Some(91..) => Age::Older,
        }
    }

    fn name(self, words: Words) -> &'static str {
        match self {
            Age::Week => words.of("0-7 days", "0-7 天"),
            Age::Month => words.of("8-30 days", "8-30 天"),
            Age::Quarter => words.of("31-90 days", "31-90 天"),
            Age::Older => words.of("over 90 days", "90 天以上"),
            Age::Unknown => words.of("unknown", "未知"),
        }
    }
}

/// Hands everybody who owes to `each`, in order of what they owe, then of the user. Memory does not grow with them.
///
/// # Errors
/// Where the database fails, or `each` does: its error ends it.
pub async fn owing<E: From<Error>>(
    transaction: &Transaction<'_>,
    mut each: impl FnMut(Owing) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |error: tokio_postgres::Error| E::from(Error::from(error));
    let declare = concat!("DECLARE owing NO SCROLL CURSOR FOR\n", include_str!("../../sql/reports/arrears_owing.sql"));
    // Whoever reads the rows may pause as long as they like.
    transaction.batch_execute("SET LOCAL idle_in_transaction_session_timeout = 0").await.map_err(failed)?;
    plan_for_few(transaction).await.map_err(failed)?;
    // From an account's last entry backwards: gathered in a bitmap first, its whole history would be read.
    transaction.batch_execute("SET LOCAL enable_bitmapscan = off").await.map_err(failed)?;
    transaction.execute(declare, &[]).await.map_err(failed)?;
    let fetch = transaction.prepare(&format!("FETCH FORWARD {FETCHED} FROM owing")).await.map_err(failed)?;
    loop {
        let rows = transaction.query(&fetch, &[]).await.map_err(failed)?;
        if rows.is_empty() {
            transaction.batch_execute("CLOSE owing; SET LOCAL enable_bitmapscan = on").await.map_err(failed)?;
            return Ok(());
        }
        for row in &rows {
            let read = || -> Result<Owing, tokio_postgres::Error> {
                let since = match (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?) {
                    (Some(seq), Some(at), Some(source_type)) => Some(Since { seq, at, source_type }),
                    _ => None,
                };
                Ok(Owing { user: row.try_get(0)?, owed: row.try_get(1)?, since, last: row.try_get(5)? })
            };
            each(read().map_err(failed)?)?;
        }
    }
}

/// The planner must be told that few owe: without statistics it would read the ledger whole.
pub(super) async fn plan_for_few(transaction: &Transaction<'_>) -> Result<(), tokio_postgres::Error> {
    let settings = "SET LOCAL enable_seqscan = off; SET LOCAL enable_mergejoin = off; SET LOCAL jit = off; \
                    SET LOCAL plan_cache_mode = force_custom_plan";
    transaction.batch_execute(settings).await
}

/// What a run counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Accounts in arrears.
    pub accounts: u64,
    /// Points that they owe.
    pub points: i64,
    /// Accounts that owed nothing when the last report was made.
    pub new: u64,
    /// Accounts that owed then and owe nothing now.
    pub cured: u64,
    /// Points that came into arrears since.
    pub drawn: i64,
    /// Points that went out of arrears since.
    pub repaid: i64,
    /// Points by which repairs since changed what is owed.
    pub set_right: i64,
    /// Accounts whose entries do not explain what they owe.
    pub unexplained: u64,
    /// Accounts of which no entry says since when they owe.
    pub undated: u64,
    /// Points owed that neither the last report nor entries since account for.
    pub difference: i64,
}

/// The report on arrears.
pub struct Arrears;

/// A report and what the next one has to know.
#[derive(Clone, Debug)]
pub struct Made {
    /// The report.
    pub document: Document,
    /// Its numbers.
    pub counters: Counters,
    remember: Vec<Remembered>,
    forget: Vec<Uuid>,
}

#[derive(Clone, Debug)]
struct Remembered {
    user: Uuid,
    owed: i64,
    seq: i64,
    moved: Option<DateTime<Utc>>,
}

/// What the last report closed with.
struct Closing {
    as_of: DateTime<Utc>,
    accounts: i64,
    owed: i64,
}

/// What is found by going through everybody who owes.
struct Standing {
    accounts: u64,
    points: i64,
    oldest: Option<DateTime<Utc>>,
    ages: [(u64, i64); 5],
    rows: Vec<Vec<Cell>>,
    /// A file has them all.
    in_file: bool,
}

/// What is found by going through what changed.
#[derive(Default)]
struct Changes {
    new: Vec<Vec<Cell>>,
    new_accounts: u64,
    new_points: i64,
    cured: Vec<Vec<Cell>>,
    cured_accounts: u64,
    cured_points: i64,
    /// Fell into arrears and left them since the last report.
    between: u64,
    drawn: i64,
    repaid: i64,
    /// Accounts that were repaired, and by how much that changed what they owe.
    repaired_accounts: u64,
    set_right: i64,
    unexplained: Vec<Vec<Cell>>,
    unexplained_accounts: u64,
    remember: Vec<Remembered>,
    forget: Vec<Uuid>,
}

/// Makes the report from the snapshot of `transaction`, which is REPEATABLE READ and writes nothing. Where more owe than
/// a document keeps, they are written to a CSV file in `folder`, if one is given.
///
/// Entries since the last report are exactly those that its snapshot did not show: those with a higher number, in accounts
/// that it knew; for others, those recorded since an hour before it, because accounts that moved within that hour were
/// remembered too.
///
/// # Errors
/// Where the database fails.
async fn build(transaction: &Transaction<'_>, scope: &Scope<'_>) -> Result<Made, Error> {
    let Scope { config, slot, run, ref folder, .. } = *scope;
    plan_for_few(transaction).await?;
    let row = transaction.query_one(include_str!("../../sql/reports/arrears_last.sql"), &[]).await?;
    let now: DateTime<Utc> = row.try_get(0)?;
    let last = match (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?) {
        (Some(as_of), Some(accounts), Some(owed)) => Some(Closing { as_of, accounts, owed }),
        _ => None,
    };
    let words = Words(config.language);
    let standing = Standing::read(transaction, config, slot, words, folder.as_deref()).await?;
    let changes = Changes::read(transaction, now, last.as_ref(), words).await?;

    let opening = last.as_ref().map_or(standing.points, |last| last.owed);
    let expected = changes.expected(opening);
    let counters = Counters {
        accounts: standing.accounts,
        points: standing.points,
        new: changes.new_accounts,
        cured: changes.cured_accounts,
        drawn: changes.drawn,
        repaid: changes.repaid,
        set_right: changes.set_right,
        unexplained: changes.unexplained_accounts,
        undated: standing.ages[4].0,
        difference: standing.points.saturating_sub(expected),
    };
    let wrong = counters.unexplained > 0 || counters.undated > 0 || counters.difference != 0;
    let document = Document {
        report: REPORT.to_owned(),
        language: config.language,
        business: config.business.clone(),
        title: words.of("Arrears", "欠费报告").to_owned(),
        slot,
        run,
        as_of: now,
        time_zone: config.time_zone.name().to_owned(),
        tone: match (wrong, standing.accounts) {
            (true, _) => Tone::Bad,
            (false, 0) => Tone::Good,
            (false, _) => Tone::Attention,
        },
        headline: headline(&counters, wrong, last.is_some(), words),
        facts: facts(&standing, &changes, last.as_ref(), words),
        sections: sections(standing, &changes, last.as_ref(), config.time_zone, words),
    };
    Ok(Made { document, counters, remember: changes.remember, forget: changes.forget })
}

impl Report for Arrears {
    const NAME: &'static str = REPORT;
    type Facts = Made;
    type Counters = Counters;

    async fn gather(&self, snapshot: &Transaction<'_>, scope: &Scope<'_>) -> Result<Made, Error> {
        build(snapshot, scope).await
    }

    fn document(&self, facts: &Made, _: &Scope<'_>) -> Document {
        facts.document.clone()
    }

    async fn remember(&self, transaction: &Transaction<'_>, facts: &Made, _: &Scope<'_>) -> Result<(), Error> {
        let Made { document, counters, remember, forget } = facts;
        transaction.execute(include_str!("../../sql/reports/arrears_forget.sql"), &[forget]).await?;
        let statement = transaction.prepare(include_str!("../../sql/reports/arrears_remember.sql")).await?;
        for part in remember.chunks(MOST_ROWS) {
            let users: Vec<Uuid> = part.iter().map(|of| of.user).collect();
            let (owed, seqs): (Vec<i64>, Vec<i64>) = part.iter().map(|of| (of.owed, of.seq)).unzip();
            let moved: Vec<Option<DateTime<Utc>>> = part.iter().map(|of| of.moved).collect();
            transaction.execute(&statement, &[&users, &owed, &seqs, &moved]).await?;
        }
        let accounts = i64::try_from(counters.accounts).unwrap_or(i64::MAX);
        let close = include_str!("../../sql/reports/arrears_close.sql");
        transaction.execute(close, &[&document.slot, &document.as_of, &accounts, &counters.points]).await?;
        Ok(())
    }

    fn counters(&self, facts: &Made) -> Counters {
        facts.counters.clone()
    }

    fn accounts(&self, facts: &Made) -> u64 {
        facts.counters.accounts
    }
}

impl Standing {
    async fn read(
        transaction: &Transaction<'_>,
        config: &Config,
        slot: DateTime<Utc>,
        words: Words,
        folder: Option<&Path>,
    ) -> Result<Standing, Error> {
        let zone = config.time_zone;
        let mut standing =
            Standing { accounts: 0, points: 0, oldest: None, ages: [(0, 0); 5], rows: Vec::new(), in_file: false };
        let mut file = Whole { folder, zone, file: None };
        owing(transaction, |owing| {
            let days = owing.days(slot, zone);
            let age = Age::of(days);
            if let Some((accounts, points)) = standing.ages.get_mut(age as usize) {
                *accounts += 1;
                *points = points.saturating_add(owing.owed);
            }
            standing.accounts += 1;
            standing.points = standing.points.saturating_add(owing.owed);
            let at = owing.since.as_ref().map(|since| since.at);
            standing.oldest = [standing.oldest, at].into_iter().flatten().min();
            let row = owing_row(owing, days);
            if standing.rows.len() < MOST_ROWS {
                standing.rows.push(row);
            } else {
                file.add(&standing.rows, &row, words);
            }
            Ok::<_, Error>(())
        })
        .await?;
        standing.in_file = file.finish();
        Ok(standing)
    }
}

/// The file with everybody, where there are more than a document keeps. Begun with the first row too many.
struct Whole<'a> {
    folder: Option<&'a Path>,
    zone: Zone,
    file: Option<CsvFile>,
}

impl Whole<'_> {
    /// Without a file the report is still worth having; whoever wants all the rows can ask for them.
    fn add(&mut self, before: &[Vec<Cell>], row: &[Cell], words: Words) {
        let Some(folder) = self.folder else { return };
        let written = match &mut self.file {
            Some(file) => file.row(row),
            None => std::fs::create_dir_all(folder)
                .map_err(|source| crate::render::Error::File { path: folder.to_owned(), source })
                .and_then(|()| CsvFile::create(&folder.join("owing-all.csv"), &owing_columns(words), self.zone))
                .and_then(|mut file| {
                    before.iter().try_for_each(|row| file.row(row))?;
                    file.row(row)?;
                    self.file = Some(file);
                    Ok(())
                }),
        };
        self.told(written);
    }

    fn finish(mut self) -> bool {
        let Some(file) = self.file.take() else { return false };
        let written = file.finish();
        self.told(written);
        self.folder.is_some()
    }

    fn told(&mut self, written: Result<(), crate::render::Error>) {
        if let Err(error) = written {
            let reason = telemetry::chain(&error).to_string();
            warn!(reason, "not everybody who owes could be written to a file: {reason}; see `pointsd arrears --csv`");
            (self.folder, self.file) = (None, None);
        }
    }
}

impl Changes {
    async fn read(
        transaction: &Transaction<'_>,
        now: DateTime<Utc>,
        last: Option<&Closing>,
        words: Words,
    ) -> Result<Changes, Error> {
        // The first report tells no changes, but it must remember who moved shortly before it.
        let from = last.map_or(now, |last| last.as_of) - UNSEEN;
        let mut changes = Changes::default();
        let declare =
            concat!("DECLARE moved NO SCROLL CURSOR FOR\n", include_str!("../../sql/reports/arrears_moved.sql"));
        transaction.execute(declare, &[&from]).await?;
        let fetch = transaction.prepare(&format!("FETCH FORWARD {FETCHED} FROM moved")).await?;
        loop {
            let rows = transaction.query(&fetch, &[]).await?;
            if rows.is_empty() {
                transaction.batch_execute("CLOSE moved").await?;
                return Ok(changes);
            }
            for row in &rows {
                changes.add(row, now, last.is_some(), words)?;
            }
        }
    }

    /// What all owe, by what they owed and what became of it.
    fn expected(&self, opening: i64) -> i64 {
        opening.saturating_add(self.drawn).saturating_sub(self.repaid).saturating_add(self.set_right)
    }

    fn add(&mut self, row: &Row, now: DateTime<Utc>, told: bool, words: Words) -> Result<(), tokio_postgres::Error> {
        let user: Uuid = row.try_get("user_id")?;
        let (opening, closing): (i64, i64) = (row.try_get("opening")?, row.try_get("closing")?);
        let (drawn, repaid): (i64, i64) = (row.try_get("drawn")?, row.try_get("repaid")?);
        let (seq, moved): (i64, Option<DateTime<Utc>>) = (row.try_get("seq")?, row.try_get("moved")?);
        let known: bool = row.try_get("known")?;
        if closing > 0 || moved.is_some_and(|moved| moved > now - UNSEEN) {
            let before = (known, row.try_get("known_seq")?, row.try_get("known_moved")?);
            if (true, Some(seq), moved, opening) != (before.0, before.1, before.2, closing) {
                self.remember.push(Remembered { user, owed: closing, seq, moved });
            }
        } else if known {
            self.forget.push(user);
        }
        if !told {
            return Ok(());
        }
        self.drawn = self.drawn.saturating_add(drawn);
        self.repaid = self.repaid.saturating_add(repaid);
        let unrepaired = opening.saturating_add(drawn).saturating_sub(repaid);
        let rightly: Option<i64> = row.try_get("rightly")?;
        let expected = rightly.unwrap_or(unrepaired);
        let set_right = expected.saturating_sub(unrepaired);
        self.set_right = self.set_right.saturating_add(set_right);
        self.repaired_accounts += u64::from(set_right != 0);
        let name = || Cell::Text(user.to_string());
        match (opening, closing) {
            (0, 1..) => {
                self.new_accounts += 1;
                self.new_points = self.new_points.saturating_add(closing);
                push(&mut self.new, || vec![name(), Cell::Number(closing)]);
            }
            (1.., 0) => {
                self.cured_accounts += 1;
                self.cured_points = self.cured_points.saturating_add(opening);
                let (at, kind, source): (Option<DateTime<Utc>>, Option<String>, Option<String>) =
                    (row.try_get("out_at")?, row.try_get("out_type")?, row.try_get("out_source")?);
                let how = Cell::Text(cured_by(kind.as_deref(), source.as_deref(), rightly.is_some(), words));
                let at = at.map_or(Cell::Empty, Cell::Instant);
                push(&mut self.cured, || vec![name(), Cell::Number(opening), how, at]);
            }
            (0, 0) if drawn > 0 => self.between += 1,
            _ => {}
        }
        if expected != closing {
            self.unexplained_accounts += 1;
            push(&mut self.unexplained, || {
                let numbers = [opening, drawn, repaid, set_right, expected, closing];
                std::iter::once(name()).chain(numbers.map(Cell::Number)).collect()
            });
        }
        Ok(())
    }
}

fn push(rows: &mut Vec<Vec<Cell>>, row: impl FnOnce() -> Vec<Cell>) {
    if rows.len() < MOST_ROWS {
        rows.push(row());
    }
}

fn cured_by(kind: Option<&str>, source: Option<&str>, repaired: bool, words: Words) -> String {
    match (kind, source) {
        (Some("recharge"), Some(source)) => words.of(format!("recharge by {source}"), format!("{source} 充值")),
        _ if repaired => words.of("repair", "修复更正").to_owned(),
        _ => words.of("no entry says how", "没有对应的分录").to_owned(),
    }
}

fn headline(counters: &Counters, wrong: bool, compared: bool, words: Words) -> String {
    let Counters { accounts, points, new, cured, .. } = counters;
    let mut text = match accounts {
        0 => words.of("Nobody owes points", "没有账户欠积分").to_owned(),
        _ => words.of(
            format!("{} owed by {}", words.points(*points), words.accounts(*accounts)),
            format!("{}共欠 {}", words.accounts(*accounts), words.points(*points)),
        ),
    };
    if compared && (*accounts > 0 || *cured > 0) {
        text.push_str(&words.of(format!(", {new} new, {cured} cured"), format!("，新增 {new} 个，结清 {cured} 个")));
    }
    if wrong {
        text.push_str(words.of("; the entries do not explain it", "；与分录不符"));
    }
    text
}

fn facts(standing: &Standing, changes: &Changes, last: Option<&Closing>, words: Words) -> Vec<Fact> {
    let mut facts = vec![
        words.fact("Points owed", "欠费积分", Cell::Number(standing.points)),
        words.fact("Accounts in arrears", "欠费账户", number(standing.accounts)),
        words.fact(
            "Longest in arrears since",
            "最早欠费时间",
            standing.oldest.map_or_else(|| Cell::Text(words.of("none", "无").to_owned()), Cell::Instant),
        ),
    ];
    if let Some(last) = last {
        facts.extend([
            words.fact("New since the last report", "较上次新增账户", number(changes.new_accounts)),
            words.fact("Cured since the last report", "较上次结清账户", number(changes.cured_accounts)),
            words.fact("Last report", "上次报告时间", Cell::Instant(last.as_of)),
        ]);
    }
    facts
}

fn owing_columns(words: Words) -> Vec<Column> {
    vec![
        words.column("Account", "账户", Kind::Identifier),
        words.column("Owed", "欠费积分", Kind::Number),
        words.column("Since", "欠费起始", Kind::Instant),
        words.column("Days", "天数", Kind::Number),
        words.column("By", "起因", Kind::Text),
        words.column("Entry", "分录号", Kind::Number),
        words.column("Last posting", "最近分录", Kind::Instant),
    ]
}

fn owing_row(owing: Owing, days: Option<i64>) -> Vec<Cell> {
    let (at, seq, by) = match owing.since {
        Some(since) => (Cell::Instant(since.at), Cell::Number(since.seq), Cell::Text(since.source_type)),
        None => (Cell::Empty, Cell::Empty, Cell::Empty),
    };
    vec![
        Cell::Text(owing.user.to_string()),
        Cell::Number(owing.owed),
        at,
        days.map_or(Cell::Empty, Cell::Number),
        by,
        seq,
        owing.last.map_or(Cell::Empty, Cell::Instant),
    ]
}

fn sections(standing: Standing, changes: &Changes, last: Option<&Closing>, zone: Zone, words: Words) -> Vec<Section> {
    let mut sections = vec![Section::Chart(chart(&standing, words)), Section::Table(ages(&standing, words))];
    if changes.unexplained_accounts > 0 || standing.ages[4].0 > 0 {
        sections.push(findings(&standing, changes, words));
    }
    if changes.unexplained_accounts > 0 {
        sections.push(Section::Table(unexplained(changes, words)));
    }
    if standing.accounts > 0 {
        sections.push(Section::Table(worst(&standing, words)));
    }
    match last {
        None => sections.push(Section::Text {
            title: words.of("Changes", "变动").to_owned(),
            paragraphs: vec![
                words
                    .of(
                        "This is the first report on arrears: the next one tells what changed since.",
                        "这是第一份欠费报告，自下一份起列示期间变动。",
                    )
                    .to_owned(),
            ],
        }),
        Some(last) => {
            sections.push(Section::Table(roll_forward(&standing, changes, last, zone, words)));
            sections.push(Section::Table(new(changes, words)));
            sections.push(Section::Table(cured(changes, words)));
        }
    }
    sections.push(Section::Table(everybody(standing, words)));
    sections
}

fn chart(standing: &Standing, words: Words) -> Chart {
    let bars = shown_ages(standing).map(|(age, (_, points))| Bar { label: age.name(words).to_owned(), value: points });
    Chart {
        name: "arrears-by-age".to_owned(),
        title: words.of("Points owed by age", "按账龄划分的欠费积分").to_owned(),
        description: words
            .of(
                "A bar for each age of arrears, as high as the points owed.",
                "每个账龄区间一根柱，高度为该区间的欠费积分。",
            )
            .to_owned(),
        form: Form::Bars,
        bars: bars.collect(),
    }
}

/// The unknown age only where there is one.
fn shown_ages(standing: &Standing) -> impl Iterator<Item = (Age, (u64, i64))> {
    Age::ALL.into_iter().zip(standing.ages).filter(|(age, (accounts, _))| *age != Age::Unknown || *accounts > 0)
}

fn ages(standing: &Standing, words: Words) -> Table {
    let rows: Vec<Vec<Cell>> = shown_ages(standing)
        .map(|(age, (accounts, points))| {
            vec![Cell::Text(age.name(words).to_owned()), number(accounts), Cell::Number(points)]
        })
        .collect();
    let accounts = i64::try_from(standing.accounts).unwrap_or(i64::MAX);
    Table {
        name: "ages".to_owned(),
        title: words.of("Arrears by age", "欠费账龄").to_owned(),
        note: words
            .of("Days on the calendar since the account fell below zero.", "自账户余额转负之日起的自然日。")
            .to_owned(),
        columns: vec![
            words.column("Age", "账龄", Kind::Text),
            words.column("Accounts", "账户数", Kind::Number),
            words.column("Points", "积分", Kind::Number),
        ],
        rows_in_all: rows.len() as u64,
        rows_in_body: rows.len(),
        rows,
        totals: vec![None, Some(accounts), Some(standing.points)],
        if_empty: String::new(),
    }
}

fn findings(standing: &Standing, changes: &Changes, words: Words) -> Section {
    let mut paragraphs = Vec::new();
    if changes.unexplained_accounts > 0 {
        let accounts = words.accounts(changes.unexplained_accounts);
        paragraphs.push(words.of(
            format!(
                "What {accounts} owe differs from what they owed at the last report and what entries since drew and \
                 repaid. They are listed below; `pointsd run reconciliation --full` tells what is wrong with them."
            ),
            format!(
                "{accounts}的欠费与上次报告的欠费及其后分录不符，明细见下表；请运行 `pointsd run reconciliation --full` 查明原因。"
            ),
        ));
    }
    if standing.ages[4].0 > 0 {
        let accounts = words.accounts(standing.ages[4].0);
        paragraphs.push(words.of(
            format!("Of {accounts} no entry says since when they owe: their history does not lead below zero."),
            format!("{accounts}没有使余额转负的分录，无法确定欠费起始时间。"),
        ));
    }
    Section::Text { title: words.of("What does not agree", "不符事项").to_owned(), paragraphs }
}

fn unexplained(changes: &Changes, words: Words) -> Table {
    let mut table = Table {
        name: "unexplained".to_owned(),
        title: words.of("Accounts whose entries do not explain what they owe", "欠费与分录不符的账户").to_owned(),
        note: String::new(),
        columns: vec![
            words.column("Account", "账户", Kind::Identifier),
            words.column("Owed then", "上次欠费", Kind::Number),
            words.column("Drawn", "新增欠费", Kind::Number),
            words.column("Repaid", "偿还", Kind::Number),
            words.column("Set right", "修复更正", Kind::Number),
            words.column("Expected", "应欠", Kind::Number),
            words.column("Owes now", "实欠", Kind::Number),
        ],
        rows: changes.unexplained.clone(),
        rows_in_all: changes.unexplained_accounts,
        totals: Vec::new(),
        rows_in_body: ROWS_IN_BODY,
        if_empty: String::new(),
    };
    // Mostly nothing was repaired, and a mail is narrow.
    if changes.repaired_accounts == 0 {
        table.columns.remove(4);
        table.rows.iter_mut().for_each(|row| drop(row.remove(4)));
    }
    table
}

fn worst(standing: &Standing, words: Words) -> Table {
    let rows: Vec<Vec<Cell>> = standing.rows.iter().take(WORST).cloned().collect();
    Table {
        name: "worst".to_owned(),
        title: words.of("Who owes most", "欠费最多的账户").to_owned(),
        note: String::new(),
        columns: owing_columns(words),
        rows_in_all: rows.len() as u64,
        rows_in_body: WORST,
        rows,
        totals: Vec::new(),
        if_empty: String::new(),
    }
}

fn roll_forward(standing: &Standing, changes: &Changes, last: &Closing, zone: Zone, words: Words) -> Table {
    let difference = standing.points.saturating_sub(changes.expected(last.owed));
    let row = |english: &str, chinese: &str, points: i64| {
        vec![Cell::Text(words.of(english, chinese).to_owned()), Cell::Number(points)]
    };
    let mut rows = vec![
        row("Opening: owed at the last report", "期初：上次报告欠费", last.owed),
        row("Drawn: used beyond the balance", "新增：超出余额的消耗", changes.drawn),
        row("Repaid", "偿还", changes.repaid.saturating_neg()),
        row("Closing: owed now", "期末：当前欠费", standing.points),
    ];
    if changes.repaired_accounts > 0 {
        rows.insert(3, row("Set right by repair", "修复更正", changes.set_right));
    }
    if difference != 0 {
        rows.push(row("Difference that no entry explains", "分录无法解释的差额", difference));
    }
    let (since, accounts) = (words.instant(last.as_of, zone), u64::try_from(last.accounts).unwrap_or(0));
    let mut note = words.of(
        format!("Since {since}, when {} were in arrears.", words.accounts(accounts)),
        format!("自 {since} 起，当时有 {}欠费。", words.accounts(accounts)),
    );
    if changes.between > 0 {
        let between = words.accounts(changes.between);
        note.push_str(&words.of(
            format!(" In between, {between} fell into arrears and left them again."),
            format!("期间另有 {between}欠费后已结清。"),
        ));
    }
    if changes.repaired_accounts > 0 {
        let repaired = words.accounts(changes.repaired_accounts);
        note.push_str(&words.of(
            format!(" What {repaired} owed was wrong and was set right by a repair."),
            format!("其中 {repaired}的欠费有误，已由修复更正。"),
        ));
    }
    Table {
        name: "roll-forward".to_owned(),
        title: words.of("From the last report to this one", "欠费变动").to_owned(),
        note,
        columns: vec![words.column("Item", "项目", Kind::Text), words.column("Points", "积分", Kind::Number)],
        rows_in_all: rows.len() as u64,
        rows_in_body: rows.len(),
        rows,
        totals: Vec::new(),
        if_empty: String::new(),
    }
}

fn new(changes: &Changes, words: Words) -> Table {
    Table {
        name: "new".to_owned(),
        title: words.of("New in arrears", "新增欠费账户").to_owned(),
        note: String::new(),
        columns: vec![
            words.column("Account", "账户", Kind::Identifier),
            words.column("Owed", "欠费积分", Kind::Number),
        ],
        rows: changes.new.clone(),
        rows_in_all: changes.new_accounts,
        totals: vec![None, Some(changes.new_points)],
        rows_in_body: ROWS_IN_BODY,
        if_empty: words.of("Nobody fell into arrears.", "没有新增欠费账户。").to_owned(),
    }
}

fn cured(changes: &Changes, words: Words) -> Table {
    Table {
        name: "cured".to_owned(),
        title: words.of("No longer in arrears", "已结清账户").to_owned(),
        note: String::new(),
        columns: vec![
            words.column("Account", "账户", Kind::Identifier),
            words.column("Owed then", "原欠费积分", Kind::Number),
            words.column("Cured by", "结清方式", Kind::Text),
            words.column("At", "结清时间", Kind::Instant),
        ],
        rows: changes.cured.clone(),
        rows_in_all: changes.cured_accounts,
        totals: vec![None, Some(changes.cured_points), None, None],
        rows_in_body: ROWS_IN_BODY,
        if_empty: words.of("Nobody left arrears.", "没有结清欠费的账户。").to_owned(),
    }
}

fn everybody(standing: Standing, words: Words) -> Table {
    let mut note = String::new();
    if standing.accounts > standing.rows.len() as u64 {
        let kept = grouped(i64::try_from(standing.rows.len()).unwrap_or(i64::MAX));
        note = match standing.in_file {
            true => words.of(
                format!("The first {kept} are kept here; owing-all.csv in the report's folder has them all."),
                format!("此处保留前 {kept} 行；完整清单见报告目录中的 owing-all.csv。"),
            ),
            false => words.of(
                format!("The first {kept} are kept here; `pointsd arrears --csv` lists who owes at that moment."),
                format!("此处保留前 {kept} 行；完整清单可用 `pointsd arrears --csv` 实时导出。"),
            ),
        };
    }
    Table {
        name: "owing".to_owned(),
        title: words.of("Everybody who owes", "全部欠费账户").to_owned(),
        note,
        columns: owing_columns(words),
        rows_in_all: standing.accounts,
        totals: vec![None, Some(standing.points), None, None, None, None, None],
        rows: standing.rows,
        rows_in_body: ROWS_IN_BODY,
        if_empty: words.of("Nobody owes points.", "没有账户欠积分。").to_owned(),
    }
}
