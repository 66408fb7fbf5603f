//! Reads an input into blocks of lines. A line stays text until it is posted, because text takes less memory than a posting.

use std::io::Read;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use encoding_rs::Encoding;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::csv::{Csv, Records};
use super::lines::{Lines, MAX_LINE, Piece, not_text};
use super::{Content, Error, Form, Format};
use crate::fields::{OpeningFields, Operation, PostingFields};
use crate::ledger::{GROUP_POSTINGS, Posting, Refusal};

/// A block ends at so many bytes, so that long descriptions do not add up.
const BLOCK_BYTES: usize = 256 << 10;

/// The longest reason for a malformed line, in characters: an unknown field's name may be as long as the line.
const LONGEST_REASON: usize = 300;

/// What the reading task sends.
pub(crate) enum FromReader {
    Lines(Block),
    /// Always the last message; if it is missing, the task panicked.
    End(Result<(), Error>),
}

/// Starts a task that reads the input, and returns its blocks of lines.
pub(crate) fn start_reader(input: impl Read + Send + 'static, form: Form) -> mpsc::Receiver<FromReader> {
    let (sender, blocks) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        let end = read_blocks(input, form, &sender);
        let _ = sender.blocking_send(FromReader::End(end));
    });
    blocks
}

/// A parsed line of the input.
pub(crate) struct Line {
    pub number: u64,
    pub posting: Result<Posting, Refusal>,
}

/// Lines that were read together.
#[derive(Clone)]
pub(crate) struct Block {
    parser: Arc<Parser>,
    text: Vec<u8>,
    lines: Vec<TextLine>,
}

#[derive(Clone, Copy)]
struct TextLine {
    number: u64,
    /// Where its text ends; it begins where the text of the line before ends.
    end: u32,
    user: Option<Uuid>,
    /// The text is the reason why it is not posted.
    refused: bool,
}

impl Block {
    fn new(parser: Arc<Parser>) -> Block {
        Block { parser, text: Vec::new(), lines: Vec::new() }
    }

    /// Adds a line, and the user whose account it is of, if it can be read.
    pub fn push(&mut self, number: u64, text: &[u8], user: Option<Uuid>) {
        self.add(number, text, user, false);
    }

    /// Adds a line that is not posted.
    pub fn refuse(&mut self, number: u64, why: String) {
        self.add(number, shorten(why).as_bytes(), None, true);
    }

    fn add(&mut self, number: u64, text: &[u8], user: Option<Uuid>, refused: bool) {
        self.text.extend_from_slice(text);
        // A block is far shorter than 4 GiB.
        let end = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        self.lines.push(TextLine { number, end, user, refused });
    }

    /// Takes its lines out. They take no more memory than they need, and the block keeps its own for the next ones.
    fn take(&mut self) -> Block {
        let lines = self.clone();
        self.text.clear();
        self.lines.clear();
        lines
    }

    /// How many lines it has.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// How long they are.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Parses its lines.
    pub fn parser(&self) -> Parser {
        (*self.parser).clone()
    }

    /// The user of each line.
    pub fn users(&self) -> impl Iterator<Item = Option<Uuid>> {
        self.lines.iter().map(|line| line.user)
    }

    fn text(&self, nth: usize) -> &[u8] {
        let end = |line: &TextLine| line.end as usize;
        let start = nth.checked_sub(1).and_then(|before| self.lines.get(before)).map_or(0, end);
        let end = self.lines.get(nth).map_or(start, end);
        self.text.get(start..end).unwrap_or_default()
    }

    /// How long a line is.
    pub fn length(&self, nth: usize) -> usize {
        self.text(nth).len()
    }

    /// Parses a line. `clock` gives its effective time if it has none.
    pub fn parse(&self, nth: usize, parser: &mut Parser, clock: fn() -> DateTime<Utc>) -> Option<Line> {
        let TextLine { number, refused, .. } = *self.lines.get(nth)?;
        let text = self.text(nth);
        let posting = match refused {
            true => Err(String::from_utf8_lossy(text).into_owned()),
            false => parser.posting(text, clock),
        };
        Some(Line { number, posting: posting.map_err(|why| Refusal::Malformed(shorten(why))) })
    }

    /// Parses all lines, in their order.
    #[cfg(feature = "service")]
    pub fn into_lines(self, clock: fn() -> DateTime<Utc>) -> Vec<Line> {
        let mut parser = self.parser();
        (0..self.len()).filter_map(|nth| self.parse(nth, &mut parser, clock)).collect()
    }
}

/// How the text of a line becomes a posting.
#[derive(Clone)]
pub(crate) enum Parser {
    Json { content: Content, encoding: Option<&'static Encoding> },
    Csv(Records),
}

impl Parser {
    fn posting(&mut self, text: &[u8], clock: fn() -> DateTime<Utc>) -> Result<Posting, String> {
        match self {
            Parser::Json { content: Content::Postings, encoding } => read_json(text, *encoding, None, clock),
            Parser::Json { content: Content::Openings, encoding } => read_opening(text, *encoding, clock),
            Parser::Csv(records) => records.posting(text, clock),
        }
    }
}

/// Reads lines into blocks until the input ends or the receiver is dropped.
pub(super) fn read_blocks(input: impl Read, form: Form, blocks: &mpsc::Sender<FromReader>) -> Result<(), Error> {
    let cr_ends = matches!(form.format, Format::Csv { .. });
    let lines = Lines::new(input, form.encoding, cr_ends);
    let mut lines = lines.map_err(|source| Error::Input { after: 0, source })?;
    let mut csv = match form.format {
        Format::Ndjson => None,
        Format::Csv { delimiter } => Some(Csv::begin(&mut lines, form.content, delimiter)?),
    };
    let parser = Arc::new(match &csv {
        None => Parser::Json { content: form.content, encoding: lines.encoding },
        Some(csv) => Parser::Csv(csv.records.clone()),
    });
    let mut block = Block::new(parser);
    // It fails if the receiver was dropped.
    let send = |block: &mut Block| blocks.blocking_send(FromReader::Lines(block.take())).is_ok();
    loop {
        match (lines.next(), &mut csv) {
            (Ok(Some(piece)), None) => take_json(&piece, &mut block),
            (Ok(Some(piece)), Some(csv)) => csv.take(&piece, &mut block),
            // Lines before the end or the error are posted all the same.
            (Ok(None), csv) => {
                if let Some(csv) = csv {
                    csv.finish(&mut block);
                }
                send(&mut block);
                return Ok(());
            }
            (Err(source), csv) => {
                send(&mut block);
                let after = csv.as_ref().map_or(lines.number, Csv::last_whole);
                return Err(Error::Input { after, source });
            }
        }
        // A full block is sent. So is any block when the next line is not buffered yet: the producer may wait for its replies before
        // it writes more.
        let full = block.len() >= GROUP_POSTINGS || block.bytes() >= BLOCK_BYTES;
        let may_wait = block.len() > 0 && !lines.has_next();
        if (full || may_wait) && !send(&mut block) {
            return Ok(());
        }
    }
}

fn take_json(piece: &Piece<'_>, block: &mut Block) {
    /// The user alone: the rest is parsed when the line is posted.
    #[derive(Deserialize)]
    struct Account {
        user: Uuid,
    }
    if piece.continued {
        return;
    }
    if piece.long {
        return block.refuse(piece.number, format!("the line is longer than {MAX_LINE} bytes"));
    }
    let line = piece.bytes;
    if !line.trim_ascii().is_empty() {
        let account: Option<Account> = serde_json::from_slice(line).ok();
        block.push(piece.number, line, account.map(|account| account.user));
    }
}

pub(super) fn shorten(why: String) -> String {
    match why.char_indices().nth(LONGEST_REASON) {
        Some((end, _)) => format!("{}…", why.get(..end).unwrap_or_default()),
        None => why,
    }
}

/// Reads one posting from JSON. `key` is its key if it has none, and `clock` gives its effective time if it has none.
///
/// # Errors
/// Why it is no posting, with the place.
pub fn parse_json(text: &[u8], key: Option<String>, clock: fn() -> DateTime<Utc>) -> Result<Posting, String> {
    // Serde would also accept an array, as the fields in their order.
    if !text.trim_ascii_start().starts_with(b"{") {
        return Err("a posting is a JSON object, which starts with {".to_owned());
    }
    read_json(text, None, key, clock).map_err(shorten)
}

fn read_json(
    line: &[u8],
    encoding: Option<&'static Encoding>,
    key: Option<String>,
    clock: fn() -> DateTime<Utc>,
) -> Result<Posting, String> {
    match read_fields::<PostingFields>(line, encoding) {
        Ok(mut fields) => {
            // A release is named by its hold.
            if fields.op != Operation::Release {
                fields.key = fields.key.or(key);
            }
            fields.into_posting(clock)
        }
        Err(why) => Err(why),
    }
}

fn read_opening(
    line: &[u8],
    encoding: Option<&'static Encoding>,
    clock: fn() -> DateTime<Utc>,
) -> Result<Posting, String> {
    read_fields::<OpeningFields>(line, encoding)?.into_posting(clock)
}

fn read_fields<T: DeserializeOwned>(line: &[u8], encoding: Option<&'static Encoding>) -> Result<T, String> {
    if !line.trim_ascii_start().starts_with(b"{") {
        return Err(json_reason::<T>(line, encoding, None));
    }
    serde_json::from_slice(line).map_err(|error| json_reason::<T>(line, encoding, Some(&error)))
}

/// Says why a line is no posting. It parses the line again, so it is only called after parsing failed.
fn json_reason<T: DeserializeOwned>(
    line: &[u8],
    encoding: Option<&'static Encoding>,
    error: Option<&serde_json::Error>,
) -> String {
    if let Some(why) = not_text(line, encoding) {
        return why;
    }
    let Some(error) = error else {
        return "the line is no JSON object, which starts with {; CSV is read with --csv".to_owned();
    };
    if error.is_eof() {
        return "the line is cut off: its JSON does not end".to_owned();
    }
    // serde_json always counts line 1 here; the reply names the input's line.
    let without_line = |text: String| text.replace(" at line 1 column ", ", at column ");
    let mut json = serde_json::Deserializer::from_slice(line);
    match serde_path_to_error::deserialize::<_, T>(&mut json) {
        Err(error) if error.path().to_string() != "?" && error.path().iter().next().is_some() => {
            without_line(format!("{}: {}", error.path(), error.inner()))
        }
        _ => without_line(error.to_string()),
    }
}
