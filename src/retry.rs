//! Retry with backoff: how long to pause between attempts.
//!
//! Each pause is twice as long as the one before, up to a cap. A random part of up to the same length comes on top
//! (jitter), so that callers that failed together do not come back together.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// After so many doublings every pause has reached its cap: a nanosecond has become 500 years.
const MOST_DOUBLINGS: u32 = 64;

/// How pauses grow: the first one, and the cap (without jitter).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// For statements and connections while the database is away. A restart of the server takes a second or two, so a
    /// longer pause would be noticed.
    pub const DATABASE: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));

    /// Pauses that begin with `first` and double up to `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Backoff {
        Backoff { first, longest }
    }

    /// The pauses of one caller, one after each failed attempt.
    pub fn pauses(self) -> Pauses {
        Pauses { backoff: self, rest: self.start() }
    }

    /// The pause after so many failed attempts. For callers that keep this number in a table.
    pub fn pause_after(self, failed_attempts: u32) -> Duration {
        let doublings = failed_attempts.saturating_sub(1).min(MOST_DOUBLINGS);
        self.start().nth(doublings as usize).unwrap_or(self.longest)
    }

    fn start(self) -> ExponentialBackoff {
        ExponentialBuilder::new()
            .with_min_delay(self.first.min(self.longest))
            .with_max_delay(self.longest)
            .without_max_times()
            .with_jitter()
            .build()
    }
}

/// The pauses between the attempts of one caller. It does not end: the caller decides when to give up.
#[derive(Debug)]
pub struct Pauses {
    backoff: Backoff,
    rest: ExponentialBackoff,
}

impl Pauses {
    /// The next pause.
    pub fn next_pause(&mut self) -> Duration {
        self.rest.next().unwrap_or(self.backoff.longest)
    }

    /// Sleeps for the next pause.
    pub async fn sleep(&mut self) {
        tokio::time::sleep(self.next_pause()).await;
    }

    /// Begins with the first pause again, because an attempt succeeded.
    pub fn reset(&mut self) {
        self.rest = self.backoff.start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap_and_jitter_adds_up_to_the_same_again() {
        let backoff = Backoff::new(Duration::from_secs(60), Duration::from_secs(4 * 3600));
        for (failed, least) in
            [(0, 60), (1, 60), (2, 120), (3, 240), (8, 7680), (9, 14_400), (40, 14_400), (u32::MAX, 14_400)]
        {
            let least = Duration::from_secs(least);
            let pause = backoff.pause_after(failed);
            assert!((least..=least * 2).contains(&pause), "after {failed}: {pause:?}");
        }
    }

    #[test]
    fn a_caller_that_succeeded_begins_anew() {
        let first = Duration::from_millis(50);
        let mut pauses = Backoff::DATABASE.pauses();
        let taken: Vec<Duration> = (0..4).map(|_| pauses.next_pause()).collect();
        for (pause, doublings) in taken.iter().zip(0..) {
            let least = first * 2_u32.pow(doublings);
            assert!((least..=least * 2).contains(pause), "{taken:?}");
        }
        pauses.reset();
        assert!((first..=first * 2).contains(&pauses.next_pause()));
    }

    #[test]
    fn two_callers_do_not_come_back_together() {
        let backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(3600));
        let pauses: std::collections::BTreeSet<Duration> = (0..20).map(|_| backoff.pause_after(3)).collect();
        assert!(pauses.len() > 10, "{pauses:?}");
    }

    #[test]
    fn extremes_neither_overflow_nor_exceed_the_cap() {
        let week = Duration::from_secs(604_800);
        for (first, longest) in [(Duration::MAX, week), (week, Duration::from_secs(1)), (Duration::ZERO, week)] {
            let pause = Backoff::new(first, longest).pause_after(u32::MAX);
            assert!(pause <= longest * 2, "{pause:?}");
        }
    }
}
