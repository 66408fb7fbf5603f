//! When a rule such as `0 2 * * *` comes due in a time zone. It knows no job and no clock.
//!
//! croner reads the rule and matches the days. The instants are computed here, from the rule and the zone's offsets, so
//! a daily 02:00 stays at 02:00 local time when the clocks change. croner's own search takes every rule with more than
//! one time of day for an interval. It would drop a slot of `0 0,2 * * *` in spring and repeat it in autumn.

mod chinese;
mod clock_changes;
mod words;

use std::fmt;
use std::ops::Range;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use croner::Cron;
use croner::Weekday;
use croner::parser::{CronParser, Seconds, Year};

use crate::time::Zone;

pub use clock_changes::ClockChange;

/// The years for which instants are computed.
const YEARS: Range<i32> = 1..5000;

const DAY: i64 = 86_400;

/// The days after which the calendar repeats itself, weekdays and leap years included.
const CALENDAR: i64 = 146_097;

/// A cron rule in a time zone.
///
/// It has five fields, `minute hour day-of-month month day-of-week`, or six with the second in front. If both day
/// fields are restricted, a day must match one of them, as in standard cron. Names (`MON`, `JAN`), lists, ranges, steps
/// and `@daily` and the like are understood; Sunday is 0 or 7. So are `L` (the last day), `15W` (the working day
/// nearest the 15th), `FRI#2` (the second Friday) and `FRI#L` (the last).
///
/// A slot is a whole second. What becomes of it when the clocks change: see `schedule/clock_changes.rs`.
#[derive(Clone)]
pub struct Schedule {
    cron: Cron,
    zone: Zone,
    text: String,
    /// The values of the time fields, one bit each.
    hours: u64,
    minutes: u64,
    seconds: u64,
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The whole would be thousands of numbers.
        write!(f, "Schedule({})", self.describe())
    }
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
    pub fn parse(cron: &str, zone: Zone) -> Result<Schedule, ScheduleError> {
        // One setting for the whole program: the same text always means the same instants.
        let parser = CronParser::builder()
            .seconds(Seconds::Optional)
            .year(Year::Disallowed)
            .dom_and_dow(false)
            .alternative_weekdays(false)
            .sloppy_ranges(false)
            .build();
        let text = cron.split_whitespace().collect::<Vec<_>>().join(" ");
        let not_a_rule = |reason| ScheduleError::NotARule { rule: text.clone(), reason };
        let cron = parser
            .parse(&text)
            .map_err(|error| not_a_rule(wrong_field(&text, Some(&parser)).unwrap_or_else(|| error.to_string())))?;
        // croner takes a step that goes beyond its field, so that `*/90` minutes would be every hour, a list with
        // nothing between two commas, and `MON` as the first month and the first minute.
        if let Some(reason) = wrong_field(&text, None) {
            return Err(not_a_rule(reason));
        }
        let bits = |values: Vec<u16>| values.into_iter().fold(0, |bits, value| bits | 1_u64 << (value % 64));
        let hours = bits(cron.pattern.hours.values());
        let minutes = bits(cron.pattern.minutes.values());
        let seconds = bits(cron.pattern.seconds.values());
        let schedule = Schedule { cron, zone, text, hours, minutes, seconds };
        // Any day will do: the calendar repeats itself.
        if schedule.local_from(0).is_none() {
            return Err(ScheduleError::Never { rule: schedule.text });
        }
        Ok(schedule)
    }

    /// The instants after `after`, up to and including `until`, in order; from the back, the last one first.
    pub fn between(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> Slots<'_> {
        Slots { schedule: self, after, until }
    }

    /// The rule as written, such as `0 2 * * *`.
    pub fn rule(&self) -> &str {
        &self.text
    }

    /// The zone in which the rule's fields are read.
    pub fn zone(&self) -> Zone {
        self.zone
    }

    /// The rule with its zone, such as `0 2 * * * (Europe/Paris)`.
    pub fn describe(&self) -> String {
        format!("{} ({})", self.text, self.zone)
    }

    /// Whether the rule names this day.
    fn on(&self, day: NaiveDate) -> bool {
        let weekday = Weekday::from_days_from_sunday(day.weekday().num_days_from_sunday());
        self.in_month(day)
            && matches!(self.cron.pattern.day_match(day.year(), day.month(), day.day(), weekday), Ok(true))
    }

    fn in_month(&self, day: NaiveDate) -> bool {
        matches!(self.cron.pattern.month_match(day.month()), Ok(true))
    }

    /// The first local time of the rule at or after `from`, whether or not the zone has it. Local times are counted in
    /// seconds like timestamps, as if the zone were UTC.
    fn local_from(&self, from: i64) -> Option<i64> {
        let mut day = NaiveDateTime::date(&instant(from)?.naive_utc());
        let mut second = from.rem_euclid(DAY);
        for _ in 0..=CALENDAR {
            if self.on(day)
                && let Some(second) = self.time_from(second)
            {
                return Some(start(day) + second).filter(|_| YEARS.contains(&day.year()));
            }
            second = 0;
            day = if self.in_month(day) {
                day.succ_opt()?
            } else {
                let (year, month) = if day.month() == 12 { (day.year() + 1, 1) } else { (day.year(), day.month() + 1) };
                NaiveDate::from_ymd_opt(year, month, 1)?
            };
        }
        None
    }

    /// The last local time of the rule at or before `until`.
    fn local_until(&self, until: i64) -> Option<i64> {
        let mut day = NaiveDateTime::date(&instant(until)?.naive_utc());
        let mut second = until.rem_euclid(DAY);
        for _ in 0..=CALENDAR {
            if self.on(day)
                && let Some(second) = self.time_until(second)
            {
                return Some(start(day) + second).filter(|_| YEARS.contains(&day.year()));
            }
            second = DAY - 1;
            day = if self.in_month(day) { day.pred_opt()? } else { day.with_day(1)?.pred_opt()? };
        }
        None
    }

    /// The first time of day at or after one, in seconds from midnight.
    fn time_from(&self, second: i64) -> Option<i64> {
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let first_minute = first_bit(self.minutes, 0)?;
        let first_second = first_bit(self.seconds, 0)?;
        if first_bit(self.hours, hour)? == hour {
            if first_bit(self.minutes, minute) == Some(minute)
                && let Some(second) = first_bit(self.seconds, second)
            {
                return Some(hour * 3600 + minute * 60 + second);
            }
            if let Some(minute) = first_bit(self.minutes, minute + 1) {
                return Some(hour * 3600 + minute * 60 + first_second);
            }
        }
        Some(first_bit(self.hours, hour + 1)? * 3600 + first_minute * 60 + first_second)
    }

    /// The last time of day at or before one, in seconds from midnight.
    fn time_until(&self, second: i64) -> Option<i64> {
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let last_minute = last_bit(self.minutes, 59)?;
        let last_second = last_bit(self.seconds, 59)?;
        if last_bit(self.hours, hour)? == hour {
            if last_bit(self.minutes, minute) == Some(minute)
                && let Some(second) = last_bit(self.seconds, second)
            {
                return Some(hour * 3600 + minute * 60 + second);
            }
            if let Some(minute) = last_bit(self.minutes, minute - 1) {
                return Some(hour * 3600 + minute * 60 + last_second);
            }
        }
        Some(last_bit(self.hours, hour - 1)? * 3600 + last_minute * 60 + last_second)
    }
}

/// The slots in a span of time, see [`Schedule::between`].
#[derive(Debug, Clone)]
pub struct Slots<'a> {
    schedule: &'a Schedule,
    after: DateTime<Utc>,
    until: DateTime<Utc>,
}

impl Iterator for Slots<'_> {
    type Item = DateTime<Utc>;

    fn next(&mut self) -> Option<DateTime<Utc>> {
        let slot = self.schedule.next_after(self.after).filter(|slot| *slot <= self.until)?;
        self.after = slot;
        Some(slot)
    }
}

impl DoubleEndedIterator for Slots<'_> {
    fn next_back(&mut self) -> Option<DateTime<Utc>> {
        let slot = self.schedule.previous_or_at(self.until).filter(|slot| *slot > self.after)?;
        self.until = slot - TimeDelta::seconds(1);
        Some(slot)
    }
}

fn instant(timestamp: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(timestamp, 0)
}

/// The timestamp of a day's midnight in UTC.
fn start(day: NaiveDate) -> i64 {
    day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp()
}

/// A field's name, the most that it takes, all that it takes, and the letters among that.
const FIELDS: [(&str, u32, &str, &str); 6] = [
    ("second", 59, "0 to 59", ""),
    ("minute", 59, "0 to 59", ""),
    ("hour", 23, "0 to 23", ""),
    ("day of the month", 31, "1 to 31, L for the last", "L W LW"),
    ("month", 12, "1 to 12 or JAN to DEC", "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC"),
    ("day of the week", 7, "0 to 7 or SUN to SAT", "L SUN MON TUE WED THU FRI SAT SUNL MONL TUEL WEDL THUL FRIL SATL"),
];

/// What is wrong with a rule, by its fields: croner's own errors do not say in which one. `parser`
/// is asked about each of them alone.
fn wrong_field(text: &str, parser: Option<&CronParser>) -> Option<String> {
    let fields: Vec<&str> = text.split(' ').collect();
    if let Some(name) = text.strip_prefix('@') {
        let known = ["yearly", "annually", "monthly", "weekly", "daily", "hourly"];
        let unknown = known.iter().all(|known| !known.eq_ignore_ascii_case(name));
        return unknown.then(|| "there are only @yearly, @monthly, @weekly, @daily and @hourly".to_owned());
    }
    if !(5..=6).contains(&fields.len()) || text.is_empty() {
        let count = match fields.len() {
            _ if text.is_empty() => "no field".to_owned(),
            1 => "1 field".to_owned(),
            count => format!("{count} fields"),
        };
        return Some(format!("it has {count}, and a rule has 5, or 6 with the second in front"));
    }
    let fields = FIELDS.iter().zip(std::iter::repeat_n("0", 6 - fields.len()).chain(fields));
    for (place, ((name, most, takes, letters), field)) in fields.enumerate() {
        let alone = || (0..6).map(|other| if other == place { field } else { "*" }).collect::<Vec<&str>>().join(" ");
        let too_far = |part: &str| match part.split_once('/') {
            Some((_, step)) => step.parse::<u32>().is_ok_and(|step| step > *most),
            None => part.is_empty(),
        };
        let word = |word: &str| letters.split(' ').any(|known| known.eq_ignore_ascii_case(word));
        let wrong_word =
            !field.split(|letter: char| !letter.is_ascii_alphabetic()).all(|part| part.is_empty() || word(part));
        if wrong_word || field.split(',').any(too_far) || parser.is_some_and(|parser| parser.parse(&alone()).is_err()) {
            let several = "several as 1,3 or 1-5 or */5, all as *";
            return Some(format!("{field:?} does not fit the {name} ({takes}; {several})"));
        }
    }
    None
}

/// The lowest bit that is set, from `from` up.
fn first_bit(bits: u64, from: i64) -> Option<i64> {
    let rest = bits.checked_shr(u32::try_from(from).ok()?).filter(|rest| *rest != 0)?;
    Some(from + i64::from(rest.trailing_zeros()))
}

/// The highest bit that is set, from `until` down.
fn last_bit(bits: u64, until: i64) -> Option<i64> {
    let rest = bits.checked_shl(63_u32.checked_sub(u32::try_from(until).ok()?)?).filter(|rest| *rest != 0)?;
    Some(until - i64::from(rest.leading_zeros()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

    use chrono::SecondsFormat;

    use super::*;

    pub(super) fn schedule(rule: &str, zone: &str) -> Schedule {
        Schedule::parse(rule, zone.parse().unwrap()).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(super) fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// The instants in [from, to), in UTC to the minute.
    pub(super) fn due(schedule: &Schedule, from: &str, to: &str) -> Vec<String> {
        let mut time = utc(from) - TimeDelta::seconds(1);
        let mut found = Vec::new();
        while let Some(next) = schedule.next_after(time).filter(|next| *next < utc(to)) {
            assert!(next > time);
            found.push(next.to_rfc3339_opts(SecondsFormat::Secs, true)[..16].to_owned());
            time = next;
        }
        found
    }

    /// Backward finds the same instants as forward, from every quarter of an hour around each case.
    #[test]
    fn the_given_instant_counts_backward_only() {
        let daily = schedule("0 2 * * *", "UTC");
        let two = utc("2026-05-01T02:00:00Z");
        let moment = TimeDelta::milliseconds(500);
        assert_eq!(daily.next_after(two), Some(two + TimeDelta::days(1)));
        assert_eq!(daily.next_after(two - moment), Some(two));
        assert_eq!(daily.next_after(two + moment), Some(two + TimeDelta::days(1)));
        assert_eq!(daily.previous_or_at(two), Some(two));
        assert_eq!(daily.previous_or_at(two + moment), Some(two));
        assert_eq!(daily.previous_or_at(two - moment), Some(two - TimeDelta::days(1)));
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
            assert!(matches!(Schedule::parse(rule, Zone::UTC), Err(ScheduleError::NotARule { .. })), "{rule}");
        }
        let never = Schedule::parse("0 0 30 2 *", Zone::UTC).unwrap_err().to_string();
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

    /// What is wrong with a rule is said by its field.
    #[test]
    fn refusals_name_the_field() {
        for (rule, says) in [
            ("", "it has no field, and a rule has 5, or 6 with the second in front"),
            ("02:00", "it has 1 field, and a rule has 5, or 6 with the second in front"),
            ("0 0 2 * * * 2026", "it has 7 fields, and a rule has 5, or 6 with the second in front"),
            ("60 2 * * *", "\"60\" does not fit the minute (0 to 59; "),
            ("60 0 2 * * *", "\"60\" does not fit the second (0 to 59; "),
            ("0 5-2 * * *", "\"5-2\" does not fit the hour (0 to 23; "),
            ("0 2 32 * *", "\"32\" does not fit the day of the month (1 to 31, L for the last; "),
            ("0 2 * MON *", "\"MON\" does not fit the month (1 to 12 or JAN to DEC; "),
            ("0 2 * * 8", "\"8\" does not fit the day of the week (0 to 7 or SUN to SAT; "),
            // croner alone would take these, for every hour, midnight, and the two.
            ("*/90 * * * *", "\"*/90\" does not fit the minute"),
            ("0 */25 * * *", "\"*/25\" does not fit the hour"),
            ("MON 2 * * *", "\"MON\" does not fit the minute"),
            ("0 2 JAN * *", "\"JAN\" does not fit the day of the month"),
            ("0 2 * * JAN", "\"JAN\" does not fit the day of the week"),
            ("0,,5 2 * * *", "\"0,,5\" does not fit the minute"),
            ("@fortnightly", "there are only @yearly, "),
        ] {
            let error = Schedule::parse(rule, Zone::UTC).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{rule:?} is no cron rule: {says}")), "{error}");
        }
    }

    #[test]
    fn describe() {
        let schedule = schedule("  0  2 * * * ", "Europe/Paris");
        assert_eq!(schedule.describe(), "0 2 * * * (Europe/Paris)");
        assert_eq!(schedule.rule(), "0 2 * * *");
    }
}
