-- Resolves every open finding about an account that a run did not find again. The run must have examined all accounts with
-- findings.
-- $1 bigint: the run; $2 timestamptz: now
UPDATE pointsd.findings
SET resolved_at = $2, resolved_run = $1
WHERE resolved_at IS NULL AND user_id IS NOT NULL AND seen_run <> $1
