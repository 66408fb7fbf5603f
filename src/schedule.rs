//! When a rule such as `0 2 * * *` comes due in a time zone. Knows no job and no clock.
//!
//! Each instant is computed from the rule and the zone's own history of offsets, so a daily 02:00 stays at
//! 02:00 local time when the clocks change.

use std::ops::Range;

use chrono::{DateTime, Datelike, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// The years for which instants are computed.
const YEARS: Range<i32> = 1..5000;

/// A cron rule in a time zone.
///
/// Five fields, `minute hour day-of-month month day-of-week`, or six with the second in front. Where both day fields
/// are restricted, either one makes the day match, as in standard cron. Names (`MON`, `JAN`), lists, ranges, steps and
/// `@daily` and the like are understood; Sunday is 0 or 7.
///
/// Clock changes: a rule with one time of day comes due once a day, always. A time which the change skips comes due at
/// the first instant after the gap; one which happens twice comes due the first time. A rule with several times of
/// day (a list, a range, a step, `*`) follows the clock on the wall: skipped times do not come due, repeated ones do
/// twice.
#[derive(Debug, Clone)]
pub struct Schedule {
    cron: Cron,
    zone: Tz,
    text: String,
}

/// Why a cron rule cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum ScheduleError {
    #[error("{rule:?} is no cron rule: {reason}")]
    NotARule { rule: String, reason: String },
    #[error("{rule:?} never comes due: no such day is in the calendar")]
    Never { rule: String },
}

impl Schedule {
    /// Reads a rule of five or six fields for a time zone.
    ///
    /// # Errors
    /// A rule that cannot be read, and one that never comes due, such as the 30th of February.
    pub fn parse(cron: &str, zone: Tz) -> Result<Schedule, ScheduleError> {
        // One setting for the whole program: the same text always means the same instants.
        let parser = CronParser::builder()
            .seconds(Seconds::Optional)
            .year(Year::Disallowed)
            .dom_and_dow(false)
            .alternative_weekdays(false)
            .sloppy_ranges(false)
            .build();
        let text = cron.split_whitespace().collect::<Vec<_>>().join(" ");
        let cron = parser
            .parse(&text)
            .map_err(|error| ScheduleError::NotARule { rule: text.clone(), reason: error.to_string() })?;
        let schedule = Schedule { cron, zone, text };
        // Any instant will do: the calendar repeats itself.
        if schedule.next_after(DateTime::UNIX_EPOCH).is_none() {
            return Err(ScheduleError::Never { rule: schedule.text });
        }
        Ok(schedule)
    }

    /// The first instant after `time`, which itself does not count. None at the end of the calendar only.
    pub fn next_after(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let next = self.cron.find_next_occurrence(&self.local(time)?, false).ok()?;
        Some(next.with_timezone(&Utc))
    }

    /// The last instant at or before `time`. None at the beginning of the calendar only.
    pub fn previous_or_at(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let previous = self.cron.find_previous_occurrence(&self.local(time)?, true).ok()?;
        Some(previous.with_timezone(&Utc))
    }

    /// None outside the years which the cron library searches; near the ends of chrono's own calendar a local time
    /// cannot even be written.
    fn local(&self, time: DateTime<Utc>) -> Option<DateTime<Tz>> {
        YEARS.contains(&time.year()).then(|| time.with_timezone(&self.zone))
    }

    /// The rule as written, such as `0 2 * * *`.
    pub fn rule(&self) -> &str {
        &self.text
    }

    /// The zone in which the rule's fields are read.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// The rule for people, such as `0 2 * * * (Europe/Paris)`.
    pub fn describe(&self) -> String {
        format!("{} ({})", self.text, self.zone)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

    use chrono::{Duration, SecondsFormat};

    use super::*;

    fn schedule(rule: &str, zone: &str) -> Schedule {
        Schedule::parse(rule, zone.parse().unwrap()).unwrap_or_else(|error| panic!("{error}"))
    }

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// The instants in [from, to), in UTC to the minute.
    fn due(schedule: &Schedule, from: &str, to: &str) -> Vec<String> {
        let mut time = utc(from) - Duration::seconds(1);
        let mut found = Vec::new();
        while let Some(next) = schedule.next_after(time).filter(|next| *next < utc(to)) {
            assert!(next > time);
            found.push(next.to_rfc3339_opts(SecondsFormat::Secs, true)[..16].to_owned());
            time = next;
        }
        found
    }

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

    /// Backward finds the same instants as forward, from every quarter of an hour around each case.
    #[test]
    fn backward_agrees_with_forward() {
        for case in CASES.iter().filter(|case| case.name != "29 February") {
            let schedule = schedule(case.rule, case.zone);
            let mut time = utc(case.from);
            while time < utc(case.to) {
                let previous = schedule.previous_or_at(time).unwrap();
                assert!(previous <= time, "{} at {time}", case.name);
                assert_eq!(
                    schedule.next_after(previous - Duration::seconds(1)),
                    Some(previous),
                    "{} at {time}",
                    case.name
                );
                assert!(schedule.next_after(previous).unwrap() > time, "{} at {time}", case.name);
                time += Duration::minutes(15);
            }
        }
    }

    #[test]
    fn the_given_instant_counts_backward_only() {
        let daily = schedule("0 2 * * *", "UTC");
        let two = utc("2026-05-01T02:00:00Z");
        let moment = Duration::milliseconds(500);
        assert_eq!(daily.next_after(two), Some(two + Duration::days(1)));
        assert_eq!(daily.next_after(two - moment), Some(two));
        assert_eq!(daily.next_after(two + moment), Some(two + Duration::days(1)));
        assert_eq!(daily.previous_or_at(two), Some(two));
        assert_eq!(daily.previous_or_at(two + moment), Some(two));
        assert_eq!(daily.previous_or_at(two - moment), Some(two - Duration::days(1)));
    }

    #[test]
    fn refusals() {
        for rule in [
            "",
            "2",
            "* * * *",
            "60 2 * * *",
            "0 25 * * *",
            "0 2 * * FOO",
            "0 0 2 * * * 2026",
            "@never",
            "0/10 * * * *",
        ] {
            assert!(matches!(Schedule::parse(rule, Tz::UTC), Err(ScheduleError::NotARule { .. })), "{rule}");
        }
        let never = Schedule::parse("0 0 30 2 *", Tz::UTC).unwrap_err().to_string();
        assert_eq!(never, "\"0 0 30 2 *\" never comes due: no such day is in the calendar");
    }

    #[test]
    fn the_ends_of_the_calendar_are_none_and_no_panic() {
        for (rule, zone) in [("0 2 * * *", "Europe/Paris"), ("* * * * * *", "Asia/Shanghai")] {
            let schedule = schedule(rule, zone);
            for time in [DateTime::<Utc>::MAX_UTC, DateTime::<Utc>::MIN_UTC, utc("9999-12-31T23:59:59Z")] {
                assert_eq!(schedule.next_after(time), None, "{time}");
                assert_eq!(schedule.previous_or_at(time), None, "{time}");
            }
        }
    }

    #[test]
    fn describe() {
        let schedule = schedule("  0  2 * * * ", "Europe/Paris");
        assert_eq!(schedule.describe(), "0 2 * * * (Europe/Paris)");
        assert_eq!(schedule.rule(), "0 2 * * *");
    }
}
