//! The rows of a table as people read them, and how much room they need on a page.

use serde::Serialize;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::locale::{Locale, clean};
use crate::document::{Cell, Kind, Table};
use crate::numbers::grouped;

/// The room for a table on a narrow phone, and on the page of a mail, in CSS pixels.
const PHONE: usize = 328;
const PAGE: usize = 608;
/// A text up to this width stays on one line, in hundredths of the size of its font.
const SHORT: usize = 900;

/// Rows under a header, as texts.
#[derive(Serialize)]
pub(super) struct Grid {
    pub columns: Vec<Heading>,
    pub rows: Vec<Vec<String>>,
    /// A text for each column, or none.
    pub totals: Vec<String>,
}

#[derive(Clone, Serialize)]
pub(super) struct Heading {
    pub title: String,
    pub kind: Kind,
}

impl Grid {
    /// The first `shown` rows of a table, with its totals. A page is narrow, and a column without any value says nothing.
    pub fn new(table: &Table, shown: usize, locale: Locale) -> Grid {
        let row = |row: &Vec<Cell>| row.iter().map(|cell| locale.cell(cell)).collect();
        let heading = |column: &crate::document::Column| Heading { title: clean(&column.title), kind: column.kind };
        let grid = Grid {
            columns: table.columns.iter().map(heading).collect(),
            rows: table.rows.iter().take(shown).map(row).collect(),
            totals: totals(table, locale),
        };
        grid.without_empty_columns()
    }

    fn without_empty_columns(mut self) -> Grid {
        let has_value = |place: usize| self.lines().any(|line| line.get(place).is_some_and(|cell| !cell.is_empty()));
        let kept: Vec<bool> = (0..self.columns.len()).map(|place| place == 0 || has_value(place)).collect();
        keep(&mut self.columns, &kept);
        self.rows.iter_mut().chain([&mut self.totals]).for_each(|line| keep(line, &kept));
        self
    }

    /// The rows, then the line of totals.
    pub fn lines(&self) -> impl Iterator<Item = &Vec<String>> + Clone {
        self.rows.iter().chain(Some(&self.totals).filter(|totals| !totals.is_empty()))
    }

    /// The grid with its rows as columns: a few sources beside each other take less room than ten movements. None if it has
    /// other columns than a name and numbers.
    pub fn turned(&self) -> Option<Grid> {
        let (_, numbers) = self.columns.split_first()?;
        if self.rows.is_empty() || numbers.len() < 2 || numbers.iter().any(|column| column.kind != Kind::Number) {
            return None;
        }
        let value = |line: &Vec<String>, place: usize| line.get(place).cloned().unwrap_or_default();
        let names = self.lines().map(|line| Heading { title: value(line, 0), kind: Kind::Number });
        let row = |(place, column): (usize, &Heading)| {
            let values = self.lines().map(|line| value(line, place + 1));
            std::iter::once(column.title.clone()).chain(values).collect()
        };
        Some(Grid {
            columns: std::iter::once(Heading { title: String::new(), kind: Kind::Text }).chain(names).collect(),
            rows: numbers.iter().enumerate().map(row).collect(),
            totals: Vec::new(),
        })
    }

    /// How many of the first columns name a row together: a month and a source, but no sentences.
    pub fn names(&self) -> usize {
        let is_short = |place: usize| self.rows.iter().all(|row| row.get(place).is_none_or(|cell| cell.width() <= 40));
        let is_text = |place: usize| self.columns.get(place).is_some_and(|column| column.kind == Kind::Text);
        if self.columns.len() > 2 && (0..2).all(|place| is_text(place) && is_short(place)) { 2 } else { 1 }
    }

    pub fn fits_a_phone(&self) -> bool {
        self.least_width() <= PHONE
    }

    pub fn fits_a_page(&self) -> bool {
        self.least_width() <= PAGE
    }

    /// About the least width in CSS pixels, by a wide font and the sizes of the built-in template.
    fn least_width(&self) -> usize {
        let (size, gap) = if self.columns.len() >= 8 { (12, 6) } else { (13, 10) };
        let columns = self.columns.iter().enumerate().map(|(place, column)| {
            let cells = |lines: &[Vec<String>], bold: bool| {
                let cells = lines.iter().filter_map(|line| line.get(place));
                cells.map(|cell| least_of_cell(cell, column.kind) * size * if bold { 11 } else { 10 } / 10).max()
            };
            let least = match column.kind {
                Kind::Identifier => 122,
                Kind::Instant => 68,
                _ => 27,
            };
            let title = longest_part(&column.title, 6, 16) * 12 * 11 / 10;
            let totals = cells(std::slice::from_ref(&self.totals), true);
            let widest = [cells(&self.rows, false), totals, Some(title)].into_iter().flatten().max().unwrap_or(0);
            (widest / 100).max(least)
        });
        columns.sum::<usize>() + gap * self.columns.len().saturating_sub(1)
    }
}

/// Drops the items whose place is not kept.
fn keep<T>(items: &mut Vec<T>, kept: &[bool]) {
    let mut kept = kept.iter();
    items.retain(|_| kept.next().copied().unwrap_or(true));
}

/// The line of totals, with `Total` in the first column that has none. Empty if the table has no totals.
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

/// The least width of a cell, in hundredths of the size of its font.
fn least_of_cell(cell: &str, kind: Kind) -> usize {
    match kind {
        Kind::Number | Kind::Date => ems(cell),
        Kind::Instant => longest_part(cell, usize::MAX, usize::MAX),
        Kind::Identifier => longest_part(cell, 16, 20),
        // A column of a word a line is hard to read.
        Kind::Text => longest_part(cell, 6, 16).max(ems(cell).min(SHORT)),
    }
}

/// Whether a text in a column of words stays on one line, as [`least_of_cell`] counts it.
pub(super) fn is_short(cell: &str) -> bool {
    ems(cell) <= SHORT
}

/// The width of the longest part that stays on one line, in hundredths of the size of the font.
fn longest_part(text: &str, least: usize, most: usize) -> usize {
    let mut longest = 0;
    for word in text.split(' ') {
        for part in parts(word, least, most) {
            let chinese = part.chars().any(|c| c.width() == Some(2));
            longest = longest.max(if chinese { ems(part).min(200) } else { ems(part) });
        }
    }
    longest
}

/// The parts of a word that a line may end behind: after so many characters at most, and after a sign if the part has `least`. A
/// grouped number stays whole.
pub(super) fn parts(word: &str, least: usize, most: usize) -> Vec<&str> {
    let (mut parts, mut start, mut count) = (Vec::new(), 0, 0);
    let mut rest = word.char_indices().peekable();
    while let Some((_, c)) = rest.next() {
        count += 1;
        let Some((end, next)) = rest.peek() else { break };
        let in_number = matches!(c, ',' | '.') && next.is_ascii_digit();
        if count >= most || count >= least && !c.is_alphanumeric() && !in_number && !matches!(c, '\'' | '’') {
            parts.push(word.get(start..*end).unwrap_or_default());
            (start, count) = (*end, 0);
        }
    }
    parts.push(word.get(start..).unwrap_or_default());
    parts
}

/// The width of a text in hundredths of the size of its font: a digit of a wide font takes 0.64 of it.
fn ems(text: &str) -> usize {
    let width = |c: char| match c.width() {
        Some(2) => 100,
        Some(0) | None => 0,
        _ if c.is_ascii_digit() => 64,
        _ if ",.: -'|il".contains(c) => 36,
        _ => 62,
    };
    text.chars().map(width).sum()
}
