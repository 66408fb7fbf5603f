//! How far a lane has been read.

use std::time::{Duration, Instant};

use super::read::{LaneRead, MOST_WAITING, Selection};
use crate::ledger::GROUP_POSTINGS;

/// A lane is read on from the last position, because a read from the start passes all dead rows. A request that was put back stands
/// before that position, so the lane is also read from its start, in at most a tenth of the time.
pub(super) const SHARE_FROM_START: u32 = 10;

/// In a backlog the lane is read from its start no more often: such a group is not sorted.
const FROM_START_IN_BACKLOG: Duration = Duration::from_secs(1);

/// Of a backlog so many ids are read ahead and sorted by account. So a group touches few pages of the accounts and their indexes, and
/// its requests share accounts.
pub(super) const READ_AHEAD: usize = 64_000;

/// How far a lane has been read.
pub(super) struct Position {
    /// Requests up to this id are finished, unless they were put back, wait behind a failed one, or are left out.
    pub(super) after: i64,
    /// When the lane may be read from its start again.
    pub(super) start_at: Instant,
    /// More is left than a group.
    backlog: bool,
    /// The ids that were read ahead and are not posted yet, backwards.
    ahead: Vec<i64>,
    /// Where the position goes when they are posted.
    after_ahead: i64,
    /// No open transaction can commit a request with this id or a lower one. An application may get its id early and commit late.
    /// If the lane were passed beyond this id, a later request of the same account would be posted first.
    settled: i64,
    /// An id, and a transaction number. Transactions from that number on get higher ids only. The id is settled when all earlier
    /// transactions are over.
    settling: Option<(i64, i64)>,
    /// The waiting requests. When one of them waits no longer, the requests behind it stand before the position.
    pub(super) waiting: Vec<i64>,
}

impl Position {
    pub(super) fn new() -> Position {
        Position {
            after: 0,
            start_at: Instant::now(),
            backlog: false,
            ahead: Vec::new(),
            after_ahead: 0,
            settled: 0,
            settling: None,
            waiting: Vec::new(),
        }
    }

    /// Reads the lane from its start next time.
    pub(super) fn restart(&mut self) {
        self.after = 0;
        self.start_at = Instant::now();
        self.waiting.clear();
        self.backlog = false;
        self.ahead.clear();
    }

    /// Whether to read ids ahead before the next group.
    pub(super) fn wants_ahead(&self) -> bool {
        // So many waiting requests are not all read, so nothing but the start of the lane is known to be in order.
        let few_wait = self.waiting.len() < MOST_WAITING;
        self.backlog && few_wait && self.ahead.is_empty() && Instant::now() < self.start_at
    }

    /// Keeps the ids after the position, in the order in which to post them, unless other requests wait by now than did before. There
    /// are no others after it if they are fewer than [`READ_AHEAD`].
    pub(super) fn keep_ahead(&mut self, mut ids: Vec<i64>, waiting: &[i64]) {
        if !are_the_same(&self.waiting, waiting) {
            self.restart();
            return;
        }
        self.backlog = ids.len() >= READ_AHEAD;
        let last = if self.backlog { ids.iter().copied().max() } else { None };
        // Of the ids that are settled by now none was overlooked; later ones may have been.
        self.after_ahead = last.unwrap_or(i64::MAX).min(self.settled);
        ids.reverse();
        self.ahead = ids;
    }

    /// What to post next.
    pub(super) fn next(&mut self) -> Selection {
        if Instant::now() >= self.start_at {
            Selection::After(0)
        } else if self.ahead.is_empty() {
            Selection::After(self.after)
        } else {
            let rest = self.ahead.len().saturating_sub(GROUP_POSTINGS);
            Selection::Ahead(self.ahead.split_off(rest))
        }
    }

    /// Takes back what was not posted.
    pub(super) fn put_back(&mut self, selection: Selection) {
        if let Selection::Ahead(ids) = selection {
            self.ahead.extend(ids);
        }
    }

    /// Goes on after a read from the lane's start, which took so long.
    pub(super) fn was_at_start(&mut self, took: Duration) {
        let pause = if self.backlog || !self.ahead.is_empty() { FROM_START_IN_BACKLOG } else { Duration::ZERO };
        self.start_at = Instant::now() + pause.max(took * SHARE_FROM_START);
    }

    /// Goes on after what was read and posted.
    pub(super) fn pass(&mut self, selection: &Selection, taken: &LaneRead) {
        self.settle(taken);
        let passed = match selection {
            Selection::After(from) if taken.requests.len() < GROUP_POSTINGS => {
                // These are all there are, but for those that are left out.
                self.backlog = false;
                self.ahead.clear();
                if *from > 0 {
                    self.start_at = self.start_at.min(Instant::now() + taken.took * SHARE_FROM_START);
                }
                self.settled
            }
            Selection::After(_) => {
                self.backlog = true;
                let last = taken.requests.last().map_or(0, |request| request.id).min(self.settled);
                if last < self.after {
                    // From the start: many requests were put back.
                    self.ahead.clear();
                    self.after = last;
                }
                last
            }
            Selection::Ahead(_) if taken.requests.is_empty() => {
                // Another daemon works on this lane as well, and has read the same ids.
                self.ahead.clear();
                0
            }
            Selection::Ahead(_) if self.ahead.is_empty() => self.after_ahead,
            Selection::Ahead(_) | Selection::Ids(_) => 0,
        };
        self.after = self.after.max(passed);
        self.waiting = taken.waiting.iter().map(|(id, _)| *id).collect();
    }

    /// Updates the settled id from a read of the lane.
    fn settle(&mut self, taken: &LaneRead) {
        if let Some((number, _)) = self.settling.take_if(|(_, before)| taken.oldest >= *before) {
            self.settled = number;
        }
        self.settling.get_or_insert((taken.last_number, taken.own));
    }
}

/// Whether the same requests wait; few do.
pub(super) fn are_the_same(waiting: &[i64], others: &[i64]) -> bool {
    waiting.len() == others.len() && waiting.iter().all(|id| others.contains(id))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::super::read::Request;
    use super::*;

    fn told(last_number: i64, oldest: i64, own: i64) -> LaneRead {
        LaneRead { last_number, oldest, own, ..LaneRead::default() }
    }

    #[test]
    fn a_number_is_settled_when_every_transaction_of_its_time_is_over() {
        let mut position = Position::new();
        let mut settled_after = |taken: LaneRead| {
            position.settle(&taken);
            position.settled
        };
        // Requests up to 50 were numbered; transactions 100 to 104 may have given one that is not committed yet.
        assert_eq!(settled_after(told(50, 100, 105)), 0);
        assert_eq!(settled_after(told(60, 104, 130)), 0);
        assert_eq!(settled_after(told(70, 105, 140)), 50);
        // The next id to settle comes from the last read, not from an earlier one.
        assert_eq!(settled_after(told(80, 139, 150)), 50);
        assert_eq!(settled_after(told(90, 140, 150)), 70);
    }

    fn requests(ids: std::ops::RangeInclusive<i64>) -> Vec<Request> {
        ids.map(|id| Request { id, user: uuid::Uuid::nil(), unreadable: None }).collect()
    }

    fn full() -> i64 {
        i64::try_from(GROUP_POSTINGS).unwrap()
    }

    #[test]
    fn a_group_that_is_not_full_passes_what_was_left_out() {
        let mut position = Position::new();
        let mut passed = |ids, (last_number, oldest, own)| {
            let taken = LaneRead { requests: requests(ids), ..told(last_number, oldest, own) };
            position.pass(&Selection::After(0), &taken);
            position.after
        };
        assert_eq!(passed(1..=2, (9_000, 100, 101)), 0, "none is settled");
        assert_eq!(passed(3..=2 + full(), (9_500, 101, 200)), 2 + full(), "more may follow");
        assert_eq!(passed(3 + full()..=4 + full(), (9_600, 150, 200)), 9_000);
    }

    /// A lane of which a first full group was posted; ids up to 8,000 are settled.
    fn with_backlog() -> Position {
        let mut position = Position::new();
        position.pass(&Selection::After(0), &told(8_000, 100, 101));
        position.pass(&Selection::After(0), &LaneRead { requests: requests(1..=full()), ..told(9_000, 101, 102) });
        assert!(!position.wants_ahead(), "a read from the start comes first");
        position.was_at_start(Duration::ZERO);
        assert!(position.wants_ahead());
        position
    }

    fn ahead(position: &mut Position) -> Vec<i64> {
        let selection = position.next();
        position.pass(&selection, &LaneRead { requests: requests(1..=1), ..LaneRead::default() });
        let Selection::Ahead(mut ids) = selection else { panic!("nothing was read ahead") };
        ids.reverse();
        ids
    }

    #[test]
    fn what_was_read_ahead_is_posted_in_its_order_and_passed_at_its_end() {
        let mut position = with_backlog();
        let ids: Vec<i64> = (1_001..=1_000 + full()).chain([9_500, 9_400]).collect();
        position.keep_ahead(ids.clone(), &[]);
        assert_eq!(ahead(&mut position), ids[..GROUP_POSTINGS]);
        assert_eq!(position.after, full());
        assert_eq!(ahead(&mut position), [9_500, 9_400]);
        // A request with an id above the settled one may have been overlooked.
        assert_eq!(position.after, 8_000);
        assert!(!position.wants_ahead());
        assert!(matches!(position.next(), Selection::After(8_000)));
    }

    #[test]
    fn of_what_was_not_read_ahead_nothing_is_passed() {
        let mut position = with_backlog();
        let last = i64::try_from(READ_AHEAD).unwrap() + full();
        position.settled = 2 * last;
        position.keep_ahead((full() + 1..=last).rev().collect(), &[]);
        while !position.ahead.is_empty() {
            ahead(&mut position);
        }
        assert_eq!(position.after, last);
        assert!(position.wants_ahead(), "there may be more");
    }

    #[test]
    fn what_another_daemon_has_posted_is_not_tried_again_group_by_group() {
        let mut position = with_backlog();
        position.keep_ahead((1_001..=4_000).collect(), &[]);
        let selection = position.next();
        position.pass(&selection, &LaneRead::default());
        assert!(position.ahead.is_empty());
        assert_eq!(position.after, full());
        position.keep_ahead((1_001..=4_000).collect(), &[]);
        position.pass(&Selection::After(0), &LaneRead::default());
        assert!(position.ahead.is_empty(), "nothing is left in the lane");
    }

    #[test]
    fn many_requests_that_were_put_back_come_before_those_that_were_read_ahead() {
        let mut position = with_backlog();
        position.settled = 9_000;
        position.after = 8_000;
        position.keep_ahead((8_001..=9_000).collect(), &[]);
        position.pass(&Selection::After(0), &LaneRead { requests: requests(1..=full()), ..LaneRead::default() });
        assert_eq!(position.after, full());
        assert!(position.ahead.is_empty());
    }

    #[test]
    fn ids_are_not_kept_if_other_requests_wait() {
        let mut position = with_backlog();
        position.waiting = vec![7, 8];
        position.keep_ahead(vec![1_001], &[8, 7]);
        assert_eq!(position.ahead, [1_001]);
        position.keep_ahead(vec![1_001], &[8]);
        assert!(position.ahead.is_empty());
        assert_eq!(position.after, 0, "the lane is read from its start");
    }

    #[test]
    fn the_start_of_a_lane_is_not_forgotten_in_a_backlog() {
        let mut position = with_backlog();
        position.keep_ahead(vec![1_001, 1_002], &[]);
        let selection = position.next();
        position.put_back(selection);
        position.start_at = Instant::now();
        assert!(matches!(position.next(), Selection::After(0)));
        position.was_at_start(Duration::ZERO);
        assert_eq!(ahead(&mut position), [1_001, 1_002]);
        position.keep_ahead(vec![1_003], &[]);
        position.restart();
        assert!(matches!(position.next(), Selection::After(0)), "what was read ahead is read again");
    }
}
