//! `statement` and `statements`: what happened to accounts in days of the business, for their customers.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use chrono::NaiveDate;
use serde_json::json as object;
use uuid::Uuid;

use super::output::{self, counted, grouped};
use super::{Outcome, Program, WrongCall};
use crate::config::Config;
use crate::database::Database;
use crate::fields::parse_user;
use crate::language::Language;
use crate::ledger::{self, CUTOFF_LIMIT, Reader, Span, Totals};
use crate::private_files::{Folder, OWNER_ONLY};
use crate::reports::statement::{Form, OfDays};
use crate::time::Days;

/// The most entries of a statement, and the most transactions of an earlier service.
const MOST_ENTRIES: u32 = 100_000;

/// Shows what happened to an account in days of the business: opening balance, entries, closing balance, open batches.
///
/// The days are those on which entries were recorded. So a statement of days that are over never changes, and the next one begins
/// where it ends. What a service posted before its tables were taken over stands in a section of its own.
#[derive(clap::Args)]
pub struct StatementOf {
    /// The account's user (a UUID)
    #[arg(value_parser = parse_user)]
    user: Uuid,
    /// The first day, such as 2026-10-01; by default the first of the month of the last day
    #[arg(long, value_name = "DAY")]
    from: Option<NaiveDate>,
    /// The last day, which belongs to the statement; by default today
    #[arg(long, value_name = "DAY")]
    to: Option<NaiveDate>,
    /// Its form; by default text, or json with --json
    #[arg(long, value_enum)]
    format: Option<Form>,
    #[command(flatten)]
    language: LanguageArgument,
    /// Write it to this file, which is replaced
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Writes the statements of a month to a folder: of all accounts that had entries or a balance, a file each. Also of accounts of
/// which only an earlier service had transactions.
///
/// The files are statement-USER-FIRST-LAST, and belong to the caller alone. A later call replaces them.
#[derive(clap::Args)]
pub struct Statements {
    /// The month, such as 2026-10
    #[arg(long, value_name = "MONTH")]
    month: String,
    /// The folder, which is made where it is missing
    #[arg(long, value_name = "FOLDER")]
    output: PathBuf,
    /// Their form
    #[arg(long, value_enum, default_value = "html")]
    format: Form,
    #[command(flatten)]
    language: LanguageArgument,
}

#[derive(clap::Args)]
struct LanguageArgument {
    /// Its language, en or zh-CN; by default that of the business
    #[arg(long, value_name = "LANGUAGE", value_parser = language_named)]
    language: Option<Language>,
}

fn language_named(tag: &str) -> Result<Language, String> {
    Language::named(tag).ok_or_else(|| "there is no such language; there are en and zh-CN".to_owned())
}

impl StatementOf {
    /// Prints the statement, or writes it to its file.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let form = match (self.format, program.json) {
            (Some(form), true) if form != Form::Json => {
                return Err(WrongCall("--json and another --format: leave one of them out".to_owned()).into());
            }
            (_, true) => Form::Json,
            (form, false) => form.unwrap_or(Form::Text),
        };
        if form == Form::Xlsx && self.output.is_none() && io::stdout().is_terminal() {
            return Err(WrongCall("a workbook cannot be shown here; name a file with --output".to_owned()).into());
        }
        let zone = program.config.time_zone;
        let days = Days::new(self.from, self.to, zone, program.now_or(None)).map_err(WrongCall)?;
        let (statement, balance) = program
            .with_ledger(async |database: &Database| {
                let mut client = database.connection().await?;
                let span = Span::up_to(&client, (days.from, days.before), CUTOFF_LIMIT).await?;
                let statement = ledger::statement(&mut client, self.user, span, MOST_ENTRIES).await?;
                Ok((statement, Reader::new(&client).balance(self.user, span.before).await?))
            })
            .await?;
        if statement.count == 0 && balance.totals == Totals::default() && balance.before.is_none() {
            let user = self.user;
            output::remark(Some(format!(
                "pointsd: {user} has no entries at all; look whether this is the account meant"
            )));
        }
        let statement = OfDays::new(statement, days, zone);
        if form == Form::Json && self.output.is_none() {
            output::json(&statement)?;
            return Ok(Outcome::Done);
        }
        let language = self.language.language.unwrap_or(program.config.language);
        let rendered = statement.render(form, &program.config, language)?;
        match &self.output {
            Some(path) => write_file(path, &rendered)?,
            None => io::stdout().lock().write_all(&rendered)?,
        }
        Ok(Outcome::Done)
    }
}

/// Writes a file that the call has named.
pub(super) fn write_file(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let write = || {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        Folder::open(parent.unwrap_or_else(|| Path::new(".")))?.write(name, content, None)
    };
    write().with_context(|| format!("{} cannot be written; look at its folder", path.display()))
}

/// What was written.
#[derive(Default)]
struct Written {
    statements: u64,
    opening: i128,
    closing: i128,
}

impl Statements {
    /// Writes the files, and prints what their balances add up to.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let days = Days::month(&self.month, program.config.time_zone, program.now_or(None)).map_err(WrongCall)?;
        let (totals, complete) =
            program.with_ledger(async |database: &Database| self.write_all(database, days, program).await).await?;
        let Written { statements, opening, closing } = totals;
        let json = object!({
            "first_day": days.first, "last_day": days.last, "complete": complete, "statements": statements,
            "opening": opening.to_string(), "closing": closing.to_string(), "folder": self.output,
        });
        program.answer(json, || {
            let until = if complete { "" } else { ", up to now" };
            format!(
                "{} of {} to {}{until} in {}: opening {}, closing {}.",
                counted(statements, "statement", "statements"),
                days.first,
                days.last,
                self.output.display(),
                counted(opening, "point", "points"),
                counted(closing, "point", "points")
            )
        })?;
        Ok(Outcome::Done)
    }

    async fn write_all(&self, database: &Database, days: Days, program: &Program) -> anyhow::Result<(Written, bool)> {
        let folder = Folder::make(&self.output, OWNER_ONLY);
        let folder = folder.with_context(|| format!("the folder {} cannot be made", self.output.display()))?;
        let writer = Arc::new(Writer {
            folder,
            form: self.format,
            language: self.language.language.unwrap_or(program.config.language),
            config: program.config.clone(),
            days,
        });
        let mut client = database.connection().await?;
        let span = Span::up_to(&client, (days.from, days.before), CUTOFF_LIMIT).await?;
        let bar = output::waiting("statements");
        let (mut totals, mut after) = (Written::default(), None);
        loop {
            let (statements, next) = ledger::statements(&mut client, after, span, MOST_ENTRIES).await?;
            for statement in &statements {
                totals.statements += 1;
                totals.opening += i128::from(statement.opening);
                totals.closing += i128::from(statement.closing);
            }
            writer.write(statements).await?;
            bar.set_message(format!("{} statements", grouped(totals.statements)));
            match next {
                Some(user) => after = Some(user),
                None => break,
            }
        }
        bar.finish_and_clear();
        Ok((totals, span.complete))
    }
}

/// Writes statements to a folder.
struct Writer {
    folder: Folder,
    form: Form,
    language: Language,
    config: Config,
    days: Days,
}

impl Writer {
    /// On all processors, because rendering takes longer than reading.
    async fn write(self: &Arc<Writer>, statements: Vec<ledger::Statement>) -> anyhow::Result<()> {
        let lanes = std::thread::available_parallelism().map_or(1, usize::from);
        let mut parts: Vec<Vec<ledger::Statement>> = (0..lanes).map(|_| Vec::new()).collect();
        for (nth, statement) in statements.into_iter().enumerate() {
            if let Some(part) = parts.get_mut(nth % lanes) {
                part.push(statement);
            }
        }
        let mut tasks = tokio::task::JoinSet::new();
        for part in parts {
            let writer = Arc::clone(self);
            tasks.spawn_blocking(move || part.into_iter().try_for_each(|statement| writer.write_one(statement)));
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(())
    }

    fn write_one(&self, statement: ledger::Statement) -> anyhow::Result<()> {
        let statement = OfDays::new(statement, self.days, self.config.time_zone);
        let name = format!("{}.{}", statement.file_name(), self.form.extension());
        let content = statement.render(self.form, &self.config, self.language)?;
        let written = self.folder.write(&name, &content, None);
        written.with_context(|| format!("{} cannot be written", self.folder.path().join(&name).display()))
    }
}
