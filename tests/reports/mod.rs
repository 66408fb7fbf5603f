//! The reports against a real PostgreSQL: what is made, kept, shown and deleted.

mod arrears;
mod buckets;
mod dates;
mod days;
mod expiry;
mod journal;
mod keeping;
mod missing;
mod reconciliation;

use std::collections::BTreeMap;

use crate::program::{DEFAULTS, Folder};
use crate::support::TestDatabase;
use chrono::{DateTime, Utc};
use deadpool_postgres::{Object, Transaction};
use pointsd::config::Config;
use pointsd::document::{Cell, Document, Section, Table};
use pointsd::ledger::{Kind, Posting, Reply, Rules, Session, Sweep, sweep_for};
use pointsd::proof::{self, Approval, Basis, RepairOutcome};
use pointsd::reports::pipeline::{Made, Report, Scope};
use pointsd::reports::{self, Pipeline};
use tokio_postgres::Client;

/// The defaults, in this zone and language.
fn config(folder: &Folder, zone: &str, language: &str) -> Config {
    let text = std::fs::read_to_string(DEFAULTS).unwrap();
    let text = text.replacen("  time_zone: UTC", &format!("  time_zone: {zone}"), 1);
    let text = text.replacen("  language: en", &format!("  language: {language}"), 1);
    let mut config = Config::load(Some(folder.file("pointsd.yaml", text).as_ref()), None).unwrap();
    config.state_dir = folder.path().to_owned();
    config
}

/// Sweeps for the run 1.
async fn swept(database: &TestDatabase, slot: DateTime<Utc>) -> Sweep {
    let database = database.database().await;
    sweep_for(&database, 1, (1, slot), &(), &BTreeMap::new(), |_| true).await.unwrap()
}

/// Posts, and fails where anything is refused.
async fn post(session: &mut Session<Box<Client>>, postings: &[Posting], config: &Config) {
    let replies = session.post(postings, &Rules::from(config)).await.unwrap();
    assert!(replies.iter().all(|reply| matches!(reply, Reply::Posted(_))), "{replies:?}");
}

fn recharge(nth: u32, points: i64, key: &str, when: DateTime<Utc>, expires: DateTime<Utc>) -> Posting {
    let mut posting = Posting::recharge(crate::support::user(nth), points, "gift", when).with_key(key);
    if let Kind::Recharge { expires_at, .. } = &mut posting.kind {
        *expires_at = Some(expires);
    }
    posting
}

fn consume(nth: u32, points: i64, key: &str, when: DateTime<Utc>) -> Posting {
    Posting::consume(crate::support::user(nth), points, "tts", key, when)
}

/// Takes points off a user's account and the batch of this number, by hand.
async fn hand(client: &Client, nth: u32, points: i64, batch: Option<i32>) {
    let sql =
        "UPDATE pointsd.accounts SET balance = balance - $2, total_consumed = total_consumed + $2 WHERE user_id = $1";
    client.execute(sql, &[&crate::support::user(nth), &points]).await.unwrap();
    let sql = "UPDATE pointsd.batches SET remaining = remaining - $2, open = remaining > $2 WHERE user_id = $1 AND batch = $3";
    client.execute(sql, &[&crate::support::user(nth), &points, &batch]).await.unwrap();
}

/// A report as of an instant in the past: entries since then are later than its cutoff, but are in its snapshot.
struct AsOf<R>(DateTime<Utc>, R);

impl<R: Report> Report for AsOf<R> {
    const NAME: &'static str = R::NAME;
    type Facts = R::Facts;
    type Counters = R::Counters;

    fn as_of(&self) -> Option<DateTime<Utc>> {
        Some(self.0)
    }

    async fn gather(&self, snapshot: &Transaction<'_>, scope: &Scope<'_>) -> Result<R::Facts, reports::Error> {
        self.1.gather(snapshot, scope).await
    }

    fn document(&self, facts: &R::Facts, scope: &Scope<'_>) -> Document {
        self.1.document(facts, scope)
    }

    fn counters(&self, facts: &R::Facts) -> R::Counters {
        self.1.counters(facts)
    }

    fn accounts(&self, facts: &R::Facts) -> u64 {
        self.1.accounts(facts)
    }
}

/// Makes a report as of an instant in the past, and keeps nothing.
async fn made_as_of<R: Report>(
    database: &TestDatabase,
    config: &Config,
    slot: DateTime<Utc>,
    report: AsOf<R>,
) -> Made<AsOf<R>> {
    let database = database.database().await;
    let mut client = Object::take(database.connection().await.unwrap());
    let made = Pipeline { config, slot, run: 1 }.rehearse(&report, &mut client).await.unwrap();
    database.close().await.unwrap();
    made
}

/// Has every entry recorded at an instant of the past.
async fn record_all_at(database: &TestDatabase, recorded_at: &str) {
    let sql = format!(
        "ALTER TABLE pointsd.entries DISABLE TRIGGER entries_never_change;
         UPDATE pointsd.entries SET recorded_at = '{recorded_at}';
         ALTER TABLE pointsd.entries ENABLE ALWAYS TRIGGER entries_never_change"
    );
    database.client().await.batch_execute(&sql).await.unwrap();
}

/// Now, by the clock of the database.
async fn database_time(client: &Client) -> DateTime<Utc> {
    client.query_one("SELECT clock_timestamp()", &[]).await.unwrap().get(0)
}

/// Sets a user's account right.
async fn repair(client: &mut Client, nth: u32, keep: Basis) {
    let plan = proof::plan(client, &[crate::support::user(nth)], keep, Utc::now()).await.unwrap();
    let order = Approval { by: "Ada", reason: "a hand slipped", at: Utc::now() };
    let applied = proof::apply(client, &plan, &plan.accounts[0], &order).await.unwrap();
    assert!(matches!(applied, RepairOutcome::Posted(_)), "{applied:?}");
}

#[track_caller]
fn table<'a>(document: &'a Document, name: &str) -> &'a Table {
    let tables = document.sections.iter().filter_map(|section| match section {
        Section::Table(table) => Some(table),
        _ => None,
    });
    tables.into_iter().find(|table| table.name == name).unwrap_or_else(|| panic!("no table {name}: {document:#?}"))
}

/// The numbers of a table's column, from the top.
fn numbers(table: &Table, column: usize) -> Vec<i64> {
    let number = |row: &Vec<Cell>| match row[column] {
        Cell::Number(number) => number,
        ref other => panic!("{other:?} is no number"),
    };
    table.rows.iter().map(number).collect()
}

/// Every sentence is there, and in the right script.
fn assert_complete(document: &Document, chinese: bool) {
    let mut said = vec![&document.title, &document.headline];
    said.extend(document.facts.iter().map(|fact| &fact.label));
    for section in &document.sections {
        match section {
            Section::Text { title, paragraphs } => said.extend(std::iter::once(title).chain(paragraphs)),
            Section::Chart(chart) => said.extend([&chart.title, &chart.description]),
            Section::Table(table) => {
                said.push(&table.title);
                said.extend(table.columns.iter().map(|column| &column.title));
                said.extend([&table.note, &table.if_empty].into_iter().filter(|text| !text.is_empty()));
                assert!(!table.rows.is_empty() || !table.if_empty.is_empty(), "{} would be left out", table.name);
                for row in &table.rows {
                    assert_eq!(row.len(), table.columns.len(), "{}", table.name);
                }
                assert!(table.totals.is_empty() || table.totals.len() == table.columns.len(), "{}", table.name);
            }
        }
    }
    // One word for one thing, in all reports: 分录, 消耗, 未使用积分.
    let whole = format!("{document:?}");
    for word in ["流水", "消费", "未到期积分"] {
        assert!(!whole.contains(word), "{word} in {whole}");
    }
    for text in said {
        assert!(!text.is_empty(), "an empty sentence: {document:#?}");
        assert_eq!(text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c)), chinese, "{text}");
    }
}
