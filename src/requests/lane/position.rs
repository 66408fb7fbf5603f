//! How far a lane has been read.

use std::time::Instant;

use super::LaneRead;
use crate::ledger::GROUP_POSTINGS;

/// A lane is read on from the last position, because a read from the start passes all dead rows. A request that was put back stands
/// before that position, so the lane is also read from its start, in at most a tenth of the time.
pub(super) const SHARE_FROM_START: u32 = 10;

/// How far a lane has been read.
pub(super) struct Position {
    /// Requests up to this id are finished, unless they were put back, wait behind a failed one, or are left out.
    pub(super) after: i64,
    /// When the lane may be read from its start again.
    pub(super) start_at: Instant,
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
        Position { after: 0, start_at: Instant::now(), settled: 0, settling: None, waiting: Vec::new() }
    }

    /// Reads the lane from its start next time.
    pub(super) fn restart(&mut self) {
        self.after = 0;
        self.start_at = Instant::now();
        self.waiting.clear();
    }

    /// Goes on after what was read and posted.
    pub(super) fn pass(&mut self, taken: &LaneRead) {
        self.settle(taken);
        let last = taken.requests.last().map_or(0, |request| request.id);
        // Fewer than were asked for: these are all there are, but for those that are left out.
        let seen = if taken.requests.len() < GROUP_POSTINGS { i64::MAX } else { last };
        self.after = self.after.max(seen.min(self.settled));
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Request;
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
    #[test]
    fn a_group_that_is_not_full_passes_what_was_left_out() {
        let requests = |ids: std::ops::RangeInclusive<i64>| {
            let request = |id| Request { id, user: uuid::Uuid::nil(), age: 0, unreadable: None };
            ids.map(request).collect::<Vec<_>>()
        };
        let full = i64::try_from(GROUP_POSTINGS).unwrap();
        let mut position = Position::new();
        let mut passed = |ids, (last_number, oldest, own)| {
            position.pass(&LaneRead { requests: requests(ids), ..told(last_number, oldest, own) });
            position.after
        };
        assert_eq!(passed(1..=2, (9_000, 100, 101)), 0, "none is settled");
        assert_eq!(passed(3..=2 + full, (9_500, 101, 200)), 2 + full, "more may follow");
        assert_eq!(passed(3 + full..=4 + full, (9_600, 150, 200)), 9_000);
    }
}
