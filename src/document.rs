//! A report as data: what it says, in which order, already in the reader's language. Renderers decide how it looks.

use std::borrow::Cow;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::language::Language;
use crate::messages::Messages;

/// A complete report. Renderers add only form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Which report: the name of the job that makes it, as `arrears`.
    pub report: String,
    /// The language of all texts below.
    pub language: Language,
    /// The business that the books belong to; empty where the configuration names none.
    pub business: String,
    /// `Arrears`, in the reader's language.
    pub title: String,
    /// The slot of its run.
    pub slot: DateTime<Utc>,
    /// The run that made it; 0 for none.
    pub run: i64,
    /// The instant of the snapshot that it shows.
    pub as_of: DateTime<Utc>,
    /// The month or the days that it is on, as `2026-10`, for the names of its files. None for a report on an instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<String>,
    /// The IANA name of its time zone.
    pub time_zone: String,
    /// Whether there is something to do.
    pub tone: Tone,
    /// What sets the tone, in a sentence or two; empty where nothing does.
    #[serde(default)]
    pub tone_rule: String,
    /// The most important sentence; also the mail's subject.
    pub headline: String,
    /// The figures behind the headline, in a few lines.
    pub facts: Vec<Fact>,
    /// The rest.
    pub sections: Vec<Section>,
}

/// Whether there is something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tone {
    /// Nothing to do.
    Good,
    /// All figures agree, and one of them has passed a limit.
    Attention,
    /// There are exceptions: figures that do not agree.
    Bad,
    /// It says nothing of it, as a statement: no badge.
    None,
}

impl Tone {
    /// Its name in the database, in templates, and in the keys of the catalogue.
    pub fn name(self) -> &'static str {
        match self {
            Tone::Good => "good",
            Tone::Attention => "attention",
            Tone::Bad => "bad",
            Tone::None => "none",
        }
    }
}

/// A named value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// The name.
    pub label: String,
    /// The value.
    pub value: Cell,
}

/// A part of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    /// A heading, and sentences below it, each a paragraph.
    Text {
        /// The heading; empty for none.
        title: String,
        /// The paragraphs.
        paragraphs: Vec<String>,
    },
    /// A table.
    Table(Table),
    /// A picture.
    Chart(Chart),
}

/// Rows under a header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Names its files and its sheet: `findings`. Lower-case letters, digits and `-`; unique within the document.
    pub name: String,
    /// Names its sheet and its attachment in the reader's language; empty: `name`.
    #[serde(default)]
    pub label: String,
    /// The heading.
    pub title: String,
    /// A sentence below the heading; empty for none.
    pub note: String,
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows, each with a cell for each column. The first ones only where `rows_in_all` says that there are more.
    pub rows: Vec<Vec<Cell>>,
    /// How many rows there are.
    pub rows_in_all: u64,
    /// The file in the report's folder that has all rows, where the table holds the first ones only; empty: there is none.
    #[serde(default)]
    pub whole_file: String,
    /// What the columns with `total` come to over all rows, also those that are not here: a number for each column
    /// with `total`, none for the others. Empty: no line of totals.
    pub totals: Vec<Option<i64>>,
    /// The most rows that a mail's body shows; attachments have all of `rows`.
    pub rows_in_body: usize,
    /// How many of the last columns only attachments have.
    #[serde(default)]
    pub attached_columns: usize,
    /// The sentence shown in place of rows when there are none. If it is empty, the table is left out.
    pub if_empty: String,
    /// How its figures add up: a workbook checks it.
    #[serde(default)]
    pub sums: Vec<Sum>,
}

/// How figures of a table add up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sum {
    /// In each row, the columns `parts` add up to the column `sum`.
    Across {
        /// Places of columns.
        parts: Vec<usize>,
        /// The place of a column.
        sum: usize,
    },
    /// In this column, the rows before the last one add up to the last one.
    Down {
        /// The place of a column.
        column: usize,
    },
    /// The figure at the end of this column, which is its total or its last row, is that of another table.
    Same {
        /// The place of a column.
        column: usize,
        /// The name of the other table.
        table: String,
        /// The title of its column.
        title: String,
    },
}

impl Table {
    /// The table's short name in the reader's language.
    pub fn label(&self) -> &str {
        if self.label.is_empty() { &self.name } else { &self.label }
    }

    /// The table without the columns that only attachments have.
    pub fn without_attached_columns(&self) -> Cow<'_, Table> {
        if self.attached_columns == 0 {
            return Cow::Borrowed(self);
        }
        let shown = self.columns.len().saturating_sub(self.attached_columns);
        let mut table = Table { attached_columns: 0, ..self.clone() };
        table.columns.truncate(shown);
        table.rows.iter_mut().for_each(|row| row.truncate(shown));
        table.totals.truncate(shown);
        Cow::Owned(table)
    }

    /// Whether all its rows are here: a file of a table that is cut must not be taken for all of it.
    pub fn is_whole(&self) -> bool {
        self.rows.len() as u64 >= self.rows_in_all
    }
}

/// Makes a table of records of type `R`. A column is its header in the catalogue and a function from a record to its
/// cell, so that no cell can stand under the wrong header.
pub struct TableBuilder<'a, R> {
    messages: Messages,
    table: Table,
    columns: Vec<ColumnOf<'a, R>>,
}

struct ColumnOf<'a, R> {
    cell: Box<dyn Fn(&R) -> Cell + Send + Sync + 'a>,
    total: Total,
}

enum Total {
    /// The column has none.
    None,
    /// The sum of the rows that are here.
    Sum(i64),
    /// Given by the caller, since the table may hold only the first rows.
    Given(i64),
}

impl<'a, R> TableBuilder<'a, R> {
    /// A table of this name (see [`Table::name`]) under this heading. The catalogue has its label as `table-{name}`.
    pub fn new(messages: Messages, name: &str, title: String) -> TableBuilder<'a, R> {
        let table = Table {
            name: name.to_owned(),
            label: messages.label(&format!("table-{name}")),
            title,
            note: String::new(),
            columns: Vec::new(),
            rows: Vec::new(),
            rows_in_all: 0,
            whole_file: String::new(),
            totals: Vec::new(),
            rows_in_body: usize::MAX,
            attached_columns: 0,
            if_empty: String::new(),
            sums: Vec::new(),
        };
        TableBuilder { messages, table, columns: Vec::new() }
    }

    /// Adds a part to the table's names, where a document has several tables of a kind.
    pub fn named_also(mut self, part: &str) -> Self {
        self.table.name = format!("{}-{part}", self.table.name);
        self.table.label = format!("{} {part}", self.table.label);
        self
    }

    /// A sentence below the heading.
    pub fn note(mut self, note: String) -> Self {
        self.table.note = note;
        self
    }

    /// The sentence that stands in place of a table without rows. By default, such a table is left out.
    pub fn if_empty(mut self, sentence: String) -> Self {
        self.table.if_empty = sentence;
        self
    }

    /// The most rows that a mail's body shows; all of them by default.
    pub fn rows_in_body(mut self, most: usize) -> Self {
        self.table.rows_in_body = most;
        self
    }

    /// Only attachments have the columns that `add` adds, which must be the last ones.
    pub fn attached_columns(self, add: impl FnOnce(Self) -> Self) -> Self {
        let before = self.columns.len();
        let mut table = add(self);
        table.table.attached_columns = table.columns.len() - before;
        table
    }

    /// The number of rows, where the table holds the first ones only.
    pub fn rows_in_all(mut self, count: u64) -> Self {
        self.table.rows_in_all = count;
        self
    }

    /// The file in the report's folder that has all rows.
    pub fn whole_file(mut self, name: &str) -> Self {
        self.table.whole_file = name.to_owned();
        self
    }

    /// A column without a total. `title` is a key of the catalogue.
    pub fn column<C: Into<Cell>>(self, title: &str, kind: Kind, cell: impl Fn(&R) -> C + Send + Sync + 'a) -> Self {
        self.add(title, kind, Total::None, cell)
    }

    /// A column of numbers whose total is the sum of its rows.
    pub fn summed<C: Into<Cell>>(self, title: &str, cell: impl Fn(&R) -> C + Send + Sync + 'a) -> Self {
        self.add(title, Kind::Number, Total::Sum(0), cell)
    }

    /// A column of numbers whose total over all rows, including those left out, is given.
    pub fn totalled<C: Into<Cell>>(self, title: &str, total: i64, cell: impl Fn(&R) -> C + Send + Sync + 'a) -> Self {
        self.add(title, Kind::Number, Total::Given(total), cell)
    }

    /// Adds columns only if `holds`: a mail is narrow, and a column of zeros says nothing.
    pub fn when(self, holds: bool, add: impl FnOnce(Self) -> Self) -> Self {
        if holds { add(self) } else { self }
    }

    fn add<C: Into<Cell>>(
        mut self,
        title: &str,
        kind: Kind,
        total: Total,
        cell: impl Fn(&R) -> C + Send + Sync + 'a,
    ) -> Self {
        self.table.columns.push(Column { title: self.messages.label(title), kind });
        self.columns.push(ColumnOf { cell: Box::new(move |record| cell(record).into()), total });
        self
    }

    /// Says that in each row the columns with these titles add up to another one. A title without a column is left out.
    pub fn adds_up_to(mut self, sum: &str, parts: &[&str]) -> Self {
        let parts = parts.iter().filter_map(|part| self.place(part)).collect();
        if let Some(sum) = self.place(sum) {
            self.table.sums.push(Sum::Across { parts, sum });
        }
        self
    }

    /// Says that the rows before the last one add up to it, in each column of numbers.
    pub fn ends_with_its_sum(mut self) -> Self {
        let numbers = self.table.columns.iter().enumerate().filter(|(_, column)| column.kind == Kind::Number);
        self.table.sums.extend(numbers.map(|(column, _)| Sum::Down { column }));
        self
    }

    /// Says that the total or the last row of a column is that of a column of another table.
    pub fn same_as(mut self, title: &str, table: &str, other: &str) -> Self {
        if let Some(column) = self.place(title) {
            let title = self.messages.label(other);
            self.table.sums.push(Sum::Same { column, table: table.to_owned(), title });
        }
        self
    }

    fn place(&self, title: &str) -> Option<usize> {
        let title = self.messages.label(title);
        self.table.columns.iter().position(|column| column.title == title)
    }

    /// The columns so far.
    pub fn columns(&self) -> &[Column] {
        &self.table.columns
    }

    /// The rows so far.
    pub fn added(&self) -> &[Vec<Cell>] {
        &self.table.rows
    }

    /// The cells of a record, which is not added: for a file that holds rows that the table leaves out.
    pub fn cells(&self, record: &R) -> Vec<Cell> {
        self.columns.iter().map(|column| (column.cell)(record)).collect()
    }

    /// Adds a row.
    pub fn row(&mut self, record: &R) {
        let cells = self.cells(record);
        for (column, cell) in self.columns.iter_mut().zip(&cells) {
            if let (Total::Sum(sum), Cell::Number(number)) = (&mut column.total, cell) {
                *sum = sum.saturating_add(*number);
            }
        }
        self.table.rows.push(cells);
    }

    /// Adds rows.
    pub fn rows<'r>(mut self, records: impl IntoIterator<Item = &'r R>) -> Self
    where
        R: 'r,
    {
        records.into_iter().for_each(|record| self.row(record));
        self
    }

    /// The table.
    pub fn build(self) -> Table {
        let totals = self.columns.iter().map(|column| match column.total {
            Total::None => None,
            Total::Sum(total) | Total::Given(total) => Some(total),
        });
        let totals: Vec<Option<i64>> = totals.collect();
        let mut table = self.table;
        table.rows_in_all = table.rows_in_all.max(table.rows.len() as u64);
        table.totals = if totals.iter().any(Option::is_some) { totals } else { Vec::new() };
        table
    }
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its header.
    pub title: String,
    /// What its cells are: decides alignment and format.
    pub kind: Kind,
}

/// What the cells of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Words; to the left.
    Text,
    /// An identifier, such as a user's; to the left, in a fixed width.
    Identifier,
    /// A number, grouped; to the right.
    Number,
    /// A day.
    Date,
    /// An instant, shown in the document's zone to the minute.
    Instant,
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cell {
    /// Nothing.
    Empty,
    /// Words, or an identifier. The text is untrusted, so renderers escape it.
    Text(String),
    /// Points, or a count.
    Number(i64),
    /// Money; in a column of numbers. The currency stands beside it.
    Money {
        /// In minor units.
        amount: i64,
        /// How many of its digits the minor unit takes.
        digits: u16,
    },
    /// A share, shown as a percentage; in a column of numbers.
    Share {
        /// The part.
        part: i64,
        /// What it is a part of; not zero.
        whole: i64,
    },
    /// A day.
    Date(NaiveDate),
    /// An instant.
    Instant(DateTime<Utc>),
}

impl From<i64> for Cell {
    fn from(number: i64) -> Cell {
        Cell::Number(number)
    }
}

impl From<i32> for Cell {
    fn from(number: i32) -> Cell {
        Cell::Number(number.into())
    }
}

impl From<u64> for Cell {
    fn from(count: u64) -> Cell {
        Cell::Number(i64::try_from(count).unwrap_or(i64::MAX))
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell::Text(text)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }
}

impl From<Uuid> for Cell {
    fn from(identifier: Uuid) -> Cell {
        Cell::Text(identifier.to_string())
    }
}

impl From<NaiveDate> for Cell {
    fn from(day: NaiveDate) -> Cell {
        Cell::Date(day)
    }
}

impl From<DateTime<Utc>> for Cell {
    fn from(instant: DateTime<Utc>) -> Cell {
        Cell::Instant(instant)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Cell {
        value.map_or(Cell::Empty, Into::into)
    }
}

/// A picture of numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chart {
    /// Names its file: `arrears-by-age`. Unique within the document.
    pub name: String,
    /// The heading.
    pub title: String,
    /// A sentence that describes the picture, for readers who cannot see it.
    pub description: String,
    /// Its form.
    pub form: Form,
    /// Its bars, from left to right.
    pub bars: Vec<Bar>,
}

/// The form of a chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// A bar for each number, from zero.
    Bars,
    /// The first bar from zero, each further one from where the one before it ended, the last from zero again.
    Waterfall,
}

/// A bar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bar {
    /// Below it.
    pub label: String,
    /// How high it is, or for the inner bars of a waterfall how far it goes up or down.
    pub value: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_totals_follow_the_columns() {
        let table = TableBuilder::new(Messages::new(Language::English), "owing", "Owing".to_owned())
            .column("total", Kind::Text, |(user, _, _): &(&str, i64, i64)| *user)
            .summed("total", |(_, points, _)| *points)
            .totalled("total", 70, |(_, _, all)| *all)
            .rows_in_all(9)
            .rows(&[("ann", 1, 3), ("bob", 2, 4)])
            .build();
        assert_eq!(table.rows, [[Cell::from("ann"), 1.into(), 3.into()], ["bob".into(), 2.into(), 4.into()]]);
        assert_eq!(table.totals, [None, Some(3), Some(70)]);
        assert_eq!((table.rows_in_all, table.is_whole()), (9, false));
        assert_eq!(table.columns.len(), 3);
    }

    #[test]
    fn a_table_of_columns_without_totals_has_no_line_of_totals() {
        let table = TableBuilder::new(Messages::new(Language::English), "owing", String::new())
            .column("total", Kind::Text, |name: &&str| *name)
            .rows(&["ann"])
            .build();
        assert_eq!((table.totals, table.rows_in_all), (Vec::new(), 1));
    }
}
