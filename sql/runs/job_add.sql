-- Adds a job; its slots count from now. A job that is already in the database stays as it is.
-- $1 text: the job; $2 text: its schedule; $3 timestamptz: now
INSERT INTO pointsd.jobs (job, rule, since) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
