//! HTML and text.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use pointsd::document::{Cell, Chart, Document, Kind, Section, Table};
use pointsd::language::Language::{self, English, SimplifiedChinese};
use pointsd::render::Renderer;
use unicode_width::UnicodeWidthStr;

use super::samples::{self, LANGUAGES, arrears, column, expiry, extreme, reconciliation, text};

fn html(document: &Document) -> String {
    Renderer::new(None).html(document, &|chart: &Chart| format!("cid:{}", chart.name))
}

fn all(language: Language) -> [Document; 5] {
    [reconciliation(language, 23), reconciliation(language, 0), arrears(language), expiry(language), extreme(language)]
}

#[test]
fn html_brings_nothing_from_elsewhere_and_no_script() {
    for document in LANGUAGES.into_iter().flat_map(all) {
        let whole = html(&document);
        let (begin, rest) = whole.split_once("<style>").unwrap();
        let (styles, rest) = rest.split_once("</style>").unwrap();
        assert!(styles.len() < 750 && !styles.contains("url") && !styles.contains("@import"), "{styles}");
        let html = format!("{begin}{rest}");
        let (start, tag) = match document.language {
            English => ("<!DOCTYPE html>\n<html lang=\"en\">", "en"),
            SimplifiedChinese => ("<!DOCTYPE html>\n<html lang=\"zh-CN\">", "zh-CN"),
        };
        assert!(html.starts_with(start), "{tag}: {}", &html[..60]);
        for bad in ["http://", "https://", "<style", "<script", "<link", "<img src=x", "onerror=alert(1)>", "url("] {
            assert!(!html.contains(bad), "{} contains {bad}", document.title);
        }
        assert!(whole.len() < 100_000, "{} has {} bytes", document.title, html.len());
        for chart in samples::charts(&document) {
            assert!(html.contains(&format!("src=\"cid:{}\"", chart.name)));
        }
        assert_eq!(html.matches("<img ").count(), samples::charts(&document).len());
        assert_eq!(html.matches(" alt=\"").count(), samples::charts(&document).len());
    }
}

#[test]
fn what_anybody_wrote_acts_on_nothing() {
    let html = html(&extreme(English));
    assert!(html.contains("A &amp; B &lt;script&gt;alert(1)&lt;/script&gt; &quot;quoted&quot; &#39;single&#39;"));
    assert!(html.contains("alt=\"From &quot;the lowest&quot; &lt;to&gt; the highest &amp; back\""));
    for text in [html, Renderer::new(None).text(&extreme(English))] {
        let acting = |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c);
        assert_eq!(text.chars().find(|c| acting(*c)), None);
        let words = text.replace("<wbr>", "").split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("right-to-left \u{fffd}override, control \u{fffd}\u{fffd}\u{fffd}[31m, tab"), "{words}");
    }
}

/// A few words are easier to read on one line than a word a line, and an option broken in two cannot be copied.
#[test]
fn short_texts_and_options_of_commands_stay_on_one_line() {
    let mut document = arrears(English);
    let Section::Table(table) = &mut document.sections[1] else { panic!() };
    table.columns[1] = column("Customer's account in arrears since", Kind::Text);
    (table.rows, table.totals) = (vec![table.rows[0].clone()], Vec::new());
    table.rows[0][1] = text("Over 90 days");
    let paragraphs = vec!["Next: `pointsd run reconciliation --full`".to_owned(), format!("--{}", "x".repeat(99))];
    document.sections.push(Section::Text { title: String::new(), paragraphs });
    let html = html(&document);
    let before = |text: &str| &html[..html.find(text).unwrap_or_else(|| panic!("{text} in {html}"))];
    assert!(!html.contains("Customer&#39;<wbr>"), "no break at an apostrophe");
    let cell = before("Over 90 days</td>");
    assert!(cell[cell.rfind("<td").unwrap()..].contains("nowrap"), "{html}");
    assert!(before("--full`").ends_with("white-space:nowrap\">"), "{html}");
    assert!(!before("--xxx").ends_with("white-space:nowrap\">"), "a long word still breaks");
}

#[test]
fn a_column_without_any_value_is_left_out() {
    let mut document = arrears(English);
    let Section::Table(table) = &mut document.sections[1] else { panic!() };
    table.columns.push(column("Corrected by", Kind::Text));
    table.rows.iter_mut().for_each(|row| row.push(Cell::Empty));
    table.totals.push(None);
    let shown = |document: &Document| html(document).contains("Corrected by");
    assert!(!shown(&document) && !Renderer::new(None).text(&document).contains("Corrected by"));
    let Section::Table(table) = &mut document.sections[1] else { panic!() };
    *table.rows[3].last_mut().unwrap() = text("Ada");
    assert!(shown(&document));
}

/// The name of a row may be long: without its source, several rows of a currency look the same.
#[test]
fn a_row_is_named_by_a_currency_and_a_long_source() {
    let mut document = reconciliation(English, 0);
    let Section::Table(table) = &mut document.sections[1] else { panic!() };
    table.columns.insert(0, column("Currency", Kind::Text));
    table.rows.iter_mut().for_each(|row| row.insert(0, text("CNY")));
    table.totals.clear();
    table.rows[0][1] = text("Corporate contract (prepaid, net 30)");
    // Too wide for a table of text.
    table.rows[0][2..5].fill(Cell::Number(i64::MAX));
    let told = Renderer::new(None).text(&document);
    assert!(told.contains("\nCNY · Corporate contract (prepaid, net 30)\n"), "{told}");
}

#[test]
fn no_line_ends_with_an_opening_bracket() {
    let mut document = reconciliation(SimplifiedChinese, 0);
    let paragraphs = vec![format!("{}（第二版）", "字".repeat(38))];
    document.sections.push(Section::Text { title: String::new(), paragraphs });
    let told = Renderer::new(None).text(&document);
    assert!(told.contains("\n（第二版）"), "{told}");
}

/// A table with too many columns for a page becomes paragraphs, so the reader need not scroll sideways.
#[test]
fn rows_too_wide_for_a_page_stand_below_each_other() {
    let mut document = arrears(English);
    let columns: Vec<_> = (0..10).map(|nth| column(&format!("Column {nth}"), Kind::Text)).collect();
    let row = |of: &str| {
        (0..10).map(|nth| Cell::Text(if nth == 4 { String::new() } else { format!("{of}-hand-side-{nth}") })).collect()
    };
    let Section::Table(table) = &mut document.sections[1] else { panic!() };
    *table = Table {
        columns,
        rows: vec![row("left"), row("right")],
        label: String::new(),
        sums: Vec::new(),
        rows_in_all: 7,
        whole_file: String::new(),
        rows_in_body: 2,
        attached_columns: 0,
        totals: Vec::new(),
        name: "wide".to_owned(),
        title: "Wide".to_owned(),
        note: String::new(),
        if_empty: String::new(),
    };
    let (html, text) = (html(&document), Renderer::new(None).text(&document));
    assert!(html.contains("class=\"row\"") && !html.contains(">Column 0<") && !html.contains(">Column 4<"), "{html}");
    assert!(html.replace("<wbr>", "").contains(">Column 9</span>right-hand-side-9</span>"), "{html}");
    assert!(
        text.contains(
            "left-hand-side-0 · left-hand-side-1\n  Column 2: left-hand-side-2 · Column 3: left-hand-side-3\n"
        ) && text.contains("\n\nright-hand-side-0 · right-hand-side-1\n  Column 2:"),
        "{text}"
    );
    assert!(!text.contains("Column 4") && text.contains("and 5 more rows"), "{text}");
}

#[test]
fn the_body_shows_its_rows_and_says_how_many_more_there_are() {
    for (language, more) in
        [(English, "and 1,234 more rows in the attachment"), (SimplifiedChinese, "另有 1,234 行，见附件")]
    {
        let document = arrears(language);
        let (html, text) = (html(&document), Renderer::new(None).text(&document));
        assert!(html.contains(more) && text.contains(more), "{text}");
        assert!(text.contains("9,267") && !text.contains("9,260"), "the 20th row is there, the 21st is not");
        // The total is over all of them.
        assert!(html.contains(">6,288,183<") && text.contains("6,288,183"));
    }
    let mut document = arrears(English);
    let Section::Table(table) = &mut document.sections[1] else { panic!() };
    table.rows_in_all = 5000;
    let text = Renderer::new(None).text(&document);
    assert!(text.contains("and 4,980 more rows, 1,234 of them in the attachment"), "{text}");
}

/// A page has no attachments and no limit of size.
#[test]
fn a_page_says_where_its_other_rows_are_and_has_as_many_as_it_asks_for() {
    let page = |document: &Document| {
        let renderer = Renderer::page(None);
        [renderer.html(document, &|_| String::new()).replace("&#39;", "'"), renderer.text(document)]
    };
    for (language, more) in [
        (English, "and 1,234 more rows in arrears.csv of the report's folder"),
        (SimplifiedChinese, "另有 1,234 行，见报告文件夹中的 arrears.csv"),
    ] {
        let mut document = arrears(language);
        for text in page(&document) {
            assert!(text.contains(more) && !text.contains("attach") && !text.contains("附件"), "{text}");
        }
        let Section::Table(table) = &mut document.sections[1] else { panic!() };
        // A table that is not whole has no such file.
        table.rows_in_all = 5000;
        for text in page(&document) {
            let more = if language == English { "and 4,980 more rows" } else { "另有 4,980 行" };
            assert!(text.contains(more) && !text.contains("arrears.csv"), "{text}");
        }
        let Section::Table(table) = &mut document.sections[1] else { panic!() };
        (table.rows_in_all, table.rows_in_body) = (1254, 1254);
        let [html, text] = page(&document);
        assert!(html.len() > 200_000 && !html.contains("more rows") && !html.contains("另有"), "{}", html.len());
        let named = if language == English { "Owes: 629 · " } else { "欠款：629 · " };
        assert!(html.contains(">629<") && text.contains(named), "the last row");
    }
}

#[test]
fn a_table_without_rows_says_so_or_is_left_out() {
    let mut document = reconciliation(English, 0);
    assert!(html(&document).contains(">Nothing was found.<"));
    assert!(Renderer::new(None).text(&document).contains("Nothing was found."));
    let Section::Table(table) = &mut document.sections[2] else { panic!() };
    table.if_empty.clear();
    assert!(!html(&document).contains("Findings</h2>"));
    assert!(!Renderer::new(None).text(&document).contains("Findings\n---"));
}

#[test]
fn a_mail_that_gmail_would_cut_shows_fewer_rows() {
    let mut document = arrears(English);
    let Section::Table(table) = &mut document.sections[1] else { panic!() };
    table.rows_in_body = 1254;
    let html = html(&document);
    assert!(html.len() < 100_000, "{} bytes", html.len());
    assert!(html.contains("and 1,204 more rows in the attachment"), "50 rows have room, 100 have not");
    assert!(html.trim_end().ends_with("</html>"));
    // Gmail does not count inlined pictures.
    let inlined =
        Renderer::new(None).html(&arrears(English), &|_| format!("data:image/png;base64,{}", "A".repeat(200_000)));
    assert!(inlined.contains("and 1,234 more rows"));
}

#[test]
fn columns_of_text_stand_below_each_other_in_chinese_too() {
    let table = Table {
        name: "t".to_owned(),
        title: "T".to_owned(),
        note: String::new(),
        columns: vec![column("来源", Kind::Text), column("积分", Kind::Number), column("X", Kind::Text)],
        rows: vec![
            vec![text("微信支付"), Cell::Number(1_000), text("|")],
            vec![text("card"), Cell::Number(22), text("|")],
            vec![text("礼品a"), Cell::Number(-333_333), text("|")],
        ],
        label: String::new(),
        sums: Vec::new(),
        rows_in_all: 3,
        whole_file: String::new(),
        totals: vec![None, Some(-332_311), None],
        rows_in_body: 10,
        attached_columns: 0,
        if_empty: String::new(),
    };
    let mut document = samples::bare(SimplifiedChinese);
    document.sections = vec![Section::Table(table)];
    let text = Renderer::new(None).text(&document);
    let places: Vec<usize> = text.lines().filter_map(|line| line.strip_suffix('|')).map(|line| line.width()).collect();
    assert_eq!(places, [20, 20, 20], "{text}");
    assert!(
        text.lines().any(|line| line.starts_with("合计") && line.ends_with("-332,311") && line.width() == 18),
        "{text}"
    );
}

#[test]
fn text_keeps_to_78_columns_and_leaves_a_uuid_whole() {
    let documents =
        |language| [reconciliation(language, 23), reconciliation(language, 0), arrears(language), expiry(language)];
    for document in LANGUAGES.into_iter().flat_map(documents) {
        for line in Renderer::new(None).text(&document).lines() {
            assert!(line.width() <= 78, "{line}");
        }
    }
    assert!(Renderer::new(None).text(&reconciliation(English, 23)).contains("7e552388-5b1c-4e0f-9d5e-8a31b2c4d5e7"));
}

#[test]
fn text_leaves_charts_out() {
    for document in LANGUAGES.into_iter().flat_map(all) {
        let (html, text) = (html(&document), Renderer::new(None).text(&document));
        for chart in samples::charts(&document) {
            assert!(html.contains("<img ") && !text.contains(&chart.description), "{text}");
        }
    }
}

/// A Chinese header has no spaces to break at. If a line has no room for all of them, rows become columns.
#[test]
fn a_chinese_header_in_text_stays_on_one_line() {
    let titles = ["来源", "期初积分余额", "本期发放积分", "抵扣欠费积分", "本期使用积分", "本期过期积分", "更正积分"];
    let text = |columns: usize, rows_in_all| {
        let mut document = samples::bare(SimplifiedChinese);
        let Section::Table(mut table) = reconciliation(SimplifiedChinese, 0).sections.remove(1) else { panic!() };
        table.columns = titles[..columns].iter().map(|title| column(title, Kind::Number)).collect();
        table.rows = vec![(0..columns as i64).map(|nth| Cell::Number(7000 + nth)).collect()];
        (table.totals, table.rows_in_all) = (vec![], rows_in_all);
        document.sections = vec![Section::Table(table)];
        let text = Renderer::new(None).text(&document);
        assert!(text.lines().all(|line| line.width() <= 78), "{text}");
        text
    };
    let five = text(5, 1);
    assert!(five.contains("来源  期初积分余额  本期发放积分  抵扣欠费积分  本期使用积分\n"), "{five}");
    let seven = text(7, 1);
    assert!(seven.contains("抵扣欠费积分  7,003\n本期使用积分  7,004\n"), "{seven}");
    // Rows that are left out cannot become columns.
    let cut = text(7, 5);
    assert!(cut.contains("7,000\n  期初积分余额：7,001 · 本期发放积分：7,002 ·"), "{cut}");
}

/// A folder with custom templates.
struct Folder(PathBuf);

impl Folder {
    fn with(name: &str, html: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("pointsd-templates-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("report.html.jinja"), html).unwrap();
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> tracing_subscriber::fmt::MakeWriter<'a> for Log {
    type Writer = Log;

    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}

#[test]
fn a_template_of_ones_own_comes_first_and_escapes() {
    let folder = Folder::with("own", "<p>{{ headline }} {{ tone_word }} {{ facts[0].value }}</p>");
    let renderer = Renderer::new(Some(&folder.0));
    let document = extreme(English);
    let html = renderer.html(&document, &|_| String::new());
    assert!(html.starts_with("<p>Pneumono") && html.contains("&lt;img src=x"), "{html}");
    assert!(html.ends_with("Action required 9,223,372,036,854,775,807</p>"), "{html}");
    // The folder has none for text.
    assert_eq!(renderer.text(&document), Renderer::new(None).text(&document));
}

#[test]
fn a_broken_template_gives_way_to_the_built_in_one() {
    let endless = "{% for a in range(90000) %}{% for b in range(90000) %}{% set x = a %}{% endfor %}{% endfor %}";
    let flood = "{% for a in range(90000) %}{{ headline }}{{ headline }}{{ headline }}{{ headline }}{% endfor %}";
    for (name, broken) in [
        ("syntax", "<p>{% if %}</p>"),
        ("name", "<p>{{ headlien }}</p>"),
        ("endless", endless),
        ("flood", flood),
        ("empty", " \n"),
    ] {
        let folder = Folder::with(name, broken);
        let document = reconciliation(English, 2);
        let html = Renderer::new(Some(&folder.0)).html(&document, &|chart: &Chart| format!("cid:{}", chart.name));
        assert_eq!(html, self::html(&document), "{name}");
    }
    // One warning a document, although a long mail is rendered several times.
    let folder = Folder::with("once", "<p>{{ headlien }}</p>");
    let mut long = arrears(English);
    let Section::Table(table) = &mut long.sections[1] else { panic!() };
    table.rows_in_body = 1254;
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).finish();
    let html = tracing::subscriber::with_default(subscriber, || {
        Renderer::new(Some(&folder.0)).html(&long, &|chart: &Chart| format!("cid:{}", chart.name))
    });
    assert_eq!(html, self::html(&long));
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(log.matches("cannot be used").count(), 1, "{log}");
    // A folder in place of the file.
    let folder = Folder::with("folder", "");
    fs::remove_file(folder.0.join("report.html.jinja")).unwrap();
    fs::create_dir(folder.0.join("report.html.jinja")).unwrap();
    let document = reconciliation(English, 2);
    assert!(Renderer::new(Some(&folder.0)).html(&document, &|_| String::new()).starts_with("<!DOCTYPE html>"));
}
