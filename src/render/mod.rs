//! How a document looks: as HTML and text for a mail, as XLSX and CSV for its attachments, as PNG for its charts.
//! STAND-IN of K: to be replaced by R's.

use std::path::Path;

use crate::document::{Chart, Document, Section, Table};

/// Why something could not be rendered.
#[derive(Debug, thiserror::Error)]
#[error("it cannot be rendered")]
pub struct Error;

/// Stand-in.
pub struct Renderer;

impl Renderer {
    /// Stand-in.
    pub fn new(_templates: Option<&Path>) -> Renderer {
        Renderer
    }

    /// Stand-in.
    pub fn html(&self, document: &Document, picture: &dyn Fn(&Chart) -> String) -> String {
        let mut text = format!("<html><h1>{}</h1>", document.headline);
        for section in &document.sections {
            if let Section::Chart(chart) = section {
                text.push_str(&format!("<img src=\"{}\">", picture(chart)));
            }
        }
        text
    }

    /// Stand-in.
    pub fn text(&self, document: &Document) -> String {
        format!("{}\n\n{}\n", document.title, document.headline)
    }
}

/// Stand-in.
///
/// # Errors
/// Never.
pub fn png(chart: &Chart, _document: &Document) -> Result<Vec<u8>, Error> {
    Ok([b"\x89PNG\r\n\x1a\n", chart.name.as_bytes()].concat())
}

/// Stand-in.
///
/// # Errors
/// Never.
pub fn xlsx(document: &Document) -> Result<Vec<u8>, Error> {
    Ok(format!("PK{}", document.title).into_bytes())
}

/// Stand-in.
///
/// # Errors
/// Never.
pub fn csv(table: &Table, _document: &Document) -> Result<Vec<u8>, Error> {
    let titles: Vec<&str> = table.columns.iter().map(|column| column.title.as_str()).collect();
    Ok(format!("{}\r\n", titles.join(",")).into_bytes())
}
