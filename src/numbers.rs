//! Numbers: decimals exactly as they are written, and whole numbers as people read them.

use rust_decimal::Decimal;

/// The most points of an entry, and of a price; the least of an entry is 1. The checks of the schema and of the proofs have the
/// same number.
pub const MAX_POINTS: i64 = 1_000_000_000_000;

/// `1234567` as `1,234,567`.
pub fn grouped(number: impl Into<i128>) -> String {
    let number: i128 = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    if number < 0 {
        text.push('-');
    }
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Minor units as a decimal: 123456 with two digits is `1234.56`.
pub fn decimal_of(amount: i64, digits: u16) -> String {
    Decimal::try_new(amount, digits.into()).map_or_else(|_| amount.to_string(), |decimal| decimal.to_string())
}

/// The same for people: `1,234.56`.
pub fn grouped_decimal(amount: i64, digits: u16) -> String {
    let text = decimal_of(amount, digits);
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |whole| ("-", whole));
    let whole = whole.parse::<i128>().map_or_else(|_| whole.to_owned(), grouped);
    let fraction = fraction.map(|fraction| format!(".{fraction}")).unwrap_or_default();
    format!("{sign}{whole}{fraction}")
}

/// A count that the database made, which is never below zero.
pub fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// `1 batch`, `2 batches`.
pub fn counted(number: impl Into<i128>, one: &str, many: &str) -> String {
    let number: i128 = number.into();
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

/// A decimal number exactly as written: `10`, `0.30`, `1e-3`. None for anything else, and for more digits
/// than a [`Decimal`] holds without rounding.
pub fn decimal(text: &str) -> Option<Decimal> {
    let number_like = |byte| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E');
    if !text.bytes().all(number_like) || !text.bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    match text.split_once(['e', 'E']) {
        None => Decimal::from_str_exact(text).ok(),
        Some((digits, _)) => {
            Decimal::from_str_exact(digits).ok()?;
            Decimal::from_scientific(text).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_has_the_digits_of_its_currency() {
        let texts = [(123_456_789, 2), (-5, 2), (0, 3), (-1_234, 0), (i64::MIN, 2), (7, 99)];
        let told = texts.map(|(amount, digits)| (decimal_of(amount, digits), grouped_decimal(amount, digits)));
        let told: Vec<(&str, &str)> = told.iter().map(|(plain, grouped)| (plain.as_str(), grouped.as_str())).collect();
        assert_eq!(
            told,
            [
                ("1234567.89", "1,234,567.89"),
                ("-0.05", "-0.05"),
                ("0.000", "0.000"),
                ("-1234", "-1,234"),
                ("-92233720368547758.08", "-92,233,720,368,547,758.08"),
                ("7", "7"),
            ]
        );
    }

    #[test]
    fn decimals_keep_their_digits() {
        for (text, expected) in [
            ("0.1", "0.1"),
            ("0.30", "0.30"),
            ("10", "10"),
            ("1e-3", "0.001"),
            ("1.5E+3", "1500"),
            ("12345678901234567.89", "12345678901234567.89"),
            ("98765432109876543210", "98765432109876543210"),
        ] {
            assert_eq!(decimal(text).map(|number| number.to_string()).as_deref(), Some(expected));
        }
        for text in [
            "",
            ".",
            "-",
            "e5",
            "NaN",
            ".nan",
            "inf",
            "1_000",
            "0x10",
            "1e",
            "1e99",
            "1 2",
            "1,5",
            "٣",
            "0.12345678901234567890123456789",
            "1-2",
            "1.2.3",
            "--1",
        ] {
            assert_eq!(decimal(text), None, "{text}");
        }
    }
}
