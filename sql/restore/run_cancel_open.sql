-- Cancels every run that was under way. Otherwise a daemon would continue it, and make a report that was made already.
-- $1 text: the reason
UPDATE pointsd.runs SET state = 'cancelled', finished = coalesce(heartbeat, started, clock_timestamp()), resume_at = NULL, why = $1
WHERE state = 'running'
RETURNING run, job, slot
