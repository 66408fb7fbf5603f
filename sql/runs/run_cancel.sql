-- Cancels a run at once: whoever holds it can write nothing more.
-- $1 bigint: the run; $2 text: by whom
UPDATE pointsd.runs SET state = 'cancelled', finished = clock_timestamp(), resume_at = NULL, why = $2
WHERE run = $1 AND state = 'running'
