//! The statement of a customer: what happened to an account in days of the business, as a document.

use std::path::Path;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use super::files;
use crate::config::Config;
use crate::document::{Cell, Document, Fact, Kind, Section, Table, TableBuilder, Tone};
use crate::language::Language;
use crate::ledger::{
    AdoptedHistory, AdoptedTransaction, Entry, EntryType, ExportedEntry, Hold, MOST_HOLDS, Money, NEVER, OpenBatch,
    Statement,
};
use crate::messages::{Messages, args};
use crate::render;
use crate::time::{Days, Zone};

/// The form of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// For a terminal or a mail.
    Text,
    /// A page.
    Html,
    /// A workbook.
    Xlsx,
    /// The entries, from the opening balance to the closing one.
    Csv,
    /// For programs.
    Json,
}

impl Form {
    /// As the API and the command line call it.
    pub fn name(self) -> &'static str {
        match self {
            Form::Text => "text",
            form => form.extension(),
        }
    }

    /// The end of its files' names.
    pub fn extension(self) -> &'static str {
        match self {
            Form::Text => "txt",
            Form::Html => "html",
            Form::Xlsx => "xlsx",
            Form::Csv => "csv",
            Form::Json => "json",
        }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Form::Text => "text/plain; charset=utf-8",
            Form::Html => "text/html; charset=utf-8",
            Form::Xlsx => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            Form::Csv => "text/csv; charset=utf-8",
            Form::Json => "application/json",
        }
    }
}

/// A statement of an account, with its days.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = AccountStatement)]
pub struct OfDays {
    /// The zone of the business.
    pub time_zone: String,
    /// The first day.
    pub first_day: NaiveDate,
    /// The last day.
    pub last_day: NaiveDate,
    /// What happened.
    #[serde(flatten)]
    pub statement: Statement,
}

impl OfDays {
    /// A statement of these days.
    pub fn new(statement: Statement, days: Days, zone: Zone) -> OfDays {
        OfDays { time_zone: zone.name().to_owned(), first_day: days.first, last_day: days.last, statement }
    }

    /// `statement-USER-2026-10-01-2026-10-31`, without an extension.
    pub fn file_name(&self) -> String {
        format!("statement-{}-{}-{}", self.statement.user, self.first_day, self.last_day)
    }

    /// The statement in a form. The same statement gives the same bytes.
    ///
    /// # Errors
    /// Where a workbook or JSON cannot be written; no content should cause this.
    pub fn render(&self, form: Form, config: &Config, language: Language) -> anyhow::Result<Vec<u8>> {
        let words = Words { config, language, messages: Messages::new(language) };
        // Templates of a business are made for its reports.
        let built_in: Option<&Path> = None;
        let document = || words.document(self);
        Ok(match form {
            Form::Text => (files::text(&document(), built_in).trim_end().to_owned() + "\n").into_bytes(),
            Form::Html => files::page(&document(), built_in).into_bytes(),
            Form::Xlsx => render::xlsx(&document())?,
            Form::Csv => render::csv(&words.list(&self.statement), &words.blank(&self.statement))?,
            Form::Json => serde_json::to_vec(self)?,
        })
    }
}

/// What puts a statement into the reader's language.
struct Words<'a> {
    config: &'a Config,
    language: Language,
    messages: Messages,
}

impl Words<'_> {
    fn document(&self, of_days: &OfDays) -> Document {
        let statement = &of_days.statement;
        let mut sections = vec![Section::Table(self.entries(statement)), Section::Table(self.batches(statement))];
        sections.push(match statement.holds.as_deref() {
            Some(holds) => Section::Table(self.holds(holds)),
            None => Section::Text {
                title: self.messages.label("statement-holds"),
                paragraphs: vec![self.messages.label("statement-holds-past")],
            },
        });
        sections.extend(statement.adopted.as_ref().map(|history| Section::Table(self.adopted(history))));
        Document {
            title: self.messages.label("statement-title"),
            headline: self.headline(of_days),
            facts: self.facts(of_days),
            sections,
            ..self.blank(statement)
        }
    }

    fn blank(&self, statement: &Statement) -> Document {
        Document {
            report: "statement".to_owned(),
            language: self.language,
            business: self.config.business.clone(),
            title: String::new(),
            slot: statement.before,
            run: 0,
            as_of: statement.before,
            period: None,
            time_zone: self.config.time_zone.name().to_owned(),
            tone: Tone::None,
            tone_rule: String::new(),
            headline: String::new(),
            facts: Vec::new(),
            sections: Vec::new(),
        }
    }

    fn headline(&self, of_days: &OfDays) -> String {
        let statement = &of_days.statement;
        let at = match statement.complete {
            true => self.messages.day(of_days.last_day),
            false => self.moment(statement.before),
        };
        match statement.closing {
            owed @ ..0 => {
                self.messages.text("statement-headline-arrears", args![at = at, points = owed.saturating_neg()])
            }
            points => self.messages.text("statement-headline", args![at = at, points = points]),
        }
    }

    fn moment(&self, at: DateTime<Utc>) -> String {
        self.messages.moment(at.with_timezone(&self.config.time_zone).naive_local())
    }

    fn facts(&self, of_days: &OfDays) -> Vec<Fact> {
        let (statement, messages) = (&of_days.statement, self.messages);
        let fact = |key: &str, value: Cell| Fact { label: messages.label(key), value };
        let days = [of_days.first_day, of_days.last_day].map(|day| messages.day(day));
        let [first, last] = days;
        let period = match of_days.first_day == of_days.last_day {
            true => first,
            false => messages.text("statement-days", args![first = first, last = last]),
        };
        let changes = &statement.changes;
        let moved = [
            ("total-opening", changes.total_opening),
            ("total-recharged", changes.total_recharged),
            ("total-consumed", changes.total_consumed.saturating_neg()),
            ("total-refunded", changes.total_refunded),
            ("total-voided", changes.total_voided.saturating_neg()),
            ("total-expired", changes.total_expired.saturating_neg()),
            ("total-adjusted", changes.total_adjusted),
        ];
        let mut facts = vec![
            fact("account", statement.user.into()),
            fact("statement-period", period.into()),
            fact("statement-opening", statement.opening.into()),
        ];
        facts
            .extend(moved.into_iter().filter(|(_, points)| *points != 0).map(|(key, points)| fact(key, points.into())));
        facts.push(fact("statement-closing", statement.closing.into()));
        let numbers = match (statement.first_seq, statement.last_seq) {
            (Some(first), Some(last)) if first == last => messages.text("statement-one", args![number = first]),
            (Some(first), Some(last)) => messages.text("statement-numbers", args![first = first, last = last]),
            _ => messages.label("none"),
        };
        facts.push(fact("statement-entries", numbers.into()));
        facts
    }

    fn entries(&self, statement: &Statement) -> Table {
        let (messages, zone) = (self.messages, self.config.time_zone);
        let effective = move |entry: &ExportedEntry| other_day(entry, zone);
        let has_other_days = statement.entries.items.iter().any(|entry| effective(entry).is_some());
        let has_prices = statement.entries.items.iter().any(|row| paid(row).is_some());
        let shown = statement.entries.items.len() as u64;
        let note = match statement.entries.next {
            None => messages.label("statement-note"),
            Some(_) => messages.text("statement-cut", args![shown = shown, all = statement.count]),
        };
        TableBuilder::new(messages, "entries", messages.label("statement-entries"))
            .note(note)
            .if_empty(messages.label("statement-no-entries"))
            .rows_in_all(statement.count.unsigned_abs())
            .column("statement-recorded", Kind::Instant, recorded)
            .column("statement-number", Kind::Number, |row: &ExportedEntry| row.entry.seq)
            .when(has_other_days, |table| table.column("statement-effective", Kind::Date, effective))
            .column("statement-type", Kind::Text, move |row| self.kind(row.entry.kind))
            .column("statement-for", Kind::Text, move |row| self.about(row))
            .when(has_prices, |table| {
                let table = table.column("statement-paid", Kind::Number, |row| paid(row).map(money_cell));
                table.column("currency", Kind::Text, |row| paid(row).map(|paid| paid.currency.to_string()))
            })
            .totalled("points", statement.closing.saturating_sub(statement.opening), |row| row.signed)
            .column("statement-balance", Kind::Number, |row| row.entry.balance_after)
            .rows(&statement.entries.items)
            .build()
    }

    /// The transactions of another service.
    fn adopted(&self, history: &AdoptedHistory) -> Table {
        let messages = self.messages;
        let mut note = messages.label("statement-adopted-note");
        if history.left() > 0 {
            note.push_str(&messages.text("statement-adopted-first", args![shown = history.items.len() as u64]));
        }
        TableBuilder::new(messages, "adopted", messages.label("statement-adopted"))
            .note(note)
            .rows_in_all(history.count.unsigned_abs())
            .column("statement-happened", Kind::Instant, |old: &AdoptedTransaction| old.at)
            .column("statement-type", Kind::Text, move |old| self.old_kind(old))
            .column("statement-for", Kind::Text, move |old| {
                about([self.old_source(old).as_deref(), old.source_id.as_deref(), old.description.as_deref()])
            })
            .column("points", Kind::Number, AdoptedTransaction::signed)
            .column("statement-balance", Kind::Number, |old| old.balance_after)
            .rows(&history.items)
            .build()
    }

    /// The entries as lines of an account: from the opening balance to the closing one. Before them the transactions of another service,
    /// whose points are in a column of their own, so that those of the entries still lead to the closing balance.
    fn list(&self, statement: &Statement) -> Table {
        let messages = self.messages;
        TableBuilder::new(messages, "entries", String::new())
            .column("account", Kind::Identifier, |_: &Line<'_>| statement.user)
            .column("statement-number", Kind::Number, |line| line.entry().map(|row| row.entry.seq))
            .column("statement-recorded", Kind::Instant, move |line| match line {
                Line::Opening => Cell::Instant(statement.from),
                Line::Entry(row) => recorded(row).into(),
                Line::Cut { .. } | Line::Closing => Cell::Instant(statement.before),
                Line::Adopted(_) | Line::AdoptedCut(_) => Cell::Empty,
            })
            .column("statement-happened", Kind::Instant, move |line| match line {
                Line::Entry(row) => Some(row.entry.at),
                Line::Adopted(old) => Some(old.at),
                _ => None,
            })
            .column("statement-type", Kind::Text, move |line| match line {
                Line::Adopted(old) => self.old_kind(old),
                Line::AdoptedCut(left) => messages.text("statement-adopted-rest", args![transactions = *left]),
                Line::Opening => messages.label("statement-opening"),
                Line::Entry(row) => self.kind(row.entry.kind),
                Line::Cut { entries, .. } => messages.text("statement-rest", args![entries = *entries]),
                Line::Closing => messages.label("statement-closing"),
            })
            .column("source", Kind::Text, move |line| match line {
                Line::Entry(row) => self.source_of(&row.entry),
                Line::Adopted(old) => self.old_source(old),
                _ => None,
            })
            .column("statement-reference", Kind::Text, move |line| match line {
                Line::Entry(row) => row.entry.source_id.clone(),
                Line::Adopted(old) => old.source_id.clone(),
                _ => None,
            })
            .column("statement-description", Kind::Text, move |line| match line {
                Line::Entry(row) => row.entry.description.clone(),
                Line::Adopted(old) => old.description.clone(),
                _ => None,
            })
            .column("points", Kind::Number, move |line| match line {
                Line::Entry(row) => Some(row.signed),
                Line::Cut { points, .. } => Some(*points),
                _ => None,
            })
            .column("statement-balance", Kind::Number, move |line| match line {
                Line::Opening => Some(statement.opening),
                Line::Entry(row) => Some(row.entry.balance_after),
                Line::Cut { .. } | Line::Closing => Some(statement.closing),
                Line::Adopted(_) | Line::AdoptedCut(_) => None,
            })
            .column("statement-paid", Kind::Number, |line| line.entry().and_then(paid).map(money_cell))
            .column("currency", Kind::Text, |line| line.entry().and_then(paid).map(|paid| paid.currency.to_string()))
            .when(statement.adopted.is_some(), |table| {
                let table = table.column("statement-adopted-points", Kind::Number, |line| line.adopted()?.signed());
                table.column("statement-adopted-balance", Kind::Number, |line| line.adopted()?.balance_after)
            })
            .rows(&Line::all(statement))
            .build()
    }

    fn batches(&self, statement: &Statement) -> Table {
        let messages = self.messages;
        let note = match statement.overdue {
            0 => String::new(),
            points => messages.text("statement-overdue", args![points = points]),
        };
        TableBuilder::new(messages, "open-batches", messages.label("statement-batches"))
            .note(note)
            .if_empty(messages.label(if statement.complete {
                "statement-no-batches"
            } else {
                "statement-no-batches-now"
            }))
            .column("batch", Kind::Number, |batch: &OpenBatch| batch.batch)
            .column("source", Kind::Text, move |batch| self.source(&batch.source))
            .column("statement-opened", Kind::Instant, |batch| batch.opened_at)
            .column("statement-expires", Kind::Instant, move |batch| match batch.expires_at == NEVER {
                true => messages.label("statement-never").into(),
                false => Cell::Instant(batch.expires_at),
            })
            .summed("statement-left", |batch| batch.remaining)
            .rows(&statement.batches)
            .build()
    }

    fn holds(&self, holds: &[Hold]) -> Table {
        let messages = self.messages;
        let mut note = messages.label("statement-holds-note");
        if holds.len() >= MOST_HOLDS as usize {
            note.push_str(&messages.text("statement-holds-first", args![shown = holds.len() as u64]));
        }
        TableBuilder::new(messages, "holds", messages.label("statement-holds"))
            .note(note)
            .column("statement-for", Kind::Text, move |hold: &Hold| {
                format!("{} · {}", self.source(&hold.source_type), hold.source_id)
            })
            .column("statement-since", Kind::Instant, |hold| hold.at)
            .column("statement-until", Kind::Instant, |hold| hold.until)
            .summed("points", |hold| hold.points)
            .rows(holds)
            .build()
    }

    fn kind(&self, kind: EntryType) -> String {
        self.messages.label(&format!("entry-{}", kind.as_str()))
    }

    fn source(&self, source: &str) -> String {
        self.config.source_label(source, self.language).to_owned()
    }

    /// A debt that was brought in has no source.
    fn source_of(&self, entry: &Entry) -> Option<String> {
        let is_debt = entry.kind == EntryType::Opening && entry.batch.is_none();
        (!is_debt).then(|| self.source(&entry.source_type))
    }

    /// `tts · t1`, and what the caller wrote.
    fn about(&self, row: &ExportedEntry) -> String {
        let entry = &row.entry;
        let source = self.source_of(entry);
        about([source.as_deref(), entry.source_id.as_deref(), entry.description.as_deref()])
    }

    /// The type of another service's transaction; one that the ledger does not know, as it was called there.
    fn old_kind(&self, old: &AdoptedTransaction) -> String {
        match old.kind.as_deref() {
            Some(kind @ ("recharge" | "consume" | "expire")) => self.messages.label(&format!("entry-{kind}")),
            kind => kind.unwrap_or_default().to_owned(),
        }
    }

    fn old_source(&self, old: &AdoptedTransaction) -> Option<String> {
        old.source_type.as_deref().map(|source| self.source(source))
    }
}

fn about(parts: [Option<&str>; 3]) -> String {
    parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ")
}

/// A line of the CSV.
enum Line<'a> {
    Adopted(&'a AdoptedTransaction),
    /// So many transactions more.
    AdoptedCut(i64),
    Opening,
    Entry(&'a ExportedEntry),
    /// So many entries more, and by how much they lead to the closing balance.
    Cut {
        entries: i64,
        points: i64,
    },
    Closing,
}

impl<'a> Line<'a> {
    /// The lines of a statement, in their order.
    fn all(statement: &'a Statement) -> Vec<Line<'a>> {
        let adopted = statement.adopted.iter().flat_map(|history| {
            let cut = Some(history.left()).filter(|left| *left > 0).map(Line::AdoptedCut);
            history.items.iter().map(Line::Adopted).chain(cut)
        });
        let entries = &statement.entries;
        let cut = entries.next.map(|_| {
            let last = entries.items.last().map_or(statement.opening, |row| row.entry.balance_after);
            Line::Cut {
                entries: statement.count.saturating_sub(i64::try_from(entries.items.len()).unwrap_or(i64::MAX)),
                points: statement.closing.saturating_sub(last),
            }
        });
        let shown = entries.items.iter().map(Line::Entry).chain(cut);
        adopted.chain([Line::Opening]).chain(shown).chain([Line::Closing]).collect()
    }

    fn entry(&self) -> Option<&'a ExportedEntry> {
        if let Line::Entry(row) = self { Some(row) } else { None }
    }

    fn adopted(&self) -> Option<&'a AdoptedTransaction> {
        if let Line::Adopted(old) = self { Some(old) } else { None }
    }
}

/// What the customer paid for a recharge; below zero what goes back after a void.
fn paid(row: &ExportedEntry) -> Option<Money> {
    let entry = &row.entry;
    let (amount, currency) = entry.paid.zip(entry.currency)?;
    match entry.kind {
        EntryType::Recharge => Some(Money { amount, currency }),
        EntryType::Void => Some(Money { amount: amount.saturating_neg(), currency }),
        _ => None,
    }
}

fn money_cell(Money { amount, currency }: Money) -> Cell {
    Cell::Money { amount, digits: currency.digits() }
}

fn recorded(row: &ExportedEntry) -> Option<DateTime<Utc>> {
    row.recorded_at.parse().ok()
}

/// The day on which it happened, where that is not the day of its recording.
fn other_day(row: &ExportedEntry, zone: Zone) -> Option<NaiveDate> {
    let day = |at: DateTime<Utc>| at.with_timezone(&zone).date_naive();
    let happened = day(row.entry.at);
    (recorded(row).map(day) != Some(happened)).then_some(happened)
}
