//! The settings of modules that do not know the configuration.

use std::time::Duration;

use serde::Deserialize;

use super::ledger::PointKind;
use super::{Config, between, seconds};
use crate::database;
use crate::ledger::Rules;
use crate::requests;

impl From<&Config> for database::Settings {
    fn from(config: &Config) -> database::Settings {
        let database = &config.database;
        database::Settings {
            url: database.url.as_ref().map(|url| url.reveal().to_owned()),
            ca_file: database.ca_file.clone(),
            pool_size: database.pool_size,
            connect_timeout: database.connect_timeout,
            statement_timeout: database.statement_timeout,
            keep_trying: database.keep_trying,
            state_dir: config.state_dir.clone(),
            postgres_bin: database.postgres_bin.clone(),
        }
    }
}

impl From<&Config> for Rules {
    fn from(config: &Config) -> Rules {
        let promotional = config.sources.iter().filter(|(_, source)| source.kind == Some(PointKind::Promotional));
        Rules {
            sources: config.sources.iter().map(|(name, source)| (name.clone(), source.expires)).collect(),
            promotional: promotional.map(|(name, _)| name.clone()).collect(),
            term: config.expires,
            refund: config.refund,
            zone: config.time_zone,
        }
    }
}

/// The queue of postings in `pointsd.requests`.
#[derive(Deserialize)]
#[serde(remote = "requests::Settings", deny_unknown_fields)]
pub(super) struct Requests {
    enabled: bool,
    #[serde(rename = "poll_seconds", deserialize_with = "seconds::<3600, _>")]
    poll: Duration,
    #[serde(deserialize_with = "between::<0, 100, _, _>")]
    retries: u32,
    #[serde(rename = "retry_seconds", deserialize_with = "seconds::<3600, _>")]
    retry_pause: Duration,
}
