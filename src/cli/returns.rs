//! `refund` and `void`: what takes an earlier posting back.

use uuid::Uuid;

use super::posting::{Note, post_and_answer};
use super::{Outcome, Program, WrongCall};
use crate::fields::parse_user;
use crate::ledger::{Beyond, Kind, Posting, Reference};

/// Gives back points of a consume, all or part: after a task that failed, for example.
#[derive(clap::Args)]
pub struct Refund {
    /// The account's user (a UUID)
    #[arg(value_parser = parse_user)]
    user: Uuid,
    /// Points to give back; by default all that is left of the consume
    #[arg(allow_negative_numbers = true)]
    points: Option<i64>,
    #[command(flatten)]
    consume: Work,
    /// The idempotency key; by default made of the consume's key, so a second refund of the same consume needs one
    #[arg(long)]
    key: Option<String>,
    #[command(flatten)]
    note: Note,
}

/// Takes back a recharge, all or part: after a chargeback or a typing error.
///
/// What was used of it already is drawn from other batches; the rest becomes arrears.
#[derive(clap::Args)]
pub struct Void {
    /// The account's user (a UUID)
    #[arg(value_parser = parse_user)]
    user: Uuid,
    /// Points to take back; by default all that can be taken
    #[arg(allow_negative_numbers = true)]
    points: Option<i64>,
    #[command(flatten)]
    recharge: Order,
    /// What may be taken: also what was used already, or only what remains in the recharge's batch
    #[arg(long, default_value = "used")]
    beyond: BeyondName,
    /// The idempotency key; by default made of the recharge's key, so a second void of the same recharge needs one
    #[arg(long)]
    key: Option<String>,
    #[command(flatten)]
    note: Note,
}

/// Names a consume or a hold.
#[derive(clap::Args)]
#[group(required = true, multiple = true)]
pub struct Work {
    /// The service, such as tts
    #[arg(long, requires = "source_id")]
    source_type: Option<String>,
    /// The task
    #[arg(long, requires = "source_type")]
    source_id: Option<String>,
    /// Its key, where it was posted under a key of its own
    #[arg(long, value_name = "KEY", conflicts_with_all = ["source_type", "source_id"])]
    of: Option<String>,
}

impl Work {
    /// The consume or the hold.
    pub fn reference(self) -> Result<Reference, WrongCall> {
        match (self.of, self.source_type, self.source_id) {
            (Some(key), None, None) => Ok(Reference::Key(key)),
            (None, Some(source_type), Some(source_id)) => Ok(Reference::Work { source_type, source_id }),
            _ => Err(WrongCall("give --source-type and --source-id, or --of".to_owned())),
        }
    }
}

/// Names a recharge.
#[derive(clap::Args)]
#[group(required = true, multiple = true)]
struct Order {
    /// The source of the recharge
    #[arg(long, requires = "order_id")]
    source: Option<String>,
    /// The order of the recharge
    #[arg(long, requires = "source")]
    order_id: Option<i64>,
    /// The recharge's key, where it was posted under a key of its own
    #[arg(long, value_name = "KEY", conflicts_with_all = ["source", "order_id"])]
    of: Option<String>,
}

impl Order {
    fn reference(self) -> Result<Reference, WrongCall> {
        match (self.of, self.source, self.order_id) {
            (Some(key), None, None) => Ok(Reference::Key(key)),
            (None, Some(source), Some(order_id)) => Ok(Reference::Order { source, order_id }),
            _ => Err(WrongCall("give --source and --order-id, or --of".to_owned())),
        }
    }
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum BeyondName {
    Used,
    Remaining,
}

impl Refund {
    /// Posts the refund.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let posting = Posting {
            user: self.user,
            points: self.points,
            key: self.key,
            kind: Kind::Refund { consume: self.consume.reference()? },
            description: self.note.description,
            at: program.now_or(self.note.at),
        };
        post_and_answer(posting, program).await
    }
}

impl Void {
    /// Posts the void.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let beyond = match self.beyond {
            BeyondName::Used => Beyond::Used,
            BeyondName::Remaining => Beyond::Remaining,
        };
        let posting = Posting {
            user: self.user,
            points: self.points,
            key: self.key,
            kind: Kind::Void { recharge: self.recharge.reference()?, beyond },
            description: self.note.description,
            at: program.now_or(self.note.at),
        };
        post_and_answer(posting, program).await
    }
}
