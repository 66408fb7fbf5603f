//! Documents like those that the reports make.

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use pointsd::document::{Bar, Cell, Chart, Column, Document, Fact, Form, Kind, Section, Sum, Table, Tone};
use pointsd::language::Language::{self, English, SimplifiedChinese};

pub const LANGUAGES: [Language; 2] = [English, SimplifiedChinese];

/// An empty document.
pub fn bare(language: Language) -> Document {
    Document {
        report: "reconciliation".to_owned(),
        language,
        business: say(language, "Acme Ltd", "示例科技有限公司").to_owned(),
        title: say(language, "Reconciliation", "对账").to_owned(),
        slot: instant("2026-11-21T20:30:00Z"),
        run: 4711,
        as_of: instant("2026-11-21T20:30:07Z"),
        period: None,
        time_zone: "Asia/Shanghai".to_owned(),
        tone: Tone::Good,
        tone_rule: String::new(),
        headline: say(language, "The books balance", "账目平衡").to_owned(),
        facts: vec![],
        sections: vec![],
    }
}

/// A reconciliation with this many findings.
pub fn reconciliation(language: Language, findings: usize) -> Document {
    let t = |english: &str, chinese: &str| say(language, english, chinese).to_owned();
    let mut document = bare(language);
    if findings > 0 {
        document.tone = Tone::Bad;
        document.headline = match language {
            English => format!("{findings} accounts do not add up; 18,204,311 points owed to users"),
            SimplifiedChinese => format!("{findings} 个账户不平；应付用户积分 18,204,311"),
        };
    } else {
        document.headline = t(
            "The books balance: 18,204,311 points owed to users, 2,411,870 accounts proved",
            "账目平衡：应付用户积分 18,204,311，已核对账户 2,411,870 个",
        );
    }
    document.facts = vec![
        fact(&t("Points owed to users", "应付用户积分"), Cell::Number(18_204_311)),
        fact(&t("Points owed by users", "用户欠款积分"), Cell::Number(-92_140)),
        fact(&t("Accounts proved", "已核对账户"), Cell::Number(2_411_870)),
        fact(&t("Findings", "问题"), Cell::Number(findings as i64)),
        fact(&t("Standing since", "最早发现于"), Cell::Instant(instant("2026-11-18T20:30:00Z"))),
        fact(&t("Proof", "核对范围"), Cell::Text(t("everything, from the first entry on", "全部，从第一笔分录起"))),
    ];
    document.sections.push(Section::Chart(Chart {
        name: "roll-forward".to_owned(),
        title: t("From yesterday to today", "昨日至今日"),
        description: t(
            "Points owed rose from 17,950,222 to 18,204,311: 812,500 recharged, 431,900 consumed, 126,511 expired.",
            "应付积分由 17,950,222 增至 18,204,311：充值 812,500，消费 431,900，过期 126,511。",
        ),
        form: Form::Waterfall,
        bars: bars(&[
            (&t("Yesterday", "昨日"), 17_950_222),
            (&t("Recharged", "充值"), 812_500),
            (&t("Consumed", "消费"), -431_900),
            (&t("Expired", "过期"), -126_511),
            (&t("Today", "今日"), 18_204_311),
        ]),
    }));
    document.sections.push(Section::Table(Table {
        name: "roll-forward".to_owned(),
        title: t("Roll-forward by source", "按来源滚动"),
        note: t("Business days by the time of recording.", "营业日按入账时间计。"),
        columns: vec![
            column(&t("Source", "来源"), Kind::Text),
            column(&t("Opening", "期初"), Kind::Number),
            column(&t("Recharged", "充值"), Kind::Number),
            column(&t("Consumed", "消费"), Kind::Number),
            column(&t("Expired", "过期"), Kind::Number),
            column(&t("Closing", "期末"), Kind::Number),
        ],
        rows: [
            ("wxpay", [9_120_333i64, 412_000, -210_400, -61_222]),
            ("alipay", [6_204_120, 301_500, -180_100, -44_289]),
            ("card", [1_990_000, 79_000, -30_000, -11_000]),
            ("gift", [400_769, 20_000, -9_400, -8_000]),
            ("compensation", [235_000, 0, -2_000, -2_000]),
        ]
        .iter()
        .map(|(source, numbers)| {
            let mut row = vec![text(source)];
            row.extend(numbers.iter().map(|number| Cell::Number(*number)));
            row.push(Cell::Number(numbers.iter().sum()));
            row
        })
        .collect(),
        label: String::new(),
        sums: vec![Sum::Across { parts: vec![1, 2, 3, 4], sum: 5 }],
        rows_in_all: 5,
        whole_file: String::new(),
        totals: vec![None, Some(17_950_222), Some(812_500), Some(-431_900), Some(-126_511), Some(18_204_311)],
        rows_in_body: 20,
        attached_columns: 0,
        if_empty: String::new(),
    }));
    document.sections.push(Section::Table(Table {
        name: "findings".to_owned(),
        title: t("Findings", "问题"),
        note: String::new(),
        columns: vec![
            column(&t("Rule", "规则"), Kind::Text),
            column(&t("User", "用户"), Kind::Identifier),
            column(&t("Expected", "应为"), Kind::Text),
            column(&t("Found", "实为"), Kind::Text),
            column(&t("Since", "发现于"), Kind::Instant),
        ],
        rows: (0..findings)
            .map(|place| {
                vec![
                    text(["balance_is_its_history", "batch_remaining", "chain_broken"][place % 3]),
                    text(&user(place)),
                    text(&format!("{}", 1200 + 37 * place)),
                    text(&format!("{}", 1190 + 37 * place)),
                    Cell::Instant(instant("2026-11-18T20:30:00Z") + TimeDelta::days((place % 4) as i64)),
                ]
            })
            .collect(),
        label: String::new(),
        sums: Vec::new(),
        rows_in_all: findings as u64,
        whole_file: String::new(),
        totals: vec![],
        rows_in_body: 10,
        attached_columns: 0,
        if_empty: t("Nothing was found.", "没有发现问题。"),
    }));
    document.sections.push(Section::Text {
        title: t("What to do", "后续处理"),
        paragraphs: if findings > 0 {
            vec![
                t(
                    "Each finding names a rule of the ledger that a row breaks. Look at an account with `pointsd check`, and correct it with `pointsd repair`, which writes an entry and leaves the rest as it is.",
                    "每个问题都指出某一行违反的账本规则。请用 pointsd check 查看账户，用 pointsd repair 更正；更正会写入一笔分录，其余保持不变。",
                ),
                t("Until then the account stays in this report.", "更正之前，该账户会一直列在本报告中。"),
            ]
        } else {
            vec![t("Nothing.", "无需处理。")]
        },
    });
    document
}

/// Accounts in arrears: a bar chart, and a wide table that the body shows in part.
pub fn arrears(language: Language) -> Document {
    let t = |english: &str, chinese: &str| say(language, english, chinese).to_owned();
    let mut document = bare(language);
    document.report = "arrears".to_owned();
    document.title = t("Arrears", "欠款");
    document.tone = Tone::Attention;
    document.headline =
        t("1,254 users owe 92,140 points, 31 more than yesterday", "1,254 位用户共欠 92,140 积分，比昨日多 31 位");
    document.facts = vec![
        fact(&t("Users in arrears", "欠款用户"), Cell::Number(1254)),
        fact(&t("Points owed", "欠款积分"), Cell::Number(92_140)),
        fact(&t("Oldest debt since", "最早欠款日"), Cell::Date(day("2026-02-03"))),
    ];
    document.sections.push(Section::Chart(Chart {
        name: "arrears-by-age".to_owned(),
        title: t("Arrears by age", "欠款账龄"),
        description: t("Most of what is owed is younger than 30 days.", "大部分欠款不足 30 天。"),
        form: Form::Bars,
        bars: bars(&[
            (&t("to 7 days", "7 天内"), 41_200),
            (&t("8 to 30 days", "8 至 30 天"), 28_340),
            (&t("31 to 60 days", "31 至 60 天"), 12_800),
            (&t("61 to 90 days", "61 至 90 天"), 6_500),
            (&t("over 90 days", "90 天以上"), 3_300),
        ]),
    }));
    let rows: Vec<Vec<Cell>> = (0..1254)
        .map(|place: i64| {
            vec![
                text(&user(place as usize)),
                Cell::Number(9_400 - 7 * place),
                Cell::Number(120_000 - place),
                Cell::Number(-(129_400 - 8 * place)),
                Cell::Date(day("2026-02-03") + Days::new(place as u64 % 280)),
                Cell::Instant(instant("2026-11-20T03:15:00Z")),
            ]
        })
        .collect();
    let sum = |column: usize| {
        let numbers = rows.iter().map(|row| if let Some(Cell::Number(number)) = row.get(column) { *number } else { 0 });
        Some(numbers.sum())
    };
    document.sections.push(Section::Table(Table {
        name: "arrears".to_owned(),
        title: t("Users in arrears", "欠款用户"),
        note: t("Highest first.", "按欠款从高到低。"),
        columns: vec![
            column(&t("User", "用户"), Kind::Identifier),
            column(&t("Owes", "欠款"), Kind::Number),
            column(&t("Recharged in all", "累计充值"), Kind::Number),
            column(&t("Consumed in all", "累计消费"), Kind::Number),
            column(&t("In arrears since", "欠款起始日"), Kind::Date),
            column(&t("Last posting", "最近入账"), Kind::Instant),
        ],
        totals: vec![None, sum(1), sum(2), sum(3), None, None],
        label: String::new(),
        sums: Vec::new(),
        rows_in_all: rows.len() as u64,
        whole_file: String::new(),
        rows,
        rows_in_body: 20,
        attached_columns: 0,
        if_empty: t("Nobody owes points.", "无人欠款。"),
    }));
    document
}

/// What expires in the next 52 weeks.
pub fn expiry(language: Language) -> Document {
    let t = |english: &str, chinese: &str| say(language, english, chinese).to_owned();
    let mut document = bare(language);
    document.report = "expiry".to_owned();
    document.title = t("Expiry", "积分过期");
    document.headline = t("126,511 points of 3,020 users expired last night", "昨夜 3,020 位用户的 126,511 积分过期");
    document.facts = vec![fact(&t("Points expired", "过期积分"), Cell::Number(126_511))];
    let weeks: Vec<(String, i64)> = (0..52)
        .map(|week| {
            let monday = day("2026-11-23") + Days::new(7 * week);
            (monday.format("%m-%d").to_string(), 40_000 + (week as i64 * 7919) % 90_000)
        })
        .collect();
    document.sections.push(Section::Chart(Chart {
        name: "expiring-by-week".to_owned(),
        title: t("Expiring in the next 52 weeks", "未来 52 周过期"),
        description: t("Between 40,000 and 130,000 points expire each week.", "每周过期 40,000 至 130,000 积分。"),
        form: Form::Bars,
        bars: weeks.iter().map(|(label, value)| Bar { label: label.clone(), value: *value }).collect(),
    }));
    document
}

/// Numbers as large as the ledger can hold, long names, and hostile texts.
pub fn extreme(language: Language) -> Document {
    let mut document = bare(language);
    document.tone = Tone::Bad;
    document.business = "A & B <script>alert(1)</script> \"quoted\" 'single'".to_owned();
    document.headline =
        format!("{} <img src=x onerror=alert(1)>", "Pneumonoultramicroscopicsilicovolcanoconiosis".repeat(2));
    document.facts = vec![
        fact("=1+1", Cell::Number(i64::MAX)),
        fact(
            "a very long name of a fact that says much and does not come to an end before the line does",
            Cell::Number(i64::MIN),
        ),
        fact("empty", Cell::Empty),
        fact("text", text("right-to-left \u{202e}override, control \u{0}\u{7}\u{1b}[31m, tab\tline\nend")),
    ];
    document.sections.push(Section::Chart(Chart {
        name: "huge".to_owned(),
        title: "Huge".to_owned(),
        description: "From \"the lowest\" <to> the highest & back".to_owned(),
        form: Form::Bars,
        bars: bars(&[
            ("<b>\u{202e}\u{1}", i64::MAX),
            ("nothing", 0),
            ("one", 1),
            ("鬱𠮷 outside the font", i64::MIN),
            (
                "a name that is much longer than its bar has room for, and then some more of it",
                -4_611_686_018_427_387_904,
            ),
        ]),
    }));
    document.sections.push(Section::Table(Table {
        name: "extreme".to_owned(),
        title: "Extremes".to_owned(),
        note: String::new(),
        columns: vec![
            column("=HYPERLINK(\"x\")", Kind::Text),
            column("User", Kind::Identifier),
            column("Number", Kind::Number),
            column("Another", Kind::Number),
            column("Small", Kind::Number),
            column("Day", Kind::Date),
            column("Instant", Kind::Instant),
        ],
        rows: vec![
            vec![
                text("=cmd|' /C calc'!A0"),
                text(&"0123456789abcdef".repeat(8)),
                Cell::Number(i64::MAX),
                Cell::Number(9_007_199_254_740_992),
                Cell::Number(7),
                Cell::Date(NaiveDate::MAX),
                Cell::Instant(DateTime::<Utc>::MAX_UTC),
            ],
            vec![
                text("+1"),
                text("@SUM(A1)"),
                Cell::Number(i64::MIN),
                Cell::Number(-9_007_199_254_740_993),
                Cell::Number(-3),
                Cell::Date(day("1899-12-31")),
                Cell::Instant(DateTime::<Utc>::MIN_UTC),
            ],
            vec![
                text("-1 \"quoted\", comma"),
                text("<script>alert('x')</script>"),
                Cell::Number(0),
                Cell::Empty,
                Cell::Number(5),
                Cell::Empty,
                Cell::Empty,
            ],
            vec![
                text("\t=tab"),
                text("中文用户"),
                Cell::Number(1),
                Cell::Number(1),
                Cell::Number(1),
                Cell::Empty,
                Cell::Empty,
            ],
        ],
        label: String::new(),
        sums: Vec::new(),
        rows_in_all: 4_000_000_000,
        whole_file: String::new(),
        totals: vec![None, None, Some(i64::MAX), Some(i64::MIN), Some(10), None, None],
        rows_in_body: 3,
        attached_columns: 0,
        if_empty: String::new(),
    }));
    document
}

/// A chart without a document.
pub fn chart(form: Form, of: &[(&str, i64)]) -> Chart {
    Chart {
        name: "chart".to_owned(),
        title: "Chart".to_owned(),
        description: "A chart".to_owned(),
        form,
        bars: bars(of),
    }
}

pub fn tables(document: &Document) -> Vec<&Table> {
    document
        .sections
        .iter()
        .filter_map(|section| if let Section::Table(table) = section { Some(table) } else { None })
        .collect()
}

pub fn charts(document: &Document) -> Vec<&Chart> {
    document
        .sections
        .iter()
        .filter_map(|section| if let Section::Chart(chart) = section { Some(chart) } else { None })
        .collect()
}

pub fn column(title: &str, kind: Kind) -> Column {
    Column { title: title.to_owned(), kind }
}

pub fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

pub fn fact(label: &str, value: Cell) -> Fact {
    Fact { label: label.to_owned(), value }
}

pub fn instant(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

pub fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn bars(of: &[(&str, i64)]) -> Vec<Bar> {
    of.iter().map(|(label, value)| Bar { label: (*label).to_owned(), value: *value }).collect()
}

fn user(place: usize) -> String {
    format!(
        "{:08x}-5b1c-4e0f-9d5e-{:012x}",
        0x3f2a_91c4u32.wrapping_mul(place as u32 + 1),
        0x8a31_b2c4_d5e6u64 + place as u64
    )
}

fn say<'a>(language: Language, english: &'a str, chinese: &'a str) -> &'a str {
    match language {
        English => english,
        SimplifiedChinese => chinese,
    }
}
