//! Documents as HTML, text, workbooks, CSV and PNG.

mod page;
mod pictures;
mod samples;
mod screens;
mod sheets;
