//! Mails: written down once and delivered once, to a real server (aiosmtpd) and to faulty ones. Another library than the one
//! that wrote a mail reads it back.

mod by_hand;
mod daemon;
mod delivery;
mod failures;
mod faulty;
mod messages;
pub mod post_office;

use chrono::{DateTime, TimeDelta, Utc};
use pointsd::config::Config;
use pointsd::database::Database;
use pointsd::document::{Bar, Cell, Chart, Column, Document, Fact, Form, Kind, Section, Table, Tone};
use pointsd::language::Language;
use pointsd::mail::{self, Delivered};
use tokio_postgres::Client;

use crate::program::Folder;
use crate::support::{TestDatabase, at};

const THREE: &str = "ann@example.com, \"Bob <bob@example.com>\", \"财务部 <cai@example.com>\"";

/// A database and a configuration that sends mails.
struct Office {
    database: Database,
    client: Client,
    config: Config,
    folder: Folder,
    test: TestDatabase,
}

impl Office {
    /// Sends to these recipients, with these further lines in the section `mail`.
    async fn new(to: &str, mail: &str) -> Office {
        let folder = Folder::new();
        let config = load(&folder, to, mail);
        let test = TestDatabase::new().await;
        Office { database: test.database().await, client: test.client().await, config, folder, test }
    }

    /// Replaces the configuration.
    fn configure(&mut self, to: &str, mail: &str) {
        self.config = load(&self.folder, to, mail);
    }

    /// Stores a document as its report does; returns its number.
    async fn keep(&self, document: &Document) -> i64 {
        let sql = "INSERT INTO pointsd.documents (report, slot, run, tone, headline, content, host, folder)
                   VALUES ($1, $2, 1, 'good', $3, $4, 'books.example.com', '/var/lib/pointsd/reports/x') RETURNING document";
        let content = serde_json::to_value(document).unwrap();
        let row = self.client.query_one(sql, &[&document.report, &document.slot, &document.headline, &content]).await;
        row.unwrap().get(0)
    }

    /// Stores a document and its mails; returns its number.
    async fn report(&self, document: &Document) -> i64 {
        let number = self.keep(document).await;
        self.write_down(number, document).await;
        number
    }

    async fn write_down(&self, number: i64, document: &Document) -> u64 {
        let mut client = self.database.connection().await.unwrap();
        let transaction = client.transaction().await.unwrap();
        let written = mail::write_down(&transaction, number, document, &self.config.mail).await.unwrap();
        transaction.commit().await.unwrap();
        written
    }

    async fn resend(&self, number: i64, to: Option<&[lettre::message::Mailbox]>) -> usize {
        let mut client = self.database.connection().await.unwrap();
        let transaction = client.transaction().await.unwrap();
        let written = mail::resend(&transaction, number, to, &self.config.mail).await.unwrap();
        transaction.commit().await.unwrap();
        written.len()
    }

    /// Makes one round of deliveries, so many minutes from now.
    async fn round(&self, minutes: i64) -> Delivered {
        let delivered = mail::deliver(&self.database, &self.config, None, in_minutes(minutes)).await.unwrap();
        assert_eq!(delivered.why.is_some(), delivered.waiting + delivered.parked > 0, "{delivered:?}");
        Delivered { why: None, ..delivered }
    }

    /// Recipient, state, attempts and answer of each mail.
    async fn mails(&self) -> Vec<(String, String, i32, String)> {
        let sql = "SELECT recipient, state, attempts, coalesce(answer, '') FROM pointsd.outbox ORDER BY mail";
        let rows = self.client.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect()
    }

    /// The states of all mails.
    async fn states(&self) -> Vec<String> {
        self.mails().await.into_iter().map(|(_, state, ..)| state).collect()
    }

    async fn message_ids(&self) -> Vec<String> {
        let rows = self.client.query("SELECT message_id FROM pointsd.outbox ORDER BY mail", &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}

fn load(folder: &Folder, to: &str, mail: &str) -> Config {
    Config::load(Some(folder.file("pointsd.yaml", settings(to, mail)).as_ref()), None).unwrap()
}

/// A configuration with mails to these recipients.
fn settings(to: &str, mail: &str) -> String {
    format!(
        "state_dir: state\nbusiness: {{time_zone: Asia/Shanghai}}\nmail:\n  from: '\"Points, Ltd\" <points@example.org>'\n  to: {{arrears: [{to}]}}\n{mail}"
    )
}

/// The settings for a server on this machine, without encryption.
fn smtp(port: u16) -> String {
    format!("  mode: smtp\n  smtp: {{host: 127.0.0.1, port: {port}, security: none, timeout_seconds: 10}}\n")
}

fn delivered(sent: u64, waiting: u64, parked: u64) -> Delivered {
    Delivered { sent, waiting, parked, why: None }
}

/// So many minutes from now, and a second more, so that a new mail is due.
fn in_minutes(minutes: i64) -> DateTime<Utc> {
    Utc::now() + TimeDelta::minutes(minutes) + TimeDelta::seconds(1)
}

/// A report with a table, a picture and words.
fn document() -> Document {
    let column = |title: &str, kind| Column { title: title.to_owned(), kind };
    let row = |nth: u32| vec![Cell::Text(crate::support::user(nth).to_string()), Cell::Number(i64::from(nth) * 1000)];
    Document {
        report: "arrears".to_owned(),
        language: Language::English,
        business: "Acme Ltd".to_owned(),
        title: "Arrears".to_owned(),
        slot: at("2026-11-21T20:45:00Z"),
        run: 1,
        as_of: at("2026-11-21T20:45:03Z"),
        period: None,
        time_zone: "Asia/Shanghai".to_owned(),
        tone: Tone::Attention,
        tone_rule: String::new(),
        headline: "2 accounts owe 3,000 points".to_owned(),
        facts: vec![Fact { label: "accounts".to_owned(), value: Cell::Number(2) }],
        sections: vec![
            Section::Text { title: "How to read this".to_owned(), paragraphs: vec!["Worst first.".to_owned()] },
            Section::Chart(Chart {
                name: "by-age".to_owned(),
                title: "By age".to_owned(),
                description: "All of it is younger than a week.".to_owned(),
                form: Form::Bars,
                bars: vec![
                    Bar { label: "0-7 days".to_owned(), value: 3000 },
                    Bar { label: "8-30".to_owned(), value: 1 },
                ],
            }),
            Section::Table(Table {
                name: "accounts".to_owned(),
                title: "Accounts".to_owned(),
                note: String::new(),
                columns: vec![column("User", Kind::Identifier), column("Owes", Kind::Number)],
                rows: vec![row(1), row(2)],
                label: String::new(),
                sums: Vec::new(),
                rows_in_all: 2,
                whole_file: String::new(),
                totals: vec![None, Some(3000)],
                rows_in_body: 10,
                attached_columns: 0,
                if_empty: String::new(),
            }),
        ],
    }
}
