//! Schedules against an own, independent computation of when they come due: around every clock change of every zone from
//! 2024 to 2037, after jumps of the clock, and over outages from a second to a year.

use std::collections::HashMap;
use std::sync::LazyLock;

use chrono::{DateTime, Datelike, Days, NaiveDate, Offset, TimeDelta, TimeZone, Utc};
use pointsd::schedule::Schedule;
use pointsd::time::Zone;

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;
const DAY: i64 = 86_400;

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn at(timestamp: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(timestamp, 0).unwrap()
}

fn schedule(rule: &str, zone: Zone) -> Schedule {
    Schedule::parse(rule, zone).unwrap_or_else(|error| panic!("{error}"))
}

fn offset(zone: Zone, timestamp: i64) -> i64 {
    zone.offset_from_utc_datetime(&at(timestamp).naive_utc()).fix().local_minus_utc().into()
}

/// A change of a zone's clocks, found by walking.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Change {
    at: i64,
    before: i64,
    after: i64,
}

/// Every change of the years 2024 to 2037: hours by the quarter of a day, minutes where the two ends differ.
fn changes(zone: Zone) -> Vec<Change> {
    let (mut now, end) = (utc("2024-01-01T00:00:00Z").timestamp(), utc("2038-01-01T00:00:00Z").timestamp());
    let mut found = Vec::new();
    let mut before = offset(zone, now);
    while now < end {
        let next = now + 6 * HOUR;
        if offset(zone, next) != before {
            for minute in (now..=next).step_by(60) {
                let after = offset(zone, minute);
                if after != before {
                    assert_ne!(offset(zone, minute - 1), after, "a change in the middle of a minute");
                    found.push(Change { at: minute, before, after });
                    before = after;
                }
            }
        }
        now = next;
    }
    found
}

/// The zones with their changes.
static ZONES: LazyLock<Vec<(Zone, Vec<Change>)>> = LazyLock::new(|| {
    Zone::names().iter().map(|name| name.parse().unwrap()).map(|zone| (zone, changes(zone))).collect()
});

/// A rule, and what it says in terms of its own.
struct Rule {
    text: String,
    /// Its times of day, in seconds from midnight.
    times: Vec<i64>,
    on: fn(NaiveDate) -> bool,
    every_hour: bool,
    /// How far around a change it is looked at, and how finely its instants are walked.
    span: i64,
    walk: i64,
}

fn every_day(_: NaiveDate) -> bool {
    true
}

fn rule(text: &str, times: impl IntoIterator<Item = i64>, on: fn(NaiveDate) -> bool) -> Rule {
    let times = times.into_iter().collect();
    Rule { text: text.to_owned(), times, on, every_hour: false, span: 14 * HOUR, walk: MINUTE }
}

fn hourly(text: &str, times: impl IntoIterator<Item = i64>, span: i64, walk: i64) -> Rule {
    let times = times.into_iter().collect();
    Rule { text: text.to_owned(), times, on: every_day, every_hour: true, span, walk }
}

/// Times of day in hours and minutes.
fn clock(times: &[(i64, i64)]) -> Vec<i64> {
    times.iter().map(|(hour, minute)| hour * HOUR + minute * MINUTE).collect()
}

fn every(seconds: i64) -> Vec<i64> {
    (0..DAY / seconds).map(|number| number * seconds).collect()
}

fn rules() -> Vec<Rule> {
    let sunday = |day: NaiveDate| day.weekday() == chrono::Weekday::Sun;
    let last = |day: NaiveDate| (day + Days::new(1)).month() != day.month();
    vec![
        rule("0 2 * * *", clock(&[(2, 0)]), every_day),
        rule("30 2 * * *", clock(&[(2, 30)]), every_day),
        rule("0 0 * * *", clock(&[(0, 0)]), every_day),
        rule("30 23 * * *", clock(&[(23, 30)]), every_day),
        rule("0 0,2 * * *", clock(&[(0, 0), (2, 0)]), every_day),
        rule("15,45 1-3 * * *", clock(&[(1, 15), (1, 45), (2, 15), (2, 45), (3, 15), (3, 45)]), every_day),
        rule("0 0-5 * * *", (0..6).map(|hour| hour * HOUR), every_day),
        rule("*/10 2 * * *", (0..6).map(|ten| 2 * HOUR + ten * 10 * MINUTE), every_day),
        rule("0 */2 * * *", every(2 * HOUR), every_day),
        rule("30 2 * * SUN", clock(&[(2, 30)]), sunday),
        rule("30 2 25-31 * *", clock(&[(2, 30)]), |day| day.day() >= 25),
        rule("0 1,2,3 L * *", clock(&[(1, 0), (2, 0), (3, 0)]), last),
        rule("30 2 1 * SUN", clock(&[(2, 30)]), |day| day.day() == 1 || day.weekday() == chrono::Weekday::Sun),
        rule("0 2 * MAR,OCT *", clock(&[(2, 0)]), |day| [3, 10].contains(&day.month())),
        Rule { walk: 30, ..rule("30 30 2 * * *", [2 * HOUR + 30 * MINUTE + 30], every_day) },
        Rule { walk: 30, span: 4 * HOUR, ..rule("*/30 * 0-4 * * *", (0..600).map(|half| half * 30), every_day) },
        hourly("0 * * * *", every(HOUR), 14 * HOUR, MINUTE),
        hourly("45 0-23 * * *", every(HOUR).into_iter().map(|hour| hour + 45 * MINUTE), 14 * HOUR, MINUTE),
        hourly("*/15 * * * *", every(15 * MINUTE), 4 * HOUR, MINUTE),
        hourly("* * * * *", every(MINUTE), 2 * HOUR, MINUTE),
        hourly("* * * * * *", every(1), 3 * MINUTE, 1),
    ]
}

/// Rules made for a change: its edges and its middle.
fn rules_at(change: Change) -> Vec<Rule> {
    let (one, other) = (change.at + change.before, change.at + change.after);
    let last = (one - 1).rem_euclid(DAY);
    let text = format!("{} {} {} * * *", last % 60, last / MINUTE % 60, last / HOUR);
    let last_second = Rule { span: 3 * MINUTE, walk: 1, ..rule(&text, [last], every_day) };
    let mut rules: Vec<Rule> = [one.min(other), (one + other) / 2, one.max(other), one.max(other) - MINUTE]
        .map(|local| {
            let time = local.rem_euclid(DAY) / MINUTE * MINUTE;
            rule(&format!("{} {} * * *", time / MINUTE % 60, time / HOUR), [time], every_day)
        })
        .into();
    rules.push(last_second);
    rules
}

/// When a rule comes due around a change, by walking through all its instants and reading the clock on the wall.
///
/// By the hour: whenever the clock shows one of the times. Else: when the clock shows the time, or a later one, for
/// the first time.
fn expected(rule: &Rule, change: Change) -> (i64, i64, Vec<i64>) {
    let wall = |now: i64| now + if now < change.at { change.before } else { change.after };
    let (start, end) = (change.at - rule.span, change.at + rule.span);
    let edges = [wall(start), wall(end), change.at + change.before, change.at + change.after];
    let (low, high) = (*edges.iter().min().unwrap(), *edges.iter().max().unwrap());
    let mut named = Vec::new();
    for day in (low.div_euclid(DAY)..=high.div_euclid(DAY)).filter(|day| (rule.on)(at(day * DAY).date_naive())) {
        let from = rule.times.partition_point(|time| day * DAY + time < low);
        let times = rule.times[from..].iter().map(|time| day * DAY + time);
        named.extend(times.take_while(|local| *local <= high));
    }
    let mut due = Vec::new();
    let mut shown = wall(start);
    let mut coming = named.partition_point(|local| *local <= shown);
    let mut now = start;
    while now < end {
        now += rule.walk;
        let shows = wall(now);
        if rule.every_hour {
            if named.binary_search(&shows).is_ok() {
                due.push(now);
            }
        } else if shows > shown {
            // From behind what was shown up to what is shown now.
            let until = coming + named[coming..].iter().take_while(|local| **local <= shows).count();
            if until > coming {
                due.push(now);
            }
            (coming, shown) = (until, shows);
        }
    }
    (start, end, due)
}

#[test]
fn around_every_clock_change_of_every_zone() {
    let rules = rules();
    let (mut zones, mut changing, mut transitions, mut compared, mut turn) = (0, 0, 0, 0, 0);
    let mut used = vec![0; rules.len()];
    for (zone, changes) in ZONES.iter() {
        let mut schedules = HashMap::new();
        zones += 1;
        changing += usize::from(!changes.is_empty());
        for pair in changes.windows(2) {
            assert!(pair[1].at - pair[0].at > 3 * DAY, "{zone}: two changes too near to each other to be told apart");
        }
        for &change in changes {
            transitions += 1;
            // All rules take their turns: each meets every zone.
            let turns = (0..2).map(|_| {
                turn = (turn + 1) % rules.len();
                used[turn] += 1;
                turn
            });
            let turns: Vec<usize> = turns.collect();
            for rule in turns.iter().map(|turn| &rules[*turn]).chain(&rules_at(change)) {
                let (start, end, due) = expected(rule, change);
                let schedule = schedules.entry(rule.text.clone()).or_insert_with(|| schedule(&rule.text, *zone));
                let slots = schedule.between(at(start), at(end));
                let forward: Vec<i64> = slots.clone().map(|slot| slot.timestamp()).collect();
                let mut backward: Vec<i64> = slots.rev().map(|slot| slot.timestamp()).collect();
                backward.reverse();
                for (direction, found) in [("forward", forward), ("backward", backward)] {
                    let differs = found.iter().zip(&due).find(|(found, due)| found != due);
                    assert!(
                        found == due,
                        "{} in {zone} around {}, {direction}: {} slots instead of {}, first {:?} instead of {:?}",
                        rule.text,
                        at(change.at),
                        found.len(),
                        due.len(),
                        differs.map(|(found, _)| at(*found)),
                        differs.map(|(_, due)| at(*due)),
                    );
                }
                // From where the walk through the slots never starts, such as within the repeated hour.
                let shift = (change.after - change.before).abs();
                let from = [-shift, -1, 0, 1, shift / 2, shift - 1, shift].map(|seconds| change.at + seconds);
                for start in from.into_iter().filter(|from| (start..end).contains(from)) {
                    let next = due.iter().copied().find(|slot| *slot > start);
                    let last = due.iter().copied().rfind(|slot| *slot <= start);
                    let what = || format!("{} in {zone} from {}", rule.text, at(start));
                    let near = |slot: Option<DateTime<Utc>>| slot.map(|slot| slot.timestamp());
                    assert!(next.is_none() || near(schedule.next_after(at(start))) == next, "after, {}", what());
                    assert!(last.is_none() || near(schedule.previous_or_at(at(start))) == last, "before, {}", what());
                }
                compared += due.len();
            }
        }
    }
    println!("{zones} zones, {changing} with changes, {transitions} changes, {compared} slots both ways");
    assert!(zones > 590 && changing > 190 && transitions > 5000 && compared > 300_000);
    assert!(used.iter().all(|times| *times > 400), "{used:?}");
}

#[test]
fn the_next_clock_changes_are_those_of_a_walk() {
    let mut found = 0;
    for (zone, changes) in ZONES.iter() {
        let schedule = schedule("0 2 * * *", *zone);
        let first = utc("2024-01-01T00:00:00Z").timestamp();
        // From just before and at each change; those near the end see changes which the walk did not reach.
        let starts = changes.iter().flat_map(|change| [change.at - 1, change.at]).chain([first]);
        for start in starts.filter(|start| *start < utc("2032-06-01T00:00:00Z").timestamp()) {
            let next = |forward: bool| {
                let coming = changes.iter().filter(|change| change.at > start && change.at < start + 5 * 366 * DAY);
                coming.filter(|change| (change.after > change.before) == forward).map(|change| change.at).next()
            };
            let mut expected: Vec<i64> = [next(true), next(false)].into_iter().flatten().collect();
            expected.sort_unstable();
            let told = schedule.next_clock_changes(at(start));
            assert_eq!(told.iter().map(|change| change.at.timestamp()).collect::<Vec<_>>(), expected, "{zone}");
            for change in told {
                found += 1;
                let here = |time: DateTime<Utc>| time.with_timezone(zone).naive_local();
                assert_eq!(change.local_after(), here(change.at), "{zone}");
                let second = TimeDelta::seconds(1);
                assert_eq!(change.local_before() - second, here(change.at - second), "{zone}");
                assert_eq!(change.is_forward(), change.local_after() > change.local_before(), "{zone}");
            }
        }
    }
    println!("{found} changes told");
    assert!(found > 9000, "{found}");
    assert_eq!(schedule("0 2 * * *", Zone::UTC).next_clock_changes(utc("2026-01-01T00:00:00Z")), []);
}

/// Wherever the clock jumps to, the slot before and the slot after are neighbours of each other.
#[test]
fn after_any_jump_of_the_clock_the_slots_are_the_same() {
    let rules = rules();
    let texts = rules.iter().map(|rule| rule.text.as_str()).chain(["0 0 29 2 *", "15 3 1 JAN *", "0 4 * * FRI#L"]);
    let texts: Vec<&str> = texts.collect();
    let mut random = fastrand::Rng::with_seed(20_260_329);
    let second = TimeDelta::seconds(1);
    for _ in 0..5_000 {
        let (zone, text) = (random.choice(ZONES.iter()).unwrap().0, *random.choice(&texts).unwrap());
        let (from, to) =
            (utc("2024-01-01T00:00:00Z").timestamp_millis(), utc("2038-01-01T00:00:00Z").timestamp_millis());
        let now = DateTime::from_timestamp_millis(random.i64(from..to)).unwrap();
        let schedule = schedule(text, zone);
        let (before, after) = (schedule.previous_or_at(now).unwrap(), schedule.next_after(now).unwrap());
        assert!(before <= now && now < after, "{text} in {zone} at {now}: {before}, {after}");
        assert_eq!(schedule.next_after(before), Some(after), "{text} in {zone} at {now}");
        assert_eq!(schedule.previous_or_at(after), Some(after), "{text} in {zone} at {now}");
        assert_eq!(schedule.previous_or_at(after - second), Some(before), "{text} in {zone} at {now}");
        assert_eq!(schedule.next_after(before - second), Some(before), "{text} in {zone} at {now}");
    }
}

#[test]
fn outages_from_a_second_to_a_year() {
    let paris: Zone = "Europe/Paris".parse().unwrap();
    // From a Monday, 01:30 in Paris.
    let start = utc("2026-01-05T00:30:00Z");
    let count = |rule: &str, outage: i64| {
        let slots = schedule(rule, paris);
        let slots = slots.between(start, start + TimeDelta::seconds(outage));
        assert_eq!(slots.clone().count(), slots.clone().rev().count());
        slots.count()
    };
    let year = 365 * DAY;
    for (outage, minutes, at_two, at_half_past, mondays) in [
        (1, 0, 0, 0, 0),
        (MINUTE, 1, 0, 0, 0),
        (30 * MINUTE - 1, 29, 0, 0, 0),
        (30 * MINUTE, 30, 1, 0, 1),
        (DAY, 1440, 1, 1, 1),
        (7 * DAY, 10_080, 7, 7, 1),
        (7 * DAY + 30 * MINUTE, 10_110, 8, 7, 2),
        // The clocks go forward within it, so it ends at half past two.
        (100 * DAY, 144_000, 101, 101, 15),
        // And back again.
        (year, 525_600, 365, 365, 53),
    ] {
        assert_eq!(count("* * * * *", outage), minutes, "{outage} s");
        assert_eq!(count("0 2 * * *", outage), at_two, "{outage} s");
        assert_eq!(count("30 2 * * *", outage), at_half_past, "{outage} s");
        assert_eq!(count("0 2 * * MON", outage), mondays, "{outage} s");
    }
    assert_eq!(count("* * * * * *", DAY), 86_400);
    // The latest ones are found from the back, without the others.
    let rule = schedule("* * * * *", paris);
    let end = start + TimeDelta::seconds(year);
    let latest: Vec<_> = rule.between(start, end).rev().take(3).collect();
    assert_eq!(latest, [end, end - TimeDelta::minutes(1), end - TimeDelta::minutes(2)]);
    // Both ends of one span meet, and nothing is told twice.
    let two = schedule("0 2 * * *", paris);
    let mut slots = two.between(start, start + TimeDelta::days(3));
    let all = [slots.next(), slots.next_back(), slots.next(), slots.next_back(), slots.next()];
    let day = |day: u32| Some(utc(&format!("2026-01-{day:02}T01:00:00Z")));
    assert_eq!(all, [day(5), day(7), day(6), None, None]);
}
