//! A report that is overdue or was not delivered is logged by the daemon.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Timelike, Utc};
use nix::sys::signal::Signal;
use pointsd::config::Config;
use pointsd::mail;
use pointsd::reports::missing::{self, DueReports, Lack, Missing, find_missing};
use tokio_postgres::Client;

use crate::program::switch::Switch;
use crate::program::{Folder, Running, on, wait};
use crate::support::{TestDatabase, at};

const SINCE: &str = "2026-11-01T00:00:00Z";

fn config(folder: &Folder, text: &str) -> Config {
    let file = folder.file("pointsd.yaml", format!("state_dir: .\n{text}"));
    Config::load(Some(Path::new(&file)), None).unwrap()
}

/// The slots of three reports on one day, and what is asked of them at noon.
const EXPIRY: &str = "2026-11-22T02:00:00Z";
const RECONCILIATION: &str = "2026-11-22T04:30:00Z";
const ARREARS: &str = "2026-11-22T04:45:00Z";
const NOON: &str = "2026-11-22T12:00:00Z";

/// A ledger whose jobs were first seen three weeks before that day.
struct Ledger {
    client: Client,
    config: Config,
    _folder: Folder,
    _database: TestDatabase,
}

impl Ledger {
    /// Before any daemon was there.
    async fn unseen() -> Ledger {
        let folder = Folder::new();
        let config = config(
            &folder,
            "jobs:\n  expiry: {schedule: '0 2 * * *'}\n  reconciliation: {schedule: '30 4 * * *'}\n  \
             arrears: {schedule: '45 4 * * *'}\n",
        );
        let database = TestDatabase::new().await;
        Ledger { client: database.client().await, config, _folder: folder, _database: database }
    }

    async fn new() -> Ledger {
        let ledger = Ledger::unseen().await;
        ledger.see_jobs().await;
        ledger
    }

    async fn see_jobs(&self) {
        let sql = format!(
            "INSERT INTO pointsd.jobs (job, rule, since)
             SELECT job, '', '{SINCE}' FROM unnest(ARRAY['expiry', 'reconciliation', 'arrears', 'prune']) AS job"
        );
        self.sql(&sql).await;
    }

    async fn sql(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    /// What is due at a time, sorted by report.
    async fn due_at(&self, now: &str) -> DueReports {
        let mut due = find_missing(&self.client, &self.config, at(now)).await.unwrap();
        due.missing.sort_by_key(|missing| missing.report);
        due.delivered.sort();
        due
    }

    async fn document(&self, report: &str, slot: &str) -> i64 {
        let sql = "INSERT INTO pointsd.documents (report, slot, run, tone, headline, content, host, folder)
                   VALUES ($1, $2, 1, 'good', '', '{}', '', '') RETURNING document";
        self.client.query_one(sql, &[&report, &at(slot)]).await.unwrap().get(0)
    }

    async fn mail(&self, document: i64, recipient: &str, state: &str) {
        let sql = "INSERT INTO pointsd.outbox (document, report, slot, recipient, resend, message_id, state, written, sent, answer)
                   SELECT document, report, slot, $2, n.resend, '', $3, slot + n.resend * interval '1 second',
                          CASE WHEN $3 = 'sent' THEN slot END, 'said ' || $3
                   FROM pointsd.documents, (SELECT count(*)::int AS resend FROM pointsd.outbox) AS n WHERE document = $1";
        self.client.execute(sql, &[&document, &recipient, &state]).await.unwrap();
    }
}

fn not_made(report: &'static str, slot: DateTime<Utc>) -> Missing {
    Missing { report, slot, lack: Lack::Report }
}

#[tokio::test]
async fn each_report_is_due_at_its_own_slot() {
    let ledger = Ledger::unseen().await;
    assert_eq!(ledger.due_at(NOON).await, DueReports::default(), "no daemon was ever there");
    ledger.see_jobs().await;
    assert_eq!(
        ledger.due_at(NOON).await.missing,
        [
            not_made("arrears", at(ARREARS)),
            not_made("expiry", at(EXPIRY)),
            not_made("reconciliation", at(RECONCILIATION))
        ]
    );
    // Six hours after its slot, to the second.
    assert_eq!(
        ledger.due_at("2026-11-22T10:44:59Z").await.missing[0],
        not_made("arrears", at(ARREARS) - TimeDelta::days(1)),
        "the day before is asked for as long as today's had no time"
    );
}

#[tokio::test]
async fn a_report_is_missing_until_each_of_its_mails_was_sent() {
    let ledger = Ledger::new().await;
    ledger.document("expiry", EXPIRY).await;
    let sent = ledger.document("reconciliation", RECONCILIATION).await;
    ledger.mail(sent, "finance@example.com", "sent").await;
    let document = ledger.document("arrears", ARREARS).await;
    ledger.mail(document, "finance@example.com", "sent").await;
    ledger.mail(document, "boss@exmaple.com", "parked").await;
    ledger.mail(document, "cfo@example.com", "waiting").await;
    let due = ledger.due_at(NOON).await;
    assert_eq!(due.delivered, [("expiry", at(EXPIRY)), ("reconciliation", at(RECONCILIATION))]);
    let lack = |waiting, parked, answer: &str| Missing {
        report: "arrears",
        slot: at(ARREARS),
        lack: Lack::Mails { document, waiting, parked, answer: Some(answer.to_owned()) },
    };
    assert_eq!(due.missing, [lack(1, 1, "said waiting")]);
    // One mail is sent; the other document is sent again to another address.
    ledger.sql("UPDATE pointsd.outbox SET state = 'sent', sent = slot WHERE state = 'waiting'").await;
    ledger.mail(document, "boss@exmaple.com", "parked").await;
    assert_eq!(ledger.due_at(NOON).await.missing, [lack(0, 1, "said parked")]);
    ledger.mail(document, "boss@example.com", "sent").await;
    assert_eq!(ledger.due_at(NOON).await.missing, []);
}

/// A slot that came due during a pause was left out on purpose; a slot that a rule skipped was not.
#[tokio::test]
async fn a_report_of_a_paused_job_is_not_missing() {
    let ledger = Ledger::new().await;
    ledger
        .sql(
            "INSERT INTO pointsd.runs (job, slot, trigger, state, attempt, fence, finished, why) VALUES
             ('expiry', '2026-11-22T02:00:00Z', 'schedule', 'skipped', 0, 0, now(), 'the job was paused by me at noon'),
             ('arrears', '2026-11-22T04:45:00Z', 'schedule', 'skipped', 0, 0, now(), 'run 7 was still under way')",
        )
        .await;
    let missing: Vec<_> = ledger.due_at(NOON).await.missing.iter().map(|missing| missing.report).collect();
    assert_eq!(missing, ["arrears", "reconciliation"]);
    ledger.sql("UPDATE pointsd.jobs SET paused_at = now(), paused_by = 'me'").await;
    assert_eq!(ledger.due_at(NOON).await.missing, []);
}

/// The mails of a report are written together, but the delivery of the second says nothing about the first.
#[test]
fn a_mail_that_was_given_up_is_missing_until_a_later_one_was_sent() {
    let folder = Folder::new();
    let config = config(
        &folder,
        "jobs: {arrears: {schedule: '45 4 * * *'}}\nmail:\n  mode: directory\n  from: points@example.com\n  \
         to: {arrears: [unknown@example.com, ann@example.com]}\n",
    );
    wait(async {
        let database = TestDatabase::new().await;
        let mut client = database.database().await.connection().await.unwrap();
        let slot = at("2026-11-22T04:45:00Z");
        client
            .batch_execute(&format!("INSERT INTO pointsd.jobs (job, rule, since) VALUES ('arrears', '', '{SINCE}')"))
            .await
            .unwrap();
        let sql = "INSERT INTO pointsd.documents (report, slot, run, tone, headline, content, host, folder)
                   VALUES ('arrears', $1, 1, 'good', '', '{}', '', '') RETURNING document";
        let document: i64 = client.query_one(sql, &[&slot]).await.unwrap().get(0);
        // The server knows all addresses but one.
        let leave =
            "UPDATE pointsd.outbox SET state = CASE WHEN recipient LIKE 'unknown@%' THEN 'parked' ELSE 'sent' END,
                     sent = CASE WHEN recipient NOT LIKE 'unknown@%' THEN written END, answer = '550 no such user'
                     WHERE state = 'waiting'";
        let given_up = [Missing {
            report: "arrears",
            slot,
            lack: Lack::Mails { document, waiting: 0, parked: 1, answer: Some("550 no such user".to_owned()) },
        }];
        let due_at = async |client: &Client| {
            let found = missing::find_missing(client, &config, at("2026-11-22T12:00:00Z")).await.unwrap().missing;
            found.into_iter().filter(|missing| missing.report == "arrears").collect::<Vec<_>>()
        };

        let transaction = client.transaction().await.unwrap();
        let made = super::keeping::document("2026-11-22T04:45:00Z");
        assert_eq!(mail::write_down(&transaction, document, &made, &config.mail).await.unwrap(), 2);
        transaction.commit().await.unwrap();
        client.batch_execute(leave).await.unwrap();
        assert_eq!(due_at(&client).await, given_up);
        // Again to both: the same one is given up again.
        for (to, lacks) in [(None, &given_up[..]), (Some(["ann.new@example.com".parse().unwrap()]), &[])] {
            let transaction = client.transaction().await.unwrap();
            let to = to.as_ref().map(|to| &to[..]);
            mail::resend(&transaction, document, to, &config.mail).await.unwrap();
            transaction.commit().await.unwrap();
            client.batch_execute(leave).await.unwrap();
            assert_eq!(due_at(&client).await, lacks, "{to:?}");
        }
    });
}

#[test]
fn the_daemon_tells_of_a_report_that_is_missing_until_it_is_there() {
    let switch = Switch::new();
    let url = switch.url();
    let folder = Folder::new();
    let database = wait(TestDatabase::new());
    // The slot came due seven hours ago, or a little more, while no daemon ran.
    let due = Utc::now() - TimeDelta::hours(7);
    let slot = due.with_minute(0).unwrap().with_second(0).unwrap().with_nanosecond(0).unwrap();
    let text = format!(
        "state_dir: .\nbusiness: {{time_zone: UTC}}\njobs:\n  arrears: {{schedule: '0 {} * * *', catch_up: none, ping_url: '{url}'}}\n  \
         reconciliation: {{enabled: false}}\n  expiry: {{enabled: false}}\n  month_end: {{enabled: false}}\n",
        slot.hour()
    );
    let file = folder.file("pointsd.yaml", text);
    wait(async {
        let client = database.client().await;
        let sql = "INSERT INTO pointsd.jobs (job, rule, since) VALUES ('arrears', $1, $2)";
        let rule = format!("0 {} * * * (UTC)", slot.hour());
        client.execute(sql, &[&rule, &(slot - TimeDelta::hours(1))]).await.unwrap();
    });
    let slot_text = pointsd::time::time_text(slot);
    let serve = || {
        let mut command = on(&database.url(), &["serve"]);
        command.args(["--config", &file]);
        Running::start(command)
    };
    // Told at each start, to the log and to the job's switch.
    let mut daemon = serve();
    daemon.hear_message("missing: ");
    switch.next();
    daemon.signal(Signal::SIGTERM);
    daemon.finish().expect(0);
    let mut daemon = serve();
    let told = daemon.hear_message("missing: ");
    assert_eq!(
        (&told["level"], &told["job"], &told["slot"]),
        (&"ERROR".into(), &"arrears".into(), &slot_text.clone().into())
    );
    let what = format!("missing: the report arrears for {slot_text} was not made: ");
    assert!(told["message"].as_str().unwrap().starts_with(&what), "{told}");
    let heard = switch.next();
    assert_eq!(heard.request, "POST /secret/fail HTTP/1.1");
    assert_eq!(format!("missing: {}", heard.body), told["message"].as_str().unwrap());

    wait(async {
        let sql = "INSERT INTO pointsd.documents (report, slot, run, tone, headline, content, host, folder)
                   VALUES ('arrears', $1, 1, 'good', '', '{}', '', '')";
        database.client().await.execute(sql, &[&slot]).await.unwrap();
    });
    let cured = daemon.hear_message("the report arrears for ");
    assert!(cured["message"].as_str().unwrap().ends_with("is not missing any more"), "{cured}");
    daemon.signal(Signal::SIGTERM);
    let rest = daemon.finish().expect(0).stderr;
    assert!(!rest.contains("missing"), "{rest}");
    assert_eq!(switch.heard_more(), [], "once for each daemon");
}
