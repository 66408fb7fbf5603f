//! `export`: tables of the ledger, row by row.

use anyhow::Context as _;
use uuid::Uuid;

use super::output::Rows;
use super::{Outcome, Program};
use crate::database::Database;
use crate::ledger::{Exported, Session, Table};
use crate::time::time_text;

/// Exports a table of the ledger from one snapshot, a row a line, in the order of its key.
#[derive(clap::Args)]
pub struct Export {
    /// The table
    table: Name,
    /// Only this user's rows (a UUID)
    #[arg(long)]
    user: Option<Uuid>,
    /// Write comma-separated values. Texts stay as posted, so a spreadsheet may take one for a formula
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Name {
    Accounts,
    Batches,
    Entries,
}

impl Export {
    /// Writes every row to standard output.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let table = match self.table {
            Name::Accounts => Table::Accounts,
            Name::Batches => Table::Batches,
            Name::Entries => Table::Entries,
        };
        program
            .with_ledger(async |database: &Database| {
                let mut session = Session::connect(database).await?;
                let mut rows = Rows::start(program.json, self.csv, columns(table))?;
                let each = |row: Exported| rows.write(|| &row, |_| fields(&row)).context("the rows cannot be written");
                session.export(table, self.user, each).await?;
                let none = if rows.count == 0 { "No rows." } else { "" };
                Ok(rows.finish(|| none.to_owned())?)
            })
            .await?;
        Ok(Outcome::Done)
    }
}

/// Columns in the order of `fields`, with a width that fits nearly every value. A negative width aligns to the right.
fn columns(table: Table) -> &'static [(&'static str, i8)] {
    match table {
        Table::Accounts => &[
            ("user", 36),
            ("balance", -14),
            ("arrears", -12),
            ("total_recharged", -15),
            ("total_consumed", -14),
            ("total_expired", -13),
            ("total_adjusted", -14),
            ("last_seq", -8),
        ],
        Table::Batches => &[
            ("user", 36),
            ("batch", -6),
            ("amount", -12),
            ("remaining", -12),
            ("source", 14),
            ("opened_at", 20),
            ("expires_at", 20),
        ],
        Table::Entries => &[
            ("user", 36),
            ("seq", -6),
            ("type", 8),
            ("amount", -12),
            ("balance_before", -14),
            ("balance_after", -14),
            ("source_type", 14),
            ("source_id", 14),
            ("batch", -5),
            ("allocations", 16),
            ("at", 20),
            ("duration", -8),
            ("description", 30),
            ("recorded_at", 27),
            ("correction", 10),
        ],
    }
}

/// A row's values as text; allocations as `batch:points`, parted by spaces.
fn fields(row: &Exported) -> Vec<String> {
    let or_empty = |value: Option<String>| value.unwrap_or_default();
    match row {
        Exported::Account(row) => vec![
            row.user.to_string(),
            row.balance.to_string(),
            row.arrears.to_string(),
            row.total_recharged.to_string(),
            row.total_consumed.to_string(),
            row.total_expired.to_string(),
            row.total_adjusted.to_string(),
            row.last_seq.to_string(),
        ],
        Exported::Batch(row) => vec![
            row.user.to_string(),
            row.batch.to_string(),
            row.amount.to_string(),
            row.remaining.to_string(),
            row.source.clone(),
            row.opened_at.clone(),
            row.expires_at.clone(),
        ],
        Exported::Entry(row) => {
            let entry = &row.entry;
            let allocations = entry.allocations.iter().map(|part| format!("{}:{}", part.batch, part.points));
            vec![
                entry.user.to_string(),
                entry.seq.to_string(),
                entry.kind.to_string(),
                entry.amount.to_string(),
                entry.balance_before.to_string(),
                entry.balance_after.to_string(),
                entry.source_type.clone(),
                or_empty(entry.source_id.clone()),
                or_empty(entry.batch.map(|batch| batch.to_string())),
                allocations.collect::<Vec<_>>().join(" "),
                time_text(entry.at),
                or_empty(entry.duration.map(|seconds| seconds.normalize().to_string())),
                entry.description.clone(),
                row.recorded_at.clone(),
                or_empty(row.correction.as_ref().map(ToString::to_string)),
            ]
        }
    }
}
