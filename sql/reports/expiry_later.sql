-- What open batches of a bucket held as of an instant less what they hold now, by source and by the borders between which they expire: a
-- batch that a later entry opened was not there, and points that later entries took were, and points that
-- they restored were not.
-- $1 timestamptz: the instant; $2 timestamptz[]: the borders, in order; $3 smallint: the bucket
WITH later AS MATERIALIZED (
    SELECT e.user_id, t.batch, bool_or(t.opened) AS opened, sum(t.points)::bigint AS points
    FROM (SELECT * FROM pointsd.entries WHERE bucket = $3::smallint AND recorded_at > $1 OFFSET 0) AS e
    CROSS JOIN LATERAL (
        SELECT e.batch, true AS opened, 0::bigint AS points
        WHERE e.batch IS NOT NULL
        UNION ALL
        SELECT part.batch, false, CASE e.type WHEN 'restore' THEN -part.points ELSE part.points END
        FROM unnest(e.allocated_batches, e.allocated_points) AS part (batch, points)
        WHERE e.type IN ('consume', 'void', 'expire', 'restore')
        UNION ALL -- what a repair took is the change of the batch's row
        SELECT (c.change ->> 'batch')::integer, false,
               CASE WHEN (c.change -> 'before' ->> 'open')::boolean THEN (c.change -> 'before' ->> 'remaining')::bigint ELSE 0 END
               - CASE WHEN (c.change -> 'after' ->> 'open')::boolean THEN (c.change -> 'after' ->> 'remaining')::bigint ELSE 0 END
        FROM jsonb_array_elements(e.correction -> 'batches') AS c (change)
        WHERE e.type = 'adjust'
    ) AS t
    GROUP BY e.user_id, t.batch
)
SELECT b.source, width_bucket(b.expires_at - interval '1 microsecond', $2::timestamptz[]) AS part,
       sum((NOT l.opened AND b.remaining + l.points > 0)::integer - b.open::integer) AS batches,
       pointsd.clamp_bigint(sum(CASE WHEN l.opened THEN -b.remaining ELSE l.points END)) AS points
FROM later AS l
CROSS JOIN LATERAL (
    SELECT b.source, b.expires_at, b.open, b.remaining
    FROM pointsd.batches AS b
    WHERE b.bucket = $3::smallint AND b.user_id = l.user_id AND b.batch = l.batch
    OFFSET 0
) AS b
GROUP BY 1, 2
