//! Reads YAML files, so that every file fails alike: with the file, the line, the key's path, and what to write instead.
//!
//! serde_yaml parses and types. A first pass refuses what YAML allows and a configuration does not need: a key written twice
//! (the parser lets the last one win in silence) and tags. The parser gives a line only with an error, so a pass that
//! stops at a key finds its line.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::{self, Display};

use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, Visitor};
use serde_yaml::Value;

use crate::numbers::grouped;
use crate::spelling::nearest;

/// The most bytes of a file.
const MOST_BYTES: usize = 1 << 20;

/// The most brackets that may be open in one place. The parser's time grows with their square: 100,000 would take minutes.
const MOST_OPEN: usize = 64;

/// What is wrong with a YAML file, in words for its author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {path}{}{problem}", if path.is_empty() { "" } else { ": " })]
pub struct Error {
    /// The file's name as the caller gave it.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// The key, such as `database.pool_size` or `free_services[1]`; empty for the file as a whole.
    pub path: String,
    /// The problem, and what to write instead.
    pub problem: String,
}

/// The lines of a file's keys, for checks that come after reading.
#[derive(Clone)]
pub struct Lines {
    file: String,
    text: String,
}

impl fmt::Debug for Lines {
    /// Without the text, which may hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lines({})", self.file)
    }
}

impl Lines {
    fn new(file: &str, text: &str) -> Lines {
        // Some editors put a byte order mark in front, which would become part of the first key.
        Lines { file: file.to_owned(), text: text.strip_prefix('\u{feff}').unwrap_or(text).to_owned() }
    }

    /// The line of `path`, or of the nearest key around it if the file does not have that key.
    ///
    /// It reads the file once more, so it is for errors.
    pub fn line(&self, path: &str) -> usize {
        if path.is_empty() {
            return 1;
        }
        let found = self_and_parents(path).find_map(|path| Pass::over(&self.text, Some(path)).err()?.location());
        found.map_or(1, |place| place.line())
    }

    /// Whether the file has the key `path`.
    pub fn has(&self, path: &str) -> bool {
        Pass::over(&self.text, Some(path)).is_err()
    }

    /// An error at `path`: what is wrong, and what to write instead.
    pub fn error(&self, path: &str, what: impl Display, remedy: impl Display) -> Error {
        self.error_at(self.line(path), path, format!("{what}; {remedy}"))
    }

    fn error_at(&self, line: usize, path: &str, problem: impl Into<String>) -> Error {
        Error { file: self.file.clone(), line, path: path.to_owned(), problem: problem.into() }
    }

    /// Refuses a huge or deeply nested file, text that is no YAML, keys that are written twice, and tags.
    fn check(&self) -> Result<(), Error> {
        if self.text.len() > MOST_BYTES {
            let what = format_args!("the file has {} bytes", grouped(self.text.len() as i128));
            return Err(self.error("", what, format_args!("write at most {}", grouped(MOST_BYTES as i128))));
        }
        if let Some(line) = line_nested_too_deep(&self.text) {
            let problem = format!("more than {MOST_OPEN} brackets are open here; close some of them before");
            return Err(self.error_at(line, "", problem));
        }
        let pass = Pass { goal: None, refused: RefCell::default() };
        let Err(error) = pass.run(&self.text) else { return Ok(()) };
        let line = error.location().map_or(1, |place| place.line());
        Err(match pass.refused.into_inner() {
            Some((path, Refused::Twice)) => {
                let first = self.line(&path);
                self.error_at(
                    line,
                    &path,
                    format!("the key is written twice, first in line {first}; keep one of the two"),
                )
            }
            Some((path, Refused::Tag)) => {
                let problem = "tags (`!name`) are not used in this file; leave the tag out, or put the value in quotes";
                self.error_at(line, &path, problem)
            }
            None => {
                let remedy = "check the indentation, the colons and the quotes here and in the line before";
                self.error_at(line, "", format!("this is not YAML: {error}; {remedy}"))
            }
        })
    }
}

/// The first line where more than [`MOST_OPEN`] brackets are open. Brackets in texts and comments count, too: this comes
/// before the parser, which alone knows them.
fn line_nested_too_deep(text: &str) -> Option<usize> {
    let mut open = 0_usize;
    (1..).zip(text.lines()).find_map(|(number, line)| {
        let too_deep = line.bytes().any(|byte| {
            match byte {
                b'[' | b'{' => open += 1,
                b']' | b'}' => open = open.saturating_sub(1),
                _ => {}
            }
            open > MOST_OPEN
        });
        too_deep.then_some(number)
    })
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
/// Text that is no YAML, a key that is written twice, a tag, and a value that does not fit `T`.
pub fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<(T, Lines), Error> {
    let lines = Lines::new(file, text);
    lines.check()?;
    let typed = fit(serde_yaml::Deserializer::from_str(&lines.text), &lines)?;
    Ok((typed, lines))
}

/// Reads one YAML document as changes to `defaults`, another YAML text: mappings are merged key by key, every
/// other value of `text` replaces the default. A mapping left empty (`log:`) changes nothing.
///
/// `complete` may then change the merged values. It gets the changes and the defaults too. The paths in `ignored` count as not
/// written, so that a caller can go on behind an error.
///
/// Unlike in [`parse`], a number or `true` must be in quotes to be a [`String`].
///
/// # Errors
/// As [`parse`], with the lines of `text`.
pub fn parse_over<T: DeserializeOwned>(
    defaults: &str,
    file: &str,
    text: &str,
    ignored: &[String],
    complete: impl FnOnce(&mut Value, &Value, &Value),
) -> Result<(T, Lines), Error> {
    let (defaults, _) = parse::<Value>("built-in defaults", defaults)?;
    let (mut changes, lines) = parse::<Value>(file, text)?;
    for path in ignored {
        remove(&mut changes, path);
    }
    let mut merged = defaults.clone();
    merge(&mut merged, changes.clone());
    complete(&mut merged, &changes, &defaults);
    let typed = fit(merged, &lines)?;
    Ok((typed, lines))
}

/// Removes the key of a path; of a place in a list, the whole list, or the places after it would bear wrong numbers.
fn remove(value: &mut Value, path: &str) {
    let Value::Mapping(mapping) = value else { return };
    let keys: Vec<Value> = mapping.keys().filter(|key| key.is_string()).cloned().collect();
    // A key may have dots in it, so each is compared with the path.
    for key in keys {
        let rest = path.strip_prefix(key.as_str().unwrap_or_default());
        match rest {
            Some(rest) if rest.is_empty() || rest.starts_with('[') => {
                mapping.remove(&key);
            }
            Some(rest) => {
                if let (Some(rest), Some(inner)) = (rest.strip_prefix('.'), mapping.get_mut(&key)) {
                    remove(inner, rest);
                }
            }
            None => {}
        }
    }
}

/// Lays `changes` over `base`.
pub fn merge(base: &mut Value, changes: Value) {
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

/// serde's message without the value, which may be a connection string with its password, and without Rust's types.
fn in_plain_words(message: &str) -> String {
    if let Some((unknown, expected)) = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once("`, ")) {
        let known = expected.split('`').skip(1).step_by(2);
        return match nearest(unknown, known) {
            Some(name) => format!("unknown key; did you mean `{name}`?"),
            None => format!("unknown key; {expected}"),
        };
    }
    let misfit = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    let Some((found, expected)) = misfit.and_then(|found| found.rsplit_once(", expected ")) else {
        return message.replace("missing field", "missing key");
    };
    let found = match found {
        "map" => "a mapping",
        "sequence" => "a list",
        "unit value" => "null",
        found if found.starts_with("string ") => "a text",
        other => other,
    };
    let expected = match expected {
        "u16" | "u32" | "u64" | "usize" | "i32" | "i64" => "a whole number",
        "a boolean" => "true or false",
        "any YAML value" => "a smaller number",
        "a sequence" => "a list",
        "a string" | "field identifier" => "a text, in quotes if it looks like a number",
        other if other == "a map" || other.starts_with("struct ") => "a mapping (`key: value`)",
        other => other,
    };
    format!("expected {expected}, found {found}")
}

/// A pass over a document that stops with an error at the first fault, or at the key that it looks for.
struct Pass<'a> {
    goal: Option<&'a str>,
    refused: RefCell<Option<(String, Refused)>>,
}

enum Refused {
    Twice,
    Tag,
}

impl<'a> Pass<'a> {
    fn over(text: &str, goal: Option<&'a str>) -> Result<(), serde_yaml::Error> {
        Pass { goal, refused: RefCell::default() }.run(text)
    }

    fn run(&self, text: &str) -> Result<(), serde_yaml::Error> {
        Node { pass: self, path: String::new() }.deserialize(serde_yaml::Deserializer::from_str(text))
    }

    fn refuse<E: de::Error>(&self, path: String, why: Refused) -> E {
        self.refused.replace(Some((path, why)));
        E::custom("refused")
    }

    /// The error with which the parser gives the line of the key.
    fn stop_at_goal<E: de::Error>(&self, path: &str) -> Result<(), E> {
        if self.goal == Some(path) { Err(E::custom("found")) } else { Ok(()) }
    }
}

/// A value and all below it.
struct Node<'a> {
    pass: &'a Pass<'a>,
    path: String,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

macro_rules! scalars {
    ($($visit:ident: $type:ty),*) => {
        $(fn $visit<E: de::Error>(self, _: $type) -> Result<(), E> {
            self.pass.stop_at_goal(&self.path)
        })*
    };
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    scalars!(visit_bool: bool, visit_i64: i64, visit_i128: i128, visit_u64: u64, visit_u128: u128, visit_f64: f64, visit_str: &str);

    fn visit_none<E: de::Error>(self) -> Result<(), E> {
        self.pass.stop_at_goal(&self.path)
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.pass.stop_at_goal(&self.path)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.pass.stop_at_goal(&self.path)?;
        let item = |position: usize| Node { pass: self.pass, path: format!("{}[{position}]", self.path) };
        for position in 0.. {
            if items.next_element_seed(item(position))?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        self.pass.stop_at_goal(&self.path)?;
        let mut keys = BTreeSet::new();
        while let Some(path) = entries.next_key_seed(Key { mapping: &self, keys: &mut keys })? {
            entries.next_value_seed(Node { pass: self.pass, path })?;
        }
        Ok(())
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.pass.refuse(self.path, Refused::Tag))
    }
}

/// A key of a mapping. Its value is the key's path.
struct Key<'a, 'b> {
    mapping: &'b Node<'a>,
    keys: &'b mut BTreeSet<String>,
}

impl<'de> DeserializeSeed<'de> for Key<'_, '_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_, '_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<String, E> {
        let Node { pass, path } = self.mapping;
        let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        pass.stop_at_goal(&path)?;
        if self.keys.insert(key.to_owned()) { Ok(path) } else { Err(pass.refuse(path, Refused::Twice)) }
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
        let error = parse::<Shop>("shop.yaml", text).unwrap_err().to_string();
        assert_eq!(error_over(text), error);
        error
    }

    fn error_over(text: &str) -> String {
        parse_over::<Shop>("", "shop.yaml", text, &[], |_, _, _| ()).unwrap_err().to_string()
    }

    #[test]
    fn reads_every_style_of_the_same_document() {
        let block = "name: a\nsize: 2\nrooms:\n  hall:\n    area: 30\ntags:\n  - x\n  - 'y'\n";
        let flow = "\u{feff}---\n{name: a, size: 2, rooms: {hall: {area: 30}}, tags: [x, \"y\"]}\n...\n";
        let windows = block.replace('\n', "\r\n");
        let expected = parse::<Shop>("f", block).unwrap().0;
        assert_eq!(expected.tags, ["x", "y"]);
        assert_eq!(parse::<Shop>("f", flow).unwrap().0, expected);
        assert_eq!(parse::<Shop>("f", &windows).unwrap().0, expected);
    }

    /// A text, and why it is refused by itself and over defaults.
    const REFUSED: &[(&str, &str)] = &[
        ("name: a\n", "shop.yaml:1: missing key `size`"),
        ("# only a comment\n", "shop.yaml:1: missing key `name`"),
        (
            "name: a\nsize: 2\nrooms:\n  hall:\n    area: 1\n  attic:\n    open: true\n",
            "shop.yaml:6: rooms.attic: missing key `area`",
        ),
        (
            "name: a\nsize: 2\nrooms:\n  hall: {area: 1, opn: true}\n",
            "shop.yaml:4: rooms.hall.opn: unknown key; did you mean `open`?",
        ),
        (
            "name: a\nsize: 2\ncolour: red\n",
            "shop.yaml:3: colour: unknown key; expected one of `name`, `size`, `rooms`, `tags`",
        ),
        ("name: a\nsize: big\n", "shop.yaml:2: size: expected a whole number, found a text"),
        ("name: a\nsize: 2.5\n", "shop.yaml:2: size: expected a whole number, found floating point `2.5`"),
        (
            "name: a\nsize: 2\ntags:\n- x\n- [y]\n",
            "shop.yaml:5: tags[1]: expected a text, in quotes if it looks like a number, found a list",
        ),
        (
            "name: a\nsize: 2\nname: b\n",
            "shop.yaml:3: name: the key is written twice, first in line 1; keep one of the two",
        ),
        (
            "name: a\nsize: 2\nrooms:\n  hall: {area: 1}\n  \"hall\": {area: 2}\n",
            "shop.yaml:5: rooms.hall: the key is written twice, first in line 4; keep one of the two",
        ),
        (
            "name: !x a\n",
            "shop.yaml:1: name: tags (`!name`) are not used in this file; leave the tag out, or put the value in quotes",
        ),
        (
            "name: a\nsize: 2\nrooms:\n  hall: {area: 1}\n  attic: {area: 1, open: true, area: 2}\n",
            "shop.yaml:5: rooms.attic.area: the key is written twice, first in line 5; keep one of the two",
        ),
        (
            "name: a\nsize: 2\ntags:\n- x\n- {a: 1, a: 2}\n",
            "shop.yaml:5: tags[1].a: the key is written twice, first in line 5; keep one of the two",
        ),
        ("- a\n", "shop.yaml:1: expected a mapping (`key: value`), found a list"),
        (
            "name: a\nsize: 2\nrooms: {hall: [1, true]}\n",
            "shop.yaml:3: rooms.hall: expected a mapping (`key: value`), found a list",
        ),
        (
            "name: a\nsize: 2\nrooms: {hall: {area: 1, open: maybe}}\n",
            "shop.yaml:3: rooms.hall.open: expected true or false, found a text",
        ),
    ];

    /// A text, and why it is refused over defaults only.
    const REFUSED_OVER: &[(&str, &str)] = &[
        ("name: 7\n", "shop.yaml:1: name: expected a text, in quotes if it looks like a number, found integer `7`"),
        ("name:\n", "shop.yaml:1: name: expected a text, in quotes if it looks like a number, found null"),
        ("name: a\n7: a\n", "shop.yaml:1: expected a text, in quotes if it looks like a number, found integer `7`"),
        (
            "size: 98765432109876543210",
            "shop.yaml:1: size: expected a smaller number, found integer `98765432109876543210` as u128",
        ),
    ];

    #[test]
    fn errors_name_file_line_path_and_remedy() {
        for (text, expected) in REFUSED {
            assert_eq!(&error(text), expected, "for:\n{text}");
        }
        for (text, expected) in REFUSED_OVER {
            assert_eq!(&error_over(text), expected, "for:\n{text}");
        }
        for text in ["name: 'a\nsize: 2\n", "name: *nowhere\n", "[a]: 1\n", "name: a\n---\nname: b\n"] {
            assert!(error(text).contains("this is not YAML"), "{text}");
        }
    }

    #[test]
    fn a_huge_or_deeply_nested_file_is_refused_at_once() {
        let nested = |depth: usize| format!("name: a\nsize: {}{}\n", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(error(&nested(64)), "shop.yaml:2: size: expected a whole number, found a list");
        let expected = "shop.yaml:2: more than 64 brackets are open here; close some of them before";
        assert_eq!(error(&nested(65)), expected);
        assert_eq!(error(&nested(100_000)), expected);
        let blocks = format!("name:\n  {}a\n", "- ".repeat(100_000));
        assert!(error(&blocks).contains("recursion limit exceeded"));

        let with_comment = |bytes: usize| format!("name: a\nsize: 2\n#{}\n", "x".repeat(bytes - 18));
        assert!(parse::<Shop>("shop.yaml", &with_comment(1 << 20)).is_ok());
        let expected = "shop.yaml:1: the file has 1,048,577 bytes; write at most 1,048,576";
        assert_eq!(error(&with_comment((1 << 20) + 1)), expected);
    }

    #[test]
    fn a_text_in_the_wrong_place_is_not_repeated() {
        let message = error("name: a\nsize: 'postgres://me:secret, expected@host/db'\n");
        assert!(!message.contains("secret"), "{message}");
    }

    #[test]
    fn changes_are_laid_over_the_defaults() {
        let defaults = "name: a\nsize: 2\nrooms: {hall: {area: 1, open: true}}\ntags: [x, y]\n";
        let read = |text| parse_over::<Shop>(defaults, "f", text, &[], |_, _, _| ());
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
        let (_, lines) = parse::<Shop>("f", "name: a\nsize: 1\n\ntags:\n  - x\n").unwrap();
        for (path, line) in [("size", 2), ("tags", 4), ("tags[0]", 5), ("tags[7]", 4), ("rooms.hall", 1)] {
            assert_eq!(lines.line(path), line, "{path}");
        }
        let error = lines.error("size", "must be even", "write e.g. 2");
        assert_eq!(error.to_string(), "f:2: size: must be even; write e.g. 2");
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(1_000))]

        /// Whatever is in the file, it is read or refused with a line that exists.
        #[test]
        fn no_text_panics(text in proptest::string::string_regex("([a-c01]|[-:?,{}#&*!|>'\"%@`~ \n\t\r.<]|\\[|\\]|: |- |\n  |é|\u{feff}){0,60}").unwrap()) {
            if let Err(error) = parse::<Value>("f", &text) {
                proptest::prop_assert!(error.line >= 1);
                proptest::prop_assert!(error.line <= text.split(['\n', '\r']).count() + 1);
            }
        }
    }
}
