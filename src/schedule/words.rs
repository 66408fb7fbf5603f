//! A schedule in words, for people.

use chrono::{DateTime, Timelike, Utc};

use super::{DAY, EVERY_HOUR, Schedule, first_bit, instant};
use crate::time::Change;

/// For how long ahead a warning looks at the clock changes.
const WARNED_DAYS: i64 = 3 * 366;

/// So many times of day are listed one by one; more are told as a range.
const LISTED: usize = 4;

const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

impl Schedule {
    /// The rule and its zone in words, such as `every day at 02:00, Europe/Paris`.
    pub fn in_words(&self) -> String {
        let zone = self.zone;
        match (self.times(), self.days()) {
            (Times::At(times), days) => {
                let days = days.unwrap_or_else(|| "every day".to_owned());
                format!("{days} at {}, {zone}", listed(&times))
            }
            (Times::Every(interval), None) => format!("{interval}, {zone}"),
            (Times::Every(interval), Some(days)) => format!("{days}, {interval}, {zone}"),
        }
    }

    /// What the clock changes of the three years after `from` do to the slots: one sentence for the next change forward
    /// that does something, one for the next change back. Empty where no slot is lost, moved or repeated and
    /// none is nearer to its neighbours or farther from them than otherwise.
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

    /// What becomes of the slots around one change, if anything.
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
            let (from, pause) = (clock(last.timestamp() + change.before), length((next - last).num_seconds()));
            what.push_str(&format!(", and after {from} nothing does for {pause}"));
        }
        Some(format!("{times} come twice on {day}, {turn}: {what}"))
    }

    /// The same for a rule that follows the clock on the wall.
    fn effect_by_the_hour(&self, change: &Change, named: &[i64], when: &str) -> Option<String> {
        // A change by whole hours leaves a rule of every hour where it was, and so does one after which the same minutes
        // and seconds are named as before.
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
        let (shown, apart) = (clock(last.timestamp() + change.before), length((next - last).num_seconds()));
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

    fn times(&self) -> Times {
        let (hours, minutes, seconds) = (values(self.hours), values(self.minutes), values(self.seconds));
        let count = hours.len() * minutes.len();
        let stepped = step(&hours, 24).map(|(step, _)| step);
        if let [second] = seconds.as_slice() {
            let few = count <= LISTED && hours.len() < 24;
            if few || (minutes.len() == 1 && stepped.is_none()) {
                let times = hours.iter().flat_map(|hour| minutes.iter().map(move |minute| hour * 3600 + minute * 60));
                return Times::At(times.map(|time| clock(time + second)).collect());
            }
        } else if let ([hour], [minute]) = (hours.as_slice(), minutes.as_slice()) {
            let time = clock(hour * 3600 + minute * 60);
            return Times::At(vec![match step(&seconds, 60) {
                Some((1, true)) => format!("{time}, every second of that minute"),
                Some((seconds, true)) => format!("{time}, every {seconds} seconds of that minute"),
                _ => format!("{time}, seconds {}", numbers(&seconds)),
            }]);
        }
        let every_hour = self.hours == EVERY_HOUR;
        let in_an_hour = match (minutes.as_slice(), step(&minutes, 60)) {
            ([0], _) if every_hour => "every hour, on the hour".to_owned(),
            ([minute], _) if every_hour => format!("every hour at minute {minute}"),
            // The range of times behind it says at which minute.
            ([_], _) if stepped == Some(1) => "every hour".to_owned(),
            ([_], _) => stepped.map_or_else(String::new, |hours| format!("every {hours} hours")),
            (_, Some((1, true))) => "every minute".to_owned(),
            (_, Some((minutes, true))) => format!("every {minutes} minutes"),
            _ => format!("every hour at minutes {}", numbers(&minutes)),
        };
        let within = match (seconds.as_slice(), step(&seconds, 60)) {
            ([0], _) => in_an_hour,
            ([second], _) => format!("{in_an_hour}, at second {second}"),
            (_, also) => {
                let seconds = match also {
                    Some((1, true)) => "every second".to_owned(),
                    Some((seconds, true)) => format!("every {seconds} seconds"),
                    _ => format!("seconds {}", numbers(&seconds)),
                };
                match (minutes.as_slice(), step(&minutes, 60)) {
                    (_, Some((1, true))) if also.is_some_and(|(_, evenly)| evenly) => seconds,
                    (_, Some((1, true))) => format!("every minute at {seconds}"),
                    (_, Some((minutes, true))) => format!("{seconds} of every {} minute", ordinal(minutes)),
                    ([minute], _) => format!("{seconds} of minute {minute} of every hour"),
                    _ => format!("{seconds} of the minutes {} of every hour", numbers(&minutes)),
                }
            }
        };
        let (first, last) = (self.time_from(0).unwrap_or(0), self.time_until(DAY - 1).unwrap_or(0));
        Times::Every(if every_hour {
            within
        } else if hours.len() == 1 || stepped == Some(1) || (minutes.len() == 1 && seconds.len() == 1) {
            format!("{within} from {} to {}", clock(first), clock(last))
        } else {
            format!("{within}, in the hours {}", numbers(&hours))
        })
    }

    /// `every Monday`, `on the 1st of every month`; None for every day.
    fn days(&self) -> Option<String> {
        let pattern = &self.cron.pattern;
        let months = self.months();
        let of = months.clone().unwrap_or_else(|| "every month".to_owned());
        let (fields, count) = (self.text.split(' '), self.text.split(' ').count());
        let mut fields = fields.skip(count.saturating_sub(3));
        let (of_month, of_week) = (fields.next().unwrap_or(""), fields.nth(1).unwrap_or(""));

        let in_month = (!pattern.is_dom_wildcard()).then(|| {
            let days: Vec<i64> = pattern.days.values().into_iter().map(i64::from).collect();
            let mut named = match (step(&days, 0), days.as_slice()) {
                (Some((step @ 2.., _)), [first, .., last]) if days.len() > LISTED => {
                    vec![format!(
                        "{}, and every {} day after it to the {},",
                        ordinal(*first),
                        ordinal(step),
                        ordinal(*last)
                    )]
                }
                _ => ranges(&days, ordinal),
            };
            for part in modifiers(of_month) {
                named.push(match part.strip_suffix('W') {
                    Some("L") => "last working day".to_owned(),
                    Some(day) => format!("working day nearest the {}", day.parse().map_or(day.to_owned(), ordinal)),
                    None => "last day".to_owned(),
                });
            }
            format!("on the {} of {of}", listed(&named))
        });
        let in_week = (!pattern.is_dow_wildcard()).then(|| {
            let mut days: Vec<i64> = pattern.days_of_week.values().into_iter().map(|day| i64::from(day % 7)).collect();
            days.sort_unstable();
            days.dedup();
            // The week of people ends with Sunday, not begins.
            if let [0, rest @ ..] = days.as_slice() {
                days = rest.iter().copied().chain([7]).collect();
            }
            let weekdays = ranges(&days, weekday);
            let mut named = Vec::new();
            if !weekdays.is_empty() {
                let month = months.as_ref().map(|months| format!(" in {months}")).unwrap_or_default();
                let every = if weekdays.iter().any(|days| days.contains(" to ")) { "" } else { "every " };
                named.push(format!("{every}{}{month}", listed(&weekdays)));
            }
            let counted: Vec<String> = modifiers(of_week)
                .map(|part| {
                    let part = part.to_ascii_uppercase();
                    let (day, which) = match part.split_once('#') {
                        Some((day, which)) => (day, which),
                        None => (part.trim_end_matches('L'), "L"),
                    };
                    let which = which.parse().map_or_else(|_| "last".to_owned(), ordinal);
                    format!("{which} {}", weekday_of(day))
                })
                .collect();
            if !counted.is_empty() {
                named.push(format!("on the {} of {of}", listed(&counted)));
            }
            named.join(" and ")
        });
        match (in_month, in_week) {
            (None, None) => months.map(|months| format!("every day in {months}")),
            (Some(days), None) | (None, Some(days)) => Some(days),
            (Some(month), Some(week)) => Some(format!("{month} and {week}")),
        }
    }

    /// `January and July`; None for all months.
    fn months(&self) -> Option<String> {
        let months: Vec<i64> = self.cron.pattern.months.values().into_iter().map(i64::from).collect();
        let name = |month: i64| {
            let name = usize::try_from(month - 1).ok().and_then(|month| MONTHS.get(month));
            name.map_or_else(|| month.to_string(), |name| (*name).to_owned())
        };
        (months.len() < 12).then(|| listed(&ranges(&months, name)))
    }
}

/// When a rule comes due on its days.
enum Times {
    /// At these times of day.
    At(Vec<String>),
    /// As an interval, such as `every 15 minutes from 09:00 to 17:45`.
    Every(String),
}

/// Parts of a day field whose meaning depends on the month.
fn modifiers(field: &str) -> impl Iterator<Item = &str> {
    // Names such as JUL are of months only, and no weekday has an L or a W but WED.
    let depends = |part: &&str| {
        let part = part.to_ascii_uppercase();
        part.contains('#') || part.ends_with('L') || part.ends_with('W')
    };
    field.split(',').filter(depends)
}

fn weekday(day: i64) -> String {
    let name = usize::try_from(day % 7).ok().and_then(|day| WEEKDAYS.get(day));
    name.map_or_else(|| day.to_string(), |name| (*name).to_owned())
}

/// A weekday as a rule writes it: a number, a name's three letters, or a range of either.
fn weekday_of(written: &str) -> String {
    if let Some((first, last)) = written.split_once('-') {
        return format!("{} to {}", weekday_of(first), weekday_of(last));
    }
    let named = WEEKDAYS.iter().find(|name| name.to_ascii_uppercase().starts_with(written));
    named.map_or_else(|| written.parse().map_or_else(|_| written.to_owned(), weekday), |name| (*name).to_owned())
}

/// `1st`, `22nd`.
fn ordinal(number: i64) -> String {
    let ending = match (number % 10, number % 100) {
        (1, not) if not != 11 => "st",
        (2, not) if not != 12 => "nd",
        (3, not) if not != 13 => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

/// The bits that are set.
fn values(bits: u64) -> Vec<i64> {
    std::iter::successors(first_bit(bits, 0), |bit| first_bit(bits, bit + 1)).collect()
}

/// The distance of at least three values, if it is the same between all of them; and whether it goes on evenly into the
/// next round, as `*/15` of 60 does and `*/7` does not.
fn step(values: &[i64], round: i64) -> Option<(i64, bool)> {
    let [first, second, .., last] = values else {
        // 0 and 30 of 60.
        let [0, second] = values else { return None };
        return (second * 2 == round).then_some((*second, true));
    };
    let step = second - first;
    let mut pairs = values.iter().zip(values.iter().skip(1));
    pairs.all(|(one, next)| next - one == step).then(|| (step, *first == 0 && last + step == round))
}

/// `a`, `a and b`, `a, b and c`.
fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [front @ .., last] => format!("{} and {last}", front.join(", ")),
    }
}

/// Three neighbours or more as `1 to 5`.
fn ranges(values: &[i64], name: impl Fn(i64) -> String) -> Vec<String> {
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for value in values {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *value => *last = *value,
            _ => runs.push((*value, *value)),
        }
    }
    let named = runs.into_iter().flat_map(|(first, last)| match last - first {
        0 => vec![name(first)],
        1 => vec![name(first), name(last)],
        _ => vec![format!("{} to {}", name(first), name(last))],
    });
    named.collect()
}

fn numbers(values: &[i64]) -> String {
    listed(&ranges(values, |value| value.to_string()))
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

/// `90 minutes`, `2 hours`, `30 seconds`.
fn length(seconds: i64) -> String {
    let (count, unit) = match seconds {
        _ if seconds % 3600 == 0 => (seconds / 3600, "hour"),
        _ if seconds % 60 == 0 => (seconds / 60, "minute"),
        _ => (seconds, "second"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
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
            ("0 2 * * *", "every day at 02:00"),
            ("30 0 2 * * *", "every day at 02:00:30"),
            ("0 0,2 * * *", "every day at 00:00 and 02:00"),
            ("30 1-3 * * *", "every day at 01:30, 02:30 and 03:30"),
            ("*/15 2 * * *", "every day at 02:00, 02:15, 02:30 and 02:45"),
            ("0 1,5,9,13,17,20 * * *", "every day at 01:00, 05:00, 09:00, 13:00, 17:00 and 20:00"),
            ("10-20 0 14 * * *", "every day at 14:00, seconds 10 to 20"),
            ("* * * * *", "every minute"),
            ("* * * * * *", "every second"),
            ("*/15 * * * *", "every 15 minutes"),
            ("0,30 * * * *", "every 30 minutes"),
            ("*/7 * * * *", "every hour at minutes 0, 7, 14, 21, 28, 35, 42, 49 and 56"),
            ("0-29 * * * *", "every hour at minutes 0 to 29"),
            ("0 * * * *", "every hour, on the hour"),
            ("5 * * * *", "every hour at minute 5"),
            ("5,35 * * * *", "every hour at minutes 5 and 35"),
            ("*/10 * * * * *", "every 10 seconds"),
            ("15 * * * * *", "every minute, at second 15"),
            ("15,45 * * * * *", "every minute at seconds 15 and 45"),
            ("* */2 * * * *", "every second of every 2nd minute"),
            ("0 */2 * * *", "every 2 hours from 00:00 to 22:00"),
            ("0 */8 * * *", "every day at 00:00, 08:00 and 16:00"),
            ("0 */5 * * *", "every 5 hours from 00:00 to 20:00"),
            ("17 1-21/4 * * *", "every 4 hours from 01:17 to 21:17"),
            ("* 2 * * *", "every minute from 02:00 to 02:59"),
            ("* 0-5 * * *", "every minute from 00:00 to 05:59"),
            ("*/10 2,4 * * *", "every 10 minutes, in the hours 2 and 4"),
            ("0 9-17 * * MON-FRI", "Monday to Friday, every hour from 09:00 to 17:00"),
            ("*/15 9-17 * * mon-fri", "Monday to Friday, every 15 minutes from 09:00 to 17:45"),
            ("*/5 * * * 3", "every Wednesday, every 5 minutes"),
            ("0 2 * * SUN", "every Sunday at 02:00"),
            ("0 2 * * 7", "every Sunday at 02:00"),
            ("0 2 * * 0,6", "every Saturday and Sunday at 02:00"),
            ("0 6 * * 5-7", "Friday to Sunday at 06:00"),
            ("0 6 1 * MON", "on the 1st of every month and every Monday at 06:00"),
            ("0 6 1,15 * *", "on the 1st and 15th of every month at 06:00"),
            ("0 6 1-7 * *", "on the 1st to 7th of every month at 06:00"),
            ("0 6 */2 * *", "on the 1st, and every 2nd day after it to the 31st, of every month at 06:00"),
            ("0 6 L * *", "on the last day of every month at 06:00"),
            ("0 6 LW * *", "on the last working day of every month at 06:00"),
            ("0 6 15W,L * *", "on the working day nearest the 15th and last day of every month at 06:00"),
            ("0 6 * * FRI#L", "on the last Friday of every month at 06:00"),
            ("0 6 * * 5L", "on the last Friday of every month at 06:00"),
            ("0 6 * * TUE#2", "on the 2nd Tuesday of every month at 06:00"),
            ("0 6 * * TUE#2,FRI", "every Friday and on the 2nd Tuesday of every month at 06:00"),
            ("0 6 1 1 *", "on the 1st of January at 06:00"),
            ("0 6 1 */3 *", "on the 1st of January, April, July and October at 06:00"),
            ("0 6 * 6-8 *", "every day in June to August at 06:00"),
            ("0 6 * 6 MON", "every Monday in June at 06:00"),
            ("30 18 15,L MAR FRI", "on the 15th and last day of March and every Friday in March at 18:30"),
            ("@daily", "every day at 00:00"),
            ("@hourly", "every hour, on the hour"),
            ("@weekly", "every Sunday at 00:00"),
            ("@monthly", "on the 1st of every month at 00:00"),
            ("@yearly", "on the 1st of January at 00:00"),
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
