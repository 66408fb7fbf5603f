//! `/v1/accounts`: balance, check, holds, batches, entries and statements.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::super::auth::MayRead;
use super::super::{LONGEST_CUTOFF, Problem, Server};
use super::input::{Instant, Params, Place, Refusals, items, named};
use crate::language::Language;
use crate::ledger::{
    self, Batches, Before, Check, EntryFilter, EntryType, ExportedBatch, ExportedEntry, HoldPage, NextExpiry, Order,
    Page, Reader, Span, Then, Totals,
};
use crate::reports::statement::{Form, OfDays};
use crate::time::{Days, time_text};

/// How many of the next expiries a balance shows.
const EXPIRIES: u32 = 5;

/// A past instant, on one of two clocks.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Clock {
    /// What had happened by then, as known now.
    #[param(value_type = Option<String>, format = DateTime)]
    effective_at: Option<Instant>,
    /// What the books said then; it never changes afterwards.
    #[param(value_type = Option<String>, format = DateTime)]
    as_of: Option<Instant>,
}

impl Clock {
    fn then(&self, now: DateTime<Utc>) -> Result<Option<Then>, Problem> {
        let (name, then) = match (self.effective_at, self.as_of) {
            (None, None) => return Ok(None),
            (Some(Instant(at)), None) => ("effective_at", Then::EffectiveAt(at)),
            (None, Some(Instant(at))) => ("as_of", Then::AsOf(at)),
            (Some(_), Some(_)) => {
                return Err(Problem::bad_request("as_of: there is effective_at, too; give one of them"));
            }
        };
        let (Then::AsOf(at) | Then::EffectiveAt(at)) = then;
        if at > now {
            let at = time_text(at);
            let detail = format!("{name}: {at} lies in the future, of which the books say nothing yet");
            return Err(Problem::bad_request(detail));
        }
        Ok(Some(then))
    }
}

/// An account. All is zero for one that was never opened.
#[derive(Serialize, ToSchema)]
#[schema(as = Balance)]
pub(super) struct BalanceJson {
    /// The user of the account.
    user: Uuid,
    /// The balance after the last entry; below zero in arrears. Points past their expiry stay in it until a posting or the
    /// nightly run expires them. `available` leaves them out at once.
    balance: i64,
    /// What the account owes.
    arrears: i64,
    #[serde(flatten)]
    totals: Totals,
    /// Points that are spendable now.
    #[serde(skip_serializing_if = "Option::is_none")]
    available: Option<i64>,
    /// Points that holds reserve now.
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<i64>,
    /// The next instants at which points expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_expiries: Option<Vec<NextExpiry>>,
    /// What the account came to in another service, where its tables were taken over. No total above counts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Before>,
    /// The past instant that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    effective_at: Option<String>,
    /// The past instant that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    as_of: Option<String>,
}

/// The balance of an account, now or at a past instant.
///
/// `available`, `held`, `next_expiries` and `before` are told of the present only.
#[utoipa::path(
    get, path = "/v1/accounts/{user}/balance", tag = "accounts", operation_id = "get_balance",
    params(("user" = Uuid, Path, description = "The user of the account"), Clock),
    responses((status = 200, description = "The balance", body = BalanceJson), Refusals),
    security(("token" = ["read"]))
)]
pub(super) async fn balance(
    State(server): State<Server>,
    _: MayRead,
    Place(user): Place<Uuid>,
    Params(clock): Params<Clock>,
) -> Result<Json<BalanceJson>, Problem> {
    let now = Utc::now();
    let then = clock.then(now)?;
    let client = server.reading().await?;
    let reader = Reader::new(&client);
    let Some(then) = then else {
        let balance = reader.balance(user, now).await?;
        return Ok(Json(BalanceJson {
            user,
            balance: balance.balance,
            arrears: balance.arrears,
            totals: balance.totals,
            available: Some(balance.available),
            held: Some(balance.held),
            next_expiries: Some(reader.next_expiries(user, now, EXPIRIES).await?),
            before: balance.before,
            effective_at: None,
            as_of: None,
        }));
    };
    let balance = reader.balance_then(user, then, LONGEST_CUTOFF).await?;
    let (effective_at, as_of) = match then {
        Then::EffectiveAt(at) => (Some(time_text(at)), None),
        Then::AsOf(at) => (None, Some(time_text(at))),
    };
    Ok(Json(BalanceJson {
        user,
        balance: balance.balance,
        arrears: balance.arrears,
        totals: balance.totals,
        available: None,
        held: None,
        next_expiries: None,
        before: None,
        effective_at,
        as_of,
    }))
}

/// What work will cost.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Required {
    /// The points.
    #[param(minimum = 0)]
    points: i64,
}

/// Whether an account may start work: it owes nothing and has the points.
#[utoipa::path(
    get, path = "/v1/accounts/{user}/check", tag = "accounts", operation_id = "check_account",
    params(("user" = Uuid, Path, description = "The user of the account"), Required),
    responses((status = 200, description = "`sufficient` is the answer", body = Check), Refusals),
    security(("token" = ["read"]))
)]
pub(super) async fn check(
    State(server): State<Server>,
    _: MayRead,
    Place(user): Place<Uuid>,
    Params(Required { points }): Params<Required>,
) -> Result<Json<Check>, Problem> {
    if points < 0 {
        return Err(Problem::bad_request(format!("points: {points} cannot be required; give 0 or more")));
    }
    let client = server.reading().await?;
    Ok(Json(Reader::new(&client).check(user, points, Utc::now()).await?))
}

/// Which part of the holds.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HoldParams {
    /// `next` of the page before.
    cursor: Option<Uuid>,
    /// How many, by default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// The holds of an account that are neither consumed nor released, the next to end first.
#[utoipa::path(
    get, path = "/v1/accounts/{user}/holds", tag = "accounts", operation_id = "list_holds",
    params(("user" = Uuid, Path, description = "The user of the account"), HoldParams),
    responses((status = 200, description = "A page", body = HoldPage), Refusals),
    security(("token" = ["read"]))
)]
pub(super) async fn holds(
    State(server): State<Server>,
    _: MayRead,
    Place(user): Place<Uuid>,
    Params(params): Params<HoldParams>,
) -> Result<Json<HoldPage>, Problem> {
    let limit = items(params.limit)?;
    let client = server.reading().await?;
    Ok(Json(Reader::new(&client).holds(user, params.cursor, limit).await?))
}

/// Which batches.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct BatchParams {
    /// Also those without points left, and all by their numbers.
    #[serde(default)]
    #[param(default = false)]
    all: bool,
    /// `next` of the page before.
    cursor: Option<i64>,
    /// How many, by default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// The batches of an account that have points left, the next to expire first; or all batches.
#[utoipa::path(
    get, path = "/v1/accounts/{user}/batches", tag = "accounts", operation_id = "list_batches",
    params(("user" = Uuid, Path, description = "The user of the account"), BatchParams),
    responses((status = 200, description = "A page", body = Page<ExportedBatch>), Refusals),
    security(("token" = ["read"]))
)]
pub(super) async fn batches(
    State(server): State<Server>,
    _: MayRead,
    Place(user): Place<Uuid>,
    Params(params): Params<BatchParams>,
) -> Result<Json<Page<ExportedBatch>>, Problem> {
    let which = if params.all { Batches::All } else { Batches::Open };
    let limit = items(params.limit)?;
    let client = server.reading().await?;
    Ok(Json(Reader::new(&client).batches(user, which, params.cursor, limit).await?))
}

/// Which entries, and in which order. Each period includes its begin and excludes its end.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EntryParams {
    /// `newest` first, which is the default, or `oldest` first.
    #[serde(default)]
    #[param(inline)]
    order: EntryOrder,
    /// `next` of the page before, or the number of an entry: the page goes on behind it.
    cursor: Option<i64>,
    /// How many, by default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// Effective from this instant on.
    #[param(value_type = Option<String>, format = DateTime)]
    effective_from: Option<Instant>,
    /// Effective before this instant.
    #[param(value_type = Option<String>, format = DateTime)]
    effective_before: Option<Instant>,
    /// Recorded from this instant on.
    #[param(value_type = Option<String>, format = DateTime)]
    recorded_from: Option<Instant>,
    /// Recorded before this instant.
    #[param(value_type = Option<String>, format = DateTime)]
    recorded_before: Option<Instant>,
    /// Only of this type.
    #[serde(rename = "type")]
    #[param(value_type = Option<EntryType>, inline)]
    kind: Option<String>,
    /// Only of this kind of service, or this source of points.
    source_type: Option<String>,
}

#[derive(Default, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum EntryOrder {
    #[default]
    Newest,
    Oldest,
}

/// The history of an account, page by page.
///
/// A page reads 10,000 entries at most. So with filters it may hold fewer items than asked for, even none, and still name a
/// `next`: go on until that is null.
#[utoipa::path(
    get, path = "/v1/accounts/{user}/entries", tag = "accounts", operation_id = "list_entries",
    params(("user" = Uuid, Path, description = "The user of the account"), EntryParams),
    responses((status = 200, description = "A page", body = Page<ExportedEntry>), Refusals),
    security(("token" = ["read"]))
)]
pub(super) async fn entries(
    State(server): State<Server>,
    _: MayRead,
    Place(user): Place<Uuid>,
    Params(params): Params<EntryParams>,
) -> Result<Json<Page<ExportedEntry>>, Problem> {
    let instant = |instant: Option<Instant>| instant.map(|Instant(at)| at);
    let filter = EntryFilter {
        effective_from: instant(params.effective_from),
        effective_before: instant(params.effective_before),
        recorded_from: instant(params.recorded_from),
        recorded_before: instant(params.recorded_before),
        kind: named("type", params.kind.as_deref(), &EntryType::ALL, EntryType::as_str)?,
        source_type: params.source_type.map(|source| storable("source_type", source)).transpose()?,
    };
    let order = match params.order {
        EntryOrder::Newest => Order::Newest,
        EntryOrder::Oldest => Order::Oldest,
    };
    let limit = items(params.limit)?;
    let client = server.reading().await?;
    Ok(Json(Reader::new(&client).entries(user, &filter, order, params.cursor, limit).await?))
}

/// A text that the database can compare.
pub(super) fn storable(parameter: &str, text: String) -> Result<String, Problem> {
    match text.contains('\0') {
        true => Err(Problem::bad_request(format!("{parameter}: it has a zero byte, which no text of the ledger has"))),
        false => Ok(text),
    }
}

/// Days of the business, and a format.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Period {
    /// The first day; by default the first of the month of the last day.
    from: Option<NaiveDate>,
    /// The last day, which belongs to the statement; by default today.
    to: Option<NaiveDate>,
    /// How many entries JSON has at most, by default 100. `entries.next` goes on in the account's entries, the oldest first. The
    /// other formats have 10,000. It counts for `adopted` as well.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `json`, which is the default, `text`, `html`, `xlsx` or `csv`.
    #[serde(default)]
    #[param(value_type = Option<Form>, inline)]
    format: Option<Form>,
    /// Of the other formats: `en` or `zh-CN`, by default that of the business.
    #[param(pattern = "^(en|zh-CN)$")]
    language: Option<String>,
}

/// The most entries of a statement that is no JSON.
const MOST_ENTRIES: u32 = 10_000;

/// What happened to an account in days of the business: opening balance, entries, closing balance, open batches.
///
/// The days are those on which entries were recorded. So a statement of days that are over never changes, and the next one begins
/// where it ends. `adopted` has what a service posted in these days before its tables were taken over.
#[utoipa::path(
    get, path = "/v1/accounts/{user}/statement", tag = "accounts", operation_id = "get_statement",
    params(("user" = Uuid, Path, description = "The user of the account"), Period),
    responses(
        (status = 200, description = "The statement", content(
            (OfDays = "application/json"),
            (String = "text/plain"),
            (String = "text/html"),
            (String = "text/csv"),
            (Vec<u8> = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        )),
        Refusals
    ),
    security(("token" = ["read"]))
)]
pub(super) async fn statement(
    State(server): State<Server>,
    _: MayRead,
    Place(user): Place<Uuid>,
    Params(period): Params<Period>,
) -> Result<Response, Problem> {
    let config = server.config();
    let (zone, now) = (config.time_zone, Utc::now());
    let days =
        Days::new(period.from, period.to, zone, now).map_err(|why| Problem::bad_request(format!("from, to: {why}")))?;
    let limit = items(period.limit)?;
    let languages = [Language::English, Language::SimplifiedChinese];
    let language = named("language", period.language.as_deref(), &languages, Language::tag)?;
    match period.format.unwrap_or(Form::Json) {
        Form::Json => Ok(Json(of_days(&server, user, days, limit).await?).into_response()),
        form => rendered(&server, user, days, form, language.unwrap_or(config.language)).await,
    }
}

async fn of_days(server: &Server, user: Uuid, days: Days, limit: u32) -> Result<OfDays, Problem> {
    let mut client = server.reading().await?;
    let span = Span::up_to(&client, (days.from, days.before), LONGEST_CUTOFF).await?;
    let statement = ledger::statement(&mut client, user, span, limit).await?;
    Ok(OfDays::new(statement, days, server.config().time_zone))
}

/// A statement in any form. A browser shows a page and saves the other forms.
pub(in crate::http) async fn rendered(
    server: &Server,
    user: Uuid,
    days: Days,
    form: Form,
    language: Language,
) -> Result<Response, Problem> {
    // It holds texts of callers: no script may run, and nothing may be loaded.
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; sandbox; form-action 'none'; frame-ancestors 'none'; \
                          base-uri 'none'";
    let place = server.rendering().await?;
    let statement = of_days(server, user, days, MOST_ENTRIES).await?;
    let (config, name) = (server.config(), statement.file_name());
    // A long one keeps a core busy.
    let content = tokio::task::spawn_blocking(move || {
        let _place = place;
        statement.render(form, &config, language)
    });
    let content = content.await;
    let content = content.map_err(|error| Problem::internal(&error))?;
    let content = content.map_err(|error| Problem::internal(error.as_ref()))?;
    let shown = if form == Form::Html { "inline" } else { "attachment" };
    let headers = [
        (header::CONTENT_TYPE, form.media_type().to_owned()),
        (header::CONTENT_DISPOSITION, format!("{shown}; filename=\"{name}.{}\"", form.extension())),
        (header::CONTENT_SECURITY_POLICY, POLICY.to_owned()),
    ];
    Ok((headers, content).into_response())
}
