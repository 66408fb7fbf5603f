-- Counts the open findings; of those, the ones that no earlier report has listed; and the ones resolved since then.
-- "Since then" goes back to the last run that made a report: a run that was interrupted before its report may have recorded
-- or resolved findings, too.
-- $1 bigint: the run
WITH told AS (SELECT coalesce(max(run), 0) AS run FROM pointsd.documents WHERE report = 'reconciliation' AND run <> $1)
SELECT count(*) FILTER (WHERE resolved_at IS NULL) AS open,
       count(*) FILTER (WHERE resolved_at IS NULL AND (since_run = $1 OR since_run > told.run)) AS new,
       count(*) FILTER (WHERE resolved_run = $1 OR resolved_run > told.run) AS resolved
FROM pointsd.findings, told
WHERE resolved_at IS NULL OR resolved_run = $1 OR resolved_run > told.run
