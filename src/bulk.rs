//! Posts a file or a stream of lines: NDJSON, or CSV with a header. A bad line is rejected with its number and the reason; the other
//! lines are posted. Memory is bounded, however long the input or a line is.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::fields::{COLUMNS, Operation, PostingFields};
use crate::ledger::{self, Feed, GROUP_POSTINGS, Poster, Posting, Refusal, Reply};
use crate::prices;
use crate::time::parse_time;

/// The longest line, in bytes: several times the longest that can be posted.
const MAX_LINE: usize = 1 << 20;

/// Bytes to read at a time: far more than a group of postings, so that a file always fills its groups.
const READ_AHEAD: usize = 1 << 20;

/// A chunk ends at so many bytes, so that long descriptions do not add up.
const CHUNK_BYTES: usize = 2 << 20;

/// Chunks under way: one is posted, one waits behind it.
const CHUNKS_UNDER_WAY: usize = 2;

/// The longest reason for a malformed line, in characters: an unknown field's name may be as long as the line.
const LONGEST_REASON: usize = 300;

/// Why a last CSV record without a line end is rejected: `…,10` may have been `…,1000`.
const CUT_OFF: &str = "no line end follows, so the record may be cut off; end the file with a line end";

/// How the lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A JSON object a line.
    Ndjson,
    /// Comma-separated values under a header with the same names; an empty field is an absent one. A record is a line.
    Csv,
}

/// One line's reply.
#[derive(Clone, Debug)]
pub struct LineReply {
    /// Line number in the input, from 1.
    pub line: u64,
    /// The account, if the line could be read.
    pub user: Option<Uuid>,
    /// The reply.
    pub reply: Reply,
}

/// The outcomes of the lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Newly posted.
    pub posted: u64,
    /// Holds that reserve points now.
    pub held: u64,
    /// Holds released.
    pub released: u64,
    /// Done before, under the same key.
    pub replayed: u64,
    /// Rejected, by code.
    pub rejected: BTreeMap<&'static str, u64>,
    /// The last line with a reply; every line before it has one too.
    pub last_line: u64,
    /// Whether posting was stopped before the end of the input.
    pub stopped: bool,
}

impl Summary {
    /// Rejected lines.
    pub fn rejected(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// Lines with a reply.
    pub fn lines(&self) -> u64 {
        self.posted + self.held + self.released + self.replayed + self.rejected()
    }
}

/// Why posting ended before the end of the input. The lines that `Summary` counts have been answered; a group after them may be
/// posted, too. Posting the same input again from its start is safe: posted lines replay.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The CSV header cannot be understood.
    #[error("line 1, the CSV header: {0}")]
    Header(String),
    /// The input cannot be read.
    #[error("the input cannot be read after line {after}")]
    Input {
        /// The last line that was read.
        after: u64,
        /// Why.
        source: std::io::Error,
    },
    /// The database was away for longer than the poster waits.
    #[error("lines 1 to {through} have been answered; the lines after them have not")]
    Ledger {
        /// The last line that was answered.
        through: u64,
        /// Why.
        source: Arc<ledger::Error>,
    },
    /// The replies cannot be written.
    #[error("the reply to line {line} cannot be written")]
    Output {
        /// The line of the reply.
        line: u64,
        /// Why.
        source: std::io::Error,
    },
}

/// Posts every line of `input` and hands each reply to `on_reply`, in the order of the lines.
///
/// `clock` gives the effective time of lines without one. After `stop` is cancelled no more lines are read, and the groups under way
/// are finished.
///
/// `input` is read by a blocking task of the runtime. A read from a terminal or a pipe may never return, so a program that
/// posts from one should end its runtime with `shutdown_background`: dropping the runtime waits for that task.
///
/// # Errors
/// See [`Error`].
pub async fn post(
    input: impl Read + Send + 'static,
    format: Format,
    poster: &Poster,
    clock: fn() -> DateTime<Utc>,
    stop: &CancellationToken,
    mut on_reply: impl FnMut(LineReply) -> std::io::Result<()>,
) -> Result<Summary, Error> {
    let mut chunks = start_reader(input, format, clock);
    let mut summary = Summary::default();
    let feed = poster.feed();
    let mut failure = None;
    let mut reading = true;
    let mut under_way = FuturesOrdered::<Replies>::new();
    // Replies go out at once, so that a slow producer sees them. While they are written, the next chunk is under way.
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled(), if reading => {
                summary.stopped = true;
                reading = false;
            }
            Some((lines, replies)) = under_way.next() => {
                let replies = replies.map_err(|source| lost(&summary, source))?;
                answer(lines, replies, &mut summary, &mut on_reply)?;
            }
            read = chunks.recv(), if reading && under_way.len() < CHUNKS_UNDER_WAY => match read {
                Some(FromReader::Lines(lines)) => {
                    let handed_over = hand_over(lines, &feed).await;
                    under_way.push_back(handed_over.map_err(|source| lost(&summary, source))?);
                }
                Some(FromReader::End(end)) => {
                    failure = end.err();
                    reading = false;
                }
                None => {
                    let source = std::io::Error::other("the task that reads it panicked");
                    failure = Some(Error::Input { after: summary.last_line, source });
                    reading = false;
                }
            },
            else => break,
        }
    }
    match failure {
        None => Ok(summary),
        Some(error) => Err(error),
    }
}

/// Starts a task that reads the input, and returns its chunks of lines.
pub(crate) fn start_reader(
    input: impl Read + Send + 'static,
    format: Format,
    clock: fn() -> DateTime<Utc>,
) -> mpsc::Receiver<FromReader> {
    let (sender, chunks) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        let end = read_chunks(input, format, clock, &sender);
        let _ = sender.blocking_send(FromReader::End(end));
    });
    chunks
}

fn lost(summary: &Summary, source: Arc<ledger::Error>) -> Error {
    Error::Ledger { through: summary.last_line, source }
}

/// A parsed line of the input.
pub(crate) struct Line {
    pub number: u64,
    pub posting: Result<Posting, Refusal>,
}

/// The lines of a chunk that was handed over: each one's number, and its user or the reason why it is not posted.
type HandedOver = Vec<(u64, Result<Uuid, Refusal>)>;

/// Those lines, and the replies that are awaited.
type Replies = BoxFuture<'static, (HandedOver, Result<Vec<Reply>, Arc<ledger::Error>>)>;

/// Queues a chunk's postings. The returned future waits for their replies.
async fn hand_over(lines: Vec<Line>, feed: &Feed) -> Result<Replies, Arc<ledger::Error>> {
    let mut postings = Vec::with_capacity(lines.len());
    let take = |line: Line| {
        let user = line.posting.map(|posting| {
            let user = posting.user;
            postings.push(posting);
            user
        });
        (line.number, user)
    };
    let lines: HandedOver = lines.into_iter().map(take).collect();
    let pending = feed.hand_over(postings).await?;
    Ok(Box::pin(async { (lines, pending.replies().await) }))
}

fn answer(
    lines: HandedOver,
    replies: Vec<Reply>,
    summary: &mut Summary,
    on_reply: &mut impl FnMut(LineReply) -> std::io::Result<()>,
) -> Result<(), Error> {
    let mut replies = replies.into_iter();
    for (line, user) in lines {
        let (user, reply) = match user {
            Ok(user) => (Some(user), replies.next()),
            Err(refusal) => (None, Some(Reply::Rejected(refusal))),
        };
        let Some(reply) = reply else { break };
        match &reply {
            Reply::Posted(_) => summary.posted += 1,
            Reply::Held(_) => summary.held += 1,
            Reply::Released(_) => summary.released += 1,
            Reply::Replayed(_) | Reply::HeldBefore(_) | Reply::ReleasedBefore(_) => summary.replayed += 1,
            Reply::Rejected(refusal) => *summary.rejected.entry(refusal.code()).or_default() += 1,
        }
        summary.last_line = line;
        on_reply(LineReply { line, user, reply }).map_err(|source| Error::Output { line, source })?;
    }
    Ok(())
}

/// What the reading task sends.
pub(crate) enum FromReader {
    Lines(Vec<Line>),
    /// Always the last message; if it is missing, the task panicked.
    End(Result<(), Error>),
}

/// Reads lines into chunks until the input ends or the receiver is dropped.
fn read_chunks(
    input: impl Read,
    format: Format,
    clock: fn() -> DateTime<Utc>,
    chunks: &mpsc::Sender<FromReader>,
) -> Result<(), Error> {
    let input = BufReader::with_capacity(READ_AHEAD, input);
    let mut input = LineReader { input, line: Vec::new(), number: 0, ended: true };
    let columns = match format {
        Format::Ndjson => Vec::new(),
        Format::Csv => {
            let header = match input.next().map_err(|source| Error::Input { after: 0, source })? {
                Some(RawLine::Text(header)) => csv_header(header),
                Some(RawLine::TooLong) => Err("it is longer than a line may be".to_owned()),
                None => Err("the input is empty; the first line names the columns, such as op,user,points".to_owned()),
            };
            header.map_err(Error::Header)?
        }
    };
    let mut chunk = Vec::new();
    let mut bytes = 0;
    loop {
        let parsed = match input.next() {
            Ok(Some(RawLine::Text(line))) if line.trim_ascii().is_empty() => None,
            Ok(Some(RawLine::Text(line))) => {
                bytes += line.len();
                Some(match format {
                    Format::Ndjson => read_json(line, clock),
                    Format::Csv => read_csv(line, &columns, clock),
                })
            }
            Ok(Some(RawLine::TooLong)) => Some(Err(format!("the line is longer than {MAX_LINE} bytes"))),
            // Lines before the end or the error are posted all the same.
            Ok(None) => {
                let _ = chunks.blocking_send(FromReader::Lines(chunk));
                return Ok(());
            }
            Err(source) => {
                let _ = chunks.blocking_send(FromReader::Lines(chunk));
                return Err(Error::Input { after: input.number, source });
            }
        };
        // JSON shows where it ends; a number at the end of a CSV record does not.
        let cut_off = format == Format::Csv && !input.ended;
        let parsed = if cut_off { parsed.map(|posting| posting.and(Err(CUT_OFF.to_owned()))) } else { parsed };
        if let Some(posting) = parsed {
            chunk.push(Line { number: input.number, posting: posting.map_err(|why| Refusal::Malformed(shorten(why))) });
        }
        // A full chunk is sent. So is any chunk when the next line is not buffered yet: the producer may wait for its replies before
        // it writes more.
        let full = chunk.len() >= 2 * GROUP_POSTINGS || bytes >= CHUNK_BYTES;
        let may_wait = !chunk.is_empty() && !input.input.buffer().contains(&b'\n');
        if full || may_wait {
            if chunks.blocking_send(FromReader::Lines(std::mem::take(&mut chunk))).is_err() {
                return Ok(());
            }
            bytes = 0;
        }
    }
}

fn shorten(why: String) -> String {
    match why.char_indices().nth(LONGEST_REASON) {
        Some((end, _)) => format!("{}…", why.get(..end).unwrap_or_default()),
        None => why,
    }
}

struct LineReader<R> {
    input: BufReader<R>,
    line: Vec<u8>,
    number: u64,
    /// Whether the last line had its line end.
    ended: bool,
}

enum RawLine<'a> {
    Text(&'a [u8]),
    TooLong,
}

impl<R: Read> LineReader<R> {
    /// The next line without its end. A line that is too long is skipped and not held in memory.
    fn next(&mut self) -> std::io::Result<Option<RawLine<'_>>> {
        self.line.clear();
        let read = (&mut self.input).take(MAX_LINE as u64 + 1).read_until(b'\n', &mut self.line)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        self.ended = self.line.ends_with(b"\n");
        if self.line.len() > MAX_LINE && !self.ended {
            self.input.skip_until(b'\n')?;
            return Ok(Some(RawLine::TooLong));
        }
        let mut line = self.line.as_slice();
        line = line.strip_suffix(b"\n").unwrap_or(line);
        line = line.strip_suffix(b"\r").unwrap_or(line);
        if self.number == 1 {
            line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line); // the mark that some editors put first
        }
        Ok(Some(RawLine::Text(line)))
    }
}

fn read_json(line: &[u8], clock: fn() -> DateTime<Utc>) -> Result<Posting, String> {
    // Serde would also accept an array, as the fields in their order.
    if !line.trim_ascii_start().starts_with(b"{") {
        return Err(json_reason(line, None));
    }
    match serde_json::from_slice::<PostingFields>(line) {
        Ok(fields) => fields.into_posting(clock),
        Err(error) => Err(json_reason(line, Some(&error))),
    }
}

/// Says why a line is no posting. It parses the line again, so it is only called after parsing failed.
fn json_reason(line: &[u8], error: Option<&serde_json::Error>) -> String {
    if let Err(error) = std::str::from_utf8(line) {
        return format!("byte {} is not valid UTF-8", error.valid_up_to() + 1);
    }
    let Some(error) = error else {
        return "the line is no JSON object, which starts with {".to_owned();
    };
    if error.is_eof() {
        return "the line is cut off: its JSON does not end".to_owned();
    }
    // serde_json always counts line 1 here; the reply names the input's line.
    let without_line = |text: String| text.replace(" at line 1 column ", ", at column ");
    let mut json = serde_json::Deserializer::from_slice(line);
    match serde_path_to_error::deserialize::<_, PostingFields>(&mut json) {
        Err(error) if error.path().iter().next().is_some() => {
            without_line(format!("{}: {}", error.path(), error.inner()))
        }
        _ => without_line(error.to_string()),
    }
}

/// The columns that a header names, in its order.
fn csv_header(header: &[u8]) -> Result<Vec<&'static str>, String> {
    let mut columns = Vec::new();
    for name in csv_record(header)?.iter() {
        let name = name.trim();
        let column = COLUMNS.into_iter().find(|column| *column == name);
        let column = column
            .ok_or_else(|| format!("`{}` is no column; there are {}", shorten(name.to_owned()), COLUMNS.join(", ")))?;
        if columns.contains(&column) {
            return Err(format!("`{column}` stands there twice"));
        }
        columns.push(column);
    }
    match ["op", "user"].into_iter().find(|needed| !columns.contains(needed)) {
        Some(needed) => Err(format!("`{needed}` is missing")),
        None => Ok(columns),
    }
}

fn csv_record(line: &[u8]) -> Result<csv::StringRecord, String> {
    if let Err(error) = std::str::from_utf8(line) {
        return Err(format!("byte {} is not valid UTF-8", error.valid_up_to() + 1));
    }
    if line.iter().filter(|byte| **byte == b'"').count() % 2 == 1 {
        return Err("a quote is not closed; a record is one line".to_owned());
    }
    let mut reader = csv::ReaderBuilder::new().has_headers(false).buffer_capacity(line.len().max(1)).from_reader(line);
    let mut record = csv::StringRecord::new();
    reader.read_record(&mut record).map_err(|error| error.to_string())?;
    Ok(record)
}

fn read_csv(line: &[u8], columns: &[&'static str], clock: fn() -> DateTime<Utc>) -> Result<Posting, String> {
    let record = csv_record(line)?;
    if record.len() != columns.len() {
        return Err(format!("it has {} fields, the header {}", record.len(), columns.len()));
    }
    let field = |name: &str| {
        let index = columns.iter().position(|column| *column == name)?;
        record.get(index).filter(|value| !value.is_empty())
    };
    let needed = |name: &str| field(name).ok_or_else(|| format!("{name} is empty"));
    let text = |name: &str| field(name).map(str::to_owned);
    let integer = |name: &str, value: &str| {
        value.parse::<i64>().map_err(|_| format!("{name}: `{}` is not a whole number", shorten(value.to_owned())))
    };
    let time = |name: &str| {
        field(name)
            .map(|text| parse_time(&shorten(text.to_owned())))
            .transpose()
            .map_err(|why| format!("{name}: {why}"))
    };
    let op = needed("op")?;
    let op = Operation::parse(op).ok_or_else(|| {
        let ops = Operation::ALL.map(Operation::as_str).join(", ");
        format!("op: `{}` is none of {ops}", shorten(op.to_owned()))
    })?;
    let user = needed("user")?;
    let fields = PostingFields {
        op,
        user: Uuid::parse_str(user).map_err(|error| format!("user: {error}"))?,
        points: field("points").map(|value| integer("points", value)).transpose()?,
        source: text("source"),
        source_type: text("source_type"),
        source_id: text("source_id"),
        order_id: field("order_id").map(|value| integer("order_id", value)).transpose()?,
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
    };
    fields.into_posting(clock)
}
