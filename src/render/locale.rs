//! Numbers, dates and the small sentences around a document, in the reader's language and time zone.

use chrono::{DateTime, NaiveDateTime, Offset, TimeZone, Utc};

use crate::document::{Cell, Document, Tone};
use crate::language::Language;
use crate::messages::{Messages, args};
use crate::numbers::{grouped, grouped_decimal};
use crate::plain;
use crate::time::Zone;

/// The language and the time zone of a document.
#[derive(Clone, Copy, Debug)]
pub(super) struct Locale {
    pub(super) messages: Messages,
    pub(super) zone: Zone,
}

impl Locale {
    /// The locale of this document. An unknown time zone is read as UTC, and shown as UTC.
    pub(super) fn of_document(document: &Document) -> Locale {
        let zone = document.time_zone.parse().unwrap_or(Zone::UTC);
        Locale { messages: Messages::new(document.language), zone }
    }

    /// The badge: the words that a mail's subject begins with. Empty for none.
    pub(super) fn tone(self, tone: Tone) -> String {
        if tone == Tone::None {
            return String::new();
        }
        self.messages.label(&format!("tone-{}", tone.name()))
    }

    /// `Batches: 3`
    pub(super) fn named(self, name: &str, value: &str) -> String {
        self.messages.text("named-value", args![name = name, value = value])
    }

    /// The line below a table of a mail that lacks `hidden` rows here, `attached` of which are in the attachment.
    pub(super) fn more(self, hidden: u64, attached: u64) -> String {
        let messages = self.messages;
        match attached {
            0 => messages.text("more-rows", args![rows = hidden]),
            _ if attached == hidden => messages.text("more-rows-attached", args![rows = hidden]),
            _ => messages.text("more-rows-partly-attached", args![rows = hidden, attached = attached]),
        }
    }

    /// The line below a table of a page that lacks `hidden` rows here. Only a whole table has a file; the note of a cut table
    /// says where the rest is.
    pub(super) fn more_in_file(self, hidden: u64, file: Option<&str>) -> String {
        let messages = self.messages;
        match file {
            None => messages.text("more-rows", args![rows = hidden]),
            Some(file) => messages.text("more-rows-in-file", args![rows = hidden, file = file]),
        }
    }

    /// The line below a sheet that lacks rows.
    pub(super) fn cut(self, shown: u64, all: u64, summed: bool) -> String {
        let messages = self.messages;
        match summed {
            true => messages.text("sheet-cut-summed", args![shown = shown, all = all]),
            false => messages.text("sheet-cut", args![shown = shown, all = all]),
        }
    }

    /// Heads the totals over all rows, including those that a sheet lacks.
    pub(super) fn total_of_all(self, all: u64) -> String {
        self.messages.text("total-of-all", args![rows = all])
    }

    /// The local time of the zone; UTC at the very ends of the calendar, which no zone reaches.
    pub(super) fn local(self, instant: DateTime<Utc>) -> NaiveDateTime {
        let offset = self.zone.offset_from_utc_datetime(&instant.naive_utc()).fix();
        instant.naive_utc().checked_add_offset(offset).unwrap_or(instant.naive_utc())
    }

    /// The instants of the data and of the slot, the time zone, and the run that made the document, if a run did.
    pub(super) fn footer(self, document: &Document) -> Vec<String> {
        let [as_of, slot] = [document.as_of, document.slot].map(|instant| self.messages.moment(self.local(instant)));
        let made_by = self.messages.text("footer-made-by", args![run = document.run.to_string(), slot = slot]);
        let parts = [Some(clean(&document.business)), (document.run > 0).then_some(made_by)];
        let parts: Vec<String> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
        let as_of = self.messages.text("footer-as-of", args![as_of = as_of, zone = self.zone.name()]);
        [as_of, parts.join(" · ")].into_iter().filter(|line| !line.is_empty()).collect()
    }

    /// A cell for people; dates are written so that they sort.
    pub(super) fn cell(self, cell: &Cell) -> String {
        match cell {
            Cell::Empty => String::new(),
            Cell::Text(text) => clean(text),
            Cell::Number(number) => grouped(*number),
            Cell::Money { amount, digits } => grouped_decimal(*amount, *digits),
            Cell::Share { part, whole } => percent(*part, *whole),
            Cell::Date(day) => day.format("%Y-%m-%d").to_string(),
            Cell::Instant(instant) => self.local(*instant).format("%Y-%m-%d %H:%M").to_string(),
        }
    }

    /// `9.2M` or `920万`: rounded to one decimal at most.
    pub(super) fn short(self, number: i128) -> String {
        let units: &[(i128, &str)] = match self.messages.language() {
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

/// A share to one decimal, rounded half up: `12.5%`.
pub(super) fn percent(part: i64, whole: i64) -> String {
    let (part, whole) = (i128::from(part), i128::from(whole));
    let Some(tenths) = (part * 2000 + whole).checked_div_euclid(whole * 2) else { return String::new() };
    let sign = if tenths < 0 { "-" } else { "" };
    format!("{sign}{}.{}%", grouped(tenths.abs() / 10), tenths.abs() % 10)
}

/// A text from outside, made harmless.
pub(super) fn clean(text: &str) -> String {
    plain::line(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::percent;

    #[test]
    fn shares_are_rounded_to_one_decimal() {
        let shares = [(1, 3), (2, 3), (1, 1), (0, 7), (1, 0), (1, 2000), (-1, 8)];
        let expected = ["33.3%", "66.7%", "100.0%", "0.0%", "", "0.1%", "-12.5%"];
        assert_eq!(shares.map(|(part, whole)| percent(part, whole)), expected);
    }
}
