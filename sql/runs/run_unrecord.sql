-- Deletes slots that a daemon with a fast clock recorded as missed or skipped although they lie in the future. Such
-- rows were also recorded in the future. If they were not, the caller's now is old, because it froze after it had asked
-- for the time.
-- $1 text[]: the jobs; $2 timestamptz: now; $3 float8: seconds of the future that are left alone
DELETE FROM pointsd.runs
WHERE job = ANY ($1::text[]) AND trigger <> 'manual' AND slot > $2::timestamptz + $3::float8 * interval '1 second'
  AND state IN ('missed', 'skipped') AND finished > clock_timestamp()
