-- Pauses a job, or resumes it.
-- $1 text: the job; $2 text: the operator who pauses it, or null to resume
UPDATE pointsd.jobs
SET paused_at = CASE WHEN $2::text IS NULL THEN NULL ELSE coalesce(paused_at, clock_timestamp()) END,
    paused_by = CASE WHEN $2::text IS NULL THEN NULL ELSE coalesce(paused_by, $2) END
WHERE job = $1
