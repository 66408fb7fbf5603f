//! Numbers as people read them.

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

/// `1 batch`, `2 batches`.
pub fn counted(number: impl Into<i128>, one: &str, many: &str) -> String {
    let number: i128 = number.into();
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}
