//! What an operator calls: `db`, `config`, `serve`.

use serde_json::json as object;

use super::output::{facts, json, say, table};
use super::{Outcome, Program, stop_on_signal};
use crate::config::{Config, ConfigError};
use crate::daemon;
use crate::database::{self, Database};
use crate::time::time_text;

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
    pub async fn run(
        self,
        program: &Program,
        load: impl Fn() -> Result<Config, ConfigError>,
    ) -> anyhow::Result<Outcome> {
        daemon::serve(&program.config, load, stop_on_signal()?).await?;
        tracing::info!("stopped");
        Ok(Outcome::Done)
    }
}
