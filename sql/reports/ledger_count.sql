-- How many accounts, batches and entries there are.
SELECT (SELECT count(*) FROM pointsd.accounts), (SELECT count(*) FROM pointsd.batches), (SELECT count(*) FROM pointsd.entries)
