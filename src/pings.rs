//! Tells dead man's switches, such as those of healthchecks.io, of runs: who hears of none in time raises the alarm.
//!
//! A switch that hangs, fails or is gone holds up nobody. What is told of a job leaves in order, by a thread of the job's
//! own: a thread and not a task, because the program does not wait for it when it ends.

use std::collections::{HashMap, VecDeque};
use std::fmt::{self, Display};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls_native_certs::load_native_certs;
use tracing::{info, warn};
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use uuid::Uuid;

use crate::retry::Backoff;

/// A switch answers at once or not at all.
const ANSWER: Duration = Duration::from_secs(10);

/// The pause before the second attempt, and the cap of the later ones.
const PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How often a ping is tried.
const TRIES: u32 = 4;

/// Of a job's pings that wait for a switch which does not answer, the latest count: a job that runs each second must not
/// fill the memory, nor flood the switch when it is back.
const MOST_WAITING: usize = 8;

/// The longest body: as much as healthchecks.io keeps.
const LONGEST_BODY: usize = 10_000;

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// A run begins: `URL/start`.
    Start,
    /// It succeeded: `URL`.
    Success,
    /// It succeeded, and found what somebody should look at: `URL/3`, the status that `pointsd run` ends with then.
    /// Switches count every status but 0 as a failure.
    AnswerIsNo,
    /// It failed: `URL/fail`.
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
    /// The job that it is about.
    pub job: &'static str,
    /// The switch's address, without what says what happened.
    pub url: String,
    /// What happened.
    pub signal: Signal,
    /// Which run this is about: the same for its begin and its end, so that the switch can tell how long it took.
    pub run: Option<Uuid>,
    /// A few words on it.
    pub body: String,
}

impl Ping {
    /// The name of a run for switches. Runs of several databases may have the same number.
    pub fn run_id(job: &str, run: i64, slot: &str) -> Uuid {
        Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("pointsd:{job}:{run}:{slot}").as_bytes())
    }

    fn address(&self) -> String {
        let run = self.run.map(|run| format!("?rid={run}")).unwrap_or_default();
        format!("{}{}{run}", self.url, self.signal.path())
    }

    /// What may be told of the address: who knows the rest of it can ping, too.
    fn host(&self) -> &str {
        let rest = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        let host = rest.split('/').next().unwrap_or_default();
        host.rsplit('@').next().unwrap_or_default()
    }
}

/// Sends pings. Those of one job keep their order. Dropping it lets go of what was not sent.
pub struct Pings {
    caller: Arc<Caller>,
    lines: Mutex<HashMap<&'static str, Arc<Line>>>,
}

/// How pings are sent.
struct Caller {
    answer: Duration,
    pause: Duration,
}

/// A job's pings on their way.
#[derive(Default)]
struct Line {
    state: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    pings: VecDeque<Ping>,
    /// Whether one is being sent.
    calling: bool,
    /// Whether pings were dropped since the last one that arrived.
    dropping: bool,
    /// Nobody will tell anything any more.
    closed: bool,
}

impl Default for Pings {
    fn default() -> Pings {
        Pings::patient(ANSWER, PAUSE)
    }
}

impl Pings {
    /// One that waits so long for an answer, and so long before the second of its tries.
    pub fn patient(answer: Duration, pause: Duration) -> Pings {
        Pings { caller: Arc::new(Caller { answer, pause }), lines: Mutex::default() }
    }

    /// Sends this, as soon as what was told of the job before is sent or given up. Returns at once.
    pub fn tell(&self, mut ping: Ping) {
        if ping.body.len() > LONGEST_BODY {
            ping.body = ping.body.chars().take(LONGEST_BODY / 4).collect();
        }
        let Some(line) = self.line(ping.job) else { return };
        let mut state = line.lock();
        if state.pings.len() >= MOST_WAITING {
            if !std::mem::replace(&mut state.dropping, true) {
                let (job, host) = (ping.job, ping.host());
                warn!(job, host, "pings to {host} wait for its answer; the oldest are dropped");
            }
            state.pings.pop_front();
        }
        state.pings.push_back(ping);
        line.changed.notify_all();
    }

    /// A job's line, with its thread; none where the system gives us no thread.
    fn line(&self, job: &'static str) -> Option<Arc<Line>> {
        let mut lines = lock(&self.lines);
        if let Some(line) = lines.get(job) {
            return Some(Arc::clone(line));
        }
        let (line, caller) = (Arc::new(Line::default()), Arc::clone(&self.caller));
        let served = Arc::clone(&line);
        let thread = std::thread::Builder::new().name(format!("ping {job}")).spawn(move || served.serve(&caller));
        if let Err(error) = thread {
            warn!(job, %error, "pings of {job} cannot be sent: {error}");
            return None;
        }
        lines.insert(job, Arc::clone(&line));
        Some(line)
    }

    /// Waits until everything is sent or given up, for so long at most; false where there is still something.
    pub async fn sent(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            let busy = lock(&self.lines).values().any(|line| line.is_busy());
            if !busy || Instant::now() >= deadline {
                return !busy;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Pings {
    fn drop(&mut self) {
        for line in lock(&self.lines).values() {
            line.lock().closed = true;
            line.changed.notify_all();
        }
    }
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        lock(&self.state)
    }

    fn is_busy(&self) -> bool {
        let state = self.lock();
        state.calling || !state.pings.is_empty()
    }

    fn serve(&self, caller: &Caller) {
        loop {
            let mut state = self.lock();
            let ping = loop {
                if state.closed {
                    return;
                }
                if let Some(ping) = state.pings.pop_front() {
                    break ping;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            };
            state.calling = true;
            drop(state);
            let arrived = self.send(&ping, caller);
            let mut state = self.lock();
            state.calling = false;
            if arrived && std::mem::take(&mut state.dropping) {
                let (job, host) = (ping.job, ping.host());
                info!(job, host, "{host} takes pings again");
            }
        }
    }

    /// Tries until it has arrived, or cannot. False where it is given up.
    fn send(&self, ping: &Ping, caller: &Caller) -> bool {
        let mut pauses = Backoff::new(caller.pause, LONGEST_PAUSE).pauses();
        for tried in 1.. {
            let Err(failure) = caller.call(ping) else { return true };
            if tried == TRIES || !failure.may_pass() {
                let (job, host, reason) = (ping.job, ping.host(), failure.to_string());
                warn!(job, host, tried, reason, "a ping of {job} to {host} is given up: {reason}");
                return false;
            }
            if self.is_closed_after(pauses.next_pause()) {
                return false;
            }
        }
        false
    }

    fn is_closed_after(&self, pause: Duration) -> bool {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, pause, |state| !state.closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }
}

/// Why a ping did not arrive. It says nothing of the address.
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
            Failure::Status(status) => write!(f, "it answered {status}: is ping_url right?"),
            Failure::Silent(waited) => write!(f, "no answer within {} s", waited.as_secs()),
            Failure::Other(reason) => f.write_str(reason),
        }
    }
}

impl Caller {
    fn call(&self, ping: &Ping) -> Result<(), Failure> {
        let encrypted = ping.url.starts_with("https://");
        let mut config = Agent::config_builder()
            .timeout_global(Some(self.answer))
            // A connection would be closed by the other end long before the job's next slot.
            .max_idle_connections(0)
            .user_agent(concat!("pointsd/", env!("CARGO_PKG_VERSION")));
        if encrypted {
            config = config.https_only(true).tls_config(TlsConfig::builder().root_certs(trusted()).build());
        }
        let agent: Agent = config.build().into();
        let request = agent.post(ping.address()).content_type("text/plain; charset=utf-8");
        match request.send(ping.body.as_str()) {
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

/// The system's certificates, which may have some of a company's own; where there are none, those of Mozilla.
fn trusted() -> RootCerts {
    let certificates: Vec<Certificate<'static>> =
        load_native_certs().certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
    if certificates.is_empty() { RootCerts::WebPki } else { RootCerts::new_with_certs(&certificates) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that panics is done under these locks.
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
    fn of_an_address_only_the_host_is_told() {
        for (url, host) in [
            ("https://hc-ping.com/secret", "hc-ping.com"),
            ("http://me:secret@checks.example.com:8000/ping/secret", "checks.example.com:8000"),
            ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ] {
            assert_eq!(ping(url, Signal::Fail).host(), host);
        }
    }
}
