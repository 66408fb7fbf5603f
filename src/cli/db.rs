//! `db`: the schema, the rights of roles, and the spread over a cluster.

use anyhow::Context as _;
use deadpool_postgres::Object;
use serde_json::json as object;

use super::output::{complain, table};
use super::restored;
use super::signals::stop_on_signal;
use super::{Outcome, Program, WrongCall};
use crate::database::{Database, KeptRights, RoleKind};
use crate::distribute::{self, NodeStatus, Step};
use crate::ledger::Buckets;
use crate::time::time_text;

/// Shows or migrates the database's schema, and gives roles their rights.
#[derive(clap::Subcommand)]
pub enum Db {
    /// Migrates the schema to this version
    Migrate,
    /// Shows which migrations are applied
    Status,
    Grant(Grant),
    Distribute(Distribute),
    /// After a restore from a backup, before a daemon starts: settles what was under way, and tells which time is gone
    ///
    /// A daemon would take the time since the backup for an outage. This lets no slot of that time be caught up with, cancels
    /// the runs and parks the mails that were under way, so that finance gets nothing twice.
    Restored,
}

/// Spreads the accounts over the nodes of a Citus cluster, and proves the ledger before and after
///
/// Call it as the owner of the schema, on the coordinator, while nothing else uses the database. An interrupted call is repeated.
#[derive(clap::Args)]
pub struct Distribute {
    /// Buckets into which the accounts are parted: a power of two up to 256, several for each node that there will ever be
    #[arg(long, value_name = "COUNT", value_parser = bucket_count)]
    buckets: i16,
    /// Only check whether anything stands in the way
    #[arg(long)]
    dry_run: bool,
}

fn bucket_count(text: &str) -> Result<i16, String> {
    let count = text.parse().ok().filter(|count: &i16| (1..=256).contains(count) && count.count_ones() == 1);
    count.ok_or_else(|| "the number is a power of two up to 256, such as 64".to_owned())
}

/// Gives roles exactly the rights they need. Call it as the owner of the schema, again after each migration
#[derive(clap::Args)]
#[group(id = "roles", required = true, multiple = true)]
pub struct Grant {
    /// The role of the daemon, and of commands that post
    #[arg(long, value_name = "ROLE", group = "roles")]
    daemon: Option<String>,
    /// An application's role: requests, holds, balances
    #[arg(long, value_name = "ROLE", group = "roles")]
    application: Option<String>,
    /// A role that reads: balances, exports, reports
    #[arg(long, value_name = "ROLE", group = "roles")]
    reader: Option<String>,
    /// Only print the statements
    #[arg(long)]
    dry_run: bool,
}

impl Db {
    /// Runs the subcommand.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        if let Db::Restored = self {
            return restored::run(program).await;
        }
        program
            .with_database(async |database: &Database| match self {
                Db::Migrate => migrate(database, program).await,
                Db::Status => status(database, program).await,
                Db::Grant(grant) => grant.run(database, program).await,
                Db::Distribute(distribute) => distribute.run(database, program).await,
                Db::Restored => Ok(()),
            })
            .await?;
        Ok(Outcome::Done)
    }
}

impl Grant {
    async fn run(self, database: &Database, program: &Program) -> anyhow::Result<()> {
        let roles = [
            (RoleKind::Daemon, self.daemon),
            (RoleKind::Application, self.application),
            (RoleKind::Reader, self.reader),
        ];
        let named: Vec<String> = roles.iter().filter_map(|(_, role)| role.clone()).collect();
        if let Some(twice) =
            named.iter().enumerate().find_map(|(nth, role)| named.iter().take(nth).find(|r| r == &role))
        {
            return Err(WrongCall(format!("the role {twice} is named twice: each role has one kind")).into());
        }
        let (mut statements, mut kept) = (String::new(), Vec::new());
        for (kind, role) in roles {
            if let Some(role) = role {
                statements.push_str(&database.grants(kind, &role).await?);
                kept.extend(database.kept_rights(&role).await?);
            }
        }
        if !self.dry_run {
            database.grant(&statements).await?;
        }
        for KeptRights { role, through, rights, object, revoke } in kept.iter().filter(|_| !program.json) {
            complain(&format!(
                "pointsd: {role} has {rights} on {object} through {through} all the same; next: {revoke}"
            ));
        }
        let value = object!({
            "database": database.describe(), "statements": statements, "dry_run": self.dry_run, "kept": kept,
        });
        program.answer(value, || match self.dry_run {
            true => statements.trim_end().to_owned(),
            false => format!("{}\n\nGranted to {}.", statements.trim_end(), named.join(", ")),
        })
    }
}

impl Distribute {
    async fn run(self, database: &Database, program: &Program) -> anyhow::Result<()> {
        if database.migrations().await?.iter().any(|migration| migration.applied_at.is_none()) {
            anyhow::bail!(
                "the database has no ledger of this version: name the coordinator, or call `pointsd db migrate` first"
            );
        }
        // The session that `migrations` used: another one would be in the way.
        let (mut client, buckets) = (Object::take(database.connection().await?), self.buckets);
        distribute::check_cluster(&client).await.context("the ledger was not spread")?;
        if self.dry_run {
            distribute::rehearse(&mut client, buckets).await.context("the ledger cannot be spread now")?;
            let value = object!({ "database": database.describe(), "buckets": buckets, "dry_run": true });
            return program
                .answer(value, || format!("Nothing stands in the way of {buckets} buckets. Nothing was changed."));
        }
        let stop = stop_on_signal()?;
        let mut groups = 0_u64;
        let proceed = |step: Step| {
            match step {
                Step::Moved => {
                    groups += 1;
                    if groups == 1 {
                        complain("pointsd: moving the accounts");
                    }
                }
                Step::Proved => complain("pointsd: the ledger is proved"),
                Step::Spread(what) => complain(&format!("pointsd: {what}")),
            }
            !stop.is_cancelled()
        };
        let ended = distribute::distribute(&mut client, buckets, distribute::GROUP_ACCOUNTS, proceed).await;
        if !ended.context("the ledger was not spread to the end")? {
            anyhow::bail!("the ledger was not spread to the end: call again, with the same number of buckets");
        }
        let nodes = distribute::nodes(&client).await?;
        let value = object!({ "database": database.describe(), "buckets": buckets, "dry_run": false, "nodes": nodes });
        program.answer(value, || {
            let nodes = nodes_table(&nodes);
            format!("The ledger has {buckets} buckets, and is proved.\n{nodes}\nNext: `pointsd db grant` for the daemon's role.")
        })
    }
}

fn nodes_table(nodes: &[NodeStatus]) -> String {
    let state = |node: &NodeStatus| if node.active { "in use" } else { "disabled" }.to_owned();
    let rows = nodes
        .iter()
        .map(|node| vec![node.node.clone(), node.shards.to_string(), node.buckets.to_string(), state(node)]);
    table(&["node", "shards", "buckets", "state"], &rows.collect::<Vec<_>>())
}

async fn migrate(database: &Database, program: &Program) -> anyhow::Result<()> {
    let (described, applied) = (database.describe(), database.migrate().await?);
    let names: Vec<&str> = applied.iter().map(|migration| migration.name.as_str()).collect();
    program.answer(object!({ "database": described, "applied": names }), || match names.is_empty() {
        true => format!("Nothing to do: {described} is up to date."),
        false => format!("Applied to {described}: {}.", names.join(", ")),
    })
}

async fn status(database: &Database, program: &Program) -> anyhow::Result<()> {
    let (described, migrations) = (database.describe(), database.migrations().await?);
    let pending = migrations.iter().filter(|migration| migration.applied_at.is_none()).count();
    let (mut buckets, mut moving_to, mut nodes) = (None, None, Vec::new());
    if pending == 0 {
        let client = database.connection().await?;
        moving_to = distribute::moving_to(&client).await?;
        if moving_to.is_none() {
            buckets = Some(Buckets::read(&client).await?.count());
            nodes = distribute::nodes(&client).await?;
        }
    }
    let value = object!({
        "database": described, "pending": pending, "buckets": buckets, "moving_to": moving_to, "nodes": nodes,
        "migrations": migrations
            .iter()
            .map(|migration| object!({ "name": migration.name, "applied_at": migration.applied_at }))
            .collect::<Vec<_>>(),
    });
    program.answer(value, || {
        let applied_at = |time: Option<_>| time.map_or_else(|| "pending".to_owned(), time_text);
        let rows = migrations.iter().map(|migration| vec![migration.name.clone(), applied_at(migration.applied_at)]);
        let table = table(&["migration", "applied at"], &rows.collect::<Vec<_>>());
        let next = if pending == 0 { "" } else { "\n`pointsd db migrate` applies the pending migrations." };
        let buckets = match (buckets, moving_to) {
            (_, Some(count)) => format!("\nThe accounts are moving to {count} buckets: finish that first."),
            (Some(1) | None, None) => String::new(),
            (Some(count), None) if nodes.is_empty() => format!("\nThe ledger has {count} buckets."),
            (Some(count), None) => format!("\nThe ledger has {count} buckets.\n{}", nodes_table(&nodes)),
        };
        format!("{described}\n{table}{next}{buckets}")
    })
}
