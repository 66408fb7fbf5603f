//! The HTTP server of the daemon: the API under `/v1`, health, metrics and the status page.
//!
//! It is there before the database is, so that `/readyz` can say what the daemon waits for. A call that needs the database meanwhile
//! is answered with 503.

pub mod api;
mod auth;
mod health;
mod listen;
mod metrics;
mod pages;
mod problem;
mod reading;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use governor::{DefaultDirectRateLimiter, Quota};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::info;

pub use auth::{MayLook, MayOperate, MayPost, MayRead, Peer};
pub use health::{Pulse, Readiness};
pub use problem::Problem;

use crate::access::{Holder, Tokens};
use crate::config::Config;
use crate::database::Database;
use crate::ledger::{Poster, Rules};
use crate::metrics::{Metrics, NO_ROUTE, Way};
use crate::scheduler::Board;
use listen::Listener;

/// The path of postings. A posting that is sent again replays, so it needs no care when its caller leaves.
const POSTINGS: &str = "/v1/postings";

/// Documents that are loaded and rendered at a time. Each takes some megabytes, and a core.
const RENDERINGS: usize = 4;

/// The longest time for an answer, but for streams, which go on as long as they move.
const LONGEST_CALL: Duration = Duration::from_secs(30);

/// How long a call waits for transactions that write entries. It ends before the call does, so that the answer can name one of them.
const LONGEST_CUTOFF: Duration = Duration::from_secs(20);

/// Bodies of calls that are in memory at a time, in units of [`BODY_UNIT`]: 64 MiB.
const BODY_UNITS: usize = 64 << 10;

/// The unit in which the memory of bodies is counted, in bytes.
const BODY_UNIT: usize = 1 << 10;

/// Streams of postings at a time. Each has a thread that reads it.
const STREAMS: usize = 16;

/// How often the token of a stream is checked.
const CHECK_TOKEN_EVERY: Duration = Duration::from_secs(1);

/// Wrong tokens a second that are answered with 401. Further ones are told to wait.
const GUESSES: std::num::NonZeroU32 = std::num::NonZeroU32::MIN.saturating_add(9);

/// How long calls under way may take when the daemon stops.
const LONGEST_DRAIN: Duration = Duration::from_secs(40);

/// A document has inline styles and pictures, as a mail does, perhaps by a template of the business. It may do nothing else.
const DOCUMENT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; form-action 'none'; \
                               frame-ancestors 'none'; base-uri 'none'";

/// What the handlers share. Cheap to clone.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    config: watch::Receiver<Arc<Config>>,
    rules: watch::Receiver<Arc<Rules>>,
    ledger: OnceLock<Ledger>,
    pulse: Arc<Pulse>,
    metrics: Arc<Metrics>,
    guesses: DefaultDirectRateLimiter,
    bodies: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    sessions: pages::Sessions,
    charts: pages::Charts,
    reads: Arc<Semaphore>,
    renderings: Arc<Semaphore>,
    runs: TaskTracker,
    stop: CancellationToken,
}

/// The database and what works on it.
pub(crate) struct Ledger {
    pub database: Database,
    pub tokens: Tokens,
    /// The daemon's runs under way, those of calls among them.
    pub board: Arc<Board>,
    poster: Mutex<(Arc<Rules>, Poster)>,
}

/// A server that is listening.
pub struct Running {
    server: Server,
    /// The task that serves the calls.
    calls: TaskTracker,
}

impl Server {
    /// Listens where the configuration says; None where it says nothing.
    ///
    /// # Errors
    /// An address that cannot be listened on, or a certificate that cannot be used.
    pub async fn start(
        config: watch::Receiver<Arc<Config>>,
        rules: watch::Receiver<Arc<Rules>>,
        pulse: Arc<Pulse>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> anyhow::Result<Option<Running>> {
        let http = config.borrow().http.clone();
        // The other connections are for the daemon's own work.
        let reads = (config.borrow().database.pool_size / 2).max(1);
        let Some(listen) = &http.listen else { return Ok(None) };
        let listener =
            Listener::bind(listen).await.with_context(|| format!("http.listen: {listen} cannot be listened on"))?;
        let tls = http.tls.as_ref().map(listen::tls).transpose()?;
        let server = Server(Arc::new(Inner {
            config,
            rules,
            ledger: OnceLock::new(),
            pulse,
            metrics,
            guesses: DefaultDirectRateLimiter::direct(Quota::per_second(GUESSES)),
            bodies: Arc::new(Semaphore::new(BODY_UNITS)),
            streams: Arc::new(Semaphore::new(STREAMS)),
            sessions: pages::Sessions::default(),
            charts: pages::Charts::default(),
            reads: Arc::new(Semaphore::new(reads)),
            renderings: Arc::new(Semaphore::new(RENDERINGS)),
            runs: TaskTracker::new(),
            stop,
        }));
        let address = listener.address();
        info!(address, tls = tls.is_some(), "listening for HTTP on {address}");
        let calls = TaskTracker::new();
        calls.spawn(listener.serve(server.clone(), tls));
        calls.close();
        Ok(Some(Running { server, calls }))
    }

    fn router(&self) -> Router {
        let (router, _) = api::router().split_for_parts();
        router
            .merge(pages::router())
            .fallback(async || {
                Problem::not_found("there is nothing at this address; /v1/openapi.json lists what there is")
            })
            .method_not_allowed_fallback(async || {
                Problem::new(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "method",
                    "this address has another method; see /v1/openapi.json",
                )
            })
            .layer(CatchPanicLayer::custom(|_| {
                Problem::internal(&std::io::Error::other("a handler panicked; the message is above")).into_response()
            }))
            .layer(middleware::from_fn_with_state(self.clone(), surround))
            .with_state(self.clone())
    }

    /// The configuration as it is now.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.0.config.borrow())
    }

    /// The database and what works on it.
    ///
    /// # Errors
    /// 503 while the daemon waits for the database.
    pub(crate) fn ledger(&self) -> Result<&Ledger, Problem> {
        let ledger = self.0.ledger.get().filter(|_| !matches!(self.pulse().readiness(), Readiness::Not(_)));
        ledger.ok_or_else(Problem::database_away)
    }

    /// The poster for the rules as they are now.
    ///
    /// # Errors
    /// 503 while the daemon waits for the database, or the database takes no writes.
    pub(crate) fn poster(&self) -> Result<Poster, Problem> {
        let ledger = self.ledger()?;
        if self.pulse().readiness() == Readiness::ReadOnly {
            return Err(Problem::database_away());
        }
        let rules = Arc::clone(&self.0.rules.borrow());
        let mut current = ledger.poster.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current.0, &rules) {
            // Calls under way hold the old one until they are answered.
            *current = (Arc::clone(&rules), self.start_poster(&ledger.database, &rules));
        }
        Ok(current.1.clone())
    }

    fn start_poster(&self, database: &Database, rules: &Arc<Rules>) -> Poster {
        Poster::start_for_calls(database, rules, Poster::lanes(), &self.0.metrics.observer(Way::Http))
    }

    /// Room in memory for so many units of a body.
    ///
    /// # Errors
    /// 503 where there is none.
    pub(crate) fn room(&self, units: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let detail = "too many calls are under way; send it again later";
        let room = Arc::clone(&self.0.bodies).try_acquire_many_owned(units);
        room.map_err(|_| Problem::unavailable("overloaded", detail))
    }

    /// Waits until a token is no longer valid. One that cannot be checked, because the database is away, is taken for valid.
    pub(crate) async fn until_invalid(&self, holder: &Holder) {
        let mut every = tokio::time::interval(CHECK_TOKEN_EVERY);
        loop {
            every.tick().await;
            let Ok(ledger) = self.ledger() else { continue };
            if let Ok(None) = ledger.tokens.holder(holder.token, Utc::now()).await {
                return;
            }
        }
    }

    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.0.stop
    }

    fn sessions(&self) -> &pages::Sessions {
        &self.0.sessions
    }

    fn charts(&self) -> &pages::Charts {
        &self.0.charts
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    fn pulse(&self) -> &Pulse {
        &self.0.pulse
    }

    fn is_stopping(&self) -> bool {
        self.0.stop.is_cancelled()
    }

    fn guesses(&self) -> &DefaultDirectRateLimiter {
        &self.0.guesses
    }
}

impl Running {
    /// Calls that need the database are answered from now on. The runs that they begin stand on `board`.
    pub fn open(&self, database: &Database, board: &Arc<Board>) {
        let rules = Arc::clone(&self.server.0.rules.borrow());
        let poster = Mutex::new((Arc::clone(&rules), self.server.start_poster(database, &rules)));
        let (database, tokens, board) = (database.clone(), Tokens::new(database), Arc::clone(board));
        let ledger = Ledger { database, tokens, board, poster };
        // It is opened once.
        let _ = self.server.0.ledger.set(ledger);
    }

    /// Waits for the calls under way, after the daemon was told to stop.
    pub async fn calls_ended(&self) {
        self.calls.wait().await;
    }

    /// Waits for them, and for the runs that they began, however long these take.
    pub async fn runs_ended(&self) {
        self.calls_ended().await;
        self.server.0.runs.close();
        self.server.0.runs.wait().await;
    }
}

/// Surrounds each call: dresses the answer for a browser, and counts it. All in one layer, because each layer clones the ones
/// within for each call.
async fn surround(State(server): State<Server>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let dress = pages::Dress::of_call(&server, &request);
    let response = dress.put_on(guard(request, next).await);
    let route = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    server.metrics().http_answered(method.as_str(), route, response.status().as_u16(), began.elapsed());
    response
}

/// Bounds the time of a call, and adds the headers that all answers have.
///
/// An order goes on when its caller leaves or the time is over, so that one that was carried out is also written down.
async fn guard(request: Request, next: Next) -> Response {
    let (posts, orders) = (request.uri().path() == POSTINGS, request.method() == Method::POST);
    let late = || {
        let detail = match (posts, orders) {
            (true, _) => {
                "the call took too long, and may have been posted: send it again under the same key, then it replays"
            }
            (false, true) => "the call took too long, and goes on: look whether it was done before you make it again",
            (false, false) => "the call took too long; ask for less, or make it again later",
        };
        Problem::unavailable("timeout", detail).into_response()
    };
    let answer = if orders && !posts {
        let call = tokio::spawn(next.run(request));
        let failed = |error: JoinError| Problem::internal(&error).into_response();
        tokio::time::timeout(LONGEST_CALL, call).await.map(|answer| answer.unwrap_or_else(failed))
    } else {
        tokio::time::timeout(LONGEST_CALL, next.run(request)).await
    };
    let mut response = answer.unwrap_or_else(|_| late());
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
