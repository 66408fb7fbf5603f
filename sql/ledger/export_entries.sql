-- $1 uuid, $2 uuid: first and last user; $3 to $6 timestamptz: effective from and before, recorded from and before, or null;
-- $7 text: the type, or null; $8 text: the source type, or null; $9 smallint: the bucket
SELECT user_id, seq, type, amount, balance_before, balance_after, source_type, source_id, batch,
       allocated_batches, allocated_points, at, duration, description, refers_to, asked, key, drawing_rule,
       recorded_at, correction, paid, currency, allocated_paid
FROM pointsd.entries
WHERE bucket = $9::smallint AND user_id BETWEEN $1 AND $2
  AND ($3::timestamptz IS NULL OR at >= $3) AND ($4::timestamptz IS NULL OR at < $4)
  AND ($5::timestamptz IS NULL OR recorded_at >= $5) AND ($6::timestamptz IS NULL OR recorded_at < $6)
  AND ($7::text IS NULL OR type = $7) AND ($8::text IS NULL OR source_type = $8)
ORDER BY user_id, seq
