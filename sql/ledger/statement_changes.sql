-- By how much each total of accounts grew by a stretch of their entries.
-- $1 uuid[]: the users; $2 bigint[], $3 bigint[]: of each the entry before the stretch, and its last one; $4 smallint: the users' bucket
SELECT s.user_id, c.total_recharged, c.total_consumed, c.total_expired, c.total_refunded, c.total_voided, c.total_adjusted,
       c.total_opening
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS s (user_id, low, high)
CROSS JOIN LATERAL (
    SELECT coalesce(sum(e.amount) FILTER (WHERE e.type = 'recharge'), 0)::bigint AS total_recharged,
           coalesce(sum(e.amount) FILTER (WHERE e.type = 'consume'), 0)::bigint AS total_consumed,
           coalesce(sum(CASE e.type WHEN 'expire' THEN e.amount WHEN 'restore' THEN -e.amount END), 0)::bigint AS total_expired,
           coalesce(sum(e.amount) FILTER (WHERE e.type = 'refund'), 0)::bigint AS total_refunded,
           coalesce(sum(e.amount) FILTER (WHERE e.type = 'void'), 0)::bigint AS total_voided,
           coalesce(sum(e.balance_after - e.balance_before) FILTER (WHERE e.type = 'adjust'), 0)::bigint AS total_adjusted,
           coalesce(sum(e.balance_after - e.balance_before) FILTER (WHERE e.type = 'opening'), 0)::bigint AS total_opening
    FROM pointsd.entries AS e
    WHERE e.bucket = $4::smallint AND e.user_id = s.user_id AND e.seq > s.low AND e.seq <= s.high
) AS c
ORDER BY s.user_id
