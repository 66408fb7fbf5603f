//! The jobs: what pointsd does for each slot of a schedule. One file a job, one registry.

pub mod expiry;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::database::Database;
use crate::ledger::Rules;
use crate::schedule::Schedule;

/// What a job works with.
#[derive(Clone)]
pub struct Context {
    /// The ledger's database, migrated.
    pub database: Database,
    /// The business's choices.
    pub rules: Arc<Rules>,
    /// Cancelled when the job should end after the chunk in hand.
    pub stop: CancellationToken,
}

/// A job as the daemon sees it.
pub struct Job {
    /// Its name in the configuration, in the log and on the command line.
    pub name: &'static str,
    /// When it runs.
    pub schedule: fn(&Config) -> &Schedule,
    /// Does the work of a slot; returns its counters. Doing a slot twice changes nothing that was done.
    pub run: fn(Context, DateTime<Utc>) -> BoxFuture<'static, anyhow::Result<Value>>,
}

/// Every job that there is.
pub const REGISTRY: &[Job] = &[expiry::JOB];
