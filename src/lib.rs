//! pointsd keeps a ledger of points that expire in PostgreSQL honest.
//!
//! [`ledger`] is the core and can be used by itself; ARCHITECTURE.md says on which floor each module stands and what
//! it may know.

pub mod books;
pub mod bulk;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod database;
pub mod document;
mod fields;
pub mod jobs;
pub mod language;
pub mod ledger;
pub mod mail;
pub mod messages;
pub mod numbers;
pub mod pings;
pub mod prices;
pub mod proof;
pub mod render;
pub mod reports;
pub mod requests;
pub mod retry;
pub mod schedule;
pub mod scheduler;
pub mod systemd;
pub mod telemetry;
pub mod time;
pub mod yaml;
