//! Posts a file or a stream of lines: NDJSON, or CSV with a header. A bad line is rejected with its number and the reason; the other
//! lines are posted. Memory is bounded, however long the input or a line is.

mod csv;
mod json;
mod lines;

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use encoding_rs::Encoding;

pub use self::csv::is_delimiter;
pub use self::json::ReplyJson;

use self::csv::Csv;
use self::lines::{Lines, MAX_LINE, Piece, not_text};
use crate::fields::{COLUMNS, OPENING_COLUMNS, OpeningFields, Operation, PostingFields};
use crate::ledger::{self, Feed, GROUP_POSTINGS, Poster, Posting, Refusal, Reply};

/// A chunk ends at so many bytes, so that long descriptions do not add up.
const CHUNK_BYTES: usize = 2 << 20;

/// Chunks under way: one is posted, one waits behind it.
const CHUNKS_UNDER_WAY: usize = 2;

/// The longest reason for a malformed line, in characters: an unknown field's name may be as long as the line.
const LONGEST_REASON: usize = 300;

/// How the lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A JSON object a line.
    Ndjson,
    /// Comma-separated values under a header with the same names; an empty field is an absent one.
    Csv {
        /// The byte between fields, see [`is_delimiter`]; without one, what the header has: a comma, semicolon, tab or `|`.
        delimiter: Option<u8>,
    },
}

/// What each line of an input is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Content {
    /// A posting ([`PostingFields`]).
    #[default]
    Postings,
    /// What an account brings along from elsewhere ([`OpeningFields`]).
    Openings,
}

impl Content {
    fn columns(self) -> &'static [&'static str] {
        match self {
            Content::Postings => &COLUMNS,
            Content::Openings => &OPENING_COLUMNS,
        }
    }

    /// The columns that a header must name.
    fn needed_columns(self) -> [&'static str; 2] {
        match self {
            Content::Postings => ["op", "user"],
            Content::Openings => ["user", "points"],
        }
    }
}

/// The content, the format and the encoding of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// What the lines are.
    pub content: Content,
    /// How the lines are written.
    pub format: Format,
    /// The encoding of an input without a byte order mark; by default UTF-8.
    pub encoding: Option<&'static Encoding>,
}

impl From<Format> for Form {
    fn from(format: Format) -> Form {
        Form { content: Content::Postings, format, encoding: None }
    }
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

    fn count(&mut self, reply: &Reply) {
        match reply {
            Reply::Posted(_) => self.posted += 1,
            Reply::Held(_) => self.held += 1,
            Reply::Released(_) => self.released += 1,
            Reply::Replayed(_) | Reply::HeldBefore(_) | Reply::ReleasedBefore(_) => self.replayed += 1,
            Reply::Rejected(refusal) => *self.rejected.entry(refusal.code()).or_default() += 1,
        }
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
    #[error("line {line}, the CSV header: {why}")]
    Header {
        /// Its line.
        line: u64,
        /// What is wrong.
        why: String,
    },
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
    #[error("the replies from line {line} on cannot be written")]
    Output {
        /// The line of the first of them.
        line: u64,
        /// Why.
        source: std::io::Error,
    },
}

/// Posts every line of `input` and hands the replies to `on_replies`, some at a time, in the order of the lines. While it waits, no
/// more lines are read.
///
/// `clock` gives the effective time of lines without one. After `stop` is cancelled no more lines are read, and the groups under way
/// are finished.
///
/// `input` is read by a blocking task of the runtime. A read from a terminal or a pipe may never return, so a program that
/// posts from one should end its runtime with `shutdown_background`: dropping the runtime waits for that task.
///
/// # Errors
/// See [`Error`].
pub async fn post<Taken: Future<Output = std::io::Result<()>>>(
    input: impl Read + Send + 'static,
    form: impl Into<Form>,
    poster: &Poster,
    clock: fn() -> DateTime<Utc>,
    stop: &CancellationToken,
    mut on_replies: impl FnMut(Vec<LineReply>) -> Taken,
) -> Result<Summary, Error> {
    let mut chunks = start_reader(input, form.into(), clock);
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
                let replies = answer(lines, replies, &mut summary);
                let first = replies.first().map_or(summary.last_line, |reply| reply.line);
                on_replies(replies).await.map_err(|source| Error::Output { line: first, source })?;
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
    form: Form,
    clock: fn() -> DateTime<Utc>,
) -> mpsc::Receiver<FromReader> {
    let (sender, chunks) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        let end = read_chunks(input, form, clock, &sender);
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

/// Joins lines with their replies, and counts them.
fn answer(lines: HandedOver, replies: Vec<Reply>, summary: &mut Summary) -> Vec<LineReply> {
    let mut replies = replies.into_iter();
    let mut answered = Vec::with_capacity(lines.len());
    for (line, user) in lines {
        let (user, reply) = match user {
            Ok(user) => (Some(user), replies.next()),
            Err(refusal) => (None, Some(Reply::Rejected(refusal))),
        };
        let Some(reply) = reply else { break };
        summary.count(&reply);
        summary.last_line = line;
        answered.push(LineReply { line, user, reply });
    }
    answered
}

/// What the reading task sends.
pub(crate) enum FromReader {
    Lines(Vec<Line>),
    /// Always the last message; if it is missing, the task panicked.
    End(Result<(), Error>),
}

/// Lines that are posted together.
#[derive(Default)]
struct Chunk {
    lines: Vec<Line>,
    /// How long the lines are that could be posted.
    bytes: usize,
}

impl Chunk {
    fn push(&mut self, number: u64, posting: Result<Posting, String>) {
        self.lines.push(Line { number, posting: posting.map_err(|why| Refusal::Malformed(shorten(why))) });
    }

    /// Sends the lines. False if the receiver was dropped.
    fn send(&mut self, chunks: &mpsc::Sender<FromReader>) -> bool {
        let Chunk { lines, .. } = std::mem::take(self);
        chunks.blocking_send(FromReader::Lines(lines)).is_ok()
    }
}

/// Reads lines into chunks until the input ends or the receiver is dropped.
fn read_chunks(
    input: impl Read,
    form: Form,
    clock: fn() -> DateTime<Utc>,
    chunks: &mpsc::Sender<FromReader>,
) -> Result<(), Error> {
    let cr_ends = matches!(form.format, Format::Csv { .. });
    let lines = Lines::new(input, form.encoding, cr_ends);
    let mut lines = lines.map_err(|source| Error::Input { after: 0, source })?;
    let mut csv = match form.format {
        Format::Ndjson => None,
        Format::Csv { delimiter } => Some(Csv::begin(&mut lines, form.content, delimiter)?),
    };
    let encoding = lines.encoding;
    let mut chunk = Chunk::default();
    loop {
        match (lines.next(), &mut csv) {
            (Ok(Some(piece)), None) => take_json(&piece, form.content, encoding, clock, &mut chunk),
            (Ok(Some(piece)), Some(csv)) => csv.take(&piece, clock, &mut chunk),
            // Lines before the end or the error are posted all the same.
            (Ok(None), csv) => {
                if let Some(csv) = csv {
                    csv.finish(&mut chunk);
                }
                chunk.send(chunks);
                return Ok(());
            }
            (Err(source), csv) => {
                chunk.send(chunks);
                let after = csv.as_ref().map_or(lines.number, Csv::last_whole);
                return Err(Error::Input { after, source });
            }
        }
        // A full chunk is sent. So is any chunk when the next line is not buffered yet: the producer may wait for its replies before
        // it writes more.
        let full = chunk.lines.len() >= 2 * GROUP_POSTINGS || chunk.bytes >= CHUNK_BYTES;
        let may_wait = !chunk.lines.is_empty() && !lines.has_next();
        if (full || may_wait) && !chunk.send(chunks) {
            return Ok(());
        }
    }
}

fn take_json(
    piece: &Piece<'_>,
    content: Content,
    encoding: Option<&'static Encoding>,
    clock: fn() -> DateTime<Utc>,
    chunk: &mut Chunk,
) {
    if piece.continued {
        return;
    }
    if piece.long {
        return chunk.push(piece.number, Err(format!("the line is longer than {MAX_LINE} bytes")));
    }
    let line = piece.bytes;
    if !line.trim_ascii().is_empty() {
        chunk.bytes += line.len();
        let posting = match content {
            Content::Postings => read_json(line, encoding, None, clock),
            Content::Openings => read_opening(line, encoding, clock),
        };
        chunk.push(piece.number, posting);
    }
}

fn shorten(why: String) -> String {
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
