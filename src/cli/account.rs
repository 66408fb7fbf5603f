//! `balance` and `check`: reads of one account.

use chrono::{DateTime, NaiveTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::output::{counted, facts, grouped};
use super::{Outcome, Program, Time, WrongCall};
use crate::database::Database;
use crate::fields::parse_user;
use crate::ledger::{Balance, BalanceThen, Before, CUTOFF_LIMIT, NEVER, NextExpiry, Reader, Then, Totals};
use crate::time::{Zone, time_text};

/// Shows an account: its balance, available and held points, arrears and totals.
#[derive(clap::Args)]
pub struct BalanceOf {
    /// The account's user (a UUID)
    #[arg(value_parser = parse_user)]
    user: Uuid,
    #[command(flatten)]
    then: ThenArguments,
}

/// A past instant, on one of two clocks.
#[derive(clap::Args)]
pub struct ThenArguments {
    /// What had happened by then, as known now (RFC 3339): also what was recorded later, and points due by then are gone
    #[arg(long, value_name = "TIME", conflicts_with = "as_of")]
    effective_at: Option<Time>,
    /// What the books said then (RFC 3339); it never changes afterwards
    #[arg(long, value_name = "TIME")]
    as_of: Option<Time>,
}

impl ThenArguments {
    /// The past instant, if one is given.
    ///
    /// # Errors
    /// An instant in the future.
    pub fn then(&self, program: &Program) -> Result<Option<Then>, WrongCall> {
        let (name, at) = match (self.effective_at, self.as_of) {
            (Some(at), _) => ("--effective-at", at.into()),
            (None, Some(at)) => ("--as-of", at.into()),
            (None, None) => return Ok(None),
        };
        if at > (program.clock)() {
            let at = time_text(at);
            return Err(WrongCall(format!("{name} {at} lies in the future, of which the books say nothing yet")));
        }
        Ok(Some(if self.effective_at.is_some() { Then::EffectiveAt(at) } else { Then::AsOf(at) }))
    }
}

/// Checks whether an account may start a task: it owes nothing and has the points. Exit status 3 if not.
#[derive(clap::Args)]
pub struct CheckOf {
    /// The account's user (a UUID)
    #[arg(value_parser = parse_user)]
    user: Uuid,
    /// Points that the task will cost
    #[arg(allow_negative_numbers = true)]
    points: i64,
}

/// The JSON of a past balance: its clock and instant, and the numbers.
#[derive(Serialize)]
struct ThenJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    effective_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    as_of: Option<String>,
    #[serde(flatten)]
    balance: BalanceThen,
}

impl BalanceOf {
    /// Prints the balance.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        match self.then.then(program)? {
            None => self.now(program).await?,
            Some(then) => self.at(then, program).await?,
        }
        Ok(Outcome::Done)
    }

    async fn now(&self, program: &Program) -> anyhow::Result<()> {
        let now = program.now_or(None);
        let balance = program
            .with_ledger(async |database: &Database| {
                Ok(Reader::new(&**database.connection().await?).balance(self.user, now).await?)
            })
            .await?;
        program.answer(balance, || balance_text(&balance, program.config.time_zone))
    }

    async fn at(&self, then: Then, program: &Program) -> anyhow::Result<()> {
        let balance = program
            .with_ledger(async |database: &Database| {
                Ok(Reader::new(&**database.connection().await?).balance_then(self.user, then, CUTOFF_LIMIT).await?)
            })
            .await?;
        let (effective_at, as_of) = match then {
            Then::EffectiveAt(at) => (Some(time_text(at)), None),
            Then::AsOf(at) => (None, Some(time_text(at))),
        };
        let clock = match then {
            Then::EffectiveAt(at) => ("effective at", format!("{}, as known now", time_text(at))),
            Then::AsOf(at) => ("as of", format!("{}, as recorded by then", time_text(at))),
        };
        program.answer(ThenJson { effective_at, as_of, balance }, || {
            let mut lines = vec![
                ("user", balance.user.to_string()),
                clock,
                ("balance", grouped(balance.balance)),
                ("arrears", grouped(balance.arrears)),
            ];
            lines.extend(total_lines(&balance.totals));
            facts(&lines)
        })
    }
}

fn balance_text(balance: &Balance, zone: Zone) -> String {
    let mut lines = vec![
        ("user", balance.user.to_string()),
        ("balance", grouped(balance.balance)),
        ("available", grouped(balance.available)),
        ("held", grouped(balance.held)),
        ("arrears", grouped(balance.arrears)),
        ("next expiry", next_expiry(balance.next_expiry, zone)),
    ];
    lines.extend(total_lines(&balance.totals));
    if let Some(before) = balance.before {
        let Before { recharged, consumed, expired } = before;
        let text =
            format!("{} recharged, {} consumed, {} expired", grouped(recharged), grouped(consumed), grouped(expired));
        lines.push(("elsewhere before", text));
    }
    facts(&lines)
}

fn total_lines(totals: &Totals) -> Vec<(&'static str, String)> {
    let brought_in = (totals.total_opening != 0).then(|| ("brought in", grouped(totals.total_opening)));
    let others = [
        ("recharged", grouped(totals.total_recharged)),
        ("consumed", grouped(totals.total_consumed)),
        ("refunded", grouped(totals.total_refunded)),
        ("voided", grouped(totals.total_voided)),
        ("expired", grouped(totals.total_expired)),
        ("adjusted", grouped(totals.total_adjusted)),
    ];
    brought_in.into_iter().chain(others).collect()
}

/// `120 points on 2026-12-03`, on the clocks of the business.
fn next_expiry(next: Option<NextExpiry>, zone: Zone) -> String {
    match next {
        None => "none".to_owned(),
        Some(next) if next.at == NEVER => "none, the points never expire".to_owned(),
        Some(next) => format!("{} on {}", counted(next.points, "point", "points"), day_or_time(next.at, zone)),
    }
}

/// The day, with the time of day where that is not midnight.
fn day_or_time(at: DateTime<Utc>, zone: Zone) -> String {
    let local = at.with_timezone(&zone);
    if local.time() == NaiveTime::MIN {
        local.format("%Y-%m-%d").to_string()
    } else {
        local.format("%Y-%m-%d %H:%M:%S %Z").to_string()
    }
}

impl CheckOf {
    /// Prints the answer.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        if self.points < 0 {
            return Err(WrongCall(format!("{} points cannot be required; give 0 or more", self.points)).into());
        }
        let at = program.now_or(None);
        let check = program
            .with_ledger(async |database: &Database| {
                Ok(Reader::new(&**database.connection().await?).check(self.user, self.points, at).await?)
            })
            .await?;
        program.answer(check, || {
            let answer = if check.sufficient { "Sufficient" } else { "Insufficient" };
            let mut parts = vec![
                format!("{} available", grouped(check.available)),
                format!("{} required", grouped(check.required)),
            ];
            if check.held > 0 {
                parts.push(format!("{} held", grouped(check.held)));
            }
            let owes = if check.balance < 0 {
                format!("; it owes {}", grouped(-i128::from(check.balance)))
            } else {
                String::new()
            };
            format!("{answer}: {}{owes}.", parts.join(", "))
        })?;
        Ok(if check.sufficient { Outcome::Done } else { Outcome::No })
    }
}
