-- $1 uuid, $2 uuid: first and last user; $3 smallint: the bucket
SELECT user_id, batch, amount, remaining, expired, source, opened_at, expires_at, paid, currency
FROM pointsd.batches
WHERE bucket = $3::smallint AND user_id BETWEEN $1 AND $2
ORDER BY user_id, batch
