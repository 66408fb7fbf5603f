//! Orders: a page that says what will happen, then the order, then its outcome. The record of orders.

use axum::response::Response;
use chrono::Utc;
use minijinja::{Value, context};
use serde::Deserialize;

use super::session::{Signed, Visitor};
use crate::access;
use crate::http::api::input::{Params, one_more, page};
use crate::http::api::orders::carry_out;
use crate::http::problem::Problem;
use crate::jobs::{self, RegisteredJob};
use crate::ledger::Page;
use crate::messages::{Messages, args};
use crate::reports::{self, Resent};
use crate::requests;

/// Orders on a page.
const ROWS: u32 = 50;

/// What can be ordered.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    Pause,
    Resume,
    Run,
    Cancel,
    Retry,
    Resend,
}

impl Action {
    #[cfg(test)]
    pub const ALL: [Action; 6] =
        [Action::Pause, Action::Resume, Action::Run, Action::Cancel, Action::Retry, Action::Resend];

    pub fn as_str(self) -> &'static str {
        match self {
            Action::Pause => "pause",
            Action::Resume => "resume",
            Action::Run => "run",
            Action::Cancel => "cancel",
            Action::Retry => "retry",
            Action::Resend => "resend",
        }
    }
}

/// An order, as the confirmation and its form name it.
#[derive(Deserialize)]
pub(super) struct Order {
    action: Action,
    /// A job's name, or the number of a run, a request or a report.
    subject: String,
}

/// The subject of an order.
enum Subject {
    Job(&'static RegisteredJob),
    Run(i64),
    Request(i64),
    Report(i64),
}

impl Order {
    fn subject(&self) -> Result<Subject, Problem> {
        let missing = || Problem::not_found("there is no such job, run, request or report");
        let number = || self.subject.parse::<i64>().map_err(|_| missing());
        Ok(match self.action {
            Action::Pause | Action::Resume | Action::Run => {
                Subject::Job(RegisteredJob::named(&self.subject).ok_or_else(missing)?)
            }
            Action::Cancel => Subject::Run(number()?),
            Action::Retry => Subject::Request(number()?),
            Action::Resend => Subject::Report(number()?),
        })
    }
}

impl Subject {
    fn label(&self, messages: Messages) -> String {
        match self {
            Subject::Job(job) => job.name.to_owned(),
            Subject::Run(run) => messages.text("page-run-number", args![run = run.to_string()]),
            Subject::Request(request) => messages.text("page-request-number", args![request = request.to_string()]),
            Subject::Report(report) => messages.text("page-report-number", args![report = report.to_string()]),
        }
    }

    fn page(&self) -> String {
        match self {
            Subject::Job(job) => format!("/jobs/{}", job.name),
            Subject::Run(run) => format!("/runs/{run}"),
            Subject::Request(request) => format!("/requests/{request}"),
            Subject::Report(report) => format!("/reports/{report}"),
        }
    }
}

/// `GET /order`: what the order will do.
pub(super) async fn confirm(visitor: Visitor, Params(order): Params<Order>) -> Result<Response, Problem> {
    visitor.check_may_operate()?;
    let (subject, messages) = (order.subject()?, visitor.frame.messages);
    let label = subject.label(messages);
    let about = messages.text(&format!("order-about-{}", order.action.as_str()), args![label = label.clone()]);
    let content =
        context! { action => order.action.as_str(), subject => order.subject, label, about, back => subject.page() };
    Ok(visitor.page("order.html", content))
}

/// `POST /order`
pub(super) async fn order(Signed { visitor, form: order }: Signed<Order>) -> Result<Response, Problem> {
    visitor.check_may_operate()?;
    let (subject, messages) = (order.subject()?, visitor.frame.messages);
    let action = order.action.as_str();
    let act = async {
        let outcome = act(&visitor, order.action, &subject).await?;
        let recorded = match &outcome {
            Ok(done) => done.clone(),
            Err(why) => why.text(jobs::OPERATOR),
        };
        Ok((outcome, recorded))
    };
    let outcome = carry_out(&visitor.server, &visitor.holder, (action, &order.subject), act).await?;
    let said = match &outcome {
        Ok(_) => messages.text(&format!("order-done-{action}"), args![label = subject.label(messages)]),
        Err(why) => messages.text("order-not-done", args![why = why.text(messages)]),
    };
    Ok(visitor.send_on(&subject.page(), said))
}

/// Why nothing was done.
enum NotDone {
    Busy { run: i64, job: String },
    Over,
    Request(Option<requests::State>),
    Mail(Resent),
}

impl NotDone {
    fn text(&self, messages: Messages) -> String {
        match self {
            NotDone::Busy { run, job } => {
                messages.text("not-done-busy", args![run = run.to_string(), job = job.as_str()])
            }
            NotDone::Over => messages.label("not-done-over"),
            NotDone::Request(None) => messages.label("not-done-request-unknown"),
            NotDone::Request(Some(requests::State::Pending)) => messages.label("not-done-request-pending"),
            NotDone::Request(Some(_)) => messages.label("not-done-request-done"),
            NotDone::Mail(Resent::NoWay) => messages.label("not-done-mail-off"),
            NotDone::Mail(Resent::NoRecipients { report, .. }) => {
                messages.text("not-done-no-recipients", args![report = report.as_str()])
            }
            NotDone::Mail(_) => messages.label("not-done-report-unknown"),
        }
    }
}

/// Does what was ordered. Returns the outcome for the record, or why nothing was done.
async fn act(visitor: &Visitor, action: Action, subject: &Subject) -> Result<Result<String, NotDone>, Problem> {
    let (server, config, by) = (&visitor.server, visitor.server.config(), visitor.holder.name.as_str());
    Ok(match *subject {
        Subject::Job(job) => match action {
            Action::Run => match server.begin_run(job, None, false).await? {
                Ok(run) => Ok(format!("run {}", run.run)),
                Err(busy) => Err(NotDone::Busy { run: busy.run, job: busy.job }),
            },
            Action::Pause => job
                .pause(&*server.store().await?, &config, Some(by), Utc::now())
                .await
                .map(|()| Ok("paused".to_owned()))?,
            _ => job
                .pause(&*server.store().await?, &config, None, Utc::now())
                .await
                .map(|()| Ok("resumed".to_owned()))?,
        },
        Subject::Run(run) => match server.store().await?.cancel(run, by).await? {
            true => Ok("cancelled".to_owned()),
            false => Err(NotDone::Over),
        },
        Subject::Request(request) => {
            let client = server.reading().await?;
            let found = requests::retry(&client, &[request]).await?;
            match found.first() {
                Some(found) if found.done() => Ok("pending".to_owned()),
                found => Err(NotDone::Request(found.and_then(|found| found.was))),
            }
        }
        Subject::Report(report) => {
            let mut client = server.reading().await?;
            match reports::resend(&mut client, report, None, &config.mail).await? {
                Resent::Written(mails) => Ok(format!("{} mails written", mails.len())),
                other => Err(NotDone::Mail(other)),
            }
        }
    })
}

/// Which part of the record a page shows.
#[derive(Deserialize)]
pub(super) struct Cursor {
    before: Option<i64>,
}

/// `/orders`
pub(super) async fn list(visitor: Visitor, Params(cursor): Params<Cursor>) -> Result<Response, Problem> {
    let client = visitor.server.reading().await?;
    let orders = access::orders(&client, cursor.before, i64::from(one_more(ROWS))).await?;
    let Page { items, next } = page(orders, ROWS, |order| order.id);
    let content = context! { orders => Value::from_serialize(&items), next, first => cursor.before.is_none() };
    Ok(visitor.page("orders.html", content))
}
