//! The facts and the charts of reports. A document never changes, so what pages show of it stays in memory.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use minijinja::{Value, context};
use tokio_postgres::Client;

use super::session::Visitor;
use crate::document::{Document, Section};
use crate::http::Server;
use crate::http::api::input::Place;
use crate::http::problem::Problem;
use crate::render;
use crate::reports;

/// Documents whose facts and charts are kept.
const KEPT: usize = 8;

/// Documents without their texts and tables, by their numbers; the last one that was read is the last.
#[derive(Default)]
pub(in crate::http) struct Charts(Mutex<Vec<(i64, Arc<Document>)>>);

/// A document without its texts and tables; None if there is no such document.
///
/// # Errors
/// A document that cannot be read; or where the database fails.
pub(super) async fn load(
    server: &Server,
    client: &Client,
    number: i64,
) -> Result<Option<Arc<Document>>, reports::Error> {
    let kept = || server.charts().0.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, document)) = kept().iter().find(|(kept, _)| *kept == number) {
        return Ok(Some(Arc::clone(document)));
    }
    let Some(document) = reports::load_charts(client, number).await? else { return Ok(None) };
    let document = Arc::new(document);
    let mut kept = kept();
    if kept.len() >= KEPT {
        kept.remove(0);
    }
    kept.push((number, Arc::clone(&document)));
    Ok(Some(document))
}

/// What a card of a report shows.
pub(super) fn gist(document: &Document) -> Value {
    let charts = document.sections.iter().filter_map(|section| match section {
        Section::Chart(chart) => {
            Some(context! { name => chart.name, title => chart.title, description => chart.description })
        }
        _ => None,
    });
    context! {
        title => document.title, language => document.language.tag(), as_of => document.as_of,
        facts => render::facts(document).into_iter().map(|(label, value)| context! { label, value }).collect::<Vec<_>>(),
        charts => charts.collect::<Vec<_>>(), width => render::PICTURE_WIDTH, height => render::PICTURE_HEIGHT,
    }
}

/// `/reports/{id}/charts/{name}`: a chart as the mail has it.
pub(super) async fn chart(
    _: Visitor,
    State(server): State<Server>,
    Place((number, name)): Place<(i64, String)>,
) -> Result<Response, Problem> {
    let missing = || Problem::not_found("there is no such chart, or its report was pruned");
    let place = server.rendering().await?;
    let client = server.reading().await?;
    let document = load(&server, &client, number).await?.ok_or_else(missing)?;
    drop(client);
    // Drawing takes some milliseconds of a core.
    let drawn = tokio::task::spawn_blocking(move || {
        let _place = place;
        let charts = document.sections.iter().filter_map(|section| match section {
            Section::Chart(chart) => Some(chart),
            _ => None,
        });
        let chart = charts.into_iter().find(|chart| name == format!("{}.png", chart.name))?;
        Some(render::png(chart, &document))
    });
    let drawn = drawn.await.map_err(|error| Problem::internal(&error))?.ok_or_else(missing)?;
    let picture = drawn.map_err(|error| Problem::internal(&error))?;
    let headers = [(header::CONTENT_TYPE, "image/png"), (header::CACHE_CONTROL, "private, max-age=86400, immutable")];
    Ok((headers, picture).into_response())
}
