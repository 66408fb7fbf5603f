-- How many findings about the ledger as a whole stand.
SELECT count(*) FROM pointsd.findings WHERE user_id IS NULL AND cured IS NULL
