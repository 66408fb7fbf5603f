-- A clock that was ahead had slots recorded that lie in the future: nobody can have missed them. They were recorded in
-- the future, too; else it is the caller's now that is old, because it was frozen since it asked for the time.
-- $1 text[]: the jobs; $2 timestamptz: now; $3 float8: seconds of the future that are left alone
DELETE FROM pointsd.runs
WHERE job = ANY ($1::text[]) AND trigger <> 'manual' AND slot > $2::timestamptz + $3::float8 * interval '1 second'
  AND state IN ('missed', 'skipped') AND finished > clock_timestamp()
