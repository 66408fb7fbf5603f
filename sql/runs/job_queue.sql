-- Notes that slots up to now wait for the end of a run, so that they do not count as late then. An older now from a
-- slow daemon changes nothing.
-- $1 text: the job; $2 timestamptz: now
UPDATE pointsd.jobs SET queued_to = greatest(queued_to, $2) WHERE job = $1
