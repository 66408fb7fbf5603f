//! The overview: whether all is well, and where to look if not.

use axum::response::Response;
use minijinja::{Value, context};

use super::charts;
use super::session::Visitor;
use crate::config::Config;
use crate::http::problem::Problem;
use crate::jobs::RegisteredJob;
use crate::language::Language;
use crate::ledger::Progress;
use crate::messages::{Messages, args};
use crate::plain;
use crate::reports;
use crate::scheduler::RunRow;
use crate::status::{Concern, JobOverview, MOST_COUNTED, seconds_text};

/// Slots in the strip of a job.
pub(super) const STRIP: i64 = 30;

/// `/`
pub(super) async fn overview(visitor: Visitor) -> Result<Response, Problem> {
    let (server, config) = (&visitor.server, visitor.server.config());
    let status = server.status().await?;
    let store = server.store().await?;
    let language = visitor.frame.messages.language();
    let mut jobs = Vec::with_capacity(status.jobs.len());
    for job in &status.jobs {
        jobs.push(job_view(job, &store.runs(Some(job.job), None, None, STRIP).await?, &config, language));
    }
    drop(store);
    let client = server.reading().await?;
    let mut latest = Vec::new();
    for report in reports::ALL {
        if let Some(listed) = reports::list(&client, Some(report), None, 1).await?.pop() {
            let document = match charts::load(server, &client, listed.document).await {
                // One report of another version hides no others.
                Err(reports::Error::Unreadable { .. }) => None,
                loaded => loaded?,
            };
            latest.push(context! { listed, document => document.map(|document| charts::gist(&document)) });
        }
    }
    let messages = visitor.frame.messages;
    let concerns: Vec<Value> = status.look.iter().map(|concern| concern_view(concern, messages)).collect();
    let content =
        context! { status => Value::from_serialize(&status), concerns, jobs, latest, most_counted => MOST_COUNTED };
    Ok(visitor.page("overview.html", content))
}

/// A job with its last slots, the oldest first.
pub(super) fn job_view(job: &JobOverview, runs: &[RunRow], config: &Config, language: Language) -> Value {
    let settings = RegisteredJob::named(job.job).map(|job| (job.settings)(config));
    let strip: Vec<Value> =
        runs.iter().rev().map(|run| context! { run => run.run, state => run.state, slot => run.slot }).collect();
    context! {
        name => job.job, words => settings.map(|settings| settings.schedule.in_words_of(language)), job => Value::from_serialize(job), strip,
        progress => job.running.as_ref().and_then(progress),
    }
}

/// How far a run has come.
pub(super) fn progress(run: &RunRow) -> Option<Value> {
    let progress = run.progress()?;
    let (Progress { done, total }, percent) = (progress, progress.percent()?);
    Some(context! { done, total, percent })
}

/// What to look at, in the reader's language, and the page that shows it.
fn concern_view(concern: &Concern, messages: Messages) -> Value {
    let (text, link) = match concern {
        Concern::JobPaused { job, by } => {
            let by = plain::line(by).into_owned();
            (messages.text("concern-paused", args![job = *job, by = by]), format!("/jobs/{job}"))
        }
        Concern::JobEnded { job, state } => {
            let state = messages.label(&format!("state-{}", state.as_str()));
            (messages.text("concern-ended", args![job = *job, state = state]), format!("/runs?job={job}"))
        }
        Concern::CommitWaits { seconds } => {
            (messages.text("concern-commit-waits", args![wait = seconds_text(*seconds)]), String::new())
        }
        Concern::RequestWaits { seconds } => (
            messages.text("concern-request-waits", args![wait = seconds_text(*seconds)]),
            "/requests?state=pending".into(),
        ),
        Concern::RequestsRefused { count } => {
            (messages.text("concern-refused", args![count = *count]), "/requests?state=refused".into())
        }
        Concern::RequestsParked { count } => {
            (messages.text("concern-parked", args![count = *count]), "/requests?state=parked".into())
        }
        Concern::MailWaits { seconds } => {
            (messages.text("concern-mail-waits", args![wait = seconds_text(*seconds)]), "/reports".into())
        }
        Concern::MailsParked { count } => {
            (messages.text("concern-mails-parked", args![count = *count]), "/reports".into())
        }
        Concern::FindingsOpen { count } => {
            (messages.text("concern-findings", args![count = *count]), "/reports?report=reconciliation".into())
        }
        Concern::DiskNearlyFull(disk) => (messages.text("concern-disk", args![room = disk.to_string()]), String::new()),
    };
    context! { text, link }
}
