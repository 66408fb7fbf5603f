//! `run`: a job, now and here, and what came of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json as object};
use tokio_util::sync::CancellationToken;

use super::jobs::{counters, job_named, run_json};
use super::output::{counted, facts, grouped, json, progress, say, table, whisper};
use super::{Outcome, Program, Time, WrongCall, stop_on_signal};
use crate::config;
use crate::database::Database;
use crate::document::Document;
use crate::jobs::{self, Context, Job, arrears, is_answer_no, reconciliation};
use crate::ledger::Sweep;
use crate::mail::{self, Delivered};
use crate::render::Renderer;
use crate::reports;
use crate::scheduler::{self, Asked, Board, RunRow, State, Store, Trigger};
use crate::telemetry;
use crate::time::time_text;

/// How often `run --wait` looks whether the other run is over.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// How often the bar on the terminal moves.
const SHOW_EVERY: Duration = Duration::from_millis(50);

/// Runs a job now, here, and tells what it did.
///
/// A job that makes a report prints it, and mails it to whom the configuration names; what waits from earlier runs leaves
/// with it. Where a mail could not leave, the exit status is 3. One run of a job is under way at most: while there is another
/// one, nothing is done (exit status 3), or with --wait it waits for its turn.
#[derive(clap::Args)]
pub struct Run {
    /// Which job: expiry, reconciliation, arrears or prune
    #[arg(value_parser = job_named)]
    job: &'static Job,
    /// The slot to run for (RFC 3339); by default now
    #[arg(long)]
    at: Option<Time>,
    /// Tell what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Prove everything, from each account's first entry on (reconciliation)
    #[arg(long)]
    full: bool,
    /// Where a run of the job is under way, wait for its end
    #[arg(long)]
    wait: bool,
}

impl Run {
    /// Runs the job to its end, or to the end of the chunk in hand when it is interrupted.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        if self.full && self.job.name != reconciliation::JOB.name {
            return Err(WrongCall(format!(
                "--full is for {}: {} always does the whole of it; leave it out",
                reconciliation::JOB.name,
                self.job.name
            ))
            .into());
        }
        let slot = program.now_or(self.at);
        // What is due at a time to come can be swept; who owes then cannot be known. Clocks differ a little.
        let tells_now = [reconciliation::JOB.name, arrears::JOB.name].contains(&self.job.name);
        if tells_now && slot > (program.clock)() + TimeDelta::days(1) {
            return Err(WrongCall(format!(
                "--at {} lies in the future, and {} reports what is now; leave --at out",
                time_text(slot),
                self.job.name
            ))
            .into());
        }
        let stop = stop_on_signal()?;
        let began = Instant::now();
        program
            .with_ledger(async |database: &Database| {
                let context = Context { full: self.full, ..Context::new(&program.config, database) };
                if self.dry_run {
                    let mut counters = (self.job.dry_run)(context, slot, stop.clone()).await?;
                    let document = counters.as_object_mut().and_then(|counters| counters.remove("document"));
                    let document = document.map(serde_json::from_value).transpose()?;
                    return Told { job: self.job, slot, row: None, report: None, document }
                        .tell(&counters, began, program);
                }
                let asked = in_context(self.job, &context, slot, self.wait, &stop).await?;
                let row = match asked {
                    Asked::Ran(row) => row,
                    Asked::Busy(row) => {
                        busy(&row, program)?;
                        return Ok(Outcome::No);
                    }
                };
                let made = match row.state {
                    State::Succeeded => made(database, &row).await?,
                    _ => None,
                };
                let by = made.as_ref().map(|(_, document)| document.run);
                let ended = ended(self.job, &row, made, began, program);
                // Doing a slot again changes nothing that was made for it.
                whisper(
                    by.filter(|by| *by != row.run)
                        .map(|by| format!("run {by} had made the report for this slot already; it stays as it was")),
                );
                // A run that failed may have kept a report that says so, and its mails are to leave as well.
                let interrupted = matches!(ended, Ok(Outcome::Interrupted));
                let all_left =
                    interrupted || !reports::ALL.contains(&self.job.name) || deliver(database, program).await;
                match ended {
                    Ok(Outcome::Done) if !all_left => Ok(Outcome::No),
                    ended => ended,
                }
            })
            .await
    }
}

/// The report that a run made: its number, and what it says.
async fn made(database: &Database, row: &RunRow) -> anyhow::Result<Option<(i64, Document)>> {
    let client = database.connection().await?;
    let sql = include_str!("../../sql/reports/document_of_slot.sql");
    let Some(of_slot) = client.query_opt(sql, &[&row.job, &row.slot]).await? else { return Ok(None) };
    let number = of_slot.try_get(0)?;
    Ok(reports::read(&client, number).await?.map(|document| (number, document)))
}

/// Makes one round over all mails that are due, and tells on standard error what came of it: where cron runs the jobs,
/// nobody else sends what had to wait. False where something could not leave.
async fn deliver(database: &Database, program: &Program) -> bool {
    let round = async {
        // When a mail is due, the database's clock says.
        let now = Store::new(database, program.config.jobs.takeover).now().await?;
        anyhow::Ok(mail::deliver(database, &program.config, None, now).await?)
    };
    match round.await {
        Ok(delivered) => {
            whisper(delivery(&delivered));
            delivered.waiting + delivered.parked == 0
        }
        Err(error) => {
            let reason = telemetry::chain(AsRef::<dyn std::error::Error>::as_ref(&error)).to_string();
            whisper(Some(format!("the mails wait, the next run of a report or a daemon sends them: {reason}")));
            false
        }
    }
}

/// `2 mails sent, 1 waits: the server is not there`; none where there was nothing to send.
fn delivery(delivered: &Delivered) -> Option<String> {
    let Delivered { sent, waiting, parked, ref why } = *delivered;
    let mut parts = Vec::new();
    if sent > 0 {
        parts.push(format!("{} sent", counted(sent, "mail", "mails")));
    }
    if waiting > 0 {
        parts.push(counted(waiting, "waits", "wait"));
    }
    if parked > 0 {
        parts.push(format!("{} given up", counted(parked, "is", "are")));
    }
    let mut text = parts.join(", ");
    if sent == 0 && !text.is_empty() {
        text.insert_str(0, "no mail sent, ");
    }
    if let Some(why) = why {
        text.push_str(": ");
        text.push_str(why);
    }
    (!text.is_empty()).then_some(text)
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
    in_context(job, &Context::new(config, database), slot, wait, stop).await
}

async fn in_context(
    job: &Job,
    context: &Context,
    slot: DateTime<Utc>,
    wait: bool,
    stop: &CancellationToken,
) -> anyhow::Result<Asked> {
    let store = Store::new(&context.database, context.config.jobs.takeover);
    let scheduled = job.scheduled(&context.config, context);
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

fn ended(
    job: &Job,
    row: &RunRow,
    made: Option<(i64, Document)>,
    began: Instant,
    program: &Program,
) -> anyhow::Result<Outcome> {
    let (report, document) = made.unzip();
    let told = Told { job, slot: row.slot, row: Some(row), report, document };
    match row.state {
        State::Succeeded => {
            let counters = row.counters.clone().unwrap_or(Value::Null);
            told.tell(&counters, began, program)
        }
        State::Cancelled | State::Running => {
            if program.json {
                told.tell(&row.counters.clone().unwrap_or(object!({})), began, program)?;
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

/// What is told of a run, or of a dry run, which has no row.
struct Told<'a> {
    job: &'a Job,
    slot: DateTime<Utc>,
    row: Option<&'a RunRow>,
    /// The number under which what it found is kept.
    report: Option<i64>,
    document: Option<Document>,
}

impl Told<'_> {
    fn tell(self, counters: &Value, began: Instant, program: &Program) -> anyhow::Result<Outcome> {
        let Told { job, slot, row, report, document } = self;
        let seconds = began.elapsed().as_secs_f64();
        let dry_run = row.is_none();
        let sweep: Option<Sweep> =
            (job.name == jobs::expiry::JOB.name).then(|| serde_json::from_value(counters.clone())).transpose()?;
        let stopped = sweep.as_ref().is_some_and(|sweep| sweep.stopped);
        if program.json {
            let mut answer = counters.clone();
            if let Some(answer) = answer.as_object_mut() {
                answer.insert("at".to_owned(), object!(time_text(slot)));
                answer.insert("dry_run".to_owned(), object!(dry_run));
                answer.insert("seconds".to_owned(), object!(seconds));
                answer.insert("run".to_owned(), object!(row.map(|row| row.run)));
                answer.insert("state".to_owned(), object!(row.map(|row| row.state.as_str())));
                // A sweep is for the operator, its report for finance: the one names the other.
                if sweep.is_some() && !dry_run {
                    answer.insert("report".to_owned(), object!(report));
                } else if let Some(document) = &document {
                    answer.insert("document".to_owned(), object!(document));
                }
            }
            json(&answer)?;
        } else if let Some(sweep) = &sweep {
            let verb = if dry_run { "Would expire" } else { "Expired" };
            say(format_args!("{verb} what was due at {}, in {seconds:.1} s.", time_text(slot)))?;
            say(swept(sweep))?;
            if stopped {
                say("Interrupted: run it again for the rest.")?;
            }
            if let Some(report) = report {
                say(format_args!("Report {report} was kept; `pointsd reports show {report}` shows it."))?;
            }
        } else if let Some(document) = &document {
            let templates = program.config.reports.templates.as_deref();
            say(Renderer::page(templates).text(document).trim_end())?;
        } else {
            let verb = if dry_run { "would do" } else { "did" };
            let numbers = counters.as_object().into_iter().flatten();
            let numbers: Vec<(&str, String)> =
                numbers.filter_map(|(name, value)| Some((name.as_str(), grouped(value.as_i64()?)))).collect();
            say(format_args!("{} {verb}, in {seconds:.1} s:\n{}", job.name, facts(&numbers)))?;
        }
        Ok(match stopped {
            true => Outcome::Interrupted,
            false if is_answer_no(counters) => Outcome::No,
            false => Outcome::Done,
        })
    }
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
