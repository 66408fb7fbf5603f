//! The command line, called as its users call it: what it prints, what it ends with, what is in the books afterwards.

#![allow(missing_docs, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

#[path = "../program/mod.rs"]
mod program;
#[path = "../support/mod.rs"]
mod support;

mod commands;
mod input;
mod jobs;
mod scenarios;
mod settings;
mod words;

use program::wait;
use support::TestDatabase;

/// A migrated database of a test's own, and its URL.
fn database() -> (TestDatabase, String) {
    let database = wait(TestDatabase::new());
    let url = database.url();
    (database, url)
}
