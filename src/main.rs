//! The `pointsd` program: parse the call, run it, tell what went wrong, end with the right status.

use std::process::ExitCode;

fn main() -> ExitCode {
    pointsd::cli::run()
}
