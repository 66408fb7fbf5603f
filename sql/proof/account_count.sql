-- Counts all accounts.
SELECT count(*) FROM pointsd.accounts
