-- What the books held at the end of a period of a bucket's batches that were due by then, and what became of it: by later entries, or still open.
-- At the end a batch held what remains now and what later entries took. So the figures do not depend on the order in which late
-- usage and the expiry were recorded. A batch that a later entry opened was not there at the end.
-- $1 timestamptz: the first instant after the period; $2 smallint: the bucket
WITH later AS MATERIALIZED (
    SELECT e.user_id, t.batch, bool_or(t.opened) AS opened, sum(t.expired) AS expired, sum(t.used) AS used,
           sum(t.other) AS other
    FROM (SELECT * FROM pointsd.entries WHERE bucket = $2::smallint AND recorded_at >= $1 OFFSET 0) AS e -- found by the time of recording
    CROSS JOIN LATERAL (
        SELECT e.batch, true AS opened, 0::bigint AS expired, 0::bigint AS used, 0::bigint AS other
        WHERE e.batch IS NOT NULL
        UNION ALL
        SELECT part.batch, false, CASE e.type WHEN 'expire' THEN part.points WHEN 'restore' THEN -part.points ELSE 0 END,
               CASE e.type WHEN 'consume' THEN part.points ELSE 0 END, CASE e.type WHEN 'void' THEN part.points ELSE 0 END
        FROM unnest(e.allocated_batches, e.allocated_points) AS part (batch, points)
        WHERE e.type IN ('consume', 'void', 'expire', 'restore')
        UNION ALL -- what a repair took is the change of the batch's row
        SELECT (c.change ->> 'batch')::integer, false, 0, 0,
               CASE WHEN (c.change -> 'before' ->> 'open')::boolean THEN (c.change -> 'before' ->> 'remaining')::bigint ELSE 0 END
               - CASE WHEN (c.change -> 'after' ->> 'open')::boolean THEN (c.change -> 'after' ->> 'remaining')::bigint ELSE 0 END
        FROM jsonb_array_elements(e.correction -> 'batches') AS c (change)
        WHERE e.type = 'adjust'
    ) AS t
    GROUP BY e.user_id, t.batch
), parts AS (
    SELECT b.source, l.expired, l.used, l.other, b.remaining AS open
    FROM later AS l
    CROSS JOIN LATERAL (
        SELECT b.source, b.expires_at, b.remaining
        FROM pointsd.batches AS b
        WHERE b.bucket = $2::smallint AND b.user_id = l.user_id AND b.batch = l.batch
        OFFSET 0
    ) AS b
    WHERE NOT l.opened AND b.expires_at <= $1
    UNION ALL
    SELECT b.source, 0, 0, 0, b.remaining
    FROM pointsd.batches AS b
    WHERE b.bucket = $2::smallint AND b.open AND b.expires_at <= $1 -- found by expiry
      AND NOT EXISTS (
          SELECT FROM later AS l WHERE l.user_id = b.user_id AND l.batch = b.batch
      )
)
SELECT source, count(*) AS batches, pointsd.clamp_bigint(sum(expired)) AS expired, pointsd.clamp_bigint(sum(used)) AS used,
       pointsd.clamp_bigint(sum(other)) AS other, pointsd.clamp_bigint(sum(open)) AS open
FROM parts
WHERE expired + used + other + open <> 0
GROUP BY source
ORDER BY source
