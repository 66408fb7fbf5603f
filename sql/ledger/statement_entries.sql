-- The entries of a stretch of each account's history.
-- $1 uuid[]: the users; $2 bigint[], $3 bigint[]: of each the entry before the stretch, and its last one; $4 smallint: the users' bucket
SELECT e.user_id, e.seq, e.type, e.amount, e.balance_before, e.balance_after, e.source_type, e.source_id, e.batch,
       e.allocated_batches, e.allocated_points, e.at, e.duration, e.description, e.refers_to, e.asked, e.key, e.drawing_rule,
       e.recorded_at, e.correction, e.paid, e.currency, e.allocated_paid
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS s (user_id, low, high)
CROSS JOIN LATERAL (
    SELECT * FROM pointsd.entries AS n
    WHERE n.bucket = $4::smallint AND n.user_id = s.user_id AND n.seq > s.low AND n.seq <= s.high
) AS e
ORDER BY e.user_id, e.seq
