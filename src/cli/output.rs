//! Printing: JSON for programs, tables and text for people.

use std::io::{self, BufWriter, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, TableComponent, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::ser::Formatter;

use crate::plain;
use crate::render::csv_writer;
use crate::time::Zone;

pub use crate::numbers::{counted, grouped};

/// Whether the call asked for the answer alone.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Silences remarks and progress, for the whole process.
pub fn set_quiet(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Prints one JSON value on a line.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    write_json(&mut out, value)?;
    Ok(out.flush()?)
}

/// Writes one JSON value on a line. All control characters in its texts are escaped.
pub fn write_json(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut *out, Escaping))?;
    out.write_all(b"\n")
}

/// Escapes the control characters that serde_json writes as they are, such as U+009B.
struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        if rest.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return out.write_all(rest.as_bytes());
        }
        while let Some(at) = rest.find(plain::is_control) {
            let (before, from) = rest.split_at(at);
            out.write_all(before.as_bytes())?;
            let mut from = from.chars();
            if let Some(control) = from.next() {
                write!(out, "\\u{:04x}", u32::from(control))?;
            }
            rest = from.as_str();
        }
        out.write_all(rest.as_bytes())
    }
}

/// Prints a text for people and a line end. A value in it may bring control characters, which are left out.
pub fn say(text: impl std::fmt::Display) -> anyhow::Result<()> {
    data(plain::lines(&text.to_string()))
}

/// Prints data and a line end, as it is: its format escapes control characters.
pub fn data(text: impl std::fmt::Display) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Prints a remark beside the answer, on standard error; nothing if there is none.
pub fn remark(text: Option<String>) {
    if let Some(text) = text.filter(|_| !is_quiet()) {
        complain(&text);
    }
}

/// Prints a line on standard error. It may be closed, which is no reason to fail.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{}", plain::lines(text));
}

/// Prints a JSON value on a line of standard error.
pub fn complain_json(value: &impl Serialize) {
    let mut line = Vec::new();
    let _ = write_json(&mut line, value).and_then(|()| io::stderr().write_all(&line));
}

/// A name and its value a line, aligned.
pub fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let lines = facts.iter().map(|(name, value)| format!("  {name:width$}  {}", plain::line(value)));
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
        table.add_row(row.iter().enumerate().map(|(column, text)| align(column, &plain::line(text))));
    }
    table.to_string()
}

/// A text on one line, cut to `longest` characters.
pub fn shortened(text: &str, longest: usize) -> String {
    let line = plain::line(text);
    match line.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line.into_owned(),
    }
}

/// Writes rows to standard output one by one, so that memory does not grow with them. No table can be measured first, so
/// the columns have fixed widths. A negative width aligns to the right.
pub struct Rows {
    form: Form,
    columns: &'static [(&'static str, i8)],
    /// How many rows were written.
    pub count: u64,
}

type Stdout = BufWriter<io::StdoutLock<'static>>;

enum Form {
    Json(Stdout),
    Csv(Box<csv::Writer<Stdout>>),
    Columns(Stdout),
}

impl Rows {
    /// Writes the header of CSV at once, that of columns with the first row.
    pub fn start(as_json: bool, as_csv: bool, columns: &'static [(&'static str, i8)]) -> io::Result<Rows> {
        let out = BufWriter::new(io::stdout().lock());
        let form = if as_json {
            Form::Json(out)
        } else if as_csv {
            let mut csv = csv_writer(out)?;
            csv.write_record(columns.iter().map(|(name, _)| name))?;
            Form::Csv(Box::new(csv))
        } else {
            Form::Columns(out)
        };
        Ok(Rows { form, columns, count: 0 })
    }

    /// Writes a row: as JSON from `value`, else from `fields`, which gets true for CSV.
    pub fn write<V: Serialize>(
        &mut self,
        value: impl FnOnce() -> V,
        fields: impl FnOnce(bool) -> Vec<String>,
    ) -> io::Result<()> {
        match &mut self.form {
            Form::Json(out) => write_json(out, &value())?,
            Form::Csv(csv) => csv.write_record(fields(true).iter().map(|field| plain::cell(field).into_owned()))?,
            Form::Columns(out) => {
                if self.count == 0 {
                    write_aligned(out, self.columns.iter().map(|(name, _)| (*name).to_owned()), self.columns)?;
                }
                write_aligned(out, fields(false), self.columns)?;
            }
        }
        self.count += 1;
        Ok(())
    }

    /// Ends the output. `last_line` follows the columns.
    pub fn finish(self, last_line: impl FnOnce() -> String) -> io::Result<()> {
        match self.form {
            Form::Json(mut out) => out.flush(),
            Form::Csv(mut csv) => csv.flush(),
            Form::Columns(mut out) => {
                let last_line = last_line();
                if !last_line.is_empty() {
                    writeln!(out, "{last_line}")?;
                }
                out.flush()
            }
        }
    }
}

fn write_aligned(
    out: &mut impl Write,
    row: impl IntoIterator<Item = String>,
    columns: &[(&str, i8)],
) -> io::Result<()> {
    let mut line = String::new();
    for (value, (_, width)) in row.into_iter().zip(columns) {
        let space = usize::from(width.unsigned_abs());
        let value = plain::line(&value);
        let padded = if *width < 0 { format!("{value:>space$}  ") } else { format!("{value:<space$}  ") };
        line.push_str(&padded);
    }
    writeln!(out, "{}", line.trim_end())
}

/// `Mon 2026-11-23 02:00 CET`
pub fn local(time: DateTime<Utc>, zone: Zone) -> String {
    let time = time.with_timezone(&zone);
    let seconds = time.format("%S").to_string() != "00";
    time.format(if seconds { "%a %Y-%m-%d %H:%M:%S %Z" } else { "%a %Y-%m-%d %H:%M %Z" }).to_string()
}

/// A progress bar on standard error if that is a terminal. `unit` is what is counted.
pub fn progress(total: u64, what: &'static str, unit: &'static str) -> ProgressBar {
    let count = if unit == "bytes" { "{bytes}/{total_bytes}" } else { "{human_pos}/{human_len}" };
    let template = format!("{{msg:>10}} [{{wide_bar:.cyan/dim}}] {count} {unit}, {{eta}} left");
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = if is_quiet() { ProgressBar::hidden() } else { ProgressBar::new(total) };
    bar.with_style(style.progress_chars("━╸─")).with_message(what)
}

/// A spinner for work of unknown length, on standard error if that is a terminal.
pub fn waiting(what: &'static str) -> ProgressBar {
    let bar = if is_quiet() { ProgressBar::hidden() } else { ProgressBar::new_spinner() }.with_message(what);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
