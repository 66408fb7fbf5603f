//! `hold`, `release` and `holds`: points that are reserved for work under way.

use uuid::Uuid;

use super::history::with_more;
use super::output::{counted, grouped, table};
use super::posting::post_and_answer;
use super::returns::Work;
use super::{Outcome, Program, Time};
use crate::database::Database;
use crate::fields::parse_user;
use crate::ledger::{Hold, Kind, Posting, Reader};
use crate::time::time_text;

/// Reserves points for a task before it begins. The consume of the task then takes them. Exit status 3 if they are not there.
#[derive(clap::Args)]
pub struct HoldPoints {
    /// The account's user (a UUID)
    #[arg(value_parser = parse_user)]
    user: Uuid,
    /// Points to reserve, 1 to 1,000,000,000,000; the consume may then cost more or less
    #[arg(allow_negative_numbers = true)]
    points: i64,
    /// The service, such as tts
    #[arg(long)]
    source_type: String,
    /// The task
    #[arg(long)]
    source_id: String,
    /// When the hold ends if neither a consume nor a release has ended it (RFC 3339). The same hold again may move it later
    #[arg(long)]
    until: Time,
    /// The idempotency key, for a consume with a key of its own; by default made of --source-type and --source-id
    #[arg(long)]
    key: Option<String>,
    /// The effective time (RFC 3339); by default now
    #[arg(long)]
    at: Option<Time>,
}

/// Ends a hold, because its task will not be done.
#[derive(clap::Args)]
pub struct Release {
    /// The account's user (a UUID)
    #[arg(value_parser = parse_user)]
    user: Uuid,
    #[command(flatten)]
    hold: Work,
    /// The effective time (RFC 3339); by default now
    #[arg(long)]
    at: Option<Time>,
}

/// Lists the holds of an account that are neither consumed nor released, the next to end first.
#[derive(clap::Args)]
pub struct Holds {
    /// The account's user (a UUID)
    #[arg(value_parser = parse_user)]
    user: Uuid,
    /// Only what comes after this place in the list, which the page before names
    #[arg(long, value_name = "CURSOR")]
    after: Option<Uuid>,
    /// How many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

impl HoldPoints {
    /// Posts the hold.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let HoldPoints { source_type, source_id, .. } = self;
        let posting = Posting {
            user: self.user,
            points: Some(self.points),
            key: self.key,
            kind: Kind::Hold { source_type, source_id, until: self.until.into() },
            description: None,
            at: program.now_or(self.at),
        };
        post_and_answer(posting, program).await
    }
}

impl Release {
    /// Posts the release.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let posting = Posting::release(self.user, self.hold.reference()?, program.now_or(self.at));
        post_and_answer(posting, program).await
    }
}

impl Holds {
    /// Prints the list.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let now = program.now_or(None);
        let (page, held) = program
            .with_ledger(async |database: &Database| {
                let client = database.connection().await?;
                let reader = Reader::new(&client);
                let held = reader.balance(self.user, now).await?.held;
                Ok((reader.holds(self.user, self.after, self.limit).await?, held))
            })
            .await?;
        program.list(&page.items, || {
            if page.items.is_empty() {
                return "No holds.".to_owned();
            }
            let stands = |hold: &Hold| hold.until > now;
            let rows = page.items.iter().map(|hold| {
                vec![
                    grouped(hold.points),
                    format!("{}, {}", hold.source_type, hold.source_id),
                    time_text(hold.at),
                    time_text(hold.until),
                    if stands(hold) { "stands" } else { "over, reserves nothing" }.to_owned(),
                    hold.key.clone().unwrap_or_default(),
                ]
            });
            let table = table(&["points", "for", "since", "until", "state", "key"], &rows.collect::<Vec<_>>());
            let text = format!("{table}\n{} held.", counted(held.unsigned_abs(), "point", "points"));
            with_more(text, page.next, |next| format!("pointsd holds {} --after {next}", self.user))
        })?;
        Ok(Outcome::Done)
    }
}
