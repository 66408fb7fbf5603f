//! Tables as CSV: RFC 4180, UTF-8. The file has a byte order mark, because Excel otherwise assumes the local code page.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use chrono::{Offset, SecondsFormat, TimeZone, Utc};

use super::Error;
use super::locale::Locale;
use crate::document::{Cell, Column, Document, Table};
use crate::time::Zone;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The rows of a table as CSV, under a header. Numbers are not grouped, instants are RFC 3339 in the document's zone.
///
/// # Errors
/// Only if there is no memory for it.
pub fn csv(table: &Table, document: &Document) -> Result<Vec<u8>, Error> {
    let zone = Locale::of_document(document).zone;
    let mut lines = Lines::new(Vec::new(), &table.columns, zone)?;
    for row in &table.rows {
        lines.row(row)?;
    }
    lines.writer.into_inner().map_err(|error| Error::Csv(error.into_error().into()))
}

/// Writes a table of any length to a file. The file has a temporary name until [`CsvFile::finish`], so that a file
/// under the final name is always complete.
pub struct CsvFile {
    lines: Option<Lines<BufWriter<File>>>,
    path: PathBuf,
    unfinished: PathBuf,
}

impl CsvFile {
    /// Begins a file with a header. Instants will be written in `zone`.
    ///
    /// # Errors
    /// If the file cannot be made, for example because its folder does not exist.
    pub fn create(path: &Path, columns: &[Column], zone: Zone) -> Result<CsvFile, Error> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.unfinished", std::process::id()));
        let unfinished = path.with_file_name(name);
        let file = File::create(&unfinished).map_err(|source| Error::File { path: unfinished.clone(), source })?;
        let mut begun = CsvFile { lines: None, path: path.to_owned(), unfinished };
        let lines = Lines::new(BufWriter::new(file), columns, zone).map_err(|error| begun.name(error))?;
        begun.lines = Some(lines);
        Ok(begun)
    }

    /// Adds a row.
    ///
    /// # Errors
    /// If the row cannot be written.
    pub fn row(&mut self, cells: &[Cell]) -> Result<(), Error> {
        let Some(lines) = &mut self.lines else { return Ok(()) };
        let written = lines.row(cells);
        written.map_err(|error| self.name(error))
    }

    /// Syncs the file to disk and gives it its name. It replaces a file of that name.
    ///
    /// # Errors
    /// If the file cannot be written; an older file of that name is then unchanged.
    pub fn finish(mut self) -> Result<(), Error> {
        let Some(lines) = self.lines.take() else { return Ok(()) };
        let finish = || {
            let buffer = lines.writer.into_inner().map_err(|error| error.into_error())?;
            buffer.into_inner().map_err(|error| error.into_error())?.sync_all()?;
            fs::rename(&self.unfinished, &self.path)
        };
        finish().map_err(|source| Error::File { path: self.path.clone(), source })
    }

    fn name(&self, error: Error) -> Error {
        match error {
            Error::Csv(error) => Error::File { path: self.path.clone(), source: error.into() },
            error => error,
        }
    }
}

impl Drop for CsvFile {
    fn drop(&mut self) {
        // After `finish` there is no such file.
        let _ = fs::remove_file(&self.unfinished);
    }
}

struct Lines<W: Write> {
    writer: csv::Writer<W>,
    zone: Zone,
}

impl<W: Write> Lines<W> {
    fn new(mut to: W, columns: &[Column], zone: Zone) -> Result<Lines<W>, Error> {
        to.write_all(BYTE_ORDER_MARK).map_err(|error| Error::Csv(error.into()))?;
        let writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(to);
        let mut lines = Lines { writer, zone };
        lines.writer.write_record(columns.iter().map(|column| guarded(&column.title)))?;
        Ok(lines)
    }

    fn row(&mut self, cells: &[Cell]) -> Result<(), Error> {
        Ok(self.writer.write_record(cells.iter().map(|cell| match cell {
            Cell::Empty => String::new(),
            Cell::Text(text) => guarded(text),
            Cell::Number(number) => number.to_string(),
            Cell::Date(day) => day.format("%Y-%m-%d").to_string(),
            Cell::Instant(instant) => {
                let offset = self.zone.offset_from_utc_datetime(&instant.naive_utc()).fix();
                // The very ends of the calendar have no local time.
                let zone = instant.naive_utc().checked_add_offset(offset).map_or(Utc.fix(), |_| offset);
                instant.with_timezone(&zone).to_rfc3339_opts(SecondsFormat::AutoSi, true)
            }
        }))?)
    }
}

/// Prefixes a text that a spreadsheet would take for a formula, except a negative whole number. The wide forms of the signs
/// count too, because Excel in Chinese reads them.
pub fn guarded(text: &str) -> String {
    let digits = text.strip_prefix('-').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return text.to_owned();
    }
    let first = text.trim_start_matches(' ').chars().next();
    match first {
        Some('=' | '+' | '-' | '@' | '\t' | '\r' | '＝' | '＋' | '－' | '＠') => format!("'{text}"),
        _ => text.to_owned(),
    }
}
