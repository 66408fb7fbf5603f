-- Writes a heartbeat. No row if the run was taken over or is over. Nor if its holder has released it: a heartbeat that
-- was sent before and arrives late must not make it look held again.
-- $1 bigint, $2 bigint: run and fencing token; $3 jsonb: the progress of a run that does not save it itself, or null
UPDATE pointsd.runs SET heartbeat = clock_timestamp(), progress = coalesce($3::jsonb, progress)
WHERE run = $1 AND fence = $2 AND state = 'running' AND heartbeat IS NOT NULL
