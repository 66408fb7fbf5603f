-- $1 uuid, $2 uuid: first and last user
SELECT user_id, batch, amount, remaining, expired, source, opened_at, expires_at, paid, currency
FROM pointsd.batches
WHERE bucket = 0 AND user_id BETWEEN $1 AND $2
ORDER BY user_id, batch
