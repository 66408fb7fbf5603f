//! The sources of points and how long their points live: `ledger` in the configuration.

use std::collections::BTreeMap;
use std::fmt;

use rust_decimal::prelude::ToPrimitive as _;
use rust_decimal::{Decimal, RoundingStrategy};
use serde::de::{self, Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};
use serde_yaml::Value;

use super::values::{Word, between};
use crate::language::Language;
use crate::ledger::{Currency, Length, MAX_NAME, Period, REFUND_SOURCE, Term};
use crate::numbers::decimal;
use crate::yaml::{self, Lines};

/// A source that a recharge may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointSource {
    /// How long its points live; None: as `ledger.expires` says.
    pub expires: Option<Term>,
    /// Whether its points are paid for; None: not said.
    pub kind: Option<PointKind>,
    /// Its names for people.
    pub label: Label,
}

/// Whether points are paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PointKind {
    /// By the customer.
    Paid,
    /// No: they are a present, or a compensation.
    Promotional,
}

impl PointKind {
    /// As the configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            PointKind::Paid => "paid",
            PointKind::Promotional => "promotional",
        }
    }
}

/// A price for points that were not paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Valuation {
    /// The currency.
    #[serde(deserialize_with = "currency")]
    pub currency: Currency,
    /// What a point is worth in it, not in its minor unit.
    #[serde(deserialize_with = "per_point")]
    pub per_point: Decimal,
}

impl Valuation {
    /// What so many points are worth, in minor units; None where that passes what can be counted.
    pub fn of(self, points: i64) -> Option<i64> {
        let minor = Decimal::from(10_i64.checked_pow(self.currency.digits().into())?);
        let value = Decimal::from(points).checked_mul(self.per_point)?.checked_mul(minor)?;
        value.round_dp_with_strategy(0, RoundingStrategy::MidpointAwayFromZero).to_i64()
    }
}

fn currency<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Currency, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

fn per_point<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Decimal, D::Error> {
    // As a text, so that no float touches it.
    let written = String::deserialize(deserializer)?;
    let price = decimal(&written).filter(|price| *price > Decimal::ZERO && *price <= Decimal::from(1_000_000));
    price
        .ok_or_else(|| D::Error::custom(format_args!("{written:?} is no price; write one in quotes, such as \"0.01\"")))
}

/// The name of a source in each language that has one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// English.
    #[serde(default, deserialize_with = "label")]
    pub en: Option<String>,
    /// Simplified Chinese.
    #[serde(default, rename = "zh-CN", deserialize_with = "label")]
    pub zh_cn: Option<String>,
}

impl Label {
    /// The name in this language.
    pub fn text(&self, language: Language) -> Option<&str> {
        match language {
            Language::English => self.en.as_deref(),
            Language::SimplifiedChinese => self.zh_cn.as_deref(),
        }
    }
}

/// The name of a source in reports: its label, else the source itself.
pub(super) fn source_label<'a>(
    sources: &'a BTreeMap<String, PointSource>,
    source: &'a str,
    language: Language,
) -> &'a str {
    let configured = sources.get(source).and_then(|found| found.label.text(language));
    configured.unwrap_or(match (source, language) {
        (REFUND_SOURCE, Language::English) => "Refund",
        (REFUND_SOURCE, Language::SimplifiedChinese) => "退还",
        _ => source,
    })
}

/// `ledger` as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileLedger {
    expires: FileTerm,
    refund: FileTerm,
    sources: BTreeMap<String, Option<FileSource>>,
    valuation: Option<Valuation>,
    /// An old key, refused with the new spelling.
    recharge_sources: Option<Value>,
    /// An old key, refused with the new spelling.
    expiry: Option<Value>,
}

/// `ledger`, checked.
pub(super) struct Ledger {
    pub(super) expires: Term,
    pub(super) refund: Term,
    pub(super) sources: BTreeMap<String, PointSource>,
    pub(super) valuation: Option<Valuation>,
}

impl FileLedger {
    pub(super) fn check(self, lines: &Lines) -> Result<Ledger, yaml::Error> {
        refuse_old_keys(self.recharge_sources.as_ref(), self.expiry.as_ref(), lines)?;
        if self.sources.is_empty() {
            let what = "there is no source, so no recharge could be posted";
            return Err(lines.error("ledger.sources", what, "write at least one, such as sources: {gift: }"));
        }
        let mut sources = BTreeMap::new();
        for (name, written) in self.sources {
            let path = format!("ledger.sources.{name}");
            let length = name.chars().count();
            if !(1..=MAX_NAME).contains(&length) {
                let what = format_args!("a source of {length} characters");
                return Err(lines.error(&path, what, format_args!("write 1 to {MAX_NAME} characters")));
            }
            if name.trim() != name || name.contains(char::is_control) {
                let what = format_args!("{name:?} has spaces around it or control characters");
                return Err(lines.error(&path, what, "write the plain name"));
            }
            let FileSource { expires, kind, label } = written.unwrap_or_default();
            let expires = expires.map(|FileTerm(term)| term);
            sources.insert(name, PointSource { expires, kind: kind.map(|FileKind(kind)| kind), label });
        }
        let (FileTerm(expires), FileTerm(refund)) = (self.expires, self.refund);
        Ok(Ledger { expires, refund, sources, valuation: self.valuation })
    }
}

fn refuse_old_keys(sources: Option<&Value>, expiry: Option<&Value>, lines: &Lines) -> Result<(), yaml::Error> {
    if let Some(written) = sources {
        let names = written.as_sequence().into_iter().flatten().filter_map(Value::as_str);
        let names: Vec<String> = names.take(10).map(|name| format!("{name}: ")).collect();
        let names = if names.is_empty() { "gift: ".to_owned() } else { names.join(", ") };
        let what = "the key is now ledger.sources";
        return Err(lines.error("ledger.recharge_sources", what, format_args!("write sources: {{{names}}}")));
    }
    if let Some(written) = expiry {
        let days = written.get("days").and_then(Value::as_u64).unwrap_or(180);
        let hours = days.saturating_mul(24);
        let paths = ["ledger.expiry.days", "ledger.expiry.calendar_days"];
        let path = paths.into_iter().find(|path| lines.has(path)).unwrap_or("ledger.expiry");
        let remedy = format_args!(
            "write expires: {{days: {days}}} for days of the calendar, expires: {{hours: {hours}}} for days of 24 hours"
        );
        return Err(lines.error(path, "the key is now ledger.expires", remedy));
    }
    Ok(())
}

/// Lets the user's file replace what has to be written as a whole: a term, and the list of sources. A source that is built in
/// keeps its label and its kind unless the file has its own.
pub(super) fn replace_terms_and_sources(merged: &mut Value, changes: &Value, defaults: &Value) {
    let (Some(changed), Some(ledger)) = (changes.get("ledger"), merged.get_mut("ledger")) else { return };
    for key in ["expires", "refund"] {
        if let (Some(term), Some(place)) = (changed.get(key), ledger.get_mut(key)) {
            *place = term.clone();
        }
    }
    if let (Some(Value::Mapping(sources)), Some(place)) = (changed.get("sources"), ledger.get_mut("sources")) {
        let built_in = |name| defaults.get("ledger")?.get("sources")?.get(name);
        let whole = sources.iter().map(|(name, own)| {
            let mut source = built_in(name).cloned().unwrap_or(Value::Null);
            yaml::merge(&mut source, own.clone());
            (name.clone(), source)
        });
        *place = Value::Mapping(whole.collect());
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSource {
    expires: Option<FileTerm>,
    kind: Option<FileKind>,
    #[serde(default)]
    label: Label,
}

struct FileKind(PointKind);

impl<'de> Deserialize<'de> for FileKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FileKind, D::Error> {
        let words = &[("paid", PointKind::Paid), ("promotional", PointKind::Promotional)];
        deserializer.deserialize_any(Word { words, remedy: "paid or promotional" }).map(FileKind)
    }
}

fn label<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let wrong = text.trim().is_empty() || text.contains(char::is_control) || text.chars().count() > MAX_NAME;
    if wrong {
        Err(D::Error::custom(format_args!("write 1 to {MAX_NAME} characters on one line")))
    } else {
        Ok(Some(text))
    }
}

/// The remedy for a term that is none.
const TERM: &str =
    "write never, or one of hours, days, months and years, such as {days: 180} or {months: 6, end_of: month}";

struct FileTerm(Term);

impl<'de> Deserialize<'de> for FileTerm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FileTerm, D::Error> {
        deserializer.deserialize_any(TermVisitor).map(FileTerm)
    }
}

struct TermVisitor;

/// The keys of a term.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TermKeys {
    #[serde(default, deserialize_with = "count::<876_000, _>")]
    hours: Option<u32>,
    #[serde(default, deserialize_with = "count::<36_500, _>")]
    days: Option<u32>,
    #[serde(default, deserialize_with = "count::<1_200, _>")]
    months: Option<u32>,
    #[serde(default, deserialize_with = "count::<100, _>")]
    years: Option<u32>,
    #[serde(default, deserialize_with = "period")]
    end_of: Option<Period>,
    /// Only to say how it is written.
    never: Option<IgnoredAny>,
}

/// A number of units, up to a hundred years.
fn count<'de, const MOST: i64, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    between::<1, MOST, _, _>(deserializer).map(Some)
}

fn period<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Period>, D::Error> {
    let words = &[("day", Period::Day), ("month", Period::Month), ("quarter", Period::Quarter), ("year", Period::Year)];
    deserializer.deserialize_any(Word { words, remedy: "day, month, quarter or year" }).map(Some)
}

impl<'de> de::Visitor<'de> for TermVisitor {
    type Value = Term;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("never, or a term such as {days: 180}")
    }

    fn visit_str<E: de::Error>(self, written: &str) -> Result<Term, E> {
        match written {
            "never" => Ok(Term { length: Length::Never, end_of: None }),
            _ => Err(E::custom(format_args!("{written:?} is no term; {TERM}"))),
        }
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Term, A::Error> {
        let keys = TermKeys::deserialize(de::value::MapAccessDeserializer::new(map))?;
        if keys.never.is_some() {
            return Err(A::Error::custom("never stands alone; write expires: never"));
        }
        let lengths = [
            keys.hours.map(Length::Hours),
            keys.days.map(Length::Days),
            keys.months.map(Length::Months),
            keys.years.map(Length::Years),
        ];
        let mut lengths = lengths.into_iter().flatten();
        match (lengths.next(), lengths.next()) {
            (Some(length), None) => Ok(Term { length, end_of: keys.end_of }),
            (None, _) => Err(A::Error::custom(format_args!("the term has no length; {TERM}"))),
            (Some(_), Some(_)) => Err(A::Error::custom(format_args!("the term has two lengths; {TERM}"))),
        }
    }
}
