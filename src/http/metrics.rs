//! `/metrics`.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::Server;
use super::api::input::Refusals;
use super::auth::MayLook;
use crate::metrics::CONTENT_TYPE;

/// The metrics of this daemon, for Prometheus. What the database holds is at most some seconds old, and older while it is away.
#[utoipa::path(
    get, path = "/metrics", tag = "health",
    responses((status = 200, description = "the metrics as Prometheus text", body = String, content_type = "text/plain"), Refusals)
)]
pub(super) async fn metrics(State(server): State<Server>, _: MayLook) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], server.metrics().render()).into_response()
}
