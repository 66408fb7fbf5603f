-- Whether the database has a ledger at all.
SELECT to_regclass('ledger.accounts') IS NOT NULL
