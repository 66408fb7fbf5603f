-- How many accounts there are.
SELECT count(*) FROM ledger.accounts
