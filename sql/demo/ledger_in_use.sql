-- Whether the ledger is in use: it has an account, or a request that will open one.
SELECT EXISTS (SELECT 1 FROM pointsd.accounts) OR EXISTS (SELECT 1 FROM pointsd.requests)
