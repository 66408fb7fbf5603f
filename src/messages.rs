//! The message catalogue: every sentence that a business reads, in each language, from `locales/*.ftl`.
//!
//! The catalogues are in Fluent's format and are compiled in. Counts are handed over as numbers: the catalogue picks the
//! plural form, and the text shows them grouped.

use std::borrow::Cow;
use std::sync::LazyLock;

use chrono::{Datelike, NaiveDate, NaiveDateTime};
use fluent_bundle::concurrent::FluentBundle;
use fluent_bundle::{FluentArgs, FluentResource, FluentValue};
use tracing::warn;
use unic_langid::LanguageIdentifier;

use crate::language::Language;
use crate::numbers::grouped;

const ENGLISH: &str = concat!(include_str!("../locales/en.ftl"), include_str!("../locales/pages.en.ftl"));
const SIMPLIFIED_CHINESE: &str =
    concat!(include_str!("../locales/zh-CN.ftl"), include_str!("../locales/pages.zh-CN.ftl"));

type Bundle = FluentBundle<FluentResource>;

/// The messages in one reader's language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Messages {
    language: Language,
}

/// The value of a variable in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// Text, shown as it is.
    Text(String),
    /// A whole number: decides the plural form, shown grouped.
    Number(i128),
}

/// The arguments of a message by name: `args![accounts = 3, business = name]`.
macro_rules! args {
    ($($name:ident = $value:expr),* $(,)?) => {
        &[$((stringify!($name), $crate::messages::Argument::from($value))),*]
    };
}
pub(crate) use args;

impl Messages {
    /// The messages in this language.
    pub const fn new(language: Language) -> Messages {
        Messages { language }
    }

    /// The language.
    pub fn language(self) -> Language {
        self.language
    }

    /// The message of this key, which takes no arguments.
    pub fn label(self, key: &str) -> String {
        self.text(key, &[])
    }

    /// The message of this key with these arguments. A missing message or argument shows its name and is logged: a
    /// report with a flawed sentence is better than none. Tests hold every call to the catalogues.
    pub fn text(self, key: &str, arguments: &[(&str, Argument)]) -> String {
        self.find(key, arguments).unwrap_or_else(|| {
            warn!(key, language = self.language.tag(), "the message `{key}` is missing in the catalogue");
            key.to_owned()
        })
    }

    /// The message of a key that may have none.
    pub fn find(self, key: &str, arguments: &[(&str, Argument)]) -> Option<String> {
        let bundle = bundle(self.language);
        let pattern = bundle.get_message(key)?.value()?;
        let arguments: FluentArgs = arguments.iter().map(|(name, value)| (*name, FluentValue::from(value))).collect();
        let mut errors = Vec::new();
        let text = bundle.format_pattern(pattern, Some(&arguments), &mut errors).into_owned();
        if let Some(error) = errors.first() {
            warn!(key, language = self.language.tag(), "the message `{key}` is flawed: {error}");
        }
        Some(text)
    }

    /// A day: `1 October 2026`, `2026年10月1日`.
    pub fn day(self, day: NaiveDate) -> String {
        match self.language {
            Language::English => day.format("%-d %B %Y").to_string(),
            Language::SimplifiedChinese => format!("{}年{}月{}日", day.year(), day.month(), day.day()),
        }
    }

    /// A month: `October 2026`, `2026年10月`.
    pub fn month(self, day: NaiveDate) -> String {
        match self.language {
            Language::English => day.format("%B %Y").to_string(),
            Language::SimplifiedChinese => format!("{}年{}月", day.year(), day.month()),
        }
    }

    /// A day as headlines have it: `1 October 2026`, `10月1日`.
    pub fn headline_day(self, day: NaiveDate) -> String {
        match self.language {
            Language::English => self.day(day),
            Language::SimplifiedChinese => format!("{}月{}日", day.month(), day.day()),
        }
    }

    /// A day and the time on a local clock: `1 October 2026, 04:30`, `2026年10月1日 04:30`.
    pub fn moment(self, local: NaiveDateTime) -> String {
        let comma = match self.language {
            Language::English => ",",
            Language::SimplifiedChinese => "",
        };
        format!("{}{comma} {}", self.day(local.date()), local.format("%H:%M"))
    }
}

/// The messages of a language, parsed once.
fn bundle(language: Language) -> &'static Bundle {
    static BUNDLES: LazyLock<[Bundle; 2]> =
        LazyLock::new(|| [parse(Language::English, ENGLISH), parse(Language::SimplifiedChinese, SIMPLIFIED_CHINESE)]);
    let [english, simplified_chinese] = &*BUNDLES;
    match language {
        Language::English => english,
        Language::SimplifiedChinese => simplified_chinese,
    }
}

fn parse(language: Language, source: &str) -> Bundle {
    let resource = FluentResource::try_new(source.to_owned()).unwrap_or_else(|(resource, errors)| {
        warn!(?errors, "the catalogue {} cannot be parsed whole", language.tag());
        resource
    });
    let mut bundle =
        Bundle::new_concurrent(vec![language.tag().parse().unwrap_or_else(|_| LanguageIdentifier::default())]);
    // The marks around arguments that keep their direction of writing show as boxes in some mail programs.
    bundle.set_use_isolating(false);
    bundle.set_formatter(Some(|value, _| match value {
        FluentValue::Number(number) => Some(grouped(number.value as i128)),
        _ => None,
    }));
    if let Err(errors) = bundle.add_resource(resource) {
        warn!(?errors, "the catalogue {} has a key twice", language.tag());
    }
    bundle
}

impl<'a> From<&'a Argument> for FluentValue<'a> {
    /// Fluent counts with 64-bit floats. A number that they do not hold exactly becomes text: it is shown exactly, and
    /// takes the plural form `other`, which is right for it in both languages.
    fn from(argument: &'a Argument) -> FluentValue<'a> {
        const EXACT: u128 = 1 << 53;
        match argument {
            Argument::Text(text) => FluentValue::String(Cow::Borrowed(text)),
            Argument::Number(number) if number.unsigned_abs() <= EXACT => FluentValue::from(*number),
            Argument::Number(number) => FluentValue::String(Cow::Owned(grouped(*number))),
        }
    }
}

impl From<String> for Argument {
    fn from(text: String) -> Argument {
        Argument::Text(text)
    }
}

impl From<&String> for Argument {
    fn from(text: &String) -> Argument {
        Argument::Text(text.clone())
    }
}

impl From<&str> for Argument {
    fn from(text: &str) -> Argument {
        Argument::Text(text.to_owned())
    }
}

macro_rules! from_numbers {
    ($($number:ty),*) => {
        $(impl From<$number> for Argument {
            fn from(number: $number) -> Argument {
                Argument::Number(number.into())
            }
        })*
    };
}
from_numbers!(i32, u32, i64, u64, i128);

impl From<usize> for Argument {
    fn from(number: usize) -> Argument {
        Argument::Number(number as i128)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::Path;

    use fluent_bundle::FluentError;
    use fluent_syntax::ast::{Entry, Expression, InlineExpression, Pattern, PatternElement};

    use super::*;

    /// Each key of a catalogue with the variables that its message names.
    fn keys(source: &str) -> BTreeMap<String, BTreeSet<String>> {
        let resource = fluent_syntax::parser::parse(source).unwrap_or_else(|(_, errors)| panic!("{errors:?}"));
        let messages = resource.body.iter().map(|entry| match entry {
            Entry::Message(message) => {
                let mut variables = BTreeSet::new();
                let value = message.value.as_ref().unwrap_or_else(|| panic!("{} says nothing", message.id.name));
                variables_of(value, &mut variables);
                Some((message.id.name.to_owned(), variables))
            }
            Entry::Comment(_) | Entry::GroupComment(_) | Entry::ResourceComment(_) => None,
            entry => panic!("neither a message nor a comment: {entry:?}"),
        });
        let messages: Vec<_> = messages.flatten().collect();
        let keys: BTreeMap<_, _> = messages.iter().cloned().collect();
        assert_eq!(keys.len(), messages.len(), "a key stands twice");
        keys.iter().map(|(key, names)| (key.clone(), with_referenced(names, &keys))).collect()
    }

    /// The variables, with those of other messages, which are named as `@key`.
    fn with_referenced(names: &BTreeSet<String>, keys: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
        let all = names.iter().flat_map(|name| match name.strip_prefix('@') {
            Some(key) => with_referenced(&keys[key], keys),
            None => BTreeSet::from([name.clone()]),
        });
        all.collect()
    }

    fn variables_of(pattern: &Pattern<&str>, variables: &mut BTreeSet<String>) {
        for element in &pattern.elements {
            match element {
                PatternElement::TextElement { .. } => {}
                PatternElement::Placeable { expression: Expression::Inline(inline) } => variable(inline, variables),
                PatternElement::Placeable { expression: Expression::Select { selector, variants } } => {
                    variable(selector, variables);
                    variants.iter().for_each(|variant| variables_of(&variant.value, variables));
                }
            }
        }
    }

    fn variable(inline: &InlineExpression<&str>, variables: &mut BTreeSet<String>) {
        match inline {
            InlineExpression::VariableReference { id } => {
                variables.insert(id.name.to_owned());
            }
            InlineExpression::MessageReference { id, .. } => {
                variables.insert(format!("@{}", id.name));
            }
            InlineExpression::StringLiteral { .. } => {}
            other => panic!("messages are of text, variables and other messages alone: {other:?}"),
        }
    }

    /// The text of every file in `src` but this one.
    fn sources(folder: &Path, found: &mut String) {
        for entry in fs::read_dir(folder).expect("src") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("messages.rs") {
                found.push_str(&fs::read_to_string(&path).expect("a source"));
            }
        }
    }

    /// The text of the pages' templates, which name messages as `t("key", name=value)`.
    fn templates() -> String {
        let folder = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/pages")).expect("the folder");
        folder.map(|entry| fs::read_to_string(entry.expect("an entry").path()).expect("a template")).collect()
    }

    /// The calls with a literal key: the key, and the names of the arguments.
    fn calls(source: &str) -> Vec<(String, BTreeSet<String>)> {
        let mut calls = Vec::new();
        for (start, call) in [".text(", ".label(", ".column(", ".summed(", ".totalled("]
            .iter()
            .flat_map(|call| source.match_indices(call))
        {
            let rest = &source[start + call.len()..];
            let Some(literal) = rest.trim_start().strip_prefix('"') else { continue };
            let (key, after) = literal.split_once('"').expect("the end of a literal");
            if call == ".column(" && !after.trim_start_matches([',', ' ', '\n']).starts_with("Kind::") {
                continue; // some other type's
            }
            let arguments = after.trim_start_matches([',', ' ', '\n']).strip_prefix("args![").unwrap_or("");
            calls.push((key.to_owned(), names(arguments)));
        }
        calls
    }

    /// The names before `=` in `a = f(1, 2), b = 3]…`.
    fn names(arguments: &str) -> BTreeSet<String> {
        let (mut names, mut name, mut depth) = (BTreeSet::new(), String::new(), 0_usize);
        for c in arguments.chars() {
            match c {
                ']' | ')' | '}' if depth == 0 => break,
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth -= 1,
                ',' if depth == 0 => name.clear(),
                '=' if depth == 0 => drop(names.insert(name.trim().to_owned())),
                c => name.push(c),
            }
        }
        names
    }

    #[test]
    fn both_catalogues_have_the_same_keys_with_the_same_arguments() {
        let (english, chinese) = (keys(ENGLISH), keys(SIMPLIFIED_CHINESE));
        for (key, variables) in &english {
            assert_eq!(chinese.get(key), Some(variables), "`{key}` in zh-CN.ftl");
        }
        for key in chinese.keys() {
            assert!(english.contains_key(key), "`{key}` is in zh-CN.ftl alone");
        }
    }

    #[test]
    fn every_message_that_is_used_exists_and_every_message_is_used() {
        let catalogue = keys(ENGLISH);
        let mut source = String::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut source);
        for (key, names) in calls(&source) {
            assert_eq!(catalogue.get(&key), Some(&names), "the arguments of `{key}`, or its place in the catalogue");
        }
        let templates = templates();
        for (start, call) in
            templates.match_indices("t(\"").filter(|(at, _)| !templates[..*at].ends_with(char::is_alphanumeric))
        {
            let (key, after) = templates[start + call.len()..].split_once('"').expect("the end of a literal");
            if !after.trim_start().starts_with('~') {
                let given = names(after.trim_start_matches([',', ' ', '\n']));
                assert_eq!(catalogue.get(key), Some(&given), "the arguments of `{key}` in a template, or its place");
            }
        }
        source.push_str(&templates);
        // A key made of parts, such as `rule-{name}`: its users have a test that goes through all names.
        let made = |key: &str| {
            key.match_indices('-')
                .any(|(at, _)| ["{", "\""].iter().any(|end| source.contains(&format!("\"{}-{end}", &key[..at]))))
        };
        for key in catalogue.keys() {
            let referenced = ENGLISH.contains(&format!("{{ {key} }}"));
            assert!(source.contains(&format!("\"{key}\"")) || made(key) || referenced, "`{key}` is not used");
        }
    }

    /// A reader looks for the words that the badge has.
    #[test]
    fn the_rules_of_the_badges_name_badges() {
        for source in [ENGLISH, SIMPLIFIED_CHINESE] {
            let value = |key: &str| {
                source.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = ")).expect("a badge").to_owned()
            };
            let badges = ["tone-good", "tone-attention", "tone-bad"].map(value);
            for rule in source.lines().filter(|line| line.contains("-tone-rule = ")) {
                let quoted: Vec<&str> =
                    rule.split('“').skip(1).filter_map(|rest| Some(rest.split_once('”')?.0)).collect();
                assert!(
                    !quoted.is_empty() && quoted.iter().all(|word| badges.iter().any(|badge| badge == word)),
                    "{rule}"
                );
            }
        }
    }

    #[test]
    fn every_table_has_a_name_in_the_catalogue() {
        let catalogue = keys(ENGLISH);
        let mut source = String::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/reports"), &mut source);
        let tables: Vec<&str> =
            source.split("TableBuilder::new(messages, \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(tables.len() > 10, "{tables:?}");
        for table in tables {
            assert!(catalogue.contains_key(&format!("table-{table}")), "table-{table}");
        }
    }

    #[test]
    fn the_font_of_the_charts_has_every_character_of_the_catalogues() {
        let font = include_bytes!("../assets/fonts/NotoSansSC-Subset.ttf");
        let face = ttf_parser::Face::parse(font, 0).expect("a font");
        // Sentences of the status page are in no chart.
        let (english, chinese) = (include_str!("../locales/en.ftl"), include_str!("../locales/zh-CN.ftl"));
        for c in english.chars().chain(chinese.chars()).filter(|c| *c != '\n') {
            assert!(face.glyph_index(c).is_some(), "{c:?} is missing; assets/fonts/README.md says how to add it");
        }
    }

    #[test]
    fn every_message_can_be_written_with_its_arguments() {
        for (language, source) in [(Language::English, ENGLISH), (Language::SimplifiedChinese, SIMPLIFIED_CHINESE)] {
            for (key, variables) in keys(source) {
                for number in [0, 1, 2] {
                    let arguments = variables.iter().map(|name| (name.as_str(), FluentValue::from(number))).collect();
                    let mut errors: Vec<FluentError> = Vec::new();
                    let bundle = bundle(language);
                    let pattern = bundle.get_message(&key).and_then(|message| message.value()).expect("a message");
                    let text = bundle.format_pattern(pattern, Some(&arguments), &mut errors);
                    assert!(errors.is_empty(), "{key}: {errors:?}");
                    assert!(!text.contains(['{', '\u{2068}', '\u{2069}']), "{key}: {text}");
                }
            }
        }
    }

    /// Every message with a count, in English: the noun and the verb after it agree with one and with two.
    #[test]
    fn counts_agree_with_their_words() {
        const SINGULAR: [&str; 12] = [
            "point",
            "account",
            "batch",
            "entry",
            "row",
            "day",
            "exception",
            "run",
            "mail",
            "report",
            "request",
            "hold",
        ];
        const COUNTS: [&str; 17] = [
            "accounts",
            "batches",
            "cleared",
            "count",
            "days",
            "entries",
            "exceptions",
            "mails",
            "new",
            "points",
            "requests",
            "rows",
            "runs",
            "seconds",
            "findings",
            "slots",
            "users",
        ];
        let mut faults = Vec::new();
        for (key, variables) in keys(ENGLISH) {
            for number in [0, 1, 2] {
                let value = |name: &str| match name {
                    _ if COUNTS.contains(&name) => FluentValue::from(number),
                    // Of a list that is cut.
                    "shown" | "all" | "attached" => FluentValue::from(7),
                    _ => FluentValue::from("text"),
                };
                let arguments = variables.iter().map(|name| (name.as_str(), value(name))).collect();
                let bundle = bundle(Language::English);
                let pattern = bundle.get_message(&key).and_then(|message| message.value()).expect("a message");
                let text = bundle.format_pattern(pattern, Some(&arguments), &mut Vec::new()).into_owned();
                let words: Vec<&str> = text.split([' ', ':', ',', '.', ';', '(', ')', '\n']).collect();
                for (at, _) in words.iter().enumerate().filter(|(_, word)| **word == number.to_string()) {
                    let mut after = words.iter().skip(at + 1).take(4);
                    let noun = after.clone().next().copied().unwrap_or_default();
                    let one = SINGULAR.contains(&noun);
                    let many = SINGULAR.iter().any(|word| {
                        let plural = word.strip_suffix('y').filter(|_| *word == "entry");
                        noun == plural.map_or_else(|| format!("{word}s"), |stem| format!("{stem}ies"))
                            || noun == format!("{word}es")
                    });
                    let verb = if one || many { after.nth(1).copied().unwrap_or_default() } else { noun };
                    let wrong = match number {
                        1 => many || ["are", "were", "have", "differ", "remain", "wait"].contains(&verb),
                        _ => one || ["is", "was", "has", "differs", "remains", "waits"].contains(&verb),
                    };
                    if wrong {
                        faults.push(format!("{key}: {text}"));
                    }
                }
            }
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    #[test]
    fn a_key_that_is_missing_is_shown() {
        assert_eq!(Messages::new(Language::English).label("no-such-key"), "no-such-key");
    }

    #[test]
    fn numbers_are_exact_and_grouped() {
        let value = |number: i128| match FluentValue::from(&Argument::Number(number)) {
            FluentValue::Number(value) => grouped(value.value as i128),
            FluentValue::String(text) => text.into_owned(),
            other => panic!("{other:?}"),
        };
        for number in [0, 1, -1_234_567, 1 << 53, (1 << 53) + 1, i128::from(i64::MAX), i128::from(i64::MIN)] {
            assert_eq!(value(number), grouped(number));
        }
    }

    #[test]
    fn days_and_moments() {
        let day = NaiveDate::from_ymd_opt(2026, 10, 1).expect("a day");
        let local = day.and_hms_opt(4, 30, 0).expect("a time");
        let (english, chinese) = (Messages::new(Language::English), Messages::new(Language::SimplifiedChinese));
        assert_eq!((english.day(day), chinese.day(day)), ("1 October 2026".into(), "2026年10月1日".into()));
        assert_eq!(chinese.headline_day(day), "10月1日");
        assert_eq!(english.moment(local), "1 October 2026, 04:30");
        assert_eq!(chinese.moment(local), "2026年10月1日 04:30");
    }
}
