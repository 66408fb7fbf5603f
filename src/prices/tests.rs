#![cfg(test)]
#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

const BUILT_IN: &str = include_str!("../../config/prices.yaml");
const DESIGN: &str = "
fixed_costs: {script: 5}                                  # points per use
duration_based_costs:
  tts:   {divisor: 10, min_points: 1, estimation: {seconds_per_char: 0.3}}
  video: {multiplier: 2, min_points: 1, estimation: {use_input_seconds: true}}
free_services: [preview]
";

fn list(text: &str) -> PriceList {
    PriceList::from_yaml("prices.yaml", text).unwrap_or_else(|error| panic!("{error}"))
}

/// A price list of one service by time, named `s`.
fn by_time(rule: &str) -> PriceList {
    list(&format!("duration_based_costs: {{s: {{{rule}}}}}"))
}

fn seconds(text: &str) -> Option<Decimal> {
    Some(parse_seconds(text).unwrap())
}

#[test]
fn the_built_in_list_is_the_documented_form() {
    assert_eq!(list(BUILT_IN), list(DESIGN));
}

#[test]
fn costs() {
    let list = list(DESIGN);
    let cases = [
        ("script", None, 5),
        ("script", Some("99"), 5),
        ("preview", None, 0),
        ("tts", Some("0"), 1),
        ("tts", Some("10"), 1),
        ("tts", Some("10.000000000"), 1),
        ("tts", Some("10.0000000000000000000000001"), 2),
        ("tts", Some("20.1"), 3),
        ("video", Some("0"), 1),
        ("video", Some("0.1"), 2),
        ("video", Some("7"), 14),
        ("video", Some("7.000000001"), 16),
        ("video", Some("500000000000"), 1_000_000_000_000),
    ];
    for (service, given, expected) in cases {
        let cost = list.cost(service, given.and_then(seconds));
        assert_eq!(cost, Ok(expected), "{service} {given:?}");
    }
}

#[test]
fn fractional_rates() {
    for (rule, given, expected) in [
        ("divisor: 0.5, min_points: 0", "1.1", 3),
        ("divisor: 0.1, min_points: 0", "0.3", 3),
        ("divisor: 0.3, min_points: 0", "0.9", 3),
        ("divisor: 3, min_points: 0", "1000000000000", 333_333_333_334),
        ("divisor: 0.000000001, min_points: 0", "0.0000000001", 1),
        ("multiplier: 0.1, min_points: 0", "0.5", 1),
        ("multiplier: 0.1, min_points: 0", "10", 1),
        ("multiplier: 0.1, min_points: 0", "11", 2),
        ("multiplier: 1.5, min_points: 4", "2", 4),
        ("multiplier: 1.5, min_points: 4", "2.5", 5),
        ("multiplier: 1e-3, min_points: 0", "1000", 1),
        ("divisor: 10, min_points: 0", "0", 0),
    ] {
        assert_eq!(by_time(rule).cost("s", seconds(given)), Ok(expected), "{rule} {given}");
    }
}

#[test]
fn estimates() {
    let list = list(DESIGN);
    for (service, chars, input, expected) in [
        ("script", None, None, 5),
        ("preview", None, None, 0),
        ("tts", Some(0), None, 1),
        ("tts", Some(33), None, 1),
        ("tts", Some(34), None, 2),
        ("tts", Some(1000), Some("1"), 30),
        ("video", None, Some("12.5"), 26),
    ] {
        let estimate = list.estimate(service, chars, input.and_then(seconds));
        assert_eq!(estimate, Ok(expected), "{service} {chars:?} {input:?}");
    }
    let both = by_time("multiplier: 2, min_points: 1, estimation: {seconds_per_char: 0.3}");
    assert_eq!(both.estimate("s", Some(4), None), Ok(4));
}

#[test]
fn refusals_at_the_call() {
    let list = list(DESIGN);
    let silent = by_time("divisor: 10, min_points: 1");
    let minus = Some(Decimal::NEGATIVE_ONE);
    let cases = [
        (list.cost("tss", None), "the price list has no service \"tss\"; did you mean \"tts\"?"),
        (list.cost("", None), "the price list has no service \"\"; it knows preview, script, tts, video"),
        (
            list.estimate("translation", None, None),
            "the price list has no service \"translation\"; it knows preview, script, tts, video",
        ),
        (list.cost("tts", None), "tts is charged by time: give the seconds that it took"),
        (
            list.cost("tts", minus),
            "\"-1\" is no number of seconds: write a decimal number of 0 or more with at most 28 digits, such as 12.5",
        ),
        (
            list.cost("script", minus),
            "\"-1\" is no number of seconds: write a decimal number of 0 or more with at most 28 digits, such as 12.5",
        ),
        (
            list.estimate("video", None, minus),
            "\"-1\" is no number of seconds: write a decimal number of 0 or more with at most 28 digits, such as 12.5",
        ),
        (list.estimate("tts", None, None), "tts is estimated from its text: give the number of characters"),
        (list.estimate("video", Some(3), None), "video is estimated from its input's length: give the input's seconds"),
        (
            silent.estimate("s", Some(3), minus.map(|minus| -minus)),
            "s has no estimation rule in the price list: add `estimation` with seconds_per_char or use_input_seconds to it",
        ),
        (
            list.cost("video", seconds("500000000000.1")),
            "the price of video would exceed 1,000,000,000,000 points, the most that one entry may hold",
        ),
        (
            list.cost("tts", Some(Decimal::MAX)),
            "the price of tts would exceed 1,000,000,000,000 points, the most that one entry may hold",
        ),
        (
            list.cost("video", Some(Decimal::MAX)),
            "the price of video would exceed 1,000,000,000,000 points, the most that one entry may hold",
        ),
        (
            list.estimate("tts", Some(u64::MAX), None),
            "the price of tts would exceed 1,000,000,000,000 points, the most that one entry may hold",
        ),
    ];
    for (price, expected) in cases {
        assert_eq!(price.unwrap_err().to_string(), expected);
    }
}

#[test]
fn seconds_are_decimal_numbers_of_0_or_more() {
    for text in [
        "NaN",
        "nan",
        "inf",
        "-inf",
        "infinity",
        "-1",
        "-0.001",
        "",
        " ",
        "1,5",
        "12s",
        "1_0",
        "0x1",
        "1e400",
        "0.00000000000000000000000000001",
        "79228162514264337593543950336",
    ] {
        assert!(matches!(parse_seconds(text), Err(PriceError::SecondsInvalid { .. })), "{text}");
    }
    for (text, expected) in [
        ("12.5", "12.5"),
        (" 3 ", "3"),
        ("1.5e-05", "0.000015"),
        ("1.2000000476837158", "1.2000000476837158"),
        ("-0", "0"),
    ] {
        assert_eq!(parse_seconds(text).unwrap(), expected.parse().unwrap(), "{text}");
    }
}

/// A rule by time, named tts, and why it is refused.
const REFUSED_RULES: &[(&str, &str)] = &[
    ("divisor: 0\n    min_points: 1", "3: duration_based_costs.tts.divisor: must be greater than 0; write e.g. 10"),
    ("min_points: 1\n    divisor: -10", "4: duration_based_costs.tts.divisor: must be greater than 0; write e.g. 10"),
    ("min_points: 1\n    divisor: ten", "4: duration_based_costs.tts.divisor: must be a number; write e.g. 10"),
    ("min_points: 1\n    divisor: .nan", "4: duration_based_costs.tts.divisor: must be a number; write e.g. 10"),
    ("min_points: 1\n    divisor: [10]", "4: duration_based_costs.tts.divisor: expected a number, found a list"),
    ("min_points: 1\n    divisor: true", "4: duration_based_costs.tts.divisor: must be a number; write e.g. 10"),
    (
        "min_points: 1\n    divisor: 1000000000001",
        "4: duration_based_costs.tts.divisor: must be at most 1,000,000,000,000; write e.g. 10",
    ),
    (
        "min_points: 1\n    multiplier: 0",
        "4: duration_based_costs.tts.multiplier: must be greater than 0; write e.g. 10",
    ),
    (
        "min_points: 1\n    multiplier: 0.0000000001",
        "4: duration_based_costs.tts.multiplier: must have at most 9 decimals; write e.g. 0.3",
    ),
    (
        "divisor: 1\n    min_points: -1",
        "4: duration_based_costs.tts.min_points: must not be negative; write whole points, e.g. 5",
    ),
    (
        "divisor: 1\n    min_points: 1.5",
        "4: duration_based_costs.tts.min_points: must be a whole number; write whole points, e.g. 5",
    ),
    (
        "divisor: 1\n    min_points: 99999999999999999999",
        "4: duration_based_costs.tts.min_points: must be at most 1,000,000,000,000; write whole points, e.g. 5",
    ),
    ("divisor: 1", "2: duration_based_costs.tts: missing key `min_points`"),
    (
        "min_points: 1",
        "2: duration_based_costs.tts: has neither a divisor nor a multiplier; write e.g. `divisor: 10` (seconds per point) or `multiplier: 2` (points per second)",
    ),
    (
        "{divisor: 1, multiplier: 2, min_points: 1}",
        "2: duration_based_costs.tts: has both a divisor and a multiplier; keep `divisor` (seconds per point) or `multiplier` (points per second)",
    ),
    ("[10, 1]", "2: duration_based_costs.tts: expected a mapping (`key: value`), found a list"),
    (
        "{divisor: 1, min_points: 1, estimation: {seconds_per_char: -0.3}}",
        "3: duration_based_costs.tts.estimation.seconds_per_char: must be greater than 0; write e.g. 10",
    ),
    (
        "{divisor: 1, min_points: 1, estimation: {use_input_seconds: false}}",
        "3: duration_based_costs.tts.estimation: use_input_seconds can only be true; leave `estimation` out for no estimates",
    ),
    (
        "{divisor: 1, min_points: 1, estimation: {use_input_seconds: true, seconds_per_char: 1}}",
        "3: duration_based_costs.tts.estimation: has both seconds_per_char and use_input_seconds; keep one of the two",
    ),
    (
        "{divisor: 1, min_points: 1, estimation: {}}",
        "3: duration_based_costs.tts.estimation: says nothing; write `seconds_per_char: 0.3` or `use_input_seconds: true`, or leave `estimation` out for no estimates",
    ),
    ("{divisor: 1, min_point: 1}", "3: duration_based_costs.tts.min_point: unknown key; did you mean `min_points`?"),
];

/// A price list, and why it is refused.
const REFUSED_LISTS: &[(&str, &str)] = &[
    ("fixed_cost: {a: 1}\n", "1: fixed_cost: unknown key; did you mean `fixed_costs`?"),
    ("fixed_costs: {a: -5}\n", "1: fixed_costs.a: must not be negative; write whole points, e.g. 5"),
    ("fixed_costs: {a: }\n", "1: fixed_costs.a: must be a number; write e.g. 10"),
    ("fixed_costs: {'': 5}\n", "1: fixed_costs.: \"\" is no name for a service; write a name without spaces around it"),
    (
        "free_services: [a, ' b']\n",
        "1: free_services[1]: \" b\" is no name for a service; write a name without spaces around it",
    ),
    (
        "free_services:\n- a\n- a\n",
        "3: free_services[1]: the service \"a\" has a price already, free_services[0] in line 2; keep one of the two",
    ),
    (
        "free_services: [a]\n\nfixed_costs: {a: 1}\n",
        "3: fixed_costs.a: the service \"a\" has a price already, free_services[0] in line 1; keep one of the two",
    ),
    (
        "fixed_costs:\n  a: 1\n  a: 2\n",
        "3: fixed_costs.a: the key is written twice, first in line 2; keep one of the two",
    ),
    (
        "fixed_costs:\nfree_services: []\n",
        "1: the price list names no service; write at least one, e.g. `fixed_costs: {script: 5}`",
    ),
];

#[test]
fn refusals_at_load() {
    let rule = |rule: &str| format!("duration_based_costs:\n  tts:\n    {rule}\n");
    let rules = REFUSED_RULES.iter().map(|(text, expected)| (rule(text), expected));
    let lists = REFUSED_LISTS.iter().map(|(text, expected)| ((*text).to_owned(), expected));
    for (text, expected) in rules.chain(lists) {
        match PriceList::from_yaml("prices.yaml", &text) {
            Ok(list) => panic!("accepted: {list:?}\n{text}"),
            Err(error) => assert_eq!(error.to_string(), format!("prices.yaml:{expected}"), "for:\n{text}"),
        }
    }
}

#[test]
fn services_are_described_in_order() {
    let list = list(DESIGN);
    let shown: Vec<String> = list
        .services()
        .map(|s| format!("{} | {} | {} | {}", s.name, s.kind, s.rule, s.estimation.unwrap_or_default()))
        .collect();
    assert_eq!(
        shown,
        [
            "script | fixed | 5 points per use | ",
            "tts | by time | 1 point per 10 seconds begun, at least 1 | 0.3 seconds per character",
            "video | by time | 2 points per second begun, at least 1 | the input's seconds",
            "preview | free | free of charge | ",
        ]
    );
    assert!(list.is_charged_by_time("tts"));
    assert!(!list.is_charged_by_time("script") && !list.is_charged_by_time("nothing"));
}

fn rate() -> impl Strategy<Value = Decimal> {
    (1_i64..=10_000_000_000, 0_u32..=9).prop_map(|(digits, scale)| Decimal::new(digits, scale))
}

fn duration() -> impl Strategy<Value = Decimal> {
    (0_i64..=1_000_000_000_000, 0_u32..=12).prop_map(|(digits, scale)| Decimal::new(digits, scale))
}

proptest! {
    /// Against the definition of ceil, in whole numbers: `points` is the least n with n * divisor >= seconds.
    #[test]
    fn a_divided_cost_is_the_exact_ceiling(divisor in rate(), seconds in duration()) {
        let list = by_time(&format!("divisor: {divisor}, min_points: 0"));
        let scaled = |number: Decimal| number.mantissa() * 10_i128.pow(12 - number.scale());
        let (seconds_scaled, divisor_scaled) = (scaled(seconds), scaled(divisor));
        match list.cost("s", Some(seconds)) {
            Ok(points) => {
                prop_assert!(i128::from(points) * divisor_scaled >= seconds_scaled);
                prop_assert!((i128::from(points) - 1) * divisor_scaled < seconds_scaled);
            }
            Err(_) => prop_assert!(seconds_scaled > divisor_scaled * i128::from(MAX_POINTS)),
        }
    }

    #[test]
    fn a_multiplied_cost_is_the_exact_ceiling(multiplier in rate(), seconds in duration()) {
        let list = by_time(&format!("multiplier: {multiplier}, min_points: 0"));
        let unit = 10_i128.pow(seconds.scale());
        let whole = seconds.mantissa() / unit + i128::from(seconds.mantissa() % unit != 0);
        let (product, unit) = (whole * multiplier.mantissa(), 10_i128.pow(multiplier.scale()));
        match list.cost("s", Some(seconds)) {
            Ok(points) => {
                prop_assert!(i128::from(points) * unit >= product);
                prop_assert!((i128::from(points) - 1) * unit < product);
            }
            Err(_) => prop_assert!(product > unit * i128::from(MAX_POINTS)),
        }
    }

    /// The work takes at most the seconds that the input stands for: the estimate covers its cost.
    #[test]
    fn an_estimate_is_never_lower_than_the_cost(
        by_divisor: bool, number in rate(), per_char in rate(), chars in 0_u64..1_000_000, min in 0_i64..100,
        shorter in 0_i64..=100,
    ) {
        let key = if by_divisor { "divisor" } else { "multiplier" };
        let text = list(&format!("duration_based_costs: {{s: {{{key}: {number}, min_points: {min}, estimation: {{seconds_per_char: {per_char}}}}}}}"));
        let audio = list(&format!("duration_based_costs: {{s: {{{key}: {number}, min_points: {min}, estimation: {{use_input_seconds: true}}}}}}"));
        let seconds = per_char * Decimal::from(chars);
        let cost = text.cost("s", Some(seconds));
        prop_assert_eq!(&text.estimate("s", Some(chars), None), &cost);
        prop_assert_eq!(&audio.estimate("s", None, Some(seconds)), &cost);
        if let Ok(cost) = cost {
            let less = text.cost("s", Some(seconds * Decimal::new(shorter, 2))).unwrap();
            prop_assert!(less <= cost);
        }
    }

    #[test]
    fn no_number_panics(service in "s|f", low: u32, mid: u32, high: u32, negative: bool, scale in 0_u32..=28, chars: u64) {
        let list = list("fixed_costs: {f: 1}\nduration_based_costs: {s: {multiplier: 1e12, min_points: 0, estimation: {seconds_per_char: 1e12}}}");
        let seconds = Decimal::from_parts(low, mid, high, negative, scale);
        let _ = list.cost(&service, Some(seconds));
        let _ = list.estimate(&service, Some(chars), Some(seconds));
    }
}
