-- The open batches of an account, the next to expire first.
-- $1 uuid: the user; $2 integer: after this batch, or 0; $3 bigint: at most so many
SELECT b.batch, b.amount, b.remaining, b.expired, b.source, b.opened_at, b.expires_at, b.paid, b.currency
FROM (SELECT coalesce((SELECT l.expires_at FROM pointsd.batches AS l
                       WHERE l.bucket = pointsd.bucket_of($1) AND l.user_id = $1 AND l.batch = $2), '-infinity') AS expires_at) AS last,
     pointsd.batches AS b
WHERE b.bucket = pointsd.bucket_of($1) AND b.user_id = $1 AND b.open AND b.expires_at >= last.expires_at
  AND (b.expires_at > last.expires_at OR b.batch > $2)
ORDER BY b.expires_at, b.batch
LIMIT $3
