//! The price list as its file writes it.

use std::collections::BTreeMap;
use std::fmt;

use rust_decimal::Decimal;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::{BILLION_DECIMALS, Billionths, Estimation, Points, Rate, TimeRule, billionths};
use crate::numbers::{MAX_POINTS, decimal};

/// A decimal number with the digits of the file. serde_yaml gives a scalar as text on demand, so no float is involved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exact(Decimal);

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
pub(super) struct Sections {
    pub fixed_costs: Option<BTreeMap<String, Points>>,
    pub duration_based_costs: Option<BTreeMap<String, TimeRule>>,
    pub free_services: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenRule {
    divisor: Option<Billionths>,
    multiplier: Option<Billionths>,
    min_points: Points,
    estimation: Option<Estimation>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenEstimation {
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
