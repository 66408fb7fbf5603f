//! What calls give: parameters, places and bodies. What is wrong with them is a 400 that names it.

use std::error::Error;

use axum::body::to_bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use chrono::{DateTime, Utc};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use super::super::{Problem, Server};
use crate::time::parse_time;

/// The most items of a page.
const MOST_ITEMS: u32 = 1_000;

/// The items of a page where the call names no number.
const USUAL_ITEMS: u32 = 100;

/// The largest body of an order, in bytes.
const LARGEST_ORDER: usize = 16 << 10;

/// The parameters behind the `?`.
pub(in crate::http) struct Params<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Server> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, server: &Server) -> Result<Params<T>, Problem> {
        let params = Query::<T>::from_request_parts(parts, server).await;
        params.map(|Query(params)| Params(params)).map_err(|error| bad_params(&error))
    }
}

/// Says what is wrong with the parameters behind the `?`.
pub(in crate::http) fn bad_params(error: &QueryRejection) -> Problem {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    Problem::bad_request(format!("the parameters behind the ?: {cause}"))
}

/// The part of the path that names a thing.
pub(in crate::http) struct Place<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Server> for Place<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, server: &Server) -> Result<Place<T>, Problem> {
        let Path(place) = Path::<T>::from_request_parts(parts, server)
            .await
            .map_err(|error| Problem::bad_request(error.body_text()))?;
        Ok(Place(place))
    }
}

/// A JSON body; without one, the defaults.
pub(super) struct Order<T>(pub T);

impl<T: DeserializeOwned + Default> FromRequest<Server> for Order<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Server) -> Result<Order<T>, Problem> {
        let body = to_bytes(request.into_body(), LARGEST_ORDER).await.map_err(|_| {
            Problem::bad_request(format!("the body was cut off, or has more than {LARGEST_ORDER} bytes"))
        })?;
        if body.trim_ascii().is_empty() {
            return Ok(Order(T::default()));
        }
        let order = serde_json::from_slice(&body);
        order.map(Order).map_err(|error| Problem::bad_request(format!("the body cannot be read: {error}")))
    }
}

/// An instant as RFC 3339.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instant(pub DateTime<Utc>);

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Instant, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_time(&text).map(Instant).map_err(D::Error::custom)
    }
}

/// How many items a page is to have.
pub(super) fn items(limit: Option<u32>) -> Result<u32, Problem> {
    match limit.unwrap_or(USUAL_ITEMS) {
        limit @ 1..=MOST_ITEMS => Ok(limit),
        limit => Err(Problem::bad_request(format!("limit: {limit} is not between 1 and {MOST_ITEMS}"))),
    }
}

/// One more item than the page has, which tells whether there is a next page.
pub(in crate::http) fn one_more(limit: u32) -> u32 {
    limit.saturating_add(1)
}

/// The page of a list that was read with [`one_more`]; `number` is an item's place in it.
pub(in crate::http) fn page<T>(mut items: Vec<T>, limit: u32, number: impl Fn(&T) -> i64) -> crate::ledger::Page<T> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(number);
    crate::ledger::Page { items, next }
}

/// A whole list.
pub(super) fn whole<T>(items: Vec<T>) -> crate::ledger::Page<T> {
    crate::ledger::Page { items, next: None }
}

/// The value of this name, or a 400 that names the parameter and the values that there are.
pub(super) fn named<T: Copy>(
    parameter: &str,
    given: Option<&str>,
    all: &[T],
    name: fn(T) -> &'static str,
) -> Result<Option<T>, Problem> {
    let Some(given) = given else { return Ok(None) };
    let found = all.iter().copied().find(|value| name(*value) == given);
    found.map(Some).ok_or_else(|| {
        let names = all.iter().map(|value| name(*value)).collect::<Vec<_>>().join(", ");
        Problem::bad_request(format!("{parameter}: there is no {given}; there are {names}"))
    })
}

/// The refusals that every call of the API knows.
#[derive(utoipa::IntoResponses)]
#[allow(dead_code, reason = "they only describe what the handlers answer")]
pub(in crate::http) enum Refusals {
    /// A parameter or the body is wrong; `detail` names it.
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(Problem),
    /// No token, or a wrong one.
    #[response(status = 401, content_type = "application/problem+json")]
    NoToken(Problem),
    /// The token has not the scope.
    #[response(status = 403, content_type = "application/problem+json")]
    Scope(Problem),
    /// There is no such thing.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
    /// Too many wrong tokens.
    #[response(status = 429, content_type = "application/problem+json")]
    TooMany(Problem),
    /// Overloaded, or the database is away; call again after `Retry-After` seconds.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Problem),
}
