-- Points in batches that were due by the end of a period: expired by a later entry, or still open. A batch that a later entry opened
-- was not there at the end. OFFSET 0 has the later entries found by the time of their recording.
-- $1 timestamptz: the first instant after the period
WITH later AS MATERIALIZED (
    SELECT bucket, user_id, type, batch, allocated_batches, allocated_points
    FROM pointsd.entries
    WHERE recorded_at >= $1 AND (type = 'expire' OR batch IS NOT NULL)
    OFFSET 0
), parts AS (
    SELECT e.bucket, e.user_id, a.batch, b.source, a.points AS booked, 0::bigint AS open
    FROM later AS e
    CROSS JOIN LATERAL unnest(e.allocated_batches, e.allocated_points) AS a (batch, points)
    CROSS JOIN LATERAL (
        SELECT b.source, b.expires_at
        FROM pointsd.batches AS b
        WHERE b.bucket = e.bucket AND b.user_id = e.user_id AND b.batch = a.batch
        OFFSET 0
    ) AS b
    WHERE e.type = 'expire' AND b.expires_at <= $1
    UNION ALL
    SELECT bucket, user_id, batch, source, 0, remaining FROM pointsd.batches WHERE open AND expires_at <= $1
)
SELECT p.source, count(*) AS batches, pointsd.clamp_bigint(sum(p.booked)) AS booked, pointsd.clamp_bigint(sum(p.open)) AS open
FROM parts AS p
WHERE NOT EXISTS (
    SELECT FROM later AS l WHERE l.bucket = p.bucket AND l.user_id = p.user_id AND l.batch = p.batch
)
GROUP BY p.source
ORDER BY p.source
