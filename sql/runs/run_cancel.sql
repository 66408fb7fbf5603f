-- Cancels a run at once: from now on its holder cannot write.
-- $1 bigint: the run; $2 text: the reason, with the operator
UPDATE pointsd.runs SET state = 'cancelled', finished = clock_timestamp(), resume_at = NULL, why = $2
WHERE run = $1 AND state = 'running'
