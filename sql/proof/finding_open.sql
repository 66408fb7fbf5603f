-- Lists the findings that stand, new ones first; see finding_count.sql.
-- $1 bigint: the run
WITH told AS (SELECT coalesce(max(run), 0) AS run FROM pointsd.documents WHERE report = 'reconciliation' AND run <> $1)
SELECT rule, user_id, batch, seq, expected, found, points, since, since_run, resolved_at,
       since_run = $1 OR since_run > told.run AS new
FROM pointsd.findings, told
WHERE resolved_at IS NULL
ORDER BY new DESC, user_id NULLS FIRST, finding
