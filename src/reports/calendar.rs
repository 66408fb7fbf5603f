//! Days of the calendar, for the reports.

use crate::time::Zone;
use chrono::{DateTime, Datelike, Days, NaiveDate, Utc};

use crate::time::from_local;

/// So many days on the calendar later, at the same time of day.
pub(super) fn days_later(instant: DateTime<Utc>, days: u64, zone: Zone) -> DateTime<Utc> {
    let later = || from_local(instant.with_timezone(&zone).naive_local().checked_add_days(Days::new(days))?, zone);
    later().unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// The Monday after this instant's day, on the calendar.
pub(super) fn next_monday(instant: DateTime<Utc>, zone: Zone) -> NaiveDate {
    let day = instant.with_timezone(&zone).date_naive();
    let left = 7 - u64::from(day.weekday().num_days_from_monday());
    day.checked_add_days(Days::new(left)).unwrap_or(NaiveDate::MAX)
}
