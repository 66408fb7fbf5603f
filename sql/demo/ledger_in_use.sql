-- Whether the ledger is in use: it has an account, or a request that will open one.
SELECT EXISTS (SELECT FROM pointsd.accounts) OR EXISTS (SELECT FROM pointsd.requests)
