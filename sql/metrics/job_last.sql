-- The last run of each job that succeeded, among its last thousand runs: its slot, its end and how many seconds it took.
-- $1 text[]: the jobs
SELECT j.job, j.since, j.paused_at IS NOT NULL AS paused, last.slot, last.finished,
       extract(epoch FROM last.finished - last.started)::float8 AS took
FROM pointsd.jobs AS j
LEFT JOIN LATERAL (
    SELECT r.slot, r.started, r.finished
    FROM (SELECT slot, started, finished, state FROM pointsd.runs WHERE job = j.job ORDER BY run DESC LIMIT 1000) AS r
    WHERE r.state = 'succeeded'
    LIMIT 1) AS last ON true
WHERE j.job = ANY ($1::text[])
