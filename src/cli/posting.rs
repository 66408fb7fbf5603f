//! `recharge`, `consume`, `balance` and `check`: one account at a time.

use rust_decimal::Decimal;
use serde::Serialize;
use uuid::Uuid;

use super::output::{counted, facts, grouped};
use super::{Outcome, Program, Time, WrongCall};
use crate::database::Database;
use crate::ledger::{Entry, EntryType, Kind, Poster, Posting, Refusal, Reply, Session};
use crate::time::time_text;

/// Credits points to an account; its arrears are settled first.
#[derive(clap::Args)]
pub struct Recharge {
    /// The account's user (a UUID)
    user: Uuid,
    /// Points to credit, 1 to 1,000,000,000,000
    #[arg(allow_negative_numbers = true)]
    points: i64,
    /// The source of the points; one of ledger.recharge_sources in the configuration
    #[arg(long)]
    source: String,
    /// The order that paid for the points; the same order is credited only once
    #[arg(long)]
    order_id: Option<i64>,
    /// When the points expire (RFC 3339); by default as configured
    #[arg(long)]
    expires_at: Option<Time>,
    /// The idempotency key: posting again under it changes nothing. Without --key and --order-id each call posts anew
    #[arg(long)]
    key: Option<String>,
    /// A description for people
    #[arg(long)]
    description: Option<String>,
    /// The effective time (RFC 3339); by default now
    #[arg(long)]
    at: Option<Time>,
}

/// Charges points for a finished task; points that the account lacks become arrears.
#[derive(clap::Args)]
pub struct Consume {
    /// The account's user (a UUID)
    user: Uuid,
    /// Points to charge; by default computed by the price list
    #[arg(allow_negative_numbers = true)]
    points: Option<i64>,
    /// The service, such as tts
    #[arg(long)]
    source_type: String,
    /// The task; the same task is charged only once
    #[arg(long)]
    source_id: String,
    /// Seconds that the task took, for a service charged by time
    #[arg(long, value_name = "X", value_parser = seconds)]
    seconds: Option<Decimal>,
    /// The idempotency key; by default made of --source-type and --source-id
    #[arg(long)]
    key: Option<String>,
    /// A description for people
    #[arg(long)]
    description: Option<String>,
    /// The effective time (RFC 3339); by default now
    #[arg(long)]
    at: Option<Time>,
}

/// Shows an account: its balance, available points, arrears and totals.
#[derive(clap::Args)]
pub struct BalanceOf {
    /// The account's user (a UUID)
    user: Uuid,
    /// The instant of the available points (RFC 3339): without those that expire by then; by default now
    #[arg(long)]
    at: Option<Time>,
}

/// Checks whether an account may start a task: it owes nothing and has the points. Exit status 3 if not.
#[derive(clap::Args)]
pub struct CheckOf {
    /// The account's user (a UUID)
    user: Uuid,
    /// Points that the task will cost
    #[arg(allow_negative_numbers = true)]
    points: i64,
}

/// Parses a number of seconds for clap.
pub fn seconds(text: &str) -> Result<Decimal, String> {
    crate::prices::parse_seconds(text).map_err(|error| error.to_string())
}

/// A reply as JSON, for one posting or for a line of a file.
#[derive(Serialize)]
pub struct ReplyJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    status: &'static str,
    #[serde(flatten)]
    entry: Option<&'a Entry>,
    #[serde(flatten)]
    refusal: Option<RefusalJson>,
}

#[derive(Serialize)]
struct RefusalJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Uuid>,
    code: &'static str,
    message: String,
}

impl<'a> ReplyJson<'a> {
    /// The JSON of a reply; `line` for a line of a file, `user` if it is known.
    pub fn new(line: Option<u64>, user: Option<Uuid>, reply: &'a Reply) -> ReplyJson<'a> {
        let refused = |refusal: &Refusal| RefusalJson { user, code: refusal.code(), message: refusal.to_string() };
        let (status, entry, refusal) = match reply {
            Reply::Posted(entry) => ("posted", Some(entry), None),
            Reply::Replayed(entry) => ("replayed", Some(entry), None),
            Reply::Rejected(refusal) => ("rejected", None, Some(refused(refusal))),
        };
        ReplyJson { line, status, entry, refusal }
    }
}

impl Recharge {
    /// Posts the recharge.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        // A call without an order and a key means a new posting each time.
        let own = || self.order_id.is_none().then(|| format!("command:{}", Uuid::new_v4()));
        let posting = Posting {
            user: self.user,
            points: self.points,
            key: self.key.clone().or_else(own),
            kind: Kind::Recharge {
                source: self.source,
                order_id: self.order_id,
                expires_at: self.expires_at.map(Time::into),
            },
            description: self.description,
            at: program.now_or(self.at),
        };
        post(posting, program).await
    }
}

impl Consume {
    /// Posts the consume, unless the service is free.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let points = match self.points {
            Some(points) => points,
            None => program.config.prices.cost(&self.source_type, self.seconds)?,
        };
        if self.points.is_none() && points == 0 {
            free(&self, program)?;
            return Ok(Outcome::Done);
        }
        let posting = Posting {
            user: self.user,
            points,
            key: self.key,
            kind: Kind::Consume { source_type: self.source_type, source_id: self.source_id, duration: self.seconds },
            description: self.description,
            at: program.now_or(self.at),
        };
        post(posting, program).await
    }
}

fn free(consume: &Consume, program: &Program) -> anyhow::Result<()> {
    let Consume { user, source_type, source_id, .. } = consume;
    let value = serde_json::json!({
        "status": "free", "user": user, "source_type": source_type, "source_id": source_id,
    });
    program.answer(value, || format!("{source_type} is free: nothing to post."))
}

/// Posts through a poster, which waits for a database that restarts.
async fn post(posting: Posting, program: &Program) -> anyhow::Result<Outcome> {
    let user = posting.user;
    let reply = program
        .with_ledger(async |database: &Database| {
            let poster = Poster::start(database, &program.rules, 1);
            let reply = poster.post(posting).await;
            poster.close().await;
            Ok(reply?)
        })
        .await?;
    program.answer(ReplyJson::new(None, Some(user), &reply), || reply_text(&reply))?;
    Ok(if reply.entry().is_some() { Outcome::Done } else { Outcome::No })
}

fn reply_text(reply: &Reply) -> String {
    let (verb, balance, entry) = match reply {
        Reply::Rejected(refusal) => return format!("Rejected ({}): {refusal}.", refusal.code()),
        Reply::Posted(entry) => ("Posted", "balance", entry),
        // Later postings may have changed the balance since.
        Reply::Replayed(entry) => ("Posted before", "balance then", entry),
    };
    let touched = match entry.kind {
        EntryType::Recharge => "settled arrears",
        EntryType::Consume => "drawn from",
        EntryType::Expire => "expired from",
        EntryType::Adjust => "set right",
    };
    let mut lines = vec![
        ("user", entry.user.to_string()),
        (balance, format!("{} (was {})", grouped(entry.balance_after), grouped(entry.balance_before))),
        ("at", time_text(entry.at)),
        ("description", entry.description.clone()),
    ];
    if let Some(batch) = entry.batch {
        lines.push(("opened", format!("batch {batch}")));
    }
    if let Some(duration) = entry.duration {
        lines.push(("duration", format!("{} s", duration.normalize())));
    }
    if !entry.allocations.is_empty() {
        let parts = entry.allocations.iter().map(|part| format!("batch {}: {}", part.batch, grouped(part.points)));
        lines.push((touched, parts.collect::<Vec<_>>().join(", ")));
    }
    let owed = entry.amount - entry.allocations.iter().map(|part| part.points).sum::<i64>();
    if entry.kind == EntryType::Consume && owed > 0 {
        lines.push(("became arrears", grouped(owed)));
    }
    let points = counted(entry.amount, "point", "points");
    format!("{verb}: {} of {points}, entry {}\n{}", entry.kind, entry.seq, facts(&lines))
}

impl BalanceOf {
    /// Prints the balance.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let at = program.now_or(self.at);
        let balance = program
            .with_ledger(async |database: &Database| {
                Ok(Session::connect(database).await?.balance(self.user, at).await?)
            })
            .await?;
        program.answer(balance, || {
            facts(&[
                ("user", balance.user.to_string()),
                ("balance", grouped(balance.balance)),
                ("available", grouped(balance.available)),
                ("arrears", grouped(balance.arrears)),
                ("recharged", grouped(balance.total_recharged)),
                ("consumed", grouped(balance.total_consumed)),
                ("expired", grouped(balance.total_expired)),
                ("adjusted", grouped(balance.total_adjusted)),
            ])
        })?;
        Ok(Outcome::Done)
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
                Ok(Session::connect(database).await?.check(self.user, self.points, at).await?)
            })
            .await?;
        program.answer(check, || {
            let answer = if check.sufficient { "Sufficient" } else { "Insufficient" };
            let (available, required) = (grouped(check.available), grouped(check.required));
            let owes = if check.balance < 0 {
                format!("; it owes {}", grouped(-i128::from(check.balance)))
            } else {
                String::new()
            };
            format!("{answer}: {available} available, {required} required{owes}.")
        })?;
        Ok(if check.sufficient { Outcome::Done } else { Outcome::No })
    }
}
