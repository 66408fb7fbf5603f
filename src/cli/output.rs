//! Printing: JSON for programs, tables and text for people.

use std::io::{self, Write};
use std::time::Duration;

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, TableComponent, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

pub use crate::numbers::{counted, grouped};

/// Prints one JSON object on a line.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

/// Prints a text and a line end.
pub fn say(text: impl std::fmt::Display) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Prints a remark beside the answer, on standard error; nothing if there is none.
#[expect(clippy::print_stderr, reason = "standard output is for the answer")]
pub fn remark(text: Option<String>) {
    if let Some(text) = text {
        eprintln!("{text}");
    }
}

/// A name and its value a line, aligned.
pub fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let lines = facts.iter().map(|(name, value)| format!("  {name:width$}  {value}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// A table under a header. A column of numbers is aligned to the right.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_style(TableComponent::HeaderLines, '─').set_style(TableComponent::MiddleHeaderIntersections, '─');
    let numeric = |column: usize| {
        let number = |cell: &String| cell.chars().all(|c| c.is_ascii_digit() || "-,. %".contains(c));
        rows.iter().all(|row| row.get(column).is_none_or(number))
    };
    let align = |column: usize, text: &str| {
        Cell::new(text).set_alignment(if numeric(column) { CellAlignment::Right } else { CellAlignment::Left })
    };
    table.set_header(header.iter().enumerate().map(|(column, text)| align(column, text)));
    for row in rows {
        table.add_row(row.iter().enumerate().map(|(column, text)| align(column, text)));
    }
    table.to_string()
}

/// Writes a row in columns of fixed width; a negative width aligns to the right. For rows that are written one by one, so that no
/// table can be measured first.
pub fn write_aligned(
    out: &mut impl Write,
    row: impl IntoIterator<Item = String>,
    columns: &[(&str, i8)],
) -> io::Result<()> {
    let mut line = String::new();
    for (value, (_, width)) in row.into_iter().zip(columns) {
        let space = usize::from(width.unsigned_abs());
        // Control characters would break the lines.
        let value: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let padded = if *width < 0 { format!("{value:>space$}  ") } else { format!("{value:<space$}  ") };
        line.push_str(&padded);
    }
    writeln!(out, "{}", line.trim_end())
}

/// A progress bar on standard error if that is a terminal. `unit` is what is counted.
pub fn progress(total: u64, what: &'static str, unit: &'static str) -> ProgressBar {
    let count = if unit == "bytes" { "{bytes}/{total_bytes}" } else { "{human_pos}/{human_len}" };
    let template = format!("{{msg:>10}} [{{wide_bar:.cyan/dim}}] {count} {unit}, {{eta}} left");
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style.progress_chars("━╸─")).with_message(what)
}

/// A spinner for work of unknown length, on standard error if that is a terminal.
pub fn waiting(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(what);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
