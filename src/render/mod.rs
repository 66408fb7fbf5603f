//! How a document looks: as HTML and text for a mail, as XLSX and CSV for its attachments, as PNG for its charts.
