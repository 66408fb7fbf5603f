//! The `pointsd` program: parse the call, run it, tell what went wrong, end with the right status.

use std::process::ExitCode;

use clap::Parser;
use pointsd::cli;

fn main() -> ExitCode {
    cli::run(cli::Args::parse())
}
