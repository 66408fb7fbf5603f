//! The record of orders: each call that operates is written down with the name of its token, also one that is refused.

use axum::http::StatusCode;

use super::super::{Problem, Server};
use crate::access::{self, Holder};

/// Writes an order down, and what became of it.
pub(super) async fn record(
    server: &Server,
    holder: &Holder,
    (action, subject): (&str, &str),
    outcome: &str,
) -> Result<(), Problem> {
    let client = server.reading().await?;
    Ok(access::record(&client, holder, action, subject, outcome).await?)
}

/// Writes down that an order was refused, and returns the refusal.
pub(super) async fn refuse(
    server: &Server,
    holder: &Holder,
    order: (&str, &str),
    status: StatusCode,
    (code, detail): (&'static str, String),
) -> Problem {
    match record(server, holder, order, &format!("refused: {detail}")).await {
        Ok(()) => Problem::new(status, code, detail),
        Err(problem) => problem,
    }
}
