//! Posts lines while a model of the poster does all that can happen, in any order: lines come, groups are answered or lost, replies are
//! read or not, a stop comes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::ready;
use std::io::{self, Read};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use chrono::{DateTime, Utc};
use fastrand::Rng;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::reader::{FromReader, read_blocks};
use super::{Error, Form, Format, LineReply, Summary, WAITING_BYTES, post_blocks};
use crate::ledger::{self, GROUP_POSTINGS, HandedOver, Hands, Posting, Refusal, Reply};

const LANES: usize = 3;

/// How long a long reply is.
const LONG: usize = 3_000;

/// An input that comes in pieces of any size, and may break off.
struct Pieces<'a> {
    text: &'a [u8],
    rng: Rng,
    breaks: bool,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.text.is_empty() && self.breaks {
            return Err(io::Error::other("it broke off"));
        }
        let most = if self.rng.bool() { buffer.len() } else { buffer.len().min(self.rng.usize(1..1_500)) };
        self.text.read(&mut buffer[..most])
    }
}

/// Lines of a few accounts, and the reply that each should have. A posting names the number of its line.
fn lines(rng: &mut Rng) -> (String, Vec<String>) {
    let count = if rng.u8(0..5) == 0 { rng.usize(0..5_000) } else { rng.usize(0..150) };
    let (users, postings) = (rng.u8(1..40), *rng.choice(&[0, 3, 50, 95, 100]).unwrap());
    // Long lines cut groups and chunks short.
    let padding = if count < 60 && rng.bool() { 100_000 } else { 1 };
    let (mut text, mut replies) = (String::new(), Vec::new());
    for number in 1..=count {
        let user = Uuid::from_u128(u128::from(rng.u8(0..users)) << 64);
        let padding = " ".repeat(rng.usize(0..padding));
        let posting = format!(r#"{{"op":"release","user":"{user}","of":"{number}"}}{padding}"#);
        let (line, reply) = match rng.u8(0..100) {
            nth if nth < postings => (posting, Some(format!("{number} is {number}"))),
            99 => (padding, None),
            98 => (format!(r#"{{"user":"{user}"}}"#), Some(format!("{number} is malformed"))),
            _ => ("malformed".to_owned(), Some(format!("{number} is malformed"))),
        };
        text += &(line + "\n");
        replies.extend(reply);
    }
    (text, replies)
}

/// Something that happens.
enum Event {
    BlockCame,
    GroupEnded,
    RepliesWereRead,
    StopCame,
}

/// All that is around the posting of lines.
struct World {
    rng: Rng,
    /// What is still to come from the input.
    blocks: VecDeque<FromReader>,
    sender: mpsc::Sender<FromReader>,
    lanes: Hands,
    groups: [VecDeque<HandedOver>; LANES],
    stop: CancellationToken,
    stops: bool,
    fails: bool,
    output_fails: bool,
    /// Users before this one have long replies.
    long: u8,
    /// A group was lost.
    failed: bool,
    /// The last posting of each user that was handed over.
    last: HashMap<Uuid, u64>,
    postings: usize,
    lines: usize,
}

impl World {
    /// Takes the groups that were handed over. Returns the numbers of their lines.
    fn take_groups(&mut self) -> Vec<Vec<u64>> {
        let mut taken = Vec::new();
        for (lane, groups) in self.groups.iter_mut().enumerate() {
            while let Some((postings, replies)) = self.lanes.take(lane) {
                for posting in &postings {
                    let number = number(posting);
                    let before = self.last.insert(posting.user, number);
                    assert!(before < Some(number), "the postings of {} change their order", posting.user);
                }
                self.postings += postings.len();
                taken.push(postings.iter().map(number).collect());
                groups.push_back((postings, replies));
            }
        }
        taken
    }

    /// Something that can happen now.
    fn next_event(&mut self, replies_wait: bool) -> Option<Event> {
        let mut events = Vec::new();
        if self.sender.capacity() > 0 && !self.sender.is_closed() && !self.blocks.is_empty() {
            events.extend([Event::BlockCame, Event::BlockCame]);
        }
        if self.groups.iter().any(|groups| !groups.is_empty()) {
            events.push(Event::GroupEnded);
        }
        if replies_wait {
            events.push(Event::RepliesWereRead);
        }
        if self.stops && !self.stop.is_cancelled() && self.rng.u8(0..30) == 0 {
            events.push(Event::StopCame);
        }
        (!events.is_empty()).then(|| events.swap_remove(self.rng.usize(0..events.len())))
    }

    /// Answers the next group of a lane: the first lane is much slower than the last.
    fn end_group(&mut self) {
        let first_waits = self.rng.u8(0..20) != 0;
        let busy = |groups: &&mut VecDeque<HandedOver>| !groups.is_empty();
        let lane = match first_waits {
            true => self.groups.iter_mut().rev().find(busy),
            false => self.groups.iter_mut().find(busy),
        };
        let Some((postings, place)) = lane.and_then(VecDeque::pop_front) else { return };
        let reply = |posting| Reply::Rejected(Refusal::AccountDamaged(number(&posting).to_string()));
        let lost = self.fails && self.rng.u8(0..5) == 0;
        self.failed |= lost;
        let replies = match lost {
            true => Err(Arc::new(ledger::Error::LostRace)),
            false => Ok(postings.into_iter().map(reply).collect()),
        };
        let _ = place.send(replies);
    }
}

fn number(posting: &Posting) -> u64 {
    match posting.reference() {
        Some(ledger::Reference::Key(key)) => key.parse().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Posts what comes in the world, of which these replies are expected. Returns the replies, too.
fn post(
    world: &mut World,
    sorted: usize,
    blocks: mpsc::Receiver<FromReader>,
    expected: &[String],
) -> (Vec<String>, Result<Summary, Error>) {
    let (poster, lanes) = Hands::poster(LANES, *world.rng.choice(&[1, 4, 256]).unwrap());
    world.lanes = lanes;
    let (answers, waiting) = (RefCell::new(Vec::new()), RefCell::new(None));
    let (written, handed_over, long) = (Cell::new(0), Cell::new(0), u128::from(world.long) << 64);
    let write = |LineReply { line, user, reply }: LineReply, out: &mut Vec<u8>| {
        let what = match reply {
            Reply::Rejected(Refusal::AccountDamaged(key)) => key,
            _ => "malformed".to_owned(),
        };
        let length = if user.is_some_and(|user| user.as_u128() < long) { LONG } else { 0 };
        let text = format!("{line} is {what:length$}\n");
        written.set(written.get() + text.len());
        out.extend(text.into_bytes());
    };
    let on_replies = |text: Vec<u8>| {
        let text = std::str::from_utf8(&text).unwrap();
        handed_over.set(handed_over.get() + text.len());
        answers.borrow_mut().extend(text.lines().map(|line| line.trim_end().to_owned()));
        let (read, is_read) = oneshot::channel::<io::Result<()>>();
        *waiting.borrow_mut() = Some(read);
        async { is_read.await.unwrap() }
    };
    let stop = world.stop.clone();
    let clock = DateTime::<Utc>::default;
    let mut posting = pin!(post_blocks(blocks, sorted, poster.feed(), clock, &stop, write, on_replies));
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Arc::clone(&woken).into();
    let ended = loop {
        let (answered, wait) = (answers.borrow().len(), written.get() - handed_over.get());
        let is_crowded = wait > (sorted + GROUP_POSTINGS) * WAITING_BYTES && waiting.borrow().is_none();
        if woken.0.swap(false, Ordering::SeqCst)
            && let Poll::Ready(ended) = posting.as_mut().poll(&mut Context::from_waker(&waker))
        {
            break ended;
        }
        let taken = world.take_groups();
        if is_crowded && let [first, others @ ..] = &taken[..] {
            let under_way: usize = world.groups.iter().map(VecDeque::len).sum();
            assert!(others.is_empty() && under_way == 1, "{under_way} groups are under way while many replies wait");
            let (number, what) = expected[answered].split_once(" is ").unwrap();
            let is_awaited = what == "malformed" || first.contains(&number.parse().unwrap());
            assert!(is_awaited, "line {number} is waited for, and others are posted");
        }
        let in_memory = world.lines - answers.borrow().len().min(world.lines);
        assert!(in_memory <= 4 * (sorted + GROUP_POSTINGS), "{in_memory} lines are in memory");
        let Some(event) = world.next_event(waiting.borrow().is_some()) else {
            assert!(woken.0.load(Ordering::SeqCst), "it stands still; {} blocks are left", world.blocks.len());
            continue;
        };
        match event {
            Event::BlockCame => {
                let block = world.blocks.pop_front().unwrap();
                if let FromReader::Lines(block) = &block {
                    world.lines += block.len();
                }
                world.sender.try_send(block).expect("there is room");
            }
            Event::GroupEnded => world.end_group(),
            Event::RepliesWereRead => {
                let fails = world.output_fails && world.rng.u8(0..5) == 0;
                let read = if fails { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) };
                waiting.take().unwrap().send(read).unwrap();
            }
            Event::StopCame => stop.cancel(),
        }
    };
    (answers.take(), ended)
}

fn post_in_any_order(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let (text, expected) = lines(&mut rng);
    let long = *rng.choice(&[0, 1, 20]).unwrap();
    let [breaks, stops, fails, output_fails] = [(); 4].map(|()| rng.u8(0..4) == 0);
    let sorted = *rng.choice(&[1, 30, 300, 64_000]).unwrap();
    let (all, mut blocks) = mpsc::channel(10_000);
    let form = Form { sorted, ..Form::from(Format::Ndjson) };
    let end = read_blocks(Pieces { text: text.as_bytes(), rng: rng.fork(), breaks }, form, &all);
    all.try_send(FromReader::End(end)).expect("there is room");
    let (sender, receiver) = mpsc::channel(1);
    let mut world = World {
        rng,
        blocks: std::iter::from_fn(|| blocks.try_recv().ok()).collect(),
        sender,
        lanes: Hands::poster(0, 1).1,
        groups: Default::default(),
        stop: CancellationToken::new(),
        stops,
        fails,
        output_fails,
        long,
        failed: false,
        last: HashMap::new(),
        postings: 0,
        lines: 0,
    };
    let (answers, ended) = post(&mut world, sorted, receiver, &expected);
    let last = answers.last().map_or(0, |line| line.split(' ').next().unwrap().parse().unwrap());
    assert!(answers.iter().eq(expected.iter().take(answers.len())), "other replies: {answers:?}");
    match ended {
        Ok(summary) => {
            assert!(!world.failed, "a failure counts as a success");
            assert!(summary.stopped || !breaks && answers.len() == expected.len(), "lines have no reply");
            let posted = answers.iter().filter(|line| !line.ends_with("malformed")).count();
            assert_eq!(world.postings, posted, "postings have no reply");
            assert_eq!((summary.last_line, summary.lines()), (last, answers.len() as u64));
        }
        Err(Error::Ledger { through, .. }) => assert!(world.failed && through == last),
        Err(Error::Input { .. }) => assert!(breaks && answers.len() == expected.len(), "lines have no reply"),
        Err(Error::Output { line, .. }) => assert!(output_fails && line <= last),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn each_line_is_answered_in_its_turn_whatever_happens_when() {
    let seeds = match std::env::var("POINTSD_TEST_SEED") {
        Ok(seed) => vec![seed.parse().expect("POINTSD_TEST_SEED is a number")],
        Err(_) => std::iter::repeat_with(|| fastrand::u64(..)).take(500).collect(),
    };
    for seed in seeds {
        eprintln!("POINTSD_TEST_SEED={seed}");
        post_in_any_order(seed);
    }
}

/// An input of which each read is a line.
struct LineByLine<'a>(&'a [u8]);

impl Read for LineByLine<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let line = self.0.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default().len();
        let most = line.min(buffer.len());
        self.0.read(&mut buffer[..most])
    }
}

#[test]
fn a_stop_begins_no_chunk_of_an_input_that_was_read_to_its_end() {
    let line = format!(r#"{{"op":"release","user":"{}","of":"1"}}"#, Uuid::nil()) + "\n";
    for broke_off in [false, true] {
        let (blocks, receiver) = mpsc::channel(10);
        read_blocks(LineByLine(line.repeat(5).as_bytes()), Form::from(Format::Ndjson), &blocks).unwrap();
        let source = io::Error::other("it broke off");
        let end = if broke_off { Err(Error::Input { after: 5, source }) } else { Ok(()) };
        blocks.try_send(FromReader::End(end)).expect("there is room");
        let (poster, mut lanes) = Hands::poster(1, 1);
        let (stop, clock) = (CancellationToken::new(), DateTime::<Utc>::default);
        let posting = post_blocks(receiver, 100, poster.feed(), clock, &stop, |_, _| (), |_| ready(Ok(())));
        let (mut posting, mut context) = (pin!(posting), Context::from_waker(Waker::noop()));
        assert!(posting.as_mut().poll(&mut context).is_pending());
        assert_eq!(blocks.capacity(), blocks.max_capacity(), "not all is read");
        stop.cancel();
        assert!(posting.as_mut().poll(&mut context).is_pending());
        // Each of the first two lines is a chunk of its own.
        for _ in 0..2 {
            let (_, replies) = lanes.take(0).unwrap();
            replies.send(Ok(vec![Reply::Rejected(Refusal::AccountMissing)])).unwrap();
        }
        let Poll::Ready(ended) = posting.as_mut().poll(&mut context) else { panic!("it goes on") };
        let summary = ended.unwrap();
        assert_eq!((summary.stopped, summary.last_line, summary.lines()), (true, 2, 2));
        assert!(lanes.take(0).is_none());
    }
}
