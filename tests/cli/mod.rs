//! The command line, called as its users call it: what it prints, what it ends with, what is in the books afterwards.

mod commands;
mod input;
mod jobs;
mod publication;
mod scenarios;
mod settings;
mod words;

use crate::program::wait;
use crate::support::TestDatabase;

/// A migrated database of a test's own, and its URL.
fn database() -> (TestDatabase, String) {
    let database = wait(TestDatabase::new());
    let url = database.url();
    (database, url)
}
