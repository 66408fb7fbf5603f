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

mod written;

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use self::written::{Exact, Sections, WrittenEstimation, WrittenRule};
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

#[cfg(test)]
mod tests;
