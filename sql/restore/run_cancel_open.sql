-- Cancels every run that was under way. Otherwise a daemon would continue it, and make a report that was made already. A sweep is taken
-- from its holder in every bucket, which also tells what it did.
-- $1 text: the reason
UPDATE pointsd.runs SET state = 'cancelled', finished = coalesce(heartbeat, started, clock_timestamp()), resume_at = NULL, why = $1,
    counters = coalesce(pointsd.seize_parts(run, fence), counters)
WHERE state = 'running'
RETURNING run, job, slot
