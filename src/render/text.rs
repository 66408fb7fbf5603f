//! Documents as plain text in lines of at most 78 columns. They are aligned for a terminal, where a Chinese character takes
//! two columns.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::grid::{Grid, Heading};
use super::locale::{Locale, clean};
use crate::document::Kind;

/// Old mail programs break longer lines.
pub(super) const COLUMNS: usize = 78;

/// Breaks a text into lines of at most so many columns: at spaces, and between Chinese characters. A longer word gets a line
/// of its own.
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
    let (mut joins, mut opened) = (false, false);
    for c in text.chars() {
        if c == ' ' {
            (spaced, joins, opened) = (true, false, false);
            continue;
        }
        let wide = c.width() == Some(2);
        // No line begins with these.
        let closes = "，。；：！？、）】》」”’…".contains(c);
        match words.last_mut() {
            Some((_, word)) if !spaced && (closes || opened || joins && !wide) => word.push(c),
            _ => words.push((spaced, c.to_string())),
        }
        spaced = false;
        // No line ends with these.
        opened = "（【《「“‘".contains(c);
        joins = !wide || opened;
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

/// A table under a header, or as paragraphs of named values if that is too wide. Its rows may become columns if they are all
/// here.
pub(super) fn table(grid: &Grid, is_whole: bool, locale: Locale) -> String {
    let turned = || grid.turned().filter(|_| is_whole).and_then(|turned| side_by_side(&turned));
    side_by_side(grid).or_else(turned).unwrap_or_else(|| {
        let records = grid.lines().map(|cells| record(grid, cells, locale));
        records.collect::<Vec<_>>().join("\n\n")
    })
}

/// The columns of a table beside each other; None if a line is too short for them.
fn side_by_side(grid: &Grid) -> Option<String> {
    let widths = widths(grid);
    if taken(&widths) > COLUMNS {
        return None;
    }
    let header: Vec<String> = grid.columns.iter().map(|column| column.title.clone()).collect();
    let right: Vec<bool> = grid.columns.iter().map(|column| column.kind == Kind::Number).collect();
    let rule = "-".repeat(taken(&widths));
    let mut lines = row(&header, &widths, &right);
    lines.push(rule.clone());
    for cells in &grid.rows {
        lines.extend(row(cells, &widths, &right));
    }
    if !grid.totals.is_empty() {
        lines.push(rule);
        lines.extend(row(&grid.totals, &widths, &right));
    }
    Some(lines.join("\n"))
}

/// A row as a paragraph: what names it, then the other values with their names, as many on a line as fit.
fn record(grid: &Grid, cells: &[String], locale: Locale) -> String {
    let room = COLUMNS - 2;
    let names = grid.names();
    let mut lines: Vec<String> = Vec::new();
    for (column, value) in grid.columns.iter().zip(cells).skip(names).filter(|(_, value)| !value.is_empty()) {
        let named = locale.named(&column.title, value);
        match lines.last_mut() {
            Some(line) if line.width() + 3 + named.width() <= room => line.push_str(&format!(" · {named}")),
            _ => lines.push(named),
        }
    }
    let values = lines.iter().flat_map(|line| wrap(line, room)).map(|line| format!("  {line}"));
    let title = cells.iter().take(names).filter(|name| !name.is_empty()).map(String::as_str).collect::<Vec<_>>();
    wrap(&title.join(" · "), COLUMNS).into_iter().chain(values).collect::<Vec<_>>().join("\n")
}

/// The width of a line of columns, two spaces apart.
fn taken(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1)
}

/// The widths of the columns of a table. They fit a page if numbers, instants and Chinese headers allow it.
fn widths(grid: &Grid) -> Vec<usize> {
    let mut widths: Vec<usize> = (0..grid.columns.len())
        .map(|column| {
            let cells = grid.lines().filter_map(|line| line.get(column));
            cells.map(|cell| cell.width()).max().unwrap_or(0)
        })
        .collect();
    // A header wraps before a value does. A Chinese header has no spaces, so it stays on one line.
    for (column, width) in grid.columns.iter().zip(&mut widths) {
        let words = words(&column.title);
        let is_chinese = words.iter().any(|(_, word)| word.width() > word.chars().count());
        let longest = words.iter().map(|(_, word)| word.width()).max().unwrap_or(0);
        *width = (*width).max(if is_chinese { column.title.width() } else { longest });
    }
    for (column, Heading { title, .. }) in grid.columns.iter().enumerate() {
        let room = COLUMNS.saturating_sub(taken(&widths));
        if let Some(width) = widths.get_mut(column) {
            *width += title.width().saturating_sub(*width).min(room);
        }
    }
    // Then the widest texts shrink, to a width that can still be read. An identifier keeps the width of a UUID, so that it
    // can be copied. Numbers never shrink.
    while taken(&widths) > COLUMNS {
        let shrinks = |column: &usize| {
            let least = match grid.columns.get(*column).map(|column| column.kind) {
                Some(Kind::Text) => 12,
                Some(Kind::Identifier) => 36,
                _ => return false,
            };
            widths.get(*column).is_some_and(|width| *width > least)
        };
        let widest = (0..widths.len()).filter(shrinks).max_by_key(|column| widths.get(*column).copied());
        match widest.and_then(|column| widths.get_mut(column)) {
            Some(width) => *width -= 1,
            None => break,
        }
    }
    widths
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
        let (mut part, mut width) = (String::new(), 0);
        for c in line.chars() {
            if !part.is_empty() && width + c.width().unwrap_or(0) > columns {
                let after_sign = part.rfind(['-', '_', '.', '/', ':']).map_or(part.len(), |place| place + 1);
                let rest = part.split_off(after_sign);
                lines.push(std::mem::replace(&mut part, rest));
                width = part.width();
            }
            part.push(c);
            width += c.width().unwrap_or(0);
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
