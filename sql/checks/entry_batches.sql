-- A recharge or a refund settles from its own batch only. A consume or a void draws from no expired batch. An expiry takes one
-- expired batch, of its source, and all that was left in it. A restore is of one batch of its source, which was alive at its
-- time. No entry touches a batch that was opened after it.
-- Several entries that break this with the same batch are one finding, at the first of them; several batches of one entry
-- are one finding, at the lowest batch.
-- $1 uuid[]: the users; $2 smallint: their bucket
WITH opened AS (
    SELECT user_id, seq, row_number() OVER (PARTITION BY user_id ORDER BY seq) AS batch
    FROM pointsd.entries
    WHERE bucket = $2 AND user_id = ANY ($1::uuid[]) AND pointsd.opens_batch(type, balance_after > balance_before)
), allocation AS (
    SELECT e.user_id, e.seq, e.type, e.at, e.batch AS own, e.source_type, t.batch, t.points,
           cardinality(e.allocated_batches) AS batches,
           sum(CASE e.type WHEN 'restore' THEN -t.points::numeric ELSE t.points END)
               OVER (PARTITION BY e.user_id, t.batch ORDER BY e.seq) AS taken
    FROM pointsd.entries AS e
    CROSS JOIN LATERAL unnest(e.allocated_batches, e.allocated_points) AS t (batch, points)
    WHERE e.bucket = $2 AND e.user_id = ANY ($1::uuid[])
), wrong AS (
    SELECT a.user_id, a.batch, a.seq,
           CASE WHEN a.type IN ('recharge', 'refund') AND a.own <> a.batch THEN ARRAY['batch ' || a.own, 'batch ' || a.batch]
                WHEN o.seq > a.seq THEN ARRAY['a batch opened before', format('batch %s, opened by entry %s', a.batch, o.seq)]
                WHEN a.type IN ('consume', 'void') AND b.expires_at <= a.at THEN ARRAY[
                    'drawn before ' || (b.expires_at AT TIME ZONE 'UTC') || ' UTC',
                    'drawn at ' || (a.at AT TIME ZONE 'UTC') || ' UTC']
                WHEN a.type IN ('expire', 'restore') AND a.batches <> 1 THEN ARRAY['one batch', a.batches || ' batches']
                WHEN a.type = 'expire' AND b.expires_at > a.at THEN ARRAY[
                    'expired from ' || (b.expires_at AT TIME ZONE 'UTC') || ' UTC',
                    'expired at ' || (a.at AT TIME ZONE 'UTC') || ' UTC']
                WHEN a.type = 'restore' AND b.expires_at <= a.at THEN ARRAY[
                    'restored before ' || (b.expires_at AT TIME ZONE 'UTC') || ' UTC',
                    'restored at ' || (a.at AT TIME ZONE 'UTC') || ' UTC']
                WHEN a.type IN ('expire', 'restore') AND b.source <> a.source_type THEN ARRAY[
                    'source ' || b.source, 'source ' || a.source_type]
                WHEN a.type = 'expire' AND a.taken <> b.amount THEN ARRAY[
                    'the rest of ' || (b.amount - a.taken + a.points) || ' points', a.points || ' points'] END AS told,
           a.taken - b.amount AS beyond
    FROM allocation AS a
    JOIN pointsd.batches AS b ON b.bucket = $2 AND b.user_id = a.user_id AND b.batch = a.batch
    LEFT JOIN opened AS o ON o.user_id = a.user_id AND o.batch = a.batch
), first_of_batch AS (
    SELECT DISTINCT ON (user_id, batch) user_id, batch, seq, told, beyond
    FROM wrong
    WHERE told IS NOT NULL
    ORDER BY user_id, batch, seq
)
SELECT DISTINCT ON (user_id, seq) user_id, batch, seq, told[1] AS expected, told[2] AS found,
       CASE WHEN told[1] LIKE 'the rest of %' THEN pointsd.clamp_bigint(beyond) END AS points
FROM first_of_batch
ORDER BY user_id, seq, batch
