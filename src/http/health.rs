//! `/livez` and `/readyz`: whether the daemon's loop moves, and whether it does its work.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use tokio::time::Instant;

use super::Server;

/// A loop that was silent for longer hangs: it wakes twice a minute at least.
const LONGEST_SILENCE: Duration = Duration::from_secs(90);

/// What `/readyz` says of a standby, or of a database whose sessions are read-only.
const READ_ONLY: &str = "the database takes no writes now: it is a standby, or default_transaction_read_only is on";

/// What the daemon's loop tells of itself.
#[derive(Debug)]
pub struct Pulse(Mutex<Beat>);

#[derive(Debug)]
struct Beat {
    last: Instant,
    readiness: Readiness,
}

/// Whether the daemon does its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It does.
    Ready,
    /// The database can be read and not written.
    ReadOnly,
    /// No slot is begun, for a reason that the log has. Calls are answered.
    Stalled,
    /// It does nothing, for this reason.
    Not(&'static str),
}

impl Default for Pulse {
    fn default() -> Pulse {
        Pulse(Mutex::new(Beat { last: Instant::now(), readiness: Readiness::Not("the daemon is starting") }))
    }
}

impl Pulse {
    /// The loop moves.
    pub fn beat(&self, readiness: Readiness) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Beat { last: Instant::now(), readiness };
    }

    fn is_alive(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last.elapsed() <= LONGEST_SILENCE
    }

    pub(super) fn readiness(&self) -> Readiness {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).readiness
    }
}

/// Whether the daemon's loop moves.
#[utoipa::path(
    get, path = "/livez", tag = "health",
    responses((status = 200, description = "it moves", body = String), (status = 503, description = "it hangs", body = String))
)]
pub(super) async fn livez(State(server): State<Server>) -> (StatusCode, &'static str) {
    match server.pulse().is_alive() {
        true => (StatusCode::OK, "alive\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "the daemon's loop hangs\n"),
    }
}

/// Whether the daemon does its work: the schema is there, the database answers, the schedule runs.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    responses((status = 200, description = "it does", body = String), (status = 503, description = "why not", body = String))
)]
pub(super) async fn readyz(State(server): State<Server>) -> (StatusCode, String) {
    let hangs = (!server.pulse().is_alive()).then_some("the daemon's loop hangs");
    let stops = server.is_stopping().then_some("the daemon is stopping");
    let not_ready = match server.pulse().readiness() {
        Readiness::Ready => None,
        Readiness::ReadOnly => Some(READ_ONLY),
        Readiness::Stalled => Some("the schedule stands still; the log says why"),
        Readiness::Not(why) => Some(why),
    };
    match stops.or(hangs).or(not_ready) {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}
