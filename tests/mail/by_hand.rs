//! `pointsd run` under cron, without a daemon: it sends the due mails, and its exit status reports undelivered ones.

use serde_json::Value;

use super::post_office::{PostOffice, parse};
use super::smtp;
use crate::program::closed_port::ClosedPort;
use crate::program::{Done, Folder, on, run};
use crate::support::{TestDatabase, user};

const EXPIRY: &str = "finance@example.com";

/// Runs a job that mails a report to these recipients, by the server on this port.
fn call(database: &TestDatabase, folder: &Folder, port: u16, arrears: &str, arguments: &[&str]) -> Done {
    let text = format!(
        "state_dir: state\nmail:\n  from: points@example.org\n  to: {{arrears: [{arrears}], expiry: [{EXPIRY}]}}\n{}",
        smtp(port)
    );
    let mut command = on(&database.url(), arguments);
    command.args(["--config", &folder.file("pointsd.yaml", text)]);
    run(command)
}

/// The recipients, and the content.
fn arrived(server: &PostOffice) -> Vec<(String, String)> {
    let mail = |raw: &Vec<u8>| {
        let mail = parse(raw);
        let to = mail.header_raw("X-RcptTo").unwrap().trim().to_owned();
        (to, mail.subject().unwrap().to_owned())
    };
    server.raw().iter().map(mail).collect()
}

/// The pauses are over.
async fn hours_later(database: &TestDatabase) {
    let sql = "UPDATE pointsd.outbox SET due = written WHERE state = 'waiting'";
    database.client().await.batch_execute(sql).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_that_could_not_leave_is_the_status_and_leaves_with_the_next_run() {
    let (database, folder) = (TestDatabase::new().await, Folder::new());
    let two = "ann@example.com, bob@example.com";
    let closed = ClosedPort::new();
    let down = closed.number();
    let first = call(&database, &folder, down, two, &["run", "arrears", "--at", "2026-11-21T04:45:00Z"]).expect(3);
    assert!(first.stdout.contains("No accounts in arrears"), "{first:?}");
    // Both of them, though one attempt is enough to know.
    let said = format!("no mail sent, 2 wait: 127.0.0.1:{down} cannot be reached: ");
    assert!(first.stderr.contains(&said), "{first:?}");

    // The server is back the next night; the next report's run also sends the waiting mails.
    hours_later(&database).await;
    let server = PostOffice::new(&[]);
    let night = ["run", "expiry", "--at", "2026-11-22T02:00:00Z"];
    let second = call(&database, &folder, server.port, two, &night).expect(0);
    assert!(second.stderr.contains("3 mails sent"), "{second:?}");
    let mut to: Vec<String> = arrived(&server).into_iter().map(|(to, _)| to).collect();
    to.sort();
    assert_eq!(to, ["ann@example.com", "bob@example.com", EXPIRY]);

    // A permanent refusal by the server is no success either.
    let refused = "cai@example.com, unknown@example.com";
    let third = call(&database, &folder, server.port, refused, &["run", "arrears", "--json"]).expect(3);
    assert!(third.stderr.contains("1 mail sent, 1 is given up: 550 5.1.1 No such user here"), "{third:?}");
    assert!(third.stderr.contains("`pointsd reports resend 3 --to ADDRESS` sends it"), "{third:?}");
    assert_eq!(third.json()["state"], "succeeded");
    call(&database, &folder, server.port, refused, &["run", "expiry"]).expect(0);
    // A job that makes no report has no mails.
    call(&database, &folder, down, two, &["run", "prune"]).expect(0);
}

/// Its report says that something is wrong: that is the one to get.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_report_of_a_run_that_failed_is_mailed() {
    let (mut database, folder, server) = (TestDatabase::new().await, Folder::new(), PostOffice::new(&[]));
    database.expect_damage();
    let line = format!(
        "{{\"op\":\"recharge\",\"user\":\"{}\",\"points\":7,\"source\":\"gift\",\"order_id\":1,\
         \"at\":\"2026-01-01T00:00:00Z\",\"expires_at\":\"2026-01-02T00:00:00Z\"}}\n",
        user(1)
    );
    crate::program::post(&database.url(), line).expect(0);
    // The entry comes into the books without the run's number: as good as one that was never written.
    database
        .client()
        .await
        .batch_execute(
            "CREATE FUNCTION public.forget() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN NEW.run := NULL; RETURN NEW; END $$;
             CREATE TRIGGER forget BEFORE INSERT ON pointsd.entries FOR EACH ROW EXECUTE FUNCTION public.forget()",
        )
        .await
        .unwrap();
    let failed = call(&database, &folder, server.port, "ann@example.com", &["run", "expiry"]).expect(1);
    assert!(failed.stderr.contains("it counted 1 batch with 7 points"), "{failed:?}");
    let mails = arrived(&server);
    assert!(mails.len() == 1 && mails[0].0 == EXPIRY && mails[0].1.starts_with("Action required: "), "{mails:?}");
}

/// `reports resend` reports on exactly the mails that it wrote, also on those that a daemon sent first. It leaves out
/// mails that waited already, even if it sent them along.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resend_tells_how_its_own_mails_stand() {
    let (database, folder) = (TestDatabase::new().await, Folder::new());
    let three = "ann@example.com, bob@example.com, unknown@example.com";
    let closed = ClosedPort::new();
    let down = closed.number();
    call(&database, &folder, down, three, &["run", "arrears"]).expect(3);
    let again = call(&database, &folder, down, three, &["reports", "resend", "1", "--json"]).expect(3).json();
    let counts = |answer: &Value| ["written", "sent", "sending", "waiting", "parked"].map(|name| answer[name].clone());
    assert_eq!(counts(&again), [3, 0, 0, 3, 0]);
    let again = call(&database, &folder, down, three, &["reports", "resend", "1"]).expect(3).stdout;
    let said = format!("Report 1: 0 mails sent.\n3 mails could not be sent now: 127.0.0.1:{down} cannot be reached");
    assert!(again.starts_with(&said), "{again}");

    // Waiting mails leave with it or are refused; the answer is about the requested mail only.
    let server = PostOffice::new(&[]);
    hours_later(&database).await;
    let to = ["reports", "resend", "1", "--to", "cai@example.com", "--json"];
    let one = call(&database, &folder, server.port, three, &to).expect(0).json();
    assert_eq!(counts(&one), [1, 1, 0, 0, 0]);
    assert_eq!(server.raw().len(), 7);

    // A daemon is quicker: it has sent the one, and has the other in hand.
    database
        .client()
        .await
        .batch_execute(
            "CREATE FUNCTION public.quick() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF NEW.recipient LIKE 'ann@%' THEN
                     NEW.state := 'sent'; NEW.sent := now();
                 ELSE
                     NEW.state := 'sending'; NEW.attempts := 1; NEW.held_until := now() + interval '1 hour';
                 END IF;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER quick BEFORE INSERT ON pointsd.outbox FOR EACH ROW EXECUTE FUNCTION public.quick()",
        )
        .await
        .unwrap();
    let two = ["reports", "resend", "1", "--to", "ann@example.com", "--to", "bob@example.com"];
    let quick = call(&database, &folder, server.port, three, &two).expect(0).stdout;
    assert_eq!(
        quick,
        "Report 1: 1 mail sent.\n1 mail is being sent by a daemon; `pointsd reports` shows the outcome.\n"
    );
}
