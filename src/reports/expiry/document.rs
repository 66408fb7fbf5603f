//! The document of the report on expiry.

use crate::time::Zone;
use chrono::{DateTime, Utc};

use super::{Compared, Expired, Expiry, Facts, Flows, Held, REPORT, Week};
use crate::document::{Bar, Cell, Chart, Document, Fact, Form, Kind, Section, Table, TableBuilder, Tone};
use crate::ledger::{Orphan, Sweep};
use crate::messages::{Messages, args};
use crate::reports::pipeline::Scope;

/// The most rows of a list in a mail's body.
const ROWS_IN_BODY: usize = 20;

pub(super) fn document(report: &Expiry<'_>, facts: &Facts, scope: &Scope<'_>) -> Document {
    let Expiry { sweep, disproved } = *report;
    let (messages, zone) = (Messages::new(scope.config.language), scope.config.time_zone);
    let overdue = overdue_of_accounts(facts, sweep);
    let differing = facts.differing();
    let tone = match () {
        () if disproved || sweep.orphaned > 0 || !differing.is_empty() => Tone::Bad,
        () if overdue.batches > 0 => Tone::Attention,
        () => Tone::Good,
    };
    let exceptions = [
        disproved.then(|| messages.label("expiry-disproved-text")),
        (sweep.orphaned > 0).then(|| messages.text("expiry-orphans-text", args![accounts = sweep.orphaned])),
        (overdue.batches > 0)
            .then(|| messages.text("expiry-overdue-text", args![points = overdue.points, batches = overdue.batches])),
        difference_text(&differing, zone, messages),
    ];
    let paragraphs: Vec<String> = exceptions.into_iter().flatten().collect();
    let exceptions = Section::Text { title: messages.label("exceptions"), paragraphs };
    // Without unused points there is nothing to draw; the table before says so.
    let has_points = facts.weeks.iter().any(|week| week.held.batches != 0);
    let sections = [
        (tone != Tone::Good).then_some(exceptions),
        Some(Section::Table(expired(facts, scope, messages))),
        facts.bridge.map(|bridge| Section::Table(bridge.table(facts.total_expired().total().points, messages))),
        (sweep.orphaned > 0).then(|| Section::Table(orphans(sweep, messages))),
        Some(Section::Table(outstanding(facts, scope, messages))),
        has_points.then(|| Section::Chart(chart(facts, zone, messages))),
        has_points.then(|| Section::Table(weeks(facts, zone, messages))),
        Some(forecast(facts, messages)),
    ];
    Document {
        title: scope.title("expiry-title"),
        tone,
        tone_rule: messages.label("expiry-tone-rule"),
        headline: scope.headline(&headline(report, facts, overdue, messages)),
        facts: summary(facts, sweep, messages),
        sections: sections.into_iter().flatten().collect(),
        ..scope.blank_document(REPORT)
    }
}

/// The overdue batches that have an account. Those without one are an exception of their own.
fn overdue_of_accounts(facts: &Facts, sweep: &Sweep) -> Held {
    if sweep.orphaned > sweep.orphans.len() as u64 {
        return Held::default();
    }
    sweep.orphans.iter().fold(facts.overdue, |rest, orphan| {
        rest.minus(Held { batches: i64::try_from(orphan.batches).unwrap_or(i64::MAX), points: orphan.points })
    })
}

fn headline(report: &Expiry<'_>, facts: &Facts, overdue: Held, messages: Messages) -> String {
    let Held { batches, points } = facts.total_expired().total();
    let mut text = match batches {
        0 => messages.label("expiry-headline-none"),
        _ => messages.text("expiry-headline", args![points = points, batches = batches]),
    };
    text.push_str(&match facts.within(None, 30).points {
        0 => messages.label("expiry-headline-none-due"),
        points => messages.text("expiry-headline-due", args![points = points]),
    });
    let exceptions = [
        (report.disproved, "expiry-headline-disproved"),
        (report.sweep.orphaned > 0, "expiry-headline-orphans"),
        (overdue.batches > 0, "expiry-headline-overdue"),
        (!facts.differing().is_empty(), "expiry-headline-difference"),
    ];
    exceptions.iter().filter(|(holds, _)| *holds).for_each(|(_, key)| text.push_str(&messages.label(key)));
    text
}

fn summary(facts: &Facts, sweep: &Sweep, messages: Messages) -> Vec<Fact> {
    let fact = |key: &str, value: Cell| Fact { label: messages.label(key), value };
    let expired = facts.total_expired();
    let mut summary = vec![
        fact("expiry-points", expired.total().points.into()),
        fact("expiry-by-sweep", expired.by_sweep.points.into()),
        fact("expiry-on-activity", expired.on_activity.points.into()),
        fact("expiry-batches", expired.total().batches.into()),
        fact("expiry-accounts", sweep.accounts.into()),
        fact("expiry-due-7", facts.within(None, 7).points.into()),
        fact("expiry-due-30", facts.within(None, 30).points.into()),
        fact("expiry-due-90", facts.within(None, 90).points.into()),
    ];
    if expired.restored > 0 {
        summary.insert(4, fact("expiry-restored", expired.restored.into()));
    }
    if facts.overdue.batches > 0 {
        summary.push(fact("expiry-overdue", facts.overdue.points.into()));
    }
    summary
}

fn moment(instant: DateTime<Utc>, zone: Zone, messages: Messages) -> String {
    messages.moment(instant.with_timezone(&zone).naive_local())
}

/// How much of the forecast the entries do not explain, and of which days.
fn difference_text(differing: &[&Compared], zone: Zone, messages: Messages) -> Option<String> {
    let (first, last) = (differing.first()?, differing.last()?);
    let points = differing.iter().fold(0_i64, |sum, day| sum.saturating_add(day.difference.saturating_abs()));
    let (first, last) = (moment(first.ends, zone, messages), moment(last.ends, zone, messages));
    Some(if first == last {
        messages.text("expiry-difference-text", args![points = points, day = first])
    } else {
        messages.text("expiry-differences-text", args![points = points, first = first, last = last])
    })
}

fn expired(facts: &Facts, scope: &Scope<'_>, messages: Messages) -> Table {
    let zone = scope.config.time_zone;
    let note = match facts.since {
        None => messages.label("expiry-first-report"),
        Some(since) => messages.text("expiry-expired-note", args![since = moment(since, zone, messages)]),
    };
    let restores = facts.expired.iter().any(|of| of.restored != 0);
    let restored_note = if restores { messages.label("expiry-restored-note") } else { String::new() };
    TableBuilder::new(messages, "expired", messages.label("expiry-expired"))
        .note(note + &restored_note)
        .if_empty(messages.label("expiry-expired-none"))
        .rows_in_body(ROWS_IN_BODY)
        .column("source", Kind::Text, |of: &Expired| scope.source_label(&of.source))
        .summed("batches", |of| of.total().batches)
        .summed("expiry-by-sweep", |of| of.by_sweep.points)
        .summed("expiry-on-activity", |of| of.on_activity.points)
        .summed("total", |of| of.total().points)
        .when(restores, |table| table.summed("restored", |of| of.restored))
        .adds_up_to("total", &["expiry-by-sweep", "expiry-on-activity"])
        .rows(&facts.expired)
        .build()
}

fn orphans(sweep: &Sweep, messages: Messages) -> Table {
    TableBuilder::new(messages, "without-account", messages.label("expiry-orphans"))
        .rows_in_body(ROWS_IN_BODY)
        .rows_in_all(sweep.orphaned)
        .column("account", Kind::Identifier, |orphan: &Orphan| orphan.user)
        .column("batches", Kind::Number, |orphan| orphan.batches)
        .column("points", Kind::Number, |orphan| orphan.points)
        .rows(&sweep.orphans)
        .build()
}

fn outstanding(facts: &Facts, scope: &Scope<'_>, messages: Messages) -> Table {
    let held = |source: &str| facts.outlook.between(Some(source), None, None);
    let within = |days| move |source: &&str| facts.within(Some(source), days).points;
    let counted_from = facts.days.first().filter(|_| scope.made_up_for().is_some()).map(|first| {
        messages.text("expiry-counted-from", args![from = moment(*first, scope.config.time_zone, messages)])
    });
    TableBuilder::new(messages, "outstanding", messages.label("expiry-outstanding"))
        .note(messages.label("expiry-outstanding-note") + &counted_from.unwrap_or_default())
        .if_empty(messages.label("unused-none"))
        .rows_in_body(ROWS_IN_BODY)
        .column("source", Kind::Text, |source: &&str| scope.source_label(source))
        .summed("batches", move |source| held(source).batches)
        .summed("expiry-outstanding-points", move |source| held(source).points)
        .summed("expiry-within-7", within(7))
        .summed("expiry-within-30", within(30))
        .summed("expiry-within-90", within(90))
        .rows(&facts.outlook.sources())
        .build()
}

fn chart(facts: &Facts, zone: Zone, messages: Messages) -> Chart {
    let label = |week: &Week| match week.is_last {
        true => messages.label("expiry-later"),
        false => week.begins.with_timezone(&zone).format("%m-%d").to_string(),
    };
    Chart {
        name: "points-by-week".to_owned(),
        title: messages.label("expiry-chart"),
        description: messages.label("expiry-chart-description"),
        form: Form::Bars,
        bars: facts.weeks.iter().map(|week| Bar { label: label(week), value: week.held.points }).collect(),
    }
}

fn weeks(facts: &Facts, zone: Zone, messages: Messages) -> Table {
    let begins = move |week: &Week| match week.is_last {
        true => Cell::from(messages.label("expiry-later")),
        false => Cell::from(week.begins.with_timezone(&zone).date_naive()),
    };
    TableBuilder::new(messages, "weeks", messages.label("expiry-weeks"))
        .note(messages.label("expiry-weeks-note"))
        .column("expiry-week", Kind::Date, begins)
        .summed("batches", |week| week.held.batches)
        .summed("points", |week| week.held.points)
        .same_as("points", "outstanding", "expiry-outstanding-points")
        .rows(&facts.weeks)
        .build()
}

/// A row of the comparison: a day of the forecast, or the points that have already expired or were restored on days that are not
/// over.
#[derive(Clone, Copy)]
enum ForecastRow<'a> {
    Day(&'a Compared),
    NotOver { expired: i64, restored: i64 },
}

impl ForecastRow<'_> {
    fn day<T>(&self, value: impl Fn(&Compared) -> T) -> Option<T> {
        match self {
            ForecastRow::Day(day) => Some(value(day)),
            ForecastRow::NotOver { .. } => None,
        }
    }

    fn expired(&self) -> i64 {
        match self {
            ForecastRow::Day(day) => day.flows.expired,
            ForecastRow::NotOver { expired, .. } => *expired,
        }
    }

    fn restored(&self) -> i64 {
        match self {
            ForecastRow::Day(day) => day.flows.restored,
            ForecastRow::NotOver { restored, .. } => *restored,
        }
    }
}

/// The last forecast and the actual figures. Each expired and each restored point of the report is in one of the rows.
fn forecast(facts: &Facts, messages: Messages) -> Section {
    let title = messages.label("expiry-forecast");
    let text = |key: &str| Section::Text { title: title.clone(), paragraphs: vec![messages.label(key)] };
    if facts.since.is_none() {
        return text("expiry-forecast-first");
    }
    // The first row has the points that were due at the last slot already, so it is mostly empty.
    let days = facts.compared.iter().enumerate().filter(|(nth, day)| *nth > 0 || !day.is_empty());
    let mut rows: Vec<ForecastRow> = days.map(|(_, day)| ForecastRow::Day(day)).collect();
    let all = facts.total_expired();
    let expired = rows.iter().fold(all.total().points, |rest, row| rest.saturating_sub(row.expired()));
    let restored = rows.iter().fold(all.restored, |rest, row| rest.saturating_sub(row.restored()));
    let mut note = messages.label("expiry-forecast-note");
    if (expired, restored) != (0, 0) {
        rows.push(ForecastRow::NotOver { expired, restored });
        note.push_str(&messages.label("expiry-forecast-not-over-note"));
    }
    if rows.is_empty() {
        return text("expiry-forecast-none");
    }
    let ends = move |row: &ForecastRow| {
        row.day(|day| day.ends).map_or_else(|| messages.label("expiry-forecast-not-over").into(), Cell::from)
    };
    // These movements are rare, and a mail is narrow.
    let any = |of: fn(&Flows) -> i64| facts.compared.iter().any(|day| of(&day.flows) != 0);
    let table = TableBuilder::new(messages, "forecast", title.clone())
        .note(note)
        .rows_in_body(ROWS_IN_BODY)
        .column("expiry-by", Kind::Instant, ends)
        .summed("expiry-forecast-points", |row: &ForecastRow| row.day(|day| day.forecast))
        .when(any(|of| of.opened), |table| table.summed("brought-in", |row| row.day(|day| day.flows.opened)))
        .summed("expiry-issued-since", |row| row.day(|day| day.flows.issued))
        .when(any(|of| of.refunded), |table| table.summed("refunded", |row| row.day(|day| day.flows.refunded)))
        .summed("expiry-used-since", |row| row.day(|day| day.flows.used))
        .when(any(|of| of.voided), |table| table.summed("voided", |row| row.day(|day| day.flows.voided)))
        .when(all.restored != 0, |table| table.summed("restored", ForecastRow::restored))
        .when(any(|of| of.corrected), |table| table.summed("corrections", |row| row.day(|day| day.flows.corrected)))
        .summed("expiry-expired-points", ForecastRow::expired)
        .summed("expiry-overdue", |row| row.day(|day| day.overdue))
        .summed("unreconciled-difference", |row| row.day(|day| day.difference));
    Section::Table(table.rows(&rows).build())
}
