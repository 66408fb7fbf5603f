-- The slots whose runs are under way or ended lately, in the order of the runs.
-- $1 bigint: runs after this one; null: the last thousand
-- $2 float8: only those that ended within so many seconds
SELECT run, job, state
FROM pointsd.runs
WHERE run > coalesce($1::bigint, (SELECT max(run) - 1000 FROM pointsd.runs)) AND trigger <> 'manual'
  AND (finished IS NULL OR finished > clock_timestamp() - $2::float8 * interval '1 second')
ORDER BY run
