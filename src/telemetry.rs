//! Log lines: to standard error, readable on a terminal, JSON objects elsewhere.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Names what to log, in the form of tracing's filters; it comes before the configured level.
const FILTER: &str = "POINTSD_LOG";

/// Starts logging for the life of the process. A second call changes nothing.
pub fn start(level: Level, format: LogFormat) {
    let filter = EnvFilter::try_from_env(FILTER).unwrap_or_else(|_| {
        // The scheduler tells of its own insides as INFO: that is no news of ours.
        EnvFilter::new(format!("{level},tokio_cron_scheduler={}", level.min(Level::WARN)))
    });
    let terminal = std::io::stderr().is_terminal();
    let json = match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !terminal,
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // The second of two calls fails, and the first one's lines go on: that is all that is wanted.
    let _ = if json {
        lines.json().flatten_event(true).with_span_list(false).try_init()
    } else {
        lines.with_ansi(terminal).with_target(false).try_init()
    };
}

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
