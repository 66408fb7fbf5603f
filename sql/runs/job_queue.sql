-- Slots up to now wait behind a run: when it ends they are not late. A daemon whose now is old takes nothing back.
-- $1 text: the job; $2 timestamptz: now
UPDATE pointsd.jobs SET queued_to = greatest(queued_to, $2) WHERE job = $1
