//! Hears of the groups that a [`Poster`](super::Poster) and the queue post, for figures.

use std::fmt::Debug;
use std::time::Duration;

use super::posting::Posting;
use super::reply::Reply;
use super::session::Error;

/// Hears of each group. It is called between two groups of a lane, so it must not wait for anything.
pub trait GroupObserver: Debug + Send + Sync {
    /// A group was posted, or failed, after this time. The replies are in the order of the postings.
    fn group_ended(&self, postings: &[Posting], replies: Result<&[Reply], &Error>, took: Duration);
}

/// Hears and forgets.
impl GroupObserver for () {
    fn group_ended(&self, _: &[Posting], _: Result<&[Reply], &Error>, _: Duration) {}
}
