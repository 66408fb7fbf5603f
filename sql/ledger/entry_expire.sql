-- Writes the entries of what is due in the locked accounts: one entry a batch, in drawing order, as the state machine does when a
-- posting finds a batch past its time (a test holds the two together). What is left of a batch releases what is left of its
-- price. It serves a ledger in several buckets, and comes before account_expire.sql, which closes the batches: a node of a cluster runs
-- each of the two as it is, but not due_expire.sql, which does both at once.
-- $1 uuid[]: the users; $2 timestamptz: the instant; $3 smallint: the drawing rule; $4 bigint: the run, or null; $5 smallint: the bucket of
-- the accounts
INSERT INTO pointsd.entries (user_id, seq, type, amount, balance_before, balance_after, source_type, at,
                             drawing_rule, run, allocated_batches, allocated_points, allocated_paid, bucket)
SELECT user_id, last_seq + nth, 'expire', remaining, balance - running + remaining, balance - running, source, $2::timestamptz,
       $3::smallint, $4::bigint, ARRAY[batch], ARRAY[remaining],
       CASE WHEN paid IS NOT NULL THEN ARRAY[paid] END, bucket
FROM (
    SELECT b.bucket, b.user_id, b.batch, b.remaining, b.source, a.last_seq, a.balance,
           CASE WHEN b.paid IS NOT NULL THEN pointsd.price_part(b.paid, b.amount - b.remaining, b.remaining, b.amount)::bigint
           END AS paid,
           row_number() OVER drawing AS nth,
           (sum(b.remaining) OVER drawing)::bigint AS running
    FROM pointsd.accounts AS a
    JOIN pointsd.batches AS b ON b.bucket = $5::smallint AND b.user_id = a.user_id
    WHERE a.bucket = $5::smallint AND b.user_id = ANY ($1::uuid[]) AND b.open AND b.expires_at <= $2::timestamptz
    WINDOW drawing AS (PARTITION BY b.user_id ORDER BY b.expires_at, b.batch)
) AS due
