//! The choices of a business: its sources of points, and how long points live.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Datelike as _, Days, Months, NaiveDate, NaiveTime, TimeDelta, Utc};

use crate::time::{Zone, from_local};

/// Version of the rule by which a consume draws: soonest expiry first, then the older batch. Each entry keeps it, so
/// that a later rule does not change how an old history reads.
pub const DRAWING_RULE: i16 = 1;

/// The source of a batch that gives back points which no batch had covered.
pub const REFUND_SOURCE: &str = "refund";

/// The last instant that the ledger can store: the points of a batch that ends then never expire.
pub const NEVER: DateTime<Utc> = match DateTime::from_timestamp(253_402_300_799, 999_999_000) {
    Some(instant) => instant,
    None => DateTime::<Utc>::MAX_UTC,
};

/// The business's choices, handed to the state machine with every group.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The sources that a recharge may have, and how long their points live. Without a term of its own a source has `term`.
    pub sources: BTreeMap<String, Option<Term>>,
    /// Those whose points are a present: a recharge from them has no price.
    pub promotional: BTreeSet<String>,
    /// How long points live if nothing else says so.
    pub term: Term,
    /// How long points of a refund live at least.
    pub refund: Term,
    /// The business time zone, in which terms are counted.
    pub zone: Zone,
}

/// How long points live from the effective time of their recharge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// How long.
    pub length: Length,
    /// They live on to the end of this period, in which the term ends.
    pub end_of: Option<Period>,
}

/// The length of a [`Term`]. Days, months and years are those of the calendar in the business time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// For ever.
    Never,
    /// So many hours.
    Hours(u32),
    /// To the same local time, so many days later. Where a clock change leaves that time out, the first instant after the gap; where
    /// it comes twice, the earlier.
    Days(u32),
    /// To the same day and local time, so many months later; to the month's last day, where it has no such day.
    Months(u32),
    /// The same for years.
    Years(u32),
}

/// A period of the calendar in the business time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// From one midnight to the next.
    Day,
    /// A month.
    Month,
    /// Three months, from January, April, July or October on.
    Quarter,
    /// A year.
    Year,
}

impl Term {
    /// So many days of the calendar.
    pub fn days(days: u32) -> Term {
        Term { length: Length::Days(days), end_of: None }
    }

    /// The first instant at which points that came at `at` are gone; `None` beyond the year 9999.
    pub fn expires_at(self, at: DateTime<Utc>, zone: Zone) -> Option<DateTime<Utc>> {
        let local = |at: DateTime<Utc>| at.with_timezone(&zone).naive_local();
        let end = match self.length {
            Length::Never => return Some(NEVER),
            Length::Hours(hours) => at.checked_add_signed(TimeDelta::hours(i64::from(hours)))?,
            Length::Days(days) => from_local(local(at).checked_add_days(Days::new(u64::from(days)))?, zone)?,
            Length::Months(months) => from_local(local(at).checked_add_months(Months::new(months))?, zone)?,
            Length::Years(years) => {
                from_local(local(at).checked_add_months(Months::new(years.checked_mul(12)?))?, zone)?
            }
        };
        let end = match self.end_of {
            None => end,
            Some(period) => from_local(period.end(local(end).date())?.and_time(NaiveTime::MIN), zone)?,
        };
        (end <= NEVER).then_some(end)
    }
}

impl Period {
    /// The first day after the period that a day is in.
    fn end(self, day: NaiveDate) -> Option<NaiveDate> {
        let months = match self {
            Period::Day => return day.succ_opt(),
            Period::Month => 1,
            Period::Quarter => 3 - day.month0() % 3,
            Period::Year => 12 - day.month0(),
        };
        day.with_day(1)?.checked_add_months(Months::new(months))
    }
}

/// No source; points live for 180 days, of a refund for 30 at least; UTC.
impl Default for Rules {
    fn default() -> Rules {
        Rules {
            sources: BTreeMap::new(),
            promotional: BTreeSet::new(),
            term: Term::days(180),
            refund: Term::days(30),
            zone: Zone::UTC,
        }
    }
}

impl Rules {
    /// When points of a source that come at `at` expire; `None` beyond the year 9999.
    pub fn expires_at(&self, source: &str, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let term = self.sources.get(source).copied().flatten().unwrap_or(self.term);
        term.expires_at(at, self.zone)
    }

    /// The earliest instant at which points that come back at `at` expire.
    pub(crate) fn refund_expires_at(&self, at: DateTime<Utc>) -> DateTime<Utc> {
        self.refund.expires_at(at, self.zone).unwrap_or(NEVER)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_term_in_days_keeps_the_local_time() {
        let zone = |name: &str| name.parse().unwrap();
        let (paris, apia) = (zone("Europe/Paris"), zone("Pacific/Apia"));
        let cases = [
            // 02:30 in Paris the day before the clocks go forward: 02:30 does not come, 03:00 is the first after it.
            (paris, 1, "2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z"),
            // The day before they go back: 02:30 comes twice, the earlier one counts.
            (paris, 1, "2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z"),
            // Across a change the day has 23 or 25 hours, and local noon stays noon.
            (paris, 1, "2026-03-28T11:00:00Z", "2026-03-29T10:00:00Z"),
            (paris, 180, "2026-01-01T11:00:00Z", "2026-06-30T10:00:00Z"),
            // Samoa had no 30 December 2011: what would have ended at that noon ends when the 31st begins.
            (apia, 1, "2011-12-29T22:00:00Z", "2011-12-30T10:00:00Z"),
            (Zone::UTC, 180, "2026-01-01T00:00:00Z", "2026-06-30T00:00:00Z"),
        ];
        for (zone, days, from, to) in cases {
            let end = Term::days(days).expires_at(from.parse().unwrap(), zone);
            assert_eq!(end, Some(to.parse().unwrap()), "{days} days from {from} in {zone}");
        }
    }

    #[test]
    fn terms_by_hand() {
        let zone = |name: &str| name.parse::<Zone>().unwrap();
        let (utc, paris, shanghai, sao_paulo) =
            (Zone::UTC, zone("Europe/Paris"), zone("Asia/Shanghai"), zone("America/Sao_Paulo"));
        let (hours, days, months, years) = (Length::Hours, Length::Days, Length::Months, Length::Years);
        let (day, month, quarter, year) =
            (Some(Period::Day), Some(Period::Month), Some(Period::Quarter), Some(Period::Year));
        let cases = [
            // The last days of months.
            (utc, months(1), None, "2026-01-31T12:00:00Z", "2026-02-28T12:00:00Z"),
            (utc, months(1), None, "2028-01-31T12:00:00Z", "2028-02-29T12:00:00Z"),
            (utc, months(1), None, "2026-01-29T12:00:00Z", "2026-02-28T12:00:00Z"),
            (utc, months(13), None, "2026-12-31T12:00:00Z", "2028-01-31T12:00:00Z"),
            (utc, months(3), None, "2026-11-30T12:00:00Z", "2027-02-28T12:00:00Z"),
            (utc, years(1), None, "2028-02-29T12:00:00Z", "2029-02-28T12:00:00Z"),
            (utc, years(4), None, "2028-02-29T12:00:00Z", "2032-02-29T12:00:00Z"),
            (utc, years(100), None, "2000-02-29T12:00:00Z", "2100-02-28T12:00:00Z"),
            // On the clocks of the business it is the 1st of February already.
            (shanghai, months(1), None, "2026-01-31T16:00:00Z", "2026-02-28T16:00:00Z"),
            (shanghai, days(1), month, "2026-01-30T16:00:00Z", "2026-02-28T16:00:00Z"),
            // Noon stays noon when the clocks change between; hours are hours.
            (paris, months(6), None, "2026-01-15T11:00:00Z", "2026-07-15T10:00:00Z"),
            (paris, hours(24), None, "2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z"),
            (paris, days(1), None, "2026-03-28T12:00:00Z", "2026-03-29T11:00:00Z"),
            // 02:30:15 is left out: the first instant after the gap.
            (paris, months(1), None, "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z"),
            (paris, years(1), None, "2025-03-29T01:30:15Z", "2026-03-29T01:00:00Z"),
            // It comes twice: the earlier.
            (paris, months(1), None, "2026-09-25T00:30:00Z", "2026-10-25T00:30:00Z"),
            // The ends of periods, at the midnight that follows.
            (utc, hours(1), day, "2026-01-31T22:59:59Z", "2026-02-01T00:00:00Z"),
            (utc, hours(1), day, "2026-01-31T23:00:00Z", "2026-02-02T00:00:00Z"),
            (utc, days(30), month, "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"),
            (utc, days(31), month, "2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z"),
            (utc, months(1), quarter, "2026-02-28T00:00:00Z", "2026-04-01T00:00:00Z"),
            (utc, months(1), quarter, "2026-03-01T00:00:00Z", "2026-07-01T00:00:00Z"),
            (utc, months(1), quarter, "2026-11-30T00:00:00Z", "2027-01-01T00:00:00Z"),
            (utc, years(1), year, "2026-12-31T23:59:59Z", "2028-01-01T00:00:00Z"),
            (paris, days(1), month, "2026-03-28T23:00:00Z", "2026-03-31T22:00:00Z"),
            // In São Paulo midnight itself was left out on 4 November 2018.
            (sao_paulo, days(1), day, "2018-11-02T15:00:00Z", "2018-11-04T03:00:00Z"),
            (utc, Length::Never, None, "2026-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"),
        ];
        for (zone, length, end_of, from, to) in cases {
            let end = Term { length, end_of }.expires_at(from.parse().unwrap(), zone);
            assert_eq!(end, Some(to.parse().unwrap()), "{length:?}, end of {end_of:?}, from {from} in {zone}");
        }
    }

    /// Against the calendar and the clocks of another library.
    #[test]
    fn terms_over_zones_and_years() {
        use jiff::civil::DateTime as Civil;
        use jiff::tz::{AmbiguousOffset, TimeZone};
        use jiff::{Span, Timestamp, ToSpan as _};

        let mut rng = fastrand::Rng::with_seed(20_261_128);
        let instant = |at: Timestamp| DateTime::from_timestamp_micros(at.as_microsecond()).unwrap();
        // The end by its local time: the earlier of two, and the clock change itself where the time is left out.
        let end = |local: Civil, zone: &TimeZone| match zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
                offset.to_timestamp(local).unwrap()
            }
            AmbiguousOffset::Gap { before, .. } => {
                let after = before.to_timestamp(local).unwrap() + 1.nanosecond();
                zone.preceding(after).next().unwrap().timestamp()
            }
        };
        for name in [
            "UTC",
            "Europe/Paris",
            "Asia/Shanghai",
            "America/New_York",
            "America/Sao_Paulo",
            "Australia/Lord_Howe",
            "Pacific/Apia",
            "Asia/Tehran",
        ] {
            let (zone, other): (Zone, TimeZone) = (name.parse().unwrap(), TimeZone::get(name).unwrap());
            for _ in 0..4_000 {
                let mut at = Timestamp::from_second(rng.i64(0..4_000_000_000)).unwrap();
                if rng.u8(0..3) == 0 {
                    // Near a change of the clocks and near the end of a month more often than by chance.
                    let change = other.following(at).next().map_or(at, |change| change.timestamp());
                    at = change - Span::new().hours(rng.i64(0..24 * 62)).minutes(rng.i64(0..60));
                }
                let most = *rng.choice(&[120, 40, 15, 3]).unwrap();
                let number = rng.u32(1..=most);
                let local = other.to_datetime(at);
                let (length, due) = match rng.u8(0..4) {
                    0 => (Length::Hours(number), other.to_datetime(at + i64::from(number).hours())),
                    1 => (Length::Days(number), local + i64::from(number).days()),
                    2 => (Length::Months(number), local + i64::from(number).months()),
                    _ => (Length::Years(number), local + i64::from(number).years()),
                };
                let found = |end_of| Term { length, end_of }.expires_at(instant(at), zone).unwrap();
                let context = format!("{length:?} from {at} in {name}");
                let plain = match length {
                    Length::Hours(hours) => at + i64::from(hours).hours(),
                    _ => end(due, &other),
                };
                assert_eq!(found(None), instant(plain), "{context}");
                // A time that is left out ends at the change, which may be on the next day.
                let due = other.to_datetime(plain).date();
                for (period, next) in [
                    (Period::Day, due.tomorrow().unwrap()),
                    (Period::Month, due.last_of_month().tomorrow().unwrap()),
                    (Period::Year, due.last_of_year().tomorrow().unwrap()),
                ] {
                    assert_eq!(found(Some(period)), instant(end(next.at(0, 0, 0, 0), &other)), "{period:?}, {context}");
                }
                let mut quarter = due.first_of_month();
                while ![1, 4, 7, 10].contains(&quarter.month()) || quarter <= due {
                    quarter += 1.month();
                }
                assert_eq!(found(Some(Period::Quarter)), instant(end(quarter.at(0, 0, 0, 0), &other)), "{context}");
            }
        }
    }

    #[test]
    fn a_term_beyond_the_year_9999_has_no_end() {
        for length in
            [Length::Hours(u32::MAX), Length::Days(u32::MAX), Length::Months(u32::MAX), Length::Years(u32::MAX)]
        {
            let term = Term { length, end_of: None };
            assert_eq!(term.expires_at(NEVER, Zone::UTC), None, "{length:?}");
        }
        assert_eq!(Term { length: Length::Never, end_of: None }.expires_at(NEVER, Zone::UTC), Some(NEVER));
    }
}
