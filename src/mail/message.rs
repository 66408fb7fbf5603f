//! Composes a mail from a document: its parts and its header.

use chrono::{DateTime, Utc};
use lettre::Address;
use lettre::address::Envelope;
use lettre::message::header::{ContentTransferEncoding, ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Attachment, Body, Mailbox, Message, MultiPart, MultiPartBuilder, SinglePart};
use sha2::{Digest, Sha256};
use tracing::error;
use uuid::Uuid;

use super::outbox::{Claimed, StoredDocument};
use super::whole;
use crate::config::Config;
use crate::document::{Chart, Document, Section};
use crate::errors;
use crate::messages::{Messages, args};
use crate::render::{self, Renderer};
use crate::time::{Zone, time_of_day_for_names};

const XLSX: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
const ZIP: &str = "application/zip";
const CSV: &str = "text/csv; charset=utf-8";

/// The longest subject, in characters. Mail programs do not show more in their lists.
const LONGEST_SUBJECT: usize = 180;

/// Why a mail cannot be made from a document.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    #[error("its document was deleted")]
    Gone,
    #[error("its document cannot be read: was it made by another version of pointsd?")]
    Unreadable(#[source] serde_json::Error),
    #[error("its attachments cannot be made")]
    Attachment(#[from] render::Error),
    #[error("the recipient {0:?} is no mail address")]
    Recipient(String),
    #[error("the mail cannot be composed")]
    Compose(#[from] lettre::error::Error),
    #[error("a part of the mail cannot be written")]
    Part,
}

/// The parts that all mails of a document share.
pub(super) struct Rendered {
    /// Local date and time of the slot, for the names of files.
    stamp: String,
    subject: String,
    text: String,
    html: String,
    /// The Content-ID and the PNG of each chart.
    pictures: Vec<(String, Vec<u8>)>,
    attachments: Vec<File>,
}

struct File {
    /// The name in the reader's language.
    name: String,
    /// The name in ASCII, for mail programs that do not read RFC 5987.
    plain_name: String,
    kind: &'static str,
    content: Vec<u8>,
    /// The table of a file that has its first rows only.
    cut: Option<Cut>,
    /// The table of a file that has the rows that the document lacks, too.
    whole: Option<Cut>,
}

/// A table of which a document holds the first rows only.
struct Cut {
    table: String,
    label: String,
    shown: usize,
    all: u64,
}

/// Renders the parts that all mails of a document share. This is slow, because it draws charts and writes tables.
pub(super) fn render(number: i64, stored: &StoredDocument, config: &Config) -> Result<Rendered, Unfit> {
    let mut document: Document = serde_json::from_str(&stored.content).map_err(Unfit::Unreadable)?;
    let zone = document.time_zone.parse().unwrap_or(Zone::UTC);
    let day_of = |instant: DateTime<Utc>| instant.with_timezone(&zone).format("%Y-%m-%d").to_string();
    let limit = config.mail.attachments_limit;
    let messages = Messages::new(document.language);
    let dated = document.period.clone().unwrap_or_else(|| day_of(document.as_of));
    let (mut attachments, mut left_out) = within(limit, attachments(&document, &dated, stored, config)?);
    let whole: Vec<String> =
        attachments.iter().filter_map(|file| file.whole.as_ref().map(|table| table.table.clone())).collect();
    // Beside the complete list, its first rows say nothing more.
    let is_needed = |file: &File| file.cut.as_ref().is_none_or(|cut| !whole.contains(&cut.table));
    attachments.retain(is_needed);
    left_out.retain(is_needed);
    let mut paragraphs = cut_note(&attachments, stored, messages);
    if !left_out.is_empty() {
        paragraphs.push(note(&left_out, limit, stored, messages));
    }
    if let Some(address) = &config.http.public_url {
        paragraphs.push(messages.text("report-link", args![url = format!("{address}/reports/{number}")]));
    }
    if !paragraphs.is_empty() {
        document.sections.push(Section::Text { title: String::new(), paragraphs });
    }
    let pictures = pictures(number, &document);
    // A chart that could not be drawn is replaced by its description.
    let drawn = |chart: &Chart| pictures.iter().any(|(id, _)| *id == content_id(number, chart));
    let undrawn = |section: &Section| matches!(section, Section::Chart(chart) if !drawn(chart));
    for section in document.sections.iter_mut().filter(|section| undrawn(section)) {
        if let Section::Chart(chart) = section {
            let (title, paragraphs) = (chart.title.clone(), vec![chart.description.clone()]);
            *section = Section::Text { title, paragraphs };
        }
    }
    let renderer = Renderer::new(config.reports.templates.as_deref()).with_complete_lists(whole);
    Ok(Rendered {
        stamp: format!("{}-{}", day_of(document.slot), time_of_day_for_names(document.slot, zone)),
        subject: subject(&document),
        text: renderer.text(&document),
        html: renderer.html(&document, &|chart| format!("cid:{}", content_id(number, chart))),
        pictures,
        attachments,
    })
}

/// The subject, such as `[Acme Ltd] Attention: 3,400 points in arrears (12 accounts)`. It is always a single line.
fn subject(document: &Document) -> String {
    let messages = Messages::new(document.language);
    let arguments = args![headline = document.headline.as_str(), report = document.report.as_str()];
    let headline = messages.text(&format!("subject-{}", document.tone.name()), arguments);
    let business = match document.business.as_str() {
        "" => String::new(),
        business => format!("[{business}] "),
    };
    let line = one_line(&format!("{business}{headline}"));
    match line.char_indices().nth(LONGEST_SUBJECT) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

/// Replaces line ends and other control characters by spaces, because they would end a header.
fn one_line(text: &str) -> String {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    text.split(breaks).filter(|piece| !piece.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Makes the attachments: the whole report as a workbook, and each table with rows as CSV. The name of a cut table says so, and
/// its complete list comes compressed. A report without such tables has no attachments.
fn attachments(document: &Document, dated: &str, stored: &StoredDocument, config: &Config) -> Result<Vec<File>, Unfit> {
    let tables: Vec<_> = document
        .sections
        .iter()
        .filter_map(|section| match section {
            Section::Table(table) if !table.rows.is_empty() => Some(table),
            _ => None,
        })
        .collect();
    if tables.is_empty() {
        return Ok(Vec::new());
    }
    let messages = Messages::new(document.language);
    // The title has the date in words, which does not sort.
    let title = messages.find(&format!("{}-title", document.report), &[]).unwrap_or_else(|| document.title.clone());
    let stem = format!("{}-{dated}", readable_part(&title));
    let plain_stem = format!("{}-{dated}", file_part(&document.report));
    let workbook = render::xlsx(document)?;
    let (name, plain_name) = (format!("{stem}.xlsx"), format!("{plain_stem}.xlsx"));
    let mut files = vec![File { name, plain_name, kind: XLSX, content: workbook, cut: None, whole: None }];
    for table in tables {
        let (shown, all) = (table.rows.len(), table.rows_in_all);
        // The digits alone: a name has no place for the commas between them.
        let first = match table.is_whole() {
            true => String::new(),
            false => messages.text("file-first-rows", args![rows = shown.to_string()]),
        };
        let plain_first = if table.is_whole() { String::new() } else { format!("-first-{shown}") };
        let stem = format!("{stem}-{}", readable_part(table.label()));
        let plain_stem = format!("{plain_stem}-{}", file_part(&table.name));
        let cut = || Cut { table: table.name.clone(), label: table.label().to_owned(), shown, all };
        let list = if table.is_whole() { "" } else { &table.whole_file };
        if let Some(content) = whole::compressed(list, stored, config, config.mail.attachments_limit) {
            let (name, plain_name) = (format!("{stem}.zip"), format!("{plain_stem}.zip"));
            files.push(File { name, plain_name, kind: ZIP, content, cut: None, whole: Some(cut()) });
        }
        let name = format!("{stem}{}.csv", readable_part(&first));
        let plain_name = format!("{plain_stem}{plain_first}.csv");
        let cut = (!table.is_whole()).then(cut);
        files.push(File { name, plain_name, kind: CSV, content: render::csv(table, document)?, cut, whole: None });
    }
    Ok(files)
}

/// Names the complete lists, and the attachments that are cut with the place of all rows; empty if there are none.
fn cut_note(attached: &[File], stored: &StoredDocument, messages: Messages) -> Vec<String> {
    let StoredDocument { host, folder, .. } = stored;
    let name = |file: &File| file.name.clone();
    let whole = |file: &File| {
        let Cut { label, all, .. } = file.whole.as_ref()?;
        Some(messages.text("attachment-whole", args![file = name(file), all = *all, table = label]))
    };
    let cut = |file: &File| {
        let Cut { shown, all, .. } = file.cut.as_ref()?;
        Some(messages.text("attachment-cut", args![file = name(file), shown = *shown, all = *all]))
    };
    let mut note: Vec<String> = attached.iter().filter_map(whole).collect();
    let lacking: Vec<String> = attached.iter().filter_map(cut).collect();
    if !lacking.is_empty() {
        note.extend(lacking);
        note.push(messages.text("report-files", args![host = host, folder = folder]));
    }
    note
}

/// Splits files into those that fit into the limit, taken in order, and those that do not.
fn within(limit: u64, files: Vec<File>) -> (Vec<File>, Vec<File>) {
    let mut left = limit;
    files.into_iter().partition(|file| {
        let size = file.content.len() as u64;
        let fits = size <= left;
        if fits {
            left -= size;
        }
        fits
    })
}

/// Names the attachments that were left out, and says where the report's files are.
fn note(left_out: &[File], limit: u64, stored: &StoredDocument, messages: Messages) -> String {
    let StoredDocument { host, folder, .. } = stored;
    let megabytes = |file: &File| {
        let tenths = (file.content.len() as u64).div_ceil(100_000);
        format!("{} ({}.{} MB)", file.name, tenths / 10, tenths % 10)
    };
    let files = left_out.iter().map(megabytes).collect::<Vec<_>>().join(&messages.label("list-separator"));
    messages.text("not-attached", args![limit = limit / 1_000_000, files = files, host = host, folder = folder])
}

/// Draws the charts, each with its Content-ID. A chart that fails is logged and left out.
fn pictures(number: i64, document: &Document) -> Vec<(String, Vec<u8>)> {
    let mut pictures = Vec::new();
    for section in &document.sections {
        let Section::Chart(chart) = section else { continue };
        match render::png(chart, document) {
            Ok(png) => pictures.push((content_id(number, chart), png)),
            Err(error) => {
                let reason = errors::chain(&error);
                error!(document = number, chart = chart.name, reason, "a chart cannot be drawn: {reason}");
            }
        }
    }
    pictures
}

/// The Content-ID of a chart. It has the document's number, because some mail programs mix up the pictures of a thread.
fn content_id(number: i64, chart: &Chart) -> String {
    format!("{}.{number}@pointsd", file_part(&chart.name))
}

/// A title as a part of a file's name: letters of any script, digits and `-`.
fn readable_part(text: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    text.to_lowercase().chars().map(plain).collect()
}

/// A text as a part of a file's name that is valid in a header, too: ASCII only.
fn file_part(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | '+') { c } else { '_' };
    text.chars().map(plain).collect()
}

/// The name of the mail's file: date, report and recipient. Every attempt has the same name.
pub(super) fn file_name(rendered: &Rendered, mail: &Claimed) -> String {
    let mut name = format!("{}-{}-{}", rendered.stamp, file_part(&mail.report), file_part(&mail.recipient));
    if file_part(&mail.recipient) != mail.recipient {
        // Two addresses may differ only in characters that were replaced, so a digest tells them apart.
        let digest = format!("{:x}", Sha256::digest(&mail.recipient));
        name.push('-');
        name.push_str(digest.get(..8).unwrap_or_default());
    }
    if mail.resend > 0 {
        name.push_str(&format!("-again{}", mail.resend));
    }
    name + ".eml"
}

/// Composes the mail; returns it with the address of its recipient.
///
/// Every attempt gives the same bytes if the document is rendered the same. Message-ID and date come from the row, and the
/// boundaries between the parts from the Message-ID.
pub(super) fn compose(rendered: &Rendered, mail: &Claimed, from: &Mailbox) -> Result<(Address, Vec<u8>), Unfit> {
    let address: Address = mail.recipient.parse().map_err(|_| Unfit::Recipient(mail.recipient.clone()))?;
    let name = one_line(&mail.name);
    let to = Mailbox::new((!name.is_empty()).then_some(name), address.clone());
    let alternative = bounded(MultiPart::alternative(), mail, "alternative")
        .singlepart(SinglePart::plain(rendered.text.clone()))
        .singlepart(SinglePart::html(rendered.html.clone()));
    let mut related = bounded(MultiPart::related(), mail, "related").multipart(alternative);
    for (id, png) in &rendered.pictures {
        related = related.singlepart(Attachment::new_inline(id.clone()).body(base64(png)?, kind("image/png")?));
    }
    let content = if rendered.attachments.is_empty() {
        related
    } else {
        let mut mixed = bounded(MultiPart::mixed(), mail, "mixed").multipart(related);
        for file in &rendered.attachments {
            let attached = Attached { name: file.name.clone(), plain_name: file.plain_name.clone() };
            let part = SinglePart::builder().header(attached).header(kind(file.kind)?);
            mixed = mixed.singlepart(part.body(base64(&file.content)?));
        }
        mixed
    };
    let message = Message::builder()
        .envelope(Envelope::new(Some(from.email.clone()), vec![address.clone()])?)
        .date(mail.written.into())
        .from(from.clone())
        .to(to)
        .subject(rendered.subject.clone())
        .message_id(Some(mail.message_id.clone()))
        // RFC 3834: prevents holiday notices.
        .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()))
        .multipart(content)?;
    Ok((address, message.formatted()))
}

/// Sets a boundary made from the Message-ID. A random one would make each attempt look like another mail.
fn bounded(part: MultiPartBuilder, mail: &Claimed, name: &str) -> MultiPart {
    let digest = format!("{:x}", Sha256::digest(format!("{} {name}", mail.message_id)));
    part.boundary(digest.get(..40).unwrap_or_default()).build()
}

/// The Content-Disposition of an attachment: its plain name, then the readable name by RFC 5987 if it differs.
///
/// lettre's own header splits names of more than about thirty letters, and not every mail program reads the pieces.
#[derive(Clone)]
struct Attached {
    name: String,
    plain_name: String,
}

impl Header for Attached {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Content-Disposition")
    }

    fn parse(text: &str) -> Result<Attached, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Attached { name: text.to_owned(), plain_name: file_part(text) })
    }

    fn display(&self) -> HeaderValue {
        let Attached { name, plain_name } = self;
        let readable =
            if name == plain_name { String::new() } else { format!(";\r\n filename*=UTF-8''{}", encoded(name)) };
        let folded = format!("attachment;\r\n filename=\"{plain_name}\"{readable}");
        HeaderValue::dangerous_new_pre_encoded(Self::name(), folded.replace("\r\n", ""), folded)
    }
}

/// Percent-encodes a name, except ASCII letters, digits, `-`, `_` and `.`.
fn encoded(name: &str) -> String {
    let byte = |byte: u8| match byte {
        b'-' | b'_' | b'.' => char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(byte).collect()
}

fn base64(content: &[u8]) -> Result<Body, Unfit> {
    Body::new_with_encoding(content.to_vec(), ContentTransferEncoding::Base64).map_err(|_| Unfit::Part)
}

fn kind(name: &str) -> Result<ContentType, Unfit> {
    ContentType::parse(name).map_err(|_| Unfit::Part)
}

/// Makes the Message-ID of a mail. It is made once, when the mail is written to the outbox, and every attempt uses it.
///
/// Its unique part is random. Two ledgers of one business may send the same report of the same slot to the same recipient,
/// and a server drops a mail whose Message-ID it knows.
pub(super) fn new_message_id(report: &str, slot: DateTime<Utc>, resend: i32, domain: &str) -> String {
    let again = if resend > 0 { format!(".again{resend}") } else { String::new() };
    format!("<{report}.{}.{}{again}@{domain}>", slot.format("%Y%m%dT%H%M%SZ"), Uuid::new_v4().simple())
}
