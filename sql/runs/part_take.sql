-- Takes a run in every bucket; returns what earlier attempts counted in each. No row if the fencing token is stale. The schema has the
-- function.
-- $1 bigint, $2 bigint: run and fence
SELECT bucket, counters FROM pointsd.take_parts($1, $2)
