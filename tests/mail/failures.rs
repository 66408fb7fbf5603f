//! Failures at the server, and the state of the mails afterwards.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsd::database::Database;
use pointsd::mail;

use super::faulty::{At, Fault, Faulty};
use super::post_office::{PostOffice, certificates, parse};
use super::{Office, THREE, delivered, document, in_minutes, smtp};
use crate::program::closed_port::ClosedPort;
use crate::program::{Folder, PATIENCE};
use crate::support::door::Door;
use crate::support::settings;

/// A fault of the first connection alone.
fn once(place: At, fault: fn() -> Fault) -> Faulty {
    Faulty::new(move |connection, at, _| (connection == 0 && at == place).then(fault))
}

/// The state and answer of the only mail.
async fn only(office: &Office) -> (String, String) {
    let mails = office.mails().await;
    assert_eq!(mails.len(), 1, "{mails:#?}");
    (mails[0].1.clone(), mails[0].3.clone())
}

/// A "not now" at any place, and a connection that breaks at any place: the mail waits, says why, and leaves later as the
/// same mail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_for_now_waits_and_leaves_later() {
    let busy: fn() -> Fault = || Fault::Say("451 4.3.0 come back later");
    let gone: fn() -> Fault = || Fault::Drop;
    let closed = "the server closed the connection";
    let unknown = "the connection broke while the mail was handed over, so whether it was taken is not known: ";
    for (at, fault, said) in [
        (At::Greeting, busy, "127.0.0.1:PORT cannot be reached: 451 4.3.0 come back later".to_owned()),
        (At::Hello, busy, "127.0.0.1:PORT cannot be reached: 451 4.3.0 come back later".to_owned()),
        (At::Mail, busy, "451 4.3.0 come back later".to_owned()),
        (At::Rcpt, busy, "451 4.3.0 come back later".to_owned()),
        (At::Data, busy, "451 4.3.0 come back later".to_owned()),
        (At::End, busy, "451 4.3.0 come back later".to_owned()),
        (At::Rcpt, || Fault::Say("421 4.3.2 going down"), "the server is going away: 421 4.3.2 going down".to_owned()),
        (
            At::Greeting,
            || Fault::Say("554 5.3.2 no service"),
            "127.0.0.1:PORT cannot be reached: 554 5.3.2 no service".to_owned(),
        ),
        (
            At::Mail,
            || Fault::Say("530 5.7.0 log in first"),
            "the server wants a login or TLS first: 530 5.7.0 log in first".to_owned(),
        ),
        (At::Greeting, gone, format!("127.0.0.1:PORT cannot be reached: {closed}")),
        (At::Rcpt, gone, format!("the connection broke at RCPT: {closed}")),
        (At::Middle, gone, unknown.to_owned()),
        (At::End, gone, format!("{unknown}{closed}")),
    ] {
        let server = once(at, fault);
        let office = Office::new("ann@example.com", &smtp(server.port)).await;
        office.report(&document()).await;
        assert_eq!(office.round(0).await, delivered(0, 1, 0), "{at:?}");
        let (state, answer) = only(&office).await;
        let said = said.replace("PORT", &server.port.to_string());
        assert_eq!(state, "waiting", "{at:?}");
        assert!(answer.starts_with(&said), "{at:?}: {answer}");
        // Not before its pause is over, of a minute to a minute and a half.
        assert_eq!(office.round(0).await, delivered(0, 0, 0), "{at:?}");
        assert_eq!(server.connections(), 1);
        assert_eq!(office.round(2).await, delivered(1, 0, 0), "{at:?}");
        assert_eq!(only(&office).await, ("sent".to_owned(), "250 2.0.0 taken".to_owned()));
        let mails = server.mails();
        assert_eq!(mails.len(), if at == At::End { 2 } else { 1 }, "{at:?}");
        let id = &office.message_ids().await[0];
        for mail in &mails {
            assert_eq!(format!("<{}>", parse(mail).message_id().unwrap()), *id, "{at:?}");
            assert!(*mail == mails[0], "{at:?}: another mail under the same Message-ID");
        }
    }
}

/// "No" to one recipient: that mail is parked with the server's answer, and the others leave.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_parks_one_mail_alone() {
    let server = PostOffice::new(&[]);
    let office = Office::new("ann@example.com, unknown@example.com, cai@example.com", &smtp(server.port)).await;
    let number = office.report(&document()).await;
    assert_eq!(office.round(0).await, delivered(2, 0, 1));
    assert_eq!(server.raw().len(), 2);
    let parked = ("unknown@example.com".to_owned(), "parked".to_owned(), 1, "550 5.1.1 No such user here".to_owned());
    assert_eq!(office.mails().await[1], parked);
    assert_eq!(office.round(60 * 24).await, delivered(0, 0, 0));
    // It leaves after the cause is fixed and a resend is requested.
    assert_eq!(office.resend(number, Some(&["unknown2@example.com".parse().unwrap()])).await, 1);
    assert_eq!(office.round(0).await, delivered(1, 0, 0));
    for at in [At::Mail, At::Data, At::End] {
        let server = once(at, || Fault::Say("552 5.3.4 too large"));
        let office = Office::new("ann@example.com", &smtp(server.port)).await;
        office.report(&document()).await;
        assert_eq!(office.round(0).await, delivered(0, 0, 1), "{at:?}");
        assert_eq!(only(&office).await, ("parked".to_owned(), "552 5.3.4 too large".to_owned()), "{at:?}");
    }
}

/// A "not now" for one recipient, or a connection that breaks at that mail, does not hold up the other mails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_with_one_recipient_is_not_the_others() {
    let server = Faulty::new(|_, at, line| match at {
        At::Rcpt if line.contains("ann@") => Some(Fault::Say("450 4.2.2 mailbox full")),
        At::Rcpt if line.contains("bob@") => Some(Fault::Drop),
        _ => None,
    });
    let office = Office::new(THREE, &smtp(server.port)).await;
    office.report(&document()).await;
    assert_eq!(office.round(0).await, delivered(1, 2, 0));
    assert_eq!(office.states().await, ["waiting", "waiting", "sent"]);
}

/// No server listens: each round makes one attempt and postpones the other mails untried.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_down_is_asked_once_a_round() {
    let closed = ClosedPort::new();
    let port = closed.number();
    let mut office = Office::new(THREE, &smtp(port)).await;
    office.report(&document()).await;
    // A mail with an expired claim is not tried either.
    let (held, back) = ("state = 'sending', held_until = clock_timestamp()", "state = 'waiting', held_until = NULL");
    let set = |what: &str| {
        format!(
            "UPDATE pointsd.outbox SET {what}, due = (SELECT max(due) FROM pointsd.outbox) WHERE recipient LIKE 'cai%'"
        )
    };
    office.client.batch_execute(&set(held)).await.unwrap();
    assert_eq!(office.round(0).await, delivered(0, 2, 0));
    office.client.batch_execute(&set(back)).await.unwrap();
    let attempts = |mails: Vec<(String, String, i32, String)>| mails.iter().map(|mail| mail.2).collect::<Vec<_>>();
    assert_eq!(attempts(office.mails().await), [1, 0, 0]);
    assert!(office.mails().await[0].3.contains(&format!("127.0.0.1:{port} cannot be reached: Connection refused")));
    assert_eq!(office.round(0).await, delivered(0, 0, 0));
    assert_eq!(office.round(2).await, delivered(0, 3, 0));
    assert_eq!(attempts(office.mails().await).iter().sum::<i32>(), 2);
    // It is back: everything leaves.
    let server = PostOffice::new(&[]);
    office.configure(THREE, &smtp(server.port));
    assert_eq!(office.round(60).await, delivered(3, 0, 0));
}

/// No daemon ran for five days, so no attempt was made: a first "not now" does not park the mail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_that_was_not_tried_for_days_gets_its_tries() {
    // The server asks unknown senders to come again after a quarter of an hour.
    let server = Faulty::new(|nth, at, _| (nth < 5 && at == At::Rcpt).then_some(Fault::Say("450 4.2.0 greylisted")));
    let office = Office::new("ann@example.com", &smtp(server.port)).await;
    office.report(&document()).await;
    let five_days = 5 * 24 * 60;
    for nth in 0..5 {
        assert_eq!(office.round(five_days + nth * 60).await, delivered(0, 1, 0), "{nth}");
    }
    assert_eq!(office.round(five_days + 5 * 60).await, delivered(1, 0, 0));
    // It is parked all the same if further attempts fail.
    let never = Faulty::new(|_, at, _| (at == At::Rcpt).then_some(Fault::Say("450 4.2.0 greylisted")));
    let office = Office::new("ann@example.com", &smtp(never.port)).await;
    office.report(&document()).await;
    for nth in 0..5 {
        assert_eq!(office.round(five_days + nth * 60).await, delivered(0, 1, 0), "{nth}");
    }
    assert_eq!(office.round(five_days + 5 * 60).await, delivered(0, 0, 1));
}

/// After four days of trying, by default, a mail is parked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_is_given_up_after_its_time() {
    let server = Faulty::new(|_, at, _| (at == At::Rcpt).then_some(Fault::Say("450 4.2.1 not now")));
    let office = Office::new("ann@example.com", &smtp(server.port)).await;
    office.report(&document()).await;
    let mut rounds = 0;
    let mut minutes = 0;
    while office.states().await == ["waiting"] {
        // The longest pause: four hours, and jitter of up to the same length.
        minutes += 8 * 60;
        rounds += 1;
        assert!(minutes <= 96 * 60, "tried for ever");
        assert_eq!(office.round(minutes).await.sent, 0);
    }
    assert_eq!((office.states().await, minutes), (vec!["parked".to_owned()], 96 * 60));
    assert_eq!(server.connections(), rounds);
}

/// An answer that never ends runs into a timeout, at a command and after the mail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_drip_is_bounded() {
    for (at, most, said) in [
        (At::Greeting, 1, "cannot be reached: it did not answer within N s"),
        (At::Rcpt, 1, "hangs at RCPT: it did not answer within N s"),
        // What the steps before it left of eight seconds.
        (
            At::End,
            7,
            "the server did not answer within N s after the mail was handed over, so whether it was taken is not known",
        ),
    ] {
        let server = once(at, || Fault::Drip);
        let mail = smtp(server.port).replace("timeout_seconds: 10", "timeout_seconds: 1");
        let office = Office::new("ann@example.com", &mail).await;
        office.report(&document()).await;
        let round = tokio::time::timeout(PATIENCE, office.round(0)).await.expect("the round ends");
        assert_eq!(round, delivered(0, 1, 0), "{at:?}");
        let (state, answer) = only(&office).await;
        assert_eq!(state, "waiting");
        let is_said = |seconds: u32| answer.contains(&said.replace('N', &seconds.to_string()));
        assert!((0..=most).any(is_said), "{at:?}: {answer}");
        assert_eq!(office.round(2).await, delivered(1, 0, 0), "{at:?}");
    }
}

/// A server without STARTTLS gets neither the password nor a mail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_in_the_clear_where_tls_is_wanted() {
    let server = Faulty::new(|_, _, _| None);
    let mail = format!(
        "  mode: smtp\n  smtp: {{host: localhost, port: {}, security: starttls, user: points, password: secret}}\n",
        server.port
    );
    let office = Office::new("ann@example.com", &mail).await;
    office.report(&document()).await;
    assert_eq!(office.round(0).await, delivered(0, 1, 0));
    let (state, answer) = only(&office).await;
    assert_eq!(state, "waiting");
    assert_eq!(answer, format!("localhost:{} offers no STARTTLS, and nothing is sent in the clear", server.port));
    let commands = server.commands();
    assert!(commands.iter().all(|line| line.starts_with("EHLO") || line.starts_with("QUIT")), "{commands:?}");
}

/// The certificate is untrusted, or is another host's: nothing is sent, and the mail waits until this is fixed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_certificate_is_not_accepted() {
    let folder = Folder::new();
    let (right, other) = (certificates(&folder, "localhost"), certificates(&folder, "mail.example.com"));
    for security in ["starttls", "tls"] {
        for (shown, trusted, said) in
            [(&right, &other, "UnknownIssuer"), (&other, &other, "certificate not valid for name \"localhost\"")]
        {
            let server =
                PostOffice::new(&["--tls", security, "--certificate", &shown.certificate, "--key", &shown.key]);
            let mail = |trusted: &str| {
                format!(
                    "  mode: smtp\n  smtp: {{host: localhost, port: {}, security: {security}, ca_file: {trusted}}}\n",
                    server.port
                )
            };
            let office = Office::new("ann@example.com", &mail(&trusted.authority)).await;
            office.report(&document()).await;
            assert_eq!(office.round(0).await, delivered(0, 1, 0), "{security}");
            let (state, answer) = only(&office).await;
            assert_eq!(state, "waiting");
            assert!(answer.contains(said), "{security}: {answer}");
            assert!(server.raw().is_empty());
        }
    }
}

/// A login that is refused is a mistake in the configuration: no mail is parked for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_is_refused_is_no_recipients_fault() {
    let server = PostOffice::new(&["--user", "points", "--password", "right"]);
    let mail = |password: &str| {
        format!(
            "  mode: smtp\n  smtp: {{host: localhost, port: {}, security: none, user: points, password: {password}}}\n",
            server.port
        )
    };
    let mut office = Office::new(THREE, &mail("wrong")).await;
    office.report(&document()).await;
    assert_eq!(office.round(0).await, delivered(0, 3, 0));
    let mails = office.mails().await;
    assert_eq!(office.states().await, ["waiting"; 3]);
    assert!(mails[0].3.contains("refuses the login of points: 535 5.7.8"), "{mails:?}");
    assert!(!format!("{mails:?}").contains("wrong"), "{mails:?}");
    office.configure(THREE, &mail("right"));
    assert_eq!(office.round(3).await, delivered(3, 0, 0));
}

/// A folder that cannot be written to is like a server that is down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_cannot_be_written_to_is_waited_for() {
    let office = Office::new(THREE, "  mode: directory\n  directory: taken/mails\n").await;
    let file = office.folder.file("taken", "a file where the folder should be");
    office.report(&document()).await;
    assert_eq!(office.round(0).await, delivered(0, 3, 0));
    assert_eq!(office.states().await, ["waiting"; 3]);
    assert!(office.mails().await[0].3.contains("cannot be written: "), "{:?}", office.mails().await);
    std::fs::remove_file(file).unwrap();
    assert_eq!(office.round(3).await, delivered(3, 0, 0));
}

/// The database goes away while the server takes the mail: the delivery is recorded as soon as the database is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_that_left_during_an_outage_of_the_database_is_not_sent_again() {
    const OUTAGE: Duration = Duration::from_millis(300);
    let mut office = Office::new("ann@example.com", "  mode: none\n").await;
    let folder = Folder::new();
    let config = office.test.config();
    let [tokio_postgres::config::Host::Unix(socket)] = config.get_hosts() else { panic!("one socket: {config:?}") };
    let door = Arc::new(Door::new(folder.path(), socket));
    let server = Faulty::new({
        let door = Arc::clone(&door);
        move |_, at, _| {
            let door = Arc::clone(&door);
            (at == At::End).then(|| {
                Fault::First(Box::new(move || {
                    door.shut();
                    std::thread::spawn(move || {
                        std::thread::sleep(OUTAGE);
                        door.open();
                    });
                }))
            })
        }
    });
    office.configure("ann@example.com", &smtp(server.port));
    office.report(&document()).await;
    let encoded = |path: &std::path::Path| path.to_str().unwrap().replace('/', "%2F");
    let mut settings = settings(&config, 2);
    settings.url = settings.url.map(|url| url.replace(&encoded(socket), &encoded(folder.path())));
    let database = Database::open(&settings).await.unwrap();
    let begun = Instant::now();
    let round = mail::deliver(&database, &office.config, None, in_minutes(0)).await.unwrap();
    assert_eq!(round, delivered(1, 0, 0));
    assert!(begun.elapsed() >= OUTAGE, "the database was there all the time");
    assert_eq!(only(&office).await.0, "sent");
    assert_eq!(server.mails().len(), 1);
}
