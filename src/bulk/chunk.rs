//! Chunks of lines: sorted by account, cut into groups, answered in the order of the input.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::LineReply;
use super::reader::{Block, Line, Parser};
use crate::ledger::{Feed, GROUP_POSTINGS};

/// A group ends at so many bytes, so that long descriptions do not add up.
const GROUP_BYTES: usize = 256 << 10;

/// Lines of the first groups of a lane. How large replies are is not known yet.
const FIRST_LINES: usize = 32;

/// Allocations that the replies to a group should have at most. In memory and as JSON they take a MiB each.
const GROUP_ALLOCATIONS: usize = 32 * GROUP_POSTINGS;

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

/// How many lines the next group of a lane should have: the more allocations replies had lately, the fewer.
#[derive(Clone, Copy)]
pub struct GroupSize(usize);

impl GroupSize {
    pub fn first() -> GroupSize {
        GroupSize(FIRST_LINES)
    }

    /// After a group with so many lines, and allocations in its replies. It grows step by step, because replies to one account may be
    /// small and those to the next one large.
    pub fn after(self, lines: usize, allocations: usize) -> GroupSize {
        let fitting = GROUP_ALLOCATIONS * lines / allocations.max(1);
        GroupSize(fitting.min(self.0 * 2).clamp(1, GROUP_POSTINGS))
    }
}

/// A chunk that is being posted: for each lane the lines that are left, sorted by bucket and user. The lines of a user keep their order.
pub struct Chunk {
    blocks: Vec<Block>,
    parser: Option<Parser>,
    lanes: Vec<VecDeque<Place>>,
    /// The lines that are left are in the order of the input.
    in_order: bool,
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
        Chunk { blocks, parser, lanes: lanes.into_iter().map(VecDeque::from).collect(), in_order: false }
    }

    /// Whether all groups were taken.
    pub fn is_over(&self) -> bool {
        self.lanes.iter().all(VecDeque::is_empty)
    }

    /// From now on, lines are taken in the order of the input. Those of a user are in this order already. Returns the lane of the first one.
    pub fn order(&mut self) -> Option<usize> {
        if !std::mem::replace(&mut self.in_order, true) {
            for lane in &mut self.lanes {
                lane.make_contiguous().sort_unstable_by_key(|place| place.nth);
            }
        }
        let first = self.lanes.iter().enumerate().filter_map(|(lane, places)| Some((places.front()?.nth, lane)));
        first.min().map(|(_, lane)| lane)
    }

    /// The next group of a lane: each line with its number among the lines of the chunk. A group is of one bucket, unless lines are taken
    /// in the order of the input. A rest of less than half a group goes with the group before it.
    pub fn next_group(
        &mut self,
        lane: usize,
        GroupSize(most): GroupSize,
        clock: fn() -> DateTime<Utc>,
    ) -> Option<Vec<(u32, Line)>> {
        let (places, parser) = (self.lanes.get_mut(lane)?, self.parser.as_mut()?);
        let bucket = places.front()?.bucket;
        let belongs = |place: &&Place| self.in_order || place.bucket == bucket;
        let with_rest = most.saturating_mul(3).div_ceil(2);
        let left = places.iter().take(with_rest).take_while(belongs).count();
        let size = if left < with_rest { left } else { most };
        let (mut group, mut bytes) = (Vec::with_capacity(size), 0);
        while group.len() < size
            && bytes < GROUP_BYTES
            && places.front().is_some_and(|place| belongs(&place))
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

/// The replies to a chunk, as text. They wait for those to earlier lines.
pub struct Answers {
    /// For each line of the chunk: its number, and where its reply stands.
    answers: Vec<Answer>,
    /// The number of the first one that was not handed over.
    next: usize,
    groups: Vec<Texts>,
    /// How long the texts are.
    bytes: usize,
}

/// Without a reply, the line is 0.
#[derive(Clone, Copy, Default)]
struct Answer {
    line: u64,
    group: u32,
    start: u32,
    end: u32,
}

/// The replies to a group.
struct Texts {
    text: Box<[u8]>,
    /// How many were not handed over. After the last one, the text is empty.
    left: usize,
}

impl Answers {
    /// For so many lines.
    pub fn new(lines: usize) -> Answers {
        Answers { answers: vec![Answer::default(); lines], next: 0, groups: Vec::new(), bytes: 0 }
    }

    /// How much memory the replies take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether all were handed over.
    pub fn is_over(&self) -> bool {
        self.next >= self.answers.len()
    }

    /// Whether the next one can be handed over.
    pub fn is_ready(&self) -> bool {
        self.ready().is_some()
    }

    fn ready(&self) -> Option<Answer> {
        self.answers.get(self.next).copied().filter(|answer| answer.line > 0)
    }

    /// Adds the replies to a group: each with the number of its line among those of the chunk. `scratch` is memory to write them in.
    pub fn add_group(
        &mut self,
        replies: impl Iterator<Item = (u32, LineReply)>,
        write: &mut impl FnMut(LineReply, &mut Vec<u8>),
        scratch: &mut Vec<u8>,
    ) {
        scratch.clear();
        let (group, mut left) = (offset(self.groups.len()), 0);
        for (nth, reply) in replies {
            let Some(answer) = self.answers.get_mut(nth as usize) else { continue };
            let (line, start) = (reply.line, offset(scratch.len()));
            write(reply, scratch);
            *answer = Answer { line, group, start, end: offset(scratch.len()) };
            left += 1;
        }
        self.bytes += scratch.len();
        self.groups.push(Texts { text: scratch.as_slice().into(), left });
    }

    /// The next replies in the order of the lines, with the numbers of the first line and the last. None if an earlier one is missing.
    pub fn next_piece(&mut self) -> Option<(u64, u64, Vec<u8>)> {
        let first = self.ready()?.line;
        let (mut last, mut piece) = (first, Vec::new());
        while piece.len() < PIECE
            && let Some(Answer { line, group, start, end }) = self.ready()
        {
            (self.next, last) = (self.next + 1, line);
            let Some(group) = self.groups.get_mut(group as usize) else { continue };
            piece.extend_from_slice(group.text.get(start as usize..end as usize).unwrap_or_default());
            group.left = group.left.saturating_sub(1);
            if group.left == 0 {
                self.bytes -= std::mem::take(&mut group.text).len();
            }
        }
        Some((first, last, piece))
    }
}

/// A place in a text of a group, which is far shorter than 4 GiB.
fn offset(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
