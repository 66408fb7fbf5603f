-- A batch's amount is what remains plus what entries took: consumed, settled, expired less restored, voided, adjusted.
-- Left to batch_recharge: a batch that no entry opened.
-- $1 uuid[]: the users; $2 smallint: their bucket
WITH taken AS (
    SELECT e.user_id, t.batch, sum(CASE e.type WHEN 'restore' THEN -t.points::numeric ELSE t.points END) AS points
    FROM pointsd.entries AS e
    CROSS JOIN LATERAL unnest(e.allocated_batches, e.allocated_points) AS t (batch, points)
    WHERE e.bucket = $2 AND e.user_id = ANY ($1::uuid[])
    GROUP BY e.user_id, t.batch
), opened AS (
    SELECT DISTINCT user_id, batch FROM pointsd.entries WHERE bucket = $2 AND user_id = ANY ($1::uuid[]) AND batch IS NOT NULL
)
SELECT b.user_id, b.batch, NULL::bigint AS seq,
       'remaining ' || (b.amount - coalesce(taken.points, 0)) AS expected, 'remaining ' || b.remaining AS found,
       pointsd.clamp_bigint(b.remaining - (b.amount - coalesce(taken.points, 0))) AS points
FROM pointsd.batches AS b
JOIN opened ON opened.user_id = b.user_id AND opened.batch = b.batch
LEFT JOIN taken ON taken.user_id = b.user_id AND taken.batch = b.batch
WHERE b.bucket = $2 AND b.user_id = ANY ($1::uuid[]) AND b.remaining <> b.amount - coalesce(taken.points, 0)
