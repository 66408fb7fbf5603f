-- Releases an open run for another attempt, at once or after a pause.
-- $1 bigint, $2 bigint: run and fence; $3 float8: seconds to wait, or null for none; $4 text: what went wrong, or null
UPDATE pointsd.runs
SET heartbeat = NULL, resume_at = clock_timestamp() + $3::float8 * interval '1 second', error = coalesce($4::text, error)
WHERE run = $1 AND fence = $2 AND state = 'running'
