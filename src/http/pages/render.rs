//! Templates, and what each page shows besides its content.

use std::fmt::Write;
use std::sync::LazyLock;

use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use minijinja::value::{Kwargs, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, context};
use sha2::{Digest, Sha256};

use super::assets::{ICON, SCRIPT, STYLE};
use super::session::cookie;
use crate::http::Server;
use crate::language::Language;
use crate::ledger::NEVER;
use crate::messages::{Argument, Messages};
use crate::numbers::grouped;
use crate::plain;
use crate::render::write_escaped;
use crate::time::{Zone, span_text};

/// Where a choice of language is remembered.
const LANGUAGE_COOKIE: &str = "pointsd_language";

macro_rules! templates {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../templates/pages/", $name)))),*]
    };
}

const TEMPLATES: &[(&str, &str)] = templates![
    "account.html",
    "accounts.html",
    "base.html",
    "job.html",
    "login.html",
    "macros.html",
    "order.html",
    "orders.html",
    "overview.html",
    "problem.html",
    "report.html",
    "reports.html",
    "request.html",
    "requests.html",
    "run.html",
    "runs.html",
];

/// What each page shows around its content.
pub(super) struct Frame {
    pub messages: Messages,
    pub zone: Zone,
    /// The name of the token, where there is a session.
    pub visitor: Option<String>,
    pub may_operate: bool,
    pub csrf: String,
    /// What the last order came to.
    pub said: Option<String>,
    /// Whether the browser came by TLS.
    pub is_secure: bool,
    business: String,
    path: String,
    query: String,
    chosen: Option<Language>,
}

impl Frame {
    /// The frame of a call without a session.
    pub fn of_call(server: &Server, headers: &HeaderMap, uri: &Uri) -> Frame {
        let config = server.config();
        let query = uri.query().unwrap_or_default();
        let chosen = query.split('&').find_map(|pair| pair.strip_prefix("lang=")).and_then(Language::named);
        let remembered = || cookie(headers, LANGUAGE_COOKIE).and_then(Language::named);
        let language = chosen.or_else(remembered).or_else(|| accepted(headers)).unwrap_or(config.language);
        let by_tls = headers.get("x-forwarded-proto").is_some_and(|way| way == "https");
        Frame {
            messages: Messages::new(language),
            zone: config.time_zone,
            visitor: None,
            may_operate: false,
            csrf: String::new(),
            said: None,
            is_secure: config.http.tls.is_some() || by_tls,
            business: config.business.clone(),
            path: uri.path().to_owned(),
            query: query.to_owned(),
            chosen,
        }
    }

    /// A page.
    pub fn page(&self, template: &str, content: Value) -> Response {
        let frame = context! {
            language => self.messages.language().tag(), zone => self.zone.name(), business => self.business,
            visitor => self.visitor, may_operate => self.may_operate, csrf => self.csrf, said => self.said,
            path => self.path, in_english => self.in_language(Language::English),
            in_chinese => self.in_language(Language::SimplifiedChinese),
            style => STYLE.path, script => SCRIPT.path, icon => ICON.path, version => env!("CARGO_PKG_VERSION"),
        };
        let rendered =
            ENVIRONMENT.get_template(template).and_then(|found| found.render(context! { ..content, ..frame }));
        match rendered {
            Ok(html) => {
                let tag = HeaderValue::from_str(&format!("\"{}\"", hex(&html)));
                let mut response = Html(html).into_response();
                if let Ok(tag) = tag {
                    response.headers_mut().insert(header::ETAG, tag);
                }
                response
            }
            Err(error) => {
                tracing::error!("the page {template} cannot be rendered: {error:#}");
                (StatusCode::INTERNAL_SERVER_ERROR, "the page cannot be rendered; the daemon's log says why\n")
                    .into_response()
            }
        }
    }

    /// The address of this page in another language.
    fn in_language(&self, language: Language) -> String {
        let others = self.query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("lang="));
        let chosen = format!("lang={}", language.tag());
        let query: Vec<&str> = others.chain([chosen.as_str()]).collect();
        // A browser takes two slashes for the name of another host.
        format!("/{}?{}", self.path.trim_start_matches(['/', '\\']), query.join("&"))
    }

    /// Remembers a language that was chosen.
    pub fn language_cookie(&self) -> Option<HeaderValue> {
        const YEAR: u32 = 365 * 86_400;
        let tag = self.chosen?.tag();
        let cookie = format!("{LANGUAGE_COOKIE}={tag}; Path=/; HttpOnly; SameSite=Lax; Max-Age={YEAR}");
        HeaderValue::from_str(&cookie).ok()
    }
}

fn hex(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(16).fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The first language that the browser asks for and that there is. Browsers name the best one first.
fn accepted(headers: &HeaderMap) -> Option<Language> {
    let accepted = headers.get(header::ACCEPT_LANGUAGE)?.to_str().ok()?;
    accepted.split(',').find_map(|one| {
        let tag = one.split(';').next()?.trim().to_ascii_lowercase();
        match tag.split('-').next()? {
            "en" => Some(Language::English),
            "zh" => Some(Language::SimplifiedChinese),
            _ => None,
        }
    })
}

/// A text as a part of a query.
pub(super) fn percent(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_formatter(write_escaped);
    environment.add_function("t", message);
    environment.add_filter("number", number);
    environment.add_filter("signed", |value: &Value| number(value).map(|text| plus(value, text)));
    environment.add_filter("when", when);
    environment.add_filter("moment", |state: &State, value: &Value| Ok::<_, Error>(local(state, value)?.0));
    environment.add_filter("span", |seconds: i64| span_text(TimeDelta::try_seconds(seconds).unwrap_or_default()));
    environment.add_filter("clean", |text: &str| plain::line(text).into_owned());
    for (name, source) in TEMPLATES {
        if let Err(error) = environment.add_template(name, source) {
            tracing::error!("the template {name} is flawed: {error:#}");
        }
    }
    environment
});

fn messages_of(state: &State) -> Messages {
    let tag = state.lookup("language");
    Messages::new(tag.and_then(|tag| Language::named(tag.as_str()?)).unwrap_or_default())
}

/// `t("key", name=value)`: a sentence of the catalogue in the reader's language.
fn message(state: &State, key: &str, arguments: Kwargs) -> Result<String, Error> {
    let mut named: Vec<(&str, Argument)> = Vec::new();
    for name in arguments.args() {
        let value: Value = arguments.get(name)?;
        let argument = match i128::try_from(value.clone()) {
            Ok(number) if value.is_number() => Argument::Number(number),
            _ => Argument::Text(plain::line(&value.to_string()).into_owned()),
        };
        named.push((name, argument));
    }
    Ok(messages_of(state).text(key, &named))
}

/// `1,234`, with a real minus.
fn number(value: &Value) -> Result<String, Error> {
    let number = match value.as_str() {
        Some(text) => text.parse::<i128>().ok(),
        None => i128::try_from(value.clone()).ok(),
    };
    Ok(number.map_or_else(|| value.to_string(), |number| grouped(number).replace('-', "−")))
}

/// A sign for points that came.
fn plus(value: &Value, text: String) -> String {
    let is_positive = i128::try_from(value.clone()).is_ok_and(|number| number > 0);
    if is_positive { format!("+{text}") } else { text }
}

/// An instant in the business's zone, for people, and in UTC, for programs. One beyond the calendar is shown as it is.
fn local(state: &State, value: &Value) -> Result<(String, Option<String>), Error> {
    let Some(text) = value.as_str() else { return Ok((String::new(), None)) };
    let Ok(instant) = DateTime::parse_from_rfc3339(text) else { return Ok((text.to_owned(), None)) };
    if instant >= NEVER {
        return Ok((messages_of(state).label("statement-never"), None));
    }
    let zone = state.lookup("zone").and_then(|zone| zone.as_str()?.parse::<Zone>().ok());
    let zone = zone.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "the page has no zone"))?;
    let shown = instant.with_timezone(&zone).format("%Y-%m-%d %H:%M:%S").to_string();
    let shown = shown.strip_suffix(":00").unwrap_or(&shown).to_owned();
    Ok((shown, Some(instant.with_timezone(&Utc).format("%Y-%m-%dT%H:%M:%SZ").to_string())))
}

/// The same as HTML.
fn when(state: &State, value: &Value) -> Result<Value, Error> {
    Ok(match local(state, value)? {
        (shown, None) => Value::from(shown),
        (shown, Some(utc)) => Value::from_safe_string(format!("<time datetime=\"{utc}\">{shown}</time>")),
    })
}
