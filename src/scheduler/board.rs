//! The runs under way in this process, for its status line.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::ledger::Progress;

/// The runs under way in this process.
#[derive(Default)]
pub struct Board(Mutex<BTreeMap<i64, RunProgress>>);

/// A run under way.
#[derive(Clone, Debug)]
pub struct RunProgress {
    /// The job's name.
    pub job: &'static str,
    /// How much is done, of how much.
    pub progress: Option<Progress>,
    /// How much is done each second, since the first progress of this attempt.
    pub rate: Option<u64>,
    first: Option<(Instant, u64)>,
    /// Whether the run's row does not have this progress yet.
    unsaved: bool,
}

impl Board {
    /// Whether no run is under way.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// The runs under way, the oldest first.
    pub fn runs(&self) -> Vec<RunProgress> {
        self.lock().values().cloned().collect()
    }

    pub(super) fn begin(&self, run: i64, job: &'static str) {
        self.lock().insert(run, RunProgress { job, progress: None, rate: None, first: None, unsaved: false });
    }

    pub(super) fn show(&self, run: i64, progress: Progress) {
        self.set(run, progress, false);
    }

    /// Shows progress that the next heartbeat writes to the run's row.
    pub(super) fn show_unsaved(&self, run: i64, progress: Progress) {
        self.set(run, progress, true);
    }

    /// The progress of a run that its row does not have yet.
    pub(super) fn unsaved(&self, run: i64) -> Option<Progress> {
        self.lock().get(&run).filter(|shown| shown.unsaved)?.progress
    }

    fn set(&self, run: i64, progress: Progress, unsaved: bool) {
        if let Some(shown) = self.lock().get_mut(&run) {
            let (since, from) = *shown.first.get_or_insert((Instant::now(), progress.done));
            let milliseconds = since.elapsed().as_millis();
            let rate = (u128::from(progress.done.saturating_sub(from)) * 1000).checked_div(milliseconds);
            shown.rate = rate.and_then(|rate| u64::try_from(rate).ok()).filter(|rate| *rate > 0);
            shown.progress = Some(progress);
            shown.unsaved = unsaved;
        }
    }

    pub(super) fn end(&self, run: i64) {
        self.lock().remove(&run);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<i64, RunProgress>> {
        // A panic elsewhere leaves the entries valid.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
