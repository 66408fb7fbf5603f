-- The nth recharge, refund or opening of points of an account opened batch n, with its points, source and time. No batch was opened otherwise.
-- A batch under another number is one finding: its number is the value found in place of the missing one.
-- $1 uuid[]: the users; $2 smallint: their bucket
WITH opened AS (
    SELECT user_id, seq, batch AS named, amount, source_type AS source, at,
           row_number() OVER (PARTITION BY user_id ORDER BY seq) AS batch
    FROM pointsd.entries
    WHERE bucket = $2 AND user_id = ANY ($1::uuid[]) AND pointsd.opens_batch(type, balance_after > balance_before)
), missing AS (
    SELECT o.*
    FROM opened AS o
    LEFT JOIN pointsd.batches AS b ON b.bucket = $2 AND b.user_id = o.user_id AND b.batch = o.batch
    WHERE b.batch IS NULL
), strange AS (
    SELECT b.*
    FROM pointsd.batches AS b
    LEFT JOIN opened AS o ON o.user_id = b.user_id AND o.batch = b.batch
    WHERE b.bucket = $2 AND b.user_id = ANY ($1::uuid[]) AND o.batch IS NULL
)
SELECT o.user_id, b.batch, o.seq,
       concat_ws(', ', CASE WHEN o.named <> o.batch THEN 'batch ' || o.batch END,
                       CASE WHEN b.amount <> o.amount THEN 'amount ' || o.amount END,
                       CASE WHEN b.source <> o.source THEN 'source ' || o.source END,
                       CASE WHEN b.opened_at <> o.at THEN 'opened_at ' || (o.at AT TIME ZONE 'UTC') || ' UTC' END)
           AS expected,
       concat_ws(', ', CASE WHEN o.named <> o.batch THEN 'batch ' || o.named END,
                       CASE WHEN b.amount <> o.amount THEN 'amount ' || b.amount END,
                       CASE WHEN b.source <> o.source THEN 'source ' || b.source END,
                       CASE WHEN b.opened_at <> o.at THEN 'opened_at ' || (b.opened_at AT TIME ZONE 'UTC') || ' UTC' END)
           AS found,
       CASE WHEN b.amount <> o.amount THEN pointsd.clamp_bigint(b.amount::numeric - o.amount) END AS points
FROM opened AS o
JOIN pointsd.batches AS b ON b.bucket = $2 AND b.user_id = o.user_id AND b.batch = o.batch
WHERE o.named <> o.batch OR b.amount <> o.amount OR b.source <> o.source OR b.opened_at <> o.at
UNION ALL
SELECT m.user_id, m.batch::integer, m.seq, format('batch %s of %s points from %s', m.batch, m.amount, m.source),
       coalesce('batch ' || (SELECT min(s.batch)
                             FROM strange AS s
                             WHERE (s.user_id, s.amount, s.source, s.opened_at) = (m.user_id, m.amount, m.source, m.at)),
                'no such batch'),
       NULL
FROM missing AS m
UNION ALL
SELECT s.user_id, s.batch, NULL, 'a recharge, a refund or an opening that opened it', 'none', NULL
FROM strange AS s
WHERE NOT EXISTS (SELECT FROM missing AS m
                  WHERE (s.user_id, s.amount, s.source, s.opened_at) = (m.user_id, m.amount, m.source, m.at))
