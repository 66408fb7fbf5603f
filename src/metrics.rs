//! The values behind `/metrics`, as Prometheus text.
//!
//! - What this process does is counted as it happens: groups of postings ([`Metrics::observer`]) and HTTP requests
//!   ([`Metrics::http_answered`]).
//! - What the database holds is [collected](Metrics::collect) every 15 s in the background. [`Metrics::render`] shows the values
//!   that were collected last, with the time of that, so a scrape never waits for the database.
//!
//! Every label has few values: no user, no key and no other text of a caller is one. A source that the configuration does not
//! name is shown as `other`.

mod collect;
mod snapshot;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::database::Database;
use crate::ledger::{Error, GroupObserver, Posting, Reply};
use snapshot::Collected;

/// The media type of what [`Metrics::render`] returns.
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// A request for a path that no route has.
pub const NO_ROUTE: &str = "none";

/// Postings in a group: one, a few, or up to the largest group.
const GROUP_SIZES: [f64; 8] = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0];

/// Seconds, from a commit on a fast disk to a database that was away for a minute.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// The outcome of the postings of a group that failed. The other outcomes are the words of [`Reply::status`].
const FAILED: &str = "failed";

/// The way on which postings reached this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// The HTTP API.
    Http,
    /// The queue of requests.
    Queue,
}

type Labels<const N: usize> = [(&'static str, &'static str); N];
type Histograms<S> = Family<S, Histogram, fn() -> Histogram>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HttpLabels {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: &'static str,
    route: String,
}

/// The metrics of a daemon.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    postings: Family<Labels<3>, Counter>,
    group_size: Histograms<Labels<1>>,
    group_seconds: Histograms<Labels<1>>,
    http_requests: Family<HttpLabels, Counter>,
    http_seconds: Histograms<RouteLabels>,
    collected: Collected,
    started: Instant,
}

impl Metrics {
    /// Metrics with nothing counted and nothing collected yet.
    pub fn new() -> Arc<Metrics> {
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS);
        let sizes: fn() -> Histogram = || Histogram::new(GROUP_SIZES);
        let mut metrics = Metrics {
            registry: Registry::with_prefix("pointsd"),
            postings: Family::default(),
            group_size: Family::new_with_constructor(sizes),
            group_seconds: Family::new_with_constructor(seconds),
            http_requests: Family::default(),
            http_seconds: Family::new_with_constructor(seconds),
            collected: Collected::default(),
            started: Instant::now(),
        };
        metrics.register();
        Arc::new(metrics)
    }

    /// The names and what each means. A counter gets its `_total` when it is written.
    fn register(&mut self) {
        let registry = &mut self.registry;
        let build = Info::new([
            ("version", env!("CARGO_PKG_VERSION")),
            ("commit", option_env!("POINTSD_BUILT_FROM_COMMIT").unwrap_or("unknown")),
        ]);
        registry.register("build", "The version and the commit of this program", build);
        registry.register(
            "postings",
            "Postings that this daemon was asked for since it started, by the way they came, their kind and their outcome",
            self.postings.clone(),
        );
        registry.register("group_postings", "Postings in one transaction of the ledger", self.group_size.clone());
        registry.register(
            "group_duration_seconds",
            "Time from the begin of a group of postings to its commit, with its repetitions",
            self.group_seconds.clone(),
        );
        registry.register(
            "http_requests",
            "HTTP requests answered since this daemon started, by method, route and status",
            self.http_requests.clone(),
        );
        registry.register(
            "http_request_duration_seconds",
            "Time from the head of an HTTP request to the head of its answer",
            self.http_seconds.clone(),
        );
        registry.register_collector(Box::new(self.collected.clone()));
    }

    /// All metrics in the text format of Prometheus.
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        // Writing to a text cannot fail.
        prometheus_text::encode(&mut text, &self.registry).unwrap_or_default();
        text
    }

    /// What all accounts owe together, by their entries up to an instant. None before it was collected first.
    pub fn arrears(&self) -> Option<(DateTime<Utc>, i64)> {
        self.collected.arrears()
    }

    /// Counts the groups that are posted on this way.
    pub fn observer(self: &Arc<Metrics>, way: Way) -> Arc<dyn GroupObserver> {
        Arc::new(Groups { metrics: Arc::clone(self), way: way.as_str() })
    }

    /// Counts an HTTP request. `route` is the pattern that matched, such as `/v1/accounts/{user}`, or [`NO_ROUTE`]; never the
    /// path itself, which a caller chooses.
    pub fn http_answered(&self, method: &str, route: &str, status: u16, took: Duration) {
        let method = known_method(method);
        let labels = HttpLabels { method, route: route.to_owned(), status };
        self.http_requests.get_or_create(&labels).inc();
        let labels = RouteLabels { method, route: route.to_owned() };
        self.http_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Collects what the database holds, again and again, until `stop` is cancelled.
    pub async fn collect(
        self: Arc<Metrics>,
        database: &Database,
        config: watch::Receiver<Arc<Config>>,
        stop: CancellationToken,
    ) {
        self.collected.show_pool(database);
        collect::collect(&self.collected, database, config, self.started, stop).await;
    }
}

impl Way {
    fn as_str(self) -> &'static str {
        match self {
            Way::Http => "http",
            Way::Queue => "queue",
        }
    }
}

/// Counts groups.
#[derive(Debug)]
struct Groups {
    metrics: Arc<Metrics>,
    way: &'static str,
}

impl GroupObserver for Groups {
    fn group_ended(&self, postings: &[Posting], replies: Result<&[Reply], &Error>, took: Duration) {
        if postings.is_empty() {
            return;
        }
        let Groups { metrics, way } = self;
        let size = u32::try_from(postings.len()).unwrap_or(u32::MAX);
        metrics.group_size.get_or_create(&[("way", way)]).observe(f64::from(size));
        metrics.group_seconds.get_or_create(&[("way", way)]).observe(took.as_secs_f64());
        // A group has up to a thousand postings, and only a few combinations.
        let mut counts: Vec<(Labels<3>, u64)> = Vec::new();
        for (nth, posting) in postings.iter().enumerate() {
            let outcome = match replies {
                Ok(replies) => replies.get(nth).map_or(FAILED, Reply::status),
                Err(_) => FAILED,
            };
            let labels = [("way", *way), ("kind", posting.kind.as_str()), ("outcome", outcome)];
            match counts.iter_mut().find(|(counted, _)| *counted == labels) {
                Some((_, count)) => *count += 1,
                None => counts.push((labels, 1)),
            }
        }
        for (labels, count) in counts {
            metrics.postings.get_or_create(&labels).inc_by(count);
        }
    }
}

/// A caller may invent methods, so the others share a name.
fn known_method(method: &str) -> &'static str {
    ["GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"]
        .into_iter()
        .find(|known| *known == method)
        .unwrap_or("other")
}
