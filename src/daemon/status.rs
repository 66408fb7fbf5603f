//! The state of the daemon: one line for systemd, and a log line for each change.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use tracing::{error, info, warn};

use super::clock::Ahead;
use crate::errors;
use crate::ledger::Progress;
use crate::requests::Stats;
use crate::scheduler::{self, Board, RunProgress, Tick};
use crate::systemd::Notifier;
use crate::time::Zone;

/// The daemon's state, as it was last sent.
pub(super) struct Status {
    notifier: Notifier,
    away: Option<Instant>,
    trouble: Option<String>,
    /// Why the last reload was refused.
    refused: Option<String>,
    line: String,
}

impl Status {
    pub(super) fn new(notifier: Notifier) -> Status {
        Status { notifier, away: None, trouble: None, refused: None, line: String::new() }
    }

    pub(super) fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// Logs the outage at its first failed attempt.
    pub(super) fn database_is_away(&mut self, error: &(dyn std::error::Error + 'static)) {
        let reason = errors::chain(error);
        if self.away.is_none() {
            self.away = Some(Instant::now());
            warn!(reason, "the database is away: {reason}");
        }
        self.send(format!("waiting for the database: {reason}"));
    }

    pub(super) fn database_is_there(&mut self) {
        if let Some(since) = self.away.take() {
            info!(away_for_seconds = since.elapsed().as_secs(), "the database is back");
        }
        if self.trouble.take().is_some() {
            info!("the jobs are scheduled again");
        }
    }

    /// An error that waiting may not end. The same error is logged once.
    pub(super) fn trouble(&mut self, error: &scheduler::Error) {
        let reason = errors::chain(error);
        if self.trouble.as_ref() != Some(&reason) {
            error!(reason, "the jobs cannot be scheduled: {reason}");
            self.trouble = Some(reason.clone());
        }
        self.send(format!("the jobs cannot be scheduled: {reason}"));
    }

    /// `ahead` is a clock that is doubted: no slot begins meanwhile, so none is next.
    pub(super) fn show(&mut self, board: &Board, tick: &Tick, ahead: Option<&Ahead>, requests: &Stats, missing: &str) {
        let mut parts: Vec<String> = board.runs().iter().map(running).collect();
        if !missing.is_empty() {
            parts.push(missing.to_owned());
        }
        if requests.stuck() > 0 {
            parts.push("the queue of requests cannot work, see the log".to_owned());
        }
        if requests.nodes_away() > 0 {
            parts.push("requests wait for a node that is away, see the log".to_owned());
        }
        let (refused, parked) = (requests.refused(), requests.parked());
        if refused + parked > 0 {
            parts.push(format!("since the start {refused} requests refused and {parked} parked"));
        }
        let lag = requests.lag();
        if lag >= Duration::from_secs(1) {
            parts.push(format!("requests {} s behind", lag.as_secs()));
        }
        if let Some(ahead) = ahead {
            let (by, doubted_for) = (ahead.by.num_seconds(), ahead.doubted_for.as_secs());
            parts.push(format!(
                "the database's clock jumped ahead by {by} s: no slot is begun for {doubted_for} s, unless it goes back"
            ));
        }
        if let Some((job, slot)) = &tick.next {
            parts.push(format!("next: {job} {}", soon(*slot, Utc::now())));
        }
        if parts.is_empty() {
            parts.push("no job is due any more".to_owned());
        }
        if let Some(reason) = &self.refused {
            parts.push(format!("the new configuration was refused: {reason}"));
        }
        self.send(parts.join("; "));
    }

    /// The line that was last sent.
    pub(super) fn line(&self) -> &str {
        &self.line
    }

    pub(super) fn ready(&self) {
        self.notifier.ready(&self.line);
    }

    pub(super) fn reloading(&self) {
        self.notifier.reloading();
    }

    pub(super) fn reloaded(&mut self, refused: Option<String>) {
        self.refused = refused;
        self.ready();
    }

    pub(super) fn stopping(&self, board: &Board, more_time: Duration) {
        let runs: Vec<String> = board.runs().iter().map(running).collect();
        if runs.is_empty() {
            self.notifier.stopping("stopping");
        } else {
            self.notifier.stopping(&format!("stopping after the current chunk: {}", runs.join("; ")));
            self.notifier.extend(more_time);
        }
    }

    fn send(&mut self, line: String) {
        self.notifier.status(&line);
        self.line = line;
    }
}

/// `expiry 41 %, 80k/s`
fn running(run: &RunProgress) -> String {
    let mut text = run.job.to_owned();
    if let Some(percent) = run.progress.and_then(Progress::percent) {
        text.push_str(&format!(" {percent} %"));
    }
    if let Some(rate) = run.rate {
        let rate = if rate < 10_000 { rate.to_string() } else { format!("{}k", rate / 1000) };
        text.push_str(&format!(", {rate}/s"));
    }
    text
}

/// The time of day, with the date unless it is within a day.
fn soon(slot: DateTime<Zone>, now: DateTime<Utc>) -> String {
    let near = slot.with_timezone(&Utc) - now < TimeDelta::days(1);
    slot.format(if near { "%H:%M" } else { "%Y-%m-%d %H:%M" }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_doubted_is_the_reason_why_no_job_is_next() {
        let mut status = Status::new(Notifier::default());
        let mut line = |ahead: Option<&Ahead>| {
            status.show(&Board::default(), &Tick::default(), ahead, &Stats::default(), "");
            status.line().to_owned()
        };
        let ahead = Ahead { by: TimeDelta::hours(1), doubted_for: Duration::from_secs(590), is_new: false };
        let doubts = "the database's clock jumped ahead by 3600 s: no slot is begun for 590 s, unless it goes back";
        assert_eq!(line(Some(&ahead)), doubts);
        assert_eq!(line(None), "no job is due any more");
    }
}
