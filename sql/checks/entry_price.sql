-- The batch of a refund opens with what its part of the consume had released. A void returns the share of its recharge's price that
-- belongs to all points voided, rounded down. Each is in the currency of the batch. Apart from recharges and openings of points, no
-- other entry has money of its own.
-- $1 uuid[]: the users; $2 smallint: their bucket
WITH back AS (
    SELECT e.user_id, e.seq, e.type, e.refers_to, e.amount, e.paid, e.currency,
           sum(e.amount::numeric) OVER (PARTITION BY e.user_id, e.refers_to ORDER BY e.seq) AS until
    FROM pointsd.entries AS e
    WHERE e.bucket = $2 AND e.user_id = ANY ($1::uuid[]) AND e.type IN ('refund', 'void')
), part AS (
    SELECT c.user_id, c.seq, t.points, t.paid, b.currency,
           c.amount - sum(t.points::numeric) OVER (PARTITION BY c.user_id, c.seq)
               + sum(t.points::numeric) OVER (PARTITION BY c.user_id, c.seq ORDER BY t.nth DESC) AS until
    FROM (SELECT DISTINCT user_id, refers_to FROM back WHERE type = 'refund') AS r
    JOIN pointsd.entries AS c ON c.bucket = $2 AND c.user_id = r.user_id AND c.seq = r.refers_to
    CROSS JOIN LATERAL unnest(c.allocated_batches, c.allocated_points, c.allocated_paid)
        WITH ORDINALITY AS t (batch, points, paid, nth)
    LEFT JOIN pointsd.batches AS b ON b.bucket = $2 AND b.user_id = c.user_id AND b.batch = t.batch
), owed AS (
    SELECT r.user_id, r.seq, r.paid, r.currency, p.currency AS of_currency,
           pointsd.price_part(p.paid, r.until - r.amount - (p.until - p.points), r.amount, p.points) AS owed
    FROM back AS r
    LEFT JOIN part AS p ON p.user_id = r.user_id AND p.seq = r.refers_to
        AND r.until <= p.until AND r.until - r.amount >= p.until - p.points
    WHERE r.type = 'refund'
    UNION ALL
    SELECT v.user_id, v.seq, v.paid, v.currency, r.currency, pointsd.price_part(r.paid, v.until - v.amount, v.amount, r.amount)
    FROM back AS v
    JOIN pointsd.entries AS r ON r.bucket = $2 AND r.user_id = v.user_id AND r.seq = v.refers_to
    WHERE v.type = 'void'
    UNION ALL
    SELECT user_id, seq, paid, currency, NULL, NULL
    FROM pointsd.entries
    WHERE bucket = $2 AND user_id = ANY ($1::uuid[]) AND type <> 'void'
      AND NOT pointsd.opens_batch(type, balance_after > balance_before)
      AND (paid IS NOT NULL OR currency IS NOT NULL)
)
SELECT user_id, NULL::integer AS batch, seq, coalesce(nullif(concat_ws(' ', owed, of_currency), ''), 'no money') AS expected,
       coalesce(nullif(concat_ws(' ', paid, currency), ''), 'no money') AS found, NULL::bigint AS points
FROM owed
WHERE paid IS DISTINCT FROM owed OR currency IS DISTINCT FROM of_currency
