//! The report on arrears: which accounts owe points, since when, and what changed since the last report.
//!
//! The changes are the entries that were recorded after the last report's instant and up to this one's. The last report
//! leaves two totals for the roll-forward: the arrears by the account balances, and the arrears by the entries.

mod document;

use std::cmp::Reverse;
use std::collections::HashSet;

use crate::time::{Zone, start_of_day};
use chrono::{DateTime, Days, Utc};
use deadpool_postgres::Transaction;
use serde::{Deserialize, Serialize};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::Error;
use super::pipeline::{Report, Scope};
use super::rows_file::RowsFile;
use crate::books::RunningTotals;
use crate::document::Document;
use crate::ledger::Buckets;
use crate::messages::Messages;
use crate::numbers::count;

/// The report's name.
pub const REPORT: &str = "arrears";

/// The most rows of a table in a document. A file has the rest.
const MOST_ROWS: usize = 10_000;

/// Rows that are in memory at a time.
const FETCHED: usize = 2_000;

/// The name of the file with all accounts in arrears.
const ALL_ROWS: &str = "owing-all.csv";

/// An account in arrears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owing {
    /// The user.
    pub user: Uuid,
    /// The arrears by the account's balance.
    pub owed: i64,
    /// The arrears by the account's last entry: the same, unless a hand changed a row.
    pub booked: i64,
    /// The last entry that took the account below zero; None if the history has no such entry.
    pub since: Option<Since>,
    /// Effective time of the account's last entry.
    pub last: Option<DateTime<Utc>>,
    /// The points of its unpaid items by age, in the order of [`Age::ALL`]. They add up to `owed`.
    pub unpaid: [i64; 5],
    /// The unpaid item that happened first.
    pub item: Option<Item>,
}

/// A usage, a void or a correction that is still unpaid. Repayments pay the oldest items first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its entry's number within the account.
    pub seq: i64,
    /// Its effective time.
    pub at: DateTime<Utc>,
    /// Its type.
    pub kind: String,
    /// The service that was used, or the source of the voided points.
    pub source_type: String,
    /// The task or the order.
    pub source_id: Option<String>,
    /// What its caller wrote for people, if anything.
    pub description: Option<String>,
    /// Its points that are still unpaid.
    pub points: i64,
}

/// The entry with which an account fell into arrears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Since {
    /// Its number within the account.
    pub seq: i64,
    /// Its effective time.
    pub at: DateTime<Utc>,
    /// Its type: mostly a consume, or a void.
    pub kind: String,
    /// The service that was used, or the source of the voided points.
    pub source_type: String,
}

impl Owing {
    /// The calendar days from the begin of the arrears to an instant; 0 if they began later.
    pub fn days(&self, at: DateTime<Utc>, zone: Zone) -> Option<i64> {
        self.since.as_ref().map(|since| days_between(since.at, at, zone))
    }

    fn from_row(row: &Row) -> Result<Owing, tokio_postgres::Error> {
        let since = match row.try_get("seq")? {
            Some(seq) => Some(Since {
                seq,
                at: row.try_get("since")?,
                kind: row.try_get("type")?,
                source_type: row.try_get("source_type")?,
            }),
            None => None,
        };
        let (user, owed, last) = (row.try_get("user_id")?, row.try_get("owed")?, row.try_get("last_at")?);
        let (unpaid, item) = (unpaid_from(row, owed)?, Item::from_row(row)?);
        Ok(Owing { user, owed, booked: row.try_get("booked")?, since, last, unpaid, item })
    }
}

/// The unpaid points by age. What no item explains has an unknown age.
fn unpaid_from(row: &Row, owed: i64) -> Result<[i64; 5], tokio_postgres::Error> {
    let by_age: Option<Vec<i64>> = row.try_get("unpaid")?;
    let Some(&[older, quarter, month, week]) = by_age.as_deref() else { return Ok([0, 0, 0, 0, owed]) };
    let known = [week, month, quarter, older].into_iter().fold(0, i64::saturating_add);
    Ok([week, month, quarter, older, owed.saturating_sub(known)])
}

impl Item {
    /// The calendar days from it to an instant; 0 if it happened later.
    pub fn days(&self, at: DateTime<Utc>, zone: Zone) -> i64 {
        days_between(self.at, at, zone)
    }

    fn from_row(row: &Row) -> Result<Option<Item>, tokio_postgres::Error> {
        let Some(seq) = row.try_get("item_seq")? else { return Ok(None) };
        Ok(Some(Item {
            seq,
            at: row.try_get("item_at")?,
            kind: row.try_get("item_type")?,
            source_type: row.try_get("item_source_type")?,
            source_id: row.try_get("item_source_id")?,
            description: row.try_get("item_description")?,
            points: row.try_get("item_unpaid")?,
        }))
    }
}

fn days_between(from: DateTime<Utc>, to: DateTime<Utc>, zone: Zone) -> i64 {
    let day = |instant: DateTime<Utc>| instant.with_timezone(&zone).date_naive();
    (day(to) - day(from)).num_days().max(0)
}

/// The age of arrears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Age {
    /// 0 to 7 days.
    #[serde(rename = "0-7")]
    Week,
    /// 8 to 30 days.
    #[serde(rename = "8-30")]
    Month,
    /// 31 to 90 days.
    #[serde(rename = "31-90")]
    Quarter,
    /// More than 90 days.
    #[serde(rename = "over 90")]
    Older,
    /// No entry says when the arrears began.
    #[serde(rename = "unknown")]
    Unknown,
}

impl Age {
    /// All of them.
    pub const ALL: [Age; 5] = [Age::Week, Age::Month, Age::Quarter, Age::Older, Age::Unknown];

    /// The bounds between the known ages, counted to an instant: the oldest first.
    fn bounds(at: DateTime<Utc>, zone: Zone) -> [DateTime<Utc>; 3] {
        let day = at.with_timezone(&zone).date_naive();
        [90, 30, 7].map(|days| start_of_day(day.checked_sub_days(Days::new(days)).unwrap_or(day), zone))
    }

    /// The age of so many days.
    pub fn of_days(days: Option<i64>) -> Age {
        match days {
            None => Age::Unknown,
            Some(..=7) => Age::Week,
            Some(8..=30) => Age::Month,
            Some(31..=90) => Age::Quarter,
            Some(91..) => Age::Older,
        }
    }
}

/// Calls `each` for every account in arrears as of an instant, the highest arrears first. The ages of unpaid items are counted to
/// `aged_to`. Memory does not grow with the accounts.
///
/// # Errors
/// If the database fails, or `each` does: its error ends the read.
pub async fn for_each_owing<E: From<tokio_postgres::Error>>(
    snapshot: &Client,
    as_of: DateTime<Utc>,
    (aged_to, zone): (DateTime<Utc>, Zone),
    mut each: impl FnMut(Owing) -> Result<(), E>,
) -> Result<(), E> {
    let sql = include_str!("../../sql/reports/arrears_owing.sql");
    // The reader of the rows may pause, for example in a pager.
    snapshot.batch_execute("SET LOCAL idle_in_transaction_session_timeout = 0").await?;
    plan_for_few(snapshot).await?;
    let bounds = Age::bounds(aged_to, zone);
    let buckets = Buckets::read(snapshot).await?;
    let bounds = bounds.as_slice();
    let parameters: [&(dyn ToSql + Sync); 2] = [&as_of, &bounds];
    let highest_first = |row: &Row| Ok((Reverse(row.try_get::<_, i64>("owed")?), row.try_get::<_, Uuid>("user_id")?));
    let each = |row: &Row| each(Owing::from_row(row)?);
    buckets.for_each_in_order(snapshot, ("owing", sql), &parameters, FETCHED, highest_first, each).await
}

/// Tells the planner that few accounts are in arrears and few entries are new. Without statistics it would read the ledger
/// whole. Without sorts it reads an account from its last entry backwards, instead of gathering its whole history.
pub(super) async fn plan_for_few(client: &Client) -> Result<(), tokio_postgres::Error> {
    let settings = "SET LOCAL enable_seqscan = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_sort = off; \
                    SET LOCAL jit = off; SET LOCAL plan_cache_mode = force_custom_plan";
    client.batch_execute(settings).await
}

/// What a run counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Accounts in arrears.
    pub accounts: u64,
    /// Their arrears in points.
    pub points: i64,
    /// Accounts that fell into arrears since the last report.
    pub new: u64,
    /// Accounts that left arrears since.
    pub cleared: u64,
    /// New arrears since, in points.
    pub drawn: i64,
    /// Arrears that were repaid since, in points.
    pub repaid: i64,
    /// The change by corrections since, in points.
    pub corrected: i64,
    /// Debts that accounts brought along from elsewhere since, in points.
    pub opened: i64,
    /// Accounts whose entries do not explain their arrears.
    pub unexplained: u64,
    /// Accounts in arrears of which no entry says since when.
    pub undated: u64,
    /// Arrears that neither the last report nor the entries since explain, in points.
    pub difference: i64,
}

/// What the last report closed with.
#[derive(Clone, Copy, Debug)]
struct Closing {
    as_of: DateTime<Utc>,
    accounts: u64,
    /// The arrears by the account balances.
    owed: i64,
    /// The arrears by the entries.
    booked: i64,
}

/// The accounts of an age and their arrears.
#[derive(Clone, Copy, Debug)]
struct AgeTotal {
    age: Age,
    accounts: u64,
    /// The arrears of these accounts.
    points: i64,
    /// The unpaid items of this age, of all accounts.
    items: i64,
}

/// An account whose arrears changed, or whose figures do not agree.
#[derive(Clone, Debug)]
struct ArrearsChange {
    user: Uuid,
    opening: i64,
    drawn: i64,
    repaid: i64,
    corrected: i64,
    opened: i64,
    /// The arrears by the account's balance.
    closing: i64,
    cleared: Option<Cleared>,
}

/// The entry that took an account out of arrears.
#[derive(Clone, Debug)]
struct Cleared {
    at: DateTime<Utc>,
    kind: String,
    source: String,
}

impl ArrearsChange {
    fn from_row(row: &Row) -> Result<ArrearsChange, tokio_postgres::Error> {
        let cleared = match (row.try_get("out_at")?, row.try_get("out_type")?, row.try_get("out_source")?) {
            (Some(at), Some(kind), Some(source)) => Some(Cleared { at, kind, source }),
            _ => None,
        };
        Ok(ArrearsChange {
            user: row.try_get("user_id")?,
            opening: row.try_get("opening")?,
            drawn: row.try_get("drawn")?,
            repaid: row.try_get("repaid")?,
            corrected: row.try_get("corrected")?,
            opened: row.try_get("opened")?,
            closing: row.try_get("closing")?,
            cleared,
        })
    }

    /// An account whose balance differs from its last entry, without an entry since the last report.
    fn without_entries(owing: &Owing) -> ArrearsChange {
        let Owing { user, owed: closing, booked: opening, .. } = *owing;
        ArrearsChange { user, opening, drawn: 0, repaid: 0, corrected: 0, opened: 0, closing, cleared: None }
    }

    /// The arrears that the entries lead to.
    fn expected(&self) -> i64 {
        let more = [self.drawn, self.corrected, self.opened].into_iter().fold(self.opening, i64::saturating_add);
        more.saturating_sub(self.repaid)
    }
}

/// The first rows of a list, its length, and the points of all of it.
#[derive(Debug)]
struct List<T> {
    rows: Vec<T>,
    count: u64,
    points: i64,
}

impl<T> Default for List<T> {
    fn default() -> List<T> {
        List { rows: Vec::new(), count: 0, points: 0 }
    }
}

impl<T> List<T> {
    fn add(&mut self, row: T, points: i64) {
        self.count += 1;
        self.points = self.points.saturating_add(points);
        if self.rows.len() < MOST_ROWS {
            self.rows.push(row);
        }
    }
}

/// What the report tells.
#[derive(Debug)]
pub struct Facts {
    last: Option<Closing>,
    owing: List<Owing>,
    /// Whether a file has all accounts in arrears.
    in_file: bool,
    ages: [AgeTotal; 5],
    oldest: Option<DateTime<Utc>>,
    /// The arrears by the entries.
    booked: i64,
    new: List<ArrearsChange>,
    cleared: List<ArrearsChange>,
    /// Accounts that fell into arrears since the last report and left them again.
    passing: u64,
    drawn: i64,
    repaid: i64,
    corrected: i64,
    opened: i64,
    has_corrections: bool,
    unexplained: List<ArrearsChange>,
    unexplained_users: HashSet<Uuid>,
    /// The books up to the report's instant. None while no day is closed and there are too many entries.
    books: Option<RunningTotals>,
}

impl Facts {
    fn new(last: Option<Closing>) -> Facts {
        Facts {
            last,
            owing: List::default(),
            in_file: false,
            ages: Age::ALL.map(|age| AgeTotal { age, accounts: 0, points: 0, items: 0 }),
            oldest: None,
            booked: 0,
            new: List::default(),
            cleared: List::default(),
            passing: 0,
            drawn: 0,
            repaid: 0,
            corrected: 0,
            opened: 0,
            has_corrections: false,
            unexplained: List::default(),
            unexplained_users: HashSet::new(),
            books: None,
        }
    }

    /// Reads what the entries since the last report did.
    async fn read_changes(&mut self, snapshot: &Client, as_of: DateTime<Utc>) -> Result<(), Error> {
        let Some(Closing { as_of: since, .. }) = self.last else { return Ok(()) };
        let sql = include_str!("../../sql/reports/arrears_moved.sql");
        let buckets = Buckets::read(snapshot).await?;
        let by_user = |row: &Row| row.try_get::<_, Uuid>("user_id");
        let each = |row: &Row| {
            self.add_moved(ArrearsChange::from_row(row)?, row.try_get("has_corrections")?);
            Ok::<_, Error>(())
        };
        buckets.for_each_in_order(snapshot, ("moved", sql), &[&since, &as_of], FETCHED, by_user, each).await
    }

    fn add_moved(&mut self, moved: ArrearsChange, has_corrections: bool) {
        let ArrearsChange { user, opening, drawn, repaid, corrected, opened, closing, .. } = moved;
        self.drawn = self.drawn.saturating_add(drawn);
        self.repaid = self.repaid.saturating_add(repaid);
        self.corrected = self.corrected.saturating_add(corrected);
        self.opened = self.opened.saturating_add(opened);
        self.has_corrections |= has_corrections;
        let expected = moved.expected();
        if closing == 0 {
            // The list of accounts in arrears has the others.
            self.booked = self.booked.saturating_add(expected.max(0));
        }
        if expected != closing {
            self.unexplained.add(moved.clone(), closing);
            self.unexplained_users.insert(user);
        }
        match (opening, closing) {
            (0, 1..) => self.new.add(moved, closing),
            (1.., 0) => self.cleared.add(moved, opening),
            (0, 0) if drawn > 0 || opened > 0 => self.passing += 1,
            _ => {}
        }
    }

    /// Reads every account in arrears.
    async fn read_owing(&mut self, snapshot: &Client, scope: &Scope<'_>) -> Result<(), Error> {
        let zone = scope.config.time_zone;
        let columns = document::owing_table(Messages::new(scope.config.language), scope, 0);
        let mut file = None;
        for_each_owing(snapshot, scope.as_of, (scope.as_of, zone), |owing| {
            self.add_owing(&owing, owing.days(scope.as_of, zone));
            if self.owing.rows.len() == MOST_ROWS {
                let file = file.get_or_insert_with(|| {
                    let mut file = RowsFile::begin(scope.folder.as_deref(), ALL_ROWS, columns.columns(), scope.config);
                    self.owing.rows.iter().for_each(|owing| file.row(&columns.cells(owing)));
                    file
                });
                file.row(&columns.cells(&owing));
            }
            let owed = owing.owed;
            self.owing.add(owing, owed);
            Ok::<_, Error>(())
        })
        .await?;
        self.in_file = file.is_some_and(RowsFile::finish);
        Ok(())
    }

    fn add_owing(&mut self, owing: &Owing, days: Option<i64>) {
        let age = Age::of_days(days);
        if let Some(total) = self.ages.iter_mut().find(|total| total.age == age) {
            total.accounts += 1;
            total.points = total.points.saturating_add(owing.owed);
        }
        for (total, unpaid) in self.ages.iter_mut().zip(owing.unpaid) {
            total.items = total.items.saturating_add(unpaid);
        }
        self.oldest = [self.oldest, owing.since.as_ref().map(|since| since.at)].into_iter().flatten().min();
        self.booked = self.booked.saturating_add(owing.booked);
        if owing.booked != owing.owed && self.unexplained_users.insert(owing.user) {
            self.unexplained.add(ArrearsChange::without_entries(owing), owing.owed);
        }
    }

    /// The arrears that the last report and the entries since lead to.
    fn expected(&self) -> i64 {
        let opening = self.last.map_or(self.booked, |last| last.booked);
        let more = [self.drawn, self.corrected, self.opened].into_iter().fold(opening, i64::saturating_add);
        more.saturating_sub(self.repaid)
    }

    fn undated(&self) -> u64 {
        self.ages.iter().filter(|total| total.age == Age::Unknown).map(|total| total.accounts).sum()
    }

    fn counters(&self) -> Counters {
        Counters {
            accounts: self.owing.count,
            points: self.owing.points,
            new: self.new.count,
            cleared: self.cleared.count,
            drawn: self.drawn,
            repaid: self.repaid,
            corrected: self.corrected,
            opened: self.opened,
            unexplained: self.unexplained.count,
            undated: self.undated(),
            difference: self.owing.points.saturating_sub(self.expected()),
        }
    }
}

/// The report on arrears.
pub struct Arrears;

impl Report for Arrears {
    const NAME: &'static str = REPORT;
    type Facts = Facts;
    type Counters = Counters;

    async fn gather(&self, snapshot: &Transaction<'_>, scope: &Scope<'_>) -> Result<Facts, Error> {
        plan_for_few(snapshot.client()).await?;
        let last = snapshot.query_opt(include_str!("../../sql/reports/arrears_last.sql"), &[]).await?;
        let mut facts = Facts::new(last.as_ref().map(closing_from).transpose()?);
        facts.read_changes(snapshot.client(), scope.as_of).await?;
        facts.read_owing(snapshot.client(), scope).await?;
        facts.books = RunningTotals::load(snapshot.client(), scope.as_of).await?;
        Ok(facts)
    }

    fn document(&self, facts: &Facts, scope: &Scope<'_>) -> Document {
        document::document(facts, scope)
    }

    async fn remember(&self, transaction: &Transaction<'_>, facts: &Facts, scope: &Scope<'_>) -> Result<(), Error> {
        let accounts = i64::try_from(facts.owing.count).unwrap_or(i64::MAX);
        let close = include_str!("../../sql/reports/arrears_close.sql");
        transaction.execute(close, &[&scope.slot, &scope.as_of, &accounts, &facts.owing.points, &facts.booked]).await?;
        Ok(())
    }

    fn counters(&self, facts: &Facts) -> Counters {
        facts.counters()
    }

    fn accounts(&self, facts: &Facts) -> u64 {
        facts.owing.count
    }
}

fn closing_from(row: &Row) -> Result<Closing, tokio_postgres::Error> {
    Ok(Closing {
        as_of: row.try_get("as_of")?,
        accounts: count(row.try_get("accounts")?),
        owed: row.try_get("owed")?,
        booked: row.try_get("booked")?,
    })
}
