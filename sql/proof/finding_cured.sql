-- Findings that a run found gone.
-- $1 bigint: the run
SELECT rule, user_id, batch, seq, expected, found, since, since_run, cured
FROM reports.findings
WHERE cured_run = $1
ORDER BY user_id NULLS FIRST, finding
