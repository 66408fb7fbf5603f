-- Ends a run, if this fencing token still holds it.
-- $1 bigint, $2 bigint: run and fencing token; $3 text: the state; $4 jsonb: counters, or null to leave them; $5 text:
-- the error;
-- $6 text: why it was cancelled
UPDATE pointsd.runs
SET state = $3, finished = clock_timestamp(), resume_at = NULL, counters = coalesce($4::jsonb, counters),
    error = CASE WHEN $3 = 'succeeded' THEN NULL ELSE coalesce($5::text, error) END, why = $6::text
WHERE run = $1 AND fence = $2 AND state = 'running'
