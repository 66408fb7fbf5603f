-- Saves the counters of a bucket, and fails if the fencing token is stale. The schema has the function.
-- $1 smallint: the bucket; $2 text: the job; $3 bigint, $4 bigint: run and fence; $5 jsonb: counters
SELECT pointsd.save_part($1, $2, $3, $4, $5)
