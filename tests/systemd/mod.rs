//! pointsd under a real systemd: the promises of the units. Needs root, cgroup v2 and systemd; see `boot`.

mod machine;

mod lifecycle;
mod logging;
mod sandbox;

use crate::program::wait;
use crate::support::TestDatabase;

/// In the database's URL; it must show nowhere.
const PASSWORD: &str = "hunter2";

fn database() -> TestDatabase {
    wait(TestDatabase::new())
}
