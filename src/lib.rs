//! A ledger of points that expire, in PostgreSQL: recharges open batches, consumes draw the batch that expires first.
//!
//! The public parts, and what each is for:
//!
//! - [`database`]: the connection. [`database::Database::open`] connects, [`database::Database::migrate`] makes the tables.
//! - [`ledger`]: [`ledger::Posting`] in, [`ledger::Reply`] out, under the [`ledger::Rules`] of the business. A [`ledger::Poster`]
//!   shares transactions between callers; a [`ledger::Session`] posts groups of your own.
//! - [`prices`]: the price list: points for a use, and an estimate before it.
//! - [`requests`]: postings as rows that an application inserts in its own transaction; a daemon posts them later.
//! - [`bulk`]: files and streams of postings.
//!
//! These build without the default features. The feature `service` adds the daemon and the command line; the program, the tests
//! and the benches use its modules, so they are public but hidden, and may change at any time.
//!
//! ```
//! use std::sync::Arc;
//!
//! use chrono::Utc;
//! use pointsd::database::{Database, Settings};
//! use pointsd::ledger::{Poster, Posting, Reply, Rules, Term};
//! use uuid::Uuid;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // A private PostgreSQL server in a folder. For a server of your own: Settings::server("postgres://…").
//!     # let folder = std::env::temp_dir().join(format!("pointsd-example-{}", std::process::id()));
//!     let database = Database::open(&Settings::private_server(&folder)).await?;
//!     database.migrate().await?;
//!
//!     // Points of a card live for a year. Where nothing else is said, points live for 180 days.
//!     let rules = Rules { sources: [("card".to_owned(), Some(Term::days(365)))].into(), ..Rules::default() };
//!     // Callers that come at the same time share a transaction. Two connections post.
//!     let poster = Poster::start(&database, &Arc::new(rules), 2);
//!
//!     let user = Uuid::new_v4();
//!     let order = Posting::recharge(user, 100, "card", Utc::now()).with_key("order-1001");
//!     poster.post(order).await?;
//!     let task = Posting::consume(user, 30, "script", "task-1", Utc::now());
//!     let Reply::Posted(posted) = poster.post(task.clone()).await? else { return Err("refused".into()) };
//!     assert_eq!(posted.entry.balance_after, 70);
//!     // A posting that is sent again changes nothing: the answer is the entry from the first time.
//!     assert!(matches!(poster.post(task).await?, Reply::Replayed(first) if first.entry == posted.entry));
//!
//!     poster.close().await;
//!     database.close().await?;
//!     # std::fs::remove_dir_all(folder)?;
//!     Ok(())
//! }
//! ```

pub mod bulk;
pub mod database;
pub mod ledger;
pub mod prices;
pub mod requests;

pub use language::Language;
pub use time::Zone;

#[doc(hidden)]
pub mod errors;
#[doc(hidden)]
pub mod fields;
#[doc(hidden)]
pub mod language;
#[doc(hidden)]
pub mod numbers;
#[doc(hidden)]
pub mod plain;
#[doc(hidden)]
pub mod private_files;
#[doc(hidden)]
pub mod retry;
#[doc(hidden)]
pub mod spelling;
#[doc(hidden)]
pub mod time;
#[doc(hidden)]
pub mod yaml;

#[cfg(feature = "service")]
#[doc(hidden)]
pub mod access;
#[cfg(feature = "service")]
#[doc(hidden)]
pub mod adopt;
#[cfg(feature = "service")]
#[doc(hidden)]
pub mod books;
#[cfg(feature = "service")]
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "service")]
#[doc(hidden)]
pub mod config;
#[cfg(feature = "service")]
#[doc(hidden)]
pub mod daemon;
#[cfg(feature = "service")]
#[doc(hidden)]
pub mod distribute;
#[cfg(feature = "service")]
#[doc(hidden)]
pub mod document;
#[cfg(feature = "service")]
#[doc(hidden)]
pub mod http;
#[cfg(feature = "service")]
#[doc(hidden)]
pub mod jobs;
#[cfg(feature = "service")]
#[doc(hidden)]
pub mod mail;
#[cfg(feature = "service")]
#[doc(hidden)]
pub mod messages;
#[cfg(feature = "service")]
#[doc(hidden)]
pub mod metrics;
#[cfg(feature = "service")]
#[doc(hidden)]
pub mod pings;
#[cfg(feature = "service")]
#[doc(hidden)]
pub mod proof;
#[cfg(feature = "service")]
#[doc(hidden)]
pub mod render;
#[cfg(feature = "service")]
#[doc(hidden)]
pub mod reports;
#[cfg(feature = "service")]
#[doc(hidden)]
pub mod schedule;
#[cfg(feature = "service")]
#[doc(hidden)]
pub mod scheduler;
#[cfg(feature = "service")]
#[doc(hidden)]
pub mod status;
#[cfg(feature = "service")]
#[doc(hidden)]
pub mod systemd;
#[cfg(feature = "service")]
#[doc(hidden)]
pub mod telemetry;
