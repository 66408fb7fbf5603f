-- A void takes back a recharge, for the same order. What a recharge lost by voids and by expiry, less what was restored, never
-- exceeds it. Points that a repair put back into the batch may expire once more. The finding is the first entry that breaks this.
-- $1 uuid[]: the users; $2 smallint: their bucket
WITH lost AS (
    SELECT e.user_id, e.seq, e.refers_to AS recharge, e.amount::numeric AS points
    FROM pointsd.entries AS e
    WHERE e.bucket = $2 AND e.user_id = ANY ($1::uuid[]) AND e.type = 'void'
    UNION ALL
    SELECT e.user_id, e.seq, r.seq, CASE e.type WHEN 'restore' THEN -t.points::numeric
                                                WHEN 'adjust' THEN least(0, t.points) ELSE t.points END
    FROM pointsd.entries AS e
    CROSS JOIN LATERAL unnest(e.allocated_batches, e.allocated_points) AS t (batch, points)
    JOIN pointsd.entries AS r ON r.bucket = $2 AND r.user_id = e.user_id AND r.type = 'recharge' AND r.batch = t.batch
    WHERE e.bucket = $2 AND e.user_id = ANY ($1::uuid[]) AND e.type IN ('expire', 'restore', 'adjust')
      AND r.user_id = ANY ($1::uuid[])
), running AS (
    SELECT user_id, seq, recharge, sum(points) OVER (PARTITION BY user_id, recharge ORDER BY seq) AS points
    FROM lost
), wrong AS (
    SELECT l.user_id, l.seq, l.recharge, l.points, r.amount, r.batch, r.type IS NOT DISTINCT FROM 'recharge' AS known,
           r.type AS found
    FROM running AS l
    LEFT JOIN pointsd.entries AS r ON r.bucket = $2 AND r.user_id = l.user_id AND r.seq = l.recharge
    WHERE r.type IS DISTINCT FROM 'recharge' OR l.points > r.amount
    UNION ALL
    SELECT v.user_id, v.seq, v.refers_to, 0, r.amount, r.batch, true, NULL
    FROM pointsd.entries AS v
    JOIN pointsd.entries AS r ON r.bucket = $2 AND r.user_id = v.user_id AND r.seq = v.refers_to AND r.type = 'recharge'
    WHERE v.bucket = $2 AND v.user_id = ANY ($1::uuid[]) AND v.type = 'void' AND v.source_id IS DISTINCT FROM r.source_id
)
SELECT DISTINCT ON (user_id, recharge) user_id, batch, seq,
       CASE WHEN NOT known THEN 'a recharge'
            WHEN points > amount THEN format('at most %s points lost', amount)
            ELSE 'the order of entry ' || recharge END AS expected,
       CASE WHEN NOT known THEN coalesce(found, concat('no entry ', recharge))
            WHEN points > amount THEN format('%s points lost', points)
            ELSE 'another order' END AS found,
       CASE WHEN known AND points > amount THEN pointsd.clamp_bigint(points - amount) END AS points
FROM wrong
ORDER BY user_id, recharge, seq
