//! Alarms: dead man's switches hear of runs, and the log and the status line name missing reports.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::clock::ClockWatch;
use crate::config::Config;
use crate::database::Database;
use crate::pings::{Ping, Pings, Signal};
use crate::reports::missing::{self, DueReports, Missing};
use crate::scheduler::{Observer, RunChange, RunEvent, Store};
use crate::time::time_text;

/// The time between two searches. A report is missing after hours, so this adds little.
const SEARCH_EVERY: Duration = Duration::from_secs(10);

/// An observer that pings the switch of a job at the events of its runs.
pub(super) fn observer(config: watch::Receiver<Arc<Config>>, pings: &Arc<Pings>) -> Observer {
    let pings = Arc::clone(pings);
    Arc::new(move |event| {
        let RunEvent { job, run, slot, change } = event;
        let Some(url) = ping_url(&config.borrow(), job) else { return };
        let slot = time_text(slot);
        let (signal, body) = match change {
            RunChange::Began => (Signal::Start, format!("run {run} for {slot}")),
            RunChange::Succeeded(done) => {
                let signal = if done.needs_attention { Signal::AnswerIsNo } else { Signal::Success };
                (signal, done.counters.to_string())
            }
            RunChange::Failed(reason) => (Signal::Fail, reason),
        };
        pings.send(Ping { job, url, signal, run: Some(Ping::run_id(job, run, &slot)), body });
    })
}

fn ping_url(config: &Config, job: &str) -> Option<String> {
    config.jobs.by_name().into_iter().find(|(name, _)| *name == job)?.1.ping_url.clone()
}

/// Searches for missing reports until `stop` is cancelled. Each one is logged once, its job's switch is pinged, and
/// `shown` is kept for the status line.
pub(super) async fn find_missing_reports(
    (database, store): (Database, Store),
    config: watch::Receiver<Arc<Config>>,
    pings: Arc<Pings>,
    shown: watch::Sender<String>,
    stop: CancellationToken,
) {
    let (mut raised, mut clock) = (Raised::default(), ClockWatch::default());
    loop {
        let in_force = Arc::clone(&config.borrow());
        match stop.run_until_cancelled(load_due_reports(&database, &store, &mut clock, &in_force)).await {
            None => return,
            // The main loop asks the same database and logs its absence.
            Some(Err(error)) => tracing::debug!("missing reports cannot be searched for: {error:#}"),
            // A report of a slot that a doubted clock shows is not due.
            Some(Ok(None)) => {}
            Some(Ok(Some(standing))) => {
                raised.update(&standing, &in_force, &pings);
                let line = raised.status_part();
                shown.send_if_modified(|shown| std::mem::replace(shown, line.clone()) != line);
            }
        }
        if stop.run_until_cancelled(tokio::time::sleep(SEARCH_EVERY)).await.is_none() {
            return;
        }
    }
}

/// None while the clock is doubted.
async fn load_due_reports(
    database: &Database,
    store: &Store,
    clock: &mut ClockWatch,
    config: &Config,
) -> anyhow::Result<Option<DueReports>> {
    let now = store.now().await?;
    if clock.judge(now, Instant::now()).is_some() {
        return Ok(None);
    }
    let client = database.connection().await?;
    Ok(Some(missing::find_missing(&client, config, now).await?))
}

/// The missing reports that were raised already.
#[derive(Default)]
struct Raised(Vec<Missing>);

impl Raised {
    /// Raises the reports that are newly missing, and logs those that were delivered in the end.
    fn update(&mut self, standing: &DueReports, config: &Config, pings: &Pings) {
        for missing in self.newly_missing(standing) {
            let (job, slot) = (missing.report, time_text(missing.slot));
            error!(job, slot, "missing: {missing}");
            if let Some(url) = ping_url(config, job) {
                pings.send(Ping { job, url, signal: Signal::Fail, run: None, body: missing.to_string() });
            }
        }
        for raised in &self.0 {
            let (job, slot) = (raised.report, time_text(raised.slot));
            if standing.delivered.contains(&(raised.report, raised.slot)) {
                info!(job, slot, "the report {job} for {slot} is not missing any more");
            }
        }
        self.0.clone_from(&standing.missing);
    }

    fn newly_missing<'a>(&self, standing: &'a DueReports) -> Vec<&'a Missing> {
        standing.missing.iter().filter(|missing| !self.0.iter().any(|raised| raised.is_same(missing))).collect()
    }

    /// For the status line; empty if no report is missing.
    fn status_part(&self) -> String {
        let reports =
            self.0.iter().map(|missing| format!("{} {}", missing.report, missing.slot.format("%Y-%m-%d %H:%M")));
        let reports: Vec<String> = reports.collect();
        if reports.is_empty() { String::new() } else { format!("missing: {}, see the log", reports.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reports::missing::Lack;

    #[test]
    fn a_missing_report_is_raised_once_for_a_slot_and_a_kind() {
        let slot = |text: &str| text.parse().unwrap_or_default();
        let (sunday, monday) = (slot("2026-11-22T04:45:00Z"), slot("2026-11-23T04:45:00Z"));
        let mails = |parked| Lack::Mails { document: 7, waiting: 0, parked, answer: None };
        let standing = |slot, lack| {
            let missing = vec![Missing { report: "arrears", slot, lack }];
            DueReports { missing, delivered: Vec::new() }
        };
        let mut raised = Raised::default();
        let (config, pings) = (Config::load(None, None), Pings::default());
        let Ok(config) = config else { return assert!(config.is_ok()) };
        let mut update = |standing: DueReports| {
            let newly_missing = raised.newly_missing(&standing).len();
            raised.update(&standing, &config, &pings);
            (newly_missing, raised.status_part())
        };
        let shown = "missing: arrears 2026-11-22 04:45, see the log".to_owned();
        assert_eq!(update(standing(sunday, Lack::Report)), (1, shown.clone()));
        assert_eq!(update(standing(sunday, Lack::Report)), (0, shown.clone()));
        // It was made in the end, and is not delivered: that is another alarm.
        assert_eq!(update(standing(sunday, mails(1))), (1, shown.clone()));
        assert_eq!(update(standing(sunday, mails(2))), (0, shown));
        assert_eq!(update(standing(monday, mails(2))).0, 1);
        assert_eq!(update(DueReports::default()), (0, String::new()));
        assert_eq!(update(standing(monday, mails(2))).0, 1, "again");
    }
}
