//! What a mail holds, read back.

use mail_parser::MimeHeaders;
use pointsd::document::{Cell, Section, Tone};
use pointsd::language::Language;

use super::post_office::{PostOffice, files, parse};
use super::{Office, delivered, document, smtp};

/// Sends this document to one recipient; returns the mail as bytes.
async fn mail_of(document: &pointsd::document::Document, to: &str, limit: u32) -> Vec<u8> {
    let office =
        Office::new(to, &format!("  mode: directory\n  directory: mails\n  attachments_megabytes: {limit}\n")).await;
    office.report(document).await;
    assert_eq!(office.round(0).await, delivered(1, 0, 0), "{:?}", office.mails().await);
    files(&office.folder.path().join("mails"), "eml").pop().unwrap()
}

/// The lines of the header, unfolded.
fn header(raw: &[u8]) -> Vec<String> {
    let text = String::from_utf8(raw.to_vec()).expect("ASCII");
    let (header, _) = text.split_once("\r\n\r\n").unwrap();
    header.replace("\r\n ", " ").split("\r\n").map(str::to_owned).collect()
}

/// Every line is ASCII, ends in CRLF and is short enough for any server.
fn check_lines(raw: &[u8]) {
    let text = std::str::from_utf8(raw).unwrap();
    assert!(text.is_ascii());
    for line in text.split("\r\n") {
        assert!(line.len() <= 998, "{} bytes: {line}", line.len());
        assert!(!line.contains(['\r', '\n']), "a bare line end: {line:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_has_its_parts_and_its_header() {
    let raw = mail_of(&document(), "\"Bob, of Finance <bob@example.com>\"", 10).await;
    check_lines(&raw);
    let mut names: Vec<String> = header(&raw).iter().map(|line| line.split(':').next().unwrap().to_owned()).collect();
    names.sort();
    let expected = ["Auto-Submitted", "Content-Type", "Date", "From", "MIME-Version", "Message-ID", "Subject", "To"];
    assert_eq!(names, expected);
    let mail = parse(&raw);
    assert_eq!(mail.subject(), Some("[Acme Ltd] Attention: 2 accounts owe 3,000 points"));
    assert_eq!(mail.header_raw("Auto-Submitted").map(str::trim), Some("auto-generated"));
    let from = mail.from().unwrap().first().unwrap();
    assert_eq!((from.name(), from.address()), (Some("Points, Ltd"), Some("points@example.org")));
    let to: Vec<_> = mail.to().unwrap().iter().map(|to| (to.name(), to.address())).collect();
    assert_eq!(to, [(Some("Bob, of Finance"), Some("bob@example.com"))]);
    assert!(mail.date().is_some_and(|date| date.is_valid()));
    // The tree, depth first.
    let kinds: Vec<String> = mail
        .parts
        .iter()
        .map(|part| {
            let kind = part.content_type().unwrap();
            format!("{}/{}", kind.ctype(), kind.subtype().unwrap())
        })
        .collect();
    let expected = [
        "multipart/mixed",
        "multipart/related",
        "multipart/alternative",
        "text/plain",
        "text/html",
        "image/png",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "text/csv",
    ];
    assert_eq!(kinds, expected);
    let html = mail.body_html(0).unwrap();
    let picture = mail.parts.iter().find(|part| part.content_id().is_some()).unwrap();
    assert!(html.contains(&format!("cid:{}", picture.content_id().unwrap())), "{html}");
    assert!(picture.contents().starts_with(b"\x89PNG"));
    assert!(mail.body_text(0).unwrap().contains("2 accounts owe 3,000 points"));
    let attached: Vec<_> =
        mail.attachments().filter_map(|part| Some((part.attachment_name()?, part.contents()))).collect();
    let names: Vec<_> = attached.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["arrears-2026-11-22.xlsx", "arrears-2026-11-22-accounts.csv"]);
    assert!(attached[0].1.starts_with(b"PK"));
    // The name is whole, because not every mail program reads a name in pieces.
    assert!(String::from_utf8_lossy(&raw).contains("\r\n filename=\"arrears-2026-11-22-accounts.csv\"\r\n"));
    let csv = String::from_utf8_lossy(attached[1].1);
    assert!(csv.contains("00001111-0000-4000-8000-000000000001") && csv.contains("2000"), "{csv}");
}

/// A report without tables has no attachments.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_without_tables_has_no_attachments() {
    let mut document = document();
    document.sections.retain(|section| matches!(section, Section::Text { .. }));
    document.business = String::new();
    let raw = mail_of(&document, "bob@example.com", 10).await;
    let mail = parse(&raw);
    assert_eq!(mail.attachments().count(), 0);
    assert_eq!(mail.subject(), Some("Attention: 2 accounts owe 3,000 points"));
    assert_eq!(mail.root_part().content_type().unwrap().subtype(), Some("related"));
}

/// Text in a report is untrusted: it cannot end a header or begin one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_of_a_report_stay_out_of_the_header() {
    let mut document = document();
    let evil = "gift\r\nBcc: everybody@example.com\r\n\r\n<script>\u{2028}\u{85}.\r\n.\r\nMAIL FROM:<x@example.com>";
    document.headline = format!("{evil} {}", "very long ".repeat(300));
    document.business = evil.to_owned();
    for section in &mut document.sections {
        if let Section::Table(table) = section {
            table.name = "../..\"\r\nX-Evil: yes".to_owned();
            table.rows[0][0] = Cell::Text(evil.to_owned());
        }
        if let Section::Chart(chart) = section {
            chart.name = "a>\r\nX-Evil: yes".to_owned();
        }
    }
    // By SMTP, because there a line with only a dot would end the mail.
    let server = PostOffice::new(&[]);
    let office = Office::new("bob@example.com", &smtp(server.port)).await;
    office.report(&document).await;
    assert_eq!(office.round(0).await, delivered(1, 0, 0));
    let raw = server.raw();
    assert_eq!(raw.len(), 1);
    check_lines(&raw[0]);
    let names: Vec<String> = header(&raw[0]).iter().map(|line| line.split(':').next().unwrap().to_owned()).collect();
    assert!(!names.iter().any(|name| name == "Bcc" || name == "X-Evil"), "{names:?}");
    let mail = parse(&raw[0]);
    assert_eq!(mail.header_raw("X-RcptTo").unwrap().trim(), "bob@example.com");
    assert!(mail.bcc().is_none());
    let subject = mail.subject().unwrap();
    assert!(subject.starts_with("[gift Bcc: everybody@example.com <script>"), "{subject}");
    assert!(subject.chars().count() <= 181 && subject.ends_with('…'), "{subject}");
    let of_parts: Vec<_> = mail.parts.iter().flat_map(|part| &part.headers).map(|header| header.name()).collect();
    assert!(of_parts.len() > 20 && !of_parts.contains(&"X-Evil"), "{of_parts:?}");
    let names: Vec<_> = mail.attachments().filter_map(|part| part.attachment_name()).collect();
    assert_eq!(names, ["arrears-2026-11-22.xlsx", "arrears-2026-11-22-.._..___X-Evil__yes.csv"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chinese_report_arrives_in_chinese() {
    let mut document = document();
    document.language = Language::SimplifiedChinese;
    document.tone = Tone::Bad;
    document.business = "甲乙丙科技有限公司".to_owned();
    document.title = "欠费".to_owned();
    document.headline =
        "共有 2 个账户欠 3,000 积分，其中最久的一笔已经欠了三十一天，请财务部门尽快核对并联系客户".to_owned();
    document.sections.insert(0, Section::Text { title: "说明".to_owned(), paragraphs: vec!["积分".repeat(2_000)] });
    let raw = mail_of(&document, "\"财务部 <cai@example.com>\"", 10).await;
    check_lines(&raw);
    let mail = parse(&raw);
    let expected = format!("[甲乙丙科技有限公司] 【需关注】{}", document.headline);
    assert_eq!(mail.subject(), Some(expected.as_str()));
    assert_eq!(mail.to().unwrap().first().unwrap().name(), Some("财务部"));
    let header = String::from_utf8_lossy(&raw);
    let name = "\r\n filename=\"arrears-2026-11-22.xlsx\";\r\n filename*=UTF-8''%E6%AC%A0%E8%B4%B9%E6%8A%A5%E5%91%8A-2026-11-22.xlsx\r\n";
    assert!(header.contains(name), "{header}");
    let text = mail.body_text(0).unwrap();
    let unwrapped: String = text.split_whitespace().collect();
    assert!(unwrapped.contains(&"积分".repeat(2_000)), "{text}");
    // The badge has the words of the subject.
    assert!(unwrapped.contains("[需关注]"), "{text}");
    assert!(mail.body_html(0).unwrap().contains(&document.headline));
}

/// An attachment that is too large is left out and named, with its size and its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_attachments_are_left_out_and_named() {
    let mut document = document();
    for section in &mut document.sections {
        if let Section::Table(table) = section {
            let mut random = fastrand::Rng::with_seed(1);
            let text =
                |random: &mut fastrand::Rng| std::iter::repeat_with(|| random.alphanumeric()).take(1_200_000).collect();
            table.rows[0][0] = Cell::Text(text(&mut random));
            // A small attachment stays.
            let mut small = table.clone();
            small.name = "small".to_owned();
            small.rows.truncate(1);
            small.rows_in_all = 1;
            small.rows[0][0] = Cell::Text("small".to_owned());
            let large = std::mem::replace(section, Section::Table(small));
            document.sections.push(large);
            break;
        }
    }
    let raw = mail_of(&document, "bob@example.com", 1).await;
    let mail = parse(&raw);
    let names: Vec<_> = mail.attachments().filter_map(|part| part.attachment_name()).collect();
    assert!(
        names.contains(&"arrears-2026-11-22-small.csv") && !names.contains(&"arrears-2026-11-22-accounts.csv"),
        "{names:?}"
    );
    for body in [mail.body_text(0).unwrap(), mail.body_html(0).unwrap()] {
        let body: String = body.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            body.contains("arrears-2026-11-22-accounts.csv (1.3 MB)")
                || body.contains("arrears-2026-11-22-accounts.csv (1.2 MB)"),
            "{body}"
        );
        assert!(body.contains("books.example.com") && body.contains("/var/lib/pointsd/reports/x"), "{body}");
    }
    let raw = mail_of(&document, "bob@example.com", 10).await;
    assert!(!parse(&raw).body_text(0).unwrap().contains("books.example.com"));
}

/// If a document holds a part of a table only, the file's name and the mail say so. The mail also says where the rest is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_cut_says_so() {
    let mut document = document();
    for section in &mut document.sections {
        if let Section::Table(table) = section {
            table.rows_in_all = 12_345;
            table.rows = table.rows.iter().cycle().take(1_200).cloned().collect();
        }
    }
    for (language, says) in [
        (Language::English, "arrears-2026-11-22-accounts-first-1200.csv has the first 1,200 of 12,345 rows."),
        (Language::SimplifiedChinese, "欠费报告-2026-11-22-accounts-前1200行.csv 仅含 12,345 行中的前 1,200 行。"),
    ] {
        document.language = language;
        let raw = mail_of(&document, "bob@example.com", 10).await;
        let mail = parse(&raw);
        let names: Vec<_> = mail.attachments().filter_map(|part| part.attachment_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        for body in [mail.body_text(0).unwrap(), mail.body_html(0).unwrap()] {
            // Regardless of line breaks.
            let joined = |text: &str| text.split_whitespace().collect::<String>();
            let body = joined(&body);
            for part in [says, "books.example.com", "/var/lib/pointsd/reports/x"] {
                assert!(body.contains(&joined(part)), "{part}: {body}");
            }
        }
    }
}

/// The complete list of a cut table comes compressed, if it fits and the report's folder is on this machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_table_comes_whole_and_compressed() {
    let mut document = document();
    for section in &mut document.sections {
        if let Section::Table(table) = section {
            (table.rows_in_all, table.whole_file) = (12_345, "all.csv".to_owned());
        }
    }
    let mut random = fastrand::Rng::with_seed(1);
    let large: String = std::iter::repeat_with(|| random.alphanumeric()).take(2_000_000).collect();
    let http = "http: {public_url: 'https://points.example.com/books/'}\n";
    for (content, comes) in [("User,Owes\n1,2\n", true), (large.as_str(), false)] {
        let mail = format!("  mode: directory\n  directory: mails\n  attachments_megabytes: 1\n{http}");
        let office = Office::new("bob@example.com", &mail).await;
        let folder = office.config.state_dir.join("reports/2026-11-22/arrears-044500");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("all.csv"), content).unwrap();
        let number = office.keep(&document).await;
        let here = "UPDATE pointsd.documents SET host = $1, folder = $2";
        let place = folder.to_str().unwrap();
        office.client.execute(here, &[&pointsd::scheduler::host_name(), &place]).await.unwrap();
        office.write_down(number, &document).await;
        assert_eq!(office.round(0).await, delivered(1, 0, 0), "{:?}", office.mails().await);
        let raw = files(&office.folder.path().join("mails"), "eml").pop().unwrap();
        let mail = parse(&raw);
        let whole = mail.attachments().find(|part| part.attachment_name() == Some("arrears-2026-11-22-accounts.zip"));
        let body: String = mail.body_text(0).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(body.contains(&format!("https://points.example.com/books/reports/{number}")), "{body}");
        assert_eq!(whole.is_some(), comes);
        assert_eq!(
            body.contains("arrears-2026-11-22-accounts.zip has all 12,345 rows of “accounts”."),
            comes,
            "{body}"
        );
        let first = mail.attachments().any(|part| part.attachment_name().is_some_and(|name| name.contains("first-2")));
        assert_eq!(first, !comes, "beside the complete list, its first rows say nothing more");
        assert_eq!(body.contains("and 12,343 more rows in the attachment"), comes, "{body}");
        assert_eq!(body.split_whitespace().collect::<String>().contains(place), !comes, "{body}");
        if let Some(whole) = whole {
            let mut zip = zip::ZipArchive::new(std::io::Cursor::new(whole.contents())).unwrap();
            let mut read = String::new();
            std::io::Read::read_to_string(&mut zip.by_index(0).unwrap(), &mut read).unwrap();
            assert_eq!((zip.len(), read.as_str()), (1, content));
        }
    }
}
