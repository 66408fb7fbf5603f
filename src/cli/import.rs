//! `import`: what accounts have elsewhere, from a file.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Instant;

use serde_json::{Value, json};
use uuid::Uuid;

use super::bulk::{Answered, Lines, post_lines, post_summary};
use super::output::{complain_json, counted, grouped, say, table};
use super::{Outcome, Program};
use crate::bulk::{Content, LineReply};
use crate::ledger::{Entry, Money, Refusal, Reply};

/// Brings points and debts along from elsewhere: a file with one line for each batch or debt. Exit status 3 if a line was rejected.
///
/// A line of points: user, points, source, id; optional: opened_at, expires_at, paid, currency, description. A line of a debt: user,
/// points below zero, opened_at; optional: description. Accounts must have no other entries yet. Importing a file again is safe:
/// lines that were posted replay. A line that repeats another one of the same file is rejected.
#[derive(clap::Args)]
pub struct Import {
    #[command(flatten)]
    lines: Lines,
}

impl Import {
    /// Posts every line, and prints the replies, a summary and the control totals.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let mut input = self.lines.open("importing")?;
        input.form.content = Content::Openings;
        let began = Instant::now();
        let mut totals = Totals::default();
        let Answered { summary, outcome } = post_lines(input, program, |reply| totals.take(reply)).await?;
        if program.json {
            complain_json(&totals.json(!summary.stopped));
        } else {
            let text = post_summary(&summary, began.elapsed().as_secs_f64());
            say(format!("{text}\n\n{}", totals.text(!summary.stopped)))?;
        }
        Ok(outcome)
    }
}

/// The control totals of a file: what its lines brought in, now or by an earlier import.
#[derive(Default)]
struct Totals {
    accounts: HashSet<Uuid>,
    /// The line of each entry: a second line of the same entry brings nothing more.
    entries: HashMap<(Uuid, i64), u64>,
    /// By source, and by currency for points with a price.
    points: BTreeMap<(String, Option<String>), Sum>,
    debts: Sum,
}

#[derive(Default)]
struct Sum {
    lines: u64,
    points: i128,
    paid: Option<Money>,
}

impl Sum {
    fn add(&mut self, entry: &Entry) {
        self.lines += 1;
        self.points += i128::from(entry.amount);
        if let Some((amount, currency)) = entry.paid.zip(entry.currency) {
            let sum = self.paid.map_or(0, |paid| paid.amount).saturating_add(amount);
            self.paid = Some(Money { amount: sum, currency });
        }
    }

    fn row(&self, what: String) -> Vec<String> {
        let paid = self.paid.map(|paid| paid.to_string()).unwrap_or_default();
        vec![what, grouped(self.lines), grouped(self.points), paid]
    }
}

impl Totals {
    /// Adds a line's entry. Refuses the line if another line of this file stands for the same entry.
    fn take(&mut self, reply: &LineReply) -> Option<Refusal> {
        let (user, entry) = reply.user.zip(reply.reply.entry())?;
        if let (Some(line), Reply::Replayed(_)) = (self.entries.get(&(user, entry.seq)), &reply.reply) {
            return Some(Refusal::Malformed(format!(
                "line {line} is the same: give each batch of an account an id of its own and each account one debt, or leave \
                 the line out"
            )));
        }
        self.entries.insert((user, entry.seq), reply.line);
        self.accounts.insert(user);
        self.add(entry);
        None
    }

    fn add(&mut self, entry: &Entry) {
        match entry.batch {
            None => self.debts.add(entry),
            Some(_) => {
                let currency = entry.currency.map(|currency| currency.to_string());
                self.points.entry((entry.source_type.clone(), currency)).or_default().add(entry);
            }
        }
    }

    fn json(&self, finished: bool) -> Value {
        let sources = self.points.iter().map(|((source, currency), sum)| {
            let (points, paid) = (i64::try_from(sum.points).ok(), sum.paid.map(|paid| paid.amount));
            json!({"source": source, "lines": sum.lines, "points": points, "paid": paid, "currency": currency})
        });
        json!({
            "finished": finished,
            "accounts": self.accounts.len(),
            "points": sources.collect::<Vec<_>>(),
            "debts": {"lines": self.debts.lines, "points": i64::try_from(self.debts.points).ok()},
        })
    }

    fn text(&self, finished: bool) -> String {
        let sources = self.points.iter().map(|((source, _), sum)| sum.row(format!("points from {source}")));
        let rows: Vec<_> = sources.chain([self.debts.row("debts".to_owned())]).collect();
        let (what, next) = if finished {
            ("The file brings in", "pointsd run reconciliation --full proves them")
        } else {
            ("The file was not finished. Its lines so far bring in", "import the file again from its start")
        };
        format!(
            "{what} {}.\n{}\nNext: {next}.",
            counted(self.accounts.len() as u64, "account", "accounts"),
            table(&["brought in", "lines", "points", "not yet released"], &rows)
        )
    }
}
