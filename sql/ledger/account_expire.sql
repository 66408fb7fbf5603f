-- Closes what is due in the locked accounts of a ledger in several buckets, after entry_expire.sql has written its entries, and moves the
-- accounts. Returns what it took, by source. A hand that locks no account may change batches in between. The caller rolls back if their
-- number differs; a changed amount is left to the proof.
-- $1 uuid[]: the users; $2 timestamptz: the instant; $3 smallint: the bucket of the accounts
WITH due AS MATERIALIZED ( -- read once: the updates below must not see different batches
    SELECT b.xmin AS version, b.user_id, b.batch, b.remaining, b.source, b.expires_at
    FROM pointsd.accounts AS a
    JOIN pointsd.batches AS b ON b.bucket = $3::smallint AND b.user_id = a.user_id
    WHERE a.bucket = $3::smallint AND b.user_id = ANY ($1::uuid[]) AND b.open AND b.expires_at <= $2::timestamptz
), batches_closed AS (
    UPDATE pointsd.batches AS b
    SET remaining = 0, expired = b.expired + due.remaining, open = false
    FROM due
    WHERE b.bucket = $3::smallint AND b.user_id = due.user_id AND b.batch = due.batch AND b.xmin = due.version
    RETURNING b.batch
), accounts_moved AS (
    UPDATE pointsd.accounts AS a
    SET balance = a.balance - t.points, total_expired = a.total_expired + t.points, last_seq = a.last_seq + t.batches,
        expired_until = greatest(a.expired_until, t.until)
    FROM (SELECT user_id, count(*) AS batches, sum(remaining)::bigint AS points, max(expires_at) AS until
          FROM due GROUP BY user_id) AS t
    WHERE a.bucket = $3::smallint AND a.user_id = t.user_id
)
SELECT source, count(*) AS batches, pointsd.clamp_bigint(sum(remaining)) AS points,
       (SELECT count(DISTINCT user_id) FROM due) AS accounts, (SELECT count(*) FROM batches_closed) AS closed
FROM due
GROUP BY source
