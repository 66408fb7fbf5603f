//! The reconciliation report: whether the books hold, where they do not, and how the points moved on the last business
//! day.

use std::fs;
use std::path::{Path, PathBuf};
use std::pin::pin;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt};
use tokio_postgres::{Client, Error};
use tracing::warn;

use crate::books::{self, Booked, Books, Movement, Outstanding, RollForward};
use crate::config::Config;
use crate::document::{Bar, Cell, Chart, Column, Document, Fact, Form, Kind, Section, Table, Tone};
use crate::language::Language;
use crate::numbers::grouped;
use crate::proof::{self, Finding, Proof, RecordedFinding, load_resolved_findings, load_standing_findings};
use crate::render::CsvFile;
use crate::telemetry;
use crate::time::Zone;

/// The report's name: that of its job.
pub const REPORT: &str = "reconciliation";

/// The most findings that a document holds; a file has all of them. As much as somebody may look through, and a document
/// of two and a half megabytes.
const MOST_FINDINGS: usize = 10_000;

/// The most findings that were cured which a document holds; all are counted.
const MOST_CURED: usize = 1_000;

/// The most rows of a table that stand in a mail's body.
const ROWS_IN_BODY: usize = 20;

/// What the report is about.
pub struct Subject<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The slot.
    pub slot: DateTime<Utc>,
    /// The run.
    pub run: i64,
    /// What was proved; its findings are those that stand now.
    pub proof: &'a Proof,
    /// How the books stand.
    pub books: &'a Books,
    /// Where the whole list of findings is written, where a document cannot hold it; none for a dry run.
    pub folder: Option<&'a Path>,
}

/// Makes the document, in the transaction that is open on `client`: REPEATABLE READ, so that counts and rows agree.
///
/// # Errors
/// Where the database fails. A file that cannot be written is only warned of: the table of findings has its content.
pub async fn document(client: &Client, subject: &Subject<'_>) -> Result<Document, Error> {
    let Subject { config, slot, run, proof, books, .. } = subject;
    let words = Words(config.language);
    let full_at = proof::load_state(client).await?.full_until;
    let tone = if proof.findings > 0 { Tone::Bad } else { Tone::Good };
    let mut sections = vec![
        Section::Table(standing(client, subject, &words).await?),
        Section::Table(cured(client, subject, &words).await?),
    ];
    match &books.last {
        Some(last) => {
            let totals = last.totals();
            sections.push(Section::Table(roll_forward(last, &totals, &words)));
            sections.push(Section::Chart(waterfall(last, &totals, &words)));
        }
        None => {
            sections.push(words.no_day_yet());
            let so_far = first_day_so_far(books, config.time_zone);
            if !so_far.rows.is_empty() {
                let totals = so_far.totals();
                sections.push(Section::Table(roll_forward(&so_far, &totals, &words)));
                sections.push(Section::Chart(waterfall(&so_far, &totals, &words)));
            }
        }
    }
    sections.push(words.tie(books));
    sections.extend(outstanding(books, &words).map(Section::Table));
    sections.push(Section::Table(checked(&words)));
    Ok(Document {
        report: REPORT.to_owned(),
        language: config.language,
        business: config.business.clone(),
        title: words.of("Reconciliation", "积分对账报告"),
        slot: *slot,
        run: *run,
        as_of: books.as_of,
        time_zone: config.time_zone.name().to_owned(),
        tone,
        headline: words.headline(proof),
        facts: facts(subject, full_at, &words),
        sections,
    })
}

fn facts(subject: &Subject<'_>, full_at: Option<DateTime<Utc>>, words: &Words) -> Vec<Fact> {
    let Subject { proof, books, config, .. } = subject;
    let count = |count: u64| Cell::Number(i64::try_from(count).unwrap_or(i64::MAX));
    let mut facts = vec![
        (words.of("Proved", "核对范围"), Cell::Text(words.range(proof, config.time_zone))),
        (words.of("Books as of", "数据时点"), Cell::Instant(books.as_of)),
    ];
    if !proof.full {
        let last = full_at.map_or_else(|| Cell::Text(words.of("never", "尚未进行")), Cell::Instant);
        facts.push((words.of("Everything was last proved", "上次全面核对"), last));
    }
    facts.extend([
        (words.of("Accounts looked at", "核对账户数"), count(proof.accounts)),
        (words.of("Batches looked at", "核对批次数"), count(proof.batches)),
        (words.of("Entries looked at", "核对分录数"), count(proof.entries)),
        (words.of("Findings that stand", "现有差异"), count(proof.findings)),
        (words.of("New findings", "新增差异"), count(proof.new)),
        (words.of("Findings that are gone", "已消除差异"), count(proof.resolved)),
        (words.of("Points that all accounts hold", "全部账户余额合计"), Cell::Number(books.balance)),
        (words.of("Points that are owed", "其中欠费合计"), Cell::Number(books.owed)),
    ]);
    facts.into_iter().map(|(label, value)| Fact { label, value }).collect()
}

fn finding_columns(words: &Words) -> Vec<Column> {
    vec![
        column(words.of("What does not hold", "差异内容"), Kind::Text),
        column(words.of("Rule", "规则"), Kind::Identifier),
        column(words.of("Account", "账户"), Kind::Identifier),
        column(words.of("Batch", "批次"), Kind::Number),
        column(words.of("Entry", "分录"), Kind::Number),
        column(words.of("Expected", "应为"), Kind::Text),
        column(words.of("Found", "实为"), Kind::Text),
        column(words.of("Since", "发现时间"), Kind::Instant),
        column(words.of("Found by run", "首次发现的运行"), Kind::Number),
    ]
}

fn finding_cells(kept: RecordedFinding, words: &Words) -> Vec<Cell> {
    let RecordedFinding { finding: Finding { rule, user, batch, seq, expected, found, .. }, since, since_run, .. } =
        kept;
    vec![
        Cell::Text(words.rule(&rule)),
        Cell::Text(rule),
        Cell::Text(user.map_or_else(|| words.of("the whole ledger", "整个账本"), |user| user.to_string())),
        batch.map_or(Cell::Empty, |batch| Cell::Number(i64::from(batch))),
        seq.map_or(Cell::Empty, Cell::Number),
        Cell::Text(expected),
        Cell::Text(found),
        Cell::Instant(since),
        Cell::Number(since_run),
    ]
}

/// All findings that stand go by here one by one: the first ones into the document, and all of them into a file where
/// they are more.
async fn standing(client: &Client, subject: &Subject<'_>, words: &Words) -> Result<Table, Error> {
    let mut columns = finding_columns(words);
    columns.push(column(words.of("State", "状态"), Kind::Text));
    let total = subject.proof.findings;
    let mut file = match subject.folder {
        Some(folder) if total > MOST_FINDINGS as u64 => Whole::begin(folder, &columns, subject.config.time_zone),
        _ => None,
    };
    let mut found = pin!(load_standing_findings(client, subject.run).await?);
    let mut rows = Vec::new();
    while let Some(kept) = found.try_next().await? {
        let new = kept.new;
        let mut cells = finding_cells(kept, words);
        cells.push(Cell::Text(if new { words.of("new", "新增") } else { words.of("standing", "未消除") }));
        file = file.and_then(|file| file.row(&cells));
        if rows.len() < MOST_FINDINGS {
            rows.push(cells);
        } else if file.is_none() {
            break;
        }
    }
    let path = file.and_then(Whole::finish);
    let note = if total > MOST_FINDINGS as u64 { words.only_the_first(total, path.as_deref()) } else { String::new() };
    Ok(Table {
        name: "findings".to_owned(),
        title: words.of("Where the books do not hold", "账目差异"),
        note,
        columns,
        rows_in_all: total,
        totals: Vec::new(),
        rows_in_body: ROWS_IN_BODY,
        if_empty: words.of("Nowhere: every rule holds.", "无：各项规则全部成立。"),
        rows,
    })
}

/// The file with all findings, as long as it can be written.
struct Whole {
    file: CsvFile,
    path: PathBuf,
}

impl Whole {
    fn begin(folder: &Path, columns: &[Column], zone: Zone) -> Option<Whole> {
        let path = folder.join("findings.csv");
        if let Err(error) = fs::create_dir_all(folder) {
            warn_of(&path, &error);
            return None;
        }
        let file = CsvFile::create(&path, columns, zone).map_err(|error| warn_of(&path, &error)).ok()?;
        Some(Whole { file, path })
    }

    fn row(mut self, cells: &[Cell]) -> Option<Whole> {
        match self.file.row(cells) {
            Ok(()) => Some(self),
            Err(error) => {
                warn_of(&self.path, &error);
                None
            }
        }
    }

    fn finish(self) -> Option<PathBuf> {
        self.file.finish().map_err(|error| warn_of(&self.path, &error)).ok()?;
        Some(self.path)
    }
}

fn warn_of(path: &Path, error: &dyn std::error::Error) {
    let (path, error) = (path.display().to_string(), telemetry::chain(error));
    warn!(
        path,
        error, "{path} with all findings cannot be written: {error}; they are in pointsd.findings all the same"
    );
}

async fn cured(client: &Client, subject: &Subject<'_>, words: &Words) -> Result<Table, Error> {
    let found = load_resolved_findings(client, subject.run).await?.take(MOST_CURED);
    let rows = found.map_ok(|kept| finding_cells(kept, words)).try_collect().await?;
    Ok(Table {
        name: "cured".to_owned(),
        title: words.of("What holds again", "已消除的差异"),
        note: String::new(),
        columns: finding_columns(words),
        rows,
        rows_in_all: subject.proof.resolved,
        totals: Vec::new(),
        rows_in_body: ROWS_IN_BODY,
        if_empty: String::new(),
    })
}

/// What a row of the roll-forward says, signed as it changes the closing.
fn booked_cells(row: &Booked) -> [i64; 7] {
    let Movement { recharged, settled, consumed, expired, adjusted } = row.moved;
    [row.opening, recharged, -settled, -consumed, -expired, adjusted, row.closing]
}

/// Before a business day was closed: what has moved so far.
fn first_day_so_far(books: &Books, zone: Zone) -> RollForward {
    let booked = |moved: &Movement| Booked { opening: 0, moved: *moved, closing: moved.closing(0) };
    let rows = books.since.iter().map(|(source, moved)| (source.clone(), booked(moved)));
    RollForward { day: books.as_of.with_timezone(&zone).date_naive(), ended: books.as_of, rows: rows.collect() }
}

fn roll_forward(last: &RollForward, totals: &Booked, words: &Words) -> Table {
    let mut columns = vec![column(words.of("Source", "来源"), Kind::Text)];
    columns.extend(words.movements().map(|title| column(title, Kind::Number)));
    let row = |(source, row): (&String, &Booked)| {
        let name = if source.is_empty() { words.of("owed by accounts", "账户欠费") } else { source.clone() };
        let numbers = booked_cells(row).map(Cell::Number);
        [Cell::Text(name)].into_iter().chain(numbers).collect()
    };
    // What is owed is no source: it comes last.
    let (owed, sources): (Vec<_>, Vec<_>) = last.rows.iter().partition(|(source, _)| source.is_empty());
    let rows: Vec<Vec<Cell>> = sources.into_iter().chain(owed).map(row).collect();
    Table {
        name: "roll-forward".to_owned(),
        title: words.roll_forward(last),
        note: words.roll_forward_note(),
        columns,
        rows_in_all: rows.len() as u64,
        totals: [None].into_iter().chain(booked_cells(totals).map(Some)).collect(),
        rows_in_body: usize::MAX,
        if_empty: String::new(),
        rows,
    }
}

fn waterfall(last: &RollForward, totals: &Booked, words: &Words) -> Chart {
    let titles = words.movements();
    // Over all rows what was settled comes to nothing: it leaves a source and what is owed alike.
    let bars = titles.into_iter().zip(booked_cells(totals)).enumerate().filter(|(nth, _)| *nth != 2);
    Chart {
        name: "roll-forward".to_owned(),
        title: words.roll_forward(last),
        description: words.waterfall(last, totals),
        form: Form::Waterfall,
        bars: bars.map(|(_, (label, value))| Bar { label, value }).collect(),
    }
}

/// What is left in open batches, by age and by time to expiry.
fn outstanding(books: &Books, words: &Words) -> [Table; 2] {
    let table =
        |name: &str, title: String, note: String, head: String, steps: Vec<String>, step: fn(&Outstanding) -> usize| {
            let mut rows = Vec::new();
            let (mut all_batches, mut all_points) = (0_i64, 0_i64);
            for (nth, label) in steps.into_iter().enumerate() {
                let (mut batches, mut points) = (0_i64, 0_i64);
                for part in books.outstanding.iter().filter(|part| step(part) == nth) {
                    batches = batches.saturating_add(part.batches);
                    points = points.saturating_add(part.points);
                }
                all_batches = all_batches.saturating_add(batches);
                all_points = all_points.saturating_add(points);
                rows.push(vec![Cell::Text(label), Cell::Number(batches), Cell::Number(points)]);
            }
            Table {
                name: name.to_owned(),
                title,
                note,
                columns: vec![
                    column(head, Kind::Text),
                    column(words.of("Batches", "批次数"), Kind::Number),
                    column(words.of("Points", "积分"), Kind::Number),
                ],
                rows_in_all: rows.len() as u64,
                rows,
                totals: vec![None, Some(all_batches), Some(all_points)],
                rows_in_body: usize::MAX,
                if_empty: String::new(),
            }
        };
    [
        table(
            "outstanding-by-age",
            words.of("Outstanding points by age", "未使用积分（按账龄）"),
            words.of("Days since the recharge.", "自充值之日起的天数。"),
            words.of("Age", "账龄"),
            words.ages(),
            |part| books::STEPS.len().saturating_sub(part.age), // the oldest are number 0
        ),
        table(
            "outstanding-by-expiry",
            words.of("Outstanding points by expiry", "未使用积分（按到期时间）"),
            words.of(
                "Days until they expire. What is due already expires with the next sweep, or when its account is next touched.",
                "距到期的天数。已到期的积分将在下次过期处理时，或在其账户下次发生变动时过期。",
            ),
            words.of("Expires", "到期"),
            words.expiries(),
            |part| part.expiry,
        ),
    ]
}

fn checked(words: &Words) -> Table {
    let row = |name: &str| vec![Cell::Text(name.to_owned()), Cell::Text(words.rule(name))];
    let rows: Vec<Vec<Cell>> = rules().map(|(name, _)| row(name)).collect();
    Table {
        name: "rules".to_owned(),
        title: words.of("What was checked", "核对规则"),
        note: String::new(),
        columns: vec![
            column(words.of("Rule", "规则"), Kind::Identifier),
            column(words.of("What must hold", "应当成立的内容"), Kind::Text),
        ],
        rows_in_all: rows.len() as u64,
        rows,
        totals: Vec::new(),
        rows_in_body: usize::MAX,
        if_empty: String::new(),
    }
}

fn column(title: String, kind: Kind) -> Column {
    Column { title, kind }
}

/// Every rule: its name and what must hold, in English.
fn rules() -> impl Iterator<Item = (&'static str, &'static str)> {
    proof::RULES.iter().map(|rule| (rule.name, rule.says)).chain(books::RULES)
}

/// What must hold, in Chinese.
const RULES_IN_CHINESE: &[(&str, &str)] = &[
    ("account_missing", "每个批次、每条分录都有其账户。"),
    ("entry_numbers", "分录按 1、2、3……连续编号，没有缺号。"),
    ("entry_type", "分录类型有效；键、批次和更正信息只出现在该类型应有之处。"),
    ("entry_chain", "每条分录的变动前余额等于上一条分录的变动后余额。"),
    ("entry_amount", "每条分录按其积分数变动余额，积分数为 1 至 1,000,000,000,000。"),
    ("batch_recharge", "第 n 次充值开立第 n 个批次，积分、来源和时间一致；批次别无来处。"),
    ("entry_allocations", "分录的分摊明细所列批次均存在且不重复，合计等于该分录取自批次的积分。"),
    ("batch_amount", "批次的积分总额等于剩余积分加上各分录已取用的积分。"),
    ("batch_state", "批次有剩余积分时才处于开放状态，剩余积分在 0 与总额之间，且到期时间晚于开立时间。"),
    ("entry_batches", "充值只从本批次抵扣欠费；消耗只取未到期批次；过期取走到期批次的全部剩余积分。"),
    ("account_balance", "账户余额等于其最后一条分录的变动后余额。"),
    ("account_totals", "账户的各项累计数等于其各类分录之和。"),
    ("account_numbers", "账户记录的最后分录号和最后批次号正确。"),
    ("account_identity", "余额 = 充值 - 消耗 - 过期 + 调整。"),
    ("account_remaining", "账户各批次剩余积分之和等于其余额；欠费账户为零。"),
    ("history_changed", "已核对过的分录和批次保持原样。"),
    ("days_balance", "各营业日分录的累计结果等于全部账户余额之和。"),
    ("days_source", "各营业日分录按来源的累计结果等于该来源批次的剩余积分，以及账户欠费。"),
    ("day_changed", "已结账的营业日不再变动。"),
];

/// The words of the report.
struct Words(Language);

impl Words {
    fn of(&self, english: &str, chinese: &str) -> String {
        self.or(|| english.to_owned(), || chinese.to_owned())
    }

    fn or(&self, english: impl FnOnce() -> String, chinese: impl FnOnce() -> String) -> String {
        match self.0 {
            Language::English => english(),
            Language::SimplifiedChinese => chinese(),
        }
    }

    /// What a rule says; the name of one that has no words here, such as one that an older version checked.
    fn rule(&self, name: &str) -> String {
        let sentence = match self.0 {
            Language::English => rules().find(|(rule, _)| *rule == name),
            Language::SimplifiedChinese => RULES_IN_CHINESE.iter().copied().find(|(rule, _)| *rule == name),
        };
        sentence.map_or(name, |(_, sentence)| sentence).to_owned()
    }

    fn headline(&self, proof: &Proof) -> String {
        let (accounts, entries) = (grouped(proof.accounts), grouped(proof.entries));
        let (findings, new) = (grouped(proof.findings), grouped(proof.new));
        if proof.findings > 0 {
            let places = if proof.findings == 1 { "place" } else { "places" };
            return self.or(
                || format!("{findings} {places} where the books do not hold, {new} new"),
                || format!("账目有 {findings} 处差异，其中 {new} 处为新发现"),
            );
        }
        if proof.full {
            let (of, in_all) = (counted(proof.accounts, "account"), counted_in(proof.entries, "entry", "entries"));
            return self.or(
                || format!("The books are proved: {of}, {in_all}"),
                || format!("账目核对无误：共 {accounts} 个账户、{entries} 条分录"),
            );
        }
        if proof.accounts == 0 {
            return self.of(
                "The books are proved: nothing has changed since the last proof",
                "账目核对无误：自上次核对以来没有变动",
            );
        }
        let (of, in_all) = (counted(proof.accounts, "changed account"), counted_in(proof.entries, "entry", "entries"));
        self.or(
            || format!("The books are proved: {of}, {in_all}"),
            || format!("账目核对无误：有变动的账户 {accounts} 个、分录 {entries} 条"),
        )
    }

    fn range(&self, proof: &Proof, zone: Zone) -> String {
        match proof.since {
            Some(from) if !proof.full => {
                let from = from.with_timezone(&zone).format("%Y-%m-%d %H:%M").to_string();
                self.or(
                    || format!("what has changed since {from}, and where something was found before"),
                    || format!("自 {from} 以来的变动，以及此前有差异之处"),
                )
            }
            _ => self.of("everything, from the first entry on", "自首条分录起的全部账目"),
        }
    }

    fn only_the_first(&self, total: u64, whole: Option<&Path>) -> String {
        let (first, total) = (grouped(MOST_FINDINGS as u64), grouped(total));
        match whole.map(|path| path.display().to_string()) {
            Some(path) => self.or(
                || format!("The first {first} of {total}. All of them are in {path}."),
                || format!("此处列出前 {first} 条，共 {total} 条。完整清单见 {path}。"),
            ),
            None => self.or(
                || format!("The first {first} of {total}. All of them are in the table pointsd.findings."),
                || format!("此处列出前 {first} 条，共 {total} 条。完整清单见数据表 pointsd.findings。"),
            ),
        }
    }

    fn movements(&self) -> [String; 7] {
        let words = match self.0 {
            Language::English => ["Opening", "Recharged", "Settled", "Consumed", "Expired", "Adjusted", "Closing"],
            Language::SimplifiedChinese => ["期初", "充值", "抵扣欠费", "消耗", "过期", "调整", "期末"],
        };
        words.map(str::to_owned)
    }

    fn roll_forward(&self, last: &RollForward) -> String {
        let day = last.day;
        self.or(|| format!("How the points moved on {day}"), || format!("{day} 积分变动表"))
    }

    fn roll_forward_note(&self) -> String {
        self.of(
            "By when entries were recorded, in the business's time zone. Settled: recharged points that paid at once what \
             their account owed; what is owed grows less by as much.",
            "按分录的入账时间及营业时区统计。抵扣欠费：充值时直接用于偿还该账户欠费的积分，账户欠费随之等额减少。",
        )
    }

    fn waterfall(&self, last: &RollForward, totals: &Booked) -> String {
        let [opening, recharged, _, consumed, expired, adjusted, closing] = booked_cells(totals).map(grouped);
        let day = last.day;
        self.or(
            || {
                format!(
                    "{day}: opening {opening}, recharged {recharged}, consumed {consumed}, expired {expired}, \
                     adjusted {adjusted}, closing {closing}."
                )
            },
            || {
                format!(
                    "{day}：期初 {opening}，充值 {recharged}，消耗 {consumed}，过期 {expired}，调整 {adjusted}，期末 {closing}。"
                )
            },
        )
    }

    fn no_day_yet(&self) -> Section {
        Section::Text {
            title: self.of("How the points moved", "积分变动表"),
            paragraphs: vec![self.of(
                "No business day is over yet: what moved until now is shown. The first one is closed ten minutes after its end.",
                "尚无已结束的营业日，以下为截至目前的变动。首个营业日将在结束十分钟后结账。",
            )],
        }
    }

    fn tie(&self, books: &Books) -> Section {
        let (expected, balance) = (grouped(books.expected), grouped(books.balance));
        let history = match (&books.last, self.0) {
            (Some(last), Language::English) => {
                format!("The books up to {} and what was recorded since come to {expected} points", last.day)
            }
            (Some(last), Language::SimplifiedChinese) => {
                format!("截至 {} 的账簿加上其后入账的变动，合计 {expected} 积分", last.day)
            }
            (None, Language::English) => format!("What was recorded comes to {expected} points"),
            (None, Language::SimplifiedChinese) => format!("全部入账变动合计 {expected} 积分"),
        };
        let holds = books.expected == books.balance;
        let sentence = match (holds, self.0) {
            (true, Language::English) => format!("{history}; so do the balances of all accounts."),
            (true, Language::SimplifiedChinese) => format!("{history}，与全部账户余额之和一致。"),
            (false, Language::English) => format!("{history}, but the balances of all accounts come to {balance}."),
            (false, Language::SimplifiedChinese) => format!("{history}，而全部账户余额之和为 {balance}，两者不符。"),
        };
        let mut paragraphs = vec![sentence];
        if books.recomputed {
            paragraphs.push(self.of(
                "For this, all closed days were computed anew from their entries.",
                "为此，所有已结账营业日均已根据分录重新计算。",
            ));
        }
        Section::Text { title: self.of("From the books to the balances", "账簿与余额的核对"), paragraphs }
    }

    /// The youngest first.
    fn ages(&self) -> Vec<String> {
        let words = match self.0 {
            Language::English => ["0-30 days", "31-90 days", "91-180 days", "over 180 days"],
            Language::SimplifiedChinese => ["0-30 天", "31-90 天", "91-180 天", "180 天以上"],
        };
        words.map(str::to_owned).to_vec()
    }

    fn expiries(&self) -> Vec<String> {
        let mut words = vec![self.of("due already", "已到期")];
        words.extend(self.ages());
        words
    }
}

fn counted(number: u64, one: &str) -> String {
    counted_in(number, one, &format!("{one}s"))
}

fn counted_in(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_words_in_both_languages() {
        let words = Words(Language::SimplifiedChinese);
        for (name, english) in rules() {
            assert!(english.ends_with('.'), "{name}: {english}");
            assert!(words.rule(name).ends_with('。'), "{name} has no Chinese words");
        }
        assert_eq!(rules().count(), RULES_IN_CHINESE.len(), "words for a rule that is not there");
    }
}
