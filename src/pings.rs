//! Pings dead man's switches, such as those of healthchecks.io, at the events of runs. A switch that hears of no run in
//! time raises the alarm.
//!
//! A switch that hangs, fails or is gone delays nothing else. The pings of a job leave in order, from a task of the
//! job's own.

use std::collections::{HashMap, VecDeque};
use std::fmt::{self, Display};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls_native_certs::load_native_certs;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::{info, warn};
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use uuid::Uuid;

use crate::retry::Backoff;

/// How long a call may take. A switch answers at once or not at all.
const ANSWER: Duration = Duration::from_secs(10);

/// The pause before the second attempt, and the cap of the later ones.
const PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The attempts for a ping.
const TRIES: u32 = 4;

/// The most pings of a job that wait for its switch; the oldest are dropped. A job that runs each second must not fill
/// the memory, nor flood the switch when it is back.
const MOST_WAITING: usize = 8;

/// The longest body: as much as healthchecks.io keeps.
const LONGEST_BODY: usize = 10_000;

/// The event that a ping reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// A run began: `URL/start`.
    Start,
    /// The run succeeded: `URL`.
    Success,
    /// The run succeeded, and its result needs attention: `URL/3`, with the exit status of `pointsd run`. Switches
    /// count every status but 0 as a failure.
    AnswerIsNo,
    /// The run failed: `URL/fail`.
    Fail,
}

impl Signal {
    fn path(self) -> &'static str {
        match self {
            Signal::Start => "/start",
            Signal::Success => "",
            Signal::AnswerIsNo => "/3",
            Signal::Fail => "/fail",
        }
    }
}

/// A message to a switch.
#[derive(Clone, PartialEq, Eq)]
pub struct Ping {
    /// The job.
    pub job: &'static str,
    /// The switch's address, without the part for the event.
    pub url: String,
    /// The event.
    pub signal: Signal,
    /// The run, the same at its begin and its end, so that the switch can measure how long it took.
    pub run: Option<Uuid>,
    /// A few words about the event.
    pub body: String,
}

impl Ping {
    /// The id of a run for switches. Runs of several databases may have the same number, so it depends on the slot,
    /// too.
    pub fn run_id(job: &str, run: i64, slot: &str) -> Uuid {
        Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("pointsd:{job}:{run}:{slot}").as_bytes())
    }

    fn address(&self) -> String {
        let run = self.run.map(|run| format!("?rid={run}")).unwrap_or_default();
        format!("{}{}{run}", self.url, self.signal.path())
    }

    fn host(&self) -> &str {
        host_of(&self.url)
    }
}

/// The part of a switch's address that may be shown. The rest is a secret: it suffices to ping.
pub fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default();
    host.rsplit('@').next().unwrap_or_default()
}

/// Sends pings. Those of one job keep their order. Dropping it drops the pings that were not sent. It needs a tokio
/// runtime.
pub struct Pings {
    caller: Arc<Caller>,
    queues: Mutex<HashMap<&'static str, Arc<Queue>>>,
    /// A task for each queue; they end when this is dropped.
    tasks: Mutex<JoinSet<()>>,
}

/// How pings are sent.
struct Caller {
    answer: Duration,
    pause: Duration,
}

/// The pings of a job on their way.
#[derive(Default)]
struct Queue {
    state: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Default)]
struct Waiting {
    pings: VecDeque<Ping>,
    /// Whether one is being sent.
    calling: bool,
    /// Whether pings were dropped since the last one that arrived.
    dropping: bool,
}

impl Default for Pings {
    fn default() -> Pings {
        Pings::patient(ANSWER, PAUSE)
    }
}

impl Pings {
    /// Pings with another time limit for an answer, and another pause before the second attempt.
    pub fn patient(answer: Duration, pause: Duration) -> Pings {
        Pings { caller: Arc::new(Caller { answer, pause }), queues: Mutex::default(), tasks: Mutex::default() }
    }

    /// Sends a ping after the earlier pings of its job. Returns at once.
    pub fn send(&self, mut ping: Ping) {
        if ping.body.len() > LONGEST_BODY {
            ping.body = ping.body.chars().take(LONGEST_BODY / 4).collect();
        }
        let queue = self.queue(ping.job);
        let mut state = lock(&queue.state);
        if state.pings.len() >= MOST_WAITING {
            if !std::mem::replace(&mut state.dropping, true) {
                let (job, host) = (ping.job, ping.host());
                warn!(job, host, "pings to {host} wait for its answer; the oldest are dropped");
            }
            state.pings.pop_front();
        }
        state.pings.push_back(ping);
        queue.filled.notify_one();
    }

    /// The queue of a job, and its task.
    fn queue(&self, job: &'static str) -> Arc<Queue> {
        let mut queues = lock(&self.queues);
        let queue = queues.entry(job).or_insert_with(|| {
            let queue = Arc::new(Queue::default());
            lock(&self.tasks).spawn(Arc::clone(&queue).serve(Arc::clone(&self.caller)));
            queue
        });
        Arc::clone(queue)
    }

    /// Waits until all pings have arrived or are given up, for so long at most. False if some are left.
    pub async fn sent(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            let busy = lock(&self.queues).values().any(|queue| queue.is_busy());
            if !busy || Instant::now() >= deadline {
                return !busy;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Queue {
    fn is_busy(&self) -> bool {
        let state = lock(&self.state);
        state.calling || !state.pings.is_empty()
    }

    fn next(&self) -> Option<Ping> {
        let mut state = lock(&self.state);
        let ping = state.pings.pop_front();
        state.calling = ping.is_some();
        ping
    }

    async fn serve(self: Arc<Queue>, caller: Arc<Caller>) {
        loop {
            let Some(ping) = self.next() else {
                self.filled.notified().await;
                continue;
            };
            let (job, host) = (ping.job, ping.host().to_owned());
            let arrived = caller.send(ping).await;
            let mut state = lock(&self.state);
            state.calling = false;
            if arrived && std::mem::take(&mut state.dropping) {
                info!(job, host, "{host} takes pings again");
            }
        }
    }
}

/// Why a ping did not arrive. The address is no part of it.
enum Failure {
    Status(u16),
    Silent(Duration),
    Other(String),
}

impl Failure {
    fn may_pass(&self) -> bool {
        match self {
            // 408 and 429: too slow, too often.
            Failure::Status(status) => *status >= 500 || [408, 429].contains(status),
            Failure::Silent(_) | Failure::Other(_) => true,
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Status(status) if self.may_pass() => write!(f, "it answered {status}"),
            Failure::Status(status @ 300..400) => {
                write!(
                    f,
                    "it answered {status} and names another address, which is not called: write that one as ping_url"
                )
            }
            Failure::Status(status) => write!(f, "it answered {status}: is ping_url right?"),
            Failure::Silent(waited) => write!(f, "no answer within {} s", waited.as_secs()),
            Failure::Other(reason) => f.write_str(reason),
        }
    }
}

impl Caller {
    /// Tries until the ping has arrived, or cannot arrive. False if it is given up.
    async fn send(self: &Arc<Caller>, ping: Ping) -> bool {
        let (mut pauses, ping) = (Backoff::new(self.pause, LONGEST_PAUSE).pauses(), Arc::new(ping));
        for tried in 1.. {
            let (caller, called) = (Arc::clone(self), Arc::clone(&ping));
            let answer = tokio::task::spawn_blocking(move || caller.call(&called)).await;
            let Err(failure) = answer.unwrap_or_else(|panic| Err(Failure::Other(panic.to_string()))) else {
                return true;
            };
            if tried == TRIES || !failure.may_pass() {
                let (job, host, reason) = (ping.job, ping.host(), failure.to_string());
                warn!(job, host, tried, reason, "a ping of {job} to {host} is given up: {reason}");
                return false;
            }
            pauses.sleep().await;
        }
        false
    }

    fn call(&self, ping: &Ping) -> Result<(), Failure> {
        let encrypted = ping.url.starts_with("https://");
        let mut config = Agent::config_builder()
            .timeout_global(Some(self.answer))
            // The address is a secret of the switch's; another host is not told it.
            .max_redirects(0)
            // The other end would close a connection long before the job's next slot.
            .max_idle_connections(0)
            .user_agent(concat!("pointsd/", env!("CARGO_PKG_VERSION")));
        if encrypted {
            config = config.https_only(true).tls_config(TlsConfig::builder().root_certs(trusted()).build());
        }
        let agent: Agent = config.build().into();
        let request = agent.post(ping.address()).content_type("text/plain; charset=utf-8");
        match request.send(ping.body.as_str()) {
            Ok(answer) if answer.status().is_redirection() => Err(Failure::Status(answer.status().as_u16())),
            Ok(_) => Ok(()),
            Err(ureq::Error::StatusCode(status)) => Err(Failure::Status(status)),
            Err(ureq::Error::Timeout(_)) => Err(Failure::Silent(self.answer)),
            Err(ureq::Error::HostNotFound) => Err(Failure::Other("its name is not known".to_owned())),
            Err(ureq::Error::ConnectionFailed) => Err(Failure::Other("no connection".to_owned())),
            Err(ureq::Error::Io(error)) => Err(Failure::Other(error.to_string())),
            Err(ureq::Error::Rustls(error)) => Err(Failure::Other(error.to_string())),
            // The others may repeat the address.
            Err(_) => Err(Failure::Other("the call failed".to_owned())),
        }
    }
}

/// The system's certificates, which may include private ones. If the system has none, those of Mozilla.
fn trusted() -> RootCerts {
    let certificates: Vec<Certificate<'static>> =
        load_native_certs().certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
    if certificates.is_empty() { RootCerts::WebPki } else { RootCerts::new_with_certs(&certificates) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code under these locks panics.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn ping(url: &str, signal: Signal) -> Ping {
        Ping { job: "arrears", url: url.to_owned(), signal, run: None, body: String::new() }
    }

    #[test]
    fn addresses_are_those_of_healthchecks() {
        let address = |signal| ping("https://hc-ping.com/0b7e", signal).address();
        assert_eq!(address(Signal::Start), "https://hc-ping.com/0b7e/start");
        assert_eq!(address(Signal::Success), "https://hc-ping.com/0b7e");
        assert_eq!(address(Signal::AnswerIsNo), "https://hc-ping.com/0b7e/3");
        assert_eq!(address(Signal::Fail), "https://hc-ping.com/0b7e/fail");
        let run = Ping::run_id("arrears", 17, "2026-11-22T02:45:00Z");
        let of_run = Ping { run: Some(run), ..ping("https://hc-ping.com/0b7e", Signal::Start) };
        assert_eq!(of_run.address(), format!("https://hc-ping.com/0b7e/start?rid={run}"));
        assert_eq!(run, Ping::run_id("arrears", 17, "2026-11-22T02:45:00Z"));
        assert_ne!(run, Ping::run_id("arrears", 18, "2026-11-22T02:45:00Z"));
    }

    #[test]
    fn only_the_host_of_an_address_is_shown() {
        for (url, host) in [
            ("https://hc-ping.com/secret", "hc-ping.com"),
            ("http://me:secret@checks.example.com:8000/ping/secret", "checks.example.com:8000"),
            ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ] {
            assert_eq!(ping(url, Signal::Fail).host(), host);
        }
    }
}
