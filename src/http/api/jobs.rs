//! `/v1/jobs`, `/v1/runs` and `/v1/status`: whether all is well, when jobs run, and what became of it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::Utc;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::super::auth::{MayOperate, MayRead};
use super::super::{Problem, Server};
use super::input::{Instant, Order, Params, Place, Refusals, items, named, one_more, page, whole};
use super::orders::carry_out;
use crate::jobs::{REGISTRY, RegisteredJob};
use crate::ledger::Page;
use crate::scheduler::{RunRow, State as RunState};
use crate::status::{JobOverview, Status};
use crate::time::time_text;

/// Whether all is well: daemons, jobs, requests, mails, findings, arrears.
#[utoipa::path(
    get, path = "/v1/status", tag = "jobs", operation_id = "get_status",
    responses((status = 200, description = "`state` is the answer in one word", body = Status), Refusals),
    security(("token" = ["read"]))
)]
pub(super) async fn status(State(server): State<Server>, _: MayRead) -> Result<Json<Status>, Problem> {
    Ok(Json(server.status().await?))
}

/// The jobs: when each runs next, and how it ended last.
#[utoipa::path(
    get, path = "/v1/jobs", tag = "jobs", operation_id = "list_jobs",
    responses((status = 200, description = "All jobs", body = Page<JobOverview>), Refusals),
    security(("token" = ["read"]))
)]
pub(super) async fn list(State(server): State<Server>, _: MayRead) -> Result<Json<Page<JobOverview>>, Problem> {
    Ok(Json(whole(JobOverview::read(&*server.store().await?, &server.config(), Utc::now()).await?)))
}

/// A job.
#[utoipa::path(
    get, path = "/v1/jobs/{job}", tag = "jobs", operation_id = "get_job",
    params(("job" = String, Path, description = "Its name, such as expiry")),
    responses((status = 200, description = "The job", body = JobOverview), Refusals),
    security(("token" = ["read"]))
)]
pub(super) async fn job(
    State(server): State<Server>,
    _: MayRead,
    Place(name): Place<String>,
) -> Result<Json<JobOverview>, Problem> {
    overview(&server, job_named(&name)?).await
}

async fn overview(server: &Server, job: &RegisteredJob) -> Result<Json<JobOverview>, Problem> {
    Ok(Json(JobOverview::read_one(job, &*server.store().await?, &server.config(), Utc::now()).await?))
}

fn job_named(name: &str) -> Result<&'static RegisteredJob, Problem> {
    RegisteredJob::named(name).ok_or_else(|| {
        let names: Vec<&str> = REGISTRY.iter().map(|job| job.name).collect();
        Problem::not_found(format!("there is no job {name}; there are {}", names.join(", ")))
    })
}

/// Pauses a job: all daemons skip its slots until it is resumed.
#[utoipa::path(
    post, path = "/v1/jobs/{job}/pause", tag = "jobs", operation_id = "pause_job",
    params(("job" = String, Path, description = "Its name, such as expiry")),
    responses((status = 200, description = "The job, which is paused", body = JobOverview), Refusals),
    security(("token" = ["operate"]))
)]
pub(super) async fn pause(
    State(server): State<Server>,
    MayOperate(holder): MayOperate,
    Place(name): Place<String>,
) -> Result<Json<JobOverview>, Problem> {
    let job = job_named(&name)?;
    let by = Some(holder.name.as_str());
    let act = async { Ok((set_paused(&server, job, by).await?, "done".to_owned())) };
    carry_out(&server, &holder, ("pause", job.name), act).await?;
    overview(&server, job).await
}

/// Resumes a paused job: its next slot is run.
#[utoipa::path(
    post, path = "/v1/jobs/{job}/resume", tag = "jobs", operation_id = "resume_job",
    params(("job" = String, Path, description = "Its name, such as expiry")),
    responses((status = 200, description = "The job, which is not paused", body = JobOverview), Refusals),
    security(("token" = ["operate"]))
)]
pub(super) async fn resume(
    State(server): State<Server>,
    MayOperate(holder): MayOperate,
    Place(name): Place<String>,
) -> Result<Json<JobOverview>, Problem> {
    let job = job_named(&name)?;
    let act = async { Ok((set_paused(&server, job, None).await?, "done".to_owned())) };
    carry_out(&server, &holder, ("resume", job.name), act).await?;
    overview(&server, job).await
}

async fn set_paused(server: &Server, job: &RegisteredJob, by: Option<&str>) -> Result<(), Problem> {
    Ok(job.pause(&*server.store().await?, &server.config(), by, Utc::now()).await?)
}

/// For which slot a job is to run.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RunOrder {
    /// The slot; by default now. No slot in the future.
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Instant>,
    /// Prove everything, from each account's first entry on (reconciliation).
    #[serde(default)]
    full: bool,
}

/// Begins a run of a job now. The answer does not wait for its end: `/v1/runs/{run}` tells of it.
#[utoipa::path(
    post, path = "/v1/jobs/{job}/run", tag = "jobs", operation_id = "run_job",
    params(("job" = String, Path, description = "Its name, such as expiry")),
    request_body = Option<RunOrder>,
    responses(
        (status = 202, description = "The run, which has begun", body = RunRow),
        (status = 409, description = "Another run of the job is under way; `run` is that", body = Problem,
            content_type = "application/problem+json"),
        Refusals
    ),
    security(("token" = ["operate"]))
)]
pub(super) async fn run(
    State(server): State<Server>,
    MayOperate(holder): MayOperate,
    Place(name): Place<String>,
    Order(order): Order<RunOrder>,
) -> Result<(StatusCode, Json<RunRow>), Problem> {
    let job = job_named(&name)?;
    if order.full && !job.takes_full {
        let detail = format!("full: {} always does all of its work; leave it out", job.name);
        return Err(Problem::bad_request(detail));
    }
    let slot = order.at.map(|Instant(at)| at);
    let now = server.store().await?.now().await?;
    if slot.is_some_and(|slot| !job.takes_slot(slot, now, false)) {
        let (slot, now) = (slot.map(time_text).unwrap_or_default(), time_text(now));
        let detail = format!("at: {slot} lies in the future: the database's clock shows {now}; correct it");
        return Err(Problem::bad_request(detail));
    }
    let act = async {
        match server.begin_run(job, slot, order.full).await? {
            Ok(run) => {
                let outcome = format!("run {}", run.run);
                Ok((run, outcome))
            }
            Err(busy) => {
                let why = format!("run {} of {} is under way already; wait for its end", busy.run, job.name);
                Err(Problem::new(StatusCode::CONFLICT, "busy", why).with("run", busy))
            }
        }
    };
    let run = carry_out(&server, &holder, ("run", job.name), act).await?;
    Ok((StatusCode::ACCEPTED, Json(run)))
}

/// Which runs.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RunParams {
    /// Only of this job.
    job: Option<String>,
    /// Only in this state.
    #[param(value_type = Option<RunState>, inline)]
    state: Option<String>,
    /// `next` of the page before.
    cursor: Option<i64>,
    /// How many, by default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// The runs: slots that were run, skipped or missed, and runs by hand; the newest first.
#[utoipa::path(
    get, path = "/v1/runs", tag = "runs", operation_id = "list_runs",
    params(RunParams),
    responses((status = 200, description = "A page", body = Page<RunRow>), Refusals),
    security(("token" = ["read"]))
)]
pub(super) async fn runs(
    State(server): State<Server>,
    _: MayRead,
    Params(params): Params<RunParams>,
) -> Result<Json<Page<RunRow>>, Problem> {
    let names: Vec<&'static str> = REGISTRY.iter().map(|job| job.name).collect();
    let job = named("job", params.job.as_deref(), &names, |name| name)?;
    let state = named("state", params.state.as_deref(), RunState::ALL, RunState::as_str)?;
    let limit = items(params.limit)?;
    let runs = server.store().await?.runs(job, state, params.cursor, i64::from(one_more(limit))).await?;
    Ok(Json(page(runs, limit, |run| run.run)))
}

/// A run.
#[utoipa::path(
    get, path = "/v1/runs/{run}", tag = "runs", operation_id = "get_run",
    params(("run" = i64, Path, description = "Its number")),
    responses((status = 200, description = "The run", body = RunRow), Refusals),
    security(("token" = ["read"]))
)]
pub(super) async fn one_run(
    State(server): State<Server>,
    _: MayRead,
    Place(run): Place<i64>,
) -> Result<Json<RunRow>, Problem> {
    find_run(&server, run).await
}

async fn find_run(server: &Server, run: i64) -> Result<Json<RunRow>, Problem> {
    let row = server.store().await?.run(run).await?;
    row.map(Json).ok_or_else(|| Problem::not_found(format!("there is no run {run}, or it was pruned")))
}

/// Cancels a run under way. What it has finished stays.
#[utoipa::path(
    post, path = "/v1/runs/{run}/cancel", tag = "runs", operation_id = "cancel_run",
    params(("run" = i64, Path, description = "Its number")),
    responses(
        (status = 200, description = "The run, which is cancelled", body = RunRow),
        (status = 409, description = "It is over already", body = Problem, content_type = "application/problem+json"),
        Refusals
    ),
    security(("token" = ["operate"]))
)]
pub(super) async fn cancel(
    State(server): State<Server>,
    MayOperate(holder): MayOperate,
    Place(run): Place<i64>,
) -> Result<Json<RunRow>, Problem> {
    let act = async {
        let cancelled = server.store().await?.cancel(run, &holder.name).await?;
        let row = find_run(&server, run).await?;
        if cancelled {
            return Ok((row, "done".to_owned()));
        }
        let why = format!("run {run} of {} is over already: {}", row.job, row.state.as_str());
        Err(Problem::new(StatusCode::CONFLICT, "over", why))
    };
    carry_out(&server, &holder, ("cancel", &run.to_string()), act).await
}
