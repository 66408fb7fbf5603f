-- A job that the database does not know yet counts its slots from now on; what it knows stays.
-- $1 text: the job; $2 text: its schedule; $3 timestamptz: now
INSERT INTO pointsd.jobs (job, rule, since) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
