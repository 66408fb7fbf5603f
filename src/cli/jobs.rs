//! `jobs` and `runs`: schedules, pauses and the history of runs.

use chrono::{DateTime, TimeDelta, Utc, Weekday};
use serde_json::json as object;

use super::output::{counted, facts, table};
use super::{Outcome, Program, WrongCall, caller_name};
use crate::config::weekday_name;
use crate::database::Database;
use crate::jobs::{REGISTRY, RegisteredJob, reconciliation};
use crate::scheduler::{self, JobRow, JobSettings, RunRow, State, Store};
use crate::time::{Zone, span_text, time_text};

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
    Explain(NamedJob),
    /// Pauses a job: all daemons skip its slots until it is resumed
    Pause(NamedJob),
    /// Resumes a paused job: its next slot is run
    Resume(NamedJob),
    /// Cancels a run under way; finished chunks stay
    Cancel {
        /// The run's number, see `pointsd runs`
        run: i64,
    },
}

/// The job that a command is about.
#[derive(clap::Args)]
pub(super) struct NamedJob {
    /// The job: expiry, reconciliation, arrears or prune
    #[arg(value_parser = job_named)]
    pub job: &'static RegisteredJob,
}

fn job_named(name: &str) -> Result<&'static RegisteredJob, String> {
    RegisteredJob::named(name).ok_or_else(|| {
        let names: Vec<&str> = REGISTRY.iter().map(|job| job.name).collect();
        format!("there is no such job; there are {}", names.join(", "))
    })
}

impl Jobs {
    /// Runs the subcommand, or lists the jobs.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        if let Some(JobsCommand::Explain(NamedJob { job })) = self.command {
            explain(job, program)?;
            return Ok(Outcome::Done);
        }
        program
            .with_ledger(async |database: &Database| {
                let store = Store::new(database, program.config.jobs.takeover);
                match self.command {
                    None | Some(JobsCommand::Explain(_)) => list(&store, program).await,
                    Some(JobsCommand::Pause(NamedJob { job })) => {
                        pause(&store, job, Some(&caller_name()), program).await
                    }
                    Some(JobsCommand::Resume(NamedJob { job })) => pause(&store, job, None, program).await,
                    Some(JobsCommand::Cancel { run }) => cancel(&store, run, program).await,
                }
            })
            .await
    }
}

async fn list(store: &Store, program: &Program) -> anyhow::Result<Outcome> {
    let Overview { answers, rows, .. } = overview(store, program).await?;
    program.answer(answers, || overview_table(&rows))?;
    Ok(Outcome::Done)
}

/// The jobs, for programs and for people, and what an operator has to look at.
#[derive(Default)]
pub(super) struct Overview {
    pub answers: Vec<serde_json::Value>,
    pub rows: Vec<Vec<String>>,
    pub to_look_at: Vec<String>,
}

pub(super) fn overview_table(rows: &[Vec<String>]) -> String {
    table(&["job", "schedule", "time zone", "next slot", "last slot"], rows)
}

pub(super) async fn overview(store: &Store, program: &Program) -> anyhow::Result<Overview> {
    let names: Vec<&str> = REGISTRY.iter().map(|job| job.name).collect();
    let known = store.jobs(&names).await?;
    let now = (program.clock)();
    let Overview { mut answers, mut rows, mut to_look_at } = Overview::default();
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
        let paused = row.and_then(|row| row.paused.as_ref());
        let schedule = &settings.schedule;
        answers.push(object!({
            "job": job.name, "about": job.about, "schedule": schedule.rule(), "time_zone": schedule.zone().name(),
            "enabled": settings.enabled, "next_slot": next,
            "next_slot_local": next.map(|next| next.with_timezone(&schedule.zone()).to_rfc3339()),
            "paused": paused, "running": running, "last_run": last,
        }));
        if let Some(paused) = paused.filter(|_| settings.enabled) {
            to_look_at.push(format!("{} is paused by {}: pointsd jobs resume {}", job.name, paused.by, job.name));
        }
        if let Some(run) = last.as_ref().filter(|run| matches!(run.state, State::Failed | State::Missed)) {
            to_look_at.push(format!(
                "the last slot of {} {}: pointsd runs --job {}",
                job.name,
                run.state.as_str(),
                job.name
            ));
        }
        let next = match (paused, next) {
            _ if !settings.enabled => "disabled".to_owned(),
            (Some(paused), _) => format!("paused by {} since {}", paused.by, local(paused.at, schedule.zone())),
            (None, Some(next)) => format!("{}, in {}", local(next, schedule.zone()), span_text(next - now)),
            (None, None) => "never".to_owned(),
        };
        let last = match (&running, &last) {
            (Some(run), _) => under_way(run),
            (None, Some(run)) => format!("{} {}", run.state.as_str(), local(run.slot, schedule.zone())),
            (None, None) => "never ran".to_owned(),
        };
        rows.push(vec![job.name.to_owned(), schedule.rule().to_owned(), schedule.zone().name().to_owned(), next, last]);
    }
    Ok(Overview { answers, rows, to_look_at })
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
    let name = job.name;
    program.answer(object!({ "job": name, "paused": by.is_some() }), || match by {
        Some(_) => format!(
            "{name} is paused: its slots are skipped until `pointsd jobs resume {name}`. A run under way continues; \
             `pointsd run {name}` still runs it."
        ),
        None => format!("{name} is resumed: it runs at its next slot."),
    })?;
    Ok(Outcome::Done)
}

async fn cancel(store: &Store, run: i64, program: &Program) -> anyhow::Result<Outcome> {
    let cancelled = store.cancel(run, &caller_name()).await?;
    let row = store.run(run).await?.ok_or_else(|| WrongCall(format!("there is no run {run}; see `pointsd runs`")))?;
    program.answer(object!({ "cancelled": cancelled, "run": row }), || match cancelled {
        true => format!("Run {run} of {} is cancelled. Its finished work stays: {}.", row.job, summary(&row)),
        false => format!("Run {run} of {} is over already: {}.", row.job, row.state.as_str()),
    })?;
    Ok(if cancelled { Outcome::Done } else { Outcome::No })
}

fn explain(job: &RegisteredJob, program: &Program) -> anyhow::Result<()> {
    let settings = (job.settings)(&program.config);
    let (schedule, zone) = (&settings.schedule, settings.schedule.zone());
    let now = (program.clock)();
    let slots: Vec<DateTime<Utc>> = schedule.between(now, DateTime::<Utc>::MAX_UTC).take(10).collect();
    let changes = schedule.next_clock_changes(now);
    let warnings = schedule.clock_change_warnings(now);
    let outage = scheduler::outage(settings, now - OUTAGE, now);
    let full_on = job.takes_full.then_some(program.config.reports.full_proof_on);
    let mut answer = object!({
        "job": job.name, "about": job.about, "schedule": schedule.rule(), "time_zone": zone.name(),
        "in_words": schedule.in_words(), "enabled": settings.enabled,
        "clock_changes": changes.iter().map(|change| object!({
            "at": change.at, "local_before": change.local_before().to_string(),
            "local_after": change.local_after().to_string(), "forward": change.is_forward() })).collect::<Vec<_>>(),
        "warnings": warnings, "next_slots": slots,
        "after_an_outage_of_36_hours": { "run": outage.run, "missed": outage.missed },
    });
    if let (Some(full_on), Some(answer)) = (full_on, answer.as_object_mut()) {
        answer.insert("full_proof_on".to_owned(), object!(full_on.map(weekday_name)));
    }
    program.answer(answer, || {
        let mut lines = vec![
            ("rule", schedule.describe()),
            ("in words", schedule.in_words()),
            ("enabled", if settings.enabled { "yes" } else { "no: it has no slots" }.to_owned()),
        ];
        lines.extend(full_on.map(|full_on| ("proves", full_proof(full_on))));
        let mut text = vec![format!("{} {}.", job.name, job.about), facts(&lines), "\nNext slots:".to_owned()];
        text.extend(
            slots
                .iter()
                .map(|slot| format!("  {}   {}   in {}", local(*slot, zone), time_text(*slot), span_text(*slot - now))),
        );
        text.push("\nNext clock changes:".to_owned());
        if changes.is_empty() {
            text.push(format!("  none: the clocks of {} do not change", zone.name()));
        }
        text.extend(changes.iter().map(|change| {
            let (before, after) = (change.local_before(), change.local_after());
            let way = if change.is_forward() { "forward" } else { "back" };
            let [day, before, after] = [before.format("%a %Y-%m-%d"), before.format("%H:%M"), after.format("%H:%M")];
            format!("  {day}   {way}, from {before} to {after}")
        }));
        text.extend(warnings.iter().map(|warning| format!("  {warning}")));
        text.push("\nIf every daemon had been down for the last 36 hours, one that starts now".to_owned());
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
        text.push(format!("{run}, and record {} as missed.", counted(outage.missed, "slot", "slots")));
        text.join("\n")
    })
}

/// The day on which the job `reconciliation` proves everything, and the extent of its other proofs.
pub(super) fn full_proof(on: Option<Weekday>) -> String {
    const CHANGED: &str = "what has changed since the last proof, and what was found before";
    match on {
        Some(day) => format!("everything on a {}, else {CHANGED}", weekday_name(day)),
        None => format!("{CHANGED}; everything only by `pointsd run {} --full`", reconciliation::JOB.name),
    }
}

/// Lists the runs: slots that were run, skipped or missed, and runs by hand.
#[derive(clap::Args)]
pub struct Runs {
    /// Only of this job
    #[arg(long, value_parser = job_named)]
    job: Option<&'static RegisteredJob>,
    /// Only in this state: running, succeeded, failed, skipped, missed or cancelled
    #[arg(long, value_parser = state_named)]
    state: Option<State>,
    /// How many, the newest first
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
        program.list(&runs, || match runs.as_slice() {
            [] => "No run yet.".to_owned(),
            runs => {
                let header = ["run", "job", "slot", "trigger", "state", "attempt", "took", "result"];
                table(&header, &runs.iter().map(run_cells).collect::<Vec<_>>())
            }
        })?;
        Ok(Outcome::Done)
    }
}

fn run_cells(run: &RunRow) -> Vec<String> {
    let took = run.started.zip(run.finished).map(|(started, finished)| span_text(finished - started));
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

/// `Mon 2026-11-23 02:00 CET`
pub(super) fn local(time: DateTime<Utc>, zone: Zone) -> String {
    let time = time.with_timezone(&zone);
    let seconds = time.format("%S").to_string() != "00";
    time.format(if seconds { "%a %Y-%m-%d %H:%M:%S %Z" } else { "%a %Y-%m-%d %H:%M %Z" }).to_string()
}
