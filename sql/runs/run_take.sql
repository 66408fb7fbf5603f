-- Takes over a run that has no holder, or whose heartbeats stopped, with a new fencing token. No row if another daemon
-- was quicker, or if a heartbeat came since the run was read. A locked row is skipped and tried again at the next look,
-- so that no daemon waits here. A run that was released without a pause goes on with the same attempt.
-- $1 bigint, $2 bigint, $3 timestamptz: the run, its fencing token and its heartbeat as they were read; $4 text, $5
-- integer: host and process
UPDATE pointsd.runs AS r
SET fence = nextval('pointsd.run_fences'),
    attempt = r.attempt + CASE WHEN r.heartbeat IS NULL AND r.resume_at IS NULL THEN 0 ELSE 1 END,
    host = $4, pid = $5, heartbeat = clock_timestamp(), resume_at = NULL
FROM (SELECT run FROM pointsd.runs
      WHERE run = $1 AND fence = $2 AND heartbeat IS NOT DISTINCT FROM $3::timestamptz AND state = 'running'
      FOR NO KEY UPDATE SKIP LOCKED) AS free
WHERE r.run = free.run
RETURNING r.run, r.attempt, r.fence, r.counters
