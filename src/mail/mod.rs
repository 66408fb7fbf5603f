//! The outbox: mails are written down in the transaction that makes their report, and leave afterwards.
