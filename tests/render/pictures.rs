//! Charts.

use pointsd::document::{Chart, Form};
use pointsd::language::Language::{English, SimplifiedChinese};
use pointsd::render::png;
use resvg::tiny_skia::Pixmap;

use super::samples::{LANGUAGES, arrears, bare, chart, charts, expiry, extreme, reconciliation};

fn drawn(chart: &Chart) -> Pixmap {
    let picture = Pixmap::decode_png(&png(chart, &bare(English)).unwrap()).unwrap();
    assert_eq!((picture.width(), picture.height()), (1200, 600));
    picture
}

fn pixels(picture: &Pixmap, of: (u8, u8, u8)) -> usize {
    picture.pixels().iter().filter(|pixel| (pixel.red(), pixel.green(), pixel.blue()) == of).count()
}

const UP: (u8, u8, u8) = (0x21, 0x66, 0xac);
const DOWN: (u8, u8, u8) = (0xe0, 0x82, 0x14);
const LEVEL: (u8, u8, u8) = (0x3f, 0x4a, 0x5a);

#[test]
fn charts_are_opaque_pictures_and_the_same_each_time() {
    for language in LANGUAGES {
        for document in [reconciliation(language, 3), arrears(language), expiry(language), extreme(language)] {
            for chart in charts(&document) {
                let first = png(chart, &document).unwrap();
                assert_eq!(first, png(chart, &document).unwrap());
                let picture = Pixmap::decode_png(&first).unwrap();
                assert_eq!((picture.width(), picture.height()), (1200, 600));
                assert!(picture.pixels().iter().all(|pixel| pixel.alpha() == 255));
                assert!(first.len() < 40_000, "{} has {} bytes", chart.name, first.len());
            }
        }
    }
}

#[test]
fn what_comes_and_what_goes_have_their_colours() {
    let picture = drawn(&chart(Form::Waterfall, &[("Opening", 100), ("In", 50), ("Out", -50), ("Closing", 100)]));
    let (up, down, level) = (pixels(&picture, UP), pixels(&picture, DOWN), pixels(&picture, LEVEL));
    assert!(up > 10_000 && up == down, "{up} {down}");
    assert!(level > 3 * up, "{level} {up}");
    let below = drawn(&chart(Form::Bars, &[("a", -5), ("b", -10)]));
    assert!(pixels(&below, DOWN) > 10_000 && pixels(&below, UP) == 0);
}

#[test]
fn nothing_one_and_many_bars_are_drawn() {
    let blank = drawn(&chart(Form::Bars, &[]));
    for values in [&[0, 0, 0][..], &[7], &[i64::MAX, i64::MIN, 1], &[i64::MAX; 52], &[-1; 13]] {
        for form in [Form::Bars, Form::Waterfall] {
            let bars: Vec<(&str, i64)> = values.iter().map(|value| ("2026-W47", *value)).collect();
            assert_ne!(drawn(&chart(form, &bars)).data(), blank.data());
        }
    }
    assert!(pixels(&drawn(&chart(Form::Bars, &[("large", i64::MAX), ("small", 1)])), UP) > 20_000);
    let zero = drawn(&chart(Form::Bars, &[("a", 0), ("b", 0)]));
    assert_eq!(pixels(&zero, UP) + pixels(&zero, DOWN), 0);
}

#[test]
fn chinese_has_glyphs_and_what_has_none_is_a_box() {
    // Two characters without a glyph look the same, two with one do not.
    let label = |label: &str| drawn(&chart(Form::Bars, &[(label, 1)]));
    assert_ne!(label("充值").data(), label("消费").data());
    assert_ne!(label("充值").data(), label("𠮷𠮷").data());
    assert_eq!(label("𠮷𠮷").data(), label("𡃁𡃁").data());
    assert_ne!(label("𠮷").data(), label("").data(), "a box is drawn");
    // Every word of ours in Chinese has its glyphs: the axis too.
    let axis = |value| {
        let chart = chart(Form::Bars, &[("x", value)]);
        png(&chart, &bare(SimplifiedChinese)).unwrap()
    };
    assert_ne!(axis(50_000), axis(500_000_000));
}
