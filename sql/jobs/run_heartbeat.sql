-- A sign of life; no row where somebody else holds the run by now, or it is over.
-- $1 bigint, $2 bigint: run and fence
UPDATE jobs.runs SET heartbeat = clock_timestamp() WHERE run = $1 AND fence = $2 AND state = 'running'
