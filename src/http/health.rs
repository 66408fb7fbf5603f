//! `/livez` and `/readyz`: whether the daemon's loop moves, and whether it does its work.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use tokio::time::Instant;

use super::Server;

/// A loop that was silent for longer hangs: it wakes twice a minute at least.
const LONGEST_SILENCE: Duration = Duration::from_secs(90);

/// What the daemon's loop tells of itself.
#[derive(Debug)]
pub struct Pulse(Mutex<Beat>);

#[derive(Debug)]
struct Beat {
    last: Instant,
    /// Why the daemon does not do its work.
    not_ready: Option<String>,
}

impl Default for Pulse {
    fn default() -> Pulse {
        Pulse(Mutex::new(Beat { last: Instant::now(), not_ready: Some("the daemon is starting".to_owned()) }))
    }
}

impl Pulse {
    /// The loop moves; `not_ready` says why it does not do its work.
    pub fn beat(&self, not_ready: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Beat { last: Instant::now(), not_ready };
    }

    fn is_alive(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last.elapsed() <= LONGEST_SILENCE
    }

    pub(super) fn not_ready(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).not_ready.clone()
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
    let hangs = (!server.pulse().is_alive()).then(|| "the daemon's loop hangs".to_owned());
    let stops = server.is_stopping().then(|| "the daemon is stopping".to_owned());
    match stops.or(hangs).or_else(|| server.pulse().not_ready()) {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}
