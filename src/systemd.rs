//! Messages to the service manager: readiness, a status line, liveness. Without a manager nothing is sent.
//!
//! The messages are those of sd_notify(3). The socket's name is read once and stays in the environment: taking it out
//! is unsafe beside other threads, and systemd listens to the main process only.

use std::ffi::OsString;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::time::MissedTickBehavior;

/// Sends messages to the service manager. A clone sends to the same one.
#[derive(Clone, Debug, Default)]
pub struct Notifier(Option<Arc<Listener>>);

#[derive(Debug)]
struct Listener {
    socket: PathBuf,
    /// The status that was sent last.
    status: Mutex<String>,
}

impl Notifier {
    /// For the manager that NOTIFY_SOCKET names. Without that variable nothing is sent.
    pub fn from_environment() -> Notifier {
        Notifier::to(std::env::var_os("NOTIFY_SOCKET"))
    }

    fn to(socket: Option<OsString>) -> Notifier {
        let socket = socket.filter(|name| !name.is_empty()).map(PathBuf::from);
        Notifier(socket.map(|socket| Arc::new(Listener { socket, status: Mutex::default() })))
    }

    /// The service is up, or its reload is over.
    pub fn ready(&self, status: &str) {
        self.with_status(NotifyState::Ready, status);
    }

    /// The status on one line. An unchanged status is not sent again.
    pub fn status(&self, status: &str) {
        let Some(listener) = &self.0 else { return };
        let status = one_line(status);
        if listener.remember(&status) {
            listener.send(&[NotifyState::Status(&status)]);
        }
    }

    /// The configuration is being read again. [`Notifier::ready`] must follow, also if it is refused.
    pub fn reloading(&self) {
        let Some(listener) = &self.0 else { return };
        match NotifyState::monotonic_usec_now() {
            // In one message: systemd takes the time from the one that says RELOADING.
            Ok(now) => listener.send(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "the reload is not announced to the service manager: no clock"),
        }
    }

    /// The service has begun to stop.
    pub fn stopping(&self, status: &str) {
        self.with_status(NotifyState::Stopping, status);
    }

    /// Starting or stopping takes longer: it ends, or the next such message comes, within `time` from now. The longest
    /// time is a little over an hour.
    pub fn extend(&self, time: Duration) {
        let Some(listener) = &self.0 else { return };
        let microseconds = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        listener.send(&[NotifyState::ExtendTimeoutUsec(microseconds)]);
    }

    fn with_status(&self, state: NotifyState<'_>, status: &str) {
        let Some(listener) = &self.0 else { return };
        let status = one_line(status);
        listener.remember(&status);
        listener.send(&[state, NotifyState::Status(&status)]);
    }

    fn alive(&self) {
        let Some(listener) = &self.0 else { return };
        listener.send(&[NotifyState::Watchdog]);
    }
}

impl Listener {
    /// Returns whether the status has changed.
    fn remember(&self, status: &str) -> bool {
        let mut last = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let news = *last != status;
        status.clone_into(&mut last);
        news
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        let message: String = states.iter().map(|state| format!("{state}\n")).collect();
        // A socket each time: the manager may have been replaced by a new one under the same name.
        let send = || -> io::Result<_> { UnixDatagram::unbound()?.send_to(message.as_bytes(), &self.socket) };
        if let Err(error) = send() {
            let socket = self.socket.display();
            tracing::warn!(%socket, %error, "the service manager cannot be reached by {socket}: {error}");
        }
    }
}

/// A line end would begin a message of its own.
fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// Pings a manager with a watchdog, as long as the daemon's loop goes round.
///
/// A task sends the pings, but only while the loop's last [beat](Health::beat) is younger than the watchdog's interval.
/// So it does not hide a loop that hangs: systemd ends the service between one and two intervals after the last beat.
#[derive(Debug)]
pub struct Health {
    pulse: Arc<Pulse>,
    interval: Option<Duration>,
    task: Option<tokio::task::JoinHandle<()>>,
}

#[derive(Debug)]
struct Pulse {
    last_beat: Mutex<Instant>,
}

impl Health {
    /// Starts to ping, if the manager has asked for it (WATCHDOG_USEC). Counts as a beat. Dropping it ends the pings.
    /// It needs a tokio runtime.
    pub fn start(notifier: &Notifier) -> Health {
        let pulse = Arc::new(Pulse { last_beat: Mutex::new(Instant::now()) });
        let interval = sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero());
        let task = interval.map(|interval| tokio::spawn(watch(notifier.clone(), pulse.clone(), interval)));
        Health { pulse, interval, task }
    }

    /// How long the loop may sleep between two beats, if there is a watchdog.
    pub fn longest_sleep(&self) -> Option<Duration> {
        self.interval.map(|interval| interval / 2)
    }

    /// The loop has gone round. A beat must come more often than the watchdog's interval, so the loop must not wait for
    /// longer.
    pub fn beat(&self) {
        self.pulse.beat(Instant::now());
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Pulse {
    fn beat(&self, now: Instant) {
        *self.last_beat.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Whether the last beat is younger than `interval`.
    fn beats(&self, now: Instant, interval: Duration) -> bool {
        let last = *self.last_beat.lock().unwrap_or_else(PoisonError::into_inner);
        now.saturating_duration_since(last) < interval
    }

    /// Pings if the loop goes round; logs once if it does not.
    fn ping(&self, notifier: &Notifier, now: Instant, interval: Duration, held_back: &mut bool) {
        if self.beats(now, interval) {
            *held_back = false;
            notifier.alive();
        } else if !*held_back {
            *held_back = true;
            tracing::error!(
                interval_seconds = interval.as_secs(),
                "the daemon's loop hangs: the service manager will end it"
            );
        }
    }
}

async fn watch(notifier: Notifier, pulse: Arc<Pulse>, interval: Duration) {
    let mut ticks = tokio::time::interval(interval / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut held_back = false;
    loop {
        ticks.tick().await;
        pulse.ping(&notifier, Instant::now(), interval, &mut held_back);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A manager that listens on a socket of its own.
    struct Manager {
        socket: UnixDatagram,
        path: PathBuf,
    }

    impl Manager {
        fn new(name: &str) -> (Manager, Notifier) {
            let path = std::env::temp_dir().join(format!("pointsd-notify-{name}-{}", std::process::id()));
            std::fs::remove_file(&path).ok();
            let socket = UnixDatagram::bind(&path).unwrap();
            // What was sent is there at once: a datagram is in the queue when its sender goes on.
            socket.set_nonblocking(true).unwrap();
            let notifier = Notifier::to(Some(path.clone().into()));
            (Manager { socket, path }, notifier)
        }

        /// The messages that came since the last call.
        fn heard(&self) -> Vec<String> {
            let mut buffer = [0; 4096];
            let mut next = || {
                let length = self.socket.recv(&mut buffer).ok()?;
                Some(String::from_utf8(buffer.get(..length)?.to_vec()).unwrap())
            };
            std::iter::from_fn(&mut next).collect()
        }
    }

    impl Drop for Manager {
        fn drop(&mut self) {
            std::fs::remove_file(&self.path).ok();
        }
    }

    #[test]
    fn each_message_is_what_the_manager_understands() {
        let (manager, notifier) = Manager::new("messages");
        notifier.ready("next: expiry 02:00");
        notifier.stopping("finishing a chunk");
        notifier.extend(Duration::from_millis(1_500));
        notifier.extend(Duration::from_secs(1_000_000));
        notifier.alive();
        assert_eq!(
            manager.heard(),
            [
                "READY=1\nSTATUS=next: expiry 02:00\n",
                "STOPPING=1\nSTATUS=finishing a chunk\n",
                "EXTEND_TIMEOUT_USEC=1500000\n",
                "EXTEND_TIMEOUT_USEC=4294967295\n",
                "WATCHDOG=1\n",
            ]
        );
    }

    #[test]
    fn a_reload_names_its_instant_in_the_same_message() {
        let (manager, notifier) = Manager::new("reload");
        notifier.reloading();
        notifier.reloading();
        let instants: Vec<i128> = manager
            .heard()
            .iter()
            .map(|message| message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim_end().parse().unwrap())
            .collect();
        assert!(instants.len() == 2 && instants.is_sorted() && instants.iter().all(|at| *at > 0), "{instants:?}");
    }

    #[test]
    fn a_status_is_sent_when_it_has_changed() {
        let (manager, notifier) = Manager::new("status");
        for status in ["41 %", "41 %", "42 %", "41 %"] {
            // Clones share the last status.
            notifier.clone().status(status);
        }
        assert_eq!(manager.heard(), ["STATUS=41 %\n", "STATUS=42 %\n", "STATUS=41 %\n"]);
        notifier.ready("idle");
        notifier.status("idle");
        assert_eq!(manager.heard(), ["READY=1\nSTATUS=idle\n"]);
        notifier.status("no database:\nREADY=1");
        assert_eq!(manager.heard(), ["STATUS=no database: READY=1\n"]);
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        for notifier in [None, Some(""), Some("/nowhere/at/all")].map(|name| Notifier::to(name.map(Into::into))) {
            notifier.ready("");
            notifier.status("x");
            notifier.reloading();
            notifier.extend(Duration::ZERO);
            notifier.alive();
        }
    }

    #[test]
    fn pings_stop_with_the_loop_and_come_back_with_it() {
        const INTERVAL: Duration = Duration::from_secs(60);
        let (manager, notifier) = Manager::new("watchdog");
        let began = Instant::now();
        let pulse = Pulse { last_beat: Mutex::new(began) };
        let mut held_back = false;
        let mut pings_at = |seconds: u64| {
            pulse.ping(&notifier, began + Duration::from_secs(seconds), INTERVAL, &mut held_back);
            manager.heard().len()
        };
        assert_eq!([0, 30, 59, 60, 90, 100_000].map(&mut pings_at), [1, 1, 1, 0, 0, 0]);
        pulse.beat(began + Duration::from_secs(100_000));
        assert_eq!([100_030, 100_060].map(&mut pings_at), [1, 0]);
        // A beat that is later than the task's look at the clock.
        pulse.beat(began + Duration::from_secs(200_000));
        assert_eq!(pings_at(199_999), 1);
    }
}
