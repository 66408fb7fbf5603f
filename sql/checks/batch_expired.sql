-- What expired in a batch is what its expire entries took, less what its restore entries gave back.
-- $1 uuid[]: the users; $2 smallint: their bucket
WITH gone AS (
    SELECT e.user_id, t.batch, sum(CASE e.type WHEN 'restore' THEN -t.points::numeric ELSE t.points END) AS points
    FROM pointsd.entries AS e
    CROSS JOIN LATERAL unnest(e.allocated_batches, e.allocated_points) AS t (batch, points)
    WHERE e.bucket = $2 AND e.user_id = ANY ($1::uuid[]) AND e.type IN ('expire', 'restore')
    GROUP BY e.user_id, t.batch
)
SELECT b.user_id, b.batch, NULL::bigint AS seq, coalesce(gone.points, 0)::text AS expected, b.expired::text AS found,
       pointsd.clamp_bigint(b.expired - coalesce(gone.points, 0)) AS points
FROM pointsd.batches AS b
LEFT JOIN gone ON gone.user_id = b.user_id AND gone.batch = b.batch
WHERE b.bucket = $2 AND b.user_id = ANY ($1::uuid[]) AND b.expired <> coalesce(gone.points, 0)
