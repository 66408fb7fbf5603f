//! The document of the report on a span of business days.

use chrono::NaiveDate;

use super::{Facts, Parts, REPORT};
use crate::books::{Booked, Breakage, ChangedTotal, LatePostings, NotBooked, Period, SingleEntry};
use crate::document::{Cell, Document, Fact, Kind, Section, Table, TableBuilder, Tone};
use crate::ledger::Currency;
use crate::messages::{Messages, args};
use crate::numbers::grouped_decimal;
use crate::reports::pipeline::Scope;
use crate::reports::roll_forward::{promotional_points, revenue_of, roll_forward, source_label, waterfall};
use crate::time::time_text;

/// The most rows of a list in a mail's body.
const ROWS_IN_BODY: usize = 20;

pub(super) fn document(facts: &Facts, scope: &Scope<'_>) -> Document {
    let messages = Messages::new(scope.config.language);
    let (period, totals) = (&facts.period, facts.period.totals());
    let name = name(period, messages);
    let mut sections = Vec::new();
    if facts.is_open {
        sections.push(not_closed(period, messages));
    }
    if !facts.changed.is_empty() {
        sections.push(changed(facts, scope, messages));
    }
    let title = messages.label(if period.is_month() { "month_end-title" } else { "period-title" });
    let [issued, used, expired] = [totals.moved.recharged, totals.moved.consumed, totals.moved.expired];
    let mut headline = messages.text(
        "period-headline",
        args![period = name.as_str(), issued = issued, used = used, expired = expired, points = totals.closing],
    );
    if facts.has_no_figures() {
        headline = messages.text("period-headline-none", args![period = name.as_str()]);
    } else {
        sections.extend(figures(facts, &totals, &name, scope));
    }
    Document {
        title: scope.dated_title(&messages.text("title-of-period", args![title = title, period = name.as_str()])),
        period: Some(name_for_files(period)),
        tone: match (facts.changed.is_empty(), facts.is_open) {
            (false, _) => Tone::Bad,
            (true, true) => Tone::Attention,
            (true, false) => Tone::Good,
        },
        tone_rule: messages.label("period-tone-rule"),
        headline,
        facts: summary(facts, &totals, messages),
        sections,
        ..scope.blank_document(REPORT)
    }
}

/// The roll-forward of the closed days, and what belongs to them.
fn figures(facts: &Facts, totals: &Booked, name: &str, scope: &Scope<'_>) -> Vec<Section> {
    let messages = Messages::new(scope.config.language);
    let heading = messages.text("roll-forward-of-day", args![day = name]);
    let mut sections = Vec::new();
    if let Some(books) = &facts.period.books {
        sections.push(Section::Table(roll_forward(&books.rows, heading.clone(), None, scope, messages)));
        sections.push(Section::Chart(waterfall(totals, heading, name, messages)));
        sections.extend(revenue_of(books, name, None, scope, messages));
        let closings = books.rows.iter().map(|(source, row)| (source.as_str(), row.closing));
        sections.extend(promotional_points(closings, scope, messages).map(Section::Table));
        sections.push(comparison(facts, totals, messages));
    } else {
        sections.push(Section::Text { title: heading, paragraphs: vec![messages.label("period-nothing")] });
    }
    sections.push(Section::Table(late(facts, messages)));
    if !facts.parts.late_entries.is_empty() {
        sections.push(Section::Table(late_entries(facts, scope, messages)));
    }
    sections.push(Section::Table(not_booked(facts, scope, messages)));
    sections.extend(facts.parts.single.clone().map(Section::Table));
    sections.push(Section::Table(breakage(facts, scope, messages)));
    sections
}

/// `October 2026`, or the first and the last day. The figures of a month that is closed in part are those of its days.
fn name(period: &Period, messages: Messages) -> String {
    let to = period.closed_to.unwrap_or(period.to);
    if period.is_month() && to == period.to {
        return messages.month(period.from);
    }
    if period.from == to {
        return messages.day(to);
    }
    messages.text("period-days", args![from = messages.day(period.from), to = messages.day(to)])
}

/// `2026-10`, or the first and the last day.
fn name_for_files(period: &Period) -> String {
    if period.is_month() {
        return period.from.format("%Y-%m").to_string();
    }
    if period.from == period.to {
        return period.to.to_string();
    }
    format!("{}-{}", period.from, period.to)
}

fn not_closed(period: &Period, messages: Messages) -> Section {
    let text = match period.closed_to {
        Some(day) => messages.text("period-closed-to", args![day = messages.day(day)]),
        None => messages.label("period-not-closed"),
    };
    Section::Text { title: messages.label("exceptions"), paragraphs: vec![text] }
}

/// The closed months that do not say any more what they closed with.
fn changed(facts: &Facts, scope: &Scope<'_>, messages: Messages) -> Section {
    let total = |total: &ChangedTotal| {
        let amount = |number: i64| match &total.currency {
            Some(currency) => {
                let digits = Currency::stored(currency).map_or(0, Currency::digits);
                format!("{} {currency}", grouped_decimal(number, digits))
            }
            None => messages.text("n-points", args![points = number]),
        };
        let (source, kept) = (source_label(&total.source, scope, messages), amount(total.kept));
        match total.now {
            Some(now) if total.is_closing() => {
                messages.text("period-changed-total", args![source = source, kept = kept, now = amount(now)])
            }
            Some(now) => {
                let figure = messages.label(figure_label(total));
                let now = amount(now);
                messages.text("period-changed-figure", args![source = source, figure = figure, kept = kept, now = now])
            }
            None => messages.text("period-changed-open", args![source = source, kept = kept]),
        }
    };
    let month = |(month, totals): (&NaiveDate, &Vec<ChangedTotal>)| {
        let totals = totals.iter().map(total).collect::<Vec<_>>().join(&messages.label("list-separator"));
        messages.text("period-changed", args![month = messages.month(*month), totals = totals])
    };
    Section::Text { title: messages.label("exceptions"), paragraphs: facts.changed.iter().map(month).collect() }
}

/// The name of a column of the roll-forward, in points or in money.
fn figure_label(total: &ChangedTotal) -> &str {
    match (total.figure.as_str(), &total.currency) {
        ("opened", _) => "brought-in",
        ("recharged", _) => "issued",
        ("settled", _) => "applied-to-arrears",
        ("used", Some(_)) => "recognised-on-use",
        ("expired", Some(_)) => "recognised-on-expiry",
        ("consumed", _) => "used",
        ("adjusted" | "corrected", _) => "corrections",
        (figure, _) => figure,
    }
}

fn summary(facts: &Facts, totals: &Booked, messages: Messages) -> Vec<Fact> {
    let fact = |key: &str, value: Cell| Fact { label: messages.label(key), value };
    let (period, last) = (&facts.period, facts.closed.keys().next_back());
    let last = last.map_or_else(|| messages.label("none"), |month| messages.month(*month));
    let mut summary = vec![fact("period-first-day", period.from.into()), fact("period-last-day", period.to.into())];
    if !facts.has_no_figures() {
        let moved = &totals.moved;
        // Signed as in the tables, so that they add up to the closing.
        let lines = [
            ("brought-in", moved.opened),
            ("issued", moved.recharged),
            ("refunded", moved.refunded),
            ("used", moved.consumed.saturating_neg()),
            ("voided", moved.voided.saturating_neg()),
            ("expired", moved.expired.saturating_neg()),
            ("restored", moved.restored),
            ("corrections", moved.adjusted),
        ];
        summary.push(fact("opening", totals.opening.into()));
        summary
            .extend(lines.into_iter().filter(|(_, points)| *points != 0).map(|(key, points)| fact(key, points.into())));
        summary.push(fact("period-closing", totals.closing.into()));
    }
    summary.push(fact("last-closed-month", last.into()));
    summary
}

/// A line of the comparison: its key, the period, the period before.
struct Line {
    key: &'static str,
    points: i64,
    before: i64,
}

/// A figure of a roll-forward.
type Figure = fn(&Booked) -> i64;

/// The totals beside those of the period before.
fn comparison(facts: &Facts, totals: &Booked, messages: Messages) -> Section {
    let title = messages.label("period-comparison");
    let Some(before) = &facts.before else {
        return Section::Text { title, paragraphs: vec![messages.label("period-comparison-none")] };
    };
    let lines: [(&str, Figure); 10] = [
        ("opening", |of| of.opening),
        ("brought-in", |of| of.moved.opened),
        ("issued", |of| of.moved.recharged),
        ("refunded", |of| of.moved.refunded),
        ("used", |of| -of.moved.consumed),
        ("voided", |of| -of.moved.voided),
        ("expired", |of| -of.moved.expired),
        ("restored", |of| of.moved.restored),
        ("corrections", |of| of.moved.adjusted),
        ("closing", |of| of.closing),
    ];
    let then = before.totals();
    let lines = lines.map(|(key, of)| Line { key, points: of(totals), before: of(&then) });
    let shown = |line: &Line| line.key != "brought-in" || (line.points, line.before) != (0, 0);
    let lines: Vec<Line> = lines.into_iter().filter(shown).collect();
    let table = TableBuilder::new(messages, "comparison", title)
        .note(messages.text("period-comparison-note", args![before = name(before, messages)]))
        .column("item", Kind::Text, move |line: &Line| messages.label(line.key))
        .column("period-this", Kind::Number, |line| line.points)
        .column("period-before", Kind::Number, |line| line.before)
        .column("period-change", Kind::Number, |line| line.points.saturating_sub(line.before))
        .adds_up_to("period-this", &["period-before", "period-change"])
        .ends_with_its_sum();
    Section::Table(table.rows(&lines).build())
}

/// The label of an entry's type.
fn kind_label(kind: &str, messages: Messages) -> String {
    let key = match kind {
        "recharge" => "issued",
        "consume" => "used",
        "expire" => "expired",
        "refund" => "refunded",
        "void" => "voided",
        "restore" => "restored",
        "opening" => "brought-in",
        _ => "corrections",
    };
    messages.label(key)
}

fn late(facts: &Facts, messages: Messages) -> Table {
    TableBuilder::new(messages, "recorded-late", messages.label("period-late"))
        .note(messages.label("period-late-note"))
        .if_empty(messages.label("period-late-none"))
        .rows_in_body(ROWS_IN_BODY)
        .column("month", Kind::Text, move |late: &LatePostings| messages.month(late.month))
        .column("movement", Kind::Text, move |late| kind_label(&late.kind, messages))
        .summed("entries", |late| late.entries)
        .summed("points", |late| late.points)
        .column("period-closed-at", Kind::Instant, move |late| facts.closed.get(&late.month).map(|closing| closing.at))
        .rows(&facts.parts.late)
        .build()
}

/// The entries that were recorded late, one by one.
fn late_entries(facts: &Facts, scope: &Scope<'_>, messages: Messages) -> Table {
    let Parts { late, late_entries, .. } = &facts.parts;
    let (shown, all) = (late_entries.len(), late.iter().map(|late| late.entries.unsigned_abs()).sum::<u64>());
    let Period { begin, end, .. } = facts.period;
    let note = match all > shown as u64 {
        true => {
            let [from, to] = [begin, end].map(time_text);
            messages.text("period-late-cut", args![shown = shown, all = all, from = from, to = to])
        }
        false => String::new(),
    };
    let table = TableBuilder::new(messages, "late-entries", messages.label("period-late-entries"));
    entry_columns(table.note(note), true, scope, messages)
        .column("reason", Kind::Text, |entry| entry.why.clone())
        .rows_in_all(all)
        .rows(late_entries)
        .build()
}

fn not_booked(facts: &Facts, scope: &Scope<'_>, messages: Messages) -> Table {
    let any_other = facts.parts.not_booked.iter().any(|due| due.other != 0);
    TableBuilder::new(messages, "due-not-booked", messages.label("period-due"))
        .note(messages.label("period-due-note"))
        .if_empty(messages.label("period-due-none"))
        .column("source", Kind::Text, |due: &NotBooked| scope.source_label(&due.source))
        .summed("batches", |due| due.batches)
        .summed("period-due-held", NotBooked::held)
        .summed("period-due-expired", |due| due.expired)
        .summed("period-due-used", |due| due.used)
        .when(any_other, |table| table.summed("period-due-other", |due| due.other))
        .summed("overdue-not-expired", |due| due.open)
        .adds_up_to(
            "period-due-held",
            &["period-due-expired", "period-due-used", "period-due-other", "overdue-not-expired"],
        )
        .rows(&facts.parts.not_booked)
        .build()
}

/// The table of corrections, refunds and voids, without rows.
pub(super) fn single_table<'a>(messages: Messages, scope: &'a Scope<'_>) -> TableBuilder<'a, SingleEntry> {
    let table = TableBuilder::new(messages, "single-entries", messages.label("period-single"));
    entry_columns(table.if_empty(messages.label("period-single-none")), false, scope, messages)
        .column("period-by", Kind::Text, |entry| entry.by.clone())
        .column("reason", Kind::Text, |entry| entry.why.clone())
}

/// The columns of entries one by one, with or without their effective time.
fn entry_columns<'a>(
    table: TableBuilder<'a, SingleEntry>,
    effective: bool,
    scope: &'a Scope<'_>,
    messages: Messages,
) -> TableBuilder<'a, SingleEntry> {
    table
        .rows_in_body(ROWS_IN_BODY)
        .column("account", Kind::Identifier, |entry: &SingleEntry| entry.user)
        .column("entry", Kind::Number, |entry| entry.seq)
        .column("period-recorded", Kind::Instant, |entry| entry.recorded_at)
        .when(effective, |table| table.column("period-effective", Kind::Instant, |entry| entry.at))
        .column("movement", Kind::Text, move |entry| kind_label(&entry.kind, messages))
        .column("source", Kind::Text, move |entry| match entry.kind.as_str() {
            "adjust" => String::new(),
            _ => source_label(&entry.source, scope, messages),
        })
        .column("points", Kind::Number, |entry| entry.points)
        .column("reference", Kind::Text, |entry| entry.reference.clone())
}

/// Where the entries are that a document does not hold.
pub(super) fn cut_note(shown: usize, all: u64, file: Option<&str>, period: &Period, messages: Messages) -> String {
    let place = file.map_or_else(
        || messages.text("period-in-export", args![from = time_text(period.begin), to = time_text(period.end)]),
        |file| messages.text("period-in-file", args![file = file]),
    );
    messages.text("only-the-first", args![shown = shown, all = all, place = place])
}

fn breakage(facts: &Facts, scope: &Scope<'_>, messages: Messages) -> Table {
    let share = |part: i64, of: &Breakage| (of.opened() != 0).then_some(Cell::Share { part, whole: of.opened() });
    let month = |month: NaiveDate| messages.month(month);
    let any = |figure: fn(&Breakage) -> i64| facts.parts.breakage.iter().any(|of| figure(of) != 0);
    let (refunded, voided) = (any(|of| of.refunded), any(|of| of.voided));
    TableBuilder::new(messages, "breakage", messages.label("period-breakage"))
        .note(messages.label("period-breakage-note"))
        .if_empty(messages.label("period-breakage-none"))
        .rows_in_body(ROWS_IN_BODY)
        .column("period-issued-in", Kind::Text, move |of: &Breakage| month(of.month))
        .column("source", Kind::Text, |of| scope.source_label(&of.source))
        .summed("issued", |of| of.issued)
        .when(refunded, |table| table.summed("refunded", |of| of.refunded).summed("total", Breakage::opened))
        .summed("used", Breakage::used)
        .column("used-percent", Kind::Number, move |of| share(of.used(), of))
        .when(voided, |table| {
            table
                .summed("voided", |of| of.voided)
                .column("voided-percent", Kind::Number, move |of| share(of.voided, of))
        })
        .summed("expired", |of| of.expired)
        .column("expired-percent", Kind::Number, move |of| share(of.expired, of))
        .summed("period-open", |of| of.open)
        .column("open-percent", Kind::Number, move |of| share(of.open, of))
        .adds_up_to(if refunded { "total" } else { "issued" }, &["used", "voided", "expired", "period-open"])
        .rows(&facts.parts.breakage)
        .build()
}
