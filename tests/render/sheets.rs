//! Workbooks and CSV.

use std::fs;
use std::io::{Cursor, Read as _};

use calamine::{Data, Range, Reader, Xlsx};
use pointsd::document::{Cell, Document, Kind, Section};
use pointsd::language::Language::{English, SimplifiedChinese};
use pointsd::private_files::Folder;
use pointsd::render::{CsvFile, csv, xlsx};
use pointsd::time::Zone;

use super::samples::{LANGUAGES, arrears, column, extreme, instant, reconciliation, tables, text};

fn book(document: &Document) -> Xlsx<Cursor<Vec<u8>>> {
    Xlsx::new(Cursor::new(xlsx(document).unwrap())).unwrap()
}

fn at(sheet: &Range<Data>, row: u32, column: u32) -> Data {
    sheet.get_value((row, column)).cloned().unwrap_or(Data::Empty)
}

#[test]
fn a_workbook_has_a_summary_and_every_table_whole() {
    for (language, summary) in LANGUAGES.into_iter().zip(["Summary", "摘要"]) {
        let document = arrears(language);
        let mut book = book(&document);
        assert_eq!(book.sheet_names(), [summary, "arrears"]);
        let first = book.worksheet_range(summary).unwrap();
        assert_eq!(at(&first, 2, 0), Data::String(document.headline.clone()));
        assert_eq!(at(&first, 5, 1), Data::Float(92_140.0));
        let sheet = book.worksheet_range("arrears").unwrap();
        let formulas = book.worksheet_formula("arrears").unwrap();
        assert_eq!(at(&sheet, 1254, 1), Data::Float(9_400.0 - 7.0 * 1253.0));
        // The sum is a formula with its value, so it shows before any calculation.
        assert_eq!(formulas.get_value((1255, 1)).unwrap(), "SUM(B2:B1255)");
        assert_eq!(at(&sheet, 1255, 1), Data::Float(6_288_183.0));
        // 20 November 2026 in Excel's calendar, and 11:15 in Shanghai as a fraction of a day.
        assert!(matches!(at(&sheet, 1, 5), Data::DateTime(time) if time.as_f64() == 46346.0 + 11.25 / 24.0));
        assert!(matches!(at(&sheet, 1, 4), Data::DateTime(time) if time.as_f64() == 46056.0));
        let Data::String(header) = at(&sheet, 0, 5) else { panic!() };
        assert!(header.ends_with("(Asia/Shanghai)"), "{header}");
        assert_eq!(xlsx(&document).unwrap(), xlsx(&document).unwrap(), "the same document gives the same file");
    }
}

/// A table without rows is a line of the summary, and no sheet.
#[test]
fn a_workbook_checks_its_sums_and_leaves_empty_tables_out() {
    let mut document = reconciliation(English, 0);
    let Section::Table(table) = &mut document.sections[1] else { panic!() };
    table.rows[4][2] = Cell::Share { part: 1, whole: 8 };
    assert_eq!(book(&document).worksheet_range("roll-forward").unwrap().get_value((5, 2)), Some(&Data::Float(0.125)));
    let Section::Table(table) = &mut document.sections[1] else { panic!() };
    table.rows[4][2] = Cell::Number(0);
    for (difference, result) in [(0, "OK"), (3, "Difference")] {
        let Section::Table(table) = &mut document.sections[1] else { panic!() };
        let Cell::Number(closing) = &mut table.rows[0][5] else { panic!() };
        *closing += difference;
        let mut book = book(&document);
        assert_eq!(book.sheet_names(), ["Summary", "roll-forward", "Cross-foot"]);
        let (sheet, formulas) =
            (book.worksheet_range("Cross-foot").unwrap(), book.worksheet_formula("Cross-foot").unwrap());
        let of = |column| formulas.get_value((1, column)).unwrap().as_str();
        assert!(of(1).starts_with("SUM('roll-forward'!B2:B6,'roll-forward'!C2:C6,"), "{}", of(1));
        assert!(of(3).starts_with("SUMPRODUCT(ABS(ROUND('roll-forward'!B2:B6+'roll-forward'!C2:C6+"), "{}", of(3));
        assert_eq!(of(4), "IF(D2=0,\"OK\",\"Difference\")");
        assert_eq!((at(&sheet, 1, 3), at(&sheet, 1, 4)), (Data::Float(difference as f64), Data::String(result.into())));
        let summary = book.worksheet_range("Summary").unwrap();
        let line = summary.rows().find(|row| row[0] == Data::String("Cross-foot".into())).unwrap();
        assert_eq!(line[1..3], [Data::String("Cross-foot".into()), Data::String(result.into())]);
        let findings = summary.rows().find(|row| row[1] == Data::String("Nothing was found.".into())).unwrap();
        assert_eq!(findings[0], Data::String("Findings".into()));
    }
}

/// Sentences that are longer than their columns wrap, so that a sheet is not too wide for its paper, and each sheet says what it is.
#[test]
fn a_sheet_of_sentences_can_be_printed() {
    let mut document = reconciliation(English, 1);
    let Section::Table(table) = &mut document.sections[2] else { panic!() };
    for place in [0, 2, 3] {
        table.rows[0][place] = text(&"a sentence ".repeat(20));
    }
    let mut archive = zip::ZipArchive::new(Cursor::new(xlsx(&document).unwrap())).unwrap();
    let mut part = |name: &str| {
        let mut text = String::new();
        archive.by_name(name).unwrap().read_to_string(&mut text).unwrap();
        text
    };
    assert!(part("xl/styles.xml").contains("vertical=\"top\" wrapText=\"1\""));
    for (sheet, title) in [(2, "Roll-forward by source"), (3, "Findings"), (4, "Cross-foot")] {
        let xml = part(&format!("xl/worksheets/sheet{sheet}.xml"));
        assert!(xml.contains(&format!("<oddHeader>&amp;L{title}</oddHeader>")), "{title}: {xml}");
        let widths = xml.split(" width=\"").skip(1).map(|rest| rest.split('"').next().unwrap().parse::<f64>().unwrap());
        let width: f64 = widths.sum();
        assert!(width < 190.0, "{title} is {width} characters wide");
        // Not every program makes room for a sentence by itself.
        let row = xml.split("<row r=\"2\"").nth(1).unwrap().split('>').next().unwrap();
        assert_eq!(row.contains(" ht="), title == "Findings", "{title}: {row}");
    }
}

/// A table that has neither rows nor a sentence is no line of the summary.
#[test]
fn a_table_without_anything_is_no_line_of_the_summary() {
    let mut document = reconciliation(English, 0);
    let Section::Table(table) = &mut document.sections[2] else { panic!() };
    table.if_empty.clear();
    let summary = book(&document).worksheet_range("Summary").unwrap();
    assert!(summary.rows().all(|row| row[0] != Data::String("Findings".into()) || row[1] != Data::Empty));
}

#[test]
fn sheets_are_named_in_the_readers_language() {
    let mut document = arrears(SimplifiedChinese);
    let Section::Table(table) = &mut document.sections[1] else { panic!() };
    table.label = "全部欠费账户".to_owned();
    assert_eq!(book(&document).sheet_names(), ["摘要", "全部欠费账户"]);
}

#[test]
fn a_sheet_that_lacks_rows_says_so_and_sums_what_it_has() {
    let mut document = arrears(English);
    let Section::Table(table) = &mut document.sections[1] else { panic!() };
    table.rows_in_all = 5000;
    table.rows.truncate(2);
    table.totals[1] = Some(31_000_000);
    let sheet = book(&document).worksheet_range("arrears").unwrap();
    assert_eq!(at(&sheet, 3, 1), Data::Float(18_793.0));
    assert_eq!(
        (at(&sheet, 4, 0), at(&sheet, 4, 1)),
        (Data::String("Total of all 5,000 rows".into()), Data::Float(31e6))
    );
    let notes: Vec<String> = (5..9).map(|row| at(&sheet, row, 0).to_string()).collect();
    assert!(notes.iter().any(|note| note.starts_with("These are the first 2 of 5,000 rows.")), "{notes:?}");
}

#[test]
fn no_text_is_a_formula_and_no_number_loses_digits() {
    let document = extreme(English);
    let mut book = book(&document);
    let formulas = book.worksheet_formula("extreme").unwrap();
    let sheet = book.worksheet_range("extreme").unwrap();
    let texts: Vec<Data> = (1..5).map(|row| at(&sheet, row, 0)).collect();
    assert_eq!(
        texts,
        ["=cmd|' /C calc'!A0", "+1", "-1 \"quoted\", comma", " =tab"].map(|text| Data::String(text.into()))
    );
    let found: Vec<(usize, usize, &String)> = formulas.used_cells().collect();
    assert_eq!(found.len(), 1, "one total is exact: {found:?}");
    assert_eq!(found[0].2, "SUM(E2:E5)");
    assert_eq!(at(&sheet, 1, 2), Data::String("9,223,372,036,854,775,807".into()));
    assert_eq!(at(&sheet, 1, 3), Data::Float(9_007_199_254_740_992.0));
    assert_eq!(at(&sheet, 2, 3), Data::String("-9,007,199,254,740,993".into()));
    // The sums of the texts above, exact. The fourth column: 2^53 - (2^53 + 1) + 1.
    assert_eq!((at(&sheet, 5, 2), at(&sheet, 5, 3)), (Data::String("0".into()), Data::String("0".into())));
    assert_eq!(at(&sheet, 2, 5), Data::String("1899-12-31".into()), "a day that Excel does not have");
}

#[test]
fn sheets_have_names_that_excel_takes_and_cells_no_more_than_it_takes() {
    let mut document = reconciliation(English, 1);
    document.headline = "x".repeat(40_000);
    for (section, name) in [(1, "Summary: [a/b]*?\\ of a very long name that does not fit"), (2, "summary")] {
        let Section::Table(table) = &mut document.sections[section] else { panic!() };
        table.name = name.to_owned();
        table.rows[0][0] = Cell::Text("𠮷".repeat(20_000));
    }
    let mut book = book(&document);
    assert_eq!(book.sheet_names(), ["Summary", "Summary- -a-b---- of a very lo…", "summary-2", "Cross-foot"]);
    let sheet = book.worksheet_range("summary-2").unwrap();
    assert_eq!(at(&sheet, 1, 0).to_string().encode_utf16().count(), 32_767);
}

#[test]
fn csv_is_read_back_as_it_was_and_starts_no_formula() {
    let document = extreme(English);
    let bytes = csv(tables(&document)[0], &document).unwrap();
    let lines = bytes.strip_prefix("\u{feff}".as_bytes()).expect("a byte order mark");
    assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 5);
    let mut reader = ::csv::Reader::from_reader(lines);
    assert_eq!(&reader.headers().unwrap()[0], "'=HYPERLINK(\"x\")");
    let rows: Vec<::csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let first: Vec<&str> = rows.iter().map(|row| &row[0]).collect();
    assert_eq!(first, ["'=cmd|' /C calc'!A0", "'+1", "'-1 \"quoted\", comma", "'\t=tab"]);
    assert_eq!((&rows[1][1], &rows[3][1]), ("'@SUM(A1)", "中文用户"));
    // Numbers stay as they are, negative ones too.
    assert_eq!((&rows[1][2], &rows[1][4]), ("-9223372036854775808", "-3"));
    let document = arrears(SimplifiedChinese);
    let text = String::from_utf8(csv(tables(&document)[0], &document).unwrap()).unwrap();
    assert!(text.lines().nth(1).unwrap().ends_with(",2026-02-03,2026-11-20T11:15:00+08:00"), "{text:.300}");
}

#[test]
fn a_csv_file_has_its_name_when_it_is_whole() {
    let folder = std::env::temp_dir().join(format!("pointsd-csv-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("findings.csv");
    let held = Folder::open(&folder).unwrap();
    let columns = [column("User", Kind::Identifier), column("At", Kind::Instant)];
    let names = || fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();

    let mut file = CsvFile::create(&held, "findings.csv", &columns, "Asia/Shanghai".parse().unwrap()).unwrap();
    file.row(&[text("=a"), Cell::Instant(instant("2026-11-20T03:15:00Z"))]).unwrap();
    assert!(!path.exists() && names().len() == 1);
    drop(file);
    assert!(names().is_empty(), "what was not finished is gone");

    let mut file = CsvFile::create(&held, "findings.csv", &columns, "Asia/Shanghai".parse().unwrap()).unwrap();
    file.row(&[text("=a"), Cell::Instant(instant("2026-11-20T03:15:00Z"))]).unwrap();
    file.finish().unwrap();
    assert_eq!(names(), ["findings.csv"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "\u{feff}User,At\r\n'=a,2026-11-20T11:15:00+08:00\r\n");

    fs::remove_dir_all(&folder).unwrap();
    let error = CsvFile::create(&held, "findings.csv", &columns, Zone::UTC).err().unwrap().to_string();
    assert!(error.contains("/findings.csv") && error.contains("could not be written"), "{error}");
}
