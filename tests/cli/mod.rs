//! The command line, called the way its users call it: its output, its exit status, and the ledger afterwards.

mod commands;
mod history;
mod import;
mod input;
mod jobs;
mod order;
mod publication;
mod restored;
mod roles;
pub(crate) mod scenarios;
mod settings;
mod status;
mod what_happens;
mod words;

use crate::program::wait;
use crate::support::TestDatabase;

/// A migrated database of a test's own, and its URL.
fn database() -> (TestDatabase, String) {
    let database = wait(TestDatabase::new());
    let url = database.url();
    (database, url)
}
