-- Sums the money recorded in a span of time, by day, currency and source of the batches. A refund takes its price back from use. A void
-- returns its money, and takes it back from use: what its own batch releases counts as used, as any draw does.
-- $1 timestamptz, $2 timestamptz: from, and up to, without it; null: no limit
-- $3 timestamptz[]: the begins of the second day, the third, and so on; the first day is number 0
WITH by_entry AS (
    SELECT width_bucket(recorded_at, $3::timestamptz[]) AS nth, type, currency, source_type AS source, sum(paid) AS paid
    FROM pointsd.entries
    WHERE recorded_at >= coalesce($1::timestamptz, '-infinity') AND recorded_at < coalesce($2::timestamptz, 'infinity')
      AND paid IS NOT NULL
    GROUP BY 1, 2, 3, 4
), by_allocation AS (
    SELECT width_bucket(e.recorded_at, $3::timestamptz[]) AS nth, e.type, b.currency, b.source, sum(a.paid) AS paid
    FROM pointsd.entries AS e
    CROSS JOIN LATERAL unnest(e.allocated_batches, e.allocated_paid) AS a (batch, paid)
    JOIN pointsd.batches AS b ON b.bucket = e.bucket AND b.user_id = e.user_id AND b.batch = a.batch
    WHERE e.recorded_at >= coalesce($1::timestamptz, '-infinity') AND e.recorded_at < coalesce($2::timestamptz, 'infinity')
      AND e.allocated_paid IS NOT NULL AND a.paid IS NOT NULL AND b.currency IS NOT NULL
    GROUP BY 1, 2, 3, 4
), parts (nth, currency, source, opened, sold, used, expired, returned, corrected) AS (
    SELECT nth, currency, source, CASE type WHEN 'opening' THEN paid ELSE 0 END, CASE type WHEN 'recharge' THEN paid ELSE 0 END,
           CASE WHEN type IN ('refund', 'void') THEN -paid ELSE 0 END, 0, CASE type WHEN 'void' THEN paid ELSE 0 END, 0
    FROM by_entry
    UNION ALL
    SELECT nth, currency, source, 0, 0, CASE WHEN type IN ('recharge', 'refund', 'consume', 'void') THEN paid ELSE 0 END,
           CASE type WHEN 'expire' THEN paid WHEN 'restore' THEN -paid ELSE 0 END, 0,
           CASE type WHEN 'adjust' THEN -paid ELSE 0 END
    FROM by_allocation
)
SELECT nth, currency, source, pointsd.clamp_bigint(sum(opened)) AS opened, pointsd.clamp_bigint(sum(sold)) AS sold, pointsd.clamp_bigint(sum(used)) AS used,
       pointsd.clamp_bigint(sum(expired)) AS expired, pointsd.clamp_bigint(sum(returned)) AS returned,
       pointsd.clamp_bigint(sum(corrected)) AS corrected
FROM parts
GROUP BY nth, currency, source
ORDER BY nth, currency, source
