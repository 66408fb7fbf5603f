-- Lets nobody write for a run any more; returns what was counted in all buckets. The schema has the function.
-- $1 bigint, $2 bigint: run and fence
SELECT pointsd.seize_parts($1, $2)
