-- Findings that stand, the ones that a run was the first to find in front.
-- $1 bigint: the run
SELECT rule, user_id, batch, seq, expected, found, since, since_run, NULL::timestamptz AS cured
FROM reports.findings
WHERE cured IS NULL
ORDER BY since_run <> $1, user_id NULLS FIRST, finding
