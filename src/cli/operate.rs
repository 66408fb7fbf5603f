//! What an operator calls: `run`, `db`, `config`, `serve`.

use std::time::Instant;

use anyhow::Context as _;
use serde_json::json as object;

use super::output::{counted, facts, grouped, json, progress, say, table};
use super::{Outcome, Program, Time, stop_on_signal};
use crate::daemon;
use crate::database::{self, Database};
use crate::jobs::{Context, expiry};
use crate::ledger::{Sweep, time_text};

/// Runs a job now.
#[derive(clap::Args)]
pub struct Run {
    /// Which job
    job: JobName,
    /// The slot to run for (RFC 3339); by default now
    #[arg(long)]
    at: Option<Time>,
    /// Tell what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum JobName {
    /// Expires what is due
    Expiry,
}

impl Run {
    /// Runs the job to its end, or to the end of the group in hand when it is interrupted.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let JobName::Expiry = self.job;
        let slot = program.now_or(self.at);
        let stop = stop_on_signal()?;
        let began = Instant::now();
        let sweep = program
            .with_ledger(async |database: &Database| {
                let context = Context { database: database.clone(), rules: program.rules.clone(), stop };
                let bar = progress(0, "expiry", "accounts");
                let sweep = expiry::run(&context, slot, self.dry_run, |at| {
                    bar.set_length(at.total);
                    bar.set_position(at.done);
                });
                let sweep = sweep.await;
                bar.finish_and_clear();
                sweep.context("the sweep did not end; what it expired stays expired, run it again for the rest")
            })
            .await?;
        let seconds = began.elapsed().as_secs_f64();
        if program.json {
            let mut answer = serde_json::to_value(&sweep)?;
            if let Some(answer) = answer.as_object_mut() {
                answer.insert("at".to_owned(), object!(time_text(slot)));
                answer.insert("dry_run".to_owned(), object!(self.dry_run));
                answer.insert("seconds".to_owned(), object!(seconds));
            }
            json(&answer)?;
        } else {
            let verb = if self.dry_run { "Would expire" } else { "Expired" };
            say(format_args!("{verb} what was due at {}, in {seconds:.1} s.", time_text(slot)))?;
            say(swept(&sweep))?;
            if sweep.stopped {
                say("Interrupted: run it again for the rest.")?;
            }
        }
        Ok(match (sweep.stopped, sweep.orphans.is_empty()) {
            (true, _) => Outcome::Interrupted,
            (false, true) => Outcome::Done,
            (false, false) => Outcome::No,
        })
    }
}

/// A sweep's outcome as a table by source, and what it could not expire.
pub fn swept(sweep: &Sweep) -> String {
    let mut rows: Vec<Vec<String>> = sweep
        .by_source
        .iter()
        .map(|(source, expired)| vec![source.clone(), grouped(expired.batches), grouped(expired.points)])
        .collect();
    rows.push(vec!["all".to_owned(), grouped(sweep.batches), grouped(sweep.points)]);
    let mut text = table(&["source", "batches", "points"], &rows);
    text.push_str(&format!("\n{} touched.", counted(sweep.accounts, "account", "accounts")));
    if sweep.orphaned > 0 {
        let users = counted(sweep.orphaned, "user has", "users have");
        text.push_str(&format!("\n{users} due batches but no account: they were left as they are."));
    }
    for orphan in &sweep.orphans {
        let batches = counted(orphan.batches, "batch", "batches");
        text.push_str(&format!("\n  {}: {batches}, {} points", orphan.user, grouped(orphan.points)));
    }
    text
}

/// The database's schema.
#[derive(clap::Subcommand)]
pub enum Db {
    /// Brings the schema up to date
    Migrate,
    /// Shows which migrations are in the database
    Status,
}

impl Db {
    /// Does it.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        program.with_database(async |database: &Database| self.work(database, program).await).await?;
        Ok(Outcome::Done)
    }

    async fn work(&self, database: &Database, program: &Program) -> anyhow::Result<()> {
        let described = database.describe();
        match self {
            Db::Migrate => {
                let applied = database.migrate().await?;
                let names: Vec<&str> = applied.iter().map(|migration| migration.name.as_str()).collect();
                if program.json {
                    json(&object!({ "database": described, "applied": names }))?;
                } else if names.is_empty() {
                    say(format_args!("Nothing to do: {described} is up to date."))?;
                } else {
                    say(format_args!("Applied to {described}: {}.", names.join(", ")))?;
                }
            }
            Db::Status => status(&described, &database.migrations().await?, program)?,
        }
        Ok(())
    }
}

fn status(described: &str, migrations: &[database::MigrationStatus], program: &Program) -> anyhow::Result<()> {
    let pending = migrations.iter().filter(|migration| migration.applied_at.is_none()).count();
    if program.json {
        let migrations: Vec<_> = migrations
            .iter()
            .map(|migration| object!({ "name": migration.name, "applied_at": migration.applied_at.map(time_text) }))
            .collect();
        return json(&object!({ "database": described, "pending": pending, "migrations": migrations }));
    }
    let rows: Vec<Vec<String>> = migrations
        .iter()
        .map(|migration| {
            let applied = migration.applied_at.map_or_else(|| "pending".to_owned(), time_text);
            vec![migration.name.clone(), applied]
        })
        .collect();
    say(format_args!("{described}\n{}", table(&["migration", "applied at"], &rows)))
}

/// The configuration.
#[derive(clap::Subcommand)]
pub enum ConfigCommand {
    /// Reads the configuration and the price list, and shows what is in force
    Check,
}

impl ConfigCommand {
    /// A configuration that does not load never comes here.
    pub fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let ConfigCommand::Check = self;
        let config = &program.config;
        let database = config
            .database
            .url
            .as_ref()
            .map_or_else(|| format!("a private PostgreSQL in {}", config.state_dir.display()), ToString::to_string);
        let schedule = &config.jobs.expiry.schedule;
        let next = schedule.next_after((program.clock)()).map(time_text);
        let sources: Vec<&str> = config.recharge_sources.iter().map(String::as_str).collect();
        let days = if config.expiry.calendar_days { "calendar days" } else { "days of 24 hours" };
        if program.json {
            json(&object!({
                "config": config.source.to_string(), "prices": config.prices_source.to_string(),
                "database": database, "time_zone": config.time_zone.name(), "recharge_sources": sources,
                "expiry": { "days": config.expiry.days, "calendar_days": config.expiry.calendar_days },
                "services": config.prices.services().count(),
                "jobs": { "expiry": { "schedule": schedule.describe(), "next_slot": next } },
            }))?;
        } else {
            say("The configuration is right.")?;
            say(facts(&[
                ("configuration", config.source.to_string()),
                ("prices", format!("{}, {} services", config.prices_source, config.prices.services().count())),
                ("database", database),
                ("time zone", config.time_zone.name().to_owned()),
                ("recharge sources", sources.join(", ")),
                ("points live", format!("{} {days}", config.expiry.days)),
                ("expiry runs", schedule.describe()),
                ("next", next.unwrap_or_else(|| "never".to_owned())),
            ]))?;
        }
        Ok(Outcome::Done)
    }
}

/// Runs the daemon: every job on its schedule, until SIGTERM or Ctrl-C.
#[derive(clap::Args)]
pub struct Serve {}

impl Serve {
    /// Runs until it is told to stop.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let stop = stop_on_signal()?;
        program
            .with_database(async |database: &Database| {
                // Another daemon may be migrating, for as long as that takes: who stops this one need not wait.
                let Some(migrated) = stop.run_until_cancelled(database.migrate()).await else { return Ok(()) };
                migrated?;
                let context = Context { database: database.clone(), rules: program.rules.clone(), stop: stop.clone() };
                daemon::serve(&program.config, context, program.clock).await
            })
            .await?;
        tracing::info!("stopped");
        Ok(Outcome::Done)
    }
}
