-- How many findings stand, how many of those a run was the first to find, and how many it found gone.
-- $1 bigint: the run
SELECT count(*) FILTER (WHERE cured IS NULL) AS standing,
       count(*) FILTER (WHERE cured IS NULL AND since_run = $1) AS new,
       count(*) FILTER (WHERE cured_run = $1) AS cured
FROM reports.findings
WHERE cured IS NULL OR cured_run = $1
