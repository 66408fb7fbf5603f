//! The nodes of a cluster, for sessions that need the rows of one bucket only: they connect to the node that holds it.
//!
//! A node refuses a group of postings whose bucket it does not hold (`bucket_keep.sql`). So what is known here may be old: the database
//! itself, the coordinator, takes the place of that node, and of one that cannot be reached from here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Database, Error};
use crate::errors;

/// For how long it is taken for known where the buckets lie. Shards move seldom, and a session that fails makes it unknown.
const KNOWN_FOR: Duration = Duration::from_secs(30);

/// How long the coordinator may take to tell where the buckets lie. Postings wait for it.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Where a node listens, as the cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    host: String,
    port: u16,
}

/// The servers that hold the buckets of a ledger. A clone shares what is known of them.
#[derive(Clone)]
pub struct Nodes {
    coordinator: Database,
    known: Arc<Mutex<Known>>,
}

/// The node that holds each bucket, without the buckets of the coordinator.
pub type Places = BTreeMap<i16, Node>;

#[derive(Default)]
struct Known {
    /// When the places were last asked for.
    at: Option<Instant>,
    /// None until they were read.
    places: Option<Arc<Places>>,
    /// The databases on nodes that were asked for; none where the node could not be reached from here.
    databases: BTreeMap<Node, Option<Database>>,
}

impl Nodes {
    /// The nodes behind a database, which is the coordinator if there are several.
    pub fn behind(database: &Database) -> Nodes {
        Nodes { coordinator: database.clone(), known: Arc::default() }
    }

    /// Where the buckets lie, as it was read lately. Where the coordinator does not answer, as it was read before.
    pub async fn places(&self) -> Arc<Places> {
        {
            let mut known = self.known();
            let is_new = known.at.is_some_and(|at| at.elapsed() < KNOWN_FOR);
            if let (true, Some(places)) = (is_new, &known.places) {
                return Arc::clone(places);
            }
            // The other lanes do not ask as well, unless nothing was read yet.
            known.at = Some(Instant::now());
        }
        let read = tokio::time::timeout(ANSWER_WITHIN, self.read_places()).await;
        let mut known = self.known();
        match read {
            Ok(Ok(places)) => known.places = Some(Arc::new(places)),
            Ok(Err(error)) => tracing::warn!("where the buckets lie is not known: {}", errors::chain(&error)),
            Err(_) => tracing::warn!("where the buckets lie is not known: the coordinator does not answer"),
        }
        // A node that could not be reached is tried again.
        known.databases.retain(|_, database| database.is_some());
        known.places.clone().unwrap_or_default()
    }

    async fn read_places(&self) -> Result<Places, Error> {
        let client = self.coordinator.connection().await?;
        let rows = client.query(include_str!("../../sql/server/bucket_nodes.sql"), &[]).await;
        let places = rows.and_then(|rows| {
            let place = |row: tokio_postgres::Row| {
                let port: i32 = row.try_get(2)?;
                Ok((row.try_get(0)?, Node { host: row.try_get(1)?, port: u16::try_from(port).unwrap_or_default() }))
            };
            rows.into_iter().map(place).collect()
        });
        places.map_err(Error::statement("reading where the buckets lie"))
    }

    /// The database on a node; none if it cannot be reached from here. To try that takes long, so the answer counts until the places are
    /// read again.
    pub async fn database(&self, node: &Node) -> Option<Database> {
        let known = self.known().databases.get(node).cloned();
        if let Some(database) = known {
            return database;
        }
        let database = match self.coordinator.elsewhere(&node.host, node.port).await {
            Ok(database) => Some(database),
            Err(error) => {
                let Node { host, port } = node;
                let why = errors::chain(&error);
                tracing::warn!("node {host}:{port} cannot be reached, so the coordinator is asked: {why}");
                None
            }
        };
        self.known().databases.insert(node.clone(), database.clone());
        database
    }

    /// A session on this node failed. The next one takes the login of then, and where the buckets lie is read again.
    pub fn lost(&self, node: &Node) {
        let mut known = self.known();
        known.at = None;
        known.databases.remove(node);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // No code under this lock panics.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
