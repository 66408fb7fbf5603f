//! The ledger against a real PostgreSQL: that it follows its rules, alone and under load, and keeps them when it is
//! interrupted.

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used
)]

#[path = "../support/mod.rs"]
mod support;

mod buckets;
mod bulk;
mod cancellation;
mod concurrency;
mod cutoff;
mod encodings;
mod extremes;
mod groups;
mod histories;
mod holds;
mod migrations;
mod model;
mod money;
mod order;
mod properties;
mod reads;
mod round_trips;
mod scenarios;
mod schema;
mod sessions;
mod statements;
mod sweep;
mod then;

use support::{TestDatabase, at, rng, user};
