-- How many accounts, batches and entries there are.
SELECT (SELECT count(*) FROM ledger.accounts), (SELECT count(*) FROM ledger.batches), (SELECT count(*) FROM ledger.entries)
