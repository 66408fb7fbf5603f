-- Lists the findings that were resolved since the last report; see finding_count.sql.
-- $1 bigint: the run
WITH told AS (SELECT coalesce(max(run), 0) AS run FROM pointsd.documents WHERE report = 'reconciliation' AND run <> $1)
SELECT rule, user_id, batch, seq, expected, found, points, since, since_run, resolved_at, false AS new
FROM pointsd.findings, told
WHERE resolved_run = $1 OR resolved_run > told.run
ORDER BY user_id NULLS FIRST, finding
