//! Bridges between figures that nearly mean the same, line by line.

use chrono::NaiveDate;
use tokio_postgres::Row;

use crate::books::{ARREARS, Booked, Books, Movement, RunningTotals};
use crate::document::{Kind, Table, TableBuilder};
use crate::messages::{Messages, args};

/// The points in batches, and the arrears of accounts as a number above zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Position {
    liability: i64,
    arrears: i64,
}

impl Position {
    /// Adds the points of a source, or the arrears as points below zero.
    fn plus(self, source: &str, points: i64) -> Position {
        match source {
            ARREARS => Position { arrears: self.arrears.saturating_sub(points), ..self },
            _ => Position { liability: self.liability.saturating_add(points), ..self },
        }
    }

    fn add(self, other: Position) -> Position {
        Position {
            liability: self.liability.saturating_add(other.liability),
            arrears: self.arrears.saturating_add(other.arrears),
        }
    }

    fn minus(self, other: Position) -> Position {
        Position {
            liability: self.liability.saturating_sub(other.liability),
            arrears: self.arrears.saturating_sub(other.arrears),
        }
    }

    fn net(self) -> i64 {
        self.liability.saturating_sub(self.arrears)
    }
}

/// By how much a kind of movement changes the points.
type Change = fn(&Movement) -> i64;

/// The kinds of movement by their keys in the catalogue.
const MOVEMENTS: [(&str, Change); 9] = [
    ("brought-in", |of| of.opened),
    ("issued", |of| of.recharged),
    ("refunded", |of| of.refunded),
    ("applied-to-arrears", |of| of.settled.saturating_neg()),
    ("used", |of| of.consumed.saturating_neg()),
    ("voided", |of| of.voided.saturating_neg()),
    ("expired", |of| of.expired.saturating_neg()),
    ("restored", |of| of.restored),
    ("corrections", |of| of.adjusted),
];

/// From the closing of the last business day to the points in batches and the arrears of accounts now.
pub(super) fn closing_to_now(books: &Books, messages: Messages) -> Table {
    let (mut lines, mut expected) = (Vec::new(), Position::default());
    if let Some(last) = &books.last {
        let row = |sum: Position, (source, row): (&String, &Booked)| sum.plus(source, row.closing);
        expected = last.rows.iter().fold(expected, row);
        lines.push((messages.text("closing-of-day", args![day = messages.day(last.day)]), expected));
    }
    for (key, change) in MOVEMENTS {
        let moved = books.since.iter().fold(Position::default(), |sum, (of, moved)| sum.plus(of, change(moved)));
        if moved != Position::default() {
            lines.push((messages.text("moved-since", args![movement = messages.label(key)]), moved));
            expected = expected.add(moved);
        }
    }
    let liability = books.outstanding.iter().fold(0_i64, |sum, part| sum.saturating_add(part.points));
    let found = Position { liability, arrears: books.owed };
    let difference = found.minus(expected);
    if difference != Position::default() {
        lines.push((messages.label("unreconciled-difference"), difference));
    }
    lines.push((messages.label("bridge-found"), found));
    TableBuilder::new(messages, "bridge", messages.label("bridge-closing"))
        .note(messages.label("bridge-closing-note"))
        .column("item", Kind::Text, |(item, _): &(String, Position)| item.clone())
        .column("unused-points-liability", Kind::Number, |(_, of)| of.liability)
        .column("arrears-receivable", Kind::Number, |(_, of)| of.arrears)
        .column("bridge-net", Kind::Number, |(_, of)| of.net())
        .ends_with_its_sum()
        .same_as("unused-points-liability", "outstanding-by-age", "points")
        .rows(&lines)
        .build()
}

/// Liability, arrears and net balance by the books.
pub(super) fn net_balance(totals: &RunningTotals, messages: Messages) -> Table {
    let of = totals.left.iter().fold(Position::default(), |sum, (source, points)| sum.plus(source, *points));
    let lines = [
        ("unused-points-liability", of.liability),
        ("bridge-less-arrears", of.arrears.saturating_neg()),
        ("net-balance", of.net()),
    ];
    TableBuilder::new(messages, "net-balance", messages.label("bridge-arrears"))
        .note(messages.label("bridge-arrears-note"))
        .column("item", Kind::Text, move |(key, _): &(&str, i64)| messages.label(key))
        .column("points", Kind::Number, |(_, points)| *points)
        .ends_with_its_sum()
        .rows(&lines)
        .build()
}

/// What a report tells as expired, beside a business day.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExpiryBridge {
    /// The business day.
    pub day: NaiveDate,
    before_day: i64,
    after_day: i64,
    before_report: i64,
    of_day: i64,
}

impl ExpiryBridge {
    /// Reads a row of `expiry_bridge.sql`.
    pub fn from_row(day: NaiveDate, row: &Row) -> Result<ExpiryBridge, tokio_postgres::Error> {
        Ok(ExpiryBridge {
            day,
            before_day: row.try_get("before_day")?,
            after_day: row.try_get("after_day")?,
            before_report: row.try_get("before_report")?,
            of_day: row.try_get("of_day")?,
        })
    }

    /// From the points of the report to those of the business day.
    pub fn table(&self, expired: i64, messages: Messages) -> Table {
        let day = messages.day(self.day);
        let lines = [
            (messages.label("bridge-expired"), expired, true),
            (messages.text("bridge-before-day", args![day = day.as_str()]), self.before_day.saturating_neg(), false),
            (messages.text("bridge-after-day", args![day = day.as_str()]), self.after_day.saturating_neg(), true),
            (messages.text("bridge-before-report", args![day = day.as_str()]), self.before_report, true),
            (messages.text("bridge-of-day", args![day = day.as_str()]), self.of_day, true),
        ];
        let lines: Vec<_> = lines.into_iter().filter(|(_, points, always)| *always || *points != 0).collect();
        TableBuilder::new(messages, "bridge", messages.text("bridge-expiry", args![day = day]))
            .column("item", Kind::Text, |(item, ..): &(String, i64, bool)| item.clone())
            .column("points", Kind::Number, |(_, points, _)| *points)
            .ends_with_its_sum()
            .rows(&lines)
            .build()
    }
}
