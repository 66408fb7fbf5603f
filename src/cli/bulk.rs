//! `post`: a file or a stream of postings. `enqueue` shares the parts for reading lines.

use std::collections::BTreeMap;
use std::fs::File;
use std::future::ready;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use indicatif::ProgressBar;

use super::output::{complain, counted, grouped, progress, say, table, write_json};
use super::signals::stop_on_signal;
use super::{Outcome, Program, WrongCall};
use crate::bulk::{self, Encoding, Form, Format, LineReply, ReplyJson, Summary};
use crate::database::Database;
use crate::ledger::{Poster, Refusal, Reply};
use crate::plain;

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
    /// Read CSV, with the names of the fields as header. A file named .csv or .tsv needs no --csv
    #[arg(long)]
    csv: bool,
    /// What stands between the fields of CSV: a character, or tab. By default found in the header
    #[arg(long, value_name = "CHARACTER", value_parser = delimiter)]
    delimiter: Option<u8>,
    /// The encoding, such as gbk or windows-1252. By default UTF-8, or UTF-16 with a byte order mark
    #[arg(long, value_name = "NAME", value_parser = encoding)]
    encoding: Option<&'static Encoding>,
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        _ if text.eq_ignore_ascii_case("tab") || text == "\\t" => Ok(b'\t'),
        [byte] if bulk::is_delimiter(*byte) => Ok(*byte),
        _ => Err("write one character such as ; or the word tab".to_owned()),
    }
}

fn encoding(label: &str) -> Result<&'static Encoding, String> {
    Encoding::for_label_no_replacement(label.as_bytes()).ok_or_else(|| {
        "there is no such encoding; there are gbk, gb18030, big5, shift_jis, euc-kr, windows-1252, utf-16le and others of \
         the WHATWG Encoding Standard"
            .to_owned()
    })
}

/// An open input.
pub(super) struct Input {
    pub reader: Box<dyn Read + Send>,
    pub form: Form,
    /// Standard input: its writer may wait for each answer before it writes the next line.
    pub stdin: bool,
    pub bar: ProgressBar,
}

impl Lines {
    /// Opens the input; `what` names the work on the progress bar.
    pub(super) fn open(&self, what: &'static str) -> Result<Input, WrongCall> {
        let format = match self.csv || is_named_csv(&self.file) {
            true => Format::Csv { delimiter: self.delimiter },
            false if self.delimiter.is_some() => {
                return Err(WrongCall("--delimiter is for CSV; add --csv".to_owned()));
            }
            false => Format::Ndjson,
        };
        let form = Form { encoding: self.encoding, ..Form::from(format) };
        if self.file.as_os_str() == "-" {
            return Ok(Input { reader: Box::new(io::stdin()), form, stdin: true, bar: ProgressBar::hidden() });
        }
        let unreadable = |error| WrongCall(format!("{} cannot be read: {error}", self.file.display()));
        let file = File::open(&self.file).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if metadata.is_dir() {
            return Err(WrongCall(format!("{} is a folder; name a file", self.file.display())));
        }
        let bar = progress(metadata.len(), what, "bytes");
        Ok(Input { reader: Box::new(bar.wrap_read(file)), form, stdin: false, bar })
    }
}

fn is_named_csv(file: &Path) -> bool {
    file.extension().is_some_and(|name| name.eq_ignore_ascii_case("csv") || name.eq_ignore_ascii_case("tsv"))
}

/// The replies on standard output. If their reader leaves, the lines are posted all the same.
pub(super) struct Replies {
    out: BufWriter<io::StdoutLock<'static>>,
    /// Flush what is written, because the writer of the input may wait for it.
    flush: bool,
    /// The error that says that the reader has left.
    left: Option<io::Error>,
}

impl Replies {
    pub(super) fn new(flush: bool) -> Replies {
        Replies { out: BufWriter::new(io::stdout().lock()), flush, left: None }
    }

    pub(super) fn write(&mut self, replies: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        if self.left.is_some() {
            return Ok(());
        }
        let flush = self.flush;
        match replies(&mut self.out).and_then(|()| if flush { self.out.flush() } else { Ok(()) }) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.left = Some(error);
                Ok(())
            }
            written => written,
        }
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// Also if the reader has left.
    pub(super) fn finish(mut self) -> io::Result<()> {
        match self.left {
            Some(left) => Err(left),
            None => self.out.flush(),
        }
    }
}

impl Post {
    /// Posts every line. Prints each reply as JSON, or the rejected lines and a summary.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let input = self.lines.open("posting")?;
        let began = Instant::now();
        let Answered { summary, outcome } = post_lines(input, program, |_| None).await?;
        if !program.json {
            say(post_summary(&summary, began.elapsed().as_secs_f64()))?;
        }
        Ok(outcome)
    }
}

/// The lines that were answered.
pub(super) struct Answered {
    pub summary: Summary,
    pub outcome: Outcome,
}

/// Posts every line, and prints each reply as JSON, or the rejected lines. `each` sees every reply, in the order of the lines within an
/// account, and may refuse one that replays.
pub(super) async fn post_lines(
    input: Input,
    program: &Program,
    mut each: impl FnMut(&LineReply) -> Option<Refusal>,
) -> anyhow::Result<Answered> {
    let Input { reader, form, stdin, bar } = input;
    let stop = stop_on_signal()?;
    let (posted, written) = program
        .with_ledger(async |database: &Database| {
            let poster = Poster::start(database, &program.rules, Poster::lanes());
            let mut replies = Replies::new(stdin);
            let mut refused = Vec::new();
            let write = |mut reply: LineReply, out: &mut Vec<u8>| {
                if let Some(refusal) = each(&reply) {
                    refused.push(refusal.code());
                    reply.reply = Reply::Rejected(refusal);
                }
                // Memory takes every byte.
                let _ = write_reply(out, &reply, program.json);
            };
            let on_replies = |text: Vec<u8>| ready(replies.write(|out| out.write_all(&text)));
            let posted = bulk::post(reader, form, &poster, program.clock, &stop, write, on_replies).await;
            bar.finish_and_clear();
            poster.close().await;
            let posted = posted.map(|summary| without_refused(summary, &refused));
            Ok((posted, replies.finish()))
        })
        .await?;
    let summary = posted.map_err(|error| {
        let wrong = matches!(error, bulk::Error::Header { .. });
        let error = anyhow::Error::new(error);
        if wrong {
            WrongCall(format!("{error:#}")).into()
        } else {
            error.context(
                "the input was not finished; call again with the same input from its start, what was posted replays",
            )
        }
    })?;
    written.context("the replies cannot be written")?;
    let outcome = outcome(summary.stopped, summary.last_line, &summary.rejected);
    Ok(Answered { summary, outcome })
}

/// Counts replays that were refused as rejected lines.
fn without_refused(mut summary: Summary, refused: &[&'static str]) -> Summary {
    for code in refused {
        summary.replayed = summary.replayed.saturating_sub(1);
        *summary.rejected.entry(code).or_default() += 1;
    }
    summary
}

fn write_reply(out: &mut Vec<u8>, reply: &LineReply, as_json: bool) -> io::Result<()> {
    if as_json {
        write_json(out, &ReplyJson::new(Some(reply.line), reply.user, &reply.reply))
    } else if let Reply::Rejected(refusal) = &reply.reply {
        let why = refusal.to_string();
        writeln!(out, "line {}: rejected ({}): {}", reply.line, refusal.code(), plain::line(&why))
    } else {
        Ok(())
    }
}

/// The outcome of a command that reads lines. Names the last answered line on standard error if it was interrupted.
pub(super) fn outcome(stopped: bool, last_line: u64, rejected: &BTreeMap<&'static str, u64>) -> Outcome {
    match (stopped, rejected.is_empty()) {
        (true, _) => {
            complain(&format!(
                "pointsd: interrupted; {}. Call again with the same input from its start: posted lines replay.",
                bulk::answered(last_line)
            ));
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
