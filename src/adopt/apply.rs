//! Posts what a plan says: the old keys first, then the openings of each account.
//!
//! An opening replays if it was posted before, so a plan that was interrupted is applied again. Then it goes on with the account at
//! which it stopped.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio_postgres::types::Json;
use tokio_postgres::{Client, Row};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::plan::{Plan, State, another_plan, load};
use super::{Error, failed, session};
use crate::database::Database;
use crate::ledger::{Currency, Money, Opening, Pending, Poster, Posting, Refusal, Reply, Rules};

/// Openings that are read and handed over at once.
const PAGE: i64 = 8_000;

/// Pages under way: one is posted, one waits behind it.
const PAGES_UNDER_WAY: usize = 2;

/// The key of a recharge that forgives, within its account.
const FORGIVEN: &str = "adopt:charged-twice";

/// What became of the openings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Posted now.
    pub posted: u64,
    /// Posted before.
    pub replayed: u64,
    /// Refused by the ledger, by code, with the points of each.
    pub refused: BTreeMap<&'static str, (u64, i64)>,
    /// Whether it was stopped before the end. The rest below is not known then.
    pub stopped: bool,
    /// Accounts that the plan opens.
    pub accounts: i64,
    /// What they opened with, by their rows: points less debts.
    pub opened: i64,
    /// Accounts that opened with something else than planned.
    pub different: i64,
    /// Old keys that replay.
    pub keys: i64,
}

/// An opening that the ledger refused.
pub struct RefusedOpening {
    /// The account.
    pub user: Uuid,
    /// Points; below zero: a debt.
    pub points: i64,
    /// The batch; none of a debt.
    pub id: Option<String>,
    /// Why.
    pub why: Refusal,
}

/// Applies the plan of this name.
///
/// `on_refused` hears of each opening that the ledger refuses, `on_progress` of how many were answered. After `stop` is cancelled, what
/// is under way is finished.
///
/// # Errors
/// See [`Error`].
pub async fn apply(
    ledger: &Database,
    plan: Uuid,
    rules: &Arc<Rules>,
    stop: &CancellationToken,
    on_refused: &mut (dyn FnMut(RefusedOpening) + Send),
    on_progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<Applied, Error> {
    let mut session = session(ledger).await?;
    let Some((found, state)) = load(&session.client).await?.filter(|(found, _)| found.plan == plan) else {
        return Err(another_plan());
    };
    let problems = found.totals.problems();
    if !problems.is_empty() {
        let why = format!(
            "the ledger would refuse a part of the plan; {}. Then call `pointsd adopt decide`",
            problems.join("; ")
        );
        return Err(Error::Refused(why));
    }
    if state == State::Planned {
        begin(&mut session.client, &found).await?;
    }
    let client = &session.client;
    let mut applied = Applied::default();
    let poster = Poster::start(ledger, rules, Poster::lanes());
    let posted = post_all(client, &poster, stop, &mut applied, on_refused, on_progress).await;
    poster.close().await;
    posted?;
    if applied.stopped {
        return Ok(applied);
    }
    let doing = "comparing the accounts with the plan";
    let row =
        client.query_one(include_str!("../../sql/adopt/account_compare.sql"), &[]).await.map_err(failed(doing))?;
    applied.accounts = row.try_get("accounts").map_err(failed(doing))?;
    applied.opened = row.try_get("opened").map_err(failed(doing))?;
    applied.different = row.try_get("different").map_err(failed(doing))?;
    let keys = client.query_one("SELECT count(*) FROM pointsd.adopted_keys", &[]).await.map_err(failed(doing))?;
    applied.keys = keys.try_get(0).map_err(failed(doing))?;
    // Refused openings are asked for again by another call, so it begins anew.
    let end = "UPDATE pointsd.adoption SET state = 'applied', applied_at = coalesce(applied_at, clock_timestamp()), applied_to = NULL";
    client.execute(end, &[]).await.map_err(failed("ending the adoption"))?;
    Ok(applied)
}

/// Makes the old keys known. From then on a task of old that is sent again replays.
async fn begin(client: &mut Client, plan: &Plan) -> Result<(), Error> {
    let doing = "making the old keys known";
    let transaction = client.transaction().await.map_err(failed(doing))?;
    let sources = Json(&plan.settings.decisions.sources);
    transaction.execute(include_str!("../../sql/adopt/key_insert.sql"), &[&sources]).await.map_err(failed(doing))?;
    transaction.batch_execute("UPDATE pointsd.adoption SET state = 'applying'").await.map_err(failed(doing))?;
    transaction.commit().await.map_err(failed(doing))?;
    client.batch_execute("ANALYZE pointsd.adopted_keys").await.map_err(failed(doing))
}

async fn post_all(
    client: &Client,
    poster: &Poster,
    stop: &CancellationToken,
    applied: &mut Applied,
    on_refused: &mut (dyn FnMut(RefusedOpening) + Send),
    on_progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), Error> {
    let doing = "reading the openings";
    let row = client.query_one("SELECT applied_to FROM pointsd.adoption", &[]).await.map_err(failed(doing))?;
    let applied_to: Option<Uuid> = row.try_get(0).map_err(failed(doing))?;
    // The account at which it stopped is done again from its first opening.
    let mut after = (applied_to.unwrap_or_default(), 0_i32);
    let page = client.prepare(include_str!("../../sql/adopt/opening_page.sql")).await.map_err(failed(doing))?;
    let feed = poster.feed();
    let posting_failed = |source| Error::Posting { source };
    let mut under_way: VecDeque<Page> = VecDeque::new();
    let mut reading = true;
    loop {
        if reading && stop.is_cancelled() {
            (reading, applied.stopped) = (false, true);
        }
        if reading && under_way.len() < PAGES_UNDER_WAY {
            let rows = client.query(&page, &[&after.0, &after.1, &PAGE]).await.map_err(failed(doing))?;
            let openings = rows.iter().map(opening_from).collect::<Result<Vec<_>, _>>().map_err(failed(doing))?;
            match openings.last() {
                None => reading = false,
                Some(last) => after = (last.user, last.nth),
            }
            if !openings.is_empty() {
                let postings = openings.iter().filter_map(|opening| opening.posting.clone().ok()).collect();
                let pending = feed.hand_over(postings).await.map_err(posting_failed)?;
                under_way.push_back(Page { openings, pending });
            }
            continue;
        }
        let Some(Page { openings, pending }) = under_way.pop_front() else { return Ok(()) };
        let replies = pending.replies().await.map_err(posting_failed)?;
        let last = openings.last().map(|opening| opening.user);
        let count = openings.len() as u64;
        count_replies(openings, replies, applied, on_refused);
        client
            .execute("UPDATE pointsd.adoption SET applied_to = $1", &[&last])
            .await
            .map_err(failed("writing how far it is"))?;
        on_progress(count);
    }
}

/// Openings that were handed over.
struct Page {
    openings: Vec<Planned>,
    pending: Pending,
}

/// A row of the plan.
struct Planned {
    user: Uuid,
    nth: i32,
    points: i64,
    id: Option<String>,
    posting: Result<Posting, Refusal>,
}

fn count_replies(
    openings: Vec<Planned>,
    replies: Vec<Reply>,
    applied: &mut Applied,
    on_refused: &mut (dyn FnMut(RefusedOpening) + Send),
) {
    let mut replies = replies.into_iter();
    for Planned { user, points, id, posting, .. } in openings {
        let reply = match posting {
            Ok(_) => replies.next(),
            Err(why) => Some(Reply::Rejected(why)),
        };
        match reply {
            Some(Reply::Rejected(why)) => {
                let (rows, sum) = applied.refused.entry(why.code()).or_default();
                *rows += 1;
                *sum = sum.saturating_add(points);
                on_refused(RefusedOpening { user, points, id, why });
            }
            Some(Reply::Replayed(_)) => applied.replayed += 1,
            Some(_) => applied.posted += 1,
            None => {}
        }
    }
}

fn opening_from(row: &Row) -> Result<Planned, tokio_postgres::Error> {
    let (user, points): (Uuid, i64) = (row.try_get("user_id")?, row.try_get("points")?);
    let opened_at: DateTime<Utc> = row.try_get("opened_at")?;
    let source: Option<String> = row.try_get("source")?;
    let id: Option<String> = row.try_get("id")?;
    let posting = match source {
        None => Ok(Posting::opening(user, -points, Opening::Debt, opened_at)),
        Some(source) if row.try_get("is_forgiven")? => {
            Ok(Posting::recharge(user, points, source, opened_at).with_key(FORGIVEN))
        }
        Some(source) => {
            let expires_at = row.try_get("expires_at")?;
            price_from(row)?.map(|paid| {
                let opening = Opening::Points { id: id.clone().unwrap_or_default(), source, expires_at, paid };
                Posting::opening(user, points, opening, opened_at)
            })
        }
    };
    Ok(Planned { user, nth: row.try_get("nth")?, points, id, posting })
}

/// The price of points: of an opening what is left of it. Points with a price below zero have none.
pub(super) fn price_from(row: &Row) -> Result<Result<Option<Money>, Refusal>, tokio_postgres::Error> {
    let (paid, currency): (Option<i64>, Option<String>) = (row.try_get("paid")?, row.try_get("currency")?);
    let money = |(amount, currency): (i64, String)| match currency.parse::<Currency>() {
        Ok(currency) => Ok(Money { amount, currency }),
        Err(why) => Err(Refusal::Malformed(why)),
    };
    Ok(paid.filter(|paid| *paid >= 0).zip(currency).map(money).transpose())
}
