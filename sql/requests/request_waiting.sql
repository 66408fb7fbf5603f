-- The requests of a locked lane that failed, the next to be tried first, and in how many milliseconds that is.
-- $1 smallint: the lane
SELECT id, (extract(epoch FROM retry_at - clock_timestamp()) * 1000)::bigint AS due_in
FROM jobs.requests_open
WHERE lane = $1 AND state = 'waiting'
ORDER BY retry_at
LIMIT 100
