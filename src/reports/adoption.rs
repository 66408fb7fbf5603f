//! The document of a plan to take over another service's accounts: control totals before and after, what is wrong, what becomes of it.

use chrono::{DateTime, Utc};

use crate::adopt::{ChargedTwice, Class, Comparison, Difference, Example, ExpiredPoints, Keep, Opened, Orphans, Plan};
use crate::config::Config;
use crate::document::{Cell, Document, Fact, Kind, Section, Table, TableBuilder, Tone};
use crate::ledger::Currency;
use crate::messages::{Messages, args};

/// The name of the report.
pub const REPORT: &str = "adoption";

/// The most accounts in a mail's body.
const ROWS_IN_BODY: usize = 20;

/// What the plan says.
pub fn document(plan: &Plan, config: &Config) -> Document {
    let messages = Messages::new(config.language);
    let totals = &plan.totals;
    let problems = totals.problems();
    let tone = match (problems.is_empty(), totals.classes.is_empty()) {
        (false, _) => Tone::Bad,
        (true, false) => Tone::Attention,
        (true, true) => Tone::Good,
    };
    let mut headline = messages
        .text("adopt-headline", args![accounts = totals.accounts, points = totals.points, debts = totals.debts]);
    if !problems.is_empty() {
        headline.push_str(&messages.label("adopt-headline-problems"));
    }
    let fact = |key: &str, value: Cell| Fact { label: messages.label(key), value };
    let mut sections = Vec::new();
    if !problems.is_empty() {
        sections.push(Section::Text { title: messages.label("adopt-problems"), paragraphs: problems });
    }
    sections.extend([
        Section::Table(before(plan, messages)),
        Section::Table(after(plan, config, messages)),
        Section::Table(bridge(plan, messages)),
        Section::Text { title: messages.label("adopt-sign"), paragraphs: vec![messages.label("adopt-sign-note")] },
        Section::Table(classes(plan, config, messages)),
        Section::Table(examples(plan, messages)),
    ]);
    Document {
        report: REPORT.to_owned(),
        language: config.language,
        business: config.business.clone(),
        title: messages.label("adopt-title"),
        slot: plan.read_at,
        run: 0,
        as_of: plan.read_at,
        period: None,
        time_zone: config.time_zone.name().to_owned(),
        tone,
        tone_rule: messages.label("adopt-tone-rule"),
        headline,
        facts: vec![
            fact("adopt-read-from", plan.read_from.as_str().into()),
            fact("adopt-read-at", plan.read_at.into()),
            fact("adopt-plan", plan.plan.to_string().into()),
        ],
        sections,
    }
}

/// A figure: what it counts, how many, and their points.
struct Figure {
    what: String,
    count: Option<i64>,
    points: Option<i64>,
}

fn before(plan: &Plan, messages: Messages) -> Table {
    let totals = &plan.totals;
    let figure =
        |key: &str, count: i64, points: Option<i64>| Figure { what: messages.label(key), count: Some(count), points };
    let figures = [
        figure("adopt-accounts-with-points", totals.with_points, Some(totals.points)),
        figure("adopt-accounts-in-debt", totals.in_debt, Some(-totals.debts)),
        figure("adopt-accounts-all", totals.accounts, Some(totals.net_before)),
        figure("adopt-batches-with-points", totals.batches, Some(totals.batch_points)),
        figure("adopt-transactions", totals.transactions, None),
    ];
    TableBuilder::new(messages, "adopt-before", messages.label("adopt-before"))
        .column("adopt-what", Kind::Text, |figure: &Figure| figure.what.clone())
        .column("adopt-count", Kind::Number, |figure: &Figure| figure.count.map_or(Cell::Empty, Cell::Number))
        .column("points", Kind::Number, |figure: &Figure| figure.points.map_or(Cell::Empty, Cell::Number))
        .rows(&figures)
        .build()
}

fn after(plan: &Plan, config: &Config, messages: Messages) -> Table {
    let has_money = plan.totals.openings.iter().any(|opened| opened.currency.is_some());
    let what = |opened: &Opened| match (opened.kind.as_str(), &opened.source) {
        ("forgiven", _) => messages.label("adopt-forgiven"),
        (_, Some(source)) => {
            messages.text("adopt-points-of", args![source = config.source_label(source, config.language)])
        }
        _ => messages.label("adopt-debts"),
    };
    let money = |opened: &Opened| {
        let currency = opened.currency.as_ref().and_then(|code| code.parse::<Currency>().ok());
        currency.map_or(Cell::Empty, |currency| Cell::Money { amount: opened.paid, digits: currency.digits() })
    };
    TableBuilder::new(messages, "adopt-after", messages.label("adopt-after"))
        .column("adopt-what", Kind::Text, what)
        .column("accounts", Kind::Number, |opened: &Opened| opened.accounts)
        .column("entries", Kind::Number, |opened: &Opened| opened.rows)
        .summed("points", |opened: &Opened| if opened.kind == "debt" { -opened.points } else { opened.points })
        .when(has_money, |table| {
            table.column("currency", Kind::Text, |opened: &Opened| opened.currency.clone().unwrap_or_default()).column(
                "adopt-unreleased",
                Kind::Number,
                money,
            )
        })
        .rows(&plan.totals.openings)
        .build()
}

fn bridge(plan: &Plan, messages: Messages) -> Table {
    let totals = &plan.totals;
    let parts = [
        ("adopt-balances-before", totals.net_before),
        ("adopt-by-left-out", totals.by_left_out),
        ("adopt-by-batches", totals.by_batches),
        ("adopt-by-expired", totals.by_expired),
        ("adopt-by-orphans", totals.by_orphans),
        ("adopt-by-forgiven", totals.by_forgiven),
        ("adopt-balances-after", totals.net_after + totals.by_forgiven),
    ];
    let is_shown = |key: &str, points: i64| points != 0 || !key.starts_with("adopt-by-");
    let parts: Vec<(String, i64)> = parts
        .into_iter()
        .filter(|(key, points)| is_shown(key, *points))
        .map(|(key, points)| (messages.label(key), points))
        .collect();
    TableBuilder::new(messages, "adopt-bridge", messages.label("adopt-bridge"))
        .note(messages.label("adopt-bridge-note"))
        .column("adopt-what", Kind::Text, |(what, _): &(String, i64)| what.clone())
        .column("points", Kind::Number, |(_, points): &(String, i64)| *points)
        .ends_with_its_sum()
        .rows(&parts)
        .build()
}

fn classes(plan: &Plan, config: &Config, messages: Messages) -> Table {
    let count = |number: i64| if number == 0 { Cell::Empty } else { Cell::Number(number) };
    TableBuilder::new(messages, "adopt-classes", messages.label("adopt-classes"))
        .if_empty(messages.label("adopt-classes-none"))
        .column("adopt-what", Kind::Text, |class: &Class| messages.label(&format!("adopt-class-{}", class.class)))
        .column("accounts", Kind::Number, move |class: &Class| count(class.accounts))
        .column("adopt-rows", Kind::Number, |class: &Class| class.rows)
        .column("points", Kind::Number, |class: &Class| class.points)
        .column("adopt-becomes", Kind::Text, |class: &Class| becomes(&class.class, plan, config, messages))
        .rows(&plan.totals.classes)
        .build()
}

/// What becomes of a class, by the decisions.
fn becomes(class: &str, plan: &Plan, config: &Config, messages: Messages) -> String {
    let decisions = &plan.settings.decisions;
    let keeps_batches = decisions.keep == Keep::Batches;
    let source = config.source_label(&decisions.points_without_batch, config.language).to_owned();
    let key = match class {
        "balance_above_batches" if !keeps_batches => {
            return messages.text("adopt-becomes-batch-added", args![source = source]);
        }
        "balance_above_batches" | "batches_above_balance" if keeps_batches => "adopt-becomes-batches-kept",
        "batches_above_balance" => "adopt-becomes-batches-cut",
        "points_beside_debt" if keeps_batches => "adopt-becomes-debt-dropped",
        "points_beside_debt" => "adopt-becomes-debt-kept",
        "debt_charged_twice" if decisions.debts_charged_twice == ChargedTwice::Forgive => {
            return messages.text("adopt-becomes-twice-forgiven", args![source = source]);
        }
        "debt_charged_twice" => "adopt-becomes-twice-kept",
        "points_expired" if decisions.expired_points == ExpiredPoints::Keep => {
            let until =
                decisions.expired_points_until.map_or_else(String::new, |until| moment(until, config, messages));
            return messages.text("adopt-becomes-expired-kept", args![until = until]);
        }
        "points_expired" => "adopt-becomes-expired-left",
        "posted_twice" => "adopt-becomes-posted-twice",
        "totals_differ" => "adopt-becomes-totals-kept",
        "debt_without_date" => "adopt-becomes-dated",
        "batches_without_account" if decisions.batches_without_account == Orphans::Adopt => {
            "adopt-becomes-orphans-kept"
        }
        "batches_without_account" => "adopt-becomes-orphans-left",
        "history_without_account" => "adopt-becomes-history-kept",
        "account_in_use" => "adopt-becomes-in-use",
        "batches_left_out" => "adopt-becomes-orphans-left",
        "price_unreadable" => "adopt-becomes-unpriced",
        "transaction_of_other_type" => "adopt-becomes-history-alone",
        "batch_id_twice" => "adopt-becomes-numbered",
        "account_unreadable" | "account_twice" => "adopt-becomes-account-left-out",
        "batch_unreadable" => "adopt-becomes-left-out",
        "transaction_unreadable" => "adopt-becomes-not-known",
        _ => "adopt-becomes-balance-kept",
    };
    messages.label(key)
}

fn moment(at: DateTime<Utc>, config: &Config, messages: Messages) -> String {
    messages.moment(at.with_timezone(&config.time_zone).naive_local())
}

fn examples(plan: &Plan, messages: Messages) -> Table {
    // The class stands beside the first of its examples.
    let named = |class: &Class, nth: usize| match nth {
        0 => messages.label(&format!("adopt-class-{}", class.class)),
        _ => String::new(),
    };
    let examples: Vec<(String, &Example)> = plan
        .totals
        .classes
        .iter()
        .flat_map(|class| class.examples.iter().enumerate().map(move |(nth, example)| (named(class, nth), example)))
        .collect();
    let has_other_ids = examples.iter().any(|(_, example)| example.old_user != example.user.to_string());
    TableBuilder::new(messages, "adopt-examples", messages.label("adopt-examples"))
        .column("adopt-what", Kind::Text, |(class, _): &(String, &Example)| class.clone())
        .column("account", Kind::Identifier, |(_, example): &(String, &Example)| example.user.to_string())
        .when(has_other_ids, |table| {
            table.column("adopt-user", Kind::Identifier, |(_, example): &(String, &Example)| example.old_user.clone())
        })
        .column("points", Kind::Number, |(_, example): &(String, &Example)| example.points)
        .rows(&examples)
        .build()
}

/// How far the balances of the other service and those of the ledger agree. `slot` names the report.
pub fn comparison(comparison: &Comparison, slot: DateTime<Utc>, config: &Config) -> Document {
    let messages = Messages::new(config.language);
    let (accounts, different) = (comparison.accounts, comparison.different);
    let headline = match different {
        0 => messages.text("adopt-equal", args![accounts = accounts]),
        _ => messages.text("adopt-different", args![accounts = different]),
    };
    let fact = |key: &str, value: Cell| Fact { label: messages.label(key), value };
    Document {
        report: REPORT.to_owned(),
        language: config.language,
        business: config.business.clone(),
        title: messages.label("adopt-comparison-title"),
        slot,
        run: 0,
        as_of: comparison.read_at,
        period: None,
        time_zone: config.time_zone.name().to_owned(),
        tone: if different == 0 { Tone::Good } else { Tone::Attention },
        tone_rule: messages.label("adopt-comparison-tone-rule"),
        headline,
        facts: vec![fact("adopt-compared", accounts.into()), fact("adopt-differing", different.into())],
        sections: vec![
            Section::Table(sums(&comparison.sums, messages)),
            Section::Table(differing(comparison, messages)),
        ],
    }
}

fn sums(sums: &Difference, messages: Messages) -> Table {
    let parts = [
        ("adopt-balances-there", sums.there),
        ("adopt-by-decisions", sums.decided),
        ("adopt-by-recharges", sums.recharged),
        ("adopt-by-uses", sums.used),
        ("adopt-by-expiry", sums.expired),
        ("adopt-by-other", sums.other()),
        ("adopt-balances-after", sums.here),
    ];
    let parts: Vec<(String, i64)> = parts.into_iter().map(|(key, points)| (messages.label(key), points)).collect();
    TableBuilder::new(messages, "adopt-sums", messages.label("adopt-sums"))
        .note(messages.label("adopt-sums-note"))
        .column("adopt-what", Kind::Text, |(what, _): &(String, i64)| what.clone())
        .column("points", Kind::Number, |(_, points): &(String, i64)| *points)
        .ends_with_its_sum()
        .rows(&parts)
        .build()
}

fn differing(comparison: &Comparison, messages: Messages) -> Table {
    type Row = (uuid::Uuid, String, Difference);
    let has_other_ids = comparison.most.iter().any(|(user, old_user, _)| *old_user != user.to_string());
    let figure = |of: fn(&Difference) -> i64| move |(_, _, difference): &Row| of(difference);
    TableBuilder::new(messages, "adopt-differing", messages.label("adopt-differing-accounts"))
        .rows_in_all(u64::try_from(comparison.different).unwrap_or_default())
        .rows_in_body(ROWS_IN_BODY)
        .column("account", Kind::Identifier, |(user, _, _): &Row| user.to_string())
        .when(has_other_ids, |table| {
            table.column("adopt-user", Kind::Identifier, |(_, old_user, _): &Row| old_user.clone())
        })
        .column("adopt-there", Kind::Number, figure(|difference| difference.there))
        .column("adopt-here", Kind::Number, figure(|difference| difference.here))
        .column("adopt-decisions", Kind::Number, figure(|difference| difference.decided))
        .column("adopt-recharges", Kind::Number, figure(|difference| difference.recharged))
        .column("adopt-uses", Kind::Number, figure(|difference| difference.used))
        .column("adopt-expiry", Kind::Number, figure(|difference| difference.expired))
        .column("adopt-other", Kind::Number, figure(Difference::other))
        .adds_up_to(
            "adopt-here",
            &["adopt-there", "adopt-decisions", "adopt-recharges", "adopt-uses", "adopt-expiry", "adopt-other"],
        )
        .rows(&comparison.most)
        .build()
}
