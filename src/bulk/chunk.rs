//! Chunks of lines: sorted by account, cut into groups, answered in the order of the input.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::LineReply;
use super::reader::{Block, Line, Parser};
use crate::ledger::{Feed, GROUP_POSTINGS};

/// A group ends at so many bytes, so that long descriptions do not add up.
const GROUP_BYTES: usize = 256 << 10;

/// Replies are handed over in pieces of so many bytes.
const PIECE: usize = 64 << 10;

/// Lines that wait for their chunk.
#[derive(Default)]
pub struct Gathered {
    blocks: Vec<Block>,
    lines: usize,
    bytes: usize,
}

impl Gathered {
    pub fn push(&mut self, block: Block) {
        self.lines += block.len();
        self.bytes += block.bytes();
        self.blocks.push(block);
    }

    pub fn lines(&self) -> usize {
        self.lines
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A chunk that is being posted: for each lane the lines that are left, sorted by bucket and user. The lines of a user keep their order.
pub struct Chunk {
    blocks: Vec<Block>,
    parser: Option<Parser>,
    lanes: Vec<VecDeque<Place>>,
}

/// Where a line stands. Places are sorted by their fields in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    bucket: i16,
    user: Uuid,
    block: u32,
    line: u32,
    /// Its number among the lines of the chunk.
    nth: u32,
}

impl Chunk {
    pub fn new(gathered: Gathered, feed: &Feed) -> Chunk {
        let (blocks, buckets) = (gathered.blocks, feed.buckets());
        let mut lanes: Vec<Vec<Place>> = (0..feed.lanes()).map(|_| Vec::new()).collect();
        let lines = blocks
            .iter()
            .zip(0..)
            .flat_map(|(block, number)| (0..).zip(block.users()).map(move |(line, user)| (number, line, user)));
        for ((block, line, user), nth) in lines.zip(0..) {
            // A line without a user is refused, in any lane.
            let user = user.unwrap_or_default();
            if let Some(lane) = lanes.get_mut(feed.lane_of(user)) {
                lane.push(Place { bucket: buckets.of(user), user, block, line, nth });
            }
        }
        for lane in &mut lanes {
            lane.sort_unstable();
        }
        let parser = blocks.first().map(Block::parser);
        Chunk { blocks, parser, lanes: lanes.into_iter().map(VecDeque::from).collect() }
    }

    /// Whether all groups were taken.
    pub fn is_over(&self) -> bool {
        self.lanes.iter().all(VecDeque::is_empty)
    }

    /// The next group of a lane: each line with its number among the lines of the chunk. A group is of one bucket. A rest of less than half
    /// a group goes with the group before it.
    pub fn next_group(&mut self, lane: usize, clock: fn() -> DateTime<Utc>) -> Option<Vec<(u32, Line)>> {
        let (places, parser) = (self.lanes.get_mut(lane)?, self.parser.as_mut()?);
        let bucket = places.front()?.bucket;
        let left = places.iter().take(GROUP_POSTINGS * 3 / 2).take_while(|place| place.bucket == bucket).count();
        let size = if left < GROUP_POSTINGS * 3 / 2 { left } else { GROUP_POSTINGS };
        let (mut group, mut bytes) = (Vec::with_capacity(size), 0);
        while group.len() < size
            && bytes < GROUP_BYTES
            && let Some(place) = places.pop_front()
        {
            let (block, line) = (place.block as usize, place.line as usize);
            let Some(block) = self.blocks.get(block) else { continue };
            bytes += block.length(line);
            group.extend(block.parse(line, parser, clock).map(|line| (place.nth, line)));
        }
        Some(group)
    }
}

/// The replies to a chunk, as text. They wait until all are there.
pub struct Answers {
    /// For each line of the chunk: its number, and where its reply stands.
    answers: Vec<Answer>,
    /// The replies of each group.
    texts: Vec<Box<[u8]>>,
    /// Lines without a reply.
    missing: usize,
}

#[derive(Clone, Copy, Default)]
struct Answer {
    line: u64,
    group: u32,
    start: u32,
    end: u32,
}

impl Answers {
    /// For so many lines.
    pub fn new(lines: usize) -> Answers {
        Answers { answers: vec![Answer::default(); lines], texts: Vec::new(), missing: lines }
    }

    pub fn is_whole(&self) -> bool {
        self.missing == 0
    }

    /// Adds the replies to a group: each with the number of its line among those of the chunk. `scratch` is memory to write them in.
    pub fn add_group(
        &mut self,
        replies: impl Iterator<Item = (u32, LineReply)>,
        write: &mut impl FnMut(LineReply, &mut Vec<u8>),
        scratch: &mut Vec<u8>,
    ) {
        scratch.clear();
        let group = offset(self.texts.len());
        for (nth, reply) in replies {
            let Some(answer) = self.answers.get_mut(nth as usize) else { continue };
            let (line, start) = (reply.line, offset(scratch.len()));
            write(reply, scratch);
            *answer = Answer { line, group, start, end: offset(scratch.len()) };
            self.missing -= 1;
        }
        self.texts.push(scratch.as_slice().into());
    }

    /// The replies in the order of the lines, in pieces; with each the numbers of its first line and its last.
    pub fn pieces(self) -> impl Iterator<Item = (u64, u64, Vec<u8>)> {
        let mut answers = self.answers.into_iter().peekable();
        std::iter::from_fn(move || {
            let first = answers.peek()?.line;
            let (mut last, mut piece) = (first, Vec::new());
            while piece.len() < PIECE
                && let Some(Answer { line, group, start, end }) = answers.next()
            {
                let text = self.texts.get(group as usize).and_then(|text| text.get(start as usize..end as usize));
                piece.extend_from_slice(text.unwrap_or_default());
                last = line;
            }
            Some((first, last, piece))
        })
    }
}

/// A place in a text of a group, which is far shorter than 4 GiB.
fn offset(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
