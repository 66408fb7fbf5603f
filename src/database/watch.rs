//! Watches the hosts of the URL: asks each of them for its timeline every few seconds, over a session of its own.
//!
//! The kernel of a frozen server holds its connections open, so a statement under way there would wait for ever, even when a
//! standby was promoted meanwhile. The watch sees the new timeline of that standby, and the sessions with the old primary end.

use std::cmp::Reverse;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, Error};

use super::connect::Connector;
use super::timeline::Timeline;

/// The pause between two questions.
const EVERY: Duration = Duration::from_secs(3);
/// A server that takes longer to answer is told.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a host may delay the first session.
const FIRST_ANSWER: Duration = Duration::from_secs(2);

/// The watch over several hosts. It ends when it is dropped.
pub(super) struct Watch {
    task: JoinHandle<()>,
}

impl Watch {
    /// Asks each host once, so that the first session already keeps away from an old primary, and goes on in the background.
    /// None for a single host, which has no other to be compared with.
    pub async fn start(connector: &Connector) -> Option<Watch> {
        let hosts = connector.hosts().len();
        if hosts < 2 {
            return None;
        }
        let first = (0..hosts).map(async |index| {
            let mut host =
                Host { connector: connector.clone(), index, session: None, is_primary: false, silent: false };
            let timeline = timeout(FIRST_ANSWER, host.ask()).await.ok().and_then(Result::ok).flatten();
            (host, timeline)
        });
        let mut hosts = join_all(first).await;
        // The newest timeline first, so that an old primary is known as such at once.
        hosts.sort_by_key(|(_, timeline)| Reverse(timeline.as_ref().map(Timeline::number)));
        let hosts: Vec<Host> = hosts
            .into_iter()
            .map(|(mut host, timeline)| {
                host.is_primary = timeline.is_some_and(|timeline| connector.admit(host.index, Some(&timeline)));
                host
            })
            .collect();
        let task = tokio::spawn(async { drop(join_all(hosts.into_iter().map(Host::watch)).await) });
        Some(Watch { task })
    }

    /// Ends the watch.
    pub fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Host {
    connector: Connector,
    index: usize,
    session: Option<Client>,
    is_primary: bool,
    silent: bool,
}

impl Host {
    async fn watch(mut self) {
        loop {
            sleep(EVERY).await;
            let was_silent = self.silent;
            match timeout(ANSWER, self.ask()).await {
                Ok(answer) => {
                    self.silent = false;
                    let Ok(timeline) = answer else { continue };
                    self.is_primary = self.connector.admit(self.index, timeline.as_ref()) && timeline.is_some();
                    if was_silent {
                        tracing::info!("{} answers again", self.connector.describe(self.index));
                    }
                }
                Err(_) => {
                    self.silent = true;
                    if self.is_primary && !was_silent {
                        tracing::warn!(
                            "{} has not answered for {} s: what waits for it goes on when it answers, or when another host of \
                             database.url is promoted",
                            self.connector.describe(self.index),
                            ANSWER.as_secs()
                        );
                    }
                }
            }
        }
    }

    /// Asks for the timeline; none of a standby. A session that fails or does not answer in time is dropped here.
    async fn ask(&mut self) -> Result<Option<Timeline>, Error> {
        let session = match self.session.take() {
            Some(session) => session,
            None => self.connector.open_any(self.index).await?,
        };
        let timeline = Timeline::read(&session).await?;
        self.session = Some(session);
        Ok(timeline)
    }
}
