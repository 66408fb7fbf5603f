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
/// The sizes of the labels below the bars, in turn until they fit. At the smallest they are cut or left out.
const LABELS: [i128; 3] = [135, 120, SMALLEST_LABELS];
const SMALLEST_LABELS: i128 = 100;
const LINES: usize = 3;
const WIDEST_BAR: i128 = 720;

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
    let ticks = ticks(lowest, highest);
    let (bottom_value, top_value) = match (ticks.first(), ticks.last()) {
        (Some(first), Some(last)) if first < last => (*first, *last),
        _ => (0, 1),
    };

    let tick_width = ticks.iter().map(|tick| width(&locale.short(*tick), TEXT)).max().unwrap_or(0);
    let (left, right) = (tick_width + 160, WIDTH - 40);
    let count = i128::try_from(shapes.len()).unwrap_or(i128::MAX).max(1);
    let slot = (right - left) / count;
    let labels = Labels::new(chart, slot);
    let top = 260;
    // Numbers of bars that go down stand below them, above the labels.
    let below = if lowest < 0 { 200 } else { 40 };
    let bottom = HEIGHT - labels.height() - below - 110;
    let y = |value: i128| top + (top_value - value) * (bottom - top) / (top_value - bottom_value);
    let centre = |place: usize| left + (right - left) * (2 * place as i128 + 1) / (2 * count);

    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"{FAMILY}\" shape-rendering=\"crispEdges\"><rect width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         fill=\"#ffffff\"/>",
        PICTURE_WIDTH * 2,
        PICTURE_HEIGHT * 2
    );
    for tick in &ticks {
        line(&mut out, (left - 40, y(*tick)), (right, y(*tick)), if *tick == 0 { AXIS } else { GRID });
        text(&mut out, (left - 80, y(*tick) + 50), TEXT, "end", &minus(locale.short(*tick)));
    }
    let thickness = (slot * 7 / 10).clamp(10, WIDEST_BAR);
    for (place, (shape, next)) in shapes.iter().zip(shapes.iter().skip(1).map(Some).chain([None])).enumerate() {
        let (x, high, low) = (centre(place) - thickness / 2, y(shape.from.max(shape.to)), y(shape.from.min(shape.to)));
        if shape.from != shape.to {
            // Even a very small number gets a visible bar, on the correct side of its start.
            let height = (low - high).max(15);
            let high = if shape.to > shape.from { low - height } else { high };
            let colour = shape.colour;
            let _ = write!(
                out,
                "<rect x=\"{x}\" y=\"{high}\" width=\"{thickness}\" height=\"{height}\" fill=\"{colour}\"/>"
            );
        }
        if let (Form::Waterfall, Some(_)) = (chart.form, next) {
            // From the end of the bar. A bar of zero is not drawn, so its line starts where the bar would begin.
            let start = if shape.from == shape.to { x } else { x + thickness };
            line(&mut out, (start, y(shape.to)), (centre(place + 1) - thickness / 2, y(shape.to)), AXIS);
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
        text(&mut out, (centre(place), at), TEXT, "middle", value);
    }
    for (place, lines) in labels.lines.iter().enumerate() {
        for (line, words) in lines.iter().enumerate() {
            let at = bottom + below + labels.size * (line as i128 + 1) * 12 / 10;
            text(&mut out, (centre(place), at), labels.size, "middle", words);
        }
    }
    out.push_str("</svg>");
    out
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

/// The labels below the bars.
struct Labels {
    /// The lines of each label; empty if the label is left out.
    lines: Vec<Vec<String>>,
    size: i128,
}

impl Labels {
    fn new(chart: &Chart, slot: i128) -> Labels {
        let labels: Vec<String> = chart.bars.iter().map(|bar| clean(&bar.label)).collect();
        for size in LABELS {
            let columns = columns(slot - 20, size);
            let lines: Vec<Vec<String>> = labels.iter().map(|label| wrap(label, columns)).collect();
            let whole = |line: &String| line.width() <= columns;
            if lines.iter().all(|lines| lines.len() <= LINES && lines.iter().all(whole)) {
                return Labels { lines, size };
            }
        }
        // Many bars form a scale, so labels may be left out. With few bars each label counts, so labels are cut.
        let size = SMALLEST_LABELS;
        if labels.len() > 12 {
            let widest = labels.iter().map(|label| width(label, size)).max().unwrap_or(0);
            let stride = usize::try_from((widest + 100) / slot.max(1) + 1).unwrap_or(usize::MAX);
            let lines = labels.into_iter().enumerate();
            let lines = lines.map(|(place, label)| if place.is_multiple_of(stride) { vec![label] } else { vec![] });
            return Labels { lines: lines.collect(), size };
        }
        let columns = columns(slot - 40, size);
        let cut = |label: &String| {
            let mut lines = wrap(label, columns);
            let more = lines.len() > LINES;
            lines.truncate(LINES);
            let last = lines.len().saturating_sub(1);
            let lines = lines.into_iter().enumerate();
            lines.map(|(place, line)| shortened(&line, columns, more && place == last)).collect()
        };
        Labels { lines: labels.iter().map(cut).collect(), size }
    }

    fn height(&self) -> i128 {
        let most = self.lines.iter().map(Vec::len).max().unwrap_or(0);
        self.size * most as i128 * 12 / 10
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
