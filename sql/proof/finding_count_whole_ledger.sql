-- Counts the open findings about the ledger as a whole.
SELECT count(*) FROM pointsd.findings WHERE user_id IS NULL AND resolved_at IS NULL
