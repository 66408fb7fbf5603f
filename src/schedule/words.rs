//! A schedule in words: what its rule means, and what clock changes do to its slots.

use chrono::{DateTime, TimeDelta, Timelike, Utc};

use super::chinese::Chinese;
use super::{DAY, Schedule, instant};
use crate::language::Language;
use crate::time::{Change, duration_text};

/// How many days ahead the warnings look.
const WARNED_DAYS: i64 = 3 * 366;

/// At most so many times of day are listed one by one; more are written as a range.
const LISTED: usize = 4;

impl Schedule {
    /// The rule and its zone in words, such as `At 02:00, Europe/Paris`.
    pub fn in_words(&self) -> String {
        let mut words = self.cron.describe();
        // croner calls the last weekday of a month, too, its last day.
        if self.text.to_ascii_uppercase().contains("LW") {
            words = words.replace("last day of", "last weekday of");
        }
        format!("{}, {}", words.trim_end_matches('.'), self.zone)
    }

    /// The same in a reader's language.
    pub fn in_words_of(&self, language: Language) -> String {
        match language {
            Language::English => self.in_words(),
            Language::SimplifiedChinese => {
                let words =
                    self.cron.describe_lang(Chinese).replace(", ", "，").replace(" 和 ", "和").replace(" 或 ", "或");
                format!("{}，{}", words.trim_end_matches('.'), self.zone)
            }
        }
    }

    /// What the clock changes of the three years after `from` do to the slots. One sentence is about the next forward
    /// change with an effect, one about the next change back. Empty if no slot is lost, moved or repeated, and all
    /// distances stay the same.
    pub fn clock_change_warnings(&self, from: DateTime<Utc>) -> Vec<String> {
        let (mut forward, mut back) = (None, None);
        let (mut now, end) = (from.timestamp(), from.timestamp().saturating_add(WARNED_DAYS * DAY));
        while let Some(change) = self.zone.first_change(now, end) {
            let told = if change.after > change.before { &mut forward } else { &mut back };
            *told = told.take().or_else(|| Some((change.at, self.effect(&change)?)));
            if forward.is_some() && back.is_some() {
                break;
            }
            now = change.at;
        }
        let mut warnings: Vec<(i64, String)> = forward.into_iter().chain(back).collect();
        warnings.sort();
        warnings.into_iter().map(|(_, warning)| warning).collect()
    }

    /// The effect of one change on the slots around it, if it has one.
    fn effect(&self, change: &Change) -> Option<String> {
        let (low, high) = order(change.local_before(), change.local_after());
        let forward = change.after > change.before;
        let named: Vec<i64> = std::iter::successors(self.local_from(low), |local| self.local_from(local + 1))
            .take_while(|local| *local < high)
            .collect();
        let day = date(if forward { low } else { high - 1 });
        let turn = format!(
            "when the clocks in {} go {} from {} to {}",
            self.zone,
            if forward { "forward" } else { "back" },
            clock(change.local_before()),
            clock(change.local_after()),
        );
        let one = named.len() == 1;
        if !self.once_a_day() {
            return self.effect_by_the_hour(change, &named, &format!("on {day}, {turn}"));
        }
        let (first, last) = (*named.first()?, *named.last()?);
        let times = times_of_day(&named);
        if forward {
            let do_not = if one { "does not exist" } else { "do not exist" };
            let slot = self.next_after(instant(change.at - 1)?)?.timestamp() + change.after;
            let that_day = if date(slot) == day { "that day".to_owned() } else { format!("on {}", date(slot)) };
            let when = format!("{} {that_day}", clock(slot));
            let what = match (self.local_from(slot) == Some(slot), one) {
                (false, true) => format!("the slot comes due at {when}"),
                (false, false) => format!("one slot comes due for all of them, at {when}"),
                (true, true) => format!("the slot falls together with the one at {when}"),
                (true, false) => format!("all of them fall together with the slot at {when}"),
            };
            return Some(format!("{times} {do_not} on {day}, {turn}: {what}"));
        }
        let (first, last) = (instant(first - change.before)?, instant(last - change.before)?);
        if one {
            let utc = clock(first.timestamp());
            let what = format!("the slot comes due the first time only, at {utc} UTC");
            return Some(format!("{times} comes twice on {day}, {turn}: {what}"));
        }
        let mut what = "each comes due the first time only".to_owned();
        let next = self.next_after(last)?;
        if date(next.timestamp() + change.after) == day {
            let (from, pause) = (clock(last.timestamp() + change.before), length(next - last));
            what.push_str(&format!(", and after {from} nothing does for {pause}"));
        }
        Some(format!("{times} come twice on {day}, {turn}: {what}"))
    }

    /// The effect on a rule of every hour, which follows the clock on the wall.
    fn effect_by_the_hour(&self, change: &Change, named: &[i64], when: &str) -> Option<String> {
        // The slots keep their distance if the rule names the same minutes and seconds before and after the change.
        // After a change by whole hours it always does.
        let mut hour = 0..3600;
        let names = |local: i64| {
            let time = local.rem_euclid(DAY);
            self.time_from(time) == Some(time)
        };
        if hour.all(|second| names(change.local_before() + second) == names(change.local_after() + second)) {
            return None;
        }
        let last = self.previous_or_at(instant(change.at - 1)?)?;
        let next = self.next_after(last)?;
        let (shown, apart) = (clock(last.timestamp() + change.before), length(next - last));
        let distance =
            format!("{apart} pass from the slot at {shown} to the one at {}", clock(next.timestamp() + change.after));
        if named.is_empty() {
            return Some(format!("{when}: {distance}"));
        }
        let times = times_of_day(named);
        let what = match (change.after > change.before, named.len() == 1) {
            (true, true) => "does not exist and does not come due",
            (true, false) => "do not exist and do not come due",
            (false, true) => "comes twice and comes due both times",
            (false, false) => "come twice and come due both times",
        };
        Some(format!("{when}: {times} {what}; {distance}"))
    }
}

/// `a`, `a and b`, `a, b and c`.
fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [front @ .., last] => format!("{} and {last}", front.join(", ")),
    }
}

/// A local time of day: `02:00`, or `02:00:30` where it is no whole minute.
fn clock(local: i64) -> String {
    let Some(time) = instant(local) else { return String::new() };
    let form = if time.second() == 0 { "%H:%M" } else { "%H:%M:%S" };
    time.format(form).to_string()
}

fn date(local: i64) -> String {
    instant(local).map(|time| time.format("%F").to_string()).unwrap_or_default()
}

/// `02:00, 02:15 and 02:30`, or `60 times from 02:00 to 02:59`.
fn times_of_day(local: &[i64]) -> String {
    match local {
        [first, .., last] if local.len() > LISTED => {
            format!("the {} times from {} to {}", local.len(), clock(*first), clock(*last))
        }
        _ => listed(&local.iter().map(|time| clock(*time)).collect::<Vec<_>>()),
    }
}

/// A distance between two slots, such as `90 minutes`.
fn length(distance: TimeDelta) -> String {
    duration_text(distance.to_std().unwrap_or_default())
}

fn order(one: i64, other: i64) -> (i64, i64) {
    (one.min(other), one.max(other))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn schedule(rule: &str, zone: &str) -> Schedule {
        Schedule::parse(rule, zone.parse().unwrap()).unwrap()
    }

    #[test]
    fn rules_in_words() {
        for (rule, words) in [
            ("0 2 * * *", "At 02:00"),
            ("30 0 2 * * *", "At 02:00:30"),
            ("*/15 2 * * *", "At every 15 minutes, of hour 2"),
            ("* * * * * *", "Every second"),
            ("0 2 * * SUN", "At 02:00, on Sunday"),
            ("0 6 1 * MON", "At 06:00, on day 1 or Monday"),
            ("0 6 L * *", "At 06:00, on the last day of the month"),
            ("0 6 LW * *", "At 06:00, on the last weekday of the month"),
            ("0 6 15W * *", "At 06:00, on the weekday nearest day 15"),
            ("0 6 * * TUE#2", "At 06:00, on the 2nd Tuesday of the month"),
            ("0 6 1 */3 *", "At 06:00, on day 1, in every 3 months"),
            ("@yearly", "At 00:00, on day 1, in January"),
        ] {
            assert_eq!(schedule(rule, "Asia/Shanghai").in_words(), format!("{words}, Asia/Shanghai"), "{rule}");
        }
    }

    #[test]
    fn what_a_clock_change_does() {
        let forward = "on 2027-03-28, when the clocks in Europe/Paris go forward from 02:00 to 03:00";
        let back = "on 2027-10-31, when the clocks in Europe/Paris go back from 03:00 to 02:00";
        let slot_before = "the 60 times from 02:00 to 02:59";
        for (rule, expected) in [
            ("30 4 * * *", vec![]),
            ("30 2 * * MON", vec![]),
            // The change of the hour leaves the hourly ones an hour apart.
            ("0 * * * *", vec![]),
            ("*/5 * * * *", vec![]),
            (
                "0 2 * * *",
                vec![
                    format!("02:00 does not exist {forward}: the slot comes due at 03:00 that day"),
                    format!("02:00 comes twice {back}: the slot comes due the first time only, at 00:00 UTC"),
                ],
            ),
            (
                "0 2,3 * * *",
                vec![
                    format!("02:00 does not exist {forward}: the slot falls together with the one at 03:00 that day"),
                    format!("02:00 comes twice {back}: the slot comes due the first time only, at 00:00 UTC"),
                ],
            ),
            (
                "*/30 2 * * *",
                vec![
                    format!(
                        "02:00 and 02:30 do not exist {forward}: one slot comes due for all of them, at 03:00 that day"
                    ),
                    format!("02:00 and 02:30 come twice {back}: each comes due the first time only"),
                ],
            ),
            (
                "* 0-5 * * *",
                vec![
                    format!(
                        "{slot_before} do not exist {forward}: all of them fall together with the slot at 03:00 that day"
                    ),
                    format!(
                        "{slot_before} come twice {back}: each comes due the first time only, and after 02:59 nothing does for 61 minutes"
                    ),
                ],
            ),
        ] {
            let warnings =
                schedule(rule, "Europe/Paris").clock_change_warnings("2026-11-22T00:00:00Z".parse().unwrap());
            assert_eq!(warnings, expected, "{rule}");
        }
        let lord_howe = schedule("0 * * * *", "Australia/Lord_Howe");
        assert_eq!(
            lord_howe.clock_change_warnings("2026-11-22T00:00:00Z".parse().unwrap()),
            [
                "on 2027-04-04, when the clocks in Australia/Lord_Howe go back from 02:00 to 01:30: 90 minutes pass from the slot at 01:00 to the one at 02:00",
                "on 2027-10-03, when the clocks in Australia/Lord_Howe go forward from 02:00 to 02:30: 02:00 does not exist and does not come due; 90 minutes pass from the slot at 01:00 to the one at 03:00",
            ]
        );
        let nuuk = schedule("30 23 * * *", "America/Nuuk");
        let warnings = nuuk.clock_change_warnings("2026-11-22T00:00:00Z".parse().unwrap());
        assert!(
            warnings.iter().any(|warning| warning.ends_with(": the slot comes due at 00:00 on 2027-03-28")),
            "{warnings:?}"
        );
    }
}
