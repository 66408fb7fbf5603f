-- Resolves the open findings about the ledger as a whole, except those of the given rules.
-- $1 bigint: the run; $2 timestamptz: now; $3 text[]: the rules that a tie-out just found broken
UPDATE pointsd.findings
SET resolved_at = $2, resolved_run = $1
WHERE resolved_at IS NULL AND user_id IS NULL AND rule <> ALL ($3)
