//! The runs under way in this process, for its status line.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The runs under way in this process.
#[derive(Default)]
pub struct Board(Mutex<BTreeMap<i64, RunProgress>>);

/// A run under way.
#[derive(Clone, Debug)]
pub struct RunProgress {
    /// The job's name.
    pub job: &'static str,
    /// How much is done, of how much.
    pub progress: Option<(u64, u64)>,
    /// How much is done each second, since the first progress of this attempt.
    pub rate: Option<u64>,
    first: Option<(Instant, u64)>,
}

impl Board {
    /// The runs under way, the oldest first.
    pub fn runs(&self) -> Vec<RunProgress> {
        self.lock().values().cloned().collect()
    }

    pub(super) fn begin(&self, run: i64, job: &'static str) {
        self.lock().insert(run, RunProgress { job, progress: None, rate: None, first: None });
    }

    pub(super) fn show(&self, run: i64, done: u64, total: u64) {
        if let Some(shown) = self.lock().get_mut(&run) {
            let (since, from) = *shown.first.get_or_insert((Instant::now(), done));
            let milliseconds = since.elapsed().as_millis();
            let rate = (u128::from(done.saturating_sub(from)) * 1000).checked_div(milliseconds);
            shown.rate = rate.and_then(|rate| u64::try_from(rate).ok()).filter(|rate| *rate > 0);
            shown.progress = Some((done, total));
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
