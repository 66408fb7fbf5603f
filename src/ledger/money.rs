//! The price of a batch, and how much of it has been released. What a batch says (its price, what remains, what expired) and what voids
//! took of it decide every figure, so the order of the postings does not matter, and the parts add up to the price.

use std::str::FromStr;

use serde::{Serialize, Serializer};

/// The highest price of a recharge, in minor units.
pub const MAX_PAID: i64 = 1_000_000_000_000_000;

/// A currency of ISO 4217 that has a minor unit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

/// Money in the minor units of its currency: 1999 of CNY is 19.99 yuan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Money {
    /// Minor units.
    pub amount: i64,
    /// Their currency.
    pub currency: Currency,
}

/// What a price of `paid` has released when `gone` of `amount` points are gone, rounded down. None where there are no points.
pub(crate) fn released(paid: i64, gone: i64, amount: i64) -> Option<i64> {
    let share = i128::from(paid) * i128::from(gone);
    share.checked_div_euclid(i128::from(amount)).and_then(|share| i64::try_from(share).ok())
}

impl Currency {
    /// The code, such as `CNY`.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// How many digits the minor unit takes: 2 for CNY, 0 for JPY.
    pub fn digits(self) -> u16 {
        iso_currency::Currency::from_code(self.as_str()).and_then(|known| known.exponent()).unwrap_or(2)
    }

    /// A code that was stored: three capital letters. A later list of currencies may lack it.
    pub(crate) fn stored(code: &str) -> Option<Currency> {
        let letters: [u8; 3] = code.as_bytes().try_into().ok()?;
        letters.iter().all(u8::is_ascii_uppercase).then_some(Currency(letters))
    }
}

impl FromStr for Currency {
    type Err = String;

    fn from_str(code: &str) -> Result<Currency, String> {
        let known = iso_currency::Currency::from_code(code).filter(|known| known.exponent().is_some());
        known.and_then(|_| Currency::stored(code)).ok_or_else(|| {
            let shown: String = code.chars().take(20).collect();
            format!("`{shown}` is no currency of ISO 4217 with a minor unit; write one such as CNY, in capitals")
        })
    }
}

impl std::fmt::Display for Currency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::fmt::Debug for Currency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// As a decimal with the digits of the currency: `1234.56 CNY`.
impl std::fmt::Display for Money {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let amount = rust_decimal::Decimal::new(self.amount, u32::from(self.currency.digits()));
        write!(f, "{amount} {}", self.currency)
    }
}

impl Money {
    /// The same currency with another amount.
    pub(super) fn with(self, amount: i64) -> Money {
        Money { amount, ..self }
    }

    /// Its share for `points` of `all`, rounded down.
    pub(super) fn share(self, points: i64, all: i64) -> i64 {
        released(self.amount, points, all).unwrap_or_default()
    }

    /// Its share for `points` of `all` that come `after` others, so that all parts add up to it.
    pub(super) fn part(self, after: i64, points: i64, all: i64) -> i64 {
        self.share(after.saturating_add(points), all) - self.share(after, all)
    }

    /// Its share for the last `points` of `all`: what the others leave.
    pub(super) fn rest(self, points: i64, all: i64) -> i64 {
        self.amount - self.share(all - points, all)
    }
}
