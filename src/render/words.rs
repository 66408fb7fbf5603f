//! Numbers, dates and the small words around a document, in the reader's language.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Offset, TimeZone, Utc};

use crate::document::{Cell, Document, Tone};
use crate::language::Language;
use crate::messages::{Messages, args};
use crate::numbers::grouped;
use crate::time::Zone;

/// Writes numbers and dates for one document.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    pub(super) language: Language,
    pub(super) zone: Zone,
}

impl Words {
    /// For this document. A zone that nobody knows is read as UTC, and then named so.
    pub(super) fn of(document: &Document) -> Words {
        Words { language: document.language, zone: document.time_zone.parse().unwrap_or(Zone::UTC) }
    }

    /// One of two texts.
    pub(super) fn say<'a>(self, english: &'a str, chinese: &'a str) -> &'a str {
        match self.language {
            Language::English => english,
            Language::SimplifiedChinese => chinese,
        }
    }

    /// As the attribute `lang` has it.
    pub(super) fn tag(self) -> &'static str {
        self.say("en", "zh-CN")
    }

    pub(super) fn tone(self, tone: Tone) -> &'static str {
        match tone {
            Tone::Good => self.say("In order", "正常"),
            Tone::Attention => self.say("Please look", "请关注"),
            Tone::Bad => self.say("Something is wrong", "存在问题"),
        }
    }

    pub(super) fn total(self) -> String {
        Messages::new(self.language).label("total")
    }

    /// The line below a table of a mail that lacks `hidden` rows here, `attached` of which are in the attachment.
    pub(super) fn more(self, hidden: u64, attached: u64) -> String {
        let messages = Messages::new(self.language);
        match attached {
            0 => messages.text("more-rows", args![rows = hidden]),
            _ if attached == hidden => messages.text("more-rows-attached", args![rows = hidden]),
            _ => messages.text("more-rows-partly-attached", args![rows = hidden, attached = attached]),
        }
    }

    /// The line below a table of a page that lacks `hidden` rows here. Only a whole table has a file; the note of a table
    /// that is cut says where the rest is.
    pub(super) fn more_in_file(self, hidden: u64, file: Option<&str>) -> String {
        let messages = Messages::new(self.language);
        match file {
            None => messages.text("more-rows", args![rows = hidden]),
            Some(file) => messages.text("more-rows-in-file", args![rows = hidden, file = file]),
        }
    }

    /// The line below a sheet that lacks rows.
    pub(super) fn cut(self, shown: u64, all: u64, summed: bool) -> String {
        let messages = Messages::new(self.language);
        match summed {
            true => messages.text("sheet-cut-summed", args![shown = shown, all = all]),
            false => messages.text("sheet-cut", args![shown = shown, all = all]),
        }
    }

    /// Heads the totals over all rows, including those that a sheet lacks.
    pub(super) fn total_of_all(self, all: u64) -> String {
        Messages::new(self.language).text("total-of-all", args![rows = all])
    }

    pub(super) fn summary(self) -> String {
        Messages::new(self.language).label("summary")
    }

    /// On the clock of the zone; at the very ends of the calendar, which no zone reaches, in UTC.
    pub(super) fn local(self, instant: DateTime<Utc>) -> NaiveDateTime {
        let offset = self.zone.offset_from_utc_datetime(&instant.naive_utc()).fix();
        instant.naive_utc().checked_add_offset(offset).unwrap_or(instant.naive_utc())
    }

    /// `22 November 2026`.
    pub(super) fn day(self, day: NaiveDate) -> String {
        match self.language {
            Language::English => day.format("%-d %B %Y").to_string(),
            Language::SimplifiedChinese => format!("{}年{}月{}日", day.year(), day.month(), day.day()),
        }
    }

    /// `22 November 2026, 04:30`.
    pub(super) fn moment(self, instant: DateTime<Utc>) -> String {
        let local = self.local(instant);
        format!("{}{}{}", self.day(local.date()), self.say(", ", " "), local.format("%H:%M"))
    }

    /// Whose report this is, of which instant, and which run made it.
    pub(super) fn footer(self, document: &Document) -> Vec<String> {
        let zone = self.zone.name();
        let (as_of, slot) = (self.moment(document.as_of), self.moment(document.slot));
        let run = document.run;
        let mut lines = vec![match self.language {
            Language::English => format!("As of {as_of}. All times are those of {zone}."),
            Language::SimplifiedChinese => format!("数据截至 {as_of}。所有时间均为 {zone} 时间。"),
        }];
        let business = clean(&document.business);
        let of = if business.is_empty() { String::new() } else { format!("{business} · ") };
        lines.push(match self.language {
            Language::English => format!("{of}Run {run} for the slot of {slot}, made by pointsd."),
            Language::SimplifiedChinese => format!("{of}由 pointsd 第 {run} 次运行生成，计划时间 {slot}。"),
        });
        lines
    }

    /// How a cell is read by people; dates are in the form that sorts.
    pub(super) fn cell(self, cell: &Cell) -> String {
        match cell {
            Cell::Empty => String::new(),
            Cell::Text(text) => clean(text),
            Cell::Number(number) => grouped(*number),
            Cell::Date(day) => day.format("%Y-%m-%d").to_string(),
            Cell::Instant(instant) => self.local(*instant).format("%Y-%m-%d %H:%M").to_string(),
        }
    }

    /// `9.2M` or `920万`: at most one decimal, cut to the nearest.
    pub(super) fn short(self, number: i128) -> String {
        let units: &[(i128, &str)] = match self.language {
            Language::English => {
                &[(10i128.pow(15), "Q"), (10i128.pow(12), "T"), (10i128.pow(9), "B"), (10i128.pow(6), "M"), (1000, "k")]
            }
            Language::SimplifiedChinese => {
                &[(10i128.pow(16), "亿亿"), (10i128.pow(12), "万亿"), (10i128.pow(8), "亿"), (10i128.pow(4), "万")]
            }
        };
        let size = number.unsigned_abs().cast_signed();
        // From the largest unit on: 999,960 is 1M, not 1000k.
        for (unit, name) in units {
            let tenths = (size + unit / 20) / (unit / 10);
            if tenths >= 10 {
                let sign = if number < 0 { "-" } else { "" };
                let decimal = if tenths % 10 == 0 { String::new() } else { format!(".{}", tenths % 10) };
                return format!("{sign}{}{decimal}{name}", grouped(tenths / 10));
            }
        }
        grouped(number)
    }
}

/// A text from anybody, without what would act on the text around it: line ends become spaces, characters that control
/// a terminal or turn the direction of reading become U+FFFD.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => ' ',
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}
