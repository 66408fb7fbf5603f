-- Saves progress and counters, and fails if the fencing token is stale. The schema has the function.
-- $1 bigint, $2 bigint: run and fence; $3 jsonb: progress; $4 jsonb: counters
SELECT pointsd.save_progress($1, $2, $3, $4)
