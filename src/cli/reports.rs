//! `reports`: lists the reports and the state of their mails, shows one, sends one again.

use lettre::message::Mailbox;
use serde_json::json as object;

use super::output::{counted, local, shortened, table};
use super::{Outcome, Program, WrongCall};
use crate::config::parse_mailbox;
use crate::database::Database;
use crate::mail;
use crate::reports::{self, Listed, Mail, Resent};
use crate::scheduler::Store;
use crate::time::Zone;

/// Lists the reports, the newest first, and the state of their mails.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Reports {
    /// Only of this kind: expiry, reconciliation, arrears, month_end or adoption
    #[arg(long)]
    report: Option<String>,
    /// How many, the newest first
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Prints a report: as text, as an HTML page, or as JSON
    Show {
        /// Its number, see `pointsd reports`
        id: i64,
        /// Print an HTML page that contains the pictures
        #[arg(long, conflicts_with = "json")]
        html: bool,
    },
    /// Mails a report again, to its recipients or to other addresses
    Resend {
        /// Its number, see `pointsd reports`
        id: i64,
        /// Send to this address instead; may be given several times
        #[arg(long, value_name = "ADDRESS", value_parser = parse_mailbox)]
        to: Vec<Mailbox>,
    },
}

impl Reports {
    /// Runs the command.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        if let Some(report) = self.report.as_deref().filter(|report| !reports::ALL.contains(report)) {
            return Err(WrongCall(format!("there is no report {report}; there are {}", reports::ALL.join(", "))).into());
        }
        program
            .with_ledger(async |database: &Database| match self.command {
                None => list(database, self.report.as_deref(), self.limit, program).await,
                Some(Command::Show { id, html }) => show(database, id, html, program).await,
                Some(Command::Resend { id, to }) => resend(database, id, &to, program).await,
            })
            .await
    }
}

async fn list(database: &Database, report: Option<&str>, limit: u32, program: &Program) -> anyhow::Result<Outcome> {
    let client = database.connection().await?;
    let listed = reports::list(&client, report, None, limit).await?;
    program.list(&listed, || match listed.as_slice() {
        [] => "No report yet. The jobs expiry, reconciliation, arrears and month_end make them; see `pointsd jobs`."
            .to_owned(),
        listed => {
            let zone = program.config.time_zone;
            let rows: Vec<Vec<String>> = listed.iter().map(|report| report_cells(report, zone)).collect();
            table(&["id", "report", "slot", "headline", "mails"], &rows)
        }
    })?;
    Ok(Outcome::Done)
}

fn report_cells(report: &Listed, zone: Zone) -> Vec<String> {
    // Makes the reports that need attention stand out.
    let mark = match report.tone.as_str() {
        "bad" => "!! ",
        "attention" => "! ",
        _ => "",
    };
    vec![
        report.document.to_string(),
        report.report.clone(),
        local(report.slot, zone),
        shortened(&format!("{mark}{}", report.headline), 80),
        shortened(&mail_states(&report.mails, zone), 100),
    ]
}

/// `3 sent, 1 waits since 02:45 (timed out)`.
fn mail_states(mails: &[Mail], zone: Zone) -> String {
    let in_states =
        |states: &[&str]| -> Vec<&Mail> { mails.iter().filter(|mail| states.contains(&mail.state.as_str())).collect() };
    let (sent, waiting, parked) = (in_states(&["sent"]), in_states(&["waiting", "sending"]), in_states(&["parked"]));
    let why = |mails: &[&Mail]| {
        let answer = mails.iter().rev().find_map(|mail| mail.answer.clone());
        answer.map(|answer| format!(" ({answer})")).unwrap_or_default()
    };
    let mut parts = Vec::new();
    if !sent.is_empty() {
        parts.push(format!("{} sent", sent.len()));
    }
    if let Some(oldest) = waiting.iter().map(|mail| mail.written).min() {
        let verb = if waiting.len() == 1 { "waits" } else { "wait" };
        parts.push(format!("{} {verb} since {}{}", waiting.len(), local(oldest, zone), why(&waiting)));
    }
    if !parked.is_empty() {
        parts.push(format!("{} parked{}", parked.len(), why(&parked)));
    }
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

async fn show(database: &Database, id: i64, html: bool, program: &Program) -> anyhow::Result<Outcome> {
    let client = database.connection().await?;
    let Some(document) = reports::load(&client, id).await? else { return Err(unknown(&client, id, program).await) };
    let templates = program.config.reports.templates.as_deref();
    let shown = if html { reports::page } else { reports::text };
    program.answer(&document, || shown(&document, templates).trim_end().to_owned())?;
    Ok(Outcome::Done)
}

/// The error for a report that does not exist, with the newest reports.
async fn unknown(client: &tokio_postgres::Client, id: i64, program: &Program) -> anyhow::Error {
    let newest = match reports::list(client, None, None, 3).await {
        Ok(newest) => newest,
        Err(error) => return error.into(),
    };
    let zone = program.config.time_zone;
    let newest: Vec<String> = newest
        .iter()
        .map(|report| format!("{} ({}, {})", report.document, report.report, local(report.slot, zone)))
        .collect();
    let there = match newest.as_slice() {
        [] => "none has been made yet".to_owned(),
        newest => format!("the newest are {}; `pointsd reports` lists them", newest.join(", ")),
    };
    WrongCall(format!("there is no report {id}: {there}")).into()
}

async fn resend(database: &Database, id: i64, to: &[Mailbox], program: &Program) -> anyhow::Result<Outcome> {
    let mut client = database.connection().await?;
    let to = (!to.is_empty()).then_some(to);
    let written = match reports::resend(&mut client, id, to, &program.config.mail).await? {
        Resent::Written(written) => written,
        Resent::Unknown => return Err(unknown(&client, id, program).await),
        refused => return Err(WrongCall(refused.to_string()).into()),
    };
    drop(client);
    let now = Store::new(database, program.config.jobs.takeover).now().await?;
    mail::deliver(database, &program.config, Some(id), now).await?;
    let mails = reports::find(database.connection().await?.as_ref(), id).await?.map(|report| report.mails);
    let mails = mails.unwrap_or_default();
    // The state of these mails, not the result of our round: a daemon may have sent them, and other mails may have waited.
    let ours: Vec<&Mail> = mails.iter().filter(|mail| written.contains(&mail.mail)).collect();
    let [sent, sending, waiting, parked] = ["sent", "sending", "waiting", "parked"]
        .map(|state| ours.iter().filter(|mail| mail.state == state).count() as u64);
    let value = object!({
        "document": id, "written": written.len(), "sent": sent, "sending": sending, "waiting": waiting,
        "parked": parked, "mails": mails,
    });
    program.answer(value, || {
        let mail = |count: u64| counted(count, "mail", "mails");
        let answer = ours.iter().rev().filter(|mail| mail.state != "sent").find_map(|mail| mail.answer.clone());
        let answer = answer.map(|answer| format!(": {answer}")).unwrap_or_default();
        let mut lines = vec![format!("Report {id}: {} sent.", mail(sent))];
        if sending > 0 {
            let are = if sending == 1 { "is" } else { "are" };
            let sending = mail(sending);
            lines.push(format!("{sending} {are} being sent by a daemon; `pointsd reports` shows the outcome."));
        }
        if waiting > 0 {
            lines.push(format!("{} could not be sent now{answer}. A daemon tries again.", mail(waiting)));
        }
        if parked > 0 {
            lines.push(format!("{} cannot be delivered{answer}.", mail(parked)));
        }
        lines.join("\n")
    })?;
    Ok(if waiting + parked == 0 { Outcome::Done } else { Outcome::No })
}
