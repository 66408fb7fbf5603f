//! `batches` and `entries`: the history of one account.

use std::str::FromStr;

use chrono::{DateTime, NaiveDate, Utc};
use uuid::Uuid;

use super::output::{grouped, local, table};
use super::{Outcome, Program};
use crate::database::Database;
use crate::fields::parse_user;
use crate::ledger::{Batches, EntryFilter, EntryType, ExportedBatch, ExportedEntry, NEVER, Order, Page, Reader};
use crate::time::{Zone, parse_time, start_of_day, time_text};

/// Lists the batches of an account that have points left, the next to expire first.
#[derive(clap::Args)]
pub struct BatchesOf {
    /// The account's user (a UUID)
    #[arg(value_parser = parse_user)]
    user: Uuid,
    /// List all batches, by their numbers
    #[arg(long)]
    all: bool,
    /// Only what comes after this batch in the list
    #[arg(long, value_name = "BATCH")]
    after: Option<i64>,
    /// How many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

/// Lists the history of an account, the newest entry first, or with --after the oldest first.
#[derive(clap::Args)]
pub struct EntriesOf {
    /// The account's user (a UUID)
    #[arg(value_parser = parse_user)]
    user: Uuid,
    /// The entries after this number, the oldest first; 0 for the whole history
    #[arg(long, value_name = "SEQ", conflicts_with = "before")]
    after: Option<i64>,
    /// The entries before this number, the newest first
    #[arg(long, value_name = "SEQ")]
    before: Option<i64>,
    /// How many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    #[command(flatten)]
    filter: FilterArguments,
}

/// Which entries pass.
#[derive(clap::Args)]
pub(super) struct FilterArguments {
    /// Only entries of what happened at this time or later: RFC 3339, or a business day, which stands for its begin
    #[arg(long, value_name = "TIME")]
    effective_from: Option<Moment>,
    /// Only entries of what happened before this time, or before this day
    #[arg(long, value_name = "TIME")]
    effective_before: Option<Moment>,
    /// Only entries that were recorded at this time or later, or from this day on
    #[arg(long, value_name = "TIME")]
    recorded_from: Option<Moment>,
    /// Only entries that were recorded before this time, or before this day
    #[arg(long, value_name = "TIME")]
    recorded_before: Option<Moment>,
    /// Only entries of this type: recharge, consume, expire, refund, void, restore, adjust or opening
    #[arg(long = "type", value_name = "TYPE", value_parser = type_named)]
    kind: Option<EntryType>,
    /// Only entries of this kind of service, or of this source of points
    #[arg(long, value_name = "TYPE")]
    source_type: Option<String>,
}

impl FilterArguments {
    /// The filter, with days of the business in `zone`.
    pub(super) fn filter(&self, zone: Zone) -> EntryFilter {
        let time = |moment: Option<Moment>| {
            moment.map(|moment| match moment {
                Moment::Time(time) => time,
                Moment::Day(day) => start_of_day(day, zone),
            })
        };
        EntryFilter {
            effective_from: time(self.effective_from),
            effective_before: time(self.effective_before),
            recorded_from: time(self.recorded_from),
            recorded_before: time(self.recorded_before),
            kind: self.kind,
            source_type: self.source_type.clone(),
        }
    }
}

/// A time, or the begin of a business day.
#[derive(Clone, Copy)]
enum Moment {
    Time(DateTime<Utc>),
    Day(NaiveDate),
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Moment, String> {
        match NaiveDate::parse_from_str(text, "%Y-%m-%d") {
            Ok(day) => Ok(Moment::Day(day)),
            Err(_) => parse_time(text).map(Moment::Time),
        }
    }
}

fn type_named(name: &str) -> Result<EntryType, String> {
    EntryType::parse(name).ok_or_else(|| {
        let names = EntryType::ALL.map(EntryType::as_str).join(", ");
        format!("there is no such type; there are {names}")
    })
}

impl BatchesOf {
    /// Prints a page of the list.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let which = if self.all { Batches::All } else { Batches::Open };
        let page = program
            .with_ledger(async |database: &Database| {
                let client = database.connection().await?;
                Ok(Reader::new(&client).batches(self.user, which, self.after, self.limit).await?)
            })
            .await?;
        program.list(&page.items, || {
            if page.items.is_empty() {
                return "No batches.".to_owned();
            }
            let rows: Vec<Vec<String>> = page.items.iter().map(batch_cells).collect();
            let header = ["batch", "source", "points", "left", "expired", "opened", "expires"];
            let all = if self.all { " --all" } else { "" };
            with_more(table(&header, &rows), page.next, |next| {
                format!("pointsd batches {}{all} --after {next}", self.user)
            })
        })?;
        Ok(Outcome::Done)
    }
}

fn batch_cells(batch: &ExportedBatch) -> Vec<String> {
    vec![
        batch.batch.to_string(),
        batch.source.clone(),
        grouped(batch.amount),
        grouped(batch.remaining),
        grouped(batch.expired),
        batch.opened_at.clone(),
        if batch.expires_at == time_text(NEVER) { "never".to_owned() } else { batch.expires_at.clone() },
    ]
}

/// A list, and the call that shows what comes next.
pub(super) fn with_more<T>(list: String, next: Option<T>, call: impl FnOnce(T) -> String) -> String {
    match next {
        Some(next) => format!("{list}\nMore: {}", call(next)),
        None => list,
    }
}

impl EntriesOf {
    /// Prints a part of the history.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let (order, cursor) =
            if self.after.is_some() { (Order::Oldest, self.after) } else { (Order::Newest, self.before) };
        let zone = program.config.time_zone;
        let filter = self.filter.filter(zone);
        let page = program
            .with_ledger(async |database: &Database| {
                let client = database.connection().await?;
                let reader = Reader::new(&client);
                let mut page = Page { items: Vec::new(), next: cursor };
                // Where few entries pass the filter, a page ends before it is full.
                loop {
                    let left = self.limit.saturating_sub(u32::try_from(page.items.len()).unwrap_or(u32::MAX));
                    let read = reader.entries(self.user, &filter, order, page.next, left).await?;
                    page.items.extend(read.items);
                    page.next = read.next;
                    if page.next.is_none() || page.items.len() >= self.limit as usize {
                        return Ok(page);
                    }
                }
            })
            .await?;
        program.list(&page.items, || {
            if page.items.is_empty() {
                return "No entries.".to_owned();
            }
            with_more(entry_table(&page.items, zone), page.next, |next| match order {
                Order::Oldest => format!("pointsd entries {} --after {next}, with the same filters", self.user),
                Order::Newest => format!("pointsd entries {} --before {next}, with the same filters", self.user),
            })
        })?;
        Ok(Outcome::Done)
    }
}

fn entry_table(entries: &[ExportedEntry], zone: Zone) -> String {
    let rows = entries.iter().map(|row| {
        let entry = &row.entry;
        vec![
            entry.seq.to_string(),
            local(entry.at, zone),
            entry.kind.to_string(),
            grouped(row.signed),
            grouped(entry.balance_after),
            entry.source_type.clone(),
            entry.source_id.clone().unwrap_or_default(),
            entry.description.clone().unwrap_or_default(),
        ]
    });
    table(&["seq", "at", "type", "points", "balance", "source", "id", "description"], &rows.collect::<Vec<_>>())
}
