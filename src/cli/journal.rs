//! `export journal`: journal lines for an accounting system.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::path::Path;

use serde_json::{Value, json as object};

use super::output::{self, counted};
use super::period::{self, Month};
use super::statement::write_file;
use super::{Outcome, Program};
use crate::books::{JournalLine, Recorded, journal_lines, load_closed_months, load_span};
use crate::database::Database;
use crate::ledger::Currency;
use crate::messages::{Messages, args};
use crate::numbers::decimal_of;
use crate::plain;
use crate::render::csv_writer;

const COLUMNS: [&str; 8] = ["date", "document", "account", "debit", "credit", "currency", "source", "text"];

/// Writes the journal lines of a month to standard output, or to `file`. `for_spreadsheet`: with a byte order mark, and no text that is
/// taken for a formula.
pub async fn export(
    Month(month): Month,
    file: Option<&Path>,
    for_spreadsheet: bool,
    program: &Program,
) -> anyhow::Result<Outcome> {
    let config = &program.config;
    let (days, closed) = program
        .with_ledger(async |database: &Database| {
            let client = database.connection().await?;
            let span = period::load_month(&client, config.time_zone, month).await?;
            let days = load_span(&client, Some(span.from), span.to).await?;
            Ok((days, load_closed_months(&client).await?.remove(&month)))
        })
        .await?;
    let lines: Vec<JournalLine<'_>> = journal_lines(&days, |source| config.finance.accounts(source)).collect();
    let state = match &closed {
        Some(event) => format!("closed, by {} on {}", event.by, output::local(event.at, config.time_zone)),
        None => "not closed; `pointsd period close` closes it".to_owned(),
    };
    if program.json && file.is_none() {
        let mut out = io::BufWriter::new(io::stdout().lock());
        for line in &lines {
            output::write_json(&mut out, &line_json(line, program))?;
        }
        out.flush()?;
    } else {
        let content = csv(&lines, for_spreadsheet, program)?;
        match file {
            Some(file) => write_file(file, &content)?,
            None => io::stdout().lock().write_all(&content)?,
        }
    }
    let name = period::name(month);
    match file {
        None => output::remark(Some(format!("pointsd: {name} is {state}"))),
        Some(file) => answer_file(file, &lines, (&name, &state, closed.is_some()), program)?,
    }
    Ok(Outcome::Done)
}

/// Tells what was written to `file`: the lines of a month, by its name, what it is in words, and whether it is closed.
fn answer_file(
    file: &Path,
    lines: &[JournalLine<'_>],
    (name, state, closed): (&str, &str, bool),
    program: &Program,
) -> anyhow::Result<()> {
    let documents = lines.iter().map(|line| &line.document).collect::<BTreeSet<_>>().len() as u64;
    let mut totals: BTreeMap<&str, i64> = BTreeMap::new();
    for line in lines {
        let total = totals.entry(line.currency).or_default();
        *total = total.saturating_add(line.debit);
    }
    let totals: BTreeMap<&str, String> =
        totals.into_iter().map(|(currency, total)| (currency, amount(total, currency))).collect();
    let value = object!({
        "period": name, "closed": closed, "documents": documents, "lines": lines.len(), "debit": totals, "credit": totals,
        "file": file,
    });
    program.answer(value, || {
        let sums = totals.iter().map(|(currency, total)| format!("{total} {currency}")).collect::<Vec<_>>();
        format!(
            "{name} ({state}): {} in {}, debit and credit {}, in {}",
            counted(lines.len() as u64, "line", "lines"),
            counted(documents, "document", "documents"),
            if sums.is_empty() { "0".to_owned() } else { sums.join(", ") },
            file.display()
        )
    })
}

/// As RFC 4180 has it.
fn csv(lines: &[JournalLine<'_>], for_spreadsheet: bool, program: &Program) -> anyhow::Result<Vec<u8>> {
    let mut writer = match for_spreadsheet {
        true => csv_writer(Vec::new())?,
        false => csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new()),
    };
    writer.write_record(COLUMNS)?;
    for line in lines {
        let fields = fields(line, program);
        match for_spreadsheet {
            true => writer.write_record(fields.iter().map(|field| plain::cell(field).into_owned()))?,
            false => writer.write_record(&fields)?,
        }
    }
    Ok(writer.into_inner().map_err(csv::IntoInnerError::into_error)?)
}

fn fields(line: &JournalLine<'_>, program: &Program) -> [String; COLUMNS.len()] {
    let side = |minor: i64| if minor == 0 { String::new() } else { amount(minor, line.currency) };
    [
        line.day.to_string(),
        line.document.clone(),
        line.account.to_owned(),
        side(line.debit),
        side(line.credit),
        line.currency.to_owned(),
        line.source.to_owned(),
        text(line, program),
    ]
}

fn line_json(line: &JournalLine<'_>, program: &Program) -> Value {
    object!({
        "date": line.day, "document": line.document, "account": line.account, "debit": amount(line.debit, line.currency),
        "credit": amount(line.credit, line.currency), "currency": line.currency, "source": line.source,
        "text": text(line, program),
    })
}

/// Minor units as a decimal of the currency.
pub(super) fn amount(minor: i64, currency: &str) -> String {
    let digits = Currency::stored(currency).map_or(0, Currency::digits);
    decimal_of(minor, digits)
}

fn text(line: &JournalLine<'_>, program: &Program) -> String {
    let language = program.config.language;
    let key = match line.recorded {
        Recorded::Sold => "journal-sold",
        Recorded::Used => "journal-used",
        Recorded::Expired => "journal-expired",
        Recorded::Returned => "journal-returned",
        Recorded::Corrected => "journal-corrected",
    };
    let source = program.config.source_label(line.source, language);
    Messages::new(language).text(key, args![source = source])
}
