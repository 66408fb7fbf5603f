//! The report on a month or another span of business days: its roll-forward beside the period before, postings that belong to
//! another time, single corrections, and what became of the points by month of issue.

mod document;

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use deadpool_postgres::Transaction;
use serde::{Deserialize, Serialize};

use super::Error;
use super::pipeline::{Report, Scope};
use super::rows_file::RowsFile;
use crate::books::{
    Breakage, ChangedTotal, LatePostings, NotBooked, Period, PeriodEvent, SingleEntry, for_each_single,
    has_entries_before, load_breakage, load_changed_months, load_closed_months, load_late_entries, load_late_postings,
    load_not_booked, month_end,
};
use crate::document::{Document, Table};
use crate::messages::Messages;
use crate::time::Zone;

/// The report's name: that of its job.
pub const REPORT: &str = "month_end";

/// The most entries of a list that a document holds.
const MOST_SINGLE: usize = 1_000;

/// The file with all single entries, if a document cannot hold them.
const FILE: &str = "single-entries.csv";

/// The report on a span of business days.
#[derive(Clone, Copy, Debug)]
pub struct MonthEnd {
    /// The first day.
    pub from: NaiveDate,
    /// The last day.
    pub to: NaiveDate,
}

impl MonthEnd {
    /// The month before that of an instant, which is a slot, so in the zone of its schedule. None at the begin of the calendar.
    pub fn before(instant: DateTime<Utc>, zone: Zone) -> Option<MonthEnd> {
        let to = super::roll_forward::month_begin(instant.with_timezone(&zone).date_naive()).pred_opt()?;
        Some(MonthEnd { from: super::roll_forward::month_begin(to), to: month_end(to)? })
    }
}

/// What the report tells.
pub struct Facts {
    period: Period,
    before: Option<Period>,
    /// Whether entries of the period are in days that are not closed.
    is_open: bool,
    /// The months that are closed.
    closed: BTreeMap<NaiveDate, PeriodEvent>,
    /// The closed months whose totals are not what they were when they were closed.
    changed: BTreeMap<NaiveDate, Vec<ChangedTotal>>,
    parts: Parts,
}

/// What belongs to a period beside its roll-forward.
#[derive(Default)]
struct Parts {
    late: Vec<LatePostings>,
    /// The first of these entries.
    late_entries: Vec<SingleEntry>,
    not_booked: Vec<NotBooked>,
    single: Option<Table>,
    breakage: Vec<Breakage>,
}

impl Parts {
    async fn load(snapshot: &Transaction<'_>, period: &Period, scope: &Scope<'_>) -> Result<Parts, Error> {
        let (client, zone) = (snapshot.client(), scope.config.time_zone);
        let late = load_late_postings(client, zone, period).await?;
        let late_entries = match late.is_empty() {
            true => Vec::new(),
            false => load_late_entries(client, period, MOST_SINGLE as i64).await?,
        };
        Ok(Parts {
            late,
            late_entries,
            not_booked: load_not_booked(client, period).await?,
            single: Some(single_entries(snapshot, period, scope).await?),
            breakage: load_breakage(client, zone, period).await?,
        })
    }
}

impl Facts {
    /// Whether there are entries, but no day of the period is closed.
    fn has_no_figures(&self) -> bool {
        self.is_open && self.period.books.is_none()
    }
}

/// What a run counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// The first and the last day.
    pub from: NaiveDate,
    /// The last day.
    pub to: NaiveDate,
    /// Whether a day of the month is not closed.
    pub is_open: bool,
    /// Whether no day of it is closed, so that there are no figures.
    pub no_figures: bool,
    /// Closed months whose totals have changed since.
    pub changed: u64,
    /// Points issued.
    pub issued: i64,
    /// Points used.
    pub used: i64,
    /// Points expired.
    pub expired: i64,
    /// The net balance at its end.
    pub closing: i64,
}

impl Report for MonthEnd {
    const NAME: &'static str = REPORT;
    type Facts = Facts;
    type Counters = Counters;

    async fn gather(&self, snapshot: &Transaction<'_>, scope: &Scope<'_>) -> Result<Facts, Error> {
        let (client, zone) = (snapshot.client(), scope.config.time_zone);
        let period = Period::load(client, zone, self.from, self.to).await?;
        let before = match period.before() {
            Some((from, to)) => Some(Period::load(client, zone, from, to).await?).filter(Period::is_closed),
            None => None,
        };
        let is_open = !period.is_closed() && has_entries_before(client, period.end).await?;
        // Without a closed day there are no figures, because its last entries may still come.
        let counted = (period.books.is_some() || !is_open).then_some(&period);
        let parts = match counted {
            Some(period) => Parts::load(snapshot, period, scope).await?,
            None => Parts::default(),
        };
        Ok(Facts {
            closed: load_closed_months(client).await?,
            changed: load_changed_months(client).await?,
            parts,
            period,
            before,
            is_open,
        })
    }

    fn document(&self, facts: &Facts, scope: &Scope<'_>) -> Document {
        document::document(facts, scope)
    }

    fn counters(&self, facts: &Facts) -> Counters {
        let totals = facts.period.totals();
        Counters {
            from: self.from,
            to: self.to,
            is_open: facts.is_open,
            no_figures: facts.has_no_figures(),
            changed: facts.changed.len() as u64,
            issued: totals.moved.recharged,
            used: totals.moved.consumed,
            expired: totals.moved.expired,
            closing: totals.closing,
        }
    }

    fn accounts(&self, _: &Facts) -> u64 {
        0
    }
}

/// The corrections, refunds and voids, one by one: the document holds the first ones, and a file all if there are more.
async fn single_entries(snapshot: &Transaction<'_>, period: &Period, scope: &Scope<'_>) -> Result<Table, Error> {
    let messages = Messages::new(scope.config.language);
    let mut table = document::single_table(messages, scope);
    let (mut file, mut all) = (None, 0_u64);
    let mut shown: Vec<SingleEntry> = Vec::new();
    for_each_single(snapshot.client(), period, |entry| {
        all += 1;
        if shown.len() < MOST_SINGLE {
            return shown.push(entry);
        }
        let file = file.get_or_insert_with(|| {
            let mut file = RowsFile::begin(scope.folder.as_deref(), FILE, table.columns(), scope.config);
            shown.iter().for_each(|entry| file.row(&table.cells(entry)));
            file
        });
        file.row(&table.cells(&entry));
    })
    .await?;
    let in_file = file.is_some_and(RowsFile::finish);
    if all > shown.len() as u64 {
        table = table.whole_file(if in_file { FILE } else { "" });
        table = table.note(document::cut_note(shown.len(), all, in_file.then_some(FILE), period, messages));
    }
    Ok(table.rows_in_all(all).rows(&shown).build())
}
