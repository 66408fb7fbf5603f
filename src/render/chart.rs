//! Charts as PNG, because mail programs show no SVG. A chart is drawn as SVG and painted by resvg with a font of our own, so
//! that it is the same on every machine.

use std::fmt::Write;
use std::sync::{Arc, LazyLock};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};
use unicode_width::UnicodeWidthStr;

use super::Error;
use super::locale::{Locale, clean};
use super::text::wrap;
use crate::document::{Chart, Document, Form};
use crate::numbers::grouped;

/// The width of a chart on a page, in CSS pixels. The picture has twice as many each way, for sharp displays.
pub const PICTURE_WIDTH: u32 = 600;
/// The height of a chart on a page, in CSS pixels.
pub const PICTURE_HEIGHT: u32 = 300;

static FONT: &[u8] = include_bytes!("../../assets/fonts/NotoSansSC-Subset.ttf");
/// Loaded with the first chart, so that an idle daemon does not hold it in memory.
static FONTS: LazyLock<Arc<fontdb::Database>> = LazyLock::new(|| {
    let mut fonts = fontdb::Database::new();
    fonts.load_font_source(fontdb::Source::Binary(Arc::new(FONT)));
    Arc::new(fonts)
});

/// A chart as a PNG, 1200 by 600 pixels; the same for the same chart.
///
/// # Errors
/// If the chart cannot be drawn; no content of a chart should cause this.
pub fn png(chart: &Chart, document: &Document) -> Result<Vec<u8>, Error> {
    let failed = |reason: String| Error::Chart { name: chart.name.clone(), reason };
    let options = Options { font_family: FAMILY.to_owned(), fontdb: FONTS.clone(), ..Options::default() };
    let tree = Tree::from_str(&svg(chart, Locale::of_document(document)), &options)
        .map_err(|error| failed(error.to_string()))?;
    let size = tree.size().to_int_size();
    let mut picture = Pixmap::new(size.width(), size.height()).ok_or_else(|| failed("no size".to_owned()))?;
    resvg::render(&tree, Transform::identity(), &mut picture.as_mut());
    encoded(&picture).map_err(|error| failed(error.to_string()))
}

/// Encodes without an alpha channel, because nothing is transparent, and without filters, which do not help areas of one
/// colour. So the file is less than a third of what resvg's own encoder writes.
fn encoded(picture: &Pixmap) -> Result<Vec<u8>, png::EncodingError> {
    let mut colours = Vec::with_capacity(picture.data().len());
    for pixel in picture.data().chunks_exact(4) {
        if let [red, green, blue, _] = pixel {
            colours.extend_from_slice(&[*red, *green, *blue]);
        }
    }
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, picture.width(), picture.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Default);
    encoder.set_filter(png::FilterType::NoFilter);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&colours)?;
    writer.finish()?;
    Ok(file)
}

const FAMILY: &str = "Noto Sans SC";

// Lengths are in tenths of a CSS pixel, so that whole numbers suffice.
const WIDTH: i128 = PICTURE_WIDTH as i128 * 10;
const HEIGHT: i128 = PICTURE_HEIGHT as i128 * 10;
/// Readable on a phone, which shows the chart at half its size.
const TEXT: i128 = 140;
/// The most bars that lie below each other, each with its whole label. More bars are a scale and stand beside each other.
const MOST_LYING: usize = 12;
/// The sizes of labels, in turn until they fit. At the smallest they are cut or left out.
const LABELS: [i128; 4] = [165, 140, 120, SMALLEST_LABELS];
const SMALLEST_LABELS: i128 = 100;
/// The room for labels below bars that stand: three lines of the largest.
const LABELS_BELOW: i128 = 3 * 135 * 12 / 10;
const WIDEST_BAR: i128 = 720;
/// The least length of a bar that is not zero.
const SHORTEST_BAR: i128 = 40;

// Blue and orange differ for every kind of colour blindness, and in grey, where orange is lighter.
const LEVEL: &str = "#3f4a5a";
const UP: &str = "#2166ac";
const DOWN: &str = "#e08214";
const INK: &str = "#333333";
const GRID: &str = "#e4e4e4";
const AXIS: &str = "#808080";

/// A bar as it is drawn: from one value to another.
struct Shape {
    from: i128,
    to: i128,
    colour: &'static str,
    /// The number at its end: in full, and short.
    value: [String; 2],
}

fn svg(chart: &Chart, locale: Locale) -> String {
    let shapes = shapes(chart, locale);
    let lowest = shapes.iter().map(|bar| bar.from.min(bar.to)).min().unwrap_or(0).min(0);
    let highest = shapes.iter().map(|bar| bar.from.max(bar.to)).max().unwrap_or(0).max(0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"{FAMILY}\" shape-rendering=\"crispEdges\"><rect width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         fill=\"#ffffff\"/>",
        PICTURE_WIDTH * 2,
        PICTURE_HEIGHT * 2
    );
    if shapes.len() <= MOST_LYING {
        lying(&mut out, chart, &shapes, (lowest, highest));
    } else {
        standing(&mut out, chart, &shapes, (lowest, highest), locale);
    }
    out.push_str("</svg>");
    out
}

/// Bars below each other, from left to right, with their labels before them and their numbers behind them.
fn lying(out: &mut String, chart: &Chart, shapes: &[Shape], (lowest, highest): (i128, i128)) {
    let count = i128::try_from(shapes.len()).unwrap_or(i128::MAX).max(1);
    let row = ((HEIGHT - 200) / count).min(600);
    let top = (HEIGHT - row * count) / 2;
    let labels = Labels::whole(chart, 2300, row * 9 / 10).unwrap_or_else(|| Labels::cut(chart, 2300, row * 9 / 10));
    let values: Vec<&String> = {
        let of = |form: usize| shapes.iter().filter_map(|shape| shape.value.get(form)).collect::<Vec<_>>();
        let full = of(0);
        if full.iter().all(|value| width(value, TEXT) <= 1500) { full } else { of(1) }
    };
    let left = labels.width() + 200;
    let right = WIDTH - 200 - values.iter().map(|value| width(value, TEXT)).max().unwrap_or(0);
    let x = |value: i128| left + (value - lowest) * (right - left) / (highest - lowest).max(1);
    let centre = |place: usize| top + row * place as i128 + row / 2;
    let thickness = (row * 6 / 10).min(300);
    line(out, (x(0), top), (x(0), top + row * count), AXIS);
    for (place, shape) in shapes.iter().enumerate() {
        let (low, high) = (x(shape.from.min(shape.to)), x(shape.from.max(shape.to)));
        let length = if shape.from == shape.to { 0 } else { (high - low).max(SHORTEST_BAR) };
        // On the side of its start that it belongs to, except at the edge.
        let low = if shape.to < shape.from { (high - length).max(left) } else { low };
        if length > 0 {
            bar(out, (low, centre(place) - thickness / 2), (length, thickness), shape.colour);
        }
        if chart.form == Form::Waterfall && place + 1 < shapes.len() {
            let end = x(shape.to);
            line(out, (end, centre(place) + thickness / 2), (end, centre(place + 1) - thickness / 2), AXIS);
        }
        let value = values.get(place).map_or("", |value| value.as_str());
        text(out, ((low + length).max(high) + 60, centre(place) + TEXT / 3), TEXT, "start", value);
    }
    for (place, lines) in labels.lines.iter().enumerate() {
        let height = labels.size * 12 / 10;
        let first = centre(place) + labels.size / 3 - height * (lines.len() as i128 - 1) / 2;
        for (line, words) in lines.iter().enumerate() {
            text(out, (left - 100, first + height * line as i128), labels.size, "end", words);
        }
    }
}

/// Bars beside each other, from the bottom to the top, with an axis.
fn standing(out: &mut String, chart: &Chart, shapes: &[Shape], (lowest, highest): (i128, i128), locale: Locale) {
    let ticks = ticks(lowest, highest);
    let (bottom_value, top_value) = match (ticks.first(), ticks.last()) {
        (Some(first), Some(last)) if first < last => (*first, *last),
        _ => (0, 1),
    };
    let tick_width = ticks.iter().map(|tick| width(&locale.short(*tick), TEXT)).max().unwrap_or(0);
    let (left, right) = (tick_width + 160, WIDTH - 40);
    let count = i128::try_from(shapes.len()).unwrap_or(i128::MAX).max(1);
    let slot = (right - left) / count;
    let labels = Labels::whole(chart, slot - 20, LABELS_BELOW).unwrap_or_else(|| Labels::some(chart, slot));
    let top = 260;
    // Numbers of bars that go down stand below them, above the labels.
    let below = if lowest < 0 { 200 } else { 40 };
    let bottom = HEIGHT - labels.height() - below - 110;
    let y = |value: i128| top + (top_value - value) * (bottom - top) / (top_value - bottom_value);
    let centre = |place: usize| left + (right - left) * (2 * place as i128 + 1) / (2 * count);
    for tick in &ticks {
        line(out, (left - 40, y(*tick)), (right, y(*tick)), if *tick == 0 { AXIS } else { GRID });
        text(out, (left - 80, y(*tick) + 50), TEXT, "end", &minus(locale.short(*tick)));
    }
    let thickness = (slot * 7 / 10).clamp(10, WIDEST_BAR);
    for (place, (shape, next)) in shapes.iter().zip(shapes.iter().skip(1).map(Some).chain([None])).enumerate() {
        let (x, high, low) = (centre(place) - thickness / 2, y(shape.from.max(shape.to)), y(shape.from.min(shape.to)));
        if shape.from != shape.to {
            // On the correct side of its start.
            let height = (low - high).max(SHORTEST_BAR);
            let high = if shape.to > shape.from { low - height } else { high };
            bar(out, (x, high), (thickness, height), shape.colour);
        }
        if let (Form::Waterfall, Some(_)) = (chart.form, next) {
            // From the end of the bar. A bar of zero is not drawn, so its line starts where the bar would begin.
            let start = if shape.from == shape.to { x } else { x + thickness };
            line(out, (start, y(shape.to)), (centre(place + 1) - thickness / 2, y(shape.to)), AXIS);
        }
    }
    // The full numbers if all of them fit, else the short ones, else none: the axis has numbers, too.
    let form = (0..2).find(|form| {
        let of = |shape: &Shape| shape.value.get(*form).map_or(0, |value| width(value, TEXT));
        shapes.iter().all(|shape| of(shape) + 40 <= slot)
    });
    for (place, shape) in shapes.iter().enumerate() {
        let Some(value) = form.and_then(|form| shape.value.get(form)) else { continue };
        let under = shape.to < 0 && shape.from <= 0 && shape.to < shape.from;
        let at = if under { y(shape.to) + 150 } else { y(shape.from.max(shape.to)) - 50 };
        text(out, (centre(place), at), TEXT, "middle", value);
    }
    for (place, lines) in labels.lines.iter().enumerate() {
        for (line, words) in lines.iter().enumerate() {
            let at = bottom + below + labels.size * (line as i128 + 1) * 12 / 10;
            text(out, (centre(place), at), labels.size, "middle", words);
        }
    }
}

fn shapes(chart: &Chart, locale: Locale) -> Vec<Shape> {
    let last = chart.bars.len().saturating_sub(1);
    let mut reached = 0i128;
    let mut shapes = Vec::with_capacity(chart.bars.len());
    for (place, bar) in chart.bars.iter().enumerate() {
        let value = i128::from(bar.value);
        let step = chart.form == Form::Waterfall && place > 0 && place < last;
        let from = if step { reached } else { 0 };
        reached = from + value;
        let colour = match (chart.form, step) {
            (Form::Waterfall, false) => LEVEL,
            _ if value < 0 => DOWN,
            _ => UP,
        };
        let signed = |text: String| if step && value > 0 { format!("+{text}") } else { minus(text) };
        let value = [signed(grouped(value)), signed(locale.short(value))];
        shapes.push(Shape { from, to: reached, colour, value });
    }
    shapes
}

/// Replaces the hyphen by a minus, which is as wide as a plus.
fn minus(text: String) -> String {
    text.replacen('-', "−", 1)
}

/// The values on the axis: at most six multiples of 1, 2 or 5 times a power of ten, around all bars.
fn ticks(lowest: i128, highest: i128) -> Vec<i128> {
    let mut power = 1;
    let step = loop {
        let fitting = [1, 2, 5].map(|factor| factor * power).into_iter().find(|step| {
            // Each end may need one more value.
            highest.div_euclid(*step) - lowest.div_euclid(*step) <= 4
        });
        match fitting {
            Some(step) => break step,
            None => power *= 10,
        }
    };
    let first = lowest.div_euclid(step);
    let last = -(-highest).div_euclid(step);
    (first..=last).map(|multiple| multiple * step).collect()
}

/// The labels of the bars.
struct Labels {
    /// The lines of each label; empty if the label is left out.
    lines: Vec<Vec<String>>,
    size: i128,
}

impl Labels {
    /// All labels whole, as large as they fit into this room; None if they do not.
    fn whole(chart: &Chart, wide: i128, high: i128) -> Option<Labels> {
        let labels: Vec<String> = chart.bars.iter().map(|bar| clean(&bar.label)).collect();
        LABELS.into_iter().find_map(|size| {
            let columns = columns(wide, size);
            let lines: Vec<Vec<String>> = labels.iter().map(|label| wrap(label, columns)).collect();
            let whole = |line: &String| line.width() <= columns;
            let labels = Labels { lines, size };
            (labels.height() <= high && labels.lines.iter().flatten().all(whole)).then_some(labels)
        })
    }

    /// As many labels as fit beside each other: those of a scale.
    fn some(chart: &Chart, slot: i128) -> Labels {
        let size = SMALLEST_LABELS;
        let labels: Vec<String> = chart.bars.iter().map(|bar| clean(&bar.label)).collect();
        let widest = labels.iter().map(|label| width(label, size)).max().unwrap_or(0);
        let stride = usize::try_from((widest + 100) / slot.max(1) + 1).unwrap_or(usize::MAX);
        let lines = labels.into_iter().enumerate();
        let lines = lines.map(|(place, label)| if place.is_multiple_of(stride) { vec![label] } else { vec![] });
        Labels { lines: lines.collect(), size }
    }

    /// Labels that are cut to this room.
    fn cut(chart: &Chart, wide: i128, high: i128) -> Labels {
        let size = SMALLEST_LABELS;
        let columns = columns(wide, size);
        let most = usize::try_from(high / (size * 12 / 10)).unwrap_or(1).max(1);
        let cut = |label: String| {
            let mut lines = wrap(&label, columns);
            let more = lines.len() > most;
            lines.truncate(most);
            let last = lines.len().saturating_sub(1);
            let lines = lines.into_iter().enumerate();
            lines.map(|(place, line)| shortened(&line, columns, more && place == last)).collect()
        };
        Labels { lines: chart.bars.iter().map(|bar| cut(clean(&bar.label))).collect(), size }
    }

    fn height(&self) -> i128 {
        let most = self.lines.iter().map(Vec::len).max().unwrap_or(0);
        self.size * most as i128 * 12 / 10
    }

    fn width(&self) -> i128 {
        self.lines.iter().flatten().map(|line| width(line, self.size)).max().unwrap_or(0)
    }
}

/// Cuts a text to so many columns, with an ellipsis if something is missing.
fn shortened(text: &str, columns: usize, more: bool) -> String {
    if !more && text.width() <= columns {
        return text.to_owned();
    }
    let mut short = String::new();
    for c in text.chars() {
        if short.width() + UnicodeWidthStr::width(c.encode_utf8(&mut [0; 4]) as &str) + 1 > columns {
            break;
        }
        short.push(c);
    }
    short + "…"
}

/// The width of a text at this size. A digit of the font takes 0.56 of it, a letter about the same, a Chinese character all.
fn width(text: &str, size: i128) -> i128 {
    text.width() as i128 * size * 56 / 100
}

fn columns(width: i128, size: i128) -> usize {
    usize::try_from(width * 100 / (size * 56)).unwrap_or(0).max(1)
}

fn bar(out: &mut String, (x, y): (i128, i128), (width, height): (i128, i128), colour: &str) {
    let _ = write!(out, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{colour}\"/>");
}

fn line(out: &mut String, from: (i128, i128), to: (i128, i128), colour: &str) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ =
        write!(out, "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" stroke=\"{colour}\" stroke-width=\"10\"/>");
}

fn text(out: &mut String, (x, y): (i128, i128), size: i128, anchor: &str, words: &str) {
    let _ = write!(
        out,
        "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" text-anchor=\"{anchor}\" fill=\"{INK}\">{}</text>",
        words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Bar;
    use crate::language::Language;
    use crate::messages::Messages;
    use crate::time::Zone;

    #[test]
    fn labels_are_whole_and_a_small_bar_is_visible() {
        let labels =
            ["opening", "issued", "refunded", "used", "voided", "expired", "restored", "corrections", "closing"];
        for language in [Language::English, Language::SimplifiedChinese] {
            let messages = Messages::new(language);
            let values = [18_204_311, 15_183_410, 6_632, -7_165_488, -1, -5_446_166, 1, 0, 20_782_699];
            let bars = labels.iter().zip(values).map(|(label, value)| Bar { label: messages.label(label), value });
            let (name, title, description) = (String::new(), String::new(), String::new());
            let chart = Chart { name, title, description, form: Form::Waterfall, bars: bars.collect() };
            let svg = svg(&chart, Locale { messages, zone: Zone::UTC });
            for label in labels {
                assert!(svg.contains(&format!(">{}</text>", messages.label(label))), "{label}: {svg}");
            }
            // One for each value but zero, beside the background.
            let bars: Vec<&str> = svg.split("<rect x").skip(1).collect();
            assert_eq!(bars.len(), 8);
            assert_eq!(bars.iter().filter(|bar| bar.contains(" width=\"40\" ")).count(), 3, "{bars:?}");
        }
    }
}
