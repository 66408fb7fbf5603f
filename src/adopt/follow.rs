//! Follows the other service while it is still in charge: posts what it has posted since the plan, and compares the balances.
//!
//! A transaction is posted under its default key, or under its id, so one that is read again replays. Ids are given out before
//! transactions commit, so a lower one may become visible later: reading begins anew behind the last id of a snapshot only once every
//! transaction that was open then has ended.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use tokio_postgres::{Client, Row};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::apply::price_from;
use super::plan::{Plan, State, another_plan, load};
use super::read::{Origin, Snapshot, Source, copy_accounts, followed, misfit};
use super::{Error, failed, session};
use crate::database::{self, Cursor, Database, Dedicated};
use crate::ledger::{Kind, MAX_DESCRIPTION, MAX_ID, Poster, Posting, Refusal, Reply, Rules, order_key};

/// Transactions that are read and posted at once.
const PAGE: usize = 4_000;

/// The ids before the last one that a plan read among which one may have been open then.
const OPEN_BEFORE: i64 = 100_000;

/// The accounts with the largest differences that a comparison lists.
const MOST_ACCOUNTS: i64 = 1_000;

/// What was followed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// Transactions that were posted now.
    pub posted: u64,
    /// Transactions whose key was posted before.
    pub replayed: u64,
    /// Transactions that the ledger refused, by code.
    pub refused: BTreeMap<&'static str, u64>,
    /// Transactions of other types, and those that cannot be read.
    pub skipped: u64,
}

/// A transaction that the ledger refused.
pub struct RefusedTransaction {
    /// Its id there.
    pub id: i64,
    /// The account.
    pub user: Uuid,
    /// Why.
    pub why: Refusal,
}

/// How far the balances agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// The instant, by the clock of the other service's database.
    pub read_at: DateTime<Utc>,
    /// Accounts of both.
    pub accounts: i64,
    /// Of these, accounts whose balances differ by more than the plan decided.
    pub different: i64,
    /// The sums over all accounts.
    pub sums: Difference,
    /// The accounts that differ most: the user, and what the other service calls it.
    pub most: Vec<(Uuid, String, Difference)>,
}

/// Two balances, and by what they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The balance there.
    pub there: i64,
    /// The balance in the ledger.
    pub here: i64,
    /// By what the plan decided.
    pub decided: i64,
    /// By recharges since the plan.
    pub recharged: i64,
    /// By uses since the plan.
    pub used: i64,
    /// By expiry since the plan.
    pub expired: i64,
}

impl Difference {
    /// What nothing of this explains, such as a balance that was changed by hand.
    pub fn other(&self) -> i64 {
        self.here - self.there - self.decided - self.recharged - self.used - self.expired
    }
}

/// Follows the other service.
pub struct Follower {
    plan: Plan,
    session: Dedicated,
    source: Source,
    poster: Poster,
    /// All transactions up to this id are known.
    settled: i64,
    /// Snapshots that may settle more: the number that no transaction had yet, and the last id that was seen.
    open: Vec<(i64, i64)>,
    /// Refused transactions that were told and are read again, because they are not settled.
    told: HashSet<i64>,
}

impl Follower {
    /// Opens sessions with both databases.
    ///
    /// # Errors
    /// See [`Error`]; also if the plan is not applied, or its transactions have no ids.
    pub async fn open(
        ledger: &Database,
        ledger_settings: &database::Settings,
        origin: &Origin,
        plan: Uuid,
        rules: &Arc<Rules>,
    ) -> Result<Follower, Error> {
        let session = session(ledger).await?;
        let Some((plan, state)) = load(&session.client).await?.filter(|(found, _)| found.plan == plan) else {
            return Err(another_plan());
        };
        let refused = |why: &str| Err(Error::Refused(why.to_owned()));
        if state != State::Applied {
            return refused("the plan is not applied yet; `pointsd adopt apply` comes first");
        }
        if matches!(origin, Origin::Folder(_)) {
            return refused("files do not go on; give the URL of the database in --from");
        }
        if plan.settings.transactions.as_ref().is_none_or(|of| of.id.is_none()) {
            return refused(
                "the transactions have no ids that grow (transactions.id), so what is new among them cannot be told",
            );
        }
        let doing = "reading how far it was followed";
        let row =
            session.client.query_one("SELECT followed_to FROM pointsd.adoption", &[]).await.map_err(failed(doing))?;
        let followed_to: Option<i64> = row.try_get(0).map_err(failed(doing))?;
        let settled =
            followed_to.unwrap_or_else(|| plan.totals.last_transaction.unwrap_or_default().saturating_sub(OPEN_BEFORE));
        let source = Source::open(origin, ledger, ledger_settings).await?;
        let poster = Poster::start(ledger, rules, Poster::lanes());
        Ok(Follower { plan, session, source, poster, settled, open: Vec::new(), told: HashSet::new() })
    }

    /// Posts what is new, and compares the balances if wanted: both as one snapshot shows them. `on_refused` hears once of each transaction
    /// that the ledger refuses.
    ///
    /// # Errors
    /// See [`Error`]. Calling again is safe.
    pub async fn round(
        &mut self,
        compares: bool,
        stop: &CancellationToken,
        on_refused: &mut (dyn FnMut(RefusedTransaction) + Send),
    ) -> Result<(Followed, Option<Comparison>), Error> {
        let Follower { plan, session, source, poster, settled, open, told } = self;
        let (client, settings) = (&session.client, &plan.settings);
        let snapshot = source.snapshot(settings).await?;
        let Some(query) = followed(settings, &snapshot.transaction, *settled).await? else {
            return Err(another_plan());
        };
        let misfit = misfit("transactions");
        let declare = format!("DECLARE followed NO SCROLL CURSOR FOR {query}");
        let cursor =
            Cursor::open(snapshot.transaction.client(), "followed", &declare, &[], PAGE).await.map_err(&misfit)?;
        let mut done = Followed::default();
        let mut last = *settled;
        let feed = poster.feed();
        while let Some(rows) = cursor.fetch(snapshot.transaction.client()).await.map_err(&misfit)? {
            if stop.is_cancelled() {
                return Ok((done, None));
            }
            let (new, last_id) = postings_of(&rows, plan, client, &mut done).await?;
            last = last.max(last_id);
            let (ids, postings): (Vec<(i64, Uuid)>, Vec<Posting>) =
                new.into_iter().map(|(id, posting)| ((id, posting.user), posting)).unzip();
            let pending = feed.hand_over(postings).await.map_err(|source| Error::Posting { source })?;
            let replies = pending.replies().await.map_err(|source| Error::Posting { source })?;
            for ((id, user), reply) in ids.into_iter().zip(replies) {
                match reply {
                    Reply::Rejected(why) => {
                        *done.refused.entry(why.code()).or_default() += 1;
                        if told.insert(id) {
                            on_refused(RefusedTransaction { id, user, why });
                        }
                    }
                    Reply::Replayed(_) => done.replayed += 1,
                    _ => done.posted += 1,
                }
            }
        }
        let comparison = match compares {
            true => Some(compare(plan, &snapshot, client).await?),
            false => None,
        };
        open.push((snapshot.begun_before, last));
        let ended_before = snapshot.ended_before;
        snapshot.transaction.commit().await.map_err(failed("closing the snapshot"))?;
        let now_settled = open.iter().filter(|(begun, _)| *begun <= ended_before).map(|(_, last)| *last).max();
        open.retain(|(begun, _)| *begun > ended_before);
        if let Some(now_settled) = now_settled.filter(|now_settled| now_settled > settled) {
            let write = "UPDATE pointsd.adoption SET followed_to = $1";
            client.execute(write, &[&now_settled]).await.map_err(failed("writing how far it was followed"))?;
            *settled = now_settled;
            told.retain(|id| *id > now_settled);
        }
        Ok((done, comparison))
    }

    /// Ends the sessions.
    pub async fn close(self) {
        self.poster.close().await;
        self.source.close().await;
    }
}

/// The postings of transactions that the plan has not read, each with its id there, and the last id.
async fn postings_of(
    rows: &[Row],
    plan: &Plan,
    client: &Client,
    done: &mut Followed,
) -> Result<(Vec<(i64, Posting)>, i64), Error> {
    let doing = "reading the new transactions";
    let ids = rows
        .iter()
        .map(|row| row.try_get::<_, Option<i64>>("id"))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed(doing))?;
    let last = ids.iter().flatten().max().copied().unwrap_or_default();
    let before: Vec<i64> =
        ids.iter().flatten().copied().filter(|id| Some(*id) <= plan.totals.last_transaction).collect();
    let known: HashSet<i64> = match before.is_empty() {
        true => HashSet::new(),
        false => {
            let sql = include_str!("../../sql/adopt/transaction_known.sql");
            let known = client.query(sql, &[&before]).await.map_err(failed(doing))?;
            known.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(failed(doing))?
        }
    };
    let mut postings = Vec::with_capacity(rows.len());
    for (row, id) in rows.iter().zip(&ids) {
        if id.is_some_and(|id| known.contains(&id)) {
            continue;
        }
        match posting_from(row, *id, plan).map_err(failed(doing))? {
            Some(posting) => postings.push(posting),
            None => {
                done.skipped +=
                    u64::from(row.try_get::<_, Option<&str>>("type").map_err(failed(doing))? != Some("expire"))
            }
        }
    }
    Ok((postings, last))
}

/// The posting of a transaction, with its id; none of an expiry, which the ledger does by itself, of another type, and of one that cannot be read.
fn posting_from(row: &Row, id: Option<i64>, plan: &Plan) -> Result<Option<(i64, Posting)>, tokio_postgres::Error> {
    let (user, points): (Option<Uuid>, Option<i64>) = (row.try_get("user_id")?, row.try_get("amount")?);
    let (at, kind): (Option<DateTime<Utc>>, Option<&str>) = (row.try_get("at")?, row.try_get("type")?);
    let (Some(id), Some(user), Some(points), Some(at)) = (id, user, points, at) else { return Ok(None) };
    let source_type: String = row.try_get::<_, Option<String>>("source_type")?.unwrap_or_default();
    // An id that is too long names nothing in the ledger.
    let source_id = row.try_get::<_, Option<String>>("source_id")?.filter(|id| id.chars().count() <= MAX_ID);
    let key = format!("adopted:{id}");
    let mut posting = match kind {
        Some("recharge") => {
            let source =
                plan.settings.decisions.sources.get(&source_type).cloned().unwrap_or_else(|| source_type.clone());
            // `007` is the order 7 for no key.
            let order: Option<i64> =
                source_id.as_ref().and_then(|text| text.parse().ok().filter(|order: &i64| order.to_string() == *text));
            // An order that is no number has a key, too, as `key_insert` made those of old.
            let key = match source_id {
                Some(_) if order.is_some() => None,
                Some(order_id) => Some(order_key(&source, order_id)),
                None => Some(key),
            };
            let mut posting = Posting::recharge(user, points, source, at);
            let Ok(price) = price_from(row)? else { return Ok(None) };
            if let Kind::Recharge { order_id, expires_at, paid, .. } = &mut posting.kind {
                *order_id = order;
                *expires_at = row.try_get("expires_at")?;
                *paid = price;
            }
            Posting { key, ..posting }
        }
        Some("consume") => {
            let mut posting = Posting::consume(user, points, source_type, source_id.unwrap_or(key), at);
            if let Kind::Consume { duration, .. } = &mut posting.kind {
                *duration = row.try_get::<_, Option<Decimal>>("duration")?;
            }
            posting
        }
        _ => return Ok(None),
    };
    let description = row.try_get::<_, Option<&str>>("description")?.filter(|text| !text.is_empty());
    posting.description = description.map(|text| text.chars().take(MAX_DESCRIPTION).collect());
    Ok(Some((id, posting)))
}

async fn compare(plan: &Plan, snapshot: &Snapshot<'_>, client: &Client) -> Result<Comparison, Error> {
    let doing = "comparing the balances";
    copy_accounts(&plan.settings, &snapshot.transaction, client).await?;
    let sql = include_str!("../../sql/adopt/balance_compare.sql");
    let rows = client.query(sql, &[&MOST_ACCOUNTS]).await.map_err(failed(doing))?;
    comparison_from(&rows, snapshot.read_at).map_err(failed(doing))
}

fn comparison_from(rows: &[Row], read_at: DateTime<Utc>) -> Result<Comparison, tokio_postgres::Error> {
    let difference = |row: &Row, prefix: &str| -> Result<Difference, tokio_postgres::Error> {
        let figure = |name: &str| row.try_get::<_, i64>(format!("{prefix}{name}").as_str());
        Ok(Difference {
            there: figure("there")?,
            here: figure("here")?,
            decided: figure("decided")?,
            recharged: figure("recharged")?,
            used: figure("used")?,
            expired: figure("expired")?,
        })
    };
    let none = Difference { there: 0, here: 0, decided: 0, recharged: 0, used: 0, expired: 0 };
    let mut comparison = Comparison { read_at, accounts: 0, different: 0, sums: none, most: Vec::new() };
    for row in rows {
        comparison.accounts = row.try_get("accounts")?;
        comparison.different = row.try_get("different")?;
        comparison.sums = difference(row, "all_")?;
        if let Some(user) = row.try_get("user_id")? {
            comparison.most.push((user, row.try_get("old_user")?, difference(row, "")?));
        }
    }
    Ok(comparison)
}
