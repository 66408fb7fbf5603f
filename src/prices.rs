//! The price list: the cost of a use of a service, and an estimate of it from the input.
//!
//! | kind | cost in points |
//! | --- | --- |
//! | fixed | its points |
//! | by time, divisor | `max(min_points, ceil(seconds / divisor))` |
//! | by time, multiplier | `max(min_points, ceil(ceil(seconds) * multiplier))` |
//! | free | 0 |
//!
//! Divisor and multiplier may be fractional. An estimate is the cost of the seconds that the input stands for:
//! `characters * seconds_per_char`, or the input's own seconds. Cost and estimate share one calculation, so they agree for
//! the same seconds.
//!
//! All arithmetic is on whole numbers of billionths. A rule has at most 9 decimals, so this is exact; seconds with
//! more decimals are first rounded up to a billionth, which changes no price: a price steps at multiples of the
//! divisor or of one second, and these are whole billionths.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use rust_decimal::Decimal;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::numbers::{MAX_POINTS, decimal};
use crate::spelling::nearest;
use crate::yaml;
pub use crate::yaml::Error as FileError;

const BILLION: u128 = 1_000_000_000;
const BILLION_DECIMALS: u32 = 9;

/// What every known service costs. Read from YAML, see `config/prices.yaml` for the form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceList {
    rules: BTreeMap<String, Rule>,
}

/// How a service is charged.
#[cfg_attr(feature = "service", derive(utoipa::ToSchema), schema(as = PriceKind))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The same points for each use.
    Fixed,
    /// By the seconds that the work took.
    #[serde(rename = "by time")]
    ByTime,
    /// Known, and costs nothing.
    Free,
}

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::Fixed => "fixed",
            Kind::ByTime => "by time",
            Kind::Free => "free",
        })
    }
}

/// One line of the price list, as shown to people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Service<'a> {
    /// The name under which the service is charged.
    #[serde(rename = "service")]
    pub name: &'a str,
    /// How it is charged.
    pub kind: Kind,
    /// The rule in words, such as `1 point per 10 seconds begun, at least 1`.
    pub rule: String,
    /// What an estimate is made from, such as `0.3 seconds per character`; None where there is none.
    pub estimation: Option<String>,
}

/// One line of the price list, in numbers.
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Serialize)]
pub struct Price<'a> {
    /// The name under which the service is charged.
    pub service: &'a str,
    /// How it is charged.
    pub kind: Kind,
    /// The rule in words.
    pub rule: String,
    /// Of a fixed price: the points of a use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub points: Option<i64>,
    /// Of a price by time: the seconds of a point.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "service", schema(value_type = Option<f64>))]
    pub divisor: Option<Box<RawValue>>,
    /// Of a price by time: the points of a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "service", schema(value_type = Option<f64>))]
    pub multiplier: Option<Box<RawValue>>,
    /// Of a price by time: the least points of a use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_points: Option<i64>,
    /// Where an estimate is made from the characters of the input: the seconds of each.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "service", schema(value_type = Option<f64>))]
    pub seconds_per_char: Option<Box<RawValue>>,
    /// Whether an estimate is made from the seconds of the input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_input_seconds: Option<bool>,
}

/// Why no price can be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum PriceError {
    #[error("the price list has no service {service:?}; {hint}")]
    UnknownService { service: String, hint: String },
    #[error("{service} is charged by time: give the seconds that it took")]
    SecondsMissing { service: String },
    #[error(
        "{given:?} is no number of seconds: write a decimal number of 0 or more with at most 28 digits, such as 12.5"
    )]
    SecondsInvalid { given: String },
    #[error(
        "{service} has no estimation rule in the price list: add `estimation` with seconds_per_char or use_input_seconds to it"
    )]
    NoEstimation { service: String },
    #[error("{service} is estimated from its text: give the number of characters")]
    CharsMissing { service: String },
    #[error("{service} is estimated from its input's length: give the input's seconds")]
    InputSecondsMissing { service: String },
    #[error("the price of {service} would exceed 1,000,000,000,000 points, the most that one entry may hold")]
    TooLarge { service: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    Fixed(Points),
    ByTime(TimeRule),
    Free,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenRule")]
struct TimeRule {
    rate: Rate,
    min_points: Points,
    estimation: Option<Estimation>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rate {
    Divisor(Billionths),
    Multiplier(Billionths),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenEstimation")]
enum Estimation {
    SecondsPerChar(Billionths),
    InputSeconds,
}

/// Points of a rule: 0 to [`MAX_POINTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Exact")]
struct Points(i64);

/// A number of a rule, exact: more than 0 and at most 10^12, in billionths at most 10^21.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Exact")]
struct Billionths(u128);

impl Display for Billionths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.0 / BILLION;
        let decimals = format!("{:09}", self.0 % BILLION);
        match decimals.trim_end_matches('0') {
            "" => write!(f, "{whole}"),
            decimals => write!(f, "{whole}.{decimals}"),
        }
    }
}

impl Billionths {
    /// The number as JSON, with just its own digits.
    fn as_json(self) -> Option<Box<RawValue>> {
        RawValue::from_string(self.to_string()).ok()
    }
}

impl TimeRule {
    /// The points for so many billionths of a second; None beyond [`MAX_POINTS`].
    fn points(&self, seconds: u128) -> Option<i64> {
        let points = match self.rate {
            Rate::Divisor(divisor) => seconds.div_ceil(divisor.0),
            Rate::Multiplier(multiplier) => seconds.div_ceil(BILLION).checked_mul(multiplier.0)?.div_ceil(BILLION),
        };
        let points = i64::try_from(points).ok()?.max(self.min_points.0);
        (points <= MAX_POINTS).then_some(points)
    }
}

impl PriceList {
    /// Reads a price list. `file` is only shown in errors.
    ///
    /// # Errors
    /// Anything but the shapes that `config/prices.yaml` shows, with the line and what to write instead.
    pub fn from_yaml(file: &str, text: &str) -> Result<PriceList, FileError> {
        let (sections, lines) = yaml::parse::<Sections>(file, text)?;
        let fixed = sections.fixed_costs.unwrap_or_default().into_iter();
        let fixed = fixed.map(|(name, points)| (format!("fixed_costs.{name}"), name, Rule::Fixed(points)));
        let timed = sections.duration_based_costs.unwrap_or_default().into_iter();
        let timed = timed.map(|(name, rule)| (format!("duration_based_costs.{name}"), name, Rule::ByTime(rule)));
        let free = sections.free_services.unwrap_or_default().into_iter().enumerate();
        let free = free.map(|(position, name)| (format!("free_services[{position}]"), name, Rule::Free));

        let mut rules = BTreeMap::new();
        let mut paths = BTreeMap::new();
        for (path, name, rule) in fixed.chain(timed).chain(free) {
            if name.is_empty() || name.trim() != name || name.contains(char::is_control) {
                let what = format_args!("{name:?} is no name for a service");
                return Err(lines.error(&path, what, "write a name without spaces around it"));
            }
            if let Some(other) = paths.insert(name.clone(), path.clone()) {
                let mut both = [(lines.line(&path), path), (lines.line(&other), other)];
                both.sort_by_key(|(line, _)| *line);
                let [(line, first), (_, second)] = both;
                let what = format_args!("the service {name:?} has a price already, {first} in line {line}");
                return Err(lines.error(&second, what, "keep one of the two"));
            }
            rules.insert(name, rule);
        }
        if rules.is_empty() {
            let remedy = "write at least one, e.g. `fixed_costs: {script: 5}`";
            return Err(lines.error("", "the price list names no service", remedy));
        }
        Ok(PriceList { rules })
    }

    /// The points to charge for one use which took `seconds`; 0 for a free service. Fixed and free services need
    /// no seconds and do not look at their number. The formulas stand at the top of this module.
    ///
    /// # Errors
    /// An unknown service; seconds that are missing or negative; more than [`MAX_POINTS`] points.
    pub fn cost(&self, service: &str, seconds: Option<Decimal>) -> Result<i64, PriceError> {
        let seconds = seconds.map(seconds_billionths).transpose()?;
        self.price(service, |_| seconds.ok_or_else(|| PriceError::SecondsMissing { service: service.to_owned() }))
    }

    /// The points that one use needs before it starts, from what is known of its input: the cost of the seconds
    /// that the input stands for, never lower than [`PriceList::cost`] of the same seconds.
    ///
    /// # Errors
    /// An unknown service; one without an estimation rule; the input that its rule needs missing or negative; more
    /// than [`MAX_POINTS`] points.
    pub fn estimate(
        &self,
        service: &str,
        chars: Option<u64>,
        input_seconds: Option<Decimal>,
    ) -> Result<i64, PriceError> {
        let input_seconds = input_seconds.map(seconds_billionths).transpose()?;
        self.price(service, |rule| {
            let service = || service.to_owned();
            match rule.estimation {
                None => Err(PriceError::NoEstimation { service: service() }),
                Some(Estimation::InputSeconds) => {
                    input_seconds.ok_or_else(|| PriceError::InputSecondsMissing { service: service() })
                }
                Some(Estimation::SecondsPerChar(rate)) => {
                    let chars = chars.ok_or_else(|| PriceError::CharsMissing { service: service() })?;
                    // At most 2^64 * 10^21; what does not fit is too large for any price.
                    Ok(u128::from(chars).saturating_mul(rate.0))
                }
            }
        })
    }

    /// Whether [`PriceList::cost`] needs the seconds of this service. False for an unknown one.
    pub fn is_charged_by_time(&self, service: &str) -> bool {
        matches!(self.rules.get(service), Some(Rule::ByTime(_)))
    }

    /// Every service: the fixed ones, then those charged by time, then the free ones, each by name.
    pub fn services(&self) -> impl Iterator<Item = Service<'_>> {
        let mut services: Vec<_> = self.rules.iter().map(|(name, rule)| describe(name, rule)).collect();
        services.sort_by_key(|service| (service.kind, service.name));
        services.into_iter()
    }

    /// Every service in numbers, in the order of [`PriceList::services`].
    pub fn prices(&self) -> impl Iterator<Item = Price<'_>> {
        self.services().map(|service| {
            let Service { name, kind, rule, .. } = service;
            let (min_points, divisor, multiplier, estimation) = match self.rules.get(name) {
                Some(Rule::ByTime(TimeRule { rate, min_points, estimation })) => match rate {
                    Rate::Divisor(divisor) => (Some(min_points.0), divisor.as_json(), None, *estimation),
                    Rate::Multiplier(multiplier) => (Some(min_points.0), None, multiplier.as_json(), *estimation),
                },
                _ => (None, None, None, None),
            };
            let points = match self.rules.get(name) {
                Some(Rule::Fixed(points)) => Some(points.0),
                _ => None,
            };
            let (seconds_per_char, use_input_seconds) = match estimation {
                Some(Estimation::SecondsPerChar(rate)) => (rate.as_json(), None),
                Some(Estimation::InputSeconds) => (None, Some(true)),
                None => (None, None),
            };
            Price {
                service: name,
                kind,
                rule,
                points,
                divisor,
                multiplier,
                min_points,
                seconds_per_char,
                use_input_seconds,
            }
        })
    }

    /// The price of one use; `seconds` gives those of a service by time, in billionths.
    fn price(
        &self,
        service: &str,
        seconds: impl FnOnce(&TimeRule) -> Result<u128, PriceError>,
    ) -> Result<i64, PriceError> {
        match self.rules.get(service) {
            None => Err(PriceError::UnknownService { service: service.to_owned(), hint: self.hint(service) }),
            Some(Rule::Fixed(points)) => Ok(points.0),
            Some(Rule::Free) => Ok(0),
            Some(Rule::ByTime(rule)) => {
                rule.points(seconds(rule)?).ok_or_else(|| PriceError::TooLarge { service: service.to_owned() })
            }
        }
    }

    /// What to try instead of an unknown name. A long list is cut: this is a line in a log.
    fn hint(&self, service: &str) -> String {
        const SHOWN: usize = 10;
        let names = self.rules.keys().map(String::as_str);
        if let Some(name) = nearest(service, names.clone()) {
            return format!("did you mean {name:?}?");
        }
        let shown: Vec<&str> = names.take(SHOWN).collect();
        let more = self.rules.len() - shown.len();
        match more {
            0 => format!("it knows {}", shown.join(", ")),
            _ => format!("it knows {} and {more} more", shown.join(", ")),
        }
    }
}

/// Reads a number of seconds as people and programs write it: `12`, `12.5`, `1.2e-5`; 0 or more, at most 28 digits.
///
/// # Errors
/// [`PriceError::SecondsInvalid`] for anything else, such as a negative number, `NaN` or `inf`.
pub fn parse_seconds(text: &str) -> Result<Decimal, PriceError> {
    match decimal(text.trim()) {
        Some(seconds) if seconds >= Decimal::ZERO => Ok(seconds),
        _ => Err(PriceError::SecondsInvalid { given: text.to_owned() }),
    }
}

/// Seconds in whole billionths, rounded up.
fn seconds_billionths(seconds: Decimal) -> Result<u128, PriceError> {
    billionths(seconds).ok_or_else(|| PriceError::SecondsInvalid { given: seconds.to_string() })
}

/// The number in whole billionths, rounded up. None below zero. A decimal has at most 2^96 in 10^-scale and scale is
/// at most 28, so nothing here leaves 128 bits.
fn billionths(number: Decimal) -> Option<u128> {
    let mantissa = u128::try_from(number.mantissa()).ok()?;
    match BILLION_DECIMALS.checked_sub(number.scale()) {
        Some(fewer) => mantissa.checked_mul(10_u128.checked_pow(fewer)?),
        None => {
            let more = number.scale().checked_sub(BILLION_DECIMALS)?;
            Some(mantissa.div_ceil(10_u128.checked_pow(more)?))
        }
    }
}

fn describe<'a>(name: &'a str, rule: &Rule) -> Service<'a> {
    let points = |count: &dyn Display| match count.to_string().as_str() {
        "1" => "1 point".to_owned(),
        count => format!("{count} points"),
    };
    let (kind, text, estimation) = match rule {
        Rule::Fixed(fixed) => (Kind::Fixed, format!("{} per use", points(&fixed.0)), None),
        Rule::Free => (Kind::Free, "free of charge".to_owned(), None),
        Rule::ByTime(rule) => {
            let price = match rule.rate {
                Rate::Divisor(Billionths(BILLION)) => "1 point per second begun".to_owned(),
                Rate::Divisor(divisor) => format!("1 point per {divisor} seconds begun"),
                Rate::Multiplier(multiplier) => {
                    format!("{} per second begun", points(&multiplier))
                }
            };
            let text = format!("{price}, at least {}", rule.min_points.0);
            let estimation = rule.estimation.map(|estimation| match estimation {
                Estimation::SecondsPerChar(rate) => format!("{rate} seconds per character"),
                Estimation::InputSeconds => "the input's seconds".to_owned(),
            });
            (Kind::ByTime, text, estimation)
        }
    };
    Service { name, kind, rule: text, estimation }
}

/// A decimal number with the digits of the file. serde_yaml gives a scalar as text on demand, so no float is involved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Exact(Decimal);

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Exact, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Exact;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Exact, E> {
                decimal(text).map(Exact).ok_or_else(|| E::custom("must be a number; write e.g. 10"))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// The file as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sections {
    fixed_costs: Option<BTreeMap<String, Points>>,
    duration_based_costs: Option<BTreeMap<String, TimeRule>>,
    free_services: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRule {
    divisor: Option<Billionths>,
    multiplier: Option<Billionths>,
    min_points: Points,
    estimation: Option<Estimation>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenEstimation {
    seconds_per_char: Option<Billionths>,
    use_input_seconds: Option<bool>,
}

impl TryFrom<WrittenRule> for TimeRule {
    type Error = &'static str;

    fn try_from(written: WrittenRule) -> Result<TimeRule, &'static str> {
        let rate = match (written.divisor, written.multiplier) {
            (Some(divisor), None) => Rate::Divisor(divisor),
            (None, Some(multiplier)) => Rate::Multiplier(multiplier),
            (Some(_), Some(_)) => {
                return Err(
                    "has both a divisor and a multiplier; keep `divisor` (seconds per point) or `multiplier` (points per second)",
                );
            }
            (None, None) => {
                return Err(
                    "has neither a divisor nor a multiplier; write e.g. `divisor: 10` (seconds per point) or `multiplier: 2` (points per second)",
                );
            }
        };
        Ok(TimeRule { rate, min_points: written.min_points, estimation: written.estimation })
    }
}

impl TryFrom<WrittenEstimation> for Estimation {
    type Error = &'static str;

    fn try_from(written: WrittenEstimation) -> Result<Estimation, &'static str> {
        match (written.seconds_per_char, written.use_input_seconds) {
            (Some(rate), None) => Ok(Estimation::SecondsPerChar(rate)),
            (None, Some(true)) => Ok(Estimation::InputSeconds),
            (Some(_), Some(_)) => Err("has both seconds_per_char and use_input_seconds; keep one of the two"),
            (None, Some(false)) => Err("use_input_seconds can only be true; leave `estimation` out for no estimates"),
            (None, None) => Err(
                "says nothing; write `seconds_per_char: 0.3` or `use_input_seconds: true`, or leave `estimation` out for no estimates",
            ),
        }
    }
}

impl TryFrom<Exact> for Billionths {
    type Error = &'static str;

    fn try_from(Exact(number): Exact) -> Result<Billionths, &'static str> {
        if number <= Decimal::ZERO {
            return Err("must be greater than 0; write e.g. 10");
        }
        if number > Decimal::from(MAX_POINTS) {
            return Err("must be at most 1,000,000,000,000; write e.g. 10");
        }
        if number.normalize().scale() > BILLION_DECIMALS {
            return Err("must have at most 9 decimals; write e.g. 0.3");
        }
        billionths(number).map(Billionths).ok_or("must be a number; write e.g. 10")
    }
}

impl TryFrom<Exact> for Points {
    type Error = &'static str;

    fn try_from(Exact(number): Exact) -> Result<Points, &'static str> {
        if number < Decimal::ZERO {
            return Err("must not be negative; write whole points, e.g. 5");
        }
        if !number.is_integer() {
            return Err("must be a whole number; write whole points, e.g. 5");
        }
        let points = i64::try_from(number).ok().filter(|points| *points <= MAX_POINTS);
        points.map(Points).ok_or("must be at most 1,000,000,000,000; write whole points, e.g. 5")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    const BUILT_IN: &str = include_str!("../config/prices.yaml");
    const DESIGN: &str = "
fixed_costs: {script: 5}                                  # points per use
duration_based_costs:
  tts:   {divisor: 10, min_points: 1, estimation: {seconds_per_char: 0.3}}
  video: {multiplier: 2, min_points: 1, estimation: {use_input_seconds: true}}
free_services: [preview]
";

    fn list(text: &str) -> PriceList {
        PriceList::from_yaml("prices.yaml", text).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A price list of one service by time, named `s`.
    fn by_time(rule: &str) -> PriceList {
        list(&format!("duration_based_costs: {{s: {{{rule}}}}}"))
    }

    fn seconds(text: &str) -> Option<Decimal> {
        Some(parse_seconds(text).unwrap())
    }

    #[test]
    fn the_built_in_list_is_the_documented_form() {
        assert_eq!(list(BUILT_IN), list(DESIGN));
    }

    #[test]
    fn costs() {
        let list = list(DESIGN);
        let cases = [
            ("script", None, 5),
            ("script", Some("99"), 5),
            ("preview", None, 0),
            ("tts", Some("0"), 1),
            ("tts", Some("10"), 1),
            ("tts", Some("10.000000000"), 1),
            ("tts", Some("10.0000000000000000000000001"), 2),
            ("tts", Some("20.1"), 3),
            ("video", Some("0"), 1),
            ("video", Some("0.1"), 2),
            ("video", Some("7"), 14),
            ("video", Some("7.000000001"), 16),
            ("video", Some("500000000000"), 1_000_000_000_000),
        ];
        for (service, given, expected) in cases {
            let cost = list.cost(service, given.and_then(seconds));
            assert_eq!(cost, Ok(expected), "{service} {given:?}");
        }
    }

    #[test]
    fn fractional_rates() {
        for (rule, given, expected) in [
            ("divisor: 0.5, min_points: 0", "1.1", 3),
            ("divisor: 0.1, min_points: 0", "0.3", 3),
            ("divisor: 0.3, min_points: 0", "0.9", 3),
            ("divisor: 3, min_points: 0", "1000000000000", 333_333_333_334),
            ("divisor: 0.000000001, min_points: 0", "0.0000000001", 1),
            ("multiplier: 0.1, min_points: 0", "0.5", 1),
            ("multiplier: 0.1, min_points: 0", "10", 1),
            ("multiplier: 0.1, min_points: 0", "11", 2),
            ("multiplier: 1.5, min_points: 4", "2", 4),
            ("multiplier: 1.5, min_points: 4", "2.5", 5),
            ("multiplier: 1e-3, min_points: 0", "1000", 1),
            ("divisor: 10, min_points: 0", "0", 0),
        ] {
            assert_eq!(by_time(rule).cost("s", seconds(given)), Ok(expected), "{rule} {given}");
        }
    }

    #[test]
    fn estimates() {
        let list = list(DESIGN);
        for (service, chars, input, expected) in [
            ("script", None, None, 5),
            ("preview", None, None, 0),
            ("tts", Some(0), None, 1),
            ("tts", Some(33), None, 1),
            ("tts", Some(34), None, 2),
            ("tts", Some(1000), Some("1"), 30),
            ("video", None, Some("12.5"), 26),
        ] {
            let estimate = list.estimate(service, chars, input.and_then(seconds));
            assert_eq!(estimate, Ok(expected), "{service} {chars:?} {input:?}");
        }
        let both = by_time("multiplier: 2, min_points: 1, estimation: {seconds_per_char: 0.3}");
        assert_eq!(both.estimate("s", Some(4), None), Ok(4));
    }

    #[test]
    fn refusals_at_the_call() {
        let list = list(DESIGN);
        let silent = by_time("divisor: 10, min_points: 1");
        let minus = Some(Decimal::NEGATIVE_ONE);
        let cases = [
            (list.cost("tss", None), "the price list has no service \"tss\"; did you mean \"tts\"?"),
            (list.cost("", None), "the price list has no service \"\"; it knows preview, script, tts, video"),
            (
                list.estimate("translation", None, None),
                "the price list has no service \"translation\"; it knows preview, script, tts, video",
            ),
            (list.cost("tts", None), "tts is charged by time: give the seconds that it took"),
            (
                list.cost("tts", minus),
                "\"-1\" is no number of seconds: write a decimal number of 0 or more with at most 28 digits, such as 12.5",
            ),
            (
                list.cost("script", minus),
                "\"-1\" is no number of seconds: write a decimal number of 0 or more with at most 28 digits, such as 12.5",
            ),
            (
                list.estimate("video", None, minus),
                "\"-1\" is no number of seconds: write a decimal number of 0 or more with at most 28 digits, such as 12.5",
            ),
            (list.estimate("tts", None, None), "tts is estimated from its text: give the number of characters"),
            (
                list.estimate("video", Some(3), None),
                "video is estimated from its input's length: give the input's seconds",
            ),
            (
                silent.estimate("s", Some(3), minus.map(|minus| -minus)),
                "s has no estimation rule in the price list: add `estimation` with seconds_per_char or use_input_seconds to it",
            ),
            (
                list.cost("video", seconds("500000000000.1")),
                "the price of video would exceed 1,000,000,000,000 points, the most that one entry may hold",
            ),
            (
                list.cost("tts", Some(Decimal::MAX)),
                "the price of tts would exceed 1,000,000,000,000 points, the most that one entry may hold",
            ),
            (
                list.cost("video", Some(Decimal::MAX)),
                "the price of video would exceed 1,000,000,000,000 points, the most that one entry may hold",
            ),
            (
                list.estimate("tts", Some(u64::MAX), None),
                "the price of tts would exceed 1,000,000,000,000 points, the most that one entry may hold",
            ),
        ];
        for (price, expected) in cases {
            assert_eq!(price.unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn seconds_are_decimal_numbers_of_0_or_more() {
        for text in [
            "NaN",
            "nan",
            "inf",
            "-inf",
            "infinity",
            "-1",
            "-0.001",
            "",
            " ",
            "1,5",
            "12s",
            "1_0",
            "0x1",
            "1e400",
            "0.00000000000000000000000000001",
            "79228162514264337593543950336",
        ] {
            assert!(matches!(parse_seconds(text), Err(PriceError::SecondsInvalid { .. })), "{text}");
        }
        for (text, expected) in [
            ("12.5", "12.5"),
            (" 3 ", "3"),
            ("1.5e-05", "0.000015"),
            ("1.2000000476837158", "1.2000000476837158"),
            ("-0", "0"),
        ] {
            assert_eq!(parse_seconds(text).unwrap(), expected.parse().unwrap(), "{text}");
        }
    }

    /// A rule by time, named tts, and why it is refused.
    const REFUSED_RULES: &[(&str, &str)] = &[
        ("divisor: 0\n    min_points: 1", "3: duration_based_costs.tts.divisor: must be greater than 0; write e.g. 10"),
        (
            "min_points: 1\n    divisor: -10",
            "4: duration_based_costs.tts.divisor: must be greater than 0; write e.g. 10",
        ),
        ("min_points: 1\n    divisor: ten", "4: duration_based_costs.tts.divisor: must be a number; write e.g. 10"),
        ("min_points: 1\n    divisor: .nan", "4: duration_based_costs.tts.divisor: must be a number; write e.g. 10"),
        ("min_points: 1\n    divisor: [10]", "4: duration_based_costs.tts.divisor: expected a number, found a list"),
        ("min_points: 1\n    divisor: true", "4: duration_based_costs.tts.divisor: must be a number; write e.g. 10"),
        (
            "min_points: 1\n    divisor: 1000000000001",
            "4: duration_based_costs.tts.divisor: must be at most 1,000,000,000,000; write e.g. 10",
        ),
        (
            "min_points: 1\n    multiplier: 0",
            "4: duration_based_costs.tts.multiplier: must be greater than 0; write e.g. 10",
        ),
        (
            "min_points: 1\n    multiplier: 0.0000000001",
            "4: duration_based_costs.tts.multiplier: must have at most 9 decimals; write e.g. 0.3",
        ),
        (
            "divisor: 1\n    min_points: -1",
            "4: duration_based_costs.tts.min_points: must not be negative; write whole points, e.g. 5",
        ),
        (
            "divisor: 1\n    min_points: 1.5",
            "4: duration_based_costs.tts.min_points: must be a whole number; write whole points, e.g. 5",
        ),
        (
            "divisor: 1\n    min_points: 99999999999999999999",
            "4: duration_based_costs.tts.min_points: must be at most 1,000,000,000,000; write whole points, e.g. 5",
        ),
        ("divisor: 1", "2: duration_based_costs.tts: missing key `min_points`"),
        (
            "min_points: 1",
            "2: duration_based_costs.tts: has neither a divisor nor a multiplier; write e.g. `divisor: 10` (seconds per point) or `multiplier: 2` (points per second)",
        ),
        (
            "{divisor: 1, multiplier: 2, min_points: 1}",
            "2: duration_based_costs.tts: has both a divisor and a multiplier; keep `divisor` (seconds per point) or `multiplier` (points per second)",
        ),
        ("[10, 1]", "2: duration_based_costs.tts: expected a mapping (`key: value`), found a list"),
        (
            "{divisor: 1, min_points: 1, estimation: {seconds_per_char: -0.3}}",
            "3: duration_based_costs.tts.estimation.seconds_per_char: must be greater than 0; write e.g. 10",
        ),
        (
            "{divisor: 1, min_points: 1, estimation: {use_input_seconds: false}}",
            "3: duration_based_costs.tts.estimation: use_input_seconds can only be true; leave `estimation` out for no estimates",
        ),
        (
            "{divisor: 1, min_points: 1, estimation: {use_input_seconds: true, seconds_per_char: 1}}",
            "3: duration_based_costs.tts.estimation: has both seconds_per_char and use_input_seconds; keep one of the two",
        ),
        (
            "{divisor: 1, min_points: 1, estimation: {}}",
            "3: duration_based_costs.tts.estimation: says nothing; write `seconds_per_char: 0.3` or `use_input_seconds: true`, or leave `estimation` out for no estimates",
        ),
        (
            "{divisor: 1, min_point: 1}",
            "3: duration_based_costs.tts.min_point: unknown key; did you mean `min_points`?",
        ),
    ];

    /// A price list, and why it is refused.
    const REFUSED_LISTS: &[(&str, &str)] = &[
        ("fixed_cost: {a: 1}\n", "1: fixed_cost: unknown key; did you mean `fixed_costs`?"),
        ("fixed_costs: {a: -5}\n", "1: fixed_costs.a: must not be negative; write whole points, e.g. 5"),
        ("fixed_costs: {a: }\n", "1: fixed_costs.a: must be a number; write e.g. 10"),
        (
            "fixed_costs: {'': 5}\n",
            "1: fixed_costs.: \"\" is no name for a service; write a name without spaces around it",
        ),
        (
            "free_services: [a, ' b']\n",
            "1: free_services[1]: \" b\" is no name for a service; write a name without spaces around it",
        ),
        (
            "free_services:\n- a\n- a\n",
            "3: free_services[1]: the service \"a\" has a price already, free_services[0] in line 2; keep one of the two",
        ),
        (
            "free_services: [a]\n\nfixed_costs: {a: 1}\n",
            "3: fixed_costs.a: the service \"a\" has a price already, free_services[0] in line 1; keep one of the two",
        ),
        (
            "fixed_costs:\n  a: 1\n  a: 2\n",
            "3: fixed_costs.a: the key is written twice, first in line 2; keep one of the two",
        ),
        (
            "fixed_costs:\nfree_services: []\n",
            "1: the price list names no service; write at least one, e.g. `fixed_costs: {script: 5}`",
        ),
    ];

    #[test]
    fn refusals_at_load() {
        let rule = |rule: &str| format!("duration_based_costs:\n  tts:\n    {rule}\n");
        let rules = REFUSED_RULES.iter().map(|(text, expected)| (rule(text), expected));
        let lists = REFUSED_LISTS.iter().map(|(text, expected)| ((*text).to_owned(), expected));
        for (text, expected) in rules.chain(lists) {
            match PriceList::from_yaml("prices.yaml", &text) {
                Ok(list) => panic!("accepted: {list:?}\n{text}"),
                Err(error) => assert_eq!(error.to_string(), format!("prices.yaml:{expected}"), "for:\n{text}"),
            }
        }
    }

    #[test]
    fn services_are_described_in_order() {
        let list = list(DESIGN);
        let shown: Vec<String> = list
            .services()
            .map(|s| format!("{} | {} | {} | {}", s.name, s.kind, s.rule, s.estimation.unwrap_or_default()))
            .collect();
        assert_eq!(
            shown,
            [
                "script | fixed | 5 points per use | ",
                "tts | by time | 1 point per 10 seconds begun, at least 1 | 0.3 seconds per character",
                "video | by time | 2 points per second begun, at least 1 | the input's seconds",
                "preview | free | free of charge | ",
            ]
        );
        assert!(list.is_charged_by_time("tts"));
        assert!(!list.is_charged_by_time("script") && !list.is_charged_by_time("nothing"));
    }

    fn rate() -> impl Strategy<Value = Decimal> {
        (1_i64..=10_000_000_000, 0_u32..=9).prop_map(|(digits, scale)| Decimal::new(digits, scale))
    }

    fn duration() -> impl Strategy<Value = Decimal> {
        (0_i64..=1_000_000_000_000, 0_u32..=12).prop_map(|(digits, scale)| Decimal::new(digits, scale))
    }

    proptest! {
        /// Against the definition of ceil, in whole numbers: `points` is the least n with n * divisor >= seconds.
        #[test]
        fn a_divided_cost_is_the_exact_ceiling(divisor in rate(), seconds in duration()) {
            let list = by_time(&format!("divisor: {divisor}, min_points: 0"));
            let scaled = |number: Decimal| number.mantissa() * 10_i128.pow(12 - number.scale());
            let (seconds_scaled, divisor_scaled) = (scaled(seconds), scaled(divisor));
            match list.cost("s", Some(seconds)) {
                Ok(points) => {
                    prop_assert!(i128::from(points) * divisor_scaled >= seconds_scaled);
                    prop_assert!((i128::from(points) - 1) * divisor_scaled < seconds_scaled);
                }
                Err(_) => prop_assert!(seconds_scaled > divisor_scaled * i128::from(MAX_POINTS)),
            }
        }

        #[test]
        fn a_multiplied_cost_is_the_exact_ceiling(multiplier in rate(), seconds in duration()) {
            let list = by_time(&format!("multiplier: {multiplier}, min_points: 0"));
            let unit = 10_i128.pow(seconds.scale());
            let whole = seconds.mantissa() / unit + i128::from(seconds.mantissa() % unit != 0);
            let (product, unit) = (whole * multiplier.mantissa(), 10_i128.pow(multiplier.scale()));
            match list.cost("s", Some(seconds)) {
                Ok(points) => {
                    prop_assert!(i128::from(points) * unit >= product);
                    prop_assert!((i128::from(points) - 1) * unit < product);
                }
                Err(_) => prop_assert!(product > unit * i128::from(MAX_POINTS)),
            }
        }

        /// The work takes at most the seconds that the input stands for: the estimate covers its cost.
        #[test]
        fn an_estimate_is_never_lower_than_the_cost(
            by_divisor: bool, number in rate(), per_char in rate(), chars in 0_u64..1_000_000, min in 0_i64..100,
            shorter in 0_i64..=100,
        ) {
            let key = if by_divisor { "divisor" } else { "multiplier" };
            let text = list(&format!("duration_based_costs: {{s: {{{key}: {number}, min_points: {min}, estimation: {{seconds_per_char: {per_char}}}}}}}"));
            let audio = list(&format!("duration_based_costs: {{s: {{{key}: {number}, min_points: {min}, estimation: {{use_input_seconds: true}}}}}}"));
            let seconds = per_char * Decimal::from(chars);
            let cost = text.cost("s", Some(seconds));
            prop_assert_eq!(&text.estimate("s", Some(chars), None), &cost);
            prop_assert_eq!(&audio.estimate("s", None, Some(seconds)), &cost);
            if let Ok(cost) = cost {
                let less = text.cost("s", Some(seconds * Decimal::new(shorter, 2))).unwrap();
                prop_assert!(less <= cost);
            }
        }

        #[test]
        fn no_number_panics(service in "s|f", low: u32, mid: u32, high: u32, negative: bool, scale in 0_u32..=28, chars: u64) {
            let list = list("fixed_costs: {f: 1}\nduration_based_costs: {s: {multiplier: 1e12, min_points: 0, estimation: {seconds_per_char: 1e12}}}");
            let seconds = Decimal::from_parts(low, mid, high, negative, scale);
            let _ = list.cost(&service, Some(seconds));
            let _ = list.estimate(&service, Some(chars), Some(seconds));
        }
    }
}
