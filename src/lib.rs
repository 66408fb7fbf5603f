//! pointsd keeps a ledger of points that expire in PostgreSQL honest.
//!
//! In reading order, lowest floor first; ARCHITECTURE.md says what each may know.

pub mod bulk;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod database;
pub mod jobs;
pub mod language;
pub mod ledger;
pub mod prices;
pub mod schedule;
pub mod telemetry;
pub mod yaml;

/// An error and its causes on one line, for a log: Display of an error of ours never includes its source.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
