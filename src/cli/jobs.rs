//! `jobs` and `runs`: schedules, pauses and the history of runs.

use chrono::{DateTime, TimeDelta, Utc, Weekday};
use serde_json::{Value, json as object};

use super::output::{counted, facts, json, say, table};
use super::{Outcome, Program, WrongCall, caller_name};
use crate::database::Database;
use crate::jobs::{REGISTRY, RegisteredJob, reconciliation};
use crate::scheduler::{self, JobRow, JobSettings, RunRow, State, Store};
use crate::time::{Zone, time_text};

/// The outage that `jobs explain` simulates.
const OUTAGE: TimeDelta = TimeDelta::hours(36);

/// Shows the jobs: when each runs next, and how it ended last.
#[derive(clap::Args)]
pub struct Jobs {
    #[command(subcommand)]
    command: Option<JobsCommand>,
}

#[derive(clap::Subcommand)]
enum JobsCommand {
    /// Explains when a job runs: its rule in words, its next slots, clock changes, and what an outage would do
    Explain {
        /// The job: expiry, reconciliation, arrears or prune
        #[arg(value_parser = job_named)]
        job: &'static RegisteredJob,
    },
    /// Pauses a job: all daemons skip its slots until it is resumed
    Pause {
        /// The job: expiry, reconciliation, arrears or prune
        #[arg(value_parser = job_named)]
        job: &'static RegisteredJob,
    },
    /// Resumes a paused job: its next slot is run
    Resume {
        /// The job: expiry, reconciliation, arrears or prune
        #[arg(value_parser = job_named)]
        job: &'static RegisteredJob,
    },
    /// Cancels a run under way; finished chunks stay
    Cancel {
        /// The run's number, see `pointsd runs`
        run: i64,
    },
}

pub(super) fn job_named(name: &str) -> Result<&'static RegisteredJob, String> {
    RegisteredJob::named(name).ok_or_else(|| {
        let names: Vec<&str> = REGISTRY.iter().map(|job| job.name).collect();
        format!("there is no such job; there are {}", names.join(", "))
    })
}

impl Jobs {
    /// Runs the subcommand, or lists the jobs.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        if let Some(JobsCommand::Explain { job }) = self.command {
            explain(job, program)?;
            return Ok(Outcome::Done);
        }
        program
            .with_ledger(async |database: &Database| {
                let store = Store::new(database, program.config.jobs.takeover);
                match self.command {
                    None | Some(JobsCommand::Explain { .. }) => list(&store, program).await,
                    Some(JobsCommand::Pause { job }) => pause(&store, job, Some(&caller_name()), program).await,
                    Some(JobsCommand::Resume { job }) => pause(&store, job, None, program).await,
                    Some(JobsCommand::Cancel { run }) => cancel(&store, run, program).await,
                }
            })
            .await
    }
}

async fn list(store: &Store, program: &Program) -> anyhow::Result<Outcome> {
    let names: Vec<&str> = REGISTRY.iter().map(|job| job.name).collect();
    let known = store.jobs(&names).await?;
    let now = (program.clock)();
    let mut rows = Vec::new();
    let mut answers = Vec::new();
    for job in REGISTRY {
        let settings = (job.settings)(&program.config);
        let row = known.iter().find(|row| row.job == job.name);
        let run = |number: Option<i64>| async move {
            match number {
                Some(run) => store.run(run).await,
                None => Ok(None),
            }
        };
        let last = run(row.and_then(|row| row.last_run)).await?;
        let running = run(row.and_then(|row| row.running)).await?;
        let next = next_slot(settings, row, now);
        let schedule = &settings.schedule;
        answers.push(object!({
            "job": job.name, "about": job.about, "schedule": schedule.rule(), "time_zone": schedule.zone().name(),
            "enabled": settings.enabled, "next_slot": next.map(time_text),
            "next_slot_local": next.map(|next| next.with_timezone(&schedule.zone()).to_rfc3339()),
            "paused": row.and_then(|row| row.paused.as_ref()).map(|paused| object!({
                "at": time_text(paused.at), "by": paused.by })),
            "running": running.as_ref().map(run_json), "last_run": last.as_ref().map(run_json),
        }));
        let next = match (row.and_then(|row| row.paused.as_ref()), next) {
            _ if !settings.enabled => "disabled".to_owned(),
            (Some(paused), _) => format!("paused by {} since {}", paused.by, local(paused.at, schedule.zone())),
            (None, Some(next)) => format!("{}, in {}", local(next, schedule.zone()), in_words(next - now)),
            (None, None) => "never".to_owned(),
        };
        let last = match (&running, &last) {
            (Some(run), _) => under_way(run),
            (None, Some(run)) => format!("{} {}", run.state.as_str(), local(run.slot, schedule.zone())),
            (None, None) => "never ran".to_owned(),
        };
        rows.push(vec![job.name.to_owned(), schedule.rule().to_owned(), schedule.zone().name().to_owned(), next, last]);
    }
    if program.json {
        json(&answers)?;
    } else {
        say(table(&["job", "schedule", "time zone", "next slot", "last slot"], &rows))?;
    }
    Ok(Outcome::Done)
}

/// The slot that a daemon would run next.
fn next_slot(settings: &JobSettings, row: Option<&JobRow>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let settled = row.and_then(|row| row.last_slot).map_or(now, |last| last.max(now));
    settings.enabled.then(|| settings.schedule.next_after(settled)).flatten()
}

fn under_way(run: &RunRow) -> String {
    let count = |name: &str| run.progress.as_ref()?.get(name)?.as_u64();
    match (run.heartbeat, run.resume_at, count("done").zip(count("total"))) {
        (None, Some(at), _) => format!("attempt {} failed, again at {}", run.attempt, time_text(at)),
        (None, None, _) => "waits for a daemon to continue it".to_owned(),
        (Some(_), _, Some((done, total))) if total > 0 => format!("running, {} %", done * 100 / total),
        (Some(_), _, _) => "running".to_owned(),
    }
}

async fn pause(store: &Store, job: &RegisteredJob, by: Option<&str>, program: &Program) -> anyhow::Result<Outcome> {
    if !store.pause(job.name, by).await? {
        // No daemon has ever known it: the first one is to find it paused.
        store.add(job.name, (job.settings)(&program.config), (program.clock)()).await?;
        store.pause(job.name, by).await?;
    }
    if program.json {
        json(&object!({ "job": job.name, "paused": by.is_some() }))?;
    } else if by.is_some() {
        say(format_args!(
            "{name} is paused: its slots are skipped until `pointsd jobs resume {name}`. A run under way goes on; \
             `pointsd run {name}` still runs it.",
            name = job.name
        ))?;
    } else {
        say(format_args!("{} goes on: its next slot is run.", job.name))?;
    }
    Ok(Outcome::Done)
}

async fn cancel(store: &Store, run: i64, program: &Program) -> anyhow::Result<Outcome> {
    let cancelled = store.cancel(run, &caller_name()).await?;
    let row = store.run(run).await?.ok_or_else(|| WrongCall(format!("there is no run {run}; see `pointsd runs`")))?;
    if program.json {
        json(&object!({ "cancelled": cancelled, "run": run_json(&row) }))?;
    } else if cancelled {
        say(format_args!("Run {run} of {} is cancelled. What it has done stays: {}", row.job, summary(&row)))?;
    } else {
        say(format_args!("Run {run} of {} is over already: it {}.", row.job, row.state.as_str()))?;
    }
    Ok(if cancelled { Outcome::Done } else { Outcome::No })
}

fn explain(job: &RegisteredJob, program: &Program) -> anyhow::Result<()> {
    let settings = (job.settings)(&program.config);
    let (schedule, zone) = (&settings.schedule, settings.schedule.zone());
    let now = (program.clock)();
    let slots: Vec<DateTime<Utc>> = schedule.between(now, DateTime::<Utc>::MAX_UTC).take(10).collect();
    let changes = schedule.next_clock_changes(now);
    let outage = scheduler::outage(settings, now - OUTAGE, now);
    let full_on = job.takes_full.then_some(program.config.reports.full_proof_on);
    if program.json {
        let mut answer = object!({
            "job": job.name, "about": job.about, "schedule": schedule.rule(), "time_zone": zone.name(),
            "in_words": schedule.in_words(), "enabled": settings.enabled,
            "clock_changes": changes.iter().map(|change| object!({
                "at": time_text(change.at), "local_before": change.local_before().to_string(),
                "local_after": change.local_after().to_string(), "forward": change.is_forward() })).collect::<Vec<_>>(),
            "warnings": schedule.clock_change_warnings(now),
            "next_slots": slots.iter().map(|slot| time_text(*slot)).collect::<Vec<_>>(),
            "after_an_outage_of_36_hours": {
                "run": outage.run.iter().map(|slot| time_text(*slot)).collect::<Vec<_>>(), "missed": outage.missed,
            },
        });
        if let (Some(full_on), Some(answer)) = (full_on, answer.as_object_mut()) {
            answer.insert("full_proof_on".to_owned(), object!(full_on.map(weekday)));
        }
        return json(&answer);
    }
    say(format_args!("{} {}.", job.name, job.about))?;
    let mut lines = vec![
        ("rule", schedule.describe()),
        ("in words", schedule.in_words()),
        ("enabled", if settings.enabled { "yes" } else { "no: it has no slots" }.to_owned()),
    ];
    lines.extend(full_on.map(|full_on| ("proves", full_proof(full_on))));
    say(facts(&lines))?;
    say("\nNext slots:")?;
    for slot in &slots {
        say(format_args!("  {}   {}   in {}", local(*slot, zone), time_text(*slot), in_words(*slot - now)))?;
    }
    say("\nNext clock changes:")?;
    if changes.is_empty() {
        say(format_args!("  none: the clocks of {} do not change", zone.name()))?;
    }
    for change in &changes {
        let (before, after) = (change.local_before(), change.local_after());
        let way = if change.is_forward() { "forward" } else { "back" };
        say(format_args!(
            "  {}   {way}, from {} to {}",
            before.format("%a %Y-%m-%d"),
            before.format("%H:%M"),
            after.format("%H:%M")
        ))?;
    }
    for warning in schedule.clock_change_warnings(now) {
        say(format_args!("  {warning}"))?;
    }
    say("\nIf every daemon had been down for the last 36 hours, one that starts now")?;
    let missed = counted(outage.missed, "slot", "slots");
    let run = match outage.run.as_slice() {
        [] => "would run none of the slots that came due".to_owned(),
        [slot] => format!("would run the slot of {}", local(*slot, zone)),
        [first, .., last] => format!(
            "would run {} slots one after the other, from {} to {}",
            outage.run.len(),
            local(*first, zone),
            local(*last, zone)
        ),
    };
    say(format_args!("{run}, and record {missed} as missed."))
}

/// When the job `reconciliation` proves everything, and what it proves otherwise.
pub(super) fn full_proof(on: Option<Weekday>) -> String {
    const CHANGED: &str = "what has changed since the last proof, and what was found before";
    match on {
        Some(day) => format!("everything on a {}, else {CHANGED}", weekday(day)),
        None => format!("{CHANGED}; everything only by `pointsd run {} --full`", reconciliation::JOB.name),
    }
}

pub(super) fn weekday(day: Weekday) -> &'static str {
    match day {
        Weekday::Mon => "monday",
        Weekday::Tue => "tuesday",
        Weekday::Wed => "wednesday",
        Weekday::Thu => "thursday",
        Weekday::Fri => "friday",
        Weekday::Sat => "saturday",
        Weekday::Sun => "sunday",
    }
}

/// The runs: slots that were run, skipped or missed, and runs by hand.
#[derive(clap::Args)]
pub struct Runs {
    /// Only of this job
    #[arg(long, value_parser = job_named)]
    job: Option<&'static RegisteredJob>,
    /// Only in this state: running, succeeded, failed, skipped, missed or cancelled
    #[arg(long, value_parser = state_named)]
    state: Option<State>,
    /// The newest so many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

fn state_named(name: &str) -> Result<State, String> {
    State::ALL.iter().copied().find(|state| state.as_str() == name).ok_or_else(|| {
        let names: Vec<&str> = State::ALL.iter().map(|state| state.as_str()).collect();
        format!("there is no such state; there are {}", names.join(", "))
    })
}

impl Runs {
    /// Lists them, the newest first.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let runs = program
            .with_ledger(async |database: &Database| {
                let store = Store::new(database, program.config.jobs.takeover);
                Ok(store.runs(self.job.map(|job| job.name), self.state, i64::from(self.limit)).await?)
            })
            .await?;
        if program.json {
            for run in &runs {
                json(&run_json(run))?;
            }
        } else if runs.is_empty() {
            say("No run yet.")?;
        } else {
            let rows: Vec<Vec<String>> = runs.iter().map(run_cells).collect();
            say(table(&["run", "job", "slot", "trigger", "state", "attempt", "took", "what"], &rows))?;
        }
        Ok(Outcome::Done)
    }
}

fn run_cells(run: &RunRow) -> Vec<String> {
    let took = run.started.zip(run.finished).map(|(started, finished)| in_words(finished - started));
    let what = match run.state {
        State::Running => under_way(run),
        State::Succeeded => summary(run),
        State::Failed => run.error.clone().unwrap_or_default(),
        State::Skipped | State::Missed | State::Cancelled => run.why.clone().unwrap_or_default(),
    };
    vec![
        run.run.to_string(),
        run.job.clone(),
        time_text(run.slot),
        run.trigger.as_str().to_owned(),
        run.state.as_str().to_owned(),
        run.attempt.to_string(),
        took.unwrap_or_default(),
        what,
    ]
}

/// What a run did, in a sentence. Counters that this version cannot read are shown as they are.
pub(super) fn summary(run: &RunRow) -> String {
    let Some(counters) = &run.counters else { return "nothing yet".to_owned() };
    let counted = RegisteredJob::named(&run.job).and_then(|job| (job.counted)(counters.clone()).ok());
    counted.map_or_else(|| counters.to_string(), |counted| counted.counters.summary())
}

pub(super) fn run_json(run: &RunRow) -> Value {
    object!({
        "run": run.run, "job": run.job, "slot": time_text(run.slot), "trigger": run.trigger.as_str(),
        "state": run.state.as_str(), "attempt": run.attempt, "fence": run.fence, "host": run.host, "pid": run.pid,
        "started": run.started.map(time_text), "heartbeat": run.heartbeat.map(time_text),
        "resume_at": run.resume_at.map(time_text), "finished": run.finished.map(time_text),
        "progress": run.progress, "counters": run.counters, "error": run.error, "why": run.why,
    })
}

/// `Mon 2026-11-23 02:00 CET`
pub(super) fn local(time: DateTime<Utc>, zone: Zone) -> String {
    let time = time.with_timezone(&zone);
    let seconds = time.format("%S").to_string() != "00";
    time.format(if seconds { "%a %Y-%m-%d %H:%M:%S %Z" } else { "%a %Y-%m-%d %H:%M %Z" }).to_string()
}

/// `5 h 12 min`: the two largest units.
pub(super) fn in_words(span: TimeDelta) -> String {
    let milliseconds = span.num_milliseconds().max(0);
    let (seconds, minutes, hours, days) =
        (milliseconds / 1000, milliseconds / 60_000, milliseconds / 3_600_000, milliseconds / 86_400_000);
    match (days, hours, minutes) {
        (0, 0, 0) if seconds < 10 => format!("{}.{} s", seconds, milliseconds % 1000 / 100),
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        (_, _, _) => format!("{days} d {} h", hours % 24),
    }
}
