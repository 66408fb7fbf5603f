-- What entries of a bucket recorded in a span did to batches, by the borders between which these expire: points that were brought in, issued or
-- refunded (a settled part never came into its batch), used, voided, expired and restored, and by how much repairs changed the
-- batches' rows.
-- What expired by the first border needs no look-up: its batch expires by then. OFFSET 0 keeps the others to their batches.
-- $1 timestamptz: entries recorded later …; $2 timestamptz: … and up to this instant; $3 timestamptz[]: the borders, in order;
-- $4 smallint: the bucket
SELECT b.part,
       pointsd.clamp_bigint(coalesce(sum(f.points) FILTER (WHERE e.type = 'opening'), 0)) AS opened,
       pointsd.clamp_bigint(coalesce(sum(f.points) FILTER (WHERE e.type = 'recharge'), 0)) AS issued,
       pointsd.clamp_bigint(coalesce(sum(f.points) FILTER (WHERE e.type = 'refund'), 0)) AS refunded,
       pointsd.clamp_bigint(coalesce(sum(f.points) FILTER (WHERE e.type = 'consume'), 0)) AS used,
       pointsd.clamp_bigint(coalesce(sum(f.points) FILTER (WHERE e.type = 'void'), 0)) AS voided,
       pointsd.clamp_bigint(coalesce(sum(f.points) FILTER (WHERE e.type = 'expire'), 0)) AS expired,
       pointsd.clamp_bigint(coalesce(sum(f.points) FILTER (WHERE e.type = 'restore'), 0)) AS restored,
       pointsd.clamp_bigint(coalesce(sum(f.points) FILTER (WHERE e.type = 'adjust'), 0)) AS corrected
FROM pointsd.entries AS e
CROSS JOIN LATERAL (
    SELECT e.batch, e.amount - (SELECT coalesce(sum(settled), 0) FROM unnest(e.allocated_points) AS settled) AS points
    WHERE e.batch IS NOT NULL
    UNION ALL
    SELECT part.batch, part.points
    FROM unnest(e.allocated_batches, e.allocated_points) AS part (batch, points)
    WHERE e.type IN ('consume', 'void', 'expire', 'restore')
    UNION ALL
    SELECT (c.change ->> 'batch')::integer,
           CASE WHEN (c.change -> 'after' ->> 'open')::boolean THEN (c.change -> 'after' ->> 'remaining')::bigint ELSE 0 END
           - CASE WHEN (c.change -> 'before' ->> 'open')::boolean THEN (c.change -> 'before' ->> 'remaining')::bigint ELSE 0 END
    FROM jsonb_array_elements(e.correction -> 'batches') AS c (change)
    WHERE e.type = 'adjust'
) AS f
CROSS JOIN LATERAL (
    SELECT 0 AS part
    WHERE e.type = 'expire' AND e.at <= ($3::timestamptz[])[1]
    UNION ALL
    SELECT width_bucket(b.expires_at - interval '1 microsecond', $3::timestamptz[])
    FROM pointsd.batches AS b
    WHERE b.bucket = $4::smallint AND b.user_id = e.user_id AND b.batch = f.batch
      AND NOT (e.type = 'expire' AND e.at <= ($3::timestamptz[])[1])
    OFFSET 0
) AS b
WHERE e.bucket = $4::smallint AND e.recorded_at > $1 AND e.recorded_at <= $2
GROUP BY 1
