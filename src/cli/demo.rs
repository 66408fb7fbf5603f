//! `demo`: a year of a made-up business, posted, swept and reported before one's eyes.

mod business;
mod folder;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::business::{SOURCES, Year};
use self::folder::Folder;
use super::bulk::lanes;
use super::output::{grouped, json, progress, say, table, waiting};
use super::run;
use super::{Outcome, Program, WrongCall, stop_on_signal};
use crate::bulk::{self, Format, Summary};
use crate::config::{Config, MailWay, Source};
use crate::database::{Database, Settings};
use crate::jobs::{Context, RegisteredJob, arrears, expiry, reconciliation};
use crate::ledger::{Expired, Poster, Rules, Sweep};
use crate::mail;
use crate::reports;
use crate::scheduler::{Asked, RunRow, State, Store};
use crate::time::{Zone, time_text};

/// Shows pointsd at work: makes up a year of a business, posts it, expires what is due tonight, proves the books, writes
/// the mails to finance, and tells.
///
/// Without a configured database it runs a PostgreSQL of its own in the folder `demo` of the state folder, which it
/// empties each time. A configured database it only uses while its ledger is empty.
#[derive(clap::Args)]
pub struct Demo {}

impl Demo {
    /// Runs it, in a few seconds more than the postings take.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let stop = stop_on_signal()?;
        let bar = waiting("starting PostgreSQL");
        let stage = Stage::set(program).await?;
        let database = Database::open(&Settings::from(&stage.config)).await?;
        let rules = Rules {
            recharge_sources: SOURCES.iter().map(|source| (*source).to_owned()).collect(),
            life: business::LIFE,
            language: stage.config.language,
        };
        bar.finish_and_clear();
        let played = play(program, &stage, &database, Arc::new(rules), &stop).await;
        let closed = database.close().await;
        let Some(figures) = played? else {
            say(stage.interrupted())?;
            return Ok(Outcome::Interrupted);
        };
        closed?;
        if program.json {
            json(&figures)?;
        } else {
            say(figures.in_words(stage.config.time_zone))?;
            say(what_next(&stage, &figures)?)?;
        }
        Ok(Outcome::Done)
    }
}

/// Where the demo plays.
struct Stage {
    config: Config,
    /// The demo's own folder and the configuration in it; none with a database that somebody configured.
    own: Option<(Folder, PathBuf)>,
}

impl Stage {
    async fn set(program: &Program) -> anyhow::Result<Stage> {
        let given = &program.config;
        if given.database.url.is_some() {
            // Whoever gets the mails of a real business must get none of a made-up one.
            let mut config = given.clone();
            config.mail.way = MailWay::None;
            return Ok(Stage { config, own: None });
        }
        let folder = Folder::make_anew(given).await?;
        let file = folder.path.join("pointsd.yaml");
        let text = own_configuration(given)?;
        fs::write(&file, text).with_context(|| format!("{} cannot be written", file.display()))?;
        Ok(Stage { config: Config::load(Some(&file), None)?, own: Some((folder, file)) })
    }

    fn interrupted(&self) -> &'static str {
        match self.own {
            Some(_) => "Interrupted. The next demo begins anew.",
            None => "Interrupted. The ledger is no longer empty: the next demo needs another database.",
        }
    }
}

/// The given configuration, as far as it concerns a ledger in a folder of its own. A text in JSON is one in YAML.
fn own_configuration(given: &Config) -> anyhow::Result<String> {
    let quoted = |text: &str| serde_json::to_string(text);
    let mut text = format!(
        "# The ledger of `pointsd demo`, which makes this folder anew each time.\n\
         state_dir: .\n\
         business:\n  name: Example Studio\n  time_zone: {}\n  language: {}\n\
         # Each mail becomes a file in the folder mail: none leaves this machine.\n\
         mail:\n  mode: directory\n  from: Points <points@example.com>\n  to:\n",
        quoted(given.time_zone.name())?,
        serde_json::to_string(&given.language)?,
    );
    for job in REPORTS {
        writeln!(text, "    {}: [finance@example.com]", job.name)?;
    }
    text.push_str("jobs:\n");
    for job in REPORTS {
        let schedule = &(job.settings)(given).schedule;
        let (rule, zone) = (quoted(schedule.rule())?, quoted(schedule.zone().name())?);
        writeln!(text, "  {}:\n    schedule: {rule}\n    time_zone: {zone}", job.name)?;
    }
    if let Some(bin) = &given.database.postgres_bin {
        let bin = std::path::absolute(bin)?;
        writeln!(text, "database:\n  postgres_bin: {}", quoted(&bin.to_string_lossy())?)?;
    }
    Ok(text)
}

/// The jobs whose reports finance gets.
const REPORTS: [&RegisteredJob; 3] = [&expiry::JOB, &reconciliation::JOB, &arrears::JOB];

/// Posts the year, sweeps, reports, and counts. None if it was interrupted.
async fn play(
    program: &Program,
    stage: &Stage,
    database: &Database,
    rules: Arc<Rules>,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Figures>> {
    ensure_empty(database).await?;
    database.migrate().await?;
    let now = (program.clock)();
    let slot = stage.config.jobs.expiry.schedule.next_after(now).context("the expiry job never comes due again")?;

    let bar = waiting("making up a year");
    let year = Year::make_up()?;
    let lines = year.to_ndjson(slot)?;
    if let Some((folder, _)) = &stage.own {
        let file = folder.path.join(YEAR_FILE);
        fs::write(&file, &lines).with_context(|| format!("{} cannot be written", file.display()))?;
    }
    bar.finish_and_clear();
    if stop.is_cancelled() {
        return Ok(None);
    }
    if !program.json {
        let (accounts, postings) = (grouped(business::ACCOUNTS), grouped(year.postings()));
        say(format_args!(
            "A year of a made-up business that sells speech, video and scripts for points:\n\
             {accounts} accounts, {postings} postings, up to tonight's expiry at {}.\n",
            local(slot, stage.config.time_zone)
        ))?;
    }

    let bar = progress(year.postings(), "posting", "postings");
    let poster = Poster::start(database, &rules, lanes());
    let began = Instant::now();
    let posted = bulk::post(Cursor::new(lines), Format::Ndjson, &poster, program.clock, stop, |_| {
        bar.inc(1);
        Ok(())
    })
    .await;
    let posting_took = began.elapsed();
    bar.finish_and_clear();
    poster.close().await;
    let posted = posted.context("the year could not be posted")?;
    if posted.stopped {
        return Ok(None);
    }

    let began = Instant::now();
    let Some(row) = run_job(&expiry::JOB, slot, stage, database, stop).await? else { return Ok(None) };
    let sweep_took = began.elapsed();
    let sweep: Sweep = serde_json::from_value(row.counters.unwrap_or_default())?;

    // The day's books are closed once it is over, so they are proved and reported tomorrow.
    let zone = stage.config.time_zone;
    let day = |time: DateTime<Utc>| time.with_timezone(&zone).date_naive();
    let tomorrow = stage.config.jobs.reconciliation.schedule.between(now, DateTime::<Utc>::MAX_UTC);
    let tomorrow = tomorrow.into_iter().find(|slot| day(*slot - CLOSING) > day(now));
    let tomorrow = tomorrow.context("the reconciliation job never comes due again")?;
    for (job, slot) in [(&reconciliation::JOB, tomorrow), (&arrears::JOB, slot)] {
        if run_job(job, slot, stage, database, stop).await?.is_none() {
            return Ok(None);
        }
    }
    let bar = waiting("writing the mails");
    let now_there = Store::new(database, stage.config.jobs.takeover).now().await?;
    mail::deliver(database, &stage.config, None, now_there).await.context("the mails could not be written")?;
    bar.finish_and_clear();

    let bar = waiting("counting");
    let figures = Figures {
        slot,
        database: database.describe(),
        config: stage.own.as_ref().map(|(_, file)| file.clone()),
        posted: Posted::new(posted, posting_took),
        rates: Rates::new(&sweep, posting_took, sweep_took, year.postings()),
        accounts: Accounts::read(database).await?,
        points: Points::read(database, slot).await?,
        outlook: Outlook::read(database, slot).await?,
        arrears: Debtor::read(database, slot).await?,
        reports: Reported::read(database).await?,
        mails: mails(&stage.config)?,
        expired_tonight: sweep,
    };
    bar.finish_and_clear();
    figures.prove()?;
    Ok(Some(figures))
}

/// After the end of a day its books stay open for so long, for what is recorded late.
const CLOSING: TimeDelta = TimeDelta::minutes(10);

/// Runs a job for a slot; none if it was interrupted.
async fn run_job(
    job: &RegisteredJob,
    slot: DateTime<Utc>,
    stage: &Stage,
    database: &Database,
    stop: &CancellationToken,
) -> anyhow::Result<Option<RunRow>> {
    match run::run_job(job, &Context::new(&stage.config, database), slot, true, stop).await? {
        Asked::Ran(row) if row.state == State::Succeeded => Ok(Some(*row)),
        Asked::Ran(row) if row.state == State::Failed => {
            bail!("{} failed for {}: {}", job.name, time_text(slot), row.error.unwrap_or_default())
        }
        Asked::Ran(_) | Asked::Busy(_) => Ok(None),
    }
}

/// The mails that were written as files, by name.
fn mails(config: &Config) -> anyhow::Result<Vec<PathBuf>> {
    let MailWay::Directory { folder, .. } = &config.mail.way else { return Ok(Vec::new()) };
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let folder = fs::canonicalize(folder).with_context(|| format!("{} cannot be reached", folder.display()))?;
    let files =
        fs::read_dir(&folder).and_then(|files| files.map(|file| Ok(file?.path())).collect::<io::Result<Vec<_>>>());
    let files = files.with_context(|| format!("{} cannot be read", folder.display()))?;
    let mut mails: Vec<PathBuf> =
        files.into_iter().filter(|file| file.extension().is_some_and(|end| end == "eml")).collect();
    mails.sort();
    Ok(mails)
}

/// The demo's postings belong into no ledger that somebody works with.
async fn ensure_empty(database: &Database) -> anyhow::Result<()> {
    let client = database.connection().await?;
    let is_there: bool = client.query_one(include_str!("../../sql/demo/ledger_exists.sql"), &[]).await?.try_get(0)?;
    if !is_there {
        return Ok(());
    }
    let in_use: bool = client.query_one(include_str!("../../sql/demo/account_exists.sql"), &[]).await?.try_get(0)?;
    if !in_use {
        return Ok(());
    }
    Err(WrongCall(format!(
        "the ledger in {} has accounts already, and the demo writes to an empty one only: name an empty database with \
         --database-url, or none at all (neither there nor in POINTSD_DATABASE_URL nor in the configuration), so that \
         the demo runs a PostgreSQL of its own",
        database.describe()
    ))
    .into())
}

/// The year as it was posted, beside the demo's own ledger.
const YEAR_FILE: &str = "year.ndjson";

/// What the demo shows, as `--json` prints it.
#[derive(Serialize)]
struct Figures {
    #[serde(serialize_with = "as_text")]
    slot: DateTime<Utc>,
    database: String,
    config: Option<PathBuf>,
    posted: Posted,
    accounts: Accounts,
    points: Points,
    expired_tonight: Sweep,
    outlook: BTreeMap<String, Outlook>,
    arrears: Vec<Debtor>,
    reports: Vec<Reported>,
    mails: Vec<PathBuf>,
    rates: Rates,
}

#[derive(Serialize)]
struct Posted {
    lines: u64,
    posted: u64,
    replayed: u64,
    rejected: BTreeMap<&'static str, u64>,
    seconds: f64,
}

#[derive(Serialize)]
struct Accounts {
    with_points: i64,
    outstanding: i64,
    in_arrears: i64,
    /// Not positive.
    owed: i64,
    empty: i64,
}

/// Entries and points of each kind.
#[derive(Default, Serialize)]
struct Points {
    recharged: Moved,
    consumed: Moved,
    expired_on_touch: Moved,
    expired_tonight: Moved,
}

#[derive(Clone, Copy, Default, Serialize)]
struct Moved {
    entries: i64,
    points: i64,
}

#[derive(Clone, Copy, Default, Serialize)]
struct Outlook {
    outstanding: i64,
    within_7_days: i64,
    within_30_days: i64,
    within_90_days: i64,
}

#[derive(Serialize)]
struct Debtor {
    user: Uuid,
    owes: i64,
    #[serde(serialize_with = "as_text")]
    since: DateTime<Utc>,
    days: i64,
    source_type: String,
}

/// A report to finance.
#[derive(Serialize)]
struct Reported {
    id: i64,
    report: String,
    headline: String,
}

#[derive(Serialize)]
struct Rates {
    posting_seconds: f64,
    postings_per_second: u64,
    sweep_seconds: f64,
    batches_per_second: u64,
}

fn as_text<S: serde::Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time_text(*time))
}

impl Posted {
    fn new(summary: Summary, took: Duration) -> Posted {
        Posted {
            lines: summary.lines(),
            posted: summary.posted,
            replayed: summary.replayed,
            rejected: summary.rejected,
            seconds: took.as_secs_f64(),
        }
    }
}

impl Rates {
    fn new(sweep: &Sweep, posting: Duration, sweeping: Duration, postings: u64) -> Rates {
        let rate = |count: u64, took: Duration| {
            u64::try_from(u128::from(count) * 1_000_000 / took.as_micros().max(1)).unwrap_or(u64::MAX)
        };
        Rates {
            posting_seconds: posting.as_secs_f64(),
            postings_per_second: rate(postings, posting),
            sweep_seconds: sweeping.as_secs_f64(),
            batches_per_second: rate(sweep.batches, sweeping),
        }
    }
}

impl Accounts {
    async fn read(database: &Database) -> anyhow::Result<Accounts> {
        let row = database.connection().await?.query_one(include_str!("../../sql/demo/accounts.sql"), &[]).await?;
        Ok(Accounts {
            with_points: row.try_get(0)?,
            outstanding: row.try_get(1)?,
            in_arrears: row.try_get(2)?,
            owed: row.try_get(3)?,
            empty: row.try_get(4)?,
        })
    }
}

impl Points {
    async fn read(database: &Database, slot: DateTime<Utc>) -> anyhow::Result<Points> {
        let client = database.connection().await?;
        let mut points = Points::default();
        for row in client.query(include_str!("../../sql/demo/entries.sql"), &[&slot]).await? {
            let moved = match (row.try_get(0)?, row.try_get(1)?) {
                ("recharge", _) => &mut points.recharged,
                ("consume", _) => &mut points.consumed,
                (_, false) => &mut points.expired_on_touch,
                (_, true) => &mut points.expired_tonight,
            };
            *moved = Moved { entries: row.try_get(2)?, points: row.try_get(3)? };
        }
        Ok(points)
    }

    fn balance(&self) -> Moved {
        let gone = [self.consumed, self.expired_on_touch, self.expired_tonight];
        Moved {
            entries: self.recharged.entries + gone.iter().map(|moved| moved.entries).sum::<i64>(),
            points: self.recharged.points - gone.iter().map(|moved| moved.points).sum::<i64>(),
        }
    }
}

impl Outlook {
    async fn read(database: &Database, slot: DateTime<Utc>) -> anyhow::Result<BTreeMap<String, Outlook>> {
        let client = database.connection().await?;
        let rows = client.query(include_str!("../../sql/demo/outlook.sql"), &[&slot]).await?;
        let by_source = rows.iter().map(|row| {
            let outlook = Outlook {
                outstanding: row.try_get(1)?,
                within_7_days: row.try_get(2)?,
                within_30_days: row.try_get(3)?,
                within_90_days: row.try_get(4)?,
            };
            Ok((row.try_get(0)?, outlook))
        });
        by_source.collect()
    }

    fn row(self, name: &str) -> Vec<String> {
        let points = [self.within_7_days, self.within_30_days, self.within_90_days, self.outstanding];
        std::iter::once(name.to_owned()).chain(points.map(grouped)).collect()
    }
}

impl Debtor {
    async fn read(database: &Database, slot: DateTime<Utc>) -> anyhow::Result<Vec<Debtor>> {
        let client = database.connection().await?;
        let rows = client.query(include_str!("../../sql/demo/arrears.sql"), &[]).await?;
        let debtors = rows.iter().map(|row| {
            let since: DateTime<Utc> = row.try_get(2)?;
            let days = (slot - since).num_days();
            Ok(Debtor { user: row.try_get(0)?, owes: row.try_get(1)?, since, days, source_type: row.try_get(3)? })
        });
        debtors.collect()
    }
}

impl Reported {
    async fn read(database: &Database) -> anyhow::Result<Vec<Reported>> {
        let client = database.connection().await?;
        let listed = reports::list(&client, None, REPORTS.len() as u32).await?;
        let reported = |one: reports::Listed| Reported { id: one.document, report: one.report, headline: one.headline };
        Ok(listed.into_iter().rev().map(reported).collect())
    }
}

impl Figures {
    /// The tables must tell one story.
    fn prove(&self) -> anyhow::Result<()> {
        let (accounts, points, sweep) = (&self.accounts, &self.points, &self.expired_tonight);
        let open: i64 = self.outlook.values().map(|outlook| outlook.outstanding).sum();
        let balance = accounts.outstanding + accounts.owed;
        ensure!(
            points.balance().points == balance && open == accounts.outstanding,
            "the books do not balance: the entries make {}, the accounts {balance}, the open batches {open}",
            points.balance().points,
        );
        ensure!(
            points.expired_tonight.points == sweep.points,
            "the sweep says that {} points expired, its entries {}",
            sweep.points,
            points.expired_tonight.points,
        );
        Ok(())
    }

    fn in_words(&self, zone: Zone) -> String {
        let tables = [self.lines_table(), self.points_table(), self.accounts_table(), self.tonight_table()];
        let mut text = tables.join("\n\n");
        text.push_str("\n\n");
        text.push_str(&self.outlook_table());
        text.push_str("\n\n");
        text.push_str(&self.arrears_table(zone));
        let rates = &self.rates;
        let _ = write!(
            text,
            "\n\nPosted in {:.1} s: {} postings a second. Swept in {:.2} s: {} batches a second.\n\
             The books balance: entries, accounts and open batches agree.",
            rates.posting_seconds,
            grouped(rates.postings_per_second),
            rates.sweep_seconds,
            grouped(rates.batches_per_second),
        );
        text.push_str(&self.reports_table());
        text
    }

    fn reports_table(&self) -> String {
        let rows: Vec<_> = self
            .reports
            .iter()
            .map(|one| vec![one.id.to_string(), one.report.clone(), shortened(&one.headline)])
            .collect();
        if rows.is_empty() {
            String::new()
        } else {
            format!("\n\n{}", table(&["id", "report to finance", "its subject"], &rows))
        }
    }

    fn lines_table(&self) -> String {
        let mut rows =
            vec![("posted".to_owned(), self.posted.posted), ("replayed: came twice".to_owned(), self.posted.replayed)];
        rows.extend(self.posted.rejected.iter().map(|(code, lines)| (format!("rejected: {code}"), *lines)));
        rows.push(("all".to_owned(), self.posted.lines));
        let rows: Vec<_> = rows.into_iter().map(|(name, lines)| vec![name, grouped(lines)]).collect();
        table(&["the year's lines", "number"], &rows)
    }

    fn points_table(&self) -> String {
        let points = &self.points;
        let row = |name: &str, moved: Moved, sign: i64| {
            vec![name.to_owned(), grouped(moved.entries), grouped(sign * moved.points)]
        };
        let rows = [
            row("recharged", points.recharged, 1),
            row("consumed", points.consumed, -1),
            row("expired on touch, during the year", points.expired_on_touch, -1),
            row("expired tonight, by the sweep", points.expired_tonight, -1),
            row("all", points.balance(), 1),
        ];
        table(&["what moved the points", "entries", "points"], &rows)
    }

    fn accounts_table(&self) -> String {
        let accounts = &self.accounts;
        let row = |name: &str, number: i64, points: i64| vec![name.to_owned(), grouped(number), grouped(points)];
        let rows = [
            row("with points", accounts.with_points, accounts.outstanding),
            row("in arrears", accounts.in_arrears, accounts.owed),
            row("with nothing left", accounts.empty, 0),
            row(
                "all",
                accounts.with_points + accounts.in_arrears + accounts.empty,
                accounts.outstanding + accounts.owed,
            ),
        ];
        table(&["accounts afterwards", "number", "balance"], &rows)
    }

    fn tonight_table(&self) -> String {
        let sweep = &self.expired_tonight;
        let row =
            |name: &str, expired: Expired| vec![name.to_owned(), grouped(expired.batches), grouped(expired.points)];
        let of = |source: &str| sweep.by_source.get(source).copied().unwrap_or_default();
        let mut rows: Vec<_> = SOURCES.iter().map(|source| row(source, of(source))).collect();
        rows.push(row("all", Expired { batches: sweep.batches, points: sweep.points }));
        table(&["expired tonight", "batches", "points"], &rows)
    }

    fn outlook_table(&self) -> String {
        let of = |source: &str| self.outlook.get(source).copied().unwrap_or_default();
        let all = self.outlook.values().fold(Outlook::default(), |sum, one| Outlook {
            outstanding: sum.outstanding + one.outstanding,
            within_7_days: sum.within_7_days + one.within_7_days,
            within_30_days: sum.within_30_days + one.within_30_days,
            within_90_days: sum.within_90_days + one.within_90_days,
        });
        let mut rows: Vec<_> = SOURCES.iter().map(|source| of(source).row(source)).collect();
        rows.push(all.row("all"));
        table(&["will expire if unused", "in 7 days", "in 30 days", "in 90 days", "outstanding"], &rows)
    }

    fn arrears_table(&self, zone: Zone) -> String {
        let rows: Vec<_> = self
            .arrears
            .iter()
            .map(|debtor| {
                vec![
                    debtor.user.to_string(),
                    grouped(debtor.owes),
                    debtor.since.with_timezone(&zone).date_naive().to_string(),
                    grouped(debtor.days),
                    debtor.source_type.clone(),
                ]
            })
            .collect();
        table(&["who owes most", "points", "since", "days", "for"], &rows)
    }
}

/// As much of a headline as fits beside its number.
fn shortened(headline: &str) -> String {
    const LONGEST: usize = 90;
    let text: String = headline.chars().take(LONGEST).collect();
    if headline.chars().count() > LONGEST { format!("{text}…") } else { text }
}

fn local(time: DateTime<Utc>, zone: Zone) -> String {
    format!("{} ({zone})", time.with_timezone(&zone).format("%Y-%m-%d %H:%M"))
}

/// Commands that work as they stand there.
fn what_next(stage: &Stage, figures: &Figures) -> anyhow::Result<String> {
    let program = this_program()?;
    let mut text = String::new();
    if !figures.mails.is_empty() {
        text.push_str("\nThe mails to finance, as files that any mail program opens:\n");
        for mail in &figures.mails {
            writeln!(text, "  {}", quoted(&nearer(mail)))?;
        }
    }
    text.push_str("\nTry next:\n\n");
    match &stage.own {
        Some((_, file)) => writeln!(text, "  export POINTSD_CONFIG={}\n", quoted(file))?,
        None => text.push_str(&same_database(&stage.config)),
    }
    let mut next = |what: &str, arguments: &str| writeln!(text, "{what}\n  {program} {arguments}");
    if let Some(report) = figures.reports.first() {
        next("What a report says, here:", &format!("reports show {}", report.id))?;
    }
    if let Some(debtor) = figures.arrears.first() {
        let (user, points) = (debtor.user, debtor.owes + 200);
        let source = stage.config.recharge_sources.iter().find(|source| *source == "card");
        let source = source.or_else(|| stage.config.recharge_sources.first()).map_or("card", String::as_str);
        let source = quoted(Path::new(source));
        next("Who owes most:", &format!("balance {user}"))?;
        next(
            "They pay: what they owe is settled first. Call it twice, it counts once.",
            &format!("recharge {user} {points} --source {source} --order-id 1001"),
        )?;
        next(
            "They use more than they have: work that is done is charged, so they owe again.",
            &format!("consume {user} 250 --source-type video --source-id demo-1"),
        )?;
        next("Their whole history:", &format!("export entries --csv --user {user}"))?;
    }
    let in_a_week = time_text(figures.slot + TimeDelta::days(7));
    next("What the coming week would expire:", &format!("run expiry --dry-run --at {in_a_week}"))?;
    if let Some((folder, _)) = &stage.own {
        let file = folder.path.join(YEAR_FILE);
        next(
            "The whole year once more: what was posted replays, what was refused is refused again, nothing changes:",
            &format!("post {}", quoted(&nearer(&file))),
        )?;
        write!(
            text,
            "\nThe demo's ledger is in {}. To be rid of it:\n  unset POINTSD_CONFIG; rm -r {}",
            figures.database,
            quoted(&folder.path)
        )?;
    } else {
        write!(text, "\nThe demo's ledger is in {}.", figures.database)?;
    }
    Ok(text)
}

/// What the shell has to know for the commands to reach a database that was configured.
fn same_database(config: &Config) -> String {
    let mut text = String::new();
    let mut is_known =
        std::env::var("POINTSD_DATABASE_URL").ok().as_deref() == config.database.url.as_ref().map(|url| url.reveal());
    if let Source::File(file) = &config.source {
        let file = std::path::absolute(file).unwrap_or_else(|_| file.clone());
        is_known |= Config::load(Some(&file), None).is_ok_and(|written| written.database.url == config.database.url);
        text.push_str(&format!("  export POINTSD_CONFIG={}\n", quoted(&file)));
    }
    if !is_known {
        // It may hold a password, so it is not repeated.
        text.push_str("  export POINTSD_DATABASE_URL=...    (the URL that you gave)\n");
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// How to call this program: by name where the shell finds it, else by its path.
fn this_program() -> io::Result<String> {
    let program = std::env::current_exe()?;
    let program = fs::canonicalize(&program).unwrap_or(program);
    let Some(name) = program.file_name() else { return Ok(quoted(&program)) };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let first = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    let found = first.and_then(|file| fs::canonicalize(file).ok()).is_some_and(|file| file == program);
    Ok(quoted(&if found { PathBuf::from(name) } else { nearer(&program) }))
}

/// A path from here, if it leads downwards.
fn nearer(path: &Path) -> PathBuf {
    let here = std::env::current_dir().and_then(fs::canonicalize);
    match here.ok().and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned)) {
        // A name alone would be looked for in PATH.
        Some(short) if short.components().count() == 1 => Path::new(".").join(short),
        Some(short) => short,
        None => path.to_owned(),
    }
}

/// A path as the shell reads it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c)) && !text.is_empty() {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
