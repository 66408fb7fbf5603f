//! Single values as a file has them: each refusal says what to write instead.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use chrono::Weekday;
use serde::de::{self, Error as _};
use serde::{Deserialize, Deserializer};

use crate::spelling::nearest;
use crate::time::Zone;

pub(super) fn business_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let Some(name) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let wrong = name.trim().is_empty() || name.contains(char::is_control) || name.chars().count() > 100;
    if wrong { Err(D::Error::custom("write 1 to 100 characters on one line, or null")) } else { Ok(Some(name)) }
}

const WEEKDAYS: [(&str, Weekday); 7] = [
    ("monday", Weekday::Mon),
    ("tuesday", Weekday::Tue),
    ("wednesday", Weekday::Wed),
    ("thursday", Weekday::Thu),
    ("friday", Weekday::Fri),
    ("saturday", Weekday::Sat),
    ("sunday", Weekday::Sun),
];

/// A weekday as the configuration writes it.
pub fn weekday_name(day: Weekday) -> &'static str {
    WEEKDAYS.iter().find(|(_, found)| *found == day).map_or("", |(name, _)| name)
}

pub(super) fn weekday<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Weekday>, D::Error> {
    let Some(written) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let found = WEEKDAYS.iter().find(|(name, _)| *name == written).map(|(_, day)| Some(*day));
    found.ok_or_else(|| D::Error::custom(format_args!("{written:?} is no weekday; write monday to sunday, or null")))
}

/// One of a few words; whatever else stands there, the refusal says which.
pub(super) struct Word<'a, T> {
    pub(super) words: &'a [(&'a str, T)],
    pub(super) remedy: &'a str,
}

impl<T: Copy> de::Visitor<'_> for Word<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.remedy)
    }

    fn visit_str<E: de::Error>(self, written: &str) -> Result<T, E> {
        let found = self.words.iter().find(|(word, _)| *word == written);
        found
            .map(|(_, meant)| *meant)
            .ok_or_else(|| E::custom(format_args!("{written:?} is none of the words; write {}", self.remedy)))
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(super) struct FileZone(pub(super) Zone);

impl TryFrom<String> for FileZone {
    type Error = String;

    fn try_from(written: String) -> Result<FileZone, String> {
        written.parse().map(FileZone).map_err(|_| match nearest_time_zone(&written) {
            Some(name) => format!("{written:?} is no time zone; did you mean {name}?"),
            None => {
                format!("{written:?} is no time zone; write an IANA name such as UTC, Europe/Paris or Asia/Shanghai")
            }
        })
    }
}

pub(super) fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    match Option::<String>::deserialize(deserializer)? {
        Some(text) if text.trim().is_empty() => {
            Err(D::Error::custom("is empty; write a path, or null for the default"))
        }
        Some(text) if text.starts_with('~') => Err(D::Error::custom("`~` is not expanded; write the whole path")),
        text => Ok(text.map(PathBuf::from)),
    }
}

pub(super) fn between<'de, const LEAST: i64, const MOST: i64, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: TryFrom<i64>,
    D: Deserializer<'de>,
{
    let written = i64::deserialize(deserializer)?;
    let number = T::try_from(written).ok().filter(|_| (LEAST..=MOST).contains(&written));
    number.ok_or_else(|| {
        D::Error::custom(format_args!("{written} is out of bounds; write a whole number from {LEAST} to {MOST}"))
    })
}

pub(super) fn seconds<'de, const MOST: i64, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    between::<1, MOST, _, _>(deserializer).map(Duration::from_secs)
}

pub(super) fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<tracing::Level, D::Error> {
    let written = String::deserialize(deserializer)?;
    written
        .parse()
        .map_err(|_| D::Error::custom(format_args!("{written:?} is no level; write error, warn, info, debug or trace")))
}

/// The zone that was probably meant: the name in other case, the city alone, or a misspelling.
fn nearest_time_zone(written: &str) -> Option<String> {
    let written = written.trim().replace(' ', "_").to_lowercase();
    let names = Zone::names();
    let names = || names.iter().map(String::as_str);
    let city = |name: &str| name.rsplit('/').next().map(str::to_lowercase);
    names()
        .find(|name| name.to_lowercase() == written)
        .or_else(|| names().find(|name| city(name).as_deref() == Some(written.as_str())))
        .or_else(|| nearest(&written, names()))
        .map(str::to_owned)
}
