-- $1 bigint: the run
SELECT r.run, r.job, r.slot, r.trigger, r.state, r.attempt, r.fence, r.host, r.pid, r.started, r.heartbeat, r.resume_at,
       r.finished, r.progress, r.counters, r.error, r.why
FROM pointsd.runs AS r
WHERE r.run = $1
