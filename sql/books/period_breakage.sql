-- Sums what became of all batches opened before an instant, by month of their effective time and source. It reads every batch, and all
-- refunds and voids, which entries_by_reference finds.
-- $1 timestamptz: the instant; $2 text: the zone of the business
WITH parts AS (
    SELECT date_trunc('month', opened_at AT TIME ZONE $2)::date AS month, source, sum(amount) AS opened, 0 AS refunded, 0 AS voided,
           sum(expired) AS expired, sum(remaining) AS open
    FROM pointsd.batches
    WHERE opened_at < $1
    GROUP BY 1, 2
    UNION ALL
    SELECT date_trunc('month', b.opened_at AT TIME ZONE $2)::date, b.source, 0, sum(b.amount), 0, 0, 0
    FROM pointsd.entries AS e
    JOIN pointsd.batches AS b ON b.bucket = e.bucket AND b.user_id = e.user_id AND b.batch = e.batch
    WHERE e.refers_to IS NOT NULL AND e.type = 'refund' AND b.opened_at < $1
    GROUP BY 1, 2
    UNION ALL
    SELECT date_trunc('month', b.opened_at AT TIME ZONE $2)::date, b.source, 0, 0, sum(a.points), 0, 0
    FROM pointsd.entries AS e
    CROSS JOIN LATERAL unnest(e.allocated_batches, e.allocated_points) AS a (batch, points)
    JOIN pointsd.batches AS b ON b.bucket = e.bucket AND b.user_id = e.user_id AND b.batch = a.batch
    WHERE e.refers_to IS NOT NULL AND e.type = 'void' AND b.opened_at < $1
    GROUP BY 1, 2
)
SELECT month, source, pointsd.clamp_bigint(sum(opened) - sum(refunded)) AS issued, pointsd.clamp_bigint(sum(refunded)) AS refunded,
       pointsd.clamp_bigint(sum(voided)) AS voided, pointsd.clamp_bigint(sum(expired)) AS expired,
       pointsd.clamp_bigint(sum(open)) AS open
FROM parts
GROUP BY month, source
ORDER BY month, source
