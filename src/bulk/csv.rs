//! Reads CSV: a header, then records. Quoted text may hold line ends, but a line is never taken for a record while it may stand
//! within quoted text.

use std::io::Read;

use chrono::{DateTime, Utc};
use csv_core::ReadRecordResult;
use encoding_rs::Encoding;
use memchr::memchr;
use uuid::Uuid;

use super::lines::{Lines, MAX_LINE, Piece, not_text};
use super::reader::{Block, shorten};
use super::{Content, Error};
use crate::fields::{OpeningFields, Operation, PostingFields, parse_user};
use crate::ledger::Posting;
use crate::plain::unguarded;
use crate::prices;
use crate::time::parse_time;

/// The most lines of a record. A quote that is never closed is noticed after so many lines.
const MOST_LINES: u64 = 1_000;

/// What may part the fields, if nothing else is asked for.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// Why a last record without a line end is rejected: `…,10` may have been `…,1000`.
const CUT_OFF: &str = "no line end follows, so the record may be cut off; end the file with a line end";

/// Reads the records that follow a header.
pub struct Csv {
    delimiter: u8,
    /// What stands in a record.
    pub records: Records,
    quotes: Quotes,
    /// The lines so far of a record whose quoted text goes on.
    record: Vec<u8>,
    /// The first line of the record.
    first: u64,
    /// The last line with a reply.
    answered: u64,
    /// The last line that was read.
    last: u64,
    /// Whether the last line ended within quoted text.
    open: bool,
    /// The record is rejected, and with it all lines up to the end of its quoted text.
    spoiled: bool,
}

impl Csv {
    /// Reads the header. Lines before it may be blank, or name the delimiter as `sep=;`.
    pub fn begin<R: Read>(lines: &mut Lines<R>, content: Content, delimiter: Option<u8>) -> Result<Csv, Error> {
        let encoding = lines.encoding;
        let (mut delimiter, mut named) = (delimiter, false);
        loop {
            let after = lines.number;
            let header = match lines.next().map_err(|source| Error::Input { after, source })? {
                Some(piece) if piece.bytes.trim_ascii().is_empty() && !piece.long => continue,
                Some(piece) if piece.long => Err("it is longer than a line may be".to_owned()),
                Some(piece) => {
                    let named_here = named_delimiter(piece.bytes).filter(|_| !named);
                    if named_here.is_some() {
                        named = true;
                        delimiter = delimiter.or(named_here);
                        continue;
                    }
                    let delimiter = delimiter.unwrap_or_else(|| find_delimiter(piece.bytes));
                    let mut splitter = Splitter::new(delimiter, encoding);
                    header(piece.bytes, content, delimiter, &mut splitter).map(|columns| (columns, delimiter, splitter))
                }
                None => Err(format!(
                    "the input is empty; the first line names the columns, such as {}",
                    first_columns(content)
                )),
            };
            let line = lines.number.max(1);
            let (columns, delimiter, splitter) = header.map_err(|why| Error::Header { line, why })?;
            return Ok(Csv {
                delimiter,
                records: Records { content, columns, splitter },
                quotes: Quotes::default(),
                record: Vec::new(),
                first: 0,
                answered: 0,
                last: 0,
                open: false,
                spoiled: false,
            });
        }
    }

    /// The last line whose record is whole.
    pub fn last_whole(&self) -> u64 {
        if self.open { self.answered } else { self.last }
    }

    /// Takes a line, or a part of one.
    pub fn take(&mut self, piece: &Piece<'_>, block: &mut Block) {
        self.last = piece.number;
        if !self.open && !piece.continued {
            self.first = piece.number;
            self.answered = piece.number - 1;
            self.spoiled = false;
            self.record.clear();
            if !piece.long && memchr(b'"', piece.bytes).is_none() {
                return self.post(piece.bytes, piece.ended, block);
            }
        }
        self.quotes.read(piece.bytes, self.delimiter);
        if piece.long && !piece.continued {
            self.spoil(&format!("the line is longer than {MAX_LINE} bytes"), block);
        }
        if piece.long {
            return;
        }
        if !self.spoiled {
            if self.open {
                self.record.push(b'\n');
            }
            self.record.extend_from_slice(piece.bytes);
        }
        self.open = self.quotes.end_line();
        let first = self.first;
        if self.spoiled {
            self.answer_rejected(&format!("it belongs to the quoted text that line {first} opens"), block);
        } else if self.open && (self.record.len() > MAX_LINE || piece.number - first >= MOST_LINES) {
            self.spoil(&not_closed(first), block);
        } else if !self.open && self.quotes.misplaced {
            self.spoil("text follows a closing quote; write a quote within quoted text twice", block);
        } else if !self.open {
            let record = std::mem::take(&mut self.record);
            self.post(&record, piece.ended, block);
            self.record = record;
        }
        if !self.open {
            self.quotes = Quotes::default();
        }
    }

    /// Rejects a last record whose quoted text does not end.
    pub fn finish(&mut self, block: &mut Block) {
        if self.open {
            self.answer_rejected(&not_closed(self.first), block);
        }
    }

    fn spoil(&mut self, why: &str, block: &mut Block) {
        self.spoiled = true;
        self.answer_rejected(why, block);
    }

    /// Rejects each line of the record that has no reply yet.
    fn answer_rejected(&mut self, why: &str, block: &mut Block) {
        for number in self.answered + 1..=self.last {
            block.refuse(number, why.to_owned());
        }
        self.answered = self.last;
    }

    fn post(&mut self, record: &[u8], ended: bool, block: &mut Block) {
        self.answered = self.last;
        let Records { columns, splitter, .. } = &mut self.records;
        let user = match splitter.split(record) {
            Ok(fields) if fields.filled() == 0 => return,
            Ok(fields) => fields.of(columns, "user").and_then(|user| Uuid::parse_str(user).ok()),
            // The reason is found again when the record is parsed.
            Err(_) => None,
        };
        if !ended && self.records.posting(record, DateTime::default).is_ok() {
            return block.refuse(self.first, CUT_OFF.to_owned());
        }
        block.push(self.first, record, user);
    }
}

/// Reads a record as a posting.
#[derive(Clone)]
pub struct Records {
    content: Content,
    /// The columns in the order of the header; none where the header has a blank.
    columns: Vec<Option<&'static str>>,
    splitter: Splitter,
}

impl Records {
    /// The posting of a record.
    pub fn posting(&mut self, record: &[u8], clock: fn() -> DateTime<Utc>) -> Result<Posting, String> {
        let record = self.splitter.split(record)?;
        let filled = record.filled();
        let named = self.columns.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let count = record.ends.len();
        if count < named || filled > self.columns.len() {
            let found = count.min(filled.max(named));
            return Err(format!("it has {found} fields, the header {}", self.columns.len()));
        }
        let unnamed =
            self.columns.iter().zip(record.iter()).position(|(column, value)| column.is_none() && is_filled(value));
        if let Some(index) = unnamed {
            return Err(format!("field {} has a value, but the header names no such column", index + 1));
        }
        let field = |name: &str| record.of(&self.columns, name);
        match self.content {
            Content::Postings => fields(field)?.into_posting(clock),
            Content::Openings => opening_fields(field)?.into_posting(clock),
        }
    }
}

fn is_filled(value: &str) -> bool {
    !value.trim().is_empty()
}

fn not_closed(first: u64) -> String {
    format!("the quoted text that line {first} opens does not end; close the quote")
}

/// The delimiter that a line such as `sep=;` names, as Excel writes it.
fn named_delimiter(line: &[u8]) -> Option<u8> {
    let (start, delimiter) = line.split_at_checked(4)?;
    match delimiter {
        // A spreadsheet that saves the line again fills it up.
        [one, rest @ ..] if start.eq_ignore_ascii_case(b"sep=") && rest.iter().all(|other| other == one) => {
            is_delimiter(*one).then_some(*one)
        }
        _ => None,
    }
}

/// Whether a byte can part fields.
pub fn is_delimiter(byte: u8) -> bool {
    byte.is_ascii() && !byte.is_ascii_alphanumeric() && !b"\"'_\r\n\0".contains(&byte)
}

/// The first delimiter of a header that does not stand in quotes.
fn find_delimiter(header: &[u8]) -> u8 {
    let mut quoted = false;
    let found = header.iter().find(|byte| {
        quoted ^= **byte == b'"';
        !quoted && DELIMITERS.contains(byte)
    });
    found.copied().unwrap_or(b',')
}

/// The first columns, as an example of a header.
fn first_columns(content: Content) -> String {
    content.columns().iter().take(3).copied().collect::<Vec<_>>().join(",")
}

/// The columns that a header names, in its order. Case does not matter.
fn header(
    line: &[u8],
    content: Content,
    delimiter: u8,
    splitter: &mut Splitter,
) -> Result<Vec<Option<&'static str>>, String> {
    let mut quotes = Quotes::default();
    quotes.read(line, delimiter);
    if quotes.end_line() {
        return Err("a quote is not closed; a header is one line".to_owned());
    }
    if line.contains(&0) {
        return Err("it holds NUL characters; if the input is UTF-16, say --encoding utf-16le or utf-16be".to_owned());
    }
    let mut columns = Vec::new();
    for name in splitter.split(line)?.iter().map(str::trim) {
        let column = content.columns().iter().copied().find(|column| column.eq_ignore_ascii_case(name));
        match column {
            None if name.is_empty() => {}
            None => {
                return Err(format!(
                    "`{}` is no column; there are {}",
                    shorten(name.to_owned()),
                    content.columns().join(", ")
                ));
            }
            Some(column) if columns.contains(&Some(column)) => return Err(format!("`{column}` stands there twice")),
            Some(_) => {}
        }
        columns.push(column);
    }
    match content.needed_columns().into_iter().find(|needed| !columns.contains(&Some(needed))) {
        Some(needed) => Err(format!("`{needed}` is missing")),
        None => Ok(columns),
    }
}

/// Splits records into their fields. To make the csv reader's tables takes longer than to read a record, so they are kept.
struct Splitter {
    delimiter: u8,
    reader: Box<csv_core::Reader>,
    encoding: Option<&'static Encoding>,
    text: Vec<u8>,
    ends: Vec<usize>,
}

/// A clone of the csv reader has lost its tables, so they are made anew.
impl Clone for Splitter {
    fn clone(&self) -> Splitter {
        Splitter::new(self.delimiter, self.encoding)
    }
}

/// The fields of a record.
struct Fields<'a> {
    text: &'a str,
    /// Where each ends.
    ends: &'a [usize],
}

impl Splitter {
    fn new(delimiter: u8, encoding: Option<&'static Encoding>) -> Splitter {
        let reader = Box::new(csv_core::ReaderBuilder::new().delimiter(delimiter).build());
        Splitter { delimiter, reader, encoding, text: Vec::new(), ends: vec![0; Content::Postings.columns().len() + 1] }
    }

    fn split(&mut self, record: &[u8]) -> Result<Fields<'_>, String> {
        self.reader.reset();
        // Its fields are no longer than the record.
        self.text.resize(record.len() + 1, 0);
        let (mut left, mut written, mut count) = (record, 0, 0);
        loop {
            let text = self.text.get_mut(written..).unwrap_or_default();
            let ends = self.ends.get_mut(count..).unwrap_or_default();
            let (result, read, more, ended) = self.reader.read_record(left, text, ends);
            left = left.get(read..).unwrap_or_default();
            written += more;
            count += ended;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.text.resize(2 * self.text.len(), 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(2 * self.ends.len(), 0),
                // What the reader takes for another record would vanish.
                ReadRecordResult::Record if !left.is_empty() => return Err("it holds more than one record".to_owned()),
                ReadRecordResult::Record | ReadRecordResult::End => break,
            }
        }
        let text = self.text.get(..written).unwrap_or_default();
        let not_text = || not_text(record, self.encoding).unwrap_or_default();
        let text = std::str::from_utf8(text).map_err(|_| not_text())?;
        Ok(Fields { text, ends: self.ends.get(..count).unwrap_or_default() })
    }
}

impl<'a> Fields<'a> {
    fn get(&self, index: usize) -> Option<&'a str> {
        let start = index.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        self.text.get(start..*self.ends.get(index)?)
    }

    fn iter(&self) -> impl Iterator<Item = &'a str> {
        (0..self.ends.len()).filter_map(|index| self.get(index))
    }

    /// The value of a column, unless it is empty.
    fn of(&self, columns: &[Option<&'static str>], name: &str) -> Option<&'a str> {
        let index = columns.iter().position(|column| *column == Some(name))?;
        self.get(index).filter(|value| !value.is_empty()).map(unguarded)
    }

    /// How many fields there are up to the last one that is not blank.
    fn filled(&self) -> usize {
        self.iter().enumerate().filter(|(_, value)| is_filled(value)).last().map_or(0, |(last, _)| last + 1)
    }
}

/// The fields of a posting, from the values of its columns.
fn fields<'a>(field: impl Fn(&str) -> Option<&'a str>) -> Result<PostingFields, String> {
    let text = |name: &str| field(name).map(str::to_owned);
    let (integer, time) = (|name| integer(name, field(name)), |name| time(name, field(name)));
    let op = field("op").ok_or("op is empty")?;
    let op = Operation::parse(op).ok_or_else(|| {
        let ops = Operation::ALL.map(Operation::as_str).join(", ");
        format!("op: `{}` is none of {ops}", shorten(op.to_owned()))
    })?;
    Ok(PostingFields {
        op,
        user: user(field("user"))?,
        points: integer("points")?,
        source: text("source"),
        source_type: text("source_type"),
        source_id: text("source_id"),
        order_id: integer("order_id")?,
        paid: integer("paid")?,
        currency: text("currency"),
        of: text("of"),
        beyond: text("beyond"),
        key: text("key"),
        expires_at: time("expires_at")?,
        until: time("until")?,
        duration: field("duration")
            .map(prices::parse_seconds)
            .transpose()
            .map_err(|error| format!("duration: {error}"))?,
        description: text("description"),
        at: time("at")?,
    })
}

/// The fields of an opening, from the values of its columns.
fn opening_fields<'a>(field: impl Fn(&str) -> Option<&'a str>) -> Result<OpeningFields, String> {
    let text = |name: &str| field(name).map(str::to_owned);
    let (integer, time) = (|name| integer(name, field(name)), |name| time(name, field(name)));
    Ok(OpeningFields {
        user: user(field("user"))?,
        points: integer("points")?.ok_or("points is empty")?,
        source: text("source"),
        opened_at: time("opened_at")?,
        expires_at: time("expires_at")?,
        id: text("id"),
        paid: integer("paid")?,
        currency: text("currency"),
        description: text("description"),
    })
}

fn user(value: Option<&str>) -> Result<Uuid, String> {
    parse_user(value.ok_or("user is empty")?).map_err(|why| format!("user: {why}"))
}

fn integer(name: &str, value: Option<&str>) -> Result<Option<i64>, String> {
    let parse = |value: &str| {
        let remedy = if name == "paid" { "; write minor units, such as 1999 for 19.99" } else { "" };
        let value = value.parse::<i64>().map_err(|_| shorten(value.to_owned()));
        value.map_err(|value| format!("{name}: `{value}` is not a whole number{remedy}"))
    };
    value.map(parse).transpose()
}

fn time(name: &str, value: Option<&str>) -> Result<Option<DateTime<Utc>>, String> {
    let parse = |text: &str| parse_time(&shorten(text.to_owned())).map_err(|why| format!("{name}: {why}"));
    value.map(parse).transpose()
}

/// Follows the quotes of a record, as the csv reader does.
#[derive(Default)]
struct Quotes {
    at: At,
    /// Text followed a closing quote.
    misplaced: bool,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum At {
    /// The start of a field. Only here does a quote open.
    #[default]
    Start,
    Plain,
    Quoted,
    /// Behind a quote within quoted text: it closes, or a second one follows and both are text.
    Quote,
}

impl Quotes {
    fn read(&mut self, bytes: &[u8], delimiter: u8) {
        for byte in bytes {
            self.at = match (self.at, *byte) {
                (At::Quoted, b'"') => At::Quote,
                (At::Quoted, _) => At::Quoted,
                (At::Quote, b'"') => At::Quoted,
                (_, byte) if byte == delimiter => At::Start,
                (At::Start, b'"') => At::Quoted,
                (At::Quote, _) => {
                    self.misplaced = true;
                    At::Plain
                }
                (At::Start | At::Plain, _) => At::Plain,
            };
        }
    }

    /// Whether the text goes on behind a line end.
    fn end_line(&self) -> bool {
        self.at == At::Quoted
    }
}
