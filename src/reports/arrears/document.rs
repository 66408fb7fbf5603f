//! The document of the report on arrears.

use crate::time::Zone;
use chrono::{DateTime, Utc};

use super::{ALL_ROWS, Age, AgeTotal, ArrearsChange, Closing, Facts, Item, List, Owing, REPORT};
use crate::config::ArrearsLimits;
use crate::document::{Bar, Chart, Document, Fact, Form, Kind, Section, Table, TableBuilder, Tone};
use crate::ledger::REFUND_SOURCE;
use crate::messages::{Messages, args};
use crate::reports::bridges;
use crate::reports::pipeline::Scope;

/// The most rows of a list in a mail's body.
const ROWS_IN_BODY: usize = 20;

pub(super) fn document(facts: &Facts, scope: &Scope<'_>) -> Document {
    let messages = Messages::new(scope.config.language);
    let counters = facts.counters();
    let wrong = counters.unexplained > 0 || counters.undated > 0 || counters.difference != 0;
    let limits = scope.config.reports.arrears;
    let tone = match wrong {
        true => Tone::Bad,
        false if needs_attention(facts.owing.points, facts.last.map(|last| last.owed), limits) => Tone::Attention,
        false => Tone::Good,
    };
    let mut sections = Vec::new();
    // Without arrears there is nothing to draw and no age.
    if facts.owing.count > 0 {
        sections.extend([Section::Chart(chart(facts, messages)), Section::Table(ages(facts, messages))]);
    }
    if wrong {
        sections.push(exceptions(facts, messages));
        sections.push(Section::Table(unexplained(facts, messages)));
    }
    sections.push(Section::Table(all(facts, scope, messages)));
    sections.extend(facts.books.as_ref().map(|books| Section::Table(bridges::net_balance(books, messages))));
    match &facts.last {
        None => sections.push(Section::Text {
            title: messages.label("arrears-changes"),
            paragraphs: vec![messages.label("arrears-first-report")],
        }),
        Some(last) => {
            sections.push(Section::Table(roll_forward(facts, last, scope.config.time_zone, messages)));
            sections.push(Section::Table(new(&facts.new, messages)));
            sections.push(Section::Table(cleared(&facts.cleared, scope, messages)));
        }
    }
    Document {
        title: scope.title("arrears-title"),
        tone,
        tone_rule: messages.text(
            "arrears-tone-rule",
            args![points = limits.attention_points, percent = limits.attention_growth_percent],
        ),
        headline: scope.headline(&headline(facts, wrong, messages)),
        facts: summary(facts, messages),
        sections,
        ..scope.blank_document(REPORT)
    }
}

/// Whether arrears have passed a limit: so many points, or so many percent more than in the last report.
fn needs_attention(points: i64, last: Option<i64>, limits: ArrearsLimits) -> bool {
    let grown = |last: i64| {
        let most = i128::from(last) * (100 + i128::from(limits.attention_growth_percent));
        last > 0 && i128::from(points) * 100 > most
    };
    points > limits.attention_points || last.is_some_and(grown)
}

fn headline(facts: &Facts, wrong: bool, messages: Messages) -> String {
    let (accounts, new, cleared) = (facts.owing.count, facts.new.count, facts.cleared.count);
    let mut text = match accounts {
        0 => messages.label("arrears-headline-none"),
        _ => messages.text("arrears-headline", args![points = facts.owing.points, accounts = accounts]),
    };
    if facts.last.is_some() && (accounts > 0 || cleared > 0) {
        text.push_str(&messages.text("arrears-headline-changes", args![new = new, cleared = cleared]));
    }
    if wrong {
        text.push_str(&messages.label("arrears-headline-difference"));
    }
    text
}

fn summary(facts: &Facts, messages: Messages) -> Vec<Fact> {
    let fact = |key: &str, value| Fact { label: messages.label(key), value };
    let oldest = facts.oldest.map_or_else(|| messages.label("none").into(), Into::into);
    let mut summary = vec![
        fact("arrears-points", facts.owing.points.into()),
        fact("arrears-accounts", facts.owing.count.into()),
        fact("arrears-oldest", oldest),
    ];
    if let Some(last) = &facts.last {
        summary.extend([
            fact("arrears-new-accounts", facts.new.count.into()),
            fact("arrears-cleared-accounts", facts.cleared.count.into()),
            fact("arrears-last-report", last.as_of.into()),
        ]);
    }
    summary
}

fn age_name(age: Age, messages: Messages) -> String {
    messages.label(match age {
        Age::Week => "arrears-age-week",
        Age::Month => "arrears-age-month",
        Age::Quarter => "arrears-age-quarter",
        Age::Older => "arrears-age-older",
        Age::Unknown => "arrears-age-unknown",
    })
}

/// The unknown age only if an account has it.
fn shown_ages(facts: &Facts) -> impl Iterator<Item = &AgeTotal> {
    facts.ages.iter().filter(|total| total.age != Age::Unknown || total.accounts > 0 || total.items != 0)
}

fn chart(facts: &Facts, messages: Messages) -> Chart {
    Chart {
        name: "arrears-by-age".to_owned(),
        title: messages.label("arrears-chart"),
        description: messages.label("arrears-chart-description"),
        form: Form::Bars,
        bars: shown_ages(facts)
            .map(|total| Bar { label: age_name(total.age, messages), value: total.points })
            .collect(),
    }
}

fn ages(facts: &Facts, messages: Messages) -> Table {
    TableBuilder::new(messages, "ages", messages.label("arrears-ages"))
        .note(messages.label("arrears-ages-note"))
        .column("age", Kind::Text, move |total: &AgeTotal| age_name(total.age, messages))
        .summed("accounts", |total| total.accounts)
        .summed("arrears-points-by-account", |total| total.points)
        .summed("arrears-points-by-item", |total| total.items)
        .same_as("arrears-points-by-account", "owing", "arrears-owed")
        .rows(shown_ages(facts))
        .build()
}

/// What an operator must look at.
fn exceptions(facts: &Facts, messages: Messages) -> Section {
    let counters = facts.counters();
    let mut paragraphs = Vec::new();
    if counters.unexplained > 0 {
        paragraphs.push(messages.text("arrears-unexplained-text", args![accounts = counters.unexplained]));
    }
    if counters.undated > 0 {
        paragraphs.push(messages.text("arrears-undated-text", args![accounts = counters.undated]));
    }
    if counters.difference != 0 {
        paragraphs.push(messages.text("arrears-difference-text", args![points = counters.difference.saturating_abs()]));
    }
    Section::Text { title: messages.label("exceptions"), paragraphs }
}

fn unexplained(facts: &Facts, messages: Messages) -> Table {
    let table = TableBuilder::new(messages, "unexplained", messages.label("arrears-unexplained"));
    let mut table = of_accounts(table, &facts.unexplained)
        .column("opening", Kind::Number, |moved| moved.opening)
        .column("arrears-drawn", Kind::Number, |moved| moved.drawn)
        .column("arrears-repaid", Kind::Number, |moved| moved.repaid);
    // Openings and corrections are rare, and a mail is narrow.
    if facts.opened != 0 {
        table = table.column("brought-in", Kind::Number, |moved| moved.opened);
    }
    if facts.has_corrections {
        table = table.column("corrections", Kind::Number, |moved| moved.corrected);
    }
    table
        .column("arrears-expected", Kind::Number, ArrearsChange::expected)
        .column("arrears-actual", Kind::Number, |moved| moved.closing)
        .rows(&facts.unexplained.rows)
        .build()
}

/// The table of all accounts in arrears, without rows. `points` is the total over all accounts.
pub(super) fn owing_table<'a>(messages: Messages, scope: &'a Scope<'_>, points: i64) -> TableBuilder<'a, Owing> {
    let (as_of, zone) = (scope.as_of, scope.config.time_zone);
    TableBuilder::new(messages, "owing", messages.label("arrears-all"))
        .rows_in_body(ROWS_IN_BODY)
        .column("account", Kind::Identifier, |owing: &Owing| owing.user)
        .totalled("arrears-owed", points, |owing| owing.owed)
        .column("arrears-since", Kind::Instant, |owing| owing.since.as_ref().map(|since| since.at))
        .column("days", Kind::Number, move |owing| owing.days(as_of, zone))
        .column("arrears-cause", Kind::Text, move |owing| {
            owing.since.as_ref().map(|since| cause(&since.kind, &since.source_type, scope, messages))
        })
        .column("entry", Kind::Number, |owing| owing.since.as_ref().map(|since| since.seq))
        .column("arrears-last-entry", Kind::Instant, |owing| owing.last)
        .attached_columns(|table| item_columns(table, scope, messages))
}

/// The columns of the oldest unpaid item.
fn item_columns<'a>(
    table: TableBuilder<'a, Owing>,
    scope: &'a Scope<'_>,
    messages: Messages,
) -> TableBuilder<'a, Owing> {
    let (as_of, zone) = (scope.as_of, scope.config.time_zone);
    let item = |owing: &Owing| owing.item.clone();
    table
        .column("arrears-item", Kind::Instant, move |owing| item(owing).map(|item| item.at))
        .column("arrears-item-days", Kind::Number, move |owing| item(owing).map(|item| item.days(as_of, zone)))
        .column("arrears-item-cause", Kind::Text, move |owing| {
            item(owing).map(|Item { kind, source_type, .. }| cause(&kind, &source_type, scope, messages))
        })
        .column("arrears-item-reference", Kind::Text, move |owing| item(owing).and_then(|item| item.source_id))
        .column("arrears-item-description", Kind::Text, move |owing| {
            item(owing).and_then(|item| item.description.clone())
        })
        .column("arrears-item-points", Kind::Number, move |owing| item(owing).map(|item| item.points))
}

fn all(facts: &Facts, scope: &Scope<'_>, messages: Messages) -> Table {
    let (shown, count) = (facts.owing.rows.len(), facts.owing.count);
    let note = match (count > shown as u64, facts.in_file) {
        (false, _) if count == 0 => String::new(),
        (false, _) => messages.label("arrears-all-note"),
        (true, true) => messages.text("arrears-all-in-file", args![shown = shown as u64, file = ALL_ROWS]),
        (true, false) => messages.text("arrears-all-not-in-file", args![shown = shown as u64]),
    };
    owing_table(messages, scope, facts.owing.points)
        .note(note)
        .if_empty(messages.label("arrears-headline-none"))
        .rows_in_all(count)
        .whole_file(if facts.in_file { ALL_ROWS } else { "" })
        .rows(&facts.owing.rows)
        .build()
}

/// What took the account below zero: a service, or points that were taken back.
fn cause(kind: &str, source_type: &str, scope: &Scope<'_>, messages: Messages) -> String {
    match kind {
        "void" => messages.text("arrears-cause-void", args![source = scope.source_label(source_type)]),
        "opening" => messages.label("brought-in"),
        "adjust" => messages.label("correction"),
        _ => source_type.to_owned(),
    }
}

/// From the closing of the last report to this one's: the rows add up to the last.
fn roll_forward(facts: &Facts, last: &Closing, zone: Zone, messages: Messages) -> Table {
    let difference = facts.owing.points.saturating_sub(facts.expected());
    let earlier = last.booked.saturating_sub(last.owed);
    let rows = [
        Some(("arrears-opening", last.owed)),
        (earlier != 0).then_some(("arrears-earlier-difference", earlier)),
        (facts.opened != 0).then_some(("brought-in", facts.opened)),
        Some(("arrears-drawn", facts.drawn)),
        Some(("arrears-repaid", facts.repaid.saturating_neg())),
        facts.has_corrections.then_some(("corrections", facts.corrected)),
        (difference != 0).then_some(("unreconciled-difference", difference)),
        Some(("arrears-closing", facts.owing.points)),
    ];
    let rows: Vec<(&str, i64)> = rows.into_iter().flatten().collect();
    TableBuilder::new(messages, "roll-forward", messages.label("arrears-roll-forward"))
        .note(roll_forward_note(facts, last, zone, messages))
        .column("item", Kind::Text, move |(key, _): &(&str, i64)| messages.label(key))
        .column("points", Kind::Number, |(_, points)| *points)
        .ends_with_its_sum()
        .same_as("points", "ages", "arrears-points-by-account")
        .rows(&rows)
        .build()
}

fn roll_forward_note(facts: &Facts, last: &Closing, zone: Zone, messages: Messages) -> String {
    let since = local_moment(last.as_of, zone, messages);
    let mut note = messages.text("arrears-roll-forward-note", args![since = since, accounts = last.accounts]);
    if facts.passing > 0 {
        note.push_str(&messages.text("arrears-passing", args![accounts = facts.passing]));
    }
    note
}

fn local_moment(instant: DateTime<Utc>, zone: Zone, messages: Messages) -> String {
    messages.moment(instant.with_timezone(&zone).naive_local())
}

/// Sets what the tables of changed accounts have in common.
fn of_accounts<'a>(
    table: TableBuilder<'a, ArrearsChange>,
    list: &List<ArrearsChange>,
) -> TableBuilder<'a, ArrearsChange> {
    table.rows_in_body(ROWS_IN_BODY).rows_in_all(list.count).column("account", Kind::Identifier, |moved| moved.user)
}

fn new(list: &List<ArrearsChange>, messages: Messages) -> Table {
    let table = TableBuilder::new(messages, "new", messages.label("arrears-new"));
    of_accounts(table, list)
        .if_empty(messages.label("arrears-new-none"))
        .totalled("arrears-owed", list.points, |moved| moved.closing)
        .rows(&list.rows)
        .build()
}

fn cleared(list: &List<ArrearsChange>, scope: &Scope<'_>, messages: Messages) -> Table {
    let table = TableBuilder::new(messages, "cleared", messages.label("arrears-cleared"));
    of_accounts(table, list)
        .if_empty(messages.label("arrears-cleared-none"))
        .totalled("opening", list.points, |moved| moved.opening)
        .column("arrears-cleared-by", Kind::Text, move |moved| cleared_by(moved, scope, messages))
        .column("arrears-cleared-at", Kind::Instant, |moved| moved.cleared.as_ref().map(|cleared| cleared.at))
        .rows(&list.rows)
        .build()
}

fn cleared_by(moved: &ArrearsChange, scope: &Scope<'_>, messages: Messages) -> String {
    match &moved.cleared {
        Some(cleared) if cleared.kind == "recharge" => {
            messages.text("arrears-cleared-by-recharge", args![source = scope.source_label(&cleared.source)])
        }
        // The source of points that were drawn from arrears: it would say the same twice.
        Some(cleared) if cleared.kind == "refund" && cleared.source == REFUND_SOURCE => {
            messages.label("arrears-cleared-by-refund-alone")
        }
        Some(cleared) if cleared.kind == "refund" => {
            messages.text("arrears-cleared-by-refund", args![source = scope.source_label(&cleared.source)])
        }
        Some(_) => messages.label("correction"),
        None => messages.label("arrears-cleared-by-nothing"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrears_need_attention_above_a_limit_or_when_they_grow() {
        let limits = ArrearsLimits { attention_points: 1000, attention_growth_percent: 25 };
        let cases = [
            (0, None, false),
            (1000, None, false),
            (1001, None, true),
            (125, Some(100), false),
            (126, Some(100), true),
            (999, Some(0), false),
            (1001, Some(1001), true),
        ];
        for (points, last, expected) in cases {
            assert_eq!(needs_attention(points, last, limits), expected, "{points} after {last:?}");
        }
    }
}
