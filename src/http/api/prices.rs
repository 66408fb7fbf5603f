//! `/v1/prices`: the price list, the cost of a task, and an estimate before it begins.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::auth::MayRead;
use super::super::{Problem, Server};
use super::input::{Params, Place, Refusals, whole};
use crate::ledger::Page;
use crate::prices::{Price, PriceError, parse_seconds};

/// The price list.
#[utoipa::path(
    get, path = "/v1/prices", tag = "prices", operation_id = "list_prices",
    responses((status = 200, description = "All services", body = Page<Price<'static>>), Refusals),
    security(("token" = ["read"]))
)]
pub(super) async fn list(State(server): State<Server>, _: MayRead) -> Response {
    Json(whole(server.config().prices.prices().collect::<Vec<_>>())).into_response()
}

/// A price.
#[derive(Serialize, ToSchema)]
pub(super) struct Points {
    /// The service.
    service: String,
    /// What it costs.
    points: i64,
}

/// What the work was.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CostParams {
    /// Seconds that it took, for a service charged by time.
    #[param(value_type = Option<f64>, minimum = 0)]
    seconds: Option<String>,
}

/// What the input of the work is.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EstimateParams {
    /// Its characters, for a service estimated by characters.
    chars: Option<u64>,
    /// Its seconds, for a service estimated by time.
    #[param(value_type = Option<f64>, minimum = 0)]
    input_seconds: Option<String>,
}

/// What a finished task costs.
#[utoipa::path(
    get, path = "/v1/prices/{service}/cost", tag = "prices", operation_id = "get_cost",
    params(("service" = String, Path, description = "The service, such as tts"), CostParams),
    responses((status = 200, description = "The points", body = Points), Refusals),
    security(("token" = ["read"]))
)]
pub(super) async fn cost(
    State(server): State<Server>,
    _: MayRead,
    Place(service): Place<String>,
    Params(params): Params<CostParams>,
) -> Result<Json<Points>, Problem> {
    let seconds =
        params.seconds.map(|text| parse_seconds(&text)).transpose().map_err(|error| refused("seconds", &error))?;
    let points = server.config().prices.cost(&service, seconds).map_err(|error| refused("seconds", &error))?;
    Ok(Json(Points { service, points }))
}

/// What a task will cost, before it begins.
#[utoipa::path(
    get, path = "/v1/prices/{service}/estimate", tag = "prices", operation_id = "get_estimate",
    params(("service" = String, Path, description = "The service, such as tts"), EstimateParams),
    responses((status = 200, description = "The points", body = Points), Refusals),
    security(("token" = ["read"]))
)]
pub(super) async fn estimate(
    State(server): State<Server>,
    _: MayRead,
    Place(service): Place<String>,
    Params(params): Params<EstimateParams>,
) -> Result<Json<Points>, Problem> {
    let refused = |error: PriceError| match &error {
        PriceError::CharsMissing { .. } => refused("chars", &error),
        _ => refused("input_seconds", &error),
    };
    let seconds = params.input_seconds.map(|text| parse_seconds(&text)).transpose().map_err(refused)?;
    let points = server.config().prices.estimate(&service, params.chars, seconds).map_err(refused)?;
    Ok(Json(Points { service, points }))
}

fn refused(parameter: &str, error: &PriceError) -> Problem {
    match error {
        PriceError::UnknownService { .. } => Problem::not_found(error.to_string()),
        _ => Problem::bad_request(format!("{parameter}: {error}")),
    }
}
