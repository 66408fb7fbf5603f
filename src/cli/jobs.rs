//! `jobs` and `runs`: schedules, pauses and the history of runs.

use chrono::{DateTime, Utc, Weekday};
use serde_json::json as object;

use super::output::{counted, facts, local, table};
use super::{Outcome, Program, WrongCall, caller_name};
use crate::config::weekday_name;
use crate::database::Database;
use crate::jobs::{self, REGISTRY, RegisteredJob, reconciliation};
use crate::ledger::Progress;
use crate::schedule::Schedule;
use crate::scheduler::{RunRow, State, Store};
use crate::status::{Explanation, JobOverview};
use crate::time::{span_text, time_text};

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
    /// The job: expiry, reconciliation, arrears, month_end or prune
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
    let now = program.now_or(None);
    let jobs = JobOverview::read(store, &program.config, now).await?;
    program.answer(&jobs, || overview_table(&jobs, now))?;
    Ok(Outcome::Done)
}

pub(super) fn overview_table(jobs: &[JobOverview], now: DateTime<Utc>) -> String {
    let rows: Vec<Vec<String>> = jobs.iter().map(|job| overview_cells(job, now)).collect();
    table(&["job", "schedule", "time zone", "next slot", "last slot"], &rows)
}

fn overview_cells(job: &JobOverview, now: DateTime<Utc>) -> Vec<String> {
    let zone = job.zone;
    let next = match (&job.paused, job.next_slot) {
        _ if !job.enabled => "disabled".to_owned(),
        (Some(paused), _) => format!("paused by {} since {}", paused.by, local(paused.at, zone)),
        (None, Some(next)) => format!("{}, in {}", local(next, zone), span_text(next - now)),
        (None, None) => "never".to_owned(),
    };
    let last = match (&job.running, &job.last_run) {
        (Some(run), _) => under_way(run),
        (None, Some(run)) => format!("{} {}", run.state.as_str(), local(run.slot, zone)),
        (None, None) => "never ran".to_owned(),
    };
    vec![job.job.to_owned(), job.schedule.clone(), zone.name().to_owned(), next, last]
}

fn under_way(run: &RunRow) -> String {
    match (run.heartbeat, run.resume_at, run.progress().and_then(Progress::percent)) {
        (None, Some(at), _) => format!("attempt {} failed, again at {}", run.attempt, time_text(at)),
        (None, None, _) => "waits for a daemon to continue it".to_owned(),
        (Some(_), _, Some(percent)) => format!("running, {percent} %"),
        (Some(_), _, _) => "running".to_owned(),
    }
}

async fn pause(store: &Store, job: &RegisteredJob, by: Option<&str>, program: &Program) -> anyhow::Result<Outcome> {
    job.pause(store, &program.config, by, program.now_or(None)).await?;
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
        true => format!(
            "Run {run} of {} is cancelled. Its finished work stays: {}.",
            row.job,
            jobs::summary(&row, jobs::OPERATOR)
        ),
        false => format!("Run {run} of {} is over already: {}.", row.job, row.state.as_str()),
    })?;
    Ok(if cancelled { Outcome::Done } else { Outcome::No })
}

fn explain(job: &RegisteredJob, program: &Program) -> anyhow::Result<()> {
    let now = program.now_or(None);
    let explanation = Explanation::of(job, &program.config, now);
    program.answer(&explanation, || {
        let schedule = &(job.settings)(&program.config).schedule;
        let mut lines = vec![
            ("rule", schedule.describe()),
            ("in words", explanation.in_words.clone()),
            ("enabled", if explanation.enabled { "yes" } else { "no: it has no slots" }.to_owned()),
        ];
        lines.extend(explanation.full_proof_on.map(|full_on| ("proves", full_proof(full_on))));
        let head = format!("{} {}.\n{}", job.name, job.about, facts(&lines));
        format!("{head}\n{}", slots_text(&explanation, schedule, now))
    })
}

fn slots_text(explanation: &Explanation, schedule: &Schedule, now: DateTime<Utc>) -> String {
    let zone = schedule.zone();
    let mut text = vec!["\nNext slots:".to_owned()];
    let slots = explanation.next_slots.iter();
    text.extend(
        slots.map(|slot| format!("  {}   {}   in {}", local(*slot, zone), time_text(*slot), span_text(*slot - now))),
    );
    text.push("\nNext clock changes:".to_owned());
    let changes = schedule.next_clock_changes(now);
    if changes.is_empty() {
        text.push(format!("  none: the clocks of {} do not change", zone.name()));
    }
    text.extend(changes.iter().map(|change| {
        let (before, after) = (change.local_before(), change.local_after());
        let way = if change.is_forward() { "forward" } else { "back" };
        let [day, before, after] = [before.format("%a %Y-%m-%d"), before.format("%H:%M"), after.format("%H:%M")];
        format!("  {day}   {way}, from {before} to {after}")
    }));
    text.extend(explanation.warnings.iter().map(|warning| format!("  {warning}")));
    text.push("\nIf every daemon had been down for the last 36 hours, one that starts now".to_owned());
    let outage = &explanation.outage;
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
}

/// The day on which the job `reconciliation` proves everything, and the extent of its other proofs.
pub(super) fn full_proof(on: Option<Weekday>) -> String {
    const CHANGED: &str = "what has changed since the last proof, and what was found before";
    match on {
        Some(day) => {
            let (name, mut capital) = (weekday_name(day), String::new());
            capital.extend(name.chars().take(1).flat_map(char::to_uppercase).chain(name.chars().skip(1)));
            format!("everything on {capital}s, else {CHANGED}")
        }
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
                Ok(store.runs(self.job.map(|job| job.name), self.state, None, i64::from(self.limit)).await?)
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
        State::Succeeded => jobs::summary(run, jobs::OPERATOR),
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
