//! `run`: runs a job now, in this process, and prints its result.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use serde_json::{Value, json as object};
use tokio_util::sync::CancellationToken;

use super::jobs::NamedJob;
use super::output::{counted, facts, progress, remark};
use super::signals::stop_on_signal;
use super::{Outcome, Program, Time, WrongCall};
use crate::database::Database;
use crate::document::Document;
use crate::errors;
use crate::jobs::{self, Context, Counted, RegisteredJob};
use crate::ledger::Progress;
use crate::mail::{self, Delivered};
use crate::reports;
use crate::scheduler::{self, Board, RunNow, RunRow, State, Store, Trigger};
use crate::time::time_text;

/// How often `run --wait` asks whether the other run has ended.
const POLL_EVERY: Duration = Duration::from_millis(200);

/// How often the progress bar moves.
const SHOW_EVERY: Duration = Duration::from_millis(50);

/// Runs a job now, in this process, and prints its result.
///
/// A job that makes a report prints it and mails it to the recipients that the configuration names. Mails that still wait
/// from earlier runs are sent as well. The exit status is 3 if a mail could not be sent. A job has one run at a time: if
/// another run is under way, nothing is done (exit status 3), or with --wait the command waits for its turn.
#[derive(clap::Args)]
pub struct Run {
    #[command(flatten)]
    named: NamedJob,
    /// The slot to run for (RFC 3339); by default now. A future one only with --dry-run
    #[arg(long)]
    at: Option<Time>,
    /// Print what the job would do, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Prove everything, from each account's first entry on (reconciliation)
    #[arg(long)]
    full: bool,
    /// If a run of the job is under way, wait for its end
    #[arg(long)]
    wait: bool,
}

impl Run {
    /// Runs the job to its end, or to the end of the current transaction if it is interrupted.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let slot = program.now_or(self.at);
        self.check_options()?;
        let stop = stop_on_signal()?;
        let began = Instant::now();
        program
            .with_ledger(async |database: &Database| {
                let now = Store::new(database, program.config.jobs.takeover).now().await?;
                let job = self.named.job;
                self.check_slot(slot, now)?;
                let context = Context { full: self.full, ..Context::new(&program.config, database) };
                if self.dry_run {
                    let done = (job.dry_run)(context, slot, stop.clone()).await?;
                    let report = done.document.map(|document| (None, document));
                    return RunResult { job, slot, row: None, report, began }.print(&done.counters, program);
                }
                match run_job(self.named.job, &context, slot, self.wait, &stop).await? {
                    RunNow::Busy(row) => busy(&row, program),
                    RunNow::Ran(row) => self.ran(&row, began, database, program).await,
                }
            })
            .await
    }

    /// Refuses options that the job does not have.
    fn check_options(&self) -> Result<(), WrongCall> {
        let name = self.named.job.name;
        if self.full && !self.named.job.takes_full {
            return Err(WrongCall(format!(
                "--full is not for {name}, which always does all of its work; leave it out"
            )));
        }
        Ok(())
    }

    fn check_slot(&self, slot: DateTime<Utc>, now: DateTime<Utc>) -> Result<(), WrongCall> {
        let job = self.named.job;
        if job.takes_slot(slot, now, self.dry_run) {
            return Ok(());
        }
        let remedy = if job.reports_on_present {
            format!("{} reports the present; leave --at out", job.name)
        } else {
            "correct it, or see with --dry-run what the run would do".to_owned()
        };
        Err(in_the_future(slot, now, &remedy))
    }

    /// Prints the result of a run and sends the mails that are due.
    async fn ran(
        &self,
        row: &RunRow,
        began: Instant,
        database: &Database,
        program: &Program,
    ) -> anyhow::Result<Outcome> {
        let report = match row.state {
            State::Succeeded => report_of(database, row).await?,
            _ => None,
        };
        let made_by = report.as_ref().map(|(_, document)| document.run).filter(|made_by| *made_by != row.run);
        let ended = ended(self.named.job, row, report, began, program);
        // A slot that is run again keeps the report that it has.
        remark(made_by.map(|run| format!("run {run} had made the report for this slot already; it stays as it was")));
        // A run that failed may have kept a report that says so, and its mails must be sent as well.
        let interrupted = matches!(ended, Ok(Outcome::Interrupted));
        let all_sent = interrupted || !self.named.job.makes_report || deliver(database, program).await;
        match ended {
            Ok(Outcome::Done) if !all_sent => Ok(Outcome::No),
            ended => ended,
        }
    }
}

/// The report of the run's slot: its number and its document.
async fn report_of(database: &Database, row: &RunRow) -> anyhow::Result<Option<(Option<i64>, Document)>> {
    let client = database.connection().await?;
    let Some(number) = reports::find_by_slot(&client, &row.job, row.slot).await? else { return Ok(None) };
    Ok(reports::load(&client, number).await?.map(|document| (Some(number), document)))
}

/// Sends all mails that are due and says on standard error how many. If cron runs the jobs, no daemon sends mails that
/// had to wait. Returns false if a mail could not be sent.
async fn deliver(database: &Database, program: &Program) -> bool {
    let round = async {
        // A mail is due by the database's clock.
        let now = Store::new(database, program.config.jobs.takeover).now().await?;
        anyhow::Ok(mail::deliver(database, &program.config, None, now).await?)
    };
    match round.await {
        Ok(delivered) => {
            remark(delivery(&delivered));
            delivered.waiting + delivered.parked == 0
        }
        Err(error) => {
            let reason = errors::chain(AsRef::<dyn std::error::Error>::as_ref(&error)).to_string();
            remark(Some(format!("the mails wait; the next run of a report or a daemon sends them: {reason}")));
            false
        }
    }
}

/// `2 mails sent, 1 waits: the server is not there`; None if there was no mail to send.
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

/// Runs a job in this process, with a progress bar on the terminal.
pub(super) async fn run_job(
    job: &RegisteredJob,
    context: &Context,
    slot: DateTime<Utc>,
    wait: bool,
    stop: &CancellationToken,
) -> anyhow::Result<RunNow> {
    let store = Store::new(&context.database, context.config.jobs.takeover);
    let scheduled = job.scheduled(&context.config, context);
    let board = Arc::new(Board::default());
    let bar = progress(0, job.name, "");
    let run = async {
        loop {
            let now = store.now().await?;
            let asked = scheduler::run_now(&store, &scheduled, slot, now, &board, stop).await?;
            let wait = wait && matches!(asked, RunNow::Busy(_)) && !stop.is_cancelled();
            if !wait || stop.run_until_cancelled(tokio::time::sleep(POLL_EVERY)).await.is_none() {
                return Ok(asked);
            }
        }
    };
    let mut run = std::pin::pin!(run);
    let asked: Result<RunNow, scheduler::Error> = loop {
        match tokio::time::timeout(SHOW_EVERY, &mut run).await {
            Ok(asked) => break asked,
            Err(_) => {
                if let Some(Progress { done, total }) = board.runs().first().and_then(|run| run.progress) {
                    bar.set_length(total);
                    bar.set_position(done);
                }
            }
        }
    };
    bar.finish_and_clear();
    asked.context("the run could not be kept in the database")
}

/// The refusal of an `--at` that lies in the future.
pub(super) fn in_the_future(at: DateTime<Utc>, now: DateTime<Utc>, remedy: &str) -> WrongCall {
    let (at, now) = (time_text(at), time_text(now));
    WrongCall(format!("--at {at} lies in the future: the database's clock shows {now}; {remedy}"))
}

/// Prints how a run ended.
fn ended(
    job: &RegisteredJob,
    row: &RunRow,
    report: Option<(Option<i64>, Document)>,
    began: Instant,
    program: &Program,
) -> anyhow::Result<Outcome> {
    let result = RunResult { job, slot: row.slot, row: Some(row), report, began };
    match row.state {
        State::Succeeded => {
            let counters = (job.counted)(row.counters.clone().unwrap_or_default())?;
            result.print(&counters, program)
        }
        State::Cancelled | State::Running => {
            program.answer(result.json(&row.counters.clone().unwrap_or(object!({}))), || {
                let why = row.why.as_deref().unwrap_or("its outcome is not known");
                format!(
                    "Run {} of {}: {why}. Done so far: {}.\nThe work done so far stays; run the job again for the rest.",
                    row.run,
                    job.name,
                    jobs::summary(row, jobs::OPERATOR)
                )
            })?;
            Ok(Outcome::Interrupted)
        }
        _ => {
            let error = anyhow::anyhow!("{}", row.error.clone().unwrap_or_default());
            Err(error.context(format!(
                "run {} of {} failed; the work done so far stays, run the job again for the rest",
                row.run, job.name
            )))
        }
    }
}

/// The result of a run, or of a dry run, which has no row.
struct RunResult<'a> {
    job: &'a RegisteredJob,
    slot: DateTime<Utc>,
    row: Option<&'a RunRow>,
    /// The report's number, if it was kept, and its document.
    report: Option<(Option<i64>, Document)>,
    began: Instant,
}

impl RunResult<'_> {
    fn print(&self, counted: &Counted, program: &Program) -> anyhow::Result<Outcome> {
        program.answer(self.json(&counted.json), || {
            let templates = program.config.reports.templates.as_deref();
            match self.report.as_ref().filter(|_| self.job.prints_report) {
                Some((_, document)) => reports::text(document, templates).trim_end().to_owned(),
                None => self.text(counted),
            }
        })?;
        Ok(if counted.counters.needs_attention() { Outcome::No } else { Outcome::Done })
    }

    fn text(&self, counted: &Counted) -> String {
        let (name, slot, seconds) = (self.job.name, time_text(self.slot), self.began.elapsed().as_secs_f64());
        let kind = if self.row.is_none() { "Dry run of " } else { "" };
        let mut text =
            format!("{kind}{name} for {slot}, in {seconds:.1} s: {}.", counted.counters.summary(jobs::OPERATOR));
        let details = counted.counters.details(jobs::OPERATOR);
        if !details.is_empty() {
            let details: Vec<_> = details.iter().map(|(label, value)| (label.as_str(), value.clone())).collect();
            text.push_str(&format!("\n{}", facts(&details)));
        }
        if let Some((Some(number), _)) = self.report {
            text.push_str(&format!("\nReport {number} was kept; `pointsd reports show {number}` shows it."));
        }
        text
    }

    /// The counters, and what the run was.
    fn json(&self, counters: &Value) -> Value {
        let mut answer = counters.clone();
        let Some(fields) = answer.as_object_mut() else { return answer };
        let mut add = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        add("at", object!(self.slot));
        add("dry_run", object!(self.row.is_none()));
        add("seconds", object!(self.began.elapsed().as_secs_f64()));
        add("run", object!(self.row.map(|row| row.run)));
        add("state", object!(self.row.map(|row| row.state)));
        let (number, document) =
            self.report.as_ref().map_or((None, None), |(number, document)| (*number, Some(document)));
        if self.job.prints_report && document.is_some() {
            add("document", object!(document));
        } else if self.job.makes_report && self.row.is_some() {
            add("report", object!(number));
        }
        answer
    }
}

/// Names the other run that is under way.
fn busy(row: &RunRow, program: &Program) -> anyhow::Result<Outcome> {
    program.answer(object!({ "busy": row }), || {
        let (job, run, slot) = (&row.job, row.run, time_text(row.slot));
        let Some(heartbeat) = row.heartbeat else {
            return format!(
                "{job}: run {run} for the slot {slot} waits for a daemon to continue it. Nothing was done. Start a \
                 daemon, or end the run with `pointsd jobs cancel {run}`."
            );
        };
        let (host, pid) = (row.host.as_deref().unwrap_or("?"), row.pid.unwrap_or_default());
        let by = match row.trigger {
            Trigger::Manual => "by hand".to_owned(),
            Trigger::Schedule | Trigger::CatchUp => format!("for the slot {slot}"),
        };
        format!(
            "{job} is under way already: run {run} {by}, process {pid} on {host}, last heartbeat at {}. Nothing was \
             done; --wait waits for its end.",
            time_text(heartbeat)
        )
    })?;
    Ok(Outcome::No)
}
