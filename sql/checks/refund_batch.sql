-- Points come back in reverse drawing order: first what no batch had covered, then what was drawn last. Each refund entry is of
-- one such part. Its batch has the source of the batch that the part was drawn from, and does not expire before that. The part
-- that no batch had covered has the source `refund`.
-- $1 uuid[]: the users; $2 smallint: their bucket
WITH refund AS (
    SELECT r.user_id, r.seq, r.refers_to, r.batch, r.source_type AS source, r.amount,
           sum(r.amount) OVER (PARTITION BY r.user_id, r.refers_to ORDER BY r.seq) AS until
    FROM pointsd.entries AS r
    WHERE r.bucket = $2 AND r.user_id = ANY ($1::uuid[]) AND r.type = 'refund'
), consume AS (
    SELECT c.user_id, c.seq, c.amount, c.allocated_batches, c.allocated_points,
           (SELECT coalesce(sum(p), 0) FROM unnest(c.allocated_points) AS p) AS covered
    FROM (SELECT DISTINCT user_id, refers_to FROM refund) AS r
    JOIN pointsd.entries AS c ON c.bucket = $2 AND c.user_id = r.user_id AND c.seq = r.refers_to
), part AS (
    SELECT user_id, seq, NULL::integer AS batch, 'refund' AS source, NULL::timestamptz AS expires_at, amount - covered AS points,
           amount - covered AS until
    FROM consume
    UNION ALL
    SELECT c.user_id, c.seq, t.batch, b.source, b.expires_at, t.points,
           c.amount - c.covered + sum(t.points) OVER (PARTITION BY c.user_id, c.seq ORDER BY t.nth DESC)
    FROM consume AS c
    CROSS JOIN LATERAL unnest(c.allocated_batches, c.allocated_points) WITH ORDINALITY AS t (batch, points, nth)
    LEFT JOIN pointsd.batches AS b ON b.bucket = $2 AND b.user_id = c.user_id AND b.batch = t.batch
)
SELECT DISTINCT ON (r.user_id, r.seq) r.user_id, r.batch, r.seq,
       CASE WHEN p.seq IS NULL THEN concat('the points of one part of entry ', r.refers_to)
            WHEN p.source <> r.source THEN 'source ' || p.source
            ELSE 'expires from ' || (p.expires_at AT TIME ZONE 'UTC') || ' UTC' END AS expected,
       CASE WHEN p.seq IS NULL THEN format('its points %s to %s', r.until - r.amount + 1, r.until)
            WHEN p.source <> r.source THEN 'source ' || r.source
            ELSE 'expires ' || (b.expires_at AT TIME ZONE 'UTC') || ' UTC' END AS found,
       NULL::bigint AS points
FROM refund AS r
LEFT JOIN part AS p ON p.user_id = r.user_id AND p.seq = r.refers_to
    AND r.until <= p.until AND r.until - r.amount >= p.until - p.points
LEFT JOIN pointsd.batches AS b ON b.bucket = $2 AND b.user_id = r.user_id AND b.batch = r.batch
WHERE p.seq IS NULL OR p.source <> r.source OR b.expires_at < p.expires_at
ORDER BY r.user_id, r.seq, p.until
