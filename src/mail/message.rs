//! A document as a mail: which parts it has, and what its header says.

use lettre::Address;
use lettre::address::Envelope;
use lettre::message::header::{ContentTransferEncoding, ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Attachment, Body, Mailbox, Message, MultiPart, MultiPartBuilder, SinglePart};
use sha2::{Digest, Sha256};
use tracing::error;

use super::outbox::{Claimed, Kept};
use crate::config::Config;
use crate::document::{Chart, Document, Section, Tone};
use crate::language::Language;
use crate::render::{self, Renderer};
use crate::telemetry;
use crate::time::{Zone, time_of_day_for_names};

const XLSX: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
const CSV: &str = "text/csv; charset=utf-8";

/// A subject is cut there, in characters: what is longer, no list of mails shows.
const LONGEST_SUBJECT: usize = 180;

/// Why a document does not become a mail.
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

/// What the mails of a document have in common.
pub(super) struct Rendered {
    /// Local date and time of the slot, as they stand in a file's name.
    stamp: String,
    subject: String,
    text: String,
    html: String,
    /// Content-ID and PNG.
    pictures: Vec<(String, Vec<u8>)>,
    attachments: Vec<File>,
}

struct File {
    name: String,
    kind: &'static str,
    content: Vec<u8>,
    /// What is said where not all rows of its table are in it.
    cut: Option<String>,
}

/// Makes what the mails of a document have in common. That takes its time: charts are drawn, tables written.
pub(super) fn render(number: i64, kept: &Kept, config: &Config) -> Result<Rendered, Unfit> {
    let mut document: Document = serde_json::from_str(&kept.content).map_err(Unfit::Unreadable)?;
    let zone = document.time_zone.parse().unwrap_or(Zone::UTC);
    let local = document.slot.with_timezone(&zone);
    let stem = format!("{}-{}", file_part(&document.report), local.format("%Y-%m-%d"));
    let limit = config.mail.attachments_limit;
    let (attachments, left_out) = within(limit, attachments(&document, &stem)?);
    let mut paragraphs = cut_note(&attachments, kept, document.language);
    if !left_out.is_empty() {
        paragraphs.push(note(&left_out, limit, kept, document.language));
    }
    if !paragraphs.is_empty() {
        document.sections.push(Section::Text { title: String::new(), paragraphs });
    }
    let pictures = pictures(number, &document);
    // A picture that could not be drawn is left out; what it shows stands below it in words.
    let drawn = |chart: &Chart| pictures.iter().any(|(id, _)| *id == content_id(number, chart));
    let undrawn = |section: &Section| matches!(section, Section::Chart(chart) if !drawn(chart));
    for section in document.sections.iter_mut().filter(|section| undrawn(section)) {
        if let Section::Chart(chart) = section {
            let (title, paragraphs) = (chart.title.clone(), vec![chart.description.clone()]);
            *section = Section::Text { title, paragraphs };
        }
    }
    let renderer = Renderer::new(config.reports.templates.as_deref());
    Ok(Rendered {
        stamp: format!("{}-{}", local.format("%Y-%m-%d"), time_of_day_for_names(document.slot, zone)),
        subject: subject(&document),
        text: renderer.text(&document),
        html: renderer.html(&document, &|chart| format!("cid:{}", content_id(number, chart))),
        pictures,
        attachments,
    })
}

/// `[Acme Ltd] Attention: 12 accounts owe 3,400 points`, on one line whatever the headline holds.
fn subject(document: &Document) -> String {
    let tone = match (document.language, document.tone) {
        (Language::English, Tone::Good) => "OK: ",
        (Language::English, Tone::Attention) => "Attention: ",
        (Language::English, Tone::Bad) => "Trouble: ",
        (Language::SimplifiedChinese, Tone::Good) => "正常：",
        (Language::SimplifiedChinese, Tone::Attention) => "请注意：",
        (Language::SimplifiedChinese, Tone::Bad) => "异常：",
    };
    let business = match document.business.as_str() {
        "" => String::new(),
        business => format!("[{business}] "),
    };
    let line = one_line(&format!("{business}{tone}{}", document.headline));
    match line.char_indices().nth(LONGEST_SUBJECT) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

/// Without line ends and other control characters, which would end a header.
fn one_line(text: &str) -> String {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    text.split(breaks).filter(|piece| !piece.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The whole report as a workbook, and each table with rows by itself; one that is cut says so in its name. A report
/// without tables has none.
fn attachments(document: &Document, stem: &str) -> Result<Vec<File>, Unfit> {
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
    let workbook = render::xlsx(document)?;
    let mut files = vec![File { name: format!("{stem}.xlsx"), kind: XLSX, content: workbook, cut: None }];
    for table in tables {
        let (shown, all) = (table.rows.len(), table.rows_in_all);
        let first = if table.is_whole() { String::new() } else { format!("-first-{shown}") };
        let name = format!("{stem}-{}{first}.csv", file_part(&table.name));
        let cut = (!table.is_whole()).then(|| match document.language {
            Language::English => format!("{name} has the first {shown} of {all} rows."),
            Language::SimplifiedChinese => format!("{name} 仅含 {all} 行中的前 {shown} 行。"),
        });
        files.push(File { name, kind: CSV, content: render::csv(table, document)?, cut });
    }
    Ok(files)
}

/// What is said where an attachment is cut: nothing, where none is.
fn cut_note(attached: &[File], kept: &Kept, language: Language) -> Vec<String> {
    let Kept { host, folder, .. } = kept;
    let mut said: Vec<String> = attached.iter().filter_map(|file| file.cut.clone()).collect();
    if !said.is_empty() {
        said.push(match language {
            Language::English => format!(
                "The files of this report are on {host} in the folder {folder}. Where one of them has all rows, the note of \
                 the table names it."
            ),
            Language::SimplifiedChinese => {
                format!("本报告的文件位于主机 {host} 的文件夹 {folder}。如其中有包含全部行的文件，表格说明中会注明。")
            }
        });
    }
    said
}

/// What fits, the first ones first, and what does not.
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

/// What is said where attachments were left out.
fn note(left_out: &[File], limit: u64, kept: &Kept, language: Language) -> String {
    let Kept { host, folder, .. } = kept;
    let limit = limit / 1_000_000;
    let megabytes = |file: &File| {
        let tenths = (file.content.len() as u64).div_ceil(100_000);
        format!("{} ({}.{} MB)", file.name, tenths / 10, tenths % 10)
    };
    let files: Vec<String> = left_out.iter().map(megabytes).collect();
    match language {
        Language::English => format!(
            "Not attached, because all attachments together may have {limit} MB: {}. All files of this report are on {host} in the folder {folder}.",
            files.join(", ")
        ),
        Language::SimplifiedChinese => format!(
            "附件合计上限为 {limit} MB，以下文件未随邮件附上：{}。本报告的全部文件位于主机 {host} 的文件夹 {folder}。",
            files.join("、")
        ),
    }
}

/// Each chart that can be drawn, under its Content-ID.
fn pictures(number: i64, document: &Document) -> Vec<(String, Vec<u8>)> {
    let mut pictures = Vec::new();
    for section in &document.sections {
        let Section::Chart(chart) = section else { continue };
        match render::png(chart, document) {
            Ok(png) => pictures.push((content_id(number, chart), png)),
            Err(error) => {
                let reason = telemetry::chain(&error);
                error!(document = number, chart = chart.name, reason, "a chart cannot be drawn: {reason}");
            }
        }
    }
    pictures
}

/// Of its document alone, because some mail programs mix up the pictures of a thread.
fn content_id(number: i64, chart: &Chart) -> String {
    format!("{}.{number}@pointsd", file_part(&chart.name))
}

/// What may stand in a file's name and in a header alike.
fn file_part(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | '+') { c } else { '_' };
    text.chars().map(plain).collect()
}

/// How the mail's file is called: by date, report and recipient, the same for every attempt.
pub(super) fn file_name(rendered: &Rendered, mail: &Claimed) -> String {
    let mut name = format!("{}-{}-{}", rendered.stamp, file_part(&mail.report), file_part(&mail.recipient));
    if file_part(&mail.recipient) != mail.recipient {
        // Two addresses that differ only in what may not stand here.
        let digest = format!("{:x}", Sha256::digest(&mail.recipient));
        name.push('-');
        name.push_str(digest.get(..8).unwrap_or_default());
    }
    if mail.resend > 0 {
        name.push_str(&format!("-again{}", mail.resend));
    }
    name + ".eml"
}

/// The mail as it leaves, and the address of its recipient. Every attempt says the same, byte for byte, as long as the
/// document is rendered the same: Message-ID and date are the row's, and the boundaries between the parts follow from it.
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
            let part = SinglePart::builder().header(Attached(file.name.clone())).header(kind(file.kind)?);
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
        // RFC 3834: no holiday notice in reply.
        .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()))
        .multipart(content)?;
    Ok((address, message.formatted()))
}

/// With a boundary that follows from the mail's Message-ID: else each attempt would look like another mail.
fn bounded(part: MultiPartBuilder, mail: &Claimed, name: &str) -> MultiPart {
    let digest = format!("{:x}", Sha256::digest(format!("{} {name}", mail.message_id)));
    part.boundary(digest.get(..40).unwrap_or_default()).build()
}

/// Says that a part is a file of this name. lettre would write one of more than some thirty letters in the pieces of
/// RFC 2231, which not every mail program reads; ours are plain, because each is made of `file_part`s.
#[derive(Clone)]
struct Attached(String);

impl Header for Attached {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Content-Disposition")
    }

    fn parse(text: &str) -> Result<Attached, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Attached(text.to_owned()))
    }

    fn display(&self) -> HeaderValue {
        let Attached(name) = self;
        let folded = format!("attachment;\r\n filename=\"{name}\"");
        HeaderValue::dangerous_new_pre_encoded(Self::name(), format!("attachment; filename=\"{name}\""), folded)
    }
}

fn base64(content: &[u8]) -> Result<Body, Unfit> {
    Body::new_with_encoding(content.to_vec(), ContentTransferEncoding::Base64).map_err(|_| Unfit::Part)
}

fn kind(name: &str) -> Result<ContentType, Unfit> {
    ContentType::parse(name).map_err(|_| Unfit::Part)
}
