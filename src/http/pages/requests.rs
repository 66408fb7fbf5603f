//! The queue of requests.

use axum::response::Response;
use minijinja::{Value, context};
use serde::Deserialize;

use super::session::Visitor;
use crate::http::api::input::{Params, Place, one_more, page};
use crate::http::problem::Problem;
use crate::language::Language;
use crate::ledger::Page;
use crate::messages::Messages;
use crate::requests::{self, Listed, State};
use crate::status::MOST_COUNTED;

/// Requests on a page.
const ROWS: u32 = 50;

/// The states that a list can be of: each has an index. Finished ones stand in the list of all.
const STATES: [State; 4] = [State::Pending, State::Waiting, State::Refused, State::Parked];

/// Which requests to list.
#[derive(Deserialize)]
pub(super) struct Filter {
    state: Option<String>,
    id: Option<String>,
    before: Option<i64>,
}

/// `/requests`
pub(super) async fn list(visitor: Visitor, Params(filter): Params<Filter>) -> Result<Response, Problem> {
    if let Some(id) = filter.id.as_deref().and_then(|id| id.trim().parse::<i64>().ok()) {
        return request(visitor, Place(id)).await;
    }
    let state = STATES.into_iter().find(|state| filter.state.as_deref() == Some(state.as_str()));
    let mut client = visitor.server.reading().await?;
    let counts = requests::count(&client, Some(MOST_COUNTED)).await?;
    let listed = requests::list(&mut client, state, filter.before, one_more(ROWS)).await?;
    let Page { items, next } = page(listed, ROWS, |request| request.id);
    let content = context! {
        most_counted => MOST_COUNTED,
        counts => counts.iter().map(|(state, count)| context! { state => state.as_str(), count }).collect::<Vec<_>>(),
        requests => items.iter().map(|request| view(request, visitor.frame.messages)).collect::<Vec<_>>(), state => state.map(State::as_str), next,
        first => filter.before.is_none(),
    };
    Ok(visitor.page("requests.html", content))
}

/// `/requests/{id}`
pub(super) async fn request(visitor: Visitor, Place(id): Place<i64>) -> Result<Response, Problem> {
    let client = visitor.server.reading().await?;
    let found = requests::find(&client, id).await?;
    let found = found.ok_or_else(|| Problem::not_found("there is no such request, or it was pruned"))?;
    let can_retry = State::parse(&found.state).is_some_and(State::can_be_retried);
    Ok(visitor.page("request.html", context! { request => view(&found, visitor.frame.messages), can_retry }))
}

fn view(request: &Listed, messages: Messages) -> Value {
    // Every field is there, also those that JSON leaves out.
    let Listed { points, source, order_id, expires_at, source_type, source_id, of, beyond, until, .. } = request;
    let Listed { paid, currency, .. } = request;
    let Listed { key, description, retry_at, finished_at, seq, code, message, .. } = request;
    // The message is in English and names the values. In another language a sentence for its code comes first.
    let code_text = || messages.find(&format!("refusal-{}", code.as_deref()?), &[]);
    let said = if messages.language() == Language::English { None } else { code_text() };
    context! {
        id => request.id, state => request.state, user => request.user.to_string(), op => request.op, points, source,
        order_id, expires_at, source_type, source_id, duration => request.duration.as_ref().map(|digits| digits.get()),
        paid, currency, of, beyond, until, key, description, at => request.at, enqueued_at => request.enqueued_at,
        attempts => request.attempts, retry_at, finished_at, seq, code, message, said,
    }
}
