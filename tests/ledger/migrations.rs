//! What a migration checks before it changes anything.

use std::sync::atomic::{AtomicU32, Ordering};

use pointsd::database::Database;
use tokio_postgres::Config;

use crate::TestDatabase;
use crate::support::{connect, settings};

/// A database without the schema.
async fn bare() -> TestDatabase {
    let mut database = TestDatabase::new().await;
    database.expect_damage();
    database.client().await.batch_execute("DROP SCHEMA pointsd CASCADE").await.unwrap();
    database
}

/// What a migration refuses with.
async fn refusal(config: &Config) -> String {
    let database = Database::open(&settings(config, 1)).await.unwrap();
    database.migrate().await.expect_err("refused").to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_of_another_program_is_left_alone() {
    let database = bare().await;
    let client = database.client().await;
    client.batch_execute("CREATE SCHEMA pointsd; CREATE TABLE pointsd.prizes (x integer)").await.unwrap();
    let said = refusal(&database.config()).await;
    assert!(said.contains("belongs to another program: it holds prizes, but no table migrations; rename"), "{said}");
    // An empty one is taken.
    client.batch_execute("DROP TABLE pointsd.prizes").await.unwrap();
    database.database().await.migrate().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_right_is_named() {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let database = bare().await;
    let client = database.client().await;
    let role = format!("plain_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    client.batch_execute(&format!("CREATE ROLE {role} LOGIN")).await.unwrap();
    let mut config = database.config();
    config.user(&role);

    let said = refusal(&config).await;
    let name = config.get_dbname().unwrap().to_owned();
    assert!(said.contains(&format!("run GRANT CREATE ON DATABASE {name} TO {role}")), "{said}");
    client.batch_execute("CREATE SCHEMA pointsd").await.unwrap();
    let said = refusal(&config).await;
    assert!(said.contains(&format!("run GRANT CREATE, USAGE ON SCHEMA pointsd TO {role}")), "{said}");
    // What is said helps.
    client.batch_execute(&format!("GRANT CREATE, USAGE ON SCHEMA pointsd TO {role}")).await.unwrap();
    Database::open(&settings(&config, 1)).await.unwrap().migrate().await.unwrap();
    client.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_encoding_is_refused() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    let name = format!("{}_ascii", database.config().get_dbname().unwrap());
    let create = format!("CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0");
    client.batch_execute(&create).await.unwrap();
    let mut config = database.config();
    config.dbname(&name);
    let said = refusal(&config).await;
    assert!(said.contains("has the encoding SQL_ASCII, and pointsd needs UTF8: create another one"), "{said}");
    let left = connect(&config).await.query_one("SELECT to_regnamespace('pointsd') IS NULL", &[]).await.unwrap();
    assert!(left.get::<_, bool>(0), "nothing was begun");
    // What is said helps.
    let command = said.split("create another one with ").nth(1).unwrap().split(", and name it").next().unwrap();
    client.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
    client.batch_execute(&command.replacen("name", &name, 1)).await.unwrap();
    Database::open(&settings(&config, 1)).await.unwrap().migrate().await.unwrap();
    client.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
}
