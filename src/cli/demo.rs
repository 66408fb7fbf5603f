//! `demo`: a year of a made-up business. Posts it, runs the jobs of the coming night, and shows their reports.

mod business;
mod folder;

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json as object};
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::business::Line;
use self::folder::Folder;
use super::bulk::post_summary;
use super::output::{grouped, json, local, progress, say, waiting};
use super::signals::stop_on_signal;
use super::{Outcome, Program, WrongCall, run};
use crate::bulk::{self, Format, Summary};
use crate::config::{Config, Label, MailWay, PointSource};
use crate::database::{Database, Settings};
use crate::jobs::{Context, RegisteredJob, arrears, expiry, reconciliation};
use crate::ledger::{Length, Poster, Rules, Term};
use crate::scheduler::{RunNow, State, Store};
use crate::time::time_text;
use crate::{mail, reports};

/// The jobs of the night, in their order. Each makes a report for finance.
const JOBS: [&RegisteredJob; 3] = [&expiry::JOB, &reconciliation::JOB, &arrears::JOB];

/// In the demo's own folder: its configuration, and the year as it was posted.
const CONFIG_FILE: &str = "pointsd.yaml";
const YEAR_FILE: &str = "year.ndjson";

/// Shows pointsd at work, with a year of a made-up business.
///
/// It posts the year, expires the points that were due last night, proves the books, and prints the reports that finance gets by mail.
/// Without a configured database it runs a PostgreSQL of its own in the folder `demo` of the state folder, and empties that folder
/// each time. It uses a configured database only if that has no account yet.
#[derive(clap::Args)]
pub struct Demo {}

impl Demo {
    /// Runs the demo. It takes a few seconds longer than its postings.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let stop = stop_on_signal()?;
        let bar = waiting("starting PostgreSQL");
        let stage = Stage::prepare(&program.config).await?;
        let database = Database::open(&Settings::from(&stage.config)).await?;
        bar.finish_and_clear();
        let played = play(program, &stage, &database, &stop).await;
        let closed = database.close().await;
        let Some(played) = played? else {
            say(match stage.folder {
                Some(_) => "Interrupted. The next demo starts over.",
                None => "Interrupted. The ledger is no longer empty, so the next demo needs another database.",
            })?;
            return Ok(Outcome::Interrupted);
        };
        closed?;
        if program.json {
            json(&played)?;
        }
        Ok(Outcome::Done)
    }
}

/// Where the demo runs.
struct Stage {
    config: Config,
    /// The demo's own folder; none with a configured database.
    folder: Option<Folder>,
}

impl Stage {
    async fn prepare(given: &Config) -> anyhow::Result<Stage> {
        if given.database.url.is_some() {
            let mut config = given.clone();
            for source in business::SOURCES {
                let any = PointSource { expires: None, kind: None, label: Label::default() };
                config.sources.entry(source.to_owned()).or_insert(any).expires = None;
            }
            config.expires = Term { length: Length::Hours(business::LIFE_HOURS), end_of: None };
            // No report of a made-up business goes to the recipients of a real one.
            config.mail.way = MailWay::None;
            return Ok(Stage { config, folder: None });
        }
        let folder = Folder::make_anew(given).await?;
        let file = folder.path.join(CONFIG_FILE);
        folder.write(CONFIG_FILE, own_configuration(given)?.as_bytes())?;
        Ok(Stage { config: Config::load(Some(&file), None)?, folder: Some(folder) })
    }
}

/// The configuration of the demo's own ledger. It keeps the time zone, the language, the schedules and the PostgreSQL of the given
/// one.
fn own_configuration(given: &Config) -> anyhow::Result<String> {
    let bin = given.database.postgres_bin.as_ref().map(std::path::absolute).transpose()?;
    let (mut jobs, mut recipients) = (serde_json::Map::new(), serde_json::Map::new());
    for job in JOBS {
        let schedule = &(job.settings)(given).schedule;
        let settings = object!({ "schedule": schedule.rule(), "time_zone": schedule.zone().name() });
        jobs.insert(job.name.to_owned(), settings);
        recipients.insert(job.name.to_owned(), object!(["finance@example.com"]));
    }
    let settings = object!({
        "state_dir": ".",
        "business": { "name": "Example Studio", "time_zone": given.time_zone.name(), "language": given.language },
        "ledger": { "expires": { "hours": business::LIFE_HOURS } },
        "mail": { "mode": "directory", "from": "Points <points@example.com>", "to": recipients },
        "database": { "postgres_bin": bin },
        "jobs": jobs,
    });
    let about = "# The ledger of `pointsd demo`, which makes this folder anew each time. Mails become files in the folder mail.";
    Ok(format!("{about}\n{}", serde_yaml::to_string(&settings)?))
}

/// Posts the year, runs the jobs, and prints their reports unless JSON is wanted. Returns the result as JSON, or None if it was
/// interrupted.
async fn play(
    program: &Program,
    stage: &Stage,
    database: &Database,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Value>> {
    ensure_unused(database).await?;
    database.migrate().await?;
    let slot = stage.config.jobs.expiry.settings.schedule.previous_or_at((program.clock)());
    let slot = slot.context("the job expiry has had no slot yet; mend jobs.expiry.schedule")?;
    let year = business::make_year(slot)?;
    let show = |text: String| if program.json { Ok(()) } else { say(text) };
    show(format!(
        "A year of a made-up business that sells speech, video and scripts for points, up to last night's expiry at\n\
         {}. {} accounts, {} postings.\n",
        local(slot, stage.config.time_zone),
        grouped(business::CUSTOMERS),
        grouped(year.len() as u64),
    ))?;
    let began = Instant::now();
    let Some(posted) = post(&year, program, stage, database, stop).await? else { return Ok(None) };
    let posting_seconds = began.elapsed().as_secs_f64();
    show(post_summary(&posted, posting_seconds))?;
    show(
        "\nThis is the ledger's first night. All of the year was recorded today, so the roll-forward shows one business day that has not\n\
         ended. Forecasts are compared, and changes in arrears and month ends told, from later nights on."
            .to_owned(),
    )?;
    for job in JOBS {
        match run::run_job(job, &Context::new(&stage.config, database), slot, true, stop).await? {
            RunNow::Ran(row) if row.state == State::Succeeded => {}
            RunNow::Ran(row) if row.state == State::Failed => {
                bail!("{} failed for {}: {}", job.name, time_text(slot), row.error.unwrap_or_default())
            }
            RunNow::Ran(_) | RunNow::Busy(_) => return Ok(None),
        }
    }
    let now = Store::new(database, stage.config.jobs.takeover).now().await?;
    mail::deliver(database, &stage.config, None, now).await.context("the mails could not be written")?;
    let client = database.connection().await?;
    let mut shown = Vec::new();
    for listed in reports::list(&client, None, None, JOBS.len() as u32).await?.into_iter().rev() {
        let document = reports::load(&client, listed.document).await?.context("a report is gone")?;
        let text = reports::text(&document, stage.config.reports.templates.as_deref());
        show(format!("\n\n{}", text.trim_end()))?;
        shown.push(object!({ "id": listed.document, "report": listed.report, "headline": listed.headline }));
    }
    let mails = mails(&stage.config)?;
    show(what_next(stage, database, slot, &mails, year.last().map(|line| line.user).unwrap_or_default())?)?;
    let config = stage.folder.as_ref().map(|folder| folder.path.join(CONFIG_FILE));
    Ok(Some(object!({
        "slot": time_text(slot), "database": database.describe(), "config": config,
        "customers": business::CUSTOMERS, "lines": posted.lines(), "posted": posted.posted, "replayed": posted.replayed,
        "rejected": posted.rejected, "posting_seconds": posting_seconds, "reports": shown, "mails": mails,
    })))
}

/// Fails if the ledger is in use: the demo's postings must not mix with real ones.
async fn ensure_unused(database: &Database) -> anyhow::Result<()> {
    let sql = include_str!("../../sql/demo/ledger_in_use.sql");
    let in_use = match database.connection().await?.query_one(sql, &[]).await {
        Ok(row) => row.try_get(0)?,
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => false,
        Err(error) => return Err(error.into()),
    };
    if !in_use {
        return Ok(());
    }
    Err(WrongCall(format!(
        "the ledger in {} is in use, and the demo writes to an empty one only. Name an empty database by --database-url; or \
         name none, neither there nor in POINTSD_DATABASE_URL nor in the configuration, and the demo runs its own PostgreSQL",
        database.describe()
    ))
    .into())
}

/// Posts the year, and leaves it as a file in the demo's own folder. None if it was interrupted.
async fn post(
    year: &[Line],
    program: &Program,
    stage: &Stage,
    database: &Database,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Summary>> {
    let mut text = Vec::new();
    for line in year {
        serde_json::to_writer(&mut text, line)?;
        text.push(b'\n');
    }
    if let Some(folder) = &stage.folder {
        folder.write(YEAR_FILE, &text)?;
    }
    let rules = Rules::from(&stage.config).into();
    let bar = progress(year.len() as u64, "posting", "postings");
    let poster = Poster::start(database, &rules, Poster::lanes());
    let (count, ignore) = (|_, _: &mut Vec<u8>| bar.inc(1), |_| std::future::ready(Ok(())));
    let posted = bulk::post(Cursor::new(text), Format::Ndjson, &poster, program.clock, stop, count, ignore).await;
    bar.finish_and_clear();
    poster.close().await;
    Ok(Some(posted.context("the year could not be posted")?).filter(|posted| !posted.stopped))
}

/// The mails that became files, by name.
fn mails(config: &Config) -> anyhow::Result<Vec<PathBuf>> {
    let MailWay::Directory { folder, .. } = &config.mail.way else { return Ok(Vec::new()) };
    let files = fs::read_dir(folder).and_then(|files| files.map(|file| fs::canonicalize(file?.path())).collect());
    let mut mails: Vec<PathBuf> = files.with_context(|| format!("{} cannot be read", folder.display()))?;
    mails.retain(|file| file.extension().is_some_and(|extension| extension == "eml"));
    mails.sort();
    Ok(mails)
}

/// Names the mails, and commands that work as they are printed.
fn what_next(
    stage: &Stage,
    database: &Database,
    slot: DateTime<Utc>,
    mails: &[PathBuf],
    user: Uuid,
) -> anyhow::Result<String> {
    let mut as_mails: String = mails.iter().map(|mail| format!("\n  {}", quoted(mail))).collect();
    if !mails.is_empty() {
        as_mails.insert_str(0, "\n\nThe same reports as mails, in files that any mail program opens:");
    }
    let (config, year, remove) = match &stage.folder {
        Some(Folder { path, .. }) => (
            format!("export POINTSD_CONFIG={}", quoted(&path.join(CONFIG_FILE))),
            quoted(&path.join(YEAR_FILE)),
            format!(" To remove it:\n  unset POINTSD_CONFIG; rm -r {}", quoted(path)),
        ),
        None => (
            "# with the configuration and the --database-url of this call".to_owned(),
            "FILE".to_owned(),
            String::new(),
        ),
    };
    Ok(format!(
        "{as_mails}\n\nTry next:\n  {config}\n  \
         alias pointsd={program}\n
  # the reports and their mails; every account that owes points; an account and its history
  pointsd reports
  pointsd arrears
  pointsd balance {user}
  pointsd export entries --csv --user {user}
  # a recharge: the same order counts once; a consume: it may take the account into arrears
  pointsd recharge {user} 500 --source card --order-id 1
  pointsd consume {user} 900 --source-type video --source-id 1
  # what the coming week would expire; the year again: everything replays
  pointsd run expiry --dry-run --at {in_a_week}
  pointsd post {year}\n\n\
         The demo's ledger is in {database}.{remove}",
        program = quoted(&std::env::current_exe()?),
        in_a_week = time_text(slot + TimeDelta::days(7)),
        database = database.describe(),
    ))
}

/// A path as the shell reads it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    match text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+@".contains(c)) {
        true => text.into_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}
