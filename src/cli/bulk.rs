//! `post`: a file or a stream of postings. `enqueue` shares the parts for reading lines.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use indicatif::ProgressBar;

use super::output::{counted, grouped, progress, remark, say, table};
use super::posting::ReplyJson;
use super::signals::stop_on_signal;
use super::{Outcome, Program, WrongCall};
use crate::bulk::{self, Format, LineReply, Summary};
use crate::database::Database;
use crate::ledger::{Poster, Reply};

/// Connections that post side by side. With two, one works while the other waits for the disk. More than eight help only a server
/// with more cores. Only two were measured.
pub fn lanes() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 8))
}

/// Posts a file: NDJSON lines, or CSV with a header. Exit status 3 if a line was rejected.
///
/// A line: {"op":"consume","user":…,"points":…,"source_type":…,"source_id":…} or {"op":"recharge","user":…,"points":…,
/// "source":…,"order_id":…}. Optional: key, expires_at, duration, description, at. Posting a file again is safe: posted lines
/// replay.
#[derive(clap::Args)]
pub struct Post {
    #[command(flatten)]
    lines: Lines,
}

/// The input of a command that reads lines.
#[derive(clap::Args)]
pub(super) struct Lines {
    /// The file, or - for standard input
    file: PathBuf,
    /// Read comma-separated values, with the names of the fields as header
    #[arg(long)]
    csv: bool,
}

/// An open input.
pub(super) struct Input {
    pub reader: Box<dyn Read + Send>,
    pub format: Format,
    /// Standard input: its writer may wait for each answer before it writes the next line.
    pub stdin: bool,
    pub bar: ProgressBar,
}

impl Lines {
    /// Opens the input; `what` names the work on the progress bar.
    pub(super) fn open(&self, what: &'static str) -> Result<Input, WrongCall> {
        let format = if self.csv { Format::Csv } else { Format::Ndjson };
        if self.file.as_os_str() == "-" {
            return Ok(Input { reader: Box::new(io::stdin()), format, stdin: true, bar: ProgressBar::hidden() });
        }
        let unreadable = |error| WrongCall(format!("{} cannot be read: {error}", self.file.display()));
        let file = File::open(&self.file).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if metadata.is_dir() {
            return Err(WrongCall(format!("{} is a folder; name a file", self.file.display())));
        }
        let bar = progress(metadata.len(), what, "bytes");
        Ok(Input { reader: Box::new(bar.wrap_read(file)), format, stdin: false, bar })
    }
}

impl Post {
    /// Posts every line. Prints each reply as JSON, or the rejected lines and a summary.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let Input { reader, format, stdin, bar } = self.lines.open("posting")?;
        let stop = stop_on_signal()?;
        let began = Instant::now();
        let posted = program
            .with_ledger(async |database: &Database| {
                let poster = Poster::start(database, &program.rules, lanes());
                let mut out = BufWriter::new(io::stdout().lock());
                let posted = bulk::post(reader, format, &poster, program.clock, &stop, |reply| {
                    write_reply(&mut out, &reply, program.json, stdin)
                })
                .await;
                bar.finish_and_clear();
                poster.close().await;
                out.flush().context("the replies cannot be written")?;
                Ok(posted)
            })
            .await?;
        let summary = posted.map_err(|error| {
            let wrong = matches!(error, bulk::Error::Header(_));
            let error = anyhow::Error::new(error);
            if wrong {
                WrongCall(format!("{error:#}")).into()
            } else {
                error.context("posting ended early; post the same input again from its start, what was posted replays")
            }
        })?;
        if !program.json {
            say(post_summary(&summary, began.elapsed().as_secs_f64()))?;
        }
        Ok(outcome(summary.stopped, summary.last_line, &summary.rejected))
    }
}

fn write_reply(out: &mut impl Write, reply: &LineReply, as_json: bool, flush: bool) -> io::Result<()> {
    if as_json {
        serde_json::to_writer(&mut *out, &ReplyJson::new(Some(reply.line), reply.user, &reply.reply))?;
        writeln!(out)?;
    } else if let Reply::Rejected(refusal) = &reply.reply {
        writeln!(out, "line {}: rejected ({}): {refusal}", reply.line, refusal.code())?;
    }
    if flush { out.flush() } else { Ok(()) }
}

/// The outcome of a command that reads lines. Names the last answered line on standard error if it was interrupted.
pub(super) fn outcome(stopped: bool, last_line: u64, rejected: &BTreeMap<&'static str, u64>) -> Outcome {
    match (stopped, rejected.is_empty()) {
        (true, _) => {
            remark(Some(format!(
                "pointsd: interrupted; lines 1 to {last_line} have been answered. Call again with the same input from its \
                 start: posted lines replay."
            )));
            Outcome::Interrupted
        }
        (false, true) => Outcome::Done,
        (false, false) => Outcome::No,
    }
}

/// The summary of `post` as text.
pub(super) fn post_summary(summary: &Summary, seconds: f64) -> String {
    let holds = [("held", summary.held), ("released", summary.released)].into_iter().filter(|(_, lines)| *lines > 0);
    let done: Vec<_> =
        [("posted", summary.posted)].into_iter().chain(holds).chain([("replayed", summary.replayed)]).collect();
    summary_text(&done, &summary.rejected, seconds)
}

/// Lines by outcome, and rejected lines by code.
pub(super) fn summary_text(done: &[(&str, u64)], rejected: &BTreeMap<&'static str, u64>, seconds: f64) -> String {
    let rejected = rejected.iter().map(|(code, lines)| (format!("rejected: {code}"), *lines));
    let outcomes = done.iter().map(|(outcome, lines)| ((*outcome).to_owned(), *lines)).chain(rejected);
    let outcomes: Vec<(String, u64)> = outcomes.collect();
    let lines = counted(outcomes.iter().map(|(_, lines)| lines).sum::<u64>(), "line", "lines");
    let rows: Vec<_> = outcomes.into_iter().map(|(outcome, lines)| vec![outcome, grouped(lines)]).collect();
    format!("{lines} in {seconds:.1} s.\n{}", table(&["outcome", "lines"], &rows))
}
