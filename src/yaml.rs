//! The one way in which pointsd reads a YAML file, so that every file fails alike: with the file, the
//! line, the path of the key, what is wrong and what to write instead.
//!
//! serde_yaml types the text. Before it a walk over the same text notes the line of every path and refuses what YAML
//! allows and a configuration does not need: a key written twice (the usual parsers let the last one win in silence),
//! anchors and aliases, tags, merge keys, several documents, deep nesting.

use std::collections::HashMap;
use std::fmt::{self, Display};

use rust_decimal::Decimal;
use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};
use serde::de::{self, Deserialize, DeserializeOwned, Deserializer, IgnoredAny, Visitor};
use serde_yaml::Value;

/// Deeper than any file of ours, and shallow enough for the stack.
const DEPTH_MAX: usize = 16;

/// What is wrong with a YAML file, in words for the person who wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {path}{}{problem}", if path.is_empty() { "" } else { ": " })]
pub struct Error {
    /// The file's name as the caller gave it.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// The key, such as `database.pool_size` or `free_services[1]`; empty for the file as a whole.
    pub path: String,
    /// What is wrong; what to write instead.
    pub problem: String,
}

/// Where each key of a file stands: what a later check needs to name the line.
#[derive(Debug, Clone)]
pub struct Lines {
    file: String,
    by_path: HashMap<String, usize>,
}

impl Lines {
    /// The line of `path`, or of the nearest mapping around it when the file does not write that key.
    pub fn line(&self, path: &str) -> usize {
        self_and_parents(path).find_map(|known| self.by_path.get(known)).copied().unwrap_or(1)
    }

    /// An error at `path`: what is wrong, and what to write instead.
    pub fn error(&self, path: &str, what: impl Display, remedy: impl Display) -> Error {
        self.error_at(self.line(path), path, format!("{what}; {remedy}"))
    }

    fn error_at(&self, line: usize, path: &str, problem: impl Into<String>) -> Error {
        Error { file: self.file.clone(), line, path: path.to_owned(), problem: problem.into() }
    }

    fn not_yaml(&self, line: usize, what: impl Display) -> Error {
        let remedy = "check the indentation, the colons and the quotes here and in the line before";
        self.error_at(line, "", format!("this is not YAML: {what}; {remedy}"))
    }
}

/// `a.b[1]`, `a.b`, `a`.
fn self_and_parents(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.get(..path.rfind(['.', '['])?))
}

/// Reads one YAML document into `T`. `file` is only shown in errors.
///
/// A [`String`] in `T` takes any scalar as it is written, a number or `true` as well.
///
/// # Errors
/// Text which is not YAML, YAML beyond the plain subset (see the module), and values which do not fit `T`.
pub fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<(T, Lines), Error> {
    // Some editors put a byte order mark in front, which would become part of the first key.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = Walk::over(file, text)?;
    // Two parsers read the text, and they differ at the edges of the language.
    if let Err(error) = serde_yaml::from_str::<IgnoredAny>(text) {
        return Err(lines.not_yaml(error.location().map_or(1, |place| place.line()), error));
    }
    let typed = fit(serde_yaml::Deserializer::from_str(text), &lines)?;
    Ok((typed, lines))
}

/// Reads one YAML document as changes to `defaults`, another YAML text: mappings are merged key by key, every
/// other value of `text` replaces the default. A mapping left empty (`log:`) changes nothing.
///
/// Unlike in [`read`], a number or `true` must be in quotes to be a [`String`], and `T` cannot hold an [`Exact`].
///
/// # Errors
/// As [`read`], with the lines of `text`.
pub fn read_over<T: DeserializeOwned>(defaults: &str, file: &str, text: &str) -> Result<(T, Lines), Error> {
    let (mut merged, _) = read::<Value>("built-in defaults", defaults)?;
    let (changes, lines) = read::<Value>(file, text)?;
    merge(&mut merged, changes);
    let typed = fit(merged, &lines)?;
    Ok((typed, lines))
}

fn merge(base: &mut Value, changes: Value) {
    match (base, changes) {
        (Value::Mapping(_), Value::Null) => {}
        (Value::Mapping(base), Value::Mapping(changes)) => {
            for (key, change) in changes {
                merge(base.entry(key).or_insert(Value::Null), change);
            }
        }
        (base, change) => *base = change,
    }
}

/// A decimal number with the very digits that the file has: serde_yaml hands over a scalar's text to whoever asks for
/// text, so nothing goes through a float.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exact(pub Decimal);

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

/// The candidate that `word` is most likely a misspelling of, if any is near enough to be worth naming.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    // A third of the letters wrong is still a typing error; more is another word.
    let tolerance = word.chars().count().div_ceil(3);
    candidates
        .into_iter()
        .map(|candidate| (strsim::levenshtein(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= tolerance)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Gives the value its type; serde's complaint becomes one of ours.
fn fit<'de, T, D>(value: D, lines: &Lines) -> Result<T, Error>
where
    T: DeserializeOwned,
    D: Deserializer<'de, Error = serde_yaml::Error>,
{
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let path = match path.as_str() {
            "." | "?" => "",
            // A key that is no text.
            path => path.strip_suffix(".?").unwrap_or(path),
        };
        let message = error.inner().to_string();
        // serde_yaml puts its own path, sometimes a shorter one, in front and the place behind.
        let message = match message.rsplit_once(" at line ") {
            Some((message, place)) if place.chars().all(|c| c.is_ascii_digit() || " column".contains(c)) => message,
            _ => &message,
        };
        let bare = |parent| message.strip_prefix(parent)?.strip_prefix(": ");
        let message = self_and_parents(path).find_map(bare).unwrap_or(message);
        lines.error_at(lines.line(path), path, in_plain_words(message))
    })
}

/// serde's words for what is wrong, in the words of the rest of the program.
fn in_plain_words(message: &str) -> String {
    if let Some(key) = message.strip_prefix("missing field ") {
        return format!("the key {key} is missing; add `{}: …`", key.trim_matches('`'));
    }
    if let Some((unknown, expected)) = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once("`, ")) {
        let known = expected.split('`').skip(1).step_by(2);
        return match nearest(unknown, known) {
            Some(name) => format!("unknown key; did you mean `{name}`?"),
            None => format!("unknown key; {expected}"),
        };
    }
    let misfit = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    let Some((found, expected)) = misfit.and_then(|found| found.rsplit_once(", expected ")) else {
        return message.to_owned();
    };
    let found = match found {
        "map" => "a mapping (`key: value`)",
        "sequence" => "a list",
        "unit value" => "nothing (null)",
        // The text itself is left out: it may be a connection string with its password.
        text if text.starts_with("string ") => "a text",
        other => other,
    };
    let remedy = match expected {
        "u16" | "u32" | "u64" | "usize" | "i32" | "i64" => "write a whole number",
        "a number" => "write a number",
        "a boolean" => "write true or false",
        "a sequence" => "write a list (`[one, two]`)",
        "a string" if found.starts_with(['i', 'b', 'f']) => "put it in quotes",
        "a string" => "write a text",
        "a Value::Tagged enum" | "a YAML tag starting with '!'" => "write one word",
        "field identifier" => "write a name as the key",
        "any YAML value" => "write a smaller number",
        map if map == "a map" || map.starts_with("struct ") => "write a mapping (`key: value`)",
        other => other,
    };
    format!("{found} does not fit here; {remedy}")
}

struct Walk<'a> {
    parser: Parser<'a, StrInput<'a>>,
    lines: Lines,
}

impl<'a> Walk<'a> {
    fn over(file: &str, text: &'a str) -> Result<Lines, Error> {
        let lines = Lines { file: file.to_owned(), by_path: HashMap::from([(String::new(), 1)]) };
        // Line breaks to YAML 1.1 and not to YAML 1.2: the two parsers would see different documents.
        if let Some(at) = text.find(['\u{85}', '\u{2028}', '\u{2029}']) {
            let line = text.get(..at).unwrap_or_default().split('\n').count();
            return Err(lines.not_yaml(line, "an unusual line break (U+0085, U+2028 or U+2029)"));
        }
        let mut walk = Walk { parser: Parser::new_from_str(text), lines };
        let mut documents = 0;
        loop {
            let (event, line) = walk.next()?;
            match event {
                Event::StreamEnd => return Ok(walk.lines),
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
                _ if documents > 0 => {
                    let problem = "a second document starts here; remove the line `---` and what follows it";
                    return Err(walk.lines.error_at(line, "", problem));
                }
                node => {
                    documents += 1;
                    walk.node(node, line, "", 0)?;
                }
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, usize), Error> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, span.start.line())),
            Some(Err(error)) => Err(self.lines.not_yaml(error.marker().line(), error.info())),
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    /// One value and all below it; notes the line of each.
    fn node(&mut self, event: Event<'a>, line: usize, path: &str, depth: usize) -> Result<(), Error> {
        use Event::{Alias, MappingStart, Scalar, SequenceStart};
        let problem = match event {
            _ if depth > DEPTH_MAX => "nested too many levels deep; check the indentation",
            Alias(_) | Scalar(_, _, 1.., _) | SequenceStart(1.., _) | MappingStart(1.., _) => {
                "anchors (`&name`) and aliases (`*name`) are not used in this file; write the value out, in quotes if it starts with & or *"
            }
            Scalar(_, _, _, Some(_)) | SequenceStart(_, Some(_)) | MappingStart(_, Some(_)) => {
                "tags (`!name`) are not used in this file; leave the tag out, or put the value in quotes if it starts with !"
            }
            Scalar(..) => return Ok(()),
            SequenceStart(..) => return self.sequence(path, depth),
            MappingStart(..) => return self.mapping(path, depth),
            _ => "a value is missing",
        };
        Err(self.lines.error_at(line, path, problem))
    }

    fn sequence(&mut self, path: &str, depth: usize) -> Result<(), Error> {
        for position in 0_usize.. {
            let (event, line) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                break;
            }
            let path = format!("{path}[{position}]");
            self.lines.by_path.insert(path.clone(), line);
            self.node(event, line, &path, depth + 1)?;
        }
        Ok(())
    }

    fn mapping(&mut self, path: &str, depth: usize) -> Result<(), Error> {
        let mut first_lines = HashMap::new();
        loop {
            let (event, line) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Ok(()),
                Event::Scalar(key, ScalarStyle::Plain, ..) if key == "<<" => {
                    let problem = "merge keys (`<<`) are not used in this file; write the merged keys out";
                    return Err(self.lines.error_at(line, path, problem));
                }
                Event::Scalar(key, _, 0, None) => key.into_owned(),
                _ => {
                    let problem = "a key must be a plain text; put a key which starts with & * ! [ or { in quotes";
                    return Err(self.lines.error_at(line, path, problem));
                }
            };
            let key_path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            if let Some(first) = first_lines.insert(key, line) {
                let problem = format!("the key is written twice, first in line {first}; keep one of the two");
                return Err(self.lines.error_at(line, &key_path, problem));
            }
            self.lines.by_path.insert(key_path.clone(), line);
            let (event, line) = self.next()?;
            self.node(event, line, &key_path, depth + 1)?;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Shop {
        name: String,
        size: u32,
        #[serde(default)]
        rooms: BTreeMap<String, Room>,
        #[serde(default)]
        tags: Vec<String>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Room {
        area: u32,
        open: Option<bool>,
    }

    fn error(text: &str) -> String {
        let error = read::<Shop>("shop.yaml", text).unwrap_err().to_string();
        assert_eq!(error_over(text), error);
        error
    }

    fn error_over(text: &str) -> String {
        read_over::<Shop>("", "shop.yaml", text).unwrap_err().to_string()
    }

    #[test]
    fn reads_every_style_of_the_same_document() {
        let block = "name: a\nsize: 2\nrooms:\n  hall:\n    area: 30\ntags:\n  - x\n  - 'y'\n";
        let flow = "\u{feff}---\n{name: a, size: 2, rooms: {hall: {area: 30}}, tags: [x, \"y\"]}\n...\n";
        let windows = block.replace('\n', "\r\n");
        let expected = read::<Shop>("f", block).unwrap().0;
        assert_eq!(expected.tags, ["x", "y"]);
        assert_eq!(read::<Shop>("f", flow).unwrap().0, expected);
        assert_eq!(read::<Shop>("f", &windows).unwrap().0, expected);
    }

    #[test]
    fn errors_name_file_line_path_and_remedy() {
        let ok = "name: a\nsize: 2\n";
        let cases: &[(String, &str)] = &[
            ("name: a\n".into(), "shop.yaml:1: the key `size` is missing; add `size: …`"),
            ("# only a comment\n".into(), "shop.yaml:1: the key `name` is missing; add `name: …`"),
            (
                format!("{ok}rooms:\n  hall:\n    area: 1\n  attic:\n    open: true\n"),
                "shop.yaml:6: rooms.attic: the key `area` is missing; add `area: …`",
            ),
            (
                format!("{ok}rooms:\n  hall: {{area: 1, opn: true}}\n"),
                "shop.yaml:4: rooms.hall.opn: unknown key; did you mean `open`?",
            ),
            (
                format!("{ok}colour: red\n"),
                "shop.yaml:3: colour: unknown key; expected one of `name`, `size`, `rooms`, `tags`",
            ),
            ("name: a\nsize: big\n".into(), "shop.yaml:2: size: a text does not fit here; write a whole number"),
            (
                "name: a\nsize: 2.5\n".into(),
                "shop.yaml:2: size: floating point `2.5` does not fit here; write a whole number",
            ),
            (format!("{ok}tags:\n- x\n- [y]\n"), "shop.yaml:5: tags[1]: a list does not fit here; write a text"),
            (
                format!("{ok}name: b\n"),
                "shop.yaml:3: name: the key is written twice, first in line 1; keep one of the two",
            ),
            (
                format!("{ok}rooms:\n  hall: {{area: 1}}\n  \"hall\": {{area: 2}}\n"),
                "shop.yaml:5: rooms.hall: the key is written twice, first in line 4; keep one of the two",
            ),
            (
                format!("{ok}---\n{ok}"),
                "shop.yaml:4: a second document starts here; remove the line `---` and what follows it",
            ),
            (
                format!("{ok}tags: &t [x]\n"),
                "shop.yaml:3: tags: anchors (`&name`) and aliases (`*name`) are not used in this file; write the value out, in quotes if it starts with & or *",
            ),
            (
                "name: !x a\n".into(),
                "shop.yaml:1: name: tags (`!name`) are not used in this file; leave the tag out, or put the value in quotes if it starts with !",
            ),
            (
                "<<: {a: 1}\n".into(),
                "shop.yaml:1: merge keys (`<<`) are not used in this file; write the merged keys out",
            ),
            (
                "[a]: 1\n".into(),
                "shop.yaml:1: a key must be a plain text; put a key which starts with & * ! [ or { in quotes",
            ),
            ("- a\n".into(), "shop.yaml:1: a list does not fit here; write a mapping (`key: value`)"),
            (
                format!("{ok}rooms: {{hall: [1, true]}}\n"),
                "shop.yaml:3: rooms.hall: a list does not fit here; write a mapping (`key: value`)",
            ),
            (
                format!("{ok}rooms: {{hall: {{area: 1, open: maybe}}}}\n"),
                "shop.yaml:3: rooms.hall.open: a text does not fit here; write true or false",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(&error(text), expected, "for:\n{text}");
        }
        let over: &[(&str, &str)] = &[
            ("name: 7\n", "shop.yaml:1: name: integer `7` does not fit here; put it in quotes"),
            ("name:\n", "shop.yaml:1: name: nothing (null) does not fit here; write a text"),
            ("name: a\n7: a\n", "shop.yaml:1: integer `7` does not fit here; write a name as the key"),
            (
                "size: 98765432109876543210",
                "shop.yaml:1: size: integer `98765432109876543210` as u128 does not fit here; write a smaller number",
            ),
        ];
        for (text, expected) in over {
            assert_eq!(&error_over(text), expected, "for:\n{text}");
        }
        // What only one of the two parsers takes for YAML.
        assert!(
            error("name: a\n# \u{2028}name: b\n").starts_with("shop.yaml:2: this is not YAML: an unusual line break")
        );
        assert!(error("name: 'a\nsize: 2\n").contains("this is not YAML"));
        assert!(error("name: *nowhere\n").contains("this is not YAML"));
        for depth in [20, 100_000] {
            let deep = format!("name: {}{}\n", "[".repeat(depth), "]".repeat(depth));
            let message = error(&deep);
            assert!(message.contains("levels deep") || message.contains("this is not YAML"), "{message}");
        }
        assert!(error(&"- ".repeat(20)).contains("levels deep"));
    }

    #[test]
    fn a_text_in_the_wrong_place_is_not_repeated() {
        let message = error("name: a\nsize: 'postgres://me:secret, expected@host/db'\n");
        assert!(!message.contains("secret"), "{message}");
    }

    #[test]
    fn decimals_arrive_digit_for_digit() {
        for (text, expected) in [
            ("0.1", "0.1"),
            ("0.30", "0.30"),
            ("10", "10"),
            ("1e-3", "0.001"),
            ("1.5E+3", "1500"),
            ("12345678901234567.89", "12345678901234567.89"),
            ("'0.3'", "0.3"),
            ("98765432109876543210", "98765432109876543210"),
        ] {
            let (numbers, _) = read::<BTreeMap<String, Exact>>("f", &format!("number: {text}\n")).unwrap();
            assert_eq!(numbers["number"].0.to_string(), expected);
            assert_eq!(decimal(text.trim_matches('\'')).unwrap().to_string(), expected);
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

    #[test]
    fn changes_are_laid_over_the_defaults() {
        let defaults = "name: a\nsize: 2\nrooms: {hall: {area: 1, open: true}}\ntags: [x, y]\n";
        let read = |text| read_over::<Shop>(defaults, "f", text);
        assert_eq!(read("").unwrap().0, read("# nothing\nrooms:\n").unwrap().0);
        let (shop, _) = read("rooms: {hall: {open: null}}\ntags: [z]\n").unwrap();
        assert_eq!(shop.name, "a");
        assert_eq!(shop.tags, ["z"]);
        assert_eq!(shop.rooms["hall"], Room { area: 1, open: None });
        let error = read("\nrooms: {hall: {windows: 3}}\n").unwrap_err().to_string();
        assert_eq!(error, "f:2: rooms.hall.windows: unknown key; expected `area` or `open`");
    }

    #[test]
    fn a_line_is_known_for_keys_that_are_not_written() {
        let (_, lines) = read::<Shop>("f", "name: a\nsize: 1\n\ntags:\n  - x\n").unwrap();
        for (path, line) in [("size", 2), ("tags", 4), ("tags[0]", 5), ("tags[7]", 4), ("rooms.hall", 1)] {
            assert_eq!(lines.line(path), line, "{path}");
        }
        let error = lines.error("size", "must be even", "write e.g. 2");
        assert_eq!(error.to_string(), "f:2: size: must be even; write e.g. 2");
    }

    #[test]
    fn nearest_names_misspellings_only() {
        let names = ["tts", "video", "preview"];
        for (word, expected) in [("tss", Some("tts")), ("Vidoe", Some("video")), ("translate", None), ("", None)] {
            assert_eq!(nearest(word, names), expected, "{word}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(1_000))]

        /// Whatever is in the file, it is read or refused with a line that exists.
        #[test]
        fn no_text_panics(text in proptest::string::string_regex("([a-c01]|[-:?,{}#&*!|>'\"%@`~ \n\t\r.<]|\\[|\\]|: |- |\n  |é|\u{feff}){0,60}").unwrap()) {
            if let Err(error) = read::<Value>("f", &text) {
                proptest::prop_assert!(error.line >= 1);
                proptest::prop_assert!(error.line <= text.split(['\n', '\r']).count() + 1);
            }
        }
    }
}
