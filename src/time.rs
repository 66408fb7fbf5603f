//! Instants as they are written and kept everywhere.

use chrono::{DateTime, SecondsFormat, Utc};

/// An instant as RFC 3339 in UTC, `2026-01-01T00:00:00Z`, with as many decimals as it needs.
pub fn time_text(value: DateTime<Utc>) -> String {
    value.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Cuts an instant to the microsecond that PostgreSQL would keep, so that a decision taken in memory and one taken
/// from the stored value are the same.
pub fn to_microsecond(value: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(value.timestamp_micros()).unwrap_or(value)
}
