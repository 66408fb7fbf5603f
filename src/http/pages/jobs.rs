//! Jobs and runs.

use axum::response::Response;
use chrono::Utc;
use minijinja::{Value, context};
use serde::Deserialize;

use super::overview::{STRIP, job_view, progress};
use super::session::Visitor;
use crate::http::api::input::{Params, Place, one_more, page};
use crate::http::problem::Problem;
use crate::jobs::{self, REGISTRY, RegisteredJob};
use crate::language::Language;
use crate::ledger::Page;
use crate::messages::{Messages, args};
use crate::reports;
use crate::scheduler::{CatchUp, RunRow, State};
use crate::status::{Explanation, JobOverview};
use crate::time::span_text;

/// Runs on a page.
const ROWS: u32 = 50;

/// `/jobs/{name}`
pub(super) async fn job(visitor: Visitor, Place(name): Place<String>) -> Result<Response, Problem> {
    let job = RegisteredJob::named(&name);
    let job = job.ok_or_else(|| Problem::not_found("there is no such job; the overview lists the jobs"))?;
    let (config, now) = (visitor.server.config(), Utc::now());
    let store = visitor.server.store().await?;
    let overview = JobOverview::read_one(job, &store, &config, now).await?;
    let runs = store.runs(Some(job.name), None, None, STRIP).await?;
    let settings = (job.settings)(&config);
    let content = context! {
        view => job_view(&overview, &runs, &config, visitor.frame.messages.language()), runs => run_views(&runs, visitor.frame.messages),
        explanation => Value::from_serialize(Explanation::of(job, &config, now)),
        timeout => settings.timeout.as_secs(), retries => settings.retries,
        catch_up => catch_up(settings.catch_up, visitor.frame.messages), overlap => settings.overlap.to_string(),
    };
    Ok(visitor.page("job.html", content))
}

fn catch_up(policy: CatchUp, messages: Messages) -> String {
    match policy {
        CatchUp::None => messages.label("catch-up-none"),
        CatchUp::Latest => messages.label("catch-up-latest"),
        CatchUp::All(most) => messages.text("catch-up-all", args![slots = most]),
    }
}

/// Which runs to list.
#[derive(Deserialize)]
pub(super) struct Filter {
    job: Option<String>,
    state: Option<String>,
    before: Option<i64>,
}

/// `/runs`
pub(super) async fn runs(visitor: Visitor, Params(filter): Params<Filter>) -> Result<Response, Problem> {
    let job = filter.job.as_deref().and_then(RegisteredJob::named);
    let state = State::ALL.iter().copied().find(|state| filter.state.as_deref() == Some(state.as_str()));
    let store = visitor.server.store().await?;
    let runs = store.runs(job.map(|job| job.name), state, filter.before, i64::from(one_more(ROWS))).await?;
    let Page { items, next } = page(runs, ROWS, |run| run.run);
    let content = context! {
        runs => run_views(&items, visitor.frame.messages), next, first => filter.before.is_none(), job => job.map(|job| job.name), state => state.map(State::as_str),
        jobs => REGISTRY.iter().map(|job| job.name).collect::<Vec<_>>(),
        states => State::ALL.iter().map(|state| state.as_str()).collect::<Vec<_>>(),
    };
    Ok(visitor.page("runs.html", content))
}

/// `/runs/{run}`
pub(super) async fn run(visitor: Visitor, Place(number): Place<i64>) -> Result<Response, Problem> {
    let messages = visitor.frame.messages;
    let run = visitor.server.store().await?.run(number).await?;
    let run = run.ok_or_else(|| Problem::not_found("there is no such run, or it was pruned; see the list of runs"))?;
    let report = match RegisteredJob::named(&run.job).filter(|job| job.makes_report) {
        Some(_) => {
            let client = visitor.server.reading().await?;
            reports::find_by_slot(&client, &run.job, run.slot).await?
        }
        None => None,
    };
    let content = context! { run => run_view(&run, messages), counters => counters(&run, messages), report };
    Ok(visitor.page("run.html", content))
}

/// What a run counted: as its job tells it, or the numbers that this version finds.
fn counters(run: &RunRow, messages: Messages) -> Vec<Value> {
    let Some(kept) = &run.counters else { return Vec::new() };
    let counted = RegisteredJob::named(&run.job).and_then(|job| (job.counted)(kept.clone()).ok());
    let mut told = counted.map(|counted| counted.counters.details(messages)).unwrap_or_default();
    if told.is_empty() {
        let numbers = kept.as_object().into_iter().flatten().filter(|(_, value)| value.is_number());
        let label = |name: &str| messages.find(&format!("counter-{}", name.replace('_', "-")), &[]);
        told = numbers.map(|(name, value)| (label(name).unwrap_or_else(|| name.clone()), value.to_string())).collect();
    }
    told.into_iter().map(|(name, value)| context! { name, value }).collect()
}

fn run_views(runs: &[RunRow], messages: Messages) -> Vec<Value> {
    runs.iter().map(|run| run_view(run, messages)).collect()
}

fn run_view(run: &RunRow, messages: Messages) -> Value {
    let result = match run.state {
        State::Succeeded => jobs::summary(run, messages),
        State::Failed => run.error.clone().unwrap_or_default(),
        State::Running => String::new(),
        State::Skipped | State::Missed | State::Cancelled => run.why.clone().unwrap_or_default(),
    };
    let took = run.started.zip(run.finished).map(|(started, finished)| span_text(finished - started));
    // What a daemon wrote down is in English.
    let result_language = if run.state == State::Succeeded { messages.language() } else { Language::English };
    context! { result, result_language => result_language.tag(), took => took.unwrap_or_default(), progress => progress(run), ..Value::from_serialize(run) }
}
