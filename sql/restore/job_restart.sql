-- Lets the slots of every job count from now, so that no earlier one is caught up with or counts as missing.
-- $1 timestamptz: now
UPDATE pointsd.jobs SET since = $1, queued_to = NULL
