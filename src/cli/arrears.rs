//! `arrears`: lists the accounts that are in arrears now.

use std::io::{self, BufWriter, Write};

use chrono::{DateTime, Utc};
use serde_json::json as object;
use tokio_postgres::IsolationLevel;

use super::output::{counted, grouped, write_aligned};
use super::{Outcome, Program, Time};
use crate::database::Database;
use crate::render::guarded;
use crate::reports::arrears::{self, Age, Owing};
use crate::time::time_text;

/// Lists the accounts in arrears, since when and for how many days; the highest arrears come first.
#[derive(clap::Args)]
pub struct Arrears {
    /// The instant to count the days to (RFC 3339); by default now. The arrears are always those of now
    #[arg(long)]
    at: Option<Time>,
    /// Print comma-separated values under a header. A text that a spreadsheet would take for a formula begins with '
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

/// Why the list was not written to its end.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the accounts in arrears cannot be read")]
    Report(#[from] crate::reports::Error),
    #[error("the rows cannot be written")]
    Output(#[from] io::Error),
    #[error("a row cannot be written as CSV")]
    Csv(#[from] csv::Error),
}

/// The list shows all entries that the snapshot has: none is later than this instant.
const NOW: DateTime<Utc> = DateTime::<Utc>::MAX_UTC;

/// The columns, with a width that nearly every value fits in. A negative width aligns to the right.
const COLUMNS: [(&str, i8); 7] =
    [("user", 36), ("owed", -15), ("since", 27), ("days", -6), ("source_type", 14), ("seq", -8), ("last_posting", 27)];

impl Arrears {
    /// Writes every row to standard output.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let at = program.now_or(self.at);
        program.with_ledger(async |database: &Database| self.write(at, database, program).await).await?;
        Ok(Outcome::Done)
    }

    async fn write(&self, at: DateTime<Utc>, database: &Database, program: &Program) -> anyhow::Result<()> {
        let zone = program.config.time_zone;
        let mut client = database.connection().await?;
        let snapshot = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
        let snapshot = snapshot.start().await?;
        let mut out = BufWriter::new(io::stdout().lock());
        let (mut accounts, mut points) = (0_u64, 0_i64);
        if program.json {
            let each = |owing: Owing| {
                let days = owing.days(at, zone);
                let since = owing.since.as_ref();
                let row = object!({
                    "user": owing.user, "owed": owing.owed,
                    "since": since.map(|since| time_text(since.at)), "days": days, "age": Age::of_days(days),
                    "seq": since.map(|since| since.seq), "source_type": since.map(|since| &since.source_type),
                    "last_posting": owing.last.map(time_text),
                });
                serde_json::to_writer(&mut out, &row).map_err(io::Error::from)?;
                Ok::<_, Error>(out.write_all(b"\n")?)
            };
            arrears::for_each_owing(&snapshot, NOW, each).await?;
        } else if self.csv {
            let mut csv = csv::Writer::from_writer(&mut out);
            csv.write_record(COLUMNS.map(|(name, _)| name))?;
            let each = |owing: Owing| {
                let days = owing.days(at, zone);
                let fields = fields(owing, days, |number| number.to_string());
                Ok::<_, Error>(csv.write_record(fields.iter().map(|field| guarded(field)))?)
            };
            let written = arrears::for_each_owing(&snapshot, NOW, each).await;
            csv.flush()?;
            written?;
        } else {
            let each = |owing: Owing| {
                if accounts == 0 {
                    write_aligned(&mut out, COLUMNS.map(|(name, _)| name.to_owned()), &COLUMNS)?;
                }
                accounts += 1;
                points = points.saturating_add(owing.owed);
                let days = owing.days(at, zone);
                Ok::<_, Error>(write_aligned(&mut out, fields(owing, days, grouped), &COLUMNS)?)
            };
            arrears::for_each_owing(&snapshot, NOW, each).await?;
            match accounts {
                0 => writeln!(out, "No accounts in arrears.")?,
                _ => {
                    let (points, accounts) =
                        (counted(points, "point", "points"), counted(accounts, "account", "accounts"));
                    writeln!(out, "\n{points} in arrears ({accounts}).")?;
                }
            }
        }
        Ok(out.flush()?)
    }
}

fn fields(owing: Owing, days: Option<i64>, number: impl Fn(i64) -> String) -> [String; 7] {
    let text = |value: Option<String>| value.unwrap_or_default();
    let since = owing.since;
    [
        owing.user.to_string(),
        number(owing.owed),
        text(since.as_ref().map(|since| time_text(since.at))),
        text(days.map(&number)),
        text(since.as_ref().map(|since| since.source_type.clone())),
        text(since.as_ref().map(|since| since.seq.to_string())),
        text(owing.last.map(time_text)),
    ]
}
