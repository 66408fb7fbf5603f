-- Findings that are gone and that no report has told so; see finding_count.sql.
-- $1 bigint: the run
WITH told AS (SELECT coalesce(max(run), 0) AS run FROM pointsd.documents WHERE report = 'reconciliation' AND run <> $1)
SELECT rule, user_id, batch, seq, expected, found, since, since_run, cured, false AS new
FROM pointsd.findings, told
WHERE cured_run = $1 OR cured_run > told.run
ORDER BY user_id NULLS FIRST, finding
