//! The daemon sends by itself, and no crash loses a mail.

use std::sync::{Arc, Mutex};

use nix::sys::signal::Signal;

use super::faulty::{At, Fault, Faulty};
use super::post_office::{PostOffice, parse};
use super::{Office, THREE, document, settings, smtp};
use crate::program::{Folder, Running, eventually, on};
use crate::support::door::Door;

/// Schedules far from now, so that no job makes a report of its own.
const NO_JOBS: &str = "jobs: {expiry: {enabled: false}, reconciliation: {enabled: false}, arrears: {enabled: false}, month_end: {enabled: false}, prune: {enabled: false}}\n";

fn serve(url: &str, config: &str) -> Running {
    let mut command = on(url, &["serve"]);
    command.args(["--config", config]);
    Running::start(command)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_sends_what_is_due_and_takes_a_new_configuration() {
    let server = PostOffice::new(&[]);
    let office = Office::new(THREE, &smtp(server.port)).await;
    let wrong = settings(THREE, "  mode: none\n") + NO_JOBS;
    let config = office.folder.file("daemon.yaml", wrong);
    office.report(&document()).await;
    let mut daemon = serve(&office.test.url(), &config);
    daemon.hear("\"ready\"");
    // In mode none the mails keep waiting.
    office.folder.file("daemon.yaml", settings(THREE, &smtp(server.port)) + NO_JOBS);
    daemon.signal(Signal::SIGHUP);
    let line = daemon.hear("arrears mailed to ann@example.com");
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&line["report"], &line["recipient"], &line["attempts"]),
        (&"arrears".into(), &"ann@example.com".into(), &1.into())
    );
    eventually("three mails", || (server.raw().len() == 3).then_some(()));
    daemon.signal(Signal::SIGTERM);
    daemon.finish().expect(0);
    assert_eq!(office.states().await, ["sent"; 3]);
}

/// The password of the mail server is rotated, and arrives as a credential.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_takes_a_rotated_password() {
    let server = PostOffice::new(&["--user", "points", "--password", "two"]);
    let login = smtp(server.port).replace("security: none", "security: none, user: points");
    let office = Office::new(THREE, &smtp(server.port)).await;
    let config = office.folder.file("daemon.yaml", settings(THREE, &login) + "  retry_seconds: 1\n" + NO_JOBS);
    let credentials = Folder::new();
    credentials.file("smtp-password", "one\n");
    office.report(&document()).await;
    let mut command = on(&office.test.url(), &["serve", "--config", &config]);
    command.env("CREDENTIALS_DIRECTORY", credentials.path());
    let mut daemon = Running::start(command);
    daemon.hear("refuses the login of points");
    credentials.file("smtp-password", "two\n");
    daemon.signal(Signal::SIGHUP);
    daemon.hear("arrears mailed to ann@example.com");
    eventually("three mails", || (server.raw().len() == 3).then_some(()));
    daemon.signal(Signal::SIGTERM);
    daemon.finish().expect(0);
}

/// The daemon is killed after the server accepted the mail and before the database records it. Only then may a mail
/// arrive twice; the second copy has the same Message-ID.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_killed_between_yes_and_commit_sends_one_copy_more_at_most() {
    let folder = Folder::new();
    let office = Office::new("ann@example.com", "  mode: none\n").await;
    let tokio_postgres::config::Host::Unix(socket) = office.test.config().get_hosts()[0].clone() else {
        panic!("a socket")
    };
    let door = Arc::new(Door::new(folder.path(), &socket));
    let said = Arc::new(Mutex::new(0));
    let server = Faulty::new({
        let (door, said) = (Arc::clone(&door), Arc::clone(&said));
        move |connection, at, _| {
            if (connection, at) != (0, At::End) {
                return None;
            }
            let (door, said) = (Arc::clone(&door), Arc::clone(&said));
            Some(Fault::First(Box::new(move || {
                // From now on nothing reaches the database.
                door.hold();
                *said.lock().unwrap() += 1;
            })))
        }
    });
    let mut office = office;
    office.configure("ann@example.com", &smtp(server.port));
    let config = office.folder.file("daemon.yaml", settings("ann@example.com", &smtp(server.port)) + NO_JOBS);
    office.report(&document()).await;
    let url = office.test.url();
    let encoded = |path: &std::path::Path| path.to_str().unwrap().replace('/', "%2F");
    let through_the_door = url.replace(&encoded(&socket), &encoded(folder.path()));
    assert_ne!(through_the_door, url);
    let daemon = serve(&through_the_door, &config);
    eventually("the server's yes", || (*said.lock().unwrap() == 1).then_some(()));
    daemon.signal(Signal::SIGKILL);
    daemon.finish().expect_signal(Signal::SIGKILL);
    // What it may still have sent to the database dies with it.
    door.cut();
    door.let_go();
    assert_eq!(office.states().await, ["sending"]);
    // Its time runs out.
    let expire = "UPDATE pointsd.outbox SET held_until = clock_timestamp()";
    office.client.execute(expire, &[]).await.unwrap();
    let mut daemon = serve(&url, &config);
    daemon.hear("arrears mailed to ann@example.com");
    daemon.signal(Signal::SIGTERM);
    daemon.finish().expect(0);
    assert_eq!(office.states().await, ["sent"]);
    let mails = server.mails();
    assert_eq!(mails.len(), 2);
    assert!(mails[0] == mails[1], "the copy is the same mail");
    assert_eq!(format!("<{}>", parse(&mails[0]).message_id().unwrap()), office.message_ids().await[0]);
}

/// A stop ends an attempt before it hands the mail over; the mail waits for the next daemon.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_stops_lets_its_mail_go() {
    let server = Faulty::new(|connection, at, _| (connection == 0 && at == At::Mail).then_some(Fault::Drip));
    // Nothing but the stop ends the attempt.
    let patient = smtp(server.port).replace("timeout_seconds: 10", "timeout_seconds: 600");
    let office = Office::new("ann@example.com", &patient).await;
    let config = office.folder.file("daemon.yaml", settings("ann@example.com", &patient) + NO_JOBS);
    office.report(&document()).await;
    let daemon = serve(&office.test.url(), &config);
    eventually("the delivery", || server.commands().iter().any(|line| line.starts_with("MAIL")).then_some(()));
    daemon.signal(Signal::SIGTERM);
    daemon.finish().expect(0);
    assert_eq!(office.states().await, ["waiting"]);
    let mut daemon = serve(&office.test.url(), &config);
    daemon.hear("arrears mailed to ann@example.com");
    daemon.signal(Signal::SIGTERM);
    daemon.finish().expect(0);
    assert_eq!(server.mails().len(), 1);
}
