//! Each mail is written down once and leaves once.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use mail_parser::MimeHeaders;
use pointsd::mail;
use serde_json::Value;
use tokio::sync::mpsc;

use super::faulty::{At, Fault, Faulty};
use super::post_office::{PostOffice, certificates, files, parse};
use super::{Office, THREE, delivered, document, in_minutes, smtp};
use crate::program::{Folder, PATIENCE};
use crate::support::at;

/// The recipients in the envelope of a stored mail.
fn recipients(raw: &[Vec<u8>]) -> Vec<String> {
    let to = |raw: &Vec<u8>| parse(raw).header_raw("X-RcptTo").unwrap().trim().to_owned();
    let mut found: Vec<String> = raw.iter().map(to).collect();
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_recipients_get_a_mail_each() {
    let server = PostOffice::new(&[]);
    let office = Office::new(THREE, &smtp(server.port)).await;
    let document = document();
    let number = office.report(&document).await;
    // The job does its slot again.
    assert_eq!(office.write_down(number, &document).await, 0);
    office.client.execute("UPDATE pointsd.outbox SET written = $1", &[&at("2026-11-22T20:46:07Z")]).await.unwrap();
    assert_eq!(office.round(0).await, delivered(3, 0, 0));
    assert_eq!(office.round(600).await, delivered(0, 0, 0));
    let raw = server.raw();
    assert_eq!(recipients(&raw), ["ann@example.com", "bob@example.com", "cai@example.com"]);
    let ids = office.message_ids().await;
    for (raw, id) in raw.iter().zip(&ids) {
        let mail = parse(raw);
        assert_eq!(mail.header_raw("X-MailFrom").unwrap().trim(), "points@example.org");
        assert_eq!(format!("<{}>", mail.message_id().unwrap()), *id);
        // The date is the time of writing, not of the attempt: otherwise each attempt would look like a new mail.
        assert_eq!(mail.date().unwrap().to_rfc3339(), "2026-11-22T20:46:07Z");
        assert!(id.starts_with("<arrears.20261121T204500Z.") && id.ends_with("@example.org>"), "{id}");
    }
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
    let mails = office.mails().await;
    let expected = |nth: usize, to: &str| (to.to_owned(), "sent".to_owned(), 1, format!("250 2.0.0 Kept as {nth}"));
    assert_eq!(mails, [expected(1, "ann@example.com"), expected(2, "bob@example.com"), expected(3, "cai@example.com")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_down_where_nobody_is_to_be_mailed() {
    let mut office = Office::new(THREE, "  mode: none\n").await;
    let document = document();
    let number = office.report(&document).await;
    assert_eq!((office.states().await.len(), office.resend(number, None).await), (0, 0));
    office.configure("", "  mode: directory\n");
    assert_eq!(office.write_down(number, &document).await, 0);
    // A transaction that does not commit mails nothing.
    office.configure(THREE, "  mode: directory\n");
    let mut client = office.database.connection().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    assert_eq!(mail::write_down(&transaction, number, &document, &office.config.mail).await.unwrap(), 3);
    transaction.rollback().await.unwrap();
    assert_eq!(office.round(0).await, delivered(0, 0, 0));
}

/// Both ways of encryption, with a login.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_tls_and_a_login_is_delivered_to() {
    let folder = Folder::new();
    let shown = certificates(&folder, "localhost");
    for security in ["starttls", "tls"] {
        let options = ["--tls", security, "--certificate", &shown.certificate, "--key", &shown.key];
        let login = ["--user", "points", "--password", "se cret"];
        let server = PostOffice::new(&[&options[..], &login[..]].concat());
        let mail = format!(
            "  mode: smtp\n  smtp: {{host: localhost, port: {}, security: {security}, ca_file: {}, user: points, password: se cret}}\n",
            server.port, shown.authority
        );
        let office = Office::new(THREE, &mail).await;
        office.report(&document()).await;
        assert_eq!(office.round(0).await, delivered(3, 0, 0), "{security}: {:#?}", office.mails().await);
        assert_eq!(server.raw().len(), 3);
    }
}

/// Two senders at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_senders_one_sends_each_mail() {
    let server = PostOffice::new(&[]);
    let to: Vec<String> = (0..20).map(|nth| format!("user{nth:02}@example.com")).collect();
    let office = Office::new(&to.join(", "), &smtp(server.port)).await;
    office.report(&document()).await;
    let other = office.test.database().await;
    let one = mail::deliver(&office.database, &office.config, None, in_minutes(0));
    let two = mail::deliver(&other, &office.config, None, in_minutes(0));
    let (one, two) = tokio::try_join!(one, two).unwrap();
    assert_eq!(one.sent + two.sent, 20);
    assert!(one.sent > 0 && two.sent > 0, "only one of them sent: {one:?} {two:?}");
    assert_eq!(recipients(&server.raw()), to);
}

/// A sender that died keeps its claim on a mail until the lease ends. Then another sender delivers it with the same
/// Message-ID.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_whose_holder_died_is_sent_by_another() {
    let server = PostOffice::new(&[]);
    let office = Office::new("ann@example.com", &smtp(server.port)).await;
    office.report(&document()).await;
    let hold = "UPDATE pointsd.outbox SET state = 'sending', attempts = 1, held_until = clock_timestamp() + $1::float8 * interval '1 second'";
    office.client.execute(hold, &[&60.0]).await.unwrap();
    assert_eq!(office.round(600).await, delivered(0, 0, 0));
    office.client.execute(hold, &[&-1.0]).await.unwrap();
    assert_eq!(office.round(600).await, delivered(1, 0, 0));
    let raw = server.raw();
    assert_eq!(format!("<{}>", parse(&raw[0]).message_id().unwrap()), office.message_ids().await[0]);
    assert_eq!(office.mails().await[0].2, 2);
}

/// A sender's lease ends before the server answers, and another sender claims the mail. What the first one records late does not
/// overwrite what the other one does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_answer_changes_nothing_of_a_mail_that_another_claimed() {
    let (taken, refused) = ("250 2.0.0 taken", "451 4.3.0 not now");
    // The answers in their order, each with its sender; state and answer in the outbox after each; what the late sender counts.
    let cases = [
        ([(1, taken), (0, refused)], [("sent", taken), ("sent", taken)], delivered(0, 1, 0)),
        ([(1, taken), (0, "250 2.0.0 taken late")], [("sent", taken), ("sent", taken)], delivered(1, 0, 0)),
        ([(0, refused), (1, taken)], [("sending", ""), ("sent", taken)], delivered(0, 1, 0)),
    ];
    for (answers, recorded, of_late) in cases {
        let (server, mut asked, says) = answers_when_told();
        let office = Arc::new(Office::new("ann@example.com", &smtp(server.port)).await);
        office.report(&document()).await;
        let mut senders = Vec::new();
        for _ in 0..2 {
            let lapse = "UPDATE pointsd.outbox SET held_until = clock_timestamp() - interval '1 second' WHERE state = 'sending'";
            office.client.execute(lapse, &[]).await.unwrap();
            let sender = Arc::clone(&office);
            senders.push(Some(tokio::spawn(async move { sender.round(0).await })));
            tokio::time::timeout(PATIENCE, asked.recv()).await.expect("the mail is handed over").unwrap();
        }
        for ((sender, answer), (state, kept)) in answers.into_iter().zip(recorded) {
            says[sender].send(answer).unwrap();
            let counted = senders[sender].take().unwrap().await.unwrap();
            assert_eq!(counted, if sender == 0 { of_late.clone() } else { delivered(1, 0, 0) }, "{answers:?}");
            let expected = ("ann@example.com".to_owned(), state.to_owned(), 2, kept.to_owned());
            assert_eq!(office.mails().await, [expected], "{answers:?}, after sender {sender}");
        }
    }
}

/// A server that takes a mail from each of two senders, tells so, and answers each when and what it is told.
fn answers_when_told() -> (Faulty, mpsc::UnboundedReceiver<()>, [Sender<&'static str>; 2]) {
    let (tell, asked) = mpsc::unbounded_channel();
    let (first, second) = (channel(), channel());
    let answers = [first.1, second.1].map(Mutex::new);
    let server = Faulty::new(move |sender, at, _| {
        (at == At::End).then(|| {
            tell.send(()).unwrap();
            Fault::Say(answers[sender].lock().unwrap().recv().unwrap())
        })
    });
    (server, asked, [first.0, second.0])
}

/// A locked row, by a manual change or by another sender's claim, does not hold up the other mails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_somebody_holds_is_passed_by() {
    let office = Office::new(THREE, "  mode: directory\n").await;
    office.report(&document()).await;
    let hand = office.test.client().await;
    hand.batch_execute("BEGIN; SELECT FROM pointsd.outbox WHERE recipient LIKE 'ann%' FOR UPDATE").await.unwrap();
    assert_eq!(office.round(0).await, delivered(2, 0, 0));
    hand.batch_execute("COMMIT").await.unwrap();
    assert_eq!(office.round(0).await, delivered(1, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_that_is_asked_for_again_is_a_new_one() {
    let server = PostOffice::new(&[]);
    let office = Office::new(THREE, &smtp(server.port)).await;
    let number = office.report(&document()).await;
    assert_eq!(office.round(0).await.sent, 3);
    assert_eq!(office.resend(number, None).await, 3);
    let to: Vec<lettre::message::Mailbox> =
        ["Bob <bob@example.com>", "new@example.com"].iter().map(|to| to.parse().unwrap()).collect();
    assert_eq!(office.resend(number, Some(&to)).await, 2);
    assert_eq!(office.resend(number + 1, None).await, 0);
    assert_eq!(office.round(0).await.sent, 5);
    let sql = "SELECT recipient, resend FROM pointsd.outbox WHERE resend > 0 ORDER BY mail";
    let rows = office.client.query(sql, &[]).await.unwrap();
    let again: Vec<(&str, i32)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let expected = [
        ("ann@example.com", 1),
        ("bob@example.com", 1),
        ("cai@example.com", 1),
        ("bob@example.com", 2),
        ("new@example.com", 1),
    ];
    assert_eq!(again, expected);
    let mut ids = office.message_ids().await;
    assert!(ids[6].contains(".again2@"), "{ids:?}");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 8);
    assert_eq!(server.raw().len(), 8);
}

/// Only the mails of the requested document leave.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_round_may_be_for_one_document() {
    let server = PostOffice::new(&[]);
    let office = Office::new("ann@example.com", &smtp(server.port)).await;
    let mut document = document();
    let first = office.report(&document).await;
    document.slot += chrono::TimeDelta::days(1);
    let second = office.report(&document).await;
    let round = mail::deliver(&office.database, &office.config, Some(second), in_minutes(0)).await.unwrap();
    assert_eq!(round, delivered(1, 0, 0));
    let sql = "SELECT document FROM pointsd.outbox WHERE state = 'waiting'";
    assert_eq!(office.client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), first);
}

/// Each mail becomes a file with a descriptive name; writing it again replaces the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mails_become_files() {
    let office = Office::new("ann@example.com, '\"o/x\"@example.com'", "  mode: directory\n  directory: mails\n").await;
    let number = office.report(&document()).await;
    assert_eq!(office.round(0).await, delivered(2, 0, 0));
    let folder = office.folder.path().join("mails");
    let names = || {
        let mut names: Vec<String> =
            std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let first = names();
    assert_eq!(first.len(), 2, "{first:?}");
    assert!(first[0].starts_with("2026-11-22-044500-arrears-_o_x_@example.com-"), "{first:?}");
    assert_eq!(first[1], "2026-11-22-044500-arrears-ann@example.com.eml");
    let before = files(&folder, "eml");
    // As if the sender had died before it recorded the delivery.
    office.client.execute("UPDATE pointsd.outbox SET state = 'waiting', sent = NULL", &[]).await.unwrap();
    assert_eq!(office.round(0).await, delivered(2, 0, 0));
    assert_eq!((names(), files(&folder, "eml") == before), (first, true), "made again, a mail is the same to the byte");
    assert_eq!(office.resend(number, None).await, 2);
    assert_eq!(office.round(0).await, delivered(2, 0, 0));
    assert!(names().contains(&"2026-11-22-044500-arrears-ann@example.com-again1.eml".to_owned()), "{:?}", names());
    let raw = &before[1];
    let mail = parse(raw);
    assert_eq!(mail.attachments().filter_map(|part| part.attachment_name()).count(), 2);
    let (_, _, _, answer) = &office.mails().await[0];
    assert_eq!(*answer, folder.join("2026-11-22-044500-arrears-ann@example.com.eml").display().to_string());
}

/// A mail that cannot be built does not hold up others, and its error says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_cannot_be_read_stops_no_other() {
    let office = Office::new("ann@example.com", "  mode: directory\n").await;
    let mut document = document();
    let gone = office.report(&document).await;
    document.slot += chrono::TimeDelta::days(1);
    let strange = office.report(&document).await;
    document.slot += chrono::TimeDelta::days(1);
    office.report(&document).await;
    office.client.execute("DELETE FROM pointsd.documents WHERE document = $1", &[&gone]).await.unwrap();
    let sql = "UPDATE pointsd.documents SET content = $2 WHERE document = $1";
    office.client.execute(sql, &[&strange, &Value::Null]).await.unwrap();
    assert_eq!(office.round(0).await, delivered(1, 1, 1));
    let mails = office.mails().await;
    assert_eq!((mails[0].1.as_str(), mails[0].3.as_str()), ("parked", "its document was deleted"));
    assert!(mails[1].3.starts_with("its document cannot be read: was it made by another version"), "{mails:?}");
}
