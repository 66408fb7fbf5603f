//! reports who owes points

use super::Job;
use crate::scheduler::Ended;

/// The job.
pub const JOB: Job = Job {
    name: "arrears",
    about: "reports who owes points",
    settings: |config| &config.jobs.arrears,
    work: |_, _| Box::pin(async { Ok(Ended::Done(serde_json::json!({}))) }),
    dry_run: |_, _, _| Box::pin(async { Ok(serde_json::json!({})) }),
};
