-- What open batches held as of an instant, by source and by the borders between which they expire. It reads every open batch,
-- since the report shows all of them, and undoes what later entries did: a batch that one of them opened was not there, and
-- points that they took were.
-- $1 timestamptz: the instant; $2 timestamptz[]: the borders, in order: part 0 expires by the first border, part n after the
-- nth and by the next
WITH later AS MATERIALIZED (
    SELECT e.bucket, e.user_id, t.batch, bool_or(t.opened) AS opened, sum(t.points)::bigint AS points
    FROM pointsd.entries AS e
    CROSS JOIN LATERAL (
        SELECT e.batch, true AS opened, 0::bigint AS points
        WHERE e.type = 'recharge'
        UNION ALL
        SELECT part.batch, false, part.points
        FROM unnest(e.allocated_batches, e.allocated_points) AS part (batch, points)
        WHERE e.type <> 'recharge'
    ) AS t
    WHERE e.recorded_at > $1
    GROUP BY e.bucket, e.user_id, t.batch
), held AS (
    SELECT source, expires_at, 1 AS batches, remaining AS points
    FROM pointsd.batches
    WHERE open
    UNION ALL
    SELECT b.source, b.expires_at, (NOT l.opened AND b.remaining + l.points > 0)::integer - b.open::integer,
           CASE WHEN l.opened THEN -b.remaining ELSE l.points END
    FROM later AS l
    CROSS JOIN LATERAL (
        SELECT b.source, b.expires_at, b.open, b.remaining
        FROM pointsd.batches AS b
        WHERE b.bucket = l.bucket AND b.user_id = l.user_id AND b.batch = l.batch
        OFFSET 0
    ) AS b
)
SELECT source, width_bucket(expires_at - interval '1 microsecond', $2::timestamptz[]) AS part,
       sum(batches) AS batches, sum(points)::bigint AS points
FROM held
GROUP BY 1, 2
HAVING sum(batches) <> 0 OR sum(points) <> 0
