//! A report as data: what it says, in which order, already in the reader's language. Renderers decide how it looks.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use crate::language::Language;

/// A report, complete: renderers add nothing but form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Which report: the name of the job that makes it, as `arrears`.
    pub report: String,
    /// In which language everything below is written.
    pub language: Language,
    /// Whose books these are; empty where the configuration names nobody.
    pub business: String,
    /// `Arrears`, in the reader's language.
    pub title: String,
    /// The slot that it was made for.
    pub slot: DateTime<Utc>,
    /// The run that made it.
    pub run: i64,
    /// The instant of the snapshot that it shows.
    pub as_of: DateTime<Utc>,
    /// IANA name of the zone whose calendar and clock it is written in.
    pub time_zone: String,
    /// How things stand.
    pub tone: Tone,
    /// The one sentence to read if no other is; also the mail's subject.
    pub headline: String,
    /// What the headline rests on, in a few lines.
    pub facts: Vec<Fact>,
    /// The rest.
    pub sections: Vec<Section>,
}

/// How things stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tone {
    /// Nothing to do.
    Good,
    /// Somebody should look at it.
    Attention,
    /// Something is wrong.
    Bad,
}

/// A name and what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// The name.
    pub label: String,
    /// What it is.
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
    /// What the columns with `total` come to over all rows, also those that are not here: a number for each column
    /// with `total`, none for the others. Empty: no line of totals.
    pub totals: Vec<Option<i64>>,
    /// The most rows that a mail's body shows; attachments have all of `rows`.
    pub rows_in_body: usize,
    /// What is said where there are no rows; empty: the table is left out then.
    pub if_empty: String,
}

impl Table {
    /// Whether all its rows are here: a file of a table that is cut must not be taken for all of it.
    pub fn is_whole(&self) -> bool {
        self.rows.len() as u64 >= self.rows_in_all
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
    /// A whole number, grouped; to the right.
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
    /// Words, or an identifier. What stands in it may come from anybody: renderers escape it.
    Text(String),
    /// Points, or a count.
    Number(i64),
    /// A day.
    Date(NaiveDate),
    /// An instant.
    Instant(DateTime<Utc>),
}

/// A picture of numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chart {
    /// Names its file: `arrears-by-age`. Unique within the document.
    pub name: String,
    /// The heading.
    pub title: String,
    /// What the picture shows, in a sentence: for those who do not see it.
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
