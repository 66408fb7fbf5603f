//! Documents as people and programs see them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod page;
mod pictures;
mod samples;
mod sheets;
