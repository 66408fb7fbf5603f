//! `demo`

use super::{Outcome, Program};

/// Shows pointsd at work on a made-up business.
#[derive(clap::Args)]
pub struct Demo {}

impl Demo {
    /// Runs it.
    pub async fn run(self, _program: &Program) -> anyhow::Result<Outcome> {
        Ok(Outcome::Done)
    }
}
