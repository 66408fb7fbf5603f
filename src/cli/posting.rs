//! `recharge` and `consume`, and the answers to postings.

use rust_decimal::Decimal;
use uuid::Uuid;

use super::output::{counted, facts, grouped};
use super::{Outcome, Program, Time};
use crate::bulk::ReplyJson;
use crate::database::Database;
use crate::fields::parse_user;
use crate::ledger::{Allocation, Currency, Entry, EntryType, Hold, Kind, Money, Posted, Poster, Posting, Reply};
use crate::plain;
use crate::time::time_text;

/// What the command line may add to every posting.
#[derive(clap::Args)]
pub struct Note {
    /// A description for people
    #[arg(long)]
    pub description: Option<String>,
    /// The effective time (RFC 3339); by default now
    #[arg(long)]
    pub at: Option<Time>,
}

/// Credits points to an account; its arrears are settled first.
#[derive(clap::Args)]
pub struct Recharge {
    /// The account's user (a UUID)
    #[arg(value_parser = parse_user)]
    user: Uuid,
    /// Points to credit, 1 to 1,000,000,000,000
    #[arg(allow_negative_numbers = true)]
    points: i64,
    /// The source of the points; one of ledger.sources in the configuration
    #[arg(long)]
    source: String,
    /// The order that paid for the points; the same order is credited only once
    #[arg(long)]
    order_id: Option<i64>,
    /// What the customer paid, in minor units (1999 is 19.99); for a source that is not promotional
    #[arg(long, value_name = "UNITS", requires = "currency", allow_negative_numbers = true)]
    paid: Option<i64>,
    /// The currency of --paid (ISO 4217), such as CNY
    #[arg(long, value_name = "CODE", requires = "paid")]
    currency: Option<Currency>,
    /// When the points expire (RFC 3339); by default as configured
    #[arg(long)]
    expires_at: Option<Time>,
    /// The idempotency key: posting again under it changes nothing. Without --key and --order-id each call posts anew
    #[arg(long)]
    key: Option<String>,
    #[command(flatten)]
    note: Note,
}

/// Charges points for a finished task; points that the account lacks become arrears.
#[derive(clap::Args)]
pub struct Consume {
    /// The account's user (a UUID)
    #[arg(value_parser = parse_user)]
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
    #[command(flatten)]
    note: Note,
}

/// Parses a number of seconds for clap.
pub fn seconds(text: &str) -> Result<Decimal, String> {
    crate::prices::parse_seconds(text).map_err(|error| error.to_string())
}

impl Recharge {
    /// Posts the recharge.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        // A call without an order and a key means a new posting each time.
        let is_new = self.order_id.is_none() && self.key.is_none();
        let made_key = is_new.then(|| format!("command:{}", Uuid::new_v4()));
        let posting = Posting {
            user: self.user,
            points: Some(self.points),
            key: self.key.or_else(|| made_key.clone()),
            kind: Kind::Recharge {
                source: self.source,
                order_id: self.order_id,
                expires_at: self.expires_at.map(Time::into),
                paid: self.paid.zip(self.currency).map(|(amount, currency)| Money { amount, currency }),
            },
            description: self.note.description,
            at: program.now_or(self.note.at),
        };
        let reply = post(posting, program).await?;
        // A void can name the recharge by its key only.
        let mut json = ReplyJson::new(None, Some(self.user), &reply);
        json.key = made_key.as_deref();
        program.answer(json, || reply_text(&reply, made_key.as_deref()))?;
        Ok(outcome(&reply))
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
            points: Some(points),
            key: self.key,
            kind: Kind::Consume { source_type: self.source_type, source_id: self.source_id, duration: self.seconds },
            description: self.note.description,
            at: program.now_or(self.note.at),
        };
        post_and_answer(posting, program).await
    }
}

fn free(consume: &Consume, program: &Program) -> anyhow::Result<()> {
    let Consume { user, source_type, source_id, .. } = consume;
    let value = serde_json::json!({
        "status": "free", "user": user, "source_type": source_type, "source_id": source_id,
    });
    program.answer(value, || format!("{source_type} is free: nothing to post."))
}

/// Posts, and prints the reply.
pub async fn post_and_answer(posting: Posting, program: &Program) -> anyhow::Result<Outcome> {
    let user = posting.user;
    let reply = post(posting, program).await?;
    program.answer(ReplyJson::new(None, Some(user), &reply), || reply_text(&reply, None))?;
    Ok(outcome(&reply))
}

/// Posts through a poster, which waits for a database that restarts.
async fn post(posting: Posting, program: &Program) -> anyhow::Result<Reply> {
    program
        .with_ledger(async |database: &Database| {
            let poster = Poster::start(database, &program.rules, 1);
            let reply = poster.post(posting).await;
            poster.close().await;
            Ok(reply?)
        })
        .await
}

fn outcome(reply: &Reply) -> Outcome {
    if reply.refusal().is_none() { Outcome::Done } else { Outcome::No }
}

/// A reply for people. `made_key` is the key that the command made.
fn reply_text(reply: &Reply, made_key: Option<&str>) -> String {
    match reply {
        Reply::Rejected(refusal) => {
            format!("Rejected ({}): {}.", refusal.code(), plain::line(&refusal.to_string()))
        }
        Reply::Posted(posted) => posting_text("Posted", "balance", posted, made_key),
        // Later postings may have changed the balance since.
        Reply::Replayed(posted) => posting_text("Posted before", "balance then", posted, made_key),
        Reply::Held(hold) => hold_text("Held", hold),
        Reply::HeldBefore(hold) => hold_text("Held before", hold),
        Reply::Released(hold) => hold_text("Released", hold),
        Reply::ReleasedBefore(hold) => hold_text("Released before", hold),
    }
}

fn posting_text(verb: &str, balance: &'static str, posted: &Posted, made_key: Option<&str>) -> String {
    let entry = &posted.entry;
    // A refund in several parts has an entry for each. They follow one another, and each adds to the balance.
    let after = match entry.kind {
        EntryType::Refund => i128::from(entry.balance_before) + i128::from(posted.points),
        _ => entry.balance_after.into(),
    };
    let mut lines = vec![
        ("user", entry.user.to_string()),
        (balance, format!("{} (was {})", grouped(after), grouped(entry.balance_before))),
        ("at", time_text(entry.at)),
    ];
    lines.extend(about(entry));
    lines.extend(entry.description.clone().map(|description| ("description", description)));
    lines.extend(entry.refers_to.map(|seq| ("of", format!("entry {seq}"))));
    if let Some(batch) = entry.batch {
        lines.push(("opened", numbered("batch", "batches", batch.into(), posted.last_seq - entry.seq)));
    }
    if let Some((amount, currency)) = entry.paid.zip(entry.currency) {
        let what = if entry.kind == EntryType::Void { "returned" } else { "price" };
        lines.push((what, Money { amount, currency }.to_string()));
    }
    if let Some(duration) = entry.duration {
        lines.push(("duration", format!("{} s", duration.normalize())));
    }
    lines.extend(parts(posted).into_iter().filter(|(_, text)| !text.is_empty()));
    lines.extend(made_key.map(|key| ("key", key.to_owned())));
    let points = counted(posted.points, "point", "points");
    let entries = numbered("entry", "entries", entry.seq, posted.last_seq - entry.seq);
    format!("{verb}: {} of {points}, {entries}\n{}", entry.kind, facts(&lines))
}

/// What an entry is for, or where its points came from: `tts, t1`. A debt that was brought in has no source, and a refund's entry has
/// the source of its batch beside the work that it gives back.
fn about(entry: &Entry) -> Option<(&'static str, String)> {
    let id = entry.source_id.iter().map(|id| format!(", {id}"));
    let named = || format!("{}{}", entry.source_type, id.collect::<String>());
    match entry.kind {
        EntryType::Opening if entry.batch.is_none() => None,
        EntryType::Consume => Some(("for", named())),
        EntryType::Refund => Some(("to", entry.source_type.clone())),
        _ => Some(("from", named())),
    }
}

/// `batch 3`, or `batches 3 to 5` where two more follow.
fn numbered(one: &str, many: &str, first: i64, more: i64) -> String {
    if more == 0 { format!("{one} {first}") } else { format!("{many} {first} to {}", first.saturating_add(more)) }
}

/// Where the points of a posting went or came from; a part without points has an empty text.
fn parts(posted: &Posted) -> [(&'static str, String); 4] {
    let entry = &posted.entry;
    let by_batch = |parts: &[Allocation]| {
        let parts = parts.iter().map(|part| format!("batch {}: {}", part.batch, grouped(part.points)));
        parts.collect::<Vec<_>>().join(", ")
    };
    let touched = match entry.kind {
        // All parts of a refund together.
        EntryType::Refund => {
            let settled = entry.balance_before.min(0).saturating_neg().min(posted.points);
            ("settled arrears", if settled > 0 { grouped(settled) } else { String::new() })
        }
        EntryType::Recharge | EntryType::Opening => ("settled arrears", by_batch(&entry.allocations)),
        EntryType::Consume | EntryType::Void => ("drawn from", by_batch(&entry.allocations)),
        EntryType::Expire => ("expired from", by_batch(&entry.allocations)),
        EntryType::Restore => ("restored to", by_batch(&entry.allocations)),
        EntryType::Adjust => ("set right", by_batch(&entry.allocations)),
    };
    let owed = entry.amount - entry.allocations.iter().map(|part| part.points).sum::<i64>();
    let owes = matches!(entry.kind, EntryType::Consume | EntryType::Void) && owed > 0;
    [
        touched,
        ("expired before", by_batch(&posted.expired)),
        ("restored", by_batch(&posted.restored)),
        ("became arrears", if owes { grouped(owed) } else { String::new() }),
    ]
}

fn hold_text(verb: &str, hold: &Hold) -> String {
    let mut lines = vec![
        ("user", hold.user.to_string()),
        ("for", format!("{}, {}", hold.source_type, hold.source_id)),
        ("at", time_text(hold.at)),
        ("until", time_text(hold.until)),
    ];
    lines.extend(hold.key.clone().map(|key| ("key", key)));
    format!("{verb}: {}\n{}", counted(hold.points, "point", "points"), facts(&lines))
}
