//! The cross-foot of a workbook: a sheet of formulas that check whether sums tie.

use rust_xlsxwriter::{Formula, Worksheet, XlsxError, column_number_to_name};

use super::locale::{Locale, clean};
use super::sheet::{EXACT, Formats, MOST_ROWS, Sheet, lines_of, printed, set_height};
use crate::document::{Cell, Sum, Table};
use crate::messages::{Messages, args};

/// The checks of a workbook.
pub(super) struct Checks {
    sheet: String,
    lines: Vec<Line>,
    messages: Messages,
}

struct Line {
    text: String,
    /// The sum of the parts and the figure that it must be; none where rows have several currencies.
    figures: Option<[Value; 2]>,
    /// None: the first figure less the second.
    difference: Option<Value>,
}

/// A formula and its value.
struct Value {
    formula: String,
    value: i128,
}

impl Line {
    fn difference(&self) -> i128 {
        match (&self.difference, &self.figures) {
            (Some(difference), _) => difference.value,
            (None, Some([parts, shown])) => parts.value - shown.value,
            (None, None) => 0,
        }
    }
}

impl Checks {
    /// The checks of all tables that have a sheet, on a sheet of this name.
    pub fn new(sheets: &[Sheet<'_>], sheet: String, locale: Locale) -> Checks {
        let messages = locale.messages;
        let placed: Vec<Placed<'_>> = sheets.iter().filter_map(Placed::new).collect();
        let lines = placed.iter().flat_map(|table| {
            let line = |sum: &Sum| match sum {
                Sum::Across { parts, sum } => table.across(parts, *sum, messages),
                Sum::Down { column } => table.down(*column, messages),
                Sum::Same { column, table: name, title } => {
                    let other = placed.iter().find(|other| other.table.name == *name)?;
                    table.same(*column, other, title, messages)
                }
            };
            table.table.sums.iter().filter_map(line).collect::<Vec<_>>()
        });
        Checks { lines: lines.collect(), sheet, messages }
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The name of their sheet.
    pub fn sheet(&self) -> &str {
        &self.sheet
    }

    /// Writes whether all of them tie.
    pub fn write_verdict(
        &self,
        sheet: &mut Worksheet,
        row: u32,
        column: u16,
        formats: &Formats,
    ) -> Result<(), XlsxError> {
        let differences = format!("'{}'!D2:D{}", self.sheet, self.lines.len() + 1);
        let ties = self.lines.iter().all(|line| line.difference() == 0);
        let formula = self.verdict(&format!("SUMPRODUCT(ABS({differences}))"), ties);
        sheet.write_formula_with_format(row, column, formula, &formats.number_text)?;
        Ok(())
    }

    fn verdict(&self, difference: &str, ties: bool) -> Formula {
        let [ok, differs] = ["cross-foot-ok", "cross-foot-differs"].map(|key| self.messages.label(key));
        let formula = format!("=IF({difference}=0,\"{ok}\",\"{differs}\")");
        Formula::new(formula).set_result(if ties { ok } else { differs })
    }

    /// Writes their sheet.
    pub fn write(&self, sheet: &mut Worksheet, formats: &Formats) -> Result<(), XlsxError> {
        sheet.set_name(&self.sheet)?.set_freeze_panes(1, 0)?;
        printed(sheet, &self.messages.label("cross-foot"))?;
        let titles = ["check", "cross-foot-parts", "cross-foot-shown", "cross-foot-difference", "cross-foot-result"];
        for (column, (title, width)) in (0u16..).zip(titles.into_iter().zip([72, 18, 18, 14, 14])) {
            let format = if column == 0 { &formats.header } else { &formats.header_right };
            sheet.write_string_with_format(0, column, self.messages.label(title), format)?;
            sheet.set_column_width(column, width)?;
        }
        for (row, line) in (1u32..).zip(&self.lines) {
            sheet.write_string_with_format(row, 0, &line.text, &formats.wrapped)?;
            set_height(sheet, row, lines_of(&line.text, 72))?;
            let mut formula = |column: u16, formula: &str, value: i128| {
                let formula = Formula::new(format!("={formula}")).set_result(value.to_string());
                sheet.write_formula_with_format(row, column, formula, &formats.number).map(|_| ())
            };
            if let Some(figures) = &line.figures {
                for (column, Value { formula: of, value }) in (1u16..).zip(figures) {
                    formula(column, of, *value)?;
                }
            }
            let own = format!("B{}-C{}", row + 1, row + 1);
            let difference = line.difference.as_ref().map_or(own.as_str(), |difference| &difference.formula);
            formula(3, difference, line.difference())?;
            let verdict = self.verdict(&format!("D{}", row + 1), line.difference() == 0);
            sheet.write_formula_with_format(row, 4, verdict, &formats.number_text)?;
        }
        Ok(())
    }
}

/// A table on its sheet.
struct Placed<'a> {
    table: &'a Table,
    sheet: &'a str,
    rows: &'a [Vec<Cell>],
}

impl<'a> Placed<'a> {
    fn new(sheet: &'a Sheet<'_>) -> Option<Placed<'a>> {
        let rows = sheet.table.rows.get(..sheet.table.rows.len().min(MOST_ROWS))?;
        Some(Placed { table: sheet.table, sheet: sheet.name.as_deref()?, rows })
    }

    /// Cells of a column, by the sheet's numbers of rows. Row 1 is the header.
    fn range(&self, column: usize, from: usize, to: usize) -> String {
        let name = column_number_to_name(u16::try_from(column).unwrap_or(u16::MAX));
        if from == to {
            return format!("'{}'!{name}{from}", self.sheet);
        }
        format!("'{}'!{name}{from}:{name}{to}", self.sheet)
    }

    fn title(&self, column: usize) -> String {
        self.table.columns.get(column).map(|column| clean(&column.title)).unwrap_or_default()
    }

    /// The numbers of a column; None if one of them is a text on the sheet.
    fn numbers(&self, column: usize) -> Option<Vec<i128>> {
        self.rows.iter().map(|row| number(row.get(column)?)).collect()
    }

    /// The figure at the end of a column.
    fn end(&self, column: usize) -> Option<Value> {
        let last = self.rows.len() + 1;
        if let Some(total) = self.table.totals.get(column).copied().flatten() {
            // The total of all rows stands below the sum of a cut sheet.
            let row = if self.table.rows_in_all > self.rows.len() as u64 { last + 2 } else { last + 1 };
            return Some(Value { formula: self.range(column, row, row), value: number(&Cell::Number(total))? });
        }
        Some(Value { formula: self.range(column, last, last), value: *self.numbers(column)?.last()? })
    }

    fn across(&self, parts: &[usize], sum: usize, messages: Messages) -> Option<Line> {
        let last = self.rows.len() + 1;
        let columns: Vec<Vec<i128>> = parts.iter().map(|part| self.numbers(*part)).collect::<Option<_>>()?;
        let sums = self.numbers(sum)?;
        let of_row = |row: usize| columns.iter().filter_map(|column| column.get(row)).sum::<i128>();
        let difference = sums.iter().enumerate().map(|(row, sum)| (of_row(row) - sum).abs()).sum();
        let range = |column: usize| self.range(column, 2, last);
        let ranges = parts.iter().map(|part| range(*part)).collect::<Vec<_>>();
        let is_money = self.rows.iter().flatten().any(|cell| matches!(cell, Cell::Money { .. }));
        let figures = (!is_money).then(|| {
            let parts = Value { formula: format!("SUM({})", ranges.join(",")), value: columns.iter().flatten().sum() };
            [parts, Value { formula: format!("SUM({})", range(sum)), value: sums.iter().sum() }]
        });
        // Fractions of a currency are floats.
        let each = format!("ROUND({}-{},4)", ranges.join("+"), range(sum));
        Some(Line {
            text: messages.text("cross-foot-rows", args![table = clean(&self.table.title), column = self.title(sum)]),
            figures,
            difference: Some(Value { formula: format!("SUMPRODUCT(ABS({each}))"), value: difference }),
        })
    }

    fn down(&self, column: usize, messages: Messages) -> Option<Line> {
        let last = self.rows.len() + 1;
        let numbers = self.numbers(column)?;
        let (shown, parts) = numbers.split_last().filter(|(_, parts)| !parts.is_empty())?;
        let parts = Value { formula: format!("SUM({})", self.range(column, 2, last - 1)), value: parts.iter().sum() };
        Some(Line {
            text: messages
                .text("cross-foot-lines", args![table = clean(&self.table.title), column = self.title(column)]),
            figures: Some([parts, Value { formula: self.range(column, last, last), value: *shown }]),
            difference: None,
        })
    }

    fn same(&self, column: usize, other: &Placed<'_>, title: &str, messages: Messages) -> Option<Line> {
        let of_other = other.table.columns.iter().position(|column| column.title == title)?;
        Some(Line {
            text: messages.text(
                "cross-foot-same",
                args![
                    table = clean(&self.table.title),
                    column = self.title(column),
                    other = clean(&other.table.title),
                    title = other.title(of_other)
                ],
            ),
            figures: Some([self.end(column)?, other.end(of_other)?]),
            difference: None,
        })
    }
}

/// The number of a cell: money in minor units, nothing as zero. None if a sheet has it as a text.
fn number(cell: &Cell) -> Option<i128> {
    let number = match cell {
        Cell::Empty => 0,
        Cell::Number(number) => i128::from(*number),
        Cell::Money { amount, .. } => i128::from(*amount),
        _ => return None,
    };
    (number.unsigned_abs() <= EXACT).then_some(number)
}
