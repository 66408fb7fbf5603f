-- The next instants at which points of an account expire, and how many points each time.
-- $1 uuid: the user; $2 timestamptz: after this instant; $3 bigint: at most so many
SELECT expires_at, sum(remaining)::bigint AS points
FROM pointsd.batches
WHERE bucket = pointsd.bucket_of($1) AND user_id = $1 AND open AND expires_at > $2
GROUP BY expires_at
ORDER BY expires_at
LIMIT $3
