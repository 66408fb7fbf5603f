//! What SIGTERM and SIGINT do.
//!
//! A command finishes the chunk that is under way, and says where it stopped. The daemon begins nothing new and waits for its runs
//! (`drain` in `daemon/mod.rs`). The second signal ends either at once. SIGHUP has the daemon read its configuration again.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that the first SIGTERM or SIGINT cancels. The second one ends the process with status 1.
pub(super) fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stop = CancellationToken::new();
    let cancelled = stop.clone();
    tokio::spawn(async move {
        tokio::select! { _ = interrupt.recv() => (), _ = terminate.recv() => () }
        cancelled.cancel();
        tokio::select! { _ = interrupt.recv() => (), _ = terminate.recv() => () }
        std::process::exit(1);
    });
    Ok(stop)
}
