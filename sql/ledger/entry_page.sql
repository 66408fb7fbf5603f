-- The entries of an account, the oldest first.
-- $1 uuid: the user; $2 bigint, $3 bigint: numbers between these two; $4 to $7 timestamptz: effective from and before,
-- recorded from and before, or null; $8 text: the type, or null; $9 text: the source type, or null; $10 bigint: at most so many
SELECT user_id, seq, type, amount, balance_before, balance_after, source_type, source_id, batch,
       allocated_batches, allocated_points, at, duration, description, refers_to, asked, key, drawing_rule,
       recorded_at, correction, paid, currency, allocated_paid
FROM pointsd.entries
WHERE bucket = pointsd.bucket_of($1) AND user_id = $1 AND seq > $2 AND seq < $3
  AND ($4::timestamptz IS NULL OR at >= $4) AND ($5::timestamptz IS NULL OR at < $5)
  AND ($6::timestamptz IS NULL OR recorded_at >= $6) AND ($7::timestamptz IS NULL OR recorded_at < $7)
  AND ($8::text IS NULL OR type = $8) AND ($9::text IS NULL OR source_type = $9)
ORDER BY seq
LIMIT $10
