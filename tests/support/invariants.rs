//! The invariants of every ledger at rest, each as a query that finds the rows that break it.

use tokio_postgres::Client;

/// Name and query. The first column says where.
const INVARIANTS: &[(&str, &str)] = &[
    (
        "balance = total_opening + total_recharged - total_consumed - total_expired + total_refunded - total_voided + total_adjusted",
        "SELECT user_id::text FROM pointsd.accounts
         WHERE balance <> total_opening::numeric + total_recharged - total_consumed - total_expired + total_refunded - total_voided
                          + total_adjusted",
    ),
    (
        "what remains in an account's batches is its balance, or nothing in arrears",
        "SELECT a.user_id::text FROM pointsd.accounts a LEFT JOIN pointsd.batches b USING (user_id)
         GROUP BY a.user_id, a.balance HAVING coalesce(sum(b.remaining), 0) <> greatest(0, a.balance)",
    ),
    (
        "a batch's amount = what remains and what entries took from it",
        "SELECT b.user_id || ' batch ' || b.batch
         FROM pointsd.batches b LEFT JOIN (
             SELECT e.user_id, t.batch, sum(CASE e.type WHEN 'restore' THEN -t.points ELSE t.points END) AS points,
                    sum(CASE e.type WHEN 'restore' THEN -t.points WHEN 'expire' THEN t.points ELSE 0 END) AS expired
             FROM pointsd.entries e, unnest(e.allocated_batches, e.allocated_points) AS t (batch, points)
             GROUP BY e.user_id, t.batch) AS taken USING (user_id, batch)
         WHERE b.amount <> b.remaining + coalesce(taken.points, 0) OR b.expired <> coalesce(taken.expired, 0)",
    ),
    (
        "a batch is open exactly while points remain, and those are 0 to its amount",
        "SELECT user_id || ' batch ' || batch FROM pointsd.batches
         WHERE open <> (remaining > 0) OR remaining < 0 OR remaining > amount",
    ),
    (
        "a recharge or refund settles arrears; an expiry or restore is of its batch alone",
        "SELECT e.user_id || ' entry ' || e.seq
         FROM pointsd.entries e,
              LATERAL (SELECT coalesce(sum(points), 0) FROM unnest(e.allocated_points) AS t (points)) AS s (allocated)
         WHERE e.type NOT IN ('consume', 'void') AND s.allocated <> CASE e.type
             WHEN 'recharge' THEN least(e.amount, greatest(0, -e.balance_before))
             WHEN 'refund' THEN least(e.amount, greatest(0, -e.balance_before))
             WHEN 'adjust' THEN greatest(0, e.balance_before) - greatest(0, e.balance_after)
             WHEN 'opening' THEN 0
             WHEN 'expire' THEN e.amount
             WHEN 'restore' THEN e.amount END",
    ),
    (
        "a consume's allocations, and a void's, are what there was before, or what was restored; the rest becomes arrears",
        // The restores directly before an entry have as many other entries before them as it has.
        "SELECT e.user_id || ' entry ' || e.seq
         FROM (SELECT e.*, coalesce(sum(amount) FILTER (WHERE type = 'restore') OVER (PARTITION BY user_id, others), 0) AS restored
               FROM (SELECT e.*, count(*) FILTER (WHERE type <> 'restore') OVER (
                         PARTITION BY user_id ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS others
                     FROM pointsd.entries e) AS e) AS e,
              LATERAL (SELECT coalesce(sum(points), 0) FROM unnest(e.allocated_points) AS t (points)) AS s (allocated)
         WHERE e.type IN ('consume', 'void')
           AND s.allocated <> least(e.amount, greatest(e.restored, e.balance_before))",
    ),
    (
        "a consume that follows restores draws all that was restored; no other entry follows them",
        "SELECT r.user_id || ' entry ' || r.seq FROM pointsd.entries r
         LEFT JOIN pointsd.entries n ON n.bucket = r.bucket AND n.user_id = r.user_id AND n.seq = r.seq + 1
         WHERE r.type = 'restore' AND (n.type IS NULL OR n.type NOT IN ('restore', 'consume') OR n.at <> r.at)",
    ),
    (
        "refunds of a consume never exceed it; what a recharge lost by voids and expiry never exceeds it",
        "SELECT e.user_id || ' entry ' || e.seq FROM pointsd.entries e
         JOIN (SELECT user_id, refers_to, sum(amount) AS returned, min(type) AS type FROM pointsd.entries
               WHERE refers_to IS NOT NULL GROUP BY user_id, refers_to) AS r
             ON r.user_id = e.user_id AND r.refers_to = e.seq
         LEFT JOIN pointsd.batches b ON b.user_id = e.user_id AND b.batch = e.batch
         WHERE r.returned + coalesce(b.expired, 0) > e.amount
            OR e.type <> CASE r.type WHEN 'refund' THEN 'consume' ELSE 'recharge' END",
    ),
    (
        "an account counts its open holds; a captured one names its consume; none is without its account",
        "SELECT h.user_id::text FROM pointsd.holds h LEFT JOIN pointsd.entries e ON e.user_id = h.user_id AND e.seq = h.seq
         WHERE h.state = 'captured' AND (e.type IS DISTINCT FROM 'consume' OR e.key <> h.key OR e.at > h.at)
            OR NOT EXISTS (SELECT FROM pointsd.accounts a WHERE a.user_id = h.user_id)
         UNION ALL
         SELECT a.user_id::text FROM pointsd.accounts a
         WHERE a.open_holds <> (SELECT count(*) FROM pointsd.holds h
                              WHERE h.bucket = a.bucket AND h.user_id = a.user_id AND h.state = 'open')",
    ),
    (
        "expired_until is the latest end of a batch that expired with points in it",
        "SELECT a.user_id::text FROM pointsd.accounts a
         WHERE a.expired_until IS DISTINCT FROM (
             SELECT max(b.expires_at) FROM pointsd.batches b JOIN pointsd.entries e
                 ON e.bucket = b.bucket AND e.user_id = b.user_id AND e.type = 'expire' AND e.allocated_batches[1] = b.batch
             WHERE b.bucket = a.bucket AND b.user_id = a.user_id)",
    ),
    (
        "allocations name batches that exist, each once, with points",
        "SELECT e.user_id || ' entry ' || e.seq
         FROM pointsd.entries e CROSS JOIN LATERAL unnest(e.allocated_batches, e.allocated_points) AS t (batch, points)
         LEFT JOIN pointsd.batches b ON b.bucket = e.bucket AND b.user_id = e.user_id AND b.batch = t.batch
         GROUP BY e.user_id, e.seq
         HAVING count(*) <> count(b.batch) OR count(*) <> count(DISTINCT t.batch) OR min(CASE e.type WHEN 'adjust' THEN abs(t.points) ELSE t.points END) < 1",
    ),
    (
        "a recharge opens the batch that it names and settles from no other; an expiry takes one batch",
        "SELECT e.user_id || ' entry ' || e.seq FROM pointsd.entries e
         LEFT JOIN pointsd.batches b
             ON b.bucket = e.bucket AND b.user_id = e.user_id AND b.batch = coalesce(e.batch, e.allocated_batches[1])
         WHERE e.batch IS NOT NULL AND (b.amount, b.source, b.opened_at) IS DISTINCT FROM (e.amount, e.source_type, e.at)
            OR e.batch IS NOT NULL AND e.allocated_batches <> ARRAY[e.batch] AND e.allocated_batches <> '{}'
            OR e.type IN ('expire', 'restore') AND (cardinality(e.allocated_batches) <> 1 OR b.source <> e.source_type
                                                    OR e.key IS NOT NULL)
            OR e.type = 'restore' AND b.expires_at <= e.at
            OR e.type = 'expire' AND (b.expires_at > e.at
                                      OR b.remaining <> 0 AND NOT EXISTS (
                                          SELECT FROM pointsd.entries AS later
                                          WHERE later.bucket = e.bucket AND later.user_id = e.user_id AND later.seq > e.seq
                                            AND later.type = 'adjust'))",
    ),
    (
        "a consume draws from no batch past its time",
        "SELECT e.user_id || ' entry ' || e.seq
         FROM pointsd.entries e, unnest(e.allocated_batches) AS t (batch), pointsd.batches b
         WHERE e.type = 'consume' AND b.bucket = e.bucket AND b.user_id = e.user_id AND b.batch = t.batch AND b.expires_at <= e.at",
    ),
    (
        "entries and batches are numbered without gaps, to the account's last",
        "SELECT a.user_id::text FROM pointsd.accounts a
         WHERE a.last_seq <> (SELECT count(*) FROM pointsd.entries e WHERE e.bucket = a.bucket AND e.user_id = a.user_id)
            OR a.last_seq <> (SELECT coalesce(max(seq), 0) FROM pointsd.entries e WHERE e.bucket = a.bucket AND e.user_id = a.user_id)
            OR a.last_batch <> (SELECT count(*) FROM pointsd.batches b WHERE b.bucket = a.bucket AND b.user_id = a.user_id)
            OR a.last_batch <> (SELECT coalesce(max(batch), 0) FROM pointsd.batches b WHERE b.bucket = a.bucket AND b.user_id = a.user_id)",
    ),
    (
        "entries are chained from nothing to the account's balance",
        "SELECT user_id || ' entry ' || coalesce(seq, 0) FROM (
             SELECT a.user_id, e.seq, a.balance, e.balance_before, e.balance_after,
                    lag(e.balance_after, 1, 0) OVER of_account AS expected,
                    lead(e.seq) OVER of_account IS NULL AS last
             FROM pointsd.accounts a LEFT JOIN pointsd.entries e USING (user_id)
             WINDOW of_account AS (PARTITION BY a.user_id ORDER BY e.seq)
         ) AS chain
         WHERE seq IS NULL OR balance_before <> expected OR last AND balance_after <> balance",
    ),
    (
        "the sums of entries by type are the account's totals",
        "SELECT a.user_id::text FROM pointsd.accounts a LEFT JOIN pointsd.entries e USING (user_id)
         GROUP BY a.bucket, a.user_id
         HAVING (a.total_recharged, a.total_consumed, a.total_expired, a.total_refunded, a.total_voided, a.total_adjusted,
                 a.total_opening)
                IS DISTINCT FROM (
             coalesce(sum(e.amount) FILTER (WHERE e.type = 'recharge'), 0),
             coalesce(sum(e.amount) FILTER (WHERE e.type = 'consume'), 0),
             coalesce(sum(CASE e.type WHEN 'expire' THEN e.amount WHEN 'restore' THEN -e.amount END), 0),
             coalesce(sum(e.amount) FILTER (WHERE e.type = 'refund'), 0),
             coalesce(sum(e.amount) FILTER (WHERE e.type = 'void'), 0),
             coalesce(sum(e.balance_after - e.balance_before) FILTER (WHERE e.type = 'adjust'), 0),
             coalesce(sum(e.balance_after - e.balance_before) FILTER (WHERE e.type = 'opening'), 0))",
    ),
    (
        "every row of an account lies in its bucket",
        "SELECT user_id::text FROM (SELECT bucket, user_id FROM pointsd.accounts UNION SELECT bucket, user_id FROM pointsd.batches
                                    UNION SELECT bucket, user_id FROM pointsd.entries UNION SELECT bucket, user_id FROM pointsd.holds
                                    UNION SELECT bucket, user_id FROM pointsd.checkpoints) AS n
         WHERE bucket <> pointsd.bucket_of(user_id)",
    ),
    (
        "no batch and no entry without its account",
        "SELECT user_id::text FROM (SELECT user_id FROM pointsd.batches UNION SELECT user_id FROM pointsd.entries) AS u
         WHERE NOT EXISTS (SELECT FROM pointsd.accounts a WHERE a.user_id = u.user_id)",
    ),
];

/// The name of each invariant.
pub fn names() -> impl Iterator<Item = &'static str> {
    INVARIANTS.iter().map(|(name, _)| *name)
}

/// The broken invariants, and the rows that break them.
pub async fn broken(client: &Client) -> Vec<String> {
    let mut broken = Vec::new();
    // Without statistics some of these join row by row.
    client.batch_execute("ANALYZE pointsd.accounts, pointsd.batches, pointsd.entries, pointsd.holds").await.unwrap();
    // A cluster joins by the bucket alone, and the invariants know none: copies of the tables are asked.
    let schema = if std::env::var_os("POINTSD_TEST_CLUSTER").is_some() { "pg_temp" } else { "pointsd" };
    if schema == "pg_temp" {
        for table in ["accounts", "batches", "entries", "holds"] {
            let copy = format!(
                "DROP TABLE IF EXISTS pg_temp.{table}; CREATE TEMPORARY TABLE {table} (LIKE pointsd.{table} INCLUDING INDEXES);
                 INSERT INTO pg_temp.{table} SELECT * FROM pointsd.{table}; ANALYZE pg_temp.{table}"
            );
            client.batch_execute(&copy).await.unwrap();
        }
    }
    for (name, query) in INVARIANTS {
        let query =
            ["accounts", "batches", "entries", "holds"].into_iter().fold((*query).to_owned(), |query, table| {
                query.replace(&format!("pointsd.{table}"), &format!("{schema}.{table}"))
            });
        // Planned for all rows: for the first five the planner would join row by row.
        let query = format!("WITH broken AS MATERIALIZED ({query}) SELECT * FROM broken LIMIT 5");
        let rows = client.query(&query, &[]).await;
        for row in rows.unwrap_or_else(|error| panic!("{name}: {}", pointsd::errors::chain(&error))) {
            broken.push(format!("{name}: {}", row.get::<_, String>(0)));
        }
    }
    broken
}

/// Fails and lists the broken invariants.
pub async fn check_invariants(client: &Client) {
    let broken = broken(client).await;
    assert!(broken.is_empty(), "{broken:#?}");
}
