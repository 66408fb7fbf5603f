//! Instants as they are written and kept everywhere.

mod zone;

use std::time::Duration;

use chrono::{
    DateTime, Datelike as _, MappedLocalTime, Months, NaiveDate, NaiveDateTime, NaiveTime, SecondsFormat, TimeDelta,
    TimeZone as _, Timelike as _, Utc,
};

pub use zone::Change;
pub use zone::{UnknownZone, Zone, ZoneOffset};

/// An instant as RFC 3339 in UTC, `2026-01-01T00:00:00Z`, with as many decimals as it needs.
pub fn time_text(value: DateTime<Utc>) -> String {
    value.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// A configured duration in its largest whole unit: `2 hours`, `90 minutes`, `1 second`.
pub fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (count, unit) = match seconds {
        _ if seconds.is_multiple_of(3600) => (seconds / 3600, "hour"),
        _ if seconds.is_multiple_of(60) => (seconds / 60, "minute"),
        _ => (seconds, "second"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// A time that passed or is to pass, in its two largest units: `5 h 12 min`.
pub fn span_text(span: TimeDelta) -> String {
    let milliseconds = span.num_milliseconds().max(0);
    let (seconds, minutes, hours, days) =
        (milliseconds / 1000, milliseconds / 60_000, milliseconds / 3_600_000, milliseconds / 86_400_000);
    match (days, hours, minutes) {
        (0, 0, 0) if seconds < 10 => format!("{}.{} s", seconds, milliseconds % 1000 / 100),
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        (_, _, _) => format!("{days} d {} h", hours % 24),
    }
}

/// Reads an instant in RFC 3339, such as `2026-01-31T09:30:00Z`.
///
/// # Errors
/// Says what was wrong and what to give instead.
pub fn parse_time(text: &str) -> Result<DateTime<Utc>, String> {
    let local = || {
        let text = text.trim().replace('T', " ").replace('/', "-");
        let whole = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"]
            .iter()
            .any(|form| NaiveDateTime::parse_from_str(&text, form).is_ok());
        whole || NaiveDate::parse_from_str(&text, "%Y-%m-%d").is_ok()
    };
    DateTime::parse_from_rfc3339(text).map(|time| time.with_timezone(&Utc)).map_err(|_| match local() {
        true => format!(
            "`{text}` is not a time, because its zone is missing; write RFC 3339, such as 2026-01-31T09:30:00+08:00, or Z \
             for UTC"
        ),
        false => format!("`{text}` is not a time; write RFC 3339, such as 2026-01-31T09:30:00Z"),
    })
}

/// Cuts an instant to the microsecond that PostgreSQL would keep, so that a decision taken in memory and one taken
/// from the stored value are the same.
pub fn to_microsecond(value: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(value.timestamp_micros()).unwrap_or(value)
}

/// The first instant at which clocks in `zone` show `local` or, where they leave that time out, what comes after it; `None`
/// beyond the calendar.
pub fn from_local(local: NaiveDateTime, zone: Zone) -> Option<DateTime<Utc>> {
    if let Some(found) = local.and_local_timezone(zone).earliest() {
        return Some(found.with_timezone(&Utc));
    }
    // The clocks change at a whole minute. The widest gap known is a whole day (Samoa skipped 30 December 2011).
    let minute = local.with_second(0)?.with_nanosecond(0)?;
    (1..=24 * 60).find_map(|minutes| {
        let shown = minute.checked_add_signed(TimeDelta::minutes(minutes))?;
        Some(shown.and_local_timezone(zone).earliest()?.with_timezone(&Utc))
    })
}

/// The first instant of a day in `zone`. If the clocks skip midnight, it is the one after the gap; if they show midnight
/// twice, the first.
pub fn start_of_day(day: NaiveDate, zone: Zone) -> DateTime<Utc> {
    from_local(day.and_time(NaiveTime::MIN), zone).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// Whole days of a zone that have begun, and the instants between which they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days {
    /// The first day.
    pub first: NaiveDate,
    /// The last day. It may be under way.
    pub last: NaiveDate,
    /// When the first one begins.
    pub from: DateTime<Utc>,
    /// When the last one ends: to come if it is under way.
    pub before: DateTime<Utc>,
}

impl Days {
    /// The days from `first` to `last`, by default from the first of the month to today.
    ///
    /// # Errors
    /// Says what was wrong with them, and what to give instead.
    pub fn new(
        first: Option<NaiveDate>,
        last: Option<NaiveDate>,
        zone: Zone,
        now: DateTime<Utc>,
    ) -> Result<Days, String> {
        let today = now.with_timezone(&zone).date_naive();
        let last = last.unwrap_or(today);
        let first = first.unwrap_or_else(|| last.with_day(1).unwrap_or(last));
        if first.year() < 1970 {
            return Err(format!("the first day, {first}, is before 1970, when no posting can be dated"));
        }
        if first > last {
            return Err(format!("the first day, {first}, is after the last one, {last}; exchange them"));
        }
        if last > today {
            return Err(format!("the last day, {last}, has not begun in {}; give {today} at the latest", zone.name()));
        }
        let before = last.succ_opt().map_or(now, |day| start_of_day(day, zone));
        Ok(Days { first, last, from: start_of_day(first, zone), before })
    }

    /// The days of a month, such as `2026-10`; those that have begun of the one under way.
    ///
    /// # Errors
    /// Says what was wrong with it, and what to give instead.
    pub fn month(month: &str, zone: Zone, now: DateTime<Utc>) -> Result<Days, String> {
        let first = NaiveDate::parse_from_str(&format!("{month}-01"), "%Y-%m-%d")
            .map_err(|_| format!("`{month}` is not a month; write it such as 2026-10"))?;
        let last = first.checked_add_months(Months::new(1)).and_then(|next| next.pred_opt()).unwrap_or(first);
        let today = now.with_timezone(&zone).date_naive();
        Days::new(Some(first), Some(last.min(today.max(first))), zone, now)
    }
}

/// The local time of day as it stands in names of files: `023000`. Where the clock shows it a second time, because it was
/// put back, `023000+0100`: no two instants of a zone have the same date and this.
pub fn time_of_day_for_names(value: DateTime<Utc>, zone: Zone) -> String {
    let local = value.with_timezone(&zone);
    let second = match zone.from_local_datetime(&local.naive_local()) {
        MappedLocalTime::Ambiguous(first, _) => first != local,
        MappedLocalTime::Single(_) | MappedLocalTime::None => false,
    };
    local.format(if second { "%H%M%S%z" } else { "%H%M%S" }).to_string()
}
