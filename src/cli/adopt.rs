//! `adopt`: moves in from the tables of another service.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::output::{complain, counted, grouped, progress, remark, table, waiting};
use super::signals::stop_on_signal;
use super::{Outcome, Program, WrongCall};
use crate::adopt::{self, Applied, Followed, Follower, Origin, Plan, RefusedOpening, RefusedTransaction, Settings};
use crate::database::{self, Database};
use crate::document::Document;
use crate::reports::{self, adoption};
use crate::time::start_of_day;
use crate::{plain, private_files, render};

/// The file of a plan within its folder.
const PLAN: &str = "plan.yaml";

/// What to do after an end before the end.
const INTERRUPTED: &str = "interrupted; apply the plan again, it goes on where it stopped";

/// The most refused openings that are printed.
const MOST_REFUSED: u64 = 1_000;

/// Takes over the accounts, batches and history of another service.
///
/// Plan, read the plan, decide, apply. The tables there are only read. See docs/moving-in.md.
#[derive(clap::Subcommand)]
pub enum Adopt {
    /// Reads the tables in one snapshot, says what is wrong there, and plans what each account is to open with
    Plan(PlanOf),
    /// Plans again from the tables as they were read, with the decisions that the plan's file has now
    Decide {
        /// The folder of the plan
        plan: PathBuf,
    },
    /// Posts what the plan says, and makes the old keys known. Exit status 3 if the ledger opened other than planned
    ///
    /// Needs the owner of the schema. A plan that was interrupted is applied again; it goes on where it stopped.
    Apply {
        /// The folder of the plan
        plan: PathBuf,
    },
    /// Posts what the other service goes on writing, and compares the balances once a day, until it is stopped
    ///
    /// While it runs, the other service is in charge: applications post there, not here. Each comparison is kept and mailed as a report.
    Follow(Follow),
}

/// Where to follow, and how long.
#[derive(clap::Args)]
pub struct Follow {
    /// The folder of the plan
    plan: PathBuf,
    /// The URL of the database with the tables. By default the ledger's own database
    #[arg(long, value_name = "URL", env = "POINTSD_ADOPT_FROM", hide_env_values = true)]
    from: Option<String>,
    /// Follow what is there now, compare, and end. Exit status 3 if a balance differs
    #[arg(long)]
    once: bool,
    /// The pause between two looks, 1 to 3600
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
}

/// Where to read, and how.
#[derive(clap::Args)]
pub struct PlanOf {
    /// A postgres:// URL of the database with the tables, or a folder with accounts.csv, batches.csv and transactions.csv. By default
    /// the ledger's own database
    #[arg(long, value_name = "URL", env = "POINTSD_ADOPT_FROM", hide_env_values = true)]
    from: Option<String>,
    /// A YAML file with the names of tables and columns, and with decisions, where they differ from config/adopt.yaml
    #[arg(long, value_name = "FILE")]
    mapping: Option<PathBuf>,
    /// The folder to write the plan to: plan.yaml to decide and apply, plan.html and plan.xlsx to read and sign
    #[arg(long, value_name = "FOLDER")]
    output: PathBuf,
}

impl Adopt {
    /// Runs the command.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        match self {
            Adopt::Plan(call) => call.run(program).await,
            Adopt::Decide { plan } => decide(&plan, program).await,
            Adopt::Apply { plan } => apply(&plan, program).await,
            Adopt::Follow(call) => call.run(program).await.map_err(as_wrong_call),
        }
    }
}

impl PlanOf {
    async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let origin = origin(self.from.as_deref())?;
        let settings = match &self.mapping {
            None => Settings::parse("config/adopt.yaml", "")?,
            Some(file) => read_settings(file)?.0,
        };
        std::fs::create_dir_all(&self.output)
            .map_err(|error| WrongCall(format!("{} cannot be written to: {error}", self.output.display())))?;
        let bar = waiting("reading");
        let made = program
            .with_ledger(async |ledger: &Database| {
                let tell = |what: String| bar.suspend(|| remark(Some(format!("pointsd: {what}"))));
                let pool = database::Settings::from(&program.config);
                Ok(adopt::plan(ledger, &pool, &origin, settings, &program.rules, &tell).await?)
            })
            .await;
        bar.finish_and_clear();
        finish(&made.map_err(as_wrong_call)?, &self.output, program)
    }
}

/// What --from names. The text is not shown, because it may hold a password.
fn origin(from: Option<&str>) -> Result<Origin, WrongCall> {
    Origin::parse(from).map_err(|error| match from.is_some_and(|from| from.contains("://")) {
        true => WrongCall(format!("--from: {error}")),
        false => WrongCall(format!("--from: there is no such folder, and it {error}")),
    })
}

async fn decide(path: &Path, program: &Program) -> anyhow::Result<Outcome> {
    let (settings, plan) = read_plan(path)?;
    let made = program
        .with_ledger(async |ledger: &Database| Ok(adopt::decide(ledger, plan, settings, &program.rules).await?))
        .await;
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")) };
    finish(&made.map_err(as_wrong_call)?, folder, program)
}

/// Writes the plan's files, and prints what they say.
fn finish(plan: &Plan, folder: &Path, program: &Program) -> anyhow::Result<Outcome> {
    let document = adoption::document(plan, &program.config);
    let templates = program.config.reports.templates.as_deref();
    let files = [
        (PLAN, plan_text(plan)?.into_bytes()),
        ("plan.html", reports::page(&document, templates).into_bytes()),
        ("plan.xlsx", render::xlsx(&document)?),
    ];
    for (name, content) in files {
        let path = folder.join(name);
        private_files::write(&path, &content).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    let problems = plan.totals.problems();
    let file = folder.join(PLAN);
    program.answer(
        json!({"plan": plan.plan, "read_at": plan.read_at, "totals": plan.totals, "problems": problems}),
        || {
            let text = reports::text(&document, templates);
            let next = match problems.is_empty() {
                true => format!("`pointsd adopt apply {}` posts it", folder.display()),
                false => format!(
                    "decide what stands above in {}, then `pointsd adopt decide {}`",
                    file.display(),
                    folder.display()
                ),
            };
            format!("{}\n\nNext: {next}.", text.trim_end())
        },
    )?;
    Ok(if problems.is_empty() { Outcome::Done } else { Outcome::No })
}

/// The file that is decided and applied.
fn plan_text(plan: &Plan) -> anyhow::Result<String> {
    Ok(format!(
        "# A plan of `pointsd adopt`, read from {} at {}.\n\
         # Decisions may be changed here; `pointsd adopt decide` then computes what they come to. config/adopt.yaml explains each key.\n\
         plan: {}\n{}",
        plain::line(&plan.read_from),
        plan.read_at,
        plan.plan,
        serde_yaml::to_string(&plan.settings)?
    ))
}

fn read_settings(file: &Path) -> anyhow::Result<(Settings, String)> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| WrongCall(format!("{} cannot be read: {error}", file.display())))?;
    let settings = Settings::parse(&file.display().to_string(), &text);
    Ok((settings.map_err(|error| WrongCall(error.to_string()))?, text))
}

/// The settings and the name of a plan.
fn read_plan(path: &Path) -> anyhow::Result<(Settings, Uuid)> {
    let file = if path.is_dir() { path.join(PLAN) } else { path.to_owned() };
    let (settings, text) = read_settings(&file)?;
    let plan = serde_yaml::from_str::<serde_yaml::Value>(&text).ok();
    let plan = plan.and_then(|value| value.get("plan")?.as_str()?.parse().ok());
    let plan = plan.ok_or_else(|| {
        WrongCall(format!("{} is no plan: its key `plan` is missing; `pointsd adopt plan` writes one", file.display()))
    })?;
    Ok((settings, plan))
}

async fn apply(path: &Path, program: &Program) -> anyhow::Result<Outcome> {
    let (settings, plan) = read_plan(path)?;
    let stop = stop_on_signal()?;
    let mut refused = 0;
    let mut on_refused = |opening: RefusedOpening| {
        refused += 1;
        if refused <= MOST_REFUSED {
            complain(&refused_text(&opening));
        }
    };
    let applied = program
        .with_ledger(async |ledger: &Database| {
            let found = adopt::load(&**ledger.connection().await?).await?;
            let found = found.filter(|(found, _)| found.plan == plan).map(|(found, _)| found);
            if found.as_ref().is_some_and(|found| found.settings != settings) {
                let what = format!("{} was changed after it was planned", path.display());
                return Err(WrongCall(format!(
                    "{what}; `pointsd adopt decide {}` shows what it comes to",
                    path.display()
                ))
                .into());
            }
            let totals = found.map(|found| found.totals).unwrap_or_default();
            let openings: i64 = totals.openings.iter().map(|opened| opened.rows).sum();
            let bar = progress(u64::try_from(openings).unwrap_or_default(), "opening accounts", "openings");
            let on_progress = |count| bar.inc(count);
            let applied = adopt::apply(ledger, plan, &program.rules, &stop, &mut on_refused, &on_progress).await;
            bar.finish_and_clear();
            Ok((applied?, totals.net_after))
        })
        .await;
    let (applied, planned) = applied.map_err(|error| match is_transient(&error) {
        true => error.context(INTERRUPTED),
        false => as_wrong_call(error),
    })?;
    if refused > MOST_REFUSED {
        complain(&format!("pointsd: and {} more were refused", grouped(refused - MOST_REFUSED)));
    }
    if applied.stopped {
        complain(&format!("pointsd: {INTERRUPTED}"));
        return Ok(Outcome::Interrupted);
    }
    program.answer(applied_json(&applied, planned), || applied_text(&applied, planned))?;
    Ok(if applied.different == 0 && applied.refused.is_empty() { Outcome::Done } else { Outcome::No })
}

fn refused_text(opening: &RefusedOpening) -> String {
    let what = match &opening.id {
        Some(id) => format!("batch {}", plain::line(id)),
        None if opening.points < 0 => "debt".to_owned(),
        None => "debt charged twice".to_owned(),
    };
    let (user, points) = (opening.user, grouped(opening.points.unsigned_abs()));
    let why = opening.why.to_string();
    format!("{user}, {what} of {points}: refused ({}): {}", opening.why.code(), plain::line(&why))
}

fn applied_json(applied: &Applied, planned: i64) -> Value {
    let refused: Vec<Value> = applied
        .refused
        .iter()
        .map(|(code, (openings, points))| json!({"code": code, "openings": openings, "points": points}))
        .collect();
    json!({
        "posted": applied.posted, "replayed": applied.replayed, "refused": refused, "accounts": applied.accounts,
        "planned": planned, "opened": applied.opened, "different": applied.different, "keys": applied.keys,
    })
}

fn applied_text(applied: &Applied, planned: i64) -> String {
    let refused = applied.refused.iter().map(|(code, (openings, _))| (format!("refused: {code}"), *openings));
    let rows = [("posted".to_owned(), applied.posted), ("posted before".to_owned(), applied.replayed)]
        .into_iter()
        .chain(refused);
    let rows: Vec<_> = rows.map(|(outcome, openings)| vec![outcome, grouped(openings)]).collect();
    let totals = vec![
        vec!["planned".to_owned(), grouped(planned)],
        vec!["opened".to_owned(), grouped(applied.opened)],
        vec!["difference".to_owned(), grouped(applied.opened - planned)],
    ];
    let accounts = counted(applied.accounts, "account is", "accounts are");
    let verdict = match applied.different {
        0 => format!("{accounts} as planned."),
        different => format!("{} opened other than planned.", counted(different, "account", "accounts")),
    };
    format!(
        "{}\n\n{}\n\n{verdict} {} replay from now on.\nNext: `pointsd run reconciliation --full` proves the ledger.",
        table(&["outcome", "openings"], &rows),
        table(&["points less debts", ""], &totals),
        counted(applied.keys, "old key", "old keys"),
    )
}

impl Follow {
    async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let origin = origin(self.from.as_deref())?;
        let (_, plan) = read_plan(&self.plan)?;
        let stop = stop_on_signal()?;
        program
            .with_ledger(async |ledger: &Database| {
                let mut compared = None;
                loop {
                    let ended = self.until_lost(ledger, &origin, plan, &mut compared, &stop, program).await;
                    match ended {
                        // A database that is away for a while ends nothing: what was posted replays.
                        Err(error) if !self.once && is_transient(&error) => {
                            complain(&format!("pointsd: {error:#}; trying again every {} s", self.every));
                            if self.stopped_in_pause(&stop).await {
                                return Ok(Outcome::Interrupted);
                            }
                        }
                        ended => return ended,
                    }
                }
            })
            .await
    }

    /// Follows until it is stopped, or a database is lost.
    async fn until_lost(
        &self,
        ledger: &Database,
        origin: &Origin,
        plan: Uuid,
        compared: &mut Option<DateTime<Utc>>,
        stop: &CancellationToken,
        program: &Program,
    ) -> anyhow::Result<Outcome> {
        let pool = database::Settings::from(&program.config);
        let mut follower = Follower::open(ledger, &pool, origin, plan, &program.rules).await?;
        let ended = self.follow(&mut follower, ledger, compared, stop, program).await;
        follower.close().await;
        ended
    }

    /// Waits for the next look. True if it was stopped meanwhile.
    async fn stopped_in_pause(&self, stop: &CancellationToken) -> bool {
        tokio::select! {
            () = stop.cancelled() => true,
            () = tokio::time::sleep(Duration::from_secs(self.every)) => false,
        }
    }

    async fn follow(
        &self,
        follower: &mut Follower,
        ledger: &Database,
        compared: &mut Option<DateTime<Utc>>,
        stop: &CancellationToken,
        program: &Program,
    ) -> anyhow::Result<Outcome> {
        let mut told = Followed::default();
        let mut on_refused = |refused: RefusedTransaction| {
            let (RefusedTransaction { id, user, why }, code) = (&refused, refused.why.code());
            complain(&format!("transaction {id} of {user}: refused ({code}): {}", plain::line(&why.to_string())));
        };
        let zone = program.config.time_zone;
        loop {
            let today = start_of_day((program.clock)().with_timezone(&zone).date_naive(), zone);
            let compares = *compared != Some(today);
            let (followed, comparison) = follower.round(compares, stop, &mut on_refused).await?;
            // What is not settled is read again in each round, and replays.
            if !self.once && (followed.posted > 0 || followed != told || comparison.is_some()) {
                remark(Some(format!("pointsd: {}", followed_text(&followed))));
                told = followed.clone();
            }
            if let Some(comparison) = comparison {
                let document = adoption::comparison(&comparison, today, &program.config);
                if self.once {
                    let templates = program.config.reports.templates.as_deref();
                    program.answer(json!({"followed": followed_json(&followed), "comparison": document}), || {
                        format!("{}\n\n{}", followed_text(&followed), reports::text(&document, templates).trim_end())
                    })?;
                    return Ok(if comparison.different == 0 { Outcome::Done } else { Outcome::No });
                }
                keep(&document, ledger, program).await?;
                *compared = Some(today);
            }
            if self.stopped_in_pause(stop).await {
                return Ok(Outcome::Interrupted);
            }
        }
    }
}

/// Whether the same may succeed a little later.
fn is_transient(error: &anyhow::Error) -> bool {
    error.downcast_ref::<adopt::Error>().is_some_and(adopt::Error::is_transient)
        || error.downcast_ref::<database::Error>().is_some_and(database::Error::is_transient)
        || error.downcast_ref::<reports::Error>().is_some_and(reports::Error::is_transient)
        || error.downcast_ref::<tokio_postgres::Error>().is_some_and(database::is_transient)
}

/// Keeps the comparison of a day as a report, with its mails.
async fn keep(document: &Document, ledger: &Database, program: &Program) -> anyhow::Result<()> {
    let mut client = ledger.connection().await?;
    reports::write_files(&client, document, &program.config).await?;
    let transaction = client.transaction().await?;
    reports::store_document(&transaction, document, &program.config).await?;
    Ok(transaction.commit().await?)
}

fn followed_json(followed: &Followed) -> Value {
    json!({"posted": followed.posted, "replayed": followed.replayed, "refused": followed.refused, "skipped": followed.skipped})
}

fn followed_text(followed: &Followed) -> String {
    let refused = followed.refused.iter().map(|(code, count)| format!(", {} refused: {code}", grouped(*count)));
    let skipped =
        (followed.skipped > 0).then(|| format!(", {} of other types or unreadable", grouped(followed.skipped)));
    format!(
        "{} posted, {} before{}",
        counted(followed.posted, "transaction was", "transactions were"),
        grouped(followed.replayed),
        refused.chain(skipped).collect::<String>()
    )
}

/// A refusal is the caller's to mend.
fn as_wrong_call(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<adopt::Error>() {
        Some(adopt::Error::Refused(why)) => WrongCall(why.clone()).into(),
        Some(error @ adopt::Error::Misfit { source, .. }) if !error.is_transient() => {
            WrongCall(format!("{error}; the database says: {}", database_says(source))).into()
        }
        Some(error @ adopt::Error::BadFile { source, .. }) => match source.downcast_ref() {
            Some(source) => WrongCall(format!("{error}; the database says: {}", database_says(source))).into(),
            None => WrongCall(format!("{error}; {}", plain::line(&source.to_string()))).into(),
        },
        _ => error,
    }
}

fn database_says(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(
        || error.to_string(),
        |error| match error.where_() {
            // The line of a file.
            Some(place) => plain::line(&format!("{} ({place})", error.message())).into_owned(),
            None => error.message().to_owned(),
        },
    )
}
