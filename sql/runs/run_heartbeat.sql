-- A sign of life; no row where somebody else holds the run by now, or it is over. Nor where its holder let go of it: one
-- that was sent before and is late must not make it look held again.
-- $1 bigint, $2 bigint: run and fence
UPDATE pointsd.runs SET heartbeat = clock_timestamp() WHERE run = $1 AND fence = $2 AND state = 'running' AND heartbeat IS NOT NULL
