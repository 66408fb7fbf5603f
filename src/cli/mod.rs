//! The command line: what may be called, with what, and which status it ends with.

mod arrears;
mod bulk;
mod demo;
mod export;
mod jobs;
mod operate;
mod output;
mod posting;
mod price;
mod repair;
mod reports;
mod requests;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError};
use crate::database::{self, Database};
use crate::ledger::Rules;
use crate::prices::PriceError;
use crate::time::{parse_time, to_microsecond};

/// A ledger of points that expire, kept honest in PostgreSQL.
#[derive(Parser)]
#[command(
    version,
    about,
    after_help = "Exit status: 0 done; 1 failed (database, input or output); 2 the call or the \
configuration is wrong; 3 done, and the answer is no (a posting was rejected, a check was insufficient, \
the books do not hold)."
)]
pub struct Args {
    /// The configuration file; by default /etc/pointsd/pointsd.yaml if it exists, else the built-in defaults
    #[arg(long, global = true, value_name = "FILE", env = "POINTSD_CONFIG")]
    config: Option<PathBuf>,
    /// The ledger's database; by default what the configuration says, else a private PostgreSQL
    #[arg(long, global = true, value_name = "URL", env = "POINTSD_DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Recharge(posting::Recharge),
    Consume(posting::Consume),
    Balance(posting::BalanceOf),
    Check(posting::CheckOf),
    #[command(subcommand)]
    Price(price::Price),
    Post(bulk::Post),
    Enqueue(requests::Enqueue),
    Requests(requests::Requests),
    Export(export::Export),
    Arrears(arrears::Arrears),
    Run(run::Run),
    Jobs(jobs::Jobs),
    Runs(jobs::Runs),
    Reports(reports::Reports),
    #[command(subcommand)]
    Repair(repair::Repair),
    #[command(subcommand)]
    Db(operate::Db),
    #[command(subcommand, name = "config")]
    Config(operate::ConfigCommand),
    Serve(operate::Serve),
    Demo(demo::Demo),
}

/// How a command that did not fail ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Done.
    Done,
    /// Done, and the answer is no.
    No,
    /// Ended before it was done, because somebody asked for it.
    Interrupted,
}

/// The call is wrong; what it says is the whole message.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct WrongCall(pub String);

/// What every command works with.
pub(crate) struct Program {
    pub config: Config,
    pub rules: Arc<Rules>,
    pub json: bool,
    pub clock: fn() -> DateTime<Utc>,
}

impl Program {
    pub fn now_or(&self, at: Option<Time>) -> DateTime<Utc> {
        at.map_or_else(self.clock, Time::into)
    }

    /// Does `work` with the ledger's database, its schema up to date.
    pub async fn with_ledger<T>(&self, work: impl AsyncFnOnce(&Database) -> anyhow::Result<T>) -> anyhow::Result<T> {
        self.with_database(async |database: &Database| {
            database.migrate().await?;
            work(database).await
        })
        .await
    }

    /// Does `work` with the database, and closes it however that ended: the private server must not stay behind.
    pub async fn with_database<T>(&self, work: impl AsyncFnOnce(&Database) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let database = Database::open(&database::Settings::from(&self.config)).await?;
        let result = work(&database).await;
        let closed = database.close().await;
        let value = result?;
        closed?;
        Ok(value)
    }
}

/// An instant on the command line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time(DateTime<Utc>);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Time, String> {
        parse_time(text).map(Time)
    }
}

impl From<Time> for DateTime<Utc> {
    fn from(time: Time) -> DateTime<Utc> {
        time.0
    }
}

/// Runs a parsed call to its end and returns the status to exit with. Errors are told on standard error.
pub fn run(args: Args) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tell(&anyhow::Error::new(error).context("the program cannot start its threads")),
    };
    let exit_code = match runtime.block_on(execute(args)) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::No) => ExitCode::from(3),
        Ok(Outcome::Interrupted) => ExitCode::FAILURE,
        Err(error) => tell(&error),
    };
    // Does not wait for blocking tasks: one may sit in a read from a terminal, in a slow HTTP call, or on a file system that
    // does not answer. A task whose result matters has been awaited by its caller.
    runtime.shutdown_background();
    exit_code
}

async fn execute(args: Args) -> anyhow::Result<Outcome> {
    let load = || Config::load(args.config.as_deref(), args.database_url.clone());
    let config = load()?;
    let rules = Arc::new(Rules::from(&config));
    let serving = matches!(args.command, Command::Serve(_));
    // Commands speak for themselves; only what is wrong is worth a log line beside their answer.
    let level = if serving { config.log.level } else { config.log.level.min(tracing::Level::WARN) };
    crate::telemetry::start(level, config.log.format);
    let program = Program { config, rules, json: args.json, clock: now };
    match args.command {
        Command::Recharge(command) => command.run(&program).await,
        Command::Consume(command) => command.run(&program).await,
        Command::Balance(command) => command.run(&program).await,
        Command::Check(command) => command.run(&program).await,
        Command::Price(command) => command.run(&program),
        Command::Post(command) => command.run(&program).await,
        Command::Enqueue(command) => command.run(&program).await,
        Command::Requests(command) => command.run(&program).await,
        Command::Export(command) => command.run(&program).await,
        Command::Arrears(command) => command.run(&program).await,
        Command::Run(command) => command.run(&program).await,
        Command::Jobs(command) => command.run(&program).await,
        Command::Runs(command) => command.run(&program).await,
        Command::Reports(command) => command.run(&program).await,
        Command::Repair(command) => command.run(&program).await,
        Command::Db(command) => command.run(&program).await,
        Command::Config(command) => command.run(&program),
        Command::Serve(command) => command.run(&program, load).await,
        Command::Demo(command) => command.run(&program).await,
    }
}

/// Cancelled by the first Ctrl-C or SIGTERM; a second one ends the program at once, as it would without us.
pub(crate) fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stop = CancellationToken::new();
    let cancelled = stop.clone();
    tokio::spawn(async move {
        tokio::select! { _ = interrupt.recv() => (), _ = terminate.recv() => () }
        cancelled.cancel();
        tokio::select! { _ = interrupt.recv() => (), _ = terminate.recv() => () }
        std::process::exit(1);
    });
    Ok(stop)
}

/// Prints an error and its causes; returns its exit status.
#[expect(clippy::print_stderr, reason = "this is where errors are told")]
fn tell(error: &anyhow::Error) -> ExitCode {
    let is = |test: fn(&(dyn std::error::Error + 'static)) -> bool| error.chain().any(test);
    // Whoever read our output has seen enough.
    if is(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)) {
        return ExitCode::FAILURE;
    }
    eprintln!("pointsd: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
    // What only shows when the database is reached is wrong configuration all the same: trying again will not help.
    let unusable = |cause: &(dyn std::error::Error + 'static)| {
        matches!(cause.downcast_ref(), Some(database::Error::Url { .. } | database::Error::CaFile { .. }))
    };
    let wrong = is(|cause| cause.is::<ConfigError>() || cause.is::<WrongCall>() || cause.is::<PriceError>())
        || error.chain().any(unusable);
    if wrong { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// The clock of the machine, to the microsecond that PostgreSQL keeps.
fn now() -> DateTime<Utc> {
    to_microsecond(Utc::now())
}
