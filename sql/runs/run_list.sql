-- The newest runs first.
-- $1 text, $2 text: only of this job, only in this state, or null; $3 bigint: only with a lower number, or null;
-- $4 bigint: how many at most
SELECT r.run, r.job, r.slot, r.trigger, r.state, r.attempt, r.fence, r.host, r.pid, r.started, r.heartbeat, r.resume_at,
       r.finished, r.progress, r.counters, r.error, r.why
FROM pointsd.runs AS r
WHERE ($1::text IS NULL OR r.job = $1) AND ($2::text IS NULL OR r.state = $2)
  AND ($3::bigint IS NULL OR r.run < $3)
ORDER BY r.run DESC
LIMIT $4
