//! What the reports share of writing: a pick by language, counts, and the parts of a document.

use chrono::{DateTime, Datelike, Days, NaiveDate, Utc};

use crate::document::{Cell, Column, Fact, Kind};
use crate::language::Language;
use crate::numbers::grouped;
use crate::time::{Zone, from_local};

/// Picks between the languages: each sentence stands with its translation.
#[derive(Clone, Copy)]
pub(super) struct Words(pub Language);

impl Words {
    pub fn of<T>(self, english: T, chinese: T) -> T {
        match self.0 {
            Language::English => english,
            Language::SimplifiedChinese => chinese,
        }
    }

    pub fn fact(self, english: &str, chinese: &str, value: Cell) -> Fact {
        Fact { label: self.of(english, chinese).to_owned(), value }
    }

    pub fn column(self, english: &str, chinese: &str, kind: Kind) -> Column {
        Column { title: self.of(english, chinese).to_owned(), kind }
    }

    /// `1 account`, `2 accounts`, `2 个账户`.
    pub fn accounts(self, count: u64) -> String {
        let number = grouped(i64::try_from(count).unwrap_or(i64::MAX));
        self.of(format!("{number} {}", if count == 1 { "account" } else { "accounts" }), format!("{number} 个账户"))
    }

    /// `1 point`, `2 points`, `2 积分`.
    pub fn points(self, points: i64) -> String {
        let number = grouped(points);
        self.of(format!("{number} {}", if points == 1 { "point" } else { "points" }), format!("{number} 积分"))
    }

    /// `1 batch`, `2 batches`, `2 个批次`.
    pub fn batches(self, count: i64) -> String {
        let number = grouped(count);
        self.of(format!("{number} {}", if count == 1 { "batch" } else { "batches" }), format!("{number} 个批次"))
    }

    /// An instant by the clock of the business.
    pub fn instant(self, instant: DateTime<Utc>, zone: Zone) -> String {
        let local = instant.with_timezone(&zone);
        let format = self.of("%Y-%m-%d %H:%M", "%Y年%-m月%-d日 %H:%M");
        local.format(format).to_string()
    }
}

/// A count as a cell.
pub(super) fn number(count: u64) -> Cell {
    Cell::Number(i64::try_from(count).unwrap_or(i64::MAX))
}

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
