//! `/v1/reports`: the reports as finance gets them.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use lettre::message::Mailbox;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::auth::{MayOperate, MayRead};
use super::super::{DOCUMENT_POLICY, Problem, Server};
use super::input::{Order, Params, Place, Refusals, items, named, one_more, page};
use super::orders::carry_out;
use crate::config::parse_mailbox;
use crate::document::Document;
use crate::ledger::Page;
use crate::numbers::counted;
use crate::render;
use crate::reports::{self, Listed, Resent};

/// The media type of a workbook.
const XLSX: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";

/// The addresses of an order to mail a report again.
const MOST_ADDRESSES: usize = 100;

/// Which reports.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ReportParams {
    /// Only of this kind: expiry, reconciliation, arrears, month_end or adoption.
    #[param(pattern = "^(expiry|reconciliation|arrears|month_end|adoption)$")]
    report: Option<String>,
    /// `next` of the page before.
    cursor: Option<i64>,
    /// How many, by default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// The reports and the state of their mails, the newest first.
#[utoipa::path(
    get, path = "/v1/reports", tag = "reports", operation_id = "list_reports",
    params(ReportParams),
    responses((status = 200, description = "A page", body = Page<Listed>), Refusals),
    security(("token" = ["read"]))
)]
pub(super) async fn list(
    State(server): State<Server>,
    _: MayRead,
    Params(params): Params<ReportParams>,
) -> Result<Json<Page<Listed>>, Problem> {
    let report = named("report", params.report.as_deref(), &reports::ALL, |name| name)?;
    let limit = items(params.limit)?;
    let client = server.reading().await?;
    let listed = reports::list(&client, report, params.cursor, one_more(limit)).await?;
    Ok(Json(page(listed, limit, |report| report.document)))
}

/// A report and the state of its mails.
#[utoipa::path(
    get, path = "/v1/reports/{id}", tag = "reports", operation_id = "get_report",
    params(("id" = i64, Path, description = "Its number")),
    responses((status = 200, description = "The report", body = Listed), Refusals),
    security(("token" = ["read"]))
)]
pub(super) async fn one(
    State(server): State<Server>,
    _: MayRead,
    Place(id): Place<i64>,
) -> Result<Json<Listed>, Problem> {
    let client = server.reading().await?;
    reports::find(&client, id).await?.map(Json).ok_or_else(|| unknown(id))
}

fn unknown(id: i64) -> Problem {
    Problem::not_found(format!("there is no report {id}, or it was pruned"))
}

/// The format of a document.
#[derive(Default, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Json,
    Html,
    Xlsx,
}

/// In which format.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct FormatParams {
    /// `json`, which is the default, `html` with the charts, or `xlsx`.
    #[serde(default)]
    #[param(inline)]
    format: Format,
}

/// The document of a report.
#[utoipa::path(
    get, path = "/v1/reports/{id}/document", tag = "reports", operation_id = "get_document",
    params(("id" = i64, Path, description = "Its number"), FormatParams),
    responses(
        (status = 200, description = "The document", content(
            (Object = "application/json"),
            (String = "text/html"),
            (Vec<u8> = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        )),
        Refusals
    ),
    security(("token" = ["read"]))
)]
pub(super) async fn document(
    State(server): State<Server>,
    _: MayRead,
    Place(id): Place<i64>,
    Params(FormatParams { format }): Params<FormatParams>,
) -> Result<Response, Problem> {
    let place = server.rendering().await?;
    let client = server.reading().await?;
    let document = reports::load(&client, id).await?.ok_or_else(|| unknown(id))?;
    drop(client);
    if let Format::Json = format {
        return Ok(Json(document).into_response());
    }
    let templates = server.config().reports.templates.clone();
    // A large one keeps a core busy.
    let rendered = tokio::task::spawn_blocking(move || {
        let _place = place;
        rendered(&document, format, templates.as_deref())
    });
    let rendered = rendered.await;
    rendered.map_err(|error| Problem::internal(&error))?
}

fn rendered(document: &Document, format: Format, templates: Option<&std::path::Path>) -> Result<Response, Problem> {
    let Format::Xlsx = format else {
        let headers =
            [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, DOCUMENT_POLICY)];
        return Ok((headers, reports::page(document, templates)).into_response());
    };
    let workbook = render::xlsx(document).map_err(|error| Problem::internal(&error))?;
    let dated = document.period.clone().unwrap_or_else(|| document.slot.format("%Y-%m-%d").to_string());
    let name = format!("attachment; filename=\"{}-{dated}.xlsx\"", document.report);
    let headers = [(header::CONTENT_TYPE, XLSX.to_owned()), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, workbook).into_response())
}

/// The recipients of a report that is mailed again.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ResendOrder {
    /// Addresses; without one, its recipients.
    #[serde(default)]
    to: Vec<String>,
}

/// Mails that were written.
#[derive(Serialize, ToSchema)]
pub(super) struct Written {
    /// Their numbers. The daemon sends them within seconds; the report tells of their state.
    mails: Vec<i64>,
}

/// Mails a report again, to its recipients or to other addresses.
#[utoipa::path(
    post, path = "/v1/reports/{id}/resend", tag = "reports", operation_id = "resend_report",
    params(("id" = i64, Path, description = "Its number")),
    request_body = Option<ResendOrder>,
    responses(
        (status = 202, description = "Its mails are written, and leave soon", body = Written),
        (status = 409, description = "It has no recipients, or no mail is sent at all", body = Problem,
            content_type = "application/problem+json"),
        Refusals
    ),
    security(("token" = ["operate"]))
)]
pub(super) async fn resend(
    State(server): State<Server>,
    MayOperate(holder): MayOperate,
    Place(id): Place<i64>,
    Order(order): Order<ResendOrder>,
) -> Result<(StatusCode, Json<Written>), Problem> {
    if order.to.len() > MOST_ADDRESSES {
        return Err(Problem::bad_request(format!("to: at most {MOST_ADDRESSES} addresses")));
    }
    let to = order.to.iter().map(|address| parse_mailbox(address));
    let to: Vec<Mailbox> =
        to.collect::<Result<_, _>>().map_err(|error| Problem::bad_request(format!("to: {error}")))?;
    let act = async {
        let (to, config) = ((!to.is_empty()).then_some(to.as_slice()), server.config());
        match reports::resend(&mut *server.reading().await?, id, to, &config.mail).await? {
            Resent::Written(mails) => {
                let to = to.unwrap_or_default().iter().map(|mailbox| mailbox.email.to_string()).collect::<Vec<_>>();
                let to = if to.is_empty() { "its recipients".to_owned() } else { to.join(", ") };
                let outcome = format!("{} to {to}", counted(mails.len() as u64, "mail", "mails"));
                Ok(((StatusCode::ACCEPTED, Json(Written { mails })), outcome))
            }
            Resent::Unknown => Err(unknown(id)),
            refused @ (Resent::NoWay | Resent::NoRecipients { .. }) => {
                let why = refused.to_string().replace("--to", "`to`");
                Err(Problem::new(StatusCode::CONFLICT, "not_sent", why))
            }
        }
    };
    carry_out(&server, &holder, ("resend", &id.to_string()), act).await
}
