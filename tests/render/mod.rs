//! Documents as people and programs see them.

mod page;
mod pictures;
mod samples;
mod sheets;
