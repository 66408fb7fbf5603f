//! Refusals as problem details (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio_postgres::error::{DbError, SqlState};
use utoipa::ToSchema;

use crate::access;
use crate::database;
use crate::errors;
use crate::ledger;

/// The media type of problems.
const PROBLEM_JSON: &str = "application/problem+json";

/// Why a call was refused, as RFC 9457 writes it. Members beyond these belong to the code.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// `urn:pointsd:` and the code.
    #[serde(rename = "type")]
    #[schema(example = "urn:pointsd:key_conflict")]
    kind: String,
    /// The HTTP status.
    #[schema(example = 409)]
    status: u16,
    /// The HTTP status in words.
    #[schema(example = "Conflict")]
    title: &'static str,
    /// The reason in one word, for programs.
    #[schema(example = "key_conflict")]
    code: &'static str,
    /// What was wrong, where, and what to do next.
    detail: String,
    #[serde(flatten)]
    #[schema(ignore)]
    more: Map<String, Value>,
    /// Seconds after which the call may be made again.
    #[serde(skip)]
    retry_after: Option<u32>,
}

impl Problem {
    /// A problem with this status, code and reason.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Problem {
        Problem {
            kind: format!("urn:pointsd:{code}"),
            status: status.as_u16(),
            title: status.canonical_reason().unwrap_or_default(),
            code,
            detail: detail.into(),
            more: Map::new(),
            retry_after: None,
        }
    }

    /// A call that cannot be understood.
    pub fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    /// There is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// The call may succeed a little later.
    pub fn unavailable(code: &'static str, detail: impl Into<String>) -> Problem {
        Problem { retry_after: Some(1), ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail) }
    }

    /// Something is wrong here, and no fault of the caller's. The log has the details.
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Problem {
        tracing::error!("a call over HTTP failed: {}", errors::chain(error));
        let detail = "the daemon failed to answer; its log says why";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// The same with another member.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Serialize) -> Problem {
        self.more.insert(member.to_owned(), serde_json::to_value(value).unwrap_or_default());
        self
    }

    /// The same, with the seconds after which the call may be made again.
    #[must_use]
    pub fn after(mut self, seconds: u32) -> Problem {
        self.retry_after = Some(seconds);
        self
    }

    /// The HTTP status.
    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// What was wrong, where, and what to do next.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// The database is away, or takes no writes.
    pub(super) fn database_away() -> Problem {
        let detail = "the database cannot be reached now, or takes no writes; make the call again later";
        Problem::unavailable("database_away", detail)
    }

    /// The database is away, or failed: `error` says which.
    fn of_database(error: &(dyn std::error::Error + 'static), is_transient: bool) -> Problem {
        if is_transient {
            tracing::debug!("a call over HTTP found the database away: {}", errors::chain(error));
            return Problem::database_away();
        }
        if was_cancelled(error) {
            let detail = "the database took too long over this call; ask for less, or make it again later";
            return Problem::unavailable("timeout", detail);
        }
        Problem::internal(error)
    }
}

/// Whether a statement was ended before its end, because it took too long or an administrator wanted it.
fn was_cancelled(error: &(dyn std::error::Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut answers = causes.filter_map(|cause| cause.downcast_ref::<DbError>());
    answers.any(|answer| *answer.code() == SqlState::QUERY_CANCELED)
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // For the page that a browser is shown instead.
        response.extensions_mut().insert(self);
        response
    }
}

impl From<database::Error> for Problem {
    fn from(error: database::Error) -> Problem {
        Problem::of_database(&error, error.is_transient())
    }
}

impl From<tokio_postgres::Error> for Problem {
    fn from(error: tokio_postgres::Error) -> Problem {
        Problem::of_database(&error, database::is_transient(&error))
    }
}

impl From<ledger::Error> for Problem {
    fn from(error: ledger::Error) -> Problem {
        Problem::from(&error)
    }
}

impl From<&ledger::Error> for Problem {
    fn from(error: &ledger::Error) -> Problem {
        match error {
            // No other parameter asks for what the books said then.
            ledger::Error::Future { .. } => Problem::bad_request(format!("as_of: {error}")),
            ledger::Error::Uncommitted { .. } => Problem::unavailable("uncommitted", error.to_string()),
            ledger::Error::Stopped => Problem::unavailable("stopping", error.to_string()),
            error => Problem::of_database(error, error.is_transient()),
        }
    }
}

impl From<access::Error> for Problem {
    fn from(error: access::Error) -> Problem {
        Problem::of_database(&error, error.is_transient())
    }
}

macro_rules! from_errors {
    ($($error:ty),*) => {
        $(impl From<$error> for Problem {
            fn from(error: $error) -> Problem {
                Problem::of_database(&error, error.is_transient())
            }
        })*
    };
}
from_errors!(crate::status::Error, crate::scheduler::Error, crate::reports::Error);
