//! Which server is the primary: the one that writes the newest timeline.
//!
//! Each promotion of a standby begins a new timeline. A server that takes writes on an older one is an old primary: what is
//! written there is lost as soon as it becomes a standby of the new one.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::future::pending;

use tokio::sync::watch;
use tokio_postgres::{Client, Error, SimpleQueryMessage};

/// The timeline that a server writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Timeline {
    /// The identifier of the database system, which its standbys share.
    system: String,
    number: u32,
}

impl Timeline {
    /// The timeline of the server that this connection reaches. None of a standby, and of a server that does not tell.
    pub async fn read(client: &Client) -> Result<Option<Timeline>, Error> {
        let rows = match client.simple_query(include_str!("../../sql/server/timeline_read.sql")).await {
            Ok(rows) => rows,
            // Some hosted servers lack the functions.
            Err(error) if error.as_db_error().is_some() => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(rows.iter().find_map(|message| {
            let SimpleQueryMessage::Row(row) = message else { return None };
            let number = u32::from_str_radix(row.try_get(1).ok()??, 16).ok()?;
            Some(Timeline { system: row.try_get(0).ok()??.to_owned(), number })
        }))
    }

    pub fn number(&self) -> u32 {
        self.number
    }
}

impl Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "timeline {}", self.number)
    }
}

/// The newest timeline of each database system that a process has seen. A clone shares it.
#[derive(Clone, Default)]
pub(super) struct Newest {
    seen: watch::Sender<BTreeMap<String, u32>>,
}

/// A timeline among those that were seen before.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The first one of its system.
    First,
    /// The newest one.
    Same,
    /// Newer than any before: a standby was promoted.
    Newer,
    /// Older than this one: the server is an old primary.
    Older(u32),
}

impl Newest {
    /// Compares a timeline with those that were seen before, and remembers it.
    pub fn see(&self, timeline: &Timeline) -> Seen {
        let mut verdict = Seen::First;
        self.seen.send_if_modified(|seen| {
            let newest = seen.entry(timeline.system.clone()).or_insert(0);
            verdict = match timeline.number {
                _ if *newest == 0 => Seen::First,
                number if number == *newest => Seen::Same,
                number if number > *newest => Seen::Newer,
                _ => Seen::Older(*newest),
            };
            *newest = timeline.number.max(*newest);
            verdict == Seen::Newer
        });
        verdict
    }

    /// Returns once a newer timeline was seen than this one.
    pub async fn outgrows(&self, timeline: &Timeline) {
        let is_older = |seen: &BTreeMap<String, u32>| seen.get(&timeline.system).is_some_and(|n| *n > timeline.number);
        if self.seen.subscribe().wait_for(is_older).await.is_err() {
            pending().await // The sender is in here.
        }
    }

    /// Tells of each new timeline from now on.
    pub fn subscribe(&self) -> watch::Receiver<BTreeMap<String, u32>> {
        self.seen.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn the_newest_timeline_of_a_system_is_the_primarys() {
        let of = |system: &str, number| Timeline { system: system.to_owned(), number };
        let newest = Newest::default();
        for (timeline, seen) in [
            (of("1", 2), Seen::First),
            (of("1", 2), Seen::Same),
            (of("2", 1), Seen::First),
            (of("1", 3), Seen::Newer),
            (of("1", 2), Seen::Older(3)),
            (of("2", 1), Seen::Same),
        ] {
            assert_eq!(newest.see(&timeline), seen, "{timeline:?}");
        }
        assert_eq!(newest.outgrows(&of("1", 2)).now_or_never(), Some(()));
        assert_eq!(newest.outgrows(&of("1", 3)).now_or_never(), None);
        assert_eq!(newest.outgrows(&of("2", 1)).now_or_never(), None);
    }
}
