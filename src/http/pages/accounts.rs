//! One account: its books, its batches, its holds and its history.

use std::collections::BTreeMap;

use axum::response::{IntoResponse, Redirect, Response};
use chrono::{Datelike as _, Utc};
use minijinja::{Value, context};
use serde::Deserialize;
use uuid::Uuid;

use super::session::Visitor;
use crate::http::api::accounts::rendered;
use crate::http::api::input::{Params, Place};
use crate::http::problem::Problem;
use crate::ledger::{Batches, EntryFilter, Order, Reader};
use crate::reports::statement::Form;
use crate::time::Days;

/// Entries on a page.
const ENTRIES: u32 = 50;

/// Open batches on a page.
const BATCHES: u32 = 20;

/// Holds on a page.
const HOLDS: u32 = 20;

/// The forms of a statement, in the order of their buttons.
pub(super) const FORMS: [Form; 5] = [Form::Html, Form::Xlsx, Form::Csv, Form::Text, Form::Json];

/// What is searched for.
#[derive(Deserialize)]
pub(super) struct Search {
    #[serde(default)]
    user: String,
}

/// `/accounts`: the search.
pub(super) async fn search(visitor: Visitor, Params(Search { user }): Params<Search>) -> Response {
    match user.trim().parse::<Uuid>() {
        Ok(user) => Redirect::to(&format!("/accounts/{user}")).into_response(),
        Err(_) => visitor.page("accounts.html", context! { wrong => !user.trim().is_empty(), user }),
    }
}

/// Which part of the lists a page shows.
#[derive(Deserialize)]
pub(super) struct Cursors {
    /// Entries before this number, the newest first …
    before: Option<i64>,
    /// … or after this one.
    after: Option<i64>,
    /// Open batches after this one.
    batch: Option<i64>,
    /// Holds after this one.
    hold: Option<Uuid>,
}

/// `/accounts/{user}`
pub(super) async fn account(
    visitor: Visitor,
    Place(user): Place<Uuid>,
    Params(cursors): Params<Cursors>,
) -> Result<Response, Problem> {
    let client = visitor.server.reading().await?;
    let reader = Reader::new(&client);
    let balance = reader.balance(user, Utc::now()).await?;
    let batches = reader.batches(user, Batches::Open, cursors.batch, BATCHES).await?;
    let holds = reader.holds(user, cursors.hold, HOLDS).await?;
    let filter = EntryFilter::default();
    // The page after the newest ones is read towards them, and shown the other way round.
    let (entries, older, newer) = match (cursors.after, cursors.before) {
        (Some(after), _) => {
            let mut page = reader.entries(user, &filter, Order::Oldest, Some(after), ENTRIES).await?;
            page.items.reverse();
            let older = page.items.last().map(|entry| entry.entry.seq).filter(|seq| *seq > 1);
            (page.items, older, page.next)
        }
        (None, before) => {
            let page = reader.entries(user, &filter, Order::Newest, before, ENTRIES).await?;
            let newer = page.items.first().filter(|_| before.is_some()).map(|entry| entry.entry.seq);
            (page.items, page.next, newer)
        }
    };
    let (config, language) = (visitor.server.config(), visitor.frame.messages.language());
    let sources =
        batches.items.iter().map(|batch| (batch.source.clone(), config.source_label(&batch.source, language)));
    let sources: BTreeMap<String, &str> = sources.collect();
    let today = Utc::now().with_timezone(&config.time_zone).date_naive();
    let last_month = today.with_day(1).and_then(|first| first.pred_opt()).unwrap_or(today);
    let content = context! {
        user => user.to_string(), last_month => last_month.format("%Y-%m").to_string(),
        this_month => today.format("%Y-%m").to_string(), forms => FORMS.map(Form::name),
        balance => Value::from_serialize(balance), sources, batches => Value::from_serialize(batches),
        first_batch => cursors.batch.is_none(), first_hold => cursors.hold.is_none(),
        holds => Value::from_serialize(holds), entries => Value::from_serialize(entries), older, newer,
    };
    Ok(visitor.page("account.html", content))
}

/// Which statement.
#[derive(Deserialize)]
pub(super) struct Month {
    month: String,
    form: Form,
}

/// `/accounts/{user}/statement`: of a month, in any form and in the visitor's language.
pub(super) async fn statement(
    visitor: Visitor,
    Place(user): Place<Uuid>,
    Params(Month { month, form }): Params<Month>,
) -> Result<Response, Problem> {
    let days = Days::month(month.trim(), visitor.server.config().time_zone, Utc::now());
    let days = days.map_err(|why| Problem::bad_request(format!("month: {why}")))?;
    rendered(&visitor.server, user, days, form, visitor.frame.messages.language()).await
}
