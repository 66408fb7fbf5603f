//! Documents as plain text: at most 78 columns where that is possible, aligned as a terminal shows it, where a Chinese
//! character takes two columns.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::locale::{Locale, clean};
use crate::document::{Cell, Kind, Table};
use crate::numbers::grouped;

/// Mail programs of old break longer lines.
pub(super) const COLUMNS: usize = 78;

/// Breaks a text into lines of at most so many columns: at spaces, and between Chinese characters. A word that is longer
/// by itself keeps a line for itself.
pub(super) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for (spaced, word) in words(text) {
        let space = usize::from(spaced && !line.is_empty());
        if !line.is_empty() && line.width() + space + word.width() > columns {
            lines.push(std::mem::take(&mut line));
        } else if space == 1 {
            line.push(' ');
        }
        line.push_str(&word);
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

/// The parts that stay together, and whether a space came before each.
fn words(text: &str) -> Vec<(bool, String)> {
    let mut words: Vec<(bool, String)> = Vec::new();
    let mut spaced = false;
    let mut joins = false;
    for c in text.chars() {
        if c == ' ' {
            (spaced, joins) = (true, false);
            continue;
        }
        let wide = c.width() == Some(2);
        // No line begins with these.
        let closes = "，。；：！？、）】》」”’…".contains(c);
        match words.last_mut() {
            Some((_, word)) if !spaced && (closes || joins && !wide) => word.push(c),
            _ => words.push((spaced, c.to_string())),
        }
        spaced = false;
        joins = !wide || "（【《「“‘".contains(c);
    }
    words
}

/// Paragraphs, wrapped.
pub(super) fn paragraphs(paragraphs: &[String]) -> String {
    let wrapped = paragraphs.iter().map(|paragraph| wrap(&clean(paragraph), COLUMNS).join("\n"));
    wrapped.collect::<Vec<_>>().join("\n\n")
}

/// A name and its value on each line, aligned.
pub(super) fn facts(facts: &[(String, String)]) -> String {
    let names = facts.iter().map(|(name, _)| name.width()).max().unwrap_or(0).min(COLUMNS / 2);
    let lines = facts.iter().flat_map(|(name, value)| {
        let values = wrap(value, COLUMNS.saturating_sub(names + 2));
        let first = format!("{}  {}", padded(name, names, false), values.first().map_or("", String::as_str));
        let further: Vec<_> = values.iter().skip(1).map(|line| format!("{}  {line}", " ".repeat(names))).collect();
        [vec![first.trim_end().to_owned()], further].concat()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The least width of a Chinese header: four characters.
const LEAST_CHINESE: usize = 8;

/// The most columns that stand side by side on a page.
const MOST_COLUMNS: usize = 8;

/// Whether a table's rows stand below each other instead, each value with its name, because they are too wide for a page.
pub(super) fn is_wide(table: &Table) -> bool {
    table.columns.len() > MOST_COLUMNS && table.totals.is_empty()
}

/// The first `shown` rows of a wide table: the first value, then the others that there are with their names.
fn records(table: &Table, shown: usize, locale: Locale) -> String {
    let record = |row: &Vec<Cell>| {
        let title = row.first().map(|cell| locale.cell(cell)).unwrap_or_default();
        let named =
            table.columns.iter().zip(row).skip(1).map(|(column, cell)| (clean(&column.title), locale.cell(cell)));
        let named: Vec<_> = named.filter(|(_, value)| !value.is_empty()).collect();
        let values = facts(&named).lines().map(|line| format!("  {line}")).collect::<Vec<_>>();
        [wrap(&title, COLUMNS), values].concat().join("\n")
    };
    table.rows.iter().take(shown).map(record).collect::<Vec<_>>().join("\n\n")
}

/// The first `shown` rows of a table under its header, with its totals.
pub(super) fn table(table: &Table, shown: usize, locale: Locale) -> String {
    if is_wide(table) {
        return records(table, shown, locale);
    }
    let right: Vec<bool> = table.columns.iter().map(|column| column.kind == Kind::Number).collect();
    let header: Vec<String> = table.columns.iter().map(|column| clean(&column.title)).collect();
    let rows: Vec<Vec<String>> =
        table.rows.iter().take(shown).map(|row| row.iter().map(|cell| locale.cell(cell)).collect()).collect();
    let totals = totals(table, locale);
    let mut widths: Vec<usize> = (0..header.len())
        .map(|column| {
            let cells = rows.iter().chain([&totals]).filter_map(|row| row.get(column));
            cells.map(|cell| cell.width()).max().unwrap_or(0)
        })
        .collect();
    // A header gives way before a value does: its words go below each other. Chinese may break anywhere, but not after each
    // character.
    for (column, title) in header.iter().enumerate() {
        let words = words(title);
        let chinese = if words.iter().any(|(_, word)| word.width() > word.chars().count()) { LEAST_CHINESE } else { 0 };
        let longest = words.iter().map(|(_, word)| word.width()).max().unwrap_or(0).max(chinese.min(title.width()));
        if let Some(width) = widths.get_mut(column) {
            *width = (*width).max(longest);
        }
    }
    for (column, title) in header.iter().enumerate() {
        let taken = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
        if let Some(width) = widths.get_mut(column) {
            *width += title.width().saturating_sub(*width).min(COLUMNS.saturating_sub(taken));
        }
    }
    // Then long texts, widest first, down to a width that can still be read; identifiers only as far as a UUID stays in
    // one piece, for it is there to be copied; numbers never.
    loop {
        let taken = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
        let gives = |column: &usize| {
            let least = match table.columns.get(*column).map(|column| column.kind) {
                Some(Kind::Text) => 12,
                Some(Kind::Identifier) => 36,
                _ => return false,
            };
            widths.get(*column).is_some_and(|width| *width > least)
        };
        let widest = (0..widths.len()).filter(gives).max_by_key(|column| widths.get(*column).copied());
        match widest.and_then(|column| widths.get_mut(column)) {
            Some(width) if taken > COLUMNS => *width -= 1,
            _ => break,
        }
    }
    let rule = "-".repeat(widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1));
    let mut lines = row(&header, &widths, &right);
    lines.push(rule.clone());
    for cells in &rows {
        lines.extend(row(cells, &widths, &right));
    }
    if !totals.is_empty() {
        lines.push(rule);
        lines.extend(row(&totals, &widths, &right));
    }
    lines.join("\n")
}

/// The line of totals as it is read: `Total` in the first column that has none; empty where the table has no such line.
pub(super) fn totals(table: &Table, locale: Locale) -> Vec<String> {
    if table.totals.is_empty() || table.rows.is_empty() {
        return Vec::new();
    }
    let word = table.totals.iter().position(Option::is_none);
    let cell = |(column, total): (usize, &Option<i64>)| match total {
        Some(total) => grouped(*total),
        None if word == Some(column) => locale.messages.label("total"),
        None => String::new(),
    };
    table.totals.iter().enumerate().map(cell).collect()
}

/// A row; as many lines as its longest cell needs.
fn row(cells: &[String], widths: &[usize], right: &[bool]) -> Vec<String> {
    let wrapped: Vec<Vec<String>> =
        cells.iter().zip(widths).map(|(cell, width)| wrap_hard(cell, (*width).max(1))).collect();
    let height = wrapped.iter().map(Vec::len).max().unwrap_or(0).max(1);
    (0..height)
        .map(|line| {
            let columns = wrapped
                .iter()
                .zip(widths)
                .zip(right)
                .map(|((lines, width), right)| padded(lines.get(line).map_or("", String::as_str), *width, *right));
            columns.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

/// Like [`wrap`], and words that are too long are broken: after a sign, or else where the line is full.
fn wrap_hard(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in wrap(text, columns) {
        let mut part = String::new();
        for c in line.chars() {
            if !part.is_empty() && part.width() + c.width().unwrap_or(0) > columns {
                let after_sign = part.rfind(['-', '_', '.', '/', ':']).map_or(part.len(), |place| place + 1);
                let rest = part.split_off(after_sign);
                lines.push(std::mem::replace(&mut part, rest));
            }
            part.push(c);
        }
        lines.push(part);
    }
    lines
}

fn padded(text: &str, width: usize, right: bool) -> String {
    let space = " ".repeat(width.saturating_sub(text.width()));
    if right { format!("{space}{text}") } else { format!("{text}{space}") }
}

/// A heading, underlined.
pub(super) fn heading(title: &str, sign: char) -> String {
    let lines = wrap(title, COLUMNS);
    let width = lines.iter().map(|line| line.width()).max().unwrap_or(0);
    format!("{}\n{}", lines.join("\n"), sign.to_string().repeat(width))
}
