//! How a document looks: as HTML and text for a mail, as XLSX and CSV for its attachments, as PNG for its charts.

mod chart;
mod checks;
mod csv;
mod grid;
mod locale;
mod page;
mod sheet;
mod text;

use std::path::PathBuf;

pub use chart::{PICTURE_HEIGHT, PICTURE_WIDTH, png};
pub use csv::{CsvFile, csv, csv_writer};
pub use page::Renderer;
pub(crate) use page::write_escaped;
pub use sheet::xlsx;

use crate::document::Document;
use locale::Locale;

/// The facts of a document as people read them.
pub fn facts(document: &Document) -> Vec<(String, String)> {
    let locale = Locale::of_document(document);
    document.facts.iter().map(|fact| (locale::clean(&fact.label), locale.cell(&fact.value))).collect()
}

/// Why a document could not be rendered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A chart could not be drawn.
    #[error("the chart `{name}` could not be drawn: {reason}")]
    Chart {
        /// The chart's name.
        name: String,
        /// What went wrong.
        reason: String,
    },
    /// A workbook could not be written.
    #[error("the workbook could not be written")]
    Workbook(#[from] rust_xlsxwriter::XlsxError),
    /// CSV could not be written.
    #[error("the CSV could not be written")]
    Csv(#[from] ::csv::Error),
    /// A file could not be written.
    #[error("{} could not be written; look whether its folder is there, may be written to and has space left", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
