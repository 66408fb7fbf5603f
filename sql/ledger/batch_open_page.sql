-- The open batches of an account, the next to expire first.
-- $1 uuid: the user; $2 integer: after this batch, or 0; $3 bigint: at most so many
SELECT batch, amount, remaining, expired, source, opened_at, expires_at
FROM pointsd.batches
WHERE bucket = 0 AND user_id = $1 AND open
  AND (expires_at, batch) > (coalesce((SELECT last.expires_at FROM pointsd.batches AS last
                                       WHERE last.bucket = 0 AND last.user_id = $1 AND last.batch = $2), '-infinity'), $2)
ORDER BY expires_at, batch
LIMIT $3
