-- The batches of an account by their numbers, also the closed ones.
-- $1 uuid: the user; $2 integer: after this batch; $3 bigint: at most so many
SELECT batch, amount, remaining, expired, source, opened_at, expires_at, paid, currency
FROM pointsd.batches
WHERE bucket = pointsd.bucket_of($1) AND user_id = $1 AND batch > $2
ORDER BY batch
LIMIT $3
