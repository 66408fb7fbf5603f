//! The ledger core: postings in, entries and refusals out. It can be used by itself.
//!
//! - [`Posting`] is what a caller asks, [`Reply`] the answer, [`Rules`] what the business decided.
//! - The rules about points are a pure state machine (`decide`), which a [`Session`] feeds: it loads what a group of
//!   postings touches, has them decided, and stores the outcome, in two round trips and one transaction.
//! - A [`Poster`] shares groups between callers that come at once.
//! - [`Session::sweep`] expires what is due. [`Session::export`] reads tables, and a [`Reader`] an account's balance,
//!   its batches and its history. A [`Statement`] tells what happened to an account in a span of recording.
//!
//! It reads no clock and knows no job: every instant comes from the caller.

mod also_write;
mod bucket;
mod cutoff;
mod decide;
mod holds;
mod key;
mod load;
mod money;
mod observer;
mod poster;
mod posting;
mod read;
mod reader;
mod reply;
mod rows;
mod rules;
mod session;
mod statement;
mod sweep;

pub use crate::numbers::MAX_POINTS;
pub use also_write::{AlsoWrite, Part, PrepareWrite, Progress, SoFar};
pub use bucket::Buckets;
pub use cutoff::{CUTOFF_LIMIT, cutoff};
pub use decide::CLOCK_TOLERANCE;
pub use holds::{Hold, HoldState};
pub use key::Reference;
#[cfg(feature = "service")]
pub(crate) use key::order_key;
#[cfg(feature = "service")]
pub(crate) use money::released;
pub use money::{Currency, MAX_PAID, Money};
pub use observer::GroupObserver;
pub use poster::{Answer, Feed, GROUP_POSTINGS, Pending, Poster};
#[cfg(test)]
pub(crate) use poster::{HandedOver, Hands};
pub use posting::{Beyond, Kind, MAX_DESCRIPTION, MAX_ID, MAX_NAME, Opening, Posting};
pub use read::{
    Balance, BalanceThen, Before, Check, Exported, ExportedAccount, ExportedBatch, ExportedEntry, NextExpiry, Table,
    Then, Totals,
};
pub use reader::{Batches, EntryFilter, HoldPage, MOST_READ, Order, Page, Reader};
pub use reply::{Allocation, Asked, Entry, EntryType, KeyHolder, Opened, Posted, Refusal, Reply};
pub use rules::{DRAWING_RULE, Length, NEVER, Period, REFUND_SOURCE, Rules, Term};
pub use session::{Error, Group, MOST_RACES, Session};
pub use statement::{
    AdoptedHistory, AdoptedTransaction, MOST_HOLDS, OpenBatch, Span, Statement, statement, statements,
};
pub use sweep::{Expired, Orphan, Sweep, sweep_for};
