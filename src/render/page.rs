//! Documents as HTML and text, by templates: the built-in ones, or a business's own.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Output, State, UndefinedBehavior, escape_formatter};
use serde::Serialize;

use super::chart::{PICTURE_HEIGHT, PICTURE_WIDTH};
use super::grid::{Grid, is_short, parts};
use super::locale::{Locale, clean};
use super::text::{self, COLUMNS};
use crate::document::{Cell, Chart, Document, Section, Table, Tone};
use crate::numbers::grouped;

const HTML: (&str, &str) = ("report.html.jinja", include_str!("../../templates/report.html.jinja"));
const TEXT: (&str, &str) = ("report.txt.jinja", include_str!("../../templates/report.txt.jinja"));

/// Gmail hides all HTML after 102 kB, and with it the end of the report.
const MOST_BYTES: usize = 100_000;
/// The numbers of rows that a table is cut to, in turn, while the mail is too large.
const FEWER_ROWS: [usize; 5] = [100, 50, 25, 10, 5];
/// The most instructions of a custom template. The built-in one takes about 40 for a cell.
const FUEL: u64 = 5_000_000;
/// The most bytes that it writes: nested loops reach gigabytes with little fuel.
const MOST_OUTPUT: usize = 4 << 20;
/// A longer word that begins as an option of a command may be anything, and would push a page off a phone.
const LONGEST_OPTION: usize = 24;

/// Renders documents as HTML and text: for a mail's body, or as a page.
#[derive(Clone, Debug, Default)]
pub struct Renderer {
    templates: Option<PathBuf>,
    page: bool,
    /// Tables whose attachments have all rows, also those that the document lacks.
    complete: Vec<String>,
}

impl Renderer {
    /// For mails. If a folder is given, its `report.html.jinja` and `report.txt.jinja` replace the built-in templates.
    /// They are read at each rendering. A broken one is logged as a warning and replaced by the built-in one.
    pub fn new(templates: Option<&Path>) -> Renderer {
        Renderer { templates: templates.map(Path::to_owned), ..Renderer::default() }
    }

    /// Says that the attachments have all rows of the tables of these names, also rows that the document lacks.
    #[must_use]
    pub fn with_complete_lists(self, tables: Vec<String>) -> Renderer {
        Renderer { complete: tables, ..self }
    }

    /// For pages on disk or on a terminal. They have no limit of size and no attachments.
    pub fn page(templates: Option<&Path>) -> Renderer {
        Renderer { page: true, ..Renderer::new(templates) }
    }

    /// The document as HTML. `picture` gives the `src` of a chart's picture, such as `cid:arrears-by-age`. Tables of a mail show
    /// fewer rows if Gmail would cut the mail off.
    pub fn html(&self, document: &Document, picture: &dyn Fn(&Chart) -> String) -> String {
        let pictures: Vec<String> = document
            .sections
            .iter()
            .map(|section| if let Section::Chart(chart) = section { picture(chart) } else { String::new() })
            .collect();
        let inlined: usize = pictures.iter().map(String::len).sum();
        let mut own = self.templates.as_deref();
        let mut html = render(HTML, &self.view(document, &pictures, usize::MAX), &mut own);
        for rows in FEWER_ROWS {
            if self.page || html.len().saturating_sub(inlined) <= MOST_BYTES {
                break;
            }
            html = render(HTML, &self.view(document, &pictures, rows), &mut own);
        }
        html
    }

    /// The document as plain text, in lines of at most 78 columns. Charts are left out, because tables have their
    /// numbers.
    pub fn text(&self, document: &Document) -> String {
        let view = self.view(document, &[], usize::MAX);
        render(TEXT, &view, &mut self.templates.as_deref())
    }

    fn view(&self, document: &Document, pictures: &[String], most_rows: usize) -> View {
        View::new(document, pictures, most_rows, self)
    }
}

/// Renders with the template of a folder, or with the built-in one. After a broken template the folder is not tried
/// again, since one warning is enough for a document.
fn render((name, built_in): (&str, &str), view: &View, folder_of_own: &mut Option<&Path>) -> String {
    if let Some(folder) = folder_of_own {
        let path = folder.join(name);
        match own(name, &path, view) {
            Ok(Some(text)) => return text,
            Ok(None) => {}
            Err(reason) => {
                *folder_of_own = None;
                tracing::warn!(
                    "the template {} cannot be used: {reason}; the built-in one is used instead",
                    path.display()
                );
            }
        }
    }
    environment().render_named_str(name, built_in, view).unwrap_or_else(|error| {
        // Tests render every kind of document. In an unforeseen case the reader still gets the main sentences.
        tracing::error!("the built-in template {name} failed: {error:#}");
        let gist = format!("{}: {}", view.title, view.headline);
        gist.replace('&', "&amp;").replace('<', "&lt;")
    })
}

/// Renders with the template of this file; None if it does not exist.
fn own(name: &str, path: &Path, view: &View) -> Result<Option<String>, String> {
    let source = match fs::read_to_string(path) {
        Ok(source) => source,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("it cannot be read: {error}")),
    };
    let mut environment = environment();
    environment.set_fuel(Some(FUEL));
    let explained = |error: minijinja::Error| {
        let line = error.line().map_or(String::new(), |line| format!("line {line}: "));
        let source = std::error::Error::source(&error).map_or(String::new(), |source| format!(" ({source})"));
        let detail = error.detail().map_or(String::new(), |detail| format!(": {detail}"));
        format!("{line}{}{detail}{source}", error.kind())
    };
    let template = environment.template_from_named_str(name, &source).map_err(explained)?;
    let mut output = Bounded(Vec::new());
    template.render_captured_to(view, &mut output).map_err(explained)?;
    let text = String::from_utf8(output.0).map_err(|error| error.to_string())?;
    if text.trim().is_empty() {
        return Err("it writes nothing".to_owned());
    }
    Ok(Some(text))
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    // A misspelt name is an error; by default it would be blank.
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|name| if name == HTML.0 { AutoEscape::Html } else { AutoEscape::None });
    environment.set_formatter(write_escaped);
    environment.add_filter("breakable", |text: &str| breakable(text, 6, 16));
    environment.add_filter("whole_options", |text: &str| breakable(text, usize::MAX, usize::MAX));
    // A short text stays on one line: the room for a table is counted so.
    environment.add_test("short", |text: &str| is_short(text));
    // A UUID becomes two lines.
    environment.add_filter("identifier", |text: &str| breakable(text, 16, 20));
    environment.add_filter("wrap", |text: &str| text::wrap(text, COLUMNS).join("\n"));
    environment.add_filter("heading", |title: &str, sign: char| text::heading(title, sign));
    environment
}

/// Writes a value of a template, escaped where the template is HTML. The built-in way writes a slash as six bytes, and one in
/// 64 characters of an inlined picture is a slash.
pub(crate) fn write_escaped(
    out: &mut Output<'_>,
    state: &State<'_, '_>,
    value: &Value,
) -> Result<(), minijinja::Error> {
    match value.as_str() {
        Some(text) if !value.is_safe() && state.auto_escape() == AutoEscape::Html => {
            let mut html = String::with_capacity(text.len());
            text.chars().for_each(|c| escape(c, &mut html));
            Ok(out.write_str(&html)?)
        }
        _ => escape_formatter(out, state, value),
    }
}

/// A text as HTML that may break in words of more than `most` characters, and after a sign from the `least`th character on.
/// So it does not push a table off a phone. A break is invisible and not copied along. An option of a command, such as `--full`,
/// stays whole.
fn breakable(text: &str, least: usize, most: usize) -> Value {
    let mut html = String::with_capacity(text.len() + text.len() / 4);
    for (nth, word) in text.split(' ').enumerate() {
        if nth > 0 {
            html.push(' ');
        }
        let is_option = word.trim_start_matches('`').starts_with("--") && word.len() <= LONGEST_OPTION;
        if is_option {
            html.push_str("<span style=\"white-space:nowrap\">");
        }
        for (nth, part) in parts(word, least, most).into_iter().enumerate() {
            if nth > 0 {
                html.push_str("<wbr>");
            }
            part.chars().for_each(|c| escape(c, &mut html));
        }
        if is_option {
            html.push_str("</span>");
        }
    }
    Value::from_safe_string(html)
}

/// Escapes a character for an element or a quoted attribute.
fn escape(c: char, html: &mut String) {
    match c {
        '&' => html.push_str("&amp;"),
        '<' => html.push_str("&lt;"),
        '>' => html.push_str("&gt;"),
        '"' => html.push_str("&quot;"),
        '\'' => html.push_str("&#39;"),
        c => html.push(c),
    }
}

struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MOST_OUTPUT {
            return Err(io::Error::other(format!("it writes more than {} bytes", grouped(MOST_OUTPUT as u64))));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The variables of a template, documented in docs/templates.md. All values are text, formatted for the reader.
#[derive(Serialize)]
struct View {
    language: &'static str,
    report: String,
    business: String,
    title: String,
    tone: Tone,
    tone_word: String,
    tone_rule: String,
    headline: String,
    preheader: String,
    facts: Vec<FactView>,
    facts_plain: String,
    sections: Vec<SectionView>,
    footer: Vec<String>,
}

#[derive(Serialize)]
struct FactView {
    label: String,
    value: String,
    number: bool,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum SectionView {
    Text {
        title: String,
        paragraphs: Vec<String>,
        plain: String,
    },
    Table {
        name: String,
        title: String,
        note: String,
        #[serde(flatten)]
        grid: Grid,
        more: String,
        if_empty: String,
        names: usize,
        narrow: bool,
        wide: bool,
        turned: Option<Grid>,
        plain: String,
    },
    Chart {
        name: String,
        title: String,
        description: String,
        picture: String,
        width: u32,
        height: u32,
    },
}

impl View {
    fn new(document: &Document, pictures: &[String], most_rows: usize, renderer: &Renderer) -> View {
        let locale = Locale::of_document(document);
        let facts: Vec<FactView> = (document.facts.iter())
            .map(|fact| FactView {
                label: clean(&fact.label),
                value: locale.cell(&fact.value),
                number: matches!(fact.value, Cell::Number(_) | Cell::Money { .. }),
            })
            .collect();
        let sections = document.sections.iter().enumerate().filter_map(|(place, section)| match section {
            Section::Text { title, paragraphs } => Some(SectionView::Text {
                title: clean(title),
                paragraphs: paragraphs.iter().map(|paragraph| clean(paragraph)).collect(),
                plain: text::paragraphs(paragraphs),
            }),
            Section::Table(table) => table_view(table, most_rows, renderer, locale),
            Section::Chart(chart) => Some(SectionView::Chart {
                name: chart.name.clone(),
                title: clean(&chart.title),
                description: clean(&chart.description),
                picture: pictures.get(place).cloned().unwrap_or_default(),
                width: PICTURE_WIDTH,
                height: PICTURE_HEIGHT,
            }),
        });
        let preheader = facts.iter().map(|fact| locale.named(&fact.label, &fact.value)).collect::<Vec<_>>();
        let named = facts.iter().map(|fact| (fact.label.clone(), fact.value.clone())).collect::<Vec<_>>();
        View {
            language: document.language.tag(),
            report: document.report.clone(),
            business: clean(&document.business),
            title: clean(&document.title),
            tone: document.tone,
            tone_word: locale.tone(document.tone),
            tone_rule: clean(&document.tone_rule),
            headline: clean(&document.headline),
            preheader: preheader.join(" · "),
            facts_plain: text::facts(&named),
            facts,
            sections: sections.collect(),
            footer: locale.footer(document),
        }
    }
}

/// None if the table has no rows and no sentence instead.
fn table_view(table: &Table, most_rows: usize, renderer: &Renderer, locale: Locale) -> Option<SectionView> {
    if table.rows.is_empty() && table.if_empty.is_empty() {
        return None;
    }
    let table = &*table.without_attached_columns();
    let shown = table.rows.len().min(table.rows_in_body).min(most_rows);
    let attached = (table.rows.len() - shown) as u64;
    let hidden = table.rows_in_all.saturating_sub(shown as u64).max(attached);
    let attached = if renderer.complete.contains(&table.name) { hidden } else { attached };
    let file = format!("{}.csv", table.name);
    let more = match renderer.page {
        _ if hidden == 0 || table.rows.is_empty() => String::new(),
        true => locale.more_in_file(hidden, (attached == hidden).then_some(file.as_str())),
        false => locale.more(hidden, attached),
    };
    let grid = Grid::new(table, shown, locale);
    let fits = grid.fits_a_page();
    let turned = grid.turned().filter(|turned| !fits && hidden == 0 && turned.fits_a_page());
    Some(SectionView::Table {
        name: table.name.clone(),
        title: clean(&table.title),
        note: clean(&table.note),
        more,
        if_empty: clean(&table.if_empty),
        names: grid.names(),
        narrow: grid.fits_a_phone(),
        wide: !fits && turned.is_none(),
        turned,
        plain: text::table(&grid, hidden == 0, locale),
        grid,
    })
}
