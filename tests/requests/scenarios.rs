//! The histories in tests/scenarios through the queue.

use pointsd::fields::PostingFields;
use pointsd::requests;
use serde_json::{Value, json};

use super::{SETTINGS, Server, TestDatabase, all_done, at};
use crate::cli::scenarios::{assert_books, scenarios};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_history_by_requests() {
    for scenario in scenarios(&[6, 7, 8]) {
        let database = TestDatabase::new().await;
        let (client, mut session) = (database.client().await, database.session().await);
        let server = Server::start(&database, SETTINGS).await;
        let mut found = Vec::new();
        for part in scenario.parts() {
            if part[0]["op"] == "expire" {
                session.sweep(at(part[0]["at"].as_str().unwrap()), false, |_| true).await.unwrap();
                found.push(json!({ "status": "swept" }));
                continue;
            }
            let posting = |op: &Value| {
                let fields: PostingFields = serde_json::from_value(op.clone()).unwrap();
                fields.into_posting(|| panic!("each operation has a time")).unwrap()
            };
            let postings: Vec<_> = part.iter().map(posting).collect();
            let ids = requests::enqueue(&client, &postings).await.unwrap();
            all_done(&client).await;
            let sql = "SELECT jsonb_strip_nulls(jsonb_build_object(
                           'status', CASE state WHEN 'refused' THEN 'rejected' ELSE state END, 'seq', seq, 'code', code))
                       FROM pointsd.requests WHERE id = ANY ($1) ORDER BY id";
            found.extend(client.query(sql, &[&ids]).await.unwrap().iter().map(|row| row.get::<_, Value>(0)));
        }
        server.stop().await;
        for (nth, (found, expected)) in found.iter().zip(&scenario.replies).enumerate() {
            assert_eq!(found, expected, "reply {nth} to {}, {}", scenario.ops[nth], scenario.name);
        }
        assert_eq!(found.len(), scenario.replies.len(), "{}", scenario.name);
        assert_books(&database.url(), &scenario, "by requests");
    }
}
