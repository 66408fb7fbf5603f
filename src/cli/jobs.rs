//! What an operator asks about jobs: `jobs`, `runs`, `run`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde_json::{Value, json as object};
use tokio_util::sync::CancellationToken;

use super::output::{counted, facts, grouped, json, progress, say, table};
use super::{Outcome, Program, Time, WrongCall, stop_on_signal};
use crate::config;
use crate::database::Database;
use crate::jobs::{self, Context, Job, REGISTRY};
use crate::ledger::Sweep;
use crate::scheduler::{self, Asked, Board, JobRow, RunRow, State, Store, Trigger};
use crate::time::time_text;

/// The outage that `jobs explain` plays through.
const OUTAGE: TimeDelta = TimeDelta::hours(36);

/// How often `run --wait` looks whether the other run is over.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// How often the bar on the terminal moves.
const SHOW_EVERY: Duration = Duration::from_millis(50);

/// The jobs: when each runs next, and how it ended last.
#[derive(clap::Args)]
pub struct Jobs {
    #[command(subcommand)]
    command: Option<JobsCommand>,
}

#[derive(clap::Subcommand)]
enum JobsCommand {
    /// Explains when a job runs: its rule in words, its next slots, clock changes, and what an outage would do
    Explain {
        /// Which job
        #[arg(value_parser = job_named)]
        job: &'static Job,
    },
    /// Lets a job's slots pass, on every daemon, until it is resumed
    Pause {
        /// Which job
        #[arg(value_parser = job_named)]
        job: &'static Job,
    },
    /// Ends a pause: the next slot is run
    Resume {
        /// Which job
        #[arg(value_parser = job_named)]
        job: &'static Job,
    },
    /// Cancels a run that is under way; what it has done stays
    Cancel {
        /// The run's number, see `pointsd runs`
        run: i64,
    },
}

fn job_named(name: &str) -> Result<&'static Job, String> {
    Job::named(name).ok_or_else(|| {
        let names: Vec<&str> = REGISTRY.iter().map(|job| job.name).collect();
        format!("there is no such job; there are {}", names.join(", "))
    })
}

impl Jobs {
    /// Answers, or does it.
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
                    Some(JobsCommand::Pause { job }) => pause(&store, job, Some(&somebody()), program).await,
                    Some(JobsCommand::Resume { job }) => pause(&store, job, None, program).await,
                    Some(JobsCommand::Cancel { run }) => cancel(&store, run, program).await,
                }
            })
            .await
    }
}

/// Who sits at the keyboard, as far as that can be told.
fn somebody() -> String {
    let named = |variable| std::env::var(variable).ok().filter(|name| !name.is_empty());
    let user = named("SUDO_USER").or_else(|| named("USER")).or_else(|| named("LOGNAME"));
    let account = || nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.name);
    user.or_else(account).unwrap_or_else(|| format!("user {}", nix::unistd::getuid()))
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
fn next_slot(settings: &config::Job, row: Option<&JobRow>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
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

async fn pause(store: &Store, job: &Job, by: Option<&str>, program: &Program) -> anyhow::Result<Outcome> {
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
    let cancelled = store.cancel(run, &somebody()).await?;
    let row = store.run(run).await?.ok_or_else(|| WrongCall(format!("there is no run {run}; see `pointsd runs`")))?;
    if program.json {
        json(&object!({ "cancelled": cancelled, "run": run_json(&row) }))?;
    } else if cancelled {
        say(format_args!("Run {run} of {} is cancelled. What it has done stays: {}", row.job, counters(&row)))?;
    } else {
        say(format_args!("Run {run} of {} is over already: it {}.", row.job, row.state.as_str()))?;
    }
    Ok(if cancelled { Outcome::Done } else { Outcome::No })
}

fn explain(job: &Job, program: &Program) -> anyhow::Result<()> {
    let settings = (job.settings)(&program.config);
    let (schedule, zone) = (&settings.schedule, settings.schedule.zone());
    let now = (program.clock)();
    let slots: Vec<DateTime<Utc>> = schedule.between(now, DateTime::<Utc>::MAX_UTC).take(10).collect();
    let changes = schedule.next_clock_changes(now);
    let outage = scheduler::outage(job.name, settings, now - OUTAGE, now);
    if program.json {
        return json(&object!({
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
        }));
    }
    say(format_args!("{} {}.", job.name, job.about))?;
    say(facts(&[
        ("rule", schedule.describe()),
        ("in words", schedule.in_words()),
        ("enabled", if settings.enabled { "yes" } else { "no: it has no slots" }.to_owned()),
    ]))?;
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

/// The runs: slots that were run, skipped or missed, and runs by hand.
#[derive(clap::Args)]
pub struct Runs {
    /// Only of this job
    #[arg(long, value_parser = job_named)]
    job: Option<&'static Job>,
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
        State::Succeeded => counters(run),
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

/// The plain numbers among a run's counters.
fn counters(run: &RunRow) -> String {
    let counters = run.counters.as_ref().and_then(Value::as_object).into_iter().flatten();
    let numbers = counters.filter_map(|(name, value)| Some(format!("{} {name}", grouped(value.as_i64()?))));
    let numbers: Vec<String> = numbers.filter(|text| !text.starts_with("0 ")).collect();
    if numbers.is_empty() { "nothing to do".to_owned() } else { numbers.join(", ") }
}

fn run_json(run: &RunRow) -> Value {
    object!({
        "run": run.run, "job": run.job, "slot": time_text(run.slot), "trigger": run.trigger.as_str(),
        "state": run.state.as_str(), "attempt": run.attempt, "fence": run.fence, "host": run.host, "pid": run.pid,
        "started": run.started.map(time_text), "heartbeat": run.heartbeat.map(time_text),
        "resume_at": run.resume_at.map(time_text), "finished": run.finished.map(time_text),
        "progress": run.progress, "counters": run.counters, "error": run.error, "why": run.why,
    })
}

/// Runs a job now, here, and tells what it did.
///
/// One run of a job is under way at most: while there is another one, nothing is done (exit status 3), or with --wait it
/// waits for its turn.
#[derive(clap::Args)]
pub struct Run {
    /// Which job
    #[arg(value_parser = job_named)]
    job: &'static Job,
    /// The slot to run for (RFC 3339); by default now
    #[arg(long)]
    at: Option<Time>,
    /// Tell what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Where a run of the job is under way, wait for its end
    #[arg(long)]
    wait: bool,
}

impl Run {
    /// Runs the job to its end, or to the end of the chunk in hand when it is interrupted.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let slot = program.now_or(self.at);
        let stop = stop_on_signal()?;
        let began = Instant::now();
        program
            .with_ledger(async |database: &Database| {
                if self.dry_run {
                    let context = Context::new(&program.config, database);
                    let counters = (self.job.dry_run)(context, slot, stop.clone()).await?;
                    return told(self.job, slot, &counters, None, began, program);
                }
                let asked = here(self.job, database, &program.config, slot, self.wait, &stop).await?;
                match asked {
                    Asked::Ran(row) => ended(self.job, &row, began, program),
                    Asked::Busy(row) => {
                        busy(&row, program)?;
                        Ok(Outcome::No)
                    }
                }
            })
            .await
    }
}

/// Runs a job in this process, with a bar on the terminal.
pub(super) async fn here(
    job: &Job,
    database: &Database,
    config: &config::Config,
    slot: DateTime<Utc>,
    wait: bool,
    stop: &CancellationToken,
) -> anyhow::Result<Asked> {
    let store = Store::new(database, config.jobs.takeover);
    let scheduled = job.scheduled(config, &Context::new(config, database));
    let board = Arc::new(Board::default());
    let bar = progress(0, job.name, "");
    let run = async {
        loop {
            let now = store.now().await?;
            let asked = scheduler::run_now(&store, &scheduled, slot, now, &board, stop).await?;
            let wait = wait && matches!(asked, Asked::Busy(_)) && !stop.is_cancelled();
            if !wait || stop.run_until_cancelled(tokio::time::sleep(LOOK_AGAIN)).await.is_none() {
                return Ok(asked);
            }
        }
    };
    let mut run = std::pin::pin!(run);
    let asked: Result<Asked, scheduler::Error> = loop {
        match tokio::time::timeout(SHOW_EVERY, &mut run).await {
            Ok(asked) => break asked,
            Err(_) => {
                if let Some((done, total)) = board.runs().first().and_then(|run| run.progress) {
                    bar.set_length(total);
                    bar.set_position(done);
                }
            }
        }
    };
    bar.finish_and_clear();
    asked.context("the run could not be kept in the database")
}

fn ended(job: &Job, row: &RunRow, began: Instant, program: &Program) -> anyhow::Result<Outcome> {
    match row.state {
        State::Succeeded => {
            let counters = row.counters.clone().unwrap_or(Value::Null);
            told(job, row.slot, &counters, Some(row), began, program)
        }
        State::Cancelled | State::Running => {
            if program.json {
                told(job, row.slot, &row.counters.clone().unwrap_or(object!({})), Some(row), began, program)?;
            } else {
                let why = row.why.as_deref().unwrap_or("its outcome is not known");
                say(format_args!("Run {} of {}: {why}. It did: {}.", row.run, job.name, counters(row)))?;
                say("What it did stays; run it again for the rest.")?;
            }
            Ok(Outcome::Interrupted)
        }
        _ => {
            let reason = row.error.clone().unwrap_or_default();
            let error = anyhow::anyhow!("{reason}");
            Err(error.context(format!(
                "run {} of {} failed; what it did stays, run it again for the rest",
                row.run, job.name
            )))
        }
    }
}

fn told(
    job: &Job,
    slot: DateTime<Utc>,
    counters: &Value,
    row: Option<&RunRow>,
    began: Instant,
    program: &Program,
) -> anyhow::Result<Outcome> {
    let seconds = began.elapsed().as_secs_f64();
    let dry_run = row.is_none();
    let sweep: Option<Sweep> =
        (job.name == jobs::expiry::JOB.name).then(|| serde_json::from_value(counters.clone())).transpose()?;
    if program.json {
        let mut answer = counters.clone();
        if let Some(answer) = answer.as_object_mut() {
            answer.insert("at".to_owned(), object!(time_text(slot)));
            answer.insert("dry_run".to_owned(), object!(dry_run));
            answer.insert("seconds".to_owned(), object!(seconds));
            answer.insert("run".to_owned(), object!(row.map(|row| row.run)));
            answer.insert("state".to_owned(), object!(row.map(|row| row.state.as_str())));
        }
        json(&answer)?;
    } else if let Some(sweep) = &sweep {
        let verb = if dry_run { "Would expire" } else { "Expired" };
        say(format_args!("{verb} what was due at {}, in {seconds:.1} s.", time_text(slot)))?;
        say(swept(sweep))?;
        if sweep.stopped {
            say("Interrupted: run it again for the rest.")?;
        }
    } else {
        let verb = if dry_run { "would do" } else { "did" };
        let numbers = counters.as_object().into_iter().flatten();
        let numbers: Vec<(&str, String)> =
            numbers.filter_map(|(name, value)| Some((name.as_str(), grouped(value.as_i64()?)))).collect();
        say(format_args!("{} {verb}, in {seconds:.1} s:\n{}", job.name, facts(&numbers)))?;
    }
    Ok(match sweep {
        Some(sweep) if sweep.stopped => Outcome::Interrupted,
        Some(sweep) if !sweep.orphans.is_empty() => Outcome::No,
        _ => Outcome::Done,
    })
}

fn busy(row: &RunRow, program: &Program) -> anyhow::Result<()> {
    if program.json {
        return json(&object!({ "busy": run_json(row) }));
    }
    if row.heartbeat.is_none() {
        let (run, slot) = (row.run, time_text(row.slot));
        return say(format_args!(
            "{}: run {run} for the slot {slot} waits for a daemon to continue it. Nothing was done. Start a daemon and let it \
             end, or end it by `pointsd jobs cancel {run}`.",
            row.job
        ));
    }
    let (host, pid) = (row.host.as_deref().unwrap_or("?"), row.pid.unwrap_or_default());
    let by = match row.trigger {
        Trigger::Manual => "by hand".to_owned(),
        Trigger::Schedule | Trigger::CatchUp => format!("for the slot {}", time_text(row.slot)),
    };
    let last = row.heartbeat.map(|at| format!(", last heard of at {}", time_text(at))).unwrap_or_default();
    say(format_args!(
        "{} is under way already: run {} {by}, process {pid} on {host}{last}. Nothing was done; --wait waits for its end.",
        row.job, row.run
    ))
}

/// A sweep's outcome as a table by source, and what it could not expire.
pub fn swept(sweep: &Sweep) -> String {
    let mut rows: Vec<Vec<String>> = sweep
        .by_source
        .iter()
        .map(|(source, expired)| vec![source.clone(), grouped(expired.batches), grouped(expired.points)])
        .collect();
    rows.push(vec!["all".to_owned(), grouped(sweep.batches), grouped(sweep.points)]);
    let mut text = table(&["source", "batches", "points"], &rows);
    text.push_str(&format!("\n{} touched.", counted(sweep.accounts, "account", "accounts")));
    if sweep.orphaned > 0 {
        let users = counted(sweep.orphaned, "user has", "users have");
        text.push_str(&format!("\n{users} due batches but no account: they were left as they are."));
    }
    for orphan in &sweep.orphans {
        let batches = counted(orphan.batches, "batch", "batches");
        text.push_str(&format!("\n  {}: {batches}, {} points", orphan.user, grouped(orphan.points)));
    }
    text
}

/// `Mon 2026-11-23 02:00 CET`
pub(super) fn local(time: DateTime<Utc>, zone: Tz) -> String {
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
