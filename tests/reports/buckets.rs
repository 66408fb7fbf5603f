//! The reports of a ledger in many buckets are those of the same ledger in one.

use chrono::TimeDelta;
use pointsd::document::Document;
use pointsd::ledger::{Posting, Reference};
use pointsd::reports::arrears::Arrears;
use pointsd::reports::expiry::Expiry;
use pointsd::reports::month_end::MonthEnd;

use super::{AsOf, config, consume, made_as_of, post, recharge, record_all_at, swept, table};
use crate::program::{Folder, call};
use crate::support::{TestDatabase, at, user};

/// The same history in a ledger of so many buckets, and its reports as of one instant.
async fn documents(buckets: i16) -> Vec<Document> {
    let (database, folder) = (TestDatabase::new().await, Folder::new());
    let config = config(&folder, "UTC", "en");
    let client = database.client().await;
    client.execute("SELECT pointsd.set_buckets($1)", &[&buckets]).await.unwrap();
    let mut session = database.session().await;
    let begin = at("2026-03-01T00:00:00Z");
    let day = |day: u32| begin + TimeDelta::days(i64::from(day));
    for nth in 0..60 {
        let task = Reference::Work { source_type: "tts".to_owned(), source_id: "a".to_owned() };
        let postings = [
            recharge(nth, 100 + i64::from(nth), "a", begin, day(3 + nth % 40)),
            recharge(nth, 20, "b", day(1), day(50)),
            consume(nth, i64::from(nth) * 4 + 1, "a", day(2)),
            Posting::refund(user(nth), task, day(2)).with_points(1),
        ];
        post(&mut session, &postings, &config).await;
    }
    let slot = day(20);
    let sweep = swept(&database, slot).await;
    assert!(sweep.batches > 5, "{sweep:?}");
    record_all_at(&database, "2026-03-21T00:00:30Z").await;
    let as_of = slot + TimeDelta::minutes(1);
    let month = MonthEnd::before(at("2026-04-02T00:00:00Z"), config.time_zone).unwrap();
    let expiry = AsOf(as_of, Expiry { sweep: &sweep, disproved: false });
    let mut documents = vec![
        made_as_of(&database, &config, slot, expiry).await.document,
        made_as_of(&database, &config, slot, AsOf(as_of, Arrears)).await.document,
        made_as_of(&database, &config, at("2026-04-02T00:00:00Z"), AsOf(at("2026-04-02T00:00:00Z"), month))
            .await
            .document,
    ];
    assert!(!table(&documents[1], "owing").rows.is_empty(), "{:#?}", documents[1]);
    let url = database.url();
    let arguments = ["run", "reconciliation", "--full", "--json"];
    let answer = tokio::task::spawn_blocking(move || call(&url, &arguments).expect(0).json()).await.unwrap();
    let mut reconciliation: Document = serde_json::from_value(answer["document"].clone()).unwrap();
    assert_eq!(answer["accounts"], 60, "{answer}");
    // The rest tells when it was made.
    reconciliation = Document { sections: reconciliation.sections, ..documents[0].clone() };
    documents.push(reconciliation);
    documents
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tell_the_same_of_one_bucket_and_of_many() {
    let (one, many) = (documents(1).await, documents(64).await);
    for (one, many) in one.iter().zip(&many) {
        assert_eq!(one, many);
    }
}
