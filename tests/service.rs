//! The daemon, the command line and everything between them and the ledger: real processes, real signals, real mail.

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used
)]

mod program;
mod support;

mod adopt;
mod chaos;
mod cli;
mod daemon;
mod database;
mod demo;
mod failover;
mod faults;
mod floors;
mod http;
mod mail;
mod pings;
mod proof;
mod render;
mod reports;
mod requests;
mod scheduler;
mod schedules;
mod systemd;
mod troubles;
