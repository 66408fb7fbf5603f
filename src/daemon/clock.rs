//! Doubts a clock that jumps ahead. The clock is the database's; a correction of its host may set it wrong for a while.
//!
//! A slot that is begun too early cannot be taken back: points would expire, days would be closed and slots be missed that
//! have not been. A slot that is begun ten minutes late does no harm.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

/// A jump of so much is no jump: clocks are slewed and corrected a little all the time.
const SMALL: TimeDelta = TimeDelta::minutes(1);

/// How long a jump must last to be believed. A machine that slept looks the same: its clock is right.
const BELIEVED_AFTER: Duration = Duration::from_secs(10 * 60);

/// Compares the database's clock with the time that has passed in this process.
#[derive(Default)]
pub(super) struct ClockWatch {
    believed: Option<(DateTime<Utc>, Instant)>,
    ahead_since: Option<Instant>,
}

/// A clock that is not believed yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ahead {
    /// By how much it jumped.
    pub by: TimeDelta,
    /// How long it must go on to be believed.
    pub doubted_for: Duration,
    /// Whether the jump was just seen.
    pub is_new: bool,
}

impl ClockWatch {
    /// Judges a clock that showed `now` at the instant `read`. Returns its lead while it is not believed.
    pub(super) fn judge(&mut self, now: DateTime<Utc>, read: Instant) -> Option<Ahead> {
        if let Some((then, at)) = self.believed {
            let passed = TimeDelta::from_std(read.saturating_duration_since(at)).unwrap_or(TimeDelta::MAX);
            let by = now.signed_duration_since(then).checked_sub(&passed).unwrap_or(TimeDelta::MAX);
            if by > SMALL {
                let is_new = self.ahead_since.is_none();
                let since = *self.ahead_since.get_or_insert(read);
                let doubted_for = BELIEVED_AFTER.saturating_sub(read.saturating_duration_since(since));
                if !doubted_for.is_zero() {
                    return Some(Ahead { by, doubted_for, is_new });
                }
            }
        }
        (self.believed, self.ahead_since) = (Some((now, read)), None);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The clock shows so many seconds after so many seconds have passed.
    fn judge(watch: &mut ClockWatch, start: Instant, passed: u64, shows: i64) -> Option<(i64, u64, bool)> {
        let now = DateTime::UNIX_EPOCH + TimeDelta::seconds(shows);
        let ahead = watch.judge(now, start + Duration::from_secs(passed))?;
        Some((ahead.by.num_seconds(), ahead.doubted_for.as_secs(), ahead.is_new))
    }

    #[test]
    fn a_jump_ahead_is_doubted_until_it_has_lasted() {
        let (mut watch, start, year) = (ClockWatch::default(), Instant::now(), 365 * 86_400);
        assert_eq!(judge(&mut watch, start, 0, 0), None);
        assert_eq!(judge(&mut watch, start, 100, 160), None, "a minute more than has passed is nothing");
        assert_eq!(judge(&mut watch, start, 110, 170 + year), Some((year, 600, true)));
        assert_eq!(judge(&mut watch, start, 118, 178 + year), Some((year, 592, false)));
        assert_eq!(judge(&mut watch, start, 120, 180), None, "it came back");
        assert_eq!(judge(&mut watch, start, 130, 190 + 61), Some((61, 600, true)));
        assert_eq!(judge(&mut watch, start, 729, 789 + 61), Some((61, 1, false)));
        assert_eq!(judge(&mut watch, start, 730, 790 + 61), None, "it has lasted for ten minutes");
        assert_eq!(judge(&mut watch, start, 740, 800 + 61), None);
    }

    #[test]
    fn a_clock_that_goes_back_is_believed_at_once() {
        let (mut watch, start) = (ClockWatch::default(), Instant::now());
        assert_eq!(judge(&mut watch, start, 0, 1_000_000), None);
        assert_eq!(judge(&mut watch, start, 10, 10), None);
        assert_eq!(judge(&mut watch, start, 20, 20), None);
    }
}
