//! The reports to finance. [`pipeline`] takes each [`Report`] the same way: gather its facts in a snapshot, make its
//! document, write its files, keep it and write its mails to the outbox.
//!
//! - [`arrears`], [`expiry`], [`reconciliation`] and [`month_end`] hold what is particular to each report.
//! - [`store_document`], [`list`], [`find`], [`load`] and [`prune`] are the table of documents.
//! - [`write_files`] writes a document to a folder, for readers without access to the database.
//! - [`statement`] is the statement of a customer, which is not kept.
//! - [`adoption`] is the plan to take over another service's accounts, and the comparison with it while it is followed.
//! - [`missing::find_missing`] finds reports that are overdue, or whose mails were not sent.

pub mod adoption;
pub mod arrears;
mod bridges;
mod calendar;
mod exceptions;
pub mod expiry;
mod files;
pub mod missing;
pub mod month_end;
pub mod pipeline;
pub mod reconciliation;
mod resend;
mod roll_forward;
mod rows_file;
pub mod statement;
mod store;

pub use files::{folder_of, page, remove_files, text, write_files};
pub use pipeline::{Pipeline, Report};
pub use resend::{Resent, resend};
pub use roll_forward::ROLL_FORWARD;
pub use store::{Listed, Mail, Old, StoreOutcome, find, find_by_slot, list, load, load_charts, prune, store_document};

use crate::database;
use crate::ledger;
use crate::mail;

/// Every report, by the name of the job that makes it, in the order of a night. `pointsd adopt follow` makes the last one.
pub const ALL: [&str; 5] =
    [expiry::REPORT, reconciliation::REPORT, arrears::REPORT, month_end::REPORT, adoption::REPORT];

/// Why a report could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database failed.
    #[error("the report could not be kept in the database, or read there")]
    Database(#[from] tokio_postgres::Error),
    /// The ledger's history is not complete up to an instant.
    #[error("the report cannot begin")]
    Cutoff(#[from] ledger::Error),
    /// Its mails could not be written to the outbox.
    #[error("the report's mails could not be written to the outbox")]
    Mail(#[from] mail::Error),
    /// The database holds a document that this version cannot read.
    #[error("report {document} cannot be read: was it made by a newer version?")]
    Unreadable {
        /// The document's number.
        document: i64,
        /// Why it cannot be read.
        source: serde_json::Error,
    },
}

impl Error {
    /// Whether the same call may succeed a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Database(error) => database::is_transient(error),
            Error::Cutoff(error) => error.is_transient(),
            Error::Mail(_) | Error::Unreadable { .. } => false,
        }
    }
}
