//! What a caller adds to a transaction of the ledger.

use tokio_postgres::Client;

/// Writes along in a transaction that something else has begun: both are committed, or neither.
///
/// The scheduler's guards write what a run has done and check its fence this way. A lane of the queue writes the outcome of
/// its requests. `()` writes nothing.
pub trait AlsoWrite<T: ?Sized>: Sync {
    /// Called last in the transaction that is open on `client`, with what the transaction has done. An error ends it.
    ///
    /// The COMMIT is sent right behind the first poll. So all statements must be sent at once, without waiting for an
    /// answer between them.
    fn write(&self, client: &Client, done: &T) -> impl Future<Output = Result<(), tokio_postgres::Error>> + Send;
}

impl<T: ?Sized + Sync> AlsoWrite<T> for () {
    async fn write(&self, _: &Client, _: &T) -> Result<(), tokio_postgres::Error> {
        Ok(())
    }
}

/// Prepares what is written along, on each connection on which that is done.
pub trait PrepareWrite<T: ?Sized>: Sync {
    /// What is prepared.
    type Prepared: AlsoWrite<T> + Send;

    /// Prepares it on a connection, which is the caller's own to its end.
    fn prepare(&self, client: &Client) -> impl Future<Output = Result<Self::Prepared, tokio_postgres::Error>> + Send;
}

impl<T: ?Sized + Sync> PrepareWrite<T> for () {
    type Prepared = ();

    async fn prepare(&self, _: &Client) -> Result<(), tokio_postgres::Error> {
        Ok(())
    }
}

/// How far a sweep or a proof has come, in accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Accounts done.
    pub done: u64,
    /// Accounts in all.
    pub total: u64,
}

impl Progress {
    /// The share that is done, in whole percent; none where there is nothing to do.
    pub fn percent(self) -> Option<u64> {
        let percent = (u128::from(self.done) * 100).checked_div(self.total.into())?;
        u64::try_from(percent.min(100)).ok()
    }
}

/// What work has done so far in one bucket, the open transaction included.
#[derive(Clone, Debug)]
pub struct Part<C> {
    /// The bucket.
    pub bucket: i16,
    /// How far the work has come in all buckets.
    pub progress: Progress,
    /// What it counted in this one.
    pub counters: C,
}

/// What work in several transactions has done so far, the open one included.
#[derive(Clone, Debug)]
pub struct SoFar<C> {
    /// How far it has come.
    pub progress: Progress,
    /// What it counted.
    pub counters: C,
}
