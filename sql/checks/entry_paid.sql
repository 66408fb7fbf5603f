-- After each entry, a batch has released the share of its price that belongs to all points that are gone, rounded down. A restore
-- gives back what the restored points had released by their expiry: the expired points' share is rounded up. Batches without a price
-- release nothing, and each allocation has its own money. The finding is the first entry of a batch that breaks this.
-- $1 uuid[]: the users; $2 smallint: their bucket
WITH allocation AS (
    SELECT e.user_id, e.seq, e.type, t.batch, t.points, t.paid, b.paid AS price, b.currency, b.amount,
           sum(CASE e.type WHEN 'restore' THEN -t.points::numeric ELSE t.points END) OVER life AS gone,
           coalesce(sum(CASE e.type WHEN 'restore' THEN -t.paid::numeric ELSE t.paid END) OVER life, 0) AS released,
           sum(CASE e.type WHEN 'restore' THEN -t.points::numeric WHEN 'expire' THEN t.points ELSE 0 END) OVER life AS expired
    FROM pointsd.entries AS e
    CROSS JOIN LATERAL unnest(e.allocated_batches, e.allocated_points, e.allocated_paid) AS t (batch, points, paid)
    JOIN pointsd.batches AS b ON b.bucket = $2 AND b.user_id = e.user_id AND b.batch = t.batch
    WHERE e.bucket = $2 AND e.user_id = ANY ($1::uuid[]) AND (b.paid IS NOT NULL OR t.paid IS NOT NULL)
    WINDOW life AS (PARTITION BY e.user_id, t.batch ORDER BY e.seq)
), owed AS (
    SELECT user_id, seq, batch, paid, currency,
           CASE WHEN price IS NULL THEN NULL
                WHEN type = 'restore' THEN pointsd.price_part(price, amount - expired - points, points, amount)
                ELSE coalesce(paid, 0) + pointsd.price_part(price, 0, gone, amount) - released END AS owed
    FROM allocation
)
(SELECT DISTINCT ON (user_id, batch) user_id, batch, seq, coalesce(owed || ' ' || currency, 'no money') AS expected,
       coalesce(paid || coalesce(' ' || currency, ''), 'no money') AS found, NULL::bigint AS points
FROM owed
WHERE paid IS DISTINCT FROM owed
ORDER BY user_id, batch, seq)
UNION ALL
SELECT user_id, NULL, seq, format('money of %s allocations', cardinality(allocated_batches)),
       format('money of %s', cardinality(allocated_paid)), NULL
FROM pointsd.entries
WHERE bucket = $2 AND user_id = ANY ($1::uuid[]) AND cardinality(allocated_paid) <> cardinality(allocated_batches)
