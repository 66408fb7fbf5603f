-- Takes a run that nobody holds, or whose holder is given up, under a new fence. Nothing where somebody was quicker, or
-- its holder gave a sign of life since it was seen to be silent; a row whose lock is held is left for the next time, so
-- that nobody waits here. Where it was handed over in good order the attempt goes on.
-- $1 bigint, $2 bigint, $3 timestamptz: the run, its fence and its heartbeat as they were seen; $4 text, $5 integer: host
-- and process
UPDATE pointsd.runs AS r
SET fence = nextval('pointsd.run_fences'),
    attempt = r.attempt + CASE WHEN r.heartbeat IS NULL AND r.resume_at IS NULL THEN 0 ELSE 1 END,
    host = $4, pid = $5, heartbeat = clock_timestamp(), resume_at = NULL
FROM (SELECT run FROM pointsd.runs
      WHERE run = $1 AND fence = $2 AND heartbeat IS NOT DISTINCT FROM $3::timestamptz AND state = 'running'
      FOR NO KEY UPDATE SKIP LOCKED) AS free
WHERE r.run = free.run
RETURNING r.run, r.attempt, r.fence, r.counters
