//! The cluster of POINTSD_TEST_CLUSTER, which the tests use in place of their own server: each test database is a copy of a spread ledger,
//! on the coordinator and on each worker.

use tokio_postgres::Config;
use tokio_postgres::error::SqlState;

use super::{connect, until_alone};

/// The buckets of a spread ledger.
pub const BUCKETS: i16 = 64;

/// The nodes of the given cluster.
pub struct Cluster {
    /// The coordinator and its workers.
    nodes: Vec<Config>,
}

impl Cluster {
    /// The cluster that POINTSD_TEST_CLUSTER names by the URL of a database on its coordinator, in which it knows its workers.
    pub async fn given() -> Option<Cluster> {
        let coordinator: Config =
            std::env::var("POINTSD_TEST_CLUSTER").ok()?.parse().expect("the URL of the coordinator");
        let sql =
            "SELECT nodename, nodeport FROM pg_dist_node WHERE groupid <> 0 AND noderole = 'primary' ORDER BY 1, 2";
        let workers = connect(&coordinator).await.query(sql, &[]).await.expect("a cluster").into_iter().map(|row| {
            let mut worker = Config::new();
            worker.host(row.get::<_, &str>(0)).port(row.get::<_, i32>(1) as u16);
            worker.user(coordinator.get_user().unwrap()).dbname(coordinator.get_dbname().unwrap());
            if let Some(password) = coordinator.get_password() {
                worker.password(password);
            }
            worker
        });
        let workers: Vec<Config> = workers.collect();
        Some(Cluster { nodes: [coordinator].into_iter().chain(workers).collect() })
    }

    pub fn coordinator(&self) -> Config {
        self.nodes[0].clone()
    }

    pub fn first_worker(&self) -> Config {
        self.nodes[1].clone()
    }

    /// Runs statements on each node, in the database that the cluster was given with.
    pub async fn on_each(&self, statements: &[String]) {
        for node in &self.nodes {
            let client = connect(node).await;
            for sql in statements {
                // The extension's own sessions begin anew, and come in between.
                while let Err(error) = client.batch_execute(sql).await {
                    assert_eq!(error.code(), Some(&SqlState::OBJECT_IN_USE), "{sql}: {error:?}");
                }
            }
        }
    }

    /// Joins the nodes' databases of this name to a cluster of its own.
    pub async fn join(&self, database: &str) {
        for node in &self.nodes {
            connect(node.clone().dbname(database)).await.batch_execute("CREATE EXTENSION citus").await.unwrap();
        }
        let coordinator = connect(self.coordinator().dbname(database)).await;
        for (nth, node) in self.nodes.iter().enumerate() {
            let (host, port) = (host(node), i32::from(*node.get_ports().first().unwrap_or(&5432)));
            let sql =
                if nth == 0 { "SELECT citus_set_coordinator_host($1, $2)" } else { "SELECT citus_add_node($1, $2)" };
            coordinator.execute(sql, &[&host, &port]).await.unwrap();
        }
    }

    /// Spreads the empty ledger of a database over the nodes.
    pub async fn spread(&self, database: &str) {
        let client = connect(self.coordinator().dbname(database)).await;
        until_alone(&client).await;
        client.execute("SELECT pointsd.begin_distribution($1)", &[&BUCKETS]).await.unwrap();
        client.execute("SELECT pointsd.move_rest()", &[]).await.unwrap();
        let next = "SELECT pointsd.spread_next()";
        while client.query_one(next, &[]).await.unwrap().get::<_, Option<&str>>(0).is_some() {}
        client.execute("SELECT pointsd.end_distribution()", &[]).await.unwrap();
    }

    /// Ends all sessions with a database, the extension's own among them, and lets none begin.
    pub async fn close(&self, database: &str) {
        let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'");
        self.on_each(&[format!("ALTER DATABASE {database} ALLOW_CONNECTIONS false"), end]).await;
    }
}

fn host(node: &Config) -> &str {
    let [tokio_postgres::config::Host::Tcp(host)] = node.get_hosts() else { panic!("one host: {node:?}") };
    host
}
