-- Takes a run from its holder in every bucket; returns what was counted in all of them. The schema has the function.
-- $1 bigint, $2 bigint: run and fence
SELECT pointsd.seize_parts($1, $2)
