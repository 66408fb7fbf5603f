//! `report`: makes a report that no job keeps.

use std::io::Write as _;

use chrono::{Datelike as _, NaiveDate};
use clap::ValueEnum;
use deadpool_postgres::Object;

use super::output;
use super::{Outcome, Program, WrongCall};
use crate::books::{load_kept_report, month_end};
use crate::database::Database;
use crate::document::{Document, Section};
use crate::render;
use crate::reports::month_end::MonthEnd;
use crate::reports::{self, Pipeline, ROLL_FORWARD};
use crate::scheduler::Store;

/// Makes a report for a span of time, which is neither kept nor mailed.
#[derive(clap::Subcommand)]
pub enum Report {
    /// Prints the roll-forward of business days, late postings, single corrections and breakage
    Period(Period),
}

/// The span and the form.
#[derive(clap::Args)]
pub struct Period {
    /// The first business day, such as 2026-10-01
    from: NaiveDate,
    /// The last business day
    to: NaiveDate,
    /// The form; csv has the roll-forward by source alone
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// The form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Html,
    Xlsx,
    Json,
    Csv,
}

impl Report {
    /// Prints the report.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let Report::Period(period) = self;
        program.with_ledger(async |database: &Database| period.print(database, program).await).await
    }
}

impl Period {
    async fn print(&self, database: &Database, program: &Program) -> anyhow::Result<Outcome> {
        let Period { from, to, .. } = *self;
        if from > to {
            return Err(WrongCall(format!("{from} is after {to}; write the first day first")).into());
        }
        let slot = Store::new(database, program.config.jobs.takeover).now().await?;
        let today = slot.with_timezone(&program.config.time_zone).date_naive();
        if to >= today {
            let what = format!("{to} is not over yet; write a day before {today}");
            return Err(WrongCall(what).into());
        }
        let mut client = Object::take(database.connection().await?);
        let is_month = from.day() == 1 && month_end(from) == Some(to);
        if is_month && load_kept_report(&client, from).await?.is_some() {
            let month = from.format("%Y-%m");
            let kept = format!("`pointsd period show {month}` prints the report that it kept");
            output::remark(Some(format!("pointsd: {month} is closed; this report is computed as of now, {kept}")));
        }
        let pipeline = Pipeline { config: &program.config, slot, run: 0 };
        let made = pipeline.preview(&MonthEnd { from, to }, &mut client).await?;
        print(&made.document, self.format, made.counters.is_open, program)?;
        Ok(if made.counters.is_open || made.counters.changed > 0 { Outcome::No } else { Outcome::Done })
    }
}

fn no_roll_forward(is_open: bool) -> &'static str {
    match is_open {
        true => {
            "no business day of the period is closed, so it has no roll-forward; `pointsd run reconciliation` closes days that \
             are over"
        }
        false => {
            "the ledger has no entries up to the end of the period, so it has no roll-forward; write another period"
        }
    }
}

/// Prints a report in a form. `is_open`: whether a day of it is still to be closed.
pub(super) fn print(document: &Document, format: Format, is_open: bool, program: &Program) -> anyhow::Result<()> {
    let templates = program.config.reports.templates.as_deref();
    let bytes = match format {
        Format::Text => {
            return program.answer(document, || reports::text(&in_full(document), templates).trim_end().to_owned());
        }
        Format::Json => return output::json(document),
        Format::Html => reports::page(&in_full(document), templates).into_bytes(),
        Format::Xlsx => render::xlsx(document)?,
        Format::Csv => {
            let tables = document.sections.iter().filter_map(|section| match section {
                Section::Table(table) => Some(table),
                _ => None,
            });
            let Some(table) = tables.into_iter().find(|table| table.name == ROLL_FORWARD) else {
                return Err(anyhow::anyhow!("{}", no_roll_forward(is_open)));
            };
            render::csv(table, document)?
        }
    };
    let mut out = std::io::stdout().lock();
    out.write_all(&bytes)?;
    Ok(out.flush()?)
}

/// The same with all rows of its tables: no folder or attachment has the others.
fn in_full(document: &Document) -> Document {
    let mut document = document.clone();
    for section in &mut document.sections {
        if let Section::Table(table) = section {
            table.rows_in_body = usize::MAX;
        }
    }
    document
}
