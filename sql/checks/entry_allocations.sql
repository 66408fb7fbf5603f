-- An entry's allocations name existing batches, each once and with points. Together they come to what the entry took from
-- batches: its amount, less the part that went into arrears. A recharge or a refund allocates only the part that settled arrears,
-- an opening nothing.
-- A consume draws at least what was restored directly before it, also in arrears.
-- The allocations of an adjust entry are signed: above zero was taken out of a batch, below zero put back.
-- $1 uuid[]: the users; $2 smallint: their bucket
WITH numbered AS (
    -- Consecutive restores and the entry after them lie in one run.
    SELECT user_id, seq, type, amount,
           count(*) FILTER (WHERE type <> 'restore')
               OVER (PARTITION BY user_id ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS run
    FROM pointsd.entries
    WHERE bucket = $2 AND user_id = ANY ($1::uuid[])
), run AS (
    SELECT user_id, seq,
           coalesce(sum(amount::numeric) FILTER (WHERE type = 'restore') OVER (PARTITION BY user_id, run), 0) AS restored
    FROM numbered
), entry AS (
    SELECT e.user_id, e.seq, e.type, e.allocated_batches, e.allocated_points,
           CASE WHEN e.type IN ('recharge', 'refund') THEN least(e.amount::numeric, greatest(0, -e.balance_before::numeric))
                WHEN e.type = 'consume' THEN least(e.amount::numeric, greatest(r.restored, e.balance_before::numeric))
                WHEN e.type = 'void' THEN least(e.amount::numeric, greatest(0, e.balance_before::numeric))
                WHEN e.type = 'adjust' THEN greatest(0, e.balance_before::numeric) - greatest(0, e.balance_after::numeric)
                WHEN e.type = 'opening' THEN 0
                ELSE e.amount END AS owed,
           coalesce(cardinality(e.allocated_batches), -1) AS batches,
           coalesce(cardinality(e.allocated_points), -1) AS points,
           s.named, s.allocated, s.pointless, s.missing
    FROM run AS r
    JOIN pointsd.entries AS e ON e.bucket = $2 AND e.user_id = r.user_id AND e.seq = r.seq
    CROSS JOIN LATERAL (
        SELECT count(DISTINCT t.batch) AS named, coalesce(sum(t.points), 0) AS allocated,
               count(*) FILTER (WHERE (CASE e.type WHEN 'adjust' THEN t.points <> 0 ELSE t.points > 0 END) IS NOT TRUE)
                   AS pointless,
               min(t.batch) FILTER (WHERE b.batch IS NULL) AS missing
        FROM unnest(e.allocated_batches, e.allocated_points) AS t (batch, points)
        LEFT JOIN pointsd.batches AS b ON b.bucket = $2 AND b.user_id = e.user_id AND b.batch = t.batch
    ) AS s
    WHERE e.user_id = ANY ($1::uuid[])
)
SELECT user_id, CASE WHEN batches = points AND named = batches THEN missing END AS batch, seq,
       CASE WHEN batches <> points OR batches < 0 THEN 'as many batches as points'
            WHEN named <> batches THEN 'each batch once'
            WHEN missing IS NOT NULL THEN 'batch ' || missing
            WHEN pointless > 0 THEN 'points in each batch'
            ELSE owed || ' points from batches' END AS expected,
       CASE WHEN batches <> points OR batches < 0 THEN format('batches %s, points %s', allocated_batches, allocated_points)
            WHEN named <> batches THEN 'batches ' || allocated_batches::text
            WHEN missing IS NOT NULL THEN 'no such batch'
            WHEN pointless > 0 THEN 'points ' || allocated_points::text
            ELSE allocated || ' points from batches' END AS found,
       CASE WHEN batches = points AND named = batches AND missing IS NULL AND pointless = 0
            THEN pointsd.clamp_bigint(allocated - owed) END AS points
FROM entry
WHERE batches <> points OR batches < 0 OR named <> batches OR missing IS NOT NULL OR pointless > 0 OR allocated <> owed
