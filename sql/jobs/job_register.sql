-- A daemon begins, or has new settings: a job that is new, or has a new schedule, counts its slots from now on.
-- $1 text: the job; $2 text: its schedule; $3 timestamptz: now
INSERT INTO jobs.jobs (job, rule, since)
VALUES ($1, $2, $3)
ON CONFLICT (job) DO UPDATE SET rule = excluded.rule, since = excluded.since WHERE jobs.rule <> excluded.rule
