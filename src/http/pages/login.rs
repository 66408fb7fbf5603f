//! Login and logout.

use axum::extract::rejection::FormRejection;
use axum::extract::{Form, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use minijinja::context;
use serde::Deserialize;
use tokio::time::Instant;

use super::render::Frame;
use super::session::{LONGEST_SESSION, Signed, check_origin, cookie, cookie_name, forged, is_same};
use crate::access::{self, Scope};
use crate::http::Server;
use crate::http::api::input::Params;
use crate::http::problem::Problem;

/// Holds what the login form holds as well: a page of another site can read neither.
const FORM_COOKIE: &str = "pointsd_login";

/// Where to go after the login.
#[derive(Deserialize)]
pub(super) struct Next {
    #[serde(default)]
    next: String,
}

/// The login form as it is sent.
#[derive(Deserialize)]
pub(super) struct Login {
    token: String,
    csrf: String,
    #[serde(default)]
    next: String,
}

/// `GET /login`
pub(super) async fn form(
    State(server): State<Server>,
    headers: HeaderMap,
    uri: Uri,
    Params(Next { next }): Params<Next>,
) -> Result<Response, Problem> {
    show(&Frame::of_call(&server, &headers, &uri), &headers, &next, StatusCode::OK, "")
}

/// The form, with why the last try failed.
fn show(frame: &Frame, headers: &HeaderMap, next: &str, status: StatusCode, why: &str) -> Result<Response, Problem> {
    // Another login form of the browser stays valid.
    let sign = match cookie(headers, FORM_COOKIE).filter(|sign| sign.len() >= 43) {
        Some(sign) => sign.to_owned(),
        None => access::random_text()?,
    };
    let page = frame.page("login.html", context! { sign, next => on_this_host(next), why });
    let mut response = (status, page).into_response();
    set_cookie(response.headers_mut(), frame, FORM_COOKIE, &sign, None);
    Ok(response)
}

/// `POST /login`
pub(super) async fn log_in(
    State(server): State<Server>,
    headers: HeaderMap,
    uri: Uri,
    login: Result<Form<Login>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(login) = login.map_err(|_| forged())?;
    let frame = Frame::of_call(&server, &headers, &uri);
    check_origin(&headers)?;
    if !cookie(&headers, FORM_COOKIE).is_some_and(|sign| is_same(&login.csrf, sign)) {
        return Err(forged());
    }
    let refuse = |status, why| show(&frame, &headers, &login.next, status, why);
    let holder = match server.holder_of(login.token.trim()).await {
        Ok(holder) => holder,
        Err(problem) => match problem.status() {
            status @ StatusCode::UNAUTHORIZED => return refuse(status, "wrong"),
            status @ StatusCode::TOO_MANY_REQUESTS => return refuse(status, "often"),
            _ => return Err(problem),
        },
    };
    if !holder.scopes.contains(&Scope::Read) {
        return refuse(StatusCode::FORBIDDEN, "scope");
    }
    let id = server.sessions().begin(holder.token, Instant::now())?;
    let mut response = Redirect::to(on_this_host(&login.next)).into_response();
    let seconds = LONGEST_SESSION.as_secs();
    set_cookie(response.headers_mut(), &frame, cookie_name(frame.is_secure), &id, Some(seconds));
    Ok(response)
}

/// What a logout needs besides its sign.
#[derive(Deserialize)]
pub(super) struct Nothing {}

/// `POST /logout`
pub(super) async fn log_out(Signed { visitor, form: Nothing {} }: Signed<Nothing>) -> Response {
    visitor.server.sessions().end(&visitor.session);
    let mut response = Redirect::to("/login").into_response();
    set_cookie(response.headers_mut(), &visitor.frame, cookie_name(visitor.frame.is_secure), "", Some(0));
    response
}

/// The path if it is one of this server; the overview otherwise.
fn on_this_host(next: &str) -> &str {
    let is_path = next.starts_with('/') && !next.starts_with("//");
    let is_plain = next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_path && is_plain { next } else { "/" }
}

fn set_cookie(headers: &mut HeaderMap, frame: &Frame, name: &str, value: &str, seconds: Option<u64>) {
    let ends = seconds.map(|seconds| format!("; Max-Age={seconds}")).unwrap_or_default();
    let secure = if frame.is_secure { "; Secure" } else { "" };
    let cookie = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict{ends}{secure}");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        headers.append(header::SET_COOKIE, cookie);
    }
}
