//! `/v1/requests`: the queue that the daemon posts.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::super::auth::{MayOperate, MayRead};
use super::super::{Problem, Server};
use super::accounts::storable;
use super::input::{Order, Params, Place, Refusals, items, named, one_more, page};
use super::orders::carry_out;
use crate::ledger::Page;
use crate::numbers::counted;
use crate::requests::{self, Filter, Listed, PutBackAll, State as RequestState};

/// Which requests.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RequestParams {
    /// Only in this state.
    #[param(value_type = Option<RequestState>, inline)]
    state: Option<String>,
    /// `next` of the page before.
    cursor: Option<i64>,
    /// How many, by default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// The requests, the newest first.
#[utoipa::path(
    get, path = "/v1/requests", tag = "requests", operation_id = "list_requests",
    params(RequestParams),
    responses((status = 200, description = "A page", body = Page<Listed>), Refusals),
    security(("token" = ["read"]))
)]
pub(super) async fn list(
    State(server): State<Server>,
    _: MayRead,
    Params(params): Params<RequestParams>,
) -> Result<Json<Page<Listed>>, Problem> {
    let state = named("state", params.state.as_deref(), &RequestState::ALL, RequestState::as_str)?;
    let limit = items(params.limit)?;
    let mut client = server.reading().await?;
    let listed = requests::list(&mut client, state, params.cursor, one_more(limit)).await?;
    Ok(Json(page(listed, limit, |request| request.id)))
}

/// A request, with its outcome.
#[utoipa::path(
    get, path = "/v1/requests/{id}", tag = "requests", operation_id = "get_request",
    params(("id" = i64, Path, description = "Its number")),
    responses((status = 200, description = "The request", body = Listed), Refusals),
    security(("token" = ["read"]))
)]
pub(super) async fn one(State(server): State<Server>, _: MayRead, Place(id): Place<i64>) -> Result<Response, Problem> {
    let client = server.reading().await?;
    let request = requests::find(&client, id).await?.ok_or_else(|| unknown(id))?;
    Ok(Json(request).into_response())
}

fn unknown(id: i64) -> Problem {
    Problem::not_found(format!("there is no request {id}, or it was pruned"))
}

/// Requests that are pending again.
#[derive(Serialize, ToSchema)]
pub(super) struct Retried {
    /// Their numbers.
    ids: Vec<i64>,
}

/// How many requests are pending again, and which.
#[derive(Serialize, ToSchema)]
pub(super) struct RetriedAll {
    /// How many.
    count: u64,
    /// The lowest of their numbers; null if there are none.
    first: Option<i64>,
    /// The highest of their numbers; null if there are none.
    last: Option<i64>,
}

/// Puts a parked, refused or waiting request back to pending, with all its tries anew.
#[utoipa::path(
    post, path = "/v1/requests/{id}/retry", tag = "requests", operation_id = "retry_request",
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 200, description = "It is pending again", body = Retried),
        (status = 409, description = "It is pending already, or done", body = Problem, content_type = "application/problem+json"),
        Refusals
    ),
    security(("token" = ["operate"]))
)]
pub(super) async fn retry(
    State(server): State<Server>,
    MayOperate(holder): MayOperate,
    Place(id): Place<i64>,
) -> Result<Json<Retried>, Problem> {
    let act = async {
        let found = requests::retry(&*server.reading().await?, &[id]).await?;
        let request = found.first().filter(|request| request.was.is_some()).ok_or_else(|| unknown(id))?;
        match request.reason_left() {
            None => Ok((Json(Retried { ids: vec![id] }), "done".to_owned())),
            Some(reason) => {
                let why = format!("request {id} was left as it is: {reason}");
                Err(Problem::new(StatusCode::CONFLICT, "not_retried", why))
            }
        }
    };
    carry_out(&server, &holder, ("retry", &id.to_string()), act).await
}

/// Which requests to put back: those that every field fits, or all. A body that names nothing puts back nothing.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RetryOrder {
    /// Only in this state: parked, refused or waiting.
    #[schema(pattern = "^(parked|refused|waiting)$")]
    state: Option<String>,
    /// Only requests that were refused or failed with this code, such as unknown_source.
    code: Option<String>,
    /// Only requests of this account's user.
    user: Option<Uuid>,
    /// All of them, where no other field stands.
    #[serde(default)]
    all: bool,
}

/// Puts parked, refused and waiting requests back to pending, in their old order.
///
/// After a timeout some of them are pending, and the same call puts back the rest.
#[utoipa::path(
    post, path = "/v1/requests/retry", tag = "requests", operation_id = "retry_requests",
    request_body = Option<RetryOrder>,
    responses((status = 200, description = "How many are pending again", body = RetriedAll), Refusals),
    security(("token" = ["operate"]))
)]
pub(super) async fn retry_all(
    State(server): State<Server>,
    MayOperate(holder): MayOperate,
    Order(order): Order<RetryOrder>,
) -> Result<Json<RetriedAll>, Problem> {
    let state = named("state", order.state.as_deref(), &RequestState::RETRYABLE, RequestState::as_str)?;
    let code = order.code.map(|code| storable("code", code)).transpose()?;
    if !order.all && state.is_none() && code.is_none() && order.user.is_none() {
        let detail = "nothing says which requests to put back: give state, code or user, or \"all\": true";
        return Err(Problem::bad_request(detail));
    }
    let filter = Filter { state, code, user: order.user };
    let named = [
        ("state", filter.state.map(|state| state.as_str().to_owned())),
        ("code", filter.code.clone()),
        ("user", filter.user.map(|user| user.to_string())),
    ];
    let named = named.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value?)));
    let subject = std::iter::once("all".to_owned()).chain(named).collect::<Vec<_>>().join(", ");
    let act = async {
        let PutBackAll { count, span } = requests::retry_all(&mut *server.reading().await?, &filter).await?;
        let (first, last) = span.unzip();
        Ok((Json(RetriedAll { count, first, last }), counted(count, "request", "requests")))
    };
    carry_out(&server, &holder, ("retry", &subject), act).await
}
