//! A database that publishes all its tables (logical replication) works as any other.

use crate::program::{call, feed, on, post, wait};
use crate::support::user;

#[test]
fn a_published_database_posts_queues_and_prunes() {
    let (database, url) = super::database();
    let sql = |text: &str| wait(async { database.client().await.batch_execute(text).await.unwrap() });
    sql("CREATE PUBLICATION everything FOR ALL TABLES");
    let user = user(1);
    let recharge =
        format!("{{\"op\":\"recharge\",\"user\":\"{user}\",\"points\":10,\"source\":\"gift\",\"order_id\":1}}\n");
    post(&url, &recharge).expect(0);
    feed(on(&url, &["enqueue", "-"]), &recharge).expect(0);
    // Finished, put back by hand, and finished again: the row moves between the partitions.
    let refuse = "UPDATE pointsd.requests
                  SET state = 'refused', code = 'x', message = 'x', finished_at = '2020-01-01T00:00:00Z'";
    sql(refuse);
    call(&url, &["requests", "retry", "1"]).expect(0);
    sql("UPDATE pointsd.requests
         SET state = 'posted', seq = 1, code = NULL, message = NULL, finished_at = '2020-01-01T00:00:00Z'");
    call(&url, &["run", "prune"]).expect(0);
    let left = wait(async {
        let client = database.client().await;
        client.query_one("SELECT count(*) FROM pointsd.requests", &[]).await.unwrap().get::<_, i64>(0)
    });
    assert_eq!(left, 0, "it was finished long ago");
}
