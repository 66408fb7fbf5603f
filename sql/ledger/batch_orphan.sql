-- Sums up the due batches of users without an account.
-- $1 uuid[]: users without an account; $2 timestamptz: the instant; $3 smallint: the bucket of the users
SELECT user_id, count(*) AS batches, pointsd.clamp_bigint(sum(remaining)) AS points
FROM pointsd.batches
WHERE bucket = $3::smallint AND user_id = ANY ($1::uuid[]) AND open AND expires_at <= $2
GROUP BY user_id
ORDER BY user_id
