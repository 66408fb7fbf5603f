-- The numbers of accounts, batches and entries.
SELECT (SELECT count(*) FROM pointsd.accounts), (SELECT count(*) FROM pointsd.batches), (SELECT count(*) FROM pointsd.entries)
