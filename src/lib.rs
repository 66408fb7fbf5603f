//! pointsd keeps a ledger of points that expire in PostgreSQL honest.
//!
//! [`ledger`] is the core and can be used by itself; ARCHITECTURE.md says on which floor each module stands and what
//! it may know.

pub mod bulk;
pub mod database;
pub mod errors;
pub mod language;
pub mod ledger;
pub mod numbers;
pub mod prices;
pub mod requests;
pub mod retry;
pub mod time;
pub mod yaml;

// The daemon and the command line.
#[cfg(feature = "service")]
pub mod books;
#[cfg(feature = "service")]
pub mod cli;
#[cfg(feature = "service")]
pub mod config;
#[cfg(feature = "service")]
pub mod daemon;
#[cfg(feature = "service")]
pub mod document;
#[cfg(feature = "service")]
pub mod jobs;
#[cfg(feature = "service")]
pub mod mail;
#[cfg(feature = "service")]
pub mod messages;
#[cfg(feature = "service")]
pub mod pings;
#[cfg(feature = "service")]
pub mod proof;
#[cfg(feature = "service")]
pub mod render;
#[cfg(feature = "service")]
pub mod reports;
#[cfg(feature = "service")]
pub mod schedule;
#[cfg(feature = "service")]
pub mod scheduler;
#[cfg(feature = "service")]
pub mod systemd;
#[cfg(feature = "service")]
pub mod telemetry;
