-- What entries did to the batches that expire between borders: points that came (what a recharge settled at once never
-- came into its batch), that were spent, and that expired.
-- $1 timestamptz: entries recorded later; $2 timestamptz[]: the borders, in order
SELECT width_bucket(b.expires_at - interval '1 microsecond', $2::timestamptz[]) AS part,
       coalesce(sum(e.amount) FILTER (WHERE e.type = 'recharge'), 0)::bigint
           - coalesce(sum(e.points) FILTER (WHERE e.type = 'recharge'), 0)::bigint AS recharged,
       coalesce(sum(e.points) FILTER (WHERE e.type = 'consume'), 0)::bigint AS spent,
       coalesce(sum(e.points) FILTER (WHERE e.type = 'expire'), 0)::bigint AS expired
FROM (
    SELECT e.user_id, e.type, e.batch, e.amount,
           (SELECT coalesce(sum(p), 0) FROM unnest(e.allocated_points) AS p) AS points
    FROM pointsd.entries AS e
    WHERE e.recorded_at > $1 AND e.type = 'recharge'
    UNION ALL
    SELECT e.user_id, e.type, part.batch, 0, part.points
    FROM pointsd.entries AS e
    CROSS JOIN LATERAL unnest(e.allocated_batches, e.allocated_points) AS part (batch, points)
    WHERE e.recorded_at > $1 AND e.type IN ('consume', 'expire')
) AS e
CROSS JOIN LATERAL (
    SELECT b.expires_at FROM pointsd.batches AS b WHERE b.user_id = e.user_id AND b.batch = e.batch OFFSET 0
) AS b
GROUP BY 1
