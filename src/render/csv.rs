//! Tables as CSV: RFC 4180, UTF-8. The file has a byte order mark, because Excel otherwise assumes the local code page.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use chrono::{Offset, SecondsFormat, TimeZone, Utc};

use super::Error;
use super::locale::{Locale, percent};
use crate::document::{Cell, Column, Document, Table};
use crate::numbers::decimal_of;
use crate::plain::cell;
use crate::private_files::{Folder, NewFile};
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

/// Writes a table of any length to a file. The file has its name only after [`CsvFile::finish`], so that a file under that
/// name is always complete.
pub struct CsvFile {
    lines: Lines<BufWriter<NewFile>>,
    path: PathBuf,
}

impl CsvFile {
    /// Begins a file with a header. Instants will be written in `zone`.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn create(folder: &Folder, name: &str, columns: &[Column], zone: Zone) -> Result<CsvFile, Error> {
        let path = folder.path().join(name);
        let failed = |source| Error::File { path: path.clone(), source };
        let file = BufWriter::new(folder.begin(name, None).map_err(failed)?);
        let lines = Lines::new(file, columns, zone).map_err(|error| named(&path, error))?;
        Ok(CsvFile { lines, path })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// If the row cannot be written.
    pub fn row(&mut self, cells: &[Cell]) -> Result<(), Error> {
        self.lines.row(cells).map_err(|error| named(&self.path, error))
    }

    /// Syncs the file to disk and gives it its name. It replaces a file of that name.
    ///
    /// # Errors
    /// If the file cannot be written; an older file of that name is then unchanged.
    pub fn finish(self) -> Result<(), Error> {
        let CsvFile { lines, path } = self;
        let finish = || {
            let buffer = lines.writer.into_inner().map_err(|error| error.into_error())?;
            buffer.into_inner().map_err(|error| error.into_error())?.finish()
        };
        finish().map_err(|source| Error::File { path, source })
    }
}

fn named(path: &std::path::Path, error: Error) -> Error {
    match error {
        Error::Csv(error) => Error::File { path: path.to_owned(), source: error.into() },
        error => error,
    }
}

/// Begins a CSV file for spreadsheets.
///
/// # Errors
/// If the mark at its start cannot be written.
pub fn csv_writer<W: Write>(mut to: W) -> io::Result<csv::Writer<W>> {
    to.write_all(BYTE_ORDER_MARK)?;
    Ok(csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(to))
}

struct Lines<W: Write> {
    writer: csv::Writer<W>,
    zone: Zone,
}

impl<W: Write> Lines<W> {
    fn new(to: W, columns: &[Column], zone: Zone) -> Result<Lines<W>, Error> {
        let mut writer = csv_writer(to).map_err(|error| Error::Csv(error.into()))?;
        writer.write_record(columns.iter().map(|column| cell(&column.title).into_owned()))?;
        Ok(Lines { writer, zone })
    }

    fn row(&mut self, cells: &[Cell]) -> Result<(), Error> {
        Ok(self.writer.write_record(cells.iter().map(|value| match value {
            Cell::Empty => String::new(),
            Cell::Text(text) => cell(text).into_owned(),
            Cell::Number(number) => number.to_string(),
            Cell::Money { amount, digits } => decimal_of(*amount, *digits),
            Cell::Share { part, whole } => percent(*part, *whole),
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
