//! The configuration: read, checked and typed once, so that nothing behind it meets an invalid value.
//!
//! `config/pointsd.yaml` is documentation and default at once: it is built in, and a user's file is laid over it
//! key by key. A key which the code reads and that file lacks, or the other way round, fails every load and so
//! every test.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::{self, Display};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc, Weekday};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::de::{self, Error as _};
use serde::{Deserialize, Deserializer};
use serde_yaml::Value;

mod mail;
mod settings;

pub use self::mail::{Mail, MailWay, Secret, Security, Smtp, parse_mailbox};
pub use crate::database::{DatabaseUrl, DatabaseUrlError};
use crate::language::Language;
use crate::prices::PriceList;
use crate::requests;
use crate::schedule::Schedule;
use crate::scheduler::{CatchUp, JobSettings, Overlap};
use crate::spelling::nearest;
use crate::telemetry::LogFormat;
use crate::time::Zone;
use crate::yaml::{self, Lines};

/// The defaults and their documentation, as text: what `config/pointsd.yaml` holds.
pub const BUILT_IN: &str = include_str!("../config/pointsd.yaml");
/// The price list that is used where the configuration names none: what `config/prices.yaml` holds.
pub const BUILT_IN_PRICES: &str = include_str!("../config/prices.yaml");

/// Where the configuration is looked for when no file is named.
const SYSTEM_FILE: &str = "/etc/pointsd/pointsd.yaml";

/// Everything that can be configured, checked. The keys are explained in `config/pointsd.yaml`.
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
    /// `business.name`: empty where nobody is named.
    pub business: String,
    /// `ledger.recharge_sources`: what a recharge's source may be.
    pub recharge_sources: BTreeSet<String>,
    /// `ledger.expiry`
    pub expiry: Expiry,
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
    /// `retention`
    pub retention: Retention,
    /// `log`
    pub log: Log,
    /// Where each key stands, for what only shows later.
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
}

/// When recharged points expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expiry {
    /// 1 to 36500.
    #[serde(deserialize_with = "between::<1, 36_500, _, _>")]
    pub days: u32,
    /// Whether these are days of the calendar in the business time zone, rather than 24 hours each.
    pub calendar_days: bool,
}

/// The jobs, each with its schedule and what it is to do when things do not go by it.
#[derive(Debug, Clone)]
pub struct Jobs {
    /// A run whose daemon gives no sign of life is continued by another one within this time.
    pub takeover: Duration,
    /// Expires the points that are due.
    pub expiry: Job,
    /// Proves the books.
    pub reconciliation: Job,
    /// Reports who owes points.
    pub arrears: Job,
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
}

/// For how many days what is over is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Runs of jobs.
    #[serde(deserialize_with = "between::<1, 36_500, _, _>")]
    pub runs_days: u32,
    /// Requests.
    #[serde(deserialize_with = "between::<1, 36_500, _, _>")]
    pub requests_days: u32,
    /// Documents, mails, cured findings.
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
    #[error("{}: cannot be read", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file says something that does not hold.
    #[error(transparent)]
    Invalid(#[from] yaml::Error),
    /// A URL from outside the file is wrong. Does not repeat it.
    #[error("{place}: {problem}")]
    DatabaseUrl {
        /// Where it was given.
        place: String,
        /// What is wrong with it.
        problem: DatabaseUrlError,
    },
    /// Neither the configuration nor the environment tells where to keep state.
    #[error(
        "no folder to keep state in: neither STATE_DIRECTORY nor XDG_STATE_HOME nor HOME is set; write `state_dir: /some/folder` in the configuration"
    )]
    NoStateDir,
}

impl Config {
    /// Reads the configuration from `path`; without one from `/etc/pointsd/pointsd.yaml` if it is there, else from the
    /// built-in defaults. `database_url`, from the command line or the environment, comes before the service manager's
    /// credential `database-url`, and that before the file's.
    ///
    /// # Errors
    /// A file or a credential that cannot be read, and anything in it that is not valid, the price list included.
    pub fn load(path: Option<&Path>, database_url: Option<String>) -> Result<Config, ConfigError> {
        let (source, text) = match path {
            Some(path) => (Source::File(path.to_owned()), read_file(path)?),
            None => match read_file(Path::new(SYSTEM_FILE)) {
                Ok(text) => (Source::File(SYSTEM_FILE.into()), text),
                Err(ConfigError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    (Source::BuiltIn, String::new())
                }
                // A file that is there and cannot be read must not be passed over in silence.
                Err(error) => return Err(error),
            },
        };
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
        let database_url = match database_url {
            Some(text) => Some(Given { place: "--database-url or POINTSD_DATABASE_URL".to_owned(), text }),
            None => credential(credentials.clone(), "database-url")?,
        };
        let smtp_password = match std::env::var("POINTSD_SMTP_PASSWORD").ok().filter(|text| !text.is_empty()) {
            Some(password) => Some(password),
            None => credential(credentials, "smtp-password")?.map(|given| given.text),
        };
        Config::from_text(source, &text, Outside { database_url, smtp_password }, || {
            default_state_dir(|name| std::env::var_os(name), nix::unistd::geteuid().is_root())
        })
    }

    fn from_text(
        source: Source,
        text: &str,
        outside: Outside,
        default_state_dir: impl Fn() -> Option<PathBuf>,
    ) -> Result<Config, ConfigError> {
        let (mut file, lines) = yaml::read_over::<File>(BUILT_IN, &source.to_string(), text, inherit_job_defaults)?;
        if let Source::File(named) = &source {
            let folder = named.parent().unwrap_or(Path::new(""));
            let paths = [
                &mut file.state_dir,
                &mut file.database.ca_file,
                &mut file.database.postgres_bin,
                &mut file.prices,
                &mut file.reports.templates,
                &mut file.mail.directory,
                &mut file.mail.smtp.ca_file,
            ];
            for path in paths.into_iter().flatten() {
                *path = folder.join(&*path);
            }
        }
        if let Some(Given { place, text }) = outside.database_url {
            // An empty variable is a mistake, not a wish for the private database: better to stop here than to post
            // into the wrong one.
            file.database.url = Some(text.try_into().map_err(|problem| ConfigError::DatabaseUrl { place, problem })?);
        }
        let (prices_source, prices) = match file.prices {
            None => (Source::BuiltIn, PriceList::from_yaml("built-in prices", BUILT_IN_PRICES)?),
            Some(path) => {
                let text = std::fs::read_to_string(&path).map_err(|error| {
                    lines.error(
                        "prices",
                        format_args!("{} cannot be read: {error}", path.display()),
                        "name the price list's file, relative to this one, or write null for the built-in list",
                    )
                })?;
                (Source::File(path.clone()), PriceList::from_yaml(&path.display().to_string(), &text)?)
            }
        };
        let FileZone(time_zone) = file.business.time_zone;
        let jobs = Jobs {
            takeover: file.jobs.takeover,
            expiry: job("expiry", file.jobs.expiry, time_zone, &lines)?,
            reconciliation: job("reconciliation", file.jobs.reconciliation, time_zone, &lines)?,
            arrears: job("arrears", file.jobs.arrears, time_zone, &lines)?,
            prune: job("prune", file.jobs.prune, time_zone, &lines)?,
        };
        if file.jobs.defaults.schedule.is_some() {
            let what = "each job has a schedule of its own";
            return Err(lines.error("jobs.defaults.schedule", what, "write it there, such as in jobs.expiry").into());
        }
        retries("requests.retries", file.requests.retries, file.requests.retry_pause, &lines)?;
        let state_dir = file.state_dir.or_else(default_state_dir).ok_or(ConfigError::NoStateDir)?;
        let mail = mail::read(file.mail, &state_dir, outside.smtp_password, &lines)?;
        Ok(Config {
            source,
            state_dir,
            database: file.database,
            time_zone,
            language: file.business.language,
            business: file.business.name.unwrap_or_default(),
            recharge_sources: recharge_sources(file.ledger.recharge_sources, &lines)?,
            expiry: file.ledger.expiry,
            prices,
            prices_source,
            jobs,
            reports: file.reports.into(),
            mail,
            requests: file.requests,
            retention: file.retention,
            log: file.log,
            lines,
        })
    }

    /// What is allowed, and may still not be meant, each with file, line and path: schedules which a change of the clocks
    /// moves, loses or repeats in the three years after `now`. Nothing stops for it.
    pub fn warnings(&self, now: DateTime<Utc>) -> Vec<String> {
        let jobs = self.jobs.by_name().into_iter().filter(|(_, job)| job.settings.enabled);
        let changes = jobs.flat_map(|(name, job)| {
            let remedy =
                "if that will not do, write another time of day, or a time_zone whose clocks never change, such as UTC";
            let told = job.settings.schedule.clock_change_warnings(now).into_iter();
            told.map(move |what| self.lines.error(&format!("jobs.{name}.schedule"), what, remedy).to_string())
        });
        changes.collect()
    }

    /// Looks whether the files are there that the database, the mails and the reports need. Apart from the price list they
    /// are not opened before they are needed, and most commands would do without.
    ///
    /// # Errors
    /// The first that is missing.
    pub fn check_files(&self) -> Result<(), ConfigError> {
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

impl Jobs {
    /// Each job under its name in the configuration.
    pub fn by_name(&self) -> [(&'static str, &Job); 4] {
        [
            ("expiry", &self.expiry),
            ("reconciliation", &self.reconciliation),
            ("arrears", &self.arrears),
            ("prune", &self.prune),
        ]
    }
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { file: path.to_owned(), source })
}

/// What comes from outside the file. Not `Debug`, because it holds passwords.
#[derive(Default)]
struct Outside {
    database_url: Option<Given>,
    smtp_password: Option<String>,
}

/// A text from outside the file, and from where.
struct Given {
    place: String,
    text: String,
}

/// What the service manager hands over under this name; none where it has nothing, or an empty line.
fn credential(folder: Option<OsString>, name: &str) -> Result<Option<Given>, ConfigError> {
    let Some(folder) = folder else { return Ok(None) };
    let file = Path::new(&folder).join(name);
    let text = match read_file(&file) {
        Ok(text) => text.trim_end_matches(['\n', '\r']).to_owned(),
        Err(ConfigError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let place = format!("the credential {name} ({})", file.display());
    Ok((!text.is_empty()).then_some(Given { place, text }))
}

/// Where state lives when the configuration does not say; the order is explained in `config/pointsd.yaml`.
fn default_state_dir(variable: impl Fn(&str) -> Option<OsString>, is_root: bool) -> Option<PathBuf> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    if let Some(folders) = variable("STATE_DIRECTORY") {
        // systemd names several folders with colons between them; ours is the first.
        let first = std::env::split_paths(&folders).next().and_then(absolute);
        if first.is_some() {
            return first;
        }
    }
    if is_root {
        return Some("/var/lib/pointsd".into());
    }
    let folder = |name| variable(name).map(PathBuf::from).and_then(absolute);
    folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state"))).map(|folder| folder.join("pointsd"))
}

/// The file as written: the shape of `config/pointsd.yaml`. No field has a default here; that file gives them all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(deserialize_with = "path")]
    state_dir: Option<PathBuf>,
    database: Database,
    business: FileBusiness,
    ledger: FileLedger,
    #[serde(deserialize_with = "path")]
    prices: Option<PathBuf>,
    jobs: FileJobs,
    reports: FileReports,
    mail: mail::FileMail,
    #[serde(with = "settings::Requests")]
    requests: requests::Settings,
    retention: Retention,
    log: Log,
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
struct FileLedger {
    recharge_sources: Vec<String>,
    expiry: Expiry,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileJobs {
    #[serde(rename = "takeover_seconds", deserialize_with = "seconds::<3600, _>")]
    takeover: Duration,
    defaults: FileJob,
    expiry: FileJob,
    reconciliation: FileJob,
    arrears: FileJob,
    prune: FileJob,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileJob {
    /// Each job has one; `defaults` has none.
    schedule: Option<String>,
    time_zone: Option<FileZone>,
    enabled: bool,
    #[serde(deserialize_with = "catch_up")]
    catch_up: FileCatchUp,
    #[serde(deserialize_with = "limit")]
    catch_up_limit: Option<usize>,
    #[serde(deserialize_with = "overlap")]
    overlap: Overlap,
    #[serde(rename = "timeout_seconds", deserialize_with = "seconds::<604_800, _>")]
    timeout: Duration,
    #[serde(deserialize_with = "between::<0, 100, _, _>")]
    retries: u32,
    #[serde(rename = "retry_seconds", deserialize_with = "seconds::<3600, _>")]
    retry_pause: Duration,
    #[serde(deserialize_with = "ping_url")]
    ping_url: Option<String>,
}

/// Fills in what a job leaves out from `jobs.defaults`.
fn inherit_job_defaults(file: &mut Value) {
    let Some(Value::Mapping(jobs)) = file.get_mut("jobs") else { return };
    let Some(defaults @ Value::Mapping(_)) = jobs.get("defaults").cloned() else { return };
    for (_, job) in jobs.iter_mut().filter(|(name, job)| *name != "defaults" && job.is_mapping()) {
        let own = std::mem::replace(job, defaults.clone());
        yaml::merge(job, own);
    }
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
}

impl From<FileReports> for Reports {
    fn from(file: FileReports) -> Reports {
        let missing_after = Duration::from_secs(file.missing_after_hours * 3600);
        Reports { full_proof_on: file.full_proof_on, templates: file.templates, missing_after }
    }
}

#[derive(Clone, Copy)]
enum FileCatchUp {
    None,
    Latest,
    All,
}

/// The longest pause before a further attempt: a week. It doubles each time, so without an end a hundred retries would
/// outlast the universe.
const LONGEST_PAUSE: Duration = Duration::from_secs(604_800);

fn job(name: &str, file: FileJob, time_zone: Zone, lines: &Lines) -> Result<Job, yaml::Error> {
    let path = |key: &str| {
        let (own, default) = (format!("jobs.{name}.{key}"), format!("jobs.defaults.{key}"));
        if !lines.has(&own) && lines.has(&default) { default } else { own }
    };
    let zone = file.time_zone.map_or(time_zone, |FileZone(zone)| zone);
    let schedule = Schedule::parse(&file.schedule.unwrap_or_default(), zone).map_err(|error| {
        let remedy = "write five fields in quotes, e.g. \"0 2 * * *\" for every day at 02:00";
        lines.error(&path("schedule"), error, remedy)
    })?;
    let catch_up = match (file.catch_up, file.catch_up_limit) {
        (FileCatchUp::None, None) => CatchUp::None,
        (FileCatchUp::Latest, None) => CatchUp::Latest,
        (FileCatchUp::All, Some(limit)) => CatchUp::All(limit),
        (FileCatchUp::All, None) => {
            let what = "all the slots of a long outage may be very many";
            return Err(lines.error(&path("catch_up"), what, "write how many as catch_up_limit, 1 to 1000"));
        }
        (other, Some(_)) => {
            let other = if let FileCatchUp::None = other { "none" } else { "latest" };
            let what = format_args!("there is nothing to limit where catch_up is {other}");
            return Err(lines.error(&path("catch_up_limit"), what, "write null, or catch_up: all"));
        }
    };
    retries(&path("retries"), file.retries, file.retry_pause, lines)?;
    let settings = JobSettings {
        schedule,
        enabled: file.enabled,
        catch_up,
        overlap: file.overlap,
        timeout: file.timeout,
        retries: file.retries,
        retry_pause: file.retry_pause,
    };
    Ok(Job { settings, ping_url: file.ping_url })
}

fn business_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let Some(name) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let wrong = name.trim().is_empty() || name.contains(char::is_control) || name.chars().count() > 100;
    if wrong { Err(D::Error::custom("write 1 to 100 characters on one line, or null")) } else { Ok(Some(name)) }
}

/// A URL is kept as it is written; ones that could never be called are refused here.
fn ping_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let Some(url) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let fits = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        && !url.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#' || c == '?');
    if fits {
        return Ok(Some(url.trim_end_matches('/').to_owned()));
    }
    // It is a secret of a kind: not repeated.
    Err(D::Error::custom("this is no address to call; write https://host/path without ? and #, or null"))
}

fn weekday<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Weekday>, D::Error> {
    const DAYS: [(&str, Weekday); 7] = [
        ("monday", Weekday::Mon),
        ("tuesday", Weekday::Tue),
        ("wednesday", Weekday::Wed),
        ("thursday", Weekday::Thu),
        ("friday", Weekday::Fri),
        ("saturday", Weekday::Sat),
        ("sunday", Weekday::Sun),
    ];
    let Some(written) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let found = DAYS.iter().find(|(name, _)| *name == written).map(|(_, day)| Some(*day));
    found.ok_or_else(|| D::Error::custom(format_args!("{written:?} is no weekday; write monday to sunday, or null")))
}

/// Refuses retries whose last pause is absurd.
fn retries(path: &str, retries: u32, pause: Duration, lines: &Lines) -> Result<(), yaml::Error> {
    let fits = |count: &u32| {
        let doubled = 2_u32.checked_pow(count.saturating_sub(1)).and_then(|times| pause.checked_mul(times));
        doubled.is_some_and(|pause| pause <= LONGEST_PAUSE)
    };
    if fits(&retries) {
        return Ok(());
    }
    let most = (0..retries).rev().find(fits).unwrap_or(0);
    let what = format_args!(
        "the pause starts at {} s and doubles each time, so before the last of {retries} it would be longer than a week",
        pause.as_secs()
    );
    Err(lines.error(path, what, format_args!("write at most {most}, or a smaller retry_seconds")))
}

fn catch_up<'de, D: Deserializer<'de>>(deserializer: D) -> Result<FileCatchUp, D::Error> {
    let words = [("none", FileCatchUp::None), ("latest", FileCatchUp::Latest), ("all", FileCatchUp::All)];
    deserializer.deserialize_any(Word { words: &words, remedy: "none, latest or all" })
}

fn overlap<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Overlap, D::Error> {
    let words = [("skip", Overlap::Skip), ("queue", Overlap::Queue)];
    deserializer.deserialize_any(Word { words: &words, remedy: "skip or queue" })
}

/// One of a few words; whatever else stands there, the refusal says which.
struct Word<'a, T> {
    words: &'a [(&'a str, T)],
    remedy: &'a str,
}

impl<T: Copy> de::Visitor<'_> for Word<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.remedy)
    }

    fn visit_str<E: de::Error>(self, written: &str) -> Result<T, E> {
        let found = self.words.iter().find(|(word, _)| *word == written);
        found
            .map(|(_, meant)| *meant)
            .ok_or_else(|| E::custom(format_args!("{written:?} is none of the words; write {}", self.remedy)))
    }
}

fn limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let Some(written) = Option::<i64>::deserialize(deserializer)? else { return Ok(None) };
    between::<1, 1000, _, _>(de::IntoDeserializer::into_deserializer(written)).map(Some)
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct FileZone(Zone);

impl TryFrom<String> for FileZone {
    type Error = String;

    fn try_from(written: String) -> Result<FileZone, String> {
        written.parse().map(FileZone).map_err(|_| match nearest_time_zone(&written) {
            Some(name) => format!("{written:?} is no time zone; did you mean {name}?"),
            None => {
                format!("{written:?} is no time zone; write an IANA name such as UTC, Europe/Paris or Asia/Shanghai")
            }
        })
    }
}

fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    match Option::<String>::deserialize(deserializer)? {
        Some(text) if text.trim().is_empty() => {
            Err(D::Error::custom("is empty; write a path, or null for the default"))
        }
        Some(text) if text.starts_with('~') => Err(D::Error::custom("`~` is not expanded; write the whole path")),
        text => Ok(text.map(PathBuf::from)),
    }
}

fn between<'de, const LEAST: i64, const MOST: i64, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: TryFrom<i64>,
    D: Deserializer<'de>,
{
    let written = i64::deserialize(deserializer)?;
    let number = T::try_from(written).ok().filter(|_| (LEAST..=MOST).contains(&written));
    number.ok_or_else(|| {
        D::Error::custom(format_args!("{written} is out of bounds; write a whole number from {LEAST} to {MOST}"))
    })
}

fn seconds<'de, const MOST: i64, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    between::<1, MOST, _, _>(deserializer).map(Duration::from_secs)
}

fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<tracing::Level, D::Error> {
    let written = String::deserialize(deserializer)?;
    written
        .parse()
        .map_err(|_| D::Error::custom(format_args!("{written:?} is no level; write error, warn, info, debug or trace")))
}

fn recharge_sources(written: Vec<String>, lines: &Lines) -> Result<BTreeSet<String>, yaml::Error> {
    const PATH: &str = "ledger.recharge_sources";
    if written.is_empty() {
        let what = "the list is empty, so no recharge could be posted";
        return Err(lines.error(PATH, what, "write at least one source"));
    }
    let mut sources = BTreeSet::new();
    for (position, source) in written.into_iter().enumerate() {
        let path = format!("{PATH}[{position}]");
        let length = source.chars().count();
        if !(1..=64).contains(&length) {
            let what = format_args!("a source of {length} characters");
            return Err(lines.error(&path, what, "write 1 to 64 characters"));
        }
        if source.trim() != source || source.contains(char::is_control) {
            let what = format_args!("{source:?} has spaces around it or control characters");
            return Err(lines.error(&path, what, "write the plain name"));
        }
        if let Some(twice) = sources.replace(source) {
            return Err(lines.error(&path, format_args!("{twice:?} is listed twice"), "keep one of the two"));
        }
    }
    Ok(sources)
}

/// The zone that was probably meant: the same name in other letters, the city alone, or a misspelling.
fn nearest_time_zone(written: &str) -> Option<String> {
    let written = written.trim().replace(' ', "_").to_lowercase();
    let names = Zone::names();
    let names = || names.iter().map(String::as_str);
    let city = |name: &str| name.rsplit('/').next().map(str::to_lowercase);
    names()
        .find(|name| name.to_lowercase() == written)
        .or_else(|| names().find(|name| city(name).as_deref() == Some(written.as_str())))
        .or_else(|| nearest(&written, names()))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        load_with(text, None)
    }

    fn load_with(text: &str, url: Option<&str>) -> Result<Config, ConfigError> {
        let source = Source::File("conf/pointsd.yaml".into());
        let database_url = url.map(|text| Given { place: "--database-url".to_owned(), text: text.to_owned() });
        Config::from_text(source, text, Outside { database_url, smtp_password: None }, || Some("/state".into()))
    }

    #[test]
    fn the_built_in_file_is_complete_and_valid() {
        let config = load("").unwrap();
        assert_eq!(config.state_dir, Path::new("/state"));
        assert!(config.database.url.is_none());
        assert_eq!(config.database.pool_size, 8);
        assert_eq!(config.database.connect_timeout, Duration::from_secs(10));
        assert_eq!(config.database.statement_timeout, Duration::from_secs(300));
        assert_eq!((config.time_zone, config.language), (Zone::UTC, Language::English));
        assert_eq!(config.recharge_sources.len(), 6);
        assert_eq!(config.expiry, Expiry { days: 180, calendar_days: false });
        assert_eq!(config.jobs.expiry.settings.schedule.describe(), "0 2 * * * (UTC)");
        assert_eq!(config.log, Log { level: tracing::Level::INFO, format: LogFormat::Auto });
        assert_eq!(config.prices_source, Source::BuiltIn);
        // The documented file, copied as it is, means the same as no file.
        let copied = Config { lines: config.lines.clone(), ..load(BUILT_IN).unwrap() };
        assert_eq!(format!("{copied:?}"), format!("{config:?}"));
    }

    #[test]
    fn a_file_changes_only_what_it_names() {
        let config = load(
            "business: {time_zone: Asia/Shanghai, language: zh-CN}\n\
             database: {url: 'postgresql://me:secret@db1:5433,db2/points?target_session_attrs=read-write', ca_file: ca.pem}\n\
             ledger: {recharge_sources: [cash], expiry: {calendar_days: true}}\n\
             state_dir: ../data\njobs:\nlog: {format: json, level: debug}\n",
        )
        .unwrap();
        assert_eq!(
            (config.time_zone, config.language),
            ("Asia/Shanghai".parse().unwrap(), Language::SimplifiedChinese)
        );
        assert_eq!(config.expiry, Expiry { days: 180, calendar_days: true });
        assert_eq!(config.recharge_sources, BTreeSet::from(["cash".to_owned()]));
        assert_eq!(config.jobs.expiry.settings.schedule.describe(), "0 2 * * * (Asia/Shanghai)");
        assert_eq!(config.state_dir, Path::new("conf/../data"));
        assert_eq!(config.database.ca_file.as_deref(), Some(Path::new("conf/ca.pem")));
        assert_eq!(config.database.pool_size, 8);
        assert_eq!(config.log, Log { level: tracing::Level::DEBUG, format: LogFormat::Json });
        let url = config.database.url.clone().unwrap();
        assert_eq!(url.to_string(), "postgres://me@db1:5433,db2:5432/points");
        assert!(url.reveal().contains("secret"));
        assert!(!format!("{config:?}").contains("secret"));

        let other = load_with("database: {url: 'postgres://in-file/x'}", Some("postgres://given/y")).unwrap();
        assert_eq!(other.database.url.unwrap().to_string(), "postgres://given:5432/y");
    }

    #[test]
    fn refusals() {
        let cases = [
            ("database: {pool_sise: 3}", "1: database.pool_sise: unknown key; did you mean `pool_size`?"),
            ("databse: {}", "1: databse: unknown key; did you mean `database`?"),
            (
                "database:\n  pool_size: 0",
                "2: database.pool_size: 0 is out of bounds; write a whole number from 1 to 1000",
            ),
            ("database:\n  pool_size: many", "2: database.pool_size: expected a whole number, found a text"),
            (
                "database: {connect_timeout_seconds: -1}",
                "1: database.connect_timeout_seconds: -1 is out of bounds; write a whole number from 1 to 3600",
            ),
            (
                "database: {statement_timeout_seconds: 86401}",
                "1: database.statement_timeout_seconds: 86401 is out of bounds; write a whole number from 1 to 86400",
            ),
            ("database: {ca_file: ''}", "1: database.ca_file: is empty; write a path, or null for the default"),
            ("database: {postgres_bin: ~/bin}", "1: database.postgres_bin: `~` is not expanded; write the whole path"),
            (
                "\nbusiness: {time_zone: Europe/Pariss}",
                "2: business.time_zone: \"Europe/Pariss\" is no time zone; did you mean Europe/Paris?",
            ),
            (
                "business: {time_zone: asia/shanghai}",
                "1: business.time_zone: \"asia/shanghai\" is no time zone; did you mean Asia/Shanghai?",
            ),
            (
                "business: {time_zone: new york}",
                "1: business.time_zone: \"new york\" is no time zone; did you mean America/New_York?",
            ),
            (
                "business: {time_zone: +02:00}",
                "1: business.time_zone: \"+02:00\" is no time zone; write an IANA name such as UTC, Europe/Paris or Asia/Shanghai",
            ),
            (
                "business: {time_zone: null}",
                "1: business.time_zone: expected a text, in quotes if it looks like a number, found null",
            ),
            ("business: {language: fr}", "1: business.language: unknown variant `fr`, expected `en` or `zh-CN`"),
            (
                "ledger: {recharge_sources: []}",
                "1: ledger.recharge_sources: the list is empty, so no recharge could be posted; write at least one source",
            ),
            (
                "ledger:\n  recharge_sources:\n  - a\n  - b\n  - a",
                "5: ledger.recharge_sources[2]: \"a\" is listed twice; keep one of the two",
            ),
            (
                "ledger: {recharge_sources: ['']}",
                "1: ledger.recharge_sources[0]: a source of 0 characters; write 1 to 64 characters",
            ),
            (
                "ledger: {recharge_sources: [' a']}",
                "1: ledger.recharge_sources[0]: \" a\" has spaces around it or control characters; write the plain name",
            ),
            (
                "ledger: {expiry: {days: 0}}",
                "1: ledger.expiry.days: 0 is out of bounds; write a whole number from 1 to 36500",
            ),
            (
                "ledger: {expiry: {days: 36501}}",
                "1: ledger.expiry.days: 36501 is out of bounds; write a whole number from 1 to 36500",
            ),
            (
                "ledger: {expiry: {calendar_days: yes}}",
                "1: ledger.expiry.calendar_days: expected true or false, found a text",
            ),
            ("ledger: {expiry: 30}", "1: ledger.expiry: expected a mapping (`key: value`), found integer `30`"),
            (
                "jobs: {expiry: {schedule: '0 0 30 2 *'}}",
                "1: jobs.expiry.schedule: \"0 0 30 2 *\" never comes due: no such day is in the calendar; write five fields in quotes, e.g. \"0 2 * * *\" for every day at 02:00",
            ),
            (
                "jobs: {expiry: {time_zone: Mars/Base}}",
                "1: jobs.expiry.time_zone: \"Mars/Base\" is no time zone; write an IANA name such as UTC, Europe/Paris or Asia/Shanghai",
            ),
            (
                "jobs:\n  expiry:\n    schedule: '0 25 * * *'",
                "3: jobs.expiry.schedule: \"0 25 * * *\" is no cron rule: \"25\" does not fit the hour (0 to 23; several as 1,3 or 1-5 or */5, all as *); write five fields in quotes, e.g. \"0 2 * * *\" for every day at 02:00",
            ),
            (
                "jobs: {expiry: {schedule: '*/90 * * * *'}}",
                "1: jobs.expiry.schedule: \"*/90 * * * *\" is no cron rule: \"*/90\" does not fit the minute (0 to 59; several as 1,3 or 1-5 or */5, all as *); write five fields in quotes, e.g. \"0 2 * * *\" for every day at 02:00",
            ),
            (
                "jobs: {prune: {schedule: daily}}",
                "1: jobs.prune.schedule: \"daily\" is no cron rule: it has 1 field, and a rule has 5, or 6 with the second in front; write five fields in quotes, e.g. \"0 2 * * *\" for every day at 02:00",
            ),
            (
                "jobs: {expiry: {schedule: 2}}",
                "1: jobs.expiry.schedule: expected a text, in quotes if it looks like a number, found integer `2`",
            ),
            (
                "jobs: {expiry: {schedule: ['0 2 * * *']}}",
                "1: jobs.expiry.schedule: expected a text, in quotes if it looks like a number, found a list",
            ),
            ("jobs: {expiry: {enabled: 'yes'}}", "1: jobs.expiry.enabled: expected true or false, found a text"),
            (
                "jobs: {expiry: {catch_up: yes}}",
                "1: jobs.expiry.catch_up: \"yes\" is none of the words; write none, latest or all",
            ),
            (
                "jobs: {expiry: {catch_up: true}}",
                "1: jobs.expiry.catch_up: expected none, latest or all, found boolean `true`",
            ),
            ("jobs:\n  prune:\n    catch_up: null", "3: jobs.prune.catch_up: expected none, latest or all, found null"),
            (
                "jobs: {expiry: {catch_up: [latest]}}",
                "1: jobs.expiry.catch_up: expected none, latest or all, found a list",
            ),
            (
                "jobs: {expiry: {catch_up: {all: 3}}}",
                "1: jobs.expiry.catch_up: expected none, latest or all, found a mapping",
            ),
            (
                "jobs: {expiry: {catch_up: 3}}",
                "1: jobs.expiry.catch_up: expected none, latest or all, found integer `3`",
            ),
            (
                "jobs: {expiry: {catch_up: All}}",
                "1: jobs.expiry.catch_up: \"All\" is none of the words; write none, latest or all",
            ),
            (
                "jobs:\n  expiry:\n    enabled: true\n    catch_up: all",
                "4: jobs.expiry.catch_up: all the slots of a long outage may be very many; write how many as catch_up_limit, 1 to 1000",
            ),
            (
                "jobs: {expiry: {catch_up_limit: 5}}",
                "1: jobs.expiry.catch_up_limit: there is nothing to limit where catch_up is latest; write null, or catch_up: all",
            ),
            (
                "jobs:\n  prune:\n    catch_up: none\n    catch_up_limit: 5",
                "4: jobs.prune.catch_up_limit: there is nothing to limit where catch_up is none; write null, or catch_up: all",
            ),
            (
                "jobs: {expiry: {catch_up: all, catch_up_limit: 0}}",
                "1: jobs.expiry.catch_up_limit: 0 is out of bounds; write a whole number from 1 to 1000",
            ),
            (
                "jobs: {expiry: {catch_up: all, catch_up_limit: 1001}}",
                "1: jobs.expiry.catch_up_limit: 1001 is out of bounds; write a whole number from 1 to 1000",
            ),
            (
                "jobs: {expiry: {catch_up: all, catch_up_limit: '5'}}",
                "1: jobs.expiry.catch_up_limit: expected a whole number, found a text",
            ),
            (
                "jobs: {expiry: {overlap: wait}}",
                "1: jobs.expiry.overlap: \"wait\" is none of the words; write skip or queue",
            ),
            (
                "jobs: {expiry: {overlap: false}}",
                "1: jobs.expiry.overlap: expected skip or queue, found boolean `false`",
            ),
            (
                "jobs: {expiry: {timeout_seconds: 0}}",
                "1: jobs.expiry.timeout_seconds: 0 is out of bounds; write a whole number from 1 to 604800",
            ),
            (
                "jobs: {expiry: {timeout_seconds: 4h}}",
                "1: jobs.expiry.timeout_seconds: expected a whole number, found a text",
            ),
            ("jobs: {expiry: {retries: '3'}}", "1: jobs.expiry.retries: expected a whole number, found a text"),
            (
                "jobs:\n  expiry:\n    retries: 30",
                "3: jobs.expiry.retries: the pause starts at 10 s and doubles each time, so before the last of 30 it would be longer than a week; write at most 16, or a smaller retry_seconds",
            ),
            (
                "requests: {retries: 9, retry_seconds: 3600}",
                "1: requests.retries: the pause starts at 3600 s and doubles each time, so before the last of 9 it would be longer than a week; write at most 8, or a smaller retry_seconds",
            ),
            (
                "requests: {poll_seconds: 0}",
                "1: requests.poll_seconds: 0 is out of bounds; write a whole number from 1 to 3600",
            ),
            (
                "retention: {runs_days: 0}",
                "1: retention.runs_days: 0 is out of bounds; write a whole number from 1 to 36500",
            ),
            (
                "jobs:\n  defaults:\n    retries: 30",
                "3: jobs.defaults.retries: the pause starts at 10 s and doubles each time, so before the last of 30 it would be longer than a week; write at most 16, or a smaller retry_seconds",
            ),
            (
                "jobs: {defaults: {schedule: '0 2 * * *'}}",
                "1: jobs.defaults.schedule: each job has a schedule of its own; write it there, such as in jobs.expiry",
            ),
            ("jobs: {defaults: {overlp: skip}}", "1: jobs.defaults.overlp: unknown key; did you mean `overlap`?"),
            ("jobs: {expiri: {}}", "1: jobs.expiri: unknown key; did you mean `expiry`?"),
            ("mail: {mode: post}", "1: mail.mode: \"post\" is none of the words; write smtp, directory or none"),
            (
                "mail:\n  mode: smtp\n  from: points@example.com",
                "1: mail.smtp.host: mails of mode smtp need a server; write its name, such as smtp.example.com",
            ),
            (
                "mail:\n  mode: smtp\n  from: points@example.com\n  smtp:\n    host: smtp.example.com:587",
                "5: mail.smtp.host: \"smtp.example.com:587\" is no name of a server; write the name alone, such as smtp.example.com; the port goes to mail.smtp.port",
            ),
            (
                "mail:\n  mode: directory",
                "1: mail.from: mails of mode directory come from somebody; write an address, such as \"Points <points@example.com>\"",
            ),
            (
                "mail:\n  mode: smtp\n  smtp: {host: localhost}",
                "1: mail.from: mails of mode smtp come from somebody; write an address, such as \"Points <points@example.com>\"",
            ),
            (
                "mail:\n  mode: smtp\n  from: p@example.com\n  smtp:\n    host: smtp.example.com\n    security: none",
                "6: mail.smtp.security: mails to smtp.example.com would travel in the clear; write starttls or tls; none is for localhost only",
            ),
            (
                "mail: {smtp: {security: ssl}}",
                "1: mail.smtp.security: \"ssl\" is none of the words; write starttls, tls or none",
            ),
            (
                "mail:\n  mode: smtp\n  from: p@example.com\n  smtp: {host: smtp.example.com, user: points}",
                "4: mail.smtp.user: there is no password for points; give POINTSD_SMTP_PASSWORD, the credential smtp-password or mail.smtp.password; or write null for no login",
            ),
            (
                "mail:\n  mode: smtp\n  from: p@example.com\n  smtp: {host: smtp.example.com, user: points, password: \"hunter\\r\\n2\"}",
                "4: mail.smtp.user: user and password must be on one line, and the user not empty; write them without line ends; or write null for no login",
            ),
            ("mail: {smtp: {port: 0}}", "1: mail.smtp.port: 0 is out of bounds; write a whole number from 1 to 65535"),
            (
                "mail: {smtp: {timeout_seconds: 601}}",
                "1: mail.smtp.timeout_seconds: 601 is out of bounds; write a whole number from 1 to 600",
            ),
            (
                "mail: {from: points}",
                "1: mail.from: \"points\" is no mail address; write finance@example.com or \"Finance <finance@example.com>\", and several as a list",
            ),
            // Not the first one alone.
            (
                "mail: {to: {arrears: ['a@example.com, b@example.com']}}",
                "1: mail.to.arrears[0]: \"a@example.com, b@example.com\" is no mail address; write finance@example.com or \"Finance <finance@example.com>\", and several as a list",
            ),
            (
                "mail: {to: {arrears: ['A <a@example.com>, B <b@example.com>']}}",
                "1: mail.to.arrears[0]: \"A <a@example.com>, B <b@example.com>\" is no mail address; write finance@example.com or \"Finance <finance@example.com>\", and several as a list",
            ),
            (
                "mail: {to: {expiry: [\"A\\r\\nBcc: b@example.com <a@example.com>\"]}}",
                "1: mail.to.expiry[0]: \"A\\r\\nBcc: b@example.com <a@example.com>\" is no mail address; write finance@example.com or \"Finance <finance@example.com>\", and several as a list",
            ),
            (
                "mail: {to: {expiry: ['财务@example.com']}}",
                "1: mail.to.expiry[0]: \"财务@example.com\" is no mail address; write finance@example.com or \"Finance <finance@example.com>\", and several as a list",
            ),
            (
                "mail:\n  to:\n    arrears:\n    - a@example.com\n    - B <b@example.com>\n    - A <A@Example.com>",
                "6: mail.to.arrears[2]: A@Example.com is listed twice; keep one of the two",
            ),
            ("mail: {to: {arears: []}}", "1: mail.to.arears: unknown key; did you mean `arrears`?"),
            (
                "mail: {give_up_hours: 0}",
                "1: mail.give_up_hours: 0 is out of bounds; write a whole number from 1 to 720",
            ),
            ("log: {level: loud}", "1: log.level: \"loud\" is no level; write error, warn, info, debug or trace"),
        ];
        for (text, expected) in cases {
            match load(text) {
                Ok(config) => panic!("accepted: {config:?}\n{text}"),
                Err(error) => assert_eq!(error.to_string(), format!("conf/pointsd.yaml:{expected}"), "for:\n{text}"),
            }
        }
        let missing = load("\nprices: no-such.yaml").unwrap_err().to_string();
        assert!(missing.starts_with("conf/pointsd.yaml:2: prices: conf/no-such.yaml cannot be read: "), "{missing}");
    }

    #[test]
    fn policies_that_make_sense_load() {
        let config = load(
            "jobs:\n  expiry: {catch_up: all, catch_up_limit: 1000, overlap: queue, retries: 0, retry_seconds: 3600, timeout_seconds: 1}\n\
             \x20 defaults: {retries: 3, timeout_seconds: 60}\n\
             \x20 prune: {schedule: '10,30 2,3 * * *', enabled: false, catch_up: none, retries: 16}\n\
             requests: {retries: 8, retry_seconds: 3600}\n",
        )
        .unwrap();
        let Jobs { expiry, prune, .. } = &config.jobs;
        assert_eq!((expiry.settings.catch_up, expiry.settings.overlap), (CatchUp::All(1000), Overlap::Queue));
        assert_eq!(prune.settings.catch_up, CatchUp::None);
        // From `defaults`, unless the job has its own.
        let reconciliation = &config.jobs.reconciliation.settings;
        assert_eq!((reconciliation.retries, reconciliation.timeout), (3, Duration::from_secs(60)));
        assert_eq!((prune.settings.retries, prune.settings.timeout), (16, Duration::from_secs(3600)));
        assert_eq!(config.requests.retries, 8);
    }

    #[test]
    fn a_mail_server_that_makes_sense_loads() {
        let smtp = |text: &str| {
            let text = format!("mail:\n  mode: smtp\n  from: p@example.com\n  smtp: {{{text}}}");
            match load(&text).unwrap().mail.way {
                MailWay::Smtp { smtp, .. } => smtp,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(smtp("host: mail.example.com").port, 587);
        assert_eq!(smtp("host: mail.example.com, security: tls").port, 465);
        assert_eq!(smtp("host: '::1', security: none").port, 25);
        assert_eq!(smtp("host: mail.example.com, port: 2525").port, 2525);
        // A password that was set up for all kinds of configurations is no mistake.
        assert!(smtp("host: mail.example.com, password: x").login.is_none());
        assert_eq!(smtp("host: mail.example.com, ca_file: ca.pem").ca_file.as_deref(), Some(Path::new("conf/ca.pem")));
        let config = load("mail: {mode: directory, from: p@example.com, to: {arrears: ['\"Bob, Finance\" <b@example.com>', a@example.com]}}").unwrap();
        let MailWay::Directory { folder, .. } = config.mail.way else { panic!("{:?}", config.mail) };
        assert_eq!(folder, Path::new("/state/mail"));
        let to: Vec<_> =
            config.mail.to.get("arrears").unwrap().iter().map(|to| (to.name.as_deref(), to.email.as_ref())).collect();
        assert_eq!(to, [(Some("Bob, Finance"), "b@example.com"), (None, "a@example.com")]);
        assert_eq!(config.mail.give_up_after, Duration::from_secs(96 * 3600));
    }

    #[test]
    fn the_mails_password_is_never_shown_and_the_given_one_comes_first() {
        let text =
            "mail:\n  mode: smtp\n  from: p@example.com\n  smtp: {host: localhost, user: points, password: hunter2}";
        for (given, expected) in [(None, "hunter2"), (Some("hunter3"), "hunter3")] {
            let outside = Outside { database_url: None, smtp_password: given.map(str::to_owned) };
            let config = Config::from_text(Source::BuiltIn, text, outside, || Some("/state".into())).unwrap();
            let MailWay::Smtp { smtp, .. } = &config.mail.way else { panic!("{:?}", config.mail) };
            let (user, password) = smtp.login.as_ref().unwrap();
            assert_eq!((user.as_str(), password.reveal()), ("points", expected));
            assert!(!format!("{config:?}").contains("hunter"), "{config:?}");
        }
        for wrong in ["[hunter2]", "{hunter2: 1}", "\"hunter2\\r\\nx\""] {
            let error = load(&text.replace("hunter2", wrong)).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter"), "{error}");
        }
    }

    #[test]
    fn files_that_mails_and_reports_need_are_looked_for() {
        let folder = std::env::temp_dir().join(format!("pointsd-mail-files-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("empty.pem"), "no certificate").unwrap();
        let check = |text: &str| load(text).unwrap().check_files().map_err(|error| error.to_string());
        let smtp = |file: &str| {
            let file = folder.join(file).display().to_string();
            format!("mail:\n  mode: smtp\n  from: p@example.com\n  smtp:\n    host: localhost\n    ca_file: {file}")
        };
        let (missing, empty) = (check(&smtp("no-such.pem")), check(&smtp("empty.pem")));
        let templates = check(&format!("reports: {{templates: {}}}", folder.join("no-such").display()));
        let there = check(&format!("reports: {{templates: {}}}", folder.display()));
        std::fs::remove_dir_all(&folder).unwrap();
        let shown = folder.display();
        let remedy = "name a PEM file, relative to this one, or write null for the system's certificates";
        assert!(
            missing
                .unwrap_err()
                .starts_with(&format!("conf/pointsd.yaml:6: mail.smtp.ca_file: {shown}/no-such.pem cannot be read: "))
        );
        let expected =
            format!("conf/pointsd.yaml:6: mail.smtp.ca_file: {shown}/empty.pem holds no certificate; {remedy}");
        assert_eq!(empty.unwrap_err(), expected);
        let expected = format!("conf/pointsd.yaml:1: reports.templates: {shown}/no-such cannot be read: ");
        assert!(templates.unwrap_err().starts_with(&expected));
        assert_eq!(there, Ok(()));
    }

    #[test]
    fn a_clock_change_is_warned_of() {
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let remedy =
            "if that will not do, write another time of day, or a time_zone whose clocks never change, such as UTC";
        let config =
            load("business: {time_zone: Europe/Paris}\njobs:\n  expiry:\n    schedule: '30 2 * * *'\n").unwrap();
        let expected = [
            "02:30 does not exist on 2027-03-28, when the clocks in Europe/Paris go forward from 02:00 to 03:00: the slot comes due at 03:00 that day",
            "02:30 comes twice on 2027-10-31, when the clocks in Europe/Paris go back from 03:00 to 02:00: the slot comes due the first time only, at 00:30 UTC",
        ]
        .map(|what| format!("conf/pointsd.yaml:4: jobs.expiry.schedule: {what}; {remedy}"));
        assert_eq!(config.warnings(now), expected);
        for quiet in [
            "",
            "jobs: {expiry: {schedule: '30 2 * * *'}}",
            "business: {time_zone: Europe/Paris}\njobs: {expiry: {schedule: '30 2 * * *', enabled: false}}",
            "business: {time_zone: Europe/Paris}\njobs: {expiry: {schedule: '30 2 * * MON'}}",
            "business: {time_zone: Europe/Paris}\njobs: {expiry: {schedule: '30 4 * * *'}}",
        ] {
            assert_eq!(load(quiet).unwrap().warnings(now), Vec::<String>::new(), "{quiet}");
        }
    }

    #[test]
    fn a_wrong_database_url_is_refused_and_never_repeated() {
        for (url, expected) in [
            ("", "is empty"),
            ("mysql://me:secret@host/db", "is no PostgreSQL URL"),
            ("host=db password=secret", "is no PostgreSQL URL"),
            ("postgres:///points?password=secret", "names no host"),
            ("postgres://me:secret@host:port/db", "cannot be read"),
            ("postgres://me:secret@host/db?secret=1", "cannot be read"),
            ("postgres://me:secret@host/db?sslmode=verify-full", "write sslmode=require"),
            ("postgres://me:secret@host/db?sslrootcert=/x", "database.ca_file"),
        ] {
            let in_file = load(&format!("database: {{url: '{url}'}}")).unwrap_err();
            let given = load_with("", Some(url)).unwrap_err();
            assert!(matches!(given, ConfigError::DatabaseUrl { .. }));
            for message in [in_file.to_string(), given.to_string(), format!("{in_file:?} {given:?}")] {
                assert!(!message.contains("secret"), "{message}");
            }
            assert!(in_file.to_string().contains(expected), "{in_file}");
            assert!(given.to_string().contains(expected), "{given}");
        }
        let misplaced = load("database: 'postgres://me:secret@host/db'").unwrap_err();
        assert!(!misplaced.to_string().contains("secret"), "{misplaced}");
    }

    #[test]
    fn a_credential_is_taken_without_its_line_end_and_never_shown() {
        let folder = std::env::temp_dir().join(format!("pointsd-credentials-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let found = |content: Option<&[u8]>| {
            let file = folder.join("database-url");
            match content {
                Some(content) => std::fs::write(&file, content).unwrap(),
                None => std::fs::remove_file(&file).unwrap_or_default(),
            }
            credential(Some(folder.clone().into()), "database-url")
        };
        let nothing: [Option<&[u8]>; 4] = [None, Some(b""), Some(b"\n"), Some(b"\r\n")];
        for content in nothing {
            assert!(found(content).unwrap().is_none(), "{content:?}");
        }
        assert!(credential(None, "database-url").unwrap().is_none());
        for content in ["postgres://me:secret@host/db", "postgres://me:secret@host/db\n"] {
            let config = Config::from_text(
                Source::BuiltIn,
                "database: {url: 'postgres://other/db'}",
                Outside { database_url: found(Some(content.as_bytes())).unwrap(), smtp_password: None },
                || Some("/state".into()),
            );
            let url = config.unwrap().database.url.unwrap();
            assert_eq!(url.reveal(), "postgres://me:secret@host/db");
        }
        let given = found(Some(b"mysql://me:secret@host/db\n")).unwrap();
        let given = Outside { database_url: given, smtp_password: None };
        let wrong = Config::from_text(Source::BuiltIn, "", given, || Some("/state".into())).unwrap_err();
        let no_text = found(Some(b"secret\xff")).err().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let place = format!("the credential database-url ({}/database-url): is no PostgreSQL URL", folder.display());
        assert!(wrong.to_string().starts_with(&place), "{wrong}");
        assert!(matches!(no_text, ConfigError::Unreadable { .. }), "{no_text}");
        for message in [format!("{wrong} {wrong:?}"), format!("{no_text} {no_text:?}")] {
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn files_are_found_and_paths_start_at_their_folder() {
        let folder = std::env::temp_dir().join(format!("pointsd-config-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("pointsd.yaml");
        std::fs::write(&file, "state_dir: data\nprices: prices.yaml\n").unwrap();
        std::fs::write(folder.join("prices.yaml"), "fixed_costs: {scan: 3}\n").unwrap();
        let config = Config::load(Some(&file), None);
        std::fs::write(folder.join("prices.yaml"), "fixed_costs: {scan: -3}\n").unwrap();
        let wrong_prices = Config::load(Some(&file), None);
        std::fs::remove_dir_all(&folder).unwrap();

        let config = config.unwrap();
        assert_eq!(config.source, Source::File(file.clone()));
        assert_eq!(config.prices_source, Source::File(folder.join("prices.yaml")));
        assert_eq!(config.prices.cost("scan", None), Ok(3));
        assert_eq!(config.state_dir, folder.join("data"));
        let message = wrong_prices.unwrap_err().to_string();
        assert!(
            message.ends_with("prices.yaml:1: fixed_costs.scan: must not be negative; write whole points, e.g. 5"),
            "{message}"
        );
        assert!(matches!(Config::load(Some(&file), None), Err(ConfigError::Unreadable { .. })));
    }

    #[test]
    fn the_state_folder_follows_the_environment() {
        type Variables = &'static [(&'static str, &'static str)];
        let cases: &[(Variables, bool, Option<&str>)] = &[
            (&[("STATE_DIRECTORY", "/var/lib/a:/var/lib/b"), ("HOME", "/h")], true, Some("/var/lib/a")),
            (&[("STATE_DIRECTORY", ""), ("HOME", "/h")], false, Some("/h/.local/state/pointsd")),
            (&[("HOME", "/root")], true, Some("/var/lib/pointsd")),
            (&[("XDG_STATE_HOME", "/x"), ("HOME", "/h")], false, Some("/x/pointsd")),
            (&[("XDG_STATE_HOME", "relative"), ("HOME", "/h")], false, Some("/h/.local/state/pointsd")),
            (&[], false, None),
        ];
        for (variables, is_root, expected) in cases {
            let variable = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| OsString::from(value))
            };
            assert_eq!(default_state_dir(variable, *is_root), expected.map(PathBuf::from), "{variables:?}");
        }
        let nowhere = Config::from_text(Source::BuiltIn, "", Outside::default(), || None);
        assert!(matches!(nowhere, Err(ConfigError::NoStateDir)));
    }
}
