//! `status`: all that an operator looks at, on one screen.

use super::jobs::overview_table;
use super::output::{counted, facts, grouped};
use super::{Outcome, Program};
use crate::database::Database;
use crate::scheduler::DaemonRow;
use crate::status::{self, Figures, Reach, State, is_at_work, seconds_text};

/// Shows whether all is well: daemons, jobs, requests, mails, findings, arrears, disk and versions.
///
/// Exit status 0: all is well; 3: something wants a look; 1: no daemon is at work, or the database cannot be used.
#[derive(clap::Args)]
pub struct Status {}

impl From<State> for Outcome {
    fn from(state: State) -> Outcome {
        match state {
            State::Fine => Outcome::Done,
            State::Look => Outcome::No,
            State::Down => Outcome::Down,
        }
    }
}

impl Status {
    /// Reads and shows it.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let now = program.now_or(None);
        let status = program
            .with_ledger(async |database: &Database| {
                Ok(status::Status::read(database, &program.config, now, Reach::Whole).await?)
            })
            .await?;
        program.answer(&status, || screen(&status, now))?;
        Ok(status.state.into())
    }
}

fn screen(status: &status::Status, now: chrono::DateTime<chrono::Utc>) -> String {
    let mut lines = vec![
        ("database", status.database.clone()),
        ("schema", status.schema.clone()),
        ("this program", status.version.to_owned()),
    ];
    lines.extend(
        status.daemons.iter().filter(|daemon| is_at_work(daemon)).map(|daemon| ("daemon", daemon_text(daemon))),
    );
    lines.extend(figure_lines(&status.figures));
    lines.extend(status.disk.map(|disk| ("disk", disk.to_string())));
    let mut text = format!("{}\n\n{}\n", facts(&lines), overview_table(&status.jobs, now));
    if !status.look.is_empty() {
        text.push_str("\nTo look at:\n");
        status.look.iter().for_each(|concern| text.push_str(&format!("  {concern}\n")));
    }
    text.push('\n');
    text.push_str(&match (status.state, status.daemons.first()) {
        (State::Fine, _) => "All is well.".to_owned(),
        (State::Look, _) => "At work, with something to look at.".to_owned(),
        (State::Down, None) => {
            "Down: no daemon is at work. Start one: `systemctl start pointsd` where it is a service, else `pointsd serve`.".to_owned()
        }
        (State::Down, Some(last)) => {
            let ago = seconds_text(last.silent_for);
            format!("Down: no daemon is at work; the last one was seen {ago} ago on {}.", last.host)
        }
    });
    text
}

fn daemon_text(daemon: &DaemonRow) -> String {
    let DaemonRow { host, pid, version, silent_for, status, .. } = daemon;
    format!("{host}, process {pid}, version {version}, seen {} ago: {status}", seconds_text(*silent_for))
}

fn figure_lines(figures: &Figures) -> Vec<(&'static str, String)> {
    let waits = |oldest: Option<i64>| {
        oldest.map(|seconds| format!(", the oldest for {}", seconds_text(seconds))).unwrap_or_default()
    };
    let arrears = figures.arrears.as_deref().unwrap_or_default();
    let arrears = arrears.parse::<i64>().map_or_else(|_| arrears.to_owned(), grouped);
    vec![
        (
            "requests",
            format!(
                "{} pending{}; {} waiting for another try, {} refused in a day, {} parked",
                grouped(figures.pending),
                waits(figures.oldest),
                grouped(figures.waiting),
                grouped(figures.refused),
                grouped(figures.parked)
            ),
        ),
        (
            "mails",
            format!(
                "{} to send{}; {} parked",
                grouped(figures.mails_to_send),
                waits(figures.oldest_mail),
                grouped(figures.mails_parked)
            ),
        ),
        ("findings", format!("{} open", grouped(figures.findings))),
        (
            "arrears",
            format!(
                "{arrears} points of {}",
                counted(figures.accounts_in_arrears.unsigned_abs(), "account", "accounts")
            ),
        ),
    ]
}
