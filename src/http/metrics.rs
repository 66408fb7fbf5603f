//! `/metrics`, and the counts of the calls themselves.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Server;
use super::auth::MayLook;
use crate::metrics::{CONTENT_TYPE, NO_ROUTE};

/// The metrics of this daemon, for Prometheus. What the database holds is at most some seconds old, and older while it is away.
#[utoipa::path(
    get, path = "/metrics", tag = "health",
    responses((status = 200, description = "the metrics as Prometheus text", body = String, content_type = "text/plain"))
)]
pub(super) async fn metrics(State(server): State<Server>, _: MayLook) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], server.metrics().render()).into_response()
}

/// Counts a call by the route that matched.
pub(super) async fn count(
    State(server): State<Server>,
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let response = next.run(request).await;
    let route = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    server.metrics().http_answered(method.as_str(), route, response.status().as_u16(), began.elapsed());
    response
}
