//! Plans what to do about a job's slots: a pure function of its settings, its rows, and the time.
//!
//! Slots are settled strictly in their order: each is run, skipped or missed before the next one is planned. So
//! planning always continues from the last slot that has a row.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::model::{CatchUp, JobSettings, KnownJob, LATE, Overlap, SettledSlot, State, Trigger};
use crate::time::time_text;

/// Slots that one plan settles at most: a year of a rule that comes due each minute is half a million.
const MOST_SETTLED: usize = 10_000;

/// What to do about a job's slots now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Slots that are not run, in their order.
    pub settled: Vec<SettledSlot>,
    /// The slot to run next, once the others are recorded.
    pub begin: Option<(DateTime<Utc>, Trigger)>,
    /// Whether slots have begun to wait behind a run: they must not count as late when it ends.
    pub queue: bool,
    /// Whether there is more to settle at once.
    pub more: bool,
}

/// How the reason of a slot begins that was skipped because of a pause.
pub const PAUSED_BY: &str = "the job was paused by";

/// Decides about the slots that are due at `now`.
pub(super) fn plan(job: &JobSettings, known: &KnownJob, now: DateTime<Utc>) -> Plan {
    let mut plan = Plan::default();
    let last = known.last_slot.map_or(known.since, |last| last.max(known.since));
    // A slot from here on is not late.
    let on_time = now - LATE;
    // Computed only if a slot is late, which is rare.
    let mut caught_up = None;
    // A mark in the future was written before the clock went back.
    let queued_to = known.queued_to.filter(|to| *to <= now);
    let queued = |slot: DateTime<Utc>| queued_to.is_some_and(|to| slot <= to);
    let mut after = last;
    while let Some(slot) = job.schedule.next_after(after) {
        if slot > now {
            break;
        }
        if plan.settled.len() == MOST_SETTLED {
            plan.more = true;
            break;
        }
        let settle = |state, why| SettledSlot { slot, state, why };
        let settled = if let Some(paused) = &known.paused {
            settle(State::Skipped, format!("{PAUSED_BY} {} at {}", paused.by, time_text(paused.at)))
        } else if let Some(running) = &known.running {
            // A slot that was due before the run began waits for it. So do all slots during a manual run, which belongs
            // to no slot.
            let came_during = running.trigger != Trigger::Manual && slot > running.started;
            if job.overlap == Overlap::Queue || !came_during {
                let latest = job.schedule.previous_or_at(now);
                plan.queue = (slot >= on_time || queued(slot)) && !latest.is_some_and(queued);
                break;
            }
            settle(
                State::Skipped,
                format!("run {} for the slot {} was still under way", running.run, time_text(running.slot)),
            )
        } else {
            let late = slot < on_time && !queued(slot);
            if !late
                || caught_up
                    .get_or_insert_with(|| caught_up_from(job, last, on_time, now))
                    .is_some_and(|from| slot >= from)
            {
                plan.begin = Some((slot, if late { Trigger::CatchUp } else { Trigger::Schedule }));
                break;
            }
            settle(State::Missed, missed(job, slot, now))
        };
        plan.settled.push(settled);
        after = slot;
    }
    plan
}

fn missed(job: &JobSettings, slot: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let policy = match job.catch_up {
        CatchUp::None => "catch_up is none".to_owned(),
        CatchUp::Latest => "catch_up is latest, and a later slot was due".to_owned(),
        CatchUp::All(limit) => format!("catch_up is all, and more than {limit} were due"),
    };
    format!("no daemon was there at {}; at {}, {policy}", time_text(slot), time_text(now))
}

/// The first of the late slots that are run after all, if any.
fn caught_up_from(
    job: &JobSettings,
    last: DateTime<Utc>,
    on_time: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let late = || job.schedule.between(last, on_time).rev().filter(|slot| *slot < on_time);
    match job.catch_up {
        CatchUp::None => None,
        // A slot that is due right now is later still.
        CatchUp::Latest => {
            let latest = late().next()?;
            job.schedule.next_after(latest).is_none_or(|next| next > now).then_some(latest)
        }
        CatchUp::All(limit) => late().take(limit).last(),
    }
}

/// The fate of a job's slots if no daemon were up from `down` until `up`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outage {
    /// Slots that would be run when a daemon is there again.
    pub run: Vec<DateTime<Utc>>,
    /// How many would be recorded as missed.
    pub missed: u64,
}

/// Simulates an outage with the rules of the daemon.
pub fn outage(job: &JobSettings, down: DateTime<Utc>, up: DateTime<Utc>) -> Outage {
    let mut outage = Outage::default();
    let mut known =
        KnownJob { since: down, last_slot: None, queued_to: None, paused: None, running: None, ahead: false };
    loop {
        let plan = plan(job, &known, up);
        outage.missed += plan.settled.len() as u64;
        let settled = plan.settled.last().map(|last| last.slot);
        let begun = plan.begin.map(|(slot, _)| slot);
        outage.run.extend(begun);
        match begun.or(settled) {
            Some(last) => known.last_slot = Some(last),
            None => return outage,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

    use std::time::Duration;

    use super::super::model::{OpenRun, Paused};
    use super::*;
    use crate::schedule::Schedule;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn job(rule: &str, zone: &str, catch_up: CatchUp, overlap: Overlap) -> JobSettings {
        JobSettings {
            schedule: Schedule::parse(rule, zone.parse().unwrap()).unwrap(),
            enabled: true,
            catch_up,
            overlap,
            timeout: Duration::from_secs(60),
            retries: 0,
            retry_pause: Duration::from_secs(1),
        }
    }

    fn daily(catch_up: CatchUp) -> JobSettings {
        job("0 2 * * *", "UTC", catch_up, Overlap::Skip)
    }

    fn hourly(overlap: Overlap) -> JobSettings {
        job("0 * * * *", "UTC", CatchUp::Latest, overlap)
    }

    fn known(since: &str, last: Option<&str>) -> KnownJob {
        let last_slot = last.map(at);
        KnownJob { since: at(since), last_slot, queued_to: None, paused: None, running: None, ahead: false }
    }

    fn running(trigger: Trigger, slot: &str, started: &str) -> Option<OpenRun> {
        Some(OpenRun {
            run: 7,
            slot: at(slot),
            trigger,
            attempt: 1,
            fence: 1,
            started: at(started),
            host: None,
            pid: None,
            heartbeat: None,
            resume_at: None,
            free: false,
        })
    }

    /// `run 2026-03-02T02:00:00Z schedule`, in order; reasons left out.
    fn decided(job: &JobSettings, known: &KnownJob, now: &str) -> Vec<String> {
        let plan = plan(job, known, at(now));
        assert!(!plan.more);
        let settled = plan.settled.iter().map(|one| format!("{} {}", one.state.as_str(), time_text(one.slot)));
        let begin = plan.begin.map(|(slot, trigger)| format!("{} {}", trigger.as_str(), time_text(slot)));
        settled.chain(begin).chain(plan.queue.then(|| "queue".to_owned())).collect()
    }

    #[test]
    fn a_slot_is_begun_when_it_is_due_and_not_before() {
        let known = known("2026-03-01T12:00:00Z", None);
        let job = daily(CatchUp::None);
        assert_eq!(decided(&job, &known, "2026-03-02T01:59:59.999Z"), Vec::<String>::new());
        for now in ["2026-03-02T02:00:00Z", "2026-03-02T02:00:01Z", "2026-03-02T02:01:00Z"] {
            assert_eq!(decided(&job, &known, now), ["schedule 2026-03-02T02:00:00Z"], "{now}");
        }
        // A second later the slot is late.
        assert_eq!(decided(&job, &known, "2026-03-02T02:01:01Z"), ["missed 2026-03-02T02:00:00Z"]);
    }

    #[test]
    fn slots_count_from_the_first_sight_and_from_the_last_row() {
        let job = daily(CatchUp::All(10));
        let first = known("2026-03-02T02:00:00Z", None);
        assert_eq!(decided(&job, &first, "2026-03-02T02:00:05Z"), Vec::<String>::new());
        let later = known("2026-01-01T00:00:00Z", Some("2026-03-02T02:00:00Z"));
        assert_eq!(decided(&job, &later, "2026-03-02T12:00:00Z"), Vec::<String>::new());
        // A schedule that changed counts from then on.
        let changed = known("2026-03-04T12:00:00Z", Some("2026-03-02T02:00:00Z"));
        assert_eq!(decided(&job, &changed, "2026-03-05T02:00:00Z"), ["schedule 2026-03-05T02:00:00Z"]);
    }

    #[test]
    fn catch_up_decides_what_becomes_of_late_slots() {
        let known = known("2026-03-01T12:00:00Z", Some("2026-03-02T02:00:00Z"));
        let missed = |days: std::ops::RangeInclusive<u32>| {
            days.map(|day| format!("missed 2026-03-{day:02}T02:00:00Z")).collect::<Vec<_>>()
        };
        let with = |mut settled: Vec<String>, begin: &str| {
            settled.push(begin.to_owned());
            settled
        };
        let now = "2026-03-08T09:00:00Z";
        assert_eq!(decided(&daily(CatchUp::None), &known, now), missed(3..=8));
        let latest = with(missed(3..=7), "catch-up 2026-03-08T02:00:00Z");
        assert_eq!(decided(&daily(CatchUp::Latest), &known, now), latest);
        assert_eq!(decided(&daily(CatchUp::All(1)), &known, now), latest);
        let three = with(missed(3..=5), "catch-up 2026-03-06T02:00:00Z");
        assert_eq!(decided(&daily(CatchUp::All(3)), &known, now), three);
        assert_eq!(decided(&daily(CatchUp::All(6)), &known, now), ["catch-up 2026-03-03T02:00:00Z"]);
        assert_eq!(decided(&daily(CatchUp::All(7)), &known, now), ["catch-up 2026-03-03T02:00:00Z"]);
        // A slot that is due just now is the latest, so no late slot is run.
        let now = "2026-03-08T02:00:00Z";
        let on_time = with(missed(3..=7), "schedule 2026-03-08T02:00:00Z");
        assert_eq!(decided(&daily(CatchUp::Latest), &known, now), on_time);
        assert_eq!(decided(&daily(CatchUp::None), &known, now), on_time);
    }

    #[test]
    fn why_says_what_happened_and_by_which_rule() {
        let known = known("2026-03-01T12:00:00Z", None);
        let plan = plan(&daily(CatchUp::None), &known, at("2026-03-02T09:00:00Z"));
        assert_eq!(
            plan.settled[0].why,
            "no daemon was there at 2026-03-02T02:00:00Z; at 2026-03-02T09:00:00Z, catch_up is none"
        );
    }

    #[test]
    fn overlap_decides_what_becomes_of_slots_that_come_due_during_a_run() {
        let mut known = known("2026-03-01T12:00:00Z", Some("2026-03-02T02:00:00Z"));
        known.running = running(Trigger::Schedule, "2026-03-02T02:00:00Z", "2026-03-02T02:00:01Z");
        let now = "2026-03-02T03:00:00Z";
        assert_eq!(decided(&hourly(Overlap::Skip), &known, now), ["skipped 2026-03-02T03:00:00Z"]);
        assert_eq!(decided(&hourly(Overlap::Queue), &known, now), ["queue"]);
        known.queued_to = Some(at(now));
        assert_eq!(decided(&hourly(Overlap::Queue), &known, "2026-03-02T03:30:00Z"), Vec::<String>::new());
        assert_eq!(decided(&hourly(Overlap::Queue), &known, "2026-03-02T04:00:00Z"), ["queue"]);
        // However long it waited, it is not late when the run has ended.
        known.running = None;
        assert_eq!(decided(&hourly(Overlap::Queue), &known, "2026-03-02T03:45:00Z"), ["schedule 2026-03-02T03:00:00Z"]);
    }

    #[test]
    fn what_was_due_before_a_run_began_waits_for_it() {
        // Three are caught up with; the second must not be skipped because the first one runs.
        let mut known = known("2026-03-01T00:00:00Z", Some("2026-03-02T02:00:00Z"));
        known.running = running(Trigger::CatchUp, "2026-03-02T02:00:00Z", "2026-03-02T05:30:00Z");
        let job = job("0 * * * *", "UTC", CatchUp::All(5), Overlap::Skip);
        assert_eq!(decided(&job, &known, "2026-03-02T05:31:00Z"), Vec::<String>::new());
        assert_eq!(decided(&job, &known, "2026-03-02T06:00:00Z"), Vec::<String>::new(), "strictly in order");
        known.running = None;
        assert_eq!(decided(&job, &known, "2026-03-02T06:10:00Z"), ["catch-up 2026-03-02T03:00:00Z"]);
    }

    #[test]
    fn a_run_by_hand_costs_no_slot() {
        let mut known = known("2026-03-01T12:00:00Z", Some("2026-03-02T02:00:00Z"));
        known.running = running(Trigger::Manual, "2026-03-02T02:30:00Z", "2026-03-02T02:30:00Z");
        assert_eq!(decided(&hourly(Overlap::Skip), &known, "2026-03-02T03:00:01Z"), ["queue"]);
        known.running = None;
        known.queued_to = Some(at("2026-03-02T03:00:01Z"));
        assert_eq!(decided(&hourly(Overlap::Skip), &known, "2026-03-02T03:20:00Z"), ["schedule 2026-03-02T03:00:00Z"]);
    }

    #[test]
    fn a_paused_job_lets_its_slots_pass() {
        let mut known = known("2026-03-01T12:00:00Z", None);
        known.paused = Some(Paused { at: at("2026-03-01T13:00:00Z"), by: "ann".to_owned() });
        let job = daily(CatchUp::All(10));
        assert_eq!(
            decided(&job, &known, "2026-03-03T02:00:00Z"),
            ["skipped 2026-03-02T02:00:00Z", "skipped 2026-03-03T02:00:00Z"]
        );
        let plan = plan(&job, &known, at("2026-03-02T02:00:00Z"));
        assert_eq!(plan.settled[0].why, "the job was paused by ann at 2026-03-01T13:00:00Z");
    }

    #[test]
    fn a_year_of_a_frequent_rule_is_settled_piece_by_piece() {
        let job = job("* * * * *", "UTC", CatchUp::Latest, Overlap::Skip);
        let mut known = known("2025-03-02T00:00:00Z", None);
        let now = at("2026-03-02T00:00:30Z");
        let (mut slots, mut pieces) = (0, 0);
        let begun = loop {
            let plan = plan(&job, &known, now);
            assert!(plan.settled.iter().all(|one| one.state == State::Missed));
            slots += plan.settled.len();
            pieces += 1;
            if let Some(last) = plan.settled.last() {
                known.last_slot = Some(last.slot);
            }
            if !plan.more {
                break plan.begin;
            }
            assert_eq!(plan.begin, None);
        };
        // The slot of this very minute is on time.
        assert_eq!(begun, Some((at("2026-03-02T00:00:00Z"), Trigger::Schedule)));
        assert_eq!((slots, pieces), (365 * 1440 - 1, 53));
    }

    #[test]
    fn an_outage_is_played_through_by_the_same_rules() {
        let (down, up) = (at("2026-03-01T12:00:00Z"), at("2026-03-04T12:00:00Z"));
        let days = |days: &[u32]| days.iter().map(|day| at(&format!("2026-03-{day:02}T02:00:00Z"))).collect::<Vec<_>>();
        for (catch_up, run, missed) in [
            (CatchUp::None, days(&[]), 3),
            (CatchUp::Latest, days(&[4]), 2),
            (CatchUp::All(2), days(&[3, 4]), 1),
            (CatchUp::All(9), days(&[2, 3, 4]), 0),
        ] {
            assert_eq!(outage(&daily(catch_up), down, up), Outage { run, missed }, "{catch_up:?}");
        }
    }

    #[test]
    fn a_clock_change_moves_the_slot_with_the_clock_on_the_wall() {
        let job = job("30 2 * * *", "Europe/Paris", CatchUp::All(10), Overlap::Skip);
        // 02:30 does not exist on 29 March 2026; it comes due at 03:00.
        let spring = known("2026-03-28T12:00:00Z", None);
        assert_eq!(decided(&job, &spring, "2026-03-29T00:59:59Z"), Vec::<String>::new());
        assert_eq!(decided(&job, &spring, "2026-03-29T01:00:00Z"), ["schedule 2026-03-29T01:00:00Z"]);
        // On 25 October it comes twice; once is enough.
        let autumn = known("2026-10-24T12:00:00Z", None);
        assert_eq!(decided(&job, &autumn, "2026-10-25T00:30:00Z"), ["schedule 2026-10-25T00:30:00Z"]);
        let once = known("2026-10-24T12:00:00Z", Some("2026-10-25T00:30:00Z"));
        assert_eq!(decided(&job, &once, "2026-10-25T01:30:00Z"), Vec::<String>::new());
        assert_eq!(decided(&job, &once, "2026-10-26T01:30:00Z"), ["schedule 2026-10-26T01:30:00Z"]);
    }
}
