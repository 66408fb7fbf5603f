//! `post`: a file or a stream of postings.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use indicatif::ProgressBar;

use super::output::{counted, grouped, progress, say, table};
use super::posting::ReplyJson;
use super::{Outcome, Program, WrongCall, stop_on_signal};
use crate::bulk::{self, Format, LineReply, Summary};
use crate::database::Database;
use crate::ledger::{Poster, Reply};

/// Connections that post side by side: two at least, so that one's work hides the other's wait for the disk, and no more
/// than the server may well have cores for. Only two were measured.
pub fn lanes() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 8))
}

/// Posts many: NDJSON lines, or CSV with a header. Ends with 3 if a line was rejected.
///
/// A line: {"op":"consume","user":…,"points":…,"source_type":…,"source_id":…} or {"op":"recharge","user":…,"points":…,
/// "source":…,"order_id":…}; optional: key, expires_at, duration, description, at. Posting a file again is safe: what
/// was posted replays.
#[derive(clap::Args)]
pub struct Post {
    #[command(flatten)]
    lines: Lines,
}

/// The lines that a command is given.
#[derive(clap::Args)]
pub(super) struct Lines {
    /// The file; - for standard input
    file: PathBuf,
    /// Comma-separated values under a header with the same names
    #[arg(long)]
    csv: bool,
}

/// Lines to be read.
pub(super) struct Input {
    pub reader: Box<dyn Read + Send>,
    pub format: Format,
    /// Whether somebody may be waiting for each answer before the next line comes.
    pub stdin: bool,
    pub bar: ProgressBar,
}

impl Lines {
    /// Opens the input; `what` says on the terminal what is done with it.
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
    /// Posts every line; prints each reply as JSON, or the refused lines and a summary.
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
            say(in_words(&summary, began.elapsed().as_secs_f64()))?;
        }
        if summary.stopped {
            tell_interrupted(&summary);
            return Ok(Outcome::Interrupted);
        }
        Ok(if summary.rejected() == 0 { Outcome::Done } else { Outcome::No })
    }
}

fn write_reply(out: &mut impl Write, reply: &LineReply, as_json: bool, flush: bool) -> io::Result<()> {
    if as_json {
        serde_json::to_writer(&mut *out, &ReplyJson::of(Some(reply.line), reply.user, &reply.reply))?;
        writeln!(out)?;
    } else if let Reply::Rejected(refusal) = &reply.reply {
        writeln!(out, "line {}: rejected ({}): {refusal}", reply.line, refusal.code())?;
    }
    if flush { out.flush() } else { Ok(()) }
}

#[expect(clippy::print_stderr, reason = "said beside the replies, not among them")]
fn tell_interrupted(summary: &Summary) {
    eprintln!(
        "pointsd: interrupted; lines 1 to {} have been answered. Post the same input again from its start: what was \
         posted replays.",
        summary.last_line
    );
}

pub(super) fn in_words(summary: &Summary, seconds: f64) -> String {
    let mut rows = vec![
        vec!["posted".to_owned(), grouped(summary.posted)],
        vec!["replayed".to_owned(), grouped(summary.replayed)],
    ];
    for (code, lines) in &summary.rejected {
        rows.push(vec![format!("rejected: {code}"), grouped(*lines)]);
    }
    let lines = counted(summary.lines(), "line", "lines");
    format!("{lines} in {seconds:.1} s.\n{}", table(&["outcome", "lines"], &rows))
}
