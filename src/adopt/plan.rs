//! The plan: what is wrong in the tables of the other service, what each account is to open with, and the control totals.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::read::{Origin, Source};
use super::settings::{ChargedTwice, ExpiredPoints, Keep, Orphans, Settings};
use super::{Error, failed, session};
use crate::database::{self, Database};
use crate::ledger::{Currency, Rules};

/// How long points live that had expired and are kept, unless the settings say something else.
const KEPT_EXPIRED_DAYS: i64 = 30;

/// The classes of what may be wrong, in the order of a plan: what changes points, what tells of the past, what cannot be read.
const CLASSES: [&str; 21] = [
    "account_in_use",
    "balance_above_batches",
    "batches_above_balance",
    "points_beside_debt",
    "debt_charged_twice",
    "points_expired",
    "batches_without_account",
    "posted_twice",
    "balance_changed_by_hand",
    "history_broken",
    "totals_differ",
    "debt_without_date",
    "history_without_account",
    "account_twice",
    "account_unreadable",
    "batches_left_out",
    "batch_id_twice",
    "batch_unreadable",
    "price_unreadable",
    "transaction_of_other_type",
    "transaction_unreadable",
];

/// A plan, as the file, the document and the database have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Names it.
    pub plan: Uuid,
    /// Where the tables were, without a password.
    pub read_from: String,
    /// When they were read, by the clock there.
    pub read_at: DateTime<Utc>,
    /// Mapping and decisions.
    pub settings: Settings,
    /// The control totals.
    pub totals: Totals,
}

/// The control totals of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Accounts there.
    pub accounts: i64,
    /// Of these, accounts with points.
    pub with_points: i64,
    /// The sum of their balances.
    pub points: i64,
    /// Accounts with a debt.
    pub in_debt: i64,
    /// The sum of the debts.
    pub debts: i64,
    /// Points less debts.
    pub net_before: i64,
    /// Batches with points.
    pub batches: i64,
    /// What remains in them.
    pub batch_points: i64,
    /// Transactions.
    pub transactions: i64,
    /// The last transaction.
    pub last_transaction: Option<i64>,
    /// The balances of accounts that are left out, because they cannot be read or there are several of one user; taken off.
    pub by_left_out: i64,
    /// What `keep: batches` changes of the sum.
    pub by_batches: i64,
    /// What is left out of it, because it had expired; zero or less.
    pub by_expired: i64,
    /// What batches without an account add.
    pub by_orphans: i64,
    /// What debts that are forgiven add.
    pub by_forgiven: i64,
    /// Points less debts afterwards.
    pub net_after: i64,
    /// Accounts that open with something.
    pub opened: i64,
    /// What they open with.
    pub openings: Vec<Opened>,
    /// What is wrong.
    pub classes: Vec<Class>,
}

/// Openings of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// `points`, `debt`, or `forgiven`.
    pub kind: String,
    /// The source of points.
    pub source: Option<String>,
    /// The currency of their price.
    pub currency: Option<String>,
    /// Entries.
    pub rows: i64,
    /// Accounts.
    pub accounts: i64,
    /// Points; of debts what is owed.
    pub points: i64,
    /// Of their price what is not released yet, in minor units.
    pub paid: i64,
    /// Why the ledger would refuse them; None: it would not.
    pub problem: Option<Problem>,
}

/// Why openings would be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// `ledger.sources` does not have the source.
    UnknownSource,
    /// There is no such currency.
    UnknownCurrency,
    /// Points of a promotional source have a price.
    PricedPresent,
}

/// A class of what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// Its name, such as `points_beside_debt`.
    pub class: String,
    /// Accounts; 0 where the rows have none.
    pub accounts: i64,
    /// Rows, or the times that it happened.
    pub rows: i64,
    /// Points.
    pub points: i64,
    /// The accounts with the most points.
    pub examples: Vec<Example>,
}

/// An account as an example of a class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// The account.
    pub user: Uuid,
    /// What the other service calls the user.
    pub old_user: String,
    /// Points.
    pub points: i64,
}

impl Totals {
    /// Why the plan cannot be applied as it is, in a sentence for each kind of openings that the ledger would refuse.
    pub fn problems(&self) -> Vec<String> {
        let problem = |opened: &Opened| {
            let source = opened.source.as_deref().unwrap_or_default();
            if source.is_empty() && opened.problem == Some(Problem::UnknownSource) {
                return Some(
                    "points have no source: give them one in decisions.sources, such as {'': gift}".to_owned(),
                );
            }
            let currency = opened.currency.as_deref().unwrap_or_default();
            Some(match opened.problem? {
                Problem::UnknownSource => format!(
                    "`{source}` is none of ledger.sources: add it there, or give its name there in decisions.sources"
                ),
                Problem::UnknownCurrency => {
                    format!("`{currency}` is no currency: correct batches.currency in the mapping")
                }
                Problem::PricedPresent => format!(
                    "points of the promotional source `{source}` have a price: correct batches.paid in the mapping, or the kind of \
                     the source in ledger.sources"
                ),
            })
        };
        self.openings.iter().filter_map(problem).collect()
    }

    fn check(&self) -> Result<(), Error> {
        let sum = |kind: &str| {
            self.openings.iter().filter(|opened| opened.kind == kind).map(|opened| opened.points).sum::<i64>()
        };
        let parts = self.net_before + self.by_left_out + self.by_batches + self.by_expired + self.by_orphans;
        let opened = sum("points") - sum("debt");
        if parts != self.net_after || opened != self.net_after || sum("forgiven") != self.by_forgiven {
            return Err(Error::DoesNotAddUp(format!("{parts}, {} and {opened} should be equal", self.net_after)));
        }
        Ok(())
    }
}

/// How far a plan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It can be made anew.
    Planned,
    /// Openings are being posted.
    Applying,
    /// They are posted.
    Applied,
}

/// Reads the tables, and plans what each account is to open with. An earlier plan that was not applied is forgotten.
///
/// # Errors
/// See [`Error`].
pub async fn plan(
    ledger: &Database,
    ledger_settings: &database::Settings,
    origin: &Origin,
    settings: Settings,
    rules: &Rules,
    tell: &(dyn Fn(String) + Send + Sync),
) -> Result<Plan, Error> {
    let mut session = session(ledger).await?;
    let client = &mut session.client;
    refuse_applied(client).await?;
    let mut source = Source::open(origin, ledger, ledger_settings).await?;
    client.execute(include_str!("../../sql/adopt/copies_clear.sql"), &[]).await.map_err(not_cleared)?;
    let read_at = source.copy(&settings, client, tell).await?;
    source.close().await;
    let doing = "indexing the copies";
    client.execute(include_str!("../../sql/adopt/copies_index.sql"), &[]).await.map_err(not_indexed)?;
    let analyze = "ANALYZE pointsd.adopted_accounts, pointsd.adopted_batches, pointsd.adopted_transactions";
    client.batch_execute(analyze).await.map_err(failed(doing))?;
    tell("comparing balances, batches and history".to_owned());
    let positions = include_str!("../../sql/adopt/position_insert.sql");
    client.execute(positions, &[&read_at]).await.map_err(failed("comparing balances, batches and history"))?;
    client.batch_execute("ANALYZE pointsd.adopted_positions").await.map_err(failed("comparing them"))?;
    let plan =
        Plan { plan: Uuid::new_v4(), read_from: origin.describe(ledger), read_at, settings, totals: Totals::default() };
    write(client, plan, rules).await
}

/// Plans anew with other decisions, from the copies that an earlier plan made.
///
/// # Errors
/// See [`Error`]; also if the plan is not the ledger's.
pub async fn decide(ledger: &Database, plan: Uuid, settings: Settings, rules: &Rules) -> Result<Plan, Error> {
    let mut session = session(ledger).await?;
    refuse_applied(&session.client).await?;
    let found = load(&session.client).await?.filter(|(found, _)| found.plan == plan);
    let Some((found, _)) = found else { return Err(another_plan()) };
    let mapping = Settings { decisions: settings.decisions.clone(), ..found.settings.clone() };
    if settings != mapping {
        let why = "the mapping was changed, not the decisions alone: the tables have to be read again with `pointsd adopt plan`";
        return Err(Error::Refused(why.to_owned()));
    }
    write(&mut session.client, Plan { plan: Uuid::new_v4(), settings, ..found }, rules).await
}

pub(super) fn another_plan() -> Error {
    Error::Refused(
        "the ledger has another plan than this one: `pointsd adopt plan` was called since, or on another database; use the folder \
         that the last call wrote"
            .to_owned(),
    )
}

fn not_cleared(error: tokio_postgres::Error) -> Error {
    match error.code() {
        Some(&SqlState::LOCK_NOT_AVAILABLE) => Error::Refused(
            "another session reads the copies of an earlier plan, perhaps a backup of the ledger; call again when it has ended".to_owned(),
        ),
        _ => failed("clearing the copies of an earlier plan")(error),
    }
}

fn not_indexed(error: tokio_postgres::Error) -> Error {
    match error.as_db_error() {
        Some(why) if why.constraint() == Some("adopted_transactions_by_id") => Error::Refused(format!(
            "two transactions have the same id ({}): give transactions.id a column or an expression that is unique, or null: then \
             `pointsd adopt follow` cannot be used",
            why.detail().unwrap_or_default()
        )),
        _ => failed("indexing the copies")(error),
    }
}

async fn refuse_applied(client: &Client) -> Result<(), Error> {
    let doing = "asking whether the ledger is spread over several servers";
    let spread =
        client.query_one(include_str!("../../sql/server/ledger_spread.sql"), &[]).await.map_err(failed(doing))?;
    if spread.try_get(0).map_err(failed(doing))? {
        let why = "this ledger is spread over several servers, where tables of another service cannot be taken over; begin with \
                   an empty one on one server, and spread it afterwards";
        return Err(Error::Refused(why.to_owned()));
    }
    match load(client).await? {
        Some((plan, State::Applying | State::Applied)) => Err(Error::Refused(format!(
            "this ledger has taken over {} already; a ledger is planned and applied once, so begin with an empty one",
            plan.read_from
        ))),
        _ => Ok(()),
    }
}

/// The plan of the ledger, and how far it is.
///
/// # Errors
/// If the database fails.
pub async fn load(client: &Client) -> Result<Option<(Plan, State)>, Error> {
    let doing = "reading the plan";
    let sql = "SELECT plan, read_from, read_at, settings, totals, state FROM pointsd.adoption";
    let Some(row) = client.query_opt(sql, &[]).await.map_err(failed(doing))? else { return Ok(None) };
    let read = || -> Result<(Plan, State), tokio_postgres::Error> {
        let settings: tokio_postgres::types::Json<Settings> = row.try_get("settings")?;
        let totals: tokio_postgres::types::Json<Totals> = row.try_get("totals")?;
        let state = match row.try_get::<_, &str>("state")? {
            "planned" => State::Planned,
            "applying" => State::Applying,
            _ => State::Applied,
        };
        let plan = Plan {
            plan: row.try_get("plan")?,
            read_from: row.try_get("read_from")?,
            read_at: row.try_get("read_at")?,
            settings: settings.0,
            totals: totals.0,
        };
        Ok((plan, state))
    };
    read().map(Some).map_err(failed(doing))
}

/// Writes down what each account is to open with, and the plan.
async fn write(session: &mut Client, mut plan: Plan, rules: &Rules) -> Result<Plan, Error> {
    let decisions = &mut plan.settings.decisions;
    let until = plan.read_at + TimeDelta::days(KEPT_EXPIRED_DAYS);
    let until = *decisions.expired_points_until.get_or_insert(until);
    if until <= plan.read_at {
        let why = format!(
            "decisions.expired_points_until: {until} is not after the reading of the tables; give a later time"
        );
        return Err(Error::Refused(why));
    }
    let decisions = &plan.settings.decisions;
    let keeps_batches = decisions.keep == Keep::Batches;
    let keeps_expired = decisions.expired_points == ExpiredPoints::Keep;
    let adopts = decisions.batches_without_account == Orphans::Adopt;
    let forgives = decisions.debts_charged_twice == ChargedTwice::Forgive;
    let sources = json(&decisions.sources);
    let doing = "planning the openings";
    let client = session.transaction().await.map_err(failed(doing))?;
    client.batch_execute("TRUNCATE pointsd.adopted_openings").await.map_err(failed(doing))?;
    client
        .execute(
            include_str!("../../sql/adopt/opening_insert.sql"),
            &[
                &plan.read_at,
                &keeps_batches,
                &keeps_expired,
                &until,
                &adopts,
                &forgives,
                &decisions.points_without_batch,
                &sources,
            ],
        )
        .await
        .map_err(failed(doing))?;
    let doing = "adding up the plan";
    let row = client
        .query_one(include_str!("../../sql/adopt/total_read.sql"), &[&keeps_batches, &keeps_expired, &adopts])
        .await
        .map_err(failed(doing))?;
    let mut totals = totals_from(&row).map_err(failed(doing))?;
    let rows = client.query(include_str!("../../sql/adopt/source_list.sql"), &[]).await.map_err(failed(doing))?;
    for row in &rows {
        totals.openings.push(opened_from(row, rules).map_err(failed(doing))?);
    }
    totals.by_forgiven =
        totals.openings.iter().filter(|opened| opened.kind == "forgiven").map(|opened| opened.points).sum();
    let has_history = plan.settings.transactions.is_some();
    let rows =
        client.query(include_str!("../../sql/adopt/finding_list.sql"), &[&has_history]).await.map_err(failed(doing))?;
    for row in &rows {
        totals.classes.push(class_from(row).map_err(failed(doing))?);
    }
    let place = |class: &Class| CLASSES.iter().position(|name| *name == class.class);
    totals.classes.sort_by_key(place);
    totals.check()?;
    plan.totals = totals;
    client
        .execute(
            include_str!("../../sql/adopt/plan_write.sql"),
            &[&plan.plan, &plan.read_at, &plan.read_from, &json(&plan.settings), &json(&plan.totals)],
        )
        .await
        .map_err(failed("writing the plan"))?;
    client.commit().await.map_err(failed("writing the plan"))?;
    // Without statistics, each page of the openings might be looked for among all of them.
    session.batch_execute("ANALYZE pointsd.adopted_openings").await.map_err(failed("analysing the plan"))?;
    Ok(plan)
}

fn json(value: &impl Serialize) -> Json {
    // Maps with texts as keys, lists, numbers and texts always have a JSON form.
    serde_json::to_value(value).unwrap_or_default()
}

fn totals_from(row: &Row) -> Result<Totals, tokio_postgres::Error> {
    Ok(Totals {
        accounts: row.try_get("accounts")?,
        with_points: row.try_get("with_points")?,
        points: row.try_get("points")?,
        in_debt: row.try_get("in_debt")?,
        debts: row.try_get("debts")?,
        net_before: row.try_get("net_before")?,
        batches: row.try_get("batches")?,
        batch_points: row.try_get("batch_points")?,
        transactions: row.try_get("transactions")?,
        last_transaction: row.try_get("last_transaction")?,
        by_left_out: row.try_get("by_left_out")?,
        by_batches: row.try_get("by_batches")?,
        by_expired: row.try_get("by_expired")?,
        by_orphans: row.try_get("by_orphans")?,
        net_after: row.try_get("net_after")?,
        opened: row.try_get("opened")?,
        ..Totals::default()
    })
}

fn opened_from(row: &Row, rules: &Rules) -> Result<Opened, tokio_postgres::Error> {
    let source: Option<String> = row.try_get("source")?;
    let currency: Option<String> = row.try_get("currency")?;
    let problem = match (&source, &currency) {
        (Some(source), _) if !rules.sources.contains_key(source) => Some(Problem::UnknownSource),
        (_, Some(currency)) if currency.parse::<Currency>().is_err() => Some(Problem::UnknownCurrency),
        (Some(source), Some(_)) if rules.promotional.contains(source) => Some(Problem::PricedPresent),
        _ => None,
    };
    Ok(Opened {
        kind: row.try_get("kind")?,
        problem,
        source,
        currency,
        rows: row.try_get("rows")?,
        accounts: row.try_get("accounts")?,
        points: row.try_get("points")?,
        paid: row.try_get("paid")?,
    })
}

fn class_from(row: &Row) -> Result<Class, tokio_postgres::Error> {
    let (users, old_users): (Vec<Option<Uuid>>, Vec<Option<String>>) =
        (row.try_get("users")?, row.try_get("old_users")?);
    let points: Vec<i64> = row.try_get("points")?;
    let examples = users
        .into_iter()
        .zip(old_users)
        .zip(points)
        .filter_map(|((user, old_user), points)| Some(Example { user: user?, old_user: old_user?, points }));
    Ok(Class {
        class: row.try_get("class")?,
        accounts: row.try_get("accounts")?,
        rows: row.try_get("all_rows")?,
        points: row.try_get("all_points")?,
        examples: examples.collect(),
    })
}
