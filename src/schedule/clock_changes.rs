//! What becomes of slots when the clocks change, for daylight saving time or for good.
//!
//! The rule depends on the hour field:
//!
//! - **Some hours** (`30 2 * * *`, `0 0,2 * * *`, `*/15 2-4 * * *`): each time of day comes due once on each of its
//!   days. Skipped times come due at the first instant after the gap, as one slot. If that instant has a slot anyway,
//!   it is the same one. Repeated times come due the first time.
//! - **Every hour** (`0 * * * *`, `*/5 * * * *`, `* * * * * *`): the rule follows the clock on the wall. Skipped
//!   times do not come due, repeated ones come due twice. So slots keep their distance if the clocks change by whole
//!   hours, as in nearly all zones.

use chrono::{DateTime, Datelike as _, FixedOffset, NaiveDateTime, Utc};

use super::{DAY, Schedule, YEARS, instant};

/// A rule with all these hours goes by the hour, not by the day.
const EVERY_HOUR: u64 = (1 << 24) - 1;

/// The clocks of a zone go forward or back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockChange {
    /// The first instant with the new offset.
    pub at: DateTime<Utc>,
    /// The offset from UTC until then.
    pub before: FixedOffset,
    /// The offset from UTC from then on.
    pub after: FixedOffset,
}

impl ClockChange {
    /// Whether local times are skipped, rather than repeated.
    pub fn is_forward(&self) -> bool {
        self.after.local_minus_utc() > self.before.local_minus_utc()
    }

    /// What the clocks would show at `at` without the change, such as 02:00.
    pub fn local_before(&self) -> NaiveDateTime {
        self.at.with_timezone(&self.before).naive_local()
    }

    /// What the clocks show at `at`, such as 03:00.
    pub fn local_after(&self) -> NaiveDateTime {
        self.at.with_timezone(&self.after).naive_local()
    }
}

impl Schedule {
    /// The first instant after `time`, which itself does not count. None at the end of the calendar only.
    pub fn next_after(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        YEARS.contains(&time.year()).then_some(())?;
        let mut now = time.timestamp();
        let mut offset = self.zone.seconds_ahead(now);
        let mut from = now + offset + 1;
        if self.once_a_day()
            && let Some(change) = self.zone.last_change(now - DAY, now)
        {
            // A time that the clocks show twice came due the first time.
            from = from.max(change.local_before());
        }
        loop {
            let local = self.local_from(from)?;
            let Some(change) = self.zone.first_change(now, local - offset) else { return instant(local - offset) };
            if self.once_a_day() {
                if local < change.local_after() {
                    return instant(change.at);
                }
                from = change.local_after().max(change.local_before());
            } else {
                from = change.local_after();
            }
            now = change.at;
            offset = change.after;
        }
    }

    /// The last instant at or before `time`. None at the beginning of the calendar only.
    pub fn previous_or_at(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        YEARS.contains(&time.year()).then_some(())?;
        let mut now = time.timestamp();
        let mut offset = self.zone.seconds_ahead(now);
        let mut until = now + offset;
        loop {
            let local = self.local_until(until)?;
            let found = local - offset;
            // A change shortly before may make this the second time of an instant that came due already.
            let since = if self.once_a_day() { found - DAY } else { found };
            let change = self.zone.last_change(since, now);
            let Some(change) = change.filter(|change| change.at > found || local < change.local_before()) else {
                return instant(found);
            };
            if self.once_a_day() && local >= change.local_before() {
                return instant(change.at);
            }
            now = change.at - 1;
            offset = change.before;
            until = now + offset;
        }
    }

    /// The next time that the clocks go forward and the next time that they go back, the sooner first. Empty for a zone
    /// that does neither within five years.
    pub fn next_clock_changes(&self, after: DateTime<Utc>) -> Vec<ClockChange> {
        let mut found: Vec<ClockChange> = Vec::new();
        for change in self.clock_changes(after, 5 * 366) {
            if found.iter().all(|known| known.is_forward() != change.is_forward()) {
                found.push(change);
            }
            if found.len() == 2 {
                break;
            }
        }
        found
    }

    /// All changes of the clocks in so many days after an instant, in order.
    fn clock_changes(&self, after: DateTime<Utc>, days: i64) -> impl Iterator<Item = ClockChange> {
        let (mut now, end) = (after.timestamp(), after.timestamp().saturating_add(days * DAY));
        std::iter::from_fn(move || {
            let change = self.zone.first_change(now, end)?;
            now = change.at;
            let (at, before, after) = change.to_chrono()?;
            Some(ClockChange { at, before, after })
        })
    }

    /// Whether each time of day comes due once on each of its days, rather than by the clock on the wall.
    pub(super) fn once_a_day(&self) -> bool {
        self.hours != EVERY_HOUR
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

    use chrono::TimeDelta;

    use super::super::tests::{due, schedule, utc};
    use super::*;

    struct Case {
        name: &'static str,
        rule: &'static str,
        zone: &'static str,
        from: &'static str,
        to: &'static str,
        due: &'static [&'static str],
    }

    /// Offsets: Paris +1/+2, changes 2026-03-29 and 2026-10-25 at 01:00 UTC; Cairo +2/+3, changes at local midnight
    /// from 2026-04-23 to 24 and from 2026-10-29 to 30; Lord Howe +10:30/+11, changes by half an hour at 02:00 local
    /// on 2026-04-05 (back) and 2026-10-04 (forward).
    const CASES: &[Case] = &[
        Case {
            name: "spring, 02:00 does not exist",
            rule: "0 2 * * *",
            zone: "Europe/Paris",
            from: "2026-03-28T00:00:00Z",
            to: "2026-03-31T00:00:00Z",
            due: &["2026-03-28T01:00", "2026-03-29T01:00", "2026-03-30T00:00"],
        },
        Case {
            name: "autumn, 02:00 happens twice",
            rule: "0 2 * * *",
            zone: "Europe/Paris",
            from: "2026-10-24T00:00:00Z",
            to: "2026-10-27T00:00:00Z",
            due: &["2026-10-24T00:00", "2026-10-25T00:00", "2026-10-26T01:00"],
        },
        Case {
            name: "inside the gap: once, at 03:00",
            rule: "30 2 * * *",
            zone: "Europe/Paris",
            from: "2026-03-28T00:00:00Z",
            to: "2026-03-31T00:00:00Z",
            due: &["2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30"],
        },
        Case {
            name: "inside the overlap: once, the first",
            rule: "30 2 * * *",
            zone: "Europe/Paris",
            from: "2026-10-24T00:00:00Z",
            to: "2026-10-27T00:00:00Z",
            due: &["2026-10-24T00:30", "2026-10-25T00:30", "2026-10-26T01:30"],
        },
        Case {
            name: "with a second field, the same",
            rule: "0 30 2 * * *",
            zone: "Europe/Paris",
            from: "2026-03-29T00:00:00Z",
            to: "2026-03-30T00:00:00Z",
            due: &["2026-03-29T01:00"],
        },
        Case {
            name: "Sundays in the gap",
            rule: "30 2 * * SUN",
            zone: "Europe/Paris",
            from: "2026-03-23T00:00:00Z",
            to: "2026-04-06T00:00:00Z",
            due: &["2026-03-29T01:00", "2026-04-05T00:30"],
        },
        Case {
            name: "UTC knows no change",
            rule: "0 2 * * *",
            zone: "UTC",
            from: "2026-03-28T00:00:00Z",
            to: "2026-03-31T00:00:00Z",
            due: &["2026-03-28T02:00", "2026-03-29T02:00", "2026-03-30T02:00"],
        },
        Case {
            name: "midnight does not exist",
            rule: "0 0 * * *",
            zone: "Africa/Cairo",
            from: "2026-04-22T12:00:00Z",
            to: "2026-04-25T12:00:00Z",
            due: &["2026-04-22T22:00", "2026-04-23T22:00", "2026-04-24T21:00"],
        },
        Case {
            name: "midnight after the hour before it came twice",
            rule: "0 0 * * *",
            zone: "Africa/Cairo",
            from: "2026-10-28T12:00:00Z",
            to: "2026-10-31T12:00:00Z",
            due: &["2026-10-28T21:00", "2026-10-29T22:00", "2026-10-30T22:00"],
        },
        Case {
            name: "half an hour forward",
            rule: "15 2 * * *",
            zone: "Australia/Lord_Howe",
            from: "2026-10-02T12:00:00Z",
            to: "2026-10-05T12:00:00Z",
            due: &["2026-10-02T15:45", "2026-10-03T15:30", "2026-10-04T15:15"],
        },
        Case {
            name: "half an hour back",
            rule: "45 1 * * *",
            zone: "Australia/Lord_Howe",
            from: "2026-04-03T12:00:00Z",
            to: "2026-04-06T12:00:00Z",
            due: &["2026-04-03T14:45", "2026-04-04T14:45", "2026-04-05T15:15"],
        },
        Case {
            name: "hourly over the gap: 02 does not come due",
            rule: "0 * * * *",
            zone: "Europe/Paris",
            from: "2026-03-28T23:00:00Z",
            to: "2026-03-29T03:00:00Z",
            due: &["2026-03-28T23:00", "2026-03-29T00:00", "2026-03-29T01:00", "2026-03-29T02:00"],
        },
        Case {
            name: "hourly over the overlap: 02 comes due twice",
            rule: "0 * * * *",
            zone: "Europe/Paris",
            from: "2026-10-24T23:00:00Z",
            to: "2026-10-25T03:00:00Z",
            due: &["2026-10-24T23:00", "2026-10-25T00:00", "2026-10-25T01:00", "2026-10-25T02:00"],
        },
        Case {
            name: "a list in the gap loses nothing",
            rule: "0 0,2 * * *",
            zone: "Europe/Paris",
            from: "2026-03-28T12:00:00Z",
            to: "2026-03-30T12:00:00Z",
            due: &["2026-03-28T23:00", "2026-03-29T01:00", "2026-03-29T22:00", "2026-03-30T00:00"],
        },
        Case {
            name: "a list in the overlap doubles nothing",
            rule: "0 0,2 * * *",
            zone: "Europe/Paris",
            from: "2026-10-24T12:00:00Z",
            to: "2026-10-26T12:00:00Z",
            due: &["2026-10-24T22:00", "2026-10-25T00:00", "2026-10-25T23:00", "2026-10-26T01:00"],
        },
        Case {
            name: "all that the gap skips comes due together, with what is there anyway",
            rule: "*/30 2,3 * * *",
            zone: "Europe/Paris",
            from: "2026-03-29T00:00:00Z",
            to: "2026-03-30T00:00:00Z",
            due: &["2026-03-29T01:00", "2026-03-29T01:30"],
        },
        Case {
            name: "a day that did not exist comes due when the next begins",
            rule: "0 2 * * *",
            zone: "Pacific/Apia",
            from: "2011-12-29T00:00:00Z",
            to: "2012-01-01T00:00:00Z",
            due: &["2011-12-29T12:00", "2011-12-30T10:00", "2011-12-30T12:00", "2011-12-31T12:00"],
        },
        Case {
            name: "either day field",
            rule: "0 6 1 * MON",
            zone: "UTC",
            from: "2026-09-28T00:00:00Z",
            to: "2026-10-06T00:00:00Z",
            due: &["2026-09-28T06:00", "2026-10-01T06:00", "2026-10-05T06:00"],
        },
        Case {
            name: "29 February",
            rule: "0 0 29 2 *",
            zone: "UTC",
            from: "2026-01-01T00:00:00Z",
            to: "2033-01-01T00:00:00Z",
            due: &["2028-02-29T00:00", "2032-02-29T00:00"],
        },
    ];

    #[test]
    fn instants() {
        for case in CASES {
            let schedule = schedule(case.rule, case.zone);
            assert_eq!(due(&schedule, case.from, case.to), case.due, "{}", case.name);
        }
    }

    #[test]
    fn the_next_change_either_way() {
        let told = |zone: &str, after: &str| {
            let changes = schedule("0 2 * * *", zone).next_clock_changes(utc(after));
            let show = |change: ClockChange| {
                format!("{} {} {} {}", change.at.format("%F %R"), change.before, change.after, change.local_after())
            };
            changes.into_iter().map(show).collect::<Vec<_>>()
        };
        assert_eq!(
            told("Europe/Paris", "2026-11-22T00:00:00Z"),
            [
                "2027-03-28 01:00 +01:00 +02:00 2027-03-28 03:00:00",
                "2027-10-31 01:00 +02:00 +01:00 2027-10-31 02:00:00"
            ]
        );
        assert_eq!(
            told("Australia/Lord_Howe", "2026-11-22T00:00:00Z"),
            [
                "2027-04-03 15:00 +11:00 +10:30 2027-04-04 01:30:00",
                "2027-10-02 15:30 +10:30 +11:00 2027-10-03 02:30:00"
            ]
        );
        assert!(told("Asia/Shanghai", "2026-11-22T00:00:00Z").is_empty());
        assert!(told("UTC", "2026-11-22T00:00:00Z").is_empty());
    }

    #[test]
    fn backward_agrees_with_forward() {
        for case in CASES.iter().filter(|case| case.name != "29 February") {
            let schedule = schedule(case.rule, case.zone);
            let mut time = utc(case.from);
            while time < utc(case.to) {
                let previous = schedule.previous_or_at(time).unwrap();
                assert!(previous <= time, "{} at {time}", case.name);
                assert_eq!(
                    schedule.next_after(previous - TimeDelta::seconds(1)),
                    Some(previous),
                    "{} at {time}",
                    case.name
                );
                assert!(schedule.next_after(previous).unwrap() > time, "{} at {time}", case.name);
                time += TimeDelta::minutes(15);
            }
        }
    }
}
