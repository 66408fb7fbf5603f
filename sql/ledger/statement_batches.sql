-- The batches that were open after an entry of each account, and what remained in them: what remains now, and what later entries
-- took. A batch that a later entry opened is left out.
-- $1 uuid[]: the users; $2 bigint[]: of each the entry; $3 smallint: the users' bucket
SELECT s.user_id, b.batch, b.source, b.amount, b.remaining, b.opened_at, b.expires_at
FROM unnest($1::uuid[], $2::bigint[]) AS s (user_id, seq)
CROSS JOIN LATERAL (
    WITH later AS MATERIALIZED (
        SELECT e.type, e.batch, e.allocated_batches, e.allocated_points
        FROM pointsd.entries AS e
        WHERE e.bucket = $3::smallint AND e.user_id = s.user_id AND e.seq > s.seq
    ),
    taken AS MATERIALIZED (
        SELECT t.batch, sum(CASE l.type WHEN 'restore' THEN -t.points ELSE t.points END)::bigint AS points
        FROM later AS l
        CROSS JOIN LATERAL unnest(l.allocated_batches, l.allocated_points) AS t (batch, points)
        GROUP BY t.batch
    ),
    found AS (
        SELECT n.batch, n.source, n.amount, n.remaining, n.opened_at, n.expires_at
        FROM pointsd.batches AS n
        WHERE n.bucket = $3::smallint AND n.user_id = s.user_id AND n.open
        UNION ALL
        SELECT n.batch, n.source, n.amount, n.remaining, n.opened_at, n.expires_at
        FROM taken AS t
        JOIN pointsd.batches AS n ON n.bucket = $3::smallint AND n.user_id = s.user_id AND n.batch = t.batch
        WHERE NOT n.open
    )
    SELECT f.batch, f.source, f.amount, f.remaining + coalesce(t.points, 0) AS remaining, f.opened_at, f.expires_at
    FROM found AS f
    LEFT JOIN taken AS t ON t.batch = f.batch
    WHERE f.remaining + coalesce(t.points, 0) > 0
      AND f.batch < coalesce((SELECT min(l.batch) FROM later AS l), f.batch + 1)
) AS b
ORDER BY s.user_id, b.expires_at, b.batch
