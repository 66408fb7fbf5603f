//! `export`: tables of the ledger, row by row, and journal lines.

use std::path::PathBuf;

use anyhow::Context as _;
use uuid::Uuid;

use super::account::ThenArguments;
use super::history::FilterArguments;
use super::journal;
use super::output::{self, Rows};
use super::period::Month;
use super::{Outcome, Program, WrongCall};
use crate::database::Database;
use crate::fields::parse_user;
use crate::ledger::{EntryFilter, Exported, Session, Table, Totals};
use crate::time::time_text;

/// Exports a table of the ledger from one snapshot, a row a line, in the order of its key; or journal lines for an accounting system.
///
/// The journal of a month is CSV: a document for each business day, currency and source, whose debits are its credits. Its accounts
/// are those of `finance` in the configuration.
#[derive(clap::Args)]
pub struct Export {
    /// The table, or the journal
    table: Name,
    /// Journal: the month, such as 2026-10; all its days must be closed
    #[arg(long, value_name = "MONTH", required_if_eq("table", "journal"))]
    period: Option<Month>,
    /// Journal: the file to write; by default standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only this user's rows (a UUID)
    #[arg(long, value_parser = parse_user)]
    user: Option<Uuid>,
    #[command(flatten)]
    then: ThenArguments,
    #[command(flatten)]
    filter: FilterArguments,
    /// Write CSV for a spreadsheet, with a byte order mark. A text that would be taken for a formula begins with '
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Name {
    Accounts,
    Batches,
    Entries,
    Journal,
}

impl Export {
    /// Writes every row to standard output.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let then = self.then.then(program)?;
        let filter = self.filter.filter(program.config.time_zone);
        if let (Name::Journal, Some(period)) = (self.table, self.period) {
            if then.is_some() || filter != EntryFilter::default() || self.user.is_some() {
                let error =
                    "a journal is of a whole month and all accounts; leave everything but --period and --output out";
                return Err(WrongCall(error.to_owned()).into());
            }
            return journal::export(period, self.output.as_deref(), self.csv, program).await;
        }
        if self.period.is_some() || self.output.is_some() {
            let error = "--period and --output are for the journal; leave them out, or export the journal";
            return Err(WrongCall(error.to_owned()).into());
        }
        if filter != EntryFilter::default() && !matches!(self.table, Name::Entries) {
            let error = "--effective-from, --effective-before, --recorded-from, --recorded-before, --type and --source-type are for \
                         entries; leave them out, or export entries";
            return Err(WrongCall(error.to_owned()).into());
        }
        let table = match (self.table, then) {
            (Name::Accounts, None) => Table::Accounts,
            (Name::Accounts, Some(then)) => Table::AccountsThen(then),
            (Name::Batches, None) => Table::Batches,
            (Name::Entries, None) => Table::Entries(filter),
            (Name::Batches | Name::Entries | Name::Journal, _) => {
                let error = "--effective-at and --as-of are for accounts; leave them out, or export accounts";
                return Err(WrongCall(error.to_owned()).into());
            }
        };
        program
            .with_ledger(async |database: &Database| {
                let mut session = Session::connect(database).await?;
                let mut rows = Rows::start(program.json, self.csv, columns(&table))?;
                let each = |row: Exported| rows.write(|| &row, |_| fields(&row)).context("the rows cannot be written");
                session.export(&table, self.user, each).await?;
                let (is_empty, as_data) = (rows.count == 0, program.json || self.csv);
                let none = if is_empty { "No rows." } else { "" };
                rows.finish(|| none.to_owned())?;
                output::remark((is_empty && as_data).then(|| "pointsd: no rows".to_owned()));
                Ok(())
            })
            .await?;
        Ok(Outcome::Done)
    }
}

/// Columns in the order of `fields`, with a width that fits nearly every value. A negative width aligns to the right.
fn columns(table: &Table) -> &'static [(&'static str, i8)] {
    match table {
        Table::Accounts => &[
            ("user", 36),
            ("balance", -14),
            ("arrears", -12),
            ("held", -12),
            ("total_recharged", -15),
            ("total_consumed", -14),
            ("total_expired", -13),
            ("total_refunded", -14),
            ("total_voided", -12),
            ("total_adjusted", -14),
            ("total_opening", -13),
            ("last_seq", -8),
        ],
        Table::AccountsThen(_) => &[
            ("user", 36),
            ("balance", -14),
            ("arrears", -12),
            ("total_recharged", -15),
            ("total_consumed", -14),
            ("total_expired", -13),
            ("total_refunded", -14),
            ("total_voided", -12),
            ("total_adjusted", -14),
            ("total_opening", -13),
        ],
        Table::Batches => &[
            ("user", 36),
            ("batch", -6),
            ("amount", -12),
            ("remaining", -12),
            ("expired", -12),
            ("source", 14),
            ("opened_at", 20),
            ("expires_at", 20),
            ("paid", -12),
            ("currency", 8),
        ],
        Table::Entries(_) => &[
            ("user", 36),
            ("seq", -6),
            ("type", 8),
            ("amount", -12),
            ("signed", -12),
            ("balance_before", -14),
            ("balance_after", -14),
            ("source_type", 14),
            ("source_id", 14),
            ("batch", -5),
            ("allocations", 16),
            ("at", 20),
            ("duration", -8),
            ("description", 30),
            ("refers_to", -9),
            ("recorded_at", 27),
            ("correction", 10),
            ("paid", -12),
            ("currency", 8),
            ("allocated_paid", 16),
        ],
    }
}

/// A row's values as text; allocations as `batch:points`, parted by spaces.
fn fields(row: &Exported) -> Vec<String> {
    let or_empty = |value: Option<String>| value.unwrap_or_default();
    match row {
        Exported::Account(row) => {
            let first = [row.user.to_string(), row.balance.to_string(), row.arrears.to_string(), row.held.to_string()];
            first.into_iter().chain(totals(&row.totals)).chain([row.last_seq.to_string()]).collect()
        }
        Exported::AccountThen(row) => {
            let first = [row.user.to_string(), row.balance.to_string(), row.arrears.to_string()];
            first.into_iter().chain(totals(&row.totals)).collect()
        }
        Exported::Batch(row) => vec![
            row.user.to_string(),
            row.batch.to_string(),
            row.amount.to_string(),
            row.remaining.to_string(),
            row.expired.to_string(),
            row.source.clone(),
            row.opened_at.clone(),
            row.expires_at.clone(),
            or_empty(row.paid.map(|paid| paid.to_string())),
            or_empty(row.currency.map(|currency| currency.to_string())),
        ],
        Exported::Entry(row) => {
            let entry = &row.entry;
            let released = entry.allocations.iter().filter_map(|part| Some(format!("{}:{}", part.batch, part.paid?)));
            let allocations = entry.allocations.iter().map(|part| format!("{}:{}", part.batch, part.points));
            vec![
                entry.user.to_string(),
                entry.seq.to_string(),
                entry.kind.to_string(),
                entry.amount.to_string(),
                row.signed.to_string(),
                entry.balance_before.to_string(),
                entry.balance_after.to_string(),
                entry.source_type.clone(),
                or_empty(entry.source_id.clone()),
                or_empty(entry.batch.map(|batch| batch.to_string())),
                allocations.collect::<Vec<_>>().join(" "),
                time_text(entry.at),
                or_empty(entry.duration.map(|seconds| seconds.normalize().to_string())),
                or_empty(entry.description.clone()),
                or_empty(entry.refers_to.map(|seq| seq.to_string())),
                row.recorded_at.clone(),
                or_empty(row.correction.as_ref().map(ToString::to_string)),
                or_empty(entry.paid.map(|paid| paid.to_string())),
                or_empty(entry.currency.map(|currency| currency.to_string())),
                released.collect::<Vec<_>>().join(" "),
            ]
        }
    }
}

fn totals(totals: &Totals) -> [String; 7] {
    [
        totals.total_recharged,
        totals.total_consumed,
        totals.total_expired,
        totals.total_refunded,
        totals.total_voided,
        totals.total_adjusted,
        totals.total_opening,
    ]
    .map(|points| points.to_string())
}
