-- $1 uuid, $2 uuid: first and last user
SELECT user_id, seq, type, amount, balance_before, balance_after, source_type, source_id, batch,
       allocated_batches, allocated_points, at, duration, description, refers_to, asked, key, drawing_rule,
       recorded_at, correction, paid, currency, allocated_paid
FROM pointsd.entries
WHERE bucket = 0 AND user_id BETWEEN $1 AND $2
ORDER BY user_id, seq
