-- The failed requests of a locked lane and in how many milliseconds each is due, the next one first.
-- $1 smallint: the lane; $2 smallint[]: buckets to leave out, because their node is away, or null
SELECT id, CASE WHEN isfinite(retry_at) THEN (extract(epoch FROM retry_at - clock_timestamp()) * 1000)::bigint
                WHEN retry_at > clock_timestamp() THEN 86400000 ELSE 0 END AS due_in
FROM pointsd.requests_open
WHERE bucket = 0 AND lane = $1 AND state = 'waiting' AND ($2::smallint[] IS NULL OR pointsd.bucket_of(user_id) <> ALL ($2))
ORDER BY retry_at
LIMIT 100
