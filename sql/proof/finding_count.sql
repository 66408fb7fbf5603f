-- How many findings stand, how many of those no report has told yet, and how many are gone that one has told: counted from
-- the last run that made a report, because one that was cut off may have found or cured some.
-- $1 bigint: the run
WITH told AS (SELECT coalesce(max(run), 0) AS run FROM pointsd.documents WHERE report = 'reconciliation' AND run <> $1)
SELECT count(*) FILTER (WHERE cured IS NULL) AS standing,
       count(*) FILTER (WHERE cured IS NULL AND (since_run = $1 OR since_run > told.run)) AS new,
       count(*) FILTER (WHERE cured_run = $1 OR cured_run > told.run) AS cured
FROM pointsd.findings, told
WHERE cured IS NULL OR cured_run = $1 OR cured_run > told.run
