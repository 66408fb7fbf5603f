//! `import`: what accounts have elsewhere, from a file.

use std::collections::BTreeMap;
use std::time::Instant;

use super::bulk::{Answered, Lines, post_lines, post_summary};
use super::output::{counted, grouped, say, table};
use super::{Outcome, Program};
use crate::bulk::Content;
use crate::ledger::{Entry, Money, Reply};

/// Brings points and debts along from elsewhere: a file with one line for each batch or debt. Exit status 3 if a line was rejected.
///
/// A line of points: user, points, source, id; optional: opened_at, expires_at, paid, currency, description. A line of a debt: user,
/// points below zero, opened_at; optional: description. Accounts must have no other entries yet. Importing a file again is safe:
/// lines that were posted replay.
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
        let Answered { summary, outcome } =
            post_lines(input, program, |reply: &Reply| reply.entry().into_iter().for_each(|entry| totals.add(entry)))
                .await?;
        if !program.json {
            let text = post_summary(&summary, began.elapsed().as_secs_f64());
            say(format!("{text}\n\n{}", totals.text()))?;
        }
        Ok(outcome)
    }
}

/// The control totals of a file: what its lines brought in, now or by an earlier import.
#[derive(Default)]
struct Totals {
    accounts: u64,
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
    fn add(&mut self, entry: &Entry) {
        // An account begins with an opening, so its first entry counts it once.
        self.accounts += u64::from(entry.seq == 1);
        match entry.batch {
            None => self.debts.add(entry),
            Some(_) => {
                let currency = entry.currency.map(|currency| currency.to_string());
                self.points.entry((entry.source_type.clone(), currency)).or_default().add(entry);
            }
        }
    }

    fn text(&self) -> String {
        let sources = self.points.iter().map(|((source, _), sum)| sum.row(format!("points from {source}")));
        let rows: Vec<_> = sources.chain([self.debts.row("debts".to_owned())]).collect();
        format!(
            "The file brings in {}.\n{}\nNext: pointsd run reconciliation --full proves them.",
            counted(self.accounts, "account", "accounts"),
            table(&["brought in", "lines", "points", "not yet released"], &rows)
        )
    }
}
