//! The API under `/v1`, and its description.

pub(super) mod accounts;
pub(super) mod input;
mod jobs;
pub(super) mod orders;
mod postings;
mod prices;
mod reports;
mod requests;

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::input::Refusals;
use super::auth::MayLook;
use super::{Server, health, metrics};

/// What the description says of the whole.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "pointsd",
        description = "A ledger of expiring points. Every call but those of health needs a token: `Authorization: Bearer TOKEN`. \
                       A posting is safe to send again: under the same key it replays.",
    ),
    modifiers(&Security),
    tags(
        (name = "postings", description = "Changes of points"),
        (name = "accounts", description = "Reads of one account. An account that was never opened is empty"),
        (name = "prices", description = "The price list"),
        (name = "requests", description = "The queue of postings that applications inserted"),
        (name = "jobs", description = "Nightly jobs, and whether all is well"),
        (name = "runs", description = "What became of the slots of jobs"),
        (name = "reports", description = "Reports to finance"),
        (name = "health", description = "Whether the daemon is at work, and its metrics"),
    )
)]
struct Description;

struct Security;

impl utoipa::Modify for Security {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        openapi.components.get_or_insert_default().add_security_scheme("token", SecurityScheme::Http(bearer));
    }
}

/// All routes with their description.
pub(super) fn router() -> OpenApiRouter<Server> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(metrics::metrics))
        .routes(routes!(openapi))
        .routes(routes!(postings::post))
        .routes(routes!(accounts::balance))
        .routes(routes!(accounts::check))
        .routes(routes!(accounts::holds))
        .routes(routes!(accounts::batches))
        .routes(routes!(accounts::entries))
        .routes(routes!(accounts::statement))
        .routes(routes!(prices::list))
        .routes(routes!(prices::cost))
        .routes(routes!(prices::estimate))
        .routes(routes!(requests::list))
        .routes(routes!(requests::one))
        .routes(routes!(requests::retry))
        .routes(routes!(requests::retry_all))
        .routes(routes!(jobs::status))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::job))
        .routes(routes!(jobs::pause))
        .routes(routes!(jobs::resume))
        .routes(routes!(jobs::run))
        .routes(routes!(jobs::runs))
        .routes(routes!(jobs::one_run))
        .routes(routes!(jobs::cancel))
        .routes(routes!(reports::list))
        .routes(routes!(reports::one))
        .routes(routes!(reports::document))
        .routes(routes!(reports::resend))
}

/// The description of the API, as the file docs/openapi.json has it.
pub fn description() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let (_, openapi) = router().split_for_parts();
        openapi.to_pretty_json().unwrap_or_default() + "\n"
    });
    &TEXT
}

/// This description.
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "health",
    responses((status = 200, description = "OpenAPI 3.1", body = Object), Refusals)
)]
async fn openapi(_: MayLook) -> Response {
    ([("content-type", "application/json")], description()).into_response()
}
