//! `recharge`, `consume`, `balance`, `check`: one account at a time.

use rust_decimal::Decimal;
use serde::Serialize;
use uuid::Uuid;

use super::output::{counted, facts, grouped, json, say};
use super::{Outcome, Program, Time, WrongCall};
use crate::database::Database;
use crate::ledger::{Entry, EntryType, Kind, Poster, Posting, Refusal, Reply, Session};
use crate::time::time_text;

/// Credits points: opens a batch, after what the account owes was settled.
#[derive(clap::Args)]
pub struct Recharge {
    /// Whose points (a UUID)
    user: Uuid,
    /// How many, 1 to 1,000,000,000,000
    #[arg(allow_negative_numbers = true)]
    points: i64,
    /// Where they come from; one of the configured recharge sources
    #[arg(long)]
    source: String,
    /// The order that paid for them; sending the same order again credits nothing twice
    #[arg(long)]
    order_id: Option<i64>,
    /// When they expire (RFC 3339); by default what the configuration says
    #[arg(long)]
    expires_at: Option<Time>,
    /// Names this posting within the account, so that it can be sent again safely. Without --key and --order-id each
    /// call is a posting of its own
    #[arg(long)]
    key: Option<String>,
    /// For people
    #[arg(long)]
    description: Option<String>,
    /// When it happened (RFC 3339); by default now
    #[arg(long)]
    at: Option<Time>,
}

/// Spends points after work was done; what the account does not have becomes arrears.
#[derive(clap::Args)]
pub struct Consume {
    /// Whose points (a UUID)
    user: Uuid,
    /// How many; without it the price list says
    #[arg(allow_negative_numbers = true)]
    points: Option<i64>,
    /// The kind of service
    #[arg(long)]
    source_type: String,
    /// Which piece of work; sending the same again charges nothing twice
    #[arg(long)]
    source_id: String,
    /// How long the work took, where it is charged by time
    #[arg(long, value_name = "X", value_parser = seconds)]
    seconds: Option<Decimal>,
    /// Names this posting within the account; by default made of --source-type and --source-id
    #[arg(long)]
    key: Option<String>,
    /// For people
    #[arg(long)]
    description: Option<String>,
    /// When it happened (RFC 3339); by default now
    #[arg(long)]
    at: Option<Time>,
}

/// Shows an account: balance, what is available, arrears, lifetime totals.
#[derive(clap::Args)]
pub struct BalanceOf {
    /// Whose (a UUID)
    user: Uuid,
    /// The instant at which points must still be alive to be available (RFC 3339); by default now
    #[arg(long)]
    at: Option<Time>,
}

/// Tells whether an account may start work: it owes nothing and has the points. Ends with 3 if not.
#[derive(clap::Args)]
pub struct CheckOf {
    /// Whose (a UUID)
    user: Uuid,
    /// What the work will cost
    #[arg(allow_negative_numbers = true)]
    points: i64,
}

/// Reads a number of seconds for clap.
pub fn seconds(text: &str) -> Result<Decimal, String> {
    crate::prices::parse_seconds(text).map_err(|error| error.to_string())
}

/// A reply as JSON, of one posting or of a line of a file.
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
    /// `line` for a file's, `user` where it is known.
    pub fn of(line: Option<u64>, user: Option<Uuid>, reply: &'a Reply) -> ReplyJson<'a> {
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
    /// Posts it.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        // Somebody at a keyboard who names neither order nor key means a posting of its own.
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
    /// Posts it, unless the service is free.
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
    if program.json {
        json(&serde_json::json!({
            "status": "free", "user": consume.user,
            "source_type": consume.source_type, "source_id": consume.source_id,
        }))
    } else {
        say(format_args!("{} is free: nothing to post.", consume.source_type))
    }
}

/// Through a poster, which waits out a database that is restarting.
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
    if program.json {
        json(&ReplyJson::of(None, Some(user), &reply))?;
    } else {
        say(in_words(&reply))?;
    }
    Ok(if reply.entry().is_some() { Outcome::Done } else { Outcome::No })
}

fn in_words(reply: &Reply) -> String {
    let (verb, balance, entry) = match reply {
        Reply::Rejected(refusal) => return format!("Rejected ({}): {refusal}.", refusal.code()),
        Reply::Posted(entry) => ("Posted", "balance", entry),
        // The account may have moved on since.
        Reply::Replayed(entry) => ("Was in the books already", "balance then", entry),
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
    /// Asks and shows.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let at = program.now_or(self.at);
        let balance = program
            .with_ledger(async |database: &Database| {
                Ok(Session::connect(database).await?.balance(self.user, at).await?)
            })
            .await?;
        if program.json {
            json(&balance)?;
        } else {
            say(facts(&[
                ("user", balance.user.to_string()),
                ("balance", grouped(balance.balance)),
                ("available", grouped(balance.available)),
                ("arrears", grouped(balance.arrears)),
                ("recharged", grouped(balance.total_recharged)),
                ("consumed", grouped(balance.total_consumed)),
                ("expired", grouped(balance.total_expired)),
                ("adjusted", grouped(balance.total_adjusted)),
            ]))?;
        }
        Ok(Outcome::Done)
    }
}

impl CheckOf {
    /// Asks and tells.
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
        if program.json {
            json(&check)?;
        } else {
            let answer = if check.sufficient { "Sufficient" } else { "Insufficient" };
            let (available, required) = (grouped(check.available), grouped(check.required));
            let owes = if check.balance < 0 {
                format!("; it owes {}", grouped(-i128::from(check.balance)))
            } else {
                String::new()
            };
            say(format_args!("{answer}: {available} available, {required} required{owes}."))?;
        }
        Ok(if check.sufficient { Outcome::Done } else { Outcome::No })
    }
}
