//! A database that lacks a character. A migration refuses it; one that was restored there still posts what it can.

use std::io::Cursor;
use std::sync::Arc;

use pointsd::bulk::{self, Format, LineReply};
use pointsd::database::Database;
use pointsd::database::migrate::MIGRATIONS;
use pointsd::ledger::{Poster, Refusal, Reply, Rules};
use tokio_util::sync::CancellationToken;

use crate::support::{connect, settings};
use crate::{TestDatabase, user};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_character_that_the_database_lacks_spoils_its_own_line() {
    let beside = TestDatabase::new().await;
    let admin = beside.client().await;
    let mut config = beside.config();
    let name = format!("{}_euc_cn", config.get_dbname().unwrap());
    let create = format!("CREATE DATABASE {name} ENCODING 'EUC_CN' LOCALE 'C' TEMPLATE template0");
    admin.batch_execute(&create).await.unwrap();
    config.dbname(&name);
    let client = connect(&config).await;
    client.batch_execute("CREATE SCHEMA pointsd").await.unwrap();
    for migration in MIGRATIONS {
        client.batch_execute(&format!("BEGIN; {}; COMMIT", migration.sql)).await.unwrap();
    }

    let database = Database::open(&settings(&config, 4)).await.unwrap();
    let rules = Rules { sources: [("gift".to_owned(), None)].into(), ..Rules::default() };
    let poster = Poster::start(&database, &Arc::new(rules), 2);
    let case = include_str!("../cli/cases/euccn.ndjson");
    let more = (0..200).map(|nth| {
        let text = if nth % 50 == 7 { "\u{1f381}" } else { "积分" };
        let user = user(nth % 3);
        format!(
            "{{\"op\":\"consume\",\"user\":\"{user}\",\"points\":1,\"source_type\":\"tts\",\"source_id\":\"{text} {nth}\"}}\n"
        )
    });
    let text = case.to_owned() + &more.collect::<String>();
    let mut refused = Vec::new();
    let stop = CancellationToken::new();
    let write = |reply: LineReply, _: &mut Vec<u8>| {
        let Reply::Rejected(Refusal::Malformed(why)) = reply.reply else { return };
        assert!(why.starts_with("the database cannot store it: character with byte sequence 0xf0"), "{why}");
        refused.push(reply.line);
    };
    let on_replies = |_| std::future::ready(Ok(()));
    let summary = bulk::post(Cursor::new(text), Format::Ndjson, &poster, chrono::Utc::now, &stop, write, on_replies);
    let summary = summary.await.unwrap();
    assert_eq!((summary.posted, summary.rejected()), (198, 5));
    refused.sort_unstable();
    assert_eq!(refused, [2, 11, 61, 111, 161]);
    // A command refuses it.
    client.batch_execute("CREATE TABLE pointsd.migrations ()").await.unwrap();
    let said = database.prepare().await.expect_err("another encoding").to_string();
    assert!(said.contains("has the encoding EUC_CN, and pointsd needs UTF8"), "{said}");
    let entries = client.query_one("SELECT count(*) FROM pointsd.entries", &[]).await.unwrap();
    assert_eq!(entries.get::<_, i64>(0), 198);
    poster.close().await;
    database.close().await.unwrap();
    admin.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
}
