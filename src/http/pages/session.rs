//! Sessions of browsers. They are in memory, and each call checks the token again: a revoked one ends its sessions at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Form, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use chrono::Utc;
use minijinja::Value;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use super::render::Frame;
use crate::access::{self, Holder, Scope};
use crate::http::Server;
use crate::http::problem::Problem;

/// How long a session lasts.
pub(super) const LONGEST_SESSION: Duration = Duration::from_secs(12 * 3600);

/// Sessions at a time. One more ends the oldest.
const MOST_SESSIONS: usize = 1_000;

/// All sessions, by the hash of what their cookies hold.
#[derive(Default)]
pub(in crate::http) struct Sessions(Mutex<HashMap<[u8; 32], Session>>);

struct Session {
    /// The number of the token that began it.
    token: i32,
    /// What each form of the session holds.
    csrf: Arc<str>,
    ends: Instant,
    /// What the last order came to, for the next page.
    said: Option<String>,
}

impl Sessions {
    /// Begins a session of a token, and returns the value of its cookie.
    pub(super) fn begin(&self, token: i32, now: Instant) -> Result<String, access::Error> {
        let (id, csrf) = (access::random_text()?, access::random_text()?);
        let mut sessions = self.lock();
        sessions.retain(|_, session| session.ends > now);
        if sessions.len() >= MOST_SESSIONS {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.ends).map(|(key, _)| *key);
            oldest.and_then(|key| sessions.remove(&key));
        }
        let session = Session { token, csrf: csrf.into(), ends: now + LONGEST_SESSION, said: None };
        sessions.insert(key_of(&id), session);
        Ok(id)
    }

    /// Ends the session of a cookie.
    pub(super) fn end(&self, id: &str) {
        self.lock().remove(&key_of(id));
    }

    /// Keeps a sentence for the session's next page.
    fn say(&self, id: &str, sentence: String) {
        if let Some(session) = self.lock().get_mut(&key_of(id)) {
            session.said = Some(sentence);
        }
    }

    fn take_said(&self, id: &str) -> Option<String> {
        self.lock().get_mut(&key_of(id))?.said.take()
    }

    fn find(&self, id: &str, now: Instant) -> Option<(i32, Arc<str>)> {
        let sessions = self.lock();
        let session = sessions.get(&key_of(id)).filter(|session| session.ends > now)?;
        Some((session.token, Arc::clone(&session.csrf)))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looking up a hash takes no time that tells of the cookie.
fn key_of(id: &str) -> [u8; 32] {
    Sha256::digest(id.as_bytes()).into()
}

/// The name of the session's cookie. The prefix keeps other hosts of the domain from setting it.
pub(super) fn cookie_name(is_secure: bool) -> &'static str {
    if is_secure { "__Host-pointsd_session" } else { "pointsd_session" }
}

/// The value of a cookie.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|line| line.split(';')).find_map(|pair| {
        let (found, value) = pair.trim().split_once('=')?;
        (found == name).then_some(value)
    })
}

/// A reader with a session, whose token may read.
pub(super) struct Visitor {
    pub frame: Frame,
    pub holder: Holder,
    pub server: Server,
    pub session: String,
}

impl Visitor {
    /// The visitor of a call; None without a session, or where its token is no longer valid.
    async fn of_call(parts: &Parts, server: &Server) -> Result<Option<Visitor>, Problem> {
        let mut frame = Frame::of_call(server, &parts.headers, &parts.uri);
        let Some(id) = cookie(&parts.headers, cookie_name(frame.is_secure)) else { return Ok(None) };
        let Some((token, csrf)) = server.sessions().find(id, Instant::now()) else { return Ok(None) };
        let holder = server.ledger()?.tokens.holder(token, Utc::now()).await?;
        let Some(holder) = holder.filter(|holder| holder.scopes.contains(&Scope::Read)) else {
            server.sessions().end(id);
            return Ok(None);
        };
        frame.visitor = Some(holder.name.clone());
        frame.may_operate = holder.scopes.contains(&Scope::Operate);
        frame.csrf = csrf.to_string();
        // A page that refreshes itself and the pictures of a page show no sentence.
        let is_page = parts.headers.get("sec-fetch-dest").is_none_or(|to| to == "document");
        if is_page && parts.method == axum::http::Method::GET {
            frame.said = server.sessions().take_said(id);
        }
        Ok(Some(Visitor { frame, holder, server: server.clone(), session: id.to_owned() }))
    }

    /// A page for the visitor.
    pub fn page(&self, template: &str, context: Value) -> Response {
        self.frame.page(template, context)
    }

    /// Sends the visitor on to a page, which says this sentence first.
    pub fn send_on(&self, path: &str, sentence: String) -> Response {
        self.server.sessions().say(&self.session, sentence);
        Redirect::to(path).into_response()
    }

    /// Refuses a visitor that may only read.
    pub fn check_may_operate(&self) -> Result<(), Problem> {
        if self.frame.may_operate {
            return Ok(());
        }
        let detail = format!("the token {} has not the scope operate", self.holder.name);
        Err(Problem::new(StatusCode::FORBIDDEN, "scope", detail))
    }
}

impl FromRequestParts<Server> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, server: &Server) -> Result<Visitor, Response> {
        match Visitor::of_call(parts, server).await {
            Ok(Some(visitor)) => Ok(visitor),
            Ok(None) => Err(to_login(parts)),
            Err(problem) => Err(problem.into_response()),
        }
    }
}

/// To the login, and then back to the page.
fn to_login(parts: &Parts) -> Response {
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let login = match path {
        "/" => "/login".to_owned(),
        _ if parts.method != axum::http::Method::GET => "/login".to_owned(),
        path => format!("/login?next={}", super::render::percent(path)),
    };
    Redirect::to(&login).into_response()
}

/// A form that this server gave to the session that sends it.
pub(super) struct Signed<T> {
    pub visitor: Visitor,
    pub form: T,
}

/// What each form holds besides its fields.
#[derive(serde::Deserialize)]
struct Fields<T> {
    csrf: String,
    #[serde(flatten)]
    form: T,
}

impl<T: DeserializeOwned> FromRequest<Server> for Signed<T> {
    type Rejection = Response;

    async fn from_request(request: Request, server: &Server) -> Result<Signed<T>, Response> {
        let (mut parts, body) = request.into_parts();
        let visitor = Visitor::from_request_parts(&mut parts, server).await?;
        check_origin(&parts.headers).map_err(IntoResponse::into_response)?;
        let read = Form::<Fields<T>>::from_request(Request::from_parts(parts, body), server).await;
        let Form(Fields { csrf, form }) = read.map_err(|_| forged().into_response())?;
        if !is_same(&csrf, &visitor.frame.csrf) {
            return Err(forged().into_response());
        }
        Ok(Signed { visitor, form })
    }
}

/// Compares in a time that tells nothing of where the two differ.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    !other.is_empty() && bool::from(one.as_bytes().ct_eq(other.as_bytes()))
}

/// Why a form is not accepted.
pub(super) fn forged() -> Problem {
    let detail = "the form did not come from a page of the same login; go back, load the page again, and send it again";
    Problem::new(StatusCode::FORBIDDEN, "forged", detail)
}

/// Refuses a form that a page of another site sent, by what browsers say of it.
pub(super) fn check_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let is_ours = match (text("sec-fetch-site"), text("origin"), text("host")) {
        (Some(site), ..) => site == "same-origin",
        (None, Some(origin), Some(host)) => origin.split_once("://").is_some_and(|(_, from)| from == host),
        _ => false,
    };
    if is_ours { Ok(()) } else { Err(forged()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_after_twelve_hours_or_when_it_is_the_oldest_of_too_many() {
        let (sessions, begin) = (Sessions::default(), Instant::now());
        let second = Duration::from_secs(1);
        let ids: Vec<String> =
            (0..1_000).map(|nth| sessions.begin(nth, begin + second * nth as u32).unwrap()).collect();
        let end = begin + Duration::from_secs(12 * 3600);
        let found = |nth: usize, now: Instant| sessions.find(&ids[nth], now).map(|(token, _)| token);
        assert_eq!((found(0, end - second), found(0, end), found(1, end)), (Some(0), None, Some(1)));
        sessions.begin(1_000, end - second).unwrap();
        assert_eq!((found(0, end - second), found(1, end - second), sessions.lock().len()), (None, Some(1), 1_000));
        // Those that are over make room first.
        sessions.begin(1_001, end + 500 * second).unwrap();
        assert_eq!((found(500, end + 500 * second), found(501, end + 500 * second)), (None, Some(501)));
        assert_eq!(sessions.lock().len(), 501);
    }
}
