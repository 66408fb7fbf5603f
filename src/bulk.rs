//! Posts a file or a stream of lines: NDJSON, or CSV with a header. A bad line is rejected with its number and the reason; the other
//! lines are posted. Memory is bounded, however long the input or a line is.

mod chunk;
mod csv;
mod json;
mod lines;
mod reader;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::io::Read;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use chrono::{DateTime, Utc};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use encoding_rs::Encoding;

pub use self::csv::is_delimiter;
pub use self::json::ReplyJson;
pub use self::reader::parse_json;
pub(crate) use self::reader::{FromReader, Line, start_reader};

use self::chunk::{Answers, Chunk, Gathered, GroupSize};
use crate::fields::{COLUMNS, OPENING_COLUMNS};
use crate::ledger::{self, Answer, Feed, GROUP_POSTINGS, Poster, Reply};

/// How many lines of a file are sorted together, see [`Form::sorted`]. With 64 buckets that is a thousand lines for each: a full group.
/// Measured with 120,000 consumes over 60,000 accounts on one server: with 16,000, 32,000 and 64,000 lines it works 51, 45 and 41 µs for each;
/// the nodes of a cluster 80, 64 and 53. The lines and replies of a chunk then have 11 to 15 MB more.
const SORTED: usize = 64_000;

/// A chunk ends at so many bytes, so that long lines do not add up.
const CHUNK_BYTES: usize = 12 << 20;

/// Groups of a lane under way: one is posted, one waits behind it.
const GROUPS_UNDER_WAY: usize = 2;

/// Chunks of which lines are posted and not answered yet, at most.
const CHUNKS_UNDER_WAY: usize = 2;

/// Bytes of replies that may wait for earlier ones, for each line of a chunk. Ordinary replies have two thirds of it. Where more wait, only the
/// lines that they wait for are posted.
const WAITING_BYTES: usize = 1 << 9;

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
    /// A posting ([`PostingFields`](crate::fields::PostingFields)).
    #[default]
    Postings,
    /// What an account brings along from elsewhere ([`OpeningFields`](crate::fields::OpeningFields)).
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

/// What an input is, and how it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// What the lines are.
    pub content: Content,
    /// How the lines are written.
    pub format: Format,
    /// The encoding of an input without a byte order mark; by default UTF-8.
    pub encoding: Option<&'static Encoding>,
    /// How many lines, at most, are sorted by account and posted together as a chunk; by default 64,000. The more, the less work for the
    /// database. Their replies wait in memory for those to earlier lines. An input that waits for replies has smaller chunks.
    pub sorted: usize,
}

impl From<Format> for Form {
    fn from(format: Format) -> Form {
        Form { content: Content::Postings, format, encoding: None, sorted: SORTED }
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

/// Why posting ended before the end of the input. Lines after the last one that was answered may be posted, too. Posting the same input
/// again from its start is safe: posted lines replay.
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
    #[error("{}{}", answered(*through), if *through > 0 { "; the lines after them have not" } else { "" })]
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

/// Which lines have been answered, in words, by the last one of them.
pub(crate) fn answered(last_line: u64) -> String {
    match last_line {
        0 => "no line has been answered".to_owned(),
        last => format!("lines 1 to {last} have been answered"),
    }
}

/// Posts every line of `input` and hands the replies to `on_replies` as text, some at a time, in the order of the lines. While it waits,
/// no more lines are read.
///
/// `write` makes the text of a reply, as soon as the line is posted: in the order of the lines within an account only. A text waits for
/// those to earlier lines of its chunk. Where many long ones wait, lines are posted in the order of the input, which is slower.
///
/// `clock` gives the effective time of lines without one. After `stop` is cancelled no more lines are read, and the chunk under way is
/// finished.
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
    write: impl FnMut(LineReply, &mut Vec<u8>),
    on_replies: impl FnMut(Vec<u8>) -> Taken,
) -> Result<Summary, Error> {
    let form = form.into();
    post_blocks(start_reader(input, form), form.sorted, poster.feed(), clock, stop, write, on_replies).await
}

/// Posts the lines of blocks, `sorted` of them at most as a chunk. See [`post`].
async fn post_blocks<Taken: Future<Output = std::io::Result<()>>>(
    mut blocks: mpsc::Receiver<FromReader>,
    sorted: usize,
    feed: Feed,
    clock: fn() -> DateTime<Utc>,
    stop: &CancellationToken,
    write: impl FnMut(LineReply, &mut Vec<u8>),
    mut on_replies: impl FnMut(Vec<u8>) -> Taken,
) -> Result<Summary, Error> {
    // The first chunk is cut by them, too.
    feed.learn_buckets().await;
    let mut work = Work::new(feed, sorted, clock, write);
    let mut failure = None;
    let mut reading = true;
    // The lines that are read while a chunk is posted are the next one. So a slow producer has its replies at once, and the chunks of a fast
    // one are full.
    let mut gathered = Gathered::default();
    loop {
        work.fill_lanes(&mut gathered).await;
        if work.failure.is_some() {
            (reading, gathered) = (false, Gathered::default());
        }
        if let Some((first, last, text)) = work.next_piece() {
            if !text.is_empty() {
                on_replies(text).await.map_err(|source| Error::Output { line: first, source })?;
            }
            work.summary.last_line = last;
            // There may be room for a group now. Without one under way, nothing else would begin it.
            continue;
        }
        let has_room = gathered.lines() < sorted.max(1) && gathered.bytes() < CHUNK_BYTES;
        tokio::select! {
            biased;
            () = stop.cancelled(), if reading || gathered.lines() > 0 => {
                work.summary.stopped = true;
                // What was read and not begun is as if it had not been read, and so is the end of the input.
                (reading, gathered, failure) = (false, Gathered::default(), None);
            }
            Some((group, replies)) = work.next_replies() => {
                work.take_replies(group, replies);
            }
            read = blocks.recv(), if reading && has_room => match read {
                Some(FromReader::Lines(block)) => gathered.push(block),
                Some(FromReader::End(end)) => {
                    failure = end.err();
                    reading = false;
                }
                None => {
                    let source = std::io::Error::other("the task that reads it panicked");
                    failure = Some(Error::Input { after: work.summary.last_line, source });
                    reading = false;
                }
            },
            else => break,
        }
    }
    let Work { summary, failure: lost, .. } = work;
    match (lost, failure) {
        (Some(source), _) => Err(Error::Ledger { through: summary.last_line, source }),
        (None, Some(error)) => Err(error),
        (None, None) => Ok(summary),
    }
}

/// The chunk under way, and the replies that are awaited.
struct Work<W> {
    feed: Feed,
    clock: fn() -> DateTime<Utc>,
    write: W,
    /// Memory for `write`.
    scratch: Vec<u8>,
    /// What is left of the chunk whose groups are handed over.
    chunk: Option<Chunk>,
    lanes: Vec<Lane>,
    /// The replies to the chunks that are not answered yet.
    answers: VecDeque<Answers>,
    /// How many bytes of them may wait.
    most_waiting: usize,
    /// The number of the first of these chunks.
    first: usize,
    summary: Summary,
    /// Why a group was lost. Nothing more is handed over then.
    failure: Option<Arc<ledger::Error>>,
}

/// The groups of a lane that were handed over, and the size of its next one.
struct Lane {
    groups: VecDeque<HandedOver>,
    size: GroupSize,
}

/// A group that was handed over.
struct HandedOver {
    /// The number of its chunk.
    chunk: usize,
    /// Of each line: its number in the chunk and in the input, and its user.
    lines: Vec<(u32, u64, Uuid)>,
    replies: Answer,
}

impl<W: FnMut(LineReply, &mut Vec<u8>)> Work<W> {
    /// For chunks of at most so many lines.
    fn new(feed: Feed, lines: usize, clock: fn() -> DateTime<Utc>, write: W) -> Work<W> {
        let lane = |_| Lane { groups: VecDeque::new(), size: GroupSize::first() };
        Work {
            lanes: (0..feed.lanes()).map(lane).collect(),
            feed,
            clock,
            write,
            scratch: Vec::new(),
            chunk: None,
            answers: VecDeque::new(),
            // The last block of a chunk may be a whole group too much.
            most_waiting: lines.saturating_add(GROUP_POSTINGS).saturating_mul(WAITING_BYTES),
            first: 0,
            summary: Summary::default(),
            failure: None,
        }
    }

    /// Hands over groups until each lane has enough of them.
    async fn fill_lanes(&mut self, gathered: &mut Gathered) {
        while let Some((lane, group)) = self.next_group(gathered) {
            self.hand_over(lane, group).await;
        }
    }

    /// A group for a lane that has room. When the chunk is over, what was gathered is the next one. Where too many replies wait, one group
    /// after the other is taken, each with the first of the lines that are left: it is the one that the replies wait for.
    fn next_group(&mut self, gathered: &mut Gathered) -> Option<(usize, Vec<(u32, Line)>)> {
        let is_crowded = self.answers.iter().map(Answers::bytes).sum::<usize>() > self.most_waiting;
        let is_idle = self.lanes.iter().all(|lane| lane.groups.is_empty());
        let is_ready = self.answers.front().is_some_and(Answers::is_ready);
        let room = self.lanes.iter().enumerate().filter(|(_, lane)| lane.groups.len() < GROUPS_UNDER_WAY);
        let mut room = room.map(|(nth, lane)| (nth, lane.size)).peekable();
        if self.failure.is_some() || room.peek().is_none() || is_crowded && (is_ready || !is_idle) {
            return None;
        }
        let chunk = match &mut self.chunk {
            Some(chunk) => chunk,
            // What was posted and waits for earlier replies must not grow with the input.
            None if gathered.lines() == 0 || self.answers.len() >= CHUNKS_UNDER_WAY => return None,
            none => {
                let gathered = std::mem::take(gathered);
                self.answers.push_back(Answers::new(gathered.lines()));
                none.insert(Chunk::new(gathered, &self.feed))
            }
        };
        let first = if is_crowded { chunk.order() } else { None };
        let mut room = room.filter(|(lane, _)| first.is_none_or(|first| first == *lane));
        let next = room.find_map(|(lane, size)| Some((lane, chunk.next_group(lane, size, self.clock)?)));
        if chunk.is_over() {
            self.chunk = None;
        }
        next
    }

    /// Hands over the postings of a group. Lines that are none are answered.
    async fn hand_over(&mut self, lane: usize, group: Vec<(u32, Line)>) {
        let chunk = self.first + self.answers.len() - 1;
        let (mut lines, mut postings, mut refused) =
            (Vec::with_capacity(group.len()), Vec::with_capacity(group.len()), Vec::new());
        for (nth, Line { number, posting }) in group {
            match posting {
                Ok(posting) => {
                    lines.push((nth, number, posting.user));
                    postings.push(posting);
                }
                Err(refusal) => {
                    refused.push((nth, LineReply { line: number, user: None, reply: Reply::Rejected(refusal) }));
                }
            }
        }
        self.answer(chunk, refused);
        if postings.is_empty() {
            return;
        }
        match (self.feed.hand_over_group(lane, postings).await, self.lanes.get_mut(lane)) {
            (Ok(replies), Some(lane)) => lane.groups.push_back(HandedOver { chunk, lines, replies }),
            (Ok(_), None) => {}
            (Err(error), _) => self.fail(error),
        }
    }

    /// The next group that is posted or lost; of a lane, they come in their order. None if no group is under way.
    async fn next_replies(&mut self) -> Option<(HandedOver, Result<Vec<Reply>, Arc<ledger::Error>>)> {
        poll_fn(|context| {
            let mut idle = true;
            for Lane { groups, size } in &mut self.lanes {
                let Some(group) = groups.front_mut() else { continue };
                idle = false;
                if let Poll::Ready(replies) = Pin::new(&mut group.replies).poll(context) {
                    let allocations = replies.iter().flatten().map(Reply::allocations).sum();
                    *size = size.after(group.lines.len(), allocations);
                    return Poll::Ready(groups.pop_front().map(|group| (group, replies)));
                }
            }
            if idle { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }

    fn take_replies(&mut self, group: HandedOver, replies: Result<Vec<Reply>, Arc<ledger::Error>>) {
        let HandedOver { chunk, lines, .. } = group;
        match replies {
            Ok(replies) => {
                let replies = lines.into_iter().zip(replies);
                let replies =
                    replies.map(|((nth, line, user), reply)| (nth, LineReply { line, user: Some(user), reply }));
                self.answer(chunk, replies);
            }
            Err(error) => self.fail(error),
        }
    }

    /// Writes replies to lines of a chunk.
    fn answer(&mut self, chunk: usize, replies: impl IntoIterator<Item = (u32, LineReply)>) {
        let Some(answers) = self.answers.get_mut(chunk - self.first) else { return };
        let group = replies.into_iter().map(|(nth, reply)| {
            self.summary.count(&reply.reply);
            (nth, reply)
        });
        answers.add_group(group, &mut self.write, &mut self.scratch);
    }

    fn fail(&mut self, error: Arc<ledger::Error>) {
        // Once a group was lost, the later ones are stopped for that reason.
        if self.failure.as_deref().is_none_or(|error| matches!(error, ledger::Error::Stopped)) {
            self.failure = Some(error);
        }
        self.chunk = None;
    }

    /// The next replies in the order of the lines, see [`Answers::next_piece`].
    fn next_piece(&mut self) -> Option<(u64, u64, Vec<u8>)> {
        let answers = self.answers.front_mut()?;
        let piece = answers.next_piece()?;
        if answers.is_over() {
            self.answers.pop_front();
            self.first += 1;
        }
        Some(piece)
    }
}
