-- An account's totals are the sums of its entries by type. Adjust entries count by how they moved the balance.
-- $1 uuid[]: the users
SELECT a.user_id, NULL::integer AS batch, NULL::bigint AS seq,
       concat_ws(', ', CASE WHEN a.total_recharged <> s.recharged THEN 'recharged ' || s.recharged END,
                       CASE WHEN a.total_consumed <> s.consumed THEN 'consumed ' || s.consumed END,
                       CASE WHEN a.total_expired <> s.expired THEN 'expired ' || s.expired END,
                       CASE WHEN a.total_adjusted <> s.adjusted THEN 'adjusted ' || s.adjusted END) AS expected,
       concat_ws(', ', CASE WHEN a.total_recharged <> s.recharged THEN 'recharged ' || a.total_recharged END,
                       CASE WHEN a.total_consumed <> s.consumed THEN 'consumed ' || a.total_consumed END,
                       CASE WHEN a.total_expired <> s.expired THEN 'expired ' || a.total_expired END,
                       CASE WHEN a.total_adjusted <> s.adjusted THEN 'adjusted ' || a.total_adjusted END) AS found,
       -- Of several totals, the first one that differs.
       pointsd.clamp_bigint(CASE WHEN a.total_recharged <> s.recharged THEN a.total_recharged - s.recharged
                                 WHEN a.total_consumed <> s.consumed THEN a.total_consumed - s.consumed
                                 WHEN a.total_expired <> s.expired THEN a.total_expired - s.expired
                                 ELSE a.total_adjusted - s.adjusted END) AS points
FROM pointsd.accounts AS a
CROSS JOIN LATERAL (
    SELECT coalesce(sum(e.amount) FILTER (WHERE e.type = 'recharge'), 0) AS recharged,
           coalesce(sum(e.amount) FILTER (WHERE e.type = 'consume'), 0) AS consumed,
           coalesce(sum(e.amount) FILTER (WHERE e.type = 'expire'), 0) AS expired,
           coalesce(sum(e.balance_after::numeric - e.balance_before) FILTER (WHERE e.type = 'adjust'), 0) AS adjusted
    FROM pointsd.entries AS e
    WHERE e.bucket = 0 AND e.user_id = a.user_id
) AS s
WHERE a.bucket = 0 AND a.user_id = ANY ($1::uuid[])
  AND (a.total_recharged <> s.recharged OR a.total_consumed <> s.consumed
       OR a.total_expired <> s.expired OR a.total_adjusted <> s.adjusted)
