//! The command line: its commands, their arguments, and the exit status.

mod account;
mod adopt;
mod arrears;
mod bulk;
mod config;
mod db;
mod demo;
mod export;
mod history;
mod holds;
mod import;
mod jobs;
mod journal;
mod manual;
mod output;
mod period;
mod posting;
mod price;
mod repair;
mod report;
mod reports;
mod requests;
mod restored;
mod returns;
mod run;
mod serve;
mod signals;
mod statement;
mod status;
mod token;

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use clap::{CommandFactory, Parser, Subcommand};
use serde_json::json as object;

use crate::config::{Config, ConfigError};
use crate::database::{self, Database};
use crate::ledger::{self, Rules};
use crate::prices::PriceError;
use crate::time::{parse_time, to_microsecond};

/// The heading of the options that every command has.
const GLOBAL: &str = "Options of every command";

/// The version and the commit that it was built from, where the build knew it.
const VERSION: &str = match option_env!("POINTSD_BUILT_FROM") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

/// Keeps a ledger of expiring points in PostgreSQL, and proves it every night.
#[derive(Parser)]
#[command(
    version = VERSION,
    max_term_width = 100,
    after_help = "Exit status: 0 done; 1 failed (database, input or output); 2 the call or the configuration is \
wrong; 3 done, but the answer is no (a posting was rejected, a check was insufficient, a proof found exceptions)."
)]
pub struct Args {
    /// The configuration file; by default $XDG_CONFIG_HOME/pointsd/pointsd.yaml (not for root), else
    /// /etc/pointsd/pointsd.yaml if it exists, else the built-in settings
    #[arg(long, global = true, value_name = "FILE", env = "POINTSD_CONFIG", hide_env_values = true, help_heading = GLOBAL)]
    config: Option<PathBuf>,
    /// The ledger's database; by default the one of the service on this machine or of the configuration, else a private
    /// PostgreSQL
    #[arg(long, global = true, value_name = "URL", env = "POINTSD_DATABASE_URL", hide_env_values = true, help_heading = GLOBAL)]
    database_url: Option<String>,
    /// Print JSON, for programs; an error is JSON as well, on standard error
    #[arg(long, global = true, help_heading = GLOBAL)]
    json: bool,
    /// Print the answer and errors alone, without remarks and progress
    #[arg(long, short, global = true, conflicts_with = "verbose", help_heading = GLOBAL)]
    quiet: bool,
    /// Log on standard error what the command does
    #[arg(long, short, global = true, help_heading = GLOBAL)]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Recharge(posting::Recharge),
    Consume(posting::Consume),
    Refund(returns::Refund),
    Void(returns::Void),
    Hold(holds::HoldPoints),
    Release(holds::Release),
    Holds(holds::Holds),
    Balance(account::BalanceOf),
    Check(account::CheckOf),
    Batches(history::BatchesOf),
    Entries(history::EntriesOf),
    Statement(statement::StatementOf),
    Statements(statement::Statements),
    #[command(subcommand)]
    Price(price::Price),
    Post(bulk::Post),
    Import(import::Import),
    #[command(subcommand)]
    Adopt(adopt::Adopt),
    Enqueue(requests::Enqueue),
    Requests(requests::Requests),
    Export(export::Export),
    Arrears(arrears::Arrears),
    Run(run::Run),
    Status(status::Status),
    Jobs(jobs::Jobs),
    Runs(jobs::Runs),
    Reports(reports::Reports),
    #[command(subcommand)]
    Report(report::Report),
    #[command(subcommand)]
    Period(period::Period),
    #[command(subcommand)]
    Repair(repair::Repair),
    #[command(subcommand)]
    Db(db::Db),
    #[command(subcommand, name = "config")]
    Config(config::ConfigCommand),
    #[command(subcommand)]
    Token(token::Token),
    Serve(serve::Serve),
    Demo(demo::Demo),
    #[command(hide = true)]
    Manual(manual::Manual),
}

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Done.
    Done,
    /// Done, but the answer is no: a posting was rejected, or an operator must look.
    No,
    /// Stopped early by a signal.
    Interrupted,
    /// Done, but the answer is that no daemon is at work.
    Down,
}

/// The call is wrong. The text is the whole message.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct WrongCall(pub String);

/// The configuration, the clock and the output form of a call.
pub(crate) struct Program {
    pub config: Config,
    pub rules: Arc<Rules>,
    pub json: bool,
    /// Whether to tell which database a command works on, because the call does not name it.
    pub tells_database: bool,
    pub clock: fn() -> DateTime<Utc>,
}

impl Program {
    /// Prints an answer: as JSON for programs, as text for people.
    pub fn answer(&self, value: impl serde::Serialize, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        if self.json { output::json(&value) } else { output::say(text()) }
    }

    /// Prints a list: a line of JSON for each value, or a text.
    pub fn list(&self, values: &[impl serde::Serialize], text: impl FnOnce() -> String) -> anyhow::Result<()> {
        if self.json { values.iter().try_for_each(output::json) } else { output::say(text()) }
    }

    pub fn now_or(&self, at: Option<Time>) -> DateTime<Utc> {
        at.map_or_else(self.clock, Time::into)
    }

    /// Prepares the database and does `work` with it.
    pub async fn with_ledger<T>(&self, work: impl AsyncFnOnce(&Database) -> anyhow::Result<T>) -> anyhow::Result<T> {
        self.with_database(async |database: &Database| {
            database.prepare().await?;
            work(database).await
        })
        .await
    }

    /// Does `work` with the database and then closes it, also after a failure, so that no private server is left running.
    pub async fn with_database<T>(&self, work: impl AsyncFnOnce(&Database) -> anyhow::Result<T>) -> anyhow::Result<T> {
        self.config.check_reach()?;
        let database = Database::open(&database::Settings::from(&self.config)).await?;
        if self.tells_database {
            output::remark(Some(format!("pointsd: on {}", database.describe())));
        }
        let result = work(&database).await;
        let closed = database.close().await;
        let value = result?;
        closed?;
        Ok(value)
    }
}

/// The name of the caller, for pauses and repairs: under sudo the name of the user that called sudo.
pub(crate) fn caller_name() -> String {
    let sudo_user = std::env::var("SUDO_USER").ok().filter(|name| !name.is_empty());
    let user = || nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.name);
    sudo_user.or_else(user).unwrap_or_else(|| format!("user {}", nix::unistd::getuid()))
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

/// Parses the call, runs it, and returns its exit status. Errors are printed on standard error.
pub fn run() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        // Help and the version, too, come as an error.
        Err(error) if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") => {
            return print_error(&WrongCall(error.render().to_string().trim().to_owned()).into(), true);
        }
        Err(error) => error.exit(),
    };
    let json = args.json;
    output::set_quiet(args.quiet);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return print_error(&anyhow::Error::new(error).context("the program cannot start its threads"), json);
        }
    };
    let exit_code = match runtime.block_on(execute(args)) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::No) => ExitCode::from(3),
        Ok(Outcome::Interrupted | Outcome::Down) => ExitCode::FAILURE,
        Err(error) => print_error(&error, json),
    };
    // Does not wait for blocking tasks: one may sit in a read from a terminal, in a slow HTTP call, or on a file system that
    // does not answer. A task whose result matters has been awaited by its caller.
    runtime.shutdown_background();
    exit_code
}

async fn execute(args: Args) -> anyhow::Result<Outcome> {
    // It needs no configuration: the package is built on a machine that has none.
    if let Command::Manual(command) = args.command {
        return command.run(&Args::command());
    }
    let load = || Config::load(args.config.as_deref(), args.database_url.clone());
    let config = load()?;
    let rules = Arc::new(Rules::from(&config));
    let serving = matches!(args.command, Command::Serve(_));
    // A command prints its own answer, so only warnings and errors are logged beside it.
    let level = match config.log.level {
        _ if args.verbose => tracing::Level::DEBUG,
        _ if args.quiet => tracing::Level::ERROR,
        level if serving => level,
        level => level.min(tracing::Level::WARN),
    };
    crate::telemetry::start(level, config.log.format);
    let named = args.config.is_some() || args.database_url.is_some();
    let tells_database = args.verbose || !named && !args.json;
    let program = Program { config, rules, json: args.json, tells_database, clock: now };
    match args.command {
        Command::Recharge(command) => command.run(&program).await,
        Command::Consume(command) => command.run(&program).await,
        Command::Refund(command) => command.run(&program).await,
        Command::Void(command) => command.run(&program).await,
        Command::Hold(command) => command.run(&program).await,
        Command::Release(command) => command.run(&program).await,
        Command::Holds(command) => command.run(&program).await,
        Command::Balance(command) => command.run(&program).await,
        Command::Check(command) => command.run(&program).await,
        Command::Batches(command) => command.run(&program).await,
        Command::Entries(command) => command.run(&program).await,
        Command::Statement(command) => command.run(&program).await,
        Command::Statements(command) => command.run(&program).await,
        Command::Price(command) => command.run(&program),
        Command::Post(command) => command.run(&program).await,
        Command::Import(command) => command.run(&program).await,
        Command::Adopt(command) => command.run(&program).await,
        Command::Enqueue(command) => command.run(&program).await,
        Command::Requests(command) => command.run(&program).await,
        Command::Export(command) => command.run(&program).await,
        Command::Arrears(command) => command.run(&program).await,
        Command::Run(command) => command.run(&program).await,
        Command::Status(command) => command.run(&program).await,
        Command::Jobs(command) => command.run(&program).await,
        Command::Runs(command) => command.run(&program).await,
        Command::Reports(command) => command.run(&program).await,
        Command::Report(command) => command.run(&program).await,
        Command::Period(command) => command.run(&program).await,
        Command::Repair(command) => command.run(&program).await,
        Command::Db(command) => command.run(&program).await,
        Command::Config(command) => command.run(&program),
        Command::Token(command) => command.run(&program).await,
        Command::Serve(command) => command.run(&program, load).await,
        Command::Demo(command) => command.run(&program).await,
        Command::Manual(command) => command.run(&Args::command()),
    }
}

/// Prints an error and its causes, and returns its exit status.
fn print_error(error: &anyhow::Error, json: bool) -> ExitCode {
    let broken = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    };
    // The reader of a pipe closed it: no message is wanted.
    if error.chain().any(broken) {
        return ExitCode::FAILURE;
    }
    let status = if is_wrong_call(error) { 2 } else { 1 };
    let mut causes = crate::errors::reasons(error.as_ref()).into_iter();
    let told = causes.next().unwrap_or_default();
    let causes: Vec<String> = causes.collect();
    let remedy = crate::errors::database_remedy(error.as_ref());
    if json {
        output::complain_json(&object!({ "error": told, "causes": causes, "next": remedy, "exit_status": status }));
    } else {
        output::complain(&format!("pointsd: {told}"));
        for cause in causes {
            output::complain(&format!("  because: {cause}"));
        }
        if let Some(remedy) = remedy {
            output::complain(&format!("  next: {remedy}"));
        }
    }
    ExitCode::from(status)
}

/// Whether the call or the configuration is wrong, so that trying again does not help.
fn is_wrong_call(error: &anyhow::Error) -> bool {
    let is = |test: fn(&(dyn std::error::Error + 'static)) -> bool| error.chain().any(test);
    // Found only when connecting, but still an error of the configuration.
    let unusable = |cause: &(dyn std::error::Error + 'static)| {
        matches!(
            cause.downcast_ref(),
            Some(database::Error::Url(_) | database::Error::CaFileWithoutTls | database::Error::CaFile { .. })
        )
    };
    let in_the_future =
        |cause: &(dyn std::error::Error + 'static)| matches!(cause.downcast_ref(), Some(ledger::Error::Future { .. }));
    is(|cause| cause.is::<ConfigError>() || cause.is::<WrongCall>() || cause.is::<PriceError>())
        || error.chain().any(unusable)
        || error.chain().any(in_the_future)
}

/// The clock of the machine, to the microsecond that PostgreSQL keeps.
fn now() -> DateTime<Utc> {
    to_microsecond(Utc::now())
}
