//! The reports as finance gets them.

use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use minijinja::{Value, context};
use serde::Deserialize;

use super::charts;
use super::session::Visitor;
use crate::http::DOCUMENT_POLICY;
use crate::http::api::input::{Params, Place, one_more, page};
use crate::http::problem::Problem;
use crate::ledger::Page;
use crate::reports;

/// Reports on a page.
const ROWS: u32 = 50;

/// Which reports to list.
#[derive(Deserialize)]
pub(super) struct Filter {
    report: Option<String>,
    before: Option<i64>,
}

/// `/reports`
pub(super) async fn list(visitor: Visitor, Params(filter): Params<Filter>) -> Result<Response, Problem> {
    let report = reports::ALL.into_iter().find(|report| filter.report.as_deref() == Some(*report));
    let client = visitor.server.reading().await?;
    let listed = reports::list(&client, report, filter.before, one_more(ROWS)).await?;
    let Page { items, next } = page(listed, ROWS, |report| report.document);
    let listed: Vec<Value> = items
        .iter()
        .map(|report| {
            let count =
                |states: &[&str]| report.mails.iter().filter(|mail| states.contains(&mail.state.as_str())).count();
            let (sent, waiting, parked) = (count(&["sent"]), count(&["waiting", "sending"]), count(&["parked"]));
            context! { sent, waiting, parked, ..Value::from_serialize(report) }
        })
        .collect();
    Ok(visitor.page(
        "reports.html",
        context! { listed, report, kinds => reports::ALL, next, first => filter.before.is_none() },
    ))
}

fn missing() -> Problem {
    Problem::not_found("there is no such report, or it was pruned; see the list of reports")
}

/// `/reports/{id}`
pub(super) async fn report(visitor: Visitor, Place(number): Place<i64>) -> Result<Response, Problem> {
    let client = visitor.server.reading().await?;
    let listed = reports::find(&client, number).await?.ok_or_else(missing)?;
    let document = charts::load(&visitor.server, &client, number).await?.ok_or_else(missing)?;
    let content = context! { listed => Value::from_serialize(listed), document => charts::gist(&document) };
    Ok(visitor.page("report.html", content))
}

/// `/reports/{id}/document`: the whole, as it is mailed.
pub(super) async fn document(visitor: Visitor, Place(number): Place<i64>) -> Result<Response, Problem> {
    let place = visitor.server.rendering().await?;
    let client = visitor.server.reading().await?;
    let document = reports::load(&client, number).await?.ok_or_else(missing)?;
    drop(client);
    let config = visitor.server.config();
    let rendered = tokio::task::spawn_blocking(move || {
        let _place = place;
        reports::page(&document, config.reports.templates.as_deref())
    });
    let html = rendered.await.map_err(|error| Problem::internal(&error))?;
    Ok(([(header::CONTENT_SECURITY_POLICY, DOCUMENT_POLICY)], Html(html)).into_response())
}
