//! The words of an exception: what is wrong, by how many points, and what to do next.
//!
//! A finding has its values as short texts, such as `recharged 1200, last_seq 7` or, of closed days,
//! `2026-11-21 gift: opening 5 expired 3`. Here they become figures in the reader's language.

use chrono::NaiveDate;

use crate::config::Config;
use crate::document::Cell;
use crate::ledger::Currency;
use crate::messages::{Messages, args};
use crate::numbers::{grouped, grouped_decimal};
use crate::proof::Finding;

/// Rules whose sentence has its figures, or needs none.
const COMPLETE: [&str; 7] = [
    "entry_numbers",
    "entry_chain",
    "batch_amount",
    "account_balance",
    "account_identity",
    "account_remaining",
    "days_balance",
];

/// Where the figure stands in the frame of a [`Value`]. No catalogue has this character.
const GAP: &str = "\u{0}";

/// Puts findings into words.
#[derive(Clone, Copy)]
pub(super) struct Words<'a> {
    config: &'a Config,
    messages: Messages,
}

/// A value of a finding: a name with a gap for its figure, or words alone.
struct Value {
    frame: String,
    figure: Option<(i128, Option<Currency>)>,
}

impl Value {
    fn filled(&self, text: &str) -> String {
        self.frame.replace(GAP, text)
    }

    fn text(&self) -> String {
        self.figure.map_or_else(|| self.frame.clone(), |(number, currency)| self.filled(&amount(number, currency)))
    }
}

/// A number, or money in its currency.
fn amount(number: i128, currency: Option<Currency>) -> String {
    match (currency, i64::try_from(number)) {
        (Some(currency), Ok(minor)) => format!("{} {currency}", grouped_decimal(minor, currency.digits())),
        _ => grouped(number),
    }
}

impl Words<'_> {
    pub fn new(config: &Config) -> Words<'_> {
        Words { config, messages: Messages::new(config.language) }
    }

    /// What is wrong, where, and by how many points. A rule without a sentence, such as one of an older version, is named.
    pub fn sentence(self, finding: &Finding) -> String {
        let Words { messages, .. } = self;
        let Finding { rule, user, batch, seq, points, .. } = finding;
        let account = user.map_or_else(|| messages.label("all-accounts"), |user| user.to_string());
        let points = points.unwrap_or_default();
        let (size, direction) = (i128::from(points).abs(), direction(points.into()));
        // The sentences name these two columns themselves.
        let bare = |text: &str| {
            let text = text.trim_start_matches("remaining ").trim_start_matches("balance_before ");
            self.texts(text).unwrap_or_default()
        };
        let arguments = args![
            account = account.as_str(),
            batch = batch.unwrap_or_default(),
            entry = seq.unwrap_or_default(),
            points = size,
            direction = direction,
            expected = bare(&finding.expected),
            found = bare(&finding.found),
        ];
        let told = messages
            .find(&format!("finding-{rule}"), arguments)
            .unwrap_or_else(|| messages.text("finding-other", args![account = account, check = rule]));
        if COMPLETE.contains(&rule.as_str()) {
            return told;
        }
        match self.differences(finding) {
            Some(found) => messages.text("finding-found", args![sentence = told, found = found]),
            None if points != 0 => {
                messages.text("finding-differs", args![sentence = told, points = size, direction = direction])
            }
            None => told,
        }
    }

    /// What to do next.
    pub fn next_step(self, finding: &Finding) -> String {
        let Words { messages, .. } = self;
        match (finding.user, finding.rule.as_str()) {
            (Some(_), "account_missing") => messages.label("next-restore"),
            (Some(user), _) => messages.text("next-repair", args![account = user.to_string()]),
            (None, "day_changed") => messages.label("next-day-changed"),
            (None, "day_open") => messages.label("next-day-open"),
            (None, _) => messages.label("next-reconcile"),
        }
    }

    /// What a finding expected and found, as cells: a number by itself stays one. Both are empty if one of them is not figures
    /// alone. Other values stand in `pointsd repair plan` and in `pointsd.findings`, for engineers.
    pub fn values(self, finding: &Finding) -> (Cell, Cell) {
        let cell = |text: &str| match text.parse::<i64>() {
            Ok(number) => Some(Cell::Number(number)),
            Err(_) => self.texts(text).map(Cell::from),
        };
        cell(&finding.expected).zip(cell(&finding.found)).unwrap_or((Cell::Empty, Cell::Empty))
    }

    fn texts(self, text: &str) -> Option<String> {
        Some(self.join(self.parse(text)?.iter().map(Value::text)))
    }

    fn join(self, parts: impl Iterator<Item = String>) -> String {
        parts.collect::<Vec<_>>().join(&self.messages.label("values-separator"))
    }

    /// Each value that was found, with the expected one and the difference. None if the two do not have the same names.
    fn differences(self, finding: &Finding) -> Option<String> {
        let (expected, found) = (self.parse(&finding.expected)?, self.parse(&finding.found)?);
        if expected.len() != found.len() {
            return None;
        }
        let told = found.iter().zip(&expected).map(|(found, expected)| self.difference(found, expected));
        Some(self.join(told.collect::<Option<Vec<String>>>()?.into_iter()))
    }

    fn difference(self, found: &Value, expected: &Value) -> Option<String> {
        let Words { messages, .. } = self;
        let (is, was) = match (found.figure, expected.figure) {
            (Some(found), Some(expected)) => (found, expected),
            _ if found.frame == expected.frame => return Some(found.text()),
            _ => return Some(messages.text("value-instead", args![found = found.text(), expected = expected.text()])),
        };
        if found.frame != expected.frame {
            return None;
        }
        let [is_text, was_text] = [is, was].map(|(number, currency)| amount(number, currency));
        if is.1 != was.1 {
            let text = messages.text("value-instead", args![found = is_text, expected = was_text]);
            return Some(found.filled(&text));
        }
        let by = is.0.saturating_sub(was.0);
        let difference = amount(by.abs(), is.1);
        let text = messages.text(
            "value-difference",
            args![found = is_text, expected = was_text, difference = difference, direction = direction(by)],
        );
        Some(found.filled(&text))
    }

    /// The values of a text. None if one of them is no figure.
    fn parse(self, text: &str) -> Option<Vec<Value>> {
        let mut values = Vec::new();
        for part in text.split(", ") {
            match part.split_once(": ") {
                Some((place, columns)) => values.extend(self.of_day(place, columns)?),
                None => values.push(self.value(part, None)?),
            }
        }
        Some(values)
    }

    /// The columns of a source on a day: `2026-11-21 gift` or `2026-11-21 CNY gift`, and `opening 5 expired 3`.
    fn of_day(self, place: &str, columns: &str) -> Option<Vec<Value>> {
        let Words { messages, .. } = self;
        let (day, place) = place.split_once(' ')?;
        let money = place.split_once(' ').and_then(|(code, source)| Some((Currency::stored(code)?, source)));
        let (currency, source) = money.map_or((None, place), |(currency, source)| (Some(currency), source));
        let source = match source {
            "owed" => messages.label("arrears-receivable"),
            source => self.label(source),
        };
        let day = messages.day(day.parse::<NaiveDate>().ok()?);
        let name = messages.text("values-place", args![day = day, source = source]);
        let columns: Vec<&str> = columns.split(' ').collect();
        let values = columns.chunks(2).map(|column| self.value(&column.join(" "), currency));
        let mut values: Vec<Value> = values.collect::<Option<_>>()?;
        if let Some(first) = values.first_mut() {
            first.frame = messages.text("named-value", args![name = name, value = first.frame.as_str()]);
        }
        Some(values)
    }

    /// A figure with its name. A name that the catalogue does not have is a source.
    fn value(self, text: &str, currency: Option<Currency>) -> Option<Value> {
        let Words { messages, .. } = self;
        let words = |frame: String| Some(Value { frame, figure: None });
        let named = |key: &str, value: &str| messages.find(&format!("value-{key}"), args![value = value]);
        if let Some(more) = text.strip_prefix("and ").and_then(|text| text.strip_suffix(" more")) {
            return words(named("and-more", more)?);
        }
        if let Some(source) = text.strip_prefix("source ") {
            return words(named("source", &self.label(source))?);
        }
        if let "no money" | "no price" = text {
            return words(messages.label("none"));
        }
        let text = text.strip_suffix(" points from batches").unwrap_or(text);
        let (name, number) = text.rsplit_once(' ').unwrap_or(("", text));
        if let (Ok(minor), Some(currency)) = (name.parse::<i128>(), Currency::stored(number)) {
            return Some(Value { frame: GAP.to_owned(), figure: Some((minor, Some(currency))) });
        }
        let figure = number.parse::<i128>().ok()?;
        if let "entry" | "batch" = name {
            return words(named(name, &grouped(figure))?);
        }
        let of_place = name.rsplit_once('/').and_then(|(source, code)| Some((source, Currency::stored(code)?)));
        let (frame, currency) = match (name, of_place) {
            ("", _) => (GAP.to_owned(), currency),
            (_, Some((source, currency))) => (format!("{} {GAP}", self.label(source)), Some(currency)),
            (name, None) => (named(name, GAP).or_else(|| self.of_source(name))?, currency),
        };
        Some(Value { frame, figure: Some((figure, currency)) })
    }

    fn of_source(self, name: &str) -> Option<String> {
        let is_source = self.config.sources.contains_key(name) || !name.contains(' ');
        is_source.then(|| format!("{} {GAP}", self.label(name)))
    }

    fn label(self, source: &str) -> String {
        self.config.source_label(source, self.config.language).to_owned()
    }
}

fn direction(points: i128) -> &'static str {
    if points > 0 { "more" } else { "fewer" }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::reconciliation::rules;
    use super::*;
    use crate::language::Language;

    fn configs() -> [Config; 2] {
        [Language::English, Language::SimplifiedChinese].map(|language| {
            let mut config = Config::load(None, None).unwrap();
            config.language = language;
            config
        })
    }

    fn finding(rule: &str, expected: &str, found: &str, points: i64) -> Finding {
        let user = (!rule.starts_with("day")).then(|| uuid::Uuid::from_u128(7));
        let (expected, found) = (expected.to_owned(), found.to_owned());
        Finding { rule: rule.to_owned(), user, batch: Some(1), seq: Some(1234), expected, found, points: Some(points) }
    }

    #[test]
    fn every_rule_has_its_sentences_in_both_languages() {
        for config in configs() {
            let (words, messages) = (Words::new(&config), Messages::new(config.language));
            for name in rules() {
                assert!(messages.find(&format!("rule-{name}"), &[]).is_some(), "rule-{name}");
                let sentence = words.sentence(&finding(name, "133", "1188", 1055));
                assert!(!sentence.contains(name), "finding-{name} is missing: {sentence}");
                assert!(sentence.contains("1,055") || name == "entry_numbers", "{sentence}");
                let sentence = words.sentence(&finding(name, "no such batch", "3 rows of it", 1055));
                assert!(sentence.contains("1,055") || name == "entry_numbers", "{sentence}");
            }
        }
    }

    #[test]
    fn a_finding_says_what_is_wrong_by_how_many_points_and_what_to_do() {
        let [english, chinese] = &configs();
        let [english, chinese] = [Words::new(english), Words::new(chinese)];
        let account = "00000000-0000-0000-0000-000000000007";
        let batch = finding("batch_amount", "remaining 133", "remaining 1188", 1055);
        let expected = "1,055 points more remain than the entries explain (1,188, expected 133)";
        assert_eq!(english.sentence(&batch), format!("Batch 1 of account {account}: {expected}"));
        assert_eq!(english.next_step(&batch), format!("pointsd repair plan --user {account}"));
        let expected = "剩余积分比分录所示多 1,055 积分（实为 1,188，应为 133）";
        assert_eq!(chinese.sentence(&batch), format!("账户 {account} 的批次 1：{expected}"));
        let one = finding("account_balance", "-4", "-5", -1);
        let expected = "the balance is 1 point lower than the last entry shows (-5, expected -4)";
        assert_eq!(english.sentence(&one), format!("Account {account}: {expected}"));
    }

    #[test]
    fn differences_have_the_names_of_their_sources_and_their_currency() {
        let [english, chinese] = &configs();
        let [english, chinese] = [Words::new(english), Words::new(chinese)];
        let told =
            |words: Words<'_>, expected: &str, found: &str| words.differences(&finding("any", expected, found, 0));
        let sources = ("gift 1200, wxpay -3, and 2 more", "gift 1300, wxpay -4, and 2 more");
        let expected = "Gift 1,300 (expected 1,200, 100 more); WeChat Pay -4 (expected -3, 1 fewer); and 2 more";
        assert_eq!(told(english, sources.0, sources.1).unwrap(), expected);
        let expected = "赠送 1,300（应为 1,200，多 100）；微信支付 -4（应为 -3，少 1）；另有 2 项";
        assert_eq!(told(chinese, sources.0, sources.1).unwrap(), expected);
        let money = told(english, "wxpay/CNY 1143", "wxpay/CNY 1714").unwrap();
        assert_eq!(money, "WeChat Pay 17.14 CNY (expected 11.43 CNY, 5.71 CNY more)");
        let days = (
            "2026-11-21 gift: opening 5 expired 3, 2026-11-22 CNY card: sold 900",
            "2026-11-21 gift: opening 6 expired 1, 2026-11-22 CNY card: sold 0",
        );
        let expected = "21 November 2026, Gift: opening 6 (expected 5, 1 more); expired 1 (expected 3, 2 fewer); \
                        22 November 2026, Card: sold 0.00 CNY (expected 9.00 CNY, 9.00 CNY fewer)";
        assert_eq!(told(english, days.0, days.1).unwrap(), expected);
        assert_eq!(told(english, "no price", "300 CNY").unwrap(), "3.00 CNY (expected none)");
        assert_eq!(told(english, "source card", "source gift").unwrap(), "source Gift (expected source Card)");
        assert_eq!(told(english, "no such batch", "5"), None);
    }

    #[test]
    fn values_are_told_in_the_readers_language() {
        let [english, chinese] = &configs();
        let told = |expected: &str, found: &str, config| Words::new(config).values(&finding("any", expected, found, 0));
        let texts = |expected: &str, found: &str| (Cell::from(expected), Cell::from(found));
        let totals = ("recharged 1200, last_seq 7", "recharged 1300, last_seq 8");
        let issued = texts("issued 1,200; last entry 7", "issued 1,300; last entry 8");
        assert_eq!(told(totals.0, totals.1, english), issued);
        let issued = texts("发放 1,200；最后分录号 7", "发放 1,300；最后分录号 8");
        assert_eq!(told(totals.0, totals.1, chinese), issued);
        let days = ("2026-11-21 gift: opening 5 expired 3, 2026-11-22 owed: settled 9", "2026-11-21 gift: opening 6");
        let told_of_days = texts(
            "2026年11月21日 赠送：期初 5；过期 3；2026年11月22日 欠费积分（应收）：抵扣欠费 9",
            "2026年11月21日 赠送：期初 6",
        );
        assert_eq!(told(days.0, days.1, chinese), told_of_days);
        assert_eq!(told("source card", "source gift", chinese), texts("来源 银行卡", "来源 赠送"));
        assert_eq!(told("-151", "3", english), (Cell::Number(-151), Cell::Number(3)));
        for words in ["no such batch", "remaining 0 to 100", "none, but 1 batches and 3 entries"] {
            assert_eq!(told("5", words, chinese), (Cell::Empty, Cell::Empty), "{words}");
        }
    }

    #[test]
    fn a_rule_of_another_version_is_named() {
        let [english, _] = &configs();
        let told = Words::new(english).sentence(&finding("of_old", "a", "b", 0));
        assert!(told.contains("of_old"), "{told}");
    }
}
