//! Documents as workbooks: a summary, and a sheet for each table.

use rust_xlsxwriter::{
    Color, DocProperties, ExcelDateTime, Format, FormatAlign, FormatBorder, Formula, Workbook, Worksheet, XlsxError,
    column_number_to_name,
};
use unicode_width::UnicodeWidthStr;

use chrono::{DateTime, Datelike, NaiveDateTime, Timelike};

use super::Error;
use super::checks::Checks;
use super::grid;
use super::locale::{Locale, clean};
use super::text;
use crate::document::{Cell, Column, Document, Fact, Kind, Section, Table, Tone};
use crate::numbers::{decimal_of, grouped};

/// A sheet has 1,048,576 rows; the header, the totals and the notes need some.
pub(super) const MOST_ROWS: usize = 1_048_560;
/// Excel counts in units of UTF-16.
const MOST_UNITS: usize = 32_767;
const MOST_UNITS_OF_A_NAME: usize = 31;
/// The width of a sheet in characters beyond which its print on A4 is too small to read. Sentences wrap to come near it.
const PRINTED: u32 = 180;
/// A row is at most 409 points high.
const MOST_LINES: u32 = 27;
/// Sentences stay so wide.
const LEAST_OF_WORDS: u32 = 27;
/// Excel's numbers are floats: beyond 2^53 not every whole number is one.
pub(super) const EXACT: u128 = 1 << 53;

/// The document as a workbook: a summary, then each of its tables whole. Numbers and dates are values that formulas can use.
///
/// # Errors
/// If the workbook cannot be built; no content should cause this.
pub fn xlsx(document: &Document) -> Result<Vec<u8>, Error> {
    let locale = Locale::of_document(document);
    let formats = Formats::new();
    let mut book = Workbook::new();
    // The instant of the document, so that the same document gives the same file.
    let made = DateTime::from_timestamp(document.as_of.timestamp(), 0).unwrap_or_default().naive_utc();
    let mut properties = DocProperties::new().set_title(clean(&document.title)).set_company(clean(&document.business));
    if let Some(made) = excel_time(made) {
        properties = properties.set_creation_datetime(&made);
    }
    book.set_properties(&properties);

    let tables: Vec<&Table> = document
        .sections
        .iter()
        .filter_map(|section| if let Section::Table(table) = section { Some(table) } else { None })
        .collect();
    let mut names = vec![locale.messages.label("summary")];
    let mut sheets = Vec::new();
    for table in &tables {
        // A table without rows is a line of the summary.
        let name = (!table.rows.is_empty()).then(|| sheet_name(table.label(), &names));
        names.extend(name.clone());
        sheets.push(Sheet { table, name });
    }
    let checks = Checks::new(&sheets, sheet_name(&locale.messages.label("cross-foot"), &names), locale);
    summary(book.add_worksheet(), document, &sheets, &checks, locale, &formats)?;
    for Sheet { table, name } in &sheets {
        if let Some(name) = name {
            sheet(book.add_worksheet().set_name(name)?, table, locale, &formats)?;
        }
    }
    if !checks.is_empty() {
        checks.write(book.add_worksheet(), &formats)?;
    }
    Ok(book.save_to_buffer()?)
}

/// A table and the name of its sheet; none without rows.
pub(super) struct Sheet<'a> {
    pub table: &'a Table,
    pub name: Option<String>,
}

pub(super) struct Formats {
    pub plain: Format,
    pub number: Format,
    pub share: Format,
    date: Format,
    instant: Format,
    pub header: Format,
    pub header_right: Format,
    total: Format,
    title: Format,
    headline: Format,
    grey: Format,
    label: Format,
    pub good: Format,
    attention: Format,
    pub bad: Format,
    /// Of a sentence that is longer than its column.
    pub wrapped: Format,
    quoted: Format,
    pub number_text: Format,
    total_text: Format,
}

impl Formats {
    pub fn new() -> Formats {
        let plain = Format::new().set_align(FormatAlign::Top);
        let header = Format::new().set_bold().set_text_wrap().set_align(FormatAlign::Bottom);
        let header = header.set_border_bottom(FormatBorder::Medium).set_background_color(Color::RGB(0xEE_F1F5));
        let total = plain.clone().set_bold().set_border_top(FormatBorder::Thin);
        let tone =
            |colour| Format::new().set_bold().set_font_color(Color::White).set_background_color(Color::RGB(colour));
        let right = |format: &Format| format.clone().set_align(FormatAlign::Right);
        Formats {
            number: plain.clone().set_num_format("#,##0"),
            share: plain.clone().set_num_format("0.0%"),
            date: plain.clone().set_num_format("yyyy-mm-dd").set_align(FormatAlign::Left),
            instant: plain.clone().set_num_format("yyyy-mm-dd hh:mm").set_align(FormatAlign::Left),
            header_right: right(&header),
            title: Format::new().set_font_color(Color::RGB(0x59_5959)),
            headline: Format::new().set_bold().set_font_size(14),
            grey: Format::new().set_font_color(Color::RGB(0x59_5959)),
            label: plain.clone(),
            good: tone(0x1A_7F4B),
            attention: tone(0xA0_5A00),
            bad: tone(0xB4_2318),
            wrapped: plain.clone().set_text_wrap(),
            // Keeps the cell a text after an edit.
            quoted: plain.clone().set_quote_prefix(),
            number_text: right(&plain),
            total_text: right(&total),
            total: total.set_num_format("#,##0"),
            header,
            plain,
        }
    }
}

fn summary(
    sheet: &mut Worksheet,
    document: &Document,
    sheets: &[Sheet<'_>],
    checks: &Checks,
    locale: Locale,
    formats: &Formats,
) -> Result<(), XlsxError> {
    sheet.set_name(locale.messages.label("summary"))?.set_screen_gridlines(false);
    let widest = document.facts.iter().map(|fact| locale.cell(&fact.value).width()).max().unwrap_or(0);
    let wide = u32::try_from(widest.clamp(24, 60)).unwrap_or(60) + 2;
    sheet.set_column_width(0, 44)?.set_column_width(1, wide)?.set_column_width(2, 12)?;
    sheet.set_paper_size(9).set_print_fit_to_pages(1, 0);
    let title = [&document.business, &document.title].into_iter().filter(|text| !text.is_empty());
    let title = title.map(|text| clean(text)).collect::<Vec<_>>().join(" · ");
    let tone = match document.tone {
        Tone::None => &formats.plain,
        Tone::Good => &formats.good,
        Tone::Attention => &formats.attention,
        Tone::Bad => &formats.bad,
    };
    sheet.write_string_with_format(0, 0, fitting(&title), &formats.title)?;
    sheet.write_string_with_format(1, 0, locale.tone(document.tone), tone)?;
    sheet
        .write_string_with_format(2, 0, fitting(&clean(&document.headline)), &formats.headline)?
        .set_row_height(2, 24)?;
    let mut row = 4;
    for Fact { label, value } in &document.facts {
        sheet.write_string_with_format(row, 0, fitting(&clean(label)), &formats.label)?;
        write_fact(sheet, row, value, locale, formats)?;
        row += 1;
    }
    row += 1;
    if !checks.is_empty() {
        sheet.write_string_with_format(row, 0, locale.messages.label("cross-foot"), &formats.label)?;
        link(sheet, row, checks.sheet())?;
        checks.write_verdict(sheet, row, 2, formats)?;
        row += 1;
    }
    for Sheet { table, name } in sheets.iter().filter(|sheet| sheet.name.is_some() || !sheet.table.if_empty.is_empty())
    {
        let title = if table.title.is_empty() { &table.name } else { &table.title };
        sheet.write_string_with_format(row, 0, fitting(&clean(title)), &formats.label)?;
        match name {
            Some(name) => link(sheet, row, name)?,
            None => {
                sheet.write_string_with_format(row, 1, fitting(&clean(&table.if_empty)), &formats.grey)?;
            }
        }
        if name.is_some() {
            write(sheet, row, 2, &Cell::Number(i64::try_from(table.rows_in_all).unwrap_or(i64::MAX)), locale, formats)?;
        }
        row += 1;
    }
    for section in &document.sections {
        let Section::Text { title, paragraphs } = section else { continue };
        row += 1;
        if !title.is_empty() {
            sheet.write_string_with_format(row, 0, fitting(&clean(title)), &Format::new().set_bold())?;
            row += 1;
        }
        for line in paragraphs.iter().flat_map(|paragraph| text::wrap(&clean(paragraph), 82)) {
            sheet.write_string(row, 0, fitting(&line))?;
            row += 1;
        }
    }
    row += 1;
    for line in text::wrap(&clean(&document.tone_rule), 82).into_iter().chain(locale.footer(document)) {
        sheet.write_string_with_format(row, 0, line, &formats.grey)?;
        row += 1;
    }
    Ok(())
}

/// Writes the value of a fact, to the right as all of them are.
fn write_fact(
    sheet: &mut Worksheet,
    row: u32,
    value: &Cell,
    locale: Locale,
    formats: &Formats,
) -> Result<(), XlsxError> {
    let right = |format: &Format| format.clone().set_align(FormatAlign::Right);
    if let Cell::Text(text) = value {
        sheet.write_string_with_format(row, 1, fitting(&clean(text)), &formats.number_text)?;
        return Ok(());
    }
    write(sheet, row, 1, value, locale, formats)?;
    match value {
        Cell::Date(_) => sheet.set_cell_format(row, 1, &right(&formats.date)).map(|_| ()),
        Cell::Instant(_) => sheet.set_cell_format(row, 1, &right(&formats.instant)).map(|_| ()),
        _ => Ok(()),
    }
}

fn link(sheet: &mut Worksheet, row: u32, name: &str) -> Result<(), XlsxError> {
    let place = format!("internal:'{name}'!A1");
    sheet.write_url_with_text(row, 1, place.as_str(), name)?;
    Ok(())
}

fn sheet(sheet: &mut Worksheet, table: &Table, locale: Locale, formats: &Formats) -> Result<(), XlsxError> {
    let rows = table.rows.get(..table.rows.len().min(MOST_ROWS)).unwrap_or_default();
    let (widths, mut lines) = (widths(table, locale), 1);
    for ((place, column), width) in (0u16..).zip(&table.columns).zip(widths.iter().copied()) {
        let format = match column.kind {
            Kind::Number => formats.header_right.clone(),
            _ => spaced(&formats.header, place),
        };
        let title = header(column, locale);
        lines = lines.max(lines_of(&title, width));
        sheet.write_string_with_format(0, place, title, &format)?;
        sheet.set_column_width(place, width)?;
    }
    set_height(sheet, 0, lines)?;
    for (at, row) in (1u32..).zip(rows) {
        let mut lines = 1;
        for ((place, cell), width) in (0u16..).zip(row).zip(&widths) {
            match cell {
                Cell::Text(text) if text.width() + 2 > *width as usize => {
                    let text = clean(text);
                    lines = lines.max(lines_of(&text, *width));
                    sheet.write_string_with_format(at, place, fitting(&text), &spaced(&formats.wrapped, place))?;
                }
                _ => write(sheet, at, place, cell, locale, formats)?,
            }
        }
        set_height(sheet, at, lines)?;
    }
    let last = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    let last_column = u16::try_from(table.columns.len().saturating_sub(1)).unwrap_or(u16::MAX);
    sheet.set_freeze_panes(1, 0)?.autofilter(0, 0, last, last_column)?;
    printed(sheet, &table.title)?;

    let mut next = last + 1;
    let cut = table.rows_in_all > rows.len() as u64;
    if !table.totals.is_empty() && !rows.is_empty() {
        let word = grid::totals(table, locale);
        for ((place, total), word) in (0u16..).zip(&table.totals).zip(word) {
            if total.is_none() {
                sheet.write_string_with_format(next, place, word, &formats.total)?;
                continue;
            }
            let values = rows.iter().filter_map(|row| match row.get(usize::from(place)) {
                Some(Cell::Number(number)) => Some(*number),
                _ => None,
            });
            let sum: i128 = values.clone().map(i128::from).sum();
            let exact = |number: i128| number.unsigned_abs() <= EXACT;
            if exact(sum) && values.map(i128::from).all(exact) {
                let column = column_number_to_name(place);
                // Row 1 is the header; rows count from 1.
                let formula = Formula::new(format!("=SUM({column}2:{column}{next})")).set_result(sum.to_string());
                sheet.write_formula_with_format(next, place, formula, &formats.total)?;
            } else {
                sheet.write_string_with_format(next, place, grouped(sum), &formats.total_text)?;
            }
        }
        next += 1;
        if cut {
            for ((place, total), column) in (0u16..).zip(&table.totals).zip(&table.columns) {
                match total {
                    Some(total) => write(sheet, next, place, &Cell::Number(*total), locale, formats)?,
                    None if column.kind != Kind::Number && place == 0 => {
                        sheet.write_string_with_format(
                            next,
                            place,
                            locale.total_of_all(table.rows_in_all),
                            &formats.plain,
                        )?;
                    }
                    None => {}
                }
            }
            next += 1;
        }
    }
    let notes = [
        if cut { locale.cut(rows.len() as u64, table.rows_in_all, !table.totals.is_empty()) } else { String::new() },
        clean(&table.note),
    ];
    notes_below(sheet, next + 1, &notes, &widths, formats)
}

/// The lines of a text that wraps in a column of this width.
pub(super) fn lines_of(text: &str, width: u32) -> u32 {
    let room = usize::try_from(width.saturating_sub(3)).unwrap_or(0).max(1);
    u32::try_from(text::wrap(text, room).len()).unwrap_or(u32::MAX)
}

/// Makes room for so many lines, because not every program does so by itself.
pub(super) fn set_height(sheet: &mut Worksheet, row: u32, lines: u32) -> Result<(), XlsxError> {
    if lines > 1 {
        sheet.set_row_height(row, lines.min(MOST_LINES) * 15)?;
    }
    Ok(())
}

/// How a sheet with a header row is printed: as wide as the paper, with its title and the numbers of the pages.
pub(super) fn printed(sheet: &mut Worksheet, title: &str) -> Result<(), XlsxError> {
    sheet.set_landscape().set_paper_size(9).set_print_fit_to_pages(1, 0).set_repeat_rows(0, 0)?;
    sheet.set_header(format!("&L{}", clean(title).replace('&', "&&"))).set_footer("&R&P / &N");
    sheet.set_header_footer_scale_with_doc(false);
    Ok(())
}

/// Writes notes in lines as wide as the columns: a longer line would make the print small.
fn notes_below(
    sheet: &mut Worksheet,
    row: u32,
    notes: &[String],
    widths: &[u32],
    formats: &Formats,
) -> Result<(), XlsxError> {
    let room = usize::try_from(widths.iter().sum::<u32>()).unwrap_or(0).max(60);
    for (row, line) in (row..).zip(notes.iter().flat_map(|note| text::wrap(note, room))) {
        sheet.write_string_with_format(row, 0, fitting(&line), &formats.grey)?;
    }
    Ok(())
}

/// Left of it stands another column, which may be of numbers: a little room keeps the two apart.
fn spaced(format: &Format, column: u16) -> Format {
    if column == 0 { format.clone() } else { format.clone().set_align(FormatAlign::Left).set_indent(1) }
}

fn write(
    sheet: &mut Worksheet,
    row: u32,
    column: u16,
    cell: &Cell,
    locale: Locale,
    formats: &Formats,
) -> Result<(), XlsxError> {
    let time = match cell {
        Cell::Date(day) => excel_time(day.and_hms_opt(0, 0, 0).unwrap_or_default()),
        Cell::Instant(instant) => excel_time(locale.local(*instant)),
        _ => None,
    };
    match (cell, time) {
        (Cell::Empty, _) => {}
        (Cell::Number(number), _) if u128::from(number.unsigned_abs()) <= EXACT => {
            // A float up to 2^53 holds every whole number.
            #[expect(clippy::cast_precision_loss, reason = "numbers beyond 2^53 are texts")]
            sheet.write_number_with_format(row, column, *number as f64, &formats.number)?;
        }
        (Cell::Number(number), _) => {
            sheet.write_string_with_format(row, column, grouped(*number), &formats.number_text)?;
        }
        // Up to 15 digits a float shows as they are.
        (Cell::Money { amount, digits }, _) if u128::from(amount.unsigned_abs()) <= EXACT => {
            let value: f64 = decimal_of(*amount, *digits).parse().unwrap_or_default();
            let format =
                if *digits == 0 { "#,##0".to_owned() } else { format!("#,##0.{}", "0".repeat((*digits).into())) };
            sheet.write_number_with_format(row, column, value, &formats.plain.clone().set_num_format(format))?;
        }
        (Cell::Money { .. }, _) => {
            sheet.write_string_with_format(row, column, locale.cell(cell), &formats.number_text)?;
        }
        (Cell::Share { part, whole }, _) if *whole != 0 => {
            #[expect(
                clippy::cast_precision_loss,
                clippy::float_arithmetic,
                reason = "a share is shown to one decimal"
            )]
            sheet.write_number_with_format(row, column, *part as f64 / *whole as f64, &formats.share)?;
        }
        (Cell::Date(_), Some(time)) => {
            sheet.write_datetime_with_format(row, column, &time, &spaced(&formats.date, column))?;
        }
        (Cell::Instant(_), Some(time)) => {
            sheet.write_datetime_with_format(row, column, &time, &spaced(&formats.instant, column))?;
        }
        _ => {
            let text = locale.cell(cell);
            let text = fitting(&text);
            let format = if text.starts_with(['=', '+', '-', '@']) { &formats.quoted } else { &formats.plain };
            sheet.write_string_with_format(row, column, text, &spaced(format, column))?;
        }
    }
    Ok(())
}

/// None if Excel does not know the day: its calendar goes from 1900 to 9999.
fn excel_time(local: NaiveDateTime) -> Option<ExcelDateTime> {
    let year = u16::try_from(local.year()).ok().filter(|year| *year >= 1900)?;
    let day = ExcelDateTime::from_ymd(year, u8::try_from(local.month()).ok()?, u8::try_from(local.day()).ok()?).ok()?;
    let minute = u8::try_from(local.minute()).ok()?;
    let second = u8::try_from(local.second()).ok()?;
    day.and_hms(u16::try_from(local.hour()).ok()?, minute, second).ok()
}

fn header(column: &Column, locale: Locale) -> String {
    let title = clean(&column.title);
    // A sheet may leave the workbook, so its header names the time zone.
    match column.kind {
        Kind::Instant => format!("{title} ({})", locale.zone.name()),
        _ => title,
    }
}

/// Widths of columns, in characters. Sentences shrink where the sheet would be too wide to print.
fn widths(table: &Table, locale: Locale) -> Vec<u32> {
    let totals = grid::totals(table, locale);
    let width = |(place, column): (usize, &Column)| {
        // A thousand rows are enough.
        let cells = table.rows.iter().take(1000).filter_map(|row| row.get(place)).map(|cell| locale.cell(cell).width());
        let total = totals.get(place).map_or(0, |total| total.width() + 1);
        let widest = cells.chain([total]).max().unwrap_or(0).max(header(column, locale).width().min(18));
        u32::try_from(widest.clamp(8, 60)).unwrap_or(60) + 3
    };
    let mut widths: Vec<u32> = table.columns.iter().enumerate().map(width).collect();
    while widths.iter().sum::<u32>() > PRINTED {
        let words = table.columns.iter().zip(&mut widths).filter(|(column, _)| column.kind == Kind::Text);
        match words.map(|(_, width)| width).filter(|width| **width > LEAST_OF_WORDS).max() {
            Some(widest) => *widest -= 1,
            None => break,
        }
    }
    widths
}

/// Cuts a text to the most that a cell takes.
fn fitting(text: &str) -> String {
    cut(text, MOST_UNITS)
}

fn cut(text: &str, units: usize) -> String {
    if text.encode_utf16().count() <= units {
        return text.to_owned();
    }
    let mut short = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.len_utf16();
        if used > units {
            break;
        }
        short.push(c);
    }
    short + "…"
}

/// A name for a sheet that Excel takes and no other sheet has.
fn sheet_name(name: &str, taken: &[String]) -> String {
    let allowed: String = clean(name)
        .chars()
        .map(|c| if "[]:*?/\\'".contains(c) { '-' } else { c })
        .collect::<String>()
        .trim()
        .to_owned();
    // Excel keeps this name for itself.
    let allowed =
        if allowed.is_empty() || allowed.eq_ignore_ascii_case("history") { format!("{allowed}-") } else { allowed };
    let is_free = |name: &String| !taken.iter().any(|taken| taken.to_lowercase() == name.to_lowercase());
    let first = cut(&allowed, MOST_UNITS_OF_A_NAME);
    if is_free(&first) {
        return first;
    }
    let numbered = (2u32..).map(|number| {
        let number = format!("-{number}");
        cut(&allowed, MOST_UNITS_OF_A_NAME - number.len()) + &number
    });
    numbered.into_iter().find(is_free).unwrap_or(first)
}
