//! The roll-forward of closed business days as tables and a chart.

use std::collections::BTreeMap;

use chrono::{Datelike, Days, NaiveDate};

use super::pipeline::Scope;
use crate::books::{self, Booked, MoneyBooked, Movement, Place, RollForward};
use crate::config::{PointKind, PointSource};
use crate::document::{Bar, Cell, Chart, Form, Kind, Section, Table, TableBuilder};
use crate::ledger::Currency;
use crate::messages::{Messages, args};

/// The name of the table of points; that of a day, of several days together or of a month may have a part more.
pub const ROLL_FORWARD: &str = "roll-forward";

/// The most days that have a table each. More days share one.
const MOST_TABLES: usize = 3;

/// The most days that a mail's body lists.
const ROWS_IN_BODY: usize = 10;

/// Closed business days that a report shows.
#[derive(Debug, Default)]
pub(super) struct ReportedDays {
    /// The days, in order.
    pub days: Vec<RollForward>,
    /// The roll-forwards of the months that end with one of them.
    pub months: Vec<RollForward>,
}

impl ReportedDays {
    /// Days together, or the last of them with its chart, and each month that ended.
    pub fn sections(&self, scope: &Scope<'_>, messages: Messages) -> Vec<Section> {
        let Some((last, before)) = self.days.split_last() else { return Vec::new() };
        let mut sections = Vec::new();
        if self.days.len() > MOST_TABLES {
            sections.push(Section::Table(days_table(&self.days, messages)));
            if let Some(together) = books::add_up(&self.days) {
                let name = messages.text("days-together", args![days = self.days.len()]);
                let title = messages.text("roll-forward-of-days", args![days = self.days.len()]);
                sections.push(Section::Table(roll_forward(&together.rows, title, Some("all"), scope, messages)));
                sections.extend(revenue_of(&together, &name, Some("all"), scope, messages));
            }
        } else {
            sections.extend(before.iter().map(|day| {
                let part = day.day.to_string();
                Section::Table(roll_forward(&day.rows, day_title(day, messages), Some(&part), scope, messages))
            }));
            sections.extend(before.iter().filter_map(|day| {
                revenue_of(day, &messages.day(day.day), Some(&day.day.to_string()), scope, messages)
            }));
        }
        sections.extend(of_day(last, scope, messages));
        for month in &self.months {
            let (name, part) = (messages.month(month.day), month.day.format("%Y-%m").to_string());
            let title = messages.text("roll-forward-of-month", args![month = name.as_str()]);
            sections.push(Section::Table(roll_forward(&month.rows, title, Some(&part), scope, messages)));
            sections.extend(revenue_of(month, &name, Some(&part), scope, messages));
        }
        sections
    }
}

/// The first day of a day's month.
pub(super) fn month_begin(day: NaiveDate) -> NaiveDate {
    day.with_day(1).unwrap_or(day)
}

/// Whether the next day is in another month.
pub(super) fn ends_month(day: NaiveDate) -> bool {
    day.checked_add_days(Days::new(1)).is_some_and(|next| next.day() == 1)
}

fn day_title(day: &RollForward, messages: Messages) -> String {
    messages.text("roll-forward-of-day", args![day = messages.day(day.day)])
}

/// A day as a table and a chart.
pub(super) fn of_day(day: &RollForward, scope: &Scope<'_>, messages: Messages) -> Vec<Section> {
    let (title, name) = (day_title(day, messages), messages.day(day.day));
    let chart = waterfall(&day.totals(), title.clone(), &name, messages);
    let table = roll_forward(&day.rows, title, None, scope, messages);
    let mut sections = vec![Section::Table(table), Section::Chart(chart)];
    sections.extend(revenue_of(day, &name, None, scope, messages));
    sections
}

/// The deferred revenue of a day or a span of this name; None without money.
pub(super) fn revenue_of(
    span: &RollForward,
    name: &str,
    part: Option<&str>,
    scope: &Scope<'_>,
    messages: Messages,
) -> Option<Section> {
    let title = messages.text("deferred-revenue-of-day", args![day = name]);
    (!span.money.is_empty()).then(|| Section::Table(deferred_revenue(&span.money, title, part, scope, messages)))
}

/// A roll-forward with a row for each source. `part` is added to the table's name.
pub(super) fn roll_forward(
    rows: &BTreeMap<String, Booked>,
    title: String,
    part: Option<&str>,
    scope: &Scope<'_>,
    messages: Messages,
) -> Table {
    // Arrears are no source: they come last.
    let (arrears, sources): (Vec<_>, Vec<_>) = rows.iter().partition(|(source, _)| *source == books::ARREARS);
    let rows: Vec<(&String, &Booked)> = sources.into_iter().chain(arrears).collect();
    let table = TableBuilder::new(messages, ROLL_FORWARD, title).column(
        "source",
        Kind::Text,
        move |(source, _): &(&String, &Booked)| source_label(source, scope, messages),
    );
    let moved: Vec<Movement> = rows.iter().map(|(_, row)| row.moved).collect();
    let table = movements(table, &moved, messages, |(_, row)| **row);
    let table = if let Some(part) = part { table.named_also(part) } else { table };
    table.rows(&rows).build()
}

/// The label of a source, or of the arrears.
pub(super) fn source_label(source: &str, scope: &Scope<'_>, messages: Messages) -> String {
    match source {
        books::ARREARS => messages.label("arrears-receivable"),
        source => scope.source_label(source),
    }
}

/// A row for each day, of all sources and the arrears together.
fn days_table(days: &[RollForward], messages: Messages) -> Table {
    let rows: Vec<(NaiveDate, Booked)> = days.iter().map(|day| (day.day, day.totals())).collect();
    let moved: Vec<Movement> = rows.iter().map(|(_, row)| row.moved).collect();
    let day = |(day, _): &(NaiveDate, Booked)| *day;
    let table = TableBuilder::new(messages, "business-days", messages.label("business-days"))
        .rows_in_body(ROWS_IN_BODY)
        .column("business-day", Kind::Date, day);
    let table = movements(table, &moved, messages, |(_, row)| *row);
    // Openings and closings of several days have no sum: the first opening and the last closing stand in their place.
    let mut table = table.rows(&rows).build();
    let ends = (rows.first().map(|(_, row)| row.opening), rows.last().map(|(_, row)| row.closing));
    if let (Some(opening), Some(total)) = (ends.0, table.totals.get_mut(1)) {
        *total = Some(opening);
    }
    if let (Some(closing), Some(total)) = (ends.1, table.totals.last_mut()) {
        *total = Some(closing);
    }
    table
}

/// The columns of a roll-forward that add up to its closing.
const MOVEMENTS: [&str; 10] = [
    "opening",
    "brought-in",
    "issued",
    "refunded",
    "applied-to-arrears",
    "used",
    "voided",
    "expired",
    "restored",
    "corrections",
];

/// The note and the columns of a roll-forward. Movements that are rare have a column only if there are any.
fn movements<'a, R: 'a>(
    table: TableBuilder<'a, R>,
    moved: &[Movement],
    messages: Messages,
    booked: impl Fn(&R) -> Booked + Copy + Send + Sync + 'a,
) -> TableBuilder<'a, R> {
    let any = |of: fn(&Movement) -> i64| moved.iter().any(|moved| of(moved) != 0);
    let [refunded, voided, restored] = [any(|of| of.refunded), any(|of| of.voided), any(|of| of.restored)];
    let [opened, corrected] = [any(|of| of.opened), any(|of| of.adjusted)];
    let mut note = messages.label("roll-forward-note");
    let remarks = [
        ("roll-forward-brought-in", opened),
        ("roll-forward-refunded", refunded),
        ("roll-forward-voided", voided),
        ("roll-forward-restored", restored),
    ];
    remarks.iter().filter(|(_, shown)| *shown).for_each(|(key, _)| note.push_str(&messages.label(key)));
    table
        .note(note)
        .summed("opening", move |row| booked(row).opening)
        .when(opened, |table| table.summed("brought-in", move |row| booked(row).moved.opened))
        .summed("issued", move |row| booked(row).moved.recharged)
        .when(refunded, |table| table.summed("refunded", move |row| booked(row).moved.refunded))
        .summed("applied-to-arrears", move |row| -booked(row).moved.settled)
        .summed("used", move |row| -booked(row).moved.consumed)
        .when(voided, |table| table.summed("voided", move |row| -booked(row).moved.voided))
        .summed("expired", move |row| -booked(row).moved.expired)
        .when(restored, |table| table.summed("restored", move |row| booked(row).moved.restored))
        .when(corrected, |table| table.summed("corrections", move |row| booked(row).moved.adjusted))
        .summed("closing", move |row| booked(row).closing)
        .adds_up_to("closing", &MOVEMENTS)
}

/// Deferred revenue by currency and source, with a line of totals for each currency that has several sources.
pub(super) fn deferred_revenue(
    money: &BTreeMap<Place, MoneyBooked>,
    title: String,
    part: Option<&str>,
    scope: &Scope<'_>,
    messages: Messages,
) -> Table {
    let mut rows: Vec<(Currency, String, MoneyBooked)> = Vec::new();
    let mut currencies: Vec<&str> = money.keys().map(|(currency, _)| currency.as_str()).collect();
    currencies.dedup();
    for code in currencies {
        let Some(currency) = Currency::stored(code) else { continue };
        let of_currency = || money.iter().filter(|((of, _), _)| of == code);
        rows.extend(of_currency().map(|((_, source), row)| (currency, scope.source_label(source).to_owned(), *row)));
        if of_currency().count() > 1 {
            let total = of_currency().fold(MoneyBooked::default(), |sum, (_, row)| sum.plus(row));
            rows.push((currency, messages.label("total"), total));
        }
    }
    let any_opening = rows.iter().any(|(_, _, row)| row.moved.opened != 0);
    let any_correction = rows.iter().any(|(_, _, row)| row.moved.corrected != 0);
    let money = |amount: i64, currency: Currency| Cell::Money { amount, digits: currency.digits() };
    let table = TableBuilder::new(messages, "deferred-revenue", title)
        .note(messages.label("deferred-revenue-note"))
        .column("currency", Kind::Text, |(currency, _, _): &(Currency, String, MoneyBooked)| currency.to_string())
        .column("source", Kind::Text, |(_, source, _)| source.clone())
        .column("opening", Kind::Number, move |(currency, _, row)| money(row.opening, *currency))
        .when(any_opening, |table| {
            table.column("brought-in", Kind::Number, move |(currency, _, row)| money(row.moved.opened, *currency))
        })
        .column("sold", Kind::Number, move |(currency, _, row)| money(row.moved.sold, *currency))
        .column("recognised-on-use", Kind::Number, move |(currency, _, row)| money(-row.moved.used, *currency))
        .column("recognised-on-expiry", Kind::Number, move |(currency, _, row)| money(-row.moved.expired, *currency))
        .column("returned", Kind::Number, move |(currency, _, row)| money(-row.moved.returned, *currency))
        .when(any_correction, |table| {
            table.column("corrections", Kind::Number, move |(currency, _, row)| money(row.moved.corrected, *currency))
        })
        .column("closing", Kind::Number, move |(currency, _, row)| money(row.closing, *currency))
        .adds_up_to(
            "closing",
            &["opening", "brought-in", "sold", "recognised-on-use", "recognised-on-expiry", "returned", "corrections"],
        )
        .rows(&rows);
    if let Some(part) = part { table.named_also(part) } else { table }.build()
}

/// The unused points of promotional sources, which have no price. Their value stands beside them if the configuration has a price
/// for them. None without promotional sources.
pub(super) fn promotional_points<'p>(
    unused: impl Iterator<Item = (&'p str, i64)>,
    scope: &Scope<'_>,
    messages: Messages,
) -> Option<Table> {
    let is_promotional = |source: &PointSource| source.kind == Some(PointKind::Promotional);
    if !scope.config.sources.values().any(is_promotional) {
        return None;
    }
    let mut points: BTreeMap<String, i64> = BTreeMap::new();
    for (source, part) in unused.filter(|(source, _)| scope.config.sources.get(*source).is_some_and(is_promotional)) {
        let sum = points.entry(scope.source_label(source)).or_default();
        *sum = sum.saturating_add(part);
    }
    let mut rows: Vec<(String, i64)> = points.into_iter().filter(|(_, points)| *points != 0).collect();
    if rows.len() > 1 {
        let total = rows.iter().fold(0_i64, |sum, (_, points)| sum.saturating_add(*points));
        rows.push((messages.label("total"), total));
    }
    let table = TableBuilder::new(messages, "promotional-points", messages.label("promotional-points"))
        .if_empty(messages.label("promotional-points-none"))
        .column("source", Kind::Text, |(source, _): &(String, i64)| source.clone())
        .column("points", Kind::Number, |(_, points)| *points);
    let table = match scope.config.valuation {
        None => table.note(messages.label("promotional-points-note")),
        Some(valuation) => {
            let (digits, price) =
                (valuation.currency.digits(), format!("{} {}", valuation.per_point, valuation.currency));
            table
                .note(messages.text("promotional-points-valued", args![price = price]))
                .column("currency", Kind::Text, move |_| valuation.currency.to_string())
                .column("value", Kind::Number, move |(_, points)| {
                    valuation.of(*points).map_or(Cell::Empty, |amount| Cell::Money { amount, digits })
                })
        }
    };
    Some(table.rows(&rows).build())
}

/// The bars leave out what was applied to arrears, because its total is zero: points leave a source, and arrears fall by as
/// many. They leave out openings, refunds, voids, restores and corrections if there are none.
pub(super) fn waterfall(totals: &Booked, title: String, span: &str, messages: Messages) -> Chart {
    let Booked { opening, moved, closing } = *totals;
    let bars = [
        ("opening", opening, true),
        ("brought-in", moved.opened, false),
        ("issued", moved.recharged, true),
        ("refunded", moved.refunded, false),
        ("used", -moved.consumed, true),
        ("voided", -moved.voided, false),
        ("expired", -moved.expired, true),
        ("restored", moved.restored, false),
        ("corrections", moved.adjusted, false),
        ("closing", closing, true),
    ];
    let bars = bars.into_iter().filter(|(_, value, always)| *always || *value != 0);
    let bars: Vec<Bar> = bars.map(|(label, value, _)| Bar { label: messages.label(label), value }).collect();
    let figure = |bar: &Bar| messages.text("roll-forward-figure", args![label = bar.label.as_str(), value = bar.value]);
    let figures: Vec<String> = bars.iter().map(figure).collect();
    let figures = figures.join(&messages.label("figure-separator"));
    Chart {
        name: "roll-forward".to_owned(),
        title,
        description: messages.text("roll-forward-in-words", args![day = span, figures = figures]),
        form: Form::Waterfall,
        bars,
    }
}
