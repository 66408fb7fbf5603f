//! pointsd under a real systemd: what the units promise. Needs root, cgroup v2 and systemd; see `boot`.

#![allow(missing_docs, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod machine;
#[path = "../program/mod.rs"]
mod program;
#[path = "../support/mod.rs"]
mod support;

mod lifecycle;
mod logging;
mod sandbox;

use program::wait;
use support::TestDatabase;

/// In the database's URL; it must show nowhere.
const PASSWORD: &str = "hunter2";

fn database() -> TestDatabase {
    wait(TestDatabase::new())
}
