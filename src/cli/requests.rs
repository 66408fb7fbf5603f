//! `enqueue` and `requests`: the queue that the daemon posts.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::time::Instant;

use anyhow::Context as _;
use serde_json::json as object;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::bulk::{Input, Lines, Replies, outcome, summary_text};
use super::output::{facts, grouped, say, shortened, table, write_json};
use super::signals::stop_on_signal;
use super::{Outcome, Program, WrongCall};
use crate::bulk::{self, Form, FromReader, Line};
use crate::database::Database;
use crate::fields::parse_user;
use crate::plain;
use crate::requests::{self, Filter, Listed, PutBackAll, State};

/// Queues postings for the daemon: the same lines as `post`. Exit status 3 if a line was rejected.
///
/// With --json each line is answered with the number of its request. `pointsd requests` shows the outcomes. Queueing a file again
/// is safe: posted lines replay.
#[derive(clap::Args)]
pub struct Enqueue {
    #[command(flatten)]
    lines: Lines,
}

/// Shows the queue: its newest requests, and how many there are in each state.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Requests {
    /// Only requests in this state: pending, waiting, posted, held, released, replayed, refused or parked
    #[arg(long, value_parser = state_named)]
    state: Option<State>,
    /// How many, the newest first
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    #[command(subcommand)]
    command: Option<Command>,
}

fn state_named(name: &str) -> Result<State, String> {
    let names = || State::ALL.map(State::as_str).join(", ");
    State::parse(name).ok_or_else(|| format!("there is no such state; there are {}", names()))
}

#[derive(clap::Subcommand)]
enum Command {
    /// Puts parked, refused and waiting requests back to pending
    Retry(Retry),
}

#[derive(clap::Args)]
struct Retry {
    /// Numbers of requests, see `pointsd requests`
    #[arg(required_unless_present = "all", value_name = "ID")]
    ids: Vec<i64>,
    /// All of them, in their old order
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// Only requests in this state: parked, refused or waiting
    #[arg(long, requires = "all", value_parser = state_to_retry)]
    state: Option<State>,
    /// Only requests that were refused or failed with this code, such as unknown_source
    #[arg(long, requires = "all")]
    code: Option<String>,
    /// Only requests of this account's user
    #[arg(long, requires = "all", value_parser = parse_user)]
    user: Option<Uuid>,
}

fn state_to_retry(name: &str) -> Result<State, String> {
    match state_named(name)? {
        state if state.can_be_retried() => Ok(state),
        _ => Err("only parked, refused and waiting requests can be put back".to_owned()),
    }
}

/// The outcomes of the lines.
#[derive(Default)]
struct Summary {
    enqueued: u64,
    refused: BTreeMap<&'static str, u64>,
    last_line: u64,
    stopped: bool,
}

impl Enqueue {
    /// Queues every line. Prints each answer as JSON, or the rejected lines and a summary.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let Input { reader, form, stdin, bar } = self.lines.open("queueing")?;
        let stop = stop_on_signal()?;
        let began = Instant::now();
        let mut summary = Summary::default();
        let mut replies = Replies::new(stdin);
        let queued = program
            .with_ledger(async |database: &Database| {
                let client = database.connection().await?;
                let queued = enqueue(reader, form, program, &client, &stop, &mut summary, |answer| {
                    replies.write(|out| write_answer(out, answer, program.json))
                });
                let queued = queued.await;
                bar.finish_and_clear();
                queued
            })
            .await;
        let written = replies.finish();
        if let Err(error) = queued {
            return Err(match error.downcast_ref() {
                Some(bulk::Error::Header { .. }) => WrongCall(format!("{error:#}")).into(),
                _ => error.context(format!(
                    "{}; queue the same input again from its start: posted lines replay",
                    bulk::answered(summary.last_line)
                )),
            });
        }
        let outcome = outcome(summary.stopped, summary.last_line, &summary.refused);
        written.context("the answers cannot be written")?;
        if !program.json {
            say(summary_text(&[("enqueued", summary.enqueued)], &summary.refused, began.elapsed().as_secs_f64()))?;
        }
        Ok(outcome)
    }
}

/// A line, and the number of its request or the reason why it has none.
type Answer<'a> = (u64, Result<i64, &'a crate::ledger::Refusal>);

async fn enqueue(
    input: impl Read + Send + 'static,
    form: Form,
    program: &Program,
    client: &Client,
    stop: &CancellationToken,
    summary: &mut Summary,
    mut answer: impl FnMut(Answer<'_>) -> io::Result<()>,
) -> anyhow::Result<()> {
    let mut blocks = bulk::start_reader(input, form);
    loop {
        let lines = match stop.run_until_cancelled(blocks.recv()).await {
            None => {
                summary.stopped = true;
                return Ok(());
            }
            Some(Some(FromReader::Lines(block))) => block.into_lines(program.clock),
            Some(Some(FromReader::End(end))) => return Ok(end?),
            Some(None) => anyhow::bail!("the task that reads the input panicked"),
        };
        let postings: Vec<_> = lines.iter().filter_map(|line| line.posting.clone().ok()).collect();
        // One statement a block: all of it is queued, or nothing.
        let mut ids = requests::enqueue(client, &postings).await?.into_iter();
        for Line { number, posting } in &lines {
            let id = match posting {
                Ok(_) => Ok(ids.next().context("the database gave fewer numbers than there are requests")?),
                Err(refusal) => Err(refusal),
            };
            match id {
                Ok(_) => summary.enqueued += 1,
                Err(refusal) => *summary.refused.entry(refusal.code()).or_default() += 1,
            }
            summary.last_line = *number;
            answer((*number, id)).context("the answers cannot be written")?;
        }
    }
}

fn write_answer(mut out: &mut dyn Write, (line, id): Answer<'_>, as_json: bool) -> io::Result<()> {
    match id {
        Ok(id) if as_json => write_json(&mut out, &object!({ "line": line, "status": "enqueued", "id": id })),
        Ok(_) => Ok(()),
        Err(refusal) => {
            let (code, message) = (refusal.code(), refusal.to_string());
            match as_json {
                true => {
                    let answer = object!({ "line": line, "status": "rejected", "code": code, "message": message });
                    write_json(&mut out, &answer)
                }
                false => writeln!(out, "line {line}: rejected ({code}): {}", plain::line(&message)),
            }
        }
    }
}

impl Requests {
    /// Shows the queue or puts requests back.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        if let Some(Command::Retry(Retry { ids, all, state, code, user })) = self.command {
            return match all {
                true => retry_all(Filter { state, code, user }, program).await,
                false => retry(&ids, program).await,
            };
        }
        let (counts, listed) = program
            .with_ledger(async |database: &Database| {
                let mut client = database.connection().await?;
                Ok((
                    requests::count(&client, None).await?,
                    requests::list(&mut client, self.state, None, self.limit).await?,
                ))
            })
            .await?;
        let shown =
            Shown { counts: counts.iter().map(|(state, count)| (state.as_str(), *count)).collect(), requests: &listed };
        program.answer(&shown, || {
            let counts: Vec<_> = counts.iter().map(|(state, count)| (state.as_str(), grouped(*count))).collect();
            if listed.is_empty() {
                return facts(&counts);
            }
            let header = ["id", "state", "at", "user", "op", "points", "for", "outcome"];
            format!("{}\n\n{}", facts(&counts), table(&header, &listed.iter().map(row).collect::<Vec<_>>()))
        })?;
        Ok(Outcome::Done)
    }
}

/// The JSON of `requests`. Not built as a JSON value, which would turn a duration into a float.
#[derive(serde::Serialize)]
struct Shown<'a> {
    counts: BTreeMap<&'static str, i64>,
    requests: &'a [Listed],
}

/// The longest message in a table, in characters; `--json` has the whole.
const LONGEST_CELL: usize = 60;

fn row(request: &Listed) -> Vec<String> {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let what = match request.op.as_str() {
        "recharge" | "void" if request.of.is_none() => {
            let order = request.order_id.map(|order| format!(" {order}")).unwrap_or_default();
            format!("{}{order}", text(&request.source))
        }
        _ if request.of.is_some() => text(&request.of),
        _ => format!("{} {}", text(&request.source_type), text(&request.source_id)),
    };
    let outcome = match (request.seq, &request.code, &request.message) {
        (Some(seq), _, _) => format!("entry {seq}"),
        (None, Some(code), Some(message)) => format!("{code}: {message}"),
        _ => String::new(),
    };
    let outcome = match &request.retry_at {
        Some(retry_at) => format!("again {}; {outcome}", second(retry_at)),
        None => outcome,
    };
    vec![
        request.id.to_string(),
        request.state.clone(),
        second(&request.at).to_owned(),
        request.user.to_string(),
        request.op.clone(),
        request.points.map(grouped).unwrap_or_default(),
        shortened(&what, LONGEST_CELL),
        shortened(&outcome, LONGEST_CELL),
    ]
}

/// An instant cut to the second.
fn second(time: &str) -> &str {
    time.get(..19).unwrap_or(time)
}

async fn retry_all(filter: Filter, program: &Program) -> anyhow::Result<Outcome> {
    let PutBackAll { count, span } = program
        .with_ledger(async |database: &Database| {
            Ok(requests::retry_all(&mut **database.connection().await?, &filter).await?)
        })
        .await?;
    let (first, last) = span.unzip();
    program.answer(object!({ "pending": count, "first": first, "last": last }), || match span {
        None => "No request was put back: none is parked, refused or waiting as asked for.".to_owned(),
        Some((one, _)) if count == 1 => format!("Request {one} is pending again."),
        Some((first, last)) => format!("{count} requests are pending again, {first} to {last}."),
    })?;
    Ok(if span.is_none() { Outcome::No } else { Outcome::Done })
}

async fn retry(ids: &[i64], program: &Program) -> anyhow::Result<Outcome> {
    let found = program
        .with_ledger(async |database: &Database| Ok(requests::retry(&*database.connection().await?, ids).await?))
        .await?;
    for request in &found {
        let (id, was) = (request.id, request.was.map(State::as_str));
        let reason = request.reason_left();
        let status = if reason.is_none() { "pending" } else { "rejected" };
        program.answer(object!({ "id": id, "was": was, "status": status, "message": reason }), || match reason {
            None => format!("Request {id} is pending again; it was {}.", was.unwrap_or_default()),
            Some(reason) => format!("Request {id} was left as it is: {reason}."),
        })?;
    }
    Ok(if found.iter().all(|request| request.done()) { Outcome::Done } else { Outcome::No })
}
