//! The status page: rendered here, complete without a script, in the reader's language and the business's time zone.
//!
//! Every page needs a session, which a login with a token begins. A page holds no inline style or script, so that its
//! Content-Security-Policy allows none.

mod accounts;
mod assets;
mod charts;
mod jobs;
mod login;
mod orders;
mod overview;
mod render;
mod reports;
mod requests;
mod session;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use minijinja::context;

pub(super) use charts::Charts;
pub(super) use session::Sessions;

use super::Server;
use super::problem::Problem;
use render::Frame;

/// The largest form, in bytes.
const LARGEST_FORM: usize = 16 << 10;

/// What a page may load: from this server, and nothing inline.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// The pages and what they load.
pub(super) fn router() -> Router<Server> {
    Router::new()
        .route("/login", get(login::form).post(login::log_in))
        .route("/logout", post(login::log_out))
        .route("/assets/{name}", get(assets::asset))
        .route("/", get(overview::overview))
        .route("/jobs/{name}", get(jobs::job))
        .route("/runs", get(jobs::runs))
        .route("/runs/{run}", get(jobs::run))
        .route("/reports", get(reports::list))
        .route("/reports/{report}", get(reports::report))
        .route("/reports/{report}/document", get(reports::document))
        .route("/reports/{report}/charts/{name}", get(charts::chart))
        .route("/accounts", get(accounts::search))
        .route("/accounts/{user}", get(accounts::account))
        .route("/accounts/{user}/statement", get(accounts::statement))
        .route("/requests", get(requests::list))
        .route("/requests/{id}", get(requests::request))
        .route("/order", get(orders::confirm).post(orders::order))
        .route("/orders", get(orders::list))
        .layer(DefaultBodyLimit::max(LARGEST_FORM))
}

/// What an answer needs for the browser that asked: a problem becomes a page, and each page gets its headers.
pub(super) struct Dress {
    /// None for a program that asks for data.
    frame: Option<Frame>,
    known: Option<HeaderValue>,
}

impl Dress {
    pub(super) fn of_call(server: &Server, request: &Request) -> Dress {
        Dress {
            frame: is_for_people(request).then(|| Frame::of_call(server, request.headers(), request.uri())),
            known: request.headers().get(header::IF_NONE_MATCH).cloned(),
        }
    }

    pub(super) fn put_on(self, mut response: Response) -> Response {
        if let Some(frame) = self.frame {
            if let Some(problem) = response.extensions_mut().remove::<Problem>() {
                response = problem_page(&frame, &problem, response);
            }
            if let Some(cookie) = frame.language_cookie() {
                response.headers_mut().append(header::SET_COOKIE, cookie);
            }
        }
        if self.known.is_some() && self.known.as_ref() == response.headers().get(header::ETAG) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.body_mut() = Body::empty();
        }
        let kind = response.headers().get(header::CONTENT_TYPE);
        if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html")) {
            secure(response.headers_mut());
        }
        response
    }
}

/// The page of a problem, with what its answer says to the browser.
fn problem_page(frame: &Frame, problem: &Problem, answer: Response) -> Response {
    let status = answer.status();
    let content = context! { kind => kind_of(status), detail => problem.detail() };
    let mut response = (status, frame.page("problem.html", content)).into_response();
    for name in [header::RETRY_AFTER, header::ALLOW] {
        if let Some(value) = answer.headers().get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

/// Which heading a problem has.
fn kind_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "missing",
        StatusCode::FORBIDDEN => "forbidden",
        StatusCode::SERVICE_UNAVAILABLE => "away",
        status if status.is_client_error() => "malformed",
        _ => "failed",
    }
}

/// The headers of each page. A page that has a policy of its own keeps it.
fn secure(headers: &mut HeaderMap) {
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(POLICY));
    // With `no-referrer`, a browser would send forms with the origin `null`.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Language, Cookie"));
}

/// Whether a browser asks for a page, and no program for data.
fn is_for_people(request: &Request) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.contains("text/html") && !request.uri().path().starts_with("/v1/")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::accounts;
    use super::orders::Action;
    use crate::document::Tone;
    use crate::jobs::REGISTRY;
    use crate::language::Language;
    use crate::ledger::EntryType;
    use crate::messages::Messages;
    use crate::reports::statement::Form;
    use crate::scheduler::{Overlap, State, Trigger};
    use crate::{reports, requests};

    #[test]
    fn every_value_that_a_page_shows_has_its_words() {
        let mut keys: Vec<String> = Vec::new();
        let mut add = |prefix: &str, names: &[&str]| keys.extend(names.iter().map(|name| format!("{prefix}-{name}")));
        add("state", &State::ALL.iter().map(|state| state.as_str()).collect::<Vec<_>>());
        add("state", &requests::State::ALL.map(requests::State::as_str));
        add("state", &["paused", "waiting", "sending", "sent", "parked"]);
        add("trigger", &Trigger::ALL.iter().map(|trigger| trigger.as_str()).collect::<Vec<_>>());
        add("overlap", &[Overlap::Skip.to_string().as_str(), Overlap::Queue.to_string().as_str()]);
        add("form", &accounts::FORMS.map(Form::name));
        add("entry", &EntryType::ALL.map(EntryType::as_str));
        add("op", &["recharge", "consume", "refund", "void", "hold", "release"]);
        add("report", &reports::ALL);
        add("about", &REGISTRY.iter().map(|job| job.name).collect::<Vec<_>>());
        add("tone", &[Tone::Good, Tone::Attention, Tone::Bad].map(Tone::name));
        add("verdict", &["fine", "look", "down"]);
        add("total", &["recharged", "consumed", "expired", "refunded", "voided", "adjusted", "opening"]);
        add("page-nav", &["overview", "runs", "reports", "accounts", "requests", "orders"]);
        add("page-refused", &["wrong", "often", "scope"]);
        add("page-problem", &["missing", "forbidden", "away", "malformed", "failed"]);
        let codes = [
            "malformed",
            "invalid_points",
            "from_the_future",
            "unknown_source",
            "key_conflict",
            "unknown_entry",
            "before_the_ledger",
            "unknown_hold",
            "already_expired",
            "already_open",
            "exceeds_consumed",
            "nothing_left",
            "exceeds_recharge",
            "insufficient",
            "account_full",
            "account_missing",
            "account_damaged",
        ];
        add("refusal", &codes);
        add("counter", &["runs", "requests", "reports", "findings", "orders"]);
        for prefix in ["order", "order-about", "order-done"] {
            add(prefix, &Action::ALL.map(Action::as_str));
        }
        let messages = Messages::new(Language::English);
        let missing: Vec<&String> = keys.iter().filter(|key| messages.find(key, &[]).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
