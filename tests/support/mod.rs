//! A database for each test: one PostgreSQL server for the whole run, one migrated template, a copy of it per test.
//!
//! The server is pointsd's own private one, without its care for power cuts. It belongs to the tests in flight: the
//! first one starts it, the last one to end stops it, also across processes (its lock files count them). Where none is
//! installed the tests fail; none is skipped.
//!
//! With POINTSD_TEST_CLUSTER, the server is a given cluster: see [`cluster`].
//!
//! Every [`TestDatabase`] proves the ledger's invariants when its test ends well.

#![allow(
    dead_code,
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used
)]

pub mod cluster;
pub mod door;
pub mod invariants;
pub mod rows;
pub mod scratch;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use chrono::{DateTime, Utc};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::{Pid, geteuid};
use pointsd::database::migrate::MIGRATIONS;
use pointsd::database::private_server::{Options, PrivateServer};
use pointsd::database::{Database, Settings};
use pointsd::ledger::{AlsoWrite, Poster, Posting, Reply, Session};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};
use uuid::Uuid;

use self::cluster::Cluster;
pub use self::scratch::scratch;

/// Settings that trade safety in a power cut for speed. Without replication the server logs less.
/// Its files may be in memory, so it keeps little of the log.
const SETTINGS: [(&str, &str); 10] = [
    ("fsync", "off"),
    ("synchronous_commit", "off"),
    ("full_page_writes", "off"),
    ("wal_level", "minimal"),
    ("max_wal_senders", "0"),
    ("shared_buffers", "64MB"),
    ("min_wal_size", "32MB"),
    ("max_wal_size", "256MB"),
    ("max_connections", "200"),
    ("max_prepared_transactions", "4"),
];

/// Held while the template is made: "template" in ASCII.
const TEMPLATE_LOCK: i64 = 0x7465_6d70_6c61_7465;

/// The server, as long as a test of this process holds it.
static SERVER: Mutex<Weak<Server>> = Mutex::const_new(Weak::new());

struct Server {
    private_server: Option<PrivateServer>,
    cluster: Option<Cluster>,
    template: String,
    strategy: &'static str,
}

impl Server {
    /// The server of the tests that are in flight, else a new claim on it.
    async fn claim() -> Arc<Server> {
        let mut shared = SERVER.lock().await;
        if let Some(server) = shared.upgrade() {
            return server;
        }
        if let Some(cluster) = Cluster::given().await {
            let admin = connect(&cluster.coordinator()).await;
            drop_leftovers(&admin, Some(&cluster)).await;
            let template = make_template(&admin, &cluster.coordinator(), Some(&cluster)).await;
            let strategy = strategy(&admin).await;
            let server = Arc::new(Server { private_server: None, cluster: Some(cluster), template, strategy });
            *shared = Arc::downgrade(&server);
            return server;
        }
        let extra = SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let private_server = PrivateServer::start(Options { state_dir: state_dir(), bin: None, extra })
            .await
            .unwrap_or_else(|error| panic!("the tests need a PostgreSQL server: {}", pointsd::errors::chain(&error)));
        let admin = connect(&private_server.config()).await;
        drop_leftovers(&admin, None).await;
        let template = make_template(&admin, &private_server.config(), None).await;
        let strategy = strategy(&admin).await;
        let server = Arc::new(Server { private_server: Some(private_server), cluster: None, template, strategy });
        *shared = Arc::downgrade(&server);
        server
    }

    fn config(&self) -> Config {
        match (&self.private_server, &self.cluster) {
            (Some(private_server), _) => private_server.config(),
            (None, Some(cluster)) => cluster.coordinator(),
            (None, None) => unreachable!("a server is one of the two"),
        }
    }

    /// Runs a statement on the server, or on each node of the cluster.
    async fn everywhere(&self, sql: String) {
        match &self.cluster {
            Some(cluster) => cluster.on_each(&[sql]).await,
            None => connect(&self.config()).await.batch_execute(&sql).await.unwrap(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(private_server) = self.private_server.take() else { return };
        let stopped = on_a_thread(private_server.stop());
        if !matches!(stopped, Ok(Ok(()))) {
            eprintln!("the tests' server was not stopped: {stopped:?}");
        }
    }
}

/// Short, because a socket's path is; one for each checkout.
fn state_dir() -> PathBuf {
    let checkout = format!("{:x}", Sha256::digest(env!("CARGO_MANIFEST_DIR")));
    scratch().join(format!("pointsd-tests-{}-{}", geteuid(), &checkout[..8]))
}

/// How a template is copied: by files. The other way, through the shared buffers, takes half as much again of the processor.
/// PostgreSQL 14 knows no other and no name for it.
async fn strategy(admin: &Client) -> &'static str {
    let version = "SELECT current_setting('server_version_num')::int4";
    match admin.query_one(version, &[]).await.unwrap().get::<_, i32>(0) {
        ..150_000 => "",
        _ => "STRATEGY = FILE_COPY",
    }
}

/// Databases of processes that were killed.
async fn drop_leftovers(admin: &Client, cluster: Option<&Cluster>) {
    for row in admin.query("SELECT datname FROM pg_database WHERE datname LIKE 'test\\_%'", &[]).await.unwrap() {
        let name: String = row.get(0);
        let pid: i32 = name.split('_').nth(1).and_then(|pid| pid.parse().ok()).unwrap();
        if kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH) {
            // Several processes may find the same one.
            let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
            match cluster {
                Some(cluster) => cluster.on_each(&[sql]).await,
                None => drop(admin.batch_execute(&sql).await),
            }
        }
    }
}

/// The number of buckets of the tests' ledgers: POINTSD_TEST_BUCKETS, or 1.
pub fn buckets() -> i16 {
    if std::env::var_os("POINTSD_TEST_CLUSTER").is_some() {
        return cluster::BUCKETS;
    }
    std::env::var("POINTSD_TEST_BUCKETS").map_or(1, |count| count.parse().expect("POINTSD_TEST_BUCKETS is a number"))
}

/// Makes the migrated database that all tests copy, where it is missing. Its name tells its migrations and the number of buckets.
async fn make_template(admin: &Client, config: &Config, cluster: Option<&Cluster>) -> String {
    let mut digest = Sha256::new();
    for migration in MIGRATIONS {
        digest.update(format!("{} {} {}\0", migration.version, migration.name, migration.sql));
    }
    let buckets = buckets();
    let name = format!("template_{}_{buckets}", &format!("{:x}", digest.finalize())[..16]);
    admin.execute("SELECT pg_advisory_lock($1)", &[&TEMPLATE_LOCK]).await.unwrap();
    let found = admin.query_opt("SELECT FROM pg_database WHERE datname = $1", &[&name]).await.unwrap();
    if found.is_none() {
        // It gets its name at the end, so that no half-made one is ever copied.
        let unfinished = format!("unfinished_{name}");
        let fresh = [
            format!("DROP DATABASE IF EXISTS {unfinished} WITH (FORCE)"),
            format!("DROP DATABASE IF EXISTS {name}"),
            format!("CREATE DATABASE {unfinished}"),
        ];
        match cluster {
            Some(cluster) => cluster.on_each(&fresh).await,
            None => {
                for sql in fresh {
                    admin.batch_execute(&sql).await.unwrap();
                }
            }
        }
        let mut config = config.clone();
        config.dbname(&unfinished);
        let database = Database::open(&settings(&config, 1)).await.unwrap();
        database.migrate().await.unwrap();
        if cluster.is_none() {
            let set = "SELECT pointsd.set_buckets($1)";
            database.connection().await.unwrap().execute(set, &[&buckets]).await.unwrap();
        }
        database.close().await.unwrap();
        // Waits some seconds for sessions that are about to end, as CREATE DATABASE does.
        let rename = format!("ALTER DATABASE {unfinished} RENAME TO {name}");
        match cluster {
            Some(cluster) => {
                cluster.join(&unfinished).await;
                cluster.spread(&unfinished).await;
                cluster.close(&unfinished).await;
                cluster.on_each(&[rename]).await;
            }
            None => admin.batch_execute(&rename).await.unwrap(),
        }
    }
    admin.execute("SELECT pg_advisory_unlock($1)", &[&TEMPLATE_LOCK]).await.unwrap();
    name
}

/// A migrated database of one test's own. When it is dropped and the test has not failed, the invariants must hold;
/// then it is gone.
pub struct TestDatabase {
    server: Arc<Server>,
    name: String,
    sound: bool,
}

fn next_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

impl TestDatabase {
    pub async fn new() -> TestDatabase {
        let server = Server::claim().await;
        let name = next_name();
        server.everywhere(format!("CREATE DATABASE {name} TEMPLATE {} {}", server.template, server.strategy)).await;
        TestDatabase { server, name, sound: true }
    }

    /// On a cluster, a ledger that is not spread yet: all of it lies on the coordinator.
    pub async fn on_one_node() -> TestDatabase {
        let server = Server::claim().await;
        let name = next_name();
        let cluster = server.cluster.as_ref().expect("POINTSD_TEST_CLUSTER names a cluster");
        cluster.on_each(&[format!("CREATE DATABASE {name}")]).await;
        let database = TestDatabase { server: Arc::clone(&server), name, sound: true };
        // The schema is there before the extension is, as in a ledger that outgrows its server.
        let handle = database.database().await;
        handle.migrate().await.unwrap();
        handle.close().await.unwrap();
        // Roles are common to all databases of a server, and joining it writes them.
        let admin = connect(&server.config()).await;
        admin.execute("SELECT pg_advisory_lock($1)", &[&TEMPLATE_LOCK]).await.unwrap();
        cluster.join(&database.name).await;
        database
    }

    /// Keeps everybody out of this database on the first worker of the cluster, or lets them in again.
    pub async fn set_first_worker_away(&self, away: bool) {
        let (cluster, name) = (self.server.cluster.as_ref().expect("a cluster"), &self.name);
        let client = connect(&cluster.first_worker()).await;
        for sql in [
            format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {}", !away),
            format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"),
        ] {
            client.batch_execute(&sql).await.unwrap();
        }
    }

    /// For a test that damages the ledger by hand: the invariants are not asked for at its end.
    pub fn expect_damage(&mut self) {
        self.sound = false;
    }

    /// How to connect with the driver alone.
    pub fn config(&self) -> Config {
        let mut config = self.server.config();
        config.dbname(&self.name).application_name("test");
        config
    }

    /// How to connect, as a configuration or a command line would say it.
    pub fn url(&self) -> String {
        url(&self.config())
    }

    /// A plain connection.
    pub async fn client(&self) -> Client {
        connect(&self.config()).await
    }

    /// A ledger session on a plain connection.
    pub async fn session(&self) -> Session<Box<Client>> {
        Session::open(Box::new(self.client().await)).await.unwrap()
    }

    /// pointsd's own handle.
    pub async fn database(&self) -> Database {
        Database::open(&settings(&self.config(), 8)).await.unwrap()
    }

    /// Makes functions that look like the server's, and has every session find them first.
    pub async fn set_lookalikes(&self) {
        let client = self.client().await;
        client.batch_execute(include_str!("lookalikes.sql")).await.unwrap();
        client
            .batch_execute(&format!("ALTER DATABASE {} SET search_path = public, pg_catalog", self.name))
            .await
            .unwrap();
        let hostile = self.client().await.query("SELECT cardinality(ARRAY[1])", &[]).await;
        assert!(format!("{hostile:?}").contains("a lookalike ran"), "{hostile:?}");
    }

    /// Undoes the last step, for the invariants.
    pub async fn forget_lookalikes(&self) {
        let set = format!("ALTER DATABASE {} SET search_path = pg_catalog", self.name);
        self.client().await.batch_execute(&set).await.unwrap();
    }

    /// Empties the ledger, which takes the rights of the tables' owner and a deliberate step around the history's
    /// guard.
    pub async fn clear(&self, client: &Client) {
        let (off, on) = ("DISABLE TRIGGER entries_never_change", "ENABLE ALWAYS TRIGGER entries_never_change");
        let truncate = "TRUNCATE pointsd.accounts, pointsd.batches, pointsd.entries, pointsd.holds";
        let table = |what: &str| format!("ALTER TABLE pointsd.entries {what}");
        let steps = match self.server.cluster {
            None => vec![format!("BEGIN; {}; {truncate}; {}; COMMIT", table(off), table(on))],
            Some(_) => {
                // The trigger stands on each shard.
                let shards = |what: &str| {
                    format!("SELECT run_command_on_shards('pointsd.entries', 'ALTER TABLE %s {what} TRIGGER USER')")
                };
                let unsafe_triggers = "SET citus.enable_unsafe_triggers = on".to_owned();
                vec![unsafe_triggers, shards("DISABLE"), table(off), truncate.to_owned(), shards("ENABLE"), table(on)]
            }
        };
        let mut done = 0;
        while let Some(sql) = steps.get(done) {
            done += 1;
            // A daemon that reads the tables in another order may be in the way.
            if let Err(error) = client.batch_execute(sql).await {
                assert_eq!(error.code(), Some(&SqlState::T_R_DEADLOCK_DETECTED), "{error:?}");
                client.batch_execute("ROLLBACK").await.unwrap();
                done = 0;
            }
        }
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (ours, server, name) = (self.config(), Arc::clone(&self.server), self.name.clone());
        let prove = self.sound && !std::thread::panicking();
        let broken = on_a_thread(async move {
            let broken = match prove {
                true => invariants::broken(&connect(&ours).await).await,
                false => Vec::new(),
            };
            server.everywhere(format!("DROP DATABASE {name} WITH (FORCE)")).await;
            broken
        });
        // A panic within a panic would end the process and take the other tests along.
        match broken {
            _ if std::thread::panicking() => {}
            Ok(broken) => assert!(broken.is_empty(), "invariants do not hold at the end of the test: {broken:#?}"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// For `drop`, which cannot wait for a future by itself.
fn on_a_thread<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> std::thread::Result<T> {
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
    std::thread::spawn(run).join()
}

/// For `drop`: does what may fail on a thread of its own. While the test is failing already, a failure is left out: a panic within
/// a panic would end the process and take the other tests along.
pub fn clean_up(work: impl FnOnce() + Send + 'static) {
    if let Err(panic) = std::thread::spawn(work).join()
        && !std::thread::panicking()
    {
        std::panic::resume_unwind(panic);
    }
}

/// Waits until no other client is connected. A cluster's own sessions do not count.
pub async fn until_alone(client: &Client) {
    let others = "SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
                        AND application_name NOT LIKE 'citus_internal%'";
    while client.query_one(others, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        tokio::task::yield_now().await;
    }
}

pub async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// pointsd's settings for a database of the tests' server.
pub fn settings(config: &Config, pool_size: usize) -> Settings {
    Settings {
        url: Some(url(config)),
        ca_file: None,
        pool_size,
        connect_timeout: Duration::from_secs(30),
        statement_timeout: Duration::from_secs(60),
        keep_trying: Duration::from_secs(30),
        state_dir: PathBuf::new(),
        postgres_bin: None,
    }
}

fn url(config: &Config) -> String {
    use tokio_postgres::config::Host;
    let host = match config.get_hosts() {
        [Host::Unix(folder)] => folder.to_str().unwrap().replace('%', "%25").replace('/', "%2F").replace(' ', "%20"),
        [Host::Tcp(name)] => name.clone(),
        hosts => panic!("one host: {hosts:?}"),
    };
    let port = config.get_ports().first().unwrap_or(&5432);
    format!("postgres://{}@{host}:{port}/{}", config.get_user().unwrap(), config.get_dbname().unwrap())
}

/// Drops the constraints and the trigger that forbid manual changes.
pub async fn unguard(client: &Client) {
    let constraints = client
        .query(
            "SELECT conrelid::regclass::text, conname::text FROM pg_constraint
             WHERE conrelid IN ('pointsd.accounts'::regclass, 'pointsd.batches'::regclass, 'pointsd.entries'::regclass,
                                'pointsd.holds'::regclass) AND contype = 'c'",
            &[],
        )
        .await
        .unwrap();
    for row in constraints {
        let (table, name): (String, String) = (row.get(0), row.get(1));
        client.batch_execute(&format!("ALTER TABLE {table} DROP CONSTRAINT {name}")).await.unwrap();
    }
    client.batch_execute("SET citus.enable_unsafe_triggers = on").await.unwrap();
    client.batch_execute("ALTER TABLE pointsd.entries DISABLE TRIGGER entries_never_change").await.unwrap();
}

/// An instant as RFC 3339 writes it.
pub fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap_or_else(|error| panic!("{text}: {error}")).to_utc()
}

/// The nth user of a test.
pub fn user(nth: u32) -> Uuid {
    Uuid::from_u128(0x0000_1111_0000_4000_8000_0000_0000_0000 | u128::from(nth))
}

/// Users of one bucket, in their order: so many batches or lines of theirs are a group.
pub fn users_of_a_bucket() -> impl Iterator<Item = Uuid> {
    let bucket = |user: &Uuid| i16::from(Sha256::digest(user)[0]) % buckets();
    (0..).map(user).filter(move |one| bucket(one) == bucket(&user(0)))
}

/// The one at this place among them.
pub fn user_of_a_bucket(nth: usize) -> Uuid {
    users_of_a_bucket().nth(nth).unwrap()
}

/// Reproducible random numbers: the seed is printed, shown where the test fails, and taken from POINTSD_TEST_SEED if
/// that is set.
pub fn rng() -> fastrand::Rng {
    let seed = match std::env::var("POINTSD_TEST_SEED") {
        Ok(seed) => seed.parse().expect("POINTSD_TEST_SEED is a number"),
        Err(_) => fastrand::u64(..),
    };
    eprintln!("POINTSD_TEST_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// Keeps the transaction of a group open for as long as another session holds the lock.
pub struct Waits;

impl AlsoWrite<[Reply]> for Waits {
    async fn write(&self, client: &Client, _: &[Reply]) -> Result<(), tokio_postgres::Error> {
        client.batch_execute("SELECT pg_advisory_xact_lock(1)").await
    }
}

/// Hands postings over and waits for their replies.
pub async fn post_all(poster: &Poster, postings: Vec<Posting>) -> Result<Vec<Reply>, Arc<pointsd::ledger::Error>> {
    poster.feed().hand_over(postings).await?.replies().await
}
