//! `serve`: the daemon.

use super::signals::stop_on_signal;
use super::{Outcome, Program};
use crate::config::{Config, ConfigError};
use crate::daemon;

/// Runs the daemon: every job on its schedule, until SIGTERM or Ctrl-C.
#[derive(clap::Args)]
pub struct Serve {}

impl Serve {
    /// Runs until a signal stops it.
    pub async fn run(
        self,
        program: &Program,
        load: impl Fn() -> Result<Config, ConfigError>,
    ) -> anyhow::Result<Outcome> {
        program.config.check_reach()?;
        daemon::serve(&program.config, load, stop_on_signal()?).await?;
        tracing::info!("stopped");
        Ok(Outcome::Done)
    }
}
