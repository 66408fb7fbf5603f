-- What each repair may have changed of what a forecast said of batches between borders. Either the forecast had seen the
-- rows that were wrong: then it is what the repair did to the rows. Or they went wrong later: then it is what the repair
-- booked.
-- $1 timestamptz: entries recorded later; $2 timestamptz[]: the borders, in order
SELECT width_bucket(b.expires_at - interval '1 microsecond', $2::timestamptz[]) AS part,
       sum(of.rows_moved)::bigint AS rows_moved, sum(of.booked)::bigint AS booked
FROM pointsd.entries AS e
CROSS JOIN LATERAL (
    SELECT (c.change ->> 'batch')::integer AS batch, after.points - before.points AS rows_moved, 0 AS booked
    FROM jsonb_array_elements(e.correction -> 'batches') AS c (change)
    CROSS JOIN LATERAL (
        SELECT CASE WHEN (c.change -> 'before' ->> 'open')::boolean
                    THEN (c.change -> 'before' ->> 'remaining')::bigint ELSE 0 END
    ) AS before (points)
    CROSS JOIN LATERAL (
        SELECT CASE WHEN (c.change -> 'after' ->> 'open')::boolean
                    THEN (c.change -> 'after' ->> 'remaining')::bigint ELSE 0 END
    ) AS after (points)
    UNION ALL
    SELECT part.batch, 0, -part.points FROM unnest(e.allocated_batches, e.allocated_points) AS part (batch, points)
) AS of
CROSS JOIN LATERAL (
    SELECT b.expires_at FROM pointsd.batches AS b WHERE b.user_id = e.user_id AND b.batch = of.batch OFFSET 0
) AS b
WHERE e.recorded_at > $1 AND e.type = 'adjust'
GROUP BY e.user_id, e.seq, 1
