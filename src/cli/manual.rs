//! Manual pages and completions, for packages.

use std::path::PathBuf;

use anyhow::Context as _;
use clap_complete::Shell;

use super::Outcome;

/// Writes the manual pages and the completions of bash, zsh and fish into a folder
#[derive(clap::Args)]
pub struct Manual {
    /// The folder; it is made if it is missing
    folder: PathBuf,
}

impl Manual {
    /// Writes the files.
    pub fn run(self, command: &clap::Command) -> anyhow::Result<Outcome> {
        let folder = &self.folder;
        let write = || {
            std::fs::create_dir_all(folder)?;
            clap_mangen::generate_to(command.clone(), folder)?;
            for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
                clap_complete::generate_to(shell, &mut command.clone(), "pointsd", folder)?;
            }
            std::io::Result::Ok(())
        };
        write().with_context(|| format!("the manual cannot be written to {}", folder.display()))?;
        Ok(Outcome::Done)
    }
}
