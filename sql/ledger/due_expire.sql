-- Expires what is due in the locked accounts of a ledger in one bucket, as entry_expire.sql and account_expire.sql together do in several.
-- Those read the batches twice. This reads them once, and closes them where they lie. A batch that a hand has changed meanwhile
-- lies elsewhere, or is of another transaction, and stays open: then fewer are `closed` than there are batches, and the caller rolls
-- back. Returns what it took, by source.
-- $1 uuid[]: the users; $2 timestamptz: the instant; $3 smallint: the drawing rule; $4 bigint: the run, or null; $5 smallint: the bucket of
-- the accounts
WITH due AS MATERIALIZED ( -- read once: what follows must not see different batches
    SELECT b.ctid AS place, b.xmin AS version, b.bucket, b.user_id, b.batch, b.remaining, b.source, b.expires_at, a.last_seq, a.balance,
           CASE WHEN b.paid IS NOT NULL THEN pointsd.price_part(b.paid, b.amount - b.remaining, b.remaining, b.amount)::bigint
           END AS paid,
           row_number() OVER drawing AS nth,
           (sum(b.remaining) OVER drawing)::bigint AS running
    FROM unnest($1::uuid[]) AS listed (user_id)
    JOIN pointsd.accounts AS a ON a.bucket = $5::smallint AND a.user_id = listed.user_id
    CROSS JOIN LATERAL (
        SELECT b.ctid, b.xmin, b.*
        FROM pointsd.batches AS b
        WHERE b.bucket = $5::smallint AND b.user_id = a.user_id AND b.open AND b.expires_at <= $2::timestamptz
        OFFSET 0 -- keeps this a part of its own: without statistics, the planner would read all that is due in the ledger first
    ) AS b
    WINDOW drawing AS (PARTITION BY b.user_id ORDER BY b.expires_at, b.batch)
), entries_written AS (
    INSERT INTO pointsd.entries (user_id, seq, type, amount, balance_before, balance_after, source_type, at,
                                 drawing_rule, run, allocated_batches, allocated_points, allocated_paid, bucket)
    SELECT user_id, last_seq + nth, 'expire', remaining, balance - running + remaining, balance - running, source, $2::timestamptz,
           $3::smallint, $4::bigint, ARRAY[batch], ARRAY[remaining],
           CASE WHEN paid IS NOT NULL THEN ARRAY[paid] END, bucket
    FROM due
), batches_closed AS (
    UPDATE pointsd.batches AS b
    SET remaining = 0, expired = b.expired + due.remaining, open = false
    FROM due
    WHERE b.ctid = due.place AND b.xmin = due.version -- after a wait, older minor releases check no ctid again
    RETURNING b.batch
), accounts_moved AS (
    UPDATE pointsd.accounts AS a
    SET balance = a.balance - t.points, total_expired = a.total_expired + t.points, last_seq = a.last_seq + t.batches,
        expired_until = greatest(a.expired_until, t.until)
    FROM (SELECT user_id, count(*) AS batches, sum(remaining)::bigint AS points, max(expires_at) AS until
          FROM due GROUP BY user_id) AS t
    WHERE a.bucket = $5::smallint AND a.user_id = t.user_id
)
SELECT source, count(*) AS batches, pointsd.clamp_bigint(sum(remaining)) AS points,
       (SELECT count(DISTINCT user_id) FROM due) AS accounts, (SELECT count(*) FROM batches_closed) AS closed
FROM due
GROUP BY source
