//! `arrears`: lists the accounts that are in arrears now.

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use serde_json::json as object;

use super::output::{Rows, counted, grouped};
use super::run::in_the_future;
use super::{Outcome, Program, Time};
use crate::database::{Database, snapshot};
use crate::ledger::CLOCK_TOLERANCE;
use crate::reports::arrears::{self, Age, Owing};
use crate::scheduler::Store;
use crate::time::time_text;

/// Lists the accounts in arrears, since when and for how many days; the highest arrears come first.
///
/// `since` and `days` are those of the account, since it fell below zero. The columns `item_…` show its oldest unpaid item: a usage, a
/// void or a debt that was brought in, whose points are not all repaid. Repayments pay the oldest first.
#[derive(clap::Args)]
pub struct Arrears {
    /// The instant to count the days to (RFC 3339); by default now, and never later. The arrears are always those of now
    #[arg(long)]
    at: Option<Time>,
    /// Print CSV for a spreadsheet, with a byte order mark. A text that would be taken for a formula begins with '
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

/// The list shows all entries that the snapshot has: none is later than this instant.
const NOW: DateTime<Utc> = DateTime::<Utc>::MAX_UTC;

/// The columns, with a width that nearly every value fits in. A negative width aligns to the right.
const COLUMNS: [(&str, i8); 12] = [
    ("user", 36),
    ("owed", -15),
    ("since", 27),
    ("days", -6),
    ("source_type", 14),
    ("seq", -8),
    ("last_posting", 27),
    ("item_at", 27),
    ("item_days", -9),
    ("item_source_type", 16),
    ("item_source_id", 14),
    ("item_points", -15),
];

impl Arrears {
    /// Writes every row to standard output.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let at = program.now_or(self.at);
        let zone = program.config.time_zone;
        program
            .with_ledger(async |database: &Database| {
                let now = Store::new(database, program.config.jobs.takeover).now().await?;
                if at > now + CLOCK_TOLERANCE {
                    return Err(in_the_future(at, now, "the arrears are those of now; leave --at out").into());
                }
                let mut client = database.connection().await?;
                let snapshot = snapshot(&mut client).await?;
                let mut rows = Rows::start(program.json, self.csv, &COLUMNS)?;
                let mut points = 0_i64;
                let each = |owing: Owing| {
                    points = points.saturating_add(owing.owed);
                    let days = owing.days(at, zone);
                    let item_days = owing.item.as_ref().map(|item| item.days(at, zone));
                    let fields = |for_csv: bool| match for_csv {
                        true => fields(&owing, days, item_days, |number| number.to_string()).into(),
                        false => fields(&owing, days, item_days, grouped).into(),
                    };
                    rows.write(|| row_json(&owing, days, item_days), fields).context("the rows cannot be written")
                };
                arrears::for_each_owing(snapshot.client(), NOW, (at, zone), each).await?;
                let accounts = rows.count;
                Ok(rows.finish(|| match accounts {
                    0 => "No accounts in arrears.".to_owned(),
                    _ => format!(
                        "\n{} in arrears ({}).",
                        counted(points, "point", "points"),
                        counted(accounts, "account", "accounts")
                    ),
                })?)
            })
            .await?;
        Ok(Outcome::Done)
    }
}

fn row_json(owing: &Owing, days: Option<i64>, item_days: Option<i64>) -> serde_json::Value {
    let (since, item) = (owing.since.as_ref(), owing.item.as_ref());
    object!({
        "user": owing.user, "owed": owing.owed, "since": since.map(|since| since.at), "days": days,
        "age": Age::of_days(days), "seq": since.map(|since| since.seq),
        "source_type": since.map(|since| &since.source_type), "last_posting": owing.last,
        "item": item.map(|item| object!({
            "at": item.at, "days": item_days, "age": Age::of_days(item_days), "seq": item.seq, "type": item.kind,
            "source_type": item.source_type, "source_id": item.source_id, "description": item.description,
            "points": item.points,
        })),
    })
}

fn fields(
    owing: &Owing,
    days: Option<i64>,
    item_days: Option<i64>,
    number: impl Fn(i64) -> String,
) -> [String; COLUMNS.len()] {
    let text = |value: Option<String>| value.unwrap_or_default();
    let (since, item) = (owing.since.as_ref(), owing.item.as_ref());
    [
        owing.user.to_string(),
        number(owing.owed),
        text(since.map(|since| time_text(since.at))),
        text(days.map(&number)),
        text(since.map(|since| since.source_type.clone())),
        text(since.map(|since| since.seq.to_string())),
        text(owing.last.map(time_text)),
        text(item.map(|item| time_text(item.at))),
        text(item_days.map(&number)),
        text(item.map(|item| item.source_type.clone())),
        text(item.and_then(|item| item.source_id.clone())),
        text(item.map(|item| number(item.points))),
    ]
}
