-- An account's totals are the sums of its entries by type. What was restored counts against what expired. Adjust entries and
-- openings count by how they moved the balance.
-- $1 uuid[]: the users; $2 smallint: their bucket
SELECT a.user_id, NULL::integer AS batch, NULL::bigint AS seq,
       concat_ws(', ', CASE WHEN a.total_recharged <> s.recharged THEN 'recharged ' || s.recharged END,
                       CASE WHEN a.total_consumed <> s.consumed THEN 'consumed ' || s.consumed END,
                       CASE WHEN a.total_expired <> s.expired THEN 'expired ' || s.expired END,
                       CASE WHEN a.total_refunded <> s.refunded THEN 'refunded ' || s.refunded END,
                       CASE WHEN a.total_voided <> s.voided THEN 'voided ' || s.voided END,
                       CASE WHEN a.total_adjusted <> s.adjusted THEN 'adjusted ' || s.adjusted END,
                       CASE WHEN a.total_opening <> s.opened THEN 'opened ' || s.opened END) AS expected,
       concat_ws(', ', CASE WHEN a.total_recharged <> s.recharged THEN 'recharged ' || a.total_recharged END,
                       CASE WHEN a.total_consumed <> s.consumed THEN 'consumed ' || a.total_consumed END,
                       CASE WHEN a.total_expired <> s.expired THEN 'expired ' || a.total_expired END,
                       CASE WHEN a.total_refunded <> s.refunded THEN 'refunded ' || a.total_refunded END,
                       CASE WHEN a.total_voided <> s.voided THEN 'voided ' || a.total_voided END,
                       CASE WHEN a.total_adjusted <> s.adjusted THEN 'adjusted ' || a.total_adjusted END,
                       CASE WHEN a.total_opening <> s.opened THEN 'opened ' || a.total_opening END) AS found,
       -- Of several totals, the first one that differs.
       pointsd.clamp_bigint(CASE WHEN a.total_recharged <> s.recharged THEN a.total_recharged - s.recharged
                                 WHEN a.total_consumed <> s.consumed THEN a.total_consumed - s.consumed
                                 WHEN a.total_expired <> s.expired THEN a.total_expired - s.expired
                                 WHEN a.total_refunded <> s.refunded THEN a.total_refunded - s.refunded
                                 WHEN a.total_voided <> s.voided THEN a.total_voided - s.voided
                                 WHEN a.total_adjusted <> s.adjusted THEN a.total_adjusted - s.adjusted
                                 ELSE a.total_opening - s.opened END) AS points
FROM pointsd.accounts AS a
CROSS JOIN LATERAL (
    SELECT coalesce(sum(e.amount) FILTER (WHERE e.type = 'recharge'), 0) AS recharged,
           coalesce(sum(e.amount) FILTER (WHERE e.type = 'consume'), 0) AS consumed,
           coalesce(sum(CASE e.type WHEN 'restore' THEN -e.amount::numeric ELSE e.amount END)
                        FILTER (WHERE e.type IN ('expire', 'restore')), 0) AS expired,
           coalesce(sum(e.amount) FILTER (WHERE e.type = 'refund'), 0) AS refunded,
           coalesce(sum(e.amount) FILTER (WHERE e.type = 'void'), 0) AS voided,
           coalesce(sum(e.balance_after::numeric - e.balance_before) FILTER (WHERE e.type = 'adjust'), 0) AS adjusted,
           coalesce(sum(e.balance_after::numeric - e.balance_before) FILTER (WHERE e.type = 'opening'), 0) AS opened
    FROM pointsd.entries AS e
    WHERE e.bucket = $2 AND e.user_id = a.user_id
) AS s
WHERE a.bucket = $2 AND a.user_id = ANY ($1::uuid[])
  AND (a.total_recharged <> s.recharged OR a.total_consumed <> s.consumed OR a.total_expired <> s.expired
       OR a.total_refunded <> s.refunded OR a.total_voided <> s.voided OR a.total_adjusted <> s.adjusted
       OR a.total_opening <> s.opened)
