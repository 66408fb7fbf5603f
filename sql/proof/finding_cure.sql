-- What stood and was not found any more by a run that looked at it.
-- $1 bigint: the run; $2 timestamptz: now
UPDATE pointsd.findings
SET cured = $2, cured_run = $1
WHERE cured IS NULL AND seen_run <> $1
