//! `status`: all that an operator looks at, on one screen.

use serde::Serialize;
use serde_json::json as object;

use super::jobs::{Overview, overview, overview_table};
use super::output::{counted, facts, grouped};
use super::{Outcome, Program};
use crate::database::Database;
use crate::scheduler::{DaemonRow, Store};
use crate::time::span_text;
use chrono::TimeDelta;

/// Shows whether all is well: daemons, jobs, requests, mails, findings, arrears, disk and versions.
///
/// Exit status 0: all is well; 3: something wants a look; 1: no daemon is at work, or the database cannot be used.
#[derive(clap::Args)]
pub struct Status {}

/// What an operator must know first.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// All is well.
    Fine,
    /// At work, but something wants a look.
    Look,
    /// No daemon is at work.
    Down,
}

impl From<State> for Outcome {
    fn from(state: State) -> Outcome {
        match state {
            State::Fine => Outcome::Done,
            State::Look => Outcome::No,
            State::Down => Outcome::Down,
        }
    }
}

/// A daemon that was silent for longer than this many seconds counts as gone. It writes every half minute at least, and its
/// runs are taken over earlier.
const LONGEST_SILENCE: i64 = 60;

/// How many seconds a request or a mail may wait before an operator should look.
const LONGEST_WAIT: (i64, i64) = (60, 3_600);

/// A private server's disk with less room than this wants a look, in per cent.
const LEAST_ROOM: u64 = 10;

/// The figures of status_read.sql.
#[derive(Serialize)]
struct Figures {
    pending: i64,
    /// Seconds that the oldest pending request has waited.
    oldest: Option<i64>,
    waiting: i64,
    /// In the last day.
    refused: i64,
    parked: i64,
    mails_to_send: i64,
    /// Seconds that the oldest mail has waited.
    oldest_mail: Option<i64>,
    mails_parked: i64,
    findings: i64,
    accounts_in_arrears: i64,
    arrears: String,
}

/// The room on the disk of a private server, in bytes.
#[derive(Serialize)]
struct Disk {
    free: u64,
    size: u64,
}

impl Status {
    /// Reads and shows it.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        program.with_ledger(async |database: &Database| show(database, program).await).await
    }
}

async fn show(database: &Database, program: &Program) -> anyhow::Result<Outcome> {
    let store = Store::new(database, program.config.jobs.takeover);
    let daemons = store.daemons().await?;
    let figures = read_figures(database).await?;
    let schema = database.migrations().await?.pop().map(|migration| migration.name).unwrap_or_default();
    let disk = if database.is_embedded() { disk(program) } else { None };
    let jobs = overview(&store, program).await?;

    let at_work: Vec<&DaemonRow> = daemons.iter().filter(|daemon| daemon.silent_for.abs() <= LONGEST_SILENCE).collect();
    let mut to_look_at = jobs.to_look_at.clone();
    to_look_at.extend(figures.to_look_at());
    to_look_at.extend(
        disk.as_ref().filter(|disk| disk.is_short()).map(|disk| format!("the disk is nearly full: {}", disk.text())),
    );
    let state = match (at_work.as_slice(), to_look_at.as_slice()) {
        ([], _) => State::Down,
        (_, []) => State::Fine,
        _ => State::Look,
    };
    let value = object!({
        "state": state, "look": to_look_at, "database": database.describe(), "schema": schema,
        "version": env!("CARGO_PKG_VERSION"), "daemons": daemons, "jobs": jobs.answers, "figures": figures, "disk": disk,
    });
    program.answer(value, || {
        let mut lines = vec![
            ("database", database.describe()),
            ("schema", schema),
            ("this program", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        lines.extend(at_work.iter().map(|daemon| ("daemon", daemon_text(daemon))));
        lines.extend(figures.lines());
        lines.extend(disk.map(|disk| ("disk", disk.text())));
        screen(&lines, &jobs, &daemons, &to_look_at, state)
    })?;
    Ok(state.into())
}

fn screen(
    lines: &[(&str, String)],
    jobs: &Overview,
    daemons: &[DaemonRow],
    to_look_at: &[String],
    state: State,
) -> String {
    let mut text = format!("{}\n\n{}\n", facts(lines), overview_table(&jobs.rows));
    if !to_look_at.is_empty() {
        text.push_str("\nTo look at:\n");
        to_look_at.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
    }
    text.push('\n');
    text.push_str(match (state, daemons.first()) {
        (State::Fine, _) => "All is well.",
        (State::Look, _) => "At work, with something to look at.",
        (State::Down, None) => "Down: no daemon is at work. Start one, for example with systemctl start pointsd.",
        (State::Down, Some(last)) => {
            return text
                + &format!(
                    "Down: no daemon is at work; the last one was seen {} ago on {}.",
                    ago(last.silent_for),
                    last.host
                );
        }
    });
    text
}

fn daemon_text(daemon: &DaemonRow) -> String {
    let DaemonRow { host, pid, version, silent_for, status, .. } = daemon;
    format!("{host}, process {pid}, version {version}, seen {} ago: {status}", ago(*silent_for))
}

fn ago(seconds: i64) -> String {
    span_text(TimeDelta::try_seconds(seconds.max(0)).unwrap_or_default())
}

async fn read_figures(database: &Database) -> anyhow::Result<Figures> {
    let row = database.connection().await?.query_one(include_str!("../../sql/status/status_read.sql"), &[]).await?;
    Ok(Figures {
        pending: row.try_get("pending")?,
        oldest: row.try_get("oldest")?,
        waiting: row.try_get("waiting")?,
        refused: row.try_get("refused")?,
        parked: row.try_get("parked")?,
        mails_to_send: row.try_get("to_send")?,
        oldest_mail: row.try_get("oldest_mail")?,
        mails_parked: row.try_get("parked_mails")?,
        findings: row.try_get("findings")?,
        accounts_in_arrears: row.try_get("accounts")?,
        arrears: row.try_get("points")?,
    })
}

impl Figures {
    fn lines(&self) -> Vec<(&'static str, String)> {
        let waits = |oldest: Option<i64>| {
            oldest.map(|seconds| format!(", the oldest for {}", ago(seconds))).unwrap_or_default()
        };
        let arrears = self.arrears.parse::<i64>().map_or_else(|_| self.arrears.clone(), grouped);
        vec![
            (
                "requests",
                format!(
                    "{} pending{}; {} waiting for another try, {} refused in a day, {} parked",
                    grouped(self.pending),
                    waits(self.oldest),
                    grouped(self.waiting),
                    grouped(self.refused),
                    grouped(self.parked)
                ),
            ),
            (
                "mails",
                format!(
                    "{} to send{}; {} parked",
                    grouped(self.mails_to_send),
                    waits(self.oldest_mail),
                    grouped(self.mails_parked)
                ),
            ),
            ("findings", format!("{} open", grouped(self.findings))),
            (
                "arrears",
                format!(
                    "{arrears} points of {}",
                    counted(self.accounts_in_arrears.unsigned_abs(), "account", "accounts")
                ),
            ),
        ]
    }

    fn to_look_at(&self) -> Vec<String> {
        let (longest, longest_mail) = LONGEST_WAIT;
        let late = |wait: Option<i64>, longest: i64| wait.filter(|seconds| *seconds > longest).map(ago);
        let some = |count: i64| (count > 0).then(|| grouped(count));
        let lines = [
            late(self.oldest, longest).map(|wait| format!("a request has waited for {wait}: see the daemon's log")),
            some(self.refused).map(|n| format!("{n} requests refused in a day: pointsd requests --state refused")),
            some(self.parked).map(|n| format!("{n} parked requests: pointsd requests --state parked")),
            late(self.oldest_mail, longest_mail).map(|wait| format!("a mail has waited for {wait}: pointsd reports")),
            some(self.mails_parked).map(|n| format!("{n} parked mails: pointsd reports, then pointsd reports resend")),
            some(self.findings).map(|n| format!("{n} open findings: pointsd repair plan")),
        ];
        lines.into_iter().flatten().collect()
    }
}

impl Disk {
    fn is_short(&self) -> bool {
        self.free.saturating_mul(100) < self.size.saturating_mul(LEAST_ROOM)
    }

    fn text(&self) -> String {
        let gigabytes = |bytes: u64| format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10);
        format!("{} free of {}", gigabytes(self.free), gigabytes(self.size))
    }
}

fn disk(program: &Program) -> Option<Disk> {
    let statistics = nix::sys::statvfs::statvfs(&program.config.state_dir).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(statistics.fragment_size());
    Some(Disk { free: bytes(statistics.blocks_available()), size: bytes(statistics.blocks()) })
}
