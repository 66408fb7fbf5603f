//! The configuration: loaded, checked and typed once, so that no other module meets an invalid value.
//!
//! `config/defaults.yaml` is documentation and default at once: it is built in, and a user's file is laid over it
//! key by key. A key which the code reads and that file lacks, or the other way round, fails every load and so
//! every test.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Datelike as _, TimeDelta, Utc, Weekday};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_yaml::Value;

mod finance;
mod http;
mod jobs;
mod ledger;
mod mail;
mod place;
mod settings;
mod values;

use self::finance::FileFinance;
pub use self::finance::Finance;
use self::http::FileHttp;
pub use self::http::{Http, Listen, TlsFiles};
use self::jobs::{FileJobs, default_lanes, inherit_job_defaults, job, retries};
use self::ledger::{FileLedger, replace_terms_and_sources};
pub use self::ledger::{Label, PointKind, PointSource, Valuation};
pub use self::mail::{Mail, MailWay, Secret, Security, Smtp, parse_mailbox};
use self::place::{Caller, Found, OutsideText, SERVICE_STATE, Service, credential, default_state_dir};
pub use self::values::weekday_name;
use self::values::{FileZone, Word, between, business_name, level, path, seconds, weekday};
pub use crate::database::{DatabaseUrl, DatabaseUrlError};
use crate::errors;
use crate::language::Language;
use crate::ledger::Term;
use crate::prices::PriceList;
use crate::requests;
use crate::scheduler::JobSettings;
use crate::telemetry::LogFormat;
use crate::time::{Zone, time_text};
use crate::yaml::{self, Lines};

/// The defaults and their documentation, as text: what `config/defaults.yaml` holds.
pub const BUILT_IN: &str = include_str!("../config/defaults.yaml");
/// The price list that is used where the configuration names none: what `config/prices.yaml` holds.
pub const BUILT_IN_PRICES: &str = include_str!("../config/prices.yaml");

/// Errors of a file that are told at once at most.
const MOST_ERRORS: usize = 20;

/// Everything that can be configured, checked. The keys are explained in `config/defaults.yaml`.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where this configuration came from.
    pub source: Source,
    /// `state_dir`, or the default for this user. Not necessarily there yet.
    pub state_dir: PathBuf,
    /// `database`
    pub database: Database,
    /// `business.time_zone`
    pub time_zone: Zone,
    /// `business.language`
    pub language: Language,
    /// `business.name`, or empty.
    pub business: String,
    /// `ledger.sources`: what a recharge's source may be.
    pub sources: BTreeMap<String, PointSource>,
    /// `ledger.valuation`: the price of points that were not paid for, in reports.
    pub valuation: Option<Valuation>,
    /// `ledger.expires`: how long points live whose source has no term of its own.
    pub expires: Term,
    /// `ledger.refund`: how long points of a refund live at least.
    pub refund: Term,
    /// `finance`: the accounts of journal lines.
    pub finance: Finance,
    /// The price list, loaded.
    pub prices: PriceList,
    /// Where the price list came from.
    pub prices_source: Source,
    /// `jobs`
    pub jobs: Jobs,
    /// `reports`
    pub reports: Reports,
    /// `mail`
    pub mail: Mail,
    /// `requests`
    pub requests: requests::Settings,
    /// `http`
    pub http: Http,
    /// `retention`
    pub retention: Retention,
    /// `log`
    pub log: Log,
    /// Why the database that a caller of the command line means cannot be used by it; None: it can.
    closed: Option<String>,
    /// The lines of the keys, for errors that show later.
    lines: Lines,
}

/// Where a configuration or a price list came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Built into the program.
    BuiltIn,
    /// Read from this file.
    File(PathBuf),
}

impl Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::BuiltIn => f.write_str("built-in defaults"),
            Source::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// How to reach the database.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// None: a private server in the state folder.
    pub url: Option<DatabaseUrl>,
    /// PEM certificates to trust; None: the system's.
    #[serde(deserialize_with = "path")]
    pub ca_file: Option<PathBuf>,
    /// The folder of the private server's programs; None: search.
    #[serde(deserialize_with = "path")]
    pub postgres_bin: Option<PathBuf>,
    /// Connections held open at most; 1 or more.
    #[serde(deserialize_with = "between::<1, 1000, _, _>")]
    pub pool_size: usize,
    /// For one attempt to connect.
    #[serde(rename = "connect_timeout_seconds", deserialize_with = "seconds::<3600, _>")]
    pub connect_timeout: Duration,
    /// After which the server ends a statement.
    #[serde(rename = "statement_timeout_seconds", deserialize_with = "seconds::<86_400, _>")]
    pub statement_timeout: Duration,
    /// For how long a posting is tried again while the database is away.
    #[serde(rename = "keep_trying_seconds", deserialize_with = "seconds::<3600, _>")]
    pub keep_trying: Duration,
}

/// The settings of the jobs.
#[derive(Debug, Clone)]
pub struct Jobs {
    /// The longest time until another daemon continues the run of a daemon that stopped.
    pub takeover: Duration,
    /// Expires the points that are due.
    pub expiry: Job,
    /// How many groups of accounts it expires at a time, each on a connection of its own.
    pub expiry_lanes: usize,
    /// Proves the books.
    pub reconciliation: Job,
    /// How many parts of a group of accounts it proves at a time, each on a connection of its own.
    pub reconciliation_lanes: usize,
    /// Reports the accounts in arrears.
    pub arrears: Job,
    /// Reports the month that is over.
    pub month_end: Job,
    /// Deletes old runs and requests.
    pub prune: Job,
}

/// The settings of a job.
#[derive(Debug, Clone)]
pub struct Job {
    /// When it runs, and how.
    pub settings: JobSettings,
    /// The dead man's switch that hears of its runs.
    pub ping_url: Option<String>,
}

/// How reports are made.
#[derive(Debug, Clone)]
pub struct Reports {
    /// On which day of the week everything is proved; None: never by itself.
    pub full_proof_on: Option<Weekday>,
    /// Templates that come before the built-in ones.
    pub templates: Option<PathBuf>,
    /// How long after its slot a report is missing that was not made, or not delivered.
    pub missing_after: Duration,
    /// When the report on arrears asks for attention.
    pub arrears: ArrearsLimits,
}

/// From where on arrears need attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArrearsLimits {
    /// More points in arrears than this.
    #[serde(deserialize_with = "between::<0, 1_000_000_000_000, _, _>")]
    pub attention_points: i64,
    /// Arrears that grew by more than this percentage since the last report.
    #[serde(deserialize_with = "between::<0, 10_000, _, _>")]
    pub attention_growth_percent: u32,
}

/// Days to keep finished runs, finished requests and reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Runs of jobs.
    #[serde(deserialize_with = "between::<1, 36_500, _, _>")]
    pub runs_days: u32,
    /// Requests.
    #[serde(deserialize_with = "between::<1, 36_500, _, _>")]
    pub requests_days: u32,
    /// Documents, mails, resolved findings.
    #[serde(deserialize_with = "between::<1, 36_500, _, _>")]
    pub reports_days: u32,
}

/// What is logged and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// The least severe level that is logged.
    #[serde(deserialize_with = "level")]
    pub level: tracing::Level,
    /// How a line looks.
    pub format: LogFormat,
}

/// Why there is no configuration to run with. The command line ends with status 2 for it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that was named, or is there, cannot be read.
    #[error("{}: cannot be read{}", file.display(), remedy.as_ref().map_or(String::new(), |remedy| format!(": {remedy}")))]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What to do about it, if that is known.
        remedy: Option<String>,
        /// Why not.
        source: io::Error,
    },
    /// A file of the service that this user may not read.
    #[error(
        "{}: cannot be read by this user{}, and the service on this machine takes its settings from it; call the command with \
         sudo, or as a member of the file's group after `chgrp pointsd` and `chmod 640` (sudo usermod -aG pointsd USER)",
        file.display(),
        errors::rights_of(file).map_or(String::new(), |(rights, _)| format!(" ({rights})"))
    )]
    Closed {
        /// The file.
        file: PathBuf,
    },
    /// The daemon's database is out of this caller's reach.
    #[error("{0}")]
    OutOfReach(String),
    /// A value in the file is wrong.
    #[error(transparent)]
    Invalid(#[from] yaml::Error),
    /// Several values are wrong: a line of text each.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Several(Vec<yaml::Error>),
    /// A URL from outside the file is wrong. Does not repeat it.
    #[error("{place}: {problem}")]
    DatabaseUrl {
        /// Where it was given.
        place: String,
        /// What is wrong with it.
        problem: DatabaseUrlError,
    },
    /// Neither the configuration nor the environment names a state folder.
    #[error(
        "no folder to keep state in: neither STATE_DIRECTORY nor XDG_STATE_HOME nor HOME is set; write `state_dir: /some/folder` in the configuration"
    )]
    NoStateDir,
}

impl Config {
    /// Reads the configuration from `path`; without one from the user's own file if it is there, else from
    /// `/etc/pointsd/pointsd.yaml` if that is there, else from the built-in defaults. `database_url`, from the command line or
    /// the environment, comes before the service's credential `database-url`, and that before the file's.
    ///
    /// # Errors
    /// A file or a credential that cannot be read, and anything in it that is not valid, the price list included.
    pub fn load(path: Option<&Path>, database_url: Option<String>) -> Result<Config, ConfigError> {
        let caller = Caller { variable: &|name| std::env::var_os(name), is_root: nix::unistd::geteuid().is_root() };
        let Found { source, text, service } = caller.find(path)?;
        let secret = |variable: &str, name: &str| match &service {
            Some(service) => service.secret(variable, name),
            None => credential(std::env::var_os("CREDENTIALS_DIRECTORY"), name),
        };
        let mut closed = None;
        let database_url = match database_url {
            Some(text) => Some(OutsideText { place: "--database-url or POINTSD_DATABASE_URL".to_owned(), text }),
            None => match secret("POINTSD_DATABASE_URL", "database-url") {
                // Not every command needs the database.
                Err(error @ ConfigError::Closed { .. }) => {
                    closed = Some(error.to_string());
                    None
                }
                found => found?,
            },
        };
        let mut mail_closed = None;
        let smtp_password = match std::env::var("POINTSD_SMTP_PASSWORD").ok().filter(|text| !text.is_empty()) {
            Some(password) => Some(password),
            None => match secret("POINTSD_SMTP_PASSWORD", "smtp-password") {
                // Without a login nothing is missing.
                Err(error @ ConfigError::Closed { .. }) => {
                    mail_closed = Some(error);
                    None
                }
                found => found?.map(|given| given.text),
            },
        };
        let of_service = service.as_ref().is_some_and(Service::is_installed);
        let works_there = caller.is_root || of_service && place::reaches_service_state();
        let config = Config::from_text(source, &text, Outside { database_url, smtp_password }, || {
            default_state_dir(caller.variable, works_there)
        });
        let mut config = config.map_err(|error| match (error, mail_closed) {
            (ConfigError::Invalid(error), Some(closed)) if error.path == "mail.smtp.user" => closed,
            (error, _) => error,
        })?;
        if config.database.url.is_none() && !config.lines.has("state_dir") && of_service && !works_there {
            let why = format!(
                "the service on this machine works on its private PostgreSQL in {SERVICE_STATE}, which root and its own user \
                 alone can reach: call the command with sudo, or name another database with --database-url or --config"
            );
            closed = closed.or(Some(why));
        }
        config.closed = closed;
        Ok(config)
    }

    /// Checks that this user may work on the database that is meant: the daemon's, unless the call names another one.
    ///
    /// # Errors
    /// Why not, and what to do instead.
    pub fn check_reach(&self) -> Result<(), ConfigError> {
        self.closed.clone().map_or(Ok(()), |why| Err(ConfigError::OutOfReach(why)))
    }

    /// Checks the text. Behind an error it goes on as if the file did not have the key, so that all errors are told at once.
    fn from_text(
        source: Source,
        text: &str,
        outside: Outside,
        default_state_dir: impl Fn() -> Option<PathBuf>,
    ) -> Result<Config, ConfigError> {
        let (mut errors, mut ignored) = (Vec::<yaml::Error>::new(), Vec::<String>::new());
        loop {
            let error = match Config::without(&ignored, &source, text, &outside, &default_state_dir) {
                Ok(config) if errors.is_empty() => return Ok(config),
                Ok(_) => break,
                Err(ConfigError::Invalid(error)) => error,
                Err(error) if errors.is_empty() => return Err(error),
                Err(_) => break,
            };
            // The price list is a file of its own.
            let path = if error.file == source.to_string() { error.path.clone() } else { "prices".to_owned() };
            let again = ignored.contains(&path);
            // Such as a key that is missing now: the consequence of an error that is told.
            if !ignored.iter().any(|known| are_related(&path, known)) {
                errors.push(error);
            }
            if again || path.is_empty() || errors.len() == MOST_ERRORS {
                break;
            }
            ignored.push(path);
        }
        Err(match errors.pop() {
            Some(only) if errors.is_empty() => only.into(),
            last => {
                errors.extend(last);
                errors.sort_by_key(|error| error.line);
                ConfigError::Several(errors)
            }
        })
    }

    fn without(
        ignored: &[String],
        source: &Source,
        text: &str,
        outside: &Outside,
        default_state_dir: impl Fn() -> Option<PathBuf>,
    ) -> Result<Config, ConfigError> {
        let (mut file, lines) = yaml::parse_over::<File>(BUILT_IN, &source.to_string(), text, ignored, complete)?;
        if let Source::File(named) = source {
            file.resolve_paths(named.parent().unwrap_or(Path::new("")));
        }
        if let Some(OutsideText { place, text }) = outside.database_url.clone() {
            // An empty variable is refused: taken as the private database, it would post into the wrong one.
            file.database.url = Some(text.try_into().map_err(|problem| ConfigError::DatabaseUrl { place, problem })?);
        }
        let ledger = file.ledger.check(&lines)?;
        let finance = file.finance.check(&ledger.sources, &lines)?;
        let (prices_source, prices) = load_prices(file.prices, &lines)?;
        let FileZone(time_zone) = file.business.time_zone;
        let jobs = Jobs {
            takeover: file.jobs.takeover,
            expiry_lanes: file.jobs.expiry.lanes.unwrap_or_else(default_lanes),
            reconciliation_lanes: file.jobs.reconciliation.lanes.unwrap_or_else(default_lanes),
            expiry: job("expiry", file.jobs.expiry, time_zone, &lines)?,
            reconciliation: job("reconciliation", file.jobs.reconciliation, time_zone, &lines)?,
            arrears: job("arrears", file.jobs.arrears, time_zone, &lines)?,
            month_end: job("month_end", file.jobs.month_end, time_zone, &lines)?,
            prune: job("prune", file.jobs.prune, time_zone, &lines)?,
        };
        if file.jobs.defaults.schedule.is_some() {
            let what = "each job has a schedule of its own";
            return Err(lines.error("jobs.defaults.schedule", what, "write it there, such as in jobs.expiry").into());
        }
        retries("requests.retries", file.requests.retries, file.requests.retry_pause, &lines)?;
        let state_dir = file.state_dir.or_else(default_state_dir).ok_or(ConfigError::NoStateDir)?;
        let mail = mail::mail_settings(file.mail, &state_dir, outside.smtp_password.clone(), &lines)?;
        Ok(Config {
            source: source.clone(),
            state_dir,
            database: file.database,
            time_zone,
            language: file.business.language,
            business: file.business.name.unwrap_or_default(),
            sources: ledger.sources,
            valuation: ledger.valuation,
            expires: ledger.expires,
            refund: ledger.refund,
            finance,
            prices,
            prices_source,
            jobs,
            reports: file.reports.into(),
            mail,
            requests: file.requests,
            http: file.http.check(&lines)?,
            retention: file.retention,
            log: file.log,
            closed: None,
            lines,
        })
    }

    /// The name of a source in this language: its label, else the source itself.
    pub fn source_label<'a>(&'a self, source: &'a str, language: Language) -> &'a str {
        ledger::source_label(&self.sources, source, language)
    }

    /// Warnings with file, line and path: schedules that a change of the clocks moves, skips or repeats in the three years
    /// after `now`, and a month end that comes too early. A warning stops nothing.
    pub fn warnings(&self, now: DateTime<Utc>) -> Vec<String> {
        let jobs = self.jobs.by_name().into_iter().filter(|(_, job)| job.settings.enabled);
        let changes = jobs.flat_map(|(name, job)| {
            let remedy =
                "if that will not do, write another time of day, or a time_zone whose clocks never change, such as UTC";
            let told = job.settings.schedule.clock_change_warnings(now).into_iter();
            told.map(move |what| self.lines.error(&format!("jobs.{name}.schedule"), what, remedy).to_string())
        });
        changes.chain(self.early_month_end(now)).collect()
    }

    /// A warning if the job on the month that is over runs before its last day is over for the business.
    fn early_month_end(&self, now: DateTime<Utc>) -> Option<String> {
        let JobSettings { schedule, enabled, .. } = &self.jobs.month_end.settings;
        let slot = schedule.between(now, now + TimeDelta::days(366)).next().filter(|_| *enabled)?;
        let month = |zone: Zone| slot.with_timezone(&zone).date_naive().with_day(1);
        let (zone, slot) = (self.time_zone.name(), time_text(slot));
        let what = format_args!("the month that the job reports at {slot} is not over then in {zone}");
        let remedy = "write a later time, or the time_zone of the business";
        let is_early = month(self.time_zone) < month(schedule.zone());
        is_early.then(|| self.lines.error("jobs.month_end.schedule", what, remedy).to_string())
    }

    /// Checks the files of the database, the mails and the reports. Commands open them only when they need them, so loading
    /// does not.
    ///
    /// # Errors
    /// The first that is missing.
    pub fn check_files(&self) -> Result<(), ConfigError> {
        self.check_reach()?;
        if let Some(file) = &self.database.ca_file
            && let Err(error) = std::fs::File::open(file)
        {
            let what = format_args!("{} cannot be read: {error}", file.display());
            let remedy = "name a PEM file, relative to this one, or write null for the system's certificates";
            return Err(self.lines.error("database.ca_file", what, remedy).into());
        }
        if let MailWay::Smtp { smtp: Smtp { ca_file: Some(file), .. }, .. } = &self.mail.way {
            let wrong = match std::fs::read(file) {
                Err(error) => Some(format!("{} cannot be read: {error}", file.display())),
                Ok(pem) => match CertificateDer::pem_slice_iter(&pem).next() {
                    Some(Ok(_)) => None,
                    _ => Some(format!("{} holds no certificate", file.display())),
                },
            };
            if let Some(what) = wrong {
                let remedy = "name a PEM file, relative to this one, or write null for the system's certificates";
                return Err(self.lines.error("mail.smtp.ca_file", what, remedy).into());
            }
        }
        if let Some(folder) = &self.reports.templates
            && let Err(error) = std::fs::read_dir(folder)
        {
            let what = format_args!("{} cannot be read: {error}", folder.display());
            let remedy = "name a folder, relative to this file, or write null for the built-in templates";
            return Err(self.lines.error("reports.templates", what, remedy).into());
        }
        if let Some(folder) = &self.database.postgres_bin {
            let missing = ["initdb", "pg_ctl", "postgres"].into_iter().find(|program| !folder.join(program).is_file());
            if let Some(program) = missing {
                let what = format_args!("there is no {program} in {}", folder.display());
                let remedy =
                    "name the folder of PostgreSQL's programs, relative to this file, or write null to look for it";
                return Err(self.lines.error("database.postgres_bin", what, remedy).into());
            }
        }
        Ok(())
    }
}

/// Whether an error at one path may be the consequence of one at the other: a value lies within the other, or limits it.
fn are_related(one: &str, other: &str) -> bool {
    let depends = |path: &str, on: &str| {
        path.strip_prefix(on)
            .is_some_and(|rest| on.is_empty() || rest.is_empty() || rest.starts_with(['.', '[']) || rest == "_limit")
    };
    depends(one, other) || depends(other, one)
}

/// Fills in what depends on other values.
fn complete(merged: &mut Value, changes: &Value, defaults: &Value) {
    inherit_job_defaults(merged);
    replace_terms_and_sources(merged, changes, defaults);
}

impl Jobs {
    /// Each job under its name in the configuration.
    pub fn by_name(&self) -> [(&'static str, &Job); 5] {
        [
            ("expiry", &self.expiry),
            ("reconciliation", &self.reconciliation),
            ("arrears", &self.arrears),
            ("month_end", &self.month_end),
            ("prune", &self.prune),
        ]
    }
}

/// Values from outside the file. Not `Debug`, because it holds passwords.
#[derive(Default)]
struct Outside {
    database_url: Option<OutsideText>,
    smtp_password: Option<String>,
}

/// The file as written: the shape of `config/defaults.yaml`. No field has a default here; that file gives them all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(deserialize_with = "path")]
    state_dir: Option<PathBuf>,
    database: Database,
    business: FileBusiness,
    ledger: FileLedger,
    finance: FileFinance,
    #[serde(deserialize_with = "path")]
    prices: Option<PathBuf>,
    jobs: FileJobs,
    reports: FileReports,
    mail: mail::FileMail,
    #[serde(with = "settings::Requests")]
    requests: requests::Settings,
    http: FileHttp,
    retention: Retention,
    log: Log,
}

impl File {
    /// Lets relative paths start at the folder of the file.
    fn resolve_paths(&mut self, folder: &Path) {
        let paths = [
            &mut self.state_dir,
            &mut self.database.ca_file,
            &mut self.database.postgres_bin,
            &mut self.prices,
            &mut self.reports.templates,
            &mut self.mail.directory,
            &mut self.mail.smtp.ca_file,
            &mut self.http.tls.certificate,
            &mut self.http.tls.key,
        ];
        for path in paths.into_iter().flatten() {
            *path = folder.join(&*path);
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileBusiness {
    time_zone: FileZone,
    language: Language,
    #[serde(deserialize_with = "business_name")]
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileReports {
    #[serde(deserialize_with = "weekday")]
    full_proof_on: Option<Weekday>,
    #[serde(deserialize_with = "path")]
    templates: Option<PathBuf>,
    #[serde(deserialize_with = "between::<1, 720, _, _>")]
    missing_after_hours: u64,
    arrears: ArrearsLimits,
}

impl From<FileReports> for Reports {
    fn from(file: FileReports) -> Reports {
        let missing_after = Duration::from_secs(file.missing_after_hours * 3600);
        Reports { full_proof_on: file.full_proof_on, templates: file.templates, missing_after, arrears: file.arrears }
    }
}

fn load_prices(file: Option<PathBuf>, lines: &Lines) -> Result<(Source, PriceList), yaml::Error> {
    let Some(path) = file else {
        return Ok((Source::BuiltIn, PriceList::from_yaml("built-in prices", BUILT_IN_PRICES)?));
    };
    let text = std::fs::read_to_string(&path).map_err(|error| {
        let what = format_args!("{} cannot be read: {error}", path.display());
        lines.error(
            "prices",
            what,
            "name the price list's file, relative to this one, or write null for the built-in list",
        )
    })?;
    let prices = PriceList::from_yaml(&path.display().to_string(), &text)?;
    Ok((Source::File(path), prices))
}

#[cfg(test)]
mod tests;
