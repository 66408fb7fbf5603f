//! The log. If standard error is the journal, lines go there with their fields. Otherwise they go to standard error: as
//! text on a terminal, as JSON objects elsewhere.

use std::fmt::Debug;
use std::io::{self, IsTerminal};

use nix::sys::stat::fstat;
use serde::Deserialize;
use tracing::field::{Field, Value, Visit, display};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::{ParseError, filter_fn};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry};

use crate::plain;

/// The variable with a filter in tracing's syntax. It overrides the configured level.
const FILTER: &str = "POINTSD_LOG";
/// The name of the program in the journal.
const IDENTIFIER: &str = "pointsd";

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// Starts logging for the life of the process. A second call changes nothing.
pub fn start(level: Level, format: LogFormat) {
    let asked = std::env::var_os(FILTER).map(|text| text.to_string_lossy().into_owned());
    let (filter, wrong) = match filter(level, asked.as_deref()) {
        Ok(filter) => (filter, None),
        Err(wrong) => (configured(level), Some(wrong)),
    };
    // At level trace ureq logs whole addresses, and the address of a dead man's switch is a secret.
    let lines = registry().with(filter).with(filter_fn(|line| !line.target().starts_with("ureq")));
    let terminal = io::stderr().is_terminal();
    let journal = match format {
        LogFormat::Auto if is_journal() => journal().ok(),
        _ => None,
    };
    let json = match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !terminal,
    };
    // Standard error may be closed. A line about a line that could not be written would panic.
    // A second call fails, and the log of the first one goes on.
    let _ = match (journal, json) {
        (Some(journal), _) => lines.with(Plain(journal)).try_init(),
        (None, true) => {
            let json = fmt::layer().with_writer(io::stderr).json().flatten_event(true).with_span_list(false);
            lines.with(Plain(json.log_internal_errors(false))).try_init()
        }
        (None, false) => {
            let text = fmt::layer().with_writer(io::stderr).with_ansi(terminal).with_target(false);
            lines.with(Plain(text.log_internal_errors(false))).try_init()
        }
    };
    if let Some(wrong) = wrong {
        tracing::error!(asked, wrong, "{FILTER} cannot be used; the configured level is in force");
    }
}

/// Hands the events of the log on without control characters. Texts of other programs could otherwise forge lines, or
/// command the terminal of a reader.
struct Plain<L>(L);

impl<S: Subscriber, L: Layer<S>> Layer<S> for Plain<L> {
    // The fields of spans are names and numbers of ours.
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.0.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.0.on_record(id, values, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let fields = event.metadata().fields();
        let mut seen = Values(fields.iter().map(|_| None).collect());
        event.record(&mut seen);
        let values: Vec<Option<&dyn Value>> = seen.0.iter().map(Option::as_deref).collect();
        self.0.on_event(&Event::new(event.metadata(), &fields.value_set_all(&values)), context);
    }
}

/// The values of an event, in the order of its fields.
struct Values(Vec<Option<Box<dyn Value>>>);

impl Values {
    fn set(&mut self, field: &Field, value: impl Value + 'static) {
        if let Some(place) = self.0.get_mut(field.index()) {
            *place = Some(Box::new(value));
        }
    }
}

impl Visit for Values {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.set(field, display(plain::line(&format!("{value:?}")).into_owned()));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, plain::line(value).into_owned());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value);
    }
}

/// Whether standard error is the journal: then JOURNAL_STREAM names its device and inode.
pub fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    fstat(io::stderr()).is_ok_and(|found| stream == format!("{}:{}", found.st_dev, found.st_ino))
}

/// A layer whose fields become fields of the journal: `job` becomes JOB, `run_id` RUN_ID. Fields of spans are included.
fn journal() -> io::Result<tracing_journald::Layer> {
    let priorities = PriorityMappings {
        error: Priority::Error,
        warn: Priority::Warning,
        info: Priority::Informational,
        debug: Priority::Debug,
        trace: Priority::Debug,
    };
    let layer = tracing_journald::layer()?.with_field_prefix(None).with_syslog_identifier(IDENTIFIER.to_owned());
    Ok(layer.with_priority_mappings(priorities))
}

fn configured(level: Level) -> EnvFilter {
    EnvFilter::new(base(level))
}

fn base(level: Level) -> String {
    // The library logs its own internals at level info.
    format!("{level},tokio_cron_scheduler={}", level.min(Level::WARN))
}

/// The filter of the log, or the mistake in the filter that was asked for. A filter that names only modules leaves the
/// others at `level`, so that a misspelt name silences nothing.
fn filter(level: Level, asked: Option<&str>) -> Result<EnvFilter, String> {
    let Some(asked) = asked.map(str::trim).filter(|asked| !asked.is_empty()) else { return Ok(configured(level)) };
    let mut names_a_level = false;
    for part in asked.split(',').map(str::trim) {
        if part.parse::<LevelFilter>().is_ok() {
            names_a_level = true;
        } else if !part.contains(['=', '[']) && part != "pointsd" && !part.starts_with("pointsd::") {
            // tracing takes any other word for a module, and would log nothing but that.
            return Err(format!("{part:?} is no level; write error, warn, info, debug or trace, or MODULE=LEVEL"));
        }
    }
    let text = if names_a_level { asked.to_owned() } else { format!("{},{asked}", base(level)) };
    EnvFilter::builder().parse(text).map_err(|error: ParseError| error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn understood(asked: &str) -> String {
        let mut parts: Vec<String> =
            filter(Level::INFO, Some(asked)).unwrap().to_string().split(',').map(str::to_owned).collect();
        parts.sort();
        parts.join(",")
    }

    #[test]
    fn a_filter_comes_before_the_level_and_one_of_modules_beside_it() {
        assert_eq!(understood("debug"), "debug");
        assert_eq!(understood("off"), "off");
        assert_eq!(understood("info,pointsd::ledger=debug"), "info,pointsd::ledger=debug");
        assert_eq!(understood("pontsd=debug"), "info,pontsd=debug,tokio_cron_scheduler=warn");
        assert_eq!(understood("pointsd::ledger"), "info,pointsd::ledger=trace,tokio_cron_scheduler=warn");
        assert_eq!(understood(" "), "info,tokio_cron_scheduler=warn");
    }

    #[test]
    fn a_misspelt_level_is_refused() {
        for asked in ["ifno", "info,debgu", "pointsd=loud", "info,pointsd::ledger=debgu"] {
            assert!(filter(Level::INFO, Some(asked)).is_err(), "{asked}");
        }
        assert!(filter(Level::INFO, Some("ifno")).unwrap_err().starts_with("\"ifno\" is no level; write "));
    }
}
