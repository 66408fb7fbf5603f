//! The Python that has what a test needs.

use std::process::{Command, Stdio};

/// A Python that has this module: the system's, that of the path, or the tests' own. script/setup installs what is missing.
pub fn python(module: &str) -> &'static str {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/target/python/bin/python3");
    let works = |python: &&str| {
        let call = Command::new(python).args(["-c", &format!("import {module}")]).stderr(Stdio::null()).status();
        call.is_ok_and(|status| status.success())
    };
    let found = ["/usr/bin/python3", "python3", own].into_iter().find(works);
    found.unwrap_or_else(|| panic!("no Python here has {module}: run script/setup tests"))
}
