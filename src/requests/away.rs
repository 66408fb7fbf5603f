//! The nodes of a cluster that are away. The requests of their accounts stay in the queue and hold up no others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};

use super::Stats;
use crate::database::{self, Database};
use crate::errors;

/// How often a node that is away is asked again.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// How long the answer may take. To connect to up to ten frozen nodes takes ten seconds of it.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// The buckets that cannot be reached, each with its node.
pub type AwayBuckets = Arc<BTreeMap<i16, String>>;

/// What is known of the nodes that are away. All lanes share it.
pub struct Away {
    database: Database,
    stats: Arc<Stats>,
    buckets: watch::Sender<AwayBuckets>,
    /// One asks at a time. So a later answer never comes before an earlier one.
    asking: Mutex<()>,
}

impl Away {
    /// Takes it that no node is away until one is asked for.
    pub fn new(database: Database, stats: Arc<Stats>) -> Away {
        Away { database, stats, buckets: watch::Sender::default(), asking: Mutex::default() }
    }

    /// What is known, and hears of each change.
    pub fn subscribe(&self) -> watch::Receiver<AwayBuckets> {
        self.buckets.subscribe()
    }

    /// Asks whether more buckets than `known` are away, unless another lane has found some meanwhile. None where the coordinator does
    /// not answer.
    pub async fn are_more_away(&self, known: &AwayBuckets) -> Option<bool> {
        let are_more = |away: &AwayBuckets| away.keys().any(|bucket| !known.contains_key(bucket));
        let _turn = self.asking.lock().await;
        if are_more(&self.buckets.borrow()) {
            return Some(true);
        }
        match tokio::time::timeout(ANSWER_WITHIN, self.read()).await {
            Ok(Ok(away)) => {
                let away = Arc::new(away);
                let answer = are_more(&away);
                self.learn(away);
                return Some(answer);
            }
            Ok(Err(error)) => tracing::debug!("which nodes are away is not known: {}", errors::chain(&error)),
            Err(_) => tracing::warn!("which nodes are away is not known: the coordinator does not answer"),
        }
        None
    }

    /// Asks while a node is away whether it is back.
    pub async fn watch(&self) {
        let mut buckets = self.subscribe();
        // An error is impossible: the sender is here.
        while let Ok(known) = buckets.wait_for(|away| !away.is_empty()).await.map(|away| Arc::clone(&away)) {
            tokio::time::sleep(ASK_EVERY).await;
            self.are_more_away(&known).await;
        }
    }

    async fn read(&self) -> Result<BTreeMap<i16, String>, database::Error> {
        // A session that knew the node would wait for an answer of its connection to a frozen one; a new session connects, for which it has
        // a limit of time.
        let client = self.database.dedicated().await?.client;
        let rows = client.query(include_str!("../../sql/requests/bucket_away.sql"), &[]).await;
        let away = rows.and_then(|rows| rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect());
        away.map_err(database::Error::statement("asking which nodes are away"))
    }

    fn learn(&self, away: AwayBuckets) {
        self.buckets.send_if_modified(|known| {
            let names = |buckets: &AwayBuckets| buckets.values().cloned().collect::<BTreeSet<String>>();
            let (before, now) = (names(known), names(&away));
            for node in now.difference(&before) {
                tracing::warn!(node, "node {node} is away: the requests of its accounts wait, the others are posted");
            }
            for node in before.difference(&now) {
                // It is back, or another server has taken its place.
                tracing::info!(node, "requests wait for node {node} no longer");
            }
            self.stats.set_nodes_away(now.len());
            let changed = *known != away;
            *known = away;
            changed
        });
    }
}
