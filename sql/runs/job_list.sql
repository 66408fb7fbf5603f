-- The jobs, with the last run that is over and the run that is open.
-- $1 text[]: the jobs
SELECT j.job, j.paused_at, j.paused_by,
       (SELECT max(s.slot) FROM pointsd.runs AS s WHERE s.job = j.job AND s.trigger <> 'manual') AS last_slot,
       (SELECT l.run FROM pointsd.runs AS l WHERE l.job = j.job AND l.state <> 'running' ORDER BY l.run DESC LIMIT 1) AS last_run,
       (SELECT u.run FROM pointsd.runs AS u WHERE u.job = j.job AND u.state = 'running') AS running
FROM pointsd.jobs AS j
WHERE j.job = ANY ($1::text[])
