//! Texts from outside, made harmless for a terminal and for a spreadsheet.

use std::borrow::Cow;

/// Whether a character controls a terminal, breaks a line, or changes the direction of reading.
pub fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            | '\u{fffe}' | '\u{ffff}')
}

/// A text on one line: line ends and tabs become spaces, other control characters U+FFFD.
pub fn line(text: &str) -> Cow<'_, str> {
    mapped(text, |c| match c {
        '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => ' ',
        _ => '\u{fffd}',
    })
}

/// A text whose lines and tabs stay. Other control characters become U+FFFD.
pub fn lines(text: &str) -> Cow<'_, str> {
    mapped(text, |c| match c {
        '\n' | '\t' => c,
        '\r' | '\u{2028}' | '\u{2029}' => ' ',
        _ => '\u{fffd}',
    })
}

fn mapped(text: &str, instead: fn(char) -> char) -> Cow<'_, str> {
    match text.contains(is_control) {
        true => text.chars().map(|c| if is_control(c) { instead(c) } else { c }).collect::<String>().into(),
        false => text.into(),
    }
}

/// A text as a cell of a CSV file for spreadsheets. [`unguarded`] takes the guard away again.
pub fn cell(text: &str) -> Cow<'_, str> {
    let text = lines(text);
    if is_formula(text.trim_start_matches('\'')) { format!("'{text}").into() } else { text }
}

/// A cell without the `'` that [`cell`] put before it.
pub fn unguarded(cell: &str) -> &str {
    cell.strip_prefix('\'').filter(|rest| is_formula(rest.trim_start_matches('\''))).unwrap_or(cell)
}

/// Whether a spreadsheet would take a text for a formula. A negative number is none. The wide forms of the signs count too,
/// because Excel in Chinese reads them.
fn is_formula(text: &str) -> bool {
    let is_number = |rest: &str| {
        let (whole, part) = rest.split_once('.').unwrap_or((rest, "0"));
        [whole, part].iter().all(|digits| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()))
    };
    text.starts_with('\t')
        || text.trim_start().starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠'])
            && !text.strip_prefix('-').is_some_and(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_go_and_texts_stay() {
        let text = "a\u{1b}[31m\u{9b}\u{7f}\u{202e}b\r\nc\td 积分 é";
        assert_eq!(line(text), "a\u{fffd}[31m\u{fffd}\u{fffd}\u{fffd}b  c d 积分 é");
        assert_eq!(lines(text), "a\u{fffd}[31m\u{fffd}\u{fffd}\u{fffd}b \nc\td 积分 é");
        assert!(matches!(line("积分"), Cow::Borrowed(_)));
    }

    #[test]
    fn formulas_are_guarded_and_read_back() {
        for text in ["=1+1", "+1", "-", "--1", "-1+2", "-1.", "@SUM(A1)", " =1", "\n=1", "\tx", "＝1", "'=1", "''+1"] {
            assert_eq!(cell(text), format!("'{text}"));
            assert_eq!(unguarded(&cell(text)), text);
        }
        for text in ["", "a=1", "-151", "-1.5", "'", "'a", "'-1", "it's", "2026-01-01"] {
            assert_eq!((cell(text).as_ref(), unguarded(text)), (text, text));
        }
        assert_eq!(cell("\r=1\u{1b}[2J\r\n2"), "' =1\u{fffd}[2J \n2");
    }
}
