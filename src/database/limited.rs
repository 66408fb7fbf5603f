//! Connections whose statements may take only so long.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::Object;
use tokio_util::task::AbortOnDropHandle;

use super::{Database, Error};

/// A pooled connection whose statement under way is cancelled after a time. Dropped earlier, it goes back into the pool; later it is
/// closed, because the request to cancel may arrive late and would end a statement of the next user.
pub struct Limited {
    /// None only while it is dropped.
    client: Option<Object>,
    /// Set by whichever comes first: the limit or the drop.
    settled: Arc<AtomicBool>,
    _limit: AbortOnDropHandle<()>,
}

impl Database {
    /// A pooled connection. What is under way on it after `limit` fails with
    /// [`SqlState::QUERY_CANCELED`](tokio_postgres::error::SqlState::QUERY_CANCELED).
    ///
    /// # Errors
    /// As [`Database::connection`].
    pub async fn limited(&self, limit: Duration) -> Result<Limited, Error> {
        let client = self.connection().await?;
        let settled = Arc::new(AtomicBool::default());
        let (database, token, first) = (self.clone(), client.cancel_token(), Arc::clone(&settled));
        let limit = async move {
            tokio::time::sleep(limit).await;
            if !first.swap(true, Ordering::SeqCst) {
                database.cancel(&token).await;
            }
        };
        Ok(Limited { client: Some(client), settled, _limit: AbortOnDropHandle::new(tokio::spawn(limit)) })
    }
}

impl Deref for Limited {
    type Target = Object;

    #[expect(clippy::expect_used, reason = "only the drop takes it")]
    fn deref(&self) -> &Object {
        self.client.as_ref().expect("a connection until the drop")
    }
}

impl DerefMut for Limited {
    #[expect(clippy::expect_used, reason = "only the drop takes it")]
    fn deref_mut(&mut self) -> &mut Object {
        self.client.as_mut().expect("a connection until the drop")
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        if self.settled.swap(true, Ordering::SeqCst)
            && let Some(client) = self.client.take()
        {
            drop(Object::take(client));
        }
    }
}
