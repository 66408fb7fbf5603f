-- A restore stands directly before its consume, or before another restore of it, and is dated as it. The consume draws what was
-- restored. No more is restored than had expired of the batch by then.
-- $1 uuid[]: the users; $2 smallint: their bucket
WITH entry AS (
    SELECT user_id, seq, type, at, lead(type) OVER history AS next, lead(at) OVER history AS next_at
    FROM pointsd.entries
    WHERE bucket = $2 AND user_id = ANY ($1::uuid[])
    WINDOW history AS (PARTITION BY user_id ORDER BY seq)
), ends AS (
    -- The first later entry that is no restore.
    SELECT e.user_id, e.seq, e.next, e.at, e.next_at,
           min(e.seq) FILTER (WHERE e.type <> 'restore')
               OVER (PARTITION BY e.user_id ORDER BY e.seq ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) AS consume
    FROM entry AS e
), allocation AS (
    SELECT e.user_id, e.seq, e.type, t.batch, t.points,
           sum(CASE e.type WHEN 'restore' THEN -t.points::numeric ELSE t.points END)
               OVER (PARTITION BY e.user_id, t.batch ORDER BY e.seq) AS expired
    FROM pointsd.entries AS e
    CROSS JOIN LATERAL unnest(e.allocated_batches, e.allocated_points) AS t (batch, points)
    WHERE e.bucket = $2 AND e.user_id = ANY ($1::uuid[]) AND e.type IN ('expire', 'restore')
), wrong AS (
    SELECT a.user_id, a.batch, a.seq, a.expired,
           CASE WHEN a.expired < 0 THEN ARRAY[
                    format('at most %s points, which had expired', a.expired + a.points), format('%s points', a.points)]
                WHEN n.next IS NULL OR n.next NOT IN ('restore', 'consume') OR n.next_at <> n.at THEN ARRAY[
                    'directly before its consume', 'before ' || CASE WHEN n.next IN ('restore', 'consume')
                        THEN 'one dated otherwise' ELSE coalesce(n.next, 'nothing') END]
                WHEN coalesce(c.points, 0) < a.points THEN ARRAY[
                    format('%s points drawn after it', a.points), format('%s points drawn', coalesce(c.points, 0))] END AS told
    FROM allocation AS a
    JOIN ends AS n ON n.user_id = a.user_id AND n.seq = a.seq
    LEFT JOIN LATERAL (
        SELECT sum(t.points) AS points
        FROM pointsd.entries AS o CROSS JOIN LATERAL unnest(o.allocated_batches, o.allocated_points) AS t (batch, points)
        WHERE o.bucket = $2 AND o.user_id = a.user_id AND o.seq = n.consume AND t.batch = a.batch
    ) AS c ON true
    WHERE a.type = 'restore'
)
SELECT DISTINCT ON (user_id, batch, seq) user_id, batch, seq, told[1] AS expected, told[2] AS found,
       CASE WHEN expired < 0 THEN pointsd.clamp_bigint(-expired) END AS points
FROM wrong
WHERE told IS NOT NULL
ORDER BY user_id, batch, seq
