-- Stores the new schedule of a job; its slots then count from now. Returns the old schedule, or no row if it has not
-- changed.
-- $1 text: the job; $2 text: its schedule; $3 timestamptz: now
UPDATE pointsd.jobs AS j SET rule = $2, since = $3
FROM (SELECT job, rule FROM pointsd.jobs WHERE job = $1 FOR UPDATE) AS before
WHERE j.job = before.job AND before.rule <> $2
RETURNING before.rule
