//! `repair`: corrects what proofs found, by a plan that an operator reads first.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json as object;
use uuid::Uuid;

use super::output::{counted, data, remark, say};
use super::{Outcome, Program, WrongCall, caller_name};
use crate::database::Database;
use crate::fields::parse_user;
use crate::private_files;
use crate::proof::{self, Approval, Basis, Finding, Plan, RepairOutcome};

/// Corrects what proofs found, by adjust entries that record the operator and the reason.
#[derive(clap::Subcommand)]
pub enum Repair {
    /// Writes a plan as YAML, or JSON with --json. Exit status 3 if an account is beyond repair, or an exception concerns the
    /// ledger as a whole
    Plan {
        /// Only this user's account (a UUID); may be repeated. By default all accounts with open exceptions
        #[arg(long = "user", value_name = "USER", value_parser = parse_user)]
        users: Vec<Uuid>,
        /// Which side is right: entries (rows are set back to them), or balances (customers keep them, the difference is booked)
        #[arg(long, value_enum, default_value_t = Which::Entries)]
        keep: Which,
        /// Write the plan to this file
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Posts a plan. Exit status 3 if an account was left alone: it changed since the plan, or would still be wrong
    Apply {
        /// The file of the plan
        plan: PathBuf,
        /// The reason, which each entry records
        #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
        reason: String,
        /// The operator's name; by default the caller's
        #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
        by: Option<String>,
    },
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Which {
    Entries,
    Balances,
}

impl Repair {
    /// Makes or applies a plan.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        match self {
            Repair::Plan { users, keep, output } => plan(users, keep, output.as_deref(), program).await,
            Repair::Apply { plan, reason, by } => apply(&plan, &reason, by, program).await,
        }
    }
}

async fn plan(mut users: Vec<Uuid>, keep: Which, output: Option<&Path>, program: &Program) -> anyhow::Result<Outcome> {
    let keep = match keep {
        Which::Entries => Basis::Entries,
        Which::Balances => Basis::Balances,
    };
    let (plan, whole) = program
        .with_ledger(async |database: &Database| {
            let mut client = database.connection().await?;
            let mut whole = 0;
            if users.is_empty() {
                users = proof::load_users_with_findings(&client).await?;
                whole = proof::count_whole_ledger_findings(&client).await?;
            }
            users.sort_unstable();
            users.dedup();
            Ok((proof::plan(&mut client, &users, keep, (program.clock)()).await?, whole))
        })
        .await?;
    let about_the_whole = (whole > 0).then(|| {
        let findings = counted(i128::from(whole), "finding", "findings");
        format!("{findings} about the ledger as a whole, which no entry sets right: see docs/reconciliation.md")
    });
    let text = match program.json {
        true => serde_json::to_string(&plan)? + "\n",
        false => plan_text(&plan, about_the_whole.as_deref())?,
    };
    if program.json || output.is_some() {
        remark(about_the_whole);
    }
    match output {
        Some(path) => {
            let written = private_files::write(path, text.as_bytes());
            written.with_context(|| format!("the plan cannot be written to {}", path.display()))?;
        }
        None => data(text.trim_end())?,
    }
    Ok(if plan.unrepairable.is_empty() && whole == 0 { Outcome::Done } else { Outcome::No })
}

/// The plan as YAML, under a summary.
fn plan_text(plan: &Plan, about_the_whole: Option<&str>) -> anyhow::Result<String> {
    let kept = match plan.keep {
        Basis::Entries => "Rows are set back to what the entries say.",
        Basis::Balances => "What customers see stays, and the difference is booked.",
    };
    let about_the_whole = about_the_whole.map_or(String::new(), |text| format!("# {text}\n"));
    Ok(format!(
        "# A repair of {}; {} beyond repair. {kept}\n{about_the_whole}\
         # Nothing is done until `pointsd repair apply` is called with it. Accounts taken out of it are left alone.\n{}",
        counted(plan.accounts.len() as i128, "account", "accounts"),
        plan.unrepairable.len(),
        serde_yaml::to_string(plan)?
    ))
}

async fn apply(path: &Path, reason: &str, by: Option<String>, program: &Program) -> anyhow::Result<Outcome> {
    let wrong = |why: String| WrongCall(format!("{} is no plan of a repair: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    // JSON is YAML, too.
    let plan: Plan = serde_yaml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if plan.accounts.is_empty() && !program.json {
        let beyond = counted(plan.unrepairable.len() as i128, "account", "accounts");
        say(match plan.unrepairable.is_empty() {
            true => "Nothing to do: the plan has no account.".to_owned(),
            false => format!("Nothing to do: the plan has {beyond} beyond repair and no other."),
        })?;
    }
    let by = by.unwrap_or_else(caller_name);
    let order = Approval { by: &by, reason, at: (program.clock)() };
    let all_done = program
        .with_ledger(async |database: &Database| {
            let mut client = database.connection().await?;
            let mut all_done = true;
            for change in &plan.accounts {
                let applied = proof::apply(&mut client, &plan, change, &order)
                    .await
                    .with_context(|| format!("the repair stopped at account {}; apply the plan again", change.user))?;
                all_done &= matches!(applied, RepairOutcome::Posted(_) | RepairOutcome::PostedBefore(_));
                print_applied(change.user, &applied, program)?;
            }
            Ok(all_done)
        })
        .await?;
    Ok(if all_done { Outcome::Done } else { Outcome::No })
}

fn print_applied(user: Uuid, applied: &RepairOutcome, program: &Program) -> anyhow::Result<()> {
    let value = match applied {
        RepairOutcome::Posted(seq) => object!({ "user": user, "status": "posted", "seq": seq }),
        RepairOutcome::PostedBefore(seq) => object!({ "user": user, "status": "already", "seq": seq }),
        RepairOutcome::AccountChanged => object!({ "user": user, "status": "moved_on" }),
        RepairOutcome::FindingsRemain(left) => object!({ "user": user, "status": "still_broken", "findings": left }),
    };
    program.answer(value, || match applied {
        RepairOutcome::Posted(seq) => format!("{user}: set right by entry {seq}."),
        RepairOutcome::PostedBefore(seq) => format!("{user}: had been set right by entry {seq}."),
        RepairOutcome::AccountChanged => format!(
            "{user}: was left alone, because it has moved on since the plan, or the plan's rows were edited. Plan again."
        ),
        RepairOutcome::FindingsRemain(left) => format!(
            "{user}: was left alone, because this would still be wrong: {}",
            left.iter().map(finding_text).collect::<Vec<_>>().join("; ")
        ),
    })
}

fn finding_text(finding: &Finding) -> String {
    let batch = finding.batch.map(|batch| format!(" batch {batch}")).unwrap_or_default();
    let entry = finding.seq.map(|seq| format!(" entry {seq}")).unwrap_or_default();
    format!("{}{batch}{entry} (expected {}, found {})", finding.rule, finding.expected, finding.found)
}
